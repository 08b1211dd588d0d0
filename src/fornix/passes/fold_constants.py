"""Fold what is known ahead of the run into stored tensors.

    0. A Constant node becomes an initializer.
    1. A value whose contents inference knows becomes a constant: shapes computed from static
       extents, sums and products of them, whatever the operators in between.
    2. What has no elements, as an input of the graph or stored data have none, is a constant, too.
    3. A node whose inputs are all constant is run once, with its kernel.

Declines random operators, control flow, results larger than `Limits.fold_bytes`, and results that
are much larger than what they are computed from (an Expand of one number is cheaper than a file).
A large table of integers that rows are gathered from stays, which are dequantized as they are.
A large tensor that others read too is not transposed ahead, as the table of an embedding that the
last product shares: it would be stored twice, and kernels pack it as they want it in any case.
All results together may add no more than `TOTAL_GROWTH` of what the model stores already, or
`FREE_TOTAL` bytes. A result that is too large to be stored is still computed, for the nodes that
read it: what they make of it may be small, as the last layer of a network over fixed positions is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fornix import ops
from fornix.errors import FornixError
from fornix.format.limits import DEFAULT
from fornix.infer import Inference
from fornix.ir.attribute import plain_attributes
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.types import TensorType, Type
from fornix.ir.walk import graphs
from fornix.ops.call import REFUSALS, UNTIMED, RunNode, bind_attributes, run_node
from fornix.ops.fact import Array, static
from fornix.ops.op import Operator
from fornix.passes.apply import Changes, replace, sweep
from fornix.passes.make import Maker

GROWTH = 4
"""A folded result may have so many times the bytes of its inputs …"""
FREE_BYTES = 1 << 16
"""… or so many bytes in any case."""


TOTAL_GROWTH = 1
"""Folding may add so many times the bytes that a model stores …"""
FREE_TOTAL = 1 << 24
"""… or so many bytes in any case."""


AHEAD = 1 << 25
"""Bytes of results that are not stored, but computed for who reads them."""


ROUNDED_ONCE = frozenset({
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Erf", "Exp", "Log", "Pow",
    "Sigmoid", "Sin", "Sinh", "Softplus", "Tan", "Tanh",
})  # fmt: skip
"""Functions that float32 has to a few ulp only, which 1 - Exp(x) makes many of for small x."""


@dataclass
class Budget:
    """Bytes that folding may still add to a model, and what is computed without being stored."""

    left: int
    ahead: dict[Value, Ahead] = field(default_factory=dict)
    ahead_left: int = AHEAD

    @classmethod
    def of(cls, root: Graph) -> Budget:
        """What the model around ``root`` may grow by."""
        held = sum(
            _size(value.type) for graph in graphs(root) for value in graph.initializer_values
        )
        return cls(max(TOTAL_GROWTH * held, FREE_TOTAL))


@dataclass(frozen=True)
class Ahead:
    """A result that no initializer holds."""

    array: Array
    roots: int
    """Bytes of the stored tensors that it is computed from."""


def fold_constants(root: Graph, inference: Inference) -> Changes:
    """Fold in ``root`` and its subgraphs."""
    budget = Budget.of(root)
    changes: Changes = Counter()
    for graph in list(graphs(root)):
        for node in graph.nodes:
            changes.update(_fold(node, graph, inference, budget))
    return changes


def _fold(node: Node, graph: Graph, inference: Inference, budget: Budget) -> list[str]:
    """What was done to ``node``, if anything."""
    if node.op_type == "Constant" and not node.domain:
        return _unpack(node, graph, inference)
    arrays, what = _known(node, inference), "known value"
    if arrays is None:
        arrays, what = _empty(node, inference), "nothing"
    if arrays is None:
        arrays, what = _computed(node, inference, budget), "computed node"
    if arrays is None:
        return []
    make = Maker(node, graph, inference)
    results = [
        _constant(value, array, make) for value, array in zip(node.outputs, arrays, strict=True)
    ]
    replace(node, results, inference)
    return [what]


def _constant(old: Value, array: Array, make: Maker) -> Value:
    """A constant that may stand for ``old``: an output of a graph stays the result of a node."""
    return make.Constant(value=array) if old.is_output else make.value(array)


def _unpack(node: Node, graph: Graph, inference: Inference) -> list[str]:
    """Turn a Constant node into an initializer, unless the graph gives its result."""
    tensor = node.output.constant
    if tensor is None or node.output.is_output or not node.output.is_used:
        return []
    name = graph.fresh_name(node.output.name or "constant")
    stored = graph.add_initializer(tensor, name)
    inference.facts[stored] = inference.fact(node.output)
    node.output.replace_all_uses_with(stored)
    sweep([node.output])
    return ["Constant node"]


def _known(node: Node, inference: Inference) -> list[Array] | None:
    """The results of ``node`` if inference knows their contents."""
    found = [inference.fact(value).constant for value in node.outputs if not value.is_omitted]
    known = [array for array in found if array is not None]
    return known if known and len(known) == len(node.outputs) else None


def _empty(node: Node, inference: Inference) -> list[Array] | None:
    """The results of ``node`` if they are as empty as an input of it and it refuses nothing.

    What others compute may have been declared so by mistake, and what is not known may not fit:
    a run tells.
    """
    found = [_nothing(value, inference) for value in node.outputs]
    made = [array for array in found if array is not None]
    operator, opset = ops.find(node.domain, node.op_type), inference.imports.get(node.domain)
    if operator is None or opset is None or node.graphs or len(made) < len(found):
        return None
    given = [None if value is None else _stored(value, inference) for value in node.inputs]
    known = [array for array in given if array is not None]
    if len(known) < sum(value is not None for value in node.inputs):
        return None
    is_empty = any(array.size == 0 for array in known)
    return made if is_empty and _run(node, operator, opset, given) is not None else None


def _stored(value: Value, inference: Inference) -> Array | None:
    """The contents of ``value`` if it is a constant, or an input of the graph without elements."""
    if value.constant is not None:
        return value.constant.numpy()
    return None if value.producer is not None else _nothing(value, inference)


def _nothing(value: Value, inference: Inference) -> Array | None:
    """The contents of ``value`` if it has no elements, whatever is fed."""
    fact = inference.fact(value)
    if not isinstance(fact.type, TensorType) or not fact.has_rank or fact.dtype is None:
        return None
    extents = static(fact.shape)
    return None if extents is None or 0 not in extents else np.empty(extents, fact.dtype.numpy)


def _computed(node: Node, inference: Inference, budget: Budget) -> list[Array] | None:
    """The results of ``node`` if its inputs are constants and the result is worth storing."""
    operator = ops.find(node.domain, node.op_type)
    opset = inference.imports.get(node.domain)
    if operator is None or opset is None or node.graphs or not operator.is_deterministic:
        return None
    is_untimed = (operator.domain, operator.name) in UNTIMED
    if (
        is_untimed
        or (node.domain, node.op_type, node.overload) in inference.functions
        or not any(node.inputs)
    ):
        return None  # without inputs it is a constant already, or draws numbers
    if any(v is not None and v.constant is None and v not in budget.ahead for v in node.inputs):
        return None
    total = _total(node, inference)
    if total is None or total > DEFAULT.fold_bytes:
        return None
    roots = _roots(node, budget)
    is_stored = total <= FREE_BYTES or (total <= GROWTH * roots and not is_looked_up(node))
    growth = total - _freed(node)
    if is_stored and node.op_type == "Transpose" and growth > FREE_BYTES:
        return None
    if (growth > budget.left) if is_stored else (total > budget.ahead_left):
        return None
    given = [None if value is None else _given(value, budget) for value in node.inputs]
    arrays = _run(node, operator, opset, given)
    if arrays is None or is_stored:
        budget.left -= 0 if arrays is None else growth
        return arrays
    budget.ahead_left -= total
    budget.ahead |= {v: Ahead(x, roots) for v, x in zip(node.outputs, arrays, strict=True)}
    return None


def is_looked_up(node: Node) -> bool:
    """Whether integers are dequantized of which nobody reads more than some rows."""
    if node.op_type != "DequantizeLinear" or node.output.is_output:
        return False
    return all(use.node.op_type == "Gather" for use in node.output.uses)


def _given(value: Value, budget: Budget) -> Array | None:
    """The contents of ``value`` if they are stored or computed."""
    tensor, ahead = value.constant, budget.ahead.get(value)
    if ahead is not None:
        return ahead.array
    return None if tensor is None else tensor.numpy()


def _run(
    node: Node, operator: Operator, opset: int, given: Sequence[Array | None]
) -> list[Array] | None:
    """What ``node`` makes of ``given``; None if it refuses, or gives no tensors."""
    schema = operator.schema(opset)
    view = RunNode(
        operator=operator,
        schema=schema,
        opset=opset,
        wanted=tuple(node.wants(index) for index in range(len(node.outputs))),
        run_body=_no_body,
    )
    is_widened = node.op_type in ROUNDED_ONCE and all(
        array is not None and array.dtype == np.float32 for array in given
    )
    wide = [x.astype(np.float64) for x in given if x is not None] if is_widened else list(given)
    try:
        attributes = bind_attributes(schema, plain_attributes(node.attributes, {}))
        with np.errstate(all="ignore"):
            results = run_node(wide, attributes, view)
            if is_widened:
                results = tuple(np.asarray(result, np.float32) for result in results)
    except (FornixError, *REFUSALS):
        return None  # the node says so when it runs, with its name
    arrays = [result for result in results[: len(node.outputs)] if isinstance(result, np.ndarray)]
    return arrays if len(arrays) == len(node.outputs) else None


def _no_body(*_: object) -> list[object]:
    raise TypeError("a node without subgraphs has none to run")


def _total(node: Node, inference: Inference) -> int | None:
    """Bytes of the results of ``node``; None if that is open."""
    facts = [inference.fact(value) for value in node.outputs]
    if any(f.dtype is None or not f.has_rank or static(f.shape) is None for f in facts):
        return None
    return sum(_size(fact.type) for fact in facts)


def _roots(node: Node, budget: Budget) -> int:
    """Bytes of the stored tensors that ``node`` computes its results from."""
    sizes = {
        value: budget.ahead[value].roots if value in budget.ahead else _size(value.type)
        for value in node.inputs
        if value is not None
    }
    return sum(sizes.values())


def _freed(node: Node) -> int:
    """Bytes of stored tensors that nobody but ``node`` reads."""
    given = {value for value in node.inputs if value is not None and value.constant is not None}
    return sum(_size(value.type) for value in given if value.use_count == 1)


def _size(type_: Type | None) -> int:
    """Bytes of a tensor of static shape; 0 for all else, and for text."""
    if not isinstance(type_, TensorType) or type_.dtype is None or type_.shape is None:
        return 0
    extents = static(extent for extent in type_.shape if extent is not None)
    if extents is None or len(extents) != len(type_.shape):
        return 0
    return type_.dtype.nbytes(math.prod(extents))
