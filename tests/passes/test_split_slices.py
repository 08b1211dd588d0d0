"""Slices whose bounds only a run tells: one axis at a time, they are compiled."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from fornix.runtime import InferenceSession

CROP = """<ir_version: 8, opset_import: ["" : 18]>
f (float[C, H, W] x, int64[2] from, int64[2] size) => (float[A, B, D] y)
<int64[2] axes = {%s}, int64[2] steps = {%s}> {
    to = Add (from, size)
    cut = Slice (x, from, to, axes, steps)
    y = Neg (cut)
}"""


def compiled(axes: str, steps: str) -> InferenceSession:
    model = parser.parse_model(CROP % (axes, steps))
    return InferenceSession(model, providers=["CPUExecutionProvider"])


def test_bounds_of_several_axes_are_no_matter_of_kernels() -> None:
    assert not any(place.reason for place in compiled("1, 2", "1, 1").placement())


@pytest.mark.parametrize("axes", ["0, 1", "1, 2", "2, 0", "-1, -3"])
@pytest.mark.parametrize("steps", ["1, 1", "2, 3"])
def test_each_axis_has_its_own_bounds(axes: str, steps: str, rng: np.random.Generator) -> None:
    session = compiled(axes, steps)
    places, strides = ([int(n) for n in text.split(",")] for text in (axes, steps))
    for _ in range(12):
        shape = rng.integers(1, 9, 3)
        x = rng.standard_normal(shape).astype(np.float32)
        first, size = rng.integers(-3, 9, 2), rng.integers(-2, 9, 2)
        cuts = [slice(None)] * 3
        for axis, a, n, step in zip(places, first.tolist(), size.tolist(), strides, strict=True):
            cuts[axis] = slice(a, a + n, step)
        for _ in range(3):
            (y,) = session.run(None, {"x": x, "from": first, "size": size})
            np.testing.assert_array_equal(y, -x[tuple(cuts)])


ONE = """<ir_version: 8, opset_import: ["" : 18]>
f (float[N, M] x, int64 i) => (float[A, M] y)
<int64 one = {1}, int64[1] first = {0}, int64[1] step = {1}> {
    next = Add (i, one)
    from = Unsqueeze (next, first)
    after = Add (one, next)
    to = Unsqueeze (after, first)
    cut = Slice (x, from, to, first, step)
    y = Neg (cut)
}"""


def test_an_entry_may_be_there_or_not(rng: np.random.Generator) -> None:
    model = parser.parse_model(ONE)
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    for place in (2, 3, 0, -1, -2, -5, 4, 5, 40, 2, -9):
        x = rng.standard_normal((5, 3)).astype(np.float32)
        for _ in range(3):
            (y,) = session.run(None, {"x": x, "i": np.array(place)})
            np.testing.assert_array_equal(y, -x[place + 1 : place + 2])


def test_it_has_one_entry_in_compiled_code() -> None:
    model = parser.parse_model(ONE)
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    assert not any(place.reason for place in session.placement())


WHOLE = """<ir_version: 8, opset_import: ["" : 18]>
f (%s[N, M] x, %s[1] from) => (%s[A, M] y) <%s[1] one = {1}, %s[1] axes = {0}> {
    to = Add (from, one)
    y = Slice (x, from, to, axes)
}"""


def entry(dtype: str, kind: str) -> InferenceSession:
    """x[from : from + 1] of elements of ``dtype``, where places are of ``kind``."""
    return InferenceSession(parser.parse_model(WHOLE % (dtype, kind, dtype, kind, kind)))


@pytest.mark.parametrize("dtype", ["float", "string", "complex64"])
@pytest.mark.parametrize("extents", [(0, 3), (5, 0), (0, 0), (2, 3)])
def test_where_there_is_no_entry_there_is_none_to_find(
    dtype: str, extents: tuple[int, int]
) -> None:
    x = np.zeros(extents, {"float": "f", "string": "O", "complex64": "F"}[dtype])
    session = entry(dtype, "int64")
    for place in (3, 0, -1, -4, 2**63 - 2):
        (y,) = session.run(None, {"x": x, "from": np.array([place])})
        assert y.shape == x[place : place + 1].shape


def test_places_may_be_of_32_bits() -> None:
    model = CROP.replace("int64[2]", "int32[2]") % ("1, 0", "1, 1")
    session = InferenceSession(parser.parse_model(model))
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    feeds = {"x": x, "from": np.array([1, 0], np.int32), "size": np.array([2, 1], np.int32)}
    np.testing.assert_array_equal(session.run(None, feeds)[0], -x[:1, 1:])
    (y,) = entry("float", "int32").run(None, {"x": x[0], "from": np.array([1], np.int32)})
    np.testing.assert_array_equal(y, x[0, 1:2])
