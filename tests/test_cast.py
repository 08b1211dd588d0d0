from __future__ import annotations

import math
from bisect import bisect_left
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fornix import dtype as types
from fornix.cast import convert
from fornix.dtype import DType
from fornix.errors import DTypeError, Fail, InvalidArgument

# Exponent bits, mantissa bits, bias, finite maximum; from the standard's float8, float4, float6.
FORMATS = {
    types.FLOAT16: (5, 10, 15, 65504),
    types.BFLOAT16: (8, 7, 127, None),
    types.FLOAT8E4M3FN: (4, 3, 7, 448),
    types.FLOAT8E4M3FNUZ: (4, 3, 8, 240),
    types.FLOAT8E5M2: (5, 2, 15, 57344),
    types.FLOAT8E5M2FNUZ: (5, 2, 16, 57344),
    types.FLOAT6E2M3: (2, 3, 1, 7.5),
    types.FLOAT6E3M2: (3, 2, 3, 28),
    types.FLOAT4E2M1: (2, 1, 1, 6),
}
FLOAT8 = [types.FLOAT8E4M3FN, types.FLOAT8E4M3FNUZ, types.FLOAT8E5M2, types.FLOAT8E5M2FNUZ]
SMALL = list(FORMATS)[2:]
WIDE = [types.FLOAT32, types.FLOAT64]
INTEGERS = [dtype for dtype in types.ALL if dtype.is_integer]
NUMERIC = [dtype for dtype in types.ALL if dtype.kind not in {"string", "complex"}]


def magnitudes(dtype: DType) -> list[Fraction]:
    """Every finite magnitude of ``dtype``, ascending; its index is its code."""
    exponent_bits, mantissa_bits, bias, largest = FORMATS[dtype]
    found = []
    for code in range(2 ** (exponent_bits + mantissa_bits)):
        exponent, mantissa = divmod(code, 2**mantissa_bits)
        fraction = Fraction(mantissa, 2**mantissa_bits) + (exponent > 0)
        value = fraction * Fraction(2) ** (max(exponent, 1) - bias)
        if largest is not None and value > largest:
            break
        found.append(value)
    return found if largest is not None else found[: 255 << mantissa_bits]


def codes(dtype: DType, count: int) -> np.ndarray:
    return np.arange(count).astype(f"u{dtype.numpy.itemsize}").view(dtype.numpy)


def every(dtype: DType) -> np.ndarray:
    """All elements of a type of at most 16 bits."""
    if dtype is types.BOOL:
        return np.array([False, True])
    return codes(dtype, 2**dtype.bits)


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal bit by bit, but any NaN equals any NaN."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    kind = DType.of(found.dtype)
    if not kind.is_float:
        return found.tobytes() == expected.tobytes()
    with np.errstate(invalid="ignore"):
        nans = np.isnan(found.astype(np.float64))
        assert (nans == np.isnan(expected.astype(np.float64))).all()
    return found[~nans].tobytes() == expected[~nans].tobytes()


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("wide", WIDE, ids=str)
def test_every_code_widens_to_the_number_it_stands_for(dtype: DType, wide: DType) -> None:
    expected = magnitudes(dtype)
    found = convert(codes(dtype, len(expected)), wide)
    assert found.dtype == wide.numpy
    assert [Fraction(float(x)) for x in found] == expected


@pytest.mark.parametrize("wide", WIDE, ids=str)
def test_float8e8m0_codes_are_powers_of_two(wide: DType) -> None:
    found = convert(every(types.FLOAT8E8M0), wide)
    assert found[:255].tolist() == [2.0 ** (code - 127) for code in range(255)]
    assert np.isnan(found[255])


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("sign", [1, -1])
def test_float64_rounds_once_and_ties_go_to_even(dtype: DType, sign: int) -> None:
    values = magnitudes(dtype)
    inputs: list[float] = []
    expected: list[int] = []
    for code, (low, high) in enumerate(pairwise(values)):
        tie = float((low + high) / 2)
        inputs += [math.nextafter(tie, 0), tie, math.nextafter(tie, math.inf)]
        expected += [code, code + code % 2, code + 1]
    found = convert(sign * np.array(inputs), dtype)
    if sign < 0 and dtype not in {types.FLOAT8E4M3FNUZ, types.FLOAT8E5M2FNUZ}:
        assert (np.signbit(found.astype(np.float32))).all()
    assert same(
        np.abs(found.astype(np.float32)).astype(dtype.numpy),
        codes(dtype, 65536 >> (16 - 8 * dtype.numpy.itemsize))[expected],
    )


