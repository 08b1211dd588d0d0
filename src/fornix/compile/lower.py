"""Nodes to loop tensors, one at a time or a group of them as one.

Decides what a value is to the lowerings that read it: a number, a table or an argument in memory,
or the function of its indices that another lowering gave. What belongs together is `partition`'s
business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fornix import ops
from fornix.compile.blocked import blocked_buffer
from fornix.compile.emptiness import fills
from fornix.dtype import DType
from fornix.errors import FornixError
from fornix.infer import Inference
from fornix.ir.attribute import plain_attributes
from fornix.ir.dim import Dim, DimLike
from fornix.ir.graph import Node, Value
from fornix.ir.loops import Buffer, Constant, Scalar, Tensor, compute, const, constant, stored
from fornix.ir.types import TensorType, Type
from fornix.ops.call import LOWERED_KINDS, LowerNode, NotLowered, bind_attributes, lower_node
from fornix.ops.fact import Fact
from fornix.ops.geometry import may_equal
from fornix.ops.schema import Schema

if TYPE_CHECKING:
    from fornix.compile.layout import Layouts
    from fornix.compile.units import CompiledUnit

RULE_ERRORS = (FornixError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a rule raises on a node that it does not expect."""


@dataclass(frozen=True)
class LoweredUnit:
    """A unit as computations of buffers."""

    arguments: Mapping[Buffer, Value]
    """Buffers that hold what the unit reads, stored data included."""
    results: Mapping[Buffer, Value]
    """Buffers that the unit fills, with the values that they stand for."""
    outputs: tuple[Tensor, ...]


