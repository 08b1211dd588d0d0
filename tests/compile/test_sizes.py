"""Where extents make another schedule: long rows that are joined, large transposes, one row."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import fornix
from fornix.compile.nest import ChunkedLanes, Chunks, Lanes
from fornix.compile.schedule.map import map_nest
from tests.compile.sizes import Array, computed, model
from tests.compile.test_map import joined


def numbers(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_long_rows_are_joined_one_after_the_other() -> None:
    (chunks,) = map_nest(joined(2, 32), 16).body
    assert isinstance(chunks, Chunks)
    assert [type(statement) for statement in chunks.body] == [Lanes, Lanes]
    (chunks,) = map_nest(joined(2, 3), 16).body
    assert isinstance(chunks, Chunks)
    assert [type(statement) for statement in chunks.body] == [Lanes]


@pytest.mark.parametrize("sizes", [(1, 40), (40, 1), (3000, 5000), (17, 16)])
def test_two_rows_are_one(sizes: tuple[int, int]) -> None:
    a, b = numbers(sizes[0]), -numbers(sizes[1])
    found = computed("y = Concat<axis=0>(a, b)", {"a": a, "b": b})
    np.testing.assert_array_equal(found, np.concatenate([a, b]))


def test_the_parts_of_one_row_are_shared_by_all_chunks() -> None:
    body = map_nest(joined(2, 32, rows=1), 16).body
    assert [type(statement) for statement in body] == [ChunkedLanes, ChunkedLanes]
    a, b = numbers(100_000), -numbers(30_000)
    feeds = {"a": a, "b": b}
    options = fornix.SessionOptions()
    options.intra_op_num_threads = 2
    session = fornix.InferenceSession(model("y = Concat<axis=0>(a, b)", feeds), options)
    np.testing.assert_array_equal(session.run(None, feeds)[0], np.concatenate([a, b]))


MODES = ("constant", "reflect", "edge", "wrap")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("shape", "pads"),
    [
        ((40,), [3, 2]), ((3, 5), [0, 4, 0, 4]), ((2, 33, 40), [0, 2, 1, 0, 1, 3]),
        ((9, 10), [4, 0, 1, 0]), ((2, 1, 50), [0, 0, 0, 0, 0, 7]),
    ],
)  # fmt: skip
def test_what_is_padded(mode: str, shape: tuple[int, ...], pads: list[int]) -> None:
    x, rank = numbers(*shape), len(shape)
    text = f"int64[{2 * rank}] pads = {{{', '.join(map(str, pads))}}}"
    body = f'y = Pad<mode="{mode}">(x, pads)'
    ends = list(zip(pads[:rank], pads[rank:], strict=True))
    np.testing.assert_array_equal(computed(body, {"x": x}, text), np.pad(x, ends, mode))  # type: ignore[call-overload]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize(
    ("rows", "columns"), [*product((512, 530), (512, 577)), (1024, 517), (4096, 513)]
)
def test_large_matrices_are_turned(rows: int, columns: int, dtype: type) -> None:
    x: Array = numbers(rows, columns).astype(dtype)
    np.testing.assert_array_equal(computed("y = Transpose(x)", {"x": x}), x.T)


@pytest.mark.parametrize(("terms", "columns"), [(1, 40), (9, 400), (300, 1000), (40, 33)])
def test_a_row_times_what_is_fed(terms: int, columns: int) -> None:
    a, b = numbers(1, terms) % 7, numbers(terms, columns) % 5
    found = computed("y = MatMul(a, b)", {"a": a, "b": b})
    np.testing.assert_array_equal(found, a @ b)


def test_weights_are_packed_once_where_no_extent_of_the_input_is_known() -> None:
    w = np.random.default_rng(1).standard_normal((20, 70), np.float32)
    stored = f"float[20, 70] w = {{{', '.join(map(str, w.ravel()))}}}"
    made = model("y = MatMul(x, w)", {"x": numbers(3, 20)}, stored)
    for k, name in enumerate("mk"):
        made.graph.input[0].type.tensor_type.shape.dim[k].dim_param = name
    session = fornix.InferenceSession(made)
    feeds = {"x": numbers(3, 20)}
    np.testing.assert_allclose(session.run(None, feeds)[0], feeds["x"] @ w, rtol=1e-4, atol=1e-3)
    assert [entry.kind for entry in session.profile(feeds, 1).entries] == ["contraction"]


def test_large_results_are_the_callers_own() -> None:
    feeds = {"x": numbers(300, 1000)}
    session = fornix.InferenceSession(model("y = Neg(x)", feeds))
    kept = [np.asarray(session.run(None, {"x": feeds["x"] + k})[0]) for k in range(6)]
    parts = [np.asarray(session.run(None, {"x": feeds["x"] + k})[0])[1:3, ::7] for k in range(6)]
    places = set()
    for _ in range(20):
        (y,) = session.run(None, feeds)
        places.add(np.asarray(y).ctypes.data)
    assert len(places) <= 3
    for k in range(6):
        np.testing.assert_array_equal(kept[k], -(feeds["x"] + k))
        np.testing.assert_array_equal(parts[k], -(feeds["x"] + k)[1:3, ::7])
    kept[0][:] = 0
    assert kept[0].flags.writeable
    del session
    np.testing.assert_array_equal(kept[1], -(feeds["x"] + 1))


@pytest.mark.parametrize("shape", [(3, 511), (3, 512), (2, 3, 1000), (1, 9001)])
def test_long_rows_of_results_hold_what_is_used_again(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(2).standard_normal(shape, np.float32)
    wide = np.exp(x.astype(np.float64))
    wanted = wide / wide.sum(-1, keepdims=True)
    found = computed("y = Softmax(x)", {"x": x})
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=0)
    found = computed("s = Softmax(x) h = Mul(s, s) y = Add(h, x)", {"x": x})
    np.testing.assert_allclose(found, wanted**2 + x, rtol=1e-5, atol=1e-6)
