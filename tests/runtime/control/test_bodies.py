from __future__ import annotations

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.errors import FornixError
from fornix.runtime import InferenceSession
from fornix.runtime.control.bodies import CompiledBody
from fornix.runtime.program import Program
from fornix.runtime.providers import KernelStep
from fornix.runtime.shortcuts.generic import ShortWay

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'

LOOP = """f (int64 m, float[2, 4] x, float[4, 4] w) => (float[2, 4] y, float[K, 2, 4] every) {
    stays = Constant <value = bool {1}> ()
    y, every = Loop (m, stays, x) <body = step (int64 i, bool k, float[2, 4] h) =>
        (bool goes, float[2, 4] next, float[2, 4] half) {
        p = MatMul (h, w)
        q = Add (p, x)
        next = Tanh (q)
        two = Constant <value_float = 2.0> ()
        half = Div (h, two)
        limit = Constant <value_int = 7> ()
        goes = Less (i, limit)
    }>
}"""

SCAN = """f (float[2] s, float[N, 2] x) => (float[2] last, float[N, 2] sums) {
    last, sums = Scan <num_scan_inputs = 1, body = add (float[2] a, float[2] b) =>
        (float[2] c, float[2] d) { c = Add (a, b) d = Exp (c) }> (s, x)
}"""

IF = """f (bool c, float[N] x) => (float[N] y) {
    y = If (c) <then_branch = a () => (float[N] p) { p = Exp (x) },
                else_branch = b () => (float[N] q) { q = Neg (x) }>
}"""

GROWS = """f (int64 m, float[1] x) => (float[N] y) {
    stays = Constant <value = bool {1}> ()
    y = Loop (m, stays, x) <body = step (int64 i, bool k, float[N] h) => (bool goes, float[M] next)
    { goes = Identity (k) e = Exp (x) next = Concat <axis = 0> (h, e) }>
}"""

GATHERS = """f (int64 m, float[3] x) => (float y) {
    stays = Constant <value = bool {1}> ()
    zero = Constant <value_float = 0.0> ()
    y = Loop (m, stays, zero) <body = step (int64 i, bool k, float h) => (bool goes, float next) {
        goes = Identity (k)
        [pick] e = Gather (x, i)
        next = Add (h, e)
    }>
}"""

NESTED = """f (int64 m, float[2] x) => (float[2] y) {
    stays = Constant <value = bool {1}> ()
    y = Loop (m, stays, x) <body = outer (int64 i, bool k, float[2] h) => (bool go, float[2] n) {
        go = Identity (k)
        t = Exp (x)
        n = Loop (i, k, h) <body = inner (int64 j, bool l, float[2] g) => (bool l, float[2] o) {
            s = Add (g, t) o = Tanh (s)
        }>
    }>
}"""


