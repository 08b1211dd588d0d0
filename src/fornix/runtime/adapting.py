"""A model as the options of its session want it: extents that are given, data that are replaced.

Decides what the options say about the model itself; what becomes of it then is `making`'s business.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from fornix.dtype import DType
from fornix.errors import ExternalDataError, FornixWarning, InvalidArgument
from fornix.format.external import Folder, is_external, reference
from fornix.format.messages import ValueInfoProto
from fornix.ir.dim import Dim, DimLike
from fornix.ir.graph import Model, Value
from fornix.ir.message_tensor import MessageTensor
from fornix.ir.order import is_sorted, sort
from fornix.ir.tensor import ArrayTensor, MappedTensor, Tensor
from fornix.ir.types import TensorType, Type
from fornix.ir.walk import graphs, nodes, values
from fornix.ops.opsets import LATEST
from fornix.runtime.options import SessionOptions

ASSUMED = {"com.microsoft": 1, "ai.onnx.ml": LATEST["ai.onnx.ml"]}
"""Opsets of domains that a session takes for imported, as onnxruntime does."""


def adapted(model: Model, options: SessionOptions) -> Model:
    """``model`` itself if ``options`` say nothing about it, else a copy that does as they say.

    Nodes that stand ahead of what they need are put in order and missing imports are added, in
    copies as well. Warns of names that the model does not have; raises InvalidArgument for data
    of another type or shape, ExternalDataError for bytes that end too early.
    """
    model = _with_imports(_in_order(model))
    dims = options.dims_by_name or options.dims_by_denotation
    if not (dims or options.initializers or options.files or options.folder):
        return model
    changed = model.clone()
    if dims:
        _set_dims(changed, options)
    if options.initializers:
        _set_initializers(changed, options.initializers)
    if options.files:
        _set_files(changed, options.files)
    if options.folder:
        _set_folder(changed, Folder(options.folder))
    return changed


def _in_order(model: Model) -> Model:
    """``model``, or a copy in which every node stands behind those that it needs."""
    if all(map(is_sorted, graphs(model))):
        return model
    changed = model.clone()
    for graph in list(graphs(changed)):
        sort(graph)
    return changed


def _with_imports(model: Model) -> Model:
    """``model``, or a copy that imports the domains beside ONNX's own that its nodes speak of.

    So do its functions. Optimizers add nodes of onnxruntime's and leave the imports as they were.
    """
    if not any(absent for _, absent in _absent(model)):
        return model
    changed = model.clone()
    for imports, absent in _absent(changed):
        imports |= {domain: ASSUMED[domain] for domain in absent}
    return changed


def _absent(model: Model) -> Iterator[tuple[dict[str, int], Collection[str]]]:
    """The imports of ``model`` and its functions, and the domains that are missing in them."""
    own = [(function.opset_imports, function.graph) for function in model.functions]
    for imports, graph in [(model.opset_imports, model.graph), *own]:
        spoken = {node.domain for node in nodes(graph)} if imports else set()
        yield imports, spoken & ASSUMED.keys() - imports.keys()


def varied(model: Model, fed: Collection[str], fetched: Collection[str]) -> Model:
    """A copy of ``model`` in which initializers are only ``fed``, and outputs what is ``fetched``.

    Both by name; its own outputs stay.
    """
    changed = model.clone()
    graph = changed.graph
    for value in graph.inputs:
        if value.name in fed and value.is_initializer:
            graph.remove_initializer(value)
    made = [value for node in graph.nodes for value in node.outputs]
    graph.outputs = (*graph.outputs, *(value for value in made if value.name in fetched))
    return changed


def ranked(model: Model, ranks: Mapping[str, int]) -> Model:
    """A copy of ``model`` in which these inputs, by name, have so many axes of open lengths."""
    changed = model.clone()
    for value in changed.graph.inputs:
        if value.name in ranks and isinstance(value.type, TensorType):
            value.type = TensorType(value.type.dtype, (None,) * ranks[value.name])
    return changed


def undeclared(model: Model, unlike: Collection[str]) -> Model:
    """A copy of ``model`` that declares no extents of what its nodes compute.

    Values in ``unlike``, by name, have another rank than is declared; that is left out, too.
    """
    changed = model.clone()
    for value in (value for node in changed.graph.nodes for value in node.outputs):
        type_ = value.declared_type
        if isinstance(type_, TensorType) and type_.shape is not None:
            shape = None if value.name in unlike else (None,) * len(type_.shape)
            value.type = TensorType(type_.dtype, shape)
    return changed


def _set_dims(model: Model, options: SessionOptions) -> None:
    fed = {name for value in model.graph.inputs for name in _symbols(value.type)}
    numbers = {name: extent for name, extent in options.dims_by_name.items() if name in fed}
    for value in model.graph.inputs:
        for axis, extent in _denoted(value, options.dims_by_denotation).items():
            type_ = value.type
            found = type_.shape[axis] if isinstance(type_, TensorType) and type_.shape else None
            name = found.name if isinstance(found, Dim) else None
            if name is not None:
                found = numbers.setdefault(name, extent)
            if isinstance(found, int):
                _require_same(value, axis, found, extent)
            elif isinstance(type_, TensorType) and type_.shape:
                shape = [*type_.shape]
                shape[axis] = extent
                value.type = TensorType(type_.dtype, tuple(shape))
    for value in values(model):
        if value.declared_type is not None:
            value.type = _bound(value.declared_type, numbers)


def _require_same(value: Value, axis: int, found: int, extent: int) -> None:
    """Raise InvalidArgument where a denotation gives an axis another extent than it has."""
    if found != extent:
        raise InvalidArgument(
            f"SessionOptions: axis {axis} of input '{value.name}' is {found}, but what its "
            f"denotation is given is {extent}"
        )


def _symbols(type_: Type | None) -> set[str]:
    """The names in the shape of a tensor."""
    shape = type_.shape if isinstance(type_, TensorType) else None
    return {name for extent in shape or () if isinstance(extent, Dim) for name in extent.symbols}


def _denoted(value: Value, extents: Mapping[str, int]) -> dict[int, int]:
    """Of the axes that the model's file denotes, those that get an extent."""
    if not extents or not value.leftover:
        return {}
    dims = ValueInfoProto.FromString(value.leftover).type.tensor_type.shape.dim
    return {axis: extents[d.denotation] for axis, d in enumerate(dims) if d.denotation in extents}


