"""Routines that find: places that fulfil a condition, distinct elements, boxes that stay.

Like those of `ranking_loops`, they write no further than results have room, whatever the data are.
"""

from __future__ import annotations

from fornix.ir.loops.routines import Memory, first_below
from fornix.ops.ranking_loops import select, sort

DENSE = 5
"""Where more than one of so many elements is wanted, each is looked at on its own."""
NEAR = 2
"""So many times as many boxes as are wanted are looked at first."""
CORNERS = 4
COLUMNS = 3
"""Numbers of a box, and of a row that says which one was selected."""


def list_places(mask: Memory, places: Memory, extent: int, count: int) -> None:
    """Places where ``mask`` is below 0, the first ``count`` of them."""
    found = 0
    at = 0
    if DENSE * count > extent:
        while at < extent and found < count:
            places[found] = at
            found += mask[at] < 0
            at += 1
    else:
        at = first_below(mask, 0, extent, 0)
        while at < extent and found < count:
            places[found] = at
            found += 1
            at = first_below(mask, at + 1, extent, 0)
    while found < count:  # nobody counts more than there are
        places[found] = 0
        found += 1


def list_distinct(
    keys: Memory,
    first: Memory,
    group: Memory,
    counts: Memory,
    number: Memory,
    order: Memory,
    other: Memory,
    digits: Memory,
    extent: int,
    is_sorted: int,
) -> None:
    """Where each distinct key comes first, which one each is, and how often it occurs.

    They are in the order of keys, or, unless it ``is_sorted``, of where they come first.
    """
    for i in range(extent):
        order[i] = i
    if sort(keys, order, other, digits, 0, extent):
        order, other = other, order
    found = 0
    for i in range(extent):
        place = order[i]
        if i == 0 or keys[place] != keys[order[i - 1]]:
            first[found] = place
            counts[found] = 0
            found += 1
        group[place] = found - 1
        counts[found - 1] += 1
    number[0] = found
    if is_sorted == 0:
        renumber(first, group, counts, order, other, extent, found)
    for i in range(found, extent):
        first[i] = 0
        counts[i] = 0


def renumber(
    first: Memory,
    group: Memory,
    counts: Memory,
    names: Memory,
    moved: Memory,
    extent: int,
    found: int,
) -> None:
    """Let groups have numbers in the order in which they occur."""
    for i in range(found):
        moved[i] = counts[i]
    following = 0
    for i in range(extent):
        old = group[i]
        if first[old] == i:
            names[old] = following
            following += 1
        group[i] = names[old]
        counts[names[old]] = moved[old]
    following = 0
    for i in range(extent):
        if group[i] == following:
            first[following] = i
            following += 1


def suppress(
    corners: Memory,
    keys: Memory,
    overlap: Memory,
    rows: Memory,
    number: Memory,
    best: Memory,
    order: Memory,
    other: Memory,
    digits: Memory,
    kept: Memory,
    groups: int,
    classes: int,
    boxes: int,
    limit: int,
    none: int,
    bits: int,
) -> None:
    """Of each class of each image, up to ``limit`` boxes that overlap none with a better score.

    Boxes whose key is ``none`` are never selected. The best ones are looked at first; all others
    only where too few of these stay.
    """
    total = 0
    for row in range(groups):
        start = row * boxes
        image = row // classes
        first = total
        near = min(boxes, NEAR * limit)
        select(keys, best, order, other, digits, start, 0, boxes, near, bits, 1)
        done = 0
        while done < near and total - first < limit and keys[start + best[done]] != none:
            box = best[done]
            one = CORNERS * (image * boxes + box)
            for side in range(CORNERS):
                kept[CORNERS * (total - first) + side] = corners[one + side]
            if is_free(corners, kept, one, total - first, overlap[0]):
                rows[COLUMNS * total] = image
                rows[COLUMNS * total + 1] = row - image * classes
                rows[COLUMNS * total + 2] = box
                total += 1
            done += 1
            if done == near and near < boxes:
                near = boxes
                select(keys, best, order, other, digits, start, 0, boxes, near, bits, 1)
    number[0] = total
    for i in range(COLUMNS * total, COLUMNS * groups * limit):
        rows[i] = 0


def is_free(
    corners: Memory,
    kept: Memory,
    one: int,
    count: int,
    most: float,
) -> bool:
    """Whether the box at ``one`` overlaps none of those ``kept`` by more than ``most``."""
    area = (corners[one + 2] - corners[one]) * (corners[one + 3] - corners[one + 1])
    for k in range(count):
        another = CORNERS * k
        low = max(corners[one], kept[another])
        height = min(corners[one + 2], kept[another + 2]) - low
        if height > 0.0:
            left = max(corners[one + 1], kept[another + 1])
            width = min(corners[one + 3], kept[another + 3]) - left
            shared = height * width
            other_height = kept[another + 2] - kept[another]
            other_area = other_height * (kept[another + 3] - kept[another + 1])
            is_proper = width > 0.0 and shared > 0.0 and area > 0.0 and other_area > 0.0
            if is_proper and shared / (area + other_area - shared) > most:
                return False
    return True
