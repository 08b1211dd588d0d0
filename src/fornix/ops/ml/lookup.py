"""Tables from keys to values, for operators that look every element up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from fornix.ops.fact import Array


@dataclass(frozen=True)
class Lookup:
    """A table from keys to values, ready to be asked for whole tensors.

    The last of equal keys counts, and NaN equals NaN.
    """

    values: Array
    """The value of each place, and last that of everything else."""
    named: dict[str, Any] | None
    """The value of each key, if keys are strings."""
    ranked: Array
    """Keys in ascending order, if they are numbers."""
    order: Array
    """The place of each of those."""

    @classmethod
    def of(cls, keys: Array, values: Array, default: Any) -> Lookup:
        """The table with ``values`` beside ``keys``, and ``default`` for everything else."""
        padded = np.empty(len(values) + 1, values.dtype)
        padded[:-1], padded[-1] = values, default
        named = None
        if keys.dtype == object:
            named = dict(zip(keys.tolist(), padded.tolist(), strict=False))
            keys = np.empty(0)
        order = np.argsort(keys, kind="stable")
        return cls(padded, named, keys[order], order)

    def __call__(self, x: Array) -> Array:
        """The value of each element: x[*S] → [*S]."""
        if self.named is not None:
            found = map(self.named.get, x.reshape(-1).tolist(), repeat(self.values.item(-1)))
            return np.fromiter(found, self.values.dtype, x.size).reshape(x.shape)
        none = self.values.size - 1
        # of a scalar, indexing gives the element itself
        return np.asarray(self.values[self._places(x, none)], self.values.dtype)

    def _places(self, x: Array, none: int) -> Array:
        if not self.ranked.size:
            return np.full(x.shape, none, np.intp)
        last = np.searchsorted(self.ranked, x, side="right") - 1
        found = self.ranked[last]
        equal = found == x
        if x.dtype.kind == "f":
            equal |= np.isnan(found) & np.isnan(x)
        return np.where((last >= 0) & equal, self.order[last], none)
