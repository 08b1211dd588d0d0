from __future__ import annotations

import inspect

import onnx.parser
import onnx.printer
import pytest

from fornix.errors import FornixError
from fornix.onnx import parser, printer

MODEL = '<ir_version: 8, opset_import: ["": 17]> g (float[N] x) => (float[N] y) { y = Relu (x) }'
FUNCTION = '<domain: "d", opset_import: ["": 17]> f <a: float = 1> (x) => (y) { y = Relu (x) }'
GRAPH = "g (float[N] x) => (float[N] y) { y = Relu (x) }"
NODE = "y = Softmax <axis = 1> (x)"
SOURCES = {
    "parse_model": MODEL,
    "parse_function": FUNCTION,
    "parse_graph": GRAPH,
    "parse_node": NODE,
}


def parameters(function: object) -> list[tuple[str, object]]:
    assert callable(function)
    return [(each.name, each.kind) for each in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", SOURCES)
def test_the_parser_has_the_signatures_and_results_of_onnx(name: str) -> None:
    ours, theirs = getattr(parser, name), getattr(onnx.parser, name)
    assert parameters(ours) == parameters(theirs)
    assert ours(SOURCES[name]).SerializeToString() == theirs(SOURCES[name]).SerializeToString()


@pytest.mark.parametrize("name", ["parse_function", "parse_graph", "parse_node"])
def test_text_behind_the_first_thing_is_ignored_as_by_onnx(name: str) -> None:
    source = f"{SOURCES[name]} and more"
    ours, theirs = getattr(parser, name), getattr(onnx.parser, name)
    assert ours(source).SerializeToString() == theirs(source).SerializeToString()


def test_parse_errors_are_fornix_errors_with_a_place() -> None:
    with pytest.raises(parser.ParseError) as caught:
        parser.parse_graph("g (float[N] x) =>\n (y) { y = Relu (x }")
    assert isinstance(caught.value, FornixError)
    assert (caught.value.line, caught.value.column) == (2, 20)
    assert str(caught.value).startswith(
        "<string>:2:20: expected ',' or ')' after input 'x', found '}'\n"
    )


@pytest.mark.parametrize("name", SOURCES)
def test_to_text_takes_the_messages_of_both_packages(name: str) -> None:
    ours = getattr(parser, name)(SOURCES[name])
    theirs = getattr(onnx.parser, name)(SOURCES[name])
    printed = printer.to_text(ours)
    assert printer.to_text(theirs) == printed
    assert getattr(onnx.parser, name)(printed) == theirs
    assert getattr(parser, name)(printed) == ours


def test_to_text_refuses_anything_else_as_onnx_does() -> None:
    assert parameters(printer.to_text) == parameters(onnx.printer.to_text)
    for other, found in ((onnx.TensorProto(), "onnx.TensorProto"), ("x", "str")):
        with pytest.raises(TypeError, match=r"."):
            onnx.printer.to_text(other)
        with pytest.raises(TypeError) as caught:
            printer.to_text(other)  # type: ignore[arg-type] # what is tested
        assert str(caught.value) == (
            "to_text: a ModelProto, FunctionProto, GraphProto or NodeProto is required, "
            f"found {found}"
        )
