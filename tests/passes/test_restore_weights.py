from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper
from onnx.parser import parse_model

import fornix
from fornix.ir.load import from_message
from fornix.passes import Native, optimize
from fornix.reference import ReferenceEvaluator

S, N, K, H = 5, 2, 3, 4
TEXT = """
    <ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>
    g (float[5, 2, 3] x{more}) => (float[5, 2, 2, 4] y, float[2, 2, 4] c) {{
        y, h, c = com.microsoft.DynamicQuantizeLSTM <hidden_size = 4, direction = "bidirectional">
            (x, w, r, b, , , , , ws, wz, rs, rz)
    }}"""


def layer(*, is_fed: bool = False) -> tuple[Any, dict[str, Any]]:
    """The model, with its weights stored unless they are fed, and feeds."""
    rng = np.random.default_rng(1)
    arrays = {
        "w": rng.integers(-128, 128, (2, K, 4 * H), np.int8),
        "r": rng.integers(-128, 128, (2, H, 4 * H), np.int8),
        "b": rng.standard_normal((2, 8 * H), np.float32),
        "ws": rng.uniform(0.002, 0.007, (2, 4 * H)).astype(np.float32),
        "wz": rng.integers(-9, 9, (2, 4 * H), np.int8),
        "rs": np.array([0.004, 0.006], np.float32),
        "rz": np.array([3, -4], np.int8),
    }
    feeds = {"x": rng.standard_normal((S, N, K), np.float32)}
    model = parse_model(TEXT.format(more=", int8[2, 3, 16] w" if is_fed else ""))
    if is_fed:
        feeds["w"] = arrays.pop("w")
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model, feeds


@pytest.mark.parametrize("is_fed", [False, True])
def test_sessions_run_quantised_layers_with_stored_weights_as_those_of_the_standard(
    is_fed: bool,
) -> None:
    model, feeds = layer(is_fed=is_fed)
    native = optimize(from_message(model), native=Native())
    assert [n.op_type for n in native.graph.nodes] == ["DynamicQuantizeLSTM" if is_fed else "LSTM"]
    expected = ReferenceEvaluator(model).run(None, feeds)
    for found in (
        ReferenceEvaluator(native).run(None, feeds),
        fornix.InferenceSession(model).run(None, feeds),
    ):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_models_that_are_written_keep_their_bytes() -> None:
    model, _ = layer()
    left = optimize(from_message(model)).graph.nodes
    assert [node.op_type for node in left] == ["DynamicQuantizeLSTM"]
