"""If and Loop that Python drives take a short way, and leave to the long one what is unlike."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from fornix.compile.entry import is_available
from fornix.dtype import DType
from fornix.errors import Fail, FornixError, InvalidArgument
from fornix.ops.control import Turns
from fornix.ops.text import string_concat
from fornix.runtime import InferenceSession
from fornix.runtime.control import driving
from fornix.runtime.control.ways import TRIALS, ControlWay
from fornix.runtime.shortcuts import shortcut
from tests.runtime.control.flows import sessions, texts

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")

JOINED = """f (string[N] x, int64 n) => (string[N] y) {
    c = Constant <value = bool {1}> ()
    y = Loop (n, c, x) <body = b (int64 i, bool k, string[N] h) => (bool k2, string[N] o) {
        k2 = Identity (k) o = StringConcat (h, x) }> }"""
LISTED = """f (optional(seq(float[N])) o) => (int64 y) {
    h = OptionalHasElement (o)
    y = If (h) <
        then_branch = a () => (int64 p) { e = OptionalGetElement (o) p = SequenceLength (e) },
        else_branch = b () => (int64 q) { q = Constant <value_int = -1> () }> }"""
RANKED = """f (float[N] x, int64 n) => (float[] y) {
    c = Constant <value = bool {1}> ()
    y = Loop (n, c, x) <body = b (int64 i, bool k, float[] h) => (bool k2, float[] o) {
        k2 = Identity (k) z = Constant <value_ints = [0]> () a = Unsqueeze (h, z)
        o = Sin (a) }> }"""
MIXED = """f (string[N] x, float[M] v, int64 n) => (string[A] y, float[B] w) {
    c = Constant <value = bool {1}> ()
    y, w = Loop (n, c, x, v) <
        body = b (int64 i, bool k, string[C] h, float[D] u) => (bool k2, string[E] o, float[F] s) {
            k2 = Identity (k) o = Concat <axis = 0> (h, x) j = StringConcat (o, o)
            l = Size (j) lf = Cast <to = 1> (l) t = Mul (u, lf) s = Concat <axis = 0> (t, v) }> }"""


def long_ways(patch: pytest.MonkeyPatch) -> list[object]:
    """A list that grows with each run that goes the long way."""
    gone: list[object] = []
    original = InferenceSession._run

    def observed(self: InferenceSession, *given: Any) -> Any:
        gone.append(given)
        return original(self, *given)

    patch.setattr(InferenceSession, "_run", observed)
    return gone


def test_loops_that_join_texts_take_a_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, _ = sessions(JOINED, opset=20)
    gone = long_ways(monkeypatch)
    for count in (3, 0, 1, 3, 2, 3):
        [found] = fast.run(None, {"x": texts("a", "é"), "n": np.array(count)})
        assert found.tolist() == ["a" * (count + 1), "é" * (count + 1)]
    assert len(gone) == 1


def test_texts_are_looked_at_on_the_short_way_too() -> None:
    fast, _ = sessions(JOINED, opset=20)
    for word in ("a", "a", "a", "a", b"a", 1, "a"):
        [found] = fast.run(None, {"x": np.array([word], object), "n": np.array(2)})
        assert found.tolist() == [(word.decode() if isinstance(word, bytes) else str(word)) * 3]


def test_results_of_a_loop_without_iterations_are_the_callers_own() -> None:
    fast, _ = sessions(JOINED, opset=20)
    x = texts("a", "b")
    for _ in range(5):
        [found] = fast.run(None, {"x": x, "n": np.array(0)})
        found[:] = "z"
        assert x.tolist() == ["a", "b"]


def test_branches_on_what_may_be_missing_take_a_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, _ = sessions(LISTED, opset=20)
    line = np.ones(3, "f")
    feeds: list[Any] = [[line], [line, line[:2]], [], None]
    for _ in range(4):
        assert [int(fast.run(None, {"o": o})[0]) for o in feeds] == [1, 2, 0, -1]
    gone = long_ways(monkeypatch)
    assert int(fast.run(None, {"o": [line] * 5})[0]) == 5
    assert not gone


@pytest.mark.parametrize("wrong", [[np.ones(3)], [np.ones((1, 1), "f")], np.ones(3, "f"), ["a"]])
def test_sequences_of_other_types_are_refused_on_the_short_way_too(wrong: object) -> None:
    fast, kernels = sessions(LISTED, opset=20)
    for _ in range(5):
        fast.run(None, {"o": [np.ones(3, "f")]})
    with pytest.raises(FornixError) as expected:
        kernels.run(None, {"o": wrong})
    with pytest.raises(type(expected.value)):
        fast.run(None, {"o": wrong})


def test_a_name_that_is_no_input_is_refused_where_an_input_may_be_missing() -> None:
    fast, _ = sessions(LISTED, opset=20)
    for _ in range(5):
        fast.run(None, {"o": None})
    with pytest.raises(InvalidArgument, match="feeds must name its inputs"):
        fast.run(None, {"other": None})


def test_values_whose_rank_grows_are_what_kernels_give() -> None:
    fast, kernels = sessions(RANKED)
    x = np.linspace(-2, 2, 3, dtype="f")
    for count in (2, 0, 1, 3, 2, 3, 0) * 2:
        feeds = {"x": x, "n": np.array(count)}
        [found], [wanted] = fast.run(None, feeds), kernels.run(None, feeds)
        assert found.shape == (1,) * count + (3,)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_bodies_of_texts_and_numbers_are_what_kernels_give_for_all_extents() -> None:
    fast, kernels = sessions(MIXED, opset=20)
    for rows, lines, count in [
        (2, 3, 3),
        (1, 3, 3),
        (2, 1, 2),
        (0, 3, 2),
        (2, 0, 2),
        (2, 3, 3),
    ] * 2:
        feeds = {"x": texts(*"ab"[:rows]), "v": np.ones(lines, "f"), "n": np.array(count)}
        for found, wanted in zip(fast.run(None, feeds), kernels.run(None, feeds), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_what_is_wrong_in_a_later_iteration_is_told_with_its_node() -> None:
    numbers = "z = Cast <to = 7> (h) t = Cast <to = 8> (z) o = StringConcat (t, x)"
    text = JOINED.replace("o = StringConcat (h, x)", numbers)
    fast, _ = sessions(text, opset=20)
    for _ in range(5):
        fast.run(None, {"x": texts("1"), "n": np.array(3)})
    for _ in range(2):
        with pytest.raises(FornixError, match="node for 'z' \\(Cast"):
            fast.run(None, {"x": texts("+1"), "n": np.array(3)})


GROWN = """f (string[N] x, string[M] z, int64 n) => (string[A] y, string[K, B] w) {
    c = Constant <value = bool {1}> ()
    y, w = Loop (n, c, x) <body = b (int64 i, bool k, string[C] h) => (bool k, string[D] o, r) {
        r = Concat <axis = 0> (z, z) o = Concat <axis = 0> (h, z) }> }"""


def test_values_of_a_body_may_look_otherwise_in_each_iteration_and_run() -> None:
    """What is carried grows in some runs, and what is captured is longer in others."""
    fast, kernels = sessions(GROWN, opset=20)
    for rows, lines, count in [(1, 0, 3), (1, 1, 3), (1, 0, 3), (2, 0, 2), (1, 2, 2)] * 4:
        feeds = {"x": texts(*"ab"[:rows]), "z": texts(*"cd"[:lines]), "n": np.array(count)}
        for found, wanted in zip(fast.run(None, feeds), kernels.run(None, feeds), strict=True):
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            assert found.tolist() == wanted.tolist()


def test_a_body_that_says_stop_ends_its_loop() -> None:
    text = """f (string[1] x, string[1] last) => (string[1] y) {
        c = Constant <value = bool {1}> () many = Constant <value_int = 9> ()
        y = Loop (many, c, x) <body = b (int64 i, bool k, string[1] h) => (bool m, string[1] o) {
            o = StringConcat (h, x) e = Equal (o, last) d = Not (e) m = Squeeze (d) }> }"""
    fast, _ = sessions(text, opset=20)
    for count in (2, 4, 2, 9, 3):
        [found] = fast.run(None, {"x": texts("a"), "last": texts("a" * count)})
        assert found.tolist() == ["a" * count]


def test_a_native_call_is_looked_for_ever_more_seldom_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[object] = []
    monkeypatch.setattr(ControlWay, "_found", lambda _, arrays: looked.append(arrays))
    fast, _ = sessions(JOINED, opset=20)
    asked = []
    for _ in range(TRIALS + 20):
        [found] = fast.run(None, {"x": texts("a"), "n": np.array(1)})
        assert found.tolist() == ["aa"]
        asked.append(len(looked))
    assert asked[:TRIALS] == list(range(1, TRIALS + 1))
    assert asked[-1] < TRIALS + 6


def test_sequences_beside_texts_take_a_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """f (string[N] x, seq(string[M]) q) => (string[A] y, seq(string[B]) z) {
        z = SequenceInsert (q, x) y = ConcatFromSequence <axis = 0> (z) }"""
    fast, _ = sessions(text, opset=20)
    for count in range(4):
        fast.run(None, {"x": texts("a"), "q": [texts("b", "c")] * count})
    gone = long_ways(monkeypatch)
    joined, longer = fast.run(None, {"x": texts("a"), "q": [texts("d"), texts("b", "c")]})
    assert joined.tolist() == ["d", "b", "c", "a"]
    assert [part.tolist() for part in longer] == [["d"], ["b", "c"], ["a"]]
    assert not gone
    joined, _ = fast.run(None, {"x": texts("a"), "q": [np.array([b"d"], object)]})
    assert joined.tolist() == ["d", "a"]


@pytest.mark.parametrize("rank", ["", "[1]"])
def test_iterations_of_values_that_look_alike_are_one_call(
    monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    """A body that reads its number, says when to stop and gives rows; the first iteration grows."""
    text = f"""f (string[N] x, string[M] z, int64 n) => (string[A] y, string[K, B] w) {{
        c = Constant <value = bool {{1}}> () last = Constant <value_strings = ["5"]> ()
        y, w = Loop (n, c, x) <
            body = b (int64{rank} i, bool{rank} k, string[C] h)
                => (bool{rank} m, string[D] o, string[M] r) {{
                t = Cast <to = 8> (i) s = StringConcat (t, z) o = StringConcat (h, s)
                r = StringConcat (s, z) e = Equal (t, last) d = Not (e) one = Size (t)
                u = Constant <value_ints = [1]> () v = Reshape (d, u) j = Shape (t)
                m = Reshape (v, j) }}> }}"""
    fast, kernels = sessions(text, opset=20)
    cases = [(2, 2, 3), (1, 2, 4), (2, 1, 0), (1, 1, 1), (2, 2, 9)]
    for rows, lines, count in cases * 4:
        feeds = {"x": texts(*"ab"[:rows]), "z": texts(*"cd"[:lines]), "n": np.array(count)}
        for found, wanted in zip(fast.run(None, feeds), kernels.run(None, feeds), strict=True):
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            assert found.tolist() == wanted.tolist()
    feeds = {"x": texts("a"), "z": texts("c", "d"), "n": np.array(9)}
    for _ in range(4):
        fast.run(None, feeds)
    ran: list[object] = []
    original = driving._Opened.run

    def observed(self: Any, given: Any) -> Any:
        ran.append(given)
        return original(self, given)

    monkeypatch.setattr(driving._Opened, "run", observed)
    y, w = fast.run(None, feeds)
    assert y.tolist() == ["a0c1c2c3c4c5c", "a0d1d2d3d4d5d"]
    assert w.tolist() == [[f"{i}cc", f"{i}dd"] for i in range(6)]
    assert len(ran) == 1


def turned(patch: pytest.MonkeyPatch) -> list[Turns]:
    """A list that grows with each attempt at many iterations, in sessions made from now on."""
    tried: list[Turns] = []
    original = shortcut.tried

    def observed(way: Any, values: Any) -> Any:
        if isinstance(values[0], Turns):
            tried.append(values[0])
        return original(way, values)

    patch.setattr(shortcut, "tried", observed)
    return tried


def test_iterations_after_which_one_failed_are_done_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of them was followed by an attempt at all the others."""
    text = """f (string[N] x, string[M] z, int64 n) => (string[N] y) {
        c = Constant <value = bool {1}> ()
        y = Loop (n, c, x) <body = b (int64 i, bool k, string[N] h) => (bool k, string[N] o) {
            s = Constant <value_ints = [0]> () j = Unsqueeze (i, s) w = Gather (z, j)
            o = StringConcat (h, w) }> }"""
    tried = turned(monkeypatch)
    fast, kernels = sessions(text, opset=20)
    feeds = {"x": texts("a"), "z": texts(*"b" * 20), "n": np.array(20)}
    for _ in range(4):
        fast.run(None, feeds)
    tried.clear()
    said = []
    for session in (fast, kernels):
        with pytest.raises(Fail, match="must be in") as found:
            session.run(None, feeds | {"n": np.array(22)})
        said.append(str(found.value))
    assert said[0] == said[1]
    assert len(tried) <= 2  # the long way says what is wrong
    assert fast.run(None, feeds)[0].tolist() == ["a" + "b" * 20]


