"""Routines on Python's texts: which key each one is, and which words it has.

Addresses are whole numbers here: of objects, of arrays' data, of CPython's functions. What lies
where is said by a table of words (`calls`); nothing is taken for granted of an object before its
class has been looked at. Who calls holds the GIL, so nobody changes a text meanwhile; the only
Python code that may run is what collects garbage while lists and dictionaries are made
(`serving`), and a table holds nothing but what never changes and memory of routines that make
neither.

A text is its characters as CPython stores them, 1, 2 or 4 bytes each and as few as will do, so that
equal texts have equal bytes. The 8 bytes ahead of the first character can be read.
"""

from __future__ import annotations

from typing import Any

from fornix.ir.loops.routines import (
    Memory,
    after,
    invoke,
    memory_at,
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
    FLOAT_CLASS, DOUBLE_CLASS, SINGLE_CLASS, KEY_CLASS, IS_WIDE, SPACES,
    CALL, FOLDS, SOURCE, BYTES, COPIED, RECENT, DETOURS, TABLE_WORDS,
) = range(69)  # fmt: skip
"""What stands in which word."""
NUMBER, COUNT_WORDS, MULTIPLY, MAKE_MAPS, NAME, VECTORIZE, TELL_APART = range(7)
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
BEYOND, END_OF_LATIN, END_OF_DOUBLE = 1 << 7, 1 << 8, 1 << 16
"""What is no ASCII, and what takes 2 or 4 bytes."""
SPACE = 32
LOWERED, RAISED = 1, 2
LAST_RECENT, HIGH = 511, 40
"""The last of the cells that remember an object each, and what of its product tells which."""
ONES, SEVENS, TOPS, MOVED = 0x0101010101010101, 0x7F7F7F7F7F7F7F7F, 0x80, 0x2020202020202020
"""Bytes of a word."""
SUMS, SQUARES = 1, 2


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


def data_of(table: Memory, text: int, kind: int) -> Any:
    """Where the characters of a text are."""
    return text + (table[ASCII_DATA] if kind == 0 else table[WIDE_DATA])


def bytes_of(table: Memory, text: int, kind: int) -> Any:
    """How many bytes its characters take."""
    return memory_at(text, table)[LENGTH] << (kind - 1 if kind > 0 else 0)


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
    seed = seed_of(table, octets, start, size, kind, fold)
    at = entry_of(table, octets, seed, start, size, kind, fold)
    number = memory_at(table[ENTRIES], table)[2 * at + 1]
    if number < 0:
        number = table[COUNT]
    return number


def seed_of(table: Memory, octets: Memory, start: int, size: int, kind: int, fold: int) -> Any:
    """A number that depends on all of so many bytes."""
    text = memory_at(start, octets)
    seed = size * 4 + kind
    at = 0
    while at + 8 <= size:
        seed = mixed(seed, folded(number_in(text, at, table), fold))
        at += 8
    if at < size:
        seed = mixed(seed, folded(last_word(text, size, table), fold))
    return mixed(seed, 0)  # else the last characters do not reach the lowest bits


def entry_of(
    table: Memory, octets: Memory, seed: int, start: int, size: int, kind: int, fold: int
) -> Any:
    """The entry of the key with these bytes, or the one that is free for it."""
    text, entries = memory_at(start, octets), memory_at(table[ENTRIES], table)
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
    return at


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
    forget(table)
    at = number_each(table, octets, objects, places, count)
    answer(table, result, invoke(table[GET_ITEM], given, 1, 0) if at == count else table[NONE])


def forget(table: Memory) -> None:
    """Let no object be remembered: another one may be where it was, once this call is over."""
    recent = memory_at(table[RECENT], table)
    recent[0] += 1


def number_each(table: Memory, octets: Memory, objects: Memory, places: Memory, count: int) -> int:
    """The number of the key of each of so many texts; how many there are ahead of what is none.

    Columns hold the same objects again and again: those of this call are remembered, each with its
    number and the number of the call.
    """
    recent = memory_at(table[RECENT], table)
    at = 0
    while at < count:
        text = objects[at]
        cell = 3 * ((text * FACTOR >> HIGH & LAST_RECENT) + 1)
        if recent[cell] != text or recent[cell + 1] != recent[0]:
            number = number_at(table, octets, text)
            if number < 0:
                break
            recent[cell], recent[cell + 1], recent[cell + 2] = text, recent[0], number
        places[at] = recent[cell + 2]
        at += 1
    return at


