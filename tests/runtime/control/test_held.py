"""Tensors of texts that iterations hand on whole: the same as of their NumPy kernels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from fornix.compile.entry import is_available
from fornix.errors import FornixError
from fornix.runtime import InferenceSession
from tests.runtime.control.flows import sessions, texts

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")

CUT = """f (string[N,M] x, int64[N] k) => (seq(string[P]) y) {
    n0 = Shape <end = 1> (x) n = Squeeze (n0) c = Constant <value = bool {1}> ()
    e = SequenceEmpty <dtype = 8> ()
    y = Loop (n, c, e) <body = b (int64 i, bool h, seq(string[A]) a)
        => (bool g, seq(string[B]) o) {
        g = Identity (h) w = Gather (x, i) m = Gather (k, i) z = Constant <value_ints = [0]> ()
        m1 = Unsqueeze (m, z) r = Slice (w, z, m1) o = SequenceInsert (a, r) }> }"""
LONGEST = """f (seq(string[N]) x) => (string[M] y, int64 z) {
    n = SequenceLength (x) c = Constant <value = bool {1}> ()
    z = Constant <value = int64 {0}> () q = Constant <value = int64 {-1}> ()
    b, l = Loop (n, c, z, q) <body = bb (int64 i, bool h, int64 a, int64 m)
        => (bool g, int64 a2, int64 m2) {
        g = Identity (h) w = SequenceAt (x, i) s = Size (w) d = Greater (s, m)
        a2 = Where (d, i, a) m2 = Where (d, s, m) }>
    y = SequenceAt (x, b) }"""


def plain(results: Any) -> Any:
    """What is compared: types, shapes and elements."""
    if isinstance(results, list):
        return [*map(plain, results)]
    return results.dtype, results.shape, results.tolist()


def outcome(session: InferenceSession, feeds: Mapping[str, Any]) -> Any:
    """Results, or what an error says behind the name of its node."""
    try:
        return plain(session.run(None, feeds))
    except FornixError as error:
        return str(error).partition(": ")[2]


def check(text: str, *runs: Mapping[str, Any], may_refuse: bool = True, opset: int = 21) -> None:
    """Runs on one thread and on two, in turn and again, give what the reference does.

    Unless it ``may_refuse`` them: what nobody asks for it alone computes.
    """
    for threads in (1, 2):
        compiled, reference = sessions(text, threads, opset=opset)
        for feeds in [run for run in runs for _ in range(5)] + [*runs]:
            wanted = outcome(reference, feeds)
            if may_refuse or not isinstance(wanted, str):
                assert outcome(compiled, feeds) == wanted


def test_rows_are_cut_as_long_as_counts_say(made: list[Any]) -> None:
    x = texts("a", "", "é", "d", "e", "f").reshape(2, 3)
    check(
        CUT,
        {"x": x, "k": np.array([2, 3])},
        {"x": x, "k": np.array([0, -1])},
        {"x": x, "k": np.array([9, -9])},
        {"x": np.repeat(x, 2, 0), "k": np.array([1, 2, 3, 0])},
        {"x": x[:0], "k": np.array([], np.int64)},
    )
    assert any(made)


def test_results_are_nobody_elses() -> None:
    x, k = texts("a", "b", "c", "d").reshape(2, 2), np.array([2, 1])
    session, _ = sessions(CUT, opset=21)
    for _ in range(6):
        [first, _other] = session.run(None, {"x": x, "k": k})[0]
        first[:] = "z"
        assert x.tolist() == [["a", "b"], ["c", "d"]]


def test_what_fails_is_not_written_in_each_run(made: list[Any]) -> None:
    text = """f (float[N,M] x, int64[K] k, string t) => (seq(float[U,V]) y, string z) {
        n0 = Shape (k) n = Squeeze (n0) c = Constant <value = bool {1}> ()
        e = SequenceEmpty <dtype = 1> ()
        y, z = Loop (n, c, e, t) <body = b (int64 i, bool h, seq(float[A,B]) a, string u)
            => (bool g, seq(float[C,D]) o, string v) {
            g = Identity (h) m = Gather (k, i) q = Constant <value_ints = [0]> ()
            m1 = Unsqueeze (m, q) f = Neg (m1) p = Constant <value_ints = [-1]> ()
            r = Slice (x, f, m1, p) o = SequenceInsert (a, r) v = StringConcat (u, t) }> }"""
    feeds = {
        "x": np.arange(12, dtype=np.float32).reshape(3, 4),
        "k": np.array([0, -1, 2]),
        "t": np.array("a", object),
    }
    compiled, reference = sessions(text, opset=20)
    wanted = outcome(reference, feeds)
    counts = []
    for _ in range(12):
        assert outcome(compiled, feeds) == wanted
        counts.append(len(made))
    assert 0 < counts[-1] == counts[7]


def test_the_longest_of_a_sequence_is_found(made: list[Any]) -> None:
    words = [texts("a"), texts("b", "c"), texts(), texts("d", "e")]
    check(LONGEST, {"x": words}, {"x": words[:1]}, {"x": words[2:]}, {"x": [*words, words[1]]})
    assert any(made)


def test_an_element_of_another_rank_is_an_error_as_ever() -> None:
    good, bad = [texts("a", "b"), texts("c")], [texts("a", "b"), texts("c").reshape(1, 1)]
    check(LONGEST.replace("seq(string[N])", "seq(string)"), {"x": good}, {"x": bad})


def test_attributes_say_where_old_slices_cut() -> None:
    text = """f (string[N] x, int64 n) => (string[M] y, string[T] z) {
        c = Constant <value = bool {1}> ()
        y, z = Loop (n, c, x) <body = b (int64 i, bool h, string[A] a)
            => (bool g, string[B] o, string r) {
            g = Identity (h) s = Slice <axes = [0], starts = [1], ends = [9]> (a)
            o = Concat <axis = 0> (s, a) r = Gather (a, i) }> }"""
    check(text, {"x": texts("a", "b", "c"), "n": np.array(3)}, opset=9)


STEPS: Mapping[str, Sequence[str]] = {
    "words": (
        "@ = Slice (words, low, low)",
        "@ = Slice (words, first, low, first)",
        "@ = Concat <axis = 0> (words, words)",
        "@ = Concat <axis = -1> (words, mark)",
        "@ = SequenceAt (list, number)",
        "@ = Gather (x, number)",
        "@s = Slice (x, first, low, second) @ = Gather (@s, number)",
        "@ = Identity (words)",
    ),
    "list": (
        "@ = SequenceInsert (list, words)",
        "@ = SequenceInsert (list, words, number)",
        "@ = SequenceErase (list)",
        "@ = SequenceErase (list, number)",
        """@b = Less (number, number) @ = If (@b) <
            then_branch = t@ () => (seq(string[U@]) u@) { u@ = SequenceInsert (list, words) },
            else_branch = e@ () => (seq(string[V@]) v@) { v@ = Identity (list) }>""",
    ),
    "number": (
        "@ = Size (words)",
        "@s = Shape (words) @ = Squeeze (@s)",
        "@s = Shape <start = 1> (x) @ = Squeeze (@s)",
        "@ = SequenceLength (list)",
        "@ = Gather (k, number)",
        "@ = Sub (number, number)",
    ),
    "low": ("@ = Unsqueeze (number, first)",),
}


def drawn(rng: np.random.Generator) -> str:
    """A loop whose body is drawn."""
    known = {
        "words": ["row"], "list": ["a"], "number": ["nought", "i", "one"], "low": ["first"]
    }  # fmt: skip
    lines = []
    for number in range(int(rng.integers(3, 9))):
        kind = str(rng.choice([*STEPS]))
        line = str(rng.choice(STEPS[kind]))
        line = re.sub(r"\b(words|list|number|low)\b", lambda m: rng.choice(known[m[1]]), line)
        lines.append(line.replace("@", f"v{number}"))
        known[kind].append(f"v{number}")
    return f"""f (string[N,M] x, seq(string[Q]) q, int64[N] k, int64 n)
        => (seq(string[P]) y, int64[T] z) {{
        c = Constant <value = bool {{1}}> ()
        y, z = Loop (n, c, q) <body = b (int64 i, bool h, seq(string[A]) a)
            => (bool g, seq(string[B]) list_of, int64 number_of) {{
            g = Identity (h) nought = Constant <value = int64 {{0}}> ()
            one = Constant <value = int64 {{1}}> () mark = Constant <value_strings = ["#"]> ()
            first = Constant <value_ints = [0]> () second = Constant <value_ints = [1]> ()
            row = Gather (x, i)
            {" ".join(lines)}
            list_of = Identity ({known["list"][-1]})
            number_of = Identity ({known["number"][-1]}) }}> }}"""


@pytest.mark.parametrize(
    "seed", [*range(2), *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 30))]
)
def test_drawn_loops_give_what_kernels_give(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def words(*shape: int) -> np.ndarray[Any, Any]:
        return np.array(rng.choice(texts("", "a", "é", "long"), shape), object)

    runs = [
        {"x": words(rows, 3), "q": [words(int(rng.integers(3))) for _ in range(count)],
         "k": rng.integers(-3, 4, rows), "n": np.array(turns)}
        for rows, count, turns in [(4, 2, 3), (4, 2, 4), (2, 1, 2), (4, 2, 0), (3, 3, 3)]
    ]  # fmt: skip
    check(drawn(rng), *runs, may_refuse=False)
