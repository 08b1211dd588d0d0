from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fornix.compile.schedule.gates import divided
from fornix.dtype import FLOAT32, FLOAT64, INT32, DType
from fornix.ir.dim import Dim, DimLike, symbol
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    index,
    reduce,
    scan,
    stored_at,
    tensor,
)
from tests.compile.levels import EVERY, target
from tests.compile.native import Runner, check, whole

S, N, M = symbol("S"), symbol("N"), symbol("M")


def weighed(h: Tensor, w: Tensor, place: tuple[DimLike, ...]) -> Scalar:
    """Σ_q h[d, n, q] · w[d, j, q]."""
    d, n, j = place
    return reduce("sum", h.shape[2], lambda q: h[d, n, q] * w[d, j, q])


def layer(
    steps: DimLike, shape: tuple[DimLike, DimLike, int], gates: int, dtype: DType = FLOAT32
) -> Tensor:
    """The history of a layer with one sum of products for each gate."""
    ways, _, width = shape
    x = tensor("x", (steps, *shape), dtype)
    w = tensor("w", (ways, gates * width, width), dtype)

    def step(t: Dim, h: Tensor) -> Tensor:
        def new(*i: DimLike) -> Scalar:
            d, n, j = i
            sums = [weighed(h, w, (d, n, k * width + j)) for k in range(gates)]
            total = x[t, d, n, j] + sums[0]
            for k in range(1, gates):
                total = total + sums[k] * float(k)
            return apply("tanh", total)

        return compute(shape, new)

    [history] = scan(steps, [compute(shape, lambda *_: 0.5, dtype)], step)
    return history


def feeds_of(
    steps: int, shape: tuple[int, int, int], gates: int, rng: np.random.Generator, kind: Any = "f"
) -> dict[str, Any]:
    ways, _, width = shape
    x = rng.standard_normal((steps, *shape)).astype(kind)
    return {"x": x, "w": rng.uniform(-0.3, 0.3, (ways, gates * width, width)).astype(kind)}


