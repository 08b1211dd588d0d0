"""Machine code finds texts among keys, whatever characters they have, and leaves what is none."""

from __future__ import annotations

import gc
import random
import sys
from typing import Any

import numpy as np
import pytest

from fornix.compile.program import texts
from fornix.compile.text import routines as words
from fornix.compile.text.calls import Keys, first_words, text_call

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = pytest.mark.skipif(not first_words(), reason="another Python lays texts out anew")

ALPHABETS = ("ab", "aZ09 _", "é\u00ffa", "\u4e2d\u6587a", "\U0001f600a", "\u0080\u0100")


class _Text(str):
    """A text of another class."""

    __slots__ = ()


def sampled(count: int, longest: int, seed: int) -> list[str]:
    """Texts of all kinds and lengths."""
    source = random.Random(seed)
    return [
        "".join(source.choices(source.choice(ALPHABETS), k=source.randrange(longest + 1)))
        for _ in range(count)
    ]


class Finder:
    """Keys, and the function that finds texts among them."""

    def __init__(self, keys: list[str], task: int = words.NUMBER) -> None:
        self.keys = Keys(keys)
        self.table = np.array(first_words(), np.int64)
        self.table[words.TASK] = task
        self.keys.write(self.table)
        address, self.owner = texts()
        self.call = text_call(self.table, address)

    def __call__(self, given: Any) -> Array | None:
        found: Array | None = self.call([given, np.full(np.shape(given), -7, np.int64)])
        return found


def objects(texts: list[Any]) -> Array:
    made = np.empty(len(texts), object)
    made[:] = texts
    return made


@pytest.mark.parametrize("longest", [2, 9, 40])
def test_each_text_gets_the_number_of_its_key(longest: int) -> None:
    keys = list(dict.fromkeys(sampled(300, longest, 1)))
    numbers = {key: number for number, key in enumerate(keys)}
    given = [*keys, *sampled(500, longest, 2)]
    found = Finder(keys)(objects(given))
    assert found is not None
    assert found.tolist() == [numbers.get(text, len(keys)) for text in given]


def test_objects_are_remembered_within_a_call_and_no_longer() -> None:
    keys = [f"key {k}" for k in range(900)]
    find = Finder(keys)
    for turn in range(50):
        # of the same size, and so where those of the last call were
        made = [f"key {(k * 7 + turn) % 900}" for k in range(40)]
        places = np.random.default_rng(turn).integers(0, 40, 2000)
        found = find(objects([made[place] for place in places]))
        assert found is not None
        assert found.tolist() == [(place * 7 + turn) % 900 for place in places]
        del made


def test_of_equal_keys_the_first_counts() -> None:
    found = Finder(["a", "b", "a"])(objects(["a", "b", "c"]))
    assert found is not None
    assert found.tolist() == [0, 1, 3]


def test_texts_that_differ_in_one_byte_are_others() -> None:
    longest = "x" * 33
    for size in range(34):
        key = longest[:size]
        others = [key[:at] + "y" + key[at + 1 :] for at in range(size)]
        found = Finder([key])(objects([key, *others]))
        assert found is not None
        assert found.tolist() == [0, *[1] * size]


def test_arrays_of_any_rank_are_read() -> None:
    finder, texts = Finder(["a", "b"]), objects(["a", "b", "?", "a", "b", "a"])
    for shape in ((), (6,), (2, 3), (1, 6, 1)):
        given = texts[0:1].reshape(()) if not shape else texts.reshape(shape)
        found = finder(given)
        assert found is not None
        assert found.shape == shape
        assert found.reshape(-1).tolist() == [0, 1, 2, 0, 1, 0][: found.size]
    empty = finder(np.empty((0, 3), object))
    assert empty is not None
    assert empty.shape == (0, 3)


@pytest.mark.parametrize("other", [None, b"a", 1, 1.5, np.str_("a"), _Text("a")])
def test_what_is_no_plain_text_is_left_to_the_caller(other: object) -> None:
    assert Finder(["a"])(objects(["a", other, "a"])) is None


def test_other_arrays_are_left_to_the_caller() -> None:
    finder = Finder(["a"])
    assert finder(np.array(["a", "a"])) is None
    assert finder(objects(["a", "a", "a"])[::2]) is None
    assert finder(np.zeros(3, np.int64)) is None
    assert finder.call([["a"], np.zeros(1, np.int64)]) is None


def test_nobody_gains_or_loses_a_reference() -> None:
    finder, given = Finder(["some key", "other"]), objects(["some key ".strip(), None, "z" * 5])
    whole = objects(["some key ".strip(), "z" * 5])
    result = np.zeros(2, np.int64)
    gc.collect()
    before = [sys.getrefcount(x) for x in (whole, result, whole[1], given)]
    for _ in range(100):
        assert finder.call([whole, result]) is result
        finder(given)
    after = [sys.getrefcount(x) for x in (whole, result, whole[1], given)]
    assert after == before


def test_names_own_what_they_hold() -> None:
    names, finder, held = named(words.NAME)
    before = counted(names)
    found = finder.call([np.array([0, 1, 1]), np.empty(3, object)])
    during = counted(names)
    texts = list(found)
    assert texts == [names[0], names[1], names[1]]
    del found, texts
    assert [n - b for n, b in zip(during, before, strict=True)] == [1, 2]
    assert counted(names) == before
    for outside in (-1, 2):
        assert finder.call([np.array([0, outside]), np.empty(2, object)]) is None
    assert counted(names) == before
    assert held.size


def test_dictionaries_own_what_they_hold() -> None:
    names, finder, held = named(words.MAKE_MAPS)
    before = counted(names)
    maps = finder.call([np.array([[1, 2], [3, np.inf], [5, 6]], np.float32)])
    during = counted(names)
    rows = [list(one.values()) for one in maps]
    kinds = {type(value) for row in rows for value in row}
    assert {tuple(one) for one in maps} == {tuple(names)}
    del maps
    assert rows == [[1, 2], [3, np.inf], [5, 6]]
    assert kinds == {float}
    assert [n - b for n, b in zip(during, before, strict=True)] == [3, 3]
    assert counted(names) == before
    assert finder.call([np.zeros((0, 2), np.float32)]) == []
    assert held.size


def named(task: int) -> tuple[list[str], Finder, Array]:
    """Names, a function that gives them, and what it reads."""
    names = [" ".join(parts) for parts in (["some", "name"], ["other", "name"])]
    finder, held = Finder(names, task), np.array([id(name) for name in names], np.int64)
    finder.table[words.NAMES] = held.ctypes.data
    return names, finder, held


def counted(names: list[str]) -> list[int]:
    """References to each of ``names``."""
    return [sys.getrefcount(names[at]) for at in range(len(names))]
