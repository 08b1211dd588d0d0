"""What `onnx.shape_inference` offers: types and shapes of all values, written into the model.

The inference is `fornix.infer`'s: symbolic dims stay exact (``2*N + 1``), and contents of shapes
are always propagated, whatever ``data_prop`` says.
"""

from __future__ import annotations

import os

from fornix.errors import DTypeError, InferenceError, InvalidArgument
from fornix.format.messages import ModelProto, own
from fornix.infer import Inference, annotate, infer_model
from fornix.ir.load import from_message, to_message
from fornix.onnx import load_model, load_model_from_string, save_model

__all__ = ["InferenceError", "infer_shapes", "infer_shapes_path"]


def infer_shapes(
    model: ModelProto | bytes,
    check_type: bool = False,
    strict_mode: bool = False,
    data_prop: bool = False,
) -> ModelProto:
    """A copy of ``model`` that declares the type of every value that inference reaches.

    Where the model contradicts itself, what it declares stays; InferenceError tells of it with
    ``strict_mode``, and of element types alone with ``check_type``. Operators without a schema give
    nothing.
    """
    if isinstance(model, str | os.PathLike):
        raise InvalidArgument(
            "infer_shapes: a model or its bytes are required, "
            f"found the path {os.fspath(model)!r}; try infer_shapes_path"
        )
    message = load_model_from_string(model) if isinstance(model, bytes) else own(model, ModelProto)
    graph_model = from_message(message)
    inference = infer_model(graph_model)
    _raise_first(inference, check_type=check_type, strict=strict_mode)
    annotate(graph_model, inference)
    return to_message(graph_model)


def infer_shapes_path(
    model_path: str | os.PathLike[str],
    output_path: str | os.PathLike[str] = "",
    check_type: bool = False,
    strict_mode: bool = False,
    data_prop: bool = False,
) -> None:
    """`infer_shapes` from file to file; without ``output_path`` the model itself is written anew.

    External data stays where it is: the file that is written refers to it as the old one did.
    """
    model = load_model(model_path, load_external_data=False)
    inferred = infer_shapes(model, check_type, strict_mode, data_prop)
    save_model(inferred, output_path or model_path)


def _raise_first(inference: Inference, *, check_type: bool, strict: bool) -> None:
    """Raise the first contradiction that is asked for."""
    kind: type[InferenceError] = InferenceError if strict else DTypeError
    if strict or check_type:
        for error in inference.errors:
            if isinstance(error, kind):
                raise error
