"""Routines that tell texts apart: which are equal, where each stands first, how often it occurs."""

from __future__ import annotations

from fornix.compile.text.routines import (
    COUNT,
    DATA,
    DETOURS,
    ENTRIES,
    EXTENTS,
    GET_ITEM,
    KEYS,
    LAST_ENTRY,
    NONE,
    answer,
    are_objects,
    bytes_of,
    data_of,
    elements,
    entry_of,
    item,
    kind_at,
    seed_of,
)
from fornix.ir.loops.routines import Memory, invoke, memory_at

FAR = 16
"""Entries that are passed for each text, at most: fewer than two are, unless texts are made so."""


def tell_apart(table: Memory, result: Memory, octets: Memory, given: int) -> None:
    """Number texts in the order in which they come first.

    Given are the texts, arrays for their numbers, for places of the first and for counts, and two
    for the table: entries, all of which are free, and keys. Places begin with how many there are,
    or with -1 if they are more than half the entries. Anyone can make texts that all have the same
    entry: those are left, for Python hashes in a way that nobody can foresee.
    """
    texts, entries = item(table, given, 0), item(table, given, 4)
    count = elements(table, texts) if are_objects(table, texts) else -1
    table[ENTRIES], table[KEYS] = entries[DATA], item(table, given, 5)[DATA]
    table[LAST_ENTRY], table[COUNT] = memory_at(entries[EXTENTS], table)[0] - 1, 0
    table[DETOURS] = 0
    objects, numbers = memory_at(texts[DATA], table), memory_at(item(table, given, 1)[DATA], table)
    places = memory_at(item(table, given, 2)[DATA], table)
    counts = memory_at(item(table, given, 3)[DATA], table)
    at = 0
    while at < count and 2 * table[COUNT] <= table[LAST_ENTRY]:
        before, number = table[COUNT], number_of(table, octets, objects[at])
        if number < 0 or table[DETOURS] > FAR * (count + FAR):
            break
        if number == before:
            places[number + 1] = at
            counts[number] = 0
        counts[number] += 1
        numbers[at] = number
        at += 1
    places[0] = table[COUNT] if at == count else 0 - 1
    is_told = at == count or 2 * table[COUNT] > table[LAST_ENTRY]
    answer(table, result, invoke(table[GET_ITEM], given, 2, 0) if is_told else table[NONE])


def number_of(table: Memory, octets: Memory, text: int) -> int:
    """The number of a text, which is the next one if none equals it so far; -1 if it is no text."""
    kind, number = kind_at(table, text), 0 - 1
    if kind >= 0:
        start, size = data_of(table, text, kind), bytes_of(table, text, kind)
        seed = seed_of(table, octets, start, size, kind, 0)
        at = entry_of(table, octets, seed, start, size, kind, 0)
        table[DETOURS] += (at - seed) & table[LAST_ENTRY]
        entries = memory_at(table[ENTRIES], table)
        number = entries[2 * at + 1]
        if number < 0:
            number = table[COUNT]
            keys = memory_at(table[KEYS], table)
            keys[2 * number], keys[2 * number + 1] = start, size * 4 + kind
            entries[2 * at], entries[2 * at + 1] = seed, number
            table[COUNT] = number + 1
    return number
