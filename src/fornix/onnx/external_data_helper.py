"""What `onnx.external_data_helper` offers: moving tensors between a model and files beside it.

Every file is opened by `fornix.format.external`, whose rules hold here. Decides only what onnx
decides here: which tensors move, and what their files are called. Functions change the message
that they are given, as onnx's do.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fornix.errors import ExternalDataError, ValidationError
from fornix.format import external, files
from fornix.format.external import is_external as uses_external_data
from fornix.format.tensors import subject
from fornix.format.walk import tensors

if TYPE_CHECKING:
    from fornix.format.messages import GraphProto, ModelProto, NodeProto, TensorProto

__all__ = [
    "ExternalDataInfo",
    "convert_model_from_external_data",
    "convert_model_to_external_data",
    "load_external_data_for_model",
    "load_external_data_for_tensor",
    "remove_external_data_field",
    "save_external_data",
    "set_external_data",
    "uses_external_data",
    "write_external_data_tensors",
]

# How far an offset may lie behind the end of what has been written, bytes: the largest alignment
# that the standard's ExternalData.md names.
_MAX_PADDING = 64 * 1024
_NOT_IN_NAMES = frozenset('<>:;,?"*|/\\\0')


class ExternalDataInfo:
    """What a tensor says about its external data; raises ExternalDataError for what it may not."""

    def __init__(self, tensor: TensorProto) -> None:
        said = external.reference(tensor)
        given = {entry.key: entry.value for entry in tensor.external_data}
        self.location = said.location
        self.offset = said.offset if "offset" in given else None
        self.length = said.length
        self.checksum = said.checksum
        self.basepath = given.get("basepath", "")


def load_external_data_for_tensor(tensor: TensorProto, base_dir: str) -> None:
    """Move the external data of ``tensor``, a file under ``base_dir``, into it."""
    files.load_external(tensor, base_dir)


def load_external_data_for_model(model: ModelProto, base_dir: str) -> None:
    """Move the external data of every tensor within ``model`` into it."""
    files.load_external(model, base_dir)


def set_external_data(
    tensor: TensorProto,
    location: str,
    offset: int | None = None,
    length: int | None = None,
    checksum: str | None = None,
    basepath: str | None = None,
) -> None:
    """Mark ``tensor``, which has raw data, for a file; what is not None is said of it."""
    if not tensor.HasField("raw_data"):
        raise ExternalDataError(f"{subject(tensor)}: raw_data is required to make it external")
    tensor.ClearField("external_data")
    tensor.data_location = 1  # EXTERNAL
    said = {
        "location": location,
        "offset": None if offset is None else int(offset),
        "length": None if length is None else int(length),
        "checksum": checksum,
        "basepath": basepath,
    }
    for key, value in said.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))


def convert_model_to_external_data(
    model: ModelProto,
    all_tensors_to_one_file: bool = True,
    location: str | None = None,
    size_threshold: int = 1024,
    convert_attribute: bool = False,
) -> None:
    """Mark the tensors with ``size_threshold`` bytes of raw data or more for external files.

    That is the initializers and, with ``convert_attribute``, the tensors in attributes; saving
    the model then writes them. Raises ExternalDataError if ``location`` is absolute,
    FileExistsError if it exists.
    """
    shared = None
    if all_tensors_to_one_file:
        shared = location or f"{uuid.uuid4()}.data"
        if Path(shared).is_absolute():
            raise ExternalDataError(
                f"location must be relative to the model's folder, found {shared!r}"
            )
        if location and Path(location).exists():
            raise FileExistsError(f"location {location!r} exists; choose another name")
    chosen = _every(model) if convert_attribute else _initializers(model.graph)
    for tensor in chosen:
        if tensor.HasField("raw_data") and len(tensor.raw_data) >= size_threshold:
            set_external_data(tensor, shared or _file_name(tensor))


def convert_model_from_external_data(model: ModelProto) -> None:
    """Let every external tensor whose data has been loaded keep it in the model."""
    for tensor in _every(model):
        if uses_external_data(tensor):
            if not tensor.HasField("raw_data"):
                raise ExternalDataError(f"{subject(tensor)}: raw_data is required, found none")
            tensor.ClearField("external_data")
            tensor.data_location = 0  # DEFAULT


def save_external_data(tensor: TensorProto, base_path: str) -> None:
    """Write the raw data of ``tensor`` to the file under ``base_path`` that it is marked for."""
    if not tensor.HasField("raw_data"):
        raise ValidationError(f"{subject(tensor)}: raw_data is required, found none")
    _append([tensor], external.reference(tensor).location, base_path)


def write_external_data_tensors(model: ModelProto, filepath: str) -> ModelProto:
    """Write every tensor marked for a file under ``filepath``, and take its data from the model.

    What the files hold already stays, so that other tensors find theirs. Returns ``model``.
    """
    marked: dict[str, list[TensorProto]] = {}
    for tensor in tensors(model):
        if uses_external_data(tensor) and tensor.HasField("raw_data"):
            marked.setdefault(external.reference(tensor).location, []).append(tensor)
    for location, group in marked.items():
        _append(group, location, filepath)
        for tensor in group:
            tensor.ClearField("raw_data")
    return model


def _append(group: list[TensorProto], location: str, folder: str) -> None:
    """Write tensors behind what ``location`` holds, and tell each where it went."""
    data = external.ExternalFile(folder, location, keep=True)
    try:
        places = [_place(tensor, data) for tensor in group]
        data.commit()
    finally:
        data.discard()
    for tensor, (offset, length) in zip(group, places, strict=True):
        set_external_data(tensor, location, offset, length)


def _place(tensor: TensorProto, data: external.ExternalFile) -> tuple[int, int]:
    wanted = ExternalDataInfo(tensor).offset
    if wanted is not None:
        padding = wanted - data.size
        if not 0 <= padding <= _MAX_PADDING:
            raise ValidationError(
                f"{subject(tensor)}: offset must be between {data.size}, the size of "
                f"{data.location!r}, and {data.size + _MAX_PADDING}, found {wanted}"
            )
        data.append([bytes(padding)])
    return data.append([tensor.raw_data])


def remove_external_data_field(tensor: TensorProto, field_key: str) -> None:
    """Remove what ``tensor`` says about its external data under ``field_key``."""
    kept = [(entry.key, entry.value) for entry in tensor.external_data if entry.key != field_key]
    tensor.ClearField("external_data")
    for key, value in kept:
        tensor.external_data.add(key=key, value=value)


def _file_name(tensor: TensorProto) -> str:
    """A file for one tensor: its name, if that can be one."""
    name = tensor.name
    usable = name not in {"", ".", ".."} and not _NOT_IN_NAMES.intersection(name)
    return name if usable else str(uuid.uuid4())


def _every(model: ModelProto) -> Iterator[TensorProto]:
    """The initializers and the tensors in attributes: what onnx's own functions look at."""
    yield from _initializers(model.graph)
    yield from _attributes(model.graph.node)
    for function in model.functions:
        yield from _attributes(function.node)


def _initializers(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for inner in _subgraphs(graph.node):
        yield from _initializers(inner)


def _attributes(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
    for inner in _subgraphs(nodes):
        yield from _attributes(inner.node)


def _subgraphs(nodes: Iterable[NodeProto]) -> Iterator[GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs
