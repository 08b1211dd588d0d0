"""Terms: the values of which derivatives are built, with arithmetic that makes nodes.

``g * x.Cos()`` makes a Cos and a Mul. A `Make` stands at one place of a graph: what it makes goes
there, and what is known of new values is inferred at once, so that rules may ask for shapes. Here
is also what every version of ai.onnx from 12 on spells differently (axes as attribute or input),
so that rules need not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from fornix import ops
from fornix.dtype import BOOL, INT64, DType
from fornix.errors import NotSupported, SchemaError
from fornix.ir.dim import DimLike, known
from fornix.ir.graph import Graph, Node, Value
from fornix.ops.fact import Array, Fact, static

Operand = "Term | Value | Array | float | None"

AXES_AS_INPUT = 13
"""Opset from which ReduceSum takes its axes as an input, which may be computed."""


class Knowledge(Protocol):
    """What is known of the values of a model; `fornix.infer.Inference` is one."""

    @property
    def facts(self) -> dict[Value, Fact]:
        """The facts by value."""

    @property
    def imports(self) -> Mapping[str, int]:
        """Opset imports by domain."""

    def fact(self, value: Value) -> Fact:
        """The fact of ``value``."""

    def update(self, nodes: Iterable[Node]) -> None:
        """Infer the results of new ``nodes``."""


class Term:
    """A value and the place where nodes that read it are made."""

    __slots__ = ("make", "value")

    def __init__(self, value: Value, make: Make) -> None:
        self.value = value
        self.make = make

    def __repr__(self) -> str:
        return f"<Term {self.value.name}: {self.fact}>"

    def __getattr__(self, op_type: str) -> Callable[..., Term]:
        """``x.Where(a, b)`` is ``make.Where(x, a, b)``."""
        make = getattr(self.make, op_type)

        def apply(*others: Any, **attributes: Any) -> Term:
            made: Term = make(self, *others, **attributes)
            return made

        return apply

    @property
    def fact(self) -> Fact:
        """What is known of it."""
        return self.make.knowledge.fact(self.value)

    @property
    def dtype(self) -> DType:
        """Element type; raises NotSupported if inference does not know it."""
        found = self.fact.dtype
        if found is None:
            raise NotSupported(f"the element type of '{self.value.name}' has to be known")
        return found

    @property
    def shape(self) -> tuple[DimLike, ...]:
        """Extents; raises NotSupported if inference does not know how many there are."""
        if not self.fact.has_rank:
            raise NotSupported(
                f"the rank of '{self.value.name}' has to be known; declare its shape"
            )
        return self.fact.shape

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def ints(self) -> list[int] | None:
        """The elements of an integer tensor, if all of them are known."""
        constant = self.fact.constant
        return None if constant is None else [int(x) for x in constant.reshape(-1)]

    def like(self, other: Term) -> Term:
        """It in the element type of ``other``."""
        return self.cast(other.dtype)

    def cast(self, dtype: DType) -> Term:
        """It in element type ``dtype``."""
        return self if self.fact.dtype is dtype else self.make.Cast(self, to=dtype.code)

    def __neg__(self) -> Term:
        return self.make.Neg(self)

    def __add__(self, other: Term | float) -> Term:
        return self.make.Add(self, other)

    def __radd__(self, other: float) -> Term:
        return self.make.Add(other, self)

    def __sub__(self, other: Term | float) -> Term:
        return self.make.Sub(self, other)

    def __rsub__(self, other: float) -> Term:
        return self.make.Sub(other, self)

    def __mul__(self, other: Term | float) -> Term:
        return self.make.Mul(self, other)

    def __rmul__(self, other: float) -> Term:
        return self.make.Mul(other, self)

    def __truediv__(self, other: Term | float) -> Term:
        return self.make.Div(self, other)

    def __rtruediv__(self, other: float) -> Term:
        return self.make.Div(other, self)

    def __pow__(self, other: Term | float) -> Term:
        return self.make.Pow(self, other)

    def __lt__(self, other: Term | float) -> Term:
        return self.make.Less(self, other)

    def __le__(self, other: Term | float) -> Term:
        return self.make.LessOrEqual(self, other)

    def __gt__(self, other: Term | float) -> Term:
        return self.make.Greater(self, other)

    def __ge__(self, other: Term | float) -> Term:
        return self.make.GreaterOrEqual(self, other)


class Make:
    """Makes nodes in ``graph`` ahead of ``anchor``, or at its end."""

    def __init__(
        self, graph: Graph, anchor: Node | None, knowledge: Knowledge, label: str = ""
    ) -> None:
        self.graph = graph
        self.anchor = anchor
        self.knowledge = knowledge
        self.label = label
        """Name that new nodes get."""
        self._constants: dict[tuple[object, ...], Term] = {}

    @property
    def opset(self) -> int:
        """Version of ai.onnx in which nodes are made."""
        imports = self.knowledge.imports
        return imports.get("", imports.get("ai.onnx", 0))

    def term(self, value: Value) -> Term:
        """``value`` as a term."""
        return Term(value, self)

    def __getattr__(self, op_type: str) -> Callable[..., Term]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)

        def make(*inputs: Any, **attributes: Any) -> Term:
            return self.results(op_type, inputs, attributes)[0]

        return make

    def results(
        self,
        op_type: str,
        inputs: Sequence[Any],
        attributes: Mapping[str, Any],
        count: int = 1,
    ) -> tuple[Term, ...]:
        """The ``count`` results of a new node; attributes that are None are left out.

        Numbers among the inputs take the element type of the terms. Raises NotSupported if the
        opset of the model does not have the operator or the attribute.
        """
        given = {name: value for name, value in attributes.items() if value is not None}
        self._check(op_type, given)
        values = [None if x is None else x.value for x in self._terms(inputs)]
        while values and values[-1] is None:
            values.pop()
        node = Node("", op_type, values, count, given, name=self.label)
        self.insert(node)
        return tuple(map(self.term, node.outputs))

    def insert(self, *nodes: Node) -> None:
        """Put ``nodes`` in their place and infer their results."""
        if self.anchor is None:
            self.graph.append(*nodes)
        else:
            self.graph.insert_before(self.anchor, *nodes)
        self.knowledge.update(nodes)

    def _terms(self, inputs: Sequence[Any]) -> list[Term | None]:
        given = [x for x in inputs if isinstance(x, Term)]
        typed = [x for x in given if x.fact.dtype is not BOOL] or given

        def term(x: Any) -> Term | None:
            if x is None or isinstance(x, Term):
                return x
            if isinstance(x, Value):
                return self.term(x)
            return self.constant(x if isinstance(x, np.ndarray) else self._scalar(x, typed[-1]))

        return [term(x) for x in inputs]

    @staticmethod
    def _scalar(x: float, like: Term) -> Array:
        return np.array(x, like.dtype.numpy)

    def _check(self, op_type: str, attributes: Iterable[str]) -> None:
        try:
            schema = ops.schema_of("", op_type, self.opset)
        except SchemaError:
            raise NotSupported(
                f"its gradient needs {op_type}, which ai.onnx opset {self.opset} does not have"
            ) from None
        for name in attributes:
            if name not in schema.attributes:
                raise NotSupported(
                    f"its gradient needs attribute {name} of {op_type}, which ai.onnx opset "
                    f"{self.opset} does not have"
                )

    def constant(self, array: Array) -> Term:
        """``array`` as the result of a Constant node; small equal ones are made once."""
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.Constant(value=array)
        return self._constants[key]

    def ints(self, values: Iterable[int]) -> Term:
        """A one-dimensional int64 tensor."""
        return self.constant(np.array(list(values), np.int64))

    def shape(self, x: Term) -> Term:
        """The extents of ``x`` as a tensor: a constant where they are known."""
        fixed = static(x.fact.shape) if x.fact.has_rank else None
        return self.Shape(x) if fixed is None else self.ints(fixed)

    def extent(self, x: Term, axis: int) -> Term:
        """The extent of one axis as a tensor of one element."""
        fixed = known(x.shape[axis])
        if fixed is not None:
            return self.ints([fixed])
        return self.Gather(self.Shape(x), self.ints([axis % x.rank]))

    def count(self, x: Term, axes: Iterable[int] | None = None) -> Term:
        """Number of elements along ``axes``, all of them for None, as a scalar like ``x``."""
        if axes is None:
            return self.Size(x).like(x)
        sizes = self.Gather(self.shape(x), self.ints(axes))
        return self.along("ReduceProd", sizes, [0], keepdims=False).like(x)

    def joined(self, parts: Iterable[int | Term]) -> Term:
        """Extents put together: numbers, and tensors of one axis."""
        terms = [self.ints([part]) if isinstance(part, int) else part for part in parts]
        known_parts = [term.ints for term in terms]
        numbers = [n for part in known_parts if part is not None for n in part]
        if None not in known_parts:
            return self.ints(numbers)
        return self.Concat(*terms, axis=0)

    def reshape(self, x: Term, shape: Term | Iterable[int | Term]) -> Term:
        """``x`` in another shape."""
        return self.Reshape(x, shape if isinstance(shape, Term) else self.joined(shape))

    def shaped(self, x: Term, like: Term) -> Term:
        """``x`` in the shape of ``like``."""
        if has_shape_of(x, like):
            return x
        return self.Reshape(x, self.shape(like))

    def full(self, number: float, like: Term) -> Term:
        """A tensor of one number, with type and shape of ``like``."""
        return self.Expand(self.constant(self._scalar(number, like)), self.shape(like))

    def zeros(self, like: Term) -> Term:
        """Zeros with type and shape of ``like``."""
        return self.full(0, like)

    def expand(self, x: Term, like: Term) -> Term:
        """``x`` broadcast to the shape of ``like``."""
        return x if has_shape_of(x, like) else self.Expand(x, self.shape(like))

    def along(
        self, op_type: str, x: Term, axes: Iterable[int], *, keepdims: bool | None = True
    ) -> Term:
        """A reduction, Squeeze or Unsqueeze over known ``axes``; these two without keepdims."""
        named = list(axes)
        keeps = None if keepdims is None else int(keepdims)
        if not named:
            return x
        if "axes" in ops.schema_of("", op_type, self.opset).attributes:
            return self.results(op_type, [x], {"axes": named, "keepdims": keeps})[0]
        return self.results(op_type, [x, self.ints(named)], {"keepdims": keeps})[0]

    def sum(self, x: Term, axes: Iterable[int], *, keepdims: bool = True) -> Term:
        """Sum over ``axes``."""
        return self.along("ReduceSum", x, axes, keepdims=keepdims)

    def mean(self, x: Term, axes: Iterable[int]) -> Term:
        """Mean over ``axes``, which stay with extent 1."""
        return self.along("ReduceMean", x, axes)

    def unsqueeze(self, x: Term, axes: Iterable[int]) -> Term:
        """``x`` with new axes of extent 1."""
        return self.along("Unsqueeze", x, axes, keepdims=None)

    def squeeze(self, x: Term, axes: Iterable[int]) -> Term:
        """``x`` without these axes of extent 1."""
        return self.along("Squeeze", x, axes, keepdims=None)

    def swapped(self, x: Term) -> Term:
        """``x`` with its last two axes exchanged."""
        *lead, rows, columns = range(x.rank)
        return self.Transpose(x, perm=[*lead, columns, rows])

    def positions(self, x: Term) -> Term:
        """The place of every element of ``x`` in row-major order: int64 of the shape of ``x``."""
        zero, one = (self.constant(np.array(n, np.int64)) for n in (0, 1))
        return self.Reshape(self.Range(zero, self.Size(x), one), self.shape(x))

    def scattered(self, g: Term, places: Term, like: Term) -> Term:
        """``g`` added up at the row-major ``places`` of a tensor like ``like``."""
        flat = self.full_vector(like)
        added = self.ScatterElements(
            flat, self.reshape(places, [-1]), self.reshape(g, [-1]), axis=0, reduction="add"
        )
        return self.Reshape(added, self.shape(like))

    def full_vector(self, like: Term) -> Term:
        """As many zeros as ``like`` has elements, in one axis."""
        size = self.Reshape(self.Size(like), self.ints([1]))
        return self.Expand(self.constant(self._scalar(0, like)), size)

    def sum_to(self, g: Term, x: Term) -> Term:
        """``g`` summed over the axes along which ``x`` was broadcast to its shape."""
        if has_shape_of(g, x):
            return g
        axes = _broadcast_axes(g.fact, x.fact)
        if axes is None:
            return self._sum_to_computed(g, x)
        lead = g.rank - x.rank
        kept = self.sum(g, [axis for axis in axes if axis >= lead])
        return self.sum(kept, range(lead), keepdims=False)

    def _sum_to_computed(self, g: Term, x: Term) -> Term:
        """`sum_to` where only a run knows which axes have extent 1."""
        if self.opset < AXES_AS_INPUT:
            raise NotSupported(
                "which inputs are broadcast has to be known before a run, as ReduceSum of ai.onnx "
                f"opset {self.opset} has fixed axes; declare shapes or convert to opset 13"
            )
        given, wanted = self.Shape(g), self.Shape(x)
        missing = self.Sub(self.Size(given), self.Size(wanted))
        ones = self.Expand(self.ints([1]), self.Reshape(missing, self.ints([1])))
        padded = self.Concat(ones, wanted, axis=0)
        axes = self.Reshape(self.NonZero(padded.Equal(self.ints([1]))), self.ints([-1]))
        total = self.results("ReduceSum", [g, axes], {"noop_with_empty_axes": 1})[0]
        return self.Reshape(total, wanted)


def has_shape_of(x: Term, other: Term) -> bool:
    """Whether both are known to have one shape."""
    return x.fact.has_rank and other.fact.has_rank and x.shape == other.shape


def _broadcast_axes(g: Fact, x: Fact) -> list[int] | None:
    """The axes of ``g`` along which ``x`` was broadcast, or None where that is not known."""
    if not g.has_rank or not x.has_rank:
        return None
    lead = g.rank - x.rank
    axes = list(range(lead))
    for axis, (wide, narrow) in enumerate(zip(g.shape[lead:], x.shape, strict=True), lead):
        if wide == narrow:
            continue
        if narrow != 1:
            return None
        axes.append(axis)
    return axes


__all__ = ["INT64", "Knowledge", "Make", "Term", "has_shape_of"]
