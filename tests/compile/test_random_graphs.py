"""Random graphs: compiled and optimized, they compute what the kernels compute node by node."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession, SessionOptions
from tests.compare import assert_same

Shape = tuple[int | str, ...]
UNARY = ("Neg", "Abs", "Tanh", "Sigmoid", "Relu", "Softplus", "Identity", "Erf")
BINARY = ("Add", "Sub", "Mul", "Max", "Min")


class Graph:
    """A graph that grows at random; every value is float32[N, A, B] with A, B known."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, int]] = {"x": (3, 4), "z": (4, 6)}

    def any(self, shape: tuple[int, int] | None = None) -> str:
        names = [name for name, found in self.shapes.items() if shape in {None, found}]
        return names[int(self.rng.integers(max(0, len(names) - 8), len(names)))]

    def add(self, op: str, inputs: list[str], shape: tuple[int, int], **attributes: object) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.shapes[name] = shape

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(onnx.numpy_helper.from_array(array, name))
        return name

    def unary(self) -> None:
        x = self.any()
        self.add(str(self.rng.choice(UNARY)), [x], self.shapes[x])

    def binary(self) -> None:
        x = self.any()
        self.add(str(self.rng.choice(BINARY)), [x, self.any(self.shapes[x])], self.shapes[x])

    def broadcast(self) -> None:
        x = self.any()
        a, b = self.shapes[x]
        shape = [(b,), (a, 1), (1, a, b), ()][int(self.rng.integers(4))]
        c = self.constant(self.rng.normal(size=shape).astype(np.float32))
        self.add(str(self.rng.choice(BINARY)), [x, c], (a, b))

    def transpose(self) -> None:
        x = self.any()
        self.add("Transpose", [x], self.shapes[x][::-1], perm=[0, 2, 1])

    def reshape(self) -> None:
        x = self.any()
        a, b = self.shapes[x]
        shape = (b, a) if self.rng.integers(2) else (1, a * b)
        self.add("Reshape", [x, self.constant(np.array([0, *shape]))], shape)

    def concat(self) -> None:
        x = self.any()
        a, b = self.shapes[x]
        if a * b <= 60:
            self.add("Concat", [x, self.any((a, b))], (2 * a, b), axis=1)

    def cut(self) -> None:
        x = self.any()
        a, b = self.shapes[x]
        if a > 1:
            bounds = [self.constant(np.array([n])) for n in (1, a, 1)]
            self.add("Slice", [x, *bounds], (a - 1, b))

    def product(self) -> None:
        x = self.any()
        a, b = self.shapes[x]
        c = int(self.rng.integers(1, 6))
        w = self.constant(self.rng.normal(size=(b, c)).astype(np.float32) / 2)
        self.add("MatMul", [x, w], (a, c))

    def row(self) -> None:
        x = self.any()
        self.add("Softmax", [x], self.shapes[x], axis=int(self.rng.integers(1, 3)))

    def mean(self) -> None:
        x = self.any()
        a, _ = self.shapes[x]
        self.add("ReduceMean", [x, self.constant(np.array([2]))], (a, 1))

    def model(self, nodes: int) -> onnx.ModelProto:
        steps: list[Callable[[], None]] = [
            self.unary, self.unary, self.binary, self.binary, self.broadcast, self.transpose,
            self.reshape, self.concat, self.cut, self.product, self.row, self.mean,
        ]  # fmt: skip
        while len(self.nodes) < nodes:
            steps[int(self.rng.integers(len(steps)))]()
        kept = [node.output[0] for node in self.nodes[-4:]]

        def declared(name: str) -> onnx.ValueInfoProto:
            shape = ["N", *self.shapes[name]]
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        graph = helper.make_graph(
            self.nodes,
            "random",
            [declared("x"), declared("z")],
            [declared(name) for name in kept],
            self.initializers,
        )
        imports = [helper.make_opsetid("", 18)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)


def check(seed: int, nodes: int) -> None:
    graph = Graph(seed)
    model = graph.model(nodes)
    evaluator = ReferenceEvaluator(model)
    for level in ("none", "all"):
        options = SessionOptions(graph_optimization_level=level)
        session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
        assert all(place.kernels for place in session.placement())
        for extent in (1, 2, 5):
            feeds = {
                name: graph.rng.normal(size=(extent, *graph.shapes[name])).astype(np.float32)
                for name in ("x", "z")
            }
            found, wanted = session.run(None, feeds), evaluator.run(None, feeds)
            for one, other in zip(found, wanted, strict=True):
                size = float(np.abs(other).max(initial=1))
                assert_same(one, other, rtol=1e-4, atol=1e-4 * size)


@pytest.mark.parametrize("seed", range(4))
def test_a_small_graph_computes_what_its_nodes_compute(seed: int) -> None:
    check(seed, 8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 40))
def test_a_graph_computes_what_its_nodes_compute(seed: int) -> None:
    check(seed, 30)
