"""What `onnx.reference.shape_annotation_checker` offers: values against declared types.

A name of an extent stands for one number in a whole run: the first that a value has there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fornix.dtype import DType
from fornix.errors import DTypeError
from fornix.format.messages import TensorShapeProto, TypeProto

__all__ = ["ShapeAnnotationError", "SymbolBindings", "check_shape", "check_value_against_type"]


class ShapeAnnotationError(RuntimeError):
    """A value is not of the type that the model declares for it."""


class SymbolBindings:
    """What names of extents stand for in one run."""

    def __init__(self) -> None:
        self._bindings: dict[str, int] = {}

    def check_and_bind(self, dim: TensorShapeProto.Dimension, actual: int, *, context: str) -> None:
        """Raise ShapeAnnotationError unless ``dim`` can be ``actual``."""
        if dim.HasField("dim_value"):
            wanted = dim.dim_value
        elif dim.HasField("dim_param"):
            wanted = self._bindings.setdefault(dim.dim_param, actual)
        else:
            return
        if wanted != actual:
            name = f" ({dim.dim_param})" if dim.HasField("dim_param") else ""
            raise ShapeAnnotationError(f"{context}: {wanted}{name} is declared, found {actual}")


def check_shape(
    shape_proto: TensorShapeProto | None,
    actual_shape: Sequence[int],
    bindings: SymbolBindings,
    name: str,
) -> None:
    """Raise ShapeAnnotationError unless a value has the declared shape, if there is one."""
    if shape_proto is None:
        return
    if len(shape_proto.dim) != len(actual_shape):
        raise ShapeAnnotationError(
            f"'{name}': rank {len(shape_proto.dim)} is declared, found {len(actual_shape)}"
        )
    for axis, (dim, actual) in enumerate(zip(shape_proto.dim, actual_shape, strict=True)):
        bindings.check_and_bind(dim, int(actual), context=f"'{name}', axis {axis}")


def check_value_against_type(
    type_proto: TypeProto | None, value: Any, bindings: SymbolBindings, name: str
) -> None:
    """Raise ShapeAnnotationError unless an array has the declared type; others pass."""
    if type_proto is None or not type_proto.HasField("tensor_type"):
        return
    if not isinstance(value, np.ndarray):
        return
    declared = type_proto.tensor_type
    try:
        dtype = DType.of(declared.elem_type).numpy
    except DTypeError:
        dtype = value.dtype
    if dtype != value.dtype and not (dtype == np.dtype(object) and value.dtype.kind == "U"):
        raise ShapeAnnotationError(f"'{name}': {dtype} is declared, found {value.dtype}")
    shape = declared.shape if declared.HasField("shape") else None
    check_shape(shape, value.shape, bindings, name)
