"""Why a node gives something else: hypotheses, each tried by an experiment.

A hypothesis changes what the model says (an epsilon, an attribute, a constant, the opset, the
arithmetic) and evaluates the node again on the same inputs. If what was found comes out, but for
rounding, that is the cause. Those that stay within the model's precision are tried first: what
explains a result to the last digits is better than what explains three of them. What is only
suspected, and no experiment confirms, is told as such; where there is nothing, as unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fornix.debug import variants
from fornix.debug.align import order_of
from fornix.debug.chance import RANDOM, drops
from fornix.debug.measure import gap
from fornix.debug.part import (
    DOUBLE,
    Array,
    Given,
    Part,
    double,
    is_float,
    magnitude,
    part_to,
    plan_of,
)
from fornix.debug.precision import NARROW, Narrow, is_held
from fornix.debug.prepare import retyped
from fornix.debug.rounding import Verdict, allowed, judge, precision_of, unit
from fornix.dtype import DType
from fornix.edit import extract
from fornix.errors import FornixError
from fornix.ir.graph import Model, Node
from fornix.ops.call import REFUSALS
from fornix.reference.scope import Custom, OperatorKey

NEAR = 100.0
"""How many times what is allowed, at the part as it is, a changed one may be off at first sight."""
QUANTIZING = frozenset("QuantizeLinear DequantizeLinear DynamicQuantizeLinear".split())


@dataclass(frozen=True)
class Cause:
    """Why results differ: a `kind` for programs, a sentence for people."""

    kind: str
    text: str
    is_proven: bool = True
    """Whether an experiment gives what was found."""


@dataclass(frozen=True, eq=False)
class Case:
    """A part of a model, what a side had there, and what it made of it."""

    model: Model
    part: Part
    given: Given
    found: Any
    side: str
    verdict: Verdict
    theirs: Part | None = None
    """What another model has in the place of the part."""

    @cached_property
    def piece(self) -> Model:
        """The part as a model."""
        piece = extract(self.model, self.part.names(), [self.part.leaving.name])
        retyped(piece)
        return piece

    @cached_property
    def margin(self) -> Any:
        """How far rounding may carry the result of the part."""
        if self.verdict.margin is not None:
            return self.verdict.margin
        return allowed(self.part, self.given, self.part.evaluate(self.given, DOUBLE))

    def explains(
        self, model: Model | None = None, custom: dict[OperatorKey, Custom] | None = None
    ) -> bool:
        """Whether ``model`` in the place of the part, or with other code, gives what was found."""
        chosen = model or self.piece
        try:
            plan = plan_of(chosen, custom)
            part = part_to(plan, chosen.graph.outputs[0], self.given.keys())
            if not self._is_near(part.evaluate(self.given, DOUBLE)[part.leaving]):
                return False
            return judge(part, self.given, self.found).is_explained
        except (FornixError, *REFUSALS):
            return False  # a model that is none

    def _is_near(self, exact: Any) -> bool:
        """Whether a result is near enough to what was found to be looked at more closely."""
        if not isinstance(exact, np.ndarray) or np.shape(self.margin) != exact.shape:
            return True
        return gap(self.found, exact, NEAR * self.margin).is_explained


Hypothesis = Callable[[Case], Iterator[Cause]]


def cause_of(case: Case) -> Cause:
    """The first cause that an experiment confirms; else what is suspected, else unknown."""
    suspected: list[Cause] = []
    for hypothesis in HYPOTHESES:
        for cause in hypothesis(case):
            if cause.is_proven:
                return cause
            suspected.append(cause)
    return suspected[0] if suspected else Cause("unknown", "the cause is unknown", is_proven=False)


def by_chance(case: Case) -> Iterator[Cause]:
    """Operators that draw numbers, Dropout in training mode among them."""
    for side, part in (("the model", case.part), (case.side, case.theirs)):
        for node in part.nodes if part else ():
            if part and drops(node, part.plan):
                yield Cause("mode", f"Dropout of {side} drops: it is in training mode")
            elif node.op_type in RANDOM and not node.domain:
                has_seed = node.attr("seed") is not None
                told = "engines draw others from the same seed" if has_seed else "without a seed"
                yield Cause("random", f"{node.op_type} draws numbers, {told}")


def by_constant(case: Case) -> Iterator[Cause]:
    """Stored data that differ."""
    if case.theirs is None:
        return
    changes = variants.changed_constants(case.part, case.theirs)
    groups = [[change] for change in changes] + ([changes] if len(changes) > 1 else [])
    for group in groups:
        if case.explains(variants.with_constants(case.piece, group)):
            narrow = {change.rounded_to for change in group}
            if narrow.isdisjoint({""}):
                names = ", ".join(f"'{change.name}'" for change in group)
                types = " and ".join(sorted(narrow))
                yield Cause("dtype", f"{case.side} has rounded {names} to {types}")
            yield Cause("constant", "; ".join(change.text for change in group))
    for change in changes:
        if not change.rounded_to:
            yield Cause("constant", change.text, is_proven=False)


def by_attribute(case: Case) -> Iterator[Cause]:
    """Attributes that differ from those of another model."""
    if case.theirs is None:
        return
    changes = variants.changed_attributes(case.part, case.theirs)
    constants = variants.changed_constants(case.part, case.theirs)
    for change in changes:
        proven = case.explains(variants.with_attributes(case.piece, [change]))
        if proven:
            yield change_cause(change)
    if changes and case.explains(
        variants.with_constants(variants.with_attributes(case.piece, changes), constants)
    ):
        yield Cause(
            "epsilon" if all(x.name == "epsilon" for x in changes) else "attribute",
            "; ".join([*(x.text for x in changes), *(x.text for x in constants)]),
        )
    for change in changes:
        yield change_cause(change, is_proven=False)


def change_cause(change: variants.AttributeChange, *, is_proven: bool = True) -> Cause:
    """What an attribute that differs is called."""
    kind = {"epsilon": "epsilon", "training_mode": "mode", "to": "dtype"}
    return Cause(kind.get(change.name, "attribute"), change.text, is_proven)


def by_version(case: Case) -> Iterator[Cause]:
    """The same nodes as another opset understands them."""
    own = case.model.opset_imports.get("", 0)
    their_opset = None
    if case.theirs is not None:
        their_opset = case.theirs.plan.scope.imports.get("")
    for opset, names in variants.other_opsets(case.piece, their_opset):
        if case.explains(variants.with_opset(case.piece, opset)):
            told = ", ".join(names)
            where = "the other model imports it" if opset == their_opset else "as if imported"
            yield Cause(
                "version",
                f"{told} of opset {opset} ({where}) means something else than in opset {own}",
            )


def by_epsilon(case: Case) -> Iterator[Cause]:
    """Other epsilons that are in use."""
    for text, model in variants.other_epsilons(case.piece):
        if case.explains(model):
            yield Cause("epsilon", text)


def by_mode(case: Case) -> Iterator[Cause]:
    """BatchNormalization with statistics of the batch, results that are dropped."""
    if any(node.op_type == "BatchNormalization" for node in case.part.nodes):
        custom: dict[OperatorKey, Custom] = {("", "BatchNormalization"): variants.batch_statistics}
        if case.explains(custom=custom):
            yield Cause(
                "mode",
                "BatchNormalization with the mean and variance of the batch, as in training, not "
                "the stored ones",
            )
    ratio = dropped_ratio(case.found, case.verdict.exact)
    if ratio is not None:
        yield Cause("mode", f"the result is dropped with ratio {ratio:.3g}, as in training")


def dropped_ratio(found: Any, exact: Any) -> float | None:
    """The ratio of a dropout that makes ``found`` of ``exact``; None if there is none."""
    if not (is_float(found) and is_float(exact)) or found.shape != exact.shape:
        return None
    wide = double(found)
    kept = (wide != 0) & (exact != 0)
    dropped = (wide == 0) & (exact != 0)
    if kept.sum() < 8 or dropped.sum() < 2:
        return None
    factors = wide[kept] / exact[kept]
    factor = float(np.median(factors))
    is_even = bool(np.all(np.abs(factors - factor) <= 1e-3 * abs(factor)))
    return 1 - 1 / factor if is_even and factor > 1 + 1e-6 else None


def by_alternative(case: Case) -> Iterator[Cause]:
    """Other values of attributes that converters get wrong."""
    for text, model in variants.alternatives(case.piece):
        if case.explains(model):
            yield Cause("attribute", text)


def by_layout(case: Case) -> Iterator[Cause]:
    """The same elements in another order."""
    exact = case.verdict.exact
    order = order_of(exact, case.found)
    is_turned = order is not None and order != tuple(range(len(order)))
    if order is not None and is_turned:
        straight = np.transpose(case.found, order)
        if gap(straight, exact, case.margin).is_explained:
            yield Cause("layout", f"the values agree once axes are transposed by {list(order)}")
    for text, custom in variants.other_layouts(case.part):
        if case.explains(custom=custom):
            yield Cause("layout", text)


def by_dtype(case: Case) -> Iterator[Cause]:
    """Arithmetic of less precision."""
    if not is_float(case.found):
        return
    own = unit(precision_of(case.part.last))
    narrower = [narrow for narrow in NARROW if narrow.unit > own]
    for narrow in narrower:
        if narrow_fits(case, narrow):
            where = ""
            if np.isinf(double(case.found)).any() and np.isfinite(case.verdict.exact).all():
                where = ", whose range it leaves"
            yield Cause("dtype", f"{case.side} computes in {narrow.name}{where}")
    for narrow in narrower:
        if narrow.dtype is None or not is_held(case.found, narrow.dtype):
            continue
        if judge(case.part, case.given, case.found, narrow.dtype).is_explained:
            yield Cause("dtype", f"{case.side} computes in {narrow.name}: its results are such")
    declared = case.theirs and _narrowest(case.theirs)
    if declared:
        yield Cause("dtype", f"{case.side} computes in {declared.name}", is_proven=False)


def narrow_fits(case: Case, narrow: Narrow) -> bool:
    """Whether rounding what is read, what is made, or both, to ``narrow`` gives what was found."""
    for arithmetic, ulps in narrow.ways():
        if ulps and not (narrow.dtype and is_held(case.found, narrow.dtype)):
            continue
        try:
            result = case.part.evaluate(case.given, arithmetic)[case.part.leaving]
        except (FornixError, *REFUSALS):
            return False
        room = np.asarray(case.margin) + ulps * narrow.unit * magnitude(result)
        if gap(case.found, result, room).is_explained:
            return True
    return False


def _narrowest(part: Part) -> DType | None:
    types = [getattr(v.type, "dtype", None) for node in part.nodes for v in node.outputs]
    narrow = [t for t in types if t is not None and t.is_float and t.bits < 32]
    return min(narrow, key=lambda t: t.bits, default=None)


def by_quantization(case: Case) -> Iterator[Cause]:
    """Another model that quantizes."""
    if any(is_quantized(node) for node in case.part.nodes):
        return
    for node in case.theirs.nodes if case.theirs else ():
        if is_quantized(node):
            yield Cause("dtype", f"{case.side} is quantized there ({node.op_type})")
            return


def is_quantized(node: Node) -> bool:
    """Whether a node quantizes, or computes with what is quantized."""
    name = node.op_type
    return name in QUANTIZING or name.endswith("Integer") or name.startswith("QLinear")


def by_operator(case: Case) -> Iterator[Cause]:
    """Other operators in the same place; they only may be it where types are other ones, too."""
    if case.theirs is None:
        return
    ours, theirs = (
        [node.op_type for node in part.nodes if not _is_plain(node)]
        for part in (case.part, case.theirs)
    )
    if ours != theirs:
        told, other = " → ".join(ours) or "nothing", " → ".join(theirs) or "nothing"
        text = f"the model has {told}, {case.side} {other}"
        yield Cause("operator", text, is_proven=_narrowest(case.theirs) == _narrowest(case.part))


def _is_plain(node: Node) -> bool:
    return node.op_type in {"Identity", "Cast", "Transpose"}


def by_fault(case: Case) -> Iterator[Cause]:
    """NaN or infinity, or another shape, that comes from here."""
    fault = case.verdict.gap.fault
    if fault in {"NaN", "infinity"}:
        read = ", ".join(f"'{name}' {range_text(case.given.get(name))}" for name in entering(case))
        yield Cause(fault.lower(), f"the first {fault} comes from here, made from {read}")
    elif fault:
        one, other = _shape(case.found), _shape(case.verdict.exact)
        yield Cause("shape", f"{case.side} gives {one}, where the model gives {other}")


def entering(case: Case) -> list[str]:
    """Names of what enters the part."""
    return case.part.names()


def range_text(x: Any) -> str:
    """Between which numbers a value lies."""
    if not isinstance(x, np.ndarray) or x.dtype.kind in "OUSc" or not x.size:
        return "(no numbers)"
    wide = double(x)
    return f"from {wide.min():.6g} to {wide.max():.6g}"


def _shape(x: Any) -> str:
    if isinstance(x, list):
        return f"a sequence of {len(x)}"
    return f"{getattr(x, 'dtype', type(x).__name__)}{list(getattr(x, 'shape', ()))}"


HYPOTHESES: tuple[Hypothesis, ...] = (
    by_chance,
    by_constant,
    by_attribute,
    by_version,
    by_epsilon,
    by_mode,
    by_alternative,
    by_layout,
    by_quantization,
    by_dtype,
    by_fault,
    by_operator,
)
"""What is tried, in this order."""

__all__ = ["HYPOTHESES", "Array", "Case", "Cause", "cause_of"]
