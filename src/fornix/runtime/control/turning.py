"""Scans along other axes than the first: arrays are turned before one native call and after it.

Decides which scans that is possible for: those that read each turned array for nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fornix.ir.graph import Graph, Value
from fornix.ir.walk import captured_values
from fornix.ops.control import Scanning
from fornix.runtime.control.ways import ControlWay
from fornix.runtime.providers import ControlNode, RestStep, Run, Step


def turned(control: ControlNode) -> tuple[Mapping[Value, int], Mapping[int, int]] | None:
    """Axes of inputs, and of outputs by number, that are not the first; None if there are none.

    Nor are there any if an input is stored, or is read for something else.
    """
    node = control.node
    if node.op_type != "Scan" or control.plan.scope.opset("") < Scanning.SINCE:
        return None
    attributes = {key: attribute.value for key, attribute in node.attributes.items()}
    graph: Graph = attributes.pop("body")
    scanning = Scanning.of(len(node.inputs), len(graph.outputs), **attributes)
    scanned = zip(node.inputs[scanning.states :], scanning.input_axes, strict=True)
    inputs = {value: axis for value, axis in scanned if value is not None and axis}
    numbered = enumerate(scanning.output_axes, scanning.states)
    outputs = {number: axis for number, axis in numbered if axis}
    others = [*node.inputs, *captured_values(node)]
    is_mixed = any(v.constant is not None or others.count(v) > 1 for v in inputs)
    if is_mixed or not (inputs or outputs):
        return None
    return {control.outside(value): axis for value, axis in inputs.items()}, outputs


class TurningWay:
    """A scan whose arrays are turned so that it runs along their first axes."""

    def __init__(
        self,
        step: Step,
        control: ControlNode,
        inputs: Mapping[Value, int],
        outputs: Mapping[int, int],
    ) -> None:
        self._inputs = {step.reads.index(value): axis for value, axis in inputs.items()}
        self._outputs = outputs
        self._way = ControlWay(RestStep(replace(control, is_turned=True), step.reads))

    def __call__(self, values: list[Any], run: Run) -> list[Any] | None:
        """What the step writes; None if its kernel has to do it."""
        given = values.copy()
        for number, axis in self._inputs.items():
            array = values[number]
            if type(array) is not np.ndarray or not -array.ndim <= axis < array.ndim:
                return None
            given[number] = np.ascontiguousarray(np.moveaxis(array, axis, 0))
        results = self._way(given, run)
        if results is not None:
            for number, axis in self._outputs.items():
                results[number] = np.ascontiguousarray(np.moveaxis(results[number], 0, axis))
        return results
