"""What models declare of their values, and runs contradict: programs are made anew without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import parser

from fornix.errors import FornixError
from fornix.runtime import InferenceSession, SessionOptions
from fornix.runtime.programs import Programs

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'
NEGATIVE = """f (float[N] x) => (float[%s] y) <int64[%s] at, float[%s] found> {
    zero = Constant <value_float = 0.0> ()
    is_below = Less (x, zero)
    at = NonZero (is_below)
    first = Constant <value_ints = [0]> ()
    row = Squeeze (at, first)
    found = Gather (x, row)
    y = Exp (found)
}"""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[frozenset[str]]:
    """Whenever programs are made without what is declared, the values of other ranks."""
    calls: list[frozenset[str]] = []
    original = Programs.undeclared

    def observed(self: Programs, unlike: frozenset[str]) -> Programs:
        calls.append(unlike)
        return original(self, unlike)

    monkeypatch.setattr(Programs, "undeclared", observed)
    return calls


def opened(text: str, threads: int = 1) -> InferenceSession:
    return InferenceSession(
        parser.parse_model(HEAD + text), SessionOptions(intra_op_num_threads=threads)
    )


def is_compiled(session: InferenceSession, feeds: dict[str, Any]) -> bool:
    """Whether a run on ``feeds`` goes without what has the kernels of the model as it was given."""
    plan = session._planned.__dict__.pop("plan", None)
    session.run(None, feeds)
    is_left = "plan" in session._planned.__dict__
    session._planned.__dict__["plan"] = plan
    return not is_left


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "declared",
    [
        ("M", "1, 3", "3"),
        ("3", "1, K", "K"),
        ("N", "1, N", "N"),
        ("3", "1, 3", "3"),
        ("3", "3", "1, 1"),
        ("N", "A", "A"),
    ],
)
def test_declared_extents_that_a_run_contradicts_are_no_longer_believed(
    declared: tuple[str, str, str], threads: int, made: list[frozenset[str]]
) -> None:
    session = opened(NEGATIVE % declared, threads)
    rng = np.random.default_rng(4)
    for n in (9, 9, 7, 30, 1, 3, 7, 9):
        x = rng.standard_normal(n).astype(np.float32)
        for feed in (x, -np.abs(x), np.abs(x)):
            (y,) = session.run(None, {"x": feed})
            np.testing.assert_allclose(y, np.exp(feed[feed < 0]), rtol=1e-5)
    assert len(made) <= 2
    assert is_compiled(session, {"x": np.array([-1, 2, -3, 4, -5], np.float32)})


def test_what_holds_is_believed(made: list[frozenset[str]]) -> None:
    session = opened(NEGATIVE % ("M", "1, M", "M"))
    for n in (5, 3, 0, 5):
        session.run(None, {"x": np.arange(n, dtype=np.float32) - 2})
    session.run(["found"], {"x": np.ones(3, np.float32)})
    assert not made


def test_without_a_program_for_what_is_left_kernels_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> Programs:
        raise FornixError("nothing is made")

    session = opened(NEGATIVE % ("M", "1, 3", "3"))
    monkeypatch.setattr(Programs, "undeclared", refused)
    for _ in range(3):
        (y,) = session.run(None, {"x": np.array([-1, 2, -3, -4, -5], np.float32)})
        np.testing.assert_allclose(y, np.exp(np.array([-1, -3, -4, -5])), rtol=1e-5)


def test_outputs_are_shown_as_the_model_declares_them(made: list[frozenset[str]]) -> None:
    session = opened(NEGATIVE % ("3", "1, 3", "3"))
    session.run(None, {"x": -np.ones(5, np.float32)})
    assert made
    assert session.get_outputs()[0].shape == [3]


def test_lists_and_arrays_are_fed_where_kernels_look_at_what_is_declared() -> None:
    session = opened("""f (seq(float[N]) s, int64 at) => (float[N] y) { y = SequenceAt (s, at) }""")
    parts = [np.ones(2, np.float32), np.zeros(3, np.float32)]
    with pytest.raises(FornixError):
        session.run(None, {"s": parts, "at": np.array(2)})
    for at in (0, 1, 0):
        np.testing.assert_array_equal(
            session.run(None, {"s": parts, "at": np.array(at)})[0], parts[at]
        )


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "ReferenceExecutionProvider"])
@pytest.mark.parametrize("level", [0, 99])
@pytest.mark.parametrize(
    "node", ['com.microsoft.FusedGemm <activation = "Relu"> (x, x)', "ai.onnx.ml.Binarizer (x)"]
)
def test_domains_of_onnxruntime_need_no_import(provider: str, level: int, node: str) -> None:
    text = f"""<ir_version: 9, opset_import: ["" : 17]> g (float[2, 2] x, bool c) => (float[2, 2] y)
    {{ y = If (c) <then_branch = a () => (float[2, 2] p) {{ p = {node} }},
                   else_branch = b () => (float[2, 2] q) {{ q = Neg (x) }}> }}"""
    source = parser.parse_model(text).SerializeToString()
    feeds = {"x": np.array([[1, 0], [0, 1]], np.float32), "c": np.array(True)}
    options, peers = SessionOptions(), ort.SessionOptions()
    options.graph_optimization_level = level
    peers.graph_optimization_level = ort.GraphOptimizationLevel(level)
    (expected,) = ort.InferenceSession(source, peers).run(None, feeds)
    (found,) = InferenceSession(source, options, providers=[provider]).run(None, feeds)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("level", [0, 1, 99])
@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "ReferenceExecutionProvider"])
def test_functions_speak_of_domains_that_nobody_imports(level: int, provider: str) -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "local" : 1]>
    f (float[n] x) => (float[n] y) { y = local.outer (x) }
    <domain: "local", opset_import: ["" : 18, "local" : 1]> outer (a) => (b) { b = local.inner (a) }
    <domain: "local", opset_import: ["" : 18]> inner (a) => (b) {
        c = com.microsoft.QuickGelu <alpha = 1.0> (a) b = Neg (c) }"""
    options = SessionOptions()
    options.graph_optimization_level = level
    found = InferenceSession(parser.parse_model(text), options, providers=[provider])
    x = np.array([-1, 0, 2], np.float32)
    np.testing.assert_allclose(found.run(None, {"x": x})[0], -x / (1 + np.exp(-x)), rtol=1e-6)
