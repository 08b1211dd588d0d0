"""Loops that begin with nothing, to which iterations add rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fornix.compile.entry import is_available
from fornix.errors import FornixError, ShapeError
from fornix.format.text import parse_model
from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession
from tests.runtime.control.flows import Feeds, agree, sessions, watched

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each native call, whether it gave results."""
    return watched(monkeypatch)


def grid(rows: int, sign: float = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Rows of which some, all or none have a sum above 0."""
    found = np.random.default_rng(rows).standard_normal((rows, 4)).astype("f")
    return found if not sign else np.abs(found) * np.float32(sign)


FILTERED = """f (float[N, 4] x) => (float[M, 4] y) <float[0, 4] none = {}> {
    extents = Shape <start = 0, end = 1> (x)
    n = Squeeze (extents)
    stays = Constant <value = bool {1}> ()
    y = Loop (n, stays, none) <body = step (int64 i, bool k, float[A, 4] h) =>
        (bool k, float[B, 4] next) {
        row = Gather (x, i)
        sum = ReduceSum <keepdims = 0> (row)
        zero = Constant <value_float = 0.0> ()
        above = Greater (sum, zero)
        next = If (above) <
            then_branch = a () => (float[C, 4] p) {
                first = Constant <value_ints = [0]> ()
                one = Unsqueeze (row, first)
                p = Concat <axis = 0> (h, one)
            },
            else_branch = b () => (float[A, 4] q) { q = Identity (h) }>
    }>
}"""


def test_rows_are_chosen_one_by_one(calls: list[bool]) -> None:
    feeds: list[Feeds] = [{"x": grid(n, sign)} for n in (5, 1, 40) for sign in (0, 1, -1)]
    agree(sessions(FILTERED), *feeds)
    assert calls[-1]  # of none


def test_what_follows_takes_what_turned_out_empty(calls: list[bool]) -> None:
    text = FILTERED.replace("y = Loop", "z = Loop").replace("}>\n}", "}>\n y = Exp (z) }")
    feeds: list[Feeds] = [{"x": grid(n, sign)} for n in (5, 1) for sign in (-1, 0, 1)]
    agree(sessions(text), *feeds)
    assert calls.count(True) >= 2


TWO = """f (float[N, 4] x, int64 m) => (float[A, 4] y, int64[B] z, float[K] sums, float[4] last)
    <float[0, 4] none = {}, int64[0] no = {}, float[4] start = {0.0, 0.0, 0.0, 0.0}> {
    stays = Constant <value = bool {1}> ()
    y, z, last, sums = Loop (m, stays, none, no, start) <body = step
        (int64 i, bool k, float[C, 4] h, int64[D] g, float[4] l) =>
        (bool k, float[E, 4] next, int64[F] more, float[4] l2, float sum) {
        next = Concat <axis = 0> (h, x)
        first = Constant <value_ints = [0]> ()
        one = Unsqueeze (i, first)
        more = Concat <axis = 0> (one, g, one)
        sum = ReduceSum <keepdims = 0> (next)
        l2 = Add (l, sum)
    }>
}"""


def test_several_values_may_begin_empty(calls: list[bool]) -> None:
    feeds: list[Feeds] = [{"x": grid(n), "m": np.array(m)} for n in (3, 1) for m in (4, 1, 9, 0)]
    agree(sessions(TWO), *feeds)
    assert calls.count(True) >= 6


def test_one_of_them_may_stay_empty(calls: list[bool]) -> None:
    # No code is for both states at once; kernels take such a run.
    text = TWO.replace(
        "more = Concat <axis = 0> (one, g, one)",
        """odd = Constant <value_int = 3> ()
        is_late = Greater (i, odd)
        chosen = Compress <axis = 0> (one, is_late1)
        more = Concat <axis = 0> (g, chosen)""",
    ).replace("chosen =", "is_late1 = Unsqueeze (is_late, first)\n chosen =")
    feeds: list[Feeds] = [{"x": grid(3), "m": np.array(m)} for m in (4, 1, 9, 6)]
    agree(sessions(text), *feeds)


def test_what_begins_empty_may_become_so_again() -> None:
    text = """f (float[N, 4] x, int64 m) => (float[A, 4] y) <float[0, 4] none = {}> {
        stays = Constant <value = bool {1}> ()
        y = Loop (m, stays, none) <body = step (int64 i, bool k, float[C, 4] h) =>
            (bool k, float[E, 4] next) {
            first = Constant <value_ints = [0]> ()
            extents = Shape <start = 0, end = 1> (h)
            zero = Constant <value_ints = [0]> ()
            is_empty = Equal (extents, zero)
            flag = Squeeze (is_empty)
            next = If (flag) <
                then_branch = a () => (float[N, 4] p) { p = Sin (x) },
                else_branch = b () => (float[G, 4] q) {
                    one = Constant <value_ints = [1]> ()
                    end = Constant <value_ints = [100]> ()
                    q = Slice (h, one, end, first)
                }>
        }>
    }"""
    feeds: list[Feeds] = [{"x": grid(n), "m": np.array(m)} for n in (3, 1) for m in (4, 3, 9, 0)]
    agree(sessions(text), *feeds)


BAGS = """f (TYPE[N] x, int64[K] start, int64[K] end, int64 n) => (TYPE[K] y) {
    stays = Constant <value = bool {1}> ()
    y = Loop (n, stays) <body = step (int64 i, bool k) => (bool k, TYPE made) {
        axis = Constant <value_ints = [0]> ()
        first = Gather (start, i)
        last = Gather (end, i)
        from = Unsqueeze (first, axis)
        to = Unsqueeze (last, axis)
        bag = Slice (x, from, to, axis)
        made = OPERATOR <keepdims = 0> (bag)
    }>
}"""
FOLDED: dict[str, Callable[[Any], Any]] = {
    "ReduceSum": np.sum,
    "ReduceProd": np.prod,
    "ReduceL1": lambda x: np.abs(x).sum(),
    "ReduceL2": lambda x: np.sqrt((x * x).sum()),
    "ReduceSumSquare": lambda x: (x * x).sum(),
    "ReduceMean": lambda x: x.mean() if len(x) else 0,
    "ReduceMax": lambda x: x.max(initial=-np.inf),
    "ReduceMin": lambda x: x.min(initial=np.inf),
}


@pytest.mark.parametrize(
    ("operator", "type_"), list(zip(FOLDED, ["float", "double"] * 4, strict=True))
)
def test_sums_and_extremes_of_nothing_leave_no_native_call(
    operator: str, type_: str, calls: list[bool]
) -> None:
    dtype = np.float32 if type_ == "float" else np.float64
    x = np.random.default_rng(4).uniform(-2, 2, 40).astype(dtype)
    own, _ = sessions(BAGS.replace("TYPE", type_).replace("OPERATOR", operator))
    start = np.array([0, 3, 3, 20, 39, 0])
    for lengths in ([3, 0, 17, 19, 1, 40], [0] * 6, [0, 1, 0, 2, 0, 39]):
        end = start + lengths
        feeds = {"x": x, "start": start, "end": end, "n": np.array(6)}
        expected = [FOLDED[operator](x[a:b]) for a, b in zip(start, end, strict=True)]
        for _ in range(3):
            (found,) = own.run(None, feeds)
            np.testing.assert_allclose(found, np.array(expected, dtype), 1e-5)
        assert calls[-1]


def test_means_of_no_integers_are_zero() -> None:
    own, _ = sessions(BAGS.replace("TYPE", "int64").replace("OPERATOR", "ReduceMean"))
    feeds = {"x": np.arange(9), "start": np.array([0, 4]), "n": np.array(2)}
    for end, expected in ([[3, 9], [1, 6]], [[3, 9], [1, 6]], [[0, 5], [0, 4]]):
        (found,) = own.run(None, {**feeds, "end": np.array(end)})
        np.testing.assert_array_equal(found, expected)


def test_rows_are_filtered_until_none_is_left(calls: list[bool]) -> None:
    text = """f (float[N, 4] x, float less) => (float[K] sums, float[M, 4] last) {
        stays = Constant <value = bool {1}> ()
        last, sums = Loop ("", stays, x) <body = step (int64 i, bool k, float[A, 4] h) =>
            (bool more, float[B, 4] next, float sum) {
            axis = Constant <value_ints = [1]> ()
            lower = Sub (h, less)
            of_rows = ReduceSum <keepdims = 0> (lower, axis)
            zero = Constant <value_float = 0.0> ()
            is_above = Greater (of_rows, zero)
            next = Compress <axis = 0> (lower, is_above)
            sum = ReduceSum <keepdims = 0> (next)
            extents = Shape <start = 0, end = 1> (next)
            count = Squeeze (extents)
            none = Constant <value_int = 0> ()
            more = Greater (count, none)
        }>
    }"""
    feeds: list[Feeds] = [
        {"x": grid(n, 1) * 3, "less": np.array(d, "f")} for n, d in ((5, 0.5), (1, 9), (40, 0.2))
    ]
    agree(sessions(text), *feeds)
    assert calls[-1]


SCATTERED = """f (float[N] x, int64[M] at, int64[M, 3] chosen, float[5] table, int64[K] start,
    int64[K] end, int64 n) => (float[N] y) {
    stays = Constant <value = bool {1}> ()
    y = Loop (n, stays, x) <body = step (int64 i, bool k, float[N] h) => (bool k, float[N] o) {
        axis = Constant <value_ints = [0]> ()
        first = Gather (start, i)
        last = Gather (end, i)
        from = Unsqueeze (first, axis)
        to = Unsqueeze (last, axis)
        places = Slice (at, from, to, axis)
        rows = Slice (chosen, from, to, axis)
        o = If (k) <
            then_branch = a () => (float[N] p) {
                one = Constant <value_ints = [1]> ()
                values = Gather (table, rows)
                sums = ReduceSum <keepdims = 0> (values, one)
                listed = Unsqueeze (places, one)
                p = ScatterND (h, listed, sums)
            },
            else_branch = b () => (float[N] q) { q = Identity (h) }>
    }>
}"""


def test_code_of_branches_is_made_for_extents_of_zero(calls: list[bool]) -> None:
    rng = np.random.default_rng(6)
    feeds: list[Feeds] = []
    for _ in range(12):
        n, m, k = rng.integers(1, 9), rng.integers(1, 12), 6
        start = rng.integers(0, m, k)
        end = np.where(rng.random(k) < 0.5, start, np.minimum(m, start + rng.integers(0, 5, k)))
        feeds.append({
            "x": rng.standard_normal(n).astype("f"),
            "at": np.arange(m) if m <= n else np.zeros(m, np.int64),  # which of two wins is open
            "chosen": np.repeat(rng.integers(0, 5, (1, 3)), m, 0),
            "table": rng.integers(0, 9, 5).astype("f"),
            "start": start, "end": end, "n": np.array(k),
        })  # fmt: skip
    agree(sessions(SCATTERED), *feeds)
    assert calls.count(True) >= 2 * len(feeds)


COUNTED = """f (float[N, 4] x, int64 m, bool b) => (float[A, 4] y) {
    axis = Constant <value_ints = [1]> ()
    zero = Constant <value_float = 0.0> ()
    sums = ReduceSum <keepdims = 0> (x, axis)
    is_above = Greater (sums, zero)
    rows = Compress <axis = 0> (x, is_above)
    stays = Constant <value = bool {1}> ()
    NODE
}"""
NODES = {
    "Loop": """y = Loop (m, stays, rows) <body = step (int64 i, bool k, float[C, 4] h) =>
        (bool k, float[D, 4] next) { next = Neg (h) }>""",
    "unchanged": """z, w = Loop (m, stays, rows) <body = step (int64 i, bool k, float[C, 4] h) =>
        (bool k, float[D, 4] next, float one) {
        next = Identity (h)
        one = ReduceSum <keepdims = 0> (x)
        }>
        y = Identity (z)""",
    "If": """y = If (b) <then_branch = a () => (float[C, 4] p) { p = Identity (rows) },
        else_branch = b () => (float[D, 4] q) { q = Concat <axis = 0> (rows, rows) }>""",
    "If before": """z = If (b) <then_branch = a () => (float[C, 4] p) { p = Neg (rows) },
        else_branch = b () => (float[D, 4] q) { q = Identity (rows) }>
        y = Concat <axis = 0> (z, rows)""",
}


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_sizes_that_an_iteration_or_a_branch_computes_are_not_taken_from_the_run_before(
    node: str, calls: list[bool]
) -> None:
    feeds: list[Feeds] = [
        {"x": grid(n, sign), "m": np.array(m), "b": np.array(m > 0)}
        for m, n, sign in (
            (2, 1, 1), (0, 40, 1), (1, 3, 1), (0, 9, 0), (1, 9, 0), (0, 300, 1), (3, 5, -1),
        )
    ]  # fmt: skip
    agree(sessions(COUNTED.replace("NODE", node)), *feeds)
    assert calls.count(True) >= len(feeds)


@pytest.mark.parametrize(
    ("body", "feeds"),
    [
        ("float[N] x) => (float[K] y) <float[0] w = {}> { y = Div (x, w) }", {"x": (3,)}),
        ("float[N] x) => (float[K] y) <float[0] w = {}> { y = Div (w, x) }", {"x": (3,)}),
        ("float[N, 4] x) => (bool[K, 4] y) <float[0, 1] w = {}> {y = Less (w, x)}", {"x": (5, 4)}),
    ],
)
def test_what_nothing_does_not_fit_is_refused(body: str, feeds: dict[str, tuple[int, ...]]) -> None:
    model = parse_model(f'<ir_version: 10, opset_import: ["" : 21]> f ({body}')
    given = {name: np.ones(shape, np.float32) for name, shape in feeds.items()}
    for engine in (ReferenceEvaluator, InferenceSession):
        with pytest.raises(ShapeError, match="shapes must broadcast"):
            engine(model).run(None, given)


def test_a_choice_from_nothing_is_refused() -> None:
    text = "f (float[0, 0] x) => (int64[1, 0] y) { y = ArgMin <axis = 0> (x) }"
    model = parse_model(f'<ir_version: 10, opset_import: ["" : 13]> {text}')
    with pytest.raises(FornixError, match="must have an element to choose from"):
        InferenceSession(model).run(None, {"x": np.ones((0, 0), np.float32)})


SIDES = """f (float[M] y, int64 n, bool b) => (float[A] r) <float[0] none = {}> {
    v = If (b) <
        then_branch = one () => (float[P] p) {
            stays = Constant <value = bool {1}> ()
            p = Loop (n, stays, none) <body = step (int64 i, bool k, float[C] h) =>
                (bool k, float[D] next) { next = Identity (h) }>
        },
        else_branch = other () => (float[Q] q) { q = Identity (y) }>
    r = Neg (v)
}"""


@pytest.mark.parametrize("takes_first", [True, False])
def test_branches_of_other_extents_may_lie_in_the_same_memory(
    calls: list[bool], *, takes_first: bool
) -> None:
    given = {"y": np.arange(3, dtype="f"), "n": np.array(4), "b": np.array(takes_first)}
    agree(sessions(SIDES), given, rounds=6)
    assert calls[-1]
