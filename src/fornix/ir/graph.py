"""The graph IR: models that can be walked, checked and changed.

A `Model` has a graph and functions; a `Graph` has inputs, outputs, initializers and nodes; a `Node`
applies an operator to values; a `Value` knows its one producer and its many uses. Collections are
read as tuples and mappings and changed through methods and setters of their owner, which keep uses,
producers and ownership in agreement:

* `Value.uses` has exactly the nodes that stand in a graph; a node that was made but not inserted,
  or was removed, leaves no trace there. Nodes of subgraphs count like all others.
* A value made without a name is given a fresh one when its node or graph takes it in. An output
  with the empty name is omitted: the operator does not compute it.
* Names are for reading and writing; two values may be called alike, and one may be undefined, so
  that broken models can be loaded and repaired. `fornix.ir.verify` finds what is broken.

What messages say and this IR does not model stays with each object as ``leftover``, serialized
(see `fornix.ir.load`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.errors import GraphError
from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.chain import NodeChain
from fornix.ir.names import NameGiver
from fornix.ir.nesting import check_unused, inner_graphs, own_values
from fornix.ir.node import Node
from fornix.ir.tensor import Tensor
from fornix.ir.value import Use, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Attribute", "AttributeKind", "Function", "Graph", "Model", "Node", "Use", "Value"]

# What a model made here declares unless told otherwise; the newest IR version of the standard.
LATEST_IR_VERSION = 14


class Graph:
    """Inputs, outputs, initializers and nodes; ``owner`` is the model, function or node it is in.

    ``declared`` and ``alternates`` remember how the message listed types of values: the order of
    its value_info, and further declarations of values that it lists more than once.
    """

    __slots__ = (
        "_by_name",
        "_initializers",
        "_inputs",
        "_names",
        "_outputs",
        "alternates",
        "declared",
        "doc_string",
        "leftover",
        "metadata",
        "name",
        "nodes",
        "owner",
    )

    def __init__(
        self,
        name: str = "",
        inputs: Iterable[Value] = (),
        outputs: Iterable[Value] = (),
        nodes: Iterable[Node] = (),
    ) -> None:
        self.name = name
        self.doc_string = ""
        self.metadata: dict[str, str] = {}
        self.leftover = b""
        self.declared: list[Value | bytes] = []
        self.alternates: dict[Value, list[bytes | None]] = {}
        self.owner: Model | Function | Node | None = None
        self.nodes = NodeChain()
        self._inputs: tuple[Value, ...] = ()
        self._outputs: tuple[Value, ...] = ()
        self._initializers: dict[Value, None] = {}
        self._by_name: dict[str, Value] | None = None
        self._names: NameGiver | None = None  # of a root, once somebody asked for a name
        self.inputs = tuple(inputs)
        self.append(*nodes)
        self.outputs = tuple(outputs)

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The values that whoever runs the graph supplies."""
        return self._inputs

    @inputs.setter
    def inputs(self, values: Iterable[Value]) -> None:
        """Raises GraphError if a value that goes is in use, or one that comes belongs elsewhere."""
        new = tuple(values)
        for value in new:
            self._check_free(value)
        staying = {*new, *self._initializers}
        for value in self._inputs:
            if value not in staying and value.is_used:
                raise GraphError(f"{self.label}: input '{value.name}' is in use and has to stay")
        for value in self._inputs:
            value.is_input = False
            if value not in self._initializers:
                value.note_owner(None)
        self._inputs = new
        for value in new:
            value.is_input = True
            self._take(value)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The values that it gives back."""
        return self._outputs

    @outputs.setter
    def outputs(self, values: Iterable[Value]) -> None:
        live = self.is_live
        for value in self._outputs:
            value.drop_listed(self)
        self._outputs = tuple(values)
        for value in self._outputs:
            if live or value.graph is self:
                value.note_listed(self)

    @property
    def initializers(self) -> Mapping[str, Value]:
        """The values with stored data by name, in order; of several alike, the last."""
        if self._by_name is None:
            self._by_name = {value.name: value for value in self._initializers}
        return self._by_name

    @property
    def initializer_values(self) -> tuple[Value, ...]:
        """The values with stored data, those with the same name too."""
        return tuple(self._initializers)

    def holds(self, value: Value) -> bool:
        """Whether ``value`` is an initializer of this graph."""
        return value in self._initializers

    def defines(self, value: Value) -> bool:
        """Whether ``value`` is an input, an initializer or a node's result here."""
        return value.graph is self and not value.is_undefined

    def add_initializer(self, value: Value | Tensor, name: str | None = None) -> Value:
        """Store a value that has a tensor, or a tensor as a new value, and give the value back.

        Raises GraphError if the value has no tensor or belongs elsewhere.
        """
        if not isinstance(value, Value):
            value = Value(name or value.name or None, tensor=value)
        if value.tensor is None:
            raise GraphError(f"{self.label}: initializer '{value.name}' needs a tensor, found none")
        self._check_free(value)
        self._initializers[value] = None
        self._take(value)
        return value

    def remove_initializer(self, value: Value) -> None:
        """Forget the stored data of ``value``; raises GraphError if it is in use and no input."""
        if value not in self._initializers:
            raise GraphError(f"{self.label}: an initializer is required, found '{value.name}'")
        if value.is_used and not value.is_input:
            raise GraphError(f"{self.label}: initializer '{value.name}' is in use and has to stay")
        del self._initializers[value]
        self._by_name = None
        value.tensor = None
        if not value.is_input:
            value.note_owner(None)

    def add_undefined(self, name: str) -> Value:
        """A value called ``name`` that nothing defines, for loading broken models."""
        value = Value(name)
        value.note_owner(self)
        return value

    def append(self, *nodes: Node) -> None:
        """Put ``nodes`` at the end; raises GraphError for a node that is in a graph already."""
        for node in nodes:
            self._insert(node, None)

    def insert_before(self, anchor: Node, *nodes: Node) -> None:
        """Put ``nodes`` ahead of ``anchor``, in their order."""
        self._check_mine(anchor)
        for node in nodes:
            self._insert(node, anchor)

    def insert_after(self, anchor: Node, *nodes: Node) -> None:
        """Put ``nodes`` behind ``anchor``, in their order."""
        self._check_mine(anchor)
        follower = self.nodes.follower(anchor)
        for node in nodes:
            self._insert(node, follower)

    def adopt(self, node: Node) -> None:
        """Put ``node`` at the end without a look at names, which stay as they are: for loading."""
        if node.graph is not None:
            raise GraphError(f"{node.label}: a node in no graph is required, found it in one")
        self.nodes.insert(node, None)
        node.graph = self
        if self.is_live:
            node.attach()

    def remove(self, *nodes: Node) -> None:
        """Take ``nodes`` out; they keep inputs and outputs, and may be inserted again.

        Raises GraphError, before anything changes, if what they compute is still used elsewhere.
        """
        going = dict.fromkeys(nodes)
        for node in going:
            self._check_mine(node)
            for value in node.outputs:
                check_unused(value, going)
        for node in going:
            self._forget_names(node)
            node.detach()
            self.nodes.unlink(node)
            node.graph = None

    def replace(self, node: Node, *values: Value) -> None:
        """Let ``values`` stand for the outputs of ``node`` everywhere, and remove it.

        Raises GraphError, before anything changes, where `Value.replace_all_uses_with` does, and if
        an output without a replacement is in use.
        """
        self._check_mine(node)
        for old, new in zip(node.outputs, values, strict=False):
            if not new.can_replace(old):
                old.replace_all_uses_with(new)  # which raises
        for old in node.outputs[len(values) :]:
            check_unused(old, {node})
        for old, new in zip(node.outputs, values, strict=False):
            old.replace_all_uses_with(new)
        self.remove(node)

    def move_before(self, anchor: Node | None, *nodes: Node) -> None:
        """Put ``nodes`` of this graph ahead of ``anchor``, or at the end; uses do not change."""
        for node in nodes if anchor is None else (anchor, *nodes):
            self._check_mine(node)
        for node in nodes:
            if node is not anchor:
                self.nodes.unlink(node)
                self.nodes.insert(node, anchor)

    @property
    def graphs(self) -> list[Graph]:
        """The subgraphs that its nodes hold directly."""
        return [graph for node in self.nodes for graph in node.graphs]

    @property
    def parent(self) -> Graph | None:
        """The graph of the node that owns it."""
        return self.owner.graph if isinstance(self.owner, Node) else None

    @property
    def root(self) -> Graph:
        """The outermost graph around it."""
        graph = self
        while (parent := graph.parent) is not None:
            graph = parent
        return graph

    @property
    def model(self) -> Model | None:
        """The model whose graph it is, or is part of; None in functions."""
        top = self.root.owner
        return top if isinstance(top, Model) else None

    @property
    def is_live(self) -> bool:
        """Whether every node that holds it, at any depth, stands in a graph."""
        return not isinstance(self.owner, Node) or self.owner.is_live

    @property
    def label(self) -> str:
        """How messages call it: ``graph 'main'``, or attribute and node that hold it."""
        if isinstance(self.owner, Node):
            for attribute in self.owner.attributes.values():
                if self in attribute.graphs:
                    return f"{self.owner.label}, {attribute.name}"
        return f"graph '{self.name}'"

    @property
    def names(self) -> NameGiver:
        """The names in use in the outermost graph around it and all of its subgraphs."""
        root = self.root
        if root._names is None:  # noqa: SLF001 - another graph
            names = root._names = NameGiver()  # noqa: SLF001 - another graph
            for graph in (root, *inner_graphs(root)):
                for value in own_values(graph):
                    names.add(value.name)
                for node in graph.nodes:
                    names.add(node.name)
        return root._names  # noqa: SLF001 - another graph

    def fresh_name(self, prefix: str) -> str:
        """A name made from ``prefix`` that nothing in the outermost graph has."""
        return self.names.fresh(prefix)

    def rename_clashes(self, *nodes: Node) -> None:
        """Give ``nodes``, which are to come in here, and their results names that are not taken."""
        names = self.names
        coming = NameGiver()
        for node in nodes:
            for name in (node.name, *(value.name for value in node.outputs)):
                coming.add(name)
        for node in nodes:
            if node.name in names:
                node.name = names.fresh(node.name, coming)
                coming.add(node.name)
            for value in node.outputs:
                if value.name in names:
                    value.name = names.fresh(value.name, coming)
                    coming.add(value.name)

    def note_rename(self, value: Value, old: str, new: str) -> None:
        """Keep books when ``value`` changes its name; for `Value` only."""
        if value in self._initializers:
            self._by_name = None
        names = self.root._names  # noqa: SLF001 - another graph
        if names is not None:
            names.discard(old)
            names.add(new)

    def give_names(self, node: Node) -> None:
        """Name the outputs of ``node`` that have no name yet."""
        for value in node.outputs:
            if value.is_unnamed:
                value.name = self.fresh_name(node.name or node.op_type.lower())

    def admit(self, graph: Graph) -> None:
        """Take in uses and names of a ``graph`` that becomes a subgraph here.

        A name in it that is taken outside changes: names inside subgraphs are nobody else's.
        """
        names = self.names
        inside = [value for inner in (graph, *inner_graphs(graph)) for value in own_values(inner)]
        clashes = [value for value in inside if value.name in names]
        for value in inside:
            names.add(value.name)
        graph.note_captures()
        for value in clashes:
            names.discard(value.name)
            value.name = names.fresh(value.name)
            names.add(value.name)

    def note_captures(self) -> None:
        """Count what nodes inside read as uses; counting twice changes nothing."""
        for graph in (self, *inner_graphs(self)):
            for node in graph.nodes:
                node.note_uses()
            for value in graph.outputs:
                value.note_listed(graph)

    def drop_captures(self) -> None:
        """Forget the uses of values outside by nodes inside."""
        inside = dict.fromkeys((self, *inner_graphs(self)))
        for graph in inside:
            for node in graph.nodes:
                node.drop_uses(inside)
            for value in graph.outputs:
                if value.graph not in inside:
                    value.drop_listed(graph)

    def _insert(self, node: Node, before: Node | None) -> None:
        if node.graph is not None:
            raise GraphError(f"{node.label}: a node in no graph is required, found it in one")
        graph: Graph | None = self
        while graph is not None:
            if graph.owner is node:
                raise GraphError(f"{node.label}: a node cannot stand in its own subgraph")
            graph = graph.parent
        for inner in node.graphs:
            self.admit(inner)
        self.nodes.insert(node, before)
        node.graph = self
        if self.is_live:
            node.attach()
        names = self.root._names  # noqa: SLF001 - another graph
        if names is not None:
            names.add(node.name)
            for value in node.outputs:
                names.add(value.name)
        self.give_names(node)

    def _forget_names(self, node: Node) -> None:
        names = self.root._names  # noqa: SLF001 - another graph
        if names is None:
            return
        names.discard(node.name)
        for value in node.outputs:
            names.discard(value.name)
        for graph in node.graphs:
            for inner in (graph, *inner_graphs(graph)):
                for value in own_values(inner):
                    names.discard(value.name)

    def _take(self, value: Value) -> None:
        """Own a value without producer, and name it."""
        fresh = value.graph is None
        value.note_owner(self)
        self._by_name = None
        if value.is_unnamed:
            value.name = self.fresh_name("value")
        elif fresh and self.root._names is not None:  # noqa: SLF001 - another graph
            self.root._names.add(value.name)  # noqa: SLF001 - another graph

    def _check_free(self, value: Value) -> None:
        if value.producer is not None:
            raise GraphError(
                f"{self.label}: an input or initializer has no producer, found '{value.name}' "
                f"computed by {value.producer.label}"
            )
        if value.graph not in {None, self}:
            raise GraphError(f"{self.label}: '{value.name}' already is defined in another graph")

    def _check_mine(self, node: Node) -> None:
        if node.graph is not self:
            raise GraphError(f"{self.label}: a node of this graph is required, found {node.label}")

    def clone(self, values: Mapping[Value, Value] | None = None) -> Graph:
        """A copy in no model that shares nothing but tensors.

        Values from outside that it captures stay what they are, or become what ``values`` says.
        """
        from fornix.ir.clone import clone  # noqa: PLC0415 - it builds on this module

        return clone(self, values)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        from fornix.ir.clone import reduce  # noqa: PLC0415 - it builds on this module

        return reduce(self)

    def __str__(self) -> str:
        from fornix.ir.show import graph_text  # noqa: PLC0415 - only who prints needs it

        return graph_text(self)

    def __repr__(self) -> str:
        read = ", ".join(x.name for x in self.inputs)
        made = ", ".join(x.name for x in self.outputs)
        return f"<Graph {self.name or '_'}({read}) => ({made}), {len(self.nodes)} nodes>"


