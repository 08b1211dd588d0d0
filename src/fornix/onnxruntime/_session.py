"""`InferenceSession` with onnxruntime's signature and errors, over `fornix.runtime`'s.

Decides nothing about running: it translates errors, and answers questions about what onnxruntime
has besides (devices, tuning, captured graphs) as there is one device and nothing to tune.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fornix import runtime
from fornix.errors import Fail, FornixError, FornixWarning, InvalidArgument, InvalidUse
from fornix.ir.tensor import SparseTensor as StoredSparse
from fornix.onnxruntime._config import is_wanted, with_config
from fornix.onnxruntime._devices import (
    OrtAllocatorType,
    OrtEpDevice,
    OrtMemoryInfo,
    OrtMemType,
)
from fornix.onnxruntime._errors import BOUND, LOADING, RUNNING, ModelLoadCanceled, translated
from fornix.onnxruntime._handle import Handle
from fornix.onnxruntime._options import SessionOptions
from fornix.onnxruntime._placement import OrtEpAssignedSubgraph, assigned
from fornix.onnxruntime._process import DEFAULTS, get_all_providers, get_ep_devices
from fornix.runtime import IOBinding, OrtValue, SparseTensor
from fornix.runtime.targets import Targets

ACCEPTED = frozenset({"disabled_optimizers", "enable_fallback", "read_config_from_model", "trust"})
"""Arguments by name; the first two decide nothing here, and `trust` is that of our sessions."""
Providers = Sequence[str | tuple[str, Mapping[Any, Any]]]


PRIVATE: dict[str, str] = {
    "_inputs_meta": "get_inputs",
    "_outputs_meta": "get_outputs",
    "_overridable_initializers": "get_overridable_initializers",
    "_model_meta": "get_modelmeta",
    "_provider_options": "get_provider_options",
    "_sess_options": "get_session_options",
    "_profiling_start_time_ns": "get_profiling_start_time_ns",
}
"""Attributes of onnxruntime's sessions that programs read though they are its own."""


