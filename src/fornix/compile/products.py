"""Products under a sum: of two numbers, or of several small ones at once.

`dot2` multiplies two pairs of bfloat16s, `dot2i` of int16s, `dot4` four of bytes.

Schedules name the factors as suits them; which of them stands first in the product is kept here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fornix.ir.loops import Apply, Scalar, apply

PRODUCTS = {"mul": 1, "dot2": 2, "dot2i": 2, "dot4": 4}
"""Elements of the operands in each factor."""


@dataclass(frozen=True)
class Product:
    """Two factors, and the product that is made of such two."""

    left: Scalar
    right: Scalar
    op: str
    is_turned: bool
    """Whether `right` stands first."""

    @property
    def elements(self) -> int:
        """Elements of the operands that one factor holds."""
        return PRODUCTS[self.op]

    def of(self, left: Scalar, right: Scalar) -> Scalar:
        """The same product of other factors."""
        return apply(self.op, right, left) if self.is_turned else apply(self.op, left, right)


def products(e: Scalar) -> Iterator[Product]:
    """``e`` as a product, either factor being the left one; nothing if it is none."""
    if isinstance(e, Apply) and e.op in PRODUCTS:
        a, b = e.args
        yield Product(a, b, e.op, is_turned=False)
        yield Product(b, a, e.op, is_turned=True)


__all__ = ["Product", "products"]
