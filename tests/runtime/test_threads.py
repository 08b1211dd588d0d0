from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from fornix.compile.crew import LEADER
from fornix.compile.support import Support
from fornix.runtime.threads import Ahead, Pool, shared_pool
from fornix.system import keep_apart, use_processors


def taking(pieces: int, do: Callable[[int, int], None]) -> Callable[[int], None]:
    """Work that consists of ``pieces`` which anybody may take."""
    following: Iterator[int] = itertools.count()

    def work(worker: int) -> None:
        while (piece := next(following)) < pieces:
            do(piece, worker)

    return work


def test_every_piece_is_done_once() -> None:
    pool = Pool(4)
    for _ in range(50):
        done: list[int] = []
        pool.run(taking(100, lambda piece, _, done=done: done.append(piece)))  # type: ignore[misc]
        assert sorted(done) == list(range(100))


def test_a_pool_does_with_as_many_workers_as_the_system_grants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    granted = itertools.count()
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if next(granted) >= 1:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    pool = Pool(5)
    for _ in range(2):
        done: list[int] = []
        pool.run(taking(20, lambda piece, _, done=done: done.append(piece)))  # type: ignore[misc]
        assert sorted(done) == list(range(20))
    assert next(granted) == 2
    pool.end()


def test_workers_have_numbers_of_their_own() -> None:
    pool = Pool(3)
    seen: set[int] = set()
    everybody = threading.Barrier(3)

    def work(worker: int) -> None:
        seen.add(worker)
        everybody.wait(10)

    pool.run(work)
    assert seen == {0, 1, 2}


def test_one_thread_needs_no_workers() -> None:
    pool = Pool(1)
    done: list[int] = []
    pool.run(done.append)
    assert done == [0]
    assert not pool._workers


def test_an_error_in_a_worker_reaches_the_caller() -> None:
    pool = Pool(2)
    helps = threading.Event()

    def work(worker: int) -> None:
        if worker == 0:
            helps.wait(10)
            return
        helps.set()
        raise ValueError("from a worker")

    with pytest.raises(ValueError, match="from a worker"):
        pool.run(work)
    with pytest.raises(KeyError, match="from the caller"):
        pool.run(taking(1, lambda *_: (_ for _ in ()).throw(KeyError("from the caller"))))
    done: list[int] = []
    pool.run(taking(3, lambda piece, _: done.append(piece)))
    assert sorted(done) == [0, 1, 2]


def test_a_caller_who_finds_the_pool_busy_works_alone() -> None:
    pool = Pool(2)
    entered, leave = threading.Event(), threading.Event()

    def long(worker: int) -> None:
        if worker == 0:
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=pool.run, args=(long,))
    other.start()
    entered.wait(10)
    workers: list[int] = []
    pool.run(workers.append)
    assert workers == [0]
    leave.set()
    other.join()


class _Stage:
    """Programs that the leader ends once the worker has come to them, in steps of our choice."""

    driver = 0

    def __init__(self) -> None:
        self.turns: Iterator[int] = itertools.count(1)
        self.inside, self.leaves, self.returns = (threading.Event() for _ in range(3))
        self.helped: list[bool] = []

    def serve(self, _table: int, index: int, _seen: int, _patience: int) -> int:
        if index != LEADER:
            return self._look(next(self.turns))
        if not self.helped:
            self.helped.append(self.inside.wait(5))
        else:
            self.leaves.set()
            self.helped.append(self.returns.wait(5))
        return 0

    def _look(self, turn: int) -> int:
        """The worker has looked long enough when the second program has begun without it."""
        if turn == 1:
            self.inside.set()
            self.leaves.wait(10)
        else:
            self.returns.set()
        return turn


def test_a_worker_about_to_sleep_takes_part_in_what_began_meanwhile() -> None:
    pool, stage = Pool(2), _Stage()
    for _ in range(2):
        pool.drive(cast("Support", stage), (0, 0, 0, 0, 0))
    assert stage.helped == [True, True]
    pool.end()
    assert next(stage.turns) == 3  # and slept, as it knew of all


