from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from fornix.errors import ShapeError
from tests.ops.harness import check_lowering, check_node, fact_of, infer_op, run_op

RANDOM = np.random.default_rng(11)
X = np.concatenate([RANDOM.standard_normal(40) * 4, [0.0, 100.0, -100.0]]).reshape(1, -1)
F32 = 1e-6  # a few steps of float32, exp included

TORCH: dict[str, tuple[dict[str, Any], Any]] = {
    "Relu": ({}, functional.relu),
    "LeakyRelu": ({"alpha": 0.1}, lambda x: functional.leaky_relu(x, 0.1)),
    "ThresholdedRelu": ({"alpha": 0.7}, lambda x: functional.threshold(x, 0.7, 0.0)),
    "Elu": ({"alpha": 0.5}, lambda x: functional.elu(x, 0.5)),
    "Celu": ({"alpha": 2.0}, lambda x: functional.celu(x, 2.0)),
    "Selu": ({}, functional.selu),
    "Sigmoid": ({}, torch.sigmoid),
    "HardSwish": ({}, functional.hardswish),
    "HardSigmoid": ({"alpha": 1 / 6}, functional.hardsigmoid),
    "Mish": ({}, functional.mish),
    "Gelu": ({}, functional.gelu),
    "Softplus": ({}, functional.softplus),
    "Softsign": ({}, functional.softsign),
    "Tanh": ({}, torch.tanh),
    "Swish": ({}, functional.silu),
}


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_equal_torch(name: str, dtype: Any) -> None:
    attributes, function = TORCH[name]
    x = X.astype(dtype)
    wanted = function(torch.from_numpy(x)).numpy()
    # attributes are float32, whatever the dtype of the data
    check_node(name, [x], attributes, expected=[wanted], rtol=2e-6, atol=F32)


@pytest.mark.parametrize("name", TORCH)
def test_half_precision_is_rounded_once(name: str) -> None:
    attributes, function = TORCH[name]
    x = X.astype(np.float16)
    wanted = function(torch.from_numpy(x.astype(np.float32))).numpy().astype(np.float16)
    check_node(name, [x], attributes, expected=[wanted], rtol=2.0**-10, atol=2.0**-14)


def test_gelu_has_a_tanh_form() -> None:
    x = X.astype(np.float32)
    wanted = functional.gelu(torch.from_numpy(x), approximate="tanh").numpy()
    check_node("Gelu", [x], {"approximate": "tanh"}, expected=[wanted], rtol=F32, atol=F32)


def test_gelu_refuses_another_form() -> None:
    with pytest.raises(ShapeError, match="approximate must be none or tanh, got 'erf'"):
        run_op("Gelu", [X], {"approximate": "erf"})


def test_swiglu_gates_the_value() -> None:
    a, b = X.astype(np.float32), X[:, ::-1].astype(np.float32)
    wanted = functional.silu(torch.from_numpy(a)).numpy() * b
    check_node("SwiGLU", [a, b], expected=[wanted], rtol=F32, atol=F32)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8])
def test_shrink_moves_towards_zero(dtype: Any) -> None:
    x = np.array([0, 1, 2, 3, 9], dtype)
    attributes = {"lambd": 1.5, "bias": 1.5}
    wanted = np.where(x > 1.5, x.astype(np.float32) - 1.5, 0).astype(dtype)
    check_node("Shrink", [x], attributes, expected=[wanted])


@pytest.mark.parametrize("shape", [(), (1,), (3, 1), (2, 3, 4)])
def test_prelu_slopes_broadcast(shape: tuple[int, ...]) -> None:
    x = RANDOM.standard_normal((2, 3, 4)).astype(np.float32)
    slope = RANDOM.random(shape).astype(np.float32)
    check_node("PRelu", [x, slope], opset=16, expected=[np.where(x < 0, x * slope, x)])


@pytest.mark.parametrize("count", [1, 3])
def test_prelu_before_7_has_a_slope_per_channel(count: int) -> None:
    x = RANDOM.standard_normal((2, 3, 4)).astype(np.float32)
    slope = RANDOM.random(count).astype(np.float32)
    wanted = torch.prelu(torch.from_numpy(x), torch.from_numpy(slope)).numpy()
    check_node("PRelu", [x, slope], opset=6, expected=[wanted])
    check_lowering("PRelu", [x, slope], opset=6, symbolic=False)
    with pytest.raises(ShapeError, match="one per channel of X"):
        run_op("PRelu", [x, np.ones(2, np.float32)], opset=6)
    with pytest.raises(ShapeError, match="slope must have 1 element or one per channel"):
        infer_op("PRelu", [fact_of(x), fact_of(np.ones(2, np.float32))], opset=6)


def test_softplus_keeps_its_precision_where_it_vanishes() -> None:
    x = np.array([-700.0, -50, -20, -3, -1e-9, 0, 3, 700, np.inf, -np.inf])
    check_node("Softplus", [x], expected=[np.logaddexp(0, x)], rtol=1e-15, atol=0)
    check_lowering("Softplus", [x], rtol=1e-15, atol=0)
