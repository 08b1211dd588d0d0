"""Subclasses of `OpRun` as code that a plan evaluates nodes with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fornix.format.messages import NodeProto
from fornix.ir.attribute import Attribute
from fornix.ir.graph import Node
from fornix.ir.writing import Writer
from fornix.reference.scope import Custom, Environment

if TYPE_CHECKING:
    from fornix.onnx.reference._instances import Parts
    from fornix.onnx.reference.op_run import OpRun


STEPS = 11
"""From this value of ``verbose`` on, what operators log is printed, and when they begin and end."""


def custom_of(kind: type[OpRun], evaluator: Parts) -> Custom:
    """What makes an instance of ``kind`` for each node, and runs it."""

    def make(node: Node, given: Mapping[str, Attribute]) -> Any:
        instance = kind(message_of_node(node, given), run_params(evaluator))

        def call(inputs: list[Any], environment: Environment) -> Sequence[Any]:
            more: dict[str, Any] = {}
            if instance.need_context():
                more["context"] = {value.name: found for value, found in environment.items()}
            return instance.run(*inputs, **more)

        return call

    return make


def message_of_node(node: Node, given: Mapping[str, Attribute]) -> NodeProto:
    """The message of ``node``, its references to attributes replaced by those ``given``."""
    message = NodeProto()
    writer = Writer()
    writer.node(message, node, 0)
    message.ClearField("attribute")
    for name, attribute in given.items():
        entry = message.attribute.add()
        writer.attribute(entry, attribute, 0)
        entry.name = name
    return message


def run_params(evaluator: Parts) -> dict[str, Any]:
    """What operators are told of the evaluation they are part of."""
    return {
        "log": lambda pattern, *args: evaluator.show(STEPS, pattern, *args),
        "opsets": evaluator.opsets,
        "verbose": evaluator.verbose,
        "new_ops": evaluator.new_ops_,
        "existing_functions": dict(enumerate(evaluator.given_functions)),
        "evaluator_cls": type(evaluator),
    }
