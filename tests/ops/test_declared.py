from __future__ import annotations

from collections.abc import Sequence

import pytest

from fornix.dtype import FLOAT32
from fornix.errors import ParseError, ShapeError
from fornix.ir.dim import DimLike, symbol
from fornix.ops.call import InferNode, infer_node
from fornix.ops.declared import rule_of
from fornix.ops.fact import Fact, tensor, unranked
from fornix.ops.op import op
from fornix.ops.signature import parse_signature
from fornix.ops.types import F32

N, M = symbol("batch"), symbol("rest")


def inferred(
    signature: str, *shapes: Sequence[DimLike] | None, outputs: int = 1, **attributes: object
) -> list[str]:
    """Types of the outputs, for float32 inputs of these shapes; None is an unknown rank."""
    operator = op(signature, since=1, T=F32)
    rule = rule_of(operator.schema(1))
    assert rule is not None
    operator.infer(rule)
    node = InferNode(
        operator=operator,
        schema=operator.schema(1),
        opset=1,
        wanted=(True,) * outputs,
        infer_body=lambda *_: [],
    )
    facts: list[Fact] = [
        unranked(FLOAT32) if shape is None else tensor(FLOAT32, shape) for shape in shapes
    ]
    return [str(fact) for fact in infer_node(facts, attributes, node)]


def test_names_stand_for_what_the_inputs_have_there() -> None:
    assert inferred("F (x: T[N, C], w: T[C]) => (y: T[N])", [2, 3], [3]) == ["float32[2]"]
    assert inferred("F (x: T[N, C]) => (y: T[C, N])", [N, 3]) == ["float32[3, batch]"]


def test_expressions_are_computed_exactly() -> None:
    found = inferred("F (x: T[N, C]) => (y: T[2*N + 1, C//2, 7])", [N, 5])
    assert found == ["float32[2*batch + 1, 2, 7]"]


def test_dots_are_any_axes_and_the_same_everywhere() -> None:
    assert inferred("F (x: T[...]) => (y: T[...])", [2, N, 3]) == ["float32[2, batch, 3]"]
    assert inferred("F (x: T[A, ..., C]) => (y: T[C, ...])", [2, 3, 4, 5]) == ["float32[5, 3, 4]"]
    two = "F (x: T[..., C], w: T[...]) => (y: T[..., 1])"
    assert inferred(two, [2, 3, 4], [2, 3]) == ["float32[2, 3, 1]"]
    assert inferred(two, [4], []) == ["float32[1]"]


def test_integer_attributes_give_extents() -> None:
    assert inferred("F <k: int = 3> (x: T[N]) => (y: T[N, k])", [2]) == ["float32[2, 3]"]
    assert inferred("F <k: int = 3> (x: T[N]) => (y: T[N, k])", [2], k=8) == ["float32[2, 8]"]


def test_what_nobody_says_is_unknown_and_says_why() -> None:
    assert inferred("F (x: T[N]) => (y: T[K, K], z: T[?])", [2], outputs=2) == [
        "float32[?, ?]",
        "float32[?]",
    ]
    operator = op("F (x: T[N]) => (y: T[K, K])", since=1, T=F32)
    rule = rule_of(operator.schema(1))
    assert rule is not None
    node = InferNode(
        operator=operator,
        schema=operator.schema(1),
        opset=1,
        wanted=(True,),
        infer_body=lambda *_: [],
    )
    (fact,) = rule(tensor(FLOAT32, [2]), node=node)
    one, other = fact.shape
    assert one == other
    assert one.unknowns == ("F: K is decided by the run",)


def test_inputs_of_unknown_rank_say_nothing() -> None:
    assert inferred("F (x: T[N, C]) => (y: T[N, 3])", None) == ["float32[?, 3]"]
    assert inferred("F (x: T[...]) => (y: T[...])", None) == ["float32[...]"]
    assert inferred("F (x: T[N], w: T[N]) => (y: T[N])", None, [4]) == ["float32[4]"]


def test_of_equal_extents_the_known_one_is_taken() -> None:
    assert inferred("F (x: T[N], w: T[N]) => (y: T[N])", [N], [4]) == ["float32[4]"]
    assert inferred("F (x: T[N], w: T[N]) => (y: T[N])", [N], [M]) == ["float32[batch]"]
    assert inferred("F (x: T[...], w: T[...]) => (y: T[...])", [N, 2], [3, M]) == ["float32[3, 2]"]


def test_variadic_inputs_all_have_the_declared_shape() -> None:
    assert inferred("F (xs: T[N]+) => (y: T[N])", [N], [2], [2]) == ["float32[2]"]
    with pytest.raises(ShapeError, match=r"N is 2 in xs\[2\], but 3 in xs\[3\]"):
        inferred("F (xs: T[N]+) => (y: T[N])", [2], [3])


@pytest.mark.parametrize(
    ("signature", "shapes", "message"),
    [
        ("F (x: T[N], w: T[N]) => (y: T[N])", [[2], [3]], r"N is 2 in x\[2\], but 3 in w\[3\]"),
        ("F (x: T[N, C]) => (y: T[N])", [[2]], r"x\[N, C\] is declared, found x\[2\]"),
        ("F (x: T[A, ..., C]) => (y: T[A])", [[2]], r"x\[A, ..., C\] is declared, found x\[2\]"),
        ("F (x: T[N, 3]) => (y: T[N])", [[2, 4]], r"an extent 3 is declared, found 4 in x\[2, 4\]"),
        (
            "F (x: T[N, 2*N]) => (y: T[N])",
            [[2, 5]],
            r"an extent 2\*N = 4 is declared, found 5 in x\[2, 5\]",
        ),
        (
            "F (x: T[...], w: T[...]) => (y: T[...])",
            [[2, 3], [2, 4]],
            r"... is \[2, 3\] in x\[2, 3\], but \[2, 4\] in w\[2, 4\]",
        ),
        (
            "F (x: T[...], w: T[...]) => (y: T[...])",
            [[2, 3], [2]],
            r"... is \[2, 3\] in x\[2, 3\], but \[2\] in w\[2\]",
        ),
    ],
)
def test_contradictions_name_both_places(
    signature: str, shapes: list[list[DimLike]], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        inferred(signature, *shapes)


def test_an_attribute_and_an_input_must_agree() -> None:
    signature = "F <N: int> (x: T[N]) => (y: T[N])"
    assert inferred(signature, [3], N=3) == ["float32[3]"]
    with pytest.raises(ShapeError, match=r"N is 4 in the attribute N, but 3 in x\[3\]"):
        inferred(signature, [3], N=4)


def test_without_extents_of_outputs_there_is_no_rule() -> None:
    assert rule_of(op("F (x: T[N]) => (y: T)", since=1, T=F32).schema(1)) is None


@pytest.mark.parametrize("extents", ["[N", "[N,]", "[..., ...]", "[-1]", "[N +]", "[N; C]"])
def test_extents_that_are_none_are_refused(extents: str) -> None:
    with pytest.raises(ParseError, match=r"expected an extent, such as N|expected ',' or '\]'"):
        parse_signature(f"F (x: T{extents}) => (y: T)")


def test_element_types_may_stand_by_themselves() -> None:
    signature = parse_signature("F (x: int64[], w: float32, v: double?) => (y: bool[N])")
    types = [formal.type_text for formal in (*signature.inputs, *signature.outputs)]
    assert types == ["tensor(int64)", "tensor(float)", "tensor(double)", "tensor(bool)"]
    assert signature.inputs[0].extents == ()