def test_values_that_grow_are_not_taken_to_look_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """f (string[N] x, int64 n) => (string[M] y) { c = Constant <value = bool {1}> ()
        y = Loop (n, c, x) <body = b (int64 i, bool k, string[A] h) => (bool k, string[B] o) {
            j = StringConcat (h, h) o = Concat <axis = 0> (j, x) }> }"""
    tried = turned(monkeypatch)
    fast, _ = sessions(text, opset=20)
    feeds = {"x": texts("a"), "n": np.array(3)}
    for _ in range(8):
        assert fast.run(None, feeds)[0].tolist() == ["a" * 8, "a" * 4, "aa", "a"]
    assert tried
    tried.clear()
    fast.run(None, feeds)
    assert len(tried) <= 1  # nobody knows how values look after the last iteration


def test_carried_values_change_places_in_iterations_that_look_alike() -> None:
    text = """f (string[N] x, string[N] z, int64 n) => (string[A] a, string[B] b) {
        c = Constant <value = bool {1}> ()
        a, b = Loop (n, c, x, z) <
            body = g (int64 i, bool k, string[N] p, string[N] q)
                => (bool k2, string[N] q, string[N] r) { k2 = Identity (k)
                r = StringConcat (p, q) }> }"""
    fast, _ = sessions(text, opset=20)
    for count in (4, 1, 5, 2, 3):
        one, other = "u", "v"
        for _ in range(count):
            one, other = other, one + other
        a, b = fast.run(None, {"x": texts("u"), "z": texts("v"), "n": np.array(count)})
        assert (a.tolist(), b.tolist()) == ([one], [other])


