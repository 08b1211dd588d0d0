"""Routines that look through Python's texts: which match, what words they have, numbers, hashes.

They work as those of `routines` do, whose words come first in the tables. What is looked for
is told by a table of moves (`ops.text_automata`); characters that are no ASCII are one to it. Texts
of up to 16 ASCII characters are remembered, so that equal words are mostly one object.

What a routine does not do, it leaves to the caller, and all of the array with it.
"""

from __future__ import annotations

from typing import Any

from fornix.compile.text.routines import (
    ARRAY_CLASS,
    ASCII_DATA,
    BEYOND,
    CLEAR_ERROR,
    DATA,
    EXTENTS,
    FROM,
    GET_ITEM,
    IS_LINKED,
    KEEP,
    LEAST,
    LENGTH,
    LOW,
    NARROW,
    NONE,
    ONES,
    RANK,
    RELEASE,
    ROWS,
    SIZE,
    SPACES,
    TABLE_WORDS,
    TASK,
    TO,
    WIDTH,
    answer,
    are_objects,
    characters,
    elements,
    item,
    kind_at,
    last_word,
    mixed,
)
from fornix.ir.loops.routines import Memory, after, invoke, leading_zeros, memory_at, number_in

(
    MOVES, START, FINAL, IS_CUT, MOST, EMPTY, PAD, FIRST_MARK, LAST_MARK, MEMO, REMEMBERED,
    SUBSTRING, NEW_TEXT, AS_UTF8, SEED, SIZE_AT, SPANS, SPAN_ROOM, SPAN_COUNT, NONE_COUNTS,
    LETTERS, NUMBERS_AT, CELLS_AT, CUTS, ALL_WORDS,
) = range(TABLE_WORDS, TABLE_WORDS + 25)  # fmt: skip
"""What stands in which word behind those of `routines`."""
MATCH, FIND, HASH, READ, WRITE = range(5)
"""What is to be done."""
WITH_SPANS = 3
"""Arrays that are given where words are found; one more where they are made."""
REMEMBERS = 2048
"""Texts that are remembered, a power of two; each has three words, and the object."""
LAST_SLOT = REMEMBERS - 1
SHORT, WORD = 16, 8
"""Characters of texts that are remembered, and bytes of a word."""
BEYONDS = -0x7F7F7F7F7F7F7F80
"""The highest bit of each byte."""
MINUS, PLUS, ZERO, NINE = 45, 43, 48, 57
"""Characters."""
DIGITS = 18
"""Decimal digits that always fit into a number."""
MIX_FIRST, MIX_SECOND, MIX_STEP = 0xCC9E2D51, 0x1B873593, 0xE6546B64
END_FIRST, END_SECOND = 0x85EBCA6B, 0xC2B2AE35
"""Of MurmurHash3 for 32 bits; A. Appleby, 2011, in the public domain."""


def serve_found(table: Memory, result: Memory, octets: Memory, moves: Memory, given: int) -> None:
    """Do what ``table`` says with a list of arrays; ``result`` is the last of them, or None.

    The two in the middle tell types of elements and nothing else.
    """
    result[0] = 0
    if table[IS_LINKED] != 0:
        result[0] = 1 - serve_linked(table, octets, moves)
    elif table[TASK] == WRITE:
        write_numbers(table, result, octets, given)
    else:
        texts = item(table, given, 0)
        count = elements(table, texts) if are_objects(table, texts) else -1
        objects = memory_at(texts[DATA], table)
        operands = start(table, given)
        row = 0
        while row < count:
            if serve_text(table, octets, moves, objects[row], row) == 0:
                break
            row += 1
        if operands == WITH_SPANS:
            spans = memory_at(item(table, given, 2)[DATA], table)
            spans[0] = table[SPAN_COUNT]
        answer(table, result, last_of(table, given) if row == count else table[NONE])


