"""Worker threads that help a caller with a job whose pieces anybody may take.

Decides who works, never what: jobs are cut into pieces that do not depend on the number of threads,
so neither do results. The caller works like everybody else and waits for nobody who has not begun.
Idle workers sleep. Sessions share a pool; while it serves one caller, others do their jobs alone.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

Work = Callable[[int], None]
"""Takes pieces of a job, as worker ``index``, until none is left; releases the GIL meanwhile."""


class _State:
    """What a pool shares with its workers."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.job: Work | None = None
        self.working = 0
        self.is_closed = False
        self.error: BaseException | None = None

    def serve(self, index: int) -> None:
        """A worker's life."""
        done: Work | None = None
        while True:
            with self.changed:
                while not self.is_closed and (self.job is None or self.job is done):
                    self.changed.wait()
                if self.is_closed or self.job is None:
                    return
                done = self.job
                self.working += 1
            try:
                done(index)
            except BaseException as error:  # noqa: BLE001 - the caller raises it
                self.error = error
            with self.changed:
                self.working -= 1
                self.changed.notify_all()

    def close(self) -> None:
        """Let the workers end."""
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()


class Pool:
    """``threads - 1`` workers beside the caller, started at the first job that can use them."""

    def __init__(self, threads: int) -> None:
        self.threads = max(1, threads)
        self._start_over()
        _POOLS.add(self)

    def _start_over(self) -> None:
        self._busy = threading.Lock()
        self._workers: list[threading.Thread] = []
        self._state = _State()
        self._finalizer = weakref.finalize(self, self._state.close)
        self._finalizer.atexit = False

    def run(self, work: Work) -> None:
        """Call ``work`` here and in workers that are free; raises what one of them raises."""
        if self.threads == 1 or not self._busy.acquire(blocking=False):
            work(0)
            return
        try:
            self._run_together(work)
        finally:
            self._busy.release()

    def _run_together(self, work: Work) -> None:
        self._hire()
        state = self._state
        with state.changed:
            state.job, state.error = work, None
            state.changed.notify_all()
        try:
            work(0)
        finally:
            with state.changed:
                state.job = None
                while state.working:
                    state.changed.wait()
        if state.error is not None:
            raise state.error

    def _hire(self) -> None:
        for index in range(len(self._workers) + 1, self.threads):
            worker = threading.Thread(
                target=self._state.serve, args=(index,), name=f"fornix-{index}", daemon=True
            )
            self._workers.append(worker)
            worker.start()

    def forget(self) -> None:
        """In the child of a fork: workers are not there, locks may be held by nobody."""
        self._finalizer.detach()
        self._start_over()


_POOLS: weakref.WeakSet[Pool] = weakref.WeakSet()
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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
