"""Derivatives of RNN, LSTM and GRU: what they compute, written with Scan, is differentiated.

Sequences of one length, without clipping, with activations that have no parameters; anything else
is declined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fornix.errors import NotSupported
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.types import TensorType
from fornix.ops.fact import Fact
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.reverse import differentiate
from fornix.ops.grads.term import Make, Term
from fornix.ops.recurrence import DIRECTIONS
from fornix.ops.recurrent import GRU, LSTM, RNN

Terms = Sequence[Term]
Function = Callable[[Term], Term]
Step = Callable[[Term, Terms], list[Term]]
"""From the projected input [batch, gates · hidden] and the states to new states, output first."""

ACTIVATIONS = {name.lower(): name for name in ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")}
LENGTHS, FIRST_STATE, PEEPHOLES = 4, 5, 7
"""Places of the inputs sequence_lens, initial_h and P."""


@RNN.grad
def grad_rnn(*inputs: Term | None, node: GradNode, **attributes: Any) -> Gradients:
    def step(cell: Cell) -> Step:
        [f] = cell.functions
        return lambda x, states: [f(x + states[0].MatMul(cell.recurrent[0]))]

    return _Layer(inputs, ["Tanh"], step, node, attributes).gradients()


@GRU.grad
def grad_gru(*inputs: Term | None, node: GradNode, **attributes: Any) -> Gradients:
    resets_late = bool(attributes.get("linear_before_reset", 0))

    def step(cell: Cell) -> Step:
        f, g = cell.functions

        def new_states(x: Term, states: Terms) -> list[Term]:
            [h] = states
            z = f(cell.gate(x, 0) + h.MatMul(cell.recurrent[0]))
            r = f(cell.gate(x, 1) + h.MatMul(cell.recurrent[1]))
            if resets_late:
                inner = r * cell.biased(h.MatMul(cell.recurrent[2]))
            else:
                inner = cell.biased((r * h).MatMul(cell.recurrent[2]))
            return [(1 - z) * g(cell.gate(x, 2) + inner) + z * h]

        return new_states

    layer = _Layer(inputs, ["Sigmoid", "Tanh"], step, node, attributes)
    layer.is_biased_late = True
    return layer.gradients()


@LSTM.grad
def grad_lstm(*inputs: Term | None, node: GradNode, **attributes: Any) -> Gradients:
    if attributes.get("input_forget", 0):
        raise NotSupported("with input_forget it has no derivative here")

    def step(cell: Cell) -> Step:
        f, g, h_of = cell.functions

        def new_states(x: Term, states: Terms) -> list[Term]:
            h, c = states
            let_in, let_out, keep, new = (
                cell.gate(x, i) + h.MatMul(cell.recurrent[i]) for i in range(4)
            )
            let_in, keep = f(cell.peeped(let_in, c, 0)), f(cell.peeped(keep, c, 2))
            c = keep * c + let_in * g(new)
            return [f(cell.peeped(let_out, c, 1)) * h_of(c), c]

        return new_states

    return _Layer(inputs, ["Sigmoid", "Tanh", "Tanh"], step, node, attributes).gradients()


class Cell:
    """What a step reads: R by gate, transposed, the peepholes P[3 · hidden] and activations."""

    def __init__(self, r: Term, p: Term | None, functions: Sequence[Function]) -> None:
        gates, hidden = (_known_extent(r, axis) for axis in (0, 1))
        self.hidden, self.functions, self.p = hidden, functions, p
        self.recurrent = [
            rows(r, gate * hidden, hidden).Transpose(perm=[1, 0]) for gate in range(gates // hidden)
        ]
        self.bias: Term | None = None
        """Added to the last gate before it is reset, in GRU."""

    def gate(self, x: Term, index: int) -> Term:
        """The columns of one gate."""
        make, start = x.make, index * self.hidden
        ends = make.ints([start]), make.ints([start + self.hidden])
        return make.Slice(x, *ends, make.ints([1]))

    def biased(self, x: Term) -> Term:
        """``x`` with the late bias."""
        return x if self.bias is None else x + self.bias

    def peeped(self, gate: Term, c: Term, index: int) -> Term:
        """``gate`` with what it sees of the cell."""
        if self.p is None:
            return gate
        return gate + c * rows(self.p, index * self.hidden, self.hidden)


def rows(x: Term, start: int, count: int) -> Term:
    """Some entries along the first axis."""
    return x.make.Slice(x, x.make.ints([start]), x.make.ints([start + count]))


def _known_extent(x: Term, axis: int) -> int:
    extent = x.shape[axis]
    if not isinstance(extent, int):
        raise NotSupported("the extents of R have to be known before a run")
    return extent


class _Layer:
    """A recurrent layer written with Scan, one per direction."""

    is_biased_late = False

    def __init__(
        self,
        inputs: Sequence[Term | None],
        defaults: Sequence[str],
        step: Callable[[Cell], Step],
        node: GradNode,
        attributes: dict[str, Any],
    ) -> None:
        self.inputs, self.step, self.node, self.make = inputs, step, node, node.make
        self.directions = DIRECTIONS[attributes["direction"]]
        self.is_batch_first = bool(attributes.get("layout", 0))
        if self._given(LENGTHS) is not None:
            raise NotSupported("with sequence_lens it has no derivative here")
        if attributes.get("clip"):
            raise NotSupported("with clip it has no derivative here")
        names = attributes.get("activations") or list(defaults)
        if len(names) < len(defaults) * len(self.directions):
            names = list(names) * len(self.directions)
        for name in names:
            if name.lower() not in ACTIVATIONS:
                raise NotSupported(f"with the activation {name} it has no derivative here")
        self.names = [ACTIVATIONS[name.lower()] for name in names]
        self.functions = len(defaults)

    def _given(self, index: int) -> Term | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def gradients(self) -> tuple[Term | None, ...]:
        """Gradients of the inputs through the Scans."""
        places = [i for i in range(len(self.inputs)) if self.node.needs(i)]
        own = [x if x is None or i not in places else x.Identity()
               for i, x in enumerate(self.inputs)]  # fmt: skip
        self.inputs = own
        results = self._results()
        seeds = {
            results[i].value: gradient
            for i, gradient in enumerate(self.node.gradients)
            if gradient is not None
        }
        xs = [term.value for term in (own[i] for i in places) if term is not None]
        found: list[Term | None] = [None] * len(own)
        for place, gradient in zip(places, differentiate(seeds, xs, self.make), strict=True):
            found[place] = gradient
        return tuple(found)

    def _results(self) -> list[Term]:
        """Y[T, D, B, H] and the last states [D, B, H], or batch first."""
        make = self.make
        x = self._given(0)
        if x is None:
            raise NotSupported("X is required")
        x = x.Transpose(perm=[1, 0, 2]) if self.is_batch_first else x
        passes = [self._pass(x, d, is_reverse) for d, is_reverse in enumerate(self.directions)]
        y = make.Concat(*(make.unsqueeze(states[-1], [1]) for states in passes), axis=1)
        last = [
            make.Concat(*(make.unsqueeze(states[i], [0]) for states in passes), axis=0)
            for i in range(len(passes[0]) - 1)
        ]
        if not self.is_batch_first:
            return [y, *last]
        return [y.Transpose(perm=[2, 0, 1, 3]), *(x.Transpose(perm=[1, 0, 2]) for x in last)]

    def _of(self, index: int, direction: int) -> Term | None:
        """What an input says of one direction."""
        given = self._given(index)
        return None if given is None else self.make.squeeze(rows(given, direction, 1), [0])

    def _pass(self, x: Term, direction: int, is_reverse: bool) -> list[Term]:
        """Last states, and all outputs [T, B, H]."""
        w, r, b = (self._of(i, direction) for i in (1, 2, 3))
        if w is None or r is None:
            raise NotSupported("W and R are required")
        names = self.names[direction * self.functions : (direction + 1) * self.functions]
        functions = [_function(name) for name in names]
        cell = Cell(r, self._of(PEEPHOLES, direction), functions)
        projected = x.MatMul(w.Transpose(perm=[1, 0]))
        if b is not None:
            projected = projected + self._bias(b, cell)
        states = [
            self._first_state(FIRST_STATE + i, direction, x, cell.hidden)
            for i in range(2 if self.node.operator is LSTM else 1)
        ]
        return _scanned(projected, states, self.step(cell), is_reverse)

    def _bias(self, b: Term, cell: Cell) -> Term:
        """The bias of the input; of GRU without that of the last gate's state."""
        make, count = self.make, len(cell.recurrent) * cell.hidden
        of_input, of_state = rows(b, 0, count), rows(b, count, count)
        if not self.is_biased_late:
            return of_input + of_state
        early = count - cell.hidden
        cell.bias = rows(of_state, early, cell.hidden)
        nothing = make.constant(np.zeros(cell.hidden, b.dtype.numpy))
        return of_input + make.Concat(rows(of_state, 0, early), nothing, axis=0)

    def _first_state(self, index: int, direction: int, x: Term, hidden: int) -> Term:
        given = self._given(index)
        make = self.make
        if given is None:
            zero = make.constant(np.zeros((), x.dtype.numpy))
            return make.Expand(zero, make.joined([make.extent(x, 1), hidden]))
        if self.is_batch_first:
            given = given.Transpose(perm=[1, 0, 2])
        return make.squeeze(rows(given, direction, 1), [0])


def _function(name: str) -> Function:
    return lambda x: getattr(x, name)()


def _scanned(x: Term, states: Sequence[Term], step: Step, is_reverse: bool) -> list[Term]:
    """The last states and all outputs of ``step`` over the first axis of ``x``."""
    make = x.make
    types = [*(s.fact.type for s in states), TensorType(x.dtype, x.shape[1:])]
    inputs = [Value(None, type_) for type_ in types]
    body = Graph("step", inputs)
    inner = Make(body, None, make.knowledge, make.label)
    for value in inputs:
        make.knowledge.facts[value] = Fact(value.type)
    *given, row = map(inner.term, inputs)
    new = step(row, given)
    body.outputs = [inner.Identity(term).value for term in (*new, new[0])]
    turn = [int(is_reverse)]
    node = Node(
        "",
        "Scan",
        [*(state.value for state in states), x.value],
        len(new) + 1,
        {
            "body": body,
            "num_scan_inputs": 1,
            "scan_input_directions": turn,
            "scan_output_directions": turn,
        },
        name=make.label,
    )
    make.insert(node)
    return [make.term(value) for value in node.outputs]
