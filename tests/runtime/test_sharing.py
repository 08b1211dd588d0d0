"""Weights are in memory once, whoever uses them."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from fornix.runtime import InferenceSession, SessionOptions
from tests.runtime.stored.kept_models import is_recalled, use_cache

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells what memory is shared"
)

MODEL = """<ir_version: 8, opset_import: ["" : 18]>
    mlp (float[N, 2048] x) => (float[N, 2048] y) {
        h = MatMul (x, w)  r = Relu (h)  p = MatMul (r, v)  y = Sigmoid (p)
    }"""
MB = 1 << 20
WEIGHTS = 2 * 16 * MB
OVERHEAD = 6 * MB
"""What else a session takes, at most: tables, code, memory for runs."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = parser.parse_model(MODEL)
    rng = np.random.default_rng(0)
    for name in "wv":
        array = rng.standard_normal((2048, 2048)).astype(np.float32)
        made.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(made, tmp_path / "mlp.onnx")
    return tmp_path / "mlp.onnx"


def feed(rows: int) -> dict[str, np.ndarray]:
    return {"x": np.ones((rows, 2048), np.float32)}


def own_bytes() -> int:
    """What this process has written that nobody shares: a page of a file, which another process may
    have open or not, is no copy."""
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    found = dict(line.split(":", 1) for line in lines[1:])
    return int(found["Private_Dirty"].split()[0]) << 10


def opened(path: Path) -> InferenceSession:
    session = InferenceSession(path, SessionOptions(intra_op_num_threads=1))
    for rows in (1, 33):  # kernels for few rows and for many read weights packed in their own way
        session.run(None, feed(rows))
    return session


def test_sessions_of_one_file_read_the_same_weights(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cache(path.parent / "cache", monkeypatch)  # nobody else's programs push this one out
    made, first = opened(path), opened(path)  # whatever is imported is there by now
    assert not is_recalled(made)
    assert is_recalled(first)
    gc.collect()
    tracemalloc.start()  # which knows of arrays, too
    try:
        more = [opened(path) for _ in range(4)]
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < len(more) * OVERHEAD  # four copies would be four times the weights
    report = first.memory_report()
    assert report.packed <= 2.2 * WEIGHTS


def in_child(work: Callable[[], bool]) -> int:
    child = os.fork()
    if child == 0:  # nothing of pytest may run here
        os._exit(0 if work() else 1)
    return os.waitpid(child, 0)[1]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # since 3.12, if threads run
def test_forked_workers_read_the_weights_of_their_parent(path: Path) -> None:
    session = opened(path)
    expected = session.run(None, feed(33))[0]

    def work() -> bool:
        before = own_bytes()
        for rows in (1, 33, 33):
            result = session.run(None, feed(rows))[0]
        is_small = own_bytes() - before < OVERHEAD
        return is_small and np.array_equal(result, expected)

    assert in_child(work) == 0
