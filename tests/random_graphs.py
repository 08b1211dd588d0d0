"""Random valid models with what exporters write: chains, residuals, normalizations, reshapes.

`random_model(seed)` gives a model and feeds for it. Every value is float32 and stays of moderate
size, so results of two evaluations can be compared by a relative tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fornix.dtype import FLOAT32
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.tensor import ArrayTensor
from fornix.ir.types import TensorType

OPSET = 20
EXTENTS = (1, 2, 3, 4)
MAX_ELEMENTS = 4096


@dataclass
class Builder:
    """A graph under construction, with the shape of every value so far."""

    random: np.random.Generator
    graph: Graph = field(default_factory=lambda: Graph("random"))
    shapes: dict[Value, tuple[int, ...]] = field(default_factory=dict)

    def input(self, shape: tuple[int, ...]) -> Value:
        value = Value(f"x{len(self.graph.inputs)}", TensorType(FLOAT32, shape))
        self.graph.inputs = (*self.graph.inputs, value)
        self.shapes[value] = shape
        return value

    def stored(self, array: Any) -> Value:
        name = f"c{len(self.graph.initializer_values)}"
        return self.graph.add_initializer(ArrayTensor(array), name)

    def floats(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Value:
        return self.stored(self.random.uniform(low, high, shape).astype(np.float32))

    def node(
        self, op_type: str, *inputs: Value, shape: tuple[int, ...], **attributes: Any
    ) -> Value:
        made = Node("", op_type, inputs, [f"v{len(self.shapes)}"], attributes)
        self.graph.append(made)
        self.shapes[made.output] = shape
        return made.output

    def any(self, least_rank: int = 0) -> Value:
        """A value made before, the later ones more often."""
        pool = [value for value, shape in self.shapes.items() if len(shape) >= least_rank]
        return (
            pool[-1 - int(self.random.exponential(2)) % len(pool)] if pool else self.input((2, 3))
        )


def unary(b: Builder) -> Value:
    x = b.any()
    name = b.random.choice(["Relu", "Neg", "Tanh", "Sigmoid", "Abs", "Erf", "Identity", "Softsign"])
    return b.node(str(name), x, shape=b.shapes[x])


def binary(b: Builder) -> Value:
    x = b.any()
    shape = b.shapes[x]
    partners = [y for y, other in b.shapes.items() if other == shape]
    other = partners[int(b.random.integers(len(partners)))]
    if b.random.random() < 0.5:
        kept = [extent if b.random.random() < 0.6 else 1 for extent in shape]
        other = b.floats(*kept)
    name = str(b.random.choice(["Add", "Sub", "Mul", "Max", "Min"]))
    return b.node("Tanh", b.node(name, x, other, shape=shape), shape=shape)


def neutral(b: Builder) -> Value:
    x = b.any()
    shape = b.shapes[x]
    if b.random.random() < 0.5:
        return b.node("Mul", x, b.stored(np.ones((), np.float32)), shape=shape)
    return b.node("Reshape", x, b.stored(np.array(shape, np.int64)), shape=shape)


def transpose(b: Builder) -> Value:
    x = b.any(2)
    perm = [int(axis) for axis in b.random.permutation(len(b.shapes[x]))]
    return b.node("Transpose", x, shape=tuple(b.shapes[x][a] for a in perm), perm=perm)


def reshape(b: Builder) -> Value:
    x = b.any()
    size = math.prod(b.shapes[x])
    parts = [d for d in (1, 2, 3, 4, 6, 8) if size % d == 0]
    first = int(b.random.choice(parts))
    target = b.stored(np.array([first, -1], np.int64))
    return b.node("Reshape", x, target, shape=(first, size // first))


def computed_reshape(b: Builder) -> Value:
    """Reshape by a shape computed from another value's, as exporters write it."""
    x = b.any(2)
    shape = b.shapes[x]
    count = len(b.shapes)
    sizes = Node("", "Shape", [x], [f"s{count}"])
    head = Node("", "Gather", [sizes.output, b.stored(np.array([0]))], [f"g{count}"])
    rest = b.stored(np.array([-1], np.int64))
    target = Node("", "Concat", [head.output, rest], [f"t{count}"], {"axis": 0})
    b.graph.append(sizes, head, target)
    return b.node("Reshape", x, target.output, shape=(shape[0], math.prod(shape[1:])))


