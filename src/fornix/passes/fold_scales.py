"""Multiply scales ahead of time: what is quantized behind products is not divided anew.

``round(x·f / s)`` is ``round(x·(f/s))`` but for ties, and so for sums of such products: where what
QuantizeLinear divides comes of stored factors, its scale goes into them, and what is left is a
scale of 1. That is for convolutions and products of matrices, whose sums of floats nobody rounds
in a stated order. Numbers that elementwise nodes alone have made are divided as they are, for a
stated result: with scales like 0.1 and 0.2 every other byte is half way between two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fornix.dtype import FLOAT32
from fornix.ir.graph import Node, Value
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Rule, any_, const, rewrite

MAX_DEPTH = 8
"""Nodes behind each other through which a scale goes."""
EXTREME = 2.0**60
"""Beyond this, and below its inverse, scales stay where they are: factors might not be finite."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Division:
    """What makes a quotient by changing stored factors alone."""

    make: Callable[[], Value | Array]
    has_products: bool = False
    """Whether sums of products are among what is divided."""


@rewrite(P.QuantizeLinear(any_("x"), const("scale"), any_("zero?"), bind="node"))
def fold_scale(
    x: Value, scale: Array, node: Node, make: Maker, zero: Value | None = None
) -> Value | None:
    """QuantizeLinear of products by stored factors: its scale goes into these."""
    if scale.size != 1 or scale.dtype != np.float32 or make.fact(x).dtype is not FLOAT32:
        return None
    divisor = np.float32(scale.reshape(()))
    if divisor == 1 or not 1 / EXTREME < divisor < EXTREME:
        return None
    found = None if x.constant is not None else _divided(x, divisor, make, MAX_DEPTH)
    if found is None or not found.has_products:
        return None
    return make.node(
        "QuantizeLinear", (found.make(), np.ones_like(scale), zero), dict(node.attributes)
    )


def _divided(x: Value, divisor: np.float32, make: Maker, depth: int) -> Division | None:
    """How to make ``x / divisor``; None if stored factors do not do."""
    tensor, node = x.constant, x.producer
    if tensor is not None:
        return _of_constant(tensor.numpy(), divisor)
    if node is None or depth == 0 or node.domain:
        return None
    if node.op_type == "DequantizeLinear":
        return _of_restored(node, divisor, make)
    if len(x.uses) != 1 or x.is_output:
        return None
    if node.op_type == "Mul":
        return _of_product(node, divisor, make)
    if node.op_type == "Add":
        return _of_sum(node, divisor, make, depth)
    if node.op_type == "Relu" and node.inputs[0] is not None:
        inner = _divided(node.inputs[0], divisor, make, depth - 1)
        return inner and Division(lambda: make.Relu(inner.make()), inner.has_products)
    return None


def _of_sum(node: Node, divisor: np.float32, make: Maker, depth: int) -> Division | None:
    parts = [_divided(v, divisor, make, depth - 1) for v in node.inputs if v is not None]
    found = [part for part in parts if part is not None]
    if len(found) != 2:
        return None
    has_products = any(part.has_products for part in found)
    return Division(lambda: make.Add(*(part.make() for part in found)), has_products)


def _of_constant(array: Array, divisor: np.float32) -> Division | None:
    return Division(lambda: array / divisor) if array.dtype == np.float32 else None


def _of_restored(node: Node, divisor: np.float32, make: Maker) -> Division | None:
    scale = None if node.inputs[1] is None else node.inputs[1].constant
    if scale is None or scale.dtype is not FLOAT32:
        return None
    x, _, *zero = node.inputs
    values = scale.numpy() / divisor
    attributes = dict(node.attributes)
    return Division(lambda: make.node("DequantizeLinear", (x, values, *zero), attributes))


def _of_product(node: Node, divisor: np.float32, make: Maker) -> Division | None:
    """A product of which one factor is stored, the other a sum of products of integers."""
    for x, factor in (node.inputs, node.inputs[::-1]):
        tensor = None if factor is None else factor.constant
        maker = None if x is None else x.producer
        if tensor is None or tensor.dtype is not FLOAT32 or maker is None:
            continue
        if maker.op_type == "Cast" and _is_sum(maker):
            return Division(partial(make.Mul, x, tensor.numpy() / divisor), has_products=True)
    return None


def _is_sum(cast: Node) -> bool:
    """Whether what is cast are sums of products."""
    maker = None if cast.inputs[0] is None else cast.inputs[0].producer
    return maker is not None and maker.op_type in {"ConvInteger", "MatMulInteger"}


RULES: tuple[Rule, ...] = fold_scale
