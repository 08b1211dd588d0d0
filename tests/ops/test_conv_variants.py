from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from fornix.dtype import FLOAT32, INT64
from fornix.errors import NotSupported, ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import as_value, tensor
from tests.ops.harness import check_lowering, check_node, infer_op, peer, run_op

F32_SUM = 1e-5
"""Products of up to 100 terms of size 1, summed in another order."""

N, C, L = symbol("N"), symbol("C"), symbol("L")


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("groups", [(1, 1), (2, 1), (1, 2), (2, 4)])
def test_deform_conv_agrees_with_onnxruntime(groups: tuple[int, int]) -> None:
    group, offset_group = groups
    x, w = normal(2, 4, 6, 7), normal(4, 4 // group, 3, 2)
    attributes = {
        "group": group,
        "offset_group": offset_group,
        "pads": [1, 0, 1, 1],
        "strides": [1, 2],
        "dilations": [2, 1],
    }
    offset = normal(2, offset_group * 12, 4, 4) * 2
    inputs = [x, w, offset, normal(4), normal(2, offset_group * 6, 4, 4)]
    for count in (3, 4, 5):
        expected = peer("DeformConv", inputs[:count], attributes, opset=22)
        check_node(
            "DeformConv", inputs[:count], attributes, expected=expected, rtol=F32_SUM, atol=F32_SUM
        )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("size", [(5,), (5, 4), (4, 3, 5)])
def test_deform_conv_without_offset_is_conv(size: tuple[int, ...], dtype: Any) -> None:
    rank = len(size)
    x, w = normal(1, 2, *size, dtype=dtype), normal(3, 2, *[2] * rank, dtype=dtype)
    attributes = {"pads": [1] * rank + [0] * rank, "strides": [2] + [1] * (rank - 1)}
    expected = run_op("Conv", [x, w], attributes)
    offset = np.zeros((1, rank * 2**rank, *expected[0].shape[2:]), dtype)
    step = float(ml_dtypes.finfo(dtype).eps)
    check_node("DeformConv", [x, w, offset], attributes, expected=expected, rtol=step, atol=step)


def test_deform_conv_moves_its_taps_by_whole_elements() -> None:
    x = np.arange(6, dtype=np.float32).reshape(1, 1, 6)
    w = np.ones((1, 1, 1), np.float32)
    offset = np.array([[[1, 0.5, -9, 0, np.nan, -5]]], np.float32)
    wanted = np.array([[[1, 1.5, 0, 3, 0, 0]]], np.float32)
    check_node("DeformConv", [x, w, offset], expected=[wanted])


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 1]},
        {"pads": [1, 0, 1, 0], "dilations": [2, 1]},
        {"pads": [0, 2, 0, 2], "strides": [3, 2]},
    ],
)
def test_col2im_agrees_with_torch(attributes: dict[str, list[int]]) -> None:
    image, block = (7, 6), (2, 3)
    stride, dilation = (attributes.get(name, [1, 1]) for name in ("strides", "dilations"))
    padding = attributes.get("pads", [0] * 4)[:2]
    unfolded = torch.nn.functional.unfold(
        torch.zeros(1, 1, *image), block, dilation, padding, stride
    )
    x = normal(2, 3 * 6, unfolded.shape[2])
    wanted = torch.nn.functional.fold(
        torch.from_numpy(x), image, block, dilation, padding, stride
    ).numpy()
    sizes = [np.array(image), np.array(block)]
    check_node("Col2Im", [x, *sizes], attributes, expected=[wanted], rtol=F32_SUM, atol=F32_SUM)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint64, np.float16, ml_dtypes.bfloat16, np.complex64, np.bool_]
)
def test_col2im_adds_in_every_dtype(dtype: Any) -> None:
    x = np.ones((1, 2, 3), dtype)
    wanted = np.array([[[1, 2, 2, 1]]]).astype(dtype)
    check_node("Col2Im", [x, np.array([4]), np.array([2])], expected=[wanted])


def test_col2im_infers_channels_and_the_image() -> None:
    x = tensor(FLOAT32, (N, 6 * C, L))
    image, block = tensor(INT64, (2,), as_value([7, 5])), tensor(INT64, (2,), as_value([2, 3]))
    assert infer_op("Col2Im", [x, image, block])[0].shape == (N, C, 7, 5)
    open_block = infer_op("Col2Im", [x, image, tensor(INT64, (2,))])[0].shape
    assert open_block[2:] == (7, 5)
    assert infer_op("Col2Im", [x, tensor(INT64, (2,)), block])[0].rank == 4
    assert not infer_op("Col2Im", [x, tensor(INT64, (N,)), tensor(INT64, (N,))])[0].has_rank


