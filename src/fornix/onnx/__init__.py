"""What the `onnx` package offers: messages, loading and saving here, the rest in submodules.

Every name is a room of fornix under onnx's name and signature, as of the version below. The
submodules are imported on first use.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any, TypeVar

from google.protobuf.message import Message

from fornix.format import files
from fornix.format.messages import (
    EXPERIMENTAL,
    IR_VERSION,
    IR_VERSION_2017_10_10,
    IR_VERSION_2017_10_30,
    IR_VERSION_2017_11_3,
    IR_VERSION_2019_1_22,
    IR_VERSION_2019_3_18,
    IR_VERSION_2019_9_19,
    IR_VERSION_2020_5_8,
    IR_VERSION_2021_7_30,
    IR_VERSION_2023_5_5,
    IR_VERSION_2024_3_25,
    STABLE,
    AttributeProto,
    DeviceConfigurationProto,
    FunctionProto,
    GraphProto,
    IntIntListEntryProto,
    MapProto,
    ModelProto,
    NodeDeviceConfigurationProto,
    NodeProto,
    OperatorProto,
    OperatorSetIdProto,
    OperatorSetProto,
    OperatorStatus,
    OptionalProto,
    SequenceProto,
    ShardedDimProto,
    ShardingSpecProto,
    SimpleShardedDimProto,
    SparseTensorProto,
    StringStringEntryProto,
    TensorAnnotation,
    TensorProto,
    TensorShapeProto,
    TrainingInfoProto,
    TypeProto,
    ValueInfoProto,
    Version,
)
from fornix.lazy import submodules
from fornix.onnx import serialization
from fornix.onnx._own import WrongKind
from fornix.onnx._told import show_in_one_line
from fornix.onnx.external_data_helper import (
    convert_model_to_external_data,
    load_external_data_for_model,
    write_external_data_tensors,
)

show_in_one_line()

__version__ = "1.23.2"
ONNX_ML = True

__all__ = [
    "EXPERIMENTAL",
    "IR_VERSION",
    "IR_VERSION_2017_10_10",
    "IR_VERSION_2017_10_30",
    "IR_VERSION_2017_11_3",
    "IR_VERSION_2019_1_22",
    "IR_VERSION_2019_3_18",
    "IR_VERSION_2019_9_19",
    "IR_VERSION_2020_5_8",
    "IR_VERSION_2021_7_30",
    "IR_VERSION_2023_5_5",
    "IR_VERSION_2024_3_25",
    "ONNX_ML",
    "STABLE",
    "AttributeProto",
    "DeviceConfigurationProto",
    "FunctionProto",
    "GraphProto",
    "IntIntListEntryProto",
    "MapProto",
    "ModelProto",
    "NodeDeviceConfigurationProto",
    "NodeProto",
    "OperatorProto",
    "OperatorSetIdProto",
    "OperatorSetProto",
    "OperatorStatus",
    "OptionalProto",
    "SequenceProto",
    "ShardedDimProto",
    "ShardingSpecProto",
    "SimpleShardedDimProto",
    "SparseTensorProto",
    "StringStringEntryProto",
    "TensorAnnotation",
    "TensorProto",
    "TensorShapeProto",
    "TrainingInfoProto",
    "TypeProto",
    "ValueInfoProto",
    "Version",
    "convert_model_to_external_data",
    "load",
    "load_external_data_for_model",
    "load_from_string",
    "load_model",
    "load_model_from_string",
    "load_tensor",
    "load_tensor_from_string",
    "save",
    "save_model",
    "save_tensor",
    "serialization",
    "write_external_data_tensors",
]

_DEFAULT_FORMAT = files.PROTOBUF
_M = TypeVar("_M", bound=Message)


__getattr__ = submodules(__name__)


def _get_serializer(fmt: str | None, f: object = None) -> serialization.ProtoSerializer:
    """The serializer of the format or, if None, of the extension of ``f``."""
    path = files.path_of(f)
    if fmt is None and path is not None:
        fmt = serialization.registry.get_format_from_file_extension(Path(path).suffix)
    return serialization.registry.get(_DEFAULT_FORMAT if fmt is None else fmt)


def _place(f: Any, method: str) -> IO[bytes] | str | os.PathLike[str]:
    """``f`` if it is a path or has the ``method`` of a file; paths of bytes are text then."""
    if isinstance(f, str | os.PathLike) or hasattr(f, method):
        place: IO[bytes] | str | os.PathLike[str] = f
        return place
    if isinstance(f, bytes):
        return os.fsdecode(f)
    raise WrongKind(f"a path or an open binary file is required, found {type(f).__name__}")


def load_model(
    f: IO[bytes] | str | os.PathLike[str],
    format: str | None = None,
    load_external_data: bool = True,
) -> ModelProto:
    """The model in ``f``, with its external data unless that is declined.

    Without a ``format``, the extension of the file says it, and else it is protobuf.
    Raises FormatError for a damaged file, NoSuchFile for a path that cannot be read and
    ExternalDataError for external data that is unsafe or not there.
    """
    model = _load(f, ModelProto(), format)
    path = files.path_of(_place(f, "read"))
    if load_external_data and path is not None:
        load_external_data_for_model(model, str(Path(path).parent))
    return model


def load_tensor(f: IO[bytes] | str | os.PathLike[str], format: str | None = None) -> TensorProto:
    """The tensor in ``f``; format and errors as in `load_model`."""
    return _load(f, TensorProto(), format)


def _load(f: IO[bytes] | str | os.PathLike[str], proto: _M, fmt: str | None) -> _M:
    f = _place(f, "read")
    serializer = _get_serializer(fmt, f)
    data = files.read_bytes(f)
    if isinstance(serializer, serialization.BuiltIn):
        return serializer.read(data, proto, files.label(f))
    return serializer.deserialize_proto(data, proto)


def load_model_from_string(s: bytes | str, format: str = _DEFAULT_FORMAT) -> ModelProto:
    """The model that ``s`` holds in ``format``; raises FormatError for damage."""
    return _get_serializer(format).deserialize_proto(s, ModelProto())


def load_tensor_from_string(s: bytes, format: str = _DEFAULT_FORMAT) -> TensorProto:
    """The tensor that ``s`` holds in ``format``; raises FormatError for damage."""
    return _get_serializer(format).deserialize_proto(s, TensorProto())


def save_model(
    proto: ModelProto | bytes,
    f: IO[bytes] | str | os.PathLike[str],
    format: str | None = None,
    *,
    save_as_external_data: bool = False,
    all_tensors_to_one_file: bool = True,
    location: str | None = None,
    size_threshold: int = 1024,
    convert_attribute: bool = False,
) -> None:
    """Write a model to ``f``: a path, where it appears whole or not at all, or an open file.

    ``save_as_external_data`` moves tensors to files beside it, as `convert_model_to_external_data`
    chooses them; ``proto`` then refers to these files as well. Format as in `load_model`.
    Raises FormatError above 2 GiB, ExternalDataError for a location that is unsafe.
    """
    f = _place(f, "write")
    model = load_model_from_string(proto) if isinstance(proto, bytes) else proto
    if save_as_external_data:
        convert_model_to_external_data(
            model, all_tensors_to_one_file, location, size_threshold, convert_attribute
        )
    path = files.path_of(f)
    if path is not None:
        files.refuse_own_data(model, path)
        model = write_external_data_tensors(model, str(Path(path).parent))
    files.write_bytes(f, [_get_serializer(format, path).serialize_proto(model)])


def save_tensor(
    proto: TensorProto, f: IO[bytes] | str | os.PathLike[str], format: str | None = None
) -> None:
    """Write a tensor to ``f``; format as in `load_model`."""
    f = _place(f, "write")
    files.write_bytes(f, [_get_serializer(format, f).serialize_proto(proto)])


load = load_model
load_from_string = load_model_from_string
save = save_model
