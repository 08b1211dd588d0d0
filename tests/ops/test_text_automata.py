"""Tables of moves find the longest matches of regular expressions, or there is no table."""

from __future__ import annotations

import random
import re

import pytest

from fornix.ops.text_automata import WIDTH, Automaton, finder, finding, matching, running
from fornix.ops.text_classes import ASCII, WordClass

ATOMS = ("a", "b", "[ab]", "[^a]", ".", r"\w", r"\s", r"\.", "ab", "(?:a|b)", "(ab|a)", "c")
COUNTS = ("", "", "", "*", "+", "?", "{2}", "{1,2}", "{2,}", "*?", "+?", "??", "{1,3}?")


def end_of(table: Automaton, text: str, start: int) -> int:
    """Where the match at a place ends, as compiled code walks the table."""
    state, end = table.start, start
    for at in range(start, len(text)):
        state = int(table.moves[state + min(ord(text[at]), ASCII)])
        if state >= table.final:
            end = at + 1
    return end


def found_by(table: Automaton, text: str) -> list[str]:
    found, at = [], 0
    while at < len(text):
        end = end_of(table, text, at)
        if end > at:
            found.append(text[at:end])
        at = max(end, at + 1)
    return found


def longest_of(compiled: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    """Where the longest matches lie: no end of a text matters to these expressions."""
    found, at = [], 0
    while at < len(text):
        ends = [end for end in range(at + 1, len(text) + 1) if compiled.fullmatch(text, at, end)]
        if ends:
            found.append((at, ends[-1]))
        at = max([at + 1, *ends])
    return found


def is_whole(table: Automaton, text: str) -> bool:
    state = table.start
    for character in text:
        state = int(table.moves[state + min(ord(character), ASCII)])
    return state >= table.final


def drawn(source: random.Random, depth: int = 2) -> str:
    """A regular expression."""
    parts = []
    for _ in range(source.randrange(1, 4)):
        is_group = depth and source.random() < 0.3
        inner = f"({drawn(source, depth - 1)})" if is_group else source.choice(ATOMS)
        count = source.choice(COUNTS)
        parts.append(f"(?:{inner}){count}" if count and len(inner) > 1 else inner + count)
    rest = "|" + drawn(source, depth - 1) if depth and source.random() < 0.3 else ""
    return "".join(parts) + rest


@pytest.mark.parametrize("seed", range(30))
def test_matches_are_what_python_takes_for_a_whole(seed: int) -> None:
    source = random.Random(seed)
    expression = drawn(source)
    compiled = re.compile(expression, re.ASCII)
    table, whole, find = finding(expression), matching(expression), finder(expression)
    texts = ["".join(source.choices("aabbc. \né", k=source.randrange(9))) for _ in range(20)]
    for text in texts:
        if table is not None and find is not None:
            longest = [text[start:end] for start, end in longest_of(compiled, text)]
            assert found_by(table, text) == longest, expression
            assert list(find(text)) == longest_of(compiled, text), expression
        if whole is not None:
            assert is_whole(whole, text) == (compiled.fullmatch(text) is not None), expression


def test_most_expressions_have_tables() -> None:
    drawn_ones = [drawn(random.Random(seed)) for seed in range(100)]
    assert sum(matching(expression) is not None for expression in drawn_ones) > 70


@pytest.mark.parametrize(
    "expression",
    [r"\bab", "a(?=b)", "(?i)a", r"(a)\1", "ä", "a++", "(?u)a", "[[:alpha:]]", "a{,3}",
     "a|b$", "(", "a{2000}", "(?:a|b)*a(?:a|b){12}", "a^"],
)  # fmt: skip
def test_what_no_table_can_do_is_left(expression: str) -> None:
    assert matching(expression) is None


def test_a_match_that_may_be_empty_is_left() -> None:
    assert finding("a*") is None
    assert matching("a*") is not None


def test_nothing_may_be_repeated_as_often_as_one_likes() -> None:
    assert matching("(?:" * 5 + "){1000}" * 5) is not None


def test_a_table_that_takes_long_to_make_is_left() -> None:
    expression = "(?:(?:.?){0,20}){0,10}(?:" + "|".join("0123456789abcdefghijklmnop") + ")"
    assert matching(expression) is None


@pytest.mark.parametrize("expression", ["^ab$", "ab$", "^ab"])
def test_a_whole_text_has_its_ends_anyway(expression: str) -> None:
    table = matching(expression)
    assert table is not None
    assert is_whole(table, "ab")
    assert not is_whole(table, "ab\n")


@pytest.mark.parametrize("expression", ["(a*)*", "(a*|b?)+", "(?:(a|)+b*)*", "(?:(a??){2,}){0,2}"])
def test_what_may_be_empty_may_be_repeated(expression: str) -> None:
    table, compiled = matching(expression), re.compile(expression)
    assert table is not None
    for text in ("", "a", "aab", "bba", "abab", "c", "aac"):
        assert is_whole(table, text) == (compiled.fullmatch(text) is not None)


def test_a_dollar_may_be_meant() -> None:
    table = matching(r"a\$")
    assert table is not None
    assert is_whole(table, "a$")


@pytest.mark.parametrize(("is_single", "found"), [(True, ["a", "a", "é"]), (False, ["aa", "é"])])
def test_a_class_has_runs(is_single: bool, found: list[str]) -> None:
    entries = bytes(chr(code) == "a" or code == ASCII for code in range(WIDTH))
    assert found_by(running(WordClass(entries, is_single, 1)), "aa.é") == found