def serve_linked(table: Memory, octets: Memory, moves: Memory) -> int:
    """Do what a table that is linked says; 1 if it is done, else 0."""
    count, source = table[ROWS], memory_at(table[FROM], table)
    row = 0
    if table[TASK] == WRITE:
        row = write_each(table, octets, source, memory_at(table[TO], table), count)
    else:
        table[NUMBERS_AT] = table[TO]
        while row < count:
            if serve_text(table, octets, moves, source[row], row) == 0:
                break
            row += 1
    return 1 if row == count else 0


def start(table: Memory, given: int) -> int:
    """Note where arrays lie that are written; how many are given.

    They are texts, numbers of them, notes of where words are, and cells for words.
    """
    operands = invoke(table[SIZE], given, 0, 0)
    table[NUMBERS_AT], table[CELLS_AT] = item(table, given, 1)[DATA], 0
    if operands >= WITH_SPANS:
        start_spans(table, item(table, given, 2))
    if operands > WITH_SPANS:
        cells = item(table, given, 3)
        extents = memory_at(cells[EXTENTS], table)
        table[CELLS_AT], table[WIDTH] = cells[DATA], extents[(cells[RANK] & LOW) - 1]
    return operands


def start_spans(table: Memory, noted: Memory) -> None:
    """Let the table point to notes of where words are, the first of which has their number."""
    extents = memory_at(noted[EXTENTS], table)
    table[SPANS], table[SPAN_COUNT] = noted[DATA] + 2 * WORD, 0
    table[SPAN_ROOM] = extents[0] - 1


def serve_text(table: Memory, octets: Memory, moves: Memory, text: int, row: int) -> int:
    """Do what ``table`` says with a text of a row; 0 if it is left to the caller."""
    kind, done = kind_at(table, text), 0
    if kind >= 0:
        if table[TASK] == HASH:
            done = hash_text(table, memory_at(table[NUMBERS_AT] + 4 * row, octets), text)
        elif table[TASK] == READ:
            number = memory_at(table[NUMBERS_AT] + 8 * row, table)
            done = read_number(table, octets, number, text, kind)
        else:
            address = characters(table, octets, text, kind)
            if address != 0:
                done = look_through(table, octets, moves, text, row, address)
    return done


def look_through(
    table: Memory, octets: Memory, moves: Memory, text: int, row: int, address: int
) -> int:
    """Tell of a text whether it matches, find its words or make them; 0 if it is left."""
    done = 1
    length = memory_at(text, table)[LENGTH]
    numbers, truths = memory_at(table[NUMBERS_AT], table), memory_at(table[NUMBERS_AT], octets)
    if table[TASK] == MATCH:
        truths[row] = is_match(table, octets, moves, address, length)
    elif table[CELLS_AT] == 0:
        numbers[row] = find_words(table, octets, moves, address, length)
    else:
        cells = memory_at(table[CELLS_AT] + WORD * row * table[WIDTH], table)
        done = put_words(table, octets, text, address, numbers[row], cells)
    return done


def last_of(table: Memory, given: int) -> int:
    """The last object of a list."""
    return invoke(table[GET_ITEM], given, invoke(table[SIZE], given, 0, 0) - 1, 0)


# ── words


def is_match(table: Memory, octets: Memory, moves: Memory, address: int, length: int) -> int:
    """1 if a whole text is one, else 0."""
    text, states = memory_at(address, octets), memory_at(table[MOVES], moves)
    state = table[START]
    at = 0
    while at < length and state != 0:
        state = states[state + text[at]]
        at += 1
    return 1 if state >= table[FINAL] else 0


def match_end(table: Memory, states: Memory, text: Memory, start: int, length: int) -> int:
    """Where the match ends that begins at a place; that place if there is none."""
    state, end, at = table[START], start, start
    while at < length and state != 0:
        state = states[state + text[at]]
        at += 1
        if state >= table[FINAL]:
            end = at
    return end


def find_words(table: Memory, octets: Memory, moves: Memory, address: int, length: int) -> Any:
    """How many words a text has; where each begins and ends is noted if there is room.

    Words are matches, or what lies between them. Where there are as many as shall be, the last is
    all that is left, without what is no match at its end.
    """
    found = 0
    if table[CUTS] != 0:
        found = cut_text(table, octets, address, length)
    else:
        found = match_words(table, octets, moves, address, length)
    return found


