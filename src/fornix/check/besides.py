"""What a model says besides its graphs: keys, training, devices, quantization, denotations.

The IR keeps these as the messages that they came in, so they are looked up there.
Source: ONNX IR, "Training Related Information", "Multi-Device Configuration"; TypeDenotation,
DimensionDenotation.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator

from fornix.check.finding import Findings, place, way
from fornix.format.limits import Limits
from fornix.format.messages import (
    DeviceConfigurationProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeDeviceConfigurationProto,
    NodeProto,
    ShardingSpecProto,
    StringStringEntryProto,
    TrainingInfoProto,
    TypeProto,
    ValueInfoProto,
)
from fornix.ir import walk
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.nesting import own_values
from fornix.ir.types import TensorType

TYPE_DENOTATIONS = ("TENSOR", "IMAGE", "AUDIO", "TEXT")
DIM_DENOTATIONS = (
    *("DATA_BATCH", "DATA_CHANNEL", "DATA_TIME", "DATA_FEATURE"),
    *("FILTER_IN_CHANNEL", "FILTER_OUT_CHANNEL", "FILTER_SPATIAL"),
)
QUANTIZATION_KEYS = ("SCALE_TENSOR", "ZERO_POINT_TENSOR")


def check_besides(model: Model, findings: Findings, _limits: Limits) -> None:
    """Note what is wrong with what a model says besides its graphs."""
    said = ModelProto.FromString(model.leftover)
    check_keys("model", said.metadata_props, findings)
    domains = [entry.domain or "ai.onnx" for entry in said.opset_import]
    imports = {(entry.domain or "ai.onnx", entry.version) for entry in said.opset_import}
    contradicting = repeated(domain for domain, _ in imports)
    for domain in repeated(domains):  # onnxmltools writes one twice
        note = findings.error if domain in contradicting else findings.warn
        note("model", f"one opset import for a domain is required, found two of {domain}")
    for number, training in enumerate(said.training_info):
        check_training(f"training_info {number}", training, model, findings)
    configurations = {item.name: item for item in said.configuration}
    check_configurations(said.configuration, findings)
    for function in model.functions:
        if function.leftover:
            left = FunctionProto.FromString(function.leftover)
            check_keys(function.label, left.metadata_props, findings)
    for graph in walk.graphs(model):
        check_graph(graph, findings)
    for node in walk.nodes(model):
        if node.leftover:
            left_over = NodeProto.FromString(node.leftover)
            check_keys(place(node), left_over.metadata_props, findings)
            for use in left_over.device_configurations:
                check_use(node, use, configurations, findings)


def repeated(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def check_keys(subject: str, entries: Iterable[StringStringEntryProto], findings: Findings) -> None:
    """Note keys of metadata that occur more than once."""
    for key in repeated(entry.key for entry in entries):
        findings.error(subject, f"metadata_props: one entry for a key is required, found {key!r}")


def check_graph(graph: Graph, findings: Findings) -> None:
    """Note what is wrong with what ``graph`` says of itself and its values."""
    subject = f"{way(graph)}{graph.label}"
    if not graph.name and isinstance(graph.owner, Model):
        findings.error(subject, "a name is required, found none")
    for value in (*graph.inputs, *graph.outputs):
        if value.leftover:
            check_denotations(value, findings)
    if graph.leftover:
        said = GraphProto.FromString(graph.leftover)
        check_keys(subject, said.metadata_props, findings)
        check_quantization(subject, said, graph, findings)


def check_quantization(subject: str, said: GraphProto, graph: Graph, findings: Findings) -> None:
    """Note annotations of values, or by values, that ``graph`` does not have."""
    names = {x.name for x in own_values(graph)} if said.quantization_annotation else set()
    for annotation in said.quantization_annotation:
        where = f"{subject}, quantization_annotation '{annotation.tensor_name}'"
        if annotation.tensor_name not in names:
            told = suggested(annotation.tensor_name, names)
            findings.error(where, f"the name of a value is required, found {told}")
        for entry in annotation.quant_parameter_tensor_names:
            if entry.key not in QUANTIZATION_KEYS:
                told = suggested(entry.key, QUANTIZATION_KEYS)
                keys = ", ".join(QUANTIZATION_KEYS)
                findings.warn(where, f"the standard's keys are {keys}, found {told}")
            if entry.value not in names:
                told = suggested(entry.value, names)
                findings.error(where, f"{entry.key}: the name of a value is required, found {told}")


def suggested(name: str, known: Iterable[str]) -> str:
    """``name``, quoted, with what is closest to it among ``known``."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"{name!r}; did you mean {close[0]!r}?" if close else repr(name)


