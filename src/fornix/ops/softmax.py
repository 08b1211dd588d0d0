"""Softmax, LogSoftmax and Hardmax: exponentials and maxima over an axis.

Until opset 11 they work on rows, which are all axes from ``axis`` on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np

from fornix.errors import ConvertError
from fornix.ir.attribute import Attribute
from fornix.ir.dim import DimLike
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.loops import Scalar, Tensor, cast, compute, index, reduce, select
from fornix.ir.types import TensorType
from fornix.ops import scalar as s
from fornix.ops.adapt import count_from_front, put_ahead, put_behind, rank_of
from fornix.ops.along import along, merged, outside
from fornix.ops.call import BodyNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import normalize_axis, row_major
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, wide_dtype, widened
from fornix.ops.types import BF16, FLOAT

Softmax = (
    op("Softmax <axis: int = 1> (input: T) => (output: T)", since=1, T=FLOAT)
    .since(11)
    .since(13, "Softmax <axis: int = -1> (input: T) => (output: T)", T=+BF16)
)


@Softmax.infer
def infer_along_axis(input: Fact, *, axis: int) -> Fact:
    normalize_axis(axis, input.rank)
    return tensor(input.dtype, input.shape)


@Softmax.kernel
def softmax_of_rows(input: Array, *, axis: int) -> Array:
    """`softmax` over all axes from ``axis`` on together, as before opset 13."""
    return _on_rows(softmax, input, axis)


@Softmax.kernel(since=13)
def softmax(input: Array, *, axis: int) -> Array:
    """exp(x) / Σ exp(x) along ``axis``, shifted by the maximum so that nothing overflows.

    input[*S] → output[*S]. Computes float16 and bfloat16 in float32. Source: ONNX Softmax-13.
    """
    e = np.exp(_shifted(input, axis))
    result: Array = e / e.sum(axis, keepdims=True)
    return result.astype(input.dtype)


@Softmax.lower
def lower_softmax_of_rows(input: Tensor, *, axis: int) -> Tensor:
    return _lower_softmax(input, range(normalize_axis(axis, input.rank), input.rank))


@Softmax.lower(since=13)
def lower_softmax(input: Tensor, *, axis: int) -> Tensor:
    return _lower_softmax(input, [normalize_axis(axis, input.rank)])


def _lower_softmax(input: Tensor, axes: Collection[int]) -> Tensor:
    x = _lower_shifted(input, axes)
    e = compute(x.shape, lambda *i: s.exp(x[i]))
    total = along("sum", e, axes)
    return compute(x.shape, lambda *i: cast(e[i] / total[outside(i, axes)], input.dtype))


SHIFTED = """
    Axis = Constant <value_int: int = @axis> ()
    First = Constant <value_ints = [0]> ()
    Along = Unsqueeze (Axis, First)
    Top = {top}
    Shifted = Sub (input, Top)
    Powers = Exp (Shifted)
    Total = ReduceSum (Powers, Along)
