"""Sequences, maps and optionals between messages and Python's lists, dicts and None.

Decides how the data messages nest and what a Python value becomes without further advice. What a
single tensor looks like is left to `tensors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fornix import dtype as types
from fornix.dtype import DType
from fornix.errors import DTypeError, TensorDataError
from fornix.format.messages import MapProto, OptionalProto, SequenceProto, TensorProto
from fornix.format.tensors import Sparse, from_array, from_sparse, to_array, to_sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["from_dict", "from_list", "from_optional", "to_dict", "to_list", "to_optional"]

# OptionalProto.DataType has the same numbers.
_NAMES = {number: name.lower() for name, number in SequenceProto.DataType.items()}


def to_list(sequence: SequenceProto) -> list[Any]:
    """The elements of a sequence message: arrays, `Sparse`, lists, dicts or optional values.

    Raises TensorDataError if there are elements of another kind than the message declares.
    """
    name = f"sequence {sequence.name!r}" if sequence.name else "unnamed sequence"
    kind = _kind(sequence.elem_type, name)
    for other in _READERS:
        if other != kind and len(getattr(sequence, f"{other}_values")):
            raise TensorDataError(f"{name}: elements must be {kind}, found {other}_values")
    if kind == "undefined":
        return []
    read = _READERS[kind]
    return [read(element) for element in getattr(sequence, f"{kind}_values")]


def from_list(
    elements: Sequence[Any], name: str | None = None, dtype: int | None = None
) -> SequenceProto:
    """A sequence message of ``elements``, which must be of one kind.

    ``dtype``, a `SequenceProto.DataType`, says what an empty list would hold; tensors by default.
    """
    found = {_kind_of(element) for element in elements}
    if len(found) > 1:
        raise DTypeError(
            f"a sequence holds one kind of element, found {' and '.join(sorted(found))}"
        )
    kind = _wanted(dtype) if dtype is not None else next(iter(found), "tensor")
    if found and kind not in found:
        raise DTypeError(f"a sequence of {kind} is required, found {found.pop()}")
    sequence = SequenceProto(elem_type=SequenceProto.DataType.Value(kind.upper()))
    if name:
        sequence.name = name
    if elements:
        getattr(sequence, f"{kind}_values").extend(map(_WRITERS[kind], elements))
    return sequence


class UnevenMap(TensorDataError, IndexError):
    """A map without as many values as keys; onnx raises IndexError for it."""


def to_dict(mapping: MapProto) -> dict[Any, Any]:
    """The entries of a map message; keys are int or str.

    Raises TensorDataError if there are not as many keys as values, or keys of another dtype.
    """
    name = f"map {mapping.name!r}" if mapping.name else "unnamed map"
    keys: list[Any] = list(mapping.keys)
    if mapping.key_type == TensorProto.STRING:
        if keys:
            raise TensorDataError(f"{name}: string keys are required, found integers")
        keys = [key.decode("utf-8", "surrogateescape") for key in mapping.string_keys]
    elif mapping.string_keys:
        raise TensorDataError(f"{name}: integer keys are required, found strings")
    values = to_list(mapping.values)
    if len(keys) != len(values):
        raise UnevenMap(f"{name}: {len(keys)} keys need as many values, found {len(values)}")
    return dict(zip(keys, values, strict=True))


def from_dict(entries: Mapping[Any, Any], name: str | None = None) -> MapProto:
    """A map message of ``entries``, whose keys are all strings or all integers of one dtype.

    Raises DTypeError for other keys, and for an empty dict, whose key dtype nobody knows.
    """
    found = {_key_dtype(key) for key in entries}
    if len(found) != 1:
        names = " and ".join(sorted(map(str, found))) or "no keys"
        raise DTypeError(f"a map has keys of one dtype, found {names}")
    kinds = {_value_kind(value) for value in entries.values()}
    if len(kinds) > 1:
        names = " and ".join(sorted(kinds))
        raise DTypeError(f"a map has values of one type, found {names}")
    dtype = found.pop()
    mapping = MapProto(key_type=dtype.code, values=from_list(list(entries.values())))
    if name:
        mapping.name = name
    if dtype is types.STRING:
        mapping.string_keys.extend(
            key if isinstance(key, bytes) else key.encode("utf-8", "surrogateescape")
            for key in entries
        )
    else:
        mapping.keys.extend(int(key) for key in entries)
    return mapping


def _value_kind(value: object) -> str:
    """What all values of a map have in common."""
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else str(dtype)


def to_optional(optional: OptionalProto) -> Any:
    """What an optional message holds, or None."""
    name = f"optional {optional.name!r}" if optional.name else "unnamed optional"
    kind = _kind(optional.elem_type, name)
    for other in _READERS:
        if other != kind and optional.HasField(f"{other}_value"):  # type: ignore[arg-type]
            raise TensorDataError(f"{name}: the value must be {kind}, found {other}_value")
    if kind == "undefined" or not optional.HasField(f"{kind}_value"):  # type: ignore[arg-type]
        return None
    return _READERS[kind](getattr(optional, f"{kind}_value"))


def from_optional(
    value: object, name: str | None = None, dtype: int | None = None
) -> OptionalProto:
    """An optional message of ``value`` or, for None, an empty one.

    ``dtype``, an `OptionalProto.DataType`, says what an empty one would hold.
    """
    kind = "undefined" if value is None else _kind_of(value)
    if dtype is not None:
        required = _wanted(dtype)
        if value is not None and kind != required:
            raise DTypeError(f"an optional {required} is required, found {kind}")
        kind = required
    optional = OptionalProto(elem_type=OptionalProto.DataType.Value(kind.upper()))
    if name:
        optional.name = name
    if value is not None:
        getattr(optional, f"{kind}_value").CopyFrom(_WRITERS[kind](value))
    return optional


def _kind(number: int, name: str) -> str:
    """The kind of element behind a `SequenceProto.DataType`, in lower case."""
    if number not in _NAMES:
        raise TensorDataError(f"{name}: elem_type must be 0 to {max(_NAMES)}, found {number}")
    return _NAMES[number]


def _wanted(dtype: int) -> str:
    """The kind of element that an argument asks for; raises DTypeError if there is none."""
    try:
        return _kind(dtype, "dtype")
    except TensorDataError as error:
        raise DTypeError(str(error)) from None


def _kind_of(value: object) -> str:
    if isinstance(value, dict):
        return "map"
    if isinstance(value, Sparse):
        return "sparse_tensor"
    return "sequence" if isinstance(value, list) else "tensor"


def _key_dtype(key: object) -> DType:
    """The dtype of a map key; Python integers are int64."""
    if isinstance(key, (str, bytes)):
        return types.STRING
    dtype = DType.of(np.asarray(key).dtype)
    if not dtype.is_integer or dtype.bits < 8:
        raise DTypeError(f"keys of a map are integers or strings, found {dtype}")
    return dtype


_READERS: dict[str, Callable[[Any], Any]] = {
    "tensor": to_array,
    "sparse_tensor": to_sparse,
    "sequence": to_list,
    "map": to_dict,
    "optional": to_optional,
}
_WRITERS: dict[str, Callable[[Any], Any]] = {
    "tensor": from_array,
    "sparse_tensor": lambda sparse: from_sparse(*sparse),
    "sequence": from_list,
    "map": from_dict,
    "optional": from_optional,
}
