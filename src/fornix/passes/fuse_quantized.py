"""Let products of dequantized tensors be products of the integers themselves.

``(x − zx)·sx · (w − zw)·sw`` is an exact sum of integers times one factor, which is what processors
have instructions for. So that products are found, and bytes are moved rather than floats, what only
moves elements, or takes the largest of some, is done before they are dequantized. What is quantized
again behind a product is the business of later stages.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fornix.dtype import FLOAT32, INT4, INT8, INT32, UINT4, UINT8, DType
from fornix.ir.dim import known
from fornix.ir.graph import Node, Value
from fornix.ops.microsoft import DOMAIN
from fornix.ops.quantize import OWN_PRECISION_SINCE
from fornix.passes.fold_constants import is_looked_up
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Rule, any_, const, rewrite

LARGEST_SUM = 2**31 // 255**2
"""Terms of a sum up to which it surely fits 32 bits."""

Array = np.ndarray[Any, Any]


def _dequantized(name: str) -> Any:
    return P.DequantizeLinear(
        any_(name), const(f"{name}_scale"), const(f"{name}_zero?"), bind=f"{name}_node"
    )


MOVES = ("MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze")
"""Operators whose results are some of the elements of their first input."""
LEAST_POOLED = 12
"""Version of ai.onnx from which on MaxPool takes bytes."""
LEAST_OF_AXES, LEAST_OF_ALL = 13, 21
"""Versions of ai.onnx from which on bytes are quantized by axes, and all that com.microsoft has."""
WHOLE: dict[DType | None, Any] = {INT4: np.int8, UINT4: np.uint8}
"""Bytes that stored integers of fewer bits are multiplied as."""
NORMAL = 2.0**-100
"""Between this and its inverse, quotients of multiples by a scale are next to integers."""


def _is_one_scale(scale: Array, zero: Array | None) -> bool:
    """Whether it is one positive number: larger elements stand for larger numbers."""
    is_one = scale.size == 1 and (zero is None or zero.size == 1)
    return is_one and scale.dtype == np.float32 and bool(NORMAL < scale.reshape(()) < 1 / NORMAL)


@rewrite(*(kind(any_("x"), any_("scale"), any_("zero?"), domain=DOMAIN, bind="node")
           for kind in (P.QuantizeLinear, P.DequantizeLinear)))  # fmt: skip
def quantize_as_the_standard(
    x: Value, scale: Value, node: Node, make: Maker, zero: Value | None = None
) -> Value | None:
    """Quantization of com.microsoft = that of ai.onnx, where that knows its types."""
    is_stored = x.constant is not None and (zero is None or zero.constant is not None)
    if LEAST_OF_AXES <= make.opset < LEAST_OF_ALL and is_stored:
        x, zero = _whole(x, make), None if zero is None else _whole(zero, make)
    dtypes = {make.fact(value).dtype for value in (x, scale, node.output)}
    least = LEAST_OF_AXES if dtypes <= {FLOAT32, INT8, UINT8, INT32} else LEAST_OF_ALL
    if make.opset < least:
        return None
    given: dict[str, Any] = dict(node.attributes)
    is_narrow = node.op_type == "QuantizeLinear" and make.fact(scale).dtype is not FLOAT32
    if is_narrow and make.opset >= OWN_PRECISION_SINCE:
        given["precision"] = FLOAT32.code
    return make.node(node.op_type, (x, scale, zero), given)


@rewrite(P.DequantizeLinear(any_("x"), any_("scale"), const("zero?"), bind="node"))
def dequantize_bytes(
    x: Value, scale: Value, node: Node, make: Maker, zero: Array | None = None
) -> Value | None:
    """What is stored in few bits, dequantized = bytes, dequantized, which folds into numbers."""
    if make.fact(x).dtype not in WHOLE or x.constant is None or is_looked_up(node):
        return None
    given = dict(node.attributes)
    return make.node("DequantizeLinear", (_whole(x, make), scale, _bytes(zero)), given)


@rewrite(*(getattr(P, name)(_dequantized("x"), any_("other?"), bind="node") for name in MOVES))
def move_bytes(
    x: Value,
    x_scale: Array,
    x_node: Node,
    node: Node,
    make: Maker,
    x_zero: Array | None = None,
    other: Value | None = None,
) -> Value | None:
    """A movement of dequantized bytes = the dequantized movement."""
    is_used_by_others = len(x_node.output.uses) != 1 or x_node.output.is_output
    if is_used_by_others or not _is_one_scale(x_scale, x_zero) or x_node.attr("block_size", 0):
        return None
    if x.constant is not None or make.fact(x).dtype not in {INT8, UINT8}:
        return None
    if node.op_type == "MaxPool" and (make.opset < LEAST_POOLED or len(node.outputs) != 1):
        return None
    moved = make.node(node.op_type, (x, other), dict(node.attributes))
    zero = None if x_zero is None else x_zero.reshape(())
    return make.DequantizeLinear(moved, x_scale.reshape(()), zero)


@rewrite(P.QuantizeLinear(_dequantized("x"), const("scale"), const("zero?"), bind="node"))
def quantize_again(
    x: Value,
    x_scale: Array,
    scale: Array,
    node: Node,
    make: Maker,
    x_zero: Array | None = None,
    zero: Array | None = None,
) -> Value | None:
    """What is quantized as it was before is what it was."""
    is_same = _is_one_scale(x_scale, x_zero) and np.array_equal(x_scale.ravel(), scale.ravel())
    is_byte = make.fact(x).dtype in {INT8, UINT8}
    if not is_same or not is_byte or make.fact(x).dtype is not make.fact(node.output).dtype:
        return None
    before, after = (0 if z is None else int(z.reshape(())) for z in (x_zero, zero))
    return x if before == after else None


def _is_plain(node: Node, x: Value, scale: Array, axis: int | None, make: Maker) -> bool:
    """Whether bytes become float32, by one scale or, if ``axis`` is given, by one along it."""
    fact = make.fact(x)
    is_byte = fact.dtype in {INT8, UINT8} or (fact.dtype in WHOLE and x.constant is not None)
    if not is_byte or make.fact(node.output).dtype is not FLOAT32:
        return False
    if node.attr("block_size", 0) or not fact.has_rank:
        return False
    if scale.size == 1:
        return True
    return axis is not None and scale.ndim == 1 and node.attr("axis", 1) % fact.rank == axis


def _scaled(total: Value, x: Array, w: Array, shape: tuple[int, ...], make: Maker) -> Value:
    """The sums of integers as numbers."""
    factor = np.float32(x.reshape(())) * w
    factor = factor.reshape(()) if factor.size == 1 else factor.reshape(shape)
    return make.Mul(make.Cast(total, to=FLOAT32.code), factor)


def _zero(zero: Array | None) -> Array | None:
    """A zero point as products of integers take it: one number has no axes."""
    zero = _bytes(zero)
    return zero if zero is None or zero.size > 1 else zero.reshape(())


def _bytes(zero: Array | None) -> Array | None:
    """A zero point of what is read as bytes."""
    if zero is None:
        return None
    return zero.astype(WHOLE.get(DType.of(zero.dtype), zero.dtype), copy=False)


def _whole(x: Value, make: Maker) -> Value:
    """``x``, as bytes if it is stored in fewer bits."""
    whole = WHOLE.get(make.fact(x).dtype)
    if whole is None or x.constant is None:
        return x
    return make.value(x.constant.numpy().astype(whole))


@rewrite(P.Conv(_dequantized("x"), _dequantized("w"), any_("B?"), bind="node"))
def convolve_integers(
    x: Value,
    x_scale: Array,
    x_node: Node,
    w: Value,
    w_scale: Array,
    w_node: Node,
    node: Node,
    make: Maker,
    x_zero: Array | None = None,
    w_zero: Array | None = None,
    B: Value | None = None,
) -> Value | None:
    """Conv of dequantized bytes = ConvInteger, scaled, and the bias added."""
    if not _is_plain(x_node, x, x_scale, None, make):
        return None
    if not _is_plain(w_node, w, w_scale, 0, make):
        return None
    filters, *box = (known(extent) for extent in make.fact(w).shape)
    group = node.attr("group", 1)
    if not _fits(box) or (group > 1 and (box[0] or 1) % 4):
        return None
    spread = (filters or 1, *[1] * (len(box) - 1))
    integers = (_whole(x, make), _whole(w, make), _zero(x_zero), _zero(w_zero))
    total = make.node("ConvInteger", integers, dict(node.attributes))
    result = _scaled(total, x_scale, w_scale, spread, make)
    if B is None:
        return result
    return make.Add(result, make.Reshape(B, np.array([-1, *spread[1:]], np.int64)))


def _fits(extents: list[int | None]) -> bool:
    """Whether a sum of so many products of bytes fits 32 bits."""
    counts = [n for n in extents if n is not None]
    return len(counts) == len(extents) and math.prod(counts) <= LARGEST_SUM


@rewrite(P.MatMul(_dequantized("a"), _dequantized("b")))
def multiply_integers(
    a: Value,
    a_scale: Array,
    a_node: Node,
    b: Value,
    b_scale: Array,
    b_node: Node,
    make: Maker,
    a_zero: Array | None = None,
    b_zero: Array | None = None,
) -> Value | None:
    """MatMul of dequantized bytes = MatMulInteger, scaled."""
    fact = make.fact(b)
    if not fact.has_rank or fact.rank < 2 or not _is_plain(a_node, a, a_scale, None, make):
        return None
    column = 1 if fact.rank == 2 else None
    if not _is_plain(b_node, b, b_scale, column, make) or not _fits([known(fact.shape[-2])]):
        return None
    total = make.MatMulInteger(_whole(a, make), _whole(b, make), _zero(a_zero), _zero(b_zero))
    return _scaled(total, a_scale, b_scale, (-1,), make)


@rewrite(P.Gemm(_dequantized("a"), _dequantized("b"), any_("C?"), alpha=1.0, beta=1.0, transA=0,
                bind="node"))  # fmt: skip
def multiply_matrices(
    a: Value,
    a_scale: Array,
    a_node: Node,
    b: Value,
    b_scale: Array,
    b_node: Node,
    node: Node,
    make: Maker,
    a_zero: Array | None = None,
    b_zero: Array | None = None,
    C: Value | None = None,
) -> Value | None:
    """Gemm of dequantized bytes = MatMulInteger, scaled, and the third matrix added."""
    is_turned = bool(node.attr("transB", 0))
    if not _is_plain(a_node, a, a_scale, None, make):
        return None
    if not _is_plain(b_node, b, b_scale, 0 if is_turned else 1, make):
        return None
    shape = make.fact(b).shape
    if not _fits([known(shape[1 if is_turned else 0])]):
        return None
    left, right = _whole(a, make), _whole(b, make)
    right = make.Transpose(right, perm=[1, 0]) if is_turned else right
    total = make.MatMulInteger(left, right, _zero(a_zero), _zero(b_zero))
    result = _scaled(total, a_scale, b_scale, (-1,), make)
    return result if C is None else make.Add(result, C)


RULES: tuple[Rule, ...] = (
    *quantize_as_the_standard,
    *move_bytes,
    *quantize_again,
    *convolve_integers,
    *multiply_integers,
    *multiply_matrices,
)
