"""Types as JSON knows them, in the descriptions of kept programs and of the graphs within them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fornix.compile.notes import dim_of, dim_text
from fornix.dtype import DType
from fornix.ir.dim import DimLike
from fornix.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)

TENSOR, SPARSE, SEQUENCE, OPTIONAL, MAP = "tensor", "sparse", "sequence", "optional", "map"
"""Kinds of types, as a description calls them."""


class NotKept(Exception):
    """Something has no form in a file."""


def dim_note(dim: DimLike | None) -> str | None:
    """An extent as `dim_of` reads it; None if there is none."""
    return None if dim is None else dim_text(dim)


def type_note(
    type_: Type | None, dim: Callable[[DimLike | None], str | None] = dim_note
) -> list[Any] | None:
    """A type as JSON knows it; raises NotKept if it has no form there. ``dim`` writes extents."""
    match type_:
        case None:
            return None
        case TensorType() | SparseTensorType():
            kind = TENSOR if isinstance(type_, TensorType) else SPARSE
            dims = None if type_.shape is None else [dim(d) for d in type_.shape]
            return [kind, None if type_.dtype is None else type_.dtype.name, dims]
        case SequenceType():
            return [SEQUENCE, type_note(type_.elem, dim)]
        case OptionalType():
            return [OPTIONAL, type_note(type_.elem, dim)]
        case MapType(key) if key is not None:
            return [MAP, key.name, type_note(type_.value, dim)]
    raise NotKept


def type_of(
    note: Sequence[Any] | None, dim: Callable[[str], DimLike | None] = dim_of
) -> Type | None:
    """The type that ``note``, which `type_note` wrote, says; ``dim`` reads extents."""
    if note is None:
        return None
    kind, *parts = note
    if kind in {SEQUENCE, OPTIONAL}:
        return (SequenceType if kind == SEQUENCE else OptionalType)(type_of(parts[0], dim))
    if kind == MAP:
        return MapType(DType.of(parts[0]), type_of(parts[1], dim))
    dtype, dims = parts
    shape = None if dims is None else tuple(None if d is None else dim(d) for d in dims)
    made = TensorType if kind == TENSOR else SparseTensorType
    return made(None if dtype is None else DType.of(dtype), shape)
