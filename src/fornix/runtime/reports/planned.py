"""The model of a session node by node, as it was given, on NumPy kernels.

Decides which values have names, and does the runs that no program is made for: those that ask for
values which only the original model has, and those that go wrong in compiled code.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.errors import InvalidArgument
from fornix.format.limits import Limits
from fornix.ir.dim import Dim
from fornix.ir.types import TensorType
from fornix.runtime.drawing import generator
from fornix.runtime.given import GivenModel
from fornix.runtime.memory import owned, owned_result
from fornix.runtime.options import SessionOptions

if TYPE_CHECKING:
    from fornix.ir.graph import Node, Value
    from fornix.reference.plan import Plan, Watch
    from fornix.reference.scope import Environment
    from fornix.runtime.reports.inside import Inner
    from fornix.runtime.reports.report import Allowance
    from fornix.runtime.reports.timeline import Timeline
    from fornix.runtime.watched import Watched


class PlannedModel:
    """A model whose values may all be asked for by name."""

    def __init__(
        self, given: GivenModel, options: SessionOptions, limits: Limits, label: str
    ) -> None:
        """``label`` is what errors call it."""
        self._given, self._options, self._limits, self._label = given, options, limits, label
        self.contradicted: frozenset[str] | None = None
        """Names of values that had other ranks than declared; None while extents were as declared.

        What bodies compute is not looked at.
        """

    @cached_property
    def by_name(self) -> dict[str, Value]:
        """Every value of the main graph that has a name."""
        graph = self._given.model.graph
        found = {value.name: value for value in graph.initializer_values}
        found |= {value.name: value for node in graph.nodes for value in node.outputs}
        return found | {value.name: value for value in (*graph.inputs, *graph.outputs)}

    def makes(self, names: Collection[str]) -> bool:
        """Whether nodes of the main graph compute the values called so."""
        made = [self.by_name.get(name) for name in names]
        return all(value is not None and value.producer is not None for value in made)

    @cached_property
    def plan(self) -> Plan:
        """The graph prepared for NumPy kernels."""
        from fornix.reference.plan import Plan  # noqa: PLC0415 - kept programs do without
        from fornix.reference.scope import Scope  # noqa: PLC0415 - kept programs do without

        model = self._given.model
        random = generator(self._options.seed)
        functions = model.function_table
        return Plan(model.graph, Scope(model.opset_imports, functions, self._limits, random=random))

    def inner(self, name: str) -> Inner:
        """What ``name``, which the main graph does not have, means inside of bodies."""
        from fornix.runtime.reports.inside import find  # noqa: PLC0415 - few ask for one

        model = self._given.model
        found = find(model, name)
        if found is None:
            outputs = ", ".join(value.name for value in model.graph.outputs)
            raise InvalidArgument(
                f"{self._label}: fetches must name its values (its outputs are {outputs}), "
                f"found {name!r}"
            )
        return found

    def run(
        self,
        feeds: Mapping[str, Any],
        names: Sequence[str],
        watched: Watched | None,
        timeline: Timeline | None,
    ) -> list[Any]:
        """Results by name, in memory of their own."""
        values: Environment = {}
        wanted = {name: self.by_name[name] for name in names if name in self.by_name}
        hidden = [name for name in names if name not in wanted]
        plan, inside = self._looking_inside(hidden, timeline)
        given = {self.by_name[name]: feed for name, feed in feeds.items()}
        begin = timeline.begin_nodes() if timeline else 0.0
        allowance = self._allowance()
        extents = _extents(given)

        def observe(node: Node, results: Sequence[Any]) -> None:
            """Called after each node."""
            self._compare(node, results, extents)
            if timeline:
                timeline.observe(node, results)
            if watched:
                watched.observe(node, results)
            if allowance:
                allowance.require(values, f"{node.label} went beyond it")

        plan.run(given, values, keep=frozenset(wanted.values()), observe=observe)
        if timeline:
            timeline.end_run(begin)
        if allowance:
            coming = sum(getattr(values[value], "nbytes", 0) for value in wanted.values())
            allowance.require(values, f"the results take {coming} more", coming)
        return [
            owned_result(values[wanted[name]], wanted[name])
            if name in wanted
            else owned(inside(name))
            for name in names
        ]

    def _compare(self, node: Node, results: Sequence[Any], extents: Mapping[str, int]) -> None:
        """Note whether ``results`` have other shapes than ``node`` declares for such feeds."""
        for value, result in zip(node.outputs, results, strict=False):
            type_ = value.declared_type
            if not isinstance(type_, TensorType) or type_.shape is None:
                continue
            shape = [d.bind(extents) if isinstance(d, Dim) else d for d in type_.shape]
            if len(shape) != np.ndim(result):
                self.contradicted = (self.contradicted or frozenset()) | {value.name}
            elif any(
                isinstance(d, int) and d != n for d, n in zip(shape, np.shape(result), strict=True)
            ):
                self.contradicted = self.contradicted or frozenset()

    def _looking_inside(
        self, names: Sequence[str], timeline: Timeline | None
    ) -> tuple[Plan, Callable[[str], Any]]:
        """A plan, and what tells the values inside of bodies called so once it has run."""
        if names:
            from fornix.runtime.reports.inside import Gathering  # noqa: PLC0415 - few ask for one

            gathering = Gathering({name: self.inner(name) for name in names})
            return self._watched_by(gathering), gathering.result
        if timeline is None or self.plan.size == len(self.plan.steps):
            return self.plan, _nothing
        from fornix.runtime.reports.timeline import Nested  # noqa: PLC0415 - few sessions are profiled

        return self._watched_by(Nested(timeline)), _nothing

    def _watched_by(self, watch: Watch) -> Plan:
        """A plan of the graph on which ``watch`` looks."""
        from fornix.reference.plan import Plan  # noqa: PLC0415 - kept programs do without

        return Plan(self.plan.graph, replace(self.plan.scope, plans={}, watch=watch))

    def _allowance(self) -> Allowance | None:
        """What NumPy kernels may take, where they do it all."""
        if not self._options.memory_limit:
            return None
        from fornix.runtime.reports.report import Allowance  # noqa: PLC0415 - few ask for it

        made = {*self.by_name.values()} - {*self._given.model.graph.inputs}
        return Allowance(self._options.memory_limit, 0, made)


def _extents(given: Mapping[Value, Any]) -> dict[str, int]:
    """What the shapes of feeds make of the names of extents."""
    return {
        extent.name: number
        for value, feed in given.items()
        if isinstance(value.type, TensorType) and isinstance(feed, np.ndarray)
        for extent, number in zip(value.type.shape or (), feed.shape, strict=False)
        if isinstance(extent, Dim) and extent.name
    }


def _nothing(_: str) -> None:
    """Where nobody asked for a value inside of bodies, none is told."""
