from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from fornix.compile import Target
from fornix.compile.blocked import blocked_buffer
from fornix.compile.nest import When
from fornix.compile.schedule import schedule, square_cost
from fornix.compile.schedule import square_floats as floats
from fornix.compile.schedule.square_few import MOST_PLACES
from fornix.dtype import FLOAT32
from fornix.ir.dim import symbol
from fornix.ir.loops import Store, Tensor, Variable, compute, constant, stored, tensor
from fornix.ops import scalar as s
from fornix.ops.conv import lower_conv
from tests.compile.native import Runner

pytestmark = pytest.mark.skipif(
    not Target.host().has("amx-bf16"), reason="the processor has no tile registers for bfloat16s"
)
LANES = 16
LEFT_OUT, ROUNDING = 2.0**-22, 2.0**-24
"""Of a product: what is not summed of it, and half an ulp of a sum."""
CASES = [
    (32, (14, 14), 32, (1, 1), {}),
    (96, (9, 11), 144, (1, 1), {}),
    (128, (8, 30), 48, (1, 1), {"strides": [2, 2]}),
    (48, (9, 9), 40, (3, 3), {"pads": [1] * 4}),
    (64, (17, 20), 64, (3, 3), {"pads": [1] * 4, "strides": [2, 2]}),
    (64, (7, 7), 96, (3, 3), {"pads": [1] * 4}),
    (32, (13, 16), 33, (3, 3), {"pads": [2, 2, 2, 2], "dilations": [2, 2]}),
    (32, (12, 19), 64, (2, 5), {"pads": [0, 1, 1, 3]}),
    (16, (20, 21), 32, (7, 7), {"pads": [3] * 4, "strides": [2, 2]}),
    (160, (6, 40), 24, (1, 1), {}),
]
"""Channels, height and width, filters, taps, window."""
LARGEST = np.finfo(np.float32).max
rng = np.random.default_rng(3)


def image(name: str, shape: tuple[Any, ...]) -> Tensor:
    return Tensor(shape, FLOAT32, buffer=blocked_buffer(name, shape, FLOAT32, LANES))


def in_blocks(x: Tensor) -> Tensor:
    """``x``, stored in blocks of channels."""
    buffer = blocked_buffer("y", x.shape, x.dtype, LANES)
    axes = tuple(Variable("i", n) for n in x.shape)
    place = tuple(a.dim for a in axes)
    buffer.source = Store(buffer, axes, buffer.address(place), x[place])
    return Tensor(x.shape, x.dtype, buffer=buffer)


def is_in_parts(x: Tensor, target: Target | None = None) -> bool:
    """Whether ``x`` is computed in tile registers."""
    buffer = stored(x).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    pieces = schedule(buffer.source, target or Target.host())
    return any(piece.nest.kind == "parts" for piece in pieces)


def numbers(*shape: int) -> Any:
    """Float32s of several magnitudes."""
    scale = 2.0 ** rng.integers(-6, 7, shape)
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def convolved(x: Any, w: Any, window: dict[str, Any]) -> Any:
    """The sums, by torch in double precision."""
    pads = window.get("pads", [0] * 4)
    given = torch.from_numpy(np.asarray(x, np.float64))
    padded = torch.nn.functional.pad(given, (pads[1], pads[3], pads[0], pads[2]))
    more = {"stride": window.get("strides", 1), "dilation": window.get("dilations", 1)}
    weights = torch.from_numpy(np.asarray(w, np.float64))
    return torch.nn.functional.conv2d(padded, weights, **more).numpy()


def assert_near(found: Any, x: Any, w: Any, window: dict[str, Any]) -> None:
    """``found`` is right but for what is left out of products, and the rounding of sums."""
    terms = w[0].size
    bound = (LEFT_OUT + terms * ROUNDING) * convolved(np.abs(x), np.abs(w), window)
    assert (np.abs(found - convolved(x, w, window)) <= bound).all()


def sums(x: Any, w: Any, window: dict[str, Any]) -> Tensor:
    return in_blocks(lower_conv(image("x", x.shape), constant(w), **window))


