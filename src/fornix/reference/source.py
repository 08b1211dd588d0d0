"""What may be evaluated: a path, bytes, an open file, a message, or an IR model."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from typing import Any

from fornix.errors import InvalidArgument, ValidationError
from fornix.format.files import read_model
from fornix.format.limits import DEFAULT, Limits
from fornix.format.messages import (
    IR_VERSION,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    own,
)
from fornix.infer import infer_model
from fornix.ir.files import load
from fornix.ir.graph import Function, Model
from fornix.ir.load import from_message
from fornix.ir.loop_bodies import with_fitting_bodies
from fornix.ops.grads import expand_gradients
from fornix.ops.opsets import LATEST, require_known

IR_OF_IMPORTS = 3
"""The IR version since which models say what they import."""

ModelSource = str | os.PathLike[str] | bytes | Model | Any


def as_model(
    source: ModelSource, opsets: Mapping[str, int] | None = None, limits: Limits = DEFAULT
) -> Model:
    """The IR model that ``source`` holds, ready to run: its Gradient nodes are expanded.

    ``opsets`` are those of a source that has none. Raises ValidationError if there is no graph in
    it, as in an empty file, and for versions from after this release.
    """
    model = with_fitting_bodies(_with_imports(_read(source, opsets, limits)))
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else "the model"
    if not (model.graph.nodes or model.graph.outputs):
        raise ValidationError(f"{name}: a graph with something to compute is required, found none")
    _require_known_versions(model, name)
    return expand_gradients(model, infer_model)


def _with_imports(model: Model) -> Model:
    """``model``, with the imports that those had which are older than imports: the first opset."""
    if model.opset_imports or not 0 < model.ir_version < IR_OF_IMPORTS:
        return model
    found = model.clone()
    found.opset_imports = {"": 1}
    return found


def _require_known_versions(model: Model, name: str) -> None:
    """Refuse what may mean something else than is known here."""
    if model.ir_version > IR_VERSION:
        raise ValidationError(
            f"{name}: an IR version up to {IR_VERSION} is required, found {model.ir_version}; "
            "save the model with an older one"
        )
    require_known(model.opset_imports, name)
    for function in model.functions:
        require_known(function.opset_imports, f"{name}: {function.label}")


def _read(source: ModelSource, opsets: Mapping[str, int] | None, limits: Limits) -> Model:
    if isinstance(source, Model):
        return source
    if isinstance(source, str | os.PathLike):
        return load(source, limits=limits)
    if isinstance(source, bytes | bytearray | memoryview):
        return load(io.BytesIO(source), limits=limits)
    if hasattr(source, "read"):
        return from_message(read_model(source, limits=limits), limits=limits)
    if not hasattr(source, "DESCRIPTOR"):
        raise InvalidArgument(
            "a path, bytes, an open file, a message or an IR model is required, "
            f"found {type(source).__name__}"
        )
    return from_message(_model_message(own(source), opsets or {}), limits=limits)


def as_function(source: Any) -> Function:
    """The model function that a message, an IR function or an evaluator of a function holds."""
    if isinstance(source, Function):
        return source
    evaluated = getattr(source, "model", None)
    if isinstance(evaluated, Model) and evaluated.functions:
        return next(iter(evaluated.functions))
    message = ModelProto(functions=[own(source, FunctionProto)])
    return next(iter(from_message(message).functions))


def _model_message(message: Any, opsets: Mapping[str, int]) -> ModelProto:
    """``message`` itself if it is a model, else a model around the graph, function or node."""
    if isinstance(message, ModelProto):
        return message
    model = ModelProto(ir_version=IR_VERSION)
    if isinstance(message, GraphProto):
        model.graph.CopyFrom(message)
    elif isinstance(message, NodeProto):
        _wrap(model.graph, message, message.input, message.output)
    elif isinstance(message, FunctionProto):
        model.functions.append(message)
        call = NodeProto(
            domain=message.domain,
            op_type=message.name,
            overload=message.overload,
            input=message.input,
            output=message.output,
        )
        for name in [*message.attribute, *(entry.name for entry in message.attribute_proto)]:
            call.attribute.add(name=name, ref_attr_name=name)  # what the caller of `run` gives
        _wrap(model.graph, call, message.input, message.output)
        opsets = (
            {message.domain: 1} | {i.domain: i.version for i in message.opset_import} | {**opsets}
        )
    else:
        raise InvalidArgument(
            f"a model, graph, function or node is required, found {type(message).__name__}"
        )
    for domain, version in (opsets or {"": LATEST[""]}).items():
        model.opset_import.add(domain=domain, version=version)
    return model


def _wrap(
    graph: GraphProto, node: NodeProto, inputs: Iterable[str], outputs: Iterable[str]
) -> None:
    """Make ``node`` the only one of ``graph``."""
    graph.node.append(node)
    for name in dict.fromkeys(name for name in inputs if name):
        graph.input.add(name=name)
    for name in outputs:
        if name:
            graph.output.add(name=name)
