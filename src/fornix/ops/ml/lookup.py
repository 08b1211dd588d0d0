"""Tables from keys to values, for operators that look every element up."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from fornix.ops.fact import Array


class _Named(dict[str, Any]):
    """Values by name, and one for all other names."""

    default: Any

    def __missing__(self, _: str) -> Any:
        return self.default


@dataclass(frozen=True)
class Lookup:
    """A table from keys to values, ready to be asked for whole tensors.

    The last of equal keys counts, and NaN equals NaN.
    """

    values: Array
    """The value of each place, and last that of everything else."""
    named: _Named | None
    """The value of each key, if keys are strings; of numbers their bytes."""
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
            is_text = padded.dtype == object
            listed = padded.tolist() if is_text else [value.tobytes() for value in padded]
            named = _Named(zip(keys.tolist(), listed, strict=False))
            named.default = listed[-1]
            keys = np.empty(0)
        order = np.argsort(keys, kind="stable")
        return cls(padded, named, keys[order], order)

    def __call__(self, x: Array) -> Array:
        """The value of each element: x[*S] → [*S]."""
        if self.named is not None:
            return self._by_name(x, self.named)
        none = self.values.size - 1
        # of a scalar, indexing gives the element itself
        return np.asarray(self.values[self._places(x, none)], self.values.dtype)

    def _by_name(self, x: Array, named: _Named) -> Array:
        is_text = self.values.dtype == object
        if x.size == 1 and not is_text:
            return np.ndarray(x.shape, self.values.dtype, bytearray(named[x.item()]))
        texts = x.reshape(-1).tolist()
        # one call for all of them; of a single one it gives no tuple
        found = itemgetter(*texts)(named) if len(texts) > 1 else [named[text] for text in texts]
        if is_text:
            return np.fromiter(found, object, x.size).reshape(x.shape)
        return np.ndarray(x.shape, self.values.dtype, bytearray().join(found))

    def _places(self, x: Array, none: int) -> Array:
        if not self.ranked.size:
            return np.full(x.shape, none, np.intp)
        last = np.searchsorted(self.ranked, x, side="right") - 1
        found = self.ranked[last]
        equal = found == x
        if x.dtype.kind == "f":
            equal |= np.isnan(found) & np.isnan(x)
        return np.where((last >= 0) & equal, self.order[last], none)
