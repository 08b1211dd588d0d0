"""Recurrent layers as loops: one scan over the projected input, for all directions and sequences.

The input times its weights is a matrix product for all steps at once; a step is left with what
depends on the step before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fornix.dtype import DType
from fornix.errors import require
from fornix.ir.dim import Dim, DimLike, equal
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    gathered,
    index,
    reduce,
    scan,
    select,
    stored,
)
from fornix.ops.geometry import shape_text
from fornix.ops.precision import cast_tensor, wide_dtype
from fornix.ops.recurrence import DIRECTIONS, Activation, check_layer

Row = Callable[[DimLike, DimLike, DimLike], Scalar]
"""What a step reads of the projected input, by direction, sequence and row, gate by gate."""
LoopCell = Callable[[Dim, Row, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""From time, projected input and states [directions, batch, hidden] to new states."""
Bias = Callable[[DimLike, DimLike], Scalar | float]
LoopActivations = tuple[Callable[[DimLike, Scalar], Scalar], ...]
"""The activations of a cell, each of a direction and a number."""


@dataclass(frozen=True)
class LoopLayer:
    """`recurrence.Layer` for lowerings: one scan for all; states stop where sequences end."""

    x: Tensor
    """[steps, batch, input], whatever the layout; wide."""
    lengths: Tensor | None
    hidden: DimLike
    backward: tuple[bool, ...]
    is_batch_first: bool

    @classmethod
    def of(
        cls,
        X: Tensor,
        W: Tensor,
        R: Tensor,
        gates: int,
        sequence_lens: Tensor | None,
        direction: str,
        hidden_size: int | None,
        layout: int,
    ) -> LoopLayer:
        """The layer of these inputs; raises ShapeError where they do not fit each other."""
        check_layer(X.shape, W.shape, R.shape, gates, direction, hidden_size)
        x = cast_tensor(X, wide_dtype(X.dtype))
        if layout:
            n, t, k = x.shape
            turned = x
            x = compute((t, n, k), lambda i, j, q: turned[j, i, q])
        return cls(
            stored(x, "input"),
            sequence_lens,
            R.shape[-1] if hidden_size is None else hidden_size,
            DIRECTIONS[direction],
            bool(layout),
        )

    @property
    def ways(self) -> int:
        """How many directions there are."""
        return len(self.backward)

    @property
    def shape(self) -> tuple[DimLike, DimLike, DimLike]:
        """Extents of a state: directions, batch and hidden."""
        return self.ways, self.x.shape[1], self.hidden

    def length(self, n: DimLike) -> Scalar:
        """Steps of sequence ``n``, checked."""
        steps = self.x.shape[0]
        if self.lengths is None:
            return index(steps)
        return index(gathered(self.lengths[n], steps + 1))

    def place(self, t: DimLike, n: DimLike, *, is_backward: bool) -> DimLike:
        """What step ``t`` reads of sequence ``n``; behind its end, step t itself.

        Going backward and reading a result at a place are the same turn.
        """
        steps = self.x.shape[0]
        if not is_backward:
            return t
        if self.lengths is None:
            return steps - 1 - t
        length = self.length(n)
        return gathered(select(index(t) < length, length - 1 - index(t), index(t)), steps)

    def state(self, initial: Tensor | None) -> Tensor:
        """The initial state: zeros if there is none."""
        dtype = self.x.dtype
        if initial is None:
            return compute(self.shape, lambda *_: 0, dtype)
        given = initial
        if self.is_batch_first:
            return compute(self.shape, lambda d, n, j: cast(given[n, d, j], dtype))
        return compute(self.shape, lambda d, n, j: cast(given[d, n, j], dtype))

    def activations(self, functions: Sequence[Sequence[Activation]]) -> LoopActivations:
        """Those of each direction as functions of direction and number."""

        def chosen(k: int) -> Callable[[DimLike, Scalar], Scalar]:
            def call(d: DimLike, x: Scalar) -> Scalar:
                return self.of_way(d, lambda way: functions[way][k](x))

            return call

        return tuple(chosen(k) for k in range(len(functions[0])))

    def of_way(self, d: DimLike, value: Callable[[int], Scalar]) -> Scalar:
        """``value`` of the direction ``d``, of which there are one or two."""
        first = value(0)
        return first if self.ways == 1 else select(apply("eq", index(d), 0), first, value(1))

    def run(
        self, projected: Tensor, cell: LoopCell, initial: Sequence[Tensor | None], dtype: DType
    ) -> tuple[Tensor, ...]:
        """All hidden states and the last states, laid out and typed as the operator gives them."""
        steps = self.x.shape[0]

        def step(t: Dim, *states: Tensor) -> list[Tensor]:
            def read(d: DimLike, n: DimLike, row: DimLike) -> Scalar:
                def shown(way: int) -> Scalar:
                    place = self.place(t, n, is_backward=self.backward[way])
                    return projected[d, place, n, row]

                return self.of_way(d, shown)

            def going(new: Tensor, old: Tensor) -> Tensor:
                return compute(
                    self.shape,
                    lambda d, n, j: select(index(t) < self.length(n), new[d, n, j], old[d, n, j]),
                )

            return list(map(going, cell(t, read, states), states))

        histories = scan(steps, [self.state(given) for given in initial], step)

        def every(t: DimLike, d: DimLike, n: DimLike, j: DimLike) -> Scalar:
            def shown(way: int) -> Scalar:
                place = self.place(t, n, is_backward=self.backward[way])
                return histories[0][place + 1, d, n, j]

            return cast(select(index(t) < self.length(n), self.of_way(d, shown), 0), dtype)

        lasts = [
            compute(self.shape, lambda d, n, j, h=h: cast(h[steps, d, n, j], dtype))
            for h in histories
        ]
        results = [compute((steps, *self.shape), every), *lasts]
        if self.is_batch_first:
            results = [_batch_first(result) for result in results]
        return tuple(stored(result) for result in results)

    def projected(self, W: Tensor, bias: Bias) -> Tensor:
        """The input times the weights: [directions, steps, batch, gates·hidden]."""
        x, dtype = self.x, self.x.dtype

        def at(d: DimLike, t: DimLike, n: DimLike, row: DimLike) -> Scalar:
            product = reduce("sum", x.shape[2], lambda q: x[t, n, q] * cast(W[d, row, q], dtype))
            return product + bias(d, row)

        return stored(compute((self.ways, *x.shape[:2], W.shape[1]), at), "projected")


