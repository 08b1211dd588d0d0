"""Routines between Python's texts and floats: the nearest float, the shortest decimal.

They work as those of `finding` do, and remember texts as these do. Words without signs are
whole numbers whose highest bit counts as any other.

Reading: D. Lemire, Number Parsing at a Gigabyte per Second, 2021; N. Mushtak and D. Lemire, Fast
Number Parsing Without Fallback, 2023. Writing: R. Giulietti, The Schubfach way to render doubles,
2020. Both multiply by powers of ten in 128 bits (`texts.powers_to_read`, `powers_to_write`).
"""

from __future__ import annotations

from typing import Any

from fornix.compile.text.finding import (
    MINUS,
    NINE,
    PLUS,
    WRITE,
    ZERO,
    known,
    new_text,
    put_cell,
    remember,
    slot_of,
)
from fornix.compile.text.routines import (
    ASCII_DATA,
    CLEAR_ERROR,
    DATA,
    GET_ITEM,
    HALF,
    IS_WIDE,
    KEEP,
    LENGTH,
    LOW,
    NAMES,
    NARROW,
    NONE,
    STEPS,
    TASK,
    answer,
    are_objects,
    elements,
    item,
    kind_at,
)
from fornix.ir.loops.routines import Memory, invoke, leading_zeros, memory_at

TOP = -0x8000000000000000
"""The highest bit of a word."""
WIDE_FRACTION, FRACTION = 52, 23
"""Bits of fractions of float64 and float32."""
BELOW_FRACTION, HALF_OF_FRACTION, LEAST_EXPONENT = (1 << 29) - 1, 1 << 28, 897
"""Of a float64: the bits that float32 lacks, the highest of them, its least normal exponent."""
BEYOND_SINGLES = 0x47EFFFFFF0000000
"""The bits of the least float64 that no float32 but infinity is next to."""
LEAST_READ, MOST_READ, LEAST_WRITTEN = -342, 308, -292
"""Powers of ten that there are."""
DIGITS = 18
"""Decimal digits of which none is left out."""
MOST_EXPONENT, BEYOND_ALL = 10_000, 1 << 20
"""What exponents are read up to, and what stands for one that is none."""
POINT, LOWER_E, UPPER_E = 46, 101, 69
"""Characters."""
LONGEST = 1200
"""Characters of a float, and more. Of no more, exponents tell what lies beyond all."""


def serve_numbers(
    table: Memory, result: Memory, octets: Memory, singles: Memory, given: int
) -> None:
    """Do what ``table`` says with a list of arrays; ``result`` is one of them, or None.

    The two in the middle tell types of elements and nothing else.
    """
    result[0] = 0
    if table[TASK] == WRITE:
        write_floats(table, result, octets, singles, given)
    else:
        read_floats(table, result, octets, given)


def high_product(x: int, y: int) -> int:
    """The upper 64 bits of a product of two words without signs."""
    low = (x & LOW) * (y & LOW)
    middle = (x >> HALF & LOW) * (y & LOW) + (low >> HALF & LOW)
    other = (x & LOW) * (y >> HALF & LOW) + (middle & LOW)
    return (x >> HALF & LOW) * (y >> HALF & LOW) + (middle >> HALF & LOW) + (other >> HALF & LOW)


def is_below(x: int, y: int) -> bool:
    """Whether a word without a sign is less than another."""
    return x ^ TOP < y ^ TOP


# ── reading


def read_floats(table: Memory, result: Memory, octets: Memory, given: int) -> None:
    """The bits of the float64 next to what each text spells; rows that are left are noted."""
    texts, numbers, left = item(table, given, 0), item(table, given, 1), item(table, given, 2)
    count = elements(table, texts) if are_objects(table, texts) else -1
    objects, bits = memory_at(texts[DATA], table), memory_at(numbers[DATA], table)
    rows = memory_at(left[DATA], table)
    missed, row = 0, 0
    while row < count:
        kind = kind_at(table, objects[row])
        if kind < 0:
            break
        length = memory_at(objects[row], table)[LENGTH]
        data = memory_at(objects[row] + table[ASCII_DATA], octets)
        if kind != 0 or read_float(table, data, length, bits, row) == 0:
            bits[row] = 0
            missed += 1
            rows[missed] = row
        row += 1
    rows[0] = missed
    answer(table, result, invoke(table[GET_ITEM], given, 1, 0) if row == count else table[NONE])


