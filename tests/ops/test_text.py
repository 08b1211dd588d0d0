from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.dtype import FLOAT32, INT64, STRING
from fornix.errors import ShapeError, ValidationError
from fornix.ir.dim import maximum, symbol
from fornix.ops.fact import tensor, unranked
from tests.ops.harness import check_node, infer_op, peer, run_op

N, C = symbol("N"), symbol("C")


def words(*values: str, shape: tuple[int, ...] | None = None) -> Any:
    array = np.array(values, object)
    return array if shape is None else array.reshape(shape)


def test_string_concat_broadcasts() -> None:
    pairs = words("ac", "ad", "bc", "bd", shape=(2, 2))
    inputs = [words("a", "b", shape=(2, 1)), words("c", "d")]
    check_node("StringConcat", inputs, expected=[pairs])
    for one, other in [((1,), ()), ((), (1,)), ((1, 1), (1,)), ((1,), (1, 1))]:
        both = [words("x", shape=one), words("é", shape=other)]
        check_node("StringConcat", both, expected=[words("xé", shape=max(one, other, key=len))])
    check_node("StringConcat", [words("x", shape=()), words("é", shape=())],
               expected=[words("xé", shape=())])  # fmt: skip


@pytest.mark.parametrize("name", ["StringConcat", "Equal", "Where"])
@pytest.mark.parametrize("shapes", [((), ()), ((0,), (1,)), ((2, 1), (3,)), ((2, 0, 1), (5,))])
def test_texts_broadcast(name: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """Element by element, scalars and nothing at all too."""
    x, y = (np.resize(words("a", "b", "c"), shape) for shape in shapes)
    pairs = list(zip(*(one.flat for one in np.broadcast_arrays(x, y)), strict=True))
    found: dict[str, list[object]] = {
        "StringConcat": [a + b for a, b in pairs],
        "Equal": [a == b for a, b in pairs],
        "Where": [b for _, b in pairs],
    }
    dtype = bool if name == "Equal" else object
    shape = np.broadcast_shapes(*shapes)
    inputs = [np.zeros((), bool), x, y] if name == "Where" else [x, y]
    check_node(name, inputs, expected=[np.array(found[name], dtype).reshape(shape)])


@pytest.mark.parametrize("name", ["StringConcat", "Equal"])
def test_texts_that_do_not_broadcast_are_refused(name: str) -> None:
    message = r"shapes must broadcast, got \[2\] and \[3\]: 2 and 3 differ and neither is 1"
    with pytest.raises(ShapeError, match=message):
        run_op(name, [words("a", "b"), words("a", "b", "c")])


@pytest.mark.parametrize("pattern", [r"\d+", "a|b", "", "[a-z]*@[a-z]+"])
def test_regex_full_match_agrees_with_the_peer(pattern: str) -> None:
    texts = words("12", "a", "", "ab", "me@home", "12 ")
    expected = peer("RegexFullMatch", [texts], {"pattern": pattern})
    check_node("RegexFullMatch", [texts], {"pattern": pattern}, expected=expected)


def test_regex_full_match_refuses_what_is_no_expression() -> None:
    with pytest.raises(ValidationError, match=r"pattern must be a regular expression, got '\(': m"):
        run_op("RegexFullMatch", [words("a")], {"pattern": "("})


@pytest.mark.parametrize(
    "attributes", [{}, {"delimiter": ""}, {"delimiter": ","}, {"delimiter": ",", "maxsplit": 1}]
)
def test_string_split_agrees_with_the_peer(attributes: dict[str, Any]) -> None:
    texts = words("a,b", " a  b ", "a,,c", ",", "x", "a,b,c", shape=(3, 2))
    expected = peer("StringSplit", [texts], attributes, outputs=2)
    check_node("StringSplit", [texts], attributes, expected=expected)


def test_string_split_of_an_empty_string_has_one_part_if_there_is_a_delimiter() -> None:
    # As the standard's reference has it; onnxruntime counts none.
    texts = words("", "a")
    expected = [words("", "a", shape=(2, 1)), np.array([1, 1])]
    check_node("StringSplit", [texts], {"delimiter": ","}, expected=expected)
    check_node("StringSplit", [texts], expected=[expected[0], np.array([0, 1])])


@pytest.mark.parametrize("count", [1, 3, 4, 40])
def test_rows_of_parts_are_filled_up_however_many_there_are(
    count: int, rng: np.random.Generator
) -> None:
    parts = [["p"] * n for n in [4, *rng.integers(1, 5, count - 1).tolist()]]
    texts = words(*map(" ".join, parts))
    filled = words(*(text for own in parts for text in (*own, *[""] * (4 - len(own)))))
    lengths = np.array([len(own) for own in parts])
    check_node("StringSplit", [texts], expected=[filled.reshape(count, 4), lengths])


@pytest.mark.parametrize("shape", [(4,), (4, 1), (1, 1), (0, 4), ()])
def test_texts_are_equal_element_by_element(shape: tuple[int, ...]) -> None:
    texts = np.resize(words("a", "", "é", "a\0"), shape)
    others = words("a", "a", "é", "a")
    rows = np.broadcast_to(texts, np.broadcast_shapes(shape, (4,)))
    wanted = [a == b for row in rows.reshape(-1, 4) for a, b in zip(row, others, strict=True)]
    check_node("Equal", [texts, others], expected=[np.array(wanted, bool).reshape(rows.shape)])


def test_string_split_of_nothing() -> None:
    none = np.empty((0, 2), object)
    parts, counts = run_op("StringSplit", [none], outputs=2)
    assert parts.shape == (0, 2, 0)
    assert counts.shape == (0, 2)


def test_string_split_adds_an_axis() -> None:
    parts, counts = infer_op("StringSplit", [tensor(STRING, (N, 2))], outputs=2)
    assert parts.shape[:2] == counts.shape == (N, 2)
    assert counts.dtype is INT64


@pytest.mark.parametrize("action", ["NONE", "LOWER", "UPPER"])
@pytest.mark.parametrize("is_case_sensitive", [0, 1])
def test_string_normalizer_agrees_with_the_peer(action: str, is_case_sensitive: int) -> None:
    texts = words("Monday", "tuesday", "TUESDAY")
    attributes = {
        "case_change_action": action,
        "is_case_sensitive": is_case_sensitive,
        "stopwords": ["Tuesday", "tuesday"],
        "locale": "C",
    }
    for given in (texts, texts.reshape(1, 3)):
        expected = peer("StringNormalizer", [given], attributes)
        check_node("StringNormalizer", [given], attributes, expected=expected)


def test_string_normalizer_leaves_one_empty_string() -> None:
    attributes = {"stopwords": ["a"], "is_case_sensitive": 1}
    check_node("StringNormalizer", [words("a", "a")], attributes, expected=[words("")])
    check_node("StringNormalizer", [words("a", shape=(1, 1))], attributes,
               expected=[words("", shape=(1, 1))])  # fmt: skip


@pytest.mark.parametrize(
    ("data", "attributes", "message"),
    [
        (words("a", "b", shape=(2, 1)), {}, r"X must be \[C\] or \[1, C\], found \[2, 1\]"),
        (words("a"), {"case_change_action": "SWAP"}, "must be NONE, LOWER or UPPER, got 'SWAP'"),
    ],
)
def test_string_normalizer_says_what_does_not_fit(
    data: Any, attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("StringNormalizer", [data], attributes)


def test_strings_of_unknown_rank_keep_their_type() -> None:
    assert infer_op("RegexFullMatch", [unranked(STRING)], {"pattern": ""})[0].dtype is not None
    assert infer_op("StringNormalizer", [tensor(STRING, (C,))])[0].shape == (maximum(C, 1),)


NUMBERS = {
    "min_gram_length": 1,
    "max_gram_length": 2,
    "max_skip_count": 1,
    "mode": "TF",
    "ngram_counts": [0, 4],
    "ngram_indexes": [0, 1, 2, 3, 4, 5, 6],
    "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7],
}


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("skips", [0, 1, 5])
@pytest.mark.parametrize("lengths", [(1, 1), (1, 2), (2, 2)])
def test_tf_idf_vectorizer_agrees_with_the_peer(
    mode: str, skips: int, lengths: tuple[int, int]
) -> None:
    rows = np.array([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]])
    attributes = NUMBERS | {"mode": mode, "max_skip_count": skips}
    attributes |= {"min_gram_length": lengths[0], "max_gram_length": lengths[1]}
    attributes |= {"weights": [2.0, 3.0, 0.5, 1.0, 4.0, 5.0, 6.0]}
    for given in (rows, rows[1], rows.astype(np.int32)):
        expected = peer("TfIdfVectorizer", [given], attributes)
        check_node("TfIdfVectorizer", [given], attributes, expected=expected)


def test_tf_idf_vectorizer_counts_words() -> None:
    attributes = NUMBERS | {"pool_strings": ["a", "b", "b", "a"], "ngram_counts": [0, 2]}
    attributes |= {"ngram_indexes": [1, 2, 0]}
    del attributes["pool_int64s"]
    check_node("TfIdfVectorizer", [words("a", "b", "a")], attributes,
               expected=[np.array([1, 2, 1], np.float32)])  # fmt: skip


def test_tf_idf_vectorizer_infers_one_column_per_coordinate() -> None:
    [fact] = infer_op("TfIdfVectorizer", [tensor(INT64, (N, C))], NUMBERS)
    assert fact.shape == (N, 7)
    assert fact.dtype is FLOAT32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "DF"}, "mode must be TF, IDF or TFIDF, got 'DF'"),
        ({"pool_strings": ["a"]}, "either pool_int64s or pool_strings must be given"),
        ({"ngram_counts": [4, 0]}, r"ngram_counts must rise from 0 to at most 10, got \[4, 0\]"),
        ({"ngram_indexes": [0]}, "an entry for each of 7 n-grams, found 1"),
        ({"mode": "IDF", "weights": [1.0]}, "weights must have 7 entries, found 1"),
    ],
)
def test_tf_idf_vectorizer_says_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("TfIdfVectorizer", [np.array([1, 2])], NUMBERS | changes)


