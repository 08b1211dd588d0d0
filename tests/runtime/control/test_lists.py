"""Sequences in one native call: results, and refusals, are those of NumPy kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fornix.compile.entry import is_available
from fornix.compile.identity import processor
from fornix.errors import Fail, FornixError
from fornix.format.text import parse_model
from fornix.ir.load import from_message
from fornix.runtime import InferenceSession, SessionOptions
from fornix.runtime.control.calls import without_calls
from fornix.system import is_mappable
from tests.runtime.control.flows import HEAD, Feeds, Pair, agree, sessions, watched
from tests.runtime.stored.kept_models import recalled, use_cache, write

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")

STAYS = "stays = Constant <value = bool {1}> ()"
X = np.arange(1, 61, dtype=np.float32).reshape(10, 6) / 64


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each native call, whether it gave results."""
    return watched(monkeypatch)


def cuts(*lengths: int) -> Feeds:
    return {"x": X, "lengths": np.array(lengths)}


def refuse(pair: Pair, feeds: Feeds) -> None:
    """Assert that both sessions say the same is wrong with ``feeds``, however often they run."""
    with pytest.raises(FornixError) as wanted:
        pair[1].run(None, feeds)
    for _ in range(3):
        with pytest.raises(type(wanted.value)) as found:
            pair[0].run(None, feeds)
        assert str(found.value) == str(wanted.value)


CUT = f"""f (TYPE[N, M] x, int64[B] lengths) => (TYPE[C, D] y) {{
    {STAYS}
    zero = Constant <value = int64[1] {{0}}> ()
    none = SequenceEmpty <dtype = CODE> ()
    count = Size (lengths)
    parts = Loop (count, stays, none) <body = b (int64 i, bool k, seq(TYPE[P, Q]) s) =>
        (bool k, seq(TYPE[P, Q]) t) {{
        n0 = Gather (lengths, i)
        n = Unsqueeze (n0, zero)
        row = Slice (x, zero, n, zero)
        twice = Add (row, row)
        t = SequenceInsert (s, twice PLACE)
    }}>
    y = ConcatFromSequence <axis = AXIS> (parts)
}}"""


def cut(type_: str = "float", code: int = 1, place: str = "", axis: int = 0) -> str:
    names = {"TYPE": type_, "CODE": str(code), "PLACE": place, "AXIS": str(axis)}
    text = CUT
    for name, value in names.items():
        text = text.replace(name, value)
    return text


@pytest.mark.parametrize(("type_", "code"), [("float", 1), ("int64", 7), ("double", 11)])
def test_elements_are_as_long_as_data_say(calls: list[bool], type_: str, code: int) -> None:
    dtype = {"float": np.float32, "int64": np.int64, "double": np.float64}[type_]
    lengths = [(3, 1, 4), (1,), (2, 2, 2, 9), (7, 3)]
    feeds = [{**cuts(*some), "x": (X * 64).astype(dtype)} for some in lengths]
    agree(sessions(cut(type_, code)), *feeds)
    assert calls[-1]


@pytest.mark.parametrize("place", [", i", ", nil", ", last"])
def test_elements_are_put_where_a_position_says(calls: list[bool], place: str) -> None:
    text = cut(place=place).replace(
        "count = Size (lengths)",
        "count = Size (lengths) nil = Constant <value_int = 0> () "
        "last = Constant <value_int = -0> ()",
    )
    agree(sessions(text), cuts(3, 1, 4, 2), cuts(1), cuts(5, 6, 1))
    assert calls[-1]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_positions_may_be_beyond_a_byte(calls: list[bool], dtype: str) -> None:
    text = cut().replace("lengths) =>", f"lengths, {dtype} place) =>")
    text = text.replace(
        "y = ConcatFromSequence <axis = 0> (parts)",
        "part = SequenceAt (parts, place) more = SequenceInsert (parts, part, place) "
        "y = ConcatFromSequence <axis = 0> (more)",
    )
    feeds = cuts(*[1, 2, 3, 4, 5, 6, 7, 8, 9, 10] * 15)
    pair = sessions(text)
    agree(pair, *({**feeds, "place": np.array(n, dtype)} for n in (0, 130, -1, -140)))
    assert calls[-1]
    refuse(pair, {**feeds, "place": np.array(150, dtype)})