def read_float(table: Memory, data: Memory, length: int, bits: Memory, row: int) -> int:
    """Write the bits of what so many ASCII characters spell; 0 if that is left."""
    first = 1 if length > 0 and is_sign(data[0]) else 0
    point = behind_digits(data, first, length, NINE)
    behind, at = point, point
    if point < length and data[point] == POINT:
        behind = point + 1
        at = behind_digits(data, behind, length, NINE)
    digits = point - behind_digits(data, first, point, ZERO)
    digits += at - (behind if digits != 0 else behind_digits(data, behind, at, ZERO))
    number = with_digits(data, behind, at, with_digits(data, first, point, 0))
    given, power, done = point - first + at - behind, behind - at, 0
    if given > 0 and digits <= DIGITS and length <= LONGEST:
        if at < length and (data[at] == LOWER_E or data[at] == UPPER_E):
            power += exponent_of(data, at + 1, length)
            at = length
        if at == length:
            found = bits_of(table, number, power)
            if found >= 0 and (table[IS_WIDE] != 0 or not is_near_tie(found)):
                bits[row] = found | TOP if data[0] == MINUS else found
                done = 1
    return done


def behind_digits(data: Memory, start: int, end: int, last: int) -> int:
    """The first place from ``start`` on that has no digit up to the character ``last``."""
    at = start
    while at < end and data[at] >= ZERO and data[at] <= last:
        at += 1
    return at


def with_digits(data: Memory, start: int, end: int, number: int) -> int:
    """A number, and the digits between two places behind it; the rest of a division by 2⁶⁴."""
    for at in range(start, end):
        number = number * 10 + data[at] - ZERO
    return number


def is_near_tie(bits: int) -> bool:
    """Whether a float64 may be rounded to another float32 than the number near it, or to none."""
    is_between = bits & BELOW_FRACTION == HALF_OF_FRACTION or bits >= BEYOND_SINGLES
    return is_between or (bits != 0 and bits >> WIDE_FRACTION < LEAST_EXPONENT)


def is_sign(character: int) -> bool:
    """Whether it is one."""
    return character == MINUS or character == PLUS  # noqa: PLR1714 - routines have no sets


def is_digit(character: int) -> bool:
    """Whether it is a decimal one."""
    return character >= ZERO and character <= NINE


def exponent_of(data: Memory, start: int, length: int) -> Any:
    """The exponent that stands from a place on; one that is beyond all if none does."""
    at, number = start, 0
    if at < length and is_sign(data[at]):
        at += 1
    is_number = at < length
    while is_number and at < length:
        is_number = is_digit(data[at])
        number = min(number * 10 + data[at] - ZERO, MOST_EXPONENT)
        at += 1
    if not is_number:
        number = BEYOND_ALL
    return 0 - number if start < length and data[start] == MINUS else number


def bits_of(table: Memory, number: int, power: int) -> Any:
    """The bits of the float64 next to a number times a power of ten; -1 if that is left."""
    found = -1
    if number == 0 and power > 0 - BEYOND_ALL and power < MOST_EXPONENT + DIGITS:
        found = 0
    elif number != 0 and power >= LEAST_READ and power <= MOST_READ:
        shift = leading_zeros(number)
        powers = memory_at(table[STEPS], table)
        place = 2 * (power - LEAST_READ)
        high = high_product(number << shift, powers[place])
        low = (number << shift) * powers[place]
        if high & 0x1FF == 0x1FF:
            more = high_product(number << shift, powers[place + 1])
            low += more
            high += 1 if is_below(low, more) else 0
        found = rounded(high, low, shift, power)
    return found


def rounded(high: int, low: int, shift: int, power: int) -> Any:
    """The bits of the nearest float64 to a product; -1 unless that is a normal number."""
    upper = high >> 63 & 1
    fraction = high >> (upper + 9) & ((1 << 54) - 1)
    exponent = (217706 * power >> 16) + 63 + upper - shift + 1023
    # between two floats lies what leaves no rest, which few powers do
    is_tie = (low == 0 or low == 1) and fraction & 3 == 1 and power >= -4 and power <= 23  # noqa: PLR1714
    if is_tie and fraction << (upper + 9) == high:
        fraction = fraction & ~1
    fraction = (fraction + (fraction & 1)) >> 1
    if fraction >> 53 != 0:
        fraction = 1 << 52
        exponent += 1
    found = -1
    if exponent > 0 and exponent < 0x7FF:
        found = fraction & ((1 << 52) - 1) | exponent << 52
    return found


# ── writing


