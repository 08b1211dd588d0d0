from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fornix.compile import Target
from fornix.dtype import DType
from fornix.errors import Fail
from fornix.ir.loops import apply, compute, tensor
from tests.compile.levels import LEVELS, target
from tests.compile.native import compiled

torch = pytest.importorskip("torch")

SPECIAL = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-40, 5e-324, 0.5, 2.0]

# Errors in ulp that maths.py states, for float32 and float64; the arguments to try.
CLAIMS: dict[str, tuple[float, float, tuple[float, float]]] = {
    "exp": (1.5, 1.5, (-110, 95)),
    "log": (1.5, 1.5, (1e-30, 1e30)),
    "tanh": (5, 3, (-10, 10)),
    "erf": (6, 3, (-7, 7)),
    "sin": (1, 2, (-100, 100)),
    "cos": (1, 2, (-100, 100)),
    "tan": (1, 4, (-100, 100)),
    "asin": (4, 3, (-1, 1)),
    "acos": (4, 4, (-1, 1)),
    "atan": (2, 2, (-50, 50)),
    "sinh": (1, 4, (-80, 80)),
    "cosh": (1, 4, (-80, 80)),
    "asinh": (1, 3, (-1e5, 1e5)),
    "acosh": (1, 3, (1, 1e5)),
    "atanh": (1, 3, (-1, 1)),
}


def evaluated(op: str, *arrays: np.ndarray, level: str = "host") -> np.ndarray:
    dtype = DType.of(arrays[0].dtype)
    xs = [tensor(f"x{k}", a.shape, dtype) for k, a in enumerate(arrays)]
    y = compute(arrays[0].shape, lambda i: apply(op, *(x[i] for x in xs)))
    feeds = {f"x{k}": a for k, a in enumerate(arrays)}
    return compiled(y, feeds, target=target(level))


def exact(op: str, x: np.ndarray) -> np.ndarray:
    """The function in 80 bits, erf in 64."""
    if op == "erf":
        return torch.special.erf(torch.from_numpy(x.astype(np.float64))).numpy()
    names = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}
    names |= {"asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh"}
    function: Callable[[Any], Any] = getattr(np, names.get(op, op))
    with np.errstate(all="ignore"):
        return function(x.astype(np.longdouble))


