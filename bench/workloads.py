"""What is measured: which model on which feeds, and the ratio that each row must and should reach.

The feeds are cases of the models, whose truth torch has told, where one has the extents wanted, and
otherwise made here from the shapes of a case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.models import MODELS, build
from bench.models.cache import cached
from bench.models.classical import build_classical
from bench.models.control import build_control
from bench.models.four_bits import VERSION, in_four_bits
from bench.models.quantized import Spelling, quantized
from bench.models.spec import Arrays, Built, Exporter, Size
from fornix.cli.contest import Task

ROOT = str(Path(__file__).resolve().parents[1])

# The case of most models that has batch 1, and of BERT's 1 × 128 tokens.
ONE = 2
# Steps of a chain before it begins anew: enough that every one has another shape.
STEPS = 16


@dataclass(frozen=True)
class Measured:
    """A task, with the outputs expected of it if torch has told them."""

    task: Task
    expected: Arrays | None = None


@dataclass(frozen=True)
class Workload:
    """One line of the table; ``ready`` builds its model, if need be, and its feeds.

    ``moved`` says that a run reads all weights and little else, so that bytes per second count.
    """

    name: str
    at_least: float
    aim: float
    ready: Callable[[Exporter, Size], Measured]
    moved: bool = False


def torch_source(model: str, size: Size) -> Mapping[str, Any] | None:
    """How a worker gets the torch module; None where it does less than the model."""
    if model == "detector":
        return None
    return {"call": "bench.models.export:module", "arguments": [model, size]}


def case(model: str, index: int = ONE) -> Callable[[Exporter, Size], Measured]:
    """A case of ``model``."""

    def ready(exporter: Exporter, size: Size) -> Measured:
        built = built_as(model, exporter, size)
        index_ = min(index, len(built.inputs) - 1)
        expected = built.expected[index_]
        feeds = built.inputs[index_]
        outputs = list(expected)
        source = torch_source(model, size)
        return Measured(Task(str(built.path), feeds, outputs, torch=source), expected)

    return ready


def built_as(model: str, exporter: Exporter, size: Size) -> Built:
    """``model`` by ``exporter``, or by the one that can."""
    exporters = MODELS[model].exporters
    return build(model, exporter if exporter in exporters else exporters[0], size)


def of_bytes(model: str, spelling: Spelling, *kinds: str) -> Callable[[Exporter, Size], Measured]:
    """``model`` quantised, on its case; the truth is not told, as rounding decides."""

    def ready(exporter: Exporter, size: Size) -> Measured:
        built = built_as(model, exporter, size)
        path = quantized(built.path, built.inputs, spelling, kinds)
        index = min(ONE, len(built.inputs) - 1)
        return Measured(Task(str(path), built.inputs[index], list(built.expected[index])))

    return ready


def like_case(
    model: str, change: Callable[[Arrays, np.random.Generator], Arrays]
) -> Callable[[Exporter, Size], Measured]:
    """``model`` on feeds that ``change`` makes from those of a case."""

    def ready(exporter: Exporter, size: Size) -> Measured:
        built = built_as(model, exporter, size)
        feeds = change(built.inputs[ONE], np.random.default_rng(0))
        outputs = list(built.expected[ONE])
        return Measured(Task(str(built.path), feeds, outputs, torch=torch_source(model, size)))

    return ready


def rows_of(model: str, count: int) -> Callable[[Exporter, Size], Measured]:
    """A model of scikit-learn's on ``count`` rows; other engines than onnxruntime lack it."""

    def ready(_exporter: Exporter, _size: Size) -> Measured:
        built = build_classical(model)
        feeds = {name: np.resize(x, (count, *x.shape[1:])) for name, x in built.inputs[0].items()}
        return Measured(Task(str(built.path), feeds, list(built.expected[0])))

    return ready


def steps_of(model: str) -> Callable[[Exporter, Size], Measured]:
    """A model of control flow with a tiny body; other engines than onnxruntime are not asked."""

    def ready(_exporter: Exporter, _size: Size) -> Measured:
        built = build_control(model)
        outputs = list(built.expected[0])
        return Measured(Task(str(built.path), built.inputs[0], outputs), built.expected[0])

    return ready


