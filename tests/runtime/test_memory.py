from __future__ import annotations

import numpy as np
import pytest

from fornix.runtime import memory
from fornix.runtime.memory import ALIGNMENT, Lifetime, aligned_array, aligned_bytes, place, readable


def test_arrays_begin_at_a_line_of_the_cache() -> None:
    for shape in ((), (1,), (3, 5), (0, 4), (1000, 7)):
        array = aligned_array(shape, np.dtype(np.float32))
        assert array.shape == shape
        assert array.dtype == np.float32
        assert array.ctypes.data % ALIGNMENT == 0
        array[...] = 1
    assert aligned_bytes(100).ctypes.data % ALIGNMENT == 0


def test_only_what_native_code_cannot_read_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = np.arange(6).reshape(2, 3)
    assert readable(plain) is plain
    np.testing.assert_array_equal(readable(plain.T), plain.T)
    assert readable(plain.T).flags.c_contiguous
    unaligned = np.zeros(17, np.uint8)[1:].view(np.int64)
    monkeypatch.setattr(memory, "READS_ANYWHERE", True)
    assert readable(unaligned) is unaligned
    monkeypatch.setattr(memory, "READS_ANYWHERE", False)
    assert readable(unaligned).flags.aligned


def test_values_that_live_at_once_lie_apart(rng: np.random.Generator) -> None:
    for _ in range(50):
        lives = [
            Lifetime(int(size), int(first), int(first + length))
            for size, first, length in rng.integers([1, 0, 0], [500, 20, 6], (20, 3))
        ]
        offsets, total = place(lives)
        for i, (one, start) in enumerate(zip(lives, offsets, strict=True)):
            assert start % ALIGNMENT == 0
            assert start + one.size <= total
            for other, begin in zip(lives[:i], offsets[:i], strict=True):
                together = one.first <= other.last and other.first <= one.last
                assert not together or start + one.size <= begin or begin + other.size <= start


def test_a_chain_takes_the_room_of_two_values() -> None:
    lives = [Lifetime(1024, step, step + 1) for step in range(10)]
    assert place(lives)[1] == 2 * 1024
