"""How nodes change between opsets: the walk along an operator's history, and what adapters share.

An adapter is called with a node and its graph and edits them in place; between two schema versions
without one, a node stays as it is if the other version can say the same. `adapt_node` walks one
node; which nodes of a model change, and in which order, is decided by `version`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from fornix import ops
from fornix.dtype import DType
from fornix.errors import ConvertError, FornixError, SchemaError
from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.dim import DimLike
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.types import TensorType
from fornix.ops.call import IGNORED_ATTRIBUTES, check_arity, subject
from fornix.ops.fact import Array
from fornix.ops.op import Operator
from fornix.ops.schema import Schema
from fornix.ops.signature import FormalAttribute

# ── the walk ───────────────────────────────────────────────────────────────────────────────────


def adapt_node(node: Node, graph: Graph, source: int, target: int) -> None:
    """Rewrite ``node``, written for opset ``source``, so that it means the same in ``target``.

    It may become another operator and get nodes of ``target`` around it. Raises ConvertError,
    possibly after steps towards it, if no opset on the way can say what the node computes.
    """
    opset = source
    while opset != target and node.graph is graph:
        operator = ops.find(node.domain, node.op_type)
        if operator is None:
            return  # of a domain that others version
        step = _up if target > opset else _down
        try:
            found = step(operator, opset, target)
            if found is None:
                return
            old, new = found
            inserted = _adapted(operator, node, graph, old, new)
        except FornixError as error:
            raise error.at(subject(node, opset)) from None
        opset = new if target > opset else min(opset, old) - 1
        for other in inserted:
            adapt_node(other, graph, max(opset, new), target)


def _up(operator: Operator, opset: int, target: int) -> tuple[int, int] | None:
    """The next schema version up to ``target``, after the one in force at ``opset``."""
    later = [s.since_version for s in operator.schemas if opset < s.since_version <= target]
    return (operator.schema(opset).since_version, later[0]) if later else None


def _down(operator: Operator, opset: int, target: int) -> tuple[int, int] | None:
    """The schema version before the one in force at ``opset``, if ``target`` is older than that."""
    now = operator.schema(opset).since_version
    if now <= target:
        return None
    declared = [schema.since_version for schema in operator.schemas]
    reached = [after for before, after in operator.adapters if before == now]
    below = [version for version in (*declared, *reached) if version < now]
    if not below:
        raise ConvertError(f"cannot go below opset {now}, where {operator.name} begins")
    return now, max(below)


def _adapted(operator: Operator, node: Node, graph: Graph, old: int, new: int) -> list[Node]:
    """The nodes that came with the step from one schema version to another."""
    adapter = operator.adapters.get((old, new))
    if adapter is None:
        _carried(node, operator.schema(old), operator.schema(new))
        return []
    before = set(graph.nodes)
    adapter(node, graph)
    return [other for other in graph.nodes if other not in before]


def _carried(node: Node, old: Schema, new: Schema) -> None:
    """Let ``node`` stay; raise ConvertError where ``new`` does not say what ``old`` says."""
    name = f"{new.name}-{new.since_version}"
    if new.is_deprecated:
        raise ConvertError(f"opset {new.since_version} has no {new.name} any more")
    _check_types(node, old, new)
    for formal in old.attributes.values():
        _carry_attribute(node, formal, new.attributes.get(formal.name), name)
    for formal in new.attributes.values():
        if formal.is_required and formal.name not in node.attributes:
            if formal.name not in IGNORED_ATTRIBUTES:
                raise ConvertError(f"{name} requires attribute {formal.name}, found none")
            node.set_attribute(formal.name, [0] * len(node.inputs))
    try:
        check_arity(new, node.inputs, len(node.outputs))
    except SchemaError as error:
        raise ConvertError(str(error)) from None


def _carry_attribute(
    node: Node, formal: FormalAttribute, other: FormalAttribute | None, name: str
) -> None:
    """Let attribute ``formal`` mean the same where the schema called ``name`` has ``other``."""
    given = node.attributes.get(formal.name)
    if other is None:
        if given is None:
            return
        is_neutral = given.ref is None and given.value == formal.default
        if not is_neutral and formal.name not in IGNORED_ATTRIBUTES:
            raise ConvertError(f"{name} has no attribute for {given}")
        node.remove_attribute(formal.name)
    elif given is None:
        if formal.default is not None and formal.default != other.default:
            node.set_attribute(formal.name, formal.default)
    elif formal.kind != other.kind:
        _change_kind(node, given, other)


def _change_kind(node: Node, given: Attribute, formal: FormalAttribute) -> None:
    """Let a number be of the kind that ``formal`` asks for; raise ConvertError if it cannot be."""
    wanted = AttributeKind[formal.kind.upper()]
    change = {AttributeKind.INT: int, AttributeKind.FLOAT: float}.get(wanted)
    if given.ref is not None or change is None or change(given.value) != given.value:
        raise ConvertError(f"attribute {given} must be of kind {formal.kind}")
    node.set_attribute(given.name, change(given.value), wanted)


def _check_types(node: Node, old: Schema, new: Schema) -> None:
    for index, value in enumerate(node.inputs):
        if value is None or value.type is None:
            continue
        if isinstance(value.type, TensorType) and value.type.dtype is None:
            continue
        formal = new.formal_input(index) if new.inputs else None
        if formal is None or formal.name != old.formal_input(index).name:
            continue
        if value.type.constraint not in new.allowed(formal):
            raise ConvertError(
                f"{new.name}-{new.since_version} does not take {value.type} as {formal.name}"
            )


# ── what adapters know ─────────────────────────────────────────────────────────────────────────


def rank_of(value: Value | None, name: str) -> int:
    """Number of axes of ``value``; raises ConvertError if it is not known."""
    return len(shape_of(value, name))


def shape_of(value: Value | None, name: str) -> tuple[DimLike | None, ...]:
    """Extents of ``value``, which errors call ``name``; raises ConvertError without a rank."""
    type_ = None if value is None else value.type
    shape = type_.shape if isinstance(type_, TensorType) else None
    if shape is None:
        raise ConvertError(f"the rank of {name} must be known; infer the model's shapes first")
    return shape


def dtype_of(value: Value | None, name: str) -> DType:
    """Element type of ``value``, which errors call ``name``; raises ConvertError if unknown."""
    type_ = None if value is None else value.type
    dtype = type_.dtype if isinstance(type_, TensorType) else None
    if dtype is None:
        raise ConvertError(f"the type of {name} must be known; infer the model's types first")
    return dtype


def constant_input(node: Node, index: int, what: str) -> Array | None:
    """Contents of an input, None if it is left out; raises ConvertError if it is no constant.

    ``what`` says who needs it: "opset 11 takes axes as an attribute".
    """
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return None
    if value.constant is None:
        raise ConvertError(
            f"{what}, so it must be a constant, but '{value.name}' is computed at run time"
        )
    return value.constant.numpy()


def taken_input(node: Node, graph: Graph, index: int, what: str) -> Array | None:
    """Contents of an input, None if it is left out; it goes from the node, with those behind it.

    An input of the graph that nobody else reads goes, too, if it has stored contents: they count.
    Raises ConvertError if it is no constant otherwise; ``what`` says who needs it.
    """
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return None
    if value.tensor is None or not graph.holds(value) or value.use_count > 1 or value.is_output:
        held = constant_input(node, index, what)
        drop_inputs(node, graph, index)
        return held
    held = value.tensor.numpy()
    drop_inputs(node, graph, index)
    graph.remove_initializer(value)
    graph.inputs = [other for other in graph.inputs if other is not value]
    return held


# ── what adapters do ───────────────────────────────────────────────────────────────────────────


def stored(node: Node, graph: Graph, array: Array) -> Value:
    """``array`` as the result of a Constant ahead of ``node``.

    A node, not an initializer: bodies of functions have no initializers.
    """
    source = Node("", "Constant", attributes={"value": array})
    graph.insert_before(node, source)
    return source.output


def put_ahead(
    node: Node, graph: Graph, index: int, op_type: str, *others: Value, **attributes: object
) -> Node:
    """A new node between input ``index`` and ``node``: it reads that input, and then ``others``."""
    new = Node("", op_type, [node.inputs[index], *others], attributes=attributes)
    graph.insert_before(node, new)
    node.set_input(index, new.output)
    return new


def put_behind(
    node: Node, graph: Graph, op_type: str, *others: Value, index: int = 0, **attributes: object
) -> Node:
    """A new node that everybody reads in place of an output of ``node``, which it reads first."""
    new = Node("", op_type, [None, *others], attributes=attributes)
    graph.insert_after(node, new)
    result = node.outputs[index]
    result.replace_all_uses_with(new.output)
    new.output.type, result.type = result.type, None
    new.set_input(0, result)
    return new


def attribute_to_input(node: Node, graph: Graph, name: str, index: int) -> None:
    """Let attribute ``name``, a list of integers, be input ``index`` instead: a Constant.

    Without the attribute, nothing changes.
    """
    attribute = node.remove_attribute(name)
    if attribute is None:
        return
    if attribute.ref is not None:  # in a function, whose caller gives the value
        held = Attribute("value_ints", AttributeKind.INTS, None, attribute.ref)
        source = Node("", "Constant", attributes={held.name: held})
        graph.insert_before(node, source)
        node.set_input(index, source.output)
        return
    node.set_input(index, stored(node, graph, np.array(attribute.value, np.int64)))


def input_to_attribute(node: Node, graph: Graph, name: str, index: int, opset: int) -> None:
    """Let input ``index``, which must be a constant, be attribute ``name`` instead.

    Without the input, nothing changes. Raises ConvertError if it is computed at run time, which
    ``opset`` has no way to say.
    """
    held = taken_input(node, graph, index, f"opset {opset} takes {name} as an attribute")
    if held is not None:
        node.set_attribute(name, held.reshape(-1).tolist(), AttributeKind.INTS)


def count_from_front(node: Node, name: str) -> None:
    """Write attribute ``name``, an axis of the first input, as a number that is not negative."""
    attribute = node.attributes.get(name)
    if attribute is not None and attribute.ref is None and attribute.value < 0:
        node.set_attribute(name, attribute.value + rank_of(node.inputs[0], "the first input"))


def check_attribute(
    node: Node, name: str, allowed: Collection[object], opset: int, *, default: object
) -> None:
    """Raise ConvertError unless versions before ``opset`` know the value of an attribute."""
    value = node.attr(name, default)
    if value not in allowed:
        texts = " or ".join(map(str, allowed))
        raise ConvertError(f"before opset {opset} {name} must be {texts}, found {value}")


def drop_inputs(node: Node, graph: Graph, first: int) -> None:
    """Take away the inputs from ``first`` on, and the constants that nobody else reads."""
    dropped = node.inputs[first:]
    node.inputs = node.inputs[:first]
    for value in dropped:
        source = None if value is None else value.producer
        if source is None or source.graph is not graph or source.op_type != "Constant":
            continue
        if not source.output.is_used:
            graph.remove(source)


def trim_outputs(node: Node, count: int, missing: Sequence[str]) -> None:
    """Keep the first ``count`` outputs; raises ConvertError if one of the others is used.

    ``missing`` are the names of those in the schema, for the error.
    """
    for value, name in zip(node.outputs[count:], missing, strict=False):
        if value.is_used:
            raise ConvertError(f"output {name}, '{value.name}', is used and has no counterpart")
    node.set_outputs(node.outputs[:count])


def broadcast_by_rank(node: Node, graph: Graph) -> None:
    """Let the second input broadcast from the last axis on, as since opset 7, not from ``axis``."""
    broadcasts, axis = node.attr("broadcast", 0), node.attr("axis")
    node.remove_attribute("broadcast")
    node.remove_attribute("axis")
    if not broadcasts or axis is None:
        return
    first, second = rank_of(node.inputs[0], "A"), rank_of(node.inputs[1], "B")
    behind = first - (axis + first if axis < 0 else axis) - second
    if behind > 0:
        put_ahead(node, graph, 1, "Unsqueeze", axes=list(range(second, second + behind)))


def broadcast_by_attribute(node: Node) -> None:
    """Say that the second input broadcasts; raises ConvertError if the first one does, too."""
    first, second = shape_of(node.inputs[0], "A"), shape_of(node.inputs[1], "B")
    if first == second and None not in first:
        return
    ends = zip(reversed(first), reversed(second), strict=False)
    if len(second) > len(first) or any(m is None or n not in {1, m} for m, n in ends):
        raise ConvertError(
            f"before opset 7 only B broadcasts, found A[{', '.join(map(str, first))}] and "
            f"B[{', '.join(map(str, second))}]"
        )
    node.set_attribute("broadcast", 1)
