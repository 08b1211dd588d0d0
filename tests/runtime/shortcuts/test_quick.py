"""The short way: what it takes, it computes as the long way does; all else goes the long way."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper, parser

from fornix.compile.entry import is_available
from fornix.errors import Fail, FormatError, FornixError, InvalidArgument
from fornix.runtime import InferenceSession, RunOptions, SessionOptions, programs
from fornix.runtime.shortcuts.common import CommonCall
from fornix.runtime.shortcuts.quick import DrivenCall, StepsCall

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


@pytest.mark.usefixtures("uncollected")
def test_no_references_are_lost_or_kept(session: InferenceSession) -> None:
    calls = 1000  # what one call loses shows a thousandfold, in each try
    watched = [X, I, B, X.dtype, I.dtype, B.dtype, "x"]
    wrong = {**FEEDS, "i": np.array([0, 3])}

    def counts() -> list[int]:
        return [sys.getrefcount(thing) for thing in watched]

    def changed(feeds: Mapping[str, Any]) -> Any:
        before = counts()
        for _ in range(calls):
            short(session, feeds)
        return np.abs(np.subtract(counts(), before))

    for feeds in (FEEDS, wrong, {}, {**FEEDS, "x": None}):
        # Every array of the process counts in its dtype: what other threads let go is in one try.
        tries = [changed(feeds) for _ in range(3)]
        assert np.min(tries, axis=0).max() < calls // 2


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


ROWS = 20_000
LONG = {**FEEDS, "x": np.linspace(-1, 1, ROWS * 4, dtype=np.float32).reshape(ROWS, 4)}


@pytest.fixture(params=[1, 2])
def long(request: pytest.FixtureRequest) -> InferenceSession:
    """A session whose runs are too long to keep the GIL."""
    options = SessionOptions(intra_op_num_threads=request.param)
    found = InferenceSession(parser.parse_model(TEXT), options)
    found.run(None, LONG)
    assert isinstance(found._short, DrivenCall)
    return found


def test_what_takes_long_has_a_short_way_too(long: InferenceSession) -> None:
    for factor in (1, -2):
        feeds = {**LONG, "x": LONG["x"] * np.float32(factor)}
        found = short(long, feeds)
        assert found is not None
        np.testing.assert_array_equal(found[1], -feeds["x"])
        np.testing.assert_allclose(found[0], np.exp(feeds["x"][I]), rtol=1e-6)
        assert found[2] == np.array(False)


@pytest.mark.parametrize(
    "feeds",
    [FEEDS, {**LONG, "x": LONG["x"].T}, {**LONG, "i": np.array([0, ROWS])}, OrderedDict(LONG), 5],
    ids=["extents", "layout", "index", "class", "number"],
)
def test_nothing_else_takes_it(long: InferenceSession, feeds: Any) -> None:
    assert short(long, feeds) is None
    assert short(long, LONG) is not None
    assert short(long, feeds) is None


def test_long_runs_in_several_threads_get_their_own_results(long: InferenceSession) -> None:
    wrong: list[int] = []

    def call(number: int) -> None:
        feeds = {**LONG, "x": np.full((ROWS, 4), number, np.float32)}
        for _ in range(200):
            _, z, _ = long.run(None, feeds)
            if not (z == -number).all():
                wrong.append(number)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


def test_each_of_several_extents_has_a_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORNIX_CACHE", "0")  # steps of kept programs have no way of their own
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 256] x) => (float[N, 256] y) { y = MatMul (x, w) }""")
    w = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(w, "w"))
    session = InferenceSession(model, SessionOptions(intra_op_num_threads=1))
    for rows in (1, 16, 14, 17):  # the step's own way keeps no memory for these extents
        feeds = {"x": np.full((rows, 256), rows, np.float32)}
        session.run(None, feeds)
        found = short(session, feeds)
        assert found is not None, rows
        np.testing.assert_allclose(found[0], feeds["x"] @ w, rtol=1e-4, atol=1e-3)
    assert isinstance(session._short, DrivenCall)


