"""The 28 element types of the standard: names, numbers, NumPy storage and packed bytes.

Decides what an element type is called, which NumPy dtype holds it in memory and how its elements
lie in packed storage (`TensorProto.raw_data`, external files). Conversion between element types is
`fornix.cast`; which field of a message carries a payload is `fornix.format.tensors`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from fornix.errors import DTypeError, TensorDataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

    from numpy.typing import NDArray

    Buffer = bytes | bytearray | memoryview | mmap | NDArray[np.uint8]

__all__ = ["ALL", "DType"]


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """One element type; there is exactly one object per type, so `is` and `==` agree.

    `name` is ours ("float32"), `text` the standard's ("float"), `code` the number of
    `TensorProto.DataType`, `bits` the width of one element in packed storage (0 for strings).
    """

    name: str
    text: str
    code: int
    kind: str
    bits: int
    numpy: np.dtype[Any]

    @staticmethod
    def of(source: object) -> DType:
        """The element type that a name, ONNX text, number or NumPy dtype stands for.

        Raises DTypeError for anything else, `TensorProto.UNDEFINED` included.
        """
        if isinstance(source, DType):
            return source
        if isinstance(source, (np.dtype, type)):
            found = _of_numpy(source)
        elif isinstance(source, str):
            found = _BY_NAME.get(source)
        elif isinstance(source, (int, np.integer)) and not isinstance(source, bool):
            found = _BY_CODE.get(int(source))
        else:
            found = None
        if found is None:
            raise DTypeError(f"an element type of ONNX is required, found {source!r}")
        return found

    @property
    def is_float(self) -> bool:
        """Whether elements are real floating-point numbers."""
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """Whether elements are integers; bool is not."""
        return self.kind in {"int", "uint"}

    @property
    def is_signed(self) -> bool:
        """Whether there are negative elements; float8e8m0 has none."""
        return self.kind in {"int", "complex"} or (self.is_float and self.name != "float8e8m0")

    def nbytes(self, count: int) -> int:
        """Bytes that ``count`` elements take in packed storage, the last byte padded."""
        return (count * self.bits + 7) // 8

    def pack(self, array: NDArray[Any]) -> bytes:
        """The elements of ``array``, row-major, as packed little-endian bytes.

        Raises DTypeError for strings, which have no packed form, and for another dtype's array.
        """
        if self.bits == 0:
            raise DTypeError(f"packed storage needs elements of fixed width, found {self}")
        if DType.of(array.dtype) is not self:
            raise DTypeError(f"packing {self} needs an array of {self.numpy}, found {array.dtype}")
        if self.bits < 8:
            codes = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            return _SUB_BYTE[self.bits][0](codes & (2**self.bits - 1)).tobytes()
        native = np.ascontiguousarray(array, dtype=self.numpy).reshape(-1)
        return _swapped(native, self).tobytes()

    def unpack(self, buffer: Buffer, count: int) -> NDArray[Any]:
        """``count`` elements from packed little-endian bytes: x[count].

        A read-only view of ``buffer`` where storage and memory agree, else a new array.
        Raises TensorDataError unless the buffer holds exactly `nbytes(count)` bytes.
        """
        if self.bits == 0:
            raise DTypeError(f"packed storage needs elements of fixed width, found {self}")
        raw = np.frombuffer(buffer, np.uint8)
        if count < 0 or raw.size != self.nbytes(count):
            needed = self.nbytes(count)
            raise TensorDataError(
                f"{count} elements of {self} take {needed} bytes, found {raw.size}"
            )
        if self.bits < 8:
            return _SUB_BYTE[self.bits][1](raw, count).view(self.numpy)
        if self is BOOL and raw.size and raw.max() > 1:
            return raw.astype(np.bool_)
        elements: NDArray[Any] = _swapped(raw.view(self.numpy), self)
        elements.flags.writeable = False
        return elements

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"DType({self.name!r})"

    def __hash__(self) -> int:
        return self.code

    def __reduce__(self) -> tuple[Callable[[object], DType], tuple[str]]:
        return DType.of, (self.name,)


@cache
def _of_numpy(source: np.dtype[Any] | type) -> DType | None:
    """The element type that a NumPy dtype or a scalar type holds, in either byte order."""
    if isinstance(source, type):
        return _BY_TYPE.get(source)
    if source.kind in "OSTU":
        return STRING
    return _BY_NUMPY.get(source.newbyteorder("="))


def _swapped(array: NDArray[Any], dtype: DType) -> NDArray[Any]:
    """``array`` between native and little-endian byte order; itself on little-endian hosts."""
    if sys.byteorder == "little" or dtype.numpy.itemsize == 1:
        return array
    if dtype is BFLOAT16:
        return array.view(np.uint16).byteswap().view(dtype.numpy)
    return array.byteswap()


def _pack_bits(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Bytes with 8 / ``bits`` codes each, the first in the lowest bits."""
    per_byte = 8 // bits
    padded = np.zeros(-(-codes.size // per_byte) * per_byte, np.uint8)
    padded[: codes.size] = codes
    packed = padded[0::per_byte].copy()
    for slot in range(1, per_byte):
        packed |= padded[slot::per_byte] << np.uint8(slot * bits)
    return packed


def _unpack_bits(raw: NDArray[np.uint8], count: int, bits: int) -> NDArray[np.uint8]:
    per_byte = 8 // bits
    codes = np.empty((raw.size, per_byte), np.uint8)
    for slot in range(per_byte):
        codes[:, slot] = (raw >> np.uint8(slot * bits)) & np.uint8(2**bits - 1)
    return codes.reshape(-1)[:count]


def _pack_6(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Four 6-bit codes in three bytes, lowest bits first; a short group loses its tail."""
    padded = np.zeros((-(-codes.size // 4), 4), np.uint8)
    padded.reshape(-1)[: codes.size] = codes
    a, b, c, d = padded.T
    packed = np.stack([a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2], axis=1)
    return packed.reshape(-1)[: (codes.size * 6 + 7) // 8]


def _unpack_6(raw: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    padded = np.zeros((-(-count // 4), 3), np.uint8)
    padded.reshape(-1)[: raw.size] = raw
    a, b, c = padded.T
    codes = np.stack([a, a >> 6 | b << 2, b >> 4 | c << 4, c >> 2], axis=1) & np.uint8(63)
    return codes.reshape(-1)[:count]


_Packer = tuple[
    "Callable[[NDArray[np.uint8]], NDArray[np.uint8]]",
    "Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]",
]
_SUB_BYTE: dict[int, _Packer] = {
    2: (lambda codes: _pack_bits(codes, 2), lambda raw, count: _unpack_bits(raw, count, 2)),
    4: (lambda codes: _pack_bits(codes, 4), lambda raw, count: _unpack_bits(raw, count, 4)),
    6: (_pack_6, _unpack_6),
}

# name, text, code, kind, bits, NumPy storage; codes from onnx.proto, TensorProto.DataType.
FLOAT32 = DType("float32", "float", 1, "float", 32, np.dtype(np.float32))
UINT8 = DType("uint8", "uint8", 2, "uint", 8, np.dtype(np.uint8))
INT8 = DType("int8", "int8", 3, "int", 8, np.dtype(np.int8))
UINT16 = DType("uint16", "uint16", 4, "uint", 16, np.dtype(np.uint16))
INT16 = DType("int16", "int16", 5, "int", 16, np.dtype(np.int16))
INT32 = DType("int32", "int32", 6, "int", 32, np.dtype(np.int32))
INT64 = DType("int64", "int64", 7, "int", 64, np.dtype(np.int64))
STRING = DType("string", "string", 8, "string", 0, np.dtype(object))
BOOL = DType("bool", "bool", 9, "bool", 8, np.dtype(np.bool_))
FLOAT16 = DType("float16", "float16", 10, "float", 16, np.dtype(np.float16))
FLOAT64 = DType("float64", "double", 11, "float", 64, np.dtype(np.float64))
UINT32 = DType("uint32", "uint32", 12, "uint", 32, np.dtype(np.uint32))
UINT64 = DType("uint64", "uint64", 13, "uint", 64, np.dtype(np.uint64))
COMPLEX64 = DType("complex64", "complex64", 14, "complex", 64, np.dtype(np.complex64))
COMPLEX128 = DType("complex128", "complex128", 15, "complex", 128, np.dtype(np.complex128))
BFLOAT16 = DType("bfloat16", "bfloat16", 16, "float", 16, np.dtype(ml_dtypes.bfloat16))
FLOAT8E4M3FN = DType(
    "float8e4m3fn", "float8e4m3fn", 17, "float", 8, np.dtype(ml_dtypes.float8_e4m3fn)
)
FLOAT8E4M3FNUZ = DType(
    "float8e4m3fnuz", "float8e4m3fnuz", 18, "float", 8, np.dtype(ml_dtypes.float8_e4m3fnuz)
)
FLOAT8E5M2 = DType("float8e5m2", "float8e5m2", 19, "float", 8, np.dtype(ml_dtypes.float8_e5m2))
FLOAT8E5M2FNUZ = DType(
    "float8e5m2fnuz", "float8e5m2fnuz", 20, "float", 8, np.dtype(ml_dtypes.float8_e5m2fnuz)
)
UINT4 = DType("uint4", "uint4", 21, "uint", 4, np.dtype(ml_dtypes.uint4))
INT4 = DType("int4", "int4", 22, "int", 4, np.dtype(ml_dtypes.int4))
FLOAT4E2M1 = DType("float4e2m1", "float4e2m1", 23, "float", 4, np.dtype(ml_dtypes.float4_e2m1fn))
FLOAT8E8M0 = DType("float8e8m0", "float8e8m0", 24, "float", 8, np.dtype(ml_dtypes.float8_e8m0fnu))
UINT2 = DType("uint2", "uint2", 25, "uint", 2, np.dtype(ml_dtypes.uint2))
INT2 = DType("int2", "int2", 26, "int", 2, np.dtype(ml_dtypes.int2))
FLOAT6E2M3 = DType("float6e2m3", "float6e2m3", 27, "float", 6, np.dtype(ml_dtypes.float6_e2m3fn))
FLOAT6E3M2 = DType("float6e3m2", "float6e3m2", 28, "float", 6, np.dtype(ml_dtypes.float6_e3m2fn))

ALL: tuple[DType, ...] = tuple(
    sorted((x for x in globals().copy().values() if isinstance(x, DType)), key=lambda x: x.code)
)
_BY_CODE = {dtype.code: dtype for dtype in ALL}
_BY_NAME = {name: dtype for dtype in ALL for name in (dtype.name, dtype.text)}
_BY_NUMPY = {dtype.numpy: dtype for dtype in ALL}
_BY_TYPE: dict[type, DType] = {
    **{dtype.numpy.type: dtype for dtype in ALL if dtype is not STRING},
    # C names that differ from the fixed-width types only in name, as np.longlong does.
    **{np.dtype(letter).type: _BY_NUMPY[np.dtype(letter)] for letter in "bhilqBHILQ"},
    bool: BOOL,
    int: INT64,
    float: FLOAT64,
    complex: COMPLEX128,
    str: STRING,
    bytes: STRING,
    np.str_: STRING,
    np.bytes_: STRING,
}
