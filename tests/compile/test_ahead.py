from __future__ import annotations

import dataclasses

import pytest

from fornix.compile import Target
from fornix.compile.schedule.ahead import shares
from fornix.dtype import FLOAT32, UINT32, DType
from fornix.ir.dim import symbol
from fornix.ir.dim.expression import substitute
from fornix.ir.loops import Buffer, Load, Variable, load

TARGET = dataclasses.replace(Target.host(), l2_bytes=1 << 20)
LINE = 16
"""Elements of four bytes."""
START = 1000 * LINE


def weights(dtype: DType = FLOAT32) -> Load:
    e = load(Buffer("w", (1 << 20,), dtype), 0)
    assert isinstance(e, Load)
    return e


def asked(
    begin: int, rows: int, height: int, terms: int, width: int, at_once: int = 1
) -> list[set[int]]:
    """The lines that each tile of that height asks for, from the first row on."""
    row, k = Variable("m", symbol("rows", least=1)), Variable("k", terms)
    of_turn = k.dim, at_once
    lines = shares(weights(), (START, terms, width), row, (height, rows), of_turn, TARGET)
    found = []
    for first in range(begin, begin + rows - height + 1, height):
        places = {
            substitute(at, {row: first, k: t}, {})
            for _, at in lines
            for t in range(0, terms, at_once)
        }
        found.append({place // LINE for place in places if isinstance(place, int)})
    return found


@pytest.mark.parametrize("rows", [28, 56, 112, 1400])
@pytest.mark.parametrize(("terms", "width"), [(64, 32), (100, 48), (96, 16)])
def test_tiles_share_the_next_panel(rows: int, terms: int, width: int) -> None:
    found = asked(0, rows, 14, terms, width)
    first, count = START // LINE, -(-terms * width // LINE)
    lines = set().union(*found)
    assert set(range(first, first + count - 1)) <= lines
    # A term asks for one element at least, so that of many rows each asks for some lines again.
    most = max(count * 14 / rows, terms / LINE)
    assert max(map(len, found)) <= 1.5 * most + 2


@pytest.mark.parametrize("rows", [64, 128, 768])
def test_steps_of_several_terms_ask_for_what_these_would(rows: int) -> None:
    one, several = (asked(0, rows, 32, 384, 32, n) for n in (1, 16))
    assert several == one


@pytest.mark.parametrize("rows", [0, 48, 96])
def test_rows_that_follow_ask_once_more(rows: int) -> None:
    found = set().union(*asked(rows, 48, 8, 64, 48))
    first = START // LINE
    assert found == set(range(first, first + 64 * 48 // LINE))


@pytest.mark.parametrize(("rows", "terms"), [(27, 64), (128, 4096)])
def test_few_rows_and_large_panels_ask_for_nothing(rows: int, terms: int) -> None:
    row, k = Variable("m", rows), Variable("k", terms)
    assert shares(weights(UINT32), (START, terms, 48), row, (14, rows), (k.dim, 1), TARGET) == ()
