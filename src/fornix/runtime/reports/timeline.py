"""What a session did when, as events in a file that Chrome's trace viewer shows.

Decides which events there are and what they say: onnxruntime's names and units, and besides for
each kernel its arithmetic, its bytes, and their share of what this machine can do at best.
Source: the Trace Event Format, complete events.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.dtype import DType
from fornix.format.files import write_bytes
from fornix.ir.types import TensorType
from fornix.runtime.program import Program
from fornix.runtime.providers import Run, check_machine_code, no_machine_code

if TYPE_CHECKING:
    from fornix.ir.graph import Graph, Node, Value
    from fornix.reference.plan import Step
    from fornix.runtime.reports.profile import Entry

MAX_EVENTS = 1_000_000
"""As onnxruntime keeps; what comes later is not noted."""


class Timeline:
    """Events of a session, from its beginning to `end`."""

    def __init__(self, prefix: str, threads: int) -> None:
        self.prefix, self.threads = prefix, threads
        self.start_ns = time.time_ns()
        self._begin = time.perf_counter()
        self._events: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._last = threading.local()

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._begin

    def note(self, category: str, name: str, begin: float, end: float, **what: Any) -> None:
        """Add an event from ``begin`` to ``end``, in seconds since the beginning."""
        event = {
            "cat": category,
            "pid": os.getpid(),
            "tid": threading.get_native_id(),
            "dur": round((end - begin) * 1e6, 3),
            "ts": round(begin * 1e6, 3),
            "ph": "X",
            "name": name,
            "args": what,
        }
        with self._lock:
            if len(self._events) < MAX_EVENTS:
                self._events.append(event)

    def run(
        self, program: Program, feeds: Mapping[str, Any], run: Run, names: Sequence[str]
    ) -> list[Any]:
        """Results of ``program``, kernel by kernel, each an event."""
        from fornix.runtime.reports.profile import Prepared, watched  # noqa: PLC0415 - imports llvmlite

        begin = self.now()
        prepared = Prepared(program.steps, program.releases, program.start(feeds), run)
        values, entries, start = watched(prepared)
        start -= self._begin
        for number, entry in enumerate(entries):
            name = f"{'/'.join((*entry.path, _name(entry)))}_kernel_time"
            for span in entry.spans:
                first = start + span.begin
                what = {"node_index": str(number), **_told(entry, span.seconds)}
                self.note("Node", name, first, first + span.seconds, **what)
        results = program.results(values, names)
        self.end_run(begin)
        return results

    def end_run(self, begin: float) -> None:
        """Note a run that began then, and what carried it out."""
        end = self.now()
        self.note("Session", "SequentialExecutor::Execute", begin, end)
        self.note("Session", "model_run", begin, end)

    def observe(self, node: Node, results: Sequence[Any]) -> None:
        """Note a node that has just run its NumPy kernel, after the one before in this thread."""
        end = self.now()
        shapes = _shapes((), array_types(results))
        begin = getattr(self._last, "end", end)
        self.note_kernel(node.name or node.op_type, node, begin, end, shapes)
        self._last.end = self.now()

    def note_kernel(
        self, name: str, node: Node, begin: float, end: float, shapes: Mapping[str, Any]
    ) -> None:
        """Note a node, called ``name``, that ran its NumPy kernel."""
        what = {"op_name": node.op_type, "provider": "ReferenceExecutionProvider", "kind": "numpy"}
        self.note("Node", f"{name}_kernel_time", begin, end, **what, **shapes)

    def begin_nodes(self) -> float:
        """The first node begins now."""
        self._last.end = self.now()
        return float(self._last.end)

    def end(self) -> str:
        """Write the events to a file of its own; its path."""
        stamp = datetime.fromtimestamp(self.start_ns / 1e9, UTC).strftime("%Y-%m-%d_%H-%M-%S")
        stem = f"{self.prefix}_{stamp}_{self.start_ns // 1_000_000 % 1000:03}"
        path, number = Path(f"{stem}.json"), 1
        while path.exists():
            path, number = Path(f"{stem}_{number}.json"), number + 1
        self._add_shares()
        lines = ",\n".join(json.dumps(event) for event in self._events)
        write_bytes(path, [f"[\n{lines}\n]\n".encode()])
        return str(path)

    def _add_shares(self) -> None:
        """Say of each kernel how near it comes to what this machine can do."""
        if not any("operations" in event["args"] for event in self._events) or no_machine_code():
            return
        check_machine_code("InferenceSession.end_profiling")
        from fornix.runtime.reports.profile import measured_peak  # noqa: PLC0415 - imports llvmlite

        peak = measured_peak(self.threads)
        for event in self._events:
            what = event["args"]
            seconds = event["dur"] / 1e6
            if seconds and what.get("operations"):
                what["share_of_peak_operations"] = _share(
                    what["operations"], seconds, peak.operations
                )
            if seconds and what.get("bytes"):
                what["share_of_peak_bytes"] = _share(what["bytes"], seconds, peak.bytes)


class Nested:
    """Looks on as nodes run their NumPy kernels, and notes those that run inside of others."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._running: list[tuple[str, float]] = []
        """The nodes that run, and since when."""

    def begins(self, step: Step) -> None:
        """A node is about to run."""
        self._running.append((step.node.name or step.node.op_type, self._timeline.now()))

    def enters(self, graph: Graph, values: Mapping[Value, Any]) -> None:
        """A graph runs inside."""

    def leaves(self, graph: Graph) -> None:
        """It has run."""

    def ends(self, step: Step, inputs: Sequence[Any], results: Sequence[Any]) -> None:
        """The node has run."""
        end = self._timeline.now()
        name = "/".join(label for label, _ in self._running)
        _, begin = self._running.pop()
        if self._running:
            shapes = _shapes(array_types(inputs), array_types(results))
            self._timeline.note_kernel(name, step.node, begin, end, shapes)


