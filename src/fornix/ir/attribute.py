"""Attributes: static named arguments of nodes, and how Python values stand for them.

    kind           value
    INT, FLOAT     int, float
    STRING         str; bytes if they are not UTF-8
    TENSOR         Tensor            SPARSE_TENSOR   SparseTensor
    GRAPH          Graph             TYPE_PROTO      Type, None if the type is not known
    INTS … TYPE_PROTOS               a list of those

An attribute is replaced, not changed: the node that holds a graph keeps track of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fornix.errors import GraphError
from fornix.ir.tensor import ArrayTensor, SparseTensor, Tensor
from fornix.ir.types import Type, type_text

if TYPE_CHECKING:
    from fornix.ir.graph import Graph

AttributeValue: TypeAlias = (
    "int | float | str | bytes | Tensor | SparseTensor | Graph | Type | list[Any] | None"
)


class AttributeKind(IntEnum):
    """What an attribute holds; the numbers of `AttributeProto.AttributeType`."""

    UNDEFINED = 0
    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    GRAPHS = 10
    SPARSE_TENSOR = 11
    SPARSE_TENSORS = 12
    TYPE_PROTO = 13
    TYPE_PROTOS = 14

    @property
    def text(self) -> str:
        """The word in ONNX text notation: ``ints``."""
        return self.name.lower()

    @property
    def is_list(self) -> bool:
        """Whether values are lists."""
        return self in LISTS.values()

    @property
    def listed(self) -> AttributeKind:
        """The kind of a list of these; raises KeyError for lists."""
        return LISTS[self]


LISTS = {
    AttributeKind.FLOAT: AttributeKind.FLOATS,
    AttributeKind.INT: AttributeKind.INTS,
    AttributeKind.STRING: AttributeKind.STRINGS,
    AttributeKind.TENSOR: AttributeKind.TENSORS,
    AttributeKind.GRAPH: AttributeKind.GRAPHS,
    AttributeKind.SPARSE_TENSOR: AttributeKind.SPARSE_TENSORS,
    AttributeKind.TYPE_PROTO: AttributeKind.TYPE_PROTOS,
}


class Attribute:
    """A named value; with ``ref``, the caller's attribute of that name stands for it instead.

    ``leftover`` is what its message says besides, serialized (see `fornix.ir.leftover`), or None if
    it says all of this plainly.
    """

    __slots__ = ("doc_string", "kind", "leftover", "name", "ref", "value")

    def __init__(
        self,
        name: str,
        kind: AttributeKind,
        value: AttributeValue,
        ref: str | None = None,
        doc_string: str = "",
        leftover: bytes | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.value: Any = value
        self.ref = ref
        self.doc_string = doc_string
        self.leftover = leftover

    @classmethod
    def of(cls, name: str, value: object, kind: AttributeKind | None = None) -> Attribute:
        """An attribute of the kind that ``value`` has; arrays become tensors.

        Raises GraphError if no kind fits, and for an empty list without ``kind``.
        """
        if isinstance(value, np.ndarray):
            value = ArrayTensor(value)
        if isinstance(value, (list, tuple)):
            items = [ArrayTensor(x) if isinstance(x, np.ndarray) else x for x in value]
            if kind is None:
                kind = list_kind(name, items)
            convert = _PYTHON.get(kind)
            return cls(name, kind, items if convert is None else [convert(x) for x in items])
        if kind is None:
            kind = scalar_kind(name, value)
        held: Any = value
        convert = _PYTHON.get(kind)
        return cls(name, kind, held if convert is None else convert(held))

    @property
    def graphs(self) -> list[Graph]:
        """The graphs that the value is or lists."""
        if self.kind is AttributeKind.GRAPH and self.value is not None:
            return [self.value]
        return list(self.value or ()) if self.kind is AttributeKind.GRAPHS else []

    def __repr__(self) -> str:
        if self.ref is not None:
            return f"{self.name}: {self.kind.text} = @{self.ref}"
        return f"{self.name} = {value_text(self.value)}"


_PYTHON: dict[AttributeKind, Any] = {
    AttributeKind.INT: int,
    AttributeKind.INTS: int,
    AttributeKind.FLOAT: float,
    AttributeKind.FLOATS: float,
}


def scalar_kind(name: str, value: object) -> AttributeKind:
    """The kind of an attribute that holds ``value``."""
    kinds: list[tuple[Any, AttributeKind]] = [
        ((int, np.integer, np.bool_), AttributeKind.INT),
        ((float, np.floating), AttributeKind.FLOAT),
        ((str, bytes), AttributeKind.STRING),
        (SparseTensor, AttributeKind.SPARSE_TENSOR),
        (Type, AttributeKind.TYPE_PROTO),
    ]
    for classes, kind in kinds:
        if isinstance(value, classes):
            return kind
    if hasattr(value, "nodes"):
        return AttributeKind.GRAPH
    if hasattr(value, "numpy"):
        return AttributeKind.TENSOR
    raise GraphError(
        f"attribute '{name}': a number, string, tensor, graph, type or list of one of these is "
        f"required, found {type(value).__name__}"
    )


def list_kind(name: str, items: list[Any]) -> AttributeKind:
    """The kind of an attribute that holds ``items``; integers among floats are floats."""
    kinds = {scalar_kind(name, item) for item in items}
    if kinds == {AttributeKind.INT, AttributeKind.FLOAT}:
        return AttributeKind.FLOATS
    if len(kinds) != 1:
        found = ", ".join(sorted(kind.text for kind in kinds)) or "an empty list"
        raise GraphError(
            f"attribute '{name}': a list of one kind is required, found {found}; pass its kind"
        )
    return kinds.pop().listed


def value_text(value: object) -> str:
    """``value`` in ONNX text notation, shortened: tensors and graphs by their outline."""
    if isinstance(value, list):
        shown = ", ".join(value_text(x) for x in value[:_SHOWN])
        return f"[{shown}, …]" if len(value) > _SHOWN else f"[{shown}]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Type):
        return type_text(value)
    return repr(value)


def plain_attributes(
    attributes: Mapping[str, Attribute], given: Mapping[str, Attribute]
) -> dict[str, object]:
    """Attribute values as rules take them; references are looked up in ``given``.

    Tensors become arrays. A reference to an attribute that the caller left out is left out too.
    """
    return {
        name: attribute.value.numpy() if attribute.kind is AttributeKind.TENSOR else attribute.value
        for name, attribute in resolved(attributes, given).items()
    }


def resolved(
    attributes: Mapping[str, Attribute], given: Mapping[str, Attribute]
) -> dict[str, Attribute]:
    """``attributes`` with references replaced by what ``given`` holds, left out if it does not."""
    found = {n: a if a.ref is None else given.get(a.ref) for n, a in attributes.items()}
    return {name: attribute for name, attribute in found.items() if attribute is not None}


# Elements of a list that `repr` shows.
_SHOWN = 8
