"""Extents that only an iteration tells, in one native call: results are those of NumPy kernels."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.compile.entry import is_available
from fornix.compile.identity import processor
from fornix.errors import FornixError, LimitError
from fornix.runtime import InferenceSession, SessionOptions
from fornix.runtime.control import ways
from fornix.system import is_mappable
from tests.runtime.control.flows import HEAD, Feeds, agree, sessions, watched
from tests.runtime.stored.kept_models import recalled, use_cache, write

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")

STAYS = "stays = Constant <value = bool {1}> ()"
NUMBERS = np.arange(1, 60, dtype=np.float32) / 64


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each native call, whether it gave results."""
    return watched(monkeypatch)


def numbers(count: int) -> np.ndarray[Any, np.dtype[Any]]:
    return NUMBERS[:count].copy()


BAGS = f"""f (int64[N] x, int64[B] starts, float[9, 4] table) => (float[B, 4] y) {{
    {STAYS}
    zero = Constant <value = int64[1] {{0}}> ()
    one = Constant <value = int64[1] {{1}}> ()
    last = Constant <value = int64[1] {{9223372036854775807}}> ()
    size = Size (x)
    length = Unsqueeze (size, zero)
    ends0 = Concat <axis = 0> (starts, length)
    ends = Slice (ends0, one, last, zero)
    count = Size (ends)
    y = Loop (count, stays) <body = bag (int64 i, bool k) => (bool k, float[4] mean) {{
        a0 = Gather (starts, i)
        b0 = Gather (ends, i)
        a = Unsqueeze (a0, zero)
        b = Unsqueeze (b0, zero)
        own = Slice (x, a, b, zero)
        rows = Gather (table, own)
        mean = ReduceMean <keepdims = 0> (rows, zero)
    }}>
}}"""


def bags(*starts: int, length: int = 20) -> Feeds:
    table = np.arange(36, dtype="f").reshape(9, 4)
    return {"x": np.arange(length) % 9, "starts": np.array(starts), "table": table}


def test_each_iteration_cuts_as_much_as_data_say(calls: list[bool]) -> None:
    agree(sessions(BAGS), bags(0, 3, 7), bags(0, 1, 2), bags(0, 15, 19), bags(5), bags(0, 19))
    assert calls[-1]


def test_an_empty_cut_is_left_to_kernels(calls: list[bool]) -> None:
    fast, slow = sessions(BAGS)
    for _ in range(3):
        found, wanted = (s.run(None, bags(0, 3, 3, 9))[0] for s in (fast, slow))
        np.testing.assert_array_equal(found, wanted)
        assert not found[1].any()  # as in PyTorch
    agree((fast, slow), bags(0, 3, 4, 9))
    assert calls[-1]
    assert not all(calls)


GROWS = f"""f (int64 m, float[A] x, float[B] w) => (float[C] y, float[D] z) {{
    {STAYS}
    y, z = Loop (m, stays, x, w)
        <body = step (int64 i, bool k, float[P] a, float[Q] b) => (bool k, float[R] c, float[S] d)
    {{ c = Concat <axis = 0> (a, b) d = Exp (a) }}>
}}"""
SWAPS = GROWS.replace("{ c = Concat <axis = 0> (a, b) d = Exp (a) }",
                      "{ c = Identity (b) d = Concat <axis = 0> (a, b) }")  # fmt: skip
