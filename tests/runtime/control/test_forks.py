"""Branches whose results have several shapes or ranks: what follows them is in the same call."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.compile.entry import is_available
from fornix.errors import FornixError
from fornix.runtime.control import flow
from tests.runtime.control.flows import Feeds, agree, sessions, watched

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each native call, whether it gave results."""
    return watched(monkeypatch)


def grid(rows: int, columns: int = 4) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(rows).standard_normal((rows, columns)).astype("f")


EXTENTS = """f (float[N, 4] x, int64 m) => (float[A, B] y) {
    none = Constant <value_int = 0> ()
    above = Greater (m, none)
    z = If (above) <
        then_branch = a () => (float[C, D] p) {
            one = Constant <value_int = 1> ()
            far = Greater (m, one)
            p = If (far) <
                then_branch = c () => (float[E, G] r) { r = Transpose <perm = [1, 0]> (x) },
                else_branch = d () => (float[H, I] s) { s = Concat <axis = 0> (x, x) }>
        },
        else_branch = b () => (float[N, 4] q) { q = Exp (x) }>
    t = Tanh (z)
    y = Add (t, z)
}"""


@pytest.mark.parametrize("is_turned", [False, True])
def test_what_reads_branches_of_several_extents_is_in_the_call(
    calls: list[bool], *, is_turned: bool
) -> None:
    text = EXTENTS.replace("Greater (m, none)", "LessOrEqual (m, none)") if is_turned else EXTENTS
    feeds = [{"x": grid(n), "m": np.array(m)} for n in (3, 4, 1) for m in (0, 1, 2)]
    agree(sessions(text), *feeds)
    assert calls.count(True) >= len(feeds)


def test_extents_that_only_a_run_finds_equal_may_be_carried(calls: list[bool]) -> None:
    text = """f (float[N] x, float[M] w, int64 m) => (float[N] y, float[K, N] every) {
        stays = Constant <value = bool {1}> ()
        y, every = Loop (m, stays, x) <body = step (int64 i, bool k, float[N] h) =>
            (bool k, float[N] next, float[N] row) {
            sum = ReduceSum <keepdims = 0> (h)
            zero = Constant <value_float = 0.0> ()
            above = Greater (sum, zero)
            next = If (above) <
                then_branch = a () => (float[N] p) { p = Sub (h, x) },
                else_branch = b () => (float[M] q) { q = Exp (w) }>
            row = Sin (next)
        }>
    }"""
    feeds = [
        {"x": grid(n, 1).ravel(), "w": grid(n, 1).ravel() + 1, "m": np.array(5)} for n in (3, 6)
    ]
    agree(sessions(text), *feeds)
    assert calls[-1]


RANKS = """f (float[N, 4] x, bool c, bool d) => (float[] y, float[] v) {
    z = If (c) <
        then_branch = a () => (float[N, 4] p) { p = Exp (x) },
        else_branch = b () => (float[M] q) {
            all = Constant <value_ints = [-1]> ()
            f = Reshape (x, all)
            q = Sin (f)
        }>
    w = Tanh (z)
    y = Add (w, z)
    u = If (d) <
        then_branch = e () => (float[] r) { r = Identity (y) },
        else_branch = g () => (float[] s) { s = ReduceSum <keepdims = 0> (y) }>
    v = Mul (u, u)
}"""


def choices(rows: int) -> list[Feeds]:
    truths = [np.array(False), np.array(True)]
    return [{"x": grid(rows), "c": c, "d": d} for c in truths for d in truths]


def test_what_reads_branches_of_several_ranks_is_in_the_call(calls: list[bool]) -> None:
    # Two nodes fork here, so that the end of it is written four times.
    feeds = [*choices(3), *choices(5)]
    agree(sessions(RANKS), *feeds)
    assert calls.count(True) >= len(feeds)


def test_nothing_is_written_more_often_than_it_is_worth(
    calls: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "MAX_FORKS", 1)
    fast, slow = sessions(RANKS)
    agree((fast, slow), *choices(3))
    calls.clear()
    fast.run(None, choices(3)[0])
    assert len(calls) > 1  # each of its nodes has one


