"""Recurrent layers with quantised weights: DynamicQuantizeLSTM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fornix.dtype import FLOAT32, INT32, UINT8
from fornix.errors import require
from fornix.ir.dim import Dim, DimLike, known
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    index,
    reduce,
    select,
    stored,
    stored_at,
)
from fornix.ops.byte_products import Bytes, is_zero, lower_byte_product
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.microsoft import DOMAIN
from fornix.ops.op import op
from fornix.ops.quantize import (
    dynamic_quantize_linear,
    lower_dynamic_quantize_linear,
    lower_range_scale,
    lower_range_zero,
)
from fornix.ops.quantize_loops import At, lower_quantized
from fornix.ops.recurrence import Layer, biases, functions_of
from fornix.ops.recurrence_loops import LoopLayer, Row, lower_bias
from fornix.ops.recurrent import infer_lstm, lstm_cell, lstm_cells
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

    X and the hidden states, of each step and sequence, are rounded to uint8s, in whose range they
    and 0 lie, as DynamicQuantizeLinear does; products are exact. The rest is the standard's LSTM.
    X[S, N, I] · W[D, I, 4·H] · R[D, H, 4·H] · B[D, 8·H] · P[D, 3·H] → Y[S, D, N, H], Y_h, Y_c;
    scales and zero points are [D] or [D, 4·H]. onnxruntime rounds the states of all sequences that
    a thread has with one scale. Source: onnxruntime's contributed operators, DynamicQuantizeLSTM-1.
    """
    of_x = _Weights.of("W", W, W_scale, W_zero_point)
    of_h = _Weights.of("R", R, R_scale, R_zero_point)
    layer = Layer.of(X, of_x.turned, of_h.turned, 4, sequence_lens, direction, hidden_size, 0)
    count = len(layer.backward)
    names = activations or ["Sigmoid", "Tanh", "Tanh"] * count
    functions = functions_of(names, 3, count, activation_alpha, activation_beta, clip)
    wb, rb = biases(B, of_x.turned)
    longest = int(layer.lengths.max(initial=0))
    x, x_scale, x_zero = dynamic_quantize_linear(layer.x[:longest])
    x = np.concatenate([x, np.full_like(layer.x[longest:], x_zero, np.uint8)])
    projected = [
        of_x.product(d, x, x_scale, x_zero) + bias for d, bias in enumerate((wb + rb)[:, None])
    ]

    def past(d: int) -> Callable[[Array], Array]:
        def rows(hidden: Array) -> Array:
            made = [of_h.product(d, *dynamic_quantize_linear(row)) for row in hidden]
            return np.array(made, np.float32).reshape(len(hidden), W.shape[2])

        return rows

    cells = lstm_cells(
        layer, functions, list(map(past, range(count))), P, is_coupled=bool(input_forget)
    )
    initial = [layer.state(initial_h), layer.state(initial_c)]
    return layer.run(np.stack(projected), cells, initial, X)


@dataclass(frozen=True)
class _Weights:
    """Integers [D, K, 4·H], their scales and zero points by direction and column."""

    steps: Array
    """The integers less their zero points."""
    scales: Array

    @classmethod
    def of(cls, name: str, weights: Array, scale: Array, zero: Array) -> _Weights:
        """Those of the input ``name``; raises ShapeError where they do not fit each other."""
        for what, values in (("scale", scale), ("zero_point", zero)):
            _check_parameter(f"{name}_{what}", values.shape, weights.shape)
        scales, zeros = (values.reshape(len(values), 1, -1) for values in (scale, zero))
        return cls(weights.astype(np.int32) - zeros.astype(np.int32), scales)

    @property
    def turned(self) -> Array:
        """They as the standard's LSTM has them: [D, 4·H, K]."""
        return self.steps.swapaxes(1, 2)

    def product(self, d: int, x: Array, scale: Array, zero: Array) -> Array:
        """x[…, K], bytes with this scale and zero point, times those of a direction."""
        # Sums of whole numbers below 2⁵³ are exact, and NumPy has no fast products of integers.
        whole = (x.astype(np.float64) - zero) @ self.steps[d].astype(np.float64)
        found: Array = whole.astype(np.float32) * (scale * self.scales[d])
        return found


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
    of_x = _LoopWeights.of("W", W, W_scale, W_zero_point)
    of_h = _LoopWeights.of("R", R, R_scale, R_zero_point)
    layer = LoopLayer.of(X, of_x.turned, of_h.turned, 4, sequence_lens, direction, hidden_size, 0)
    names = activations or ["Sigmoid", "Tanh", "Tanh"] * layer.ways
    functions = functions_of(names, 3, layer.ways, activation_alpha, activation_beta, clip)
    wb, rb = lower_bias(B, of_x.turned, FLOAT32)

    def past(t: Dim, hidden: Tensor) -> Row:
        return _lower_past(of_h, hidden, t)

    rows = _lower_projected(of_x, layer)

    def biased(d: DimLike, t: DimLike, n: DimLike, row: DimLike) -> Scalar:
        return rows[d, t, n, row] + (wb(d, row) + rb(d, row))

    projected = compute(rows.shape, biased)
    cell = lstm_cell(layer, layer.activations(functions), past, P, is_coupled=bool(input_forget))
    return layer.run(stored(projected, "projected"), cell, [initial_h, initial_c], FLOAT32)


