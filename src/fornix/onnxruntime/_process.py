"""Functions of the package: what there is here, and what holds for the whole process."""

from __future__ import annotations

import logging
import operator
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fornix.errors import InvalidUse, NotSupported
from fornix.onnxruntime._devices import (
    OrtEpDevice,
    OrtHardwareDevice,
    OrtHardwareDeviceType,
    OrtMemoryInfo,
)
from fornix.runtime import OrtValue
from fornix.runtime.logs import level

VERSION = "1.31.1"
"""Of onnxruntime, whose names these are."""
CPU, REFERENCE = "CPUExecutionProvider", "ReferenceExecutionProvider"


@dataclass
class Defaults:
    """What sessions take over that are made from now on."""

    seed: int | None = None
    threads: int = 0


DEFAULTS = Defaults()


def get_version_string() -> str:
    """The version of onnxruntime that the names are those of."""
    return VERSION


def get_build_info() -> str:
    """What runs here."""
    return f"ORT Build Info: fornix, Python {platform.python_version()}, {platform.machine()}"


def get_device() -> str:
    """Where models run: "CPU"."""
    return "CPU"


def get_available_providers() -> list[str]:
    """The providers that models run on unless told otherwise."""
    return [CPU]


def get_all_providers() -> list[str]:
    """All providers that there are, the default one last."""
    return [REFERENCE, CPU]


def get_ep_devices() -> list[OrtEpDevice]:
    """The processor."""
    vendor = platform.processor() or platform.machine()
    device = OrtHardwareDevice(OrtHardwareDeviceType.CPU, 0, vendor, 0)
    return [OrtEpDevice(CPU, "fornix", {"version": VERSION}, {}, device)]


def get_hardware_devices() -> list[OrtHardwareDevice]:
    """The processor."""
    return [device.device for device in get_ep_devices()]


def has_collective_ops() -> bool:
    """Whether models may run on several machines: no."""
    return False


def set_seed(seed: int) -> None:
    """Let random operators repeat themselves, in sessions that are made from now on."""
    DEFAULTS.seed = operator.index(seed)


def set_global_thread_pool_sizes(
    intra_op_num_threads: int = 0, inter_op_num_threads: int = 0
) -> None:
    """Threads of sessions that are made from now on and name no number; they share them anyway."""
    DEFAULTS.threads = operator.index(intra_op_num_threads)
    operator.index(inter_op_num_threads)


def set_default_logger_severity(severity: int) -> None:
    """Log from this severity on: 0 is verbose, 4 fatal; raises InvalidUse for others."""
    logging.getLogger("fornix").setLevel(level(severity))


def set_default_logger_verbosity(verbosity: int) -> None:
    """Nothing: there is one kind of verbose messages; what is no number is a TypeError."""
    operator.index(verbosity)


def enable_telemetry_events() -> None:
    """Nothing: fornix sends nothing to anybody."""


def disable_telemetry_events() -> None:
    """Nothing: fornix sends nothing to anybody."""


def create_and_register_allocator(memory_info: OrtMemoryInfo, arena_cfg: object) -> None:
    """Nothing: memory is planned ahead."""


def create_and_register_allocator_v2(
    provider_type: str,
    memory_info: OrtMemoryInfo,
    provider_options: Mapping[str, str],
    arena_cfg: object,
) -> None:
    """Nothing: memory is planned ahead."""


def register_execution_provider_library(registration_name: str, library_path: str) -> None:
    """Raises NotSupported: providers are classes of Python here."""
    raise NotSupported(
        f"providers from a native library are not supported, found {library_path!r}; "
        "derive from fornix.runtime.Provider"
    )


def unregister_execution_provider_library(registration_name: str) -> None:
    """Raises NotSupported: nothing can be registered."""
    raise NotSupported(f"no library of providers is registered, found {registration_name!r}")


def copy_tensors(src: Sequence[OrtValue], dst: Sequence[OrtValue], stream: object = None) -> None:
    """Copy values into the tensors of others, one by one."""
    if len(src) != len(dst):
        raise InvalidUse(f"copy_tensors: as many sources as targets are required, found {len(src)} "
                         f"and {len(dst)}")  # fmt: skip
    for source, target in zip(src, dst, strict=True):
        target.update_inplace(source)


def preload_dlls(
    cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: Any = None
) -> None:
    """Nothing: no libraries are needed."""


def print_debug_info() -> None:
    """Print what runs here."""
    print(f"fornix in the place of onnxruntime {VERSION}\n{get_build_info()}")  # noqa: T201 - asked
