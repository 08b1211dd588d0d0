from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import ShapeError
from tests.ops.harness import run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(15)


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("axis", [0, 2, -1, -3])
def test_an_axis_is_put_in(axis: int) -> None:
    agree("ExpandDims", [normal(2, 3), np.array([axis], np.int32)])


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
def test_steps_are_1_if_none_are_said(dtype: Any) -> None:
    ends = [np.array(1, dtype), np.array(8, dtype)]
    agree("Range", ends)
    agree("Range", [*ends, np.array(2, dtype)])


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, -1, 2])
def test_triangles_are_those_of_the_standard(upper: int, k: int | None) -> None:
    inputs = [normal(2, 3, 4), *([] if k is None else [np.array(k, np.int64)])]
    agree("Trilu", inputs, {"upper": upper}, lowered=k is None)


def test_elements_that_differ_come_in_their_first_order() -> None:
    agree("Unique", [rng.integers(0, 5, 20).astype(np.float32)], outputs=3, lowered=False)
    y = run_op("Unique", [np.array(["b", "a", "b"], object)], outputs=3, domain=DOMAIN, opset=1)
    assert [x.tolist() for x in y] == [["b", "a"], [0, 1, 0], [2, 1]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_matrices_are_inverted(dtype: Any) -> None:
    agree("Inverse", [normal(2, 4, 4, dtype=dtype)], rtol=1e-3, atol=1e-3, lowered=False)


def test_only_singular_matrices_become_infinite() -> None:
    x = np.stack([np.ones((2, 2)), np.diag([2.0, 4.0])])
    [y] = run_op("Inverse", [x], domain=DOMAIN, opset=1)
    assert np.isinf(y[0]).all()
    assert y[1].tolist() == [[0.5, 0], [0, 0.25]]


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_rows_have_distances(metric: str) -> None:
    agree("CDist", [normal(3, 4), normal(5, 4)], {"metric": metric}, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("ExpandDims", [normal(2), np.zeros(2, np.int32)], {}, "axis must be one number"),
        ("Unique", [normal(2, 2)], {}, "x must be a vector"),
        ("Inverse", [normal(2, 3)], {}, "X must end in a square matrix"),
        ("CDist", [normal(2), normal(2)], {}, "A and B must be matrices"),
        ("CDist", [normal(2, 3), normal(2, 4)], {}, "rows must have one length"),
        ("CDist", [normal(2, 3)] * 2, {"metric": "cosine"}, "metric must be sqeuclidean or"),
    ],
)
def test_what_does_not_fit_is_named(
    name: str, inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op(name, inputs, attributes, domain=DOMAIN, opset=1)
