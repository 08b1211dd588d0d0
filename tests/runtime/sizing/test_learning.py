"""Numbers that only data tell, in the middle of a run: compiled code equals the NumPy kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fornix import InferenceSession
from fornix.compile.identity import processor
from fornix.errors import FornixError
from fornix.onnx import parser
from fornix.runtime.native import NativeStep
from fornix.system import is_mappable
from tests.runtime.stored.kept_models import recalled, use_cache, write

HEAD = '<ir_version: 10, opset_import: ["" : 18]>\n'

CUT = """f (float[N, 6] x, int64[1] a, int64[1] b, int64[1] s) => (float[M, 6] y) {
    one = Constant <value = int64[1] {1}> ()
    zero = Constant <value = int64[1] {0}> ()
    stop = Add (b, one)
    part = Slice (x, a, stop, zero)
    y = Mul (part, part)
}"""
CHOSEN = """f (float[N, 4] x, bool[N] m, float[4, 3] w) => (float[K, 3] y, float[3] t) {
    places = NonZero (m)
    columns = Transpose <perm = [1, 0]> (places)
    rows = GatherND (x, columns)
    y = MatMul (rows, w)
    axes = Constant <value = int64[1] {0}> ()
    t = ReduceSum <keepdims = 0> (y, axes)
}"""
COUNTED = """f (int64[B] l) => (float[B, L] y) {
    most = ReduceMax <keepdims = 0> (l)
    zero = Constant <value = int64 {0}> ()
    one = Constant <value = int64 {1}> ()
    places = Range (zero, most, one)
    axis = Constant <value = int64[1] {1}> ()
    rows = Unsqueeze (l, axis)
    mask = Less (places, rows)
    y = Cast <to = 1> (mask)
}"""
FILLED = """f (float[1, 2] x, int64[2] s) => (float[P, Q] y) {
    two = Constant <value = float {2.0}> ()
    wide = Expand (x, s)
    y = Mul (wide, two)
}"""
FOLDED = """f (float[N] x, int64[1] n) => (float[P, Q] y) {
    rest = Constant <value = int64[1] {-1}> ()
    s = Concat <axis = 0> (n, rest)
    wide = Reshape (x, s)
    y = Neg (wide)
}"""


def sessions(text: str) -> tuple[InferenceSession, InferenceSession]:
    model = parser.parse_model(HEAD + text)
    compiled = InferenceSession(model, providers=["CPUExecutionProvider"])
    return compiled, InferenceSession(model, providers=["ReferenceExecutionProvider"])


def told(session: InferenceSession, feeds: dict[str, Any]) -> list[Any] | str:
    """Results, or what is wrong."""
    try:
        return session.run(None, feeds)
    except FornixError as error:
        return str(error)


def agree(pair: tuple[InferenceSession, InferenceSession], feeds: dict[str, Any]) -> None:
    for _ in range(3):  # the long way, and then the short one
        found, expected = (told(session, feeds) for session in pair)
        if isinstance(found, str) or isinstance(expected, str):
            assert found == expected, feeds
            continue
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, strict=True)


def learns(session: InferenceSession) -> bool:
    """Whether machine code of ``session`` learns numbers in a run."""
    assert session._programs is not None
    steps = session._programs.whole.steps
    return any(isinstance(step, NativeStep) and step.learned is not None for step in steps)


def test_places_of_a_cut_come_from_data(rng: np.random.Generator) -> None:
    pair = sessions(CUT.replace(", int64[1] s", ""))
    assert learns(pair[0])
    for _ in range(60):
        n = int(rng.integers(1, 9))
        a, b = (rng.integers(-n - 3, n + 4, 1) for _ in range(2))
        agree(pair, {"x": rng.normal(size=(n, 6)).astype("f"), "a": a, "b": b})
    ends = np.array([np.iinfo(np.int64).max - 1])
    agree(pair, {"x": np.ones((3, 6), "f"), "a": np.array([1]), "b": ends})


def test_steps_of_a_cut_may_be_known(rng: np.random.Generator) -> None:
    for step in (2, 3, -1, -2):
        text = """f (float[N] x, int64[1] a, int64[1] b) => (float[M] y) {
            zero = Constant <value = int64[1] {0}> ()
            step = Constant <value = int64[1] {STEP}> ()
            part = Slice (x, a, b, zero, step)
            y = Exp (part)
        }""".replace("STEP", str(step))
        pair = sessions(text)
        for _ in range(25):
            n = int(rng.integers(1, 9))
            a, b = (rng.integers(-n - 3, n + 4, 1) for _ in range(2))
            agree(pair, {"x": rng.normal(size=n).astype("f"), "a": a, "b": b})


def test_what_follows_chosen_rows_is_compiled(rng: np.random.Generator) -> None:
    pair = sessions(CHOSEN)
    assert learns(pair[0])
    w = rng.normal(size=(4, 3)).astype("f")
    for n in (1, 7, 300, 7):
        x = rng.normal(size=(n, 4)).astype("f")
        for share in (0.0, 0.3, 1.0):
            agree(pair, {"x": x, "m": rng.random(n) < share, "w": w})
    large = rng.normal(size=(90_000, 4)).astype("f")
    agree(pair, {"x": large, "m": np.ones(90_000, bool), "w": w})


def test_lengths_come_from_data(rng: np.random.Generator) -> None:
    pair = sessions(COUNTED)
    assert learns(pair[0])
    for high in (1, 5, 40, 3):
        agree(pair, {"l": rng.integers(0, high + 1, 6)})
    agree(pair, {"l": np.array([-3, -1])})


@pytest.mark.parametrize("shape", [[2, 2], [1, 2], [1, 1], [2, 1], [2, 3], [0, 2], [3, 3]])
def test_shapes_that_are_fed_have_to_broadcast(shape: list[int]) -> None:
    agree(sessions(FILLED), {"x": np.ones((1, 2), "f"), "s": np.array(shape)})


def test_a_fed_extent_has_to_divide_the_elements() -> None:
    pair = sessions(FOLDED)
    for n in (2, 3, 4, 5, 12, 1, 0, -1, -2):
        agree(pair, {"x": np.arange(12, dtype="f"), "n": np.array([n])})


@pytest.mark.skipif(not (is_mappable() and processor()), reason="programs are kept on Linux")
def test_a_kept_program_learns_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    use_cache(tmp_path, monkeypatch)
    path = write(tmp_path / "model.onnx", HEAD + CHOSEN)
    reference = InferenceSession(path, providers=["ReferenceExecutionProvider"])
    for session in (InferenceSession(path), recalled(path)):
        for share in (0.5, 0.0, 1.0):
            x, w = rng.normal(size=(9, 4)).astype("f"), np.ones((4, 3), "f")
            agree((session, reference), {"x": x, "m": rng.random(9) < share, "w": w})


def test_profiles_show_what_learns() -> None:
    session, _ = sessions(CHOSEN)
    x, w = np.ones((5, 4), "f"), np.ones((4, 3), "f")
    feeds = {"x": x, "m": np.array([True, False, True, False, False]), "w": w}
    shown = session.profile(feeds, repeats=1).entries
    assert "float32[2, 3]" in {text for entry in shown for text in entry.types}
    feeds["m"] = np.zeros(5, bool)
    assert session.profile(feeds, repeats=1).entries


@pytest.mark.parametrize(
    "reader", ["y = Shape (c)", "e = EyeLike (c) y = Cast <to = 7> (e)", "y = Size (c)"]
)
def test_a_result_that_tells_its_own_extents_is_there_before_they_are_read(reader: str) -> None:
    text = f"f (float[N, 1] a, int64[2] d) => (int64 y) {{ c = Expand (a, d) {reader} }}"
    pair = sessions(text)
    for wanted in ([3, 4], [1, 2], [3, 1]):
        agree(pair, {"a": np.ones((3, 1), np.float32), "d": np.array(wanted)})


PYRAMID = """f (float[3, 2, 1, 1] x, int64[2, 2] s, float[4, 2, 1, 1] v)
    => (float[3, 4, P, Q] y, float[3, K] z) {
    first = Constant <value_int = 0> ()
    second = Constant <value_int = 1> ()
    a = Gather <axis = 0> (s, first)
    b = Gather <axis = 0> (s, second)
    most = Max (a, b)
    below = Constant <value_int = 3> ()
    step = Constant <value_int = 4> ()
    up = Add (most, below)
    sides = Div (up, step)
    ones = Constant <value_ints = [1, 1]> ()
    all = Concat <axis = 0> (ones, sides)
    image = Expand (x, all)
    level = Sigmoid (image)
    half = MaxPool <kernel_shape = [1, 1], strides = [2, 2]> (level)
    kept = Constant <value_ints = [3, 2]> ()
    two = Constant <value_int = 2> ()
    doubled = Mul (sides, two)
    larger = Concat <axis = 0> (kept, doubled)
    repeated = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
        nearest_mode = "floor"> (level, , , larger)
    y = Conv (repeated, v)
    rows = Constant <value_ints = [3, -1]> ()
    one = Reshape (half, rows)
    other = Reshape (level, rows)
    both = Concat <axis = 1> (one, other)
    axis = Constant <value_ints = [1]> ()
    shape = Shape <start = 1> (both)
    sizes = Shape <start = 2> (half)
    count = ReduceProd <keepdims = 1> (sizes)
    part = Slice (both, count, shape, axis)
    z = Exp (part)
}"""


def test_levels_of_a_pyramid_whose_size_data_tell_are_compiled(rng: np.random.Generator) -> None:
    pair = sessions(PYRAMID)
    feeds = {"x": rng.normal(size=(3, 2, 1, 1)).astype("f")}
    feeds["v"] = rng.normal(size=(4, 2, 1, 1)).astype("f")
    for s in ([[5, 9], [12, 3]], [[1, 1], [1, 2]], [[40, 33], [39, 64]], [[0, 4], [0, 9]]):
        agree(pair, {**feeds, "s": np.array(s)})
    left = {one.op_type for one in pair[0].placement() if not one.kernels and one.reason}
    assert not left


PADDED = """f (float[N, M] x, int64[2] n) => (float[P, Q] y) {
    four = Constant <value = int64[2] {4, 4}> ()
    none = Constant <value = int64[2] {0, 0}> ()
    rest = Sub (four, n)
    pads = Concat <axis = 0> (none, rest)
    longer = Pad (x, pads)
    y = Exp (longer)
}"""


def test_pads_come_from_data() -> None:
    pair = sessions(PADDED)
    assert learns(pair[0])
    for n in ((1, 2), (4, 0), (2, 2), (5, 4), (9, 0)):
        agree(pair, {"x": np.arange(12, dtype="f").reshape(3, 4), "n": np.array(n)})


CENTRED = """f (float[N, M] x, int64[2] s) => (float[P, Q] y) {
    middle = CenterCropPad (x, s)
    y = Exp (middle)
}"""


def test_whether_an_axis_grows_or_shrinks_comes_from_data() -> None:
    pair = sessions(CENTRED)
    assert learns(pair[0])
    for s in ((3, 4), (6, 1), (1, 7), (2, 3), (0, 5), (-1, 4)):
        agree(pair, {"x": np.arange(12, dtype="f").reshape(3, 4), "s": np.array(s)})


ONE_HOT = """f (int64[N] x, float[2] v) => (float[N, D] y) {
    one = Constant <value = int64[1] {1}> ()
    most = ReduceMax <keepdims = 1> (x)
    depth = Add (most, one)
    y = OneHot (x, depth, v)
}"""


def test_a_depth_comes_from_data() -> None:
    pair = sessions(ONE_HOT)
    assert learns(pair[0])
    for x in ([0, 3, 1], [0], [7, 7, 2, 0]):
        agree(pair, {"x": np.array(x), "v": np.array([0, 2], "f")})


CUT_IN_TWO = """f (float[N, 2] x, int64[2] s) => (float[P, 2] y, float[Q, 2] z) {
    twice = Add (s, s)
    a, b = Split <axis = 0> (x, twice)
    y = Neg (a)
    z = Exp (b)
}"""


def test_lengths_of_parts_come_from_data() -> None:
    pair = sessions(CUT_IN_TWO)
    assert learns(pair[0])
    for s, rows in (((1, 2), 6), ((3, 1), 8), ((0, 2), 4), ((1, 1), 5)):
        agree(pair, {"x": np.ones((rows, 2), "f"), "s": np.array(s)})


ENLARGED = """f (float[1, 2, N, M] x, int64[2] s) => (float[1, 2, P, Q] y) {
    front = Constant <value = int64[2] {1, 2}> ()
    twice = Add (s, s)
    sizes = Concat <axis = 0> (front, twice)
    y = Resize <mode = "MODE"> (x, , , sizes)
}"""


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_sizes_come_from_data(mode: str) -> None:
    pair = sessions(ENLARGED.replace("MODE", mode))
    assert learns(pair[0]) or mode == "cubic"
    image = np.random.default_rng(0).random((1, 2, 5, 7)).astype("f")
    for s in ((1, 2), (4, 3), (2, 6), (5, 5)):
        agree(pair, {"x": image, "s": np.array(s)})


PADDED = """f (float[N, 2, H, W] x, int64[4] p, float[3, 2, 3, 3] v, float[3, 3, 3, 3] w)
    => (float[N, 3, P, Q] y) {
    none = Constant <value = int64[2] {0, 0}> ()
    a, b = Split <axis = 0, num_outputs = 2> (p)
    starts = Abs (a)
    ends = Abs (b)
    pads = Concat <axis = 0> (none, starts, none, ends)
    half = Conv <strides = [2, 2]> (x, v)
    wide = Pad (half, pads)
    quarter = Conv <strides = [2, 2]> (wide, w)
    wider = Pad (quarter, pads)
    eighth = Conv <strides = [2, 2]> (wider, w)
    widest = Pad (eighth, pads)
    y = Conv <strides = [2, 2]> (widest, w)
}"""


def test_convolutions_of_padding_that_comes_from_data_are_compiled(
    rng: np.random.Generator,
) -> None:
    pair = sessions(PADDED)
    feeds = {"v": rng.integers(-1, 2, (3, 2, 3, 3)).astype("f")}  # whose sums are exact
    feeds["w"] = rng.integers(-1, 2, (3, 3, 3, 3)).astype("f")
    for n, h, w, p in (
        (1, 39, 52, (0, 1, 1, 1)),
        (2, 41, 40, (0, 0, 0, 0)),
        (1, 7, 9, (-1, 1, 2, 1)),
    ):
        x = rng.integers(-1, 2, (n, 2, h, w)).astype("f")
        agree(pair, {**feeds, "x": x, "p": np.array(p)})
    left = {one.op_type for one in pair[0].placement() if not one.kernels}
    assert "Conv" not in left


def test_images_smaller_than_a_window_are_errors_whatever_tells_their_padding() -> None:
    pair = sessions("""f (float[N, 2, H] x, int64[1] a, int64[1] b) => (float[N, 2, P] y) {
        none = Constant <value = int64[2] {0, 0}> ()
        pads = Concat <axis = 0> (none, a, none, b)
        wide = Pad (x, pads)
        y = MaxPool <kernel_shape = [3], strides = [4]> (wide)
    }""")
    empty = np.zeros(1, np.int64)
    for n, h in ((1, 29), (1, 2), (0, 9), (2, 0), (1, 3)):
        x = np.arange(n * 2 * h, dtype="f").reshape(n, 2, h)
        agree(pair, {"x": x, "a": empty, "b": empty})
    with pytest.raises(FornixError, match="must hold a window of reach 3, got extent 2"):
        pair[0].run(None, {"x": x[..., :2], "a": empty, "b": empty})


OF_ITERATION = """f (int64 m, int64[4] n, float[3, 2] x) => (float y) {
    stays = Constant <value = bool {1}> ()
    start = Constant <value = float {0}> ()
    y = Loop (m, stays, start) <body = b (int64 i, bool k, float s) => (bool k, float t) {
        own = Gather (n, i)
        at = Constant <value = int64[1] {0}> ()
        after = Unsqueeze (own, at)
        none = Constant <value = int64[3] {0, 0, 0}> ()
        pads = Concat <axis = 0> (none, after)
        one = Constant <value = float {1}> ()
        longer = Pad (x, pads, one)
        sum = ReduceSum <keepdims = 0> (longer)
        t = Add (s, sum)
    }>
}"""


def test_pads_of_which_some_are_stored_come_from_data_in_a_loop() -> None:
    pair = sessions(OF_ITERATION)
    x = np.arange(6, dtype="f").reshape(3, 2)
    agree(pair, {"x": x, "n": np.array([1, 0, 4, 2]), "m": np.array(4)})
    agree(pair, {"x": x, "n": np.array([3, 3, 0, 1]), "m": np.array(3)})


MEASURED = """f (float[N, 3] x, bool[N] m, int64 least)
    => (float[A, 3] y, bool z, float[3] t, int64 k) {
    places = NonZero (m)
    columns = Transpose <perm = [1, 0]> (places)
    rows = GatherND (x, columns)
    shape = Shape (rows)
    none = Constant <value_int = 0> ()
    k = Gather (shape, none)
    z = Greater (k, least)
    y = Exp (rows)
    axes = Constant <value = int64[1] {0}> ()
    t = ReduceSum <keepdims = 0> (y, axes)
}"""


@pytest.mark.parametrize("is_kept", [False, True])
def test_what_is_told_of_nothing_is_told(
    is_kept: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pair = sessions(MEASURED)
    if is_kept and is_mappable() and processor():
        use_cache(tmp_path / "cache", monkeypatch)
        path = write(tmp_path / "m.onnx", HEAD + MEASURED)
        InferenceSession(path)
        pair = recalled(path), pair[1]
    x = np.arange(12, dtype="f").reshape(4, 3)
    for mask in ([1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]):
        agree(pair, {"x": x, "m": np.array(mask, bool), "least": np.array(1)})


CHOSEN_EXPANDED = """f (float[N] x, float[K] z, int64[1] k) => (float[M] y, float[J] s) {
    zero = Constant <value = float {0.0}> ()
    is_above = Greater (x, zero)
    chosen = Compress <axis = 0> (x, is_above)
    spread = Expand (chosen, k)
    e = Exp (spread)
    y = Mul (e, e)
    below = Greater (z, zero)
    others = Compress <axis = 0> (z, below)
    sum = Add (chosen, others)
    s = Tanh (sum)
}"""


@pytest.mark.parametrize(
    ("above", "others", "length"),
    [(4, 4, 4), (4, 1, 1), (1, 3, 5), (1, 1, 1), (4, 3, 4), (3, 3, 4), (0, 1, 1), (2, 2, 0)],
)
def test_what_broadcasts_to_lengths_that_data_say_need_not_agree(
    above: int, others: int, length: int
) -> None:
    pair = sessions(CHOSEN_EXPANDED)
    assert not any(p.reason for p in pair[0].placement() if p.op_type in {"Expand", "Add"})
    x, z = -np.ones(6, np.float32), -np.ones(5, np.float32)
    x[:above], z[:others] = np.arange(1, 1 + above), np.arange(2, 2 + others)
    agreeing = {"x": np.abs(x), "z": np.abs(np.append(z, 1)), "k": np.array([6])}
    agreeing["z"] = agreeing["z"].astype(np.float32)
    given = {"x": x, "z": z, "k": np.array([length])}
    for feeds in (agreeing, given, given, agreeing, given):
        agree(pair, feeds)


RELATIVE = """f (float[N, T, 3] x, float[9, 6] table) => (float[N, P, P] y)
    <int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] four = {4},
    int64[1] five = {5}, int64[1] far = {99}, int64[1] rest = {-1},
    int64[6] pads = {0, 0, 1, 0, 0, 0}, int64[3] sizes = {0, -1, 6}> {
    pairs = Reshape (x, sizes)
    shape = Shape (pairs)
    t = Slice (shape, one, two)
    first = Sub (five, t)
    end = Add (four, t)
    near = Slice (table, first, end, zero)
    turned = Transpose <perm = [1, 0]> (near)
    scores = MatMul (pairs, turned)
    longer = Pad (scores, pads)
    n = Slice (shape, zero, one)
    t2 = Mul (t, two)
    columns = Concat <axis = 0> (n, t2, t)
    rows = Concat <axis = 0> (n, t, rest)
    as_columns = Reshape (longer, columns)
    later = Slice (as_columns, one, far, one)
    as_rows = Reshape (later, rows)
    y = Slice (as_rows, zero, t, two)
}"""
"""Scores of relative positions, shifted row by row, from a table of nine."""


def test_scores_of_relative_positions_come_from_a_part_of_a_table(
    rng: np.random.Generator,
) -> None:
    pair = sessions(RELATIVE)
    assert learns(pair[0])
    table = rng.normal(size=(9, 6)).astype("f")
    for n, t in ((2, 8), (1, 2), (3, 10), (2, 12), (1, 4)):
        agree(pair, {"x": rng.normal(size=(n, t, 3)).astype("f"), "table": table})


CONTINUED = """f (float[N, M] x, int64[2] after) => (float[P, Q] y) {
    before = Constant <value = int64[2] {2, 1}> ()
    pads = Concat <axis = 0> (before, after)
    longer = Pad <mode = "MODE"> (x, pads)
    y = Exp (longer)
}"""


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_rows_are_continued_by_as_much_as_data_say(mode: str, rng: np.random.Generator) -> None:
    text = (HEAD + CONTINUED).replace("MODE", mode).replace('"" : 18', '"" : 19')
    model = parser.parse_model(text)
    compiled = InferenceSession(model, providers=["CPUExecutionProvider"])
    pair = compiled, InferenceSession(model, providers=["ReferenceExecutionProvider"])
    assert learns(compiled)
    for _ in range(40):
        n, m = rng.integers(1, 6, 2)
        x, after = rng.normal(size=(n, m)).astype("f"), rng.integers(-3, 9, 2)
        agree(pair, {"x": x, "after": after})
    for few in ([0, 0], [-3, 1], [-2, 1], [20, 0]):
        agree(pair, {"x": rng.normal(size=(3, 2)).astype("f"), "after": np.array(few)})


STRETCHED = """f (float[2, 3] x, int64[1] times) => (float[2, Q] y) {
    one = Constant <value = int64[1] {1}> ()
    repeats = Concat <axis = 0> (one, times)
    wide = Tile (x, repeats)
    pads = Constant <value = int64[4] {0, 2, 0, 1}> ()
    longer = Pad <mode = "MODE"> (wide, pads)
    y = Exp (longer)
}"""


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_multiples_of_what_data_say_are_continued_by_machine_code(
    mode: str, rng: np.random.Generator
) -> None:
    text = (HEAD + STRETCHED).replace("MODE", mode).replace('"" : 18', '"" : 19')
    model = parser.parse_model(text)
    compiled = InferenceSession(model, providers=["CPUExecutionProvider"])
    pair = compiled, InferenceSession(model, providers=["ReferenceExecutionProvider"])
    assert {place.reason for place in compiled.placement()} == {""}
    for times in (1, 2, 7, 0, 1, 40):
        x = rng.normal(size=(2, 3)).astype("f")
        agree(pair, {"x": x, "times": np.array([times])})


SHORTENED = """f (float[N, 8] x, float[M] like) => (float[N, P] y) {
    width = Shape <start = -1> (x)
    wanted = Shape (like)
    more = Sub (wanted, width)
    ahead = Constant <value = int64[3] {0, 1, 0}> ()
    pads = Concat <axis = 0> (ahead, more)
    cut = Pad <mode = "MODE"> (x, pads)
    y = Abs (cut)
}"""


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_nothing_is_continued_where_nothing_is_kept(mode: str) -> None:
    text = (HEAD + SHORTENED).replace("MODE", mode).replace('"" : 18', '"" : 19')
    session = InferenceSession(parser.parse_model(text), providers=["CPUExecutionProvider"])
    x = np.arange(16, dtype="f").reshape(2, 8)
    for kept in (3, 0, 1, 0, 8):
        feeds = {"x": x, "like": np.zeros(kept, "f")}
        if kept:
            wanted = np.pad(x[:, :kept], [(0, 0), (1, 0)], mode)  # type: ignore[call-overload]
            np.testing.assert_array_equal(session.run(None, feeds)[0], wanted)
        else:
            with pytest.raises(FornixError, match=f"mode {mode} needs an element to repeat"):
                session.run(None, feeds)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_nothing_is_continued_where_an_open_axis_keeps_nothing(mode: str) -> None:
    text = (
        HEAD.replace("18", "19")
        + """g (float[n, 3] x) => (float[m, 3] y) {
        pads = Constant <value = int64[4] {1, 0, -2, 0}> ()
        y = Pad <mode = "MODE"> (x, pads)
    }""".replace("MODE", mode)
    )
    session = InferenceSession(parser.parse_model(text), providers=["CPUExecutionProvider"])
    for n in (5, 2, 3):
        x = np.arange(3 * n, dtype="f").reshape(n, 3)
        if n > 2:
            wanted = np.pad(x[:-2], [(1, 0), (0, 0)], mode)  # type: ignore[call-overload]
            np.testing.assert_array_equal(session.run(None, {"x": x})[0], wanted)
        else:
            with pytest.raises(FornixError, match=f"mode {mode} needs an element to repeat"):
                session.run(None, {"x": x})
