from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from fornix.dtype import BOOL, FLOAT16, FLOAT32
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.call import NotLowered
from fornix.ops.fact import tensor, unranked
from tests.ops.harness import check_lowering, check_node, infer_op, lower_op, peer, run_op

F32_ROWS = 1e-5
"""Statistics of up to 40 elements, summed in another order, folded into a factor and a shift."""

N, S = symbol("N"), symbol("S")


def batch(*shape: int) -> list[Any]:
    rng = np.random.default_rng(0)
    scale, bias, mean = (rng.standard_normal(shape[1]).astype(np.float32) for _ in range(3))
    var = rng.uniform(0.5, 2, shape[1]).astype(np.float32)
    return [rng.standard_normal(shape).astype(np.float32), scale, bias, mean, var]


def torch_norm(inputs: list[Any], *, training: bool, momentum: float = 0.9) -> list[Any]:
    """Y, running mean and running variance (of the population) as torch computes them."""
    x, scale, bias, mean, var = (torch.from_numpy(value.copy()) for value in inputs)
    y = torch.nn.functional.batch_norm(
        x, mean, var, scale, bias, training=training, momentum=1 - momentum, eps=1e-5
    )
    count = x.numel() / x.shape[1]
    given = torch.from_numpy(inputs[4])
    if training:  # torch keeps the sample's variance, the standard the population's
        var = given * momentum + (var - given * momentum) * (count - 1) / count
    return [y.numpy(), mean.numpy(), var.numpy()]


@pytest.mark.parametrize("opset", [1, 6, 7, 9, 14, 15])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 2, 2)])
def test_inference_uses_the_given_statistics(opset: int, shape: tuple[int, ...]) -> None:
    inputs = batch(*shape)
    attributes: dict[str, Any] = {"is_test": 1} if opset < 7 else {}
    if opset == 1:
        attributes["consumed_inputs"] = [0] * 5
    expected = torch_norm(inputs, training=False)[:1]
    check_node(
        "BatchNormalization", inputs, attributes, opset=opset, expected=expected, rtol=F32_ROWS,
        atol=F32_ROWS,
    )  # fmt: skip


def test_one_output_means_inference_until_13() -> None:
    inputs = batch(2, 3, 4)
    expected = torch_norm(inputs, training=False)[:1]
    for opset in (6, 7, 9):
        check_node(
            "BatchNormalization", inputs, opset=opset, expected=expected, rtol=F32_ROWS,
            atol=F32_ROWS,
        )  # fmt: skip


@pytest.mark.parametrize("opset", [6, 7, 9])
def test_five_outputs_mean_training_until_13(opset: int) -> None:
    inputs = batch(4, 3, 5)
    x = inputs[0].astype(np.float64)
    own = [x.mean((0, 2)).astype(np.float32), x.var((0, 2)).astype(np.float32)]
    expected = [*torch_norm(inputs, training=True, momentum=0.7), *own]
    check_node(
        "BatchNormalization", inputs, {"momentum": 0.7}, opset=opset, expected=expected,
        rtol=F32_ROWS, atol=F32_ROWS,
    )  # fmt: skip


@pytest.mark.parametrize("opset", [14, 15])
def test_training_mode_returns_running_statistics(opset: int) -> None:
    inputs = batch(4, 3, 5, 2)
    expected = torch_norm(inputs, training=True, momentum=0.6)
    attributes = {"training_mode": 1, "momentum": 0.6}
    check_node(
        "BatchNormalization", inputs, attributes, opset=opset, expected=expected, rtol=F32_ROWS,
        atol=F32_ROWS,
    )  # fmt: skip


def test_spatial_0_keeps_statistics_for_each_place() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3, 5)).astype(np.float32)
    scale, bias, mean = (rng.standard_normal((3, 5)).astype(np.float32) for _ in range(3))
    inputs = [x, scale, bias, mean, rng.uniform(0.5, 2, (3, 5)).astype(np.float32)]
    flat = [x.reshape(4, 15), *(value.reshape(15) for value in inputs[1:])]
    for opset in (6, 7):
        for outputs in (1, 3):
            wanted = torch_norm(flat, training=outputs > 1)[:outputs]
            shaped = [wanted[0].reshape(x.shape), *(v.reshape(3, 5) for v in wanted[1:])]
            check_node(
                "BatchNormalization", inputs, {"spatial": 0}, opset=opset, expected=shaped,
                rtol=F32_ROWS, atol=F32_ROWS,
            )  # fmt: skip


