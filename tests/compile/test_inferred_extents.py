"""Nodes are compiled whose inputs have extents that only inference knows to be equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix import InferenceSession
from fornix.errors import FornixError
from fornix.reference import ReferenceEvaluator

CASES: dict[str, tuple[int, str, list[tuple[int, ...]]]] = {
    "Add without an axis": (
        6,
        """(float[N, M, K] x) => (float[N, M, K] y) <float[3] b = {1, 2, 4}>
        { y = Add <broadcast = 1> (x, b) }""",
        [(2, 5, 3)],
    ),
    "Mul from an axis on": (
        1,
        """(float[N, M, K] x) => (float[N, M, K] y) <float[2, 1] b = {3, 5}>
        { y = Mul <axis = 1, broadcast = 1> (x, b) }""",
        [(4, 2, 3)],
    ),
    "Div by what is alike": (
        6,
        """(float[N, M] x) => (float[N, M] y) <float[2, 2] b = {1, 2, 4, 8}> { y = Div (x, b) }""",
        [(2, 2)],
    ),
    "Div of a stored number": (
        6,
        """(float[N, M] x) => (float[2, 1] y) <float[2, 1] a = {1, 2}> { y = Div (a, x) }""",
        [(2, 1)],
    ),
    "Greater": (
        1,
        """(float[N, M] x) => (bool[2, 3] y) <float[2, 3] a = {1, 2, 3, 4, 5, 6}>
        { y = Greater (a, x) }""",
        [(2, 3)],
    ),
    "BatchNormalization in training": (
        15,
        """(float[N, 2, H, W] x, float[C] mean, float[C] variance)
        => (float[N, 2, H, W] y, float[2] m, float[2] v) <float[2] s = {1, 2}, float[2] b = {3, 4}>
        { y, m, v = BatchNormalization <training_mode = 1> (x, s, b, mean, variance) }""",
        [(2, 2, 3, 4), (2,), (2,)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_nodes_are_compiled_for_extents_that_have_to_be_equal(
    name: str, rng: np.random.Generator
) -> None:
    opset, text, shapes = CASES[name]
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> f {text}')
    session = InferenceSession(model)
    assert all(place.kernels for place in session.placement())
    names = [value.name for value in model.graph.input]

    def feeds(shapes: list[tuple[int, ...]]) -> dict[str, Any]:
        drawn = [rng.uniform(1, 2, shape).astype(np.float32) for shape in shapes]
        return dict(zip(names, drawn, strict=True))

    given = feeds(shapes)
    wanted = ReferenceEvaluator(model).run(None, given)
    for found, expected in zip(session.run(None, given), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for axis in range(len(shapes[-1])):
        wrong = list(shapes[-1])
        wrong[axis] += 3
        given = feeds([*shapes[:-1], tuple(wrong)])
        try:
            wanted = ReferenceEvaluator(model).run(None, given)
        except FornixError:
            with pytest.raises(FornixError):
                session.run(None, given)
        else:
            np.testing.assert_allclose(session.run(None, given)[0], wanted[0], rtol=1e-5, atol=1e-6)
