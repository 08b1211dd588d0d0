"""Derivative of Resize: it is linear, and works axis by axis.

Resizing the rows of an identity matrix in the same way gives the matrix of an axis; multiplying the
gradient by its transpose undoes that axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fornix.errors import NotSupported
from fornix.ir.dim import known
from fornix.ops.geometry import normalize_axes
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.term import Term
from fornix.ops.resize import Resize

OPTIONAL_INPUTS = 13
"""Version of Resize from which roi and scales may be left out."""


@Resize.grad(since=11)
def grad_resize(
    x: Term,
    roi: Term | None = None,
    scales: Term | None = None,
    sizes: Term | None = None,
    *,
    axes: Sequence[int] | None = None,
    keep_aspect_ratio_policy: str = "stretch",
    node: GradNode,
    **reading: Any,
) -> Gradients:
    if reading.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise NotSupported("with tf_crop_and_resize it has no derivative here")
    if keep_aspect_ratio_policy != "stretch":
        raise NotSupported("with an aspect ratio policy other than stretch it has no derivative")
    named = list(range(x.rank)) if axes is None else list(normalize_axes(axes, x.rank))
    g = node.g
    for place, axis in enumerate(named):
        size, out = known(x.shape[axis]), known(node.y.shape[axis])
        if size is None or out is None:
            if _is_kept(scales, place):
                continue
            raise NotSupported("the extents of the axes that it resizes have to be known")
        if size != out or not _is_kept(scales, place, unless_given=True):
            factor = _factor(scales, place, out / size)
            g = _undone(g, axis, _matrix(x, size, out, factor, node, reading))
    return g


def _given(scales: Term | None) -> np.ndarray[Any, Any] | None:
    """The scales, if they are known and not left out."""
    constant = None if scales is None else scales.fact.constant
    return None if constant is None or not constant.size else constant.reshape(-1)


def _is_kept(scales: Term | None, place: int, *, unless_given: bool = False) -> bool:
    """Whether an axis is scaled by 1; with ``unless_given`` also if no scales are given."""
    found = _given(scales)
    return unless_given if found is None else bool(found[place] == 1)


def _factor(scales: Term | None, place: int, ratio: float) -> float | None:
    """The scale of an axis, None where the extents alone say it."""
    found = _given(scales)
    if found is not None:
        return float(found[place])
    if scales is not None and scales.shape != (0,):
        raise NotSupported("its input scales has to be known before a run")
    return None


def _matrix(
    x: Term, size: int, out: int, factor: float | None, node: GradNode, reading: dict[str, Any]
) -> Term:
    """The rows of an identity resized: [size, out]."""
    make = x.make
    identity = make.constant(np.eye(size).astype(x.dtype.numpy))
    # Before version 13 an input that is left out is an empty tensor.
    empty = None if node.version >= OPTIONAL_INPUTS else make.constant(np.zeros(0, np.float32))
    if factor is None:
        return make.Resize(identity, empty, empty, make.ints([size, out]), **reading)
    scales = make.constant(np.array([1, factor], np.float32))
    return make.Resize(identity, empty, scales, **reading)


def _undone(g: Term, axis: int, matrix: Term) -> Term:
    """``g`` with one axis multiplied by the transposed matrix."""
    make = g.make
    last = [*(i for i in range(g.rank) if i != axis), axis]
    product = make.MatMul(g.Transpose(perm=last), make.swapped(matrix))
    return product.Transpose(perm=sorted(range(g.rank), key=last.__getitem__))