SHRINKS = f"""f (int64 m, float[A] x, float[B] w) => (float[C] y, float[D] z) {{
    {STAYS}
    one = Constant <value = int64[1] {{1}}> ()
    last = Constant <value = int64[1] {{9223372036854775807}}> ()
    y = Loop (m, stays, x) <body = step (int64 i, bool k, float[P] a) => (bool k, float[R] c) {{
        c0 = Slice (a, one, last)
        c = Mul (c0, c0)
    }}>
    z = Identity (w)
}}"""
NESTED = f"""f (int64 m, float[A] x, float[B] w) => (float[C] y, float[D] z) {{
    {STAYS}
    two = Constant <value = int64 {{2}}> ()
    y = Loop (m, stays, x) <body = outer (int64 i, bool k, float[P] a) => (bool k, float[R] c) {{
        e = Concat <axis = 0> (a, w)
        g = Loop (two, k, w) <body = inner (int64 j, bool l, float[U] v) => (bool l, float[V] u) {{
            u = Concat <axis = 0> (v, e)
        }}>
        sum = ReduceSum <keepdims = 1> (g)
        c = Concat <axis = 0> (a, sum)
    }}>
    z = Identity (w)
}}"""
BRANCHES = f"""f (int64 m, float[A] x, float[B] w) => (float[C] y, float[D] z) {{
    {STAYS}
    two = Constant <value = int64 {{2}}> ()
    zero = Constant <value = int64 {{0}}> ()
    y = Loop (m, stays, x) <body = outer (int64 i, bool k, float[P] a) => (bool k, float[R] c) {{
        rest = Mod (i, two)
        even = Equal (rest, zero)
        c0 = If (even) <then_branch = p () => (float[S] p) {{ p = Concat <axis = 0> (a, w) }},
                       else_branch = q () => (float[T] q) {{ q = Exp (w) }}>
        c = Mul (c0, c0)
    }}>
    z = Identity (w)
}}"""


@pytest.mark.parametrize("text", [GROWS, SWAPS, SHRINKS, NESTED, BRANCHES])
@pytest.mark.parametrize("threads", [1, 2])
def test_what_grows_or_shrinks_is_handed_on(calls: list[bool], text: str, threads: int) -> None:
    shapes = [(3, 9, 2), (2, 5, 1), (4, 6, 3), (0, 2, 2), (5, 8, 4), (1, 4, 7)]
    feeds = [{"m": np.array(m), "x": numbers(a), "w": numbers(b)} for m, a, b in shapes]
    agree(sessions(text, threads), *feeds)
    assert calls[-1]


CACHES = f"""f (int64 m, float[A] x, float[B] w) => (float[2, C] y, float[2, D] z) {{
    {STAYS}
    two = Constant <value = int64 {{2}}> ()
    none = Constant <value = float[2, 1] {{0, 0}}> ()
    y, z = Loop (m, stays, none, none)
        <body = step (int64 i, bool k, float[2, P] a, float[2, Q] b)
            => (bool k, float[2, R] c, float[2, S] d) {{
        c = Concat <axis = 1> (a, none)
        t = Transpose <perm = [1, 0]> (b)
        u = MatMul (a, t)
        v = Softmax (u)
        d0 = Concat <axis = 1> (b, none)
        d1 = MatMul (v, d0)
        d = Add (d1, c)
    }}>
}}"""


def test_caches_that_grow_alike_are_of_one_length(calls: list[bool]) -> None:
    feeds = [{"m": np.array(m), "x": numbers(1), "w": numbers(1)} for m in (3, 5, 1)]
    agree(sessions(CACHES), *feeds)
    assert calls[-1]


WIDENS = f"""f (int64 m, float[3] x) => (float[1, 3] y) {{
    {STAYS}
    y = Loop (m, stays, x) <body = step (int64 i, bool k, h) => (bool k, next) {{
        row = Constant <value = float[1, 3] {{1, 2, 3}}> ()
        j = Cast <to = 1> (i)
        sum = Add (row, j)
        next = Add (h, sum)
    }}>
}}"""


def test_the_first_iteration_may_change_a_rank(calls: list[bool]) -> None:
    agree(sessions(WIDENS), *({"m": np.array(m), "x": numbers(3)} for m in (3, 1, 6)))
    assert calls[-1]
    fast, slow = sessions(WIDENS)
    for m in (2, 2, 2, 0):
        found, wanted = (s.run(None, {"m": np.array(m), "x": numbers(3)})[0] for s in (fast, slow))
        assert found.shape == wanted.shape


