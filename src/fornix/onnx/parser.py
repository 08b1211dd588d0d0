"""What `onnx.parser` offers: models, graphs, functions and nodes from ONNX text.

The notation is read by `fornix.format.text`. As in onnx, text behind a graph, function or node is
not looked at; `ParseError` is fornix's, with line, column and the source line.
"""

from __future__ import annotations

from fornix.errors import ParseError
from fornix.format import text
from fornix.format.messages import FunctionProto, GraphProto, ModelProto, NodeProto
from fornix.onnx._own import WrongKind

__all__ = ["ParseError", "parse_function", "parse_graph", "parse_model", "parse_node"]


def parse_model(model_text: str) -> ModelProto:
    """The model in ``model_text``."""
    return text.parse_model(_text(model_text))


def parse_graph(graph_text: str) -> GraphProto:
    """The graph at the beginning of ``graph_text``."""
    return text.parse_graph(_text(graph_text), whole=False)


def parse_function(function_text: str) -> FunctionProto:
    """The model function at the beginning of ``function_text``."""
    return text.parse_function(_text(function_text), whole=False)


def parse_node(node_text: str) -> NodeProto:
    """The node at the beginning of ``node_text``."""
    return text.parse_node(_text(node_text), whole=False)


def _text(source: object) -> str:
    if not isinstance(source, str):
        raise WrongKind(f"text is required, found {type(source).__name__}")
    return source
