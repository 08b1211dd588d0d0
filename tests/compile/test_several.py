"""Products with one of several stored matrices, of which data say the number."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.cost import accesses
from fornix.compile.schedule import schedule
from fornix.dtype import FLOAT32, INT64
from fornix.errors import Fail
from fornix.ir.dim import DimLike
from fornix.ir.loops import (
    Constant,
    Scalar,
    Store,
    Tensor,
    compute,
    constant,
    gathered,
    reduce,
    tensor,
)
from fornix.ir.loops.tensor import stored
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner, check

rng = np.random.default_rng(41)


def several(rows: int, terms: int, columns: int, *, is_nested: bool = False) -> Tensor:
    """a[T, M, K] times w[number[T], N, K] transposed, of three matrices w.

    Where it ``is_nested``, the number is number[which[T]].
    """
    w = constant(rng.standard_normal((3, columns, terms)).astype(np.float32), "w")
    a, number = tensor("a", (5, rows, terms), FLOAT32), tensor("number", (5,), INT64)
    which = tensor("which", (5,), INT64)

    def at(t: DimLike, i: DimLike, j: DimLike) -> Scalar:
        own = gathered(number[gathered(which[t], 5) if is_nested else t], 3)
        return reduce("sum", terms, lambda k: a[t, i, k] * w[own, j, k])

    return compute((5, rows, columns), at)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("rows", "terms", "columns"), [(8, 33, 70), (1, 20, 64), (3, 7, 48), (5, 16, 130), (4, 9, 5)]
)
def test_each_product_reads_its_own_matrix(rows: int, terms: int, columns: int, level: str) -> None:
    a = rng.standard_normal((5, rows, terms)).astype(np.float32)
    inputs = {"a": a, "number": np.array([2, 0, 1, 2, 2])}
    check(several(rows, terms, columns), inputs, target=target(level))


@pytest.mark.parametrize("level", LEVELS)
def test_the_number_of_a_matrix_may_be_chosen_itself(level: str) -> None:
    a = rng.standard_normal((5, 8, 33)).astype(np.float32)
    inputs = {"a": a, "number": np.array([2, 0, 1, 2, 0]), "which": np.array([4, 1, 1, 0, 2])}
    check(several(8, 33, 70, is_nested=True), inputs, target=target(level))


@pytest.mark.parametrize("wrong", ["number", "which"])
def test_numbers_out_of_range_are_errors_wherever_they_stand(wrong: str) -> None:
    inputs = {name: np.zeros(5, np.int64) for name in ("number", "which")}
    inputs[wrong][:] = 7
    y = stored(several(8, 32, 64, is_nested=True))
    with pytest.raises(Fail, match="index: "):
        Runner([y], chunks=3).run({"a": np.zeros((5, 8, 32), np.float32), **inputs})


@pytest.mark.parametrize("is_nested", [False, True])
def test_all_matrices_are_packed_ahead(*, is_nested: bool) -> None:
    buffer = stored(several(8, 32, 64, is_nested=is_nested)).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    packed, product = schedule(buffer.source, Target.host())
    assert product.nest.kind == "contraction"
    assert all(isinstance(x.buffer.source, Constant) for x in accesses([packed.stores[0].value]))
