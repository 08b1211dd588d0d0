"""Optimized random models compute what the models do, with the verifier between all passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.infer import infer_strictly
from fornix.ir.graph import Model
from fornix.ir.load import from_message, to_message
from fornix.passes import Level, optimize
from fornix.reference import ReferenceEvaluator
from tests.random_graphs import random_model
from tests.wide_graphs import wide_model

# Fusions round differently: a few steps of float32 on values of magnitude 1, through 12 steps.
RTOL = ATOL = 2e-4

NEWEST = 24


def check(model: Model, optimized: Model, feeds: dict[str, Any]) -> None:
    """Compare all results; integers and booleans must be equal."""
    wanted = ReferenceEvaluator(model).run(None, feeds)
    found = ReferenceEvaluator(optimized).run(None, feeds)
    for value, one, other in zip(model.graph.outputs, found, wanted, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype), value.name
        if other.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=RTOL, atol=ATOL, err_msg=value.name)
        else:
            np.testing.assert_array_equal(one, other, err_msg=value.name)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("level", [Level.BASIC, Level.ALL])
def test_optimized_random_models_compute_the_same(seed: int, level: Level) -> None:
    model, feeds = random_model(seed)
    check(model, optimize(model, level, debug=True), feeds)


@pytest.mark.parametrize("seed", range(60))
def test_optimized_wide_models_compute_the_same(seed: int) -> None:
    model, feeds = wide_model(seed)
    check(model, optimize(model, debug=True), feeds)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(60, 2060, 100))
def test_many_wide_models_compute_the_same(first: int) -> None:
    for seed in range(first, first + 100):
        model, feeds = wide_model(seed)
        check(model, optimize(model, "basic"), feeds)
        check(model, optimize(model, opset=NEWEST, debug=True), feeds)


@pytest.mark.parametrize("make", [random_model, wide_model])
@pytest.mark.parametrize("seed", range(20))
def test_optimized_models_are_models_of_the_standard(make: Any, seed: int) -> None:
    model, feeds = make(seed)
    optimized = optimize(model)
    again = from_message(to_message(optimized))
    assert not infer_strictly(again).errors
    wanted = ReferenceEvaluator(optimized).run(None, feeds)
    for one, other in zip(ReferenceEvaluator(again).run(None, feeds), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("make", [random_model, wide_model])
def test_optimizing_twice_changes_nothing_more(make: Any) -> None:
    for seed in range(20):
        once = optimize(make(seed)[0])
        assert str(optimize(once)) == str(once)
