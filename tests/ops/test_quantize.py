from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest

import fornix
from fornix import ops
from fornix.dtype import (
    BFLOAT16,
    FLOAT4E2M1,
    FLOAT6E2M3,
    FLOAT6E3M2,
    FLOAT8E4M3FN,
    FLOAT8E4M3FNUZ,
    FLOAT8E5M2,
    FLOAT8E5M2FNUZ,
    FLOAT8E8M0,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT2,
    INT4,
    INT8,
    INT16,
    INT32,
    UINT2,
    UINT4,
    UINT8,
    UINT16,
    DType,
)
from fornix.errors import DTypeError, ShapeError
from fornix.ir.dim import symbol
from fornix.ir.loops import Buffer, bitcast, cast, load
from fornix.ops.call import NotLowered
from fornix.ops.fact import tensor, unranked
from fornix.ops.quantize_loops import ROUNDING, lower_quantized, rounded
from tests.ops.harness import check_lowering, check_node, infer_op, lower_op, peer, run_op

INTEGERS = (INT8, UINT8, INT16, UINT16, INT4, UINT4, INT2, UINT2)
FLOAT8 = (FLOAT8E4M3FN, FLOAT8E4M3FNUZ, FLOAT8E5M2, FLOAT8E5M2FNUZ)
NARROW = (FLOAT4E2M1, FLOAT6E2M3, FLOAT6E3M2)
OF_PEER = (INT8, UINT8, INT16, UINT16)


def data(*shape: int, seed: int = 0) -> Any:
    return (np.random.default_rng(seed).standard_normal(shape) * 40).astype(np.float32)


def array(value: Any, dtype: DType = FLOAT32) -> Any:
    return np.array(value, np.float32).astype(dtype.numpy)


@pytest.mark.parametrize("target", OF_PEER)
@pytest.mark.parametrize("source", [np.float32, np.float16])
def test_quantize_linear_is_onnxruntimes(target: DType, source: Any) -> None:
    x = data(2, 3, 40).astype(source)
    cases: list[tuple[Any, Any, dict[str, Any]]] = [
        (np.array(0.37, source), array(3, target), {}),
        (np.array([0.5, 0.25, 2], source), array([1, 2, 3], target), {}),
        (np.array([0.5, 4], source), array([1, 0], target), {"axis": -3}),
        (
            np.abs(data(2, 3, 10)).astype(source) + source(0.1),
            array(np.arange(60).reshape(2, 3, 10), target),
            {"axis": 2, "block_size": 4},
        ),
    ]
    for scale, zero, attributes in cases:
        wanted = peer("QuantizeLinear", [x, scale, zero], attributes, opset=21)
        check_node("QuantizeLinear", [x, scale, zero], attributes, expected=wanted, opset=21)


@pytest.mark.parametrize("target", OF_PEER)
@pytest.mark.parametrize("scale_type", [np.float32, np.float16])
def test_dequantize_linear_is_onnxruntimes(target: DType, scale_type: Any) -> None:
    low, high = (-128, 128) if target.is_signed else (0, 256)
    x = np.random.default_rng(0).integers(low, high, (2, 3, 10)).astype(target.numpy)
    cases: list[tuple[Any, Any, dict[str, Any]]] = [
        (np.array(0.37, scale_type), array(3, target), {}),
        (np.array(0.37, scale_type), None, {}),
        (np.array([0.5, 0.3, 2], scale_type), array([1, 2, 3], target), {}),
        (
            np.abs(data(2, 3, 4)).astype(scale_type),
            array(np.arange(24).reshape(2, 3, 4), target),
            {"axis": 2, "block_size": 3},
        ),
    ]
    for scale, zero, attributes in cases:
        wanted = peer("DequantizeLinear", [x, scale, zero], attributes, opset=21)
        check_node("DequantizeLinear", [x, scale, zero], attributes, expected=wanted, opset=21)


