"""Pointwise convolutions that go ahead of a Resize: the same numbers with less work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fornix.format.messages import own
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from fornix.passes import optimize
from fornix.reference import ReferenceEvaluator

SIZE = (12, 10)
CHANNELS = 32


def head(
    mode: str, opset: int, maps: list[tuple[int, int]], *, sized: bool, batch: int | str = "N"
) -> Any:
    """What decoders end in: maps of several sizes, enlarged, joined and mixed.

    Each comes from a product over its places, as transformers give them.
    """
    rng = np.random.default_rng(len(maps))
    stored: dict[str, np.ndarray[Any, Any]] = {
        "W": rng.normal(size=(20, CHANNELS * len(maps), 1, 1)),
        "B": rng.normal(size=20),
        "tail": np.array(SIZE),
    }
    nodes, inputs, parts = [], [], []
    for k, (rows, columns) in enumerate(maps):
        stored |= {
            f"A{k}": rng.normal(size=(5 + k, CHANNELS)),
            f"b{k}": rng.normal(size=CHANNELS),
            f"shape{k}": np.array([0, CHANNELS, rows, columns]),
            f"scales{k}": np.array([1, 1, SIZE[0] / rows, SIZE[1] / columns], np.float32),
        }
        given = [f"image{k}", "", "", f"sizes{k}"] if sized else [f"image{k}", "", f"scales{k}"]
        nodes += [
            helper.make_node("MatMul", [f"x{k}", f"A{k}"], [f"p{k}"]),
            helper.make_node("Add", [f"p{k}", f"b{k}"], [f"s{k}"]),
            helper.make_node("Transpose", [f"s{k}"], [f"t{k}"], perm=[0, 2, 1]),
            helper.make_node("Reshape", [f"t{k}", f"shape{k}"], [f"image{k}"]),
            helper.make_node("Shape", [f"image{k}"], [f"head{k}"], end=2),
            helper.make_node("Concat", [f"head{k}", "tail"], [f"sizes{k}"], axis=0),
            helper.make_node("Resize", given, [f"grown{k}"], mode=mode, exclude_outside=1),
        ]
        shape = [batch, rows * columns, 5 + k]
        inputs.append(helper.make_tensor_value_info(f"x{k}", TensorProto.DOUBLE, shape))
        parts.append(f"grown{k}")
    nodes.append(helper.make_node("Concat", parts, ["joined"], axis=1))
    nodes.append(helper.make_node("Conv", ["joined", "W", "B"], ["y"]))
    outputs = [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [batch, 20, *SIZE])]
    initializers = [numpy_helper.from_array(x, name) for name, x in stored.items()]
    graph = helper.make_graph(nodes, "head", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def operators(model: Model) -> list[str]:
    return [node.op_type for node in model.graph.nodes]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("opset", [15, 21])
@pytest.mark.parametrize("sized", [False, True])
def test_a_decoder_mixes_channels_before_it_enlarges(mode: str, opset: int, *, sized: bool) -> None:
    maps = [(3, 5), SIZE, (6, 5), (12, 2)]
    message = head(mode, opset, maps, sized=sized)
    model = from_message(own(message))
    found = optimize(model, debug=True)
    assert "Conv" not in operators(found)
    assert operators(found).count("Resize") == 3
    rng = np.random.default_rng(1)
    feeds = {
        f"x{k}": rng.normal(size=(2, rows * columns, 5 + k))
        for k, (rows, columns) in enumerate(maps)
    }
    (expected,) = ReferenceEvaluator(model).run(None, feeds)
    (result,) = ReferenceEvaluator(found).run(None, feeds)
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-9)


def test_what_others_read_stays_as_it_is() -> None:
    for name in ("grown0", "joined"):
        message = head("linear", 21, [(3, 5), SIZE], sized=False)
        message.graph.output.append(
            helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None] * 4)
        )
        found = operators(optimize(from_message(own(message))))
        assert found.count("Conv") == 1
        assert found.count("Concat") == 1


@pytest.mark.parametrize(
    "attributes",
    [
        {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 1.0},
        {"keep_aspect_ratio_policy": "not_larger"},
    ],
)
def test_a_resize_whose_weights_may_not_have_the_sum_1_stays_first(
    attributes: dict[str, Any],
) -> None:
    message = head("linear", 21, [(3, 5)], sized=True)
    node = next(node for node in message.graph.node if node.op_type == "Resize")
    node.input[1] = "roi"
    roi = np.array([0, 0, -1, 0, 1, 1, 2, 1], np.float32)
    message.graph.initializer.append(numpy_helper.from_array(roi, "roi"))
    node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
    found = operators(optimize(from_message(own(message))))
    assert found.index("Resize") < found.index("Conv")
