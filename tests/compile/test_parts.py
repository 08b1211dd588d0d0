from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from fornix import InferenceSession, SessionOptions
from fornix.compile import Target
from fornix.compile.parts import in_parts
from fornix.compile.schedule import parts, schedule
from fornix.dtype import FLOAT32
from fornix.ir.dim import symbol
from fornix.ir.loops import Store, Tensor, compute, constant, reduce, select, tensor
from fornix.ir.loops.tensor import stored
from tests.compile.native import Runner

multiplies_tiles = pytest.mark.skipif(
    not Target.host().has("amx-bf16"), reason="the processor has no tile registers for bfloat16s"
)
SHAPES = [
    (24, 32, 8), (24, 33, 16), (25, 49, 17), (31, 63, 33), (32, 64, 32), (33, 100, 31),
    (47, 96, 48), (100, 65, 64), (130, 192, 70), (300, 40, 40), (40, 800, 40), (70, 1700, 300),
]  # fmt: skip
"""Rows, terms, columns."""
LEFT_OUT, ROUNDING = 2.0**-22, 2.0**-24
"""Of a product: what is not summed of it, and half an ulp of a sum."""
LARGEST = np.finfo(np.float32).max
rng = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def _in_parts_if_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products that are too small to gain anything are computed in parts, too."""
    monkeypatch.setattr(parts, "_pays", lambda *_: True)
    monkeypatch.setattr(parts, "LEAST_ROWS", 24)


def is_in_parts(x: Tensor, target: Target) -> bool:
    """Whether ``x`` is computed in tile registers."""
    buffer = stored(x).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    return any(piece.nest.kind == "parts" for piece in schedule(buffer.source, target))


def product(x: Tensor, w: Tensor) -> Tensor:
    (m, k), n = x.shape, w.shape[1]
    return compute((m, n), lambda i, j: reduce("sum", k, lambda t: x[i, t] * w[t, j]))


def numbers(*shape: int) -> Any:
    """Float32s of several magnitudes."""
    scale = 2.0 ** rng.integers(-6, 7, shape)
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def assert_near(found: Any, a: Any, b: Any) -> None:
    """``found`` is a · b but for what is left out of products, and the rounding of sums."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    bound = (LEFT_OUT + a.shape[-1] * ROUNDING) * (np.abs(a) @ np.abs(b))
    assert (np.abs(found - a @ b) <= bound).all()


@multiplies_tiles
@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_products_are_as_near_as_those_of_float32(m: int, k: int, n: int) -> None:
    a, b = numbers(m, k), numbers(k, n)
    y = product(tensor("a", a.shape, FLOAT32), constant(b))
    assert is_in_parts(y, Target.host())
    runs = [Runner([y], chunks=chunks).run({"a": a})[0] for chunks in (1, 3)]
    assert_near(runs[0], a, b)
    np.testing.assert_array_equal(runs[0], runs[1])


@multiplies_tiles
def test_errors_are_no_larger_than_those_of_vectors() -> None:
    a, b = numbers(64, 768), numbers(768, 64)
    y = product(tensor("a", a.shape, FLOAT32), constant(b))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    strict = dataclasses.replace(Target.host(), is_strict=True)
    assert not is_in_parts(y, strict)
    in_parts_, vectors = (Runner([y], t).run({"a": a})[0] - exact for t in (Target.host(), strict))
    assert np.square(in_parts_).mean() <= np.square(vectors).mean()


@multiplies_tiles
def test_whole_numbers_below_two_to_the_24_are_exact() -> None:
    a = rng.integers(-300, 300, (40, 96)).astype(np.float32)
    b = rng.integers(-300, 300, (96, 50)).astype(np.float32)
    found = Runner([product(tensor("a", a.shape, FLOAT32), constant(b))]).run({"a": a})[0]
    np.testing.assert_array_equal(found, a @ b)


@multiplies_tiles
def test_numbers_are_chosen_exactly() -> None:
    b = numbers(64, 50)
    b[0, 0], b[1, 1], b[2, 2] = LARGEST, -LARGEST, 2.0**-100
    which = rng.integers(0, 64, 40)
    which[:3] = 0, 1, 2
    a = np.eye(64, dtype=np.float32)[which]
    found = Runner([product(tensor("a", a.shape, FLOAT32), constant(b))]).run({"a": a})[0]
    np.testing.assert_array_equal(found, b[which])


@multiplies_tiles
@pytest.mark.parametrize(("k", "n"), [(32, 48), (45, 50), (64, 20)])
@pytest.mark.parametrize("at_end", [False, True])
def test_as_many_rows_as_a_run_has(k: int, n: int, at_end: bool) -> None:
    b = numbers(k, n)
    x = tensor("a", (symbol("M"), k), FLOAT32)
    runner = Runner([product(x, constant(b))], at_end=at_end)
    for m in (1, 7, 8, 9, 23, 24, 31, 32, 33, 95):
        a = numbers(m, k)
        assert_near(runner.run({"a": a}, {"M": m})[0].reshape(m, n), a, b)


