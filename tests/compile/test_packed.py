from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from fornix.compile import Target
from fornix.dtype import FLOAT32, INT8, INT32, UINT8, DType
from fornix.ir.loops import Tensor, apply, cast, compute, const, reduce, tensor
from fornix.ops.quantize_loops import lower_quantized, rounded_byte
from tests.compile.levels import OF_BYTES, target
from tests.compile.native import Runner

TYPES = [UINT8, INT8]
SPECIAL = [np.nan, np.inf, -np.inf, 3e38, -3e38, 2.0**31, -(2.0**31), 2.0**31 - 128, 65536.0, -0.0]
TIES = [0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, 128.5, 254.5, 255.5, -127.5, -128.5, -129.5]


def quotients(count: int) -> Any:
    """Numbers about the bounds of bytes, among them ties, and what is no number."""
    rng = np.random.default_rng(count)
    numbers = rng.uniform(-300, 300, count).astype(np.float32)
    chosen = rng.choice(np.array([*SPECIAL, *TIES], np.float32), count)
    return np.where(rng.random(count) < 0.5, chosen, numbers)


def expected(x: Any, zero: int, dtype: DType) -> Any:
    bounds = np.iinfo(dtype.numpy)
    steps = np.clip(np.rint(x.astype(np.float64)) + zero, bounds.min, bounds.max)
    return np.where(np.isnan(x), bounds.min, steps).astype(dtype.numpy)


@pytest.mark.parametrize("level", OF_BYTES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [33, 131])
def test_quotients_are_rounded_and_saturate(count: int, dtype: DType, level: str) -> None:
    x = quotients(count)
    read = tensor("x", (count,), FLOAT32)
    whole = compute((count,), lambda i: lower_quantized(read[i], None, dtype))
    (found,) = Runner([whole], target(level)).run({"x": x})
    np.testing.assert_array_equal(found, expected(x, 0, dtype))


@pytest.mark.parametrize("level", OF_BYTES)
@pytest.mark.parametrize("scale", [0.2, 0.0173, 3.0, 1 / 255, 2.0**-59 / 3, 2.0**59 / 3, 1e-30])
def test_numbers_next_to_ties_are_divided_as_by_the_division(scale: float, level: str) -> None:
    ties = (np.arange(-300, 300, dtype=np.float32) + np.float32(0.5)) * np.float32(scale)
    bits = ties.view(np.int32)[:, None] + np.arange(-4, 5, dtype=np.int32)
    far = np.array([1e-45, -1e-45, 3.4e38, *SPECIAL], np.float32)
    x = np.concatenate([bits.view(np.float32).ravel(), quotients(99), far])
    read = tensor("x", x.shape, FLOAT32)
    divisor = const(float(np.float32(scale)), FLOAT32)
    zero = const(7.0, FLOAT32)
    plain = compute(x.shape, lambda i: lower_quantized(read[i] / divisor, None, INT8))
    moved = compute(x.shape, lambda i: lower_quantized(read[i] / divisor, zero, UINT8))
    found = Runner([plain, moved], target(level)).run({"x": x})
    with np.errstate(over="ignore"):
        quotient = x / np.float32(scale)
    np.testing.assert_array_equal(found[0], expected(quotient, 0, INT8))
    np.testing.assert_array_equal(found[1], expected(quotient, 7, UINT8))


@pytest.mark.parametrize("level", OF_BYTES)
@pytest.mark.parametrize(("dtype", "zero"), [(UINT8, 255), (UINT8, 7), (INT8, -128), (INT8, 127)])
@pytest.mark.parametrize("is_stored", [False, True])
def test_zero_points_are_added_before_bytes_saturate(
    dtype: DType, zero: int, level: str, is_stored: bool
) -> None:
    x = quotients(150)
    read, origin = tensor("x", x.shape, FLOAT32), tensor("z", (1,), dtype)

    def at(i: Any) -> Any:
        number = const(zero, FLOAT32) if is_stored else cast(origin[0], FLOAT32)
        return lower_quantized(read[i], number, dtype)

    feeds = {"x": x} if is_stored else {"x": x, "z": np.array([zero], dtype.numpy)}
    (found,) = Runner([compute(x.shape, at)], target(level)).run(feeds)
    np.testing.assert_array_equal(found, expected(x, zero, dtype))


