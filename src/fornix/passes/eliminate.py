"""Eliminate what need not be computed or stored.

dead:    nodes none of whose results is used, from the end, so that chains go at once; optional
         results that nobody reads; initializers that nobody reads, unless they are inputs
common:  1. of nodes of one operator with equal attributes and the same inputs, the first stays
         2. of integers known to be equal in every run (shapes, mostly), the first stays
stored:  of initializers with equal contents, the first stays
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from fornix import ops
from fornix.errors import FornixError
from fornix.infer import Inference
from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.dim import Dim, atoms
from fornix.ir.dim.expression import Unknown
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.tensor import Tensor
from fornix.ir.types import TensorType
from fornix.ir.walk import graphs
from fornix.ops.signature import Occurrence
from fornix.passes.apply import Changes, replace

_COMPARED = {
    AttributeKind.INT,
    AttributeKind.FLOAT,
    AttributeKind.STRING,
    AttributeKind.INTS,
    AttributeKind.FLOATS,
    AttributeKind.STRINGS,
}
"""Kinds of attributes that are compared by content; nodes with others are left alone."""

HEAD_BYTES = 1 << 12
"""So much of a tensor decides whether it is worth comparing whole: weights differ in their head,
and must not be paged in from their file only to learn that."""
COMPARED_BYTES = 1 << 28
"""Tensors above this size are not compared."""

Key = tuple[object, ...]


def eliminate_dead(root: Graph, inference: Inference) -> Changes:
    """Remove nodes, results and initializers of ``root`` and its subgraphs that nobody reads."""
    changes: Changes = Counter()
    for graph in reversed(list(graphs(root))):
        for node in reversed(list(graph.nodes)):
            if not any(value.is_used for value in node.outputs):
                graph.remove(node)
                changes["dead node"] += 1
            elif len(node.outputs) > 1:
                changes["unread result"] += _trim(node, inference)
        for value in list(graph.initializer_values):
            if not value.is_used and not value.is_input:
                graph.remove_initializer(value)
                changes["dead initializer"] += 1
    return +changes


def _trim(node: Node, inference: Inference) -> int:
    """Let ``node`` omit optional results that nobody reads; returns their number."""
    operator = ops.find(node.domain, node.op_type)
    opset = inference.imports.get(node.domain)
    if operator is None or opset is None or _is_call(node, inference):
        return 0
    formals = operator.schema(opset).outputs
    kept = list(node.outputs)
    if len(kept) > len(formals) or formals[-1].occurrence is Occurrence.VARIADIC:
        return 0
    going = [i for i, value in enumerate(kept) if node.wants(i) and not value.is_used]
    going = [index for index in going if formals[index].occurrence is Occurrence.OPTIONAL]
    for index in going:
        kept[index] = Value("")
    while kept[-1].name == "" and not kept[-1].is_unnamed:
        kept.pop()
    if going:
        node.outputs = kept
    return len(going)


def eliminate_common(root: Graph, inference: Inference) -> Changes:
    """Let the first of equal nodes stand for the others, within each graph."""
    changes: Changes = Counter()
    for graph in list(graphs(root)):
        first: dict[Key, Node] = {}
        for node in graph.nodes:
            changes.update(_merge(node, first, inference))
    return changes


def _merge(node: Node, first: dict[Key, Node], inference: Inference) -> list[str]:
    """Let one of ``first`` stand for ``node`` if they are equal; returns how they are."""
    for what, key in _keys(node, inference):
        kept = first.setdefault(key, node)
        if kept.graph is not node.graph:  # it went together with the last that read it
            kept = first[key] = node
        if kept is not node and _may_stand_for(kept, node):
            replace(node, kept.outputs, inference)
            return [what]
    return []


def _may_stand_for(kept: Node, other: Node) -> bool:
    """Outputs of a graph keep a node of their own."""
    pairs = zip(kept.outputs, other.outputs, strict=True)
    return all(one.can_replace(two) for one, two in pairs)


def _keys(node: Node, inference: Inference) -> Iterator[tuple[str, Key]]:
    """What equal nodes share, by kind of equality; nothing if ``node`` must not be merged."""
    operator = ops.find(node.domain, node.op_type)
    if operator is None or not operator.is_deterministic or _is_call(node, inference):
        return
    attributes = [_content(attribute) for attribute in node.attributes.values()]
    if None not in attributes:
        wanted = tuple(node.wants(index) for index in range(len(node.outputs)))
        inputs = tuple(map(id, node.inputs))
        same = (node.domain, node.op_type, inputs, wanted, frozenset(attributes))
        yield "repeated node", same
    known = _known_integers(node, inference)
    if known is not None:
        yield "equal integers", known


def _is_call(node: Node, inference: Inference) -> bool:
    return (node.domain, node.op_type, node.overload) in inference.functions


def _content(attribute: Attribute) -> Key | None:
    if attribute.ref is not None or attribute.kind not in _COMPARED:
        return None
    value = attribute.value
    return attribute.name, attribute.kind, tuple(value) if isinstance(value, list) else value


def _known_integers(node: Node, inference: Inference) -> Key | None:
    """Type and contents of the one result of ``node``, if it holds known integers."""
    if len(node.outputs) != 1:
        return None
    fact = inference.fact(node.outputs[0])
    value = fact.known_value
    if value is None or fact.dtype is None or not fact.dtype.is_integer:
        return None
    entries = tuple(value.flat)
    if any(isinstance(x, Dim) and _is_unknown(x) for x in entries):
        return None
    return fact.dtype, value.shape, entries


def _is_unknown(extent: Dim) -> bool:
    return any(isinstance(atom, Unknown) for atom in atoms(extent))


def eliminate_stored(root: Graph, inference: Inference) -> Changes:  # noqa: ARG001 - as all passes
    """Let the first of equal initializers stand for the others, within each graph."""
    return +Counter({"repeated initializer": sum(map(_merge_stored, list(graphs(root))))})


def _merge_stored(graph: Graph) -> int:
    alike: dict[Key, list[Value]] = {}
    for value in graph.initializer_values:
        if not value.is_input and not value.is_output and isinstance(value.type, TensorType):
            alike.setdefault((value.type.dtype, value.type.shape), []).append(value)
    merged = 0
    for group in alike.values():
        if len(group) > 1:
            merged += _merge_equal(graph, group)
    return merged


def _merge_equal(graph: Graph, group: list[Value]) -> int:
    """Merge what is equal among values of one type."""
    first: dict[bytes, list[Value]] = {}
    merged = 0
    for value in group:
        contents = _contents(value.tensor)
        if contents is None:
            continue
        kept = first.setdefault(contents[:HEAD_BYTES].tobytes(), [])
        same = next((x for x in kept if _is_equal(x, contents)), None)
        if same is None:
            kept.append(value)
        else:
            value.replace_all_uses_with(same)
            graph.remove_initializer(value)
            merged += 1
    return merged


def _is_equal(kept: Value, contents: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> bool:
    other = _contents(kept.tensor)
    return other is not None and np.array_equal(other, contents)


def _contents(tensor: Tensor | None) -> np.ndarray[tuple[int], np.dtype[np.uint8]] | None:
    """The bytes of a tensor, as they are in memory; None for text and what is too large."""
    if tensor is None or tensor.dtype.kind == "string" or tensor.nbytes > COMPARED_BYTES:
        return None
    if math.prod(tensor.shape) == 0:
        return np.empty(0, np.uint8)
    try:
        array = np.ascontiguousarray(tensor.numpy())
    except FornixError:
        return None  # whoever reads it says what is wrong with it
    return array.reshape(-1).view(np.uint8)
