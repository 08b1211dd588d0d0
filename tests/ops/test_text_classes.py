"""Words as a class of characters tells them are those that the regular expression finds."""

from __future__ import annotations

import re
from itertools import groupby

import pytest

from fornix.ops.text_classes import ASCII, WordClass, word_class

EXPRESSIONS = [
    "[a-zA-Z0-9_]+", "[a-z]+", ".", r"\w\w+", r"\b\w\w+\b", r"\S+", "[^ ]+", r"[\w']+",
    "[a-z]{2,}", "[]a]+", "[^]a]+", "x", r"[a\-z]+", r"\.", ".+", r"[^\s]+", r"\b\w+\b", r"\d+",
]  # fmt: skip
SEPARATORS = [[" "], [r"\s"], ["[,;]", " "], [r"\s+", r"\."], [""], ["[^a-z]"]]
OTHERS = ["a|b", "ab", "(a)+", "[a-z]{2,3}", "[a-z]*", "a?", "^a", "a$", r"\b", "[é]", "é", "(", "",
          r"(?u)\w+"]  # fmt: skip
TEXT = "".join(map(chr, range(ASCII))) + " aB, don't ab.cd  x_1;y  aa  zz-top 42 xx]]"


def found_by(words: WordClass, text: str) -> list[str]:
    """The words of an ASCII text."""
    if words.is_single:
        return [one for one in text if words.entries[ord(one)]]
    runs = groupby(text, lambda one: words.entries[ord(one)])
    return [run for is_word, part in runs if is_word and len(run := "".join(part)) >= words.least]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_words_are_what_an_expression_finds(expression: str) -> None:
    words = word_class(expression, None)
    assert words is not None
    assert found_by(words, TEXT) == re.findall(expression, TEXT, re.ASCII)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_other_characters_are_part_of_words_or_none_is(expression: str) -> None:
    words = word_class(expression, None)
    assert words is not None
    samples = "éß\u4e2d\u0660\u2003\U0001f600"
    assert words.entries[ASCII] == bool(re.findall(expression, samples, re.ASCII))


@pytest.mark.parametrize("separators", SEPARATORS)
def test_words_are_what_lies_between_separators(separators: list[str]) -> None:
    words = word_class(None, separators)
    assert words is not None
    wanted = [*TEXT] if separators == [""] else re.split("|".join(separators), TEXT, flags=re.ASCII)
    assert found_by(words, TEXT) == [word for word in wanted if word]


def test_letters_beyond_ascii_may_be_words_unless_all_such_characters_separate() -> None:
    for separators, entry in (([r"\s"], 1), ([" "], 1), (["[^a-z]"], 0), ([" ", "[^a-z]"], 0)):
        words = word_class(None, separators)
        assert words is not None
        assert words.entries[ASCII] == entry


@pytest.mark.parametrize("expression", OTHERS)
def test_other_expressions_are_left_to_the_kernel(expression: str) -> None:
    assert word_class(expression, None) is None
    assert word_class(None, [expression]) is None or not expression


def test_one_of_both_says_what_words_are() -> None:
    assert word_class(None, None) is None
    assert word_class("a+", [" "]) is None
    assert word_class(None, []) is None
