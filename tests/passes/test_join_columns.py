"""Columns that are reductions of columns: one reduction of all, with the same results."""

from __future__ import annotations

import numpy as np
import pytest

from fornix import InferenceSession
from fornix.format.text import parse_model
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from fornix.passes import Native, optimize
from fornix.reference import ReferenceEvaluator

X = np.random.default_rng(2).integers(-3, 4, (6, 4)).astype(np.float32)
PLACES = [[0], [3], [0, 0], [0, 2], [3, 1], [1, 1, 2], [3, 3, 3]]


def model_of(places: list[list[int]], operator: str, opset: int) -> Model:
    is_input = opset >= 18
    stored = ", ".join(
        f"int64[{len(p)}] c{k} = {{{', '.join(map(str, p))}}}" for k, p in enumerate(places)
    )
    reduced = "({}, one)" if is_input else "<axes = [1]> ({})"
    lines = "\n".join(
        f"g{k} = ai.onnx.ml.ArrayFeatureExtractor (x, c{k}) "
        f"r{k} = {operator} {reduced.format(f'g{k}')}"
        for k in range(len(places))
    )
    names = ", ".join(f"r{k}" for k in range(len(places)))
    text = f"""<ir_version: 8, opset_import: ["": {opset}, "ai.onnx.ml": 1]>
    g (float[N, 4] x) => (float[N, M] y) <int64[1] one = {{1}}, {stored}> {{
        {lines}
        y = Concat <axis = -1> (x, {names}, x)
    }}"""
    return from_message(parse_model(text))


def operators(model: Model) -> list[str]:
    return [n.op_type for n in optimize(model, native=Native()).graph.nodes]


@pytest.mark.parametrize("opset", [15, 18])
@pytest.mark.parametrize(("operator", "function"), [("ReduceProd", np.prod), ("ReduceMin", np.min)])
def test_columns_of_one_kind_are_one_reduction(operator: str, function: object, opset: int) -> None:
    assert callable(function)
    model = model_of(PLACES, operator, opset)
    found = operators(model)
    assert found.count("ArrayFeatureExtractor") == 0
    assert found.count(operator) <= len({len(p) for p in PLACES})
    columns = [function(X[:, p], axis=1) for p in PLACES]
    expected = np.hstack([X, np.stack(columns, axis=1), X])
    for x, wanted in ((X, expected), (X[:1], expected[:1]), (X[:0], expected[:0])):
        (y,) = InferenceSession(model).run(None, {"x": x})
        np.testing.assert_array_equal(y, wanted)
        (y,) = ReferenceEvaluator(optimize(model, native=Native())).run(None, {"x": x})
        np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("places", [[[0, 1]], [[0, 1], [2]], [[0, 1], [2, 4]]])
def test_other_columns_stay(places: list[list[int]]) -> None:
    found = operators(model_of(places, "ReduceProd", 18))
    assert found.count("ArrayFeatureExtractor") == len(places)
