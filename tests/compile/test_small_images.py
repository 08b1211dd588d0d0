from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from fornix.compile import Target
from fornix.compile.nest import When
from fornix.compile.schedule import Piece, schedule
from fornix.compile.schedule.places import MOST_PLACES
from fornix.dtype import FLOAT32
from fornix.ir.dim import symbol
from fornix.ir.loops import Store, Tensor, compute, constant, stored
from fornix.ops import scalar as s
from fornix.ops.conv import lower_conv, lower_conv_transpose
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner, whole
from tests.compile.test_direct import H, N, W, blocked, image, lanes

TOLERANCE = 2e-5
"""Of the largest result: twice what Winograd's algorithm has been seen to do on normal data."""
FED = [(1, 1, 1), (1, 2, 3), (1, 7, 7), (1, 8, 8), (1, 8, 9), (4, 2, 2), (3, 1, 5)]
FED += [(1, 13, 2), (2, 17, 15), (1, 1, MOST_PLACES), (1, MOST_PLACES + 1, 1), (9, 1, 1)]
"""Images, height and width."""
WINDOWS: list[dict[str, Any]] = [
    {"pads": [1] * 4},
    {"pads": [1] * 4, "strides": [2, 2]},
    {"pads": [2] * 4, "dilations": [2, 2]},
]
LANES = lanes(FLOAT32)
rng = np.random.default_rng(5)


def weights(filters: int, channels: int) -> Any:
    return rng.standard_normal((filters, channels, 3, 3), np.float32)


def without_caches(level: str) -> Target:
    """A processor of which no cache holds transformed weights."""
    return dataclasses.replace(target(level), l2_bytes=1 << 14)


def sums(w: Any, block: int, window: dict[str, Any]) -> Tensor:
    """A convolution of an image of which a run tells the extents, with its activation."""
    x = image("x", (N, w.shape[1], H, W), FLOAT32, block)
    bias = constant(np.arange(len(w), dtype=np.float32))
    y = lower_conv(x, constant(w), bias, **window)
    return blocked(compute(y.shape, lambda *i: s.maximum(y[i], 0.0)), block)


def wanted(x: Any, w: Any, window: dict[str, Any]) -> Any:
    """The same by torch, in double precision."""
    x, w = (torch.from_numpy(np.asarray(a, np.float64)) for a in (x, w))
    more = {"stride": window.get("strides", 1), "dilation": window.get("dilations", 1)}
    bias = torch.arange(len(w), dtype=torch.float64)
    y = torch.nn.functional.conv2d(x, w, bias, padding=window["pads"][0], **more)
    return torch.relu(y).numpy()


def store_of(y: Tensor) -> Store:
    buffer = stored(y).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    return buffer.source


def pieces(y: Tensor, processor: Target) -> list[Piece]:
    return schedule(store_of(y), processor)


@pytest.mark.parametrize("window", WINDOWS, ids=["plain", "strided", "dilated"])
@pytest.mark.parametrize("level", LEVELS)
def test_images_of_all_sizes(level: str, window: dict[str, Any]) -> None:
    w = weights(64, 48)
    y = sums(w, lanes(FLOAT32, level), window)
    runner = Runner([y], without_caches(level))
    for n, high, wide in FED:
        x = rng.standard_normal((n, 48, high, wide), np.float32)
        runs: list[np.ndarray] = []
        for runner.chunks in (1, 3):
            runs += runner.run({"x": x}, {"N": n, "H": high, "W": wide})
        expected = wanted(x, w, window)
        found = runs[0].reshape(expected.shape)
        most = np.abs(expected).max(initial=0)
        assert np.abs(found - expected).max(initial=0) <= TOLERANCE * most
        np.testing.assert_array_equal(runs[0], runs[1])


