"""What `onnx.model_container` offers: a message with large tensors kept beside it, as arrays.

Such a tensor says that it is external, in a location that begins with "#" and names its array.
Files are written and read by `fornix.onnx.external_data_helper`, under its rules.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.errors import InvalidArgument
from fornix.format import files
from fornix.format.external import is_external, reference
from fornix.format.messages import GraphProto, ModelProto, TensorProto
from fornix.format.tensors import subject, to_array
from fornix.format.walk import tensors
from fornix.onnx import checker, load_model
from fornix.onnx._kinds import MANY, TEXT, WHOLE, takes
from fornix.onnx._own import owned
from fornix.onnx.external_data_helper import (
    load_external_data_for_tensor,
    set_external_data,
    write_external_data_tensors,
)
from fornix.onnx.helper import make_model
from fornix.onnx.numpy_helper import tobytes_little_endian

__all__ = ["ModelContainer", "make_large_model", "make_large_tensor_proto"]

_NOT_IN_NAMES = ':/\\;,!<>"|?*'


class MissingTensor(InvalidArgument, RuntimeError):
    """A container without model or array, also for those who catch RuntimeError."""


@takes(tensor_name=TEXT, tensor_type=WHOLE, shape=MANY)
def make_large_tensor_proto(
    location: str, tensor_name: str, tensor_type: int, shape: tuple[int, ...]
) -> TensorProto:
    """A tensor whose data is the array ``location`` of its container."""
    tensor = TensorProto(name=tensor_name, data_type=tensor_type, dims=shape)
    _place(tensor, location)
    return tensor


def _place(tensor: TensorProto, location: str) -> None:
    tensor.raw_data = b""
    set_external_data(tensor, location)
    tensor.ClearField("raw_data")


class ModelContainer:
    """A model and its large tensors; what is kept here never passes through protobuf."""

    def __init__(self) -> None:
        self.model_proto_: ModelProto | None = None
        self.large_initializers: dict[str, NDArray[Any]] = {}

    @property
    def model_proto(self) -> ModelProto:
        """The message; raises RuntimeError if there is none yet."""
        if self.model_proto_ is None:
            raise MissingTensor("ModelContainer: a model is required, found none")
        return self.model_proto_

    @model_proto.setter
    def model_proto(self, model_proto: ModelProto) -> None:
        self.model_proto_ = owned(model_proto, ModelProto)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The array of that location; ValueError if there is none."""
        if name not in self.large_initializers:
            raise InvalidArgument(self._unknown(name))
        return self.large_initializers[name]

    def check_model(self) -> None:
        """Raise ValidationError unless the message keeps to the standard."""
        checker.check_model(self.model_proto)

    def enumerate_graph_protos(self) -> Iterator[GraphProto]:
        """Every graph of the model, each ahead of its subgraphs."""
        waiting = [self.model_proto.graph]
        while waiting:
            graph = waiting.pop()
            yield graph
            held = [attribute for node in graph.node for attribute in node.attribute]
            for attribute in reversed(held):
                waiting += reversed(attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g)

    def is_in_memory_external_initializer(self, name: str) -> bool:
        """Whether a location is that of an array."""
        return name.startswith("#")

    def set_large_initializers(self, large_initializers: dict[str, NDArray[Any]]) -> None:
        """Keep these arrays by location; ValueError unless each begins with "#"."""
        for location in large_initializers:
            if not self.is_in_memory_external_initializer(location):
                raise InvalidArgument(
                    f"location {location!r} must begin with '#', since it is no file"
                )
        self.large_initializers = large_initializers

    def check_large_initializers(self) -> None:
        """Raise RuntimeError unless there is an array for every tensor that says so."""
        for tensor in self._kept(self.model_proto):
            self._array(tensor)

    def save(self, file_path: str, all_tensors_to_one_file: bool = False) -> ModelProto:
        """Write the model and its arrays, each to a file or all to one; returns what was written.

        The files stand beside the model: ``model.onnx.weight``, or named after model and location.
        """
        path = Path(file_path)
        if not path.parent.exists():
            raise FileNotFoundError(f"the folder {str(path.parent)!r} does not exist")
        written = ModelProto()
        written.CopyFrom(self.model_proto)
        names: set[str] = set()
        for tensor in self._kept(written):
            tensor.raw_data = tobytes_little_endian(np.asarray(self._array(tensor)))
            location = f"{path.name}.weight"
            if not all_tensors_to_one_file:
                location = _file_name(path.stem, reference(tensor).location, names)
            set_external_data(tensor, location)
            names.add(location)
        for location in names:
            (path.parent / location).unlink(missing_ok=True)
        write_external_data_tensors(written, str(path.parent))
        files.write_bytes(file_path, [written.SerializeToString()])
        return written

    def load(self, file_path: str, load_large_initializers: bool = True) -> None:
        """Read a model and, unless that is declined, its external tensors as arrays."""
        self.model_proto_ = load_model(file_path, load_external_data=False)
        if load_large_initializers:
            self._load_large_initializers(file_path)

    def _load_large_initializers(self, file_path: str | os.PathLike[str]) -> None:
        folder = str(Path(file_path).parent)
        self.large_initializers = {}
        for number, tensor in enumerate(tensors(self.model_proto)):
            if is_external(tensor):
                location = f"#t{number}"
                load_external_data_for_tensor(tensor, folder)
                self.large_initializers[location] = to_array(tensor)
                _place(tensor, location)

    @staticmethod
    def _kept(model: ModelProto) -> list[TensorProto]:
        return [tensor for tensor in tensors(model) if is_external(tensor)]

    def _array(self, tensor: TensorProto) -> NDArray[Any]:
        location = {entry.key: entry.value for entry in tensor.external_data}.get("location")
        if location not in self.large_initializers:
            raise MissingTensor(f"{subject(tensor)}: {self._unknown(location)}")
        return self.large_initializers[location]

    def _unknown(self, location: str | None) -> str:
        has = ", ".join(map(repr, sorted(self.large_initializers))) or "none"
        return f"the location of an array ({has}) is required, found {location!r}"


def _file_name(stem: str, location: str, taken: set[str]) -> str:
    """A file for the array at ``location`` that no other one has."""
    base = "".join(x for x in f"{stem}-{location}" if x not in _NOT_IN_NAMES)
    name, number = f"{base}.weight", 1
    while name in taken:
        number += 1
        name = f"{base}_{number}.weight"
    return name


def make_large_model(
    graph: GraphProto, large_initializers: Mapping[str, NDArray[Any]] | None = None, **kwargs: Any
) -> ModelContainer:
    """A container of a model with this graph; ``kwargs`` as for `make_model`."""
    container = ModelContainer()
    container.model_proto = make_model(graph, **kwargs)
    if large_initializers:
        container.set_large_initializers(dict(large_initializers))
        container.check_large_initializers()
    return container