@pytest.mark.parametrize("gates", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("level", EVERY)
def test_steps_of_any_number_of_gates(gates: int, level: str, rng: np.random.Generator) -> None:
    for shape in ((1, 1, 17), (2, 7, 16), (1, 40, 5)):
        history = layer(3, shape, gates)
        runner = Runner([history], target(level), chunks=3)
        assert runner.kernels[-1].schedule == "gates"
        check(history, feeds_of(3, shape, gates, rng), target=target(level), chunks=3)


def test_rows_of_open_number_fall_into_even_blocks(rng: np.random.Generator) -> None:
    history = layer(S, (2, N, 9), 4)
    runner = Runner([history], chunks=4)
    assert runner.kernels[-1].schedule == "gates"
    for steps, batch in ((2, 1), (1, 2), (2, 4), (2, 5), (1, 13), (2, 17), (2, 33), (1, 70)):
        feeds = feeds_of(steps, (2, batch, 9), 4, rng)
        check(history, feeds, {"S": steps, "N": batch}, chunks=4)


@pytest.mark.parametrize("least", [2, 4])
def test_two_threads_have_as_many_rows_each(least: int) -> None:
    open_count, open_rows = divided(N, least)
    assert isinstance(open_count, Dim)
    assert isinstance(open_rows, Dim)
    for rows in range(200):
        count, most = whole(open_count, {"N": rows}), whole(open_rows, {"N": rows})
        assert divided(rows, least) == (count, most)
        sizes = [min(most, rows - begin) for begin in range(0, rows, most)]
        assert len(sizes) == count
        assert most <= 8
        assert (count > 1) == (rows >= 2 * least)
        assert max(sum(sizes[::2]), sum(sizes[1::2])) <= rows / 2 + most / 2 + 1 or count == 1


def test_four_rows_are_shared_by_two_threads() -> None:
    for rows, chunks in ((1, 1), (3, 1), (4, 2), (16, 2), (20, 4), (32, 4)):
        runner = Runner([layer(2, (1, rows, 9), 4)], target("x86-64-v3"))
        assert runner.kernels[-1].parallel == chunks


def test_two_threads_share_directions_before_rows() -> None:
    for ways, rows, chunks in ((2, 4, 2), (2, 7, 2), (2, 8, 4), (2, 33, 12), (3, 4, 6)):
        runner = Runner([layer(2, (ways, rows, 9), 4)], target("x86-64-v3"))
        assert runner.kernels[-1].parallel == chunks


@pytest.mark.parametrize(("width", "gates", "shares"), [(96, 4, 1), (128, 4, 2), (272, 3, 4)])
def test_one_slice_is_shared_step_by_step(
    width: int, gates: int, shares: int, rng: np.random.Generator
) -> None:
    for rows in (1, 3):
        history = layer(S, (1, rows, width), gates)
        (*_, kernel) = Runner([history]).kernels
        assert kernel.schedule == "gates"
        assert (kernel.parallel, kernel.shares) == (1, shares)
        assert whole(kernel.steps, {"S": 5}) == (5 if shares > 1 else 1)
        for steps in (1, 3):
            feeds = feeds_of(steps, (1, rows, width), gates, rng)
            check(history, feeds | {"w": feeds["w"] / 8}, {"S": steps})


def test_one_slice_among_an_open_number_is_shared_step_by_step(rng: np.random.Generator) -> None:
    for rows in (1, N):
        history = layer(S, (M, rows, 272), 3)
        (*_, kernel) = Runner([history]).kernels
        assert (kernel.schedule, kernel.shares) == ("gates", 4)
        for steps, slices, count in ((3, 1, 1), (2, 2, 1), (2, 1, 5)):
            shape = (slices, count if rows is N else 1, 272)
            feeds = feeds_of(steps, shape, 3, rng)
            extents = {"S": steps, "M": slices, "N": count}
            check(history, feeds | {"w": feeds["w"] / 8}, extents)


ROWS: list[Callable[[Any, Any], Any]] = [
    lambda n, m: n * m + n,
    lambda n, m: (n + 2) // 3 * m + m,
    lambda n, m: n + m,
]


@pytest.mark.parametrize("rows", ROWS)
def test_rows_of_several_open_extents_are_gates(
    rows: Callable[[Any, Any], Any], rng: np.random.Generator
) -> None:
    history = layer(S, (2, rows(N, M), 9), 4)
    runner = Runner([history], chunks=4)
    assert runner.kernels[-1].schedule == "gates"
    for n, m in ((1, 1), (3, 5)):
        feeds = feeds_of(2, (2, rows(n, m), 9), 4, rng)
        check(history, feeds, {"S": 2, "N": n, "M": m}, chunks=4)


def test_float64_takes_narrower_vectors(rng: np.random.Generator) -> None:
    check(layer(2, (1, 3, 11), 3, FLOAT64), feeds_of(2, (1, 3, 11), 3, rng, "d"))


def test_what_is_stored_at_a_time_is_complete_before_it_is_read(
    rng: np.random.Generator,
) -> None:
    shape = (1, 3, 20)
    w = tensor("w", (1, 20, 20), FLOAT32)

    def step(t: Dim, h: Tensor) -> Tensor:
        inner = stored_at(compute(shape, lambda *i: weighed(h, w, i) + h[i]), t)
        return compute(shape, lambda *i: apply("tanh", weighed(inner, w, i) - inner[i]))

    for width, kind in ((20, "gates"), (1, "scan")):  # a sum of one product is none
        shape, w = (1, 3, width), tensor("w", (1, width, width), FLOAT32)
        [history] = scan(4, [compute(shape, lambda *_: 0.5, FLOAT32)], step)
        assert Runner([history]).kernels[-1].schedule == kind
        check(history, {"w": rng.uniform(-0.3, 0.3, (1, width, width)).astype("f")})


def test_slices_that_read_each_other_stay_on_one_thread(rng: np.random.Generator) -> None:
    shape = (2, 6, 16)
    w = tensor("w", (2, 16, 16), FLOAT32)

    def crossed(_: Dim, h: Tensor) -> Tensor:
        def new(d: DimLike, n: DimLike, j: DimLike) -> Scalar:
            return apply("tanh", weighed(h, w, (d, n, j)) + h[1 - d, n, j])

        return compute(shape, new)

    [history] = scan(4, [compute(shape, lambda *_: 0.5, FLOAT32)], crossed)
    runner = Runner([history], chunks=2)
    assert runner.kernels[-1].schedule == "scan"
    check(history, {"w": rng.uniform(-0.3, 0.3, (2, 16, 16)).astype("f")}, chunks=2)


def test_weights_that_change_with_time_are_not_packed_ahead(rng: np.random.Generator) -> None:
    shape = (1, 2, 16)
    w = tensor("w", (3, 1, 16, 16), FLOAT32)

    def step(t: Dim, h: Tensor) -> Tensor:
        now = compute((1, 16, 16), lambda d, j, q: w[t, d, j, q])
        return compute(shape, lambda *i: apply("tanh", weighed(h, now, i)))

    [history] = scan(3, [compute(shape, lambda *_: 0.5, FLOAT32)], step)
    assert Runner([history]).kernels[-1].schedule == "scan"
    check(history, {"w": rng.uniform(-0.3, 0.3, (3, 1, 16, 16)).astype("f")})


def test_time_of_what_is_stored_is_a_loop_variable() -> None:
    with pytest.raises(TypeError, match="the time of a scan is a loop variable, found S"):
        stored_at(compute((2,), lambda *_: 0.5, FLOAT32), S)


def rounded_layer(steps: DimLike, shape: tuple[DimLike, DimLike, int], width: int) -> Tensor:
    """A layer whose states are made words of four bytes in each step, row by row."""
    words = -(-width // 4)
    w = tensor("w", (shape[0], 2 * width, words), INT32)

    def step(t: Dim, h: Tensor) -> Tensor:
        def highest(d: DimLike, n: DimLike) -> Scalar:
            return reduce("max", width, lambda j: apply("max", h[d, n, j], 0.0 - h[d, n, j])) + 1e-3

        top = stored_at(compute(shape[:2], highest), t)

        def word(d: DimLike, n: DimLike, q: DimLike) -> Scalar:
            parts = [h.get((d, n, q * 4 + k), 0.0) / top[d, n] * 127.0 for k in range(4)]
            bytes_ = [cast(apply("rint", x), INT32) + 128 for x in parts]
            total = bytes_[0]
            for k in range(1, 4):
                total = apply("or", total, apply("shl", bytes_[k], 8 * k))
            return total

        quads = stored_at(compute((*shape[:2], words), word), t)

        def new(d: DimLike, n: DimLike, j: DimLike) -> Scalar:
            def gate(k: int) -> Scalar:
                def term(q: DimLike) -> Scalar:
                    return apply("dot4", quads[d, n, q], w[d, k * width + j, q])

                return cast(reduce("sum", words, term), FLOAT32)

            return apply("tanh", (gate(0) - gate(1)) * (top[d, n] * 1e-5) + h[d, n, j] * 0.5)

        return compute(shape, new)

    [history] = scan(steps, [compute(shape, lambda *i: cast(index(i[2]), FLOAT32) * 0.1)], step)
    return history


@pytest.mark.parametrize("level", EVERY)
def test_states_are_made_bytes_before_they_are_multiplied(
    level: str, rng: np.random.Generator
) -> None:
    for shape in ((1, 1, 20), (2, 7, 16), (1, 40, 8), (2, 1, 68), (2, 3, 7)):
        width = shape[2]
        history = rounded_layer(3, shape, width)
        kind = "gates" if width % 4 == 0 else "scan"  # a row's last word reaches into the next
        assert Runner([history], target(level), chunks=3).kernels[-1].schedule == kind
        words = (shape[0], 2 * width, -(-width // 4))
        feeds = {"w": rng.integers(-(2**31), 2**31, words).astype(np.int32)}
        check(history, feeds, target=target(level), chunks=3)


def test_states_of_open_number_are_made_bytes(rng: np.random.Generator) -> None:
    history = rounded_layer(S, (2, N, 12), 12)
    assert Runner([history], chunks=4).kernels[-1].schedule == "gates"
    feeds = {"w": rng.integers(-(2**31), 2**31, (2, 24, 3)).astype(np.int32)}
    for steps, batch in ((2, 1), (1, 2), (2, 5), (2, 33)):
        check(history, feeds, {"S": steps, "N": batch}, chunks=4)


def test_what_is_prepared_of_other_rows_stays_in_order(rng: np.random.Generator) -> None:
    shape = (1, 6, 16)
    w = tensor("w", (1, 16, 16), FLOAT32)

    def step(t: Dim, h: Tensor) -> Tensor:
        neighbours = compute((1, 6), lambda d, n: h[d, 5 - n, 0])
        other = stored_at(neighbours, t)
        return compute(shape, lambda *i: apply("tanh", weighed(h, w, i) + other[i[:2]]))

    [history] = scan(4, [compute(shape, lambda *_: 0.5, FLOAT32)], step)
    assert Runner([history], chunks=2).kernels[-1].schedule == "scan"
    check(history, {"w": rng.uniform(-0.3, 0.3, (1, 16, 16)).astype("f")}, chunks=2)


def test_what_states_share_is_computed_and_counted_once(rng: np.random.Generator) -> None:
    shape = (1, 3, 16)
    w = tensor("w", (1, 16, 16), FLOAT32)

    def step(_: Dim, h: Tensor, c: Tensor) -> list[Tensor]:
        moved = compute(shape, lambda *i: weighed(h, w, i) + c[i])
        return [compute(shape, lambda *i: 0.0 - moved[i]), moved]

    start = compute(shape, lambda *_: 0.5, FLOAT32)
    hidden, memory = scan(4, [start, start], step)
    kernel = Runner([hidden, memory]).kernels[-1]
    assert kernel.work.operations == 4 * 3 * 16 * (2 * 16 + 2)
    feeds = {"w": rng.uniform(-0.3, 0.3, (1, 16, 16)).astype("f")}
    check(hidden, feeds)
    check(memory, feeds)
