"""What `onnx.reference.ReferenceEvaluator` has beyond the one of `fornix.reference`.

That is operators written as subclasses of `OpRun`, types by name, prints by level and the check of
declared types in a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

import numpy as np

from fornix import ops
from fornix.errors import InvalidArgument, SchemaError
from fornix.format.messages import FunctionProto, ModelProto, TensorProto, TypeProto
from fornix.ir.graph import Model, Node, Value
from fornix.ir.load import from_message
from fornix.ir.tensor import ArrayTensor
from fornix.ir.walk import attributes, graphs, nodes, read_values
from fornix.onnx._inference import message_of
from fornix.onnx._kinds import takes
from fornix.onnx._own import owned
from fornix.onnx.model_container import ModelContainer
from fornix.onnx.reference._custom import STEPS, custom_of
from fornix.onnx.reference._instances import Parts
from fornix.onnx.reference.op_run import OpRun, OpRunExpand, RuntimeImplementationError
from fornix.onnx.reference.shape_annotation_checker import SymbolBindings, check_value_against_type
from fornix.ops.fact import Fact
from fornix.reference.plan import Observer

__all__ = ["ReferenceEvaluator"]

# From these values of ``verbose`` on nodes, values and elements are printed.
NODES, VALUES, ELEMENTS = 2, 3, 4
SHOWN = 5


class UnknownName(InvalidArgument, RuntimeError):
    """A name that the graph does not have, also for those who catch RuntimeError."""


class UnknownOperator(SchemaError, RuntimeImplementationError):
    """An operator that nobody implements, also for those who catch NotImplementedError."""


class ReferenceEvaluator(Parts):
    """Evaluates a model, graph, function or node.

    ``proto`` is a path, bytes, a message or a `ModelContainer`. ``new_ops`` are subclasses of
    `OpRun`, each for the operator of its class's name in ``op_domain``; a subclass of `OpRunExpand`
    says that the operator is evaluated by its body. ``verbose`` prints nodes from 2 on, values from
    3, elements from 4. ``check_shape_annotations`` holds values to the types that the model
    declares. Raises ValueError for ``opsets`` or ``functions`` beside a model, which has them.
    """

    def __init__(
        self,
        proto: Any,
        opsets: dict[str, int] | None = None,
        functions: Sequence[ReferenceEvaluator | FunctionProto] | None = None,
        verbose: int = 0,
        new_ops: Sequence[type[OpRun]] | None = None,
        check_shape_annotations: bool = False,
    ) -> None:
        self.proto_ = proto
        self.container_ = proto if isinstance(proto, ModelContainer) else None
        self.new_ops_: dict[tuple[str, str], type[OpRun]] = {}
        listed: Sequence[Any] = new_ops or ()
        for given in listed:
            if not (isinstance(given, type) and issubclass(given, OpRun)):
                raise TypeError(f"new_ops: subclasses of OpRun are required, found {given!r}")
            self.new_ops_.setdefault((given.op_domain, given.__name__), given)
        is_model = getattr(getattr(proto, "DESCRIPTOR", None), "name", "") == "ModelProto"
        if is_model and (opsets is not None or functions is not None):
            raise InvalidArgument("opsets and functions must be None, since the model has its own")
        self.given_functions = list(functions or ())
        self._bindings: SymbolBindings | None = None
        self.check_shape_annotations_ = check_shape_annotations
        source = _source(proto) if self.container_ is None else _filled(self.container_)
        expanded = {key for key, cl in self.new_ops_.items() if issubclass(cl, OpRunExpand)}
        super().__init__(
            source,
            opsets,
            functions,
            verbose,
            custom={
                key: custom_of(cl, self) for key, cl in self.new_ops_.items() if key not in expanded
            },
            expanded=expanded,
        )
        self._require_known()

    def _require_known(self) -> None:
        """Raise UnknownOperator for a node that nothing evaluates, before anything runs."""
        known = {(f.domain, f.name) for f in self.functions} | self.new_ops_.keys()
        for node in nodes(self.model):
            key = node.domain, node.op_type
            if key not in known and ops.find(*key) is None:
                try:
                    ops.schema_of(*key, 1)
                except SchemaError as error:
                    raise UnknownOperator(f"{node.label}: {error}") from None

    @property
    def input_types(self) -> list[TypeProto]:
        """Types of the inputs."""
        return [message_of(Fact(value.type)) for value in self.model.graph.inputs]

    @property
    def output_types(self) -> list[TypeProto]:
        """Types of the outputs."""
        return [message_of(Fact(value.type)) for value in self.model.graph.outputs]

    @property
    def input_types_(self) -> list[TypeProto]:
        """`input_types`."""
        return self.input_types

    @property
    def output_types_(self) -> list[TypeProto]:
        """`output_types`."""
        return self.output_types

    @property
    def has_linked_attribute(self) -> bool:
        """Whether an attribute takes its value from a function's."""
        return any(attribute.ref is not None for attribute in attributes(self.model.graph))

    def get_result_types(self, name: str, exc: bool = True) -> TypeProto | None:
        """The declared type of a value; without one RuntimeError or, if ``exc`` is false, None."""
        value = self._typed().get(name)
        if value is None and exc:
            raise UnknownName(f"a value with a declared type is required, found {name!r}")
        return None if value is None else message_of(Fact(value.type))

    def retrieve_external_data(self, initializer: TensorProto) -> np.ndarray[Any, Any]:
        """The array that the container has for a tensor; RuntimeError without container."""
        said = {entry.key: entry.value for entry in initializer.external_data}
        if self.container_ is None:
            raise UnknownName("a ModelContainer is required to hold external data, found none")
        return self.container_[said.get("location", "")]

    @takes(feed_inputs=Mapping, attributes=(Mapping, NoneType))
    def run(
        self,
        output_names: Sequence[str] | None,
        feed_inputs: Mapping[str, Any],
        attributes: Mapping[str, Any] | None = None,
        intermediate: bool = False,
        check_shape_annotations: bool | None = None,
        _bindings: SymbolBindings | None = None,
    ) -> Any:
        """Results by ``output_names``, or with ``intermediate`` every value by name.

        Raises ShapeAnnotationError for a value that is not of its declared type, if that is
        checked.
        """
        wanted = check_shape_annotations
        checked = self.check_shape_annotations_ if wanted is None else wanted
        self._bindings = (_bindings or SymbolBindings()) if checked else None
        for name, stored in self.rt_inits_.items() if self.verbose >= VALUES else ():
            self.show(VALUES, " +C %s: %s", name, stored)
        for name, value in feed_inputs.items():
            self.show(VALUES, " +I %s: %s", name, value)
            self._check(name, value)
        return super().run(output_names, feed_inputs, attributes, intermediate)

    def observer(self) -> Observer | None:
        """Prints, and checks types."""
        return self._observe if self.verbose >= NODES or self._bindings is not None else None

    def _observe(self, node: Node, results: Sequence[Any]) -> None:
        read = ["" if value is None else value.name for value in node.inputs]
        made = [value.name for value in node.outputs]
        self.show(NODES, "%s(%s) -> %s", node.op_type, ", ".join(read), ", ".join(made))
        plural = "" if len(read) == 1 else "s"
        self.show(STEPS, "-- begin %s.run(%s input%s)", node.op_type, len(read), plural)
        self.show(STEPS, "-- done %s.run -> %s outputs", node.op_type, len(made))
        for name, result in zip(made, results, strict=False):
            self.show(VALUES, " + %s: %s", name, result)
            self._check(name, result)

    def _check(self, name: str, value: Any) -> None:
        if self._bindings is not None:
            check_value_against_type(
                self.get_result_types(name, exc=False), value, self._bindings, name
            )

    def show(self, level: int, pattern: str, *args: Any) -> None:
        """Print from ``level`` of ``verbose`` on."""
        if self.verbose >= level:
            print(pattern % tuple(self._shown(x) for x in args))  # noqa: T201 - asked for

    def _shown(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        outline = f"{value.dtype}:{value.shape}"
        if self.verbose < ELEMENTS:
            numbers = value.size and value.dtype.kind in "biuf"
            return f"{outline} in [{value.min()}, {value.max()}]" if numbers else outline
        elements = value.reshape(-1)[:SHOWN].tolist()
        if value.size <= SHOWN:
            return f"{outline}:{elements}"
        return f"{outline}:{','.join(map(str, elements))}..."

    def _typed(self) -> dict[str, Value]:
        """The values that the main graph declares a type of, by name."""
        graph = self.model.graph
        values = (*(x for node in graph.nodes for x in node.outputs), *graph.inputs, *graph.outputs)
        return {value.name: value for value in values if value.type is not None}

    def _inputs(self, feeds: Mapping[str, Any]) -> dict[Value, Any]:
        """As ever; a graph that stood in a node also takes what it read outside."""
        outside = {
            value.name: value
            for graph in graphs(self.model.graph)
            for value in read_values(graph)
            if value.is_undefined
        }
        if not outside:
            return super()._inputs(feeds)
        own = {value.name for value in self.model.graph.inputs}
        inputs = super()._inputs({name: x for name, x in feeds.items() if name in own})
        return inputs | {outside[name]: x for name, x in feeds.items() if name in outside}

    def __str__(self) -> str:
        names = ", ".join(self.input_names), ", ".join(self.output_names)
        return f"{type(self).__name__}({names[0]}) -> {names[1]}"


def _source(proto: Any) -> Any:
    """``proto``, if it can be evaluated; raises TypeError if not."""
    plain = isinstance(proto, str | bytes | Model) or hasattr(proto, "__fspath__")
    if not plain and not hasattr(proto, "read") and not hasattr(proto, "DESCRIPTOR"):
        raise TypeError(
            f"a path, bytes, a message or a container is required, found {type(proto).__name__}"
        )
    name = getattr(getattr(proto, "DESCRIPTOR", None), "name", "ModelProto")
    if name not in {"ModelProto", "GraphProto", "FunctionProto", "NodeProto"}:
        raise TypeError(f"a model, graph, function or node is required, found {name}")
    return proto


def _filled(container: ModelContainer) -> Model:
    """The model of a container with its arrays as stored data."""
    container.check_large_initializers()
    model = from_message(owned(container.model_proto, ModelProto))
    for graph in graphs(model):
        for value in graph.initializer_values:
            message = getattr(value.tensor, "message", None)
            if message is not None and message.external_data:
                said = {entry.key: entry.value for entry in message.external_data}
                value.tensor = ArrayTensor(container[said["location"]], value.name)
    return model
