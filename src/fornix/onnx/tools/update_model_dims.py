"""What `onnx.tools.update_model_dims` offers: shapes of inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fornix.edit import set_dims
from fornix.errors import InvalidArgument
from fornix.format.messages import ModelProto
from fornix.ir.dim import atoms
from fornix.ir.dim.expression import Symbol
from fornix.ir.graph import Graph
from fornix.ir.load import from_message, to_message
from fornix.onnx import checker
from fornix.onnx._own import owned, put

__all__ = ["update_inputs_outputs_dims"]


def update_inputs_outputs_dims(
    model: ModelProto, input_dims: dict[str, list[Any]], output_dims: dict[str, list[Any]]
) -> ModelProto:
    """``model`` itself, with these shapes of its inputs and outputs: numbers, names, or −1.

    −1 stands for a new name. Raises KeyError for an input or output without shape, ValueError for
    a number that contradicts the model's and for a new name that is taken, ValidationError if the
    result breaks the standard.
    """
    changed = from_message(owned(model, ModelProto))
    taken = _names(changed.graph)
    for values, dims in (
        (changed.graph.inputs, input_dims),
        (changed.graph.outputs, output_dims),
    ):
        for value in values:
            set_dims(value, _extents(value.name, dims[value.name], taken))
    message = to_message(changed)
    checker.check_model(message)
    put(message, model)
    return model


def _names(graph: Graph) -> set[str]:
    """The names of extents that ``graph`` declares."""
    declared = [value for node in graph.nodes for value in node.outputs]
    return {
        atom.name
        for value in (*graph.inputs, *graph.outputs, *declared)
        for extent in getattr(value.type, "shape", None) or ()
        if extent is not None
        for atom in atoms(extent)
        if isinstance(atom, Symbol)
    }


def _extents(name: str, dims: Sequence[Any], taken: set[str]) -> list[int | str]:
    """``dims`` with names for those that are negative."""
    extents: list[int | str] = []
    for axis, dim in enumerate(dims):
        if not isinstance(dim, int | str):
            raise TypeError(
                f"'{name}': a number or name is required for axis {axis}, "
                f"found {type(dim).__name__}"
            )
        made = f"{name}_{axis}"
        unnamed = isinstance(dim, int) and dim < 0
        if unnamed and made in taken:
            raise InvalidArgument(
                f"'{name}': a name for axis {axis} is required, since {made!r} is taken"
            )
        extents.append(made if unnamed else dim)
    return extents