@pytest.mark.parametrize("source", [types.INT64, types.UINT64, types.INT32], ids=str)
@pytest.mark.parametrize("target", [types.BFLOAT16, types.FLOAT16, *FLOAT8], ids=str)
def test_integers_round_once(source: DType, target: DType) -> None:
    rng = np.random.default_rng(7)
    limit = np.iinfo(source.numpy)
    values = [limit.min, limit.max, 0, 1, -1 if limit.min else 2]
    for bits in range(4, limit.bits - 1):
        ties = (2 ** int(rng.integers(1, 9)) * 2 + 1) << bits  # few significant bits
        values += [x for x in (ties - 1, ties, ties + 1) if x <= limit.max]
    array = np.array(values, source.numpy)
    found = convert(array, target).astype(np.float64)
    grid = magnitudes(target)
    for value, result in zip(values, found.tolist(), strict=True):
        expected = nearest_even(Fraction(abs(value)), grid)
        if expected is None:  # beyond the largest: float8 saturates
            assert abs(result) == (float(grid[-1]) if target in FLOAT8 else math.inf)
        else:
            assert Fraction(abs(result)) == expected
        assert result == 0 or (result < 0) == (value < 0)


def nearest_even(value: Fraction, grid: list[Fraction]) -> Fraction | None:
    """``value`` rounded to ``grid``, or None if it rounds beyond its end."""
    end = grid[-1] + (grid[-1] - grid[-2]) / 2
    if value >= end:
        return None
    high = min(bisect_left(grid, value), len(grid) - 1)
    low = max(high - 1, 0)
    distance = (value - grid[low]) - (grid[high] - value)
    even = low if low % 2 == 0 else high
    return grid[high if distance > 0 else low if distance < 0 else even]


def test_float64_to_float32_overflows_to_infinity() -> None:
    assert convert(np.array([1e39, -1e39, 3.4e38]), types.FLOAT32).tolist() == [
        np.inf,
        -np.inf,
        float(np.float32(3.4e38)),
    ]
    for dtype in (types.FLOAT16, types.BFLOAT16):
        assert np.isposinf(convert(np.array([3.4e38 * 10]), dtype).astype(np.float32)).all()


# The tables of Cast: x → E4M3FN, E4M3FNUZ, E5M2, E5M2FNUZ.
SATURATING = [
    (0.0, (0.0, 0.0, 0.0, 0.0)),
    (-0.0, (-0.0, 0.0, -0.0, 0.0)),
    (np.nan, (np.nan,) * 4),
    (np.inf, (448, 240, 57344, 57344)),
    (-np.inf, (-448, -240, -57344, -57344)),
    (1e6, (448, 240, 57344, 57344)),
    (-1e6, (-448, -240, -57344, -57344)),
    (1e300, (448, 240, 57344, 57344)),
]
NOT_SATURATING = [
    (0.0, (0.0, 0.0, 0.0, 0.0)),
    (-0.0, (-0.0, 0.0, -0.0, 0.0)),
    (np.nan, (np.nan,) * 4),
    (np.inf, (np.nan, np.nan, np.inf, np.nan)),
    (-np.inf, (np.nan, np.nan, -np.inf, np.nan)),
    (1e6, (np.nan, np.nan, np.inf, np.nan)),
    (-1e6, (np.nan, np.nan, -np.inf, np.nan)),
    (1e300, (np.nan, np.nan, np.inf, np.nan)),
]


@pytest.mark.parametrize("saturate", [True, False])
@pytest.mark.parametrize("source", WIDE, ids=str)
def test_float8_follows_the_tables_of_cast(saturate: bool, source: DType) -> None:
    for value, row in SATURATING if saturate else NOT_SATURATING:
        with np.errstate(over="ignore"):
            array = np.array([value]).astype(source.numpy)
        for dtype, expected in zip(FLOAT8, row, strict=True):
            found = convert(array, dtype, saturate=saturate).astype(np.float32)
            np.testing.assert_array_equal(found, np.float32(expected))
            assert np.isnan(expected) or np.signbit(found[0]) == np.signbit(expected)


