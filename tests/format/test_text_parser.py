from __future__ import annotations

import random
from collections.abc import Callable

import onnx.parser
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from fornix.errors import ParseError
from fornix.format import text
from fornix.format.messages import TensorProto, TypeProto
from fornix.format.text.elements import STORAGE
from tests.format.texts import MODEL, NOTES, TRIES, mutate, same

Parse = Callable[[str], Message]

ORACLES: dict[Parse, Callable[[str], Message]] = {
    text.parse_model: onnx.parser.parse_model,
    text.parse_graph: onnx.parser.parse_graph,
    text.parse_function: onnx.parser.parse_function,
    text.parse_node: onnx.parser.parse_node,
}
DTYPES = sorted({dtype for dtype in TensorProto.DataType.values() if dtype})


def error_of(source: str, parse: Callable[..., Message] = text.parse_node) -> str:
    with pytest.raises(ParseError) as caught:
        parse(source, "f.txt")
    return str(caught.value).split("\n")[0]


def in_node(value: str) -> str:
    return f"y = Foo <a = {value} > (x)"


NODES = [
    *("y = Foo(x)", "y, z = Foo(x,)", ",y = Foo(,)", "y,,z = Foo(,,x)", "= Foo()", "y = Foo(x,,)"),
    *(
        '"" , y = Foo("", x)',
        "y = a.b . Foo (x)",
        "y = .Foo(x)",
        "y = a.b:c(x)",
        '["n 1"] y = F(x)',
    ),
    *(
        "[] y = F(x)",
        "y = F (x) <b = 2>",
        "float = seq(nan)",
        "y = F <float = 1, a = 2> ()",
    ),
    *("y = F <a = 1, a = 2> ()", "y = F <a: ints = @b> (x)", 'y = F <a = @"b c"> (x)'),
    *("y = F <a: floats = [1, 2]> ()", "y = F <a: strings = []> ()", "y = F <a: float = 5> ()"),
    *(
        "y = F <a: float = [1, 2.5]> ()",
        "y = F <a: int = [1, 2]> ()",
        'y = F <a: string = ["b"]> ()',
    ),
    *("y = F <a: float = inf> ()", "y = F <a: tensor = float[2] {1, 2}> ()", "y = F (x) # c"),
    "y = F <a: type_proto = float> ()",
    "y = F <a: graph = g () => () {}> ()",
]
VALUES = [
    *("1", "-5", "007", "1.", "1.e5", "-1.5e-3", "1e-400", "-0.0", "inf", "-INF", "NaN", "-nan"),
    *('"q\\"\\n\\\\x"', '""', '"two\nlines"', "[1, -2]", "[1.5, 2]", '["a", "b"]', "[inf, 1]"),
    *("float[2] {1, 2}", "float[2] x {1, 2}", "float[2] x = {1,2}", "float x", "float {1}"),
    *("float[0] {}", "float[2] = {}", "float[2] x =", "float[2] {1, 2, 3}", "float {-0}"),
    *("float[2]", "float", "float[]", 'float[N, ?, -3, "a b", ""]', "sparse_tensor(float[2])"),
    *("seq(map(string, optional(float)))", "opaque()", "opaque(a.b)", "opaque(a.b, c)"),
    *('string[2] {"a", "b"}', "bool[2] {0, 7}", "float16[1] {15872}", "complex64[1] {1, 2}"),
    *("uint64[1] {18446744073709551615}", "uint64[1] {-1}", "uint32[1] {4294967296}"),
    *("int8[1] {300}", "uint8[1] {-1}", "int4[3] {1, 2, 3}", "double[2] {1e300, 1e-310}"),
    *('float x = ["location": "f"]', 'float[2] = ["location": "f", "offset": "3"]'),
    *("g () => () {}", "g (x, y) => (z) {}", "g (float x = {1}) => (z) <float y, x> {}"),
    *("g () => () <> {}", "g () => () <float[2] x = {1, 2}, int64 y =, float z> { y = F(x) }"),
    *("g (float float) => () {}", 'g ("int64") => () {}', "g () => () { y = F(x), z = G(y) }"),
]
GRAPHS = ['"g h" () => () {}', "g (float x = {1}, float x = {2}) => (float x) {}"]
FUNCTIONS = [
    *("f () => () {}", '<domain: "d"> f (x) => (y) { y = Foo(x) }', "f <a> (x) => (y) {}"),
    *("f <a: int> () => () {}", "f <a: int = 1, b> () => () {}", "f <a = [1, 2]> () => () {}"),
    *('f <"a b"> () => () {}', "f <a = @r> () => () {}", '"f g" ("x y") => ("z") {}'),
    *("f (float[N] x, y) => (float z) <float q, r> {}", '<overload: "o"> f () => () {}'),
    '<opset_import: ["": 1, "a": 2], doc_string: "x"> f () => () {}',
]
MODELS = [
    *("g () => () {}", "g () => () {} f () => () {}", "<ir_version: 7, ir_version: 8> g()=>(){}"),
    '<opset_import: [], metadata_props: ["a": "b"], metadata_props: ["a": "c"]> g () => () {}',
    '<opset_import: ["": 1], opset_import: ["a": -2]> g () => () {}',
]
SOURCES = [
    *[(text.parse_node, source) for source in NODES],
    *[(text.parse_node, in_node(value)) for value in VALUES],
    *[(text.parse_graph, source) for source in GRAPHS],
    *[(text.parse_function, source) for source in FUNCTIONS],
    *[(text.parse_model, source) for source in [*MODELS, MODEL]],
]


