"""Extents that say what the loops of a node are: each has a program in which it is a number."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import parser

import fornix
from fornix.errors import FornixError
from fornix.reference import ReferenceEvaluator
from fornix.reference.plan import Plan
from fornix.runtime import InferenceSession, programs
from fornix.runtime.program import Program
from fornix.runtime.settling import LARGEST, MAX_NODES, deciding
from tests.runtime.stored.kept_models import recalled, use_cache, write

HEAD = '<ir_version: 8, opset_import: ["" : 20, "com.microsoft" : 1]>\n'
GATHER = "f (float[a, b, c] x, int64[n, k] i) => (float[] y) { z = GatherND (x, i) y = Neg (z) }"
SCATTER = """f (float[a, b, c] x, int64[n, k] i, float[] u) => (float[] y) {
    j = Neg (i) y = ScatterND <reduction = "add"> (x, j, u) }"""
DET = "f (float[a, m, m] x) => (float[] y) { y = Det (x) }"
INVERSE = "f (float[a, m, m] x) => (float[] y) { y = com.microsoft.Inverse (x) }"


def session(text: str) -> InferenceSession:
    return InferenceSession(parser.parse_model(HEAD + text).SerializeToString())


def picked(rng: np.random.Generator, depth: int) -> dict[str, Any]:
    return {
        "x": rng.standard_normal((4, 5, 6)).astype(np.float32),
        "i": rng.integers(-4, 4, (7, depth)),
    }


def test_parts_are_gathered_at_as_many_axes_as_a_run_tells(rng: np.random.Generator) -> None:
    found = session(GATHER)
    for depth in [2, 1, 3, 2, 1, 3]:
        feeds = picked(rng, depth)
        (y,) = found.run(None, feeds)
        assert np.array_equal(y, -feeds["x"][tuple(feeds["i"].T)])


def test_parts_are_added_at_as_many_axes_as_a_run_tells(rng: np.random.Generator) -> None:
    found = session(SCATTER)
    for depth in [1, 3, 2, 1, 3, 2]:
        feeds = picked(rng, depth)
        feeds["i"] = rng.integers(-3, 4, (7, depth))
        places = tuple(-feeds["i"].T)
        feeds["u"] = rng.standard_normal(feeds["x"][places].shape).astype(np.float32)
        wanted = feeds["x"].copy()
        np.add.at(wanted, places, feeds["u"])
        np.testing.assert_allclose(found.run(None, feeds)[0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", [DET, INVERSE])
def test_matrices_of_a_size_have_code(
    text: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, plain = session(text), {DET: np.linalg.det, INVERSE: np.linalg.inv}[text]
    sizes = [2, 3, 2, 5, LARGEST["Det"] + 1, 3, 0]
    cases = [rng.standard_normal((3, n, n)).astype(np.float32) for n in sizes]
    for x in cases:
        (y,) = found.run(None, {"x": x})
        np.testing.assert_allclose(y, plain(x), rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(Program, "run", None)  # each has a short way by now
    (y,) = found.run(None, {"x": cases[0]})
    np.testing.assert_allclose(y, plain(cases[0]), rtol=1e-3, atol=1e-4)


def test_heads_of_a_size_are_rotated_by_code(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """f (float[n, t, w] x, float[n2, t2, k] c, float[n3, t3, k2] s) => (float[] y)
    { y = RotaryEmbedding <num_heads = 2> (x, c, s) }"""
    model = parser.parse_model(HEAD.replace("20", "23") + text)
    found = InferenceSession(model.SerializeToString())
    cases = []
    for half in [2, 40, 3]:
        x = rng.standard_normal((2, 3, 2, 2, half)).astype(np.float32)
        c, s = (rng.standard_normal((2, 3, half)).astype(np.float32) for _ in range(2))
        one, other = x[:, :, :, 0], x[:, :, :, 1]
        cosine, sine = c[:, :, np.newaxis], s[:, :, np.newaxis]
        turned = np.stack([one * cosine - other * sine, one * sine + other * cosine], axis=3)
        feeds = {"x": x.reshape(2, 3, 4 * half), "c": c, "s": s}
        cases.append((feeds, turned.reshape(2, 3, 4 * half)))
    for feeds, expected in cases:
        np.testing.assert_allclose(found.run(None, feeds)[0], expected, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(Program, "run", None)  # each has a short way by now
    feeds, expected = cases[0]
    np.testing.assert_allclose(found.run(None, feeds)[0], expected, rtol=1e-5, atol=1e-6)


ATTENTION = """f (float[b, h, m, d] q, float[b2, g, n, d2] k, float[b3, g2, n2, e] v)
    => (float[] y) { y = Attention (q, k, v) }"""
CACHED = """f (float[b, s, w] q, float[b2, s2, w2] k, float[b3, s3, w3] v, float[b4, 1, p, d] m,
    float[b5, 1, p2, d2] n, int32[b6] l, int32 t, float[r, c] a, float[r2, c2] z)
    => (float[] y, float[] u, float[] x) { y, u, x = com.microsoft.GroupQueryAttention
        <num_heads = 2, kv_num_heads = 1, do_rotary = 1> (q, k, v, m, n, l, t, a, z) }"""
BRANCHES = """f (float[a, b, c] x, float[n] s) => (float[] y) {
    y = com.microsoft.BranchwiseRMSNorm (x, s) }"""
CLASSES = """f (float[n, k] x) => (int64[n] c, float[] y) {
    c, y = ai.onnx.ml.LinearClassifier <coefficients = [0.5, -1.0, 2.0, 0.25],
        classlabels_ints = [5, 3]> (x) }"""
EXPERTS = """f (float[n, w] x, float[n, m] r, uint8[m, c, k] a, float[m, c] s, uint8[m, w, k2] b,
    float[m, w] t) => (float[] y) { y = com.microsoft.QMoE <k = 1, expert_weight_bits = 4>
        (x, r, a, s, , b, t) }"""
TABLE = """f (uint8[n, c] x, int64[k] i, float[7, 2] s) => (float[] y) {
    y = com.microsoft.GatherBlockQuantized <bits = 8, block_size = 16, quantize_axis = 1>
        (x, i, s) }"""
STREAMS = """f (float[a, b, w] x, int64[3, b2, s] p, float[m, k] c, float[m2, k2] t)
    => (float[] y) { y = com.microsoft.MRotaryEmbedding <mrope_section = [2, 1, 1],
        num_heads = 2> (x, p, c, t) }"""


def normal(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def shared(rng: np.random.Generator, heads: int, groups: int, length: int) -> dict[str, Any]:
    q, k, v = (normal(rng, 2, n, length, 4) for n in (heads, groups, groups))
    return {"q": q, "k": k, "v": v}


def cache(rng: np.random.Generator, size: int, past: int, length: int) -> dict[str, Any]:
    width = {"q": 2 * size, "k": size, "v": size}
    found = {name: normal(rng, 2, length, n) for name, n in width.items()}
    found |= {name: normal(rng, 2, 1, past, size) for name in "mn"}
    found |= {name: normal(rng, 16, size // 2) for name in "az"}
    lengths = np.full(2, past + length - 1, np.int32)
    return found | {"l": lengths, "t": np.array(past + length, np.int32)}


def streams(rng: np.random.Generator, rows: int) -> dict[str, Any]:
    tables = {name: normal(rng, 9, 4) for name in "ct"}
    return {"x": normal(rng, 2, rows, 16), "p": rng.integers(0, 9, (3, 2, rows))} | tables


def experts(rng: np.random.Generator, rows: int) -> dict[str, Any]:
    shapes = {"a": (2, 16, 16), "b": (2, 32, 8)}
    found = {name: rng.integers(0, 256, s).astype(np.uint8) for name, s in shapes.items()}
    found |= {"s": normal(rng, 2, 16), "t": normal(rng, 2, 32)}
    return found | {"x": normal(rng, rows, 32), "r": normal(rng, rows, 2)}


def table(rng: np.random.Generator, count: int) -> dict[str, Any]:
    x = rng.integers(0, 256, (7, 32)).astype(np.uint8)
    return {"x": x, "i": rng.integers(-7, 7, count), "s": normal(rng, 7, 2)}


def drawn(text: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    if text is ATTENTION:
        return [shared(rng, *n) for n in ((4, 2, 3), (4, 2, 1), (3, 3, 5), (6, 1, 2))]
    if text is CACHED:
        return [cache(rng, *n) for n in ((16, 3, 1), (16, 4, 2), (8, 5, 1))]
    if text is BRANCHES:
        sizes = [(3, 4, 4), (3, 4, 12), (2, 5, 5), (2, 5, 10)]
        return [{"x": normal(rng, 2, b, c), "s": normal(rng, n)} for b, c, n in sizes]
    if text is CLASSES:
        return [{"x": normal(rng, 5, k)} for k in (2, 4, 2)]
    made = {EXPERTS: experts, TABLE: table, STREAMS: streams}[text]
    return [made(rng, rows) for rows in (3, 5, 1)]


@pytest.mark.parametrize("text", [ATTENTION, CACHED, BRANCHES, CLASSES, EXPERTS, TABLE, STREAMS])
@pytest.mark.parametrize("runs", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_what_extents_decide_is_no_kernels_matter(
    text: str, runs: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = HEAD.replace("20", "23").replace("1]", '1, "ai.onnx.ml" : 2]')
    model = parser.parse_model(head + text)
    kernels, every = ReferenceEvaluator(model), drawn(text, rng)[:runs]
    wanted = [kernels.run(None, feeds) for feeds in every]
    found = InferenceSession(model.SerializeToString())
    monkeypatch.setattr(Plan, "evaluate", None)
    for feeds, results in zip(every, wanted, strict=True):
        for one, other in zip(found.run(None, feeds), results, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_sizes_beyond_those_that_are_worth_it_are_left_to_kernels(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "MAX_PROGRAMS", 1)
    found = session(INVERSE)
    for size in [2, 3, 2, 3]:
        x = rng.standard_normal((2, size, size)).astype(np.float32)
        np.testing.assert_allclose(found.run(None, {"x": x})[0], np.linalg.inv(x), rtol=1e-3)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (np.zeros((3, 4), np.int64), "the last axis of indices.* found 4"),
        (np.zeros((3, 0), np.int64), "the last axis of indices.* found 0"),
        (np.full((3, 2), 7), "must be in"),
    ],
)
def test_indices_that_do_not_fit_are_told_in_every_run(indices: Any, message: str) -> None:
    found, good = session(GATHER), np.zeros((3, 2), np.int64)
    x = np.ones((2, 3, 4), np.float32)
    for given in [indices, good, indices, good, indices]:
        if given is good:
            assert found.run(None, {"x": x, "i": given})[0].shape == (3, 4)
            continue
        with pytest.raises(FornixError, match=message):
            found.run(None, {"x": x, "i": given})


def test_code_of_another_process_serves_the_same_sizes(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cache(tmp_path / "cache", monkeypatch)
    path = write(tmp_path / "gather.onnx", HEAD + GATHER)
    for make in (InferenceSession, recalled):
        found = make(path)
        for depth in [2, 1]:
            feeds = picked(rng, depth)
            (y,) = found.run(None, feeds)
            assert np.array_equal(y, -feeds["x"][tuple(feeds["i"].T)])


def test_symbols_decide_that_are_the_last_of_indices() -> None:
    chain = " ".join(f"t{i + 1} = Exp (t{i})" for i in range(MAX_NODES))
    for text, names in [
        (GATHER, {"k"}),
        (SCATTER, {"k"}),
        (DET, {"m"}),
        ("f (float[n] x) => (float[] y) { y = Exp (x) }", set[str]()),
        (f"f (float[n, n] x) => (float[] y) {{ t0 = Det (x) {chain} }}", set[str]()),
    ]:
        model = fornix.load(io.BytesIO(parser.parse_model(HEAD + text).SerializeToString()))
        assert deciding(model).keys() == names


def test_heads_that_share_an_axis_and_batches_decide_nothing() -> None:
    shared = (
        HEAD.replace("20", "23")
        + """f (float[b, l, 8] x) => (float[] y) {
        y = Attention <q_num_heads = 2, kv_num_heads = 2> (x, x, x) }"""
    )
    apart = (
        HEAD.replace("20", "23")
        + """f (float[b, h, l, 8] x) => (float[] y) {
        y = Attention (x, x, x) }"""
    )
    for text, names in [(shared, set[str]()), (apart, {"h"})]:
        model = fornix.load(io.BytesIO(parser.parse_model(text).SerializeToString()))
        assert deciding(model).keys() == names


def test_steps_that_are_fed_beside_signals_of_open_form_have_code_from_the_second_run_on(
    rng: np.random.Generator,
) -> None:
    text = "f (float[b, n, c] x, int64 s, float[w] v) => (float[] y) { y = STFT (x, s, v) }"
    model = parser.parse_model(HEAD + text)
    kernels, found = ReferenceEvaluator(model), InferenceSession(model.SerializeToString())
    for count, length, parts, step in [(1, 30, 1, 4), (2, 24, 1, 4), (1, 30, 2, 4), (1, 30, 1, 4)]:
        x, v = normal(rng, count, length, parts), normal(rng, 8)
        feeds = {"x": x, "s": np.array(step), "v": v}
        (wanted,) = kernels.run(None, feeds)
        np.testing.assert_allclose(found.run(None, feeds)[0], wanted, rtol=1e-4, atol=1e-5)
    assert found._programs is not None
    assert not found._programs.ranked(feeds).chosen(feeds)[0].uses_numpy