@pytest.mark.parametrize("dtype", FLOAT8, ids=str)
def test_what_rounds_to_the_largest_float8_does_not_overflow(dtype: DType) -> None:
    grid = magnitudes(dtype)
    edge = float(grid[-1] + (grid[-1] - grid[-2]) / 2)
    below = np.array([math.nextafter(edge, 0)])
    assert convert(below, dtype, saturate=False).astype(np.float64) == grid[-1]
    above = convert(np.array([math.nextafter(edge, np.inf)]), dtype, saturate=False)
    assert not np.isfinite(above.astype(np.float32)).any()


@pytest.mark.parametrize("dtype", [types.FLOAT4E2M1, types.FLOAT6E2M3, types.FLOAT6E3M2], ids=str)
@pytest.mark.parametrize("saturate", [True, False])
def test_float4_and_float6_saturate_always(dtype: DType, saturate: bool) -> None:
    array = np.array([np.inf, -np.inf, 1e30, -1e30, np.nan])
    found = convert(array, dtype, saturate=saturate).astype(np.float64)
    largest = float(magnitudes(dtype)[-1])
    assert found.tolist() == [largest, -largest, largest, -largest, 0]
    assert np.signbit(found[4])


SCALES = [
    # x, saturate + up, not saturate + nearest; the table of Cast for special values
    (0.0, 2.0**-127, np.nan),
    (np.nan, np.nan, np.nan),
    (np.inf, 2.0**127, np.nan),
    (2.0**128, 2.0**127, np.nan),
    (2.0**-140, 2.0**-127, np.nan),
    (1.0, 1.0, 1.0),
    (1.25, 2.0, 1.0),
    (1.75, 2.0, 2.0),
    (-1.25, 2.0, 1.0),
    (2.0**-127, 2.0**-127, 2.0**-127),
    (1 + 2.0**-52, 2.0, 1.0),
]


def test_float8e8m0_follows_the_table_of_cast() -> None:
    array = np.array([row[0] for row in SCALES])
    up = convert(array, types.FLOAT8E8M0, saturate=True, round_mode="up")
    nearest = convert(array, types.FLOAT8E8M0, saturate=False, round_mode="nearest")
    np.testing.assert_array_equal(up.astype(np.float64), [row[1] for row in SCALES])
    np.testing.assert_array_equal(nearest.astype(np.float64), [row[2] for row in SCALES])


@pytest.mark.parametrize("round_mode", ["up", "down", "nearest"])
@pytest.mark.parametrize("saturate", [True, False])
def test_float8e8m0_agrees_with_the_reference_on_normal_numbers(
    round_mode: str, saturate: bool
) -> None:
    from onnx.numpy_helper import to_float8e8m0

    rng = np.random.default_rng(3)
    bits = rng.integers(0x00800000, 0x7F800000, 4096, dtype=np.uint32)
    bits[:512] &= 0x7FC00000  # powers of two and ties
    array = bits.view(np.float32)
    expected = to_float8e8m0(array, saturate, round_mode)
    assert same(
        convert(array, types.FLOAT8E8M0, saturate=saturate, round_mode=round_mode), expected
    )


def test_a_round_mode_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="must be up, down or nearest, found 'even'"):
        convert(np.ones(1), types.FLOAT8E8M0, round_mode="even")


@pytest.mark.parametrize("source", [*SMALL, types.FLOAT16, types.BFLOAT16], ids=str)
@pytest.mark.parametrize("target", NUMERIC, ids=str)
def test_small_floats_convert_as_the_reference_does(source: DType, target: DType) -> None:
    from onnx.reference.ops.op_cast import cast_to

    array = every(source)
    wide = array.astype(np.float32)
    if target.is_integer:
        info = np.iinfo(np.int32)
        inside = (wide > info.min) & (wide < info.max)
        if target in {types.UINT32, types.UINT64}:
            inside &= wide >= 0
        array = array[inside & np.isfinite(wide)]
    if target is types.FLOAT8E8M0:  # beyond the table of Cast the reference rounds otherwise
        array = array[np.isfinite(wide) & (wide >= 2.0**-126)]
    with np.errstate(all="ignore"):
        intermediate = array.astype(np.float32) if target.is_integer else array
        # A type converts to itself unchanged, even float8e5m2 with its infinities.
        expected = cast_to(intermediate, target.code, saturate=source is not target)
    assert same(convert(array, target), np.asarray(expected, target.numpy))


