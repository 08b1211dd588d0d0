from __future__ import annotations

import random

import numpy as np
import onnx
import onnx.parser
import onnx.printer
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

import fornix.onnx
import fornix.onnx.printer
from fornix.errors import FormatError, LimitError, ParseError
from fornix.format import text
from fornix.format.messages import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
)
from fornix.format.text.elements import STORAGE
from tests.format.texts import KINDS, MODEL, NOTES, TRIES, fill, same

NESTING = 50


def node(text_of_node: str) -> NodeProto:
    return text.parse_node(text_of_node)


def test_a_model_is_printed_as_one_writes_it() -> None:
    model = text.parse_model(MODEL)
    assert text.print_model(model) == (
        """\
<
    ir_version: 7,
    opset_import: ["": 10, "a.b": 1],
    producer_name: "x\\"y",
    producer_version: "1",
    domain: "d",
    model_version: -3,
    doc_string: "two
lines",
    metadata_props: ["k": "v", "l": ""]
>
agraph (float[N, 128, ?] X, seq(map(int64, float["a b"])) W, float[2] q, untyped, \
optional(sparse_tensor(double[3])) o, opaque(a.b, c) p, float scalar, float[] unknown) \
=> (float[N, 10] C, y)
<
    float[] v,
    float[2] q = {1.0, -2500.0},
    float[2] w = {1.0, inf},
    int64[3] z = ["location": "f", "offset": "3"],
    string[2] s = {"a", "b"},
    uint64[2] u = {18446744073709551615, 0},
    complex64[1] c = {1.0, -2.0},
    int4[3] i = {1, 2}
> {
    [n1] T, "u v" = MatMul (X, W)
    ["node 2"] S = com.x.Add:ov (T, "") <a = 1, b = [1.0, 2.5], c = @r, d: int = @q, e = "str", \
f = float[2] nm = {1.0, 2.0}, g = g1 () => (y) {
        y = Foo ("", x)
    }, h = ["a", "b"], i: ints = [], j = seq(float), k = -inf, l = nan, m = float {3.0}, \
n = [1, -2], o = 0.001, p = 1.0>
    C = Softmax <axis = -1> (S)
    = Sink (C)
}
<
    domain: "d",
    overload: "o",
    opset_import: ["": 3],
    doc_string: "f"
>
f <a, b = 1, c = 2.0, d: strings> (x, y) => (z)
<
    float[N] y,
    float q
> {
    z = Foo <al = @a> (x, y)
}
"g 1" () => () {
}
"""
    )


@pytest.mark.parametrize("source", [MODEL, NOTES])
def test_what_is_printed_parses_to_an_equal_model(source: str) -> None:
    model = text.parse_model(source)
    assert same(text.parse_model(text.print_model(model)), model)


def test_what_the_notation_has_no_words_for_stands_in_notes() -> None:
    message = onnx.helper.make_node("Relu", ["x"], ["y"], doc_string="a\nb")
    message.metadata_props.add(key="k", value="v")
    assert text.print_node(message) == (
        "#@ {defaults: [no_domain]}\n"
        'y = Relu (x)  #@ {doc_string: b"a\\nb", metadata_props: ["k": "v"]}'
    )
    assert text.print_node(message, exact=False) == "y = Relu (x)"


def test_onnx_reads_a_text_with_notes() -> None:
    source = text.print_model(text.parse_model(MODEL))
    noted = text.parse_model(MODEL)
    noted.graph.doc_string = "d"
    noted.graph.input[0].doc_string = "e"
    noted.graph.initializer[0].doc_string = "f"
    noted.graph.node[1].attribute[5].t.doc_string = "g"
    noted.graph.node[1].attribute[5].doc_string = "h"
    noted.graph.node[1].attribute[6].doc_string = "i"
    noted.functions[0].metadata_props.add(key="k", value="v")
    noted.training_info.add().algorithm.CopyFrom(noted.graph)
    noted_source = text.print_model(noted)
    assert same(text.parse_model(noted_source), noted)
    assert same(onnx.parser.parse_model(noted_source), onnx.parser.parse_model(source))