@multiplies_tiles
@pytest.mark.parametrize("names", [("M", "K", "N"), ("M", 64, "N"), (40, "K", 64)])
def test_extents_that_a_run_tells(names: tuple[Any, Any, Any]) -> None:
    m, k, n = (symbol(d) if isinstance(d, str) else d for d in names)
    runner = Runner([product(tensor("a", (m, k), FLOAT32), tensor("b", (k, n), FLOAT32))])
    for extents in ((40, 64, 64), (30, 33, 20), (50, 100, 70), (3, 5, 2)):
        sizes = [d if isinstance(d, int) else e for d, e in zip(names, extents, strict=True)]
        a, b = numbers(sizes[0], sizes[1]), numbers(sizes[1], sizes[2])
        symbols = {d: e for d, e in zip(names, extents, strict=True) if isinstance(d, str)}
        found = runner.run({"a": a, "b": b}, symbols)[0].reshape(sizes[0], sizes[2])
        assert_near(found, a, b)


@multiplies_tiles
@pytest.mark.parametrize(("k", "n"), [(64, 32), (33, 45), (64, 64)])
def test_each_matrix_of_a_batch_has_its_own_products(k: int, n: int) -> None:
    a, b = numbers(3, 40, k), numbers(3, k, n)
    x, y = tensor("a", a.shape, FLOAT32), tensor("b", b.shape, FLOAT32)
    z = compute((3, 40, n), lambda i, m, j: reduce("sum", k, lambda t: x[i, m, t] * y[i, t, j]))
    assert is_in_parts(z, Target.host())
    assert_near(Runner([z], chunks=2).run({"a": a, "b": b})[0], a, b)


@multiplies_tiles
def test_factors_that_lie_across_or_are_computed() -> None:
    a, b = numbers(64, 40), numbers(50, 64)
    x, w = tensor("a", a.shape, FLOAT32), tensor("b", b.shape, FLOAT32)

    def at(i: Any, j: Any) -> Any:
        return reduce("sum", 64, lambda t: (x[t, i] * 2.0 + 1.0) * select(w[j, t] < 0, 0, w[j, t]))

    found = Runner([compute((40, 50), at)]).run({"a": a, "b": b})[0]
    assert_near(found, (a * 2 + 1).T, np.maximum(b, 0).T)


@multiplies_tiles
def test_what_is_done_with_sums_follows() -> None:
    a, b, c = numbers(35, 40), numbers(40, 37), numbers(37)
    whole = product(tensor("a", a.shape, FLOAT32), constant(b))
    bias = tensor("c", c.shape, FLOAT32)
    y = compute((35, 37), lambda m, n: select(whole[m, n] + bias[n] < 0, 0, whole[m, n] + bias[n]))
    found = Runner([y]).run({"a": a, "c": c})[0]
    only = Runner([whole]).run({"a": a})[0]
    np.testing.assert_array_equal(found, np.maximum(only + c, 0))


@multiplies_tiles
@pytest.mark.parametrize("m", [24, 33, 64])
def test_what_is_not_finite_is_as_of_float32(m: int) -> None:
    a, b = numbers(m, 70), numbers(70, 40)
    quiet = np.array([0x7F800001, 0xFF80FFFF, 0x7FC00000], np.uint32).view(np.float32)
    a[0, 3], a[1, 69], a[2, 5:8], a[m - 1, 0] = np.inf, -np.inf, quiet, np.inf
    a[3, 1], a[3, 2], b[1], b[2] = np.inf, -np.inf, 1, 1
    a[4], b[:, 5] = 0, 0
    b[7, 5], b[9, 6] = np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        exact = a.astype(np.float64) @ b.astype(np.float64)
    for chunks in (1, 2):
        runner = Runner([product(tensor("a", a.shape, FLOAT32), constant(b))], chunks=chunks)
        found = runner.run({"a": a})[0]
        np.testing.assert_array_equal(np.isnan(found), np.isnan(exact))
        np.testing.assert_array_equal(found[np.isinf(exact)], exact[np.isinf(exact)])
        assert np.isfinite(found[np.isfinite(exact)]).all()


@multiplies_tiles
def test_what_is_not_finite_is_found_in_every_block() -> None:
    a, b = numbers(300, 1600), numbers(1600, 70)
    places = [(0, 0), (131, 799), (140, 800), (299, 1599)]
    for k, (row, term) in enumerate(places):
        a[row, term] = (np.inf, -np.inf, np.nan)[k % 3]
    with np.errstate(invalid="ignore"):
        exact = a.astype(np.float64) @ b.astype(np.float64)
    found = Runner([product(tensor("a", a.shape, FLOAT32), constant(b))], chunks=2).run({"a": a})[0]
    rows = [row for row, _ in places]
    np.testing.assert_array_equal(found[rows], exact[rows])
    assert_near(np.delete(found, rows, 0), np.delete(a, rows, 0), b)


