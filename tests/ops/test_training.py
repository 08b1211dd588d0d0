from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from fornix.dtype import FLOAT32, FLOAT64, INT64
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import tensor
from tests.ops.harness import check_lowering, check_node, fact_of, infer_op, run_op

TRAINING: dict[str, Any] = {"domain": "ai.onnx.preview.training", "opset": 1}
# Attributes are float32: 0.9 is off by 2e-8.
TOLERANCE: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-7}
RATE = np.array(0.125)
SHAPES = ((3,), (2, 4))


def scalar(value: int) -> Any:
    return np.array(value, np.int64)


def steps(optimizer: Any, values: list[torch.Tensor], count: int) -> list[list[Any]]:
    """Gradients that are twice the values, and the values after each of ``count`` steps."""
    trace = []
    for _ in range(count):
        for value in values:
            value.grad = 2 * value.detach()
        optimizer.step()
        trace.append([value.detach().numpy().copy() for value in values])
    return trace


def parameters() -> list[torch.Tensor]:
    stream = np.random.default_rng(0)
    return [torch.tensor(stream.standard_normal(s), requires_grad=True) for s in SHAPES]


def follow(name: str, attributes: dict[str, Any], states: int, trace: list[list[Any]]) -> None:
    """Run ``name`` step by step on the values of `parameters` and compare with ``trace``."""
    xs = [value.detach().numpy() for value in parameters()]
    kept = [np.zeros(x.shape) for _ in range(states) for x in xs]
    for step, expected in enumerate(trace):
        inputs = [RATE, scalar(step), *xs, *[2 * x for x in xs], *kept]
        if name == "Adam":
            inputs[1] = scalar(step + 1)
        results = run_op(name, inputs, attributes, outputs=len(xs) * (states + 1), **TRAINING)
        xs, kept = results[: len(xs)], results[len(xs) :]
        for x, value in zip(xs, expected, strict=True):
            np.testing.assert_allclose(x, value, **TOLERANCE)


@pytest.mark.slow  # torch.optim takes three seconds to import
def test_adagrad_is_torchs() -> None:
    values = parameters()
    optimizer = torch.optim.Adagrad(values, lr=0.125, lr_decay=0.25, eps=1e-6, weight_decay=0.5)
    attributes = {"decay_factor": 0.25, "epsilon": 1e-6, "norm_coefficient": 0.5}
    follow("Adagrad", attributes, 1, steps(optimizer, values, 4))


@pytest.mark.slow  # torch.optim takes three seconds to import
def test_adam_is_torchs_but_for_where_epsilon_stands() -> None:
    values = parameters()
    optimizer = torch.optim.Adam(values, lr=0.125, betas=(0.75, 0.875), eps=0, weight_decay=0.5)
    attributes = {"alpha": 0.75, "beta": 0.875, "epsilon": 0.0, "norm_coefficient": 0.5}
    follow("Adam", attributes, 2, steps(optimizer, values, 4))


@pytest.mark.slow  # torch.optim takes three seconds to import
@pytest.mark.parametrize("mode", ["standard", "nesterov"])
def test_momentum_is_torchs(mode: str) -> None:
    values = parameters()
    optimizer = torch.optim.SGD(
        values,
        lr=0.125,
        momentum=0.75,
        dampening=0.0 if mode == "nesterov" else 0.5,
        weight_decay=0.25,
        nesterov=mode == "nesterov",
    )
    attributes = {
        "alpha": 0.75,
        "beta": 1.0 if mode == "nesterov" else 0.5,
        "mode": mode,
        "norm_coefficient": 0.25,
    }
    follow("Momentum", attributes, 1, steps(optimizer, values, 4))


def test_adam_shrinks_in_the_end_and_corrects_no_bias_at_step_zero() -> None:
    x, g = np.array([1.0, -2.0]), np.array([0.5, 0.25])
    v = 0.25 * g
    h = 0.125 * g**2
    expected = 0.5 * (x - 0.125 * v / (np.sqrt(h) + 0.25))
    attributes = {"alpha": 0.75, "beta": 0.875, "epsilon": 0.25, "norm_coefficient_post": 0.5}
    zeros = np.zeros(2)
    inputs = [RATE, scalar(0), x, g, zeros, zeros]
    check_node("Adam", inputs, attributes, expected=[expected, v, h], rtol=1e-12, **TRAINING)


