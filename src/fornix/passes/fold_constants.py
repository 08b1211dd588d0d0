"""Fold what is known ahead of the run into stored tensors.

    0. A Constant node becomes an initializer.
    1. A value whose contents inference knows becomes a constant: shapes computed from static
       extents, sums and products of them, whatever the operators in between.
    2. A node whose inputs are all constant is run once, with its kernel.

Declines random operators, control flow, results larger than `Limits.fold_bytes`, and results that
are much larger than what they are computed from (an Expand of one number is cheaper than a file).
"""

from __future__ import annotations

import numpy as np

from fornix import ops
from fornix.errors import FornixError
from fornix.format.limits import DEFAULT
from fornix.infer import Inference
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.tensor import ArrayTensor
from fornix.ir.types import TensorType
from fornix.ir.walk import graphs
from fornix.ops.call import RunNode, bind_attributes, plain_attributes, run_node
from fornix.ops.fact import Array, Fact, static

GROWTH = 4
"""A folded result may have so many times the bytes of its inputs …"""
FREE_BYTES = 1 << 16
"""… or so many bytes in any case."""


def fold_constants(root: Graph, inference: Inference) -> int:
    """Fold in ``root`` and its subgraphs; returns the number of values that became constants."""
    return sum(
        _fold(node, graph, inference) for graph in list(graphs(root)) for node in graph.nodes
    )


def _fold(node: Node, graph: Graph, inference: Inference) -> int:
    if node.op_type == "Constant" and not node.domain:
        return _unpack(node, graph, inference)
    arrays = _known(node, inference) or _computed(node, inference)
    if arrays is None:
        return 0
    for value, array in zip(node.outputs, arrays, strict=False):
        _store(value, array, graph, node, inference)
    return len(arrays)


def _unpack(node: Node, graph: Graph, inference: Inference) -> int:
    """Turn a Constant node into an initializer, unless the graph gives its result."""
    tensor = node.output.constant
    if tensor is None or node.output.is_output:
        return 0
    name = graph.fresh_name(node.output.name or "constant")
    stored = graph.add_initializer(tensor, name)
    inference.facts[stored] = inference.fact(node.output)
    node.output.replace_all_uses_with(stored)
    return 1


def _known(node: Node, inference: Inference) -> list[Array] | None:
    """The results of ``node`` if inference knows their contents."""
    found = [inference.fact(value).constant for value in node.outputs if not value.is_omitted]
    known = [array for array in found if array is not None]
    return known if known and len(known) == len(node.outputs) else None


def _computed(node: Node, inference: Inference) -> list[Array] | None:
    """The results of ``node`` if its inputs are constants and the result is worth storing."""
    operator = ops.find(node.domain, node.op_type)
    opset = inference.imports.get(node.domain)
    if operator is None or opset is None or node.graphs or not operator.is_deterministic:
        return None
    if (node.domain, node.op_type, node.overload) in inference.functions or not node.inputs:
        return None
    tensors = [None if value is None else value.constant for value in node.inputs]
    if any(v is not None and t is None for v, t in zip(node.inputs, tensors, strict=True)):
        return None
    if not _is_worthwhile(node, sum(t.nbytes for t in tensors if t is not None), inference):
        return None
    schema = operator.schema(opset)
    view = RunNode(
        operator=operator,
        schema=schema,
        opset=opset,
        wanted=tuple(node.wants(index) for index in range(len(node.outputs))),
        run_body=_no_body,
    )
    try:
        attributes = bind_attributes(schema, plain_attributes(node.attributes, {}))
        with np.errstate(all="ignore"):
            results = run_node([t and t.numpy() for t in tensors], attributes, view)
    except (FornixError, ArithmeticError, LookupError, TypeError, ValueError):
        return None  # the node says so when it runs, with its name
    arrays = [result for result in results[: len(node.outputs)] if isinstance(result, np.ndarray)]
    return arrays if len(arrays) == len(node.outputs) else None


def _no_body(*_: object) -> list[object]:
    raise TypeError("a node without subgraphs has none to run")


def _is_worthwhile(node: Node, nbytes: int, inference: Inference) -> bool:
    """Whether the results are known to be small, or not much larger than the inputs."""
    total = 0
    for value in node.outputs:
        fact = inference.fact(value)
        extents = static(fact.shape) if fact.has_rank else None
        if extents is None or fact.dtype is None:
            return False
        total += fact.dtype.nbytes(int(np.prod(extents, dtype=object)))
    return total <= min(max(GROWTH * nbytes, FREE_BYTES), DEFAULT.fold_bytes)


def _store(value: Value, array: Array, graph: Graph, node: Node, inference: Inference) -> None:
    """Make ``array`` the constant that stands for ``value``."""
    if value.is_output:
        _become_constant(node, array, graph, inference)
        return
    name = graph.fresh_name(value.name or node.op_type)
    stored = graph.add_initializer(ArrayTensor(array, name), name)
    inference.facts[stored] = Fact(stored.type, None, stored.tensor)
    value.replace_all_uses_with(stored)


def _become_constant(node: Node, array: Array, graph: Graph, inference: Inference) -> None:
    """Replace a node that gives an output of the graph, which has to stay a node's result."""
    constant = Node("", "Constant", (), 1, {"value": array}, name=node.name)
    graph.insert_before(node, constant)
    inference.facts[constant.output] = Fact(
        TensorType(inference.fact(node.outputs[0]).dtype, array.shape),
        None,
        ArrayTensor(array),
    )
    graph.replace(node, constant.output)
