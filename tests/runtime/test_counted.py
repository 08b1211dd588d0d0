"""Operators whose results are as long as data say: compiled code gives what their kernels do."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from fornix import InferenceSession, SessionOptions
from fornix.dtype import DType
from fornix.errors import FornixError
from fornix.ir.graph import Value
from fornix.onnx import parser
from fornix.runtime.native import NativeStep
from fornix.runtime.providers import Run

HEAD = '<ir_version: 10, opset_import: ["" : 18, "com.microsoft" : 1]>\n'
Feeds = dict[str, Any]


def sessions(text: str, threads: int = 1) -> tuple[InferenceSession, InferenceSession]:
    """Compiled, which it is as a whole, and on NumPy kernels."""
    model = parser.parse_model(HEAD + text).SerializeToString()
    options = SessionOptions(intra_op_num_threads=threads)
    compiled = InferenceSession(model, options)
    assert all(place.kernels for place in compiled.placement())
    return compiled, InferenceSession(model, providers=["ReferenceExecutionProvider"])


def agree(text: str, *given: Feeds, threads: int = 1) -> InferenceSession:
    """Several runs of each, as the ways of later ones are others."""
    compiled, reference = sessions(text, threads)
    for _ in range(4):
        for feeds in given:
            wanted = reference.run(None, feeds)
            for found, expected in zip(compiled.run(None, feeds), wanted, strict=True):
                np.testing.assert_array_equal(found, expected)
                assert found.dtype == expected.dtype
    return compiled


NON_ZERO = "f (TYPE[EXTENTS] x) => (int64[R, A] y) { y = NonZero (x) }"


@pytest.mark.parametrize("type_", ["float", "bool", "int8", "uint64", "float16", "double"])
@pytest.mark.parametrize("extents", ["N", "N, M", "2, N, 3"])
def test_places_of_what_is_not_zero(type_: str, extents: str) -> None:
    random = np.random.default_rng(0)
    dtype = DType.of(type_).numpy
    text = NON_ZERO.replace("TYPE", type_).replace("EXTENTS", extents)
    given = []
    for share, extent in ((0.5, 7), (0.01, 300), (0.0, 40), (1.0, 70), (0.9, 1)):
        shape = [int(n) if n.isdigit() else extent for n in extents.split(", ")]
        mask = random.random(shape) < share
        given.append({"x": np.where(mask, random.integers(1, 9, shape), 0).astype(dtype)})
    if dtype.kind == "f":
        given[0]["x"].flat[:3] = np.nan, -0.0, -np.inf
    agree(text, *given)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_slices_for_which_a_condition_holds(axis: int) -> None:
    text = """f (float[N, 5, N] x, bool[N] c) => (float[A, B, C] y) {
        y = Compress <axis = AXIS> (x, c)
    }""".replace("AXIS", str(axis)).replace("bool[N]", "bool[5]" if axis == 1 else "bool[N]")
    random = np.random.default_rng(1)
    given = []
    for share, extent in ((0.5, 9), (0.0, 4), (1.0, 30)):
        x = random.standard_normal((extent, 5, extent)).astype(np.float32)
        given.append({"x": x, "c": random.random(5 if axis == 1 else extent) < share})
    agree(text, *given)


def test_a_condition_may_be_shorter_than_the_axis_and_no_longer() -> None:
    text = "f (int64[N, 2] x, bool[M] c) => (int64[A, 2] y) { y = Compress <axis = 0> (x, c) }"
    random = np.random.default_rng(4)
    session = InferenceSession(parser.parse_model(HEAD + text).SerializeToString())
    assert all(place.kernels for place in session.placement())
    for rows, length in ((5, 5), (5, 3), (5, 6), (1, 1), (3, 4), (4, 1), (5, 6), (7, 7)):
        x, c = random.integers(0, 9, (rows, 2)), random.random(length) < 0.6
        if length > rows:
            with pytest.raises(FornixError, match=f"at most {rows} entries, found .{length}"):
                session.run(None, {"x": x, "c": c})
            continue
        (y,) = session.run(None, {"x": x, "c": c})
        np.testing.assert_array_equal(y, x[: c.size][c])


UNIQUE = """f (TYPE[N] x) => (TYPE[A] y, int64[A] i, int64[N] g, int64[A] c) {
    y, i, g, c = Unique <sorted = SORTED> (x)
}"""


@pytest.mark.parametrize("is_sorted", [0, 1])
@pytest.mark.parametrize("type_", ["int64", "float", "uint8", "int32", "float16", "uint64"])
def test_distinct_elements(type_: str, is_sorted: int) -> None:
    random = np.random.default_rng(2)
    dtype = DType.of(type_).numpy
    given = []
    for most, extent in ((3, 20), (100, 33), (200, 1000), (1, 50), (2, 1)):
        x = random.integers(0, most, extent)
        given.append({"x": (x - most // 2 if "u" not in type_ else x).astype(dtype)})
    if type_ in {"float", "float16"}:
        given[0]["x"][:6] = [np.nan, -0.0, 0.0, np.nan, np.inf, -np.inf]
    text = UNIQUE.replace("TYPE", type_).replace("SORTED", str(is_sorted))
    agree(text, *given)


@pytest.mark.parametrize("extents", ["N, 3", "2, N, 5", ""])
def test_distinct_elements_of_tensors(extents: str) -> None:
    random = np.random.default_rng(3)
    text = UNIQUE.replace("TYPE[N] x", f"TYPE[{extents}] x" if extents else "TYPE x")
    text = text.replace("int64[N] g", "int64[B] g").replace("TYPE", "int32").replace("SORTED", "0")
    shapes = [
        [int(n) if n.isdigit() else rows for n in extents.split(", ") if n] for rows in (7, 1)
    ]
    agree(text, *({"x": random.integers(0, 9, shape, np.int32)} for shape in shapes))


SUPPRESSED = """f (float[I, N, 4] b, float[I, C, N] s, float t) => (int64[A, 3] y) {
    most = Constant <value = int64[1] {MOST}> ()
    overlap = Constant <value = float[1] {0.5}> ()
    y = NonMaxSuppression <center_point_box = CENTERED> (b, s, most, overlap FLOOR)
}"""


def boxes(random: np.random.Generator, images: int, classes: int, count: int) -> Feeds:
    corners = random.integers(0, 12, (images, count, 2))
    found = np.concatenate([corners, corners + random.integers(0, 6, corners.shape)], -1)
    scores = random.integers(0, 30, (images, classes, count)) / 30
    scores[0, 0, : count // 2] = np.nan
    found = found.astype(np.float32)
    found[-1, ::7] = [np.nan, 0, np.inf, 1]
    return {"b": found, "s": scores.astype(np.float32), "t": np.array(0.4, np.float32)}


@pytest.mark.parametrize("centered", [0, 1])
@pytest.mark.parametrize("most", [1, 5, 1000])
@pytest.mark.parametrize("floor", ["", ", t"])
def test_boxes_that_overlap_none_with_a_better_score(floor: str, most: int, centered: int) -> None:
    random = np.random.default_rng(3)
    text = SUPPRESSED.replace("MOST", str(most)).replace("CENTERED", str(centered))
    if not floor:
        text = text.replace(", float t", "")
    given = [boxes(random, *x) for x in ((1, 1, 30), (2, 3, 70), (1, 2, 1), (2, 1, 400))]
    given.append({**given[0], "s": np.zeros((1, 1, 30), np.float32)})
    for feeds in given if not floor else ():
        del feeds["t"]
    agree(text.replace("FLOOR", floor), *given)


def test_boxes_are_asked_whether_they_have_four_ends_where_these_are_open() -> None:
    text = SUPPRESSED.replace("I, N, 4", "I, N, K").replace(", float t", "")
    text = text.replace("MOST", "5").replace("CENTERED", "0").replace("FLOOR", "")
    random = np.random.default_rng(5)
    given = [boxes(random, *x) for x in ((1, 1, 30), (2, 3, 70), (2, 1, 400))]
    for feeds in given:
        del feeds["t"]
    agree(text, *given)
    session = InferenceSession(parser.parse_model(HEAD + text).SerializeToString())
    for feeds in given * 2:
        session.run(None, feeds)
        wide = {**feeds, "b": np.concatenate([feeds["b"], feeds["b"][..., :1]], -1)}
        with pytest.raises(FornixError, match=r"boxes must be .*found boxes\[\d, \d+, 5\]"):
            session.run(None, wide)


def test_what_may_be_wrong_is_left_to_the_kernel() -> None:
    text = SUPPRESSED.replace("CENTERED", "0").replace("FLOOR", "")
    text = text.replace(", float t", "").replace("MOST", "0")
    model = parser.parse_model(HEAD + text).SerializeToString()
    feeds = boxes(np.random.default_rng(0), 1, 1, 9)
    del feeds["t"]
    session = InferenceSession(model)
    assert [place.op_type for place in session.placement()] == ["NonMaxSuppression"]
    assert session.run(None, feeds)[0].shape == (0, 3)


CHAIN = """f (float[N, 8] x, float t) => (float[A, 3] y, float[3] z) {
    w = Constant <value = float[8, 3] {WEIGHTS}> ()
    last = Constant <value = int64[1] {1}> ()
    first = Constant <value = int64[1] {0}> ()
    best = ReduceMax <keepdims = 0> (x, last)
    is_good = Greater (best, t)
    places = NonZero (is_good)
    turned = Transpose <perm = [1, 0]> (places)
    rows = GatherND (x, turned)
    y = MatMul (rows, w)
    z = ReduceSum <keepdims = 0> (y, first)
}""".replace("WEIGHTS", ", ".join(str(n / 8) for n in range(24)))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_chain_of_counted_parts_is_one_call(threads: int) -> None:
    random = np.random.default_rng(4)
    given = [
        {"x": random.integers(0, 8, (n, 8)).astype(np.float32), "t": np.array(t, np.float32)}
        for n, t in ((5, 5.5), (90, 6.5), (40, 9), (1, 0), (3000, 6.5))
    ]
    session = agree(CHAIN, *given, threads=threads)
    assert session._programs is not None
    program = session._programs.general
    assert all(isinstance(step, NativeStep) for step in program.steps)
    np.testing.assert_array_equal(at_once(session, given[1])[0], session.run(None, given[1])[0])


def at_once(session: InferenceSession, feeds: Feeds) -> list[Any]:
    """The results of one native call, which gets the memory that it needs by and by."""
    assert session._programs is not None
    flow = session._programs.general.flow
    assert flow is not None
    found = [results for _ in range(8) if (results := flow(feeds)) is not None]
    return found[0]


def test_arrays_with_another_object_for_their_type_go_the_short_way() -> None:
    feeds = {"x": np.ones((6, 8), np.float32), "t": np.array(0, np.float32)}
    session = agree(CHAIN, feeds)
    pickled = pickle.loads(pickle.dumps(feeds))
    np.testing.assert_array_equal(at_once(session, pickled)[0], session.run(None, feeds)[0])
    assert session._programs is not None
    flow = session._programs.general.flow
    assert flow is not None
    for other in (">f4", "i4", "f8"):
        assert flow({**feeds, "x": feeds["x"].astype(other)}) is None


def test_results_without_elements_need_no_kernels() -> None:
    text = CHAIN.replace(", float[3] z", "").replace("z = ReduceSum <keepdims = 0> (y, first)", "")
    feeds = {"x": np.zeros((6, 8), np.float32), "t": np.array(1, np.float32)}
    assert at_once(agree(text, feeds), feeds)[0].shape == (0, 3)


EMPTY = {
    "places": "g (TYPE[EXTENTS] x) => (int64[R, A] y) { y = NonZero (x) }",
    "slices": "g (TYPE[EXTENTS] x) => (TYPE[K] y) { c = Cast <to = 9> (x) y = Compress (x, c) }",
    "elements": "g (TYPE[EXTENTS] x) => (TYPE[K] y, int64[K] i, int64[N] j) { y,i,j = Unique (x) }",
}  # fmt: skip


@pytest.mark.parametrize("extents", ["N", "0", "N, M", "3, 0"])
@pytest.mark.parametrize("name", EMPTY)
def test_tensors_without_elements_have_none(name: str, extents: str) -> None:
    if name == "slices" and "," in extents:
        return  # a condition has one axis
    text = HEAD + EMPTY[name].replace("TYPE", "double").replace("EXTENTS", extents)
    model = parser.parse_model(text).SerializeToString()
    x = np.zeros((3, 0) if "," in extents else 0)
    reference = InferenceSession(model, providers=["ReferenceExecutionProvider"])
    compiled = InferenceSession(model)
    for _ in range(2):
        results = zip(compiled.run(None, {"x": x}), reference.run(None, {"x": x}), strict=True)
        for found, wanted in results:
            np.testing.assert_array_equal(found, wanted, strict=True)


def test_elements_of_what_a_run_finds_empty() -> None:
    text = """g (float[N] x, float t) => (float[K] y, int64[K] i) {
        c = Greater (x, t) part = Compress <axis = 0> (x, c) y, i = Unique <sorted = 0> (part) }"""
    feeds = {"x": np.array([3, 1, 3], np.float32)}
    agree(text, *({**feeds, "t": np.array(t, np.float32)} for t in (0, 5, 2)))


ROUTED = """f (float[N, 4] x, float[N] g) => (float[N, 4] y) {
    two = Constant <value = float {2.0}> ()
    zero = Constant <value = float {0.0}> ()
    is_mine = Greater (g, zero)
    found = NonZero (is_mine)
    rows = Transpose <perm = [1, 0]> (found)
    part = GatherND (x, rows)
    changed = Mul (part, two)
    y = ScatterND (x, rows, changed)
}"""
POOLED = """f (float[1, 3, 8, 8] x, float[N, 4] b, float[N] s) => (float[M, 3, 2, 2] y) {
    half = Constant <value = float {0.5}> ()
    image = Constant <value = int64 {0}> ()
    is_good = Greater (s, half)
    rows = Compress <axis = 0> (b, is_good)
    extents = Shape <start = 0, end = 1> (rows)
    images = Expand (image, extents)
    y = RoiAlign <output_height = 2, output_width = 2, sampling_ratio = 2> (x, rows, images)
}"""


def test_parts_that_a_condition_chooses_are_written_back() -> None:
    random = np.random.default_rng(5)
    given = [
        {
            "x": random.standard_normal((n, 4), np.float32),
            "g": random.standard_normal(n, np.float32),
        }
        for n in (5, 60, 17)
    ]
    agree(ROUTED, *given)
    given.append({**given[0], "g": np.full(5, -1, np.float32)})
    agree(ROUTED, *given)


def test_boxes_that_a_condition_chooses_are_pooled() -> None:
    random = np.random.default_rng(6)
    compiled, reference = sessions(POOLED)
    image = random.standard_normal((1, 3, 8, 8), np.float32)
    for count in (4, 30, 9, 9, 9, 9):
        corners = random.random((count, 2), np.float32) * 4
        feeds = {
            "x": image,
            "b": np.concatenate([corners, corners + 3], 1),
            "s": random.random(count, np.float32),
        }
        found, wanted = (session.run(None, feeds)[0] for session in (compiled, reference))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


BEHIND = {
    "DepthToSpace": "y = DepthToSpace <blocksize = 2> (some)",
    "Det": "y = Det (some)",
    "Einsum": """y = Einsum <equation = "nchw,nkhw->nck"> (some, some)""",
    "GlobalLpPool": "y = GlobalLpPool <p = 1> (some)",
}


@pytest.mark.parametrize("name", BEHIND)
def test_what_a_condition_chooses_is_computed_with(name: str) -> None:
    text = f"""f (float[N, 4, 2, 2] x, bool[N] c) => (float y) {{
        some = Compress <axis = 0> (x, c)
        {BEHIND[name]}
    }}"""
    random = np.random.default_rng(9)
    conditions = (random.random(7) < 0.5, np.zeros(3, bool), np.ones(30, bool))
    given = [
        {"x": random.integers(-4, 5, (c.size, 4, 2, 2)).astype(np.float32), "c": c}
        for c in conditions
    ]
    agree(text, *given)


FUSED = """f (float[N, 2, 4, 4] x, bool[N] c, float[3, 2, 3, 3] w, float[3, 32] v, float[3] b)
    => (float[A, 3, 4, 4] y, float[A, 3] z) <int64[2] s = {-1, 32}> {
    some = Compress <axis = 0> (x, c)
    added = com.microsoft.FusedConv <pads = [1, 1, 1, 1], activation = "Relu"> (some, w, b)
    y = com.microsoft.FusedConv <pads = [1, 1, 1, 1]> (some, w, b, added)
    rows = Reshape (some, s)
    z = com.microsoft.FusedGemm <transB = 1, activation = "Relu"> (rows, v, b)
}"""


def test_products_with_what_surrounds_them_of_what_a_condition_chooses() -> None:
    random = np.random.default_rng(8)

    def whole(*shape: int) -> Any:
        return random.integers(-4, 5, shape).astype(np.float32)

    given = [
        {"x": whole(n, 2, 4, 4), "c": c, "w": whole(3, 2, 3, 3), "v": whole(3, 32), "b": whole(3)}
        for n, c in ((5, random.random(5) < 0.5), (3, np.zeros(3, bool)), (40, np.ones(40, bool)))
    ]
    agree(FUSED, *given)


@pytest.mark.parametrize(("parts", "axis", "threads"), [(8, 1, 1), (17, 1, 2), (90, 0, 2)])
def test_very_many_parts_of_open_lengths_are_compiled(parts: int, axis: int, threads: int) -> None:
    names = [f"x{k}" for k in range(parts)]
    dims = "2, N{}" if axis else "N{}, 2"
    inputs = ", ".join(f"float[{dims.format(k)}] {name}" for k, name in enumerate(names))
    text = f"f ({inputs}) => (float[L, M] y) {{ y = Concat <axis = {axis}> ({', '.join(names)}) }}"
    options = SessionOptions(intra_op_num_threads=threads)
    session = InferenceSession(parser.parse_model(HEAD + text).SerializeToString(), options)
    assert all(place.kernels for place in session.placement())
    for first in (1, 0, 3):
        extents = [(first + 5 * k) % 7 for k in range(parts)]
        shapes = [(2, extent) if axis else (extent, 2) for extent in extents]
        arrays = [np.full(shape, k, np.float32) for k, shape in enumerate(shapes)]
        [found] = session.run(None, dict(zip(names, arrays, strict=True)))
        np.testing.assert_array_equal(found, np.concatenate(arrays, axis))


def test_what_counts_elements_may_read_what_is_refused() -> None:
    """Whose type nobody knows: it was taken for left out, and the session did not open."""
    text = """f (bool[N] e, float[N, 4] v) => (float[A, 4] y) {
        z = Constant <value_ints = [0]> () o = Constant <value_ints = [1]> ()
        b = Constant <value_ints = [99]> () a = Slice (v, o, b, z)
        c = Compress <axis = 0> (a, e) y = Compress <axis = 0> (c, e) }"""
    v = np.arange(12, dtype="f").reshape(3, 4)
    session = InferenceSession(parser.parse_model(HEAD + text).SerializeToString())
    with pytest.raises(FornixError, match="Compress"):
        session.run(None, {"e": np.array([True, False, True]), "v": v})


FOUND = """f (float[300, 300] a, float[300, 300] w, float t) => (float[A] best, int64[A] which) {
    p = MatMul (a, w)
    s = MatMul (p, w)
    c = Greater (s, t)
    i = NonZero (c)
    k = Transpose <perm = [1, 0]> (i)
    found = GatherND (s, k)
    few = Constant <value = int64[1] {5}> ()
    n = Shape (found)
    both = Concat <axis = 0> (few, n)
    least = ReduceMin <keepdims = 1> (both)
    best, which = TopK (found, least)
}"""


def test_where_nothing_is_found_steps_keep_their_short_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = SessionOptions(intra_op_num_threads=1)
    session = InferenceSession(parser.parse_model(HEAD + FOUND).SerializeToString(), options)
    random = np.random.default_rng(4)
    a, w = (random.random((300, 300), np.float32) for _ in range(2))
    long: list[NativeStep] = []
    run_long = NativeStep.run_long

    def noted(step: NativeStep, values: dict[Value, Any], run: Run) -> float:
        long.append(step)
        return run_long(step, values, run)

    monkeypatch.setattr(NativeStep, "run_long", noted)
    largest = np.sort((a @ w @ w).ravel())[::-1]
    for least, count in ((largest[4:6].mean(), 5), (1e9, 0)):
        for _ in range(4):
            long.clear()
            best, which = session.run(None, {"a": a, "w": w, "t": np.float32(least)})
            np.testing.assert_allclose(best, largest[:count], rtol=1e-4)
            assert which.shape == (count,)
        assert len(long) == 1  # the products
