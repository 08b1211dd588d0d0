"""Random numbers in native calls: those of the kernels, bit for bit, whichever way runs go."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.compile.entry import is_available
from fornix.compile.identity import processor
from fornix.errors import Fail
from fornix.runtime import InferenceSession, SessionOptions
from fornix.runtime.control import draws
from fornix.system import is_mappable
from tests.runtime.control.flows import HEAD, Feeds, Pair, watched
from tests.runtime.stored.kept_models import recalled, use_cache, write

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")

KINDS = {
    "normal": "y = RandomNormalLike <mean = 2.5, scale = 0.3> (x)",
    "half": "r = RandomNormalLike <dtype = 10, mean = -1.0> (x) y = Cast <to = 1> (r)",
    "double": "r = RandomUniformLike <dtype = 11, low = -3.0> (x) y = Cast <to = 1> (r)",
    "uniform": "y = RandomUniformLike <low = -2.5, high = 0.3> (x)",
    "shaped": "r = RandomNormal <shape = [3, 1]> () total = ReduceSum <keepdims = 0> (r) "
    "y = Add (x, total)",
    "seed": "r = RandomUniform <shape = [1], seed = 3.0> () y = Add (x, r)",
    "seeds": "y = RandomNormalLike <seed = 1.5> (x)",
    "bernoulli": "p = Sigmoid (x) y = Bernoulli (p)",
    "truths": "p = Sigmoid (x) b = Bernoulli <dtype = 9> (p) y = Cast <to = 1> (b)",
    "multinomial": "m = Multinomial <sample_size = 3> (x) f = Cast <to = 1> (m) "
    "s = ReduceSum <keepdims = 0> (f) y = Add (x, s)",
    "dropout": "q = Constant <value_float = 0.25> () t = Constant <value = bool {1}> () "
    "y = Dropout (x, q, t)",
    "several": "a = RandomUniformLike (x) b = RandomNormalLike (x) d = Mul (a, b) y = Add (d, x)",
}
ROWS = [(3, 4), (3, 4), (1, 1), (5, 40), (3, 4), (2, 7)]


def seeded(text: str, threads: int = 1, seed: int = 7) -> Pair:
    """Two sessions of a model that draw from generators of the same seed."""
    model = parser.parse_model(HEAD + text)
    options = SessionOptions(intra_op_num_threads=threads)
    options.seed = seed
    return (
        InferenceSession(model, options),
        InferenceSession(model, options, providers=["ReferenceExecutionProvider"]),
    )


def numbers(*shape: int) -> np.ndarray[Any, np.dtype[Any]]:
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def same(pair: Pair, feeds: Feeds) -> None:
    """Assert that both sessions give the same bits."""
    for found, wanted in zip(pair[0].run(None, feeds), pair[1].run(None, feeds), strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_the_kernels(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = watched(monkeypatch)
    pair = seeded(f"f (float[N, M] x) => (float[N, M] y) {{ {KINDS[kind]} }}")
    for rows in ROWS:
        same(pair, {"x": numbers(*rows)})
    for _ in range(4):
        same(pair, {"x": numbers(3, 4)})
    assert calls[-1]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_loops_draw_within_their_call(
    kind: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = watched(monkeypatch)
    body = KINDS[kind].replace("(x", "(h").replace("(x)", "(h)")
    pair = seeded(
        f"""f (float[N, M] x, int64 n) => (float[N, M] out) {{
            c = Constant <value = bool {{1}}> ()
            out = Loop (n, c, x) <body = b (int64 i, bool k, float[N, M] h)
                    => (bool k, float[N, M] last) {{ {body} last = Tanh (y) }}> }}""",
        threads,
    )
    for count in [5, 0, 1, 12, 5, 5, 5]:
        found, wanted = (s.run(None, {"x": numbers(3, 4), "n": np.array(count)}) for s in pair)
        np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5, atol=1e-6)
    assert calls[-1]


def test_bodies_go_on_in_the_generator_of_the_session() -> None:
    fast, _ = seeded(
        """f (float[4] x, bool c) => (float[4] y, float[4] z) {
            y = RandomNormalLike (x)
            z = If (c) <then_branch = t () => (float[4] a) { a = RandomNormalLike (x) },
                        else_branch = e () => (float[4] b) { b = Neg (x) }> }"""
    )
    drawn = [fast.run(None, {"x": numbers(4), "c": np.array(True)}) for _ in range(5)]
    assert len({float(v) for pair in drawn for array in pair for v in array}) == 5 * 2 * 4


def test_a_probability_that_is_none_is_refused() -> None:
    fast, _ = seeded("f (float[N] x) => (float[N] y) { y = Bernoulli (x) }")
    for _ in range(4):
        fast.run(None, {"x": np.array([0, 0.5, 1], np.float32)})
    for wrong in (-0.5, 1.5, np.nan):
        with pytest.raises(Fail, match=r"probabilities must be in \[0, 1\], found"):
            fast.run(None, {"x": np.array([0, wrong, 1], np.float32)})
    assert set(fast.run(None, {"x": np.array([0, 1, 1], np.float32)})[0]) == {0, 1}


@pytest.mark.parametrize(
    "drawn", ["RandomNormalLike <scale = -1.0>", "RandomUniformLike <low = 2.0>"]
)
def test_a_span_below_0_is_refused_as_the_kernel_does(drawn: str) -> None:
    for session in seeded(f"f (float[N] x) => (float[N] y) {{ y = {drawn} (x) }}"):
        with pytest.raises(Fail, match="< 0"):
            session.run(None, {"x": numbers(3)})


def test_runs_at_the_same_time_draw_different_numbers() -> None:
    fast, _ = seeded(
        """f (float[N] x, int64 n) => (float[K, N] y) {
            c = Constant <value = bool {1}> ()
            y = Loop (n, c) <body = b (int64 i, bool k) => (bool k, float[N] r) {
                r0 = RandomNormalLike (x)  r = Identity (r0) }> }"""
    )
    found: list[float] = []

    def draw() -> None:
        for _ in range(8):
            results = fast.run(None, {"x": numbers(50), "n": np.array(20)})
            found.extend(results[0].ravel().tolist())

    threads = [threading.Thread(target=draw) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = np.random.default_rng(7).standard_normal(len(found)).astype(np.float32)
    np.testing.assert_array_equal(np.sort(found), np.sort(wanted))


def test_without_numpys_functions_kernels_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "_function", lambda _: 0)
    pair = seeded("f (float[N] x) => (float[N] y) { y = RandomNormalLike (x) }")
    for _ in range(5):
        same(pair, {"x": numbers(5)})


@pytest.mark.skipif(not is_mappable() or not processor(), reason="programs are not kept here")
def test_a_kept_program_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = watched(monkeypatch)
    use_cache(tmp_path, monkeypatch)
    text = "f (float[N] x) => (float[N] y) { r = RandomUniformLike (x) y = Add (r, x) }"
    path = write(tmp_path / "model.onnx", HEAD + text)
    InferenceSession(path).run(None, {"x": numbers(5)})
    session = recalled(path)
    found = np.array([session.run(None, {"x": np.zeros(5, np.float32)})[0] for _ in range(5)])
    assert calls[-1]
    assert (found >= 0).all()
    assert (found <= 1).all()
    assert len(np.unique(found)) == found.size