def test_a_position_beyond_the_end_is_refused_in_the_same_words() -> None:
    text = cut(place=", far").replace(
        "count = Size (lengths)", "count = Size (lengths) far = Constant <value_int = 2> ()"
    )
    refuse(sessions(text), cuts(3, 1, 4))


def test_what_does_not_fit_and_nothing_are_not_joined() -> None:
    pair = sessions(cut(axis=1))
    agree(pair, cuts(2, 2, 2))
    refuse(pair, cuts(2, 3))
    refuse(pair, cuts())


def test_elements_of_no_rows_are_joined() -> None:
    agree(sessions(cut()), cuts(2, 0, 3), cuts(0), cuts(1, 1))


def test_many_elements_take_the_memory_that_they_need(calls: list[bool]) -> None:
    agree(sessions(cut()), cuts(*[7, 3] * 900), rounds=5)
    assert calls[-1]


STACK = f"""f (float[N, M] x) => (float[C, M] y, int64 n) {{
    {STAYS}
    zero = Constant <value_int = 0> ()
    last = Constant <value_int = LAST> ()
    none = SequenceEmpty <dtype = 1> ()
    shape = Shape <start = 0, end = 1> (x)
    count = Squeeze (shape)
    stack = Loop (count, stays, none) <body = b (int64 i, bool k, seq(float[P]) s) =>
        (bool k, seq(float[P]) t) {{
        row = Gather (x, i)
        first = Gather (row, zero)
        nil = CastLike (zero, first)
        more = Greater (first, nil)
        t = If (more) <
            then_branch = push () => (seq(float[P]) p) {{
                p = SequenceInsert (s, row)
            }},
            else_branch = pop () => (seq(float[P]) q) {{
                length = SequenceLength (s)
                has = Greater (length, zero)
                q = If (has) <
                    then_branch = some () => (seq(float[P]) r) {{ r = SequenceErase (s, last) }},
                    else_branch = nothing () => (seq(float[P]) o) {{ o = Identity (s) }}>
            }}>
    }}>
    n = SequenceLength (stack)
    base = Gather (x, zero)
    full = SequenceInsert (stack, base)
    y = ConcatFromSequence <axis = 0, new_axis = 1> (full)
}}"""


@pytest.mark.parametrize("last", [-1, 0])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_list_is_a_stack_or_a_queue(calls: list[bool], last: int, threads: int) -> None:
    random = np.random.default_rng(0)
    feeds = [{"x": random.standard_normal((n, 3)).astype("f") + 0.3} for n in (9, 1, 30, 17)]
    agree(sessions(STACK.replace("LAST", str(last)), threads), *feeds)
    assert calls[-1]


SHARED = """f (float[N] a, float[M] b, int64 place) => (float[C] x, float[D] y, float[E] z) {
    s = SequenceConstruct (a, b)
    one = SequenceInsert (s, a)
    other = SequenceInsert (s, b)
    more = SequenceInsert (one, b, place)
    fewer = SequenceErase (more, place)
    x = ConcatFromSequence <axis = 0> (one)
    y = ConcatFromSequence <axis = 0> (other)
    z0 = ConcatFromSequence <axis = -1> (more)
    z1 = ConcatFromSequence <axis = 0> (fewer)
    w = SequenceAt (more, place)
    z = Concat <axis = 0> (z0, z1, w)
}"""


def test_a_sequence_stays_as_it_is_when_longer_ones_are_made_of_it(calls: list[bool]) -> None:
    a, b = np.arange(3, dtype="f"), np.arange(10, 14, dtype="f")
    feeds = [{"a": a, "b": b, "place": np.array(place)} for place in (0, 1, 2, -1, -3)]
    pair = sessions(SHARED)
    agree(pair, *feeds)
    assert calls[-1]
    refuse(pair, {"a": a, "b": b, "place": np.array(5)})


