"""Nodes: uses of operators.

See `fornix.ir.graph` for the rules that values, nodes and graphs keep together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from fornix.errors import GraphError
from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from fornix.ir.graph import Graph

GRAPH_KINDS = {AttributeKind.GRAPH, AttributeKind.GRAPHS}


class Node:
    """One use of an operator: inputs, attributes and the values that it computes."""

    __slots__ = (
        "_attributes",
        "_inputs",
        "_metadata",
        "_outputs",
        "doc_string",
        "domain",
        "graph",
        "leftover",
        "name",
        "op_type",
        "overload",
    )

    def __init__(
        self,
        domain: str,
        op_type: str,
        inputs: Iterable[Value | None] = (),
        outputs: int | Iterable[Value | str] = 1,
        attributes: Mapping[str, object] | Iterable[tuple[str, object]] = (),
        *,
        name: str = "",
        overload: str = "",
    ) -> None:
        """A node in no graph yet; ``outputs`` are new values, their names, or how many there are.

        ``attributes`` are plain values or `Attribute` objects by name.
        """
        self.domain, self.op_type, self.overload = domain, op_type, overload
        self.name = name
        self.doc_string = ""
        self._metadata: dict[str, str] | None = None
        self.leftover = b""
        self.graph: Graph | None = None
        self._inputs: tuple[Value | None, ...] = tuple(inputs)
        self._outputs: tuple[Value, ...] = ()
        self._attributes: dict[str, Attribute] = {}
        if isinstance(outputs, int):
            outputs = [Value() for _ in range(outputs)]
        self.set_outputs(outputs)
        for key, value in dict(attributes).items():
            if isinstance(value, Attribute) and value.kind not in GRAPH_KINDS:
                self._attributes[key] = value
            else:
                self.set_attribute(key, value)

    @property
    def inputs(self) -> tuple[Value | None, ...]:
        """What it reads; None where an optional input is left out."""
        return self._inputs

    @inputs.setter
    def inputs(self, values: Iterable[Value | None]) -> None:
        new = tuple(values)
        live = self.is_live
        self.drop_uses()
        self._inputs = new
        if live:
            self.note_uses()

    def set_input(self, index: int, value: Value | None) -> None:
        """Read ``value`` as input ``index``; the list grows if it must."""
        old = list(self._inputs)
        old.extend([None] * (index + 1 - len(old)))
        before, old[index] = old[index], value
        self._inputs = tuple(old)
        if before is not None:
            before.drop_use(self, index)
        if value is not None and self.is_live:
            value.note_use(self, index)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """What it computes; an omitted output is a value with the empty name."""
        return self._outputs

    @outputs.setter
    def outputs(self, values: Iterable[Value]) -> None:
        self.set_outputs(values)

    def set_outputs(self, values: Iterable[Value | str]) -> None:
        """Compute these values, or new ones of these names, instead.

        Raises GraphError if a value that goes is in use, or one that comes belongs elsewhere.
        """
        new = tuple(Value(x) if isinstance(x, str) else x for x in values)
        for value in new:
            if value.producer is not self and (value.producer or value.graph) is not None:
                raise GraphError(f"{self.label}: '{value.name}' already is defined elsewhere")
        for value in self._outputs:
            if value.is_used and value not in new:
                raise GraphError(f"{self.label}: output '{value.name}' is in use and has to stay")
        for value in self._outputs:
            value.producer = None
        self._outputs = new
        for index, value in enumerate(new):
            value.producer, value.index = self, index
        if self.graph is not None:
            self.graph.give_names(self)

    @property
    def output(self) -> Value:
        """The first output; raises GraphError if there is none."""
        if not self._outputs:
            raise GraphError(f"{self.label}: an output is required, found none")
        return self._outputs[0]

    @property
    def attributes(self) -> Mapping[str, Attribute]:
        """The attributes by name, in order; changed by `set_attribute` and `remove_attribute`."""
        return self._attributes

    def attr(self, name: str, default: Any = None) -> Any:
        """The value of attribute ``name``, or ``default`` if it is absent."""
        found = self._attributes.get(name)
        return default if found is None else found.value

    def set_attribute(self, name: str, value: object, kind: AttributeKind | None = None) -> None:
        """Set attribute ``name`` to a plain value, of the kind that fits, or to an `Attribute`.

        Raises GraphError if no kind fits, or if a graph in it belongs to another node.
        """
        new = value if isinstance(value, Attribute) else Attribute.of(name, value, kind)
        for graph in new.graphs:
            if graph.owner not in {None, self}:
                raise GraphError(
                    f"{self.label}: attribute '{name}' needs a graph of its own, found one that "
                    "belongs elsewhere; use clone()"
                )
        self._release(self._attributes.get(name))
        self._attributes[name] = new
        for graph in new.graphs:
            if self.is_live and self.graph is not None:
                self.graph.admit(graph)
            else:
                graph.drop_captures()
            graph.owner = self

    def remove_attribute(self, name: str) -> Attribute | None:
        """Take attribute ``name`` away, if it is there, and give it back."""
        old = self._attributes.pop(name, None)
        self._release(old)
        return old

    def _release(self, attribute: Attribute | None) -> None:
        """Give up the graphs of an attribute that goes."""
        for graph in () if attribute is None else attribute.graphs:
            graph.drop_captures()
            graph.owner = None

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

    @property
    def graphs(self) -> list[Graph]:
        """The subgraphs in its attributes, in order."""
        return [
            graph
            for attribute in self._attributes.values()
            if attribute.kind in GRAPH_KINDS
            for graph in attribute.graphs
        ]

    @property
    def is_live(self) -> bool:
        """Whether it stands in a graph, and so does every node that holds that graph."""
        graph = self.graph
        while graph is not None and isinstance(graph.owner, Node):
            graph = graph.owner.graph
        return graph is not None

    @property
    def label(self) -> str:
        """How messages call it: ``node 'stem/conv' (Conv)``; without a name, by its output."""
        operator = f"{self.domain}.{self.op_type}" if self.domain else self.op_type
        if self.name:
            return f"node '{self.name}' ({operator})"
        made = next((x.name for x in self._outputs if x.name), "")
        return f"node for '{made}' ({operator})"

    def wants(self, index: int) -> bool:
        """Whether output ``index`` exists and is not omitted."""
        return index < len(self._outputs) and not self._outputs[index].is_omitted

    def attach(self) -> None:
        """Count its inputs, and those of nodes in its subgraphs, as uses; for `Graph` only."""
        self.note_uses()
        for graph in self.graphs:
            graph.note_captures()

    def detach(self) -> None:
        """Count none of them any more."""
        self.drop_uses()
        for graph in self.graphs:
            graph.drop_captures()

    def drop_uses(self, inside: Collection[Graph | None] = ()) -> None:
        """Count what it reads as uses no more, but for values of the graphs ``inside``."""
        for index, value in enumerate(self._inputs):
            if value is not None and value.graph not in inside:
                value.drop_use(self, index)

    def note_uses(self) -> None:
        """Count what it reads as uses; counting twice changes nothing."""
        for index, value in enumerate(self._inputs):
            if value is not None:
                value.note_use(self, index)

    def __reduce__(self) -> NoReturn:
        raise GraphError(f"{self.label}: what is copied or pickled is the whole graph or model")

    def __repr__(self) -> str:
        made = ", ".join(x.name or "_" for x in self._outputs)
        read = ", ".join("_" if x is None else x.name for x in self._inputs)
        operator = f"{self.domain}.{self.op_type}" if self.domain else self.op_type
        given = ", ".join(map(repr, self._attributes.values()))
        return f"{made} = {operator}{f' <{given}>' if given else ''}({read})"
