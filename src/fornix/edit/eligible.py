"""Which nodes may compute in a narrower float type, and in which type each of their values stands.

Decides by schema: a type variable that stands for float32 at a node and allows the narrower type
takes it, everything else stays. So what a schema wants in float32 (scales of Resize), stays there.
Nodes that compute extents and places stay too: a half cannot count beyond 2,048.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import Enum

from fornix.dtype import FLOAT32, DType
from fornix.errors import SchemaError
from fornix.infer import Inference
from fornix.ir.graph import Model, Node, Value
from fornix.ir.types import MapType, OptionalType, SequenceType, SparseTensorType, TensorType, Type
from fornix.ops import schema_of
from fornix.ops.schema import Schema

CONTROL = frozenset({"If", "Loop", "Scan"})
"""Operators whose bodies take and give what they do."""
ALWAYS_KEPT = frozenset({"BitCast", "DequantizeLinear", "QuantizeLinear"})
"""Bits have a width; with rounded scales, integers would stand for other numbers."""
DTYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype")
"""Attributes with the element type of the result."""
FILLED = frozenset({"Constant", "ConstantOfShape"})
"""Operators that give what an attribute holds."""
PLACES = frozenset({("Resize", "roi"), ("GridSample", "grid")})
"""Inputs that say where, not what: they stay as precise as they are."""
MAX_COUNTING_RANK = 1
"""Extents and places are computed as scalars and vectors."""


class Wish(Enum):
    """In which type a node wants to read a float32 value."""

    WIDE = "float32"
    NARROW = "the narrower type"
    ANY = "either"


def is_wide(type_: Type | None) -> bool:
    """Whether it is that of a tensor of float32."""
    return isinstance(type_, TensorType) and type_.dtype is FLOAT32


def holds_wide(type_: Type | None) -> bool:
    """Whether float32 is inside of something that no Cast takes."""
    if isinstance(type_, SequenceType | OptionalType):
        return is_wide(type_.elem) or holds_wide(type_.elem)
    if isinstance(type_, SparseTensorType):
        return type_.dtype is FLOAT32
    return isinstance(type_, MapType)


class Eligible:
    """What the nodes of a model make of their float32 values."""

    def __init__(
        self,
        model: Model,
        known: Inference,
        dtype: DType,
        keep_ops: Collection[str],
        keep_nodes: Collection[str],
    ) -> None:
        self.imports = model.opset_imports
        self.functions = model.function_table
        self.known, self.dtype = known, dtype
        self.text = f"tensor({dtype.text})"
        self.keep_ops, self.keep_nodes = keep_ops, keep_nodes
        self._kept: dict[Node, bool] = {}
        self._counting: dict[Node, bool] = {}

    def type(self, value: Value) -> Type | None:
        """What is known of the type of ``value``."""
        found = self.known.facts.get(value)
        return value.type if found is None or found.type is None else found.type

    def is_wide(self, value: Value | None) -> bool:
        """Whether ``value`` is a tensor of float32."""
        return value is not None and is_wide(self.type(value))

    def is_kept(self, node: Node) -> bool:
        """Whether ``node`` computes as it did."""
        found = self._kept.get(node)
        if found is None:
            found = self._kept[node] = self._stays(node) or self._counts(node)
        return found

    def _stays(self, node: Node) -> bool:
        """Whether ``node`` is to compute as it did, or nobody knows how else."""
        owner = node.graph.owner if node.graph else None
        if isinstance(owner, Node) and (self.is_kept(owner) or owner.op_type not in CONTROL):
            return True
        if node.op_type in ALWAYS_KEPT or node.op_type in self.keep_ops:
            return True
        if node.name and node.name in self.keep_nodes:
            return True
        if self._schema(node) is None or (node.graphs and node.op_type not in CONTROL):
            return True
        if node.op_type in CONTROL:
            return False
        values = [v for v in (*node.inputs, *node.outputs) if v is not None and not v.is_omitted]
        types = [self.type(value) for value in values]
        return any(t is None or getattr(t, "dtype", t) is None or holds_wide(t) for t in types)

    def _schema(self, node: Node) -> Schema | None:
        """The schema of ``node``; None for calls of functions and for unknown operators."""
        if (node.domain, node.op_type, node.overload) in self.functions:
            return None
        opset = self.imports.get(node.domain, self.imports.get("ai.onnx", 0))
        try:
            return schema_of(node.domain, node.op_type, opset)
        except SchemaError:
            return None

    def _counts(self, node: Node) -> bool:
        """Whether ``node`` computes extents or places: its float32 results serve nothing else."""
        found = self._counting.get(node)
        if found is None:
            self._counting[node] = False  # of what leads to itself: nothing, in a sound model
            wide = [value for value in node.outputs if self.is_wide(value)]
            found = bool(wide) and not node.graphs and all(map(self._is_count, wide))
            self._counting[node] = found
        return found

    def _is_count(self, value: Value) -> bool:
        shape = getattr(self.type(value), "shape", None)
        if shape is None or len(shape) > MAX_COUNTING_RANK or value.is_output or not value.uses:
            return False
        return all(self._is_counted(use.node, use.index) for use in value.uses)

    def _is_counted(self, node: Node, index: int) -> bool:
        """Whether input ``index`` of ``node`` is turned into integers, or wanted in float32."""
        if node.op_type == "Cast" and index == 0:
            dtype = getattr(self.type(node.output), "dtype", None)
            return dtype is not None and dtype.is_integer
        schema = self._schema(node)
        if schema is not None and schema.formal_input(index).type_text == "tensor(float)":
            return True
        return self._counts(node)

    def wishes(self, node: Node) -> Iterator[tuple[int, Wish]]:
        """Which inputs are float32, and how ``node`` wants to read each."""
        wide = [i for i, value in enumerate(node.inputs) if self.is_wide(value)]
        schema = None if self.is_kept(node) else self._schema(node)
        turned = self._turned(node, schema)
        for i in wide:
            if schema is None:
                yield i, Wish.WIDE
            elif node.op_type in {"Cast", "CastLike"} and i == 0:
                yield i, Wish.ANY
            else:
                is_turned = schema.formal_input(i).type_text in turned
                yield i, Wish.NARROW if is_turned else Wish.WIDE

    def _turned(self, node: Node, schema: Schema | None) -> set[str]:
        """The type variables of ``node`` that take the narrower type."""
        if schema is None:
            return set()
        read = enumerate(node.inputs)
        formals = [schema.formal_input(i) for i, value in read if self.is_wide(value)]
        found = {x.type_text for x in formals if (node.op_type, x.name) not in PLACES}
        if node.op_type in CONTROL:  # of which each input and output has a type of its own
            found |= {schema.formal_output(v.index).type_text for v in node.outputs}
        return {name for name in found if self._allows(schema, name)}

    def _allows(self, schema: Schema, variable: str) -> bool:
        constraint = schema.constraints.get(variable)
        return constraint is not None and self.text in constraint.members

    def narrow_outputs(self, node: Node) -> list[Value]:
        """The results of ``node`` that come in the narrower type when it reads that."""
        schema = None if self.is_kept(node) else self._schema(node)
        if schema is None or node.op_type == "Cast":
            return []
        turned = self._turned(node, schema)
        return [
            value
            for value in node.outputs
            if self.is_wide(value)
            and (
                schema.formal_output(value.index).type_text in turned
                or self._follows(node, schema, value, turned)
            )
        ]

    def _follows(self, node: Node, schema: Schema, value: Value, turned: set[str]) -> bool:
        """Whether a result with a type variable of its own has the type of the first input."""
        variable = schema.formal_output(value.index).type_text
        given = [schema.formal_input(i) for i, x in enumerate(node.inputs) if x is not None]
        is_own = all(formal.type_text != variable for formal in given)
        first = schema.inputs[0].type_text if schema.inputs else ""
        is_wide = bool(node.inputs) and self.is_wide(node.inputs[0])
        return is_own and is_wide and first in turned and self._allows(schema, variable)

    def is_source(self, node: Node) -> bool:
        """Whether ``node`` makes a float32 value of none, which may as well be of the other type.

        Casts do, whatever they read.
        """
        if self.is_kept(node) or node.graphs or not any(map(self.is_wide, node.outputs)):
            return False
        if node.op_type != "Cast" and any(map(self.is_wide, node.inputs)):
            return False
        schema = self._schema(node)
        return (
            schema is not None
            and self._allows(schema, schema.formal_output(0).type_text)
            and (node.op_type in FILLED or self.dtype_attribute(node) is not None)
        )

    def dtype_attribute(self, node: Node) -> str | None:
        """The attribute that says that ``node`` gives float32; None if none does."""
        schema = self._schema(node)
        for name in DTYPE_ATTRIBUTES if schema else ():
            formal = schema.attributes.get(name) if schema else None
            if formal is not None and node.attr(name, formal.default) == FLOAT32.code:
                return name
        return None
