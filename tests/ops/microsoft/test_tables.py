from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import fornix
from fornix.errors import ShapeError
from tests.ops.harness import check_lowering, check_node, run_op
from tests.ops.microsoft.peer import DOMAIN, agree

NAME = "GatherBlockQuantized"
WHERE: dict[str, Any] = {"domain": DOMAIN, "opset": 1}


def case(
    dtype: Any, *, bits: int = 4, block: int = 16, columns: int = 48, axes: tuple[int, int] = (0, 1)
) -> tuple[list[Any], dict[str, int]]:
    """A table[7, columns] and its scales; ``bits`` are those of an element."""
    rng = np.random.default_rng(5)
    shape, per_byte = [7, columns], 8 // bits if dtype is np.uint8 else 1
    count = [*shape]
    count[axes[1]] = -(-shape[axes[1]] // block)
    low, high = (0, 256) if dtype is np.uint8 else (0, 16) if dtype is ml_dtypes.uint4 else (-8, 8)
    data = rng.integers(low, high, (shape[0], columns // per_byte)).astype(dtype)
    scales = rng.uniform(0.01, 0.1, count).astype(np.float32)
    zeros = rng.integers(low, high, (count[0], -(-count[1] // per_byte))).astype(dtype)
    given = {"block_size": block, "gather_axis": axes[0], "quantize_axis": axes[1]}
    return [data, scales, zeros], given | ({"bits": bits} if dtype is np.uint8 else {})


def table_model(inputs: list[Any], given: dict[str, int], shape: list[Any]) -> bytes:
    """A model that asks for rows of a table it stores."""
    names = ["data", "ids", "scales", "zeros"][: len(inputs)]
    stored = [
        numpy_helper.from_array(array, name)
        for array, name in zip(inputs, names, strict=True)
        if name != "ids" and array is not None
    ]
    used = ["" if array is None else name for array, name in zip(inputs, names, strict=True)]
    graph = helper.make_graph(
        [helper.make_node(NAME, used, ["y"], domain=DOMAIN, **given)],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        stored,
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return bytes(model.SerializeToString())


def agree_stored(inputs: list[Any], given: dict[str, int]) -> None:
    """`agree` for types that onnxruntime takes from a file alone."""
    model = table_model(inputs, given, list(inputs[1].shape))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"ids": inputs[1]})
    check_node(NAME, inputs, given, expected=expected, **WHERE)
    check_lowering(NAME, inputs, given, **WHERE)


INDICES = np.array([[0, 6, -1], [3, 3, -7]], np.int64)


@pytest.mark.parametrize("has_zeros", [False, True])
@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4, np.uint8])
@pytest.mark.parametrize("columns", [16, 48, 72])
def test_rows_of_half_bytes_are_floats(dtype: Any, columns: int, has_zeros: bool) -> None:
    (data, scales, zeros), given = case(dtype, columns=columns)
    agree_stored([data, INDICES, scales, zeros if has_zeros else None], given)


@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("has_zeros", [False, True])
def test_rows_of_bytes_and_quarters_are_floats(bits: int, has_zeros: bool) -> None:
    (data, scales, zeros), given = case(np.uint8, bits=bits, block=32, columns=96)
    agree(NAME, [data, INDICES.astype(np.int32), scales, zeros if has_zeros else None], given)


@pytest.mark.parametrize("axes", [(0, 0), (1, 0), (1, 1)])
def test_rows_and_blocks_are_along_any_axis(axes: tuple[int, int]) -> None:
    (data, scales, zeros), given = case(ml_dtypes.int4, axes=axes)
    agree_stored([data, INDICES, scales, zeros], given)


def test_a_row_beyond_the_table_is_zero() -> None:
    (data, scales, zeros), given = case(np.uint8)
    outside = np.array([7, -8, 2**40, 5], np.int64)
    (y,) = agree(NAME, [data, outside, scales, zeros], given)
    assert not y[:3].any()
    assert y[3].any()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_are_rounded_once(dtype: Any) -> None:
    (data, scales, zeros), given = case(np.uint8)
    inputs = [data, INDICES, scales.astype(dtype), zeros]
    wide = [data, INDICES, scales.astype(dtype).astype(np.float32), zeros]
    expected = run_op(NAME, wide, given, **WHERE)[0].astype(dtype)
    check_node(NAME, inputs, given, expected=[expected], **WHERE)
    check_lowering(NAME, inputs, given, **WHERE)


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float4_e2m1fn])
@pytest.mark.parametrize("size", [0, 16])
def test_tables_of_floats_may_have_one_scale_for_all_rows(dtype: Any, size: int) -> None:
    data = np.random.default_rng(5).uniform(-4, 4, (7, 48)).astype(dtype)
    scales = np.array([[0.5, 2.0, 3.0]] if size else [[0.5]], np.float32)
    expected = data.astype(np.float32)[INDICES] * np.repeat(scales, size or 48, axis=1)
    given = {"block_size": size}
    check_node(NAME, [data, INDICES, scales], given, expected=[expected], **WHERE)
    check_lowering(NAME, [data, INDICES, scales], given, **WHERE)


def test_no_indices_give_no_rows() -> None:
    (data, scales, zeros), given = case(np.uint8)
    agree(NAME, [data, INDICES[:0], scales, zeros], given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 3}, "bits must be 2, 4 or 8, got 3"),
        ({"block_size": 0}, "block_size must be positive, got 0"),
        ({"block_size": 32}, r"scales must be scales\[7, 2\], got scales\[7, 3\]"),
        ({"quantize_axis": 0}, "gather_axis must be 0 and quantize_axis another for bytes"),
    ],
)
def test_attributes_that_fit_no_table_are_refused(change: dict[str, int], message: str) -> None:
    (data, scales, zeros), given = case(np.uint8)
    with pytest.raises(ShapeError, match=message):
        run_op(NAME, [data, INDICES, scales, zeros], given | change, **WHERE)


def test_tables_that_fit_no_scales_are_refused() -> None:
    (data, scales, zeros), given = case(np.uint8)
    with pytest.raises(ShapeError, match=r"zero_points must be zero_points\[7, 2\]"):
        run_op(NAME, [data, INDICES, scales, zeros[:, :1]], given, **WHERE)
    with pytest.raises(ShapeError, match=r"data\[0, 24\] must have a row to ask for"):
        run_op(NAME, [data[:0], INDICES, scales[:0], zeros[:0]], given, **WHERE)
    floats = data.astype(ml_dtypes.float8_e5m2)
    with pytest.raises(ShapeError, match="zero_points must be left out beside floats"):
        run_op(NAME, [floats, INDICES, scales, floats[:, :3]], {"block_size": 16}, **WHERE)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_session_takes_rows_natively_for_any_number_of_them(threads: int) -> None:
    (data, scales, zeros), given = case(np.uint8, bits=4, block=32, columns=96)
    model = table_model([data, INDICES, scales, zeros], given, ["n", "t"])
    options = fornix.SessionOptions()
    options.intra_op_num_threads = threads
    session = fornix.InferenceSession(model, options)
    theirs = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert all(part.kernels for part in session.placement())
    rng = np.random.default_rng(7)
    for shape in ((1, 1), (2, 9), (0, 3), (5, 40)):
        feed = {"ids": rng.integers(-9, 9, shape)}
        np.testing.assert_array_equal(session.run(None, feed)[0], theirs.run(None, feed)[0])
