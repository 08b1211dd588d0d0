from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import checker as peer
from onnx import helper

from fornix.errors import ValidationError
from fornix.format.messages import ValueInfoProto
from fornix.onnx import checker
from tests.onnx.surface import names_of, parameters_of

HEADER = '<ir_version: 10, opset_import: ["": 20, "mine": 1]>'


def model(graph: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER + graph)


VALID = "g (float[2, 3] x) => (float[2, 3] y) { y = Relu(x) }"


def test_every_function_of_the_peer_is_there() -> None:
    for name in names_of(peer):
        assert hasattr(checker, name)
        ours, theirs = parameters_of(getattr(checker, name)), parameters_of(getattr(peer, name))
        assert [p[:2] for p in ours] == [p[:2] for p in theirs]
    assert checker.MAXIMUM_PROTOBUF == peer.MAXIMUM_PROTOBUF
    assert checker.DEFAULT_CONTEXT.ir_version == peer.DEFAULT_CONTEXT.ir_version
    assert checker.DEFAULT_CONTEXT.opset_imports == peer.DEFAULT_CONTEXT.opset_imports


def test_a_model_is_a_message_bytes_or_a_path(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(model(VALID), path)
    for source in (model(VALID), path.read_bytes(), path, str(path)):
        checker.check_model(source)
    broken = model("g (float[2, 3] x) => (float[2, 3] y) { y = Relu(nowhere) }")
    with pytest.raises(ValidationError, match="nowhere"):
        checker.check_model(broken.SerializeToString())


def test_everything_is_told_at_once() -> None:
    graph = "g (float[2] x) => (float[2] y) { a = Relu(nowhere) y = Rellu <beta = 1.0> (a) }"
    with pytest.raises(ValidationError, match=r"2 errors found(.|\n)*nowhere(.|\n)*Rellu"):
        checker.check_model(model(graph))


def test_types_are_checked_in_full_checks_alone() -> None:
    graph = "g (float[2, 3] x, float[4] z) => (float[2, 3] y) { y = MatMul(x, z) }"
    checker.check_model(model(graph))
    with pytest.raises(ValidationError, match="the last axis of A"):
        checker.check_model(model(graph), full_check=True)


def test_custom_operators_are_errors_if_that_is_asked_for() -> None:
    graph = "g (float[2] x) => (float[2] y) { y = mine.Op(x) }"
    checker.check_model(model(graph))
    with pytest.raises(ValidationError, match=r"every operator must be known(.|\n)*mine\.Op"):
        checker.check_model(model(graph), check_custom_domain=True)


def test_newer_opsets_are_admitted_if_that_is_asked_for() -> None:
    newer = model(VALID)
    newer.opset_import[0].version = 99
    checker.check_model(newer, skip_opset_compatibility_check=True)
    with pytest.raises(ValidationError, match="found 99"):
        checker.check_model(newer)


TENSOR = helper.make_tensor("t", 1, [2], [1.0, 2.0])
FUNCTION = onnx.parser.parse_function(
    '<domain: "mine", opset_import: ["": 20]> f (x) => (y) { y = Relu(x) }'
)
PARTS: list[tuple[Callable[..., None], Any, dict[str, Any], str]] = [
    (checker.check_tensor, TENSOR, {"dims": [3]}, "'t'"),
    (checker.check_node, helper.make_node("Relu", ["x"], ["y"]), {"op_type": "Rellu"}, "Rellu"),
    (checker.check_node, helper.make_node("Relu", ["x"], ["y"]), {"input": []}, "takes 1 inputs"),
    (checker.check_graph, model(VALID).graph, {"name": ""}, "a name is required"),
    (checker.check_function, FUNCTION, {"output": ["nowhere"]}, "nowhere"),
    (checker.check_attribute, helper.make_attribute("a", 3), {"name": ""}, "a name is required"),
    (checker.check_attribute, helper.make_attribute("a", 3), {"type": 0}, "a type is required"),
    (
        checker.check_value_info,
        helper.make_tensor_value_info("v", 1, [2]),
        {"name": ""},
        "a name is required",
    ),
    (
        checker.check_sparse_tensor,
        helper.make_sparse_tensor(TENSOR, helper.make_tensor("i", 7, [2], [0, 4]), [5]),
        {"dims": [4]},
        "an index lies outside",
    ),
]


@pytest.mark.parametrize(("check", "part", "damage", "message"), PARTS)
def test_parts_are_checked_by_themselves(
    check: Callable[..., None], part: Any, damage: dict[str, Any], message: str
) -> None:
    check(part)
    broken = type(part)()
    broken.CopyFrom(part)
    for field, value in damage.items():
        if isinstance(value, list):
            del getattr(broken, field)[:]
            getattr(broken, field).extend(value)
        else:
            setattr(broken, field, value)
    with pytest.raises(ValidationError, match=message):
        check(broken)


def test_a_value_needs_a_type() -> None:
    with pytest.raises(ValidationError, match="value 'v': a type is required, found none"):
        checker.check_value_info(onnx.ValueInfoProto(name="v"))


def test_versions_come_from_the_context() -> None:
    context = checker.CheckerContext()
    context.opset_imports = {"": 5}
    gelu = helper.make_node("Gelu", ["x"], ["y"])
    checker.check_node(gelu)
    with pytest.raises(ValidationError, match="Gelu"):
        checker.check_node(gelu, context)


def test_other_things_than_messages_are_refused() -> None:
    number: Any = 3
    with pytest.raises(TypeError, match="NodeProto is required, found int"):
        checker.check_node(number)


def value_of(fill: Callable[[Any], object]) -> Any:
    made = ValueInfoProto(name="v")
    fill(made.type)
    return made


def number(kind: str, elem_type: int) -> Callable[[Any], object]:
    def fill(type_: Any) -> None:
        getattr(type_, kind).elem_type = elem_type
        getattr(type_, kind).shape.dim.add(dim_value=2)

    return fill


INCOMPLETE: dict[str, tuple[Callable[[Any], object], str]] = {
    "no shape": (lambda t: setattr(t.tensor_type, "elem_type", 1), "its rank is not declared"),
    "sparse, no shape": (lambda t: setattr(t.sparse_tensor_type, "elem_type", 1), "its rank is"),
    "nothing in a sequence": (
        lambda t: t.sequence_type.SetInParent(),
        "the type of what a sequence holds is required, found none",
    ),
    "nothing in an optional": (
        lambda t: t.optional_type.SetInParent(),
        "the type of what an optional holds is required, found none",
    ),
    "keys of a map": (
        lambda t: t.map_type.SetInParent(),
        "the type of a map's keys is required, found none",
    ),
    "values of a map": (
        lambda t: setattr(t.map_type, "key_type", 7),
        "the type of a map's values is required, found none",
    ),
}


@pytest.mark.parametrize("case", INCOMPLETE)
def test_values_of_incomplete_types_are_refused_as_by_onnx(case: str) -> None:
    fill, told = INCOMPLETE[case]
    given = value_of(fill)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_value_info(onnx.ValueInfoProto.FromString(given.SerializeToString()))
    with pytest.raises(ValidationError, match=re.escape(told)):
        checker.check_value_info(given)


@pytest.mark.parametrize("kind", ["tensor_type", "sparse_tensor_type"])
def test_the_number_of_no_element_type_is_told(kind: str) -> None:
    with pytest.raises(ValidationError, match=r"required, found the number 77, which stands for"):
        checker.check_value_info(value_of(number(kind, 77)))
    with pytest.raises(ValidationError, match=r"element type is required, found none$"):
        checker.check_value_info(value_of(number(kind, 0)))
    checker.check_value_info(value_of(number(kind, 1)))


def test_what_onnx_refuses_stands_among_all_that_is_wrong() -> None:
    source = model(
        "g (float[1, 1, 4, 4] x, float[4] s) => (float[1, 1, 8, 8] y) "
        "{ a = Rleu (x) b = mine.Unknown (x) y = Upsample (x, s) }"
    )
    with pytest.raises(ValidationError) as caught:
        checker.check_model(source, check_custom_domain=True)
    told = str(caught.value)
    assert told.startswith("model: 3 errors found\n")
    assert all(each in told for each in ("'Rleu'", "(mine.Unknown", "deprecated since opset 10"))
