from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import parser

from fornix.dtype import FLOAT32
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import tensor
from fornix.runtime import InferenceSession
from tests.ops.harness import check_lowering, check_node, infer_op, lower_op, run_op

B, S = symbol("B"), symbol("S")

EQUATIONS = [
    ("ij->ji", [(2, 3)]),
    ("ij", [(2, 3)]),
    ("ba", [(2, 3)]),
    ("ij->", [(2, 3)]),
    ("ii", [(3, 3)]),
    ("ii->i", [(3, 3)]),
    ("iij->j", [(3, 3, 2)]),
    ("ij,jk", [(2, 3), (3, 4)]),
    ("ij , jk -> ik", [(2, 3), (3, 4)]),
    ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)]),
    ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
    ("i,i", [(4,), (4,)]),
    ("i,j->ij", [(4,), (3,)]),
    ("i,i->i", [(4,), (4,)]),
    ("ij,kl->", [(2, 3), (4, 5)]),
    ("ij,kl->il", [(2, 3), (4, 5)]),
    ("...ij,...jk->...ik", [(7, 2, 3), (3, 4)]),
    ("...ij,...jk", [(2, 1, 2, 3), (5, 3, 4)]),
    ("i...->...i", [(2, 3, 4)]),
    ("i...,i...", [(2, 3), (2, 3)]),
    ("...", [(2, 3)]),
    ("i...->i", [(2, 3, 4)]),
    ("ij,ij->ij", [(1, 3), (2, 3)]),
    ("ij,jk->ik", [(2, 1), (3, 4)]),
    ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
    ("abc,cd,be,a->de", [(2, 3, 4), (4, 5), (3, 2), (2,)]),
    ("aB,Bc->ca", [(2, 3), (3, 4)]),
    (",i->i", [(), (3,)]),
    ("ij,j->i", [(0, 3), (3,)]),
]


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint8])
def test_einsum_agrees_with_numpy(equation: str, shapes: list[tuple[int, ...]], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.integers(0, 5, shape).astype(dtype) for shape in shapes]
    # The standard sums the ellipsis away where the result leaves it out; NumPy refuses to.
    text = equation.replace("i...->i", "ijk->i")
    expected = np.asarray(np.einsum(text, *inputs), dtype)
    check_node("Einsum", inputs, {"equation": equation}, expected=[expected], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_einsum_rounds_narrow_floats_once(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(dtype) for s in ((4, 128), (4, 128)))
    exact = np.einsum("ik,jk->ij", a.astype(np.float64), b.astype(np.float64)).astype(dtype)
    step = float(ml_dtypes.finfo(dtype).eps)
    attributes = {"equation": "ik,jk->ij"}
    check_node("Einsum", [a, b], attributes, expected=[exact], rtol=step, atol=1e-5)


def test_einsum_infers_symbolic_extents() -> None:
    q = k = tensor(FLOAT32, (B, 12, S, 64))
    assert infer_op("Einsum", [q, k], {"equation": "bhid,bhjd->bhij"})[0].shape == (B, 12, S, S)
    [y] = infer_op("Einsum", [q, tensor(FLOAT32, (64, 9))], {"equation": "...i,ij"})
    assert y.shape == (B, 12, S, 9)


@pytest.mark.parametrize(
    ("equation", "shapes", "message"),
    [
        ("i1,j", [(2, 3), (3,)], "a term of the equation must be letters and at most one '...'"),
        ("i...j...", [(2, 3)], "got 'i...j...'"),
        ("ij", [(2, 3), (3,)], "the equation 'ij' describes 1 inputs, found 2"),
        ("ij", [(2, 3, 4)], "the term 'ij' must describe every axis of input 0, whose rank is 3"),
        ("ijk...", [(2, 3)], r"the term 'ijk\.\.\.' must describe every axis of input 0"),
        ("ij->ik", [(2, 3)], r"the result of 'ij->ik' has the label \['k'\] of no input"),
        ("ij->ii", [(2, 3)], "the result of 'ij->ii' must have each label once"),
        ("ij,jk", [(2, 3), (4, 5)], r"must have one extent, got \[3, 4\] for 'j'"),
    ],
)
def test_equations_that_do_not_fit_are_named(
    equation: str, shapes: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("Einsum", [np.zeros(s, np.float32) for s in shapes], {"equation": equation})
    with pytest.raises(ShapeError, match=message):
        infer_op("Einsum", [tensor(FLOAT32, s) for s in shapes], {"equation": equation})


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
@pytest.mark.parametrize("dtype", [np.float16, np.int32])
def test_einsum_is_lowered(equation: str, shapes: list[Any], dtype: Any) -> None:
    stream = np.random.default_rng(0)
    inputs = [np.asarray(stream.standard_normal(shape) * 9).astype(dtype) for shape in shapes]
    check_lowering("Einsum", inputs, {"equation": equation})


def drawn_equation(stream: np.random.Generator) -> tuple[str, list[tuple[int, ...]]]:
    """An equation of two to four terms, some of whose axes repeat or broadcast, and shapes."""
    extents = {label: int(stream.integers(1, 5)) for label in "abcdef"}
    terms, shapes = [], []
    for _ in range(stream.integers(2, 5)):
        term = "".join(stream.choice(list("abcdef"), stream.integers(1, 5)))
        shape = [extents[label] for label in term]
        if len(set(term)) == len(term) and stream.random() < 0.3:
            shape[stream.integers(len(shape))] = 1
        terms.append(term)
        shapes.append(tuple(shape))
    found = sorted(set("".join(terms)))
    result = "".join(stream.permutation([label for label in found if stream.random() < 0.5]))
    return ",".join(terms) + "->" + result, shapes


@pytest.mark.parametrize("seed", range(40))
def test_all_equations_agree_with_numpy(seed: int) -> None:
    stream = np.random.default_rng(seed)
    equation, shapes = drawn_equation(stream)
    inputs = [stream.integers(-4, 5, shape).astype(np.int64) for shape in shapes]
    attributes = {"equation": equation}
    expected = np.asarray(np.einsum(equation, *inputs), np.int64)
    check_node("Einsum", inputs, attributes, expected=[expected])
    [found] = lower_op("Einsum", inputs, attributes, is_symbolic=False)
    np.testing.assert_array_equal(found, expected)


def test_sums_of_sums_are_computed_once() -> None:
    """Inside another sum, or beside axes that it lacks, each would be computed again and again."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[9, 64] a, float[64, 70] b, float[70, 80] c, float[200] d) => (float[M, N, K] y)
    { y = Einsum <equation = "ij,jk,kl,m->mil"> (a, b, c, d) }"""
    session = InferenceSession(parser.parse_model(text), providers=["CPUExecutionProvider"])
    stream = np.random.default_rng(0)
    shapes = {"a": (9, 64), "b": (64, 70), "c": (70, 80), "d": (200,)}
    feeds = {k: stream.integers(-4, 5, shape).astype(np.float32) for k, shape in shapes.items()}
    expected = np.einsum("ij,jk,kl,m->mil", *feeds.values(), optimize=True)
    np.testing.assert_array_equal(session.run(None, feeds)[0], expected)
    done = sum(entry.operations or 0 for entry in session.profile(feeds).entries)
    assert done < 2 * (9 * 64 * 70 + 9 * 70 * 80) + 4 * 200 * 9 * 80
