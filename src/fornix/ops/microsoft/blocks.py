"""Products with weights of 2, 4 or 8 bits that have a scale for each block: MatMulNBits."""

from __future__ import annotations

import numpy as np

from fornix.errors import NotSupported, require
from fornix.ops.call import InferNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.linalg import matmul_shape, multiply
from fornix.ops.microsoft import DOMAIN
from fornix.ops.op import op
from fornix.ops.precision import widened
from fornix.ops.types import BF16, F16, F32, I32, U8

MatMulNBits = op(
    """MatMulNBits <K: int, N: int, accuracy_level: int = 0, bits: int = 4, block_size: int,
                    weight_prepacked: int = 0>
                   (A: T1, B: T2, scales: T1, zero_points: T3?, g_idx: T4?, bias: T1?)
                => (Y: T1)""",
    since=1, domain=DOMAIN, T1=BF16 | F16 | F32, T2=U8, T3=BF16 | F16 | F32 | U8, T4=I32,
).opaque("its weights are fields of bits")  # fmt: skip

WIDTHS = (2, 4, 8)
"""Bits that a weight may have."""


@MatMulNBits.infer
def infer_mat_mul_n_bits(
    a: Fact,
    b: Fact,
    scales: Fact,
    zero_points: Fact | None = None,
    g_idx: Fact | None = None,
    bias: Fact | None = None,
    *,
    K: int,
    N: int,
    accuracy_level: int,
    bits: int,
    block_size: int,
    weight_prepacked: int,
    node: InferNode,
) -> Fact:
    _check(bits, block_size, g_idx, weight_prepacked)
    return tensor(a.dtype, matmul_shape(a.shape, (K, N)))


def _check(bits: int, block_size: int, g_idx: object, weight_prepacked: int) -> None:
    require(bits in WIDTHS, f"bits must be 2, 4 or 8, got {bits}")
    require(block_size > 0, f"block_size must be positive, got {block_size}")
    require(g_idx is None, "g_idx must be left out: blocks in their order are read", NotSupported)
    require(
        not weight_prepacked, f"weight_prepacked must be 0, got {weight_prepacked}", NotSupported
    )


@MatMulNBits.kernel
def mat_mul_n_bits(
    a: Array,
    b: Array,
    scales: Array,
    zero_points: Array | None = None,
    g_idx: Array | None = None,
    bias: Array | None = None,
    *,
    K: int,
    N: int,
    accuracy_level: int,
    bits: int,
    block_size: int,
    weight_prepacked: int,
) -> Array:
    """Product with a matrix of small integers that have a scale for each block of a column.

    Y = A · W + bias,   W[k, n] = (B[n, k] − zero_points[n, j]) · scales[n, j], j = k / block_size
    A[…, K] · B[N, ⌈K / block_size⌉, block_size · bits / 8], of which each byte holds 8 / bits
    elements, the first in its lowest bits; zero_points are packed alike, or of the scales' type,
    and 2^(bits − 1) if absent. Multiplies in float32, whatever accuracy_level allows.
    Source: onnxruntime's contributed operators, MatMulNBits-1.
    """
    _check(bits, block_size, g_idx, weight_prepacked)
    matmul_shape(a.shape, (K, N))
    count = -(-K // block_size)
    size = N * count * block_size * bits // 8
    require(b.size == size, f"B must have {size} bytes, got B{shape_text(b.shape)}")
    steps = _unpacked(b.reshape(N, -1), bits).reshape(N, count, block_size).astype(np.float32)
    steps -= _origins(zero_points, (N, count), bits)[:, :, None]
    steps *= widened(_per_block("scales", scales, (N, count)))[:, :, None]
    weights = steps.reshape(N, count * block_size)[:, :K]
    y = multiply(widened(a), weights.T)
    return (y if bias is None else y + widened(bias)).astype(a.dtype, copy=False)


def _unpacked(packed: Array, bits: int) -> Array:
    """The fields of ``bits`` in the bytes of each row, lowest first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields: Array = (packed[..., None] >> shifts) & np.uint8(2**bits - 1)
    return fields.reshape(*packed.shape[:-1], -1)


def _origins(zero_points: Array | None, shape: tuple[int, int], bits: int) -> Array:
    """The zero point of each block, as float32."""
    if zero_points is None:
        return np.full(shape, 2 ** (bits - 1), np.float32)
    if zero_points.dtype != np.uint8:
        return widened(_per_block("zero_points", zero_points, shape))
    rows, count = shape
    width = -(-count * bits // 8)
    require(
        zero_points.size == rows * width,
        f"zero_points must have {rows * width} bytes, got shape {shape_text(zero_points.shape)}",
    )
    return _unpacked(zero_points.reshape(rows, width), bits)[:, :count].astype(np.float32)


def _per_block(name: str, values: Array, shape: tuple[int, int]) -> Array:
    rows, count = shape
    require(
        values.size == rows * count,
        f"{name} must have shape {shape_text(shape)}, got {name}{shape_text(values.shape)}",
    )
    return values.reshape(rows, count)
