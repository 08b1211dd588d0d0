from __future__ import annotations

from unittest.mock import patch

from hypothesis import given

from fornix.dtype import FLOAT32
from fornix.ir.dim import Dim, DimLike, bounds, prove, symbol
from fornix.ir.dim.expression import Atom
from fornix.ir.dim.refute import SIZES, is_refuted
from fornix.ir.loops import Buffer, Substitution, Variable, load, substitute_scalar
from tests.ir.test_dim import FUZZ, PAIRS, Pair, meaning

N = symbol("N")


@FUZZ
@given(PAIRS)
def test_what_is_refuted_is_negative_somewhere(pair: Pair) -> None:
    found = [meaning(pair, dict.fromkeys("NMPQ", size)) for size in SIZES]
    if is_refuted(pair.dim, ()):
        assert any(value is not None and value < 0 for value in found)


@FUZZ
@given(PAIRS)
def test_what_is_refuted_was_never_proved(pair: Pair) -> None:
    if not isinstance(pair.dim, Dim):
        return
    axis = Variable("i", pair.dim)
    present = frozenset({axis})
    for statement in (pair.dim, pair.dim - 3 - axis.dim, 2 * axis.dim - pair.dim + 1):
        if isinstance(statement, Dim):
            with patch.object(prove, "is_refuted", lambda *_: False):
                is_proved = prove._proves_with.__wrapped__(statement, present)
            assert not (is_proved and is_refuted(statement, present))


def test_a_variable_is_somewhere_between_its_ends() -> None:
    axis = Variable("i", N)
    assert is_refuted(axis.dim - 3, {axis})
    assert is_refuted(N - axis.dim - 2, {axis})
    assert not is_refuted(N - axis.dim - 1, {axis})
    assert not is_refuted(axis.dim, {axis})


def test_nothing_is_refuted_where_a_variable_has_no_value() -> None:
    assert is_refuted(N - 5, ())
    assert not is_refuted(N - 5, {Variable("i", N - 50)})
    never = Variable("i", N - 10 * max(SIZES))
    assert not is_refuted(-1 - never.dim, {never})


def test_bounds_of_symbols_hold_where_they_are_refuted() -> None:
    few = symbol("F", least=2, most=4)
    assert bounds(few) == (2, 4)
    assert is_refuted(few - 3, ())
    assert not is_refuted(few - 2, ())
    assert not is_refuted(4 - few, ())


def test_parts_in_common_are_replaced_as_they_are_one_by_one() -> None:
    i, j = Variable("i", N), Variable("j", 8)
    a, b = (load(Buffer(name, (N, 8), FLOAT32), i.dim * 8 + j.dim) for name in "ab")
    values: dict[Atom, DimLike] = {i: j.dim + 1}
    both = Substitution(values)
    for e in (a + b, a * b, a, a + b):
        assert both.of(e) is substitute_scalar(e, values)
