"""Control flow in one native call: results are those of NumPy kernels, whatever the loop does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fornix.compile.entry import is_available
from fornix.errors import Fail, FornixError
from fornix.runtime import RunOptions
from fornix.runtime.control import ways
from fornix.runtime.control.flow import Flow
from tests.runtime.control.flows import Feeds, agree, sessions, watched

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each native call, whether it gave results."""
    return watched(monkeypatch)


def array(*numbers: float, dtype: str = "f") -> np.ndarray[Any, np.dtype[Any]]:
    return np.array(numbers, dtype)


COUNTS = """f (int64 m, bool c, float[2] x) => (float[2] y, float[K, 2] every) {
    y, every = Loop (m, c, x) <body = step (int64 i, bool k, float[2] h) =>
        (bool goes, float[2] next, float[2] half) {
        two = Constant <value_float = 2.0> ()
        next = Mul (h, two)
        half = Div (h, two)
        limit = Constant <value_int = 6> ()
        goes = Less (i, limit)
    }>
}"""


@pytest.mark.parametrize("starts", [True, False])
def test_a_loop_runs_as_often_as_its_limit_and_its_conditions_say(
    calls: list[bool], starts: bool
) -> None:
    feeds = [
        {"m": np.array(m), "c": np.array(starts), "x": array(1, 2)} for m in (3, 0, -2, 7, 20, 1)
    ]
    agree(sessions(COUNTS), *feeds)
    assert calls.count(True) >= len(feeds)


@pytest.mark.parametrize("given", ["m, , x", ", c, x", ", , x"])
def test_limit_and_condition_may_be_left_out(calls: list[bool], given: str) -> None:
    # The body itself ends it where nothing else does.
    text = COUNTS.replace("m, c, x", given)
    agree(sessions(text), {"m": np.array(4), "c": np.array(True), "x": array(1, 2)})
    assert calls[-1]


IF = """f (int64 m, float[N] x, float[N] w) => (float[N] y) {
    stays = Constant <value = bool {1}> ()
    y = Loop (m, stays, x) <body = step (int64 i, bool k, float[N] h) => (bool k, float[N] next) {
        sum = ReduceSum <keepdims = 0> (h)
        zero = Constant <value_float = 0.0> ()
        above = Greater (sum, zero)
        next = If (above) <
            then_branch = a () => (float[N] p) { p = Sub (h, w) },
            else_branch = b () => (float[N] q) { e = Exp (w) q = Add (h, e) }>
    }>
}"""


def test_branches_within_a_loop_are_chosen_in_the_call(calls: list[bool]) -> None:
    feeds = [
        {"m": np.array(m), "x": np.arange(n, dtype="f"), "w": np.full(n, 0.7, "f")}
        for n in (3, 5, 1)
        for m in (4, 9, 0)
    ]
    agree(sessions(IF), *feeds)
    assert calls.count(True) >= len(feeds)


PASSED = """f (bool c, float[2] x, float[2] z) => (float[2] y, float[2] u) {
    y, u = If (c) <then_branch = a () => (float[2] p, float[2] q) { p = Identity (x) q = Exp (z) },
                   else_branch = b () => (float[2] r, float[2] s) { r = Neg (z) s = Identity (z) }>
}"""


def test_branches_may_hand_on_what_they_capture(calls: list[bool]) -> None:
    feeds = [{"c": np.array(c), "x": array(1, 2), "z": array(3, 4)} for c in (True, False)]
    agree(sessions(PASSED), *feeds)
    assert calls[-1]


SWAPS = """f (int64 m, int64[1] a, int64[1] b) =>
    (int64[1] y, int64[1] z, int64[K, 1] all, int64[L] n) {
    stays = Constant <value = bool {1}> ()
    y, z, all, n = Loop (m, stays, a, b) <body = step (int64 i, bool k, int64[1] p, int64[1] q) =>
        (bool k, int64[1] q, int64[1] r, int64[1] r, int64 i) { r = Add (p, q) }>
}"""


