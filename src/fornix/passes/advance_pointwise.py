"""Let pointwise convolutions go ahead of what makes images larger, and into products before it.

    Conv(Resize(x), W, B) = Resize(Conv(x, W, B))              a Resize's weights have the sum 1
    Conv(Concat(a, b), W, B) = Conv(a, Wa, B) + Conv(b, Wb)    if that lets one of them go ahead
    Conv(image(x·A + b), W, B) = image(x·(A·Wᵀ) + (b·Wᵀ + B))

A pointwise convolution has filters of one element: it mixes channels, a Resize mixes places, and it
does not matter which comes first, but for rounding. Decoders of segmentation models enlarge and
join maps of several sizes and mix their channels then, which is many times the work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fornix.ir.dim import known
from fornix.ir.graph import Node, Value
from fornix.ops.fact import Array
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Pattern, Rule, any_, const, either, rewrite

RESIZE_TAKES_SIZES = 11
"""Since this opset."""
GROWTH = 2
"""By which an image has to grow at least, in elements per channel."""
LEAST_CHANNELS = 32
"""Of a part of a Concat: with fewer, adding the results costs more than the convolution saves."""


def _is_pointwise(conv: Node, W: Array) -> bool:
    """Whether ``conv`` does nothing but mix the channels of float32 or float64."""
    return (
        W.dtype in {np.dtype(np.float32), np.dtype(np.float64)}
        and W.ndim > 2
        and math.prod(W.shape[2:]) == 1
        and conv.attr("group", 1) == 1
        and not any(conv.attr("pads", []))
        and conv.attr("auto_pad", "NOTSET") in {"NOTSET", "VALID"}
        and all(step == 1 for step in conv.attr("strides", []))
    )


def _enlarged(resize: Node | None, make: Maker) -> list[int] | None:
    """The spatial extents that ``resize`` gives an image, if it makes it larger and only that."""
    if resize is None or resize.op_type != "Resize" or resize.domain or resize.inputs[0] is None:
        return None
    before, after = make.fact(resize.inputs[0]), make.fact(resize.output)
    is_plain = (
        make.opset >= RESIZE_TAKES_SIZES
        and resize.attr("axes") is None
        and resize.attr("coordinate_transformation_mode") != "tf_crop_and_resize"
        and resize.attr("keep_aspect_ratio_policy", "stretch") == "stretch"
    )
    if not is_plain or not before.has_rank or not after.has_rank:
        return None
    source, target = (_whole(fact.shape[2:]) for fact in (before, after))
    if source is None or target is None or before.shape[:2] != after.shape[:2]:
        return None
    return target if math.prod(target) >= GROWTH * math.prod(source) else None


def _whole(extents: Sequence[object]) -> list[int] | None:
    """``extents`` if all of them are numbers."""
    found = [extent for extent in extents if isinstance(extent, int)]
    return found if len(found) == len(extents) else None


def _is_free(value: Value) -> bool:
    return len(value.uses) == 1 and not value.is_output


@rewrite(P.Conv(any_("x"), const("W"), const("B?"), bind="conv"))
def split_by_parts(
    x: Value, W: Array, conv: Node, make: Maker, B: Array | None = None
) -> Value | None:
    """A convolution of joined images is the sum of those of its parts."""
    concat = x.producer
    if concat is None or concat.op_type != "Concat" or concat.domain or not _is_free(x):
        return None
    parts = [value for value in concat.inputs if value is not None]
    counts = [known(make.fact(part).shape[1]) for part in parts]
    if not _is_pointwise(conv, W) or concat.attr("axis") not in {1, 1 - W.ndim} or None in counts:
        return None
    ends = np.cumsum([count or 0 for count in counts])
    weights = np.split(W, ends[:-1], axis=1)
    apart = [
        _is_free(part) and w.shape[1] >= max(LEAST_CHANNELS, len(W) // 2)
        and _enlarged(part.producer, make) is not None
        for part, w in zip(parts, weights, strict=True)
    ]  # fmt: skip
    if not any(apart) or len(parts) == 1:
        return None
    groups = [[k] for k, is_apart in enumerate(apart) if is_apart]
    rest = [k for k, is_apart in enumerate(apart) if not is_apart]
    result: Value | None = None
    for group in [rest, *groups] if rest else groups:
        own = [parts[k] for k in group]
        part = own[0] if len(own) == 1 else make.Concat(*own, axis=1)
        w = np.concatenate([weights[k] for k in group], axis=1)
        term = make.node("Conv", (part, w, B if result is None else None), dict(conv.attributes))
        result = term if result is None else make.Add(result, term)
    return result


@rewrite(
    P.Conv(
        P.Resize(
            any_("x"), any_("roi?"), any_("scales?"), any_("sizes?"), bind="resize", single_use=True
        ),
        const("W"),
        const("B?"),
        bind="conv",
    )
)
def advance_before_resize(
    x: Value,
    W: Array,
    resize: Node,
    conv: Node,
    make: Maker,
    B: Array | None = None,
    scales: Value | None = None,
    sizes: Value | None = None,
) -> Value | None:
    """Channels are mixed before the image grows."""
    target = _enlarged(resize, make)
    if target is None or not _is_pointwise(conv, W) or len(W) > 2 * W.shape[1]:
        return None
    mixed = make.node("Conv", (x, W, B), dict(conv.attributes))
    given: Value | None = None
    if sizes is not None:
        images = make.Slice(make.Shape(mixed), np.array([0]), np.array([1]))
        given = make.Concat(images, np.array([len(W), *target]), axis=0)
    return make.node("Resize", (mixed, None, scales, given), dict(resize.attributes))


_product: Pattern = P.MatMul(any_("x"), const("A"), single_use=True)


@rewrite(
    P.Conv(
        P.Reshape(
            P.Transpose(
                either(P.Add(_product, const("b"), single_use=True), _product),
                bind="transpose",
                single_use=True,
            ),
            any_("shape"),
            bind="reshape",
            single_use=True,
        ),
        const("W"),
        const("B?"),
        bind="conv",
    )
)
def fold_into_product(
    x: Value,
    A: Array,
    W: Array,
    transpose: Node,
    reshape: Node,
    conv: Node,
    make: Maker,
    b: Array | None = None,
    B: Array | None = None,
) -> Value | None:
    """Channels that a product has just mixed, place by place, are mixed by its weights."""
    places, image = make.fact(transpose.output), make.fact(reshape.output)
    if not _is_pointwise(conv, W) or A.ndim != 2 or transpose.attr("perm") != [0, 2, 1]:
        return None
    filters, between, inputs = len(W), A.shape[1], A.shape[0]
    has_bias = b is None or b.size == between == b.shape[-1]
    extents = [known(extent) for extent in image.shape[2:]]
    if (
        not has_bias
        or make.fact(x).rank != 3
        or places.shape[:2] != image.shape[:2]
        or places.shape[1] != between
        or extents.count(None) > 1
        or inputs * filters > between * (inputs + filters)
    ):
        return None
    mixing = W.reshape(filters, between).T.astype(np.float64)
    bias = (0 if b is None else b.reshape(-1) @ mixing) + (np.zeros(filters) if B is None else B)
    weights, bias = (A @ mixing).astype(A.dtype), bias.astype(A.dtype)
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        return None
    product = make.MatMul(x, weights)
    if b is not None or B is not None:
        product = make.Add(product, bias)
    turned = make.Transpose(product, perm=[0, 2, 1])
    target = [0, filters, *(-1 if extent is None else extent for extent in extents)]
    return make.Reshape(turned, np.array(target))


RULES: tuple[Rule, ...] = (*split_by_parts, *advance_before_resize, *fold_into_product)
