"""The ONNX text notation: tokens, parser and printer."""

from __future__ import annotations

from fornix.format.text.parser import (
    parse_attribute,
    parse_function,
    parse_graph,
    parse_model,
    parse_node,
    parse_tensor,
    parse_type,
    parse_value_info,
)
from fornix.format.text.printer import (
    print_attribute,
    print_function,
    print_graph,
    print_model,
    print_node,
    print_tensor,
    print_type,
    print_value_info,
)
from fornix.format.text.tokens import Token, Tokens

__all__ = [
    "Token",
    "Tokens",
    "parse_attribute",
    "parse_function",
    "parse_graph",
    "parse_model",
    "parse_node",
    "parse_tensor",
    "parse_type",
    "parse_value_info",
    "print_attribute",
    "print_function",
    "print_graph",
    "print_model",
    "print_node",
    "print_tensor",
    "print_type",
    "print_value_info",
]
