"""Options of sessions and of runs, by the names of onnxruntime's where those exist.

Decides which settings there are, what they start with, and which of them decide about programs.
"""

from __future__ import annotations

import ctypes
import operator
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from fornix.errors import FornixWarning, InvalidUse, NotSupported
from fornix.system import usable_processors

if TYPE_CHECKING:
    from fornix.passes import Level
    from fornix.runtime.adapters import LoraAdapter

CONFIG_ENTRIES: dict[str, str] = {
    "session.disable_cpu_ep_fallback": "1: an error if a node would run its NumPy kernel",
    "session.model_external_initializers_file_folder_path": "the folder of the external data of a "
    "model in memory",
    "session.optimized_model_external_initializers_file_name": "the file beside "
    "optimized_model_filepath that takes its large initializers",
    "session.optimized_model_external_initializers_min_size_in_bytes": "what is large; 1024",
    "session.save_model_format": "the format of the optimized model: ONNX",
    "session.qdq_matmulnbits_accuracy_level": "4: rows that meet matrices of few bits are rounded "
    "to 8 bits in each block; 0",
    "session.record_ep_graph_assignment_info": "1: get_provider_graph_assignment_info answers",
    "fornix.strict_accuracy": "1: no algorithm rounds more than the plain sum that it replaces",
    "fornix.products": "bfloat16: factors of products of matrices are rounded to 8 bits of "
    "mantissa, where the processor multiplies such numbers",
    "fornix.weights": "int8: stored matrices of products are rounded to 8 bits",
}
"""Entries that have a meaning, with what they do."""
HINTS = frozenset({
    "optimization.disable_specified_optimizers",
    "optimization.memory_optimizer_config",
    "session.disable_aot_function_inlining",
    "session.disable_prepacking",
    "session.dynamic_block_base",
    "session.force_spinning_stop",
    "session.inter_op.allow_spinning",
    "session.intra_op.allow_spinning",
    "session.use_device_allocator_for_initializers",
    "session.use_env_allocators",
    "session.use_memory_efficient_aware_execution",
    "session.use_ort_model_bytes_directly",
    "session.use_ort_model_bytes_for_initializers",
})  # fmt: skip
"""Entries of onnxruntime about speed and memory, which change no result and do nothing here."""
RUN_HINTS = frozenset({
    "disable_synchronize_execution_providers",
    "gpu_graph_id",
})  # fmt: skip
"""The same for runs."""
PROVIDER_HINTS = frozenset({"arena_extend_strategy", "use_arena"})
"""Options of providers about memory, which change no result."""
MOST_THREADS = 4096
"""No session works with more."""
MOST_CHARACTERS = 1024
"""Of a config entry's key, as in onnxruntime."""
SHRINKAGE = "memory.enable_memory_arena_shrinkage"
"""Entry of a run after which memory is given back; its value names devices, cpu among them."""


def _note(entries: dict[str, str], key: Any, value: Any, what: str, known: frozenset[str]) -> None:
    """Set an entry, with a warning if nothing reads it."""
    if not (isinstance(key, str) and isinstance(value, str)):
        raise TypeError(f"{what}: a config entry has two texts, found {key!r} and {value!r}")
    if not 0 < len(key) <= MOST_CHARACTERS:
        raise InvalidUse(
            f"{what}: the key of a config entry has 1 to {MOST_CHARACTERS} characters, "
            f"found {len(key)}"
        )
    entries[key] = value
    if key not in known:
        warnings.warn(
            f"{what}: config entry {key!r} has no meaning here and does nothing",
            FornixWarning,
            stacklevel=3,
        )


def warn_of_provider_options(given: Iterable[Mapping[Any, Any]]) -> None:
    """Name options of providers: none of those that there are reads any."""
    names = sorted({str(name) for options in given for name in options} - PROVIDER_HINTS)
    if names:
        warnings.warn(
            f"InferenceSession: provider options {', '.join(names)} have no meaning here",
            FornixWarning,
            stacklevel=4,
        )


