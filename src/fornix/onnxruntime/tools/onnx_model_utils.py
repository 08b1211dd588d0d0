"""Shapes and opsets of models in files and messages, which are changed in place."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fornix.errors import InvalidArgument
from fornix.ir.files import load, save
from fornix.ir.load import to_message
from fornix.onnxruntime._options import GraphOptimizationLevel, SessionOptions
from fornix.onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from fornix.runtime.saving import save_optimized
from fornix.version import convert_version


def make_dim_param_fixed(graph: Any, param_name: str, value: int) -> None:
    """Make every extent called ``param_name`` this number."""
    for dim in _dims(graph):
        if dim.dim_param == param_name:
            dim.dim_value = value


def make_input_shape_fixed(graph: Any, input_name: str, fixed_shape: Sequence[int]) -> None:
    """Give an input this shape, and every extent that has the name of one of its extents.

    Raises InvalidArgument for what is no input, and for numbers that contradict its shape.
    """
    found = next((value for value in graph.input if value.name == input_name), None)
    if found is None:
        has = ", ".join(value.name for value in graph.input)
        raise InvalidArgument(f"make_input_shape_fixed: an input ({has}) is required, "
                              f"found {input_name!r}")  # fmt: skip
    dims = found.type.tensor_type.shape.dim
    if len(dims) != len(fixed_shape):
        raise InvalidArgument(
            f"input '{input_name}' has {len(dims)} axes, found {len(fixed_shape)} extents"
        )
    for axis, (dim, extent) in enumerate(zip(dims, fixed_shape, strict=True)):
        if dim.HasField("dim_value") and dim.dim_value != extent:
            raise InvalidArgument(
                f"input '{input_name}': axis {axis} is {dim.dim_value}, and cannot become {extent}"
            )
        if dim.dim_param:
            make_dim_param_fixed(graph, dim.dim_param, extent)
        dim.dim_value = extent


def fix_output_shapes(model: Any) -> None:
    """Give outputs the shapes that follow, where these are numbers."""
    inferred = SymbolicShapeInference.infer_shapes(model)
    known = {value.name: value.type for value in inferred.graph.output}
    for value in model.graph.output:
        if not is_fixed_size_tensor(value) and value.name in known:
            type_ = known[value.name]
            if all(dim.HasField("dim_value") for dim in type_.tensor_type.shape.dim):
                value.type.CopyFrom(type_)


def is_fixed_size_tensor(value: Any) -> bool:
    """Whether all extents of a value are numbers above 0."""
    type_ = value.type
    if not (type_.HasField("tensor_type") and type_.tensor_type.HasField("shape")):
        return False
    dims = type_.tensor_type.shape.dim
    return all(dim.HasField("dim_value") and dim.dim_value > 0 for dim in dims)


def get_opsets_imported(model: Any) -> dict[str, int]:
    """The version of each domain that a model imports."""
    return {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}


def get_optimization_level(level: str) -> GraphOptimizationLevel:
    """A level by its name: "disable", "basic", "extended", "layout" or "all"."""
    names = {"disable": "ORT_DISABLE_ALL"}
    names |= {x: f"ORT_ENABLE_{x.upper()}" for x in ("basic", "extended", "layout", "all")}
    if level not in names:
        raise InvalidArgument(f"a level is one of {', '.join(names)}, found {level!r}")
    return GraphOptimizationLevel[names[level]]


def optimize_model(
    model_path: Path,
    output_path: Path,
    level: GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_BASIC,
    log_level: int = 3,
    use_external_initializers: bool = False,
) -> None:
    """Write the model of a file to another one, optimized."""
    options = SessionOptions(
        graph_optimization_level=level, optimized_model_filepath=str(output_path)
    )
    if use_external_initializers:
        entry = "session.optimized_model_external_initializers_file_name"
        options.add_session_config_entry(entry, f"{Path(output_path).name}.data")
    save_optimized(load(model_path), options)


def update_onnx_opset(
    model_path: Path,
    opset: int,
    out_path: Path | None = None,
    logger: logging.Logger | None = None,
) -> Any:
    """The model of a file in another opset, as a message; written to ``out_path`` if given."""
    converted = convert_version(load(model_path), opset)
    if logger is not None:
        logger.info("%s: converted to opset %d", model_path, opset)
    if out_path is not None:
        save(converted, out_path)
    return to_message(converted)


def _dims(graph: Any) -> Iterator[Any]:
    """The extents that a graph declares, and those of graphs inside."""
    for value in (*graph.input, *graph.value_info, *graph.output):
        yield from value.type.tensor_type.shape.dim
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())):
                yield from _dims(inner)
