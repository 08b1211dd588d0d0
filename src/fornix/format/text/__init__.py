"""The ONNX text notation: tokens, parser and printer.

Tokens alone need no messages; who declares operators reads nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.lazy import names

if TYPE_CHECKING:
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

__getattr__ = names(
    __name__,
    {
        "parse_attribute": "parser",
        "parse_function": "parser",
        "parse_graph": "parser",
        "parse_model": "parser",
        "parse_node": "parser",
        "parse_tensor": "parser",
        "parse_type": "parser",
        "parse_value_info": "parser",
        "print_attribute": "printer",
        "print_function": "printer",
        "print_graph": "printer",
        "print_model": "printer",
        "print_node": "printer",
        "print_tensor": "printer",
        "print_type": "printer",
        "print_value_info": "printer",
        "Token": "tokens",
        "Tokens": "tokens",
    },
)

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
