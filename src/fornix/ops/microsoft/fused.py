"""Products with what surrounds them: FusedMatMul, TransposeMatMul, FusedGemm, FusedConv."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Unpack

from fornix.errors import NotSupported, require
from fornix.ir.dim import DimLike, equal
from fornix.ir.loops import Tensor, cast, compute
from fornix.ops import recurrence
from fornix.ops import scalar as s
from fornix.ops.along import mapped
from fornix.ops.call import LowerNode
from fornix.ops.conv import conv, infer_conv, lower_conv
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.linalg import (
    gemm,
    infer_gemm,
    lower_gemm,
    lower_multiply,
    matmul_shape,
    multiply,
)
from fornix.ops.microsoft import DOMAIN
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, wide_dtype, wide_element, widened
from fornix.ops.types import BF16, FLOAT, I32, I64, U32, U64
from fornix.ops.window import WindowAttributes

FusedMatMul = op(
    """FusedMatMul <alpha: float = 1.0, transA: int = 0, transB: int = 0, transBatchA: int = 0,
                    transBatchB: int = 0>
                   (A: T, B: T) => (Y: T)""",
    since=1, domain=DOMAIN, T=FLOAT | BF16,
)  # fmt: skip

TransposeMatMul = op(
    "TransposeMatMul <alpha: float = 1.0, transA: int = 0, transB: int = 0> (A: T, B: T) => (Y: T)",
    since=1, domain=DOMAIN, T=FLOAT | BF16,
)  # fmt: skip


def _order(rank: int, is_transposed: int, is_batch_transposed: int) -> list[int]:
    """Which axis of a factor becomes which: matrices last, their rows and columns in order."""
    order = list(range(rank))
    if is_batch_transposed and rank > 2:
        order = [*order[1:-1], 0, order[-1]]
    if is_transposed and rank > 1:
        order[-2:] = order[:-3:-1]
    return order


def _turned(shape: Sequence[DimLike], order: Sequence[int]) -> list[DimLike]:
    return [shape[axis] for axis in order]


def _lower_turned(x: Tensor, order: Sequence[int]) -> Tensor:
    if list(order) == sorted(order):
        return x

    def at(*i: DimLike) -> s.Operand:
        places = dict(zip(order, i, strict=True))
        return x[tuple(places[axis] for axis in range(x.rank))]

    return compute(_turned(x.shape, order), at)


@FusedMatMul.infer
@TransposeMatMul.infer
def infer_fused_mat_mul(
    a: Fact,
    b: Fact,
    *,
    alpha: float,
    transA: int,
    transB: int,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Fact:
    left = _turned(a.shape, _order(a.rank, transA, transBatchA))
    right = _turned(b.shape, _order(b.rank, transB, transBatchB))
    return tensor(a.dtype, matmul_shape(left, right))


@FusedMatMul.kernel
@TransposeMatMul.kernel
def fused_mat_mul(
    a: Array,
    b: Array,
    *,
    alpha: float,
    transA: int,
    transB: int,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Array:
    """Matrix product of factors that may be transposed, times a number: alpha · A′ · B′.

    a[…, M, K] · b[…, K, N] → y[…, M, N] once they are turned: with transBatchA the first axis is
    that of the rows and the axes behind it are the batch, with transA rows and columns are
    exchanged; so for B. Accumulates float16 and bfloat16 in float32.
    Source: onnxruntime's contributed operators, FusedMatMul-1.
    """
    left = widened(a.transpose(_order(a.ndim, transA, transBatchA)))
    right = widened(b.transpose(_order(b.ndim, transB, transBatchB)))
    matmul_shape(left.shape, right.shape)
    y = multiply(left, right)
    return (y * y.dtype.type(alpha) if alpha != 1 else y).astype(a.dtype, copy=False)


@FusedMatMul.lower
@TransposeMatMul.lower
def lower_fused_mat_mul(
    a: Tensor,
    b: Tensor,
    *,
    alpha: float,
    transA: int,
    transB: int,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Tensor:
    left = _lower_turned(a, _order(a.rank, transA, transBatchA))
    right = _lower_turned(b, _order(b.rank, transB, transBatchB))
    y = lower_multiply(left, right)
    return cast_tensor(mapped(lambda v: v * alpha, y) if alpha != 1 else y, a.dtype)


SHARED = (
    "Elu", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh",
)  # fmt: skip
"""Activations that recurrent layers have, too."""
ACTIVATIONS: dict[str, Callable[..., s.Operand]] = {
    "": lambda x: x,
    "Clip": s.clip,
    "HardSwish": lambda x: x * s.clip(x / 6 + 0.5, 0.0, 1.0),
    **{name: recurrence.ACTIVATIONS[name.lower()][0] for name in SHARED},
}
"""What may follow a product, with its parameters in order."""


def activation(
    name: str | None, parameters: Sequence[float | None] = ()
) -> Callable[[s.Operand], s.Operand]:
    """The function ``name``, with its ``parameters`` as far as they are given.

    Raises NotSupported for a name that is not among `ACTIVATIONS`.
    """
    found = ACTIVATIONS.get(name or "")
    require(
        found is not None,
        f"activation must be one of {', '.join(filter(None, ACTIVATIONS))}, got {name}",
        NotSupported,
    )
    function = found or ACTIVATIONS[""]
    given = [value for value in parameters if value is not None]
    most = len(inspect.signature(function).parameters) - 1
    require(len(given) <= most, f"{name} takes {most} parameters at most, got {len(given)}")
    return lambda x: function(x, *given)


FusedGemm = op(
    """FusedGemm <activation: string?, activation_alpha: float?, activation_beta: float?,
                  activation_gamma: float?, alpha: float = 1.0, beta: float = 1.0, transA: int = 0,
                  transB: int = 0>
                 (A: T, B: T, C: T?) => (Y: T)""",
    since=1, domain=DOMAIN, T=FLOAT | I32 | I64 | U32 | U64,
)  # fmt: skip


@FusedGemm.infer
def infer_fused_gemm(
    a: Fact,
    b: Fact,
    c: Fact | None = None,
    *,
    activation: str | None = None,
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float,
    beta: float,
    transA: int,
    transB: int,
) -> Fact:
    return infer_gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)


@FusedGemm.kernel
def fused_gemm(
    a: Array,
    b: Array,
    c: Array | None = None,
    *,
    activation: str | None = None,
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float,
    beta: float,
    transA: int,
    transB: int,
) -> Array:
    """Gemm and an activation of its result: f(alpha · A′ · B′ + beta · C).

    a[M, K] · b[K, N] + c → y[M, N] as in Gemm; activation_alpha and activation_beta are what the
    activation has as alpha and beta. Source: onnxruntime's contributed operators, FusedGemm-1.
    """
    wide = widened(a), widened(b), None if c is None else widened(c)
    y = gemm(*wide, alpha=alpha, beta=beta, transA=transA, transB=transB)
    return _applied(activation, (activation_alpha, activation_beta), y).astype(a.dtype, copy=False)


@FusedGemm.lower
def lower_fused_gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    activation: str | None = None,
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float,
    beta: float,
    transA: int,
    transB: int,
) -> Tensor:
    left, right = (cast_tensor(x, wide_dtype(x.dtype)) for x in (a, b))
    y = lower_gemm(left, right, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    return cast_tensor(_lower_applied(activation, (activation_alpha, activation_beta), y), a.dtype)


def _applied(name: str | None, parameters: Sequence[float | None], y: Array) -> Array:
    result: Array = activation(name, parameters)(y)
    return result


def _lower_applied(name: str | None, parameters: Sequence[float | None], y: Tensor) -> Tensor:
    return mapped(activation(name, parameters), y)


FusedConv = op(
    """FusedConv <activation: string?, activation_params: floats?, auto_pad: string = "NOTSET",
                  dilations: ints?, group: int = 1, kernel_shape: ints?, pads: ints?,
                  strides: ints?>
                 (X: T, W: T, B: T?, Z: T?) => (Y: T)""",
    since=1, domain=DOMAIN, T=FLOAT,
)  # fmt: skip


@FusedConv.infer
def infer_fused_conv(
    x: Fact,
    w: Fact,
    b: Fact | None = None,
    z: Fact | None = None,
    *,
    activation: str | None = None,
    activation_params: list[float] | None = None,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Fact:
    y = infer_conv(x, w, b, group=group, kernel_shape=kernel_shape, **window)
    if z is not None and z.has_rank:
        _check_addend(z.shape, y.shape)
    return y


def _check_addend(z: Sequence[DimLike], y: Sequence[DimLike]) -> None:
    fits = len(z) == len(y) and all(
        equal(n, extent) is not False for n, extent in zip(z, y, strict=True)
    )
    require(fits, f"Z must have the shape of Y{shape_text(y)}, got Z{shape_text(z)}")


@FusedConv.kernel
def fused_conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    z: Array | None = None,
    *,
    activation: str | None = None,
    activation_params: list[float] | None = None,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Array:
    """Conv, a sum and an activation: f(X ∗ W + B + Z).

    x[N, C, *S] · w[M, C/group, *K] + b[M] + z[N, M, *O] → y[N, M, *O] as in Conv;
    activation_params are the activation's alpha and beta, of Clip the least and the greatest.
    Source: onnxruntime's contributed operators, FusedConv-1.
    """
    y = conv(widened(x), widened(w), b, group=group, kernel_shape=kernel_shape, **window)
    if z is not None:
        _check_addend(z.shape, y.shape)
        y = y + widened(z)
    return _applied(activation, activation_params or (), y).astype(x.dtype, copy=False)


@FusedConv.lower
def lower_fused_conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    z: Tensor | None = None,
    *,
    activation: str | None = None,
    activation_params: list[float] | None = None,
    group: int,
    kernel_shape: list[int] | None = None,
    node: LowerNode,
    **window: Unpack[WindowAttributes],
) -> Tensor:
    wide = cast_tensor(x, wide_dtype(x.dtype))
    conv_y = lower_conv(wide, w, b, group=group, kernel_shape=kernel_shape, **window)
    y = conv_y
    if z is not None:
        _check_addend(z.shape, conv_y.shape)
        y = compute(conv_y.shape, lambda *i: conv_y[i] + wide_element(z, i, wide.dtype))
    done = _lower_applied(activation, activation_params or (), y)
    return compute(done.shape, lambda *i: cast(done[i], x.dtype))
