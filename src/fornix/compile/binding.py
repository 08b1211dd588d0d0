"""Facts with the extents of one run, or of none in particular, in place of symbols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fornix.ir.dim import Dim, DimLike
from fornix.ir.types import TensorType
from fornix.ops.fact import Fact


@dataclass(frozen=True)
class Binding:
    """Extents for symbols; what stands in the types of many nodes is computed once."""

    extents: Mapping[str, DimLike]
    known: dict[Dim, DimLike] = field(default_factory=dict)

    def __call__(self, extent: DimLike | None) -> DimLike | None:
        if not isinstance(extent, Dim):
            return extent
        found = self.known.get(extent)
        if found is None:
            found = self.known[extent] = extent.bind(self.extents)
        return found


def bound_fact(fact: Fact, extents: Binding) -> Fact:
    """``fact`` with symbols replaced by their values."""
    type_ = fact.type
    if not extents.extents or not isinstance(type_, TensorType) or type_.shape is None:
        return fact
    shape = tuple(map(extents, type_.shape))
    value = fact.known_value
    if value is not None:
        value = np.empty(value.shape, object)
        for place, entry in np.ndenumerate(fact.known_value):
            value[place] = extents(entry)
    return Fact(TensorType(type_.dtype, shape), value, fact.tensor)
