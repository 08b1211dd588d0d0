"""Models that onnxruntime's own tools wrote, run by fornix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

import fornix

rng = np.random.default_rng(11)


class Reader(CalibrationDataReader):
    """Images to calibrate with."""

    def __init__(self) -> None:
        self.left = [{"x": rng.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(4)]

    def get_next(self) -> dict[str, Any] | None:
        return self.left.pop() if self.left else None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_network_in_operators_of_quanta_is_that_of_onnxruntime(tmp_path: Path) -> None:
    text = """
        <ir_version: 10, opset_import: ["": 17]>
        g (float[1, 3, 8, 8] x) => (float[1, 5] y)
          <float[4, 3, 3, 3] w, float[4, 4, 3, 3] v, float[4, 5] m, float[5] b> {
            a = Conv <pads = [1, 1, 1, 1]> (x, w)
            r = Relu (a)
            c = Conv <pads = [1, 1, 1, 1]> (r, v)
            s = Add (c, r)
            t = Sigmoid (s)
            u = Concat <axis = 0> (t, s)
            p = AveragePool <kernel_shape = [2, 2]> (s)
            q = GlobalAveragePool (p)
            f = Flatten (q)
            y = Gemm (f, m, b)
        }"""
    model = onnx.parser.parse_model(text)
    for name, *shape in (("w", 4, 3, 3, 3), ("v", 4, 4, 3, 3), ("m", 4, 5), ("b", 5)):
        weights = (rng.standard_normal(shape) * 0.3).astype(np.float32)
        stored = onnx.numpy_helper.from_array(weights, name)
        kept = [i for i in model.graph.initializer if i.name != name]
        del model.graph.initializer[:]
        model.graph.initializer.extend([*kept, stored])
    onnx.save(model, tmp_path / "float.onnx")
    quantised = tmp_path / "quantised.onnx"
    quantize_static(tmp_path / "float.onnx", quantised, Reader(), QuantFormat.QOperator)
    used = {n.op_type for n in onnx.load(quantised).graph.node if n.domain == "com.microsoft"}
    assert {"QLinearAdd", "QGemm", "QLinearGlobalAveragePool"} <= used
    x = {"x": rng.standard_normal((1, 3, 8, 8)).astype(np.float32)}
    [expected] = onnxruntime.InferenceSession(quantised).run(None, x)
    [found] = fornix.InferenceSession(quantised).run(None, x)
    quantum = np.abs(np.diff(np.unique(expected))).min()
    np.testing.assert_allclose(found, expected, atol=quantum * 1.01)
