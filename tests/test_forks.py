from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import parser, save

import fornix
from fornix.forks import awaited, tell
from fornix.runtime.programs import Programs

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # since 3.12
]

MODEL = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
    g (float[N, 64] x) => (float[N, 64] y) { h = Add (x, x)  y = Relu (h) }""")


def rows(count: int) -> dict[str, np.ndarray]:
    return {"x": np.full((count, 64), 2, np.float32)}


def status_of_child(work: Callable[[], bool]) -> int:
    """What becomes of a child that does ``work``, and is ended if it takes long."""
    child = os.fork()
    if child == 0:  # nothing of pytest may run here
        signal.alarm(20)
        os._exit(0 if work() else 1)
    return os.waitpid(child, 0)[1]


def test_a_child_finds_locks_free_that_others_held(monkeypatch: pytest.MonkeyPatch) -> None:
    session = fornix.InferenceSession(MODEL)
    session.run(None, rows(3))
    entered, leave = threading.Event(), threading.Event()
    choose = Programs._choose

    def slowly(self: Programs, *given: object) -> object:
        entered.set()
        leave.wait(20)
        return choose(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Programs, "_choose", slowly)
    other = threading.Thread(target=session.run, args=(None, rows(5)))
    other.start()
    entered.wait(20)
    monkeypatch.setattr(Programs, "_choose", choose)
    try:
        status = status_of_child(lambda: bool((session.run(None, rows(7))[0] == 4).all()))
    finally:
        leave.set()
        other.join()
    assert status == 0


def test_a_fork_waits_for_native_code() -> None:
    lock, entered = awaited(threading.Lock()), threading.Event()
    order: list[str] = []

    def hold() -> None:
        with lock:
            entered.set()
            threading.Event().wait(0.05)
            order.append("released")

    other = threading.Thread(target=hold)
    other.start()
    entered.wait(10)
    status = status_of_child(lambda: order == ["released"] and lock.acquire(timeout=1))
    other.join()
    assert status == 0
    assert not lock.locked()


def test_who_wants_to_know_is_told_in_the_child_alone() -> None:
    class Counter:
        told = 0

        def forget(self) -> None:
            self.told += 1

    counter = Counter()
    tell(counter)
    assert status_of_child(lambda: counter.told == 1) == 0
    assert counter.told == 0


def run_at(path: str) -> float:
    session = fornix.InferenceSession(path)
    return float(session.run(None, rows(4))[0].sum())


def run_it(session: fornix.InferenceSession) -> float:
    return float(session.run(None, rows(9))[0].sum())


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_workers_of_multiprocessing_run_sessions_while_threads_do(how: str, tmp_path: Path) -> None:
    path = str(tmp_path / "m.onnx")
    save(MODEL, path)
    session = fornix.InferenceSession(path)
    end = threading.Event()

    def go_on() -> None:
        count = 0
        while not end.is_set():
            count = count % 300 + 1
            session.run(None, rows(count))

    others = [threading.Thread(target=go_on) for _ in range(2)]
    for other in others:
        other.start()
    try:
        with multiprocessing.get_context(how).Pool(2) as pool:
            assert pool.map(run_at, [path] * 4) == [4.0 * 64 * 4] * 4
            assert pool.map(run_it, [session] * 4) == [4.0 * 64 * 9] * 4
    finally:
        end.set()
        for other in others:
            other.join()