@pytest.mark.parametrize(("parse", "source"), SOURCES)
def test_what_onnx_parses_gives_an_equal_message(parse: Parse, source: str) -> None:
    assert same(parse(source), ORACLES[parse](source))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_of_every_dtype_go_where_onnx_puts_them(dtype: int) -> None:
    literal = '"1"' if dtype == TensorProto.STRING else "1"
    name = text.print_type(TypeProto(tensor_type={"elem_type": dtype, "shape": {}}))
    source = in_node(f"{name}[2] {{{literal}, {literal}}}")
    assert same(text.parse_node(source), onnx.parser.parse_node(source))


def test_there_is_a_text_for_every_dtype() -> None:
    assert sorted(STORAGE) == DTYPES


def test_text_behind_a_node_is_refused_unless_allowed() -> None:
    source = "y = Foo(x) z = Foo(y)"
    assert text.parse_node(source, whole=False).output == ["y"]
    assert error_of(source) == "f.txt:1:12: expected the end of the text, found 'z'"


def test_lists_of_tensors_graphs_and_types_are_kept() -> None:
    node = text.parse_node(
        "y = F <t = [float {1}, float {2}], g = [a () => () {}, b () => () {}], "
        "p: type_protos = [float, seq(int64)], e: tensors = []> ()"
    )
    counts = [(each.type, len(each.tensors), len(each.graphs)) for each in node.attribute]
    assert counts == [(9, 2, 0), (10, 0, 2), (14, 0, 0), (9, 0, 0)]
    assert [text.print_type(each) for each in node.attribute[2].type_protos] == [
        "float",
        "seq(int64)",
    ]


def test_quoted_names_stand_for_names_everywhere() -> None:
    node = text.parse_node('y = "a-b"."o p":"o v" <"a b" = 1, g = "g h" () => () {}> ()')
    assert (node.domain, node.op_type, node.overload) == ("a-b", "o p", "o v")
    assert [each.name for each in node.attribute] == ["a b", "g"]
    assert node.attribute[1].g.name == "g h"


def test_external_data_may_follow_the_type() -> None:
    tensor = text.parse_tensor('float["location": "f"]')
    assert tensor.external_data[0].value == "f"
    assert tensor.data_location == TensorProto.EXTERNAL
    assert list(tensor.dims) == []


def test_a_reference_of_undefined_type_has_none() -> None:
    attribute = text.parse_attribute("a: undefined = @b")
    assert attribute.ref_attr_name == "b"
    assert not attribute.HasField("type")


def test_a_note_has_the_last_word() -> None:
    node = text.parse_node(
        'y = Foo (x) #@ {domain: none, doc_string: b"a\\nb", '
        'metadata_props: ["k": "v", {key: "l"}]}'
    )
    assert not node.HasField("domain")
    assert node.doc_string == "a\nb"
    assert [entry.key for entry in node.metadata_props] == ["k", "l"]
    assert not node.metadata_props[1].HasField("value")


def test_defaults_settle_what_the_notation_leaves_open() -> None:
    ahead = "#@ {defaults: [no_domain, no_name, raw_data]}\n"
    node = text.parse_node(ahead + "y = Foo <a = float[2] {1, 2}> ()")
    assert not node.HasField("domain")
    assert not node.attribute[0].t.HasField("name")
    assert node.attribute[0].t.raw_data == b"\0\0\x80?\0\0\0@"


