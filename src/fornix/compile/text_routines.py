"""Routines on Python's texts: which key each one is, which words it has, dictionaries of numbers.

Addresses are whole numbers here: of objects, of arrays' data, of CPython's functions. What lies
where is said by a table of words (`texts`); nothing is taken for granted of an object before its
class has been looked at. Who calls holds the GIL, so nobody changes a text meanwhile; the only
Python code that may run is what collects garbage while lists and dictionaries are made, and a table
holds nothing but what never changes and memory of routines that make neither.

A text is its characters as CPython stores them, 1, 2 or 4 bytes each and as few as will do, so that
equal texts have equal bytes. The 8 bytes ahead of the first character can be read.
"""

from __future__ import annotations

from typing import Any

from fornix.ir.loops.routines import (
    Memory,
    after,
    invoke,
    invoke_with,
    memory_at,
    narrow,
    number_in,
)
from fornix.ir.loops.routines import wide as wide_of

# ── words of the table

(
    TASK, GET_ITEM, KEEP, RELEASE, NONE, ARRAY_CLASS, TEXT_CLASS, STATES,
    ASCII, LATIN, DOUBLE, FOURFOLD, ASCII_DATA, WIDE_DATA, NEW_LIST, SET_ITEM,
    NEW_DICT, PUT_KEY, NEW_FLOAT, ENTRIES, LAST_ENTRY, KEYS, COUNT,
    CLASSES, SINGLE, LEAST, FOLD, STEPS, LAST_STEP, PLACES, WIDTH,
    LONGEST, APART, IDS, ROOM, NARROW, COUNTS, SEEN, SCALE,
    WEIGHTS, OUTPUTS, NORM, NAMES, SINGLES, IS_LINKED, FROM, TO,
    ROWS, PLACE, CLEAR_ERROR, SIZE, ITEMS, PART, GET_VALUE, AS_NUMBER,
    FLOAT_CLASS, DOUBLE_CLASS, SINGLE_CLASS, KEY_CLASS, IS_WIDE, TABLE_WORDS,
) = range(61)  # fmt: skip
"""What stands in which word."""
NUMBER, COUNT_WORDS, MULTIPLY, MAKE_MAPS, NAME, VECTORIZE = range(6)
"""What is to be done."""
OBJECTS, READABLE = 17, 0x101
"""The number of NumPy's type of objects; flags of an array that lies in order and aligned."""
CLASS, DATA, RANK, EXTENTS, DTYPE, FLAGS = 1, 2, 3, 4, 7, 8
LENGTH, STATE = 2, 4
"""Words of an array, and of a text."""
DTYPE_NUMBER, VALUE = 3, 2
"""Words of a dtype, and of a number that is an object."""
LOW, HALF = 0xFFFFFFFF, 32
FACTOR = -7046029254386353131
"""2⁶⁴ divided by the golden ratio, which is odd: D. Knuth, The Art of Computer Programming, 6.4."""
BEYOND, DOTTED, KELVIN = 128, 0x130, 0x212A
"""What is no ASCII; the two such characters whose lower case has some."""
LOWERED, RAISED = 1, 2
ONES, SEVENS, TOPS, MOVED = 0x0101010101010101, 0x7F7F7F7F7F7F7F7F, 0x80, 0x2020202020202020
"""Bytes of a word."""
SUMS, SQUARES = 1, 2


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
    else:
        count_rows(table, result, octets, floats, wide, given)


def serve_linked(table: Memory, octets: Memory, floats: Memory, wide: Memory) -> int:
    """Do what a table that is linked says; 1 if it is done, else 0."""
    task, count = table[TASK], table[ROWS]
    source, made = memory_at(table[FROM], table), memory_at(table[TO], table)
    done = 0
    if task == NUMBER:
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


# ── objects


def item(table: Memory, given: int, place: int) -> Memory:
    """The words of an object in a list."""
    return memory_at(invoke(table[GET_ITEM], given, place, 0), table)


def answer(table: Memory, result: Memory, found: int) -> None:
    """Give the caller an object, which stays the owner's as well."""
    result[0] = found
    invoke(table[KEEP], found, 0, 0)


