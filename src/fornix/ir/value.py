"""Values: the edges of a graph, which know their producer and their uses.

See `fornix.ir.graph` for the rules that values, nodes and graphs keep together. Methods called
``note_…`` and ``drop_…`` are how nodes and graphs keep a value's books; nobody else calls them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

from fornix.dtype import FLOAT32, INT64, STRING
from fornix.errors import FornixError, GraphError
from fornix.ir.tensor import ArrayTensor, Tensor
from fornix.ir.types import SparseTensorType, TensorType, Type

if TYPE_CHECKING:
    from fornix.ir.graph import Graph
    from fornix.ir.node import Node

# The first IR version in which an initializer that is an input can be fed other data.
IR_OVERRIDABLE = 4


class Use(NamedTuple):
    """One place where a value is read: input ``index`` of ``node``."""

    node: Node
    index: int  # type: ignore[assignment] # tuple.index means nothing here


class Value:
    """An edge of the graph: a name, a type, one producer, many uses.

    ``producer`` and ``index`` say which output of which node it is; without a producer it is an
    input, an initializer or, in a broken model, a name that nothing defines. ``tensor`` is the
    stored data of an initializer.
    """

    __slots__ = (
        "_graph",
        "_listed",
        "_metadata",
        "_name",
        "_type",
        "_uses",
        "doc_string",
        "index",
        "is_input",
        "leftover",
        "producer",
        "tensor",
    )

    def __init__(
        self,
        name: str | None = None,
        type: Type | None = None,  # noqa: A002 - a value's type
        tensor: Tensor | None = None,
        doc_string: str = "",
    ) -> None:
        self._name = name
        self._type = type
        self.tensor = tensor
        self.doc_string = doc_string
        self._metadata: dict[str, str] | None = None
        self.leftover = b""
        self.producer: Node | None = None
        self.index = 0
        self.is_input = False
        self._graph: Graph | None = None  # of a value without producer
        self._uses: dict[tuple[Node, int], None] = {}
        self._listed: dict[Graph, None] | None = None  # the graphs that list it as an output

    @property
    def name(self) -> str:
        """The name; empty while it has none, and for omitted outputs."""
        return self._name or ""

    @name.setter
    def name(self, name: str) -> None:
        graph = self.graph
        if graph is not None:
            graph.note_rename(self, self.name, name)
        self._name = name

    @property
    def type(self) -> Type | None:
        """The type, if known; an initializer has its tensor's unless it was given another."""
        if self._type is None and self.tensor is not None:
            return tensor_type(self.tensor)
        return self._type

    @type.setter  # noqa: A003 - the property just above
    def type(self, type_: Type | None) -> None:
        self._type = type_

    @property
    def declared_type(self) -> Type | None:
        """The type that was given, without looking at stored data."""
        return self._type

    @property
    def graph(self) -> Graph | None:
        """The graph that defines it."""
        return self._graph if self.producer is None else self.producer.graph

    @property
    def uses(self) -> tuple[Use, ...]:
        """Where it is read, in the order in which the uses came about; outputs of graphs aside."""
        return tuple(Use(node, index) for node, index in self._uses)

    @property
    def users(self) -> tuple[Node, ...]:
        """The nodes that read it, each once."""
        return tuple({node: None for node, _ in self._uses})

    @property
    def use_count(self) -> int:
        """Number of uses."""
        return len(self._uses)

    @property
    def is_output(self) -> bool:
        """Whether a graph lists it as an output."""
        return bool(self._listed)

    @property
    def output_of(self) -> tuple[Graph, ...]:
        """The graphs that list it as an output."""
        return tuple(self._listed or ())

    @property
    def is_used(self) -> bool:
        """Whether a node reads it or a graph lists it as an output."""
        return bool(self._uses or self._listed)

    @property
    def is_initializer(self) -> bool:
        """Whether it has stored data, as an initializer."""
        return self._graph is not None and self._graph.holds(self)

    @property
    def is_omitted(self) -> bool:
        """Whether it is an output that its node leaves out."""
        return self._name == "" and self.producer is not None

    @property
    def is_undefined(self) -> bool:
        """Whether nothing defines it: a name that could not be resolved."""
        return self.producer is None and not self.is_input and not self.is_initializer

    @property
    def constant(self) -> Tensor | None:
        """The data that it has in every run, or None.

        Initializers, unless they are inputs that may be fed (IR version 4 and later), and results
        of Constant nodes.
        """
        if self.producer is not None:
            return constant_of(self.producer) if self.producer.op_type == "Constant" else None
        if self.tensor is None or not self.is_input:
            return self.tensor
        model = None if self._graph is None else self._graph.model
        fixed = model is not None and model.ir_version < IR_OVERRIDABLE
        return self.tensor if fixed else None

    @property
    def metadata(self) -> dict[str, str]:
        """Named texts that belong to it."""
        if self._metadata is None:
            self._metadata = {}
        return self._metadata

    @metadata.setter
    def metadata(self, entries: dict[str, str]) -> None:
        self._metadata = entries

    @property
    def has_metadata(self) -> bool:
        """Whether there is any metadata."""
        return bool(self._metadata)

    def replace_all_uses_with(self, other: Value, *, outputs: bool = True) -> None:
        """Let every node read ``other`` instead, and every graph list it as its output.

        A graph keeps the names of its outputs: ``other`` takes this value's name there.
        Raises GraphError, before anything changes, if ``other`` cannot be that output; see
        `can_replace`.
        """
        if other is self:
            return
        if outputs and self._listed:
            if not other.can_replace(self):
                raise GraphError(
                    f"value '{self.name}': as an output of its graph it can be replaced only by "
                    f"another node's result in that graph, found '{other.name}'; put an Identity "
                    "between"
                )
            for graph in self.output_of:
                graph.outputs = tuple(other if x is self else x for x in graph.outputs)
            self.name, other.name = other.name, self.name
        for node, index in tuple(self._uses):
            node.set_input(index, other)

    def can_replace(self, old: Value) -> bool:
        """Whether `replace_all_uses_with` accepts it for ``old``.

        Always if ``old`` is no output of a graph; else if it is the result of a node in that graph
        and not an output already.
        """
        listed = old.output_of
        return not listed or (
            self.producer is not None
            and not self._listed
            and all(graph is self.graph for graph in listed)
        )

    def is_used_by(self, node: Node, index: int) -> bool:
        """Whether input ``index`` of ``node`` counts as a use."""
        return (node, index) in self._uses

    def note_use(self, node: Node, index: int) -> None:
        self._uses[node, index] = None

    def drop_use(self, node: Node, index: int) -> None:
        self._uses.pop((node, index), None)

    def note_owner(self, graph: Graph | None) -> None:
        """Say which graph defines it, if no node does."""
        self._graph = graph

    def note_listed(self, graph: Graph) -> None:
        if self._listed is None:
            self._listed = {}
        self._listed[graph] = None

    def drop_listed(self, graph: Graph) -> None:
        if self._listed is not None:
            self._listed.pop(graph, None)

    @property
    def is_unnamed(self) -> bool:
        """Whether it waits for a fresh name."""
        return self._name is None

    def __reduce__(self) -> NoReturn:
        raise GraphError(
            f"value '{self.name}': what is copied or pickled is the whole graph or model"
        )

    def __repr__(self) -> str:
        return f"<Value {self.name or '_'}: {'?' if self.type is None else self.type}>"


def tensor_type(tensor: Tensor) -> Type | None:
    """The type that stored data has; None if its message is not sound."""
    try:
        dtype, shape = tensor.dtype, tensor.shape
    except FornixError:
        return None
    return (
        SparseTensorType(dtype, shape) if hasattr(tensor, "indices") else TensorType(dtype, shape)
    )


def constant_of(node: Node) -> Tensor | None:
    """What a Constant node gives; None if its attributes do not say, or it is another domain's."""
    if node.domain not in {"", "ai.onnx"}:
        return None
    for attribute in node.attributes.values():
        if attribute.ref is not None or attribute.value is None:
            continue
        if attribute.name in {"value", "sparse_value"}:
            tensor: Tensor = attribute.value
            return tensor
        dtype = _CONSTANT_DTYPES.get(attribute.name)
        if dtype is not None:
            return ArrayTensor(np.array(attribute.value, dtype.numpy))
    return None


# Attributes of Constant that hold plain numbers or strings, and the element type that they give.
_CONSTANT_DTYPES = {
    "value_float": FLOAT32,
    "value_floats": FLOAT32,
    "value_int": INT64,
    "value_ints": INT64,
    "value_string": STRING,
    "value_strings": STRING,
}