@pytest.mark.parametrize("source", INTEGERS, ids=str)
@pytest.mark.parametrize("target", INTEGERS, ids=str)
def test_integers_keep_their_low_bits(source: DType, target: DType) -> None:
    rng = np.random.default_rng(5)
    if source.bits <= 8:
        array = every(source)
    else:
        array = rng.integers(0, 256, 512 * source.numpy.itemsize).astype(np.uint8)
        array = array.view(source.numpy)
    numbers = [int(x) for x in array]
    found = [int(x) for x in convert(array, target)]
    half = 2 ** (target.bits - 1) if target.is_signed else 0
    assert found == [(x + half) % 2**target.bits - half for x in numbers]


@pytest.mark.parametrize("source", NUMERIC, ids=str)
def test_bool_is_whether_a_number_is_not_zero(source: DType) -> None:
    array = convert(np.array([0.0, -0.0, 1.0, 0.5, -1.0]), source)
    expected = [float(x) != 0 for x in array.astype(np.float64)]
    assert convert(array, types.BOOL).tolist() == expected


def test_nan_is_true() -> None:
    assert convert(np.array([np.nan, np.inf]), types.BOOL).tolist() == [True, True]


@pytest.mark.parametrize("target", NUMERIC, ids=str)
def test_bool_becomes_zero_and_one(target: DType) -> None:
    found = convert(np.array([False, True]), target)
    assert found.dtype == target.numpy
    zero = 2.0**-127 if target is types.FLOAT8E8M0 else 0.0
    assert found.astype(np.float64).tolist() == [zero, 1.0]


@pytest.mark.parametrize("source", [types.FLOAT16, types.FLOAT32, types.FLOAT64], ids=str)
@pytest.mark.parametrize("target", INTEGERS, ids=str)
def test_floats_are_cut_off_towards_zero(source: DType, target: DType) -> None:
    array = np.array([0.0, -0.0, 0.99, -0.99, 1.5, 1.0], source.numpy)
    found = convert(array, target)
    assert [int(x) for x in found] == [0, 0, 0, 0, 1, 1]
    if target.is_signed:
        assert int(convert(np.array([-1.99], source.numpy), target)[0]) == -1


@pytest.mark.parametrize(
    ("target", "expected"),
    [  # NaN, ∞, −∞, 3e9, −1.5, 300.5, 1e19, 1e20: what onnxruntime gives on x86-64
        (types.INT8, [0, 0, 0, 0, -1, 44, 0, 0]),
        (types.UINT8, [0, 0, 0, 0, 255, 44, 0, 0]),
        (types.INT16, [0, 0, 0, 0, -1, 300, 0, 0]),
        (types.UINT16, [0, 0, 0, 0, 65535, 300, 0, 0]),
        (types.INT32, [-(2**31)] * 4 + [-1, 300, -(2**31), -(2**31)]),
        (types.UINT32, [0, 0, 0, 3000000000, 2**32 - 1, 300, 0, 0]),
        (types.INT64, [-(2**63)] * 3 + [3000000000, -1, 300, -(2**63), -(2**63)]),
        (types.UINT64, [2**63, 0, 2**63, 3000000000, 2**64 - 1, 300, 10**19, 0]),
    ],
    ids=str,
)
def test_floats_outside_an_integer_type_convert_alike_everywhere(
    target: DType, expected: list[int]
) -> None:
    array = np.array([np.nan, np.inf, -np.inf, 3e9, -1.5, 300.5, 1e19, 1e20])
    assert convert(array, target).tolist() == expected