def test_a_file_that_is_written_to_is_refused_on_the_short_way(tmp_path: Path) -> None:
    path = tmp_path / "f.onnx"
    w = np.eye(200, dtype=np.float32)
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
        f (float[1, 200] x) => (float[200, 200] y) { y = Add (x, w) }""")
    model.graph.initializer.append(numpy_helper.from_array(w, "w"))
    path.write_bytes(model.SerializeToString())
    session = InferenceSession(path)
    x = np.arange(200, dtype=np.float32)[None]
    for _ in range(2):
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], x + w)
    assert isinstance(session._short, DrivenCall)
    os.utime(path, (0, 0))
    with pytest.raises(FormatError, match="must stay as it is"):
        session.run(None, {"x": x})


PARTS = """<ir_version: 8, opset_import: ["" : 18]>
    f (float[N] x, int64[1] at) => (float[N] y, int64[1, K] places, float[1] one) {
        y = Exp (x)
        places = NonZero (y)
        [pick] one = Gather (y, at)
    }"""


@pytest.fixture
def parts() -> InferenceSession:
    """A session with a NumPy kernel between compiled ones, that has run once."""
    found = InferenceSession(parser.parse_model(PARTS), providers=["CPUExecutionProvider"])
    found.run(None, {"x": X[0], "at": np.array([1])})
    assert isinstance(found._short, StepsCall)
    return found


def test_parts_with_kernels_between_them_have_a_short_way(parts: InferenceSession) -> None:
    feeds = {"x": X[1] * -200, "at": np.array([2])}
    y, places, one = np.exp(feeds["x"]), np.nonzero(np.exp(feeds["x"])), np.exp(feeds["x"])[2:3]
    for options in (None, RunOptions(logid="mine")):
        found = short(parts, feeds) if options is None else parts.run(None, feeds, options)
        assert found is not None
        np.testing.assert_allclose(found[0], y, rtol=1e-6)
        np.testing.assert_array_equal(found[1], places)
        np.testing.assert_allclose(found[2], one, rtol=1e-6)
        found[0][:] = 5
        assert parts.run(None, feeds)[0][0] == y[0]


@pytest.mark.parametrize(
    "other",
    [
        {"x": X[0].astype(np.float64)},
        {"x": X},
        {"x": X[0].tolist()},
        {"at": np.array([1], np.int32)},
        {"more": X},
    ],
)
def test_parts_look_at_feeds(parts: InferenceSession, other: Mapping[str, Any]) -> None:
    assert short(parts, {"x": X[0], "at": np.array([1]), **other}) is None


def test_what_goes_wrong_in_parts_names_its_node(parts: InferenceSession) -> None:
    feeds = {"x": X[0], "at": np.array([7])}
    assert short(parts, feeds) is None
    with pytest.raises(FornixError, match="pick"):
        parts.run(None, feeds)


@pytest.mark.parametrize("text", [TEXT, PARTS])
def test_runs_that_have_ended_end(text: str) -> None:
    session = InferenceSession(parser.parse_model(text), providers=["CPUExecutionProvider"])
    feeds = FEEDS if text is TEXT else {"x": X[0], "at": np.array([1])}
    options = RunOptions()
    for _ in range(2):
        session.run(None, feeds, options)
    options.terminate = True
    with pytest.raises(Fail, match="terminate"):
        session.run(None, feeds, options)
    options.terminate = False
    session.run(None, feeds, options)


def test_extents_that_came_before_take_their_short_way_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = '<ir_version: 8, opset_import: ["" : 18]> f (float[N, 3] x) => (float[N, 3] y)'
    session = InferenceSession(parser.parse_model(text + " { y = Neg (x) }"))
    feeds = [{"x": np.full((n, 3), n, np.float32)} for n in (1, 2, 5)]
    for feed in feeds:
        session.run(None, feed)
    monkeypatch.delattr(InferenceSession, "_run")
    for feed in (*feeds, *feeds[::-1]):
        np.testing.assert_array_equal(session.run(None, feed)[0], -feed["x"])
        np.testing.assert_array_equal(session.run(None, feed, RunOptions())[0], -feed["x"])
    for other in ({}, {"x": [[1.0, 2, 3]]}, {"x": np.ones(3, np.float32)}):
        with pytest.raises(AttributeError, match="_run"):  # the long way says what is wrong
            session.run(None, other)


def test_extents_with_a_program_of_their_own_have_a_short_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, P] past, float[N, 2] x) => (float[N, Q] y, float[N, P] z) {
            y = Concat <axis = 1> (past, x)
            z = Neg (past)
        }"""
    session = InferenceSession(parser.parse_model(text), SessionOptions(intra_op_num_threads=1))
    rng = np.random.default_rng(0)

    def check(rows: int, past: int) -> None:
        feeds = {k: rng.normal(size=(rows, n)).astype("f") for k, n in (("past", past), ("x", 2))}
        y, z = session.run(None, feeds)
        np.testing.assert_array_equal(y, np.concatenate([feeds["past"], feeds["x"]], 1))
        np.testing.assert_array_equal(z, -feeds["past"])

    sizes = ((3, 0), (3, 4), (1, 0), (0, 0), (0, 4))
    for rows, past in sizes:
        check(rows, past)
    programs = session._programs
    assert programs is not None
    assert sum(made is not programs.general for made in programs._chosen.values()) >= 3
    monkeypatch.delattr(InferenceSession, "_run")
    for rows, past in (*sizes, *sizes[::-1]):
        check(rows, past)
    with pytest.raises(AttributeError, match="_run"):  # the long way says what is wrong
        check(2, 0)