PLAIN: dict[str, type] = {
    "intra_op_num_threads": int,
    "inter_op_num_threads": int,
    "execution_mode": int,
    "execution_order": int,
    "log_severity_level": int,
    "log_verbosity_level": int,
    "memory_limit": int,
    "optimized_model_filepath": str,
    "profile_file_prefix": str,
    "logid": str,
    "enable_profiling": bool,
    "enable_cpu_mem_arena": bool,
    "enable_mem_pattern": bool,
    "enable_mem_reuse": bool,
    "use_deterministic_compute": bool,
    "use_per_session_threads": bool,
    "terminate": bool,
    "only_execute_path_to_fetches": bool,
}
"""What options of sessions and runs are, by name."""


def _plain(name: str, value: Any) -> Any:
    """``value`` as the option ``name`` holds it; raises TypeError for what it cannot be."""
    kind = PLAIN.get(name)
    if kind is None or type(value) is kind:
        return value
    try:
        if kind is str:
            return os.fsdecode(value)
        if kind is bool and hasattr(type(value), "__bool__"):
            return bool(value)
        number = operator.index(value)
    except TypeError:
        found = f"{value!r} of type {type(value).__name__}"
        raise TypeError(
            f"{name}: a value of type {kind.__name__} is required, found {found}"
        ) from None
    return value if isinstance(value, IntEnum) else number


