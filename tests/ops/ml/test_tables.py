from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.dtype import FLOAT32, FLOAT64, INT64, STRING
from fornix.errors import Fail, FornixError, ShapeError
from fornix.format.text import parse_model
from fornix.ir.dim import symbol
from fornix.ir.load import from_message
from fornix.ir.types import MapType, TensorType
from fornix.ops.call import NotLowered
from fornix.ops.fact import Fact, tensor, unranked
from fornix.runtime import InferenceSession
from tests.ops.harness import check_lowering, check_node, infer_op, lower_op, peer, run_op

ML: dict[str, Any] = {"domain": "ai.onnx.ml", "opset": 3}
N = symbol("N")
DTYPES = (np.float32, np.float64, np.int32, np.int64)
X = np.array([[1.0, -2.0, 3.5], [0.0, np.nan, -7.0]], np.float32)


def text(*values: str) -> Any:
    return np.array(values, object)


def peer_of_map(name: str, key: int, entries: dict[Any, Any], attributes: dict[str, Any]) -> Any:
    """What onnxruntime gives for a map of floats."""
    import onnx
    import onnxruntime

    helper = onnx.helper
    node = helper.make_node(name, ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    value = helper.make_map_type_proto(key, helper.make_tensor_type_proto(1, None))
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_value_info("x", value)],
        [helper.make_empty_tensor_value_info("y")],
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": entries})[0]


@pytest.mark.parametrize("dtype", [*DTYPES, object])
@pytest.mark.parametrize("index", [[0], [2, 0, 2], [[1], [0]], 1])
def test_array_feature_extractor_is_onnxruntimes(dtype: Any, index: Any) -> None:
    numbers = np.arange(12).reshape(2, 2, 3)
    data = numbers.astype(str).astype(object) if dtype is object else numbers.astype(dtype)
    wanted = np.array(index, np.int64)
    for x in (data, data[0], data[0, 0]):
        expected = peer("ArrayFeatureExtractor", [x, np.atleast_1d(wanted)], **ML)
        check_node("ArrayFeatureExtractor", [x, wanted], expected=expected, **ML)


def test_array_feature_extractor_refuses_indices_outside() -> None:
    for index in (-1, 3):
        with pytest.raises(Fail, match=f"Y must index the 3 features of X, found {index}"):
            run_op("ArrayFeatureExtractor", [X, np.array([0, index])], **ML)
        with pytest.raises(Fail, match=f"Y must index the 3 features of X, found {index}"):
            run_op("ArrayFeatureExtractor", [X[:0], np.array([index, 0])], **ML)
    with pytest.raises(ShapeError, match="X must have an axis of features, found a scalar"):
        run_op("ArrayFeatureExtractor", [np.array(1.0), np.array([0])], **ML)


