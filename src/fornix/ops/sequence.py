"""Sequences: making, reading and changing lists of tensors, and running a body on each element.

A sequence is a Python list at run time, never changed in place. Inference knows one type for all
elements, not how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from fornix.dtype import FLOAT32, INT64, DType
from fornix.errors import DTypeError, Fail, NotSupported, SchemaError, ShapeError, require
from fornix.ir.dim import Dim, DimLike, known
from fornix.ir.graph import Graph
from fornix.ir.types import SequenceType, TensorType, Type
from fornix.ops.call import BodyNode, InferNode, RunNode
from fornix.ops.control import Many, Turns
from fornix.ops.fact import Array, Fact, dims_of, join_types, tensor, unranked
from fornix.ops.geometry import listed, normalize_axis, shape_text, single
from fornix.ops.move import concat
from fornix.ops.op import op
from fornix.ops.types import BF16, I32, I64, SEQ, TENSOR

Values = list[Array]


def _element(sequence: Fact) -> Type | None:
    """The type of the elements, as far as it is known."""
    return sequence.type.elem if isinstance(sequence.type, SequenceType) else None


def _place(position: Array | None, count: int, last: int) -> int:
    """``position`` counted from the front; it may be as great as ``last``, which is its default.

    Raises Fail if it is out of range.
    """
    if position is None:
        require(last >= 0, "the sequence must have an element, found none", Fail)
        return last
    # of a scalar NumPy takes a third as long to make a number as to look for its one element
    place = int(position if position.ndim == 0 else single(position, "position"))
    if not -count <= place <= last:
        raise Fail(
            f"position must be in [{-count}, {last}] for a sequence of {count}, found {place}"
        )
    return place + count if place < 0 else place


LISTS = "sequences are lists of tensors, which loops do not hold"
"""Why compiled code calls the kernels."""

SequenceEmpty = op(
    "SequenceEmpty <dtype: int?> () => (output: S)", since=11, S=SEQ(TENSOR)
).opaque(LISTS)  # fmt: skip


@SequenceEmpty.infer
def infer_sequence_empty(*, dtype: int | None = None) -> Fact:
    return Fact(SequenceType(TensorType(FLOAT32 if dtype is None else DType.of(dtype))))


@SequenceEmpty.kernel
def sequence_empty(*, dtype: int | None = None) -> Values:
    """A sequence without elements, for tensors of type ``dtype``, float32 unless given.

    Source: ONNX SequenceEmpty-11.
    """
    DType.of(FLOAT32 if dtype is None else dtype)
    return []


SequenceConstruct = op(
    "SequenceConstruct (inputs: T+) => (output_sequence: S)", since=11, T=TENSOR, S=SEQ(TENSOR)
).opaque(LISTS)


@SequenceConstruct.infer
def infer_sequence_construct(*inputs: Fact) -> Fact:
    common = inputs[0].type
    for fact in inputs[1:]:
        common = join_types(common, fact.type, "the elements of a sequence differ")
    return Fact(SequenceType(common))


@SequenceConstruct.kernel
def sequence_construct(*inputs: Array) -> Values:
    """The inputs as a sequence. Source: ONNX SequenceConstruct-11."""
    return list(inputs)


SequenceInsert = op(
    "SequenceInsert (input_sequence: S, tensor: T, position: I?) => (output_sequence: S)",
    since=11, T=TENSOR, S=SEQ(TENSOR), I=I32 | I64,
).opaque(LISTS)  # fmt: skip


@SequenceInsert.infer
def infer_sequence_insert(
    input_sequence: Fact, inserted: Fact, position: Fact | None = None
) -> Fact:
    element = _element(input_sequence)
    if element is None:
        return Fact(SequenceType(None if inserted.dtype is None else TensorType(inserted.dtype)))
    return Fact(SequenceType(join_types(element, inserted.type, "elements of a sequence differ")))


@SequenceInsert.kernel
def sequence_insert(
    input_sequence: Values, inserted: Array, position: Array | None = None
) -> Values:
    """``input_sequence`` with a tensor put in at ``position``, by default at the end.

    With n elements, the position is in [−n, n] and counts from the end if negative.
    Raises DTypeError if the elements are of another type, Fail if the position is out of range.
    Source: ONNX SequenceInsert-11.
    """
    if input_sequence and input_sequence[0].dtype != inserted.dtype:
        raise DTypeError(
            f"tensor must be {DType.of(input_sequence[0].dtype)} as the elements of "
            f"input_sequence, found {DType.of(inserted.dtype)}"
        )
    place = _place(position, len(input_sequence), len(input_sequence))
    return [*input_sequence[:place], inserted, *input_sequence[place:]]


SequenceErase = op(
    "SequenceErase (input_sequence: S, position: I?) => (output_sequence: S)",
    since=11, S=SEQ(TENSOR), I=I32 | I64,
).opaque(LISTS)  # fmt: skip


@SequenceErase.infer
def infer_sequence_erase(input_sequence: Fact, position: Fact | None = None) -> Fact:
    return Fact(input_sequence.type)


@SequenceErase.kernel
def sequence_erase(input_sequence: Values, position: Array | None = None) -> Values:
    """``input_sequence`` without the element at ``position``, by default the last.

    Raises Fail if the position is out of range. Source: ONNX SequenceErase-11.
    """
    place = _place(position, len(input_sequence), len(input_sequence) - 1)
    return [*input_sequence[:place], *input_sequence[place + 1 :]]


SequenceAt = op(
    "SequenceAt (input_sequence: S, position: I) => (tensor: T)",
    since=11, S=SEQ(TENSOR), T=TENSOR, I=I32 | I64,
).opaque(LISTS)  # fmt: skip


@SequenceAt.infer
def infer_sequence_at(input_sequence: Fact, position: Fact, *, node: InferNode) -> Fact:
    element = _element(input_sequence)
    if not isinstance(element, TensorType) or element.shape is None:
        return Fact(element)
    # What is not known of elements may be another number for each.
    shape = [
        node.unknown("elements may differ") if isinstance(d, Dim) and d.unknowns else d
        for d in element.shape
    ]
    return Fact(TensorType(element.dtype, tuple(shape)))


@SequenceAt.kernel
def sequence_at(input_sequence: Values, position: Array) -> Array:
    """The element of ``input_sequence`` at ``position``, counted from the end if negative.

    Raises Fail if the position is out of range. Source: ONNX SequenceAt-11.
    """
    return input_sequence[_place(position, len(input_sequence), len(input_sequence) - 1)]


SequenceLength = op(
    "SequenceLength (input_sequence: S) => (length: I)", since=11, S=SEQ(TENSOR), I=I64
).opaque(LISTS)


@SequenceLength.infer
def infer_sequence_length(input_sequence: Fact) -> Fact:
    return tensor(INT64, ())


@SequenceLength.kernel
def sequence_length(input_sequence: Values) -> Array:
    """Number of elements of ``input_sequence``, a scalar. Source: ONNX SequenceLength-11."""
    return np.array(len(input_sequence), np.int64)


SplitToSequence = (
    op("""SplitToSequence <axis: int = 0, keepdims: int = 1> (input: T, split: I?) =>
              (output_sequence: S)""", since=11, T=TENSOR, I=I32 | I64, S=SEQ(TENSOR))
    .since(24, T=+BF16, S=+SEQ(BF16))
    .opaque(LISTS)
)  # fmt: skip


@SplitToSequence.infer
def infer_split_to_sequence(
    input: Fact, split: Fact | None = None, *, axis: int, keepdims: int, node: InferNode
) -> Fact:
    if not input.has_rank:
        return Fact(SequenceType(unranked(input.dtype).type))
    place = normalize_axis(axis, input.rank)
    shape = input.shape
    drops = not keepdims and _are_slices(split)
    if drops is None:
        return Fact(SequenceType(unranked(input.dtype).type))
    if drops:
        return Fact(SequenceType(TensorType(input.dtype, shape[:place] + shape[place + 1 :])))
    extent = 1 if split is None else _common_part(shape[place], split)
    if extent is None:
        extent = node.unknown("the lengths of the parts differ or are computed at run time")
    parts = TensorType(input.dtype, (*shape[:place], extent, *shape[place + 1 :]))
    return Fact(SequenceType(parts))


def _are_slices(split: Fact | None) -> bool | None:
    """Whether each part is one slice because nothing, or a single 1, says so; None if it may be."""
    if split is None or (split.has_rank and split.rank):
        return split is None
    lengths = dims_of(split.value) if split.has_rank else None
    length = known(lengths[0]) if lengths else None
    return None if length is None else length == 1


def _common_part(extent: DimLike, split: Fact) -> DimLike | None:
    """The length that all parts have, if that is known."""
    lengths = dims_of(split.value)
    if lengths is None or not lengths:
        return None
    if split.rank == 1:
        return lengths[0] if all(length == lengths[0] for length in lengths) else None
    whole, part = known(extent), known(lengths[0])
    require(part is None or part > 0, f"split must be greater than zero, found {part}")
    fits = whole is not None and part is not None and part > 0 and whole % part == 0
    return part if fits else None


@SplitToSequence.kernel
def split_to_sequence(
    input: Array, split: Array | None = None, *, axis: int, keepdims: int
) -> Values:
    """``input`` cut along ``axis`` into parts as long as ``split`` says.

    input[*A, N, *B] → tensors[*A, Nᵢ, *B]. A scalar ``split`` is the length of every part but a
    shorter last one; without ``split`` each part is one slice, which loses the axis if keepdims=0.
    So it does where a scalar ``split`` is 1, which PyTorch's exporter writes for unbind; the
    standard ignores keepdims there. Source: ONNX SplitToSequence-11.
    """
    place = normalize_axis(axis, input.ndim)
    extent = input.shape[place]
    ahead: tuple[Any, ...] = (slice(None),) * place
    if not keepdims and (split is None or (split.ndim == 0 and split == 1)):
        return [input[(*ahead, index, ...)] for index in range(extent)]
    ends = list(range(1, extent + 1)) if split is None else _ends(extent, split)
    starts = [0, *ends[:-1]]
    return [input[(*ahead, slice(*piece))] for piece in zip(starts, ends, strict=False)]


def _ends(extent: int, split: Array) -> list[int]:
    """Where each part ends; raises ShapeError if the parts do not fill the axis."""
    if split.ndim == 0:
        length = int(split)
        require(length >= 1, f"a scalar split must be 1 or more, got {length}")
        return [min(end, extent) for end in range(length, extent + length, length)]
    lengths = listed(split, "split")
    require(
        min(lengths, default=0) >= 0 and sum(lengths) == extent,
        f"entries of split must be 0 or more and add up to {extent}, got {shape_text(lengths)}",
    )
    return list(accumulate(lengths))


ConcatFromSequence = op(
    "ConcatFromSequence <axis: int, new_axis: int = 0> (input_sequence: S) => (concat_result: T)",
    since=11, S=SEQ(TENSOR), T=TENSOR,
).opaque(LISTS)  # fmt: skip


@ConcatFromSequence.infer
def infer_concat_from_sequence(
    input_sequence: Fact, *, axis: int, new_axis: int, node: InferNode
) -> Fact:
    element = _element(input_sequence)
    if not isinstance(element, TensorType):
        return Fact()
    part = Fact(element)
    if not part.has_rank:
        return part
    count = node.unknown("the number of elements of the sequence is known at run time")
    if new_axis:
        place = normalize_axis(axis, part.rank + 1)
        return tensor(part.dtype, (*part.shape[:place], count, *part.shape[place:]))
    place = normalize_axis(axis, part.rank)
    return tensor(part.dtype, (*part.shape[:place], count, *part.shape[place + 1 :]))


@ConcatFromSequence.kernel
def concat_from_sequence(input_sequence: Values, *, axis: int, new_axis: int) -> Array:
    """The elements one behind the other along ``axis``, or stacked along a new one.

    [*A, Nᵢ, *B] → concat_result[*A, Σ Nᵢ, *B], or with new_axis=1 n times [*S] → [*A, n, *B] with S
    around the new axis. Raises Fail if there are none, ShapeError if their shapes do not agree.
    Source: ONNX ConcatFromSequence-11.
    """
    require(input_sequence, "the sequence must have an element, found none", Fail)
    if not new_axis:
        return concat(*input_sequence, axis=axis)
    shapes = list(dict.fromkeys(x.shape for x in input_sequence))
    if len(shapes) > 1:
        texts = " and ".join(map(shape_text, shapes))
        raise ShapeError(f"elements to be stacked must have one shape, found {texts}")
    return np.stack(input_sequence, normalize_axis(axis, len(shapes[0]) + 1))


SequenceMap = op(
    """SequenceMap <body: graph> (input_sequence: S, additional_inputs: each V*) =>
           (out_sequence: each S+)""",
    since=17, S=SEQ(TENSOR), V=TENSOR | SEQ(TENSOR), deterministic=False,
).opaque(LISTS)  # fmt: skip


@SequenceMap.infer
def infer_sequence_map(*inputs: Fact, body: Graph, node: InferNode) -> tuple[Fact, ...]:
    samples = [
        Fact(fact.type.elem) if isinstance(fact.type, SequenceType) else fact for fact in inputs
    ]
    return tuple(Fact(SequenceType(fact.type)) for fact in node.infer_body(body, samples))


@SequenceMap.body(since=17)
def sequence_map_body(*, node: BodyNode) -> str:
    # As many iterations as the longest sequence has elements: of a shorter one the next is missing.
    # Reading text takes a good part of the package, which operators are made without.
    from fornix.ops.body import inlined  # noqa: PLC0415

    graph = node.attributes["body"]
    if not isinstance(graph, Graph):
        raise SchemaError(f"SequenceMap-17: body must be a graph, found {type(graph).__name__}")
    inputs = [f"x{k}" for k in range(len(node.given))]
    walked = [k for k in range(len(inputs)) if _is_walked(node, k)]
    read = [f"element{k}" if k in walked else name for k, name in enumerate(inputs)]
    steps = [f"element{k} = SequenceAt (x{k}, place)" for k in walked]
    counts = [f"count{k} = SequenceLength (x{k})" for k in walked]
    places = range(len(graph.outputs))
    starts, before, after, results, outputs = (
        [f"{name}{k}" for k in places] for name in ("none", "before", "after", "result", "y")
    )
    empty = [
        f"{name} = SequenceEmpty <dtype = {_element_code(value.type)}> ()"
        for name, value in zip(starts, graph.outputs, strict=True)
    ]
    grown = [f"after{k} = SequenceInsert (before{k}, result{k})" for k in places]
    return f"""<domain: "", opset_import: ["": {node.opset}]>
        SequenceMap <body: graph> ({", ".join(inputs)}) => ({", ".join(outputs)})
        {{
            {" ".join(counts)}
            Count = Max ({", ".join(f"count{k}" for k in walked)})
            True = Constant <value = bool {{1}}> ()
            {" ".join(empty)}
            {", ".join(outputs)} = Loop <body = each (place, go, {", ".join(before)})
                                           => (goes, {", ".join(after)})
            {{
                goes = Identity (go)
                {" ".join(steps)}
                {inlined(graph, read, results)}
                {" ".join(grown)}
            }}> (Count, True, {", ".join(starts)})
        }}
    """


def _is_walked(node: BodyNode, index: int) -> bool:
    """Whether an input of SequenceMap is a sequence."""
    found = node.type(index)
    if index and found is None:
        raise NotSupported(
            f"the body of SequenceMap depends on the type of input {index}, which is not known"
        )
    return index == 0 or isinstance(found, SequenceType)


def _element_code(type_: Type | None) -> int:
    dtype = type_.dtype if isinstance(type_, TensorType) else None
    if dtype is None:
        raise NotSupported(
            "the body of SequenceMap depends on the element types of its graph's outputs, "
            f"found {type_ or 'none'}"
        )
    return dtype.code


@SequenceMap.kernel
def sequence_map(*inputs: Any, body: Graph, node: RunNode) -> tuple[Values, ...]:
    """The results of ``body`` for each element of the first sequence, as sequences.

    Further sequences must be as long and are walked along; tensors are passed as they are.
    Raises Fail if the lengths differ. Source: ONNX SequenceMap-17.
    """
    return mapped(partial(node.run_body, body), body, inputs)


def mapped(
    run: Callable[[list[Any]], Sequence[Any]],
    body: Graph,
    inputs: Sequence[Any],
    many: Many | None = None,
) -> tuple[Values, ...]:
    """What `sequence_map` gives, where ``run`` runs ``body`` on what ``many`` does not do."""
    lengths = [len(value) for value in inputs if isinstance(value, list)]
    require(
        len(set(lengths)) == 1, f"sequences must have one length, found {shape_text(lengths)}", Fail
    )
    limit, results = lengths[0], [Values() for _ in body.outputs]
    sources = [value if isinstance(value, list) else [value] * limit for value in inputs]
    turns = Turns([], results, limit > 0, limit, 0, sources)
    while turns.iteration < limit:
        if many is not None and many(turns):
            continue
        sample = [source[turns.iteration] for source in sources]
        for collected, value in zip(results, run(sample), strict=True):
            collected.append(value)
        turns.iteration += 1
    return tuple(results)