def decoding(model: str, new: int, past: int) -> Callable[[Exporter, Size], Measured]:
    """A decoder with its cache: a prompt, or steps whose cache grows."""

    def ready(exporter: Exporter, size: Size) -> Measured:
        built = built_as(model, exporter, size)
        outputs = list(built.expected[ONE])
        vocabulary = built.expected[ONE][outputs[0]].shape[-1]
        tokens, held = (new, past) if size == "full" else (min(new, 16), min(past, 16))
        stream = np.random.default_rng(0)
        feeds: Arrays = {
            "input_ids": stream.integers(vocabulary, size=(1, tokens)),
            "attention_mask": np.ones((1, held + tokens), np.int64),
        }
        for name, array in built.inputs[ONE].items():
            if name not in feeds:
                shape = (1, array.shape[1], held, array.shape[3])
                feeds[name] = stream.standard_normal(shape, np.float32)
        back = {name: name.replace("present", "past") for name in outputs[1:]}
        chain = {"back": back, "grow": ["attention_mask"], "steps": STEPS} if past else None
        source = torch_source(model, size)
        return Measured(Task(str(built.path), feeds, outputs, chain=chain, torch=source))

    return ready


def in_blocks(
    ready: Callable[[Exporter, Size], Measured], accuracy_level: int
) -> Callable[[Exporter, Size], Measured]:
    """What ``ready`` gives, with weights of 4 bits; other engines than onnxruntime lack those."""

    def made(exporter: Exporter, size: Size) -> Measured:
        task = ready(exporter, size).task
        source = Path(task.model)

        def write(draft: Path) -> None:
            in_four_bits(source, draft / "model.onnx", accuracy_level)

        key = f"{source.parent.name}-int4-{accuracy_level}-v{VERSION}"
        return Measured(replace(task, model=str(cached(key, write) / "model.onnx"), torch=None))

    return made


def tagging(batch: int, length: int) -> Callable[[Arrays, np.random.Generator], Arrays]:
    """Random tokens for a tagger."""

    def change(feeds: Arrays, stream: np.random.Generator) -> Arrays:
        top = max(int(x.max()) for x in feeds.values()) + 1
        return {name: stream.integers(top, size=(batch, length)) for name in feeds}

    return change


def squares(extent: int) -> Callable[[Arrays, np.random.Generator], Arrays]:
    """One random picture of some height and width."""

    def change(feeds: Arrays, stream: np.random.Generator) -> Arrays:
        ((name, array),) = feeds.items()
        shape = (1, array.shape[1], extent, extent)
        return {name: stream.standard_normal(shape, np.float32)}

    return change


def tiny(_exporter: Exporter, _size: Size) -> Measured:
    """A linear layer and a softmax: what a call costs."""

    def write(draft: Path) -> None:
        import onnx
        from onnx import TensorProto, helper

        stream = np.random.default_rng(0)
        weights = {"w": (64, 10), "b": (10,)}
        graph = helper.make_graph(
            [
                helper.make_node("Gemm", ["x", "w", "b"], ["scores"]),
                helper.make_node("Softmax", ["scores"], ["y"], axis=1),
            ],
            "tiny",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
            [
                onnx.numpy_helper.from_array(stream.standard_normal(shape, np.float32), name)
                for name, shape in weights.items()
            ],
        )
        opset = [helper.make_opsetid("", 21)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), draft / "tiny.onnx")

    path = cached("tiny-v1", write) / "tiny.onnx"
    x = np.random.default_rng(1).standard_normal((1, 64), np.float32)
    source = {"call": "bench.workloads:tiny_module", "arguments": [str(path)]}
    return Measured(Task(str(path), {"x": x}, ["y"], torch=source))


def tiny_module(path: str) -> object:
    """The same in PyTorch."""
    import onnx
    import torch

    arrays = map(onnx.numpy_helper.to_array, onnx.load(path).graph.initializer)
    w, b = (torch.from_numpy(array.copy()) for array in arrays)
    layer = torch.nn.Linear(64, 10)
    with torch.no_grad():
        layer.weight.copy_(w.T)
        layer.bias.copy_(b)
    return torch.nn.Sequential(layer, torch.nn.Softmax(1))


