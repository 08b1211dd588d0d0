"""Attention in loop form: sums of values, weighted by a softmax of scores, found by how they look.

    y[…, i, e] = after(Σ_j softmax_j(around(Σ_d query[i, d] · key[j, d])) · value[j, e])

What stands around the products of queries and keys (masks, limits) is any expression; so neither
names of operators nor spellings matter. A sink may be added to the sum that weights are divided by.
Who may not see any key gets NaN, or 0 where the expression says so. `schedule.attention` computes
what is found here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fornix.compile.cost import accesses, outer_reductions, stride_of
from fornix.compile.reductions import reductions
from fornix.ir.loops import (
    FALSE,
    TRUE,
    Apply,
    Const,
    Reduce,
    Scalar,
    Store,
    Variable,
    apply,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.scalar import reduction

LOWEST, LOW = -1e37, -1e36
"""Masks below the first take a score so far down that its power is 0 beside that of the second."""
MIN_TERMS = 4
"""Elements of a query from which on the products are worth tiles."""


@dataclass(frozen=True)
class Attention:
    """A store that is an attention, taken apart."""

    store: Store
    sum: Reduce
    """Over `key`, of weights times `value`."""
    key: Variable
    term: Variable
    """What the products of queries and keys are summed over."""
    row: Variable | None
    """An axis that neither keys nor values depend on: the queries; None if there is one."""
    column: Variable
    """An axis that only values depend on, contiguous in the result."""
    scale: float
    queries: Scalar
    keys: Scalar
    values: Scalar
    score: Reduce
    """Stands in `scores` for the scaled product of a query and a key."""
    scores: Scalar
    """What the softmax is of."""
    sink: Scalar | None
    """A score of no key, whose power takes part in the softmax."""
    zero_if_blind: bool
    """Whether a query whose scores are all −∞ gets 0, not NaN."""
    zero_if_nan: bool
    """Whether a query with a score that is NaN gets 0 too."""

    @property
    def outer(self) -> list[Variable]:
        """The axes that are neither rows nor columns."""
        return [a for a in self.store.axes if a is not self.row and a is not self.column]


def as_attention(store: Store) -> Attention | None:
    """``store`` as an attention; None if it is none."""
    folds = outer_reductions(store.value)
    if len(folds) != 1 or folds[0].op != "sum" or len(folds[0].axes) != 1:
        return None
    total, (key,) = folds[0], folds[0].axes
    body = total.body
    if not isinstance(body, Apply) or body.op != "mul" or not body.dtype.is_float:
        return None
    for weights, values in (body.args, body.args[::-1]):
        if key in weights.variables and not reductions([values]):
            found = _found(store, total, _canonical(weights), values)
            if found is not None:
                return found
    return None


def _found(store: Store, total: Reduce, weights: Scalar, values: Scalar) -> Attention | None:
    (key,) = total.axes
    softmax = _softmax(weights, key)
    if softmax is None:
        return None
    products = outer_reductions(softmax.scores)
    factors = _factors(products[0], key) if len(products) == 1 else None
    if factors is None or products[0].dtype is not total.dtype:
        return None
    if softmax.scores.dtype is not total.dtype or _slides(factors.keys, key, store.axes):
        return None
    columns = [a for a in store.axes if a in values.variables and a not in weights.variables]
    columns = [a for a in columns if stride_of(store.address, a) == 1]
    if not columns:
        return None
    both = values.variables | factors.keys.variables
    rows = [a for a in store.axes if a in factors.queries.variables and a not in both]
    if softmax.sink is not None and not softmax.sink.variables.isdisjoint([key, *columns]):
        return None
    return Attention(
        store=store,
        sum=total,
        key=key,
        term=products[0].axes[0],
        row=max(reversed(rows), key=_length, default=None),
        column=columns[-1],
        scale=factors.scale,
        queries=factors.queries,
        keys=factors.keys,
        values=values,
        score=products[0],
        scores=softmax.scores,
        sink=softmax.sink,
        zero_if_blind=softmax.zero_if_blind,
        zero_if_nan=softmax.zero_if_nan,
    )


def _length(axis: Variable) -> float:
    return axis.extent if isinstance(axis.extent, int) else math.inf


# ── the softmax ────────────────────────────────────────────────────────────────────────────────


def _canonical(value: Scalar) -> Scalar:
    """``value`` with bound variables shared by reductions alike, so that equal parts are one."""
    axes: dict[tuple[object, ...], Variable] = {}
    done: dict[Scalar, Scalar] = {}
    depths: dict[Scalar, int] = {}
    for e in reductions([value]):
        depths[e] = 1 + max((depths[x] for x in reductions([e.body])), default=0)
        fresh = [
            axes.setdefault((depths[e], e.op, k, a.extent), Variable(a.name, a.extent))
            for k, a in enumerate(e.axes)
        ]
        body = replace(e.body, done) if done else e.body
        body = substitute_scalar(body, {a: f.dim for a, f in zip(e.axes, fresh, strict=True)})
        done[e] = reduction(e.op, tuple(fresh), body)
    return replace(value, done)


@dataclass(frozen=True)
class _Softmax:
    scores: Scalar
    sink: Scalar | None
    zero_if_blind: bool
    zero_if_nan: bool


def _softmax(weights: Scalar, key: Variable) -> _Softmax | None:
    """The softmax along ``key`` that ``weights`` are."""
    blind = nan = False
    top: Scalar | None = None
    e = _uncast(weights)
    while isinstance(e, Apply) and e.op == "select" and _is_number(e.args[1], 0.0):
        condition, e = e.args[0], _uncast(e.args[2])
        if not isinstance(condition, Apply):
            return None
        if condition.op == "ne" and condition.args[0] is condition.args[1]:
            nan = _uncast(condition.args[0]) is e
        elif condition.op == "eq" and _is_number(condition.args[1], -math.inf):
            top, blind = condition.args[0], True
        if not nan and not blind:
            return None
    if not isinstance(e, Apply) or e.op != "div":
        return None
    powers, total = e.args
    scores = _scores(powers)
    if scores is None:
        return None
    given, highest = scores
    total, sink = _without_sink(total, highest)
    if not _is_along(total, "sum", powers, key):
        return None
    if not _is_along(highest, "max", given, key) or top not in {None, highest}:
        return None
    return _Softmax(given, sink, zero_if_blind=blind or nan, zero_if_nan=nan)


def _uncast(e: Scalar) -> Scalar:
    """``e`` before it is rounded to a narrower float, or widened."""
    while isinstance(e, Apply) and e.op == "cast" and e.args[0].dtype.is_float:
        e = e.args[0]
    return e


def _is_number(e: Scalar, value: float) -> bool:
    return isinstance(e, Const) and e.value == value


def _scores(powers: Scalar) -> tuple[Scalar, Scalar] | None:
    """Scores and their maximum, if ``powers`` are exp(scores − maximum)."""
    if not isinstance(powers, Apply) or powers.op != "exp":
        return None
    (shifted,) = powers.args
    if not isinstance(shifted, Apply) or shifted.op != "sub":
        return None
    scores, highest = shifted.args
    if isinstance(highest, Apply) and highest.op == "select":  # 0 where it is −∞
        condition, zero, highest = highest.args
        if not _is_number(zero, 0.0) or condition is not apply("eq", highest, -math.inf):
            return None
    return scores, highest


def _without_sink(total: Scalar, highest: Scalar) -> tuple[Scalar, Scalar | None]:
    """The sum of the keys' powers, and the score of a sink that ``total`` has beside it."""
    if isinstance(total, Apply) and total.op == "add":
        for rest, power in (total.args, total.args[::-1]):
            scores = _scores(power)
            if scores is not None and scores[1] is highest:
                return rest, scores[0]
    return total, None


