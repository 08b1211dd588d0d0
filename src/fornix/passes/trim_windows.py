"""Leave out the taps of a convolution that only ever meet padding.

A 3×3 window with dilation 24 on an image of 20×20 is a 1×1 window, for all other taps fall beside
the image wherever the window is; so is one with dilation 1 on a single place. A transposed
convolution of a single place, with which generators begin, is a product with all of its taps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fornix.ir.graph import Node, Value
from fornix.ops.fact import Array
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Rule, any_, const, rewrite

SHAPE_INPUT_SINCE = 5
"""Since this opset a Reshape takes the shape as an input."""


@dataclass(frozen=True)
class _Axis:
    """A spatial axis: tap t of result i reads element ``i·stride + t·dilation - ahead``."""

    extent: int
    taps: int
    stride: int
    dilation: int
    ahead: int
    behind: int

    def results(self) -> int:
        """How many there are."""
        reach = (self.taps - 1) * self.dilation + 1
        return (self.extent + self.ahead + self.behind - reach) // self.stride + 1

    def is_read(self, tap: int) -> bool:
        """Whether ``tap`` of some result lies in the image."""
        first = tap * self.dilation - self.ahead
        skipped = max(0, -(first // self.stride))
        return skipped < self.results() and first + skipped * self.stride < self.extent

    def trimmed(self) -> tuple[slice, _Axis]:
        """The taps from the first that is read to the last, and the axis with them alone."""
        read = [tap for tap in range(self.taps) if self.is_read(tap)]
        if not read:
            return slice(0, self.taps), self
        low, taps = read[0], read[-1] + 1 - read[0]
        ahead = self.ahead - low * self.dilation
        last = (self.results() - 1) * self.stride + (taps - 1) * self.dilation
        behind = max(0, last + 1 - self.extent - ahead)
        new = _Axis(self.extent, taps, self.stride, self.dilation, ahead, behind)
        if ahead < 0 or new.results() != self.results():  # it would have to be cut
            return slice(0, self.taps), self
        return slice(low, low + taps), new


@rewrite(P.Conv(any_("x"), const("w"), any_("b?"), bind="node"))
def trim_windows(
    x: Value, w: Array, node: Node, make: Maker, b: Value | None = None
) -> Value | None:
    """Only where the extents of the image are known, and what is left out is finite."""
    pairs = [axis.trimmed() for axis in _axes(x, w, node, make)]
    kept = (slice(None), slice(None), *(taps for taps, _ in pairs))
    axes = [axis for _, axis in pairs]
    if w.shape[2:] == tuple(axis.taps for axis in axes) or not axes or not np.isfinite(w).all():
        return None
    attributes = dict(node.attributes) | {
        "kernel_shape": [axis.taps for axis in axes],
        "pads": [*(axis.ahead for axis in axes), *(axis.behind for axis in axes)],
    }
    return make.Conv(x, np.ascontiguousarray(w[kept]), b, **attributes)


def _axes(x: Value, w: Array, node: Node, make: Maker) -> list[_Axis]:
    """The spatial axes of a convolution; none if not all about them is known."""
    fact = make.fact(x)
    if not fact.has_rank or fact.rank != w.ndim or node.attr("auto_pad", "NOTSET") != "NOTSET":
        return []
    extents, taps = fact.shape[2:], w.shape[2:]
    ones = [1] * len(taps)
    strides, dilations = node.attr("strides", ones), node.attr("dilations", ones)
    pads = node.attr("pads", [0] * 2 * len(taps))
    sides = pads[: len(taps)], pads[len(taps) :]
    parts = zip(extents, taps, strides, dilations, *sides, strict=True)
    found = [_Axis(n, *rest) for n, *rest in parts if isinstance(n, int) and n > 0]
    return found if len(found) == len(taps) and all(a.results() > 0 for a in found) else []


@rewrite(P.ConvTranspose(any_("x"), const("w"), const("b?"), bind="node"))
def spread_place(
    x: Value, w: Array, node: Node, make: Maker, b: Array | None = None
) -> Value | None:
    """Only without groups and dilations, and where each result is one tap."""
    fact, axes = make.fact(x), w.ndim - 2
    pads = node.attr("pads", [0] * 2 * axes)
    usual = {"group": 1, "dilations": [1] * axes, "output_padding": [0] * axes}
    if not fact.has_rank or fact.rank != w.ndim or fact.shape[2:] != (1,) * axes:
        return None
    if node.attr("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in node.attributes:
        return None
    if any(node.attr(name, value) != value for name, value in usual.items()):
        return None
    ends = zip(w.shape[2:], pads[:axes], pads[axes:], strict=True)
    inside = (slice(ahead, taps - behind) for taps, ahead, behind in ends)
    kept = w[(slice(None), slice(None), *inside)]
    channels, filters, *places = kept.shape
    if not kept.size or make.opset < SHAPE_INPUT_SINCE:
        return None
    weights = np.moveaxis(kept, 0, -1).reshape(-1, channels, *[1] * axes)
    bias = None if b is None else np.repeat(b, len(weights) // filters)
    y = make.Conv(x, weights, bias)
    return make.Reshape(y, np.array([0, filters, *places], np.int64))


RULES: tuple[Rule, ...] = (*trim_windows, *spread_place)