def test_workers_are_woken_for_short_jobs_that_come_often(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, now = Pool(2), 1.0
    monkeypatch.setattr(pool._state, "has_processors", True)
    monkeypatch.setattr("fornix.runtime.threads.time.perf_counter", lambda: now)
    for pause, answers in ((0.0003, [False] * 20), (0.0001, [False] * 7 + [True] * 3)):
        for answer in answers:
            now += pause
            assert pool.is_at_hand() is answer
    now += 0.0003
    assert not pool.is_at_hand()


def test_workers_who_share_processors_do_not_help_with_short_jobs() -> None:
    pool = Pool(10_000)
    assert not any(pool.is_at_hand() for _ in range(50))


def test_idle_workers_take_no_time() -> None:
    pool = Pool(3)
    pool.run(lambda _: None)
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.1


def test_workers_end_with_their_pool() -> None:
    pool = Pool(3)
    pool.run(lambda _: None)
    workers = list(pool._workers)
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    for worker in workers:
        worker.join(10)
        assert not worker.is_alive()


def test_sessions_with_as_many_threads_share_a_pool_as_long_as_one_lives() -> None:
    pool = shared_pool(37)
    assert shared_pool(37) is pool
    assert shared_pool(38) is not pool
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # since 3.12, if threads run
def test_a_child_of_a_fork_hires_workers_of_its_own() -> None:
    pool = shared_pool(2)
    pool.run(lambda _: None)
    child = os.fork()
    if child == 0:  # nothing of pytest may run here
        both = threading.Barrier(2)

        def meet(_: int) -> None:
            both.wait(10)

        pool.run(meet)
        os._exit(0 if shared_pool(2) is pool else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_an_interpreter_ends_while_workers_look_for_more() -> None:
    program = """
import numpy as np, fornix
from fornix.format.text import parse_model
model = parse_model('''<ir_version: 8, opset_import: ["" : 18]>
    f (float[N, 1024] x) => (float[N, 1024] y) { y = Exp (x) }''')
options = fornix.SessionOptions()
options.intra_op_num_threads = 3
session = fornix.InferenceSession(model.SerializeToString(), options)
for _ in range(3):
    session.run(None, {"x": np.zeros((512, 1024), np.float32)})
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says which processor runs us")
def test_sleeping_workers_are_kept_off_the_callers_processor() -> None:
    before = os.sched_getaffinity(0)
    asleep, ended = threading.Event(), threading.Event()
    allowed: list[frozenset[int]] = []
    seen: list[set[int]] = []

    def sleep() -> None:
        asleep.set()
        ended.wait(10)
        seen.append(os.sched_getaffinity(0))
        use_processors(allowed[0])
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=sleep)
    thread.start()
    asleep.wait(10)
    allowed.append(keep_apart([thread.native_id, None]))
    ended.set()
    thread.join()
    kept, free = seen
    assert len(kept) == max(1, len(before) - 1)
    assert kept <= before
    assert free == before


def test_a_result_is_made_ahead_once_and_waited_for() -> None:
    begin, made = threading.Event(), []

    def make() -> int:
        begin.wait(10)
        made.append(threading.current_thread())
        return 7

    ahead = Ahead(make)
    begin.set()
    assert [ahead.result(), ahead.result()] == [7, 7]
    assert len(made) == 1
    assert made[0] is not threading.current_thread()


def test_an_error_ahead_is_raised_to_who_asks() -> None:
    def make() -> int:
        raise ValueError("not to be had")

    ahead = Ahead(make)
    for _ in range(2):
        with pytest.raises(ValueError, match="not to be had"):
            ahead.result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_of_a_fork_makes_what_its_parent_had_not_finished() -> None:
    parent, begin = os.getpid(), threading.Event()

    def make() -> int:
        if os.getpid() == parent:
            begin.wait(10)
        return os.getpid()

    ahead = Ahead(make)
    child = os.fork()
    if child == 0:
        os._exit(0 if ahead.result() == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    begin.set()
    assert ahead.result() == parent