def causal_reference(x: Any, w: Any, bias: Any, past: Any, activation: str) -> list[Any]:
    sequence = torch.cat([torch.from_numpy(past), torch.from_numpy(x)], 2)
    y = torch.nn.functional.conv1d(
        sequence, torch.from_numpy(w), torch.from_numpy(bias), groups=x.shape[1]
    )
    if activation != "none":
        y = torch.nn.functional.silu(y)
    return [y.numpy(), sequence[:, :, sequence.shape[2] - past.shape[2] :].numpy()]


@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("activation", ["none", "silu", "swish"])
def test_causal_conv_agrees_with_torch(length: int, activation: str) -> None:
    x, w, bias, past = normal(2, 3, length), normal(3, 1, 4), normal(3), normal(2, 3, 3)
    attributes = {"activation": activation}
    expected = causal_reference(x, w, bias, past, activation)
    check_node(
        "CausalConvWithState", [x, w, bias, past], attributes, expected=expected, rtol=F32_SUM,
        atol=F32_SUM,
    )  # fmt: skip
    expected = causal_reference(x, w, 0 * bias, 0 * past, activation)
    check_node(
        "CausalConvWithState", [x, w], attributes, expected=expected, rtol=F32_SUM, atol=F32_SUM
    )


def test_causal_conv_in_steps_equals_one_in_a_whole() -> None:
    x, w = normal(1, 2, 6), normal(2, 1, 3)
    whole = run_op("CausalConvWithState", [x, w], outputs=2)
    state: Any = None
    steps = []
    for step in range(6):
        inputs = [x[:, :, step : step + 1], w, None, state]
        y, state = run_op("CausalConvWithState", inputs, outputs=2)
        steps.append(y)
    np.testing.assert_allclose(np.concatenate(steps, 2), whole[0], rtol=1e-6)
    np.testing.assert_array_equal(state, whole[1])


def test_causal_conv_of_nothing_keeps_its_state() -> None:
    past = normal(1, 2, 3)
    inputs = [np.empty((1, 2, 0), np.float32), normal(2, 1, 4), None, past]
    check_node("CausalConvWithState", inputs, expected=[inputs[0], past])