def test_one_text_is_joined_to_many_as_numpy_has_it() -> None:
    for left, right in [
        ((2, 3), (1,)),
        ((3,), (1, 1)),
        ((1,), ()),
        ((), (1,)),
        ((), ()),
        ((0,), (1,)),
    ]:
        x, y = np.full(left, "a", object), np.full(right, "b", object)
        found = string_concat(x, y)
        assert found.dtype == object
        assert found.tolist() == np.asarray(np.add(x, y), object).tolist()
        assert found.shape == np.broadcast_shapes(left, right)


SHARED = """f (float[N, 4] x, optional(float[N, 4]) m) => (float[N, 4] y) {
    h = OptionalHasElement (m)
    y = If (h) <
        then_branch = a () => (float[N, 4] p) { e = OptionalGetElement (m) p = Mul (x, e) },
        else_branch = b () => (float[N, 4] q) { q = Identity (x) }> }"""
PICKED = """f (float[N, 4] x, seq(float[N, 4]) m) => (float[N, 4] y) {
    z = Constant <value_int = 0> () e = SequenceAt (m, z) y = Mul (x, e) }"""


@pytest.mark.parametrize("text", [SHARED, PICKED])
def test_what_is_no_tensor_may_share_the_name_of_an_extent(text: str) -> None:
    """Which was taken for equal without end, as it is called alike but for what it is at least."""
    fast, kernels = sessions(text)
    for rows in (3, 3, 1, 0, 3, 5):
        x = np.arange(4.0 * rows, dtype="f").reshape(rows, 4)
        m = [x + 1] if text is PICKED else x + 1
        [found] = fast.run(None, {"x": x, "m": m})
        np.testing.assert_array_equal(found, x * (x + 1))
    other = np.ones((2, 4), "f")
    wrong = {"x": np.ones((3, 4), "f"), "m": [other] if text is PICKED else other}
    for session in (fast, kernels):
        with pytest.raises(FornixError):
            session.run(None, wrong)


