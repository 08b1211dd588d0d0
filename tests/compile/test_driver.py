from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from fornix.compile import driver as words
from fornix.compile.cache import ObjectCache
from fornix.compile.driver import driver, role
from fornix.compile.kernel import KERNEL

CACHE = ObjectCache()


class Table:
    """Records of kernels that are Python functions of (record, chunk, chunks)."""

    def __init__(
        self, do: Callable[[int, int, int], int], chunks: list[int], shares: int = 0
    ) -> None:
        self.kernels = [
            KERNEL(lambda _a, _s, _w, chunk, count, r=record: do(r, chunk, count))
            for record in range(len(chunks))
        ]
        self.records = np.zeros((len(chunks), words.RECORD_WORDS), np.int64)
        self.status = np.zeros(1, np.int64)
        for row, kernel, count in zip(self.records, self.kernels, chunks, strict=True):
            row[words.FUNCTION] = ctypes.cast(kernel, ctypes.c_void_p).value or 0
            row[words.CHUNKS] = count
            row[words.SHARES] = shares

    def run(self, role: int) -> int:
        drive = driver(CACHE)
        return drive(self.records.ctypes.data, len(self.kernels), 0, role, self.status.ctypes.data)


def noting(seen: list[tuple[int, int, int]]) -> Callable[[int, int, int], int]:
    """A kernel that notes its calls and succeeds."""

    def do(record: int, chunk: int, chunks: int) -> int:
        seen.append((record, chunk, chunks))
        return 0

    return do


def test_alone_every_kernel_runs_whole_and_in_order() -> None:
    seen: list[tuple[int, int, int]] = []
    table = Table(noting(seen), [1, 5, 3])
    assert table.run(1) == 0
    assert seen == [(0, 0, 1), (1, 0, 1), (2, 0, 1)]


def test_no_kernels_take_no_time() -> None:
    assert Table(lambda *_: 1, []).run(1) == 0


@pytest.mark.parametrize("is_alone", [True, False])
def test_kernels_without_pieces_are_passed(is_alone: bool) -> None:
    seen: list[tuple[int, int, int]] = []
    table = Table(noting(seen), [0, 1, 0])
    assert table.run(role(0, alone=is_alone)) == 0
    assert seen == [(1, 0, 1)]


def test_together_every_piece_is_done_once_and_kernels_stay_in_order() -> None:
    seen: list[tuple[int, int, int]] = []
    table = Table(noting(seen), [4, 1, 7])
    helpers = [threading.Thread(target=table.run, args=(role(n, alone=False),)) for n in (1, 2, 3)]
    for helper in helpers:
        helper.start()
    assert table.run(0) == 0
    for helper in helpers:
        helper.join()
    assert sorted(seen) == [
        (record, chunk, count) for record, count in enumerate([4, 1, 7]) for chunk in range(count)
    ]
    assert [record for record, _, _ in seen] == [0] * 4 + [1] + [2] * 7


@pytest.mark.parametrize("shares", [1, 2, 3, 5])
def test_pieces_of_a_step_begin_when_those_before_have_ended(shares: int) -> None:
    ended: list[int] = []
    missing: list[int] = []

    def do(_: int, chunk: int, __: int) -> int:
        before = chunk - chunk % shares
        missing.extend(set(range(before)).difference(ended))
        time.sleep(0.0005 * (chunk % 3))
        ended.append(chunk)
        return 0

    table = Table(do, [7 * shares], shares)
    helpers = [threading.Thread(target=table.run, args=(role(n, alone=False),)) for n in (1, 2, 3)]
    for helper in helpers:
        helper.start()
    assert table.run(words.FROM_FRONT) == 0
    for helper in helpers:
        helper.join()
    assert sorted(ended) == list(range(7 * shares))
    assert not missing


def test_steps_are_taken_in_their_order_by_whoever_begins_in_the_middle() -> None:
    seen: list[tuple[int, int, int]] = []
    assert Table(noting(seen), [6], 2).run(words.FROM_MIDDLE) == 0
    assert [chunk for _, chunk, _ in seen] == [0, 1, 2, 3, 4, 5]


