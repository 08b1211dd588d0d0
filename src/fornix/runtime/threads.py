"""Worker threads that help a caller with a job whose pieces anybody may take.

Decides who works, never what: jobs are cut into pieces that do not depend on the number of threads,
so neither do results. The caller works like everybody else and waits for nobody who has not begun.
A job is a native program, in which workers take part without the GIL, or a Python function. Idle
workers look for native programs for a fraction of a millisecond, then sleep. Sessions share a pool;
while it serves one caller, others do their jobs alone.
"""

from __future__ import annotations

import atexit
import logging  # first: before a fork its lock is taken by who registered last
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from fornix.compile import crew as words
from fornix.compile.driver import FROM_FRONT, SPINS
from fornix.system import keep_apart, usable_processors, use_processors, waiting

if TYPE_CHECKING:
    from fornix.compile.crew import Crew
    from fornix.compile.support import Support

T = TypeVar("T")
Work = Callable[[int], None]
"""Takes pieces of a job, as worker ``index``, until none is left; releases the GIL meanwhile."""

FAREWELL = 1.0
"""Seconds that each worker has to end when the interpreter does."""
LONGEST = 60.0
"""Seconds that a fork waits for what is made ahead, which takes long on a busy machine."""
LINE = 64
"""Bytes of a line of the cache."""
SOON, OFTEN = 200e-6, 8
"""Seconds from one short job to the next within which workers stay awake, and how many such jobs
in a row it takes until they are woken for them."""


