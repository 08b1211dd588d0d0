r"""Words of the ONNX text notation, and errors that show their place.

Decides what an identifier, a number and a string are, reads them one at a time in linear time, and
words every `ParseError`. What sequences of them mean is left to the readers: the model parser here
and the operator signatures of `fornix.ops`.

    identifier   [A-Za-z_][A-Za-z0-9_]*
    integer      -?[0-9]+
    float        an integer with a fraction or an exponent, or -inf or -nan; inf and nan without a
                 sign are identifiers that `Tokens.number` accepts
    string       "…", in which a backslash stands for the character after it; b"…" holds bytes, with
                 the escapes \n \r \t \" \\ \xHH (an extension of fornix)
    punctuation  => ... #@ and single characters
    comment      # to the end of the line

`#@` ahead of a brace is a comment for other readers of the notation and a token here: behind it
stands what the notation has no words for (see `notes`).
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from fornix.errors import ParseError

IDENTIFIER = "identifier"
INTEGER = "integer"
FLOAT = "float"
STRING = "string"
PUNCTUATION = "punctuation"
END = "end"
_UNKNOWN = "unknown"

_TOKEN = re.compile(
    r"""(?:[ \t\r\n\f\v]++|\#(?!@[ ]*\{)[^\n]*+)*+(?:
      (?P<string>b?"[^"\\]*+(?:\\.[^"\\]*+)*+")
    | (?P<identifier>[A-Za-z_][A-Za-z0-9_]*+)
    | (?P<punctuation>=>|\.\.\.|\#@)
    | (?P<float>-?(?:[0-9]++(?:\.[0-9]*+(?:[eE][+-]?[0-9]++)?|[eE][+-]?[0-9]++)
        |\.[0-9]++(?:[eE][+-]?[0-9]++)?|(?i:inf(?:inity)?|nan)(?![A-Za-z0-9_])))
    | (?P<integer>-?[0-9]++)
    | (?P<punct>[()\[\]{}<>,:=.@?+*|/;&!~^%$-])
    | (?P<end>\Z)
    | (?P<unknown>.))""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_BYTES_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_BYTES_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b'"': b'"', b"\\": b"\\"}
_SPECIAL_FLOATS = frozenset({"inf", "infinity", "nan"})
_MAX_DIGITS = 40  # more than any 64-bit integer has; keeps int() linear and below its digit limit
MAX_DEPTH = 50  # constructs within constructs; protobuf ends at 100 messages, two or three to each
_EXCERPT = 120  # characters of the source line that an error shows at most
_FOUND = 40  # characters of the offending token that an error quotes at most


class Token(NamedTuple):
    """One word: its kind, its text as written, and the offset of its first character."""

    kind: str
    text: str
    start: int


class Tokens:
    """A cursor over the tokens of ``text``; ``name`` stands for the file in errors.

    `kind`, `word` and `start` describe the current token, and `end` is the offset behind it.
    """

    __slots__ = ("depth", "end", "kind", "name", "start", "text", "word")

    def __init__(self, text: str, name: str = "<string>") -> None:
        self.text = text
        self.name = name
        self.kind = END
        self.word = ""
        self.start = self.end = self.depth = 0
        self._check_characters()
        self.advance()

    def enter(self) -> None:
        """Count one more level of nesting, of which there is a bound."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"expected at most {MAX_DEPTH} levels of nesting, found more")

    def leave(self) -> None:
        """Count one level of nesting less."""
        self.depth -= 1

    def advance(self) -> None:
        """Move to the next token."""
        match = _TOKEN.match(self.text, self.end)
        if match is None:  # the last alternatives accept anything
            raise self.error("expected a token", self.end)
        kind = match.lastgroup or END
        self.start, self.end = match.span(kind)
        self.word = match[kind]
        if kind == "punct":
            kind = PUNCTUATION
        elif kind == _UNKNOWN:
            raise self._unknown()
        self.kind = kind

    def seek(self, offset: int) -> None:
        """Make the token at or behind ``offset`` the current one."""
        self.end = offset
        self.advance()

    def peek(self) -> Token:
        """The current token."""
        return Token(self.kind, self.word, self.start)

    def next(self) -> Token:
        """The current token; the cursor moves behind it."""
        token = Token(self.kind, self.word, self.start)
        self.advance()
        return token

    def after(self) -> Token:
        """The token behind the current one; the cursor stays."""
        here = self.start
        self.advance()
        token = self.peek()
        self.seek(here)
        return token

    def accept(self, text: str) -> bool:
        """Whether the current token is ``text``; if so, the cursor moves behind it."""
        if self.word != text or self.kind == END:
            return False
        self.advance()
        return True

    def expect(self, text: str, context: str = "") -> None:
        """Move behind the token ``text``, which must be the current one."""
        if self.word != text or self.kind == END:
            raise self.expected(f"'{text}'", context)
        self.advance()

    def more(self, close: str, context: str = "") -> bool:
        """Whether a list goes on with ',' or else ends with ``close``; moves behind either."""
        if self.word == ",":
            self.advance()
            return True
        if self.word != close or self.kind == END:
            raise self.expected(f"',' or '{close}'", context)
        self.advance()
        return False

    def identifier(self, what: str = "an identifier") -> str:
        """The identifier at the cursor."""
        if self.kind != IDENTIFIER:
            raise self.expected(what)
        word = self.word
        self.advance()
        return word

    def identifier_or_string(self, what: str = "a name") -> str:
        """The identifier or the quoted name at the cursor."""
        if self.kind == IDENTIFIER:
            word = self.word
            self.advance()
            return word
        return self.string(what)

    def integer(
        self, what: str = "an integer", least: int = -(2**63), greatest: int = 2**63 - 1
    ) -> int:
        """The integer at the cursor."""
        if self.kind != INTEGER:
            raise self.expected(what)
        value = int(self.word) if len(self.word) <= _MAX_DIGITS else greatest + 1
        if not least <= value <= greatest:
            raise self.expected(f"{what} from {least} to {greatest}")
        self.advance()
        return value

    def number(self, what: str = "a number") -> int | float:
        """The integer or float at the cursor; ``inf`` and ``nan`` may be in any case."""
        if self.kind == INTEGER:
            return self.integer(what)
        if not self.at_float():
            raise self.expected(what)
        value = float(self.word)
        if math.isinf(value) and not self.word[-1].isalpha():
            raise self.expected(f"{what} in the range of double")
        self.advance()
        return value

    def at_float(self) -> bool:
        """Whether the current token is a float, spelled-out ``inf`` and ``nan`` included."""
        return self.kind == FLOAT or (
            self.kind == IDENTIFIER and self.word.lower() in _SPECIAL_FLOATS
        )

    def string(self, what: str = "a string") -> str:
        """The string at the cursor, unquoted; b"…" must hold UTF-8."""
        start = self.start
        data = self.raw_string(what)
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self.error(f"expected {what} in UTF-8, found other bytes", start) from None

    def raw_string(self, what: str = "a string") -> bytes:
        """The bytes of the string at the cursor, in UTF-8 unless it is b"…"."""
        if self.kind != STRING:
            raise self.expected(what)
        word = self.word
        if word[0] == "b":
            data = _BYTES_ESCAPE.sub(self._unescape, word[2:-1].encode())
        else:
            word = word[1:-1]
            data = (_PLAIN_ESCAPE.sub(r"\1", word) if "\\" in word else word).encode()
        self.advance()
        return data

    def literal(self, what: str = "a number or a string") -> int | float | str:
        """The number or string at the cursor."""
        return self.string(what) if self.kind == STRING else self.number(what)

    def found(self) -> str:
        """The current token as errors quote it."""
        if self.kind == END:
            return "the end of the text"
        word = self.word if len(self.word) <= _FOUND else self.word[:_FOUND] + "…"
        return word if self.kind == STRING else f"'{word}'"

    def expected(self, what: str, context: str = "") -> ParseError:
        """The error that says what is required at the cursor, and what is there instead."""
        return self.error(f"expected {what}{' ' if context else ''}{context}, found {self.found()}")

    def error(self, message: str, start: int | None = None) -> ParseError:
        """``message`` with its place: the cursor, or the offset ``start``."""
        start = self.start if start is None else start
        line_start = self.text.rfind("\n", 0, start) + 1
        line_end = self.text.find("\n", start)
        source_line = self.text[line_start : line_end if line_end >= 0 else None].rstrip("\r")
        line = self.text.count("\n", 0, start) + 1
        column = start - line_start + 1
        shown, caret = _excerpt(source_line, column - 1)
        error = ParseError(f"{self.name}:{line}:{column}: {message}\n{shown}\n{caret}")
        error.line, error.column, error.source_line = line, column, source_line
        return error

    def _unescape(self, match: re.Match[bytes]) -> bytes:
        escape = match[1]
        if escape[:1] == b"x" and len(escape) > 1:
            return bytes.fromhex(escape[1:].decode())
        if escape not in _BYTES_ESCAPES:
            text = escape.decode(errors="replace")
            raise self.error(f'expected \\n, \\r, \\t, \\", \\\\ or \\xHH in b"…", found \\{text}')
        return _BYTES_ESCAPES[escape]

    def _unknown(self) -> ParseError:
        if self.word == '"':
            return self.error("expected '\"' at the end of the string, found the end of the text")
        return self.error(f"expected a token, found {self.word!r}")

    def _check_characters(self) -> None:
        try:
            self.text.encode()
        except UnicodeEncodeError as failure:
            character = self.text[failure.start]
            message = f"expected Unicode text, found the surrogate {character!r}"
            error = self.error(message, failure.start)
            raise error from None


def _excerpt(line: str, offset: int) -> tuple[str, str]:
    """At most `_EXCERPT` characters of ``line`` around ``offset``, and the caret under it."""
    if len(line) > _EXCERPT:
        first = max(0, min(offset - _EXCERPT // 2, len(line) - _EXCERPT))
        head, tail = ("…" if first else ""), ("…" if first + _EXCERPT < len(line) else "")
        line = head + line[first : first + _EXCERPT] + tail
        offset += len(head) - first
    caret = "".join("\t" if c == "\t" else " " for c in line[:offset])
    return line, caret.ljust(offset) + "^"
