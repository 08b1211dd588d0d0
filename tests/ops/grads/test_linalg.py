from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fornix.errors import NotSupported
from tests.ops.grads.harness import Case, check, random

PRODUCTS = [
    ((2, 3, 4), (4, 5)),
    ((3, 4), (2, 1, 4, 5)),
    ((4,), (2, 4, 5)),
    ((2, 3, 4), (4,)),
    ((4,), (4,)),
]


@pytest.mark.parametrize(("a", "b"), PRODUCTS)
def test_matrix_products_broadcast_and_take_vectors(a: Any, b: Any) -> None:
    check("MatMul", [random(*a), random(*b, seed=1)], peer=torch.matmul)


@pytest.mark.parametrize("second", [0, 1])
@pytest.mark.parametrize("first", [0, 1])
def test_gemm_with_either_factor_transposed(first: int, second: int) -> None:
    a = random(*((4, 3) if first else (3, 4)))
    b = random(*((5, 4) if second else (4, 5)), seed=1)
    attributes = {"transA": first, "transB": second, "alpha": 0.5, "beta": 2.0}
    check("Gemm", [a, b, random(5, seed=2)], attributes)
    check("Gemm", [a, b], attributes, differences=False, peer=lambda a, b: 0.5 * (
        (a.T if first else a) @ (b.T if second else b)))  # fmt: skip


EQUATIONS: list[tuple[str, list[tuple[int, ...]]]] = [
    ("ij,jk->ik", [(2, 3), (3, 4)]),
    ("bij,bkj->bik", [(2, 3, 4), (2, 5, 4)]),
    ("i,j->ij", [(3,), (4,)]),
    ("ij->i", [(2, 3)]),
    ("ij->ji", [(2, 3)]),
    ("ijk,j->ik", [(2, 3, 4), (3,)]),
    ("...ij,...jk->...ik", [(2, 3, 4), (2, 4, 2)]),
    ("...ij,...jk->...ik", [(1, 3, 4), (2, 4, 2)]),
    ("ij...,j->i...", [(2, 3, 4), (3,)]),
    ("ij, jk", [(2, 3), (3, 4)]),
    ("ij,kl->i", [(2, 3), (4, 2)]),
    ("ij,ij,ik->jk", [(2, 3), (2, 3), (2, 4)]),
]


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
def test_einsum(equation: str, shapes: list[tuple[int, ...]]) -> None:
    inputs = [random(*shape, seed=i) for i, shape in enumerate(shapes)]
    of_inputs = [0] if equation == "ij...,j->i..." else None
    check(
        "Einsum",
        inputs,
        {"equation": equation},
        peer=lambda *x: torch.einsum(equation, *x),
        of_inputs=of_inputs,
    )


def test_einsum_says_what_it_cannot_differentiate() -> None:
    with pytest.raises(NotSupported, match="the derivative of a diagonal, ii, is not supported"):
        Case("Einsum", [random(3, 3)], {"equation": "ii->i"}).gradients(["x0"])
    case = Case("Einsum", [random(2, 3, 4), random(3)], {"equation": "ij...,j->i..."})
    with pytest.raises(NotSupported, match="an input without the ellipsis is not supported"):
        case.gradients(["x1"])


def test_the_rank_of_a_factor_has_to_be_known() -> None:
    with pytest.raises(NotSupported, match="the rank of 'x1' has to be known; declare its shape"):
        Case("MatMul", [random(2, 2), np.ones((2, 2))], dims="unknown").gradients(["x0"])


@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4), (2, 3, 2, 2), (2, 1, 1), (2, 0, 0)])
def test_determinants(shape: tuple[int, ...]) -> None:
    check("Det", [random(*shape)], peer=torch.linalg.det, dims=["static"])


def test_the_determinant_of_a_singular_matrix_has_a_derivative() -> None:
    x = np.outer([1.0, 2, 3], [1, -1, 2])
    x[2] = [0, 1, 5]
    check("Det", [x], dims=["static"])
    check("Det", [np.zeros((2, 2))], dims=["static"])


def test_the_size_of_matrices_has_to_be_known() -> None:
    with pytest.raises(NotSupported, match="the size of its matrices has to be known before a run"):
        Case("Det", [random(2, 2)], dims="symbolic").gradients(["x0"])
