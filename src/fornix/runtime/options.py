"""Options of sessions and of runs, by the names of onnxruntime's where those exist."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fornix.errors import InvalidArgument
from fornix.runtime.platform import usable_processors

if TYPE_CHECKING:
    from fornix.passes import Level

CONFIG_ENTRIES: dict[str, str] = {
    "session.disable_cpu_ep_fallback": "1: an error if a node would run its NumPy kernel",
    "fornix.strict_accuracy": "1: no algorithm rounds more than the plain sum that it replaces",
}
"""Entries that have a meaning, with what they do."""


@dataclass(kw_only=True)
class SessionOptions:
    """How a session is made and run.

    `graph_optimization_level` is a `Level`, its number or its name; None leaves it to the provider:
    everything for compiled code, nothing for the reference. `intra_op_num_threads` 0 stands for as
    many threads as there are processors that affinity and quota grant.
    """

    graph_optimization_level: Level | int | str | None = None
    intra_op_num_threads: int = 0
    config_entries: dict[str, str] = field(default_factory=dict)

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Set an entry; raises InvalidArgument for one that nothing reads."""
        if key not in CONFIG_ENTRIES:
            raise InvalidArgument(
                f"SessionOptions: a config entry is one of {', '.join(CONFIG_ENTRIES)}, "
                f"found {key!r}"
            )
        self.config_entries[key] = value

    def get_session_config_entry(self, key: str) -> str:
        """The value of an entry; raises InvalidArgument if it was not set."""
        if key not in self.config_entries:
            raise InvalidArgument(f"SessionOptions: config entry {key!r} must be set, it is not")
        return self.config_entries[key]

    @property
    def level(self) -> Level | None:
        """The level as `Level`; raises InvalidArgument for another."""
        from fornix.passes import Level  # noqa: PLC0415 - the optimizer is read when it is needed

        given = self.graph_optimization_level
        if given is None or isinstance(given, Level):
            return given
        names = {level.name.lower(): level for level in Level}
        by_number = {int(level): level for level in Level}
        found = names.get(given.lower()) if isinstance(given, str) else by_number.get(int(given))
        if found is None:
            raise InvalidArgument(
                f"SessionOptions: graph_optimization_level must be one of {', '.join(names)}, "
                f"found {given!r}"
            )
        return found

    @property
    def is_strict(self) -> bool:
        """Whether algorithms are left out that are faster and round more."""
        return self.config_entries.get("fornix.strict_accuracy") == "1"

    @property
    def threads(self) -> int:
        """Threads that work on a run, the caller included."""
        if self.intra_op_num_threads < 0:
            raise InvalidArgument(
                "SessionOptions: intra_op_num_threads must be 0 or more, "
                f"found {self.intra_op_num_threads}"
            )
        return self.intra_op_num_threads or usable_processors()


@dataclass(kw_only=True)
class RunOptions:
    """How one run is made.

    `terminate`, which any thread may set, ends the run before its next kernel: it raises Fail. What
    the run logs begins with `logid`, and is left out below `log_severity_level`: 0 stands for
    everything, 1 for information, 2 for warnings, 3 for errors, 4 for what ends the process.
    """

    terminate: bool = False
    logid: str = ""
    log_severity_level: int = 2