def check_denotations(value: Value, findings: Findings) -> None:
    """Note denotations that the standard does not have: it leaves room for others."""
    for text, known in denotations(ValueInfoProto.FromString(value.leftover).type):
        if text and text not in known:
            listed = ", ".join(known)
            told = suggested(text, known)
            subject = f"value '{value.name}'"
            findings.warn(subject, f"the standard's denotations are {listed}, found {told}")


def denotations(type_: TypeProto) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every denotation in ``type_``, and those that the standard has in its place."""
    yield type_.denotation, TYPE_DENOTATIONS
    for tensor in (type_.tensor_type, type_.sparse_tensor_type):
        for dim in tensor.shape.dim:
            yield dim.denotation, DIM_DENOTATIONS
    for kind in ("sequence_type", "optional_type", "map_type"):
        if type_.HasField(kind):
            inner = getattr(type_, kind)
            yield from denotations(inner.value_type if kind == "map_type" else inner.elem_type)


def check_training(
    subject: str, training: TrainingInfoProto, model: Model, findings: Findings
) -> None:
    """Note bindings of what is no initializer, or to what is no output."""
    stored = {*model.graph.initializers, *(x.name for x in training.algorithm.initializer)}
    for name, bindings, graph in (
        ("initialization_binding", training.initialization_binding, training.initialization),
        ("update_binding", training.update_binding, training.algorithm),
    ):
        outputs = {value.name for value in graph.output}
        for key in repeated(entry.key for entry in bindings):
            findings.error(subject, f"{name}: one entry for a key is required, found {key!r}")
        for entry in bindings:
            if entry.key not in stored:
                told = suggested(entry.key, stored)
                findings.error(subject, f"{name}: a key is an initializer, found {told}")
            if entry.value not in outputs:
                told = suggested(entry.value, outputs)
                findings.error(subject, f"{name}: a value is an output, found {told}")


def check_configurations(
    configurations: Iterable[DeviceConfigurationProto], findings: Findings
) -> None:
    """Note configurations of devices that lack a name, or contradict themselves."""
    for name in repeated(item.name for item in configurations):
        findings.error("model", f"one configuration of a name is required, found two of {name!r}")
    for number, item in enumerate(configurations):
        subject = f"configuration '{item.name}'" if item.name else f"configuration {number}"
        if not item.name:
            findings.error(subject, "a name is required, found none")
        if item.num_devices < 1:
            findings.error(
                subject, f"num_devices of 1 or more is required, found {item.num_devices}"
            )
        if item.device and len(item.device) != item.num_devices:
            findings.error(
                subject,
                f"{item.num_devices} names of devices are required, found {len(item.device)}",
            )


def check_use(
    node: Node,
    use: NodeDeviceConfigurationProto,
    configurations: dict[str, DeviceConfigurationProto],
    findings: Findings,
) -> None:
    """Note what ``node`` says of a configuration that does not fit it."""
    where = f"{place(node)}, device configuration '{use.configuration_id}'"
    configuration = configurations.get(use.configuration_id)
    if configuration is None:
        told = suggested(use.configuration_id, configurations)
        findings.error(where, f"the name of a configuration of the model is required, found {told}")
    values = {x.name: x for x in (*node.inputs, *node.outputs) if x is not None and x.name}
    for spec in use.sharding_spec:
        if spec.tensor_name not in values:
            told = suggested(spec.tensor_name, values)
            findings.error(where, f"an input or output of the node is required, found {told}")
        else:
            check_sharding(values[spec.tensor_name], spec, where, findings)
        groups = {entry.key for entry in spec.index_to_device_group_map}
        count = None if configuration is None else configuration.num_devices
        for device in spec.device:
            if count is not None and device not in groups and not 0 <= device < count:
                findings.error(
                    where,
                    f"a device from 0 to {count - 1} or a group of devices is required, "
                    f"found {device}",
                )


def check_sharding(value: Value, spec: ShardingSpecProto, where: str, findings: Findings) -> None:
    """Note axes that ``value`` does not have, and shards that cannot be."""
    shape = value.type.shape if isinstance(value.type, TensorType) else None
    for sharded in spec.sharded_dim:
        if shape is not None and not -len(shape) <= sharded.axis < len(shape):
            findings.error(
                where,
                f"'{value.name}': an axis in [{-len(shape)}, {len(shape) - 1}] is required, "
                f"found {sharded.axis}",
            )
        for simple in sharded.simple_sharding:
            if simple.num_shards < 1:
                findings.error(
                    where,
                    f"'{value.name}': num_shards of 1 or more is required, "
                    f"found {simple.num_shards}",
                )
