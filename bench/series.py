"""The curves of `sweep`: families of kernels, of each some series of models that grow.

A series is one small model of which one extent grows, from less than a vector to more than the
caches. Sizes are odd, prime or one less than a power of two on purpose: a schedule that only suits
round extents shows as a hole in its curve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.shapes import Case

Shape = tuple[int, ...]
Plan = tuple[str, Mapping[str, Shape], Mapping[str, Any]]


@dataclass(frozen=True)
class Series:
    """Models of one kind: their name, what ``sizes`` counts, and the model of each size."""

    name: str
    counts: str
    sizes: Sequence[int]
    plan: Callable[[int], Plan]

    def case(self, size: int) -> Case:
        """The model of this size."""
        body, inputs, more = self.plan(size)
        return Case(f"{self.name} {self.counts}={size}", body, inputs, **more)


def one(body: str, shape: Shape, **more: Any) -> Plan:
    """A model with the one input x."""
    return body, {"x": shape}, more


def two(body: str, a: Shape, b: Shape, **more: Any) -> Plan:
    """A model with the inputs a and b."""
    return body, {"a": a, "b": b}, more


SQUARES = (1, 2, 7, 16, 31, 64, 100, 128, 255, 512, 1000)
BATCHES = (1, 2, 3, 4, 7, 8, 16, 33, 64, 100, 256)
THIN = (1, 2, 3, 5, 8, 13, 16, 33, 64)
ELEMENTS = (1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000)
ROWS = (1, 7, 64, 256, 1000, 10_000)
COLUMNS = (1, 2, 3, 4, 5, 10, 16, 17, 50, 100, 257, 1000, 4096, 30_000)
EXTENTS = (1, 7, 14, 28, 56, 97, 128, 224)


def product(m: int, k: int, n: int, **more: Any) -> Plan:
    """x[m, k] times constant w[k, n]."""
    return one("y = MatMul(x, w)", (m, k), weights={"w": (k, n)}, **more)


def fed(a: Shape, b: Shape, **more: Any) -> Plan:
    """A product of two inputs."""
    return two("y = MatMul(a, b)", a, b, **more)


PRODUCTS = (
    Series("n×n times weights n×n", "n", SQUARES, lambda n: product(n, n, n)),
    Series("rows×768 times weights 768×768", "rows", BATCHES, lambda n: product(n, 768, 768)),
    Series(
        "any rows×768 times weights 768×3072", "rows", (1, 7, 64, 128, 256),
        lambda n: product(n, 768, 3072, symbols={"x": 0}),
    ),
    Series("rows×20 times weights 20×7", "rows", (1, 7, 64, 256, 1000, 10_000, 100_000),
           lambda n: product(n, 20, 7)),
    Series("1000×k times weights k×1000", "k", THIN, lambda n: product(1000, n, 1000)),
    Series("1000×768 times weights 768×n", "n", THIN, lambda n: product(1000, 768, n)),
    Series("Gemm rows×300 with bias, relu", "rows", (1, 7, 64, 256, 1000), lambda n: one(
        "g = Gemm<transB=1>(x, w, b) y = Relu(g)", (n, 300),
        weights={"w": (100, 300), "b": (100,)},
    )),
)  # fmt: skip

FED = (
    Series("n×n times n×n", "n", SQUARES, lambda n: fed((n, n), (n, n))),
    Series("batch of 16×16 times 16×16", "batch", (1, 7, 64, 256, 4096),
           lambda n: fed((n, 16, 16), (n, 16, 16))),
    Series("batch of 50×64 times 64×50", "batch", (1, 7, 64, 256),
           lambda n: fed((n, 50, 64), (n, 64, 50))),
    Series("batch of 3×3 times 3×3", "batch", (1, 7, 64, 256, 10_000),
           lambda n: fed((n, 3, 3), (n, 3, 3))),
    Series("batch of 4×4 times 4 numbers", "batch", (1, 7, 64, 256, 10_000),
           lambda n: fed((n, 4, 4), (n, 4, 1))),
    Series("a row of n times n×1000", "n", (1, 10, 100, 1000, 4000),
           lambda n: fed((1, n), (n, 1000))),
    Series("1000×n times a column", "n", (1, 10, 100, 1000, 4000),
           lambda n: fed((1000, n), (n, 1))),
    Series("a transposed: n×64ᵀ times n×64", "n", (1, 10, 100, 1000, 10_000),
           lambda n: two("t = Transpose(a) y = MatMul(t, b)", (n, 64), (n, 64))),
    Series("n×64 times n×64ᵀ", "n", (1, 7, 64, 100, 256, 1000),
           lambda n: two("t = Transpose(b) y = MatMul(a, t)", (n, 64), (n, 64))),
    Series("Einsum bij,bjk of 30×20×40", "b", (1, 7, 64, 256),
           lambda n: two('y = Einsum<equation="bij,bjk->bik">(a, b)', (n, 30, 20), (n, 20, 40))),
)  # fmt: skip


def conv(
    channels: int, out: int, extent: int, taps: int = 3, *, stride: int = 1, group: int = 1,
    batch: int = 1, dilation: int = 1,
) -> Plan:  # fmt: skip
    """A convolution of pictures that keeps the extent but for the stride."""
    pad = dilation * (taps // 2)
    body = (
        f"y = Conv<pads=[{pad}, {pad}, {pad}, {pad}], strides=[{stride}, {stride}], "
        f"group={group}, dilations=[{dilation}, {dilation}]>(x, w, b)"
    )
    weights = {"w": (out, channels // group, taps, taps), "b": (out,)}
    return one(body, (batch, channels, extent, extent), weights=weights)


CHANNELS = (1, 3, 8, 16, 17, 24, 32, 50, 64, 100, 128, 255)

CONVOLUTIONS = (
    Series("3×3, 64 channels, n²", "n", EXTENTS, lambda n: conv(64, 64, n)),
    Series("3×3, c channels, 28²", "c", CHANNELS, lambda n: conv(n, n, 28)),
    Series("3×3, 3→c, 64²", "c", (1, 3, 8, 16, 32, 50, 64), lambda n: conv(3, n, 64)),
    Series("3×3, 32→c, 64²", "c", (1, 2, 3, 4, 8, 17), lambda n: conv(32, n, 64)),
    Series("3×3 of stride 2, 3→32, n²", "n", (7, 32, 65, 224, 512, 1024, 2048),
           lambda n: conv(3, 32, n, stride=2)),
    Series("3×3, 32 channels, 28², batch", "batch", (1, 7, 64, 256),
           lambda n: conv(32, 32, 28, batch=n)),
    Series("1×1, 64→128, n²", "n", EXTENTS, lambda n: conv(64, 128, n, 1)),
    Series("1×1, c channels, 28²", "c", CHANNELS, lambda n: conv(n, n, 28, 1)),
    Series("1×1, 64 channels, 14², batch", "batch", (1, 7, 64, 256),
           lambda n: conv(64, 64, 14, 1, batch=n)),
    Series("k×k, 32 channels, 56²", "k", (1, 2, 3, 4, 5, 7, 9, 11),
           lambda n: conv(32, 32, 56, n)),
    Series("3×3 dilated by d, 32 channels, 56²", "d", (1, 2, 4, 8, 16),
           lambda n: conv(32, 32, 56, dilation=n)),
    Series("3×3 in g groups, 64 channels, 28²", "g", (1, 2, 4, 8, 16, 32, 64),
           lambda n: conv(64, 64, 28, group=n)),
)  # fmt: skip


def line(channels: int, out: int, length: int, taps: int, group: int = 1) -> Plan:
    """A convolution in one dimension."""
    body = f"y = Conv<pads=[{taps // 2}, {taps // 2}], group={group}>(x, w)"
    return one(body, (1, channels, length), weights={"w": (out, channels // group, taps)})


def turned(channels: int, out: int, extent: int, taps: int, stride: int) -> Plan:
    """A transposed convolution."""
    pad = (taps - stride) // 2
    body = (
        f"y = ConvTranspose<strides=[{stride}, {stride}], pads=[{pad}, {pad}, {pad}, {pad}]>(x, w)"
    )
    return one(body, (1, channels, extent, extent), weights={"w": (channels, out, taps, taps)})


DEPTHWISE = (
    Series("depthwise 3×3, 32 channels, n²", "n", (*EXTENTS, 512),
           lambda n: conv(32, 32, n, group=32)),
    Series("depthwise 3×3, c channels, 28²", "c", (1, 3, 16, 17, 100, 576),
           lambda n: conv(n, n, 28, group=n)),
    Series("depthwise 3×3 of stride 2, 32 channels, n²", "n", EXTENTS[1:],
           lambda n: conv(32, 32, n, group=32, stride=2)),
    Series("depthwise k×k, 48 channels, 56²", "k", (1, 3, 5, 7, 9, 13),
           lambda n: conv(48, 48, 56, n, group=48)),
    Series("depthwise 3×3, 32 channels, 28², batch", "batch", (1, 7, 64, 256),
           lambda n: conv(32, 32, 28, group=32, batch=n)),
    Series("1-D, 5 taps, 64→64", "length", (10, 100, 1000, 10_000), lambda n: line(64, 64, n, 5)),
    Series("1-D, 5 taps, 1→16", "length", (10, 100, 1000, 10_000, 100_000),
           lambda n: line(1, 16, n, 5)),
    Series("1-D depthwise, 31 taps, 144 channels", "length", (10, 100, 1000, 10_000),
           lambda n: line(144, 144, n, 31, 144)),
    Series("transposed 2×2 of stride 2, 64→32, n²", "n", (1, 7, 14, 28, 64),
           lambda n: turned(64, 32, n, 2, 2)),
    Series("transposed 4×4 of stride 2, c→c, 28²", "c", (1, 3, 16, 33, 64),
           lambda n: turned(n, n, 28, 4, 2)),
    Series("3-D 3×3×3, 8→8, n³", "n", (1, 4, 8, 17, 32), lambda n: one(
        "y = Conv<pads=[1, 1, 1, 1, 1, 1]>(x, w)", (1, 8, n, n, n),
        weights={"w": (8, 8, 3, 3, 3)},
    )),
)  # fmt: skip


def attend(
    heads: int, queries: int, keys: int, width: int = 64, batch: int = 1, *, mask: bool = False,
    **more: Any,
) -> Plan:  # fmt: skip
    """Softmax(q·kᵀ/√width)·v, with a mask to be added if asked for."""
    added = "a = Add(d, m) p = Softmax<axis=-1>(a)" if mask else "p = Softmax<axis=-1>(d)"
    body = (
        "t = Transpose<perm=[0, 1, 3, 2]>(k) s = MatMul(q, t) d = Div(s, r) "
        f"{added} y = MatMul(p, v)"
    )
    near, far = (batch, heads, queries, width), (batch, heads, keys, width)
    inputs = {"q": near, "k": far, "v": far}
    inputs |= {"m": (1, 1, queries, keys)} if mask else {}
    return body, inputs, {"constants": {"r": [width**0.5]}, **more}


ATTENTION = (
    Series("2 heads of 64, n×n", "n", (1, 7, 16, 64, 128, 257, 512, 1024, 2048, 4096, 8192),
           lambda n: attend(2, n, n)),
    Series("8 heads of 64, mask, n×n", "n", (1, 7, 33, 100, 384, 1024),
           lambda n: attend(8, n, n, mask=True)),
    Series("12 heads of 64, one query, n keys", "n", (1, 7, 64, 256, 1000, 8192),
           lambda n: attend(12, 1, n)),
    Series("12 heads of 64, any n×n", "n", (1, 7, 64, 128, 384), lambda n: attend(
        12, n, n, symbols=dict.fromkeys("qkv", 2))),
    Series("h heads of 64, 128×128", "h", (1, 3, 8, 12, 96), lambda n: attend(n, 128, 128)),
    Series("4 heads of d, 128×128", "d", (8, 16, 32, 40, 80, 128, 256),
           lambda n: attend(4, 128, 128, n)),
    Series("3 heads of 32, 49×49, batch", "batch", (1, 7, 64, 256),
           lambda n: attend(3, 49, 49, 32, n)),
    Series("8 heads of 40, n×77", "n", (64, 256, 1024, 4096), lambda n: attend(8, n, 77, 40)),
)  # fmt: skip


def reduced(kind: str, shape: Shape, *axes: int) -> Plan:
    """A reduction over ``axes``."""
    return one(f"y = {kind}<keepdims=0>(x, axes)", shape, constants={"axes": axes})


def best(shape: Shape, axis: int) -> Plan:
    """The places of the largest."""
    return one(f"y = ArgMax<axis={axis}, keepdims=0>(x)", shape, integers=("y",))


REDUCTIONS = (
    Series("sum of all n", "n", ELEMENTS, lambda n: reduced("ReduceSum", (n,), 0)),
    Series("mean of rows of 1000", "rows", ROWS, lambda n: reduced("ReduceMean", (n, 1000), 1)),
    Series("sum of 1000 rows of n", "n", COLUMNS, lambda n: reduced("ReduceSum", (1000, n), 1)),
    Series("max of 1000 rows of n", "n", COLUMNS, lambda n: reduced("ReduceMax", (1000, n), 1)),
    Series("sum of n down columns of 64", "n", (1, 7, 100, 1000, 10_000, 100_000),
           lambda n: reduced("ReduceSum", (n, 64), 0)),
    Series("sum of 1000 down n columns", "n", COLUMNS[:-1],
           lambda n: reduced("ReduceSum", (1000, n), 0)),
    Series("max of 16×n×50 over the middle", "n", (1, 3, 7, 50, 1000, 10_000),
           lambda n: reduced("ReduceMax", (16, n, 50), 1)),
    Series("mean of 32×n×n over pictures", "n", (1, 3, 7, 14, 28, 100),
           lambda n: reduced("ReduceMean", (1, 32, n, n), 2, 3)),
    Series("mean of 8×n×64 over first and last", "n", (1, 7, 50, 1000),
           lambda n: reduced("ReduceMean", (8, n, 64), 0, 2)),
    Series("length of 1000 rows of n", "n", (2, 3, 10, 128, 1000),
           lambda n: reduced("ReduceL2", (1000, n), 1)),
    Series("place of the largest of 100 rows of n", "n", (2, 10, 100, 1000, 32_000),
           lambda n: best((100, n), 1)),
    Series("place of the largest of n channels, 64²", "n", (2, 3, 21, 150),
           lambda n: best((1, n, 64, 64), 1)),
)  # fmt: skip


def normed(kind: str, shape: Shape, width: int) -> Plan:
    """A normalisation with a scale and a shift."""
    return one(f"y = {kind}(x, w, b)", shape, weights={"w": (width,), "b": (width,)})


RMS = (
    "q = Mul(x, x) m = ReduceMean<keepdims=1>(q, axes) e = Add(m, eps) r = Sqrt(e) "
    "d = Div(x, r) y = Mul(d, w)"
)

NORMS = (
    Series("Softmax of rows of 1000", "rows", ROWS, lambda n: one("y = Softmax(x)", (n, 1000))),
    Series("Softmax of 1000 rows of n", "n", COLUMNS[1:],
           lambda n: one("y = Softmax(x)", (1000, n))),
    Series("Softmax of one row of n", "n", ELEMENTS[1:-1],
           lambda n: one("y = Softmax(x)", (1, n))),
    Series("Softmax of n channels, 64²", "n", (2, 3, 10, 21, 150),
           lambda n: one("y = Softmax<axis=1>(x)", (1, n, 64, 64))),
    Series("LogSoftmax of 100 rows of n", "n", (2, 10, 100, 1000, 32_000),
           lambda n: one("y = LogSoftmax(x)", (100, n))),
    Series("layer norm of rows of 768", "rows", ROWS[:-1],
           lambda n: normed("LayerNormalization", (n, 768), 768)),
    Series("layer norm of 1000 rows of n", "n", (2, 5, 17, 64, 100, 257, 1000, 4096),
           lambda n: normed("LayerNormalization", (1000, n), n)),
    Series("RMS norm by parts, 100 rows of n", "n", (2, 17, 64, 257, 1000, 4096), lambda n: one(
        RMS, (100, n), weights={"w": (n,)}, constants={"axes": [-1], "eps": [1e-5]})),
    Series("instance norm, 32 channels, n²", "n", EXTENTS[1:],
           lambda n: normed("InstanceNormalization", (1, 32, n, n), 32)),
    Series("batch norm, 32 channels, n²", "n", EXTENTS, lambda n: one(
        "v = Abs(s) y = BatchNormalization(x, w, b, m, v)", (1, 32, n, n),
        weights=dict.fromkeys("wbms", (32,)))),
    Series("LRN, 64 channels, n²", "n", (1, 7, 28, 56),
           lambda n: one("y = LRN<size=5>(x)", (1, 64, n, n))),
)  # fmt: skip

ELEMENTWISE = (
    Series("a + b", "n", ELEMENTS, lambda n: two("y = Add(a, b)", (n,), (n,))),
    Series("relu", "n", ELEMENTS, lambda n: one("y = Relu(x)", (n,))),
    Series("exp", "n", ELEMENTS[2:], lambda n: one("y = Exp(x)", (n,))),
    Series("sin", "n", ELEMENTS[2:-1], lambda n: one("y = Sin(x)", (n,))),
    Series("gelu", "n", ELEMENTS[2:], lambda n: one("y = Gelu(x)", (n,))),
    Series("|x|^1.7", "n", ELEMENTS[2:-1],
           lambda n: one("a = Abs(x) y = Pow(a, p)", (n,), constants={"p": [1.7]})),
    Series("relu(a·b + a)", "n", ELEMENTS,
           lambda n: two("m = Mul(a, b) s = Add(m, a) y = Relu(s)", (n,), (n,))),
    Series("where(a > b, a, b)", "n", ELEMENTS,
           lambda n: two("c = Greater(a, b) y = Where(c, a, b)", (n,), (n,))),
    Series("cast to int64", "n", ELEMENTS[2:-1],
           lambda n: one("y = Cast<to=7>(x)", (n,), integers=("y",))),
    Series("any silu", "n", ELEMENTS[:-1],
           lambda n: one("s = Sigmoid(x) y = Mul(x, s)", (n,), symbols={"x": 0})),
    Series("4 outputs of x", "n", ELEMENTS[2:-1], lambda n: one(
        "y = Neg(x) z = Abs(x) u = Relu(x) v = Sqrt(z)", (n,), outputs=("y", "z", "u", "v"))),
)  # fmt: skip


def spread(a: Callable[[int], Shape], b: Callable[[int], Shape]) -> Callable[[int], Plan]:
    """A sum of two inputs that are broadcast."""
    return lambda n: two("y = Add(a, b)", a(n), b(n))


BROADCASTS = (
    Series("1000×n + row of n", "n", COLUMNS[:-1], spread(lambda n: (1000, n), lambda n: (n,))),
    Series("1000×n + column", "n", COLUMNS[:-1], spread(lambda n: (1000, n), lambda _: (1000, 1))),
    Series("column of n + row of n", "n", (1, 7, 33, 100, 1000, 3000),
           spread(lambda n: (n, 1), lambda n: (n,))),
    Series("n + one number", "n", ELEMENTS, spread(lambda n: (n,), lambda _: (1,))),
    Series("64×n×n + 64×1×1", "n", EXTENTS,
           spread(lambda n: (1, 64, n, n), lambda _: (64, 1, 1))),
    Series("32×n×16 + 32×1×16", "n", (1, 7, 100, 1000, 10_000),
           spread(lambda n: (32, n, 16), lambda _: (32, 1, 16))),
    Series("n×1×50 + 1×20×1", "n", (1, 7, 100, 1000), spread(
        lambda n: (n, 1, 50), lambda _: (1, 20, 1))),
    Series("Expand of n to 100×n", "n", (1, 10, 1000, 10_000), lambda n: one(
        "y = Expand(x, s)", (n,), constants={"s": [100, n]})),
)  # fmt: skip


def turn(shape: Shape, *perm: int) -> Plan:
    """A transposition."""
    return one(f"y = Transpose<perm={list(perm)}>(x)", shape)


TRANSPOSES = (
    Series("n×n", "n", (1, 7, 16, 33, 100, 512, 1000, 3000), lambda n: turn((n, n), 1, 0)),
    Series("n×3", "n", ROWS, lambda n: turn((n, 3), 1, 0)),
    Series("3×n", "n", (*ROWS, 1_000_000), lambda n: turn((3, n), 1, 0)),
    Series("n×64", "n", ROWS, lambda n: turn((n, 64), 1, 0)),
    Series("n×12×64, heads first", "n", (1, 7, 128, 1024),
           lambda n: turn((1, n, 12, 64), 0, 2, 1, 3)),
    Series("n²×3, channels first", "n", EXTENTS, lambda n: turn((1, n, n, 3), 0, 3, 1, 2)),
    Series("64×n², channels last", "n", EXTENTS, lambda n: turn((1, 64, n, n), 0, 2, 3, 1)),
    Series("n³ reversed", "n", (1, 7, 16, 33, 64, 100), lambda n: turn((n, n, n), 2, 1, 0)),
    Series("8×n×9×n, inner ones first", "n", (1, 3, 8, 20, 64),
           lambda n: turn((8, n, 9, n), 2, 3, 0, 1)),
    Series("depth to space, 64 channels, n²", "n", EXTENTS[:-1],
           lambda n: one("y = DepthToSpace<blocksize=2>(x)", (1, 64, n, n))),
    Series("space to depth, 3 channels, (2n)²", "n", EXTENTS,
           lambda n: one("y = SpaceToDepth<blocksize=2>(x)", (1, 3, 2 * n, 2 * n))),
)  # fmt: skip


def picked(body: str, data: Shape, places: Shape, top: int, **more: Any) -> Plan:
    """A model that reads or writes x at the places i."""
    return body, {"x": data, "i": places}, {"tops": {"i": top}, **more}


def put(body: str, data: Shape, places: Shape, updates: Shape, top: int) -> Plan:
    """A model that writes u into x at the places i."""
    return body, {"x": data, "i": places, "u": updates}, {"tops": {"i": top}}


COUNTS = (1, 7, 64, 1000, 10_000, 100_000)

GATHERS = (
    Series("n rows of 64 of 10,000", "n", COUNTS,
           lambda n: picked("y = Gather(x, i)", (10_000, 64), (n,), 10_000)),
    Series("n of 10,000 numbers", "n", COUNTS,
           lambda n: picked("y = Gather(x, i)", (10_000,), (n,), 10_000)),
    Series("n of 500 columns of 100 rows", "n", COUNTS[:-2],
           lambda n: picked("y = Gather<axis=1>(x, i)", (100, 500), (n,), 500)),
    Series("100 rows of n", "n", (1, 2, 3, 10, 100, 1000),
           lambda n: picked("y = Gather(x, i)", (1000, n), (100,), 1000)),
    Series("elements of 100×n along the last", "n", (1, 10, 100, 1000, 10_000),
           lambda n: picked("y = GatherElements<axis=1>(x, i)", (100, n), (100, n), n)),
    Series("n pairs of 100×100", "n", COUNTS,
           lambda n: picked("y = GatherND(x, i)", (100, 100), (n, 2), 100)),
    Series("n rows of 32 put into 1000", "n", (1, 7, 64, 1000, 10_000),
           lambda n: put("y = ScatterND(x, i, u)", (1000, 32), (n, 1), (n, 32), 1000)),
    Series("elements of 100×n put along the last", "n", (1, 10, 100, 1000),
           lambda n: put("y = ScatterElements<axis=1>(x, i, u)", (100, n), (100, n), (100, n), n)),
    Series("n numbers added into 1000", "n", COUNTS, lambda n: put(
        'y = ScatterElements<reduction="add">(x, i, u)', (1000,), (n,), (n,), 1000)),
    Series("one of n, 100 rows", "n", (2, 10, 100, 1000), lambda n: (
        "y = OneHot(i, depth, values)", {"i": (100,)},
        {"tops": {"i": n}, "constants": {"depth": [n], "values": [0.0, 1.0]}})),
)  # fmt: skip


def cut(shape: Shape, first: int, last: int, axis: int, step: int = 1) -> Plan:
    """A slice."""
    constants = {"f": [first], "l": [last], "a": [axis], "s": [step]}
    return one("y = Slice(x, f, l, a, s)", shape, constants=constants)


def padded(shape: Shape, *pads: int, mode: str = "constant") -> Plan:
    """A border around x."""
    return one(f'y = Pad<mode="{mode}">(x, pads)', shape, constants={"pads": pads})


PIECES = (
    Series("Concat of two rows of n", "n", ELEMENTS[:-1],
           lambda n: two("y = Concat<axis=0>(a, b)", (n,), (n,))),
    Series("Concat of 1000×n and 1000×3", "n", (1, 3, 16, 100, 1000),
           lambda n: two("y = Concat<axis=1>(a, b)", (1000, n), (1000, 3))),
    Series("Concat of 16 and 32 channels, n²", "n", EXTENTS,
           lambda n: two("y = Concat<axis=1>(a, b)", (1, 16, n, n), (1, 32, n, n))),
    Series("Split of 1000×3n", "n", (1, 3, 16, 100, 1000), lambda n: one(
        "y, u, v = Split<axis=1, num_outputs=3>(x)", (1000, 3 * n), outputs=("y", "u", "v"))),
    Series("Slice of 1000×n but first and last", "n", (4, 16, 100, 1000, 4096),
           lambda n: cut((1000, n), 1, -1, 1)),
    Series("Slice of 1000×n, every second", "n", (4, 16, 100, 1000, 4096),
           lambda n: cut((1000, n), 0, n, 1, 2)),
    Series("Slice of 100×n backwards", "n", (4, 16, 100, 1000, 10_000),
           lambda n: cut((100, n), -1, -n - 1, 1, -1)),
    Series("Pad of 16×n² by 1", "n", EXTENTS,
           lambda n: padded((1, 16, n, n), 0, 0, 1, 1, 0, 0, 1, 1)),
    Series("Pad of 16×n² by reflection", "n", EXTENTS[1:],
           lambda n: padded((1, 16, n, n), 0, 0, 2, 2, 0, 0, 2, 2, mode="reflect")),
    Series("Tile of n three times", "n", ELEMENTS[:-1],
           lambda n: one("y = Tile(x, r)", (n,), constants={"r": [3]})),
    Series("Tile of 100×n each twice", "n", (1, 10, 100, 1000),
           lambda n: one("y = Tile(x, r)", (100, n), constants={"r": [2, 2]})),
)  # fmt: skip


def resized(kind: str, channels: int, extent: int, scale: float, more: str = "") -> Plan:
    """A picture made larger or smaller."""
    body = f'y = Resize<mode="{kind}"{more}>(x, , scales)'
    constants = {"scales": [1.0, 1.0, scale, scale]}
    return one(body, (1, channels, extent, extent), constants=constants)


def window(kind: str, channels: int, extent: int, taps: int, stride: int, batch: int = 1) -> Plan:
    """A window that moves over a picture."""
    pad = (taps - 1) // 2
    body = (
        f"y = {kind}<kernel_shape=[{taps}, {taps}], strides=[{stride}, {stride}], "
        f"pads=[{pad}, {pad}, {pad}, {pad}]>(x)"
    )
    return one(body, (batch, channels, extent, extent))


ASYMMETRIC = ', nearest_mode="floor", coordinate_transformation_mode="asymmetric"'

PICTURES = (
    Series("nearest ×2, 32 channels, n²", "n", EXTENTS,
           lambda n: resized("nearest", 32, n, 2.0, ASYMMETRIC)),
    Series("nearest ×2, half pixel, 3 channels, n²", "n", EXTENTS,
           lambda n: resized("nearest", 3, n, 2.0)),
    Series("linear ×2, 32 channels, n²", "n", EXTENTS, lambda n: resized("linear", 32, n, 2.0)),
    Series("linear ×2, 3 channels, n²", "n", (*EXTENTS, 640),
           lambda n: resized("linear", 3, n, 2.0)),
    Series("linear ×0.5, 3 channels, n²", "n", (14, 56, 224, 1000),
           lambda n: resized("linear", 3, n, 0.5)),
    Series("cubic ×2, 3 channels, n²", "n", (7, 28, 97, 224),
           lambda n: resized("cubic", 3, n, 2.0)),
    Series("max 2×2 of stride 2, 32 channels, n²", "n", EXTENTS[1:],
           lambda n: window("MaxPool", 32, n, 2, 2)),
    Series("max 3×3 of stride 2, 64 channels, n²", "n", EXTENTS[1:],
           lambda n: window("MaxPool", 64, n, 3, 2)),
    Series("max k×k, 64 channels, 20²", "k", (1, 3, 5, 9, 13),
           lambda n: window("MaxPool", 64, 20, n, 1)),
    Series("average 3×3, 64 channels, n²", "n", EXTENTS[1:],
           lambda n: window("AveragePool", 64, n, 3, 1)),
    Series("max 2×2, 16 channels, 28², batch", "batch", (1, 7, 64, 256),
           lambda n: window("MaxPool", 16, 28, 2, 2, n)),
    Series("global average, 64 channels, n²", "n", EXTENTS,
           lambda n: one("y = GlobalAveragePool(x)", (1, 64, n, n))),
    Series("GridSample, 3 channels, n²", "n", (7, 28, 97, 224), lambda n: (
        "y = GridSample(x, g)", {"x": (1, 3, n, n), "g": (1, n, n, 2)}, {})),
)  # fmt: skip


def top(rows: int, extent: int, k: int) -> Plan:
    """The largest k of every row."""
    return one("y, i = TopK<axis=-1>(x, k)", (rows, extent), constants={"k": [k]},
               outputs=("y", "i"), integers=("i",))  # fmt: skip


ORDERED = (
    Series("running sum of n", "n", ELEMENTS,
           lambda n: one("y = CumSum(x, axis)", (n,), constants={"axis": [0]})),
    Series("running sums of 100 rows of n", "n", (1, 3, 10, 100, 1000),
           lambda n: one("y = CumSum(x, axis)", (100, n), constants={"axis": [1]})),
    Series("running sums of n rows of 100", "n", (1, 3, 10, 100, 1000),
           lambda n: one("y = CumSum(x, axis)", (n, 100), constants={"axis": [0]})),
    Series("top 5 of n", "n", (5, 10, 100, 1000, 10_000, 100_000, 1_000_000),
           lambda n: top(1, n, 5)),
    Series("top k of 1000", "k", (1, 2, 5, 10, 50, 300, 1000), lambda n: top(1, 1000, n)),
    Series("top 5 of 100 rows of n", "n", (5, 10, 100, 1000, 10_000), lambda n: top(100, n, 5)),
    Series("sort of n", "n", (1, 10, 100, 1000, 10_000, 100_000), lambda n: top(1, n, n)),
    Series("sort of 100 rows of n", "n", (2, 10, 100, 1000), lambda n: top(100, n, n)),
    Series("places that are not 0", "n", ELEMENTS[:-1],
           lambda n: one("r = Relu(x) y = NonZero(r)", (n,), integers=("y",))),
    Series("different ones of n", "n", ELEMENTS[:-2],
           lambda n: one("r = Round(x) y = Unique(r)", (n,))),
)  # fmt: skip


def fourier(rows: int, extent: int, *, half: bool = False) -> Plan:
    """The transform of real rows."""
    onesided = ", onesided=1" if half else ""
    return one(f"y = DFT<inverse=0{onesided}>(x)", (rows, extent, 1))


def recurrent(kind: str, gates: int, steps: int, batch: int, hidden: int) -> Plan:
    """A recurrent layer."""
    weights = {"w": (1, gates * hidden, hidden), "r": (1, gates * hidden, hidden)}
    body = f"W = Mul(w, s) R = Mul(r, s) y = {kind}<hidden_size={hidden}>(x, W, R)"
    return one(body, (steps, batch, hidden), weights=weights, constants={"s": [hidden**-0.5]})


STEPS = (
    Series("DFT of one row of n", "n", (2, 8, 10, 64, 100, 127, 512, 1000, 1024, 4096),
           lambda n: fourier(1, n)),
    Series("DFT of 100 rows of n, one side", "n", (8, 10, 64, 100, 400, 512),
           lambda n: fourier(100, n, half=True)),
    Series("LSTM of width 64, n steps", "n", (1, 7, 50, 256, 1024),
           lambda n: recurrent("LSTM", 4, n, 1, 64)),
    Series("LSTM of width n, 20 steps", "n", (1, 4, 17, 32, 100, 256, 512),
           lambda n: recurrent("LSTM", 4, 20, 1, n)),
    Series("GRU of width 64, 20 steps, batch", "batch", (1, 3, 7, 64, 256),
           lambda n: recurrent("GRU", 3, 20, n, 64)),
)  # fmt: skip

FAMILIES: dict[str, tuple[Series, ...]] = {
    "products": PRODUCTS,
    "products of inputs": FED,
    "convolution": CONVOLUTIONS,
    "other convolution": DEPTHWISE,
    "attention": ATTENTION,
    "reductions": REDUCTIONS,
    "softmax and norms": NORMS,
    "elementwise": ELEMENTWISE,
    "broadcasts": BROADCASTS,
    "transposes": TRANSPOSES,
    "gathers and scatters": GATHERS,
    "pieces": PIECES,
    "pictures": PICTURES,
    "order": ORDERED,
    "Fourier and steps": STEPS,
}
