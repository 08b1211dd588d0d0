"""A run node by node, with the values: to look at what a model computes on the way.

Decides what is told of nodes in bodies and functions, and when such a run ends early: at the first
node that makes a NaN, or an infinity, and says from what.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from fornix.errors import Fail, InvalidArgument
from fornix.ir.attribute import plain_attributes
from fornix.ir.graph import Graph, Value
from fornix.reference.plan import Plan, Step
from fornix.runtime.reports.inside import repeats

Stop = Literal["nan", "inf"]
Hand = Callable[["Traced"], None]


@dataclass(frozen=True, slots=True)
class Traced:
    """A node that has just run, and what it read and made, by name; values that stay are shared."""

    name: str
    op_type: str
    domain: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    path: tuple[str, ...] = ()
    """The nodes around it, the outermost first; the main graph has none."""
    iterations: tuple[int, ...] = ()
    """Numbers of the iterations, from 0, of those around it that repeat what is inside of them."""


def trace(plan: Plan, feeds: Mapping[Value, Any], stop: Stop | None) -> Iterator[Traced]:
    """The nodes of ``plan`` as they run on ``feeds``, those inside of others before these.

    With ``stop`` raises Fail at the first node that makes a NaN of inputs that were computed
    without one, or with "inf" an infinity either; infinities that the model stores do not count.
    """
    if stop is not None and stop not in get_args(Stop):
        raise InvalidArgument(f"trace: stop must be 'nan', 'inf' or None, found {stop!r}")
    for file in plan.files:
        file.check()
    for value, feed in feeds.items():
        _require_sound(f"input '{value.name}'", feed, stop)

    def run(hand: Hand) -> None:
        watch = Tracing(hand, stop, feeds)
        watched = Plan(plan.graph, replace(plan.scope, plans={}, watch=watch))
        watched.run(feeds)

    yield from _handed(run)


class _Over(BaseException):
    """Nobody wants to see more."""


def _handed(run: Callable[[Hand], None]) -> Iterator[Traced]:
    """What ``run`` hands over, piece by piece: it goes on in its thread when more is asked for."""
    asked, given = threading.Semaphore(0), threading.Semaphore(0)
    pieces: list[Traced] = []
    ends: list[BaseException | None] = []
    is_over = threading.Event()

    def hand(piece: Traced) -> None:
        pieces.append(piece)
        given.release()
        asked.acquire()
        if is_over.is_set():
            raise _Over

    def work() -> None:
        asked.acquire()
        error: BaseException | None = None
        try:
            with suppress(_Over):
                if not is_over.is_set():
                    run(hand)
        except BaseException as found:  # noqa: BLE001 - it is raised where somebody waits
            error = found
        ends.append(error)
        given.release()

    thread = threading.Thread(target=work, name="trace", daemon=True)
    thread.start()
    try:
        while True:
            asked.release()
            given.acquire()
            if ends:
                break
            yield pieces.pop()
    finally:
        is_over.set()
        asked.release()
        thread.join()
    if ends[0] is not None:
        raise ends[0]


class Tracing:
    """Looks on as nodes run, and hands over what each read and made."""

    def __init__(self, hand: Hand, stop: Stop | None, feeds: Mapping[Value, Any]) -> None:
        self._hand, self._stop, self._feeds = hand, stop, feeds
        self._running: list[tuple[Step, int]] = []
        """The nodes that run, and how often what is inside of each has begun."""
        self._stored: list[set[Value]] = []
        """Of the graphs that run, what the model stores."""

    def begins(self, step: Step) -> None:
        """A node is about to run."""
        self._running.append((step, 0))

    def enters(self, graph: Graph, values: Mapping[Value, Any]) -> None:  # noqa: ARG002 - a `Watch`
        """The node that began last runs a graph."""
        stored = {value for value in graph.initializer_values if value not in self._feeds}
        self._stored.append(stored)
        if self._running:
            step, count = self._running[-1]
            self._running[-1] = step, count + 1

    def leaves(self, graph: Graph) -> None:  # noqa: ARG002 - a `Watch`
        """The graph has run."""
        self._stored.pop()

    def ends(self, step: Step, inputs: Sequence[Any], results: Sequence[Any]) -> None:
        """The node has run."""
        self._running.pop()
        node = step.node
        pairs = zip(node.inputs, inputs, strict=False)
        given = {value.name: x for value, x in pairs if value is not None and value.name}
        pairs = zip(node.outputs, results, strict=False)
        made = {value.name: x for value, x in pairs if value is not None and value.name}
        path = tuple(outer.node.name or outer.node.op_type for outer, _ in self._running)
        turns = [(o.subject, n - 1) for o, n in self._running if repeats(o.node)]
        numbers = tuple(number for _, number in turns)
        self._hand(Traced(node.name, node.op_type, node.domain, given, made, path, numbers))
        if self._stop is not None:
            held = set().union(*self._stored)
            stored = {value.name for value in node.inputs if value in held and value is not None}
            places = [f"iteration {number} of {name}" for name, number in reversed(turns)]
            _check(step, given, made, self._stop, stored, ", ".join(["", *places]))


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
    place: str,
) -> None:
    """Raise Fail if the node made what ``stop`` looks for, and it did not come to it from others.

    ``place`` says in which iterations.

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
                f"{step.subject}{place}: the first {kind} of the run is in its output '{name}', "
                f"made from {', '.join(told).rstrip(',') or 'nothing'}"
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