def ulps(found: np.ndarray, wanted: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        near = wanted.astype(found.dtype)
        assert (np.isnan(found) == np.isnan(near)).all()
        finite = np.isfinite(near) & np.isfinite(found)
        assert (found[~finite & ~np.isnan(near)] == near[~finite & ~np.isnan(near)]).all()
        error = np.abs(found[finite].astype(np.longdouble) - wanted[finite])
        return float((error / np.spacing(np.abs(near[finite]))).max(initial=0.0))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", CLAIMS)
def test_functions_keep_their_word(op: str, dtype: Any, level: str) -> None:
    *bounds, (low, high) = CLAIMS[op]
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [
            rng.uniform(low, high, 20000),
            rng.uniform(-1, 1, 2000) if low < 0 else rng.uniform(low, low + 2, 2000),
            10 ** rng.uniform(-30, 0, 500) if low <= 0 else [low],
            SPECIAL,
        ]
    ).astype(dtype)
    found = evaluated(op, x, level=level)
    assert ulps(found, exact(op, x)) <= bounds[dtype is np.float64]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_plain_logarithms_are_those_of_normal_numbers_and_nan(dtype: Any, level: str) -> None:
    limits = np.finfo(dtype)
    x = np.random.default_rng(4).uniform(1, 3, 2000).astype(dtype)
    powers = np.ldexp(x, np.arange(len(x)) % (limits.maxexp - 1))
    x = np.concatenate([x, powers, np.array([1, limits.tiny, limits.max], dtype)])
    assert ulps(evaluated("plain_log", x, level=level), exact("log", x)) <= CLAIMS["log"][0]
    assert np.isnan(evaluated("plain_log", np.array([np.nan, -np.nan], dtype), level=level)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_keep_the_sign_of_zero(dtype: Any) -> None:
    zeros = np.array([0.0, -0.0], dtype)
    for op in ("tanh", "erf", "sin", "tan", "asin", "atan", "sinh", "asinh", "atanh"):
        assert np.signbit(evaluated(op, zeros)).tolist() == [False, True], op


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_powers_are_those_of_c(dtype: Any, level: str) -> None:
    rng = np.random.default_rng(2)
    grid = np.array([*SPECIAL, 3.0, -2.0, -0.5, 4.0, 1e30, -1e30, -3.0], dtype)
    x, y = (g.reshape(-1) for g in np.meshgrid(grid, grid))
    x = np.concatenate([x, rng.uniform(0, 10, 5000).astype(dtype)])
    y = np.concatenate([y, rng.uniform(-20, 20, 5000).astype(dtype)])
    with np.errstate(all="ignore"):
        wanted = np.power(x.astype(np.longdouble), y.astype(np.longdouble))
    assert ulps(evaluated("pow", x, y, level=level), wanted) <= 2


@pytest.mark.parametrize("op", ["mod", "fmod"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rests_are_exact(op: str, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    grid = np.array([*SPECIAL, 3.0, -2.0, -0.5, 4.0, 7.25, -3.0], dtype)
    x, y = (g.reshape(-1) for g in np.meshgrid(grid, grid))
    x = np.concatenate([x, rng.uniform(-1e4, 1e4, 2000).astype(dtype)])
    y = np.concatenate([y, rng.uniform(-20, 20, 2000).astype(dtype)])
    with np.errstate(all="ignore"):
        quotient = np.abs(x.astype(np.longdouble) / y)
        near = ~(np.isfinite(quotient) & (quotient > 2.0**50))
        wanted = (np.mod if op == "mod" else np.fmod)(x[near], y[near])
    np.testing.assert_array_equal(evaluated(op, x[near], y[near]), wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_inverse_of_cosh_is_none_below_1(dtype: Any) -> None:
    x = np.array([-1e30, -1e10, -1, 0, 0.5, -math.inf], dtype)
    assert np.isnan(evaluated("acosh", x)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", ["erf", "tanh"])
def test_what_approaches_1_gets_there(op: str, dtype: Any) -> None:
    x = np.array([9.5, 50, 1e30, math.inf, -9.5, -50, -1e30, -math.inf], dtype)
    assert evaluated(op, x * 3).tolist() == [1, 1, 1, 1, -1, -1, -1, -1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", ["sin", "cos", "tan"])
def test_angles_keep_their_phase_up_to_2_45(op: str, dtype: Any) -> None:
    quarters = np.rint(2 ** np.random.default_rng(4).uniform(20, 44, 5000)) * (np.pi / 2)
    x = np.concatenate([[1e10, -1e12, 1e13, 2.0**45, -(2.0**45)], quarters]).astype(dtype)
    wanted = [_exact_angle(op, float(each)) for each in x]
    assert ulps(evaluated(op, x), np.array(wanted, np.longdouble)) <= 4


def _exact_angle(op: str, x: float) -> Any:
    """The function of x less whole quarters of a turn, of which π has 60 digits."""
    quarter = Fraction("3.14159265358979323846264338327950288419716939937510582097494") / 2
    turns = round(Fraction(x) / quarter)
    rest = Fraction(x) - turns * quarter
    high = float(rest)
    angle = np.longdouble(high) + np.longdouble(float(rest - Fraction(high)))
    sine, cosine = np.sin(angle), np.cos(angle)
    sine, cosine = [(sine, cosine), (cosine, -sine), (-sine, -cosine), (-cosine, sine)][turns % 4]
    return {"sin": sine, "cos": cosine, "tan": sine / cosine}[op]


@pytest.mark.parametrize("op", ["sin", "cos", "tan"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_angles_whose_phase_takes_more_digits_of_pi_are_left_to_c(op: str, dtype: Any) -> None:
    for wrong in (2.0**46, -1e20, np.finfo(dtype).max):
        with pytest.raises(Fail, match=f"{op} of numbers so large"):
            evaluated(op, np.array([1, wrong, 2], dtype))
    assert np.isnan(evaluated(op, np.array([np.nan, np.inf, -np.inf], dtype))).all()


@pytest.mark.parametrize("op", ["mod", "fmod"])
def test_quotients_beyond_float64_are_left_to_c(op: str) -> None:
    for x, y in ((2.25, 5e-324), (-(2.0**60), 3.0), (1e300, 1e-300)):
        with pytest.raises(Fail, match=f"{op} of numbers so large"):
            evaluated(op, np.array([1, x]), np.array([1, y]))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("dtype", "least"), [(np.float32, -87.3), (np.float64, -708.3)])
def test_weights_are_exponentials_or_0_where_those_are_not_normal(
    dtype: Any, least: float, level: str
) -> None:
    x = np.concatenate([np.linspace(least, 0, 997), -np.logspace(-40, 1, 83), [-0.0]]).astype(dtype)
    x = x[x >= least]
    found = evaluated("weight", x, level=level)
    error = np.abs(found / np.exp(x.astype(np.longdouble)) - 1)
    assert (error <= (3 - x.astype(np.float64)) / 2 * np.finfo(dtype).eps).all()
    assert (found[x > -1e-20] == 1).all()
    below = np.array([np.nextafter(dtype(least), -np.inf), least * 2, -1e30, -np.inf], dtype)
    below = below[below < least]
    assert evaluated("weight", below, level=level).tolist() == [0.0] * len(below)
    bits = [0x7FC00000, 0x7FC00001, 0x7FC0007F, 0xFFFFFFFF]
    payloads = np.array(bits, np.uint32).view(np.float32).astype(dtype)
    assert np.isnan(evaluated("weight", payloads, level=level)).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("dtype", "zero"), [(np.float32, -103.98), (np.float64, -745.14)])
def test_exponentials_are_subnormal_until_they_are_zero(
    dtype: Any, zero: float, level: str
) -> None:
    x = np.array([*np.linspace(zero + 16, zero + 0.02, 37), *np.linspace(zero, zero - 9, 37)])
    x = np.append(x, [-1e30, -math.inf]).astype(dtype)
    found = evaluated("exp", x, level=level)
    assert ulps(found, exact("exp", x)) <= 1.5
    assert (found[:37] > 0).all()
    assert (found[37:] == 0).all()
    assert not np.signbit(found).any()


def sigmoid(x: np.ndarray, level: str) -> np.ndarray:
    data = tensor("x", x.shape, DType.of(x.dtype))
    y = compute(x.shape, lambda i: 1.0 / (1.0 + apply("exp", -data[i])))
    return compiled(y, {"x": x}, target=target(level))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("dtype", "least"), [(np.float32, -87.3), (np.float64, -708.3)])
def test_sigmoids_are_normal_numbers_or_zero(dtype: Any, least: float, level: str) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.uniform(least, -least, 5000), rng.uniform(-20, 20, 5000), SPECIAL])
    x = x.astype(dtype)
    x = x[~(x < least)]
    wide = x.astype(np.longdouble)
    with np.errstate(all="ignore"):
        assert ulps(sigmoid(x, level), 1 / (1 + np.exp(-wide))) <= 3
    beyond = np.array([1.001 * least, 1.01 * least, 1.2 * least, 9 * least, -math.inf], dtype)
    assert (sigmoid(beyond, level) == 0).all()
    assert (sigmoid(-beyond, level) == 1).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_less_than_an_exponential_and_the_other_way_round(dtype: Any, level: str) -> None:
    x = np.array([*np.linspace(-120, 80, 401), *SPECIAL, 1e30, -1e30], dtype)
    data = tensor("x", x.shape, DType.of(x.dtype))
    less = compute(x.shape, lambda i: apply("exp", data[i]) - 1.0)
    other = compute(x.shape, lambda i: 1.0 - apply("exp", data[i]))
    found = compiled(less, {"x": x}, target=target(level))
    with np.errstate(all="ignore"):
        wanted = np.exp(x.astype(np.longdouble)) - 1
        near = wanted.astype(dtype)
        few = np.finfo(dtype).eps * 3 * np.maximum(1, np.abs(wanted))
        is_same = (found == near) | (np.isnan(found) & np.isnan(near))
        assert (is_same | (np.abs(found - wanted) <= few)).all()
    negated = compiled(other, {"x": x}, target=target(level))
    np.testing.assert_array_equal(negated, -found)


@pytest.mark.parametrize("op", ["weight", "erf"])
def test_numbers_alone_are_those_of_vectors(op: str) -> None:
    x = np.array([-0.0, -1e-30, -0.06, -0.07, -1.3, -3.9, -3.95, -60, -90, -np.inf], np.float32)
    data = tensor("x", x.shape, DType.of("float32"))
    rows = compute((len(x), 16), lambda i, _: apply(op, data[i]))
    single = compiled(rows, {"x": x}, target=target("host"))
    np.testing.assert_array_equal(single, np.repeat(evaluated(op, x), 16).reshape(-1, 16))


def test_error_functions_by_tables_are_told_from_their_pieces_by_nothing() -> None:
    """Around where pieces meet, and where the last one is 1, which Gelu relies on."""
    if not Target.host().has("avx512f"):
        pytest.skip("no tables")
    ends = (np.arange(33) + 0.5) / 8
    x = np.concatenate([np.linspace(e - 1e-5, e + 1e-5, 101) for e in ends]).astype(np.float32)
    x = np.concatenate([x, -x])
    found = evaluated("erf", x)
    assert ulps(found, exact("erf", x)) <= 2.2
    assert (found[x >= 3.9375] == 1).all()
    assert (found[x <= -3.9375] == -1).all()
