"""Derivatives of pools.

A maximum passes the gradient on to the first element that attains it, as MaxPool's Indices say;
GlobalMaxPool lets all of them share it.
"""

from __future__ import annotations

import functools
import math
from typing import Unpack

import numpy as np

from fornix.errors import NotSupported
from fornix.ir.dim import known
from fornix.ops.fact import static
from fornix.ops.global_pool import GlobalAveragePool, GlobalLpPool, GlobalMaxPool
from fornix.ops.grads.conv import spread
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.term import Term
from fornix.ops.pool import AveragePool, LpPool, MaxPool, pool_window, window_counts
from fornix.ops.window import Window, WindowAttributes, plain


def _spread_evenly(g: Term, window: Window, x: Term) -> Term:
    """The sum of ``g`` over the windows that every element of ``x`` is in."""
    make = x.make
    spatial = [make.extent(g, axis) for axis in range(2, g.rank)]
    images = make.reshape(g, [-1, 1, *spatial])
    ones = make.constant(np.ones((1, 1, *window.tap_shape), x.dtype.numpy))
    return make.shaped(spread(images, ones, window, x), x)


@AveragePool.grad
def grad_average_pool(
    x: Term,
    *,
    kernel_shape: list[int],
    count_include_pad: int = 0,
    node: GradNode,
    **window: Unpack[WindowAttributes],
) -> Gradients:
    win = pool_window(x.shape, kernel_shape, **window)
    share = node.g / _counts(win, x, include_padding=bool(count_include_pad))
    return _spread_evenly(share, win, x)


def _counts(window: Window, x: Term, *, include_padding: bool) -> Term:
    """How many elements each mean is of."""
    if static(window.size) is None:
        if any(known(pad) != 0 for pad in (*window.before, *window.after)):
            raise NotSupported("with padding, the extents of X have to be known before a run")
        return x.make.full(math.prod(window.tap_shape), x.make.constant(np.ones((), x.dtype.numpy)))
    counts = window_counts(window, include_padding=include_padding)
    grid = functools.reduce(np.multiply.outer, [np.maximum(count, 1) for count in counts])
    return x.make.constant(np.asarray(grid).astype(x.dtype.numpy))


@MaxPool.grad
def grad_max_pool(
    x: Term,
    *,
    kernel_shape: list[int],
    node: GradNode,
    storage_order: int = 0,
    **window: Unpack[WindowAttributes],
) -> Gradients:
    if storage_order:
        raise NotSupported("with storage_order=1 it has no derivative here")
    node.only_first()
    win = pool_window(x.shape, kernel_shape, **window)
    g, places = node.g, node.output(1)
    if _may_miss(win):  # a window of nothing but padding says -1
        is_inside = places >= 0
        g, places = is_inside.Where(g, 0), is_inside.Where(places, 0)
    return node.make.scattered(g, places, x)


def _may_miss(window: Window) -> bool:
    """Whether a window may hold nothing but padding."""
    return any(
        known(pad) is None or known(pad) >= plain(span)  # type: ignore[operator] # not None
        for pad, span in zip(
            (*window.before, *window.after), (*window.reach, *window.reach), strict=True
        )
    )


@LpPool.grad
def grad_lp_pool(
    x: Term,
    *,
    kernel_shape: list[int],
    p: float = 2,
    node: GradNode,
    **window: Unpack[WindowAttributes],
) -> Gradients:
    """``x′ = sign(x) · |x|ᵖ⁻¹ · Σ g · y¹⁻ᵖ`` over the windows that x is in; 0 where y is 0."""
    win = pool_window(x.shape, kernel_shape, **window)
    return _signed_power(x, p) * _spread_evenly(_by_power(node, p), win, x)


@GlobalLpPool.grad
def grad_global_lp_pool(x: Term, *, p: float = 2, node: GradNode) -> Gradients:
    return _signed_power(x, p) * _by_power(node, p)


def _signed_power(x: Term, p: float) -> Term:
    if p == 2:
        return x
    return x.Sign() if p == 1 else x.Sign() * x.Abs() ** (p - 1)


def _by_power(node: GradNode, p: float) -> Term:
    """``g · y¹⁻ᵖ``, 0 where y is 0."""
    if p == 1:
        return node.g
    is_zero = node.y.Equal(0)
    return is_zero.Where(0, node.g * is_zero.Where(1, node.y) ** (1 - p))


@GlobalAveragePool.grad
def grad_global_average_pool(x: Term, *, node: GradNode) -> Gradients:
    return node.make.expand(node.g / node.make.count(x, range(2, x.rank)), x)


@GlobalMaxPool.grad
def grad_global_max_pool(x: Term, *, node: GradNode) -> Gradients:
    chosen = x.Equal(node.y).like(x)
    return chosen * (node.g / node.make.sum(chosen, range(2, x.rank)))
