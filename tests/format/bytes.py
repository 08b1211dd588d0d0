"""Generators of bytes for the differential tests of readers: models, mutations, wire format."""

from __future__ import annotations

import random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = 1, 2, 3, 4, 5


def small_models() -> list[bytes]:
    """Models whose tensors stand in every place where the standard allows one."""

    def weight(name: str, count: int) -> TensorProto:
        return numpy_helper.from_array(np.arange(count, dtype=np.uint8), name)

    def graph(name: str, *nodes: onnx.NodeProto, tensors: list[TensorProto]) -> onnx.GraphProto:
        shape = helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 3])
        return helper.make_graph(list(nodes), name, [shape], [shape], tensors)

    sparse = helper.make_sparse_tensor(
        weight("s", 20), numpy_helper.from_array(np.arange(20), "i"), [64]
    )
    inner = graph(
        "inner", helper.make_node("Constant", [], ["k"], value=weight("k", 31)), tensors=[]
    )
    branch = graph(
        "branch",
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
        tensors=[weight("b", 17), weight("tiny", 3)],
    )
    main = graph(
        "main",
        helper.make_node("Constant", [], ["v"], value=weight("v", 40)),
        helper.make_node("Constant", [], ["s"], sparse_value=sparse),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node(
            "Custom", ["x"], ["z"], domain="d", several=[weight("l", 9), weight("m", 8)]
        ),
        tensors=[weight("w", 64), weight("empty", 0)],
    )
    main.sparse_initializer.append(sparse)
    function = helper.make_function(
        "d", "Custom", ["x"], ["z"],
        [helper.make_node("Constant", [], ["z"], value=weight("f", 50))],
        [helper.make_opsetid("", 22)],
        attribute_protos=[helper.make_attribute("default", weight("a", 12))],
    )  # fmt: skip
    model = helper.make_model(main, functions=[function])
    model.training_info.add(initialization=inner, algorithm=branch)
    plain = helper.make_model(graph("plain", tensors=[weight("w", 200)]))
    return [model.SerializeToString(), plain.SerializeToString()]


def varint(value: int, rng: random.Random | None = None) -> bytes:
    """``value`` encoded; with ``rng``, now and then longer than need be."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    if rng and rng.random() < 0.02:
        encoded[-1] |= 0x80
        encoded += b"\x80" * rng.choice([0, 0, 0, 1, 2, 3, 8]) + b"\x00"
    return bytes(encoded)


def field(number: int, kind: int, content: bytes, rng: random.Random | None = None) -> bytes:
    head = varint(number << 3 | kind, rng)
    return head + (varint(len(content), rng) if kind == BYTES else b"") + content


class Generator:
    """Random wire format: mostly what a descriptor describes, now and then something else."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.left = 60

    def message(self, descriptor: onnx.ModelProto.DESCRIPTOR, depth: int = 0) -> bytes:
        parts = []
        for _ in range(self.rng.randrange(0, 6 if depth < 12 else 2)):
            if self.left <= 0:
                break
            self.left -= 1
            known = self.rng.random() < 0.85
            parts.append(self.known(descriptor, depth) if known else self.unknown(depth))
        return b"".join(parts)

    def known(self, descriptor: onnx.ModelProto.DESCRIPTOR, depth: int) -> bytes:
        fields = descriptor.fields
        leading = [f for f in fields if f.name in LEADING]
        one = self.rng.choice(leading if leading and self.rng.random() < 0.7 else fields)
        if self.rng.random() < 0.05:
            return self.any(one.number, depth)
        if one.message_type is not None:
            return field(one.number, BYTES, self.message(one.message_type, depth + 1), self.rng)
        if one.type in {one.TYPE_BYTES, one.TYPE_STRING}:
            return field(one.number, BYTES, self.rng.randbytes(self.rng.randrange(0, 40)), self.rng)
        numbers = [
            self.number(one.type == one.TYPE_FLOAT, one.type == one.TYPE_DOUBLE) for _ in "ab"
        ]
        if one.is_repeated and self.rng.random() < 0.5:
            return field(one.number, BYTES, b"".join(content for _, content in numbers), self.rng)
        kind, content = numbers[0]
        return field(one.number, kind, content, self.rng)

    def number(self, single: bool, double: bool) -> tuple[int, bytes]:
        if single or double:
            return (FIXED32, self.rng.randbytes(4)) if single else (FIXED64, self.rng.randbytes(8))
        return 0, varint(self.rng.choice([0, 1, 2, 127, 128, 2**31, 2**64 - 1]), self.rng)

    def unknown(self, depth: int) -> bytes:
        return self.any(self.rng.choice([1, 7, 9, 15, 16, 17, 99, 2**29 - 1]), depth)

    def any(self, number: int, depth: int) -> bytes:
        kind = self.rng.choice([0, FIXED64, BYTES, GROUP, FIXED32])
        if kind == GROUP:
            inner = b"" if depth > 20 else b"".join(self.unknown(depth + 1) for _ in range(2))
            return field(number, GROUP, inner) + varint(number << 3 | END_GROUP)
        content = {0: varint(self.rng.getrandbits(40), self.rng), BYTES: self.rng.randbytes(9)}
        width = 4 if kind == FIXED32 else 8
        return field(number, kind, content.get(kind, self.rng.randbytes(width)), self.rng)


# Fields that lead to tensors, and the payload itself.
LEADING = {
    "graph", "node", "attribute", "attribute_proto", "t", "g", "tensors", "graphs", "sparse_tensor",
    "sparse_tensors", "initializer", "sparse_initializer", "values", "indices", "functions",
    "training_info", "initialization", "algorithm", "raw_data",
}  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """``data`` with a few bytes changed, cut, doubled or moved."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at, span = rng.randrange(len(changed) + 1), rng.randrange(1, 30)
        start, stop, content = rng.choice(
            [
                (at, at + 1, rng.randbytes(1)),
                (at, at + 1, bytes([rng.choice(b"\x00\x7f\x80\xff\x0a")])),
                (at, at + span, b""),
                (at, len(changed), b""),
                (at, at, bytes(changed[at : at + span])),
                (at, at, rng.randbytes(rng.randrange(1, 4))),
            ]
        )
        changed[start:stop] = content
    return bytes(changed)


def wire_cases(count: int, seed: int) -> list[bytes]:
    """Mutated models, generated messages, and both one behind the other, which merges them."""
    rng = random.Random(seed)
    models = small_models()
    cases = []
    for index in range(count):
        data = Generator(rng).message(onnx.ModelProto.DESCRIPTOR)
        if index % 4 == 0:
            data = mutated(rng.choice(models), rng)
        elif index % 4 == 1:
            data = rng.choice([data + rng.choice(models), rng.choice(models) + data])
        cases.append(mutated(data, rng) if index % 8 > 5 else data)
    return cases
