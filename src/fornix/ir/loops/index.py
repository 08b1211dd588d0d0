"""The atoms that loops add to dims: loop variables, and integers loaded from memory.

With them an index, an address and a shape are one kind of expression, simplified by one mechanism.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from fornix.ir.dim.expression import (
    Atom,
    Dim,
    DimLike,
    Replaced,
    atom_key,
    render,
    substitute,
)

if TYPE_CHECKING:
    from fornix.ir.loops.scalar import Scalar


class Variable(Atom):
    """A loop variable, ``0 <= v < extent``; every one is new."""

    __slots__ = ("dim", "extent", "high", "name")
    is_new = True
    dim: Dim
    """The variable as an index."""
    high: DimLike
    _serial: ClassVar[itertools.count[int]] = itertools.count()

    def __init__(self, name: str, extent: DimLike) -> None:
        super().__init__(f"{name}#{next(self._serial):09d}", (extent,))
        self.name, self.extent = name, extent
        self.variables = frozenset({self})
        self.dim, self.high = Dim({(self,): 1}), extent - 1

    @property
    def text(self) -> str:
        return self.name

    @property
    def low(self) -> int:
        return 0


class Loaded(Atom):
    """An integer that is computed from data and used as an index; ``0 <= value < extent``.

    With ``wraps`` it may also lie in ``[-extent, 0)``, counting from the end: ``extent`` is added.
    The range is an obligation, not a hope: whoever executes the loop checks it where the value is
    used, and fails the run if the check fails.
    """

    __slots__ = ("expr", "extent", "high", "wraps")
    high: DimLike

    def __init__(self, expr: Scalar, extent: DimLike, *, wraps: bool = False) -> None:
        bound = render(extent, atom_key)
        super().__init__(f"@{expr.serial:09d}<{bound}{'~' * wraps}", (extent,))
        self.expr, self.extent, self.wraps, self.high = expr, extent, wraps, extent - 1
        self.variables = self.variables | expr.variables

    @property
    def text(self) -> str:
        return f"({self.expr.text(2)})"

    @property
    def low(self) -> int:
        return 0

    def replaced(self, values: Mapping[Atom, DimLike], memo: Replaced) -> DimLike | Atom:
        # The scalars need this module, and this method needs them.
        from fornix.ir.loops.rewrite import substitute_scalar  # noqa: PLC0415
        from fornix.ir.loops.scalar import gathered  # noqa: PLC0415

        expr = substitute_scalar(self.expr, values)
        extent = substitute(self.extent, values, memo)
        if expr is self.expr and extent is self.extent:
            return self
        return gathered(expr, extent, wraps=self.wraps)


def out_of_range(value: int, extent: int, *, wraps: bool) -> str:
    """What the error says when a check of `Loaded` fails; kernels say the same."""
    return f"index {value} is out of range [{-extent if wraps else 0}, {extent - 1}]"