def cut_text(table: Memory, octets: Memory, address: int, length: int) -> Any:
    """`find_words` between single characters of ASCII."""
    before, start = table[SPAN_COUNT], 0
    at = next_cut(table, octets, address, 0, length)
    while at < length and table[SPAN_COUNT] - before != table[MOST]:
        note_word(table, start, at)
        start = at + 1
        at = next_cut(table, octets, address, start, length)
    note_word(table, start, length)
    return table[SPAN_COUNT] - before


def next_cut(table: Memory, octets: Memory, address: int, start: int, length: int) -> Any:
    """Where the next character is that texts are cut at; ``length`` if there is none."""
    text, at = memory_at(address, octets), start
    hits = 0
    while at + WORD <= length:
        hits = zeros_of(number_in(text, at, table) ^ table[CUTS])
        if hits != 0:
            break
        at += WORD
    rest = length - at
    if rest > 0 and rest < WORD:
        last = number_in(text, length - WORD, table) >> (WORD * (WORD - rest))
        hits = zeros_of(last ^ table[CUTS]) & ((1 << WORD * rest) - 1)
    if hits != 0:
        at += (63 - leading_zeros(hits & (0 - hits))) // WORD
    else:
        at = length
    return at


def zeros_of(word: int) -> int:
    """A word of which the lowest bit that is set is in the first byte that is 0."""
    return (word - ONES) & ~word & BEYONDS


def match_words(table: Memory, octets: Memory, moves: Memory, address: int, length: int) -> Any:
    """`find_words` by a table of moves."""
    text, states = memory_at(address, octets), memory_at(table[MOVES], moves)
    is_cut = table[IS_CUT] != 0
    before = table[SPAN_COUNT]
    start, at = 0, 0
    first = table[START]
    while at < length:
        if states[first + text[at]] == 0:
            at += 1
            continue
        end = match_end(table, states, text, at, length)
        if end > at:
            if table[SPAN_COUNT] - before == table[MOST]:
                break
            note_word(table, start if is_cut else at, at if is_cut else end)
            start, at = end, end
        else:
            at += 1
    if is_cut:
        note_word(table, start, length)
    elif at < length:
        last = length
        while last > at and states[table[START] + text[last - 1]] == 0:
            last -= 1
        note_word(table, at, last)
    return table[SPAN_COUNT] - before


def note_word(table: Memory, first: int, last: int) -> None:
    """Note where a word begins and ends, unless it is too short."""
    if last - first >= table[LEAST]:
        place = table[SPAN_COUNT]
        if place < table[SPAN_ROOM]:
            spans = memory_at(table[SPANS], table)
            spans[2 * place], spans[2 * place + 1] = first, last
        table[SPAN_COUNT] = place + 1


def put_cell(table: Memory, cells: Memory, place: int, made: int) -> None:
    """Put an object, which the caller owns, into an array; 0 for none."""
    if made != 0:
        before = cells[place]
        cells[place] = made
        if before == table[NONE]:  # of which there are many in new arrays
            references = memory_at(before, table)
            references[0] -= table[NONE_COUNTS]
        elif before != 0:
            invoke(table[RELEASE], before, 0, 0)


def part_of(table: Memory, source: int, text: Memory, first: int, last: int) -> int:
    """A part of a text as an object of the caller's; 0 if there is no memory for it."""
    size = last - first
    made = 0
    if size == 0:
        made = table[EMPTY]
        invoke(table[KEEP], made, 0, 0)
    elif size == 1 and text[first] < BEYOND:
        letters = memory_at(table[LETTERS], table)
        made = letters[text[first]]
        invoke(table[KEEP], made, 0, 0)
    elif size <= SHORT and (table[SPACES] == 0 or table[MOST] < 0):
        part = after(text, first)  # which tells them but for white space beyond ASCII
        low, high = last_word(part, size, table), 0
        if size > WORD:
            high = low
            low = number_in(part, 0, table)
        if (low | high) & BEYONDS == 0:
            made = remembered(table, source, first, last, low, high)
    if made == 0:
        made = invoke(table[SUBSTRING], source, first, last)
        if made == 0:
            invoke(table[CLEAR_ERROR], 0, 0, 0)
    return made


