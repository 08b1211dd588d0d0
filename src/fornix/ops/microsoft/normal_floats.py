"""Products with weights of 4 bits that stand for numbers of a table: MatMulBnb4."""

from __future__ import annotations

import numpy as np

from fornix.dtype import FLOAT32, INT32
from fornix.errors import require
from fornix.ir.dim import DimLike
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, constant, gathered, index, reduce
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.linalg import matmul_shape, multiply
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.blocks import check_elements, of_shape
from fornix.ops.op import op
from fornix.ops.precision import widened
from fornix.ops.types import BF16, F16, F32, U8

MatMulBnb4 = op(
    """MatMulBnb4 <K: int, N: int, block_size: int, quant_type: int, training_mode: int = 0,
                   transB: int = 1>
                  (A: T1, B: T2, absmax: T1) => (Y: T1)""",
    since=1, domain=DOMAIN, T1=BF16 | F16 | F32, T2=U8,
)  # fmt: skip

FP4 = (0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4)
"""Magnitudes of floats with two bits of exponent and one of mantissa, parts of the greatest."""
NF4 = (
    -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1,
)  # fmt: skip
"""Means of quantiles of a normal distribution: QLoRA, Dettmers and others, 2023, appendix E."""
TABLES = {
    0: np.array([*FP4, *(-x for x in FP4)], np.float32),
    1: np.array(NF4, np.float32),
}
"""What 4 bits stand for, by quant_type."""


def _checked(K: int, N: int, block_size: int, quant_type: int, transB: int) -> tuple[int, int]:
    """The shape of the right factor."""
    require(quant_type in TABLES, f"quant_type must be 0 (FP4) or 1 (NF4), got {quant_type}")
    require(block_size > 0, f"block_size must be positive, got {block_size}")
    return (K, N) if transB else (N, K)


@MatMulBnb4.infer
def infer_mat_mul_bnb4(
    a: Fact,
    b: Fact,
    absmax: Fact,
    *,
    K: int,
    N: int,
    block_size: int,
    quant_type: int,
    transB: int,
    **_training: int,
) -> Fact:
    shape = _checked(K, N, block_size, quant_type, transB)
    check_elements("B", b, (-(-N * K // 2),))
    check_elements("absmax", absmax, (-(-N * K // block_size),))
    return tensor(a.dtype, matmul_shape(a.shape, shape))


@MatMulBnb4.kernel
def mat_mul_bnb4(
    a: Array,
    b: Array,
    absmax: Array,
    *,
    K: int,
    N: int,
    block_size: int,
    quant_type: int,
    transB: int,
    **_training: int,
) -> Array:
    """Product with a matrix of 4 bits each, numbers of a table times the greatest of their block.

    Y = A · Wᵀ, or A · W with transB 0, W[N, K] = table[B] · absmax, of which each byte of B holds
    two elements, the first in its upper bits, and each block_size elements, row after row, have one
    absmax. A[…, K] → Y[…, N]. The table is FP4's (quant_type 0) or NF4's (1).
    Source: onnxruntime's contributed operators, MatMulBnb4-1.
    """
    shape = _checked(K, N, block_size, quant_type, transB)
    matmul_shape(a.shape, shape)
    steps = np.stack([b.reshape(-1) >> 4, b.reshape(-1) & 15], axis=1).reshape(-1)[: N * K]
    scales = np.repeat(widened(absmax).reshape(-1), block_size)[: N * K]
    weights = (TABLES[quant_type][steps] * scales).reshape(N, K)
    y = multiply(widened(a), weights.T if transB else weights)
    return y.astype(a.dtype, copy=False)


@MatMulBnb4.lower
def lower_mat_mul_bnb4(
    a: Tensor,
    b: Tensor,
    absmax: Tensor,
    *,
    K: int,
    N: int,
    block_size: int,
    quant_type: int,
    transB: int,
    node: LowerNode,
    **_training: int,
) -> Tensor:
    rows, columns = _checked(K, N, block_size, quant_type, transB)
    packed = of_shape(b, (-(-N * K // 2),), node)
    scales = of_shape(absmax, (-(-N * K // block_size),), node)
    table = constant(TABLES[quant_type])

    def weight(n: DimLike, k: DimLike) -> Scalar:
        place = n * K + k
        shift = cast(index((place // 2 * 2 + 1 - place) * 4), INT32)
        step = apply("and", apply("shr", cast(packed[place // 2], INT32), shift), 15)
        return table[gathered(step, 16)] * cast(scales[place // block_size], FLOAT32)

    def at(*i: DimLike) -> Scalar:
        *lead, n = i

        def term(k: DimLike) -> Scalar:
            return cast(a[(*lead, k)], FLOAT32) * (weight(n, k) if transB else weight(k, n))

        return cast(reduce("sum", rows, term), a.dtype)

    return compute((*a.shape[:-1], columns), at)
