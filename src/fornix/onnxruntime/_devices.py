"""Devices and memory by onnxruntime's names: of this vocabulary, the CPU's words do something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from fornix.errors import InvalidUse
from fornix.runtime.values import text_of_device


class Named(IntEnum):
    """A number that prints with the name of its enumeration."""

    __str__ = Enum.__str__


class OrtAllocatorType(Named):
    """Who gives memory."""

    INVALID = -1
    ORT_DEVICE_ALLOCATOR = 0
    ORT_ARENA_ALLOCATOR = 1


class OrtMemType(Named):
    """What memory is for."""

    CPU_INPUT = -2
    CPU_OUTPUT = -1
    CPU = -1
    DEFAULT = 0


class OrtDeviceMemoryType(Named):
    """Whether the host reads a device's memory."""

    DEFAULT = 0
    HOST_ACCESSIBLE = 5


class OrtMemoryInfoDeviceType(Named):
    """Whose memory it is."""

    CPU = 0
    GPU = 1
    FPGA = 2
    NPU = 3


class OrtHardwareDeviceType(Named):
    """What computes."""

    CPU = 0
    GPU = 1
    NPU = 2


class OrtDeviceVendorId(IntEnum):
    """Who made a device, by the numbers of the PCI register."""

    NONE = 0
    AMD = 0x1002
    NVIDIA = 0x10DE
    ARM = 0x13B5
    MICROSOFT = 0x1414
    HUAWEI = 0x19E5
    QUALCOMM = 0x5143
    INTEL = 0x8086


_DEVICES: dict[str, tuple[int, int]] = {
    "cpu": (0, OrtDeviceVendorId.NONE),
    "cuda": (1, OrtDeviceVendorId.NVIDIA),
    "gpu": (1, OrtDeviceVendorId.NONE),
    "rocm": (1, OrtDeviceVendorId.AMD),
    "dml": (1, OrtDeviceVendorId.MICROSOFT),
    "webgpu": (1, OrtDeviceVendorId.NONE),
    "fpga": (2, OrtDeviceVendorId.NONE),
    "npu": (3, OrtDeviceVendorId.NONE),
    "cann": (3, OrtDeviceVendorId.HUAWEI),
}
"""Type and vendor of a device by its name."""


def get_ort_device_type(device_type: str) -> int:
    """The number of a device by its name; raises InvalidUse for another name."""
    if device_type not in _DEVICES:
        raise InvalidUse(f"a device is one of {', '.join(_DEVICES)}, found {device_type!r}")
    return _DEVICES[device_type][0]


def get_vendor_id_for_device_type(device_type: str) -> OrtDeviceVendorId | None:
    """Who makes devices called so, if that is one maker."""
    found = _DEVICES.get(device_type, (0, 0))[1]
    return OrtDeviceVendorId(found) if found else None


@dataclass(frozen=True)
class OrtExternalInitializerInfo:
    """Where in a file the data of an initializer are."""

    filepath: str
    file_offset: int
    byte_size: int


def _number(number: int) -> staticmethod[[], int]:
    """A static method that gives the number of a kind of devices, as the native class has them."""
    return staticmethod(lambda: number)


class OrtDevice:
    """A device, or a part of one."""

    def __init__(self, device_type: int, device_id: int = 0, vendor_id: int = 0) -> None:
        self._type, self._id, self._vendor = device_type, device_id, vendor_id

    @staticmethod
    def make(ort_device_name: str, device_id: int, vendor_id: int = -1) -> OrtDevice:
        """A device by its name: "cpu", "cuda" …; -1 is the vendor that the name has."""
        number = get_ort_device_type(text_of_device(ort_device_name, "OrtDevice").lower())
        known = _DEVICES[ort_device_name.lower()][1]
        return OrtDevice(number, device_id, known if vendor_id == -1 else vendor_id)

    @staticmethod
    def default_memory() -> int:
        """The number of usual memory."""
        return 0

    cpu, cuda, gpu, webgpu, fpga, npu, cann, dml = map(_number, (0, 1, 1, 1, 2, 3, 3, 4))

    def mem_type(self) -> int:
        """The kind of its memory."""
        return 0

    def vendor_id(self) -> int:
        """Who made it."""
        return self._vendor

    def device_id(self) -> int:
        """Which of its kind."""
        return self._id

    def device_type(self) -> int:
        """0 for CPUs, 1 for GPUs, 2 for FPGAs, 3 for NPUs."""
        return self._type

    def device_vendor_id(self) -> int:
        """Who made it."""
        return self._vendor

    def device_mem_type(self) -> int:
        """The kind of its memory: 0, the default."""
        return 0


