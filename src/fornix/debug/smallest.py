"""The smallest model that shows a difference, with the feeds that it takes.

A node that errs is cut out with what it read. Where only the model as a whole shows it, as with
optimizations, the end moves forward and the beginning back, by halves, as long as it still shows;
then single nodes are fed instead of computed. Attributes and optional inputs that it does not need
go last. Every step is tried on the engine that errs; the number of trials is bounded, and their
order fixed.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fornix.debug.causes import Case
from fornix.debug.engines import Engine
from fornix.debug.part import Part, part_to, plan_of
from fornix.debug.rounding import judge
from fornix.debug.sides import EngineSide, ModelSide, Side
from fornix.dtype import DType
from fornix.edit import extract
from fornix.errors import FornixError, InvalidArgument
from fornix.format.files import write_message
from fornix.format.tensors import from_array
from fornix.ir.files import save
from fornix.ir.graph import Model
from fornix.ir.types import TensorType
from fornix.ops.call import REFUSALS


@dataclass(frozen=True)
class Smallest:
    """A model, feeds, and what the other side makes of them."""

    model: Model
    feeds: Mapping[str, Any]
    results: Mapping[str, Any]
    other: Model | None = None
    """The same part of another model."""
    other_feeds: Mapping[str, Any] = field(default_factory=dict)
    is_shown: bool = True
    """Whether it shows the difference when it is run by itself."""
    trials: int = 0

    def __str__(self) -> str:
        nodes = [node.op_type for node in self.model.graph.nodes]
        told = ", ".join(nodes[:6]) + (" …" if len(nodes) > 6 else "")
        text = f"{len(nodes)} node{'s' * (len(nodes) != 1)} ({told})"
        return text if self.is_shown else f"{text}, which do not show it by themselves"

    def document(self) -> dict[str, Any]:
        """For JSON."""
        nodes = [{"name": x.name, "op_type": x.op_type} for x in self.model.graph.nodes]
        return {
            "nodes": nodes,
            "inputs": list(self.feeds),
            "outputs": list(self.results),
            "shown": self.is_shown,
            "trials": self.trials,
        }

    def save(self, path: Path) -> tuple[str, ...]:
        """Write it: ``x.onnx`` and ``x.npz``, or a folder as in ONNX's test data.

        Beside ``x.onnx``, what to compare with: ``x.other.onnx`` or, for results, ``x.other.npz``.
        """
        if path.suffix.lower() == ".onnx":
            return self._save_files(path)
        folder = path / "test_data_set_0"
        folder.mkdir(parents=True, exist_ok=True)
        written = [path / "model.onnx"]
        save(self.model, written[0])
        for what, values in (("input", self.feeds), ("output", self.results)):
            for index, (name, value) in enumerate(values.items()):
                written.append(folder / f"{what}_{index}.pb")
                write_message(from_array(_array(value, name), name), written[-1])
        if self.other is not None:
            written.append(path / "other.onnx")
            save(self.other, written[-1])
        return tuple(map(str, written))

    def _save_files(self, path: Path) -> tuple[str, ...]:
        written = [path, path.with_suffix(".npz")]
        save(self.model, path)
        write_arrays(written[1], self.feeds)
        written.append(path.with_suffix(".other.npz" if self.other is None else ".other.onnx"))
        if self.other is None:
            write_arrays(written[2], self.results)
        else:
            save(self.other, written[2])
        return tuple(map(str, written))


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """An .npz of any names; `numpy.savez` takes none called "file"."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, _array(value, name), allow_pickle=False)


def _array(value: Any, name: str) -> Any:
    if not isinstance(value, np.ndarray):
        raise InvalidArgument(
            f"'{name}': only tensors can be written, found {type(value).__name__}"
        )
    return value.astype(np.str_) if value.dtype.kind == "O" else value


@dataclass
class Trials:
    """How many trials there may be."""

    most: int
    made: int = 0

    def take(self) -> bool:
        """Whether there is another one."""
        self.made += 1
        return self.made <= self.most


def smallest_of(case: Case, accused: Side, trials: Trials, *, optimized: bool) -> Smallest | None:
    """The smallest model that shows what ``case`` is about; None if the part is none by itself."""
    try:
        if isinstance(accused, EngineSide) and not accused.is_plain:
            return _of_engine(case, accused, trials, optimized=optimized)
        model = cut(case, case.given, case.part.leaving.name)
    except (FornixError, *REFUSALS):
        return None
    feeds = fed(model, case.given)
    results = {case.part.leaving.name: case.found}
    if not isinstance(accused, ModelSide) or case.theirs is None:
        return Smallest(model, feeds, results)
    theirs = case.theirs
    other = extract(accused.model, theirs.names(), [theirs.leaving.name])
    values = accused.own_values
    _declare(other, values)
    return Smallest(model, feeds, results, other, fed(other, values))


