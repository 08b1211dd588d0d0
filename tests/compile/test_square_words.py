from __future__ import annotations

import dataclasses
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.blocked import blocked_buffer
from fornix.compile.nest import Chunks, Loop, Patch
from fornix.compile.schedule import schedule
from fornix.dtype import BFLOAT16, FLOAT32, DType
from fornix.ir.dim import symbol
from fornix.ir.loops import Store, Tensor, Variable, constant, stored, tensor
from fornix.ops.conv import lower_conv
from tests.compile.native import Runner
from tests.compile.test_square_floats import convolved

pytestmark = pytest.mark.skipif(
    not Target.host().has("amx-bf16"), reason="the processor has no tile registers for bfloat16s"
)
ROUNDED = dataclasses.replace(Target.host(), rounds_products=True)
ROUNDING = 2.0**-24
CASES: list[tuple[int, tuple[int, int], int, tuple[int, int], dict[str, Any]]] = [
    (3, (40, 41), 64, (7, 7), {"pads": [3] * 4, "strides": [2, 2]}),
    (3, (18, 35), 40, (3, 3), {"pads": [1] * 4}),
    (4, (9, 50), 33, (5, 3), {"pads": [0, 1, 2, 0], "strides": [1, 2]}),
    (2, (12, 16), 48, (3, 5), {"pads": [1, 2, 1, 2]}),
    (7, (6, 37), 64, (3, 3), {"pads": [2, 1, 2, 1], "dilations": [2, 1]}),
    (5, (5, 40), 96, (3, 2), {}),
]
"""Channels, height and width, filters, taps, window."""
rng = np.random.default_rng(5)


def numbers(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32).astype(ml_dtypes.bfloat16)


def in_blocks(x: Tensor) -> Tensor:
    """``x``, stored in blocks of channels."""
    buffer = blocked_buffer("y", x.shape, x.dtype, 16)
    axes = tuple(Variable("i", n) for n in x.shape)
    place = tuple(a.dim for a in axes)
    buffer.source = Store(buffer, axes, buffer.address(place), x[place])
    return Tensor(x.shape, x.dtype, buffer=buffer)


def has_tiles(x: Tensor, target: Target) -> bool:
    """Whether ``x`` is computed in tile registers."""
    buffer = stored(x).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    waiting: list[Any] = [s for p in schedule(buffer.source, target) for s in p.nest.body]
    while waiting:
        here = waiting.pop()
        if isinstance(here, Patch) and here.square is not None:
            return True
        waiting += here.body if isinstance(here, Chunks | Loop) else ()
    return False


@pytest.mark.parametrize("number", range(len(CASES)))
@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16])
@pytest.mark.parametrize("at_end", [False, True])
def test_images_of_few_channels_are_exact_sums_of_products(
    number: int, dtype: DType, *, at_end: bool
) -> None:
    channels, sides, filters, taps, window = CASES[number]
    x, w = numbers(2, channels, *sides), numbers(filters, channels, *taps)
    given, weights = (e.astype(dtype.numpy) for e in (x, w))
    y = lower_conv(tensor("x", x.shape, dtype), constant(weights), **window)
    y = in_blocks(y)
    assert has_tiles(y, ROUNDED)
    found, again = (
        Runner([y], ROUNDED, chunks=n, at_end=at_end).run({"x": given})[0] for n in (1, 3)
    )
    assert found.tobytes() == again.tobytes()
    wanted = convolved(x, w, window)
    bound = 2 * w[0].size * ROUNDING * convolved(abs(x), abs(w), window)
    bound += 0 if dtype is FLOAT32 else abs(wanted) / 2**8
    assert (abs(found.astype(np.float64) - wanted) <= bound).all()


def test_float32s_are_rounded_to_nearest() -> None:
    x = rng.standard_normal((1, 3, 20, 20)).astype(np.float32)
    w = rng.standard_normal((48, 3, 3, 3)).astype(np.float32)
    y = in_blocks(lower_conv(tensor("x", x.shape, FLOAT32), constant(w), pads=[1] * 4))
    found = Runner([y], ROUNDED).run({"x": x})[0]
    x, w = (e.astype(ml_dtypes.bfloat16) for e in (x, w))
    wanted = convolved(x, w, {"pads": [1] * 4})
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("strange", [np.inf, np.nan])
def test_what_is_not_finite_reaches_its_own_results(strange: float) -> None:
    x, w = abs(numbers(1, 3, 18, 20)), abs(numbers(32, 3, 3, 3))
    w = np.maximum(w, ml_dtypes.bfloat16(0.5))
    x[0, 1, 7, 19] = strange
    y = in_blocks(lower_conv(tensor("x", x.shape, BFLOAT16), constant(w), pads=[1] * 4))
    assert has_tiles(y, Target.host())
    found = Runner([y]).run({"x": x})[0].astype(np.float64)
    wanted = np.zeros((18, 20), bool)
    wanted[6:9, 18:] = True
    np.testing.assert_array_equal(np.isfinite(found[0, 5]), ~wanted)
    np.testing.assert_array_equal(found[0, 5][wanted], np.full(6, strange))


def test_as_many_images_as_a_run_has() -> None:
    w = numbers(40, 3, 3, 3)
    shape = (symbol("N"), 3, 17, 21)
    y = in_blocks(lower_conv(tensor("x", shape, BFLOAT16), constant(w), strides=[1, 1]))
    assert has_tiles(y, Target.host())
    runner = Runner([y])
    for n in (1, 3):
        x = numbers(n, 3, 17, 21)
        found = runner.run({"x": x}, {"N": n})[0].reshape(n, 40, 15, 19).astype(np.float64)
        np.testing.assert_allclose(found, convolved(x, w, {}), rtol=2**-8, atol=1e-4)


def test_others_stay_as_they_are() -> None:
    x, w = tensor("x", (1, 3, 40, 40), BFLOAT16), numbers(64, 3, 7, 7)
    whole = in_blocks(lower_conv(x, constant(w)))
    assert has_tiles(whole, Target.host())
    for target in (
        dataclasses.replace(Target.host(), is_strict=True),
        dataclasses.replace(Target.host(), features=Target.host().features - {"amx-bf16"}),
        Target.masked("x86-64-v3"),
    ):
        assert not has_tiles(whole, target)
    floats = tensor("x", (1, 3, 40, 40), FLOAT32)
    assert not has_tiles(in_blocks(lower_conv(floats, constant(w))), Target.host())
    few = in_blocks(lower_conv(tensor("x", (1, 3, 40, 12), BFLOAT16), constant(w)))
    assert not has_tiles(few, Target.host())
