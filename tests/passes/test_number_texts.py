"""Texts are looked up once for all that looks them up, and give what each of these gave."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.errors import FornixError
from fornix.format.text import parse_model
from fornix.ir.load import from_message
from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession

SHARED = """
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 4]>
g (string[N, 3] x) => (float[N] a, int64[N] b, float[N, 1, 3] c, int64[N, 3] d) {
  first = Constant <value = int64 {0}> ()
  second = Constant <value = int64[1] {1}> ()
  zero = Gather <axis = 1> (x, first)
  one = ai.onnx.ml.ArrayFeatureExtractor (x, second)
  flat_shape = Constant <value = int64[1] {-1}> ()
  flat = Reshape (one, flat_shape)
  a = ai.onnx.ml.LabelEncoder <keys_strings = ["u", "v", "u"], values_floats = [1.5, 2.5, 3.5],
                               default_float = -0.5> (zero)
  b = ai.onnx.ml.CategoryMapper <cats_strings = ["w", "v"], cats_int64s = [7, 9],
                                 default_int64 = 3> (flat)
  c = ai.onnx.ml.OneHotEncoder <cats_strings = ["v", "w", "x"]> (one)
  d = ai.onnx.ml.LabelEncoder <keys_strings = ["x", "y"],
        values_tensor = int64[2] {5, 6}, default_tensor = int64[1] {0}> (x)
}
"""


@pytest.mark.parametrize("rows", [1, 5, 300])
def test_look_ups_share_numbers_and_give_what_they_gave(rows: int) -> None:
    model = from_message(parse_model(SHARED))
    x = np.random.default_rng(rows).choice(np.array([*"uvwxy?"], object), (rows, 3))
    session = InferenceSession(model)
    for _ in range(3):
        found = session.run(None, {"x": x})
        for one, wanted in zip(found, ReferenceEvaluator(model).run(None, {"x": x}), strict=True):
            assert one.dtype == wanted.dtype
            np.testing.assert_array_equal(one, wanted)
    kinds = [place.op_type for place in session.placement() if not place.kernels]
    assert kinds == ["Numbered"]


STRICT = """
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
g (string[N, 2] x) => (float[N, 2] a, float[N, 2] b) {
  zero = Constant <value = int64 {0}> ()
  one = Constant <value = int64 {1}> ()
  left = Gather <axis = 1> (x, zero)
  right = Gather <axis = 1> (x, one)
  a = ai.onnx.ml.OneHotEncoder <cats_strings = ["u", "v"], zeros = 0> (left)
  b = ai.onnx.ml.OneHotEncoder <cats_strings = ["v", "w"], zeros = 0> (right)
}
"""


def test_a_category_of_another_column_is_an_error_all_the_same() -> None:
    session = InferenceSession(from_message(parse_model(STRICT)))
    for _ in range(2):
        a, b = session.run(None, {"x": np.array([["u", "v"], ["v", "w"]], object)})
        np.testing.assert_array_equal(a, np.eye(2))
        np.testing.assert_array_equal(b, np.eye(2))
        for wrong in (["w", "w"], ["u", "u"]):
            with pytest.raises(FornixError, match="categories that are listed"):
                session.run(None, {"x": np.array([["u", "v"], wrong], object)})


def test_texts_that_are_shown_as_well_stay_what_they_are() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
    g (string[N] x) => (string[1, N] y, int64[1, N] z) {
      axis = Constant <value = int64[1] {0}> ()
      y = Unsqueeze (x, axis)
      z = ai.onnx.ml.LabelEncoder <keys_strings = ["a"], values_int64s = [4]> (y)
    }
    """
    x = np.array(["a", "b"], object)
    y, z = InferenceSession(from_message(parse_model(text))).run(None, {"x": x})
    assert y.tolist() == [["a", "b"]]
    assert z.tolist() == [[4, -1]]


TEXTS = """
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 4]>
g (string[N] x, int64[N] i, float[N] f) => (string[N] a, string[N] b, string[N] c, string[N] d) {
  a = ai.onnx.ml.LabelEncoder <keys_strings = ["u", "v", "u"], values_strings = ["1", "2", "3"],
                               default_string = "none"> (x)
  b = ai.onnx.ml.LabelEncoder <keys_int64s = [3, -1, 3], values_strings = ["p", "q", "r"]> (i)
  c = ai.onnx.ml.LabelEncoder <keys_floats = [0.5, 2.0], values_strings = ["p", "q"],
                               default_string = ""> (f)
  d = ai.onnx.ml.CategoryMapper <cats_strings = ["w", "v", "w"], cats_int64s = [-1, 9, 3],
                                 default_string = "?"> (i)
}
"""


@pytest.mark.parametrize("rows", [0, 1, 5, 300])
def test_look_ups_give_names_by_their_places(rows: int) -> None:
    model = from_message(parse_model(TEXTS))
    source = np.random.default_rng(rows)
    feeds = {
        "x": source.choice(np.array([*"uv?"], object), rows),
        "i": source.choice([3, -1, 9, 7], rows),
        "f": source.choice([0.5, 2.0, 1.0, np.nan], rows).astype(np.float32),
    }
    session = InferenceSession(model)
    for _ in range(3):
        found = session.run(None, feeds)
        for one, wanted in zip(found, ReferenceEvaluator(model).run(None, feeds), strict=True):
            assert one.dtype == wanted.dtype
            np.testing.assert_array_equal(one, wanted)
    kinds = {place.op_type for place in session.placement() if not place.kernels}
    assert kinds == {"Numbered", "Gather"}
