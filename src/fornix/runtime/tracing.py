"""A run node by node, with the values: to look at what a model computes on the way.

Decides when such a run ends early: at the first node that makes a NaN, or an infinity, and says
from what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fornix.errors import Fail
from fornix.ir.graph import Value
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

    With ``stop`` raises Fail at the first node that makes a NaN, or with "inf" an infinity either,
    of inputs that have none.
    """
    for file in plan.files:
        file.check()
    values: Environment = {**plan.constants, **feeds}
    for value, feed in feeds.items():
        _require_sound(f"input '{value.name}'", feed, stop)
    for step in plan.steps:
        node = step.node
        given = {v.name: values.get(v) for v in node.inputs if v is not None and v.name}
        with np.errstate(all="ignore"):
            results = plan.evaluate(step, values)
        made = {
            value.name: result
            for value, result in zip(node.outputs, results, strict=False)
            if value.name
        }
        yield Traced(node.name, node.op_type, node.domain, given, made)
        if stop is not None:
            _check(step, given, made, stop)
        for value in step.release:
            values.pop(value, None)


def _require_sound(what: str, found: Any, stop: Stop | None) -> None:
    kind = _fault(found, stop) if stop else ""
    if kind:
        raise Fail(f"{what}: finite numbers are required by trace(stop=…), found {kind}")


def _check(step: Step, given: Mapping[str, Any], made: Mapping[str, Any], stop: Stop) -> None:
    """Raise Fail if the node made what ``stop`` looks for from inputs that have none of it."""
    for name, result in made.items():
        kind = _fault(result, stop)
        if kind and not any(_fault(value, stop) for value in given.values()):
            read = ", ".join(f"'{name}' {_range(value)}" for name, value in given.items())
            raise Fail(
                f"{step.subject}: the first {kind} of the run is in its output '{name}', "
                f"made from {read or 'nothing'}"
            )


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