SWEPT = """f (string s, string[N] x, float[N] v) => (string y, string[N] z, float[N] w) {
    y, z, w = Scan (s, x, v) <num_scan_inputs = 2, scan_input_directions = [1, 0],
        scan_output_directions = [0, 1],
        body = b (string a, string r, float u) => (string o, string q, float t) {
            o = StringConcat (a, r) q = StringConcat (o, s) t = Neg (u) }> }"""
ROWS = """f (string[N, 3] x, string[M] k) => (string[3, L] z) {
    z = Scan (x) <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1],
        body = b (string[N] r) => (string[L] q) {
            z = Constant <value_ints = [0]> () h = Gather (r, z) q = StringConcat (h, k) }> }"""
MAPPED = """f (seq(string[N]) x, seq(string[]) y, string k) => (seq(string[N]) z) {
    z = SequenceMap (x, y, k) <body = b (string[N] a, string[] c, string d) => (string[N] r) {
        j = StringConcat (a, c) r = StringConcat (j, d) }> }"""
WORDS = """f (seq(string[N]) x) => (seq(string[M]) y) {
    y = SequenceMap (x) <body = b (string[N] a) => (string[M] r) {
        w, n = StringSplit (a) l = Constant <value_ints = [-1]> () r = Reshape (w, l) }> }"""
