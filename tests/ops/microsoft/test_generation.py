from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import Fail, ShapeError
from tests.ops.harness import fact_of, infer_op, run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(29)
WHERE: dict[str, Any] = {"domain": DOMAIN, "opset": 1}


def tokens(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 12, 13])
def test_n_grams_do_not_repeat(size: int) -> None:
    ids = rng.integers(0, 3, (4, 12))
    scores = rng.standard_normal((4, 7)).astype(np.float32)
    agree("NGramRepeatBlock", [ids, scores], {"ngram_size": size})


def test_only_tokens_that_would_repeat_need_scores() -> None:
    ids = tokens(9, -5, 2, 3, 1, 2)[None]
    scores = np.ones((1, 4), np.float32)
    [y] = run_op("NGramRepeatBlock", [ids, scores], {"ngram_size": 2}, **WHERE)
    assert y.tolist() == [[1, 1, 1, -np.inf]]
    ids[0, 3] = 4
    with pytest.raises(Fail, match=r"tokens must be in \[0, 3\], got 4"):
        run_op("NGramRepeatBlock", [ids, scores], {"ngram_size": 2}, **WHERE)


@pytest.mark.parametrize(
    ("ids", "scores", "size", "message"),
    [
        ((2, 3), (2, 4), 0, "ngram_size must be positive, got 0"),
        ((2, 3), (3, 4), 2, r"scores must be scores\[2, \?\], got scores\[3, 4\]"),
        ((3,), (3, 4), 2, r"input_ids must be input_ids\[\?, \?\], got input_ids\[3\]"),
    ],
)
def test_rows_of_tokens_have_scores(
    ids: tuple[int, ...], scores: tuple[int, ...], size: int, message: str
) -> None:
    facts = [fact_of(np.ones(ids, np.int64)), fact_of(np.ones(scores, np.float32))]
    with pytest.raises(ShapeError, match=message):
        infer_op("NGramRepeatBlock", facts, {"ngram_size": size}, **WHERE)


SOURCE = tokens(1, 5, 3, 4, 2, 5, 3, 2)


@pytest.mark.parametrize(
    "current", [tokens(2, 1), tokens(0, 5), tokens(5, 3), tokens(1, 5, 3), tokens(9), tokens(3, 2)]
)
@pytest.mark.parametrize("predicted", [None, tokens(4, 2, 5, 9, 2, 1), tokens(9, 0, 0, 0, 0, 0)])
@pytest.mark.parametrize("sizes", [(1, 3), (2, 2), (1, 9)])
def test_tokens_are_taken_until_they_differ(
    current: Any, predicted: Any, sizes: tuple[int, int]
) -> None:
    least, most = sizes
    inputs = [SOURCE, current, tokens(3), *([] if predicted is None else [predicted])]
    attributes = {"min_ngram_size": least, "max_ngram_size": most}
    agree("BifurcationDetector", inputs, attributes, outputs=2, lowered=False)


@pytest.mark.parametrize(
    ("first", "count", "sizes", "message"),
    [
        (9, 1, (1, 3), r"prev_suffix_match_idx must be in \[0, 8\], got 9"),
        (3, 5, (1, 3), r"pred_tokens must be pred_tokens\[6\], got pred_tokens\[5\]"),
        (3, 6, (4, 3), r"min_ngram_size must be in \[1, 3\], got 4"),
    ],
)
def test_tokens_are_predicted_for_the_rest_of_the_source(
    first: int, count: int, sizes: tuple[int, int], message: str
) -> None:
    inputs = [SOURCE, tokens(1), tokens(first), np.ones(count, np.int64)]
    attributes = {"min_ngram_size": sizes[0], "max_ngram_size": sizes[1]}
    with pytest.raises(ShapeError, match=message):
        run_op("BifurcationDetector", inputs, attributes, outputs=2, **WHERE)


@pytest.mark.parametrize("count", [0, 2])
def test_a_match_is_one_number(count: int) -> None:
    inputs = [SOURCE, tokens(1), np.zeros(count, np.int64), np.ones(9, np.int64)]
    message = "prev_suffix_match_idx must be one number, got prev_suffix_match_idx"
    with pytest.raises(ShapeError, match=rf"{message}\[{count}\]"):
        run_op("BifurcationDetector", inputs, {}, outputs=2, **WHERE)
    with pytest.raises(ShapeError, match=rf"{message}\[{count}\]"):
        infer_op("BifurcationDetector", [fact_of(x) for x in inputs], {}, outputs=2, **WHERE)