def test_extents_beyond_those_with_short_ways_get_one_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = {"MAX_SHORT": 2, "MAX_ALONE": 4, "BEYOND": 3}
    for name, limit in limits.items():
        monkeypatch.setattr(programs, name, limit)
    text = """<ir_version: 8, opset_import: ["" : 18, "ai.onnx.ml" : 3]>
        f (string[N] x) => (int64[N] y) {
            y = ai.onnx.ml.LabelEncoder <keys_strings = ["p", "q"], values_int64s = [1, 2]> (x)
        }"""
    session = InferenceSession(parser.parse_model(text))

    def check(rows: int) -> None:
        x = np.array((["p", "q"] * rows)[:rows], object)
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], ([1, 2] * rows)[:rows])

    for rows in range(1, 12):
        check(rows)
        check(rows)
    assert session._programs is not None
    ways = session._programs._short
    assert len(ways) == 4
    assert {(1,), (11,)}.isdisjoint(ways)
    for more in ((), (1,)):
        for rows in more:
            check(rows)
        with monkeypatch.context() as patch:
            patch.delattr(InferenceSession, "_run")
            for (rows,) in [*ways, *ways]:
                check(rows)
    check(20)
    session.shrink()
    for rows in range(1, 5):
        check(rows)
        check(rows)
    assert {*ways} == {(1,), (2,), (3,), (4,)}


def test_extents_beyond_those_with_short_ways_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "MAX_SHORT", 2)
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 3] x, float[M, 3] w) => (float[K, 3] y) { y = Sub (x, w) }"""
    options = SessionOptions(intra_op_num_threads=1)
    session = InferenceSession(parser.parse_model(text), options)
    rng = np.random.default_rng(0)

    def check(n: int, m: int) -> None:
        x, w = (rng.normal(size=(k, 3)).astype(np.float32) for k in (n, m))
        np.testing.assert_array_equal(session.run(None, {"x": x, "w": w})[0], x - w)

    for n in (1, 2, 3, 4):
        check(n, n)
    assert isinstance(session._short, CommonCall)
    for n, m in ((4, 1), (1, 4), (0, 0), (0, 1), (7, 7), (1, 1), (5, 5)):
        check(n, m)
    x = np.ones((6, 3), np.float32)
    with pytest.raises(FornixError, match=r"6.*5|5.*6"):
        session.run(None, {"x": x, "w": x[:5]})
    for wrong in (x.astype(np.float64), x[:, :2], x[0]):
        with pytest.raises(InvalidArgument, match="'x'"):
            session.run(None, {"x": wrong, "w": x})
    turned = np.asfortranarray(rng.normal(size=(6, 3)).astype(np.float32))
    np.testing.assert_array_equal(session.run(None, {"x": turned, "w": x})[0], turned - x)
    monkeypatch.delattr(InferenceSession, "_run")
    for n in (8, 9, 3, 1):
        check(n, n)
