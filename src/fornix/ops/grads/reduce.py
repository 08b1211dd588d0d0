"""Derivatives of reductions and running sums.

Equal extremes share the gradient evenly, as PyTorch's amax does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fornix.ops.cumulative import CumProd, CumSum
from fornix.ops.geometry import normalize_axes
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.term import Term
from fornix.ops.op import Operator
from fornix.ops.reduce import (
    ReduceL1,
    ReduceL2,
    ReduceLogSum,
    ReduceLogSumExp,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    ReduceSumSquare,
)


def _reduction(operator: Operator, of: Callable[[Term, Term, Term, Axes], Term]) -> None:
    """Register the gradient ``of(x, y, g, again)``, y and g with their reduced axes kept.

    ``again`` reduces another tensor over the same axes by another operator.
    """

    def rule(
        x: Term, axes: Term | list[int] | None = None, *, node: GradNode, **attributes: Any
    ) -> Term:
        again = Axes(x, axes, node, attributes)
        return node.make.expand(of(x, again.kept(node.y), again.kept(node.g), again), x)

    operator.grad(rule)


class Axes:
    """The axes of a reduction, given as an attribute, an input, or not at all.

    Where all are reduced nobody has to know how many there are: scalars broadcast.
    """

    def __init__(
        self,
        x: Term,
        axes: Term | list[int] | None,
        node: GradNode,
        attributes: dict[str, Any],
    ) -> None:
        self.x = x
        self.node = node
        self.keeps = bool(attributes["keepdims"])
        self.is_noop = bool(attributes.get("noop_with_empty_axes", 0))
        self.computed = axes if isinstance(axes, Term) and axes.ints is None else None
        named = axes.ints if isinstance(axes, Term) else axes
        self.axes = list(normalize_axes(named, x.rank)) if named else []
        self.is_all = self.computed is None and not named and not self.is_noop

    def __call__(self, op_type: str, x: Term) -> Term:
        """``x`` reduced over the axes by another operator, so that it broadcasts to ``x``."""
        make = self.node.make
        if self.is_all:
            return make.results(op_type, [x], {"keepdims": 0})[0]
        if self.computed is None:
            return make.along(op_type, x, self.axes)
        attributes = {"noop_with_empty_axes": int(self.is_noop)}
        return make.results(op_type, [x, self.computed], attributes)[0]

    def kept(self, reduced: Term) -> Term:
        """``reduced`` so that it broadcasts to ``x``."""
        make = self.node.make
        if self.keeps or self.is_all:
            return reduced
        if self.computed is None:
            return make.unsqueeze(reduced, self.axes)
        return make.Reshape(reduced, make.Shape(self("ReduceMax", self.x)))

    @property
    def count(self) -> Term:
        """How many elements make one."""
        make = self.node.make
        if self.is_all:
            return make.count(self.x)
        if self.computed is None:
            return make.count(self.x, self.axes)
        return make.count(self.x) / make.count(self("ReduceMax", self.x))


def _of_extreme(x: Term, y: Term, g: Term, again: Axes) -> Term:
    chosen = x.Equal(y).like(x)
    return chosen * (g / again("ReduceSum", chosen))


def _of_product(x: Term, y: Term, g: Term, again: Axes) -> Term:
    """The product of the others: y / x, or the product of what is not 0 at the only 0."""
    is_zero = x.Equal(0)
    without = is_zero.Where(1, x)
    zeros = again("ReduceSum", is_zero.like(x))
    rest = again("ReduceProd", without)
    counts = is_zero.And(zeros.Equal(1)).Or(zeros.Equal(0))
    return counts.Where(g * (rest / without), 0)


def _of_norm(x: Term, y: Term, g: Term, _: Axes) -> Term:
    """``x / y``, and 0 where the norm is 0."""
    return g * (x / y.Equal(0).Where(1, y))


_reduction(ReduceSum, lambda _, __, g, ___: g)
_reduction(ReduceMean, lambda _, __, g, again: g / again.count)
_reduction(ReduceL1, lambda x, _, g, __: g * x.Sign())
_reduction(ReduceL2, _of_norm)
_reduction(ReduceSumSquare, lambda x, _, g, __: 2 * (g * x))
_reduction(ReduceLogSum, lambda x, _, g, again: g / again("ReduceSum", x))
_reduction(ReduceLogSumExp, lambda x, y, g, _: g * (x - y).Exp())
_reduction(ReduceMax, _of_extreme)
_reduction(ReduceMin, _of_extreme)
_reduction(ReduceProd, _of_product)


@CumSum.grad
def grad_cum_sum(x: Term, axis: Term, *, exclusive: int, reverse: int, node: GradNode) -> Gradients:
    """The running sum from the other end."""
    return node.g.CumSum(axis, exclusive=exclusive, reverse=1 - reverse)


@CumProd.grad
def grad_cum_prod(
    x: Term, axis: Term, *, exclusive: int, reverse: int, node: GradNode
) -> Gradients:
    """Σ g · y over the products that x is in, by x; NB: not a number where x is 0."""
    total = (node.g * node.y).CumSum(axis, exclusive=exclusive, reverse=1 - reverse)
    return total / x