def write_floats(
    table: Memory, result: Memory, octets: Memory, singles: Memory, given: int
) -> None:
    """Floats as the shortest decimals that are nearest to no other float."""
    numbers, texts = item(table, given, 0), item(table, given, 1)
    count = elements(table, numbers)
    wide, narrow = memory_at(numbers[DATA], table), memory_at(numbers[DATA], singles)
    cells = memory_at(texts[DATA], table)
    at = 0
    while at < count:
        bits = wide[at] if table[IS_WIDE] != 0 else narrow[at]
        slot = slot_of(bits, 1, 0)
        made = known(table, slot, bits, 1, 0)
        if made == 0:
            made = written(table, octets, bits)
            remember(table, slot, bits, 1, 0, made)
        if made == 0:
            invoke(table[CLEAR_ERROR], 0, 0, 0)
            break
        put_cell(table, cells, at, made)
        at += 1
    answer(table, result, invoke(table[GET_ITEM], given, 1, 0) if at == count else table[NONE])


def written(table: Memory, octets: Memory, bits: int) -> Any:
    """A float as a text of the caller's; 0 if there is no memory for it."""
    width = WIDE_FRACTION if table[IS_WIDE] != 0 else FRACTION
    most = 0x7FF if table[IS_WIDE] != 0 else 0xFF
    fraction, exponent = bits & ((1 << width) - 1), bits >> width & most
    made = 0
    if exponent == most:
        names = memory_at(table[NAMES], table)
        made = names[(1 if bits >= 0 else 2) if fraction == 0 else 0]
        invoke(table[KEEP], made, 0, 0)
    else:
        made = decimal(table, octets, fraction, exponent, width, bits)
    return made


def decimal(
    table: Memory, octets: Memory, fraction: int, exponent: int, width: int, bits: int
) -> Any:
    """A finite float as a text of the caller's; 0 if there is no memory for it."""
    lowest = 1 - (0x3FF if width == WIDE_FRACTION else 0x7F) - width
    number, power = fraction, lowest
    if exponent != 0:
        number, power = fraction | 1 << width, lowest - 1 + exponent
    digits, places = 0, 0
    if power <= 0 and power >= 0 - width and number & ((1 << (0 - power)) - 1) == 0:
        digits = number >> (0 - power)
    elif number != 0:
        is_closer = 1 if fraction == 0 and exponent > 1 else 0
        places = power * 1262611 - 524031 * is_closer >> 22
        digits = shortest(table, number, power, places, is_closer)
    while digits != 0 and digits % 10 == 0:
        digits, places = digits // 10, places + 1
    return spelled_out(table, octets, digits, places, bits)


def shortest(table: Memory, number: int, power: int, places: int, is_closer: int) -> Any:
    """The digits of number · 2^power without so many decimal places, as few as tell it."""
    powers = memory_at(table[STEPS], table)
    at = 2 * (0 - places - LEAST_WRITTEN)
    high, low = powers[at], powers[at + 1]
    shift = power + ((0 - places) * 1741647 >> 19) + 1
    odd = number & 1
    lower = to_odd(high, low, (4 * number - 2 + is_closer) << shift) + odd
    value = to_odd(high, low, 4 * number << shift)
    upper = to_odd(high, low, (4 * number + 2) << shift) - odd
    whole = value >> 2
    tens = whole // 10
    is_under, is_over = lower <= 40 * tens, 40 * tens + 40 <= upper
    found = 0
    if whole >= 10 and is_under != is_over:
        found = 10 * (tens + (1 if is_over else 0))
    else:
        is_under, is_over = lower <= 4 * whole, 4 * whole + 4 <= upper
        middle = 4 * whole + 2
        found = whole
        if is_under != is_over:
            found += 1 if is_over else 0
        elif value > middle or (value == middle and whole & 1 != 0):
            found += 1
    return found


def to_odd(high: int, low: int, number: int) -> int:
    """The upper word of a product of three, its lowest bit set if more lies below."""
    rest = high * number
    carried = rest + high_product(low, number)
    product = high_product(high, number) + (1 if is_below(carried, rest) else 0)
    return product | (0 if carried == 0 or carried == 1 else 1)  # noqa: PLR1714 - no sets


def spelled_out(table: Memory, octets: Memory, digits: int, places: int, bits: int) -> Any:
    """Digits times a power of ten, without an exponent, as a text of the caller's."""
    room = memory_at(table[NARROW], octets)
    at, written_ones = LONGEST, 0
    for _ in range(places):
        at -= 1
        room[at] = ZERO
    while digits > 0 or written_ones <= 0 - places:
        if places < 0 and written_ones == 0 - places:
            at -= 1
            room[at] = POINT
        at -= 1
        room[at] = ZERO + digits % 10
        digits = digits // 10
        written_ones += 1
    if bits < 0:
        at -= 1
        room[at] = MINUS
    return new_text(table, octets, at, LONGEST)
