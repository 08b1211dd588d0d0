"""Many threads, one model: what sessions say of themselves, that they may be called at once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fornix
from fornix.compile.program import support
from fornix.dtype import FLOAT32
from fornix.format.limits import DEFAULT
from fornix.infer import infer_strictly
from fornix.ir.graph import Value
from fornix.ir.types import TensorType
from fornix.onnx.parser import parse_model
from fornix.runtime import InferenceSession, SessionOptions, drawing
from fornix.runtime.given import GivenModel
from fornix.runtime.native import MAX_BOUND
from fornix.runtime.providers import NotAsCompiled
from fornix.runtime.shortcuts import generic
from fornix.runtime.shortcuts.generic import Guard

THREADS = 8
ROUNDS = 30
EXTENTS = range(1, MAX_BOUND + 9)
"""More than there are tables for: some are made while others are let go."""
DENSE = """<ir_version: 10, opset_import: ["" : 21]>
    dense (float[N, 4] x) => (float[N, 2] y, float[N] s)
    <float[4, 2] w = {1, 2, -3, 4, 5, -6, 7, 8}, int64[1] axes = {1}> {
        p = MatMul (x, w)
        y = Relu (p)
        s = ReduceSum <keepdims = 0> (p, axes)
    }"""
LOOP = """<ir_version: 10, opset_import: ["" : 21]>
    loop (int64 m, float[N] x) => (float[N] y) {
        t = Constant <value = bool {1}> ()
        y = Loop (m, t, x) <body = b (int64 i, bool c, float[N] v) => (bool d, float[N] u) {
            d = Identity (c)
            u = Add (v, x)
        }>
    }"""
COUNTED = """<ir_version: 10, opset_import: ["" : 21]>
    counted (float[N] x) => (float[M] y) {
        u, first, back, counts = Unique (x)
        y = Neg (u)
    }"""
W = np.array([[1, 2], [-3, 4], [5, -6], [7, 8]], np.float32)


def dense(n: int) -> tuple[dict[str, Any], list[Any]]:
    x = np.arange(4 * n, dtype=np.float32).reshape(n, 4) % 7 - 3
    return {"x": x}, [np.maximum(x @ W, 0), (x @ W).sum(1)]


def loop(n: int) -> tuple[dict[str, Any], list[Any]]:
    x = np.arange(n, dtype=np.float32)
    return {"m": np.array(n % 5), "x": x}, [x * (n % 5 + 1)]


def counted(n: int) -> tuple[dict[str, Any], list[Any]]:
    x = np.arange(n, dtype=np.float32) % 5
    return {"x": x}, [-np.unique(x)]


MODELS = {"dense": (DENSE, dense), "loop": (LOOP, loop), "counted": (COUNTED, counted)}


@pytest.fixture
def hurry() -> Iterator[None]:
    """Let threads take turns much more often than they do."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(work: Callable[[int], None]) -> None:
    """``work`` in many threads that begin together; raises what one of them raises."""
    barrier = threading.Barrier(THREADS)

    def begin(number: int) -> None:
        barrier.wait(60)
        work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(begin, range(THREADS)))


def run(session: InferenceSession, case: Callable[[int], Any], n: int) -> None:
    feeds, wanted = case(n)
    for found, array in zip(session.run(None, feeds), wanted, strict=True):
        np.testing.assert_array_equal(found, array)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("name", MODELS)
def test_sessions_run_and_tell_about_themselves_in_many_threads(name: str, tmp_path: Path) -> None:
    text, case = MODELS[name]
    message = parse_model(text)
    path = tmp_path / "model.onnx"
    path.write_bytes(message.SerializeToString())
    options = SessionOptions(intra_op_num_threads=2)
    session = InferenceSession(path, options)
    others: list[Callable[[int], object]] = [
        lambda n: session.profile(case(n)[0], 1),
        lambda _: session.shrink(),
        lambda _: session.memory_report(),
        lambda _: session.placement(),
        lambda _: session.get_modelmeta(),
        lambda n: run(InferenceSession(path, options), case, n),
        lambda _: infer_strictly(fornix.load(path)),
        lambda _: fornix.check(message),
        lambda _: fornix.optimize(fornix.load(path)),
    ]

    def work(number: int) -> None:
        chance = random.Random(number)
        for turn in range(ROUNDS):
            run(session, case, chance.choice(EXTENTS))
            if turn % 5 == number % 5:
                chance.choice(others)(chance.choice(EXTENTS))

    at_once(work)


@pytest.mark.usefixtures("hurry")
def test_extents_of_zero_are_noticed_whoever_chooses_a_program_meanwhile() -> None:
    session = InferenceSession(parse_model(DENSE))

    def work(number: int) -> None:
        for n in range(ROUNDS):
            run(session, dense, n * (number % 2))

    at_once(work)


@pytest.mark.usefixtures("hurry")
def test_a_model_is_read_once_for_all_threads() -> None:
    payload = parse_model(DENSE).SerializeToString()
    given = GivenModel(payload, None, SessionOptions(), DEFAULT, "dense")
    found: list[object] = []
    at_once(lambda _: found.append(given.model))
    assert len(found) == THREADS
    assert all(model is found[0] for model in found)


@pytest.mark.usefixtures("hurry")
def test_threads_that_draw_first_at_once_have_one_generator() -> None:
    for _ in range(ROUNDS):
        ask = drawing.generator(None)
        found: set[object] = set()
        at_once(lambda _, ask=ask, found=found: found.add(ask()))  # type: ignore[misc]
        assert len(found) == 1


def test_a_python_that_lays_objects_out_anew_gets_no_native_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generic, "is_available", lambda: False)
    value = Value("x", TensorType(FLOAT32, (3,)))
    with pytest.raises(NotAsCompiled, match="not laid out as native calls expect"):
        Guard([value], support())


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python is not free-threaded"
)
def test_nothing_that_fornix_imports_brings_the_gil_back() -> None:
    text = (
        "import sys, fornix, fornix.cli, fornix.onnx, fornix.onnxruntime as ort\n"
        f"model = fornix.onnx.parser.parse_model({COUNTED!r})\n"
        "ort.InferenceSession(model.SerializeToString()).run(None, {'x': [1, 2]})\n"
        "assert not sys._is_gil_enabled()"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHON_GIL"}
    command = [sys.executable, "-W", "error", "-c", text]
    assert subprocess.run(command, env=environment, check=False).returncode == 0
