from __future__ import annotations

import random

import pytest

from fornix.compile import machine as words
from fornix.compile.program import support
from fornix.ir.dim import DimLike, maximum, minimum, symbol, unknown
from fornix.runtime.providers import NotAsCompiled
from fornix.runtime.sizing.formulas import Evaluator, Formulas

NAMES = ("N", "M", "K")


def drawn(random_: random.Random, depth: int) -> DimLike:
    """Some expression of N, M and K."""
    if depth == 0:
        number = random_.randint(-9, 9)
        return symbol(random_.choice(NAMES), 1) if random_.random() < 0.5 else number
    one, other = drawn(random_, depth - 1), drawn(random_, depth - 1)
    kind = random_.randrange(5)
    if kind == 0:
        return one + other
    if kind == 1:
        return one * other
    if kind == 2:
        return one // random_.randint(1, 7)
    return minimum(one, other) if kind == 3 else maximum(one, other)


@pytest.mark.parametrize("seed", range(20))
def test_dims_are_what_binding_their_symbols_gives(seed: int) -> None:
    random_ = random.Random(seed)
    dims = [drawn(random_, 3) for _ in range(20)]
    evaluator = Evaluator(support().machine, dims)
    for _ in range(10):
        extents = {name: random_.randint(1, 1000) for name in NAMES}
        wanted = [d if isinstance(d, int) else d.bind(extents) for d in dims]
        found = evaluator(extents)
        assert found is not None
        assert found.tolist() == wanted


def test_numbers_beyond_64_bits_are_no_result() -> None:
    evaluator = Evaluator(support().machine, [symbol("N", 1) * symbol("M", 1), 3])
    assert evaluator({"N": 1 << 31, "M": 1 << 31}) is not None
    assert evaluator({"N": 1 << 32, "M": 1 << 31}) is None
    with pytest.raises(NotAsCompiled, match="beyond what native code counts to"):
        Evaluator(support().machine, [symbol("N", 1) + (1 << 64)])


def test_what_only_a_run_tells_is_no_formula() -> None:
    with pytest.raises(NotAsCompiled, match="no extent of a run"):
        Evaluator(support().machine, [unknown("data say") + 1])


def test_checks_end_what_does_not_hold() -> None:
    n, m = symbol("N", 1), symbol("M", 1)
    evaluator = Evaluator(support().machine, [n], equal=[(n, 2 * m)], reach=[(m, 3)])
    for extents, holds in (((6, 3), True), ((6, 4), False), ((4, 2), False), ((8, 4), True)):
        assert (evaluator({"N": extents[0], "M": extents[1]}) is not None) is holds


def test_what_numbers_alone_decide_needs_no_instruction() -> None:
    formulas = Formulas()
    a = formulas.apply(words.MULTIPLY, formulas.number(6), formulas.number(7))
    n = formulas.symbol("N")
    assert formulas.known(a) == 42
    assert formulas.apply(words.ADD, n, formulas.number(0)) == n
    assert formulas.apply(words.MULTIPLY, formulas.number(1), n) == n
    assert not formulas.code
