"""Values inside of bodies and model functions: found by name, gathered as a model runs.

Decides which value a name means that the main graph does not have, and what its result is: of a
branch, or of a function, the value itself; of a body that runs again and again, the values of all
iterations, one beside the other along a new first axis, or in a list where they are no tensors of
one type. What was not computed is None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from fornix.errors import InvalidArgument
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.nesting import own_values
from fornix.reference.plan import Step

Path = tuple[Node, ...]
"""The nodes around a value, the outermost first."""
REPEATED = {"Loop", "Scan", "SequenceMap"}
"""Operators that run a body once for each iteration or element."""
MAX_GRAPHS = 100_000
"""Bodies, and calls of functions, that are searched for a name."""
MAX_TOLD = 5
"""Ways to a value that a message names."""


@dataclass(frozen=True)
class Inner:
    """What a name inside means: a value, or one in each branch of an If, of which one is run."""

    path: Path
    values: frozenset[Value]


def find(model: Model, name: str) -> Inner | None:
    """The value inside of bodies or functions that ``name`` means; None if there is none.

    ``name`` is that of the value, or ``node/value`` with any number of the nodes around it ahead.
    Raises InvalidArgument where several are called so.
    """
    found: dict[Path, set[Value]] = {}
    for path, graph in islice(_inside(model, model.graph, ()), MAX_GRAPHS):
        for value in own_values(graph):
            if value.name and name.endswith(value.name) and name in _names(path, value):
                found.setdefault(path, set()).add(value)
    if len(found) > 1:
        full = sorted({_names(path, next(iter(values)))[-1] for path, values in found.items()})
        told = ", ".join(full[:MAX_TOLD]) + ", …" * (len(full) > MAX_TOLD)
        raise InvalidArgument(
            f"fetches must mean one value each, {name!r} is the name of several: {told}"
        )
    return next((Inner(path, frozenset(values)) for path, values in found.items()), None)


def repeats(node: Node) -> bool:
    """Whether the body of ``node`` runs once for each iteration or element."""
    return node.op_type in REPEATED and not node.domain


def _inside(model: Model, graph: Graph, path: Path) -> Iterator[tuple[Path, Graph]]:
    """The graphs that run inside of ``graph``, each with the nodes around it."""
    for node in graph.nodes:
        function = model.function_table.get((node.domain, node.op_type, node.overload))
        if function is not None and all(node is not outer for outer in path):
            yield (*path, node), function.graph
            yield from _inside(model, function.graph, (*path, node))
        for body in node.graphs:
            yield (*path, node), body
            yield from _inside(model, body, (*path, node))


def _names(path: Path, value: Value) -> list[str]:
    """What ``value`` may be called: its name, and with the nodes around it, the nearest first."""
    names = [value.name]
    for node in reversed(path):
        names.append(f"{node.name or node.op_type}/{names[-1]}")
    return names


@dataclass
class _Running:
    """A node that runs, and what was gathered in each graph that ran inside of it."""

    node: Node
    frames: list[dict[str, Any]] = field(default_factory=list)


class Gathering:
    """Looks on as a model runs, and keeps the values that somebody wants."""

    def __init__(self, wanted: Mapping[str, Inner]) -> None:
        self._wanted = wanted
        self._names: dict[Value, list[str]] = {}
        for name, inner in wanted.items():
            for value in inner.values:
                self._names.setdefault(value, []).append(name)
        self._running: list[_Running] = []
        self._frames: list[dict[str, Any]] = []
        self._found: dict[str, Any] = {}

    def result(self, name: str) -> Any:
        """What was gathered for ``name`` in the run that is over."""
        return self._found.get(name)

    def begins(self, step: Step) -> None:
        """A node is about to run."""
        self._running.append(_Running(step.node))

    def enters(self, graph: Graph, values: Mapping[Value, Any]) -> None:  # noqa: ARG002 - a `Watch`
        """The node that began last runs a graph."""
        self._frames.append({})
        for value in self._names.keys() & values.keys():
            self._keep(value, values[value])

    def leaves(self, graph: Graph) -> None:  # noqa: ARG002 - a `Watch`
        """The graph has run."""
        frame = self._frames.pop()
        if self._running:
            self._running[-1].frames.append(frame)
        else:
            self._found = frame

    def ends(self, step: Step, inputs: Sequence[Any], results: Sequence[Any]) -> None:  # noqa: ARG002 - a `Watch`
        """The node has run."""
        running = self._running.pop()
        depth = len(self._running)
        for name, inner in self._wanted.items():
            if inner.path[: depth + 1] == (*self._around, running.node):
                self._frames[-1][name] = _joined(running, name)
        for value, result in zip(step.node.outputs, results, strict=False):
            if value in self._names:
                self._keep(value, result)

    @property
    def _around(self) -> Path:
        return tuple(running.node for running in self._running)

    def _keep(self, value: Value, result: Any) -> None:
        """Note the ``result`` for the names that mean ``value`` in this very place."""
        for name in self._names[value]:
            if self._wanted[name].path == self._around:
                self._frames[-1][name] = result


def _joined(running: _Running, name: str) -> Any:
    """The result of what a node gathered: that of one graph, or those of all iterations."""
    found = [frame.get(name) for frame in running.frames]
    if not repeats(running.node):
        return found[0] if found else None
    arrays = [x for x in found if isinstance(x, np.ndarray)]
    is_even = len({(x.dtype, x.shape) for x in arrays}) == 1
    return np.stack(arrays) if is_even and len(arrays) == len(found) else found


__all__ = ["Gathering", "Inner", "find", "repeats"]
