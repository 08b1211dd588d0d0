"""Layers of diffusion models: NhwcConv, SkipGroupNorm, BiasAdd, BiasSplitGelu.

onnxruntime's transformer optimizer writes them for processors other than this one; images have
their channels last. Sessions have passes rewrite most of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np

from fornix.dtype import FLOAT32
from fornix.errors import require
from fornix.ir.dim import DimLike, divide, known
from fornix.ir.loops import Scalar, Tensor, cast, compute, stored
from fornix.ops.activation import gelu
from fornix.ops.call import RunNode
from fornix.ops.conv import conv, infer_conv, lower_conv
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.images import group_norm, infer_group_norm, lower_group_norm
from fornix.ops.microsoft.last_channels import infer_first, infer_last, lower_first, lower_last
from fornix.ops.microsoft.shapes import check_extents, check_shape
from fornix.ops.op import op
from fornix.ops.pointwise import of_first
from fornix.ops.precision import widened
from fornix.ops.scalar import Operand
from fornix.ops.types import F16, F32, FLOAT
from fornix.ops.window import WindowAttributes

NhwcConv = op(
    """NhwcConv <auto_pad: string = "NOTSET", dilations: ints?, group: int = 1,
                 kernel_shape: ints?, pads: ints?, strides: ints?>
                (X: T, W: T, B: T?) => (Y: T)""",
    since=1, domain=DOMAIN, T=FLOAT,
)  # fmt: skip


@NhwcConv.infer
def infer_nhwc_conv(
    x: Fact,
    w: Fact,
    b: Fact | None = None,
    *,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Fact:
    image, filters = infer_first(x), infer_first(w)
    return infer_last(
        infer_conv(image, filters, b, group=group, kernel_shape=kernel_shape, **window)
    )


@NhwcConv.kernel
def nhwc_conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Array:
    """The standard's Conv of images and filters with their channels last.

    x[N, *S, C] · w[M, *K, C/group] + b[M] → y[N, *O, M].
    Source: onnxruntime's contributed operators, NhwcConv-1.
    """
    image, filters = (np.ascontiguousarray(np.moveaxis(of, -1, 1)) for of in (x, w))
    y = conv(image, filters, b, group=group, kernel_shape=kernel_shape, **window)
    return np.ascontiguousarray(np.moveaxis(y, 1, -1))


@NhwcConv.lower
def lower_nhwc_conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Tensor:
    image, filters = lower_first(x), lower_first(w)
    return lower_last(
        lower_conv(image, filters, b, group=group, kernel_shape=kernel_shape, **window)
    )


SkipGroupNorm = op(
    """SkipGroupNorm <activation: int, channels_last: int = 1, epsilon: float = 1e-05, groups: int>
                     (X: T, gamma: M, beta: M, skip: T, bias: T?) => (Y: T, S: T?)""",
    since=1, domain=DOMAIN, T=F16 | F32, M=F16 | F32,
)  # fmt: skip


@SkipGroupNorm.infer
def infer_skip_group_norm(
    x: Fact,
    gamma: Fact,
    beta: Fact,
    skip: Fact,
    bias: Fact | None = None,
    *,
    activation: int,
    channels_last: int,
    epsilon: float,
    groups: int,
) -> tuple[Fact, Fact]:
    y = infer_group_norm(
        x, gamma, beta, activation=activation, channels_last=channels_last, epsilon=epsilon,
        groups=groups,
    )  # fmt: skip
    if skip.has_rank:
        of_first(x.shape, skip_shape(skip.shape, x.rank, channels_last))
    check_shape("bias", bias, (x.shape[-1 if channels_last else 1],))
    return y, tensor(x.dtype, x.shape)


def skip_shape(skip: tuple[DimLike, ...], rank: int, channels_last: int) -> tuple[DimLike, ...]:
    """The shape in which what is skipped is added to an image: [N, C] is the same everywhere."""
    require(
        len(skip) in {2, rank},
        f"skip must have 2 axes or those of X, {rank}, got skip{shape_text(skip)}",
    )
    if len(skip) == rank:
        return skip
    places = (1,) * (rank - 2)
    return (skip[0], *places, skip[1]) if channels_last else (*skip, *places)


@SkipGroupNorm.kernel
def skip_group_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    skip: Array,
    bias: Array | None = None,
    *,
    activation: int,
    channels_last: int,
    epsilon: float,
    groups: int,
    node: RunNode,
) -> tuple[Array, ...]:
    """GroupNorm of a sum, which comes second: S = X + skip + bias.

    X[N, H, W, C], or with channels_last 0 X[N, C, H, W]; skip is like it, with 1 for H and W, or
    skip[N, C]; bias[C]. Computes in float32.
    Source: onnxruntime's contributed operators, SkipGroupNorm-1.
    """
    shape = skip_shape(skip.shape, x.ndim, channels_last)
    of_first(x.shape, shape)
    total = widened(x) + widened(skip).reshape([int(known(n) or 0) for n in shape])
    if bias is not None:
        total = total + widened(bias).reshape(-1, *(() if channels_last else (1,) * (x.ndim - 2)))
    y = group_norm(
        total, gamma, beta, activation=activation, channels_last=channels_last, epsilon=epsilon,
        groups=groups,
    ).astype(x.dtype)  # fmt: skip
    return (y, total.astype(x.dtype)) if node.wants(1) else (y,)


@SkipGroupNorm.lower
def lower_skip_group_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    skip: Tensor,
    bias: Tensor | None = None,
    *,
    activation: int,
    channels_last: int,
    epsilon: float,
    groups: int,
) -> tuple[Tensor, Tensor]:
    shape = skip_shape(skip.shape, x.rank, channels_last)

    def total_at(*i: DimLike) -> Scalar:
        place = tuple(0 if n == 1 else k for n, k in zip(shape, i, strict=True))
        channel = i[-1 if channels_last else 1]
        value = cast(x[i], FLOAT32)
        value = value + cast(
            skip[place] if skip.rank == x.rank else skip[place[0], channel], FLOAT32
        )
        return value if bias is None else value + cast(bias[channel], FLOAT32)

    total = stored(compute(x.shape, total_at), "sum")
    y = lower_group_norm(
        total, gamma, beta, activation=activation, channels_last=channels_last, epsilon=epsilon,
        groups=groups,
    )  # fmt: skip
    results = (compute(x.shape, lambda *i, of=of: cast(of[i], x.dtype)) for of in (y, total))
    return next(results), next(results)


def _sum_of_three(x: Operand, bias: Operand, skip: Operand) -> Operand:
    return x + bias + skip


BiasAdd = op(
    "BiasAdd (X: T, bias: T, skip: T) => (Y: T)", since=1, domain=DOMAIN, T=F16 | F32
).elementwise(
    _sum_of_three,
    "X + bias + skip; bias has one element per index of the last axis.",
    common_shape=of_first,
)

BiasSplitGelu = op("BiasSplitGelu (X: T, bias: T) => (Y: T)", since=1, domain=DOMAIN, T=F16 | F32)


@BiasSplitGelu.infer
def infer_bias_split_gelu(x: Fact, bias: Fact) -> Fact:
    _check_halves(x.shape, bias.shape)
    return tensor(x.dtype, (*x.shape[:-1], x.shape[-1] // 2))


def _check_halves(x: Sequence[DimLike], bias: Sequence[DimLike]) -> None:
    check_extents("bias", bias, x[-1:])
    require(not (known(x[-1]) or 0) % 2, f"X must have an even number of columns, got {x[-1]}")


@BiasSplitGelu.kernel
def bias_split_gelu(x: Array, bias: Array) -> Array:
    """The first half of each row of X + bias times Gelu of the second: X[…, 2·D] → Y[…, D].

    Gelu is x · Φ(x), Φ the normal distribution. Computes in float32.
    Source: onnxruntime's contributed operators, BiasSplitGelu-1.
    """
    _check_halves(x.shape, bias.shape)
    first, second = np.split(widened(x) + widened(bias), 2, axis=-1)
    return np.asarray(first * gelu(second, approximate="none"), x.dtype)


@BiasSplitGelu.lower
def lower_bias_split_gelu(x: Tensor, bias: Tensor) -> Tensor:
    width = divide(x.shape[-1], 2)

    def at(*i: DimLike) -> Scalar:
        first, second = (
            cast(x[(*i[:-1], k)], FLOAT32) + cast(bias[k], FLOAT32) for k in (i[-1], i[-1] + width)
        )
        return cast(first * gelu(second, approximate="none"), x.dtype)

    return compute((*x.shape[:-1], width), at)
