from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile.compiler import write_all
from fornix.dtype import FLOAT32, INT32, INT64, UINT8
from fornix.errors import DTypeError
from fornix.ir.dim import symbol
from fornix.ir.loops import Tensor, apply, cast, compute, constant, reduce, stored, tensor
from fornix.ir.loops.scalar import const
from fornix.ops.byte_products import lower_byte_convolution
from fornix.ops.conv import conv
from fornix.ops.window import Window
from tests.compile.levels import LEVELS, OF_BYTES, target
from tests.compile.native import Runner, check


def words(*shape: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    extremes = np.array([0, -1, 0x7F7F7F7F, -0x7F7F7F80, 0x00FF80FF], np.int64).astype(np.int32)
    random = rng.integers(-(2**31), 2**31, shape).astype(np.int32)
    return np.where(rng.random(shape) < 0.3, rng.choice(extremes, shape), random)


def expected(a: Any, b: Any) -> Any:
    """Products of rows of ``a`` and columns of ``b``, by NumPy on the bytes themselves."""
    left = np.ascontiguousarray(a).view(np.uint8).reshape(*a.shape, 4).astype(np.int64)
    right = np.ascontiguousarray(b).view(np.int8).reshape(*b.shape, 4).astype(np.int64)
    return np.einsum("mkq,knq->mn", left, right).astype(np.int32)


def product(a: Tensor, b: Tensor, *, is_turned: bool) -> Tensor:
    def at(m: Any, n: Any) -> Any:
        def term(k: Any) -> Any:
            return apply("dot4", b[k, n], a[m, k]) if is_turned else apply("dot4", a[m, k], b[k, n])

        return reduce("sum", a.shape[1], term)

    return compute((a.shape[0], b.shape[1]), at)


@pytest.mark.parametrize("level", OF_BYTES)
@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 1, 1), (3, 9, 5), (7, 40, 33), (30, 17, 100), (1, 64, 48)]
)
@pytest.mark.parametrize("is_stored", [False, True])
def test_products_of_bytes_are_exact(m: int, k: int, n: int, level: str, is_stored: bool) -> None:
    a, b = words(m, k, seed=0), words(k, n, seed=1)
    x, y = tensor("a", a.shape, INT32), constant(b) if is_stored else tensor("b", b.shape, INT32)
    runner = Runner([product(x, y, is_turned=False)], target(level))
    np.testing.assert_array_equal(runner.run({"a": a, "b": b})[0], expected(a, b))


@pytest.mark.parametrize("level", OF_BYTES)
def test_either_factor_may_be_the_unsigned_one(level: str) -> None:
    a, b = words(9, 20, seed=2), words(20, 40, seed=3)
    x, y = tensor("a", a.shape, INT32), tensor("b", b.shape, INT32)
    found = Runner([product(x, y, is_turned=True)], target(level)).run({"a": a, "b": b})[0]
    np.testing.assert_array_equal(found, expected(b.T.copy(), a.T.copy()).T)


@pytest.mark.parametrize("n", [1, 15, 40])
def test_single_products_are_those_of_the_interpreter(n: int) -> None:
    a, b = words(n, seed=4), words(n, seed=5)
    x, y = tensor("a", (n,), INT32), tensor("b", (n,), INT32)
    check(compute((n,), lambda i: apply("dot4", x[i], y[i])), {"a": a, "b": b})


def test_totals_wrap() -> None:
    a = np.full((1, 1), -1, np.int32)  # 255 four times
    b = np.full((1, 1), 0x7F7F7F7F, np.int32)
    x, y = tensor("a", a.shape, INT32), tensor("b", b.shape, INT32)
    start = compute((1, 1), lambda *_: 2**31 - 1, INT32)
    whole = compute((1, 1), lambda i, j: start[i, j] + product(x, y, is_turned=False)[i, j])
    (found,) = Runner([whole]).run({"a": a, "b": b})
    assert found[0, 0] == 2**31 - 1 + 4 * 255 * 127 - 2**32