def test_tf_idf_vectorizer_needs_rows() -> None:
    with pytest.raises(ShapeError, match=r"X must be \[C\] or \[N, C\], found \[\]"):
        run_op("TfIdfVectorizer", [np.array(1)], NUMBERS)


@pytest.mark.parametrize("pattern", [r"\w+", r"\d+", r"\S+\s\S+"])
def test_classes_of_characters_are_those_of_ascii(pattern: str) -> None:
    words = np.array(
        ["ne", "né", "12", "\N{ARABIC-INDIC DIGIT ONE}", "a b", "a\N{NO-BREAK SPACE}b"], object
    )
    wanted = peer("RegexFullMatch", [words], {"pattern": pattern})
    check_node("RegexFullMatch", [words], {"pattern": pattern}, expected=wanted)


def test_the_last_part_of_a_split_at_white_space_ends_without_any() -> None:
    texts = np.array([" a  b ", "a b  c "], object)
    wanted = peer("StringSplit", [texts], {"maxsplit": 1}, outputs=2)
    check_node("StringSplit", [texts], {"maxsplit": 1}, expected=wanted)


def test_no_words_leave_one_empty_word() -> None:
    empty = np.zeros((1, 0), object)
    check_node("StringNormalizer", [empty], expected=[np.array([[""]], object)])


