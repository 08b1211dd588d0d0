"""Machine code that works with Python's texts and dictionaries, as functions for Python.

Decides where CPython keeps what the routines (`routines`) look for; `is_available` finds that
out from texts that it knows. What they do, and in which cases they leave it to the caller, is told
by a table of words, which begins with those of `first_words`.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from fornix.compile import entry
from fornix.compile.text import finding, grams, numbers, serving
from fornix.compile.text import routines as words
from fornix.dtype import FLOAT32, FLOAT64, INT32, INT64, UINT8, DType

if TYPE_CHECKING:
    from fornix.compile.cache import ObjectCache

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
TextCall: TypeAlias = Callable[[list[Any]], Any]

_TEXT = """
define ptr @kernel(ptr %self, ptr %given) #0 {
entry:
  %table.at = getelementptr i8, ptr %self, i64 @DATA@
  %table = load ptr, ptr %table.at
  %result = alloca i64
  %list = ptrtoint ptr %given to i64
  call void @serve(ptr %table, ptr %result, @KINDS@, i64 %list)
  %made = load ptr, ptr %result
  ret ptr %made
}
attributes #0 = { nounwind }
"""
_ROUTINES: dict[str, tuple[Callable[..., None], list[DType]]] = {
    "keys": (serving.serve, [UINT8, FLOAT32, FLOAT64]),
    "finding": (finding.serve_found, [UINT8, INT32]),
    "numbers": (numbers.serve_numbers, [UINT8, INT32]),
    "grams": (grams.serve_grams, [UINT8, FLOAT32]),
}
"""Each family of code, with the types of elements of its memory behind table and result."""


def texts_code(cache: ObjectCache, family: str) -> tuple[int, object]:
    """The address of the function of a family, and what keeps it in memory."""
    from fornix.compile.emit.routines import routine_texts  # noqa: PLC0415 - of the compiler
    from fornix.compile.emit.vocabulary import NEEDED  # noqa: PLC0415 - of the compiler
    from fornix.compile.target import Target  # noqa: PLC0415 - imports llvmlite

    function, kinds = _ROUTINES[family]
    routines = "\n".join([*NEEDED, *routine_texts("serve", function, [INT64, INT64, *kinds, None])])
    text = _TEXT.replace("@KINDS@", ", ".join(["ptr null"] * len(kinds)))
    text = routines + text.replace("@DATA@", str(entry.DATA))
    return cache.load([text], Target.host())[text]


def text_call(table: Array, address: int) -> TextCall:
    """The function at ``address`` that does what ``table`` says with a list of arrays."""
    made: Any = entry.entry(table, address)
    return cast("TextCall", made)


_FUNCTIONS = {
    words.GET_ITEM: "PyList_GetItem",
    words.KEEP: "Py_IncRef",
    words.RELEASE: "Py_DecRef",
    words.NEW_LIST: "PyList_New",
    words.SET_ITEM: "PyList_SetItem",
    words.NEW_DICT: "PyDict_New",
    words.PUT_KEY: "PyDict_SetItem",
    words.NEW_FLOAT: "PyFloat_FromDouble",
    words.CLEAR_ERROR: "PyErr_Clear",
    words.SIZE: "PyList_Size",
    words.ITEMS: "PyDict_Items",
    words.PART: "PyTuple_GetItem",
    words.GET_VALUE: "PyDict_GetItem",
    words.AS_NUMBER: "PyLong_AsLongLong",
    words.CALL: "PyObject_CallOneArg",
    finding.SUBSTRING: "PyUnicode_Substring",
    finding.NEW_TEXT: "PyUnicode_New",
    finding.AS_UTF8: "PyUnicode_AsUTF8AndSize",
}
_SAMPLES = {
    words.ASCII: ("fornix abc", "zx", "a", "", "x" * 99),
    words.LATIN: ("é fornix", "é", "ÿß" * 40),
    words.DOUBLE: ("fornix \u4e2d\u6587", "\u4e2d", "\u20acx" * 30),
    words.FOURFOLD: ("fornix \U0001f600", "\U0001f600", "x\U0001f601" * 20),
}
"""Texts of each kind, of several lengths."""
WHOLE = 0xA0
"""Of a text's state, what says that its characters lie in it: before 3.12 they might not."""


