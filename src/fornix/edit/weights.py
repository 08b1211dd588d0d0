"""Weights to and from files of their own: the safetensors format, by the names of initializers."""

from __future__ import annotations

import difflib
import os
from itertools import chain

from fornix.errors import InvalidArgument
from fornix.format.atomic import write_file
from fornix.format.mapped import MappedBytes
from fornix.format.safetensors import Entry, arranged, can_hold, open_tensors
from fornix.format.wire import parts
from fornix.ir.graph import Model, Value
from fornix.ir.tensor import MappedTensor, SparseTensor


def save_weights(model: Model, path: str | os.PathLike[str]) -> list[str]:
    """Write the initializers of the main graph to a safetensors file; ``model`` stays as it is.

    Returns the names of those that the format cannot hold: strings, sparse tensors and element
    types that it lacks.
    """
    entries, left = [], []
    for name, value in model.graph.initializers.items():
        tensor = value.tensor
        if tensor is None or isinstance(tensor, SparseTensor):
            left.append(name)
        elif can_hold(tensor.dtype, tensor.shape):
            payload = getattr(tensor, "place", None) or MappedBytes.of(tensor.tobytes())
            entries.append(Entry(name, tensor.dtype, tensor.shape, payload))
        else:
            left.append(name)
    header, ordered = arranged(entries)
    write_file(path, chain([header], *(parts(entry.payload) for entry in ordered)))
    return left


def load_weights(model: Model, path: str | os.PathLike[str]) -> Model:
    """A copy of ``model`` whose initializers hold what the safetensors file at ``path`` has.

    Weights stay in that file until they are wanted. Raises FormatError for what is no such file,
    InvalidArgument for a tensor that no initializer is called like, or that has another element
    type or shape.
    """
    changed = model.clone()
    known = changed.graph.initializers
    for name, stored in open_tensors(path).items():
        value = known.get(name)
        if value is None or value.tensor is None:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InvalidArgument(
                f"{os.fspath(path)}: the name of an initializer is required, found {name!r}{hint}"
            )
        _require_same(value, MappedTensor(stored.payload, stored.dtype, stored.shape, name), path)
    return changed


def _require_same(value: Value, new: MappedTensor, path: str | os.PathLike[str]) -> None:
    """Let ``value`` hold ``new`` if both are of one type."""
    old = value.tensor
    if old is None or (old.dtype, old.shape) != (new.dtype, new.shape):
        raise InvalidArgument(
            f"{os.fspath(path)}: '{value.name}' has to be {value.type}, "
            f"found {new.dtype}{list(new.shape)}"
        )
    value.tensor = new
