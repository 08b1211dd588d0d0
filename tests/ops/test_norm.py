from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from fornix.dtype import BFLOAT16, FLOAT16, FLOAT32
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import tensor
from tests.ops.harness import check_lowering, check_node, infer_op, peer, run_op

F32_ROWS = 2e-6
"""Statistics of up to 60 elements, summed in another order, and one division."""

NARROW = [np.float16, ml_dtypes.bfloat16]

B, S = symbol("B"), symbol("S")


def normal(*shape: int, dtype: Any = np.float32, mean: float = 0.0) -> Any:
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) + mean).astype(dtype)


@pytest.mark.parametrize("axis", [-1, 1, 0, -3])
@pytest.mark.parametrize("has_bias", [True, False])
def test_layer_normalization_agrees_with_onnxruntime(axis: int, *, has_bias: bool) -> None:
    x = normal(2, 3, 10, mean=3)
    scale, bias = normal(*x.shape[axis:]), normal(*x.shape[axis:])
    inputs = [x, scale, bias][: 3 if has_bias else 2]
    expected = peer("LayerNormalization", inputs, {"axis": axis}, opset=17, outputs=3)
    check_node(
        "LayerNormalization", inputs, {"axis": axis}, expected=expected, rtol=F32_ROWS,
        atol=F32_ROWS,
    )  # fmt: skip


def test_layer_normalization_of_large_means_keeps_its_digits() -> None:
    x = normal(4, 64, mean=10_000)
    [y] = run_op("LayerNormalization", [x, np.ones(64, np.float32)])
    wanted = torch.nn.functional.layer_norm(torch.from_numpy(x).double(), (64,)).numpy()
    np.testing.assert_allclose(y, wanted, atol=1e-3)


def test_layer_normalization_of_float64_is_not_narrowed() -> None:
    x, scale = normal(4, 8, dtype=np.float64), normal(8, dtype=np.float64)
    wanted = torch.nn.functional.layer_norm(
        torch.from_numpy(x), (8,), torch.from_numpy(scale)
    ).numpy()
    y, mean, inverse = run_op("LayerNormalization", [x, scale], outputs=3)
    np.testing.assert_allclose(y, wanted, rtol=1e-7)
    assert mean.dtype == inverse.dtype == np.float32


@pytest.mark.parametrize("dtype", NARROW)
def test_normalizations_round_narrow_floats_once(dtype: Any) -> None:
    x, scale, bias = normal(2, 4, 9, dtype=dtype), normal(4, dtype=dtype), normal(4, dtype=dtype)
    row = normal(9, dtype=dtype)
    step = float(ml_dtypes.finfo(dtype).eps)
    for name, inputs, attributes in (
        ("LayerNormalization", [x, row, row], {}),
        ("RMSNormalization", [x, row], {}),
        ("InstanceNormalization", [x, scale, bias], {}),
        ("GroupNormalization", [x, scale, bias], {"num_groups": 2}),
        ("LpNormalization", [x], {}),
        ("LRN", [x], {"size": 3}),
        ("MeanVarianceNormalization", [x], {"axes": [0, 2]}),
    ):
        exact = run_op(name, [value.astype(np.float64) for value in inputs], attributes)
        expected = [exact[0].astype(dtype)]
        check_node(name, inputs, attributes, expected=expected, rtol=step, atol=1e-5)


def test_mean_and_deviation_have_the_stash_type() -> None:
    x = tensor(FLOAT16, (B, S, 8))
    scale = tensor(FLOAT16, (8,))
    y, mean, inverse = infer_op("LayerNormalization", [x, scale], outputs=3)
    assert (y.dtype, mean.dtype, inverse.dtype) == (FLOAT16, FLOAT32, FLOAT32)
    assert y.shape == (B, S, 8)
    assert mean.shape == inverse.shape == (B, S, 1)
    facts = infer_op("LayerNormalization", [x, scale], {"stash_type": 16, "axis": 1}, outputs=2)
    assert facts[1].dtype is BFLOAT16
    assert facts[1].shape == (B, 1, 1)


@pytest.mark.parametrize("axis", [-1, 1])
def test_rms_normalization_agrees_with_torch(axis: int) -> None:
    x, scale = normal(2, 3, 8), normal(*(2, 3, 8)[axis:])
    wanted = torch.nn.functional.rms_norm(
        torch.from_numpy(x), scale.shape, torch.from_numpy(scale), 1e-5
    ).numpy()
    check_node("RMSNormalization", [x, scale], {"axis": axis}, expected=[wanted], rtol=F32_ROWS)


