from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fornix.errors import Fail, NotSupported, ShapeError
from fornix.ops.microsoft.fields import packed, reordered, unpacked
from tests.ops.harness import check_lowering, check_node, fact_of, infer_op, run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(13)


def case(
    bits: int, block: int, k: int, n: int, zeros: str | None
) -> tuple[list[Any], dict[str, int]]:
    count = -(-k // block)
    inputs = [
        rng.standard_normal((2, 3, k)).astype(np.float32),
        rng.integers(0, 256, (n, count, block * bits // 8)).astype(np.uint8),
        (rng.random((n, count)) * 0.1).astype(np.float32),
    ]
    if zeros == "bytes":
        inputs.append(rng.integers(0, 256, (n, -(-count * bits // 8))).astype(np.uint8))
    elif zeros == "floats":
        inputs.append((rng.random((n, count)) * 15).astype(np.float32))
    return inputs, {"K": k, "N": n, "bits": bits, "block_size": block}


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [None, "bytes"])
@pytest.mark.parametrize(("block", "k"), [(16, 48), (32, 64), (32, 80)])
def test_blocks_of_small_weights_are_multiplied(
    bits: int, zeros: str | None, block: int, k: int
) -> None:
    agree("MatMulNBits", *case(bits, block, k, 5, zeros), rtol=1e-4, atol=1e-3)


def test_level_4_of_no_rows_gives_none() -> None:
    (x, *stored), sizes = case(4, 16, 48, 5, "bytes")
    where: dict[str, Any] = {"domain": DOMAIN, "opset": 1}
    (y,) = run_op("MatMulNBits", [x[:, :0], *stored], sizes | {"accuracy_level": 4}, **where)
    assert y.shape == (2, 0, 5)


def test_zero_points_may_be_floats() -> None:
    agree("MatMulNBits", *case(4, 32, 64, 5, "floats"), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [None, "bytes"])
@pytest.mark.parametrize(("block", "k"), [(16, 48), (32, 80)])
def test_level_4_rounds_the_left_factor_as_onnxruntime_does(
    bits: int, zeros: str | None, block: int, k: int
) -> None:
    inputs, sizes = case(bits, block, k, 5, zeros)
    inputs[0][0, 0] = 0.0
    expected = with_stored_weights(inputs, sizes | {"accuracy_level": 4})
    where: dict[str, Any] = {"domain": DOMAIN, "opset": 1}
    attributes = sizes | {"accuracy_level": 4}
    check_node("MatMulNBits", inputs, attributes, expected=[expected], rtol=1e-4, **where)
    check_lowering("MatMulNBits", inputs, attributes, **where)
    exact = run_op("MatMulNBits", inputs, sizes, **where)[0]
    assert np.abs(expected - exact).max() > 1e-3  # else it is not rounded at all


def with_stored_weights(inputs: list[Any], attributes: dict[str, int]) -> Any:
    """What onnxruntime gives; it rounds only beside weights that it has packed."""
    names = ["x", "packed", "scales", "zeros"][: len(inputs)]
    node = helper.make_node("MatMulNBits", names, ["y"], domain=DOMAIN, **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs[0].shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    data = [numpy_helper.from_array(a, n) for a, n in zip(inputs[1:], names[1:], strict=True)]
    graph = helper.make_graph([node], "g", [x], [y], data)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": inputs[0]})[0]


@pytest.mark.parametrize("far", [np.inf, -np.inf, np.nan])
def test_a_block_that_is_not_finite_rounds_to_nothing(far: float) -> None:
    inputs, sizes = case(4, 16, 48, 5, "bytes")
    inputs[0][0, 1, 20] = far
    attributes = sizes | {"accuracy_level": 4}
    where: dict[str, Any] = {"domain": DOMAIN, "opset": 1}
    y = run_op("MatMulNBits", inputs, attributes, **where)[0]
    assert np.isnan(y[0, 1]).all()
    assert np.isfinite(np.delete(y.reshape(6, 5), 1, axis=0)).all()
    check_lowering("MatMulNBits", inputs, attributes, **where)


def test_zero_points_of_floats_leave_the_left_factor_as_it_is() -> None:
    inputs, sizes = case(4, 32, 64, 5, "floats")
    agree("MatMulNBits", inputs, sizes | {"accuracy_level": 4}, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_are_multiplied_in_float32(dtype: Any) -> None:
    inputs, sizes = case(4, 32, 64, 5, None)
    narrow = [inputs[0].astype(dtype), inputs[1], inputs[2].astype(dtype)]
    wide = [x if x.dtype == np.uint8 else x.astype(np.float32) for x in narrow]
    where: dict[str, Any] = {"domain": DOMAIN, "opset": 1}
    expected = run_op("MatMulNBits", wide, sizes, **where)[0].astype(dtype)
    check_node("MatMulNBits", narrow, sizes, expected=[expected], **where)
    check_lowering("MatMulNBits", narrow, sizes, **where)


def test_a_bias_is_added() -> None:
    inputs, sizes = case(4, 32, 64, 5, None)
    inputs += [None, None, rng.standard_normal(5).astype(np.float32)]
    agree("MatMulNBits", inputs, sizes, rtol=1e-4, atol=1e-3)


def test_two_bits_are_the_lowest_first() -> None:
    inputs, sizes = case(2, 16, 16, 1, None)
    y = run_op("MatMulNBits", inputs, sizes, domain=DOMAIN, opset=1)[0]
    digits = [int(byte) >> shift & 3 for byte in inputs[1].reshape(-1) for shift in (0, 2, 4, 6)]
    weights = (np.array(digits) - 2) * inputs[2][0, 0]
    np.testing.assert_allclose(y[..., 0], inputs[0] @ weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 3}, "bits must be 2, 4 or 8, got 3"),
        ({"block_size": 0}, "block_size must be positive, got 0"),
        ({"N": 6}, "B must have 192 bytes"),
        ({"weight_prepacked": 1}, "weight_prepacked must be 0, got 1"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, int], message: str) -> None:
    inputs, sizes = case(4, 32, 64, 5, None)
    with pytest.raises((ShapeError, NotSupported), match=message):
        run_op("MatMulNBits", inputs, sizes | change, domain=DOMAIN, opset=1)


def test_parameters_have_one_number_per_block() -> None:
    inputs, sizes = case(4, 32, 64, 5, None)
    where: dict[str, Any] = {"domain": DOMAIN, "opset": 1}
    with pytest.raises(ShapeError, match=r"scales must have shape \[5, 2\], got scales\[4, 2\]"):
        run_op("MatMulNBits", [*inputs[:2], inputs[2][:4]], sizes, **where)
    with pytest.raises(ShapeError, match="zero_points must have 5 bytes"):
        run_op("MatMulNBits", [*inputs, np.zeros(4, np.uint8)], sizes, **where)
    with pytest.raises(NotSupported, match="weight_prepacked must be 0, got 1"):
        run_op("MatMulNBits", inputs, sizes | {"weight_prepacked": 1}, **where)


@pytest.mark.parametrize(
    ("place", "shape", "message"),
    [
        (1, (5, 2, 32), r"B must have as many elements as B\[5, 2, 16\], got B\[5, 2, 32\]"),
        (2, (5, 1), r"scales must have as many elements as scales\[5, 2\], got scales\[5, 1\]"),
        (3, (1, 1), r"zero_points must have as many elements as zero_points\[5, 1\], got"),
        (5, (1,), r"bias must be bias\[5\], got bias\[1\]"),
    ],
)
def test_sessions_do_not_read_beyond_parameters(
    place: int, shape: tuple[int, ...], message: str
) -> None:
    inputs, sizes = case(4, 32, 64, 5, None)
    inputs += [None] * (6 - len(inputs))
    inputs[place] = np.ones(shape, np.uint8 if place in {1, 3} else np.float32)
    facts = [None if x is None else fact_of(x) for x in inputs]
    with pytest.raises(ShapeError, match=message):
        infer_op("MatMulNBits", facts, sizes, domain=DOMAIN, opset=1)


def test_a_bias_has_a_number_for_each_column() -> None:
    inputs, sizes = case(4, 32, 64, 5, None)
    with pytest.raises(ShapeError, match=r"bias must be bias\[5\], got bias\[1\]"):
        run_op("MatMulNBits", [*inputs, None, None, np.ones(1, np.float32)], sizes, domain=DOMAIN,
               opset=1)  # fmt: skip


def grouped(
    bits: int, block: int, k: int, zeros: str | None, order: str
) -> tuple[list[Any], dict[str, int]]:
    """A `case` whose columns, in any order, say which block's scale they have."""
    inputs, sizes = case(bits, block, k, 5, zeros)
    groups = np.arange(k, dtype=np.int32) // block
    if order == "shuffled":
        own = rng.permutation(groups)
    else:
        own = rng.integers(0, -(-k // block), k).astype(np.int32)
    return [*inputs, *[None] * (zeros is None), own], sizes


@pytest.mark.parametrize("zeros", [None, "floats"])
@pytest.mark.parametrize(("block", "k"), [(16, 48), (32, 80)])
@pytest.mark.parametrize("order", ["shuffled", "any"])
def test_columns_say_whose_scale_they_have(
    zeros: str | None, block: int, k: int, order: str
) -> None:
    agree("MatMulNBits", *grouped(4, block, k, zeros, order), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", [None, "bytes"])
def test_columns_of_any_bits_say_whose_scale_they_have(bits: int, zeros: str | None) -> None:
    # onnxruntime has columns of 4 bits only, and takes 8 for their zero points in bytes.
    inputs, sizes = grouped(bits, 32, 80, zeros, "any")
    x, packed, scales, points, own = inputs
    origins = np.full((5, 3), 2 ** (bits - 1)) if points is None else unpacked(points, bits)[:, :3]
    steps = unpacked(packed.reshape(5, -1), bits)[:, :80] - origins[:, own].astype(np.float32)
    expected = x @ (steps * scales[:, own]).T
    where: dict[str, Any] = {"domain": DOMAIN, "opset": 1}
    check_node("MatMulNBits", inputs, sizes, expected=[expected], rtol=1e-4, atol=1e-3, **where)
    check_lowering("MatMulNBits", inputs, sizes, **where)


def test_level_4_rounds_no_columns_that_say_their_block() -> None:
    inputs, sizes = grouped(4, 16, 48, None, "shuffled")
    agree("MatMulNBits", inputs, sizes | {"accuracy_level": 4}, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_blocks_that_columns_name_exist(wrong: int) -> None:
    inputs, sizes = grouped(4, 16, 48, None, "any")
    inputs[-1][7] = wrong
    where: dict[str, Any] = {"domain": DOMAIN, "opset": 1}
    message = f"g_idx must hold numbers of 3 blocks, 0 to 2, got {wrong}"
    with pytest.raises(Fail, match=message):
        run_op("MatMulNBits", inputs, sizes, **where)
    with pytest.raises(Fail, match=message):
        infer_op("MatMulNBits", [fact_of(x) for x in inputs], sizes, **where)


def test_what_lies_behind_the_columns_names_no_block() -> None:
    inputs, sizes = grouped(4, 32, 80, None, "any")
    inputs[-1] = np.append(inputs[-1], [99, -1]).astype(np.int32)
    check_lowering("MatMulNBits", inputs, sizes, domain=DOMAIN, opset=1)


def test_every_column_names_its_block() -> None:
    inputs, sizes = grouped(4, 16, 48, None, "any")
    where: dict[str, Any] = {"domain": DOMAIN, "opset": 1}
    with pytest.raises(ShapeError, match="g_idx must have 48 elements, or more, got 40"):
        run_op("MatMulNBits", [*inputs[:-1], inputs[-1][:40]], sizes, **where)
    with pytest.raises(ShapeError, match=r"g_idx must be g_idx\[\?\], got g_idx\[2, 24\]"):
        infer_op(
            "MatMulNBits",
            [*map(fact_of, inputs[:3]), None, fact_of(inputs[-1].reshape(2, 24))],
            sizes,
            **where,
        )


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_fields_of_bytes_are_reordered(bits: int) -> None:
    steps = rng.integers(0, 2**bits, (3, 24)).astype(np.uint8)
    order = rng.permutation(24)
    found = reordered(packed(steps, bits), order, bits)
    np.testing.assert_array_equal(unpacked(found, bits), steps[:, order])
