"""Where two computations of a model part, and why.

1. both sides    outputs as users get them; within the tolerances that are given, or of engines
                 within what rounding explains, they agree, and that is all
2. walk          node by node in the model's order: what each side had there goes through the node
                 in double precision. Who is farther from that than rounding explains has an error
                 of its own; an error that came in is nobody's here
3. optimizations where no node is at fault, and one side's results change without them
4. causes        experiments on the node (`causes`)
5. smallest      a model that shows it (`smallest`)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from fornix.debug.align import order_of, turned
from fornix.debug.causes import Case, Cause, cause_of
from fornix.debug.chance import is_random
from fornix.debug.comparison import Comparison, Finding, Output
from fornix.debug.engines import Compiled, Kernels
from fornix.debug.measure import gap
from fornix.debug.part import DOUBLE, Part, is_float, magnitude, part_to, plan_of
from fornix.debug.prepare import prepared
from fornix.debug.rounding import Verdict, judge, margins, unit
from fornix.debug.sides import EngineSide, ModelSide, Side, side_of
from fornix.debug.smallest import Smallest, Trials, smallest_of
from fornix.dtype import DType
from fornix.errors import FornixError
from fornix.ir.graph import Model, Value
from fornix.ops.call import REFUSALS
from fornix.reference.plan import Plan
from fornix.reference.source import ModelSource, as_model
from fornix.runtime.feeds import checked_feeds

MOST = 5
"""Findings that are looked into: the later ones mostly are the first again."""


@dataclass(frozen=True)
class Tolerance:
    """What users allow instead of what rounding explains."""

    absolute: float
    relative: float

    def margin(self, wanted: Any) -> Any:
        """How far each element may be off."""
        if isinstance(wanted, list):
            return [self.margin(x) for x in wanted]
        if not isinstance(wanted, np.ndarray) or wanted.dtype.kind in "OUS":
            return 0.0
        return self.absolute + self.relative * magnitude(wanted)


def compare(
    model: ModelSource,
    other: ModelSource | Mapping[str, Any],
    feeds: Mapping[str, Any],
    *,
    atol: float | None = None,
    rtol: float | None = None,
    trials: int = 60,
) -> Comparison:
    """Where and why ``model`` and ``other`` differ on ``feeds``.

    ``other`` is "onnxruntime" or "reference", which run the same model beside a session; another
    model; or arrays by name, or an .npz of them: outputs, and any values on the way. Models and
    arrays are compared with what the NumPy kernels make of ``model``. Without ``atol`` and ``rtol``
    outputs may differ as far as rounding explains. ``trials`` bound the search for the smallest
    model. Raises NotSupported if onnxruntime is wanted and not installed.
    """
    loaded = as_model(model)
    feeds = _checked(feeds, loaded)
    plain = EngineSide(Kernels(), loaded, prepared(loaded), feeds)
    side = side_of(other, plain)
    mine = EngineSide(Compiled(), loaded, plain.flat, feeds)
    if not isinstance(side, EngineSide):
        mine, plain.name = plain, "the model"
    tolerance = None
    if atol is not None or rtol is not None:
        tolerance = Tolerance(atol or 0.0, rtol or 0.0)
    return _Search(mine.flat, feeds, mine, side, tolerance, trials).comparison()


def _checked(feeds: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """``feeds`` as kernels take them; raises InvalidArgument unless they fit ``model``."""
    required = [value for value in model.graph.inputs if not value.is_initializer]
    optional = {value.name: value for value in model.graph.inputs if value.is_initializer}
    checked = checked_feeds(feeds, required, optional, "compare")
    return {value.name: feed for value, feed in checked.items()}


@dataclass
class _Search:
    flat: Model
    feeds: Mapping[str, Any]
    mine: EngineSide
    side: Side
    tolerance: Tolerance | None
    trials: int

    def __post_init__(self) -> None:
        self.plan: Plan = plan_of(self.flat)
        self.margins: dict[Value, Any] = {}

    @cached_property
    def ours(self) -> dict[str, Any]:
        """Values that the model has, feeds included."""
        return {**self.feeds, **self.mine.values}

    @cached_property
    def theirs(self) -> dict[str, Any]:
        """Values that the other side has, feeds included, and that fit the model's nodes."""
        fitting = {
            name: value
            for name, value in self.side.values.items()
            if name in self.mine.values
            and getattr(value, "shape", None) == getattr(self.mine.values[name], "shape", None)
        }
        return {**self.feeds, **fitting}

    @cached_property
    def their_plan(self) -> Plan:
        """The other model node by node."""
        return plan_of(self.side.model) if isinstance(self.side, ModelSide) else self.plan

    def comparison(self) -> Comparison:
        """Everything, in the order of the stages."""
        outputs = [self._output(value) for value in self.flat.graph.outputs]
        told = Comparison(
            (self.mine.name, self.side.name),  # after outputs: a side may need an engine for them
            tuple(output for output in outputs if output),
            is_strict=self.tolerance is not None,
        )
        is_within = all(output.is_within for output in told.outputs)
        if is_within and (told.is_strict or isinstance(self.side, EngineSide)):
            return told
        found = [*self._turned_outputs(told), *self._walk()] or self._optimizations(told)
        told = replace(told, aligned=self._aligned(), values=self._count())
        if not found:
            return replace(told, is_rounding=not is_within)
        findings = tuple(self._finding(case, cause) for case, cause in found)
        return replace(told, findings=findings, smallest=self._smallest(*found[0]))

    def _output(self, value: Value) -> Output | None:
        """How far the outputs lie apart, and whether that is within what is allowed."""
        ours, theirs = self.mine.outputs.get(value.name), self.side.outputs.get(value.name)
        if value.name not in self.side.outputs:
            return None
        margin = self.tolerance.margin(ours) if self.tolerance else _a_rounding_or_two(ours)
        found = gap(theirs, ours, margin)
        if self.tolerance is None and not found.is_explained:
            found = gap(theirs, ours, self._margin(value))
        return Output(value.name, found)

    def _margin(self, value: Value) -> Any:
        """How far rounding may carry an output, from the inputs on; found for all at once."""
        if value.producer is None:
            return 0.0
        if not self.margins:
            graph = self.flat.graph
            fed = [x for x in graph.inputs if x.name in self.feeds]
            begin = tuple(dict.fromkeys((*fed, *self.plan.constants)))
            ends = [x for x in graph.outputs if x.producer is not None]
            part = Part(self.plan, tuple(self.plan.steps), begin, value)
            exact = part.evaluate(self.feeds, DOUBLE)
            self.margins = margins(part, self.feeds, exact, ends)
        return self.margins[value]

    def _known_margin(self, part: Part) -> Any:
        """What `_margin` has found of a part that begins with the inputs; None if nothing."""
        is_whole = set(part.names()) <= self.feeds.keys()
        return self.margins.get(part.leaving) if is_whole else None

    def _turned_outputs(self, told: Comparison) -> Iterator[tuple[Case, Cause | None]]:
        """Outputs that agree once their axes are in the model's order."""
        ours = {value.name: value for value in self.flat.graph.outputs}
        for output in told.outputs:
            one, two = self.mine.outputs[output.name], self.side.outputs[output.name]
            order = order_of(one, two)
            if output.is_within or order is None or order == tuple(range(len(order))):
                continue
            margin = self._margin(ours[output.name])
            if gap(turned(two, order), one, margin).is_explained:
                part = part_to(self.plan, ours[output.name], self.feeds.keys())
                cause = Cause("layout", f"axes are in another order: transpose by {list(order)}")
                verdict = Verdict(one, output.gap)
                yield Case(self.flat, part, self.feeds, two, self.side.name, verdict), cause

    def _walk(self) -> Iterator[tuple[Case, Cause | None]]:
        """Parts on which a side errs, in the model's order, each with what it was given."""
        seen = 0
        for step in self.plan.steps:
            for value in step.node.outputs:
                case = self._case(value) if value.name in self.side.values else None
                if case is not None:
                    seen += 1
                    yield case, None
                    break
            if seen >= MOST:
                return

    def _case(self, value: Value) -> Case | None:
        """What is wrong with ``value``, if anything."""
        theirs, ours = self.side.values[value.name], self.mine.values[value.name]
        if _alike(ours, theirs):
            return None
        known = self.theirs
        part = part_to(self.plan, value, known.keys())
        if any(is_random(node, self.plan) for node in part.nodes):
            verdict = Verdict(ours, gap(theirs, ours))
            return Case(self.flat, part, known, theirs, self.side.name, verdict, self._place(part))
        for side, given, found in (
            (self.side, known, theirs),
            (self.mine, self.ours, ours),
        ):
            if side.is_plain:
                continue
            if side is self.mine:
                part = part_to(self.plan, value, given.keys())
            try:
                verdict = judge(part, given, found, margin=self._known_margin(part))
            except (FornixError, *REFUSALS):  # what it read does not fit the node
                verdict = Verdict(ours, gap(found, ours, _a_rounding_or_two(ours)))
            if not verdict.is_explained:
                place = self._place(part) if side is self.side else None
                return Case(self.flat, part, given, found, side.name, verdict, place)
        return None

    def _place(self, part: Part) -> Part | None:
        """What the other model has in the place of ``part``."""
        if not isinstance(self.side, ModelSide):
            return None
        names = self.side.alignment.names
        graph = self.side.model.graph
        by_name = {v.name: v for node in graph.nodes for v in node.outputs}
        leaving = by_name.get(names.get(part.leaving.name, ""))
        if leaving is None:
            return None
        try:
            return part_to(self.their_plan, leaving, set(names.values()))
        except FornixError:
            return None  # operators that are nobody's here

    def _optimizations(self, told: Comparison) -> list[tuple[Case, Cause | None]]:
        """Outputs that change with the optimizations of one side."""
        if not isinstance(self.side, EngineSide):
            return []
        ours = {value.name: value for value in self.flat.graph.outputs}
        for output in told.outputs:
            if output.is_within or ours[output.name].producer is None:
                continue
            margin = self._margin(ours[output.name])
            for side in (self.side, self.mine):
                plain, found = side.values[output.name], side.outputs[output.name]
                if side.is_plain or (off := gap(found, plain, margin)).is_explained:
                    continue
                part = part_to(self.plan, ours[output.name], self.feeds.keys())
                text = f"an optimization of {side.name}: without them its results agree"
                case = Case(self.flat, part, self.feeds, found, side.name, Verdict(plain, off))
                return [(case, Cause("optimization", text))]
        return []

    def _finding(self, case: Case, cause: Cause | None) -> Finding:
        last = case.part.last
        return Finding(
            last.name,
            last.op_type,
            case.part.leaving.name,
            tuple(node.name for node in case.part.nodes),
            case.side,
            case.verdict.gap,
            cause or cause_of(case),
        )

    def _smallest(self, case: Case, cause: Cause | None) -> Smallest | None:
        optimized = cause is not None and cause.kind == "optimization"
        accused = self.mine if case.side == self.mine.name else self.side
        return smallest_of(case, accused, Trials(self.trials), optimized=optimized)

    def _aligned(self) -> int:
        return sum(
            v.name in self.side.values for node in self.flat.graph.nodes for v in node.outputs
        )

    def _count(self) -> int:
        return sum(bool(v.name) for node in self.flat.graph.nodes for v in node.outputs)


def _alike(one: Any, other: Any) -> bool:
    """Whether values are the same, but for a rounding or two."""
    if getattr(one, "dtype", None) != getattr(other, "dtype", None):
        return False
    return gap(other, one, _a_rounding_or_two(one)).is_explained


def _a_rounding_or_two(x: Any) -> Any:
    return 4 * unit(DType.of(x.dtype)) * magnitude(x) if is_float(x) else 0.0
