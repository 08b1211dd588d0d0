"""Nodes of which only the shape is read, or that change nothing, are held to their rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.errors import FornixError, ShapeError
from fornix.runtime import InferenceSession, making
from fornix.runtime.program import Program

Shapes = Mapping[str, tuple[int, ...]]

SHAPE_OF = {
    "Add": "s = Add (x, k) y = Shape (s)",
    "Where": "c = Cast <to = 9> (k) s = Where (c, x, k) y = Shape (s)",
    "Max": "s = Max (x, k, k) y = Shape (s)",
    "Expand": "t = Shape (k) s = Expand (x, t) y = Shape (s)",
    "Concat": "s = Concat <axis = 0> (x, k) y = Shape (s)",
}


def session(text: str) -> InferenceSession:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> f {text}')
    return InferenceSession(model)


def run(found: InferenceSession, shapes: Shapes) -> np.ndarray[Any, Any]:
    (y,) = found.run(None, {name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    return np.asarray(y)


@pytest.mark.parametrize("op_type", SHAPE_OF)
def test_what_only_its_shape_is_read_of_has_to_broadcast(op_type: str) -> None:
    found = session(f"(float[2, 9] x, float[2, m] k) => (int64[2] y) {{ {SHAPE_OF[op_type]} }}")
    broadcasts, axis = op_type != "Concat", 0
    for extent in (9, 1, 9):
        if extent == 1 and not broadcasts:
            continue
        y = run(found, {"x": (2, 9), "k": (2, extent)})
        assert y.tolist() == [2 if broadcasts else 4, 9][axis:]
    for extent in (2, 0, 18) if broadcasts else (2, 0, 18, 1):
        with pytest.raises(ShapeError, match=rf"\({op_type}, opset 18\)"):
            run(found, {"x": (2, 9), "k": (2, extent)})


def test_an_expand_that_changes_nothing_is_held_to_its_shape() -> None:
    found = session("(float[9] x, float[] k) => (float[n] y) { s = Shape (k) y = Expand (x, s) }")
    for extent in (9, 1, 9):
        assert run(found, {"x": (9,), "k": (extent,)}).shape == (9,)
    for extent in (2, 0, 3):
        with pytest.raises(ShapeError, match=r"node for 'y' \(Expand"):
            run(found, {"x": (9,), "k": (extent,)})


@pytest.mark.parametrize(
    "text", ["m, j] x, float[k, 4", "9, j] x, float[5, 4", "9, 5] x, float[k, 4"]
)
def test_factors_of_which_only_the_shape_is_read_have_terms_in_common(text: str) -> None:
    found = session(f"(float[{text}] w) => (int64[2] y) {{ s = MatMul (x, w) y = Shape (s) }}")
    assert run(found, {"x": (9, 5), "w": (5, 4)}).tolist() == [9, 4]
    for one, other in [(5, 6), (6, 5), (1, 5), (5, 1), (0, 5)]:
        with pytest.raises(FornixError, match=r"MatMul|is float32"):
            run(found, {"x": (9, one), "w": (other, 4)})


def test_an_operand_that_is_not_chosen_has_to_broadcast() -> None:
    text = "(float[9] x, float[m] k) => (float[n] y) <bool[1] c = {1}> { y = Where (c, x, k) }"
    found = session(text)
    for extent in (9, 1):
        assert run(found, {"x": (9,), "k": (extent,)}).shape == (9,)
    for extent in (2, 0):
        with pytest.raises(ShapeError, match=r"node for 'y' \(Where"):
            run(found, {"x": (9,), "k": (extent,)})


def test_elements_that_are_counted_fill_the_shape() -> None:
    found = session(
        "(float[m, 2] x, float[k] w) => (int64[1] y)"
        "{ t = Shape (w) s = Reshape (x, t) y = Shape (s) }"
    )
    assert run(found, {"x": (3, 2), "w": (6,)}).tolist() == [6]
    assert run(found, {"x": (0, 2), "w": (0,)}).tolist() == [0]
    for shapes in ({"x": (3, 2), "w": (5,)}, {"x": (1, 2), "w": (1,)}, {"x": (0, 2), "w": (3,)}):
        with pytest.raises(ShapeError, match=r"\(Reshape"):
            run(found, shapes)


def test_what_no_output_is_made_of_is_asked_nothing() -> None:
    found = session("(float[9] x, float[m] k) => (float[9] y) { s = Add (x, k) y = Neg (x) }")
    assert run(found, {"x": (9,), "k": (4,)}).shape == (9,)


@pytest.mark.parametrize("extents", ["m, k", "j, 1", "1, k"])
def test_an_addend_does_not_broadcast_a_product_of_one_row(extents: str) -> None:
    found = session(
        f"(float[1, 3] x, float[3, 1] w, float[{extents}] b) => (float[1, 1] y)"
        "{ y = Gemm (x, w, b) }"
    )
    assert run(found, {"x": (1, 3), "w": (3, 1), "b": (1, 1)}).tolist() == [[4]]
    wrong = [int(extent) if extent == "1" else 3 for extent in extents.split(", ")]
    with pytest.raises(ShapeError, match="must broadcast to the product's shape"):
        run(found, {"x": (1, 3), "w": (3, 1), "b": tuple(wrong)})


def test_extents_that_ask_for_each_other_and_a_number_are_both_that_number() -> None:
    found = session(
        "(float[n, n, 3] x, float[2, k, 1] w) => (int64[3] y)"
        "{ s = Concat <axis = 2> (w, x) y = Shape (s) }"
    )
    assert run(found, {"x": (2, 2, 3), "w": (2, 2, 1)}).tolist() == [2, 2, 4]
    for extents in [(3, 3), (2, 3), (3, 2)]:
        with pytest.raises(ShapeError, match=r"\(Concat"):
            run(found, {"x": (extents[0], extents[0], 3), "w": (2, extents[1], 1)})


def test_what_meets_twice_its_length_has_one_element() -> None:
    found = session(
        "(float[m] x) => (int64[1] y)"
        "{ both = Concat <axis = 0> (x, x) s = Mul (x, both) y = Shape (s) }"
    )
    assert run(found, {"x": (1,)}).tolist() == [2]
    assert run(found, {"x": (0,)}).tolist() == [0]
    with pytest.raises(ShapeError, match=r"\(Mul"):
        run(found, {"x": (2,)})


def test_an_extent_of_nothing_in_a_computed_shape_copies_one() -> None:
    found = session(
        "(float[a, b, 3] x) => (float[l, m, n] y)"
        "{ t = Transpose (x) s = Shape (t) y = Reshape (x, s) }"
    )
    assert run(found, {"x": (2, 4, 3)}).shape == (3, 4, 2)
    assert run(found, {"x": (0, 0, 3)}).shape == (3, 0, 3)
    with pytest.raises(ShapeError, match=r"\(Reshape"):
        run(found, {"x": (0, 2, 3)})


def test_extents_that_nodes_do_not_ask_for_are_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = session(f"(float[2, 9] x, float[2, m] k) => (int64[2] y) {{ {SHAPE_OF['Add']} }}")
    make, numbers = making.make_program, list[Mapping[str, int]]()

    def noted(*args: Any, **options: Any) -> Program:
        numbers.append(args[4])
        return make(*args, **options)

    monkeypatch.setattr(making, "make_program", noted)
    for extent in (2, 2, 3, 2, 3):
        with pytest.raises(ShapeError, match=r"\(Add"):
            run(found, {"x": (2, 9), "k": (2, extent)})
    assert numbers == [{"m": 2}, {"m": 3}]


def test_an_extent_of_one_broadcasts_in_a_program_of_its_own() -> None:
    found = session(
        "(float[m, 2] x, float[k, 1] w) => (int64[2] y) { s = Mul (x, w) y = Shape (s) }"
    )
    for one, other in [(1, 3), (3, 1), (1, 4), (1, 1)]:
        shapes = {"x": (one, 2), "w": (other, 1)}
        assert run(found, shapes).tolist() == [max(one, other), 2]
        assert found._programs is not None
        found._programs.chosen({name: np.ones(shape) for name, shape in shapes.items()})


def test_what_is_not_known_beside_an_extent_of_nothing_is_not_what_is_left() -> None:
    found = session(
        "(float[c, 1, a] x, float[k, c] w) => (float[l, m] y) <int64[2] s = {2, -1}>"
        "{ v = Reshape (x, s) u = Shape (w) y = Reshape (v, u) }"
    )
    assert run(found, {"x": (0, 1, 3), "w": (3, 0)}).shape == (3, 0)
    assert run(found, {"x": (0, 1, 1), "w": (1, 0)}).shape == (1, 0)
