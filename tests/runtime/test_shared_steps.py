"""Threads that share the steps of a recurrent layer give what one gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from fornix import InferenceSession, SessionOptions
from fornix.compile import driver
from fornix.reference import ReferenceEvaluator
from fornix.runtime import native

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def layer(op_type: str, width: int, **attributes: Any) -> Any:
    """A model of one layer whose weights are fed."""
    rows, count = GATES[op_type] * width, 1 + (attributes.get("direction") == "bidirectional")
    names: list[tuple[str, tuple[int | str, ...]]] = [("x", ("S", "N", 5)), ("w", (count, rows, 5))]
    names += [("r", (count, rows, width)), ("b", (count, 2 * rows)), ("n", ("N",))]
    inputs = [helper.make_tensor_value_info(n, 6 if n == "n" else 1, dims) for n, dims in names]
    outputs = [helper.make_tensor_value_info(n, 1, None) for n in ("y", "last")]
    node = helper.make_node(
        op_type, [n for n, _ in names], ["y", "last"], hidden_size=width, **attributes
    )
    graph = helper.make_graph([node], "layer", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


@pytest.mark.parametrize(
    ("op_type", "width", "shares", "attributes"),
    [
        ("LSTM", 144, 2, {}),
        ("LSTM", 153, 2, {"direction": "reverse", "clip": 0.4, "input_forget": 1}),
        ("LSTM", 144, 0, {"direction": "bidirectional"}),
        ("GRU", 160, 2, {"linear_before_reset": 1}),
        ("GRU", 160, 0, {}),
        ("RNN", 270, 2, {"activations": ["Relu"]}),
    ],
)
def test_any_number_of_threads_gives_the_same_bits(
    op_type: str,
    width: int,
    shares: int,
    attributes: dict[str, Any],
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("WORTH_SHARING", "WORTH_HELP", "WORTH_MEASURING", "SHARED_STEP"):
        monkeypatch.setattr(native, name, 0)
    frames: list[native.Frame] = []
    place = native.Frame.place

    def placed(frame: native.Frame, *given: Any) -> None:
        frames.append(frame)
        place(frame, *given)

    monkeypatch.setattr(native.Frame, "place", placed)
    model = layer(op_type, width, **attributes)
    shapes = [tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in model.graph.input]
    weights = [rng.uniform(-0.2, 0.2, shape).astype(np.float32) for shape in shapes[1:4]]
    sessions = []
    for threads in (1, 2, 3):
        options = SessionOptions()
        options.intra_op_num_threads = threads
        sessions.append(InferenceSession(model, options))
    for steps, count in ((7, 1), (1, 1), (12, 3)):
        x = rng.standard_normal((steps, count, 5)).astype(np.float32)
        lengths = np.linspace(steps, 1, count).astype(np.int32)
        feeds = dict(zip("xwrbn", [x, *weights, lengths], strict=True))
        wanted = ReferenceEvaluator(model).run(None, feeds)
        alone = sessions[0].run(None, feeds)
        for one, other in zip(alone, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        for session in sessions[1:] * 4:
            for one, other in zip(session.run(None, feeds), alone, strict=True):
                np.testing.assert_array_equal(one, other)
    assert max(int(frame.records[:, driver.SHARES].max()) for frame in frames) == shares
