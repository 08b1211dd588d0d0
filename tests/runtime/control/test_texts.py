"""Texts in the bodies of If, Loop and Scan: chosen, moved and compared as numbers of places."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.compile.entry import is_available
from fornix.errors import FornixError
from fornix.runtime import InferenceSession, SessionOptions
from tests.runtime.control.flows import watched

HEAD = '<ir_version: 8, opset_import: ["" : 19]>\n'
WORDS = ["", "on", "off", "ü", "on", "a much longer text than others", "b", "ß\U0001f600"]
FIXED = (
    '<string[3] names = {"on", "off", "on"}, string one = {"on"}, string last_name = {"b"}, '
    "int64[1] last = {-1}, int64[1] axis = {0}, int64[1] two = {2}>"
)


def sessions(text: str) -> list[InferenceSession]:
    """Compiled on one thread and on two, and the reference."""
    model = parser.parse_model(HEAD + text)
    made = [InferenceSession(model, SessionOptions(intra_op_num_threads=n)) for n in (1, 2)]
    return [*made, InferenceSession(model, providers=["ReferenceExecutionProvider"])]


def texts(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return np.array(rng.choice(np.array(WORDS, object), shape), object)


def outcome(session: InferenceSession, feeds: dict[str, Any]) -> Any:
    """Results, or what an error says behind the name of its node."""
    try:
        return session.run(None, feeds)
    except FornixError as error:
        return str(error).partition(": ")[2]


def plain(results: Any) -> Any:
    """What is compared: the message of an error, or types, shapes and elements."""
    if isinstance(results, str):
        return results
    return [(array.dtype, array.shape, array.tolist()) for array in results]


def check(text: str, feeds: list[dict[str, Any]]) -> list[InferenceSession]:
    """Require the same of all sessions, again and again."""
    made = sessions(text)
    for _ in range(2):
        for feed in feeds:
            *found, expected = (outcome(session, feed) for session in made)
            for results in found:
                assert plain(results) == plain(expected)
    return made


def has_native_body(session: InferenceSession) -> bool:
    """Whether bodies have neither texts nor a kernel of texts: only look-ups behind them are."""
    places = [p.op_type for p in session.placement() if not p.kernels]
    return not {"Equal", "Where"} & set(places) and "Gather" in places


MOVES = [
    "{out} = Identity ({a})",
    "{out} = Concat <axis = 0> ({a}, {b})",
    "{out} = Concat <axis = 0> ({b}, names, {a})",
    "is_{out} = Equal ({a}, one) {out} = Where (is_{out}, {a}, one)",
    "is_{out} = Equal (one, {a}) {out} = Where (is_{out}, last_name, {a})",
    "{out} = Gather <axis = 0> ({a}, axis)",
    "{out} = Slice ({a}, last, big)",
    "{out} = Tile ({a}, two)",
    "{out} = Compress <axis = 0> ({a}, mask)",
    "w_{out} = Unsqueeze ({a}, axis) t_{out} = Transpose (w_{out}) {out} = Reshape (t_{out}, last)",
]


def random_body(rng: np.random.Generator, names: list[str]) -> str:
    """Nodes one behind the other, from texts called ``names`` to one called ``last_one``."""
    lines, known = [], [str(rng.choice(names))]
    for number in range(int(rng.integers(1, 5))):
        line = MOVES[int(rng.integers(len(MOVES)))]
        other = str(rng.choice([*names, *known]))
        lines.append(line.format(a=known[-1], b=other, out=f"v{number}"))
        known.append(f"v{number}")
    return "\n".join([*lines, f"last_one = Identity ({known[-1]})"])


BESIDE = """big = Constant <value_ints = [9223372036854775807]> ()
mask = Constant <value = bool[1] {1}> ()"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_ifs_of_texts_give_what_kernels_give(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known = ["names", "x", "z"] if seed % 3 else ["names"]
    then, other = (
        random_body(rng, known).replace("v", f"v{k}_").replace("last_one", f"r{k}") for k in (0, 1)
    )
    text = f"""f (string[N] x, string[M] z, bool c) => (string[K] y, string[K] s) {FIXED} {{
        {BESIDE}
        y = If (c) <then_branch = t () => (string[A] r0) {{ {then} }},
                    else_branch = e () => (string[B] r1) {{ {other} }}>
        s = Identity (x)
    }}"""
    check(text, [
        {"x": texts(rng, n), "z": texts(rng, m), "c": np.array(c)}
        for n, m, c in [(3, 2, True), (3, 2, False), (1, 4, True), (5, 1, False), (0, 2, True),
                        (3, 2, True)]
    ])  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_loops_over_texts_give_what_kernels_give(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    body = random_body(rng, ["h", "x", "names"])
    text = f"""f (string[N] x, string[M] z, int64 n) => (string[K] y, string[T] all, int64[T] same)
        {FIXED} {{
        {BESIDE}
        y, all, same = Loop (n, , z) <body = step (int64 i, bool k, string[P] h)
            => (bool k2, string[Q] last_one, string one_of, int64 count) {{
            k2 = Identity (k)
            {body}
            three = Constant <value_int = 3> ()
            at = Mod (i, three)
            one_of = Gather (names, at)
            equal = Equal (one_of, h)
            numbers = Cast <to = 7> (equal)
            count = ReduceSum <keepdims = 0> (numbers)
        }}>
    }}"""
    check(text, [
        {"x": texts(rng, n), "z": texts(rng, m), "n": np.array(k)}
        for n, m, k in [(3, 2, 2), (3, 2, 0), (1, 1, 3), (2, 3, 1), (0, 2, 2), (3, 2, 2)]
    ])  # fmt: skip


def test_scans_of_texts_give_what_kernels_give() -> None:
    text = """f (string[T, B] x, string[B] h0) => (string[B] h, string[T, B] y, bool[T, B] e) {
        h, y, e = Scan <num_scan_inputs = 1, body = step (string[B] before, string[B] row)
            => (string[B] after, string[B] given, bool[B] same) {
            same = Equal (row, before)
            given = Where (same, row, before)
            after = Identity (row)
        }> (h0, x)
    }"""
    rng = np.random.default_rng(5)
    check(text, [
        {"x": texts(rng, t, b), "h0": texts(rng, b)} for t, b in [(5, 3), (1, 1), (20, 2), (5, 3)]
    ])  # fmt: skip


LABELS = """f (float[N, 3] x) => (string[N] y) <string[3] names = {"a", "b", "a"}> {
    rows = Shape <start = 0, end = 1> (x)
    n = Squeeze (rows)
    stays = Constant <value = bool {1}> ()
    y = Loop (n, stays) <body = step (int64 i, bool k) => (bool k2, string label) {
        k2 = Identity (k)
        row = Gather (x, i)
        best = ArgMax <axis = 0, keepdims = 0> (row)
        label = Gather (names, best)
    }>
}"""


def test_labels_of_rows_are_numbers_in_the_body() -> None:
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.standard_normal((n, 3)).astype(np.float32)} for n in (4, 1, 9, 0, 4)]
    made = check(LABELS, feeds)
    assert has_native_body(made[0])


