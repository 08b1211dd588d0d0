"""Filters that onnxruntime has arranged in blocks for the processor at hand, and their true order.

No file says how large the blocks are; onnxruntime takes them to be those of the processor that
reads it.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np

from fornix.errors import require
from fornix.ops.geometry import shape_text

WIDE, NARROW = 16, 8
"""Channels of a block: floats of a vector of AVX-512, and of AVX."""

Array = np.ndarray[Any, Any]


def block_of(*filters: int) -> int:
    """Channels of a block, where convolutions of a model have so many filters each.

    8 if some do not fill blocks of 16, else what onnxruntime takes on this processor.
    """
    is_filled = all(count % WIDE == 0 for count in filters)
    return WIDE if is_filled and _has_wide_vectors() else NARROW


@cache
def _has_wide_vectors() -> bool:
    core = importlib.import_module("numpy._core._multiarray_umath")
    return bool(core.__cpu_features__.get("AVX512F", False))


def unblocked(w: Array, block: int) -> Array:
    """Filters [M, C, *K] as they are, from memory in which blocks of them lie innermost.

    [M/b, C/b, *K, b of C, b of M], or [M/b, C, *K, b of M] where channels do not fill blocks.
    """
    filters, channels, *taps = w.shape
    require(
        filters % block == 0,
        f"the filters of W must fill blocks of {block}, got W{shape_text(w.shape)}",
    )
    places = range(2, 2 + len(taps))
    if channels % block:
        blocks = w.reshape(filters // block, channels, *taps, block)
        order = [0, len(taps) + 2, 1, *places]
    else:
        blocks = w.reshape(filters // block, channels // block, *taps, block, block)
        order = [0, len(taps) + 3, 1, len(taps) + 2, *places]
    return np.ascontiguousarray(blocks.transpose(order)).reshape(w.shape)
