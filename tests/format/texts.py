"""Messages and texts for the tests of the ONNX text notation."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from fornix.format import messages, text
from fornix.format.text.notes import is_repeated

# Every construct of the notation at least once.
MODEL = """
<
   ir_version: 7, opset_import: ["" : 10, "a.b": 1], producer_name: "x\\"y", model_version: -3,
   producer_version: "1", domain: "d", doc_string: "two
lines", metadata_props: ["k": "v", "l": ""]
>
agraph (float[N, 128, ?] X, seq(map(int64, float["a b"])) W, float[2] q = {1, -2.5e3}, untyped,
        optional(sparse_tensor(double[3])) o, opaque(a.b, c) p, float scalar, float[] unknown)
    => (float[N, 10] C, y)
<float[2] w = {1, inf}, int64[3] z = ["location": "f", "offset": "3"], string[2] s = {"a", "b"},
 float[] v, uint64[2] u = {18446744073709551615, 0}, complex64[1] c = {1, -2}, int4[3] i = {1, 2}>
{
    # a comment
    [n1] T, "u v" = MatMul(X, W) # another
    ["node 2"] S = com.x.Add:ov <a = 1, b: floats = [1, 2.5], c = @r, d: int = @q, e = "str",
        f = float[2] nm {1, 2}, g = g1 () => (y) { y = Foo(,x) }, h = ["a", "b"], i: ints = [],
        j = seq(float), k = -inf, l = NaN, m = float {3}, n = [1, -2], o = 1e-3,
        p: float = 1>(T, "")
    C = Softmax(S) <axis = -1>
    = Sink(C,)
}
<domain: "d", overload: "o", opset_import: ["": 3], doc_string: "f">
f <a, b: int = 1, c = 2.0, d: strings> (x, float[N] y) => (z) <float q> { z = Foo <al = @a> (x, y) }
"g 1" () => () {}
"""
# What only fornix reads and writes.
NOTES = """
#@ {defaults: [no_domain, raw_data], training_info: [{algorithm: g () => () {}}]}
g (opaque(a.b, c) x #@ {doc_string: "d", metadata_props: ["a": "b"]}
) => () <float16[2] w = {1, 65535} #@ {stored: typed_data, segment: {begin: 1}}
> { y = "op x" <s: sparse_tensor = {values: float[1] {1}, dims: [3]}, t = [float {1}, float {2}],
        "a b" = b"\\xff", g = [a () => () {}, "b c" () => () {}], u = [float, seq(int64)]> ()
    #@ {device_configurations: [{configuration_id: "a", sharding_spec: [{device: [1, 2]}]}]}
} #@ {sparse_initializer: [{dims: [1]}], name: none}
"""
STRINGS = (
    *("", "x", "a b", "float", "inf", "none", "n/1", 'q"u\\o', "l\nm", "c\rd\x00\x7f", "é", "a.b"),
    *("ai.onnx", "@", "#@ {", "1", 'b"', "Optional", "\u2028", "[", "=>"),
)
INTEGERS = (0, 1, -1, 3, 2**31 - 1, -(2**31))
FLOATS = (0.0, -0.0, 1.0, 0.1, 1e-45, 3.4028234663852886e38, math.inf, -math.inf, 16777217.0)
TRIES = 20


class Kind(NamedTuple):
    """A kind of message with its printer and parser."""

    made: Callable[[], Message]
    print_: Callable[[Message], str]
    parse: Callable[[str], Message]


KINDS = {
    "model": Kind(messages.ModelProto, text.print_model, text.parse_model),
    "graph": Kind(messages.GraphProto, text.print_graph, text.parse_graph),
    "function": Kind(messages.FunctionProto, text.print_function, text.parse_function),
    "node": Kind(messages.NodeProto, text.print_node, text.parse_node),
    "attribute": Kind(messages.AttributeProto, text.print_attribute, text.parse_attribute),
    "tensor": Kind(messages.TensorProto, text.print_tensor, text.parse_tensor),
    "type": Kind(messages.TypeProto, text.print_type, text.parse_type),
    "value_info": Kind(messages.ValueInfoProto, text.print_value_info, text.parse_value_info),
}
_ATTRIBUTE_FIELDS = dict(
    enumerate(
        [
            *("f", "i", "s", "t", "g", "floats", "ints", "strings", "tensors", "graphs"),
            *("sparse_tensor", "sparse_tensors", "tp", "type_protos"),
        ],
        start=1,
    )
)


def same(a: Message, b: Message) -> bool:
    """Whether two messages are equal, NaNs and the presence of empty fields included."""
    return a.SerializePartialToString(deterministic=True) == b.SerializePartialToString(
        deterministic=True
    )


def fill(message: Message, rng: random.Random, depth: int, density: float) -> None:
    """Give ``message`` fields at random, of any value, sensible or not."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() < density:
            _fill_field(message, field, rng, depth, density)
    if message.DESCRIPTOR.name == "AttributeProto" and rng.random() < 0.7:
        _make_sensible(message, rng, depth, density)


