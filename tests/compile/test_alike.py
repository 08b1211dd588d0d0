from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from fornix.compile import program
from fornix.compile.alike import MANY, Alike
from fornix.compile.cache import ObjectCache
from fornix.compile.memo import Memo, alike
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike, maximum, minimum, symbol
from fornix.ir.types import TensorType
from fornix.ops.fact import KNOWN_ELEMENTS
from fornix.runtime import InferenceSession

N, M, K = (symbol(name, 1) for name in "NMK")
ODD = symbol("it's odd", 1)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Memo:
    """What a process knows that has compiled nothing and keeps nothing."""
    memo = Memo(ObjectCache())
    monkeypatch.setattr(program, "memo", lambda: memo)
    return memo


def key(*shape: DimLike) -> Alike:
    return alike(("Relu", (TensorType(FLOAT32, shape), None)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((N, M, N), (ODD, K, ODD)),
        ((N * M + 1, (N + 3) // 4), (K * ODD + 1, (K + 3) // 4)),
        ((minimum(N, 400), maximum(N - 2, 1)), (minimum(K, 400), maximum(K - 2, 1))),
        ((symbol("min", 1), minimum(symbol("min", 1), 9)), (M, minimum(M, 9))),
        ((symbol("a", 1, N), N), (symbol("b", 1, M), M)),
    ],
    ids=str,
)
def test_names_of_symbols_tell_nothing_apart(
    one: tuple[DimLike, ...], other: tuple[DimLike, ...]
) -> None:
    first, second = key(*one), key(*other)
    assert first.digest == second.digest
    assert first.symbols != second.symbols
    assert len(first.symbols) == len(second.symbols)


def test_what_else_differs_tells_nodes_apart() -> None:
    shapes = [
        (N, M, N), (N, M, M), (N, N, N), (N, M, K), (N, M, N + 1), (2 * N, M, N),
        (symbol("N", 2), M, symbol("N", 2)), (symbol("N", 1, 9), M, symbol("N", 1, 9)),
        (minimum(N, M), M, N), (maximum(N, M), M, N), (N // M, M, N), (N, M, 1), (N, M),
    ]  # fmt: skip
    assert len({key(*shape).digest for shape in shapes}) == len(shapes)


BRANCHES = """<ir_version: 8, opset_import: ["" : 18]>
    f (float[A, 3] a, float[B, 3] b, float['c d', 3] c, float[A, 3] d)
      => (float[A] w, float[B] x, float['c d'] y, float[A, 3] z)
    <int64[1] last = {1}> {
        w = ReduceSum <keepdims = 0> (a, last)
        x = ReduceSum <keepdims = 0> (b, last)
        y = ReduceSum <keepdims = 0> (c, last)
        z = Mul (d, a)
    }"""


def check_branches() -> None:
    model = parser.parse_model(BRANCHES.replace("'c d'", "C"))
    for value in (model.graph.input[2], model.graph.output[2]):
        value.type.tensor_type.shape.dim[0].dim_param = "c d"
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    assert all(place.kernels for place in session.placement())
    rng = np.random.default_rng(0)
    for lengths in ((4, 7, 2), (1, 1, 9), (70, 3, 70), (4, 7, 2)):
        a, b, c, d = (rng.normal(size=(n, 3)).astype(np.float32) for n in (*lengths, lengths[0]))
        wanted = [a.sum(1), b.sum(1), c.sum(1), d * a]
        for _ in range(2):
            found = session.run(None, {"a": a, "b": b, "c": c, "d": d})
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_code_is_shared_between_symbols(fresh: Memo) -> None:
    check_branches()
    assert len(fresh.codes) == 2


def test_shared_code_is_kept_for_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        memo = Memo(ObjectCache(tmp_path / "cache"))
        monkeypatch.setattr(program, "memo", lambda memo=memo: memo)
        check_branches()
        monkeypatch.setattr(program, "write_all", lambda *_: pytest.fail("this was known"))


def test_weights_of_layers_are_not_told_apart(fresh: Memo) -> None:
    rng = np.random.default_rng(1)
    sizes = ((8, 8), (8,), (8,))
    layers = [[rng.normal(size=n).astype(np.float32) for n in sizes] for _ in range(5)]
    nodes, stored, x = [], [], "x"
    for number, layer in enumerate(layers):
        names = [f"{name}{number}" for name in "wbg"]
        arrays = zip(names, layer, strict=True)
        stored += [numpy_helper.from_array(array, n) for n, array in arrays]
        w, b, g = names
        nodes += [
            helper.make_node("MatMul", [x, w], [f"m{number}"]),
            helper.make_node("Add", [f"m{number}", b], [f"a{number}"]),
            helper.make_node("LayerNormalization", [f"a{number}", g], [f"x{number}"]),
        ]
        x = f"x{number}"
    values = [helper.make_tensor_value_info(name, 1, [4, 8]) for name in ("x", x)]
    graph = helper.make_graph(nodes, "layers", values[:1], values[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    given = rng.normal(size=(4, 8)).astype(np.float32)
    wanted: Any = given
    for weights, bias, scale in layers:
        wanted = wanted @ weights + bias
        spread = np.sqrt(wanted.var(1, keepdims=True) + 1e-5)
        wanted = (wanted - wanted.mean(1, keepdims=True)) / spread * scale
    np.testing.assert_allclose(session.run(None, {"x": given})[0], wanted, rtol=1e-3, atol=1e-4)
    assert len(fresh.codes) <= 3


@pytest.mark.parametrize("data", ["column", "number"])
def test_many_positions_in_one_tensor_share_their_code(fresh: Memo, data: str) -> None:
    positions = [*range(MANY - 2), -1, -MANY]
    shape = (1,) if data == "column" else ()
    stored = [
        numpy_helper.from_array(np.full(shape, at, np.int64), f"i{k}")
        for k, at in enumerate(positions)
    ]
    nodes = [
        helper.make_node("Gather", ["x", f"i{k}"], [f"g{k}"], axis=1) for k in range(len(positions))
    ]
    nodes += [helper.make_node("Exp", [f"g{k}"], [f"y{k}"]) for k in range(len(positions))]
    x = helper.make_tensor_value_info("x", 1, ["N", MANY])
    ys = [helper.make_tensor_value_info(f"y{k}", 1, ["N", *shape]) for k in range(len(positions))]
    graph = helper.make_graph(nodes, "columns", [x], ys, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    given = np.random.default_rng(2).normal(size=(5, MANY)).astype(np.float32)
    for at, y in zip(positions, session.run(None, {"x": given}), strict=True):
        np.testing.assert_allclose(y, np.exp(given[:, at]).reshape(5, *shape), rtol=1e-5)
    assert len(fresh.codes) == 1


def test_zero_points_that_are_all_zero_are_told_from_others(fresh: Memo) -> None:
    columns = KNOWN_ELEMENTS + 904
    rng = np.random.default_rng(3)
    b = rng.integers(-9, 9, (8, columns), np.int8)
    zeros = {"none": np.zeros(columns, np.int8), "some": np.arange(columns).astype(np.int8)}
    stored = [numpy_helper.from_array(x, name) for name, x in {"b": b, **zeros}.items()]
    stored.append(numpy_helper.from_array(np.uint8(0), "zero"))
    nodes = [helper.make_node("MatMulInteger", ["a", "b", "zero", z], ["y " + z]) for z in zeros]
    given = helper.make_tensor_value_info("a", TensorProto.UINT8, [2, 8])
    results = [helper.make_tensor_value_info("y " + z, TensorProto.INT32, None) for z in zeros]
    graph = helper.make_graph(nodes, "products", [given], results, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    a = rng.integers(0, 9, (2, 8), np.uint8)
    for z, y in zip(zeros.values(), session.run(None, {"a": a}), strict=True):
        np.testing.assert_array_equal(y, a.astype(np.int32) @ (b.astype(np.int32) - z))
    assert len(fresh.codes) == 2


def test_zero_points_of_rows_of_several_matrices_are_told_apart(fresh: Memo) -> None:
    rows = KNOWN_ELEMENTS // 2 + 1
    rng = np.random.default_rng(4)
    b = rng.integers(-9, 9, (2, 4, 3), np.int8)
    points = np.zeros((2, 2, rows, 1), np.uint8)
    points[1, :, -1] = 3
    stored = [numpy_helper.from_array(x, name) for x, name in zip(points, "st", strict=True)]
    stored.append(numpy_helper.from_array(b, "b"))
    nodes = [helper.make_node("MatMulInteger", ["a", "b", z], ["y " + z]) for z in "st"]
    given = helper.make_tensor_value_info("a", TensorProto.UINT8, [2, rows, 4])
    results = [helper.make_tensor_value_info("y " + z, TensorProto.INT32, None) for z in "st"]
    graph = helper.make_graph(nodes, "products", [given], results, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    a = rng.integers(0, 9, (2, rows, 4), np.uint8)
    for z, y in zip(points, session.run(None, {"a": a}), strict=True):
        np.testing.assert_array_equal(y, (a.astype(np.int32) - z) @ b.astype(np.int32))
    assert len(fresh.codes) == 2


QUANTIZED_LAYERS = [(0.01 * (k + 1), 100 + k) for k in range(MANY + 1)] + [(1.0, 131), (0.07, 0)]
"""Scale and zero point of each; code leaves out a scale of 1 and a zero point of 0."""


def quantized_layers() -> Any:
    """For each layer what products, and arithmetic, of bytes less its zero point are."""
    nodes, stored, names = [], [], []
    b = np.random.default_rng(5).integers(-9, 9, (4, 5), np.int8)
    stored.append(numpy_helper.from_array(b, "b"))
    for k, (scale, zero) in enumerate(QUANTIZED_LAYERS):
        stored.append(numpy_helper.from_array(np.float32(scale), f"s{k}"))
        stored.append(numpy_helper.from_array(np.uint8(zero), f"z{k}"))
        nodes += [
            helper.make_node("QuantizeLinear", ["x", f"s{k}", f"z{k}"], [f"q{k}"]),
            helper.make_node("DequantizeLinear", [f"q{k}", f"s{k}", f"z{k}"], [f"d{k}"]),
            helper.make_node("MatMulInteger", [f"q{k}", "b", f"z{k}"], [f"p{k}"]),
        ]
        names += [f"d{k}", f"p{k}"]
    x = helper.make_tensor_value_info("x", 1, [3, 4])
    kinds = [TensorProto.FLOAT, TensorProto.INT32]
    ys = [helper.make_tensor_value_info(n, kinds[n[0] == "p"], None) for n in names]
    graph = helper.make_graph(nodes, "layers", [x], ys, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), b


def test_scales_and_zero_points_of_layers_are_not_told_apart(fresh: Memo) -> None:
    model, b = quantized_layers()
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    assert all(place.kernels for place in session.placement())
    x = np.random.default_rng(6).normal(size=(3, 4)).astype(np.float32)
    x[0, 0], x[1, 1] = np.nan, 1e9
    found = session.run(None, {"x": x})
    for k, (scale, zero) in enumerate(QUANTIZED_LAYERS):
        with np.errstate(invalid="ignore"):
            steps = np.fmax(np.rint(x / np.float32(scale)) + zero, 0).clip(0, 255) - zero
        steps = steps.astype(np.int32)
        np.testing.assert_array_equal(found[2 * k], steps.astype(np.float32) * np.float32(scale))
        np.testing.assert_array_equal(found[2 * k + 1], steps @ b.astype(np.int32))
    assert len(fresh.codes) <= 3 * len(("most", "of scale 1", "of zero point 0"))
