"""Canonicalize: nodes that do nothing disappear, and pairs that one node can say become one.

One short rule each; what remains is the form that later passes look for.
"""

from __future__ import annotations

import numpy as np

from fornix.dtype import DType
from fornix.ir.dim import DimLike, known
from fornix.ir.graph import Node, Value
from fornix.ops.fact import Array
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Rule, any_, const, rewrite


@rewrite(P.Identity(any_("x")))
def drop_identity(x: Value) -> Value:
    """Identity(x) = x."""
    return x


@rewrite(
    P.Dropout(any_("x"), bind="node"),
    P.Dropout(any_("x"), const("ratio?"), bind="node"),
    P.Dropout(any_("x"), const("ratio?"), const("training?"), bind="node"),
)
def drop_dropout(x: Value, node: Node, training: Array | None = None) -> Value | None:
    """Dropout(x) = x in inference; opset 12 and later may train."""
    trains = (training is not None and bool(training.any())) or not node.attr("is_test", 1)
    return None if trains or node.wants(1) else x


@rewrite(P.Cast(any_("x"), bind="node"))
def drop_cast(x: Value, node: Node, make: Maker) -> Value | None:
    """Cast(x, to = its dtype) = x."""
    dtype = make.fact(x).dtype
    to = node.attr("to")
    return x if dtype is not None and isinstance(to, int) and DType.of(to) is dtype else None


@rewrite(P.Transpose(any_("x"), bind="node"))
def drop_transpose(x: Value, node: Node, make: Maker) -> Value | None:
    """Transpose(x, 0, 1, 2 …) = x."""
    perm = _permutation(node, x, make)
    return x if perm is not None and perm == list(range(len(perm))) else None


@rewrite(P.Transpose(P.Transpose(any_("x"), bind="inner"), bind="outer"))
def merge_transposes(x: Value, inner: Node, outer: Node, make: Maker) -> Value | None:
    """Transpose(Transpose(x, p), q) = Transpose(x, p∘q)."""
    first, second = _permutation(inner, x, make), _permutation(outer, x, make)
    if first is None or second is None or len(first) != len(second):
        return None
    return make.Transpose(x, perm=[first[axis] for axis in second])


def _permutation(node: Node, x: Value, make: Maker) -> list[int] | None:
    """The permutation of ``node``, whose data has the rank of ``x``."""
    perm = node.attr("perm")
    if perm is not None:
        return list(perm)
    fact = make.fact(x)
    return list(range(fact.rank))[::-1] if fact.has_rank else None


@rewrite(P.Reshape(any_("x"), any_("shape"), bind="node"))
def drop_reshape(x: Value, node: Node, make: Maker) -> Value | None:
    """Reshape(x, its own shape) = x."""
    before, after = make.fact(x), make.fact(node.output)
    same = before.has_rank and after.has_rank and before.shape == after.shape
    return x if same else None


@rewrite(P.Reshape(any_("x"), any_("shape"), bind="node"))
def store_reshape(x: Value, shape: Value, node: Node, make: Maker) -> Value | None:
    """A computed target whose extents are known becomes stored: 0 copies, one −1 takes the rest.

    Reshape(x[N, S, 768], Concat(Shape(x)[:2], 12, 64)) = Reshape(x, [0, 0, 12, 64])
    """
    before, wanted = make.fact(x), make.fact(shape).value
    if shape.constant is not None or wanted is None or not before.has_rank:
        return None
    if node.attr("allowzero", 0):
        return None
    target = [_entry(extent, before.shape[axis : axis + 1]) for axis, extent in enumerate(wanted)]
    if target.count(-1) > 1:
        return None
    return make.Reshape(x, np.array(target, np.int64), **dict(node.attributes))


def _entry(extent: DimLike, copied: tuple[DimLike, ...]) -> int:
    """How a Reshape says ``extent``, ``copied`` being the extent of the data on that axis."""
    if copied == (extent,):
        return 0
    fixed = known(extent)
    return -1 if fixed is None or fixed <= 0 else fixed


@rewrite(P.Reshape(P.Reshape(any_("x"), any_("inner")), const("shape"), bind="node"))
def merge_reshapes(x: Value, shape: Array, node: Node, make: Maker) -> Value | None:
    """Reshape(Reshape(x, s), t) = Reshape(x, t), unless t copies an extent of s."""
    if (shape == 0).any():
        return None
    return make.Reshape(x, shape, **dict(node.attributes))


@rewrite(P.Expand(any_("x"), any_("shape"), bind="node"))
def drop_expand(x: Value, node: Node, make: Maker) -> Value | None:
    """Expand(x, a shape that x has already) = x."""
    before, after = make.fact(x), make.fact(node.output)
    same = before.has_rank and after.has_rank and before.shape == after.shape
    return x if same else None


@rewrite(P.Concat(any_("x")))
def drop_concat(x: Value) -> Value:
    """Concat(x) = x."""
    return x


@rewrite(P.Add(any_("x"), const("zero"), bind="node"), P.Sub(any_("x"), const("zero"), bind="node"))
def drop_addition(x: Value, zero: Array, node: Node, make: Maker) -> Value | None:
    """X + 0 = x − 0 = x for integers; floats keep their −0, which + 0 would change."""
    is_integer = zero.dtype.kind in "iu"
    return x if is_integer and not zero.any() and _keeps_shape(x, node, make) else None


@rewrite(P.Mul(any_("x"), const("one"), bind="node"), P.Div(any_("x"), const("one"), bind="node"))
def drop_multiplication(x: Value, one: Array, node: Node, make: Maker) -> Value | None:
    """X · 1 = x / 1 = x."""
    return x if np.all(one == 1) and _keeps_shape(x, node, make) else None


def _keeps_shape(x: Value, node: Node, make: Maker) -> bool:
    before, after = make.fact(x), make.fact(node.output)
    return before.has_rank and after.has_rank and before.shape == after.shape


RULES: tuple[Rule, ...] = (
    *drop_identity,
    *drop_dropout,
    *drop_cast,
    *drop_transpose,
    *merge_transposes,
    *drop_reshape,
    *store_reshape,
    *merge_reshapes,
    *drop_expand,
    *drop_concat,
    *drop_addition,
    *drop_multiplication,
)
