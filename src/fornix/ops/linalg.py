"""Linear algebra: MatMul, Gemm, Det. Products of float matrices go to NumPy's BLAS.

Einsum is in `einsum.py`, quantised products are in `quantize`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

import numpy as np

from fornix.dtype import FLOAT64
from fornix.errors import ConvertError, require
from fornix.ir.dim import Dim, DimLike, equal
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    index,
    reduce,
    scan,
    select,
)
from fornix.ops.call import LowerNode
from fornix.ops.elimination import check_square, exchanged, lower_pivot, square_rows
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import agreed_shape, broadcast_shapes, of_rank, shape_text
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, wide_dtype, wide_element, widened
from fornix.ops.types import BF16, FLOAT, I32, I64, U32, U64

MatMul = (
    op("MatMul (A: T, B: T) => (Y: T)", since=1, T=FLOAT)
    .since(9, T=+(I32 | I64 | U32 | U64))
    .since(13, T=+BF16)
)


@MatMul.infer
def infer_mat_mul(a: Fact, b: Fact) -> Fact:
    return tensor(a.dtype, matmul_shape(a.shape, b.shape))


@MatMul.kernel
def mat_mul(a: Array, b: Array) -> Array:
    """Matrix product of the last two axes; the axes ahead of them broadcast.

    a[…, M, K] · b[…, K, N] → y[…, M, N]; a vector on either side loses its axis in the result.
    Accumulates float16 and bfloat16 in float32; integers wrap. Source: ONNX MatMul-13.
    """
    matmul_shape(a.shape, b.shape)
    return multiply(widened(a), widened(b)).astype(a.dtype, copy=False)


@MatMul.lower
def lower_mat_mul(a: Tensor, b: Tensor) -> Tensor:
    return cast_tensor(lower_multiply(a, b), a.dtype)


def lower_multiply(
    a: Tensor, b: Tensor, product: Callable[[Scalar, Scalar], Scalar] = operator.mul
) -> Tensor:
    """The sums of ``product`` over rows and columns, in the wide dtype of their elements."""
    shape = matmul_shape(a.shape, b.shape)
    columns = min(b.rank, 2) - 1
    ends = a.shape[-1], b.shape[-1 - columns]
    inner = next((extent for extent in ends if isinstance(extent, int)), ends[0])

    def at(*i: DimLike) -> Scalar:
        lead, n = i[: len(i) - columns], i[len(i) - columns :]
        batch, m = (lead, ()) if a.rank == 1 else (lead[:-1], lead[-1:])
        return reduce(
            "sum",
            inner,
            lambda k: product(wide_element(a, (*batch, *m, k)), wide_element(b, (*batch, k, *n))),
        )

    return compute(shape, at)


def matmul_shape(a: Sequence[DimLike], b: Sequence[DimLike]) -> tuple[DimLike, ...]:
    """Shape of the product of tensors of these shapes, checked."""
    require(a and b, f"A and B must have an axis, got A{shape_text(a)} and B{shape_text(b)}")
    inner = b[-2] if len(b) > 1 else b[0]
    require(
        equal(a[-1], inner) is not False,
        f"the last axis of A must equal the rows of B, got A{shape_text(a)} and B{shape_text(b)}",
    )
    return (*broadcast_shapes(a[:-2], b[:-2]), *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))


def multiply(a: Array, b: Array) -> Array:
    """The product in the dtype of ``a`` and ``b``; one with a single matrix is one BLAS call."""
    if a.ndim > 2 and b.ndim == 2 and a.flags.c_contiguous:
        rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        return (rows @ b).reshape(*a.shape[:-1], b.shape[-1])
    return np.asarray(np.matmul(a, b))


Gemm = (
    op("""Gemm <alpha: float = 1.0, beta: float = 1.0, broadcast: int = 0, transA: int = 0,
                transB: int = 0>
               (A: T, B: T, C: T) => (Y: T)""", since=1, T=FLOAT)
    .since(6)
    .since(7, """Gemm <alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0>
                      (A: T, B: T, C: T) => (Y: T)""")
    .since(9, T=+(I32 | I64 | U32 | U64))
    .since(11, """Gemm <alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0>
                       (A: T, B: T, C: T?) => (Y: T)""")
    .since(13, T=+BF16)
)  # fmt: skip


@Gemm.infer
def infer_gemm(
    a: Fact,
    b: Fact,
    c: Fact | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    broadcast: int = 1,
) -> Fact:
    shape = _gemm_shape(of_rank(a, 2, "A").shape, of_rank(b, 2, "B").shape, transA, transB)
    if c is not None and c.has_rank:
        _check_addend(c.shape, shape, broadcast)
    return tensor(a.dtype, shape if broadcast else agreed_shape(shape, c))


@Gemm.kernel
def gemm(
    a: Array,
    b: Array,
    c: Array | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    broadcast: int = 1,
) -> Array:
    """Product of two matrices plus a third: alpha · A′ · B′ + beta · C; ′ transposes on demand.

    a[M, K] · b[K, N] + c → y[M, N]; c broadcasts to the result (before opset 7 only with
    ``broadcast``). Accumulates float16 and bfloat16 in float32; integers wrap, and are truncated
    after multiplication with alpha or beta other than 1. Source: ONNX Gemm-13.
    """
    shape = _gemm_shape(a.shape, b.shape, transA, transB)
    left, right = widened(a.T if transA else a), widened(b.T if transB else b)
    y = _scaled(left @ right, alpha)
    if c is not None:
        _check_addend(c.shape, shape, broadcast)
        y += _scaled(widened(c), beta)
    return y.astype(a.dtype, copy=False)


@Gemm.lower
def lower_gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    broadcast: int = 1,
) -> Tensor:
    shape = _gemm_shape(a.shape, b.shape, transA, transB)
    inner, wide = a.shape[0 if transA else 1], wide_dtype(a.dtype)

    def at(m: DimLike, n: DimLike) -> Scalar:
        def product(k: DimLike) -> Scalar:
            left, right = a[(k, m) if transA else (m, k)], b[(n, k) if transB else (k, n)]
            return cast(left, wide) * cast(right, wide)

        y = _scaled_scalar(reduce("sum", inner, product), alpha)
        if c is not None:
            y = y + _scaled_scalar(wide_element(c, (m, n)), beta)
        return cast(y, a.dtype)

    return compute(shape, at)


def _scaled_scalar(x: Scalar, factor: float) -> Scalar:
    """As `_scaled`, of one element."""
    if factor == 1:
        return x
    return x * factor if x.dtype.is_float else cast(cast(x, FLOAT64) * factor, x.dtype)


@Gemm.adapt(6, 7)
def gemm_6_to_7(node: Node, _: Graph) -> None:
    _check_matrices(node)
    node.remove_attribute("broadcast")


@Gemm.adapt(7, 6)
def gemm_7_to_6(node: Node, _: Graph) -> None:
    _check_matrices(node)
    node.set_attribute("broadcast", 1)


def _check_matrices(node: Node) -> None:
    """Raise ConvertError if A or B is known to be no matrix: there is no meaning to keep."""
    for name, value in zip("AB", node.inputs, strict=False):
        shape = None if value is None else getattr(value.type, "shape", None)
        if shape is not None and len(shape) != 2:
            raise ConvertError(f"{name} must be a matrix, got {name}{shape_text(shape)}")


def _gemm_shape(
    a: Sequence[DimLike], b: Sequence[DimLike], transpose_a: int, transpose_b: int
) -> tuple[DimLike, DimLike]:
    require(
        len(a) == 2 and len(b) == 2,
        f"A and B must be matrices, got A{shape_text(a)} and B{shape_text(b)}",
    )
    m, k = reversed(a) if transpose_a else a
    rows, n = reversed(b) if transpose_b else b
    flags = f"transA={transpose_a}, transB={transpose_b}"
    require(
        equal(k, rows) is not False,
        f"A and B must have one inner extent, got A{shape_text(a)} and B{shape_text(b)} "
        f"with {flags}",
    )
    return m, n


def _check_addend(c: Sequence[DimLike], shape: Sequence[DimLike], broadcast: int) -> None:
    """Raise ShapeError unless C may be added to a product of ``shape``."""
    matches = len(c) <= len(shape) and all(
        n == 1 or equal(n, m) is not False for n, m in zip(c[::-1], shape[::-1], strict=False)
    )
    require(matches, f"C{shape_text(c)} must broadcast to the product's shape {shape_text(shape)}")
    if not broadcast:
        equals = len(c) == 2 and all(
            equal(n, m) is not False for n, m in zip(c, shape, strict=True)
        )
        require(
            equals,
            f"C must have the product's shape {shape_text(shape)}, got C{shape_text(c)}; "
            "set broadcast=1",
        )


def _scaled(x: Array, factor: float) -> Array:
    """``x · factor`` in the dtype of ``x``, integers truncated."""
    if factor == 1:
        return x
    if x.dtype.kind == "f":
        return np.asarray(x * x.dtype.type(factor))
    return np.asarray(x * np.float64(factor)).astype(x.dtype)


Det = (
    op("Det (X: T) => (Y: T)", since=11, T=FLOAT)
    .since(22, T=+BF16)
)  # fmt: skip


@Det.infer
def infer_det(x: Fact) -> Fact:
    check_square(x.shape)
    return tensor(x.dtype, x.shape[:-2])


@Det.kernel
def det(x: Array) -> Array:
    """Determinant of each square matrix: x[…, M, M] → y[…].

    Computes float16 and bfloat16 in float32. Source: ONNX Det-22.
    """
    check_square(x.shape)
    return np.asarray(np.linalg.det(widened(x))).astype(x.dtype, copy=False)


@Det.lower
def lower_det(x: Tensor, *, node: LowerNode) -> Tensor:
    """Gaussian elimination: in step t the largest element of column t is the pivot.

    The matrix keeps the rows and columns before t; the product of the pivots goes along.
    """
    rows = square_rows(x, node)
    wide, batch = cast_tensor(x, FLOAT64), x.shape[:-2]

    def step(t: Dim, product: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        pivot = lower_pivot(a, rows, t)

        def turned(*b: DimLike) -> Scalar:
            value = product[b] * a[(*b, pivot[b], t)]
            return select(apply("eq", pivot[b], index(t)), value, -value)

        def eliminated(*i: DimLike) -> Scalar:
            (*b, r, c), p = i, pivot[i[:-2]]
            here = exchanged(r, t, p)
            divisor = a[(*b, p, t)]
            factor = select(apply("eq", divisor, 0), 0, a[(*b, here, t)] / divisor)
            below = a[(*b, here, c)] - factor * a[(*b, p, c)]
            return select(index(r) > index(t), below, a[i])

        return compute(batch, turned), compute(a.shape, eliminated)

    ones = compute(batch, lambda *_: 1, wide.dtype)
    products, _ = scan(rows, [ones, wide], step)
    return compute(batch, lambda *b: cast(products[(rows, *b)], x.dtype))
