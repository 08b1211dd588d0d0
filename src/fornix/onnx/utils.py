"""What `onnx.utils` offers: the part of a model between some of its values.

The work is done by `fornix.edit.extract`, which also follows what subgraphs read.
"""

from __future__ import annotations

import os
from pathlib import Path

from fornix import edit
from fornix.errors import InvalidArgument
from fornix.format.messages import ModelProto
from fornix.infer import annotate, infer_model
from fornix.ir.files import load, save
from fornix.ir.graph import Model
from fornix.ir.load import from_message, to_message
from fornix.ir.walk import tensors
from fornix.onnx import checker
from fornix.onnx._kinds import PATH, takes
from fornix.onnx._own import owned

__all__ = ["Extractor", "extract_model"]

PRODUCER = "onnx.utils.extract_model"
"""What onnx calls itself in extracted models."""


class Extractor:
    """Cuts parts out of ``model``, which is not changed."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.graph = model.graph
        self._source = from_message(owned(model, ModelProto))
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        """Stored tensors of the main graph by name."""
        typed = (*self.graph.value_info, *self.graph.input, *self.graph.output)
        self.value_infos = {value.name: value for value in typed}
        """Types of its values by name."""
        named = ((k, name) for k, node in enumerate(self.graph.node) for name in node.output)
        self.outmap = {name: k for k, name in named if name}
        """The place of the node that computes each value."""

    def extract_model(self, input_names: list[str], output_names: list[str]) -> ModelProto:
        """The part that computes ``output_names`` from ``input_names``.

        Raises ValueError for a name without a type in the model, and where the outputs need more.
        """
        return to_message(_extracted(self._source, input_names, output_names))


@takes(input_path=PATH, output_path=PATH)
def extract_model(
    input_path: str | os.PathLike[str],
    output_path: str | os.PathLike[str],
    input_names: list[str],
    output_names: list[str],
    check_model: bool = True,
    infer_shapes: bool = True,
) -> None:
    """Write the part of one file that computes ``output_names`` from ``input_names`` to another.

    Of more than 2 GiB, tensors go to a file beside it. With ``check_model`` both models must
    keep to the standard; with ``infer_shapes`` names need no type in the file. Raises ValueError
    as `Extractor` does, also for a path that does not exist, empty lists and names given twice.
    """
    if not Path(os.fsdecode(input_path)).exists():
        raise InvalidArgument(f"input_path: a file is required, found {input_path!r}")
    if not os.fspath(output_path):
        raise InvalidArgument("output_path: a path is required, found ''")
    for what, names in (("input_names", input_names), ("output_names", output_names)):
        if not names or len(set(names)) < len(names):
            raise InvalidArgument(
                f"{what}: one name or more, each once, is required, found {names}"
            )
    if check_model:
        checker.check_model(input_path)
    source = load(input_path)
    if infer_shapes:
        annotate(source, infer_model(source))
    part = _extracted(source, input_names, output_names)
    held = sum(tensor.nbytes for tensor in tensors(part))
    beside = f"{Path(output_path).name}.data" if held > checker.MAXIMUM_PROTOBUF else None
    save(part, output_path, external_data=beside)
    if check_model:
        checker.check_model(output_path)


def _extracted(source: Model, inputs: list[str], outputs: list[str]) -> Model:
    """The part of ``source``, by the names that onnx gives it."""
    graph = source.graph
    typed = {value.name for node in graph.nodes for value in node.outputs if value.type is not None}
    typed |= {value.name for value in (*graph.inputs, *graph.outputs)}
    missing = [name for name in (*inputs, *outputs) if name not in typed]
    if missing:
        raise InvalidArgument(
            f"extract: values with a type are required, found none for {', '.join(missing)}; "
            "infer_shapes finds types"
        )
    part = edit.extract(source, inputs, outputs)
    part.graph.name = f"Extracted from {{{graph.name}}}"
    part.producer_name = PRODUCER
    part.producer_version = part.domain = part.doc_string = part.graph.doc_string = ""
    part.model_version = 0
    part.metadata = {}
    return part
