from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile.schedule.few_columns import MOST_COLUMNS, few_columns
from fornix.compile.target import WIDEST, Target
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Store, Tensor, compute, constant, stored, tensor
from fornix.ops import scalar as s
from fornix.ops.conv import lower_conv
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner

ROUNDING = 2.0**-23
COLUMNS = [*range(1, MOST_COLUMNS + 2), 33, 49]
N, L = symbol("N"), symbol("L")
rng = np.random.default_rng(7)


def numbers(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def sums(w: Any, channels: int, groups: int, extents: tuple[DimLike, DimLike] = (N, L)) -> Tensor:
    """A pointwise convolution of places of which a run tells the number, and what follows it."""
    x = tensor("x", (extents[0], channels, extents[1]), FLOAT32)
    relu = compute(x.shape, lambda *i: s.maximum(x[i], 0.0))
    y = lower_conv(relu, constant(w), constant(np.ones(len(w), np.float32)), group=groups)
    z = tensor("z", y.shape, FLOAT32)
    return compute(y.shape, lambda *i: y[i] + z[i])


def wanted(x: Any, z: Any, w: Any, groups: int) -> tuple[Any, Any]:
    """The result in double precision, and what it is the sum of without their signs."""
    x, w = np.maximum(x, 0).astype(np.float64), w[:, :, 0].astype(np.float64)
    parts = zip(np.split(x, groups, 1), np.split(w, groups), strict=True)
    found = [(b @ a, np.abs(b) @ np.abs(a)) for a, b in parts]
    y, size = (np.concatenate(list(p), 1) for p in zip(*found, strict=True))
    return y + 1 + z, size + 1 + np.abs(z)


def store_of(x: Tensor) -> Store:
    buffer = stored(x).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    return buffer.source


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("channels", "filters", "groups"),
    [(64, 136, 1), (512, 136, 1), (192, 200, 1), (384, 256, 2), (191, 193, 1), (300, 330, 3)],
)
def test_any_number_of_columns(
    channels: int, filters: int, groups: int, level: str, *, at_end: bool
) -> None:
    w = numbers(filters, channels // groups, 1)
    y = sums(w, channels, groups)
    runners = [Runner([y], target(level), chunks=n, at_end=at_end) for n in (1, 3)]
    for columns in COLUMNS:
        n = 1 + columns % 3
        x, z = numbers(n, channels, columns), numbers(n, filters, columns)
        runs = [r.run({"x": x, "z": z}, {"N": n, "L": columns})[0] for r in runners]
        expected, size = wanted(x, z, w, groups)
        assert (np.abs(runs[0] - expected) <= channels * ROUNDING * size).all()
        np.testing.assert_array_equal(runs[0], runs[1])


@pytest.mark.parametrize("strange", [np.inf, np.nan])
def test_what_is_not_finite_in_a_column(strange: float) -> None:
    w = np.abs(numbers(200, 192, 1)) + 1
    x, z = np.abs(numbers(1, 192, 5)), numbers(1, 200, 5)
    x[0, 191, 3] = strange
    (found,) = Runner([sums(w, 192, 1)]).run({"x": x, "z": z}, {"N": 1, "L": 5})
    assert np.isfinite(found[:, :, [0, 1, 2, 4]]).all()
    np.testing.assert_array_equal(found[0, :, 3], np.full(200, strange, np.float32))


def test_stored_rows_are_for_few_columns_where_a_run_may_have_them() -> None:
    host, w = Target.host(), numbers(256, 192, 1)
    found = few_columns(store_of(sums(w, 192, 1, (1, L))), host, 16)
    assert found is not None
    many = [n for n in COLUMNS if found.is_it.bind({"L": n}) == 0]  # type: ignore[union-attr]
    assert many == [n for n in COLUMNS if n > MOST_COLUMNS]
    deep = few_columns(store_of(sums(numbers(256, 512, 1), 512, 1, (1, L))), host, 16)
    assert deep is not None
    some = (5, 49, 64, 196, 256, 257)
    many = [n for n in some if deep.is_it.bind({"L": n}) == 0]  # type: ignore[union-attr]
    has_waste = host.vector_bytes == WIDEST and not host.is_wide
    assert many == ([64, 256, 257] if has_waste else [49, 64, 196, 256, 257])
    for extents in ((1, 3), (N, 40), (1, L + MOST_COLUMNS + 1)):
        assert few_columns(store_of(sums(w, 192, 1, extents)), host, 16) is None
    assert few_columns(store_of(sums(numbers(16, 64, 1), 64, 1)), host, 16) is None