def test_no_rows_have_no_counts() -> None:
    attributes = {
        "max_gram_length": 1, "min_gram_length": 1, "max_skip_count": 0, "mode": "TF",
        "ngram_counts": [0], "ngram_indexes": [0], "pool_int64s": [2],
    }  # fmt: skip
    for shape in ((0,), (0, 3)):
        wanted = np.zeros((*shape[:-1], 1), np.float32)
        check_node("TfIdfVectorizer", [np.zeros(shape, np.int64)], attributes, expected=[wanted])


def test_skips_and_lengths_beyond_the_row_cost_nothing() -> None:
    attributes = {
        "max_gram_length": 2**62, "min_gram_length": 1, "max_skip_count": 2**62, "mode": "TF",
        "ngram_counts": [0, 2], "ngram_indexes": [0, 1, 2], "pool_int64s": [2, 5, 2, 5],
    }  # fmt: skip
    rows = np.array([[2, 5, 5, 2, 5]], np.int64)
    # 2 and 5 stand 1, 2 and 4 places apart and, at the end, 1 place
    check_node("TfIdfVectorizer", [rows], attributes, expected=[np.array([[2, 3, 4]], np.float32)])


def test_coordinates_of_grams_are_not_negative() -> None:
    attributes = {
        "max_gram_length": 1, "min_gram_length": 1, "max_skip_count": 0, "mode": "TF",
        "ngram_counts": [0], "ngram_indexes": [3, -2], "pool_int64s": [2, 5],
    }  # fmt: skip
    with pytest.raises(ShapeError, match="ngram_indexes must not be negative, got -2"):
        run_op("TfIdfVectorizer", [np.array([2])], attributes)


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("indexes", [[1, 0], [2, 0], [0, 0]])
@pytest.mark.parametrize("weights", [[10.0, 100.0], [100.0, 10.0]])
def test_weights_go_by_n_gram(mode: str, indexes: list[int], weights: list[float]) -> None:
    attributes = {
        "max_gram_length": 1, "min_gram_length": 1, "max_skip_count": 0, "mode": mode,
        "ngram_counts": [0], "ngram_indexes": indexes, "pool_int64s": [2, 5], "weights": weights,
    }  # fmt: skip
    row = np.array([2, 2, 5])
    wanted = peer("TfIdfVectorizer", [row], attributes)
    check_node("TfIdfVectorizer", [row], attributes, expected=wanted)


@pytest.mark.parametrize("compares", [0, 1])
def test_texts_are_places_in_a_list_of_all_of_them(compares: int) -> None:
    one, other = np.array([["b", "a"], ["a", "c"]], object), np.array("b", object)
    attributes = {"stored": ["c", "x"], "compares": compares}
    names, *numbers = run_op(
        "Indexed", [one, other], attributes, opset=1, outputs=3, domain="fornix.parts"
    )
    assert names.tolist() == ["c", "x", "b", "a", "a", "c", "b"]
    assert names[numbers[0]].tolist() == one.tolist()
    assert names[numbers[1]] == "b"
    expected = [[[2, 3], [3, 0]], 2] if compares else [[[2, 3], [4, 5]], 6]
    assert [n.tolist() for n in numbers] == expected


def test_without_texts_nothing_has_a_place() -> None:
    empty = np.empty((0, 3), object)
    names, numbers = run_op(
        "Indexed", [empty], {"compares": 1}, opset=1, outputs=2, domain="fornix.parts"
    )
    assert (names.shape, numbers.shape, numbers.dtype) == ((0,), (0, 3), np.int64)
