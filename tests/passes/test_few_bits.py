from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fornix
from fornix.errors import InvalidUse
from fornix.ir.load import from_message
from fornix.onnx import helper, numpy_helper
from fornix.passes import Native, optimize

rng = np.random.default_rng(3)
K, N = 160, 130
"""Enough elements that they are kept; half a block is left over."""


def model(node: dict[str, Any], wanted: str, weights: Any, *more: Any) -> Any:
    """x[M, K] times weights that are dequantized by ``more``, with ``node`` as attributes."""
    names = ["w", "scale", "zero"][: 1 + len(more)]
    data = [numpy_helper.from_array(a, n) for a, n in zip((weights, *more), names, strict=True)]
    nodes = [helper.make_node("DequantizeLinear", names, ["v"], **node)]
    right = "v"
    if wanted == "turned":
        nodes.append(helper.make_node("Transpose", ["v"], ["t"], perm=[1, 0]))
        right = "t"
    if wanted == "Gemm":
        data.append(numpy_helper.from_array(rng.standard_normal(N).astype(np.float32), "c"))
        nodes.append(helper.make_node("Gemm", ["x", right, "c"], ["y"], transB=1))
    else:
        nodes.append(helper.make_node("MatMul", ["x", right], ["y"]))
    return whole(nodes, data)


def whole(nodes: Any, data: Any, rows: int = K, columns: int = N) -> Any:
    x = helper.make_tensor_value_info("x", 1, ["M", rows])
    y = helper.make_tensor_value_info("y", 1, ["M", columns])
    graph = helper.make_graph(nodes, "g", [x], [y], data)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=11)


def drawn(dtype: Any, *shape: int) -> Any:
    bits = ml_dtypes.iinfo(dtype)
    return rng.integers(bits.min, bits.max + 1, shape).astype(dtype)


def scales(*shape: int) -> Any:
    return (rng.random(shape) * 0.1 + 0.01).astype(np.float32)


def operators(session: fornix.InferenceSession) -> list[str]:
    assert all(place.kernels for place in session.placement())
    return [place.op_type for place in session.placement()]


