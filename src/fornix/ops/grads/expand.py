"""Replacing Gradient nodes by the nodes that compute the gradients.

A Gradient names its tensors instead of reading them: ``y`` is to be differentiated, ``xs`` and
``zs`` are what it is a function of. Inputs of the node say where: if they are those very tensors,
what was computed for ``y`` serves for the gradients too; else the nodes between are copied to work
on what is given. Gradients of gradients follow, since what was built is differentiated like
everything else. Model functions and operators with a body but no rule are expanded on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fornix.errors import DTypeError, FornixError, NotSupported, ValidationError, require
from fornix.ir import order, walk
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ops.call import subject
from fornix.ops.grads import DOMAIN
from fornix.ops.grads.inline import inline
from fornix.ops.grads.reverse import dependent, differentiate, nodes_between
from fornix.ops.grads.term import Knowledge, Make

FIRST_OPSET = 12
"""Opset of ai.onnx that came with Gradient, in ONNX 1.7; gradients are built of its operators."""


def is_gradient(node: Node) -> bool:
    """Whether ``node`` is a Gradient."""
    return node.op_type == "Gradient" and node.domain == DOMAIN


def expanded(model: Model, infer: Callable[[Model], Knowledge]) -> Model:
    """A copy of ``model`` with every Gradient replaced, or itself if there is none.

    Raises NotSupported where a node has no derivative, and ValidationError where a Gradient does
    not fit its graph.
    """
    if not any(map(is_gradient, walk.nodes(model))):
        return model
    for function in model.functions:
        if any(map(is_gradient, walk.nodes(function))):
            raise NotSupported(f"{function.label}: a Gradient has to stand outside of functions")
    model = model.clone()
    knowledge = infer(model)
    nodes = [node for node in walk.nodes(model.graph) if is_gradient(node)]
    graphs = dict.fromkeys(node.graph for node in nodes)
    for node in nodes:
        if node.graph is not None:  # else it was in the way of another
            _expand(node, model, knowledge, {})
    for graph in graphs:
        if graph is not None:
            order.sort(graph)
    return model


def _expand(node: Node, model: Model, knowledge: Knowledge, waiting: dict[Node, None]) -> None:
    """Replace one Gradient, and before it those that its tensor depends on.

    ``waiting`` are those that wait for this one.
    """
    graph = node.graph
    try:
        if graph is None or node in waiting:
            raise ValidationError("what it differentiates must not depend on its own results")
        make = Make(graph, node, knowledge, node.name)
        require(
            make.opset >= FIRST_OPSET,
            f"gradients are built of operators of ai.onnx opset {FIRST_OPSET} and later, the model "
            f"imports {make.opset}; convert it",
            NotSupported,
        )
        _expand_ahead(node, graph, model, knowledge, {**waiting, node: None})
        _replace(node, graph, model, make)
    except FornixError as error:
        placed = str(error).startswith("node ")
        raise (error if placed else error.at(subject(node, 1))) from None


def _expand_ahead(
    node: Node, graph: Graph, model: Model, knowledge: Knowledge, waiting: dict[Node, None]
) -> None:
    """Replace the Gradients whose results ``node`` differentiates."""
    named, y = _named(node, graph)
    for other in nodes_between([y], set(named)):
        if is_gradient(other):
            _expand(other, model, knowledge, waiting)


def _named(node: Node, graph: Graph) -> tuple[list[Value], Value]:
    """The tensors of xs and zs, and y."""
    names = (*node.attr("xs", ()), *node.attr("zs", ()))
    return [_find(name, graph) for name in names], _find(node.attr("y", ""), graph)


def _replace(node: Node, graph: Graph, model: Model, make: Make) -> None:
    named, y = _named(node, graph)
    xs = named[: len(node.attr("xs", ()))]
    _check(node, y, xs, named, make)
    given = dict(zip(named, node.inputs, strict=True))
    y, independent = _at(given, y, make)
    xs, constants = independent[: len(xs)], independent[len(xs) :]
    y = inline(y, xs, constants, model, make)
    found = differentiate({y: make.full(1, make.term(y))}, xs, make, constants)
    results = []
    for x, gradient, output in zip(xs, found, node.outputs, strict=False):
        term = make.zeros(make.term(x)) if gradient is None else gradient
        results.append((output.name, make.Identity(term)))
    graph.replace(node, *(term.value for _, term in results))
    for name, term in results:
        if name and term.value.name != name:
            term.value.name = name


def _find(name: str, graph: Graph) -> Value:
    """The value called ``name`` in ``graph`` or around it."""
    outer: Graph | None = graph
    while outer is not None:
        candidates = [*outer.inputs, *outer.initializer_values]
        candidates += [value for node in outer.nodes for value in node.outputs]
        found = next((value for value in candidates if name and value.name == name), None)
        if found is not None:
            return found
        outer = outer.parent
    raise ValidationError(f"xs, zs and y must name tensors of its graph, found '{name}'")


def _check(node: Node, y: Value, xs: Sequence[Value], named: Sequence[Value], make: Make) -> None:
    """Raise unless inputs and outputs of a Gradient fit its attributes."""
    require(
        len(node.inputs) == len(named),
        f"it must have one input per name in xs and zs, {len(named)}, found {len(node.inputs)}",
        ValidationError,
    )
    require(
        len(node.outputs) <= len(xs),
        f"it must have at most one output per name in xs, {len(xs)}, found {len(node.outputs)}",
        ValidationError,
    )
    for value in (y, *xs):
        fact = make.knowledge.fact(value)
        if fact.dtype is not None and not fact.dtype.is_float:
            raise DTypeError(
                f"y and xs must be floating-point tensors, found '{value.name}' of type {fact}"
            )


def _at(given: Mapping[Value, Value | None], y: Value, make: Make) -> tuple[Value, list[Value]]:
    """``y`` where the named values are the ``given`` ones, and these; copies nodes as needed."""
    changed = {
        old: make.Identity(new).value
        for old, new in given.items()
        if new is not None and new is not old
    }
    independent = [changed.get(value, value) for value in given]
    if not changed:
        return y, independent
    between = nodes_between([y], given)
    active = dependent(between, list(changed), given)
    for node in between:
        if active.isdisjoint(node.outputs):
            continue
        copy = _copied(node, changed)
        make.insert(copy)
        changed.update(zip(node.outputs, copy.outputs, strict=True))
    return changed.get(y, y), independent


def _copied(node: Node, values: Mapping[Value, Value]) -> Node:
    """A copy of ``node`` that reads ``values`` in place of their keys."""
    attributes: dict[str, object] = {}
    for name, attribute in node.attributes.items():
        if attribute.graphs:
            copies = [graph.clone(values) for graph in attribute.graphs]
            attributes[name] = copies if attribute.kind.is_list else copies[0]
        else:
            attributes[name] = attribute
    copy = Node(
        node.domain,
        node.op_type,
        [None if value is None else values.get(value, value) for value in node.inputs],
        [Value("" if value.is_omitted else None) for value in node.outputs],
        attributes,
        name=node.name,
        overload=node.overload,
    )
    copy.metadata.update(node.metadata)
    return copy