def _is_along(e: Scalar, op: str, of: Scalar, key: Variable) -> bool:
    """Whether ``e`` is the reduction of ``of`` over all values of ``key``."""
    if not isinstance(e, Reduce) or e.op != op or len(e.axes) != 1:
        return False
    (axis,) = e.axes
    return bool(axis.extent == key.extent) and substitute_scalar(e.body, {axis: key.dim}) is of


# ── the product ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Factors:
    scale: float
    queries: Scalar
    keys: Scalar


def _factors(product: Reduce, key: Variable) -> _Factors | None:
    """The sum of products of queries and keys that ``product`` is."""
    if product.op != "sum" or len(product.axes) != 1:
        return None
    extent = product.axes[0].extent
    if isinstance(extent, int) and extent < MIN_TERMS:
        return None
    if not isinstance(product.body, Apply) or product.body.op != "mul":
        return None
    scale = 1.0
    sides: dict[bool, Scalar] = {}
    for factor, is_divisor in _leaves(product.body):
        if isinstance(factor, Const):
            scale = scale / factor.value if is_divisor else scale * factor.value
            continue
        side = key in factor.variables
        sides[side] = sides[side] * factor if side in sides else factor
    if len(sides) < 2 or not math.isfinite(scale) or reductions(sides.values()):
        return None
    return _Factors(scale, sides[False], sides[True])


