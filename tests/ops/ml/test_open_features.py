"""Linear models and support vectors of rows of which only a run tells how long they are."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

import fornix
from fornix.errors import FornixError

HEAD = '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 2]>\n'
FEATURES, VECTORS = 5, 6


def listed(*shape: int, seed: int = 0) -> str:
    numbers = np.random.default_rng(seed).standard_normal(shape).round(3)
    return ", ".join(map(str, numbers.ravel()))


MACHINE = f"kernel_params = [0.1, 0.5, 2.0], support_vectors = [{listed(VECTORS, FEATURES)}]"
MODELS = {
    "linear regressor": f"""y = ai.onnx.ml.LinearRegressor
        <coefficients = [{listed(2, FEATURES)}], intercepts = [1.0, 2.0], targets = 2> (x)""",
    "linear classifier": f"""label, y = ai.onnx.ml.LinearClassifier
        <coefficients = [{listed(3, FEATURES)}], intercepts = [0.1, 0.2, 0.3],
         classlabels_ints = [4, 5, 6], post_transform = "SOFTMAX"> (x)""",
    "classifier of two": f"""label, y = ai.onnx.ml.LinearClassifier
        <coefficients = [{listed(FEATURES)}], intercepts = [0.1], classlabels_ints = [4, 5]> (x)""",
    "support vectors": f"""y = ai.onnx.ml.SVMRegressor
        <kernel_type = "RBF", {MACHINE}, coefficients = [{listed(VECTORS)}], rho = [0.3],
         n_supports = {VECTORS}> (x)""",
    "linear machine": f"""y = ai.onnx.ml.SVMRegressor
        <kernel_type = "LINEAR", coefficients = [{listed(FEATURES)}], rho = [0.3]> (x)""",
    "classes": f"""label, y = ai.onnx.ml.SVMClassifier
        <kernel_type = "POLY", {MACHINE}, coefficients = [{listed(2, VECTORS)}],
         rho = [0.1, 0.2, 0.3], vectors_per_class = [2, 3, 1], classlabels_ints = [4, 5, 6]> (x)""",
}


def model(body: str, columns: str) -> fornix.InferenceSession:
    outputs = "int64[N] label, float[N, K] y" if "label" in body else "float[N, K] y"
    text = f"f (float[N, {columns}] x) => ({outputs}) {{ {body} }}"
    return fornix.InferenceSession(parser.parse_model(HEAD + text))


@pytest.mark.parametrize("name", MODELS)
def test_tables_tell_how_many_features_there_are(name: str) -> None:
    found, wanted = model(MODELS[name], "C"), model(MODELS[name], str(FEATURES))
    is_told = name != "classifier of two"
    assert all(not node.reason for node in found.placement()) is is_told
    for rows in (1, 3, 40):
        x = np.random.default_rng(rows).standard_normal((rows, FEATURES)).astype(np.float32)
        results = zip(found.run(None, {"x": x}), wanted.run(None, {"x": x}), strict=True)
        for result, expected in results:
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("columns", [1, FEATURES - 1, FEATURES + 1, 3 * FEATURES])
def test_rows_of_more_or_fewer_features_are_refused(name: str, columns: int) -> None:
    session = model(MODELS[name], "C")
    for turn in range(3):
        session.run(None, {"x": np.ones((2 + turn, FEATURES), np.float32)})
        for rows in (1, 2 + turn):
            with pytest.raises(FornixError, match=r"features|columns|hold"):
                session.run(None, {"x": np.ones((rows, columns), np.float32)})