FIXED = """f (seq(string[2]) x) => (string[2] y) {
    n = SequenceLength (x) c = Constant <value = bool {1}> ()
    e = Constant <value_strings = ["", "é"]> ()
    y = Loop (n, c, e) <body = b (int64 i, bool k, string[2] h) => (bool k2, string[2] o) {
        k2 = Identity (k) w = SequenceAt (x, i) o = StringConcat (h, w) }> }"""


@pytest.mark.parametrize("threads", [1, 2])
def test_scans_over_texts_are_what_the_standard_says_for_all_lengths(threads: int) -> None:
    fast, _ = sessions(SWEPT, threads, opset=20)
    for words in ("abc", "é", "", "abc", "ab", "abcdefg", "abc") * 2:
        v = np.arange(len(words), dtype="f")
        y, z, w = fast.run(None, {"s": np.array("-", object), "x": texts(*words), "v": v})
        joined = ["-" + words[::-1][: end + 1] for end in range(len(words))]
        assert y.item() == "-" + words[::-1]
        assert z.tolist() == [text + "-" for text in joined]
        np.testing.assert_array_equal(w, -v[::-1])


def test_scans_over_texts_take_a_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, _ = sessions(SWEPT, opset=20)
    feeds = {"s": np.array("", object), "x": texts(*"abcd"), "v": np.ones(4, "f")}
    for _ in range(4):
        fast.run(None, feeds)
    gone, tried = long_ways(monkeypatch), turned(monkeypatch)
    fast.run(None, feeds)
    assert len(tried) == 1
    assert not gone


