"""Words are counted and multiplied as StringNormalizer, Tokenizer and what follows them say."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from fornix.errors import ShapeError
from fornix.format.text import parse_model
from fornix.ir.load import from_message
from fornix.ops import text_parts
from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession

ROUNDING = 1e-5
"""Sums in another order, relative to numbers of about 1."""


def model(
    expression: str,
    pool: str,
    *,
    counts: str = "[0]",
    lengths: tuple[int, int] = (1, 1),
    skip: int = 0,
    case: str = "LOWER",
    mode: str = "TF",
    least: int = 1,
    width: int,
    rest: str = "y = Identity (counts)",
    result: str = "float[N, K] y",
) -> Any:
    """Texts to ``result``, which ``rest`` makes of counts[N, width]."""
    weights = [round(0.5 + place / 7, 3) for place in range(width)]
    return from_message(
        parse_model(f"""
    <ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3, "com.microsoft" : 1]>
    g (string[N, 1] x) => ({result}) {{
      shape = Constant <value = int64[1] {{-1}}> ()
      flat = Reshape (x, shape)
      normal = StringNormalizer <case_change_action = "{case}"> (flat)
      words = com.microsoft.Tokenizer <mark = 0, mincharnum = {least}, pad_value = "#",
                                       {expression}> (normal)
      rows = Flatten (words)
      counts = TfIdfVectorizer <max_gram_length = {lengths[1]}, min_gram_length = {lengths[0]},
        max_skip_count = {skip}, mode = "{mode}", ngram_counts = {counts},
        ngram_indexes = {list(range(width))[::-1]}, pool_strings = {pool},
        weights = {weights}> (rows)
      {rest}
    }}
    """)
    )


def sampled(count: int, seed: int, alphabet: str = "abcAB,. -\n_0") -> np.ndarray[Any, Any]:
    source = random.Random(seed)
    words = ["a", "ab", "b", "ABC", "longer_word_than_eight", "ca", "c", ".", ""]
    texts = [
        " ".join(source.choice(words) for _ in range(source.randrange(9)))
        + "".join(source.choices(alphabet, k=source.randrange(12)))
        for _ in range(count)
    ]
    made = np.empty((count, 1), object)
    made[:, 0] = texts
    return made


def compare(wanted: Any, x: np.ndarray[Any, Any], kinds: set[str], tolerance: float = 0) -> None:
    """A session gives for ``x`` what kernels give, run by run, and has nodes of these ``kinds``."""
    session, evaluator = InferenceSession(wanted), ReferenceEvaluator(wanted)
    for rows in (len(x), 1, len(x)):
        results = evaluator.run(None, {"x": x[:rows]})
        for one, result in zip(session.run(None, {"x": x[:rows]}), results, strict=True):
            assert one.shape == result.shape
            assert one.dtype == result.dtype
            if one.dtype == object or not tolerance:
                np.testing.assert_array_equal(one, result)
            else:
                np.testing.assert_allclose(one, result, rtol=0, atol=tolerance)
    assert {place.op_type for place in session.placement() if not place.kernels} == kinds


SINGLES = '["a", "ab", "abc", "longer_word_than_eight", "B", "é"]'
PAIRS = '["a", "ab", "a", "b", "ab", "a", "b", "b"]'


@pytest.mark.parametrize(
    ("expression", "least"),
    [
        ('tokenexp = "[a-zA-Z0-9_]+"', 1),
        ('tokenexp = "[a-z]+"', 2),
        ('tokenexp = "[A-Z]+"', 1),
        ('tokenexp = "."', 1),
        ('tokenexp = "\\\\\\\\w\\\\\\\\w+"', 1),
        ('separators = [" ", ","]', 1),
        ('separators = [""]', 1),
    ],
)
@pytest.mark.parametrize("case", ["LOWER", "UPPER", "NONE"])
def test_single_words_are_counted(expression: str, least: int, case: str) -> None:
    made = model(expression.replace("\\\\\\\\", "\\\\"), SINGLES, case=case, least=least, width=6)
    compare(made, sampled(60, 1), {"WordCounts"})


@pytest.mark.parametrize(
    "alphabet", ["aéB, ", "a\u0130\u212ab ", "ab\U0001f600\u4e2d ", "Aß\ufb00 "]
)
@pytest.mark.parametrize("case", ["LOWER", "UPPER"])
@pytest.mark.parametrize("expression", ["[a-zA-Z0-9_]+", "[^ ,]+"])
def test_texts_of_other_characters_give_the_same(alphabet: str, case: str, expression: str) -> None:
    made = model(f'tokenexp = "{expression}"', SINGLES, case=case, width=6)
    compare(made, sampled(60, 2, alphabet), {"WordCounts"})


MIXED = ("aéB, ", "aΣςσ İK", "\U0001f600a中é ", "e\u0301\u200d👩😀", "\ud800\udfffa", "ßﬁǅÿŸ\n")
"""Characters of 1, 2 and 4 bytes, some of which become others or more in another case."""


@pytest.mark.parametrize("case", ["LOWER", "UPPER", "NONE"])
@pytest.mark.parametrize(
    "expression",
    ['tokenexp = "."', 'tokenexp = "[^ ,]+"', 'separators = [""]', 'separators = [" "]'],
)
@pytest.mark.parametrize("least", [1, 2])
def test_words_of_characters_of_every_width_are_counted(
    expression: str, case: str, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    singles = '"a", "é", "É", "σ", "ς", "中", "😀", "ABC", "ab"'
    pairs = '"A", "é", "e", "中", "a", "ß", "😀", "中"'
    are_single = expression in {'tokenexp = "."', 'separators = [""]'}
    made = model(
        expression,
        f"[{singles}, {pairs}]",
        counts="[0, 9]",
        lengths=(1, 2),
        case=case,
        least=least,
        width=13,
    )
    x = np.concatenate([sampled(30, seed, alphabet) for seed, alphabet in enumerate(MIXED)])
    x[5], x[6] = "", "éé中中😀a" * 99
    wanted = ReferenceEvaluator(made).run(None, {"x": x})[0]
    session = InferenceSession(made)
    session.run(None, {"x": x[:2]})
    monkeypatch.setattr(text_parts, "tokenizer", _refuse)
    for start, end in [(0, len(x)), (5, 6), (3, 60), (100, 180), (0, len(x))]:
        [found] = session.run(None, {"x": x[start:end]})
        np.testing.assert_array_equal(found, wanted[start:end])
    assert wanted.any() == (least == 1 or not are_single)


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("a text is left to the kernel")


@pytest.mark.parametrize("lengths", [(1, 2), (2, 2)])
@pytest.mark.parametrize("skip", [0, 2])
@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
def test_words_in_a_row_are_counted(lengths: tuple[int, int], skip: int, mode: str) -> None:
    made = model(
        'tokenexp = "[a-z]+"',
        PAIRS,
        counts="[0, 2]",
        lengths=lengths,
        skip=skip,
        mode=mode,
        width=5,
    )
    compare(made, sampled(80, 3), {"WordCounts"})


def test_very_long_texts_give_the_same() -> None:
    x = np.array([["a " * 20_000], ["é" + "ab " * 9_000], ["a b"]], object)
    made = model('tokenexp = "[a-z]+"', PAIRS, counts="[0, 2]", lengths=(1, 2), width=5)
    compare(made, x, {"WordCounts"})
    compare(model('tokenexp = "[a-z]+"', SINGLES, width=6), x, {"WordCounts"})


LINEAR = """
  normal_rows = ai.onnx.ml.Normalizer <norm = "@"> (counts)
  label, y = ai.onnx.ml.LinearClassifier <classlabels_ints = [0, 1], post_transform = "SOFTMAX",
    intercepts = [0.25, -0.5],
    coefficients = [1.0, 0.5, -1.0, 0.0, 2.0, -0.25, 0.0, 1.0, 3.0, 0.5, -2.0, 1.0]> (normal_rows)
