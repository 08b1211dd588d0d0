"""Put the nodes of a subgraph or function in the place of the node that would run them.

inline_branches   1. an If whose condition is known becomes the branch that it takes
                  2. a Loop that runs no more than once becomes its body, or what it starts with
inline_functions  a call of a model function becomes the body of the function

Names stay unique: what comes in is renamed where a name is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fornix.errors import GraphError, ValidationError
from fornix.format.limits import DEFAULT, Limits
from fornix.infer import Inference
from fornix.ir.attribute import Attribute
from fornix.ir.calls import expanded_nodes, recursions
from fornix.ir.graph import Function, Graph, Model, Node, Value
from fornix.ir.walk import nodes
from fornix.ops.fact import Array
from fornix.ops.scanning import told_shapes
from fornix.passes.apply import Changes, replace
from fornix.passes.make import Maker

Callers = tuple[tuple[str, str, str], ...]
"""The functions that a node has come out of, outermost first."""

UNSQUEEZE_TAKES_INPUT = 13
"""Since this opset the axes of Unsqueeze are an input."""


def inline_branches(root: Graph, inference: Inference) -> Changes:
    """Inline what is known to run once, in ``root`` and its subgraphs."""
    changes: Changes = Counter()
    waiting = [root]
    while waiting:
        graph = waiting.pop()
        found: list[str] = []
        for node in graph.nodes:
            if not node.domain and node.graphs:
                found += _inline_if(node, inference) or _inline_loop(node, inference)
        waiting += [graph] if found else graph.graphs  # what came in may be known, too
        changes.update(found)
    return changes


def _inline_if(node: Node, inference: Inference) -> list[str]:
    """Replace an If by the branch that it takes, if that is known."""
    condition = _contents(node.inputs[0], inference) if node.inputs else None
    if node.op_type != "If" or condition is None or condition.size != 1:
        return []
    branch = node.attr("then_branch" if condition.all() else "else_branch")
    if not isinstance(branch, Graph) or branch.inputs or _redeclares(branch, node):
        return []
    results = _moved(branch, node, [])
    replace(node, results, inference)
    return ["If of known condition"]


def _inline_loop(node: Node, inference: Inference) -> list[str]:
    """Replace a Loop that runs no more than once by what it gives then."""
    body = node.attr("body")
    if node.op_type != "Loop" or not isinstance(body, Graph) or len(node.inputs) < 2:
        return []
    start = node.inputs[2:]
    carried = len(start)
    if (
        None in start
        or len(body.inputs) != carried + 2
        or len(node.outputs) > len(body.outputs) - 1
    ):
        return []
    runs = _runs(node, inference)
    if runs is None or (runs == 0 and any(v.is_used for v in node.outputs[carried:])):
        return []
    given = [value for value in start if value is not None]
    if runs == 0:
        replace(node, given[: len(node.outputs)], inference)
        return ["Loop that does not run"]
    if node.graph is None:
        return []
    make = Maker(node, node.graph, inference)
    places, truths = told_shapes(body)
    told = np.zeros(places, np.int64), np.full(truths, fill_value=True)
    _, *results = _moved(body, node, [*map(make.value, told), *given])
    scanned = [_stacked(value, make) for value in results[carried:]]
    replace(node, [*results[:carried], *scanned][: len(node.outputs)], inference)
    return ["Loop that runs once"]


def _runs(node: Node, inference: Inference) -> int | None:
    """How often a Loop runs, if that is known and at most 1."""
    limit, condition = node.inputs[:2]
    count = _contents(limit, inference)
    goes = np.array(True) if condition is None else _contents(condition, inference)
    if goes is not None and goes.size == 1 and not goes.all():
        return 0
    if count is None or count.size != 1 or int(count.reshape(())) > 1:
        return None
    if int(count.reshape(())) <= 0:
        return 0
    return None if goes is None else 1


def _stacked(value: Value, make: Maker) -> Value:
    """What a Loop of one run gives for a result that it collects: one more axis ahead."""
    if make.opset < UNSQUEEZE_TAKES_INPUT:
        return make.Unsqueeze(value, axes=[0])
    return make.Unsqueeze(value, np.array([0], np.int64))


def _contents(value: Value | None, inference: Inference) -> Array | None:
    if value is None:
        return None
    stored = value.constant
    return inference.fact(value).constant if stored is None else stored.numpy()


def _redeclares(branch: Graph, node: Node) -> bool:
    """Whether the branch gives more or fewer results than the node, as broken models do."""
    return len(branch.outputs) != len(node.outputs)


def _moved(inner: Graph, node: Node, arguments: Sequence[Value | None]) -> list[Value]:
    """Move what ``inner`` holds ahead of ``node``; returns what its outputs are now.

    ``arguments`` take the place of its inputs; None of one that is left out.
    """
    graph = node.graph
    if graph is None:
        raise GraphError(f"{node.label}: it must stand in a graph to be inlined")
    results = list(inner.outputs)
    inner.outputs = ()
    standing: dict[Value, Value] = {}
    for old, new in zip(inner.inputs, arguments, strict=True):
        if new is not None:
            standing[old] = new
        for use in old.uses:
            use.node.set_input(use.index, new)
    for old in inner.initializer_values:
        if not old.is_input and old.tensor is not None:
            stored = graph.add_initializer(old.tensor, graph.fresh_name(old.name))
            standing[old] = stored
            old.replace_all_uses_with(stored)
    moving = list(inner.nodes)
    inner.remove(*moving)
    graph.rename_clashes(*moving)
    graph.insert_before(node, *moving)
    return [standing.get(value, value) for value in results]


def inline_functions(
    model: Model,
    *,
    body_of: Callable[[Node], Function | None] | None = None,
    limits: Limits = DEFAULT,
) -> Changes:
    """Replace calls of model functions by their bodies, as far as their opsets agree.

    ``body_of`` says otherwise which function stands for a node, if any. Calls inside functions that
    stay are replaced as well; functions that nobody calls any more go. Raises
    ValidationError for functions that call themselves, LimitError if the nodes become too many:
    at once where model functions stand for their own calls.
    """
    table = model.function_table
    if body_of is None and not any(recursions(model)):
        limits.check("function_nodes", expanded_nodes(model), "inlined functions")
    find = body_of or (lambda node: table.get(_key(node)))
    changes = _inline_calls(model, find, limits)
    _keep_called(model)
    for function in model.functions:
        changes += _inline_calls(function, find, limits)
    _keep_called(model)
    return changes


def _inline_calls(
    owner: Model | Function, find: Callable[[Node], Function | None], limits: Limits
) -> Changes:
    """Replace the calls in the graph of ``owner`` by the functions that ``find`` gives."""
    changes: Changes = Counter()
    outer = (owner.key,) if isinstance(owner, Function) else ()
    waiting: list[tuple[Node, Callers]] = [(node, outer) for node in nodes(owner.graph)]
    count = len(waiting)
    while waiting:
        node, callers = waiting.pop()
        function = find(node)
        if function is None or function is owner or not _agrees(function, owner):
            continue
        chain = (*callers, function.key)
        if function.key in callers:
            told = " → ".join(name for _, name, _ in chain)
            raise ValidationError(f"model functions must not call themselves, found {told}")
        limits.check("nesting", len(chain), f"call of {function.label}")
        inside = _inline_call(node, function)
        count += len(inside) - 1
        limits.check("function_nodes", count, "inlined functions")
        waiting += [(inner, chain) for inner in inside]
        changes[f"call of {function.label}"] += 1
    return changes


def _keep_called(model: Model) -> None:
    """Remove functions that nothing calls."""
    called = _called(model.graph, model.function_table)
    model.functions = [function for function in model.functions if function.key in called]


def _called(graph: Graph, table: Mapping[tuple[str, str, str], Function]) -> set[object]:
    """The functions of ``table`` that ``graph`` calls, or that they call in turn."""
    called: set[object] = set()
    waiting = [graph]
    while waiting:
        keys = {_key(node) for node in nodes(waiting.pop())} & table.keys() - called
        called |= keys
        waiting += [table[key].graph for key in keys]
    return called


def _key(node: Node) -> tuple[str, str, str]:
    return node.domain, node.op_type, node.overload


def _agrees(function: Function, owner: Model | Function) -> bool:
    """Whether ``owner`` imports what the function does; domains that it lacks are added."""
    imports = owner.opset_imports
    if any(imports.get(d, version) != version for d, version in function.opset_imports.items()):
        return False
    imports.update(function.opset_imports)
    return True


def _inline_call(node: Node, function: Function) -> list[Node]:
    """Replace ``node`` by the body of ``function``; returns the nodes that came in."""
    if len(node.inputs) > len(function.graph.inputs):
        raise ValidationError(
            f"{node.label}: {function.label} takes {len(function.graph.inputs)} inputs, "
            f"found {len(node.inputs)}"
        )
    body = function.graph.clone()
    given: dict[str, Attribute] = {**function.defaults, **node.attributes}
    moving = list(nodes(body))
    for inner in moving:
        _bind_attributes(inner, given)
    absent = [None] * (len(body.inputs) - len(node.inputs))
    results = _moved(body, node, [*node.inputs, *absent])
    replace(node, results[: len(node.outputs)], Inference())
    return moving


def _bind_attributes(node: Node, given: Mapping[str, Attribute]) -> None:
    """Replace references to attributes of the caller by what it gives."""
    for name, attribute in list(node.attributes.items()):
        if attribute.ref is None:
            continue
        found = given.get(attribute.ref)
        node.remove_attribute(name)
        if found is not None:
            value = found.value.clone() if isinstance(found.value, Graph) else found.value
            node.set_attribute(name, Attribute(name, found.kind, value, found.ref))
