"""Fold a Pad with zeros into the window of the convolution or pool that reads it.

Conv(Pad(x, p)) = Conv(x, pads + p);  a MaxPool ignores its padding, so its Pad must hold −∞
"""

from __future__ import annotations

import numpy as np

from fornix.ir.graph import Node, Value
from fornix.ops.fact import Array
from fornix.ops.pad import margins
from fornix.ops.window import Window
from fornix.passes.make import Maker
from fornix.passes.pattern import Application, P, Pattern, Rule, any_, const, rewrite

COUNTS_SINCE = 7
"""Since this opset an AveragePool can be told to count its padding."""

_padded = P.Pad(
    any_("x"), const("amounts"), const("fill?"), const("axes?"), bind="pad", single_use=True
)


def _reader(op_type: str, *more: Pattern) -> Application:
    application: Application = getattr(P, op_type)(_padded, *more, bind="node")
    return application


@rewrite(
    _reader("Conv", any_("W"), any_("B?")),
    _reader("AveragePool"),
    _reader("LpPool"),
    _reader("MaxPool"),
)
def fold_pad(
    x: Value,
    amounts: Array,
    pad: Node,
    node: Node,
    make: Maker,
    fill: Array | None = None,
    axes: Array | None = None,
) -> Value | None:
    """Only spatial axes, padded by constants of the value that the reader takes its own to be."""
    spatial = _spatial(x, amounts, axes, make)
    own = _own_pads(node, spatial)
    if spatial is None or own is None or pad.attr("mode", "constant") != "constant":
        return None
    if not _is_own_fill(node, fill):
        return None
    attributes = dict(node.attributes) | {"pads": (own + spatial).tolist()}
    if node.attr("ceil_mode", 0):
        return None  # windows that begin in a pool's own padding are left out
    if node.op_type == "AveragePool":
        if make.opset < COUNTS_SINCE or (own.any() and not node.attr("count_include_pad", 0)):
            return None
        attributes["count_include_pad"] = 1
    attributes.pop("auto_pad", None)
    return make.node(node.op_type, (x, *node.inputs[1:]), attributes)


def _is_own_fill(node: Node, fill: Array | None) -> bool:
    value = 0.0 if fill is None else float(fill.reshape(()).astype(np.float64))
    return value == (-np.inf if node.op_type == "MaxPool" else 0.0)


_told = P.Pad(
    any_("x"), any_("amounts"), const("fill?"), const("axes?"), bind="pad", single_use=True
)


@rewrite(
    P.Conv(_told, any_("W"), any_("B?"), bind="node"),
    P.MaxPool(_told, bind="node"),
)
def fold_same_pad(
    x: Value,
    amounts: Value,
    pad: Node,
    node: Node,
    make: Maker,
    W: Value | None = None,
    fill: Array | None = None,
    axes: Array | None = None,
) -> Value | None:
    """Only amounts that follow from open extents as those of an ``auto_pad`` do."""
    told, fact = make.fact(amounts).value, make.fact(x)
    if told is None or not fact.has_rank or pad.attr("mode", "constant") != "constant":
        return None
    ends = margins(fact.rank, list(told.flat), None if axes is None else list(axes.flat))
    own = _own_pads(node, np.zeros(0))
    if any(end != (0, 0) for end in ends[:2]) or own is None or own.any():
        return None
    if not _is_own_fill(node, fill) or node.attr("ceil_mode", 0):
        return None
    taps = node.attr("kernel_shape") if W is None else make.fact(W).shape[2:]
    for auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        strides, dilations = node.attr("strides"), node.attr("dilations")
        window = Window.of(
            fact.shape[2:], taps, strides=strides, dilations=dilations, auto_pad=auto_pad
        )
        if ends[2:] == list(zip(window.before, window.after, strict=True)):
            attributes = dict(node.attributes) | {"auto_pad": auto_pad, "pads": None}
            return make.node(node.op_type, (x, *node.inputs[1:]), attributes)
    return None


def _spatial(x: Value, amounts: Array, axes: Array | None, make: Maker) -> Array | None:
    """The pads of the spatial axes, ahead of and behind each; None if others are padded, or cut."""
    fact = make.fact(x)
    if not fact.has_rank or fact.rank < 3 or (amounts < 0).any():
        return None
    both = amounts.reshape(2, -1)
    full = np.zeros((2, fact.rank), np.int64)
    places = range(fact.rank) if axes is None else (axes.reshape(-1) % fact.rank).tolist()
    full[:, list(places)] = both
    return None if full[:, :2].any() else full[:, 2:].reshape(-1)


def _own_pads(node: Node, spatial: Array | None) -> Array | None:
    """The pads of ``node`` itself; None if they follow from the extents of its data."""
    if spatial is None or node.attr("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        return None
    if node.attr("auto_pad", "NOTSET") == "VALID":
        return np.zeros_like(spatial)
    return np.array(node.attr("pads", [0] * len(spatial)), np.int64)


RULES: tuple[Rule, ...] = (*fold_pad, *fold_same_pad)
