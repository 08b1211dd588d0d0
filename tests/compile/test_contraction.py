"""Matrix products by machine code: shapes of tiles, operands that lie in pieces."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.compiler import write_all
from fornix.compile.emit.memory import SECOND_CACHE
from fornix.compile.nest import Chunks, Tile, When
from fornix.compile.schedule import Piece, schedule
from fornix.compile.schedule.contraction import contraction, contraction_nests, shape_of
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike, symbol
from fornix.ir.dim.expression import substitute
from fornix.ir.loops import Scalar, Store, Tensor, compute, constant, reduce, tensor
from fornix.ir.loops.tensor import stored
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner, check, compiled

BATCH = symbol("batch", least=1)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def product(rows: int, columns: int, terms: int) -> Tensor:
    """a[M, K] times b[K, N]."""
    a, b = tensor("a", (rows, terms), FLOAT32), tensor("b", (terms, columns), FLOAT32)
    return compute((rows, columns), lambda i, j: reduce("sum", terms, lambda k: a[i, k] * b[k, j]))


def store_of(result: Tensor) -> Store:
    buffer = stored(result).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    return buffer.source


def kinds(result: Tensor) -> list[str]:
    """How the nests run that compute ``result``."""
    buffer = stored(result).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    return [piece.nest.kind for piece in schedule(buffer.source, Target.host())]


def tiles_of(piece: Piece) -> list[Tile]:
    """The tiles of a product of matrices, those for few columns first."""
    (chunks,) = piece.nest.body
    if not isinstance(chunks, Chunks):
        return []
    bodies = [when.body for when in chunks.body if isinstance(when, When)]
    return [tile for body in bodies for tile in body if isinstance(tile, Tile)]


def of_heads(weights: np.ndarray) -> Tensor:
    """x[H, M, D] with its heads side by side, times w[H·D, N]: what follows an attention."""
    x, w = tensor("x", (3, 21, 16), FLOAT32), constant(weights, "w")
    n = weights.shape[1]
    return compute(
        (21, n), lambda i, j: reduce("sum", 48, lambda k: x[k // 16, i, k - k // 16 * 16] * w[k, j])
    )


def of_windows(weights: np.ndarray) -> Tensor:
    """Windows of 7×7 of images of 14×14, each a matrix, times w[K, N]."""
    size, columns = weights.shape
    x, w = tensor("x", (BATCH, 14, 14, size), FLOAT32), constant(weights, "w")
    b = tensor("b", (columns,), FLOAT32)

    def at(window: DimLike, place: DimLike, j: DimLike) -> Scalar:
        image, v = window // 4, window - window // 4 * 4
        row, column = v // 2 * 7 + place // 7, (v - v // 2 * 2) * 7 + place - place // 7 * 7
        product = reduce("sum", size, lambda k: x[image, row, column, k] * w[k, j])
        return product + b[j]

    return compute((4 * BATCH, 49, columns), at)


@pytest.mark.parametrize("columns", [5, 16, 50, 100])
def test_heads_side_by_side_are_multiplied_as_one_matrix(columns: int) -> None:
    result = of_heads(numbers(48, columns, seed=1))
    check(result, {"x": numbers(3, 21, 16)})
    assert kinds(result)[-1] == "contraction"


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("columns", [20, 50])
def test_windows_are_multiplied_as_one_matrix(batch: int, columns: int) -> None:
    result = of_windows(numbers(24, columns, seed=1))
    feeds = {"x": numbers(batch, 14, 14, 24), "b": numbers(columns, seed=2)}
    check(result, feeds, {"batch": batch})
    whole, cut = (compiled(result, feeds, {"batch": batch}, chunks=n) for n in (1, 5))
    assert whole.tobytes() == cut.tobytes()


def test_rows_in_pieces_are_copied_where_many_columns_use_them() -> None:
    wide, narrow = (kinds(of_windows(numbers(24, n, seed=1))) for n in (50, 20))
    assert wide[-1] == narrow[-1] == "contraction"
    assert len(wide) == len(narrow) + 1


@pytest.mark.parametrize("rows", [1, 6, 7, 8, 49, 65, 130])
@pytest.mark.parametrize("level", LEVELS)
def test_any_number_of_rows_and_columns_fits_the_tiles(rows: int, level: str) -> None:
    x = tensor("x", (rows, 20), FLOAT32)
    for columns in (1, 16, 33, 64, 97):
        w = constant(numbers(20, columns, seed=1), "w")
        result = compute(
            (rows, columns),
            lambda i, j, w=w: reduce("sum", 20, lambda k: x[i, k] * w[k, j]),
        )
        check(result, {"x": numbers(rows, 20)}, target=target(level), at_end=columns % 2 == 0)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("rows", [1, 2, 9, 30])
def test_any_number_of_terms_is_summed_in_turns_of_four(rows: int, level: str) -> None:
    stream = np.random.default_rng(rows)
    for terms in (2, 3, 4, 5, 7, 8, 11):
        a, b = (stream.integers(-9, 9, (n, terms)).astype(np.float32) for n in (rows, 37))
        x, w = tensor("x", (rows, terms), FLOAT32), constant(b.T, "w")
        y = compute(
            (rows, 37),
            lambda i, j, n=terms, x=x, w=w: reduce("sum", n, lambda k: x[i, k] * w[k, j]),
        )
        np.testing.assert_array_equal(compiled(y, {"x": a}, target=target(level)), a @ b.T)


def test_infinities_stay_in_the_terms_that_have_them() -> None:
    x, w = numbers(30, 11), numbers(11, 37, seed=1)
    x[4, 9], x[7, 2], x[20, 10], w[3, 5] = np.inf, np.nan, -np.inf, np.inf
    a, b = tensor("a", x.shape, FLOAT32), constant(w, "w")
    y = compute((30, 37), lambda i, j: reduce("sum", 11, lambda k: a[i, k] * b[k, j]))
    with np.errstate(invalid="ignore"):
        wanted = (x[:, :, None] * w).sum(axis=1)
    np.testing.assert_allclose(compiled(y, {"a": x}), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rows", "lines"), [(2000, 1), (48, 2), (16, 8)])
def test_terms_of_a_turn_ask_once_for_a_line_that_they_share(rows: int, lines: int) -> None:
    x, w = tensor("x", (rows, 96), FLOAT32), constant(numbers(96, 480), "w")
    y = compute((rows, 480), lambda i, j: reduce("sum", 96, lambda k: x[i, k] * w[k, j]))
    wide = dataclasses.replace(Target.masked("x86-64-v4"), l1_bytes=32 << 10, l2_bytes=1 << 20)
    text = write_all([stored(y)], wide)[-1].code.text
    of_second_cache = text.count(f"i32 0, i32 {SECOND_CACHE}, i32 1)")
    assert of_second_cache == lines


@pytest.mark.parametrize(
    ("rows", "columns", "wanted"),
    [(128, 768, (8, 3)), (49, 768, (8, 3)), (196, 384, (8, 3)), (128, 64, (6, 4)),
     (BATCH, 32, (12, 2)), (49 * BATCH, 768, (8, 3)), (5, 96, (5, 3)), (BATCH, BATCH, (6, 4)),
     ((BATCH + 240) // 320 - 1, 256, (8, 3)), (64, 100, (6, 4)), (64, 10, (14, 1))],
)  # fmt: skip
def test_tiles_waste_little(rows: DimLike, columns: DimLike, wanted: tuple[int, int]) -> None:
    assert shape_beside(32 << 10, rows, columns) == wanted


@pytest.mark.parametrize(
    ("rows", "columns", "wanted"),
    [(128, 768, (14, 2)), (12, 512, (12, 2)), (16, 512, (14, 2)), (BATCH, 768, (14, 2)),
     (BATCH, BATCH, (6, 4)), (64, 10, (14, 1)), (1500, 384, (8, 3)), (1500, 64, (14, 2))],
)  # fmt: skip
def test_tiles_are_tall_beside_a_first_cache_of_twelve_ways(
    rows: DimLike, columns: DimLike, wanted: tuple[int, int]
) -> None:
    assert shape_beside(48 << 10, rows, columns) == wanted


@pytest.mark.parametrize(("rows", "terms", "is_asked_for"), [(4, 80, True), (4, 20, False)])
def test_what_few_rows_read_from_far_is_asked_for(
    rows: int, terms: int, is_asked_for: bool
) -> None:
    host = dataclasses.replace(target("host"), l2_bytes=32 << 10)
    x, w = tensor("x", (rows, terms), FLOAT32), tensor("w", (terms, 300), FLOAT32)
    y = compute((rows, 300), lambda i, j: reduce("sum", terms, lambda k: x[i, k] * w[k, j]))
    (piece,) = write_all([stored(y)], host)
    assert ("llvm.prefetch" in piece.code.text) == is_asked_for
    feeds = {"x": numbers(rows, terms, seed=1), "w": numbers(terms, 300, seed=2)}
    check(y, feeds, target=host)


@pytest.mark.parametrize("columns", [96, 200])
@pytest.mark.parametrize("level", LEVELS)
def test_stored_panels_are_packed_and_asked_for_before_they_are_read(
    level: str, columns: int
) -> None:
    x, w = tensor("x", (5, 20), FLOAT32), constant(numbers(20, columns, seed=1), "w")
    y = compute((5, columns), lambda i, j: reduce("sum", 20, lambda k: x[i, k] * w[k, j]))
    texts = [piece.code.text for piece in write_all([stored(y)], target(level))]
    assert ["llvm.prefetch" in text for text in texts] == [False, True]


@pytest.mark.parametrize(("rows", "terms"), [(1, 127), (1, 129), (15, 200), (BATCH, 129)])
@pytest.mark.parametrize("level", LEVELS)
def test_few_rows_read_each_term_of_both_halves_of_a_panel(
    level: str, rows: DimLike, terms: int
) -> None:
    # sums of whole numbers are exact in any order
    stream = np.random.default_rng(terms)
    weights = stream.integers(-9, 10, (terms, 70)).astype(np.float32)
    x, w = tensor("x", (rows, terms), FLOAT32), constant(weights, "w")
    y = compute((rows, 70), lambda i, j: reduce("sum", terms, lambda k: x[i, k] * w[k, j]))
    count = rows if isinstance(rows, int) else 5
    left = stream.integers(-9, 10, (count, terms)).astype(np.float32)
    for chunks in (1, 2):
        found = compiled(y, {"x": left}, {"batch": 5}, target=target(level), chunks=chunks)
        np.testing.assert_array_equal(found, left @ weights)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_not_finite_in_either_half_of_a_panel_stays_in_its_column(level: str) -> None:
    weights = np.ones((130, 40), np.float32)
    weights[[3, 70, 129], [5, 6, 39]] = [np.inf, np.nan, -np.inf]
    x, w = tensor("x", (1, 130), FLOAT32), constant(weights, "w")
    y = compute((1, 40), lambda i, j: reduce("sum", 130, lambda k: x[i, k] * w[k, j]))
    found = compiled(y, {"x": np.ones((1, 130), np.float32)}, target=target(level))
    np.testing.assert_array_equal(found, weights.sum(axis=0, keepdims=True))


def panels_of(rows: DimLike, terms: int, level: str) -> tuple[Chunks, Tile]:
    """What multiplies ``rows`` by a stored matrix of two panels or more, and its largest tile."""
    x, w = tensor("x", (rows, terms), FLOAT32), constant(numbers(terms, 200, seed=1), "w")
    y = compute((rows, 200), lambda i, j: reduce("sum", terms, lambda k: x[i, k] * w[k, j]))
    wide = dataclasses.replace(Target.masked(level), l2_bytes=1 << 20)
    *_, piece = schedule(store_of(y), wide)
    (chunks,) = piece.nest.body
    assert isinstance(chunks, Chunks)
    return chunks, max(tiles_of(piece), key=lambda tile: tile.units)


@pytest.mark.parametrize("rows", [28, 128, 300, BATCH])
@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4"])
def test_tiles_ask_for_all_of_the_next_panel_in_equal_shares(rows: DimLike, level: str) -> None:
    terms = 96
    chunks, tile = panels_of(rows, terms, level)
    *_, panel, _ = chunks.axes
    (axis,), column = tile.result.axes, tile.column.extent
    assert isinstance(column, int)
    assert tile.row is not None
    asked = []
    together = rows if isinstance(rows, int) else 48
    for first in range(0, together - tile.height + 1, tile.height):
        found = {
            substitute(place, {panel: 3, tile.row: first, axis: k}, {})
            for _, place in tile.ahead
            for k in range(terms)
        }
        lines = {place // 16 for place in found if isinstance(place, int)}
        asked.append(lines)
    wanted = set(range(4 * terms * column // 16, 5 * terms * column // 16))
    missing = wanted.difference(*asked)
    rest = together % tile.height  # whose tiles ask for nothing
    assert len(missing) <= len(wanted) * rest / together + 1
    most = max(2 * len(wanted) * tile.height / together, terms / 16)  # an element by each term
    assert max(map(len, asked)) <= most + 2


@pytest.mark.parametrize(("rows", "terms"), [(9, 96), (128, 4096), (128, 8)])
def test_nothing_is_asked_for_by_few_rows_or_beside_large_panels(rows: int, terms: int) -> None:
    _, tile = panels_of(rows, terms, "x86-64-v4")
    assert tile.ahead == ()


@pytest.mark.parametrize(("rows", "least"), [(50, 3), (197, 8), (4096, 32)])
def test_rows_of_few_columns_are_cut_for_threads(rows: int, least: int) -> None:
    weights = constant(numbers(512, 17))
    a = tensor("a", (rows, 512), FLOAT32)
    result = compute((rows, 17), lambda i, j: reduce("sum", 512, lambda k: a[i, k] * weights[k, j]))
    host = dataclasses.replace(Target.host(), features=frozenset())
    *_, piece = schedule(store_of(result), host)
    assert isinstance(piece.nest.parallel, int)
    assert piece.nest.parallel >= least
    x = numbers(rows, 512, seed=1)
    found = [compiled(result, {"a": x}, chunks=chunks) for chunks in (1, 2, 7)]
    np.testing.assert_allclose(found[0], x @ numbers(512, 17), rtol=1e-4, atol=1e-4)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize(
    ("rows", "terms", "wanted"),
    [(2000, 384, "qp"), (500, 384, "pq"), (2000, 8192, "pq"), (BATCH, 384, "pq")],
)
def test_rows_that_outgrow_the_second_cache_stay_there_in_part(
    rows: DimLike, terms: int, wanted: str
) -> None:
    x, w = tensor("x", (rows, terms), FLOAT32), constant(numbers(terms, 100), "w")
    y = compute((rows, 100), lambda i, j: reduce("sum", terms, lambda k: x[i, k] * w[k, j]))
    host = dataclasses.replace(Target.masked("x86-64-v4"), l2_bytes=1 << 20)
    *_, piece = schedule(store_of(y), host)
    (chunks,) = piece.nest.body
    assert isinstance(chunks, Chunks)
    assert "".join(a.name for a in chunks.axes) == wanted


@pytest.mark.parametrize("columns", [70, 100])
def test_blocks_of_rows_give_the_same_sums(columns: int) -> None:
    x, w = numbers(301, 10), numbers(10, columns, seed=1)
    a, b = tensor("x", x.shape, FLOAT32), constant(w, "w")
    y = compute((301, columns), lambda i, j: reduce("sum", 10, lambda k: a[i, k] * b[k, j]))
    small = dataclasses.replace(Target.host(), features=frozenset(), l2_bytes=10 << 10)
    *_, piece = schedule(store_of(y), small)
    (chunks,) = piece.nest.body
    assert isinstance(chunks, Chunks)
    assert [a.name for a in chunks.axes] == ["q", "p"]
    whole, cut = (Runner([y], small, chunks=n).run({"x": x})[0] for n in (1, 5))
    np.testing.assert_allclose(whole, x @ w, rtol=1e-5, atol=1e-5)
    assert whole.tobytes() == cut.tobytes()


def test_few_terms_are_summed_row_by_row_beside_a_first_cache_of_twelve_ways() -> None:
    host = Target.host()
    for l1, terms, wanted in ((48, 8, "qp"), (48, 9, "pq"), (32, 8, "pq")):
        c = contraction(store_of(product(200, 100, terms)))
        assert c is not None
        nests = contraction_nests(c, dataclasses.replace(host, l1_bytes=l1 << 10), 16)
        assert nests is not None
        (chunks,) = nests[2].body
        assert isinstance(chunks, Chunks)
        assert "".join(a.name for a in chunks.axes) == wanted


@pytest.mark.parametrize("terms", [2, 7, 8])
@pytest.mark.parametrize("level", LEVELS)
def test_few_terms_fill_every_row_and_column(terms: int, level: str) -> None:
    a, b = numbers(150, terms), numbers(terms, 131, seed=1)
    made_for = dataclasses.replace(target(level), l1_bytes=48 << 10)
    for chunks in (1, 3):
        found = compiled(product(150, 131, terms), {"a": a, "b": b}, target=made_for, chunks=chunks)
        np.testing.assert_allclose(found, a @ b, rtol=1e-4, atol=1e-5)


def shape_beside(l1_bytes: int, rows: DimLike, columns: DimLike) -> tuple[int, int]:
    """Rows and vectors of the tiles of a product, with 32 vector registers."""
    x, w = tensor("x", (rows, 20), FLOAT32), tensor("w", (20, columns), FLOAT32)
    result = stored(
        compute((rows, columns), lambda i, j: reduce("sum", 20, lambda k: x[i, k] * w[k, j]))
    )
    assert result.buffer is not None
    assert isinstance(result.buffer.source, Store)
    found = contraction(result.buffer.source)
    assert found is not None
    wide = dataclasses.replace(
        Target.host(), vector_bytes=64, vector_registers=32, l1_bytes=l1_bytes
    )
    return shape_of(found, wide, 16)


@pytest.mark.parametrize("columns", [16, 30, 48, 64])
def test_one_kernel_serves_every_number_of_rows(columns: int) -> None:
    w = numbers(30, columns, seed=1)
    x = tensor("x", (BATCH, 30), FLOAT32)
    result = compute(
        (BATCH, columns),
        lambda i, j: reduce("sum", 30, lambda k: x[i, k] * constant(w, "w")[k, j]),
    )
    runner = Runner([result])
    data = numbers(131, 30)
    (whole,) = runner.run({"x": data}, {"batch": 131})
    np.testing.assert_allclose(whole, data @ w, rtol=1e-4, atol=1e-4)
    for rows in (*range(1, 25), 63, 64, 65, 71, 72, 128):  # whatever tiles they are computed by
        (found,) = runner.run({"x": data[:rows]}, {"batch": rows})
        assert found.tobytes() == whole[:rows].tobytes(), rows


@pytest.mark.parametrize("level", LEVELS)
def test_rows_are_the_innermost_of_open_axes_as_batches_come_first(level: str) -> None:
    batch, length = symbol("N"), symbol("S")
    a, b = tensor("a", (batch, 3, length, 64), FLOAT32), tensor("b", (3, 64, 70), FLOAT32)

    def at(n: DimLike, h: DimLike, i: DimLike, j: DimLike) -> Scalar:
        return reduce("sum", 64, lambda k: a[n, h, i, k] * b[h, k, j])

    result = compute((batch, 3, length, 70), at)
    found = contraction(store_of(result))
    assert found is not None
    assert found.row is not None
    assert found.row.extent == length
    runner = Runner([result], chunks=3, target=target(level))
    for n, s in ((1, 50), (2, 7), (5, 1), (3, 0)):
        feeds = {"a": numbers(n, 3, s, 64), "b": numbers(3, 64, 70, seed=1)}
        (y,) = runner.run(feeds, {"N": n, "S": s})
        np.testing.assert_allclose(y, feeds["a"] @ feeds["b"], rtol=1e-4, atol=1e-4)


def test_rows_that_are_left_are_cut_into_halves_of_a_tile() -> None:
    w, x = tensor("w", (20, 48), FLOAT32), tensor("x", (BATCH, 20), FLOAT32)
    result = compute((BATCH, 48), lambda i, j: reduce("sum", 20, lambda k: x[i, k] * w[k, j]))
    (piece,) = schedule(store_of(result), target("x86-64-v4"))
    (chunks,) = piece.nest.body
    assert isinstance(chunks, Chunks)
    (tile,) = chunks.body
    assert isinstance(tile, Tile)
    heights = tile.height * 4, *range(1, tile.height // 2 + 1)  # whole tiles write four terms out
    (kernel,) = write_all([stored(result)], target("x86-64-v4"))
    assert kernel.code.text.count("call <16 x float> @llvm.fma") == tile.units * sum(heights)


@pytest.mark.parametrize("rows", [7, 145])
def test_one_kernel_serves_every_number_of_columns(rows: int) -> None:
    w = numbers(rows, 30, seed=1)
    x = tensor("x", (30, BATCH), FLOAT32)
    result = compute(
        (rows, BATCH),
        lambda i, j: reduce("sum", 30, lambda k: constant(w, "w")[i, k] * x[k, j]),
    )
    runner = Runner([result])
    data = numbers(30, 150)
    (whole,) = runner.run({"x": data}, {"batch": 150})
    np.testing.assert_allclose(whole, w @ data, rtol=1e-4, atol=1e-4)
    for columns in (*range(1, 19), 31, 32, 33, 48, 49, 64, 65, 80, 128):  # of tiles of all widths
        (found,) = runner.run({"x": data[:, :columns].copy()}, {"batch": columns})
        assert found.tobytes() == whole[:, :columns].tobytes(), columns


@pytest.mark.parametrize("level", LEVELS)
def test_no_more_vectors_of_columns_are_computed_than_there_are(level: str) -> None:
    w, x = tensor("w", (100, 20), FLOAT32), tensor("x", (20, BATCH), FLOAT32)
    result = compute((100, BATCH), lambda i, j: reduce("sum", 20, lambda k: w[i, k] * x[k, j]))
    buffer = stored(result).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    tiles = [tile for piece in schedule(buffer.source, target(level)) for tile in tiles_of(piece)]
    assert [tile.units for tile in tiles] == list(range(1, tiles[-1].units + 1))
    assert all(tile.height >= tiles[-1].height for tile in tiles)
    for columns in (5, 40):
        feeds = {"w": numbers(100, 20), "x": numbers(20, columns, seed=1)}
        check(result, feeds, {"batch": columns}, target=target(level))


@pytest.mark.parametrize("size", [32, 64, 65, 128])
def test_a_cache_of_values_is_read_as_it_lies(size: int) -> None:
    weights, v = tensor("w", (2, BATCH, 50), FLOAT32), tensor("v", (2, 50, size), FLOAT32)
    result = compute(
        (2, BATCH, size),
        lambda h, i, e: reduce("sum", 50, lambda k: weights[h, i, k] * v[h, k, e]),
    )
    for rows in (1, 30):
        feeds = {"w": numbers(2, rows, 50), "v": numbers(2, 50, size, seed=1)}
        check(result, feeds, {"batch": rows})
    if Target.host().vector_bytes == 64:
        # else packed for several rows, and read as it lies for one
        assert len([k for k in kinds(result) if k != "parts"]) == (3 if size == 65 else 1)
