"""Products of as many rows as a run tells: one is multiplied by columns where these lie."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.compile.schedule import schedule
from fornix.compile.schedule.single_row import single_row
from fornix.dtype import FLOAT32, FLOAT64, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.dim.expression import substitute
from fornix.ir.loops import Scalar, Store, Tensor, compute, constant, reduce, stored, tensor
from fornix.ops import scalar as s
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner

M, K, N, H = (symbol(name) for name in "MKNH")
rng = np.random.default_rng(3)


def product(a: Tensor, b: Tensor, *, is_turned: bool = False) -> Tensor:
    """What is positive of a[H, M, K] · b[H, K, N], or of b[H, N, K] turned."""
    terms, columns = (b.shape[2], b.shape[1]) if is_turned else b.shape[1:]

    def at(h: DimLike, i: DimLike, j: DimLike) -> Scalar:
        def term(k: DimLike) -> Scalar:
            return a[h, i, k] * (b[h, j, k] if is_turned else b[h, k, j])

        return s.maximum(reduce("sum", terms, term), 0.0)

    return compute((a.shape[0], a.shape[1], columns), at)


def store_of(x: Tensor) -> Store:
    buffer = stored(x).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    return buffer.source


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("is_turned", [False, True])
def test_products_of_one_row_and_more_are_those_of_numpy(
    dtype: DType, level: str, *, is_turned: bool
) -> None:
    columns = (N, K) if is_turned else (K, N)
    a, b = tensor("a", (H, M, K), dtype), tensor("b", (H, *columns), dtype)
    y = product(a, b, is_turned=is_turned)
    runner = Runner([y], target=target(level), at_end=True, chunks=3)
    for h, m, k, n in [
        (1, 1, 70, 150),
        (3, 1, 33, 65),
        (2, 1, 1, 1),
        (2, 1, 48, 33),
        (2, 1, 47, 33),
        (1, 2, 40, 17),
        (2, 9, 64, 64),
    ]:
        x = rng.standard_normal((h, m, k)).astype(dtype.numpy)
        w = rng.standard_normal((h, k, n)).astype(dtype.numpy)
        feeds = {"a": x, "b": np.ascontiguousarray(w.swapaxes(1, 2)) if is_turned else w}
        (found,) = runner.run(feeds, {"H": h, "M": m, "K": k, "N": n})
        wanted = np.maximum(x.astype(np.float64) @ w.astype(np.float64), 0)
        size = np.abs(x).astype(np.float64) @ np.abs(w).astype(np.float64)
        assert (np.abs(found - wanted) <= (k + 1) * np.finfo(dtype.numpy).eps * size).all()


@pytest.mark.parametrize("is_turned", [False, True])
def test_nothing_is_packed_for_one_row(*, is_turned: bool) -> None:
    columns = (N, K) if is_turned else (K, N)
    a, b = tensor("a", (H, M, K), FLOAT32), tensor("b", (H, *columns), FLOAT32)
    pieces = schedule(store_of(product(a, b, is_turned=is_turned)), target("x86-64-v4"))

    def count(rows: int, terms: int) -> int:
        assert M.atom is not None
        assert K.atom is not None
        return sum(substitute(p.is_run, {M.atom: rows, K.atom: terms}, {}) == 1 for p in pieces)

    assert (count(1, 64), count(2, 64)) == (1, 2)
    # short columns that lie side by side fill no vectors, packed ones do
    assert count(1, 8) == (2 if is_turned else 1)


def test_only_rows_that_a_run_tells_apart_have_a_way_of_their_own() -> None:
    def found(a: tuple[DimLike, ...], b: Tensor) -> bool:
        return single_row(store_of(product(tensor("a", a, FLOAT32), b))) is not None

    fed = tensor("b", (1, K, N), FLOAT32)
    assert found((1, M, K), fed)
    assert not found((1, 7, K), fed)
    assert not found((1, M, M), tensor("b", (1, M, N), FLOAT32))
    assert not found((1, M, 64), constant(np.ones((1, 64, 96), np.float32)))