SPLIT = f"""f (float[N, M] x, int64 m, SPLIT lengths) => (float[C, D] y, float[E, F] z) {{
    {STAYS}
    one = Constant <value_int = 1> ()
    t = Mul (lengths, one)
    x2 = Add (x, x)
    parts = SplitToSequence <axis = AXIS> (x2, t)
    z = ConcatFromSequence <axis = AXIS> (parts)
    none = SequenceEmpty <dtype = 1> ()
    all = Loop (m, stays, none) <body = b (int64 i, bool k, seq(float[P, Q]) s) =>
        (bool k, seq(float[P, Q]) r) {{
        f = CastLike (i, x)
        own = Add (x, f)
        ones = SplitToSequence <axis = AXIS> (own, t)
        part = SequenceAt (ones, i)
        wave = Sin (part)
        s2 = SequenceInsert (s, wave)
        r = SequenceInsert (s2, part)
    }}>
    y = ConcatFromSequence <axis = AXIS> (all)
}}"""


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("kind", ["int64[K]", "int32[K]", "int64", "int32"])
def test_parts_are_as_long_as_data_say(calls: list[bool], axis: int, kind: str) -> None:
    text = SPLIT.replace("AXIS", str(axis)).replace("SPLIT", kind)
    pair = sessions(text.replace("Constant <value_int = 1> ()", "CastLike (m, lengths)"))
    dtype = kind.partition("[")[0]
    lengths = [2, 3, 1] if "[" in kind else 4
    feeds = {"x": X[:6], "lengths": np.array(lengths, dtype), "m": np.array(1)}
    agree(pair, feeds, rounds=5)
    assert calls[-1]
    if "[" in kind:
        refuse(pair, {**feeds, "lengths": np.array([2, 3, 2], dtype)})
        refuse(pair, {**feeds, "lengths": np.array([2, 3, 5_000_000], dtype)})
    else:
        refuse(pair, {**feeds, "lengths": np.array(0, dtype)})


SLICES = f"""f (float[N, M] x) => (float[C, D] y) {{
    {STAYS}
    rows = SplitToSequence <axis = AXIS, keepdims = 0> (x)
    n = SequenceLength (rows)
    none = SequenceEmpty <dtype = 1> ()
    all = Loop (n, stays, none) <body = b (int64 i, bool k, seq(float[P]) s) =>
        (bool k, seq(float[P]) t) {{
        row = SequenceAt (rows, i)
        e = Exp (row)
        place = Constant <value_int = 0> ()
        t = SequenceInsert (s, e, place)
    }}>
    y = ConcatFromSequence <axis = 1, new_axis = 1> (all)
}}"""


@pytest.mark.parametrize("axis", [0, 1])
def test_slices_come_in_reverse(calls: list[bool], axis: int) -> None:
    agree(sessions(SLICES.replace("AXIS", str(axis))), {"x": X}, {"x": X[:3, :2].copy()}, rounds=5)
    assert calls[-1]


MAPPED = """f (float[N, M] x, int64[B] lengths) => (float[C, M] y) {
    parts = SplitToSequence <axis = 0> (x, lengths)
    waves = SequenceMap <body = b (float[P, Q] part) => (float[P, Q] wave) {
        most = ReduceMax <keepdims = 1> (part)
        wave = Div (part, most)
    }> (parts)
    y = ConcatFromSequence <axis = 0> (waves)
}"""


def test_each_part_is_mapped(calls: list[bool]) -> None:
    agree(sessions(MAPPED), cuts(3, 5, 2), cuts(10), cuts(1, 1, 8))
    assert calls[-1]


def test_where_memory_is_counted_kernels_do_it(calls: list[bool]) -> None:
    _, slow = sessions(cut())
    limited = SessionOptions(memory_limit=1 << 26)
    agree((InferenceSession(slow._model, limited), slow), cuts(3, 1, 4))
    assert not any(calls)