class Function:
    """A model function: an operator of (domain, name, overload) with its body.

    Its inputs and outputs are those of ``graph``. ``attributes`` names the required attributes,
    ``defaults`` has those with a default.
    """

    __slots__ = (
        "attributes",
        "defaults",
        "doc_string",
        "domain",
        "graph",
        "leftover",
        "metadata",
        "name",
        "opset_imports",
        "overload",
    )

    def __init__(
        self,
        domain: str,
        name: str,
        graph: Graph,
        opset_imports: Mapping[str, int] | None = None,
        *,
        overload: str = "",
        attributes: Iterable[str] = (),
    ) -> None:
        self.domain, self.name, self.overload = domain, name, overload
        self.graph = graph
        graph.owner = self
        self.attributes = list(attributes)
        self.defaults: dict[str, Attribute] = {}
        self.opset_imports = dict(opset_imports or {})
        self.doc_string = ""
        self.metadata: dict[str, str] = {}
        self.leftover = b""

    @property
    def key(self) -> tuple[str, str, str]:
        """What nodes call it by: domain, name, overload."""
        return self.domain, self.name, self.overload

    @property
    def label(self) -> str:
        """How messages call it: ``function 'my.domain.Gelu'``, with ``:overload`` if it has one."""
        name = f"{self.domain}.{self.name}" if self.domain else self.name
        return f"function '{name}{f':{self.overload}' if self.overload else ''}'"

    def clone(self) -> Function:
        """A copy that shares nothing but tensors."""
        from fornix.ir.clone import clone  # noqa: PLC0415 - it builds on this module

        return clone(self)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        from fornix.ir.clone import reduce  # noqa: PLC0415 - it builds on this module

        return reduce(self)

    def __str__(self) -> str:
        from fornix.ir.show import function_text  # noqa: PLC0415 - only who prints needs it

        return function_text(self)

    def __repr__(self) -> str:
        return f"<{self.label}: {self.graph!r}>"