def test_who_waits_for_a_step_holds_none_of_its_pieces() -> None:
    done = threading.Event()
    taken: list[int] = []

    def do(_: int, chunk: int, __: int) -> int:
        if chunk == 0:
            assert done.wait(10)
            time.sleep(0.005)
            taken.append(int(table.records[0, words.TAKEN]))
        elif chunk == 1:
            done.set()
        return 0

    table = Table(do, [6], 2)
    helper = threading.Thread(target=table.run, args=(words.FROM_MIDDLE,))
    helper.start()
    assert table.run(words.FROM_FRONT) == 0
    helper.join()
    assert taken == [2]


def test_a_failure_within_a_step_lets_nobody_wait() -> None:
    table = Table(lambda _, chunk, __: 3 if chunk == 1 else 0, [8], 2)
    helper = threading.Thread(target=table.run, args=(words.FROM_MIDDLE,))
    helper.start()
    table.run(words.FROM_FRONT)
    helper.join()
    assert int(table.status[0]) == 3


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (words.FROM_FRONT, ([], [0], [0, 1], [0, 1, 2], [0, 1, 3, 2], [0, 1, 2, 4, 3])),
        (words.FROM_MIDDLE, ([], [0], [1, 0], [2, 1, 0], [2, 3, 1, 0], [3, 4, 2, 1, 0])),
    ],
)
def test_a_thread_does_its_half_then_the_other_one_from_its_end(
    given: int, wanted: tuple[list[int], ...]
) -> None:
    for count, chunks in enumerate(wanted):
        seen: list[tuple[int, int, int]] = []
        assert Table(noting(seen), [count]).run(given) == 0
        assert [chunk for _, chunk, _ in seen] == chunks


def test_every_other_thread_begins_in_the_middle() -> None:
    assert [role(n, alone=False) for n in range(3)] == [0, 2, 0]
    assert role(1, alone=True) == words.ALONE


@pytest.mark.parametrize("others", [1, 2])
def test_halves_of_any_size_meet_without_gap_or_overlap(others: int) -> None:
    counts = list(range(24))
    for _ in range(5):
        seen: list[tuple[int, int, int]] = []
        table = Table(noting(seen), counts)
        roles = [role(n, alone=False) for n in range(1, others + 1)]
        helpers = [threading.Thread(target=table.run, args=(each,)) for each in roles]
        for helper in helpers:
            helper.start()
        assert table.run(0) == 0
        for helper in helpers:
            helper.join()
        assert sorted(seen) == [
            (r, k, count) for r, count in enumerate(counts) for k in range(count)
        ]


def test_one_who_comes_late_finds_nothing_to_do() -> None:
    seen: list[tuple[int, int, int]] = []
    table = Table(noting(seen), [2, 2])
    assert table.run(0) == 0
    assert table.run(0) == 0
    assert [record for record, _, _ in seen] == [0, 0, 1, 1]


def test_the_first_failure_is_told_with_its_record() -> None:
    for alone in (1, 0):
        table = Table(lambda record, *_: 7 if record == 2 else 0, [1, 1, 1, 1])
        status = table.run(alone)
        assert status >> words.CODE_BITS == 2
        assert status & 0xFFFFFFFF == 7
        assert int(table.status[0]) == status


def test_alone_a_failure_ends_the_run() -> None:
    seen: list[int] = []

    def fail_from_the_second_on(record: int, _chunk: int, _chunks: int) -> int:
        seen.append(record)
        return record

    Table(fail_from_the_second_on, [1, 1, 1]).run(1)
    assert seen == [0, 1]


def test_who_waits_long_sleeps() -> None:
    entered = threading.Event()

    def long(record: int, _chunk: int, _chunks: int) -> int:
        entered.set()
        time.sleep(0.3 if record == 0 else 0.0)
        return 0

    table = Table(long, [1, 1])
    other = threading.Thread(target=table.run, args=(0,))
    other.start()
    entered.wait(10)
    before = time.thread_time()
    assert table.run(0) == 0
    assert time.thread_time() - before < 0.1
    other.join()
