from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from fornix.dtype import FLOAT32
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops import conv as module
from fornix.ops.fact import tensor, unranked
from tests.ops.harness import check_lowering, check_node, infer_op, peer, run_op

F32_SUM = 1e-5
"""Products of up to 500 terms of size 1, summed in another order."""

N, C, H, W = (symbol(name) for name in "NCHW")


def random_case(rng: np.random.Generator, *, transposed: bool) -> tuple[list[Any], dict[str, Any]]:
    rank, group = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 3]))
    channels, filters = (group * int(rng.integers(1, 4)) for _ in range(2))
    taps = rng.integers(1, 4, rank).tolist()
    attributes: dict[str, Any] = {
        "group": group,
        "strides": rng.integers(1, 4, rank).tolist(),
        "dilations": rng.integers(1, 3, rank).tolist(),
    }
    if rng.random() < 0.3:
        attributes["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        attributes["dilations"] = [1] * rank  # onnxruntime refuses others with SAME
    else:
        attributes["pads"] = rng.integers(0, 3, 2 * rank).tolist()
    if transposed:
        attributes["output_padding"] = [int(rng.integers(0, s)) for s in attributes["strides"]]
    x = rng.standard_normal((rng.integers(1, 3), channels, *rng.integers(5, 9, rank)))
    shape = (channels, filters // group) if transposed else (filters, channels // group)
    w = rng.standard_normal((*shape, *taps))
    inputs = [x, w, rng.standard_normal(filters)][: int(rng.integers(2, 4))]
    return [value.astype(np.float32) for value in inputs], attributes


@pytest.mark.parametrize("opset", [1, 11, 22])
@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_convolutions_agree_with_onnxruntime(name: str, opset: int) -> None:
    rng = np.random.default_rng(opset)
    for _ in range(25):
        inputs, attributes = random_case(rng, transposed=name == "ConvTranspose")
        check_node(
            name,
            inputs,
            attributes,
            opset=opset,
            expected=peer(name, inputs, attributes, opset=opset),
            rtol=F32_SUM,
            atol=F32_SUM,
        )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_narrow_floats_are_summed_in_float32_and_rounded_once(name: str, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 32, 6, 6)).astype(dtype)
    w = rng.standard_normal((32, 32, 3, 3)).astype(dtype)
    attributes = {"pads": [1, 1, 1, 1]}
    wide = [value.astype(np.float64) for value in (x, w)]
    exact = run_op(name, wide, attributes)[0].astype(dtype)
    step = float(ml_dtypes.finfo(dtype).eps)
    check_node(name, [x, w], attributes, expected=[exact], rtol=step, atol=1e-4)


def test_float64_keeps_its_precision() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 8, 7, 7)), rng.standard_normal((4, 8, 3, 3))
    wanted = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w)).numpy()
    check_node("Conv", [x, w], expected=[wanted], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("group", [4, 1])
def test_a_convolution_in_pieces_equals_one_in_a_whole(
    group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 9, 8)).astype(np.float32)
    w = rng.standard_normal((8, 4 // group, 3, 2)).astype(np.float32)
    attributes = {"pads": [1, 0, 1, 1], "strides": [2, 1], "group": group}
    whole = run_op("Conv", [x, w], attributes)
    for elements in (1, 500, 2500):
        monkeypatch.setattr(module, "UNFOLDED_ELEMENTS", elements)
        monkeypatch.setattr(module, "DEPTHWISE_ELEMENTS", elements)
        check_node("Conv", [x, w], attributes, expected=whole, rtol=F32_SUM, atol=F32_SUM)


def test_an_empty_batch_gives_an_empty_batch() -> None:
    w = np.ones((4, 3, 3, 3), np.float32)
    [y] = run_op("Conv", [np.empty((0, 3, 5, 5), np.float32), w])
    assert y.shape == (0, 4, 3, 3)
    [y] = run_op("ConvTranspose", [np.empty((0, 4, 5, 5), np.float32), w])
    assert y.shape == (0, 3, 7, 7)


def test_same_padding_with_dilation_is_explicit_padding() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 2, 8, 8)).astype(np.float32)
    w = rng.standard_normal((2, 2, 3, 3)).astype(np.float32)
    explicit = {"dilations": [2, 3], "pads": [2, 3, 2, 3]}
    same = {"dilations": [2, 3], "auto_pad": "SAME_UPPER"}
    check_node("Conv", [x, w], same, expected=run_op("Conv", [x, w], explicit))


@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("shape", [[10, 8], [9, 9], [11, 11], [12, 10]])
def test_output_shape_sets_the_padding_as_in_onnxruntime(auto_pad: str, shape: list[int]) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 1, 5, 5)).astype(np.float32)
    w = rng.standard_normal((1, 2, 3, 3)).astype(np.float32)
    attributes = {"output_shape": shape, "strides": [2, 2], "auto_pad": auto_pad}
    try:
        wanted = peer("ConvTranspose", [x, w], attributes)
    except Exception:  # noqa: BLE001 - it refuses an output beyond every window
        full = run_op("ConvTranspose", [x, w], {"strides": [2, 2]})[0]
        wanted = [np.zeros((1, 2, *shape), np.float32)]
        part = tuple(slice(0, min(a, b)) for a, b in zip(full.shape, (1, 2, *shape), strict=True))
        wanted[0][part] = full[part]
    check_node("ConvTranspose", [x, w], attributes, expected=wanted, rtol=F32_SUM, atol=F32_SUM)


