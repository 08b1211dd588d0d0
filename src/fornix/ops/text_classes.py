r"""What words consist of, where a class of characters tells it: for compiled tokenizers.

Reads the regular expressions that Tokenizer takes, and knows those that name the characters of one
class: ``[a-z0-9]+``, ``\w\w+``, ``.``, separators like ``\s``. Others are left to the kernel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

ASCII = 128
"""How many characters a class tells one by one; all others have one entry."""
ATOM = r"(?:\[\^?\]?(?:\\[wdsWDSnrt\W]|[^\\\]\[])+\]|\\[wdsWDSnrt\W]|[^\\\[\](){}|?*+^$.]|\.)"
_WHOLE = re.compile(rf"({ATOM})(?:(\+)|\{{(\d+),\}}|(\1)(\+))?")
_WORDS = re.compile(r"\\b(\\w)(?:(\+)|\{(\d+),\}|(\\w)(\+))\\b")
"""A run of word characters as long as can be has such ends by itself."""


@dataclass(frozen=True)
class WordClass:
    """What characters of words are, and which runs of them count."""

    entries: bytes
    """1 for each of the first characters that may be part of a word; last, for all others."""
    is_single: bool
    """Whether each character is a word."""
    least: int
    """Of how many characters words are at least."""


def word_class(tokenexp: str | None, separators: Sequence[str] | None) -> WordClass | None:
    """The class of characters that ``tokenexp`` says, or that are no ``separators``."""
    if tokenexp is not None:
        return _of_words(tokenexp) if separators is None else None
    if not separators:
        return None
    if list(separators) == [""]:
        return WordClass(bytes([1] * (ASCII + 1)), True, 1)
    parts = [_WHOLE.fullmatch(separator) for separator in separators]
    classes = [None if m is None or m[3] or m[4] else entries_of(m[1]) for m in parts]
    found = [entries for entries in classes if entries is not None]
    if len(found) < len(classes):
        return None
    return WordClass(bytes(int(not any(row)) for row in zip(*found, strict=True)), False, 1)


def _of_words(tokenexp: str) -> WordClass | None:
    match = _WHOLE.fullmatch(tokenexp) or _WORDS.fullmatch(tokenexp)
    entries = None if match is None else entries_of(match[1])
    if match is None or entries is None:
        return None
    is_run = any(match.group(2, 3, 5))
    least = int(match[3]) if match[3] else 1 + bool(match[4])
    return WordClass(entries, not is_run, least) if least else None


def entries_of(atom: str) -> bytes | None:
    """Which characters ``atom`` matches, one by one, and last whether those beyond ASCII."""
    if not atom.isascii():
        return None
    try:
        compiled = re.compile(atom, re.ASCII)
    except re.error:
        return None
    return bytes(compiled.fullmatch(chr(code)) is not None for code in range(ASCII + 1))
