"""The part of `onnx.helper` about attributes: Python values to `AttributeProto` and back."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any, NamedTuple

from google.protobuf.message import Message

from fornix.errors import DTypeError, InvalidArgument
from fornix.format.messages import AttributeProto, NodeProto, own
from fornix.onnx._kinds import TEXT, WHOLE, takes


class _Kind(NamedTuple):
    """An attribute type: its number, its field, and the one for lists of the same."""

    one: int
    field: str
    many: int
    fields: str


_A = AttributeProto
_INT = _Kind(_A.INT, "i", _A.INTS, "ints")
_FLOAT = _Kind(_A.FLOAT, "f", _A.FLOATS, "floats")
_STRING = _Kind(_A.STRING, "s", _A.STRINGS, "strings")
_MESSAGES = {
    "onnx.TensorProto": _Kind(_A.TENSOR, "t", _A.TENSORS, "tensors"),
    "onnx.SparseTensorProto": _Kind(
        _A.SPARSE_TENSOR, "sparse_tensor", _A.SPARSE_TENSORS, "sparse_tensors"
    ),
    "onnx.GraphProto": _Kind(_A.GRAPH, "g", _A.GRAPHS, "graphs"),
    "onnx.TypeProto": _Kind(_A.TYPE_PROTO, "tp", _A.TYPE_PROTOS, "type_protos"),
}
_KINDS = (_INT, _FLOAT, _STRING, *_MESSAGES.values())
_FIELD_OF = {kind.one: kind.field for kind in _KINDS}
_LIST_OF = {kind.many: kind.fields for kind in _KINDS}


@takes(key=TEXT)
def make_attribute(
    key: str, value: Any, doc_string: str | None = None, attr_type: int | None = None
) -> AttributeProto:
    """An attribute of the type that ``value`` has, which must be ``attr_type`` if that is given.

    Raises InvalidArgument for an empty list without ``attr_type`` and for a mixed one, DTypeError
    for another value, and if the types differ.
    """
    attribute = AttributeProto(name=key)
    if doc_string:
        attribute.doc_string = doc_string
    kind = _kind_of(value)
    if kind is not None:
        found, field = kind.one, kind.field
    elif isinstance(value, Iterable):
        value = list(value)
        found = _list_type(key, value) if attr_type is None else attr_type
        field = _LIST_OF.get(found, "")
    else:
        raise DTypeError(f"attribute {key!r}: {type(value).__name__} is no type of attribute")
    if not field or attr_type not in {None, found}:
        shown = "a list" if kind is None else _type_name(found)
        raise DTypeError(f"attribute {key!r}: {_type_name(attr_type)} is required, found {shown}")
    attribute.type = found
    if kind is None:
        getattr(attribute, field).extend(map(_plain, value))
    elif kind in _MESSAGES.values():
        getattr(attribute, field).CopyFrom(own(value))
    else:
        setattr(attribute, field, _plain(value))
    return attribute


def _kind_of(value: object) -> _Kind | None:
    """The attribute type of one value; None for a list and what is no value."""
    if isinstance(value, numbers.Integral):
        return _INT
    if isinstance(value, numbers.Real):
        return _FLOAT
    if isinstance(value, str | bytes):
        return _STRING
    if isinstance(value, Message):
        return _MESSAGES.get(value.DESCRIPTOR.full_name)
    return None


def _list_type(key: str, values: list[Any]) -> int:
    """The attribute type of a list; integers among floats are floats."""
    if not values:
        raise InvalidArgument(f"attribute {key!r}: an empty list needs attr_type to say its type")
    found = {_kind_of(value) for value in values}
    if found == {_INT, _FLOAT}:
        return _FLOAT.many
    kind = found.pop()
    if found or kind is None:
        raise InvalidArgument(f"attribute {key!r}: the elements of a list must have one type")
    return kind.many


def _plain(value: Any) -> Any:
    """``value`` as the fields of attributes take it."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, Message):
        return own(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _type_name(number: int | None) -> str:
    names = {value: name for name, value in AttributeProto.AttributeType.items()}
    return names.get(number or 0, str(number))


@takes(attr_type=WHOLE)
def make_attribute_ref(
    name: str, attr_type: int, doc_string: str | None = None, *, ref_attr_name: str | None = None
) -> AttributeProto:
    """An attribute that takes its value from one of the function it stands in.

    That is the one called ``ref_attr_name``, by default ``name``.
    """
    source = name if ref_attr_name is None else ref_attr_name
    if not source:
        raise InvalidArgument("ref_attr_name must be the name of an attribute, found ''")
    attribute = AttributeProto(name=name, type=attr_type, ref_attr_name=source)
    if doc_string:
        attribute.doc_string = doc_string
    return attribute


def get_attribute_value(attr: AttributeProto) -> Any:
    """The value of an attribute: a number, bytes, a message, a list of these, or None.

    Raises InvalidArgument for a reference, which has none, and for an unknown type.
    """
    if attr.ref_attr_name:
        raise InvalidArgument(
            f"attribute {attr.name!r}: a value is required, found a reference to "
            f"{attr.ref_attr_name!r}"
        )
    if attr.type in _FIELD_OF:
        return getattr(attr, _FIELD_OF[attr.type])
    if attr.type in _LIST_OF:
        return list(getattr(attr, _LIST_OF[attr.type]))
    if attr.type == AttributeProto.UNDEFINED:
        return None
    raise InvalidArgument(f"attribute {attr.name!r}: type {attr.type} is unknown")


def get_node_attr_value(node: NodeProto, attr_name: str) -> Any:
    """The value of a node's attribute; raises InvalidArgument unless there is exactly one."""
    found = [attr for attr in node.attribute if attr.name == attr_name]
    if len(found) != 1:
        raise InvalidArgument(
            f"node {node.name!r}: one attribute {attr_name!r} is required, found {len(found)}"
        )
    return get_attribute_value(found[0])
