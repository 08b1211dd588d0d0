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
        assert deciding(model, ["a", "b", "k", "m", "n"]).keys() == names