def number_at(table: Memory, octets: Memory, text: int) -> int:
    """The number of a text's key; -1 if it is no text."""
    kind, number = kind_at(table, text), 0 - 1
    if kind >= 0:
        start = data_of(table, text, kind)
        number = place_of(table, octets, start, bytes_of(table, text, kind), kind, 0)
    return number


# ── characters


def characters(table: Memory, octets: Memory, text: int, kind: int) -> Any:
    """Where the characters of a text are, one byte each, all but ASCII alike; 0 if it is long."""
    length = memory_at(text, table)[LENGTH]
    found = text + table[ASCII_DATA]
    if kind != 0:
        found = 0
        if length <= table[ROOM]:
            source = memory_at(text + table[WIDE_DATA], octets)
            made = memory_at(table[NARROW], octets)
            if kind == 1:
                narrow_texts(table, source, made, length, 1)
            elif kind == 2:
                narrow_texts(table, source, made, length, 2)
            else:
                narrow_texts(table, source, made, length, 4)
            found = table[NARROW]
    return found


def narrow_texts(table: Memory, source: Memory, made: Memory, length: int, width: int) -> None:
    """Write characters of a width as one byte each."""
    has_spaces = table[SPACES] != 0
    for at in range(length):
        character = character_at(source, at, width)
        if has_spaces and character > BEYOND and is_space(character):
            character = SPACE
        made[at] = min(character, BEYOND)


def is_space(character: int) -> bool:
    """Whether a character beyond ASCII is white space: Unicode 15, bidirectional WS, B, S; Zs."""
    found = character == 0x85 or character == 0xA0 or character == 0x1680  # noqa: PLR1714 - no sets
    if not found and character >= 0x2000:
        found = character <= 0x200A or character == 0x2028 or character == 0x2029  # noqa: PLR1714
        found = found or character == 0x202F or character == 0x205F or character == 0x3000  # noqa: PLR1714
    return found


def character_at(text: Memory, at: int, width: int) -> int:
    """A character of a text that has so many bytes for each."""
    character = 0
    for part in range(width):
        character += text[at * width + part] << (8 * part)
    return character


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

    Their coordinates are ``seen``. It is -1, and nothing counted, if the text is left. Python tells
    what becomes of characters beyond ASCII in another case, more of them or some of ASCII, too.
    """
    found = -1
    if kind == 0 or table[FOLD] == 0:
        found = count_in(table, octets, counts, seen, text, kind)
    else:
        made = invoke(table[CALL], table[FOLDS], text, 0)
        if made != 0:
            of_made = kind_at(table, made)
            if of_made >= 0:
                found = count_in(table, octets, counts, seen, made, of_made)
            invoke(table[RELEASE], made, 0, 0)
        else:
            invoke(table[CLEAR_ERROR], 0, 0, 0)
    return found


def count_in(
    table: Memory, octets: Memory, counts: Memory, seen: Memory, text: int, kind: int
) -> int:
    """`count_text` of one that is in the right case, but for ASCII characters."""
    length = memory_at(text, table)[LENGTH]
    table[SOURCE] = 0
    if kind != 0 and memory_at(table[CLASSES], octets)[BEYOND] != 0:
        table[SOURCE], table[BYTES] = text + table[WIDE_DATA], 1 << (kind - 1)
    address = characters(table, octets, text, kind)
    found = 0
    if address == 0:
        found = -1
    elif table[LONGEST] == 1:
        found = count_words(table, octets, counts, seen, address, length)
    else:
        found = count_grams(table, octets, counts, seen, address, length)
    return found


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
    """The number of a word; single characters of ASCII have a table of their own."""
    number, first = 0, memory_at(start, octets)[0]
    if table[SINGLE] != 0 and first < BEYOND:
        number = memory_at(table[SINGLES], table)[first]
    elif table[SOURCE] != 0:
        number = wide_word_at(table, octets, start - table[NARROW], size)
    else:
        number = place_of(table, octets, start, size, 0, table[FOLD])
    return number


def wide_word_at(table: Memory, octets: Memory, first: int, size: int) -> Any:
    """The number of a word in a text of wide characters, which it may have none of."""
    width = table[BYTES]
    text = memory_at(table[SOURCE] + first * width, octets)
    bits = 0
    for at in range(size):
        bits |= character_at(text, at, width)
    kind = 3
    if bits < BEYOND:
        kind = 0
    elif bits < END_OF_LATIN:
        kind = 1
    elif bits < END_OF_DOUBLE:
        kind = 2
    made, narrower = memory_at(table[COPIED], octets), 1 << max(kind - 1, 0)
    for at in range(size):
        for part in range(narrower):
            made[at * narrower + part] = text[at * width + part]
    return place_of(table, octets, table[COPIED], size * narrower, kind, 0)


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
