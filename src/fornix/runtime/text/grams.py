"""What machine code does of TfIdfVectorizer: rows of words, texts or numbers, to counts of n-grams.

Makes the table from the attributes of a node. Where n-grams share a coordinate and have weights,
the kernel says what becomes of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fornix.compile.text import grams as counting
from fornix.compile.text import routines as words
from fornix.compile.text.calls import Grams, Keys, Numbers
from fornix.errors import FornixError
from fornix.ir.graph import Node
from fornix.ops.text import pooled
from fornix.runtime.providers import OwnWay, Run, TextCode, Way
from fornix.runtime.text.tables import ROOM, TextTable, attributes_of

TASKS = {
    "TF": counting.COUNTS,
    "IDF": counting.WEIGHTS_OF_FOUND,
    "TFIDF": counting.COUNTS_TIMES_WEIGHTS,
}


def gram_way(node: Node, code: TextCode) -> Way | None:
    """What does the work of ``node``; None if its kernel has to."""
    given = attributes_of(node)
    indexes = given["ngram_indexes"]
    task = TASKS.get(given["mode"])
    pool = given.get("pool_strings") or given.get("pool_int64s") or []
    both = given.get("pool_strings") is not None and given.get("pool_int64s") is not None
    weights = given.get("weights") or [1.0] * len(indexes)
    try:
        lists = pooled(pool, given["ngram_counts"], indexes)
    except FornixError:  # the kernel tells it
        return None
    lengths = range(given["min_gram_length"], given["max_gram_length"] + 1)
    chosen = [n for n, gram in enumerate(lists) if len(gram) in lengths]
    is_plain = task is not None and chosen and not both and len(weights) == len(indexes)
    if not is_plain or not all(lists):
        return None
    if task != counting.COUNTS and len(set(indexes)) < len(indexes):
        return None
    table = TextTable(TASKS[given["mode"]], code)
    factors = np.zeros(max(indexes) + 1, np.float32)
    factors[indexes] = weights
    table.put(words.SCALE, factors)
    _tell_grams(table, [lists[n] for n in chosen], [indexes[n] for n in chosen])
    _tell_room(table, given, max(indexes) + 1)
    return _Counting(table, np.dtype(object if isinstance(pool[0], str) else np.int64))


def _tell_grams(
    table: TextTable, lists: Sequence[Sequence[int | str]], coordinates: Sequence[int]
) -> None:
    """Write which n-grams count, and where."""
    grams = Grams(lists, coordinates)
    texts = [word for word in grams.words if isinstance(word, str)]
    numbers = [word for word in grams.words if isinstance(word, int)]
    keys = Keys(texts) if texts else Numbers(numbers)
    keys.write(table.words)
    table.kept += [keys, grams]
    table.words[words.LAST_STEP] = -1 if grams.is_dense else len(grams.steps) - 1
    table.words[words.LONGEST] = max(map(len, lists))
    table.put(words.STEPS, grams.steps)
    table.put(words.PLACES, grams.places)


def _tell_room(table: TextTable, given: Mapping[str, Any], width: int) -> None:
    """Write how far words may be apart, and where the code notes what it finds in a row."""
    table.words[words.APART] = given["max_skip_count"] + 1
    table.words[words.WIDTH], table.words[words.ROOM] = width, ROOM
    table.put(words.IDS, np.zeros(ROOM + 1, np.int64))
    table.put(words.SEEN, np.zeros(width + 1, np.int64))


class _Counting(OwnWay):
    """Rows of words to numbers."""

    def __init__(self, table: TextTable, dtype: np.dtype[Any]) -> None:
        self.table, self.dtype, self.call = table, dtype, table.call()
        self.width = int(table.words[words.WIDTH])

    def __call__(self, given: list[Any], _: Run) -> list[Any] | None:
        x = given[0]
        if x.ndim not in {1, 2} or (x.dtype == object) != (self.dtype == object):
            return None
        rows = np.ascontiguousarray(x, self.dtype).reshape(-1, x.shape[-1] or 1)
        if not x.size:
            return [np.zeros((*x.shape[:-1], self.width), np.float32)]
        counts = np.zeros((len(rows), self.width), np.float32)
        if self.call([rows, counts]) is None:
            return None
        return [counts.reshape(*x.shape[:-1], self.width)]
