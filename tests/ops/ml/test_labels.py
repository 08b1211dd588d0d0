from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest

from fornix.dtype import FLOAT32, FLOAT64, INT64, STRING
from fornix.errors import DTypeError, ShapeError
from fornix.ir.dim import symbol
from fornix.ops.call import NotLowered
from fornix.ops.fact import tensor
from tests.ops.harness import check_lowering, check_node, infer_op, lower_op, peer, run_op

ML: dict[str, Any] = {"domain": "ai.onnx.ml"}
LISTS: dict[str, list[Any]] = {
    "int64s": [5, -2, 7],
    "floats": [0.5, -2.0, 7.25],
    "strings": ["x", "yy", "ü"],
}
DTYPES: dict[str, Any] = {"int64s": np.int64, "floats": np.float32, "strings": object}
NUMBERS = (np.float32, np.float64, np.int16, np.int32, np.int64)


def text(*values: str) -> Any:
    return np.array(values, object)


def as_messages(attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        name: onnx.numpy_helper.from_array(value, name) if isinstance(value, np.ndarray) else value
        for name, value in attributes.items()
    }


@pytest.mark.parametrize("x", [text("dog", "cow", "cat"), np.array([1, 0, 2, -1])])
def test_label_encoder_1_is_onnxruntimes(x: Any) -> None:
    attributes = {"classes_strings": ["cat", "dog"], "default_int64": 9, "default_string": "?"}
    expected = peer("LabelEncoder", [x], attributes, opset=1, **ML)
    check_node("LabelEncoder", [x], attributes, expected=expected, opset=1, **ML)


@pytest.mark.parametrize("opset", [2, 4])
@pytest.mark.parametrize(("key", "value"), list(itertools.product(LISTS, LISTS)))
def test_label_encoder_maps_any_list_to_any_other(key: str, value: str, opset: int) -> None:
    attributes: dict[str, Any] = {f"keys_{key}": LISTS[key], f"values_{value}": LISTS[value][::-1]}
    unknown = {"int64s": 4, "floats": np.inf, "strings": "none"}[key]
    x = np.array([[LISTS[key][1], unknown], [LISTS[key][2], LISTS[key][0]]], DTYPES[key])
    expected = peer("LabelEncoder", [x], attributes, opset=opset, **ML)
    check_node("LabelEncoder", [x], attributes, expected=expected, opset=opset, **ML)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_label_encoder_4_takes_tensors(dtype: Any) -> None:
    attributes = {
        "keys_tensor": np.array([3, 1, 2], dtype),
        "values_tensor": np.array([30, 10, 20], dtype),
        "default_tensor": np.array([77], dtype),
    }
    x = np.array([[1, 2], [3, 4]], dtype)
    expected = np.array([[10, 20], [30, 77]], dtype)
    check_node("LabelEncoder", [x], attributes, expected=[expected], opset=4, **ML)


def test_label_encoder_4_is_onnxruntimes_on_tensors() -> None:
    attributes = {
        "keys_tensor": text("a", "b"),
        "values_tensor": np.array([4, 2], np.int16),
        "default_tensor": np.array([-1], np.int16),
    }
    x = text("b", "a", "")
    expected = peer("LabelEncoder", [x], as_messages(attributes), opset=4, **ML)
    check_node("LabelEncoder", [x], attributes, expected=expected, opset=4, **ML)


def test_label_encoder_counts_nan_as_one_key() -> None:
    attributes = {"keys_floats": [1.0, float("nan")], "values_int64s": [5, 6]}
    x = np.array([np.nan, 1, -np.nan, np.inf], np.float32)
    expected = np.array([6, 5, 6, -1], np.int64)
    check_node("LabelEncoder", [x], attributes, expected=[expected], opset=4, **ML)


def test_nan_is_the_default_where_no_key_is_nan() -> None:
    attributes = {"keys_floats": [1.0, 2.0], "values_int64s": [5, 6], "default_int64": 9}
    x = np.array([np.nan, 2, -np.nan, np.inf], np.float32)
    expected = np.array([9, 6, 9, 9], np.int64)
    check_node("LabelEncoder", [x], attributes, expected=[expected], opset=4, **ML)


def test_label_encoder_counts_the_last_of_equal_keys() -> None:
    numbers, words = {"keys_int64s": [1, 2, 1]}, {"keys_strings": ["a", "b", "a"]}
    cases: list[tuple[dict[str, Any], Any]] = [(numbers, np.array([1, 2])), (words, text("a", "b"))]
    for keys, x in cases:
        attributes = keys | {"values_int64s": [5, 6, 7]}
        check_node(
            "LabelEncoder", [x], attributes, expected=[np.array([7, 6], np.int64)], opset=4, **ML
        )


