"""What models say besides their graphs, and what only their messages show."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, checker, numpy_helper, parser

from fornix.check import check_model
from fornix.ir.load import from_message

TEXT = """<ir_version: 11, opset_import: ["": 23]>
    g (float[N, 4] x, float[4] b) => (float[N, 4] y) <float[4] w = {1, 2, 3, 4}> {
        [n1] a = Add(x, w) [n2] c = Mul(a, b) [n3] y = Softmax <axis = 0>(c) }"""

Change = Callable[[ModelProto], object]


def findings(change: Change, text: str = TEXT) -> list[str]:
    model = parser.parse_model(text)
    change(model)
    return [f"{x.severity}: {x}" for x in check_model(from_message(model))]


def sparse(model: ModelProto, indices: list[int]) -> None:
    stored = model.graph.sparse_initializer.add(dims=[10])
    stored.values.CopyFrom(numpy_helper.from_array(np.ones(len(indices), "f"), "sparse"))
    stored.indices.CopyFrom(numpy_helper.from_array(np.array(indices)))


def shard(model: ModelProto, **spec: object) -> None:
    model.configuration.add(name="c", num_devices=2)
    use = model.graph.node[0].device_configurations.add(configuration_id="c")
    use.sharding_spec.add(**spec)


def shards(axis: int, count: int) -> list[object]:
    simple = onnx.SimpleShardedDimProto(num_shards=count)
    return [onnx.ShardedDimProto(axis=axis, simple_sharding=[simple])]


def bind(model: ModelProto, key: str, value: str, times: int = 1) -> None:
    training = model.training_info.add()
    training.algorithm.output.add(name="new")
    for _ in range(times):
        training.update_binding.add(key=key, value=value)


def annotate(model: ModelProto, name: str, key: str, value: str) -> None:
    found = model.graph.quantization_annotation.add(tensor_name=name)
    found.quant_parameter_tensor_names.add(key=key, value=value)


USE = "error: node 'n1' (Add), device configuration"
KEYS = "the standard's keys are SCALE_TENSOR, ZERO_POINT_TENSOR, found 'SCALE_TENSO'"

WRONG: list[tuple[Change, str]] = [
    (
        lambda m: m.opset_import.add(domain="ai.onnx", version=22),
        "error: model: one opset import for a domain is required, found two of ai.onnx",
    ),
    (
        lambda m: [m.metadata_props.add(key="k", value=v) for v in "ab"],
        "error: model: metadata_props: one entry for a key is required, found 'k'",
    ),
    (lambda m: m.graph.ClearField("name"), "error: graph '': a name is required, found none"),
    (
        lambda m: setattr(m.graph.node[2].attribute[0], "f", 1.0),
        "error: node 'n3' (Softmax), attribute axis: it is int, found data in f",
    ),
    (
        lambda m: sparse(m, [5, 2]),
        "error: initializer 'sparse': indices have to ascend, each once, found [2] behind [5] at 1",
    ),
    (
        lambda m: sparse(m, [5, 5]),
        "error: initializer 'sparse': indices have to ascend, each once, found [5] behind [5] at 1",
    ),
    (
        lambda m: m.configuration.add(num_devices=2),
        "error: configuration 0: a name is required, found none",
    ),
    (
        lambda m: [m.configuration.add(name="c", num_devices=2) for _ in range(2)],
        "error: model: one configuration of a name is required, found two of 'c'",
    ),
    (
        lambda m: m.configuration.add(name="c", num_devices=0),
        "error: configuration 'c': num_devices of 1 or more is required, found 0",
    ),
    (
        lambda m: m.configuration.add(name="c", num_devices=3, device=["a", "b"]),
        "error: configuration 'c': 3 names of devices are required, found 2",
    ),
    (
        lambda m: m.graph.node[0].device_configurations.add(configuration_id="d"),
        f"{USE} 'd': the name of a configuration of the model is required, found 'd'",
    ),
    (
        lambda m: shard(m, tensor_name="ww"),
        f"{USE} 'c': an input or output of the node is required, found 'ww'; did you mean 'w'?",
    ),
    (
        lambda m: shard(m, tensor_name="x", sharded_dim=shards(2, 2)),
        f"{USE} 'c': 'x': an axis in [-2, 1] is required, found 2",
    ),
    (
        lambda m: shard(m, tensor_name="x", sharded_dim=shards(0, 0)),
        f"{USE} 'c': 'x': num_shards of 1 or more is required, found 0",
    ),
    (
        lambda m: shard(m, tensor_name="x", device=[0, 2]),
        f"{USE} 'c': a device from 0 to 1 or a group of devices is required, found 2",
    ),
    (
        lambda m: bind(m, "ww", "new"),
        (
            "error: training_info 0: update_binding: a key is an initializer, found 'ww'; "
            "did you mean 'w'?"
        ),
    ),
    (
        lambda m: bind(m, "w", "neu"),
        (
            "error: training_info 0: update_binding: a value is an output, found 'neu'; "
            "did you mean 'new'?"
        ),
    ),
    (
        lambda m: bind(m, "w", "new", 2),
        "error: training_info 0: update_binding: one entry for a key is required, found 'w'",
    ),
    (
        lambda m: annotate(m, "q", "SCALE_TENSOR", "w"),
        "error: graph 'g', quantization_annotation 'q': the name of a value is required, found 'q'",
    ),
    (
        lambda m: annotate(m, "x", "SCALE_TENSOR", "q"),
        (
            "error: graph 'g', quantization_annotation 'x': SCALE_TENSOR: the name of a value is "
            "required, found 'q'"
        ),
    ),
    (
        lambda m: annotate(m, "x", "SCALE_TENSO", "w"),
        f"warning: graph 'g', quantization_annotation 'x': {KEYS}; did you mean 'SCALE_TENSOR'?",
    ),
    (
        lambda m: setattr(m.graph.input[0].type, "denotation", "IMAG"),
        (
            "warning: value 'x': the standard's denotations are TENSOR, IMAGE, AUDIO, TEXT, found "
            "'IMAG'; did you mean 'IMAGE'?"
        ),
    ),
    (
        lambda m: setattr(m.graph.node[0], "op_type", "Scale"),
        (
            "warning: node 'n1' (Scale, opset 23): an experiment of early versions, which is no "
            "operator"
        ),
    ),
    (
        lambda m: m.graph.node[0].input.__setitem__(0, "X"),
        (
            "error: node 'n1' (Add): input 0 'X' has to be defined, found nothing of that name; "
            "did you mean 'x'?"
        ),
    ),
    (
        lambda m: m.opset_import.add(domain="ai.onnx", version=m.opset_import[0].version),
        "warning: model: one opset import for a domain is required, found two of ai.onnx",
    ),
]


@pytest.mark.parametrize(("change", "expected"), WRONG, ids=[text for _, text in WRONG])
def test_each_is_told_alone(change: Change, expected: str) -> None:
    assert findings(change) == [expected]


def test_a_model_that_says_much_and_all_of_it_right_has_no_findings() -> None:
    def say(model: ModelProto) -> None:
        shard(model, tensor_name="x", device=[0, 1, -1], sharded_dim=shards(-1, 2))
        spec = model.graph.node[0].device_configurations[0].sharding_spec[0]
        spec.index_to_device_group_map.add(key=-1, value=[0, 1])
        bind(model, "w", "new")
        annotate(model, "x", "ZERO_POINT_TENSOR", "w")
        sparse(model, [2, 5])
        model.graph.input[0].type.denotation = "IMAGE"
        model.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
        model.metadata_props.add(key="k", value="v")

    assert findings(say) == []


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_onnx_refuses_them_too(number: int) -> None:
    change, _ = WRONG[number]
    model = parser.parse_model(TEXT)
    checker.check_model(model)
    change(model)
    with pytest.raises(checker.ValidationError):
        checker.check_model(model)


NEWER: list[tuple[int, Change, str]] = [
    (4, lambda m: annotate(m, "x", "SCALE_TENSOR", "w"), "quantization_annotation"),
    (5, lambda m: sparse(m, [1]), "a sparse initializer"),
    (6, lambda m: bind(m, "w", "new"), "training_info"),
    (9, lambda m: m.graph.metadata_props.add(key="a"), "metadata of graphs"),
    (9, lambda m: m.graph.node[0].metadata_props.add(key="a"), "metadata of nodes"),
    (10, lambda m: m.configuration.add(name="c", num_devices=1), "configuration"),
    (
        8,
        lambda m: m.graph.initializer.add(
            name="q", data_type=TensorProto.FLOAT8E5M2, raw_data=b"\1", dims=[1]
        ),
        "the element type float8e5m2",
    ),
    (
        12,
        lambda m: m.graph.initializer.add(
            name="q", data_type=TensorProto.INT2, raw_data=b"\1", dims=[4]
        ),
        "the element type int2",
    ),
]


@pytest.mark.parametrize(("version", "change", "feature"), NEWER, ids=[x for *_, x in NEWER])
def test_features_of_newer_ir_versions_are_warnings(
    version: int, change: Change, feature: str
) -> None:
    def older(model: ModelProto) -> None:
        model.ir_version = version
        change(model)

    def newer(model: ModelProto) -> None:
        older(model)
        model.ir_version = version + 1

    told = f"warning: model: {feature} came with IR version {version + 1}, declared is {version}"
    assert findings(older) == [told]
    assert findings(newer) == []


def test_functions_of_newer_ir_versions_are_warnings() -> None:
    text = """<ir_version: 7, opset_import: ["": 21, "d": 1]>
        g (float[N] x) => (float[N] y) { y = d.f:o(x) }
        <domain: "d", overload: "o", opset_import: ["": 21]>
        f <alpha: float = 0.5> (a) => (b) { b = Elu <alpha: float = @alpha>(a) }"""
    assert findings(lambda _: None, text) == [
        "warning: model: a model function came with IR version 8, declared is 7",
        "warning: model: a default of a function's attribute came with IR version 9, declared is 7",
        "warning: model: an overload of a function came with IR version 10, declared is 7",
    ]


def test_outputs_of_subgraphs_are_computed_inside() -> None:
    text = """<ir_version: 7, opset_import: ["": 17]>
        g (float[N] x, bool cond) => (float[N] y) {
            sum = Add (x, x)
            [if] y = If (cond) < then_branch = t () => (sum) {}, else_branch = e () => (z) { z = Neg(x) }> }"""  # noqa: E501
    assert findings(lambda _: None, text) == [
        (
            "error: node 'if' (If), then_branch: output 'sum' has to be computed inside, found it "
            "in node for 'sum' (Add); put an Identity between"
        )
    ]
    with pytest.raises(checker.ValidationError):
        checker.check_model(parser.parse_model(text))