def test_nested_bodies_choose_and_compare_texts() -> None:
    text = """f (string[N] x, string key, int64 n) => (string[N] y, int64 hits) {
        none = Constant <value_int = 0> ()
        y, hits = Loop (n, , x, none) <body = step (int64 i, bool k, string[N] h, int64 c)
            => (bool k2, string[N] next, int64 more) {
            k2 = Identity (k)
            one = Gather (h, i)
            is_key = Equal (one, key)
            next, more = If (is_key) <
                then_branch = t () => (string[N] a, int64 b) {
                    text = Constant <value_strings = ["found"]> ()
                    shape = Shape (h)
                    a = Expand (text, shape)
                    unit = Constant <value_int = 1> ()
                    b = Add (c, unit)
                },
                else_branch = e () => (string[N] a2, int64 b2) {
                    a2 = Identity (h)
                    b2 = Identity (c)
                }>
        }>
    }"""
    rng = np.random.default_rng(7)
    check(text, [
        {"x": texts(rng, n), "key": np.array("on", object), "n": np.array(k)}
        for n, k in [(4, 4), (4, 2), (1, 1), (6, 0), (8, 8), (2, 3), (4, 4)]
    ])  # fmt: skip


def test_what_computes_with_texts_stays_with_its_kernel() -> None:
    text = """f (string[N] x, int64 n) => (string[N] y) {
        y = Loop (n, , x) <body = step (int64 i, bool k, string[N] h) => (bool k2, string[N] o) {
            k2 = Identity (k)
            o = StringNormalizer <case_change_action = "UPPER"> (h)
        }>
    }"""
    rng = np.random.default_rng(8)
    check(text, [{"x": texts(rng, n), "n": np.array(k)} for n, k in [(3, 2), (1, 0), (3, 2)]])


