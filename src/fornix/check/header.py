"""What a model says of itself: IR version, opset imports, and the types of its ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fornix.check.finding import Findings
from fornix.format.limits import Limits
from fornix.format.messages import IR_VERSION, ValueInfoProto
from fornix.ir.graph import Function, Graph, Model, Value
from fornix.ir.types import (
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)
from fornix.ops.opsets import LATEST

# The first IR version with opset imports, and the first in which initializers need not be inputs.
_IR_OPSETS, _IR_FREE_INITIALIZERS = 3, 4


def check_header(model: Model, findings: Findings, limits: Limits) -> None:
    """Note what is wrong with versions, and with inputs and outputs of the main graph."""
    version = model.ir_version
    if not 1 <= version <= IR_VERSION:
        findings.error(
            "model", f"an IR version from 1 to {IR_VERSION} is required, found {version}"
        )
    if version >= _IR_OPSETS and not model.opset_imports:
        findings.error("model", "an opset import is required, found none")
    if 0 < version < _IR_OPSETS and model.opset_imports:
        findings.error(
            "model", f"opset imports need IR version {_IR_OPSETS} or newer, found {version}"
        )
    check_imports(model, findings)
    for kind, values in (("input", model.graph.inputs), ("output", model.graph.outputs)):
        for value in values:
            check_end(f"{kind} '{value.name}'", value, findings)
    check_initializers(model, findings, limits)


def check_initializers(model: Model, findings: Findings, _limits: Limits) -> None:
    """Note initializers that are no inputs, in models so old that they have to be."""
    if 0 < model.ir_version < _IR_FREE_INITIALIZERS:
        for value in model.graph.initializer_values:
            if not value.is_input:
                findings.error(
                    f"initializer '{value.name}'",
                    f"before IR version {_IR_FREE_INITIALIZERS} it has to be an input as well",
                )


NO_RANK = "its rank is not declared"
"""What the checker says of inputs and outputs whose number of axes is left open."""


def owners(model: Model) -> Iterator[tuple[Model | Function, Graph]]:
    """The model and its functions, each with its outermost graph."""
    yield model, model.graph
    for function in model.functions:
        yield function, function.graph


def imports_of(owner: Model | Function) -> Mapping[str, int]:
    """The opset imports of ``owner``; those of models that are older than imports are opset 1."""
    if isinstance(owner, Model) and not owner.opset_imports and owner.ir_version < _IR_OPSETS:
        return {"": 1}
    return owner.opset_imports


def check_imports(owner: Model | Function, findings: Findings) -> None:
    """Note opset imports that do not exist."""
    label = owner.label if isinstance(owner, Function) else "model"
    for domain, opset in owner.opset_imports.items():
        newest = LATEST.get(domain)
        if opset < 1 or (newest is not None and opset > newest):
            allowed = "from 1 on" if newest is None else f"from 1 to {newest}"
            findings.error(
                label, f"an opset of {domain or 'ai.onnx'} {allowed} is required, found {opset}"
            )


def check_end(subject: str, value: Value, findings: Findings) -> None:
    """Note what the type of an input or output of the main graph lacks."""
    type_ = value.type
    if type_ is None:
        findings.error(subject, "a type is required, found none")
    elif isinstance(type_, TensorType | SparseTensorType):
        if type_.dtype is None:
            findings.error(subject, f"an element type is required, found {_unknown_dtype(value)}")
        if type_.shape is None:
            findings.warn(subject, NO_RANK)
        for axis, extent in enumerate(type_.shape or ()):
            if isinstance(extent, int) and extent < 0:
                findings.warn(subject, f"axis {axis} is declared {extent}, which stands for none")
    else:
        lacking = next(_lacking(type_), None)
        if lacking is not None:
            findings.error(subject, f"{lacking}, found none")


def _unknown_dtype(value: Value) -> str:
    """The number that stands where ``value`` should have its element type."""
    said = ValueInfoProto.FromString(value.leftover).type
    code = said.tensor_type.elem_type or said.sparse_tensor_type.elem_type
    return f"the number {code}, which stands for none" if code else "none"


def _lacking(type_: Type | None) -> Iterator[str]:
    """What a type that is no tensor's needs and does not have, at any depth."""
    if isinstance(type_, SequenceType | OptionalType):
        if type_.elem is None:
            kind = "a sequence" if isinstance(type_, SequenceType) else "an optional"
            yield f"the type of what {kind} holds is required"
        yield from _lacking(type_.elem)
    elif isinstance(type_, MapType):
        if type_.key is None:
            yield "the type of a map's keys is required"
        if type_.value is None:
            yield "the type of a map's values is required"
        yield from _lacking(type_.value)
    elif isinstance(type_, OpaqueType) and not type_.name:
        yield "a name is required of an opaque type"