@pytest.mark.parametrize("target", [*INTEGERS, *FLOAT8, *NARROW])
def test_dequantizing_what_was_quantized_is_off_by_half_a_step(target: DType) -> None:
    x: Any = np.linspace(-1, 1, 41, dtype=np.float32)
    scale, zero = np.array(0.5, np.float32), 0
    if target.is_integer and not target.is_signed:
        x, zero = x / np.float32(2), 1
    elif target is INT2:
        x = np.minimum(x, np.float32(0.5))
    [y] = run_op("QuantizeLinear", [x, scale, array(zero, target)])
    assert y.dtype == target.numpy
    [back] = run_op("DequantizeLinear", [y, scale, array(zero, target)])
    assert back.dtype == np.float32
    least = {"float8e5m2": 0.125, "float8e5m2fnuz": 0.125}.get(target.name, 0.25)
    assert np.abs(back - x).max() <= least


@pytest.mark.parametrize("target", INTEGERS)
def test_quotients_are_rounded_to_even_and_saturate(target: DType) -> None:
    info = target
    low = -(2 ** (info.bits - 1)) if info.is_signed else 0
    high = low + 2**info.bits - 1
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 1e9, -1e9, np.inf, -np.inf, np.nan], np.float32)
    one = np.array(1, np.float32)
    for zero in (0, 1):
        even = [0 + zero, 2 + zero, 2 + zero, 0 + zero, -2 + zero]
        expected = [*(min(max(v, low), high) for v in even), high, low, high, low, low]
        [y] = run_op("QuantizeLinear", [x, one, array(zero, target)])
        assert y.astype(np.int32).tolist() == expected


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("target", "largest", "beyond", "rounded"),
    [
        (FLOAT8E4M3FN, 448, NAN, 1.625),
        (FLOAT8E4M3FNUZ, 240, NAN, 1.625),
        (FLOAT8E5M2, 57344, INF, 1.75),
        (FLOAT8E5M2FNUZ, 57344, NAN, 1.75),
    ],
)
def test_float8_saturates_on_request(
    target: DType, largest: float, beyond: float, rounded: float
) -> None:
    x, scale = np.array([1e9, -1e9, 3.3, NAN], np.float32), np.array(2, np.float32)
    for saturate, limit in ((1, largest), (0, beyond)):
        expected = np.array([limit, -limit, rounded, NAN], np.float32).astype(target.numpy)
        check_node(
            "QuantizeLinear",
            [x, scale, array(0, target)],
            {"saturate": saturate},
            expected=[expected],
            opset=19,
            rtol=1e-12,  # compares in float64: NumPy does not know the NaN of every float8
        )


def test_the_type_of_the_scale_sets_the_precision_since_23() -> None:
    stream = np.random.default_rng(0)
    x = (stream.standard_normal(2000) * 8).astype(np.float16)
    scale = np.array(0.033, np.float16)
    zero = np.array(0, np.int16)
    exact = [Fraction(float(v)) / Fraction(float(scale)) for v in x]
    for opset, precision, dtype in [
        (21, {}, np.float32),
        (23, {}, np.float16),
        (23, {"precision": FLOAT32.code}, np.float32),
        (23, {"precision": BFLOAT16.code}, BFLOAT16.numpy),
    ]:
        if dtype is BFLOAT16.numpy:
            narrow = [Fraction(float(v)) for v in x.astype(dtype)]
            divisor = Fraction(float(scale.astype(dtype)))
            exact = [v / divisor for v in narrow]
        quotient = np.array([nearest(v, dtype) for v in exact])
        expected = np.rint(quotient).astype(np.int16)
        [found] = run_op("QuantizeLinear", [x, scale, zero], precision, opset=opset)
        assert np.array_equal(found, expected), (opset, dtype)


def nearest(value: Fraction, dtype: Any) -> float:
    """The number of ``dtype`` next to ``value``, of two the even one; computed exactly."""
    bits = {np.float16: 11, np.float32: 24}.get(dtype, 8)
    if value == 0:
        return 0.0
    exponent = 0
    size = abs(value)
    while size >= 2:
        size, exponent = size / 2, exponent + 1
    while size < 1:
        size, exponent = size * 2, exponent - 1
    step = Fraction(2) ** (exponent - bits + 1)
    return float(round(value / step) * step)