def elements(table: Memory, array: Memory) -> int:
    """How many elements an array has."""
    extents = memory_at(array[EXTENTS], table)
    count = 1
    for axis in range(array[RANK] & LOW):
        count *= extents[axis]
    return count


def are_objects(table: Memory, array: Memory) -> bool:
    """Whether it is an array of objects that lie in order."""
    found = False
    if array[CLASS] == table[ARRAY_CLASS] and array[FLAGS] & READABLE == READABLE:
        dtype = memory_at(array[DTYPE], table)
        found = dtype[DTYPE_NUMBER] >> HALF == OBJECTS
    return found


def kind_of(table: Memory, text: Memory) -> int:
    """What characters a text has: 0 ASCII, 1 Latin, 2 or 3 wider ones; -1 if it is no text."""
    kind = -1
    if text[CLASS] == table[TEXT_CLASS]:
        state = text[STATE] & table[STATES]
        if state == table[ASCII]:
            kind = 0
        elif state == table[LATIN]:
            kind = 1
        elif state == table[DOUBLE]:
            kind = 2
        elif state == table[FOURFOLD]:
            kind = 3
    return kind


def kind_at(table: Memory, address: int) -> int:
    """The `kind_of` what is at an address; -1 where nothing is."""
    kind = -1
    if address != 0:
        kind = kind_of(table, memory_at(address, table))
    return kind


# ── keys


def mixed(seed: int, word: int) -> int:
    """A number that depends on all bits of two."""
    product = (seed ^ word) * FACTOR
    return product ^ (product >> HALF)


def folded(word: int, fold: int) -> int:
    """Eight ASCII characters in lower or upper case, if ``fold`` says so."""
    if fold != 0:
        first = 65 if fold == LOWERED else 97
        low = word & SEVENS
        from_first = low + (TOPS - first) * ONES
        behind_last = low + (TOPS - first - 26) * ONES
        letters = (from_first ^ behind_last) & ~word
        word = word ^ ((letters >> 2) & MOVED)
    return word


def last_word(octets: Memory, size: int, like: Memory) -> Any:
    """The last eight bytes; of fewer, these and zeros."""
    word = number_in(octets, size - 8, like)
    if size < 8:
        word = (word >> (64 - 8 * size)) & ((1 << 8 * size) - 1)
    return word


def place_of(table: Memory, octets: Memory, start: int, size: int, kind: int, fold: int) -> Any:
    """The number of the key with these bytes; how many keys there are, if none has."""
    text = memory_at(start, octets)
    seed = size * 4 + kind
    at = 0
    while at + 8 <= size:
        seed = mixed(seed, folded(number_in(text, at, table), fold))
        at += 8
    if at < size:
        seed = mixed(seed, folded(last_word(text, size, table), fold))
    seed = mixed(seed, 0)  # else the last characters do not reach the lowest bits
    entries = memory_at(table[ENTRIES], table)
    keys = memory_at(table[KEYS], table)
    last = table[LAST_ENTRY]
    at = seed & last
    number = entries[2 * at + 1]
    while number >= 0:
        is_alike = entries[2 * at] == seed and keys[2 * number + 1] == size * 4 + kind
        key = memory_at(keys[2 * number], octets)
        if is_alike and are_equal(text, key, size, fold, table):
            break
        at = (at + 1) & last
        number = entries[2 * at + 1]
    if number < 0:
        number = table[COUNT]
    return number


def are_equal(text: Memory, key: Memory, size: int, fold: int, like: Memory) -> bool:
    """Whether so many bytes of a text are those of a key, once they are folded."""
    at = 0
    while at + 8 <= size and folded(number_in(text, at, like), fold) == number_in(key, at, like):
        at += 8
    same = at >= size
    if at < size and at + 8 > size:
        same = folded(last_word(text, size, like), fold) == last_word(key, size, like)
    return same


def number_texts(table: Memory, result: Memory, octets: Memory, given: int) -> None:
    """The number of each text's key, from an array of texts to one of int64."""
    texts, numbers = item(table, given, 0), item(table, given, 1)
    count = elements(table, texts) if are_objects(table, texts) else -1
    objects, places = memory_at(texts[DATA], table), memory_at(numbers[DATA], table)
    at = number_each(table, octets, objects, places, count)
    answer(table, result, invoke(table[GET_ITEM], given, 1, 0) if at == count else table[NONE])


