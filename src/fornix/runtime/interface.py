"""What a session shows of its model: names, types and shapes of what goes in and comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from fornix.ir.dim import DimLike, known
from fornix.ir.graph import Model, Value
from fornix.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    TensorType,
    Type,
    constraint_text,
    dtype_text,
)


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output of a model.

    `type` is spelled ``tensor(float)``; `shape` holds extents, names of symbolic extents, or None
    where nothing is known.
    """

    name: str
    type: str
    shape: list[int | str | None]

    @classmethod
    def of(cls, value: Value, inferred: Type | None = None) -> NodeArg:
        """What the model declares of ``value``, and what is ``inferred`` where that says more."""
        declared = value.type or inferred
        shape = _shape(declared)
        found = _shape(inferred)
        if shape is None or (found is not None and len(found) != len(shape)):
            shape = found
        extents = [
            _extent(a, b) for a, b in zip_longest(shape or (), found if found and shape else ())
        ]
        return cls(value.name, "" if declared is None else _spelled(declared), extents)


def _spelled(type_: Type | None) -> str:
    """A type in onnxruntime's words, which has tensors for the values of a map."""
    if isinstance(type_, MapType):
        return f"map({dtype_text(type_.key)},{_spelled(type_.value)})"
    if isinstance(type_, SequenceType | OptionalType):
        kind = "seq" if isinstance(type_, SequenceType) else "optional"
        return f"{kind}({_spelled(type_.elem)})"
    return constraint_text(type_)


def _shape(type_: Type | None) -> tuple[DimLike | None, ...] | None:
    held = type_.elem if isinstance(type_, OptionalType) else type_
    return held.shape if isinstance(held, TensorType) else None


def _extent(declared: DimLike | None, inferred: DimLike | None) -> int | str | None:
    """A known extent as its number, else by the name that the model gives it, or that follows."""
    number = known(inferred) if inferred is not None else None
    if number is not None:
        return number
    extent = inferred if declared is None else declared
    if extent is None or isinstance(extent, int):
        return extent
    return None if extent.unknowns else str(extent)


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """Where a model comes from, as it says itself."""

    producer_name: str
    graph_name: str
    domain: str
    description: str
    graph_description: str
    version: int
    custom_metadata_map: dict[str, str]


@dataclass(frozen=True)
class Interface:
    """What a session has to know of a model for usual runs."""

    inputs: Sequence[Value]
    """Those that must be fed."""
    overridable: Sequence[Value]
    """Initializers that may be fed in place of their stored data."""
    outputs: Sequence[str]

    @staticmethod
    def of(model: Model) -> Interface:
        """What ``model`` declares."""
        inputs = model.graph.inputs
        return Interface(
            [value for value in inputs if not value.is_initializer],
            [value for value in inputs if value.is_initializer],
            [value.name for value in model.graph.outputs],
        )


def output_args(model: Model) -> list[NodeArg]:
    """The outputs of ``model``; extents that it leaves open are inferred."""
    outputs = model.graph.outputs
    shapes = [_shape(value.type) for value in outputs]
    if all(shape and all(isinstance(n, int) for n in shape) for shape in shapes):
        return [NodeArg.of(value) for value in outputs]
    from fornix.infer import infer_model  # noqa: PLC0415 - sessions on kernels rarely need it

    inference = infer_model(model)
    return [NodeArg.of(value, inference.fact(value).type) for value in outputs]
