"""Parts of a model, evaluated in other arithmetic than their own.

A part is the nodes between values that are given and one that is asked for: a single node, if all
that it reads is given. It is evaluated with the NumPy kernels, in double precision, in the model's
own, or in any that an `Arithmetic` describes. What that means for rounding is decided in
`rounding`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fornix.dtype import DType
from fornix.errors import FornixError
from fornix.ir.graph import Model, Node, Value
from fornix.ir.types import TensorType
from fornix.ir.walk import captured_values
from fornix.ops.call import REFUSALS
from fornix.reference.plan import Plan, Step
from fornix.reference.scope import Custom, OperatorKey, Scope

Array = np.ndarray[Any, np.dtype[Any]]
Given = Mapping[str, Any]
"""Values by name."""


@dataclass(frozen=True)
class Arithmetic:
    """In what precision nodes compute: what becomes of the floats that they read and make."""

    name: str
    read: Callable[[Array, Node, int], Array]
    """What a node reads for an array, as the input of this index."""
    made: Callable[[Array], Array]


def double(x: Array) -> Array:
    """Floats in float64, complex numbers in complex128, anything else as it is."""
    if x.dtype.kind == "c":
        return x.astype(np.complex128, copy=False)
    return x.astype(np.float64, copy=False) if is_float(x) else x


def magnitude(x: Array) -> Array:
    """The size of each element, 0 for what is not finite: nothing near it is explained by it."""
    size = np.abs(double(x))
    return np.asarray(np.where(np.isfinite(size), size, 0.0))


def is_float(x: Any) -> bool:
    """Whether ``x`` is an array of real floating-point numbers."""
    if not isinstance(x, np.ndarray) or x.dtype.kind in "biuOUSc" or x.dtype.names:
        return False
    return x.dtype.kind == "f" or DType.of(x.dtype).is_float


OWN = Arithmetic("own", lambda x, _node, _index: x, lambda x: x)
DOUBLE = Arithmetic("float64", lambda x, _node, _index: double(x), double)


@dataclass(frozen=True, eq=False)
class Part:
    """The nodes that lead from ``entering`` to ``leaving``, in their order."""

    plan: Plan
    steps: tuple[Step, ...]
    entering: tuple[Value, ...]
    leaving: Value

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Its nodes."""
        return tuple(step.node for step in self.steps)

    @property
    def last(self) -> Node:
        """The node that makes its result."""
        return self.steps[-1].node

    def names(self) -> list[str]:
        """Names of what enters it and is not stored in the model."""
        return [value.name for value in self.entering if value not in self.plan.constants]

    def evaluate(
        self, given: Given, arithmetic: Arithmetic, drawn: Mapping[Value, Any] | None = None
    ) -> dict[Value, Any]:
        """Every value that it computes from ``given``; stored data that is not given as it is.

        Nodes whose results are in ``drawn`` are not evaluated: they would draw other numbers.
        """
        constants = self.plan.constants
        values: dict[Value, Any] = {
            v: given[v.name] if v.name in given else constants[v] for v in self.entering
        }
        with np.errstate(all="ignore"):
            values.update(drawn or {})
            for step in self.steps:
                if drawn and step.node.output in drawn:
                    continue
                results = _results(step, values, arithmetic)
                for value, result in zip(step.node.outputs, results, strict=False):
                    values[value] = mapped(arithmetic.made, result)
        return values


def plan_of(model: Model, custom: Mapping[OperatorKey, Custom] | None = None) -> Plan:
    """``model`` node by node; ``custom`` has code that goes before kernels."""
    random = np.random.default_rng(0)
    scope = Scope(
        model.opset_imports,
        model.function_table,
        random=lambda: random,
        custom=custom or {},
    )
    return Plan(model.graph, scope)


def part_to(plan: Plan, value: Value, given: Collection[str]) -> Part:
    """What computes ``value`` from those that ``given`` names, as near to it as there are any."""
    entering: dict[Value, None] = {}
    needed: set[Node] = set()
    waiting = [value]
    while waiting:
        wanted = waiting.pop()
        producer = wanted.producer
        if producer is None or (wanted.name in given and wanted is not value):
            entering[wanted] = None
        elif producer not in needed:
            needed.add(producer)
            waiting += read_by(producer)
    steps = tuple(step for step in plan.steps if step.node in needed)
    return Part(plan, steps, tuple(entering), value)


def read_by(node: Node) -> list[Value]:
    """What ``node`` reads, in its subgraphs too."""
    captured = captured_values(node) if node.graphs else []
    outer = [value for value in captured if value.graph is node.graph]
    return [*(value for value in node.inputs if value is not None), *outer]


def _results(step: Step, values: Mapping[Value, Any], arithmetic: Arithmetic) -> Sequence[Any]:
    """What a node makes in this arithmetic; in its own if its operator does not know the other."""
    node = step.node
    read = [
        None if v is None else _read(arithmetic, values[v], node, i)
        for i, v in enumerate(node.inputs)
    ]
    if not node.graphs and arithmetic is not OWN:
        try:
            return step.call(read, {})
        except (FornixError, *REFUSALS):
            pass  # a type that the schema fixes
    own = [
        None if v is None else _in_own_dtype(x, v) for v, x in zip(node.inputs, read, strict=True)
    ]
    outer = {v: _in_own_dtype(values[v], v) for v in read_by(node)} if node.graphs else {}
    return step.call(own, outer)


def _read(arithmetic: Arithmetic, value: Any, node: Node, index: int) -> Any:
    return mapped(lambda x: arithmetic.read(x, node, index), value)


def _in_own_dtype(x: Any, value: Value) -> Any:
    """``x`` in the float type that the model declares for ``value``."""
    declared = value.type
    dtype = declared.dtype if isinstance(declared, TensorType) else None
    if dtype is None or not (dtype.is_float or dtype.kind == "complex"):
        return x
    return mapped(lambda y: y.astype(dtype.numpy, copy=False), x)


def mapped(change: Callable[[Array], Array], x: Any) -> Any:
    """``x`` with ``change`` made to the floating-point arrays in it."""
    if isinstance(x, list):
        return [mapped(change, item) for item in x]
    if is_float(x) or (isinstance(x, np.ndarray) and x.dtype.kind == "c"):
        return change(x)
    return x