@cache
def first_words() -> tuple[int, ...]:
    """The words of every table that are functions, types and places; none if nothing is there."""
    if not entry.is_available() or sys.byteorder != "little":
        return ()
    found = np.zeros(finding.ALL_WORDS, np.int64)
    for word, name in _FUNCTIONS.items():
        found[word] = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0
    found[words.NONE], found[words.ARRAY_CLASS] = id(None), id(np.ndarray)
    found[finding.NONE_COUNTS] = sys.version_info < (3, 12)  # later ones never count references
    found[words.TEXT_CLASS] = id(str)
    found[words.ASCII_DATA] = sys.getsizeof("") - 1
    found[words.WIDE_DATA] = sys.getsizeof("\u4e2d") - 4
    classes = {words.FLOAT_CLASS: float, words.DOUBLE_CLASS: np.float64}
    for word, kind in (classes | {words.SINGLE_CLASS: np.float32}).items():
        found[word] = id(kind)
    if not _tell_kinds(found) or not _are_numbers_laid_out():
        return ()
    return tuple(found.tolist())


def _tell_kinds(found: Array) -> bool:
    """Note which bits of a text's state tell its kind; whether texts are laid out as expected."""
    texts = {kind: [*map(_own, s), *map(sys.intern, s)] for kind, s in _SAMPLES.items()}
    states = {kind: [_long(text, 8 * words.STATE) & words.LOW for text in group]
              for kind, group in texts.items()}  # fmt: skip
    varied = differing = 0
    for group in states.values():
        differing |= group[0] ^ states[words.ASCII][0]
        for state in group:
            varied |= state ^ group[0]
    told = differing & ~varied | (WHOLE if sys.version_info < (3, 12) else 0)
    found[words.STATES] = told
    for kind, group in states.items():
        found[kind] = group[0] & told
    is_told = len({int(found[kind]) for kind in _SAMPLES}) == len(_SAMPLES)
    return is_told and all(
        _is_laid_out(text, kind, found) for kind, group in texts.items() for text in group
    )


def _are_numbers_laid_out() -> bool:
    start, number = 8 * words.VALUE, -12345.5
    wide = [number, np.float64(number)]
    is_wide = all(ctypes.c_double.from_address(id(x) + start).value == number for x in wide)
    single = np.float32(number)
    return is_wide and ctypes.c_float.from_address(id(single) + start).value == number


def _is_laid_out(text: str, kind: int, found: Array) -> bool:
    encoding = {words.ASCII: "ascii", words.LATIN: "latin-1", words.DOUBLE: "utf-16-le"}
    data = text.encode(encoding.get(kind, "utf-32-le"))
    start = int(found[words.ASCII_DATA if kind == words.ASCII else words.WIDE_DATA])
    return (
        _long(text, 8) == id(str)
        and _long(text, 8 * words.LENGTH) == len(text)
        and ctypes.string_at(id(text) + start, len(data)) == data
    )


def _own(text: str) -> str:
    """An object of its own, where CPython makes one."""
    return "".join([text[:1], text[1:]])


def _long(thing: object, offset: int) -> int:
    return ctypes.c_int64.from_address(id(thing) + offset).value


