"""Einsum: any sum of products that an equation of labelled axes describes.

An equation is read into integer labels, with the ellipsis expanded; operands are then contracted
in pairs, each pair by one batched matrix product, the pair with the least work first.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fornix.errors import ShapeError, require
from fornix.ir.dim import Dim, DimLike, known
from fornix.ir.loops import Scalar, Tensor, cast, compute, reduce, stored
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import broadcast_shapes, shape_text
from fornix.ops.linalg import multiply
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, wide_dtype, widened
from fornix.ops.types import BF16, NUMERIC
from fornix.ops.window import plain

Labels = tuple[str, ...]

LIKELY_EXTENT = 64
"""What is assumed of an extent that is not known, where the order of products is chosen."""

Einsum = (
    op("Einsum <equation: string> (Inputs: T+) => (Output: T)", since=12, T=NUMERIC)
    .since(28, T=+BF16)
)  # fmt: skip


@Einsum.infer
def infer_einsum(*inputs: Fact, equation: str) -> Fact:
    parsed = parse_equation(equation, [fact.rank for fact in inputs])
    extents = _extents(parsed, [fact.shape for fact in inputs])
    return tensor(inputs[0].dtype, [extents[label] for label in parsed.output])


@Einsum.kernel
def einsum(*inputs: Array, equation: str) -> Array:
    """Sum over all labels that the result lacks of the product of the inputs.

    Letters name axes, a repeated one takes the diagonal, `...` stands for further axes, which
    broadcast; without `->` the result has the labels that occur once, in alphabetical order.
    Accumulates float16 and bfloat16 in float32; integers wrap. Source: ONNX Einsum-12.
    """
    parsed = parse_equation(equation, [x.ndim for x in inputs])
    extents = _extents(parsed, [x.shape for x in inputs])
    sizes = {label: plain(extent) for label, extent in extents.items()}
    operands = [
        _diagonal(widened(x), labels) for x, labels in zip(inputs, parsed.inputs, strict=True)
    ]
    while len(operands) > 1:
        first, second = _cheapest([labels for _, labels in operands], sizes)
        left, right = operands[first], operands[second]
        rest = [o for i, o in enumerate(operands) if i not in {first, second}]
        operands = [*rest, _contract(left, right, _needed(rest, parsed.output), sizes)]
    y, labels = _reduced(*operands[0], frozenset(parsed.output))
    y = y.transpose([labels.index(label) for label in parsed.output])
    y = np.broadcast_to(y, [sizes[label] for label in parsed.output])
    return y.astype(inputs[0].dtype, copy=False)


@Einsum.lower
def lower_einsum(*inputs: Tensor, equation: str, node: LowerNode) -> Tensor:
    parsed = parse_equation(equation, [x.rank for x in inputs])
    extents = _extents(parsed, [x.shape for x in inputs])
    if any(isinstance(extent, Dim) and extent.unknowns for extent in extents.values()):
        node.decline("whether axes broadcast is known at run time only")
    output = frozenset(parsed.output)
    sizes = {label: known(extent) or LIKELY_EXTENT for label, extent in extents.items()}
    operands = [
        (cast_tensor(x, wide_dtype(x.dtype)), labels)
        for x, labels in zip(inputs, parsed.inputs, strict=True)
    ]
    while len(operands) > 1:
        first, second = _cheapest([labels for _, labels in operands], sizes)
        pair = operands[first], operands[second]
        rest = [o for i, o in enumerate(operands) if i not in {first, second}]
        made, labels = _lower_contracted(*pair, _labels_of(rest) | output)
        if rest and not _labels_of(pair) <= set(labels):  # a sum, of which each element meets many
            made = stored(made)
        operands = [*rest[:first], (made, labels), *rest[first:]]
    y, labels = _lower_reduced(operands[0], output)

    def at(*i: DimLike) -> Scalar:
        return cast(_element(y, labels, dict(zip(parsed.output, i, strict=True))), inputs[0].dtype)

    return compute([extents[label] for label in parsed.output], at)


LoopOperand = tuple[Tensor, Labels]


def _labels_of(operands: Iterable[LoopOperand]) -> frozenset[str]:
    return frozenset(itertools.chain.from_iterable(labels for _, labels in operands))


def _element(x: Tensor, labels: Labels, place: Mapping[str, DimLike]) -> Scalar:
    """The element of ``x`` at the index that ``place`` gives each label; extents 1 broadcast."""
    where = (0 if n == 1 else place[label] for label, n in zip(labels, x.shape, strict=True))
    return x[tuple(where)]


def _own(operands: Iterable[LoopOperand]) -> dict[str, DimLike]:
    """The extents of labels that are not 1 in all of ``operands``."""
    pairs = (zip(labels, x.shape, strict=True) for x, labels in operands)
    return {label: n for label, n in itertools.chain.from_iterable(pairs) if n != 1}


def _lower_reduced(operand: LoopOperand, kept: frozenset[str]) -> LoopOperand:
    """`_diagonal` and `_reduced` for lowerings."""
    x, labels = operand
    own = _own([operand])
    left = tuple(label for label in dict.fromkeys(labels) if label in kept)
    summed = tuple(label for label in dict.fromkeys(labels) if label not in kept)
    if left == labels:
        return operand

    def at(*i: DimLike) -> Scalar:
        def part(*k: DimLike) -> Scalar:
            return _element(x, labels, dict(zip((*left, *summed), (*i, *k), strict=True)))

        return reduce("sum", [own.get(label, 1) for label in summed], part)

    return compute([own.get(label, 1) for label in left], at), left


def _lower_contracted(
    first: LoopOperand, second: LoopOperand, needed: frozenset[str]
) -> LoopOperand:
    """`_contract` for lowerings: a[batch, rows, sum] · b[batch, sum, columns].

    What is summed of one operand alone is stored, for each of its elements meets many of the other.
    """
    pair = [
        _lower_reduced(operand, needed | frozenset(other[1]))
        for operand, other in ((first, second), (second, first))
    ]
    pair = [
        made if made[1] == given[1] else (stored(made[0]), made[1])
        for made, given in zip(pair, (first, second), strict=True)
    ]
    own, (a, b) = _own(pair), (labels for _, labels in pair)
    batch = [label for label in a if label in b and label in needed]
    summed = [label for label in a if label in b and label not in needed]
    labels = (
        *batch, *(label for label in a if label not in b), *(label for label in b if label not in a)
    )  # fmt: skip

    def at(*i: DimLike) -> Scalar:
        def product(*k: DimLike) -> Scalar:
            place = dict(zip((*labels, *summed), (*i, *k), strict=True))
            return _element(*pair[0], place) * _element(*pair[1], place)

        return reduce("sum", [own.get(label, 1) for label in summed], product)

    return compute([own.get(label, 1) for label in labels], at), labels


@dataclass(frozen=True, slots=True)
class Equation:
    """Labels of the axes of every input and of the output; those of the ellipsis are numbers."""

    inputs: tuple[Labels, ...]
    output: Labels


def parse_equation(equation: str, ranks: Sequence[int]) -> Equation:
    """Read ``equation`` for operands of these ranks; raises ShapeError if it does not fit them."""
    text = re.sub(r"\s", "", equation)
    terms, arrow, result = text.partition("->")
    operands = terms.split(",")
    for term in (*operands, result):
        require(
            re.fullmatch(r"[A-Za-z]*(\.\.\.)?[A-Za-z]*", term),
            f"a term of the equation must be letters and at most one '...', got {term!r}",
        )
    require(
        len(operands) == len(ranks),
        f"the equation {equation!r} describes {len(operands)} inputs, found {len(ranks)}",
    )
    spare = [
        rank - len(term.replace("...", "")) for term, rank in zip(operands, ranks, strict=True)
    ]
    for index, (term, count) in enumerate(zip(operands, spare, strict=True)):
        require(
            count == 0 or ("..." in term and count > 0),
            f"the term {term!r} must describe every axis of input {index}, "
            f"whose rank is {ranks[index]}",
        )
    inputs = tuple(_labels(term, count) for term, count in zip(operands, spare, strict=True))
    widest = max((n for term, n in zip(operands, spare, strict=True) if "..." in term), default=0)
    output = _labels(result, widest) if arrow else _implicit_output(inputs, widest)
    known_labels = set(itertools.chain(*inputs))
    missing = [label for label in output if label not in known_labels]
    require(not missing, f"the result of {equation!r} has the label {missing[:1]} of no input")
    require(
        len(set(output)) == len(output),
        f"the result of {equation!r} must have each label once",
    )
    return Equation(inputs, output)


def _labels(term: str, ellipsis: int) -> Labels:
    """The labels of one term, the ellipsis numbered from the right so that it broadcasts."""
    head, dots, tail = term.partition("...")
    middle = [str(n) for n in range(ellipsis - 1, -1, -1)] if dots else []
    return (*head, *middle, *tail)


def _implicit_output(inputs: Sequence[Labels], ellipsis: int) -> Labels:
    counts = Counter(itertools.chain(*inputs))
    once = sorted(label for label, count in counts.items() if count == 1 and label.isalpha())
    return (*_labels("...", ellipsis), *once)


def _extents(equation: Equation, shapes: Sequence[Sequence[DimLike]]) -> dict[str, DimLike]:
    """The extent of every label; raises ShapeError where two operands disagree."""
    found: dict[str, list[DimLike]] = {}
    for labels, shape in zip(equation.inputs, shapes, strict=True):
        for label, extent in zip(labels, shape, strict=True):
            found.setdefault(label, []).append(extent)
    extents = {}
    for label, each in found.items():
        try:
            (extents[label],) = broadcast_shapes(*[(extent,) for extent in each])
        except ShapeError:
            raise ShapeError(
                f"axes with one label must have one extent, got {shape_text(each)} for {label!r}"
            ) from None
    return extents


def label_extents(equation: str, shapes: Sequence[Sequence[DimLike]]) -> tuple[DimLike, ...]:
    """The extents of all labels of ``equation``, those that are summed and not in the result too.

    Raises ShapeError where operands do not fit it.
    """
    return tuple(_extents(parse_equation(equation, [*map(len, shapes)]), shapes).values())


Operand = tuple[Array, Labels]


def _diagonal(x: Array, labels: Labels) -> Operand:
    """``x`` with each label once, the diagonal taken where one was repeated; a view."""
    distinct = tuple(dict.fromkeys(labels))
    if len(distinct) == len(labels):
        return x, labels
    axes = {label: [a for a, other in enumerate(labels) if other == label] for label in distinct}
    lengths = {label: max(x.shape[a] for a in axes[label]) for label in distinct}
    view = np.lib.stride_tricks.as_strided(
        x,
        [lengths[label] for label in distinct],
        [sum(x.strides[a] for a in axes[label] if x.shape[a] > 1) for label in distinct],
        writeable=False,
    )
    return view, distinct


def _reduced(x: Array, labels: Labels, kept: frozenset[str]) -> Operand:
    """``x`` summed over the labels that are not ``kept``."""
    dropped = tuple(axis for axis, label in enumerate(labels) if label not in kept)
    if not dropped:
        return x, labels
    total = np.asarray(np.sum(x, axis=dropped, dtype=x.dtype))
    return total, tuple(label for label in labels if label in kept)


def _needed(operands: Iterable[Operand], output: Labels) -> frozenset[str]:
    """Labels that somebody still asks for."""
    return frozenset(output).union(*(labels for _, labels in operands))


def _cheapest(operands: Sequence[Labels], sizes: Mapping[str, int]) -> tuple[int, int]:
    """The pair whose product takes the fewest multiplications."""

    def cost(pair: tuple[int, int]) -> int:
        return math.prod(sizes[label] for label in {*operands[pair[0]], *operands[pair[1]]})

    return min(itertools.combinations(range(len(operands)), 2), key=cost)


def _contract(
    first: Operand, second: Operand, needed: frozenset[str], sizes: Mapping[str, int]
) -> Operand:
    """The product of two operands, summed over labels that nobody else needs.

    Labels sort into batch (in both, needed), sum (in both, not needed), rows and columns (in one):
    a[batch, rows, sum] · b[batch, sum, columns].
    """
    a, a_labels = _reduced(*first, needed | frozenset(second[1]))
    b, b_labels = _reduced(*second, needed | frozenset(first[1]))
    batch = [label for label in a_labels if label in b_labels and label in needed]
    summed = [label for label in a_labels if label in b_labels and label not in needed]
    rows = [label for label in a_labels if label not in b_labels]
    columns = [label for label in b_labels if label not in a_labels]
    left = _arranged(a, a_labels, (batch, rows, summed), sizes)
    right = _arranged(b, b_labels, (batch, summed, columns), sizes)
    labels = (*batch, *rows, *columns)
    return multiply(left, right).reshape([sizes[label] for label in labels]), labels


def _arranged(
    x: Array, labels: Labels, groups: Sequence[Sequence[str]], sizes: Mapping[str, int]
) -> Array:
    """``x`` with each group of labels made one axis, extents of 1 broadcast."""
    order = list(itertools.chain(*groups))
    x = x.transpose([labels.index(label) for label in order])
    x = np.broadcast_to(x, [sizes[label] for label in order])
    return x.reshape([math.prod(sizes[label] for label in group) for group in groups])
