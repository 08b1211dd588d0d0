"""Recurrent layers step by step, reductions of integers, determinants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tests.ops.differential.refused import Refused

if TYPE_CHECKING:
    from tests.ops.differential.space import Case

Formula = Callable[["Case"], list[Any]]

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Tanh": np.tanh,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Softplus": lambda x: np.logaddexp(x, 0),
}
WITH_ALPHA: dict[str, Callable[[Any, float], Any]] = {
    "LeakyRelu": lambda x, a: np.where(x < 0, a * x, x),
    "ThresholdedRelu": lambda x, a: np.where(x > a, x, 0),
    "Elu": lambda x, a: np.where(x < 0, a * np.expm1(x), x),
}
WITH_BOTH: dict[str, Callable[[Any, float, float], Any]] = {
    "Affine": lambda x, a, b: a * x + b,
    "ScaledTanh": lambda x, a, b: a * np.tanh(b * x),
    "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


NEARLY = 1e-9
"""What rounding may take from a logarithm that is an integer."""


def activations(kinds: list[str], given: Mapping[str, Any]) -> list[Callable[[Any], Any]]:
    """The functions, each with the next alpha and beta if it takes them."""
    alphas, betas = (iter(given.get(f"activation_{n}") or ()) for n in ("alpha", "beta"))

    def function(kind: str) -> Callable[[Any], Any]:
        if kind in WITH_ALPHA:
            alpha = next(alphas)
            return lambda x: WITH_ALPHA[kind](x, alpha)
        if kind in WITH_BOTH:
            alpha, beta = next(alphas), next(betas)
            return lambda x: WITH_BOTH[kind](x, alpha, beta)
        return ACTIVATIONS[kind]

    return [function(kind) for kind in kinds]


def recurrent(case: Case) -> list[Any]:
    """RNN, GRU and LSTM; states past the end of a sequence are kept, outputs there are 0."""
    given = case.attributes
    padded = [*case.inputs, *[None] * (8 - len(case.inputs))]
    x, w, r, bias, lengths, h0, c0, peephole = (
        v.astype(np.float64) if v is not None and v.dtype.kind != "i" else v for v in padded
    )
    if given.get("layout"):
        x = np.swapaxes(x, 0, 1)
        h0, c0 = (None if s is None else np.swapaxes(s, 0, 1) for s in (h0, c0))
    steps, batch, _ = x.shape
    directions, hidden = r.shape[0], r.shape[2]
    kinds = given.get("activations") or DEFAULTS[case.name] * directions
    functions = activations(kinds, given)
    per = len(kinds) // directions
    zeros = np.zeros((batch, hidden))
    outputs = np.zeros((steps, directions, batch, hidden))
    last_h, last_c = np.zeros((2, directions, batch, hidden))
    for d in range(directions):
        backwards = given.get("direction") == "reverse" or d == 1
        cell = Cell(
            case,
            w[d],
            r[d],
            None if bias is None else bias[d],
            functions[d * per : d * per + per],
            None if peephole is None else peephole[d],
        )
        for b in range(batch):
            h = (zeros if h0 is None else h0[d])[b]
            c = (zeros if c0 is None else c0[d])[b]
            length = steps if lengths is None else int(lengths[b])
            for t in reversed(range(length)) if backwards else range(length):
                h, c = cell.step(x[t, b], h, c)
                outputs[t, d, b] = h
            # what the last state of a sequence of length 0 is, the standard does not say
            last_h[d, b], last_c[d, b] = h, c
    results = [outputs, last_h, last_c][: case.outputs]
    if given.get("layout"):
        results = [outputs.transpose(2, 0, 1, 3), *(np.swapaxes(s, 0, 1) for s in results[1:])]
    return [v.astype(case.inputs[0].dtype) for v in results]


class Cell:
    """One direction's cell."""

    def __init__(
        self,
        case: Case,
        w: Any,
        r: Any,
        bias: Any,
        functions: list[Callable[[Any], Any]],
        peephole: Any,
    ) -> None:
        self.case, self.w, self.r = case, w, r
        self.hidden = r.shape[1]
        rows = len(w)
        self.wb: Any
        self.rb: Any
        self.wb, self.rb = (np.zeros((2, rows))) if bias is None else (bias[:rows], bias[rows:])
        self.f, self.g, self.h = (functions * 3)[:3]
        self.peephole = np.zeros(3 * self.hidden) if peephole is None else peephole

    def clipped(self, x: Any) -> Any:
        clip = self.case.attributes.get("clip")
        return x if clip is None else np.clip(x, -clip, clip)

    def step(self, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
        ways: dict[str, Callable[..., tuple[Any, Any]]] = {
            "RNN": self.rnn,
            "GRU": self.gru,
            "LSTM": self.lstm,
        }
        return ways[self.case.name](x, h, c)

    def rnn(self, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
        return self.f(self.clipped(self.w @ x + self.r @ h + self.wb + self.rb)), c

    def gru(self, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
        n = self.hidden
        wx, rh = self.w @ x + self.wb, self.r @ h + self.rb
        z = self.f(self.clipped(wx[:n] + rh[:n]))
        r = self.f(self.clipped(wx[n : 2 * n] + rh[n : 2 * n]))
        if self.case.attributes.get("linear_before_reset"):
            new = self.g(self.clipped(wx[2 * n :] + r * rh[2 * n :]))
        else:
            new = self.g(self.clipped(wx[2 * n :] + self.r[2 * n :] @ (r * h) + self.rb[2 * n :]))
        return (1 - z) * new + z * h, c

    def lstm(self, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
        n = self.hidden
        i, o, f, g = (self.w @ x + self.r @ h + self.wb + self.rb).reshape(4, n)
        pi, po, pf = self.peephole.reshape(3, n)
        i = self.f(self.clipped(i + pi * c))
        f = 1 - i if self.case.attributes.get("input_forget") else self.f(self.clipped(f + pf * c))
        c = f * c + i * self.g(self.clipped(g))
        o = self.f(self.clipped(o + po * c))
        return o * self.h(self.clipped(c)), c


def einsum(case: Case) -> list[Any]:
    """PyTorch's sum, in double precision or in 64-bit integers."""
    dtype = case.inputs[0].dtype
    wide = np.int64 if dtype.kind in "iu" else np.float64
    terms = [torch.tensor(x.astype(wide)) for x in case.inputs]
    return [torch.einsum(case.attributes["equation"], *terms).numpy().astype(dtype)]


def reduction(case: Case) -> list[Any]:
    """Logarithms of sums of small positive integers, in double precision and cut."""
    x = case.inputs[0]
    if x.dtype.kind not in "iu":
        raise Refused("the peers answer")
    axes = case.inputs[1] if len(case.inputs) > 1 else case.attributes.get("axes")
    if axes is None or len(axes) == 0:
        if case.attributes.get("noop_with_empty_axes"):
            raise Refused("what remains is not said")
        axes = range(x.ndim)
    terms = np.exp(x.astype(np.float64)) if case.name == "ReduceLogSumExp" else x.astype(np.float64)
    keepdims = bool(case.attributes.get("keepdims", 1))
    result = np.log(terms.sum(tuple(int(a) for a in axes), keepdims=keepdims))
    return [np.asarray(np.trunc(result + NEARLY)).astype(x.dtype)]


def det(case: Case) -> list[Any]:
    x = case.inputs[0]
    return [np.asarray(np.linalg.det(x.astype(np.float64))).astype(x.dtype)]


def gemm(case: Case) -> list[Any]:
    a, b, c = (*case.inputs, None)[:3]
    given = case.attributes
    if a.dtype.kind in "iu" and not all(
        float(given.get(n, 1)).is_integer() for n in ("alpha", "beta")
    ):
        raise Refused("what remains of integers is not said")
    a, b = (v.astype(np.float64) for v in (a, b))
    y = given.get("alpha", 1.0) * (
        (a.T if given.get("transA") else a) @ (b.T if given.get("transB") else b)
    )
    if c is not None:
        y = y + given.get("beta", 1.0) * c.astype(np.float64)
    return [y.astype(case.inputs[0].dtype)]


FORMULAS: dict[str, Formula] = {
    "Det": det,
    "Einsum": einsum,
    "GRU": recurrent,
    "Gemm": gemm,
    "LSTM": recurrent,
    "RNN": recurrent,
    "ReduceLogSum": reduction,
    "ReduceLogSumExp": reduction,
}
