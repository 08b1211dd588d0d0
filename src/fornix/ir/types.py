"""The types of values: tensors, sparse tensors, sequences, optionals, maps, opaque types.

Types are immutable and compared by content, so values share them freely. This file decides how a
type prints (`str`, in messages) and how the standard's type constraints spell it (`constraint`).
What a dim is stands in `fornix.ir.dim`; how types are written into messages, in
`fornix.ir.typemessages`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fornix.dtype import DType
    from fornix.ir.dim import Dim

    Shape = tuple[int | Dim | None, ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense tensor; ``dtype``, ``shape`` and each dim may be None: unknown."""

    dtype: DType | None
    shape: Shape | None = None

    @property
    def rank(self) -> int | None:
        """Number of axes; None if unknown."""
        return None if self.shape is None else len(self.shape)

    @property
    def constraint(self) -> str:
        """The spelling in type constraints: ``tensor(float)``."""
        return f"tensor({dtype_text(self.dtype)})"

    def __str__(self) -> str:
        return f"{dtype_name(self.dtype)}{shape_text(self.shape)}"


@dataclass(frozen=True, slots=True)
class SparseTensorType:
    """A tensor stored as values and indices; fields as in `TensorType`."""

    dtype: DType | None
    shape: Shape | None = None

    @property
    def rank(self) -> int | None:
        """Number of axes; None if unknown."""
        return None if self.shape is None else len(self.shape)

    @property
    def constraint(self) -> str:
        """The spelling in type constraints: ``sparse_tensor(float)``."""
        return f"sparse_tensor({dtype_text(self.dtype)})"

    def __str__(self) -> str:
        return f"sparse({dtype_name(self.dtype)}{shape_text(self.shape)})"


@dataclass(frozen=True, slots=True)
class SequenceType:
    """A list of values of one type; ``elem`` None: unknown."""

    elem: Type | None

    @property
    def constraint(self) -> str:
        """The spelling in type constraints: ``seq(tensor(float))``."""
        return f"seq({constraint_text(self.elem)})"

    def __str__(self) -> str:
        return f"seq({type_text(self.elem)})"


@dataclass(frozen=True, slots=True)
class OptionalType:
    """A value of type ``elem``, or nothing; ``elem`` None: unknown."""

    elem: Type | None

    @property
    def constraint(self) -> str:
        """The spelling in type constraints: ``optional(tensor(float))``."""
        return f"optional({constraint_text(self.elem)})"

    def __str__(self) -> str:
        return f"optional({type_text(self.elem)})"


@dataclass(frozen=True, slots=True)
class MapType:
    """A dictionary from integers or strings to values; None: unknown."""

    key: DType | None
    value: Type | None

    @property
    def constraint(self) -> str:
        """The spelling in type constraints: ``map(int64, float)``, a tensor by its dtype alone."""
        value = self.value
        inner = dtype_text(value.dtype) if isinstance(value, TensorType) else constraint_text(value)
        return f"map({dtype_text(self.key)}, {inner})"

    def __str__(self) -> str:
        return f"map({dtype_name(self.key)}, {type_text(self.value)})"


@dataclass(frozen=True, slots=True)
class OpaqueType:
    """A type that only its domain understands."""

    domain: str
    name: str

    @property
    def constraint(self) -> str:
        """The spelling in type constraints: ``opaque(domain,name)``."""
        return f"opaque({self.domain},{self.name})"

    def __str__(self) -> str:
        return self.constraint


Type = TensorType | SparseTensorType | SequenceType | OptionalType | MapType | OpaqueType


def type_text(type_: Type | None) -> str:
    """``type_`` as messages print it; ``?`` if it is unknown."""
    return "?" if type_ is None else str(type_)


def shape_text(shape: Iterable[int | Dim | None] | None) -> str:
    """``[N, 3]``; ``?`` for an unknown dim, ``[...]`` for an unknown rank."""
    if shape is None:
        return "[...]"
    return f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"


def dtype_name(dtype: DType | None) -> str:
    """The name of ``dtype``; ``?`` if it is unknown."""
    return "?" if dtype is None else dtype.name


def dtype_text(dtype: DType | None) -> str:
    """The standard's word for ``dtype``; ``?`` if it is unknown."""
    return "?" if dtype is None else dtype.text


def constraint_text(type_: Type | None) -> str:
    """The constraint that ``type_`` spells; ``?`` if it is unknown."""
    return "?" if type_ is None else type_.constraint