class Lowering:
    """Lowers nodes of one graph, by what inference knows of it and the symbols that runs bind."""

    def __init__(self, inference: Inference, symbols: Iterable[str]) -> None:
        self.inference = inference
        self.symbols = frozenset(symbols)
        self.unread: frozenset[Value] = frozenset()
        """Stored numbers that code finds in memory, so that it is the same whatever they are."""

    def schema(self, node: Node) -> tuple[Schema, int]:
        """The schema of ``node`` and the opset that the model imports for it."""
        imports = self.inference.imports
        opset = imports.get(node.domain, 0 if node.domain else imports.get("ai.onnx", 0))
        return ops.schema_of(node.domain, node.op_type, opset), opset

    def check(self, node: Node) -> None:
        """Raise NotLowered if ``node`` cannot be lowered, whatever its rule says."""
        if (node.domain, node.op_type, node.overload) in self.inference.functions:
            raise NotLowered("calls of model functions run node by node")
        if node.graphs:
            raise NotLowered("control flow decides at run time what runs")
        for value in (*node.inputs, *node.outputs):
            if value is None or value.is_omitted:
                continue
            if 0 in self.shape(value) and value.producer is node and not fills(node):
                raise NotLowered(f"'{value.name}' has no elements")

    def shape(self, value: Value) -> tuple[DimLike, ...]:
        """The extents of ``value``; raises NotLowered if one is not known before a run."""
        type_ = self.inference.fact(value).type
        dtype = type_.dtype if isinstance(type_, TensorType) else None
        if not isinstance(type_, TensorType) or dtype is None or dtype.kind not in LOWERED_KINDS:
            found = "one of unknown type" if type_ is None else type_
            raise NotLowered(f"loops hold tensors of numbers and bools, '{value.name}' is {found}")
        if type_.shape is None:
            raise NotLowered(f"the rank of '{value.name}' is known at run time only")
        for extent in type_.shape:
            if isinstance(extent, Dim) and (extent.unknowns or extent.symbols - self.symbols):
                why = next(iter(extent.unknowns), f"no input says what {extent} is")
                raise NotLowered(f"an extent of '{value.name}' is known at run time only: {why}")
        return tuple(extent for extent in type_.shape if extent is not None)

    def tensors(self, node: Node, inputs: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """The outputs of ``node`` on ``inputs``; raises NotLowered if it has to run its kernel.

        Every output has the type that inference gave it.
        """
        schema, opset = self.schema(node)
        view = LowerNode(
            operator=ops.operator_of(schema),
            schema=schema,
            opset=opset,
            wanted=tuple(node.wants(index) for index in range(len(node.outputs))),
            output_types=tuple(
                None if value.is_omitted else self.inference.fact(value).type
                for value in node.outputs
            ),
            facts=tuple(None if v is None else self._fact(v) for v in node.inputs),
        )
        try:
            attributes = bind_attributes(schema, plain_attributes(node.attributes, {}))
            results = lower_node(inputs, attributes, view)
        except RULE_ERRORS as error:
            raise NotLowered(f"{type(error).__name__}: {error}") from error
        outputs = zip(node.outputs, view.output_types, results, strict=True)
        return tuple(
            _as_inferred(result, type_) if value.is_used else result
            for value, type_, result in outputs
        )

    def _fact(self, value: Value) -> Fact:
        """What rules are told of ``value``; of what code finds in memory, its type alone."""
        fact = self.inference.fact(value)
        return Fact(fact.type) if value in self.unread else fact

    def argument(self, value: Value, lanes: int = 1) -> Tensor:
        """``value`` as others read it: a number, stored data, or memory that is filled before."""
        tensor = value.constant
        if tensor is None:
            return self.memory(value, lanes)
        array = tensor.numpy()
        if array.size == 1 and value not in self.unread:
            return number(array.reshape(-1)[0].item(), constant(array))
        return constant(array, value.name or "constant")

    def memory(self, value: Value, lanes: int = 1) -> Tensor:
        """``value`` in memory that is filled before, with ``lanes`` channels in a block."""
        shape, dtype = self.shape(value), self.inference.fact(value).dtype
        if dtype is None:
            raise NotLowered(f"the element type of '{value.name}' is not known")
        return Tensor(shape, dtype, buffer=_memory(value.name or "input", shape, dtype, lanes))

    def unit(self, unit: CompiledUnit, layouts: Layouts | None = None) -> LoweredUnit:
        """The nodes of ``unit`` as one: each reads the tensors of those before it.

        ``layouts`` says how many channels lie together in what is read and written; 1 if nothing.
        """
        blocks = layouts or {}
        tensors = {value: self.argument(value, blocks.get(value, 1)) for value in unit.inputs}
        arguments = {x.buffer: value for value, x in tensors.items() if x.buffer is not None}
        for node in unit.nodes:
            inputs = [
                None if v is None else tensors.get(v) or self.argument(v) for v in node.inputs
            ]
            results = zip(node.outputs, self.tensors(node, inputs), strict=True)
            tensors.update({value: x for value, x in results if x is not None})
        outputs = [
            _filled(tensors[value], value.name or "output", blocks.get(value, 1))
            for value in unit.outputs
        ]
        buffers = [x.buffer for x in outputs if x.buffer is not None]
        return LoweredUnit(arguments, dict(zip(buffers, unit.outputs, strict=True)), tuple(outputs))


def _as_inferred(result: Tensor | None, type_: Type | None) -> Tensor:
    """``result`` with the extents of ``type_``: inference may know more, and runs verify it.

    Rules know what extents are called, not which of them have to be equal for a node to be valid.
    Raises NotLowered where the two contradict each other.
    """
    if isinstance(type_, TensorType) and result is not None and type_.dtype is result.dtype:
        shape = tuple(extent for extent in type_.shape or () if extent is not None)
        if shape == result.shape:
            return result
        if len(shape) == result.rank and all(map(may_equal, shape, result.shape)):
            return compute(shape, lambda *place: result[place], result.dtype)
    raise NotLowered(f"its lowering gives {result}, inference {type_}")


def number(value: float, like: Tensor) -> Tensor:
    """A tensor of the type of ``like`` whose elements are all ``value``."""

    def at(*_: DimLike) -> Scalar:
        return const(value, like.dtype)

    return compute(like.shape, at, like.dtype)


def _memory(name: str, shape: Sequence[DimLike], dtype: DType, lanes: int) -> Buffer:
    if lanes == 1:
        return Buffer(name, shape, dtype)
    return blocked_buffer(name, shape, dtype, lanes)


def _filled(x: Tensor, name: str, lanes: int) -> Tensor:
    """``x`` in memory that a computation fills: what lies elsewhere, or otherwise, is copied."""
    source = x
    is_filled = x.buffer is not None and x.buffer.source is not None
    if x.buffer is not None and (
        not is_filled or isinstance(x.buffer.source, Constant) or lanes > 1
    ):
        x = Tensor(source.shape, source.dtype, lambda *place: source[place])
    if lanes == 1:
        return stored(x, name)
    return stored(x, name, _memory(name, x.shape, x.dtype, lanes))