def reduction(b: Builder) -> Value:
    x = b.any(1)
    shape = b.shapes[x]
    axis = int(b.random.integers(len(shape)))
    name = str(b.random.choice(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum"]))
    kept = tuple(1 if a == axis else n for a, n in enumerate(shape))
    reduced = b.node(name, x, b.stored(np.array([axis])), shape=kept, keepdims=1)
    return b.node("Tanh", reduced, shape=kept)


def softmax(b: Builder) -> Value:
    x = b.any(1)
    axis = int(b.random.integers(len(b.shapes[x])))
    return b.node("Softmax", x, shape=b.shapes[x], axis=axis)


def concat(b: Builder) -> Value:
    x = b.any(1)
    shape = b.shapes[x]
    axis = int(b.random.integers(len(shape)))
    grown = tuple(2 * n if a == axis else n for a, n in enumerate(shape))
    return b.node("Concat", x, x, shape=grown, axis=axis)


def cut(b: Builder) -> Value:
    x = b.any(1)
    shape = b.shapes[x]
    axis = int(b.random.integers(len(shape)))
    first = int(b.random.integers(shape[axis]))
    bounds = [b.stored(np.array([n])) for n in (first, shape[axis], axis)]
    left = tuple(n - first if a == axis else n for a, n in enumerate(shape))
    return b.node("Slice", x, *bounds, shape=left)


def product(b: Builder) -> Value:
    x = b.any(2)
    *batch, _, k = b.shapes[x]
    n = int(b.random.choice(EXTENTS))
    shape = (*batch, b.shapes[x][-2], n)
    summed = b.node("MatMul", x, b.floats(k, n), shape=shape)
    biased = b.node("Add", summed, b.floats(n), shape=shape)
    return b.node("Tanh", biased, shape=shape)


def convolution(b: Builder) -> Value:
    n, c, h, w, m = (int(e) for e in b.random.choice(EXTENTS, 5))
    x = b.input((n, c, h + 2, w + 2))
    y = b.node("Conv", x, b.floats(m, c, 3, 3), b.floats(m), shape=(n, m, h, w))
    statistics = [b.floats(m), b.floats(m), b.floats(m), b.floats(m, low=0.5, high=2.0)]
    return b.node("BatchNormalization", y, *statistics, shape=(n, m, h, w))


def gelu(b: Builder) -> Value:
    x = b.any()
    shape = b.shapes[x]
    root, one, half = (b.stored(np.array(v, np.float32)) for v in (math.sqrt(2), 1.0, 0.5))
    gate = b.node("Erf", b.node("Div", x, root, shape=shape), shape=shape)
    gate = b.node("Add", gate, one, shape=shape)
    return b.node("Mul", b.node("Mul", x, gate, shape=shape), half, shape=shape)


def layer_norm(b: Builder) -> Value:
    x = b.any(1)
    shape = b.shapes[x]
    kept = (*shape[:-1], 1)
    last, two = b.stored(np.array([-1])), b.stored(np.array(2, np.float32))
    epsilon = b.stored(np.array(1e-2, np.float32))
    d = b.node("Sub", x, b.node("ReduceMean", x, last, shape=kept), shape=shape)
    square = b.node("Pow", d, two, shape=shape)
    spread = b.node("ReduceMean", square, last, shape=kept)
    root = b.node("Sqrt", b.node("Add", spread, epsilon, shape=kept), shape=kept)
    scaled = b.node("Mul", b.node("Div", d, root, shape=shape), b.floats(shape[-1]), shape=shape)
    return b.node("Add", scaled, b.floats(shape[-1]), shape=shape)


STEPS: tuple[Callable[[Builder], Value], ...] = (
    unary, unary, binary, binary, neutral, transpose, transpose, reshape, computed_reshape,
    reduction, softmax, concat, cut, product, convolution, gelu, layer_norm,
)  # fmt: skip


def random_model(seed: int, steps: int = 12) -> tuple[Model, dict[str, Any]]:
    """A model of about ``steps`` random steps, two or more outputs, and feeds for its inputs."""
    random = np.random.default_rng(seed)
    b = Builder(random)
    b.input(tuple(int(e) for e in random.choice(EXTENTS, int(random.integers(1, 5)))))
    for _ in range(steps):
        grown = sum(math.prod(shape) > MAX_ELEMENTS for shape in b.shapes.values())
        step = STEPS[int(random.integers(len(STEPS)))]
        if not grown:
            step(b)
    results = [value for value in b.shapes if value.producer is not None and not value.is_used]
    b.graph.outputs = tuple(results) or (unary(b),)
    for value in b.graph.outputs:
        value.type = TensorType(FLOAT32, b.shapes[value])
    feeds = {
        value.name: random.standard_normal(b.shapes[value]).astype(np.float32)
        for value in b.graph.inputs
    }
    return Model(b.graph, {"": OPSET}, ir_version=9), feeds