def number_each(table: Memory, octets: Memory, objects: Memory, places: Memory, count: int) -> int:
    """The number of the key of each of so many texts; how many there are ahead of what is none."""
    at = 0
    while at < count:
        kind, number = kind_at(table, objects[at]), -1
        if kind >= 0:
            start = objects[at] + (table[ASCII_DATA] if kind == 0 else table[WIDE_DATA])
            size = memory_at(objects[at], table)[LENGTH] << (kind - 1 if kind > 0 else 0)
            number = place_of(table, octets, start, size, kind, 0)
        if number < 0:
            break
        places[at] = number
        at += 1
    return at


# ── words in texts


def count_rows(
    table: Memory, result: Memory, octets: Memory, floats: Memory, wide: Memory, given: int
) -> None:
    """The words of each text, counted or multiplied by weights; texts that are left are noted.

    Given are the texts, an array for results that holds zeros, one for sums or None, and one for
    the number of texts that are left and for these.
    """
    texts, counted, left = item(table, given, 0), item(table, given, 1), item(table, given, 3)
    count = elements(table, texts) if are_objects(table, texts) else -1
    objects, rows = memory_at(texts[DATA], table), memory_at(left[DATA], table)
    is_product = table[TASK] == MULTIPLY
    counts = memory_at(table[COUNTS] if is_product else counted[DATA], floats)
    products, seen = memory_at(counted[DATA], wide), memory_at(table[SEEN], table)
    total = memory_at(item(table, given, 2)[DATA], wide)
    missed = 0
    row = 0
    while row < count:
        kind = kind_at(table, objects[row])
        if kind < 0:
            break
        own = after(counts, 0 if is_product else row * table[WIDTH])
        found = count_text(table, octets, own, seen, objects[row], kind)
        if found < 0:
            rows[missed + 1] = row
            missed += 1
        elif is_product:
            place = row * table[OUTPUTS]
            multiply(table, floats, counts, seen, found, after(products, place), after(total, row))
        row += 1
    rows[0] = missed
    answer(table, result, invoke(table[GET_ITEM], given, 1, 0) if row == count else table[NONE])


def count_text(
    table: Memory, octets: Memory, counts: Memory, seen: Memory, text: int, kind: int
) -> int:
    """Count what is listed of a text; how many different ones.

    Their coordinates are ``seen``. It is -1, and nothing counted, if the text is left.
    """
    length = memory_at(text, table)[LENGTH]
    address = text + table[ASCII_DATA]
    if kind != 0:
        address = narrowed(table, octets, text, kind, length)
    found = 0
    if address == 0:
        found = -1
    elif table[LONGEST] == 1:
        found = count_words(table, octets, counts, seen, address, length)
    else:
        found = count_grams(table, octets, counts, seen, address, length)
    return found


def narrowed(table: Memory, octets: Memory, text: int, kind: int, length: int) -> int:
    """The address of a copy in which all that is no ASCII is one byte; 0 if there is none."""
    fits = length <= table[ROOM] and memory_at(table[CLASSES], octets)[BEYOND] == 0
    at = 0
    if fits and table[FOLD] != RAISED:
        source = memory_at(text + table[WIDE_DATA], octets)
        made = memory_at(table[NARROW], octets)
        width = 1 << (kind - 1)
        while at < length:
            character = 0
            for part in range(width):
                character += source[at * width + part] << (8 * part)
            if table[FOLD] != 0 and is_half_ascii(character):
                break
            made[at] = min(character, BEYOND)
            at += 1
    return table[NARROW] if at == length else 0


def is_half_ascii(character: int) -> bool:
    """Whether the lower case of a character that is no ASCII has some."""
    return character == DOTTED or character == KELVIN  # noqa: PLR1714 - routines have no sets


def word_start(classes: Memory, text: Memory, start: int, length: int) -> int:
    """Where the next word begins."""
    at = start
    while at < length and classes[text[at]] == 0:
        at += 1
    return at


def word_end(table: Memory, classes: Memory, text: Memory, start: int, length: int) -> int:
    """Where the word that begins at ``start`` ends."""
    end = start + 1
    if table[SINGLE] == 0:
        while end < length and classes[text[end]] != 0:
            end += 1
    return end


