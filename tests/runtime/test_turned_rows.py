"""Values of which rows and columns are exchanged, where they meet others ahead of a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession, SessionOptions

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
MODELS = {
    "softmax": """f (float[{0}, {1}, {2}] x, float[{0}, {2}, {1}] s) => (float[] y) {{
            t = Transpose <perm = [0, 2, 1]> (x)
            u = Add (s, t)
            y = Softmax (u)
        }}""",
    "places": """f (float[{0}, {1}, {2}] x, int64[{0}, {1}, {2}] i, float[{0}, {2}, {1}] s)
            => (float[] y) {{
            g = GatherElements <axis = -1> (x, i)
            t = Transpose <perm = [0, 2, 1]> (g)
            u = Add (t, s)
            y = Softmax (u)
        }}""",
    "heads last": """f (float[{1}, {2}, {0}] x, float[{0}, {1}, {2}] s, float[{0}, {2}, 8] v)
            => (float[] y) {{
            t = Transpose <perm = [2, 0, 1]> (x)
            u = Add (s, t)
            p = Softmax (u)
            y = MatMul (p, v)
        }}""",
    "norm": """f (float[{0}, {1}, {2}] x, float[{0}, {2}, {1}] s, float[{1}] c) => (float[] y) {{
            t = Transpose <perm = [0, 2, 1]> (x)
            u = Mul (s, t)
            y = LayerNormalization (u, c)
        }}""",
}
SHAPES = [(1, 3, 5), (2, 33, 17), (12, 64, 65), (3, 130, 90)]
"""Of 60 bytes to 195 KiB: those below 32 KiB are read where they are."""


def feeds_of(name: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    rng = np.random.default_rng(sum(shape))
    a, b, c = shape
    rows, turned = (a, b, c), (a, c, b)

    def floats(*extents: int) -> Any:
        return rng.standard_normal(extents).astype(np.float32)

    found: dict[str, Any] = {"x": floats(*rows), "s": floats(*turned)}
    if name == "places":
        found["i"] = rng.integers(-c, c, rows)
    if name == "heads last":
        found |= {"x": floats(b, c, a), "s": floats(*rows), "v": floats(a, c, 8)}
    if name == "norm":
        found["c"] = floats(b)
    return found


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_turned_values_that_meet_others_are_what_they_are_alone(name: str, is_open: bool) -> None:
    """Each node's own kernel says what comes out, on any number of threads."""
    sessions: list[InferenceSession] = []
    for shape in SHAPES:
        feeds = feeds_of(name, shape)
        model = parser.parse_model(HEAD + MODELS[name].format(*("NHW" if is_open else shape)))
        if not is_open or not sessions:
            options = [SessionOptions(intra_op_num_threads=threads) for threads in (1, 2)]
            sessions = [InferenceSession(model, each) for each in options]
        one, two = (session.run(None, feeds)[0] for session in sessions)
        (wanted,) = ReferenceEvaluator(model).run(None, feeds)
        np.testing.assert_allclose(one, wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(one, two)
