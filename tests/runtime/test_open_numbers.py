"""Inputs of open extents that are one number, or one for each line: code for either, by its run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from fornix import InferenceSession, SessionOptions
from fornix.errors import FornixError
from fornix.onnx import parser
from fornix.reference import ReferenceEvaluator
from fornix.reference.plan import Plan

HEAD = '<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1, "ai.onnx.ml" : 2]>\n'
Feeds = dict[str, Any]
RNG = np.random.default_rng(7)


def bytes_of(*shape: int, signed: bool = False) -> Any:
    return RNG.integers(0, 256, shape).astype(np.uint8).view(np.int8 if signed else np.uint8)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def scales(*shape: int) -> Any:
    return (RNG.random(shape) + 0.1).astype(np.float32)


PRODUCT = """f (uint8[M, K] a, int8[K2, N] b, uint8[I] o, int8[J] p) => (int32[A, B] y) {
    y = MatMulInteger (a, b, o, p) }"""
SCALED = """f (uint8[M, K] a, int8[K2, N] b, float[I] r, float[J] s, uint8[C] o, int8[D] p)
    => (float[A, B] y) { y = com.microsoft.MatMulIntegerToFloat (a, b, r, s, o, p) }"""
ROUNDED = """f (uint8[M, K] a, float[S] r, uint8[T] o, int8[K2, N] b, float[J] s, int8[D] p,
    float[E] t, uint8[F] q) => (uint8[A, B] y) {
    y = QLinearMatMul (a, r, o, b, s, p, t, q) }"""
TURNED = ROUNDED.replace("QLinearMatMul (a, r, o, b, s, p, t, q)", (
    "com.microsoft.QGemm <transA = 0> (a, r, o, b, s, p, , t, q)"
))  # fmt: skip
CONVOLVED = """f (uint8[N, C, H, W] x, int8[M, C2, 3, 3] w, uint8[I] o, int8[J] p)
    => (int32[A, B, D, E] y) { y = ConvInteger (x, w, o, p) }"""
QUANTIZED = """f (float[M, K] x, float[I] s, uint8[J] o) => (uint8[A, B] y) {
    y = QuantizeLinear <axis = 1> (x, s, o) }"""
RESTORED = """f (uint8[M, K] x, float[I] s, uint8[J] o) => (float[A, B] y) {
    y = DequantizeLinear <axis = 1> (x, s, o) }"""
SOFTMAX = """f (uint8[M, K] x, float[I] s, uint8[J] o, float[L] t, uint8[P] q) => (uint8[A, B] y) {
    y = com.microsoft.QLinearSoftmax <opset = 13> (x, s, o, t, q) }"""
TRIANGLE = "f (float[M, K] x, int64[I] k) => (float[A, B] y) { y = Trilu (x, k) }"


def product(count: int, m: int, k: int, n: int) -> Feeds:
    a, b = bytes_of(m, k), bytes_of(k, n, signed=True)
    return {"a": a, "b": b, "o": bytes_of(1), "p": bytes_of(count, signed=True)}


def scaled(count: int, m: int, k: int, n: int) -> Feeds:
    return product(count, m, k, n) | {"r": scales(1), "s": scales(count)}


def rounded(count: int, m: int, k: int, n: int) -> Feeds:
    return scaled(count, m, k, n) | {"t": scales(1) * 99, "q": bytes_of(1)}


def convolved(count: int, m: int, k: int, n: int) -> Feeds:
    w = bytes_of(n, k, 3, 3, signed=True)
    p = np.zeros(count, np.int8) + 3
    return {"x": bytes_of(m, k, 5, 4), "w": w, "o": bytes_of(1), "p": p.astype(np.int8)}


def quantized(count: int, m: int, _: int, n: int) -> Feeds:
    return {"x": floats(m, n) * 9, "s": scales(count), "o": bytes_of(count)}


def restored(count: int, m: int, _: int, n: int) -> Feeds:
    return {"x": bytes_of(m, n), "s": scales(count), "o": bytes_of(count)}


def shares(count: int, m: int, k: int, n: int) -> Feeds:
    more = {"t": scales(1), "q": bytes_of(count if count != n else 1)}
    return restored(1, m, k, n) | more


def triangle(count: int, m: int, _: int, n: int) -> Feeds:
    return {"x": floats(m, n), "k": np.ones(count if count != n else 1, np.int64)}


CASES = {
    "MatMulInteger": (PRODUCT, product),
    "MatMulIntegerToFloat": (SCALED, scaled),
    "QLinearMatMul": (ROUNDED, rounded),
    "QGemm": (TURNED, rounded),
    "ConvInteger": (CONVOLVED, convolved),
    "QuantizeLinear": (QUANTIZED, quantized),
    "DequantizeLinear": (RESTORED, restored),
    "QLinearSoftmax": (SOFTMAX, shares),
    "Trilu": (TRIANGLE, triangle),
}


def sessions(text: str) -> Iterator[InferenceSession]:
    for threads in (1, 2):
        options = SessionOptions()
        options.intra_op_num_threads = threads
        yield InferenceSession(parser.parse_model(HEAD + text), options)


def outcome(engine: Any, feeds: Feeds) -> Any:
    try:
        return engine.run(None, feeds)
    except FornixError as error:
        return type(error), str(error)


def check(text: str, every: Sequence[Feeds], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled runs give what kernels do, bit for bit on any number of threads, without these."""
    kernels = ReferenceEvaluator(parser.parse_model(HEAD + text))
    wanted = [x for feeds in every for x in kernels.run(None, feeds)]
    bits = []
    with monkeypatch.context() as patch:
        patch.setattr(Plan, "evaluate", None)
        for session in sessions(text):
            found = [x for feeds in every for x in session.run(None, feeds)]
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
            bits.append([x.tobytes() for x in found])
    assert bits[0] == bits[1]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "extents",
    [
        [(3, 4, 5)],
        pytest.param([(3, 4, 5), (2, 7, 1), (1, 8, 16), (6, 3, 5)], marks=pytest.mark.slow),
    ],
)
def test_numbers_are_one_or_one_for_each_line(
    name: str, extents: Sequence[tuple[int, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, drawn = CASES[name]
    check(text, [drawn(count, *e) for e in extents for count in (e[2], 1)], monkeypatch)


@pytest.mark.parametrize("name", CASES)
def test_other_numbers_of_them_are_refused_alike(name: str) -> None:
    text, drawn = CASES[name]
    kernels = ReferenceEvaluator(parser.parse_model(HEAD + text))
    (session, _) = sessions(text)
    for count in (5, 4, 7, 1, 4):
        feeds = drawn(count, 3, 4, 5)
        found, wanted = outcome(session, feeds), outcome(kernels, feeds)
        assert isinstance(wanted, tuple) == (count in {4, 7})
        if isinstance(wanted, tuple):
            assert found == wanted
        else:
            np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shapes", [[(2, 3, 4, 5), (1, 1, 2, 2)], [(4, 3), (5, 1)], [(4,), (1,)]])
def test_slopes_before_opset_7_are_one_or_one_for_each_channel(
    shapes: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "HEAD", HEAD.replace('"" : 23', '"" : 6'))
    names = ", ".join("ABCD"[: len(shapes[0])])
    text = f"f (float[{names}] x, float[K] s) => (float[{names}] y) {{ y = PRelu (x, s) }}"
    counts = [(s, n) for s in shapes for n in {1, *s[1:2]}]
    check(text, [{"x": floats(*s), "s": floats(n)} for s, n in counts], monkeypatch)