@pytest.mark.skipif(not is_mappable() or not processor(), reason="nothing is kept here")
def test_a_program_that_another_process_made_does_it_too(
    calls: list[bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_cache(tmp_path / "cache", monkeypatch)
    path = write(tmp_path / "m.onnx", HEAD + STACK.replace("LAST", "-1"))
    feeds: dict[str, Any] = {"x": X - X.mean()}
    wanted = InferenceSession(path).run(None, feeds)
    session = recalled(path)
    for _ in range(4):
        found = session.run(None, feeds)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    assert calls[-1]


BACKWARDS = f"""f (float[N, M] x) => (float[C, M] y) {{
    {STAYS}
    none = SequenceEmpty <dtype = 1> ()
    shape = Shape <start = 0, end = 1> (x)
    count = Squeeze (shape)
    rows = Loop (count, stays, none) <body = b (int64 i, bool k, seq(float[P]) s) =>
        (bool k, seq(float[P]) t) {{
        row = Gather (x, i)
        wave = Sin (row)
        t = SequenceInsert (s, wave)
    }}>
    n = SequenceLength (rows)
    y = Loop (n, stays) <body = c (int64 j, bool l) => (bool l, float[Q] r) {{
        one = Constant <value_int = 1> ()
        next = Add (j, one)
        place = Neg (next)
        own = SequenceAt (rows, place)
        r = Mul (own, own)
    }}>
}}"""


def test_a_second_loop_reads_what_a_first_one_has_collected(calls: list[bool]) -> None:
    agree(sessions(BACKWARDS), {"x": X}, {"x": X[:1]}, rounds=5)
    assert calls[-1]


UNLIKE = f"""f (float[N, M] x, int64[B] lengths) => (float[C, 2] y) {{
    {STAYS}
    zero = Constant <value = int64[1] {{0}}> ()
    last = Constant <value_int = -1> ()
    parts = SplitToSequence <axis = 0> (x, lengths)
    waves = SequenceMap <body = b (float[P, Q] part) => (float[P, Q] wave) {{
        wave = Sin (part)
    }}> (parts)
    n = SequenceLength (waves)
    y = Loop (n, stays) <body = c (int64 i, bool k) => (bool k, float[2] r) {{
        one = SequenceAt (waves, i)
        other = SequenceAt (waves, last)
        both = Concat <axis = 0> (one, other)
        shape = Shape (both)
        r = CastLike (shape, x)
    }}>
}}"""


def test_elements_of_one_sequence_may_have_other_extents() -> None:
    agree(sessions(UNLIKE), cuts(3, 5, 2), cuts(1, 8, 1), cuts(5, 5), rounds=5)


UNBIND = """f (float[2,4,N] x, int64 one) => (float[2,4] y) {
    stays = Constant <value = bool {1}> ()
    first = Constant <value = float {0.0}> ()
    shape = Constant <value_ints = [2, 4]> ()
    zeros = Expand (first, shape)
    GIVEN
    s = SplitToSequence <axis = 2, keepdims = 0> (x, k)
    n = SequenceLength (s)
    y = Loop (n, stays, zeros) <body = step (int64 i, bool c, float[2,4] h) =>
        (bool c, float[2,4] next) {
        part = SequenceAt (s, i)
        d = Sin (h)
        next = Add (d, part)
    }>
}"""


@pytest.mark.parametrize("given", ["k = Constant <value = int64 {1}> ()", "k = Identity (one)"])
def test_slices_of_length_one_lose_their_axis(given: str) -> None:
    pair = sessions(UNBIND.replace("GIVEN", given))
    for n in (3, 1, 5, 3):
        x = np.linspace(-1, 1, 8 * n, dtype=np.float32).reshape(2, 4, n)
        wanted = np.zeros((2, 4), np.float32)
        for k in range(n):
            wanted = np.sin(wanted) + x[..., k]
        for session in pair:
            (found,) = session.run(None, {"x": x, "one": np.array(1)})
            np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-6)


REPEATS = """f (float[N,3] x, int64[N] r) => (float[M,3] y) {
    rows = Shape <end = 1> (x)
    same = Shape (r)
    ones = ConstantOfShape <value = int64[1] {1}> (same)
    counts = SplitToSequence <axis = 0> (r, ones)
    lines = SplitToSequence <axis = 0> (x, ones)
    stays = Constant <value = bool {1}> ()
    none = SequenceEmpty <dtype = 1> ()
    all = Loop (rows, stays, none) <body = step (int64[1] i, bool k, seq(float[A,B]) s) =>
        (bool goes, seq(float[A,B]) longer) {
        count = SequenceAt (counts, i)
        line = SequenceAt (lines, i)
        one = Constant <value_ints = [1]> ()
        wide = Unsqueeze (line, one)
        three = Constant <value_ints = [3]> ()
        target = Concat <axis = 0> (one, count, three)
        many = Expand (wide, target)
        flat = Constant <value_ints = [-1, 3]> ()
        part = Reshape (many, flat)
        longer = SequenceInsert (s, part)
        goes = Identity (k)
    }>
    joined = ConcatFromSequence <axis = 0> (all)
    y = Exp (joined)
}"""


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_are_repeated_as_data_say(threads: int) -> None:
    session, _ = sessions(REPEATS, threads)
    for counts in ([2, 1, 3], [1], [4, 1, 2, 2, 1], [2, 0, 3], [2, 1, 3]) * 3:
        x = np.linspace(-1, 1, 3 * len(counts), dtype=np.float32).reshape(-1, 3)
        (found,) = session.run(None, {"x": x, "r": np.array(counts)})
        np.testing.assert_allclose(found, np.exp(np.repeat(x, counts, 0)), rtol=2e-6)


PAIRS = """f (seq(float[N]) s, seq(float[M]) t, float w)
    => (seq(float[A]) sums, seq(float) totals) {
    sums, totals = SequenceMap <body = b (float[P] one, float[Q] other, float by) =>
        (float[P] sum, float total) {
        scaled = Mul (one, by) sum = Add (scaled, other) total = ReduceSum <keepdims = 0> (sum)
    }> (s, t, w)
}"""


def test_a_map_over_two_sequences_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    made = watched(monkeypatch)
    fast, kernels = sessions(PAIRS)
    for count in (2, 1, 0, 3, 2, 2):
        lists = [[np.arange(n + 1, dtype="f") for n in range(count)] for _ in range(2)]
        feeds = {"s": lists[0], "t": lists[1], "w": np.array(2, "f")}
        for found, wanted in zip(fast.run(None, feeds), kernels.run(None, feeds), strict=True):
            assert len(found) == len(wanted) == count
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(one, other)
    assert made[-1]


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1), (0, 1), (1, 0)])
def test_a_map_over_sequences_of_other_lengths_is_refused(first: int, second: int) -> None:
    fast, _ = sessions(PAIRS)
    line = np.ones(3, "f")
    for count in (2, 2, 2):
        fast.run(None, {"s": [line] * count, "t": [line] * count, "w": np.array(2, "f")})
    for _ in range(3):
        with pytest.raises(Fail, match="position must be in"):
            fast.run(None, {"s": [line] * first, "t": [line] * second, "w": np.array(2, "f")})


