from __future__ import annotations

import ctypes
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fornix
from fornix.format.text import parser
from fornix.runtime import memory
from fornix.runtime.memory import (
    ALIGNMENT,
    LARGE_BYTES,
    LARGE_PAGE,
    RECENT,
    GuessedMemory,
    ResultMemory,
    SideBySide,
    aligned_array,
    aligned_bytes,
    readable,
    shared_results,
    size_class,
)

FLOAT32 = np.dtype(np.float32)
LARGE = (LARGE_BYTES // 4,)
Array = np.ndarray[Any, np.dtype[Any]]


def test_arrays_begin_at_a_line_of_the_cache() -> None:
    for shape in ((), (1,), (3, 5), (0, 4), (1000, 7)):
        array = aligned_array(shape, np.dtype(np.float32))
        assert array.shape == shape
        assert array.dtype == np.float32
        assert array.ctypes.data % ALIGNMENT == 0
        array[...] = 1
    assert aligned_bytes(100).ctypes.data % ALIGNMENT == 0


def test_arrays_side_by_side_share_a_block_and_no_element() -> None:
    counts = (3, 1000, 0, 16, 1, 70_000)
    room = SideBySide(4 * n for n in counts)
    arrays = [room.array(n, FLOAT32) for n in counts]
    for k, array in enumerate(arrays):
        array[...] = k
    for k, (n, array) in enumerate(zip(counts, arrays, strict=True)):
        np.testing.assert_array_equal(array, np.full(n, k, np.float32))
    full = [array for array in arrays if array.size]
    assert all(array.ctypes.data % ALIGNMENT == 0 for array in full)
    ends = [array.ctypes.data + -(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in full]
    assert [array.ctypes.data for array in full[1:]] == ends[:-1]


def test_large_blocks_begin_with_a_large_page() -> None:
    sizes = [LARGE_PAGE // 2] * 3
    room = SideBySide(sizes)
    first, second, third = (room.array(n // 4, FLOAT32).ctypes.data for n in sizes)
    assert first % LARGE_PAGE == 0
    assert (second - first, third - second) == (sizes[0], sizes[1])


def test_what_exceeds_a_block_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BLOCK_BYTES", 256)
    room = SideBySide([64, 1024, 128, 256])
    arrays = [room.array(n, np.dtype(np.uint8)) for n in (64, 1024, 128, 256)]
    for k, array in enumerate(arrays):
        array[...] = k
    assert [set(array.tolist()) for array in arrays] == [{0}, {1}, {2}, {3}]


def test_more_arrays_than_were_told_of_are_found_room() -> None:
    room = SideBySide([4])
    one, other = room.array(1, FLOAT32), room.array(100, FLOAT32)
    one[...], other[...] = 1, 2
    assert one[0] == 1


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


def test_memory_of_a_dropped_result_is_used_again() -> None:
    results = ResultMemory()
    first = results.array((300, 1000), FLOAT32)
    address = first.ctypes.data
    assert address % ALIGNMENT == 0
    assert first.flags.writeable
    del first
    second = results.array((1000, 150), np.dtype(np.float64))
    assert second.ctypes.data == address
    assert second.shape == (1000, 150)
    assert second.dtype == np.float64
    assert results.kept == 0


def test_results_that_grow_use_the_memory_of_earlier_ones() -> None:
    results = ResultMemory()
    addresses = set()
    for past in range(900, 950):
        array = results.array((12, past, 64), FLOAT32)
        addresses.add(array.ctypes.data)
        del array
    assert len(addresses) <= 2


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1000, LARGE_BYTES, LARGE_BYTES + 1, 10**9 + 1])
def test_a_class_is_less_than_a_quarter_larger(size: int) -> None:
    assert size <= size_class(size) < 1.25 * size
    assert size_class(size_class(size)) == size_class(size)


@pytest.mark.parametrize(
    "view",
    [
        lambda array: array,
        lambda array: array[10:20],
        lambda array: array[5:][::3].reshape(-1, 1).T,
        lambda array: array.view(np.uint8)[100:200],
        memoryview,
        np.broadcast_arrays,
    ],
)
def test_what_is_kept_of_a_result_is_never_overwritten(view: Callable[[Array], Any]) -> None:
    results = ResultMemory()
    array = results.array(LARGE, FLOAT32)
    array[...] = 1
    kept = view(array)
    before = np.array(kept)
    del array
    gc.collect()
    for number in range(2, 6):
        other = results.array(LARGE, FLOAT32)
        assert not np.shares_memory(other, kept[0] if isinstance(kept, (list, tuple)) else kept)
        other[...] = number
        del other
    np.testing.assert_array_equal(np.array(kept), before)


def test_small_results_are_memory_of_their_own() -> None:
    results = ResultMemory()
    small = results.array((LARGE_BYTES // 4 - 1,), FLOAT32)
    del small
    assert results.kept == 0


def test_no_more_is_kept_than_the_limit() -> None:
    results = ResultMemory(limit=4 * LARGE_BYTES)
    live = [results.array(LARGE, FLOAT32) for _ in range(10)]
    huge = results.array((10 * LARGE_BYTES,), np.dtype(np.uint8))
    live.clear()
    assert results.kept == 4 * LARGE_BYTES
    del huge
    assert results.kept == 4 * LARGE_BYTES


def test_sizes_that_nobody_asks_for_any_more_go_first() -> None:
    results = ResultMemory(limit=4 * LARGE_BYTES)
    shapes = [(2 * LARGE_BYTES,), (LARGE_BYTES,), (2 * LARGE_BYTES,)]
    live = [results.array(shape, np.dtype(np.uint8)) for shape in shapes]
    old = live[1].ctypes.data
    live.clear()
    assert results.kept <= 4 * LARGE_BYTES
    assert results.array((LARGE_BYTES,), np.dtype(np.uint8)).ctypes.data == old


def test_no_more_is_kept_than_was_in_use_of_late() -> None:
    results = ResultMemory()
    live = [results.array(LARGE, FLOAT32) for _ in range(10)]
    live.clear()
    assert results.kept == 10 * LARGE_BYTES
    for _ in range(2 * RECENT):
        results.array(LARGE, FLOAT32)
    assert results.kept == LARGE_BYTES


def test_a_finaliser_amid_bookkeeping_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    results = ResultMemory()
    array = results.array(LARGE, FLOAT32)
    address = array.ctypes.data
    monkeypatch.setattr(memory, "PATIENCE", 0.001)
    with results._lock:
        del array
        own = results.array(LARGE, FLOAT32)
    assert own.ctypes.data != address
    assert results.kept == 0
    other = results.array(LARGE, FLOAT32)
    assert other.ctypes.data != address  # what comes back is sorted in afterwards
    assert results.array(LARGE, FLOAT32).ctypes.data == address


def test_after_a_fork_nothing_is_kept_and_nobody_holds_the_lock() -> None:
    results = shared_results()
    before = results.array(LARGE, FLOAT32)
    results._lock.acquire()
    memory._forget_all()
    del before
    assert results.kept == 0
    after = results.array(LARGE, FLOAT32)
    del after
    assert results.kept == LARGE_BYTES


def test_blocks_that_come_back_while_all_is_forgotten_are_counted() -> None:
    results = ResultMemory()
    results.block(LARGE_BYTES)
    results.forget()  # nobody else holds the block at hand
    lent = results.array(LARGE, FLOAT32)
    assert results.kept >= 0
    del lent


def test_memory_ends_with_the_last_who_holds_it() -> None:
    results = ResultMemory()
    array = results.array(LARGE, FLOAT32)
    ended = weakref.ref(results)
    del results
    assert ended() is None
    array[...] = 1
    del array


def test_threads_get_memory_of_their_own() -> None:
    results = ResultMemory(limit=8 * LARGE_BYTES)
    wrong: list[int] = []

    def work(number: int) -> None:
        stream = np.random.default_rng(number)
        kept: list[tuple[Array, int]] = []
        for turn in range(200):
            array = results.array((LARGE_BYTES + int(stream.integers(3)) * 99_999,), np.dtype("u1"))
            mark = (number * 40 + turn) % 256
            array[:] = mark
            kept.append((array[7::9], mark))
            if len(kept) > 3:
                view, expected = kept.pop(int(stream.integers(4)))
                if not (view == expected).all():
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert 0 < results.kept <= 8 * LARGE_BYTES


def test_a_session_never_writes_into_results_that_somebody_has() -> None:
    session = fornix.InferenceSession(
        parser.parse_model(
            """<ir_version: 10, opset_import: ["": 21]>
            large (float[N, 1024] x) => (float[N, 1024] y) { y = Add(x, x) }"""
        )
    )

    def run(rows: int, number: float) -> Array:
        (y,) = session.run(None, {"x": np.full((rows, 1024), number, np.float32)})
        return np.asarray(y)

    whole, part = run(100, 1), run(100, 2)[3:5, ::7]
    address = run(100, 3).ctypes.data
    again = run(101, 4)
    assert again.ctypes.data == address
    for number in range(5, 10):
        run(100, number)
    assert (whole == 2).all()
    assert (part == 4).all()
    assert (again == 8).all()


LATE = """<ir_version: 10, opset_import: ["": 21]>
late (float[N, M] x, bool[N] c, int64 n) => (float[A, M] y, int64[B] z) {
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    y = Compress <axis = 0> (x, c)
    z = Range (zero, n, one)
}"""


def late_run(session: fornix.InferenceSession, rows: int, count: int) -> list[Array]:
    """Results of ``rows`` and ``count`` elements, which data tell, among 1,000 rows."""
    x = np.arange(1000, dtype=np.float32).reshape(-1, 1) + np.zeros((1, 256), np.float32)
    c = np.arange(1000) < rows
    found = session.run(None, {"x": x, "c": c, "n": np.int64(count)})
    return [np.asarray(array) for array in found]


def are_right(found: list[Array], rows: int, count: int) -> bool:
    y, z = found
    wanted = np.repeat(np.arange(rows, dtype=np.float32), 256).reshape(rows, 256)
    return np.array_equal(y, wanted) and np.array_equal(z, np.arange(count))


@pytest.mark.parametrize("threads", [1, 2])
def test_large_results_whose_size_data_tell_are_nobody_elses(threads: int) -> None:
    options = fornix.SessionOptions(intra_op_num_threads=threads)
    session = fornix.InferenceSession(parser.parse_model(LATE), options)
    random = np.random.default_rng(0)
    kept: list[tuple[list[Array], int, int]] = []
    sizes = [(300, 40_000), (0, 0), (255, 32_768), (256, 32_769), (257, 5), (1, 70_000)]
    for _ in range(4):
        for rows, count in sizes:
            kept.append((late_run(session, rows, count), rows, count))
            if len(kept) > 5:
                del kept[int(random.integers(6))]
            assert all(are_right(*one) for one in kept)
    for rows, count in ((300, 40_000), (900, 70_000), (260, 0)):
        for array in late_run(session, rows, count):
            whole = array if array.base is None else np.asarray(array.base)
            assert whole.nbytes <= 2 * array.nbytes


def test_memory_of_results_whose_size_data_tell_is_used_again() -> None:
    session = fornix.InferenceSession(parser.parse_model(LATE))
    for _ in range(5):
        address = late_run(session, 500, 50_000)[0].ctypes.data
    assert late_run(session, 490, 49_000)[0].ctypes.data == address


def test_callers_at_a_time_get_large_results_of_their_own() -> None:
    session = fornix.InferenceSession(parser.parse_model(LATE))
    late_run(session, 300, 0)
    wrong: list[int] = []

    def work(number: int) -> None:
        kept = late_run(session, 257, 0)
        for turn in range(60):
            rows, count = 250 + (turn + number) * 37 % 90, 33_000 * (turn % 3)
            found = late_run(session, rows, count)
            if not are_right(found, rows, count) or not are_right(kept, 257, 0):
                wrong.append(turn)

    callers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_memory_is_guessed_from_the_last_size() -> None:
    guessed, results = GuessedMemory(), ResultMemory()
    assert not guessed.fit(LARGE_BYTES)
    assert guessed.fit(LARGE_BYTES + 1)
    assert not guessed.fit(LARGE_BYTES + 2)
    place = np.ctypeslib.as_array((ctypes.c_int64 * 3).from_address(guessed.place))
    guessed.take(results)
    assert place[0] != 0
    guessed.leave()
    assert place[0] == 0
    assert guessed.fit(8)
    guessed.take(results)
    assert place.tolist() == [0, 0, LARGE_BYTES]
