"""Repeated parts of a graph as model functions: the opposite of inlining.

The nodes of the main graph are taken as a sequence, in their order, and the stretch is sought whose
repetitions hold most nodes (`fornix.edit.repeats`). Repetitions have the same operators, joined in
the same way inside. They become calls of one function:

* what they read from outside is an input of the function, weights among it;
* what they compute and others read is an output;
* attributes that differ from one repetition to another are attributes of the function, to which
  its nodes refer.

Names, documentation and metadata of nodes in the body are those of the first repetition. Nodes that
hold subgraphs, and the insides of subgraphs and functions, stay as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from fornix.edit.repeats import Repeat, best_repeat
from fornix.errors import GraphError
from fornix.ir.attribute import Attribute
from fornix.ir.graph import Function, Graph, Model, Node, Value
from fornix.ir.names import NameGiver
from fornix.ir.nesting import stands_in
from fornix.ir.order import is_sorted, sort
from fornix.ir.tensor import SparseTensor

DOMAIN = "outlined"
"""The domain of the functions that are made."""

IR_FUNCTIONS = 8
"""The first IR version with model functions."""

# Different stretches that become functions.
_FUNCTIONS = 64

Window = Sequence[Node]
Source: TypeAlias = "tuple[int, int] | int | None"
"""What a node of a repetition reads: (node, output) inside, the number of an input, or nothing."""


def outline(model: Model, *, least: int = 4, domain: str = DOMAIN) -> Model:
    """A copy of ``model`` whose repeated stretches of ``least`` nodes and more are functions.

    The functions are ``Block1``, ``Block2`` … of ``domain``. A model of an IR version without
    functions gets the first that has them.
    """
    changed = model.clone()
    graph = changed.graph
    if not is_sorted(graph):
        sort(graph)
    taken = {function.key for function in changed.functions}
    for number in range(1, _FUNCTIONS + 1):
        windows = repetitions(graph, max(least, 2))
        if not windows:
            break
        name = f"Block{number}"
        while (domain, name, "") in taken:
            name += "_"
        changed.functions.append(_made(windows, domain, name, changed.opset_imports))
        changed.opset_imports.setdefault(domain, 1)
        changed.ir_version = max(changed.ir_version, IR_FUNCTIONS)
    return changed


def repetitions(graph: Graph, least: int) -> list[list[Node]]:
    """The nodes of each repetition of the stretch that repeats most; empty if none saves a node."""
    nodes = list(graph.nodes)
    repeat = best_repeat(_tokens(nodes), least)
    if repeat is None:
        return []
    shift = _narrowest(nodes, repeat)
    groups: dict[object, list[list[Node]]] = defaultdict(list)
    for start in repeat.starts:
        window = nodes[start + shift : start + shift + repeat.length]
        groups[_wiring(window)].append(window)
    most = max(groups.values(), key=len)
    saved = len(most) * repeat.length - repeat.length - len(most)
    return most if saved > 0 else []


def _tokens(nodes: list[Node]) -> list[int]:
    """A number for each node: the same for nodes that one node of a function can stand for."""
    numbers: dict[object, int] = {}
    return [numbers.setdefault(_likeness(node), len(numbers)) for node in nodes]


def _likeness(node: Node) -> object:
    if node.graphs or any(attribute.ref for attribute in node.attributes.values()):
        return node
    attributes = sorted((name, x.kind, x.leftover) for name, x in node.attributes.items())
    read = tuple(value is None for value in node.inputs)
    made = tuple(value.is_omitted for value in node.outputs)
    operator = (node.domain, node.op_type, node.overload, node.leftover)
    return (*operator, read, made, tuple(map(repr, attributes)))


def _narrowest(nodes: list[Node], repeat: Repeat) -> int:
    """By how many nodes to begin later, so that as few values as can be lead into a repetition."""
    place = {node: index for index, node in enumerate(nodes)}
    start = repeat.starts[0]
    width = [0] * (repeat.slack + 1)
    for index, node in enumerate(nodes[: start + repeat.slack]):
        for value in node.outputs:
            last = max((place.get(user, len(nodes)) for user in value.users), default=-1)
            for shift in range(max(index + 1 - start, 0), min(last - start, repeat.slack) + 1):
                width[shift] += 1
    return width.index(min(width))


def _wiring(window: Window) -> tuple[tuple[Source, ...], ...]:
    """How the nodes of ``window`` are joined; all that comes from outside counts as one."""
    inside = _results(window)
    return tuple(
        tuple(None if value is None else inside.get(value, -1) for value in node.inputs)
        for node in window
    )


def _results(window: Window) -> dict[Value, tuple[int, int]]:
    """The values that ``window`` computes: which output of which of its nodes they are."""
    return {value: (k, j) for k, node in enumerate(window) for j, value in enumerate(node.outputs)}


@dataclass(frozen=True, slots=True)
class Interface:
    """What the repetitions of a stretch read, what others read of them, and in what they differ."""

    inputs: list[tuple[Value, ...]]
    """What is read from outside: for each input of the function a value in each repetition."""
    sources: list[list[Source]]
    """What each node reads."""
    outputs: list[tuple[int, int]]
    attributes: dict[tuple[int, str], str]
    """(node, attribute) whose values differ, and the function's attribute that stands for it."""