@pytest.mark.parametrize("name", ["t", "x0", "place", "Count"])
def test_a_map_whose_body_reads_values_around_it_is_computed(name: str) -> None:
    text = """f (seq(float[N]) s, float[M] NAME) => (seq(float[A]) y) {
        y = SequenceMap <body = b (float[P] one) => (float[Q] o) {
            o = Concat <axis = 0> (one, NAME)
        }> (s)
    }"""
    session, _ = sessions(text.replace("NAME", name))
    for _ in range(3):
        [[found]] = session.run(None, {"s": [X[0]], name: X[1]})
        np.testing.assert_array_equal(found, np.concatenate([X[0], X[1]]))


CAPTURING = {
    "cut": """f (seq(float[H, W]) s, int64[2] t) => (seq(float[A, B]) y) {
        y = SequenceMap <body = b (float[P, Q] one) => (float[R, S] o) {
            zero = Constant <value_ints = [0, 0]> () o = Slice (one, zero, t) }> (s) }""",
    "chosen": """f (seq(float[H, W]) s, int64[2] t) => (seq(float[A, B]) y) {
        w = Cast <to = 1> (t) none = Constant <value_ints = [0]> ()
        all = ReduceSum <keepdims = 0> (w, none)
        y = SequenceMap <body = b (float[P, Q] one) => (float[R, S] o) {
            n = ReduceMax <keepdims = 0> (one) m = Greater (n, all)
            o = If (m) <then_branch = p () => (float[C, D] u) { u = Mul (one, all) },
                        else_branch = q () => (float[E, F] v) { v = Add (one, all) }> }> (s) }""",
    "within": """f (seq(float[H, W]) s, int64[2] t) => (seq(float) y) {
        y = SequenceMap <body = b (float[P, Q] one) => (float o) {
            rows = SplitToSequence (one) w = Cast <to = 1> (t)
            parts = SequenceMap <body = c (float[G, Q] row) => (float[K, L] r) {
                low = ReduceMin (one) sum = ReduceSum (w) d = Sub (row, low) r = Mul (d, sum)
            }> (rows)
            joined = ConcatFromSequence <axis = 0> (parts) o = ReduceSum <keepdims = 0> (joined)
        }> (s) }""",
}  # fmt: skip


