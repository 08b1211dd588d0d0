"""What computes with numbers is apart from what has texts, and gives what it gave."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.errors import FornixError
from fornix.format.text import parse_model
from fornix.infer import infer_model
from fornix.ir.load import from_message
from fornix.passes.split_texts import split_texts
from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession

LINEAR = """
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
g (float[N, 2] x) => (string[N] label, float[N, 3] z) {
  label, z = ai.onnx.ml.LinearClassifier <classlabels_strings = ["b", "a", "c"],
    coefficients = [1.0, 0.0, 0.0, 1.0, -1.0, -1.0], intercepts = [0.0, 0.5, 0.0]> (x)
}
"""
VECTORS = """
<ir_version: 8, opset_import: ["ai.onnx.ml" : 3]>
g (float[N, 2] x) => (string[N] label, float[N, 2] z) {
  label, z = ai.onnx.ml.SVMClassifier <classlabels_strings = ["no", "yes"], kernel_type = "LINEAR",
    coefficients = [1.0, -1.0], support_vectors = [1.0, 0.0, 0.0, 1.0], vectors_per_class = [1, 1],
    rho = [0.25]> (x)
}
"""
TREES = """
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
g (float[N, 2] x) => (string[N] label, float[N, 2] z) {
  label, z = ai.onnx.ml.TreeEnsembleClassifier <classlabels_strings = ["left", "right"],
    nodes_treeids = [0, 0, 0], nodes_nodeids = [0, 1, 2], nodes_featureids = [1, 0, 0],
    nodes_values = [0.25, 0.0, 0.0], nodes_modes = ["BRANCH_LEQ", "LEAF", "LEAF"],
    nodes_truenodeids = [1, 0, 0], nodes_falsenodeids = [2, 0, 0],
    class_treeids = [0, 0, 0], class_nodeids = [1, 2, 2], class_ids = [0, 0, 1],
    class_weights = [1.0, 0.25, 0.75]> (x)
}
"""


def words(version: int, zeros: int = 1) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : {version}]>
g (string[N, 1] x, float[N, 2] y) => (float[N, 5] z) {{
  shape = Constant <value = int64[2] {{-1, 3}}> ()
  shifted = Mul (y, y)
  rows = ai.onnx.ml.OneHotEncoder <cats_strings = ["b", "a", "ü"], zeros = {zeros}> (x)
  flat = Reshape (rows, shape)
  z = Concat <axis = 1> (flat, shifted)
}}
"""


SINGLE = """
<ir_version: 8, opset_import: ["ai.onnx.ml" : 3]>
g (string[N, 1] x) => (float[N, 1, 1] y) {
  y = ai.onnx.ml.OneHotEncoder <cats_strings = ["\u00e9"], zeros = 0> (x)
}
"""
REPEATED = """
<ir_version: 8, opset_import: ["ai.onnx.ml" : 3]>
g (string[N] x) => (int64[N] y) {
  y = ai.onnx.ml.LabelEncoder <keys_strings = ["a", "b", "a"], values_int64s = [1, 2, 3]> (x)
}
"""


@pytest.mark.parametrize("text", [LINEAR, VECTORS, TREES])
@pytest.mark.parametrize("rows", [1, 37])
def test_classes_are_numbers_until_they_are_named(text: str, rows: int) -> None:
    model = from_message(parse_model(text))
    x = np.random.default_rng(rows).standard_normal((rows, 2)).astype(np.float32)
    session = InferenceSession(model)
    label, z = session.run(None, {"x": x})
    wanted = ReferenceEvaluator(model).run(None, {"x": x})
    assert label.dtype == object
    np.testing.assert_array_equal(label, wanted[0])
    np.testing.assert_allclose(z, wanted[1], rtol=1e-6)
    kernels = {place.op_type: place.kernels for place in session.placement()}
    assert kernels.pop("Gather") == ()
    assert all(kernels.values())


@pytest.mark.parametrize("version", [1, 2, 4])
def test_texts_become_numbers_ahead_of_all_that_computes(version: int) -> None:
    model = from_message(parse_model(words(version)))
    x = np.array([["a"], ["ü"], ["?"], ["b"]], object)
    y = np.arange(8, dtype=np.float32).reshape(4, 2)
    session = InferenceSession(model)
    [z] = session.run(None, {"x": x, "y": y})
    first = [[0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_array_equal(z, np.hstack([first, y * y]).astype(np.float32))
    places = [(place.op_type, bool(place.kernels)) for place in session.placement()]
    assert places[0] == ("Numbered", False)
    assert all(is_compiled for _, is_compiled in places[1:])


def test_a_category_that_is_an_error_ends_the_run() -> None:
    session = InferenceSession(from_message(parse_model(words(2, zeros=0))))
    y = np.arange(4, dtype=np.float32).reshape(2, 2)
    for _ in range(3):
        [z] = session.run(None, {"x": np.array([["ü"], ["b"]], object), "y": y})
        first = [[0, 0, 1], [1, 0, 0]]
        np.testing.assert_array_equal(z, np.hstack([first, y * y]).astype(np.float32))
        with pytest.raises(FornixError, match="categories that are listed, found '\\?'"):
            session.run(None, {"x": np.array([["b"], ["?"]], object), "y": y})


@pytest.mark.parametrize("rows", [1, 70])
def test_one_category_that_has_to_be_listed_is_looked_for_in_every_row(rows: int) -> None:
    session = InferenceSession(from_message(parse_model(SINGLE)))
    x = np.full((rows, 1), "é", object)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], np.ones((rows, 1, 1)))
    x[-1] = "e"
    with pytest.raises(FornixError, match="categories that are listed, found 'e'"):
        session.run(None, {"x": x})


def test_of_repeated_keys_the_last_counts() -> None:
    session = InferenceSession(from_message(parse_model(REPEATED)))
    x = np.array(["a", "b", "c"], object)
    for _ in range(3):
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], [3, 2, -1])


def test_a_classifier_of_one_class_is_left() -> None:
    model = from_message(parse_model(LINEAR.replace('"b", "a", "c"', '"b"')))
    assert not split_texts(model, infer_model(model))


def test_names_are_given_shapes_as_numbers() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
    g (float[N, 3] x) => (string[M] label) {
      classes = Constant <value = string[3] {"b", "a", "c"}> ()
      shape = Constant <value = int64[1] {-1}> ()
      best = ArgMax <axis = 1> (x)
      row = ai.onnx.ml.ArrayFeatureExtractor (classes, best)
      label = Reshape (row, shape)
    }
    """
    model = from_message(parse_model(text))
    x = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    session = InferenceSession(model)
    for rows in (9, 1, 9):
        [label] = session.run(None, {"x": x[:rows]})
        wanted = np.array(["b", "a", "c"], object)[x[:rows].argmax(axis=1)]
        np.testing.assert_array_equal(label, wanted)
    kinds = [(place.op_type, bool(place.kernels)) for place in session.placement()]
    assert [kind for kind, is_compiled in kinds if not is_compiled] == ["Gather"]
