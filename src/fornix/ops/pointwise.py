"""Elementwise operators: inference, kernel, data propagation and lowering from one function.

The function is written with `scalar` functions and sees one element of each input, broadcast. On
arrays it is the kernel, on object arrays of dims it propagates data, on loop scalars it is the
lowering. float16 and bfloat16 are widened to float32 and rounded once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fornix.dtype import DType
from fornix.errors import FornixError, require
from fornix.ir.dim import DimLike
from fornix.ops.call import RunNode, output_dtype
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import broadcast_shapes, normalize_axis, shape_text

PROPAGATED_ELEMENTS = 256
"""Elements up to which symbolic contents are computed: shapes and index lists are shorter."""

Function = Callable[..., Any]


def pointwise_rules(function: Function) -> tuple[Function, Function]:
    """The infer and kernel rules of the elementwise ``function``.

    Schemas before opset 7 have the attributes ``broadcast`` and ``axis``: without broadcast the
    shapes must be equal, with it the second input is aligned with the first one's ``axis``.
    """

    def infer(
        *inputs: Fact, broadcast: int | None = None, axis: int | None = None, **attributes: object
    ) -> Fact:
        shapes = [fact.shape for fact in inputs]
        if broadcast is not None:
            _check_aligned(shapes[0], shapes[1], axis if broadcast else None)
            return tensor(None, shapes[0])
        return tensor(None, broadcast_shapes(*shapes), _propagated(function, inputs, attributes))

    def kernel(
        *inputs: Array,
        broadcast: int | None = None,
        axis: int | None = None,
        node: RunNode,
        **attributes: object,
    ) -> Array:
        if broadcast is not None:
            inputs = _aligned(inputs[0], inputs[1], axis if broadcast else None)
        broadcast_shapes(*(x.shape for x in inputs))
        narrow = output_dtype(node.schema, [DType.of(x.dtype) for x in inputs])
        result = np.asarray(function(*map(_widened, inputs), **attributes))
        if narrow is not None and result.dtype != narrow.numpy:
            result = result.astype(narrow.numpy)
        return result

    return infer, kernel


def _widened(x: Array) -> Array:
    """``x``, in float32 if its dtype is a narrower float."""
    dtype = DType.of(x.dtype)
    return x.astype(np.float32) if dtype.is_float and dtype.bits < _FLOAT32_BITS else x


_FLOAT32_BITS = 32


def _check_aligned(a: tuple[DimLike, ...], b: tuple[DimLike, ...], axis: int | None) -> int:
    """The axis of ``a`` with which ``b`` begins; None stands for equal shapes."""
    start = len(a) - len(b) if axis is None else normalize_axis(axis, len(a))
    matches = 0 <= start <= len(a) - len(b) and all(
        n in {1, m} for m, n in zip(a[start:], b, strict=False)
    )
    require(
        matches,
        f"B{shape_text(b)} must equal the part of A{shape_text(a)} from axis {start} on",
    )
    return start


def _aligned(a: Array, b: Array, axis: int | None) -> tuple[Array, Array]:
    start = _check_aligned(a.shape, b.shape, axis)
    return a, b.reshape(b.shape + (1,) * (a.ndim - start - b.ndim))


def _propagated(
    function: Function, inputs: tuple[Fact, ...], attributes: dict[str, object]
) -> Array | None:
    """``function`` on known contents, symbolic ones included; None where it cannot be told."""
    values = [fact.value for fact in inputs]
    if any(v is None or v.size > PROPAGATED_ELEMENTS for v in values):
        return None
    try:
        result = np.asarray(function(*values, **attributes), object)
    except (TypeError, ArithmeticError, FornixError):
        return None
    dtype = inputs[-1].dtype
    if dtype is not None and dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        if any(type(v) is int and not info.min <= v <= info.max for v in result.flat):
            return None
    return result