class Session(runtime.InferenceSession):
    """A session with everything that onnxruntime's has."""

    def __getattr__(self, name: str) -> Any:
        if name not in PRIVATE:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self, PRIVATE[name])()

    @property
    def _sess(self) -> Handle:
        """What programs take for the native session."""
        return Handle(self)

    @property
    def _model_path(self) -> str | None:
        """The path that it was made from."""
        return None if self._path is None else str(self._path)

    def _run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: runtime.RunOptions | None = None,
        targets: Targets | None = None,
    ) -> list[Any]:
        try:
            results = super()._run(output_names, input_feed, run_options, targets)
        except FornixError as error:
            kinds = RUNNING if targets is None else BOUND
            raise translated(self._named(error, input_feed), kinds) from error.__cause__
        return [SparseTensor.of(x) if isinstance(x, StoredSparse) else x for x in results]

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Any,
        callback: Callable[[list[Any], Any, str], object],
        user_data: Any,
        run_options: runtime.RunOptions | None = None,
    ) -> None:
        """Run in a thread of its own; raises InvalidArgument at once if an input is missing."""
        adapted = run_options.adapted if isinstance(run_options, runtime.RunOptions) else {}
        if isinstance(input_feed, Mapping) and (told := self._missing({**adapted, **input_feed})):
            raise translated(InvalidArgument(told), RUNNING)
        super().run_async(output_names, input_feed, callback, user_data, run_options)

    def _named(self, error: FornixError, feeds: Any) -> FornixError:
        """``error``; of missing inputs in words, too, that programs look for."""
        told = self._missing(feeds) if isinstance(feeds, Mapping) else ""
        if type(error) is not InvalidArgument or not told:
            return error
        return InvalidArgument(f"{error}. {told}")

    def _missing(self, feeds: Mapping[str, Any]) -> str:
        """Which inputs ``feeds`` lacks, in onnxruntime's words; nothing if it has them all."""
        missing = [x.name for x in self.get_inputs() if x.name not in feeds]
        if not missing:
            return ""
        return f"Required inputs ({missing}) are missing from input feed ({[*feeds]})."

    def set_providers(
        self, providers: Any = None, provider_options: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        """Make the session anew, to run on other providers; raises InvalidUse for unknown ones."""
        try:
            super().set_providers(providers, provider_options)
        except InvalidArgument as error:
            known = get_all_providers()
            names = [x[0] if isinstance(x, tuple) else x for x in providers or ()]
            unknown = ", ".join(str(name) for name in names if name not in known)
            raise InvalidUse(f"Unknown Provider Type: {unknown}; {error}") from error.__cause__

    def enable_fallback(self) -> None:
        """Nothing: what cannot be compiled runs its NumPy kernel, and `placement` says so."""

    def disable_fallback(self) -> None:
        """Nothing: there is no other provider to fall back to."""

    def get_provider_graph_assignment_info(self) -> Sequence[OrtEpAssignedSubgraph]:
        """Which provider runs which nodes, if an entry of the options asks to note it."""
        entry = "session.record_ep_graph_assignment_info"
        if self._options.config_entries.get(entry) != "1":
            raise Fail(f"get_provider_graph_assignment_info: config entry {entry} must be '1'")
        return assigned(self.placement())

    def get_input_memory_infos(self) -> Sequence[OrtMemoryInfo]:
        """Where each input is read from: memory of the CPU."""
        return [_memory() for _ in self.get_inputs()]

    def get_output_memory_infos(self) -> Sequence[OrtMemoryInfo]:
        """Where each output is written to: memory of the CPU."""
        return [_memory() for _ in self.get_outputs()]

    def get_input_epdevices(self) -> Sequence[OrtEpDevice]:
        """The device that reads each input: the CPU."""
        return [get_ep_devices()[0] for _ in self.get_inputs()]

    def create_ortvalue_from_shape_and_type(
        self,
        shape: Sequence[int],
        element_type: Any,
        device_type: str,
        device_id: int = 0,
        vendor_id: int = -1,
    ) -> OrtValue:
        """A tensor in memory that the session reads, its contents undefined."""
        return OrtValue.ortvalue_from_shape_and_type(shape, element_type, device_type)

    def run_with_ortvaluevector(
        self,
        run_options: runtime.RunOptions,
        feed_names: Sequence[str],
        feeds: Sequence[OrtValue],
        fetch_names: Sequence[str],
        fetches: list[OrtValue],
        fetch_devices: Sequence[object],
    ) -> None:
        """Run on values by position, and append the results to ``fetches``."""
        given = dict(zip(feed_names, feeds, strict=True))
        fetches.extend(self.run_with_ort_values(fetch_names, given, run_options))

    def get_tuning_results(self) -> list[dict[str, Any]]:
        """Nothing: kernels are not chosen by trial."""
        return []

    def set_tuning_results(
        self, results: Sequence[Mapping[str, Any]], *, error_on_invalid: bool = False
    ) -> None:
        """Nothing; raises InvalidUse where ``error_on_invalid`` asks for that."""
        if error_on_invalid and results:
            raise InvalidUse("set_tuning_results: no provider here takes results of tuning")

    def set_ep_dynamic_options(self, options: Mapping[str, str]) -> None:
        """Nothing: no provider has options that change."""

    def release_captured_graph(self, graph_annotation_id: int = 0) -> None:
        """Nothing: no graphs are captured."""


class InferenceSession(Session):
    """A model, loaded and ready to run; see `fornix.InferenceSession`."""

    def __init__(
        self,
        path_or_bytes: Any,
        sess_options: runtime.SessionOptions | None = None,
        providers: Providers | None = None,
        provider_options: Sequence[Mapping[Any, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        if path_or_bytes is None or isinstance(path_or_bytes, int | float):
            raise TypeError(
                "InferenceSession: a path, the bytes of a model or a message is required, "
                f"found {type(path_or_bytes).__name__}"
            )
        if unknown := ", ".join(sorted({*kwargs} - ACCEPTED)):
            warnings.warn(
                f"InferenceSession: {unknown} has no meaning here", FornixWarning, stacklevel=2
            )
        if isinstance(providers, str):
            providers = [providers]
        options = SessionOptions() if sess_options is None else sess_options
        if isinstance(options, SessionOptions):
            providers = providers or [*options.providers.items()]
            if options.is_load_canceled:
                raise ModelLoadCanceled("InferenceSession: loading was canceled by its options")
        if isinstance(options, runtime.SessionOptions):
            options = replace(
                options,
                seed=DEFAULTS.seed if options.seed is None else options.seed,
                intra_op_num_threads=options.intra_op_num_threads or DEFAULTS.threads,
            )
        try:
            if is_wanted(kwargs.get("read_config_from_model")):
                options = with_config(options, path_or_bytes)
            trust = bool(kwargs.get("trust"))
            super().__init__(
                path_or_bytes, options, providers or None, provider_options, trust=trust
            )
        except FornixError as error:
            raise translated(error, LOADING) from error.__cause__

    def __reduce__(self) -> tuple[Any, ...]:
        _, (path, options, providers) = super().__reduce__()
        return partial(InferenceSession, trust=self._trust), (path, options, providers)


def _memory() -> OrtMemoryInfo:
    return OrtMemoryInfo("Cpu", OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, OrtMemType.DEFAULT)


def check_and_normalize_provider_args(
    providers: Any, provider_options: Any, available_provider_names: Sequence[str]
) -> tuple[list[str], list[dict[str, str]]]:
    """Names of providers, each once, and the options of each as texts.

    Raises InvalidUse for what are no names and options, and warns of names that are not available.
    """
    if providers is None:
        return [], []
    if not isinstance(providers, Sequence):
        raise InvalidUse(f"providers must be a sequence, found {type(providers).__name__}")
    pairs = [_pair(entry) for entry in providers]
    if provider_options is not None:
        pairs = _with_options(pairs, providers, provider_options)
    found: dict[str, dict[str, str]] = {}
    for name, options in pairs:
        if name not in available_provider_names:
            has = ", ".join(available_provider_names)
            warnings.warn(f"provider {name!r} is not among {has}", FornixWarning, stacklevel=2)
        if name in found:
            warnings.warn(f"provider {name!r} is named twice", FornixWarning, stacklevel=2)
        else:
            found[name] = {str(key): str(value) for key, value in options.items()}
    return list(found), list(found.values())


def _pair(entry: Any) -> tuple[str, Mapping[Any, Any]]:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str):
        return entry[0], entry[1]
    raise InvalidUse(f"a provider is a name, or a name and its options, found {entry!r}")


def _with_options(
    pairs: Sequence[tuple[str, Any]], providers: Sequence[Any], options: Any
) -> list[tuple[str, Mapping[Any, Any]]]:
    if not isinstance(options, Sequence) or not all(isinstance(x, Mapping) for x in options):
        raise InvalidUse(f"provider_options must be a sequence of mappings, found {options!r}")
    if len(options) != len(pairs):
        raise InvalidUse(
            f"provider_options must have one entry per provider, {len(pairs)}, found {len(options)}"
        )
    if any(isinstance(entry, tuple) for entry in providers):
        raise InvalidUse("options of providers must be given in one place, found two")
    return [(name, given) for (name, _), given in zip(pairs, options, strict=True)]


__all__ = ["IOBinding", "InferenceSession", "Session", "check_and_normalize_provider_args"]
