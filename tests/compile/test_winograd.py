from __future__ import annotations

import dataclasses
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.blocked import blocked_buffer
from fornix.compile.cost import likely_of_image
from fornix.compile.schedule import schedule as pieces_of
from fornix.compile.schedule import winograd as schedule
from fornix.compile.schedule.chunks import shared_size
from fornix.compile.winograd import HELD_BYTES, Image, Winograd, algorithms, best
from fornix.dtype import BFLOAT16, FLOAT16, FLOAT32, DType
from fornix.ir.dim import DimLike, known, symbol
from fornix.ir.dim.expression import Atom, atoms, substitute
from fornix.ir.loops import (
    Buffer,
    Load,
    Scalar,
    Store,
    Tensor,
    Variable,
    compute,
    constant,
    stored,
    tensor,
)
from fornix.ops import scalar as s
from fornix.ops.conv import conv, lower_conv
from fornix.ops.precision import cast_tensor
from tests.compile.native import Runner
from tests.ir.interpreter import interpret

LANES = 16
F2, F4 = algorithms((3, 3))
WITHOUT_TILES = dataclasses.replace(Target.host(), features=Target.host().features - {"amx-bf16"})
"""In tile registers the direct sum may be faster."""
TOLERANCE = 2e-5
"""Of the largest result: twice what m = 4 has been seen to do on normal data of 512 channels."""
CASES = {
    # images, channels, filters, height, width, pads
    "whole tiles": (1, 32, 32, 16, 16, (1, 1, 1, 1)),
    "small tiles": (1, 32, 32, 7, 7, (1, 1, 1, 1)),
    "borders": (2, 16, 32, 13, 18, (1, 1, 1, 1)),
    "odd channels": (1, 17, 33, 9, 11, (1, 1, 1, 1)),
    "few filters": (1, 32, 9, 10, 10, (1, 1, 1, 1)),
    "no padding": (1, 16, 16, 15, 14, (0, 0, 0, 0)),
    "uneven padding": (1, 32, 48, 6, 30, (2, 0, 1, 3)),
    "two rows": (3, 16, 16, 4, 40, (0, 1, 0, 1)),
    "many tiles": (5, 16, 32, 21, 23, (1, 1, 1, 1)),
}
Array = np.ndarray[Any, np.dtype[Any]]
Data = tuple[Array, Array, Array]


def data(case: str) -> tuple[Data, tuple[int, ...]]:
    images, channels, filters, height, width, pads = CASES[case]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((images, channels, height, width), np.float32)
    w = rng.standard_normal((filters, channels, 3, 3), np.float32)
    return (x, w, rng.standard_normal(filters, np.float32)), pads


def assert_near(found: Array, wanted: Array) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def runner(y: Tensor, target: Target = WITHOUT_TILES, **options: Any) -> Runner:
    """The kernels of ``y``, Winograd's among them."""
    made = Runner([y], target, **options)
    assert "winograd" in [k.schedule for k in made.kernels]
    return made


