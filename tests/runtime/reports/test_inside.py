from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from fornix.errors import InvalidArgument
from fornix.runtime import InferenceSession

HEAD = '<ir_version: 8, opset_import: ["" : 18, "own" : 1]>'
CONTROL = f"""{HEAD} g (float[2] x, bool c) => (float[2] y, float[K] z) {{
    n = Constant <value_int = 2> () t = Constant <value = bool {{1}}> ()
    ["steps"] y = Loop <body = b (int64 i, bool go, float[2] s) => (bool on, float[2] r) {{
        on = Identity (go)
        d = Add (s, x)
        odd = Cast <to = 9> (i)
        ["pick"] r = If (odd) <
            then_branch = th () => (float[2] a) {{ half = Neg (d) a = Neg (half) }},
            else_branch = el () => (float[2] a) {{ a = Neg (d) }}
        >
    }}> (n, t, x)
    ["cond"] z = If (c) <
        then_branch = th () => (float[2] q) {{ u = Neg (y) q = Neg (u) }},
        else_branch = el () => (float[1] q) {{ w = ReduceSum (y) q = Neg (w) }}
    >
}}"""
X = np.array([1, 2], np.float32)
CALLS = f"""{HEAD} g (float[N] x) => (float[N] y) {{
    ["first"] a = own.twice (x)
    ["second"] y = own.twice (a)
}}
<domain: "own", opset_import: ["" : 18]> twice (v) => (o) {{ w = Add (v, v) o = Neg (w) }}"""


@pytest.fixture(scope="module")
def session() -> InferenceSession:
    return InferenceSession(parser.parse_model(CONTROL))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("u", [1, 2]),
        ("cond/u", [1, 2]),
        ("q", [-1, -2]),
        ("i", [0, 1]),
        ("s", [[1, 2], [-2, -4]]),
        ("d", [[2, 4], [-1, -2]]),
        ("steps/d", [[2, 4], [-1, -2]]),
        ("r", [[-2, -4], [-1, -2]]),
        ("pick/a", [[-2, -4], [-1, -2]]),
        ("steps/pick/a", [[-2, -4], [-1, -2]]),
        ("n", 2),
    ],
)
def test_values_of_bodies_are_fetched_by_name(
    session: InferenceSession, name: str, expected: object
) -> None:
    (found, y) = session.run([name, "y"], {"x": X, "c": np.array(True)})
    np.testing.assert_array_equal(found, np.array(expected))
    np.testing.assert_array_equal(y, -X)


def test_what_was_not_computed_is_none(session: InferenceSession) -> None:
    feeds = {"x": X, "c": np.array(False)}
    u, w, half = session.run(["u", "w", "half"], feeds)
    assert u is None
    np.testing.assert_array_equal(w, [-3])
    assert half[0] is None
    np.testing.assert_array_equal(half[1], X)


def test_values_of_iterations_that_differ_are_a_list() -> None:
    model = parser.parse_model(f"""{HEAD} g (float[N] x, int64 n) => (float[M] y) {{
        t = Constant <value = bool {{1}}> ()
        y = Loop <body = b (int64 i, bool go, float[K] s) => (bool on, float[L] r) {{
            on = Identity (go) r = Concat <axis = 0> (s, x) }}> (n, t, x) }}""")
    session = InferenceSession(model)
    x = np.ones(1, np.float32)
    found = session.run(["r"], {"x": x, "n": np.array(2)})[0]
    assert [value.shape for value in found] == [(2,), (3,)]
    assert session.run(["r"], {"x": x, "n": np.array(0)})[0] == []


def test_values_of_functions_are_named_with_the_node_that_calls_them() -> None:
    session = InferenceSession(parser.parse_model(CALLS))
    x = np.ones(2, np.float32)
    first, second = session.run(["first/w", "second/w"], {"x": x})
    np.testing.assert_array_equal(first, 2 * x)
    np.testing.assert_array_equal(second, -4 * x)
    message = "one value each, 'w' is the name of several: first/w, second/w$"
    with pytest.raises(InvalidArgument, match=message):
        session.run(["w"], {"x": x})


def test_a_name_that_nothing_has_is_told_with_the_outputs(session: InferenceSession) -> None:
    with pytest.raises(InvalidArgument, match=r"\(its outputs are y, z\), found 'cond/d'$"):
        session.run(["cond/d"], {"x": X, "c": np.array(True)})


def test_stored_values_are_fetched_by_name() -> None:
    session = InferenceSession(
        parser.parse_model(f"""{HEAD}
        g (float[1] x) => (float[1] y) <float[1] w = {{3}}> {{ y = Add (x, w) }}""")
    )
    (found,) = session.run(["w"], {"x": np.zeros(1, np.float32)})
    np.testing.assert_array_equal(found, [3])
    found[0] = 4
    np.testing.assert_array_equal(session.run(["y"], {"x": np.zeros(1, np.float32)})[0], [3])


def test_values_that_are_asked_for_again_are_compiled() -> None:
    session = InferenceSession(
        parser.parse_model(f"""{HEAD}
        g (float[N, 4] x) => (float[N, 4] y) <float[4] w = {{1, 2, 3, 4}}> {{
            a = Mul (x, w)  b = Add (a, w)  y = Exp (b)
        }}""")
    )
    x = np.ones((2, 4), np.float32)
    w = np.array([1, 2, 3, 4], np.float32)
    wanted = [2 * w * x, w * x]
    for _ in range(3):
        for found, expected in zip(session.run(["b", "a"], {"x": x}), wanted, strict=True):
            np.testing.assert_array_equal(found, expected)
    for found, expected in zip(session.run(["b", "a"], {"x": x[:1]}), wanted, strict=True):
        np.testing.assert_array_equal(found, expected[:1])
    assert session._programs
    (key,) = session._programs._varied
    assert key == (frozenset(), frozenset({"a", "b"}))
    np.testing.assert_allclose(session.run(None, {"x": x})[0], np.exp(wanted[0]), rtol=1e-6)