def test_array_feature_extractor_infers_symbolic_rows() -> None:
    [z] = infer_op("ArrayFeatureExtractor", [tensor(STRING, (N, 5)), tensor(INT64, (3,))], **ML)
    assert (z.dtype, z.shape) == (STRING, (N, 3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_binarizer_marks_what_is_above(dtype: Any) -> None:
    x = np.array([-1, 0, 1, 2, 3], dtype)
    check_node(
        "Binarizer", [x], {"threshold": 1.0}, expected=[np.array([0, 0, 0, 1, 1], dtype)], **ML
    )


ENTRIES = {3: 1.5, 1: -2.75, 7: 1e-9}


@pytest.mark.parametrize("target", ["TO_FLOAT", "TO_INT64", "TO_STRING"])
@pytest.mark.parametrize("form", [{}, {"map_form": "SPARSE", "max_map": 5}])
def test_cast_map_is_onnxruntimes(target: str, form: dict[str, Any]) -> None:
    attributes = {"cast_to": target, **form}
    expected = peer_of_map("CastMap", 7, ENTRIES, attributes)
    [found] = run_op("CastMap", [ENTRIES], attributes, **ML)
    assert found.dtype == expected.dtype
    assert found.tolist() == expected.tolist()
    [fact] = infer_op("CastMap", [Fact(MapType(INT64, TensorType(FLOAT32, ())))], attributes, **ML)
    assert fact.dtype is not None
    assert fact.dtype.numpy == found.dtype
    assert fact.shape[0] == 1
    assert not form or fact.shape[1] == 5


def test_a_sparse_map_without_keys_that_count_is_nothing_but_zeros() -> None:
    sparse = {"map_form": "SPARSE", "max_map": 3}
    entries: dict[int, float]
    for entries in ({}, {3: 1.0}, {9: 1.0, 3: 2.0}):
        [found] = run_op("CastMap", [entries], sparse, **ML)
        assert found.tolist() == [[0.0, 0.0, 0.0]]


def test_cast_map_reads_numbers_from_text() -> None:
    entries = {2: "2.75", 0: "-1"}
    [floats] = run_op("CastMap", [entries], **ML)
    assert floats.tolist() == [[-1.0, 2.75]]
    [integers] = run_op("CastMap", [entries], {"cast_to": "TO_INT64"}, **ML)
    assert integers.tolist() == [[-1, 2]]
    [same] = run_op("CastMap", [entries], {"cast_to": "TO_STRING"}, **ML)
    assert same.tolist() == [["-1", "2.75"]]
    with pytest.raises(Fail, match="a number is required to convert a string to float32, found"):
        run_op("CastMap", [{0: "one"}], **ML)


def test_cast_map_says_what_does_not_fit() -> None:
    sparse = {"map_form": "SPARSE", "max_map": 3}
    with pytest.raises(Fail, match="keys of a sparse map must not be negative, found -4"):
        run_op("CastMap", [{-4: 1.0}], sparse, **ML)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"cast_to": "TO_BOOL"}, "cast_to must be one of TO_FLOAT, TO_STRING, TO_INT64, got"),
        ({"map_form": "THIN"}, "map_form must be one of DENSE, SPARSE, got 'THIN'"),
        ({"max_map": -1}, "max_map must not be negative, got -1"),
    ]
    for attributes, message in wrong:
        with pytest.raises(ShapeError, match=message):
            run_op("CastMap", [ENTRIES], attributes, **ML)


def test_category_mapper_is_onnxruntimes() -> None:
    attributes = {
        "cats_int64s": [4, 9, -3],
        "cats_strings": ["cat", "dog", "löwe"],
        "default_int64": -7,
        "default_string": "none",
    }
    for x in (text("dog", "cow", "löwe", "cat").reshape(2, 2), np.array([[9, 4], [1, -3]])):
        expected = peer("CategoryMapper", [x], attributes, **ML)
        check_node("CategoryMapper", [x], attributes, expected=expected, **ML)


def test_category_mapper_needs_lists_of_one_length() -> None:
    message = r"cats_int64s must have as many entries as cats_strings \(1\), got 0"
    with pytest.raises(ShapeError, match=message):
        run_op("CategoryMapper", [text("a")], {"cats_strings": ["a"]}, **ML)
    with pytest.raises(ShapeError, match=message):
        infer_op("CategoryMapper", [tensor(STRING, (1,))], {"cats_strings": ["a"]}, **ML)
    with pytest.raises(ShapeError, match="cats_strings must list the categories, found none"):
        infer_op("CategoryMapper", [tensor(STRING, (1,))], {}, **ML)


@pytest.mark.parametrize(
    ("key", "entries", "attributes"),
    [
        (7, {3: 1.5, 1: 2.5}, {"int64_vocabulary": [1, 2, 3]}),
        (7, {3: 1.5, 9: 2.5}, {"int64_vocabulary": [3, 2]}),
        (8, {"b": 0.5}, {"string_vocabulary": ["a", "b"]}),
    ],
)
def test_dict_vectorizer_is_onnxruntimes(
    key: int, entries: dict[Any, Any], attributes: dict[str, Any]
) -> None:
    expected = peer_of_map("DictVectorizer", key, entries, attributes)
    [found] = run_op("DictVectorizer", [entries], attributes, **ML)
    assert found.dtype == expected.dtype
    assert found.tolist() == expected.tolist()
    dtype = INT64 if key == 7 else STRING
    [fact] = infer_op(
        "DictVectorizer", [Fact(MapType(dtype, TensorType(FLOAT32, ())))], attributes, **ML
    )
    assert (fact.dtype, fact.shape) == (FLOAT32, found.shape)


