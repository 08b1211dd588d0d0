"""Routines that count n-grams of words that are given one by one, as texts or as whole numbers.

They work as those of `routines` do, and with the same tables.
"""

from __future__ import annotations

from typing import Any

from fornix.compile.text.routines import (
    COUNT,
    DATA,
    ENTRIES,
    EXTENTS,
    GET_ITEM,
    IDS,
    LAST_ENTRY,
    LONGEST,
    NONE,
    PLACES,
    RANK,
    ROOM,
    SCALE,
    SEEN,
    TASK,
    WIDTH,
    answer,
    are_objects,
    forget,
    grams_from,
    item,
    mixed,
    noted,
    number_each,
)
from fornix.ir.loops.routines import Memory, after, invoke, memory_at

COUNTS, WEIGHTS_OF_FOUND, COUNTS_TIMES_WEIGHTS = range(3)
"""What stands where an n-gram has been found."""
TWO_AXES = 2


def serve_grams(table: Memory, result: Memory, octets: Memory, floats: Memory, given: int) -> None:
    """Count the n-grams in each row of an array of words, in one of zeros.

    ``result`` is the counts, or None for what is left to the caller. The two in the middle tell
    types of elements and nothing else.
    """
    words, counted = item(table, given, 0), item(table, given, 1)
    extents = memory_at(words[EXTENTS], table)
    source, counts = memory_at(words[DATA], table), memory_at(counted[DATA], floats)
    numbers = memory_at(table[IDS], table)
    rows, length = 0, 0
    if words[RANK] & 255 == TWO_AXES:
        rows, length = extents[0], extents[1]
    are_texts = are_objects(table, words)
    if are_texts:
        forget(table)
    row, is_done = 0, length <= table[ROOM]
    while row < rows and is_done:
        own = after(source, row * length)
        if are_texts:
            is_done = number_each(table, octets, own, numbers, length) == length
        else:
            for at in range(length):
                numbers[at] = number_of(table, own[at])
        if is_done:
            count_row(table, after(counts, row * table[WIDTH]), floats, numbers, length)
            row += 1
    result[0] = 0
    answer(table, result, invoke(table[GET_ITEM], given, 1, 0) if is_done else table[NONE])


def number_of(table: Memory, word: int) -> Any:
    """The number of a word that is a whole number; how many words there are if it is none."""
    entries = memory_at(table[ENTRIES], table)
    at = mixed(word, 0) & table[LAST_ENTRY]
    while entries[2 * at + 1] >= 0 and entries[2 * at] != word:
        at = (at + 1) & table[LAST_ENTRY]
    number = entries[2 * at + 1]
    return number if number >= 0 else table[COUNT]


def count_row(table: Memory, counts: Memory, floats: Memory, numbers: Memory, length: int) -> None:
    """Count the n-grams of a row, and weight them if that is asked for."""
    seen, places = memory_at(table[SEEN], table), memory_at(table[PLACES], table)
    found = 0
    for first in range(length):
        if numbers[first] < table[COUNT]:
            if table[LONGEST] == 1:
                found = noted(counts, seen, places[numbers[first]], found)
            else:
                found = grams_from(table, counts, seen, numbers, first, length, found)
    if table[TASK] != COUNTS:
        weights = memory_at(table[SCALE], floats)
        for k in range(found):
            place = seen[k]
            if table[TASK] == WEIGHTS_OF_FOUND:
                counts[place] = weights[place]
            else:
                counts[place] = counts[place] * weights[place]
