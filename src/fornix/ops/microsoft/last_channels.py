"""Quantised images with their channels last: QLinearConv, NhwcMaxPool.

onnxruntime arranges them so for itself. Each is the standard's operator on the same image with its
channels first.
"""

from __future__ import annotations

from typing import TypeVar, Unpack

import numpy as np

from fornix.errors import require
from fornix.ir.loops import Tensor, compute
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.microsoft import DOMAIN
from fornix.ops.op import op
from fornix.ops.pool import lower_max_pool, lowest, pool_window
from fornix.ops.quantized_products import (
    infer_q_linear_conv,
    lower_q_linear_conv,
    q_linear_conv,
)
from fornix.ops.types import I8, I32, U8
from fornix.ops.window import WindowAttributes, slide

Extent = TypeVar("Extent")


def require_image(rank: int) -> None:
    """Raise ShapeError for what has no axis of channels."""
    require(rank >= 2, f"an image must have rank 2 or more, got rank {rank}")


def first(shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
    """A shape with its last axis, that of channels, as axis 1."""
    require_image(len(shape))
    return (shape[0], shape[-1], *shape[1:-1])


def last(shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
    """A shape with its axis 1, that of channels, as the last."""
    return (shape[0], *shape[2:], shape[1])


def infer_first(x: Fact) -> Fact:
    """An image with its channels first."""
    return tensor(x.dtype, first(x.shape))


def infer_last(x: Fact) -> Fact:
    """An image with its channels last."""
    return tensor(x.dtype, last(x.shape))


def lower_first(x: Tensor) -> Tensor:
    """`infer_first` for lowerings."""
    return compute(first(x.shape), lambda n, c, *k: x[n, *k, c])


def lower_last(x: Tensor) -> Tensor:
    """`infer_last` for lowerings."""
    return compute(last(x.shape), lambda n, *k: x[n, k[-1], *k[:-1]])


QLinearConv = op(
    """QLinearConv <auto_pad: string = "NOTSET", channels_last: int = 0, dilations: ints?,
                    group: int = 1, kernel_shape: ints?, pads: ints?, strides: ints?>
                   (x: T1, x_scale: tensor(float), x_zero_point: T1, w: T2,
                    w_scale: tensor(float), w_zero_point: T2, y_scale: tensor(float),
                    y_zero_point: T3, B: T4?)
                => (y: T3)""",
    since=1, domain=DOMAIN, T1=I8 | U8, T2=I8 | U8, T3=I8 | U8, T4=I32,
)  # fmt: skip


@QLinearConv.infer
def infer_q_linear_conv_of_images(
    x: Fact,
    x_scale: Fact,
    x_zero_point: Fact,
    w: Fact,
    w_scale: Fact,
    w_zero_point: Fact,
    y_scale: Fact,
    y_zero_point: Fact,
    B: Fact | None = None,
    *,
    channels_last: int,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Fact:
    image = infer_first(x) if channels_last else x
    y = infer_q_linear_conv(
        image, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, B,
        group=group, kernel_shape=kernel_shape, **window,
    )  # fmt: skip
    return infer_last(y) if channels_last else y


@QLinearConv.kernel
def q_linear_conv_of_images(
    x: Array,
    x_scale: Array,
    x_zero_point: Array,
    w: Array,
    w_scale: Array,
    w_zero_point: Array,
    y_scale: Array,
    y_zero_point: Array,
    B: Array | None = None,
    *,
    channels_last: int,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Array:
    """The standard's QLinearConv; with channels_last, of and to images with their channels last.

    x[N, C, *S] · w[M, C/group, *K] · B[M] → y[N, M, *O], or x[N, *S, C] → y[N, *O, M]; w is the
    same for both. Source: onnxruntime's contributed operators, QLinearConv-1.
    """
    image = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if channels_last else x
    y = q_linear_conv(
        image, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, B,
        group=group, kernel_shape=kernel_shape, **window,
    )  # fmt: skip
    return np.ascontiguousarray(np.moveaxis(y, 1, -1)) if channels_last else y


@QLinearConv.lower
def lower_q_linear_conv_of_images(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    B: Tensor | None = None,
    *,
    channels_last: int,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Tensor:
    image = lower_first(x) if channels_last else x
    y = lower_q_linear_conv(
        image, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, B,
        group=group, kernel_shape=kernel_shape, **window,
    )  # fmt: skip
    return lower_last(y) if channels_last else y


NhwcMaxPool = op(
    """NhwcMaxPool <auto_pad: string = "NOTSET", ceil_mode: int = 0, dilations: ints?,
                    kernel_shape: ints, pads: ints?, strides: ints?>
                   (x: T) => (y: T)""",
    since=1, domain=DOMAIN, T=I8 | U8,
)  # fmt: skip


@NhwcMaxPool.infer
def infer_nhwc_max_pool(
    x: Fact, *, kernel_shape: list[int], **window: Unpack[WindowAttributes]
) -> Fact:
    image = infer_first(x)
    places = pool_window(image.shape, kernel_shape, **window).out
    return infer_last(tensor(x.dtype, (*image.shape[:2], *places)))


@NhwcMaxPool.kernel
def nhwc_max_pool(
    x: Array, *, kernel_shape: list[int], **window: Unpack[WindowAttributes]
) -> Array:
    """MaxPool of a quantised image with its channels last: x[N, *S, C] → y[N, *O, C].

    Source: onnxruntime's contributed operators, NhwcMaxPool-1.
    """
    image = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    geometry = pool_window(image.shape, kernel_shape, **window).trimmed()
    y = slide(np.maximum, image, geometry, lowest(x.dtype))
    return np.ascontiguousarray(np.moveaxis(y, 1, -1))


@NhwcMaxPool.lower
def lower_nhwc_max_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    node: LowerNode,
    **window: Unpack[WindowAttributes],
) -> Tensor:
    y, *_ = lower_max_pool(lower_first(x), kernel_shape=kernel_shape, node=node, **window)
    return lower_last(y)
