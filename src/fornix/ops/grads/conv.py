"""Derivatives of Conv and ConvTranspose.

Each is the other's: the gradient of the data spreads the gradient of the output over it, the
gradient of the filters correlates data and gradient, with strides and dilations exchanged. Both
work on data cut or padded to exactly what the windows read, ``fitted`` and ``unfitted`` say how.
"""

from __future__ import annotations

from typing import Unpack

from fornix.errors import NotSupported
from fornix.ir.dim import known
from fornix.ops.conv import (
    Conv,
    ConvTranspose,
    TransposeAttributes,
    conv_taps,
    transposed_window,
)
from fornix.ops.grads.node import GradNode, Gradients
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
        correlated(x, node.g, win, group) if node.needs(1) else None,
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
        of_x = fitted(node.g, win, x).Conv(
            w, strides=list(win.stride), dilations=list(win.dilation), group=group
        )
    return (
        of_x,
        correlated(node.g, x, win, group) if node.needs(1) else None,
        of_channels(node.g) if node.needs(2) else None,
    )


def of_channels(g: Term) -> Term:
    """The gradient of what is added to each channel, axis 1."""
    return g.make.sum(g, [0, *range(2, g.rank)], keepdims=False)


def spread(g: Term, w: Term, window: Window, data: Term, group: int = 1) -> Term:
    """The gradient of the data that a convolution read, in the extent of ``data``."""
    full = g.ConvTranspose(
        w, strides=list(window.stride), dilations=list(window.dilation), group=group
    )
    pads = _pads(window, data, g)
    return full if pads is None else full.Pad(pads)


def fitted(data: Term, window: Window, out: Term) -> Term:
    """``data``, padded or cut to what the windows of ``out`` read."""
    pads = _pads(window, data, out)
    return data if pads is None else data.Pad(-pads)


def _pads(window: Window, data: Term, out: Term) -> Term | None:
    """What Pad has to add to all that the windows of ``out`` span, to get the extent of ``data``.

    None if that is nothing. Negative entries cut.
    """
    make = data.make
    before = [known(padding) for padding in window.before]
    if None in before:
        raise NotSupported(
            "with auto_pad SAME the extents of its data have to be known before a run"
        )
    reach = [known(extent) for extent in window.reach]
    if None in reach:
        raise NotSupported("the number of taps has to be known before a run")
    ahead = [-(padding or 0) for padding in before]
    behind = []
    for axis, (stride, span, cut) in enumerate(
        zip(window.stride, reach, ahead, strict=True), 2
    ):
        read = make.extent(out, axis) * stride + ((span or 0) - stride)
        behind.append(make.extent(data, axis) - read - cut)
    pads = make.joined([0, 0, *ahead, 0, 0, *behind])
    return None if pads.ints is not None and not any(pads.ints) else pads


def correlated(x: Term, g: Term, window: Window, group: int) -> Term:
    """The gradient of the filters: x[N, C, *S] · g[M, N, *O] → [M, C/group, *K].

    The batch takes the part of the channels, so that a convolution sums over it.
    """
    make = x.make
    rank = x.rank
    data = fitted(x, window, g)
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