def test_texts_that_were_stored_are_carried_on_the_short_way_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their type is one of its own, which equals that of others."""
    fast, _ = sessions(SWEPT, opset=20)
    read = pickle.loads(pickle.dumps(np.array("", object)))
    assert read.dtype is not np.dtype(object)
    feeds = {"s": read, "x": texts(*"abcd"), "v": np.ones(4, "f")}
    tried = turned(monkeypatch)
    for _ in range(6):
        tried.clear()
        fast.run(None, feeds)
    assert len(tried) == 1
    assert tried[0].iteration == 4


def test_scans_along_other_axes_are_what_kernels_give() -> None:
    fast, kernels = sessions(ROWS, opset=20)
    for rows, count in [(2, 1), (1, 2), (3, 1), (2, 1), (2, 0), (2, 2)] * 2:
        x = np.array([list("abc"), list("déf"), list("ghi")], object)[:rows]
        feeds = {"x": x, "k": texts(*"+-"[:count])}
        [found], [wanted] = fast.run(None, feeds), kernels.run(None, feeds)
        assert found.shape == wanted.shape == (count, 3)
        assert found.tolist() == wanted.tolist()


def test_scanned_lengths_that_differ_are_refused_on_the_short_way_too() -> None:
    fast, _ = sessions(SWEPT.replace("float[N] v", "float[M] v"), opset=20)
    feeds = {"s": np.array("", object), "x": texts(*"abcd"), "v": np.ones(4, "f")}
    for _ in range(5):
        fast.run(None, feeds)
    for _ in range(4):
        with pytest.raises(FornixError, match="scanned inputs must have one length"):
            fast.run(None, {**feeds, "v": np.ones(3, "f")})


def test_maps_over_sequences_of_texts_are_what_the_standard_says() -> None:
    fast, _ = sessions(MAPPED, opset=20)
    rng = np.random.default_rng(0)
    for _ in range(20):
        lines = [texts(*"abcdé"[: rng.integers(6)]) for _ in range(rng.integers(5))]
        others = [texts("+")[: rng.integers(1, 2)] for _ in lines]
        [found] = fast.run(None, {"x": lines, "y": others, "k": np.array("!", object)})
        assert [line.tolist() for line in found] == [[t + "+!" for t in line] for line in lines]


def test_sequences_of_several_lengths_are_refused_by_a_map_again_and_again() -> None:
    fast, _ = sessions(MAPPED, opset=20)
    line = texts("a")
    for others in ([line], [line], [line], [line], [line, line], [], [line]):
        feeds = {"x": [line], "y": others, "k": np.array("", object)}
        if len(others) == 1:
            assert fast.run(None, feeds)[0][0].tolist() == ["aa"]
        else:
            with pytest.raises(Fail):
                fast.run(None, feeds)


def test_sequences_of_declared_extents_take_a_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, _ = sessions(FIXED, opset=20)
    line = texts("a", "b")
    for _ in range(4):
        fast.run(None, {"x": [line] * 3})
    gone = long_ways(monkeypatch)
    for count in (3, 0, 1, 5):
        [found] = fast.run(None, {"x": [line] * count})
        assert found.tolist() == ["a" * count, "é" + "b" * count]
    assert not gone


def test_elements_of_other_extents_than_declared_are_refused_on_the_short_way_too() -> None:
    fast, _ = sessions(FIXED, opset=20)
    for _ in range(5):
        fast.run(None, {"x": [texts("a", "b")]})
    for wrong in (texts("a"), texts("a", "b", "c"), texts()):
        with pytest.raises(InvalidArgument):
            fast.run(None, {"x": [texts("a", "b"), wrong]})


@pytest.mark.parametrize("kind", ["bool", "uint8", "int64", "float16", "bfloat16"])
def test_scalars_that_a_scan_gives_are_stacked_whatever_their_type(kind: str) -> None:
    text = f"""f ({kind}[N] x) => ({kind}[N] y, {kind}[N] z) {{
        y, z = Scan (x) <num_scan_inputs = 1, scan_output_directions = [0, 1],
            body = b ({kind} r) => ({kind} q, {kind} p) {{
                q = Identity (r) p = Identity (r) }}> }}"""
    x = np.array([1, 0, 1, 1]).astype(DType.of(kind).numpy)
    for session in sessions(text):
        for count in (4, 1, 4, 4, 4):
            y, z = session.run(None, {"x": x[:count]})
            assert y.dtype == z.dtype == x.dtype
            assert y.tolist() == z[::-1].tolist() == x[:count].tolist()


def test_elements_of_all_lengths_are_mapped_as_one_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = turned(monkeypatch)
    fast, _ = sessions(WORDS, opset=20)
    for counts in ([3, 1, 2], [2, 5, 1], [1, 4, 2], [9, 11, 7]):
        tried.clear()
        x = [texts(*["a b"] * count) for count in counts]
        [found] = fast.run(None, {"x": x})
        assert [line.tolist() for line in found] == [["a", "b"] * count for count in counts]
    assert [turns.iteration for turns in tried] == [3]


def test_elements_that_programs_are_not_made_for_are_mapped_among_others() -> None:
    fast, slow = sessions(WORDS, opset=20)
    one, none = texts("a b c", "d"), texts()
    for x in [[one, one], [none, one], [one, none, one[:1], none, one], [none] * 3] * 3:
        [found], [wanted] = fast.run(None, {"x": x}), slow.run(None, {"x": x})
        assert [line.tolist() for line in found] == [line.tolist() for line in wanted]


@pytest.mark.parametrize("wrong", [np.ones(2, "f"), texts("a").reshape(1, 1)])
def test_elements_of_another_look_are_refused_wherever_they_are(wrong: Any) -> None:
    fast, _ = sessions(WORDS, opset=20)
    for _ in range(5):
        fast.run(None, {"x": [texts("a b")] * 3})
    with pytest.raises(InvalidArgument):
        fast.run(None, {"x": [texts("a b"), wrong, texts("a b")]})
