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
_ATOM = r"(?:\[\^?\]?(?:\\[wdsWDSnrt\W]|[^\\\]\[])+\]|\\[wdsWDSnrt\W]|[^\\\[\](){}|?*+^$.]|\.)"
_WHOLE = re.compile(rf"(?:\(\?u\))?({_ATOM})(?:(\+)|\{{(\d+),\}}|(\1)(\+))?")
_WORDS = re.compile(r"(?:\(\?u\))?\\b(\\w)(?:(\+)|\{(\d+),\}|(\\w)(\+))\\b")
"""A run of word characters as long as can be has such ends by itself."""
_WIDE = re.compile(r"\\[wdsWDS]")
"""Classes of which some characters that are no ASCII are part."""


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
    classes = [None if m is None or m[3] or m[4] else _entries(m[1], is_all=True) for m in parts]
    found = [entries for entries in classes if entries is not None]
    if len(found) < len(classes):
        return None
    return WordClass(bytes(int(not any(row)) for row in zip(*found, strict=True)), False, 1)


def _of_words(tokenexp: str) -> WordClass | None:
    match = _WHOLE.fullmatch(tokenexp) or _WORDS.fullmatch(tokenexp)
    entries = None if match is None else _entries(match[1], is_all=False)
    if match is None or entries is None:
        return None
    is_run = any(match.group(2, 3, 5))
    least = int(match[3]) if match[3] else 1 + bool(match[4])
    return WordClass(entries, not is_run, least) if least else None


def _entries(atom: str, *, is_all: bool) -> bytes | None:
    """Which characters ``atom`` matches, one by one; of those beyond ASCII whether any, or all."""
    if not atom.isascii():
        return None
    try:
        compiled = re.compile(atom)
    except re.error:
        return None
    first = [int(compiled.fullmatch(chr(code)) is not None) for code in range(ASCII)]
    is_some = bool(_WIDE.search(atom))
    is_rest = atom == "." or atom.startswith("[^")
    return bytes([*first, int(is_rest and not is_some if is_all else is_rest or is_some)])
