"""Options by onnxruntime's names: its enumerations, and what sessions start with there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fornix import runtime
from fornix.errors import InvalidUse, NotSupported
from fornix.onnxruntime._devices import Named, OrtEpDevice
from fornix.onnxruntime._process import get_all_providers

if TYPE_CHECKING:
    from fornix.passes import Level


class GraphOptimizationLevel(Named):
    """How much the optimizer may do: the numbers of `fornix.passes.Level`, and one between."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(Named):
    """Whether branches of a model run at once; decides nothing here."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(Named):
    """In which order nodes run; decides nothing here."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


class OrtCompileApiFlags(Named):
    """What a compiler of models may do."""

    NONE = 0
    ERROR_IF_NO_NODES_COMPILED = 1
    ERROR_IF_OUTPUT_FILE_EXISTS = 2


class OrtExecutionProviderDevicePolicy(Named):
    """Which device is preferred; there is one here."""

    DEFAULT = 0
    PREFER_CPU = 1
    PREFER_NPU = 2
    PREFER_GPU = 3
    MAX_PERFORMANCE = 4
    MAX_EFFICIENCY = 5
    MIN_OVERALL_POWER = 6


NUMBERED: dict[str, type[Named]] = {
    "graph_optimization_level": GraphOptimizationLevel,
    "execution_mode": ExecutionMode,
    "execution_order": ExecutionOrder,
}
"""Options that are one of a few."""


@dataclass(kw_only=True, slots=True)
class SessionOptions(runtime.SessionOptions):
    """How a session is made and run; everything is optimized unless told otherwise."""

    graph_optimization_level: Level | int | str | None = GraphOptimizationLevel.ORT_ENABLE_ALL
    execution_mode: int = ExecutionMode.ORT_SEQUENTIAL
    execution_order: int = ExecutionOrder.DEFAULT
    providers: dict[str, dict[str, str]] = field(default_factory=dict)
    """Providers with their options, for sessions that are given none."""
    is_load_canceled: bool = False

    def __setattr__(self, name: str, value: Any) -> None:
        kind = NUMBERED.get(name)
        if kind is not None and not isinstance(value, str | None):
            try:
                value = kind(value)
            except ValueError:
                raise TypeError(f"{name}: a {kind.__name__} is required, found {value!r}") from None
        runtime.SessionOptions.__setattr__(self, name, value)

    def get_session_config_entry(self, key: str) -> str:
        """The value of an entry; raises InvalidUse if it was not set."""
        if key not in self.config_entries:
            raise InvalidUse(f"SessionOptions does not have configuration with key: {key}")
        return self.config_entries[key]

    def add_provider(self, provider_name: str, provider_options: Mapping[str, str]) -> None:
        """Let sessions run on this provider, after those that were added before."""
        if provider_name not in get_all_providers():
            has = ", ".join(get_all_providers())
            raise InvalidUse(f"SessionOptions: a provider is one of {has}, found {provider_name!r}")
        self.providers[provider_name] = dict(provider_options)

    def add_provider_for_devices(
        self, ep_devices: Sequence[OrtEpDevice], provider_options: Mapping[str, str]
    ) -> None:
        """Let sessions run on the provider of these devices."""
        for device in ep_devices:
            self.add_provider(device.ep_name, provider_options)

    def has_providers(self) -> bool:
        """Whether there is a provider that was added."""
        return bool(self.providers)

    def set_provider_selection_policy(self, policy: OrtExecutionProviderDevicePolicy) -> None:
        """Nothing: there is one device to choose."""

    def set_provider_selection_policy_delegate(self, delegate: Callable[..., object]) -> None:
        """Nothing: there is one device to choose."""

    def set_load_cancellation_flag(self, is_canceled: bool) -> None:
        """Whether making a session with these options raises ModelLoadCanceled."""
        self.is_load_canceled = is_canceled

    def set_ep_context_data_read_func(self, read_func: Callable[..., object]) -> None:
        """Raises NotSupported: there are no providers with data of their own."""
        raise NotSupported("SessionOptions: no provider here reads context data")

    def clear_ep_context_data_read_func(self) -> None:
        """Nothing: there is none."""
