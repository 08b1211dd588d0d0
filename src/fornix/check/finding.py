"""What the checker finds, and how it calls the places where it does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fornix.ir.graph import Function, Graph, Node
from fornix.ops.call import subject


class Severity(StrEnum):
    """Whether a model breaks the standard, or keeps to it and may surprise."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a model: where, and what is required and was found."""

    severity: Severity
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}"


class Findings:
    """Findings in the order in which they came, each once."""

    def __init__(self) -> None:
        self._found: dict[Finding, None] = {}
        self._subjects: set[str] = set()

    def error(self, subject: str, message: object) -> None:
        """Note that the standard is broken at ``subject``."""
        self._add(Severity.ERROR, subject, message)

    def warn(self, subject: str, message: object) -> None:
        """Note what keeps to the standard and should still be known."""
        self._add(Severity.WARNING, subject, message)

    def has(self, subject: str) -> bool:
        """Whether there is anything at ``subject``."""
        return subject in self._subjects

    @property
    def all(self) -> list[Finding]:
        """Everything found so far."""
        return list(self._found)

    def _add(self, severity: Severity, subject: str, message: object) -> None:
        text = str(message).removeprefix(f"{subject}: ")
        self._found[Finding(severity, subject, text)] = None
        self._subjects.add(subject)


def place(node: Node, opset: int | None = None) -> str:
    """``node`` with the way to it: ``node 'loop' (Loop), body, node 'y' (Conv, opset 22)``."""
    return f"{way(node.graph)}{subject(node, opset)}"


def way(graph: Graph | None) -> str:
    """What leads to the nodes of ``graph``; nothing for the main graph."""
    parts: list[str] = []
    while graph is not None and isinstance(graph.owner, Node):
        parts.append(f"{graph.label}, ")
        graph = graph.owner.graph
    if graph is not None and isinstance(graph.owner, Function):
        parts.append(f"{graph.owner.label}, ")
    return "".join(reversed(parts))
