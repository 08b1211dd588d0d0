"""What `onnx.printer` offers: ONNX text of models, functions, graphs and nodes.

The text is laid out as onnx's, character by character, and onnx reads it as well. What onnx would
drop or leave out (doc strings, metadata, elements of 4 bits) stands there as by
`fornix.format.text`.
"""

from __future__ import annotations

from fornix.format.messages import FunctionProto, GraphProto, ModelProto, NodeProto, own
from fornix.onnx._layout import OnnxPrinter

__all__ = ["to_text"]


def to_text(proto: ModelProto | FunctionProto | GraphProto | NodeProto) -> str:
    """The text of ``proto``; TypeError if it is anything else.

    InferenceError if the bytes of a tensor are more or fewer than its type and dims take.
    """
    printer = OnnxPrinter()
    name = getattr(getattr(proto, "DESCRIPTOR", None), "full_name", type(proto).__name__)
    if name == "onnx.ModelProto":
        message = own(proto, ModelProto)
        text = printer.model(message)
        return printer.preamble(message) + text
    if name == "onnx.FunctionProto":
        return printer.function(own(proto, FunctionProto))
    if name == "onnx.GraphProto":
        return printer.graph(own(proto, GraphProto))
    if name == "onnx.NodeProto":
        return printer.node(own(proto, NodeProto))
    raise TypeError(
        f"to_text: a ModelProto, FunctionProto, GraphProto or NodeProto is required, found {name}"
    )
