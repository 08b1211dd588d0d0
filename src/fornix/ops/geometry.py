"""Arithmetic of shapes that operators share: axes and broadcasting.

Everything here takes dims that are `int` or `Dim`, so that inference, kernels and lowerings use one
definition. Sliding windows have a file of their own (`window.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fornix.errors import ShapeError
from fornix.ir.dim import Dim, DimLike, known, less, maximum, minimum, unknown
from fornix.ops.fact import Array, Fact, UnknownRank, tensor


def normalize_axis(axis: int, rank: int, name: str = "axis") -> int:
    """``axis`` counted from the front; raises ShapeError unless −rank ≤ axis < rank."""
    if not -rank <= axis < rank:
        allowed = f"[{-rank}, {rank - 1}]" if rank else "no value, the tensor being a scalar"
        raise ShapeError(f"{name} must be in {allowed} for rank {rank}, got {axis}")
    return axis + rank if axis < 0 else axis


def normalize_axes(axes: Iterable[int], rank: int, name: str = "axes") -> tuple[int, ...]:
    """``axes`` counted from the front; raises ShapeError if one is out of range or repeated."""
    normalized = tuple([normalize_axis(int(axis), rank, name) for axis in axes])
    if len(normalized) > 1 and len(set(normalized)) != len(normalized):
        raise ShapeError(f"{name} must name each axis once, got {list(normalized)}")
    return normalized


def broadcast_shapes(*shapes: Sequence[DimLike]) -> tuple[DimLike, ...]:
    """The common shape of ``shapes`` under multidirectional (NumPy) broadcasting.

    Extents that may still turn out to be 1 give an unknown extent. Raises ShapeError if two
    known extents differ and neither is 1.
    """
    if len({*map(tuple, shapes)}) == 1:
        return tuple(shapes[0])
    rank = max(map(len, shapes), default=0)
    padded = [(*[1] * (rank - len(shape)), *shape) for shape in shapes]
    return tuple(_broadcast_dim([shape[axis] for shape in padded], shapes) for axis in range(rank))


def _broadcast_dim(dims: Sequence[DimLike], shapes: Sequence[Sequence[DimLike]]) -> DimLike:
    given = dict.fromkeys(dim for dim in dims if dim != 1)
    # No extent is negative: beside n, max(n, 0) is n. Slices say that of what others count exactly.
    floors = {maximum(dim, 0) for dim in given if maximum(dim, 0) != dim}
    distinct = [dim for dim in given if dim not in floors]
    if len(distinct) <= 1:
        return distinct[0] if distinct else 1
    fixed = [extent for extent in map(known, distinct) if extent is not None]
    if len(fixed) > 1:
        raise ShapeError(
            f"shapes must broadcast, got {' and '.join(map(shape_text, shapes))}: "
            f"{fixed[0]} and {fixed[1]} differ and neither is 1"
        )
    if fixed:
        return fixed[0]  # the symbolic extents can only be this or 1
    for extent in distinct:
        if all(other is extent or _covers(extent, other) for other in distinct):
            return extent
    reason = f"broadcast of {' and '.join(map(str, distinct))}, either of which may be 1"
    return unknown(reason, among=tuple(distinct))


def _covers(extent: DimLike, other: DimLike) -> bool:
    """Whether ``extent`` is the result of broadcasting with ``other``, wherever that is valid.

    Valid are equal extents and a 1 on either side; so a greater extent wins, unless it is 1 and
    the other 0. A slice of a table by a length, min(512, S), broadcasts with S to S, and the last
    of H//8 rows, min(H//8, 1), with all of them to H//8.
    """
    if not isinstance(extent, Dim) or less(extent, other) is not False:
        return False
    if other == minimum(extent, 1):
        return True
    if extent.name is None:
        return False
    beside_one = other.bind({extent.name: 1}) if isinstance(other, Dim) else other
    return less(0, beside_one) is True


def unified(dims: Iterable[DimLike]) -> DimLike | None:
    """The one extent that all of ``dims`` must be; None if two known ones differ.

    Of symbolic extents that must be equal, the first without an unknown part stands for all.
    """
    distinct = list(dict.fromkeys(dims))
    fixed = {extent for extent in map(known, distinct) if extent is not None}
    if len(fixed) > 1:
        return None
    if fixed:
        return fixed.pop()
    named = [dim for dim in distinct if isinstance(dim, Dim) and not dim.unknowns]
    return (named or distinct)[0]


def of_rank(fact: Fact, rank: int, name: str) -> Fact:
    """``fact``, or ``rank`` unknown extents where not even their number was known."""
    if fact.has_rank:
        return fact
    return tensor(fact.dtype, [unknown(f"nothing says axis {i} of {name}") for i in range(rank)])


def agreed_shape(*shapes: Sequence[DimLike] | Fact | None) -> tuple[DimLike, ...]:
    """The one shape that all have: of each extent what is known best.

    Facts of unknown rank say nothing; raises `UnknownRank` if there is nothing else. Whoever calls
    has seen to it that ranks and extents may agree.
    """
    given = [
        x.shape if isinstance(x, Fact) else x for x in shapes if x is not None and _has_rank(x)
    ]
    if not given:
        raise UnknownRank
    merged = [unified(extents) for extents in zip(*given, strict=True)]
    return tuple(a if b is None else b for a, b in zip(given[0], merged, strict=True))


def may_equal(one: DimLike, other: DimLike) -> bool:
    """Whether two extents are no different numbers."""
    return known(one) is None or known(other) is None or one == other


def _has_rank(shape: Sequence[DimLike] | Fact) -> bool:
    return not isinstance(shape, Fact) or shape.has_rank


def row_major(place: Sequence[DimLike], shape: Sequence[DimLike]) -> DimLike:
    """The address of ``place`` in a tensor whose last axis is contiguous."""
    address: DimLike = 0
    for i, n in zip(place, shape, strict=True):
        address = address * n + i
    return address


def unflattened(address: DimLike, shape: Sequence[DimLike]) -> tuple[DimLike, ...]:
    """The place in ``shape`` that lies at ``address``, the last axis being contiguous."""
    place: list[DimLike] = []
    for extent in reversed(shape[1:]):
        place.append(address % extent)
        address = address // extent
    return (address, *reversed(place)) if shape else ()


def listed(x: Any, name: str) -> list[Any]:
    """The numbers in ``x``: a list, or a tensor of one axis (a scalar stands for a list of one)."""
    if isinstance(x, list):
        return x
    if x.ndim > 1:
        raise ShapeError(f"{name} must have one axis, found shape {shape_text(x.shape)}")
    numbers: list[Any] = x.tolist() if x.ndim else [x.item()]
    return numbers


def single(x: Array, name: str) -> Any:
    """The one element of ``x``, a scalar or a tensor of one axis."""
    if x.size != 1 or x.ndim > 1:
        check_single(x.shape, name)
    return x.reshape(-1)[0]


def check_single(shape: Sequence[DimLike], name: str) -> None:
    """Raise ShapeError if no scalar, nor a tensor of one axis with one element, has ``shape``."""
    found = f"found shape {shape_text(shape)}"
    if any(known(extent) not in {None, 1} for extent in shape):
        raise ShapeError(f"{name} must have one element, {found}")
    if len(shape) > 1:
        raise ShapeError(f"{name} must be a scalar, or have one axis, {found}")


def shape_text(shape: Iterable[object]) -> str:
    """``shape`` as errors print it: ``[N, 3, 224]``."""
    return f"[{', '.join(map(str, shape))}]"
