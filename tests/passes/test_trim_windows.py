from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fornix.passes import Level, optimize
from fornix.reference import ReferenceEvaluator
from fornix.reference.source import as_model


@pytest.mark.parametrize("seed", range(20))
def test_convolutions_keep_their_results(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trimmed = 0
    for _ in range(15):
        axes = int(rng.integers(1, 3))
        extents, taps, strides, dilations = (
            rng.integers(1, most, axes).tolist() for most in (7, 5, 4, 7)
        )
        reach = [(k - 1) * d + 1 for k, d in zip(taps, dilations, strict=True)]
        pads = [*(int(rng.integers(n)) for n in reach), *(n - 1 for n in reach)]
        weights = rng.normal(size=(2, 3, *taps)).astype(np.float32)
        node = helper.make_node(
            "Conv", ["x", "w"], ["y"], strides=strides, dilations=dilations, pads=pads
        )
        graph = helper.make_graph(
            [node],
            "one",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, *extents])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(weights, "w")],
        )
        model = as_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
        feeds = {"x": rng.normal(size=(1, 3, *extents)).astype(np.float32)}
        optimized = optimize(model, Level.BASIC)
        (kept,) = (n.inputs[1] for n in optimized.graph.nodes)
        assert kept is not None
        assert kept.constant is not None
        trimmed += kept.constant.shape != weights.shape
        (found,) = ReferenceEvaluator(optimized).run(None, feeds)
        (wanted,) = ReferenceEvaluator(model).run(None, feeds)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert trimmed > 0


def test_what_is_not_finite_stays() -> None:
    weights = np.ones((1, 1, 3), np.float32)
    weights[0, 0, 0] = np.inf
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w")],
    )
    model = as_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    (found,) = ReferenceEvaluator(optimize(model)).run(None, {"x": np.ones((1, 1, 1), np.float32)})
    assert np.isnan(found).all()


@pytest.mark.parametrize("pads", [[0] * 4, [1, 0, 2, 1]])
@pytest.mark.parametrize("images", [1, 3])
def test_transposed_convolutions_of_one_place_keep_their_results(
    pads: list[int], images: int
) -> None:
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=(5, 3, 4, 2)), "b": rng.normal(size=3)}
    graph = helper.make_graph(
        [helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], strides=[2, 3], pads=pads)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()],
    )
    model = as_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    optimized = optimize(model, Level.BASIC)
    assert "ConvTranspose" not in {node.op_type for node in optimized.graph.nodes}
    feeds = {"x": rng.normal(size=(images, 5, 1, 1)).astype(np.float32)}
    (found,) = ReferenceEvaluator(optimized).run(None, feeds)
    (wanted,) = ReferenceEvaluator(model).run(None, feeds)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
