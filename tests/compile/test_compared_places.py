"""Places that are compared with an end: bytes are so many in a vector that lanes are counted."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.dtype import BOOL, FLOAT16, FLOAT32, INT8, DType
from fornix.ir.dim import DimLike
from fornix.ir.loops import Scalar, compute, index, select, tensor
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
}


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
