"""Sequences that are fed and given, and arrays that may be missing, within a native call."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fornix.compile.entry import is_available
from fornix.errors import FornixError, InvalidArgument
from fornix.runtime.control import ways
from fornix.runtime.control.ways import FlowWay
from tests.runtime.control.flows import Feeds, Pair, sessions, watched

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")

AT = """f (seq(float[N, 4]) s, int64 i) => (float[M, 4] y) {
    a = SequenceAt (s, i)
    y = Relu (a)
}"""
CHANGED = """f (seq(float[N]) s, int64 p, float[M] v) => (seq(float[K]) r, int64 n) {
    a = SequenceErase (s, p)
    r = SequenceInsert (a, v)
    n = SequenceLength (r)
}"""
MEANS = """f (seq(float[N, 4]) s) => (float[K, 4] y) {
    n = SequenceLength (s)
    stays = Constant <value = bool {1}> ()
    y = Loop (n, stays) <body = step (int64 i, bool k) => (bool k, float[4] o) {
        e = SequenceAt (s, i)
        first = Constant <value_ints = [0]> ()
        o = ReduceMean <keepdims = 0> (e, first)
    }>
}"""
MAYBE = """f (optional(float[N]) o, float[M] d) => (float[K] y) {
    there = OptionalHasElement (o)
    v = If (there) <
        then_branch = a () => (float[N] p) { p = OptionalGetElement (o) },
        else_branch = b () => (float[M] q) { q = Neg (d) }>
    y = Exp (v)
}"""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each native call, whether it gave results."""
    return watched(monkeypatch)


def arrays(*lengths: int, columns: int = 4) -> list[np.ndarray[Any, np.dtype[Any]]]:
    generator = np.random.default_rng(len(lengths))
    return [generator.standard_normal((n, columns)).astype("f") for n in lengths]


def rows(*lengths: int) -> list[np.ndarray[Any, np.dtype[Any]]]:
    return [array[:, 0].copy() for array in arrays(*lengths)]


def same(found: Any, wanted: Any) -> None:
    """Assert that two results are alike, lists too."""
    assert type(found) is type(wanted)
    if isinstance(found, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            same(one, other)
        return
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-6)


def agree(pair: Pair, feeds: list[Feeds]) -> None:
    for feed in feeds * 3:
        for found, wanted in zip(pair[0].run(None, feed), pair[1].run(None, feed), strict=True):
            same(found, wanted)


def test_lists_of_other_lengths_and_extents_are_read_in_the_call(calls: list[bool]) -> None:
    lists = arrays(2, 3), arrays(5), arrays(1, 1, 7, 2), arrays(*range(1, 60))
    agree(sessions(MEANS), [{"s": found} for found in lists])
    assert calls.count(True) >= len(lists)
    assert calls[-1]


@pytest.mark.parametrize("position", [0, 1, -1, -3])
def test_lists_are_changed_and_given_in_the_call(calls: list[bool], position: int) -> None:
    feeds: list[Feeds] = [
        {"s": rows(*lengths), "p": np.array(position), "v": rows(3)[0]}
        for lengths in ((2, 3, 4), (0, 1, 5, 6), (1,) * 40)
    ]
    agree(sessions(CHANGED), feeds)
    assert calls[-1]


def test_what_is_given_is_the_callers_own(calls: list[bool]) -> None:
    fast, _ = sessions(CHANGED)
    given = rows(2, 3)
    feeds = {"s": given, "p": np.array(0), "v": rows(4)[0]}
    for _ in range(4):
        before = [array.copy() for array in given]
        found = fast.run(None, feeds)[0]
        kept = [array.copy() for array in found]
        for array in fast.run(None, feeds)[0]:
            array[...] = 7
        for one, other in zip((*given, *found), (*before, *kept), strict=True):
            np.testing.assert_array_equal(one, other)
    assert calls[-1]


def test_branches_give_lists_in_the_call(calls: list[bool]) -> None:
    text = """f (float[N, 4] x, bool b) => (seq(float[P, 4]) s) {
        s = If (b) <
            then_branch = c () => (seq(float[P, 4]) t) {
                a = Sin (x)
                t = SequenceConstruct (x, a, x)
            },
            else_branch = d () => (seq(float[P, 4]) u) { u = SplitToSequence <axis = 0> (x) }>
    }"""
    feeds: list[Feeds] = [
        {"x": arrays(n)[0], "b": np.array(b)} for n in (3, 1, 30) for b in (True, False)
    ]
    agree(sessions(text), feeds)
    assert calls[-1]


def test_an_array_may_be_missing(calls: list[bool]) -> None:
    found = [*rows(3, 5), None, None, *rows(2)]
    feeds: list[Feeds] = [{"o": one, "d": rows(4)[0]} for one in found]
    agree(sessions(MAYBE), feeds)
    assert calls[-1]