def test_carried_values_may_change_places_and_be_collected_as_well(calls: list[bool]) -> None:
    fast, _ = sessions(SWAPS)
    for m in (10, 1, 0, 7):
        feed = {"m": np.array(m), "a": np.array([0]), "b": np.array([1])}
        fibonacci = [0, 1]
        while len(fibonacci) < m + 2:
            fibonacci.append(sum(fibonacci[-2:]))
        for _ in range(3):
            last, after, every, numbers = fast.run(None, feed)
            assert (last[0], after[0]) == (fibonacci[m], fibonacci[m + 1])
            assert every[:, 0].tolist() == fibonacci[2:]
            assert numbers.tolist() == list(range(m))
    assert calls.count(True) >= 4


SCAN = """f (float[2] s, float[N, 2] x, float[N, 2] w) =>
    (float[2] last, float[N, 2] sums, float[N] m) {
    last, sums, m = Scan <num_scan_inputs = 2, scan_input_directions = [0, 1],
        scan_output_directions = [1, 0], body = add (float[2] a, float[2] b, float[2] c) =>
        (float[2] d, float[2] e, float g) {
            t = Mul (b, c) d = Add (a, t) e = Tanh (d) g = ReduceMax <keepdims = 0> (t)
    }> (s, x, w)
}"""


def test_a_scan_reads_and_makes_rows_from_either_end(
    calls: list[bool], rng: np.random.Generator
) -> None:
    def feed(n: int) -> Feeds:
        x, w = rng.standard_normal((2, n, 2), np.float32)
        return {"s": array(1, 2), "x": x, "w": w}

    agree(sessions(SCAN), *map(feed, (1, 4, 9, 4)))
    assert calls.count(True) >= 4


NESTED = """f (int64 m, float[2] x) => (float[2] y, float[K, 3, 2] rows) {
    stays = Constant <value = bool {1}> ()
    three = Constant <value = int64 {3}> ()
    y, rows = Loop (m, stays, x) <body = outer (int64 i, bool k, float[2] h) =>
        (bool go, float[2] n, float[3, 2] r) {
        go = Identity (k)
        t = Exp (x)
        first = Loop (i, k, h) <body = inner (int64 j, bool l, float[2] g) => (bool l, float[2] o) {
            s = Add (g, t) o = Tanh (s)
        }>
        n, r = Loop (three, k, first) <body = other (int64 j, bool l, float[2] g) =>
            (bool l, float[2] o, float[2] p) { o = Sin (g) p = Mul (g, t) }>
    }>
}"""


def test_loops_within_loops_are_one_call(calls: list[bool]) -> None:
    agree(sessions(NESTED), *({"m": np.array(m), "x": array(0.5, -1)} for m in (4, 0, 1, 6)))
    assert calls.count(True) >= 4


def test_results_have_as_many_rows_as_there_were_iterations(
    calls: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "BUDGET", 16)  # two rows of two float32
    text = COUNTS.replace("value_int = 6", "value_int = 700")
    feeds = [{"m": np.array(m), "c": np.array(True), "x": array(1e-30, 0)} for m in (3, 99, 1000)]
    agree(sessions(text), *feeds)
    assert not all(calls)
    assert calls[-1]


def test_what_grows_is_handed_on_where_it_was_made(calls: list[bool]) -> None:
    text = """f (int64 m, float[1] x) => (float[N] y) {
        stays = Constant <value = bool {1}> ()
        y = Loop (m, stays, x) <body = step (int64 i, bool k, float[A] h) => (bool k, float[B] next)
        { next = Concat <axis = 0> (h, x) }>
    }"""
    agree(sessions(text), *({"m": np.array(m), "x": array(1)} for m in (3, 5, 0)))
    assert calls[-1]


GATHERS = """f (int64 m, float[3] x, int64[4] at) => (float y) {
    stays = Constant <value = bool {1}> ()
    zero = Constant <value_float = 0.0> ()
    y = Loop (m, stays, zero) <body = step (int64 i, bool k, float h) => (bool k, float next) {
        j = Gather (at, i)
        [pick] e = Gather (x, j)
        next = Add (h, e)
    }>
}"""


