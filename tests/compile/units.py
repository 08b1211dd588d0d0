"""Runs a model unit by unit, as it is partitioned and lowered, without any machine code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fornix.compile.lower import Lowering
from fornix.compile.partition import partition
from fornix.compile.traits import Survey, Traits
from fornix.compile.units import CompiledUnit, IslandUnit, Unit
from fornix.dtype import DType
from fornix.infer import infer_model
from fornix.ir.dim.expression import Atom, Symbol
from fornix.ir.graph import Model, Node
from fornix.ops.call import NotLowered
from fornix.passes import Level, optimize
from fornix.reference.plan import Plan
from fornix.reference.scope import Environment, Scope
from fornix.runtime.sizing.extents import bound_symbols, name_extents
from tests.ir.interpreter import Machine


class Units:
    """The units of a model, ready to be interpreted."""

    def __init__(self, source: Model, level: Level = Level.ALL) -> None:
        self.model = optimize(source, level)
        name_extents(self.model, {})
        graph = self.model.graph
        self.symbols = bound_symbols(graph.inputs)
        self.lowering = Lowering(infer_model(self.model), self.symbols)
        self.survey = Survey(self.lowering)
        nodes = list(graph.nodes)
        self.traits = {node: self.traits_of(node) for node in nodes}
        self.units: list[Unit] = partition(nodes, self.traits, graph.outputs)
        self.plan = Plan(graph, Scope(self.model.opset_imports, self.model.function_table))

    def traits_of(self, node: Node) -> Traits | str:
        """The traits of ``node``, or why it runs its kernel."""
        try:
            self.survey.key(node)
        except NotLowered as reason:
            return str(reason)
        return self.survey.traits(node)

    @property
    def islands(self) -> dict[str, str]:
        """By operator, why its nodes run their kernels."""
        return {u.node.op_type: u.reason for u in self.units if isinstance(u, IslandUnit)}

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        """The outputs; asserts that every shape is what was assumed."""
        by_name = {value.name: value for value in self.model.graph.inputs}
        values: Environment = dict(self.plan.constants)
        values |= {by_name[name]: feed for name, feed in feeds.items()}
        extents = {name: values[v].shape[axis] for name, (v, axis) in self.symbols.items()}
        self.check(extents)
        steps = {step.node: step for step in self.plan.steps}
        for unit in self.units:
            if isinstance(unit, IslandUnit):
                step = steps[unit.node]
                inputs = [None if v is None else values[v] for v in unit.node.inputs]
                with np.errstate(all="ignore"):
                    results = step.call(inputs, values)
                values.update(zip(unit.node.outputs, results, strict=False))
            else:
                self.interpret(unit, values, extents)
        return [values[value] for value in self.model.graph.outputs]

    def check(self, extents: Mapping[str, int]) -> None:
        """Assert what the program checks once for the extents of a run."""
        bound: dict[Atom, int] = {Symbol(name, 1): extent for name, extent in extents.items()}
        for node, traits in self.traits.items():
            if isinstance(traits, Traits):
                if traits.needs_check:
                    self.survey.infer(node, extents)
                assert all(b.holds(bound) for b in traits.bounds), (node, traits.bounds)

    def interpret(
        self, unit: CompiledUnit, values: Environment, extents: Mapping[str, int]
    ) -> None:
        lowered = self.lowering.unit(unit)
        machine = Machine({}, extents, {})
        for buffer, value in lowered.arguments.items():
            array: np.ndarray = values[value]
            assert DType.of(array.dtype) is buffer.dtype
            assert array.shape == tuple(map(machine.whole, buffer.shape)), (value, buffer)
            machine.memory[buffer] = array.reshape(-1)
        with np.errstate(all="ignore"):
            for buffer, value in lowered.results.items():
                values[value] = np.asarray(machine.contents(buffer))
