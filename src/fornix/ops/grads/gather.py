"""Derivatives of operators that choose or replace elements by computed indices.

An element that is chosen several times gets the sum, which needs ScatterElements or ScatterND with
a reduction (opset 16). Those two themselves have derivatives without a reduction and with "add".
"""

from __future__ import annotations

import numpy as np

from fornix.dtype import INT64
from fornix.errors import NotSupported, require
from fornix.ops.extremes import TopK
from fornix.ops.gather import Gather, GatherElements, GatherND, OneHot
from fornix.ops.geometry import normalize_axis
from fornix.ops.grads.move import chosen
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.term import Term
from fornix.ops.indexed_pool import MaxUnpool
from fornix.ops.scatter import Scatter, ScatterElements, ScatterND, TensorScatter


@Gather.grad
def grad_gather(data: Term, indices: Term, *, axis: int, node: GradNode) -> Gradients:
    """Rows of the gradient added up where they were taken from: y[*P, *I, *Q], data[*P, n, *Q]."""
    make = node.make
    axis, count = normalize_axis(axis, data.rank), indices.rank
    taken = list(range(axis, axis + count))
    rows = [*taken, *(i for i in range(data.rank - 1 + count) if i not in taken)]
    g = _transposed(node.g, rows)
    front = [axis, *(i for i in range(data.rank) if i != axis)]
    zeros = _transposed(make.zeros(data), front)
    places = make.unsqueeze(indices, [count]).cast(INT64)
    added = make.ScatterND(zeros, places, g, reduction="add")
    return _transposed(added, sorted(range(data.rank), key=front.__getitem__))


def _transposed(x: Term, perm: list[int]) -> Term:
    return x if perm == list(range(len(perm))) else x.Transpose(perm=perm)


@GatherElements.grad
def grad_gather_elements(data: Term, indices: Term, *, axis: int, node: GradNode) -> Gradients:
    zeros = node.make.zeros(data)
    return node.make.ScatterElements(zeros, indices, node.g, axis=axis, reduction="add")


@GatherND.grad
def grad_gather_nd(data: Term, indices: Term, *, batch_dims: int = 0, node: GradNode) -> Gradients:
    if batch_dims:
        return chosen(data, indices, batch_dims=batch_dims, node=node)
    return node.make.ScatterND(node.make.zeros(data), indices, node.g, reduction="add")


@Scatter.grad
@ScatterElements.grad
def grad_scatter_elements(
    data: Term,
    indices: Term,
    updates: Term,
    *,
    axis: int,
    reduction: str = "none",
    node: GradNode,
) -> Gradients:
    """Updates get what stands where they went; data that they replaced gets nothing."""
    make, g = node.make, node.g
    _check_reduction(reduction)
    of_updates = make.GatherElements(g, indices, axis=axis)
    if reduction == "add":
        return g, None, of_updates
    return make.ScatterElements(g, indices, make.zeros(updates), axis=axis), None, of_updates


@ScatterND.grad
def grad_scatter_nd(
    data: Term, indices: Term, updates: Term, *, reduction: str = "none", node: GradNode
) -> Gradients:
    make, g = node.make, node.g
    _check_reduction(reduction)
    of_updates = make.GatherND(g, indices)
    if reduction == "add":
        return g, None, of_updates
    return make.ScatterND(g, indices, make.zeros(updates)), None, of_updates


def _check_reduction(reduction: str) -> None:
    require(
        reduction in {"none", "add"},
        f"the derivative of the reduction {reduction!r} is not supported",
        NotSupported,
    )


@TensorScatter.grad
def grad_tensor_scatter(
    cache: Term,
    update: Term,
    write_indices: Term | None = None,
    *,
    axis: int,
    mode: str,
    node: GradNode,
) -> Gradients:
    """As `grad_scatter_nd`; where updates went is found by writing their positions instead."""
    make, g = node.make, node.g
    given = {"axis": axis, "mode": mode}
    kept = make.TensorScatter(g, make.zeros(update), write_indices, **given)
    nowhere = make.full(-1, make.positions(cache))
    places = make.TensorScatter(nowhere, make.positions(update), write_indices, **given)
    is_written = places >= 0
    return kept, make.scattered(is_written.Where(g, 0), is_written.Where(places, 0), update)


@MaxUnpool.grad
def grad_max_unpool(
    x: Term, places: Term, output_shape: Term | None = None, *, node: GradNode, **_: object
) -> Gradients:
    if output_shape is not None:
        raise NotSupported("with output_shape it has no derivative here")
    make = node.make
    found = make.GatherElements(make.reshape(node.g, [-1]), make.reshape(places, [-1]), axis=0)
    return make.shaped(found, x)


@TopK.grad
def grad_top_k(
    x: Term, k: Term | None = None, *, axis: int, node: GradNode, **_: object
) -> Gradients:
    """Every value goes back to where it was found."""
    zeros = node.make.zeros(x)
    return node.make.ScatterElements(zeros, node.output(1), node.g, axis=axis)


@OneHot.grad
def grad_one_hot(
    indices: Term, depth: Term, values: Term, *, axis: int, node: GradNode
) -> Gradients:
    """Values are [off, on]: the sums of the gradient where it is off and where it is on."""
    make, g = node.make, node.g
    ends = make.constant(np.array([0, 1], values.dtype.numpy))
    is_on = make.OneHot(indices, depth, ends, axis=axis)
    everything = range(g.rank)
    on = make.reshape(make.sum(g * is_on, everything), [1])
    off = make.reshape(make.sum(g * (1 - is_on), everything), [1])
    return None, None, make.Concat(off, on, axis=0)
