"""What a model is compared with: an engine, another model, recorded values.

A side gives its outputs, as its users get them, and all values that it knows, by the names and in
the layout of the model that is compared. Who computes them is decided in `engines`, which value is
which in `align`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fornix.cast import convert
from fornix.debug.align import Alignment, align, order_of, turned
from fornix.debug.engines import Engine, Kernels, OnnxRuntime, everything
from fornix.debug.prepare import exposed, prepared
from fornix.dtype import DType
from fornix.errors import FormatError, InvalidArgument, NoSuchFile, SchemaError
from fornix.ir.graph import Model, Value
from fornix.ir.types import TensorType
from fornix.reference.source import ModelSource, as_model

ENGINES: dict[str, type[Kernels | OnnxRuntime]] = {
    "onnxruntime": OnnxRuntime,
    "reference": Kernels,
}


class EngineSide:
    """The same model, run by an engine."""

    def __init__(self, engine: Engine, model: Model, flat: Model, feeds: Mapping[str, Any]) -> None:
        self.engine, self.model, self.flat, self.feeds = engine, model, flat, feeds
        self.name = engine.name
        self.is_plain = engine.is_plain

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """As users get them."""
        return self.engine.run(self.model, self.feeds, optimized=True)

    @cached_property
    def values(self) -> dict[str, Any]:
        """Every value, nodes kept as they are."""
        if self.is_plain:
            return everything(self.flat, self.feeds)
        found = self.engine.run(exposed(self.flat), self.feeds, optimized=False)
        return {**self.feeds, **found}


class RecordedSide:
    """Values that somebody wrote down."""

    is_plain = False

    def __init__(self, name: str, recorded: Mapping[str, Any], plain: EngineSide) -> None:
        self.name, self.plain = name, plain
        graph = plain.flat.graph
        known = {v.name for node in graph.nodes for v in node.outputs}
        self.recorded = {key: array for key, array in recorded.items() if key in known}
        listed = [value.name for value in graph.outputs]
        self.outputs = {key: self.recorded[key] for key in listed if key in self.recorded}
        if not self.recorded:
            raise InvalidArgument(
                f"{name}: values of the model are required (its outputs are {', '.join(listed)}), "
                f"found {', '.join(recorded) or 'nothing'}"
            )

    @cached_property
    def values(self) -> dict[str, Any]:
        """Everything that was recorded, axes in the model's order."""
        mine = self.plain.values
        return {
            name: turned(array, order_of(mine.get(name), array))
            for name, array in self.recorded.items()
        }


class ModelSide:
    """Another model, run node by node."""

    is_plain = False

    def __init__(self, name: str, other: Model, plain: EngineSide) -> None:
        self.name, self.plain = name, plain
        flat = plain.flat
        self.model = prepared(other)
        self.ends = {
            **_paired("inputs", _fed(flat), _fed(self.model)),
            **_paired("outputs", list(flat.graph.outputs), list(self.model.graph.outputs)),
        }

    @cached_property
    def own_values(self) -> dict[str, Any]:
        """Every value by its own name.

        onnxruntime computes models with operators that only it has, such as it writes.
        """
        by_name = {value.name: value for value in self.model.graph.inputs}
        translated = {
            self.ends[name]: fitted(feed, by_name[self.ends[name]])
            for name, feed in self.plain.feeds.items()
            if name in self.ends
        }
        try:
            return everything(self.model, translated)
        except SchemaError:
            engine = OnnxRuntime()
            found = engine.run(exposed(self.model), translated, optimized=False)
            self.name += f" by {engine.name}"
            return {**translated, **found}

    @cached_property
    def alignment(self) -> Alignment:
        """Which of its values is which of the model's."""
        ours = self.plain.flat.graph
        return align(ours, self.plain.values, self.model.graph, self.own_values, self.ends)

    @cached_property
    def values(self) -> dict[str, Any]:
        """The values that are aligned."""
        return self.alignment.translated(self.own_values)

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """As they are, in the model's own layout."""
        names = [value.name for value in self.plain.flat.graph.outputs]
        return {name: self.own_values[self.ends[name]] for name in names if name in self.ends}


Side = EngineSide | RecordedSide | ModelSide


def side_of(other: ModelSource | Mapping[str, Any], plain: EngineSide) -> Side:
    """What ``other`` stands for: the name of an engine, arrays, the path of an .npz, a model.

    ``plain`` is the model on the NumPy kernels.
    """
    if isinstance(other, Mapping):
        return RecordedSide("recorded", other, plain)
    if isinstance(other, str) and other in ENGINES:
        return EngineSide(ENGINES[other](), plain.model, plain.flat, plain.feeds)
    name = "the other model"
    if isinstance(other, str | os.PathLike):
        name = Path(other).name
        if Path(other).suffix.lower() == ".npz":
            return RecordedSide(name, _archive(Path(other)), plain)
        if not Path(other).exists():
            raise NoSuchFile(
                f"{os.fspath(other)}: {', '.join(ENGINES)}, a model or an .npz is required to "
                "compare with, found no such file"
            )
    return ModelSide(name, as_model(other), plain)


def _archive(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as held:
            return dict(held)
    except FileNotFoundError as error:
        raise NoSuchFile(f"{path}: a file is required, found none") from error
    except (ValueError, OSError, AttributeError, TypeError) as error:
        raise FormatError(f"{path}: arrays in an .npz are required: {error}") from error


def _fed(model: Model) -> list[Value]:
    return [value for value in model.graph.inputs if not value.is_initializer]


def _paired(what: str, ours: list[Value], theirs: list[Value]) -> dict[str, str]:
    """Which of ``theirs`` is which of ``ours``: by name, the rest in their order."""
    names = {value.name for value in theirs}
    pairs = {value.name: value.name for value in ours if value.name in names}
    rest = [value.name for value in ours if value.name not in pairs]
    others = [value.name for value in theirs if value.name not in pairs]
    if what == "inputs" and len(rest) != len(others):
        raise InvalidArgument(
            f"compare: models of the same inputs are required, found {_listed(ours)} "
            f"and {_listed(theirs)}"
        )
    return pairs | dict(zip(rest, others, strict=False))


def _listed(values: list[Value]) -> str:
    return ", ".join(value.name for value in values) or "none"


def fitted(feed: Any, value: Value) -> Any:
    """``feed`` as ``value`` declares it: another float type, axes in another order."""
    declared = value.type
    if not (isinstance(declared, TensorType) and isinstance(feed, np.ndarray)):
        return feed
    if declared.dtype is not None and declared.dtype is not DType.of(feed.dtype):
        feed = convert(feed, declared.dtype)
    shape = declared.shape
    if shape is None or len(shape) != feed.ndim or _fits(feed.shape, shape):
        return feed
    last = (0, *range(2, feed.ndim), 1)  # channels last
    first = (0, feed.ndim - 1, *range(1, feed.ndim - 1))
    for order in (last, first):
        if feed.ndim > 2 and _fits(np.transpose(feed, order).shape, shape):
            return np.ascontiguousarray(np.transpose(feed, order))
    return feed


def _fits(shape: tuple[int, ...], declared: tuple[Any, ...]) -> bool:
    pairs = zip(shape, declared, strict=True)
    return all(not isinstance(wanted, int) or wanted == found for found, wanted in pairs)