def test_onnx_messages_are_printed_too() -> None:
    assert text.print_type(onnx.helper.make_tensor_type_proto(1, ["N", None, 3])) == (
        "float[N, ?, 3]"
    )
    with pytest.raises(FormatError, match=r"TypeProto is required, found onnx\.NodeProto"):
        text.print_type(onnx.NodeProto())


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        *[("a_1", "a_1"), ("Optional", "Optional"), ("", '""'), ("a/b:0", '"a/b:0"')],
        *[("float", '"float"'), ("seq", '"seq"'), ("NaN", '"NaN"'), ("1", '"1"'), ("é", '"é"')],
        *[('q"\\', '"q\\"\\\\"'), ("l\n", 'b"l\\n"'), ("é\r", 'b"\\xc3\\xa9\\r"')],
    ],
)
def test_names_are_quoted_if_they_must_be(name: str, printed: str) -> None:
    value = ValueInfoProto(name=name)
    assert text.print_value_info(value) == printed
    assert same(text.parse_value_info(printed), value)


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        *[(0.1, "0.1"), (1.0, "1.0"), (1e20, "1e+20"), (-0.0, "-0.0"), (3e-45, "3e-45")],
        *[(float("inf"), "inf"), (float("-inf"), "-inf"), (float("nan"), "nan")],
        *[(16777216.0, "1.6777216e+07"), (3.4028234663852886e38, "3.4028235e+38")],
    ],
)
def test_floats_are_printed_in_the_shortest_way(value: float, printed: str) -> None:
    attribute = AttributeProto(name="a", type=AttributeProto.FLOAT, f=value)
    assert text.print_attribute(attribute) == f"a = {printed}"
    assert same(text.parse_attribute(f"a = {printed}"), attribute)


