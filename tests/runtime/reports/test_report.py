from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from fornix.errors import LimitError
from fornix.runtime import InferenceSession, SessionOptions

TEXT = """<ir_version: 8, opset_import: ["" : 18]>
    mlp (float[N, 256] x) => (float[N, 512] y) {
        h = MatMul (x, w)
        r = Relu (h)
        z = MatMul (r, v)
        y = Sigmoid (z)
    }"""
WEIGHTS = 4 * (256 * 1024 + 1024 * 512)


def model() -> onnx.ModelProto:
    made = parser.parse_model(TEXT)
    for name, shape in (("w", (256, 1024)), ("v", (1024, 512))):
        made.graph.initializer.append(
            onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
        )
    return made


def feed(count: int) -> dict[str, np.ndarray]:
    return {"x": np.ones((count, 256), np.float32)}


def test_a_report_counts_weights_once_and_runs_by_their_extents(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "mlp.onnx")
    for session in (InferenceSession(model()), InferenceSession(tmp_path / "mlp.onnx")):
        before = session.memory_report()
        assert not before.runs
        for count in (4, 32):
            session.run(None, feed(count))
        found = session.memory_report()
        assert WEIGHTS <= found.mapped + found.weights + found.packed <= 2.2 * WEIGHTS
        assert found.results == {(4,): 4 * 512 * 4, (32,): 32 * 512 * 4}
        for count in (4, 32):  # what the two products hand over has to be somewhere
            assert found.runs[count,] >= 4 * count * 1024
        assert found.runs[32,] > found.runs[4,]
        assert found.kept >= found.runs[32,]
        assert found.peak >= found.packed + found.runs[32,] + found.results[32,]


def test_a_session_on_numpy_kernels_reports_nothing() -> None:
    session = InferenceSession(model(), providers=["ReferenceExecutionProvider"])
    assert session.memory_report().peak == 0


def test_runs_beyond_the_limit_are_refused_before_they_take_memory() -> None:
    free = InferenceSession(model())
    free.run(None, feed(4))
    report = free.memory_report()
    enough = report.weights + report.packed + report.runs[4,] + report.results[4,]
    session = InferenceSession(model(), SessionOptions(memory_limit=enough))
    session.run(None, feed(4))
    message = rf"memory_limit is {enough} bytes, but a run with N = 4000 takes \d+: "
    with pytest.raises(LimitError, match=message):
        session.run(None, feed(4000))
    session.run(None, feed(2))
    kept = session.memory_report().kept
    assert kept < 4 * 4000 * 1024
    tight = InferenceSession(model(), SessionOptions(memory_limit=enough - 1))
    with pytest.raises(LimitError, match="with N = 4 takes"):
        tight.run(None, feed(4))


def test_what_is_kept_for_other_extents_makes_room_within_the_limit() -> None:
    counts = (64, 128, 192, 256)
    free = InferenceSession(model())
    for count in counts:
        free.run(None, feed(count))
    report = free.memory_report()
    rounding = report.kept - sum(report.runs.values())  # blocks are whole pages
    enough = report.weights + report.packed + report.runs[256,] + report.results[256,]
    assert report.peak > enough + rounding
    session = InferenceSession(model(), SessionOptions(memory_limit=enough))
    for count in (*counts, *counts, *reversed(counts)):
        session.run(None, feed(count))
        assert session.memory_report().peak <= enough + rounding
