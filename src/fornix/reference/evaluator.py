"""`ReferenceEvaluator`: names and behaviour of ``onnx.reference.ReferenceEvaluator``.

Decides what may be evaluated (a path, bytes, a message or an IR model), how feeds become values
and which results come back. The evaluation itself is `plan`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fornix.errors import InvalidUse
from fornix.format.limits import DEFAULT, Limits
from fornix.infer import annotate, infer_model
from fornix.ir.attribute import Attribute
from fornix.ir.graph import Node, Value
from fornix.ir.tensor import SparseTensor
from fornix.ir.types import TensorType
from fornix.reference.plan import Observer, Plan
from fornix.reference.scope import Custom, OperatorKey, Scope
from fornix.reference.source import ModelSource, as_function, as_model

log = logging.getLogger(__name__)


class ReferenceEvaluator:
    """Evaluates a model, graph, function or node one node at a time on the NumPy kernels.

    ``proto`` is a path, the bytes of a model, a message (fornix's or the `onnx` package's) or an IR
    model. ``opsets`` pins versions where the source has none (graphs and nodes); ``functions`` adds
    model functions, each a message, an IR function or an evaluator of one. ``verbose`` ≥ 1 logs
    every node. ``custom`` has code for operators, by domain and name, that goes before kernels and
    functions; those in ``expanded`` are evaluated by their bodies. Raises LimitError for a model
    that asks for more than ``limits`` allow.
    """

    def __init__(
        self,
        proto: ModelSource,
        opsets: Mapping[str, int] | None = None,
        functions: Sequence[Any] | None = None,
        verbose: int = 0,
        *,
        custom: Mapping[OperatorKey, Custom] | None = None,
        expanded: Iterable[OperatorKey] = (),
        limits: Limits = DEFAULT,
    ) -> None:
        self.model = as_model(proto, opsets, limits)
        self.verbose = verbose
        added = [as_function(function) for function in functions or ()]
        self.functions = (*self.model.functions, *added)
        """Model functions, those that were added included."""
        if expanded:  # bodies may depend on types
            annotate(self.model, infer_model(self.model, limits=limits))
        self._scope = Scope(
            self.model.opset_imports,
            {(f.domain, f.name, f.overload): f for f in self.functions},
            limits,
            custom=custom or {},
            expanded=frozenset(expanded),
        )
        self._plan: Plan | None = None

    @property
    def plan(self) -> Plan:
        """The graph prepared for evaluation; made when first needed."""
        if self._plan is None:
            self._plan = Plan(self.model.graph, self._scope)
        return self._plan

    @property
    def input_names(self) -> list[str]:
        """Names of the graph's inputs, initializers that are listed as inputs included."""
        return [value.name for value in self.model.graph.inputs]

    @property
    def output_names(self) -> list[str]:
        """Names of the graph's outputs."""
        return [value.name for value in self.model.graph.outputs]

    @property
    def opsets(self) -> dict[str, int]:
        """Opset imports of the model."""
        return dict(self.model.opset_imports)

    def run(
        self,
        output_names: Sequence[str] | None,
        feed_inputs: Mapping[str, Any],
        attributes: Mapping[str, Any] | None = None,
        intermediate: bool = False,
    ) -> Any:
        """Results by ``output_names``, in their order; None stands for all of the graph's outputs.

        Any value of the graph may be asked for by name. ``attributes`` are those of a function that
        is evaluated by itself. With ``intermediate`` the result is a dictionary of all values by
        name: what was fed, what is stored, and what was computed. Raises InvalidArgument for names
        that the graph does not have or inputs that are missing.
        """
        graph = self.model.graph
        given = {name: Attribute.of(name, value) for name, value in (attributes or {}).items()}
        plan = Plan(graph, self._scope, given) if given else self.plan
        inputs = self._inputs(feed_inputs)
        wanted = self._wanted(output_names)
        everything = {v: None for node in graph.nodes for v in node.outputs} if intermediate else {}
        environment: dict[Value, Any] = {}
        plan.run(
            inputs,
            environment,
            keep=frozenset((*wanted, *everything)),
            observe=self.observer(),
        )
        if intermediate:
            stored = {v.name: v.constant for v in graph.initializer_values}
            held = {name: tensor.numpy() for name, tensor in stored.items() if tensor is not None}
            computed = {value.name: result for value, result in environment.items()}
            return {**held, **{v.name: x for v, x in inputs.items()}, **computed}
        return [environment[value] for value in wanted]

    def observer(self) -> Observer | None:
        """What is told of every node and its results as a run goes on."""
        return _log_node if self.verbose else None

    def _inputs(self, feeds: Mapping[str, Any]) -> dict[Value, Any]:
        graph = self.model.graph
        by_name = {value.name: value for value in graph.inputs}
        by_name |= {v.name: v for v in graph.initializer_values}
        for name in feeds:
            if name not in by_name:
                raise InvalidUse(
                    f"feeds must name inputs of the graph ({', '.join(self.input_names)}), "
                    f"found {name!r}"
                )
        missing = [
            value.name
            for value in graph.inputs
            if value.name not in feeds and not value.is_initializer
        ]
        if missing:
            raise InvalidUse(f"feeds must hold every input, found none for {', '.join(missing)}")
        for name, value in feeds.items():
            _check_kind(by_name[name], value)
        return {by_name[name]: as_value(value) for name, value in feeds.items()}

    def _wanted(self, names: Sequence[str] | None) -> list[Value]:
        graph = self.model.graph
        if names is None:
            return list(graph.outputs)
        by_name = {value.name: value for node in graph.nodes for value in node.outputs}
        by_name |= {value.name: value for value in (*graph.inputs, *graph.outputs)}
        for name in names:
            if name not in by_name:
                raise InvalidUse(
                    f"fetches must name values of the graph (its outputs are "
                    f"{', '.join(self.output_names)}), found {name!r}"
                )
        return [by_name[name] for name in names]


def _check_kind(value: Value, feed: Any) -> None:
    """Raise InvalidUse if ``feed`` is nothing that the type of ``value`` may hold."""
    is_tensor = isinstance(value.type, TensorType)
    is_foreign = not _is_held(feed) and np.asarray(feed).dtype == object
    if is_foreign or (is_tensor and (feed is None or isinstance(feed, dict))):
        raise InvalidUse(
            f"the feed of {value.name!r} must be {value.type or 'a value'}, "
            f"found {type(feed).__name__}"
        )


def _is_held(feed: Any) -> bool:
    """Whether ``feed`` is an array, or has a meaning though NumPy has no type for it."""
    kinds = (np.ndarray, SparseTensor, str, bytes, list, tuple, dict)
    return feed is None or isinstance(feed, kinds)


def as_value(value: Any) -> Any:
    """``value`` as kernels take it: scalars become arrays, lists stay sequences."""
    if value is None or isinstance(value, (np.ndarray, dict)):
        return _with_object_strings(value) if isinstance(value, np.ndarray) else value
    if isinstance(value, (list, tuple)):
        return [as_value(item) for item in value]
    return _with_object_strings(np.asarray(value)) if np.ndim(value) == 0 else value


def _with_object_strings(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``array``; strings of fixed width become objects, as every kernel expects."""
    return array.astype(object) if array.dtype.kind in "US" else array


def _log_node(node: Node, results: Sequence[Any]) -> None:
    for value, result in zip(node.outputs, results, strict=False):
        shape = getattr(result, "shape", None)
        log.info("%s: %s = %s%s", node.label, value.name, getattr(result, "dtype", ""), shape)
