from __future__ import annotations

import numpy as np
import pytest

from fornix.infer import infer_model
from fornix.ir.load import from_message, to_message
from fornix.passes import Level, optimize
from fornix.reference import ReferenceEvaluator
from tests.random_graphs import random_model

# Fusions round differently: a few steps of float32 on values of magnitude 1, through 12 steps.
RTOL = ATOL = 2e-4


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("level", [Level.BASIC, Level.ALL])
def test_optimized_random_models_compute_the_same(seed: int, level: Level) -> None:
    model, feeds = random_model(seed)
    optimized = optimize(model, level, debug=True)
    wanted = ReferenceEvaluator(model).run(None, feeds)
    found = ReferenceEvaluator(optimized).run(None, feeds)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("seed", range(20))
def test_optimized_models_are_models_of_the_standard(seed: int) -> None:
    model, feeds = random_model(seed)
    optimized = optimize(model)
    again = from_message(to_message(optimized))
    assert not infer_model(again, strict=True).errors
    wanted = ReferenceEvaluator(optimized).run(None, feeds)
    for one, other in zip(ReferenceEvaluator(again).run(None, feeds), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_optimizing_twice_changes_nothing_more() -> None:
    for seed in range(20):
        once = optimize(random_model(seed)[0])
        assert str(optimize(once)) == str(once)
