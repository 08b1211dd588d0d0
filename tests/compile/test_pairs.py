from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.blocked import blocked_buffer
from fornix.compile.convolution import Convolution, convolution
from fornix.compile.schedule.contraction import contraction, shape_of
from fornix.compile.schedule.map import normal
from fornix.compile.schedule.pairs import contraction_in_pairs, convolution_in_pairs
from fornix.dtype import INT8, INT32, INT64, UINT8, DType
from fornix.errors import DTypeError
from fornix.ir.loops import Store, Tensor, apply, compute, constant, reduce, stored, tensor
from fornix.ir.loops.scalar import const
from fornix.ops.byte_products import lower_byte_convolution, lower_byte_product
from fornix.ops.window import Window
from tests.compile.levels import EVERY, target
from tests.compile.native import Runner
from tests.ir.interpreter import Array

OLD = ["x86-64-v3", pytest.param("x86-64", marks=pytest.mark.slow)]
LANES = 8
PAD = 1


def drawn(dtype: DType, *shape: int, seed: int) -> Array:
    """Bytes, the extreme ones often: where 16 bits were too few, they would tell."""
    rng = np.random.default_rng(seed)
    bounds = np.iinfo(dtype.numpy)
    extreme = rng.choice([bounds.min, bounds.max], shape)
    random = rng.integers(bounds.min, bounds.max + 1, shape)
    return np.where(rng.random(shape) < 0.7, extreme, random).astype(dtype.numpy)


def convolved(dtype: DType, w: Array, zero: int | None, *, group: int = 1) -> Tensor:
    """Bytes in blocks of channels, with a border, by the weights ``w``."""
    shape = (2, w.shape[1] * group, 5, 7)
    x = Tensor(shape, dtype, buffer=blocked_buffer("x", shape, dtype, LANES))
    pads = (PAD,) * 2
    out = tuple(n + 2 * PAD - k + 1 for n, k in zip(shape[2:], w.shape[2:], strict=True))
    win = Window(shape[2:], w.shape[2:], (1, 1), (1, 1), pads, pads, out)
    of_x = None if zero is None else const(zero, INT32)
    y = lower_byte_convolution(x, constant(w), of_x, None, win, group)
    return stored(y, "y", blocked_buffer("y", y.shape, INT32, LANES))


def expected(x: Array, w: Array, zero: int, group: int) -> Array:
    """The convolution by NumPy in 64 bits, tap by tap."""
    border = [(0, 0)] * 2 + [(PAD, PAD)] * 2
    data = np.pad(x.astype(np.int64) - zero, border)
    filters, channels, *taps = w.shape
    height, width = (n - k + 1 for n, k in zip(data.shape[2:], taps, strict=True))
    y = np.zeros((len(x), filters, height, width), np.int64)
    per_group = filters // group
    for m, i, j in np.ndindex(filters, *taps):
        first = m // per_group * channels
        part = data[:, first : first + channels, i : i + height, j : j + width]
        y[:, m] += np.einsum("nchw,c->nhw", part, w[m, :, i, j].astype(np.int64))
    return y


def scheduled(y: Tensor) -> Convolution:
    assert y.buffer is not None
    assert isinstance(y.buffer.source, Store)
    found = convolution(y.buffer.source)
    assert found is not None
    return found