class OrtMemoryInfo:
    """Where memory lies and who gives it."""

    name: str
    allocator_type: OrtAllocatorType
    device_id: int
    mem_type: OrtMemType
    device_vendor_id: int
    device_mem_type: OrtDeviceMemoryType

    def __init__(
        self,
        name: str,
        allocator_type: OrtAllocatorType,
        device_id: int,
        mem_type: OrtMemType,
    ) -> None:
        if name.lower() not in _DEVICES:
            raise InvalidUse(
                f"OrtMemoryInfo: a device is one of {', '.join(_DEVICES)}, found {name!r}; "
                "try OrtMemoryInfo.create_v2"
            )
        self.name, self.allocator_type = name, allocator_type
        self.device_id, self.mem_type = device_id, mem_type
        self.device_vendor_id = int(_DEVICES[name.lower()][1])
        self.device_mem_type = OrtDeviceMemoryType.DEFAULT

    @staticmethod
    def create_v2(
        name: str,
        device_type: OrtMemoryInfoDeviceType,
        vendor_id: int,
        device_id: int,
        mem_type: OrtDeviceMemoryType,
        alignment: int,
        allocator_type: OrtAllocatorType,
    ) -> OrtMemoryInfo:
        """Memory of any device, under any name."""
        kind = "cpu" if device_type == OrtMemoryInfoDeviceType.CPU else "gpu"
        made = OrtMemoryInfo(kind, allocator_type, device_id, OrtMemType.DEFAULT)
        made.name, made.device_vendor_id, made.device_mem_type = name, vendor_id, mem_type
        return made


class OrtArenaCfg:
    """How an arena grows; accepted, as memory is planned ahead here."""

    max_mem: int
    arena_extend_strategy: int
    initial_chunk_size_bytes: int
    max_dead_bytes_per_chunk: int
    initial_growth_chunk_size_bytes: int
    max_power_of_two_extend_bytes: int
    _FIELDS = (
        "max_mem",
        "arena_extend_strategy",
        "initial_chunk_size_bytes",
        "max_dead_bytes_per_chunk",
        "initial_growth_chunk_size_bytes",
        "max_power_of_two_extend_bytes",
    )

    def __init__(self, *given: int | Mapping[str, int]) -> None:
        """From four numbers, or from a mapping of names to numbers; -1 is the default."""
        values: Mapping[str, int]
        if len(given) == 1 and isinstance(given[0], Mapping):
            values = given[0]
        else:
            values = {k: int(v) for k, v in zip(self._FIELDS, given, strict=False)}  # type: ignore[arg-type]
        unknown = [name for name in values if name not in self._FIELDS]
        if unknown:
            raise InvalidUse(
                f"OrtArenaCfg: options are {', '.join(self._FIELDS)}, found {', '.join(unknown)}"
            )
        self.max_mem = values.get("max_mem", 0)
        self.arena_extend_strategy = values.get("arena_extend_strategy", -1)
        self.initial_chunk_size_bytes = values.get("initial_chunk_size_bytes", -1)
        self.max_dead_bytes_per_chunk = values.get("max_dead_bytes_per_chunk", -1)
        self.initial_growth_chunk_size_bytes = values.get("initial_growth_chunk_size_bytes", -1)
        self.max_power_of_two_extend_bytes = values.get("max_power_of_two_extend_bytes", -1)


@dataclass(frozen=True)
class OrtHardwareDevice:
    """A device of this machine."""

    type: OrtHardwareDeviceType
    vendor_id: int
    vendor: str
    device_id: int
    metadata: dict[str, str] = field(default_factory=dict)


class OrtSyncStream:
    """An order of work on a device; the CPU has none."""

    def get_handle(self) -> int:
        """0: there is none."""
        return 0


@dataclass(frozen=True)
class OrtEpDevice:
    """A device with the provider that runs on it."""

    ep_name: str
    ep_vendor: str
    ep_metadata: dict[str, str]
    ep_options: dict[str, str]
    device: OrtHardwareDevice

    def memory_info(self, memory_type: OrtDeviceMemoryType) -> OrtMemoryInfo | None:
        """None: the memory is the process's own."""
        return None

    def create_sync_stream(self) -> OrtSyncStream:
        """A stream that orders nothing."""
        return OrtSyncStream()