def test_memory_follows_what_is_handed_on(
    calls: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "LATE", 128)
    feeds = [{"m": np.array(m), "x": numbers(3), "w": numbers(3)} for m in (2, 5, 3)]
    agree(sessions(SWAPS), *feeds)
    assert not all(calls)
    assert calls[-1]


def test_a_limit_of_memory_leaves_it_to_steps_that_are_counted(calls: list[bool]) -> None:
    fast = InferenceSession(parser.parse_model(HEAD + SWAPS), SessionOptions(memory_limit=1 << 20))
    feed = {"m": np.array(5), "x": numbers(3), "w": numbers(3)}
    for _ in range(4):
        fast.run(None, feed)
    assert not any(calls)
    with pytest.raises(LimitError, match="memory_limit is 1048576 bytes"):
        fast.run(None, feed | {"m": np.array(27)})


def test_what_is_wrong_in_an_iteration_is_told_as_by_kernels(calls: list[bool]) -> None:
    fast, slow = sessions(BAGS)
    agree((fast, slow), bags(0, 3, 7))
    assert calls[-1]
    wrong = {**bags(0, 3, 7), "x": np.array([0, 1, 2, 3, 9, 1, 2, 3])}
    with pytest.raises(FornixError) as wanted:
        slow.run(None, wrong)
    with pytest.raises(type(wanted.value)) as found:
        fast.run(None, wrong)
    assert str(found.value) == str(wanted.value)
    agree((fast, slow), bags(0, 3, 7))


@pytest.mark.skipif(not (is_mappable() and processor()), reason="programs are kept on Linux")
def test_a_kept_program_learns_in_loops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[bool]
) -> None:
    use_cache(tmp_path, monkeypatch)
    path = write(tmp_path / "model.onnx", HEAD + BAGS)
    reference = InferenceSession(path, providers=["ReferenceExecutionProvider"])
    for session in (InferenceSession(path), recalled(path)):
        agree((session, reference), bags(0, 3, 7), bags(0, 15, 19))
        assert calls.pop()
        calls.clear()


HALTS = """f (float[N] x) => (float[R] left, float sum, int64 count) {
    zero = Constant <value_float = 0.0> ()
    stays = Constant <value = bool {1}> ()
    most = Constant <value_int = 10> ()
    none = Constant <value_int = 0> ()
    left, sum, count = Loop (most, stays, x, zero, none) <body = step
        (int64 i, bool k, float[P] rest, float s, int64 c)
        => (bool goes, float[Q] less, float t, int64 n) {
        by = CastLike (i, x)
        lower = Sub (rest, by)
        is_positive = Greater (lower, zero)
        less = Compress <axis = 0> (lower, is_positive)
        length = Size (less)
        goes = Greater (length, none)
        own = ReduceSum <keepdims = 0> (rest)
        t = Add (s, own)
        one = Constant <value_int = 1> ()
        n = Add (c, one)
    }>
}"""


def test_what_is_empty_after_the_last_iteration_is_one_call(calls: list[bool]) -> None:
    agree(sessions(HALTS), *({"x": np.array(x, "f")} for x in ([1, 2, 3], [-1], [9, 40, -2])))
    assert calls[-1]
    assert sum(calls) > 1


MERGES = """f (int64[N] x, int64[M, 2] pairs, int64[M] names) => (int64[K] y) {
    stays = Constant <value = bool {1}> ()
    zero = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    last = Constant <value_ints = [-1]> ()
    end = Constant <value_ints = [9223372036854775807]> ()
    no = Cast <to = 9> (zero)
    first = Constant <value = int64 {0}> ()
    second = Constant <value = int64 {1}> ()
    count = Size (names)
    y = Loop (count, stays, x) <body = merge (int64 i, bool k, int64[A] a)
        => (bool k, int64[B] b) {
        pair = Gather (pairs, i)
        left = Gather (pair, first)
        right = Gather (pair, second)
        from = Slice (a, zero, last)
        to = Slice (a, one, end)
        is_left = Equal (from, left)
        is_right = Equal (to, right)
        is_pair = And (is_left, is_right)
        begins = Concat <axis = 0> (is_pair, no)
        ends = Concat <axis = 0> (no, is_pair)
        name = Gather (names, i)
        named = Where (begins, name, a)
        kept = Not (ends)
        b = Compress <axis = 0> (named, kept)
    }>
}"""