def sessions(text: str) -> tuple[InferenceSession, InferenceSession]:
    model = parser.parse_model(HEAD + text)
    compiled = InferenceSession(model, providers=["CPUExecutionProvider"])
    return compiled, InferenceSession(model, providers=["ReferenceExecutionProvider"])


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The bodies that are compiled, by name."""
    made: list[str] = []
    original = CompiledBody._compiled

    def observed(self: CompiledBody, *types: Any) -> Any:
        found = original(self, *types)
        if found is not None:
            made.append(self.graph.name)
        return found

    monkeypatch.setattr(CompiledBody, "_compiled", observed)
    return made


def agree(text: str, *feeds: Mapping[str, Any]) -> None:
    fast, slow = sessions(text)
    for feed in (*feeds, *feeds):
        for found, wanted in zip(fast.run(None, feed), slow.run(None, feed), strict=True):
            assert found.dtype == wanted.dtype
            np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-6)


def test_a_loop_runs_its_body_compiled(programs: list[str], rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((2, 4), np.float32), rng.standard_normal((4, 4), np.float32)
    # Seven is where the body stops it.
    agree(LOOP, *({"m": np.array(m), "x": x, "w": w} for m in (1, 5, 20)))
    assert set(programs) == {"step"}


def test_a_scan_runs_its_body_compiled(programs: list[str], rng: np.random.Generator) -> None:
    start = rng.standard_normal(2).astype(np.float32)
    feeds = [{"s": start, "x": rng.standard_normal((n, 2), np.float32)} for n in (1, 3, 6)]
    agree(SCAN, *feeds)
    assert programs == ["add"]


def test_both_branches_are_compiled_for_the_extents_that_differ(programs: list[str]) -> None:
    feeds = [
        {"c": np.array(c), "x": np.arange(n, dtype=np.float32)}
        for c in (True, False)
        for n in (2, 3, 5, 1)
    ]
    agree(IF, *feeds)
    assert set(programs) == {"a", "b"}
    assert len(programs) <= 4  # two that its kernel calls, two in a call of the whole program


def test_what_grows_is_compiled_once(programs: list[str]) -> None:
    fast, slow = sessions(GROWS)
    for count in (40, 7, 1, 0, 60):
        feed = {"m": np.array(count), "x": np.ones(1, np.float32)}
        np.testing.assert_allclose(fast.run(None, feed)[0], slow.run(None, feed)[0], rtol=1e-6)
    assert len(programs) <= 2  # one that its kernel calls, one in a call of the whole loop


CACHE = """f (int64 m, float[1, A] k, float[1, B] v) =>
    (float[1, C] x, float[1, D] y, float[1, E] z) {
    stays = Constant <value = bool {1}> ()
    x, y, z = Loop (m, stays, k, v, k) <body = step (int64 i, bool c, k1, v1, s) =>
        (bool goes, k2, v2, t) {
        goes = Identity (c)
        one = Constant <value = float[1, 1] {1}> ()
        k2 = Concat <axis = 1> (k1, one)
        v2 = Concat <axis = 1> (v1, one)
        t = Add (k2, v2)
    }>
}"""


def test_extents_that_grow_together_are_told_from_others(programs: list[str]) -> None:
    fast, slow = sessions(CACHE)
    for a, b, m in ((3, 3, 5), (5, 5, 9), (1, 3, 1), (1, 3, 5), (2, 2, 5)):
        feed = {"m": np.array(m), "k": np.ones((1, a), "f"), "v": np.ones((1, b), "f")}
        if a != b:
            with pytest.raises(FornixError, match="node for 't'") as told:
                fast.run(None, feed)
            with pytest.raises(FornixError, match=re.escape(str(told.value))):
                slow.run(None, feed)
        else:
            for one, other in zip(fast.run(None, feed), slow.run(None, feed), strict=True):
                np.testing.assert_array_equal(one, other)
    assert set(programs) == {"step"}


COLLECTS = """f (int64 m, float[3] x) => (float[K, 3] y) {
    stays = Constant <value = bool {1}> ()
    none = SequenceEmpty <dtype = 1> ()
    all = Loop (m, stays, none) <body = step (int64 i, bool c, seq(float[3]) s) =>
        (bool goes, seq(float[3]) t) {
        goes = Identity (c)
        f = Cast <to = 1> (i)
        e = Mul (x, f)
        t = SequenceInsert (s, e)
    }>
    y = ConcatFromSequence <axis = 0, new_axis = 1> (all)
}"""


def test_sequences_are_carried_by_compiled_bodies(programs: list[str]) -> None:
    agree(COLLECTS, *({"m": np.array(m), "x": np.array([1, 2, 3], np.float32)} for m in (1, 9)))
    assert set(programs) == {"step"}


def test_sequences_that_the_body_does_not_declare_are_of_the_type_that_enters(
    programs: list[str],
) -> None:
    text = COLLECTS.replace("f = Cast <to = 1> (i)", "n = SequenceLength (s) f = Cast <to = 1> (n)")
    model = parser.parse_model(HEAD + text)
    [body] = (a.g for node in model.graph.node for a in node.attribute if a.name == "body")
    body.input[2].ClearField("type")
    body.output[1].ClearField("type")
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    for m in (1, 4, 9):
        [found] = session.run(None, {"m": np.array(m), "x": np.array([1, 2, 3], np.float32)})
        np.testing.assert_array_equal(found, np.outer(np.arange(m), [1, 2, 3]))
    assert set(programs) == {"step"}


CHOOSES = """f (int64 m, float[N, 2] x, float[M, 2] y) => (float[K, 2] z, float[M, 2] w) {
    stays = Constant <value = bool {1}> ()
    z, w = Loop (m, stays, x, y) <body = step (int64 i, bool c, float[A, 2] p, float[B, 2] q) =>
        (bool goes, float[C, 2] s, float[B, 2] t) {
        two = Constant <value_int = 2> ()
        r = Mod (i, two)
        odd = Cast <to = 9> (r)
        s = If (odd) <then_branch = a () => (u) { u = Concat <axis = 0> (p, q) },
                      else_branch = b () => (v) { v = Neg (p) }>
        all = ReduceSum <keepdims = 0> (s)
        less = ReduceSum <keepdims = 0> (q)
        d = Sub (less, all)
        e = Tanh (d)
        t = Add (q, e)
        goes = Identity (c)
    }>
}"""


def test_steps_of_bodies_take_the_short_way(
    programs: list[str], monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    long: list[object] = []
    original = Program.computed

    def noted(self: Program, *rest: Any) -> Any:
        long.append(self)
        return original(self, *rest)

    fast, slow = sessions(CHOOSES)
    monkeypatch.setattr(Program, "computed", noted)
    for n, m, count in ((2, 3, 8), (2, 3, 20), (1, 1, 7), (3, 2, 1), (5, 3, 30)):
        x, y = (rng.normal(size=(k, 2)).astype(np.float32) for k in (n, m))
        feed = {"m": np.array(count), "x": x, "y": y}
        for one, other in zip(fast.run(None, feed), slow.run(None, feed), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    assert {"step", "a", "b"} == set(programs)
    assert len(long) < 66 / 2


def test_what_goes_wrong_between_steps_is_told_as_by_kernels() -> None:
    text = CHOOSES.replace("Neg (p)", "Concat <axis = 1> (p, q)")
    messages = []
    for session in sessions(text):
        feed = {"m": np.array(9), "x": np.ones((3, 2), "f"), "y": np.ones((3, 2), "f")}
        with pytest.raises(FornixError) as told:
            session.run(None, feed)
        messages.append(str(told.value))
    assert messages[0] == messages[1]


BAGS = """f (int64[N] x, int64[B] o, float[9, 4] w) => (float[C, 4] y) {
    stays = Constant <value = bool {1}> ()
    m = Size (o)
    y = Loop (m, stays) <body = step (int64 i, bool c) => (bool goes, float[4] sum) {
        one = Constant <value = int64[1] {1}> ()
        zero = Constant <value = int64[1] {0}> ()
        first = Gather (o, i)
        start = Unsqueeze (first, zero)
        end = Add (start, one)
        more = Mul (end, one)
        stop = Add (more, start)
        part = Slice (x, start, stop, zero)
        [pick] rows = Gather (w, part)
        sum = ReduceSum <keepdims = 0> (rows, zero)
        goes = Identity (c)
    }>
}"""


def test_extents_that_data_decide_are_learned_on_the_way(
    programs: list[str], rng: np.random.Generator
) -> None:
    w = rng.normal(size=(9, 4)).astype(np.float32)
    for count in (3, 9, 40):
        x = rng.integers(-9, 9, 60)
        # Slices of 1 to 30 rows, and of none at the end.
        o = np.concatenate([rng.integers(0, 29, count), [60, 0]])
        agree(BAGS, {"x": x, "o": o, "w": w})
    assert set(programs) == {"step"}


def test_what_is_wrong_behind_learned_extents_names_its_node() -> None:
    messages = []
    for session in sessions(BAGS):
        x = np.arange(1, 10)
        feed = {"x": x, "o": np.array([0, 1, 2, 3, 4]), "w": np.ones((9, 4), "f")}
        with pytest.raises(FornixError, match=r"node 'pick' .* found 9") as told:
            session.run(None, feed)
        messages.append(str(told.value))
    assert messages[0] == messages[1]


def test_a_step_behind_learned_extents_is_compiled() -> None:
    fast, _ = sessions(BAGS)
    feed = {"x": np.arange(9), "o": np.array([1, 2, 3, 0]), "w": np.ones((9, 4), "f")}
    assert fast._programs is not None
    program = fast._programs.whole
    for _ in range(3):
        np.testing.assert_array_equal(fast.run(None, feed)[0][:, 0], [2, 3, 4, 1])
    loop = next(s for s in program.steps if isinstance(s, KernelStep))
    (body,) = loop.plan.bodies.values()
    assert isinstance(body, CompiledBody)
    ((_, made),) = next(iter(body._families.values())).programs
    assert made is not None
    kinds = [type(step).__name__ for step in made.programs.general.steps]
    assert set(kinds) == {"NativeStep"}
    assert isinstance(made.short, ShortWay)


def test_bodies_within_bodies(programs: list[str]) -> None:
    agree(NESTED, {"m": np.array(6), "x": np.array([0.5, -1], np.float32)})
    assert sorted(set(programs)) == ["inner", "outer"]


def test_what_goes_wrong_in_a_body_is_told_as_by_its_kernels(programs: list[str]) -> None:
    messages = []
    for session in sessions(GATHERS):
        good = session.run(None, {"m": np.array(3), "x": np.array([1, 2, 3], np.float32)})
        assert good[0] == 6
        with pytest.raises(FornixError, match=r"node 'pick' .* found 3") as raised:
            session.run(None, {"m": np.array(5), "x": np.array([1, 2, 3], np.float32)})
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    assert set(programs) == {"step"}


def test_results_of_a_body_are_nobody_elses(rng: np.random.Generator) -> None:
    fast, slow = sessions(SCAN)
    feed = {"s": np.zeros(2, np.float32), "x": rng.standard_normal((4, 2), np.float32)}
    wanted = slow.run(None, feed)
    for _ in range(3):
        for found, expected in zip(fast.run(None, feed), wanted, strict=True):
            np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)
            found[:] = np.nan


SIEVES = """f (float[N] x) => (int64 count) {
    zero = Constant <value_float = 0.0> ()
    stays = Constant <value = bool {1}> ()
    most = Constant <value_int = 10> ()
    none = Constant <value_int = 0> ()
    left, count = Loop (most, stays, x, none) <body = step
        (int64 i, bool k, float[P] rest, int64 c) => (bool goes, float[Q] less, int64 n) {
        by = CastLike (i, x)
        lower = Sub (rest, by)
        is_positive = Greater (lower, zero)
        less = Compress <axis = 0> (lower, is_positive)
        length = Size (less)
        has_some = Greater (length, none)
        goes = If (has_some) <then_branch = more () => (bool p) { p = Less (i, most) },
                              else_branch = done () => (bool q) { q = Not (k) }>
        one = Constant <value_int = 1> ()
        n = Add (c, one)
    }>
}"""


@pytest.mark.parametrize("x", [[1, 2, 3, -1], [-1, -2], [5, 0.5], [200, 300], [-5]])
def test_extents_that_bodies_declare_by_names_may_be_none(x: list[float]) -> None:
    agree(SIEVES, {"x": np.array(x, np.float32)}, {"x": np.array(x, np.float32)})


def test_a_body_whose_program_another_thread_changes_has_no_steady_way() -> None:
    there = [None, SimpleNamespace(at_once=print)]

    class Changing(CompiledBody):
        @property
        def _last(self) -> Any:  # type: ignore[override]
            return there.pop() if there else None

    body = Changing.__new__(Changing)
    assert body.steady([], None) == (print, None)
    assert body.steady([], None) is None
