"""What `onnx.checker` offers: whether models and their parts keep to the standard.

The checker is `fornix.check`'s, which tells of everything at once; a part is checked inside a model
that holds nothing else. ``full_check`` adds types and shapes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from types import NoneType, SimpleNamespace
from typing import Any

from fornix.check import check
from fornix.check.finding import Finding, Findings, Severity
from fornix.check.functions import check_functions
from fornix.check.header import NO_RANK, check_end, check_initializers
from fornix.check.model import PARTS, Part
from fornix.check.model import check_model as check_parts
from fornix.check.names import check_names
from fornix.check.nodes import DEPRECATED, NO_OPERATOR, check_nodes
from fornix.check.tensors import check_tensors
from fornix.check.types import check_types
from fornix.errors import InferenceError, LimitError, NoSuchFile, ValidationError
from fornix.format.messages import (
    IR_VERSION,
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    SparseTensorProto,
    TensorProto,
    ValueInfoProto,
)
from fornix.ir.files import load
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from fornix.onnx._kinds import takes
from fornix.onnx._own import owned
from fornix.ops.opsets import LATEST

__all__ = [
    "DEFAULT_CONTEXT",
    "LEXICAL_SCOPE_CONTEXT",
    "MAXIMUM_PROTOBUF",
    "C",
    "CheckerContext",
    "LexicalScopeContext",
    "ValidationError",
    "check_attribute",
    "check_function",
    "check_graph",
    "check_model",
    "check_node",
    "check_sparse_tensor",
    "check_tensor",
    "check_value_info",
]

MAXIMUM_PROTOBUF = 2**31 - 1
"""Bytes that one message may have."""


class CheckerContext:
    """The versions that parts of models are checked for."""

    def __init__(self) -> None:
        self.ir_version = IR_VERSION
        self.opset_imports: Mapping[str, int] = {"": LATEST[""]}


class LexicalScopeContext:
    """Names of outer graphs; parts may read any."""


C = SimpleNamespace(CheckerContext=CheckerContext, LexicalScopeContext=LexicalScopeContext)
"""What the `onnx` package has in C++."""

DEFAULT_CONTEXT = CheckerContext()
LEXICAL_SCOPE_CONTEXT = LexicalScopeContext()


def check_model(
    model: ModelProto | str | bytes | os.PathLike[str],
    full_check: bool = False,
    skip_opset_compatibility_check: bool = False,
    check_custom_domain: bool = False,
) -> None:
    """Raise ValidationError, with everything that is wrong, unless ``model`` keeps to the standard.

    ``model`` is a message, bytes or a path. ``full_check`` adds types and shapes;
    ``check_custom_domain`` wants every operator to be known; ``skip_opset_compatibility_check``
    admits opsets that are newer than the standard's newest.
    """
    if isinstance(model, bytes) and len(model) > MAXIMUM_PROTOBUF:
        raise ValidationError(
            f"model: at most {MAXIMUM_PROTOBUF} bytes are required, found {len(model)}; "
            "save it with external data and give the path"
        )
    if isinstance(model, bytes):
        source = load(BytesIO(model))
    elif isinstance(model, str | os.PathLike):
        source = _loaded(model)
    else:
        source = from_message(owned(model, ModelProto))
    if skip_opset_compatibility_check:
        known = source.opset_imports.items()
        source.opset_imports = {d: min(opset, LATEST.get(d, opset)) for d, opset in known}
    untyped = [part for part in PARTS if part is not check_types]
    findings = check_parts(source, parts=PARTS if full_check else untyped)
    is_wrong = any(found.severity is Severity.ERROR for found in findings)
    told = [x for x in findings if _is_refused(x, check_custom_domain=check_custom_domain)]
    if told:
        count = "1 error" if len(told) == 1 else f"{len(told)} errors"
        are_unknown = all(found.message.startswith(NO_OPERATOR) for found in told)
        head = "every operator must be known" if are_unknown else f"{count} found"
        message = "\n  ".join([f"model: {head}", *map(str, told)])
        if is_wrong:
            _refuse_types_alone(source, untyped, message)
        raise ValidationError(message)


def _is_refused(found: Finding, *, check_custom_domain: bool) -> bool:
    """Whether onnx's checker refuses a model for it: some of what fornix warns of, too."""
    return (
        found.severity is Severity.ERROR
        or DEPRECATED in found.message
        or found.message == NO_RANK
        or (check_custom_domain and found.message.startswith(NO_OPERATOR))
    )


class MissingModel(NoSuchFile, ValidationError):
    """No file to check, also for those who catch what onnx's checker raises."""


def _loaded(path: str | os.PathLike[str]) -> Model:
    try:
        return load(path)
    except NoSuchFile as error:
        raise MissingModel(str(error)) from None


class Contradiction(ValidationError, InferenceError):
    """Types and shapes contradict each other in a model that is right otherwise."""