def test_elements_of_a_long_tensor_are_read_as_onnx_reads_them() -> None:
    source = in_node(f"float[400] {{{', '.join(f'{i}.5e-{i % 40}' for i in range(400))}}}")
    assert same(text.parse_node(source), onnx.parser.parse_node(source))


ERRORS = [
    ("y = Foo(x z)", "1:11: expected ',' or ')' after input 'x', found 'z'"),
    ("Foo(x)", "1:4: expected ',' or '=' after output 'Foo', found '('"),
    ("y = Foo", "1:8: expected '(' ahead of the inputs of Foo, found the end of the text"),
    ("y = Foo(1)", "1:9: expected the name of an input, found '1'"),
    ("1 = Foo()", "1:1: expected the name of an output, found '1'"),
    ("y = (x)", "1:5: expected the name of an operator, found '('"),
    ("y = a.(x)", "1:7: expected the name of an operator, found '('"),
    ("y = a:(x)", "1:7: expected the overload of an operator, found '('"),
    ("[a y = F()", "1:4: expected ']' after the name of the node, found 'y'"),
    ("[1] y = F()", "1:2: expected the name of a node, found '1'"),
    ("y = F <> ()", "1:8: expected the name of an attribute, found '>'"),
    ("y = F <a> ()", "1:9: expected '=' after attribute 'a', found '>'"),
    ("y = F <a = 1 b = 2> ()", "1:14: expected ',' or '>' after attribute 'a', found 'b'"),
    ("y = F <a = @1> ()", "1:13: expected the name of an attribute, found '1'"),
    (
        "y = F <a: foo = 1> ()",
        (
            "1:11: expected one of float, int, string, tensor, graph, sparse_tensor, type_proto, "
            "floats, ints, strings, tensors, graphs, sparse_tensors, type_protos "
            "as type of attribute 'a', found 'foo'"
        ),
    ),
    ("y = F <a: undefined = 1> ()", "1:23: expected '@' after the type 'undefined', found '1'"),
    ("y = F <a: int = 1.5> ()", "1:17: expected a value of type int, found float"),
    ("y = F <a: tensor = float> ()", "1:20: expected a value of type tensor, found type_proto"),
    ("y = F <a: ints = 1> ()", "1:18: expected a value of type ints, found int"),
    ("y = F <a: strings = [1]> ()", "1:22: expected a value of type string, found int"),
    ("y = F <a: ints = [1, 2.5]> ()", "1:22: expected an integer, found '2.5'"),
]
VALUE_ERRORS = [
    ("?", "expected a value (a number, string, tensor, type or graph), found '?'"),
    ("[]", "expected a value (a number, string, tensor, type or graph), found ']'"),
    ("[1, 2 3]", "expected ',' or ']' after an element, found '3'"),
    ('["a", 1]', "expected an element like the first, a int, found '1'"),
    ('["a", g () => () {}]', "expected a value of type strings, found graphs"),
    ("[@x]", "expected a value (a number, string, tensor, type or graph), found '@'"),
    (
        "9223372036854775808",
        (
            "expected an integer from -9223372036854775808 to 9223372036854775807, "
            "found '9223372036854775808'"
        ),
    ),
    ("[9223372036854775808]", "expected integers of 64 bits, found greater ones"),
    ("1e39", "expected a number in the range of float, found '1e39'"),
    ("[1.0, 1e39]", "expected numbers in the range of float, found 1e+39"),
    (
        "float[1] {1e39}",
        (
            "expected an element from -3.4028235677973366e+38 to "
            "3.4028235677973366e+38, found '1e39'"
        ),
    ),
    ("double[1] {1e999}", "expected a number in the range of double, found '1e999'"),
    (
        "int32[2] {1, 2147483648}",
        ("expected an element from -2147483648 to 2147483647, found '2147483648'"),
    ),
    ("int64[1] {1.0}", "expected an integer, found '1.0'"),
    ('float[1] {"a"}', 'expected a number, found "a"'),
    ("string[1] {1}", "expected an element, a string, found '1'"),
    ("float[2] {1 2}", "expected ',' or '}' after an element, found '2'"),
    ("float[2] {1,", "expected a number, found '>'"),
    ("float[] {1}", "expected the dtype and dims of a tensor, found another type"),
    ("float[N] {1}", "expected integers as dims of a tensor, found 'N'"),
    ("float[?] {1}", "expected integers as dims of a tensor, found '?'"),
    ("float[2] {...}", "expected the elements, found '...'; print the model without elide"),
    ("float[2]...", "expected the elements, found '...', printed in place of them"),
    ("float[N M]", "expected ',' or ']' after a dim, found 'M'"),
    ("float[N,]", "expected a dim (an integer, a name or '?'), found ']'"),
    ("seq(x)", "expected a type, found 'x'"),
    ("seq float", "expected '(' after 'seq', found 'float'"),
    ("seq(float x)", "expected ')' after the arguments of 'seq', found 'x'"),
    ("map(seq(float), float)", "expected an element type (float, int64, string …), found 'seq'"),
    ("map(float)", "expected ',' after the key type, found ')'"),
    ("opaque(1)", "expected a name, found '1'"),
    ("x", "expected '(' ahead of the inputs of graph 'x', found '>'"),
    ("g () {}", "expected '=>' after the inputs of graph 'g', found '{'"),
    ("g () => {}", "expected '(' ahead of the outputs of graph 'g', found '{'"),
    ("g () => ()", "expected '{' ahead of the nodes, found '>'"),
    ("g (float) => () {}", "expected the name of a value, found ')'"),
    ("g (float x y) => () {}", "expected ',' or ')' after input 'x', found 'y'"),
    ("g () => (x y) {}", "expected ',' or ')' after 'x', found 'y'"),
    ("g () => () <x y> {}", "expected ',' or '>' after 'x', found 'y'"),
    (
        "1 #@ {foo: 1}",
        (
            "expected one of name, ref_attr_name, doc_string, type, f, i, s, t, g, "
            "sparse_tensor, tp, floats, ints, strings, tensors, graphs, "
            "sparse_tensors, type_protos, found 'foo'"
        ),
    ),
    ("1 #@ {i 2}", "expected ':' after field 'i', found '2'"),
    ("1 #@ {i: 2 3}", "expected ',' or '}' after field 'i', found '3'"),
    ("1 #@ {1}", "expected the name of a field, found '1'"),
    ("1 #@ {i: x}", "expected the value of 'i', an integer, found 'x'"),
    ("1 #@ {f: x}", "expected the value of 'f', a number, found 'x'"),
    ("1 #@ {f: 1e39}", "expected the value of 'f', a number in the range of float, found '1e39'"),
    ("1 #@ {s: x}", "expected the value of 's', a string, found 'x'"),
    ("1 #@ {name: x}", "expected the value of 'name', a string, found 'x'"),
    ("1 #@ {ints: 1}", "expected '[' ahead of the values of 'ints', found '1'"),
    ("1 #@ {ints: [1 2]}", "expected ',' or ']' after a value of 'ints', found '2'"),
    ("1 #@ {sparse_tensor: 1}", "expected '{' ahead of the fields of SparseTensorProto, found '1'"),
    (
        "1 #@ {type: FOO}",
        (
            "expected one of UNDEFINED, FLOAT, INT, STRING, TENSOR, GRAPH, "
            "SPARSE_TENSOR, TYPE_PROTO, FLOATS, INTS, STRINGS, TENSORS, GRAPHS, "
            "SPARSE_TENSORS, TYPE_PROTOS, found 'FOO'"
        ),
    ),
    (
        '1 #@ {sparse_tensor: {values: float {} #@ {metadata_props: ["a" 1]}}}',
        "expected ':' after the key, found '1'",
    ),
    (
        "float {1} #@ {name: none, stored: raw_data}",
        "expected 'stored' as first field behind the elements",
    ),
    ("float {1} #@ {stored: x}", "expected one of raw_data, typed_data, found 'x'"),
    ("float16 {65536} #@ {stored: raw_data}", "expected an element from 0 to 65535, found '65536'"),
    (
        "float {} #@ {data_type: 2147483648}",
        (
            "expected the value of 'data_type', an integer from "
            "-2147483648 to 2147483647, found '2147483648'"
        ),
    ),
]
MODEL_ERRORS = [
    ("", "1:1: expected the name of a graph, found the end of the text"),
    (
        "<foo: 1> g () => () {}",
        (
            "1:2: expected one of ir_version, opset_import, producer_name, "
            "producer_version, domain, model_version, doc_string, metadata_props, found 'foo'"
        ),
    ),
    ("<ir_version 7> g () => () {}", "1:13: expected ':' after field 'ir_version', found '7'"),
    (
        "<ir_version: 1.5> g () => () {}",
        ("1:14: expected the value of 'ir_version', an integer, found '1.5'"),
    ),
    (
        "<ir_version: 7 g () => () {}",
        ("1:16: expected ',' or '>' after field 'ir_version', found 'g'"),
    ),
    ('<opset_import: ["" 7]> g () => () {}', "1:20: expected ':' after the domain, found '7'"),
    (
        "<opset_import: [a: 7]> g () => () {}",
        ("1:17: expected '{' ahead of the fields of OperatorSetIdProto, found 'a'"),
    ),
    ("g () => () {} 1", "1:15: expected the name of a function, found '1'"),
    (
        "g () => () {} f",
        ("1:16: expected '(' ahead of the inputs of function 'f', found the end of the text"),
    ),
    ("g () => () {} f () {}", "1:20: expected '=>' after the inputs of function 'f', found '{'"),
    (
        "g () => () {} f () => {}",
        ("1:23: expected '(' ahead of the outputs of function 'f', found '{'"),
    ),
    ("g () => () {} f (x y) => () {}", "1:20: expected ',' or ')' after 'x', found 'y'"),
    (
        "g () => () {} f <a b> () => () {}",
        ("1:20: expected ',' or '>' after an attribute, found 'b'"),
    ),
    (
        "g () => () {} <ir_version: 1> f () => () {}",
        ("1:16: expected one of domain, overload, opset_import, doc_string, found 'ir_version'"),
    ),
    ("#@ {defaults: x} g () => () {}", "1:15: expected '[' ahead of the defaults, found 'x'"),
    (
        "#@ {defaults: [x]} g () => () {}",
        ("1:16: expected one of no_domain, no_name, raw_data, found 'x'"),
    ),
    (
        "#@ {defaults: [raw_data x]} g () => () {}",
        ("1:25: expected ',' or ']' after a default, found 'x'"),
    ),
]


