from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.ops.grads.harness import Array, Peer, check, random

X = random(3, 4)
Y = random(2, 3, 4)
ALL = ("static", "symbolic", "unknown")

PLAIN: list[tuple[str, Peer, Array]] = [
    ("Relu", torch.relu, X),
    ("Sigmoid", torch.sigmoid, X),
    ("Tanh", torch.tanh, X),
    ("Softplus", functional.softplus, X),
    ("Softsign", functional.softsign, X),
    ("HardSwish", functional.hardswish, X * 3),
    ("Mish", functional.mish, X),
    ("Gelu", functional.gelu, X),
]


@pytest.mark.parametrize(("name", "function", "x"), PLAIN, ids=[name for name, *_ in PLAIN])
def test_an_activation_has_the_slope_of_its_peer(name: str, function: Peer, x: Array) -> None:
    check(name, [x], peer=function, dims=ALL)


SHAPED: list[tuple[str, dict[str, Any], Peer | None]] = [
    ("LeakyRelu", {"alpha": 0.25}, lambda x: functional.leaky_relu(x, 0.25)),
    ("Elu", {"alpha": 0.5}, lambda x: functional.elu(x, 0.5)),
    ("Celu", {"alpha": 0.5}, lambda x: functional.celu(x, 0.5)),
    ("Gelu", {"approximate": "tanh"}, lambda x: functional.gelu(x, approximate="tanh")),
    ("Selu", {}, None),
    ("HardSigmoid", {}, None),
    ("ThresholdedRelu", {"alpha": 0.5}, None),
    ("Swish", {"alpha": 1.5}, None),
    ("Shrink", {"lambd": 0.5, "bias": 0.25}, None),
]


@pytest.mark.parametrize(("name", "attributes", "function"), SHAPED, ids=[n for n, *_ in SHAPED])
def test_attributes_shape_the_slope(
    name: str, attributes: dict[str, Any], function: Peer | None
) -> None:
    check(name, [X], attributes, peer=function, dims=ALL)


@pytest.mark.parametrize(("name", "function"), [("Relu", torch.relu), ("Elu", functional.elu)])
def test_at_the_corner_the_slope_is_that_of_the_peer(name: str, function: Peer) -> None:
    check(name, [np.array([0.0, 1.0, -1.0])], peer=function, differences=False)


def test_large_arguments_give_no_infinities() -> None:
    x = np.array([800.0, -800.0])
    for name, function in (("Elu", functional.elu), ("Softplus", functional.softplus)):
        check(name, [x], peer=function, differences=False)


def test_prelu_differentiates_by_its_slopes() -> None:
    check("PRelu", [X, random(4, seed=3)], dims=ALL)


def test_swiglu_differentiates_by_gate_and_value() -> None:
    check("SwiGLU", [X, random(3, 4, seed=2)], {"alpha": 1.5}, dims=ALL)


@pytest.mark.parametrize(
    ("name", "function"), [("Softmax", functional.softmax), ("LogSoftmax", functional.log_softmax)]
)
def test_softmax_along_an_axis(name: str, function: Peer) -> None:
    check(name, [Y], {"axis": 1}, peer=lambda x: function(x, 1))
    check(name, [Y], peer=lambda x: function(x, -1))


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_before_opset_13_softmax_normalizes_all_axes_from_the_first_on(name: str) -> None:
    function = functional.softmax if name == "Softmax" else functional.log_softmax

    def rows(x: torch.Tensor) -> torch.Tensor:
        return function(x.reshape(2, 12), 1).reshape(2, 3, 4)

    check(name, [Y], {"axis": 1}, peer=rows, opset=12, dims=("static",))


def test_hardmax_is_flat() -> None:
    check("Hardmax", [X])
