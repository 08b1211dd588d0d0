"""Control flow: If, Loop and Scan, whose attributes are graphs.

How a body is inferred or run, outer values included, is the caller's matter
(`InferNode.infer_body`, `RunNode.run_body`); here stands only what each operator does with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from typing import Any, TypeAlias

import numpy as np

from fornix.dtype import BOOL as BOOL_DTYPE
from fornix.dtype import INT64
from fornix.errors import ConvertError, Fail, require
from fornix.ir.dim import Dim, DimLike, known, unknown
from fornix.ir.graph import Graph, Node
from fornix.ir.types import OptionalType, SequenceType, TensorType, Type
from fornix.ops.call import InferNode, RunNode
from fornix.ops.fact import Array, Fact, join, tensor
from fornix.ops.geometry import agreed_shape, normalize_axis, unified
from fornix.ops.op import op
from fornix.ops.scanning import Scanning, told_shapes, truth
from fornix.ops.types import BF16, BOOL, E8M0, F4, F8, I2, I4, I64, OPT, SEQ, TENSOR

If = (
    op("If <else_branch: graph, then_branch: graph> (cond: B) => (outputs: each V+)",
       since=1, V=TENSOR, B=BOOL)
    .since(11)
    .since(13, V=+SEQ(TENSOR))
    .since(16, V=+(BF16 | SEQ(BF16) | OPT(TENSOR | BF16 | SEQ(TENSOR | BF16))))
    .since(19, V=+(F8 | SEQ(F8) | OPT(F8)))
    .since(21, V=+(I4 | SEQ(I4) | OPT(I4)))
    .since(23, V=+(F4 | SEQ(F4) | OPT(F4)))
    .since(24, V=+(E8M0 | SEQ(E8M0) | OPT(E8M0)))
    .since(25, V=+(I2 | SEQ(I2) | OPT(I2)))
).opaque("which of its graphs runs depends on data")  # fmt: skip


@If.infer
def infer_if(
    cond: Fact, *, then_branch: Graph, else_branch: Graph, node: InferNode
) -> tuple[Fact, ...]:
    chosen = cond.constant
    if chosen is not None and chosen.size == 1:
        # The other branch may be impossible for just these shapes: that is why it is not taken.
        return tuple(node.infer_body(then_branch if chosen.reshape(()) else else_branch, []))
    then_facts = node.infer_body(then_branch, [])
    else_facts = node.infer_body(else_branch, [])
    require(
        len(then_facts) == len(else_facts) == node.output_count,
        f"both branches must give the node's {node.output_count} outputs, "
        f"found {len(then_facts)} and {len(else_facts)}",
    )
    return tuple(
        join(one, other, "the branches of If differ")
        for one, other in zip(then_facts, else_facts, strict=True)
    )


@If.kernel
def if_(cond: Array, *, then_branch: Graph, else_branch: Graph, node: RunNode) -> tuple[Any, ...]:
    """The outputs of ``then_branch`` if ``cond`` holds, else those of ``else_branch``.

    ``cond`` has one element. Only the chosen branch is evaluated. Source: ONNX If-11.
    """
    return tuple(node.run_body(then_branch if truth(cond) else else_branch, []))


Loop = (
    op("""Loop <body: graph> (M: I?, cond: B?, v_initial: each V+) =>
              (v_final_and_scan_outputs: each V+)""", since=1, V=TENSOR, I=I64, B=BOOL)
    .since(11, """Loop <body: graph> (M: I?, cond: B?, v_initial: each V*) =>
                      (v_final_and_scan_outputs: each V+)""")
    .since(13, V=+SEQ(TENSOR))
    .since(16, V=+(BF16 | SEQ(BF16) | OPT(TENSOR | BF16 | SEQ(TENSOR | BF16))))
    .since(19, V=+(F8 | SEQ(F8) | OPT(F8)))
    .since(21, V=+(I4 | SEQ(I4) | OPT(I4)))
    .since(23, V=+(F4 | SEQ(F4) | OPT(F4)))
    .since(24, V=+(E8M0 | SEQ(E8M0) | OPT(E8M0)))
    .since(25, V=+(I2 | SEQ(I2) | OPT(I2)))
).opaque("it runs a graph until data say stop")  # fmt: skip

WIDENINGS = 16
"""Rounds in which carried values may lose what is known of them, one extent after the other."""
CHANGES = "it changes from one iteration to the next"


@Loop.infer
def infer_loop(
    M: Fact | None = None,
    cond: Fact | None = None,
    *v_initial: Fact,
    body: Graph,
    node: InferNode,
) -> tuple[Fact, ...]:
    stays = cond is None or (cond.constant is not None and bool(cond.constant.all()))
    places, truths = told_shapes(body)
    holds = np.full(truths, 1, object) if stays else None
    leading = [tensor(INT64, places), tensor(BOOL_DTYPE, truths, holds)]
    carried, results = _fixed_point(node, body, leading, v_initial, 1)
    trips: DimLike = node.unknown("the number of iterations is known at run time")
    if stays and M is not None and M.value is not None and _is_true(results[0]):
        trips = M.value.reshape(-1)[0]
    scanned = results[1 + len(carried) :]
    return (*carried, *(_stacked(fact, trips, 0) for fact in scanned))


def _is_true(fact: Fact) -> bool:
    return fact.constant is not None and bool(fact.constant.all())


def _fixed_point(
    node: InferNode,
    body: Graph,
    leading: Sequence[Fact],
    initial: Sequence[Fact],
    skipped: int,
    trailing: Sequence[Fact] = (),
    *,
    keeps_shapes: bool = False,
) -> tuple[list[Fact], list[Fact]]:
    """Facts that hold for the carried values in every iteration, and the body's results.

    ``leading`` and ``trailing`` are the body's other inputs; its results begin with ``skipped``
    others, then the carried values. With ``keeps_shapes`` no iteration changes a shape. What the
    body declares of extents that change is not believed: exporters write what holds at first.
    """
    declared = chain((value.type for value in body.inputs[len(leading) :]), repeat(None))
    carried = [Fact(_begun(fact.type, type_)) for fact, type_ in zip(initial, declared)]  # noqa: B905 - the second one is endless
    results: list[Fact] = []
    free: set[DimLike] = set()
    for _ in range(WIDENINGS):
        results = node.infer_body(body, [*leading, *carried, *trailing], free)
        after = results[skipped : skipped + len(carried)]
        require(
            len(after) == len(carried),
            f"the body must give {skipped + len(carried)} outputs or more, found {len(results)}",
        )
        widened = [
            Fact(_widened(one, other, free, keeps_shapes))
            for one, other in zip(carried, after, strict=True)
        ]
        if [fact.type for fact in widened] == [fact.type for fact in carried]:
            break
        carried = widened
    else:
        carried = [Fact(_without_shape(fact)) for fact in carried]
        results = node.infer_body(body, [*leading, *carried, *trailing])
    again: dict[DimLike, DimLike] = {extent: unknown(CHANGES) for extent in free}
    return [_replaced(fact, again) for fact in carried], results


def _begun(given: Type | None, declared: Type | None) -> Type | None:
    """The type of a value as a loop begins: extents that nobody knows are those declared."""
    if not (isinstance(given, TensorType) and isinstance(declared, TensorType)):
        return given
    if given.shape is None or declared.shape is None or len(given.shape) != len(declared.shape):
        return TensorType(given.dtype, declared.shape if given.shape is None else given.shape)
    pairs = zip(given.shape, declared.shape, strict=True)
    return TensorType(given.dtype, tuple(a if d is None or _is_told(a) else d for a, d in pairs))


def _is_told(extent: DimLike | None) -> bool:
    return isinstance(extent, int) or (isinstance(extent, Dim) and not extent.unknowns)


def _widened(one: Fact, other: Fact, free: set[DimLike], keeps_shapes: bool) -> Type | None:
    """The type of a value that is ``one`` at first and ``other`` later; ``free`` extents stay.

    An extent that differs becomes free: an unknown that stands for any number. Where shapes are
    kept, what looks different is one extent, told in two ways.
    """
    dtype = one.dtype
    if not (isinstance(one.type, TensorType) and isinstance(other.type, TensorType)) or (
        other.dtype is not dtype
    ):
        found = join(one, other, CHANGES).type
        return found if isinstance(found, TensorType) else _of_told(found)
    if not (one.has_rank and other.has_rank) or one.rank != other.rank:
        ranked = [fact.type for fact in (one, other) if fact.has_rank]
        return ranked[0] if keeps_shapes and len(ranked) == 1 else TensorType(dtype)
    extents = zip(one.shape, other.shape, strict=True)
    return TensorType(dtype, tuple(_steady(a, b, free, keeps_shapes) for a, b in extents))


def _of_told(type_: Type | None) -> Type | None:
    """``type_`` without the extents in it that nobody knows: they would be others in each round."""
    if isinstance(type_, SequenceType | OptionalType):
        return type(type_)(_of_told(type_.elem))
    if not isinstance(type_, TensorType) or type_.shape is None:
        return type_
    return TensorType(type_.dtype, tuple(d if _is_told(d) else None for d in type_.shape))


def _steady(before: DimLike, after: DimLike, free: set[DimLike], keeps_shapes: bool) -> DimLike:
    """What holds of an extent in all iterations."""
    if before == after or before in free:
        return before
    one = unified((before, after)) if keeps_shapes else None
    if one is None:
        one = unknown(CHANGES)
        free.add(one)
    return one


def _replaced(fact: Fact, extents: dict[DimLike, DimLike]) -> Fact:
    """``fact`` with other extents: after the last iteration they need not be as before it."""
    if not isinstance(fact.type, TensorType) or not fact.has_rank:
        return fact
    return tensor(fact.dtype, [extents.get(extent, extent) for extent in fact.shape])


def _without_shape(fact: Fact) -> TensorType | None:
    return TensorType(fact.type.dtype) if isinstance(fact.type, TensorType) else None


def _within(fact: Fact, axes: int) -> Fact:
    """The fact of one element along the first ``axes`` axes."""
    return tensor(fact.dtype, fact.shape[axes:]) if fact.has_rank else Fact(_without_shape(fact))


def _stacked(fact: Fact, count: DimLike, axis: int) -> Fact:
    """The fact of ``count`` values of ``fact`` stacked along a new ``axis``."""
    if not isinstance(fact.type, TensorType) or not fact.has_rank:
        return Fact(_without_shape(fact))
    axis = normalize_axis(axis, fact.rank + 1)
    return tensor(fact.dtype, (*fact.shape[:axis], count, *fact.shape[axis:]))


@Loop.kernel
def loop(
    M: Array | None = None,
    cond: Array | None = None,
    *v_initial: Any,
    body: Graph,
    node: RunNode,
) -> tuple[Any, ...]:
    """Evaluate ``body`` again and again, at most M times, as long as ``cond`` holds.

    body(iteration, cond, *carried) → (cond, *carried, *scanned). The results are the last carried
    values, then for each scanned output its values of all iterations, stacked along a new axis 0.
    Without M and cond the loop ends when the body says so. Source: ONNX Loop-13.
    """
    return repeated(partial(node.run_body, body), body, told_shapes(body), M, cond, v_initial)


@dataclass(slots=True)
class Turns:
    """How far a Loop, a Scan or a SequenceMap has come."""

    carried: list[Any]
    scanned: list[Any]
    """Lists of arrays, or each a stack of those of all iterations."""
    goes_on: bool
    limit: int
    iteration: int
    sources: Sequence[Any] = ()
    """What each iteration reads a slice of, or an element."""

    def slices(self) -> list[Array]:
        """Those that the next iteration of a Scan reads."""
        return [source[self.iteration, ...] for source in self.sources]


Many: TypeAlias = Callable[[Turns], bool]
"""Does some iterations at once, or nothing and gives False."""


def repeated(
    run: Callable[[list[Any]], Sequence[Any]],
    body: Graph,
    told: tuple[tuple[int, ...], tuple[int, ...]],
    M: Array | None,
    cond: Array | None,
    initial: Sequence[Any],
    many: Many | None = None,
) -> tuple[Any, ...]:
    """What `loop` gives, where ``run`` runs ``body``, which is ``told`` tensors of these shapes.

    Iterations that ``many`` does are none for ``run``.
    """
    count, (places, truths) = len(initial), told
    declared = body.outputs[1 + count :]
    goes_on, limit = cond is None or truth(cond), sys.maxsize if M is None else int(M.item(0))
    turns = Turns([*initial], [[] for _ in declared], goes_on, limit, 0)
    holds = np.array([True]) if truths else np.array(True)
    while turns.goes_on and turns.iteration < limit:
        if many is not None and many(turns):
            continue
        number = np.array([turns.iteration] if places else turns.iteration, np.int64)
        condition, *turns.carried = run([number, holds, *turns.carried])
        turns.goes_on = condition is holds or truth(condition)
        for values in reversed(turns.scanned):
            values.append(turns.carried.pop())
        turns.iteration += 1
    if not declared:
        return tuple(turns.carried)
    pairs = zip(turns.scanned, declared, strict=True)
    return (*turns.carried, *(_stack(values, 0, value.type) for values, value in pairs))


def _stack(values: Sequence[Array] | Array, axis: int, declared: object) -> Array:
    """``values`` stacked along a new ``axis``; without any, an empty tensor as ``declared``."""
    if isinstance(values, np.ndarray):
        return np.ascontiguousarray(np.moveaxis(values, 0, axis) if axis else values)
    if not values:
        if not isinstance(declared, TensorType) or declared.dtype is None:
            raise Fail(
                "a loop without iterations gives an empty tensor, whose element type the body must "
                f"declare; found {declared or 'no type'}"
            )
        shape = [known(extent) or 0 for extent in declared.shape or ()]
        axis = normalize_axis(axis, len(shape) + 1)
        return np.empty((*shape[:axis], 0, *shape[axis:]), declared.dtype.numpy)
    shapes = {value.shape for value in values}
    require(
        len(shapes) == 1,
        f"a scanned value must have one shape in all iterations, found {sorted(shapes)}",
    )
    if axis:
        return np.stack(values, axis)
    if not values[0].ndim:
        return np.fromiter([value[()] for value in values], values[0].dtype, len(values))
    return np.concatenate(values).reshape(len(values), *values[0].shape)


Scan = (
    op("""Scan <body: graph, directions: ints?, num_scan_inputs: int>
              (sequence_lens: I?, initial_state_and_scan_inputs: each V+) =>
              (final_state_and_scan_outputs: each V+)""", since=8, I=I64, V=TENSOR)
    .since(9, """Scan <body: graph, num_scan_inputs: int, scan_input_axes: ints?,
                     scan_input_directions: ints?, scan_output_axes: ints?,
                     scan_output_directions: ints?>
                     (initial_state_and_scan_inputs: each V+) =>
                     (final_state_and_scan_outputs: each V+)""")
    .since(11)
    .since(16, V=+BF16)
    .since(19, V=+F8)
    .since(21, V=+I4)
    .since(23, V=+F4)
    .since(24, V=+E8M0)
    .since(25, V=+I2)
).opaque("it runs a graph for every slice")  # fmt: skip


@Scan.adapt(8, 9)
def scan_8_to_9(_node: Node, _: Graph) -> None:
    raise ConvertError("Scan of opset 8 runs its body for each batch, which later ones do not")


@Scan.adapt(9, 8)
def scan_9_to_8(_node: Node, _: Graph) -> None:
    raise ConvertError("Scan of opset 8 runs its body for each batch, which later ones do not")


@Scan.infer
def infer_scan_8(
    sequence_lens: Fact | None,
    *values: Fact,
    body: Graph,
    num_scan_inputs: int,
    directions: list[int] | None = None,
    node: InferNode,
) -> tuple[Fact, ...]:
    states = Scanning.of(len(values), node.output_count, num_scan_inputs).states
    [batch] = agreed_shape(*(fact.shape[:1] for fact in values if fact.has_rank))
    unsaid = [node.unknown("the length of the scanned inputs")]
    lengths = (fact.shape[1:2] for fact in values[states:] if fact.has_rank)
    [length] = agreed_shape(*lengths, unsaid)
    inner = [_within(fact, 1) for fact in values[:states]]
    parts = [_within(fact, 2) for fact in values[states:]]
    carried, results = _fixed_point(node, body, [], inner, 0, parts, keeps_shapes=True)
    scanned = [_stacked(fact, length, 0) for fact in results[states:]]
    return tuple(_stacked(fact, batch, 0) for fact in (*carried, *scanned))


@Scan.infer(since=9)
def infer_scan(
    *values: Fact, body: Graph, num_scan_inputs: int, node: InferNode, **axes: list[int]
) -> tuple[Fact, ...]:
    plan = Scanning.of(len(values), node.output_count, num_scan_inputs, **axes)
    parts, length = [], None
    for fact, axis in zip(values[plan.states :], plan.input_axes, strict=True):
        if not fact.has_rank:
            parts.append(Fact(_without_shape(fact)))
            continue
        place = normalize_axis(axis, fact.rank, "scan_input_axes")
        length = fact.shape[place] if length is None or known(length) is None else length
        parts.append(tensor(fact.dtype, fact.shape[:place] + fact.shape[place + 1 :]))
    carried, results = _fixed_point(
        node, body, [], values[: plan.states], 0, parts, keeps_shapes=True
    )
    count = node.unknown("the length of the scanned inputs") if length is None else length
    scanned = [
        _stacked(fact, count, axis)
        for fact, axis in zip(results[plan.states :], plan.output_axes, strict=True)
    ]
    return (*carried, *scanned)


@Scan.kernel
def scan_8(
    sequence_lens: Array | None,
    *values: Array,
    body: Graph,
    num_scan_inputs: int,
    directions: list[int] | None = None,
    node: RunNode,
) -> tuple[Any, ...]:
    """`scan` along axis 1 of every batch entry, each as long as ``sequence_lens`` says.

    Shorter entries are padded with zeros. Source: ONNX Scan-8.
    """
    states = Scanning.of(len(values), len(body.outputs), num_scan_inputs).states
    longest = values[states].shape[1]
    batch = values[0].shape[0]
    lengths = [longest] * batch if sequence_lens is None else sequence_lens.reshape(-1).tolist()
    rows = []
    for entry, length in zip(range(batch), lengths, strict=True):
        inputs = [v[entry] for v in values[:states]] + [v[entry, :length] for v in values[states:]]
        row = scan(
            *inputs,
            body=body,
            num_scan_inputs=num_scan_inputs,
            scan_input_directions=directions,
            node=node,
        )
        padded = [
            np.pad(v, [(0, longest - length), *[(0, 0)] * (v.ndim - 1)]) for v in row[states:]
        ]
        rows.append([*row[:states], *padded])
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def _axis_first(value: Array, axis: int) -> Array:
    """``value`` with another axis ahead, its slices in row-major order as compiled code reads."""
    return np.ascontiguousarray(np.moveaxis(value, axis, 0)) if axis else value


@Scan.kernel(since=9)
def scan(
    *values: Array, body: Graph, num_scan_inputs: int, node: RunNode, **axes: list[int] | None
) -> tuple[Any, ...]:
    """Evaluate ``body`` once for every slice of the scanned inputs, carrying states along.

    body(*states, *slices) → (*states, *scanned). The results are the last states, then for each
    scanned output its values of all steps, stacked along a new axis. Raises ShapeError if the
    scanned inputs differ in length. Source: ONNX Scan-9.
    """
    plan = Scanning.of(len(values), len(body.outputs), num_scan_inputs, **axes)
    return swept(partial(node.run_body, body), body, plan, values)


def swept(
    run: Callable[[list[Any]], Sequence[Any]],
    body: Graph,
    plan: Scanning,
    values: Sequence[Array],
    many: Many | None = None,
) -> tuple[Any, ...]:
    """What `scan` gives, where ``run`` runs ``body``, or ``many`` as in `repeated`."""
    count = plan.states
    sources = [
        _axis_first(value, normalize_axis(axis, value.ndim, "scan_input_axes"))
        for value, axis in zip(values[count:], plan.input_axes, strict=True)
    ]
    lengths = {len(source) for source in sources}
    require(len(lengths) == 1, f"scanned inputs must have one length, found {sorted(lengths)}")
    sources = [s[::-1] if b else s for s, b in zip(sources, plan.input_backward, strict=True)]
    scanned: list[list[Any]] = [[] for _ in plan.output_axes]
    turns = Turns([*values[:count]], scanned, True, lengths.pop(), 0, sources)
    while turns.iteration < turns.limit:
        if many is not None and many(turns):
            continue
        results = run([*turns.carried, *turns.slices()])
        turns.carried = [*results[:count]]
        for collected, value in zip(scanned, results[count:], strict=True):
            collected.append(value)
        turns.iteration += 1
    ordered = [c[::-1] if b else c for c, b in zip(scanned, plan.output_backward, strict=True)]
    declared = [value.type for value in body.outputs[count:]]
    return (*turns.carried, *map(_stack, ordered, plan.output_axes, declared))