@pytest.mark.parametrize(("source", "message"), ERRORS)
def test_errors_of_nodes(source: str, message: str) -> None:
    assert error_of(source) == f"f.txt:{message}"


@pytest.mark.parametrize(("value", "message"), VALUE_ERRORS)
def test_errors_of_values(value: str, message: str) -> None:
    assert error_of(in_node(value)).split(": ", 1)[1] == message


@pytest.mark.parametrize(("source", "message"), MODEL_ERRORS)
def test_errors_of_models(source: str, message: str) -> None:
    assert error_of(source, text.parse_model) == f"f.txt:{message}"


def test_an_element_out_of_range_is_shown_where_it_stands() -> None:
    with pytest.raises(ParseError) as caught:
        text.parse_tensor("int32[3] {\n  1,\n  -2147483649, 3}", "t.txt")
    assert str(caught.value) == (
        "t.txt:3:3: expected an element from -2147483648 to 2147483647, found '-2147483649'\n"
        "  -2147483649, 3}\n"
        "  ^"
    )


@pytest.mark.parametrize(
    ("parse", "source"),
    [
        (text.parse_type, "seq(" * 100_000),
        (text.parse_graph, "g () => () { y = Foo <a = " * 5_000),
        (text.parse_node, "y = F () #@ {" + "attribute: [{g: {node: [{" * 5_000),
    ],
)
def test_deep_nesting_is_refused(parse: Parse, source: str) -> None:
    message = error_of(source, parse)
    assert message.endswith("expected at most 50 levels of nesting, found more")


@given(st.integers(min_value=0))
def test_damaged_text_gives_parse_errors_or_what_onnx_makes_of_it(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(TRIES):
        source = mutate(rng.choice([MODEL, NOTES]), rng)
        try:
            message = text.parse_model(source)
        except ParseError as error:
            place = f"<string>:{error.line}:{error.column}: expected "
            assert str(error).startswith(place)  # noqa: PT017 - other exceptions must escape
            continue
        assert same(message, text.parse_model(text.print_model(message)))
        expected = read_by_onnx(source)
        assert expected is None or same(message, expected)


def read_by_onnx(source: str) -> Message | None:
    """The model, unless onnx refuses the text, or reads less of it as it ignores notes."""
    if "#@" in source or "\0" in source:
        return None
    try:
        return onnx.parser.parse_model(source)
    except Exception:  # noqa: BLE001 - some are plain RuntimeErrors
        return None