def test_output_shape_may_begin_with_batch_and_channels() -> None:
    x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 3, 3), np.float32)
    short = run_op("ConvTranspose", [x, w], {"output_shape": [4, 4]})
    check_node("ConvTranspose", [x, w], {"output_shape": [1, 1, 4, 4]}, expected=short)


def test_conv_infers_symbolic_extents() -> None:
    x, w = tensor(FLOAT32, (N, 3, H, W)), tensor(FLOAT32, (64, 3, 7, 7))
    [y] = infer_op("Conv", [x, w], {"strides": [2, 2], "pads": [3, 3, 3, 3]})
    assert y.shape == (N, 64, (H - 1) // 2 + 1, (W - 1) // 2 + 1)
    [y] = infer_op("Conv", [tensor(FLOAT32, (N, C, H, W)), w], {"pads": [3] * 4})
    assert y.shape == (N, 64, H, W)
    [y] = infer_op("ConvTranspose", [x, tensor(FLOAT32, (3, 8, 2, 2))], {"strides": [2, 2]})
    assert y.shape == (N, 8, 2 * H, 2 * W)


def test_conv_without_rank_keeps_the_dtype() -> None:
    [y] = infer_op("Conv", [unranked(FLOAT32), tensor(FLOAT32, (1, 1, 3, 3))])
    assert y.dtype is FLOAT32
    assert not y.has_rank


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        (
            "Conv", [zeros(1, 4, 5, 5), zeros(6, 3, 3, 3)], {},
            r"W\[6, 3, 3, 3\] with group=1 reads 3 channels, but X\[1, 4, 5, 5\] has 4",
        ),
        (
            "Conv", [zeros(1, 4, 5, 5), zeros(3, 2, 3, 3)], {"group": 2},
            r"the filters must be a multiple of group=2, got 3 in W\[3, 2, 3, 3\]",
        ),
        (
            "Conv", [zeros(1, 4, 5), zeros(3, 4, 3, 3)], {},
            r"the weight tensor W and X must have one rank.* got W\[3, 4, 3, 3\] and X\[1, 4, 5\]",
        ),
        ("Conv", [zeros(1, 4, 5), zeros(4, 4, 3)], {"group": 0}, "group must be positive, got 0"),
        (
            "Conv", [zeros(1, 4, 5), zeros(4, 4, 3)], {"kernel_shape": [2]},
            r"kernel_shape must repeat the taps of W\[4, 4, 3\], got \[2\]",
        ),
        ("Conv", [zeros(1, 4, 5), zeros(4, 4, 0)], {}, r"W must have taps, got W\[4, 4, 0\]"),
        (
            "Conv", [zeros(1, 4, 5), zeros(4, 4, 3), zeros(3)], {},
            r"B must have one element per filter \(4\), got B\[3\]",
        ),
        (
            "ConvTranspose", [zeros(1, 4, 5), zeros(3, 4, 3)], {},
            r"W\[3, 4, 3\] reads 3 channels, but X\[1, 4, 5\] has 4",
        ),
        (
            "ConvTranspose", [zeros(1, 4, 5), zeros(4, 4, 3, 3)], {},
            "the weight tensor W and X must have one rank, at least 3",
        ),
        (
            "ConvTranspose", [zeros(1, 4, 5), zeros(4, 4, 3)], {"group": 3},
            r"the channels must be a multiple of group=3, got 4 in W\[4, 4, 3\]",
        ),
        (
            "ConvTranspose", [zeros(1, 4, 5), zeros(4, 4, 3)], {"output_padding": [1, 1]},
            r"output_padding must have one entry ≥ 0 per spatial axis \(1\), got \[1, 1\]",
        ),
        (
            "ConvTranspose", [zeros(1, 4, 5), zeros(4, 4, 3)], {"output_shape": [-1]},
            r"output_shape must have one entry ≥ 0 per spatial axis \(1\), got \[-1\]",
        ),
        (
            "ConvTranspose", [zeros(1, 4, 1), zeros(4, 4, 1)], {"pads": [1, 1]},
            r"padding \[1\] and \[1\] must leave an output, got extent \[-1\]",
        ),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_named(
    name: str, inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op(name, inputs, attributes)
    with pytest.raises(ShapeError, match=message):
        infer_op(name, [tensor(FLOAT32, x.shape) for x in inputs], attributes)


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_lowered_convolutions_equal_their_kernels(name: str, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    for _ in range(8):
        inputs, attributes = random_case(rng, transposed=name == "ConvTranspose")
        narrow = [value.astype(dtype) for value in inputs]
        step = max(F32_SUM, float(ml_dtypes.finfo(dtype).eps))
        check_lowering(name, narrow, attributes, rtol=step, atol=F32_SUM)


def test_a_depthwise_convolution_may_have_no_filters() -> None:
    filters = np.zeros((0, 1, 2), np.float32)
    [y] = run_op("Conv", [np.ones((2, 3, 4), np.float32), filters], {"group": 3})
    assert y.shape == (2, 0, 3)
