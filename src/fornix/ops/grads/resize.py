"""Derivative of Resize: it is linear, and works axis by axis.

Resizing the rows of an identity matrix in the same way gives the matrix of an axis; multiplying the
gradient by its transpose undoes that axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fornix.errors import NotSupported
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
    if scales is not None and scales.fact.has_rank and scales.shape == (0,):
        scales = None  # how version 11 leaves it out
    g = node.g
    for place, axis in enumerate(named):
        if not _is_kept(x, scales, place, axis, node):
            g = _undone(g, axis, _matrix(x, scales, place, axis, node, reading))
    return g


def _is_kept(x: Term, scales: Term | None, place: int, axis: int, node: GradNode) -> bool:
    """Whether an axis is known to be scaled by 1."""
    if scales is None:
        return x.shape[axis] == node.y.shape[axis]
    constant = scales.fact.constant
    return constant is not None and bool(constant.reshape(-1)[place] == 1)


def _matrix(
    x: Term, scales: Term | None, place: int, axis: int, node: GradNode, reading: dict[str, Any]
) -> Term:
    """The rows of an identity resized as ``axis`` is: [size, out]."""
    make = x.make
    size = make.extent(x, axis)
    identity = make.Expand(make.constant(np.zeros((), x.dtype.numpy)), make.joined([size, size]))
    # Before version 13 an input that is left out is an empty tensor.
    empty = None if node.version >= OPTIONAL_INPUTS else make.constant(np.zeros(0, np.float32))
    if scales is None:
        sizes = make.joined([size, make.extent(node.y, axis)])
        return make.Resize(identity.EyeLike(), empty, empty, sizes, **reading)
    factor = make.Slice(scales, make.ints([place]), make.ints([place + 1]))
    factors = make.Concat(make.constant(np.ones(1, np.float32)), factor, axis=0)
    return make.Resize(identity.EyeLike(), empty, factors, **reading)


def _undone(g: Term, axis: int, matrix: Term) -> Term:
    """``g`` with one axis multiplied by the transposed matrix."""
    last = [*(i for i in range(g.rank) if i != axis), axis]
    product = g.Transpose(perm=last).MatMul(matrix.Transpose(perm=[1, 0]))
    return product.Transpose(perm=sorted(range(g.rank), key=last.__getitem__))
