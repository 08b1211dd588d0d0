"""The optimized model of a session, in a file: operators of the standard, for any runtime."""

from __future__ import annotations

from pathlib import Path

from fornix.dtype import STRING
from fornix.errors import InvalidArgument, InvalidUse
from fornix.ir.files import save
from fornix.ir.graph import Model
from fornix.ir.message_tensor import MessageTensor
from fornix.ir.tensor import ArrayTensor
from fornix.ir.walk import graphs
from fornix.passes import Level, optimize
from fornix.runtime.options import SessionOptions

FILE = "session.optimized_model_external_initializers_file_name"
LARGE_BYTES = 1024
"""From which on initializers are large, unless an entry says otherwise."""
SIZE = "session.optimized_model_external_initializers_min_size_in_bytes"


def save_optimized(model: Model, options: SessionOptions) -> None:
    """Write ``model``, optimized as ``options`` say, to the file that they name.

    Entries of the options name a file beside it for large initializers, and say what is large.
    """
    form = options.config_entries.get("session.save_model_format", "")
    if form == "ORT" or (not form and options.optimized_model_filepath.endswith(".ort")):
        raise InvalidUse(
            "SessionOptions: onnxruntime's ORT format is not written, found "
            f"{options.optimized_model_filepath!r}; name a file ….onnx, or use `fornix compile`"
        )
    level = options.level
    made = optimize(model, Level.ALL if level is None else level)
    _name_apart(made)
    if FILE in options.config_entries:
        _make_raw(made)
    size = options.config_entries.get(SIZE, "")
    if size and not size.isdigit():
        raise InvalidUse(f"SessionOptions: {SIZE} must be a number of bytes, found {size!r}")
    path = Path(options.optimized_model_filepath)
    try:
        save(
            made,
            path,
            external_data=options.config_entries.get(FILE),
            threshold=int(size) if size else LARGE_BYTES,
        )
    except OSError as error:
        raise InvalidArgument(
            f"SessionOptions: optimized_model_filepath must name a file that can be written, "
            f"found '{path}': {error.strerror or error}"
        ) from error


def _name_apart(model: Model) -> None:
    """Give nodes that became several of one name names of their own: onnxruntime wants that."""
    for graph in graphs(model.graph):
        seen: set[str] = set()
        for node in graph.nodes:
            name, count = node.name, 1
            while node.name and node.name in seen:
                count += 1
                node.name = f"{name}_{count}"
            seen.add(node.name)


def _make_raw(model: Model) -> None:
    """Take initializers out of typed fields, which cannot lie in another file."""
    for graph in graphs(model.graph):
        for value in graph.initializer_values:
            tensor = value.tensor
            if isinstance(tensor, MessageTensor) and tensor.dtype is not STRING:
                value.tensor = ArrayTensor(tensor.numpy(), tensor.name)