def test_only_int32_holds_four_bytes() -> None:
    x = tensor("a", (3,), INT64)
    with pytest.raises(DTypeError, match="dot4 takes int32s of four bytes each, found int64"):
        compute((3,), lambda i: apply("dot4", x[i], x[i]))
    with pytest.raises(DTypeError, match="dot4 is not defined for float32"):
        compute((3,), lambda i: apply("dot4", cast(x[i], FLOAT32), 0.5))


@pytest.mark.parametrize("level", OF_BYTES)
def test_windows_of_bytes_that_lie_apart_are_written_out_for_few_taps(level: str) -> None:
    size, taps, stride, pads = (28, 3), (3, 3), (3, 3), ((1, 1), (1, 2))
    win = Window(size, taps, stride, (1, 1), (1, 1), (1, 2), (10, 2))
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (1, 64, *size)).astype(np.uint8)
    w = rng.integers(0, 256, (16, 64, *taps)).astype(np.uint8)
    x = tensor("x", data.shape, UINT8)
    zero = const(255, INT32)
    sums = lower_byte_convolution(x, constant(w), zero, lambda _: const(7, INT32), win, 1)
    y = stored(sums, "y")
    texts = [e.code.text for e in write_all([y], target(level)) if e.nest.kind == "window"]
    assert texts
    assert all(text.count("call <") < 1024 for text in texts)
    padded = np.pad(data.astype(np.int64) - 255, ((0, 0), (0, 0), *pads))
    wanted = [
        np.einsum("nchw,mchw->nm", padded[:, :, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3], w - 7.0)
        for i, j in np.ndindex(10, 2)
    ]
    (found,) = Runner([y], target(level)).run({"x": data})
    np.testing.assert_array_equal(found, np.stack(wanted, -1).reshape(1, 16, 10, 2))


FEW_FILTERS = [
    (1, 64, 8, (9, 20), (3, 3), (1, 1)),
    (1, 20, 3, (7, 33), (2, 3), (2, 1)),
    (1, 8, 2, (100,), (5,), (1,)),
    (1, 12, 4, (3, 4, 20), (1, 2, 3), (1, 1, 1)),
    (2, 64, 24, (6, 20), (3, 3), (1, 1)),
    (3, 24, 15, (5, 17), (1, 3), (1, 2)),
    (4, 16, 8, (30,), (3,), (1,)),
]
"""Groups, channels, filters, the image, taps and strides."""


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize(("group", "channels", "filters", "size", "taps", "strides"), FEW_FILTERS)
def test_few_filters_and_those_of_groups_multiply_words(
    group: int,
    channels: int,
    filters: int,
    size: tuple[int, ...],
    taps: tuple[int, ...],
    strides: tuple[int, ...],
    is_open: bool,
    level: str,
) -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (2, channels, *size)).astype(np.uint8)
    w = rng.integers(-128, 128, (filters, channels // group, *taps)).astype(np.int8)
    extents = {f"D{k}": n for k, n in enumerate(size)} if is_open else {}
    dims = [symbol(name, least=1) for name in extents] if is_open else size
    more: dict[str, Any] = {"strides": [*strides], "pads": [1] * (2 * len(size))}
    x = tensor("x", (2, channels, *dims), UINT8)
    win = Window.of(dims, taps, **more)
    y = stored(lower_byte_convolution(x, constant(w), const(7, INT32), None, win, group), "y")
    kinds = {e.nest.kind for e in write_all([y], target(level))}
    assert "convolution" in kinds
    runs = [Runner([y], target(level), chunks=n).run({"x": data}, extents)[0] for n in (1, 3)]
    np.testing.assert_array_equal(runs[0], runs[1])
    wanted = conv(data.astype(np.float64) - 7, w.astype(np.float64), group=group, **more)
    np.testing.assert_array_equal(runs[0], wanted)
