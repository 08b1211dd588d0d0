from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fornix.ir.graph import Model
from fornix.passes import optimize
from fornix.reference import ReferenceEvaluator
from fornix.reference.source import as_model

FILL = {"Conv": 0.0, "MaxPool": -np.inf}


def padded(op_type: str, axes: list[tuple[int, int, int]]) -> Model:
    """``op_type`` behind a Pad whose amounts are computed in floats, as torch exports timm's."""
    nodes = [helper.make_node("Shape", ["x"], ["s"], start=2),
             helper.make_node("Cast", ["s"], ["n"], to=1),
             helper.make_node("Div", ["n", "stride"], ["q"]),
             helper.make_node("Ceil", ["q"], ["c"]),
             helper.make_node("Sub", ["c", "one"], ["d"]),
             helper.make_node("Mul", ["d", "stride"], ["e"]),
             helper.make_node("Add", ["e", "reach"], ["f"]),
             helper.make_node("Sub", ["f", "n"], ["g"]),
             helper.make_node("Clip", ["g", "zero"], ["total"]),
             helper.make_node("Div", ["total", "two"], ["half"]),
             helper.make_node("Cast", ["half"], ["before"], to=7),
             helper.make_node("Cast", ["total"], ["whole"], to=7),
             helper.make_node("Sub", ["whole", "before"], ["after"]),
             helper.make_node("Concat", ["none", "before", "none", "after"], ["p"], axis=0),
             helper.make_node("Pad", ["x", "p", "fill"], ["a"])]  # fmt: skip
    taps, strides, dilations = (list(each) for each in zip(*axes, strict=True))
    inputs = ["a", "w"] if op_type == "Conv" else ["a"]
    nodes.append(
        helper.make_node(
            op_type, inputs, ["y"], kernel_shape=taps, strides=strides, dilations=dilations
        )
    )
    reach = [(k - 1) * d + 1 for k, _, d in axes]
    rng = np.random.default_rng(0)
    stored = {
        "stride": np.float32(strides[0]),
        "reach": np.array(reach, np.float32),
        "w": rng.normal(size=(2, 3, *taps)).astype(np.float32),
        "none": np.zeros(2, np.int64),
        **{n: np.float32(v) for n, v in (("zero", 0), ("one", 1), ("two", 2))},
        "fill": np.float32(FILL[op_type]),
    }
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    kept = [numpy_helper.from_array(np.asarray(v), n) for n, v in stored.items()]
    graph = helper.make_graph(nodes, "one", [x], [y], kept)
    return as_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))


@pytest.mark.parametrize("op_type", FILL)
@pytest.mark.parametrize("axes", [[(3, 2, 1)] * 2, [(5, 2, 1), (2, 2, 2)], [(4, 1, 1), (1, 1, 1)]])
def test_a_pad_that_floats_tell_is_that_of_the_window(
    op_type: str, axes: list[tuple[int, int, int]]
) -> None:
    model = padded(op_type, axes)
    optimized = optimize(model)
    assert [node.op_type for node in optimized.graph.nodes] == [op_type]
    rng = np.random.default_rng(1)
    for extents in [(7, 8), (8, 7), (1, 9), (12, 13)]:
        x = rng.normal(size=(2, 3, *extents)).astype(np.float32)
        (found,) = ReferenceEvaluator(optimized).run(None, {"x": x})
        (wanted,) = ReferenceEvaluator(model).run(None, {"x": x})
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
