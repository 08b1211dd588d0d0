"""Gaussian elimination of small square matrices as loops: what Det and Inverse have in common."""

from __future__ import annotations

from collections.abc import Sequence

from fornix.errors import require
from fornix.ir.dim import Dim, DimLike, equal, known
from fornix.ir.loops import Scalar, Tensor, apply, compute, index, reduce, select, stored_at
from fornix.ops.call import LowerNode
from fornix.ops.geometry import shape_text

MOST_ROWS = 32
"""Rows of a matrix that loops eliminate: they keep each step, and LAPACK works in blocks."""


def check_square(shape: Sequence[DimLike]) -> None:
    """Raise ShapeError unless the last two axes may be a square matrix."""
    require(
        len(shape) >= 2 and equal(shape[-2], shape[-1]) is not False,
        f"X must end in a square matrix, got X{shape_text(shape)}",
    )


def square_rows(x: Tensor, node: LowerNode) -> int:
    """How many rows the matrices of ``x`` have, if loops eliminate so many."""
    check_square(x.shape)
    sizes = [size for size in map(known, x.shape[-2:]) if size is not None]
    if not sizes:
        node.decline("the size of its matrices is known at run time only")
    rows = sizes[0]
    if rows > MOST_ROWS:
        node.decline(f"LAPACK is faster for matrices of {rows} rows")
    return rows


def lower_pivot(a: Tensor, rows: int, t: Dim) -> Tensor:
    """The first row from t on whose element in column t is the largest, or no number."""
    batch = a.shape[:-2]

    def height(*b: DimLike) -> Scalar:
        return reduce("max", rows, lambda r: select(_is_left(r, t), abs(a[(*b, r, t)]), -1))

    top = stored_at(compute(batch, height), t, "top")

    def place(*b: DimLike) -> Scalar:
        def row(r: DimLike) -> Scalar:
            value = a[(*b, r, t)]
            is_top = apply("eq", abs(value), top[b]) | apply("ne", value, value)  # or a NaN
            return select(_is_left(r, t) & is_top, index(r), rows - 1)

        return reduce("min", rows, row)

    return stored_at(compute(batch, place), t, "pivot")


def exchanged(row: DimLike, t: Dim, pivot: Scalar) -> Scalar:
    """The row that stands at ``row`` once t and ``pivot``, which is not before it, change places.

    Rows before t stay, and so does t, which is the pivot's own.
    """
    return select(apply("eq", index(row), pivot), index(t), index(row))


def _is_left(row: DimLike, step: DimLike) -> Scalar:
    return index(row) >= index(step)
