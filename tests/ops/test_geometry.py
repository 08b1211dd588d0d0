from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fornix.errors import ShapeError
from fornix.ir.dim import DimLike, known, maximum, minimum, symbol
from fornix.ops.geometry import (
    broadcast_shapes,
    normalize_axes,
    normalize_axis,
    row_major,
    unflattened,
)

N, S = symbol("N"), symbol("S")
EXTENTS: list[DimLike] = [1, 3, N, S, N + 1, 2 * N, minimum(N, 4), N - 2, maximum(N - 2, 0)]


@given(st.lists(st.sampled_from(EXTENTS), min_size=2, max_size=3))
def test_broadcast_never_claims_what_numpy_contradicts(extents: list[DimLike]) -> None:
    try:
        [found] = broadcast_shapes(*([extent] for extent in extents))
    except ShapeError:
        found = None
    for n, s in itertools.product(range(6), repeat=2):
        values = {"N": n, "S": s}
        bound = [e if isinstance(e, int) else cast("int", e.bind(values)) for e in extents]
        if min(bound) < 0:
            continue
        try:
            [wanted] = np.broadcast_shapes(*((extent,) for extent in bound))
        except ValueError:
            continue
        assert found is not None, f"{extents} broadcast for {values}"
        claim = found if isinstance(found, int) else known(found.bind(values))
        assert claim in {None, wanted}


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([[N, 3], [3]], "N, 3"),
        ([[1, S], [N, 1]], "N, S"),
        ([[N], [4]], "4"),
        ([[S], [minimum(S, 512)]], "S"),
        ([[N // 8], [minimum(N // 8, 1)]], "N//8"),
        ([[minimum(N // 8, 1)], [1], [N // 8]], "N//8"),
        ([[N - 2], [maximum(N - 2, 0)]], "N - 2"),
        ([[], [N]], "N"),
    ],
)
def test_broadcast_keeps_what_is_certain(shapes: Any, expected: str) -> None:
    assert ", ".join(map(str, broadcast_shapes(*shapes))) == expected


def test_extents_that_may_be_one_stay_open() -> None:
    [found] = broadcast_shapes([N], [S])
    assert not isinstance(found, int)
    assert found.unknowns == ("broadcast of N and S, either of which may be 1",)


def test_a_slice_by_an_expression_that_may_be_empty_stays_open() -> None:
    [found] = broadcast_shapes([N // 8], [minimum(N // 8, S)])
    assert not isinstance(found, int)
    assert found.unknowns


def test_extents_that_differ_are_named() -> None:
    with pytest.raises(ShapeError, match=r"got \[N, 3\] and \[4\]: 3 and 4 differ"):
        broadcast_shapes([N, 3], [4])


def test_axes_count_from_either_end() -> None:
    assert normalize_axis(-1, 3) == 2
    assert normalize_axes([0, -1], 3) == (0, 2)


@pytest.mark.parametrize(
    ("axis", "rank", "message"),
    [
        (3, 3, r"axis must be in \[-3, 2\] for rank 3, got 3"),
        (0, 0, "axis must be in no value, the tensor being a scalar for rank 0, got 0"),
    ],
)
def test_an_axis_out_of_range_is_refused(axis: int, rank: int, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        normalize_axis(axis, rank)


def test_axes_are_named_once() -> None:
    with pytest.raises(ShapeError, match=r"axes must name each axis once, got \[1, 1\]"):
        normalize_axes([1, -1], 2)


@given(st.lists(st.integers(1, 4), max_size=4), st.data())
def test_a_place_is_found_again_from_its_address(shape: list[int], data: st.DataObject) -> None:
    place = tuple(data.draw(st.integers(0, extent - 1)) for extent in shape)
    assert unflattened(row_major(place, shape), shape) == place
