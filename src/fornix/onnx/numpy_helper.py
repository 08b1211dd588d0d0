"""What `onnx.numpy_helper` offers: messages to NumPy and back.

The work is done by `fornix.format.tensors` and `containers`; here are onnx's names for it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from fornix import dtype as types
from fornix.errors import DTypeError, InvalidArgument
from fornix.format import containers, tensors
from fornix.format.containers import to_list, to_optional
from fornix.format.messages import MapProto, OptionalProto, SequenceProto, TensorProto
from fornix.onnx._dtypes import numpy_dtype
from fornix.onnx._kinds import takes

__all__ = [
    "create_random_int",
    "from_array",
    "from_dict",
    "from_list",
    "from_optional",
    "saturate_cast",
    "to_array",
    "to_dict",
    "to_float8e8m0",
    "to_list",
    "to_optional",
    "tobytes_little_endian",
]


def to_array(tensor: TensorProto, base_dir: str = "") -> NDArray[Any]:
    """The elements of ``tensor``; external data is read below ``base_dir``.

    Raises DTypeError for a tensor of no dtype, TensorDataError if its payload is not what its
    dims and dtype require, ExternalDataError for external data that is unsafe or not there.
    """
    if tensor.data_type == TensorProto.UNDEFINED:
        raise DTypeError(f"{tensors.subject(tensor)}: a dtype is required, found UNDEFINED")
    return tensors.to_array(tensor, base_dir)


def from_array(array: NDArray[Any], /, name: str | None = None) -> TensorProto:
    """``array`` as a message; raises DTypeError for a NumPy dtype that ONNX lacks."""
    return tensors.from_array(array, name)


def from_list(lst: list[Any], name: str | None = None, dtype: int | None = None) -> SequenceProto:
    """A list of arrays, lists or dictionaries as a message; ``dtype`` says which, if it is empty.

    Raises DTypeError for elements that differ in kind.
    """
    return containers.from_list(lst, name, dtype)


def to_dict(map_proto: MapProto) -> dict[Any, Any]:
    """The dictionary that a message holds."""
    return containers.to_dict(map_proto)


@takes(dict_=Mapping)
def from_dict(dict_: dict[Any, Any], name: str | None = None) -> MapProto:
    """A dictionary as a message; raises DTypeError for keys or values that differ in kind."""
    return containers.from_dict(dict_, name)


def from_optional(
    opt: Any | None, name: str | None = None, dtype: int | None = None
) -> OptionalProto:
    """A value, or None, as a message; ``dtype`` says what is missing."""
    return containers.from_optional(opt, name, dtype)


def tobytes_little_endian(array: NDArray[Any]) -> bytes:
    """The elements of ``array``, row-major, in little-endian byte order."""
    order = array.dtype.byteorder
    if order == ">" or (order == "=" and sys.byteorder == "big"):
        array = array.astype(array.dtype.newbyteorder("<"))
    return array.tobytes()


def to_float8e8m0(x: NDArray[Any], saturate: bool = True, round_mode: str = "up") -> NDArray[Any]:
    """``x`` as float8e8m0, powers of two, with ``round_mode`` "up", "down" or "nearest".

    Works on the exponent of float32: the sign is lost, zero becomes the least power, infinity and
    NaN become NaN. So onnx's function has it, unlike its operator Cast.
    """
    bits = np.asarray(x, np.float32).view(np.uint32)
    exponent = (bits >> 23 & 0xFF).astype(np.uint16)
    fraction = bits & 0x7FFFFF
    half = np.uint32(0x400000)
    if round_mode == "up":
        raised = fraction > 0
    elif round_mode == "nearest":  # ties go up from every power but the least
        raised = (fraction > half) | ((fraction == half) & (exponent > 0))
    elif round_mode == "down":
        raised = np.zeros_like(fraction, np.bool_)
    else:
        raise InvalidArgument(
            f"round_mode: one of up, down, nearest is required, found {round_mode!r}"
        )
    greatest = 0xFE
    raised &= exponent < (greatest if saturate else greatest + 1)
    return (exponent + raised).astype(np.uint8).view(types.FLOAT8E8M0.numpy)


def saturate_cast(x: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """``x`` as ``dtype``, with what that cannot hold clamped to its least and greatest number."""
    target = np.dtype(dtype)
    whole = types.DType.of(target).is_integer
    bounds: Any = ml_dtypes.iinfo if whole else ml_dtypes.finfo
    least, greatest = bounds(target).min, bounds(target).max
    clipped: NDArray[Any] = np.clip(np.round(x) if whole else x, least, greatest)
    return clipped.astype(target)


def create_random_int(
    input_shape: tuple[int, ...], dtype: np.dtype[Any], seed: int = 1
) -> NDArray[Any]:
    """Integers of ``dtype`` drawn with ``seed``: the ones that onnx's test cases use."""
    target = numpy_dtype(dtype)
    if target.kind not in "iu":
        raise DTypeError(f"integers are required, found {target}")
    own, bound = np.iinfo(target), np.iinfo(np.int32)
    low, high = max(own.min, bound.min), min(own.max, bound.max)
    drawn = np.random.RandomState(seed).randint(low, high, size=input_shape)
    return drawn.astype(target)