@pytest.mark.parametrize("target", [types.INT64, types.UINT64, types.INT32], ids=str)
def test_the_ends_of_an_integer_type_are_inside(target: DType) -> None:
    info = np.iinfo(target.numpy)
    top = np.nextafter(float(info.max) + (info.bits == 32), 0)
    array = np.array([float(info.min), top])
    assert convert(array, target).tolist() == [info.min, int(top)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3.14", 3.14),
        ("1000", 1000.0),
        ("1e-5", 1e-5),
        ("1E8", 1e8),
        (" 2.5 ", 2.5),
        ("+INF", np.inf),
        ("inf", np.inf),
        ("-Inf", -np.inf),
        ("NaN", np.nan),
        ("nan", np.nan),
        ("-.5", -0.5),
        ("7.", 7.0),
        ("1e400", np.inf),
        ("1e-400", 0.0),
        ("1e999999999999999999999", np.inf),
    ],
)
def test_strings_spell_numbers(text: str, expected: float) -> None:
    for dtype in WIDE:
        found = convert(np.array([text], object), dtype)
        np.testing.assert_array_equal(found, np.array([expected], dtype.numpy))


def test_decimal_strings_round_once() -> None:
    # 1 + 2**-24 is a tie of float32; the digit at the end lies beyond float64.
    tie = "1.000000059604644775390625"
    array = np.array([tie, tie + "0" * 20 + "1", "-" + tie + "0" * 20 + "1"], object)
    up = float(np.nextafter(np.float32(1), np.float32(2)))
    assert convert(array, types.FLOAT32).tolist() == [1.0, up, -up]


@pytest.mark.parametrize(
    ("text", "dtype", "expected"),
    [
        ("100.5", types.INT32, 100),
        ("-3", types.INT8, -3),
        ("-1", types.UINT8, 255),
        ("9999999999", types.INT32, 1410065407),
        ("9223372036854775807", types.INT64, 2**63 - 1),
        ("18446744073709551615", types.UINT64, 2**64 - 1),
        ("1e3", types.INT64, 1000),
        ("5", types.INT4, 5),
        ("1e999999999", types.INT64, -(2**63)),
    ],
)
def test_strings_spell_integers(text: str, dtype: DType, expected: int) -> None:
    assert int(convert(np.array([text], object), dtype)[0]) == expected


def test_strings_become_bool_by_their_number() -> None:
    array = np.array(["0", "1", "2", "-0.0"], object)
    assert convert(array, types.BOOL).tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    "text", ["Hello World!", "", "1_000", "0x10", "1.5abc", "\u0131nf", "\u0661"]
)
@pytest.mark.parametrize("target", [types.FLOAT32, types.INT64, types.BOOL], ids=str)
def test_a_string_that_is_no_number_is_refused(text: str, target: DType) -> None:
    with pytest.raises(Fail, match=f"a number is required to convert a string to {target}, found"):
        convert(np.array([text], object), target)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (np.float32(314.15926), "314.15927"),
        (np.float64(314.15926), "314.15926"),
        (np.float32(0.1), "0.1"),
        (np.float32(1), "1"),
        (np.float32(-0.0), "-0"),
        (np.float32(1e-5), "0.00001"),
        (np.float64(1e21), "1000000000000000000000"),
        (np.float16(0.1), "0.1"),
        (np.float32(np.nan), "NaN"),
        (np.float64(np.inf), "INF"),
        (np.float32(-np.inf), "-INF"),
        (np.int8(-3), "-3"),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (np.bool_(True), "1"),
        (np.bool_(False), "0"),
    ],
)
def test_numbers_are_written_plainly(number: np.generic, expected: str) -> None:
    found = convert(np.array([number]), types.STRING)
    assert found.dtype == object
    assert found.tolist() == [expected]


@given(st.floats(width=32))
def test_a_float32_survives_as_a_string(value: float) -> None:
    array = np.array([value], np.float32)
    assert same(convert(convert(array, types.STRING), types.FLOAT32), array)


def test_complex_numbers_convert_among_themselves_only() -> None:
    array = np.array([1 + 2j], np.complex64)
    assert convert(array, types.COMPLEX128).tolist() == [1 + 2j]
    assert convert(np.array([1.5], np.float32), types.COMPLEX64).tolist() == [1.5]
    with pytest.raises(DTypeError, match="complex64 converts to complex types only, found float32"):
        convert(array, types.FLOAT32)
    with pytest.raises(DTypeError, match="complex64 converts to complex types only, found string"):
        convert(array, types.STRING)
    with pytest.raises(DTypeError, match="strings convert to real types only, found complex64"):
        convert(np.array(["1"], object), types.COMPLEX64)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (2, 2)])
