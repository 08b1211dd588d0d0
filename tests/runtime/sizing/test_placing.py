"""Where values lie in one block of memory."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from fornix.runtime.memory import ALIGNMENT
from fornix.runtime.sizing.placing import Join, Lifetime, Placing


@pytest.mark.parametrize(("moments", "longest"), [(20, 6), (200, 20), (200, 150), (2000, 9)])
def test_values_that_live_at_once_lie_apart(
    rng: np.random.Generator, moments: int, longest: int
) -> None:
    for _ in range(50):
        lives = [
            Lifetime(int(size), int(first), int(first + length))
            for size, first, length in rng.integers([1, 0, 0], [500, moments, longest], (20, 3))
        ]
        lives += [Lifetime(64, own.last, own.last + 1) for own in lives]
        offsets, total = Placing(lives).places()
        for i, (one, start) in enumerate(zip(lives, offsets, strict=True)):
            assert start % ALIGNMENT == 0
            assert start + one.size <= total
            for other, begin in zip(lives[:i], offsets[:i], strict=True):
                together = one.first <= other.last and other.first <= one.last
                assert not together or start + one.size <= begin or begin + other.size <= start


def test_a_chain_takes_the_room_of_two_values() -> None:
    lives = [Lifetime(1024, step, step + 1) for step in range(10)]
    assert Placing(lives).places()[1] == 2 * 1024


def test_parts_lie_where_their_whole_has_them_as_long_as_it_lives() -> None:
    lives = [Lifetime(128, 0, 1), Lifetime(64, 2, 3), Lifetime(192, 3, 5), Lifetime(64, 4, 4)]
    placing = Placing(lives)
    assert placing.join(Join(2, (0, 1)))
    offsets, size = placing.places()
    assert offsets[2] == offsets[0] == offsets[1] - 128
    assert not offsets[2] <= offsets[3] < offsets[2] + 192
    assert size == 256


def test_room_of_a_part_serves_others_until_it_is_made() -> None:
    lives = [Lifetime(64, 0, 3), Lifetime(64, 2, 3), Lifetime(128, 3, 4), Lifetime(64, 0, 1)]
    placing = Placing(lives)
    assert placing.join(Join(2, (0, 1)))
    assert placing.places()[1] == 128


def test_wholes_that_begin_alike_share_their_beginning() -> None:
    sizes = [64, 128, 64, 192, 256]
    placing = Placing(Lifetime(size, step, 9) for step, size in enumerate(sizes))
    assert placing.join(Join(3, (0, 1)))
    assert placing.join(Join(4, (0, 1, 2)))
    (first, second, third, one, other), size = placing.places()
    assert (second, third, one, other) == (first + 64, first + 192, first, first)
    assert size == 256


def test_a_whole_may_be_a_part() -> None:
    placing = Placing(Lifetime(size, 0, last) for last, size in enumerate([64, 64, 128, 64, 192]))
    assert placing.join(Join(2, (0, 1)))
    assert placing.join(Join(4, (3, 2)))
    offsets, size = placing.places()
    assert [start - offsets[4] for start in offsets] == [64, 128, 64, 0, 0]
    assert size == 192


def test_parts_that_cannot_lie_there_are_left_to_a_copy() -> None:
    lives = [Lifetime(size, 0, 9) for size in (64, 64, 128, 128, 60, 124, 128)]
    placing = Placing(lives)
    assert not placing.join(Join(2, (0, 0)))  # one value cannot lie twice
    assert not placing.join(Join(5, (0, 4)))  # lines of the cache are not shared
    assert not placing.join(Join(2, (0,)))  # the whole is larger
    assert placing.join(Join(2, (0, 1)))
    assert not placing.join(Join(3, (1, 0)))  # each lies elsewhere already
    assert not placing.join(Join(2, (0, 1)))


def test_places_beside_a_shared_part_are_taken_once() -> None:
    lives = [Lifetime(size, 0, 9) for size in (64, 64, 64, 128, 128)]
    placing = Placing(lives)
    assert placing.join(Join(3, (0, 1)))
    assert not placing.join(Join(4, (0, 2)))


def test_drawn_joins_keep_values_apart_and_parts_in_place(rng: np.random.Generator) -> None:
    held = 0
    for _ in range(60):
        count = 12
        firsts = np.sort(rng.integers(0, 20, count))
        lives = [
            Lifetime(64 * int(rng.integers(1, 5)), int(f), int(f + rng.integers(6))) for f in firsts
        ]
        joins: list[Join] = []
        for _ in range(4):
            parts = tuple(
                int(i) for i in rng.choice(len(lives), int(rng.integers(2, 4)), replace=False)
            )
            born = max(lives[i].last for i in parts)
            whole = Lifetime(sum(lives[i].size for i in parts), born, born + int(rng.integers(5)))
            joins.append(Join(len(lives), parts))
            lives.append(whole)
        placing = Placing(lives)
        found = [join for join in joins if placing.join(join)]
        held += len(found)
        offsets, total = placing.places()
        pieces = {i: {i} for i in range(len(lives))}
        ends = {i: lives[i].last for i in range(len(lives))}
        for join in found:
            place_ = offsets[join.whole]
            for part in join.parts:
                assert offsets[part] == place_
                place_ += lives[part].size
            pieces[join.whole] = set().union(*(pieces[part] for part in join.parts))
            for piece in pieces[join.whole]:
                ends[piece] = max(ends[piece], lives[join.whole].last)
        wholes = {join.whole for join in found}
        for i, j in combinations(range(len(lives)), 2):
            if i in wholes or j in wholes:
                continue
            together = lives[i].first <= ends[j] and lives[j].first <= ends[i]
            apart = (
                offsets[i] + lives[i].size <= offsets[j] or offsets[j] + lives[j].size <= offsets[i]
            )
            assert not together or apart
        assert all(o + own.size <= total for o, own in zip(offsets, lives, strict=True))
    assert held > 60