@pytest.fixture(params=["pieces", "panels"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """All convolutions of these cases are computed both ways."""
    monkeypatch.setattr("fornix.compile.schedule.winograd_stages", lambda *_: None)
    monkeypatch.setattr(floats, "GAIN", 0.0)
    for module in (floats, square_cost):
        monkeypatch.setattr(module, "weights_are_larger", lambda *_: request.param == "panels")
    return str(request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("channels", "sides", "filters", "taps", "window"), CASES)
@pytest.mark.parametrize("at_end", [False, True])
def test_convolutions_are_as_near_as_those_of_float32(
    channels: int,
    sides: tuple[int, int],
    filters: int,
    taps: tuple[int, int],
    window: dict[str, Any],
    at_end: bool,
) -> None:
    x, w = numbers(2, channels, *sides), numbers(filters, channels, *taps)
    y = sums(x, w, window)
    assert is_in_parts(y)
    runs = [Runner([y], chunks=n, at_end=at_end).run({"x": x})[0] for n in (1, 3)]
    assert_near(runs[0], x, w, window)
    np.testing.assert_array_equal(runs[0], runs[1])


@pytest.mark.usefixtures("way")
def test_what_follows_the_sum_is_done_with_it() -> None:
    x, w, b = numbers(1, 64, 9, 12), numbers(48, 64, 1, 1), numbers(48)
    more = numbers(1, 48, 9, 12)
    y = lower_conv(image("x", x.shape), constant(w), constant(b))
    rest = image("rest", more.shape)
    z = in_blocks(compute(y.shape, lambda *i: s.maximum(y[i] + rest[i], 0.0)))
    assert is_in_parts(z)
    plain = Runner([sums(x, w, {})]).run({"x": x})[0]
    found = Runner([z], chunks=2).run({"x": x, "rest": more})[0]
    wanted = np.maximum(plain + b[:, None, None] + more, 0)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("taps", [1, 3])
@pytest.mark.parametrize("strange", [np.inf, -np.inf, np.nan, LARGEST, -LARGEST])
def test_sums_that_are_not_finite_are_those_of_float32(taps: int, strange: float) -> None:
    window = {"pads": [taps // 2] * 4}
    x, w = numbers(2, 64, 9, 10), numbers(64, 64, taps, taps)
    w[3] = np.abs(w[3])
    w[4] = 0
    w[5] = 2.0**-40
    x[1, 40, 8, 9] = strange
    y = sums(x, w, window)
    assert is_in_parts(y)
    runs = [Runner([y], chunks=n).run({"x": x})[0] for n in (1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    with np.errstate(over="ignore"):
        wanted = convolved(x, w, window).astype(np.float32)
    near = np.abs(wanted) < LARGEST / 2
    np.testing.assert_allclose(runs[0][near], wanted[near], rtol=1e-4, atol=0.05)
    far = np.abs(wanted) == np.inf
    np.testing.assert_array_equal(runs[0][far], wanted[far])
    np.testing.assert_array_equal(np.isnan(runs[0]), np.isnan(wanted))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("strange", [np.inf, np.nan, LARGEST])
def test_weights_that_are_not_finite(strange: float) -> None:
    x, w = np.abs(numbers(1, 32, 9, 10)) / 2**20, numbers(48, 32, 1, 1)
    w[7, 20] = strange
    found = Runner([sums(x, w, {})]).run({"x": x})[0]
    wanted = convolved(x, w, {}).astype(np.float32)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("way")
def test_as_many_images_as_a_run_has() -> None:
    w = numbers(32, 48, 3, 3)
    y = lower_conv(image("x", (symbol("N"), 48, 9, 10)), constant(w), pads=[1] * 4)
    runner = Runner([in_blocks(y)])
    for n in (1, 3):
        x = numbers(n, 48, 9, 10)
        found = runner.run({"x": x}, {"N": n})[0]
        assert_near(found.reshape(n, 32, 9, 10), x, w, {"pads": [1] * 4})


def test_strict_sums_and_other_processors_stay_as_they_are() -> None:
    x, w = numbers(1, 64, 14, 14), numbers(64, 64, 1, 1)
    y = sums(x, w, {})
    assert is_in_parts(y)
    for target in (
        dataclasses.replace(Target.host(), is_strict=True),
        dataclasses.replace(Target.host(), features=Target.host().features - {"amx-bf16"}),
        Target.masked("x86-64-v3"),
        Target.masked("x86-64"),
        Target.aarch64(),
    ):
        assert not is_in_parts(y, target)


def test_few_products_do_not_pay_for_taking_factors_apart() -> None:
    few = sums(numbers(1, 64, 2, 2), numbers(64, 64, 1, 1), {})
    thin = sums(numbers(1, 64, 28, 28), numbers(16, 64, 1, 1), {})
    assert not is_in_parts(few)
    assert not is_in_parts(thin)
    assert is_in_parts(sums(numbers(1, 64, 28, 28), numbers(64, 64, 1, 1), {}))


def test_rows_of_an_image_are_not_taken_apart() -> None:
    x = tensor("x", (1, 64, 14, 14), FLOAT32)
    assert not is_in_parts(
        in_blocks(lower_conv(x, constant(numbers(64, 64, 3, 3)), strides=[2, 2]))
    )


def test_each_block_of_filters_is_a_piece_of_work_where_weights_are_split() -> None:
    y = sums(numbers(1, 960, 7, 7), numbers(160, 960, 1, 1), {})
    buffer = stored(y).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    assert schedule(buffer.source, Target.host())[-1].nest.parallel == 160 // LANES


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("channels", "sides", "filters", "taps", "window"), CASES[:7:2])
def test_sides_that_a_run_tells(
    channels: int,
    sides: tuple[int, int],
    filters: int,
    taps: tuple[int, int],
    window: dict[str, Any],
) -> None:
    w = numbers(filters, channels, *taps)
    shape = (1, channels, symbol("H"), symbol("W"))
    y = in_blocks(lower_conv(image("x", shape), constant(w), **window))
    assert is_in_parts(y)
    runners = [Runner([y], chunks=n, at_end=True) for n in (1, 3)]
    least = max(taps)
    for high, wide in (sides, (least, least), (least + 2, 41)):
        x = numbers(1, channels, high, wide)
        feeds = {"x": x}, {"H": high, "W": wide}
        runs = [runner.run(*feeds)[0] for runner in runners]
        wanted = convolved(x, w, window)
        assert_near(runs[0].reshape(wanted.shape), x, w, window)
        np.testing.assert_array_equal(runs[0], runs[1])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("channels", "filters"), [(48, 40), pytest.param(96, 64, marks=pytest.mark.slow)]
)
def test_places_of_which_a_run_tells_that_they_are_few(channels: int, filters: int) -> None:
    w = numbers(filters, channels, 1, 1)
    shape = (symbol("N"), channels, symbol("H"), symbol("W"))
    y = in_blocks(lower_conv(image("x", shape), constant(w)))
    runners = [Runner([y], chunks=n, at_end=True) for n in (1, 3)]
    sides = [*((1, n) for n in range(1, MOST_PLACES + 3)), (MOST_PLACES, 1), (3, 4), (4, 4)]
    for number, (high, wide) in enumerate(sides):
        n = 1 + number % 2
        x = numbers(n, channels, high, wide)
        feeds = {"x": x}, {"N": n, "H": high, "W": wide}
        runs = [runner.run(*feeds)[0] for runner in runners]
        assert_near(runs[0].reshape(n, filters, high, wide), x, w, {})
        np.testing.assert_array_equal(runs[0], runs[1])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("strange", [np.inf, np.nan])
def test_what_is_not_finite_at_one_of_few_places(strange: float) -> None:
    w = np.abs(numbers(32, 48, 1, 1)) + 1
    y = in_blocks(lower_conv(image("x", (1, 48, 1, symbol("W"))), constant(w)))
    x = np.abs(numbers(1, 48, 1, 11))
    x[0, 47, 0, 10] = strange
    found = Runner([y]).run({"x": x}, {"W": 11})[0].reshape(32, 11)
    assert np.isfinite(found[:, :10]).all()
    np.testing.assert_array_equal(found[:, 10], np.full(32, strange, np.float32))


def test_pointwise_convolutions_of_known_places_have_one_way() -> None:
    w = numbers(64, 64, 1, 1)
    known = sums(numbers(1, 64, 14, 14), w, {})
    told = in_blocks(lower_conv(image("x", (1, 64, 14, symbol("W"))), constant(w)))
    ways = []
    for y in (known, told):
        buffer = stored(y).buffer
        assert buffer is not None
        assert isinstance(buffer.source, Store)
        body = schedule(buffer.source, Target.host())[-1].nest.body
        ways.append(sum(isinstance(statement, When) for statement in body))
    assert ways == [0, 2]


@pytest.mark.usefixtures("way")
def test_what_is_not_finite_at_the_end_of_an_open_image() -> None:
    w = np.abs(numbers(32, 32, 3, 3))
    window: dict[str, Any] = {"pads": [1] * 4}
    y = lower_conv(image("x", (1, 32, symbol("H"), symbol("W"))), constant(w), **window)
    runner = Runner([in_blocks(y)])
    x = np.abs(numbers(1, 32, 5, 19))
    x[0, 7, 4, 18] = np.inf
    found = runner.run({"x": x}, {"H": 5, "W": 19})[0].reshape(1, 32, 5, 19)
    wanted = np.zeros((5, 19), bool)
    wanted[3:, 17:] = True
    np.testing.assert_array_equal(found[0, 3] == np.inf, wanted)


def test_panels_that_outgrow_a_cache_are_used_group_by_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(floats, "GAIN", 0.0)
    for module in (floats, square_cost):
        monkeypatch.setattr(module, "weights_are_larger", lambda *_: False)
    small = dataclasses.replace(Target.host(), l2_bytes=64 << 10)
    x, w = numbers(1, 64, 5, 9), numbers(200, 64, 1, 1)
    y = sums(x, w, {})
    buffer = stored(y).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    whole, parts = (schedule(buffer.source, t)[-1].nest for t in (Target.host(), small))
    assert isinstance(parts.parallel, int)
    assert isinstance(whole.parallel, int)
    assert parts.parallel > whole.parallel
    runs = [Runner([y], chunks=n, target=t).run({"x": x})[0] for n, t in ((1, None), (3, small))]
    assert_near(runs[0], x, w, {})
    np.testing.assert_array_equal(runs[0], runs[1])


ROUNDED = dataclasses.replace(Target.host(), rounds_products=True)
LOST = 1 / 127
"""Of a product of two numbers that are rounded to 8 bits."""


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("number", "few"), [*((n, 0) for n in range(len(CASES))), *((n, 1 << 20) for n in (1, 4, 7))]
)
def test_factors_that_may_be_rounded_have_one_part(
    number: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(square_cost, "FEW_REGISTERS", few)
    channels, sides, filters, taps, window = CASES[number]
    x, w = numbers(2, channels, *sides), numbers(filters, channels, *taps)
    x[0, :, -1, -1] = np.nan, *x[0, 1:, -1, -1]
    y = sums(x, w, window)
    assert is_in_parts(y, ROUNDED)
    found, again = (Runner([y], ROUNDED, chunks=n).run({"x": x})[0] for n in (1, 3))
    np.testing.assert_array_equal(found, again)
    wanted = convolved(x, w, window)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    bound = (LOST + w[0].size * ROUNDING) * convolved(np.abs(x), np.abs(w), window)
    difference = np.abs(found - wanted)
    known = ~np.isnan(wanted)
    assert (difference[known] <= bound[known]).all()
    assert difference[known].any()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("taps", "sides", "few"),
    [(1, (2, 9), 0), (1, (5, 37), 0), (1, (5, 37), 1 << 20), (3, (9, 21), 0)],
)
def test_open_images_of_one_part(
    taps: int, sides: tuple[int, int], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(square_cost, "FEW_REGISTERS", few)
    w, window = numbers(48, 64, taps, taps), dict[str, Any](pads=[taps // 2] * 4)
    shape = (symbol("N"), 64, symbol("H"), symbol("W"))
    y = in_blocks(lower_conv(image("x", shape), constant(w), **window))
    x = numbers(2, 64, *sides)
    extents = {"N": 2, "H": sides[0], "W": sides[1]}
    found, again = (
        Runner([y], ROUNDED, chunks=n, at_end=True).run({"x": x}, extents)[0] for n in (1, 3)
    )
    np.testing.assert_array_equal(found, again)
    bound = (LOST + w[0].size * ROUNDING) * convolved(np.abs(x), np.abs(w), window)
    assert (np.abs(found.reshape(2, 48, *sides) - convolved(x, w, window)) <= bound).all()
