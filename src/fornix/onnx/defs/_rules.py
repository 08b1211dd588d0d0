"""The part of `OpSchema` that is not facts: function bodies and inference functions."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Self

from fornix.errors import SchemaError
from fornix.format.messages import FunctionProto, GraphProto, ModelProto, NodeProto, TypeProto
from fornix.format.text import parse_function
from fornix.ir.graph import Node
from fornix.ir.load import from_message
from fornix.ir.typemessages import read_type
from fornix.onnx._inference import InferenceFunction, infer_by_rule, rule_of
from fornix.onnx._kinds import takes
from fornix.onnx._own import WrongKind
from fornix.ops.body import OPSET, bodies_of, body_text, function_text
from fornix.ops.call import BodyNode
from fornix.ops.op import Operator, Rule
from fornix.ops.schema import Schema


class Rules:
    """What an operator's rules say at one schema version."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._operator: Operator | None = None
        self._infer: InferenceFunction | None = None

    @property
    def schema(self) -> Schema:
        """The schema, as fornix has it."""
        return self._schema

    def belongs_to(self, operator: Operator) -> None:
        """Say which operator of the standard it is a schema of."""
        self._operator = operator

    @property
    def operator(self) -> Operator:
        """The operator of the standard or, of a schema made here, one that has it alone."""
        if self._operator is not None:
            return self._operator
        operator = Operator(self._schema.domain, self._schema.name, [])
        operator.schemas = (self._schema,)
        if self._infer is not None:
            operator.rules["infer"] = {self._schema.since_version: rule_of(self._infer)}
        return operator

    @property
    def has_type_and_shape_inference_function(self) -> bool:
        """Whether types and shapes of outputs can be inferred."""
        return self._infer is not None or self._rule("infer") is not None

    @property
    def has_data_propagation_function(self) -> bool:
        """Whether contents are propagated; inference of fornix always does, where it can."""
        return self._rule("infer") is not None

    def get_type_and_shape_inference_function(self) -> InferenceFunction:
        """What sets the outputs of an `InferenceContext`; SchemaError if there is nothing."""
        if self._infer is None and self._rule("infer") is None:
            raise SchemaError(f"{self._label}: an inference function is required, found none")
        return self._infer or infer_by_rule

    def set_type_and_shape_inference_function(self, func: InferenceFunction) -> Self:
        """Infer with ``func``, which takes an `InferenceContext`; before registration."""
        if not callable(func):
            raise WrongKind(f"{self._label}: a function is required, found {type(func).__name__}")
        self._infer = func
        return self

    @property
    def has_function(self) -> bool:
        """Whether it has a body that is the same for every node."""
        return self._has_body(in_context=False)

    @property
    def has_context_dependent_function(self) -> bool:
        """Whether it has a body that depends on the node."""
        return self._has_body(in_context=True)

    @property
    def function_body(self) -> FunctionProto:
        """The body that is the same for every node, in its oldest opset; empty if there is none."""
        for opset, rule in self._bodies().items() if self.has_function else ():
            return self._parsed(rule(), opset)
        return FunctionProto()

    @property
    def function_opset_versions(self) -> list[int]:
        """The opsets that the body is written in."""
        return list(self._bodies()) if self.has_function else []

    @property
    def context_dependent_function_opset_versions(self) -> list[int]:
        """The opsets that bodies which depend on the node are for."""
        if not self.has_context_dependent_function:
            return []
        bodies = list(self._bodies())
        return bodies if len(bodies) > 1 else [self._schema.since_version]

    @property
    def all_function_opset_versions(self) -> list[int]:
        """The opsets of either kind."""
        return self.function_opset_versions + self.context_dependent_function_opset_versions

    @takes(version=int)
    def get_function_with_opset_version(self, version: int) -> bytes:
        """The body, serialized, if it is written in that opset; else nothing."""
        rule = self._bodies().get(version) if self.has_function else None
        return b"" if rule is None else self._parsed(rule(), version).SerializeToString()

    def get_context_dependent_function(
        self, node_bytes: bytes, input_types: Sequence[bytes]
    ) -> bytes:
        """The body for a node with inputs of these types; all of it serialized.

        Nothing if there is no such body. Raises NotSupported if the types do not suffice.
        """
        return self._body_for(self._schema.since_version, node_bytes, input_types)

    def get_context_dependent_function_with_opset_version(
        self, version: int, node_bytes: bytes, input_types: Sequence[bytes]
    ) -> bytes:
        """The same, if it is for that version; else nothing."""
        if version not in self.context_dependent_function_opset_versions:
            return b""
        return self._body_for(version, node_bytes, input_types)

    def _body_for(self, opset: int, node_bytes: bytes, types: Sequence[bytes]) -> bytes:
        if not self.has_context_dependent_function or self._operator is None:
            return b""
        node = _read_node(NodeProto.FromString(node_bytes))
        read = [read_type(TypeProto.FromString(data))[0] for data in types]
        text = body_text(BodyNode.of(node, self._operator, self._schema, opset, read))
        return b"" if text is None else self._parsed(text).SerializeToString()

    def _bodies(self) -> dict[int, Rule]:
        return {} if self._operator is None else bodies_of(self._operator, self._schema)

    def _parsed(self, text: str, opset: int = OPSET) -> FunctionProto:
        return parse_function(function_text(self._schema, text, opset))

    def _has_body(self, *, in_context: bool) -> bool:
        rule = self._rule("body")
        return rule is not None and ("node" in inspect.signature(rule).parameters) is in_context

    def _rule(self, kind: str) -> Rule | None:
        found = self._operator
        return None if found is None else found.rule(kind, self._schema.since_version)

    @property
    def _label(self) -> str:
        return f"{self._schema.name}-{self._schema.since_version}"


def _read_node(message: NodeProto) -> Node:
    model = from_message(ModelProto(graph=GraphProto(node=[message])))
    return next(iter(model.graph.nodes))
