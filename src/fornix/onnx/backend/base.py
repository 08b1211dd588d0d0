"""What `onnx.backend.base` offers: what a backend is, for those who write or test one."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from fornix.check import check
from fornix.errors import InvalidArgument
from fornix.format.messages import IR_VERSION, ModelProto, NodeProto

__all__ = ["IR_VERSION", "Backend", "BackendRep", "Device", "DeviceType", "namedtupledict"]


class DeviceType(IntEnum):
    """Kinds of devices, by the numbers of onnx."""

    CPU = 0
    CUDA = 1


class Device:
    """A device and its number, spelled ``"CPU"`` or ``"CUDA:1"``."""

    type: DeviceType
    device_id: int

    def __init__(self, device: str) -> None:
        name, _, number = device.partition(":")
        if name not in DeviceType.__members__ or not (number or "0").isdecimal():
            raise InvalidArgument(
                f"Device: a device must be CPU or CUDA, with or without a number behind a colon, "
                f"found {device!r}; try 'CPU'"
            )
        self.type = DeviceType[name]
        self.device_id = int(number or 0)


def namedtupledict(
    typename: str, field_names: Sequence[str], *args: Any, **kwargs: Any
) -> type[tuple[Any, ...]]:
    """A named tuple that finds its fields by name too: ``results["y"]``, whatever the names are.

    Names that Python does not allow for attributes are numbered, as with ``rename=True``.
    """
    places = {name: place for place, name in enumerate(field_names)}
    kwargs.setdefault("rename", True)
    make: Any = namedtuple  # noqa: PYI024 - the fields are known at run time only
    plain = make(typename, field_names, *args, **kwargs)

    def get(self: tuple[Any, ...], key: Any) -> Any:
        return tuple.__getitem__(self, places[key] if isinstance(key, str) else key)

    plain.__getitem__ = get
    made: type[tuple[Any, ...]] = plain
    return made


class BackendRep:
    """A model that a backend has made ready."""

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs for ``inputs``, in the order of the graph; here none."""
        return ()


class Backend:
    """Runs models. Derive from it and write `prepare`, and what else differs."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether the backend can run ``model`` on ``device``."""
        return True

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep | None:
        """``model`` ready to run; here it is only checked, which raises ValidationError."""
        check(model)
        return None

    @classmethod
    def run_model(
        cls, model: ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """The outputs of ``model`` for ``inputs``."""
        prepared = cls.prepare(model, device, **kwargs)
        if prepared is None:
            raise InvalidArgument(
                f"{cls.__name__}.run_model: prepare must give a BackendRep, found None; "
                "write prepare in the class"
            )
        return prepared.run(inputs)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...] | None:
        """The outputs of one node for ``inputs``; here None."""
        return None

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether the backend runs on ``device``; here on all."""
        return True