class Keys:
    """Texts by number, as routines find them."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Of equal ``keys`` the first counts."""
        data = [_stored(key) for key in keys]
        self.sizes = np.array([len(part) * 4 + kind for part, kind in data], np.int64)
        starts = np.cumsum([8, *(len(part) + 8 for part, _ in data)])[:-1].astype(np.int64)
        room = np.zeros(int(sum(len(part) + 8 for part, _ in data)) + 16, np.uint8)
        for start, (part, _) in zip(starts.tolist(), data, strict=True):
            room[start : start + len(part)] = np.frombuffer(part, np.uint8)
        self.data = room
        self.keys = np.stack([room.ctypes.data + starts, self.sizes], 1) if keys else _NO_KEYS
        seeds = _seeds(room, starts, self.sizes)
        self.entries = _hashed(seeds, _first_of(data))
        self.recent = np.zeros(3 * (words.LAST_RECENT + 2), np.int64)

    def write(self, table: Array) -> None:
        """Let ``table`` point to them; these must stay as long as it does."""
        table[words.ENTRIES], table[words.LAST_ENTRY] = (
            self.entries.ctypes.data, len(self.entries) - 1,
        )  # fmt: skip
        table[words.KEYS], table[words.COUNT] = self.keys.ctypes.data, len(self.sizes)
        table[words.RECENT] = self.recent.ctypes.data


class Numbers:
    """Whole numbers by their place among them, as routines find them."""

    def __init__(self, keys: Sequence[int]) -> None:
        """No two of ``keys`` are equal."""
        self.count = len(keys)
        numbers = np.array(keys, np.int64)
        self.entries = _hashed(_mixed(numbers, 0), range(self.count))
        taken = self.entries[:, 1] >= 0
        self.entries[taken, 0] = numbers[self.entries[taken, 1]]

    def write(self, table: Array) -> None:
        """Let ``table`` point to them; these must stay as long as it does."""
        table[words.ENTRIES], table[words.LAST_ENTRY] = (
            self.entries.ctypes.data, len(self.entries) - 1,
        )  # fmt: skip
        table[words.COUNT] = self.count


_NO_KEYS = np.zeros((1, 2), np.int64)


def _first_of(data: Sequence[tuple[bytes, int]]) -> list[int]:
    """The numbers of those that no one ahead of them equals."""
    first: dict[tuple[bytes, int], int] = {}
    for number, key in enumerate(data):
        first.setdefault(key, number)
    return list(first.values())


def _stored(text: str) -> tuple[bytes, int]:
    """The bytes of a text as CPython stores it, and the number of its kind."""
    widest = max(map(ord, text), default=0)
    kinds = (
        (0x80, "ascii"),
        (0x100, "latin-1"),
        (0x10000, "utf-16-le"),
        (sys.maxunicode + 1, "utf-32-le"),
    )
    kind, encoding = next((k, name) for k, (end, name) in enumerate(kinds) if widest < end)
    return text.encode(encoding, "surrogatepass"), kind


def _seeds(room: Array, starts: Array, sizes: Array) -> Array:
    """What `routines.place_of` makes of each key's bytes."""
    seeds, lengths = sizes.copy(), sizes >> 2
    longest = int(lengths.max(initial=0))
    for at in range(0, longest, 8):
        rest = lengths - at
        [here] = np.nonzero(rest > 0)
        start = np.where(rest >= 8, starts + at, starts + lengths - 8)[here]
        parts = room[start[:, None] + np.arange(8)].copy().view(np.int64)[:, 0]
        short = np.minimum(lengths[here], 8)
        cut = np.where(short < 8, (np.int64(1) << (8 * np.minimum(short, 7))) - 1, -1)
        parts = (parts >> (8 * (8 - short))) & cut
        seeds[here] = _mixed(seeds[here], parts)
    return _mixed(seeds, 0)


def _mixed(seeds: Array, parts: Array | int) -> Array:
    with np.errstate(over="ignore"):
        products: Array = (seeds ^ parts) * np.int64(words.FACTOR)
    return np.asarray(products ^ (products >> words.HALF))


class Crowded(Exception):
    """Keys whose seeds lead to the same places: a table of them would take long to make and read.

    Of keys that nobody chose for that, one of 10⁷ lies some 90 places behind its own.
    """