def test_a_branch_after_which_nothing_fits_ends_the_call(calls: list[bool]) -> None:
    text = """f (float[N, 4] x, float[4, 4] w, bool c) => (float[] y) {
        z = If (c) <
            then_branch = a () => (float[N, 4] p) { p = Exp (x) },
            else_branch = b () => (float[1, N, 4] q) {
                first = Constant <value_ints = [0]> ()
                q = Unsqueeze (x, first)
            }>
        t = Tanh (z)
        y = Gemm (t, w)
    }"""
    fast, slow = sessions(text)
    feeds: Feeds = {"x": grid(3), "w": grid(4), "c": np.array(True)}
    agree((fast, slow), feeds)
    assert calls[-1]
    for session in (fast, slow):
        with pytest.raises(ValueError, match=r"Gemm.*must be matrices"):
            session.run(None, {**feeds, "c": np.array(False)})
    agree((fast, slow), feeds)
    assert calls[-1]


def test_loops_behind_branches_of_several_ranks_give_their_rows() -> None:
    text = RANKS.replace(
        "v = Mul (u, u)",
        """n = Size (y)
    stays = Constant <value = bool {1}> ()
    v = Loop (n, stays) <body = step (int64 i, bool k) => (bool goes, float[] row) {
        row = Cos (u)
        five = Constant <value_int = 5> ()
        goes = Less (i, five)
    }>""",
    )
    agree(sessions(text), *choices(2), *choices(1))


INSIDE = """f (float[N, 4] x, int64 m, bool c) => (float[A, 4] y, float total) {
    y, total = If (c) <
        then_branch = a () => (float[B, 4] p, float q) {
            none = Constant <value_int = 0> ()
            above = Greater (m, none)
            z = If (above) <
                then_branch = d () => (float[C, D, E] r) {
                    axes = Constant <value_ints = [0]> ()
                    r = Unsqueeze (x, axes)
                },
                else_branch = e () => (float[F, G] s) { s = Exp (x) }>
            shape = Constant <value_ints = [-1, 4]> ()
            w = Reshape (z, shape)
            p = Concat <axis = 0> (w, x)
            q = ReduceSum <keepdims = 0> (z)
        },
        else_branch = b () => (float[H, 4] u, float v) {
            u = Sin (x)
            v = Constant <value_float = 2.0> ()
        }>
}"""


def test_branches_of_several_ranks_may_be_in_a_branch(calls: list[bool]) -> None:
    feeds = [
        {"x": grid(n), "m": np.array(m), "c": np.array(c)}
        for n in (3, 1)
        for m, c in ((0, True), (1, True), (0, False), (1, False))
    ]
    agree(sessions(INSIDE), *feeds)
    assert calls.count(True) >= len(feeds)


def test_a_branch_in_a_branch_after_which_nothing_fits_ends_the_call(calls: list[bool]) -> None:
    text = INSIDE.replace("w = Reshape (z, shape)", "w = Identity (z)")
    fits = [{"x": grid(3), "m": np.array(0), "c": np.array(c)} for c in (True, False)]
    agree(sessions(text), *fits)
    assert calls[-1]
    pair = sessions(text)
    for session in pair:
        session.run(None, fits[0])
        with pytest.raises(FornixError, match="Concat"):
            session.run(None, {**fits[0], "m": np.array(1)})


BY_EXTENTS = """f (float[N, A] x, float[B] m) => (float[N, C] y, float[N] z) {
    a = Shape <start = 1> (x)
    b = Shape (m)
    longer = Greater (a, b)
    y = If (longer) <then_branch = cut () => (float[N, D] cut) {
        begin = Constant <value_ints = [0]> ()
        axis = Constant <value_ints = [1]> ()
        head = Slice (x, begin, b, axis)
        cut = Mul (head, m)
    }, else_branch = no_longer () => (float[N, E] filled) {
        alike = Equal (a, b)
        filled = If (alike) <then_branch = same () => (float[N, F] product) {
            product = Mul (x, m)
        }, else_branch = shorter () => (float[N, G] product) {
            missing = Sub (b, a)
            n = Shape <end = 1> (x)
            rest = Concat <axis = 0> (n, missing)
            zeros = ConstantOfShape (rest)
            whole = Concat <axis = 1> (x, zeros)
            product = Mul (whole, m)
        }>
    }>
    one = Constant <value_ints = [1]> ()
    z = ReduceSum <keepdims = 0> (y, one)
}"""