def _made(windows: list[list[Node]], domain: str, name: str, imports: dict[str, int]) -> Function:
    """The function that ``windows`` have in common; they become calls of it."""
    inputs, sources = _read(windows)
    interface = Interface(inputs, sources, _outputs(windows), _parameters(windows))
    body = _body(windows[0], interface)
    domains = {node.domain for node in windows[0]} | {
        "ai.onnx" for node in windows[0] if not node.domain
    }
    used = {key: version for key, version in imports.items() if key in domains}
    attributes = list(dict.fromkeys(interface.attributes.values()))
    function = Function(domain, name, body, used, attributes=attributes)
    standing: dict[Value, Value] = {}
    for number, window in enumerate(windows):
        _call(function, window, number, interface, standing)
    return function


def _read(windows: list[list[Node]]) -> tuple[list[tuple[Value, ...]], list[list[Source]]]:
    """What the repetitions read from outside, and where each node finds what it reads."""
    numbers: dict[tuple[Value, ...], int] = {}
    inside = _results(windows[0])
    sources: list[list[Source]] = []
    for nodes in zip(*windows, strict=True):
        found: list[Source] = []
        for first, *rest in zip(*(node.inputs for node in nodes), strict=True):
            if first is None or first in inside:
                found.append(None if first is None else inside[first])
            else:
                values = (first, *(value for value in rest if value is not None))
                found.append(numbers.setdefault(values, len(numbers)))
        sources.append(found)
    return list(numbers), sources


def _outputs(windows: list[list[Node]]) -> list[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for window in windows:
        inside = dict.fromkeys(window)
        for value, place in _results(window).items():
            if value.is_output or not all(stands_in(user, inside) for user in value.users):
                found.add(place)
    return sorted(found)


def _parameters(windows: list[list[Node]]) -> dict[tuple[int, str], str]:
    """Attributes that differ; those that differ in the same way are one."""
    names: dict[object, str] = {}
    given = NameGiver()
    found: dict[tuple[int, str], str] = {}
    for k, nodes in enumerate(zip(*windows, strict=True)):
        for name in nodes[0].attributes:
            contents = [_contents(node.attributes[name]) for node in nodes]
            if all(other == contents[0] for other in contents[1:]):
                continue
            key = (name, *contents)
            if key not in names:
                names[key] = given.fresh(name)
                given.add(names[key])
            found[k, name] = names[key]
    return found


def _contents(attribute: Attribute) -> tuple[object, ...]:
    """What an attribute holds, comparable: equal only for the same bits."""
    held = attribute.value if isinstance(attribute.value, list) else [attribute.value]
    return (attribute.kind, *(part for item in held for part in _parts(item)))


def _parts(item: Any) -> Iterator[object]:
    if isinstance(item, SparseTensor):
        yield item.shape
        yield from (*_parts(item.values), *_parts(item.indices))
    elif isinstance(item, float):
        yield item.hex()
    elif hasattr(item, "numpy") and hasattr(item, "dtype"):
        array = item.numpy()
        yield from (item.dtype, item.shape)
        yield tuple(array.flat) if array.dtype == object else item.tobytes()
    else:
        yield item


def _body(window: Window, interface: Interface) -> Graph:
    """The graph of the function: copies of the nodes of ``window``, the first repetition."""
    graph = Graph()
    standing: dict[Source, Value | None] = {None: None}
    for number, values in enumerate(interface.inputs):
        standing[number] = formal = Value(graph.fresh_name(values[0].name))
        graph.inputs = (*graph.inputs, formal)
    for k, node in enumerate(window):
        read = [standing[source] for source in interface.sources[k]]
        names = ["" if x.is_omitted else graph.fresh_name(x.name) for x in node.outputs]
        attributes = {
            name: _formal(attribute, interface.attributes.get((k, name)))
            for name, attribute in node.attributes.items()
        }
        copy = Node(node.domain, node.op_type, read, names, attributes, name=node.name)
        copy.overload, copy.leftover = node.overload, node.leftover
        copy.doc_string, copy.metadata = node.doc_string, dict(node.metadata)
        standing.update({(k, j): value for j, value in enumerate(copy.outputs)})
        graph.append(copy)
    made = {place: value for place, value in standing.items() if value is not None}
    graph.outputs = [made[place] for place in interface.outputs]
    return graph


def _formal(attribute: Attribute, parameter: str | None) -> Attribute:
    """``attribute``, or a reference to the function's attribute ``parameter``."""
    if parameter is None:
        return attribute
    return Attribute(attribute.name, attribute.kind, None, parameter, attribute.doc_string)


def _call(
    function: Function,
    window: Window,
    number: int,
    interface: Interface,
    standing: dict[Value, Value],
) -> None:
    """Let a call of ``function`` stand for ``window``, the repetition of this number.

    ``standing`` has what stands for the results of earlier repetitions, and gets those of this one.
    """
    graph = _home(window[0])
    given = {
        parameter: _renamed(window[k].attributes[name], parameter)
        for (k, name), parameter in interface.attributes.items()
    }
    old = [window[k].outputs[j] for k, j in interface.outputs]
    read = [standing.get(values[number], values[number]) for values in interface.inputs]
    call = Node(function.domain, function.name, read, len(old), given)
    call.name = graph.fresh_name(f"{function.name}_{number + 1}")
    graph.insert_before(window[0], call)
    for value, new in zip(old, call.outputs, strict=True):
        name = value.name
        new.type, new.doc_string = value.declared_type, value.doc_string
        new.metadata, new.leftover = dict(value.metadata), value.leftover
        value.replace_all_uses_with(new)
        if new.name != name:
            value.name, new.name = new.name, name
        standing[value] = new
    graph.remove(*window)


def _home(node: Node) -> Graph:
    if node.graph is None:
        raise GraphError(f"{node.label}: it must stand in a graph to be outlined")
    return node.graph


def _renamed(attribute: Attribute, name: str) -> Attribute:
    return Attribute(name, attribute.kind, attribute.value, None, attribute.doc_string)