FARTHEST = 256
"""Places behind its own at which a key may lie."""


def _hashed(seeds: Array, numbers: Sequence[int]) -> Array:
    """A table with an entry for each of ``numbers``, where its seed says or behind it.

    Raises Crowded where that is far.
    """
    size = 4
    while size < 2 * len(numbers) + 1:
        size *= 2
    made = np.full((size, 2), -1, np.int64)
    taken: set[int] = set()
    for number in numbers:
        at = own = int(seeds[number]) & (size - 1)
        while at in taken:
            at = (at + 1) & (size - 1)
            if (at - own) & (size - 1) > FARTHEST:
                raise Crowded
        taken.add(at)
        made[at] = seeds[number], number
    return made


DENSE = 1 << 16
"""Pairs of what has been read and a word that follows, up to which each has a place."""


class Grams:
    """N-grams of words by coordinate, as routines find them."""

    def __init__(self, lists: Sequence[Sequence[str | int]], coordinates: Sequence[int]) -> None:
        """Each of ``lists`` counts at the coordinate beside it."""
        found = dict.fromkeys(word for gram in lists for word in gram)
        self.words = {word: number for number, word in enumerate(found)}
        count = len(self.words)
        nodes: dict[tuple[int, int], int] = {}
        places = [-1] * count
        for gram, coordinate in zip(lists, coordinates, strict=True):
            node = self.words[gram[0]]
            for word in gram[1:]:
                step = node, self.words[word]
                if step not in nodes:
                    nodes[step] = len(places)
                    places.append(-1)
                node = nodes[step]
            places[node] = coordinate
        self.places = np.array([*places, -1], np.int64)
        keys = np.array([node * (count + 1) + word for node, word in nodes], np.int64)
        self.is_dense = len(places) * (count + 1) <= DENSE
        if self.is_dense:
            self.steps = np.full(len(places) * (count + 1), -1, np.int64)
            self.steps[keys] = [*nodes.values()]
            return
        self.steps = _hashed(_mixed(keys, 0), range(len(keys)))
        taken = self.steps[:, 1] >= 0
        numbers = self.steps[taken, 1]
        self.steps[taken, 0] = keys[numbers]
        self.steps[taken, 1] = np.array([*nodes.values()], np.int64)[numbers]


@cache
def powers_to_read() -> Array:
    """Powers of five in two words each, the first bit of which is 1: D. Lemire, 2021."""
    made = []
    for power in range(numbers.LEAST_READ, numbers.MOST_READ + 1):
        if power >= 0:
            value = 5**power << WORD_BITS
            made.append(value >> (value.bit_length() - WORD_BITS))
        else:
            divisor = 5**-power
            more = 0 if power >= EXACT else WORD_BITS
            value = (1 << (divisor.bit_length() + WORD_BITS - 1 + more)) // divisor + 1
            made.append(value >> (value.bit_length() - WORD_BITS))
    return _in_words(made)


@cache
def powers_to_write() -> Array:
    """Powers of ten in two words each, rounded up, the first bit of which is 1."""
    made = []
    for power in range(numbers.LEAST_WRITTEN, MOST_WRITTEN + 1):
        value, divisor = 10 ** max(power, 0), 10 ** max(-power, 0)
        shift = WORD_BITS - value.bit_length() + divisor.bit_length()
        found = -(-(value << max(shift, 0)) // (divisor << max(-shift, 0)))
        if found.bit_length() > WORD_BITS:
            found = -(-(value << max(shift - 1, 0)) // (divisor << max(1 - shift, 0)))
        made.append(found)
    return _in_words(made)


WORD_BITS, MOST_WRITTEN = 128, 324
EXACT = -27
"""The least power of five by which a quotient of 64 bits can end in a tie."""


def _in_words(numbers: Sequence[int]) -> Array:
    data = b"".join(number.to_bytes(16, "big") for number in numbers)
    return np.frombuffer(data, ">i8").astype(np.int64)
