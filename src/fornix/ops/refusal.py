"""What users are told of a node whose kernel Python or NumPy refused to run.

Rules of inference know more about a node than the exception does: whether its inputs contradict
each other, and how large its results would be. They are asked only where a kernel has failed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fornix.dtype import DType
from fornix.errors import Fail, FornixError, ValidationError
from fornix.ir.dim import known
from fornix.ir.tensor import ArrayTensor
from fornix.ir.types import SequenceType, TensorType
from fornix.ops.call import REFUSALS, InferNode, RunNode, infer_node
from fornix.ops.fact import ADDRESSES, Fact, UnknownRank
from fornix.ops.signature import Formal, Occurrence

GIGABYTE = 10**9
"""Bytes of a result from which on it is told as the reason why memory does not suffice."""
TOO_BIG = re.compile("array is too big|Maximum allowed|maximum supported dimension")
"""What NumPy says in a ValueError of arrays that no memory holds."""


def explained(
    error: Exception, inputs: Sequence[Any], attributes: Mapping[str, object], node: RunNode
) -> FornixError:
    """The error to raise for ``error``, one of `REFUSALS`, from the kernel of ``node``."""
    try:
        facts = infer_node(held_facts(inputs, node), attributes, infer_view(node))
    except FornixError as contradiction:
        return contradiction
    except (*REFUSALS, UnknownRank):
        facts = ()
    needs = [_needed(fact) for fact in facts]
    most = max(needs, default=0)
    if most > (GIGABYTE if isinstance(error, MemoryError) else ADDRESSES):
        index = needs.index(most)
        return Fail(
            f"{node.schema.formal_output(index).name} must fit into memory, found "
            f"{facts[index].type} of {most:,} bytes; ask for fewer elements"
        )
    if isinstance(error, MemoryError) or TOO_BIG.search(str(error)):
        return Fail(
            f"memory for what it computes on the way is required, found too little: {error}; "
            "ask for fewer elements"
        )
    return Fail(f"{type(error).__name__}: {error}")


def _needed(fact: Fact) -> int:
    """Bytes of a tensor whose extents are known, else 0."""
    type_ = fact.type
    if not isinstance(type_, TensorType) or type_.dtype is None or type_.shape is None:
        return 0
    elements = known(math.prod(0 if extent is None else extent for extent in type_.shape))
    return (elements or 0) * type_.dtype.numpy.itemsize


def held_facts(inputs: Sequence[Any], node: RunNode) -> list[Fact | None]:
    """What inference is told of the inputs of a run."""
    return [_held_fact(x, node.schema.formal_input(i)) for i, x in enumerate(inputs)]


def _held_fact(value: Any, formal: Formal) -> Fact | None:
    if isinstance(value, np.ndarray):
        type_ = TensorType(DType.of(value.dtype), value.shape)
        return Fact(type_, None, ArrayTensor(value))
    if value is None:
        return None if formal.occurrence is Occurrence.OPTIONAL else Fact()
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return Fact(SequenceType(TensorType(DType.of(value[0].dtype))))
    return Fact()


def infer_view(node: RunNode) -> InferNode:
    """``node`` as its rule of inference sees it."""
    return InferNode(
        operator=node.operator,
        schema=node.schema,
        opset=node.opset,
        wanted=node.wanted,
        infer_body=_no_body,
    )


def _no_body(*_: object, **__: object) -> list[Fact]:
    raise ValidationError("a node without subgraphs has none to infer")