def by_extents(n: int, a: int, b: int) -> Feeds:
    x = np.arange(n * a, dtype=np.float32).reshape(n, a) - 3
    return {"x": x, "m": np.arange(b, dtype=np.float32) + 1}


@pytest.mark.parametrize("first", [(2, 5, 3), (1, 3, 3), (2, 2, 6)])
def test_branches_ask_of_extents_only_where_they_run(
    first: tuple[int, int, int], calls: list[bool]
) -> None:
    """What holds of extents in one branch need not hold where another one is taken."""
    pair = sessions(BY_EXTENTS)
    agree(pair, by_extents(*first), by_extents(4, 6, 5), by_extents(3, 2, 40), by_extents(2, 7, 7))
    agree(pair, by_extents(2, 40, 3), by_extents(1, 2, 2), by_extents(*first), rounds=1)
    assert all(calls[-2:])


def test_a_stored_table_may_be_of_another_length_than_what_a_branch_adds_it_to(
    calls: list[bool],
) -> None:
    """As positions that are added to images of one size, and cut for others."""
    pair = sessions("""f (float[N, L] x) => (float[N, M] y) {
        table = Constant <value_floats = [0.5, 1.5, 2.5, 3.5]> ()
        four = Constant <value_ints = [4]> ()
        length = Shape <start = 1> (x)
        fits = Equal (length, four)
        y = If (fits) <then_branch = whole () => (float[N, D] a) { a = Add (x, table) },
            else_branch = part () => (float[N, E] b) {
                zero = Constant <value_ints = [0]> ()
                cut = Slice (table, zero, length)
                b = Sub (x, cut)
            }>
    }""")
    feeds = [{"x": np.ones((2, length), np.float32)} for length in (4, 3, 2)]
    agree(pair, *feeds)
    assert all(calls[-2:])


def test_other_extents_may_come_as_the_chain_of_steps_is_made() -> None:
    """Steps that no native call can do are bound to extents that were looked at."""
    pair = sessions("""f (float[A] x, float[B] m) => (float y) {
        a = Shape (x)
        b = Shape (m)
        longer = Less (a, b)
        s = If (longer) <then_branch = t () => (float q) {
            d = Sub (b, a)
            sides = Concat <axis = 0> (d, d)
            z = ConstantOfShape (sides)
            e = Exp (z)
            q = ReduceSum <keepdims = 0> (e)
        }, else_branch = e () => (float q) {
            d = Sub (a, b)
            sides = Concat <axis = 0> (d, d)
            z = ConstantOfShape (sides)
            e = Cos (z)
            q = ReduceSum <keepdims = 0> (e)
        }>
        y = Neg (s)
    }""")
    for extents in [(0, 5)] * 3 + [(2, 5), (0, 5), (7, 7), (4, 1)]:
        x, m = (np.ones(n, np.float32) for n in extents)
        agree(pair, {"x": x, "m": m}, rounds=1)


@pytest.mark.parametrize("pair", [(3, 1), (3, 3), (1, 3), (1, 1)])
def test_what_a_branch_expands_is_as_long_as_it_says(pair: tuple[int, int]) -> None:
    text = """f (float[N] x, float[M] y, bool c) => (float[P] z) {
        z = If (c) <
            then_branch = a () => (float[Q] o) { s = Shape (x) o = Expand (y, s) },
            else_branch = b () => (float[R] p) { p = Identity (x) }> }"""
    session, _ = sessions(text)
    x, y = (np.arange(count, dtype=np.float32) for count in pair)
    for _ in range(6):
        [found] = session.run(None, {"x": x, "y": y, "c": np.array(1, bool)})
        np.testing.assert_array_equal(found, y + 0 * x)
    for _ in range(3):
        with pytest.raises(FornixError, match="must broadcast"):
            session.run(None, {"x": x[:1].repeat(2), "y": x[:1].repeat(3), "c": np.array(1, bool)})
