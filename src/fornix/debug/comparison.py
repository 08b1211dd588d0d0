"""What a comparison found: for programs, and as a report for people."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from fornix.debug.causes import Cause
from fornix.debug.measure import Gap
from fornix.debug.smallest import Smallest


@dataclass(frozen=True)
class Output:
    """How far the other side's output lies from the model's."""

    name: str
    gap: Gap

    @property
    def is_within(self) -> bool:
        """Whether that is within what rounding explains, or what was allowed."""
        return self.gap.is_explained


@dataclass(frozen=True)
class Finding:
    """A node whose result is off by more than rounding explains, given what it read."""

    node: str
    op_type: str
    value: str
    nodes: tuple[str, ...]
    """The nodes between values that both sides have; more than one where some have no counterpart.
    """
    side: str
    """Who errs, or does otherwise than the model."""
    gap: Gap
    cause: Cause


@dataclass(frozen=True)
class Comparison:
    """Two sides of a comparison, and where they part."""

    sides: tuple[str, str]
    """Who computed the model, and what it was compared with."""
    outputs: tuple[Output, ...]
    findings: tuple[Finding, ...] = ()
    """In the order of the model; those after the first few are not looked for."""
    smallest: Smallest | None = None
    """A model that shows the first finding."""
    aligned: int = 0
    """Values inside the model that both sides have, as far as that was looked into."""
    values: int = 0
    """Values inside the model."""
    is_rounding: bool = False
    """Whether outputs differ, but every node is within what rounding explains."""
    is_strict: bool = False
    """Whether outputs have to keep to tolerances that were given."""

    @property
    def agrees(self) -> bool:
        """Whether nothing differs by more than rounding explains, or than was allowed."""
        within = all(output.is_within for output in self.outputs)
        return within if self.is_strict else not self.findings and (within or self.is_rounding)

    @property
    def first(self) -> Finding | None:
        """The first node that errs."""
        return self.findings[0] if self.findings else None

    def document(self) -> dict[str, Any]:
        """What `fornix compare --json` prints."""
        return {
            "sides": list(self.sides),
            "agrees": self.agrees,
            "rounding": self.is_rounding,
            "aligned": self.aligned,
            "values": self.values,
            "outputs": [
                {"name": x.name, "within": x.is_within, **_gap(x.gap)} for x in self.outputs
            ],
            "findings": [
                {
                    "node": x.node,
                    "op_type": x.op_type,
                    "value": x.value,
                    "nodes": list(x.nodes),
                    "side": x.side,
                    **_gap(x.gap),
                    "cause": {
                        "kind": x.cause.kind,
                        "text": x.cause.text,
                        "proven": x.cause.is_proven,
                    },
                }
                for x in self.findings
            ],
            "smallest": None if self.smallest is None else self.smallest.document(),
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        mine, other = self.sides
        yield f"{mine} and {other} {'agree' if self.agrees else 'differ'}"
        for output in self.outputs:
            told = "within" if output.is_within else "beyond"
            allowance = "what is allowed" if self.is_strict else "what rounding explains"
            yield f"  output '{output.name}': {gap_text(output.gap)}, {told} {allowance}"
        if self.is_rounding:
            yield "every node is within what rounding explains: errors grow on the way"
        for finding in self.findings[:1]:
            yield f"first: {_node_text(finding)}"
            yield f"  {finding.side} is off by {gap_text(finding.gap)}"
            if finding.gap.beyond and finding.gap.place is not None:
                yield f"  {place_text(finding.gap)}"
            yield f"  {_cause_text(finding.cause)}"
        for finding in self.findings[1:]:
            yield f"then: {_node_text(finding)}; {_cause_text(finding.cause)}"
        if self.smallest is not None:
            yield f"smallest: {self.smallest}"


def _node_text(finding: Finding) -> str:
    more = f", {len(finding.nodes)} nodes" if len(finding.nodes) > 1 else ""
    return f"node '{finding.node}' ({finding.op_type}{more}), value '{finding.value}'"


def _cause_text(cause: Cause) -> str:
    sure = "" if cause.is_proven or cause.kind == "unknown" else "perhaps "
    return f"{sure}{cause.kind}: {cause.text}"


def gap_text(gap: Gap) -> str:
    """A gap in a few words."""
    if gap.fault and gap.fault not in {"NaN", "infinity"}:
        return f"another {gap.fault}"
    if not gap.absolute and not gap.beyond:
        return "0"
    text = f"{gap.absolute:.3g} ({gap.relative:.3g} of the largest"
    if math.isfinite(gap.times) and gap.times:
        text += f", {gap.times:.3g} times what is allowed"
    return f"{text})"


def place_text(gap: Gap) -> str:
    """Where a gap is."""
    return (
        f"{gap.beyond} of {gap.count} elements, worst at {list(gap.place or ())}: "
        f"{_short(gap.found)} where {_short(gap.wanted)} is due"
    )


def _short(x: object) -> str:
    return f"{x:.6g}" if isinstance(x, float) else f"{x}"


def _gap(gap: Gap) -> dict[str, Any]:
    told = asdict(gap)
    told["place"] = None if gap.place is None else list(gap.place)
    return {key: _json(value) for key, value in told.items()}


def _json(x: Any) -> Any:
    """``x`` as JSON takes it: what it has no number for is a string."""
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x