def test_scales_of_other_types_leave_the_precision_to_x() -> None:
    x = data(64)
    for scale in (array(4, FLOAT8E8M0), np.array(4, np.int32)):
        wanted = run_op("QuantizeLinear", [x, array(4), np.array(0, np.int8)])
        check_node("QuantizeLinear", [x, scale, np.array(0, np.int8)], expected=wanted)
    whole = np.array([7, -9, 100], np.int32)
    expected = np.array([4, -4, 50], np.int8)
    check_node("QuantizeLinear", [whole, array(2), np.array(0, np.int8)], expected=[expected])


@pytest.mark.parametrize("target", [*INTEGERS, *FLOAT8, *NARROW])
def test_output_dtype_does_without_a_zero_point(target: DType) -> None:
    x, scale = data(6), array(20)
    wanted = run_op("QuantizeLinear", [x, scale, array(0, target)])
    check_node("QuantizeLinear", [x, scale], {"output_dtype": target.code}, expected=wanted)
    [y] = run_op("QuantizeLinear", [x, scale])
    assert y.dtype == np.uint8


@pytest.mark.parametrize("target", [FLOAT32, FLOAT16, BFLOAT16])
def test_dequantize_linear_gives_the_type_that_is_asked_for(target: DType) -> None:
    x = np.array([-3, 0, 100], np.int8)
    for scale in (array(0.5), array(0.5, BFLOAT16), array(0.5, FLOAT8E8M0)):
        attributes = {"output_dtype": target.code}
        expected = array([-1.5, 0, 50], target)
        check_node("DequantizeLinear", [x, scale], attributes, expected=[expected])


def test_dequantize_linear_subtracts_32_bits_exactly() -> None:
    x, zero = np.array([2**31 - 1, -(2**31)], np.int32), np.array(2**31 - 2, np.int32)
    expected = np.array([1, -(2.0**32) + 2], np.float32)
    check_node("DequantizeLinear", [x, array(1), zero], expected=[expected])


@pytest.mark.parametrize("name", ["QuantizeLinear", "DequantizeLinear"])
@pytest.mark.parametrize(
    ("shape", "scale", "attributes", "message"),
    [
        ((2, 3), (4,), {}, r"one per index of axis 1 of \[2, 3\], got ._scale\[4\]"),
        ((2, 3), (2, 3), {}, r"one per index of axis 1 of \[2, 3\], got ._scale\[2, 3\]"),
        ((2, 3), (2,), {"axis": 2}, r"axis must be in \[-2, 1\] for rank 2, got 2"),
        ((2, 5), (2, 2), {"block_size": 2}, r"must have shape \[2, 3\], one number per block of 2"),
        ((2, 5), (3,), {"block_size": 2}, r"along axis 1 of \[2, 5\], got ._scale\[3\]"),
        ((2, 5), (), {"block_size": -1}, "block_size must not be negative, got -1"),
    ],
)
def test_scales_must_fit(
    name: str, shape: Any, scale: Any, attributes: dict[str, Any], message: str
) -> None:
    source = np.float32 if name == "QuantizeLinear" else np.int8
    inputs = [np.zeros(shape, source), np.ones(scale, np.float32)]
    with pytest.raises(ShapeError, match=message):
        run_op(name, inputs, attributes)
    with pytest.raises(ShapeError, match=message):
        infer_op(name, [tensor(DType.of(x.dtype), x.shape) for x in inputs], attributes)


def test_scales_are_single_numbers_before_opset_13() -> None:
    inputs = [data(2, 3), np.ones(3, np.float32)]
    with pytest.raises(ShapeError, match=r"y_scale must be one number, got y_scale\[3\]"):
        run_op("QuantizeLinear", inputs, opset=10)
    check_node("QuantizeLinear", [inputs[0], array(1)], opset=10, expected=peer(
        "QuantizeLinear", [inputs[0], array(1)], opset=10))  # fmt: skip


