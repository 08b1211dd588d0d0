"""Recurrent layers as loops: a scan per direction over the projected input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fornix.dtype import DType
from fornix.errors import require
from fornix.ir.dim import DimLike, equal
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
)
from fornix.ops.geometry import shape_text
from fornix.ops.precision import cast_tensor, wide_dtype
from fornix.ops.recurrence import DIRECTIONS, check_layer

Row = Callable[[DimLike, DimLike], Scalar]
"""The element (sequence, row) of what a step reads: the projected input, gate by gate."""
LoopCell = Callable[[int, Row, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""From direction, projected input and states [batch, hidden] to new states."""


@dataclass(frozen=True)
class LoopLayer:
    """`recurrence.Layer` for lowerings: a scan per direction; states stop where sequences end."""

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
        return cls(x, sequence_lens, R.shape[-1], DIRECTIONS[direction], bool(layout))

    @property
    def shape(self) -> tuple[DimLike, DimLike]:
        """Extents of a state: batch and hidden."""
        return self.x.shape[1], self.hidden

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

    def state(self, initial: Tensor | None, d: int) -> Tensor:
        """The initial state of direction ``d``: zeros if there is none."""
        dtype = self.x.dtype
        if initial is None:
            return compute(self.shape, lambda *_: 0, dtype)
        given = initial
        if self.is_batch_first:
            return compute(self.shape, lambda n, j: cast(given[n, d, j], dtype))
        return compute(self.shape, lambda n, j: cast(given[d, n, j], dtype))

    def run(
        self,
        W: Tensor,
        bias: Callable[[int, DimLike], Scalar | float],
        cell: LoopCell,
        initial: Sequence[Tensor | None],
        dtype: DType,
    ) -> tuple[Tensor, ...]:
        """All hidden states and the last states, laid out and typed as the operator gives them."""
        runs = [
            self._histories(d, self._projected(W, bias, d), cell, initial)
            for d in range(len(self.backward))
        ]
        steps, (batch, hidden), ways = self.x.shape[0], self.shape, len(runs)

        def every(t: DimLike, d: DimLike, n: DimLike, j: DimLike) -> Scalar:
            def shown(way: int) -> Scalar:
                place = self.place(t, n, is_backward=self.backward[way])
                return runs[way][0][place + 1, n, j]

            return cast(select(index(t) < self.length(n), of_way(d, ways, shown), 0), dtype)

        def last(d: DimLike, n: DimLike, j: DimLike, state: int) -> Scalar:
            return cast(of_way(d, ways, lambda way: runs[way][state][steps, n, j]), dtype)

        lasts = [
            compute((ways, batch, hidden), lambda d, n, j, k=k: last(d, n, j, k))
            for k in range(len(initial))
        ]
        results = [compute((steps, ways, batch, hidden), every), *lasts]
        if self.is_batch_first:
            results = [_batch_first(result) for result in results]
        return tuple(results)

    def _projected(
        self, W: Tensor, bias: Callable[[int, DimLike], Scalar | float], d: int
    ) -> Tensor:
        """The input times the weights of direction ``d``: [steps, batch, gates·hidden]."""
        x, dtype = self.x, self.x.dtype

        def at(t: DimLike, n: DimLike, row: DimLike) -> Scalar:
            product = reduce("sum", x.shape[2], lambda q: x[t, n, q] * cast(W[d, row, q], dtype))
            return product + bias(d, row)

        return compute((*x.shape[:2], W.shape[1]), at)

    def _histories(
        self, d: int, projected: Tensor, cell: LoopCell, initial: Sequence[Tensor | None]
    ) -> tuple[Tensor, ...]:
        def step(t: DimLike, *states: Tensor) -> list[Tensor]:
            def read(n: DimLike, row: DimLike) -> Scalar:
                return projected[self.place(t, n, is_backward=self.backward[d]), n, row]

            def going(new: Tensor, old: Tensor) -> Tensor:
                return compute(
                    self.shape,
                    lambda n, j: select(index(t) < self.length(n), new[n, j], old[n, j]),
                )

            return list(map(going, cell(d, read, states), states))

        return scan(self.x.shape[0], [self.state(given, d) for given in initial], step)


def of_way(d: DimLike, ways: int, value: Callable[[int], Scalar]) -> Scalar:
    """``value`` of the direction ``d``, of which there are one or two."""
    return value(0) if ways == 1 else select(apply("eq", index(d), 0), value(0), value(1))


def _batch_first(x: Tensor) -> Tensor:
    """``x`` with the batch, last but one, ahead: [*A, batch, hidden] → [batch, *A, hidden]."""
    *lead, batch, hidden = x.shape
    return compute((batch, *lead, hidden), lambda n, *i: x[(*i[:-1], n, i[-1])])


def lower_bias(B: Tensor | None, W: Tensor, dtype: DType) -> LoopBias:
    """The input's bias and the recurrence's, each of a direction and a row; 0 if there is none."""
    if B is None:
        return (lambda *_: 0.0), (lambda *_: 0.0)
    given, count = B, W.shape[1]
    fits = len(given.shape) == 2 and equal(given.shape[1], count * 2) is not False
    require(
        fits,
        f"B must be {shape_text((W.shape[0], 2 * count))}, found {shape_text(given.shape)}",
    )
    return (
        lambda d, row: cast(given[d, row], dtype),
        lambda d, row: cast(given[d, count + row], dtype),
    )


LoopBias = tuple[Callable[[int, DimLike], Scalar | float], Callable[[int, DimLike], Scalar | float]]


def recurrent(hidden: Tensor, R: Tensor, d: int, n: DimLike, row: DimLike) -> Scalar:
    """What the states of sequence ``n`` give to ``row`` in direction ``d``."""
    extent = hidden.shape[1]
    return reduce("sum", extent, lambda q: hidden[n, q] * cast(R[d, row, q], hidden.dtype))
