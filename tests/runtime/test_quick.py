"""The short way: what it takes, it computes as the long way does; all else goes the long way."""

from __future__ import annotations

import gc
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.compile.entry import is_available
from fornix.errors import Fail, InvalidArgument
from fornix.runtime import InferenceSession

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")

TEXT = """<ir_version: 8, opset_import: ["" : 18]>
    f (float[N, 4] x, int64[M] i, bool b) => (float[M, 4] y, float[N, 4] z, bool c) {
        g = Gather (x, i)
        y = Exp (g)
        z = Neg (x)
        c = Not (b)
    }"""
X = np.arange(12, dtype=np.float32).reshape(3, 4) / 7
I = np.array([2, -3])
B = np.array(True)
FEEDS = {"x": X, "i": I, "b": B}


@pytest.fixture
def session() -> InferenceSession:
    """A session that has run once, so that the short way is open."""
    found = InferenceSession(parser.parse_model(TEXT), providers=["CPUExecutionProvider"])
    found.run(None, FEEDS)
    assert found._short is not None
    return found


def short(session: InferenceSession, feeds: Mapping[str, Any]) -> list[Any] | None:
    assert session._short is not None
    return session._short.call(feeds)


def test_results_are_those_of_the_long_way(session: InferenceSession) -> None:
    for factor in (1, -2, 0):
        feeds = {**FEEDS, "x": X * np.float32(factor)}
        found = short(session, feeds)
        assert found is not None
        for one, other in zip(found, session.run(["y", "z", "c"], feeds), strict=True):
            assert one.dtype == other.dtype
            assert one.shape == other.shape
            assert one.tobytes() == other.tobytes()
            assert one.flags.writeable
            assert one.flags.owndata


class Mine(np.ndarray):
    pass


@pytest.mark.parametrize(
    "feeds",
    [
        {"x": X, "i": I},
        {**FEEDS, "more": X},
        {"x": X, "i": I, "c": B},
        {**FEEDS, "x": X.astype(np.float64)},
        {**FEEDS, "x": X[:2]},
        {**FEEDS, "x": X[0]},
        {**FEEDS, "x": X[None]},
        {**FEEDS, "x": np.asfortranarray(X)},
        {**FEEDS, "x": X.astype(">f4")},
        {**FEEDS, "x": X.tolist()},
        {**FEEDS, "x": X.view(Mine)},
        {**FEEDS, "x": None},
        {**FEEDS, "b": True},
        {**FEEDS, "i": np.array([0, 3])},
        OrderedDict(FEEDS),
        [],
        None,
        5,
    ],
    ids=str,
)
def test_everything_else_is_left_to_the_long_way(session: InferenceSession, feeds: Any) -> None:
    assert short(session, feeds) is None


def test_the_long_way_says_what_is_wrong(session: InferenceSession) -> None:
    with pytest.raises(InvalidArgument, match="but the feed is float64"):
        session.run(None, {**FEEDS, "x": X.astype(np.float64)})
    with pytest.raises(Fail, match="Gather, opset 18"):
        session.run(None, {**FEEDS, "i": np.array([0, 3])})
    np.testing.assert_array_equal(session.run(None, FEEDS)[1], -X)


def test_other_extents_open_a_way_of_their_own(session: InferenceSession) -> None:
    for n in (1, 5, 3, 0, 5):
        x = np.full((n, 4), n, np.float32)
        i = np.zeros(1 if n else 0, np.int64)
        for _ in range(2):
            y, z, c = session.run(None, {"x": x, "i": i, "b": B})
            np.testing.assert_array_equal(z, -x)
            np.testing.assert_allclose(y, np.exp(x[i]), rtol=1e-6)
            assert not c


def test_results_are_never_shared(session: InferenceSession) -> None:
    results = [session.run(None, FEEDS) for _ in range(3)]
    arrays = [array for result in results for array in result]
    for index, array in enumerate(arrays):
        assert not np.shares_memory(array, X)
        assert not any(np.shares_memory(array, other) for other in arrays[:index])


def test_no_references_are_lost_or_kept(session: InferenceSession) -> None:
    calls = 1000  # what one call loses shows a thousandfold; what other tests let go does not
    watched = [X, I, B, X.dtype, I.dtype, B.dtype, "x"]
    wrong = {**FEEDS, "i": np.array([0, 3])}

    def counts() -> list[int]:
        gc.collect()
        return [sys.getrefcount(thing) for thing in watched]

    for feeds in (FEEDS, wrong, {}, {**FEEDS, "x": None}):
        before = counts()
        for _ in range(calls):
            short(session, feeds)
        after = counts()
        assert max(abs(a - b) for a, b in zip(after, before, strict=True)) < calls // 2


def test_callers_in_several_threads_get_their_own_results(session: InferenceSession) -> None:
    wrong: list[int] = []

    def call(number: int) -> None:
        x = np.full((3, 4), number, np.float32)
        for _ in range(2000):
            y, z, _ = session.run(None, {"x": x, "i": I, "b": B})
            if not (z == -number).all() or not np.allclose(y, np.exp(number)):
                wrong.append(number)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


def test_much_work_is_left_to_the_way_that_releases_the_gil(session: InferenceSession) -> None:
    x = np.zeros((20_000, 4), np.float32)
    session.run(None, {"x": x, "i": I, "b": B})
    assert session._short is None