def test_zero_points_must_fit() -> None:
    x, scale, zero = data(2, 3), np.ones(3, np.float32), np.zeros(2, np.int8)
    message = r"y_zero_point must have the shape of y_scale, \[3\], got \[2\]"
    with pytest.raises(ShapeError, match=message):
        run_op("QuantizeLinear", [x, scale, zero])
    message = r"x_zero_point must have the shape of x_scale, \[3\], got \[2\]"
    with pytest.raises(ShapeError, match=message):
        run_op("DequantizeLinear", [x.astype(np.int8), scale, zero])


def test_types_must_fit() -> None:
    x, scale = data(3), array(1)
    with pytest.raises(DTypeError, match=r"must be the type of y_zero_point \(int8\), got uint8"):
        run_op("QuantizeLinear", [x, scale, np.array(0, np.int8)], {"output_dtype": UINT8.code})
    with pytest.raises(DTypeError, match=r"output_dtype must be one of tensor\(.*, got float32"):
        run_op("QuantizeLinear", [x, scale], {"output_dtype": FLOAT32.code})
    with pytest.raises(DTypeError, match="precision must be a float type of 16 bits or more, got"):
        run_op("QuantizeLinear", [x, scale], {"precision": INT32.code})
    with pytest.raises(DTypeError, match="got float64"):
        run_op("DequantizeLinear", [x.astype(np.int8), scale], {"output_dtype": FLOAT64.code})
    with pytest.raises(DTypeError, match="got float8e8m0, the type of x_scale"):
        run_op("DequantizeLinear", [x.astype(np.int8), array(1, FLOAT8E8M0)])


def test_quantize_infers_dtype_and_shape() -> None:
    n = symbol("N")
    x, scale = tensor(FLOAT32, (n, 3)), tensor(FLOAT32, ())
    [y] = infer_op("QuantizeLinear", [x, scale, tensor(INT4, ())])
    assert (y.dtype, y.shape) == (INT4, (n, 3))
    [y] = infer_op("QuantizeLinear", [unranked(FLOAT32), scale])
    assert y.dtype is UINT8
    assert not y.has_rank
    [y] = infer_op("DequantizeLinear", [tensor(INT8, (n,)), tensor(FLOAT16, ())])
    assert (y.dtype, y.shape) == (FLOAT16, (n,))
    blocks = tensor(FLOAT32, (n, symbol("B")))
    infer_op("QuantizeLinear", [tensor(FLOAT32, (n, symbol("K"))), blocks], {"block_size": 32})


@pytest.mark.parametrize(
    "x",
    [
        data(50), data(3, 4) + 200, -np.abs(data(9)) - 1, np.zeros(4, np.float32),
        np.zeros(0, np.float32), np.array(2.5, np.float32),
    ],
)  # fmt: skip
def test_dynamic_quantize_linear_is_onnxruntimes(x: Any) -> None:
    wanted = peer("DynamicQuantizeLinear", [x], outputs=3)
    check_node("DynamicQuantizeLinear", [x], expected=wanted)