def test_rms_normalization_has_the_type_of_its_scale() -> None:
    x, scale = normal(2, 8, dtype=np.float16), normal(8)
    [y] = run_op("RMSNormalization", [x, scale])
    assert y.dtype == np.float32
    [fact] = infer_op("RMSNormalization", [tensor(FLOAT16, (B, 8)), tensor(FLOAT32, (8,))])
    assert fact.dtype is FLOAT32
    assert fact.shape == (B, 8)


@pytest.mark.parametrize("opset", [1, 6, 22])
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (1, 3, 2, 3, 4)])
def test_instance_normalization_agrees_with_torch(opset: int, shape: tuple[int, ...]) -> None:
    x, scale, bias = normal(*shape, mean=2), normal(3), normal(3)
    tensors = [torch.from_numpy(value) for value in (x, scale, bias)]
    wanted = torch.nn.functional.instance_norm(
        tensors[0], weight=tensors[1], bias=tensors[2], eps=1e-4
    ).numpy()
    check_node(
        "InstanceNormalization", [x, scale, bias], {"epsilon": 1e-4}, opset=opset,
        expected=[wanted], rtol=F32_ROWS, atol=F32_ROWS,
    )  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_normalization_agrees_with_torch(groups: int) -> None:
    x, scale, bias = normal(2, 6, 3, 4), normal(6), normal(6)
    wanted = torch.nn.functional.group_norm(torch.from_numpy(x), groups).numpy()
    attributes = {"num_groups": groups}
    full = wanted * scale.reshape(6, 1, 1) + bias.reshape(6, 1, 1)
    check_node(
        "GroupNormalization", [x, scale, bias], attributes, expected=[full], rtol=F32_ROWS,
        atol=F32_ROWS,
    )  # fmt: skip
    per_group = [x, scale[:groups], bias[:groups]]
    repeated = [np.repeat(value, 6 // groups).reshape(6, 1, 1) for value in per_group[1:]]
    full = wanted * repeated[0] + repeated[1]
    check_node(
        "GroupNormalization", per_group, attributes, opset=18, expected=[full], rtol=F32_ROWS,
        atol=F32_ROWS,
    )  # fmt: skip


@pytest.mark.parametrize("opset", [1, 13])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 9, 2**40])
def test_lrn_sums_over_the_channels_that_the_standard_names(opset: int, size: int) -> None:
    x = normal(2, 5, 3)
    energy = np.zeros(x.shape)
    for c in range(5):
        first, last = max(0, c - (size - 1) // 2), min(4, c + -(-(size - 1) // 2))
        energy[:, c] = (x[:, first : last + 1].astype(np.float64) ** 2).sum(1)
    wanted = (x / (2 + 0.5 / size * energy) ** 0.25).astype(np.float32)
    attributes = {"size": size, "alpha": 0.5, "beta": 0.25, "bias": 2.0}
    check_node("LRN", [x], attributes, opset=opset, expected=[wanted], rtol=F32_ROWS)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_lp_normalization_agrees_with_torch(axis: int, p: int) -> None:
    x = normal(3, 4, 5)
    wanted = torch.nn.functional.normalize(torch.from_numpy(x), p, axis).numpy()
    check_node("LpNormalization", [x], {"axis": axis, "p": p}, expected=[wanted], rtol=F32_ROWS)


def test_lp_normalization_of_zeros_is_zero() -> None:
    x = np.zeros((2, 3), np.float32)
    check_node("LpNormalization", [x], expected=[x])


@pytest.mark.parametrize("opset", [9, 13])
def test_mean_variance_normalization_agrees_with_onnxruntime(opset: int) -> None:
    x = normal(2, 3, 4, 5, mean=1)
    expected = peer("MeanVarianceNormalization", [x], opset=opset)
    check_node(
        "MeanVarianceNormalization", [x], opset=opset, expected=expected, rtol=1e-5, atol=1e-5
    )
    wanted = (x - x.mean((1, 3), keepdims=True)) / x.std((1, 3), keepdims=True)
    check_node(
        "MeanVarianceNormalization", [x], {"axes": [1, -1]}, opset=opset, expected=[wanted],
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("LayerNormalization", [zeros(2, 3), zeros(3)], {"axis": 2},
         r"axis must be in \[-2, 1\] for rank 2, got 2"),
        ("LayerNormalization", [zeros(2, 3), zeros(2)], {},
         r"Scale\[2\] must broadcast to X\[2, 3\]"),
        ("LayerNormalization", [zeros(2, 3), zeros(3), zeros(1, 1, 3)], {},
         r"B\[1, 1, 3\] must broadcast to X\[2, 3\]"),
        ("RMSNormalization", [zeros(2, 3), zeros(2)], {},
         r"scale\[2\] must broadcast to X\[2, 3\]"),
        ("InstanceNormalization", [zeros(2, 3, 4), zeros(2), zeros(3)], {},
         r"scale must have one element per channel of input\[2, 3, 4\], got shape \[2\]"),
        ("InstanceNormalization", [zeros(2), zeros(2), zeros(2)], {},
         r"input must have rank 2 or more, got input\[2\]"),
        ("GroupNormalization", [zeros(2, 4, 4), zeros(4), zeros(3)], {"num_groups": 2},
         r"bias must have one element per channel of X\[2, 4, 4\], got shape \[3\]"),
        ("GroupNormalization", [zeros(2, 4, 4), zeros(4), zeros(4)], {"num_groups": 3},
         r"the channels of X\[2, 4, 4\] must be a multiple of num_groups=3"),
        ("GroupNormalization", [zeros(2), zeros(4), zeros(4)], {"num_groups": 3},
         r"X must have rank 2 or more, got X\[2\]"),
        ("LRN", [zeros(2, 3)], {"size": 0}, "size must be positive, got 0"),
        ("LRN", [zeros(2)], {"size": 1}, r"X must have rank 2 or more, got X\[2\]"),
        ("LpNormalization", [zeros(2, 3)], {"p": 3}, "p must be 1 or 2, got 3"),
        ("MeanVarianceNormalization", [zeros(2, 3)], {"axes": [0, 0]}, "must name each axis once"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_named(
    name: str, inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op(name, inputs, attributes)
    with pytest.raises(ShapeError, match=message):
        infer_op(name, [tensor(FLOAT32, x.shape) for x in inputs], attributes)


def test_scales_per_group_are_checked_before_21() -> None:
    inputs = [zeros(2, 4, 4), zeros(4), zeros(2)]
    message = r"scale must have one element per channel of groups\[2, 2\], got shape \[4\]"
    with pytest.raises(ShapeError, match=message):
        run_op("GroupNormalization", inputs, {"num_groups": 2}, opset=18)
    with pytest.raises(ShapeError, match=message):
        infer_op(
            "GroupNormalization",
            [tensor(FLOAT32, x.shape) for x in inputs],
            {"num_groups": 2},
            opset=18,
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, *NARROW])
@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_lowered_layer_normalization_equals_its_kernel(axis: int, dtype: Any) -> None:
    x = normal(2, 3, 8, dtype=dtype, mean=3)
    scale, bias = normal(8, dtype=dtype), normal(3, 1, dtype=dtype)
    step = max(F32_ROWS, float(ml_dtypes.finfo(dtype).eps))
    for inputs in ([x, scale], [x, scale, bias]) if axis == 0 else ([x, scale],):
        check_lowering(
            "LayerNormalization",
            inputs,
            {"axis": axis},
            outputs=3,
            rtol=step,
            atol=step,
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, *NARROW])
@pytest.mark.parametrize(
    ("name", "shapes", "attributes", "opset"),
    [
        ("RMSNormalization", [(2, 3, 4), (4,)], {}, 28),
        ("RMSNormalization", [(2, 3, 4), (3, 1)], {"axis": 1, "stash_type": 11}, 28),
        ("InstanceNormalization", [(2, 3, 4), (3,), (3,)], {}, 22),
        ("InstanceNormalization", [(2, 3, 4, 5), (3,), (3,)], {"epsilon": 0.5}, 22),
        ("GroupNormalization", [(2, 4, 3, 5), (4,), (4,)], {"num_groups": 2}, 28),
        ("GroupNormalization", [(2, 6, 3), (3,), (3,)], {"num_groups": 3}, 18),
        ("LRN", [(2, 5, 3)], {"size": 3}, 13),
        ("LRN", [(1, 4, 2, 2)], {"size": 4, "alpha": 0.5, "beta": 0.5, "bias": 2.0}, 13),
        ("LpNormalization", [(2, 3, 4)], {"axis": 1, "p": 1}, 28),
        ("LpNormalization", [(2, 3, 4)], {}, 28),
        ("MeanVarianceNormalization", [(2, 3, 4, 5)], {}, 13),
        ("MeanVarianceNormalization", [(2, 3, 4)], {"axes": [0, -1]}, 13),
    ],
)
def test_normalizations_are_lowered(
    name: str, shapes: list[tuple[int, ...]], attributes: dict[str, Any], opset: int, dtype: Any
) -> None:
    inputs = [normal(*shape, dtype=dtype) for shape in shapes]
    check_lowering(name, inputs, attributes, opset=opset)


def test_lp_normalization_of_zeros_is_lowered_to_zeros() -> None:
    check_lowering("LpNormalization", [np.zeros((2, 3), np.float32)])


def test_rms_normalization_of_two_precisions_is_lowered() -> None:
    x, scale = normal(3, 4, dtype=np.float16), normal(4, dtype=np.float64)
    check_lowering("RMSNormalization", [x, scale])
    check_lowering("RMSNormalization", [scale[None], x[0]])
