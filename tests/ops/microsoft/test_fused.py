from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import NotSupported
from tests.ops.harness import run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(6)


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("name", ["FusedMatMul", "TransposeMatMul"])
@pytest.mark.parametrize("flags", range(4))
def test_factors_are_transposed_and_the_product_scaled(name: str, flags: int) -> None:
    a = normal(2, 4, 3) if flags & 1 else normal(2, 3, 4)
    b = normal(5, 4) if flags & 2 else normal(4, 5)
    agree(name, [a, b], {"transA": flags & 1, "transB": flags >> 1, "alpha": 0.5})


@pytest.mark.parametrize("trans", [0, 1])
def test_the_first_axis_may_be_that_of_rows_with_batches_behind(trans: int) -> None:
    a = normal(4, 2, 6, 3) if trans else normal(3, 2, 6, 4)
    b = normal(5, 2, 6, 4) if trans else normal(4, 2, 6, 5)
    flags = {"transBatchA": 1, "transBatchB": 1, "transA": trans, "transB": trans}
    agree("FusedMatMul", [a, b], flags)


def test_vectors_are_not_transposed() -> None:
    agree("FusedMatMul", [normal(4), normal(4, 5)], {"transA": 1})


@pytest.mark.parametrize(
    ("activation", "more"),
    [
        ("Relu", {}),
        ("LeakyRelu", {"activation_alpha": 0.25}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("Elu", {"activation_alpha": 0.5}),
        ("Softplus", {}),
        ("Softsign", {}),
        ("HardSigmoid", {"activation_alpha": 0.3, "activation_beta": 0.4}),
    ],
)
def test_gemm_is_followed_by_its_activation(activation: str, more: dict[str, float]) -> None:
    flags = {"alpha": 0.5, "beta": 2.0, "transB": 1}
    inputs = [normal(3, 4), normal(5, 4), normal(5)]
    agree("FusedGemm", inputs, {"activation": activation, **flags, **more})


@pytest.mark.parametrize(
    ("activation", "parameters"),
    [("Relu", []), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.75]), ("HardSigmoid", [0.2, 0.5])],
)
@pytest.mark.parametrize("has_addend", [False, True])
def test_conv_is_followed_by_a_sum_and_its_activation(
    activation: str, parameters: list[float], has_addend: bool
) -> None:
    inputs = [normal(1, 4, 6, 5), normal(6, 2, 3, 3), normal(6)]
    window: dict[str, Any] = {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 1]}
    if parameters:
        window["activation_params"] = parameters
    if has_addend:
        inputs.append(normal(1, 6, 3, 5))
    agree("FusedConv", inputs, {"activation": activation, **window}, rtol=1e-4)


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(NotSupported, match=r"activation must be one of Clip, .*got Sine"):
        run_op("FusedGemm", [normal(1, 1)] * 2, {"activation": "Sine"}, domain=DOMAIN, opset=1)