def test_what_goes_wrong_in_a_call_is_told_as_by_kernels(calls: list[bool]) -> None:
    fast, slow = sessions(GATHERS)
    good = {"m": np.array(4), "x": array(1, 2, 3), "at": np.array([0, 2, 1, 0])}
    for _ in range(3):
        assert fast.run(None, good)[0] == 7
    done = calls.count(True)
    assert done
    bad = good | {"at": np.array([0, 2, 5, 0])}
    with pytest.raises(FornixError) as wanted:
        slow.run(None, bad)
    with pytest.raises(type(wanted.value), match="pick") as found:
        fast.run(None, bad)
    assert str(found.value) == str(wanted.value)
    assert calls.count(True) == done
    assert fast.run(None, good)[0] == 7


ENDLESS = """f (int64 m, float x) => (float y) {
    stays = Constant <value = bool {1}> ()
    y = Loop (m, stays, x) <body = step (int64 i, bool k, float h) => (bool goes, float next) {
        next = Sin (h)
        limit = Constant <value_float = 2.0> ()
        goes = Less (next, limit)
    }>
}"""


def test_another_thread_ends_a_loop() -> None:
    fast, _ = sessions(ENDLESS)
    feed = {"m": np.array(5), "x": np.float32(1)}
    for _ in range(3):
        fast.run(None, feed)
    options = RunOptions()
    timer = threading.Timer(0.05, lambda: setattr(options, "terminate", True))
    timer.start()
    with pytest.raises(Fail, match="terminate"):
        fast.run(None, feed | {"m": np.array(2**62)}, options)
    timer.join()
    options.terminate = False
    assert fast.run(None, feed, options)[0] == fast.run(None, feed)[0]


def test_one_thread_makes_the_way_of_a_node_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    original = ways.ControlWay._way

    def slowly(self: ways.ControlWay, *given: Any) -> Any:
        made.append(given)
        time.sleep(0.05)  # the others come by meanwhile
        return original(self, *given)

    monkeypatch.setattr(ways.ControlWay, "_way", slowly)
    text = """f (float[N] x) => (float[?] y) {
        places = NonZero (x)
        rows = Transpose (places)
        picked = GatherND (x, rows)
        three = Constant <value_int = 3> ()
        y = Loop (three, , picked) <body = step (int64 i, bool k, float[?] h) =>
            (bool goes, float[?] next) { goes = Identity (k) next = Add (h, h) }>
    }"""
    fast, slow = sessions(text)
    feeds = {"x": array(1, 0, 2, 3)}
    (wanted,) = slow.run(None, feeds)
    fast.run(None, feeds)
    with ThreadPoolExecutor(4) as pool:
        for (found,) in pool.map(lambda _: fast.run(None, feeds), range(12)):
            np.testing.assert_array_equal(found, wanted)
    assert len(made) == 1


def test_threads_run_the_same_loop_at_the_same_time() -> None:
    fast, slow = sessions(IF, threads=2)
    feeds = [
        {"m": np.array(200), "x": np.arange(n, dtype="f"), "w": np.full(n, 0.7, "f")}
        for n in (3, 4, 5, 6)
    ]
    wanted = [slow.run(None, feed)[0] for feed in feeds]
    for feed in feeds * 2:
        fast.run(None, feed)
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda n: fast.run(None, feeds[n % 4])[0], range(80))
        for number, result in enumerate(found):
            np.testing.assert_allclose(result, wanted[number % 4], rtol=1e-5)


def test_results_are_nobody_elses() -> None:
    fast, _ = sessions(SWAPS)
    feed = {"m": np.array(5), "a": np.array([0]), "b": np.array([1])}
    first = [fast.run(None, feed) for _ in range(4)][-1]
    kept = [result.copy() for result in first]
    zero = fast.run(None, feed | {"m": np.array(0)})
    zero[0][:] = 77
    assert feed["a"] == 0
    fast.run(None, feed | {"m": np.array(9)})
    for result, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(result, copy)


