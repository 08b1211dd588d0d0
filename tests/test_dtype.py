from __future__ import annotations

import copy
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fornix import dtype as types
from fornix.dtype import ALL, DType
from fornix.errors import DTypeError, TensorDataError

PACKED = [dtype for dtype in ALL if dtype.bits]


def some(dtype: DType, count: int) -> np.ndarray:
    """Elements with arbitrary bits."""
    raw = np.random.default_rng(count).integers(0, 256, count * dtype.numpy.itemsize)
    codes = raw.astype(np.uint8)
    if dtype.bits < 8:
        codes &= 2**dtype.bits - 1
    if dtype is types.BOOL:
        codes &= 1
    return codes.view(dtype.numpy)


def test_there_are_the_28_dtypes_of_the_standard_in_its_order() -> None:
    from onnx import TensorProto

    names = {number: name.lower() for name, number in TensorProto.DataType.items()}
    assert [dtype.code for dtype in ALL] == list(range(1, 29))
    assert [dtype.text for dtype in ALL] == [names[code] for code in range(1, 29)]


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_numpy_storage_is_that_of_the_onnx_package(dtype: DType) -> None:
    from onnx import helper

    assert dtype.numpy == helper.tensor_dtype_to_np_dtype(dtype.code)


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_of_finds_a_dtype_by_each_of_its_names(dtype: DType) -> None:
    for source in (dtype, dtype.name, dtype.text, dtype.code, np.int64(dtype.code), dtype.numpy):
        assert DType.of(source) is dtype
    if dtype is not types.STRING:
        assert DType.of(dtype.numpy.type) is dtype


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (np.dtype(">f4"), types.FLOAT32),
        (np.dtype("<U3"), types.STRING),
        (np.dtype("S3"), types.STRING),
        (np.dtype("longlong"), types.INT64),
        (np.longlong, types.INT64),
        (np.uintc, types.UINT32),
        (float, types.FLOAT64),
        (bool, types.BOOL),
        (str, types.STRING),
    ],
)
def test_of_understands_what_numpy_holds(source: object, expected: DType) -> None:
    assert DType.of(source) is expected


@pytest.mark.parametrize(
    "source",
    [0, 29, -1, True, 1.0, None, "half", "", "FLOAT", list, object, np.number, np.dtype("M8[s]")],
    ids=repr,
)
def test_of_refuses_what_is_no_dtype(source: object) -> None:
    with pytest.raises(DTypeError, match="an element type of ONNX is required, found"):
        DType.of(source)


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_there_is_one_object_per_dtype(dtype: DType) -> None:
    assert pickle.loads(pickle.dumps(dtype)) is dtype
    assert copy.deepcopy(dtype) is dtype
    assert copy.copy(dtype) is dtype
    assert str(dtype) == dtype.name
    assert repr(dtype) == f"DType('{dtype.name}')"
    with pytest.raises(AttributeError):
        dtype.name = "other"


def test_dtypes_hash_alike_in_every_process() -> None:
    assert [hash(dtype) for dtype in ALL] == list(range(1, 29))
    assert len(set(ALL)) == 28


def test_kinds_partition_the_dtypes() -> None:
    floats = {dtype.name for dtype in ALL if dtype.is_float}
    assert floats == {
        *("float64", "float32", "float16", "bfloat16", "float4e2m1", "float6e2m3", "float6e3m2"),
        *("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float8e8m0"),
    }
    assert {dtype.name for dtype in ALL if dtype.is_integer} == {
        *("int2", "int4", "int8", "int16", "int32", "int64"),
        *("uint2", "uint4", "uint8", "uint16", "uint32", "uint64"),
    }
    unsigned = {dtype.name for dtype in ALL if not dtype.is_signed}
    assert unsigned == {
        *("uint2", "uint4", "uint8", "uint16", "uint32", "uint64", "bool", "string", "float8e8m0"),
    }


@pytest.mark.parametrize(
    ("dtype", "count", "expected"),
    [
        (types.FLOAT32, 3, 12),
        (types.COMPLEX128, 2, 32),
        (types.BOOL, 3, 3),
        (types.INT4, 3, 2),
        (types.UINT2, 5, 2),
        (types.FLOAT6E2M3, 3, 3),
        (types.FLOAT6E3M2, 4, 3),
        (types.FLOAT6E3M2, 5, 4),
        (types.FLOAT4E2M1, 0, 0),
        (types.STRING, 3, 0),
    ],
)
def test_nbytes_rounds_up_to_whole_bytes(dtype: DType, count: int, expected: int) -> None:
    assert dtype.nbytes(count) == expected


@pytest.mark.parametrize("dtype", PACKED, ids=str)
@pytest.mark.parametrize("count", range(10))
def test_pack_writes_what_the_onnx_package_writes(dtype: DType, count: int) -> None:
    from onnx import numpy_helper

    array = some(dtype, count)
    assert dtype.pack(array) == numpy_helper.from_array(array).raw_data