@dataclass(kw_only=True, slots=True)
class SessionOptions:
    """How a session is made and run.

    `graph_optimization_level` is a `Level`, its number or its name; None leaves it to the provider:
    everything for compiled code, nothing for the reference. `intra_op_num_threads` 0 or less is as
    many threads as there are processors that affinity and quota grant. `optimized_model_filepath`
    names a file for the optimized model, `profile_file_prefix` begins the name of the profile that
    `enable_profiling` asks for, `memory_limit` bounds what a session and its runs may take, in
    bytes, and `seed` makes random operators repeat themselves. With `use_per_session_threads` the
    session has workers of its own; otherwise sessions with as many threads share theirs. What it
    logs begins with `logid`, from `log_severity_level` on: 0 stands for everything, 1 for
    information, 2 for warnings, 3 for errors, 4 for what ends the process; -1 leaves it to
    `logging`. What onnxruntime has besides is accepted and decides nothing here: order of nodes,
    memory patterns, results that do not depend on threads, and `log_verbosity_level`, which counts
    in its debug builds alone.
    """

    graph_optimization_level: Level | int | str | None = None
    intra_op_num_threads: int = 0
    config_entries: dict[str, str] = field(default_factory=dict)
    optimized_model_filepath: str = ""
    enable_profiling: bool = False
    profile_file_prefix: str = "onnxruntime_profile_"
    memory_limit: int = 0
    seed: int | None = None
    logid: str = ""
    log_severity_level: int = -1
    log_verbosity_level: int = 0
    inter_op_num_threads: int = 0
    execution_mode: int = 0
    execution_order: int = 0
    enable_cpu_mem_arena: bool = True
    enable_mem_pattern: bool = True
    enable_mem_reuse: bool = True
    use_deterministic_compute: bool = False
    use_per_session_threads: bool = False
    dims_by_name: dict[str, int] = field(default_factory=dict)
    """Extents of the symbols called so."""
    dims_by_denotation: dict[str, int] = field(default_factory=dict)
    """Extents of the axes of inputs that are denoted so."""
    initializers: dict[str, Any] = field(default_factory=dict)
    """Arrays in place of the stored data of the initializers called so."""
    files: dict[str, Any] = field(default_factory=dict)
    """Bytes in place of the external files called so."""

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, _plain(name, value))

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Set an entry; warns of one that has no meaning."""
        _note(self.config_entries, key, value, "SessionOptions", HINTS | {*CONFIG_ENTRIES})

    def get_session_config_entry(self, key: str) -> str:
        """The value of an entry; raises InvalidUse if it was not set."""
        if key not in self.config_entries:
            raise InvalidUse(f"SessionOptions: config entry {key!r} must be set, it is not")
        return self.config_entries[key]

    def add_free_dimension_override_by_name(self, dim_name: str, dim_value: int) -> None:
        """Make every extent called ``dim_name`` this number."""
        _bind(self.dims_by_name, dim_name, dim_value)

    def add_free_dimension_override_by_denotation(self, denotation: str, dim_value: int) -> None:
        """Make every axis of an input that is denoted so this long."""
        _bind(self.dims_by_denotation, denotation, dim_value)

    def add_initializer(self, name: str, value: Any) -> None:
        """Read the initializer ``name`` from an `OrtValue`, or array, which must stay as it is."""
        if name in self.initializers:
            raise InvalidUse(f"SessionOptions: initializer {name!r} must be given once, found two")
        self.initializers[name] = _array(name, value)

    def add_external_initializers(self, names: Sequence[str], values: Sequence[Any]) -> None:
        """Read initializers from `OrtValue` objects in place of external files."""
        if len(names) != len(values):
            raise InvalidUse(
                "SessionOptions: as many names as external initializers are required, "
                f"found {len(names)} and {len(values)}"
            )
        for name, value in zip(names, values, strict=True):
            self.initializers[name] = _array(name, value)

    def add_external_initializers_from_files_in_memory(
        self, names: Sequence[str], buffers: Sequence[Any], lengths: Sequence[int]
    ) -> None:
        """Read external files from memory: ``buffers`` by the names by which tensors refer to them.

        Of each buffer the first bytes count, as many as ``lengths`` says.
        """
        if not len(names) == len(buffers) == len(lengths):
            raise InvalidUse(
                "SessionOptions: as many buffers and lengths as files are required, "
                f"found {len(names)}, {len(buffers)} and {len(lengths)}"
            )
        for name, buffer, length in zip(names, buffers, lengths, strict=True):
            data = memoryview(buffer).cast("B")
            if not 0 <= length <= len(data):
                raise InvalidUse(
                    f"SessionOptions: file {name!r} must have up to {len(data)} bytes, "
                    f"found a length of {length}"
                )
            self.files[name] = data[:length]

    def register_custom_ops_library(self, path: str) -> None:
        """Raises NotSupported: libraries of native operators do not run here."""
        raise NotSupported(
            f"SessionOptions: operators from a native library are not supported, found {path!r}; "
            "evaluate operators of your own with fornix.ReferenceEvaluator(new_ops=…)"
        )

    @property
    def level(self) -> Level | None:
        """The level as `Level`; raises InvalidUse for another."""
        from fornix.passes import Level  # noqa: PLC0415 - the optimizer is read when it is needed

        given = self.graph_optimization_level
        if given is None or isinstance(given, Level):
            return given
        names = {level.name.lower(): level for level in Level}
        by_number = {int(level): level for level in Level} | {ORT_ENABLE_LAYOUT: Level.ALL}
        found = names.get(given.lower()) if isinstance(given, str) else by_number.get(int(given))
        if found is None:
            raise InvalidUse(
                f"SessionOptions: graph_optimization_level must be one of {', '.join(names)}, "
                f"found {given!r}"
            )
        return found

    @property
    def is_strict(self) -> bool:
        """Whether algorithms are left out that are faster and round more."""
        return self.config_entries.get("fornix.strict_accuracy") == "1"

    @property
    def rounds_weights(self) -> bool:
        """Whether stored matrices of products lose all but 8 bits; raises InvalidUse."""
        return self._is_narrow("fornix.weights", "int8")

    @property
    def rounds_products(self) -> bool:
        """Whether products of matrices may round their factors; raises InvalidUse."""
        return self._is_narrow("fornix.products", "bfloat16")

    @property
    def rounds_rows(self) -> bool:
        """Whether products with matrices of few bits round their rows; raises InvalidUse."""
        key = "session.qdq_matmulnbits_accuracy_level"
        found = self.config_entries.get(key, "0")
        if found not in ("0", "1", "2", "3", "4"):
            raise InvalidUse(f"SessionOptions: {key} must be 0, 1, 2, 3 or 4, found {found!r}")
        if found == "4" and self.is_strict:
            raise InvalidUse(f"SessionOptions: fornix.strict_accuracy excludes {key}=4")
        return found == "4"

    def _is_narrow(self, key: str, narrow: str) -> bool:
        """Whether the entry ``key`` asks for the type ``narrow``."""
        found = self.config_entries.get(key, "float32")
        if found not in {"float32", narrow}:
            raise InvalidUse(f"SessionOptions: {key} must be float32 or {narrow}, found {found!r}")
        if found == narrow and self.is_strict:
            raise InvalidUse(f"SessionOptions: fornix.strict_accuracy excludes {key}={narrow}")
        return found == narrow

    @property
    def threads(self) -> int:
        """Threads that work on a run, the caller included."""
        if self.intra_op_num_threads > MOST_THREADS:
            raise InvalidUse(
                f"SessionOptions: intra_op_num_threads must be up to {MOST_THREADS}, "
                f"found {self.intra_op_num_threads}"
            )
        return max(0, self.intra_op_num_threads) or usable_processors()

    @property
    def folder(self) -> str:
        """The folder of the external data of a model that comes from none; empty for none."""
        return self.config_entries.get("session.model_external_initializers_file_folder_path", "")

    @property
    def deciding(self) -> dict[str, str]:
        """The entries that have a meaning."""
        return {key: value for key, value in self.config_entries.items() if key in CONFIG_ENTRIES}

    @property
    def identity(self) -> str | None:
        """All that decides about a program, as text; None if data outside the model do."""
        if self.initializers or self.files or self.seed is not None or self.folder:
            return None
        entries = sorted(self.deciding.items())
        level = self.graph_optimization_level
        number = int(level) if isinstance(level, int) else level
        return repr((number, entries, self.dims_by_name, self.dims_by_denotation))


ORT_ENABLE_LAYOUT = 3
"""The level of onnxruntime between EXTENDED and ALL."""


def _bind(extents: dict[str, int], name: str, extent: int) -> None:
    """Note an extent; the first one of a name counts, as in onnxruntime, with a warning."""
    try:
        number = operator.index(extent)
    except TypeError:
        raise TypeError(f"dim {name!r}: an integer is required, found {extent!r}") from None
    if number < 0:
        raise InvalidUse(f"SessionOptions: dim {name!r} must be 0 or more, found {number}")
    if extents.setdefault(name, number) != number:
        warnings.warn(
            f"SessionOptions: dim {name!r} is {extents[name]} already, {number} does nothing",
            FornixWarning,
            stacklevel=3,
        )


def _array(name: str, value: Any) -> Any:
    """What an `OrtValue` holds, or the array itself."""
    found = value.numpy() if hasattr(value, "numpy") else value
    if not hasattr(found, "dtype"):
        raise InvalidUse(
            f"SessionOptions: initializer {name!r} must be an OrtValue or an array, "
            f"found {type(value).__name__}"
        )
    return found


@dataclass(kw_only=True, slots=True)
class RunOptions:
    """How one run is made.

    `terminate`, which any thread may set, ends the run before its next kernel: it raises Fail. What
    the run logs begins with `logid`, and is left out below `log_severity_level`: 0 stands for
    everything, 1 for information, 2 for warnings, 3 for errors, 4 for what ends the process; -1
    leaves it to the session.
    """

    flag: ctypes.c_int64 = field(
        default_factory=ctypes.c_int64, init=False, repr=False, compare=False
    )
    """Not 0 once `terminate` is set: what native code looks at."""
    terminate: bool = False
    logid: str = ""
    log_severity_level: int = -1
    log_verbosity_level: int = 0
    only_execute_path_to_fetches: bool = False
    config_entries: dict[str, str] = field(default_factory=dict)
    adapters: list[LoraAdapter] = field(default_factory=list)
    """Whose tensors are fed, those of later ones in place of earlier ones."""

    def add_active_adapter(self, adapter: LoraAdapter, /) -> None:
        """Feed the tensors of an adapter, too, whatever is fed by these names."""
        if not hasattr(adapter, "parameters"):
            raise TypeError(
                f"RunOptions: an active adapter is a LoraAdapter, found {type(adapter).__name__}"
            )
        self.adapters.append(adapter)

    @property
    def adapted(self) -> dict[str, Any]:
        """What active adapters feed."""
        return {name: array for x in self.adapters for name, array in x.parameters.items()}

    @property
    def is_plain(self) -> bool:
        """Whether a run with them is like one without, but for what it logs."""
        return not (self.terminate or self.adapters or self.config_entries)

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, _plain(name, value))
        if name == "terminate":
            self.flag.value = bool(value)

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Set an entry; warns of one that has no meaning."""
        _note(self.config_entries, key, value, "RunOptions", RUN_HINTS | {SHRINKAGE})

    def get_run_config_entry(self, key: str) -> str:
        """The value of an entry; raises InvalidUse if it was not set."""
        if key not in self.config_entries:
            raise InvalidUse(f"RunOptions: config entry {key!r} must be set, it is not")
        return self.config_entries[key]
