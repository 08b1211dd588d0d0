"""Networks of quantised layers: bytes between them, in blocks of channels, one kernel per layer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper
from onnx.parser import parse_model as parse

from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession, SessionOptions


class Network:
    """Quantised layers, one behind the other, with what they are made of."""

    def __init__(self, seed: int, activations: Any, *, is_symmetric: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = activations
        zero = 0 if is_symmetric else 3 if activations is np.int8 else 119
        self.stored: dict[str, Any] = {"s": np.float32(0.05), "z": np.asarray(zero, activations)}
        self.nodes: list[Any] = []

    def add(self, op_type: str, inputs: str, output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs.split(), [output], **attributes))
        return output

    def weights(self, name: str, *shape: int) -> None:
        """Filters, with scales and zero points of their own, and a bias."""
        rng, filters = self.rng, shape[0]
        self.stored |= {
            f"w{name}": rng.integers(-127, 128, shape).astype(np.int8),
            f"ws{name}": rng.uniform(0.5, 1.5, filters).astype(np.float32) / 1000,
            f"wz{name}": np.zeros(filters, np.int8),
            f"b{name}": rng.integers(-3000, 3000, filters).astype(np.int32),
        }
        self.stored[f"bs{name}"] = self.stored[f"ws{name}"] * self.stored["s"]

    def integer_layer(self, name: str, x: str, stride: int, *shape: int) -> str:
        self.weights(name, *shape)
        window = {"pads": [shape[-1] // 2] * 4, "strides": [stride] * 2}
        return self.add("QLinearConv", f"{x} s z w{name} ws{name} wz{name} s z b{name}", f"y{name}",
                        **window)  # fmt: skip

    def dequantized_layer(self, name: str, x: str, *shape: int) -> str:
        self.weights(name, *shape)
        self.add("DequantizeLinear", f"{x} s z", f"d{name}")
        self.add("DequantizeLinear", f"w{name} ws{name} wz{name}", f"e{name}", axis=0)
        self.add("DequantizeLinear", f"b{name} bs{name}", f"f{name}", axis=0)
        self.add("Conv", f"d{name} e{name} f{name}", f"c{name}", pads=[shape[-1] // 2] * 4)
        return self.add("QuantizeLinear", f"c{name} s z", f"y{name}")

    def model(self, shape: tuple[int, ...], last: str) -> ModelProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info(last, kind, None)],
            [numpy_helper.from_array(np.asarray(a), name) for name, a in self.stored.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)

    def image(self, *shape: int) -> Any:
        bounds = np.iinfo(self.dtype)
        return self.rng.integers(bounds.min, bounds.max + 1, shape).astype(self.dtype)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("activations", [np.uint8, np.int8])
@pytest.mark.parametrize("is_symmetric", [False, True])
@pytest.mark.parametrize("channels", [16, 3])
def test_integer_layers_are_exact(
    activations: Any, is_symmetric: bool, channels: int, threads: int
) -> None:
    net = Network(0, activations, is_symmetric=is_symmetric)
    a = net.integer_layer("a", "x", 1, 32, channels, 3, 3)
    b = net.integer_layer("b", a, 1, 16, 32, 1, 1)
    net.add("MaxPool", b, "pooled", kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
    c = net.integer_layer("c", "pooled", 2, 48, 16, 3, 3)
    m = net.model((2, channels, 11, 9), net.integer_layer("d", c, 1, 32, 48, 1, 1))
    x = net.image(2, channels, 11, 9)
    session = InferenceSession(m, SessionOptions(intra_op_num_threads=threads))
    (found,) = session.run(None, {"x": x})
    np.testing.assert_array_equal(found, ReferenceEvaluator(m).run(None, {"x": x})[0])
    assert all(place.kernels for place in session.placement())


@pytest.mark.parametrize("activations", [np.uint8, np.int8])
@pytest.mark.parametrize("is_symmetric", [False, True])
def test_dequantized_layers_differ_by_rounding(activations: Any, is_symmetric: bool) -> None:
    """A convolution of floats is no exact sum: what lies half way may become either neighbour."""
    net = Network(1, activations, is_symmetric=is_symmetric)
    a = net.dequantized_layer("a", "x", 32, 16, 3, 3)
    net.add("DequantizeLinear", f"{a} s z", "numbers")
    net.add("MaxPool", "numbers", "largest", kernel_shape=[2, 2], strides=[2, 2])
    net.add("QuantizeLinear", "largest s z", "pooled")
    for k, name in enumerate((net.dequantized_layer("b", "pooled", 48, 32, 3, 3),
                              net.dequantized_layer("c", "pooled", 48, 32, 1, 1))):  # fmt: skip
        net.add("DequantizeLinear", f"{name} s z", f"part{k}")
    net.add("Add", "part0 part1", "added")
    net.add("QuantizeLinear", "added s z", "sum")
    net.add("DequantizeLinear", "sum s z", "whole")
    net.add("GlobalAveragePool", "whole", "average")
    m = net.model((2, 16, 11, 9), net.add("QuantizeLinear", "average s z", "y"))
    outputs, feeds = ["ya", "pooled", "yb", "yc", "sum", "y"], {"x": net.image(2, 16, 11, 9)}
    wanted = ReferenceEvaluator(m).run(outputs, feeds)
    session = InferenceSession(m)
    pairs = [*zip(session.run(outputs, feeds), wanted, strict=True)]
    pairs.append((session.run(["y"], feeds)[0], wanted[-1]))
    for one, other in pairs:
        difference = np.abs(one.astype(int) - other.astype(int))
        assert one.dtype == other.dtype
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.03


BETWEEN: dict[str, Callable[[Any, Any], Any]] = {
    "Identity (a)": lambda a, _: a,
    "Relu (a)": lambda a, _: np.maximum(a, 0),
    "Add (a, b)": np.add,
    "Mul (a, b)": np.multiply,
}


@pytest.mark.parametrize("scales", [(0.1, 0.1, 0.2), (0.02, 0.04, 0.08)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_what_elementwise_nodes_make_of_bytes_is_quantized_exactly(
    dtype: Any, scales: tuple[float, ...]
) -> None:
    """Quotients of these scales put bytes half way between two, which one more rounding moves."""
    rng, kind = np.random.default_rng(3), np.dtype(dtype).name
    r, s, t = (np.float32(v) for v in scales)
    lines = [f"t{k} = {text} q{k} = QuantizeLinear (t{k}, w, z)" for k, text in enumerate(BETWEEN)]
    declared = ", ".join(f"{kind}[64, 33] q{k}" for k in range(len(BETWEEN)))
    model = f"""<ir_version: 9, opset_import: ["": 19]>
    g ({kind}[64, 33] x, {kind}[64, 33] y) => ({declared})
    <float r = {{{r}}}, float s = {{{s}}}, float w = {{{t}}}, {kind} z = {{3}}> {{
        a = DequantizeLinear (x, r, z)
        b = DequantizeLinear (y, s, z)
        {"".join(lines)}
    }}"""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    x, y = (rng.integers(low, high + 1, (64, 33)).astype(dtype) for _ in range(2))
    a, b = ((v.astype(np.float32) - 3) * scale for v, scale in ((x, r), (y, s)))
    results = InferenceSession(parse(model)).run(None, {"x": x, "y": y})
    for found, compute in zip(results, BETWEEN.values(), strict=True):
        wanted = np.clip(np.rint(compute(a, b) / t) + 3, low, high)
        np.testing.assert_array_equal(found, wanted.astype(dtype))


def test_bytes_that_were_just_rounded_are_scaled_and_added_in_two_steps() -> None:
    rng = np.random.default_rng(4)
    model = """<ir_version: 9, opset_import: ["": 19]>
    g (float[4096] x, uint8[4096] y) => (uint8[4096] q)
    <float r = {0.1}, float s = {0.2}, uint8 z = {3}> {
        i = QuantizeLinear (x, r, z)
        a = DequantizeLinear (i, r, z)
        b = DequantizeLinear (y, r, z)
        t = Add (a, b)
        q = QuantizeLinear (t, s, z)
    }"""
    x, y = rng.uniform(0, 25, 4096).astype(np.float32), rng.integers(0, 256, 4096).astype(np.uint8)
    r, s = np.float32(0.1), np.float32(0.2)
    steps = np.clip(np.rint(x / r) + 3, 0, 255).astype(np.float32) - 3
    total = steps * r + (y.astype(np.float32) - 3) * r
    wanted = np.clip(np.rint(total / s) + 3, 0, 255).astype(np.uint8)
    (found,) = InferenceSession(parse(model)).run(None, {"x": x, "y": y})
    np.testing.assert_array_equal(found, wanted)


def test_the_range_of_a_transposed_tensor_is_found_once() -> None:
    """It was found for each element anew: a layer of a network took seconds."""
    x = np.random.default_rng(2).standard_normal((1, 12, 128, 64)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["t", "shape"], ["r"]),
        helper.make_node("DynamicQuantizeLinear", ["r"], ["y", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["y", "scale", "zero"], ["z"]),
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in ("y", "scale", "zero", "z")]
    for output, kind in zip(outputs, (2, 1, 2, 1), strict=True):
        output.type.tensor_type.elem_type = kind
    inputs = [helper.make_tensor_value_info("x", 1, ["a", 12, "b", 64])]
    shape = numpy_helper.from_array(np.array([0, 0, 768]), "shape")
    graph = helper.make_graph(nodes, "dynamic", inputs, outputs, [shape])
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = InferenceSession(m)
    for one, other in zip(
        session.run(None, {"x": x}), ReferenceEvaluator(m).run(None, {"x": x}), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    start = time.perf_counter()
    session.run(None, {"x": x})
    assert time.perf_counter() - start < 1, "some 100 µs"
