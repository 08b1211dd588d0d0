from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from fornix.errors import LimitError
from fornix.runtime import InferenceSession, SessionOptions
from fornix.runtime.packing import Packing
from fornix.runtime.reports.report import memory_of

KNOWN = """<ir_version: 8, opset_import: ["" : 20]>
    g (string[N] x, float[N, 1000] a) => (string[N, 1000] y) {
        s = Shape (a)  w = Unsqueeze (x, one)  y = Expand (w, s)
    }"""
"""Expand of strings runs its NumPy kernel; how large the result is follows from N: 8 bytes each."""
UNKNOWN = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[N] x) => (int64[1, M] y) { a = Abs (x)  y = NonZero (a) }"""
MB = 1 << 20


def model(text: str) -> onnx.ModelProto:
    made = parser.parse_model(text)
    if text is KNOWN:
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
    return made


def strings(count: int) -> dict[str, np.ndarray]:
    return {"x": np.full(count, "a", object), "a": np.ones((count, 1000), np.float32)}


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "ReferenceExecutionProvider"])
def test_results_of_numpy_kernels_count(provider: str) -> None:
    for text, feed in [(KNOWN, strings), (UNKNOWN, lambda n: {"x": np.ones(n, np.float32)})]:
        session = InferenceSession(
            model(text), SessionOptions(memory_limit=MB), providers=[provider]
        )
        assert len(session.run(None, feed(20))[0])
        with pytest.raises(LimitError, match=rf"memory_limit is {MB} bytes, but "):
            session.run(None, feed(100_000 if text is UNKNOWN else 1000))
        assert len(session.run(None, feed(20))[0])


def test_weights_of_several_nodes_count_once() -> None:
    """The limit is what the report says: one byte less is too little."""
    text = """<ir_version: 8, opset_import: ["" : 18]>
        g (float[N, 64] x) => (float[N, 64] y) {
            a = MatMul (x, w)  b = Relu (a)  y = MatMul (b, w)
        }
    """
    made = parser.parse_model(text)
    weights = np.eye(64, dtype=np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    feeds = {"x": np.ones((5, 64), np.float32)}
    free = InferenceSession(made)
    free.run(None, feeds)
    report = free.memory_report()
    needed = report.weights + report.packed + sum(report.runs.values())
    needed += sum(report.results.values())
    InferenceSession(made, SessionOptions(memory_limit=needed)).run(None, feeds)
    with pytest.raises(LimitError, match=f"memory_limit is {needed - 1} bytes"):
        InferenceSession(made, SessionOptions(memory_limit=needed - 1)).run(None, feeds)


def test_what_is_known_to_be_too_large_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    session = InferenceSession(model(KNOWN), SessionOptions(memory_limit=MB))
    session.run(None, strings(2))
    made: list[int] = []
    full = np.broadcast_to

    def watched(array: Any, shape: Any, **how: Any) -> Any:
        made.append(1)
        return full(array, shape, **how)

    monkeypatch.setattr(np, "broadcast_to", watched)
    with pytest.raises(LimitError, match=r"'y' would take 8000000 more: \d+ are held"):
        session.run(None, strings(1000))
    assert not made


def test_weights_beyond_the_limit_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
        g (float[N, 256] x) => (float[N, 256] y) { y = MatMul (x, w) }""")
    weights = np.eye(256, dtype=np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    monkeypatch.setattr(Packing, "pack", lambda *_: pytest.fail("weights were packed"))
    session = InferenceSession(made, SessionOptions(memory_limit=weights.nbytes - 1))
    message = rf"^memory_limit is {weights.nbytes - 1} bytes, but weights take \d+$"
    with pytest.raises(LimitError, match=message):
        session.run(None, {"x": np.ones((1, 256), np.float32)})


def test_memory_counts_once_whoever_has_a_view_of_it() -> None:
    block = np.zeros(1000)
    assert memory_of(block) == memory_of(block[10:]) == {id(block): 8000}
    assert sum(memory_of([block[:5], block.reshape(10, 100), np.zeros(2)]).values()) == 8016
    assert memory_of(np.frombuffer(bytes(8))) == {}
    assert memory_of(None) == {}
