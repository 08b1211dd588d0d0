"""Tables of numbers by hash: every key has a slot of its own, in tables that stay small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.ops.ml.hashed import Hashed, _move

COUNTS = [1, 2, 9, 100, 500, 3000]
DRAWN: dict[str, Any] = {
    "steps": lambda n, _: np.arange(n) * 4096 - 77,
    "anywhere": lambda n, g: np.unique(g.integers(-(2**31), 2**31, n)),
    "fractions": lambda n, _: np.arange(n) / 8,
    "logarithms": lambda n, _: np.log(np.arange(n) + 2.0),
    "halves": lambda n, _: np.arange(n) << 16,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
@pytest.mark.parametrize("count", COUNTS)
def test_keys_have_slots_of_their_own(count: int, draw: Any, dtype: Any) -> None:
    keys = np.unique(draw(count, np.random.default_rng(count)).astype(dtype))
    table = Hashed.of(keys)
    assert table is not None
    assert len(np.unique(table.slots)) == len(keys)
    assert (table.listed(keys)[table.slots] == keys).all()
    assert table.size <= 32 * len(keys)
    assert len(table.moves) <= len(keys)


def test_keys_in_runs_of_slots_find_room_behind_them() -> None:
    near = np.arange(2000)
    keys = np.unique(np.concatenate([near, near << 47]))
    table = Hashed.of(keys)
    assert table is not None
    assert len(np.unique(table.slots)) == len(keys)


def test_a_bucket_moves_on_to_the_first_room_for_all_of_its_slots() -> None:
    is_free = np.ones(2048, bool)
    is_free[:700] = is_free[1024:1724] = False
    is_free[702] = is_free[1726] = False
    assert _move([1, 3], is_free, 1024) == 700
    assert _move([900, 2], is_free, 1024) == 824
    is_free[:] = False
    assert _move([5], is_free, 1024) is None
