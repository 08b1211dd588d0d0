"""Shapes of inputs and outputs: given, or with one more axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fornix.errors import InvalidArgument
from fornix.infer import annotate, infer_strictly
from fornix.ir.dim import DimLike, symbol
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.nesting import own_values
from fornix.ir.tensor import ArrayTensor
from fornix.ir.types import TensorType
from fornix.ir.walk import graphs

AXES_ARE_INPUT = 13
"""Since this opset the axes of Unsqueeze are an input."""


def set_shapes(model: Model, shapes: Mapping[str, Sequence[int | str]]) -> Model:
    """A copy of ``model`` whose inputs have these shapes: numbers and names of extents by name.

    What the model declares of other values goes, and types are inferred anew. Raises
    InvalidArgument for what is no input, and InferenceError for shapes that the model cannot take.
    """
    changed = model.clone()
    inputs = {value.name: value for value in changed.graph.inputs}
    for name, extents in shapes.items():
        if name not in inputs:
            has = ", ".join(inputs) or "none"
            raise InvalidArgument(f"set_shapes: an input ({has}) is required, found {name!r}")
        set_dims(inputs[name], extents, replace=True)
    for graph in graphs(changed.graph):
        for value in own_values(graph):
            if value.producer is not None:
                value.type = _without_shape(value)
    annotate(changed, infer_strictly(changed))
    return changed


def _without_shape(value: Value) -> TensorType | None:
    """The type of an output without its extents; None for all other values."""
    type_ = value.type
    if isinstance(type_, TensorType) and value.is_output:
        return TensorType(type_.dtype, None)
    return None


def set_dims(value: Value, extents: Sequence[int | str], *, replace: bool = False) -> None:
    """Give the first axes of a tensor these extents: numbers or names.

    A number contradicts another one unless ``replace`` is true. Raises InvalidArgument for that,
    for more extents than axes, and for a value that is no tensor.
    """
    type_ = value.type
    if not isinstance(type_, TensorType):
        raise InvalidArgument(f"'{value.name}': a tensor is required to have a shape")
    old = type_.shape if type_.shape is not None else (None,) * len(extents)
    if len(extents) > len(old) or (replace and len(extents) != len(old)):
        raise InvalidArgument(f"'{value.name}' has {len(old)} axes, found {len(extents)} extents")
    for axis, (before, after) in enumerate(zip(old, extents, strict=False)):
        clash = isinstance(before, int) and isinstance(after, int) and before != after
        if clash and not replace:
            raise InvalidArgument(
                f"'{value.name}': axis {axis} is {before}, and cannot become {after}"
            )
    given = [symbol(x) if isinstance(x, str) else x for x in extents]
    value.type = TensorType(type_.dtype, (*given, *old[len(given) :]))


def expand_outputs(graph: Graph, axis: int, opset: int = AXES_ARE_INPUT) -> Graph:
    """A copy of ``graph`` whose outputs have one more axis, of extent 1, at ``axis``.

    A negative axis counts from the end of the new shape.
    """
    changed = graph.clone()
    outputs = list(changed.outputs)
    changed.outputs = ()
    axes = _axes_node(changed, axis) if outputs and opset >= AXES_ARE_INPUT else None
    made = [_expanded(changed, value, axis, axes) for value in outputs]
    changed.outputs = made
    return changed


def _axes_node(graph: Graph, axis: int) -> Value:
    """The axes as the result of a Constant, so that graphs without initializers stay so."""
    name = graph.fresh_name(f"{graph.name}_expand_out_dim_idx")
    tensor = ArrayTensor(np.array([axis], np.int64), f"{name}-value")
    node = Node("", "Constant", (), [name], {"value": tensor}, name=f"{name}-constant")
    graph.append(node)
    return node.output


def _expanded(graph: Graph, value: Value, axis: int, axes: Value | None) -> Value:
    """The result of an Unsqueeze that takes the name of ``value``."""
    name = value.name
    type_ = value.type
    if value.producer is None:
        raise InvalidArgument(f"output '{name}': the result of a node is required, found an input")
    value.name = graph.fresh_name(f"{name}_collapsed_dim_{axis}")
    inputs = [value] if axes is None else [value, axes]
    attributes = {"axes": [axis]} if axes is None else {}
    node = Node("", "Unsqueeze", inputs, [name], attributes, name=f"unsqueeze-{name}")
    graph.append(node)
    if isinstance(type_, TensorType):
        node.output.type = TensorType(type_.dtype, _with_axis(type_.shape, axis, name))
    return node.output


def _with_axis(
    shape: Sequence[DimLike | None] | None, axis: int, name: str
) -> tuple[DimLike | None, ...] | None:
    if shape is None:
        return None
    rank = len(shape) + 1
    if not -rank <= axis < rank:
        raise InvalidArgument(
            f"output '{name}': an axis from {-rank} to {rank - 1} is required, found {axis}"
        )
    place = axis % rank
    return (*shape[:place], 1, *shape[place:])
