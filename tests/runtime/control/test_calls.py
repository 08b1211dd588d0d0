"""Calls of model functions in sessions: compiled code has the bodies in their place."""

from __future__ import annotations

import numpy as np
import pytest

from fornix import InferenceSession, SessionOptions
from fornix.format.text import parse_model
from fornix.ir.load import from_message
from fornix.runtime.control import calls
from fornix.runtime.control.calls import without_calls
from fornix.runtime.reports.explain import explain

MODEL = """<ir_version: 8, opset_import: ["": 18, "own": 1]>
g (float[N, 4] x, bool c) => (float[N, 4] y) {
    a = own.Scaled <by = 3.0> (x)
    y = If (c) <then_branch = t () => (float[N, 4] b) { b = own.Scaled <by = -1.0> (a) },
                else_branch = e () => (float[N, 4] d) { d = own.Centred (a) }>
}
<domain: "own", opset_import: ["": 18, "own": 1]>
Scaled <by: float = 2.0> (v) => (w) { f = Constant <value_float: float = @by> () m = Mul (v, f)
    w = own.Centred (m) }
<domain: "own", opset_import: ["": 13]>
Centred (v) => (w) { m = ReduceMean <axes = [-1], keepdims = 1> (v) w = Sub (v, m) }
"""
"""A function that has an attribute and calls another, one of another opset, a call in a branch."""
X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


def centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean(-1, keepdims=True)


@pytest.mark.parametrize("taken", [True, False])
def test_bodies_are_compiled_where_their_calls_stood(taken: bool) -> None:
    session = InferenceSession(parse_model(MODEL))
    assert not {"Scaled", "Centred"} & {p.op_type for p in session.placement()}
    assert all(p.kernels for p in session.placement() if p.op_type != "If")
    [y] = session.run(None, {"x": X, "c": np.array(taken)})
    a = centred(3 * X)
    np.testing.assert_allclose(y, centred(-a) if taken else centred(a), atol=1e-6)


def test_sessions_without_optimization_call_functions() -> None:
    plain = InferenceSession(parse_model(MODEL), SessionOptions(graph_optimization_level="none"))
    assert "Scaled" in {p.op_type for p in plain.placement()}


def test_what_is_explained_is_what_a_session_runs() -> None:
    found = explain(from_message(parse_model(MODEL)))
    kinds = {fate.origin.op_type for fate in found.fates}
    assert {"If", "ReduceMean"} <= kinds
    assert "Scaled" not in kinds


def test_models_that_bodies_would_make_too_large_keep_their_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = from_message(parse_model(MODEL))
    monkeypatch.setattr(calls, "MAX_NODES", 3)
    assert without_calls(model) is model


def test_functions_that_call_themselves_stay() -> None:
    model = from_message(
        parse_model("""<ir_version: 8, opset_import: ["": 18, "own": 1]>
        g (float[2] x) => (float[2] y) { y = own.F (x) }
        <domain: "own", opset_import: ["own": 1]> F (v) => (w) { w = own.F (v) }""")
    )
    assert without_calls(model) is model
