"""Recurrent layers with quantised weights: DynamicQuantizeLSTM."""

from __future__ import annotations

from fornix.dtype import FLOAT32, INT32
from fornix.errors import require
from fornix.ir.dim import DimLike, known
from fornix.ir.loops import Scalar, Tensor, cast, compute, stored
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.microsoft import DOMAIN
from fornix.ops.op import op
from fornix.ops.recurrent import infer_lstm, lower_lstm, lstm
from fornix.ops.types import F32, I8, I32, U8

DynamicQuantizeLSTM = op(
    """DynamicQuantizeLSTM <activation_alpha: floats?, activation_beta: floats?,
                            activations: strings?, clip: float?,
                            direction: string = "forward", hidden_size: int?,
                            input_forget: int = 0>
                           (X: T, W: T2, R: T2, B: T?, sequence_lens: T1?, initial_h: T?,
                            initial_c: T?, P: T?, W_scale: T, W_zero_point: T2, R_scale: T,
                            R_zero_point: T2)
                        => (Y: T?, Y_h: T?, Y_c: T?)""",
    since=1, domain=DOMAIN, T=F32, T1=I32, T2=I8 | U8,
)  # fmt: skip


@DynamicQuantizeLSTM.infer
def infer_dynamic_quantize_lstm(
    X: Fact,
    W: Fact,
    R: Fact,
    *others: Fact | None,
    direction: str,
    hidden_size: int | None = None,
    **_: object,
) -> tuple[Fact, ...]:
    weights, states = (tensor(FLOAT32, (x.shape[0], x.shape[2], x.shape[1])) for x in (W, R))
    return infer_lstm(X, weights, states, *others[:5], direction=direction, hidden_size=hidden_size)


@DynamicQuantizeLSTM.kernel
def dynamic_quantize_lstm(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None,
    sequence_lens: Array | None,
    initial_h: Array | None,
    initial_c: Array | None,
    P: Array | None,
    W_scale: Array,
    W_zero_point: Array,
    R_scale: Array,
    R_zero_point: Array,
    *,
    activations: list[str] | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    clip: float | None = None,
    direction: str,
    hidden_size: int | None = None,
    input_forget: int,
) -> tuple[Array, ...]:
    """LSTM whose weights are integers, with a scale for each direction or each of their columns.

    weights = (W − W_zero_point) · W_scale, and R alike; what follows is the standard's LSTM.
    X[S, N, I] · W[D, I, 4·H] · R[D, H, 4·H] · B[D, 8·H] · P[D, 3·H] → Y[S, D, N, H], Y_h, Y_c;
    scales and zero points are [D] or [D, 4·H]. Multiplies in float32; onnxruntime rounds X and the
    states to 8 bits first. Source: onnxruntime's contributed operators, DynamicQuantizeLSTM-1.
    """
    return lstm(
        X,
        _dequantized("W", W, W_scale, W_zero_point),
        _dequantized("R", R, R_scale, R_zero_point),
        B,
        sequence_lens,
        initial_h,
        initial_c,
        P,
        activations=activations,
        activation_alpha=activation_alpha,
        activation_beta=activation_beta,
        clip=clip,
        direction=direction,
        hidden_size=hidden_size,
        input_forget=input_forget,
    )


def _dequantized(name: str, weights: Array, scale: Array, zero: Array) -> Array:
    """weights[D, K, 4·H] as float32 [D, 4·H, K]."""
    for what, values in (("scale", scale), ("zero_point", zero)):
        _check_parameter(f"{name}_{what}", values.shape, weights.shape)
    steps = weights.astype("float32") - _per_column(zero)
    found: Array = (steps * _per_column(scale)).swapaxes(1, 2)
    return found


def _per_column(values: Array) -> Array:
    """[D] or [D, 4·H] as float32 that broadcasts to [D, K, 4·H]."""
    return values.astype("float32").reshape(len(values), 1, -1)


def _check_parameter(name: str, shape: tuple[DimLike, ...], weights: tuple[DimLike, ...]) -> None:
    """Raise ShapeError unless there is a number for each direction, or each column of it."""
    wanted = (weights[0], weights[2])[: len(shape)]
    fits = len(shape) in {1, 2} and all(
        known(a) is None or known(b) is None or a == b for a, b in zip(shape, wanted, strict=True)
    )
    require(
        fits,
        f"{name} must be {shape_text(weights[:1])} or {shape_text((weights[0], weights[2]))}, "
        f"found {name}{shape_text(shape)}",
    )


@DynamicQuantizeLSTM.lower
def lower_dynamic_quantize_lstm(
    X: Tensor,
    W: Tensor,
    R: Tensor,
    B: Tensor | None,
    sequence_lens: Tensor | None,
    initial_h: Tensor | None,
    initial_c: Tensor | None,
    P: Tensor | None,
    W_scale: Tensor,
    W_zero_point: Tensor,
    R_scale: Tensor,
    R_zero_point: Tensor,
    *,
    activations: list[str] | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    clip: float | None = None,
    direction: str,
    hidden_size: int | None = None,
    input_forget: int,
) -> tuple[Tensor, ...]:
    return lower_lstm(
        X,
        _lower_dequantized("W", W, W_scale, W_zero_point),
        _lower_dequantized("R", R, R_scale, R_zero_point),
        B,
        sequence_lens,
        initial_h,
        initial_c,
        P,
        activations=activations,
        activation_alpha=activation_alpha,
        activation_beta=activation_beta,
        clip=clip,
        direction=direction,
        hidden_size=hidden_size,
        input_forget=input_forget,
    )


def _lower_dequantized(name: str, weights: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """`_dequantized` for lowerings, computed once."""
    for what, values in (("scale", scale), ("zero_point", zero)):
        _check_parameter(f"{name}_{what}", values.shape, weights.shape)

    def at(d: DimLike, column: DimLike, k: DimLike) -> Scalar:
        origin, factor = (x[(d,) if x.rank == 1 else (d, column)] for x in (zero, scale))
        steps = cast(weights[d, k, column], INT32) - cast(origin, INT32)
        return cast(steps, FLOAT32) * factor

    count, size, columns = weights.shape
    return stored(compute((count, columns, size), at), "weights")
