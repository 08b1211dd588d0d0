"""Derivatives of Conv, ConvTranspose and Col2Im.

Each is the other's: the gradient of the data spreads the gradient of the output over it, the
gradient of the filters correlates data and gradient, with strides and dilations exchanged. Both
work on data cut or padded to exactly what the windows read. Col2Im is undone by a convolution whose
filters have a single 1 each.
"""

from __future__ import annotations

import math
from typing import Unpack

import numpy as np

from fornix.errors import NotSupported
from fornix.ir.dim import known
from fornix.ops.conv import (
    Conv,
    ConvTranspose,
    TransposeAttributes,
    conv_taps,
    transposed_window,
)
from fornix.ops.conv_variants import Col2Im
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.term import Term
from fornix.ops.window import Window, WindowAttributes


@Conv.grad
def grad_conv(
    x: Term,
    w: Term,
    b: Term | None = None,
    *,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    node: GradNode,
    **window: Unpack[WindowAttributes],
) -> Gradients:
    win = Window.of(x.shape[2:], conv_taps(x.shape, w.shape, group, kernel_shape), **window)
    return (
        spread(node.g, w, win, x, group) if node.needs(0) else None,
        correlated(x, node.g, w, win, group) if node.needs(1) else None,
        of_channels(node.g) if node.needs(2) else None,
    )


@ConvTranspose.grad
def grad_conv_transpose(
    x: Term,
    w: Term,
    b: Term | None = None,
    *,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    node: GradNode,
    **window: Unpack[TransposeAttributes],
) -> Gradients:
    win = transposed_window(x.shape[2:], w.shape[2:], **window)
    of_x = None
    if node.needs(0):
        of_x = fitted(node.g, win, x, w).Conv(
            w, strides=list(win.stride), dilations=list(win.dilation), group=group
        )
    return (
        of_x,
        correlated(node.g, x, w, win, group) if node.needs(1) else None,
        of_channels(node.g) if node.needs(2) else None,
    )


@Col2Im.grad
def grad_col2im(
    blocks: Term,
    image_shape: Term,
    block_shape: Term,
    *,
    node: GradNode,
    **window: Unpack[WindowAttributes],
) -> Gradients:
    """Each filter takes one element out of every block of the gradient."""
    make, g = node.make, node.g
    taps = node.constant(block_shape, "block_shape")
    count = math.prod(taps)
    filters = np.eye(count, dtype=g.dtype.numpy).reshape(count, 1, *taps)
    images = make.reshape(g, [-1, 1, *(make.extent(g, axis) for axis in range(2, g.rank))])
    return make.shaped(images.Conv(make.constant(filters), **window), blocks)


def of_channels(g: Term) -> Term:
    """The gradient of what is added to each channel, axis 1."""
    return g.make.sum(g, [0, *range(2, g.rank)], keepdims=False)


def spread(g: Term, w: Term, window: Window, data: Term, group: int = 1) -> Term:
    """The gradient of the data that a convolution read, in the extent of ``data``."""
    full = g.ConvTranspose(
        w, strides=list(window.stride), dilations=list(window.dilation), group=group
    )
    pads = _pads(window, data, g, w)
    return full if pads is None else full.Pad(pads)


def fitted(data: Term, window: Window, out: Term, w: Term) -> Term:
    """``data``, padded or cut to what the windows of ``out`` read."""
    pads = _pads(window, data, out, w)
    return data if pads is None else data.Pad(-pads)


def _pads(window: Window, data: Term, out: Term, w: Term) -> Term | None:
    """What Pad has to add to all that the windows of ``out`` span, to get the extent of ``data``.

    None if that is nothing. Negative entries cut.
    """
    make = data.make
    ahead, behind = [], []
    for axis, padding in enumerate(map(known, window.before), 2):
        if padding is None:
            raise NotSupported("its padding depends on extents that have to be known before a run")
        stride, dilation = window.stride[axis - 2], window.dilation[axis - 2]
        reach = (make.extent(w, axis) - 1) * dilation + 1
        read = (make.extent(out, axis) - 1) * stride + reach
        ahead.append(-padding)
        behind.append(make.extent(data, axis) + padding - read)
    pads = make.joined([0, 0, *ahead, 0, 0, *behind])
    return None if pads.ints is not None and not any(pads.ints) else pads


def correlated(x: Term, g: Term, w: Term, window: Window, group: int) -> Term:
    """The gradient of the filters w: x[N, C, *S] · g[N, M, *O] → [M, C/group, *K].

    The batch takes the part of the channels, so that a convolution sums over it.
    """
    make = x.make
    rank = x.rank
    data = fitted(x, window, g, w)
    spatial = list(range(2, rank))
    if group == 1:
        data = data.Transpose(perm=[1, 0, *spatial])
    else:
        extents = [make.extent(data, axis) for axis in spatial]
        split = data.Reshape(make.joined([make.extent(x, 0), group, -1, *extents]))
        turned = split.Transpose(perm=[2, 1, 0, *range(3, rank + 1)])
        per_group = make.extent(turned, 0)
        data = turned.Reshape(make.joined([per_group, -1, *extents]))
    filters = g.Transpose(perm=[1, 0, *spatial])
    found = data.Conv(
        filters, strides=list(window.dilation), dilations=list(window.stride), group=group
    )
    return found.Transpose(perm=[1, 0, *spatial])
