from __future__ import annotations

import onnx
import onnxruntime
import pytest

import fornix
from bench.models import EXPORTERS, MODELS, SIZES, Built, Exporter, Size, build
from bench.models.compare import difference, disagreements
from fornix.reference import ReferenceEvaluator

# Outputs for two inputs of one shape differ by at least this share of their magnitude, hundreds
# of times the tolerance: agreement with torch cannot come from outputs that ignore the input.
MATERIAL = 0.1

every_model = pytest.mark.parametrize(
    ("name", "exporter", "size"),
    [
        pytest.param(name, exporter, size, marks=[pytest.mark.slow] if size == "full" else [])
        for size in SIZES
        for name, spec in MODELS.items()
        for exporter in spec.exporters
        if size in spec.told
    ],
)


@every_model
def test_outputs_react_to_the_input(name: str, exporter: Exporter, size: Size) -> None:
    built = build(name, exporter, size)
    first, second = built.inputs[:2]
    assert {key: array.shape for key, array in first.items()} == {
        key: array.shape for key, array in second.items()
    }
    for output, truth in built.expected[0].items():
        other = built.expected[1][output]
        if other.shape != truth.shape:  # as many detections as there are
            continue
        gap = difference(other, truth)
        assert gap >= MATERIAL, output
        assert gap >= 300 * built.tolerance, output


@every_model
def test_inputs_have_two_feeds_of_one_shape_and_others(
    name: str, exporter: Exporter, size: Size
) -> None:
    built = build(name, exporter, size)
    shapes = {tuple(array.shape for array in feed.values()) for feed in built.inputs}
    assert len(shapes) == len(built.inputs) - 1


@every_model
def test_onnxruntime_agrees_with_torch(name: str, exporter: Exporter, size: Size) -> None:
    built = build(name, exporter, size)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # torch's dynamo exporter declares a fixed length for LSTMs
    session = onnxruntime.InferenceSession(str(built.path), options)
    for case, feed in enumerate(built.inputs):
        outputs = session.run(list(built.expected[case]), feed)
        assert disagreements(built, case, outputs) == {}


@every_model
def test_reference_evaluator_agrees_with_torch(name: str, exporter: Exporter, size: Size) -> None:
    built = build(name, exporter, size)
    evaluator = ReferenceEvaluator(str(built.path))
    for case, feed in enumerate(built.inputs):
        outputs = evaluator.run(list(built.expected[case]), feed)
        assert disagreements(built, case, outputs) == {}


@every_model
def test_session_agrees_with_torch(name: str, exporter: Exporter, size: Size) -> None:
    built = build(name, exporter, size)
    session = fornix.InferenceSession(str(built.path))
    for case, feed in enumerate(built.inputs):
        outputs = session.run(list(built.expected[case]), feed)
        assert disagreements(built, case, outputs) == {}


@pytest.mark.parametrize(
    ("name", "exporter"),
    [(name, exporter) for name, spec in MODELS.items() for exporter in spec.exporters],
)
def test_exported_models_pass_the_checker_of_onnx(name: str, exporter: Exporter) -> None:
    onnx.checker.check_model(str(build(name, exporter).path))


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    ("name", "dynamic"),
    [
        ("resnet50", {"image": [0]}),
        ("mobilenet_v2", {"image": [0]}),
        ("vit_b16", {"pixel_values": [0]}),
        ("bert_base", {"input_ids": [0, 1], "attention_mask": [0, 1], "token_type_ids": [0, 1]}),
        ("gpt2", {"input_ids": [0, 1], "attention_mask": [0, 1], "past_0_key": [0, 2]}),
        ("lstm_tagger", {"tokens": [0, 1]}),
        ("unet", {"image": [0, 2, 3]}),
        ("vgg16", {"image": [0]}),
        ("edsr", {"image": [0, 2, 3]}),
        ("efficientnet_b0", {"image": [0]}),
        ("distilbert", {"input_ids": [0, 1], "attention_mask": [0, 1]}),
        ("swin_t", {"pixel_values": [0]}),
        ("convnext_t", {"pixel_values": [0]}),
        ("llama", {"input_ids": [0, 1], "attention_mask": [0, 1], "past_1_value": [0, 2]}),
        ("whisper_encoder", {"input_features": [0]}),
        ("whisper_decoder", {"input_ids": [0, 1], "encoder_hidden_states": [0]}),
        ("t5_small", {"input_ids": [0, 1], "attention_mask": [0, 1], "decoder_input_ids": [0, 1]}),
        ("segformer_b0", {"pixel_values": [0]}),
        ("detector", {"image": [0]}),
        ("gru_tagger", {"tokens": [0, 1]}),
        ("wavenet", {"sound": [0, 2]}),
    ],
)
def test_exported_inputs_are_dynamic(
    name: str, exporter: Exporter, dynamic: dict[str, list[int]]
) -> None:
    inputs = onnx.load(build(name, exporter).path, load_external_data=False).graph.input
    found = {
        value.name: [
            axis for axis, dim in enumerate(value.type.tensor_type.shape.dim) if dim.dim_param
        ]
        for value in inputs
    }
    assert {key: found[key] for key in dynamic} == dynamic


def weights(built: Built) -> int:
    graph = onnx.load(built.path).graph
    return sum(len(onnx.numpy_helper.to_array(t).ravel()) for t in graph.initializer)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "millions"),
    # from the papers and model cards; folding saves batch normalisation and repeats position biases
    [
        ("resnet50", 25.5),
        ("mobilenet_v2", 3.5),
        ("vit_b16", 86.6),
        ("bert_base", 109.5),
        ("vgg16", 138.4),
        ("efficientnet_b0", 5.3),
        ("distilbert", 66.4),
        ("swin_t", 28.3),
        ("convnext_t", 28.6),
        ("segformer_b0", 3.75),
    ],
)
def test_full_models_have_the_published_size(name: str, millions: float) -> None:
    assert weights(build(name, "dynamo", "full")) / 1e6 == pytest.approx(millions, rel=0.02)
