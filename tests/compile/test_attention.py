from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.compiler import write_all
from fornix.compile.schedule import attention_parts
from fornix.dtype import BFLOAT16, BOOL, FLOAT16, FLOAT32, FLOAT64, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, index, reduce, select, tensor
from fornix.ir.loops.tensor import stored
from tests.compile.levels import EVERY, IS_WIDE, target
from tests.compile.native import Runner, assert_close
from tests.ir.interpreter import Array

S, T = symbol("S", 1), symbol("T", 1)
Around = Callable[[Scalar, tuple[DimLike, ...]], Scalar]


def plain(score: Scalar, _: tuple[DimLike, ...]) -> Scalar:
    return score


def attend(
    shape: tuple[DimLike, DimLike, DimLike, DimLike],
    around: Around = plain,
    dtype: DType = FLOAT32,
    groups: int = 2,
    finish: Callable[[Scalar], Scalar] = lambda weight: weight,
    *,
    scale: float = 0.3,
) -> Tensor:
    """Attention of 4 heads: softmax of ``around`` the scores of queries and keys, times values."""
    queries, keys, size, width = shape
    wide = FLOAT64 if dtype is FLOAT64 else FLOAT32
    q = tensor("q", (4, queries, size), dtype)
    k = tensor("k", (groups, keys, size), dtype)
    v = tensor("v", (groups, keys, width), dtype)
    shared = 4 // groups

    def score(h: DimLike, i: DimLike, j: DimLike) -> Scalar:
        def product(d: DimLike) -> Scalar:
            return cast(q[h, i, d], wide) * scale * cast(k[h // shared, j, d], wide)

        return around(reduce("sum", size, product), (h, i, j))

    scores = compute((4, queries, keys), score)
    top = compute((4, queries), lambda h, i: reduce("max", keys, lambda j: scores[h, i, j]))
    powers = compute(scores.shape, lambda *p: apply("exp", scores[p] - top[p[:2]]))
    total = compute((4, queries), lambda h, i: reduce("sum", keys, lambda j: powers[h, i, j]))
    weights = compute(scores.shape, lambda *p: finish(powers[p] / total[p[:2]]))

    def mean(h: DimLike, i: DimLike, e: DimLike) -> Scalar:
        def product(j: DimLike) -> Scalar:
            return weights[h, i, j] * cast(v[h // shared, j, e], wide)

        return cast(reduce("sum", keys, product), dtype)

    return compute((4, queries, width), mean)


def feeds_of(
    shape: tuple[int, int, int, int], rng: np.random.Generator, kind: Any = "f", groups: int = 2
) -> dict[str, Array]:
    queries, keys, size, width = shape
    return {
        "q": rng.standard_normal((4, queries, size)).astype(kind),
        "k": rng.standard_normal((groups, keys, size)).astype(kind),
        "v": rng.standard_normal((groups, keys, width)).astype(kind),
    }


def expected(
    feeds: dict[str, Array], around: Callable[[Array], Array] = lambda x: x, blind: float = math.nan
) -> Array:
    """The same by its formula, in float64."""
    shared = 4 // len(feeds["k"])
    q, k, v = (feeds[name].astype(np.float64) for name in "qkv")
    k, v = (np.repeat(x, shared, 0) for x in (k, v))
    with np.errstate(all="ignore"):
        scores = around(q * 0.3 @ k.swapaxes(1, 2))
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        weights = powers / powers.sum(-1, keepdims=True)
        weights = np.where(np.isnan(weights), blind, weights)
        return (weights @ v).astype(feeds["q"].dtype)


@functools.lru_cache(maxsize=4)
def runner_of(result: Tensor, chunks: int, target: Target | None, *, at_end: bool) -> Runner:
    """What computes an attention that no other schedule serves, in ``chunks``."""
    runner = Runner([result], target, chunks=chunks, at_end=at_end)
    assert runner.kernels[-1].schedule == "attention"
    return runner


def run(
    result: Tensor, feeds: dict[str, Array], target: Target | None = None, *, at_end: bool = True
) -> Array:
    """The ``result``, for any cut of the work."""
    symbols = {"S": feeds["q"].shape[1], "T": feeds["k"].shape[1]}
    found, *others = (
        runner_of(result, chunks, target, at_end=at_end).run(feeds, symbols)[0]
        for chunks in (1, 2, 7)
    )
    assert all(found.tobytes() == other.tobytes() for other in others)
    return found


@pytest.mark.parametrize("level", EVERY)
@pytest.mark.parametrize("at_end", [True, False])
def test_any_number_of_queries_and_keys(level: str, at_end: bool, rng: np.random.Generator) -> None:
    result = attend((S, T, 8, 5))
    for queries, keys in ((1, 1), (1, 90), (7, 64), (8, 63), (20, 65), (65, 1), (70, 129)):
        feeds = feeds_of((queries, keys, 8, 5), rng)
        found = run(result, feeds, target=target(level), at_end=at_end)
        assert_close(found, expected(feeds))


@pytest.mark.parametrize(
    "shape",
    [(1, 40, 16, 16), (5, 9, 7, 17), (90, 128, 4, 24), (164, 64, 9, 3), (70, 40, 16, 16)],
)
def test_known_extents(shape: tuple[int, int, int, int], rng: np.random.Generator) -> None:
    feeds = feeds_of(shape, rng)
    assert_close(run(attend(shape), feeds), expected(feeds))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", ["d", "e"])
def test_other_floats_and_heads_that_share_keys(
    kind: str, groups: int, rng: np.random.Generator
) -> None:
    feeds = feeds_of((19, 70, 12, 8), rng, kind, groups)
    dtype = {"d": FLOAT64, "e": FLOAT16}[kind]
    found = run(attend((S, T, 12, 8), dtype=dtype, groups=groups), feeds)
    if kind == "e":  # rounded once
        np.testing.assert_allclose(found, expected(feeds), rtol=2e-3, atol=1e-3)
    else:
        assert_close(found, expected(feeds))


HIDING = [-math.inf, -3.4028235e38, -1e9]


@pytest.mark.parametrize("hidden", HIDING)
@pytest.mark.parametrize("queries", [3, 100])
def test_added_masks(hidden: float, queries: int, rng: np.random.Generator) -> None:
    mask = tensor("mask", (S, T), FLOAT32)
    result = attend((S, T, 8, 8), lambda score, p: score + mask[p[1], p[2]])
    feeds = feeds_of((queries, 200, 8, 8), rng)
    feeds["mask"] = np.where(rng.random((queries, 200)) < 0.3, hidden, 0).astype("f")
    feeds["mask"][:, 64:128] = hidden  # a block that nobody sees
    feeds["mask"][1] = hidden  # who sees nothing has NaN, or the mean of all
    found = run(result, feeds)

    def around(scores: Array) -> Array:
        return (scores.astype("f") + feeds["mask"]).astype(np.float64)

    assert_close(found, expected(feeds, around))
    assert np.isnan(found[:, 1]).all() == np.isinf(hidden)


@pytest.mark.parametrize("kind", ["f", "d"])
@pytest.mark.parametrize("queries", [3, 100])
def test_weights_below_normal_numbers_are_zero(
    kind: str, queries: int, rng: np.random.Generator
) -> None:
    dtype, far, large = (FLOAT32, -95, 1e38) if kind == "f" else (FLOAT64, -720, 1e307)
    mask = tensor("mask", (S, T), dtype)
    result = attend((S, T, 8, 8), lambda score, p: score + mask[p[1], p[2]], dtype)
    feeds = feeds_of((queries, 200, 8, 8), rng, kind)
    feeds["q"] *= 0.1
    feeds["mask"] = np.zeros((queries, 200), kind)
    feeds["mask"][:, 150:] = far
    feeds["v"][:, 150:] = large  # whose share would be 10⁻⁴ and more
    near = {name: x[:, :150] if name in "kv" else x for name, x in feeds.items()}
    assert_close(run(result, feeds), expected(near))


def test_queries_that_see_the_last_keys_only(rng: np.random.Generator) -> None:
    mask = tensor("mask", (S, T), FLOAT32)
    result = attend((S, T, 8, 8), lambda score, p: score + mask[p[1], p[2]])
    feeds = feeds_of((80, 200, 8, 8), rng)
    feeds["mask"] = np.where(np.arange(200) < 190, -3.4028235e38, 0) + np.zeros((80, 1))
    feeds["mask"] = feeds["mask"].astype("f")
    assert_close(run(result, feeds), expected(feeds, lambda x: x + feeds["mask"]))


@pytest.mark.parametrize("queries", [2, 90])
def test_booleans_hide_and_blind_queries_get_zeros(queries: int, rng: np.random.Generator) -> None:
    seen = tensor("seen", (S, T), BOOL)

    def zeroed(weight: Scalar) -> Scalar:
        return select(apply("ne", weight, weight), 0.0, weight)

    result = attend(
        (S, T, 8, 8), lambda score, p: select(seen[p[1], p[2]], score, -math.inf), finish=zeroed
    )
    feeds = feeds_of((queries, 130, 8, 8), rng)
    feeds["seen"] = rng.random((queries, 130)) < 0.5
    feeds["seen"][1] = False
    found = run(result, feeds)
    assert_close(found, expected(feeds, lambda x: np.where(feeds["seen"], x, -np.inf), 0.0))
    assert not found[:, 1].any()


@pytest.mark.parametrize("queries", [4, 130])
def test_causal_masks_and_limits(queries: int, rng: np.random.Generator) -> None:
    def around(score: Scalar, p: tuple[DimLike, ...]) -> Scalar:
        capped = apply("tanh", score / 2.0) * 2.0
        return select(index(p[2]) <= index(p[1]) + 5, capped, -math.inf)

    feeds = feeds_of((queries, 260, 8, 8), rng)
    late = np.arange(260) > np.arange(queries)[:, None] + 5
    wanted = expected(feeds, lambda x: np.where(late, -np.inf, np.tanh(x / 2) * 2))
    assert_close(run(attend((S, T, 8, 8), around), feeds), wanted)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite(bad: float, rng: np.random.Generator) -> None:
    for queries, keys in ((3, 100), (40, 200)):
        feeds = feeds_of((queries, keys, 8, 8), rng)
        feeds["q"][:, 2, 0] = bad
        feeds["k"][:, :, 0] = np.abs(feeds["k"][:, :, 0]) + 0.1
        found = run(attend((S, T, 8, 8)), feeds)
        assert_close(found, expected(feeds))
        assert np.isnan(found[:, 2]).all()
        assert np.isfinite(np.delete(found, 2, 1)).all()


@pytest.mark.parametrize("level", EVERY)
def test_heads_side_by_side_may_be_as_wide_as_a_run_tells(
    level: str, rng: np.random.Generator
) -> None:
    size = symbol("H", 1) // 4
    apart = attend((S, T, size, size))
    result = compute((S, 4 * size), lambda i, e: apart[e // size, i, e - e // size * size])
    symbols = {"S": 9, "T": 20}
    runners = [runner_of(result, chunks, target(level), at_end=True) for chunks in (1, 2)]
    for width in (16, 5):
        feeds = feeds_of((9, 20, width, width), rng)
        one, two = (runner.run(feeds, symbols | {"H": 4 * width + 3})[0] for runner in runners)
        assert one.tobytes() == two.tobytes()
        assert_close(one, expected(feeds).swapaxes(0, 1).reshape(9, 4 * width))


def test_scratch_memory_does_not_grow_with_queries_times_keys() -> None:
    sizes = [Runner([attend((n, n, 64, 64))]).kernels[-1].scratch for n in (512, 1024, 8192)]
    assert len(set(sizes)) == 1
    assert isinstance(sizes[0], int)
    assert sizes[0] < 1 << 20


def test_what_is_no_softmax_is_no_attention() -> None:
    shifted = attend((9, 20, 8, 8), finish=lambda weight: weight + 1.0)
    assert Runner([shifted]).kernels[-1].schedule != "attention"


def test_keys_that_slide_with_the_queries_are_no_attention(rng: np.random.Generator) -> None:
    n, size = 9, 8
    q, v = (tensor(name, (n, size), FLOAT32) for name in "qv")
    k = tensor("k", (2 * n - 1, size), FLOAT32)  # one for each distance of a query and a key

    def score(i: DimLike, j: DimLike) -> Scalar:
        return reduce("sum", size, lambda d: q[i, d] * k[n - 1 - i + j, d])

    scores = compute((n, n), score)
    top = compute((n,), lambda i: reduce("max", n, lambda j: scores[i, j]))
    powers = compute((n, n), lambda i, j: apply("exp", scores[i, j] - top[i]))
    total = compute((n,), lambda i: reduce("sum", n, lambda j: powers[i, j]))
    result = compute(
        (n, size), lambda i, e: reduce("sum", n, lambda j: powers[i, j] / total[i] * v[j, e])
    )
    feeds = {name: rng.standard_normal((n, size)).astype("f") for name in "qv"}
    feeds["k"] = rng.standard_normal((2 * n - 1, size)).astype("f")
    runner = Runner([result])
    assert runner.kernels[-1].schedule != "attention"
    shifted = np.stack([feeds["k"][n - 1 - i : 2 * n - 1 - i] for i in range(n)]).astype("d")
    exponents = np.einsum("id,ijd->ij", feeds["q"].astype("d"), shifted)
    weights = np.exp(exponents - exponents.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    [found] = runner.run(feeds)
    assert_close(found, (weights @ feeds["v"]).astype("f"))


@pytest.mark.parametrize("level", ["host", "x86-64-v3", "x86-64"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_parts_of_many_keys_are_put_together(
    level: str, groups: int, rng: np.random.Generator
) -> None:
    """Queries of a group go through them together, those of a head one after the other."""
    result = attend((S, T, 20, 9), groups=groups)
    for queries, keys in ((1, 1), (5, 12), (1, 2048), (3, 2049), (7, 5000)):
        feeds = feeds_of((queries, keys, 20, 9), rng, groups=groups)
        assert_close(run(result, feeds, target=target(level)), expected(feeds))


def test_extents_that_only_decide_are_told_to_kernels(rng: np.random.Generator) -> None:
    """All but one of the queries that are few, or more: a part keeps as much for any number."""
    n, keys, size = S + 6, 4096, 9
    q = tensor("q", (n, size), FLOAT32)
    k, v = tensor("k", (keys, size), FLOAT32), tensor("v", (keys, size), FLOAT32)
    scores = compute((n, keys), lambda i, j: reduce("sum", size, lambda d: q[i, d] * 0.3 * k[j, d]))
    top = compute((n,), lambda i: reduce("max", keys, lambda j: scores[i, j]))
    powers = compute((n, keys), lambda i, j: apply("exp", scores[i, j] - top[i]))
    total = compute((n,), lambda i: reduce("sum", keys, lambda j: powers[i, j]))
    result = compute(
        (n, size), lambda i, e: reduce("sum", keys, lambda j: powers[i, j] / total[i] * v[j, e])
    )
    runner = Runner([result])
    assert runner.kernels[-1].schedule == "attention"
    for more in (1, 2, 30):
        feeds = {
            name: rng.standard_normal((rows, size)).astype("f")
            for name, rows in (("q", more + 6), ("k", keys), ("v", keys))
        }
        [found] = runner.run(feeds, {"S": more})
        heads = {name: np.repeat(x[None], 4, 0) for name, x in feeds.items()}
        assert_close(found, expected(heads)[0])


@pytest.mark.parametrize("level", ["host", "x86-64-v3", "x86-64"])
@pytest.mark.parametrize(
    "shape", [(2, 63, 5, 3), (3, 4096, 16, 70), (7, 65, 33, 64), (12, 300, 8, 8), (16, 4100, 8, 17)]
)
@pytest.mark.parametrize("at_end", [True, False])
def test_few_queries_that_go_through_the_keys_together(
    level: str, shape: tuple[int, int, int, int], at_end: bool, rng: np.random.Generator
) -> None:
    feeds = feeds_of(shape, rng)
    assert_close(run(attend(shape), feeds, target=target(level), at_end=at_end), expected(feeds))


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("hidden", HIDING)
def test_masks_of_whole_parts(groups: int, hidden: float, rng: np.random.Generator) -> None:
    shape = (3, 4500, 8, 8)
    mask = tensor("mask", shape[:2], FLOAT32)
    result = attend(shape, lambda score, p: score + mask[p[1], p[2]], groups=groups)
    feeds = feeds_of(shape, rng, groups=groups)
    feeds["mask"] = np.where(rng.random(shape[:2]) < 0.3, hidden, 0).astype("f")
    feeds["mask"][0, :4200] = hidden  # the first parts
    feeds["mask"][1] = hidden  # who sees nothing has NaN, or the mean of all
    found = run(result, feeds)

    def around(scores: Array) -> Array:
        return (scores.astype("f") + feeds["mask"]).astype(np.float64)

    assert_close(found, expected(feeds, around))
    assert np.isnan(found[:, 1]).all() == np.isinf(hidden)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_of_many_keys_that_are_not_finite(
    groups: int, bad: float, rng: np.random.Generator
) -> None:
    shape = (3, 4500, 8, 8)
    feeds = feeds_of(shape, rng, groups=groups)
    feeds["q"][:, 2, 0] = bad
    feeds["k"][:, :, 0] = np.abs(feeds["k"][:, :, 0]) + 0.1
    found = run(attend(shape, groups=groups), feeds)
    assert_close(found, expected(feeds))
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(found[:, :2]).all()


# ── tile registers ─────────────────────────────────────────────────────────────────────────────

IN_TILES = pytest.mark.skipif(
    not Target.present().has("amx-bf16"), reason="the processor has no tile registers"
)


@pytest.fixture
def in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tile registers serve whatever is long enough, or has extents that are known."""
    for name, value in (("TILES", 0.0), ("APART", 0.0), ("PAIR", (25.0, 0.0))):
        monkeypatch.setattr(attention_parts, name, value)


def is_in_tiles(result: Tensor) -> bool:
    """Whether the attention ``result`` is computed in tile registers."""
    return "tdpbf16ps" in "".join(w.code.text for w in write_all([stored(result)], Target.host()))


@IN_TILES
def test_long_sequences_are_computed_in_tile_registers() -> None:
    assert is_in_tiles(attend((1024, 1024, 128, 128)))
    assert not is_in_tiles(attend((1024, 1024, 16, 16)))
    assert not is_in_tiles(attend((50, 50, 64, 64)))


@IN_TILES
@pytest.mark.usefixtures("in_tiles")
@pytest.mark.parametrize(
    "shape", [(128, 128, 32, 32), (129, 130, 9, 5), (300, 400, 70, 33), (550, 135, 16, 40)]
)
@pytest.mark.parametrize("at_end", [True, False])
def test_products_in_tile_registers(
    shape: tuple[int, int, int, int], at_end: bool, rng: np.random.Generator
) -> None:
    result, feeds = attend(shape), feeds_of(shape, rng)
    assert is_in_tiles(result)
    assert_close(run(result, feeds, at_end=at_end), expected(feeds))


@IN_TILES
@pytest.mark.usefixtures("in_tiles")
def test_a_run_tells_whether_tile_registers_serve(rng: np.random.Generator) -> None:
    result = attend((S, T, 20, 33))
    assert is_in_tiles(result)
    for queries, keys in ((127, 128), (128, 128), (290, 4), (129, 400), (300, 131)):
        feeds = feeds_of((queries, keys, 20, 33), rng)
        assert_close(run(result, feeds), expected(feeds))


def masked(hidden: float, rng: np.random.Generator) -> tuple[Tensor, dict[str, Array]]:
    """Attention with a mask that hides some scores by ``hidden``, and its feeds."""
    shape = (300, 400, 32, 20)
    mask = tensor("mask", shape[:2], FLOAT32)
    result = attend(shape, lambda score, p: score + mask[p[1], p[2]])
    feeds = feeds_of(shape, rng)
    feeds["mask"] = np.where(rng.random(shape[:2]) < 0.3, hidden, 0).astype("f")
    feeds["mask"][:, 128:256] = hidden  # a block that nobody sees
    return result, feeds


@IN_TILES
@pytest.mark.usefixtures("in_tiles")
@pytest.mark.parametrize("hidden", HIDING)
def test_masks_beside_tile_registers(hidden: float, rng: np.random.Generator) -> None:
    result, feeds = masked(hidden, rng)
    feeds["mask"][:64, 300:] = hidden  # one that a panel does not see
    feeds["mask"][1] = hidden
    assert is_in_tiles(result)
    found = run(result, feeds)

    def around(scores: Array) -> Array:
        return (scores.astype("f") + feeds["mask"]).astype(np.float64)

    assert_close(found, expected(feeds, around))
    assert np.isnan(found[:, 1]).all() == np.isinf(hidden)


@IN_TILES
@pytest.mark.usefixtures("in_tiles")
@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e38])
def test_what_is_not_finite_is_computed_anew(
    name: str, bad: float, rng: np.random.Generator
) -> None:
    shape = (290, 400, 32, 20)
    feeds = feeds_of(shape, rng)
    feeds[name][:, 137, 5] = bad
    result = attend(shape)
    assert is_in_tiles(result)
    assert_close(run(result, feeds), expected(feeds))


def products_in_tiles(result: Tensor, target: Target) -> int:
    """How many products of tile registers stand in the code of ``result``."""
    text = "".join(w.code.text for w in write_all([stored(result)], target))
    return text.count("call void @llvm.x86.tdpbf16ps")


@IN_TILES
@pytest.mark.usefixtures("in_tiles")
@pytest.mark.parametrize(("dtype", "step"), [(BFLOAT16, 2.0**-8), (FLOAT16, 2.0**-11)])
@pytest.mark.parametrize("scale", [0.25, 0.3])
def test_halves_have_fewer_parts_in_tile_registers(
    dtype: DType, step: float, scale: float, rng: np.random.Generator
) -> None:
    shape = (290, 135, 40, 33)
    feeds = feeds_of(shape, rng, dtype.numpy)
    result = attend(shape, dtype=dtype, scale=scale)
    few, many = (products_in_tiles(x, Target.host()) for x in (result, attend(shape)))
    assert 0 < few < many
    wanted = expected(feeds | {"q": feeds["q"].astype(np.float64) * (scale / 0.3)})
    found = run(result, feeds).astype(np.float64)
    limit = step * np.abs(wanted) + 1e-6  # rounded once
    if dtype is BFLOAT16 and scale == 0.25:  # and so are weights where nothing has more bits
        limit += step * expected(feeds | {"v": np.abs(feeds["v"])}).astype(np.float64)
    assert (np.abs(found - wanted) <= limit).all()


ROUNDING = dataclasses.replace(Target.host(), rounds_products=True)
UNASKED = Target.masked("cooperlake")
PAIRED = dataclasses.replace(UNASKED, rounds_products=True)
WAYS = [pytest.param(ROUNDING, marks=IN_TILES), pytest.param(PAIRED, marks=IS_WIDE)]


@IN_TILES
@pytest.mark.usefixtures("in_tiles")
@pytest.mark.parametrize(
    "shape", [(128, 128, 32, 32), (129, 130, 9, 5), (550, 135, 16, 40), (290, 700, 70, 31)]
)
def test_products_that_may_be_rounded_are_one_each(
    shape: tuple[int, int, int, int], rng: np.random.Generator
) -> None:
    result, feeds = attend(shape), feeds_of(shape, rng)
    counts = [products_in_tiles(result, target) for target in (ROUNDING, Target.host())]
    assert counts[0] * 6 == counts[1]
    found, wanted = run(result, feeds, ROUNDING), expected(feeds)
    assert 1e-5 < np.abs(found - wanted).max() / np.abs(wanted).max() < 2e-2


@pytest.mark.usefixtures("in_tiles")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hidden", HIDING)
def test_masks_where_products_are_rounded(
    way: Target, hidden: float, rng: np.random.Generator
) -> None:
    result, feeds = masked(hidden, rng)
    feeds["mask"][1] = hidden
    feeds["v"][:, 128:256] = 1e38  # what is hidden counts for nothing
    found = run(result, feeds, way)
    assert np.isnan(found[:, 1]).all() == np.isinf(hidden)
    wanted = expected(feeds, lambda x: (x.astype("f") + feeds["mask"]).astype(np.float64))
    others = np.arange(found.shape[1]) != 1
    error = np.abs(found - wanted)[:, others].max()
    assert error < 2e-2 * np.abs(wanted[:, others]).max()


@pytest.mark.usefixtures("in_tiles")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800000, 0x7E967699])
def test_what_is_not_finite_stays_so_where_products_are_rounded(
    way: Target, name: str, bits: int, rng: np.random.Generator
) -> None:
    shape = (290, 400, 32, 20)
    feeds = feeds_of(shape, rng)
    feeds[name].view(np.uint32)[:, 137, 5] = bits
    found, wanted = run(attend(shape), feeds, way), expected(feeds)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    known = np.isfinite(wanted)
    limit = 2e-2 * np.abs(wanted[known]).max(initial=0)
    assert (np.abs(found[known] - wanted[known]) <= limit).all()


def multiplies_pairs(result: Tensor, target: Target) -> bool:
    """Whether the code of ``result`` multiplies bfloat16s two at a time."""
    return any("avx512bf16.dpbf16ps" in w.code.text for w in write_all([stored(result)], target))


def assert_rounded(found: Array, feeds: dict[str, Array]) -> None:
    wanted = expected(feeds)
    assert 1e-5 < np.abs(found - wanted).max() / np.abs(wanted).max() < 2e-2


@IS_WIDE
@pytest.mark.parametrize(
    "shape", [(64, 64, 64, 64), (9, 33, 32, 40), (129, 131, 18, 5), (150, 700, 70, 31)]
)
def test_vectors_multiply_rounded_factors_in_pairs(
    shape: tuple[int, int, int, int], rng: np.random.Generator
) -> None:
    result, feeds = attend(shape), feeds_of(shape, rng)
    assert multiplies_pairs(result, PAIRED)
    assert not multiplies_pairs(result, dataclasses.replace(PAIRED, rounds_products=False))
    assert_rounded(run(result, feeds, PAIRED), feeds)


@IS_WIDE
@pytest.mark.parametrize("groups", [1, 4])
def test_pairs_of_open_extents(groups: int, rng: np.random.Generator) -> None:
    result = attend((S, T, 20, 7), groups=groups)
    for queries, keys in ((9, 63), (40, 64), (65, 1), (100, 129)):
        feeds = feeds_of((queries, keys, 20, 7), rng, groups=groups)
        assert_rounded(run(result, feeds, PAIRED), feeds)


@IS_WIDE
@pytest.mark.parametrize(("size", "scale"), [(21, 0.25), (14, 0.25), (32, 0.3)])
def test_what_is_not_paired(size: int, scale: float) -> None:
    """Odd terms, few terms, and queries that a scale gives more bits."""
    assert not multiplies_pairs(attend((64, 64, size, 8), dtype=BFLOAT16, scale=scale), UNASKED)


@IS_WIDE
def test_bfloat16s_are_paired_unless_sums_are_strict(rng: np.random.Generator) -> None:
    shape = (90, 135, 40, 33)
    result = attend(shape, dtype=BFLOAT16, scale=0.25)
    assert multiplies_pairs(result, UNASKED)
    assert not multiplies_pairs(result, dataclasses.replace(UNASKED, is_strict=True))
    feeds = feeds_of(shape, rng, BFLOAT16.numpy)
    wanted = expected(feeds | {"q": feeds["q"].astype(np.float64) * (0.25 / 0.3)})
    weighed = expected(feeds | {"v": np.abs(feeds["v"])}).astype(np.float64)
    found = run(result, feeds, UNASKED)
    assert (np.abs(found.astype("d") - wanted) <= 2.0**-8 * (np.abs(wanted) + weighed) + 1e-6).all()