WORKLOADS: tuple[Workload, ...] = (
    Workload("ResNet-50", 1.12, 1.25, case("resnet50")),
    Workload("VGG-16", 1.4, 2.0, case("vgg16")),
    Workload("U-Net 256×256", 1.4, 2.0, like_case("unet", squares(256))),
    Workload("EDSR 96×96 to 192×192", 1.4, 2.0, like_case("edsr", squares(96))),
    Workload("MobileNetV2", 1.15, 1.35, case("mobilenet_v2")),
    Workload("EfficientNet-B0", 1.15, 1.35, case("efficientnet_b0")),
    Workload("ViT-B/16", 1.05, 1.1, case("vit_b16")),
    Workload("BERT-base 1×128", 1.05, 1.1, case("bert_base")),
    Workload("DistilBERT 1×128", 1.05, 1.1, case("distilbert")),
    Workload("Swin-T", 1.05, 1.1, case("swin_t")),
    Workload("ConvNeXt-T", 1.05, 1.1, case("convnext_t")),
    Workload("GPT-2 prompt 1×128", 1.05, 1.1, decoding("gpt2", 128, 0)),
    Workload("GPT-2 step, past 128…", 0.97, 1.0, decoding("gpt2", 1, 128), moved=True),
    Workload("LLaMA-like prompt 1×128", 1.05, 1.1, decoding("llama", 128, 0)),
    Workload("LLaMA-like step, past 128…", 0.97, 1.0, decoding("llama", 1, 128), moved=True),
    Workload("LLaMA-like step, int4", 1.0, 1.2, in_blocks(decoding("llama", 1, 128), 0)),
    Workload("LLaMA-like step, int4 × int8", 1.0, 1.2, in_blocks(decoding("llama", 1, 128), 4)),
    Workload("linear + softmax", 4.0, 8.0, tiny),
    Workload("Whisper-tiny encoder", 1.05, 1.15, case("whisper_encoder")),
    Workload("Whisper-tiny decoder, 12 tokens", 1.05, 1.15, case("whisper_decoder", 3)),
    Workload("T5-small 64 to 16 tokens", 1.05, 1.15, case("t5_small")),
    Workload("SegFormer-B0 512×512", 1.05, 1.15, case("segformer_b0")),
    Workload("YOLO-like 640×640 with NMS", 1.05, 1.15, case("detector")),
    Workload("RT-DETR-R18 640×640", 1.05, 1.15, like_case("rtdetr_r18", squares(640))),
    Workload("LSTM tagger 1×100", 1.1, 1.5, like_case("lstm_tagger", tagging(1, 100))),
    Workload("GRU tagger 1×100", 1.1, 1.5, like_case("gru_tagger", tagging(1, 100))),
    Workload("CRNN 32×100", 1.1, 1.5, case("crnn")),
    Workload("WaveNet-like, 5,000 samples", 1.1, 1.5, case("wavenet")),
    Workload("100 trees, 1 row", 2.0, 4.0, rows_of("hundred_trees", 1)),
    Workload("100 trees, 1,000 rows", 2.0, 4.0, rows_of("hundred_trees", 1000)),
    Workload("500 boosted trees, 1 row", 2.0, 4.0, rows_of("five_hundred_trees", 1)),
    Workload("500 boosted trees, 1,000 rows", 2.0, 4.0, rows_of("five_hundred_trees", 1000)),
    Workload("logistic regression, 1 row", 2.0, 5.0, rows_of("scaled_logistic_regression", 1)),
    Workload("support vectors, 1 row", 2.0, 5.0, rows_of("support_vectors", 1)),
    Workload("support vectors, 1,000 rows", 2.0, 5.0, rows_of("support_vectors", 1000)),
    Workload("k-means, 1,000 rows", 2.0, 5.0, rows_of("nearest_means", 1000)),
    Workload("words and numbers, 1,000 rows", 2.0, 5.0, rows_of("mixed_columns", 1000)),
    Workload("regression to maps, 1,000 rows", 2.0, 5.0, rows_of("logistic_regression_maps", 1000)),
    Workload("Loop of tiny steps", 2.0, 5.0, steps_of("loop")),
    Workload("Scan over 100 tiny rows", 2.0, 5.0, steps_of("scan")),
    Workload("If of tiny branches", 2.0, 5.0, steps_of("if")),
    Workload("ResNet-50 int8, QDQ", 1.05, 1.2, of_bytes("resnet50", "qdq")),
    Workload("ResNet-50 int8, QOperator", 1.05, 1.2, of_bytes("resnet50", "operators")),
    Workload("MobileNetV2 int8, QDQ", 1.05, 1.2, of_bytes("mobilenet_v2", "qdq")),
    Workload("BERT-base int8, QDQ", 1.05, 1.2, of_bytes("bert_base", "qdq", "MatMul", "Gemm")),
    Workload("BERT-base int8, dynamic", 1.05, 1.2, of_bytes("bert_base", "dynamic")),
)