def test_a_vector_is_one_channel() -> None:
    x = np.array([1, 2, 4], np.float32)
    one = np.ones(1, np.float32)
    inputs = [x, 2 * one, 3 * one, one, 4 * one]
    wanted = (2 * (x - 1) / np.sqrt(4 + 1e-5) + 3).astype(np.float32)
    check_node("BatchNormalization", inputs, expected=[wanted], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_are_computed_in_float32_with_statistics_of_their_own_type(
    dtype: Any,
) -> None:
    inputs = batch(2, 3, 4)
    narrow = [inputs[0].astype(dtype), inputs[1].astype(dtype), inputs[2].astype(dtype)]
    wide = [value.astype(np.float32) for value in narrow]
    expected = torch_norm([*wide, *inputs[3:]], training=True)
    expected[0] = expected[0].astype(dtype)
    check_node(
        "BatchNormalization", [*narrow, *inputs[3:]], {"training_mode": 1}, opset=15,
        expected=expected, rtol=float(ml_dtypes.finfo(dtype).eps), atol=1e-4,
    )  # fmt: skip


def test_batch_normalization_infers_statistics() -> None:
    x, c = tensor(FLOAT16, (N, 3, S)), tensor(FLOAT16, (3,))
    running = tensor(FLOAT32, (3,))
    facts = infer_op(
        "BatchNormalization", [x, c, c, running, running], {"training_mode": 1}, outputs=3
    )
    assert [fact.dtype for fact in facts] == [FLOAT16, FLOAT32, FLOAT32]
    assert [fact.shape for fact in facts] == [(N, 3, S), (3,), (3,)]
    facts = infer_op("BatchNormalization", [x, c, c, c, c], opset=9, outputs=5)
    assert [fact.dtype for fact in facts] == [FLOAT16] * 5


@pytest.mark.parametrize(
    ("shape", "channels", "opset", "attributes", "message"),
    [
        ((2, 3, 4), (4,), 15, {}, r"scale must have the shape \[3\] for X\[2, 3, 4\], got scale"),
        ((2, 3, 4), (3,), 7, {"spatial": 0}, r"scale must have the shape \[3, 4\] for X\[2, 3, 4"),
        ((), (1,), 15, {}, "X must have rank 1 or more, found a scalar"),
    ],
)
def test_shapes_that_do_not_fit_are_named(
    shape: tuple[int, ...],
    channels: tuple[int, ...],
    opset: int,
    attributes: dict[str, Any],
    message: str,
) -> None:
    inputs = [np.zeros(shape, np.float32), *[np.ones(channels, np.float32)] * 4]
    with pytest.raises(ShapeError, match=message):
        run_op("BatchNormalization", inputs, attributes, opset=opset)
    facts = [tensor(FLOAT32, x.shape) for x in inputs]
    with pytest.raises(ShapeError, match=message):
        infer_op("BatchNormalization", facts, attributes, opset=opset)


DATA = np.random.default_rng(0).standard_normal((50, 40)).astype(np.float32)


def check_dropped(output: Any, mask: Any, ratio: float) -> None:
    """The part that is dropped, and the scale of the rest."""
    assert mask.mean() == pytest.approx(1 - ratio, abs=0.05)
    np.testing.assert_allclose(output, np.where(mask, DATA / (1 - ratio), 0), rtol=1e-6)


@pytest.mark.parametrize("opset", [1, 6])
def test_dropout_trains_before_7_unless_is_test(opset: int) -> None:
    output, mask = run_op("Dropout", [DATA], {"ratio": 0.25}, opset=opset, outputs=2)
    assert mask.dtype == np.float32
    check_dropped(output, mask, 0.25)
    check_node("Dropout", [DATA], {"is_test": 1}, opset=opset, expected=[DATA, np.ones_like(DATA)])


def test_dropout_7_and_10_are_for_inference() -> None:
    check_node("Dropout", [DATA], opset=7, expected=[DATA, np.ones_like(DATA)])
    check_node("Dropout", [DATA], opset=10, expected=[DATA, np.ones(DATA.shape, np.bool_)])


def test_dropout_trains_when_it_is_told_to() -> None:
    ratio, on, off = np.asarray(0.75, np.float32), np.asarray(True), np.asarray(False)
    output, mask = run_op("Dropout", [DATA, ratio, on], outputs=2)
    check_dropped(output, mask, 0.75)
    kept = np.ones(DATA.shape, np.bool_)
    for inputs in ([DATA], [DATA, ratio], [DATA, ratio, off], [DATA, 0 * ratio, on]):
        check_node("Dropout", inputs, expected=[DATA, kept])
    output, mask = run_op("Dropout", [DATA, None, on], outputs=2)
    check_dropped(output, mask, 0.5)


def test_a_seed_makes_dropout_reproducible() -> None:
    ratio, on = np.asarray(0.5, np.float32), np.asarray(True)
    kept = np.random.RandomState(7).uniform(0, 1, DATA.shape) >= 0.5
    expected = [np.where(kept, DATA * 2, 0).astype(np.float32), kept]
    check_node("Dropout", [DATA, ratio, on], {"seed": 7}, expected=expected)


def test_dropout_of_float8_keeps_its_type() -> None:
    data = np.ones((4, 4), ml_dtypes.float8_e4m3fn)
    ratio, on = np.asarray(0.5, np.float32), np.asarray(True)
    output, mask = run_op("Dropout", [data, ratio, on], outputs=2)
    np.testing.assert_array_equal(output, np.where(mask, 2, 0).astype(data.dtype))
    assert output.dtype == data.dtype


def test_the_mask_of_dropout_is_boolean_from_10_on() -> None:
    for opset, dtype in ((7, FLOAT32), (10, BOOL), (22, BOOL)):
        facts = infer_op("Dropout", [tensor(FLOAT32, (N, 3))], opset=opset, outputs=2)
        assert [fact.dtype for fact in facts] == [FLOAT32, dtype]
        assert [fact.shape for fact in facts] == [(N, 3)] * 2


def test_dropout_names_what_is_wrong() -> None:
    on = np.asarray(True)
    with pytest.raises(ShapeError, match=r"ratio must be in \[0, 1\), got 1"):
        run_op("Dropout", [DATA, np.asarray(1, np.float32), on])
    with pytest.raises(ShapeError, match=r"ratio must have one element, found shape \[2\]"):
        infer_op("Dropout", [tensor(FLOAT32, (3,)), tensor(FLOAT32, (2,))])


def test_dropout_in_inference_agrees_with_onnxruntime() -> None:
    check_node("Dropout", [DATA], opset=13, expected=peer("Dropout", [DATA], opset=13, outputs=2))


@pytest.mark.parametrize("opset", [7, 9, 15])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4, 5)])
def test_lowered_inference_equals_its_kernel(opset: int, shape: tuple[int, ...]) -> None:
    check_lowering(
        "BatchNormalization", batch(*shape), opset=opset, rtol=F32_ROWS, atol=F32_ROWS,
    )  # fmt: skip


