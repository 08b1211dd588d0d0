"""Images in blocks of channels: the domain com.microsoft.nchwc.

onnxruntime writes these operators into models that it optimises for the processor at hand. Between
ReorderInput and ReorderOutput channels fill whole blocks; what it arranges in them is nobody's
business but its own, for values keep their shapes [N, C, H, W]. Only stored filters are arranged in
the file: `unblocked` reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np

from fornix.errors import require
from fornix.ir.dim import DimLike, ceildiv, known
from fornix.ir.loops import Tensor, compute
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.global_pool import (
    global_average_pool,
    global_max_pool,
    infer_global_pool,
    lower_global_average_pool,
    lower_global_max_pool,
)
from fornix.ops.interpolate import Sampling
from fornix.ops.microsoft.filters import block_of, unblocked
from fornix.ops.microsoft.fused import fused_conv, infer_fused_conv
from fornix.ops.microsoft.last_channels import first, last, lower_first, lower_last, require_image
from fornix.ops.op import op
from fornix.ops.pool import (
    average_pool,
    infer_average_pool,
    lower_average_pool,
    lower_max_pool,
    lowest,
    pool_window,
)
from fornix.ops.resize import lower_scaled, resize
from fornix.ops.types import F32
from fornix.ops.window import WindowAttributes, slide

BLOCKED = "com.microsoft.nchwc"
"""The domain of operators on blocks of channels."""

ReorderInput = op(
    "ReorderInput <channels_last: int = 0> (X: T) => (Y: T)", since=1, domain=BLOCKED, T=F32
)


def _filled(channels: DimLike) -> DimLike:
    """As many channels as fill whole blocks."""
    return ceildiv(channels, block_of()) * block_of()


@ReorderInput.infer
def infer_reorder_input(x: Fact, *, channels_last: int) -> Fact:
    require_image(x.rank)
    batch, channels, *places = first(x.shape) if channels_last else x.shape
    return tensor(x.dtype, (batch, _filled(channels), *places))


@ReorderInput.kernel
def reorder_input(x: Array, *, channels_last: int) -> Array:
    """An image for operators on blocks of channels, which zeros fill up.

    X[N, C, *S] → Y[N, ⌈C/b⌉·b, *S], or with channels_last X[N, *S, C] → Y like it; b is 16 with
    AVX-512, else 8.
    Source: onnxruntime's internal operators, ReorderInput-1.
    """
    require_image(x.ndim)
    image = np.moveaxis(x, -1, 1) if channels_last else x
    more = -image.shape[1] % block_of()
    return np.pad(image, [(0, 0), (0, more), *[(0, 0)] * (image.ndim - 2)])


@ReorderInput.lower
def lower_reorder_input(x: Tensor, *, channels_last: int) -> Tensor:
    image = lower_first(x) if channels_last else x
    shape = (image.shape[0], _filled(image.shape[1]), *image.shape[2:])
    if shape == image.shape:
        return image
    return compute(shape, lambda *i: image.get(i, 0.0))


ReorderOutput = op(
    "ReorderOutput <channels: int = 0, channels_last: int = 0> (X: T) => (Y: T)",
    since=1, domain=BLOCKED, T=F32,
)  # fmt: skip


def _kept(shape: Sequence[DimLike], channels: int) -> tuple[DimLike, ...]:
    require_image(len(shape))
    given = known(shape[1])
    require(
        channels > 0 and (given is None or channels <= given),
        f"channels must be from 1 to those of X{shape_text(shape)}, got {channels}",
    )
    return (shape[0], channels, *shape[2:])


@ReorderOutput.infer
def infer_reorder_output(x: Fact, *, channels: int, channels_last: int) -> Fact:
    shape = _kept(x.shape, channels)
    return tensor(x.dtype, last(shape) if channels_last else shape)


@ReorderOutput.kernel
def reorder_output(x: Array, *, channels: int, channels_last: int) -> Array:
    """An image without what fills its blocks of channels.

    X[N, C, *S] → Y[N, channels, *S], or with channels_last Y[N, *S, channels].
    Source: onnxruntime's internal operators, ReorderOutput-1.
    """
    _kept(x.shape, channels)
    y = x[:, :channels]
    return np.ascontiguousarray(np.moveaxis(y, 1, -1) if channels_last else y)


@ReorderOutput.lower
def lower_reorder_output(x: Tensor, *, channels: int, channels_last: int) -> Tensor:
    shape = _kept(x.shape, channels)
    y = x if shape == x.shape else compute(shape, lambda *i: x[i])
    return lower_last(y) if channels_last else y


Conv = op(
    """Conv <activation: string?, activation_params: floats?, auto_pad: string = "NOTSET",
             dilations: ints?, group: int = 1, kernel_shape: ints?, pads: ints?, strides: ints?>
            (X: T, W: T, B: T?, Sum: T?) => (Y: T)""",
    since=1, domain=BLOCKED, T=F32,
).opaque("its filters are arranged in blocks, unless they are stored")  # fmt: skip


@Conv.infer
def infer_blocked_conv(
    x: Fact,
    w: Fact,
    b: Fact | None = None,
    sum_: Fact | None = None,
    *,
    activation: str | None = None,
    activation_params: list[float] | None = None,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Fact:
    return infer_fused_conv(x, w, b, sum_, group=group, kernel_shape=kernel_shape, **window)


@Conv.kernel
def blocked_conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    sum_: Array | None = None,
    *,
    activation: str | None = None,
    activation_params: list[float] | None = None,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Array:
    """Conv, a sum and an activation: f(X ∗ W + B + Sum), with filters arranged in blocks.

    x[N, C, *S] · w[M, C/group, *K] + b[M] + sum[N, M, *O] → y[N, M, *O] as in FusedConv. Blocks
    have 16 channels where M fills them and the processor has AVX-512, else 8, as in onnxruntime;
    sessions look at all convolutions of a model.
    Source: onnxruntime's internal operators, Conv-1.
    """
    return fused_conv(
        x, unblocked(w, block_of(w.shape[0])), b, sum_,
        activation=activation, activation_params=activation_params,
        group=group, kernel_shape=kernel_shape, **window,
    )  # fmt: skip


MaxPool = op(
    """MaxPool <auto_pad: string = "NOTSET", ceil_mode: int = 0, dilations: ints?,
                kernel_shape: ints, pads: ints?, storage_order: int = 0, strides: ints?>
               (X: T) => (Y: T)""",
    since=1, domain=BLOCKED, T=F32,
)  # fmt: skip


@MaxPool.infer
def infer_blocked_max_pool(
    x: Fact, *, kernel_shape: list[int], storage_order: int, **window: Unpack[WindowAttributes]
) -> Fact:
    return tensor(x.dtype, (*x.shape[:2], *pool_window(x.shape, kernel_shape, **window).out))


@MaxPool.kernel
def blocked_max_pool(
    x: Array, *, kernel_shape: list[int], storage_order: int, **window: Unpack[WindowAttributes]
) -> Array:
    """The standard's MaxPool without indices: X[N, C, *S] → Y[N, C, *O].

    Source: onnxruntime's internal operators, MaxPool-1.
    """
    geometry = pool_window(x.shape, kernel_shape, **window).trimmed()
    return slide(np.maximum, x, geometry, lowest(x.dtype))


@MaxPool.lower
def lower_blocked_max_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    storage_order: int,
    node: LowerNode,
    **window: Unpack[WindowAttributes],
) -> Tensor:
    return lower_max_pool(x, kernel_shape=kernel_shape, node=node, **window)[0]


AveragePool = op(
    """AveragePool <auto_pad: string = "NOTSET", ceil_mode: int = 0, count_include_pad: int = 0,
                    dilations: ints?, kernel_shape: ints, pads: ints?, strides: ints?>
                   (X: T) => (Y: T)""",
    since=1, domain=BLOCKED, T=F32,
)  # fmt: skip
AveragePool.infer(infer_average_pool)
AveragePool.kernel(average_pool)
AveragePool.lower(lower_average_pool)

GlobalAveragePool = op("GlobalAveragePool (X: T) => (Y: T)", since=1, domain=BLOCKED, T=F32)
GlobalAveragePool.infer(infer_global_pool)
GlobalAveragePool.kernel(global_average_pool)
GlobalAveragePool.lower(lower_global_average_pool)

GlobalMaxPool = op("GlobalMaxPool (X: T) => (Y: T)", since=1, domain=BLOCKED, T=F32)
GlobalMaxPool.infer(infer_global_pool)
GlobalMaxPool.kernel(global_max_pool)
GlobalMaxPool.lower(lower_global_max_pool)

Upsample = op(
    """Upsample <coordinate_transformation_mode: string = "asymmetric", mode: string = "nearest",
                 scales: ints?>
                (X: T) => (Y: T)""",
    since=1, domain=BLOCKED, T=F32,
)  # fmt: skip


def _scales(rank: int, scales: Sequence[int] | None) -> list[int]:
    found = [1] * rank if scales is None else list(scales)
    require(
        len(found) == rank and all(s > 0 for s in found),
        f"scales must be {rank} positive numbers, got {found}",
    )
    return found


@Upsample.infer
def infer_blocked_upsample(
    x: Fact, *, coordinate_transformation_mode: str, mode: str, scales: list[int] | None = None
) -> Fact:
    return tensor(x.dtype, [n * s for n, s in zip(x.shape, _scales(x.rank, scales), strict=True)])


@Upsample.kernel
def blocked_upsample(
    x: Array, *, coordinate_transformation_mode: str, mode: str, scales: list[int] | None = None
) -> Array:
    """The standard's Resize by whole numbers: X[*S] → Y[S · scales].

    Source: onnxruntime's internal operators, Upsample-1.
    """
    factors = np.array(_scales(x.ndim, scales), np.float32)
    return resize(
        x, None, factors, None, nearest_mode="floor", mode=mode,
        coordinate_transformation_mode=coordinate_transformation_mode,
    )  # fmt: skip


@Upsample.lower
def lower_blocked_upsample(
    x: Tensor,
    *,
    coordinate_transformation_mode: str,
    mode: str,
    scales: list[int] | None = None,
    node: LowerNode,
) -> Tensor:
    factors = np.array(_scales(x.rank, scales), np.float32)
    return lower_scaled(x, factors, Sampling(mode, coordinate_transformation_mode, "floor"), node)
