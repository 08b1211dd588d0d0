"""Derivatives of operators that put elements together or choose them by position.

What chooses elements has a gradient that puts them back among zeros. `chosen` finds where they were
by giving the operator the positions in place of the elements, so that one rule serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from fornix.ops.geometry import normalize_axis
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.term import Term
from fornix.ops.move import Concat, Split
from fornix.ops.pad import CenterCropPad, Pad
from fornix.ops.search import Compress
from fornix.ops.shuffle import DepthToSpace, ReverseSequence, SpaceToDepth, Trilu
from fornix.ops.slice import Slice

LENGTHS_AS_INPUT = 13
"""Opset from which Split takes the lengths of the parts as an input."""


def chosen(x: Term, *others: Term | None, node: GradNode, **attributes: object) -> Gradients:
    """The gradient added up at the places that the node took its elements from."""
    make = node.make
    places = make.results(node.operator.name, [make.positions(x), *others], attributes)[0]
    return make.scattered(node.g, places, x)


def chosen_or_padded(
    x: Term, *others: Term | None, node: GradNode, **attributes: object
) -> Gradients:
    """`chosen`, for a node that puts zeros where it takes nothing: positions count from 1."""
    make = node.make
    places = make.results(node.operator.name, [make.positions(x) + 1, *others], attributes)[0]
    is_chosen = places > 0
    return make.scattered(is_chosen.Where(node.g, 0), is_chosen.Where(places - 1, 0), x)


DepthToSpace.grad(chosen)
CenterCropPad.grad(chosen_or_padded)
SpaceToDepth.grad(chosen)
Compress.grad(chosen)


@Concat.grad
def grad_concat(*inputs: Term, axis: int, node: GradNode) -> Gradients:
    """Every input gets its part."""
    make = node.make
    if len(inputs) == 1:
        return node.g
    lengths = [make.extent(x, axis) for x in inputs]
    return split(node.g, lengths, axis)


def split(g: Term, lengths: Sequence[Term], axis: int) -> tuple[Term, ...]:
    """``g`` cut into parts of these ``lengths``."""
    make = g.make
    if make.opset >= LENGTHS_AS_INPUT:
        return make.results("Split", [g, make.joined(lengths)], {"axis": axis}, len(lengths))
    ends = [make.ints([0])]
    for length in lengths:
        ends.append(ends[-1] + length)
    along = make.ints([axis])
    return tuple(make.Slice(g, start, end, along) for start, end in pairwise(ends))


@Split.grad
def grad_split(x: Term, *_: Term | None, axis: int, node: GradNode, **__: object) -> Gradients:
    parts = [
        node.make.zeros(node.output(index)) if g is None else g
        for index, g in enumerate(node.gradients)
    ]
    return node.make.Concat(*parts, axis=axis)


@Slice.grad
def grad_slice(
    x: Term,
    starts: Term,
    ends: Term,
    axes: Term | None = None,
    steps: Term | None = None,
    *,
    node: GradNode,
) -> Gradients:
    """Zeros around it, where a run of neighbours was taken; else every element at its place."""
    pads = _padding(x, starts, axes, steps, node)
    if pads is None:
        return chosen(x, starts, ends, axes, steps, node=node)
    return node.make.Pad(node.g, pads)


def _padding(
    x: Term, starts: Term, axes: Term | None, steps: Term | None, node: GradNode
) -> Term | None:
    """What Pad has to add to a slice of step 1; None where that is not known before a run."""
    make, y = node.make, node.y
    first = starts.ints
    stride = [1] if steps is None else steps.ints
    if first is None or stride is None or any(step != 1 for step in stride):
        return None
    along = list(range(len(first))) if axes is None else axes.ints
    if along is None:
        return None
    before, after = [0] * x.rank, [make.ints([0])] * x.rank
    for start, given in zip(first, along, strict=True):
        axis = normalize_axis(given, x.rank)
        extent = x.shape[axis]
        if start < 0 or (start > 0 and not isinstance(extent, int)):
            return None
        before[axis] = min(start, extent) if isinstance(extent, int) else start
        lost = make.extent(x, axis) - make.extent(y, axis)
        after[axis] = lost - make.ints([before[axis]])
    return make.joined([*before, *after])


@Pad.grad
def grad_pad(
    x: Term,
    pads: Term,
    constant_value: Term | None = None,
    axes: Term | None = None,
    *,
    mode: str,
    node: GradNode,
) -> Gradients:
    """A constant is cut off again; elements that were repeated get the sum."""
    make = node.make
    if mode != "constant":
        return chosen(x, pads, None, axes, mode=mode, node=node)
    kept = make.Pad(node.g, -pads, None, axes)
    if not node.needs(2) or constant_value is None:
        return kept
    everywhere = make.sum(node.g, range(node.g.rank)) if node.g.rank else node.g
    inside = make.sum(kept, range(kept.rank)) if kept.rank else kept
    return kept, None, make.shaped(everywhere - inside, constant_value)


@ReverseSequence.grad
def grad_reverse_sequence(
    x: Term, lengths: Term, *, batch_axis: int, time_axis: int, node: GradNode
) -> Gradients:
    """Turning round twice changes nothing."""
    return node.g.ReverseSequence(lengths, batch_axis=batch_axis, time_axis=time_axis)


@Trilu.grad
def grad_trilu(x: Term, k: Term | None = None, *, upper: int, node: GradNode) -> Gradients:
    return node.make.Trilu(node.g, k, upper=upper)