class _State:
    """What a pool shares with its workers."""

    def __init__(self, threads: int) -> None:
        self.changed = threading.Condition()
        self.calls = 0
        """How often workers were to wake up."""
        self.asleep = 0
        self.announced = 0
        """Native programs so far, told before it is asked who is asleep."""
        self.job: Work | None = None
        self.working = 0
        self.is_closed = False
        self.error: BaseException | None = None
        self.allowed: frozenset[int] = frozenset()
        """Processors that workers may use once they are awake, if they were kept off one."""
        self.serve: Crew | None = None
        """The native loop of workers, once there was a native program."""
        block = np.zeros(words.TABLE_WORDS + LINE // 8, np.int64)
        start = -block.ctypes.data % LINE // 8
        self.table = block[start : start + words.TABLE_WORDS]
        self.address = self.table.ctypes.data
        self.table[words.YIELD], self.table[words.SLEEP], self.table[words.NAP] = waiting()
        self.has_processors = threads <= usable_processors()
        """Whether there is one for each thread."""
        self.patience = words.PATIENCE if self.has_processors else SPINS

    def live(self, index: int) -> None:
        """A worker's life.

        Whoever begins a program while a worker is between looking for one and sleeping finds nobody
        to wake; so a worker sleeps only if it knows of all.
        """
        calls = programs = known = 0
        while True:
            with self.changed:
                self.asleep += 1
                while self.calls == calls and self.announced == known:
                    self.changed.wait()
                self.asleep -= 1
                calls, known = self.calls, self.announced
                if self.is_closed:
                    return
                work = self.job
                self.working += work is not None
            use_processors(self.allowed)
            if work is not None:
                self._help(work, index)
            if self.serve is not None:
                programs = self.serve(self.address, index, programs, self.patience)
                known = max(known, programs)

    def _help(self, work: Work, index: int) -> None:
        """Do what is left of a Python job."""
        try:
            work(index)
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            self.error = error
        with self.changed:
            self.working -= 1
            self.changed.notify_all()

    def call(self) -> None:
        """Wake everybody up."""
        with self.changed:
            self.calls += 1
            self.changed.notify_all()

    def close(self) -> None:
        """Let the workers end."""
        self.is_closed = True
        self.table[words.RECALLED] = 1
        self.call()


class Pool:
    """``threads - 1`` workers beside the caller, started at the first job that can use them."""

    def __init__(self, threads: int) -> None:
        self.threads = max(1, threads)
        self._start_over()
        _POOLS.add(self)

    def _start_over(self) -> None:
        self._busy = threading.Lock()
        self._workers: list[threading.Thread] = []
        self._places = self.threads - 1
        self._job: tuple[int, ...] = ()
        """What the table of the workers tells of."""
        self._last, self._in_a_row = 0.0, 0
        self._state = _State(self.threads)
        self._finalizer = weakref.finalize(self, self._state.close)
        self._finalizer.atexit = False

    def run(self, work: Work) -> None:
        """Call ``work`` here and in workers that are free; raises what one of them raises."""
        if self.threads == 1 or not self._busy.acquire(blocking=False):
            work(0)
            return
        try:
            self._hire()
            self._run_together(work)
        finally:
            self._busy.release()

    def drive(self, support: Support, program: tuple[int, int, int, int, int]) -> None:
        """Run the records of a native program here and in workers that are free.

        ``program`` is the address and number of the records, that of the scratch memory and how
        many bytes of it each thread has, and the address of the status.
        """
        records, count, scratch, _, status = program
        if self.threads == 1 or not self._busy.acquire(blocking=False):
            support.drive(records, count, scratch, FROM_FRONT, status)
            return
        try:
            self._hire()
            state = self._state
            state.serve = state.serve or support.serve
            job = support.driver, *program
            if job != self._job:
                state.table[words.DRIVER : words.STATUS + 1] = self._job = job
            state.announced += 1
            if state.asleep:
                self._wake()
            support.serve(state.address, words.LEADER, 0, 0)
        finally:
            self._busy.release()

    def is_at_hand(self) -> bool:
        """Whether workers help at once with a job that is shorter than it takes to wake them.

        They are awake after other jobs; and they are woken where short ones come so often that they
        will stay awake. Where they would take turns with others on a processor, they never are.
        """
        state = self._state
        if not state.has_processors:
            return False
        if self._workers and not state.asleep:
            return True
        now = time.perf_counter()
        self._in_a_row = self._in_a_row + 1 if now - self._last < SOON else 0
        self._last = now
        return self._in_a_row >= OFTEN

    def _run_together(self, work: Work) -> None:
        state = self._state
        state.job, state.error = work, None
        state.table[words.RECALLED] = 1
        self._wake()
        try:
            work(0)
        finally:
            with state.changed:
                state.job = None
                state.table[words.RECALLED] = state.is_closed
                while state.working:
                    state.changed.wait()
        if state.error is not None:
            raise state.error

    def _wake(self) -> None:
        """Call the workers, to other processors than this one if there are enough."""
        state = self._state
        if state.has_processors:
            state.allowed = keep_apart(worker.native_id for worker in self._workers)
        state.call()

    def _hire(self) -> None:
        """Start the workers that are missing: all, or as many as the system grants."""
        while len(self._workers) < self._places:
            index = len(self._workers) + 1
            worker = threading.Thread(
                target=self._state.live, args=(index,), name=f"fornix-{index}", daemon=True
            )
            try:
                worker.start()
            except RuntimeError:
                self._places = len(self._workers)
                return
            self._workers.append(worker)

    def forget(self) -> None:
        """In the child of a fork: workers are not there, locks may be held by nobody."""
        self._finalizer.detach()
        self._start_over()

    def end(self) -> None:
        """Before the interpreter ends: nobody may be in native code that goes with it."""
        if self._busy.acquire(timeout=FAREWELL):  # for ever: later callers work alone
            self._state.close()
            for worker in self._workers:
                worker.join(FAREWELL)


class Ahead(Generic[T]):
    """What ``make`` gives, computed by a thread of its own until somebody asks for it."""

    def __init__(self, make: Callable[[], T], *, imports: bool = False) -> None:
        """Where it ``imports``, forks wait for it: a child could never end what has begun."""
        self._make = make
        self._found: T | None = None
        # No daemon: what it reads must not go when the process ends.
        self._thread = threading.Thread(target=self._work, name="fornix-ahead")
        if imports:
            _AHEAD.add(self)
        self._thread.start()

    def _work(self) -> None:
        with suppress(Exception):  # the same is raised to who asks
            self._found = self._make()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the thread is done, or for so long."""
        if self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def result(self) -> T:
        """What it gives, or raises; computed here if the thread failed or is that of a parent."""
        self.wait()
        if self._found is None:
            self._found = self._make()
        return self._found


_POOLS: weakref.WeakSet[Pool] = weakref.WeakSet()
_AHEAD: weakref.WeakSet[Ahead[Any]] = weakref.WeakSet()
_SHARED: weakref.WeakValueDictionary[int, Pool] = weakref.WeakValueDictionary()
_SHARING = threading.Lock()


def shared_pool(threads: int) -> Pool:
    """The pool of this process that has so many threads; it ends with the last who holds it."""
    with _SHARING:
        pool = _SHARED.get(threads)
        if pool is None:
            pool = _SHARED[threads] = Pool(threads)
        return pool


def _forget_all() -> None:
    global _SHARING  # noqa: PLW0603 - a lock that another thread held is held for ever
    _SHARING = threading.Lock()
    for pool in list(_POOLS):
        pool.forget()


def _wait_for_all() -> None:
    """Before a fork: nobody may be in the middle of an import."""
    for ahead in list(_AHEAD):
        ahead.wait(LONGEST)


def _end_all() -> None:
    for pool in list(_POOLS):
        pool.end()


log = logging.getLogger(__name__)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_all, after_in_child=_forget_all)
atexit.register(_end_all)
