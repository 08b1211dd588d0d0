"""The cases of `micro`: for every family of kernels the shapes that models have, and odd ones.

Shapes come from ResNet-50, MobileNetV2, EfficientNet, ConvNeXt, BERT, ViT, Swin and GPT-2; the odd
ones are there to show cliffs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

Shape = tuple[int, ...]
OPSET = 20
"""The first with Gelu."""


@dataclass(frozen=True)
class Case:
    """One small model: nodes in ONNX text, shapes of its inputs and weights.

    ``torch`` and ``attributes`` name the same in `operators`; ``flops`` are those of the direct
    algorithm, 0 where bytes count. Inputs in ``tops`` hold integers below what stands there;
    those in ``symbols`` are declared without the extent of the axis there. Outputs in ``integers``
    are int64.
    """

    name: str
    body: str
    inputs: Mapping[str, Shape]
    torch: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Shape] = field(default_factory=dict)
    constants: Mapping[str, Sequence[int] | Sequence[float]] = field(default_factory=dict)
    flops: int = 0
    moved: int | None = None
    tops: Mapping[str, int] = field(default_factory=dict)
    symbols: Mapping[str, int] = field(default_factory=dict)
    outputs: Sequence[str] = ("y",)
    integers: Sequence[str] = ()

    @property
    def bytes(self) -> int:
        """Bytes of inputs and, unless ``moved`` says how many move, as many again for outputs."""
        return self.moved or 8 * sum(map(prod, self.inputs.values()))

    def feeds(self) -> dict[str, np.ndarray]:
        """Random inputs."""
        stream = np.random.default_rng(0)
        return {
            name: stream.integers(self.tops[name], size=shape)
            if name in self.tops
            else np.asarray(stream.standard_normal(shape, np.float32))
            for name, shape in self.inputs.items()
        }

    def declared(self, name: str) -> str:
        """The input ``name`` in ONNX text."""
        kind = "int64" if name in self.tops else "float"
        extents: list[object] = list(self.inputs[name])
        if name in self.symbols:
            extents[self.symbols[name]] = "n"
        return f"{kind}[{', '.join(map(str, extents))}] {name}"

    def write(self, folder: Path) -> str:
        """Write the model; its path."""
        import onnx

        ends = ", ".join(map(self.declared, self.inputs))
        outputs = ", ".join(
            f"{'int64' if name in self.integers else 'float'}[] {name}" for name in self.outputs
        )
        text = f'<ir_version: 9, opset_import: ["": {OPSET}]> main ({ends}) => ({outputs}) '
        model = onnx.parser.parse_model(f"{text}{{ {self.body} }}")
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        stream = np.random.default_rng(1)
        arrays = {k: stream.standard_normal(s, np.float32) for k, s in self.weights.items()}
        for name, values in self.constants.items():
            kinds = np.float32 if any(isinstance(x, float) for x in values) else np.int64
            arrays[name] = np.array(values, kinds)
        model.graph.initializer.extend(
            onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()
        )
        key = hashlib.sha256(self.name.encode()).hexdigest()[:12]
        path = folder / f"{key}.onnx"
        onnx.save(model, path)
        return str(path)


def gemm() -> Iterator[Case]:
    """x[M, K] times constant w[K, N]."""
    for m, k, n in (
        (1, 768, 768), (1, 4096, 4096), (7, 100, 33), (8, 768, 3072), (49, 768, 768),
        (128, 768, 768), (128, 768, 3072), (128, 3072, 768), (197, 768, 768), (1024, 1024, 1024),
        (128, 768, 50257), (3136, 96, 384), (1000, 17, 1000), (1920, 5, 200), (1000, 2, 64),
    ):  # fmt: skip
        shapes = {"x": (m, k)}
        yield Case(
            f"{m}×{k}×{n}", "y = MatMul(x, w)", shapes, "matmul",
            weights={"w": (k, n)}, flops=2 * m * k * n,
        )  # fmt: skip
    m, k, n = 128, 768, 768
    yield Case(
        f"{m}×{k}×{n} + bias", "y = Gemm(x, w, b)", {"x": (m, k)}, "matmul",
        weights={"w": (k, n), "b": (n,)}, flops=2 * m * k * n,
    )  # fmt: skip


def batched() -> Iterator[Case]:
    """a[B, M, K] times b[B, K, N], both fed."""
    for b, m, k, n in (
        (12, 128, 64, 128), (12, 128, 128, 64), (12, 197, 64, 197), (192, 49, 32, 49),
        (12, 1, 64, 256), (12, 1024, 64, 1024), (1, 256, 256, 256), (3, 17, 5, 31),
    ):  # fmt: skip
        inputs = {"a": (b, m, k), "b": (b, k, n)}
        flops = 2 * b * m * k * n
        yield Case(f"{b}·{m}×{k}×{n}", "y = MatMul(a, b)", inputs, "matmul", flops=flops)


def convolution(
    channels: int,
    out: int,
    extent: int,
    taps: int,
    *,
    stride: int = 1,
    group: int = 1,
    dilation: int = 1,
    relu: bool = False,
) -> Case:
    """A convolution of one picture that keeps the extent but for the stride."""
    pad = dilation * (taps // 2)
    attrs = (
        f"<kernel_shape=[{taps}, {taps}], pads=[{pad}, {pad}, {pad}, {pad}], "
        f"strides=[{stride}, {stride}], group={group}, dilations=[{dilation}, {dilation}]>"
    )
    size = (extent + 2 * pad - dilation * (taps - 1) - 1) // stride + 1
    name = f"{taps}×{taps} {channels}→{out} {extent}²"
    name += f" stride {stride}" if stride > 1 else ""
    name += f" group {group}" if group > 1 else ""
    name += f" dilation {dilation}" if dilation > 1 else ""
    body = f"y = Conv{attrs}(x, w, b)"
    if relu:
        name, body = f"{name} relu", f"c = Conv{attrs}(x, w, b) y = Relu(c)"
    more = {"stride": stride, "padding": pad, "dilation": dilation, "groups": group}
    return Case(
        name,
        body,
        {"x": (1, channels, extent, extent)},
        "conv",
        {**more, "relu": True} if relu else more,
        weights={"w": (out, channels // group, taps, taps), "b": (out,)},
        flops=2 * out * (channels // group) * taps**2 * size**2,
    )


def conv1() -> Iterator[Case]:
    """1×1 convolutions."""
    for channels, out, extent in (
        (256, 64, 56), (64, 256, 56), (512, 2048, 7), (2048, 512, 7), (96, 24, 56), (16, 96, 112),
        (320, 1280, 7), (17, 33, 29), (1280, 64, 1), (256, 1024, 14), (24, 144, 56),
        (1024, 256, 64),
    ):  # fmt: skip
        yield convolution(channels, out, extent, 1)
    yield convolution(256, 512, 56, 1, stride=2)
    yield convolution(64, 256, 56, 1, relu=True)


def conv3() -> Iterator[Case]:
    """Convolutions of more taps, strided, dilated and grouped ones among them."""
    for channels, extent in (
        (64, 56), (128, 28), (256, 14), (512, 7), (32, 256), (64, 96), (64, 224), (128, 112),
        (256, 56), (512, 28), (512, 14),
    ):  # fmt: skip
        yield convolution(channels, channels, extent, 3)
    yield convolution(64, 64, 56, 3, relu=True)
    yield convolution(3, 64, 224, 3)
    yield convolution(3, 32, 224, 3, stride=2)
    yield convolution(3, 64, 224, 7, stride=2)
    yield convolution(128, 128, 56, 3, stride=2)
    yield convolution(17, 33, 29, 3)
    yield convolution(24, 40, 56, 3)
    yield convolution(64, 3, 96, 3)
    yield convolution(64, 9, 96, 3)
    yield convolution(64, 64, 28, 5)
    yield convolution(64, 64, 56, 3, dilation=2)
    yield convolution(256, 256, 28, 3, dilation=12)
    yield convolution(512, 64, 28, 3, dilation=24)
    for channels, out, extent, stride in ((16, 16, 56, 2), (32, 32, 28, 1), (100, 17, 28, 1)):
        yield convolution(channels, out, extent, 5, stride=stride)
    yield convolution(128, 128, 56, 3, group=2)
    for channels, out, group in (
        (128, 128, 32),
        (12, 24, 4),
        (64, 128, 32),
        (128, 128, 8),
        (32, 32, 2),
        (96, 96, 8),
        (40, 40, 2),
    ):
        yield convolution(channels, out, 56, 3, group=group)
    yield convolution(96, 96, 56, 5, group=8, stride=3)


def depthwise() -> Iterator[Case]:
    """One filter per channel."""
    for channels, extent, taps, stride in (
        (32, 112, 3, 1), (96, 112, 3, 2), (144, 56, 3, 1), (384, 14, 3, 1), (960, 7, 3, 1),
        (240, 28, 5, 2), (672, 14, 5, 1), (96, 56, 7, 1), (768, 7, 7, 1), (33, 29, 3, 1),
        (728, 37, 3, 1), (728, 37, 5, 2), (96, 56, 7, 2), (64, 28, 13, 1),
    ):  # fmt: skip
        yield convolution(channels, channels, extent, taps, stride=stride, group=channels)


def other_conv() -> Iterator[Case]:
    """Transposed and one-dimensional ones."""
    for channels, out, extent, taps, stride in ((64, 32, 64, 2, 2), (32, 32, 64, 4, 2)):
        pad = (taps - stride) // 2
        attrs = (
            f"<kernel_shape=[{taps}, {taps}], strides=[{stride}, {stride}], "
            f"pads=[{pad}, {pad}, {pad}, {pad}]>"
        )
        yield Case(
            f"transposed {taps}×{taps} {channels}→{out} {extent}² stride {stride}",
            f"y = ConvTranspose{attrs}(x, w)",
            {"x": (1, channels, extent, extent)},
            "transposed",
            {"stride": stride, "padding": pad},
            weights={"w": (channels, out, taps, taps)},
            flops=2 * channels * out * taps**2 * extent**2,
        )
    for channels, out, length, taps, dilation in ((80, 384, 3000, 3, 1), (64, 128, 5000, 2, 16)):
        pad = dilation * (taps - 1)
        yield Case(
            f"1-D {taps} {channels}→{out} {length} dilation {dilation}",
            f"y = Conv<kernel_shape=[{taps}], pads=[{pad}, 0], dilations=[{dilation}]>(x, w)",
            {"x": (1, channels, length)},
            "conv",
            {"dilation": dilation, "before": pad},
            weights={"w": (out, channels, taps)},
            flops=2 * channels * out * taps * length,
        )


def pool() -> Iterator[Case]:
    """Windows and whole pictures."""
    for of, taps, stride, channels, extent in (
        ("Max", 3, 2, 64, 112), ("Max", 2, 2, 64, 224), ("Max", 5, 1, 256, 20),
        ("Average", 2, 2, 64, 56), ("Average", 3, 1, 192, 28),
    ):  # fmt: skip
        pad = taps // 2 if taps % 2 else 0
        head = {"Max": "MaxPool<", "Average": "AveragePool<count_include_pad=1, "}[of]
        body = (
            f"y = {head}kernel_shape=[{taps}, {taps}], strides=[{stride}, {stride}], "
            f"pads=[{pad}, {pad}, {pad}, {pad}]>(x)"
        )
        more = {"of": of.lower(), "kernel_size": taps, "stride": stride, "padding": pad}
        shape = (1, channels, extent, extent)
        moved = 4 * (prod(shape) + prod(shape) // stride**2)
        title = f"{of.lower()} {taps}×{taps} stride {stride} {channels} {extent}²"
        yield Case(title, body, {"x": shape}, "pool", more, moved=moved)
    for shape in ((1, 2048, 7, 7), (1, 96, 56, 56)):
        name = f"global average {shape[1]} {shape[2]}²"
        body = "y = GlobalAveragePool(x)"
        yield Case(name, body, {"x": shape}, "global", moved=4 * prod(shape))


def rows() -> Iterator[Case]:
    """Softmax and layer normalisation."""
    for shape in ((12, 128, 128), (12, 197, 197), (1, 1000), (12, 1, 257), (4, 1024, 1024)):
        body = "y = Softmax<axis=-1>(x)"
        yield Case(f"softmax {text(shape)}", body, {"x": shape}, "softmax", {"dim": -1})
    yield Case(
        "softmax axis 1 (1, 21, 64, 64)", "y = Softmax<axis=1>(x)", {"x": (1, 21, 64, 64)},
        "softmax", {"dim": 1},
    )  # fmt: skip
    for shape in ((128, 768), (197, 768), (3136, 96), (49, 768), (1, 768), (333, 51)):
        body = "y = LayerNormalization<axis=-1, epsilon=1e-5>(x, w, b)"
        weights = {"w": shape[-1:], "b": shape[-1:]}
        name = f"layer norm {text(shape)}"
        yield Case(name, body, {"x": shape}, "layer_norm", weights=weights)


def reductions() -> Iterator[Case]:
    """Sums, means, extrema, running sums."""
    for shape, axes in (((128, 768), (-1,)), ((1024, 1024), (0,)), ((64, 56, 56), (1, 2))):
        body = "y = ReduceMean<keepdims=0>(x, axes)"
        more = {"dim": list(axes)}
        name = f"mean {text(shape)} over {text(axes)}"
        yield Case(name, body, {"x": shape}, "mean", more,
                   constants={"axes": axes}, moved=4 * prod(shape))  # fmt: skip
    for shape, axes in (((1000, 1000), (0, 1)), ((8, 512, 77), (1,))):
        body = "y = ReduceMax<keepdims=0>(x, axes)"
        name, more = f"max {text(shape)} over {text(axes)}", {"dim": list(axes)}
        yield Case(name, body, {"x": shape}, "max", more,
                   constants={"axes": axes}, moved=4 * prod(shape))  # fmt: skip
    body = "y = CumSum(x, axis)"
    yield Case("running sum (128, 1024)", body, {"x": (128, 1024)}, "cumsum", {"dim": 1},
               constants={"axis": [1]})  # fmt: skip
    for rows, extent, k in ((32, 1000, 10), (1000, 32, 32), (1000, 64, 32), (50, 128, 10)):
        yield Case(f"top {k} of ({rows}, {extent})", "y, i = TopK<axis=-1>(x, k)",
                   {"x": (rows, extent)}, "topk", {"k": k}, constants={"k": [k]},
                   moved=4 * rows * extent)  # fmt: skip


def elementwise() -> Iterator[Case]:
    """Maps, alone and in chains."""
    yield Case("add (1000, 1000)", "y = Add(a, b)", {"a": (1000, 1000), "b": (1000, 1000)}, "add",
               moved=12_000_000)  # fmt: skip
    yield Case("add (128, 768) + (768)", "y = Add(a, b)", {"a": (128, 768), "b": (768,)}, "add",
               moved=8 * 128 * 768)  # fmt: skip
    for shape in ((128, 3072), (3136, 384), (17, 31)):
        yield Case(f"gelu {text(shape)}", "y = Gelu(x)", {"x": shape}, "gelu")
    erf = "s = Div(x, r) e = Erf(s) p = Add(e, o) m = Mul(x, p) y = Mul(m, h)"
    constants = {"r": [2.0**0.5], "o": [1.0], "h": [0.5]}
    yield Case("gelu by erf (128, 3072)", erf, {"x": (128, 3072)}, "gelu", constants=constants)
    yield Case("exp (1000, 1000)", "y = Exp(x)", {"x": (1000, 1000)}, "exp")
    yield Case("tanh (128, 3072)", "y = Tanh(x)", {"x": (128, 3072)}, "tanh")
    silu = "s = Sigmoid(x) y = Mul(x, s)"
    yield Case("silu (1, 96, 112, 112)", silu, {"x": (1, 96, 112, 112)}, "silu")
    gate = "t = Tanh(a) s = Sigmoid(b) y = Mul(t, s)"
    long = (1, 64, 5000)
    yield Case("tanh · sigmoid (64, 5000)", gate, {"a": long, "b": long}, "gate",
               moved=12 * prod(long))  # fmt: skip
    chain = "m = Mul(x, w) s = Add(m, b) y = Relu(s)"
    weights = {"w": (64, 1, 1), "b": (64, 1, 1)}
    yield Case("scale, shift, relu (64, 56²)", chain, {"x": (1, 64, 56, 56)}, "chain",
               weights=weights)  # fmt: skip


def moves() -> Iterator[Case]:
    """Data movement."""
    for shape, perm in (
        ((1, 128, 12, 64), (0, 2, 1, 3)), ((1, 64, 56, 56), (0, 2, 3, 1)),
        ((1, 56, 56, 96), (0, 3, 1, 2)), ((1024, 1024), (1, 0)),
        ((8, 7, 8, 7, 96), (0, 2, 1, 3, 4)),
    ):  # fmt: skip
        body = f"y = Transpose<perm={list(perm)}>(x)"
        name = f"transpose {text(shape)} {text(perm)}"
        yield Case(name, body, {"x": shape}, "transpose", {"perm": list(perm)})
    yield Case("gather 128 of (30522, 768)", "y = Gather(w, i)", {"i": (1, 128)}, "embedding",
               weights={"w": (30522, 768)}, tops={"i": 30522}, moved=8 * 128 * 768)  # fmt: skip
    shape = (1, 64, 56, 56)
    yield Case("concat 2 · (64, 56²)", "y = Concat<axis=1>(a, b)", {"a": shape, "b": shape},
               "concat")  # fmt: skip
    for mode, torch, shape, factor in (
        ("nearest", "nearest", (1, 64, 40, 40), 2), ("linear", "bilinear", (1, 150, 64, 64), 4),
        ("linear", "bilinear", (1, 32, 56, 56), 2),
    ):  # fmt: skip
        rounding = ', nearest_mode="floor", coordinate_transformation_mode="asymmetric"'
        rounding = rounding if mode == "nearest" else ""
        body = f'y = Resize<mode="{mode}"{rounding}>(x, roi, scales)'
        more = {"scale_factor": float(factor), "mode": torch}
        scales = [1.0, 1.0, float(factor), float(factor)]
        yield Case(f"resize {mode} {text(shape)} ·{factor}", body.replace("roi", ""), {"x": shape},
                   "resize", more, constants={"scales": scales},
                   moved=4 * prod(shape) * (1 + factor**2))  # fmt: skip


def attention() -> Iterator[Case]:
    """Softmax(q·kᵀ/√width)·v over heads."""
    for heads, queries, keys, width in ((12, 128, 128, 64), (12, 197, 197, 64), (12, 1, 256, 64),
                                        (8, 1024, 1024, 64)):  # fmt: skip
        body = (
            "t = Transpose<perm=[0, 1, 3, 2]>(k) s = MatMul(q, t) d = Div(s, r) "
            "p = Softmax<axis=-1>(d) y = MatMul(p, v)"
        )
        inputs = {
            "q": (1, heads, queries, width),
            "k": (1, heads, keys, width),
            "v": (1, heads, keys, width),
        }
        yield Case(
            f"{heads} heads {queries}×{keys}×{width}", body, inputs, "attention",
            constants={"r": [width**0.5]}, flops=4 * heads * queries * keys * width,
        )  # fmt: skip


def rnn() -> Iterator[Case]:
    """Recurrent layers over x[steps, sequences, inputs]: taggers, speech, readers of lines."""
    for kind, gates, steps, batch, hidden, ways in (
        ("LSTM", 4, 100, 1, 256, 2), ("LSTM", 4, 100, 1, 64, 1), ("LSTM", 4, 50, 16, 256, 1),
        ("LSTM", 4, 1, 1, 256, 1), ("LSTM", 4, 20, 1, 1024, 1), ("LSTM", 4, 1024, 1, 128, 1),
        ("LSTM", 4, 30, 3, 100, 1), ("GRU", 3, 100, 1, 256, 2), ("GRU", 3, 50, 16, 256, 1),
        ("GRU", 3, 32, 4, 512, 1), ("RNN", 1, 100, 1, 256, 1), ("RNN", 1, 50, 16, 128, 1),
    ):  # fmt: skip
        rows, way = gates * hidden, "bidirectional" if ways == 2 else "forward"
        linear = ", linear_before_reset=1" if kind == "GRU" else ""
        call = f'y = {kind}<hidden_size={hidden}, direction="{way}"{linear}>(x, W, R, B)'
        yield Case(
            f"{kind} {steps}×{batch}×{hidden}{' both ways' if ways == 2 else ''}",
            f"W = Mul(w, s) R = Mul(r, s) B = Mul(b, s) {call}",
            {"x": (steps, batch, hidden)}, "recurrent", {"kind": kind, "hidden": hidden},
            {"w": (ways, rows, hidden), "r": (ways, rows, hidden), "b": (ways, 2 * rows)},
            {"s": [hidden**-0.5]}, flops=4 * steps * batch * ways * rows * hidden,
        )  # fmt: skip


def text(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


FAMILIES: dict[str, Callable[[], Iterator[Case]]] = {
    "gemm": gemm,
    "batched": batched,
    "conv1": conv1,
    "conv3": conv3,
    "depthwise": depthwise,
    "other_conv": other_conv,
    "pool": pool,
    "rows": rows,
    "reductions": reductions,
    "elementwise": elementwise,
    "moves": moves,
    "attention": attention,
    "rnn": rnn,
}
