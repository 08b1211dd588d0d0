"""Recipes of reductions, products and recurrent layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.ops.differential.draw import Arguments, Draw
from tests.ops.differential.recipes.places import list_argument, old_axes

Recipe = Callable[[Draw], Arguments]

REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd"
    " ReduceSum ReduceSumSquare"
).split()


UNDEFINED_OF_NOTHING = ("ReduceLogSum", "ReduceLogSumExp", "ReduceMean")
"""What they give for no integers, or for zeros, has no integer that stands for it."""


def reduction(draw: Draw) -> Arguments:
    shape = draw.shape(1 if draw.opset < 11 else 0)
    axes = draw.maybe(lambda: draw.axes(len(shape), empty=draw.takes("axes")))
    argument, given = list_argument(draw, "axes", axes)
    if given.get("axes"):
        given["axes"] = old_axes(draw, given["axes"], len(shape))
    elif "axes" in given:
        given["axes"] = None
    flags = {"keepdims": draw.pick((None, 0, 1)), "noop_with_empty_axes": draw.pick((None, 0, 1))}
    x = draw.array("T", shape, mild=True)
    if x.dtype.kind in "iu" and draw.schema.name in UNDEFINED_OF_NOTHING:
        x = np.abs(draw.weights("T", [max(n, 1) for n in shape]))
        x = np.asarray(np.maximum(x, 1), draw.dtype("T").numpy)
    return Arguments([x, argument], given | flags)


def arg_reduction(draw: Draw) -> Arguments:
    shape = draw.shape(1, zero=False)
    axis = draw.axis(len(shape)) if draw.opset >= 11 else draw.whole(0, len(shape) - 1)
    flags = {name: draw.pick((None, 0, 1)) for name in ("keepdims", "select_last_index")}
    return Arguments([draw.array("T", shape)], flags | {"axis": draw.maybe(lambda: axis)})


def matmul(draw: Draw) -> Arguments:
    m, k, n = (draw.whole(1, 4) for _ in range(3))
    if draw.chance(0.08):
        m, k, n = (0 if draw.chance(0.4) else e for e in (m, k, n))
    batch = draw.shape(0, 2, zero=False)
    a, b = (*draw.broadcast(batch), m, k), (*draw.broadcast(batch), k, n)
    if draw.chance(0.2):
        a = (k,)
    if draw.chance(0.2):
        b = (k,)
    return Arguments([draw.weights("T", a), draw.weights("T", b)])


def gemm(draw: Draw) -> Arguments:
    m, k, n = (draw.whole(1, 4) for _ in range(3))
    a, b = draw.chance(), draw.chance()
    shape = draw.pick(((m, n), (n,), (1, n), (m, 1), (1,), ()))
    given: dict[str, Any] = {"transA": int(a), "transB": int(b)}
    given |= {name: draw.maybe(draw.real) for name in ("alpha", "beta")}
    if not draw.dtype("T").is_float:
        given |= {"alpha": draw.pick((None, 2.0)), "beta": draw.pick((None, 3.0))}
    if draw.has("broadcast"):
        given["broadcast"] = int(shape != (m, n))
    c = draw.weights("T", shape)
    x = draw.weights("T", (k, m) if a else (m, k))
    y = draw.weights("T", (n, k) if b else (k, n))
    return Arguments([x, y, c if draw.opset < 11 or draw.chance() else None], given)


def det(draw: Draw) -> Arguments:
    n = draw.whole(1, 4)
    return Arguments([draw.weights("T", (*draw.shape(0, 2), n, n))])


LABELS = "abcA"


def einsum(draw: Draw) -> Arguments:
    """Any equation of up to three terms: diagonals, an ellipsis, with or without a result."""
    extents = {label: draw.whole(1, 3) for label in LABELS}
    behind = [draw.whole(1, 3) for _ in range(draw.whole(0, 2))] if draw.chance(0.3) else None
    terms, shapes = [], []
    for _ in range(draw.pick((1, 2, 2, 2, 3))):
        own = [draw.pick(LABELS) for _ in range(draw.whole(0 if behind is None else 1, 3))]
        shape = [extents[label] for label in own]
        if behind is not None:
            at = draw.whole(0, len(own))
            shape[at:at] = [n if draw.chance(0.8) else 1 for n in behind]
            own.insert(at, "...")
        terms.append("".join(own))
        shapes.append(tuple(shape))
    equation = draw.pick((",", ", ")).join(terms)
    if draw.chance(0.7):
        used = [label for label in LABELS if label in equation]
        kept = [used[i] for i in draw.rng.permutation(len(used))[: draw.whole(0, len(used))]]
        if behind is not None:
            kept.insert(draw.whole(0, len(kept)), "...")
        equation += draw.pick(("->", " -> ")) + "".join(kept)
    return Arguments([draw.weights("T", shape) for shape in shapes], {"equation": equation})


GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
ACTIVATIONS = {"RNN": 1, "LSTM": 3, "GRU": 2}
KINDS = ("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus")
ALPHA_ONLY, ALPHA_AND_BETA = (
    ("LeakyRelu", "ThresholdedRelu", "Elu"),
    ("Affine", "ScaledTanh", "HardSigmoid"),
)
"""Activations that take numbers from ``activation_alpha`` and ``activation_beta``, in order."""


def recurrent(draw: Draw) -> Arguments:
    name = draw.schema.name
    direction = draw.pick(("forward", "reverse", "bidirectional"))
    d = 2 if direction == "bidirectional" else 1
    steps, batch, width, hidden = (draw.whole(1, 4) for _ in range(4))
    rows = GATES[name] * hidden
    layout = draw.pick((0, 0, 1)) if draw.has("layout") else None

    def state() -> Any:
        return draw.weights("T", (batch, d, hidden) if layout else (d, batch, hidden))

    x = draw.weights("T", (batch, steps, width) if layout else (steps, batch, width))
    w, r = draw.weights("T", (d, rows, width)), draw.weights("T", (d, rows, hidden))
    bias = draw.maybe(lambda: draw.weights("T", (d, 2 * rows)))
    lengths = draw.maybe(lambda: draw.rng.integers(0, steps + 1, batch).astype(np.int32))
    inputs = [x, w, r, bias, lengths, draw.maybe(state)]
    if name == "LSTM":
        inputs += [draw.maybe(state), draw.maybe(lambda: draw.weights("T", (d, 3 * hidden)))]
    given: dict[str, Any] = {"hidden_size": hidden, "direction": direction, "layout": layout}
    given["clip"] = draw.real(0.2, 2) if draw.chance(0.3) else None
    kinds = [
        draw.pick((*KINDS, *ALPHA_ONLY, *ALPHA_AND_BETA)) for _ in range(d * ACTIVATIONS[name])
    ]
    if draw.chance():
        given["activations"] = kinds
        alphas = [draw.real(0.1, 1) for kind in kinds if kind in (*ALPHA_ONLY, *ALPHA_AND_BETA)]
        betas = [draw.real(0.1, 1) for kind in kinds if kind in ALPHA_AND_BETA]
        given |= {"activation_alpha": alphas or None, "activation_beta": betas or None}
        if name != "RNN":  # gates without bounds: states grow with the square of the weights
            inputs = [
                x if x is None or x.dtype.kind == "i" else x * np.asarray(0.25, x.dtype)
                for x in inputs
            ]
    given["input_forget"] = draw.pick((None, None, 1)) if name == "LSTM" else None
    given["linear_before_reset"] = draw.pick((None, 0, 1))
    return Arguments(inputs, given, 3 if name == "LSTM" else 2)


RECIPES: dict[str, Recipe] = {
    **dict.fromkeys(REDUCTIONS, reduction),
    "ArgMax": arg_reduction,
    "ArgMin": arg_reduction,
    "Det": det,
    "Einsum": einsum,
    "GRU": recurrent,
    "Gemm": gemm,
    "LSTM": recurrent,
    "MatMul": matmul,
    "RNN": recurrent,
}
