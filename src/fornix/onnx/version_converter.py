"""What `onnx.version_converter` offers: models from one opset to another."""

from __future__ import annotations

from fornix import version
from fornix.errors import ConvertError
from fornix.format.messages import ModelProto
from fornix.ir.load import from_message, to_message
from fornix.onnx._own import owned

__all__ = ["ConvertError", "convert_version"]


def convert_version(model: ModelProto, target_version: int) -> ModelProto:
    """A copy of ``model`` in opset ``target_version`` of ai.onnx.

    Raises ConvertError, with every node that stands in the way, if that cannot say what they do.
    """
    converted = version.convert_version(from_message(owned(model, ModelProto)), target_version)
    return to_message(converted)
