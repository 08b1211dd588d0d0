"""What routines on texts are called by; and dictionaries and names, which they make.

They work as those of `routines` do, and with the same tables.
"""

from __future__ import annotations

from fornix.compile.text.distinct import tell_apart
from fornix.compile.text.routines import (
    AS_NUMBER,
    CLASS,
    CLEAR_ERROR,
    COUNT,
    DATA,
    DOUBLE_CLASS,
    EXTENTS,
    FLOAT_CLASS,
    FROM,
    GET_ITEM,
    GET_VALUE,
    IS_LINKED,
    IS_WIDE,
    ITEMS,
    KEEP,
    KEY_CLASS,
    KEYS,
    LOW,
    MAKE_MAPS,
    NAME,
    NAMES,
    NEW_DICT,
    NEW_FLOAT,
    NEW_LIST,
    NONE,
    NUMBER,
    PART,
    PLACE,
    PUT_KEY,
    RELEASE,
    ROWS,
    SET_ITEM,
    SINGLE_CLASS,
    SIZE,
    TASK,
    TELL_APART,
    TO,
    VALUE,
    VECTORIZE,
    WIDTH,
    answer,
    count_rows,
    elements,
    forget,
    item,
    number_each,
    number_texts,
)
from fornix.ir.loops.routines import Memory, invoke, invoke_with, memory_at, narrow
from fornix.ir.loops.routines import wide as wide_of


def serve(
    table: Memory, result: Memory, octets: Memory, floats: Memory, wide: Memory, given: int
) -> None:
    """Do what ``table`` says with a list of arrays; ``result`` is an object for the caller.

    The three in the middle tell types of elements and nothing else. A table that is linked says
    itself where its operands lie; then the result is 0, or 1 for what is left to the caller.
    """
    task = table[TASK]
    result[0] = 0
    if table[IS_LINKED] != 0:
        result[0] = 1 - serve_linked(table, octets, floats, wide)
    elif task == NUMBER:
        number_texts(table, result, octets, given)
    elif task == MAKE_MAPS:
        make_maps(table, result, floats, given)
    elif task == NAME:
        name_numbers(table, result, given)
    elif task == VECTORIZE:
        vectorize(table, result, floats, wide, given)
    elif task == TELL_APART:
        tell_apart(table, result, octets, given)
    else:
        count_rows(table, result, octets, floats, wide, given)


def serve_linked(table: Memory, octets: Memory, floats: Memory, wide: Memory) -> int:
    """Do what a table that is linked says; 1 if it is done, else 0."""
    task, count = table[TASK], table[ROWS]
    source, made = memory_at(table[FROM], table), memory_at(table[TO], table)
    done = 0
    if task == NUMBER:
        forget(table)
        done = 1 if number_each(table, octets, source, made, count) == count else 0
    elif task == NAME:
        done = 1 if name_each(table, source, made, count) == count else 0
    elif task == MAKE_MAPS:
        maps = make_rows(table, memory_at(table[FROM], floats), count, table[WIDTH])
        if maps != 0:
            invoke(table[SET_ITEM], table[TO], table[PLACE], maps)
            done = 1
        else:
            invoke(table[CLEAR_ERROR], 0, 0, 0)
    else:
        done = put_values(table, floats, wide, table[FROM], table[TO])
    return done


# ── dictionaries, names


def make_maps(table: Memory, result: Memory, floats: Memory, given: int) -> None:
    """A list of a dictionary for each row of an array."""
    rows = item(table, given, 0)
    extents = memory_at(rows[EXTENTS], table)
    result[0] = make_rows(table, memory_at(rows[DATA], floats), extents[0], extents[1])


def make_rows(table: Memory, numbers: Memory, count: int, width: int) -> int:
    """A list of a dictionary for each row of numbers; 0 if there is no memory for it."""
    names = memory_at(table[NAMES], table)
    made = invoke(table[NEW_LIST], count, 0, 0)
    row = 0
    while made != 0 and row < count:
        one = invoke(table[NEW_DICT], 0, 0, 0)
        k = 0
        while one != 0 and k < width:
            one = put_number(
                table,
                one,
                names[k],
                invoke_with(table[NEW_FLOAT], wide_of(numbers[row * width + k])),
            )
            k += 1
        if one != 0:
            invoke(table[SET_ITEM], made, row, one)
        else:
            invoke(table[RELEASE], made, 0, 0)
            made = 0
        row += 1
    return made


