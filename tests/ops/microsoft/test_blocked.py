"""Operators on blocks of channels held to onnxruntime, on the processor of the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import fornix
from fornix.errors import ShapeError
from fornix.ops.microsoft.filters import block_of, unblocked
from tests.ops.harness import check_lowering, check_node, peer

DOMAIN = "com.microsoft.nchwc"
rng = np.random.default_rng(9)


def floats(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


READING = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
NET = """
    <ir_version: 9, opset_import: ["": 17]>
    g (float[N, 3, 12, 12] x) => (float[N, 20, 3, 3] y, float[N, 48] z) {
        a = Conv <pads = [1, 1, 1, 1]> (x, w)
        b = Relu (a)
        c = Conv <pads = [1, 1, 1, 1], group = 32> (b, d)
        e = Conv <strides = [2, 2]> (c, p)
        f = MaxPool <kernel_shape = [2, 2]> (e)
        h = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (f)
        k = Conv (h, q)
        m = Add (h, k)
        n = LeakyRelu <alpha = 0.1> (m)
        s = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
                    nearest_mode = "floor"> (n, none, twice)
        o = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (s)
        y = Conv (o, r)
        t = GlobalMaxPool (n)
        u = GlobalAveragePool (n)
        v = Add (t, u)
        z = Flatten (v)
    }"""


def test_a_model_in_blocks_answers_as_the_one_it_was_made_of(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(NET)
    stored = {
        "w": floats(32, 3, 3, 3), "d": floats(32, 1, 3, 3), "p": floats(48, 32, 1, 1),
        "q": floats(48, 48, 1, 1), "r": floats(20, 48, 1, 1),
        "twice": np.array([1, 1, 2, 2], np.float32),
    }  # fmt: skip
    for name, array in stored.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    next(n for n in model.graph.node if n.op_type == "Resize").input[1] = ""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "blocked.onnx")
    options.log_severity_level = 4
    theirs = onnxruntime.InferenceSession(model.SerializeToString(), options)
    written = onnx.load(tmp_path / "blocked.onnx")
    used = {node.op_type for node in written.graph.node if node.domain == DOMAIN}
    if not used:
        pytest.skip("onnxruntime has no blocks of channels on this processor")
    assert {"Conv", "MaxPool", "AveragePool", "ReorderOutput"} <= used
    feeds = {"x": floats(2, 3, 12, 12)}
    expected = theirs.run(None, feeds)
    for run in (
        fornix.InferenceSession(written).run,
        fornix.ReferenceEvaluator(written).run,
        fornix.ReferenceEvaluator(model).run,
    ):
        for one, other in zip(run(None, feeds), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6 * np.abs(other).max())
    left = fornix.optimize(fornix.load(tmp_path / "blocked.onnx"))
    assert not [n for n in left.graph.nodes if n.domain == DOMAIN and n.op_type == "Conv"]


def arranged(w: Any, block: int) -> Any:
    """Filters [M, C, H, W] in blocks, by their definition."""
    m, c, h, k = w.shape
    inner = block if c % block == 0 else 1
    places = [
        (a * block + f, i * inner + g, y, x)
        for a in range(m // block)
        for i in range(c // inner)
        for y in range(h)
        for x in range(k)
        for g in range(inner)
        for f in range(block)
    ]
    return np.array([w[place] for place in places], w.dtype).reshape(w.shape)


@pytest.mark.parametrize("block", [8, 16])
@pytest.mark.parametrize("channels", [1, 3, 16])
def test_filters_come_out_of_their_blocks(block: int, channels: int) -> None:
    w = floats(32, channels, 2, 1)
    np.testing.assert_array_equal(unblocked(arranged(w, block), block), w)


def test_filters_that_fill_no_blocks_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"filters of W must fill blocks of 16"):
        unblocked(floats(24, 3, 1, 1), 16)


def test_filters_that_fill_no_wide_blocks_lie_in_narrow_ones() -> None:
    assert block_of(64, 24) == 8


def agreed(name: str, x: Any, attributes: dict[str, Any], expected: Any) -> None:
    check_node(
        name, [x], attributes, expected=[expected], domain=DOMAIN, opset=1, rtol=1e-5, atol=1e-6
    )
    check_lowering(name, [x], attributes, domain=DOMAIN, opset=1, symbolic=False)


def test_images_are_filled_up_and_cut() -> None:
    block, x = block_of(), floats(2, 20, 3, 4)
    filled = np.pad(x, [(0, 0), (0, -20 % block), (0, 0), (0, 0)])
    for channels_last in (0, 1):
        own = np.moveaxis(x, 1, -1) if channels_last else x
        attributes = {"channels_last": channels_last}
        agreed("ReorderInput", own, attributes, filled)
        agreed("ReorderOutput", filled, {"channels": 20, **attributes}, own)
    y = floats(2, 32, 3, 4)
    with pytest.raises(ShapeError, match=r"channels must be from 1 to those of X\[2, 32, 3, 4\]"):
        check_node("ReorderOutput", [y], {"channels": 40}, expected=[y], domain=DOMAIN, opset=1)


@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("name", ["ReorderInput", "ReorderOutput"])
@pytest.mark.parametrize("rank", [0, 1])
def test_what_has_no_channels_is_no_image(name: str, rank: int, channels_last: int) -> None:
    attributes = {"channels_last": channels_last, **({"channels": 2} if "Output" in name else {})}
    x = floats(*[16] * rank)
    with pytest.raises(ShapeError, match=f"an image must have rank 2 or more, got rank {rank}"):
        check_node(name, [x], attributes, expected=[x], domain=DOMAIN, opset=1)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample_resizes_by_whole_numbers(mode: str) -> None:
    attributes = {"mode": mode, "scales": [1, 1, 2, 3]}
    x = floats(1, 16, 3, 4)
    factors = np.array([1, 1, 2, 3], np.float32)
    [wanted] = peer(
        "Resize", [x, None, factors], {**READING, "mode": mode}, opset=19, outputs=1, domain=""
    )
    agreed("Upsample", x, attributes, wanted)
    with pytest.raises(ShapeError, match="scales must be 4 positive numbers, got"):
        check_node("Upsample", [x], {"scales": [2]}, expected=[x], domain=DOMAIN, opset=1)
