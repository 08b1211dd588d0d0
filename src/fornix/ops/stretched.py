"""What is as long as what it meets in a broadcast: of extents that data tell one may be 1.

Where nobody knows ahead which of several extents are 1, the longest is that of the result, as long
as they broadcast. Sessions put operators of this file ahead of nodes that broadcast
(`passes.stretch_counted`); models have none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fornix.ir.dim import DimLike, known, maximum, minimum
from fornix.ir.loops import Scalar, Tensor, compute
from fornix.ops import PART_DOMAIN
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import broadcast_shapes
from fornix.ops.op import op
from fornix.ops.types import BF16, BOOL, NUMERIC

Stretched = op(
    "Stretched (X: T, others: each V+) => (Y: T)",
    since=1, domain=PART_DOMAIN, T=NUMERIC | BF16 | BOOL, V=NUMERIC | BF16 | BOOL,
)  # fmt: skip


def stretched_shape(shape: Sequence[DimLike], *others: Sequence[DimLike]) -> tuple[DimLike, ...]:
    """``shape`` where each extent is the longest that it meets in ``others``, or a number."""
    return tuple(
        _longest(extent, [other[-axis] for other in others if axis <= len(other)])
        for axis, extent in zip(range(len(shape), 0, -1), shape, strict=True)
    )


def _longest(extent: DimLike, met: Sequence[DimLike]) -> DimLike:
    given = [d for d in (extent, *met) if d != 1]
    fixed = [number for number in map(known, given) if number is not None]
    if fixed or not given:
        return fixed[0] if fixed else 1
    return maximum(*given)


@Stretched.infer
def infer_stretched(X: Fact, *others: Fact) -> Fact:
    return tensor(X.dtype, stretched_shape(X.shape, *(other.shape for other in others)))


@Stretched.kernel
def stretched(X: Array, *others: Array) -> Array:
    """``X`` with its axes as long as they are where it broadcasts with ``others``."""
    shapes = (other.shape[max(other.ndim - X.ndim, 0) :] for other in others)
    whole: tuple[Any, ...] = broadcast_shapes(X.shape, *shapes)
    return np.broadcast_to(X, whole)


@Stretched.lower
def lower_stretched(X: Tensor, *others: Tensor) -> Tensor:
    shape = stretched_shape(X.shape, *(other.shape for other in others))

    def element(*place: DimLike) -> Scalar:
        pairs = zip(place, X.shape, shape, strict=True)
        return X[tuple(k if own == whole else minimum(k, own - 1) for k, own, whole in pairs)]

    return compute(shape, element, X.dtype)