def test_causal_conv_infers_its_state() -> None:
    x, w = tensor(FLOAT32, (N, 8, L)), tensor(FLOAT32, (8, 1, 4))
    facts = infer_op("CausalConvWithState", [x, w], outputs=2)
    assert [fact.shape for fact in facts] == [(N, 8, L), (N, 8, 3)]


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("DeformConv", [zeros(1, 2, 3, 3), zeros(2, 2, 2, 2), zeros(1, 8, 2, 3)], {},
         r"offset must be \[1, 8, 2, 2\], got offset\[1, 8, 2, 3\]"),
        ("DeformConv",
         [zeros(1, 2, 3, 3), zeros(2, 2, 2, 2), zeros(1, 8, 2, 2), zeros(2), zeros(1, 8, 2, 2)], {},
         r"mask must be \[1, 4, 2, 2\], got mask\[1, 8, 2, 2\]"),
        ("DeformConv", [zeros(1, 2, 3, 3), zeros(2, 2, 2, 2), zeros(1, 8, 2, 2)],
         {"offset_group": 3},
         r"the channels of X\[1, 2, 3, 3\] must be a multiple of offset_group=3"),
        ("Col2Im", [zeros(2, 3), np.array([3]), np.array([1])], {},
         r"input must be \[N, C · taps, blocks\], got input\[2, 3\]"),
        ("Col2Im", [zeros(1, 3, 3), np.array([4]), np.array([2])], {},
         "the columns must be a multiple of the block's 2 elements, got 3"),
        ("Col2Im", [zeros(1, 4, 4), np.array([4]), np.array([2])], {},
         r"an image of \[4\] has 3 blocks, but the input has 4"),
        ("CausalConvWithState", [zeros(1, 2), zeros(2, 1, 3)], {},
         r"input must be \[batch, channels, length\], got input\[1, 2\]"),
        ("CausalConvWithState", [zeros(1, 2, 5), zeros(2, 2, 3)], {},
         r"weight must be \[2, 1, taps\], got weight\[2, 2, 3\]"),
        ("CausalConvWithState", [zeros(1, 2, 5), zeros(2, 1, 0)], {},
         r"weight must have taps, got weight\[2, 1, 0\]"),
        ("CausalConvWithState", [zeros(1, 2, 5), zeros(2, 1, 3), zeros(2), zeros(1, 2, 3)], {},
         r"past_state must be \[1, 2, 2\], got past_state\[1, 2, 3\]"),
        ("CausalConvWithState", [zeros(1, 2, 5), zeros(2, 1, 3)], {"activation": "relu"},
         "activation must be one of none, silu, swish, got 'relu'"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_named(
    name: str, inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    outputs = 2 if name == "CausalConvWithState" else 1
    with pytest.raises(ShapeError, match=message):
        run_op(name, inputs, attributes, outputs=outputs)
    facts = [
        tensor(FLOAT32, x.shape)
        if x.dtype == np.float32
        else tensor(INT64, x.shape, as_value(x.tolist()))
        for x in inputs
    ]
    with pytest.raises(ShapeError, match=message):
        infer_op(name, facts, attributes, outputs=outputs)


def test_strings_have_no_sum() -> None:
    x = np.full((1, 1, 1), "a", object)
    with pytest.raises(NotSupported, match="blocks of strings have no sum"):
        run_op("Col2Im", [x, np.array([1]), np.array([1])])


@pytest.mark.parametrize("groups", [(1, 1), (2, 1), (1, 2), (2, 4)])
def test_deform_conv_is_lowered(groups: tuple[int, int]) -> None:
    group, offset_group = groups
    x, w = normal(2, 4, 6, 7), normal(4, 4 // group, 3, 2)
    attributes = {
        "group": group, "offset_group": offset_group, "pads": [1, 0, 0, 1], "strides": [2, 1]
    }  # fmt: skip
    offset = normal(2, offset_group * 12, 3, 7) * 3
    mask, bias = normal(2, offset_group * 6, 3, 7), normal(4)
    for more in ([], [bias], [None, mask], [bias, mask]):
        check_lowering("DeformConv", [x, w, offset, *more], attributes, symbolic=False)


@pytest.mark.parametrize("groups", [(1, 1), (1, 2), (4, 2), (2, 4), (16, 1)])
def test_deform_conv_of_many_channels_is_lowered(groups: tuple[int, int]) -> None:
    group, offset_group = groups
    x, w = normal(1, 16, 3, 3), normal(16, 16 // group, 2, 1)
    offset, mask = normal(1, offset_group * 4, 2, 3) * 2, normal(1, offset_group * 2, 2, 3)
    attributes = {"group": group, "offset_group": offset_group}
    for more in ([], [normal(16), mask]):
        check_lowering("DeformConv", [x, w, offset, *more], attributes, symbolic=False)


@pytest.mark.parametrize("channels", [1, 8])
def test_places_that_are_no_numbers_count_as_outside_when_lowered(channels: int) -> None:
    offset = np.full((1, 2, 3), np.nan, np.float32)[:, :1]
    offset[0, 0, :2] = np.inf, -np.inf
    x, w = normal(1, channels, 3), normal(1, channels, 1)
    check_lowering("DeformConv", [x, w, offset], {}, symbolic=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32])
def test_col2im_is_lowered(dtype: Any) -> None:
    attributes = {"pads": [1, 0, 1, 1], "strides": [2, 1], "dilations": [1, 2]}
    image, block = np.array([5, 6]), np.array([2, 3])
    blocks = np.asarray(normal(2, 18, 9) * 9).astype(dtype)
    check_lowering("Col2Im", [blocks, image, block], attributes)
    check_lowering("Col2Im", [normal(1, 5, 5), np.array([5, 5]), np.array([1, 5])])


@pytest.mark.parametrize("activation", ["none", "silu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("length", [1, 6])
def test_causal_conv_is_lowered(activation: str, dtype: Any, length: int) -> None:
    x, w, bias = normal(2, 3, length), normal(3, 1, 4), normal(3)
    past = normal(2, 3, 3)
    for more in ([], [bias], [None, past], [bias, past]):
        inputs = [None if v is None else v.astype(dtype) for v in (x, w, *more)]
        check_lowering(
            "CausalConvWithState", inputs, {"activation": activation}, outputs=2, symbolic=False
        )
