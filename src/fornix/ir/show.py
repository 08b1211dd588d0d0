"""Graphs as text for people who debug: ONNX text notation, shortened.

Types print as in messages (`float32[N, 3]`), tensors by their outline, broken graphs as they are.
The notation that can be read back is `fornix.format.text`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.ir.types import type_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fornix.ir.graph import Function, Graph, Model, Node, Value

_INDENT = "  "


def model_text(model: Model) -> str:
    """A model: its versions, its graph, its functions."""
    head = f"<ir_version: {model.ir_version}, opset_import: {opsets_text(model.opset_imports)}>"
    parts = [head, graph_text(model.graph), *map(function_text, model.functions)]
    return "\n".join(parts)


def function_text(function: Function) -> str:
    """A function: its opset imports, its signature, its nodes."""
    graph = function.graph
    name = f"{function.domain}.{function.name}" if function.domain else function.name
    given = ", ".join([*function.attributes, *map(repr, function.defaults.values())])
    read = ", ".join(value.name for value in graph.inputs)
    made = ", ".join(value.name for value in graph.outputs)
    overload = f":{function.overload}" if function.overload else ""
    return "\n".join(
        [
            f"<opset_import: {opsets_text(function.opset_imports)}>",
            f"{name}{overload} {f'<{given}> ' if given else ''}({read}) => ({made}) {{",
            *body_lines(graph, 1),
            "}",
        ]
    )


def graph_text(graph: Graph, depth: int = 0) -> str:
    """A graph, indented inside ``depth`` others."""
    head = f"{graph.name or '_'} ({values_text(graph.inputs)}) => ({values_text(graph.outputs)}) {{"
    return "\n".join([head, *body_lines(graph, depth + 1), f"{_INDENT * depth}}}"])


def body_lines(graph: Graph, depth: int) -> Iterator[str]:
    """Initializers and nodes, a line each."""
    for value in graph.initializer_values:
        yield f"{_INDENT * depth}{value_text(value)} = {value.tensor!r}"
    for node in graph.nodes:
        yield _INDENT * depth + node_text(node, depth)


def node_text(node: Node, depth: int) -> str:
    """A node; its subgraphs take lines of their own."""
    made = ", ".join(value.name or "_" for value in node.outputs)
    read = ", ".join("_" if value is None else value.name for value in node.inputs)
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    overload = f":{node.overload}" if node.overload else ""
    given = []
    for attribute in node.attributes.values():
        if attribute.graphs:
            inner = ", ".join(graph_text(graph, depth + 1) for graph in attribute.graphs)
            given.append(f"{attribute.name} = {inner}")
        else:
            given.append(repr(attribute))
    name = f"[{node.name}] " if node.name else ""
    attributes = f" <{', '.join(given)}>" if given else ""
    return f"{name}{made} = {operator}{overload}{attributes}({read})"


def values_text(values: Iterable[Value]) -> str:
    return ", ".join(value_text(value) for value in values)


def value_text(value: Value) -> str:
    """``float32[N, 3] x``."""
    return f"{type_text(value.type)} {value.name or '_'}"


def opsets_text(imports: dict[str, int]) -> str:
    pairs = ", ".join(f'"{domain}" : {version}' for domain, version in imports.items())
    return f"[{pairs}]"
