from __future__ import annotations

import numpy as np
import pytest

from tests.ops.grads.harness import Array, check, random

Y = random(2, 3, 4, seed=1)
POSITIVE = random(2, 3, 4, seed=1, low=0.5, high=2.0)
NAMES = ["ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum",
         "ReduceLogSumExp", "ReduceMax", "ReduceMin", "ReduceProd"]  # fmt: skip


def data(name: str) -> Array:
    return POSITIVE if name == "ReduceLogSum" else Y


@pytest.mark.parametrize("name", NAMES)
def test_over_known_axes(name: str) -> None:
    check(name, [data(name), np.array([0, -1])], {"keepdims": 0}, constants=[1])


@pytest.mark.parametrize("name", NAMES)
def test_over_axes_that_a_run_computes(name: str) -> None:
    for keepdims in (0, 1):
        check(name, [data(name), np.array([1])], {"keepdims": keepdims}, dims=["symbolic"])


@pytest.mark.parametrize("name", NAMES)
def test_over_everything_without_knowing_the_rank(name: str) -> None:
    check(name, [data(name)], {"keepdims": 1}, dims=["static", "unknown"])


@pytest.mark.parametrize("name", NAMES)
def test_over_no_axis_at_all(name: str) -> None:
    attributes = {"noop_with_empty_axes": 1}
    check(name, [data(name), np.zeros(0, np.int64)], attributes, constants=[1], dims=["static"])


@pytest.mark.parametrize("name", NAMES)
def test_axes_as_an_attribute(name: str) -> None:
    check(name, [data(name)], {"axes": [1], "keepdims": 0}, opset=12, dims=["static"])


def test_equal_maxima_share_the_gradient() -> None:
    x = np.array([[1.0, 1.0, 0.0], [2.0, 0.0, 2.0]])
    check("ReduceMax", [x, np.array([1])], constants=[1], differences=False,
          peer=lambda t: t.amax(1, keepdim=True))  # fmt: skip


def test_products_with_zeros() -> None:
    x = Y.copy()
    x[0, 1, 2] = 0
    x[1, :, 1] = 0
    check("ReduceProd", [x, np.array([1])], {"keepdims": 0}, constants=[1],
          peer=lambda t: t.prod(1))  # fmt: skip


@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("exclusive", [0, 1])
def test_running_sums_and_products(exclusive: int, reverse: int) -> None:
    attributes = {"exclusive": exclusive, "reverse": reverse}
    check("CumSum", [Y, np.array(1)], attributes)
    check("CumProd", [POSITIVE, np.array(1)], attributes)
