"""Sums of products whose results lie across, as products of matrices that are turned then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.schedule import schedule
from fornix.compile.schedule.reordered import reordered
from fornix.dtype import FLOAT32, INT32, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Scalar, Store, Tensor, apply, compute, reduce, tensor
from fornix.ir.loops.tensor import stored
from tests.compile.levels import LEVELS, target
from tests.compile.native import compiled

N = symbol("N", least=1)


def product(equation: str, extents: dict[str, Any], dtype: DType = FLOAT32) -> Tensor:
    """max(Σ a · b, 1) by an einsum of two terms."""
    terms, result = equation.split("->")
    x, y = (
        tensor(name, [extents[label] for label in term], dtype)
        for name, term in zip("ab", terms.split(","), strict=True)
    )
    summed = [label for label in extents if label not in result]
    first, second = terms.split(",")

    def at(*i: DimLike) -> Scalar:
        def part(*k: DimLike) -> Scalar:
            place = dict(zip((*result, *summed), (*i, *k), strict=True))
            return x[tuple(place[c] for c in first)] * y[tuple(place[c] for c in second)]

        return apply("max", reduce("sum", [extents[label] for label in summed], part), 1)

    return compute([extents[label] for label in result], at)


def loops_of(result: Tensor) -> list[str]:
    buffer = stored(result).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    return [piece.nest.kind for piece in schedule(buffer.source, Target.host())]


ACROSS = [
    ("nbcdr,rbes->ndesc", {"n": 3, "b": 4, "c": 9, "d": 5, "r": 7, "e": 6, "s": 3}),
    ("kix,jkx->ijx", {"k": 9, "i": 11, "x": 3, "j": 20}),
    ("cabe,dae->bdac", {"c": 3, "a": 4, "b": 17, "e": 33, "d": 12}),
    ("bdec,bac->cdae", {"b": 9, "d": 5, "e": 8, "c": 6, "a": 11}),
    ("xyk,lkzw->zxwyl", {"x": 5, "y": 8, "k": 16, "l": 2, "z": 9, "w": 3}),
]


@pytest.mark.parametrize(("equation", "extents"), ACROSS)
@pytest.mark.parametrize("dtype", [FLOAT32, pytest.param(INT32, marks=pytest.mark.slow)])
@pytest.mark.parametrize("level", LEVELS)
def test_results_that_lie_across_are_products_of_matrices(
    equation: str, extents: dict[str, Any], level: str, dtype: DType
) -> None:
    stream = np.random.default_rng(0)
    terms, result = equation.split("->")
    a, b = (
        stream.integers(-9, 9, [extents[label] for label in term]).astype(dtype.numpy)
        for term in terms.split(",")
    )
    expected = np.maximum(np.einsum(equation, a, b), 1)
    for label in ("", result[0]):
        made = product(equation, {**extents, label: N} if label else extents, dtype)
        assert {"contraction", "convolution"} & {*loops_of(made)}
        sizes = {"N": extents[label]} if label else {}
        for chunks in (1, 3):
            how = {"target": target(level), "chunks": chunks}
            found = compiled(made, {"a": a, "b": b}, sizes, **how)
            np.testing.assert_array_equal(found, expected)


def narrow(columns: int, *, is_dear: bool) -> Tensor:
    """exp(Σ a · b / 64 + c) of a few columns, or without the exponential."""
    a, b = tensor("a", (N, 9), FLOAT32), tensor("b", (9, columns), FLOAT32)
    c = tensor("c", (columns,), FLOAT32)

    def at(i: DimLike, j: DimLike) -> Scalar:
        total = reduce("sum", 9, lambda k: a[i, k] * b[k, j]) * (1 / 64) + c[j]
        return apply("exp", total) if is_dear else total

    return compute((N, columns), at)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_made_of_few_columns_fills_vectors(level: str) -> None:
    assert loops_of(narrow(3, is_dear=True))[-1] == "map"
    assert loops_of(narrow(3, is_dear=False))[-1] == "contraction"
    assert loops_of(narrow(48, is_dear=True))[-1] == "contraction"
    stream = np.random.default_rng(0)
    for rows in (1, 70):
        feeds = {
            name: stream.integers(-9, 9, shape).astype(np.float32)
            for name, shape in (("a", (rows, 9)), ("b", (9, 3)), ("c", 3))
        }
        expected = np.exp(feeds["a"] @ feeds["b"] / 64 + feeds["c"])
        how = {"target": target(level), "chunks": 2}
        found = compiled(narrow(3, is_dear=True), feeds, {"N": rows}, **how)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def rest_of(equation: str, **extents: DimLike) -> list[Store] | None:
    buffer = stored(product(equation, extents)).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    return reordered(buffer.source)


def test_few_rows_columns_or_terms_are_not_worth_the_way_through_memory() -> None:
    assert rest_of("ki,kj->ji", k=9, i=40, j=40) is not None
    assert rest_of("ki,kj->ji", k=7, i=40, j=40) is None
    assert rest_of("ki,kj->ji", k=9, i=7, j=40) is None
    assert rest_of("ki,kj->ji", k=9, i=40, j=7) is None


def test_windows_are_no_factors_of_matrices() -> None:
    x, w = tensor("x", (9, 40), FLOAT32), tensor("w", (32, 9, 9), FLOAT32)

    def at(place: DimLike, row: DimLike) -> Scalar:
        return reduce("sum", (9, 9), lambda c, k: x[c, place + k] * w[row, c, k])

    buffer = stored(compute((32, 32), at)).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    assert reordered(buffer.source) is None