def _refuse_types_alone(source: Model, untyped: Sequence[Part], message: str) -> None:
    """Raise what inference raises, too, if the model is right but for types and shapes."""
    if not any(found.severity is Severity.ERROR for found in check_parts(source, parts=untyped)):
        raise Contradiction(message)


@takes(ctx=CheckerContext, lexical_scope_ctx=LexicalScopeContext)
def check_graph(
    graph: GraphProto,
    ctx: CheckerContext = DEFAULT_CONTEXT,
    lexical_scope_ctx: LexicalScopeContext = LEXICAL_SCOPE_CONTEXT,
) -> None:
    """Raise ValidationError unless ``graph`` keeps to the standard; it may read outer names."""
    ours = owned(graph, GraphProto)
    if not ours.name:
        raise ValidationError("graph: a name is required, found none")
    parts = (check_initializers, check_names, check_nodes, check_tensors)
    _check(ctx, parts, graph=ours)


@takes(ctx=(CheckerContext, NoneType), lexical_scope_ctx=LexicalScopeContext)
def check_function(
    function: FunctionProto,
    ctx: CheckerContext | None = None,
    lexical_scope_ctx: LexicalScopeContext = LEXICAL_SCOPE_CONTEXT,
) -> None:
    """Raise ValidationError unless ``function`` keeps to the standard."""
    parts = (check_functions, check_names, check_nodes, check_tensors)
    _check(ctx or DEFAULT_CONTEXT, parts, functions=[owned(function, FunctionProto)])


@takes(ctx=CheckerContext, lexical_scope_ctx=LexicalScopeContext)
def check_node(
    node: NodeProto,
    ctx: CheckerContext = DEFAULT_CONTEXT,
    lexical_scope_ctx: LexicalScopeContext = LEXICAL_SCOPE_CONTEXT,
) -> None:
    """Raise ValidationError unless ``node`` is as its operator's schema says."""
    graph = GraphProto(name="g", node=[owned(node, NodeProto)])
    _check(ctx, (check_nodes, check_tensors), graph=graph)


@takes(ctx=CheckerContext, lexical_scope_ctx=LexicalScopeContext)
def check_attribute(
    attr: AttributeProto,
    ctx: CheckerContext = DEFAULT_CONTEXT,
    lexical_scope_ctx: LexicalScopeContext = LEXICAL_SCOPE_CONTEXT,
) -> None:
    """Raise ValidationError unless ``attr`` has a name, a type, and data of that type."""
    ours = owned(attr, AttributeProto)
    if not ours.name:
        raise ValidationError("attribute: a name is required, found none")
    if not ours.type:
        raise ValidationError(f"attribute '{ours.name}': a type is required, found none")
    node = NodeProto(op_type="Node", domain=_ANY, attribute=[ours])
    _check(ctx, (check_nodes, check_tensors), graph=GraphProto(name="g", node=[node]))


@takes(ctx=CheckerContext)
def check_tensor(tensor: TensorProto, ctx: CheckerContext = DEFAULT_CONTEXT) -> None:
    """Raise ValidationError unless ``tensor`` has the payload that its dims and type require."""
    ours = owned(tensor, TensorProto)
    _check(ctx, (check_tensors,), graph=GraphProto(name="g", initializer=[ours]))


@takes(ctx=CheckerContext)
def check_sparse_tensor(sparse: SparseTensorProto, ctx: CheckerContext = DEFAULT_CONTEXT) -> None:
    """Raise ValidationError unless the values and indices of ``sparse`` fit each other."""
    ours = owned(sparse, SparseTensorProto)
    _check(ctx, (check_tensors,), graph=GraphProto(name="g", sparse_initializer=[ours]))


@takes(ctx=CheckerContext)
def check_value_info(
    value_info: ValueInfoProto,
    ctx: CheckerContext = DEFAULT_CONTEXT,
) -> None:
    """Raise ValidationError unless ``value_info`` has a name and a type, of known rank."""
    ours = owned(value_info, ValueInfoProto)
    if not ours.name:
        raise ValidationError("value: a name is required, found none")
    [value] = from_message(ModelProto(graph=GraphProto(input=[ours]))).graph.inputs
    findings = Findings()
    check_end(f"value '{value.name}'", value, findings)
    refused = [
        str(found)
        for found in findings.all
        if found.severity is Severity.ERROR or found.message == NO_RANK
    ]
    if refused:
        raise ValidationError("\n".join(refused))


_ANY = "fornix.any"
"""A domain of which nothing is known."""


def _check(ctx: CheckerContext, parts: Sequence[Part], **content: Any) -> None:
    """Check a model that holds nothing but ``content``."""
    imports = {_ANY: 1, **ctx.opset_imports}
    message = ModelProto(
        ir_version=ctx.ir_version,
        opset_import=[OperatorSetIdProto(domain=d, version=v) for d, v in imports.items()],
        **content,
    )
    try:
        check(message, parts=parts)
    except LimitError as error:
        raise ValidationError(str(error)) from error
