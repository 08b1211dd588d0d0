"""Models that ask inference for more than any model needs."""

from __future__ import annotations

import pytest
from onnx import parser

from fornix.infer import infer_model
from fornix.ir.load import from_message

COUNTS = [2**31, 2**63 - 1]
NODES = [
    "y = ConstantOfShape(n)",
    "y = Reshape(x, n)",
    "y = Expand(x, n)",
    "y = Tile(u, n)",
    "y = Resize(u, , , n)",
    "y = Slice(x, n, n)",
    "y = Squeeze(x, n)",
    "y = Unsqueeze(x, n)",
    "y = ReduceSum(x, n)",
    "y = AffineGrid(u, n)",
    "y = Col2Im(x, n, n)",
]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("node", NODES)
def test_a_list_of_billions_of_axes_is_not_built(node: str, count: int) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21]>
        g (float[1, 1, 8] x, int64[{count}] n, float u) => (float y) {{ {node} }}"""
    model = parser.parse_model(text)
    model.graph.input[2].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    loaded = from_message(model)
    inference = infer_model(loaded)
    fact = inference.fact(loaded.graph.outputs[0])
    assert not fact.has_rank or len(fact.shape) <= 4


@pytest.mark.parametrize(
    "node",
    ["y = Tile(x, big)", "y = Concat <axis = 1> (w, w)", "y = Expand(u, beyond)"],
)
def test_an_extent_that_no_message_holds_is_a_contradiction(node: str) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21]>
        g (float[1, 8] x, float[1, 9223372036854775807] w, float[1] u) => (float y)
        <int64[2] big = {{1, 9223372036854775807}}, uint64[1] beyond = {{18446744073709551615}}>
        {{ {node} }}"""
    model = parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    inference = infer_model(from_message(model))
    assert len(inference.errors) == 1
