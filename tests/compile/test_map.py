"""Maps whose rows are joined of others: many parts are computed each on its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from fornix import ops
from fornix.compile.axes import flips, settled
from fornix.compile.nest import Block, ChunkedLanes, Chunks, Lanes, Loop
from fornix.compile.schedule import schedule
from fornix.compile.schedule.map import MOST_GATHERED, MOST_PLACES, map_nest, normal
from fornix.dtype import BOOL, FLOAT32, INT64, UINT8, DType
from fornix.errors import Fail
from fornix.ir.buffer import Buffer
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import (
    Scalar,
    Store,
    Tensor,
    Variable,
    apply,
    cast,
    compute,
    const,
    constant,
    index,
    reduce,
    select,
    stored,
    tensor,
)
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import gathered
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner, compiled
from tests.compile.test_chains import kinds
from tests.compile.test_phases import source
from tests.ir.interpreter import interpret

PARTS = 12


def all_of(parts: int, width: int, rows: int = 5) -> Tensor:
    """Rows that a Concat joins."""
    operator = ops.find("", "Concat")
    assert operator is not None
    given = [tensor(f"x{k}", (rows, width), FLOAT32) for k in range(parts)]
    made: Tensor = operator.rule("lower", 13)(*given, axis=1)  # type: ignore[misc]
    return made


def joined(parts: int, width: int, rows: int = 5) -> Store:
    """What computes them, with as few axes as it needs."""
    buffer = stored(all_of(parts, width, rows)).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    return normal(buffer.source)


def test_guards_flip_where_parts_meet() -> None:
    store = joined(PARTS, 32)
    assert flips(store.value, store.axes[-1]) == [32 * k for k in range(1, PARTS)]
    assert flips(store.value, store.axes[0]) == []


@pytest.mark.parametrize(
    ("parts", "width", "pieces"), [(PARTS, 32, PARTS), (2, 32, 1), (PARTS, 7, 1), (70, 16, 64)]
)
def test_many_parts_that_fill_vectors_are_pieces(parts: int, width: int, pieces: int) -> None:
    assert len(map_nest(joined(parts, width), 16).body) == pieces


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("parts", "width"), [(2, 3), (9, 1), (9, 2), (12, 3), (16, 4), (30, 12), (33, 7), (40, 2)]
)
def test_many_short_parts_are_joined(
    parts: int, width: int, level: str, rng: np.random.Generator
) -> None:
    feeds = {f"x{k}": rng.standard_normal((5, width), np.float32) for k in range(parts)}
    made = compiled(all_of(parts, width), feeds, target=target(level), at_end=True)
    assert made.tobytes() == np.concatenate([*feeds.values()], axis=1).tobytes()


def asked(parts: int, width: int) -> int:
    """How many times the row that so many parts are joined to asks where it is."""
    (chunks,) = map_nest(joined(parts, width), 16).body
    return str(chunks).count("select<")


def test_many_short_parts_are_computed_one_after_the_other() -> None:
    assert asked(30, 4) == asked(12, 12) == asked(16, 2) == 0
    assert asked(4, 2) == 3


def test_parts_that_end_with_blocks_are_pieces_and_others_are_not() -> None:
    block, lane = Variable("block", 8), Variable("lane", 16)
    channel = 16 * block.dim + lane.dim
    x, y = (tensor(name, (8, 16), FLOAT32) for name in "xy")
    for end, pieces in ((64, 2), (65, 1)):
        value = select(index(channel) < end, x[block.dim, lane.dim], y[block.dim, lane.dim])
        made = Store(Buffer("z", (8, 16), FLOAT32), (block, lane), channel, value)
        assert len(map_nest(settled(made), 16).body) == pieces


def is_below(slope: int, step: int, bound: int, i: DimLike, j: DimLike) -> Scalar:
    return select(index(slope * i + step * j) < bound, const(1, FLOAT32), 0.0)


def test_a_guard_loses_axes_that_never_decide_it_and_keeps_its_meaning(
    rng: np.random.Generator,
) -> None:
    lost = 0
    for _ in range(300):
        rows, columns, step = (int(n) for n in rng.integers(2, 10, 3))
        slope = step * columns if rng.random() < 0.5 else int(rng.integers(2, 10))  # as of blocks
        bound, sign = int(rng.integers(2, 60)), int(rng.choice([-1, 1]))
        made = stored(compute((rows, columns), partial(is_below, sign * slope, sign * step, bound)))
        sums = sign * np.add.outer(slope * np.arange(rows), step * np.arange(columns))
        assert made.buffer is not None
        assert isinstance(made.buffer.source, Store)
        before = made.buffer.source
        made.buffer.source = settled(before)
        lost += made.buffer.source.value.variables < before.value.variables
        np.testing.assert_array_equal(interpret(made), sums < bound)
    assert lost > 10


@pytest.mark.parametrize("rows", [1, 5])
def test_rows_of_many_tables_are_joined_and_added(rows: int, rng: np.random.Generator) -> None:
    names = [f"r{k}" for k in range(PARTS)]
    looked_up = "\n".join(f"r{k} = Gather <axis = 1> (x, k{k})" for k in range(PARTS))
    stored_indices = ", ".join(f"int64 k{k} = {{{PARTS - 1 - k}}}" for k in range(PARTS))
    text = f"""f (float[N, {PARTS}, 16] x, float[N, {PARTS * 16}] z) => (float[N, M] y)
    <{stored_indices}> {{
        {looked_up}
        all = Concat <axis = 1> ({", ".join(names)})
        y = Add (all, z)
    }}"""
    feeds = {
        "x": rng.standard_normal((rows, PARTS, 16), np.float32),
        "z": rng.standard_normal((rows, PARTS * 16), np.float32),
    }
    assert {*kinds(text, feeds)} == {"map"}


TURNED = """f (float[N, 3, 16] x, float[N, 1, 16] c, float[N, 1, 16] s) => (float[N, 3, 16] y)
<int64[1] three = {3}, int64[1] zero = {0}, int64[1] one = {1},
 int64[1] two = {2}, int64[1] far = {99}> {
    odd = Slice (x, one, far, two, two)
    even = Slice (x, zero, far, two, two)
    minus = Neg (odd)
    a = Unsqueeze (minus, three)
    b = Unsqueeze (even, three)
    pairs = Concat <axis = -1> (a, b)
    shape = Shape (x)
    r = Reshape (pairs, shape)
    p = Mul (x, c)
    q = Mul (r, s)
    y = Add (p, q)
}"""


def test_pairs_that_are_turned_are_read_as_neighbours_in_vectors(rng: np.random.Generator) -> None:
    x, c, s = (rng.standard_normal((5, n, 16), np.float32) for n in (3, 1, 1))
    assert kinds(TURNED, {"x": x, "c": c, "s": s}) == ["map"]
    operator = ops.find("", "Concat")
    assert operator is not None
    given = [tensor(name, (5, 8, 1), FLOAT32) for name in "ab"]
    scales = tensor("s", (5, 16), FLOAT32)
    pairs = operator.rule("lower", 13)(*given, axis=2)  # type: ignore[misc]
    turned = compute((5, 16), lambda i, k: pairs[i, k // 2, k % 2] * scales[i, k])
    buffer = stored(turned).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    assert [axis.extent for axis in normal(buffer.source).axes] == [5, 16]


@pytest.mark.parametrize("columns", [7, 24, 50, 112, 114])
@pytest.mark.parametrize("level", LEVELS)
def test_neighbours_are_repeated_up_to_the_end_of_rows(columns: int, level: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, columns)).astype(np.float32)
    given = tensor("x", x.shape, FLOAT32)
    for times, apart in ((2, 1), (3, 1), (2, 3)):
        count = (columns // apart) * times

        def at(i: DimLike, j: DimLike, times: int = times, apart: int = apart) -> Scalar:
            return given[i, j // times * apart]

        result = compute((3, count), at)
        for at_end in (False, True):
            made = compiled(result, {"x": x}, target=target(level), at_end=at_end)
            np.testing.assert_array_equal(made, x[:, np.arange(count) // times * apart])


@pytest.mark.parametrize("columns", [17, 33])
@pytest.mark.parametrize(
    ("given", "made"),
    [("int32", "int8"), ("float32", "uint8"), ("int64", "int32"), ("float32", "bfloat16"),
     ("int64", "int8"), ("int32", "int16")],
)  # fmt: skip
@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_written_behind_a_narrow_element_that_is_alone_in_its_vector(
    columns: int, given: str, made: str, level: str
) -> None:
    data = np.arange(5 * columns).reshape(5, columns).astype(DType.of(given).numpy) % 9
    x, narrow = tensor("x", data.shape, DType.of(given)), DType.of(made)
    result = compute(data.shape, lambda i, j: cast(x[i, j] + x[i, 0], narrow))
    wanted = (data + data[:, :1]).astype(narrow.numpy)
    for chunks in (1, 5):  # the last one first: each would overwrite what the one before made
        found = compiled(result, {"x": data}, target=target(level), chunks=chunks)
        np.testing.assert_array_equal(found, wanted)


def least_of(x: Tensor, table: Tensor, n: DimLike, j: DimLike, k: DimLike) -> Scalar:
    return apply("min", x[k, n], table[k, j])


@pytest.mark.parametrize("columns", [301, 320])
def test_rows_that_are_reduced_with_a_large_table_go_together(
    columns: int, rng: np.random.Generator
) -> None:
    n, j = Variable("n", 5), Variable("j", columns)
    x, z = tensor("x", (17, 5), FLOAT32), Buffer("z", (5, columns), FLOAT32)
    for depth, kind in ((2, Chunks), (17, ChunkedLanes)):
        table = tensor("t", (depth, columns), FLOAT32)
        value = reduce("sum", depth, partial(least_of, x, table, n.dim, j.dim))
        nest = map_nest(Store(z, (n, j), n.dim * columns + j.dim, value), 16)
        assert {type(part) for part in nest.body} == {kind}
    text = f"""f (float[N, 17, 1] x, float[17, {columns}] t) => (float[N, {columns}] y)
    <int64[1] one = {{1}}> {{
        d = Sub (x, t)
        y = ReduceSumSquare <keepdims = 0> (d, one)
    }}"""
    for rows in (1, 2, 7):
        feeds = {
            "x": rng.standard_normal((rows, 17, 1), np.float32),
            "t": rng.standard_normal((17, columns), np.float32),
        }
        assert {*kinds(text, feeds)} == {"map"}


def weighed(channels: int, columns: DimLike, degree: int) -> Tensor:
    """x[channels, columns] times a polynomial of g[columns], the same in all channels."""
    x, g = tensor("x", (channels, columns), FLOAT32), tensor("g", (columns,), FLOAT32)

    def at(c: DimLike, j: DimLike) -> Scalar:
        value: Scalar = const(1.0, FLOAT32)
        for k in range(degree):
            value = value * g[j] + float(k)
        return x[c, j] * value

    return compute((channels, columns), at)


@pytest.mark.parametrize(("degree", "is_inside"), [(2, False), (20, True)])
def test_an_axis_for_which_most_is_alike_goes_inside(*, degree: int, is_inside: bool) -> None:
    made = stored(weighed(5, 300, degree)).buffer
    assert made is not None
    assert isinstance(made.source, Store)
    (statement,) = map_nest(normal(made.source), 16).body
    assert isinstance(statement, ChunkedLanes if is_inside else Chunks)


@pytest.mark.parametrize("columns", [1, 7, 64, 200, 1030])
@pytest.mark.parametrize("level", LEVELS)
def test_what_is_alike_for_all_channels_is_the_same_in_all_chunks(
    columns: int, level: str, rng: np.random.Generator
) -> None:
    g = rng.uniform(-1, 1, columns).astype(np.float32)
    feeds = {"x": rng.standard_normal((5, columns), np.float32), "g": g}
    factors = np.ones(columns)
    for k in range(20):
        factors = factors * g + k
    made = compiled(weighed(5, columns, 20), feeds, target=target(level), at_end=True)
    np.testing.assert_allclose(made, feeds["x"] * factors, rtol=1e-4)
    for chunks in (2, 5):
        again = compiled(weighed(5, columns, 20), feeds, target=target(level), chunks=chunks)
        assert again.tobytes() == made.tobytes()
    n = symbol("n", least=1)
    again = compiled(weighed(5, n, 20), feeds, {"n": columns}, target=target(level))
    np.testing.assert_allclose(again, made, rtol=1e-6)


def test_parts_of_rows_in_which_most_is_alike_have_all_channels(rng: np.random.Generator) -> None:
    x, whole = tensor("x", (5, 500), FLOAT32), weighed(5, 500, 20)

    def at(c: DimLike, j: DimLike) -> Scalar:
        return select(index(j) < 200, x[c, j], whole[c, j])

    feeds = {"x": rng.standard_normal((5, 500), np.float32)}
    feeds["g"] = rng.uniform(-1, 1, 500).astype(np.float32)
    made = compiled(compute((5, 500), at), feeds)
    np.testing.assert_array_equal(made[:, :200], feeds["x"][:, :200])
    np.testing.assert_array_equal(made[:, 200:], compiled(whole, feeds)[:, 200:])


@pytest.mark.parametrize("level", LEVELS)
def test_tiles_of_a_table_give_what_whole_rows_do(level: str, rng: np.random.Generator) -> None:
    n = symbol("N")
    x, table = tensor("x", (n, 19), FLOAT32), tensor("t", (19, 301), FLOAT32)

    def at(i: DimLike, j: DimLike) -> Scalar:
        return reduce("max", 19, lambda k: x[i, k] - table[k, j]) + 1.0

    made = compute((n, 301), at)
    runners = [Runner([made], target(level), chunks=chunks) for chunks in (1, 3)]
    t = rng.standard_normal((19, 301), np.float32)
    for rows in (1, 2, 9):
        feed = rng.standard_normal((rows, 19), np.float32)
        feed[0, 3] = -np.inf
        wanted = (feed[:, :, None] - t).max(axis=1) + 1
        for runner in runners:
            [found] = runner.run({"x": feed, "t": t}, {"N": rows})
            np.testing.assert_array_equal(found, wanted)


WIDTH = 32


def panels(x: Tensor, terms: int, columns: int) -> Tensor:
    """``x`` in panels of some columns, each term by term; 0 at the end."""

    def at(panel: DimLike, term: DimLike, column: DimLike) -> Scalar:
        which = panel * WIDTH + column
        inside = apply("lt", index(which), index(columns))
        return select(inside, guarded(x[term, which], inside), 0)

    return compute((-(-columns // WIDTH), terms, WIDTH), at)


@pytest.mark.parametrize(("terms", "columns"), [(96, 64), (97, 70), (50, 33), (31, 300), (1, 5)])
@pytest.mark.parametrize("level", LEVELS)
def test_panels_of_stored_data_are_those_of_fed_ones(
    terms: int, columns: int, level: str, rng: np.random.Generator
) -> None:
    data = rng.standard_normal((terms, columns), np.float32)
    wide = np.zeros((terms, -(-columns // WIDTH) * WIDTH), np.float32)
    wide[:, :columns] = data
    wanted = wide.reshape(terms, -1, WIDTH).transpose(1, 0, 2)
    for chunks in (1, 3, 7):
        made = compiled(panels(constant(data), terms, columns), target=target(level), chunks=chunks)
        np.testing.assert_array_equal(made, wanted)


def test_stored_data_are_read_in_the_order_in_which_they_lie() -> None:
    terms, columns = 24 * WIDTH, 4 * WIDTH
    given = tensor("x", (terms, columns), FLOAT32)
    for x, outermost in ((constant(np.zeros((terms, columns), np.float32)), 24), (given, 4)):
        buffer = stored(panels(x, terms, columns)).buffer
        assert buffer is not None
        assert isinstance(buffer.source, Store)
        (chunks,) = map_nest(normal(buffer.source), 16).body
        assert isinstance(chunks, Chunks)
        assert chunks.axes[0].extent == outermost


def test_rows_that_are_repeated_are_written_in_their_order() -> None:
    x = constant(np.zeros((8, 33, 16), np.float32))
    buffer = stored(compute((9, 33, 8, 16), lambda _, i, j, k: x[j, i, k] + 1)).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    (chunks,) = map_nest(normal(buffer.source), 16).body
    assert isinstance(chunks, Chunks)
    assert chunks.axes[0].extent == 9


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("dtype", [UINT8, BOOL, FLOAT32])
def test_rows_may_be_read_from_their_ends(
    dtype: DType, at_end: bool, level: str, rng: np.random.Generator
) -> None:
    """Whole and masked vectors, rows within others, and what is beyond these."""
    n = symbol("N", 1)
    x = tensor("x", (3, n), dtype)
    turned = compute((3, n), lambda i, j: x[i, n - 1 - j])
    beyond = compute((3, n + 5), lambda i, j: x.get((i, n + 1 - j), False))
    runner = Runner([turned, beyond], target(level), at_end=at_end)
    for extent in (1, 7, 64, 130):
        data = rng.integers(0, 2, (3, extent)).astype(dtype.numpy)
        one, other = runner.run({"x": data}, {"N": extent})
        assert np.array_equal(one, data[:, ::-1])
        assert np.array_equal(other, np.pad(data[:, ::-1], ((0, 0), (2, 3))))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_pixels_that_lie_side_by_side_are_one_row(
    channels: int, level: str, rng: np.random.Generator
) -> None:
    """But for those that are mirrored, whose channels keep their order."""
    data, n = rng.standard_normal((2, 9, 37, channels), np.float32), symbol("N", 1)
    x = tensor("x", (n, *data.shape[1:]), FLOAT32)

    def mirrored(i: DimLike, j: DimLike, k: DimLike, c: DimLike) -> Scalar:
        parts = [(apply("lt", index(k), 3), 3 - k), (apply("lt", index(k), 40), k - 3)]
        value = x[i, j, 75 - k, c]
        for is_it, place in reversed(parts):
            value = select(is_it, guarded(x[i, j, place, c], is_it), value)
        return value

    y = compute((n, 9, 42, channels), mirrored)
    (found,) = Runner([y], target(level), chunks=3).run({"x": data}, {"N": 2})
    wanted = np.pad(data, ((0, 0), (0, 0), (3, 2), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)
    buffer = stored(y).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    assert 37 * channels in [*_rows(map_nest(normal(buffer.source), 16).body)]


@pytest.mark.parametrize("level", LEVELS)
def test_borders_are_parts_of_rows_that_have_all_channels_inside(
    level: str, rng: np.random.Generator
) -> None:
    """Pixels of three channels that are laid apart ask for the border outside of vectors."""
    h, w = symbol("H", 1), symbol("W", 1)
    x = tensor("x", (h, w, 3), FLOAT32)
    y = compute((3, h, w + 20), lambda c, i, j: x.get((i, j - 10, c), 0.5))
    runner = Runner([y], target(level), chunks=3)
    for height, width in ((1, 1), (3, 40), (5, 7)):
        data = rng.standard_normal((height, width, 3), np.float32)
        (found,) = runner.run({"x": data}, {"H": height, "W": width})
        wanted = np.pad(data, ((0, 0), (10, 10), (0, 0)), constant_values=0.5).transpose(2, 0, 1)
        np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)
    buffer = stored(y).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    assert [*_rows(map_nest(normal(buffer.source), 16).body)] == [10, w, 10]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [UINT8, BOOL, FLOAT32])
def test_gathered_bytes_are_what_numpy_takes(
    dtype: DType, level: str, rng: np.random.Generator
) -> None:
    data = rng.integers(0, 2, (3, 300)).astype(dtype.numpy)
    places = rng.integers(-300, 300, (3, 131))
    x, i = tensor("x", data.shape, dtype), tensor("i", places.shape, INT64)
    y = compute(places.shape, lambda r, k: x[r, gathered(i[r, k], 300, wraps=True)])
    (found,) = Runner([y], target(level), chunks=3).run({"x": data, "i": places})
    np.testing.assert_array_equal(found, np.take_along_axis(data, places, 1))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("count", [1, 2, 3, MOST_PLACES, MOST_PLACES + 1])
def test_few_places_of_each_row_are_asked_for_once(
    count: int, level: str, rng: np.random.Generator
) -> None:
    n = symbol("N")
    x, i = tensor("x", (n, 7), FLOAT32), tensor("i", (count,), INT64)
    y = compute((n, count), lambda r, k: x[r, gathered(i[k], 7, wraps=True)])
    runner, places = Runner([y], target(level), chunks=3), rng.integers(-7, 7, count)
    for height in (0, 1, 20):
        data = rng.standard_normal((height, 7), np.float32)
        (found,) = runner.run({"x": data, "i": places}, {"N": height})
        np.testing.assert_array_equal(found, data[:, places])
    places[-1] = 7
    with pytest.raises(Fail, match="index"):
        runner.run({"x": data, "i": places}, {"N": height})


def test_vectors_are_short_whose_bytes_are_gathered_one_by_one() -> None:
    x, i = tensor("x", (50, 300), UINT8), tensor("i", (300,), INT64)
    place = gathered(i[0], 300)
    lanes = [
        schedule(source(stored(compute(x.shape, at))), target("x86-64-v4"))[0].nest.lanes
        for at in (
            lambda r, k: x[r, gathered(i[k], 300)],
            lambda r, k: x[r, k] + x[r, place],
            lambda r, k: x[gathered(i[r], 50), k],
        )
    ]
    assert lanes == [MOST_GATHERED, 64, 64]


def _rows(body: Block) -> Iterator[DimLike]:
    """How long the rows are that are written in vectors."""
    for statement in body:
        if isinstance(statement, Lanes):
            yield statement.axis.extent
        elif isinstance(statement, Chunks | Loop):
            yield from _rows(statement.body)