"""
"""Nodes that bodies of Softmax and LogSoftmax begin with."""


@Softmax.body(since=13)
def softmax_body(*, node: BodyNode) -> str:
    return f"{_shifted_body(node, 18)}output = Div (Powers, Total)"


@Softmax.older_body(since=13, opset=13)
def softmax_body_in_opset_13(*, node: BodyNode) -> str:
    return f"{_shifted_body(node, 13)}output = Div (Powers, Total)"


def _shifted_body(node: BodyNode, opset: int) -> str:
    """`SHIFTED` in ``opset``: from 18 on, ReduceMax has its axes as input."""
    attribute = f"ReduceMax <axes = [{node.attributes['axis']}]> (input)"
    return SHIFTED.format(top="ReduceMax (input, Along)" if opset >= 18 else attribute)


LogSoftmax = (
    op("LogSoftmax <axis: int = 1> (input: T) => (output: T)", since=1, T=FLOAT)
    .since(11)
    .since(13, "LogSoftmax <axis: int = -1> (input: T) => (output: T)", T=+BF16)
)


LogSoftmax.infer(infer_along_axis)


@LogSoftmax.kernel
def log_softmax_of_rows(input: Array, *, axis: int) -> Array:
    """`log_softmax` over all axes from ``axis`` on together, as before opset 13."""
    return _on_rows(log_softmax, input, axis)


@LogSoftmax.kernel(since=13)
def log_softmax(input: Array, *, axis: int) -> Array:
    """X − log Σ exp(x) along ``axis``, shifted by the maximum so that nothing overflows.

    input[*S] → output[*S]. Computes float16 and bfloat16 in float32. Source: ONNX LogSoftmax-13.
    """
    x = _shifted(input, axis)
    result: Array = x - np.log(np.exp(x).sum(axis, keepdims=True))
    return result.astype(input.dtype)


@LogSoftmax.lower
def lower_log_softmax_of_rows(input: Tensor, *, axis: int) -> Tensor:
    return _lower_log_softmax(input, range(normalize_axis(axis, input.rank), input.rank))


@LogSoftmax.lower(since=13)
def lower_log_softmax(input: Tensor, *, axis: int) -> Tensor:
    return _lower_log_softmax(input, [normalize_axis(axis, input.rank)])


def _lower_log_softmax(input: Tensor, axes: Collection[int]) -> Tensor:
    x = _lower_shifted(input, axes)
    total = along("sum", compute(x.shape, lambda *i: s.exp(x[i])), axes)
    return compute(x.shape, lambda *i: cast(x[i] - s.log(total[outside(i, axes)]), input.dtype))


@LogSoftmax.body(since=13)
def log_softmax_body(*, node: BodyNode) -> str:
    return f"{_shifted_body(node, 18)}{LOG_SOFTMAX_END}"


@LogSoftmax.older_body(since=13, opset=13)
def log_softmax_body_in_opset_13(*, node: BodyNode) -> str:
    return f"{_shifted_body(node, 13)}{LOG_SOFTMAX_END}"


LOG_SOFTMAX_END = """
    Logarithm = Log (Total)
    output = Sub (Shifted, Logarithm)
