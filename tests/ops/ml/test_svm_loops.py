"""Decisions between pairs of classes by machine code, for every processor and any cut of rows."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from fornix.dtype import FLOAT64
from fornix.ir.dim import symbol
from fornix.ir.loops import tensor
from fornix.ops.ml.svm_loops import decided, lower_decisions
from tests.compile.levels import EVERY, target
from tests.compile.native import Runner


def decisions(similar: Any, weights: Any, offsets: Any, per_class: list[int]) -> Any:
    """Those of libsvm, by its own description, without what has no part in them."""
    ends = np.cumsum(per_class)
    parts = [slice(end - n, end) for end, n in zip(ends, per_class, strict=True)]
    columns = [
        similar[:, parts[i]] @ weights[j - 1, parts[i]]
        + similar[:, parts[j]] @ weights[i, parts[j]]
        for i, j in combinations(range(len(per_class)), 2)
    ]
    return np.stack(columns, axis=1) + offsets


@pytest.mark.parametrize("level", EVERY)
@pytest.mark.parametrize("per_class", [[2, 3], [3, 0, 5], [1] * 9, [4, 1, 2, 7, 3, 1, 1, 2, 9, 5]])
def test_decisions_are_those_of_the_vectors_of_two_classes(
    per_class: list[int], level: str, rng: np.random.Generator
) -> None:
    count, classes = sum(per_class), len(per_class)
    weights = rng.random((classes - 1, count)).astype(np.float32)
    offsets = rng.standard_normal(classes * (classes - 1) // 2).astype(np.float32)
    rows = symbol("N")
    similar = tensor("similar", (rows, count), FLOAT64)
    made = decided(similar, weights, offsets, per_class)
    runners = [Runner([made], target(level), chunks=chunks) for chunks in (1, 3)]
    for extent in (1, 2, 3, 4, 5, 13):
        feed = rng.standard_normal((extent, count))
        if classes > 2:
            feed[0, : per_class[0]] = np.inf
        wanted = decisions(feed, weights.astype(np.float64), offsets, per_class)
        for runner in runners:
            [found] = runner.run({"similar": feed}, {"N": extent})
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("level", EVERY)
@pytest.mark.parametrize("per_class", [[20, 30], [9, 8, 7], [6] * 9])
def test_linear_machines_decide_alike_on_every_processor(
    per_class: list[int], level: str, rng: np.random.Generator
) -> None:
    count, classes, features = sum(per_class), len(per_class), 5
    support = rng.standard_normal((count, features))
    weights = rng.standard_normal((classes - 1, count))
    offsets = rng.standard_normal(classes * (classes - 1) // 2)
    rows = symbol("N")
    x = tensor("x", (rows, features), FLOAT64)
    params = (0.0, 0.0, 0.0)
    made = lower_decisions(x, support, "LINEAR", params, weights, offsets, per_class)
    runners = [Runner([made], target(level), chunks=chunks) for chunks in (1, 3)]
    for extent in (1, 2, 13, 40):
        feed = rng.standard_normal((extent, features))
        wanted = decisions(feed @ support.T, weights, offsets, per_class)
        for runner in runners:
            [found] = runner.run({"x": feed}, {"N": extent})
            np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-11)
        feed[-1, 2] = np.inf
        for runner in runners:
            [found] = runner.run({"x": feed}, {"N": extent})
            np.testing.assert_allclose(found[:-1], wanted[:-1], rtol=1e-11, atol=1e-11)
            assert np.isnan(found[-1]).all()