def test_every_float32_comes_back(rng: np.random.Generator) -> None:
    bits = rng.integers(0, 2**32, 20_000, dtype=np.uint32)
    array = bits.view(np.float32)
    raw = array[~np.isnan(array)].tobytes()
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[len(raw) // 4], raw_data=raw)
    assert text.parse_tensor(text.print_tensor(tensor)).raw_data == raw


@pytest.mark.parametrize("dtype", sorted(STORAGE))
def test_raw_data_of_every_dtype_comes_back(dtype: int) -> None:
    # A byte pattern with NaNs of odd payload in every float dtype, and a length that fits all.
    for raw in (b"", bytes(range(256)), b"\xff" * 16, b"\x00\x00\xc0\x7f" * 8, b"abc"):
        tensor = TensorProto(data_type=dtype, dims=[1], raw_data=raw)
        assert same(text.parse_tensor(text.print_tensor(tensor)), tensor)


def test_raw_data_is_a_default_and_the_exception_is_noted() -> None:
    graph = GraphProto(name="g")
    graph.initializer.add(name="a", data_type=1, dims=[1], raw_data=b"\0\0\x80?")
    graph.initializer.add(name="b", data_type=1, dims=[1], float_data=[2])
    assert text.print_graph(graph) == (
        "#@ {defaults: [raw_data]}\n"
        "g () => ()\n<\n    float[1] a = {1.0},\n"
        "    float[1] b = {2.0}  #@ {stored: typed_data}\n> {\n}"
    )


def test_large_tensors_are_elided_on_demand() -> None:
    tensor = TensorProto(data_type=7, dims=[3], int64_data=[1, 2, 3], name="x")
    assert text.print_tensor(tensor, elide=3) == "int64[3] x = {1, 2, 3}"
    assert text.print_tensor(tensor, elide=2) == "int64[3] x = {...}"
    with pytest.raises(ParseError, match=r"expected the elements, found '\.\.\.'"):
        text.parse_tensor("int64[3] x = {...}")


@pytest.mark.parametrize(
    "attribute",
    [
        AttributeProto(name="a", type=AttributeProto.INT),
        AttributeProto(name="a", type=AttributeProto.FLOAT),
        AttributeProto(name="a", type=AttributeProto.STRING),
        AttributeProto(name="a"),
        AttributeProto(i=1, f=2.0, type=AttributeProto.INT),
        AttributeProto(name="a", type=AttributeProto.TENSOR, ints=[1]),
        AttributeProto(name="a", type=AttributeProto.UNDEFINED, ref_attr_name="b"),
        AttributeProto(name="a", type=AttributeProto.STRING, s=b"\xff\x00"),
        AttributeProto(name="a", type=AttributeProto.TYPE_PROTO, tp=TypeProto(denotation="d")),
        AttributeProto(name="a", type=AttributeProto.GRAPH, g=GraphProto(), doc_string="d"),
    ],
)
def test_attributes_that_break_the_rules_come_back(attribute: AttributeProto) -> None:
    assert same(text.parse_attribute(text.print_attribute(attribute)), attribute)


@pytest.mark.parametrize(
    ("type_", "printed"),
    [
        (TypeProto(tensor_type={"elem_type": 1}), "float[]"),
        (TypeProto(tensor_type={"elem_type": 1, "shape": {}}), "float"),
        (TypeProto(tensor_type={"shape": {}}), "{tensor_type: {shape: {}}}"),
        (TypeProto(), "{}"),
        (
            TypeProto(
                denotation="IMAGE",
                tensor_type={"elem_type": 1, "shape": {"dim": [{"denotation": "N"}]}},
            ),
            '{tensor_type: {elem_type: 1, shape: {dim: [{denotation: "N"}]}}, denotation: "IMAGE"}',
        ),
        (TypeProto(map_type={"key_type": 7}), "{map_type: {key_type: 7}}"),
        (TypeProto(opaque_type={"domain": "d"}), '{opaque_type: {domain: "d"}}'),
    ],
)
def test_types_beyond_the_notation_are_printed_by_field(type_: TypeProto, printed: str) -> None:
    assert text.print_type(type_) == printed
    assert same(text.parse_type(printed), type_)


def test_an_absent_domain_is_not_an_empty_one() -> None:
    absent = NodeProto(op_type="F")
    empty = NodeProto(op_type="F", domain="")
    graph = GraphProto(name="g", node=[absent, empty])
    assert text.print_graph(graph) == (
        '#@ {defaults: [no_domain]}\ng () => () {\n    = F ()\n    = F ()  #@ {domain: ""}\n}'
    )
    assert same(text.parse_graph(text.print_graph(graph)), graph)


def test_missing_fields_stay_missing() -> None:
    for message in (ModelProto(), FunctionProto(), NodeProto(), GraphProto(), ValueInfoProto()):
        assert same(text.parse_model(text.print_model(ModelProto())), ModelProto())
        kind = KINDS[
            {"ModelProto": "model", "FunctionProto": "function", "NodeProto": "node",
             "GraphProto": "graph", "ValueInfoProto": "value_info"}[type(message).__name__]
        ]  # fmt: skip
        assert same(kind.parse(kind.print_(message)), message)


def nested_type(depth: int) -> Message:
    message = innermost = TypeProto()
    for _ in range(depth - 1):
        innermost = innermost.sequence_type.elem_type
    innermost.tensor_type.elem_type = 1
    return message


def nested_graph(depth: int) -> Message:
    message = innermost = GraphProto(name="g")
    for _ in range(depth - 1):
        innermost = innermost.node.add(op_type="If").attribute.add(name="a", type=5).g
        innermost.name = "h"
    return message


def nested_value(depth: int) -> Message:
    message = ValueInfoProto(name="x")
    message.type.CopyFrom(nested_type(depth))  # type: ignore[arg-type] # it is one
    message.type.denotation = "d"
    return message


@pytest.mark.parametrize(
    ("kind", "nested"),
    [("type", nested_type), ("graph", nested_graph), ("value_info", nested_value)],
)
def test_whatever_is_printed_is_not_too_deep_to_parse(kind: str, nested: object) -> None:
    assert callable(nested)
    printed = 0
    for depth in range(1, NESTING + 2):
        message = nested(depth)
        try:
            source = KINDS[kind].print_(message)
        except LimitError as error:
            assert str(error) == (  # noqa: PT017 - the loop ends here
                "ONNX text: at most 50 levels of nesting can be written, found more"
            )
            break
        assert same(KINDS[kind].parse(source), message)
        printed = depth
    assert printed >= NESTING // 2 - 1


@given(st.integers(min_value=0))
def test_random_messages_come_back(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(TRIES):
        kind = KINDS[rng.choice(list(KINDS))]
        message = kind.made()
        fill(message, rng, rng.randrange(1, 5), rng.choice([0.1, 0.3, 0.5]))
        assert same(kind.parse(kind.print_(message)), message)


@pytest.mark.parametrize(
    "name", [b"Nega", b"xxxx", b"dodo", b"rows", b"Main", b"none", b"attr", b"made"]
)
def test_names_that_are_not_utf8_are_quoted_as_bytes(name: bytes) -> None:
    whole = text.parse_model(
        '<ir_version: 10, opset_import: ["dodo": 1], producer_name: "made"> '
        "Main (float[rows] xxxx) => (float[rows] y) { [none] y = dodo.Nega <attr = 1> (xxxx) }"
    ).SerializeToString()
    assert name in whole
    damaged = name[:1] + b"\xff" + name[2:]
    model = fornix.onnx.load_model_from_string(whole.replace(name, damaged))
    quoted = f'b"{chr(name[0])}\\xff{name[2:].decode()}"'
    assert quoted in text.print_model(model)
    assert quoted in fornix.onnx.printer.to_text(model)
