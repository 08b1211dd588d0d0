"""Where an extent comes from: the chain from a value back to what the model states.

Nothing is recorded while a model is inferred. Asked about one extent, the rule of the node that
makes the value runs again with each extent and each element of its inputs replaced by a symbol in
turn; what changes the result is what it depends on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fornix.errors import FornixError
from fornix.infer.model import Inference, has_unknown, infer_alone
from fornix.ir.dim import Dim, DimLike, symbol
from fornix.ir.graph import Function, Node, Value
from fornix.ir.types import TensorType
from fornix.ir.walk import captured_values
from fornix.ops.call import REFUSALS
from fornix.ops.fact import Fact

FEW = 32
"""Elements up to which contents are followed one by one."""


@dataclass(frozen=True, slots=True)
class Place:
    """An extent of a value, an element of its contents, or all contents."""

    value: Value
    index: int | None
    is_element: bool = False

    def __str__(self) -> str:
        if self.index is None:
            return f"the contents of '{self.value.name}'"
        return f"{'element' if self.is_element else 'axis'} {self.index} of '{self.value.name}'"


@dataclass(frozen=True, slots=True)
class Origin:
    """What one extent or element is, and where that comes from."""

    place: Place
    extent: DimLike | None
    """None where nothing is known, or where all contents are meant."""
    reason: str
    """Who says so: an input's declaration, stored data, a node with its formula."""
    sources: tuple[Place, ...] = ()
    """What the node read it from."""

    def __str__(self) -> str:
        told = "" if self.place.index is None else f" is {_text(self.extent)}"
        return f"{self.place}{told}: {self.reason}"


def origin(inference: Inference, value: Value, axis: int) -> Origin:
    """Where the extent of ``value`` along ``axis`` comes from, one step back."""
    return origin_of(inference, Place(value, axis))


def origins(inference: Inference, value: Value, axis: int) -> Iterator[Origin]:
    """The origin of an extent, those of its sources, and so on to inputs and stored data."""
    waiting, seen = deque([Place(value, axis)]), set[Place]()
    while waiting:
        place = waiting.popleft()
        if place not in seen:
            seen.add(place)
            found = origin_of(inference, place)
            yield found
            waiting.extend(found.sources)


def origin_of(inference: Inference, place: Place) -> Origin:
    """What is at ``place`` and where that comes from, one step back."""
    value, extent = place.value, read_at(inference.fact(place.value), place)
    node = value.producer
    if value.tensor is not None:
        return Origin(place, extent, "stored with the model")
    if node is None:
        return Origin(place, extent, _given(value, extent))
    if node.graph is not None and isinstance(function := node.graph.root.owner, Function):
        return Origin(place, extent, f"follows from a call of {function.label}")
    if not read_by(node):
        return Origin(place, extent, f"{node.label} states it")
    alone = read_at(_result(inference, node, place, {}), place)
    if extent is not None and alone != extent and not (_is_open(alone) and _is_open(extent)):
        told = "cannot run" if alone is None else f"leaves it {_text(alone)}"
        return Origin(place, extent, f"declared by the model; {node.label} alone {told}")
    sources = _sources(inference, node, place, alone)
    return Origin(place, extent, _made(inference, node, place, sources), sources)


def _is_open(extent: DimLike | None) -> bool:
    return extent is not None and has_unknown(extent)


def _given(value: Value, extent: DimLike | None) -> str:
    """What is said of an extent of ``value``, which no node makes."""
    owner = None if value.graph is None else value.graph.owner
    if isinstance(owner, Node | Function):
        return f"given by {'calls of ' if isinstance(owner, Function) else ''}{owner.label}"
    return "declared without extent" if _is_open(extent) else "declared of the input"


def _made(inference: Inference, node: Node, place: Place, sources: Sequence[Place]) -> str:
    """How ``node`` makes the extent, as a formula of its ``sources`` where there is one."""
    named: dict[Place, Dim] = {source: symbol(_name(source)) for source in sources}
    altered = _altered(inference, named)
    found = read_at(_result(inference, node, place, altered), place) if named else None
    told = ", ".join(map(str, sources))
    if isinstance(found, Dim) and not found.unknowns:
        if found.name is not None:
            return f"{node.label}: {told}"
        formula = str(found)
        for source in sources:  # symbols of such names are written with quotes
            formula = formula.replace(f"'{_name(source)}'", _name(source))
        return f"{node.label} makes it {formula}"
    return f"{node.label} makes it from {told}" if sources else f"{node.label} makes it"


def _name(place: Place) -> str:
    return f"{place.value.name}[{place.index}]"


def _sources(
    inference: Inference, node: Node, place: Place, extent: DimLike | None
) -> tuple[Place, ...]:
    """The places of the inputs of ``node`` on which ``extent`` depends.

    Of an input of few elements these are asked before its extents, which stand for all of them.
    """
    inputs = [(value, inference.fact(value)) for value in read_by(node)]
    for kinds in (_contents, _extents), (_extents,):
        candidates = [p for value, fact in inputs for p in _first(kinds, value, fact)]
        found = _changing(inference, node, place, extent, candidates)
        if found:
            return found
    return ()