def test_far_taps_are_transformed_where_a_run_finds_many_elements_for_them() -> None:
    w, window = weights(64, 48), {"pads": [12] * 4, "dilations": [12] * 2}
    y = sums(w, LANES, window)
    found = pieces(y, target("host"))
    assert {"convolution", "winograd"} <= {piece.nest.kind for piece in found}
    assert [told(found, (1, side, side)) for side in (3, 24, 96)] == [[1, 0], [1, 0], [0, 1]]
    runner = Runner([y], target("host"))
    for n, high, wide in ((1, 9, 5), (2, 13, 96), (1, 60, 49)):
        x = rng.standard_normal((n, 48, high, wide), np.float32)
        runs: list[np.ndarray] = []
        for runner.chunks in (1, 3):
            runs += runner.run({"x": x}, {"N": n, "H": high, "W": wide})
        expected = wanted(x, w, window)
        error = np.abs(runs[0].reshape(expected.shape) - expected).max()
        assert error <= TOLERANCE * np.abs(expected).max()
        np.testing.assert_array_equal(runs[0], runs[1])


def test_far_taps_that_meet_padding_alone_take_no_time() -> None:
    """Direct sums leave them out: of 64 taps a place of a small image meets six."""
    w = rng.standard_normal((96, 24, 8, 8), np.float32)
    window = {"pads": [14] * 4, "dilations": [4] * 2}
    found = pieces(sums(w, LANES, window), target("host"))
    assert [told(found, shape) for shape in ((2, 5, 10), (1, 96, 96))] == [[1, 0], [0, 1]]


def test_images_whose_rows_lie_side_by_side() -> None:
    w = weights(40, 35)
    runner = Runner([sums(w, 1, WINDOWS[0])], without_caches("host"), at_end=False)
    for n, high, wide in FED:
        x = rng.standard_normal((n, 35, high, wide), np.float32)
        (found,) = runner.run({"x": x}, {"N": n, "H": high, "W": wide})
        expected = wanted(x, w, WINDOWS[0])
        most = np.abs(expected).max(initial=0)
        assert np.abs(found - expected).max(initial=0) <= TOLERANCE * most


@pytest.mark.parametrize("strange", [np.inf, np.nan])
def test_what_is_not_finite_in_a_small_image(strange: float) -> None:
    w = np.abs(weights(32, 64)) + 1
    x = np.abs(rng.standard_normal((1, 64, 4, 3), np.float32))
    x[0, 63, 3, 2] = strange
    runner = Runner([sums(w, LANES, WINDOWS[0])], without_caches("host"))
    found = runner.run({"x": x}, {"N": 1, "H": 4, "W": 3})[0].reshape(32, 4, 3)
    assert np.isfinite(found[:, :2]).all()
    assert np.isfinite(found[:, :, :1]).all()
    np.testing.assert_array_equal(found[:, 2:, 1:], np.full((32, 2, 2), strange, np.float32))


def told(found: list[Piece], extents: tuple[int, int, int]) -> list[int]:
    """Which of the ways is taken, in their order: 1, others 0."""
    values = dict(zip("NHW", extents, strict=True))
    asked = dict.fromkeys(piece.is_run for piece in found if isinstance(piece.nest.body[0], When))
    return [whole(is_run, values) for is_run in asked]


@pytest.mark.parametrize("features", [frozenset[str](), frozenset({"amx-bf16"})], ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=["plain", "strided", "dilated"])
def test_a_run_takes_one_way(window: dict[str, Any], features: frozenset[str]) -> None:
    processor = without_caches("host")
    processor = dataclasses.replace(processor, features=processor.features - features)
    found = pieces(sums(weights(64, 48), LANES, window), processor)
    for n in (1, 4, 30):
        for high in (1, 2, 5, 8, 9, 20, 300):
            for wide in (1, 3, 7, 8, 14, 16, 200):
                assert sum(told(found, (n, high, wide))) == 1


def test_few_places_are_summed_directly_and_large_images_transformed() -> None:
    found = pieces(sums(weights(64, 48), LANES, WINDOWS[0]), target("cooperlake"))
    kinds = [p.nest.kind for p in found if isinstance(p.nest.body[0], When)]
    assert {"places", "convolution", "winograd"} <= set(kinds)
    fed = [(1, 1, 1), (1, 2, 3), (1, 3, 2), (1, 40, 40), (30, 7, 7), (1, 1, MOST_PLACES + 1)]
    assert [told(found, extents)[0] for extents in fed] == [1, 1, 1, 0, 0, 0]