def test_other_objects_than_texts_are_what_they_were() -> None:
    text = """f (string[N] x, bool c) => (string[N] y) {
        y = If (c) <then_branch = t () => (string[N] a) { a = Identity (x) },
                    else_branch = e () => (string[N] b) { b = Identity (x) }>
    }"""
    objects = (["a", "b"], ["a", b"b"], ["a", 1], ["a", "b"])
    check(text, [
        {"x": np.array(x, object), "c": np.array(k)} for x in objects for k in (True, False)
    ])  # fmt: skip


@pytest.mark.parametrize("shape", ["", "[1]", "[1, 1]"])
@pytest.mark.parametrize("swapped", [False, True])
def test_texts_equal_a_stored_one(shape: str, swapped: bool) -> None:
    both = "(k, x)" if swapped else "(x, k)"
    text = f"""f (string[N] x) => (bool[N] y, bool[A, B] z) <string{shape} k = {{"on"}}> {{
        y = Equal {both}
        a = Constant <value_ints = [0]> ()
        two = Unsqueeze (x, a)
        z = Equal (two, k)
    }}"""
    rng = np.random.default_rng(9)
    for session in sessions(text):
        for n in (5, 1, 0, 30, 5):
            x = texts(rng, n)
            y, z = session.run(None, {"x": x})
            expected = x == "on"
            np.testing.assert_array_equal(y.reshape(-1), expected)
            assert y.ndim == max(1, shape.count("1"))
            np.testing.assert_array_equal(z, expected[None])


CHOSEN = """f (string[N] word, float[M, 4] x) => (float[M, 4] y, int64 place) {
    on = Constant <value_strings = ["on"]> ()
    zero = Constant <value_int = 0> ()
    first = Gather (word, zero)
    is_on = Equal (first, on)
    flag = Squeeze (is_on)
    y, place = If (flag) <
        then_branch = a () => (float[M, 4] p, int64 k) {
            p = Sin (x)
            k = Constant <value_int = 0> ()
        },
        else_branch = b () => (float[M, 4] q, int64 l) {
            off = Constant <value_string = "off"> ()
            last = Constant <value_int = -1> ()
            end = Gather (word, last)
            is_off = Equal (end, off)
            q, l = If (is_off) <
                then_branch = c () => (float[M, 4] r, int64 m) {
                    r = Cos (x)
                    m = Constant <value_int = 1> ()
                },
                else_branch = d () => (float[M, 4] s, int64 n) {
                    s = Neg (x)
                    n = Constant <value_int = 2> ()
                }>
        }>
}"""


@pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")
def test_branches_that_texts_choose_are_one_native_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = watched(monkeypatch)
    x = np.linspace(-2, 2, 8, dtype=np.float32).reshape(2, 4)
    computed = {0: np.sin, 1: np.cos, 2: np.negative}
    own = sessions(CHOSEN)[0]
    cases = [(["on"], 0), (["off"], 1), (["neither"], 2), (["x", "on", "off"], 1), (["", "ü"], 2)]
    for _ in range(4):
        for words, place in cases:
            found, number = own.run(None, {"word": np.array(words, object), "x": x})
            np.testing.assert_allclose(found, computed[place](x), 1e-6)
            assert number == place
    assert all(calls[-len(cases) :])


def test_what_is_no_text_is_taken_as_in_the_first_run() -> None:
    own, _, reference = sessions(CHOSEN)
    x = np.zeros((2, 4), np.float32)
    for _ in range(5):
        own.run(None, {"word": np.array(["on"], object), "x": x})
        for thing in (1, None, b"on", 2.5):
            feeds = {"word": np.array([thing], object), "x": x}
            assert plain(outcome(own, feeds)) == plain(outcome(reference, feeds))


def test_texts_that_come_out_are_those_that_went_in_known_or_not() -> None:
    text = """f (string[N] x, string word) => (string[N] y) {
        shape = Shape (x)
        n = Squeeze (shape)
        y = Loop (n) <body = step (int64 i, bool k) => (bool k, string o) {
            t = Gather (x, i)
            same = Equal (t, word)
            o = If (same) <
                then_branch = a () => (string p) { p = Constant <value_string = "found"> () },
                else_branch = b () => (string q) { q = Identity (t) }>
        }>
    }""".replace("Loop (n)", 'Loop (n, "")')
    rng = np.random.default_rng(5)
    check(text, [
        {"x": texts(rng, n), "word": np.array(word, object)}
        for n, word in ((5, "on"), (3, "nowhere"), (1, ""), (40, "b"))
    ])  # fmt: skip


