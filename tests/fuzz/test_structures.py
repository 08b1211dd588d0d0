"""The standard's own models with names, types, attributes and operators mixed up.

Damaged bytes rarely get past the parser of messages; these models are well formed and wrong. Only
errors of fornix may come out, from the checker, inference, inliner, converter, outliner and text.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from fornix import ops
from fornix.check import check_model
from fornix.edit import outline
from fornix.errors import FornixError
from fornix.format.messages import GraphProto, ModelProto, NodeProto
from fornix.format.text import parse_model, print_model
from fornix.infer import infer_model
from fornix.ir.graph import Model
from fornix.ir.load import from_message, to_message
from fornix.onnx import inliner, shape_inference
from fornix.passes.inline import inline_functions
from fornix.version import convert_version
from tests.conformance.cases import cases

LARGEST = 20_000
"""Bytes of a model that is worth mixing up."""

NUMBERS = (0, 1, -1, 2, 3, 64, 65, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63))
DIMS = ("N", "2*N + 1", "N//0", "min(", "-N", "unk__0", "")
MODELS = [x.model.SerializeToString() for x in cases().values() if x.model.ByteSize() < LARGEST]
OPERATORS = sorted(name for domain, name in ops.operators() if domain == "")


def mix_names(graph: GraphProto, choice: random.Random) -> None:
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    node = choice.choice(graph.node)
    if node.input and names:
        node.input[choice.randrange(len(node.input))] = choice.choice([*names, "", "nowhere"])


def drop_an_end(graph: GraphProto, choice: random.Random) -> None:
    node = choice.choice(graph.node)
    ends = choice.choice([node.input, node.output])
    if ends:
        del ends[choice.randrange(len(ends))]


def change_a_type(graph: GraphProto, choice: random.Random) -> None:
    value = choice.choice([*graph.input, *graph.output])
    tensor = value.type.tensor_type
    if choice.random() < 0.3:
        tensor.elem_type = choice.randrange(30)
    elif choice.random() < 0.3:
        tensor.ClearField("shape")
    elif tensor.shape.dim and choice.random() < 0.7:
        dim = choice.choice(tensor.shape.dim)
        if choice.random() < 0.5:
            dim.dim_value = choice.choice(NUMBERS)
        else:
            dim.dim_param = choice.choice(DIMS)
    else:
        tensor.shape.dim.add().dim_value = choice.choice(NUMBERS)


def change_an_attribute(graph: GraphProto, choice: random.Random) -> None:
    node = choice.choice(graph.node)
    if not node.attribute:
        return
    attribute = choice.choice(node.attribute)
    if choice.random() < 0.2:
        node.attribute.remove(attribute)
    elif attribute.ints:
        attribute.ints[choice.randrange(len(attribute.ints))] = choice.choice(NUMBERS)
    elif attribute.HasField("i"):
        attribute.i = choice.choice(NUMBERS)
    elif attribute.HasField("t"):
        attribute.t.data_type = choice.randrange(30)
    else:
        attribute.type = choice.randrange(15)


def change_an_operator(graph: GraphProto, choice: random.Random) -> None:
    node: NodeProto = choice.choice(graph.node)
    node.op_type = choice.choice(OPERATORS)


CHANGES: list[Callable[[GraphProto, random.Random], None]] = [
    mix_names,
    drop_an_end,
    change_a_type,
    change_an_attribute,
    change_an_operator,
]


def read_again(model: ModelProto) -> None:
    assert parse_model(print_model(model)) is not None


def inlined(model: Model) -> None:
    inline_functions(model.clone())


def tried(use: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    with suppress(FornixError):
        return use(*arguments, **options)
    return None


def survive(message: ModelProto, choice: random.Random) -> None:
    """Put ``message`` to every use."""
    tried(read_again, message)
    tried(shape_inference.infer_shapes, message, check_type=choice.random() < 0.5, strict_mode=True)
    tried(inliner.inline_selected_functions, message, [], True, True)
    model = tried(from_message, message)
    if model is not None:
        assert [x for x in check_model(model) if x.subject == "fornix"] == []
        for use in (infer_model, to_message, inlined, outline):
            tried(use, model)
        tried(convert_version, model, choice.choice([1, 7, 12, 18, 24, 28]))


def mixed_up(count: int, seed: int) -> None:
    choice = random.Random(seed)
    for _ in range(count):
        message = ModelProto.FromString(choice.choice(MODELS))
        for _ in range(choice.randrange(1, 4)):
            if message.graph.node:
                choice.choice(CHANGES)(message.graph, choice)
        survive(message, choice)


@pytest.mark.parametrize("seed", range(2))
def test_models_mixed_up_are_changed_or_refused(seed: int) -> None:
    mixed_up(40, seed)


@pytest.mark.slow
def test_many_models_mixed_up_are_changed_or_refused() -> None:
    mixed_up(2_000, 100)
