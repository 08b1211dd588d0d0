from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import Fail, ShapeError
from tests.ops.harness import run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(16)
WHERE: dict[str, Any] = {"domain": DOMAIN, "opset": 1}


def test_texts_without_any_token_have_no_marks() -> None:
    flags = {"mark": 1, "mincharnum": 2, "pad_value": "#", "tokenexp": "[a-z]+"}
    [y] = agree("Tokenizer", [np.array(["A", "b"], object)], flags, lowered=False)
    assert y.shape == (2, 0)


@pytest.mark.parametrize("mark", [0, 1])
@pytest.mark.parametrize("shape", [(4,), (2, 2)])
@pytest.mark.parametrize(
    "rule",
    [
        {"separators": [" "]},
        {"separators": [";", " "]},
        {"separators": ["[ ,;]+"]},
        {"separators": [""]},
        {"tokenexp": "[a-z]+"},
        {"tokenexp": "[a-c]|[0-9]+"},
        {"tokenexp": r"\b\w+\b"},
        {"separators": [r"\W"]},
        {"separators": [r"\s+", ";"]},
    ],
)
@pytest.mark.parametrize("least", [1, 2])
def test_tokens_are_those_of_onnxruntime(
    mark: int, shape: tuple[int, ...], rule: dict[str, Any], least: int
) -> None:
    texts = np.array(["ab cd", "e;fg  h,1", "", "größe 12"], object).reshape(shape)
    least = 1 if rule.get("separators") == [""] else least
    attributes = {"mark": mark, "pad_value": "#", "mincharnum": least, **rule}
    agree("Tokenizer", [texts], attributes, lowered=False)


@pytest.mark.parametrize("flags", ["(?u)", "(?iu)"])
def test_letters_of_all_languages_are_asked_for(flags: str) -> None:
    attributes = {"mark": 0, "pad_value": "", "mincharnum": 1, "tokenexp": flags + r"\w+"}
    [y] = run_op("Tokenizer", [np.array(["größe 12"], object)], attributes, **WHERE)
    assert y.tolist() == [["größe", "12"]]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tokenexp": "("}, Fail, "a regular expression is required"),
        ({"separators": [" "], "tokenexp": "a"}, ShapeError, "found both or none"),
        ({"separators": [" "], "mincharnum": 0}, ShapeError, "must be positive, got 0"),
    ],
)
def test_rules_that_make_no_sense_are_named(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    attributes = {"mark": 0, "pad_value": "", "mincharnum": 1, **change}
    with pytest.raises(error, match=message):
        run_op("Tokenizer", [np.array(["a"], object)], attributes, **WHERE)


def test_texts_have_one_axis_or_two() -> None:
    attributes = {"mark": 0, "pad_value": "", "mincharnum": 1, "separators": [" "]}
    with pytest.raises(ShapeError, match="X must have one axis or two"):
        run_op("Tokenizer", [np.full((1, 1, 1), "a", object)], attributes, **WHERE)


@pytest.mark.parametrize(
    "dtype", [np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64]
)
@pytest.mark.parametrize("positive", [0, 1])
def test_hashes_of_numbers_are_those_of_onnxruntime(dtype: Any, positive: int) -> None:
    x = (rng.random((3, 4)) * 1000).astype(dtype)
    agree("MurmurHash3", [x], {"positive": positive, "seed": 42}, rtol=0, atol=0)


def test_hashes_of_texts_are_those_of_onnxruntime() -> None:
    x = np.array(["", "a", "ab", "abc", "abcd", "abcde", "größe"], object)
    agree("MurmurHash3", [x], {"seed": 3}, rtol=0, atol=0, lowered=False)