def test_groups_of_taps_count_as_channels() -> None:
    w = np.ones((32, 48, 7, 7), np.float32)
    found = pieces(sums(w, LANES, {"pads": [3] * 4}), target("cooperlake"))
    sides = [(1, side, side) for side in (2, 4, 5, 9, 12)]
    assert [told(found, extents)[0] for extents in sides] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("channels", "few", "many"), [(32, 3, 6), (48, 4, 7), (64, 4, 7), (96, 5, 8), (128, 6, 8)]
)
def test_transformed_weights_are_read_where_tiles_are_worth_it(
    channels: int, few: int, many: int
) -> None:
    """Sides up to which copies were faster, and from which on tiles; between, either may be."""
    processor = dataclasses.replace(target("cooperlake"), l2_bytes=2 << 20)
    found = pieces(sums(weights(channels, channels), LANES, WINDOWS[0]), processor)
    assert [told(found, (1, side, side))[0] for side in (1, few, many, 14)] == [1, 1, 0, 0]


@pytest.mark.parametrize(("filters", "shares"), [(3, 4), (5, 15)])
def test_few_places_are_shared_also_where_filters_are_few(filters: int, shares: int) -> None:
    x = image("x", (N, 64, H, W), FLOAT32, 1)
    y = lower_conv(x, constant(weights(filters * LANES, 64)), None, **WINDOWS[1])
    few = next(p.nest for p in pieces(y, target("cooperlake")) if p.nest.kind == "convolution")
    assert whole(few.parallel, {"N": 1, "H": 20, "W": 20}) == shares


def test_images_of_known_size_have_one_way() -> None:
    x, w = image("x", (2, 48, 5, 5), FLOAT32, LANES), constant(weights(64, 48))
    y = blocked(lower_conv(x, w, None, pads=[1] * 4), LANES)
    assert not any(isinstance(p.nest.body[0], When) for p in pieces(y, target("host")))