@pytest.mark.parametrize("target", types.ALL, ids=str)
def test_shapes_survive(shape: tuple[int, ...], target: DType) -> None:
    array = np.ones(shape, np.float64)
    found = convert(array, target)
    assert isinstance(found, np.ndarray)
    assert found.shape == shape
    assert found.dtype == target.numpy


def test_the_same_dtype_is_not_copied() -> None:
    array = np.ones(3, np.float32)
    assert convert(array, types.FLOAT32) is array


def test_foreign_byte_order_and_fixed_width_strings_are_understood() -> None:
    assert convert(np.array([1.5], ">f8"), types.FLOAT32).tolist() == [1.5]
    assert convert(np.array([2**62 + 1], ">i8"), types.INT64).dtype == np.int64
    assert convert(np.array(["1.5"]), types.FLOAT32).tolist() == [1.5]
    assert convert(np.array([b"1.5"]), types.FLOAT32).tolist() == [1.5]


@pytest.mark.slow
def test_the_standards_own_cases_hold() -> None:
    import warnings

    from onnx import numpy_helper
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators overflow on purpose
        cases = [x for x in collect_testcases("Cast") if x.name.startswith("test_cast_")]
    assert len(cases) > 50
    for case in cases:
        attributes = {x.name: x for x in case.model.graph.node[0].attribute}
        saturate = "saturate" not in attributes or bool(attributes["saturate"].i)
        mode = attributes["round_mode"].s.decode() if "round_mode" in attributes else "up"
        for inputs, outputs in case.data_sets:
            x, y = (
                value if isinstance(value, np.ndarray) else numpy_helper.to_array(value)
                for value in (inputs[0], outputs[0])
            )
            target = DType.of(attributes["to"].i)
            assert same(convert(x, target, saturate=saturate, round_mode=mode), y), case.name


def test_texts_between_two_numbers_are_rounded_once(rng: np.random.Generator) -> None:
    below = np.abs(rng.standard_normal(60) * 10.0 ** rng.integers(-40, 38, 60)).astype(np.float32)
    above = np.nextafter(below, np.float32(np.inf))
    with localcontext(prec=200):
        ties = [
            (Decimal(float(a)) + Decimal(float(b))) / 2 for a, b in zip(below, above, strict=True)
        ]
        step = Decimal(1).scaleb(-150)
        texts = [[f"{tie - step:f}", f"{tie:f}", f"{tie + step:f}"] for tie in ties]
    found = convert(np.array(texts, object), types.FLOAT32)
    even = np.where(below.view(np.uint32) % 2 == 0, below, above)
    np.testing.assert_array_equal(found, np.stack([below, even, above], 1))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_numbers_become_the_shortest_texts_without_exponents(
    kind: type[np.floating[Any]], rng: np.random.Generator
) -> None:
    count = 300 * np.dtype(kind).itemsize
    numbers = np.frombuffer(rng.bytes(count), kind)
    numbers = np.append(
        numbers[np.isfinite(numbers)], np.array([0, -0.0, 1e4, 0.1, 1e-5, 2.0**-9], kind)
    )
    texts = convert(numbers, types.STRING)
    assert [np.format_float_positional(n, trim="-") for n in numbers] == texts.tolist()


@pytest.mark.parametrize("text", ["1 2", "+-1", "1e", ".", "--1", "1\n2", "e5", "", " "])
@pytest.mark.parametrize("dtype", [types.FLOAT32, types.FLOAT64, types.INT64])
def test_digits_and_signs_alone_are_no_number(text: str, dtype: DType) -> None:
    with pytest.raises(Fail, match="a number is required"):
        convert(np.array(["1", text], object), dtype)


def test_truth_values_become_texts() -> None:
    array = np.array([[True, False], [False, False]])
    assert convert(array, types.STRING).tolist() == [["1", "0"], ["0", "0"]]
