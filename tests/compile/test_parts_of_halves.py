"""Factors of float16 and bfloat16 in tile registers: two parts and one, in products of floats."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from fornix.compile import Target
from fornix.compile.blocked import blocked_buffer
from fornix.compile.parts import PRODUCTS, count_of, products_of
from fornix.compile.schedule import parts, square_cost
from fornix.compile.schedule import square_floats as floats
from fornix.dtype import BFLOAT16, FLOAT16, FLOAT32, INT8, INT32, UINT32, DType
from fornix.ir.dim import symbol
from fornix.ir.loops import Store, Tensor, Variable, apply, cast, compute, constant, reduce, tensor
from fornix.ops import scalar as s
from fornix.ops.conv import lower_conv
from tests.compile.native import Runner
from tests.compile.test_parts import LEFT_OUT, ROUNDING, is_in_parts

multiplies_tiles = pytest.mark.skipif(
    not Target.host().has("amx-bf16"), reason="the processor has no tile registers for bfloat16s"
)
MIXED = [
    (a, b)
    for a, b in itertools.product([FLOAT16, BFLOAT16, FLOAT32], repeat=2)
    if {a, b} != {FLOAT32} and {a, b} != {BFLOAT16}
]
"""Types of factors; those of bfloat16 alone are multiplied as they are."""
rng = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def _in_parts_if_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_pays", lambda *_: True)
    monkeypatch.setattr(parts, "LEAST_ROWS", 24)
    monkeypatch.setattr(floats, "GAIN", 0.0)
    monkeypatch.setattr("fornix.compile.schedule.winograd_stages", lambda *_: None)


def numbers(dtype: DType, *shape: int) -> Any:
    """Numbers of several magnitudes."""
    scale = 2.0 ** rng.integers(-6, 7, shape)
    return (rng.standard_normal(shape) * scale).astype(dtype.numpy)


def product(x: Tensor, w: Tensor) -> Tensor:
    """The product in float32."""
    (m, k), n = x.shape, w.shape[1]

    def term(i: Any, j: Any, t: Any) -> Any:
        return cast(x[i, t], FLOAT32) * cast(w[t, j], FLOAT32)

    return compute((m, n), lambda i, j: reduce("sum", k, lambda t: term(i, j, t)))


def assert_near(found: Any, a: Any, b: Any) -> None:
    """``found`` is a · b but for the rounding of sums, and what is left out of float32s."""
    left_out = LEFT_OUT if np.dtype(np.float32) in {a.dtype, b.dtype} else 0
    a, b = a.astype(np.float64), b.astype(np.float64)
    bound = (left_out + a.shape[-1] * ROUNDING) * (np.abs(a) @ np.abs(b))
    assert (np.abs(found - a @ b) <= bound).all()


def test_numbers_of_fewer_bits_have_fewer_parts() -> None:
    given = [tensor("x", (3,), dtype)[0] for dtype in (BFLOAT16, FLOAT16, FLOAT32)]
    assert [count_of(cast(e, FLOAT32)) for e in given] == [1, 2, 3]
    half = cast(given[1], FLOAT32)
    assert count_of(s.maximum(half, 0.0)) == 2
    assert count_of(half * half) == 3
    byte, word = (tensor("w", (3,), dtype)[0] for dtype in (INT8, INT32))
    field = apply("shr", apply("shl", word, 8), 24)
    small = byte, field, field - cast(byte, INT32), apply("shr", word, 23), word
    assert [count_of(cast(e, FLOAT32)) for e in small] == [1, 1, 1, 1, 3]
    assert count_of(cast(field + field + field, FLOAT32)) == 3
    assert count_of(cast(cast(byte, UINT32), FLOAT32)) == 3
    assert len(products_of(3, 3)) == len(PRODUCTS) == 6
    assert [len(products_of(*n)) for n in ((1, 1), (1, 3), (2, 2), (3, 2))] == [1, 3, 4, 5]


@multiplies_tiles
@pytest.mark.parametrize(("left", "right"), MIXED)
@pytest.mark.parametrize(("m", "k", "n"), [(24, 33, 16), (47, 96, 48), (40, 800, 70)])
@pytest.mark.parametrize("is_stored", [True, False])
def test_halves_lose_nothing(
    left: DType, right: DType, m: int, k: int, n: int, is_stored: bool
) -> None:
    a, b = numbers(left, m, k), numbers(right, k, n)
    x, w = tensor("a", a.shape, left), constant(b) if is_stored else tensor("b", b.shape, right)
    y = product(x, w)
    assert is_in_parts(y, Target.host())
    feeds = {"a": a} if is_stored else {"a": a, "b": b}
    runs = [Runner([y], chunks=chunks).run(feeds)[0] for chunks in (1, 3)]
    assert_near(runs[0], a, b)
    np.testing.assert_array_equal(runs[0], runs[1])


@multiplies_tiles
@pytest.mark.parametrize(("left", "right"), MIXED)
def test_any_number_of_rows_of_halves(left: DType, right: DType) -> None:
    b = numbers(right, 45, 50)
    runner = Runner([product(tensor("a", (symbol("M"), 45), left), constant(b))])
    for m in (1, 7, 23, 24, 33, 95):
        a = numbers(left, m, 45)
        assert_near(runner.run({"a": a}, {"M": m})[0].reshape(m, 50), a, b)


@multiplies_tiles
def test_the_smallest_numbers_of_float16_are_multiplied() -> None:
    whole = rng.integers(-900, 900, (40, 64))
    a = (whole * 2.0**-24).astype(np.float16)
    b = rng.integers(-15, 15, (64, 48)).astype(np.float16)
    found = Runner([product(tensor("a", a.shape, FLOAT16), constant(b))]).run({"a": a})[0]
    np.testing.assert_array_equal(found, whole @ b.astype(np.float64) * 2.0**-24)


@multiplies_tiles
@pytest.mark.parametrize("strange", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16])
def test_halves_that_are_not_finite_are_multiplied_as_float32s(
    strange: float, dtype: DType
) -> None:
    a, b = np.abs(numbers(dtype, 40, 64)), numbers(FLOAT16, 64, 48)
    a[3, 5], b[5, 7], b[9, 8] = strange, 0, strange
    with np.errstate(invalid="ignore"):
        wanted = a.astype(np.float32) @ b.astype(np.float32)
    found = Runner([product(tensor("a", a.shape, dtype), constant(b))]).run({"a": a})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3, equal_nan=True)


@multiplies_tiles
@pytest.mark.parametrize("way", ["pieces", "panels"])
@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16])
@pytest.mark.parametrize(
    ("channels", "filters", "taps", "stride"),
    [(32, 33, 1, 1), (96, 48, 1, 2), (64, 96, 3, 1), (48, 40, 3, 2)],
)
def test_images_of_halves_lose_nothing(
    channels: int,
    filters: int,
    taps: int,
    stride: int,
    dtype: DType,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (floats, square_cost):
        monkeypatch.setattr(module, "weights_are_larger", lambda *_: way == "panels")
    strict = "fornix.compile.schedule.convolution_in_halves"  # which would take those of bfloat16
    monkeypatch.setattr(strict, lambda *_: None)
    x, w = numbers(dtype, 1, channels, 11, 14), numbers(dtype, filters, channels, taps, taps)
    x = (x.astype(np.float64) / 2**8).astype(dtype.numpy)  # so that float16 holds the results
    image = Tensor(x.shape, dtype, buffer=blocked_buffer("x", x.shape, dtype, 16))
    y = lower_conv(image, constant(w), pads=[taps // 2] * 4, strides=[stride] * 2)
    buffer = blocked_buffer("y", y.shape, y.dtype, 16)
    axes = tuple(Variable("i", n) for n in y.shape)
    place = tuple(a.dim for a in axes)
    buffer.source = Store(buffer, axes, buffer.address(place), y[place])
    result = Tensor(y.shape, y.dtype, buffer=buffer)
    assert is_in_parts(result, Target.host())
    runs = [Runner([result], chunks=n).run({"x": x})[0] for n in (1, 3)]
    given = [torch.from_numpy(e.astype(np.float64)) for e in (x, w)]
    exact = torch.nn.functional.conv2d(*given, stride=stride, padding=taps // 2).numpy()
    eps = {FLOAT16: 2.0**-11, BFLOAT16: 2.0**-8}[dtype]
    np.testing.assert_allclose(runs[0].astype(np.float64), exact, rtol=1.01 * eps, atol=1e-3)
    assert runs[0].tobytes() == runs[1].tobytes()
