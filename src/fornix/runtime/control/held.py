"""Tensors that an iteration written as Python's own (`singles`) hands on whole.

Decides which nodes may do so: those that take such out of others and out of sequences, put them
there, join them, and ask for their extents. No element of them is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from fornix.ir.graph import Node, Value
from fornix.ir.types import SequenceType, TensorType

if TYPE_CHECKING:
    from fornix.runtime.control.singles import Listed, Single, Writer

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


class NotSingle(Exception):
    """A body is more than this."""


class Held(NamedTuple):
    """A tensor: the variable that holds its array."""

    name: str
    dtype: np.dtype[Any]
    rank: int


class HeldList(NamedTuple):
    """A sequence of such tensors."""

    name: str
    dtype: np.dtype[Any]
    rank: int


Variable: TypeAlias = "Single | Listed | Held | HeldList"


def of(name: str, sample: Any) -> Held | HeldList:
    """What a variable holds for a value like ``sample``."""
    one = sample[0] if isinstance(sample, list) and sample else sample
    if not isinstance(one, np.ndarray):
        raise NotSingle
    return (Held if one is sample else HeldList)(name, one.dtype, one.ndim)


def declared(name: str, type_: SequenceType) -> HeldList:
    """What a variable holds for a sequence of a type, of which there is no element yet."""
    element = type_.elem
    if not isinstance(element, TensorType) or element.dtype is None or element.shape is None:
        raise NotSingle
    return HeldList(name, element.dtype.numpy, len(element.shape))


def as_told(array: Any, dtype: np.dtype[Any], rank: int) -> Array:
    """``array`` of a sequence; raises TypeError if it does not look as told."""
    if type(array) is not np.ndarray or array.dtype != dtype or array.ndim != rank:
        raise TypeError("a tensor like those before is required")
    return array


BOUND: Mapping[str, Any] = {"as_told": as_told, "concatenate": np.concatenate}
"""What lines of these rules call."""


def _put(writer: Writer, expression: str, dtype: np.dtype[Any], rank: int) -> Held:
    name = writer.name()
    writer.line(f"{name} = {expression}")
    return Held(name, dtype, rank)


def _first_list(writer: Writer, node: Node) -> HeldList:
    found = writer.of(node.inputs[0])
    if not isinstance(found, HeldList):
        raise NotSingle
    return found


def _whole(writer: Writer, value: Value | None) -> str:
    """A place, which is a whole number."""
    found = writer.single(value)
    if found.kind is not int or len(found.shape) > 1:
        raise NotSingle
    return found.name


def _size(writer: Writer, node: Node) -> Single:
    return writer.put(f"{writer.array(node.inputs[0]).name}.size", int, ())


def _shape(writer: Writer, node: Node) -> Single:
    """One extent."""
    one = writer.array(node.inputs[0])
    axes = range(one.rank)[slice(node.attr("start", 0), node.attr("end"))]
    if len(axes) != 1:
        raise NotSingle
    return writer.put(f"{one.name}.shape[{axes[0]}]", int, (1,))


def _gather(writer: Writer, node: Node) -> Variable:
    """One row, which is nobody else's."""
    one, place = writer.array(node.inputs[0]), writer.single(node.inputs[1])
    if place.kind is not int or place.shape or node.attr("axis", 0) or one.rank < 1:
        raise NotSingle
    if one.rank == 1:
        return writer.element(f"{one.name}.item({place.name})", one.dtype)
    return _put(writer, f"{one.name}[{place.name}].copy()", one.dtype, one.rank - 1)


def _slice(writer: Writer, node: Node) -> Held:
    """A run of elements along one axis, which are nobody else's."""
    if len(node.inputs) == 1:  # attributes say it, in old versions
        raise NotSingle
    one, (first, last, *rest) = writer.array(node.inputs[0]), node.inputs[1:]
    axes, steps, *_ = (*rest, None, None)
    axis, step = _stored(axes, 0), _stored(steps, 1)
    if step != 1 or not -one.rank <= axis < one.rank:
        raise NotSingle
    bounds = f"{_whole(writer, first)}:{_whole(writer, last)}"
    cut = f"{one.name}[{':, ' * (axis % one.rank)}{bounds}].copy()"
    return _put(writer, cut, one.dtype, one.rank)


def _stored(value: Value | None, otherwise: int) -> int:
    """The one number that is stored for a value; ``otherwise`` where it is left out."""
    if value is None:
        return otherwise
    if value.constant is None or value.constant.numpy().size != 1:
        raise NotSingle
    return int(value.constant.numpy().item())


def _concat(writer: Writer, node: Node) -> Held:
    found = [writer.array(value) for value in node.inputs]
    one, axis = found[0], node.attr("axis", 1)
    if any(other[1:] != one[1:] for other in found) or not -one.rank <= axis < one.rank:
        raise NotSingle
    names = ", ".join(other.name for other in found)
    return _put(writer, f"concatenate(({names},), {axis})", one.dtype, one.rank)


def _at(writer: Writer, node: Node) -> Held:
    listed = _first_list(writer, node)
    place = f"{listed.name}[{_whole(writer, node.inputs[1])}]"
    return _put(
        writer, f"as_told({place}, {writer.bind(listed.dtype)}, {listed.rank})", *listed[1:]
    )


def _insert(writer: Writer, node: Node) -> HeldList:
    listed, one, name = _first_list(writer, node), writer.array(node.inputs[1]), writer.name()
    if listed[1:] != one[1:]:
        raise NotSingle
    made = f"[*{listed.name}, {one.name}]"
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        made = f"inserted({listed.name}, {one.name}, {_whole(writer, node.inputs[2])})"
    writer.line(f"{name} = {made}")
    return listed._replace(name=name)


def _erase(writer: Writer, node: Node) -> HeldList:
    listed, name = _first_list(writer, node), writer.name()
    place = _whole(writer, node.inputs[1]) if len(node.inputs) > 1 else -1
    writer.line(f"{name} = erased({listed.name}, {place})")
    return listed._replace(name=name)


def _length(writer: Writer, node: Node) -> Single:
    return writer.put(f"len({_first_list(writer, node).name})", int, ())


RULES: Mapping[str, Callable[[Writer, Node], Variable]] = {
    "Identity": lambda writer, node: writer.of(node.inputs[0]),
    "Size": _size,
    "Shape": _shape,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "SequenceAt": _at,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceLength": _length,
}
