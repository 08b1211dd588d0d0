from __future__ import annotations

import dataclasses
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from fornix import InferenceSession, SessionOptions
from fornix.compile import Target
from fornix.compile.schedule import schedule
from fornix.dtype import FLOAT32, INT32
from fornix.ir.dim import symbol
from fornix.ir.loops import Store, Tensor, apply, cast, compute, constant, reduce, tensor
from fornix.ir.loops.tensor import stored
from tests.compile.native import Runner
from tests.compile.test_bytes import expected, product, words

multiplies_bytes = pytest.mark.skipif(
    not Target.host().has("amx-int8"), reason="the processor has no tile registers for bytes"
)
multiplies_halves = pytest.mark.skipif(
    not Target.host().has("amx-bf16"), reason="the processor has no tile registers for bfloat16s"
)
SHAPES = [
    (10, 32, 5), (16, 33, 16), (17, 47, 17), (31, 48, 33), (32, 64, 32), (33, 100, 31),
    (77, 84, 191), (130, 192, 70),
]  # fmt: skip
"""Rows, words of terms, columns."""
rng = np.random.default_rng(3)


def is_square(x: Tensor, target: Target) -> bool:
    """Whether ``x`` is computed in tile registers."""
    buffer = stored(x).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    nests = [piece.nest for piece in schedule(buffer.source, target)]
    return any("is_square=True" in repr(nest.body) for nest in nests)


@multiplies_bytes
@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
@pytest.mark.parametrize("is_turned", [False, True])
def test_products_in_tile_registers_are_exact(m: int, k: int, n: int, is_turned: bool) -> None:
    a, b = words(m, k, seed=0), words(k, n, seed=1)
    y = product(tensor("a", a.shape, INT32), constant(b), is_turned=is_turned)
    runner = Runner([y], chunks=3)
    assert is_square(y, Target.host())
    found = runner.run({"a": a})[0]
    if is_turned:
        np.testing.assert_array_equal(found, expected(b.T.copy(), a.T.copy()).T)
    else:
        np.testing.assert_array_equal(found, expected(a, b))


@multiplies_bytes
@pytest.mark.parametrize("k", [32, 45])
@pytest.mark.parametrize("at_end", [False, True])
def test_as_many_rows_as_a_run_has(k: int, at_end: bool) -> None:
    b = words(k, 50, seed=2)
    x = tensor("a", (symbol("M"), k), INT32)
    runner = Runner([product(x, constant(b), is_turned=False)], at_end=at_end)
    for m in (1, 2, 9, 10, 16, 33, 95):
        a = words(m, k, seed=m)
        found = runner.run({"a": a}, {"M": m})[0].reshape(m, 50)
        np.testing.assert_array_equal(found, expected(a, b))


@multiplies_bytes
def test_a_matrix_that_is_no_constant_is_packed_for_many_rows() -> None:
    a, b = words(40, 36, seed=5), words(36, 45, seed=6)
    x, y = tensor("a", a.shape, INT32), tensor("b", b.shape, INT32)
    found = Runner([product(x, y, is_turned=False)]).run({"a": a, "b": b})[0]
    np.testing.assert_array_equal(found, expected(a, b))


@multiplies_bytes
def test_each_matrix_of_a_batch_has_its_own_products() -> None:
    a, b = words(3, 20, 40, seed=7), words(3, 40, 35, seed=8)
    x, y = tensor("a", a.shape, INT32), tensor("b", b.shape, INT32)

    def at(i: Any, m: Any, n: Any) -> Any:
        return reduce("sum", 40, lambda k: apply("dot4", x[i, m, k], y[i, k, n]))

    found = Runner([compute((3, 20, 35), at)]).run({"a": a, "b": b})[0]
    np.testing.assert_array_equal(found, [expected(p, q) for p, q in zip(a, b, strict=True)])


@multiplies_bytes
def test_what_is_done_with_sums_follows() -> None:
    a, b, c = words(35, 40, seed=9), words(40, 37, seed=10), words(37, seed=11)
    whole = product(tensor("a", a.shape, INT32), constant(b), is_turned=False)
    bias = tensor("c", c.shape, INT32)
    scaled = compute((35, 37), lambda m, n: cast(whole[m, n] + bias[n], FLOAT32) * 0.5)
    found = Runner([scaled]).run({"a": a, "c": c})[0]
    np.testing.assert_array_equal(found, (expected(a, b) + c).astype(np.float32) * 0.5)


@multiplies_halves
@pytest.mark.parametrize(("m", "k", "n"), [(10, 70, 5), (17, 100, 33), (64, 96, 64), (50, 129, 70)])
def test_products_of_bfloat16s_in_tile_registers(m: int, k: int, n: int) -> None:
    x = rng.standard_normal((m, k)).astype(ml_dtypes.bfloat16)
    w = rng.standard_normal((k, n)).astype(ml_dtypes.bfloat16)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    bound = np.abs(x.astype(np.float64)) @ np.abs(w.astype(np.float64))
    for threads in (1, 2):
        found = _product(w, threads).run(None, {"x": x})[0].astype(np.float64)
        assert (np.abs(found - exact) <= np.abs(exact) / 256 + bound * k * 2.0**-23).all()


@multiplies_halves
def test_infinite_bfloat16s_stay_infinite() -> None:
    x = np.ones((20, 100), ml_dtypes.bfloat16)
    w = np.ones((100, 20), ml_dtypes.bfloat16)
    x[3, 5], x[4, 99], x[5, 0] = np.inf, -np.inf, np.nan
    found = _product(w, 1).run(None, {"x": x})[0].astype(np.float32)
    assert (found[3] == np.inf).all()
    assert (found[4] == -np.inf).all()
    assert np.isnan(found[5]).all()
    assert (np.delete(found, [3, 4, 5], 0) == 100).all()


def test_code_for_other_processors_uses_none() -> None:
    host = Target.host()
    bare = dataclasses.replace(host, features=host.features - {"amx-int8", "amx-bf16", "amx-tile"})
    assert bare.text == host.text or host.has("amx-tile")
    y = product(tensor("a", (40, 40), INT32), constant(words(40, 40, seed=1)), is_turned=False)
    assert not is_square(y, bare)


def _product(w: Any, threads: int) -> InferenceSession:
    k, n = w.shape
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["M", k])
    y = helper.make_tensor_value_info("y", TensorProto.BFLOAT16, ["M", n])
    data = helper.make_tensor("w", TensorProto.BFLOAT16, (k, n), w.tobytes(), raw=True)
    graph = helper.make_graph([node], "g", [x], [y], [data])
    imports = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return InferenceSession(model.SerializeToString(), SessionOptions(intra_op_num_threads=threads))