def test_texts_that_a_body_makes_of_numbers_are_none_that_went_in() -> None:
    check(
        """f (string[N] x, float s, bool b) => (string[M] y, string[K, M] z) {
            first = Constant <value_ints = [0]> ()
            three = Constant <value_int = 3> ()
            yes = Constant <value = bool {1}> ()
            y = If (b) <
                then_branch = t () => (string[A] p) { p = Identity (x) },
                else_branch = e () => (string[B] q) {
                    word = Cast <to = 8> (s) q = Unsqueeze (word, first) }>
            z = Loop (three, yes) <body = l (int64 i, bool k) => (bool goes, string[C] row) {
                goes = Identity (k) number = Cast <to = 8> (i) row = Unsqueeze (number, first) }>
        }""",
        [
            {"x": np.array(["a"], object), "s": np.array(1.5, "f"), "b": np.array(k % 2 == 0)}
            for k in range(4)
        ],
    )


LOOPED = """
    n = Constant <value_int = 2> () go = Constant <value = bool {{1}}> () s = SequenceConstruct (x)
    y = Loop (n, go{start}) <body = l (int64 i, bool k{head}) => (bool k2, {result}) {{
        k2 = Identity (k) o = {node} }}>"""
ROW = {"start": "", "head": "", "result": "string[N] o", "node": "Identity (x)"}
LIST = {
    "start": ", s",
    "head": ", seq(string[N]) h",
    "result": "seq(string[N]) o",
    "node": "SequenceInsert (h, x)",
}


@pytest.mark.parametrize(
    ("made", "body"),
    [
        ("seq(string[])", "y = SplitToSequence <keepdims = 0> (x)"),
        ("seq(string[])", "y = SplitToSequence (x)"),
        ("seq(string[])", "y = SequenceConstruct (x, x)"),
        ("seq(string[N])", LOOPED.format(**LIST)),
        ("string[K, N]", LOOPED.format(**ROW)),
        ("string[K]", "s = SequenceConstruct (x, x) y = ConcatFromSequence <axis = 0> (s)"),
    ],
    ids=["single", "rows", "both", "appended", "scanned", "joined"],
)
def test_texts_that_are_given_are_held_on_to(made: str, body: str) -> None:
    word = str(np.str_("a text of this test alone"))
    x = np.array([word, "b"], object)
    for session in sessions(f"g (string[N] x) => ({made} y) {{ {body} }}"):
        for _ in range(8):
            before = sys.getrefcount(word)
            [found] = session.run(None, {"x": x})
            parts = [found] if isinstance(found, np.ndarray) else found
            held = sum(text is word for part in parts for text in part.reshape(-1))
            assert held in {1, 2, 3}
            assert sys.getrefcount(word) == before + held
            del found, parts
            assert sys.getrefcount(word) == before


@pytest.mark.parametrize(
    ("body", "kind", "wanted"),
    [
        ("Identity (word)", "string", [["on"], ["on"]]),
        ("Equal (a, word)", "bool", [[True, False], [False]]),
    ],
)
def test_elements_of_sequences_are_texts_beside_captured_ones(
    body: str, kind: str, wanted: list[list[Any]]
) -> None:
    text = f"""f (seq(string[N]) x, string[M] word, bool c) => (seq({kind}[K]) y) {{
        e = SequenceEmpty <dtype = {8 if kind == "string" else 9}> ()
        y = If (c) <then_branch = t () => (seq({kind}[K]) u) {{
            u = SequenceMap (x) <body = b (string[N] a) => ({kind}[K] r) {{ r = {body} }}> }},
            else_branch = n () => (seq({kind}[K]) v) {{ v = Identity (e) }}> }}"""
    x, word = [np.array(row, object) for row in (["on", "off"], ["b"])], np.array(["on"], object)
    for session in sessions(text):
        for _ in range(3):
            [found] = session.run(None, {"x": x, "word": word, "c": np.array(True)})
            assert [row.tolist() for row in found] == wanted
            assert session.run(None, {"x": x, "word": word, "c": np.array(False)}) == [[]]
