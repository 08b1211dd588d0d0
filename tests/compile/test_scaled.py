from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fornix import InferenceSession, ReferenceEvaluator, SessionOptions
from fornix.compile.compiler import write_all
from fornix.compile.target import Target
from fornix.dtype import FLOAT32, INT64
from fornix.errors import Fail
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import (
    Scalar,
    Tensor,
    cast,
    compute,
    constant,
    gathered,
    index,
    reduce,
    stored,
    tensor,
)
from fornix.ops.call import LowerNode, bind_attributes, lower_node
from fornix.ops.microsoft.blocks import MatMulNBits
from fornix.ops.microsoft.fields import unpacked
from tests.compile.levels import EVERY, target
from tests.compile.native import Runner

rng = np.random.default_rng(5)
SHAPES = [(4, 32, 72, 70), (2, 16, 32, 9), (8, 64, 64, 150), (4, 16, 48, 64)]
"""Bits, size of a block, terms, columns."""


def weights(bits: int, block: int, k: int, n: int) -> tuple[Any, Any, Any]:
    """Packed weights, scales and zero points."""
    count = -(-k // block)
    packed = rng.integers(0, 256, (n, count, block * bits // 8)).astype(np.uint8)
    scales = (rng.random((n, count)) * 0.1).astype(np.float32)
    return packed, scales, rng.integers(0, 256, (n, -(-count * bits // 8))).astype(np.uint8)


def attributes(shape: tuple[int, int, int, int], level: int) -> dict[str, int]:
    bits, block, k, n = shape
    return {"bits": bits, "block_size": block, "K": k, "N": n, "accuracy_level": level}


def model(shape: tuple[int, int, int, int], level: int, stored_data: Any) -> bytes:
    _, _, k, n = shape
    names = ["packed", "scales", "zeros"][: len(stored_data)]
    node = helper.make_node(
        "MatMulNBits", ["x", *names], ["y"], domain="com.microsoft", **attributes(shape, level)
    )
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["M", k])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M", n])
    data = [numpy_helper.from_array(a, name) for a, name in zip(stored_data, names, strict=True)]
    graph = helper.make_graph([node], "g", [x], [y], data)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    text: bytes = helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()
    return text


def product(x: Tensor, shape: tuple[int, int, int, int], level: int, stored_data: Any) -> Tensor:
    """The lowering of a node on stored weights."""
    schema = MatMulNBits.schema(1)
    node = LowerNode(
        operator=MatMulNBits, schema=schema, opset=1, wanted=(True,), output_types=(None,), facts=()
    )
    given = bind_attributes(schema, attributes(shape, level))
    (found,) = lower_node([x, *map(constant, stored_data)], given, node)
    assert found is not None
    return found


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 40])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [0, 4])
def test_sessions_give_the_product_for_few_rows_and_many(
    rows: int, shape: tuple[int, int, int, int], level: int
) -> None:
    text = model(shape, level, weights(*shape))
    feeds = {"x": rng.standard_normal((rows, shape[2])).astype(np.float32)}
    (expected,) = ReferenceEvaluator(text).run(None, feeds)
    found = []
    for threads in (1, 2):
        session = InferenceSession(text, SessionOptions(intra_op_num_threads=threads))
        assert session.placement()[0].kernels
        found.append(session.run(None, feeds)[0])
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("cpu", EVERY)
@pytest.mark.parametrize("shape", [(4, 32, 72, 70), (2, 16, 32, 20), (8, 64, 64, 150)])
@pytest.mark.parametrize("level", [0, 4])
@pytest.mark.parametrize("rows", [1, 5, 9])
def test_every_processor_gives_the_product(
    cpu: str, shape: tuple[int, int, int, int], level: int, rows: int
) -> None:
    stored_data = weights(*shape)
    x = rng.standard_normal((rows, shape[2])).astype(np.float32)
    (expected,) = ReferenceEvaluator(model(shape, level, stored_data)).run(None, {"x": x})
    y = product(tensor("x", x.shape, FLOAT32), shape, level, stored_data)
    (found,) = Runner([y], target(cpu), chunks=3).run({"x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("level", [0, 4])
def test_weights_are_read_in_few_bits(level: int) -> None:
    shape = (4, 32, 64, 64)
    x = tensor("x", (symbol("M"), 64), FLOAT32)
    y = stored(product(x, shape, level, weights(*shape)[:2]))
    kernel = write_all([y], Target.host())[-1]
    assert kernel.nest.kind == "blocks"
    words = [b for b in kernel.arguments if b.dtype.name == "int32" and b.elements == 64 * 64 // 8]
    assert len(words) == 1


@pytest.mark.parametrize("zeros", [2, 3])
@pytest.mark.parametrize(("block", "k", "read"), [(512, 512, 512), (256, 128, 128)])
def test_columns_of_one_block_are_read_in_their_bytes(
    zeros: int, block: int, k: int, read: int
) -> None:
    shape = (8, block, k, 64)
    x = tensor("x", (symbol("M"), k), FLOAT32)
    kernel = write_all([stored(product(x, shape, 0, weights(*shape)[:zeros]))], Target.host())[-1]
    assert kernel.nest.kind == "blocks"
    large = [b for b in kernel.arguments if isinstance(b.elements, int) and b.elements > 4096]
    assert [(b.dtype.name, b.elements) for b in large] == [("int8", read * 64)]


MANY = (8, 64, 500, 270), (4, 16, 520, 264), (8, 32, 1600, 400)
"""Of these, many rows are multiplied in tile registers where there are any."""
LEFT_OUT, ROUNDING = 2.0**-22, 2.0**-24
"""Of a product: what is not summed of it, and half an ulp of a sum."""


@pytest.mark.parametrize("shape", MANY)
@pytest.mark.parametrize("has_zeros", [False, True])
def test_many_rows_give_the_product_whatever_multiplies_them(
    shape: tuple[int, int, int, int], has_zeros: bool
) -> None:
    text = model(shape, 0, weights(*shape)[: 3 if has_zeros else 2])
    sessions = [InferenceSession(text, SessionOptions(intra_op_num_threads=n)) for n in (1, 2)]
    reference = ReferenceEvaluator(text)
    for rows in (55, 56, 131, 7, 4, 17, 32, 33):
        feeds = {"x": rng.standard_normal((rows, shape[2])).astype(np.float32)}
        if rows == 131:
            feeds["x"][[3, 100], [5, 499]] = np.inf, np.nan
        with np.errstate(invalid="ignore"):
            (expected,) = reference.run(None, feeds)
        found = [session.run(None, feeds)[0] for session in sessions]
        np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=2e-3)
        np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("shape", [(8, 128, 768, 96), (4, 32, 96, 40), (8, 512, 512, 40)])
@pytest.mark.parametrize("has_zeros", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 16, 23])
def test_products_of_scaled_integers_are_as_near_as_those_of_float32(
    shape: tuple[int, int, int, int], has_zeros: bool, rows: int
) -> None:
    bits, block, k, n = shape
    packed, scales, zeros = weights(*shape)
    x = (rng.standard_normal((rows, k)) * 2.0 ** rng.integers(-20, 20, (rows, k))).astype(
        np.float32
    )
    text = model(shape, 0, (packed, scales, zeros)[: 3 if has_zeros else 2])
    steps = unpacked(packed.reshape(n, -1), bits).reshape(n, -1, block).astype(np.float64)
    middles = unpacked(zeros, bits)[:, : k // block] if has_zeros else np.full((), 2 ** (bits - 1))
    w = ((steps - middles[..., None]) * scales[:, :, None]).reshape(n, k).T
    bound = (LEFT_OUT + (k + 2) * ROUNDING) * (np.abs(x.astype(np.float64)) @ np.abs(w))
    (found,) = InferenceSession(text).run(None, {"x": x})
    assert (np.abs(found - x.astype(np.float64) @ w) <= bound).all()


@pytest.mark.skipif(not Target.host().has("amx-bf16"), reason="no tile registers")
@pytest.mark.parametrize(("block", "is_exact"), [(32, True), (16, False)])
def test_blocks_of_whole_steps_are_multiplied_before_they_are_scaled(
    block: int, is_exact: bool
) -> None:
    shape = (8, block, 512, 96)
    x = tensor("x", (symbol("M"), 512), FLOAT32)
    kernel = write_all([stored(product(x, shape, 0, weights(*shape)[:2]))], Target.host())[-1]
    parts = [b for b in kernel.nest.scratch if b.name.startswith("parts")]
    assert len(parts) == (1 if is_exact else 3)


def of_heads(x: Tensor) -> Tensor:
    """x[N, H, S, D] as [N, S, H·D]."""
    n, heads, s, d = x.shape
    return compute((n, s, heads * d), lambda b, i, k: x[(b, k // d, i, k - k // d * d)])


@pytest.mark.parametrize("cpu", EVERY)
@pytest.mark.parametrize("extents", [(1, 9), (3, 5), (2, 1), (1, 60)])
def test_tokens_of_heads_are_rows_whatever_the_batch(cpu: str, extents: tuple[int, int]) -> None:
    shape = (8, 64, 128, 70)
    stored_data = weights(*shape)
    given = tensor("x", (symbol("N"), 2, symbol("S"), 64), FLOAT32)
    x = rng.standard_normal((extents[0], 2, extents[1], 64)).astype(np.float32)
    y = product(of_heads(given), shape, 0, stored_data)
    symbols = {"N": extents[0], "S": extents[1]}
    (found,) = Runner([y], target(cpu), chunks=3).run({"x": x}, symbols)
    rows = np.moveaxis(x, 1, 2).reshape(-1, 128)
    (expected,) = ReferenceEvaluator(model(shape, 0, stored_data)).run(None, {"x": rows})
    np.testing.assert_allclose(found.reshape(-1, 70), expected, rtol=1e-4, atol=1e-3)


def test_rows_that_lie_in_pieces_are_copied_and_joined() -> None:
    shape = (8, 64, 768, 768)
    heads = tensor("x", (symbol("N"), 12, symbol("S"), 64), FLOAT32)
    y = stored(product(of_heads(heads), shape, 0, weights(*shape)))
    first, *_, last = write_all([y], Target.host())
    (copied,) = [b for b in last.arguments if b.name.startswith("left")]
    assert copied in first.arguments
    assert first.nest.kind == "map"


@pytest.mark.skipif(not Target.host().has("amx-bf16"), reason="no tile registers")
@pytest.mark.parametrize("rows", [symbol("M"), 96])
def test_many_rows_take_parts_of_fields_that_stay_in_few_bits(rows: Any) -> None:
    shape = (4, 32, 512, 512)
    y = stored(product(tensor("x", (rows, 512), FLOAT32), shape, 0, weights(*shape)[:2]))
    kernel = write_all([y], Target.host())[-1]
    assert kernel.nest.beside  # the parts of the left factor
    words = [b for b in kernel.arguments if b.elements == 512 * 512 // 8]
    assert [b.dtype.name for b in words] == ["int32"]


def test_scales_may_be_fed() -> None:
    shape = (4, 32, 96, 70)
    packed, scales, _ = weights(*shape)
    names = ["x", "packed", "scales"]
    node = helper.make_node(
        "MatMulNBits", names, ["y"], domain="com.microsoft", **attributes(shape, 0)
    )
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["M", 96])
    fed = helper.make_tensor_value_info("scales", TensorProto.FLOAT, scales.shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M", 70])
    graph = helper.make_graph(
        [node], "g", [x, fed], [y], [numpy_helper.from_array(packed, "packed")]
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    text = helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()
    feeds = {"x": rng.standard_normal((9, 96)).astype(np.float32), "scales": scales}
    (expected,) = ReferenceEvaluator(text).run(None, feeds)
    session = InferenceSession(text)
    assert session.placement()[0].kernels
    np.testing.assert_allclose(session.run(None, feeds)[0], expected, rtol=1e-4, atol=1e-4)


EXPERTS, ROWS, COLUMNS, BLOCKS, SIZE = 6, 5, 70, 3, 32
CHOSEN = "matrix scale left factor is_in_blocks".split()
CHOICES: list[tuple[str, str, str, str, bool]] = [
    ("t", "t", "", "", True),
    ("o", "o", "", "", True),
    ("t", "", "", "", True),
    ("t", "t", "", "t", True),
    ("t", "t", "t", "", False),
    ("", "t", "", "", False),
    ("t", "o", "", "", False),
    ("j", "j", "", "", False),
    ("k", "", "", "", False),
    ("n", "n", "", "", False),
]
"""The axis along which data choose the matrix, its scales, the left factor, and what else a block
is multiplied by ("o": one choice for all); whether that is a sum of blocks."""


@pytest.mark.parametrize(CHOSEN, CHOICES)
def test_data_may_choose_among_matrices(
    matrix: str, scale: str, left: str, factor: str, is_in_blocks: bool
) -> None:
    extents = {"t": ROWS, "o": 1, "j": BLOCKS, "k": SIZE, "n": COLUMNS}
    feeds = {axis: rng.integers(0, EXPERTS, n) for axis, n in extents.items()}
    choice = {axis: tensor(axis, (n,), INT64) for axis, n in extents.items()}
    w = rng.integers(-8, 8, (EXPERTS, COLUMNS, BLOCKS, SIZE)).astype(np.int8)
    s = rng.random((EXPERTS, COLUMNS, BLOCKS)).astype(np.float32)
    feeds["x"] = rng.standard_normal((EXPERTS, BLOCKS, SIZE)).astype(np.float32)
    x, stored_w, stored_s = tensor("x", feeds["x"].shape, FLOAT32), constant(w), constant(s)

    def at(t: DimLike, n: DimLike) -> Scalar:
        def number(axis: str, otherwise: DimLike, **place: DimLike) -> DimLike:
            place |= {"t": t, "n": n, "o": 0}
            return gathered(choice[axis][place[axis]], EXPERTS) if axis else otherwise

        def block(j: DimLike) -> Scalar:
            def term(k: DimLike) -> Scalar:
                weight = cast(stored_w[number(matrix, 2, j=j, k=k), n, j, k], FLOAT32)
                return x[number(left, t), j, k] * weight

            total = stored_s[number(scale, 2, j=j), n, j] * reduce("sum", SIZE, term)
            return total * cast(index(number(factor, 1)), FLOAT32)

        return reduce("sum", BLOCKS, block)

    y = stored(compute((ROWS, COLUMNS), at))
    kinds = [kernel.nest.kind for kernel in write_all([y], Target.host())]
    assert ("blocks" in kinds) is is_in_blocks
    places = dict(zip("tnjk", np.ogrid[:ROWS, :COLUMNS, :BLOCKS, :SIZE], strict=True))
    places["o"] = np.zeros((1, 1, 1, 1), np.int64)
    t, n, j, k = (places[axis] for axis in "tnjk")

    def picked(axis: str, otherwise: Any) -> Any:
        return feeds[axis][places[axis]] if axis else otherwise

    products = feeds["x"][picked(left, t), j, k] * w[picked(matrix, 2), n, j, k].astype(np.float64)
    expected = (products * s[picked(scale, 2), n, j] * picked(factor, 1)).sum((2, 3))
    used = {"x"} | {axis for axis in (matrix, scale, left, factor) if axis}
    own = {name: feeds[name] for name in used}
    (found,) = Runner([y], chunks=3).run(own)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    if is_in_blocks:
        own[matrix or scale][-1] = EXPERTS
        with pytest.raises(Fail, match="index: "):
            Runner([y], chunks=3).run(own)


def test_the_number_of_a_matrix_may_be_chosen_itself() -> None:
    w = rng.integers(-8, 8, (EXPERTS, COLUMNS, BLOCKS, SIZE)).astype(np.int8)
    s = rng.random((EXPERTS, COLUMNS, BLOCKS)).astype(np.float32)
    stored_w, stored_s = constant(w), constant(s)
    x = tensor("x", (ROWS, BLOCKS, SIZE), FLOAT32)
    number, which = tensor("number", (BLOCKS,), INT64), tensor("which", (ROWS,), INT64)

    def at(t: DimLike, n: DimLike) -> Scalar:
        own = gathered(number[gathered(which[t], BLOCKS)], EXPERTS)

        def block(j: DimLike) -> Scalar:
            def term(k: DimLike) -> Scalar:
                return x[t, j, k] * cast(stored_w[own, n, j, k], FLOAT32)

            return stored_s[own, n, j] * reduce("sum", SIZE, term)

        return reduce("sum", BLOCKS, block)

    y = stored(compute((ROWS, COLUMNS), at))
    assert "blocks" in [kernel.nest.kind for kernel in write_all([y], Target.host())]
    feeds: dict[str, Any] = {"number": np.array([5, 0, 3]), "which": np.array([2, 0, 1, 0, 2])}
    feeds["x"] = rng.standard_normal((ROWS, BLOCKS, SIZE)).astype(np.float32)
    (found,) = Runner([y], chunks=3).run(feeds)
    own = feeds["number"][feeds["which"]]
    expected = np.einsum("tjk,tnjk,tnj->tn", feeds["x"], w[own].astype(np.float64), s[own])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