@pytest.mark.parametrize("name", CAPTURING)
def test_a_map_that_reads_tensors_around_it_is_one_call(name: str, calls: list[bool]) -> None:
    fast, kernels = sessions(CAPTURING[name])
    for count in (2, 3, 0, 1, 3, 3):
        given: list[Any] = [X[n : 2 * n + 4, : n + 3].copy() for n in range(count)]
        feeds = {"s": given, "t": np.array([3, 2])}
        ([*found], [*wanted]) = (session.run(None, feeds)[0] for session in (fast, kernels))
        assert len(found) == len(wanted) == count
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-6)
    assert calls[-1]


def test_a_map_that_reads_a_sequence_around_it_is_computed() -> None:
    fast, _ = sessions("""f (seq(float[N]) s, seq(float[M]) t) => (seq(float[A]) y) {
        y = SequenceMap <body = b (float[P] one) => (float[Q] o) {
            zero = Constant <value = int64 {0}> () first = SequenceAt (t, zero)
            o = Concat <axis = 0> (one, first) }> (s) }""")
    for _ in range(4):
        [found] = fast.run(None, {"s": [X[0], X[1]], "t": [X[2]]})
        np.testing.assert_array_equal(found, [[*X[0], *X[2]], [*X[1], *X[2]]])


@pytest.mark.parametrize(("element", "is_looped"), [("string[N]", False), ("string[1]", True)])
def test_a_map_is_a_loop_where_its_texts_are_single(element: str, is_looped: bool) -> None:
    text = f"""f (seq({element}) s, string t) => (seq({element}) y) {{
        y = SequenceMap <body = b ({element} one) => ({element} o) {{
            o = StringConcat (one, t) }}> (s) }}"""
    model = without_calls(from_message(parse_model(HEAD.replace("18", "20") + text)))
    assert any(node.op_type == "Loop" for node in model.graph.nodes) == is_looped
    fast, _ = sessions(text, opset=20)
    words = [np.array([word], object) for word in ("a", "é", "")]
    for _ in range(4):
        [found] = fast.run(None, {"s": words, "t": np.array("!", object)})
        assert [word.tolist() for word in found] == [["a!"], ["é!"], ["!"]]