"""


@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_normalized_counts_are_multiplied_word_by_word(norm: str) -> None:
    result = "int64[N] label, float[N, 2] y"
    made = model(
        'tokenexp = "[a-z]+"', SINGLES, mode="TFIDF", width=6, rest=LINEAR.replace("@", norm),
        result=result,
    )  # fmt: skip
    compare(made, sampled(70, 4, "aéb "), {"WordProduct"}, tolerance=ROUNDING)


def test_a_product_and_a_sum_are_computed_word_by_word() -> None:
    rest = """
      matrix = Constant <value = float[6, 2] {1, 2, 3, 4, 5, 6, -1, -2, -3, 0.5, 0.25, 1}> ()
      row = Constant <value = float[2] {0.5, -0.5}> ()
      product = MatMul (counts, matrix)
      y = Add (product, row)
    """
    made = model('tokenexp = "[a-z]+"', SINGLES, width=6, rest=rest)
    compare(made, sampled(70, 5), {"WordProduct"}, tolerance=ROUNDING)


@pytest.mark.parametrize(
    "rest",
    [
        'y = ai.onnx.ml.Normalizer <norm = "MAX"> (counts)',
        "y = Softmax (counts)",
        "t = Transpose <perm = [1, 0]> (counts)\n y = MatMul (counts, t)",
    ],
)
def test_counts_that_are_used_otherwise_are_there(rest: str) -> None:
    made = model('tokenexp = "[a-z]+"', SINGLES, width=6, rest=rest)
    compare(made, sampled(30, 6), {"WordCounts"}, tolerance=ROUNDING)


@pytest.mark.parametrize(
    "feed", [["a", None], ["a", b"ab"], ["a", np.str_("ab")], ["a", 7], ["", "a"]]
)
def test_what_is_no_plain_text_counts_as_it_prints(feed: list[Any]) -> None:
    made = model('tokenexp = "[a-z0-9]+"', '["a", "ab", "none", "7"]', width=4)
    session, x = InferenceSession(made), np.empty((2, 1), object)
    plain = ["" if one is None else one.decode() if isinstance(one, bytes) else str(one)
             for one in feed]  # fmt: skip
    plain = ["None" if one is None else text for one, text in zip(feed, plain, strict=True)]
    for _ in range(3):
        x[:, 0] = ["a", "ab"]
        session.run(None, {"x": x})
        x[:, 0] = feed
        [found] = session.run(None, {"x": x})
        [wanted] = ReferenceEvaluator(made).run(None, {"x": np.array(plain, object)[:, None]})
        np.testing.assert_array_equal(found, wanted)


def of_columns(
    columns: int, axis: int = 1, *, lengths: tuple[int, int] = (1, 2), skip: int = 0
) -> Any:
    """Texts that Tokenizer reads as they are fed, in some columns."""
    return from_message(
        parse_model(f"""
    <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    g (string[N, {columns}] x) => (float[M, 8] y) {{
      words = com.microsoft.Tokenizer <mark = 0, mincharnum = 1, pad_value = "#",
                                       tokenexp = "[a-zA-Z0-9_]+"> (x)
      rows = Flatten <axis = {axis}> (words)
      y = TfIdfVectorizer <max_gram_length = {lengths[1]}, min_gram_length = {lengths[0]},
        max_skip_count = {skip}, mode = "TF", ngram_counts = [0, 4],
        ngram_indexes = [0, 1, 2, 3, 4, 5, 6, 7],
        pool_strings = ["a", "ab", "ABC", "c", "a", "ab", "ab", "a", "b", "ABC", "c", "a"]> (rows)
    }}
    """)
    )


@pytest.mark.parametrize("lengths", [(1, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("skip", [0, 3])
def test_a_column_of_texts_is_counted_as_a_list_is(lengths: tuple[int, int], skip: int) -> None:
    compare(of_columns(1, lengths=lengths, skip=skip), sampled(40, 7), {"WordCounts"})


def test_a_column_without_texts_has_no_counts() -> None:
    session = InferenceSession(of_columns(1))
    for rows in (2, 0, 3, 0):
        [found] = session.run(None, {"x": sampled(rows, 8)})
        [wanted] = ReferenceEvaluator(of_columns(1)).run(None, {"x": sampled(rows, 8)})
        assert found.shape == wanted.shape == (rows, 8)
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("columns", "axis"), [(2, 1), (1, 2)])
def test_words_of_several_texts_in_a_row_are_no_column(columns: int, axis: int) -> None:
    x = np.concatenate([sampled(20, 9)] * columns, axis=1)
    compare(of_columns(columns, axis), x, {"Tokenizer", "TfIdfVectorizer", "Flatten"})


def test_a_column_that_has_to_be_a_list_is_refused() -> None:
    made = from_message(
        parse_model("""
    <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    g (string[N, 1] x) => (float[N, 1] y) {
      lower = StringNormalizer <case_change_action = "LOWER"> (x)
      words = com.microsoft.Tokenizer <mark = 0, mincharnum = 1, pad_value = "#",
                                       tokenexp = "[a-z]+"> (lower)
      rows = Flatten (words)
      y = TfIdfVectorizer <max_gram_length = 1, min_gram_length = 1, max_skip_count = 0,
        mode = "TF", ngram_counts = [0], ngram_indexes = [0], pool_strings = ["a"]> (rows)
    }
    """)
    )
    session = InferenceSession(made)
    for _ in range(3):
        [found] = session.run(None, {"x": np.array([["A b a"]], object)})
        assert found.tolist() == [[2.0]]
        with pytest.raises(ShapeError, match=r"\[C\] or \[1, C\], found \[2, 1\]"):
            session.run(None, {"x": np.array([["a"], ["b"]], object)})
