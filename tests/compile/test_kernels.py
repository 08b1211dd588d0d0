from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.dtype import ALL, BOOL, FLOAT32, FLOAT64, INT64, DType
from fornix.errors import Fail, NotSupported
from fornix.ir.dim import symbol
from fornix.ir.loops import (
    Tensor,
    apply,
    cast,
    compute,
    constant,
    gathered,
    opaque,
    reduce,
    scan,
    scatter,
    tensor,
)
from fornix.ops import scalar as s
from tests.compile.levels import EVERY, LEVELS, target
from tests.compile.native import Memory, Runner, check, check_all, compiled, whole

HELD = [d for d in ALL if d.kind in {"float", "int", "uint", "bool"}]
COMPUTED = [d for d in HELD if d.bits >= (32 if d.is_float else 8)]
SIZES = [1, 2, 7, 15, 16, 17, 63, 64, 65, 129, 1000]


def values(dtype: DType, *shape: int, seed: int = 0) -> np.ndarray:
    """Any bits that are elements of ``dtype``."""
    rng = np.random.default_rng(seed)
    if dtype is BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.bits < 8:
        codes = rng.integers(0, 1 << dtype.bits, shape).astype(np.uint8)
        return codes.view(dtype.numpy)
    raw = rng.integers(0, 256, (*shape, dtype.bits // 8)).astype(np.uint8)
    return raw.view(dtype.numpy).reshape(shape)


def vector(array: np.ndarray, name: str = "x") -> Tensor:
    return tensor(name, array.shape, DType.of(array.dtype))


# ── sizes, chunks, places ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("n", SIZES)
def test_no_byte_outside_a_buffer_is_touched(n: int, at_end: bool) -> None:
    x, y = (np.random.default_rng(k).standard_normal((3, n)).astype(np.float32) for k in (0, 1))
    a, b = vector(x), vector(y, "y")
    check(compute((3, n), lambda i, j: a[i, j] * b[i, n - 1 - j]), {"x": x, "y": y}, at_end=at_end)
    check(compute((3,), lambda i: reduce("sum", n, lambda k: a[i, k])), {"x": x}, at_end=at_end)


@pytest.mark.parametrize("n", SIZES)
def test_one_kernel_serves_every_extent(n: int) -> None:
    length = symbol("n", least=1)
    x = tensor("x", (length, 5), FLOAT32)
    top = compute((5,), lambda j: reduce("max", length, lambda k: x[k, j]))
    y = compute((length, 5), lambda i, j: s.exp(x[i, j] - top[j]))
    data = np.random.default_rng(0).standard_normal((n, 5)).astype(np.float32)
    check(y, {"x": data}, {"n": n})


@pytest.mark.parametrize("chunks", [1, 2, 3, 16, 100])
def test_chunks_never_change_a_bit(chunks: int) -> None:
    data = np.random.default_rng(0).standard_normal((37, 50)).astype(np.float32)
    w = np.random.default_rng(1).standard_normal((50, 70)).astype(np.float32)
    x, y = vector(data), vector(w, "w")
    cases = [
        compute((37, 50), lambda i, j: s.tanh(x[i, j])),
        compute((37,), lambda i: reduce("sum", 50, lambda k: x[i, k])),
        compute((37, 70), lambda i, j: reduce("sum", 50, lambda k: x[i, k] * y[k, j])),
    ]
    for case in cases:
        feeds = {"x": data, "w": w}
        whole, cut = compiled(case, feeds), compiled(case, feeds, chunks=chunks)
        assert whole.tobytes() == cut.tobytes()


def test_an_empty_tensor_takes_no_store() -> None:
    x = tensor("x", (0, 3), FLOAT32)
    y = compute((0, 3), lambda i, j: x[i, j] + 1.0)
    assert check(y, {"x": np.zeros((0, 3), np.float32)}).shape == (0, 3)


@pytest.mark.parametrize("op", ["sum", "prod", "max", "min"])
def test_a_reduction_over_nothing_is_neutral(op: str) -> None:
    n = symbol("n")
    x = tensor("x", (4, n), FLOAT32)
    y = compute((4,), lambda i: reduce(op, n, lambda k: x[i, k]))
    check(y, {"x": np.zeros((4, 0), np.float32)}, {"n": 0})


# ── dtypes ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("source", HELD, ids=str)
def test_every_dtype_converts_to_every_other(source: DType, level: str) -> None:
    data = values(source, 333)
    x = vector(data)
    all_ = [compute((333,), lambda i, dtype=dtype: cast(x[i], dtype)) for dtype in HELD]
    check_all(all_, {"x": data}, target=target(level))


@pytest.mark.parametrize("op", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("dtype", COMPUTED, ids=str)
def test_reductions_of_every_dtype_in_both_directions(dtype: DType, op: str) -> None:
    if dtype is BOOL and op in {"sum", "prod"}:
        return
    data = values(dtype, 40, 37) if not dtype.is_float else _moderate(dtype)
    x = vector(data)
    check(compute((40,), lambda i: reduce(op, 37, lambda k: x[i, k])), {"x": data})
    check(compute((37,), lambda j: reduce(op, 40, lambda k: x[k, j])), {"x": data})


def _moderate(dtype: DType) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.9, 1.1, (40, 37)).astype(dtype.numpy)


@pytest.mark.parametrize("op", ["max", "min"])
@pytest.mark.parametrize("place", [0, 17, 36])
def test_nan_wins_every_extreme(op: str, place: int) -> None:
    data = np.random.default_rng(0).standard_normal((4, 37)).astype(np.float32)
    data[2, place] = np.nan
    x = vector(data)
    found = check(compute((4,), lambda i: reduce(op, 37, lambda k: x[i, k])), {"x": data})
    assert np.isnan(found).tolist() == [False, False, True, False]
    zero = check(compute((4, 37), lambda i, j: apply(op, x[i, j], 0.0)), {"x": data})
    assert np.isnan(zero[2, place])


@pytest.mark.parametrize("dtype", [d for d in COMPUTED if d.is_integer], ids=str)
@pytest.mark.parametrize("op", ["div", "mod", "fmod", "shl", "shr"])
def test_integers_wrap_as_in_numpy(dtype: DType, op: str) -> None:
    x, y = values(dtype, 500), values(dtype, 500, seed=1)
    y[y == 0] = 1
    if dtype.is_signed:
        x[:3], y[:3] = np.iinfo(dtype.numpy).min, -1
    if op in {"shl", "shr"}:
        y = (np.abs(y.astype(np.float64)) % (dtype.bits + 4)).astype(dtype.numpy)
    a, b = vector(x), vector(y, "y")
    check(compute((500,), lambda i: apply(op, a[i], b[i])), {"x": x, "y": y})


SMALL = [d for d in COMPUTED if d.is_integer and d.bits <= 32]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", SMALL, ids=str)
def test_quotients_next_to_whole_numbers_are_exact(
    level: str, dtype: DType, rng: np.random.Generator
) -> None:
    limits = np.iinfo(dtype.numpy)
    y = rng.integers(max(limits.min, -limits.max), limits.max, 3000, endpoint=True)
    y[:1500] >>= rng.integers(0, dtype.bits, 1500)
    y[y == 0] = 1
    whole = rng.integers(limits.min, limits.max, 3000, endpoint=True) // y * y
    x = np.clip(whole + np.arange(-1, 2).repeat(1000), limits.min, limits.max)
    x[:2], y[:2] = (limits.min, limits.max), -1 if dtype.is_signed else 1
    feeds = {"x": x.astype(dtype.numpy), "y": y.astype(dtype.numpy)}
    a, b = (vector(given, name) for name, given in feeds.items())
    for op in ("div", "mod", "fmod"):
        made = compute((3000,), lambda i, op=op: apply(op, a[i], b[i]))
        check(made, feeds, target=target(level))


# ── checks ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wrong", [5, -6, 2**62])
def test_a_gathered_index_out_of_range_fails_and_reads_nothing(wrong: int) -> None:
    data = np.arange(10, dtype=np.float32).reshape(5, 2)
    ids = np.array([0, 4, -5, wrong])
    x, i = vector(data), vector(ids, "i")
    y = compute((4, 2), lambda n, j: x[gathered(i[n], 5, wraps=True), j])
    with pytest.raises(Fail, match="index"):
        compiled(y, {"x": data, "i": ids})
    check(y, {"x": data, "i": np.clip(ids, -5, 4)})


def test_an_index_along_the_vectors_is_checked_too() -> None:
    data, ids = np.arange(5, dtype=np.float32), np.arange(100) % 5
    x, i = vector(data), vector(ids, "i")
    y = compute((100,), lambda n: x[gathered(i[n], 5)])
    check(y, {"x": data, "i": ids})
    with pytest.raises(Fail, match="index"):
        compiled(y, {"x": data, "i": np.where(np.arange(100) == 77, 5, ids)})


@pytest.mark.parametrize("place", [0, 99])
def test_an_index_into_equal_numbers_is_checked_in_every_loop(place: int) -> None:
    ids = np.zeros(100, np.int64)
    i, table = vector(ids, "i"), compute((1,), lambda _: 2.5, FLOAT32)
    y = compute((100,), lambda n: table[gathered(i[n], 1)])
    check(y, {"i": ids})
    with pytest.raises(Fail, match="index"):
        compiled(y, {"i": np.where(np.arange(100) == place, 1, ids)})


@pytest.mark.parametrize("n", [1, 5, 100])
def test_an_integer_divided_by_zero_fails(n: int) -> None:
    a, b = tensor("a", (n,), INT64), tensor("b", (n,), INT64)
    y = compute((n,), lambda i: apply("div", a[i], b[i]))
    ones = np.ones(n, np.int64)
    check(y, {"a": ones, "b": ones})
    with pytest.raises(Fail, match="division"):
        compiled(y, {"a": ones, "b": np.where(np.arange(n) == n - 1, 0, ones)})


def test_an_integer_to_a_negative_power_fails() -> None:
    a, b = tensor("a", (20,), INT64), tensor("b", (20,), INT64)
    y = compute((20,), lambda i: apply("pow", a[i], b[i]))
    base = np.arange(20)
    check(y, {"a": base, "b": base % 5})
    with pytest.raises(Fail, match="power"):
        compiled(y, {"a": base, "b": base - 1})


# ── the constructs that are no single expression ───────────────────────────────────────────────


@pytest.mark.parametrize("n", [1, 20, 33])
def test_a_scan_moves_states_along(n: int) -> None:
    data = np.random.default_rng(0).standard_normal((6, n)).astype(np.float32)
    x = vector(data)

    def step(t: Any, total: Tensor) -> Tensor:
        return compute((n,), lambda j: total[j] * 0.5 + x[t, j])

    (history,) = scan(6, [compute((n,), lambda _: 1, FLOAT32)], step)
    check(history, {"x": data})


def test_states_of_a_scan_run_along_one_axis_in_vectors_and_one_by_one() -> None:
    data = np.random.default_rng(0).standard_normal((3, 2, 9))
    x = vector(data)

    def step(t: Any, near: Tensor, far: Tensor) -> list[Tensor]:
        def spread(j: Any) -> Any:  # nine loads apart for each element: a vector would gather
            total = near[j]
            for k in range(9):
                total = total * far[j] + x[t, j, k]
            return total

        return [compute((2,), lambda j: near[j] * 0.5 + far[j]), compute((2,), spread)]

    start = compute((2,), lambda _: 1, FLOAT64)
    near, far = scan(3, [start, start], step)
    check(near, {"x": data})
    check(far, {"x": data})


@pytest.mark.parametrize("op", [None, "sum", "prod", "max", "min"])
def test_scattered_writes_happen_in_order(op: str | None) -> None:
    data = np.random.default_rng(0).standard_normal((5, 20)).astype(np.float32)
    ids = np.array([3, 0, 3, -1, 3])
    updates = np.random.default_rng(1).standard_normal((5, 20)).astype(np.float32)
    x, i, u = vector(data), vector(ids, "i"), vector(updates, "u")
    y = scatter(
        x,
        (5, 20),
        lambda n, j: (gathered(i[n], 5, wraps=True), j),
        lambda n, j: u[n, j],
        op,
    )
    check(y, {"x": data, "i": ids, "u": updates})


def test_a_python_kernel_has_no_native_code() -> None:
    x = tensor("x", (3,), FLOAT32)
    (y,) = opaque("Sort", [x], [((3,), FLOAT32)], reason="an order is no function of one element")
    with pytest.raises(NotSupported, match="Opaque has no native code"):
        Runner([y])


# ── contractions ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("m", "k", "n"), [(1, 9, 5), (3, 16, 48), (8, 33, 50), (77, 20, 65)])
def test_products_of_odd_sizes(m: int, k: int, n: int, level: str) -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(z).astype(np.float32) for z in ((m, k), (k, n), (n,)))
    x, w, z = vector(a), vector(b, "w"), vector(c, "c")
    feeds = {"x": a, "w": b, "c": c}
    fixed, turned = constant(b), vector(b.T.copy(), "t")
    for right in (lambda q, j: w[q, j], lambda q, j: fixed[q, j], lambda q, j: turned[j, q]):

        def at(i: Any, j: Any, right: Any = right) -> Any:
            total = reduce("sum", k, lambda q: x[i, q] * right(q, j))
            return s.maximum(total + z[j], 0.0)

        check(compute((m, n), at), {**feeds, "t": b.T.copy()}, target=target(level), chunks=3)


@pytest.mark.parametrize("m", [1, 2, 5, 6, 7, 8, 9, 64, 65, 130])
def test_rows_may_be_any_number(m: int) -> None:
    rows = symbol("m", least=1)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, 20)).astype(np.float32), rng.standard_normal((20, 50))
    w = constant(b.astype(np.float32))
    x = tensor("x", (rows, 20), FLOAT32)
    y = compute((rows, 50), lambda i, j: reduce("sum", 20, lambda q: x[i, q] * w[q, j]))
    check(y, {"x": a}, {"m": m}, chunks=2)