@pytest.mark.parametrize("name", ["Adagrad", "Adam", "Momentum"])
def test_every_tensor_keeps_its_dtype(name: str) -> None:
    states = 2 if name == "Adam" else 1
    wide, narrow = np.ones(2), np.ones(3, np.float32)
    attributes = {"alpha": 0.5, "beta": 0.5, "mode": "standard", "norm_coefficient": 0.0}
    inputs = [RATE.astype(np.float32), scalar(1), *[wide, narrow] * (states + 2)]
    given = attributes if name == "Momentum" else {}
    found = run_op(name, inputs, given, outputs=2 * (states + 1), **TRAINING)
    assert [x.dtype for x in found] == [np.float64, np.float32] * (states + 1)
    check_node(name, inputs, given, expected=found, **TRAINING)


def test_optimizers_infer_the_types_of_their_tensors() -> None:
    n = symbol("N")
    a, b = tensor(FLOAT32, (n,)), tensor(FLOAT64, (2, n))
    inputs = [tensor(FLOAT32, ()), tensor(INT64, ()), a, b, a, b, a, b]
    facts = infer_op("Adagrad", inputs, outputs=4, **TRAINING)
    assert [(fact.dtype, fact.shape) for fact in facts] == [
        (FLOAT32, (n,)),
        (FLOAT64, (2, n)),
    ] * 2


def test_optimizers_say_what_does_not_fit() -> None:
    x = np.ones(2)
    with pytest.raises(
        ShapeError, match="inputs must hold 3 tensors for each that is updated, got"
    ):
        run_op("Adagrad", [RATE, scalar(0), x, x], **TRAINING)
    with pytest.raises(ShapeError, match=r"of X\[0\] must have its shape \[2\], got \[1\]"):
        run_op("Adagrad", [RATE, scalar(0), x, x[:1], x], outputs=2, **TRAINING)
    facts = [fact_of(given) for given in (RATE, scalar(0), x, x[:1], x)]
    with pytest.raises(ShapeError, match=r"of X\[0\] must have its shape \[2\], got \[1\]"):
        infer_op("Adagrad", facts, outputs=2, **TRAINING)
    with pytest.raises(ShapeError, match=r"R must be a scalar, got R\[2\]"):
        run_op("Adagrad", [x, scalar(0), x, x, x], outputs=2, **TRAINING)
    attributes = {"alpha": 0.5, "beta": 0.5, "mode": "heavy", "norm_coefficient": 0.0}
    with pytest.raises(ShapeError, match="mode must be one of standard, nesterov, got 'heavy'"):
        run_op("Momentum", [RATE, scalar(0), x, x, x], attributes, outputs=2, **TRAINING)


@pytest.mark.parametrize(
    ("name", "states", "attributes"),
    [
        ("Adagrad", 2, {"decay_factor": 0.25, "norm_coefficient": 0.5}),
        ("Adam", 3, {"norm_coefficient": 0.5, "norm_coefficient_post": 0.125}),
        ("Momentum", 2, {"alpha": 0.9, "beta": 0.5, "mode": "standard", "norm_coefficient": 0.1}),
        ("Momentum", 2, {"alpha": 0.9, "beta": 0.5, "mode": "nesterov", "norm_coefficient": 0.1}),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_optimizers_are_lowered(
    name: str, states: int, attributes: dict[str, Any], dtype: Any
) -> None:
    stream = np.random.default_rng(0)
    tensors = [stream.random(shape).astype(dtype) for _ in range(states + 1) for shape in SHAPES]
    for rate, step in itertools.product((RATE, RATE.astype(np.float32)), (0, 3)):
        inputs = [rate, scalar(step), *tensors]
        check_lowering(name, inputs, attributes, outputs=2 * states, **TRAINING)
