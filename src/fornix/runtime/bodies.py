"""Bodies of If, Loop and Scan, compiled for the shapes that they meet.

The operator's kernel drives: it decides which body runs, how often and on what. Decides when a body
becomes a model of its own, whose inputs are the body's and whatever it captures: when the same
shapes come a second time. Bodies whose shapes always change, whose values are no plain arrays, or
whose runs go wrong are left to NumPy kernels, which then say what is wrong.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fornix.dtype import DType
from fornix.errors import FornixError
from fornix.ir.clone import clone
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.types import TensorType
from fornix.ir.walk import captured_values
from fornix.reference.plan import Body, Environment, Plan, Scope
from fornix.runtime.options import SessionOptions
from fornix.runtime.program import Programs
from fornix.runtime.providers import CPUExecutionProvider, NotAsCompiled
from fornix.runtime.quick import QuickCall

log = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]
Types = tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]

MAX_PROGRAMS = 4
"""Sets of shapes for which a body is compiled."""
MAX_SEEN = 64
"""Sets of shapes that are remembered until they come again."""


def compile_bodies(node: Node, plan: Plan, options: SessionOptions) -> None:
    """Let the bodies of ``node`` run compiled, wherever ``plan`` runs them."""
    if plan.given:
        return  # attributes of a call, which the body alone does not know
    for graph in node.graphs:
        plan.bodies[graph] = CompiledBody(graph, plan.bodies[graph], plan.scope, options)


class CompiledBody:
    """A body, and its programs by the types of what it reads."""

    def __init__(self, graph: Graph, kernels: Body, scope: Scope, options: SessionOptions) -> None:
        self.graph, self.kernels, self.scope, self.options = graph, kernels, scope, options
        self.size = kernels.size
        captured = captured_values(graph)
        self.captured = [v for v in captured if v.constant is None]
        self.stored = [v for v in captured if v.constant is not None]
        self._programs: dict[Types, _Compiled | None] = {}
        self._last: _Compiled | None = None
        self._seen: set[Types] = set()
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[Value, Any], environment: Environment | None = None) -> list[Any]:
        """Values of the body's outputs."""
        outer = environment or {}
        values = [*inputs.values(), *[outer.get(v) for v in self.captured]]
        if self._last is not None:  # what it takes the short way is of its types
            results = self._last.at_once(values)
            if results is not None:
                return results
        program = self._last = self._program(values)
        if program is not None:
            try:
                return program.run(values)
            except NotAsCompiled as reason:
                log.debug("%s: %s", self.graph.label, reason)
        return self.kernels.run(inputs, environment)

    def _program(self, values: Sequence[Any]) -> _Compiled | None:
        """The program for ``values``; None the first time, and where there is none."""
        if not all(type(x) is np.ndarray and x.dtype.kind not in "OSU" for x in values):
            return None
        types = tuple([(x.shape, x.dtype) for x in values])
        if types in self._programs:
            return self._programs[types]
        if types not in self._seen:
            if len(self._seen) < MAX_SEEN:
                self._seen.add(types)
            return None
        with self._lock:
            if types not in self._programs:
                self._programs[types] = self._compiled(types)
        return self._programs[types]

    def _compiled(self, types: Types) -> _Compiled | None:
        if len(self._programs) >= MAX_PROGRAMS:
            return None
        try:
            return _Compiled(self._model(types), self.options)
        except FornixError as error:
            log.debug("%s: %s", self.graph.label, error)
            return None

    def _model(self, types: Types) -> Model:
        """The body as a model, whose inputs are named by their numbers."""
        fed = {v: Value() for v in self.captured}
        stored = {v: Value(tensor=v.constant) for v in self.stored}
        graph = clone(self.graph, {**fed, **stored})
        graph.inputs = (*graph.inputs, *fed.values())
        for number, value in enumerate(stored.values()):
            value.name = f"stored {number}"
            graph.add_initializer(value)
        for number, (value, (shape, dtype)) in enumerate(zip(graph.inputs, types, strict=True)):
            value.name = f"input {number}"
            value.type = TensorType(DType.of(dtype), shape)
        for number, value in enumerate(graph.outputs):
            if not value.is_input and not graph.holds(value):
                value.name = f"output {number}"
        return Model(graph, self.scope.imports, functions=self.scope.functions.values())


class _Compiled:
    """A body for one set of types."""

    def __init__(self, model: Model, options: SessionOptions) -> None:
        self.names = [value.name for value in model.graph.inputs]
        self.outputs = [value.name for value in model.graph.outputs]
        self.programs = Programs(lambda: model, [CPUExecutionProvider()], options)
        self.short: QuickCall | None = None

    def at_once(self, values: Sequence[Any]) -> list[Any] | None:
        """The outputs, if there is a short way for such values."""
        if self.short is None:
            return None
        results: list[Any] | None = self.short.call(dict(zip(self.names, values, strict=True)))
        return results

    def run(self, values: Sequence[Array]) -> list[Any]:
        """The outputs; raises NotAsCompiled if NumPy kernels are to do it."""
        feeds = dict(zip(self.names, values, strict=True))
        found = self.programs.run(feeds, self.outputs)
        if len(set(self.outputs)) == len(self.outputs):
            self.short = self.programs.short_way(feeds)
        return found


__all__ = ["CompiledBody", "compile_bodies"]
