from __future__ import annotations

import gc
import logging
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from fornix.errors import Fail, FornixWarning, InvalidUse
from fornix.runtime import InferenceSession, RunOptions, SessionOptions
from fornix.runtime.logs import logger
from fornix.runtime.memory import shared_results
from fornix.runtime.threads import Pool, shared_pool

CHAIN = """<ir_version: 8, opset_import: ["" : 18]>
    chain (float[N, 256] x) => (float[N, 256] y) {
        a = Softmax (x)
        b = MatMul (a, w)
        y = Softmax (b)
    }"""
STRINGS = """<ir_version: 8, opset_import: ["" : 20]>
    texts (string[N] x) => (string[N] y) { y = StringConcat (x, x) }"""


def model() -> onnx.ModelProto:
    made = parser.parse_model(CHAIN)
    weight = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return made


def feed(rows: int) -> dict[str, np.ndarray]:
    x = np.random.default_rng(rows).standard_normal((rows, 256)).astype(np.float32)
    return {"x": x}


def pool_of(session: InferenceSession) -> Pool:
    assert session._programs is not None
    return session._programs.pool


def test_sessions_share_workers_unless_they_are_to_have_their_own() -> None:
    shared = SessionOptions(intra_op_num_threads=2)
    own = SessionOptions(intra_op_num_threads=2, use_per_session_threads=True)
    first, second = (InferenceSession(model(), shared) for _ in range(2))
    third, fourth = (InferenceSession(model(), own) for _ in range(2))
    assert pool_of(first) is pool_of(second) is shared_pool(2)
    assert len({id(pool_of(x)) for x in (first, third, fourth)}) == 3
    assert pool_of(third).threads == 2
    expected = first.run(None, feed(300))[0]
    np.testing.assert_array_equal(third.run(None, feed(300))[0], expected)
    workers = list(pool_of(third)._workers)
    assert workers
    del third
    gc.collect()
    for worker in workers:
        worker.join(10)
        assert not worker.is_alive()


def test_sessions_of_any_number_of_threads_give_the_same_bits_at_once() -> None:
    sessions = [
        InferenceSession(
            model(), SessionOptions(intra_op_num_threads=count, use_per_session_threads=own)
        )
        for count in (1, 2, 3, 5)
        for own in (False, True)
    ]
    expected = sessions[0].run(None, feed(300))[0].tobytes()
    wrong: list[int] = []

    def call(number: int) -> None:
        found = [sessions[number].run(None, feed(300))[0].tobytes() for _ in range(5)]
        wrong.extend(number for one in found if one != expected)

    callers = [threading.Thread(target=call, args=(n,)) for n in range(len(sessions))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


def test_running_branches_at_once_is_not_what_sessions_do() -> None:
    with pytest.warns(FornixWarning, match="execution_mode ORT_PARALLEL does nothing here"):
        InferenceSession(model(), SessionOptions(execution_mode=1, inter_op_num_threads=4))


def test_a_session_says_what_it_is_from_its_own_severity_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.handler.setLevel(logging.DEBUG)
    monkeypatch.setattr(logging.getLogger("fornix.runtime.session"), "level", logging.ERROR)
    monkeypatch.setenv("FORNIX_CACHE", "0")  # a program that is found there tells of no nodes
    message = parser.parse_model(STRINGS)
    InferenceSession(message, SessionOptions(log_severity_level=1, logid="seven"))
    assert "seven: the model: " in caplog.text
    assert "StringConcat" in caplog.text
    caplog.clear()
    InferenceSession(message, SessionOptions(log_severity_level=2))
    InferenceSession(message)
    assert caplog.text == ""


def test_a_run_logs_from_the_severity_of_its_session_unless_it_has_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        g (float[N] x, int64[M] i) => (float[M] y) { y = Gather (x, i) }"""
    wrong = {"x": np.ones(2, np.float32), "i": np.array([9])}
    for session, run, tells in [(0, -1, True), (0, 2, False), (-1, 0, True), (3, -1, False)]:
        options = SessionOptions(log_severity_level=session)
        runner = InferenceSession(parser.parse_model(text), options)
        caplog.clear()
        with pytest.raises(Fail):
            runner.run(None, wrong, RunOptions(log_severity_level=run))
        assert ("check 1 failed" in caplog.text) is tells


def test_severities_are_numbers_from_0_to_4() -> None:
    log = logging.getLogger("fornix.test")
    assert logger(-1, log) is log
    assert logger(4, log).level == logging.CRITICAL
    with pytest.raises(InvalidUse, match="severity from 0 to 4 is required"):
        InferenceSession(model(), SessionOptions(log_severity_level=5))


@pytest.mark.parametrize("asked", ["by method", "by entry"])
def test_memory_of_large_runs_is_given_back(asked: str) -> None:
    session = InferenceSession(model())
    kept = session.run(None, feed(20_000))[0].copy()
    gc.collect()
    assert session.memory_report().kept > 10e6
    assert shared_results().kept > 10e6
    options = RunOptions()
    if asked == "by entry":
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        session.run(None, feed(3), options)
    else:
        session.shrink()
    assert session.memory_report().kept == 0
    assert shared_results().kept == 0
    np.testing.assert_array_equal(session.run(None, feed(20_000))[0], kept)


class Patient(RunOptions):
    """Options of a run that somebody ends after he has been asked some times."""

    asked = 0

    @property
    def terminate(self) -> bool:
        self.asked += 1
        return self.asked > 2

    @terminate.setter
    def terminate(self, value: bool) -> None:
        pass


@pytest.mark.parametrize("threads", [1, 3])
def test_a_profiled_run_ends_when_it_is_to(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fornix.runtime.native.WORTH_SHARING", 0)
    options = SessionOptions(
        enable_profiling=True,
        profile_file_prefix=str(tmp_path / "p"),
        intra_op_num_threads=threads,
        graph_optimization_level="none",
    )
    session = InferenceSession(model(), options)
    expected = session.run(None, feed(300))[0]
    with pytest.raises(Fail, match="the run has been ended"):
        session.run(None, feed(300), Patient())
    np.testing.assert_array_equal(session.run(None, feed(300), RunOptions())[0], expected)


@pytest.mark.parametrize(
    "entry",
    [
        ("fornix.weights", "int8"),
        ("fornix.products", "bfloat16"),
        ("session.qdq_matmulnbits_accuracy_level", "4"),
    ],
)
def test_entries_that_decide_results_decide_about_programs(entry: tuple[str, str]) -> None:
    plain, narrow = SessionOptions(), SessionOptions()
    narrow.add_session_config_entry(*entry)
    assert narrow.identity is not None
    assert narrow.identity != plain.identity