def bodies(rng: np.random.Generator) -> Iterator[str]:
    """Lines of a random body, which reads p, q, x and i."""
    have = ["p", "q", "x"]
    for number in range(rng.integers(2, 7)):
        operator = rng.choice(["Add", "Mul", "Max", "Tanh", "If"])
        one, other = rng.choice(have, 2)
        name = f"v{number}"
        if operator == "Tanh":
            yield f"{name} = Tanh ({one})"
        elif operator == "If":
            yield f"s{number} = ReduceMax <keepdims = 0> ({one})"
            yield f"c{number} = Less (s{number}, half)"
            yield (
                f"{name} = If (c{number}) <then_branch = t{number} () => (float[N] a{number}) "
                f"{{ a{number} = Add ({other}, half) }}, else_branch = e{number} () => "
                f"(float[N] b{number}) {{ w{number} = Sin ({one}) "
                f"b{number} = Sub (w{number}, {other}) }}>"
            )
        else:
            yield f"{name} = {operator} ({one}, {other})"
        have.append(name)
    picks = rng.choice(have, 4)
    for target, pick in zip(("pn", "qn", "row", "also"), picks, strict=True):
        yield f"{target} = Identity ({pick})"


@pytest.mark.parametrize("seed", range(12))
def test_random_bodies(calls: list[bool], seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = "\n".join(bodies(rng))
    text = f"""f (int64 m, float[N] x, float[N] u) =>
        (float[N] y, float[N] z, float[K, N] rows, float[L, N] others) {{
        stays = Constant <value = bool {{1}}> ()
        half = Constant <value_float = 0.5> ()
        y, z, rows, others = Loop (m, stays, x, u) <body = b
            (int64 i, bool k, float[N] p, float[N] q) =>
            (bool goes, float[N] pn, float[N] qn, float[N] row, float[N] also) {{
            goes = Identity (k)
            {lines}
        }}>
    }}"""
    feeds = [
        {"m": np.array(m), "x": rng.uniform(-1, 1, n).astype("f"), "u": np.full(n, 0.25, "f")}
        for m, n in ((3, 4), (5, 4), (0, 4), (4, 9), (2, 1))
    ]
    agree(sessions(text), *feeds)
    assert any(calls)


COLLECTS = """f (int64 m, float[N] x) => (float[K, N] rows, float[L] flat, float[N] last) {
    stays = Constant <value = bool {1}> ()
    empty = SequenceEmpty ()
    one = SequenceConstruct (x)
    some, last, more = Loop (m, stays, empty, x, one) <body = step
        (int64 i, bool k, seq(float[N]) s, float[N] h, seq(float[N]) t) =>
        (bool k, seq(float[N]) u, float[N] next, seq(float[N]) v) {
        next = Sin (h)
        u = SequenceInsert (s, next)
        half = Exp (h)
        v = SequenceInsert (t, half)
    }>
    rows = ConcatFromSequence <axis = 0, new_axis = 1> (some)
    flat = ConcatFromSequence <axis = 0> (more)
}"""


def test_what_is_appended_to_sequences_is_collected_in_rows(calls: list[bool]) -> None:
    feeds = [{"m": np.array(m), "x": np.arange(n, dtype="f")} for m, n in ((4, 3), (9, 3), (5, 2))]
    agree(sessions(COLLECTS), *feeds)
    assert calls.count(True) >= len(feeds)


def test_a_sequence_without_a_tensor_is_as_kernels_leave_it() -> None:
    fast, slow = sessions(COLLECTS)
    for m in (3, 3, 3, 0):
        feed = {"m": np.array(m), "x": array(1, 2)}
        errors = []
        for session in (fast, slow):
            try:
                session.run(None, feed)
            except FornixError as error:
                errors.append(str(error))
        assert len(errors) in {0, 2}
        assert len(set(errors)) < 2


SHAPED = """f (bool c, float[N, 2] x) => (float[M, 2] y, float[L] z) {
    y, z = If (c) <
        then_branch = a () => (float[A, 2] p, float[B] r) {
            p = Concat <axis = 0> (x, x)
            one = Constant <value = int64[1] {1}> ()
            r = ReduceSum <keepdims = 0> (x, one)
        },
        else_branch = b () => (float[C, 2] q, float[D] s) {
            q = Neg (x) s = Constant <value_floats = [1.0, 2.0]> ()
        }>
}"""


def test_branches_may_give_other_shapes(calls: list[bool]) -> None:
    feeds = [
        {"c": np.array(c), "x": np.arange(2 * n, dtype="f").reshape(n, 2)}
        for n in (3, 1)
        for c in (True, False, True)
    ]
    agree(sessions(SHAPED), *feeds)
    assert calls.count(True) >= len(feeds)


TURNED = """f (float[3] s, float[3, N] x, float[N, 3] w) =>
    (float[3] last, float[3, N] sums, float[N] m) {
    last, sums, m = Scan <num_scan_inputs = 2, scan_input_axes = [-1, 0], scan_output_axes = [1, 0],
        body = add (float[3] a, float[3] b, float[3] c) => (float[3] d, float[3] e, float g) {
            t = Mul (b, c) d = Add (a, t) e = Tanh (d) g = ReduceMax <keepdims = 0> (t)
    }> (s, x, w)
}"""


def test_a_scan_may_run_along_any_axis(calls: list[bool], rng: np.random.Generator) -> None:
    def feed(n: int) -> Feeds:
        x, w = rng.standard_normal((3, n), np.float32), rng.standard_normal((n, 3), np.float32)
        return {"s": array(1, 2, 3), "x": x, "w": w}

    agree(sessions(TURNED), *map(feed, (1, 4, 9, 4)))
    assert calls.count(True) >= 4


def test_a_limit_that_is_known_need_not_be_reached(calls: list[bool]) -> None:
    text = COUNTS.replace(
        "y, every = Loop (m", "n = Constant <value = int64 {9}> ()\n    y, every = Loop (n"
    )
    for limit in (4, 20):
        ends = text.replace("value_int = 6", f"value_int = {limit}")
        agree(sessions(ends), {"m": np.array(0), "c": np.array(True), "x": array(1, 2)})
        assert calls[-1]


def test_a_model_with_numpy_kernels_is_not_written_down_as_one_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[Any] = []
    monkeypatch.setattr(Flow, "_step", lambda self, *step: written.append((self, *step)))
    text = COUNTS.replace("float[K, 2] every)", "float[K, 2] every, float[2] noise)", 1)
    text = (
        text.removesuffix("}")
        + """
        part = Constant <value_float = 0.5> ()
        trains = Constant <value = bool {1}> ()
        noise = Dropout <seed = 1> (y, part, trains)
    }"""
    )
    programs = sessions(text)[0]._programs
    assert programs is not None
    assert programs.general.flow is None
    assert not written


REVERSED = """f (float[2] s, float[2, N, 3] x, int64[5, N] w) =>
    (float[2] last, float[2, 3, N] y, int64[N, 5] z) {
    last, y, z = Scan <num_scan_inputs = 2, scan_input_axes = [1, -1],
        scan_input_directions = [1, 0], scan_output_axes = [-1, 0],
        scan_output_directions = [1, 1],
        body = step (float[2] a, float[2, 3] b, int64[5] c) =>
            (float[2] d, float[2, 3] e, int64[5] g) {
            axis = Constant <value_ints = [1]> ()
            m = ReduceSum <keepdims = 0> (b, axis) d0 = Add (a, m) d = Tanh (d0)
            u = Unsqueeze (d, axis) e = Add (b, u) g = Neg (c)
    }> (s, x, w)
}"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_scan_may_run_backward_along_any_axis(
    calls: list[bool], rng: np.random.Generator, threads: int
) -> None:
    def feed(n: int) -> Feeds:
        x = rng.standard_normal((2, n, 3), np.float32)
        return {"s": array(1, 2), "x": x, "w": rng.integers(0, 9, (5, n))}

    agree(sessions(REVERSED, threads), *map(feed, (1, 4, 9, 4)))
    assert calls.count(True) >= 4


STORED_ROWS = """f (float[3] s) => (float[3] last, float[3, 4] y) <float[3, 4] x =
    {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> {
    last, y = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1],
        body = step (float[3] a, float[3] b) => (float[3] d, float[3] e) {
            d = Add (a, b) e = Tanh (d)
    }> (s, x)
}"""


def test_stored_rows_may_be_columns(calls: list[bool]) -> None:
    agree(sessions(STORED_ROWS), {"s": array(1, 2, 3)}, {"s": array(-1, 0, 2)})
    assert calls.count(True) >= 3


SWAPPED = """f (float[N, M] x, int64 n) => (float[A, B] y) {
    stays = Constant <value = bool {1}> ()
    y = Loop (n, stays, x) <body = b (int64 i, bool k, float[P, Q] h) => (bool k, float[Q, P] o) {
        t = Transpose <perm = [1, 0]> (h) o = Sin (t)
    }>
}"""


def test_extents_that_change_places_are_not_equal(
    calls: list[bool], rng: np.random.Generator
) -> None:
    def feed(shape: tuple[int, int], n: int) -> Feeds:
        return {"x": rng.standard_normal(shape, np.float32), "n": np.array(n)}

    feeds = [feed((3, 4), 5), feed((3, 3), 2), feed((3, 4), 0), feed((5, 2), 1)]
    agree(sessions(SWAPPED), *feeds, rounds=4)
    assert all(calls[-3:])


NOTHING = """f (bool c, float[N, 4] x) => (float[K, 4] y) <float[0, 4] none = {}> {
    y = If (c) <
        then_branch = a () => (float[P, 4] p) { p = Tanh (x) },
        else_branch = b () => (float[Q, 4] q) { q = Identity (none) }>
}"""


def test_a_branch_may_give_stored_data_without_elements(calls: list[bool]) -> None:
    x = np.arange(8, dtype="f").reshape(2, 4)
    agree(sessions(NOTHING), *({"c": np.array(c), "x": x} for c in (True, False, True)))
    assert calls.count(True) >= 3


SIDES = """m0 = ReduceSum <keepdims = 0> (q) zf = Constant <value_float = 0.1> ()
    m = Greater (m0, zf)
    r = If (m) <then_branch = t () => (float[A, 4] u) { u = Mul (v, v) },
                else_branch = e () => (float[B, 4] w) { w = Concat <axis = 0> (q, v) }>"""
ROWS_OF_SIDES = {
    "scan": f"""f (float[N, 1, 4] x, float[M, 4] q) => (float[N, K, 4] y) {{
        y = Scan (x) <num_scan_inputs = 1, body = b (float[1, 4] v) => (float[R, 4] r) {{
            {SIDES} }}> }}""",
    "map": f"""f (float[N, 1, 4] x, float[M, 4] q) => (float[K, 4] y) {{
        rows = SplitToSequence <axis = 0, keepdims = 0> (x)
        all = SequenceMap <body = b (float[P, 4] v) => (float[R, 4] r) {{ {SIDES} }}> (rows)
        y = ConcatFromSequence <axis = 0> (all) }}""",
}


@pytest.mark.parametrize("name", ROWS_OF_SIDES)
def test_rows_are_as_large_as_the_branch_that_makes_them(name: str) -> None:
    pair = sessions(ROWS_OF_SIDES[name])
    x = np.arange(12, dtype=np.float32).reshape(3, 1, 4) / 8
    q = np.arange(-4, 8, dtype=np.float32).reshape(3, 4)
    agree(pair, *({"x": x[:n], "q": q[k:m]} for n, k, m in [(3, 0, 1), (2, 1, 3), (1, 0, 1)] * 2))
