"""Recipes of attention, quantization, losses and optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fornix.dtype import DType
from tests.ops.differential.draw import Arguments, Draw, limits

Recipe = Callable[[Draw], Arguments]


def attention(draw: Draw) -> Arguments:
    batch, queries, keys = draw.whole(1, 2), draw.whole(1, 4), draw.whole(1, 4)
    heads = draw.pick((1, 2, 4))
    kv_heads = draw.pick([n for n in (1, 2, 4) if heads % n == 0])
    width, value_width = draw.pick((2, 4)), draw.pick((2, 3))
    given: dict[str, Any] = {
        "is_causal": draw.pick((None, 0, 1)),
        "scale": draw.maybe(lambda: draw.real(0.2, 1.5)),
        "softcap": draw.pick((None, None, 2.0)),
    }
    past = draw.whole(1, 3) if draw.chance(0.3) else 0
    t1, t2 = "T1", "T2"
    if draw.chance(0.4):
        given |= {"q_num_heads": heads, "kv_num_heads": kv_heads}
        q = draw.weights(t1, (batch, queries, heads * width))
        k = draw.weights(t1, (batch, keys, kv_heads * width))
        v = draw.weights(t2, (batch, keys, kv_heads * value_width))
    else:
        q = draw.weights(t1, (batch, heads, queries, width))
        k = draw.weights(t1, (batch, kv_heads, keys, width))
        v = draw.weights(t2, (batch, kv_heads, keys, value_width))
    mask = None
    if draw.chance(0.4):
        shape = draw.pick(((queries, keys + past), (batch, 1, queries, keys + past)))
        dtype = draw.dtype("U")
        if dtype.kind == "bool":
            mask = np.asarray(draw.rng.random(shape) < 0.8)
        elif dtype.is_float:
            mask = draw.weights("U", shape)
    inputs = [q, k, v, mask]
    if past:
        inputs += [
            draw.weights(t1, (batch, kv_heads, past, width)),
            draw.weights(t2, (batch, kv_heads, past, value_width)),
        ]
    outputs = draw.pick((1, 3)) if past else 1
    return Arguments(inputs, given, outputs)


def linear_attention(draw: Draw) -> Arguments:
    batch, steps, groups = draw.whole(1, 2), draw.whole(1, 5), draw.whole(1, 2)
    heads, size, width = groups * draw.whole(1, 2), draw.whole(1, 4), draw.whole(1, 3)
    rule = draw.pick(("linear", "gated", "delta", "gated_delta"))
    inputs = [
        draw.weights("T", (batch, steps, heads * size)),
        draw.weights("T", (batch, steps, groups * size)),
        draw.weights("T", (batch, steps, groups * width)),
        draw.maybe(lambda: draw.weights("S", (batch, groups, size, width))),
    ]
    per_head, own = (batch, steps, groups), (batch, steps, groups * size)
    fades = -np.abs(draw.weights("T", draw.pick((per_head, own))))
    inputs.append(fades if rule.startswith("gated") else None)
    rates = np.asarray(draw.rng.random(draw.pick((per_head, (batch, steps, 1)))))
    inputs.append(rates.astype(fades.dtype) if rule.endswith("delta") else None)
    given = {"q_num_heads": heads, "kv_num_heads": groups, "update_rule": rule}
    given |= {"scale": draw.pick((None, 0.5)), "chunk_size": draw.pick((None, 2))}
    return Arguments(inputs, given, 2)


def linear_attention_gate(draw: Draw) -> Arguments:
    shape = draw.shape(1)
    inputs = [draw.weights("T", shape), *(draw.weights("TF", shape[-1:]) for _ in range(2))]
    inputs += [draw.weights("T", shape)] if draw.chance() else []
    return Arguments(inputs, {}, 2 if len(inputs) > 3 else 1)


def gated_norm(draw: Draw) -> Arguments:
    width = draw.whole(1, 9)
    shape = (*draw.shape(0, 2), width * draw.whole(1, 3))
    given: dict[str, Any] = {"activation": draw.pick((None, "silu", "swish", "sigmoid"))}
    given |= {"epsilon": draw.pick((None, 0.5))}
    return Arguments([draw.weights("T", extents) for extents in (shape, (width,), shape)], given)


def branch_norm(draw: Draw) -> Arguments:
    count, width = draw.whole(1, 3), draw.whole(1, 9)
    is_flat = draw.chance()
    shape = (*draw.shape(0, 2), *([count * width] if is_flat else [count, width]))
    scale = draw.pick((None, (count * width,), (count, width), (width,)))
    inputs = [draw.weights("T", shape), *([] if scale is None else [draw.weights("M", scale)])]
    given = {"num_branches": count if is_flat else None, "epsilon": draw.pick((None, 0.5))}
    return Arguments(inputs, given)


def rotary_streams(draw: Draw) -> Arguments:
    batch, length, heads = draw.whole(1, 2), draw.whole(1, 3), draw.whole(1, 2)
    section = [draw.whole(0, 2), draw.whole(0, 2), draw.whole(1, 2)]
    half = sum(section)
    shape = draw.pick(((batch, heads, length, 2 * half), (batch, length, heads * 2 * half)))
    flags = ("interleaved", "mrope_layout")
    given: dict[str, Any] = {name: draw.pick((None, 0, 1)) for name in flags}
    given |= {"num_heads": heads, "rotary_embedding_dim": 2 * half, "mrope_section": section}
    tables = [draw.weights("T", (7, half)) for _ in range(2)]
    places = draw.rng.integers(0, 7, (3, batch, length))
    return Arguments([draw.weights("T", shape), places, *tables], given)


def flex_attention(draw: Draw) -> Arguments:
    batch, heads = draw.whole(1, 2), draw.pick((1, 2, 4))
    groups = draw.pick([n for n in (1, 2, 4) if heads % n == 0])
    queries, keys, size = draw.whole(1, 4), draw.whole(1, 4), draw.whole(1, 4)
    shapes = ((heads, queries, size), (groups, keys, size), (groups, keys, draw.whole(1, 3)))
    inputs = [draw.weights("T1", (batch, *shape)) for shape in shapes]
    given = {"scale": draw.maybe(lambda: draw.real(0.2, 1.5))}
    given |= {"softmax_precision": draw.pick((None, 1))}
    return Arguments(inputs, given)


def rotary(draw: Draw) -> Arguments:
    batch, length, heads = draw.whole(1, 2), draw.whole(1, 4), draw.whole(1, 3)
    size = draw.pick((4, 8))
    rotated = draw.pick((0, 0, 4))
    half = (rotated or size) // 2
    given: dict[str, Any] = {
        "interleaved": draw.pick((None, 0, 1)),
        "rotary_embedding_dim": rotated,
    }
    if draw.chance():
        x = draw.weights("T", (batch, heads, length, size))
    else:
        x = draw.weights("T", (batch, length, heads * size))
        given["num_heads"] = heads
    if draw.chance():
        places = draw.rng.integers(0, 6, (batch, length))
        tables = [draw.weights("T", (6, half)) for _ in range(2)]
        return Arguments([x, *tables, places], given)
    tables = [draw.weights("T", (batch, length, half)) for _ in range(2)]
    return Arguments([x, *tables], given)


def scale_like(draw: Draw, variable: str, shape: tuple[int, ...]) -> Any:
    """Positive scales, powers of 2 so that quotients have no ties but exact ones."""
    exponents = draw.rng.integers(-2, 2, shape)
    return np.asarray(2.0**exponents).astype(draw.dtype(variable).numpy)


def quantize(draw: Draw) -> Arguments:
    variables = [formal.type_text for formal in draw.schema.inputs]
    shape = draw.shape(1, 3, zero=False)
    target = draw.dtype(variables[2])
    given: dict[str, Any] = {}
    scales: tuple[int, ...] = ()
    if draw.has("axis") and draw.chance():
        axis = draw.axis(len(shape))
        given["axis"] = axis
        scales = (shape[axis],)
        if draw.has("block_size") and draw.chance(0.4):
            blocks = draw.whole(1, 2)
            size = draw.whole(1, 3)
            shape = tuple(
                blocks * size if i == axis % len(shape) else n for i, n in enumerate(shape)
            )
            scales = tuple(blocks if i == axis % len(shape) else n for i, n in enumerate(shape))
            given["block_size"] = size
    x = draw.weights(variables[0], shape)
    scale = scale_like(draw, variables[1], scales)
    if scale.dtype.kind == "i":
        scale = np.asarray(np.maximum(scale, 1), scale.dtype)
    zero = (
        None if draw.chance(0.3) and target.text == "uint8" else _zero_point(draw, target, scales)
    )
    if target.text.startswith("float8"):
        given["saturate"] = draw.pick((None, 1))
    return Arguments([x, scale, zero], given)


def _zero_point(draw: Draw, target: DType, shape: tuple[int, ...]) -> Any:
    """Zero points; those of floats are 0."""
    if target.kind not in {"int", "uint"}:
        return np.zeros(shape).astype(target.numpy)
    least, most = limits(target)
    least, most = max(least, -5), min(most, 5)
    if target.bits == 32:
        least = most = 0
    return np.asarray(draw.rng.integers(least, most + 1, shape)).astype(target.numpy)


def dequantize(draw: Draw) -> Arguments:
    variables = [formal.type_text for formal in draw.schema.inputs]
    source = draw.dtype(variables[0])
    shape = draw.shape(1, 3, zero=False)
    given: dict[str, Any] = {}
    scales: tuple[int, ...] = ()
    if draw.has("axis") and draw.chance():
        axis = draw.axis(len(shape))
        given["axis"] = axis
        scales = (shape[axis],)
        if draw.has("block_size") and draw.chance(0.4):
            blocks, size = draw.whole(1, 2), draw.whole(1, 3)
            shape = tuple(
                blocks * size if i == axis % len(shape) else n for i, n in enumerate(shape)
            )
            scales = tuple(blocks if i == axis % len(shape) else n for i, n in enumerate(shape))
            given["block_size"] = size
    scale_variable = variables[1] if variables[1] in draw.dtypes else "tensor(float)"
    x = draw.weights(variables[0], shape)
    if draw.has("output_dtype"):  # scales of float8e8m0 are no numbers to compute with
        types = (None, 1, 10) if draw.dtype(scale_variable).text != "float8e8m0" else (1, 10, 16)
        given["output_dtype"] = draw.pick(types)
    zero = draw.maybe(lambda: _zero_point(draw, source, scales))
    return Arguments([x, scale_like(draw, scale_variable, scales), zero], given)


def dynamic_quantize(draw: Draw) -> Arguments:
    return Arguments([draw.weights("T1", draw.shape(1, zero=False))], {}, 3)


def matmul_integer(draw: Draw) -> Arguments:
    m, k, n = (draw.whole(1, 4) for _ in range(3))
    a, b = draw.array("T1", (m, k)), draw.array("T2", (k, n))
    zeros = [draw.weights(v) if draw.chance() else None for v in ("T1", "T2")]
    if draw.chance(0.2):
        zeros[1] = draw.weights("T2", (n,))
    return Arguments([a, b, *zeros])


def qlinear_matmul(draw: Draw) -> Arguments:
    m, k, n = (draw.whole(1, 4) for _ in range(3))
    scale = "TS" if draw.opset >= 21 else "tensor(float)"

    def zero_of(variable: str) -> Any:
        return _zero_point(draw, draw.dtype(variable), ())

    inputs = [
        draw.weights("T1", (m, k)), scale_like(draw, scale, ()), zero_of("T1"),
        draw.weights("T2", (k, n)), scale_like(draw, scale, ()), zero_of("T2"),
        scale_like(draw, scale, ()), zero_of("T3"),
    ]  # fmt: skip
    return Arguments(inputs)


def conv_integer(draw: Draw) -> Arguments:
    group = draw.pick((1, 1, 2))
    x = draw.array("T1", (draw.whole(1, 2), 2 * group, draw.whole(3, 5), draw.whole(3, 5)))
    w = draw.array("T2", (group * draw.whole(1, 2), 2, draw.whole(1, 3), draw.whole(1, 3)))
    given = {"group": group, "pads": draw.maybe(lambda: [1, 0, 0, 1])}
    given["strides"] = draw.maybe(lambda: [1, 2])
    zeros = [draw.maybe(lambda: draw.weights("T1")), None]
    return Arguments([x, w, *zeros], given)


def qlinear_conv(draw: Draw) -> Arguments:
    x = draw.weights("T1", (1, 2, draw.whole(3, 5), draw.whole(3, 5)))
    w = draw.weights("T2", (2, 2, draw.whole(1, 3), draw.whole(1, 3)))
    per_filter = draw.chance()
    real = "tensor(float)"
    inputs = [
        x, scale_like(draw, real, ()), draw.weights("T1"),
        w, scale_like(draw, real, (2,) if per_filter else ()),
        np.zeros((2,) if per_filter else (), w.dtype),
        scale_like(draw, real, ()), draw.weights("T3"),
        draw.maybe(lambda: draw.weights("T4", (2,))),
    ]  # fmt: skip
    return Arguments(inputs, {"pads": draw.maybe(lambda: [1, 0, 0, 1])})


def loss(draw: Draw) -> Arguments:
    n, c = draw.whole(1, 3), draw.whole(1, 4)
    rest = draw.shape(0, 2, zero=False)
    x = draw.weights("T", (n, c, *rest))
    target = draw.rng.integers(0, c, (n, *rest)).astype(draw.dtype("Tind").numpy)
    given: dict[str, Any] = {"reduction": draw.pick((None, "none", "sum", "mean"))}
    if draw.chance(0.4):
        given["ignore_index"] = draw.pick((0, -1, c))
        ignored = draw.rng.random(target.shape) < 0.4
        if not ignored.all():
            target = np.asarray(np.where(ignored, given["ignore_index"], target), target.dtype)
    weights = draw.maybe(lambda: np.abs(draw.weights("T", (c,))) + 1)
    weights = None if weights is None else weights.astype(x.dtype)
    outputs = draw.whole(1, 2) if draw.schema.name.startswith("Softmax") else 1
    return Arguments([x, target, weights], given, outputs)


def optimizer(draw: Draw) -> Arguments:
    count = draw.whole(1, 2)
    states = {"Adagrad": 1, "Adam": 2, "Momentum": 1}[draw.schema.name]
    shapes = [draw.shape(0, 2, zero=False) for _ in range(count)]
    groups = [[draw.weights("T3", s) for s in shapes] for _ in range(2)]
    groups += [[np.abs(draw.weights("T3", s)) for s in shapes] for _ in range(states)]
    rate = np.asarray(0.125, draw.dtype("T1").numpy)
    step = np.asarray(draw.whole(0, 3), np.int64)
    given: dict[str, Any] = {
        "norm_coefficient": draw.real(0, 0.2),
        "epsilon": draw.maybe(lambda: draw.real(1e-5, 1e-2)),
        "decay_factor": draw.maybe(lambda: draw.real(0, 0.5)),
        "norm_coefficient_post": draw.maybe(lambda: draw.real(0, 0.2)),
    }
    if draw.schema.name == "Momentum":
        given |= {"alpha": draw.real(0.5, 0.95), "beta": draw.real(0.5, 0.95)}
        given["mode"] = draw.pick(("standard", "nesterov"))
    values = [np.asarray(v) for group in groups for v in group]
    return Arguments([rate, step, *values], given, count * (1 + states))


RECIPES: dict[str, Recipe] = {
    "Adagrad": optimizer,
    "Adam": optimizer,
    "Attention": attention,
    "ConvInteger": conv_integer,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": dynamic_quantize,
    "FlexAttention": flex_attention,
    "LinearAttention": linear_attention,
    "MatMulInteger": matmul_integer,
    "Momentum": optimizer,
    "NegativeLogLikelihoodLoss": loss,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": quantize,
    "RotaryEmbedding": rotary,
    "SoftmaxCrossEntropyLoss": loss,
}
