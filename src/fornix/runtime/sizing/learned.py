"""Symbols that a step learns from what it reads: extents of arrays, and integers in them.

Decides where a run finds the numbers, and which are too small for code to be made for them. Then
the NumPy kernels of the step's nodes do its work: parts of a model may turn out empty in any run.
Which numbers become symbols is decided in `learning`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from fornix.ir.dim import DimLike
from fornix.ir.graph import Value
from fornix.runtime.providers import NotAsCompiled
from fornix.runtime.sizing.extents import Extents

if TYPE_CHECKING:
    from fornix.runtime.providers import Run, Step


@dataclass(frozen=True)
class Source:
    """Where a run finds the number that a symbol stands for."""

    value: Value
    place: int
    """An axis of the value, or which of its elements in row-major order."""
    is_element: bool
    shape: tuple[DimLike, ...]
    dtype: np.dtype[Any]
    """The type of the value."""

    def number(self, values: Mapping[Value, Any]) -> int:
        """The number, as ``values`` of a run say it."""
        array = values[self.value]
        return int(array.flat[self.place] if self.is_element else array.shape[self.place])


Sources: TypeAlias = Mapping[str, Source]
"""By the names of symbols."""


def values_of(sources: Sources) -> Sequence[Value]:
    """The values that tell symbols."""
    return list(dict.fromkeys(source.value for source in sources.values()))


class Formulas(NamedTuple):
    """A tensor of integers of which formulas tell the elements, so that no step makes it."""

    elements: Sequence[DimLike]
    shape: Sequence[int]
    dtype: np.dtype[Any]

    def of(self, extent: Extents) -> np.ndarray[Any, Any]:
        """The tensor for the extents of a run."""
        return np.array([extent(d) for d in self.elements], self.dtype).reshape(self.shape)


class Kernels(NamedTuple):
    """The NumPy kernels of some nodes, and what they read that no step makes."""

    steps: list[Step]
    stored: Mapping[Value, Any]
    """Data of the model."""
    told: Mapping[Value, Formulas]


@dataclass(frozen=True)
class Learned:
    """What a step learns as it begins, and who runs it where its code is not made for that."""

    sources: Sources
    kernels: Callable[[], Kernels]
    """Those of its nodes."""

    @property
    def values(self) -> Sequence[Value]:
        """What tells its symbols."""
        return values_of(self.sources)

    def extents(self, values: Mapping[Value, Any]) -> dict[str, int] | None:
        """What symbols are in a run with these ``values``; None if one is less than 0."""
        found = self._numbers(values)
        return found if all(number >= 0 for number in found.values()) else None

    def _numbers(self, values: Mapping[Value, Any]) -> dict[str, int]:
        """The numbers that symbols stand for, also those less than 0."""
        return {name: source.number(values) for name, source in self.sources.items()}

    def run(self, values: Mapping[Value, Any], run: Run) -> dict[Value, Any]:
        """What the NumPy kernels make of ``values``.

        Raises NotAsCompiled where they need what code does not.
        """
        kernels = self.kernels()
        extent = Extents({**run.extents, **(self.extents(values) or {})})
        try:
            told = {value: formulas.of(extent) for value, formulas in kernels.told.items()}
        except NotAsCompiled:
            below = [f"{name} is {n}" for name, n in self._numbers(values).items() if n < 0]
            if not below:
                raise
            raise NotAsCompiled(f"{', '.join(below)}, and code is made for 0 or more") from None
        known = {**told, **kernels.stored, **values}
        with np.errstate(all="ignore"):
            for step in kernels.steps:
                if any(value not in known for value in step.reads):
                    raise NotAsCompiled("nobody has made what a kernel would read")
                step.run(known, run)
        return known
