from __future__ import annotations

import math

import pytest

from fornix.errors import ParseError
from fornix.format.text import Tokens


def kinds(text: str) -> list[tuple[str, str]]:
    tokens, found = Tokens(text), []
    while tokens.kind != "end":
        token = tokens.next()
        found.append((token.kind, token.text))
    return found


def test_tokens_have_kind_and_text() -> None:
    assert kinds('a_1 -2 3.5e-1 "q\\"" => ... ? b"\\x00"') == [
        ("identifier", "a_1"),
        ("integer", "-2"),
        ("float", "3.5e-1"),
        ("string", '"q\\""'),
        ("punctuation", "=>"),
        ("punctuation", "..."),
        ("punctuation", "?"),
        ("string", 'b"\\x00"'),
    ]


def test_comments_and_space_separate_tokens() -> None:
    assert kinds("a# b\n\t\r\f\v c #") == [("identifier", "a"), ("identifier", "c")]


def test_a_note_is_a_token_only_ahead_of_a_brace() -> None:
    assert kinds("#@ {")[0] == ("punctuation", "#@")
    assert kinds("#@ x {") == []


@pytest.mark.parametrize("text", ["1.", "1.5", ".5", "-.5", "1e5", "1E+5", "1.e5", "-inf", "-NaN"])
def test_floats(text: str) -> None:
    assert kinds(text) == [("float", text)]


def test_unsigned_inf_and_nan_are_names_that_number_accepts() -> None:
    tokens = Tokens("inf Infinity nan infx")
    assert tokens.kind == "identifier"
    assert [tokens.number(), tokens.number()] == [math.inf, math.inf]
    assert math.isnan(tokens.number())
    assert not tokens.at_float()


def test_a_backslash_stands_for_the_next_character() -> None:
    assert Tokens(r'"a\n\\\"é"').string() == 'an\\"é'


def test_bytes_have_the_usual_escapes() -> None:
    assert Tokens(r'b"\n\r\t\"\\\xff"').raw_string() == b'\n\r\t"\\\xff'


def test_literals_are_numbers_or_strings() -> None:
    tokens = Tokens('1 2.5 "x"')
    assert [tokens.literal(), tokens.literal(), tokens.literal()] == [1, 2.5, "x"]


def test_positions_are_offsets_and_seek_returns_to_them() -> None:
    tokens = Tokens("a\n  bc")
    tokens.advance()
    assert (tokens.start, tokens.end) == (4, 6)
    tokens.seek(0)
    assert tokens.word == "a"
    assert tokens.after().text == "bc"
    assert tokens.word == "a"


def test_an_error_shows_its_place() -> None:
    tokens = Tokens("g {\n    y = Conv <group = 1> (X W)\n}", "resnet.onnxtxt")
    while tokens.word != "W":
        tokens.advance()
    error = tokens.expected("',' or ')'", "after input 'X'")
    assert str(error) == (
        "resnet.onnxtxt:2:29: expected ',' or ')' after input 'X', found 'W'\n"
        "    y = Conv <group = 1> (X W)\n"
        "                            ^"
    )
    assert (error.line, error.column) == (2, 29)
    assert error.source_line == "    y = Conv <group = 1> (X W)"


def test_the_caret_follows_tabs() -> None:
    assert str(Tokens("\t\tx").error("no")).endswith("\n\t\tx\n\t\t^")


def test_a_long_line_is_cut_around_its_error() -> None:
    tokens = Tokens("a " * 500 + "b")
    tokens.seek(500)
    place, line, caret = str(tokens.error("no")).split("\n")
    assert place == "<string>:1:501: no"
    assert line == "…" + "a " * 60 + "…"
    assert caret.index("^") == 61
    assert line[61] == "a"


def test_a_long_token_is_cut() -> None:
    error = Tokens("a" * 100).expected("','")
    assert f"found '{'a' * 40}…'" in str(error)


@pytest.mark.parametrize(
    ("text", "read", "message"),
    [
        ("", "integer", "<string>:1:1: expected an integer, found the end of the text"),
        ("x", "integer", "<string>:1:1: expected an integer, found 'x'"),
        ('"s"', "integer", '<string>:1:1: expected an integer, found "s"'),
        ("1", "identifier", "<string>:1:1: expected an identifier, found '1'"),
        ("1", "identifier_or_string", "<string>:1:1: expected a name, found '1'"),
        ("x", "number", "<string>:1:1: expected a number, found 'x'"),
        (
            "1e400",
            "number",
            "<string>:1:1: expected a number in the range of double, found '1e400'",
        ),
        (
            "9223372036854775808",
            "integer",
            (
                "<string>:1:1: expected an integer from -9223372036854775808 to "
                "9223372036854775807, found '9223372036854775808'"
            ),
        ),
        ('b"\\xff"', "string", "<string>:1:1: expected a string in UTF-8, found other bytes"),
        (
            'b"\\q"',
            "raw_string",
            '<string>:1:1: expected \\n, \\r, \\t, \\", \\\\ or \\xHH in b"…", found \\q',
        ),
    ],
)
def test_errors_of_values(text: str, read: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        getattr(Tokens(text), read)()
    assert str(caught.value).split("\n")[0] == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'a "b',
            "<string>:1:3: expected '\"' at the end of the string, found the end of the text",
        ),
        ("a\n ü", "<string>:2:2: expected a token, found 'ü'"),
        ("a\ud800", "<string>:1:2: expected Unicode text, found the surrogate '\\ud800'"),
    ],
)
def test_text_that_has_no_tokens(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        kinds(text)
    assert str(caught.value).split("\n")[0] == message


def test_the_text_of_expect_and_more() -> None:
    with pytest.raises(ParseError, match=r"1:1: expected '\(' after x, found '\)'"):
        Tokens(")").expect("(", "after x")
    with pytest.raises(ParseError, match=r"1:1: expected ',' or '\)', found the end of the text"):
        Tokens("").more(")")


def test_an_integer_of_a_million_digits_is_refused_at_once() -> None:
    with pytest.raises(ParseError, match="expected an integer from"):
        Tokens("1" * 1_000_000).integer()
