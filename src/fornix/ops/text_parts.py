"""Parts of operators that read texts: the number of each, counts of its words, their products.

What lies behind them is computed with numbers alone. Sessions therefore take what looks texts up
apart into operators of this file (`passes.split_texts`, `passes.count_words`); models have none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, INT64, STRING
from fornix.ir.dim import DimLike
from fornix.ops import PART_DOMAIN
from fornix.ops.call import RunNode
from fornix.ops.fact import Array, Fact, tensor, unranked
from fornix.ops.microsoft.text import tokenizer
from fornix.ops.ml.lookup import Lookup
from fornix.ops.op import op
from fornix.ops.text import WORDS, string_normalizer, tf_idf_vectorizer
from fornix.ops.types import F32, F64, I64
from fornix.ops.types import STRING as TEXT

Numbered = op(
    "Numbered <keys: strings> (X: T) => (Y: T1)",
    since=1, domain=PART_DOMAIN, T=TEXT, T1=I64,
).opaque(WORDS)  # fmt: skip


@Numbered.infer
def infer_numbered(X: Fact, *, keys: list[str]) -> Fact:
    return tensor(INT64, X.shape) if X.has_rank else unranked(INT64)


@Numbered.kernel
def numbered(X: Array, *, keys: list[str], node: RunNode) -> Array:
    """The number of each text among ``keys``; of others how many there are: X[*S] → Y[*S]."""
    count = len(keys)
    lookup = node.once(lambda: Lookup.of(np.array(keys, object), np.arange(count), count))
    return lookup(X)


Indexed = op(
    """Indexed <stored: strings?, compares: int> ("texts...": T+) =>
           (names: T, "numbers...": T1+)""",
    since=1, domain=PART_DOMAIN, T=TEXT, T1=I64,
).opaque(WORDS)  # fmt: skip


@Indexed.infer
def infer_indexed(*texts: Fact, stored: Sequence[str] = (), **_: object) -> tuple[Fact, ...]:
    count = sum((math.prod(fact.shape) for fact in texts), len(stored))
    return tensor(STRING, (count,)), *(tensor(INT64, fact.shape) for fact in texts)


@Indexed.kernel
def indexed(*texts: Array, stored: Sequence[str] = (), compares: int) -> tuple[Array, ...]:
    """All of ``stored`` and ``texts`` in a list, and the place in it of each of the latter.

    texts[*S] → names[count], numbers[*S]. With ``compares``, the first place of an equal one.
    """
    listed = [*stored]
    for array in texts:
        listed += array.reshape(-1).tolist()
    places = np.arange(len(listed))
    if compares:
        first: dict[str, int] = {}
        places = np.array([first.setdefault(t, k) for k, t in enumerate(listed)], np.int64)
    numbers, begin = [], len(stored)
    for array in texts:
        numbers.append(places[begin : begin + array.size].reshape(array.shape))
        begin += array.size
    names = np.empty(len(listed), object)
    names[:] = listed
    return names, *numbers


_COUNTED = """WordCounts <case_change_action: string, mincharnum: int, separators: strings?,
           tokenexp: string?, pad_value: string, max_gram_length: int, max_skip_count: int,
           min_gram_length: int, ngram_counts: ints, ngram_indexes: ints, pool_strings: strings>"""
WordCounts = op(
    f"{_COUNTED} (X: T) => (Y: T1)", since=1, domain=PART_DOMAIN, T=TEXT, T1=F32
).opaque(WORDS)  # fmt: skip


@WordCounts.infer
def infer_word_counts(X: Fact, *, ngram_indexes: list[int], **_: object) -> Fact:
    return tensor(FLOAT32, (math.prod(X.shape), _width(ngram_indexes)))


def _width(indexes: list[int]) -> DimLike:
    return max(indexes, default=-1) + 1


@WordCounts.kernel
def word_counts(
    X: Array,
    *,
    case_change_action: str,
    mincharnum: int,
    separators: list[str] | None = None,
    tokenexp: str | None = None,
    pad_value: str,
    node: RunNode,
    **grams: Any,
) -> Array:
    """How often n-grams of a pool occur in each text: X[*S] → Y[∏S, V].

    It is what StringNormalizer, Tokenizer and TfIdfVectorizer say one after the other.
    """
    first, last = node.once(lambda: (replace(node, made=[]), replace(node, made=[])))
    normal = string_normalizer(
        X.reshape(-1), case_change_action=case_change_action, is_case_sensitive=0, stopwords=()
    )[: X.size]
    words = tokenizer(
        normal, mark=0, mincharnum=mincharnum, pad_value=pad_value, separators=separators,
        tokenexp=tokenexp, node=first,
    )  # fmt: skip
    return tf_idf_vectorizer(words, mode="TF", node=last, **grams)


WordProduct = op(
    _COUNTED.replace("WordCounts <", "WordProduct <norm: int, ")
    + " (X: T, scale: T1, weights: T1) => (Y: T2, size: T2)",
    since=1, domain=PART_DOMAIN, T=TEXT, T1=F32, T2=F64,
).opaque(WORDS)  # fmt: skip


@WordProduct.infer
def infer_word_product(X: Fact, scale: Fact, weights: Fact, **_: object) -> tuple[Fact, Fact]:
    rows = math.prod(X.shape)
    return tensor(FLOAT64, (rows, weights.shape[1])), tensor(FLOAT64, (rows, 1))


@WordProduct.kernel
def word_product(
    X: Array, scale: Array, weights: Array, *, norm: int, node: RunNode, **counted: Any
) -> tuple[Array, Array]:
    """Counts of words, each times its scale, times weights; and the size of each row of them.

    X[*S] · scale[V] · weights[V, K] → Y[∏S, K], size[∏S, 1], which is the sum of magnitudes if
    ``norm`` is 1, of squares if it is 2, else 0.
    """
    values = (word_counts(X, node=node, **counted) * scale).astype(np.float64)
    size = np.zeros((X.size, 1))
    if norm:
        size = (np.abs(values) if norm == 1 else np.square(values)).sum(axis=1, keepdims=True)
    return values @ weights.astype(np.float64), size
