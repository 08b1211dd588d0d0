"""What `onnx.version_converter` offers: models from one opset to another."""

from __future__ import annotations

from fornix import errors, version
from fornix.errors import FornixError, InvalidArgument, InvalidUse
from fornix.format.messages import ModelProto
from fornix.ir.load import from_message, to_message
from fornix.ir.verify import verify
from fornix.onnx._own import owned

__all__ = ["ConvertError", "convert_version"]


class ConvertError(errors.ConvertError, RuntimeError):
    """A model cannot be said in another opset; onnx raises RuntimeError for some of them."""


def convert_version(model: ModelProto, target_version: int) -> ModelProto:
    """A copy of ``model`` in opset ``target_version`` of ai.onnx.

    Raises ConvertError, with every node that stands in the way, if that cannot say what they do,
    and for a model that is broken; InvalidUse for an opset that does not exist.
    """
    source = from_message(owned(model, ModelProto))
    try:
        verify(source)
        return to_message(version.convert_version(source, target_version))
    except InvalidArgument as error:
        raise InvalidUse(str(error)) from None
    except FornixError as error:
        raise ConvertError(str(error)) from error