def remembered(table: Memory, source: int, first: int, last: int, low: int, high: int) -> int:
    """A part of a text, of which the bytes are known; 0 if there is no memory for it."""
    slot = slot_of(low, high, last - first)
    made = known(table, slot, low, high, last - first)
    if made == 0:
        made = invoke(table[SUBSTRING], source, first, last)
        remember(table, slot, low, high, last - first, made)
    return made


def slot_of(low: int, high: int, size: int) -> int:
    """Where a text is remembered."""
    return mixed(mixed(low, high), size) & LAST_SLOT


def known(table: Memory, slot: int, low: int, high: int, size: int) -> int:
    """A text that is remembered, for the caller to own; 0 if it is not."""
    memo, objects = memory_at(table[MEMO], table), memory_at(table[REMEMBERED], table)
    found = 0
    if memo[3 * slot] == low and memo[3 * slot + 1] == high and memo[3 * slot + 2] == size:
        found = objects[slot]
        invoke(table[KEEP], found, 0, 0)
    return found


def remember(table: Memory, slot: int, low: int, high: int, size: int, made: int) -> None:
    """Remember a text, if there is one."""
    if made != 0:
        memo, objects = memory_at(table[MEMO], table), memory_at(table[REMEMBERED], table)
        memo[3 * slot], memo[3 * slot + 1], memo[3 * slot + 2] = low, high, size
        invoke(table[KEEP], made, 0, 0)
        put_cell(table, objects, slot, made)


def put_words(
    table: Memory, octets: Memory, source: int, address: int, count: int, cells: Memory
) -> int:
    """Put the words of a text, which have been noted, into a row; 1 if it is done.

    They stand between marks if there are any, and behind them is what fills the row.
    """
    text, spans = memory_at(address, octets), memory_at(table[SPANS], table)
    length = memory_at(source, table)[LENGTH]
    at, place, made = table[SPAN_COUNT], 0, 1
    if table[FIRST_MARK] != 0:
        put_known(table, cells, 0, table[FIRST_MARK])
        place = 1
    end = at + count
    while at < end and made != 0:
        made = 0
        if spans[2 * at + 1] <= length:  # else it is not the text that was looked through
            made = part_of(table, source, text, spans[2 * at], spans[2 * at + 1])
        put_cell(table, cells, place, made)
        place += 1
        at += 1
    table[SPAN_COUNT] = end
    if made != 0 and table[FIRST_MARK] != 0:
        put_known(table, cells, place, table[LAST_MARK])
        place += 1
    while place < table[WIDTH] and made != 0:
        put_known(table, cells, place, table[PAD])
        place += 1
    return 1 if made != 0 else 0


def put_known(table: Memory, cells: Memory, place: int, made: int) -> None:
    """Put an object that somebody else owns, too, into an array."""
    invoke(table[KEEP], made, 0, 0)
    put_cell(table, cells, place, made)


# ── hashes


def hash_text(table: Memory, place: Memory, text: int) -> int:
    """Write MurmurHash3 of a text in UTF-8, 32 bits; 1 if it is done."""
    address = invoke(table[AS_UTF8], text, table[SIZE_AT], 0)
    if address == 0:
        invoke(table[CLEAR_ERROR], 0, 0, 0)
    else:
        code = hash_of(memory_at(address, place), memory_at(table[SIZE_AT], table)[0], table[SEED])
        for part in range(4):
            place[part] = code >> (8 * part) & 255
    return 1 if address != 0 else 0


