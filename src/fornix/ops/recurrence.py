"""What RNN, LSTM and GRU share: steps per direction, ends of sequences, layouts, activations.

`Layer` runs the cell of an operator, which makes new states of the projected input and the states;
lowerings do so by the `LoopLayer` of `recurrence_loops.py`. Narrow floats are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fornix.errors import require
from fornix.ir.dim import DimLike, equal, known
from fornix.ops import scalar as s
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import of_rank, shape_text
from fornix.ops.precision import widened

Activation = Callable[[s.Operand], s.Operand]
"""Of arrays and of loop scalars."""
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


def _affine(x: s.Operand, alpha: float = 1.0, beta: float = 0.0) -> s.Operand:
    return alpha * x + beta


def _leaky_relu(x: s.Operand, alpha: float = 0.01) -> s.Operand:
    return s.where(s.less(x, 0), alpha * x, x)


def _thresholded_relu(x: s.Operand, alpha: float = 1.0) -> s.Operand:
    return s.where(s.less(x, alpha), 0, x)


def _scaled_tanh(x: s.Operand, alpha: float = 1.0, beta: float = 1.0) -> s.Operand:
    return alpha * s.tanh(beta * x)


def _hard_sigmoid(x: s.Operand, alpha: float = 0.2, beta: float = 0.5) -> s.Operand:
    return s.clip(alpha * x + beta, 0, 1)


def _elu(x: s.Operand, alpha: float = 1.0) -> s.Operand:
    return s.where(s.less(x, 0), alpha * (s.exp(s.minimum(x, 0)) - 1.0), x)


def _sigmoid(x: s.Operand) -> s.Operand:
    return 1.0 / (1.0 + s.exp(-x))


ACTIVATIONS: dict[str, tuple[Callable[..., s.Operand], int, int]] = {
    "relu": (lambda x: s.maximum(x, 0), 0, 0),
    "tanh": (s.tanh, 0, 0),
    "sigmoid": (_sigmoid, 0, 0),
    "affine": (_affine, 1, 1),
    "leakyrelu": (_leaky_relu, 1, 0),
    "thresholdedrelu": (_thresholded_relu, 1, 0),
    "scaledtanh": (_scaled_tanh, 1, 1),
    "hardsigmoid": (_hard_sigmoid, 1, 1),
    "elu": (_elu, 1, 0),
    "softsign": (lambda x: x / (1.0 + s.abs(x)), 0, 0),
    "softplus": (s.softplus, 0, 0),
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
    function: Callable[..., s.Operand], given: dict[str, float], clip: float | None
) -> Activation:
    if clip is None:
        return lambda x: function(x, **given)
    bound = float(clip)
    return lambda x: function(s.clip(x, -bound, bound), **given)


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
        W: Array,
        R: Array,
        gates: int,
        sequence_lens: Array | None,
        direction: str,
        hidden_size: int | None,
        layout: int,
    ) -> Layer:
        """The layer of these inputs; raises ShapeError where they do not fit each other."""
        check_layer(X.shape, W.shape, R.shape, gates, direction, hidden_size)
        x = widened(X).swapaxes(0, 1) if layout else widened(X)
        lengths = np.full(x.shape[1], x.shape[0]) if sequence_lens is None else sequence_lens
        _check_other("sequence_lens", lengths.shape, (x.shape[1],))
        _check_lengths(lengths, len(x))
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

    def projected(self, W: Array, bias: Array) -> Array:
        """The input times the weights of each direction: [directions, steps, batch, rows]."""
        weights = widened(W).swapaxes(1, 2)
        return np.stack([self.x @ w + b for w, b in zip(weights, bias, strict=True)])

    def run(
        self, projected: Array, cells: Sequence[Cell], initial: Sequence[Array], dtype: Array
    ) -> tuple[Array, ...]:
        """All hidden states and the last states, laid out and typed as the operator gives them."""
        steps, batch, _ = self.x.shape
        every = np.zeros((steps, len(self.backward), batch, self.hidden), self.x.dtype)
        last = [state.copy() for state in initial]
        for index, is_backward in enumerate(self.backward):
            states = tuple(state[index] for state in initial)
            for step in range(steps):
                place = np.where(self.lengths > step, step, 0)
                if is_backward:
                    place = np.where(self.lengths > step, self.lengths - 1 - step, 0)
                rows = np.arange(batch)
                runs = (self.lengths > step)[:, None]
                new = cells[index](projected[index, place, rows], states)
                states = tuple(np.where(runs, n, s) for n, s in zip(new, states, strict=True))
                going = runs[:, 0]
                every[place[going], index, rows[going]] = states[0][going]
            for state, final in zip(last, states, strict=True):
                state[index] = final
        if self.is_batch_first:
            every = every.transpose(2, 0, 1, 3)
            last = [state.swapaxes(0, 1) for state in last]
        return tuple(result.astype(dtype.dtype) for result in (every, *last))


def check_layer(
    x: Sequence[DimLike],
    w: Sequence[DimLike],
    r: Sequence[DimLike],
    gates: int,
    direction: str,
    hidden_size: int | None,
) -> None:
    """Raise ShapeError unless X, W and R, of these shapes, fit each other and the attributes."""
    require(
        direction in DIRECTIONS,
        f"direction must be forward, reverse or bidirectional, got {direction!r}",
    )
    for name, shape in (("X", x), ("W", w), ("R", r)):
        require(len(shape) == 3, f"{name} must have 3 axes, found {name}{shape_text(shape)}")
    count = len(DIRECTIONS[direction])
    for name, shape in (("W", w), ("R", r)):
        require(
            known(shape[0]) in {None, count},
            f"{name}{shape_text(shape)} must begin with the number of directions of "
            f"{direction!r}, {count}",
        )
        require(
            equal(shape[1], gates * r[2]) is not False,
            f"{name}{shape_text(shape)} must have {gates} rows for each of {r[2]} hidden elements",
        )
    require(
        hidden_size is None or known(r[2]) in {None, hidden_size},
        f"R{shape_text(r)} must end with hidden_size={hidden_size}",
    )
    require(
        equal(x[2], w[2]) is not False,
        f"X{shape_text(x)} and W{shape_text(w)} must end with the same number of inputs",
    )


def infer_layer(
    X: Fact,
    W: Fact,
    R: Fact,
    others: Sequence[Fact | None],
    gates: int,
    direction: str,
    hidden_size: int | None,
    layout: int,
    states: int,
) -> tuple[Fact, ...]:
    """Facts of all hidden states and of the last ones, ``states`` of them.

    ``others`` are the optional inputs: biases, lengths, initial states, peepholes.
    """
    if X.has_rank and R.has_rank and W.has_rank:
        check_layer(X.shape, W.shape, R.shape, gates, direction, hidden_size)
    x, r = of_rank(X, 3, "X").shape, of_rank(R, 3, "R").shape
    require(len(x) == 3, f"X must have 3 axes, found X{shape_text(x)}")
    hidden = r[-1] if hidden_size is None else hidden_size
    steps, batch = (x[1], x[0]) if layout else x[:2]
    directions = len(DIRECTIONS.get(direction, ()))
    last = [batch, directions, hidden] if layout else [directions, batch, hidden]
    every = [batch, steps, directions, hidden] if layout else [steps, directions, batch, hidden]
    wanted: dict[str, Sequence[DimLike]] = {
        "B": (directions, 2 * gates * hidden),
        "sequence_lens": (batch,),
        **dict.fromkeys(("initial_h", "initial_c")[:states], last),
        "P": (directions, 3 * hidden),
    }
    for (name, shape), given in zip(wanted.items(), others, strict=False):
        if given is not None and given.has_rank:
            _check_other(name, given.shape, shape)
    lengths, count = others[1].constant if len(others) > 1 and others[1] else None, known(steps)
    if lengths is not None and count is not None:
        _check_lengths(lengths, count)
    return (tensor(X.dtype, every), *[tensor(X.dtype, last)] * states)


def _check_lengths(lengths: Array, steps: int) -> None:
    require(
        np.all((lengths >= 0) & (lengths <= steps)),
        f"sequence_lens must hold lengths in [0, {steps}], got {lengths.tolist()}",
    )


def _check_other(name: str, found: Sequence[DimLike], wanted: Sequence[DimLike]) -> None:
    """Raise ShapeError unless an optional input may have the shape that the layer wants."""
    fits = len(found) == len(wanted) and all(
        equal(one, other) is not False for one, other in zip(found, wanted, strict=True)
    )
    require(fits, f"{name} must be {shape_text(wanted)}, found {shape_text(found)}")


def biases(B: Array | None, W: Array) -> tuple[Array, Array]:
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


def functions_of(
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
