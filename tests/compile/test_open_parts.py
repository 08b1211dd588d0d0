"""Rows whose parts only a run tells the length of: each part is read as it lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

import fornix
from fornix.compile.axes import cut, merge
from fornix.compile.nest import Chunks
from fornix.compile.schedule.map import map_nest, normal
from fornix.dtype import FLOAT32, INT64
from fornix.ir.dim import symbol
from fornix.ir.loops import Store, Tensor, compute, index, select, stored, tensor
from fornix.ops.move import lower_concat
from tests.compile.levels import LEVELS, target
from tests.compile.native import compiled

N, BEFORE = symbol("n", 1), symbol("before")


def turned_ends() -> Tensor:
    """Rows of n elements behind as many of their first ones as a run says, the last one first."""
    x = tensor("x", (3, N), FLOAT32)

    def at(i: Any, k: Any) -> Any:
        place = k - BEFORE
        ahead = x.get((i, -place), 0.0)
        return select(index(k) >= index(BEFORE), x.get((i, place), 0.0), ahead)

    return compute((3, N + BEFORE), at)


def store_of(x: Tensor) -> Store:
    source = getattr(stored(x).buffer, "source", None)
    assert isinstance(source, Store)
    return normal(source)


def test_an_open_row_is_cut_where_its_guards_flip() -> None:
    store = store_of(turned_ends())
    row, _ = store.axes
    assert [part.axes[1].extent for part in cut(store, [row])] == [BEFORE, N]
    (chunks,) = map_nest(store, 16).body
    assert isinstance(chunks, Chunks)
    assert len(chunks.body) == 2


def test_a_row_is_not_cut_where_no_proof_tells_that_it_is_so_long() -> None:
    x, y = tensor("x", (3, N), FLOAT32), tensor("y", (3, N), FLOAT32)
    made = compute((3, N), lambda i, k: select(index(k) < index(BEFORE), x[i, k], y[i, k]))
    store = store_of(made)
    assert len(cut(store, [store.axes[0]])) == 1


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("count", "before"), [(1, 0), (5, 4), (40, 0), (40, 39), (64, 16), (65, 1), (200, 130)]
)
@pytest.mark.parametrize("chunks", [1, 2])
def test_parts_meet_and_may_be_empty(level: str, count: int, before: int, chunks: int) -> None:
    x = np.arange(3 * count, dtype=np.float32).reshape(3, count)
    found = compiled(
        turned_ends(), {"x": x}, {"n": count, "before": before},
        target=target(level), chunks=chunks, at_end=True,
    )  # fmt: skip
    wanted = np.concatenate([x[:, 1 : before + 1][:, ::-1], x], axis=1)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 49, 1 << 20])
def test_lanes_are_divided_like_integers(level: str, divisor: int) -> None:
    places = symbol("d", 1)
    start = symbol("start")
    for offset in (0, -100, 3 * divisor - 50, (1 << 40) + 1):
        made = compute((100,), lambda k, o=offset: index((k + start + o) // places), INT64)
        found = compiled(made, {}, {"d": divisor, "start": 2}, target=target(level))
        np.testing.assert_array_equal(found, (np.arange(100) + 2 + offset) // divisor)


SHAPES = [
    ((0, 4), [3, 5, 2]), ((0, 1), [1, 1]), ((0, 3), [9, 1, 1, 17, 40, 2, 1, 1, 3]),
    ((0, 17), [5, 4]), ((0, 2, 3), [7, 2, 1]), ((2, 0, 5), [6, 1, 11]), ((0, 40), [1, 30, 2]),
    ((3, 1, 0, 16), [4, 3]), ((2, 3, 0), [1, 20, 4]), ((5, 0, 2, 2), [3, 40]),
]  # fmt: skip


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize(("shape", "counts"), SHAPES)
def test_parts_of_rows_are_read_as_they_lie(
    shape: tuple[int, ...], counts: list[int], chunks: int, level: str, *, is_open: bool
) -> None:
    axis = shape.index(0)
    feeds = {}
    for k, count in enumerate(counts):
        whole = (*shape[:axis], count, *shape[axis + 1 :])
        feeds[f"x{k}"] = np.arange(np.prod(whole), dtype=np.float32).reshape(whole) + 1000 * k
    ends: list[Any] = [symbol(f"n{k}", 1) for k in range(len(counts))] if is_open else counts
    parts = [
        tensor(name, (*shape[:axis], end, *shape[axis + 1 :]), FLOAT32)
        for name, end in zip(feeds, ends, strict=True)
    ]
    symbols = {f"n{k}": count for k, count in enumerate(counts)} if is_open else {}
    joined = lower_concat(*parts, axis=axis)
    found = compiled(joined, feeds, symbols, target=target(level), chunks=chunks, at_end=True)
    np.testing.assert_array_equal(found, np.concatenate(list(feeds.values()), axis))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("count", "before", "behind"), [(1, 1, 1), (5, 3, 20), (40, 1, 2)])
def test_what_lies_around_rows_is_filled(level: str, count: int, before: int, behind: int) -> None:
    ahead, after = symbol("before", 1), symbol("behind", 1)
    x = tensor("x", (N, 3), FLOAT32)
    made = compute((N + ahead + after, 3), lambda i, k: x.get((i - ahead, k), 0.5))
    given = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    found = compiled(
        made, {"x": given}, {"n": count, "before": before, "behind": behind},
        target=target(level), at_end=True,
    )  # fmt: skip
    np.testing.assert_array_equal(
        found, np.pad(given, [(before, behind), (0, 0)], constant_values=0.5)
    )


def test_rows_of_parts_are_one_axis() -> None:
    parts = [tensor(f"x{k}", (symbol(f"n{k}", 1), 4), FLOAT32) for k in range(3)]
    store = store_of(lower_concat(*parts, axis=0))
    assert len(store.axes) == 2
    (joined,) = merge(store, has_parts=True).axes
    assert joined.extent == 4 * sum(symbol(f"n{k}", 1) for k in range(3))
    lengths = [part.axes[0].extent for part in cut(merge(store, has_parts=True))]
    assert lengths == [4 * symbol(f"n{k}", 1) for k in range(3)]


def padded(text: str, feeds: dict[str, Any], threads: int = 1) -> list[Any]:
    """What each of three runs gives; the third goes a short way, and fed numbers are settled."""
    options = fornix.SessionOptions()
    options.intra_op_num_threads = threads
    head = '<ir_version: 10, opset_import: ["": 21]>\n'
    session = fornix.InferenceSession(parser.parse_model(head + text), options)
    return [session.run(None, feeds)[0] for _ in range(3)]


MODES = ("reflect", "edge", "wrap")
ENDS = [
    ((40,), [3, 2]), ((3, 5), [0, 4, 0, 4]), ((3, 5), [0, 9, 0, 12]), ((1, 1), [2, 0, 1, 3]),
    ((2, 33, 40), [0, 2, 1, 0, 1, 3]), ((4, 5, 6, 7), [1, 2, 3, 4, 2, 3, 4, 5]),
    ((9, 30), [-2, 3, 1, -4]), ((9, 30), [5, -3, -6, 8]), ((2, 1, 70), [0, 0, 69, 0, 0, 0]),
]  # fmt: skip


def turned_back(x: Any, pads: list[int], mode: str) -> Any:
    """What is cut off is cut off first; then NumPy pads."""
    ends = list(zip(pads[: x.ndim], pads[x.ndim :], strict=True))
    x = x[tuple(slice(max(-a, 0), x.shape[k] - max(-b, 0)) for k, (a, b) in enumerate(ends))]
    return np.pad(x, [(max(a, 0), max(b, 0)) for a, b in ends], mode=mode)  # type: ignore[call-overload]


@pytest.mark.parametrize(("mode", "threads"), [("reflect", 2), ("edge", 1), ("wrap", 2)])
@pytest.mark.parametrize("is_fed", [False, True])
@pytest.mark.parametrize(("shape", "pads"), ENDS)
def test_open_axes_go_on_with_their_own_elements(
    mode: str, threads: int, shape: tuple[int, ...], pads: list[int], *, is_fed: bool
) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    dims, count = ", ".join(f"d{k}" for k in range(len(shape))), len(pads)
    node = f'y = Pad <mode = "{mode}"> (x, p)'
    if is_fed:
        text = f"f (float[{dims}] x, int64[{count}] p) => (float[] y) {{ {node} }}"
    else:
        stored_pads = f"int64[{count}] p = {{{', '.join(map(str, pads))}}}"
        text = f"f (float[{dims}] x) => (float[] y) <{stored_pads}> {{ {node} }}"
    feeds = {"x": x} | ({"p": np.array(pads)} if is_fed else {})
    for found in padded(text, feeds, threads):
        np.testing.assert_array_equal(found, turned_back(x, pads, mode))


UP = """f (float[1, c, h, w] x) => (float[] y)
    <int64[2] eight = {8, 8}, int64[2] two = {2, 2}, int64[2] none = {0, 0}> {
        s = Shape <start = 2> (x)
        q = Mod (s, eight)
        d = Sub (eight, q)
        p = Mod (d, eight)
        a = Div (p, two)
        b = Sub (p, a)
        pads = Concat <axis = 0> (none, a, none, b)
        y = Pad <mode = "@mode@"> (x, pads)
    }"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("extents", [(3, 5), (8, 16), (17, 33), (30, 47)])
def test_an_image_is_made_a_multiple_of_eight(mode: str, extents: tuple[int, int]) -> None:
    x = np.arange(2 * np.prod(extents), dtype=np.float32).reshape(1, 2, *extents)
    rests = [-n % 8 for n in extents]
    pads = [0, 0, *(r // 2 for r in rests), 0, 0, *(r - r // 2 for r in rests)]
    for found in padded(UP.replace("@mode@", mode), {"x": x}):
        np.testing.assert_array_equal(found, turned_back(x, pads, mode))
