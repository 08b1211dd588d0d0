from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.dtype import ALL, BOOL, FLOAT16, FLOAT32, INT8, INT64, DType
from fornix.errors import DTypeError, Fail
from fornix.ir.dim import symbol
from fornix.ops.fact import as_value, tensor, unranked
from tests.ops.harness import check_node, infer_op, peer, run_op

N = symbol("N")
VALUES = np.array([-2.5, -1, 0, 0.5, 3, 100], np.float32)
PEERS = [np.float16, np.float64, np.int8, np.int32, np.int64, np.uint8, np.bool_, np.float32]


@pytest.mark.parametrize("target", PEERS)
@pytest.mark.parametrize("source", PEERS)
def test_cast_agrees_with_the_peer(source: Any, target: Any) -> None:
    data = np.abs(VALUES).astype(source)
    attributes = {"to": DType.of(np.dtype(target)).code}
    check_node("Cast", [data], attributes, expected=peer("Cast", [data], attributes))


@pytest.mark.parametrize("dtype", [d for d in ALL if d.kind in {"float", "int", "uint", "bool"}])
def test_cast_to_any_real_type_and_back_keeps_zero_and_one(dtype: DType) -> None:
    data = (
        np.array([1, 2], np.float32) if dtype.name == "float8e8m0" else np.array([0, 1], np.float32)
    )
    [there] = run_op("Cast", [data], {"to": dtype.code})
    assert there.dtype == dtype.numpy
    check_node("Cast", [there], {"to": FLOAT32.code}, expected=[data])


def test_cast_1_names_the_type() -> None:
    check_node("Cast", [VALUES], {"to": "DOUBLE"}, opset=1, expected=[VALUES.astype(np.float64)])
    with pytest.raises(DTypeError, match="an element type of ONNX is required, found 'real'"):
        run_op("Cast", [VALUES], {"to": "REAL"}, opset=1)


def test_cast_saturates_float8_unless_told_otherwise() -> None:
    data = np.array([1e6], np.float32)
    e4m3 = ml_dtypes.float8_e4m3fn
    check_node("Cast", [data], {"to": 17}, expected=[np.array([448], e4m3)])
    [found] = run_op("Cast", [data], {"to": 17, "saturate": 0})
    assert np.isnan(found.astype(np.float32)).all()


def test_cast_rounds_scales_by_mode() -> None:
    data = np.array([3.0], np.float32)
    for mode, expected in (("up", 4.0), ("down", 2.0), ("nearest", 4.0)):
        [found] = run_op("Cast", [data], {"to": 24, "round_mode": mode})
        assert found.astype(np.float32).tolist() == [expected]


def test_cast_reads_and_writes_strings() -> None:
    words = np.array(["1.5", "-2"], object)
    check_node("Cast", [words], {"to": 1}, expected=[np.array([1.5, -2], np.float32)])
    check_node("Cast", [np.array([1, -2])], {"to": 8}, expected=[np.array(["1", "-2"], object)])
    with pytest.raises(Fail, match="a number is required to convert a string to float32"):
        run_op("Cast", [np.array(["one"], object)], {"to": 1})


def test_cast_carries_symbolic_contents_where_they_stay_exact() -> None:
    value = tensor(INT64, (2,), as_value([N, 3]))
    for target, is_kept in ((1, True), (11, True), (6, True), (10, False), (3, False)):
        [fact] = infer_op("Cast", [value], {"to": target})
        assert (fact.known_value is not None) is is_kept
    [truth] = infer_op("Cast", [tensor(INT64, (1,), as_value([N + 1]))], {"to": BOOL.code})
    assert truth.constant is not None
    assert truth.constant.tolist() == [True]
    assert infer_op("Cast", [value], {"to": BOOL.code})[0].value is None


def test_cast_computes_known_contents() -> None:
    [fact] = infer_op("Cast", [tensor(INT64, (2,), as_value([300, 3]))], {"to": INT8.code})
    assert fact.constant is not None
    assert fact.constant.tolist() == [44, 3]


def test_cast_of_unknown_rank_knows_the_type() -> None:
    assert infer_op("Cast", [unranked(FLOAT32)], {"to": 10})[0].dtype is FLOAT16


def test_cast_like_takes_the_type_of_another_tensor() -> None:
    like = np.zeros((), np.int8)
    check_node("CastLike", [VALUES, like], expected=[VALUES.astype(np.int8)])
    [fact] = infer_op("CastLike", [tensor(INT64, (N,)), tensor(None, ())])
    assert fact.dtype is None
    assert fact.shape == (N,)


@pytest.mark.parametrize(
    ("data", "target"),
    [
        (np.array([1.0, -0.0], np.float32), np.int32),
        (np.array([-1, 2], np.int64), np.float64),
        (np.array([255, 1], np.uint8), np.int8),
        (np.array([1, 2], np.float16), ml_dtypes.bfloat16),
    ],
)
def test_bit_cast_keeps_the_bits(data: Any, target: Any) -> None:
    attributes = {"to": DType.of(np.dtype(target)).code}
    check_node("BitCast", [data], attributes, expected=[data.view(target)])


def test_bit_cast_of_packed_types() -> None:
    data = np.array([-1, 7, -8], ml_dtypes.int4)
    expected = np.array([15, 7, 8], ml_dtypes.uint4)
    check_node("BitCast", [data], {"to": DType.of("uint4").code}, expected=[expected])


def test_bit_cast_refuses_another_width() -> None:
    message = "both types must have one width, found float32 with 32 bits and int64 with 64"
    with pytest.raises(DTypeError, match=message):
        run_op("BitCast", [VALUES], {"to": INT64.code})
    with pytest.raises(DTypeError, match=message):
        infer_op("BitCast", [tensor(FLOAT32, (2,))], {"to": INT64.code})