def agree(text: Any, rows: int = 3) -> list[str]:
    x = rng.standard_normal((rows, K)).astype(np.float32)
    (expected,) = fornix.ReferenceEvaluator(text).run(None, {"x": x})
    session = fornix.InferenceSession(text)
    (found,) = session.run(None, {"x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    return operators(session)


@pytest.mark.parametrize(
    "dtype", [ml_dtypes.int2, ml_dtypes.uint2, ml_dtypes.int4, ml_dtypes.uint4, np.int8, np.uint8]
)
@pytest.mark.parametrize("has_zero", [False, True])
def test_blocks_of_columns_stay_in_their_bits(dtype: Any, has_zero: bool) -> None:
    more = [scales(3, N), drawn(dtype, 3, N)] if has_zero else [scales(3, N)]
    text = model({"axis": 0, "block_size": 64}, "plain", drawn(dtype, K, N), *more)
    assert agree(text) == ["MatMulNBits"]


@pytest.mark.parametrize("wanted", ["turned", "Gemm"])
@pytest.mark.parametrize("rows", [1, 20])
def test_matrices_may_lie_transposed(wanted: str, rows: int) -> None:
    more = [scales(N, 5), drawn(ml_dtypes.uint4, N, 5)]
    text = model({"axis": 1, "block_size": 32}, wanted, drawn(ml_dtypes.uint4, N, K), *more)
    assert agree(text, rows) == ["MatMulNBits"]


@pytest.mark.parametrize("shape", [(), (N,)])
def test_columns_are_blocks(shape: tuple[int, ...]) -> None:
    more = [scales(*shape), drawn(np.int8, *shape)]
    assert agree(model({"axis": 1}, "plain", drawn(np.int8, K, N), *more)) == ["MatMulNBits"]


def grouped(order: Any, bits: int = 4, block: int = 32, zeros: bool = True) -> Any:
    """x[M, K] times a matrix whose columns have the scales of blocks that ``order`` tells."""
    count = -(-K // block)
    data = {
        "w": rng.integers(0, 256, (N, count, block * bits // 8)).astype(np.uint8),
        "s": scales(N, count),
        "z": rng.integers(0, 256, (N, -(-count * bits // 8))).astype(np.uint8),
        "g": np.asarray(order, np.int32),
    }
    inputs = ["x", "w", "s", "z" if zeros else "", "g"]
    sizes: dict[str, Any] = {"K": K, "N": N, "bits": bits, "block_size": block, "accuracy_level": 4}
    node = helper.make_node("MatMulNBits", inputs, ["y"], domain="com.microsoft", **sizes)
    text = whole([node], [numpy_helper.from_array(a, name) for name, a in data.items()])
    text.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return text


@pytest.mark.parametrize(("bits", "block"), [(2, 64), (4, 32), (4, 64), (8, 16)])
@pytest.mark.parametrize("zeros", [False, True])
def test_columns_of_a_group_are_brought_side_by_side(bits: int, block: int, zeros: bool) -> None:
    order = rng.permutation(np.arange(K) // block)
    assert agree(grouped(order, bits, block, zeros)) == ["Gather", "MatMulNBits"]


def test_groups_in_their_order_are_blocks() -> None:
    assert agree(grouped(np.arange(K) // 32)) == ["MatMulNBits"]


def test_groups_that_are_no_blocks_keep_their_order() -> None:
    order = rng.integers(0, 5, K)
    order[:40] = 0
    text = grouped(order)
    assert agree(text) == ["MatMulNBits"]
    (node,) = optimize(from_message(text), native=Native()).graph.nodes
    assert len(node.inputs) == 5


def of_columns(rows: int) -> Any:
    """x[M, rows] times weights with a scale for each column and zero points that are 0."""
    names = ["w", "scale", "zero"]
    stored = [drawn(np.int8, rows, 900), scales(900), np.zeros(900, np.int8)]
    nodes = [
        helper.make_node("DequantizeLinear", names, ["v"], axis=1),
        helper.make_node("MatMul", ["x", "v"], ["y"]),
    ]
    data = [numpy_helper.from_array(a, name) for a, name in zip(stored, names, strict=True)]
    return whole(nodes, data, rows, 900)


@pytest.mark.parametrize(
    ("rows", "block"), [(1024, 128), (192, 64), (160, 32), (48, 16), (1000, 64)]
)
def test_the_scale_of_a_column_is_said_for_blocks_of_it(rows: int, block: int) -> None:
    (node,) = optimize(from_message(of_columns(rows)), native=Native()).graph.nodes
    assert (node.op_type, node.attr("block_size", 0)) == ("MatMulNBits", block)
    assert len(node.inputs) == 3  # zero points are none


def test_columns_of_one_block_are_folded() -> None:
    (node,) = optimize(from_message(of_columns(20)), native=Native()).graph.nodes
    assert node.op_type == "MatMul"


@pytest.mark.parametrize("rows", [20, 1000])
def test_columns_of_any_length_are_blocks(rows: int) -> None:
    text, x = of_columns(rows), rng.standard_normal((2, rows)).astype(np.float32)
    (found,) = fornix.InferenceSession(text).run(None, {"x": x})
    (expected,) = fornix.ReferenceEvaluator(text).run(None, {"x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_strict_sums_are_those_of_numbers_for_any_rows() -> None:
    text, x = of_columns(256), rng.standard_normal((20, 256)).astype(np.float32)
    stored = {t.name: numpy_helper.to_array(t) for t in text.graph.initializer}
    numbers = stored["w"].astype(np.float32) * stored["scale"]
    nodes = [helper.make_node("MatMul", ["x", "v"], ["y"])]
    plain = whole(nodes, [numpy_helper.from_array(numbers, "v")], 256, 900)
    options = fornix.SessionOptions()
    options.add_session_config_entry("fornix.strict_accuracy", "1")
    sessions = [fornix.InferenceSession(m, options) for m in (text, plain)]
    (wanted,) = sessions[1].run(None, {"x": x})
    for made in sessions:
        for rows in (20, 5, 1):
            (found,) = made.run(None, {"x": x[:rows]})
            np.testing.assert_array_equal(found, wanted[:rows])


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        ({"axis": 0}, (K,)),
        ({"axis": 1, "block_size": 65}, (K, 2)),
        ({"axis": 0, "block_size": 9}, (18, N)),
    ],
)
def test_other_scales_are_folded(node: dict[str, int], shape: tuple[int, ...]) -> None:
    text = model(node, "plain", drawn(ml_dtypes.int4, K, N), scales(*shape))
    assert "MatMulNBits" not in agree(text)


def test_what_is_written_stays_in_the_standard(tmp_path: Path) -> None:
    text = model({"axis": 0, "block_size": 32}, "plain", drawn(ml_dtypes.int4, K, N), scales(5, N))
    loaded = from_message(text)
    plain = ["DequantizeLinear", "MatMul"]
    assert [n.op_type for n in optimize(loaded).graph.nodes] == plain
    native = optimize(loaded, native=Native())
    assert [n.op_type for n in native.graph.nodes] == ["MatMulNBits"]
    options = fornix.SessionOptions(optimized_model_filepath=str(tmp_path / "o.onnx"))
    fornix.InferenceSession(text, options)
    assert [n.op_type for n in fornix.load(tmp_path / "o.onnx").graph.nodes] == plain


ROWS = "session.qdq_matmulnbits_accuracy_level"


def narrowed(text: Any, value: str = "int8", **entries: str) -> fornix.InferenceSession:
    options = fornix.SessionOptions()
    for key, found in {"fornix.weights": value, **entries}.items():
        options.add_session_config_entry(key, found)
    return fornix.InferenceSession(text, options)


def in_steps(x: np.ndarray[Any, Any], block: int) -> np.ndarray[Any, Any]:
    """Rows in multiples of the 127th part of the greatest magnitude of each block."""
    parts = [x[:, k : k + block].astype(np.float64) for k in range(0, x.shape[1], block)]
    scales = [np.abs(part).max(axis=1, keepdims=True) / 127 for part in parts]
    return np.hstack([np.rint(p / s) * s for p, s in zip(parts, scales, strict=True)])


@pytest.mark.parametrize("level", ["0", "4"])
@pytest.mark.parametrize("count", [1, 20])
def test_rows_are_rounded_on_request(level: str, count: int) -> None:
    w, scale = drawn(ml_dtypes.int4, K, N), scales(5, N)
    text = model({"axis": 0, "block_size": 32}, "plain", w, scale)
    session = narrowed(text, "float32", **{ROWS: level})
    assert operators(session) == ["MatMulNBits"]
    x = rng.standard_normal((count, K)).astype(np.float32)
    left = in_steps(x, 32) if level == "4" else x
    exact = left @ (w.astype(np.float64) * np.repeat(scale, 32, 0))
    found = session.run(None, {"x": x})[0]
    assert np.abs(found - exact).max() < 1e-5 * np.abs(exact).max()


def test_rows_that_meet_rounded_weights_are_rounded_on_request() -> None:
    w = rng.standard_normal((K, N)).astype(np.float32)
    text = whole([helper.make_node("MatMul", ["x", "w"], ["y"])], [numpy_helper.from_array(w, "w")])
    x = rng.standard_normal((20, K)).astype(np.float32)
    exact = in_steps(x, 64) @ in_steps(w.T, 64).T
    found = narrowed(text, **{ROWS: "4"}).run(None, {"x": x})[0]
    assert np.abs(found - exact).max() < 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize(("level", "why"), [("5", "must be 0, 1, 2, 3 or 4, found '5'"), ("4", "")])
def test_levels_of_accuracy_that_are_refused(level: str, why: str) -> None:
    """One that there is not, and one that rounds where sums are to be strict."""
    text = model({"axis": 0}, "plain", drawn(ml_dtypes.int4, K, N), scales(1))
    strict = {} if why else {"fornix.strict_accuracy": "1"}
    with pytest.raises(InvalidUse, match=why or f"strict_accuracy excludes {ROWS}=4"):
        narrowed(text, "float32", **{ROWS: level}, **strict)


@pytest.mark.parametrize("wanted", ["MatMul", "Gemm", "Gemm with a matrix"])
@pytest.mark.parametrize("rows", [1, 20])
def test_weights_of_8_bits_keep_the_stated_bound(wanted: str, rows: int) -> None:
    w = rng.standard_normal((K, N)).astype(np.float32) * np.exp(rng.standard_normal((K, 1)))
    w = w.astype(np.float32)
    w[64:128, 5] = 0  # a block that has no scale
    x = rng.standard_normal((rows, K)).astype(np.float32)
    c = rng.standard_normal((1, N) if "matrix" in wanted else N).astype(np.float32)
    is_gemm = wanted != "MatMul"
    nodes = [helper.make_node("Gemm", ["x", "w", "c"], ["y"], transB=1)]
    if not is_gemm:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    data = [numpy_helper.from_array(w.T.copy() if is_gemm else w, "w")]
    data += [numpy_helper.from_array(c, "c")] if is_gemm else []
    session = narrowed(whole(nodes, data))
    assert "MatMulNBits" in operators(session)
    exact = x.astype(np.float64) @ w + (c if is_gemm else 0)
    error = np.abs(session.run(None, {"x": x})[0] - exact)
    blocks = [slice(k, min(k + 64, K)) for k in range(0, K, 64)]
    bound = sum(np.abs(x[:, b]).sum(1)[:, None] * np.abs(w[b]).max(0) / 254 for b in blocks)
    assert (error <= bound * (1 + 1e-5) + 1e-5).all()
    assert error.max() > 1e-4  # else nothing is rounded


def test_weights_that_are_not_finite_stay() -> None:
    w = np.full((K, N), np.inf, np.float32)
    text = whole([helper.make_node("MatMul", ["x", "w"], ["y"])], [numpy_helper.from_array(w, "w")])
    assert operators(narrowed(text)) == ["MatMul"]
    assert operators(narrowed(text, "float32")) == ["MatMul"]


def test_other_weights_than_of_8_bits_are_refused() -> None:
    w = np.zeros((K, N), np.float32)
    text = whole([helper.make_node("MatMul", ["x", "w"], ["y"])], [numpy_helper.from_array(w, "w")])
    with pytest.raises(InvalidUse, match=r"fornix\.weights must be float32 or int8, found 'int3'"):
        narrowed(text, "int3")


def quantized_on_both_sides(domain: str, opset: int, x: Any, w: Any, **blocks: Any) -> Any:
    """x[M, K], quantised as ``x`` says, times the stored matrix ``w``."""
    shape = (-(-K // blocks["block_size"]), N) if blocks else (N,)
    data = {"s": np.float32(0.05), "z": drawn(x), "w": w, "ws": scales(*shape)}
    data |= {"wz": drawn(w.dtype, *shape)}
    make = partial(helper.make_node, domain=domain)
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["q"]),
        make("DequantizeLinear", ["q", "s", "z"], ["a"]),
        make("DequantizeLinear", ["w", "ws", "wz"], ["b"], axis=0 if blocks else 1, **blocks),
        helper.make_node("MatMul", ["a", "b"], ["y"]),
    ]
    given = helper.make_tensor_value_info("x", 1, ["M", K])
    result = helper.make_tensor_value_info("y", 1, ["M", N])
    stored = [numpy_helper.from_array(np.asarray(a), name) for name, a in data.items()]
    graph = helper.make_graph(nodes, "g", [given], [result], stored)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=11)


@pytest.mark.parametrize(
    ("domain", "opset"), [("", 21), ("com.microsoft", 21), ("com.microsoft", 17)]
)
@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4, np.int8])
@pytest.mark.parametrize(("x", "wanted"), [(np.uint8, "MatMulInteger"), (np.uint16, "MatMulNBits")])
def test_bytes_meet_integers_and_wider_numbers_matrices_of_few_bits(
    domain: str, opset: int, dtype: Any, x: Any, wanted: str
) -> None:
    text = quantized_on_both_sides(domain, opset, x, drawn(dtype, K, N))
    assert wanted in agree(text)


@pytest.mark.parametrize("x", [np.int8, np.uint16])
def test_quantised_rows_meet_blocks_of_few_bits(x: Any) -> None:
    text = quantized_on_both_sides("", 21, x, drawn(ml_dtypes.uint4, K, N), block_size=64)
    assert "MatMulNBits" in agree(text)


def stored(nodes: list[Any], kind: int, columns: int, **data: Any) -> Any:
    given = helper.make_tensor_value_info("x", kind, ["M", *columns * [K]])
    result = helper.make_empty_tensor_value_info("y")
    kept = [numpy_helper.from_array(np.asarray(a), name) for name, a in data.items()]
    graph = helper.make_graph(nodes, "g", [given], [result], kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4, np.int8, np.uint16])
def test_numbers_of_other_scales_are_computed_once(dtype: Any) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["b"], axis=0),
        helper.make_node("MatMul", ["x", "b"], ["y"]),
    ]
    text = stored(nodes, 1, 1, w=drawn(dtype, K, N), s=scales(K))
    assert agree(text) == ["MatMul"]


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, np.uint8])
def test_tables_that_rows_are_gathered_from_stay_integers(dtype: Any) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["b"], axis=0),
        helper.make_node("Gather", ["b", "x"], ["y"]),
    ]
    text = stored(nodes, 7, 0, w=drawn(dtype, K, N), s=scales(K))
    session, x = fornix.InferenceSession(text), np.array([3, -1, K - 1, 0])
    (expected,) = fornix.ReferenceEvaluator(text).run(None, {"x": x})
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected)
    assert operators(session) == ["DequantizeLinear", "Gather"]


@pytest.mark.parametrize("opset", [19, 22, 23, 25])
def test_halves_are_divided_by_scales_of_onnxruntime_in_float32(opset: int) -> None:
    """996 / 7.75 is 128.516: in halves, as ai.onnx 23 divides them, 128.5, which goes to 128."""
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["y"], domain="com.microsoft")
    given = helper.make_tensor_value_info("x", 10, ["N"])
    result = helper.make_tensor_value_info("y", 2, ["N"])
    kept = [numpy_helper.from_array(np.asarray(7.75, np.float16), "s")]
    graph = helper.make_graph([node], "g", [given], [result], kept)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    session = fornix.InferenceSession(
        helper.make_model(graph, opset_imports=imports, ir_version=10)
    )
    assert session.run(None, {"x": np.array([996, 0], np.float16)})[0].tolist() == [129, 0]