@pytest.fixture(params=["stages", "blocks", "near", "halves"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small filters are read for each block of few tiles; with this all ways are gone."""
    if request.param == "halves":

        def halved(*args: Any) -> Winograd | None:
            found = best(*args)
            return found and dataclasses.replace(found, is_half=found.axes[-1].taps > 1)

        monkeypatch.setattr(schedule, "best", halved)
    elif request.param != "near":
        monkeypatch.setattr(schedule, "NEAR_SHARE", 1 << 40)
    if request.param == "blocks":
        monkeypatch.setattr(schedule, "STAGED_BYTES", 0)
    return str(request.param)


@pytest.mark.parametrize("taps", [1, 2, 3, 4, 5])
def test_transforms_give_the_correlation(taps: int) -> None:
    rng = np.random.default_rng(0)
    for along in {axis for algorithm in algorithms((taps,)) for axis in algorithm.axes}:
        d, w = rng.standard_normal(along.edge), rng.standard_normal(taps)
        x, y = constant(d), constant(w)
        image = along.images([x[i] for i in range(along.edge)])
        filters = along.filters([y[i] for i in range(taps)])
        results = along.results([a * b for a, b in zip(image, filters, strict=True)])
        found = [interpret(compute((), lambda r=r: r)).item() for r in results]
        np.testing.assert_allclose(found, np.correlate(d, w), rtol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_it_agrees_with_the_direct_sum(case: str) -> None:
    (x, w, b), pads = data(case)
    image = tensor("x", x.shape, FLOAT32)
    y = lower_conv(image, constant(w), constant(b), pads=list(pads))
    (found,) = runner(y).run({"x": x})
    assert_near(found, conv(x, w, b, pads=list(pads)))


def drawn(seed: int) -> tuple[Data, dict[str, list[int]]]:
    """An image of one to three axes with weights and a bias, and attributes."""
    rng = np.random.default_rng(seed)
    rank = 1 + seed % 3
    taps = rng.integers(1, 6, rank)
    taps[rng.integers(rank)] = rng.integers(2, 6 if seed % 2 else 12)
    taps[np.flatnonzero(taps > 1)[2:]] = 1
    dilations = np.where((rng.random(rank) < 0.3) & (taps > 1), 3, 1)
    pads = rng.integers(0, 5, (2, rank)).clip(dilations > 1, (taps - 1) * dilations)
    extents = (taps - 1) * dilations + rng.integers(1, (90, 14, 7)[rank - 1], rank)
    channels, filters = rng.integers(16, 49), rng.integers(8, 41)
    shapes = (1 + seed % 2, channels, *extents), (filters, channels, *taps), (filters,)
    x, w, b = (rng.standard_normal(shape, np.float32) for shape in shapes)
    return (x, w, b), {"pads": [*map(int, pads.flat)], "dilations": dilations.tolist()}


def hold_to_double(seed: int, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drawn convolution is near the sum in double precision, in one chunk and many alike."""
    (x, w, b), window = drawn(seed)
    smallest = seed % 4 < 2

    def chosen(image: Image, *_: object) -> Winograd:
        found = algorithms(image.taps)[smallest - 1]
        return dataclasses.replace(found, is_half=seed % 2 > 0 and image.taps[-1] > 1)

    monkeypatch.setattr(schedule, "best", chosen)
    y = lower_conv(tensor("x", x.shape, FLOAT32), constant(w), constant(b), **window)  # type: ignore[arg-type]
    (found,) = runner(y, target).run({"x": x})
    wanted = conv(*(a.astype(np.float64) for a in (x, w, b)), **window)  # type: ignore[arg-type]
    assert_near(found, wanted)
    opened = (symbol("N", 1), x.shape[1], *(symbol(name, 1) for name in "DHW"[3 - x.ndim + 2 :]))
    extents = {str(d): n for d, n in zip(opened, x.shape, strict=True) if not isinstance(d, int)}
    y = lower_conv(tensor("x", opened, FLOAT32), constant(w), constant(b), **window)  # type: ignore[arg-type]
    (again,) = runner(y, target, chunks=7).run({"x": x}, extents)
    assert_near(again, wanted)


@pytest.mark.parametrize("seed", range(6))
def test_taps_of_any_number_agree_with_sums_of_doubles(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_to_double(seed, WITHOUT_TILES, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["host", "x86-64-v3"])
@pytest.mark.parametrize("seed", range(6, 36))
def test_taps_of_any_number_agree_on_every_processor(
    seed: int, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = WITHOUT_TILES if level == "host" else Target.masked(level)
    hold_to_double(seed, target, monkeypatch)


@pytest.mark.parametrize(
    ("taps", "extents", "filters"),
    [
        ((3,), (1000,), 32),
        ((5,), (200,), 64),
        ((11,), (500,), 32),
        ((1, 3), (28, 28), 64),
        ((7, 1), (17, 17), 64),
        ((5, 5), (14, 14), 32),
    ],
)
def test_rows_and_squares_of_other_taps_are_transformed(
    taps: tuple[int, ...], extents: tuple[int, ...], filters: int
) -> None:
    weights = constant(np.ones((filters, 32, *taps), np.float32))
    strict = dataclasses.replace(WITHOUT_TILES, is_strict=True)
    for dims in (extents, tuple(symbol(name, 1) for name in "HW"[: len(extents)])):
        image = tensor("x", (1, 32, *dims), FLOAT32)
        buffer = stored(lower_conv(image, weights, pads=[r // 2 for r in taps] * 2)).buffer
        assert buffer is not None
        assert isinstance(buffer.source, Store)
        for target, is_it in ((WITHOUT_TILES, True), (strict, False)):
            kinds = [piece.nest.kind for piece in pieces_of(buffer.source, target)]
            assert ("winograd" in kinds) is is_it


def test_rows_have_tiles_along_one_axis_only() -> None:
    for taps, outs in (((2,), [(3,), (5,)]), ((1, 3), [(1, 2), (1, 4)]), ((5, 4), [(2, 3)])):
        assert [tuple(x.out for x in a.axes) for a in algorithms(taps)] == outs


@pytest.mark.skipif(not Target.host().is_x86, reason="other processors keep such numbers")
def test_terms_below_normal_numbers_are_zero() -> None:
    x = np.full((1, 32, 200), np.finfo(np.float32).tiny / 4, np.float32)
    image, w = tensor("x", x.shape, FLOAT32), constant(np.full((32, 32, 3), 2.0, np.float32))
    (found,) = runner(lower_conv(image, w, pads=[1, 1])).run({"x": x})
    np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("case", ["small tiles", "odd channels", "many tiles"])
def test_no_byte_outside_its_buffers_is_touched(case: str, way: str) -> None:
    (x, w, b), pads = data(case)
    image = tensor("x", x.shape, FLOAT32)
    y = lower_conv(image, constant(w), constant(b), pads=list(pads))
    (found,) = runner(y, at_end=way == "stages").run({"x": x})
    assert_near(found, conv(x, w, b, pads=list(pads)))


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
def test_halves_are_widened_on_the_way_and_rounded_once(dtype: DType, way: str) -> None:
    (x, w, b), _ = data("borders")
    x, w, b = (array.astype(dtype.numpy) for array in (x, w, b))
    image = cast_tensor(tensor("x", x.shape, dtype), FLOAT32)
    y = lower_conv(
        image, constant(w.astype(np.float32)), constant(b.astype(np.float32)), pads=[1] * 4
    )
    (found,) = runner(cast_tensor(y, dtype)).run({"x": x})
    wanted = conv(x, w, b, pads=[1] * 4).astype(np.float32)
    assert found.dtype == dtype.numpy
    error = np.abs(found.astype(np.float32) - wanted)
    step = float(ml_dtypes.finfo(dtype.numpy).eps)  # a tie may fall to either side
    assert (error <= step * np.abs(wanted) + TOLERANCE * np.abs(wanted).max()).all()
    assert (error == 0).mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_it_agrees_on_narrower_vectors(case: str, way: str) -> None:
    (x, w, b), pads = data(case)
    image = tensor("x", x.shape, FLOAT32)
    y = lower_conv(image, constant(w), constant(b), pads=list(pads))
    (found,) = runner(y, target=Target.masked("x86-64-v3")).run({"x": x})
    assert_near(found, conv(x, w, b, pads=list(pads)))


@pytest.mark.parametrize("dilations", [(2, 2), (1, 3)])
def test_dilated_filters_see_an_image_of_each_phase(dilations: tuple[int, int], way: str) -> None:
    (x, w, b), _ = data("borders")
    image = tensor("x", x.shape, FLOAT32)
    window = {"dilations": list(dilations), "pads": [3, 1, 2, 0]}
    y = lower_conv(image, constant(w), constant(b), **window)  # type: ignore[arg-type]
    (found,) = runner(y).run({"x": x})
    assert_near(found, conv(x, w, b, **window))  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ["borders", "many tiles"])
def test_one_kernel_serves_every_extent_of_images(case: str, way: str) -> None:
    (x, w, b), pads = data(case)
    images, height, width = (symbol(name, least=1) for name in "NHW")
    image = tensor("x", (images, x.shape[1], height, width), FLOAT32)
    made = runner(lower_conv(image, constant(w), constant(b), pads=list(pads)))
    for part in (x, x[:1, :, :7], x[:, :, :1, :1]):
        n, _, h, v = part.shape
        feeds = {"x": np.ascontiguousarray(part)}
        (found,) = made.run(feeds, {"N": n, "H": h, "W": v})
        assert_near(found, conv(part, w, b, pads=list(pads)))


@pytest.mark.parametrize("chunks", [2, 3, 100])
def test_chunks_never_change_a_bit(chunks: int, way: str) -> None:
    (x, w, b), pads = data("many tiles")
    image = tensor("x", x.shape, FLOAT32)
    y = stored(lower_conv(image, constant(w), constant(b), pads=list(pads)))
    (whole,) = runner(y).run({"x": x})
    (cut,) = runner(y, chunks=chunks).run({"x": x})
    assert whole.tobytes() == cut.tobytes()


def in_blocks(name: str, x: Tensor) -> Tensor:
    """``x``, stored in blocks of channels."""
    buffer = blocked_buffer(name, x.shape, x.dtype, LANES)
    axes = tuple(Variable("i", n) for n in x.shape)
    place = tuple(a.dim for a in axes)
    buffer.source = Store(buffer, axes, buffer.address(place), x[place])
    return Tensor(x.shape, x.dtype, buffer=buffer)


@pytest.mark.parametrize("case", ["small tiles", "borders", "odd channels"])
def test_images_in_blocks_of_channels_are_read_and_written_in_place(case: str, way: str) -> None:
    (x, w, b), pads = data(case)
    wanted = conv(x, w, b, pads=list(pads))
    more: Array = np.random.default_rng(1).standard_normal((*wanted.shape,), np.float32)
    image, rest = (
        Tensor(a.shape, FLOAT32, buffer=blocked_buffer(name, a.shape, FLOAT32, LANES))
        for name, a in (("x", x), ("rest", more))
    )
    y = lower_conv(image, constant(w), constant(b), pads=list(pads))
    z = compute(y.shape, lambda *i: s.maximum(y[i] + rest[i], 0.0))
    made = runner(in_blocks("z", z))
    if x.shape[1] % LANES == wanted.shape[1] % LANES == 0:
        assert {k.schedule for k in made.kernels} == {"winograd"}
    (found,) = made.run({"x": x, "rest": more})
    assert_near(found, np.maximum(wanted + more, 0))


@pytest.mark.parametrize(
    ("taps", "window"),
    [
        (3, {"pads": [1] * 6}),
        (1, {"pads": [0, 1, 1, 0, 1, 1]}),
        (3, {"pads": [2, 1, 0, 1, 1, 2], "strides": [2, 1, 1]}),
        (2, {"pads": [0, 1, 1, 2, 1, 1], "dilations": [3, 1, 1]}),
    ],
)
@pytest.mark.parametrize("channels", [32, 20])
@pytest.mark.parametrize("lanes", [1, LANES])
def test_volumes_are_images_with_more_channels(
    taps: int, window: dict[str, list[int]], channels: int, lanes: int, way: str
) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, channels, 5, 17, 18), np.float32)
    w = rng.standard_normal((32, channels, taps, 3, 3), np.float32)
    b = rng.standard_normal(32, np.float32)
    image = Tensor(x.shape, FLOAT32, buffer=blocked_buffer("x", x.shape, FLOAT32, lanes))
    if lanes == 1:
        image = tensor("x", x.shape, FLOAT32)
    y = lower_conv(image, constant(w), constant(b), **window)  # type: ignore[arg-type]
    (found,) = runner(y if lanes == 1 else in_blocks("y", y)).run({"x": x})
    assert_near(found, conv(x, w, b, **window))  # type: ignore[arg-type]


def test_what_is_read_may_be_computed(way: str) -> None:
    (x, w, b), pads = data("borders")
    first, second = (
        Tensor((2, 8, 13, 18), FLOAT32, buffer=Buffer(name, (2, 8, 13, 18), FLOAT32))
        for name in ("first", "second")
    )

    def both(n: DimLike, c: DimLike, *place: DimLike) -> Scalar:
        other = second.get((n, c - 8, *place), 0)
        return s.exp(first.get((n, c, *place), 0)) + other * 2.0

    image = compute(x.shape, both)
    made = runner(lower_conv(image, constant(w), constant(b), pads=list(pads)))
    (found,) = made.run({"first": x[:, :8].copy(), "second": x[:, 8:].copy()})
    values = np.concatenate([np.exp(x[:, :8]), 1 + x[:, 8:] * 2], 1)
    assert_near(found, conv(values, w, b, pads=list(pads)))


def test_no_more_than_a_tile_sees_what_is_not_finite() -> None:
    (x, w, b), pads = data("whole tiles")
    x[0, 3, 9, 5] = np.inf
    image = tensor("x", x.shape, FLOAT32)
    (found,) = runner(lower_conv(image, constant(w), constant(b), pads=list(pads))).run({"x": x})
    wanted = conv(x, w, b, pads=list(pads))
    assert not np.isfinite(found[~np.isfinite(wanted)]).any()
    apart = np.ones((16, 16), bool)
    apart[8:12, 4:8] = False  # the tile of all results that read it
    assert np.isfinite(found[0, :, apart]).all()


def test_the_products_that_it_makes_are_counted(way: str) -> None:
    (x, w, b), pads = data("whole tiles")
    image = tensor("x", x.shape, FLOAT32)
    made = runner(lower_conv(image, constant(w), constant(b), pads=list(pads)))
    counts = [int(str(k.work.operations)) for k in made.kernels if not k.is_constant]
    products = 16 * 2 * 36 * 32 * 32
    assert products < sum(counts) < 1.3 * products


@pytest.mark.parametrize(
    "unlike",
    [
        {"strides": [2, 2]},
        {"group": 2},
        {"strides": [1, 2]},
        {"channels": 3},
        {"filters": 4},
        {"fed": True},
    ],
    ids=str,
)
def test_other_convolutions_are_left_to_other_schedules(unlike: dict[str, Any]) -> None:
    channels, taps = unlike.pop("channels", 32), unlike.pop("taps", 3)
    filters, fed = unlike.pop("filters", 32), unlike.pop("fed", False)
    image = tensor("x", (1, channels, 14, 14), FLOAT32)
    shape = (filters, channels // unlike.get("group", 1), taps, taps)
    w = tensor("w", shape, FLOAT32) if fed else constant(np.ones(shape, np.float32))
    made = Runner([lower_conv(image, w, **unlike)])
    assert "winograd" not in [k.schedule for k in made.kernels]


def test_the_size_of_tiles_is_that_of_least_cost() -> None:
    assert best(Image((56, 56)), 64, 64, LANES) == F4
    assert best(Image((14, 14)), 256, 256, LANES) == F4
    assert best(Image((7, 7)), 512, 512, LANES) == F2
    assert best(Image((28, 28)), 512, 512, LANES) == F4
    assert best(Image((224, 224)), 3, 64, LANES) is None
    assert best(Image((56, 56), (2, 2)), 64, 64, LANES) == F4
    assert best(Image((32, 32), (30, 30)), 256, 256, LANES) is None
    assert best(Image((1, 1)), 512, 512, LANES) is None


def test_faster_direct_sums_are_taken_unless_caches_hold_transformed_filters() -> None:
    assert best(Image((14, 14)), 256, 256, LANES, 2.0) == F4
    assert best(Image((7, 7)), 512, 512, LANES, 2.0) is None
    assert best(Image((7, 7)), 96, 96, LANES, 2.0) is None
    assert best(Image((7, 7)), 96, 96, LANES, 2.0, HELD_BYTES) == F2


@pytest.mark.parametrize(("side", "is_direct"), [(7, True), (28, False)])
def test_rounded_products_are_weighed_at_twice_the_speed(side: int, is_direct: bool) -> None:
    features = Target.masked("cooperlake").features
    wide = dataclasses.replace(
        Target.host(), features=features, vector_bytes=64, vector_registers=32, cpu="cooperlake"
    )
    image = tensor("x", (1, 96, side, side), FLOAT32)
    weights = constant(np.ones((96, 96, 3, 3), np.float32))
    buffer = stored(lower_conv(image, weights, pads=[1, 1, 1, 1])).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    rounding = dataclasses.replace(wide, rounds_products=True)
    for target, is_it in ((wide, False), (rounding, is_direct)):
        kinds = [piece.nest.kind for piece in pieces_of(buffer.source, target)]
        assert ("winograd" not in kinds) is is_it, kinds


def test_images_that_share_weights_are_transformed_by_larger_tiles() -> None:
    assert best(Image((7, 7)), 64, 64, LANES) == F2
    assert best(Image((7, 7), images=8), 64, 64, LANES) == F4
    assert best(Image((7, 7), images=8), 512, 512, LANES) == F4


def test_volumes_of_few_channels_are_summed_directly() -> None:
    assert best(Image((32, 32)), 24, 8, 16) == F4
    assert best(Image((32, 32), is_gathered=True), 24, 8, 16) is None
    assert best(Image((16, 16), is_gathered=True), 72, 24, 16) == F4
    channels = LANES // 2
    image = tensor("x", (1, channels, 32, 32, 32), FLOAT32)
    w = constant(np.ones((channels, channels, 3, 3, 3), np.float32))
    made = Runner([lower_conv(image, w, pads=[1] * 6)])
    assert "winograd" not in [k.schedule for k in made.kernels]


def test_filters_that_take_much_memory_for_little_time_are_smaller() -> None:
    assert best(Image((16, 16)), 512, 512, LANES) == F2
    assert best(Image((16, 16)), 256, 512, LANES) == F4


@pytest.mark.parametrize(
    ("side", "channels", "cache", "is_half"),
    [
        (16, 512, 400_000, True),
        (16, 512, 300_000, False),  # of a line and a panel in memory, it would take
        (16, 256, 400_000, False),  # as many bytes as nobody minds
        (7, 512, 400_000, False),  # longer than the products of so few tiles
    ],
)
def test_large_filters_are_stored_before_their_last_transform(
    side: int, channels: int, cache: float, is_half: bool
) -> None:
    found = best(Image((side, side)), channels, channels, LANES, cache=cache)
    assert found is not None
    assert (found.is_half, found.stored) == (is_half, 18 if is_half else found.positions)


def test_each_run_finishes_the_filters_that_are_stored_by_half() -> None:
    image = tensor("x", (1, 512, 16, 16), FLOAT32)
    w = constant(np.ones((512, 512, 3, 3), np.float32))
    made = runner(
        lower_conv(image, w, pads=[1] * 4), dataclasses.replace(WITHOUT_TILES, l2_bytes=1 << 20)
    )
    (stored,) = [k for k in made.kernels if k.is_constant]
    assert sum(b.elements for b in stored.outputs) == 18 * 512 * 512


def test_parts_of_images_of_any_size_are_taken_for_parts_of_a_likely_one() -> None:
    height = symbol("height", 1)
    assert likely_of_image(height, 256) == 256
    assert likely_of_image(height // 16, 256) == 16
    assert likely_of_image(16, 256) == 16
    assert likely_of_image(0, 256) == 0


@pytest.mark.parametrize(
    ("dilation", "size", "is_chosen"),
    [
        (1, symbol("h", 1), True),
        (2, symbol("h", 1), True),
        (12, symbol("h", 1) // 8, False),
        (12, symbol("h", 1) // 16, False),
        (12, 64, True),
        (12, 10, False),
    ],
)
def test_far_dilated_filters_are_summed_directly_where_images_may_be_small(
    dilation: int, size: DimLike, is_chosen: bool
) -> None:
    image = tensor("x", (1, 256, size, size), FLOAT32)
    w = constant(np.ones((256, 256, 3, 3), np.float32))
    buffer = stored(lower_conv(image, w, dilations=[dilation] * 2, pads=[dilation] * 4)).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    kinds = [piece.nest.kind for piece in pieces_of(buffer.source, WITHOUT_TILES)]
    assert ("winograd" in kinds) == is_chosen


def test_filters_of_the_next_panel_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def shares(right: Load, panel: tuple[DimLike, int, int], *_: object) -> tuple[()]:
        asked.append((right, panel))
        return ()

    monkeypatch.setattr(schedule, "shares", shares)
    (x, w, _), pads = data("odd channels")
    runner(lower_conv(tensor("x", x.shape, FLOAT32), constant(w), pads=list(pads)))
    (right, (start, terms, width)) = asked[0]
    position, panel, k, column = right.buffer.shape
    assert (terms, width) == (k, column) == (17, 32)
    assert panel == 2
    axes = {a.name: a for a in atoms(start) if isinstance(a, Variable)}
    for e, p in ((0, 0), (3, 1)):
        at: dict[Atom, DimLike] = {axes["e"]: e, axes["p"]: p}
        assert substitute(start, at, {}) == (2 * e + p + 1) * 17 * 32
    assert position == 36


@pytest.mark.parametrize(("l2_bytes", "shares"), [(1 << 20, [2]), (64 << 10, [16, 36, 16])])
def test_small_filters_are_read_for_each_of_the_blocks_that_threads_share(
    l2_bytes: int, shares: list[int]
) -> None:
    (x, w, _), pads = data("whole tiles")
    target = dataclasses.replace(WITHOUT_TILES, l2_bytes=l2_bytes)
    made = runner(lower_conv(tensor("x", x.shape, FLOAT32), constant(w), pads=list(pads)), target)
    kernels = [k for k in made.kernels if k.schedule == "winograd" and not k.is_constant]
    assert [known(k.parallel) for k in kernels] == shares


@pytest.mark.parametrize(("rows", "size"), [(4, 4), (16, 8), (36, 18), (49, 14), (196, 20)])
def test_blocks_of_tiles_are_of_a_size_that_suits_one_thread_and_two(rows: int, size: int) -> None:
    assert shared_size(rows, most=12) == size


@pytest.mark.parametrize("way", ["stages"], indirect=True)
def test_long_rows_of_taps_are_groups_of_few_and_more_channels(way: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 32, 90), np.float32)
    w = rng.standard_normal((32, 32, 7), np.float32)
    image = Tensor(x.shape, FLOAT32, buffer=blocked_buffer("x", x.shape, FLOAT32, LANES))
    made = runner(in_blocks("y", lower_conv(image, constant(w), pads=[3, 3])))
    assert {k.schedule for k in made.kernels} == {"winograd"}
    counts = [int(str(k.work.operations)) for k in made.kernels if not k.is_constant]
    products = 2 * 30 * 6 * 32 * 64  # F(3, 4) of twice as many channels
    assert products < sum(counts) < 1.3 * products
    (found,) = made.run({"x": x})
    assert_near(found, conv(x.astype(np.float64), w.astype(np.float64), pads=[3, 3]))
