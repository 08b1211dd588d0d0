"""What nodes ask of extents that the optimizer takes away: a run must not be spared their errors.

Where a number meets an extent that is open, the result is as long as the number, and what reads no
more than its shape reads nothing of the node. Shapes of MatMul and Concat say as little of what
they have in common. What such nodes asked is asked of the inputs then: a range of one number, or
one extent for two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from fornix.compile.agreement.rules import agreement
from fornix.infer import Inference
from fornix.ir.dim import Dim, DimLike, atoms, known, symbol
from fornix.ir.dim.expression import Atom, Symbol, coefficient, substitute
from fornix.ir.graph import Graph, Node
from fornix.ir.walk import captured_values
from fornix.ops import find
from fornix.runtime.providers import NotAsCompiled
from fornix.runtime.sizing.extents import bound_symbols, extent_name, solved

ASKING = frozenset({"Concat", "Expand", "Gemm", "MatMul", "Reshape"})
"""Operators whose results may be known where their inputs do not fit, beside elementwise ones."""

NEVER = 2, 1
"""The least and the greatest of an extent that cannot be as it is asked to be."""


class Claim(NamedTuple):
    """Two extents that are equal."""

    one: DimLike
    other: DimLike
    broadcasts: bool
    """Whether one of them may be 1 as well."""

    def bound(self, values: Mapping[str, DimLike]) -> Claim:
        """With ``values`` for symbols."""
        return Claim(_bound(self.one, values), _bound(self.other, values), self.broadcasts)


def _bound(d: DimLike, values: Mapping[str, DimLike]) -> DimLike:
    return d.bind(values) if isinstance(d, Dim) else d


def claims(graph: Graph, inference: Inference, *, is_final: bool = False) -> frozenset[Claim]:
    """What the nodes of ``graph`` that its outputs need ask of the extents of its inputs.

    Of one that ``is_final`` nothing computes integers that are known, as shapes are.
    """
    names = dict(_unnamed(graph, inference))
    live = _live(graph, inference if is_final else None)
    found = {c for node in live for c in _claims_of(node, inference)}
    named = {
        Claim(substitute(c.one, names, {}), substitute(c.other, names, {}), c.broadcasts)
        for c in found
    }
    given = {d.name for d in names.values()} | bound_symbols(graph.inputs).keys()
    return frozenset(c for c in named if given.issuperset(_names(c.one) | _names(c.other)))


def _names(d: DimLike) -> set[str | None]:
    """The names of what is in ``d``; None for what has none."""
    found = {a for a in atoms(d) if not a.inner} if isinstance(d, Dim) else set()
    return {a.name if isinstance(a, Symbol) else None for a in found}


def _unnamed(graph: Graph, inference: Inference) -> Iterator[tuple[Atom, Dim]]:
    """Extents of inputs that the model has no name for, with those that they get."""
    for value in graph.inputs:
        fact = inference.fact(value)
        for axis, extent in enumerate(fact.shape if fact.has_rank else ()):
            atom = extent.atom if isinstance(extent, Dim) else None
            if atom is not None and not isinstance(atom, Symbol):
                yield atom, symbol(extent_name(value, axis))


def _live(graph: Graph, known_by: Inference | None) -> Iterator[Node]:
    """The nodes whose results the outputs of ``graph`` are made of, where they are not known."""
    waiting = [value.producer for value in graph.outputs]
    seen: set[Node | None] = {None}
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if known_by and all(known_by.fact(value).value is not None for value in node.outputs):
            continue
        read = [*node.inputs, *(captured_values(node) if node.graphs else ())]
        waiting += [value.producer for value in read if value is not None]
        yield node


def _claims_of(node: Node, inference: Inference) -> Iterator[Claim]:
    operator, opset = find(node.domain, node.op_type), inference.imports.get(node.domain)
    facts = [None if value is None else inference.fact(value) for value in node.inputs]
    if operator is None or opset is None or len(facts) < 2 or node in inference.broken:
        return
    schema = operator.schema(opset)
    kernel = operator.rule("kernel", schema.since_version)
    if hasattr(kernel, "common_shape") or (node.op_type in ASKING and not node.domain):
        found = agreement(node, schema, facts, [inference.fact(v) for v in node.outputs])
        if found is not None:
            yield from (Claim(*pair, pair in found.alike) for pair in found.equal)


def unasked(
    asked: Collection[Claim], graph: Graph, inference: Inference, numbers: Mapping[str, int]
) -> dict[str, DimLike]:
    """Symbols of inputs, and what they are where all holds that was ``asked``.

    What ``graph`` itself asks of them is left out.

    Raises NotAsCompiled where it does not hold for ``numbers``.
    """
    given = bound_symbols(graph.inputs)
    own = {name: symbol(name, 1) for name in given} | dict(numbers)
    still = {claim.bound(own) for claim in claims(graph, inference, is_final=True)}
    taken: dict[str, DimLike] = {}
    fixed: dict[str, int] = {}
    never: set[str] = set()
    for claim in sorted({claim.bound(own) for claim in asked} - still, key=str):
        one, other, broadcasts = claim.bound(taken).bound(fixed)
        known_ends, (name, number) = (known(one), known(other)), _single(one - other)
        if broadcasts and 1 in known_ends:
            continue
        if name is not None and number is not None:
            fixed[name] = number
        elif name is not None:
            never.add(name)
        elif None in known_ends:
            more = solved([one, other], given, {})
            taken = {key: _bound(d, more) for key, d in taken.items()} | more
        elif one != other:
            if numbers:
                raise NotAsCompiled(f"{claim.one} and {claim.other} are to be equal")
            never |= {name for name in _names(claim.one) | _names(claim.other) if name}
    ends = {name: symbol(name, n, n) for name, n in fixed.items()}
    ends |= {name: symbol(name, *NEVER) for name in never}
    return {name: _bound(d, ends) for name, d in taken.items()} | ends


def _single(difference: DimLike) -> tuple[str | None, int | None]:
    """The one symbol in ``difference``, and the number of 1 or more with which that is 0."""
    inside = [*atoms(difference)] if isinstance(difference, Dim) else []
    if len(inside) != 1 or not isinstance(atom := inside[0], Symbol):
        return None, None
    factor, rest = map(known, coefficient(difference, atom) or (None, None))
    if not factor or rest is None:
        return None, None
    number = None if rest % factor else -rest // factor
    return atom.name, number if number is not None and number > 0 else None