def _batch_first(x: Tensor) -> Tensor:
    """``x`` with the batch, last but one, ahead: [*A, batch, hidden] → [batch, *A, hidden]."""
    *lead, batch, hidden = x.shape
    return compute((batch, *lead, hidden), lambda n, *i: x[(*i[:-1], n, i[-1])])


def lower_bias(B: Tensor | None, W: Tensor, dtype: DType) -> LoopBias:
    """The input's bias and the recurrence's, each of a direction and a row; 0 if there is none."""
    if B is None:
        return (lambda *_: 0.0), (lambda *_: 0.0)
    given, count = B, W.shape[1]
    wanted = (W.shape[0], count * 2)
    fits = len(given.shape) == 2 and all(
        equal(found, extent) is not False for found, extent in zip(given.shape, wanted, strict=True)
    )
    require(
        fits,
        f"B must be {shape_text(wanted)}, found {shape_text(given.shape)}",
    )
    return (
        lambda d, row: cast(given[d, row], dtype),
        lambda d, row: cast(given[d, count + row], dtype),
    )


LoopBias = tuple[Bias, Bias]


def recurrent(hidden: Tensor, R: Tensor, d: DimLike, n: DimLike, row: DimLike) -> Scalar:
    """What the states of sequence ``n`` give to ``row`` in direction ``d``."""
    extent = hidden.shape[2]
    return reduce("sum", extent, lambda q: hidden[d, n, q] * cast(R[d, row, q], hidden.dtype))
