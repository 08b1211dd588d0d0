"""Normalizations of parts of a row: of heads that a gate follows, and of branches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from fornix.dtype import FLOAT32
from fornix.errors import require
from fornix.ir.dim import DimLike, divide, equal, known
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, index, reduce
from fornix.ops import scalar as s
from fornix.ops.activation import sigmoid, swish
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.shapes import check_extents, check_shape
from fornix.ops.op import op
from fornix.ops.precision import mean_over
from fornix.ops.types import BF16, F16, F32
from fornix.ops.window import plain

GatedRMSNorm = op(
    """GatedRMSNorm <activation: string = "silu", epsilon: float = 1e-05>
                    (X: T, scale: T, gate: T) => (Y: T)""",
    since=1, domain=DOMAIN, T=BF16 | F16 | F32,
)  # fmt: skip

_silu = functools.partial(swish, alpha=1.0)
GATES: dict[str, Callable[[s.Operand], s.Operand]] = {
    "silu": _silu,
    "swish": _silu,
    "sigmoid": sigmoid,
}


@GatedRMSNorm.infer
def infer_gated_norm(X: Fact, scale: Fact, gate: Fact, *, activation: str, epsilon: float) -> Fact:
    _opening(activation)
    if scale.has_rank:
        check_shape("scale", scale, (None,))
        _parts(X.shape, scale.shape[0], "scale")
    check_shape("gate", gate, X.shape)
    return tensor(X.dtype, X.shape)


def _opening(activation: str) -> Callable[[s.Operand], s.Operand]:
    """What a gate lets through."""
    require(
        activation in GATES, f"activation must be one of {', '.join(GATES)}, got {activation!r}"
    )
    return GATES[activation]


def _parts(x: Sequence[DimLike], width: DimLike, name: str) -> DimLike:
    """Into how many rows of ``width`` the last axis of ``x`` divides."""
    last, size = known(x[-1]) if len(x) else 0, known(width)
    fits = len(x) > 0 and size != 0 and (last is None or size is None or last % size == 0)
    require(
        fits,
        f"the last axis of X{shape_text(x)} must be a multiple of {name}, found {name}[{width}]",
    )
    return 1 if equal(x[-1], width) is True else divide(x[-1], width)


@GatedRMSNorm.kernel
def gated_norm(X: Array, scale: Array, gate: Array, *, activation: str, epsilon: float) -> Array:
    """RMSNormalization of each head, times what a gate lets through.

    Y = X · (E[X²] + epsilon)^(−1/2) · scale · activation(gate), the mean over C elements in a row
    X[…, H·C] · scale[C] · gate[…, H·C] → Y[…, H·C]; activation is silu (or swish) or sigmoid.
    Computes in float32. Source: onnxruntime's contributed operators, GatedRMSNorm-1.
    """
    check_extents("scale", scale.shape, (None,))
    check_extents("gate", gate.shape, X.shape)
    width = scale.shape[0]
    heads = plain(_parts(X.shape, width, "scale"))
    rows = X.astype(np.float32).reshape(*X.shape[:-1], heads, width)
    y = _normed(rows, epsilon) * scale.astype(np.float32)
    opened = _opening(activation)(gate.astype(np.float32))
    return np.asarray((y.reshape(X.shape) * opened).astype(X.dtype))


def _normed(rows: Array, epsilon: float) -> Array:
    mean = mean_over(np.square(rows), [rows.ndim - 1])
    return np.asarray(rows / np.sqrt(mean + np.float32(epsilon)))


@GatedRMSNorm.lower
def lower_gated_norm(
    X: Tensor, scale: Tensor, gate: Tensor, *, activation: str, epsilon: float
) -> Tensor:
    width = scale.shape[0]
    factors = _lower_factors(X, width, _parts(X.shape, width, "scale"), epsilon)
    opening = _opening(activation)

    def at(*i: DimLike) -> Scalar:
        head = i[-1] // width
        y = cast(X[i], FLOAT32) * factors[(*i[:-1], head)]
        y = y * cast(scale[i[-1] - head * width], FLOAT32)
        return cast(y * opening(cast(gate[i], FLOAT32)), X.dtype)

    return compute(X.shape, at)


def _lower_factors(x: Tensor, width: DimLike, rows: DimLike, epsilon: float) -> Tensor:
    """(E[x²] + epsilon)^(−1/2) of rows of ``width``: x[*P, rows·width] → [*P, rows]."""

    def at(*i: DimLike) -> Scalar:
        def squared(c: DimLike) -> Scalar:
            element = cast(x[(*i[:-1], i[-1] * width + c)], FLOAT32)
            return element * element

        total = reduce("sum", width, squared)
        return 1.0 / apply("sqrt", total / cast(index(width), FLOAT32) + epsilon)

    return compute((*x.shape[:-1], rows), at)


BranchwiseRMSNorm = op(
    """BranchwiseRMSNorm <epsilon: float = 1e-05, num_branches: int = 0>
                         (X: T, scale: M?) => (Y: T)""",
    since=1, domain=DOMAIN, T=BF16 | F16 | F32, M=BF16 | F16 | F32,
)  # fmt: skip


@BranchwiseRMSNorm.infer
def infer_branches(
    X: Fact, scale: Fact | None = None, *, num_branches: int, epsilon: float
) -> Fact:
    width = _width(X.shape, num_branches)
    if scale is not None and scale.has_rank:
        branches = num_branches or (X.shape[-2] if X.rank > 1 else 1)
        _check_scale(scale.shape, branches, width)
    return tensor(X.dtype, X.shape)


def _width(x: Sequence[DimLike], num_branches: int) -> DimLike:
    """How many elements one branch has."""
    require(num_branches >= 0, f"num_branches must be 0 or more, got {num_branches}")
    require(len(x) > 0, f"X must have an axis to normalize, got X{shape_text(x)}")
    last = known(x[-1])
    require(
        not num_branches or last is None or last % num_branches == 0,
        f"the last axis of X{shape_text(x)} must divide into num_branches={num_branches}",
    )
    return divide(x[-1], num_branches) if num_branches else x[-1]


def _check_scale(scale: Sequence[DimLike], branches: DimLike, width: DimLike) -> None:
    wanted = ((branches * width,), (branches, width), (width,))
    fits = any(
        len(scale) == len(shape)
        and all(equal(a, b) is not False for a, b in zip(scale, shape, strict=True))
        for shape in wanted
    )
    text = ", ".join(map(shape_text, wanted))
    require(fits, f"scale must be one of {text}, got scale{shape_text(scale)}")


@BranchwiseRMSNorm.kernel
def branches(X: Array, scale: Array | None = None, *, num_branches: int, epsilon: float) -> Array:
    """RMSNormalization of each of several branches, with a scale for each or one for all.

    Y = X · (E[X²] + epsilon)^(−1/2) · scale over a branch's elements;  X[…, C, H], or
    X[…, C·H] with num_branches = C;  scale[C·H], [C, H] or [H]. Computes in float32.
    Source: onnxruntime's contributed operators, BranchwiseRMSNorm-1.
    """
    width = plain(_width(X.shape, num_branches))
    count = num_branches or (X.shape[-2] if X.ndim > 1 else 1)
    lead = X.shape[:-1] if num_branches else X.shape[:-2]
    y = _normed(X.astype(np.float32).reshape(*lead, count, width), epsilon)
    if scale is not None:
        _check_scale(scale.shape, count, width)
        y = y * scale.astype(np.float32).reshape(1 if scale.shape == (width,) else count, width)
    return np.asarray(y.reshape(X.shape).astype(X.dtype))


@BranchwiseRMSNorm.lower
def lower_branches(
    X: Tensor, scale: Tensor | None = None, *, num_branches: int, epsilon: float, node: LowerNode
) -> Tensor:
    width = _width(X.shape, num_branches)
    count: DimLike = num_branches or (X.shape[-2] if X.rank > 1 else 1)
    if scale is not None:
        _check_scale(scale.shape, count, width)
    is_shared = scale is not None and scale.rank == 1 and equal(scale.shape[0], width)
    if is_shared is None:
        node.decline("whether branches share a scale is known at run time only")
    factors = _lower_factors(X, width, num_branches or 1, epsilon)

    def at(*i: DimLike) -> Scalar:
        inner = i[-1] // width if num_branches else 0
        y = cast(X[i], FLOAT32) * factors[(*i[:-1], inner)]
        if scale is None:
            return cast(y, X.dtype)
        branch = inner if num_branches else (i[-2] if X.rank > 1 else 0)
        column = i[-1] - inner * width
        if scale.rank == 2:
            factor = scale[branch, column]
        else:
            factor = scale[column if is_shared else branch * width + column]
        return cast(y * cast(factor, FLOAT32), X.dtype)

    return compute(X.shape, at)
