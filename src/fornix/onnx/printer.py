"""What `onnx.printer` offers: ONNX text of models, functions, graphs and nodes.

The text is `fornix.format.text`'s: onnx reads it as well, and what onnx would drop (doc strings,
metadata, how tensors are stored) stands in comments that fornix reads back.
"""

from __future__ import annotations

from fornix.format import text
from fornix.format.messages import FunctionProto, GraphProto, ModelProto, NodeProto

__all__ = ["to_text"]

_PRINTERS = {
    "onnx.ModelProto": text.print_model,
    "onnx.FunctionProto": text.print_function,
    "onnx.GraphProto": text.print_graph,
    "onnx.NodeProto": text.print_node,
}


def to_text(proto: ModelProto | FunctionProto | GraphProto | NodeProto) -> str:
    """The text of ``proto``; TypeError if it is anything else."""
    name = getattr(getattr(proto, "DESCRIPTOR", None), "full_name", type(proto).__name__)
    if name not in _PRINTERS:
        raise TypeError(
            f"to_text: a ModelProto, FunctionProto, GraphProto or NodeProto is required, "
            f"found {name}"
        )
    return _PRINTERS[name](proto)
