"""What is not told apart is not read: rules of operators see no floats that are stored for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper, parser

from fornix.compile.alike import UNREAD
from fornix.compile.compiler import write_all
from fornix.compile.lower import Lowering
from fornix.compile.target import Target
from fornix.compile.traits import Survey, Traits
from fornix.compile.units import CompiledUnit
from fornix.format.messages import ModelProto, own
from fornix.infer import infer_model
from fornix.ir.load import from_message
from fornix.ir.tensor import ArrayTensor

PLAIN = Target.host()
BOOL, FLOAT = TensorProto.BOOL, TensorProto.FLOAT
ELEMENTS = (np.zeros, lambda n: np.arange(n) - 1.0, lambda n: np.full(n, np.nan))
PAIR = [((4, 3), False), ((3,), True)]
RECURRENT = {"hidden_size": 4}


def layer(gates: int) -> list[tuple[tuple[int, ...], bool]]:
    """Inputs of a recurrent layer."""
    stored: list[tuple[int, ...]] = [(1, gates * 4, 3), (1, gates * 4, 4), (1, 2 * gates * 4)]
    return [((5, 2, 3), False), *((shape, True) for shape in stored)]


CASES: dict[str, tuple[list[tuple[tuple[int, ...], bool]], dict[str, Any]]] = {
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Equal", "Less", "Greater", "PRelu"),
        (PAIR, {}),
    ),
    "Where": ([((4, 3), False), ((3,), True), ((1, 3), True)], {}),
    "Concat": ([((2, 3), False), ((4, 3), True)], {"axis": 0}),
    "MatMul": ([((4, 3), False), ((3, 5), True)], {}),
    "Gemm": ([((4, 3), False), ((3, 5), True), ((5,), True)], {"alpha": 0.5, "beta": 2.0}),
    "Conv": ([((1, 4, 7, 6), False), ((8, 4, 3, 3), True), ((8,), True)], {}),
    "ConvTranspose": ([((1, 4, 7, 6), False), ((4, 2, 3, 3), True), ((2,), True)], {}),
    "RNN": (layer(1), RECURRENT),
    "GRU": (layer(3), RECURRENT),
    "LSTM": (layer(4), RECURRENT),
    "BatchNormalization": ([((2, 4, 3), False), *[((4,), True)] * 4], {}),
    "GroupNormalization": ([((2, 4, 3), False), *[((4,), True)] * 2], {"num_groups": 2}),
    "InstanceNormalization": ([((2, 4, 3), False), *[((4,), True)] * 2], {}),
    "LayerNormalization": ([((2, 4, 3), False), *[((3,), True)] * 2], {}),
    "RMSNormalization": ([((2, 4, 3), False), ((3,), True)], {}),
}


class Unreadable(NamedTuple):
    """An array of which everybody may know what it is, and nobody what is in it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int


class Hidden(ArrayTensor):
    """A stored tensor whose elements are hidden once it is known what follows from them."""

    is_hidden = False

    def numpy(self) -> Any:
        array = super().numpy()
        return Unreadable(array.shape, array.dtype, array.size) if self.is_hidden else array


class Examined:
    """A node alone, with stored floats that ``fill`` makes for its inputs."""

    def __init__(self, op_type: str, opset: int, fill: Callable[[int], Any]) -> None:
        inputs, attributes = CASES[op_type]
        names = [f"x{k}" for k in range(len(inputs))]
        given = [
            helper.make_tensor_value_info(name, BOOL if op_type == "Where" else FLOAT, shape)
            for name, (shape, is_stored) in zip(names, inputs, strict=True)
            if not is_stored
        ]
        stored = [
            numpy_helper.from_array(fill(math.prod(shape)).astype(np.float32).reshape(shape), name)
            for name, (shape, is_stored) in zip(names, inputs, strict=True)
            if is_stored
        ]
        made = helper.make_node(op_type, names, ["y"], **attributes)
        graph = helper.make_graph([made], "g", given, [ValueInfoProto(name="y")], stored)
        opsets = [helper.make_opsetid("", opset)]
        model = from_message(own(helper.make_model(graph, opset_imports=opsets), ModelProto))
        (self.node,) = model.graph.nodes
        values = [value for value in self.node.inputs if value is not None]
        hidden = {v: Hidden(v.constant.numpy()) for v in values if v.constant is not None}
        for value, tensor in hidden.items():
            value.tensor = tensor
        self.lowering = Lowering(infer_model(model), [])
        self.survey = Survey(self.lowering)
        self.key = self.survey.key(self.node)
        self.traits = self.survey.traits(self.node)
        self.agreement = self.survey.agreement(self.node)
        for tensor in hidden.values():
            tensor.is_hidden = True
        unit = CompiledUnit((self.node,), tuple(values), self.node.outputs)
        self.code = [w.code.text for w in write_all(self.lowering.unit(unit).outputs, PLAIN)]


OPSETS = {**dict.fromkeys(UNREAD, (13, 22)), "GroupNormalization": (21,), "RMSNormalization": (23,)}
OPSETS |= {"LayerNormalization": (17,), "LSTM": (7, 22), "BatchNormalization": (9, 15)}


@pytest.mark.parametrize(
    ("op_type", "opset"), [(name, n) for name in sorted(UNREAD) for n in OPSETS[name]]
)
def test_rules_do_not_read_the_floats_that_tell_nothing_apart(op_type: str, opset: int) -> None:
    first, *others = (Examined(op_type, opset, fill) for fill in ELEMENTS)
    assert isinstance(first.traits, Traits)
    assert first.code
    for other in others:
        assert other.key == first.key
        assert other.traits == first.traits
        assert other.agreement == first.agreement
        assert other.code == first.code


def test_integers_are_told_apart_as_lengths_of_sequences_have_to_be() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[T, 2, 3] x, float[1, 4, 3] w, float[1, 4, 4] r)
          => (float[T, 1, 2, 4] y, float[T, 1, 2, 4] z)
        <int32[2] few = {1, 1}, int32[2] many = {5, 2}> {
            y = RNN <hidden_size = 4> (x, w, r, , few)
            z = RNN <hidden_size = 4> (x, w, r, , many)
        }"""
    model = from_message(own(parser.parse_model(text), ModelProto))
    survey = Survey(Lowering(infer_model(model), ["T"]))
    one, other = map(survey.key, model.graph.nodes)
    assert one != other