def merged(x: list[int], pairs: list[tuple[int, int]], names: list[int]) -> list[int]:
    for pair, name in zip(pairs, names, strict=True):
        is_pair = [both == pair for both in pairwise(x)]
        named = [name if found else n for n, found in zip(x, [*is_pair, False], strict=True)]
        x = [n for n, ended in zip(named, [False, *is_pair], strict=True) if not ended]
    return x


def test_neighbours_are_merged_in_one_call(calls: list[bool]) -> None:
    session, _ = sessions(MERGES)
    pairs, names = [(1, 2), (3, 9), (9, 4), (9, 9)], [9, 7, 3, 5]
    for x in ([1, 2, 3, 1, 2, 4], [1, 2], [4], [3, 1, 2, 1, 2, 9, 4, 0]) * 2:
        feeds = {"x": np.array(x), "pairs": np.array(pairs), "names": np.array(names)}
        assert session.run(None, feeds)[0].tolist() == merged(x, pairs, names)
    assert calls[-1]
    nothing = feeds | {"x": np.zeros(0, np.int64)}  # of which a list of one truth value chooses
    with pytest.raises(FornixError, match="condition must be a list of at most 0 entries"):
        session.run(None, nothing)


GROWS_AS_DECLARED = """f (int64[1] t, int64 n) => (int64[M] y) {
    stays = Constant <value = bool {1}> ()
    y = Loop (n, stays, t) <body = step (int64 i, bool k, %s h) => (bool k, %s longer) {
        from = Constant <value_ints = [-1]> ()
        to = Constant <value_ints = [9223372036854775807]> ()
        first = Constant <value_ints = [0]> ()
        last = Slice (h, from, to, first)
        two = Constant <value_int = 2> ()
        next = Mul (last, two)
        longer = Concat <axis = 0> (h, next)
    }>
}"""


@pytest.mark.parametrize("declared", ["int64[1]", "int64[K]"])
def test_an_extent_that_changes_is_not_what_the_body_declares(declared: str) -> None:
    text = GROWS_AS_DECLARED % (declared, "int64[L]")
    fast, slow = sessions(text)
    for n in (4, 0, 1, 4, 9) * 2:
        feeds = {"t": np.array([3]), "n": np.array(n)}
        for session in (fast, slow):
            (found,) = session.run(None, feeds)
            assert found.tolist() == [3 * 2**k for k in range(n + 1)]


def test_what_broadcasts_with_an_extent_that_changes_is_as_long_as_it_becomes() -> None:
    text = """f (int64 n, int64[N] x) => (int64[M] y, int64[T] sizes) {
        start = Constant <value_ints = [1]> ()
        y, sizes = Loop (n, , start) <body = b (int64 i, bool c, int64[1] h)
            => (bool on, int64[1] more, int64 size) {
            on = Identity (c)
            more = Add (h, x)
            size = Size (more)
        }>
    }"""
    for session in sessions(text):
        for n, x in [(2, [1, 2, 3]), (1, [4]), (0, [5]), (3, [6] * 7), (2, [1, 2, 3])]:
            y, sizes = session.run(None, {"n": np.array(n), "x": np.array(x)})
            assert y.tolist() == ([1 + n * k for k in x] if n else [1])
            assert sizes.tolist() == [len(x)] * n


