from __future__ import annotations

import numpy as np

import fornix.onnx.parser
from fornix import ReferenceEvaluator
from tests.ops.grads.harness import check, random


def test_what_an_optional_holds_gets_its_gradient() -> None:
    check("OptionalGetElement", [random(2, 3)])
    evaluator = ReferenceEvaluator(
        fornix.onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 22, "ai.onnx.preview.training": 1]>
        g (double[2] x) => (double[2] dx) {
            held = Optional (x)
            once = OptionalGetElement (held)
            again = OptionalGetElement (held)
            y = Mul (once, again)
            dx = ai.onnx.preview.training.Gradient <xs = ["x"], y = "y"> (x)
        }
    """)
    )
    x = np.array([3.0, -4.0])
    np.testing.assert_array_equal(evaluator.run(None, {"x": x})[0], 2 * x)
