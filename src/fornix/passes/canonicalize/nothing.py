"""Nodes that give back what they were given."""

from __future__ import annotations

import numpy as np

from fornix.dtype import DType
from fornix.ir.dim import DimLike, less
from fornix.ir.graph import Node, Value
from fornix.ops.fact import Array
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Rule, any_, const, rewrite

CLIP_TAKES_INPUTS = 11
"""Before this opset a Clip without bounds still keeps infinities out."""


DROPOUT_INFERS_SINCE = 7
"""Before, a Dropout trained unless it said that it was tested."""

MOST_PARTS = 8
"""Of a Concat that is looked at for parts without elements."""


@rewrite(P.Identity(any_("x")))
def drop_identity(x: Value) -> Value:
    """Identity(x) = x."""
    return x


@rewrite(
    P.Dropout(any_("x"), bind="node"),
    P.Dropout(any_("x"), const("ratio?"), bind="node"),
    P.Dropout(any_("x"), const("ratio?"), const("training?"), bind="node"),
)
def drop_dropout(x: Value, node: Node, make: Maker, training: Array | None = None) -> Value | None:
    """Dropout(x) = x in inference; opset 12 and later may train, up to 6 it is said otherwise."""
    trains = training is not None and bool(training.any())
    if make.opset < DROPOUT_INFERS_SINCE:
        trains = not node.attr("is_test", 0)
    return None if trains or node.wants(1) else x


@rewrite(P.Cast(any_("x"), bind="node"))
def drop_cast(x: Value, node: Node, make: Maker) -> Value | None:
    """Cast(x, to = its dtype) = x."""
    dtype = make.fact(x).dtype
    to = node.attr("to")
    return x if dtype is not None and isinstance(to, int) and DType.of(to) is dtype else None


@rewrite(P.Concat(any_("x")))
def drop_concat(x: Value, make: Maker) -> Value | None:
    """Concat of one value is that value; of what has an unknown rank, a run checks the axis."""
    return x if make.fact(x).has_rank else None


@rewrite(
    P.Sum(any_("x")),
    P.Mean(any_("x")),
    P.Max(any_("x")),
    P.Min(any_("x")),
    P.Clip(any_("x"), bind="node"),
)
def drop_single(x: Value, make: Maker, node: Node | None = None) -> Value | None:
    """Sum, Mean, Max or Min of one value, and Clip without bounds, are that value."""
    clips = node is not None and make.opset < CLIP_TAKES_INPUTS
    return None if clips else x


@rewrite(P.Concat(*(any_(f"part{number}?") for number in range(MOST_PARTS)), bind="node"))
def drop_empty_parts(node: Node, make: Maker) -> Value | None:
    """Concat of parts of which some have no extent along its axis = Concat of the others."""
    axis = node.attr("axis", 1)
    parts = [part for part in node.inputs if part is not None]
    facts = [make.fact(part) for part in parts]
    if not all(fact.has_rank and -fact.rank <= axis < fact.rank for fact in facts):
        return None
    kept = [part for part, fact in zip(parts, facts, strict=True) if fact.shape[axis] != 0]
    around = [(*fact.shape[:axis], *fact.shape[axis:][1:]) for fact in facts]
    if not kept or len(kept) == len(parts) or any(other != around[0] for other in around):
        return None  # whether the other extents agree, a run checks
    return kept[0] if len(kept) == 1 else make.Concat(*kept, axis=axis)


@rewrite(
    P.Reshape(any_("x"), any_("shape?"), bind="node"),
    P.Flatten(any_("x"), bind="node"),
    P.Squeeze(any_("x"), any_("axes?"), bind="node"),
    P.Tile(any_("x"), any_("repeats"), bind="node"),
)
def drop_same_shape(x: Value, node: Node, make: Maker) -> Value | None:
    """What only changes shapes, and Tile, are x where the result has the shape of x."""
    return x if keeps_shape(x, node, make) else None


@rewrite(P.Expand(any_("x"), any_("shape"), bind="node"))
def drop_expand(x: Value, shape: Value, node: Node, make: Maker) -> Value | None:
    """Expand is x where the result has its shape; what a shape holds that is fed, a run checks."""
    return x if make.fact(shape).value is not None and keeps_shape(x, node, make) else None


@rewrite(
    P.Slice(any_("x"), bind="node"),
    P.Slice(any_("x"), any_("starts"), any_("ends"), any_("axes?"), const("steps?"), bind="node"),
)
def drop_slice(x: Value, node: Node, make: Maker, steps: Array | None = None) -> Value | None:
    """A Slice forwards that keeps every extent cuts nothing."""
    backwards = steps is not None and bool((steps < 0).any())
    return None if backwards or not keeps_shape(x, node, make) else x


@rewrite(P.Gather(any_("x"), const("places"), bind="node"))
def drop_gather(x: Value, places: Array, node: Node, make: Maker) -> Value | None:
    """Gather of all places in their order = x."""
    is_in_order = np.array_equal(places, np.arange(places.size))
    return x if is_in_order and keeps_shape(x, node, make) else None


