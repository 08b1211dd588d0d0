"""Scans whose elements go on from themselves alone keep what they hand on in registers."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.compile.nest import Nest
from fornix.compile.schedule.running import running_nest
from fornix.compile.target import Target
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike
from fornix.ir.loops import Scan, Tensor, compute, scan, tensor
from tests.compile.sizes import computed


def nest_of(history: Tensor) -> Nest | None:
    assert history.buffer is not None
    assert isinstance(history.buffer.source, Scan)
    return running_nest(history.buffer.source, Target.host())


def sums(x: Tensor, step: int) -> Tensor:
    """Running sums over the first axis; each element goes on from the one ``step`` beside it."""
    count = x.shape[1]

    def moved(t: DimLike, so_far: Tensor) -> Tensor:
        if step:
            return compute([count], lambda i: so_far[(i + step) % count] + x[t, i])
        return compute([count], lambda i: so_far[i] + x[t, i])

    zeros = compute([count], lambda i: x[0, i] * 0.0)
    return scan(x.shape[0], [zeros], moved)[0]


def test_elements_that_go_on_from_themselves_are_chunks() -> None:
    nest = nest_of(sums(tensor("x", (9, 1000), FLOAT32), 0))
    assert nest is not None
    assert nest.parallel == 16


def test_elements_that_go_on_from_others_wait_for_all_of_a_step() -> None:
    assert nest_of(sums(tensor("x", (9, 1000), FLOAT32), 1)) is None


@pytest.mark.parametrize("shape", [(1,), (7,), (1000,), (1, 5), (9, 1), (33, 100), (4, 3, 70)])
@pytest.mark.parametrize("attributes", ["", "<exclusive=1>", "<reverse=1>"])
def test_running_sums_along_the_first_axis(shape: tuple[int, ...], attributes: str) -> None:
    x = np.random.default_rng(0).integers(-9, 9, shape).astype(np.float32)
    turned = x[::-1] if "reverse" in attributes else x
    wanted = np.cumsum(turned, 0) - (turned if "exclusive" in attributes else 0)
    wanted = wanted[::-1] if "reverse" in attributes else wanted
    found = computed(f"y = CumSum{attributes}(x, axis)", {"x": x}, "int64 axis = {0}")
    np.testing.assert_array_equal(found, wanted)
