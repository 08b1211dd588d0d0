"""Inputs of which a model does not say how many axes they have: each rank has programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.errors import FornixError
from fornix.runtime import InferenceSession, SessionOptions
from fornix.runtime.program import Program
from fornix.runtime.programs import MAX_PROGRAMS
from fornix.runtime.reports.profile import NUMPY

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'
NORM = """f (float[] x, float[] w) => (float[] y, int64[K] s) {
    mean = ReduceMean <keepdims = 1> (x)
    d = Sub (x, mean)
    z = Mul (d, w)
    y = Softmax <axis = -1> (z)
    s = Shape (y)
}"""


def session(text: str = NORM, threads: int = 1) -> InferenceSession:
    options = SessionOptions(intra_op_num_threads=threads)
    return InferenceSession(parser.parse_model(HEAD + text), options)


def feeds(*shape: int, width: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(len(shape))
    return {
        "x": rng.standard_normal(shape).astype(np.float32),
        "w": rng.standard_normal((*(1,) * (width - 1), shape[-1])).astype(np.float32),
    }


def wanted(given: dict[str, Any]) -> Any:
    x, w = (given[name].astype(np.float64) for name in "xw")
    z = (x - x.mean()) * w
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("threads", [1, 2])
def test_each_rank_is_compiled(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = session(threads=threads)
    cases = [feeds(8), feeds(3, 8), feeds(2, 3, 8), feeds(1, 8), feeds(4, 8, width=2), feeds(8)]
    for given in cases * 3:
        y, s = found.run(None, given)
        np.testing.assert_allclose(y, wanted(given), rtol=2e-5, atol=1e-6)
        assert s.tolist() == list(wanted(given).shape)
    monkeypatch.setattr(Program, "run", None)
    for given in cases[:3] * 2:  # each has a short way by now
        found.run(None, given)


def test_ranks_beyond_those_that_are_worth_it_are_left_to_kernels() -> None:
    found = session()
    for rank in [*range(1, MAX_PROGRAMS + 4), 1, MAX_PROGRAMS + 3]:
        given = feeds(*[2] * rank)
        np.testing.assert_allclose(found.run(None, given)[0], wanted(given), rtol=2e-5, atol=1e-6)


def test_a_rank_that_does_not_fit_is_refused_with_the_node() -> None:
    text = """f (float[] x) => (float[] y) {
        e = Exp (x)
        y = Transpose <perm = [1, 0]> (e)
    }"""
    found = session(text)
    x = np.ones((2, 3), np.float32)
    for _ in range(3):
        assert found.run(None, {"x": x})[0].shape == (3, 2)
        with pytest.raises(FornixError, match="Transpose"):
            found.run(None, {"x": x[0]})


def test_what_has_no_elements_keeps_its_rank() -> None:
    found = session("f (float[] x) => (float[] y) { e = Exp (x) y = Tanh (e) }")
    for shape in [(2, 3), (0, 3), (0,), (2, 0, 1), (), (2, 3)] * 2:
        assert found.run(None, {"x": np.zeros(shape, np.float32)})[0].shape == shape


def test_a_profile_is_that_of_the_rank() -> None:
    found = session().profile(feeds(3, 8), repeats=2)
    assert found.entries
    assert not any(entry.kind == NUMPY for entry in found.entries)