def put_number(table: Memory, one: int, name: int, number: int) -> int:
    """A dictionary with one more entry; 0 if there is no memory for it, and then it is gone."""
    failed = 1
    if number != 0:
        failed = invoke(table[PUT_KEY], one, name, number) & LOW
        invoke(table[RELEASE], number, 0, 0)
    if failed != 0:
        invoke(table[RELEASE], one, 0, 0)
        one = 0
    return one


def name_numbers(table: Memory, result: Memory, given: int) -> None:
    """The name of each number, from an array of int64 to one of objects."""
    numbers, named = item(table, given, 0), item(table, given, 1)
    count = elements(table, numbers)
    places, objects = memory_at(numbers[DATA], table), memory_at(named[DATA], table)
    at = name_each(table, places, objects, count)
    answer(table, result, invoke(table[GET_ITEM], given, 1, 0) if at == count else table[NONE])


def name_each(table: Memory, places: Memory, objects: Memory, count: int) -> int:
    """The name of each of so many numbers; how many there are ahead of what has none."""
    names = memory_at(table[NAMES], table)
    at = 0
    while at < count and places[at] >= 0 and places[at] < table[COUNT]:
        invoke(table[KEEP], names[places[at]], 0, 0)
        before = objects[at]
        objects[at] = names[places[at]]
        if before != 0:
            invoke(table[RELEASE], before, 0, 0)
        at += 1
    return at


def vectorize(table: Memory, result: Memory, floats: Memory, wide: Memory, given: int) -> None:
    """The values of a dictionary, from it to an array of float32 or float64."""
    entries, made = invoke(table[GET_ITEM], given, 0, 0), item(table, given, 1)
    is_done = put_values(table, floats, wide, entries, made[DATA])
    answer(table, result, invoke(table[GET_ITEM], given, 1, 0) if is_done != 0 else table[NONE])


def put_values(table: Memory, floats: Memory, wide: Memory, entries: int, to: int) -> int:
    """Put the values of a dictionary where its keys say; 0 for keys or values of other classes."""
    singles, doubles = memory_at(to, floats), memory_at(to, wide)
    for place in range(table[WIDTH]):
        put_value(table, singles, doubles, place, 0.0)
    items = invoke(table[ITEMS], entries, 0, 0)
    count = -1
    if items != 0:
        count = invoke(table[SIZE], items, 0, 0)
    else:
        invoke(table[CLEAR_ERROR], 0, 0, 0)
    at = 0
    while at < count:
        pair = invoke(table[GET_ITEM], items, at, 0)
        key, value = invoke(table[PART], pair, 0, 0), invoke(table[PART], pair, 1, 0)
        kind = memory_at(value, table)[CLASS]
        if memory_at(key, table)[CLASS] != table[KEY_CLASS]:
            break
        number = 0.0
        if kind == table[FLOAT_CLASS] or kind == table[DOUBLE_CLASS]:
            number = memory_at(value, wide)[VALUE]
        elif kind == table[SINGLE_CLASS]:
            number = wide_of(memory_at(value, floats)[2 * VALUE])
        else:
            break
        found = invoke(table[GET_VALUE], table[KEYS], key, 0)
        if found != 0:
            place = invoke(table[AS_NUMBER], found, 0, 0)
            put_value(table, singles, doubles, place, number)
        at += 1
    if items != 0:
        invoke(table[RELEASE], items, 0, 0)
    return 1 if at == count else 0


def put_value(table: Memory, singles: Memory, doubles: Memory, place: int, number: float) -> None:
    """Put a number among float32, or float64."""
    if table[IS_WIDE] != 0:
        doubles[place] = number
    else:
        singles[place] = narrow(number)
