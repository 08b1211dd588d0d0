"""Arithmetic of less precision than a model declares, as engines use it to be fast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.debug.part import Arithmetic, Array, double, is_float
from fornix.debug.rounding import unit
from fornix.dtype import BFLOAT16, FLOAT16, FLOAT32, DType

ROOM = 4.0
"""Two roundings that fall the other way, in units of the last place."""


@dataclass(frozen=True)
class Narrow:
    """A floating-point format: ``round`` takes float64 to its nearest number."""

    name: str
    unit: float
    round: Callable[[Array], Array]
    dtype: DType | None = None

    def ways(self) -> Iterator[tuple[Arithmetic, float]]:
        """What is rounded: inputs and results, inputs, results; and how far results may be off."""

        def read(x: Array, _node: object, _index: int) -> Array:
            return self.round(double(x))

        def wide(x: Array, _node: object, _index: int) -> Array:
            return double(x)

        def made(x: Array) -> Array:
            return self.round(double(x))

        yield Arithmetic(self.name, read, made), ROOM
        yield Arithmetic(self.name, read, double), 0.0
        yield Arithmetic(self.name, wide, made), ROOM


def to_dtype(dtype: DType) -> Callable[[Array], Array]:
    """Rounding to ``dtype``; complex numbers stay."""

    def rounded(x: Array) -> Array:
        if not is_float(x):
            return x
        with np.errstate(all="ignore"):
            return x.astype(dtype.numpy).astype(np.float64)

    return rounded


TF32_BITS = 10
"""Bits of the fraction in NVIDIA's TensorFloat-32."""


def to_tf32(x: Array) -> Array:
    """Rounding to the fraction of TF32."""
    if not is_float(x):
        return x
    fraction, exponent = np.frexp(x)
    scale = 2.0 ** (TF32_BITS + 1)
    return np.asarray(np.ldexp(np.rint(fraction * scale) / scale, exponent))


def is_held(x: Any, dtype: DType) -> bool:
    """Whether every element of ``x`` is a number of ``dtype``, and some need all of its digits."""
    wide = double(x)
    with np.errstate(all="ignore"):
        same = np.array_equal(wide.astype(dtype.numpy).astype(np.float64), wide, equal_nan=True)
    return bool(same and wide.size and not np.array_equal(wide, np.rint(wide)))


NARROW = (
    Narrow("float32", unit(FLOAT32), to_dtype(FLOAT32), FLOAT32),
    Narrow("TF32 (float32 with 10 bits)", 2.0 ** -(TF32_BITS + 1), to_tf32),
    Narrow("float16", unit(FLOAT16), to_dtype(FLOAT16), FLOAT16),
    Narrow("bfloat16", unit(BFLOAT16), to_dtype(BFLOAT16), BFLOAT16),
)
"""From the most precise on; float32 is less than what models in float64 declare."""
