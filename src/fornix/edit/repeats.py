"""Repeated stretches of a sequence: the one that repeats most elements.

The sequence is of integers; what they stand for is the caller's. Every stretch that occurs twice
and cannot be made longer shows in the suffix array as an interval of suffixes with a common
prefix, so that the intervals are all there is to look at.
Source: M. I. Abouelhoda, S. Kurtz, E. Ohlebusch, "Replacing suffix trees with enhanced suffix
arrays", 2004; T. Kasai et al., "Linear-time longest-common-prefix computation", 2001.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.int64]]

# Starts that are looked at, per element of the sequence: of a sequence that is one element over and
# over there are as many intervals as elements, each with as many starts.
_STARTS_PER_ELEMENT = 64


@dataclass(frozen=True, slots=True)
class Repeat:
    """A stretch of ``length`` elements that begins at each of ``starts`` and overlaps nowhere.

    It could as well begin up to ``slack`` elements later, at all starts alike.
    """

    starts: tuple[int, ...]
    length: int
    slack: int = 0

    @property
    def repeated(self) -> int:
        """Elements that stand there once more than needed.

        Of a stretch over and over, one period counts more than two: what a period is, it shows.
        """
        return repeated(len(self.starts), self.length)


def repeated(count: int, length: int) -> int:
    """Elements of ``count`` stretches of ``length`` that repeat the first."""
    return (count - 1) * length


def best_repeat(sequence: Sequence[int], least: int) -> Repeat | None:
    """The repeat of at least ``least`` elements that repeats most; None if there is none."""
    order = suffix_array(np.asarray(sequence, np.int64))
    common = common_prefixes(sequence, order)
    spans = [span for span in intervals(common) if span[0] >= least]
    spans.sort(key=lambda span: repeated(span[3] - span[2], span[0]), reverse=True)
    best: Repeat | None = None
    budget = _STARTS_PER_ELEMENT * len(sequence)
    for depth, outer, first, stop in spans:
        budget -= stop - first
        if budget < 0 or repeated(stop - first, depth) <= (best.repeated if best else 0):
            break
        starts = sorted(order[first:stop].tolist())
        for length in lengths(starts, depth, max(outer, least - 1)):
            found = Repeat(apart(starts, length), length, depth - length)
            if found.repeated > (best.repeated if best else 0):
                best = found
    return best


def lengths(starts: list[int], depth: int, outer: int) -> list[int]:
    """Lengths worth trying: all that the starts share, and the commonest distances of starts."""
    distances = Counter(b - a for a, b in pairwise(starts))
    periods = [gap for gap, _ in distances.most_common(2) if outer < gap < depth]
    return [depth, *periods]


def apart(starts: list[int], length: int) -> tuple[int, ...]:
    """As many of ``starts``, from the first on, as stretches of ``length`` do not overlap."""
    kept: list[int] = []
    for start in starts:
        if not kept or start >= kept[-1] + length:
            kept.append(start)
    return tuple(kept)


def suffix_array(sequence: Array) -> Array:
    """The starts of all suffixes in the order of the suffixes, by doubling the compared length."""
    rank = np.unique(sequence, return_inverse=True)[1].astype(np.int64)
    count, length = len(rank), 1
    order = np.argsort(rank, kind="stable")
    while count:
        second = np.full(count, -1, np.int64)
        second[: max(count - length, 0)] = rank[length:]
        order = np.lexsort((second, rank))
        differs = (np.diff(rank[order]) != 0) | (np.diff(second[order]) != 0)
        ranks = np.concatenate(([0], np.cumsum(differs)))
        if ranks[-1] == count - 1:
            break
        rank = np.empty(count, np.int64)
        rank[order] = ranks
        length *= 2
    return np.asarray(order, np.int64)


def common_prefixes(sequence: Sequence[int], order: Array) -> list[int]:
    """How many elements each suffix shares with the one ahead of it in ``order``; 0 at first."""
    count = len(sequence)
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    places, starts = place.tolist(), order.tolist()
    found, shared = [0] * count, 0
    for start in range(count):
        rank = places[start]
        if rank == 0:
            shared = 0
            continue
        other = starts[rank - 1]
        most = count - max(start, other)
        while shared < most and sequence[start + shared] == sequence[other + shared]:
            shared += 1
        found[rank] = shared
        shared = max(shared - 1, 0)
    return found


def intervals(common: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """(depth, outer depth, first, stop) of every range of suffixes that share ``depth`` elements.

    ``outer`` is what the suffixes of the range around it share.
    """
    stack: list[tuple[int, int]] = [(0, 0)]
    for index, depth in enumerate([*common[1:], 0], 1):
        first = index - 1
        while depth < stack[-1][0]:
            inner, first = stack.pop()
            yield inner, max(depth, stack[-1][0]), first, index
        if depth > stack[-1][0]:
            stack.append((depth, first))