def _changing(
    inference: Inference,
    node: Node,
    place: Place,
    extent: DimLike | None,
    candidates: Sequence[Place],
) -> tuple[Place, ...]:
    """Those of ``candidates`` that change ``extent``, or do so together if they all equal it."""

    def changes(places: Iterable[Place]) -> bool:
        told = dict.fromkeys(places, symbol("altered"))
        found = read_at(_result(inference, node, place, _altered(inference, told)), place)
        return not (found == extent or (_is_open(found) and _is_open(extent)))

    single = [p for p in candidates if changes([p])]
    if single or extent is None:
        return tuple(single)
    alike = [p for p in candidates if read_at(inference.fact(p.value), p) == extent]
    if not changes(alike):
        return ()
    return tuple(p for p in alike if not changes([q for q in alike if q != p]))


def read_by(node: Node) -> list[Value]:
    """The values that ``node`` reads, each once."""
    given = [value for value in node.inputs if value is not None]
    return list(dict.fromkeys([*given, *captured_values(node)]))


Kind = Callable[[Value, Fact], Sequence[Place]]


def _first(kinds: Sequence[Kind], value: Value, fact: Fact) -> Sequence[Place]:
    """The places of ``value`` of the first kind of which it has any."""
    return next((places for kind in kinds if (places := kind(value, fact))), ())


def _contents(value: Value, fact: Fact) -> Sequence[Place]:
    """The elements of ``value`` if they are known integers, or its contents; if there are few."""
    elements, constant = fact.value, fact.constant
    if elements is not None and elements.size <= FEW:
        return [Place(value, index, is_element=True) for index in range(elements.size)]
    return [Place(value, None)] if constant is not None and constant.size <= FEW else []


def places_read(inference: Inference, value: Value) -> list[Place]:
    """The elements of ``value``, if there are few and they are known, and its extents."""
    fact = inference.fact(value)
    return [*_contents(value, fact), *_extents(value, fact)]


def infers(inference: Inference, node: Node, places: Iterable[Place]) -> bool:
    """Whether the rule of ``node`` takes its inputs if anything may be at ``places``."""
    told = dict.fromkeys(places, symbol("altered"))
    return _results(inference, node, _altered(inference, told)) is not None


def _extents(value: Value, fact: Fact) -> Sequence[Place]:
    return [Place(value, axis) for axis in range(fact.rank if fact.has_rank else 0)]


def _altered(inference: Inference, places: Mapping[Place, Dim]) -> dict[Value, Fact]:
    """Facts in which ``places`` hold other things than they do."""
    facts: dict[Value, Fact] = {}
    for place, other in places.items():
        fact = facts.get(place.value, inference.fact(place.value))
        facts[place.value] = _with(fact, place, other)
    return facts


def _with(fact: Fact, place: Place, other: Dim) -> Fact:
    contents = fact.value
    if place.index is None:
        return Fact(fact.type)
    if place.is_element and contents is not None:
        contents = contents.copy()
        contents.reshape(-1)[place.index] = other
        return Fact(fact.type, contents)
    shape = (*fact.shape[: place.index], other, *fact.shape[place.index + 1 :])
    return Fact(TensorType(fact.dtype, shape))


def _result(
    inference: Inference, node: Node, place: Place, altered: Mapping[Value, Fact]
) -> Fact | None:
    """What the rule of ``node`` alone says of the value of ``place``; None if it refuses."""
    found = _results(inference, node, altered)
    return None if found is None else found[node.outputs.index(place.value)]


def _results(
    inference: Inference, node: Node, altered: Mapping[Value, Fact]
) -> Sequence[Fact] | None:
    """What the rule of ``node`` alone says of its outputs; None if it refuses."""
    facts = {value: inference.fact(value) for value in read_by(node)}
    known = replace(inference, facts=facts | dict(altered), errors=[], broken=set(), refusals={})
    try:
        return infer_alone(node, known)
    except (FornixError, *REFUSALS):
        return None


def read_at(fact: Fact | None, place: Place) -> DimLike | None:
    """What ``fact`` says at ``place``; None where that is nothing."""
    if fact is None or place.index is None:
        return None
    if not place.is_element:
        return fact.shape[place.index] if fact.has_rank and place.index < fact.rank else None
    contents = fact.value
    if contents is None or place.index >= contents.size:
        return None
    entry: DimLike = contents.reshape(-1)[place.index]
    return entry


def _text(extent: DimLike | None) -> str:
    """An extent and, if it is unknown, why."""
    if not isinstance(extent, Dim) or not extent.unknowns:
        return "not known" if extent is None else str(extent)
    return f"{extent} ({'; '.join(extent.unknowns)})"
