"""Derivative of DequantizeLinear, which is a product: of the steps above zero and the scale."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fornix.errors import NotSupported
from fornix.ir.dim import known
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.term import Term
from fornix.ops.quantize import DequantizeLinear


@DequantizeLinear.grad
def grad_dequantize_linear(
    x: Term,
    scale: Term,
    zero_point: Term | None = None,
    *,
    node: GradNode,
    **placed: int,
) -> Gradients:
    """``x′ = g · scale`` and ``scale′ = Σ g · (x − zero_point)``, over what has one scale."""
    make = node.make
    if node.needs(2):
        raise NotSupported("the gradient of its input x_zero_point is not supported")
    of_x = of_scale = None
    if node.needs(0):
        ones = make.Expand(make.constant(np.array(1, np.int8)), make.shape(x))
        scales = make.results("DequantizeLinear", [ones, scale], placed)[0]
        of_x = (node.g * scales).like(x)
    if node.needs(1):
        given = [x, make.full(1, scale), zero_point]
        steps = make.results("DequantizeLinear", given, placed)[0]
        of_scale = _summed(node.g * steps, scale, placed).like(scale)
    return of_x, of_scale


def _summed(g: Term, scale: Term, placed: Mapping[str, int]) -> Term:
    """``g`` summed over the elements that share an element of ``scale``."""
    make = g.make
    if scale.rank == 0 or scale.shape == (1,):
        return make.shaped(make.sum(g, range(g.rank)), scale)
    axis = placed["axis"] % g.rank
    if placed.get("block_size"):
        return _of_blocks(g, axis, placed["block_size"])
    return make.sum(g, [i for i in range(g.rank) if i != axis], keepdims=False)


def _of_blocks(g: Term, axis: int, size: int) -> Term:
    """The sums of blocks along ``axis``, of which the last may be shorter."""
    make, extent = g.make, known(g.shape[axis])
    if extent is None:
        raise NotSupported("the extent that is divided into blocks has to be known before a run")
    pads = [0] * (2 * g.rank)
    pads[g.rank + axis] = -extent % size
    whole = g.Pad(make.ints(pads)) if any(pads) else g
    around = [make.extent(g, i) for i in range(g.rank)]
    blocks = make.reshape(whole, [*around[:axis], -1, size, *around[axis + 1 :]])
    return make.sum(blocks, [axis + 1], keepdims=False)
