"""How a session runs feeds does not depend on the extents of those that came before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest

from fornix.compile.entry import is_available
from tests.runtime.control.flows import Feeds, agree, sessions, watched

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")

COUNTS = 1, 2, 3, 7
ORDERS = [*permutations(COUNTS)]

STORED = """
    stays = Constant <value = bool {1}> ()
    four = Constant <value_ints = [4]> ()
    none = Constant <value_ints = [0]> ()
    first = Constant <value_int = 0> ()
    at_last = Constant <value_ints = [2]> ()
"""

GROWN = f"""f (float[n, 4] x, int64 trips) => (int64[a, b, c] y, float[a, b] z) {{
    {STORED}
    shape = Shape (x)
    n0 = Gather <axis = 0> (shape, first)
    n = Reshape (n0, minus)
    to_fill = Concat <axis = 0> (n, four, none)
    empty = ConstantOfShape <value = int64[1] {{0}}> (to_fill)
    y, z = Loop (trips, stays, empty, x) <
        body = go (int64 i, bool k, int64[a, b, c] q, float[a, b] s)
            => (bool k, int64[d, e, g] r, float[h, j] t) {{
        rows0 = Shape <start = 2, end = 3> (q)
        rows = Concat <axis = 0> (n, four, rows0)
        bent = Neg (s)
        t, places = TopK <axis = 1> (bent, four)
        t0 = Unsqueeze (places, at_last)
        wide = Expand (t0, rows)
        chosen = GatherElements <axis = 1> (q, wide)
        alike = Concat <axis = 0> (n, four, one)
        new = Reshape (places, alike)
        r = Concat <axis = 2> (chosen, new)
    }}>
}}"""
"""Beams that grow from nothing: their number is captured, and what is reshaped by it meets them."""

TOLD = f"""f (float[n, 4] x, int64 n0, int64 trips) => (float[a, b] y) {{
    {STORED}
    n = Reshape (n0, minus)
    y = Loop (trips, stays, x) <body = go (int64 i, bool k, float[a, b] s)
        => (bool k, float[c, d] t) {{
        shape = Concat <axis = 0> (n, four)
        turned = Reshape (s, shape)
        ones = ConstantOfShape <value = int64[1] {{1}}> (shape)
        taken = GatherElements <axis = 1> (s, ones)
        t = Add (turned, taken)
    }}>
}}"""
"""The same number is fed, and known to be the extent by nobody."""

BRANCHES = f"""f (float[n, 4] x, bool c) => (float[a, b] y) {{
    {STORED}
    shape = Shape (x)
    n0 = Gather <axis = 0> (shape, first)
    n = Reshape (n0, minus)
    y = If (c) <
        then_branch = left () => (float[d, e] l) {{
            rows = Concat <axis = 0> (n, four)
            z = ConstantOfShape <value = float[1] {{2.0}}> (rows)
            l = Mul (x, z)
        }},
        else_branch = right () => (float[g, h] r) {{
            k = Cast <to = 1> (n)
            r = Div (x, k)
        }}>
}}"""

PLAIN = f"""f (float[n, 4] x, float[m, 4] w, int64[k, 4] i) => (float[a, b] y, float[d, e] z) {{
    {STORED}
    shape = Shape (x)
    turned = Reshape (w, shape)
    y = Add (turned, w)
    z = GatherElements <axis = 1> (x, i)
}}"""
"""Rows of two inputs are taken for equal; a third has no more of them."""

NUMBERS = """<int64[1] minus = {-1}, int64[1] one = {1}>"""


def with_numbers(text: str) -> str:
    """``text`` of a graph with stored numbers."""
    head, body = text.split(") {", 1)
    return f"{head}) {NUMBERS} {{{body}"


def rows(n: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(n).standard_normal((n, 4)).astype(np.float32)


def fed(n: int) -> dict[str, Feeds]:
    """For each model, feeds with so many rows."""
    x, count, trips = rows(n), np.array(n), np.array(3)
    return {
        GROWN: {"x": x, "trips": trips},
        TOLD: {"x": x, "n0": count, "trips": trips},
        BRANCHES: {"x": x, "c": np.array(n % 2 == 0)},
        PLAIN: {"x": x, "w": x + 1, "i": np.full((1, 4), 3)},
    }


def run_in(order: Sequence[int], text: str, calls: list[bool]) -> dict[int, bool]:
    """For each number of rows, whether its last run was a native call, in this ``order``."""
    fast, slow = sessions(with_numbers(text))
    reached = {}
    for n in (*order, *order):
        calls.clear()
        agree((fast, slow), fed(n)[text], rounds=4)
        reached[n] = calls[-1:] == [True]
    return reached


@pytest.mark.parametrize("text", [GROWN, TOLD, BRANCHES])
@pytest.mark.parametrize("order", [(1, 2, 3, 7), (7, 3, 2, 1), (2, 1, 7, 3)])
def test_bodies_are_called_at_once_whatever_came_first(
    monkeypatch: pytest.MonkeyPatch, text: str, order: Sequence[int]
) -> None:
    assert all(run_in(order, text, watched(monkeypatch)).values())


@pytest.mark.slow
@pytest.mark.parametrize("text", [GROWN, TOLD, BRANCHES])
def test_so_they_are_in_all_orders(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    calls = watched(monkeypatch)
    for order in ORDERS:
        assert all(run_in(order, text, calls).values())


def test_rows_run_the_same_programs_whatever_came_first() -> None:
    found: dict[int, set[str]] = {n: set() for n in COUNTS}
    for order in ORDERS[::5]:
        fast, slow = sessions(with_numbers(PLAIN))
        for n in (*order, *order):
            agree((fast, slow), fed(n)[PLAIN])
            found[n].add(type(fast._short).__name__)
        assert not fast.placement() or all(place.kernels for place in fast.placement())
    assert all(len(ways) == 1 for ways in found.values())
