from __future__ import annotations

import pytest

from fornix.compile.bounds import Bound
from fornix.ir.dim import Dim, DimLike, maximum, minimum, symbol
from fornix.ir.dim.expression import Symbol
from fornix.ir.loops import Variable

N = Symbol("N", 1)


def axis(extent: DimLike) -> Dim:
    return Variable("i", extent).dim


def test_an_axis_read_whole_is_proved_for_every_extent() -> None:
    n = symbol("N", 1)
    assert Bound(axis(n) * 4 + axis(4), n * 4).is_proved
    assert not Bound(axis(64), n).is_proved


@pytest.mark.parametrize(("extent", "holds"), [(64, True), (65, True), (63, False), (1, False)])
def test_an_axis_read_by_another_extent_holds_where_it_is_long_enough(
    extent: int, holds: bool
) -> None:
    assert Bound(axis(64), symbol("N", 1)).holds({N: extent}) is holds


def test_a_variable_whose_extent_is_symbolic_gets_its_number() -> None:
    bound = Bound(axis(symbol("N", 1)) + 2, 8)
    assert bound.holds({N: 6})
    assert not bound.holds({N: 7})


def test_nothing_is_read_along_axes_that_are_empty_nor_divided_by_them() -> None:
    n = symbol("N")
    i = axis(2 * n)
    repeated = Bound(i - i // n * n, n)
    assert repeated.holds({Symbol("N", 0): 0})
    assert repeated.holds({Symbol("N", 0): 5})
    assert not Bound(repeated.address + 1, n).holds({Symbol("N", 0): 5})


def test_divisions_are_tried_one_by_one() -> None:
    m, c = axis(6), axis(2)
    grouped = m // 3 * 2 + c  # the channel that filter m of two groups reads
    assert Bound(grouped, 4).holds({})
    assert not Bound(grouped, 3).holds({})
    wrapped = m - 4 * (m // 4)
    assert Bound(wrapped, 4).holds({})
    assert not Bound(wrapped - 1, 4).holds({})
    assert Bound(minimum(m * m, 10), 11).holds({})
    assert not Bound(minimum(m * m, 11), 11).holds({})


def test_divisions_of_different_axes_are_tried_apart() -> None:
    rows, columns, planes = (Variable(name, 4000).dim for name in "abc")
    place = planes // 2 * 2000**2 + rows // 2 * 2000 + columns // 2
    assert Bound(place, 2000**3).holds({})
    assert not Bound(place, 2000**3 - 1).holds({})
    assert not Bound(place - 1, 2000**3).holds({})
    shared = rows // 2 * 2000 - (rows + columns) // 4
    assert not Bound(shared, 2000**3).holds({})


H, W = ((symbol(name) + 31) // 32 for name in "HW")  # a level of a pyramid, and half of it
HALF_H, HALF_W = ((symbol(name) + 63) // 64 for name in "HW")


def only(address: DimLike, elements: DimLike) -> bool:
    """Whether ``address`` is proved to be inside ``elements``, and none behind it is."""
    return Bound(address, elements).is_proved and not Bound(address + 1, elements).is_proved


def test_axes_of_which_each_place_is_read_again_are_proved_for_every_extent() -> None:
    place = axis(2 * H) // 2 * W + axis(2 * W) // 2
    assert only(axis(3) * H * W + place, 3 * H * W)
    assert not Bound(axis(2 * H + 1) // 2 * W, H * W).is_proved


def test_axes_of_which_every_other_place_is_read_are_proved_for_every_extent() -> None:
    place = axis(HALF_H) * 2 * W + axis(HALF_W) * 2
    assert only(axis(3) * H * W + place, 3 * H * W)


def test_axes_as_long_as_some_together_are_proved_for_every_extent() -> None:
    levels = [minimum(1000, k * H * W) for k in (3, 12, 48)]
    whole = sum(levels, minimum(1000, 3 * HALF_H * HALF_W))
    assert only(axis(2) * whole + axis(whole), 2 * whole)


def test_parts_of_counts_that_divide_evenly_are_proved_where_there_is_such_a_part() -> None:
    places = 5 * H * W + HALF_H * HALF_W
    anchors = 9 * places
    each = anchors // places  # has no value where there are no places
    start, end = (minimum(anchors, n * each * H * W) for n in (4, 5))
    assert only(
        axis(maximum(0, end - start)) + minimum(anchors, start + 9 * (places - 5 * H * W)), anchors
    )


def test_what_cannot_be_tried_is_not_claimed() -> None:
    assert not Bound(axis(3) * axis(4) // 5 * axis(symbol("N", 1)), 100).holds({})


def test_parts_of_extents_that_are_numbers_are_tried_beside_open_ones() -> None:
    n, column, channel = symbol("N"), axis(8), axis(8)
    of_head = axis(n) * 24 + axis(3) * 8 + column // 4 * 4 + axis(4)
    assert Bound(of_head, n * 24).is_proved_in_parts
    assert not Bound(of_head + 1, n * 24).is_proved_in_parts
    assert not Bound(of_head - 1, n * 24).is_proved_in_parts
    block = channel // 2
    of_pixel = axis(n) * 16 + (channel - 2 * block) * 8 + block // 2 * 4 + (block - block // 2 * 2)
    assert Bound(of_pixel, n * 16 - 2).is_proved_in_parts  # 8 + 4 + 1 is the greatest of 16
    assert not Bound(of_pixel, n * 16 - 3).is_proved_in_parts


def test_parts_of_open_extents_are_no_numbers() -> None:
    n = symbol("N")
    assert not Bound(axis(n) // 2 * 4, n * 2 - 3).is_proved_in_parts
    assert not Bound(axis(8) // 3 * axis(n), n * 2 - 2).is_proved_in_parts
