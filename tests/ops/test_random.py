from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from scipy import stats

from fornix import ops
from fornix.dtype import FLOAT16, FLOAT32, INT32, INT64, DType
from fornix.errors import Fail, ShapeError
from fornix.ir.dim import symbol
from fornix.ir.types import TensorType
from fornix.ops.fact import tensor, unranked
from fornix.ops.types import type_of
from tests.ops.harness import infer_op, run_op

N = symbol("N")
MANY = np.zeros(20000, np.float32)
# Four deviations of the mean of 20000 numbers of deviation 1.
CLOSE = 4 / 20000**0.5

NODES: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("RandomNormal", [], {"shape": [50]}),
    ("RandomUniform", [], {"shape": [50]}),
    ("RandomNormalLike", [MANY[:50]], {}),
    ("RandomUniformLike", [MANY[:50]], {}),
    ("Bernoulli", [MANY[:50] + 0.5], {}),
    ("Multinomial", [np.zeros((2, 9), np.float32)], {"sample_size": 50}),
]


@pytest.mark.parametrize(("name", "inputs", "attributes"), NODES)
def test_a_seed_makes_numbers_repeat(
    name: str, inputs: list[Any], attributes: dict[str, Any]
) -> None:
    runs = [run_op(name, inputs, {**attributes, "seed": seed})[0] for seed in (1.5, 1.5, 2.5)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


@pytest.mark.parametrize(("name", "inputs", "attributes"), NODES)
def test_without_a_seed_numbers_differ(
    name: str, inputs: list[Any], attributes: dict[str, Any]
) -> None:
    one, other = (run_op(name, inputs, attributes)[0] for _ in range(2))
    assert (one != other).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_normal_numbers_have_the_mean_and_the_deviation(dtype: Any) -> None:
    attributes = {"mean": 3.0, "scale": 0.5, "seed": 1.0}
    [found] = run_op("RandomNormalLike", [MANY.astype(dtype)], attributes)
    assert found.dtype == dtype
    wide = found.astype(np.float64)
    assert abs(wide.mean() - 3) < CLOSE
    assert abs(wide.std() - 0.5) < CLOSE


def test_uniform_numbers_fill_the_interval() -> None:
    attributes = {"low": -1.0, "high": 3.0, "seed": 1.0, "dtype": 11}
    [found] = run_op("RandomUniformLike", [MANY], attributes)
    assert found.dtype == np.float64
    assert found.min() >= -1
    assert found.max() <= 3
    assert abs(found.mean() - 1) < 2 * CLOSE


def test_bernoulli_draws_with_the_given_chances() -> None:
    chances = np.repeat(np.array([0, 0.25, 1], np.float32), 20000).reshape(3, -1)
    [found] = run_op("Bernoulli", [chances], {"seed": 1.0, "dtype": 9})
    assert found.dtype == np.bool_
    assert found[0].sum() == 0
    assert abs(found[1].mean() - 0.25) < CLOSE
    assert found[2].all()


def versions(name: str, variable: str) -> list[tuple[str, int, DType]]:
    """Every schema version of ``name`` with every type that ``variable`` may stand for."""
    return [
        (name, schema.since_version, found.dtype)
        for schema in ops.operators()["", name].schemas
        for found in map(type_of, sorted(schema.constraints[variable].members))
        if isinstance(found, TensorType) and found.dtype is not None
    ]


@pytest.mark.parametrize(
    ("name", "opset", "dtype"), versions("RandomNormal", "T") + versions("RandomUniform", "T")
)
def test_numbers_of_every_type_have_their_distribution(name: str, opset: int, dtype: DType) -> None:
    where = {"mean": 1.0, "scale": 2.0} if name == "RandomNormal" else {"low": -1.0, "high": 4.0}
    ideal = stats.norm(1, 2) if name == "RandomNormal" else stats.uniform(-1, 5)
    like = np.zeros((50, 40), dtype.numpy)
    for operator, inputs, shape in ((name, [], {"shape": [50, 40]}), (f"{name}Like", [like], {})):
        given = {**where, **shape, "dtype": dtype.code, "seed": 3.0}
        [found] = run_op(operator, inputs, given, opset=opset)
        assert (DType.of(found.dtype), found.shape) == (dtype, (50, 40))
        # Rounding to eight bits moves a thousandth of the numbers past a value.
        test = stats.kstest(found.astype(np.float64).reshape(-1), ideal.cdf)
        assert test.statistic < (0.05 if dtype.bits < 32 else 0.03)


@pytest.mark.parametrize(("_", "opset", "dtype"), versions("Bernoulli", "T1"))
def test_bernoulli_takes_chances_of_every_type(_: str, opset: int, dtype: DType) -> None:
    chances = np.full(20000, 0.25).astype(dtype.numpy)
    [found] = run_op("Bernoulli", [chances], {"seed": 1.0}, opset=opset)
    assert found.dtype == chances.dtype
    assert abs(found.astype(np.float64).mean() - 0.25) < CLOSE


@pytest.mark.parametrize(("_", "opset", "dtype"), versions("Bernoulli", "T2"))
def test_bernoulli_gives_every_type(_: str, opset: int, dtype: DType) -> None:
    given = {"seed": 1.0, "dtype": dtype.code}
    [found] = run_op("Bernoulli", [MANY + np.float32(0.25)], given, opset=opset)
    assert DType.of(found.dtype) is dtype
    assert abs(found.astype(np.float64).mean() - 0.25) < CLOSE


@pytest.mark.parametrize(("_", "opset", "dtype"), versions("Multinomial", "T1"))
def test_multinomial_takes_weights_of_every_type(_: str, opset: int, dtype: DType) -> None:
    weights = np.array([[0, 1, 2]]).astype(dtype.numpy)
    given = {"seed": 1.0, "sample_size": 20000}
    [found] = run_op("Multinomial", [weights], given, opset=opset)
    chances = np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum()
    assert found.dtype == np.int32
    assert stats.chisquare(np.bincount(found[0], minlength=3), chances * 20000).pvalue > 1e-3


def test_bernoulli_refuses_what_is_no_probability() -> None:
    with pytest.raises(Fail, match=r"probabilities must be in \[0, 1\], found \[1.5\]"):
        run_op("Bernoulli", [np.array([0.5, 1.5])])


def test_multinomial_draws_by_weights_in_log_space() -> None:
    with np.errstate(divide="ignore"):
        weights = np.log(np.array([[1, 2, 1], [0, 0, 1]], np.float32))
    [found] = run_op("Multinomial", [weights], {"sample_size": 20000, "seed": 1.0, "dtype": 7})
    assert found.dtype == np.int64
    assert abs((found[0] == 1).mean() - 0.5) < CLOSE
    assert (found[1] == 2).all()


@pytest.mark.parametrize(
    ("shape", "attributes", "message"),
    [
        ((3,), {}, r"input must be \[B, C\] with at least one class, found \[3\]"),
        ((3, 0), {}, r"found \[3, 0\]"),
        ((3, 2), {"sample_size": 0}, "sample_size must be 1 or more, got 0"),
    ],
)
def test_multinomial_says_what_does_not_fit(
    shape: tuple[int, ...], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("Multinomial", [np.zeros(shape, np.float32)], attributes)


def test_random_numbers_refuse_a_negative_extent() -> None:
    with pytest.raises(ShapeError, match=r"entries of shape must be 0 or more, got \[2, -1\]"):
        infer_op("RandomNormal", [], {"shape": [2, -1]})


def test_random_numbers_have_the_type_and_shape_that_is_asked_for() -> None:
    [fact] = infer_op("RandomUniform", [], {"shape": [2, 3], "dtype": 10})
    assert (fact.dtype, fact.shape) == (FLOAT16, (2, 3))
    [fact] = infer_op("RandomNormalLike", [tensor(FLOAT32, (N, 2))])
    assert (fact.dtype, fact.shape) == (FLOAT32, (N, 2))
    [fact] = infer_op("Bernoulli", [unranked(FLOAT32)], {"dtype": 6})
    assert fact.dtype is INT32
    [fact] = infer_op("Multinomial", [tensor(FLOAT32, (N, 2))], {"dtype": 7, "sample_size": 4})
    assert (fact.dtype, fact.shape) == (INT64, (N, 4))
    assert infer_op("Multinomial", [unranked(FLOAT32)])[0].shape[1] == 1
