"""Find scaled dot-product attention spelled out, and fuse it into Attention from opset 23 on.

    softmax(q·kᵀ·scale + mask) · v,    q[B, H, S, D], k[B, G, T, D], v[B, G, T, E]

The scale may stand on q, on kᵀ, on both or on their product; the mask is added, or Where chooses
between scores and −∞; a Where may turn rows of NaN, which see no key, into zeros, which is what
Attention gives; heads of k and v may be repeated by Expand for groups of queries (G < H).

`find_attention` serves any opset: who compiles a model of an older one asks it for the parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fornix.ir.dim import DimLike, known
from fornix.ir.graph import Node, Value
from fornix.ops.fact import Fact
from fornix.passes.make import Maker
from fornix.passes.pattern import Bindings, P, Pattern, Rule, any_, either, number, rewrite

ATTENTION_SINCE = 23

Facts = Callable[[Value], Fact]


def _factored(of: Pattern, name: str) -> Pattern:
    """``of``, multiplied or divided by a number or not."""
    return either(P.Mul(of, number(name=name)), P.Div(of, number(name=f"{name}_divisor")), of)


_product = P.MatMul(_factored(any_("q"), "q_scale"), _factored(any_("kt"), "k_scale"), bind="dot")
_scores = _factored(_product, "scale")
_masked = either(
    P.Add(_scores, any_("mask"), bind="sum"),
    P.Where(any_("seen"), _scores, number(-math.inf), bind="sum"),
    _scores,
)
_softmax = P.Softmax(_masked, bind="softmax")
_weights = either(_softmax, P.Where(P.IsNaN(any_("w")), number(0.0), any_("w")))
ATTENTION = P.MatMul(_weights, any_("v"))
"""The product of weights and values; with ``w`` bound, `SOFTMAX` has still to match it."""
SOFTMAX = _softmax


@dataclass(frozen=True, slots=True)
class FoundAttention:
    """The parts of an attention; `keys` is k, or k in other order of axes, see `keys_perm`."""

    q: Value
    keys: Value
    keys_perm: tuple[int, ...]
    """Transpose of ``keys`` that gives k[B, G, T, D]."""
    v: Value
    mask: Value | None
    """Added to the scores; of booleans, false hides."""
    scale: float


def find_attention(node: Node, fact: Facts) -> FoundAttention | None:
    """The attention whose last product is ``node``, if it is one."""
    for bound in ATTENTION.matches_node(node, {}):
        weights = bound.get("w")
        for inner in [bound] if weights is None else SOFTMAX.matches(weights, bound):
            found = _checked(inner, fact)
            if found is not None:
                return found
    return None


def _checked(bound: Bindings, fact: Facts) -> FoundAttention | None:
    """The parts that ``bound`` names, if their shapes are those of attention."""
    q, v, kt, dot = bound["q"], bound["v"], bound["kt"], bound["dot"].output
    turn = kt.producer
    facts = [fact(value) for value in (q, kt, v, dot)]
    if not all(f.has_rank and f.rank == 4 for f in facts) or turn is None:
        return None
    if (
        turn.op_type != "Transpose"
        or turn.domain
        or bound["softmax"].attr("axis", -1) not in {-1, 3}
    ):
        return None
    if len({f.dtype for f in facts}) != 1 or turn.inputs[0] is None:
        return None
    perm = turn.attr("perm", [3, 2, 1, 0])
    keys, keys_perm = turn.inputs[0], (perm[0], perm[1], perm[3], perm[2])
    shared = None
    if keys_perm == (0, 1, 2, 3):
        shared = _shared_heads(keys, fact), _shared_heads(v, fact)
    if shared is not None and shared[0] is not None and shared[1] is not None:
        keys, v = shared[0], shared[1]
    k_shape = tuple(fact(keys).shape[axis] for axis in keys_perm)
    if not _fits(facts[0].shape, k_shape, fact(v).shape):
        return None
    mask = _mask(bound, k_shape[2], fact)
    if mask is None and "sum" in bound:
        return None
    return FoundAttention(q, keys, keys_perm, v, mask, _scale(bound))


def _shared(keys: Value, v: Value, fact: Facts) -> tuple[Value, Value]:
    """K and v with as many heads as are stored, if both repeat them."""
    one, other = _shared_heads(keys, fact), _shared_heads(v, fact)
    return (keys, v) if one is None or other is None else (one, other)


def _fits(q: tuple[DimLike, ...], k: tuple[DimLike, ...], v: tuple[DimLike, ...]) -> bool:
    """Whether q[B, H, S, D], k[B, G, T, D] and v[B, G, T, E] do, G dividing H."""
    heads, groups = known(q[1]), known(k[1])
    if heads is None or not groups or heads % groups:
        return False
    return q[0] == k[0] == v[0] and k[1] == v[1] and k[2] == v[2] and q[3] == k[3]


def _scale(bound: Bindings) -> float:
    scale = 1.0
    for name in ("q_scale", "k_scale", "scale"):
        scale *= bound.get(name, 1.0) / bound.get(f"{name}_divisor", 1.0)
    return scale


def _mask(bound: Bindings, length: DimLike, fact: Facts) -> Value | None:
    """The mask, as booleans where it was made of some; None if it is none or does not fit."""
    if "sum" not in bound:
        return None
    if fact(bound["sum"].output).shape != fact(bound["dot"].output).shape:
        return None  # the mask makes the scores grow
    mask: Value = bound["seen"] if "seen" in bound else bound["mask"]
    seen = _seen(mask)
    for choice in (seen, mask):
        found = Fact() if choice is None else fact(choice)
        if found.has_rank and 2 <= found.rank <= 4 and found.shape[-1] == length:
            return choice
    return None


_hides = P.Where(any_("seen"), number(0.0), number(-math.inf))


def _seen(mask: Value) -> Value | None:
    """The booleans of which ``mask`` made 0 and −∞, if it did."""
    for bound in _hides.matches(mask, {}):
        seen: Value = bound["seen"]
        return seen
    return None


_repeated = P.Reshape(
    P.Expand(
        either(P.Unsqueeze(any_("x"), any_("axes?")), P.Reshape(any_("x"), any_("s"))),
        any_("expanded"),
        bind="expand",
    ),
    any_("shape"),
)


def _shared_heads(value: Value, fact: Facts) -> Value | None:
    """x[B, G, T, D] if ``value`` is x with each head repeated in place, [B, G·n, T, D]."""
    for bound in _repeated.matches(value, {}):
        x, wide = bound["x"], fact(bound["expand"].output)
        narrow, source = fact(bound["expand"].inputs[0]), fact(x)
        if not (source.has_rank and wide.has_rank and narrow.has_rank and source.rank == 4):
            continue
        b, g, t, d = source.shape
        if narrow.shape != (b, g, 1, t, d) or wide.rank != 5:
            continue
        n = wide.shape[2]
        if wide.shape == (b, g, n, t, d) and fact(value).shape == (b, g * n, t, d):
            found: Value = x
            return found
    return None


@rewrite(P.MatMul(any_("weights"), any_("values"), bind="node"))
def fuse_attention(node: Node, make: Maker) -> Value | None:
    """One Attention; masks of booleans are passed as such."""
    if make.opset < ATTENTION_SINCE:
        return None
    found = find_attention(node, make.fact)
    if found is None:
        return None
    keys = found.keys
    if found.keys_perm != (0, 1, 2, 3):
        keys = make.Transpose(keys, perm=list(found.keys_perm))
    return make.Attention(found.q, keys, found.v, found.mask, scale=found.scale)


RULES: tuple[Rule, ...] = fuse_attention