@pytest.mark.parametrize("level", OLD)
@pytest.mark.parametrize("dtype", [UINT8, INT8])
@pytest.mark.parametrize(
    ("channels", "filters", "taps", "zero", "group"),
    [
        (16, 16, 3, 120, 1),
        (8, 24, 1, None, 1),
        (32, 8, 2, -3, 1),
        (16, 32, 3, 7, 2),
        (3, 16, 3, 5, 1),
        (4, 24, 2, None, 1),
        (1, 8, 3, 9, 1),
        (16, 32, 3, 9, 4),
    ],
)
def test_convolutions_of_bytes_are_exact_over_pairs(
    channels: int, filters: int, taps: int, zero: int | None, group: int, level: str, dtype: DType
) -> None:
    zero = None if zero is None else max(zero, np.iinfo(dtype.numpy).min) & 127
    w = drawn(INT8, filters, channels // group, taps, taps, seed=1)
    y = convolved(dtype, w, zero, group=group)
    if group == 1:
        found = convolution_in_pairs(scheduled(y), target(level))
        assert found is not None
        assert found.product.op == "dot2i"
    x = drawn(dtype, 2, channels, 5, 7, seed=2)
    (result,) = Runner([y], target(level)).run({"x": x})
    np.testing.assert_array_equal(result, expected(x, w, zero or 0, group))


@pytest.mark.parametrize("level", OLD)
@pytest.mark.parametrize("dtype", [UINT8, INT8])
@pytest.mark.parametrize(("m", "k", "n"), [(9, 64, 24), (30, 20, 17)])
def test_products_of_bytes_are_exact_over_pairs(
    m: int, k: int, n: int, dtype: DType, level: str
) -> None:
    a, b = drawn(dtype, m, k, seed=3), drawn(INT8, k, n, seed=4)
    y = stored(lower_byte_product(tensor("a", a.shape, dtype), constant(b), None, None))
    assert y.buffer is not None
    assert isinstance(y.buffer.source, Store)
    product = contraction(normal(y.buffer.source))
    assert product is not None
    assert contraction_in_pairs(product, target(level)) is not None
    (result,) = Runner([y], target(level)).run({"a": a})
    np.testing.assert_array_equal(result, a.astype(np.int64) @ b.astype(np.int64))


def test_bytes_stay_bytes_where_instructions_multiply_them() -> None:
    y = convolved(UINT8, drawn(INT8, 16, 16, 3, 3, seed=5), 3)
    old = target("x86-64-v3")
    new = dataclasses.replace(old, features=old.features | {"avxvnni"})
    assert convolution_in_pairs(scheduled(y), new) is None
    assert convolution_in_pairs(scheduled(y), Target.aarch64()) is None
    assert convolution_in_pairs(scheduled(y), old) is not None


def test_one_row_of_bytes_reads_narrow_weights() -> None:
    b = drawn(INT8, 16, 40, seed=6)
    y = stored(lower_byte_product(tensor("a", (1, 16), UINT8), constant(b), None, None))
    assert y.buffer is not None
    assert isinstance(y.buffer.source, Store)
    product = contraction(y.buffer.source)
    assert product is not None
    assert contraction_in_pairs(product, target("x86-64-v3")) is None


@pytest.mark.parametrize("columns", [24, 32, 100, 768])
def test_tiles_leave_a_register_for_the_products(columns: int) -> None:
    b = drawn(INT8, 64, columns, seed=9)
    y = stored(lower_byte_product(tensor("a", (48, 64), UINT8), constant(b), None, None))
    assert y.buffer is not None
    assert isinstance(y.buffer.source, Store)
    product = contraction(normal(y.buffer.source))
    old = target("x86-64-v3")
    pairs = None if product is None else contraction_in_pairs(product, old)
    assert pairs is not None
    height, vectors = shape_of(pairs, old, LANES)
    accumulators, left = height * vectors, 1
    assert accumulators + vectors + left + 1 <= old.vector_registers


def halves(*shape: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    values = rng.choice(np.array([-(2**15), 2**15 - 1, -1, 0, 3], np.int16), (*shape, 2))
    return np.ascontiguousarray(values).view(np.int32)[..., 0]


@pytest.mark.parametrize("level", EVERY)
@pytest.mark.parametrize(("m", "k", "n"), [(3, 9, 5), (7, 40, 33), (1, 6, 48)])
def test_products_of_halves_wrap(m: int, k: int, n: int, level: str) -> None:
    a, b = halves(m, k, seed=7), halves(k, n, seed=8)
    x, y = tensor("a", a.shape, INT32), constant(b)

    def at(i: Any, j: Any) -> Any:
        return reduce("sum", k, lambda t: apply("dot2i", x[i, t], y[t, j]))

    (found,) = Runner([compute((m, n), at)], target(level)).run({"a": a})
    left, right = (v.view(np.int16).reshape(*v.shape, 2).astype(np.int64) for v in (a, b))
    wanted = np.einsum("mkq,knq->mn", left, right)
    np.testing.assert_array_equal(found, wanted.astype(np.int32))


def test_only_int32_holds_two_halves() -> None:
    x = tensor("a", (3,), INT64)
    with pytest.raises(DTypeError, match="dot2i takes int32s of two int16s each, found int64"):
        compute((3,), lambda i: apply("dot2i", x[i], x[i]))