def _slides(keys: Scalar, key: Variable, axes: Sequence[Variable]) -> bool:
    """Whether the next query along one of `axes` has the same ``keys``, one further.

    So it is with relative positions: their products are those of matrices, shifted row by row.
    """
    for e in accesses([keys]):
        step = stride_of(e.address, key)
        if step not in {None, 0} and any(stride_of(e.address, a) in {step, -step} for a in axes):
            return True
    return False


def _leaves(e: Scalar) -> Iterator[tuple[Scalar, bool]]:
    """The factors that ``e`` multiplies, and whether it divides by them, which numbers only may."""
    if isinstance(e, Apply) and e.op == "mul":
        for part in e.args:
            yield from _leaves(part)
    elif isinstance(e, Apply) and e.op == "div" and _is_divisor(e.args[1]):
        yield from _leaves(e.args[0])
        yield e.args[1], True
    else:
        yield e, False


def _is_divisor(e: Scalar) -> bool:
    return isinstance(e, Const) and e.value != 0


# ── who sees what ──────────────────────────────────────────────────────────────────────────────


def visible(a: Attention, is_high: Scalar) -> Scalar | None:
    """Whether the weight of a key may be other than 0; None if nothing hides any.

    ``is_high`` says that the query has had a score above `LOW`.
    """
    hidden = _hidden(a.scores, a.score, is_high)
    return None if hidden is FALSE else ~hidden


def _hidden(e: Scalar, score: Scalar, is_high: Scalar) -> Scalar:
    """Whether a finite ``score`` does not matter: ``e`` is −∞, or far below a higher one."""
    if isinstance(e, Const):
        return TRUE if e.value == -math.inf else is_high if e.value <= LOWEST else FALSE
    if not isinstance(e, Apply):
        return FALSE
    if e.op == "cast":
        return _hidden(e.args[0], score, is_high)
    if e.op == "add":
        for one, other in (e.args, e.args[::-1]):
            if not _contains(other, score):
                low = apply("and", apply("le", other, LOWEST), is_high)
                low = apply("or", apply("eq", other, -math.inf), low)
                return apply("or", _hidden(one, score, is_high), low)
    if e.op == "select":
        condition, *choices = e.args
        if not _contains(condition, score):
            yes, no = (_hidden(x, score, is_high) for x in choices)
            return apply("or", apply("and", condition, yes), apply("and", ~condition, no))
    return FALSE


def _contains(e: Scalar, part: Scalar) -> bool:
    return part in reductions([e])


__all__ = ["LOW", "Attention", "as_attention", "visible"]
