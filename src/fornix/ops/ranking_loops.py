"""Routines that rank: places of elements, the foremost first, of equals those in front.

Elements are keys, signed integers of which the least is foremost (`extremes.sort_key`). A row of
keys is sorted digit by digit; where few places are wanted, a heap holds the foremost ones so far,
and all that are no better than its last are passed over in vectors. All of it is a matter of places
that are in range by themselves, whatever the keys are.
"""

from __future__ import annotations

from fornix.ir.loops.routines import Memory, first_below

DIGIT = 8
"""Bits that one turn of sorting looks at."""
DIGITS = 256
BUCKETS = 2048
"""Rows are cut at one of so many keys before the foremost part of them is sorted: at multiples of a
power of two, from the least key that there is, or may be, to the greatest one."""
SHORT = 32
"""So few places are sorted by insertion."""
FEW, SPARSE = 24, 128
"""More places than ``FEW`` and one in ``SPARSE`` are sorted, not held in a heap."""
LONG_ROW = 512
"""Shorter rows are sorted as they are."""


def select(
    keys: Memory,
    chosen: Memory,
    order: Memory,
    other: Memory,
    counts: Memory,
    start: int,
    to: int,
    extent: int,
    wanted: int,
    bits: int,
    is_float: int,
) -> None:
    """Places of the ``wanted`` foremost keys in their order, by whichever way is shorter.

    Keys of floats take all of their bits, those of integers often few.
    """
    if wanted > FEW + extent // SPARSE:
        select_many(keys, chosen, order, other, counts, start, to, extent, wanted, bits, is_float)
    else:
        select_few(keys, chosen, start, to, extent, wanted)


def select_few(keys: Memory, chosen: Memory, start: int, to: int, extent: int, wanted: int) -> None:
    """The same by a heap in the result, the last of the chosen ones on top."""
    for i in range(wanted):
        chosen[to + i] = i
    for i in range(wanted // 2 - 1, -1, -1):
        sink(keys, chosen, start, to, i, wanted)
    end = start + extent
    found = first_below(keys, start + wanted, end, keys[start + chosen[to]])
    while found < end:
        chosen[to] = found - start
        sink(keys, chosen, start, to, 0, wanted)
        found = first_below(keys, found + 1, end, keys[start + chosen[to]])
    for size in range(wanted - 1, 0, -1):
        chosen[to], chosen[to + size] = chosen[to + size], chosen[to]
        sink(keys, chosen, start, to, 0, size)


def sink(keys: Memory, heap: Memory, start: int, to: int, at: int, size: int) -> None:
    """Let an entry of a heap sink below those that come later."""
    moved = heap[to + at]
    child = 2 * at + 1
    while child < size:
        if child + 1 < size and is_later(keys, start, heap[to + child + 1], heap[to + child]):
            child = child + 1
        if not is_later(keys, start, heap[to + child], moved):
            break
        heap[to + at] = heap[to + child]
        at = child
        child = 2 * at + 1
    heap[to + at] = moved


def is_later(keys: Memory, start: int, one: int, another: int) -> bool:
    """Whether one place comes behind another one."""
    key = keys[start + one]
    other = keys[start + another]
    return key > other or (key == other and one > another)


def select_many(
    keys: Memory,
    chosen: Memory,
    order: Memory,
    other: Memory,
    counts: Memory,
    start: int,
    to: int,
    extent: int,
    wanted: int,
    bits: int,
    is_float: int,
) -> None:
    """The same by sorting the foremost part of the row."""
    count = extent
    if extent < LONG_ROW or 2 * wanted > extent:
        for i in range(extent):
            order[i] = i
    else:
        count = foremost(keys, order, counts, start, extent, wanted, bits, is_float)
    if sort(keys, order, other, counts, start, count):
        for i in range(wanted):
            chosen[to + i] = other[i]
    else:
        for i in range(wanted):
            chosen[to + i] = order[i]


def foremost(
    keys: Memory,
    order: Memory,
    counts: Memory,
    start: int,
    extent: int,
    wanted: int,
    bits: int,
    is_float: int,
) -> int:
    """Places, in their order, of keys up to a bound that ``wanted`` or more reach; how many."""
    end = start + extent
    low = -1 << (bits - 1)
    high = -1 - low
    if is_float == 0:
        low, high = keys[start], keys[start]
        for i in range(start, end):
            low, high = min(low, keys[i]), max(high, keys[i])
    shift = 0 if (high >> 1) - (low >> 1) < BUCKETS // 2 else 1
    while shift > 0 and (high >> shift) - (low >> shift) >= BUCKETS:
        shift += 1
    least = low >> shift
    for i in range(BUCKETS):
        counts[i] = 0
    for i in range(start, end):
        counts[(keys[i] >> shift) - least] += 1
    reached = counts[0]
    bucket = 0
    while reached < wanted:
        bucket += 1
        reached += counts[bucket]
    if bucket == (high >> shift) - least:
        for i in range(extent):
            order[i] = i
        return extent
    bound = (bucket + 1 + least) << shift
    count = 0
    found = first_below(keys, start, end, bound)
    while found < end:
        order[count] = found - start
        count += 1
        found = first_below(keys, found + 1, end, bound)
    return count


def sort(
    keys: Memory, order: Memory, other: Memory, counts: Memory, start: int, count: int
) -> bool:
    """Sort ``count`` places in ``order`` by their keys, equals as they are.

    Gives whether they are in ``other`` now. Digits that all have in common are left out; the last
    one is where the least key and the greatest one are near each other, above and below 0 or not.
    """
    if count <= SHORT:
        insert(keys, order, start, count)
        return False
    first = keys[start + order[0]]
    varying = 0
    low, high = first, first
    for i in range(count):
        key = keys[start + order[i]]
        varying = varying | (key ^ first)
        low, high = min(low, key), max(high, key)
    is_moved = False
    is_last = False
    shift = 0
    while not is_last:
        is_last = (high >> (shift + 1)) - (low >> (shift + 1)) < DIGITS // 2
        least = low >> shift if is_last else 0
        if (varying >> shift) & (DIGITS - 1) != 0:
            distribute(keys, order, other, counts, start, count, shift, least)
            order, other = other, order
            is_moved = not is_moved
        shift += DIGIT
    return is_moved


def insert(keys: Memory, order: Memory, start: int, count: int) -> None:
    """Sort a few places, each put in front of those that come later."""
    for i in range(1, count):
        place = order[i]
        key = keys[start + place]
        at = i
        while at > 0 and keys[start + order[at - 1]] > key:
            order[at] = order[at - 1]
            at -= 1
        order[at] = place


def distribute(
    keys: Memory,
    order: Memory,
    other: Memory,
    counts: Memory,
    start: int,
    count: int,
    shift: int,
    least: int,
) -> None:
    """Bring places from ``order`` to ``other``, by a digit of keys that counts from ``least``."""
    for i in range(DIGITS):
        counts[i] = 0
    for i in range(count):
        counts[((keys[start + order[i]] >> shift) - least) & (DIGITS - 1)] += 1
    total = 0
    for i in range(DIGITS):
        number = counts[i]
        counts[i] = total
        total += number
    for i in range(count):
        place = order[i]
        digit = ((keys[start + place] >> shift) - least) & (DIGITS - 1)
        at = counts[digit]
        other[at] = place
        counts[digit] = at + 1