def word_at(table: Memory, octets: Memory, start: int, size: int) -> Any:
    """The number of a word; single characters have a table of their own."""
    number = 0
    if table[SINGLE] != 0:
        number = memory_at(table[SINGLES], table)[memory_at(start, octets)[0]]
    else:
        number = place_of(table, octets, start, size, 0, table[FOLD])
    return number


def count_words(
    table: Memory, octets: Memory, counts: Memory, seen: Memory, address: int, length: int
) -> int:
    """`count_text` where single words are listed."""
    text, classes = memory_at(address, octets), memory_at(table[CLASSES], octets)
    places = memory_at(table[PLACES], table)
    found = 0
    at = word_start(classes, text, 0, length)
    while at < length:
        end = word_end(table, classes, text, at, length)
        if end - at >= table[LEAST]:
            number = word_at(table, octets, address + at, end - at)
            found = noted(counts, seen, places[number], found)
        at = word_start(classes, text, end, length)
    return found


def noted(counts: Memory, seen: Memory, place: int, found: int) -> int:
    """Count a coordinate, unless it is below 0; how many different ones have been counted."""
    if place >= 0:
        if counts[place] == 0.0:
            seen[found] = place
            found += 1
        counts[place] += 1.0
    return found


def count_grams(
    table: Memory, octets: Memory, counts: Memory, seen: Memory, address: int, length: int
) -> int:
    """`count_text` where several words in a row are listed, too."""
    words = memory_at(table[IDS], table)
    count = list_words(table, octets, words, address, length)
    found = -1
    if count >= 0:
        found = 0
        for first in range(count):
            if words[first] < table[COUNT]:
                found = grams_from(table, counts, seen, words, first, count, found)
    return found


def list_words(table: Memory, octets: Memory, words: Memory, address: int, length: int) -> int:
    """The numbers of the words of a text, in their order; how many, or -1 for too many."""
    text, classes = memory_at(address, octets), memory_at(table[CLASSES], octets)
    count = 0
    at = word_start(classes, text, 0, length)
    while at < length and count < table[ROOM]:
        end = word_end(table, classes, text, at, length)
        if end - at >= table[LEAST]:
            words[count] = word_at(table, octets, address + at, end - at)
            count += 1
        at = word_start(classes, text, end, length)
    return count if count < table[ROOM] else -1


def grams_from(
    table: Memory,
    counts: Memory,
    seen: Memory,
    words: Memory,
    first: int,
    count: int,
    found: int,
) -> int:
    """Count all that is listed and begins with word ``first``."""
    places = memory_at(table[PLACES], table)
    found = noted(counts, seen, places[words[first]], found)
    for apart in range(1, table[APART] + 1):
        node = words[first]
        at = first + apart
        while at < count and node >= 0:
            node = after_word(table, node, words[at])
            if node >= 0:
                found = noted(counts, seen, places[node], found)
            at += apart
    return found


def after_word(table: Memory, node: int, word: int) -> Any:
    """What has been read once a word follows; -1 if nothing that is listed begins so."""
    steps = memory_at(table[STEPS], table)
    last = table[LAST_STEP]
    key = node * (table[COUNT] + 1) + word
    found = 0
    if last < 0:  # few enough to have a place for each
        found = steps[key]
    else:
        at = mixed(key, 0) & last
        while steps[2 * at + 1] >= 0 and steps[2 * at] != key:
            at = (at + 1) & last
        found = steps[2 * at + 1]
    return found


def multiply(
    table: Memory,
    floats: Memory,
    counts: Memory,
    seen: Memory,
    found: int,
    products: Memory,
    total: Memory,
) -> None:
    """The counts of a text times weights, and the sum of their absolute values or squares."""
    outputs, norm = table[OUTPUTS], table[NORM]
    scale, weights = memory_at(table[SCALE], floats), memory_at(table[WEIGHTS], floats)
    for k in range(found):
        place = seen[k]
        value = wide_of(counts[place] * scale[place])
        counts[place] = 0.0
        if norm == SQUARES:
            total[0] += value * value
        elif norm == SUMS:
            total[0] += max(value, 0.0 - value)
        for output in range(outputs):
            products[output] += value * wide_of(weights[place * outputs + output])


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