def _make_sensible(attribute: Message, rng: random.Random, depth: int, density: float) -> None:
    for field in attribute.DESCRIPTOR.fields:
        if field.name not in {"name", "doc_string"}:
            attribute.ClearField(field.name)
    kind = rng.choice(list(_ATTRIBUTE_FIELDS))
    setattr(attribute, "type", kind)  # noqa: B010 - a Message has no attributes to a type checker
    field = attribute.DESCRIPTOR.fields_by_name[_ATTRIBUTE_FIELDS[kind]]
    _fill_field(attribute, field, rng, depth, density)


def _fill_field(
    message: Message, field: Any, rng: random.Random, depth: int, density: float
) -> None:
    value = getattr(message, field.name)
    if field.type != FieldDescriptor.TYPE_MESSAGE:
        if is_repeated(field):
            value.extend([_scalar(field, rng) for _ in range(rng.randrange(4))])
        else:
            setattr(message, field.name, _scalar(field, rng))
    elif depth > 0:
        if is_repeated(field):
            parts = [value.add() for _ in range(rng.randrange(3))]
        else:
            value.SetInParent()
            parts = [value]
        for part in parts:
            fill(part, rng, depth - 1, density)


def _scalar(field: Any, rng: random.Random) -> object:
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(STRINGS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.choice([rng.choice(STRINGS).encode(), rng.randbytes(rng.choice([0, 1, 4, 8]))])
    if field.type in {FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE}:
        return rng.choice([*FLOATS, rng.random()])
    if field.type == FieldDescriptor.TYPE_ENUM:
        return rng.choice(list(field.enum_type.values_by_number))
    if field.name in {"data_type", "elem_type", "key_type"}:
        return rng.randrange(30)
    if field.type == FieldDescriptor.TYPE_UINT64:
        return rng.choice([0, 1, 2**64 - 1])
    wide = field.type == FieldDescriptor.TYPE_INT64
    return rng.choice([*INTEGERS, *((2**63 - 1, -(2**63)) if wide else ())])


def mutate(source: str, rng: random.Random) -> str:
    """``source`` with a few characters or words inserted, removed, copied or replaced."""
    words = (
        *'{}()[]<>,:=@".?#\\-',
        *("=>", "1", "-1", "1.5", "inf", "1e999", "float", "seq(", "x", "none", "ints"),
        *("#@ {", 'b"', "99999999999999999999", "g () => () {}", "stored: raw_data", "{...}"),
        *("\n", " ", "\x00", "é", "\ud800", "undefined", "value: ", "type: {"),
    )
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        at, other = rng.randrange(len(source) + 1), rng.randrange(len(source) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            source = source[:at] + rng.choice(words) + source[at:]
        elif kind == 1:
            source = source[:at] + source[at + rng.choice([1, 2, 5, 20]) :]
        elif kind == 2:
            source = source[:at] + source[other : other + rng.randrange(30)] + source[at:]
        elif kind == 3:
            source = source[:at]
        else:
            source = source[:at] + chr(rng.randrange(0x300)) + source[at + 1 :]
    return source