def cut(case: Case, given: Mapping[str, Any], end: str) -> Model:
    """The part of the model from what ``given`` names to ``end``."""
    ends = {v.name: v for node in case.model.graph.nodes for v in node.outputs}
    part = part_to(case.part.plan, ends[end], given.keys())
    model = extract(case.model, part.names(), [end])
    _declare(model, given)
    return model


def _declare(model: Model, given: Mapping[str, Any]) -> None:
    """Give inputs the types of what they are fed, where the model does not say otherwise."""
    for value in model.graph.inputs:
        x, declared = given.get(value.name), value.type
        if not isinstance(x, np.ndarray):
            continue
        dtype = declared.dtype if isinstance(declared, TensorType) else None
        value.type = TensorType(dtype or DType.of(x.dtype), x.shape)


def fed(model: Model, given: Mapping[str, Any]) -> dict[str, Any]:
    """Feeds of ``model`` from ``given``, of the types that it declares."""
    feeds = {}
    for value in model.graph.inputs:
        x = given.get(value.name)
        if x is None:
            continue
        dtype = value.type.dtype if isinstance(value.type, TensorType) else None
        is_array = isinstance(x, np.ndarray) and dtype is not None
        feeds[value.name] = x.astype(dtype.numpy) if is_array and dtype is not None else x
    return feeds


def _of_engine(case: Case, accused: EngineSide, trials: Trials, *, optimized: bool) -> Smallest:
    """Reduce on the engine that errs."""
    values = {**accused.feeds, **accused.values} if len(case.part.nodes) > 1 else dict(case.given)
    attempt = _Attempt(case, accused.engine, values, trials, optimized)
    end = case.part.leaving.name
    given = {v.name for v in case.part.entering}
    is_shown = attempt.shows(given, end)
    if is_shown and len(case.part.nodes) > 1:
        given, end = attempt.narrowed(case.part, given, end)
    model = cut(case, {name: values[name] for name in given if name in values}, end)
    if is_shown:
        model = attempt.bare(model)
    feeds = fed(model, values)
    results = accused.engine.run(model, feeds, optimized=optimized)
    return Smallest(model, feeds, results, is_shown=is_shown, trials=trials.made)


@dataclass
class _Attempt:
    case: Case
    engine: Engine
    values: Mapping[str, Any]
    trials: Trials
    optimized: bool

    def shows(self, given: set[str], end: str) -> bool:
        """Whether the engine errs on the part from ``given`` to ``end``."""
        known = {name: self.values[name] for name in given if name in self.values}
        try:
            return self.errs(cut(self.case, known, end))
        except (FornixError, *REFUSALS):
            return False

    def errs(self, model: Model) -> bool:
        """Whether the engine errs on ``model``; not if trials are used up."""
        if not self.trials.take():
            return False
        feeds = fed(model, self.values)
        try:
            [found] = self.engine.run(model, feeds, optimized=self.optimized).values()
            plan = plan_of(model)
            part = part_to(plan, model.graph.outputs[0], feeds.keys())
            return not judge(part, feeds, found).is_explained
        except (FornixError, *REFUSALS):
            return False

    def narrowed(self, part: Part, given: set[str], end: str) -> tuple[set[str], str]:
        """An earlier end and a later beginning that still show it, then fewer nodes."""
        made = [[v.name for v in node.outputs if v.name in self.values] for node in part.nodes]
        ends = [names[0] for names in made if names]
        last = _first(len(ends) - 1, lambda i: self.shows(given, ends[i]))
        end = ends[last]
        starts = ends[:last]

        def after(i: int) -> set[str]:
            """What is given if only the last ``i`` of the nodes are left."""
            return given | set(starts[: len(starts) - i])

        left = _first(len(starts), lambda i: self.shows(after(i), end))
        given = after(left)
        for name in reversed(starts[len(starts) - left :]):
            if self.shows(given | {name}, end):
                given = given | {name}
        return given, end

    def bare(self, model: Model) -> Model:
        """``model`` without attributes and trailing inputs that it does not need to show it."""
        for index, node in enumerate(model.graph.nodes):
            for name in node.attributes:
                model = self._without(model, index, attribute=name)
            for count in range(len(node.inputs) - 1, 0, -1):
                model = self._without(model, index, count=count)
        return model

    def _without(self, model: Model, index: int, attribute: str = "", count: int = -1) -> Model:
        """``model`` where a node lacks this attribute, or later inputs, if it still errs."""
        changed = model.clone()
        node = list(changed.graph.nodes)[index]
        node.remove_attribute(attribute)
        if count >= 0:
            node.inputs = node.inputs[:count]
        changed = extract(changed, None, [changed.graph.outputs[0].name])
        return changed if self.errs(changed) else model


def _first(last: int, holds: Callable[[int], bool]) -> int:
    """The least of 0 … ``last`` for which ``holds``, which does for ``last``, by halves."""
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high
