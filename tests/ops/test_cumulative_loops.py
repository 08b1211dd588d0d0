"""Running sums are added row to row where axes follow, else rows go side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.format.text import parse_model
from fornix.ir.load import from_message
from fornix.ops.cumulative_loops import LARGE_BYTES
from fornix.runtime import InferenceSession, OrtValue, SessionOptions

DTYPES = {"float": np.float32, "double": np.float64, "int32": np.int32, "int64": np.int64}
SHAPES = [
    (2, 3, 1),
    (1, 5, 15),
    (3, 4, 16),
    (2, 1, 17),
    (2, 4, 23),
    (2, 130, 23),
    (5, 7, 130),
    (4, 0, 20),
    (0, 3, 4),
]


def summed(x: Any, axis: int, *, is_exclusive: bool, is_reverse: bool) -> Any:
    turned = np.flip(x, axis) if is_reverse else x
    found = np.cumsum(turned, axis, dtype=x.dtype)
    if is_exclusive and x.size:
        ahead = np.zeros_like(np.take(x, [0], axis))
        found = np.concatenate([ahead, np.delete(found, -1, axis)], axis)
    return np.flip(found, axis) if is_reverse else found


def session(dtype: str, axis: int, threads: int = 1, **flags: bool) -> InferenceSession:
    given = ", ".join(f"{name} = {int(flag)}" for name, flag in flags.items())
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g ({dtype}[A, B, C] x) => ({dtype}[A, B, C] y) <int64 axis = {{{axis}}}> {{
      y = CumSum <{given}> (x, axis)
    }}"""
    options = SessionOptions()
    options.intra_op_num_threads = threads
    return InferenceSession(from_message(parse_model(text)), options)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sums_are_those_of_numpy(axis: int, dtype: str, exclusive: bool, reverse: bool) -> None:
    made = session(dtype, axis, exclusive=exclusive, reverse=reverse)
    assert all(place.kernels for place in made.placement())
    source = np.random.default_rng(0)
    for shape in SHAPES:
        x = (source.normal(size=shape) * 100).astype(DTYPES[dtype])
        [found] = made.run(None, {"x": x})
        wanted = summed(x, axis, is_exclusive=exclusive, is_reverse=reverse)
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == x.dtype


def test_what_is_no_number_stays_in_its_column() -> None:
    x = np.ones((1, 4, 20), np.float32)
    x[0, 1, 3], x[0, 2, 17] = np.nan, np.inf
    [found] = session("float", 1, exclusive=False, reverse=False).run(None, {"x": x})
    np.testing.assert_array_equal(found, np.cumsum(x, 1))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("reverse", [False, True])
def test_much_data_is_summed_in_wide_rows(reverse: bool, threads: int) -> None:
    x = np.random.default_rng(0).integers(-99, 99, (2, 270, 1031)).astype(np.int32)
    made = session("int32", 1, threads, exclusive=False, reverse=reverse)
    assert x.nbytes > LARGE_BYTES
    for part in (x, x[:, :, :40], x[:, :3], np.tile(x[:1, :30], (1, 1, 4))):
        wanted = summed(part, 1, is_exclusive=False, is_reverse=reverse)
        np.testing.assert_array_equal(made.run(None, {"x": part})[0], wanted)


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_of_any_number_keep_their_zeros_and_what_is_no_number(reverse: bool) -> None:
    made = session("float", 2, exclusive=False, reverse=reverse)
    for rows in range(1, 10):
        x = np.full((1, rows, 5), -0.0, np.float32)
        x[0, rows // 2, 2], x[0, rows - 1, 4] = np.nan, np.inf
        [found] = made.run(None, {"x": x})
        np.testing.assert_array_equal(found, summed(x, 2, is_exclusive=False, is_reverse=reverse))
        np.testing.assert_array_equal(np.signbit(found[found == 0]), True)


def test_threads_change_nothing_along_the_last_axis() -> None:
    x = np.random.default_rng(0).normal(size=(3, 101, 700)).astype(np.float32)
    one, two = (
        session("float", 2, threads=count, exclusive=False, reverse=False).run(None, {"x": x})
        for count in (1, 2)
    )
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[0], np.cumsum(x, 2))


def test_threads_change_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(40, 100, 150)).astype(np.float32)
    made = session("float", 1, threads=2, exclusive=False, reverse=False)
    np.testing.assert_array_equal(made.run(None, {"x": x})[0], np.cumsum(x, 1))


@pytest.mark.parametrize("extents", ["a, b, c", "3, 5, 19"])
def test_sums_lie_apart_from_what_they_read(extents: str) -> None:
    model = parse_model(f"""<ir_version: 8, opset_import: ["" : 18]>
    f (float[{extents}] x) => (float[{extents}] y) <int64 axis = {{1}}> {{
        e = Exp (x) z = CumSum (e, axis) w = CumSum <reverse = 1> (z, axis) y = Neg (w) }}""")
    x = np.random.default_rng(6).standard_normal((3, 5, 19)).astype(np.float32)
    z = np.cumsum(np.exp(x.astype(np.float64)), axis=1)
    expected = -np.cumsum(z[:, ::-1], axis=1)[:, ::-1]
    found = InferenceSession(model)
    for _ in range(3):
        np.testing.assert_allclose(found.run(None, {"x": x})[0], expected, rtol=1e-5)


def test_sums_may_be_bound_to_the_place_of_what_they_read() -> None:
    model = parse_model("""<ir_version: 8, opset_import: ["" : 18]>
    f (float[3, 5, 19] x) => (float[3, 5, 19] y) <int64 axis = {1}> { y = CumSum (x, axis) }""")
    found = InferenceSession(model)
    x = np.random.default_rng(7).standard_normal((3, 5, 19)).astype(np.float32)
    for _ in range(3):
        held = OrtValue.ortvalue_from_numpy(x.copy())
        binding = found.io_binding()
        binding.bind_ortvalue_input("x", held)
        binding.bind_ortvalue_output("y", held)
        found.run_with_iobinding(binding)
        np.testing.assert_allclose(held.numpy(), np.cumsum(x, axis=1), rtol=1e-4, atol=1e-5)
