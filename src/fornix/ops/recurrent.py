"""Recurrent layers: RNN, LSTM and GRU, all directions, layouts, activations and sequence lengths.

The three differ in their cell, a function from the projected input and the states to new states.
What they share stands in `recurrence.py` and `recurrence_loops.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fornix.errors import require
from fornix.ir.dim import Dim, DimLike
from fornix.ir.loops import Scalar, Tensor, cast, compute, stored_at
from fornix.ops.fact import Array, Fact
from fornix.ops.geometry import shape_text
from fornix.ops.op import op
from fornix.ops.precision import widened
from fornix.ops.recurrence import (
    Activation,
    Cell,
    Layer,
    States,
    biases,
    functions_of,
    infer_layer,
)
from fornix.ops.recurrence_loops import (
    LoopActivations,
    LoopCell,
    LoopLayer,
    Row,
    lower_bias,
    recurrent,
)
from fornix.ops.types import BF16, FLOAT, I32

RNN = (
    op("""RNN <activation_alpha: floats?, activation_beta: floats?, activations: strings =
             ["Tanh", "Tanh"], clip: float?, direction: string = "forward", hidden_size: int?,
             output_sequence: int = 0> (X: T, W: T, R: T, B: T?, sequence_lens: T1?, initial_h:
             T?) => (Y: T?, Y_h: T?)""", since=1, T=FLOAT, T1=I32)
    .since(7, """RNN <activation_alpha: floats?, activation_beta: floats?, activations: strings =
                 ["Tanh", "Tanh"], clip: float?, direction: string = "forward", hidden_size:
                 int?> (X: T, W: T, R: T, B: T?, sequence_lens: T1?, initial_h: T?) => (Y: T?,
                 Y_h: T?)""")
    .since(14, """RNN <activation_alpha: floats?, activation_beta: floats?, activations: strings =
                 ["Tanh", "Tanh"], clip: float?, direction: string = "forward", hidden_size:
                 int?, layout: int = 0> (X: T, W: T, R: T, B: T?, sequence_lens: T1?, initial_h:
                 T?) => (Y: T?, Y_h: T?)""")
    .since(22, T=+BF16)
)  # fmt: skip


@RNN.infer
def infer_rnn(
    X: Fact,
    W: Fact,
    R: Fact,
    *others: Fact | None,
    direction: str,
    hidden_size: int | None = None,
    layout: int = 0,
    **__: object,
) -> tuple[Fact, ...]:
    return infer_layer(X, W, R, others, 1, direction, hidden_size, layout, 1)


@RNN.kernel
def rnn(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None = None,
    sequence_lens: Array | None = None,
    initial_h: Array | None = None,
    *,
    activations: list[str],
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    clip: float | None = None,
    direction: str,
    hidden_size: int | None = None,
    output_sequence: int = 0,
    layout: int = 0,
) -> tuple[Array, ...]:
    """A simple recurrent layer: Hₜ = f(Xₜ·Wᵀ + Hₜ₋₁·Rᵀ + Wb + Rb).

    X[S, N, I] · W[D, H, I] · R[D, H, H] · B[D, 2·H] → Y[S, D, N, H], Y_h[D, N, H]; batch first with
    layout=1. Steps beyond sequence_lens[N] give zeros. Source: ONNX RNN-14.
    """
    layer = Layer.of(X, W, R, 1, sequence_lens, direction, hidden_size, layout)
    count = len(layer.backward)
    functions = functions_of(activations[:count], 1, count, activation_alpha, activation_beta, clip)
    wb, rb = biases(B, W)

    def cell(index: int) -> Cell:
        [f], r = functions[index], widened(R[index]).T
        return lambda x, states: (f(x + states[0] @ r),)

    cells = [cell(index) for index in range(count)]
    return layer.run(layer.projected(W, wb + rb), cells, [layer.state(initial_h)], X)


@RNN.lower
def lower_rnn(
    X: Tensor,
    W: Tensor,
    R: Tensor,
    B: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activations: list[str],
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    clip: float | None = None,
    direction: str,
    hidden_size: int | None = None,
    output_sequence: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    layer = LoopLayer.of(X, W, R, 1, sequence_lens, direction, hidden_size, layout)
    count = len(layer.backward)
    functions = functions_of(activations[:count], 1, count, activation_alpha, activation_beta, clip)
    wb, rb = lower_bias(B, W, layer.x.dtype)

    [f] = layer.activations(functions)

    def cell(_: Dim, x: Row, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        def new(d: DimLike, n: DimLike, j: DimLike) -> Scalar:
            return f(d, x(d, n, j) + recurrent(states[0], R, d, n, j))

        return (compute(layer.shape, new),)

    projected = layer.projected(W, lambda d, row: wb(d, row) + rb(d, row))
    return layer.run(projected, cell, [initial_h], X.dtype)


LSTM = (
    op("""LSTM <activation_alpha: floats?, activation_beta: floats?, activations: strings?,
              clip: float?, direction: string = "forward", hidden_size: int?, input_forget: int =
              0, output_sequence: int = 0> (X: T, W: T, R: T, B: T?, sequence_lens: T1?,
              initial_h: T?, initial_c: T?, P: T?) => (Y: T?, Y_h: T?, Y_c: T?)""",
       since=1, T=FLOAT, T1=I32)
    .since(7, """LSTM <activation_alpha: floats?, activation_beta: floats?, activations:
                  strings?, clip: float?, direction: string = "forward", hidden_size: int?,
                  input_forget: int = 0> (X: T, W: T, R: T, B: T?, sequence_lens: T1?, initial_h:
                  T?, initial_c: T?, P: T?) => (Y: T?, Y_h: T?, Y_c: T?)""")
    .since(14, """LSTM <activation_alpha: floats?, activation_beta: floats?, activations:
                  strings?, clip: float?, direction: string = "forward", hidden_size: int?,
                  input_forget: int = 0, layout: int = 0> (X: T, W: T, R: T, B: T?,
                  sequence_lens: T1?, initial_h: T?, initial_c: T?, P: T?) => (Y: T?, Y_h: T?,
                  Y_c: T?)""")
    .since(22, T=+BF16)
)  # fmt: skip


@LSTM.infer
def infer_lstm(
    X: Fact,
    W: Fact,
    R: Fact,
    *others: Fact | None,
    direction: str,
    hidden_size: int | None = None,
    layout: int = 0,
    **__: object,
) -> tuple[Fact, ...]:
    return infer_layer(X, W, R, others, 4, direction, hidden_size, layout, 2)


@LSTM.kernel
def lstm(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None = None,
    sequence_lens: Array | None = None,
    initial_h: Array | None = None,
    initial_c: Array | None = None,
    P: Array | None = None,
    *,
    activations: list[str] | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    clip: float | None = None,
    direction: str,
    hidden_size: int | None = None,
    input_forget: int,
    output_sequence: int = 0,
    layout: int = 0,
) -> tuple[Array, ...]:
    """Long short-term memory, with peepholes and, on request, coupled input and forget gates.

    i, o, f = σ(Xₜ·Wᵀ + Hₜ₋₁·Rᵀ + Wb + Rb + P∘C),   c = g(Xₜ·Wᵀ + Hₜ₋₁·Rᵀ + Wb + Rb)
    Cₜ = f∘Cₜ₋₁ + i∘c,   Hₜ = o∘h(Cₜ);   the output gate's peephole sees Cₜ, the others Cₜ₋₁
    X[S, N, I] · W[D, 4·H, I] · R[D, 4·H, H] · B[D, 8·H] · P[D, 3·H] → Y[S, D, N, H], Y_h, Y_c
    Gates stand in the order i, o, f, c. Source: ONNX LSTM-14.
    """
    layer = Layer.of(X, W, R, 4, sequence_lens, direction, hidden_size, layout)
    count = len(layer.backward)
    names = activations or ["Sigmoid", "Tanh", "Tanh"] * count
    functions = functions_of(names, 3, count, activation_alpha, activation_beta, clip)
    wb, rb = biases(B, W)
    turned = widened(R).swapaxes(1, 2)
    past = [lambda hidden, r=r: hidden @ r for r in turned]
    cells = lstm_cells(layer, functions, past, P, is_coupled=bool(input_forget))
    initial = [layer.state(initial_h), layer.state(initial_c)]
    return layer.run(layer.projected(W, wb + rb), cells, initial, X)


def lstm_cells(
    layer: Layer,
    functions: Sequence[Sequence[Activation]],
    past: Sequence[Callable[[Array], Array]],
    P: Array | None,
    *,
    is_coupled: bool,
) -> list[Cell]:
    """The cell of each direction: ``past`` tells what hidden states give to the gates."""
    count = len(layer.backward)
    peepholes = np.zeros((count, 3 * layer.hidden), layer.x.dtype) if P is None else widened(P)
    require(
        peepholes.shape == (count, 3 * layer.hidden),
        f"P must be {shape_text((count, 3 * layer.hidden))}, found {shape_text(peepholes.shape)}",
    )

    def cell(index: int) -> Cell:
        f, g, h = functions[index]
        pi, po, pf = np.split(peepholes[index], 3)

        def step(x: Array, states: States) -> States:
            hidden, memory = states
            i, o, forget, c = np.split(x + past[index](hidden), 4, axis=-1)
            i = f(i + pi * memory)
            forget = 1 - i if is_coupled else f(forget + pf * memory)
            memory = forget * memory + i * g(c)
            return f(o + po * memory) * h(memory), memory

        return step

    return [cell(index) for index in range(count)]


@LSTM.lower
def lower_lstm(
    X: Tensor,
    W: Tensor,
    R: Tensor,
    B: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    P: Tensor | None = None,
    *,
    activations: list[str] | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    clip: float | None = None,
    direction: str,
    hidden_size: int | None = None,
    input_forget: int,
    output_sequence: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    layer = LoopLayer.of(X, W, R, 4, sequence_lens, direction, hidden_size, layout)
    names = activations or ["Sigmoid", "Tanh", "Tanh"] * layer.ways
    functions = functions_of(names, 3, layer.ways, activation_alpha, activation_beta, clip)
    wb, rb = lower_bias(B, W, layer.x.dtype)
    projected = layer.projected(W, lambda d, row: wb(d, row) + rb(d, row))

    def past(_: Dim, hidden: Tensor) -> Row:
        return lambda d, n, row: recurrent(hidden, R, d, n, row)

    cell = lstm_cell(layer, layer.activations(functions), past, P, is_coupled=bool(input_forget))
    return layer.run(projected, cell, [initial_h, initial_c], X.dtype)


def lstm_cell(
    layer: LoopLayer,
    functions: LoopActivations,
    past: Callable[[Dim, Tensor], Row],
    P: Tensor | None,
    *,
    is_coupled: bool,
) -> LoopCell:
    """A step of LSTM: ``past`` tells what the hidden states of a time give to the gates."""
    h, dtype = layer.hidden, layer.x.dtype
    f, g, h_of = functions

    def cell(t: Dim, x: Row, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, memory = states
        given = past(t, hidden)

        def gate(k: int, d: DimLike, n: DimLike, j: DimLike) -> Scalar:
            return x(d, n, k * h + j) + given(d, n, k * h + j)

        def peephole(k: int, d: DimLike, j: DimLike, seen: Scalar) -> Scalar | float:
            return 0.0 if P is None else cast(P[d, k * h + j], dtype) * seen

        def new_memory(d: DimLike, n: DimLike, j: DimLike) -> Scalar:
            old = memory[d, n, j]
            i = f(d, gate(0, d, n, j) + peephole(0, d, j, old))
            forget = 1.0 - i
            if not is_coupled:
                forget = f(d, gate(2, d, n, j) + peephole(2, d, j, old))
            return forget * old + i * g(d, gate(3, d, n, j))

        def new_hidden(d: DimLike, n: DimLike, j: DimLike) -> Scalar:
            new = following[d, n, j]
            return f(d, gate(1, d, n, j) + peephole(1, d, j, new)) * h_of(d, new)

        following = compute(layer.shape, new_memory)
        return compute(layer.shape, new_hidden), following

    return cell


GRU = (
    op("""GRU <activation_alpha: floats?, activation_beta: floats?, activations: strings?,
             clip: float?, direction: string = "foward", hidden_size: int?,
             output_sequence: int = 0> (X: T, W: T, R: T, B: T?, sequence_lens: T1?,
             initial_h: T?) => (Y: T?, Y_h: T)""",
       since=1, T=FLOAT, T1=I32)
    .since(3, """GRU <activation_alpha: floats?, activation_beta: floats?, activations: strings?,
                 clip: float?, direction: string = "forward", hidden_size: int?,
                 linear_before_reset: int = 0, output_sequence: int = 0> (X: T, W: T, R: T, B:
                 T?, sequence_lens: T1?, initial_h: T?) => (Y: T?, Y_h: T?)""")
    .since(7, """GRU <activation_alpha: floats?, activation_beta: floats?, activations: strings?,
                 clip: float?, direction: string = "forward", hidden_size: int?,
                 linear_before_reset: int = 0> (X: T, W: T, R: T, B: T?, sequence_lens: T1?,
                 initial_h: T?) => (Y: T?, Y_h: T?)""")
    .since(14, """GRU <activation_alpha: floats?, activation_beta: floats?, activations: strings?,
                 clip: float?, direction: string = "forward", hidden_size: int?, layout: int = 0,
                 linear_before_reset: int = 0> (X: T, W: T, R: T, B: T?, sequence_lens: T1?,
                 initial_h: T?) => (Y: T?, Y_h: T?)""")
    .since(22, T=+BF16)
)  # fmt: skip


@GRU.infer
def infer_gru(
    X: Fact,
    W: Fact,
    R: Fact,
    *others: Fact | None,
    direction: str,
    hidden_size: int | None = None,
    layout: int = 0,
    **__: object,
) -> tuple[Fact, ...]:
    return infer_layer(X, W, R, others, 3, direction, hidden_size, layout, 1)


@GRU.kernel
def gru(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None = None,
    sequence_lens: Array | None = None,
    initial_h: Array | None = None,
    *,
    activations: list[str] | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    clip: float | None = None,
    direction: str,
    hidden_size: int | None = None,
    linear_before_reset: int = 0,
    output_sequence: int = 0,
    layout: int = 0,
) -> tuple[Array, ...]:
    """A gated recurrent unit: update gate z, reset gate r, candidate h.

    z, r = σ(Xₜ·Wᵀ + Hₜ₋₁·Rᵀ + Wb + Rb),   Hₜ = (1 − z)∘h + z∘Hₜ₋₁
    h = g(Xₜ·Wᵀ + (r∘Hₜ₋₁)·Rᵀ + Rb + Wb), or g(Xₜ·Wᵀ + r∘(Hₜ₋₁·Rᵀ + Rb) + Wb) with
    linear_before_reset.
    X[S, N, I] · W[D, 3·H, I] · R[D, 3·H, H] · B[D, 6·H] → Y[S, D, N, H], Y_h[D, N, H]
    Gates stand in the order z, r, h. Source: ONNX GRU-14.
    """
    layer = Layer.of(X, W, R, 3, sequence_lens, direction, hidden_size, layout)
    count = len(layer.backward)
    names = activations or ["Sigmoid", "Tanh"] * count
    functions = functions_of(names, 2, count, activation_alpha, activation_beta, clip)
    wb, rb = biases(B, W)

    def cell(index: int) -> Cell:
        f, g = functions[index]
        gates, candidate = np.split(widened(R[index]).T, [2 * layer.hidden], axis=1)
        gate_bias, candidate_bias = np.split(rb[index], [2 * layer.hidden])

        def step(x: Array, states: States) -> States:
            [hidden] = states
            x_gates, x_candidate = np.split(x, [2 * layer.hidden], axis=-1)
            z, r = np.split(f(x_gates + hidden @ gates + gate_bias), 2, axis=-1)
            if linear_before_reset:
                recurrent = r * (hidden @ candidate + candidate_bias)
            else:
                recurrent = (r * hidden) @ candidate + candidate_bias
            return ((1 - z) * g(x_candidate + recurrent) + z * hidden,)

        return step

    cells = [cell(index) for index in range(count)]
    return layer.run(layer.projected(W, wb), cells, [layer.state(initial_h)], X)


@GRU.lower
def lower_gru(
    X: Tensor,
    W: Tensor,
    R: Tensor,
    B: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activations: list[str] | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    clip: float | None = None,
    direction: str,
    hidden_size: int | None = None,
    linear_before_reset: int = 0,
    output_sequence: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    layer = LoopLayer.of(X, W, R, 3, sequence_lens, direction, hidden_size, layout)
    count, h = layer.ways, layer.hidden
    names = activations or ["Sigmoid", "Tanh"] * count
    functions = functions_of(names, 2, count, activation_alpha, activation_beta, clip)
    f, g = layer.activations(functions)
    wb, rb = lower_bias(B, W, layer.x.dtype)

    def cell(t: Dim, x: Row, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        [hidden] = states

        def past(k: int, of: Tensor, d: DimLike, n: DimLike, j: DimLike) -> Scalar:
            return recurrent(of, R, d, n, k * h + j) + rb(d, k * h + j)

        def gate(k: int, d: DimLike, n: DimLike, j: DimLike) -> Scalar:
            return f(d, x(d, n, k * h + j) + past(k, hidden, d, n, j))

        def mixed(d: DimLike, n: DimLike, j: DimLike, update: Scalar, fresh: Scalar) -> Scalar:
            candidate = g(d, x(d, n, 2 * h + j) + fresh)
            return (1.0 - update) * candidate + update * hidden[d, n, j]

        def linear(d: DimLike, n: DimLike, j: DimLike) -> Scalar:
            fresh = gate(1, d, n, j) * past(2, hidden, d, n, j)
            return mixed(d, n, j, gate(0, d, n, j), fresh)

        if linear_before_reset:
            return (compute(layer.shape, linear),)
        # The candidate sums over all of what is reset, so that is complete first.
        update = stored_at(compute(layer.shape, lambda *i: gate(0, *i)), t)
        reset = compute(layer.shape, lambda *i: gate(1, *i) * hidden[i])
        kept = stored_at(reset, t)

        def new(d: DimLike, n: DimLike, j: DimLike) -> Scalar:
            return mixed(d, n, j, update[d, n, j], past(2, kept, d, n, j))

        return (compute(layer.shape, new),)

    return layer.run(layer.projected(W, wb), cell, [initial_h], X.dtype)
