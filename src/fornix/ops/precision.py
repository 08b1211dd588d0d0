"""Precision of kernels: narrow floats are widened, and the result rounded once."""

from __future__ import annotations

import numpy as np

from fornix.dtype import DType
from fornix.ops.fact import Array

_FULL_BITS = 32
"""float32 is the narrowest type in which kernels add and multiply."""


def widened(x: Array) -> Array:
    """``x``, in float32 if its elements are narrower floats."""
    dtype = DType.of(x.dtype)
    return x.astype(np.float32) if dtype.is_float and dtype.bits < _FULL_BITS else x


__all__ = ["widened"]