def test_dict_vectorizer_keeps_the_type_of_values() -> None:
    words = {"string_vocabulary": ["a", "b"]}
    for value, dtype in [(1, np.int64), (np.float64(0.1), np.float64), (np.float32(2), np.float32)]:
        [found] = run_op("DictVectorizer", [{"b": value}], words, **ML)
        assert found.dtype == dtype
        assert found.tolist() == [[0, value]]
    [found] = run_op("DictVectorizer", [{1: "x"}], {"int64_vocabulary": [1, 2]}, **ML)
    assert found.tolist() == [["x", ""]]
    [empty] = run_op("DictVectorizer", [{}], words, **ML)
    assert empty.tolist() == [[0.0, 0.0]]
    [fact] = infer_op(
        "DictVectorizer", [Fact(MapType(STRING, TensorType(FLOAT64, ())))], words, **ML
    )
    assert fact.dtype is FLOAT64


def test_dict_vectorizer_needs_one_vocabulary() -> None:
    with pytest.raises(ShapeError, match="must name the words, found neither"):
        run_op("DictVectorizer", [{}], **ML)
    both = {"int64_vocabulary": [1], "string_vocabulary": ["a"]}
    with pytest.raises(ShapeError, match="must name the words, found both"):
        run_op("DictVectorizer", [{}], both, **ML)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("widths", [[3, 2], [1, 4], [5, 1]])
def test_feature_vectorizer_is_onnxruntimes(dtype: Any, widths: list[int]) -> None:
    a, b = np.arange(6).reshape(2, 3).astype(dtype), np.arange(4).reshape(2, 2).astype(dtype)
    for inputs in ([a, b], [a[0], b[1]]):
        attributes = {"inputdimensions": widths}
        expected = peer("FeatureVectorizer", inputs, attributes, **ML)
        check_node("FeatureVectorizer", inputs, attributes, expected=expected, **ML)


def test_feature_vectorizer_takes_inputs_whole_without_widths() -> None:
    check_node("FeatureVectorizer", [X, X], expected=[np.hstack([X, X])], **ML)


def test_feature_vectorizer_infers_the_sum_of_symbolic_widths() -> None:
    parts = [tensor(FLOAT32, (N, symbol("F"))), tensor(FLOAT32, (N, 2))]
    [y] = infer_op("FeatureVectorizer", parts, **ML)
    assert y.shape == (N, symbol("F") + 2)


def test_feature_vectorizer_says_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"equally many rows, got \[2, 3\] and \[1, 3\]"):
        run_op("FeatureVectorizer", [X, X[:1]], **ML)
    with pytest.raises(ShapeError, match=r"equally many rows, got \[2, 3\] and \[1, 3\]"):
        infer_op("FeatureVectorizer", [tensor(FLOAT32, (2, 3)), tensor(FLOAT32, (1, 3))], **ML)
    with pytest.raises(ShapeError, match=r"one such row, got X\[1\]\[1, 2, 3\]"):
        run_op("FeatureVectorizer", [X, X[None]], **ML)
    with pytest.raises(ShapeError, match=r"inputdimensions must have one entry ≥ 0 per input \(1"):
        run_op("FeatureVectorizer", [X], {"inputdimensions": [1, 2]}, **ML)


@pytest.mark.parametrize(
    ("x", "attributes"),
    [
        (X, {"imputed_value_floats": [9.0], "replaced_value_float": float("nan")}),
        (X, {"imputed_value_floats": [7.0, 8.0, 9.0], "replaced_value_float": float("nan")}),
        (X, {"imputed_value_floats": [7.0, 8.0, 9.0], "replaced_value_float": -7.0}),
        (X[1], {"imputed_value_floats": [7.0, 8.0, 9.0], "replaced_value_float": float("nan")}),
        (
            np.array([[1, -1], [-1, 3]]),
            {"imputed_value_int64s": [5, 6], "replaced_value_int64": -1},
        ),
    ],
)
def test_imputer_is_onnxruntimes(x: Any, attributes: dict[str, Any]) -> None:
    expected = peer("Imputer", [x], attributes, **ML)
    check_node("Imputer", [x], attributes, expected=expected, **ML)
    other = {"f": np.float64, "i": np.int32}[x.dtype.kind]
    check_node("Imputer", [x.astype(other)], attributes, expected=[expected[0].astype(other)], **ML)


