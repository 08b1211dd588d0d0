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