@rewrite(
    P.Pad(any_("x"), bind="node"),
    P.Pad(any_("x"), const("pads"), any_("value?"), any_("axes?"), bind="node"),
)
def drop_pad(x: Value, node: Node, make: Maker, pads: Array | None = None) -> Value | None:
    """Pad by nothing = x; before opset 11 the pads are an attribute."""
    given = node.attr("pads", node.attr("paddings")) if pads is None else pads
    is_plain = given is not None and not np.any(given)
    return x if is_plain and make.fact(x).has_rank else None


@rewrite(P.Split(any_("x"), any_("split?"), bind="node"))
def drop_split(x: Value, node: Node, make: Maker) -> Value | None:
    """Split into one part = x; a length that may be another one, a run checks."""
    return x if len(node.outputs) == 1 and keeps_shape(x, node, make) else None


@rewrite(P.Add(any_("x"), const("zero"), bind="node"), P.Sub(any_("x"), const("zero"), bind="node"))
def drop_addition(x: Value, zero: Array, node: Node, make: Maker) -> Value | None:
    """X + 0 = x − 0 = x for integers; floats keep their −0, which + 0 would change."""
    is_integer = zero.dtype.kind in "iu"
    is_zero = zero.size > 0 and not zero.any()
    return x if is_integer and is_zero and keeps_shape(x, node, make) else None


@rewrite(
    P.Mul(any_("x"), const("one"), bind="node"),
    P.Div(any_("x"), const("one"), bind="node"),
    P.Pow(any_("x"), const("one"), bind="node"),
)
def drop_multiplication(x: Value, one: Array, node: Node, make: Maker) -> Value | None:
    """X · 1 = x / 1 = x¹ = x."""
    is_one = one.size > 0 and bool(np.all(one == 1))
    return x if is_one and keeps_shape(x, node, make) else None


@rewrite(P.Resize(any_("x"), any_("roi?"), const("scales?"), any_("sizes?"), bind="node"))
def drop_resize(
    x: Value,
    node: Node,
    make: Maker,
    scales: Array | None = None,
    sizes: Value | None = None,
) -> Value | None:
    """Resize by 1, or to the extents that there are, reads elements where they lie."""
    if sizes is not None:
        is_same = node.attr("keep_aspect_ratio_policy", "stretch") == "stretch"
    else:
        is_same = scales is not None and scales.size > 0 and bool(np.all(scales == 1))
    # Some positions of these are computed to lie beside the elements.
    transformation = node.attr("coordinate_transformation_mode", "half_pixel")
    is_off = transformation in {"tf_crop_and_resize", "align_corners"}
    return x if is_same and not is_off and keeps_shape(x, node, make) else None


@rewrite(
    P.ScatterND(any_("x"), const("places"), any_("updates"), bind="node"),
    P.ScatterElements(any_("x"), const("places"), any_("updates"), bind="node"),
    P.Scatter(any_("x"), const("places"), any_("updates"), bind="node"),
)
def drop_scatter(x: Value, places: Array, updates: Value, node: Node, make: Maker) -> Value | None:
    """What is changed nowhere = x; updates of another shape, the kernel refuses."""
    data, given = make.fact(x), make.fact(updates)
    if places.size or not (data.has_rank and given.has_rank):
        return None
    wanted: tuple[DimLike, ...] = places.shape
    if node.op_type == "ScatterND":
        wanted = *places.shape[:-1], *data.shape[places.shape[-1] :]
    return x if given.shape == wanted else None


@rewrite(P.Compress(any_("x"), const("chosen"), bind="node"))
def gather_chosen(x: Value, chosen: Array, node: Node, make: Maker) -> Value | None:
    """Compress by a stored condition = Gather of the places where it holds."""
    data, axis = make.fact(x), node.attr("axis")
    if not data.has_rank or chosen.ndim != 1 or (axis is None and data.rank != 1):
        return None
    if not chosen.any() or less(data.shape[axis or 0], len(chosen)) is not False:
        return None  # it may be longer than the axis, which the kernel refuses
    return make.Gather(x, np.flatnonzero(chosen), axis=axis or 0)


def keeps_shape(x: Value, node: Node, make: Maker) -> bool:
    """Whether the result of ``node`` is certain to have the shape of ``x``."""
    before, after = make.fact(x), make.own_fact(node)
    return before.has_rank and after.has_rank and before.shape == after.shape


RULES: tuple[Rule, ...] = (
    *drop_identity,
    *drop_dropout,
    *drop_cast,
    *drop_concat,
    *drop_single,
    *drop_empty_parts,
    *drop_same_shape,
    *drop_expand,
    *drop_slice,
    *drop_gather,
    *drop_pad,
    *drop_split,
    *drop_addition,
    *drop_multiplication,
    *drop_resize,
    *drop_scatter,
    *gather_chosen,
)