def _share(amount: int, seconds: float, best: float) -> float:
    return round(amount / seconds / best, 4)


def array_types(values: Sequence[Any]) -> tuple[TensorType, ...]:
    """The types of those of ``values`` that are arrays."""
    arrays = (x for x in values if isinstance(x, np.ndarray))
    return tuple(TensorType(DType.of(x.dtype), x.shape) for x in arrays)


def _shapes(read: Sequence[TensorType], written: Sequence[TensorType]) -> dict[str, Any]:
    """Types and sizes, as onnxruntime spells them."""
    return {
        "input_type_shape": [{_text(t): list(t.shape or ())} for t in read],
        "output_type_shape": [{_text(t): list(t.shape or ())} for t in written],
        "output_size": str(sum(map(_size, written))),
    }


def _text(type_: TensorType) -> str:
    return type_.dtype.text if type_.dtype else ""


def _size(type_: TensorType) -> int:
    extents = [d for d in type_.shape or () if isinstance(d, int)]
    return math.prod(extents) * (type_.dtype.numpy.itemsize if type_.dtype else 0)


def _name(entry: Entry) -> str:
    """The nodes that a kernel computes, by their names, or operators where they have none."""
    return "+".join(dict.fromkeys(node.name or node.op_type for node in entry.nodes)) or entry.name


def _told(entry: Entry, seconds: float) -> dict[str, Any]:
    """What an event says of a kernel, or of a node that has none."""
    what: dict[str, Any] = {
        "op_name": "+".join(dict.fromkeys(node.op_type for node in entry.nodes)) or entry.name,
        "provider": "CPUExecutionProvider",
        "kind": entry.kind,
        **_shapes(entry.read, entry.written),
        "parameter_size": str(entry.stored),
        "bytes": entry.bytes,
    }
    what["activation_size"] = str(sum(map(_size, entry.read)) - entry.stored)
    if entry.operations is not None:
        what["operations"] = entry.operations
        what["gflops"] = round(entry.operations / seconds / 1e9, 3) if seconds else 0.0
    if entry.reason:
        what["reason"] = entry.reason
    return what