def test_the_body_of_dynamic_quantize_linear_is_its_kernel() -> None:
    operator = ops.find("", "DynamicQuantizeLinear")
    assert operator is not None
    body = operator.rule("body", 11)
    assert body is not None
    function = onnx.parser.parse_function(body())
    function.domain = "here"
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 13, "here" : 1]>
        main (float[K] x) => (uint8[K] y, float scale, uint8 zero) {
            y, scale, zero = here.DynamicQuantizeLinear (x)
        }
    """)
    model.functions.append(function)
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model)
    for seed, shift in itertools.product(range(3), (-100, 0, 100)):
        x = data(30, seed=seed) + np.float32(shift)
        found = evaluator.run(None, {"x": x})
        for one, other in zip(found, run_op("DynamicQuantizeLinear", [x], outputs=3), strict=True):
            assert np.array_equal(np.asarray(one), other)


@pytest.mark.parametrize("target", [*INTEGERS, *FLOAT8])
@pytest.mark.parametrize("source", [np.float32, np.float16])
def test_quantization_is_lowered(target: DType, source: Any) -> None:
    x = np.append(data(2, 3, 9).astype(source), source([np.nan, np.inf, -np.inf])).reshape(3, 19)
    for scale, zero, attributes in (
        (source(0.37), 1, {}),
        (source([0.5, 0.25, 2]), [0, 1, 0], {"axis": -2}),
        (np.full((3, 5), 0.5, source), np.ones((3, 5)), {"axis": 1, "block_size": 4}),
    ):
        inputs = [x, np.asarray(scale), array(zero, target)]
        check_lowering(
            "QuantizeLinear", inputs, attributes, symbolic="block_size" not in attributes
        )
    check_lowering("QuantizeLinear", [x, np.asarray(source(3))], {"output_dtype": target.code})


@pytest.mark.parametrize("stored", [*INTEGERS, *FLOAT8, INT32])
@pytest.mark.parametrize("scale", [FLOAT32, FLOAT16, BFLOAT16])
def test_dequantization_is_lowered(stored: DType, scale: DType) -> None:
    x = array(np.arange(30).reshape(3, 10) % 2 - (1 if stored.is_signed else 0), stored)
    for factor, zero, attributes in (
        (0.37, 1, {}),
        ([0.5, 0.25, 2], [0, 1, 0], {"axis": 0}),
        (np.full((3, 3), 0.5), np.ones((3, 3)), {"axis": 1, "block_size": 4}),
    ):
        inputs = [x, array(factor, scale), array(zero, stored)]
        check_lowering(
            "DequantizeLinear", inputs, attributes, symbolic="block_size" not in attributes
        )
    check_lowering("DequantizeLinear", [x, array(0.37, scale)], {"output_dtype": FLOAT16.code})


@pytest.mark.parametrize(
    "x",
    [
        data(3, 5),
        data(3, 0),
        data(4) ** 2,
        np.zeros(3, np.float32),
        data(2, 300) ** 2,
        -(data(2, 2, 16, 17) ** 2),
        np.resize(data(97), 4096),
    ],
)
def test_dynamic_quantization_is_lowered(x: Any) -> None:
    check_lowering("DynamicQuantizeLinear", [x], outputs=3, rtol=0, atol=0)


def test_what_was_just_rounded_is_dequantized_without_becoming_an_integer() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]> main (float[N] x) =>
        (float[N] a, float[N] b, float[N] c, float[N] d, float[N] e)
        <float s = {0.5}, uint8 z = {113}, uint8 other = {7}, int8 signed = {-3}, int4 few = {2}> {
            qa = QuantizeLinear (x, s)
            a = DequantizeLinear (qa, s)
            qb = QuantizeLinear (x, s, z)
            b = DequantizeLinear (qb, s, z)
            qc = QuantizeLinear (x, s, z)
            c = DequantizeLinear (qc, s, other)
            qd = QuantizeLinear (x, s, signed)
            d = DequantizeLinear (qd, s, signed)
            qe = QuantizeLinear (x, s, few)
            e = DequantizeLinear (qe, s, few)
        }"""
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 0.25, 0.75, -1.25, 1e9, -1e30], np.float32)
    feeds = {"x": np.append(data(61), special)}
    model = onnx.parser.parse_model(text)
    options = fornix.SessionOptions(graph_optimization_level="basic")
    found = fornix.InferenceSession(model, options).run(None, feeds)
    for one, want in zip(found, fornix.ReferenceEvaluator(model).run(None, feeds), strict=True):
        assert one.tobytes() == want.tobytes()


def test_only_what_was_rounded_within_bounds_by_the_same_zero_is_taken_as_it_is() -> None:
    x, zero, other = (load(Buffer("x", (3,), FLOAT32), k) for k in range(3))
    steps = lower_quantized(x, zero, UINT8)
    assert rounded(steps, zero) is not None
    assert rounded(steps, other) is None
    assert rounded(steps, None) is None
    assert rounded(cast(bitcast(x + ROUNDING, INT32), UINT8), None) is None


def test_floats_that_do_not_saturate_stay_with_the_kernel() -> None:
    with pytest.raises(NotLowered, match="loops saturate floats"):
        lower_op(
            "QuantizeLinear",
            [data(3), array(1.0), array(0, FLOAT8E5M2)],
            {"saturate": 0},
        )
