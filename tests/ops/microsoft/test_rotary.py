from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import fornix
from fornix.errors import FornixError, NotSupported, ShapeError
from tests.ops.harness import run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(12)


def normal(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("shape", [(2, 3, 16), (2, 2, 3, 8)])
@pytest.mark.parametrize("places", [[2], [[0, 3, 1], [4, 5, 6]]])
def test_pairs_are_rotated(interleaved: int, shape: tuple[int, ...], places: list[Any]) -> None:
    inputs = [normal(*shape), np.array(places, np.int64), normal(9, 4), normal(9, 4)]
    agree("RotaryEmbedding", inputs, {"interleaved": interleaved}, symbolic=False)


def test_a_part_of_each_head_is_rotated() -> None:
    inputs = [normal(2, 3, 16), np.array([1], np.int64), normal(9, 2), normal(9, 2)]
    agree("RotaryEmbedding", inputs, {"num_heads": 2, "rotary_embedding_dim": 4}, symbolic=False)


def test_what_is_missing_is_named() -> None:
    inputs = [normal(2, 3, 16), np.array([1], np.int64), normal(9, 2), normal(9, 2)]
    where: dict[str, Any] = {"domain": DOMAIN, "opset": 1}
    with pytest.raises(ShapeError, match="num_heads is required with rotary_embedding_dim"):
        run_op("RotaryEmbedding", inputs, {"rotary_embedding_dim": 4}, **where)
    with pytest.raises(NotSupported, match="scale must be 1, got 2"):
        run_op("RotaryEmbedding", inputs, {"scale": 2.0}, **where)


def test_tables_of_unknown_width_leave_open_how_many_heads_there_are() -> None:
    inputs = [normal(2, 3, 8), np.array([0]), normal(9, 4), normal(9, 4)]
    [wanted] = run_op("RotaryEmbedding", inputs, domain=DOMAIN, opset=1)
    node = helper.make_node("RotaryEmbedding", list("xpcs"), ["y"], domain=DOMAIN)
    stored = [numpy_helper.from_array(x, name) for x, name in zip(inputs, "xp", strict=False)]
    tables = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [f"{n}0", f"{n}1"]) for n in "cs"]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", tables, [y], stored)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()
    [found] = fornix.InferenceSession(model).run(None, {"c": inputs[2], "s": inputs[3]})
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("shape", [(2, 3, 24), (2, 2, 3, 12)])
@pytest.mark.parametrize("section", [[2, 2, 2], [4, 1, 1], [6, 0, 0], [1, 3, 2]])
def test_pairs_turn_by_one_of_three_positions(
    interleaved: int, layout: int, shape: tuple[int, ...], section: list[int]
) -> None:
    places = rng.integers(0, 9, (3, 2, 3))
    given: dict[str, Any] = {"interleaved": interleaved, "mrope_layout": layout}
    given |= {"mrope_section": section, "num_heads": 2, "rotary_embedding_dim": 12}
    inputs = [normal(*shape), places, normal(9, 6), normal(9, 6)]
    agree("MRotaryEmbedding", inputs, given, symbolic=False)


def test_what_three_positions_ask_for_is_said() -> None:
    inputs = [normal(1, 2, 2, 4), np.full((3, 1, 2), 9), normal(9, 2), normal(9, 2)]
    for given, message in (
        ({"mrope_section": [1, 1]}, "mrope_section must be three numbers"),
        ({"mrope_section": [1, 1, 0], "mrope_layout": 2}, "mrope_layout must be 0 or 1, got 2"),
        ({"mrope_section": [1, 1, 1]}, "mrope_section must have the sum 2"),
        ({"mrope_section": [1, 1, 0]}, r"position_ids must be in \[0, 8\]"),
    ):
        with pytest.raises(FornixError, match=message):
            run_op("MRotaryEmbedding", inputs, given, domain=DOMAIN, opset=1)
    x, places, *caches = inputs
    given = {"mrope_section": [1, 1, 0]}
    for others, message in (
        ([places[:, :, :1], *caches], r"position_ids must be position_ids\[3, 1, 2\]"),
        ([places - 5, caches[0], caches[1][:4]], r"position_ids must be in \[0, 3\]"),
    ):
        with pytest.raises(FornixError, match=message):
            run_op("MRotaryEmbedding", [x, *others], given, domain=DOMAIN, opset=1)