def test_a_loop_ends_by_what_it_made_and_not_by_what_the_body_declares() -> None:
    text = """f (int64[N] x) => (int64[M] y, int64 n) {
        t = Constant <value = bool {1}> ()
        none = Constant <value_int = 0> ()
        y, n = Loop (, t, x, none) <body = b (int64 i, bool c, int64[2] h, int64 before)
            => (bool on, int64[2] longer, int64 count) {
            longer = Concat <axis = 0> (h, x)
            count = Size (longer)
            enough = Constant <value_int = 9> ()
            on = Less (count, enough)
        }>
    }"""
    for session in sessions(text):
        for x, times in [([1, 2], 5), ([3, 4, 5], 3), ([7] * 20, 2), ([1, 2], 5)]:
            y, n = session.run(None, {"x": np.array(x)})
            assert (y.tolist(), n) == (x * times, len(x) * times)


def test_what_data_tell_is_not_what_a_body_declares() -> None:
    # As exporters do that note what they saw; no rule contradicts it.
    text = """f (float[N] x, int64 m) => (float[M] y) {
        stays = Constant <value = bool {1}> ()
        y = Loop (m, stays, x) <body = step (int64 i, bool k, float[N] h) => (bool k, float[N] next)
            <int64[1, 3] places, float[3] above> {
            zero = Constant <value_float = 0.0> ()
            first = Constant <value_ints = [0]> ()
            is_above = Greater (h, zero)
            places = NonZero (is_above)
            row = Squeeze (places, first)
            above = Gather (h, row)
            count = Size (above)
            shift = Cast <to = 1> (count)
            sum = ReduceSum <keepdims = 1> (above)
            both = Sub (sum, shift)
            next = Add (h, both)
        }>
    }"""
    feeds: list[Feeds] = [
        {"x": np.sin(np.arange(n, dtype="f")), "m": np.array(m)}
        for n, m in ((9, 3), (4, 1), (30, 2))
    ]
    agree(sessions(text), *feeds)


PADDED = f"""f (float[M] x, int64[N] lengths, int64 width) => (float[N, W] y, int64[N] n) {{
    {STAYS}
    zero = Constant <value = int64[1] {{0}}> ()
    count = Size (lengths)
    y, n = Loop (count, stays) <body = row (int64 i, bool k) => (bool k, float[A] o, int64 l) {{
        l = Gather (lengths, i)
        end = Unsqueeze (l, zero)
        part = Slice (x, zero, end, zero)
        rest = Sub (width, l)
        behind = Unsqueeze (rest, zero)
        pads = Concat <axis = 0> (zero, behind)
        o = Pad (part, pads)
    }}>
}}"""


def padded(*lengths: int, width: int) -> Feeds:
    return {"x": numbers(40), "lengths": np.array(lengths, np.int64), "width": np.array(width)}


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_iteration_tells_how_large_rows_are(calls: list[bool], threads: int) -> None:
    feeds = [
        padded(3, 5, 1, width=5),
        padded(7, width=7),
        padded(*range(1, 33), width=33),
        padded(3, 5, 1, width=9),
    ]
    agree(sessions(PADDED, threads), *feeds)
    assert calls.count(True) >= len(feeds)


def test_pads_below_zero_make_rows_as_long_as_others() -> None:
    agree(sessions(PADDED), *(padded(3, last, width=5) for last in (5, 6, 9)))


def test_a_loop_of_no_rows_is_left_to_kernels() -> None:
    agree(sessions(PADDED), padded(2, 3, width=4), padded(width=4), padded(2, 3, width=4))


UNLIKE = f"""f (float[M] x, int64[N] lengths) => (float[N, W] y) {{
    {STAYS}
    zero = Constant <value = int64[1] {{0}}> ()
    count = Size (lengths)
    y = Loop (count, stays) <body = row (int64 i, bool k) => (bool k, float[A] o) {{
        l = Gather (lengths, i)
        end = Unsqueeze (l, zero)
        part = Slice (x, zero, end, zero)
        o = Tanh (part)
    }}>
}}"""


