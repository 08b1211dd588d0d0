"""A SequenceMap whose body computes each element of a tensor by itself, on all tensors joined.

Decides which bodies are such, and which sequences are joined: those of tensors that have an axis.
Bodies of numbers alone never get here, as there is machine code for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from fornix.ir.graph import Graph, Node, Value
from fornix.ir.walk import captured_values

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

POINTWISE = frozenset(
    "Abs Add And Cast Div Equal Greater GreaterOrEqual Identity LabelEncoder Less LessOrEqual Max "
    "Min Mod Mul Neg Not Or RegexFullMatch StringConcat Sub Where Xor".split()
)
"""Operators of the standard that compute each element of those at its place."""
LEAST = 4
"""Tensors that are worth joining, and elements of them."""


def is_pointwise(graph: Graph) -> bool:
    """Whether each element that a body gives is computed of those at its place.

    What it reads beside these is stored, and the same for all.
    """
    if any(v.constant is None or not is_same(v.constant.numpy()) for v in captured_values(graph)):
        return False
    made = set[Value](graph.inputs)
    for node in graph.nodes:
        if all(value.constant is not None for value in node.outputs):
            continue
        if not _is_pointwise(node, made):
            return False
        made.update(node.outputs)
    return made.issuperset(graph.outputs)


def _is_pointwise(node: Node, made: set[Value]) -> bool:
    """The same of a node; ``made`` are values of the iteration."""
    if node.op_type not in POINTWISE or node.domain not in {"", "ai.onnx.ml"}:
        return False
    stored = [v for v in node.inputs if v not in made]
    if any(v is None or v.constant is None or not is_same(v.constant.numpy()) for v in stored):
        return False
    return len(stored) < len(node.inputs)


def is_same(array: Array) -> bool:
    """Whether a tensor is the same for all elements of those that have an axis."""
    return array.size == 1 and array.ndim < 2


def joined(
    run: Callable[[list[Any]], Sequence[Any]], inputs: Sequence[Any]
) -> list[list[Array]] | None:
    """What `mapped` gives, where ``run`` runs a body that `is_pointwise`; raises anything.

    None where tensors are few, or have to be broadcast.
    """
    lists = [value for value in inputs if type(value) is list]
    shapes = [x.shape for x in lists[0]]
    if len(shapes) < LEAST or not all(shapes):
        return None
    if any([x.shape for x in other] != shapes for other in lists[1:]):
        return None
    if not all(type(value) is list or is_same(value) for value in inputs):
        return None
    results = run([_joined(value) if type(value) is list else value for value in inputs])
    sizes = [x.size for x in lists[0]]
    count = sum(sizes)
    if count < LEAST or any(result.shape != (count,) for result in results):
        return None
    is_flat = max(map(len, shapes)) == 1
    parts = [*zip(accumulate(sizes), sizes, strict=True)]
    rows = [[result[end - size : end] for end, size in parts] for result in results]
    return rows if is_flat else [[*map(np.reshape, row, shapes)] for row in rows]


def _joined(arrays: Sequence[Array]) -> Array:
    """The elements of ``arrays``, one behind the other; raises TypeError if types differ."""
    dtype = arrays[0].dtype
    if not all(x.dtype == dtype for x in arrays):
        raise TypeError("tensors of one type are required")
    is_flat = all(x.ndim == 1 for x in arrays)
    return np.concatenate(arrays if is_flat else [x.reshape(-1) for x in arrays])
