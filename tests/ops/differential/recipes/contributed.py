"""Recipes of the operators of com.microsoft, held to onnxruntime, which defines them.

Products of quanta are kept from where results overflow; caches are full, since what lies behind
their contents is nobody's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tests.ops.differential.draw import WORDS, Arguments, Draw, limits
from tests.ops.differential.recipes import generation, weights
from tests.ops.differential.recipes.diffusion import (
    bias_add,
    bias_split,
    group_norm,
    nhwc_conv,
    skip_group_norm,
)
from tests.ops.differential.recipes.networks import (
    branch_norm,
    gated_norm,
    linear_attention,
    linear_attention_gate,
    rotary_streams,
)
from tests.ops.differential.recipes.weights import bits, mixture, mixture_of_bits, quanta, table
from tests.ops.differential.recipes.windows import causal_conv

Recipe = Callable[[Draw], Arguments]


def one(draw: Draw, **attributes: Any) -> Arguments:
    """Any tensor."""
    return Arguments([draw.array("T", draw.shape())], attributes)


def with_bias(draw: Draw) -> Arguments:
    shape = draw.shape(1)
    bias = draw.weights("T", shape[-1:])
    is_there = draw.schema.min_input > 1 or draw.chance()
    return Arguments([draw.weights("T", shape), bias if is_there else None])


# ── products ──────────────────────────────────────────────────────────────────────────────────


def fused_mat_mul(draw: Draw) -> Arguments:
    rows, inner, columns = draw.whole(1, 5), draw.whole(1, 5), draw.whole(1, 5)
    lead = draw.shape(0, 2, zero=False)[:2]
    flags = {name: draw.pick((None, 0, 1)) for name in ("transA", "transB")}
    is_moved = bool(lead) and draw.has("transBatchA") and draw.chance(0.3)
    a = [inner, rows] if flags["transA"] else [rows, inner]
    b = [columns, inner] if flags["transB"] else [inner, columns]
    given: dict[str, Any] = {**flags, "alpha": draw.maybe(draw.real)}
    if is_moved:
        shapes = [[x[0], *lead, x[1]] for x in (a, b)]
        given |= {"transBatchA": 1, "transBatchB": 1}
    else:
        shapes = [[*draw.broadcast(lead), *a], [*draw.broadcast(lead), *b]]
    return Arguments([draw.weights("T", shape) for shape in shapes], given)


ACTIVATIONS = {
    "Relu": (), "Sigmoid": (), "Tanh": (), "LeakyRelu": (0.25,), "HardSigmoid": (0.3, 0.4),
}  # fmt: skip


def fused_gemm(draw: Draw) -> Arguments:
    rows, inner, columns = draw.whole(1, 5), draw.whole(1, 5), draw.whole(1, 5)
    activation = draw.pick([*ACTIVATIONS]) if draw.dtype("T").is_float else None
    given: dict[str, Any] = {"activation": activation}
    parameters = ACTIVATIONS[activation] if activation else ()
    given |= zip_named(("activation_alpha", "activation_beta"), parameters)
    given |= {name: draw.pick((None, 0, 1)) for name in ("transA", "transB")}
    given |= {name: draw.maybe(draw.real) for name in ("alpha", "beta")}
    a = (inner, rows) if given["transA"] else (rows, inner)
    b = (columns, inner) if given["transB"] else (inner, columns)
    c = draw.pick(((rows, columns), (columns,), (1, columns), (rows, 1), (1,)))
    addend = draw.maybe(lambda: draw.weights("T", c))
    return Arguments([draw.weights("T", a), draw.weights("T", b), addend], given)


def zip_named(names: tuple[str, ...], values: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(names, values, strict=False))


def fused_conv(draw: Draw) -> Arguments:
    group, channels, filters = draw.whole(1, 2), draw.whole(1, 3), draw.whole(1, 3)
    size = [draw.whole(3, 6), draw.whole(3, 6)]
    taps = [draw.whole(1, 3), draw.whole(1, 3)]
    activation = draw.pick([*ACTIVATIONS, "Clip"])
    parameters = (-0.5, 0.75) if activation == "Clip" else ACTIVATIONS[activation]
    strides, pads = [draw.whole(1, 2), draw.whole(1, 2)], [draw.whole(0, 1) for _ in range(4)]
    given: dict[str, Any] = {"activation": activation, "group": group}
    given |= {"activation_params": list(parameters) or None, "strides": strides, "pads": pads}
    given |= {"kernel_shape": draw.pick((None, taps))}
    batch = draw.whole(1, 2)
    out = [(size[a] + pads[a] + pads[a + 2] - taps[a]) // strides[a] + 1 for a in (0, 1)]
    inputs = [
        draw.weights("T", (batch, group * channels, *size)),
        draw.weights("T", (group * filters, channels, *taps)),
        draw.maybe(lambda: draw.weights("T", (group * filters,))),
        draw.maybe(lambda: draw.weights("T", (batch, group * filters, *out))),
    ]
    return Arguments(inputs, given)


# ── normalizations ────────────────────────────────────────────────────────────────────────────


def simplified(draw: Draw) -> Arguments:
    shape = draw.shape(1, zero=False)
    axis = draw.axis(len(shape))
    given = {"axis": draw.pick((axis, axis, None)), "epsilon": draw.pick((None, 1e-3))}
    own = shape[axis:] if given["axis"] is not None else shape[-1:]
    return Arguments([draw.weights("T", shape), draw.weights("V", own)], given)


def skip_normalization(draw: Draw) -> Arguments:
    batch, length, width = draw.whole(1, 3), draw.whole(1, 4), draw.pick((1, 3, 8, 17))
    shape = (batch, length, width) if draw.chance(0.8) else (length, width)
    skip = draw.pick((shape, shape, (1, *shape[1:]), shape[-2:])) if len(shape) > 2 else shape
    more = [draw.maybe(lambda: draw.weights("T", (width,))) for _ in range(2)]
    inputs = [*(draw.weights("T", s) for s in (shape, skip, (width,))), *more]
    return Arguments(inputs, {"epsilon": draw.pick((None, 1e-3))})


def embedding(draw: Draw) -> Arguments:
    batch, length, width = draw.whole(1, 3), draw.whole(1, 5), draw.pick((1, 4, 9))
    has_segments = draw.chance()

    def numbers(most: int, rows: int = batch) -> Any:
        return draw.rng.integers(0, most, (rows, length)).astype(np.int32)

    ends = draw.rng.integers(1, length + 1, (batch, 1))
    inputs = [
        numbers(7),
        numbers(2) if has_segments else None,
        draw.weights("T", (7, width)),
        draw.weights("T", (6, width)),
        draw.weights("T", (2, width)) if has_segments else None,
        draw.weights("T", (width,)),
        draw.weights("T", (width,)),
        draw.maybe(lambda: (np.arange(length) < ends).astype(np.int32)),
        draw.maybe(lambda: numbers(6, draw.pick((1, batch)))),
    ]
    return Arguments(inputs, {"epsilon": draw.pick((None, 1e-3))}, draw.pick((1, 2, 3)))


# ── quanta ────────────────────────────────────────────────────────────────────────────────────


def a_scale(draw: Draw, shape: tuple[int, ...] = ()) -> Any:
    return np.asarray(draw.rng.uniform(0.01, 0.1, shape), np.float32)


def quantised(draw: Draw, variable: str, shape: tuple[int, ...], *, required: bool) -> list[Any]:
    """Quanta, their scale and their zero point, which may be left out unless ``required``."""
    x, zero = quanta(draw, variable, shape), quanta(draw, variable)
    return [x, a_scale(draw), zero if required or draw.chance(0.7) else None]


def to_quanta(draw: Draw, variable: str, *, required: bool) -> list[Any]:
    """Scale and zero point of the result."""
    return quantised(draw, variable, (), required=required)[1:]


def q_elementwise(draw: Draw) -> Arguments:
    shape = draw.shape(zero=False)
    parts = [quantised(draw, "T", s, required=False) for s in (shape, draw.broadcast(shape))]
    return Arguments([*parts[0], *parts[1], *to_quanta(draw, "T", required=False)])


def q_table(draw: Draw) -> Arguments:
    x = quantised(draw, "T", draw.shape(1, zero=False), required=False)
    alpha = {"alpha": draw.maybe(draw.real)} if draw.has("alpha") else {}
    return Arguments([*x, *to_quanta(draw, "T", required=False)], alpha)


def q_softmax(draw: Draw) -> Arguments:
    shape = draw.shape(1, 3, zero=False)[:4]
    low, _ = limits(draw.dtype("T"))
    ends = [np.float32(1 / 200), np.array(low, draw.dtype("T").numpy)]
    given = {"axis": draw.axis(len(shape)), "opset": draw.pick((11, 13))}
    return Arguments(
        [*quantised(draw, "T", shape, required=False), np.asarray(ends[0]), ends[1]], given
    )


def q_concat(draw: Draw) -> Arguments:
    shape = list(draw.shape(1, 3, zero=False)[:4])
    axis = draw.axis(len(shape))
    inputs = to_quanta(draw, "T8", required=True)
    for _ in range(draw.whole(1, 3)):
        shape[axis] = draw.whole(1, 4)
        inputs += quantised(draw, "T8", tuple(shape), required=True)
    return Arguments(inputs, {"axis": axis})


def q_pool(draw: Draw) -> Arguments:
    last = draw.pick((0, 1))
    places = (draw.whole(2, 6), draw.whole(2, 6))
    channels = draw.whole(1, 5)
    shape = (draw.whole(1, 2), *places, channels) if last else (1, channels, *places)
    inputs = quantised(draw, "T", shape, required=True)
    given: dict[str, Any] = {"channels_last": last}
    if draw.has("kernel_shape"):
        given |= {
            "kernel_shape": [draw.whole(1, 2), draw.whole(1, 2)],
            "ceil_mode": draw.pick((0, 1)),
        }
        given |= {
            "strides": [draw.whole(1, 2), draw.whole(1, 2)],
            "count_include_pad": draw.pick((0, 1)),
        }
    return Arguments([*inputs, *to_quanta(draw, "T", required=True)], given)


def nhwc_max_pool(draw: Draw) -> Arguments:
    shape = (draw.whole(1, 2), draw.whole(3, 6), draw.whole(3, 6), draw.whole(1, 5))
    given = {"kernel_shape": [draw.whole(1, 3), draw.whole(1, 3)], "ceil_mode": draw.pick((0, 1))}
    given |= {"strides": [draw.whole(1, 2), draw.whole(1, 2)]}
    return Arguments([quanta(draw, "T", shape)], given)


def q_conv(draw: Draw) -> Arguments:
    group, channels, filters = draw.pick((1, 1, 2)), draw.whole(1, 4), draw.whole(1, 4)
    size, taps = (draw.whole(3, 6), draw.whole(3, 6)), (draw.whole(1, 3), draw.whole(1, 3))
    last, every = draw.pick((0, 1)), group * filters
    shape = (2, *size, group * channels) if last else (2, group * channels, *size)
    columns = draw.pick(((), (every,)))
    x = quantised(draw, "T1", shape, required=True)
    zero = np.zeros(columns, draw.dtype("T2").numpy)
    w = [quanta(draw, "T2", (every, channels, *taps)), a_scale(draw, columns), zero]
    y = [np.asarray(np.float32(20)), quanta(draw, "T1")]
    bias = draw.maybe(lambda: draw.rng.integers(-500, 500, every).astype(np.int32))
    given = {"channels_last": last, "group": group, "pads": [draw.whole(0, 1) for _ in range(4)]}
    given |= {"strides": [draw.whole(1, 2), draw.whole(1, 2)], "kernel_shape": list(taps)}
    return Arguments([*x, *w, *y, bias], given)


def to_float(draw: Draw) -> Arguments:
    lead, inner, columns = draw.shape(0, 2, zero=False)[:2], draw.whole(1, 20), draw.whole(1, 18)
    each = draw.pick(((), (1,), (columns,)))
    scale = partial(np.asarray, dtype=draw.dtype("T3").numpy)
    inputs = [quanta(draw, "T1", (*lead, 3, inner)), quanta(draw, "T2", (inner, columns))]
    inputs += [scale(a_scale(draw)), scale(a_scale(draw, each))]
    inputs += [draw.maybe(lambda: quanta(draw, "T1")), draw.maybe(lambda: quanta(draw, "T2", each))]
    return Arguments([*inputs, draw.maybe(lambda: draw.weights("T3", (columns,)))])


def dynamic(draw: Draw) -> Arguments:
    inner, columns = draw.whole(1, 20), draw.whole(1, 18)
    each = draw.pick(((1,), (columns,)))
    inputs = [draw.weights("T1", (draw.whole(1, 4), inner)), quanta(draw, "T2", (inner, columns))]
    inputs += [a_scale(draw, each), draw.maybe(lambda: quanta(draw, "T2", each))]
    return Arguments([*inputs, draw.maybe(lambda: draw.weights("T1", (columns,)))])


def quantised_embedding(draw: Draw) -> Arguments:
    plain = embedding(draw)
    ids, tables, mask = plain.inputs[:2], plain.inputs[2:7], plain.inputs[7]
    bytes_of = [None if x is None else quanta(draw, "T2", x.shape) for x in tables]
    scales = [None if x is None else a_scale(draw) for x in tables]
    zeros = [None if x is None else quanta(draw, "T2") for x in tables]
    return Arguments([*ids, *bytes_of, mask, *scales, *zeros], plain.attributes, 2)


def chosen(draw: Draw) -> Arguments:
    shape = draw.shape(1, 3, zero=False)[:3]
    inputs = [draw.rng.random(shape) < 0.5]
    for _ in range(2):
        inputs += [quanta(draw, "T", shape), a_scale(draw), quanta(draw, "T")]
    return Arguments([*inputs, a_scale(draw), quanta(draw, "T")])


def q_gemm(draw: Draw) -> Arguments:
    rows, inner, columns = draw.whole(1, 5), draw.whole(1, 20), draw.whole(1, 18)
    given: dict[str, Any] = {name: draw.pick((None, 0, 1)) for name in ("transA", "transB")}
    given |= {"alpha": draw.pick((None, 0.5))}
    a = (inner, rows) if given["transA"] else (rows, inner)
    b = (columns, inner) if given["transB"] else (inner, columns)
    each = draw.pick(((), (columns,)))
    inputs = [quanta(draw, "TA", a), a_scale(draw), quanta(draw, "TA")]
    inputs += [quanta(draw, "TB", b), a_scale(draw, each), quanta(draw, "TB", each)]
    inputs.append(draw.maybe(lambda: draw.rng.integers(-500, 500, columns).astype(np.int32)))
    if draw.chance():
        inputs += [np.asarray(np.float32(8)), quanta(draw, "TA")]
    return Arguments(inputs, given)


def quantize(draw: Draw) -> Arguments:
    shape = draw.shape(1, 3, zero=False)[:4]
    axis = draw.axis(len(shape)) if draw.chance() else None
    each = () if axis is None else (shape[axis],)
    scale = np.asarray(2.0 ** draw.rng.integers(-3, 2, each), draw.dtype("T1").numpy)
    zero = quanta(draw, "T2", each)
    return Arguments([draw.weights("T1", shape), scale, zero], {"axis": axis})


def dequantize(draw: Draw) -> Arguments:
    shape = draw.shape(1, 3, zero=False)[:4]
    axis = draw.axis(len(shape)) if draw.chance() else None
    each = () if axis is None else (shape[axis],)
    scale = np.asarray(2.0 ** draw.rng.integers(-3, 2, each), draw.dtype("T2").numpy)
    low, _ = limits(draw.dtype("T1"))
    zero = None if low < -40000 else draw.maybe(lambda: quanta(draw, "T1", each))
    return Arguments([quanta(draw, "T1", shape), scale, zero], {"axis": axis})


def lstm(draw: Draw) -> Arguments:
    steps, batch, width, size = (draw.whole(1, 4) for _ in range(4))
    direction = draw.pick(("forward", "reverse", "bidirectional"))
    count = 1 + (direction == "bidirectional")
    each = draw.pick(((count,), (count, 4 * size)))
    middle = 128 if draw.dtype("T2").name == "uint8" else 0

    def stored(rows: int) -> list[Any]:
        scale = np.asarray(draw.rng.uniform(0.002, 0.007, each), np.float32)
        zero = np.full(each, middle, draw.dtype("T2").numpy)
        return [quanta(draw, "T2", (count, rows, 4 * size)), scale, zero]

    w, r = stored(width), stored(size)
    lengths = draw.rng.integers(1, steps + 1, batch).astype(np.int32)
    more = [
        draw.maybe(lambda: draw.weights("T", (count, 8 * size))),
        draw.maybe(lambda: lengths),
        *(draw.maybe(lambda: draw.weights("T", (count, batch, size))) for _ in range(2)),
        draw.maybe(lambda: draw.weights("T", (count, 3 * size))),
    ]
    x = draw.weights("T", (steps, batch, width))
    given = {"hidden_size": size, "direction": direction}
    return Arguments([x, w[0], r[0], *more, *w[1:], *r[1:]], given, 3)


# ── attention ─────────────────────────────────────────────────────────────────────────────────


def padding(draw: Draw, batch: int, keys: int) -> Any:
    """A mask in one of its forms; every query sees a key."""
    ends = draw.rng.integers(1, keys + 1, batch).astype(np.int32)
    return draw.pick((None, ends, (np.arange(keys) < ends[:, None]).astype(np.int32)))


def projected(draw: Draw) -> Arguments:
    batch, length, heads = draw.whole(1, 2), draw.whole(1, 4), draw.pick((1, 2))
    size, width, past = draw.pick((4, 5)), draw.whole(1, 5), draw.pick((0, 0, 3))
    total = past + length
    flags: dict[str, Any] = {"num_heads": heads, "unidirectional": draw.pick((None, 0, 1))}
    flags |= {"scale": draw.pick((None, 0.3))}
    inputs = [
        draw.weights("T", (batch, length, width)),
        draw.weights("T", (width, 3 * heads * size)),
        draw.weights("T", (3 * heads * size,)) if draw.chance(0.8) else None,
        padding(draw, batch, total),
        draw.weights("T", (2, batch, heads, past, size)) if past else None,
        draw.maybe(lambda: draw.weights("T", (batch, heads, length, total))),
    ]
    return Arguments(inputs, flags, 2 if past else 1)


def q_projected(draw: Draw) -> Arguments:
    batch, length, heads = draw.whole(1, 2), draw.whole(1, 4), draw.pick((1, 2))
    size, width, past = draw.pick((4, 5)), draw.whole(1, 9), draw.pick((0, 0, 3))
    columns = 3 * heads * size
    each = draw.pick(((), (columns,)))
    scale = partial(np.asarray, dtype=draw.dtype("T3").numpy)
    inputs = [
        quanta(draw, "T1", (batch, length, width)),
        quanta(draw, "T2", (width, columns)),
        draw.weights("T3", (columns,)),
        scale(np.float32(0.01)),
        scale(draw.rng.uniform(0.001, 0.01, each)),
        None if past else draw.rng.integers(1, length + 1, batch).astype(np.int32),
        quanta(draw, "T1"),
        quanta(draw, "T2", each),
        draw.weights("T3", (2, batch, heads, past, size)) if past else None,
    ]
    flags = {"num_heads": heads, "unidirectional": 1 if past else draw.pick((None, 0, 1))}
    return Arguments(inputs, flags, 2 if past else 1)


def multi_head(draw: Draw) -> Arguments:
    batch, length, heads = draw.whole(1, 2), draw.whole(1, 4), draw.pick((1, 2, 3))
    size, past = draw.pick((4, 8)), draw.pick((0, 0, 3))
    keys = length if past or draw.chance() else draw.whole(1, 6)
    flags: dict[str, Any] = {"num_heads": heads, "scale": draw.pick((None, 0.3))}
    flags["unidirectional"] = draw.pick((None, 0, 1)) if keys == length else 0
    wide = heads * size
    cache = (batch, heads, past, size)
    inputs = [
        draw.weights("T", (batch, length, wide)),
        draw.weights("T", (batch, keys, wide)),
        draw.weights("T", (batch, keys, wide)),
        draw.maybe(lambda: draw.weights("T", (3 * wide,))),
        padding(draw, batch, past + keys),
        draw.maybe(lambda: draw.weights("T", (draw.pick((1, batch)), heads, length, past + keys))),
        *([draw.weights("T", cache), draw.weights("T", cache)] if past else []),
    ]
    return Arguments(inputs, flags, 3 if past else 1)


def group_query(draw: Draw) -> Arguments:
    batch, groups, share = draw.whole(1, 2), draw.pick((1, 2)), draw.pick((1, 2, 3))
    heads, size = groups * share, 16
    past = draw.pick((0, 5))
    length = 1 if past else draw.whole(1, 5)
    total = past + length
    flags: dict[str, Any] = {"num_heads": heads, "kv_num_heads": groups}
    flags |= {"scale": draw.pick((None, 0.3)), "softcap": draw.pick((None, 2.0))}
    flags |= {"local_window_size": draw.pick((None, 2)), "smooth_softmax": draw.pick((None, 0, 1))}
    tables = [draw.weights("T", (8, size // 2)) for _ in range(2)] if draw.chance() else [None] * 2
    if tables[0] is not None:
        flags |= {"do_rotary": 1, "rotary_interleaved": draw.pick((None, 0, 1))}
    counts = [heads, groups, groups]
    new = [draw.weights("T", (batch, length, count * size)) for count in counts]
    if draw.chance(0.3):
        new = [np.concatenate(new, axis=2), None, None]
    cache = [draw.weights("T", (batch, groups, past, size)) if past else None for _ in range(2)]
    seen = [np.full(batch, total - 1, np.int32), np.array(total, np.int32)]
    bias = draw.weights("T", (draw.pick((1, batch)), draw.pick((1, heads)), length, total))
    sink = draw.weights("T", (heads,)) if draw.chance(0.3) else None
    more = [None, bias if draw.chance(0.3) else None, sink]
    return Arguments([*new, *cache, *seen, *tables, *more], flags, 3)


def rotary(draw: Draw) -> Arguments:
    batch, length, heads, size = draw.whole(1, 2), draw.whole(1, 4), draw.whole(1, 3), 8
    shape = draw.pick(((batch, heads, length, size), (batch, length, heads * size)))
    places = draw.rng.integers(0, 5, draw.pick(((1,), (batch, length))))
    tables = [draw.weights("T", (10, size // 2)) for _ in range(2)]
    return Arguments(
        [draw.weights("T", shape), places, *tables], {"interleaved": draw.pick((None, 0, 1))}
    )


# ── tensors, images, texts ────────────────────────────────────────────────────────────────────


def expand_dims(draw: Draw) -> Arguments:
    shape = draw.shape()
    axis = np.array(draw.axis(len(shape) + 1), np.int32)
    return Arguments([draw.array("T", shape), axis.reshape(draw.pick(((), (1,))))])


def counted(draw: Draw) -> Arguments:
    dtype = draw.dtype("T").numpy
    start, limit = (np.array(draw.whole(-5, 9), dtype) for _ in range(2))
    return Arguments([start, limit, draw.maybe(lambda: np.array(draw.pick((1, 2, 3)), dtype))])


def triangle(draw: Draw) -> Arguments:
    k = draw.maybe(lambda: np.array(draw.whole(-4, 4), np.int64))
    return Arguments([draw.array("T", draw.shape(2)), k], {"upper": draw.pick((None, 0, 1))})


def unique(draw: Draw) -> Arguments:
    return Arguments([draw.weights("T", (draw.whole(1, 30),))], {}, 3)


def inverse(draw: Draw) -> Arguments:
    rows, lead = draw.whole(1, 6), draw.shape(0, 2, zero=False)[:2]
    own = np.eye(rows) * draw.pick((5.0, 8.0))
    x = draw.rng.standard_normal((*lead, rows, rows)) + own[draw.rng.permutation(rows)]
    return Arguments([x.astype(draw.dtype("T").numpy)])


def distances(draw: Draw) -> Arguments:
    width = draw.whole(1, 9)
    inputs = [draw.weights("T", (draw.whole(1, 5), width)) for _ in range(2)]
    return Arguments(inputs, {"metric": draw.pick((None, "sqeuclidean", "euclidean"))})


def crop(draw: Draw) -> Arguments:
    shape = (draw.whole(1, 2), draw.whole(1, 3), draw.whole(1, 6), draw.whole(1, 6))
    count = draw.whole(1, 3)
    rois = draw.rng.uniform(-0.2, 1.2, (count, 4)).astype(draw.dtype("T1").numpy)
    ids = draw.rng.integers(0, shape[0], count).astype(np.int32)
    size = np.array([draw.whole(1, 4), draw.whole(1, 4)], np.int32)
    given: dict[str, Any] = {"mode": draw.pick((None, "bilinear", "nearest"))}
    given |= {"extrapolation_value": draw.maybe(draw.real)}
    return Arguments([draw.weights("T1", shape), rois, ids, size], given)


def hashed(draw: Draw) -> Arguments:
    given = {"seed": draw.pick((None, 0, 7)), "positive": draw.pick((None, 0, 1))}
    return Arguments([draw.weights("T1", draw.shape(1, zero=False))], given)


def tokens(draw: Draw) -> Arguments:
    texts = draw.rng.choice(
        np.array([*WORDS, "a, b;c", "10 20  zz"], object), draw.pick(((3,), (2, 2)))
    )
    rule: dict[str, Any] = draw.pick(
        ({"separators": [" "]}, {"separators": ["[ ,;]+"]}, {"tokenexp": "[a-z]+"})
    )
    given: dict[str, Any] = {
        "mark": draw.pick((0, 1)),
        "mincharnum": draw.whole(1, 2),
        "pad_value": "#",
    }
    return Arguments([texts], given | rule)


def words(draw: Draw) -> Arguments:
    width, size, filters = draw.whole(1, 3), draw.whole(1, 5), draw.whole(1, 5)
    length = width + draw.whole(0, 4)
    texts = draw.rng.integers(0, 9, (draw.whole(1, 4), length))
    texts[:, 0] += 1
    shapes = (filters, 1, width, size), (filters,), (10, size)
    inputs = [texts.astype(np.int32), *(draw.weights("T1", shape) for shape in shapes)]
    return Arguments(inputs, {"embedding_size": draw.pick((None, filters))})


RECIPES: dict[str, Recipe] = {
    "Attention": projected,
    "BiasAdd": bias_add,
    "BiasGelu": with_bias,
    "BiasSplitGelu": bias_split,
    "BifurcationDetector": generation.bifurcation,
    "BranchwiseRMSNorm": branch_norm,
    "CausalConvWithState": causal_conv,
    "CDist": distances,
    "CropAndResize": crop,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLSTM": lstm,
    "DynamicQuantizeMatMul": dynamic,
    "EmbedLayerNormalization": embedding,
    "ExpandDims": expand_dims,
    "FastGelu": with_bias,
    "FusedConv": fused_conv,
    "FusedGemm": fused_gemm,
    "FusedMatMul": fused_mat_mul,
    "GatedRMSNorm": gated_norm,
    "GatherBlockQuantized": table,
    "GatherND": generation.parts,
    "Gelu": one,
    "GridSample": generation.sampled,
    "GroupNorm": group_norm,
    "GroupQueryAttention": group_query,
    "Inverse": inverse,
    "LinearAttention": linear_attention,
    "LinearAttentionGate": linear_attention_gate,
    "MatMulBnb4": weights.normal_bits,
    "MatMulIntegerToFloat": to_float,
    "MatMulNBits": bits,
    "MoE": mixture,
    "MRotaryEmbedding": rotary_streams,
    "MultiHeadAttention": multi_head,
    "MurmurHash3": hashed,
    "NGramRepeatBlock": generation.repeats,
    "NhwcConv": nhwc_conv,
    "NhwcMaxPool": nhwc_max_pool,
    "Pad": generation.margins,
    "QAttention": q_projected,
    "QEmbedLayerNormalization": quantised_embedding,
    "QGemm": q_gemm,
    "QLinearAdd": q_elementwise,
    "QLinearAveragePool": q_pool,
    "QLinearConcat": q_concat,
    "QLinearConv": q_conv,
    "QLinearGlobalAveragePool": q_pool,
    "QLinearLeakyRelu": q_table,
    "QLinearMul": q_elementwise,
    "QLinearSigmoid": q_table,
    "QLinearSoftmax": q_softmax,
    "QLinearWhere": chosen,
    "QMoE": mixture_of_bits,
    "QuantizeLinear": quantize,
    "QuickGelu": lambda draw: one(draw, alpha=draw.maybe(draw.real)),
    "Range": counted,
    "RotaryEmbedding": rotary,
    "SimplifiedLayerNormalization": simplified,
    "SkipGroupNorm": skip_group_norm,
    "SkipLayerNormalization": skip_normalization,
    "SkipSimplifiedLayerNormalization": skip_normalization,
    "Tokenizer": tokens,
    "TransposeMatMul": fused_mat_mul,
    "Trilu": triangle,
    "UnfoldTensor": generation.unfolded,
    "Unique": unique,
    "WordConvEmbedding": words,
}
"""By name; some are names of the standard, too."""
