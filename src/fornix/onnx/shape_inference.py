"""What `onnx.shape_inference` offers: types and shapes of all values, written into the model.

The inference is `fornix.infer`'s: symbolic dims stay exact (``2*N + 1``), and contents of shapes
are always propagated, whatever ``data_prop`` says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import NoneType

from fornix.errors import (
    DTypeError,
    InferenceError,
    NoSuchFile,
    SchemaError,
    TensorDataError,
    ValidationError,
)
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
    TypeProto,
    ValueInfoProto,
)
from fornix.infer import Inference, annotate, explained, infer_model
from fornix.infer.model import infer_by_schema
from fornix.ir.calls import recursions
from fornix.ir.graph import Node
from fornix.ir.load import from_message, to_message
from fornix.onnx import load_model, load_model_from_string, save_model
from fornix.onnx._inference import GraphInferencer, InferenceContext, fact_of, message_of
from fornix.onnx._kinds import WHOLE, takes
from fornix.onnx._own import owned
from fornix.onnx.checker import MissingModel
from fornix.onnx.defs import OpSchema
from fornix.ops.call import bind_attributes, bind_types, check_arity

__all__ = [
    "GraphInferencer",
    "InferenceContext",
    "InferenceError",
    "infer_function_output_types",
    "infer_node_outputs",
    "infer_shapes",
    "infer_shapes_path",
]


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
        raise TypeError(
            "infer_shapes: a model or its bytes are required, found the path "
            f"{os.fspath(model)!r}. For Model paths (str or os.PathLike), use infer_shapes_path()."
        )
    message = (
        load_model_from_string(model) if isinstance(model, bytes) else owned(model, ModelProto)
    )
    graph_model = from_message(message)
    for label, chain in recursions(graph_model):
        raise ValidationError(f"{label}: a function must not call itself, found {chain}")
    inference = infer_model(graph_model, checks_types=check_type)
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
    for path in (model_path, output_path):
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"infer_shapes_path: paths are required, found {type(path).__name__}")
    try:
        model = load_model(model_path, load_external_data=False)
    except NoSuchFile as error:
        raise MissingModel(str(error)) from None
    inferred = infer_shapes(model, check_type, strict_mode, data_prop)
    save_model(inferred, output_path or model_path)


@takes(input_data=(Mapping, NoneType), input_sparse_data=(Mapping, NoneType), ir_version=WHOLE)
def infer_node_outputs(
    schema: OpSchema,
    node: NodeProto,
    input_types: Mapping[str, TypeProto],
    input_data: Mapping[str, TensorProto] | None = None,
    input_sparse_data: Mapping[str, SparseTensorProto] | None = None,
    opset_imports: Sequence[OperatorSetIdProto] | None = None,
    ir_version: int = IR_VERSION,
) -> dict[str, TypeProto]:
    """The types of a node's outputs by name, as far as they follow, by the rule of ``schema``.

    Names beyond the node's inputs are those that its subgraphs may read. Raises KeyError for an
    input without a type, ValidationError for a node that the schema forbids, InferenceError for a
    contradiction.
    """
    ours = owned(node, NodeProto)
    types = {name: input_types[name] for name in (*filter(None, ours.input), *input_types)}
    graph = GraphProto(node=[ours], input=[_value_info(*item) for item in types.items()])
    imports = [owned(entry, OperatorSetIdProto) for entry in opset_imports or ()]
    message = ModelProto(ir_version=ir_version, graph=graph, opset_import=imports)
    model = from_message(message)
    data = input_data or {}
    known = Inference(model.opset_imports, model.function_table)
    for value in model.graph.inputs:
        known.facts[value] = fact_of(types[value.name], data.get(value.name))
    [found] = model.graph.nodes
    try:
        check_arity(schema.schema, found.inputs, len(found.outputs))
        bind_attributes(schema.schema, found.attributes)
        _check_types(found, schema, known)
        facts = infer_by_schema(found, schema.operator, schema.schema, known)
    except SchemaError as error:
        raise ValidationError(str(error.at(found.label))) from error
    outputs = zip(found.outputs, facts, strict=False)
    return {value.name: message_of(fact) for value, fact in outputs if fact.type is not None}


def _check_types(node: Node, schema: OpSchema, known: Inference) -> None:
    """Raise SchemaError if an input is of a type that ``schema`` forbids."""
    types = [None if value is None else known.fact(value).type for value in node.inputs]
    try:
        bind_types(schema.schema, types)
    except DTypeError as error:
        raise SchemaError(str(error)) from error


def infer_function_output_types(
    function: FunctionProto, input_types: Sequence[TypeProto], attributes: Sequence[AttributeProto]
) -> list[TypeProto]:
    """The types of a function's outputs for a call with these inputs and attributes.

    An empty type stands for an input that is left out. Raises InferenceError if they contradict
    the body.
    """
    ours = owned(function, FunctionProto)
    given = [f"input_{i}" if x.WhichOneof("value") else "" for i, x in enumerate(input_types)]
    call = NodeProto(
        domain=ours.domain,
        op_type=ours.name,
        overload=ours.overload,
        input=given,
        output=[f"output_{index}" for index in range(len(ours.output))],
        attribute=[owned(attribute, AttributeProto) for attribute in attributes],
    )
    inputs = [_value_info(*item) for item in zip(given, input_types, strict=True) if item[0]]
    message = ModelProto(
        ir_version=IR_VERSION,
        graph=GraphProto(node=[call], input=inputs),
        functions=[ours],
        opset_import=ours.opset_import,
    )
    model = from_message(message)
    inference = infer_model(model)
    _raise_first(inference, check_type=False, strict=True)
    [node] = model.graph.nodes
    return [message_of(inference.fact(value)) for value in node.outputs]


def _value_info(name: str, type_: TypeProto) -> ValueInfoProto:
    return ValueInfoProto(name=name, type=owned(type_, TypeProto))


def _raise_first(inference: Inference, *, check_type: bool, strict: bool) -> None:
    """Raise the first contradiction that is asked for; of element types, or of nodes' inputs.

    Strictness asks for tensors that are damaged, too.
    """
    for error in inference.errors:
        if strict and isinstance(error, TensorDataError):
            raise InferenceError(str(error)) from error
        if isinstance(error, DTypeError) or type(error) is InferenceError:
            is_asked_for = strict or check_type
        else:
            is_asked_for = strict and isinstance(error, InferenceError)
        if is_asked_for:
            raise explained(inference, error)
