"""Extents of inputs that have names of their own and are the same nevertheless."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper, parser

import fornix
import fornix.errors
from fornix.runtime.native import NativeStep

BODY = """(float[n, 3] x, float[m, 3] y, float[l, 3] w) => (float[k, 3] z)
{ a = Exp (x) b = Mul (a, y) c = Add (b, w) z = Softmax (c) }"""


def session(body: str = BODY) -> fornix.InferenceSession:
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> f {body}')
    return fornix.InferenceSession(model.SerializeToString())


def computed(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    powers = np.exp(np.exp(x) * y + w)
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def test_extents_that_meet_in_a_broadcast_leave_nothing_to_numpy() -> None:
    assert [place.reason for place in session().placement()] == ["", "", "", ""]


@pytest.mark.parametrize("first", [(4, 4, 4), (4, 1, 1), (1, 4, 1)])
def test_any_of_them_may_be_one_in_any_order_of_runs(
    first: tuple[int, int, int], rng: np.random.Generator
) -> None:
    s = session()
    others = [(4, 4, 4), (1, 4, 4), (4, 1, 1), (5, 1, 5), (1, 1, 1), (1, 1, 6), (4, 4, 1)]
    for rows in [first, *others, first]:
        x, y, w = (rng.standard_normal((n, 3)).astype(np.float32) for n in rows)
        (z,) = s.run(None, {"x": x, "y": y, "w": w})
        np.testing.assert_allclose(z, computed(x, y, w), rtol=1e-5)


def test_what_a_model_calls_the_extents_of_its_results_changes_nothing() -> None:
    s = session("(float[n, 3] x, float[m, 3] y) => (float[k, 3] z) { z = Add (x, y) }")
    assert [place.reason for place in s.placement()] == [""]
    assert [output.shape for output in s.get_outputs()] == [["k", 3]]
    for n, m in [(2, 2), (1, 3), (3, 1)]:
        x, y = np.ones((n, 3), np.float32), np.ones((m, 3), np.float32)
        np.testing.assert_array_equal(s.run(None, {"x": x, "y": y})[0], x + y)


def test_those_that_differ_are_refused(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((2, 2, 3)).astype(np.float32)
    with pytest.raises(fornix.errors.ShapeError, match="shapes must broadcast"):
        session().run(None, {"x": x, "y": y, "w": np.ones((3, 3), np.float32)})


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Reshape (x, s) y = Reshape (a, t)",
        "a = Reshape (x, s) b = Flatten <axis = 0> (a) y = Reshape (b, t)",
        "a = Reshape (x, s) y = Identity (a)",
        "a = Reshape (x, s) b = Relu (a) y = Reshape (b, t)",
    ],
)
@pytest.mark.parametrize("declared", ["float y", "float[6] y", "float[2, 3] y"])
@pytest.mark.parametrize("x", ["float[6] x", "float[N] x"])
def test_a_shape_that_is_fed_is_checked_whatever_follows(nodes: str, declared: str, x: str) -> None:
    runs = session(f"({x}, int64[2] s) => ({declared}) <int64[2] t = {{2, 3}}> {{ {nodes} }}")
    feed = np.arange(6, dtype=np.float32)
    with pytest.raises(
        fornix.errors.ShapeError, match=r"data\[6\] has 6 elements, which do not fill \[4, 4\]"
    ):
        runs.run(None, {"x": feed, "s": np.array([4, 4])})
    [y] = runs.run(None, {"x": feed, "s": np.array([2, 3])})
    assert y.tolist() == [[0, 1, 2], [3, 4, 5]]


TABLE = """(float[B, n, 4] x) => (float[B, n, 4] y, float[B, k, 4] z)
<int64 all = {300}, int64 one = {1}, int64[1] axes = {0},
 int64[1] far = {9223372036854775807}> {
    shape = Shape (x)
    n0 = Gather (shape, one)
    rest = Sub (all, n0)
    start = Unsqueeze (rest, axes)
    last = Slice (table, start, far, axes)
    y = Add (x, last)
    plain = Exp (last)
    z = Add (x, plain)
}"""


def positions(rng: np.random.Generator) -> tuple[fornix.InferenceSession, np.ndarray]:
    """A session of TABLE, and what its table holds."""
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> f {TABLE}')
    table = rng.standard_normal((300, 4)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(table, "table"))
    return fornix.InferenceSession(model.SerializeToString()), table


def test_the_last_positions_of_a_table_are_cut_by_machine_code(rng: np.random.Generator) -> None:
    s, _ = positions(rng)
    assert {place.reason for place in s.placement()} == {""}


@pytest.mark.parametrize("first", [5, 300, 400])
def test_beyond_the_table_positions_count_from_the_end(
    first: int, rng: np.random.Generator
) -> None:
    s, table = positions(rng)
    for n in (first, 5, 300, 301, 1, 599, 299, first):
        start = 300 - n
        found = table[start if start >= 0 else start + 300 :]
        if len(found) not in {n, 1}:
            with pytest.raises(fornix.errors.ShapeError, match="shapes must broadcast"):
                s.run(None, {"x": np.zeros((2, n, 4), np.float32)})
            continue
        x = rng.standard_normal((2, n, 4)).astype(np.float32)
        y, z = s.run(None, {"x": x})
        np.testing.assert_allclose(y, x + found, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(z, x + np.exp(found), rtol=1e-5, atol=1e-6)


SHARED = """(float[p, 4] before, float[s, 4] x) => (float[t, 4] y)
<int64 all = {300}, int64 zero = {0}, int64[1] axes = {0},
 int64[1] far = {9223372036854775807}> {
    p0 = Shape (before)
    p1 = Gather (p0, zero)
    s0 = Shape (x)
    s1 = Gather (s0, zero)
    n = Add (p1, s1)
    rest = Sub (all, n)
    start = Unsqueeze (rest, axes)
    last = Slice (table, start, far, axes)
    rows = Concat <axis = 0> (before, x)
    y = Add (rows, last)
}"""


@pytest.mark.parametrize("first", [(7, 1), (299, 1), (200, 150)])
def test_rows_of_before_and_new_ones_share_a_table(
    first: tuple[int, int], rng: np.random.Generator
) -> None:
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> f {SHARED}')
    table = rng.standard_normal((300, 4)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(table, "table"))
    s = fornix.InferenceSession(model.SerializeToString())
    assert {place.reason for place in s.placement()} == {""}
    # As many as there are in the table, in every way; more of them, which count from the end.
    within = [(7, 1), (299, 1), (1, 299), (100, 200), (0, 300), (300, 0), (298, 1)]
    beyond = [(300, 1), (299, 2), (1, 300), (299, 299), (300, 299), (150, 151)]
    for p, n in [first, *within, *beyond, (7, 1)]:
        before, x = (rng.standard_normal((m, 4)).astype(np.float32) for m in (p, n))
        start = 300 - p - n
        found = table[start if start >= 0 else start + 300 :]
        if len(found) not in {p + n, 1}:
            with pytest.raises(fornix.errors.ShapeError, match="shapes must broadcast"):
                s.run(None, {"before": before, "x": x})
            continue
        (y,) = s.run(None, {"before": before, "x": x})
        np.testing.assert_allclose(y, np.concatenate([before, x]) + found, rtol=1e-6, atol=1e-6)


LENGTHS = """(float[B, n] x) => (float[B, k] y)
<float[1, 1, 5] w = {1, 2, 3, 4, 5}, int64[1] one = {1}, int64 two = {2}, int64 five = {5},
 int64 single = {1}, int64[1] axes = {0}, int64[1] all = {-1}> {
    image = Unsqueeze (x, one)
    a = Conv <strides = [2]> (image, w)
    b = Conv <strides = [2]> (a, w)
    flat = Squeeze (b, one)
    shape = Shape (x)
    n0 = Gather (shape, single)
    n1 = Sub (n0, five)
    n2 = Div (n1, two)
    n3 = Add (n2, single)
    n4 = Sub (n3, five)
    n5 = Div (n4, two)
    n6 = Add (n5, single)
    zero = Sub (single, single)
    places = Range (zero, n6, single)
    shifts = Cast <to = 1> (places)
    y = Add (flat, shifts)
}"""


def test_lengths_that_a_model_computes_are_those_that_convolutions_leave(
    rng: np.random.Generator,
) -> None:
    s = session(LENGTHS)
    assert {place.reason for place in s.placement()} == {""}
    w = np.arange(1, 6)
    for n in (30, 13, 14, 29, 13, 30):
        x = rng.integers(-3, 4, (2, n)).astype(np.float32)
        a = np.stack([x[:, k : k + 5] @ w for k in range(0, n - 4, 2)], 1)
        b = np.stack([a[:, k : k + 5] @ w for k in range(0, a.shape[1] - 4, 2)], 1)
        (y,) = s.run(None, {"x": x})
        np.testing.assert_array_equal(y, b + np.arange(b.shape[1]))
    with pytest.raises(fornix.errors.FornixError):
        s.run(None, {"x": np.ones((2, 8), np.float32)})


RELATIVE = """(float[B, n] x) => (float[k] y)
<int64 two = {2}, int64 single = {1}, int64 around = {300}, int64[1] axes = {0},
 int64[1] columns = {1}> {
    shape = Shape (x)
    n0 = Gather (shape, single)
    n1 = Div (n0, two)
    n2 = Add (n1, single)
    before = Sub (around, n2)
    after = Add (around, n2)
    last = Sub (after, single)
    start = Unsqueeze (before, axes)
    end = Unsqueeze (last, axes)
    part = Slice (table, start, end, axes)
    grown = Exp (part)
    y = ReduceSum <keepdims = 0> (grown, columns)
}"""


@pytest.mark.parametrize("first", [30, 598, 700])
def test_positions_on_both_sides_of_the_middle_of_a_table_are_cut_by_machine_code(
    first: int, rng: np.random.Generator
) -> None:
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> f {RELATIVE}')
    table = rng.standard_normal((599, 4)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(table, "table"))
    s = fornix.InferenceSession(model.SerializeToString())
    assert {place.reason for place in s.placement()} == {""}
    for n in (first, 1, 2, 597, 598, 599, 600, 601, 1197, 2000, first):
        rows = n // 2 + 1
        (y,) = s.run(None, {"x": np.zeros((2, n), np.float32)})
        found = np.exp(table[300 - rows : 299 + rows]).sum(1)
        np.testing.assert_allclose(y, found, rtol=1e-5)


MASK = """(int64[n, l] ids, float[m, k] mask) => (float[b, s, t] y)
<int64[1] last = {-1}, int64[1] middle = {1},
 float[5, 2] words = {1, 2, 3, -1, 0, 2, 1, -2, 3, 1}> {
    first = Shape <start = 0, end = 1> (ids)
    shape = Concat <axis = 0> (first, last)
    rows = Reshape (mask, shape)
    row = Unsqueeze (rows, middle)
    e = Gather (words, ids)
    f = Transpose <perm = [0, 2, 1]> (e)
    scores = MatMul (e, f)
    y = Add (scores, row)
}"""


def test_a_mask_that_is_reshaped_to_the_rows_of_a_text_has_its_extents(
    rng: np.random.Generator,
) -> None:
    s = session(MASK)
    assert {place.reason for place in s.placement()} == {""}
    words = np.array([[1, 2], [3, -1], [0, 2], [1, -2], [3, 1]], np.float32)
    for text, masked in [
        ((2, 3), (2, 3)),
        ((1, 4), (1, 4)),
        ((2, 3), (3, 2)),  # as many numbers in other rows
        ((2, 3), (1, 2)),  # one for each text
        ((2, 1), (2, 4)),  # several for each place
        ((2, 3), (2, 3)),
    ]:
        ids, mask = rng.integers(0, 5, text), rng.standard_normal(masked).astype(np.float32)
        e = words[ids]
        expected = e @ e.transpose(0, 2, 1) + mask.reshape(text[0], 1, -1)
        np.testing.assert_allclose(s.run(None, {"ids": ids, "mask": mask})[0], expected, rtol=1e-5)


CACHE = """(float[b, p, 4] before, float[b, s, 4] x, float[b, 1, t] mask) => (float[b, s, u] y)
{
    keys = Concat <axis = 1> (before, x)
    turned = Transpose <perm = [0, 2, 1]> (keys)
    scores = MatMul (x, turned)
    masked = Add (scores, mask)
    y = Softmax (masked)
}"""


@pytest.mark.parametrize("declared", ["", "float[b, s, t] masked"])
def test_a_mask_has_as_many_numbers_as_there_are_keys_before_and_now(
    declared: str, rng: np.random.Generator
) -> None:
    s = session(CACHE.replace("\n{", f"\n<{declared}> {{"))
    assert {place.reason for place in s.placement()} == {""}
    for b, p, n, t in [(1, 5, 1, 6), (2, 3, 4, 7), (1, 9, 1, 1), (1, 10, 2, 1), (1, 7, 2, 9)]:
        before, x = (rng.standard_normal((b, m, 4)).astype(np.float32) for m in (p, n))
        mask = rng.standard_normal((b, 1, t)).astype(np.float32)
        scores = x @ np.concatenate([before, x], 1).transpose(0, 2, 1) + mask
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        (y,) = s.run(None, {"before": before, "x": x, "mask": mask})
        np.testing.assert_allclose(y, powers / powers.sum(-1, keepdims=True), rtol=1e-5)
    with pytest.raises(fornix.errors.ShapeError, match="shapes must broadcast"):
        s.run(None, {"before": before, "x": x, "mask": np.ones((1, 1, 8), np.float32)})


PYRAMID = """(float[1, 1, h, w] x) => (float[1, 1, a, b] y)
<float[4] twice = {1, 1, 2, 2}> {
    half = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
    quarter = MaxPool <kernel_shape = [1, 1], strides = [2, 2]> (half)
    eighth = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (quarter)
    wide = Resize <mode = "nearest"> (eighth, , twice)
    sum = Add (quarter, wide)
    wider = Resize <mode = "nearest"> (sum, , twice)
    y = Mul (half, wider)
}"""


def scaled(x: np.ndarray) -> np.ndarray:
    """What PYRAMID computes, where it does."""

    def halved(image: np.ndarray) -> np.ndarray:
        rows, columns = (n // 2 * 2 for n in image.shape)
        image = image[:rows, :columns]
        return np.maximum.reduce([image[i::2, j::2] for i in (0, 1) for j in (0, 1)])

    half = halved(x)
    quarter = half[::2, ::2]
    wide = np.kron(halved(quarter), np.ones((2, 2)))
    return np.asarray(half * np.kron(quarter + wide, np.ones((2, 2))))


def test_an_image_that_is_halved_and_doubled_is_a_multiple(rng: np.random.Generator) -> None:
    s = session(PYRAMID)
    assert {place.reason for place in s.placement()} == {""}
    for h, w in [(8, 16), (24, 8), (9, 16), (16, 25), (8, 24), (17, 9)]:  # odd rows are left out
        x = rng.standard_normal((h, w)).astype(np.float32)
        (y,) = s.run(None, {"x": x[None, None]})
        np.testing.assert_allclose(y[0, 0], scaled(x), rtol=1e-6)
    with pytest.raises(fornix.errors.ShapeError, match="shapes must broadcast"):
        s.run(None, {"x": np.ones((1, 1, 12, 16), np.float32)})


PRODUCTS = [
    ("ij,jk->ik", "ij", "jk"),
    ("ij,ik->jk", "ij", "ik"),
    ("ij,ij->", "ij", "ij"),
    ("ii,i->", "ii", "i"),
    ("bij,bjk->bk", "bij", "bjk"),
]


@pytest.mark.parametrize(("equation", "left", "right"), PRODUCTS)
def test_axes_that_einsum_sums_are_taken_for_equal_and_may_be_one(
    equation: str, left: str, right: str, rng: np.random.Generator
) -> None:
    axes = [f"n{place}" for place in range(len(left + right))]
    rank = len(left)
    s = session(
        f"(float[{', '.join(axes[:rank])}] x, float[{', '.join(axes[rank:])}] w) => (float[] y) "
        f'{{ y = Einsum <equation = "{equation}"> (x, w) }}'
    )
    assert {place.reason for place in s.placement()} == {""}
    for broadcast in (False, True, False):
        extents = dict(zip("bijk", rng.integers(2, 40, 4).tolist(), strict=True))
        x = rng.standard_normal([extents[label] for label in left]).astype(np.float32)
        w = rng.standard_normal([extents[label] for label in right]).astype(np.float32)
        if broadcast:  # the last axis that both have
            shared = next(axis for axis, label in enumerate(right) if label in left)
            w = w.take([0], axis=shared)
        full = np.broadcast_to(w, [extents[label] for label in right])
        expected = np.einsum(equation, x.astype(np.float64), full.astype(np.float64))
        for _ in range(2):
            (y,) = s.run(None, {"x": x, "w": w})
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(fornix.errors.ShapeError, match="one label must have one extent"):
        s.run(None, {"x": x, "w": np.ones([n + 1 for n in full.shape], np.float32)})


def test_parts_that_are_joined_are_taken_to_be_alike_elsewhere(rng: np.random.Generator) -> None:
    s = session("""(float[n, c, h, w] x, float[n2, c2, h2, w2] z) => (float[] y)
    { y = Concat <axis = 1> (x, z) }""")
    assert s._programs is not None
    (step,) = s._programs.whole.steps
    assert isinstance(step, NativeStep)
    assert [x.code.symbols for x in step.units] == [("n", "c", "h", "w", "c2")]
    for shape in [(2, 3, 4, 5), (1, 1, 7, 1), (2, 0, 4, 5), (2, 3, 4, 5)]:
        x = rng.standard_normal(shape).astype(np.float32)
        z = rng.standard_normal((shape[0], 3, *shape[2:])).astype(np.float32)
        (y,) = s.run(None, {"x": x, "z": z})
        assert np.array_equal(y, np.concatenate([x, z], axis=1))
    with pytest.raises(fornix.errors.ShapeError, match="must agree, found"):
        s.run(None, {"x": x, "z": z[:, :, :1]})


def test_scales_are_taken_to_be_as_many_as_there_are_along_an_axis(
    rng: np.random.Generator,
) -> None:
    s = session("""(float[n, c, h] x, float[c2] s, uint8[c3] o) => (uint8[] y, float[] z)
    { y = QuantizeLinear (x, s, o) z = DequantizeLinear (y, s, o) }""")
    assert {place.reason for place in s.placement()} == {""}
    for shape, count in [((2, 3, 5), 3), ((2, 3, 5), 1), ((4, 1, 2), 1), ((2, 7, 5), 7)]:
        x = rng.standard_normal(shape).astype(np.float32)
        scale = 2.0 ** rng.integers(-6, -3, count).astype(np.float32)
        zero = rng.integers(100, 150, count).astype(np.uint8)
        column, origin = scale[:, np.newaxis], zero[:, np.newaxis].astype(np.float32)
        steps = np.clip(np.rint(x / column) + origin, 0, 255)
        for _ in range(2):
            y, z = s.run(None, {"x": x, "s": scale, "o": zero})
            assert np.array_equal(y, steps)
            assert np.array_equal(z, (steps - origin) * column)
    with pytest.raises(fornix.errors.ShapeError, match="y_scale must be one number or have one"):
        s.run(None, {"x": x, "s": scale[:2], "o": zero[:2]})


def test_scales_that_are_stored_tell_how_many_there_are_along_their_axis(
    rng: np.random.Generator,
) -> None:
    s = session("""(float[n, c] x, uint8[m, k] b) => (uint8[] y, int32[] z)
    <float[3] s = {0.25, 0.5, 1}, uint8[3] o = {1, 2, 3}, uint8[2, 3] l = {1, 2, 3, 4, 5, 6}>
    { y = QuantizeLinear (x, s, o) t = Transpose (b) z = MatMulInteger (l, t, , o) }""")
    assert {place.reason for place in s.placement()} == {""}
    left, zero = np.arange(1, 7).reshape(2, 3), np.array([1, 2, 3])
    for _ in range(2):
        x, b = rng.standard_normal((3, 3)).astype(np.float32), rng.integers(0, 9, (3, 3))
        y, z = s.run(None, {"x": x, "b": b.astype(np.uint8)})
        assert np.array_equal(y, np.clip(np.rint(x / [0.25, 0.5, 1]) + zero, 0, 255))
        assert np.array_equal(z, left @ (b.T - zero))
    with pytest.raises(fornix.errors.ShapeError, match="y_scale must be one number or have one"):
        s.run(None, {"x": x[:, :2], "b": b.astype(np.uint8)})


def test_heads_are_taken_to_be_as_many_of_keys_as_of_queries(rng: np.random.Generator) -> None:
    model = parser.parse_model("""<ir_version: 10, opset_import: ["" : 23]>
    f (float[b, h, s, d] q, float[b2, g, t, d2] k, float[b3, g2, t2, e] v) => (float[] y)
    { y = Attention (q, k, v) }""")
    s = fornix.InferenceSession(model.SerializeToString())
    assert {place.reason for place in s.placement()} == {""}
    reference = fornix.ReferenceEvaluator(model)
    for heads, groups in [(4, 4), (4, 2), (1, 1), (6, 6)]:
        q, k, v = (
            rng.standard_normal(shape).astype(np.float32)
            for shape in [(2, heads, 3, 8), (2, groups, 5, 8), (2, groups, 5, 4)]
        )
        (expected,) = reference.run(None, {"q": q, "k": k, "v": v})
        for _ in range(2):
            (y,) = s.run(None, {"q": q, "k": k, "v": v})
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", ["c", "2"])
def test_places_of_maxima_are_taken_to_be_as_many_as_maxima(
    channels: str, rng: np.random.Generator
) -> None:
    s = session(f"""(float[n, {channels}, h, w] x, int64[n2, c2, h2, w2] i) => (float[] y)
    {{ y = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (x, i) }}""")
    assert {place.reason for place in s.placement()} == {""}
    for shape in [(1, 2, 3, 4), (2, 2, 5, 1), (1, 2, 3, 4)]:
        x = rng.standard_normal(shape).astype(np.float32)
        i = rng.permutation(x.size * 4)[: x.size].reshape(shape)
        (y,) = s.run(None, {"x": x, "i": i})
        expected = np.zeros(x.size * 4, np.float32)
        expected[i.ravel()] = x.ravel()
        assert np.array_equal(y.ravel(), expected)
    with pytest.raises(fornix.errors.ShapeError, match="I must have the shape of X"):
        s.run(None, {"x": x, "i": i[:, :1]})


def test_a_slice_may_begin_where_a_quotient_of_extents_says_that_may_be_of_none() -> None:
    body = """(float[n] x) => (float[k] z)
    <int64[1] eight = {8}, int64[1] before = {-1}, int64[1] far = {1000}, int64[1] axes = {0}>
    {
      s = Shape (x)
      chunks = Div (s, eight)
      last = Mod (before, chunks)
      y = Slice (x, last, far, axes)
      z = Neg (y)
    }"""
    s = session(body)
    for n in (16, 8, 25, 160):
        x = np.arange(n, dtype=np.float32)
        np.testing.assert_array_equal(s.run(None, {"x": x})[0], -x[n // 8 - 1 :])
