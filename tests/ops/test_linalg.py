from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.dtype import FLOAT32
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.call import NotLowered
from fornix.ops.fact import tensor
from tests.ops.harness import check_lowering, check_node, infer_op, lower_op, peer, run_op

F32_SUM = 1e-5
"""Up to 64 products of size 1, summed in another order."""

B, S, N = (symbol(name) for name in "BSN")

SHAPES = [
    ((3, 4), (4, 5)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((7, 1, 3, 4), (2, 4, 5)),
    ((4,), (4, 5)),
    ((4,), (3, 4, 5)),
    ((3, 4), (4,)),
    ((2, 3, 4), (4,)),
    ((4,), (4,)),
    ((0, 4), (4, 5)),
    ((3, 0), (0, 5)),
]


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_matmul_agrees_with_numpy(a: tuple[int, ...], b: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-9, 9, shape).astype(dtype) for shape in (a, b))
    check_node("MatMul", [x, y], expected=[np.asarray(np.matmul(x, y))], rtol=F32_SUM)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_matmul_rounds_narrow_floats_once(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(dtype) for s in ((8, 256), (256, 8)))
    exact = (a.astype(np.float64) @ b.astype(np.float64)).astype(dtype)
    step = float(ml_dtypes.finfo(dtype).eps)
    check_node("MatMul", [a, b], expected=[exact], rtol=step, atol=1e-5)


def test_unsigned_products_wrap() -> None:
    a = np.full((1, 2), 2**31, np.uint32)
    check_node("MatMul", [a, np.full((2, 1), 3, np.uint32)], expected=[np.zeros((1, 1), np.uint32)])


def test_matmul_infers_symbolic_batches() -> None:
    [y] = infer_op("MatMul", [tensor(FLOAT32, (B, S, 768)), tensor(FLOAT32, (768, N))])
    assert y.shape == (B, S, N)
    [y] = infer_op("MatMul", [tensor(FLOAT32, (B, 12, S, 64)), tensor(FLOAT32, (B, 12, 64, S))])
    assert y.shape == (B, 12, S, S)


@pytest.mark.parametrize("addend", [None, (), (1,), (5,), (3, 1), (1, 5), (3, 5)])
@pytest.mark.parametrize("flags", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, -2.0)])
def test_gemm_agrees_with_onnxruntime(
    addend: tuple[int, ...] | None, flags: tuple[int, int], alpha: float, beta: float
) -> None:
    rng = np.random.default_rng(0)
    shapes = [(3, 4)[:: -1 if flags[0] else 1], (4, 5)[:: -1 if flags[1] else 1]]
    shapes += [] if addend is None else [addend]
    inputs = [rng.standard_normal(s, dtype=np.float32) for s in shapes]
    inputs = [np.asarray(value, np.float32) for value in inputs]
    attributes = {"transA": flags[0], "transB": flags[1], "alpha": alpha, "beta": beta}
    expected = peer("Gemm", inputs, attributes)
    check_node("Gemm", inputs, attributes, expected=expected, rtol=F32_SUM, atol=F32_SUM)


def test_gemm_before_7_broadcasts_on_demand_only() -> None:
    a, b, c = np.ones((2, 3), np.float32), np.ones((3, 2), np.float32), np.ones(2, np.float32)
    full = np.full((2, 2), 4, np.float32)
    for opset in (1, 6):
        check_node("Gemm", [a, b, c], {"broadcast": 1}, opset=opset, expected=[full])
        check_node("Gemm", [a, b, np.ones((2, 2), np.float32)], opset=opset, expected=[full])
        with pytest.raises(ShapeError, match=r"C must have the product's shape \[2, 2\], got C\[2"):
            run_op("Gemm", [a, b, c], opset=opset)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_gemm_truncates_scaled_integers(dtype: Any) -> None:
    a, b = np.full((1, 1), 3, dtype), np.full((1, 1), 5, dtype)
    check_node("Gemm", [a, b], expected=[np.full((1, 1), 15, dtype)])
    check_node("Gemm", [a, b], {"alpha": 0.5}, expected=[np.full((1, 1), 7, dtype)])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_gemm_rounds_narrow_floats_once(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(s).astype(dtype) for s in ((4, 64), (64, 4), (4,)))
    exact = (a.astype(float) @ b.astype(float) * 0.5 + c.astype(float)).astype(dtype)
    step = float(ml_dtypes.finfo(dtype).eps)
    check_node("Gemm", [a, b, c], {"alpha": 0.5}, expected=[exact], rtol=step, atol=1e-5)


