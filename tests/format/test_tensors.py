from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from fornix import dtype as types
from fornix.dtype import ALL, DType
from fornix.errors import DTypeError, ExternalDataError, TensorDataError
from fornix.format.messages import SparseTensorProto, TensorProto
from fornix.format.tensors import (
    Layout,
    field,
    from_array,
    from_sparse,
    layout,
    to_array,
    to_sparse,
)

NUMERIC = [dtype for dtype in ALL if dtype is not types.STRING]
FIELDS = ["float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data"]

dtypes = st.sampled_from(NUMERIC)
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


def some(dtype: DType, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """An array with arbitrary bits."""
    count = math.prod(shape)
    raw = np.random.default_rng(seed).integers(0, 256, count * dtype.numpy.itemsize)
    codes = raw.astype(np.uint8)
    if dtype.bits < 8:
        codes &= 2**dtype.bits - 1
    if dtype is types.BOOL:
        codes &= 1
    return codes.view(dtype.numpy).reshape(shape)


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return (
        found.dtype == expected.dtype
        and found.shape == expected.shape
        and found.tobytes() == expected.tobytes()
    )


def refused(tensor: TensorProto, message: str) -> None:
    with pytest.raises(TensorDataError) as caught:
        to_array(tensor)
    assert str(caught.value) == message


@given(dtypes, shapes, st.integers(0, 99))
def test_from_array_writes_what_the_onnx_package_writes(
    dtype: DType, shape: tuple[int, ...], seed: int
) -> None:
    array = some(dtype, shape, seed)
    expected = numpy_helper.from_array(array, "x")
    assert from_array(array, "x").SerializeToString() == expected.SerializeToString()


@given(dtypes, shapes, st.integers(0, 99))
def test_raw_data_reads_back(dtype: DType, shape: tuple[int, ...], seed: int) -> None:
    array = some(dtype, shape, seed)
    assert same(to_array(from_array(array)), array)
    foreign = numpy_helper.from_array(array)
    assert same(to_array(foreign), numpy_helper.to_array(foreign))


@given(dtypes, shapes, st.integers(0, 99))
def test_typed_fields_read_as_in_the_onnx_package(
    dtype: DType, shape: tuple[int, ...], seed: int
) -> None:
    array = some(dtype, shape, seed)
    if dtype.kind in {"float", "complex"}:  # make_tensor converts: NaN would lose its payload
        with np.errstate(invalid="ignore"):
            array = np.where(np.isnan(array.astype(np.complex128)), 1, array).astype(dtype.numpy)
    made = helper.make_tensor("x", dtype.code, shape, array.reshape(-1))
    assert same(to_array(made), numpy_helper.to_array(made))
    assert same(to_array(made), array)


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_the_typed_field_is_that_of_the_standard(dtype: DType) -> None:
    assert field(dtype) == helper.tensor_dtype_to_field(dtype.code)


@pytest.mark.parametrize(
    ("dtype", "entries", "expected"),
    [
        (types.FLOAT16, [0x3C00, -1 << 15], [1.0, -0.0]),  # sign-extended, as some writers do
        (types.BFLOAT16, [0x3F80, 0xC000], [1.0, -2.0]),
        (types.FLOAT8E4M3FN, [0x38, 0xB8], [1.0, -1.0]),
        (types.INT4, [0x1F], [-1, 1]),
        (types.UINT2, [0b11100100], [0, 1, 2, 3]),
        (types.FLOAT6E2M3, [8, 0x28], [1.0, -1.0]),
        (types.UINT8, [200, -56], [200, 200]),
        (types.INT8, [200, -56], [-56, -56]),
        (types.BOOL, [0, 1, 256, -1], [False, True, True, True]),
    ],
    ids=str,
)
def test_int32_data_holds_bits(dtype: DType, entries: list[int], expected: list[object]) -> None:
    tensor = TensorProto(dims=[len(expected)], data_type=dtype.code, int32_data=entries)
    assert to_array(tensor).tolist() == expected


def test_complex_numbers_are_interleaved() -> None:
    tensor = TensorProto(dims=[2], data_type=14, float_data=[1, 2, 3, 4])
    assert to_array(tensor).tolist() == [1 + 2j, 3 + 4j]
    tensor = TensorProto(dims=[1], data_type=15, double_data=[1, -2])
    assert to_array(tensor).tolist() == [1 - 2j]


@given(st.lists(st.text(), max_size=5))
def test_strings_are_str_objects(texts: list[str]) -> None:
    array = np.empty(len(texts), object)
    array[:] = texts
    tensor = from_array(array, "s")
    assert tensor.SerializeToString() == numpy_helper.from_array(array, "s").SerializeToString()
    found = to_array(tensor)
    assert found.dtype == object
    assert all(type(text) is str for text in found)
    assert found.tolist() == texts


@given(st.lists(st.binary(), max_size=5))
def test_strings_that_are_not_utf_8_lose_nothing(entries: list[bytes]) -> None:
    tensor = TensorProto(dims=[len(entries)], data_type=8, string_data=entries)
    assert list(from_array(to_array(tensor)).string_data) == entries


def test_strings_may_be_bytes_or_of_fixed_width() -> None:
    assert list(from_array(np.array([b"a\xff", "b"], object)).string_data) == [b"a\xff", b"b"]
    assert list(from_array(np.array(["ä", "b"])).string_data) == ["ä".encode(), b"b"]
    assert list(from_array(np.array([b"a", b"b"])).string_data) == [b"a", b"b"]
    tensor = from_array(np.array([["a", "b"]], object))
    assert to_array(tensor).tolist() == [["a", "b"]]


def test_a_string_tensor_of_other_objects_is_refused() -> None:
    with pytest.raises(DTypeError, match="a string tensor holds str or bytes, found int"):
        from_array(np.array([1, "a"], object))


def test_a_dtype_that_onnx_lacks_is_refused() -> None:
    with pytest.raises(DTypeError, match="an element type of ONNX is required"):
        from_array(np.array(["2026-01-01"], "M8[D]"))


def test_scalars_and_foreign_byte_order_are_understood() -> None:
    assert same(to_array(from_array(np.float32(2))), np.array(2, np.float32))
    assert from_array(np.array([1], ">i4")).raw_data == b"\x01\0\0\0"
    assert not from_array(np.ones(1)).HasField("name")


def test_raw_data_is_not_writable() -> None:
    assert not to_array(from_array(np.ones(2))).flags.writeable


def test_layout_is_what_the_message_promises() -> None:
    tensor = TensorProto(dims=[3, 5], data_type=TensorProto.INT4)
    assert layout(tensor) == Layout(types.INT4, (3, 5), 15, 8)
    assert layout(TensorProto(data_type=TensorProto.DOUBLE)) == Layout(types.FLOAT64, (), 1, 8)
    assert layout(TensorProto(dims=[2], data_type=TensorProto.STRING)).nbytes == 0


@pytest.mark.parametrize("code", [0, 29, -1, 10**6])
def test_an_unknown_dtype_is_refused(code: int) -> None:
    tensor = TensorProto(name="w", data_type=code)
    refused(tensor, f"tensor 'w': data_type must be 1 to 28, found {code}")


def test_a_segment_is_refused() -> None:
    tensor = from_array(np.ones(2), "w")
    tensor.segment.begin = 0
    refused(tensor, "tensor 'w': all of its data is required, found a segment of it")


def test_negative_dims_are_refused() -> None:
    tensor = TensorProto(dims=[-1, -2], data_type=1, float_data=[1, 2])
    refused(tensor, "unnamed tensor: dims must not be negative, found [-1, -2]")


def test_a_rank_above_64_is_refused() -> None:
    tensor = TensorProto(name="w", dims=[1] * 65, data_type=1, float_data=[1])
    refused(tensor, "tensor 'w': a rank of at most 64 is required, found 65")
    del tensor.dims[0]
    assert to_array(tensor).shape == (1,) * 64


@pytest.mark.parametrize("dims", [[2**32, 2**32], [0, 2**62, 2**62], [2**62], [2**63 - 1] * 64])
def test_a_shape_beyond_memory_is_refused(dims: list[int]) -> None:
    tensor = TensorProto(name="w", dims=dims, data_type=1)
    refused(tensor, f"tensor 'w': float32{dims} is larger than memory can address")


@pytest.mark.parametrize("size", [0, 23, 25])
def test_raw_data_of_another_size_is_refused(size: int) -> None:
    tensor = TensorProto(name="w", dims=[2, 3], data_type=1, raw_data=bytes(size))
    found = "24 bytes" if size else "6 entries of float_data"
    refused(tensor, f"tensor 'w': float32[2, 3] takes {found}, found {size}")


@pytest.mark.parametrize(
    ("dtype", "needed"),
    [(types.INT4, 2), (types.UINT2, 1), (types.FLOAT6E2M3, 3), (types.FLOAT4E2M1, 2)],
    ids=str,
)
def test_packed_raw_data_of_another_size_is_refused(dtype: DType, needed: int) -> None:
    tensor = TensorProto(dims=[3], data_type=dtype.code, raw_data=bytes(needed + 1))
    refused(tensor, f"unnamed tensor: {dtype}[3] takes {needed} bytes, found {needed + 1}")


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_typed_data_of_another_size_is_refused(dtype: DType) -> None:
    tensor = TensorProto(dims=[8], data_type=dtype.code)
    needed = {2: 2, 4: 4}.get(dtype.bits, 16 if dtype.kind == "complex" else 8)
    entry = b"" if dtype is types.STRING else 0
    for count in (needed - 1, needed + 1):
        tensor.ClearField(field(dtype))  # type: ignore[arg-type]
        getattr(tensor, field(dtype)).extend([entry] * count)
        name = field(dtype)
        refused(
            tensor, f"unnamed tensor: {dtype}[8] takes {needed} entries of {name}, found {count}"
        )


@pytest.mark.parametrize("dtype", ALL, ids=str)
@pytest.mark.parametrize("other", FIELDS)
def test_the_typed_field_of_another_dtype_is_refused(dtype: DType, other: str) -> None:
    if other == field(dtype):
        return
    tensor = TensorProto(dims=[1], data_type=dtype.code)
    getattr(tensor, other).append(b"" if other == "string_data" else 0)
    refused(tensor, f"unnamed tensor: {dtype} belongs in {field(dtype)}, found {other}")


def test_raw_strings_are_refused() -> None:
    tensor = TensorProto(dims=[1], data_type=8, raw_data=b"a")
    refused(tensor, "unnamed tensor: string belongs in string_data, found raw_data")


def test_two_payloads_are_refused() -> None:
    tensor = TensorProto(name="w", dims=[1], data_type=1, raw_data=bytes(4), float_data=[0])
    refused(tensor, "tensor 'w': one payload is required, found raw_data and float_data")


def test_empty_raw_data_beside_a_payload_is_no_payload() -> None:
    tensor = TensorProto(dims=[1], data_type=1, raw_data=b"", float_data=[3])
    assert to_array(tensor).tolist() == [3]


def external(path: Path, array: np.ndarray) -> TensorProto:
    (path / "weights").write_bytes(array.tobytes())
    tensor = TensorProto(name="w", dims=array.shape, data_type=DType.of(array.dtype).code)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights")
    return tensor


def test_external_data_is_read_below_the_folder(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = external(tmp_path, array)
    assert same(to_array(tensor, str(tmp_path)), array)
    foreign = onnx.TensorProto.FromString(tensor.SerializeToString())
    assert same(to_array(foreign, str(tmp_path)), array)


def test_external_data_beside_a_payload_is_refused(tmp_path: Path) -> None:
    tensor = external(tmp_path, np.ones(1, np.float32))
    tensor.raw_data = bytes(4)
    refused(tensor, "tensor 'w': external data leaves the message empty, found raw_data")


def test_external_strings_are_refused(tmp_path: Path) -> None:
    tensor = external(tmp_path, np.ones(1, np.float32))
    tensor.data_type = TensorProto.STRING
    with pytest.raises((TensorDataError, ExternalDataError), match="tensor 'w'"):
        to_array(tensor, str(tmp_path))


@given(st.binary(max_size=64))
def test_any_bytes_give_an_array_or_a_format_error(data: bytes) -> None:
    from google.protobuf.message import DecodeError

    try:
        tensor = TensorProto.FromString(data)
    except DecodeError:
        return
    tensor.ClearField("data_location")
    try:
        to_array(tensor)
    except TensorDataError:
        return


@given(
    st.integers(0, 30),
    st.lists(st.integers(-1, 4), max_size=3),
    st.binary(max_size=16),
    st.sampled_from(["raw_data", *FIELDS]),
    st.integers(0, 9),
)
def test_any_fields_give_an_array_or_a_format_error(
    code: int, dims: list[int], raw: bytes, name: str, count: int
) -> None:
    tensor = TensorProto(data_type=code, dims=dims)
    if name == "raw_data":
        tensor.raw_data = raw
    else:
        getattr(tensor, name).extend([raw if name == "string_data" else 1] * count)
    try:
        found = to_array(tensor)
    except TensorDataError:
        return
    assert found.shape == tuple(dims)
    assert found.dtype == DType.of(code).numpy


def test_sparse_tensors_come_apart() -> None:
    made = from_sparse(np.array([5.0, 6.0]), [[0, 1], [2, 0]], [3, 2], "s")
    expected = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([5.0, 6.0]), "s"),
        numpy_helper.from_array(np.array([[0, 1], [2, 0]])),
        [3, 2],
    )
    assert made.SerializeToString() == expected.SerializeToString()
    values, indices, shape = to_sparse(expected)
    assert values.tolist() == [5, 6]
    assert indices.tolist() == [[0, 1], [2, 0]]
    assert shape == (3, 2)
    assert to_sparse(from_sparse([1.0], [5], [3, 2], "s")).indices.tolist() == [5]
    assert to_sparse(from_sparse(np.ones(0), np.ones((0, 2)), [3, 2])).values.size == 0


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (from_sparse([[1.0]], [0], [3]), "values must have rank 1, found 2"),
        (from_sparse([1.0], [0, 1], [3]), r"indices must be \[1\] or \[1, 1\], found \[2\]"),
        (from_sparse([1.0], [[0, 0]], [3]), r"indices must be \[1\] or \[1, 1\], found \[1, 2\]"),
        (from_sparse([1.0], [3], [3]), r"indices must lie within \[3\], found others"),
        (from_sparse([1.0], [[0, -1]], [3, 2]), r"indices must lie within \[3, 2\], found others"),
        (from_sparse([1.0], [0], [-3]), r"dims must not be negative, found \[-3\]"),
    ],
)
def test_a_sparse_tensor_whose_parts_disagree_is_refused(
    made: SparseTensorProto, message: str
) -> None:
    made.values.name = "s"
    with pytest.raises(TensorDataError, match=f"^sparse tensor 's': {message}$"):
        to_sparse(made)


def test_sparse_indices_are_int64() -> None:
    made = from_sparse([1.0], [0], [3], "s")
    made.indices.CopyFrom(from_array(np.array([0], np.int32)))
    with pytest.raises(TensorDataError, match="indices must be int64, found int32"):
        to_sparse(made)