HELD = """f (TYPE[N] x, int64 n, bool m) => (TYPE[M] y, int64 c) {
    stays = Constant <value = bool {1}> () none = Optional <type = TYPE[L]> ()
    zero = Constant <value = int64 {0}> ()
    begin = If (m) <then_branch = t () => (optional(TYPE[A]) u) { u = Optional (x) },
                    else_branch = e () => (optional(TYPE[B]) v) { v = Identity (none) }>
    end, c = Loop (n, stays, begin, zero) <
        body = b (int64 i, bool k, optional(TYPE[D]) a, int64 s)
            => (bool g, optional(TYPE[E]) o, int64 r) {
            g = Identity (k) has = OptionalHasElement (a)
            w = If (has) <
                then_branch = p () => (TYPE[F] q) {
                    old = OptionalGetElement (a) q = Concat <axis = 0> (old, x) },
                else_branch = z () => (TYPE[G] h) { h = Add (x, x) }>
            o = Optional (w) one = Cast <to = 7> (has) r = Add (s, one) }>
    y = OptionalGetElement (end) }"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("type_", "dtype"), [("float", "f"), ("int64", "q"), ("double", "d")])
def test_what_may_be_missing_is_carried(
    calls: list[bool], threads: int, type_: str, dtype: str
) -> None:
    pair = sessions(HELD.replace("TYPE", type_), threads)
    rows = np.arange(1, 6).astype(dtype)
    runs = [(3, 2, False), (3, 4, False), (1, 3, True), (5, 1, False), (3, 0, True), (0, 2, True)]
    feeds = [
        {"x": rows[:width], "n": np.array(count), "m": np.array(is_there)}
        for width, count, is_there in runs
    ]
    agree(pair, *feeds)
    assert calls[-1]
    refuse(pair, {"x": rows, "n": np.array(0), "m": np.array(False)})


@pytest.mark.parametrize("is_there", [True, False])
def test_a_result_may_be_missing(*, is_there: bool) -> None:
    fast, kernels = sessions("""f (float[N] x, bool m) => (optional(float[A]) y) {
        y = If (m) <then_branch = t () => (optional(float[B]) u) { w = Exp (x) u = Optional (w) },
                    else_branch = e () => (optional(float[C]) v) {
                        v = Optional <type = float[D]> () }>
    }""")
    for _ in range(4):
        found, wanted = (s.run(None, {"x": X[0], "m": np.array(is_there)}) for s in (fast, kernels))
        if is_there:
            np.testing.assert_allclose(found, wanted, rtol=2e-6)
        else:
            assert found == wanted == [None]


def test_a_sequence_that_may_be_missing_is_read() -> None:
    fast, _ = sessions("""f (seq(float[N]) s, int64 n) => (float[A] y) {
        stays = Constant <value = bool {1}> () begin = Optional (s)
        end = Loop (n, stays, begin) <
            body = b (int64 i, bool k, optional(seq(float[B])) a)
                => (bool g, optional(seq(float[C])) o) {
                g = Identity (k) t = OptionalGetElement (a) one = SequenceAt (t, i)
                two = Add (one, one) u = SequenceInsert (t, two) o = Optional (u) }>
        all = OptionalGetElement (end) y = ConcatFromSequence <axis = 0> (all) }""")
    for _ in range(4):
        [found] = fast.run(None, {"s": [X[0], X[1]], "n": np.array(3)})
        np.testing.assert_array_equal(found, [*X[0], *X[1], *2 * X[0], *2 * X[1], *4 * X[0]])


WIDENED = """f (seq(float[N]) s) => (seq(float[A]) y, float z) {
    lengths = SequenceMap <body = b (float[P] one) => (int64[1] n) { n = Shape (one) }> (s)
    all = ConcatFromSequence <axis = 0> (lengths) most = ReduceMax <keepdims = 1> (all)
    y = SequenceMap <body = c (float[Q] two) => (float[R] w) {
        m = Shape (two) d = Sub (most, m) zero = Constant <value_ints = [0]> ()
        p = Concat <axis = 0> (zero, d) w = Pad (two, p) }> (s)
    sums = SequenceMap <body = e (float[G] row) => (float[1] t) {
        zero = Constant <value_ints = [0]> () t = ReduceSum (row, zero) }> (y)
    total = ConcatFromSequence <axis = 0> (sums) z = ReduceSum <keepdims = 0> (total) }"""


@pytest.mark.parametrize("threads", [1, 2])
def test_what_maps_give_is_of_known_rank(calls: list[bool], threads: int) -> None:
    fast, kernels = sessions(WIDENED, threads)
    for lengths in [(3, 5, 4), (1,), (2, 6, 6, 1), (3, 5, 4)] * 2:
        feeds = {"s": [X[0, :n] for n in lengths]}
        (found, total), (wanted, sum_) = (s.run(None, feeds) for s in (fast, kernels))
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_allclose(total, sum_, rtol=2e-6)
    assert calls[-1]
    refuse((fast, kernels), {"s": []})