def hash_of(data: Memory, size: int, seed: int) -> int:
    """MurmurHash3 of so many bytes, in 32 bits."""
    code, at = seed, 0
    while at + 4 <= size:
        word = data[at] | data[at + 1] << 8 | data[at + 2] << 16 | data[at + 3] << 24
        code = (turned(code ^ mixed_in(word), 13) * 5 + MIX_STEP) & LOW
        at += 4
    word = 0
    for part in range(size - at):
        word = word | data[at + part] << (8 * part)
    if at < size:
        code = code ^ mixed_in(word)
    code = code ^ size & LOW
    code = (code ^ code >> 16) * END_FIRST & LOW
    code = (code ^ code >> 13) * END_SECOND & LOW
    return code ^ code >> 16


def mixed_in(word: int) -> int:
    """Four bytes as they go into a hash."""
    return turned(word * MIX_FIRST & LOW, 15) * MIX_SECOND & LOW


def turned(word: int, count: int) -> int:
    """The 32 bits of a word, turned to the left."""
    return (word << count | word >> (32 - count)) & LOW


# ── numbers


def read_number(table: Memory, octets: Memory, place: Memory, text: int, kind: int) -> int:
    """Write the whole number that a text spells with ASCII digits; 1 if it is done."""
    length = memory_at(text, table)[LENGTH]
    data = memory_at(text + table[ASCII_DATA], octets)
    at, number = 0, 0
    if kind == 0 and length > 0 and (data[0] == MINUS or data[0] == PLUS):
        at = 1
    is_number = kind == 0 and length > at and length - at <= DIGITS
    while is_number and at < length:
        is_number = data[at] >= ZERO and data[at] <= NINE
        number = number * 10 + data[at] - ZERO
        at += 1
    if is_number:
        place[0] = 0 - number if data[0] == MINUS else number
    return 1 if is_number else 0


def write_numbers(table: Memory, result: Memory, octets: Memory, given: int) -> None:
    """Whole numbers as texts, from an array of int64 to one of objects."""
    numbers, texts = item(table, given, 0), item(table, given, 1)
    count = elements(table, numbers) if numbers[CLASS_WORD] == table[ARRAY_CLASS] else -1
    values, cells = memory_at(numbers[DATA], table), memory_at(texts[DATA], table)
    at = write_each(table, octets, values, cells, count)
    answer(table, result, invoke(table[GET_ITEM], given, 1, 0) if at == count else table[NONE])


def write_each(table: Memory, octets: Memory, values: Memory, cells: Memory, count: int) -> int:
    """Write so many whole numbers as texts; how many there are ahead of what is left."""
    at = 0
    while at < count:
        slot = slot_of(values[at], 0, 0)
        made = known(table, slot, values[at], 0, 0)
        if made == 0:
            made = spelled(table, octets, values[at])
            remember(table, slot, values[at], 0, 0, made)
        if made == 0:
            invoke(table[CLEAR_ERROR], 0, 0, 0)
            break
        put_cell(table, cells, at, made)
        at += 1
    return at


CLASS_WORD, LONGEST_NUMBER = 1, 20


def spelled(table: Memory, octets: Memory, number: int) -> int:
    """A whole number as a text of the caller's; 0 if there is no memory for it."""
    room = memory_at(table[NARROW], octets)
    rest, at, made = max(number, 0 - number), LONGEST_NUMBER, 0
    while rest > 0 or at == LONGEST_NUMBER:
        at -= 1
        room[at] = ZERO + rest % 10
        rest = rest // 10
    if number < 0:
        at -= 1
        room[at] = MINUS
    if rest == 0:  # the lowest number has no opposite
        made = new_text(table, octets, at, LONGEST_NUMBER)
    return made


def new_text(table: Memory, octets: Memory, start: int, end: int) -> int:
    """A text of the ASCII characters between two places of `NARROW`; 0 without memory for it."""
    made = invoke(table[NEW_TEXT], end - start, BEYOND - 1, 0)
    if made != 0:
        source, text = memory_at(table[NARROW], octets), memory_at(made + table[ASCII_DATA], octets)
        for place in range(end - start):
            text[place] = source[start + place]
    return made
