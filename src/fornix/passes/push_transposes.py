"""Push transposes down the graph where that makes them fewer.

    f(Transpose(x, p), Transpose(y, p)) = Transpose(f(x, y), p)

for what works element by element, or along axes that can be renamed: reductions, Softmax, Concat,
Pad, Slice. A transpose moves through a node only if nobody else reads it, so their number never
grows, and only if it gains something: it takes others along, becomes the identity, or meets another
transpose further down. Merging what meets is `canonicalize`'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.infer import Inference
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.walk import graphs
from fornix.ops.fact import Array
from fornix.passes.apply import Changes, attempt, replace
from fornix.passes.make import Input, Maker

REACH = 16
"""Nodes that a transpose may have to pass before it meets another."""

POINTWISE = frozenset(
    """Abs Acos Acosh Add And Asin Asinh Atan Atanh BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast
    Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid
    HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not
    Or Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish
    Tan Tanh ThresholdedRelu Where Xor""".split()
)
REDUCTIONS = frozenset(
    """ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare""".split()
)
ALONG_AXIS = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
SOFTMAX_OF_ONE_AXIS = 13
"""Before, Softmax flattened its data around the axis."""
BROADCASTING_SINCE = 7
"""Before, operands were aligned by an attribute."""

Perm = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Renamed:
    """What a node becomes when it reads untransposed data, and how to transpose its result."""

    inputs: Sequence[Input]
    attributes: dict[str, Any]
    perm: Perm


def push_transposes(root: Graph, inference: Inference) -> Changes:
    """Push in ``root`` and its subgraphs."""
    changes: Changes = Counter()
    for graph in list(graphs(root)):
        for node in graph.nodes:
            changes.update(_push(node, Maker(node, graph, inference), inference))
    return changes


def _push(node: Node, make: Maker, inference: Inference) -> list[str]:
    """Move the transposes that ``node`` reads behind it, if that gains something."""
    moved = attempt("push_transposes", _moved, node, make)
    if moved is None:
        return []
    result = make.node(node.op_type, tuple(moved.inputs), moved.attributes)
    if not _is_identity(moved.perm):
        result = make.Transpose(result, perm=list(moved.perm))
    replace(node, [result], inference)
    return [f"through {node.op_type}"]


def _moved(node: Node, make: Maker) -> Renamed | None:
    """What ``node`` becomes if transposes move through it; None if they cannot or should not."""
    found = _operands(node, make)
    if found is None:
        return None
    perm, count = found
    renamed = _renamed(node, perm)
    if renamed is None:
        return None
    gains = count > 1 or _is_identity(renamed.perm) or _meets(node, renamed.perm, make)
    return renamed if gains else None


def _is_identity(perm: Perm) -> bool:
    return perm == tuple(range(len(perm)))


def _operands(node: Node, make: Maker) -> tuple[Perm, int] | None:
    """The permutation of the operands of ``node`` and how many transposes that saves, or None."""
    sources = {value for value in _data(node, make) if _perm_of(value) is not None}
    perms = {_perm_of(value) for value in sources}
    perm = perms.pop() if len(perms) == 1 else None
    if perm is None or not all(_is_free(value) for value in sources):
        return None
    others = [value for value in _data(node, make) if value not in sources]
    return (perm, len(sources)) if all(_fits(value, perm, make) for value in others) else None


def _data(node: Node, make: Maker) -> list[Value]:
    """The inputs of ``node`` whose axes it works along; none if it is no node to move through."""
    if node.domain or len(node.outputs) != 1 or node.graphs:
        return []
    if node.op_type in POINTWISE and make.opset < BROADCASTING_SINCE:
        return []
    if node.op_type in ALONG_AXIS and make.opset < SOFTMAX_OF_ONE_AXIS:
        return []
    if node.op_type in POINTWISE or node.op_type == "Concat":
        return [value for value in node.inputs if value is not None]
    if node.op_type in REDUCTIONS or node.op_type in ALONG_AXIS or node.op_type in {"Pad", "Slice"}:
        return [value for value in node.inputs[:1] if value is not None]
    return []


def _perm_of(value: Value) -> Perm | None:
    """The permutation of the Transpose that gives ``value``, if it says one."""
    node = value.producer
    if node is None or node.op_type != "Transpose" or node.domain:
        return None
    perm = node.attr("perm")
    return None if perm is None else tuple(perm)


def _is_free(value: Value) -> bool:
    """Whether one node alone reads ``value``."""
    return len(value.users) == 1 and not value.is_output


def _fits(value: Value, perm: Perm, make: Maker) -> bool:
    """Whether ``value`` is no transpose and yet can stand beside untransposed data."""
    tensor = value.constant
    if tensor is not None:
        return len(tensor.shape) <= len(perm)
    fact = make.fact(value)
    return fact.has_rank and fact.rank == 0


def _meets(node: Node, perm: Perm, make: Maker) -> bool:
    """Whether a transpose behind ``node`` would meet one that it can merge with."""
    for _ in range(REACH):
        value = node.output
        found = [_perm_of(user.outputs[0]) for user in value.users if user.outputs]
        if any(other is not None and _undoes(other, perm) for other in found):
            return True
        if not _is_free(value):
            return False
        if found[0] is not None:
            return True
        node = value.users[0]
        data = _data(node, make)
        others = [other for other in data if other is not value]
        if value not in data or (node.op_type in REDUCTIONS and not node.attr("keepdims", 1)):
            return False
        if any(_perm_of(other) == perm and _is_free(other) for other in others):
            return True
        if not all(_fits(other, perm, make) for other in others):
            return False
    return False


def _undoes(one: Perm, other: Perm) -> bool:
    return [other[axis] for axis in one] == list(range(len(one)))


def _renamed(node: Node, perm: Perm) -> Renamed | None:
    """``node`` on untransposed data, by its kind; None if what it says of axes is not known."""
    attributes: dict[str, Any] = dict(node.attributes)
    if node.op_type in POINTWISE:
        return Renamed([_untransposed(x, perm) for x in node.inputs], attributes, perm)
    if node.op_type in ALONG_AXIS or node.op_type == "Concat":
        attributes["axis"] = perm[node.attr("axis", -1)]
        return Renamed([_untransposed(x, perm) for x in node.inputs], attributes, perm)
    if node.op_type in REDUCTIONS:
        return _renamed_reduction(node, perm, attributes)
    return _renamed_edges(node, perm, attributes)


def _untransposed(value: Value | None, perm: Perm) -> Input:
    """What stands for ``value`` beside untransposed data."""
    if value is None or (value.producer is not None and _perm_of(value) == perm):
        return None if value is None else value.producer.inputs[0]  # type: ignore[union-attr]
    tensor = value.constant
    if tensor is None or int(np.prod(tensor.shape)) == 1:
        return value
    array = tensor.numpy()
    full = array.reshape((1,) * (len(perm) - array.ndim) + array.shape)
    return np.ascontiguousarray(full.transpose(np.argsort(perm)))


def _renamed_reduction(node: Node, perm: Perm, attributes: dict[str, Any]) -> Renamed | None:
    given = _integers(node, 1)
    named = node.attr("axes") if given is None else given.tolist()
    if not named:
        return None
    rank = len(perm)
    axes = [perm[axis] for axis in named]
    inputs: list[Input] = [_untransposed(node.inputs[0], perm)]
    if given is None:
        attributes["axes"] = axes
    else:
        inputs.append(np.array(axes, np.int64))
    if node.attr("keepdims", 1):
        return Renamed(inputs, attributes, perm)
    left = [axis for axis in range(rank) if axis not in axes]
    after = [left.index(perm[axis]) for axis in range(rank) if perm[axis] not in axes]
    return Renamed(inputs, attributes, tuple(after))


def _renamed_edges(node: Node, perm: Perm, attributes: dict[str, Any]) -> Renamed | None:
    """A Pad or Slice whose amounts are inputs, with the axes that they belong to."""
    last = 3  # of both the axes are the fourth input
    is_pad = node.op_type == "Pad"
    amounts = _integers(node, 1)
    if amounts is None or len(node.inputs) < 2:
        return None
    count = len(amounts) // 2 if is_pad else len(amounts)
    axes = np.arange(count) if len(node.inputs) <= last else _integers(node, last)
    if len(node.inputs) > last and node.inputs[last] is None:
        axes = np.arange(count)
    if axes is None:
        return None
    source = np.array(perm)[axes]
    data = _untransposed(node.inputs[0], perm)
    if is_pad and len(node.inputs) <= last:  # so that opsets before 18 can say it
        both = np.zeros((2, len(perm)), np.int64)
        both[:, source] = amounts.reshape(2, -1)
        return Renamed([data, both.reshape(-1), *node.inputs[2:]], attributes, perm)
    inputs = [data, *node.inputs[1:last], *[None] * (last - len(node.inputs))]
    return Renamed([*inputs, source, *node.inputs[last + 1 :]], attributes, perm)


def _integers(node: Node, index: int) -> Array | None:
    """The constant integers of an input, if it is there."""
    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = None if value is None else value.constant
    return None if tensor is None else tensor.numpy().reshape(-1)