def test_a_later_row_of_another_size_is_refused(calls: list[bool]) -> None:
    def feed(*lengths: int) -> Feeds:
        return {"x": numbers(40), "lengths": np.array(lengths)}

    fast, slow = sessions(UNLIKE)
    agree((fast, slow), feed(3, 3), feed(20, 20, 20), feed(3, 3))
    assert calls.count(True) >= 4
    for wrong in (feed(3, 4), feed(5, 5, 2), feed(1, 30)):
        messages = set()
        for session in (fast, slow):
            with pytest.raises(FornixError) as found:
                session.run(None, wrong)
            messages.add(str(found.value))
        assert len(messages) == 1
    agree((fast, slow), feed(3, 3))


NESTED = f"""f (float[M] x, int64[N, K] lengths) => (float[N, S] y) {{
    {STAYS}
    zero = Constant <value = int64[1] {{0}}> ()
    shape = Shape (lengths)
    a, b = Split <num_outputs = 2> (shape)
    n = Squeeze (a)
    m = Squeeze (b)
    y = Loop (n, stays) <body = row (int64 i, bool k) => (bool k, float[B] o) {{
        own = Gather (lengths, i)
        w = Loop (m, stays) <body = part (int64 j, bool k2) => (bool k2, float[A] p) {{
            l = Gather (own, j)
            end = Unsqueeze (l, zero)
            cut = Slice (x, zero, end, zero)
            p = Sin (cut)
        }}>
        first = ReduceSum <keepdims = 0> (w, zero)
        o = Cos (first)
    }}>
}}"""


def test_such_rows_may_be_made_within_each_iteration(calls: list[bool]) -> None:
    def feed(length: int, *shape: int) -> Feeds:
        return {"x": numbers(40), "lengths": np.full(shape, length)}

    agree(sessions(NESTED), feed(3, 2, 4), feed(17, 5, 3), feed(1, 1, 1), feed(3, 2, 4))
    assert calls.count(True) >= 4


MANY = 60


def test_memory_for_rows_grows_with_what_they_take(
    calls: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "LATE", 1 << 12)
    feed = {"x": numbers(40), "lengths": np.full(MANY, 40)}
    agree(sessions(UNLIKE), feed, rounds=5)
    assert calls[-1]


APPENDED = f"""f (float[4] x, float limit) => (float[4] y, float[4] sum, float[K, 4] two) {{
    {STAYS}
    most = Constant <value = int64 {{9223372036854775807}}> ()
    first = Constant <value = int64[1] {{0}}> ()
    y, rows = Loop (most, stays, x) <body = step (int64 i, bool k, float[4] h) =>
        (bool k2, float[4] o, float[4] r) {{
        half = Constant <value_float = 1.5> ()
        o = Mul (h, half) r = Tanh (o) s = ReduceL2 <keepdims = 0> (o) k2 = Less (s, limit)
    }}>
    sum = ReduceSum <keepdims = 0> (rows, first)
    two = Concat <axis = 0> (rows, rows)
}}"""


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_that_others_read_may_be_as_many_as_the_last_iteration_tells(
    calls: list[bool], threads: int
) -> None:
    feeds = [{"x": numbers(4), "limit": np.array(n, np.float32)} for n in (9, 0.1, 1e30, 9)]
    agree(sessions(APPENDED, threads), *feeds)
    assert calls.count(True) >= len(feeds)


def test_memory_for_such_rows_grows_with_their_number(
    calls: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "LATE", 1 << 10)
    text = APPENDED.replace("value_float = 1.5", "value_float = 1.1")
    feed = {"x": numbers(4), "limit": np.array(1e6, np.float32)}
    agree(sessions(text), feed, rounds=4)
    assert calls[-1]


