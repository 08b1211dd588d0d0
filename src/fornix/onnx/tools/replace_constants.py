"""What `onnx.tools.replace_constants` offers: small models of the same structure."""

from __future__ import annotations

from typing import Any, TypeVar

from fornix.edit import replace_constants
from fornix.errors import InvalidArgument
from fornix.format.messages import FunctionProto, GraphProto, ModelProto
from fornix.ir.load import from_message, to_message
from fornix.onnx._own import owned

__all__ = ["replace_initializer_by_constant_of_shape"]

M = TypeVar("M", ModelProto, GraphProto, FunctionProto)


class OpsetTooOld(InvalidArgument, RuntimeError):
    """An opset without ConstantOfShape or Range, also for those who catch RuntimeError."""


def replace_initializer_by_constant_of_shape(
    onx: M,
    threshold: int = 128,
    ir_version: int | None = None,
    use_range: bool = False,
    value_constant_of_shape: float = 0.5,
) -> M:
    """A copy of a model, graph or function that makes its larger tensors by ConstantOfShape.

    All elements become ``value_constant_of_shape`` or, with ``use_range``, i / N. What an earlier
    call has made changes likewise. Raises NotImplementedError for a large tensor that is sparse,
    RuntimeError for an opset without the operators.
    """
    name = getattr(getattr(onx, "DESCRIPTOR", None), "full_name", type(onx).__name__)
    if name == "onnx.ModelProto":
        message = owned(onx, ModelProto)
    elif name == "onnx.GraphProto":
        message = ModelProto(graph=owned(onx, GraphProto))
    elif name == "onnx.FunctionProto":
        message = ModelProto(functions=[owned(onx, FunctionProto)])
    else:
        raise TypeError(f"a ModelProto, GraphProto or FunctionProto is required, found {name}")
    source = from_message(message)
    if ir_version is not None or name != "onnx.ModelProto":
        source.ir_version = ir_version or 4
    try:
        changed = replace_constants(
            source, threshold, fill=value_constant_of_shape, use_range=use_range
        )
    except InvalidArgument as error:
        raise OpsetTooOld(str(error)) from None
    made = to_message(changed)
    of_kind: dict[str, Any] = {"onnx.ModelProto": made, "onnx.GraphProto": made.graph}
    found: Any = of_kind[name] if name in of_kind else made.functions[0]
    result: M = found
    return result
