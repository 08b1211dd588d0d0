"""Texts and hashes: Tokenizer, MurmurHash3."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import repeat
from typing import TypeVar

import numpy as np

from fornix.dtype import INT32, UINT32, UINT64
from fornix.errors import Fail, require
from fornix.ir.dim import DimLike
from fornix.ir.loops import Scalar, Tensor, bitcast, cast, compute, const
from fornix.ops.call import InferNode, RunNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.microsoft import DOMAIN
from fornix.ops.op import op
from fornix.ops.text_automata import Finder, finder
from fornix.ops.text_classes import word_class
from fornix.ops.types import F32, F64, I32, I64, STRING, U32, U64

W = TypeVar("W", int, Scalar)

START, END = "\x02", "\x03"
"""What marks the ends of a text."""

Tokenizer = op(
    """Tokenizer <mark: int, mincharnum: int, pad_value: string, separators: strings?,
                  tokenexp: string?>
                 (X: T) => (Y: T)""",
    since=1, domain=DOMAIN, T=STRING,
).opaque("loops hold no texts")  # fmt: skip


@Tokenizer.infer
def infer_tokenizer(
    x: Fact,
    *,
    mark: int,
    mincharnum: int,
    pad_value: str,
    separators: list[str] | None = None,
    tokenexp: str | None = None,
    node: InferNode,
) -> Fact:
    return tensor(x.dtype, (*x.shape, node.unknown("how many tokens there are")))


@Tokenizer.kernel
def tokenizer(
    x: Array,
    *,
    mark: int,
    mincharnum: int,
    pad_value: str,
    separators: list[str] | None = None,
    tokenexp: str | None = None,
    node: RunNode,
) -> Array:
    r"""The tokens of each text, in a row that pad_value fills.

    X[C] or X[N, C] → Y[…, D], D the greatest number of tokens. They are what matches the regular
    expression tokenexp, or what lies between matches of ``separators``, or the characters where the
    only separator is empty; those of fewer than mincharnum characters are left out. Of the matches
    that begin at one place the longest counts; with anchors and the like, Python's first. Classes
    like ``\w`` have ASCII characters alone, unless an expression begins with (?u). With ``mark``
    each row begins with U+0002 and ends with U+0003, ahead of what fills it, if there is a token.
    Source: onnxruntime's contributed operators, Tokenizer-1.
    """
    require(x.ndim in {1, 2}, f"X must have one axis or two, got X{shape_text(x.shape)}")
    require(
        (separators is None) != (tokenexp is None),
        "either separators or tokenexp is required, found both or none",
    )
    require(mincharnum > 0, f"mincharnum must be positive, got {mincharnum}")
    tokens = node.once(lambda: _tokens(separators, tokenexp))
    rows = [list(tokens(text)) for text in map(str, x.reshape(-1).tolist())]
    if mincharnum > 1 or separators != [""]:
        rows = [[token for token in row if len(token) >= mincharnum] for row in rows]
    if mark and any(rows):
        rows = [[START, *row, END] for row in rows]
    width = max(map(len, rows), default=0)
    y = np.array([[*row, *repeat(pad_value, width - len(row))] for row in rows], object)
    return y.reshape(*x.shape, width)


def _tokens(separators: list[str] | None, tokenexp: str | None) -> Callable[[str], Iterable[str]]:
    """What gives the tokens of a text, empty ones among them."""
    try:
        if tokenexp is not None:
            find = _finder(tokenexp)
            return lambda text: (text[start:end] for start, end in find(text))
        finders = [_finder(one) for one in separators or ()]
    except re.error as error:
        raise Fail(f"a regular expression is required, found an error in it: {error}") from error
    if separators == [""]:
        return iter
    return partial(_pieces, finders)


def _finder(expression: str) -> Finder:
    pattern = re.compile(expression, _flags(expression))
    found = finder(expression) if word_class(expression, None) is None else None
    return found or (lambda text: (m.span() for m in pattern.finditer(text)))


def _flags(expression: str) -> re.RegexFlag:
    r"""Classes such as ``\w`` have ASCII characters alone, as in RE2, unless ``(?u)`` is ahead."""
    return re.UNICODE if re.match(r"\(\?[imsx]*u", expression) else re.ASCII


def _pieces(finders: list[Finder], text: str) -> list[str]:
    """What of ``text`` lies between the matches of any of ``finders``."""
    pieces = [text]
    for find in finders:
        pieces = [part for piece in pieces for part in _between(find, piece)]
    return pieces


def _between(find: Finder, text: str) -> Iterator[str]:
    """What of ``text`` lies between the matches."""
    behind = 0
    for start, end in find(text):
        yield text[behind:start]
        behind = end
    yield text[behind:]


MurmurHash3 = op(
    "MurmurHash3 <positive: int = 1, seed: int = 0> (X: T1) => (Y: T2)",
    since=1, domain=DOMAIN, T1=F32 | F64 | I32 | I64 | U32 | U64 | STRING, T2=I32 | U32,
)  # fmt: skip

WORD = 2**32 - 1
FIRST, SECOND = 0xCC9E2D51, 0x1B873593
"""Factors of MurmurHash3 for 32 bits; A. Appleby, 2011, in the public domain."""


@MurmurHash3.infer
def infer_murmur_hash_3(x: Fact, *, positive: int, seed: int) -> Fact:
    return tensor(UINT32 if positive else INT32, x.shape)


@MurmurHash3.kernel
def murmur_hash_3(x: Array, *, positive: int, seed: int) -> Array:
    """MurmurHash3 in 32 bits of each element's bytes, texts in UTF-8.

    X[*S] → Y[*S], uint32 if ``positive``, else int32. Source: onnxruntime's contributed operators,
    MurmurHash3-1; A. Appleby's MurmurHash3_x86_32.
    """
    data = (str(v).encode() for v in x.flat) if x.dtype == object else (v.tobytes() for v in x.flat)
    hashes = np.fromiter((_hash(entry, seed & WORD) for entry in data), np.uint32, x.size)
    return hashes.reshape(x.shape) if positive else hashes.view(np.int32).reshape(x.shape)


def _hash(data: bytes, seed: int) -> int:
    value, whole = seed, len(data) // 4 * 4
    for start in range(0, whole, 4):
        value = _absorbed(value, int.from_bytes(data[start : start + 4], "little"))
    if len(data) > whole:
        value ^= _mixed(int.from_bytes(data[whole:], "little"))
    return _finished(value, len(data))


@MurmurHash3.lower
def lower_murmur_hash_3(x: Tensor, *, positive: int, seed: int) -> Tensor:
    count = x.dtype.bits // 32

    def at(*i: DimLike) -> Scalar:
        bits = bitcast(x[i], UINT32 if count == 1 else UINT64)
        value: Scalar = const(seed & WORD, UINT32)
        for place in range(count):
            value = _absorbed(value, cast(bits >> 32 * place if place else bits, UINT32))
        return bitcast(_finished(value, 4 * count), UINT32 if positive else INT32)

    return compute(x.shape, at)


def _absorbed(value: W, word: W) -> W:
    """The hash of one more word."""
    return (_turned(value ^ _mixed(word), 13) * 5 + 0xE6546B64) & WORD


def _finished(value: W, length: int) -> W:
    """The hash of so many bytes."""
    value = value ^ length
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        value = ((value ^ value >> shift) * factor) & WORD
    return value


def _mixed(word: W) -> W:
    return _turned(word * FIRST & WORD, 15) * SECOND & WORD


def _turned(word: W, count: int) -> W:
    """``word`` with its bits turned to the left."""
    return (word << count | word >> (32 - count)) & WORD
