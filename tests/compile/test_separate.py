"""Windows of several axes that are reduced along one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.compile.schedule.separate import FEW_TAPS, MANY_TAPS, separated
from fornix.dtype import FLOAT32, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Scalar, Store, Tensor, compute, reduce, tensor
from fornix.ir.loops.tensor import stored
from fornix.ops.window import Window
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner, check, compiled
from tests.compile.test_window import LANES, blocked, mean, normal, pooled, windows


def stores(x: Tensor) -> list[Store] | None:
    """The parts in which ``x`` is computed; None if at once."""
    buffer = stored(x).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    return separated(buffer.source)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("is_blocked", [False, True])
@pytest.mark.parametrize("op", ["max", "mean"])
def test_large_windows_are_reduced_along_one_axis_after_the_other(
    op: str, is_blocked: bool, level: str
) -> None:
    for taps, stride, dilation, extent in ((7, 1, 1, 20), (9, 2, 1, 19), (7, 1, 2, 15)):
        shape = (1, LANES if is_blocked else 2, extent, extent)
        x = tensor("x", shape, FLOAT32)
        given = blocked(x) if is_blocked else x
        window = windows(x, taps, stride, dilation)
        y = mean(given, window) if op == "mean" else pooled(op, given, window)
        y = blocked(y) if is_blocked else y
        assert stores(y)
        check(y, {"x": normal(*shape)}, target=target(level), at_end=stride == 1)


def test_windows_of_volumes_are_reduced_plane_by_plane() -> None:
    x = tensor("x", (2, 3, 6, 7, 18), FLOAT32)
    window = Window.of(x.shape[2:], (3, 3, 3), pads=[1] * 6)
    for y in (pooled("max", x, window), mean(x, window)):
        assert stores(y)
        check(y, {"x": normal(2, 3, 6, 7, 18)})


def test_the_first_axis_is_not_reduced_where_windows_share_nothing_of_it() -> None:
    x = tensor("x", (1, 2, 40, 40), FLOAT32)
    for taps, stride in ((4, 1), (8, 8), (7, 4)):
        assert taps * taps <= FEW_TAPS or stride > taps // 2
        y = pooled("max", x, Window.of((40, 40), (taps, taps), strides=[stride] * 2))
        assert stores(y) is None
        check(y, {"x": normal(1, 2, 40, 40)})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("op", ["max", "sum"])
def test_long_lines_are_reduced_by_pieces(op: str, level: str) -> None:
    for taps, stride, dilation, extent in ((16, 1, 1, 70), (31, 2, 1, 99), (37, 1, 2, 99)):
        x = tensor("x", (2, 3, extent), FLOAT32)
        pad = (taps - 1) * dilation // 2
        window = Window.of(
            (extent,), (taps,), strides=[stride], dilations=[dilation], pads=[pad, pad]
        )
        y = pooled(op, x, window)
        assert stores(y)
        check(y, {"x": normal(2, 3, extent)}, target=target(level), at_end=stride == 1)


def test_steps_count_where_extents_are_open() -> None:
    d, h, w = (symbol(name, least=4) for name in "dhw")
    x = tensor("x", (1, 2, d, h, w), FLOAT32)
    for stride in (1, 2):
        window = Window.of(x.shape[2:], (3, 3, 3), strides=[stride] * 3)
        assert (stores(pooled("max", x, window)) is None) == (stride == 2)


def test_long_lines_of_pictures_are_reduced_by_pieces() -> None:
    x = tensor("x", (1, 2, 90, 90), FLOAT32)
    for taps in ((1, 31), (31, 1)):
        y = pooled("sum", x, Window.of((90, 90), taps))
        assert stores(y)
        check(y, {"x": normal(1, 2, 90, 90)})


def test_short_lines_and_those_that_share_little_are_reduced_at_once() -> None:
    x = tensor("x", (1, 2, 400), FLOAT32)
    for taps, stride in ((MANY_TAPS - 1, 1), (64, 32), (16, 16)):
        assert stores(pooled("max", x, Window.of((400,), (taps,), strides=[stride]))) is None


def test_nan_wins_in_every_long_line_that_holds_it() -> None:
    x = tensor("x", (1, 2, 90), FLOAT32)
    data = normal(1, 2, 90)
    data[0, 1, 45] = np.nan
    found = check(pooled("max", x, Window.of((90,), (31,), pads=[15, 15])), {"x": data})
    assert np.isnan(found).sum() == 31


def test_one_kernel_reduces_lines_of_every_length() -> None:
    n = symbol("n", least=1)
    x = tensor("x", (1, 2, n), FLOAT32)
    y = pooled("max", x, Window.of((n,), (33,), pads=[16, 16]))
    assert stores(y)
    for length in (1, 16, 33, 200):
        check(y, {"x": normal(1, 2, length)}, {"n": length})


def test_one_kernel_reduces_images_of_every_extent() -> None:
    n, h, w = (symbol(name, least=1) for name in "nhw")
    x = tensor("x", (n, 2, h, w), FLOAT32)
    y = pooled("max", x, windows(x, 7, 2))
    assert stores(y)
    for batch, height, width in ((1, 1, 1), (2, 5, 33), (1, 20, 3)):
        feeds = {"x": normal(batch, 2, height, width)}
        check(y, feeds, {"n": batch, "h": height, "w": width})


def test_nan_wins_in_every_large_window_that_holds_it() -> None:
    x = tensor("x", (1, 3, 12, 18), FLOAT32)
    data = normal(1, 3, 12, 18)
    data[0, 1, 5, 5] = np.nan
    found = check(pooled("max", x, windows(x, 7)), {"x": data})
    assert np.isnan(found).sum() == 7 * 7
    assert not np.isnan(found[0, [0, 2]]).any()


def test_bytes_are_compared_in_large_windows_too() -> None:
    x = tensor("x", (1, 2, 15, 37), DType.of("int8"))
    window = windows(x, 7)

    def at(n: DimLike, c: DimLike, *o: DimLike) -> Scalar:
        return reduce("max", window.taps, lambda *k: x.get((n, c, *window.place(o, k)), -128))

    y = compute(x.shape, at)
    assert stores(y)
    data = np.random.default_rng(0).integers(-128, 128, (1, 2, 15, 37)).astype(np.int8)
    check(y, {"x": data})


def test_chunks_never_change_a_bit_of_a_large_window() -> None:
    x = tensor("x", (2, 3, 23, 30), FLOAT32)
    feeds = {"x": normal(2, 3, 23, 30)}
    y = mean(x, windows(x, 9))
    whole = compiled(y, feeds)
    for chunks in (2, 7):
        assert compiled(y, feeds, chunks=chunks).tobytes() == whole.tobytes()
    assert len(Runner([y]).kernels) > 1