ROWS_OF_ROWS = f"""f (float[N] x, int64 k, int64 j) => (float[A, B, N] y) {{
    {STAYS}
    _, y = Loop (k, stays, x) <body = outer (int64 i, bool c, float[N] a)
        => (bool c, float[N] b, float[B, N] made) {{
        b, made = Loop (j, c, a) <body = inner (int64 n, bool d, float[N] e)
            => (bool d, float[N] g, float[N] row) {{
            g = Sin (e)
            row = Add (g, x)
        }}>
    }}>
}}"""


def test_rows_of_an_inner_loop_become_a_row_of_the_outer_one(calls: list[bool]) -> None:
    trips = [(2, 3), (1, 4), (4, 1), (3, 2)]
    feeds = [{"x": numbers(3), "k": np.array(k), "j": np.array(j)} for k, j in trips]
    agree(sessions(ROWS_OF_ROWS), *feeds)
    assert calls[-1]


CHUNKS = """f (float[N, T, 3] x) => (float[A, B, 3] last, float[A, K, 3] all) {
    c = Constant <value = bool {1}> () at = Constant <value_ints = [1]> ()
    m = Constant <value_ints = [-1]> () big = Constant <value_ints = [9223372036854775807]> ()
    four = Constant <value_int = 4> () zeros = Constant <value_floats = [0.0, 0.0, 0.0]> ()
    t = Shape <start = 1, end = 2> (x) s = Squeeze (t) o = Constant <value_int = 3> ()
    u = Add (s, o) count = Div (u, four) n = Shape <start = 0, end = 1> (x)
    three = Constant <value_ints = [3]> () size = Concat <axis = 0> (n, at, three)
    begun = Expand (zeros, size) e = SequenceEmpty <dtype = 1> ()
    last, q = Loop (count, c, begun, e) <
        body = b (int64 i, bool k, float[D, E, 3] h, seq(float[D, E, 3]) p)
            => (bool k2, float[D, F, 3] r, seq(float[D, E, 3]) p2) {
            k2 = Identity (k) z = Constant <value_ints = [0]> () j = Mul (i, four) g = Add (j, four)
            ju = Unsqueeze (j, z) gu = Unsqueeze (g, z) a = Slice (x, ju, gu, at)
            v = Add (a, h) r = Slice (v, m, big, at) p2 = SequenceInsert (p, v) }>
    all = ConcatFromSequence <axis = 1> (q) }"""


def test_what_is_carried_may_be_the_last_of_a_chunk(calls: list[bool]) -> None:
    """One element begins, and each iteration hands the last one of its rows on."""
    pair = sessions(CHUNKS)
    for rows, length in [(2, 8), (1, 3), (2, 10), (3, 13), (1, 1), (2, 8)]:
        agree(
            pair, {"x": np.linspace(-1, 1, rows * length * 3, dtype="f").reshape(rows, length, 3)}
        )
    assert calls[-9:] == [True] * 9


def test_what_begins_as_one_element_may_become_none(calls: list[bool]) -> None:
    text = """f (float[N] x, int64 n) => (float[A] y) {
        c = Constant <value = bool {1}> () zeros = Constant <value_floats = [2.5]> ()
        y = Loop (n, c, zeros) <body = b (int64 i, bool k, float[D] h) => (bool k2, float[E] r) {
            k2 = Identity (k) z = Constant <value_ints = [0]> () o = Constant <value_int = 2> ()
            j = Add (i, o) iu = Unsqueeze (i, z) ju = Unsqueeze (j, z) a = Slice (x, iu, ju, z)
            m = Constant <value_ints = [-1]> () big = Constant <value_ints = [99]> ()
            v = Mul (a, h) r = Slice (v, m, big, z) }> }"""
    pair = sessions(text)
    for length, count in [(4, 2), (4, 3), (4, 4), (4, 6), (2, 1), (2, 3), (4, 2)]:
        agree(pair, {"x": numbers(length), "n": np.array(count)})
    assert calls[-3:] == [True] * 3