@pytest.mark.parametrize("dtype", PACKED, ids=str)
@given(count=st.integers(0, 40))
def test_unpack_undoes_pack(dtype: DType, count: int) -> None:
    array = some(dtype, count)
    packed = dtype.pack(array)
    assert len(packed) == dtype.nbytes(count)
    found = dtype.unpack(packed, count)
    assert found.dtype == dtype.numpy
    assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("dtype", "codes", "packed"),
    [  # onnx.proto, TensorProto.raw_data
        (types.UINT4, [1, 2, 3], [0x21, 0x03]),
        (types.INT4, [-1, 1, -8], [0x1F, 0x08]),
        (types.UINT2, [1, 2, 3, 0, 1], [0b00111001, 0b01]),
        (types.INT2, [-1, 1, -2], [0b100111]),
        (types.FLOAT4E2M1, [0.5, -6.0], [0xF1]),
        (types.FLOAT6E3M2, [0.0625, -28.0, 0.0, -0.0], [0b11000001, 0b00001111, 0b10000000]),
    ],
)
def test_sub_byte_elements_fill_bytes_from_the_lowest_bit(
    dtype: DType, codes: list[float], packed: list[int]
) -> None:
    array = np.array(codes).astype(dtype.numpy)
    assert list(dtype.pack(array)) == packed
    assert dtype.unpack(bytes(packed), len(codes)).tolist() == codes


@pytest.mark.parametrize("dtype", [x for x in PACKED if x.bits >= 8], ids=str)
def test_unpack_does_not_copy_whole_bytes(dtype: DType) -> None:
    buffer = bytearray(dtype.pack(some(dtype, 6)))
    found = dtype.unpack(buffer, 6)
    assert not found.flags.writeable
    if dtype is not types.BOOL:
        before = found.tobytes()
        buffer[0] ^= 1
        assert found.tobytes() != before


def test_unpack_reads_buffers_of_every_kind() -> None:
    raw = np.arange(6, dtype=np.float32).tobytes()
    offset = memoryview(b"x" + raw)[1:]  # not aligned
    for buffer in (raw, bytearray(raw), offset, np.frombuffer(raw, np.uint8)):
        assert types.FLOAT32.unpack(buffer, 6).tolist() == [0, 1, 2, 3, 4, 5]


def test_any_nonzero_byte_is_true() -> None:
    found = types.BOOL.unpack(bytes([0, 1, 2, 255]), 4)
    assert found.view(np.uint8).tolist() == [0, 1, 1, 1]


def test_pack_is_row_major() -> None:
    array = np.array([[1, 2], [3, 4]], np.int16)
    for same in (array, array.copy(order="F"), array[:, ::-1][:, ::-1]):
        assert types.INT16.pack(same) == bytes([1, 0, 2, 0, 3, 0, 4, 0])
    assert types.INT16.pack(np.array(5, np.int16)) == bytes([5, 0])


def test_pack_understands_either_byte_order() -> None:
    assert types.INT32.pack(np.array([1], ">i4")) == bytes([1, 0, 0, 0])


@pytest.mark.parametrize("dtype", [x for x in PACKED if x.bits >= 8], ids=str)
def test_packed_bytes_are_little_endian_on_big_endian_hosts(
    dtype: DType, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = some(dtype, 3)
    width = dtype.numpy.itemsize // (2 if dtype.kind == "complex" else 1)
    monkeypatch.setattr(sys, "byteorder", "big")
    swapped = array.view(np.uint8).reshape(-1, width)[:, ::-1].tobytes()
    assert dtype.pack(array) == swapped
    assert dtype.unpack(swapped, 3).tobytes() == array.tobytes()


def test_pack_refuses_another_dtype() -> None:
    with pytest.raises(DTypeError, match="packing float32 needs an array of float32, found int64"):
        types.FLOAT32.pack(np.ones(2, np.int64))


def test_strings_have_no_packed_form() -> None:
    message = "packed storage needs elements of fixed width, found string"
    with pytest.raises(DTypeError, match=message):
        types.STRING.pack(np.array(["a"], object))
    with pytest.raises(DTypeError, match=message):
        types.STRING.unpack(b"a", 1)


@pytest.mark.parametrize("size", [0, 11, 13])
def test_unpack_takes_exactly_the_bytes_that_it_needs(size: int) -> None:
    with pytest.raises(TensorDataError, match=f"3 elements of float32 take 12 bytes, found {size}"):
        types.FLOAT32.unpack(bytes(size), 3)
    with pytest.raises(TensorDataError, match="3 elements of int4 take 2 bytes, found 3"):
        types.INT4.unpack(bytes(3), 3)
