"""Derivatives of operators that give the same elements another shape, or repeat them."""

from __future__ import annotations

from collections.abc import Sequence

from fornix.ops.generate import ConstantOfShape, EyeLike, Range
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.slope import flat
from fornix.ops.grads.term import Term
from fornix.ops.move import Tile, Transpose
from fornix.ops.random import Bernoulli, RandomNormalLike, RandomUniformLike
from fornix.ops.shape import Expand, Flatten, Identity, Reshape
from fornix.ops.squeeze import Squeeze, Unsqueeze

flat(ConstantOfShape, EyeLike, RandomNormalLike, RandomUniformLike, Bernoulli)


@Identity.grad
def grad_identity(x: Term, *, node: GradNode) -> Gradients:
    return node.g


@Reshape.grad
@Flatten.grad
@Squeeze.grad
@Unsqueeze.grad
def grad_reshape(x: Term, *_: Term | None, node: GradNode, **__: object) -> Gradients:
    return node.make.shaped(node.g, x)


@Expand.grad
def grad_expand(x: Term, shape: Term, *, node: GradNode) -> Gradients:
    return node.make.sum_to(node.g, x)


@Transpose.grad
def grad_transpose(x: Term, *, perm: Sequence[int] | None = None, node: GradNode) -> Gradients:
    if perm is None:
        return node.g.Transpose()
    return node.g.Transpose(perm=sorted(range(len(perm)), key=perm.__getitem__))


@Range.grad
def grad_range(start: Term, limit: Term, delta: Term, *, node: GradNode, **_: int) -> Gradients:
    """Element i is start + i · delta; how many there are does not change smoothly."""
    make, g = node.make, node.g
    steps = make.positions(g).like(g)
    total, weighted = (make.sum(x, [0], keepdims=False) for x in (g, g * steps))
    return make.shaped(total, start), None, make.shaped(weighted, delta)


@Tile.grad
def grad_tile(x: Term, repeats: Term, *, node: GradNode) -> Gradients:
    """Y seen as [r₁, s₁, r₂, s₂ …] holds x at every place of the r, which are summed."""
    make = node.make
    if not x.rank:
        return node.g
    pairs = make.Concat(make.unsqueeze(repeats, [1]), make.unsqueeze(make.shape(x), [1]), axis=1)
    split = node.g.Reshape(make.Reshape(pairs, make.ints([-1])))
    return make.sum(split, range(0, 2 * x.rank, 2), keepdims=False)
