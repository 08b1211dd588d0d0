"""Derivatives of products, MatMul, Gemm and Einsum, and of Det."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fornix.errors import NotSupported
from fornix.ir.dim import known
from fornix.ops.einsum import Einsum
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.term import Term
from fornix.ops.linalg import Det, Gemm, MatMul

ELLIPSIS = "..."


@MatMul.grad
def grad_mat_mul(a: Term, b: Term, *, node: GradNode) -> Gradients:
    """``a′ = g · bᵀ``, ``b′ = aᵀ · g``; a vector is a row on the left and a column on the right."""
    make, g = node.make, node.g
    left, right = a, b
    if b.rank == 1:
        right, g = make.unsqueeze(b, [1]), make.unsqueeze(g, [-1])
    if a.rank == 1:
        left, g = make.unsqueeze(a, [0]), make.unsqueeze(g, [-2])
    first = second = None
    if node.needs(0):
        first = make.sum_to(make.MatMul(g, make.swapped(right)), left)
    if node.needs(1):
        second = make.sum_to(make.MatMul(make.swapped(left), g), right)
    return (
        first if first is None else make.shaped(first, a),
        second if second is None else make.shaped(second, b),
    )


@Gemm.grad
def grad_gemm(
    a: Term,
    b: Term,
    c: Term | None = None,
    *,
    alpha: float,
    beta: float,
    transA: int,
    transB: int,
    node: GradNode,
) -> Gradients:
    """``y = alpha · a b + beta · c``, with a and b as they are multiplied."""
    make, g = node.make, node.g
    first = second = third = None
    if node.needs(0) and transA:
        first = make.Gemm(b, g, alpha=alpha, transA=transB, transB=1)
    elif node.needs(0):
        first = make.Gemm(g, b, alpha=alpha, transB=1 - transB)
    if node.needs(1) and transB:
        second = make.Gemm(g, a, alpha=alpha, transA=1, transB=transA)
    elif node.needs(1):
        second = make.Gemm(a, g, alpha=alpha, transA=1 - transA)
    if node.needs(2) and c is not None:
        third = make.sum_to(g if beta == 1 else g * beta, c)
    return first, second, third


@Einsum.grad
def grad_einsum(*inputs: Term, equation: str, node: GradNode) -> Gradients:
    """For each input, the product of the gradient and all other inputs, by the same labels."""
    operands, result = _labels(equation)
    gradients: list[Term | None] = []
    for index, x in enumerate(inputs):
        others = [i for i in range(len(inputs)) if i != index]
        gradients.append(
            _of_operand(x, operands, index, result, [inputs[i] for i in others], node)
            if node.needs(index)
            else None
        )
    return tuple(gradients)


def _labels(equation: str) -> tuple[list[list[str]], list[str]]:
    """The labels of the operands and of the result, an ellipsis being one label."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    operands = [_split(part) for part in left.split(",")]
    if arrow:
        return operands, _split(right)
    everything = [label for part in operands for label in part]
    once = sorted(x for x in set(everything) if x != ELLIPSIS and everything.count(x) == 1)
    return operands, [ELLIPSIS, *once] if ELLIPSIS in everything else once


def _split(part: str) -> list[str]:
    return [ELLIPSIS if x == "." else x for x in part.replace(ELLIPSIS, ".")]


def _of_operand(
    x: Term,
    operands: Sequence[list[str]],
    index: int,
    result: list[str],
    others: Sequence[Term],
    node: GradNode,
) -> Term:
    own = operands[index]
    if len(set(own)) != len(own):
        raise NotSupported(f"the derivative of a diagonal, {''.join(own)}, is not supported")
    rest = [part for i, part in enumerate(operands) if i != index]
    reached = {label for part in (*rest, result) for label in part}
    if ELLIPSIS in reached and ELLIPSIS not in own:
        raise NotSupported("the derivative of an input without the ellipsis is not supported")
    kept = [label for label in own if label in reached]
    left = ",".join("".join(part) for part in (result, *rest))
    make = node.make
    g = make.Einsum(node.g, *others, equation=f"{left}->{''.join(kept)}")
    if kept != own:  # what was summed over in x alone is the same everywhere
        g = make.unsqueeze(g, [_place(own, label) for label in own if label not in reached])
    summed = make.sum_to(g, x) if ELLIPSIS in own else g
    return make.expand(summed, x)


def _place(labels: list[str], label: str) -> int:
    """The axis of ``label``, counted from the end behind an ellipsis."""
    at = labels.index(label)
    behind = ELLIPSIS in labels[:at]
    return at - len(labels) if behind else at


@Det.grad
def grad_det(x: Term, *, node: GradNode) -> Gradients:
    """The matrix of cofactors: ± the determinants of what is left without a row and a column."""
    make, size = node.make, known(x.shape[-1])
    if size is None:
        raise NotSupported("the size of its matrices has to be known before a run")
    g = make.unsqueeze(node.g, [-2, -1])
    if size <= 1:
        return make.expand(g, x)
    others = np.array([[j for j in range(size) if j != i] for i in range(size)])
    rest = make.constant(others)
    minors = x.Gather(rest, axis=x.rank - 1).Gather(
        rest, axis=x.rank - 2
    )  # […, i, rows, j, columns]
    *lead, i, rows, j, columns = range(x.rank + 2)
    turned = minors.Transpose(perm=[*lead, i, j, rows, columns])
    signs = np.where(np.indices((size, size)).sum(0) % 2, -1, 1)
    return g * turned.Det() * make.constant(signs.astype(x.dtype.numpy))
