"""Where values of a native call lie, and what it knows of a loop that it is about to write down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np

from fornix.dtype import BOOL, INT64, STRING
from fornix.ir.dim import DimLike
from fornix.ir.graph import Graph, Value
from fornix.ir.types import OptionalType, SequenceType, TensorType, Type
from fornix.runtime.shortcuts.generic import ArrayType
from fornix.runtime.shortcuts.wired import Instruction

LONG: ArrayType = (), INT64.numpy
TRUTH: ArrayType = (), BOOL.numpy
"""What the number of an iteration and a condition are."""


class Budget(NamedTuple):
    """How much memory a call has, in bytes, and what it has to allow for."""

    block: int
    """For what extents of feeds decide."""
    rows: int
    """For each result of a loop that may end early."""
    late: int
    """For what only the run tells the size of, and again for what sequences have."""
    entries: int = 16
    """Not bytes, but elements: for those of each list that is fed."""
    is_wary: bool = False
    """Whether carried extents are taken to change wherever they are not known to be equal, and
    others that broadcast not to be equal."""


@dataclass(frozen=True)
class Label:
    """A place among instructions; jumps find its number in a slot."""

    slot: int


Code: TypeAlias = list[Instruction | Label]


@dataclass(frozen=True)
class Place:
    """Where a value lies."""

    address: int
    """The slot of its address."""
    type: ArrayType | None
    """What arrays of it are; None if whoever fills it decides."""
    stays: bool = False
    """Whether its address is the same in the whole call."""


@dataclass(frozen=True, kw_only=True)
class Listed(Place):
    """Where the table of a sequence lies, and how many of its entries are elements (`lists`)."""

    count: int
    """The slot of that."""
    dtype: np.dtype[np.generic]
    rank: int | None = None
    """How many axes elements have, as far as that is known."""
    is_optional: bool = False
    """Whether it stands for an array that may be missing."""


class Fed(NamedTuple):
    """What lists of arrays are that are fed, and arrays that may be missing."""

    dtype: np.dtype[np.generic]
    shape: Sequence[DimLike | None] | None
    """Of elements, as they are declared."""
    is_optional: bool

    @classmethod
    def of(cls, type_: Type | None) -> Fed | None:
        """That of a declared type; None for what is neither, or holds something else."""
        is_optional = isinstance(type_, OptionalType)
        elem = type_.elem if isinstance(type_, SequenceType | OptionalType) else None
        if not isinstance(elem, TensorType) or elem.dtype is None or elem.dtype is STRING:
            return None
        return cls(elem.dtype.numpy, elem.shape, is_optional)


Places: TypeAlias = dict[Value, Place]


@dataclass(frozen=True)
class Carried:
    """A value that iterations hand on: where it is, where it will be, and where after that."""

    initial: Place
    now: Place
    next: Place
    spare: int
    extents: Mapping[int, int] = field(default_factory=dict)
    """By axis, the slots of extents that change from one iteration to the next."""


@dataclass(frozen=True)
class Rows:
    """An array of which each iteration reads or makes one row."""

    row: Place
    is_backward: bool = False
    whole: Place | None = None
    """Where an array that is read lies."""
    extents: Sequence[int] = ()
    """The slots of the extents of a row, where only the first iteration tells them."""


@dataclass(frozen=True)
class Iteration:
    """What a Loop and a Scan have in common."""

    graph: Graph
    leading: Sequence[Place]
    """Inputs of the body ahead of carried values: its number and the condition."""
    carried: Sequence[Carried]
    read: Sequence[Rows]
    made: Sequence[Rows]
    number: int
    """The slot of how many iterations there have been."""
    done: int
    """The slot of how many of them have run ahead of the loop."""
    limit: int
    """The slot of how many there are at most."""
    goes_on: int | None
    """The slot of whether there is another one, if the body says so."""
    count: DimLike | None
    """How many there are, if that is known ahead."""


def never_ends(graph: Graph) -> bool:
    """Whether the body of a Loop never ends it."""
    value: Value | None = graph.outputs[0]
    while value is not None and value.producer is not None and value.producer.op_type == "Identity":
        value = value.producer.inputs[0]
    if value is graph.inputs[1]:
        return True
    return value is not None and value.constant is not None and bool(value.constant.numpy().all())


def declared_extents(value: Value) -> Sequence[DimLike | None]:
    """The extents of ``value`` as they are declared."""
    shape = value.type.shape if isinstance(value.type, TensorType) else None
    return (None,) if shape is None else shape
