"""Putting bodies in the place of nodes that have no derivative of their own.

Calls of model functions are always replaced, operators only if they have a body and no ``grad``
rule. Only what lies between independent values and results is touched.
"""

from __future__ import annotations

from collections.abc import Sequence

from fornix import ops
from fornix.errors import FornixError, NotSupported
from fornix.ir.attribute import Attribute, resolved
from fornix.ir.graph import Function, Graph, Model, Node, Value
from fornix.ir.walk import nodes
from fornix.ops.body import function_of
from fornix.ops.call import BodyNode, subject
from fornix.ops.grads import load
from fornix.ops.grads.reverse import dependent, nodes_between
from fornix.ops.grads.term import Make
from fornix.ops.op import Operator


def inline(
    result: Value, xs: Sequence[Value], constants: Sequence[Value], model: Model, make: Make
) -> Value:
    """``result`` after every body that has to be differentiated was put in its node's place."""
    load()
    independent = {*xs, *constants}
    while True:
        between = nodes_between([result], independent)
        active = dependent(between, xs, independent)
        found = [
            (node, function)
            for node in between
            if not active.isdisjoint(node.outputs)
            and (function := _function(node, model, make)) is not None
        ]
        for node, function in found:
            replaced = _splice(node, function, make)
            result = replaced.get(result, result)
        if not found:
            return result


def _function(node: Node, model: Model, make: Make) -> Function | None:
    """What to put in the place of ``node``, if anything."""
    called = model.function(node.domain, node.op_type, node.overload)
    if called is not None:
        _check_opsets(node, called, make)
        return called.clone()
    operator = ops.find(node.domain, node.op_type)
    opset = make.knowledge.imports.get(node.domain, make.opset if not node.domain else None)
    if operator is None or opset is None:
        return None
    schema = operator.schema(opset)
    if operator.rule("grad", schema.since_version) is not None:
        return None
    types = [None if v is None else make.knowledge.fact(v).type for v in node.inputs]
    body = function_of(BodyNode.of(node, operator, schema, opset, types))
    if body is None:
        return None
    _check_opsets(node, body, make)
    return body.clone()


def _check_opsets(node: Node, function: Function, make: Make) -> None:
    """Raise NotSupported if an operator of the body means something else in the model's opset."""
    for inner in nodes(function):
        operator = ops.find(inner.domain, inner.op_type)
        written = function.opset_imports.get(inner.domain)
        read = make.knowledge.imports.get(inner.domain)
        if operator is None or written == read:
            continue
        if read is None or written is None or not _agree(operator, written, read):
            raise NotSupported(
                f"{node.label}: its body is written in opset {written} of "
                f"{inner.domain or 'ai.onnx'}, where {inner.op_type} differs from opset {read}"
            )


def _agree(operator: Operator, one: int, other: int) -> bool:
    """Whether what is written in one opset means the same in another."""
    try:
        old, new = operator.schema(one), operator.schema(other)
    except FornixError:
        return False
    kernels = {operator.rule("kernel", schema.since_version) for schema in (old, new)}
    return len(kernels) == 1 and all(
        new.attributes.get(name) == formal for name, formal in old.attributes.items()
    )


def _splice(node: Node, function: Function, make: Make) -> dict[Value, Value]:
    """Put the body of ``function``, which is a copy, in the place of ``node``; new by old."""
    body = function.graph
    given = function.defaults | resolved(node.attributes, {})
    for inner in nodes(function):
        _resolve(inner, given)
    results: tuple[Value | None, ...] = body.outputs
    body.outputs = ()
    for index, formal in enumerate(body.inputs):
        actual = node.inputs[index] if index < len(node.inputs) else None
        for user, place in formal.uses:
            user.set_input(place, actual)
        results = tuple(actual if result is formal else result for result in results)
    moved = list(body.nodes)
    body.remove(*moved)
    graph = node.graph
    if graph is None:
        raise NotSupported(f"{subject(node, None)}: a node in a graph is required")
    graph.rename_clashes(*moved)
    graph.insert_before(node, *moved)
    return _stand_in(node, results, moved, graph, make)


def _stand_in(
    node: Node, results: Sequence[Value | None], moved: list[Node], graph: Graph, make: Make
) -> dict[Value, Value]:
    """Let ``results`` be read in place of the outputs of ``node``, by their names."""
    pairs = [(old, new) for old, new in zip(node.outputs, results, strict=False) if new is not None]
    fresh = [Node("", "Identity", [new]) for _, new in pairs]
    graph.insert_before(node, *fresh)
    make.knowledge.update([*moved, *fresh])
    names = [old.name for old, _ in pairs]
    replaced = {old: one.output for (old, _), one in zip(pairs, fresh, strict=True)}
    graph.replace(node, *replaced.values())
    for name, one in zip(names, fresh, strict=True):
        if name:
            one.output.name = name
    return replaced


def _resolve(node: Node, given: dict[str, Attribute]) -> None:
    """Put what the call says in the place of references to its attributes."""
    for name, attribute in list(node.attributes.items()):
        if attribute.ref is None:
            continue
        found = given.get(attribute.ref)
        if found is None:
            node.remove_attribute(name)
        else:
            node.set_attribute(
                name, Attribute(name, found.kind, found.value, None, found.doc_string)
            )