@dataclass(frozen=True)
class _LoopWeights:
    """`_Weights` for lowerings."""

    bytes: Tensor
    scale: Tensor
    zero: Tensor

    @classmethod
    def of(cls, name: str, weights: Tensor, scale: Tensor, zero: Tensor) -> _LoopWeights:
        for what, values in (("scale", scale), ("zero_point", zero)):
            _check_parameter(f"{name}_{what}", values.shape, weights.shape)
        return cls(weights, scale, zero)

    @property
    def turned(self) -> Tensor:
        """They as the standard's LSTM has them: [D, 4·H, K]."""
        count, size, columns = self.bytes.shape
        return compute((count, columns, size), lambda d, column, k: self.bytes[d, k, column])

    def factor(self, d: DimLike, column: DimLike) -> Scalar:
        """The scale of a column."""
        return self.scale[(d,) if self.scale.rank == 1 else (d, column)]

    @property
    def origin(self) -> At | None:
        """The zero point by a place that begins with its direction and ends with its column."""
        if is_zero(self.zero):
            return None
        return lambda i: cast(self.zero[(i[0],) if self.zero.rank == 1 else (i[0], i[-1])], INT32)


def _lower_projected(weights: _LoopWeights, layer: LoopLayer) -> Tensor:
    """The input, all of it with one scale, times the weights: [D, S, N, 4·H]."""
    x, lengths = layer.x, layer.lengths
    read = x
    if lengths is not None:
        count = lengths.shape[0]
        longest = stored(compute((), lambda: reduce("max", count, layer.length)), "longest")
        read = compute(x.shape, lambda t, *i: select(index(t) < longest[()], x[(t, *i)], 0))
    quantised, scale, zero = lower_dynamic_quantize_linear(read)
    rows = stored(quantised, "bytes")
    left = compute((1, *x.shape), lambda _, *i: rows[i])
    ways, size, columns = weights.bytes.shape
    right = compute((ways, 1, size, columns), lambda d, _, *i: weights.bytes[(d, *i)])
    total = lower_byte_product(left, right, lambda _: cast(zero[()], INT32), weights.origin)

    def at(d: DimLike, t: DimLike, n: DimLike, row: DimLike) -> Scalar:
        return cast(total[d, t, n, row], FLOAT32) * (scale[()] * weights.factor(d, row))

    return compute((ways, *x.shape[:2], columns), at)


def _lower_past(weights: _LoopWeights, hidden: Tensor, t: Dim) -> Row:
    """What the states [D, N, H] of a time, each row with a scale of its own, give to the gates."""
    lead, size = hidden.shape[:2], hidden.shape[2]

    def extreme(op: str, d: DimLike, n: DimLike) -> Scalar:
        return apply(op, reduce(op, size, lambda j: hidden[d, n, j]), 0.0)

    def scale_at(d: DimLike, n: DimLike) -> Scalar:
        return lower_range_scale(extreme("min", d, n), extreme("max", d, n))

    scales = stored_at(compute(lead, scale_at), t, "scales")
    zeros = stored_at(
        compute(lead, lambda d, n: lower_range_zero(extreme("min", d, n), scales[d, n])), t, "zeros"
    )
    rounded = compute(
        hidden.shape,
        lambda d, n, j: lower_quantized(hidden[d, n, j] / scales[d, n], zeros[d, n], UINT8),
    )
    states = Bytes.of(rounded, None, is_signed=False)
    filters = Bytes.of(weights.bytes, weights.origin, is_signed=True)
    quads, words = stored_at(states.quads(2), t, "quads"), filters.quads(1)
    of_columns = filters.sums(1)

    def steps_of_row(d: DimLike, n: DimLike) -> Scalar:
        total = reduce("sum", size, lambda j: states.at((d, n, j)))
        return total - cast(index(size), INT32) * cast(zeros[d, n], INT32)

    of_rows = stored_at(compute(lead, steps_of_row), t, "rows")

    def at(d: DimLike, n: DimLike, row: DimLike) -> Scalar:
        count = quads.shape[2]
        total = reduce("sum", count, lambda q: apply("dot4", quads[d, n, q], words[d, q, row]))
        total = total - cast(zeros[d, n], INT32) * of_columns[d, row]
        if filters.zero is not None:
            total = total - filters.zero((d, row)) * of_rows[d, n]
        return cast(total, FLOAT32) * (scales[d, n] * weights.factor(d, row))

    return at
