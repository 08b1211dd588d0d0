from __future__ import annotations

import ctypes
import threading
from collections import Counter
from collections.abc import Callable

import numpy as np

from fornix.compile import crew as words
from fornix.compile import driver
from fornix.compile.cache import ObjectCache
from fornix.compile.kernel import KERNEL
from fornix.compile.support import Support
from fornix.system import waiting

SUPPORT = Support.of(ObjectCache())
FOREVER = 1 << 60


class Program:
    """A table that tells of a program of one kernel, a Python function of its chunk."""

    def __init__(self, do: Callable[[int, int], int], chunks: int, stride: int = 0) -> None:
        """``do`` is given the address of the thread's scratch memory and the chunk."""
        self.kernel = KERNEL(lambda _a, _s, scratch, chunk, _n: do(scratch or 0, chunk))
        self.records = np.zeros(driver.RECORD_WORDS, np.int64)
        self.records[driver.FUNCTION] = ctypes.cast(self.kernel, ctypes.c_void_p).value or 0
        self.records[driver.CHUNKS] = chunks
        self.status = np.zeros(1, np.int64)
        self.table = np.zeros(words.TABLE_WORDS, np.int64)
        self.table[words.YIELD], self.table[words.SLEEP], self.table[words.NAP] = waiting()
        self.table[words.DRIVER : words.STATUS + 1] = (
            SUPPORT.driver,
            self.records.ctypes.data,
            1,
            0,
            stride,
            self.status.ctypes.data,
        )

    def lead(self) -> None:
        self.records[driver.TAKEN : driver.DONE + 1] = 0
        SUPPORT.serve(self.table.ctypes.data, words.LEADER, 0, 0)

    def serve(self, seen: int = 0, patience: int = FOREVER) -> int:
        return SUPPORT.serve(self.table.ctypes.data, 1, seen, patience)


def test_a_leader_whom_nobody_helps_does_everything() -> None:
    done: list[int] = []

    def do(_: int, chunk: int) -> int:
        done.append(chunk)
        return 0

    program = Program(do, 5)
    program.lead()
    assert sorted(done) == [0, 1, 2, 3, 4]
    assert program.table[words.NUMBER] == 1
    assert program.table[words.STATE] == 0


def test_a_worker_takes_part_in_one_program_after_the_other() -> None:
    runs, chunks = 50, 20
    done: Counter[int] = Counter()
    threads: set[int] = set()
    helped = threading.Event()

    def do(scratch: int, chunk: int) -> int:
        done[chunk] += 1
        threads.add(scratch)
        if scratch:
            helped.set()
        elif not helped.is_set():
            helped.wait(0.01)
        return 0

    program = Program(do, chunks, stride=64)
    seen: list[int] = []
    worker = threading.Thread(target=lambda: seen.append(program.serve()))
    worker.start()
    for _ in range(runs):
        program.lead()
    program.table[words.RECALLED] = 1
    worker.join(10)
    assert done == dict.fromkeys(range(chunks), runs)
    assert threads == {0, 64}, "the worker has scratch memory of its own"
    assert 0 < seen[0] <= runs


def test_a_worker_returns_when_there_is_nothing_for_long() -> None:
    program = Program(lambda *_: 0, 1)
    assert program.serve(0, patience=10) == 0
    program.lead()
    assert program.serve(0, patience=10) == 1, "the program is over"
    assert program.serve(1, patience=10) == 1


def test_the_leader_waits_for_those_inside() -> None:
    inside, leave = threading.Event(), threading.Event()
    ended: list[bool] = []

    def do(scratch: int, _: int) -> int:
        if scratch:
            inside.set()
            leave.wait(10)
            ended.append(True)
        else:
            inside.wait(10)
            threading.Timer(0.05, leave.set).start()
        return 0

    program = Program(do, 2, stride=64)
    worker = threading.Thread(target=program.serve)
    worker.start()
    program.lead()
    assert ended == [True]
    program.table[words.RECALLED] = 1
    worker.join(10)


def test_a_failure_is_in_the_status() -> None:
    program = Program(lambda _, chunk: 7 * (chunk == 2), 4)
    program.lead()
    assert program.status[0] == 7
