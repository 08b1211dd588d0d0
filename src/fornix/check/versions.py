"""Features that came with an IR version, in models that declare an older one.

These are warnings: fornix and its peers read such models, other software of that age may not.
Source: ONNX, the history of IR versions in onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

from fornix.check.finding import Findings
from fornix.format.limits import Limits
from fornix.format.messages import GraphProto, ModelProto, NodeProto
from fornix.ir import walk
from fornix.ir.graph import Model
from fornix.ir.tensor import SparseTensor
from fornix.ir.types import OptionalType, SparseTensorType, TensorType

DTYPES = {
    **dict.fromkeys(("bfloat16",), 4),
    **dict.fromkeys(("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"), 9),
    **dict.fromkeys(("int4", "uint4"), 10),
    **dict.fromkeys(("float4e2m1",), 11),
    **dict.fromkeys(("float8e8m0",), 12),
    **dict.fromkeys(("int2", "uint2"), 13),
}
"""Element types and the IR version that brought them, where that is not the first."""

_MODEL = {"training_info": 7, "configuration": 11}


def check_versions(model: Model, findings: Findings, _limits: Limits) -> None:
    """Note each feature that is newer than the IR version that ``model`` declares."""
    newest: dict[str, int] = {}
    for feature, version in features(model):
        newest[feature] = max(version, newest.get(feature, 0))
    for feature, version in newest.items():
        if version > model.ir_version > 0:
            findings.warn(
                "model", f"{feature} came with IR version {version}, declared is {model.ir_version}"
            )


def features(model: Model) -> Iterator[tuple[str, int]]:
    """What ``model`` makes use of, and the IR version that it came with."""
    said = ModelProto.FromString(model.leftover)
    yield from ((name, version) for name, version in _MODEL.items() if getattr(said, name))
    yield from of_functions(model)
    yield from of_graphs(model)
    yield from of_nodes(model)
    yield from of_values(model)


def of_functions(model: Model) -> Iterator[tuple[str, int]]:
    """What model functions make use of, and that there are any."""
    for function in model.functions:
        yield "a model function", 8
        if function.defaults:
            yield "a default of a function's attribute", 9
        if function.overload:
            yield "an overload of a function", 10
        if function.metadata:
            yield "metadata of functions", 10


def of_graphs(model: Model) -> Iterator[tuple[str, int]]:
    """What graphs make use of."""
    for graph in walk.graphs(model):
        if graph.metadata:
            yield "metadata of graphs", 10
        if graph.leftover and GraphProto.FromString(graph.leftover).quantization_annotation:
            yield "quantization_annotation", 5
        if any(isinstance(value.tensor, SparseTensor) for value in graph.initializer_values):
            yield "a sparse initializer", 6


def of_nodes(model: Model) -> Iterator[tuple[str, int]]:
    """What nodes make use of."""
    for node in walk.nodes(model):
        if node.has_metadata:
            yield "metadata of nodes", 10
        if node.leftover and NodeProto.FromString(node.leftover).device_configurations:
            yield "a device configuration", 11


def of_values(model: Model) -> Iterator[tuple[str, int]]:
    """What the types of inputs, outputs and stored tensors make use of."""
    stored = (value for graph in walk.graphs(model) for value in graph.initializer_values)
    types = [value.type for value in (*model.graph.inputs, *model.graph.outputs, *stored)]
    for type_ in types:
        if isinstance(type_, OptionalType):
            yield "an optional type", 8
    for value in (*model.graph.inputs, *model.graph.outputs):
        if isinstance(value.type, SparseTensorType):
            yield "a type of sparse tensors", 8
    for dtype in {type_.dtype for type_ in types if isinstance(type_, TensorType)}:
        if dtype is not None and dtype.name in DTYPES:
            yield f"the element type {dtype.name}", DTYPES[dtype.name]