def test_label_encoder_infers_the_type_of_its_values() -> None:
    x = tensor(STRING, (symbol("N"), 2))
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"values_floats": [1.0]}, FLOAT32),
        ({"values_strings": ["a"]}, STRING),
        ({"values_tensor": np.array([1.0])}, FLOAT64),
    ]
    for attributes, dtype in cases:
        keys = {"keys_strings": ["k"]}
        [y] = infer_op("LabelEncoder", [x], attributes | keys, opset=4, **ML)
        assert (y.dtype, y.shape) == (dtype, x.shape)
    [y] = infer_op("LabelEncoder", [x], {"classes_strings": ["a"]}, opset=1, **ML)
    assert y.dtype is INT64


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"keys_strings": ["a"]}, "one of values_floats, values_int64s, values_strings and val"),
        (
            {"keys_strings": ["a"], "values_int64s": [1], "values_floats": [1.0]},
            "must list the values, found values_floats and values_int64s",
        ),
        (
            {"keys_strings": ["a"], "values_int64s": []},
            r"values_int64s must have as many entries as keys_strings \(1\), got 0",
        ),
        (
            {"keys_strings": ["a"], "values_int64s": [1], "default_tensor": np.array([1.0])},
            "default_tensor must be one int64, as the values are, found float64 of 1 elements",
        ),
    ],
)
def test_label_encoder_says_what_does_not_fit(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("LabelEncoder", [text("a")], attributes, opset=4, **ML)
    with pytest.raises(ShapeError, match=message):
        infer_op("LabelEncoder", [tensor(STRING, (1,))], attributes, opset=4, **ML)


def test_label_encoder_refuses_elements_unlike_its_keys() -> None:
    attributes = {"keys_int64s": [1], "values_int64s": [1]}
    message = "X must be int64, as the keys are, found string"
    with pytest.raises(DTypeError, match=message):
        run_op("LabelEncoder", [text("a")], attributes, opset=4, **ML)
    with pytest.raises(DTypeError, match=message):
        infer_op("LabelEncoder", [tensor(STRING, (1,))], attributes, opset=4, **ML)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_labels_of_numbers_are_lowered(dtype: Any) -> None:
    attributes = {
        "keys_tensor": np.array([3, 1, 2, 1], dtype),
        "values_tensor": np.array([30, 10, 20, 40], np.float32),
        "default_float": 7.0,
    }
    x = np.array([[1, 2, 3], [4, -1, 0]], dtype)
    check_lowering("LabelEncoder", [x], attributes, opset=4, **ML)


def test_a_key_that_is_no_number_is_lowered() -> None:
    attributes = {"keys_floats": [np.nan, 1.0], "values_int64s": [5, 6], "default_int64": -3}
    x = np.array([1.0, np.nan, 2.0], np.float32)
    check_lowering("LabelEncoder", [x], attributes, opset=4, **ML)


KEYS: dict[str, Any] = {
    "one after the other": np.arange(-4, 25),
    "of all sizes": np.array([-(2**31), 2**31 - 1, 0, -1]),
    "multiples": np.arange(40) * 1024 - 7168,
    "powers": 2 ** np.arange(14),
    "many": np.random.default_rng(0).permutation(30_000)[:700] - 15_000,
}


@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("dtype", NUMBERS)
def test_labels_of_any_numbers_are_lowered(keys: Any, dtype: Any) -> None:
    keys = np.random.default_rng(1).permutation(keys).astype(dtype)
    attributes = {
        "keys_tensor": np.append(keys, keys[:2]),
        "values_tensor": np.arange(len(keys) + 2, dtype=np.int32),
        "default_tensor": np.array([-1], np.int32),
    }
    near = np.concatenate([keys, keys + dtype(1), keys - dtype(1), np.array([0, 1], dtype)])
    check_lowering("LabelEncoder", [near], attributes, opset=4, **ML)


@pytest.mark.parametrize("count", [0, 1, 8, 9, 60])
def test_zeros_of_both_signs_are_one_key_and_what_is_no_number_another(count: int) -> None:
    keys = np.append(np.arange(count) / 4, [-0.0, np.nan, 0.5, np.nan]).astype(np.float32)
    attributes = {"keys_tensor": keys, "values_int64s": [*range(len(keys))]}
    x = np.array([0.0, -0.0, np.nan, 0.25, 0.5, -1.0, np.inf], np.float32)
    check_lowering("LabelEncoder", [x], attributes, opset=4, **ML)


def test_the_greatest_and_least_numbers_are_looked_up() -> None:
    ends = np.iinfo(np.int64)
    keys = [ends.min, ends.min + 1, ends.min + 2]
    attributes = {"keys_int64s": keys, "values_int64s": [1, 2, 3]}
    x = np.array([*keys, ends.max, ends.max - 1, 0, -1])
    check_lowering("LabelEncoder", [x], attributes, opset=4, **ML)


@pytest.mark.parametrize(("name", "limit"), [("labels.TABLED", 9), ("hashed.FACTORS", 0)])
def test_keys_that_have_no_table_stay_with_the_kernel(
    monkeypatch: pytest.MonkeyPatch, name: str, limit: int
) -> None:
    attributes = {"keys_int64s": [*range(0, 20, 2)], "values_int64s": [*range(10)]}
    monkeypatch.setattr(f"fornix.ops.ml.{name}", limit)
    with pytest.raises(NotLowered, match="10 keys are looked up by search"):
        lower_op("LabelEncoder", [np.array([1, 2])], attributes, opset=4, **ML)