def test_stored_data_are_packed_once() -> None:
    w, x = constant(np.ones((20, 50), np.float32)), tensor("x", (9, 20), FLOAT32)
    y = compute((9, 50), lambda i, j: reduce("sum", 20, lambda q: x[i, q] * w[q, j]))
    pack, product = Runner([y]).kernels
    assert pack.is_constant
    assert not product.is_constant
    assert product.schedule == "contraction"


def test_guard_pages_stop_what_reads_beyond_the_end() -> None:
    import subprocess
    import sys

    script = (
        "import ctypes, tests.compile.native as n; m = n.Memory(8);"
        "ctypes.c_uint8.from_address(m.address + 8).value"
    )
    if sys.platform == "win32":
        pytest.skip("memory is not protected")
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=".").returncode != 0
    assert Memory(8).bytes.size == 8


def test_rows_that_are_divided_keep_their_bounds() -> None:
    m = symbol("m", least=1)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(z).astype(np.float32) for z in ((33, 20), (20, 50)))
    x, w = tensor("x", (m, 20), FLOAT32), constant(b)
    y = compute((m, 50), lambda i, j: reduce("sum", 20, lambda q: x[i // 2, q] * w[q, j]))
    check(y, {"x": a}, {"m": 33})


# ── transposes ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("n", [1, 8, 16, 19, 40])
@pytest.mark.parametrize("level", LEVELS)
def test_repeated_elements_are_read_within_their_rows(factor: int, n: int, level: str) -> None:
    for dtype in (np.float32, np.float64, np.uint8):
        x = tensor("x", (3, n), DType.of(dtype))
        given = values(x.dtype, 3, n)
        turns = (
            lambda i, j, x=x: x[i, j // factor],
            lambda i, j, x=x: x[i, n - 1 - j // factor],
        )
        for turn in turns:
            check(compute((3, n * factor), turn), {"x": given}, target=target(level))
        length = symbol("n", 1)
        y = tensor("x", (3, length), x.dtype)
        repeated = compute((3, length * factor), lambda i, j, y=y: y[i, j // factor] + y[i, 0])
        check(repeated, {"x": given}, symbols={"n": n}, target=target(level))


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize(("m", "n"), [(4, 4), (5, 7), (16, 16), (17, 4), (20, 33), (64, 48)])
def test_tiles_are_turned_at_any_size(m: int, n: int, at_end: bool) -> None:
    rng = np.random.default_rng(0)
    data, bias = rng.standard_normal((m, n)), rng.standard_normal(n)
    for dtype in (np.float32, np.float64, np.int8, np.bool_):
        a, b = data.astype(dtype), bias.astype(dtype)
        x, z = vector(a), vector(b, "z")
        y = compute((n, m), lambda i, j, x=x, z=z: apply("max", x[j, i], z[i]))
        if dtype is np.float32 and min(m, n) >= 16:
            assert Runner([y]).kernels[0].schedule == "turned"
        check(y, {"x": a, "z": b}, at_end=at_end, chunks=2)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", [1, 200, 513, 5003])
@pytest.mark.parametrize("is_open", [False, True])
def test_long_tiles_are_turned_in_pieces_that_threads_share(
    n: int, level: str, *, is_open: bool
) -> None:
    rng = np.random.default_rng(0)
    data = rng.standard_normal((n, 16)).astype(np.float32)
    length = symbol("n", 1) if is_open else n
    x = tensor("x", (length, 16), FLOAT32)
    y = compute((16, length), lambda i, j: x[j, i] * 2.0)
    (kernel,) = (runner := Runner([y], target(level), chunks=3)).kernels
    symbols = {"n": n} if is_open else {}
    assert n < 513 or whole(kernel.parallel, symbols) > 1
    np.testing.assert_array_equal(runner.run({"x": data}, symbols)[0], data.T * 2)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize(("m", "n"), [(2, 64), (3, 65), (3, 700), (7, 79), (12, 100)])
def test_a_few_rows_are_woven_into_columns(m: int, n: int, at_end: bool) -> None:
    rng = np.random.default_rng(0)
    data, scale = rng.integers(-50, 50, (2, m, n)), rng.integers(-2, 2, m)
    for dtype in (np.float32, np.float64, np.int8, np.int64):
        a, b = np.asarray(data, dtype), np.asarray(scale, dtype)
        x, z = vector(a), vector(b, "z")
        y = compute((2, n, m), lambda k, i, j, x=x, z=z: x[k, j, i] * z[j])
        assert Runner([y]).kernels[0].schedule == "turned"
        found = compiled(y, {"x": a, "z": b}, at_end=at_end, chunks=2)
        np.testing.assert_array_equal(found, (data * scale[:, None]).transpose(0, 2, 1))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", [1, 7, 16, 17, 40, 700])
def test_a_few_rows_are_woven_however_long_a_run_finds_them(level: str, n: int) -> None:
    length = symbol("n", 1)
    data = np.random.default_rng(0).standard_normal((2, 3, n)).astype(np.float32)
    x = tensor("x", (2, 3, length), FLOAT32)
    y = compute((2, length, 3), lambda k, i, j: x[k, j, i] * 2.0)
    one = compute((length, 3), lambda i, j: x[1, j, i])
    for wanted, made in ((y, data.transpose(0, 2, 1) * 2), (one, data[1].T)):
        runner = Runner([wanted], target(level), chunks=3)
        assert runner.kernels[0].schedule == "turned"
        np.testing.assert_array_equal(runner.run({"x": data}, {"n": n})[0], made)


def test_guards_hold_in_the_rows_of_a_turned_tile() -> None:
    m, k, n = (symbol(name, least=1) for name in "mkn")
    x, w = tensor("x", (m, k), FLOAT32), tensor("w", (n, k), FLOAT32)
    y = compute((m, n), lambda i, j: reduce("sum", k, lambda q: x[i, q] * w[j, q]))
    rng = np.random.default_rng(0)
    a = rng.standard_normal((3, 4)).astype(np.float32)
    b = rng.standard_normal((5, 4)).astype(np.float32)
    check(y, {"x": a, "w": b}, {"m": 3, "k": 4, "n": 5})


@pytest.mark.parametrize("n", [1, 3, 8, 16, 24, 33, 64])
@pytest.mark.parametrize("level", EVERY)
def test_values_kept_of_a_row_are_those_of_this_row(level: str, n: int) -> None:
    x, w = tensor("x", (5, n), FLOAT32), tensor("w", (n,), FLOAT32)
    mean = compute((5,), lambda i: reduce("sum", n, lambda k: x[i, k]) / float(n))
    centred = compute((5, n), lambda i, j: x[i, j] - mean[i])
    spread = compute((5,), lambda i: reduce("sum", n, lambda k: centred[i, k] * centred[i, k]))
    y = compute((5, n), lambda i, j: centred[i, j] / s.sqrt(spread[i] + 1.0) * w[j])
    rng = np.random.default_rng(n)
    feeds = {
        "x": rng.standard_normal((5, n)).astype(np.float32),
        "w": rng.standard_normal(n).astype(np.float32),
    }
    check(y, feeds, target=target(level))