def _bound(type_: Type, numbers: Mapping[str, int]) -> Type:
    if not isinstance(type_, TensorType) or type_.shape is None:
        return type_
    return TensorType(type_.dtype, tuple(_extent(extent, numbers) for extent in type_.shape))


def _extent(extent: DimLike | None, numbers: Mapping[str, int]) -> DimLike | None:
    return extent.bind(numbers) if isinstance(extent, Dim) else extent


def _set_initializers(model: Model, arrays: Mapping[str, Any]) -> None:
    stored = {value.name: value for value in model.graph.initializer_values}
    for name, array in arrays.items():
        value = stored.get(name)
        if value is None:
            has = ", ".join(stored) or "none"
            warnings.warn(
                f"SessionOptions: the model has no initializer {name!r} (it has {has})",
                FornixWarning,
                stacklevel=2,
            )
            continue
        _require_like(value, np.asarray(array))
        value.tensor = ArrayTensor(np.ascontiguousarray(array).reshape(array.shape), name)


def _require_like(value: Value, array: np.ndarray[Any, np.dtype[Any]]) -> None:
    wanted = value.tensor
    if wanted is None or (DType.of(array.dtype) is wanted.dtype and array.shape == wanted.shape):
        return
    raise InvalidArgument(
        f"SessionOptions: initializer '{value.name}' is {wanted.dtype}{list(wanted.shape)}, "
        f"but what is given is {array.dtype}{list(array.shape)}"
    )


def _set_files(model: Model, files: Mapping[str, Any]) -> None:
    for value, tensor in _external(model):
        value.tensor = _from_memory(tensor, files)


def _set_folder(model: Model, folder: Folder) -> None:
    """Let external data be found in ``folder`` where the model came from none."""
    for value, tensor in _external(model):
        if tensor.folder is None:
            value.tensor = MessageTensor(tensor.message, tensor.skeleton, folder)


def _external(model: Model) -> list[tuple[Value, MessageTensor]]:
    """The initializers whose data lie in other files."""
    stored = (value for graph in graphs(model.graph) for value in graph.initializer_values)
    pairs = ((value, value.tensor) for value in stored)
    return [(v, t) for v, t in pairs if isinstance(t, MessageTensor) and is_external(t.message)]


def _from_memory(tensor: MessageTensor, files: Mapping[str, Any]) -> Tensor:
    """``tensor`` over the bytes in memory that stand for its file, or as it is."""
    where = reference(tensor.message)
    data = files.get(where.location)
    if data is None:
        return tensor
    size = tensor.nbytes
    start = where.offset or 0
    if start + size > len(data):
        raise ExternalDataError(
            f"tensor '{tensor.name}': {size} bytes at {start} of '{where.location}' are required, "
            f"found {len(data)} in memory"
        )
    return MappedTensor(data[start : start + size], tensor.dtype, tensor.shape, tensor.name)