class Model:
    """A graph with the functions it calls, opset imports and where it comes from."""

    __slots__ = (
        "doc_string",
        "domain",
        "functions",
        "graph",
        "ir_version",
        "leftover",
        "metadata",
        "model_version",
        "opset_imports",
        "producer_name",
        "producer_version",
    )

    def __init__(
        self,
        graph: Graph,
        opset_imports: Mapping[str, int] | None = None,
        ir_version: int = LATEST_IR_VERSION,
        functions: Iterable[Function] = (),
    ) -> None:
        self.graph = graph
        graph.owner = self
        self.functions = list(functions)
        self.opset_imports = dict(opset_imports or {})
        self.ir_version = ir_version
        self.producer_name = self.producer_version = self.domain = self.doc_string = ""
        self.model_version = 0
        self.metadata: dict[str, str] = {}
        self.leftover = b""

    @property
    def function_table(self) -> dict[tuple[str, str, str], Function]:
        """The functions by domain, name and overload; of several alike, the first."""
        return {function.key: function for function in reversed(self.functions)}

    def function(self, domain: str, name: str, overload: str = "") -> Function | None:
        """The function that a node of this domain, operator and overload calls."""
        wanted = (domain, name, overload)
        return next((x for x in self.functions if x.key == wanted), None)

    def clone(self) -> Model:
        """A copy that shares nothing but tensors."""
        from fornix.ir.clone import clone  # noqa: PLC0415 - it builds on this module

        return clone(self)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        from fornix.ir.clone import reduce  # noqa: PLC0415 - it builds on this module

        return reduce(self)

    def __str__(self) -> str:
        from fornix.ir.show import model_text  # noqa: PLC0415 - only who prints needs it

        return model_text(self)

    def __repr__(self) -> str:
        return f"<Model of IR version {self.ir_version}: {self.graph!r}>"
