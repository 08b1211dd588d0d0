from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from onnx import parser

import fornix
from fornix.dtype import DType
from fornix.format.text import parse_model
from fornix.reference import ReferenceEvaluator
from tests.compare import assert_same

HEAD = '<ir_version: 8, opset_import: ["" : {}]>\n'
Arrays = dict[str, np.ndarray[Any, Any]]


def kinds(text: str, feeds: Arrays, opset: int = 18) -> list[str]:
    """The schedules of the kernels of a model, whose results are those of its NumPy kernels.

    Each once, if kernels in a row have it: a second one puts the parts of many keys together.
    """
    model = parser.parse_model(HEAD.format(opset) + text)
    session = fornix.InferenceSession(model.SerializeToString())
    wanted = ReferenceEvaluator(model).run(None, feeds)
    for found, one in zip(session.run(None, feeds), wanted, strict=True):
        assert_same(found, one, rtol=1e-5, atol=1e-5)
    every = [entry.kind for entry in session.profile(feeds, 1).entries]
    return [kind for kind, _ in itertools.groupby(every)]


def arrays(rng: np.random.Generator, **shapes: tuple[int, ...]) -> Arrays:
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("queries", [1, 70])
def test_scale_and_mask_on_either_side(queries: int, rng: np.random.Generator) -> None:
    feeds = arrays(rng, q=(2, 3, queries, 8), k=(2, 3, 90, 8), v=(2, 3, 90, 8), m=(queries, 90))
    assert kinds(
        """f (float[B, 3, S, 8] q, float[B, 3, T, 8] k, float[B, 3, T, 8] v, float[S, T] m)
        => (float[B, 3, S, 8] y) {
            c = Constant <value_float = 0.6> ()
            t = Transpose <perm = [0, 1, 3, 2]> (k)
            a = Mul (q, c)
            b = Mul (t, c)
            s = MatMul (a, b)
            d = Add (s, m)
            w = Softmax (d)
            n = IsNaN (w)
            z = Constant <value_float = 0.0> ()
            x = Where (n, z, w)
            y = MatMul (x, v)
        }""",
        feeds,
    ) == ["attention"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_masks_of_halves_hide_whole_rows(dtype: str, rng: np.random.Generator) -> None:
    given = arrays(rng, q=(3, 20, 8), k=(3, 90, 8), v=(3, 90, 8), m=(20, 90))
    given["m"][3:5] = -np.inf
    kind = DType.of(dtype).numpy
    feeds = {name: x.astype(kind) for name, x in given.items()}
    scale = int(np.array(0.375, kind).view(np.uint16))
    text = f"""<ir_version: 8, opset_import: ["" : 20]>
    f ({dtype}[3, S, 8] q, {dtype}[3, T, 8] k, {dtype}[3, T, 8] v, {dtype}[S, T] m)
    => ({dtype}[3, S, 8] y) <{dtype} zero = {{0}}, {dtype} c = {{{scale}}}> {{
        t = Transpose <perm = [0, 2, 1]> (k)
        s = MatMul (q, t)
        a = Mul (s, c)
        d = Add (a, m)
        w = Softmax (d)
        n = IsNaN (w)
        x = Where (n, zero, w)
        y = MatMul (x, v)
    }}"""
    session = fornix.InferenceSession(parse_model(text).SerializeToString())
    wide = {name: x.astype(np.float64) for name, x in feeds.items()}
    scores = 0.375 * wide["q"] @ wide["k"].swapaxes(1, 2) + wide["m"]
    weights = np.exp(scores - np.maximum(scores.max(-1, keepdims=True), -1e9))
    means = weights @ wide["v"] / np.maximum(weights.sum(-1, keepdims=True), 1e-9)
    (found,) = session.run(None, feeds)
    np.testing.assert_allclose(found.astype(np.float64), means, rtol=0, atol=0.02)
    assert not found[:, 3:5].any()
    assert session.profile(feeds, 1).entries[-1].kind == "attention"


def test_three_axes_and_no_batch(rng: np.random.Generator) -> None:
    text = """f (float[{0}S, 8] q, float[{0}T, 8] k, float[{0}T, 8] v) => (float[{0}S, 8] y) {{
        t = Transpose <perm = [{1}]> (k)
        s = MatMul (q, t)
        r = Constant <value_float = 2.8> ()
        d = Div (s, r)
        w = Softmax <axis = -1> (d)
        y = MatMul (w, v)
    }}"""
    feeds = arrays(rng, q=(6, 30, 8), k=(6, 40, 8), v=(6, 40, 8))
    assert kinds(text.format("B, ", "0, 2, 1"), feeds) == ["attention"]
    feeds = {name: array[0] for name, array in feeds.items()}
    assert kinds(text.format("", "1, 0"), feeds) == ["attention"]


def test_repeated_heads_are_read_once(rng: np.random.Generator) -> None:
    feeds = arrays(rng, q=(1, 6, 5, 8), k=(1, 2, 33, 8), v=(1, 2, 33, 8))
    found = kinds(
        """f (float[B, 6, S, 8] q, float[B, 2, T, 8] k, float[B, 2, T, 8] v)
        => (float[B, 6, S, 8] y)
        <int64[1] two = {2}, int64[5] three = {1, 1, 3, 1, 1}, int64[4] all = {0, 6, -1, 8}> {
            k1 = Unsqueeze (k, two)
            k2 = Expand (k1, three)
            k3 = Reshape (k2, all)
            v1 = Unsqueeze (v, two)
            v2 = Expand (v1, three)
            v3 = Reshape (v2, all)
            t = Transpose <perm = [0, 1, 3, 2]> (k3)
            s = MatMul (q, t)
            w = Softmax <axis = -1> (s)
            y = MatMul (w, v3)
        }""",
        feeds,
    )
    assert found == ["attention"]


def test_weights_that_somebody_reads_are_stored(rng: np.random.Generator) -> None:
    feeds = arrays(rng, q=(2, 9, 8), t=(2, 8, 12), v=(2, 12, 8))
    found = kinds(
        """f (float[2, 9, 8] q, float[2, 8, 12] t, float[2, 12, 8] v)
        => (float[2, 9, 8] y, float[2, 9, 12] w) {
            s = MatMul (q, t)
            w = Softmax <axis = -1> (s)
            y = MatMul (w, v)
        }""",
        feeds,
    )
    assert "attention" not in found


@pytest.mark.parametrize(
    "attributes", ["is_causal = 1", "softcap = 2.0, is_causal = 1", "scale = 0.1"]
)
def test_the_operator_with_a_cache(attributes: str, rng: np.random.Generator) -> None:
    cache = {"p": (2, 2, 70, 8), "r": (2, 2, 70, 8)}
    feeds = arrays(rng, q=(2, 20, 48), k=(2, 20, 16), v=(2, 20, 16), **cache)
    found = kinds(
        f"""f (float[B, S, 48] q, float[B, S, 16] k, float[B, S, 16] v, float[B, 2, P, 8] p,
        float[B, 2, P, 8] r) => (float[B, S, 48] y, float[B, 2, U, 8] nk, float[B, 2, W, 8] nv) {{
            y, nk, nv = Attention <q_num_heads = 6, kv_num_heads = 2, {attributes}>
                        (q, k, v, , p, r)
        }}""",
        feeds,
        opset=23,
    )
    assert found.count("attention") == 1


def test_a_bias_that_a_network_makes_of_few_positions_is_computed_once() -> None:
    """It is a product as well, looked up by queries and keys, but not that of the two."""
    model = parser.parse_model(
        HEAD.format(18)
        + """f (float[B, 2, 9, 8] q, float[B, 2, 9, 8] k, float[B, 2, 9, 8] v, float[25, 16] p,
            float[16, 2] w, int64[81] at) => (float[B, 2, 9, 8] y) {
            t = Transpose <perm = [0, 1, 3, 2]> (k)
            scores = MatMul (q, t)
            hidden = Relu (p)
            table = MatMul (hidden, w)
            seen = Gather (table, at)
            shape = Constant <value_ints = [1, 9, 9, 2]> ()
            pairs = Reshape (seen, shape)
            bias = Transpose <perm = [0, 3, 1, 2]> (pairs)
            d = Add (scores, bias)
            a = Softmax (d)
            y = MatMul (a, v)
        }"""
    )
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.output[0]}_{number}"
    session = fornix.InferenceSession(model.SerializeToString())
    kernels = {place.node.split("_")[0]: place.kernels for place in session.placement()}
    assert kernels["scores"] == kernels["y"]
    assert not {*kernels["table"]} & {*kernels["y"]}
