"""A run node by node, with the values: to look at what a model computes on the way.

Decides when such a run ends early: at the first node that makes a NaN, or an infinity, and says
from what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from fornix.errors import Fail, InvalidArgument
from fornix.ir.graph import Node, Value
from fornix.ops.call import plain_attributes
from fornix.reference.plan import Environment, Plan, Step

Stop = Literal["nan", "inf"]


@dataclass(frozen=True, slots=True)
class Traced:
    """A node that has just run, and what it read and made, by name; values that stay are shared."""

    name: str
    op_type: str
    domain: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


def trace(plan: Plan, feeds: Mapping[Value, Any], stop: Stop | None) -> Iterator[Traced]:
    """The nodes of ``plan`` as they run on ``feeds``.

    With ``stop`` raises Fail at the first node that makes a NaN of inputs that were computed
    without one, or with "inf" an infinity either; infinities that the model stores do not count.
    """
    if stop is not None and stop not in get_args(Stop):
        raise InvalidArgument(f"trace: stop must be 'nan', 'inf' or None, found {stop!r}")
    for file in plan.files:
        file.check()
    inside = Inside(stop or "nan")
    if stop is not None:
        plan = Plan(plan.graph, replace(plan.scope, plans={}, observe=inside.observe))
    values: Environment = {**plan.constants, **feeds}
    for value, feed in feeds.items():
        _require_sound(f"input '{value.name}'", feed, stop)
    for step in plan.steps:
        node = step.node
        given = {v.name: values.get(v) for v in node.inputs if v is not None and v.name}
        inside.first.clear()
        with np.errstate(all="ignore"):
            results = plan.evaluate(step, values)
        made = {
            value.name: result
            for value, result in zip(node.outputs, results, strict=False)
            if value.name
        }
        yield Traced(node.name, node.op_type, node.domain, given, made)
        if stop is not None:
            stored = {v.name for v in node.inputs if v in plan.constants and v not in feeds}
            _check(step, given, made, stop, stored, inside)
        for value in step.release:
            values.pop(value, None)


class Inside:
    """Notes which node first had a NaN or an infinity inside of one with bodies."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.first: dict[str, str] = {}
        """By what it is, what to say of it."""

    def observe(self, node: Node, results: Sequence[Any]) -> None:
        """Called after each node in a body or function."""
        for value, result in zip(node.outputs, results, strict=False):
            kind = _fault(result, self.stop)
            if kind:
                self.first.setdefault(kind, f"; inside, first in '{value.name}' of {node.label}")


def _require_sound(what: str, found: Any, stop: Stop | None) -> None:
    kind = _fault(found, stop) if stop else ""
    if kind:
        raise Fail(f"{what}: finite numbers are required by trace(stop=…), found {kind}")


def _check(
    step: Step,
    given: Mapping[str, Any],
    made: Mapping[str, Any],
    stop: Stop,
    stored: set[str],
    inside: Inside,
) -> None:
    """Raise Fail if the node made what ``stop`` looks for, and it did not come to it from others.

    A NaN among the inputs called ``stored`` is one that the node lets into the run; an infinity
    there, or in the node itself, is meant: masks consist of them.
    """
    for name, result in made.items():
        kind = _fault(result, stop)
        if kind and not _has_come(kind, step, given, stored):
            told = [
                f"'{value}' {_range(given[value])}{', stored,' * (value in stored)}"
                for value in given
            ]
            raise Fail(
                f"{step.subject}: the first {kind} of the run is in its output '{name}', "
                f"made from {', '.join(told).rstrip(',') or 'nothing'}{inside.first.get(kind, '')}"
            )


def _has_come(kind: str, step: Step, given: Mapping[str, Any], stored: set[str]) -> bool:
    """Whether a NaN, or an infinity, came to the node from what was computed, or is meant."""
    if kind == "NaN":
        return any(_fault(value, "nan") for name, value in given.items() if name not in stored)
    attributes = plain_attributes(step.node.attributes, {})
    held = [np.asarray(x) for x in attributes.values() if isinstance(x, float | np.ndarray)]
    return any(_fault(value, "inf") for value in (*given.values(), *held))


def _fault(value: Any, stop: Stop) -> str:
    """What is wrong with a value: "NaN", "infinity" or nothing."""
    if isinstance(value, list):
        return next((kind for item in value if (kind := _fault(item, stop))), "")
    if not isinstance(value, np.ndarray) or not _is_float(value):
        return ""
    wide = value.astype(np.float32) if value.dtype.kind not in "fc" else value
    if np.isnan(wide).any():
        return "NaN"
    return "infinity" if stop == "inf" and np.isinf(wide).any() else ""


def _is_float(array: np.ndarray[Any, np.dtype[Any]]) -> bool:
    return array.dtype.kind in "fcV" and array.dtype.names is None


def _range(value: Any) -> str:
    """A value in a few words: its type, and between which numbers it lies."""
    if not isinstance(value, np.ndarray):
        return f"({type(value).__name__})"
    text = f"{value.dtype}{list(value.shape)}"
    if value.size and value.dtype.kind in "biuf":
        text += f" from {value.min():.6g} to {value.max():.6g}"
    return text