"""


Hardmax = (
    op("Hardmax <axis: int = 1> (input: T) => (output: T)", since=1, T=FLOAT)
    .since(11)
    .since(13, "Hardmax <axis: int = -1> (input: T) => (output: T)", T=+BF16)
)


Hardmax.infer(infer_along_axis)


@Hardmax.kernel
def hardmax_of_rows(input: Array, *, axis: int) -> Array:
    """`hardmax` over all axes from ``axis`` on together, as before opset 13."""
    return _on_rows(hardmax, input, axis)


@Hardmax.kernel(since=13)
def hardmax(input: Array, *, axis: int) -> Array:
    """1 at the first maximum along ``axis``, 0 elsewhere.

    input[*S] → output[*S]. Source: ONNX Hardmax-13.
    """
    axis = normalize_axis(axis, input.ndim)
    result = np.zeros_like(input)
    if input.size:
        first = np.argmax(widened(input), axis, keepdims=True)
        np.put_along_axis(result, first, np.array(1, input.dtype), axis)
    return result


@Hardmax.lower
def lower_hardmax_of_rows(input: Tensor, *, axis: int) -> Tensor:
    return _lower_hardmax(input, range(normalize_axis(axis, input.rank), input.rank))


@Hardmax.lower(since=13)
def lower_hardmax(input: Tensor, *, axis: int) -> Tensor:
    return _lower_hardmax(input, [normalize_axis(axis, input.rank)])


def _lower_hardmax(input: Tensor, axes: Collection[int]) -> Tensor:
    """1 at the least place, counted within the row, that holds the maximum; NaN is a maximum."""
    x = cast_tensor(input, wide_dtype(input.dtype))
    top = along("max", x, axes)
    box = [input.shape[axis] for axis in axes]

    def first(*i: DimLike) -> Scalar:
        def candidate(*k: DimLike) -> Scalar:
            value = x[merged(x.rank, axes, i, k)]
            is_top = s.logical_or(s.equal(value, top[i]), s.isnan(value))
            return select(is_top, index(row_major(k, box)), index(math.prod(box)))

        return reduce("min", box, candidate)

    firsts = compute(top.shape, first)

    def at(*i: DimLike) -> Scalar:
        own = row_major([i[axis] for axis in axes], box)
        is_first = s.equal(firsts[outside(i, axes)], index(own))
        return cast(is_first, input.dtype)

    return compute(input.shape, at)


def _shifted(input: Array, axis: int) -> Array:
    """``input`` less its maximum along ``axis``, in float32 or wider."""
    axis = normalize_axis(axis, input.ndim)
    x = widened(input)
    shifted: Array = x - x.max(axis, keepdims=True, initial=-np.inf)
    return shifted


def _lower_shifted(input: Tensor, axes: Collection[int]) -> Tensor:
    x = cast_tensor(input, wide_dtype(input.dtype))
    top = along("max", x, axes)
    return compute(x.shape, lambda *i: x[i] - top[outside(i, axes)])


def _on_rows(function: Callable[..., Array], input: Array, axis: int) -> Array:
    """``function`` of each row of ``input`` flattened to a matrix at ``axis``."""
    axis = normalize_axis(axis, input.ndim)
    rows = input.reshape(math.prod(input.shape[:axis]), math.prod(input.shape[axis:]))
    return function(rows, axis=1).reshape(input.shape)


# Softmax, LogSoftmax and Hardmax share their history: until opset 11 a row is all axes from
# ``axis`` on, and until opset 1 that is no negative number.


@Softmax.adapt(11, 1)
@LogSoftmax.adapt(11, 1)
@Hardmax.adapt(11, 1)
def axis_from_front(node: Node, _: Graph) -> None:
    count_from_front(node, "axis")


@Softmax.adapt(11, 13)
@LogSoftmax.adapt(11, 13)
@Hardmax.adapt(11, 13)
def row_to_axis(node: Node, graph: Graph) -> None:
    """Flatten the axes of a row into one, and give the result its shape back."""
    axis = node.remove_attribute("axis") or Attribute.of("axis", 1)
    if axis.ref is None and _is_last(axis.value, node.inputs[0]):
        node.set_attribute("axis", -1)
        return
    shape = Node("", "Shape", node.inputs)
    graph.insert_before(node, shape)
    put_ahead(node, graph, 0, "Flatten", axis=axis)
    node.set_attribute("axis", -1)
    put_behind(node, graph, "Reshape", shape.output)


@Softmax.adapt(13, 11)
@LogSoftmax.adapt(13, 11)
@Hardmax.adapt(13, 11)
def axis_to_row(node: Node, graph: Graph) -> None:
    """Exchange the axis with the last one, whose row it then is, and exchange them back."""
    axis = node.remove_attribute("axis") or Attribute.of("axis", -1)
    if axis.ref is not None:
        raise ConvertError(f"opset 11 flattens from axis on, so axis must be known, found {axis}")
    if _is_last(axis.value, node.inputs[0]):
        node.set_attribute("axis", axis.value)
        return
    rank = rank_of(node.inputs[0], "the input")
    node.set_attribute("axis", rank - 1)
    order = list(range(rank))
    order[axis.value], order[-1] = order[-1], order[axis.value]
    put_ahead(node, graph, 0, "Transpose", perm=order)
    put_behind(node, graph, "Transpose", perm=order)


def _is_last(axis: int, value: Value | None) -> bool:
    """Whether ``axis`` of ``value`` is known to be the last one."""
    type_ = None if value is None else value.type
    shape = type_.shape if isinstance(type_, TensorType) else None
    return axis == -1 or (shape is not None and axis == len(shape) - 1)
