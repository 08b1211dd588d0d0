"""Strings: StringConcat, StringSplit, StringNormalizer, RegexFullMatch, TfIdfVectorizer.

NB: regular expressions are Python's. RE2, which the standard names, has no look-around and no
back-references, and guarantees linear time; otherwise the two agree but for rare escapes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat, zip_longest
from typing import Any

import numpy as np

from fornix.dtype import BOOL as BOOL_DTYPE
from fornix.dtype import FLOAT32, INT64, STRING
from fornix.errors import ShapeError, ValidationError, require
from fornix.ir.dim import DimLike, known, maximum
from fornix.ops.call import InferNode, RunNode
from fornix.ops.fact import Array, Fact, tensor, unranked
from fornix.ops.geometry import broadcast_shapes, shape_text
from fornix.ops.op import op
from fornix.ops.types import BOOL, F32, I32, I64
from fornix.ops.types import STRING as STRINGS

WORDS = "loops hold numbers and truth values, not strings"
"""Why compiled code calls the kernels."""

StringConcat = op("StringConcat (X: T, Y: T) => (Z: T)", since=20, T=STRINGS).opaque(WORDS)


@StringConcat.infer
def infer_string_concat(X: Fact, Y: Fact) -> Fact:
    return tensor(STRING, broadcast_shapes(X.shape, Y.shape))


@StringConcat.kernel
def string_concat(X: Array, Y: Array) -> Array:
    """Each string of ``X`` followed by that of ``Y``.

    X[*S] · Y[*T] → Z[*V]; S and T broadcast to V, as in NumPy. Source: ONNX StringConcat-20.
    """
    if X.ndim == Y.ndim == 0:  # of which NumPy takes twice as long to make an array
        return np.array(X.item() + Y.item(), object)
    if (
        Y.size == 1 < X.size and X.ndim >= Y.ndim > 0
    ):  # NumPy takes half as long to broadcast a scalar
        Y = Y.reshape(())
    try:
        joined = X + Y
    except ValueError:  # the rule says which shapes do not broadcast
        broadcast_shapes(X.shape, Y.shape)
        raise
    return joined if type(joined) is np.ndarray else np.array(joined, object)


RegexFullMatch = op(
    "RegexFullMatch <pattern: string?> (X: T1) => (Y: T2)", since=20, T1=STRINGS, T2=BOOL
).opaque(WORDS)


@RegexFullMatch.infer
def infer_regex_full_match(X: Fact, *, pattern: str = "") -> Fact:
    return tensor(BOOL_DTYPE, X.shape) if X.has_rank else unranked(BOOL_DTYPE)


@RegexFullMatch.kernel
def regex_full_match(X: Array, *, pattern: str = "") -> Array:
    """Whether ``pattern`` matches the whole of each string.

    Raises ValidationError if it is no regular expression. Source: ONNX RegexFullMatch-20.
    """
    try:
        compiled = re.compile(pattern, re.ASCII)  # as in RE2, which the standard names
    except (re.error, ValueError) as error:
        raise ValidationError(
            f"pattern must be a regular expression, got {pattern!r}: {error}"
        ) from error
    matches = [compiled.fullmatch(text) is not None for text in X.reshape(-1)]
    return np.array(matches, bool).reshape(X.shape)


StringSplit = op(
    "StringSplit <delimiter: string?, maxsplit: int?> (X: T1) => (Y: T2, Z: T3)",
    since=20, T1=STRINGS, T2=STRINGS, T3=I64,
).opaque(WORDS)  # fmt: skip


@StringSplit.infer
def infer_string_split(
    X: Fact, *, delimiter: str = "", maxsplit: int | None = None, node: InferNode
) -> tuple[Fact, Fact]:
    most = node.unknown("how many parts the longest string has")
    return tensor(STRING, (*X.shape, most)), tensor(INT64, X.shape)


def _filled_up(rows: Sequence[Sequence[str]], most: int) -> Array:
    """An array of ``rows``, with empty texts behind those of less than ``most``."""
    result = np.full((len(rows), most), "", object)
    if most < len(rows):
        for place, column in enumerate(zip_longest(*rows, fillvalue="")):
            result[:, place] = column
        return result
    for row, found in zip(result, rows, strict=True):
        row[: len(found)] = found
    return result


@StringSplit.kernel
def string_split(
    X: Array, *, delimiter: str = "", maxsplit: int | None = None
) -> tuple[Array, Array]:
    """The parts of each string between occurrences of ``delimiter``, and their numbers.

    X[*S] → Y[*S, most parts], padded with empty strings, Z[*S]. Without ``delimiter``, runs of
    white space separate, and none stands at the ends. After ``maxsplit`` parts the rest is one.
    Source: ONNX StringSplit-20.
    """
    limit = -1 if maxsplit is None else maxsplit
    texts = X.reshape(-1).tolist()
    if delimiter:
        parts = [text.split(delimiter, limit) for text in texts]
    else:
        parts = [text.strip().split(None, limit) for text in texts]
    counts = np.array(list(map(len, parts)), np.int64)
    result = _filled_up(parts, int(counts.max(initial=0)))
    return result.reshape(*X.shape, result.shape[1]), counts.reshape(X.shape)


StringNormalizer = op(
    """StringNormalizer <case_change_action: string = "NONE", is_case_sensitive: int = 0,
           locale: string?, stopwords: strings?> (X: tensor(string)) => (Y: tensor(string))""",
    since=10,
).opaque(WORDS)


@StringNormalizer.infer
def infer_string_normalizer(
    X: Fact,
    *,
    case_change_action: str,
    is_case_sensitive: int,
    locale: str = "",
    stopwords: Sequence[str] = (),
    node: InferNode,
) -> Fact:
    _check_words(X.shape)
    if stopwords:
        return tensor(STRING, (*X.shape[:-1], node.unknown("how many words are no stop words")))
    # of no word, one empty word is left
    return tensor(STRING, (*X.shape[:-1], maximum(X.shape[-1], 1)))


@StringNormalizer.kernel
def string_normalizer(
    X: Array,
    *,
    case_change_action: str,
    is_case_sensitive: int,
    locale: str = "",
    stopwords: Sequence[str] = (),
) -> Array:
    """The strings of ``X`` that are not in ``stopwords``, in lower or upper case if asked.

    X is [C] or [1, C]; if nothing is left, one empty string is.
    NB: ``locale`` has no effect: case follows Unicode. Source: ONNX StringNormalizer-10.
    """
    _check_words(X.shape)
    action = _CASES.get(case_change_action)
    if action is None:
        raise ShapeError(
            f"case_change_action must be NONE, LOWER or UPPER, got {case_change_action!r}"
        )
    kept = X.reshape(-1).tolist()
    if stopwords:
        compared: Callable[[str], str] = str if is_case_sensitive else str.lower
        dropped = {compared(word) for word in stopwords}
        kept = [word for word in kept if compared(word) not in dropped]
    words = np.fromiter(map(action, kept), object, len(kept)) if kept else np.array([""], object)
    return words if X.ndim == 1 else words.reshape(1, -1)


_CASES: dict[str, Callable[[str], str]] = {"NONE": str, "LOWER": str.lower, "UPPER": str.upper}


def _check_words(shape: Sequence[DimLike]) -> None:
    if len(shape) != 1 and (len(shape) != 2 or known(shape[0]) not in {None, 1}):
        raise ShapeError(f"X must be [C] or [1, C], found {shape_text(shape)}")


TfIdfVectorizer = op(
    """TfIdfVectorizer <max_gram_length: int, max_skip_count: int, min_gram_length: int,
           mode: string, ngram_counts: ints, ngram_indexes: ints, pool_int64s: ints?,
           pool_strings: strings?, weights: floats?> (X: T) => (Y: T1)""",
    since=9, T=STRINGS | I32 | I64, T1=F32,
).opaque("words, be they texts or numbers, are looked up in a dictionary")  # fmt: skip


@TfIdfVectorizer.infer
def infer_tf_idf_vectorizer(X: Fact, *, ngram_indexes: list[int], **_: object) -> Fact:
    _check_rows(X.shape)
    return tensor(FLOAT32, (*X.shape[:-1], max(ngram_indexes, default=-1) + 1))


@TfIdfVectorizer.kernel
def tf_idf_vectorizer(
    X: Array,
    *,
    max_gram_length: int,
    max_skip_count: int,
    min_gram_length: int,
    mode: str,
    ngram_counts: list[int],
    ngram_indexes: list[int],
    pool_int64s: list[int] | None = None,
    pool_strings: list[str] | None = None,
    weights: list[float] | None = None,
    node: RunNode,
) -> Array:
    """How often each n-gram of a pool occurs in each row of ``X``.

    X[*N, C] → Y[*N, max(ngram_indexes) + 1]. The i-th n-gram of the pool counts at coordinate
    ngram_indexes[i], with weights[i]. Its words stand 1 to max_skip_count + 1 places apart; a
    single word counts once. Mode TF gives counts, IDF the weight of what occurs, TFIDF count times
    weight. Of n-grams that share a coordinate, TF and TFIDF add up, IDF gives the last that occurs.
    Source: ONNX TfIdfVectorizer-9.
    """
    _check_rows(X.shape)
    require(mode in {"TF", "IDF", "TFIDF"}, f"mode must be TF, IDF or TFIDF, got {mode!r}")

    def made() -> _Pool:
        listed = pool_int64s if pool_strings is None else pool_strings
        require(
            (pool_int64s is None) != (pool_strings is None) and listed is not None,
            "either pool_int64s or pool_strings must be given",
        )
        grams = pooled(list(listed or []), ngram_counts, ngram_indexes)
        return _Pool.of(grams, ngram_indexes, weights, range(min_gram_length, max_gram_length + 1))

    pool = node.once(made)
    count, width = math.prod(X.shape[:-1]), X.shape[-1]
    rows, places, counts = pool.found(X.reshape(count, width), max_skip_count)
    values = counts if mode == "TF" else pool.factors[places]
    if mode == "TFIDF":
        values = counts * values
    result = np.zeros((count, pool.width), np.float32)
    at = rows, pool.coordinates[places]
    if mode == "IDF":
        result[at] = values
    else:
        np.add.at(result, at, values)
    return result.reshape(*X.shape[:-1], pool.width)


Gram = tuple[int | str, ...]


_NEVER, _FIRST = np.array([np.iinfo(np.int64).max]), np.zeros(1, np.int64)
"""What no n-gram is, behind all that are; and where the first one begins."""


@dataclass(frozen=True)
class _Pool:
    """The n-grams of a pool, ready to be looked up."""

    tables: dict[int, dict[Any, int]]
    """The place of each n-gram, for every length that counts; of length 1, of each word."""
    coordinates: Array
    factors: Array
    """The coordinate and the weight at each place."""
    width: int

    @classmethod
    def of(
        cls,
        grams: Sequence[Gram],
        coordinates: Sequence[int],
        weights: Sequence[float] | None,
        lengths: range,
    ) -> _Pool:
        """The pool of ``grams``; those of other ``lengths`` have a place and never occur."""
        factors = np.asarray([1] * len(grams) if weights is None else weights, np.float32)
        require(
            len(factors) == len(grams),
            f"weights must have {len(grams)} entries, found {len(factors)}",
        )
        tables: dict[int, dict[Any, int]] = {}
        for place, gram in enumerate(grams):
            if len(gram) in lengths:
                key = gram if len(gram) > 1 else gram[0]
                tables.setdefault(len(gram), {})[key] = place
        width = max(coordinates, default=-1) + 1
        return cls(tables, np.array(coordinates, np.intp), factors, width)

    def found(self, words: Array, max_skip: int) -> tuple[Array, Array, Array]:
        """The n-grams that occur in words[N, C]: row, place, which ascends, and how often."""
        hits, size = [], max(len(self.factors), 1)
        for length, table in self.tables.items():
            for grams, width in _grams(words, length, max_skip):
                places = np.fromiter(map(table.get, grams, repeat(-1)), np.int64)
                [known] = np.nonzero(places >= 0)
                hits.append(known // width * size + places[known])
        ordered = np.sort(np.concatenate([*hits, _NEVER]))
        # Where others begin; the last stands for nothing.
        edges = np.concatenate([_FIRST, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
        counts = (edges[1:] - edges[:-1]).astype(np.float32)
        rows, places = np.divmod(ordered[edges[:-1]], size)
        return rows, places, counts


def pooled(pool: Sequence[int | str], starts: Sequence[int], indexes: Sequence[int]) -> list[Gram]:
    """The n-grams of the pool: all 1-grams, then all 2-grams, and so on; ``indexes`` fit them."""
    require(
        starts or not pool,
        f"ngram_counts must say where each length begins in {len(pool)} words, found none",
    )
    ends = [*starts[1:], len(pool)][: len(starts)]
    require(
        all(0 <= a <= b <= len(pool) for a, b in zip(starts, ends, strict=True)),
        f"ngram_counts must rise from 0 to at most {len(pool)}, got {list(starts)}",
    )
    grams = [
        tuple(pool[place : place + length])
        for length, (start, end) in enumerate(zip(starts, ends, strict=True), 1)
        for place in range(start, end, length)
    ]
    require(
        len(grams) == len(indexes),
        f"ngram_indexes must have an entry for each of {len(grams)} n-grams, found {len(indexes)}",
    )
    require(
        min(indexes, default=0) >= 0,
        f"ngram_indexes must not be negative, got {min(indexes, default=0)}",
    )
    return grams


def _grams(words: Array, length: int, max_skip: int) -> Iterator[tuple[Iterable[Any], int]]:
    """The n-grams of all rows, their words 1 to ``max_skip`` + 1 places apart; how many a row has.

    A single word is given as it is.
    """
    if length == 1:  # it has no distance
        yield words.reshape(-1).tolist(), words.shape[1]
        return
    for distance in range(1, max_skip + 2):
        width = words.shape[1] - (length - 1) * distance
        if width <= 0:  # words further apart than the row do not occur
            return
        starts = range(0, length * distance, distance)
        columns = [words[:, start : start + width].reshape(-1).tolist() for start in starts]
        yield zip(*columns, strict=True), width


def _check_rows(shape: Sequence[DimLike]) -> None:
    require(len(shape) in {1, 2}, f"X must be [C] or [N, C], found {shape_text(shape)}")