@pytest.mark.parametrize("level", OF_BYTES)
@pytest.mark.parametrize("dtype", TYPES)
def test_each_element_may_have_a_zero_point_of_its_own(dtype: DType, level: str) -> None:
    x = quotients(100)
    zeros = np.random.default_rng(1).integers(-100, 100, x.shape).astype(np.int8)
    zeros = np.abs(zeros).astype(np.uint8) if dtype is UINT8 else zeros
    read, origin = tensor("x", x.shape, FLOAT32), tensor("z", x.shape, dtype)
    whole = compute(x.shape, lambda i: lower_quantized(read[i], cast(origin[i], FLOAT32), dtype))
    (found,) = Runner([whole], target(level)).run({"x": x, "z": zeros})
    wanted = [expected(x[k : k + 1], int(z), dtype)[0] for k, z in enumerate(zeros)]
    np.testing.assert_array_equal(found, wanted)


def product(m: int, k: int, n: int) -> tuple[Tensor, dict[str, Any], Any]:
    """Sums of products of bytes, what they are computed of, and the sums by NumPy."""
    rng = np.random.default_rng(m * k * n)
    a, b = (rng.integers(-(2**31), 2**31, s).astype(np.int32) for s in ((m, k), (k, n)))
    x, y = tensor("a", a.shape, INT32), tensor("b", b.shape, INT32)
    sums = compute((m, n), lambda i, j: reduce("sum", k, lambda t: apply("dot4", x[i, t], y[t, j])))
    left = a.view(np.uint8).reshape(m, k, 4).astype(np.int64)
    right = np.ascontiguousarray(b).view(np.int8).reshape(k, n, 4).astype(np.int64)
    return sums, {"a": a, "b": b}, np.einsum("mkq,knq->mn", left, right)


@pytest.mark.parametrize("level", OF_BYTES)
@pytest.mark.parametrize(("m", "n"), [(5, 48), (33, 100)])
def test_sums_of_products_become_bytes(m: int, n: int, level: str) -> None:
    sums, feeds, exact = product(m, 32, n)
    whole = compute(
        (m, n), lambda i, j: lower_quantized(cast(sums[i, j], FLOAT32) * 2.0**-9, None, INT8)
    )
    (found,) = Runner([whole], target(level)).run(feeds)
    np.testing.assert_array_equal(found, expected((exact * 2.0**-9).astype(np.float32), 0, INT8))


@pytest.mark.parametrize("is_strict", [False, True])
def test_scaled_sums_are_rounded_once_unless_rounding_is_to_be_kept(is_strict: bool) -> None:
    sums, feeds, exact = product(7, 9, 33)
    scale, bias = np.float32(1.0 / 3), np.float32(1e4 / 7)
    host = dataclasses.replace(Target.host(), is_strict=is_strict)
    whole = compute((7, 33), lambda i, j: cast(sums[i, j], FLOAT32) * float(scale) + float(bias))
    (found,) = Runner([whole], host).run(feeds)
    twice = exact.astype(np.float32) * scale + bias
    once = (exact.astype(np.float32).astype(np.float64) * float(scale) + float(bias)).astype(
        np.float32
    )
    assert (once != twice).any()
    np.testing.assert_array_equal(found, once if host.fuses and not is_strict else twice)


def test_what_is_rounded_otherwise_is_not_taken_for_a_byte() -> None:
    x = tensor("x", (4,), FLOAT32)
    rounded = lower_quantized(x[0], const(3.0, FLOAT32), UINT8)
    assert rounded_byte(rounded) is not None
    other = cast(cast(x[0], INT32) + 3, UINT8)
    assert rounded_byte(other) is None
    assert rounded_byte(lower_quantized(x[0], None, INT32)) is None