VOLUMES: list[tuple[tuple[int, int, int], dict[str, Any]]] = [
    ((3, 3, 3), {"strides": [2, 2, 2], "pads": [1] * 6}),
    ((1, 7, 2), {"strides": [2, 2, 3], "pads": [0, 3, 1, 0, 3, 1]}),
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("taps", "window", "block"),
    [(*VOLUMES[0], 1), pytest.param(*VOLUMES[1], LANES, marks=pytest.mark.slow)],
)
def test_single_volumes_have_two_ways(
    taps: tuple[int, ...], window: dict[str, Any], block: int, level: str
) -> None:
    w = rng.standard_normal((64, 32, *taps), np.float32)
    x = image("x", (1, 32, symbol("D", least=1), H, W), FLOAT32, block)
    y = lower_conv(x, constant(w), None, **window)
    y = y if block == 1 else blocked(y, block)
    found = pieces(y, target(level))
    assert {"places", "convolution"} <= {piece.nest.kind for piece in found}
    runner = Runner([y], target(level), chunks=3)
    for size in ((1, 1, 2), (5, 3, 4), (6, 13, 21)):
        given = rng.standard_normal((1, 32, *size), np.float32)
        extents = dict(zip("DHW", size, strict=True))
        (result,) = runner.run({"x": given}, extents)
        both = (torch.from_numpy(np.asarray(a, np.float64)) for a in (given, w))
        more = {"stride": window["strides"], "padding": window["pads"][:3]}
        expected = torch.nn.functional.conv3d(*both, **more).numpy()
        assert np.abs(result - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_volumes_in_steps_have_a_way_for_few_places() -> None:
    w = rng.standard_normal((64, 64, 2, 2, 2), np.float32)
    x = image("x", (1, 64, symbol("D", least=1), H, W), FLOAT32, 1)
    y = lower_conv(x, constant(w), None, strides=[2, 2, 2], pads=[0, 1, 1, 1, 1, 1])
    assert {"convolution", "places"} <= {p.nest.kind for p in pieces(y, target("host"))}
    runner = Runner([stored(y)], target("host"), chunks=3)
    for d, high, wide in [(1, 1, 1), (3, 5, 2), (2, 7, 9), (9, 17, 16)]:
        given = rng.standard_normal((1, 64, d, high, wide), np.float32)
        (found,) = runner.run({"x": given}, {"D": d, "H": high, "W": wide})
        around = [(0, 0)] * 2 + [(0, 1)] + [(1, 1)] * 2
        both = (torch.from_numpy(a.astype(np.float64)) for a in (np.pad(given, around), w))
        expected = torch.nn.functional.conv3d(*both, stride=2).numpy()
        assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_batches_of_volumes_have_one_way() -> None:
    """Where boxes of places end in them takes more terms to say than there may be."""
    taps = rng.standard_normal((16, 8, 1, 7, 2), np.float32)
    x, w = image("x", (N, 8, H, W, symbol("D", least=1)), FLOAT32, 1), constant(taps)
    y = lower_conv(x, w, None, strides=[2, 2, 3], pads=[0, 3, 1, 0, 3, 1])
    assert not any(isinstance(p.nest.body[0], When) for p in pieces(y, target("host")))


@pytest.mark.parametrize("block", [1, LANES])
@pytest.mark.parametrize(("group", "taps"), [(1, (3, 3)), (2, (3, 3)), (1, (1, 5)), (1, (4, 2))])
def test_windows_of_all_kinds(group: int, taps: tuple[int, int], block: int) -> None:
    """Groups, taps along one axis, even numbers of them; each after images of other sizes."""
    w = rng.standard_normal((32, 32 // group, *taps), np.float32)
    pads = [n // 2 for n in taps]
    x = image("x", (N, 32, H, W), FLOAT32, block)
    y = blocked(lower_conv(x, constant(w), None, group=group, pads=[*pads, *pads]), block)
    runner = Runner([y], target("host"), at_end=block > 1)
    for n, high, wide in [(1, 1, 1), (2, 3, 4), (1, 24, 23), (5, 2, 1)]:
        given = rng.standard_normal((n, 32, high, wide), np.float32)
        (found,) = runner.run({"x": given}, {"N": n, "H": high, "W": wide})
        both = (torch.from_numpy(np.asarray(a, np.float64)) for a in (given, w))
        expected = torch.nn.functional.conv2d(*both, padding=pads, groups=group).numpy()
        assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize(("side", "kinds"), [(20, {"winograd"}), (2, {"places", "convolution"})])
def test_ways_that_no_run_takes_pack_no_weights(side: int, kinds: set[str]) -> None:
    x = image("x", (N, 128, side, side), FLOAT32, 16)
    y = blocked(lower_conv(x, constant(weights(128, 128)), pads=[1] * 4), 16)
    found = pieces(y, without_caches("cooperlake"))
    assert kinds <= {p.nest.kind for p in found}
    assert not any(p.is_run == 0 for p in found)
    assert any(isinstance(p.nest.body[0], When) for p in found) == (len(kinds) > 1)


@pytest.mark.parametrize("shape", [(16, 32, 3, 2), (32, 32, 2, 2)])
def test_phases_without_taps_are_of_the_way_that_runs(shape: tuple[int, ...]) -> None:
    x, w = image("x", (N, shape[0], H, W), FLOAT32, 1), constant(np.ones(shape, np.float32))
    window: dict[str, Any] = {"strides": [1, 4], "pads": [0, 1, 0, 0]}
    bias = constant(np.ones(32, np.float32))
    total = lower_conv_transpose(x, w, bias, **window)
    y = compute(total.shape, lambda *i: s.maximum(total[i], 0.0))
    result = store_of(y)
    found = schedule(result, target("host"))
    last = [p.is_run for p in found if result.buffer in {store.buffer for store in p.stores}]
    assert len(last) > 1
    for extents in [(1, 1, 3), (1, 3, 4), (1, 40, 40), (30, 7, 7)]:
        values = dict(zip("NHW", extents, strict=True))
        assert sum(whole(is_run, values) for is_run in last) == 1


def test_phases_of_one_tap_along_an_axis_are_convolutions() -> None:
    window: dict[str, Any] = {"strides": [3, 2], "pads": [0, 2, 0, 2]}
    taps = constant(np.ones((24, 64, 3, 6), np.float32))
    x = image("x", (N, 24, H, W), FLOAT32, 1)
    y = lower_conv_transpose(x, taps, None, **window)
    assert {"convolution", "winograd"} & {p.nest.kind for p in pieces(y, target("host"))}