def test_imputer_replaces_along_the_last_axis_of_any_rank() -> None:
    x = np.array([[[0, 1], [2, 0]], [[0, 0], [1, 1]]], np.int64)
    expected = np.where(x == 0, np.array([7, 8]), x)
    attributes = {"imputed_value_int64s": [7, 8], "replaced_value_int64": 0}
    check_node("Imputer", [x], attributes, expected=[expected], **ML)
    scalar = np.array(0, np.int64)
    attributes["imputed_value_int64s"] = [7]
    check_node("Imputer", [scalar], attributes, expected=[np.array(7, np.int64)], **ML)


def test_imputer_says_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match="imputed_value_floats must have values for float32"):
        run_op("Imputer", [X], {"imputed_value_int64s": [1]}, **ML)
    with pytest.raises(ShapeError, match=r"must have one entry or one per feature \(3\), got 2"):
        run_op("Imputer", [X], {"imputed_value_floats": [1.0, 2.0]}, **ML)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_hot_encoder_is_onnxruntimes_on_numbers(dtype: Any) -> None:
    x = np.array([[1.7, 2.0], [5.0, -1.2]]).astype(dtype)
    attributes = {"cats_int64s": [1, 2, -1, 8]}
    for data in (x, x[0]):
        known_to_peer = data.astype(np.int64) if dtype is np.int32 else data
        expected = peer("OneHotEncoder", [known_to_peer], attributes, **ML)
        check_node("OneHotEncoder", [data], attributes, expected=expected, **ML)


def test_one_hot_encoder_is_onnxruntimes_on_text() -> None:
    x, attributes = text("b", "?", "a"), {"cats_strings": ["a", "b", "c"]}
    expected = peer("OneHotEncoder", [x], attributes, **ML)
    check_node("OneHotEncoder", [x], attributes, expected=expected, **ML)


def test_one_hot_encoder_says_what_is_unknown() -> None:
    with pytest.raises(Fail, match=r"X must hold categories that are listed, found '\?'; set ze"):
        run_op("OneHotEncoder", [text("?")], {"cats_strings": ["a"], "zeros": 0}, **ML)
    with pytest.raises(ShapeError, match="cats_int64s must list the categories of float32, found"):
        run_op("OneHotEncoder", [X], {"cats_strings": ["a"]}, **ML)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "cats_strings must list the categories of string, found none"),
        (
            {"cats_int64s": [1], "cats_strings": ["a"]},
            "one of cats_int64s and cats_strings must list the categories, found both",
        ),
    ],
)
def test_one_hot_encoder_has_one_list(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        infer_op("OneHotEncoder", [tensor(STRING, (1,))], attributes, **ML)
    with pytest.raises(ShapeError, match=message):
        run_op("OneHotEncoder", [text("a")], attributes, **ML)


@pytest.mark.parametrize(
    "attributes",
    [
        {"classlabels_int64s": [4, 3, 9]},
        {"classlabels_int64s": [7]},
        {"classlabels_int64s": [9, -1, 4, 3]},
        {"classlabels_strings": ["b", "a"]},
        {"classlabels_strings": ["b", "a", "c"]},
    ],
)
def test_zip_map_is_onnxruntimes(attributes: dict[str, Any]) -> None:
    [labels] = attributes.values()
    x = np.arange(40 * len(labels), dtype=np.float32).reshape(40, -1) / 7
    for data in (x, x[:2], x[0]):
        [found] = run_op("ZipMap", [data], attributes, **ML)
        expected = peer("ZipMap", [data], attributes, **ML)[0]
        assert found == expected
        assert [list(row) for row in found] == [list(row) for row in expected]
    [none] = run_op("ZipMap", [x[:0]], attributes, **ML)
    assert none == []


def test_zip_map_infers_its_key() -> None:
    [fact] = infer_op("ZipMap", [unranked(FLOAT32)], {"classlabels_strings": ["a"]}, **ML)
    assert str(fact) == "seq(map(string, float32[]))"


def test_zip_map_says_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"X must have one column per class label \(2\), got 3"):
        run_op("ZipMap", [X], {"classlabels_int64s": [1, 2]}, **ML)
    with pytest.raises(ShapeError, match=r"one column per class label \(2\), got 3"):
        infer_op("ZipMap", [tensor(FLOAT32, (N, 3))], {"classlabels_int64s": [1, 2]}, **ML)
    with pytest.raises(ShapeError, match="must name the keys, found neither"):
        run_op("ZipMap", [X], **ML)


