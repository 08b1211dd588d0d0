"""Recurrent layers: RNN, LSTM and GRU, all directions, layouts, activations and sequence lengths.

The three differ in their cell, a function from the projected input and the states to new states.
`Layer` does what they share: it orders steps per direction, stops every sequence at its length, and
lays out the results. Narrow floats are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fornix.errors import require
from fornix.ir.dim import DimLike, known
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.op import op
from fornix.ops.precision import widened
from fornix.ops.types import BF16, FLOAT, I32

Activation = Callable[[Array], Array]
States = tuple[Array, ...]
Cell = Callable[[Array, States], States]
"""From the projected input [batch, gates·hidden] and the states [batch, hidden] to new states."""

DIRECTIONS = {
    "forward": (False,),
    "foward": (False,),  # the default that GRU-1 declares
    "reverse": (True,),
    "bidirectional": (False, True),
}
"""For each direction of the attribute, which passes run backward."""


def _affine(x: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
    return alpha * x + beta


def _leaky_relu(x: Array, alpha: float = 0.01) -> Array:
    return np.where(x >= 0, x, alpha * x)


def _thresholded_relu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x >= alpha, x, 0)


def _scaled_tanh(x: Array, alpha: float = 1.0, beta: float = 1.0) -> Array:
    return alpha * np.tanh(beta * x)


def _hard_sigmoid(x: Array, alpha: float = 0.2, beta: float = 0.5) -> Array:
    return np.clip(alpha * x + beta, 0, 1)


def _elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


ACTIVATIONS: dict[str, tuple[Callable[..., Array], int, int]] = {
    "relu": (lambda x: np.maximum(x, 0), 0, 0),
    "tanh": (np.tanh, 0, 0),
    "sigmoid": (_sigmoid, 0, 0),
    "affine": (_affine, 1, 1),
    "leakyrelu": (_leaky_relu, 1, 0),
    "thresholdedrelu": (_thresholded_relu, 1, 0),
    "scaledtanh": (_scaled_tanh, 1, 1),
    "hardsigmoid": (_hard_sigmoid, 1, 1),
    "elu": (_elu, 1, 0),
    "softsign": (lambda x: x / (1 + np.abs(x)), 0, 0),
    "softplus": (lambda x: np.logaddexp(x, 0), 0, 0),
}
"""Function, and how many values it takes from activation_alpha and activation_beta."""


def _activations(
    names: Sequence[str],
    count: int,
    alpha: Sequence[float] | None,
    beta: Sequence[float] | None,
    clip: float | None,
) -> list[Activation]:
    """The ``count`` functions that ``names`` stand for, with their parameters.

    Functions take alpha and beta from the lists in order, each only what it has; what the lists
    lack has the default of the operator of that name. ``clip`` bounds their arguments.
    """
    require(len(names) == count, f"activations must name {count} functions, got {list(names)}")
    alphas, betas = list(alpha or ()), list(beta or ())
    made = []
    for name in names:
        require(
            name.lower() in ACTIVATIONS,
            f"activations must be among {', '.join(ACTIVATIONS)}, got {name!r}",
        )
        function, takes_alpha, takes_beta = ACTIVATIONS[name.lower()]
        given = {}
        if takes_alpha and alphas:
            given["alpha"] = alphas.pop(0)
        if takes_beta and betas:
            given["beta"] = betas.pop(0)
        made.append(_activation(function, given, clip))
    return made


def _activation(
    function: Callable[..., Array], given: dict[str, float], clip: float | None
) -> Activation:
    if clip is None:
        return lambda x: function(x, **given)
    return lambda x: function(np.clip(x, -clip, clip), **given)


@dataclass(frozen=True)
class Layer:
    """What the cells have in common: shapes, directions, lengths and layout."""

    x: Array
    """[steps, batch, input], whatever the layout."""
    lengths: Array
    """Steps of each sequence."""
    hidden: int
    backward: tuple[bool, ...]
    is_batch_first: bool

    @classmethod
    def of(
        cls,
        X: Array,
        R: Array,
        sequence_lens: Array | None,
        direction: str,
        hidden_size: int | None,
        layout: int,
    ) -> Layer:
        """The layer of these inputs; raises ShapeError where they do not fit each other."""
        _check(X.shape, R.shape, direction, hidden_size)
        x = widened(X).swapaxes(0, 1) if layout else widened(X)
        lengths = np.full(x.shape[1], x.shape[0]) if sequence_lens is None else sequence_lens
        require(
            lengths.shape == (x.shape[1],) and bool(np.all((lengths >= 0) & (lengths <= len(x)))),
            f"sequence_lens must hold {x.shape[1]} lengths in [0, {len(x)}], "
            f"got {lengths.tolist()}",
        )
        return cls(x, lengths.astype(np.int64), R.shape[-1], DIRECTIONS[direction], bool(layout))

    def state(self, initial: Array | None) -> Array:
        """Initial states [directions, batch, hidden]; zeros if there are none."""
        shape = (len(self.backward), self.x.shape[1], self.hidden)
        if initial is None:
            return np.zeros(shape, self.x.dtype)
        state = widened(initial).swapaxes(0, 1) if self.is_batch_first else widened(initial)
        require(
            state.shape == shape,
            f"initial states must be {shape_text(shape)}, found {shape_text(state.shape)}",
        )
        return state

    def run(
        self, W: Array, bias: Array, cells: Sequence[Cell], initial: Sequence[Array], dtype: Array
    ) -> tuple[Array, ...]:
        """All hidden states and the last states, laid out and typed as the operator gives them."""
        steps, batch, _ = self.x.shape
        every = np.zeros((steps, len(self.backward), batch, self.hidden), self.x.dtype)
        last = [state.copy() for state in initial]
        for index, is_backward in enumerate(self.backward):
            projected = self.x @ widened(W[index]).T + bias[index]
            states = tuple(state[index] for state in initial)
            for step in range(steps):
                place = np.where(self.lengths > step, step, 0)
                if is_backward:
                    place = np.where(self.lengths > step, self.lengths - 1 - step, 0)
                rows = np.arange(batch)
                runs = (self.lengths > step)[:, None]
                new = cells[index](projected[place, rows], states)
                states = tuple(np.where(runs, n, s) for n, s in zip(new, states, strict=True))
                going = runs[:, 0]
                every[place[going], index, rows[going]] = states[0][going]
            for state, final in zip(last, states, strict=True):
                state[index] = final
        if self.is_batch_first:
            every = every.transpose(2, 0, 1, 3)
            last = [state.swapaxes(0, 1) for state in last]
        return tuple(result.astype(dtype.dtype) for result in (every, *last))


def _check(
    x: Sequence[DimLike], r: Sequence[DimLike], direction: str, hidden_size: int | None
) -> None:
    require(
        direction in DIRECTIONS,
        f"direction must be forward, reverse or bidirectional, got {direction!r}",
    )
    require(len(x) == 3, f"X must have 3 axes, found X{shape_text(x)}")
    require(len(r) == 3, f"R must have 3 axes, found R{shape_text(r)}")
    count = len(DIRECTIONS[direction])
    require(
        known(r[0]) in {None, count},
        f"R{shape_text(r)} must begin with the number of directions of {direction!r}, {count}",
    )
    require(
        hidden_size is None or known(r[2]) in {None, hidden_size},
        f"R{shape_text(r)} must end with hidden_size={hidden_size}",
    )


def _infer(
    X: Fact, R: Fact, direction: str, hidden_size: int | None, layout: int, states: int
) -> tuple[Fact, ...]:
    hidden: DimLike | None = R.shape[2] if R.has_rank and R.rank == 3 else hidden_size
    if R.has_rank:
        _check(X.shape, R.shape, direction, hidden_size)
    steps, batch, _ = X.shape if not layout else (X.shape[1], X.shape[0], X.shape[2])
    directions = len(DIRECTIONS.get(direction, ()))
    last = [batch, directions, hidden] if layout else [directions, batch, hidden]
    every = [batch, steps, directions, hidden] if layout else [steps, directions, batch, hidden]
    return (tensor(X.dtype, every), *[tensor(X.dtype, last)] * states)


def _biases(B: Array | None, W: Array) -> tuple[Array, Array]:
    """The input's and the recurrence's bias, each [directions, gates·hidden]."""
    count = W.shape[1]
    if B is None:
        zeros = np.zeros(W.shape[:2], widened(W).dtype)
        return zeros, zeros
    require(
        B.shape == (W.shape[0], 2 * count),
        f"B must be {shape_text((W.shape[0], 2 * count))}, found {shape_text(B.shape)}",
    )
    wide = widened(B)
    return wide[:, :count], wide[:, count:]


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
    *_: Fact | None,
    direction: str,
    hidden_size: int | None = None,
    layout: int = 0,
    **__: object,
) -> tuple[Fact, ...]:
    return _infer(X, R, direction, hidden_size, layout, 1)


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
    layer = Layer.of(X, R, sequence_lens, direction, hidden_size, layout)
    count = len(layer.backward)
    functions = _functions(activations[:count], 1, count, activation_alpha, activation_beta, clip)
    wb, rb = _biases(B, W)

    def cell(index: int) -> Cell:
        [f], r = functions[index], widened(R[index]).T
        return lambda x, states: (f(x + states[0] @ r),)

    cells = [cell(index) for index in range(count)]
    return layer.run(W, wb + rb, cells, [layer.state(initial_h)], X)


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
    *_: Fact | None,
    direction: str,
    hidden_size: int | None = None,
    layout: int = 0,
    **__: object,
) -> tuple[Fact, ...]:
    return _infer(X, R, direction, hidden_size, layout, 2)


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
    layer = Layer.of(X, R, sequence_lens, direction, hidden_size, layout)
    count = len(layer.backward)
    names = activations or ["Sigmoid", "Tanh", "Tanh"] * count
    functions = _functions(names, 3, count, activation_alpha, activation_beta, clip)
    wb, rb = _biases(B, W)
    peepholes = np.zeros((count, 3 * layer.hidden), layer.x.dtype) if P is None else widened(P)

    def cell(index: int) -> Cell:
        f, g, h = functions[index]
        r = widened(R[index]).T
        pi, po, pf = np.split(peepholes[index], 3)

        def step(x: Array, states: States) -> States:
            hidden, memory = states
            i, o, forget, c = np.split(x + hidden @ r, 4, axis=-1)
            i = f(i + pi * memory)
            forget = 1 - i if input_forget else f(forget + pf * memory)
            memory = forget * memory + i * g(c)
            return f(o + po * memory) * h(memory), memory

        return step

    initial = [layer.state(initial_h), layer.state(initial_c)]
    return layer.run(W, wb + rb, [cell(index) for index in range(count)], initial, X)


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
    *_: Fact | None,
    direction: str,
    hidden_size: int | None = None,
    layout: int = 0,
    **__: object,
) -> tuple[Fact, ...]:
    return _infer(X, R, direction, hidden_size, layout, 1)


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
    layer = Layer.of(X, R, sequence_lens, direction, hidden_size, layout)
    count = len(layer.backward)
    names = activations or ["Sigmoid", "Tanh"] * count
    functions = _functions(names, 2, count, activation_alpha, activation_beta, clip)
    wb, rb = _biases(B, W)

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
    return layer.run(W, wb, cells, [layer.state(initial_h)], X)


def _functions(
    names: Sequence[str],
    per_direction: int,
    directions: int,
    alpha: Sequence[float] | None,
    beta: Sequence[float] | None,
    clip: float | None,
) -> list[list[Activation]]:
    """The activations of each direction."""
    made = _activations(names, per_direction * directions, alpha, beta, clip)
    return [made[i : i + per_direction] for i in range(0, len(made), per_direction)]