def test_the_determinant_of_a_product_is_the_product_of_determinants() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 4, 4)), rng.standard_normal((2, 3, 4, 4))
    product = run_op("Det", [a])[0] * run_op("Det", [b])[0]
    check_node("Det", [a @ b], expected=[product], rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_the_determinant_of_a_triangular_matrix_is_its_diagonals_product(dtype: Any) -> None:
    x = np.triu(np.arange(1, 10).reshape(3, 3)).astype(dtype)
    check_node("Det", [x], expected=[np.asarray(45, dtype)], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 5, 5), (2, 1, 4, 4), (9, 9)])
def test_determinants_are_lowered(shape: tuple[int, ...], dtype: Any) -> None:
    x = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    steps = 64 * np.finfo(dtype).eps
    check_lowering("Det", [x], rtol=float(steps), atol=float(steps), symbolic=False)


def test_loops_choose_pivots_and_tell_singular_matrices() -> None:
    turned = np.eye(4)[[2, 0, 3, 1]] * 3
    singular = np.arange(16.0).reshape(4, 4)
    singular[1] = singular[0]
    tiny = np.diag([1e-200, 1.0, 1.0, 1e200])[::-1]
    infinite, unknown = np.diag([math.inf, 1.0, 2.0, 1.0]), np.diag([1.0, math.nan, 1.0, 1.0])
    x = np.stack([turned, singular, tiny, infinite, unknown])
    [found] = lower_op("Det", [x])
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(found, np.linalg.det(x), rtol=1e-12)


def test_large_and_unknown_matrices_keep_the_kernel() -> None:
    with pytest.raises(NotLowered, match="LAPACK is faster for matrices of 33 rows"):
        lower_op("Det", [np.eye(33)])
    with pytest.raises(NotLowered, match="the size of its matrices is known at run time only"):
        lower_op("Det", [np.eye(3)], is_symbolic=True)


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("MatMul", [zeros(2, 3), zeros(4, 5)],
         r"the last axis of A must equal the rows of B, got A\[2, 3\] and B\[4, 5\]"),
        ("MatMul", [zeros(), zeros(4, 5)], r"A and B must have an axis, got A\[\] and B\[4, 5\]"),
        ("MatMul", [zeros(2, 1, 3), zeros(3, 3, 1)], "shapes must broadcast"),
        ("Gemm", [zeros(2, 3, 1), zeros(3, 1)],
         r"A and B must be matrices, got A\[2, 3, 1\] and B\[3, 1\]"),
        ("Gemm", [zeros(2, 3), zeros(2, 3)],
         r"A and B must have one inner extent, got A\[2, 3\] and B\[2, 3\] with transA=0, tr"),
        ("Gemm", [zeros(2, 3), zeros(3, 2), zeros(3)],
         r"C\[3\] must broadcast to the product's shape \[2, 2\]"),
        ("Det", [zeros(2, 3)], r"X must end in a square matrix, got X\[2, 3\]"),
        ("Det", [zeros(2)], r"X must end in a square matrix, got X\[2\]"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_named(name: str, inputs: list[Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op(name, inputs)
    with pytest.raises(ShapeError, match=message):
        infer_op(name, [tensor(FLOAT32, x.shape) for x in inputs])


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.uint64])
def test_lowered_matmul_equals_its_kernel(
    a: tuple[int, ...], b: tuple[int, ...], dtype: Any
) -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.integers(0, 9, shape).astype(dtype) for shape in (a, b)]
    check_lowering("MatMul", inputs)


@pytest.mark.parametrize("addend", [None, (), (5,), (3, 1), (3, 5)])
@pytest.mark.parametrize("flags", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32])
def test_lowered_gemm_equals_its_kernel(
    addend: tuple[int, ...] | None, flags: tuple[int, int], dtype: Any
) -> None:
    rng = np.random.default_rng(0)
    shapes = [(3, 4)[:: -1 if flags[0] else 1], (4, 5)[:: -1 if flags[1] else 1]]
    shapes += [] if addend is None else [addend]
    inputs = [np.asarray(rng.integers(-9, 9, s)).astype(dtype) for s in shapes]
    attributes = {"transA": flags[0], "transB": flags[1], "alpha": 0.5, "beta": 3.0}
    check_lowering("Gemm", inputs, attributes, rtol=1e-3, atol=F32_SUM)
