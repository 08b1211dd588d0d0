"""Places that are compared with an end: bytes are so many in a vector that lanes are counted."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.dtype import BOOL, FLOAT16, FLOAT32, INT8, INT64, DType
from fornix.ir.dim import DimLike
from fornix.ir.loops import Scalar, apply, compute, index, select, tensor
from tests.compile.levels import EVERY, target
from tests.compile.native import check

COMPARED = {
    "before": lambda i, j: index(j) < index(i),
    "up to": lambda i, j: index(j) <= index(i + 3),
    "behind": lambda i, j: index(i) < index(j),
    "from": lambda i, j: index(2 * i - 5) <= index(j),
    "twice": lambda i, j: index(i) < index(2 * j),
    "back": lambda i, j: index(9 - j) <= index(i),
    "all": lambda i, j: index(j - i) < 2**40,
    "none": lambda i, j: index(j - i) <= -(2**40),
    "far": lambda i, j: index(j) < 2**63 - 1,
    "number": lambda _, j: index(j) < 70,
    "both": lambda i, j: (index(j) < index(i + 64)) & (index(i) <= index(j)),
    "at": lambda i, j: apply("eq", index(j), index(i + 3)),
    "at back": lambda i, j: apply("eq", index(90 - j), index(2 * i)),
    "nowhere": lambda i, j: apply("eq", index(j - i), 2**40),
}
LOADED = {
    "before": lambda place, end: place < end,
    "up to": lambda place, end: place <= end,
    "behind": lambda place, end: end < place,
    "from": lambda place, end: end <= place,
    "at": lambda place, end: apply("eq", place, end),
}
ENDS = [-(2**63), -1, 0, 1, 63, 64, 100, 2**63 - 1]


@pytest.mark.parametrize("level", EVERY)
@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("dtype", [BOOL, INT8, FLOAT16, FLOAT32], ids=str)
def test_elements_are_kept_where_places_say(dtype: DType, name: str, level: str) -> None:
    for m, n in ((1, 1), (3, 63), (5, 64), (9, 200), (70, 129)):
        data = (np.random.default_rng(0).integers(1, 100, (m, n)) % 7).astype(dtype.numpy)
        x = tensor("x", data.shape, dtype)

        def at(i: DimLike, j: DimLike) -> Scalar:
            return select(COMPARED[name](i, j), x[i, j], False)  # noqa: B023 - called at once

        check(compute((m, n), at), {"x": data}, target=target(level), chunks=2)


@pytest.mark.parametrize("level", EVERY)
@pytest.mark.parametrize("name", LOADED)
@pytest.mark.parametrize("dtype", [BOOL, FLOAT16], ids=str)
def test_ends_that_data_tell_are_those_of_lanes(dtype: DType, name: str, level: str) -> None:
    ends = np.array(ENDS, np.int64)
    data = (np.random.default_rng(0).integers(1, 100, (len(ends), 150)) % 7).astype(dtype.numpy)
    x, end = tensor("x", data.shape, dtype), tensor("end", ends.shape, INT64)
    for slope in (1, -1):

        def at(i: DimLike, j: DimLike) -> Scalar:
            is_kept = LOADED[name](index(slope * j + 20), end[i])  # noqa: B023 - called at once
            return select(is_kept, x[i, j], False)

        check(compute(data.shape, at), {"x": data, "end": ends}, target=target(level), chunks=2)