def test_what_is_missing_is_refused_where_it_is_read(calls: list[bool]) -> None:
    text = "f (optional(float[N]) o) => (float[N] y) { a = OptionalGetElement (o) y = Exp (a) }"
    fast, slow = sessions(text)
    agree((fast, slow), [{"o": one} for one in rows(3, 2)])
    assert calls[-1]
    for session in (fast, slow):
        with pytest.raises(FornixError, match="OptionalGetElement"):
            session.run(None, {"o": None})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([np.zeros((2, 4))], "float64"),
        (arrays(2, columns=5), r"float32\[2, 5\]"),
        ([np.zeros(4, "f")], r"float32\[4\]"),
        ([np.zeros((1,) * 9, "f")], "float32"),
        ([None], "NoneType"),
        ({}, "pass a list"),
    ],
)
def test_elements_that_are_not_as_declared_are_refused(
    calls: list[bool], wrong: Any, words: str
) -> None:
    fast, slow = sessions(AT)
    agree((fast, slow), [{"s": arrays(2, 3), "i": np.array(1)}])
    assert calls[-1]
    with pytest.raises(InvalidArgument, match=words):
        fast.run(None, {"s": wrong, "i": np.array(0)})


def test_all_elements_are_looked_at(calls: list[bool]) -> None:
    # The last one is read by nobody.
    fast, _ = sessions(AT)
    for _ in range(4):
        fast.run(None, {"s": arrays(2, 3), "i": np.array(0)})
    assert calls[-1]
    with pytest.raises(InvalidArgument, match=r"s\[2\]"):
        fast.run(None, {"s": [*arrays(2, 3), *arrays(2, columns=3)], "i": np.array(0)})


def test_elements_in_another_order_are_read_all_the_same() -> None:
    pair = sessions(AT)
    turned = [array.T.copy().T for array in arrays(2, 3)]
    cut = [np.concatenate([array, array])[::2] for array in arrays(4, 3)]
    bytes_ = np.zeros(2 * 4 * 4 + 1, np.uint8)
    odd = np.frombuffer(bytes_.data, np.float32, 8, 1).reshape(2, 4)
    feeds = [arrays(2, 3), turned, cut, [odd, odd], tuple(arrays(1, 2))]
    agree(pair, [{"s": one, "i": np.array(-1)} for one in feeds])


@pytest.mark.parametrize("position", [2, -3])
def test_positions_beyond_a_list_are_refused(calls: list[bool], position: int) -> None:
    fast, slow = sessions(AT)
    agree((fast, slow), [{"s": arrays(2, 3), "i": np.array(1)}])
    assert calls[-1]
    for session in (fast, slow):
        with pytest.raises(FornixError, match="SequenceAt"):
            session.run(None, {"s": arrays(2, 3), "i": np.array(position)})


def test_an_empty_list_is_one_of_no_elements(calls: list[bool]) -> None:
    text = """f (seq(float[N]) s, float[M] v) => (seq(float[K]) r, int64 n) {
        n = SequenceLength (s)
        r = SequenceInsert (s, v)
    }"""
    agree(sessions(text), [{"s": rows(*n), "v": rows(2)[0]} for n in ((), (1,), (), (2, 0))])
    assert calls[-1]


def test_an_extent_of_a_list_is_not_that_of_another_input() -> None:
    # Elements may have other extents than an array that is declared with the same name.
    text = """f (seq(float[N]) s, float[N] v) => (float[K] y) {
        z = Constant <value_int = 0> ()
        a = SequenceAt (s, z)
        y = Concat <axis = 0> (a, v)
    }"""
    feeds: list[Feeds] = [
        {"s": rows(n), "v": rows(m)[0]} for n, m in ((3, 3), (3, 5), (2, 1), (1, 4), (3, 3))
    ]
    agree(sessions(text), feeds)


def test_lists_of_very_many_are_left_to_others(
    calls: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "MAX_ENTRIES", 40)
    pair = sessions(AT)
    for length, is_native in ((3, True), (40, True), (41, True), (90, False), (2, True)):
        agree(pair, [{"s": arrays(1) * length, "i": np.array(length - 1)}])
        assert calls[-1] is is_native


def test_threads_feed_lists_to_one_session(calls: list[bool]) -> None:
    pair = sessions(MEANS)
    lists = [arrays(*range(1, n)) for n in range(2, 34)]
    wanted = [pair[1].run(None, {"s": one})[0] for one in lists]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = pool.map(lambda one: pair[0].run(None, {"s": one})[0], lists)
            for one, other in zip(found, wanted, strict=True):
                same(one, other)
    assert calls[-1]


def test_memory_is_widened_once_for_callers_at_the_same_time() -> None:
    # One of them comes back with what it had before another one asked for more.
    fast, slow = sessions(MEANS)
    agree((fast, slow), [{"s": arrays(2)}])
    programs = fast._programs
    way = getattr(programs and programs.general.flow, "_way", None)
    assert isinstance(way, FlowWay)
    before = way._flows.pop()
    many = {"s": arrays(*[1] * 40)}
    agree((fast, slow), [many])
    widened = way._budget
    assert widened != before.budget
    way._flows.append(before)
    agree((fast, slow), [many])
    assert way._budget == widened
    assert before not in way._flows
