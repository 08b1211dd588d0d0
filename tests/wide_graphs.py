"""Random models with what `random_graphs` leaves out, for whoever must not change results.

Integers and booleans, symbolic dims, subgraphs, nodes of several results, values read many times,
results in the middle of patterns, and the spellings that passes look for, whole and spoiled.
`wide_model(seed)` gives a model and feeds for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fornix.dtype import BOOL, FLOAT32, INT32, INT64, DType
from fornix.ir.dim import symbol
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.types import TensorType
from tests.random_graphs import EXTENTS, MAX_ELEMENTS, STEPS, Builder

OPSETS = (18, 20, 21, 23, 24)
TAME = 7
"""Integers are taken modulo this, so that products stay small."""


class WideBuilder(Builder):
    """Also keeps integers and booleans, apart from the floats that its steps combine freely."""

    def __init__(self, random: np.random.Generator, opset: int) -> None:
        super().__init__(random)
        self.opset = opset
        self.integers: dict[Value, tuple[int, ...]] = {}
        self.conditions: dict[Value, tuple[int, ...]] = {}
        self._named = 0

    def name(self, prefix: str) -> str:
        """A name that nothing has."""
        self._named += 1
        return f"{prefix}_{self._named}"

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def choose(self, *options: Any) -> Any:
        return options[int(self.random.integers(len(options)))]

    def raw(self, op_type: str, *inputs: Value, count: int = 1, **attributes: Any) -> list[Value]:
        """Results of a node that nobody takes up by chance."""
        names = [self.name("r") for _ in range(count)]
        made = Node("", op_type, inputs, names, attributes)
        self.graph.append(made)
        return list(made.outputs)

    def integer(self) -> Value:
        if self.integers and self.chance(0.8):
            return self.choose(*self.integers)
        shape = tuple(int(e) for e in self.random.choice(EXTENTS, 2))
        value = Value(f"x{len(self.graph.inputs)}", TensorType(self.choose(INT64, INT32), shape))
        self.graph.inputs = (*self.graph.inputs, value)
        self.integers[value] = shape
        return value

    def number(self, value: float) -> Value:
        return self.stored(np.array(value, np.float32))

    def dtype(self, value: Value) -> DType:
        """Element type of an integer: that of the input that its chain began with."""
        while not isinstance(value.type, TensorType) or value.type.dtype is None:
            assert value.producer is not None
            source = value.producer.inputs[0]
            assert source is not None
            value = source
        return value.type.dtype


W = WideBuilder


def integer_arithmetic(b: W) -> None:
    x = b.integer()
    shape, dtype = b.integers[x], b.dtype(x)
    other = b.stored(b.random.integers(-3, 4, (1, shape[1])).astype(dtype.numpy))
    other = b.choose(other, b.stored(np.array(b.choose(0, 1), dtype.numpy)), x)
    [y] = b.raw(b.choose("Add", "Sub", "Mul"), x, other)
    for name in b.choose((), ("Neg", "Neg"), ("Abs", "Abs"), ("Neg", "Abs"), ("Neg",)):
        [y] = b.raw(name, y)
    [y] = b.raw("Mod", y, b.stored(np.array(TAME, dtype.numpy)))
    b.integers[y] = shape


def compare(b: W) -> None:
    x = b.integer()
    [y] = b.raw(b.choose("Equal", "Less", "GreaterOrEqual"), x, b.stored(one(b.dtype(x))))
    for name in b.choose((), ("Not",), ("Not", "Not")):
        [y] = b.raw(name, y)
    b.conditions[y] = b.integers[x]


def one(dtype: DType) -> Any:
    return np.array(1, dtype.numpy)


def select(b: W) -> None:
    if not b.conditions or b.chance(0.3):
        x = b.any()
        shape = b.shapes[x]
        always = b.stored(np.full((1,) * len(shape), b.chance(0.5)))
        b.node("Where", always, x, b.node("Neg", x, shape=shape), shape=shape)
        return
    condition = b.choose(*b.conditions)
    shape = b.conditions[condition]
    kept = b.floats(*shape)
    b.node("Where", condition, kept, b.number(b.choose(0.0, 1.0)), shape=shape)


def cast_chain(b: W) -> None:
    x = b.integer()
    [y] = b.raw("Cast", x, to=b.choose(INT64, FLOAT32, INT32).code)
    b.node("Cast", y, to=FLOAT32.code, shape=b.integers[x])


def split(b: W) -> None:
    x = b.any(1)
    shape = b.shapes[x]
    axis = max(range(len(shape)), key=lambda a: shape[a])
    if shape[axis] < 2:
        return
    cut = int(b.random.integers(1, shape[axis]))
    sizes = b.stored(np.array([cut, shape[axis] - cut], np.int64))
    parts = b.raw("Split", x, sizes, count=2, axis=axis)
    if b.chance(0.3):
        parts.reverse()
        sizes = b.stored(np.array([shape[axis] - cut, cut], np.int64))
    whole = b.node("Concat", *parts, axis=axis - b.choose(0, len(shape)), shape=shape)
    for part in b.raw("Split", whole, sizes, count=2, axis=axis) if b.chance(0.5) else []:
        b.raw("Relu", part)


def pooled(b: W) -> None:
    n, c, h = (int(e) for e in b.random.choice(EXTENTS, 3))
    x = b.input((n, c, h + 3, h + 3))
    pads = b.stored(np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64))
    fill = b.number(b.choose(0.0, -math.inf))
    kind, window = b.choose("MaxPool", "AveragePool"), [2, 2]
    if kind == "MaxPool":
        [y] = b.raw("MaxPool", *b.raw("Pad", x, pads, fill), kernel_shape=window)
        values, _ = b.raw("MaxPool", x, count=2, kernel_shape=window)
        b.node("Relu", values, shape=(n, c, h + 2, h + 2))
    else:
        [y] = b.raw("AveragePool", *b.raw("Pad", x, pads), kernel_shape=window)
    b.node("Clip", y, b.number(-9), shape=(n, c, h + 3, h + 3))


def scaled_convolution(b: W) -> None:
    n, c, h, m = (int(e) for e in b.random.choice(EXTENTS, 4))
    x = b.input((n, c, h + 1, h + 1))
    pads = b.stored(np.array([0, 0, 1, 1, 0, 0, 0, 0], np.int64))
    [padded] = b.raw("Pad", x, pads) if b.chance(0.5) else b.raw("Pad", x, pads, b.number(0))
    y = b.node("Conv", padded, b.floats(m, c, 2, 2), shape=(n, m, h + 1, h + 1))
    for _ in range(int(b.random.integers(1, 3))):
        factor = b.floats(*b.choose((m, 1, 1), (1,), (), (1, m, 1, 1)), low=0.5, high=2.0)
        y = b.node(b.choose("Add", "Mul", "Sub", "Div"), y, factor, shape=(n, m, h + 1, h + 1))


def gemm(b: W) -> None:
    m, k, n = (int(e) for e in b.random.choice(EXTENTS, 3))
    x = b.input((k, m))
    y = b.node("MatMul", b.node("Transpose", x, shape=(m, k)), b.floats(k, n), shape=(m, n))
    y = b.node("Add", y, b.floats(*b.choose((n,), (1, n), (m, n), ())), shape=(m, n))
    b.node(b.choose("Mul", "Add"), y, b.floats(*b.choose((n,), ())), shape=(m, n))


def channels_last(b: W) -> None:
    """A piece between two transposes, as frameworks with channels last write it."""
    n, c, h, w = (int(e) for e in b.random.choice(EXTENTS, 4))
    x = b.input((n, c, h, w))
    last = (n, h, w, c)
    y = b.node("Transpose", x, perm=[0, 2, 3, 1], shape=last)
    for _ in range(int(b.random.integers(1, 4))):
        kind = b.choose("Relu", "Add", "Mul", "Softmax", "Residual")
        if kind in {"Add", "Mul"}:
            y = b.node(kind, y, b.floats(*b.choose((c,), (1, 1, w, c), ())), shape=last)
        elif kind == "Softmax":
            y = b.node("Softmax", y, axis=int(b.random.integers(-4, 4)), shape=last)
        elif kind == "Residual":
            other = b.node("Transpose", b.floats(n, c, h, w), perm=[0, 2, 3, 1], shape=last)
            y = b.node("Add", y, other, shape=last)
        else:
            y = b.node(kind, y, shape=last)
    if b.chance(0.3):
        axis = int(b.random.integers(4))
        kept = tuple(1 if a == axis else e for a, e in enumerate(last))
        y = b.node("ReduceMax", y, b.stored(np.array([axis])), shape=kept)
    b.node("Transpose", y, perm=[0, 3, 1, 2], shape=tuple(b.shapes[y][a] for a in (0, 3, 1, 2)))


def squeezes(b: W) -> None:
    x = b.any(1)
    shape = b.shapes[x]
    axis = int(b.random.integers(len(shape) + 1))
    y = b.node("Unsqueeze", x, b.stored(np.array([axis])), shape=(*shape[:axis], 1, *shape[axis:]))
    kind = b.choose("Squeeze", "Flatten", "Expand")
    if kind == "Squeeze":
        b.node("Squeeze", y, b.stored(np.array([axis])), shape=shape)
    elif kind == "Flatten":
        b.node("Flatten", y, axis=axis, shape=(math.prod(shape[:axis]), math.prod(shape[axis:])))
    else:
        [sizes] = b.raw("Shape", y)
        b.node("Mul", y, b.node("Expand", b.floats(1), sizes, shape=b.shapes[y]), shape=b.shapes[y])


def gates(b: W) -> None:
    x = b.any()
    shape = b.shapes[x]
    kind = b.choose("silu", "quick", "mish", "hard")
    if kind == "silu":
        gate = b.node("Sigmoid", x, shape=shape)
    elif kind == "quick":
        gate = b.node("Sigmoid", b.node("Mul", x, b.number(1.702), shape=shape), shape=shape)
    elif kind == "mish":
        gate = b.node("Tanh", b.node("Softplus", x, shape=shape), shape=shape)
    else:
        moved = b.node("Add", x, b.number(3), shape=shape)
        clipped = b.node("Clip", moved, b.number(0), b.number(6), shape=shape)
        gate = b.node("Div", clipped, b.number(6), shape=shape)
    b.node("Mul", *b.choose((x, gate), (gate, x)), shape=shape)


def rms_norm(b: W) -> None:
    x = b.any(1)
    shape = b.shapes[x]
    kept = (*shape[:-1], 1)
    square = b.node("Mul", x, x, shape=shape)
    mean = b.node("ReduceMean", square, b.stored(np.array([-1])), shape=kept)
    root = b.node("Sqrt", b.node("Add", mean, b.number(1e-2), shape=kept), shape=kept)
    inverse = b.node("Reciprocal", root, shape=kept)
    b.node("Mul", b.floats(shape[-1]), b.node("Mul", x, inverse, shape=shape), shape=shape)


def attention(b: W) -> None:
    n, h, s, t, d = (int(e) for e in b.random.choice(EXTENTS, 5))
    q, k, v = (b.input((n, h, length, d)) for length in (s, t, t))
    turned = b.node("Transpose", k, perm=[0, 1, 3, 2], shape=(n, h, d, t))
    if b.chance(0.5):
        q = b.node("Mul", q, b.number(0.5), shape=(n, h, s, d))
        turned = b.node("Mul", turned, b.number(0.5), shape=(n, h, d, t))
    scores = b.node("MatMul", q, turned, shape=(n, h, s, t))
    if b.chance(0.5):
        scores = b.node("Add", scores, b.floats(n, 1, s, t), shape=(n, h, s, t))
    weights = b.node("Softmax", scores, axis=-1, shape=(n, h, s, t))
    if b.chance(0.5):
        [bad] = b.raw("IsNaN", weights)
        weights = b.node("Where", bad, b.number(0), weights, shape=(n, h, s, t))
    b.node("MatMul", weights, v, shape=(n, h, s, d))


def branches(b: W) -> None:
    x = b.any()
    shape = b.shapes[x]
    if b.chance(0.5):
        condition = b.stored(np.array(b.chance(0.5)))
    else:
        [condition] = b.raw("Equal", *2 * b.raw("ReduceMax", b.integer(), keepdims=0))
    graphs = {}
    for name in ("then_branch", "else_branch"):
        inner = Graph(name)
        first = Node("", b.choose("Neg", "Relu", "Abs"), [x], [b.name("i")])
        zero = b.choose(x, first.output)
        last = Node("", "Add", [first.output, zero], [b.name("i")])
        inner.append(first, last)
        inner.outputs = (last.output,)
        graphs[name] = inner
    b.node("If", condition, shape=shape, **graphs)


def loop(b: W) -> None:
    x = b.any()
    shape = b.shapes[x]
    step, goes = Value(b.name("i"), TensorType(INT64, ())), b.name("g")
    state = Value(b.name("s"), TensorType(FLOAT32, shape))
    going = Value(goes, TensorType(BOOL, ()))
    body = Graph("body", [step, going, state])
    twice = Node("", "Tanh", [state], [b.name("t")])
    same = Node("", "Identity", [going], [b.name("g")])
    shown = Node("", "Neg", [state], [b.name("n")])
    body.append(twice, same, shown)
    for value in (twice.output, shown.output):
        value.type = TensorType(FLOAT32, shape)
    body.outputs = (same.output, twice.output, shown.output)
    count = int(b.random.integers(0, 4))
    runs = b.stored(np.array(count, np.int64))
    last, seen = b.raw("Loop", runs, b.stored(np.array(True)), x, count=2, body=body)
    b.node("Relu", last, shape=shape)
    if count:
        b.node("Relu", seen, shape=(count, *shape))


WIDE: tuple[Callable[[W], object], ...] = (
    integer_arithmetic, integer_arithmetic, compare, select, cast_chain, split, pooled,
    scaled_convolution, gemm, channels_last, channels_last, squeezes, gates, rms_norm, attention,
    branches, loop,
)  # fmt: skip


def wide_model(seed: int, steps: int = 14) -> tuple[Model, dict[str, Any]]:
    """A model of about ``steps`` random steps, many outputs, and feeds for its inputs."""
    random = np.random.default_rng(seed)
    b = WideBuilder(random, int(random.choice(OPSETS)))
    b.input(tuple(int(e) for e in random.choice(EXTENTS, int(random.integers(1, 5)))))
    kinds: tuple[Callable[..., object], ...] = (*WIDE, *STEPS)
    if b.opset < 20:
        kinds = tuple(step for step in kinds if step is not gates)
    for _ in range(steps):
        if all(math.prod(shape) <= MAX_ELEMENTS for shape in b.shapes.values()):
            kinds[int(random.integers(len(kinds)))](b)
    _close(b)
    feeds = {value.name: _feed(value, random) for value in b.graph.inputs}
    _name_dims(b)
    return Model(b.graph, {"": b.opset}, ir_version=9), feeds


def _close(b: W) -> None:
    """List as outputs what nobody reads, and by chance what somebody does."""
    x = b.any()
    b.node("Relu", x, shape=b.shapes[x])
    kept = []
    for pool in (b.shapes, b.integers, b.conditions):
        for value, shape in pool.items():
            if value.producer is not None and (not value.is_used or b.chance(0.1)):
                dtype = FLOAT32 if pool is b.shapes else BOOL
                value.type = TensorType(b.dtype(value) if pool is b.integers else dtype, shape)
                kept.append(value)
    b.graph.outputs = tuple(kept)


def _feed(value: Value, random: np.random.Generator) -> Any:
    assert isinstance(value.type, TensorType)
    assert value.type.dtype is not None
    shape = tuple(int(str(extent)) for extent in value.type.shape or ())
    if value.type.dtype is FLOAT32:
        return random.standard_normal(shape).astype(np.float32)
    return random.integers(-3, 4, shape).astype(value.type.dtype.numpy)


def _name_dims(b: W) -> None:
    """Let some extents of inputs be symbolic, each extent by a name of its own."""
    named = {extent: symbol(f"D{extent}") for extent in range(2, 8) if b.chance(0.4)}
    for value in (*b.graph.inputs, *b.graph.outputs):
        assert isinstance(value.type, TensorType)
        shape = value.type.shape or ()
        if value.producer is None:
            dims = [named.get(int(str(e)), e) if b.chance(0.7) else e for e in shape]
            value.type = TensorType(value.type.dtype, tuple(dims))
        else:
            value.type = TensorType(value.type.dtype, (None,) * len(shape))