@multiplies_tiles
def test_sums_overflow_where_those_of_float32_do() -> None:
    a, b = np.full((40, 64), 2.0, np.float32), np.ones((64, 40), np.float32)
    a[0, :2] = LARGEST, LARGEST
    a[1, :2] = LARGEST, -LARGEST
    a[2, 0] = LARGEST
    a[3, :3] = LARGEST, -LARGEST, LARGEST
    a[2:4, 3:] = 0
    found = Runner([product(tensor("a", a.shape, FLOAT32), constant(b))]).run({"a": a})[0]
    assert (found[0] == np.inf).all()
    assert (found[1] == 124).all()
    assert (found[2:4] == LARGEST).all()


def test_few_rows_columns_or_terms_stay_in_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for m, k, n in ((200, 512, 10), (30, 512, 512), (300, 16, 300), (100, 64, 100)):
        y = product(tensor("a", (m, k), FLOAT32), constant(numbers(k, n)))
        assert not is_in_parts(y, Target.host())


@multiplies_tiles
def test_long_sums_of_few_columns_stay_in_vectors_where_rows_outgrow_the_second_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    target = dataclasses.replace(Target.host(), l2_bytes=2 << 20)
    b = constant(np.zeros((1024, 128), np.float32))
    for m, is_fast in ((128, True), (384, False), (1000, False)):
        y = product(tensor("a", (m, 1024), FLOAT32), b)
        assert is_in_parts(y, target) == is_fast
    wide = constant(np.zeros((1024, 512), np.float32))
    assert is_in_parts(product(tensor("a", (384, 1024), FLOAT32), wide), target)


@multiplies_tiles
def test_parts_make_up_every_number() -> None:
    bits = rng.integers(0, 1 << 32, 4096, np.uint32)
    x = bits.view(np.float32)
    x = x[np.isfinite(x) & (np.abs(x) > 2.0**-100) & (np.abs(x) < LARGEST / 2)][:3200]
    t = tensor("x", (2, x.size // 2), FLOAT32)
    x = x.reshape(2, -1)
    found = [compute((x.shape[1],), lambda i, k=k: in_parts(t[0, i], t[1, i])[k]) for k in range(3)]
    words = [np.asarray(part).view(np.uint32) for part in Runner(found).run({"x": x})]
    for row, halves in enumerate(([w << 16 for w in words], [w & 0xFFFF0000 for w in words])):
        total = sum(half.astype(np.uint32).view(np.float32).astype(np.float64) for half in halves)
        np.testing.assert_array_equal(total, x[row])


def test_code_for_other_processors_uses_none() -> None:
    host = Target.host()
    bare = dataclasses.replace(host, features=host.features - {"amx-int8", "amx-bf16", "amx-tile"})
    y = product(tensor("a", (40, 40), FLOAT32), constant(numbers(40, 40)))
    assert not is_in_parts(y, bare)
    assert is_in_parts(y, host) == host.has("amx-bf16")


@pytest.mark.parametrize(("turned_a", "turned_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_sessions_compute_the_same_with_all_threads(turned_a: int, turned_b: int) -> None:
    a, b, c = numbers(50, 70), numbers(70, 90), numbers(90)
    node = helper.make_node(
        "Gemm", ["a", "b", "c"], ["y"], alpha=0.5, beta=2.0, transA=turned_a, transB=turned_b
    )
    a_fed, b_fed = a.T.copy() if turned_a else a, b.T.copy() if turned_b else b
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape)
        for name, x in (("a", a_fed), ("c", c))
    ]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [50, 90])
    data = helper.make_tensor("b", TensorProto.FLOAT, b_fed.shape, b_fed.tobytes(), raw=True)
    graph = helper.make_graph([node], "g", inputs, [y], [data])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    found = []
    for threads in (1, 2):
        options = SessionOptions(intra_op_num_threads=threads)
        session = InferenceSession(model.SerializeToString(), options)
        found.append(session.run(None, {"a": a_fed, "c": c})[0])
    np.testing.assert_array_equal(found[0], found[1])
    exact = 0.5 * (a.astype(np.float64) @ b.astype(np.float64)) + 2.0 * c
    bound = 0.5 * (np.abs(a).astype(np.float64) @ np.abs(b)) + 2.0 * np.abs(c)
    assert (np.abs(found[0] - exact) <= bound * (LEFT_OUT + 72 * ROUNDING)).all()