def test_of_a_scalar_comes_a_tensor() -> None:
    check_node("Binarizer", [np.array(2.0)], {"threshold": 1.0}, expected=[np.array(1.0)], **ML)
    given = {"cats_int64s": [3], "cats_strings": ["a"]}
    check_node("CategoryMapper", [np.array(3)], given, expected=[np.array("a", object)], **ML)
    given = {"keys_int64s": [3], "values_int64s": [4]}
    check_node("LabelEncoder", [np.array(3)], given, expected=[np.array(4)], **ML)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rearrangements_of_features_are_lowered(dtype: Any) -> None:
    x = np.arange(12).reshape(3, 4).astype(dtype)
    for index in (np.array([2, 0]), np.array([[1], [3]]), np.array(2)):
        check_lowering("ArrayFeatureExtractor", [x, index], **ML)
        check_lowering("ArrayFeatureExtractor", [x[0], index], **ML)
    check_lowering("Binarizer", [x], {"threshold": 5.5}, **ML)
    for widths in ({}, {"inputdimensions": [2, 6]}):
        check_lowering("FeatureVectorizer", [x, x[:, :3]], widths, **ML)
        check_lowering("FeatureVectorizer", [x[0], x[0, :3]], widths, **ML)


@pytest.mark.parametrize("dtype", DTYPES)
def test_imputation_and_one_hot_encoding_are_lowered(dtype: Any) -> None:
    x = np.array([[1, -2, 3], [0, 7, -7]]).astype(dtype)
    for imputed in ([9], [7, 8, 9]):
        floats = {"imputed_value_floats": imputed, "replaced_value_float": 7.0}
        attributes = {**floats, "imputed_value_int64s": imputed, "replaced_value_int64": 7}
        check_lowering("Imputer", [x], attributes, **ML)
    check_lowering("OneHotEncoder", [x], {"cats_int64s": [7, -2, 4]}, **ML)
    listed = {"cats_int64s": [0, 7, -2, 1, -7, 3], "zeros": 0}
    check_lowering("OneHotEncoder", [x], listed, **ML)


def test_what_is_missing_may_be_no_number_when_lowered() -> None:
    attributes = {"imputed_value_floats": [5.0], "replaced_value_float": np.nan}
    check_lowering("Imputer", [X], attributes, **ML)


def test_one_hot_encoding_says_why_it_stays_with_the_kernel() -> None:
    x = np.array([1, 2])
    with pytest.raises(NotLowered, match="its categories repeat"):
        lower_op("OneHotEncoder", [x], {"cats_int64s": [1, 2, 1]}, **ML)


@pytest.mark.parametrize("count", [1, 40])
def test_a_number_that_is_no_category_ends_a_run(count: int) -> None:
    text = """<ir_version: 8, opset_import: ["ai.onnx.ml" : 2]>
    g (int64[N] x) => (float[N, 3] y) {
      y = ai.onnx.ml.OneHotEncoder <cats_int64s = [3, -1, 7], zeros = 0> (x)
    }"""
    session = InferenceSession(from_message(parse_model(text)))
    [place] = session.placement()
    assert place.kernels
    x = np.resize(np.array([7, 3, -1]), count)
    for _ in range(3):
        [found] = session.run(None, {"x": x})
        np.testing.assert_array_equal(found, x[:, None] == [3, -1, 7])
    x[-1] = 5
    with pytest.raises(FornixError, match=r"categories that are listed, found .*5.*; set zeros=1"):
        session.run(None, {"x": x})
