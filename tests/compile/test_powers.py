"""Powers whose one exponent only a run tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.compiler import write_all
from fornix.compile.nest import When
from fornix.compile.schedule import schedule
from fornix.dtype import FLOAT32, FLOAT64, INT32, INT64, DType
from fornix.ir.dim import symbol
from fornix.ir.loops import Scalar, Store, Tensor, apply, compute, tensor
from fornix.ir.loops.tensor import stored
from tests.compile.levels import LEVELS, target
from tests.compile.native import compiled

N = symbol("N", least=1)
EXPONENTS = 2, 3, 5, -1, np.nan


def power(dtype: DType, *exponent: int) -> Tensor:
    """max(x, −3) ** y + 1, by one exponent or one for each element."""
    x, y = tensor("x", (N,), dtype), tensor("y", exponent, dtype)

    def at(i: Any) -> Scalar:
        place = (i,) if exponent and exponent[0] != 1 else (0,) * len(exponent)
        return apply("pow", apply("max", x[i], -3), y[place]) + 1

    return compute((N,), at)


def is_told_apart(result: Tensor) -> bool:
    buffer = stored(result).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    (piece,) = schedule(buffer.source, Target.host())
    return any(isinstance(statement, When) for statement in piece.nest.body)


@pytest.mark.parametrize(
    "dtype", [FLOAT32, *(pytest.param(x, marks=pytest.mark.slow) for x in (FLOAT64, INT32, INT64))]
)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", [(), pytest.param((1,), marks=pytest.mark.slow)])
def test_any_exponent_may_come(shape: tuple[int, ...], level: str, dtype: DType) -> None:
    x = np.linspace(-4, 4, 67).astype(dtype.numpy)
    if dtype.is_float:
        x[:4] = np.nan, np.inf, -0.0, 0.0
    for exponent in EXPONENTS:
        if not dtype.is_float and exponent not in range(6):
            continue
        y = np.full(shape, exponent, dtype.numpy)
        with np.errstate(all="ignore"):
            expected = np.maximum(x, np.array(-3, x.dtype)) ** y.reshape(()) + 1
        how = {"target": target(level), "chunks": 2}
        found = compiled(power(dtype, *shape), {"x": x, "y": y}, {"N": len(x)}, **how)
        np.testing.assert_allclose(found, expected.astype(dtype.numpy), rtol=1e-6)


def test_squares_and_cubes_have_loops_of_their_own() -> None:
    assert is_told_apart(power(FLOAT32))
    assert is_told_apart(power(INT64, 1))
    assert not is_told_apart(power(FLOAT32, 5))


def test_powers_of_powers_nest_no_deeper_than_one() -> None:
    x, y = tensor("x", (N,), INT64), tensor("y", (), INT64)

    def at(i: Any) -> Scalar:
        return apply("pow", apply("pow", x[i], y[()]), y[()])

    (kernel,) = write_all([stored(compute((N,), at))], Target.host())
    assert kernel.code.text