def test_lowered_inference_keeps_a_scale_for_each_place() -> None:
    rng = np.random.default_rng(0)
    statistics = [rng.uniform(0.5, 2, (3, 4)).astype(np.float32) for _ in range(4)]
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    check_lowering(
        "BatchNormalization", [x, *statistics], {"spatial": 0}, opset=7, rtol=F32_ROWS,
        atol=F32_ROWS,
    )  # fmt: skip


@pytest.mark.parametrize("opset", [7, 15])
def test_lowered_training_equals_its_kernel(opset: int) -> None:
    attributes = {"training_mode": 1} if opset == 15 else {}
    for shape in ((4, 3), (2, 3, 4, 5)):
        check_lowering(
            "BatchNormalization", batch(*shape), attributes, opset=opset,
            outputs=3 if opset == 15 else 5, rtol=F32_ROWS, atol=F32_ROWS,
        )  # fmt: skip


@pytest.mark.parametrize(("index", "name"), [(3, "mean"), (4, "var")])
def test_running_statistics_have_one_number_per_channel_in_training_too(
    index: int, name: str
) -> None:
    inputs = [np.ones((2, 3), np.float32), *[np.ones(3, np.float32)] * 4]
    inputs[index] = np.ones((1, 3), np.float32)
    with pytest.raises(ShapeError, match=f"{name} must have the shape"):
        run_op("BatchNormalization", inputs, {"training_mode": 1}, outputs=3, opset=15)


def test_statistics_in_float32_standardize_doubles_in_double_precision() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3))
    scale, shift = np.ones(3), np.zeros(3)
    mean, var = np.full(3, 0.1, np.float32), np.full(3, 0.3, np.float32)
    epsilon = float(np.float32(1e-5))
    wanted = (x - mean.astype(float)) / np.sqrt(var.astype(float) + epsilon)
    inputs = [x, scale, shift, mean, var]
    check_node("BatchNormalization", inputs, expected=[wanted], opset=15, rtol=1e-14, atol=1e-14)


def test_ratio_and_training_mode_are_single_elements() -> None:
    x = np.ones(3, np.float32)
    one, two = np.array([0.25], np.float32), np.array([0.25, 0.5], np.float32)
    check_node("Dropout", [x, one, np.array([False])], expected=[x], opset=13)
    with pytest.raises(ShapeError, match="ratio must have one element, found shape"):
        run_op("Dropout", [x, two], opset=13)
    with pytest.raises(ShapeError, match="ratio must have one element, found shape"):
        infer_op("Dropout", [tensor(FLOAT32, (3,)), tensor(FLOAT32, (2,))], opset=13)


@pytest.mark.parametrize(
    ("attributes", "opset"),
    [({"is_test": 1}, 1), ({"is_test": 1}, 6), ({}, 7), ({}, 10), ({}, 12), ({}, 22)],
)
def test_dropout_is_lowered_for_inference(attributes: dict[str, Any], opset: int) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    check_lowering("Dropout", [x], attributes, opset=opset, outputs=2)
    if opset >= 12:
        more = [np.array(0.5, np.float32), np.array(False)]
        check_lowering("Dropout", [x, *more], attributes, opset=opset, outputs=2)


def test_dropout_in_training_stays_with_the_kernel() -> None:
    x = np.ones(3, np.float32)
    with pytest.raises(NotLowered, match="random"):
        lower_op("Dropout", [x, None, np.array(True)])
    with pytest.raises(NotLowered, match="random"):
        lower_op("Dropout", [x], opset=6)


def test_statistics_of_several_ranks_contradict_each_other_whatever_they_are_of() -> None:
    one, two = tensor(FLOAT32, (3,)), tensor(FLOAT32, (3, 1))
    with pytest.raises(ShapeError, match="scale, B, mean and var must have one rank, found sev"):
        infer_op("BatchNormalization", [unranked(FLOAT32), one, one, two, one], opset=15)
