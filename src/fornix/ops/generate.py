"""Tensors out of nothing: Constant, ConstantOfShape, EyeLike, Range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fornix.dtype import FLOAT32, INT64, STRING, DType
from fornix.errors import DTypeError, Fail, SchemaError, require
from fornix.ir.dim import DimLike, ceildiv, is_nonnegative, maximum
from fornix.ir.loops import Tensor, apply, cast, compute, const, index
from fornix.ir.loops import constant as loop_constant
from fornix.ir.tensor import ArrayTensor, SparseTensor
from fornix.ir.types import TensorType
from fornix.ops.call import BodyNode, InferNode, LowerNode
from fornix.ops.fact import (
    ADDRESSES,
    EXACT_FLOATS,
    KNOWN_ELEMENTS,
    Array,
    Fact,
    axes_listed,
    dims_of,
    static,
    tensor,
    unranked,
)
from fornix.ops.geometry import listed, shape_text, single
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, wide_dtype
from fornix.ops.types import (
    BF16,
    BOOL,
    E8M0,
    F4,
    F8,
    F16,
    F32,
    F64,
    FLOAT,
    I2,
    I4,
    I16,
    I32,
    I64,
    NUMERIC,
    TENSOR,
)

Constant = (
    op("Constant <value: tensor> () => (output: T)", since=1, T=FLOAT)
    .since(9, T=+(TENSOR - FLOAT))
    .since(11, "Constant <sparse_value: sparse_tensor?, value: tensor?> () => (output: T)")
    .since(12, """Constant <sparse_value: sparse_tensor?, value: tensor?, value_float: float?,
                      value_floats: floats?, value_int: int?, value_ints: ints?,
                      value_string: string?, value_strings: strings?> () => (output: T)""")
    .since(13, T=+BF16)
    .since(19, T=+F8)
    .since(21, T=+I4)
    .since(23, T=+F4)
    .since(24, T=+E8M0)
    .since(25, T=+I2)
)  # fmt: skip

VALUE_DTYPES = {
    "value_float": FLOAT32,
    "value_floats": FLOAT32,
    "value_int": INT64,
    "value_ints": INT64,
    "value_string": STRING,
    "value_strings": STRING,
}
"""Element type that each attribute of Constant without one of its own stands for."""


@Constant.infer
def infer_constant(**values: Any) -> Fact:
    _check_one(values)
    sparse = values.get("sparse_value")
    if sparse is not None:
        return tensor(sparse.dtype, sparse.shape)
    result = constant(**values)
    return Fact(TensorType(DType.of(result.dtype), result.shape), None, ArrayTensor(result))


@Constant.kernel
def constant(**values: Any) -> Array:
    """The tensor that the one attribute holds.

    ``value`` is a tensor and ``sparse_value`` one that is made dense; numbers are float32 or int64,
    the plural attributes one-dimensional. Source: ONNX Constant-12.
    """
    _check_one(values)
    ((name, value),) = values.items()
    if isinstance(value, SparseTensor):
        return value.numpy()
    if isinstance(value, np.ndarray):
        return value
    result = np.empty(len(value) if isinstance(value, list) else (), VALUE_DTYPES[name].numpy)
    result[...] = value
    return result


@Constant.lower
def lower_constant(**values: Any) -> Tensor:
    return loop_constant(constant(**values))


def _check_one(values: dict[str, Any]) -> None:
    require(
        len(values) == 1,
        f"exactly one attribute must hold the value, found {', '.join(values) or 'none'}",
        SchemaError,
    )


ConstantOfShape = (
    op("ConstantOfShape <value: tensor?> (input: T1) => (output: T2)",
       since=9, T1=I64, T2=NUMERIC | BOOL)
    .since(20, T2=+(F8 | BF16))
    .since(21, T2=+I4)
    .since(23, T2=+F4)
    .since(24, T2=+E8M0)
    .since(25, T2=+I2)
)  # fmt: skip


@ConstantOfShape.infer
def infer_constant_of_shape(input: Fact, *, value: Array | None = None, node: InferNode) -> Fact:
    require(input.dtype in {None, INT64}, f"input must be int64, found {input.dtype}", DTypeError)
    filler = _filler(value)
    dtype = DType.of(filler.dtype)
    extents = dims_of(input.value)
    if extents is None:
        rank = axes_listed(input)
        if rank is None:
            return unranked(dtype)
        reason = "its shape is computed at run time"
        return tensor(dtype, [node.unknown(reason) for _ in range(rank)])
    _check_extents(extents)
    fixed = static(extents)
    if fixed is None or math.prod(fixed) > KNOWN_ELEMENTS:
        return tensor(dtype, extents)
    result = np.full(fixed, filler, filler.dtype)
    return Fact(TensorType(dtype, fixed), None, ArrayTensor(result))


@ConstantOfShape.kernel
def constant_of_shape(input: Array, *, value: Array | None = None) -> Array:
    """A tensor of shape ``input`` filled with the one element of ``value``, or with float32 0.

    input[rank] → output[*input]; of an empty input a scalar. Source: ONNX ConstantOfShape-9.
    """
    filler = _filler(value)
    extents = listed(input, "input")
    _check_extents(extents)
    return np.full(extents, filler, filler.dtype)


@ConstantOfShape.lower
def lower_constant_of_shape(
    input: Tensor, *, value: Array | None = None, node: LowerNode
) -> Tensor:
    filler = loop_constant(_filler(value))
    return compute(node.shape(), lambda *_: filler[()])


def _filler(value: Array | None) -> Array:
    if value is None:
        return np.zeros((), np.float32)
    require(value.size == 1, f"value must have one element, found shape {shape_text(value.shape)}")
    return value.reshape(())


def _check_extents(extents: Sequence[DimLike]) -> None:
    require(
        all(is_nonnegative(extent) is not False for extent in extents),
        f"entries of input must be 0 or more, got {shape_text(extents)}",
    )


EyeLike = (
    op("EyeLike <dtype: int?, k: int = 0> (input: T1) => (output: T2)",
       since=9, T1=NUMERIC | BOOL, T2=NUMERIC | BOOL)
    .since(22, T1=+BF16, T2=+BF16)
)  # fmt: skip


@EyeLike.infer
def infer_eye_like(input: Fact, *, dtype: int | None = None, k: int) -> Fact:
    result = input.dtype if dtype is None else DType.of(dtype)
    if not input.has_rank:
        return tensor(result, [None, None])
    _check_matrix(input.shape)
    return tensor(result, input.shape)


@EyeLike.kernel
def eye_like(input: Array, *, dtype: int | None = None, k: int) -> Array:
    """Ones on diagonal ``k``, zeros elsewhere, in the shape of the matrix ``input``.

    input[N, M] → output[N, M]. Diagonals count to the right from the main one. Source: ONNX
    EyeLike-9.
    """
    _check_matrix(input.shape)
    result = input.dtype if dtype is None else DType.of(dtype).numpy
    rows, columns = input.shape
    return np.eye(rows, columns, min(max(k, -rows), columns)).astype(result)


@EyeLike.lower
def lower_eye_like(input: Tensor, *, dtype: int | None = None, k: int) -> Tensor:
    _check_matrix(input.shape)
    result = input.dtype if dtype is None else DType.of(dtype)
    return compute(
        input.shape, lambda i, j: cast(apply("eq", index(j), index(i) + const(k, INT64)), result)
    )


def _check_matrix(shape: Sequence[DimLike]) -> None:
    require(len(shape) == 2, f"input must be [N, M], found {shape_text(shape)}")


Range = (
    op("Range (start: T, limit: T, delta: T) => (output: T)",
       since=11, T=F32 | F64 | I16 | I32 | I64)
    .since(27, "Range <stash_type: int = 1> (start: T, limit: T, delta: T) => (output: T)",
           T=+(BF16 | F16))
)  # fmt: skip


@Range.infer
def infer_range(
    start: Fact, limit: Fact, delta: Fact, *, stash_type: int = 1, node: InferNode
) -> Fact:
    first, end, step = start.constant, limit.constant, delta.constant
    if first is not None and end is not None and step is not None:
        count = _steps(first, end, step)
        if count > KNOWN_ELEMENTS:
            return tensor(start.dtype, (count,))
        result = range_(first, end, step, stash_type=stash_type)
        return Fact(TensorType(start.dtype, result.shape), None, ArrayTensor(result))
    count_dim = _symbolic_steps(start, limit.value, delta.value)
    if count_dim is None:
        count_dim = node.unknown("its number of steps is computed at run time")
    return tensor(start.dtype, (count_dim,))


def _symbolic_steps(start: Fact, limit: Array | None, delta: Array | None) -> DimLike | None:
    """Number of elements of a range with symbolic ends; None where it cannot be told."""
    if limit is None or delta is None:
        return None
    end, step = single(limit, "limit"), single(delta, "delta")
    if not isinstance(step, int) or step == 0:
        return None
    first = _whole_start(start, step)
    if first is None:
        return None
    span = end - first if step > 0 else first - end
    return maximum(ceildiv(span, abs(step)), 0)


def _whole_start(start: Fact, step: int) -> DimLike | None:
    """The integer from which ``step`` reaches an integer as often as from ``start``.

    ⌈(limit − 0.5) / step⌉ = ⌈limit / step⌉: pixels are counted from their middle.
    """
    if start.value is not None:
        found: DimLike = single(start.value, "start")
        return found
    if start.constant is None or not np.all(np.abs(start.constant) < EXACT_FLOATS):
        return None
    number = float(single(start.constant, "start"))
    return math.floor(number) if step > 0 else math.ceil(number)


@Range.kernel
def range_(start: Array, limit: Array, delta: Array, *, stash_type: int = 1) -> Array:
    """start, start + delta, start + 2 · delta, … up to, not including, ``limit``.

    There are max(⌈(limit − start) / delta⌉, 0) elements. float16 and bfloat16 are computed in
    float32 if stash_type is 1. Raises Fail if ``delta`` is 0. Source: ONNX Range-27.
    """
    count = _steps(start, limit, delta)
    first, step = single(start, "start"), single(delta, "delta")
    dtype = DType.of(start.dtype)
    if dtype.is_float and dtype.bits < FLOAT32.bits and stash_type == FLOAT32.code:
        first, step = np.float32(first), np.float32(step)
    # beyond 2^63 - 513 numbers, NumPy would count none
    values = np.arange(min(count, ADDRESSES)).astype(step.dtype, copy=False)
    values *= step
    values += first
    return values.astype(start.dtype, copy=False)


@Range.lower
def lower_range(
    start: Tensor, limit: Tensor, delta: Tensor, *, stash_type: int = 1, node: LowerNode
) -> Tensor:
    wide = wide_dtype(start.dtype)
    if wide is not start.dtype and stash_type != FLOAT32.code:
        node.decline("loops do not compute in narrow floats")
    first, step = (cast(x[(0,) * x.rank], wide) for x in (start, delta))
    values = compute(node.shape(), lambda i: first + cast(index(i), wide) * step)
    return cast_tensor(values, start.dtype)


@Range.body(since=11)
def range_body(*, node: BodyNode) -> str:
    dtype = node.dtype(0)
    is_narrow = dtype.is_float and dtype.bits < FLOAT32.bits
    widens = is_narrow and node.attributes.get("stash_type") == FLOAT32.code
    # Of integers the quotient is cut: one less than a whole step is added for the step begun last.
    count = (
        """
        Ratio = Div (Span, Step)
        Up = Ceil (Ratio)"""
        if dtype.is_float
        else """
        Direction = Sign (Step)
        Rest = Sub (Step, Direction)
        Reach = Add (Span, Rest)
        Up = Div (Reach, Step)"""
    )
    exact = 11 if dtype.is_float else 7
    return f"""
        First = Cast <to = {exact}> (start)
        Last = Cast <to = {exact}> (limit)
        Step = Cast <to = {exact}> (delta)
        Span = Sub (Last, First){count}
        Found = Cast <to = 7> (Up)
        None = Constant <value_int = 0> ()
        Count = Max (Found, None)
        Flat = Constant <value_ints = [-1]> ()
        Extent = Reshape (Count, Flat)
        Ones = ConstantOfShape <value = int64[1] {{1}}> (Extent)
        Places = NonZero (Ones)
        Row = Reshape (Places, Flat)
        Origin = Cast <to = {FLOAT32.code if widens else dtype.code}> (start)
        Pace = CastLike (delta, Origin)
        Times = CastLike (Row, Origin)
        Offsets = Mul (Times, Pace)
        Values = Add (Origin, Offsets)
        output = CastLike (Values, start)
    """


def _steps(start: Array, limit: Array, delta: Array) -> int:
    """Number of elements of a range, exact for integers, in float64 for floats."""
    dtype = DType.of(start.dtype)
    number = float if dtype.is_float else int
    first, end = number(single(start, "start")), number(single(limit, "limit"))
    step = number(single(delta, "delta"))
    require(step != 0, "delta must not be 0", Fail)
    require(
        all(map(math.isfinite, (first, end, step))),
        f"start, limit and delta must be finite, got {first}, {end} and {step}",
        Fail,
    )
    span = end - first
    count = math.ceil(span / step) if dtype.is_float else -(span // -step)
    return max(int(count), 0)
