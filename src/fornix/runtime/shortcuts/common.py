"""The short way of all extents together, for those beyond the sets that have one of their own.

Decides which programs have it: those of machine code alone, whose code itself says which extents it
is made for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fornix.compile.entry import Entry
from fornix.runtime.native import NativeStep
from fornix.runtime.options import RunOptions
from fornix.runtime.program import Program
from fornix.runtime.shortcuts.generic import ShortWay
from fornix.runtime.shortcuts.short import no_results


class CommonCall:
    """Feeds of any extents to all outputs, where that is little work."""

    def __init__(self, program: Program, way: ShortWay) -> None:
        self.names = [value.name for value in way.inputs]
        self.files, self.way = program.files, way

    @staticmethod
    def of(program: Program) -> CommonCall | None:
        """That of ``program``; None if it has none."""
        steps = [step for step in program.steps if isinstance(step, NativeStep)]
        outputs = list(program.outputs.values())
        written = {value for step in steps for value in step.writes}
        is_native = steps and len(steps) == len(program.steps) and not program.ranges
        if not is_native or len({*outputs}) < len(outputs) or not {*outputs} <= written:
            return None
        if any(step.learned is not None for step in steps):
            return None
        way = ShortWay(steps, outputs=outputs)
        way.open()
        if way.symbols or not way.is_open or {*way.inputs} != {*program.inputs.values()}:
            return None
        return CommonCall(program, way)

    def call(self, feeds: Mapping[str, Any]) -> list[Any] | None:
        """Feeds to results; None if they are to go the long way."""
        if len(feeds) != len(self.names):
            return None
        try:
            arrays = [feeds[name] for name in self.names]
        except (LookupError, TypeError):
            return None
        for file in self.files:
            file.check()
        return self.way(arrays)

    def until(self, options: RunOptions) -> Entry:
        """The same, for runs with options: these go the long way."""
        del options
        return no_results
