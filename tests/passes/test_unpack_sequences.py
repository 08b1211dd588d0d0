"""Sequences that only hand tensors on: readers find these, and compute what the standard says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix import InferenceSession
from fornix.errors import FornixError
from fornix.format.text import parse_model
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from fornix.ir.walk import nodes
from fornix.passes import optimize
from fornix.reference import ReferenceEvaluator

X = np.arange(24, dtype=np.float32).reshape(4, 6) / 8
STAYS = "stays = Constant <value = bool {1}> ()"


def model_of(text: str, opset: int = 18) -> Model:
    return from_message(parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}'))


def number(name: str, value: int) -> str:
    return f"{name} = Constant <value = int64 {{{value}}}> ()"


CUT = "s = SplitToSequence <axis = {axis}, keepdims = {keeps}> (x)"
SIZES = "n = Constant <value = int64[3] {1, 3, 2}> () s = SplitToSequence <axis = 1> (x, n)"
LISTED = "a = Neg (x) b = Exp (x) s0 = SequenceConstruct (x, a) s = SequenceInsert (s0, b)"
KNOWN = [
    f"{CUT.format(axis=0, keeps=1)} y = ConcatFromSequence <axis = 0> (s)",
    f"{CUT.format(axis=1, keeps=1)} y = ConcatFromSequence <axis = 0> (s)",
    f"{CUT.format(axis=1, keeps=0)} y = ConcatFromSequence <axis = 0, new_axis = 1> (s)",
    f"{CUT.format(axis=1, keeps=0)} y = ConcatFromSequence <axis = -1, new_axis = 1> (s)",
    f"{CUT.format(axis=0, keeps=0)} y = ConcatFromSequence <axis = 0> (s)",
    f"{CUT.format(axis=0, keeps=1)} y = ConcatFromSequence <axis = 1, new_axis = 1> (s)",
    f"{CUT.format(axis=1, keeps=1)} {number('i', -2)} y = SequenceAt (s, i)",
    f"{CUT.format(axis=0, keeps=0)} {number('i', 3)} y = SequenceAt (s, i)",
    f"{CUT.format(axis=1, keeps=0)} y = SequenceLength (s)",
    f"{SIZES} y = ConcatFromSequence <axis = 1> (s)",
    f"{SIZES} {number('i', 1)} y = SequenceAt (s, i)",
    f"{SIZES} {number('i', 1)} t = SequenceErase (s, i) y = ConcatFromSequence <axis = 1> (t)",
    f"{number('i', 4)} s = SplitToSequence <axis=1> (x, i) {number('j', -1)} y = SequenceAt (s, j)",
    f"{LISTED} y = ConcatFromSequence <axis = 0> (s)",
    f"{LISTED} y = ConcatFromSequence <axis = -1, new_axis = 1> (s)",
    f"{LISTED} {number('i', -1)} y = SequenceAt (s, i)",
    f"{LISTED} {number('i', 0)} t = SequenceInsert (s, b, i) y = SequenceAt (t, i)",
    f"{LISTED} t = SequenceErase (s) y = SequenceLength (t)",
    "s0 = SequenceEmpty () s = SequenceInsert (s0, x) y = ConcatFromSequence <axis = 0> (s)",
]  # fmt: skip


def sequences_in(model: Model) -> list[str]:
    return [node.op_type for node in nodes(model.graph) if "Sequence" in node.op_type]


@pytest.mark.parametrize("text", KNOWN)
@pytest.mark.parametrize("opset", [11, 18])
def test_readers_find_the_tensors(text: str, opset: int) -> None:
    dtype = "int64" if "y = SequenceLength" in text else "float"
    model = model_of(f"f (float[4, 6] x) => ({dtype} y) {{ {text} }}", opset)
    model.graph.outputs[0].type = None
    optimized = optimize(model, debug=True)
    assert sequences_in(optimized) == []
    wanted = ReferenceEvaluator(model).run(None, {"x": X})[0]
    found = ReferenceEvaluator(optimized).run(None, {"x": X})[0]
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype


def agree(text: str, *feeds: dict[str, Any], rounds: int = 2) -> None:
    fast = InferenceSession(model_of(text), providers=["CPUExecutionProvider"])
    slow = InferenceSession(model_of(text), providers=["ReferenceExecutionProvider"])
    for feed in feeds * rounds:
        try:
            wanted = slow.run(None, feed)
        except FornixError as error:
            with pytest.raises(type(error)) as raised:
                fast.run(None, feed)
            expected = str(error)
            assert str(raised.value) == expected
            continue
        for one, other in zip(fast.run(None, feed), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-6)
            assert one.shape == other.shape


def rows(count: int) -> dict[str, Any]:
    return {"x": np.arange(6 * count, dtype=np.float32).reshape(count, 6) / 8}


def test_places_that_data_say_are_gathered() -> None:
    text = f"""f (float[N, 6] x, int64 i) => (float[6] y, int64 n) {{
        {CUT.format(axis=0, keeps=0)} y = SequenceAt (s, i) n = SequenceLength (s)
    }}"""
    assert sequences_in(optimize(model_of(text))) == []
    agree(text, *(rows(3) | {"i": np.array(i)} for i in (0, 2, -1, -3, 3, -4)))


def test_parts_of_one_length_are_gathered() -> None:
    text = f"""f (float[N, 6] x, int64 i) => (float[A, B] y) {{
        {number("n", 2)} s = SplitToSequence <axis = 1> (x, n) y = SequenceAt (s, i)
    }}"""
    assert sequences_in(optimize(model_of(text))) == []
    agree(text, *(rows(4) | {"i": np.array(i)} for i in (0, 2, -1, -3, 3, -4)))
    uneven = text.replace("{2}", "{4}")
    assert sequences_in(optimize(model_of(uneven))) == ["SplitToSequence", "SequenceAt"]
    agree(uneven, *(rows(4) | {"i": np.array(i)} for i in (0, 1, -1)))


def test_what_may_be_empty_is_joined_in_sessions_that_know_better() -> None:
    text = f"""f (float[N, 6] x) => (float[M, 6] y) {{
        {CUT.format(axis=0, keeps=1)} y = ConcatFromSequence <axis = 0> (s)
    }}"""
    assert sequences_in(optimize(model_of(text))) == ["SplitToSequence", "ConcatFromSequence"]
    agree(text, rows(3), rows(0), rows(1))
    placed = InferenceSession(model_of(text)).placement()
    assert not any("Sequence" in place.op_type for place in placed)


@pytest.mark.parametrize(("axis", "left"), [(0, ["SequenceConstruct", "SequenceInsert"]), (1, [])])
def test_rows_that_do_not_fit_may_never_come(axis: int, left: list[str]) -> None:
    text = f"""f (float[4, 6] x, int64 m) => (float[A, B] y) {{
        {STAYS} {number("n", 2)} cut = SplitToSequence <axis = 1> (x, n) {number("i", 0)}
        part = SequenceAt (cut, i) s0 = SequenceConstruct (part)
        s = Loop (m, stays, s0) <
            body = g (int64 k, bool c, seq(float[P, Q]) t) => (bool c, seq(float[P, Q]) u) {{
                row = Neg (x)
                u = SequenceInsert (t, row)
            }}>
        y = ConcatFromSequence <axis = {axis}> (s)
    }}"""
    found = sequences_in(optimize(model_of(text)))
    assert sorted(set(found) - {"ConcatFromSequence"}) == left
    agree(text, *({"x": X, "m": np.array(m)} for m in (0, 2)))


LOOP = """f (int64 m, float[N, 6] x) => (float y) {{
    {stays}
    {first}
    rest = Shape (x)
    zero = Constant <value_int = 0> ()
    trips0 = Gather (rest, zero)
    trips = {trips}
    h0 = Constant <value = float[6] {{1, 2, 3, 4, 5, 6}}> ()
    h, list = Loop (trips, stays, h0, s) <body = step (int64 i, bool k, float[6] a, seq(float[6]) t)
        => (bool k, float[6] b, seq(float[6]) u) {{
        row = Gather (x, i)
        b = Add (a, row)
        {made}
        u = SequenceInsert (t, {name})
    }}>
    y = ConcatFromSequence <axis = {axis}, new_axis = {new}> (list)
}}"""
EMPTY = "s = SequenceEmpty ()"
ONE = "one = Constant <value = float[6] {0, 1, 0, 1, 0, 1}> () s = SequenceConstruct (one)"


@pytest.mark.parametrize("first", [EMPTY, ONE])
@pytest.mark.parametrize(("axis", "new"), [(0, 1), (1, 1), (-1, 1), (0, 0)])
@pytest.mark.parametrize(("made", "name"), [("", "b"), ("c = Exp (row)", "c"), ("", "h0")])
def test_what_a_loop_appends_is_rows(first: str, axis: int, new: int, made: str, name: str) -> None:
    text = LOOP.format(
        stays=STAYS,
        first=first,
        axis=axis,
        new=new,
        made=made,
        name=name,
        trips="Identity (trips0)",
    )
    model = model_of(text)
    model.graph.outputs[0].type = None
    session = InferenceSession(model)
    placed = [place.op_type for place in session.placement()]
    assert placed.count("Loop") == 1
    assert not any("Sequence" in op_type for op_type in placed)
    slow = InferenceSession(model, providers=["ReferenceExecutionProvider"])
    for count in (3, 1, 3, 5, 3):
        feed = rows(count) | {"m": np.array(0)}
        (found,), (wanted,) = (s.run(None, feed) for s in (session, slow))
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=2e-6)


@pytest.mark.parametrize("first", [EMPTY, ONE])
def test_a_loop_that_may_not_run_joins_what_there_is(first: str) -> None:
    text = LOOP.format(
        stays=STAYS, first=first, axis=0, new=1, made="", name="b", trips="Identity (m)"
    ).replace("float y", "float[A, 6] y")
    agree(text, *(rows(3) | {"m": np.array(m)} for m in (2, 0, 3)))


COUNTS = """f (float[{extent}, 6] x) => (float[3, 6] y) {{
    {stays}
    zero = Constant <value_int = 0> ()
    empty = SequenceEmpty ()
    n, list = Loop ({trips}, stays, zero, empty) <body = step (int64 i, bool k, int64 j, t)
        => (bool goes, int64 next, u) {{
        flat = Constant <value_ints = [-1]> ()
        one = Constant <value_int = 1> ()
        three = Constant <value_int = 3> ()
        from = Reshape (j, flat)
        up = Add (from, one)
        row = Slice (x, from, up)
        e = Mul (row, row)
        u = SequenceInsert (t, e)
        next = Add (j, one)
        goes = Less (next, three)
    }}>
    y = ConcatFromSequence <axis = 0> (list)
}}"""


@pytest.mark.parametrize("extent", [2, 3, 4])
def test_the_one_place_that_a_loop_counts_is_gathered(extent: int) -> None:
    text = COUNTS.format(stays=STAYS, trips="", extent=extent)
    is_inside = extent > 2
    counted = [node.op_type for node in nodes(optimize(model_of(text)).graph)]
    assert ("Slice" in counted) is not is_inside
    if is_inside:
        agree(text, rows(extent), rows(extent))
        placed = InferenceSession(model_of(text)).placement()
        assert not any("Sequence" in place.op_type for place in placed)


@pytest.mark.parametrize("keeps", [0, 1])
@pytest.mark.parametrize(
    "changed", ["SequenceInsert (s, e)", "SequenceInsert (s, e, i)", "SequenceErase (s, i)"]
)
def test_slices_of_which_some_are_others_are_no_longer_the_whole(keeps: int, changed: str) -> None:
    declared = "float[A, B] y, float[C, D] z" if keeps else "float[A] y, float[B] z"
    text = f"""f (float[N, 6] x, int64 i) => ({declared}, int64 n) {{
        {CUT.format(axis=0, keeps=keeps)} e = SequenceAt (s, i) t = {changed}
        y = ConcatFromSequence <axis = 0> (t) z = SequenceAt (t, i) n = SequenceLength (t)
    }}"""
    agree(text, *(rows(3) | {"i": np.array(i)} for i in (0, 1, -2)))


def test_rows_whose_extent_only_the_body_declares_stay_in_a_sequence() -> None:
    text = """f (float[N, 4] x) => (float[K, 4] y) {
        c = Constant <value = bool {1}> () n = Constant <value = int64 {3}> ()
        e = SequenceConstruct (x)
        z, s = Loop (n, c, x, e) <
            body = b (int64 i, bool k, float[A, 4] h, seq(float[B, 4]) p)
                => (bool k2, float[D, 4] w, seq(float[E, 4]) p2) {
                k2 = Identity (k) t = SequenceConstruct (h, h)
                w = ConcatFromSequence <axis = 0> (t) p2 = SequenceInsert (p, w) }>
        y = ConcatFromSequence <axis = 0> (s) }"""
    agree(text, {"x": X[:, :4]})
    (found,) = ReferenceEvaluator(optimize(model_of(text))).run(None, {"x": X[:, :4]})
    np.testing.assert_array_equal(found, np.tile(X[:, :4], (1 + 2 + 4 + 8, 1)))
