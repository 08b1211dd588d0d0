"""Units to machine code: the last stage, and what is done when one is refused.

A unit that nothing can be emitted for is taken apart: first its last node is tried alone, then
that node runs its kernel. Units alike, as the layers of a network are, are compiled once.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from fornix.compile.agreement.terms import Agreement
from fornix.compile.alike import Alike, Names, renamed, various
from fornix.compile.cache import ObjectCache
from fornix.compile.chains import chains
from fornix.compile.compiler import Emitted, link_all, write_all
from fornix.compile.joined import joined
from fornix.compile.layout import Layouts, layouts
from fornix.compile.link import MOST_THREADS
from fornix.compile.lower import LoweredUnit, Lowering
from fornix.compile.memo import Memo, alike, digest
from fornix.compile.notes import UnitCode
from fornix.compile.partition import partition
from fornix.compile.support import Support
from fornix.compile.target import Target
from fornix.compile.text.calls import texts_code
from fornix.compile.traits import Survey, Traits
from fornix.compile.units import CompiledUnit, IslandUnit, NativeUnit
from fornix.errors import FornixError, NotSupported
from fornix.infer import Inference
from fornix.ir.dim.expression import Atom, Dim, DimLike, Symbol, atoms
from fornix.ir.graph import Node, Value
from fornix.ir.loops import Constant
from fornix.ops.call import NotLowered
from fornix.ops.registered import is_registered
from fornix.system import usable_processors

log = logging.getLogger(__name__)
progress = logging.getLogger("fornix.progress")

UNSUITED = (NotLowered, NotSupported)
"""What the stages raise for a unit that they do not handle."""
REFUSED = (
    *UNSUITED,
    FornixError,
    ArithmeticError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What they raise besides where they go wrong: a warning, for NumPy or smaller units serve it."""


MAX_HELD = 50_000
"""Answers that are remembered about nodes for extents."""


@dataclass
class Compiled:
    """A graph, or part of one, as units in an order in which they can run."""

    units: list[NativeUnit | IslandUnit]
    survey: Survey
    traits: dict[Node, Traits | str]
    names: Mapping[Node, Alike]
    """Of nodes that are lowered; those of nodes alike with the same symbols are the same."""
    _held: dict[tuple[Alike, tuple[int | None, ...]], bool] = field(default_factory=dict)
    """By name and extents that matter to it, whether the code of a node is made for them."""
    _symbols: dict[Alike, tuple[Symbol, ...]] = field(default_factory=dict)
    """By name, the symbols of extents that matter to a node."""

    def is_conditional(self, units: Iterable[NativeUnit]) -> bool:
        """Whether it depends on the extents of a run if the code of ``units`` holds."""
        traits = [self.traits[node] for unit in units for node in unit.unit.nodes]
        return any(isinstance(t, Traits) and (t.needs_check or t.bounds) for t in traits)

    def conditions(self, units: Iterable[NativeUnit]) -> tuple[Agreement, list[Node]]:
        """What suffices for the code of ``units``, and the nodes that are to be asked beside it."""
        return self.conditions_of([node for unit in units for node in unit.unit.nodes])

    def conditions_of(self, nodes: Iterable[Node]) -> tuple[Agreement, list[Node]]:
        """What suffices for the code of ``nodes``, and those that are to be asked beside it."""
        whole, asked = Agreement(), dict[Alike, Node]()
        seen: set[Alike] = set()
        for node in nodes:
            traits, name = self.traits[node], self.names[node]
            is_open = isinstance(traits, Traits) and (traits.needs_check or traits.bounds)
            if name in seen or not is_open or not isinstance(traits, Traits):
                continue
            seen.add(name)
            found = self._agreement(node, traits)
            if found is None:
                asked[name] = node
            else:
                whole.add(found)
            whole.add(Agreement(reach=[*self._ranges(node, traits)]))
        return whole, list(asked.values())

    def _agreement(self, node: Node, traits: Traits) -> Agreement | None:
        """What suffices for ``node`` and proves that reads stay inside; the least that does."""
        for may_be_empty in (True, False):
            found = self.survey.agreement(node, may_be_empty=may_be_empty)
            if found is not None and all(map(found.proves, traits.bounds)):
                return found
        return None

    def holds(self, extents: Mapping[str, int], nodes: Iterable[Node]) -> bool:
        """Whether the code of ``nodes`` is made for ``extents``: shapes agree, reads stay inside.

        Rules of operators are asked anew, with numbers for symbols; nodes alike are asked once, and
        again only for other extents of those that they depend on.
        """
        seen: set[Alike] = set()
        for node in nodes:
            traits, name = self.traits[node], self.names[node]
            if name in seen or not isinstance(traits, Traits):
                continue
            seen.add(name)
            key = name, tuple(map(extents.get, self._symbols_of(node, traits)))
            if key not in self._held:
                if len(self._held) >= MAX_HELD:
                    self._held.clear()
                self._held[key] = self._node_holds(node, traits, extents)
            if not self._held[key]:
                return False
        return True

    def depends(self, node: Node, symbols: AbstractSet[str]) -> bool:
        """Whether what is known of ``node`` has one of ``symbols`` in it."""
        traits = self.traits[node]
        return isinstance(traits, Traits) and not symbols.isdisjoint(self._symbols_of(node, traits))

    def may_broadcast(self, node: Node, symbols: AbstractSet[str]) -> bool:
        """Whether ``node`` compares extents with one of ``symbols`` in them that may be 1."""
        found = self.survey.agreement(node, may_be_empty=True)
        dims = [d for pair in found.alike for d in pair] if found else []
        return any(isinstance(d, Dim) and not symbols.isdisjoint(d.symbols) for d in dims)

    def _symbols_of(self, node: Node, traits: Traits) -> tuple[str, ...]:
        """The names of `_atoms_of`."""
        return tuple(atom.name for atom in self._atoms_of(node, traits))

    def _ranges(self, node: Node, traits: Traits) -> Iterator[tuple[DimLike, DimLike]]:
        """Pairs of which the first is no less, by what symbols are taken to lie between."""
        for atom in self._atoms_of(node, traits):
            extent = Dim({(atom,): 1})
            if atom.least > 1:
                yield extent, atom.least
            if atom.most is not None:
                yield atom.most, extent

    def _atoms_of(self, node: Node, traits: Traits) -> tuple[Symbol, ...]:
        """The symbols in what is known of the inputs and outputs of ``node``, and in its bounds."""
        name = self.names[node]
        if name not in self._symbols:
            fact = self.survey.lowering.inference.fact
            dims: list[object] = [d for bound in traits.bounds for d in bound.dims]
            for known in (fact(value) for value in (*node.inputs, *node.outputs) if value):
                dims += getattr(known.type, "shape", None) or ()
                dims += () if known.known_value is None else known.known_value.flat
            found = {a for d in dims if isinstance(d, Dim) for a in atoms(d)}
            symbols = [a for a in found if isinstance(a, Symbol)]
            self._symbols[name] = tuple(sorted(symbols, key=lambda a: a.name))
        return self._symbols[name]

    def _node_holds(self, node: Node, traits: Traits, extents: Mapping[str, int]) -> bool:
        symbols = self._atoms_of(node, traits)
        ends = [(a, extents[a.name]) for a in symbols if a.name in extents]
        known: dict[Atom, int] = dict(ends)
        if any(n < a.least or not _is_within(n, a.most, known) for a, n in ends):
            return False
        try:
            if traits.needs_check:
                self.survey.infer(node, extents)
        except NotLowered as reason:
            log.debug("%s: not as compiled: %s", node.label, reason)
            return False
        return all(b.holds(known) for b in traits.bounds)


@dataclass(frozen=True)
class WrittenUnit:
    """A unit as text for LLVM."""

    unit: CompiledUnit
    lowered: LoweredUnit
    kernels: Sequence[Emitted]
    target: Target
    symbols: tuple[str, ...]
    """Those that units like it call otherwise."""

    @staticmethod
    def of(
        unit: CompiledUnit,
        called: Mapping[CompiledUnit, Alike],
        lowering: Lowering,
        blocks: Layouts,
        target: Target,
    ) -> WrittenUnit:
        """Lower, schedule and emit ``unit``."""
        lowered, symbols = lowering.unit(unit, blocks), called[unit].symbols
        return WrittenUnit(unit, lowered, write_all(lowered.outputs, target), target, symbols)

    @property
    def texts(self) -> list[str]:
        """A module for each kernel."""
        return [kernel.code.text for kernel in self.kernels]

    def code(self, cache: ObjectCache) -> UnitCode:
        """Its machine code."""
        unit, lowered = self.unit, self.lowered
        name = "+".join(node.op_type for node in unit.nodes[-MAX_NAME_PARTS:])
        kernels = tuple(link_all(self.kernels, name, self.target, cache))
        inputs = {b: unit.inputs.index(v) for b, v in lowered.arguments.items()}
        outputs = {b: unit.outputs.index(v) for b, v in lowered.results.items()}
        given = inputs | outputs
        others = {b: None for kernel in kernels for b in kernel.arguments if b not in given}
        tables = {b: b.source.array for b in others if isinstance(b.source, Constant)}
        temporaries = tuple(b for b in others if b not in tables)
        parts = joined(unit, lowered.arguments, lowered.results)
        return UnitCode(kernels, inputs, outputs, tables, temporaries, self.symbols, parts)


def compile_nodes(
    nodes: Sequence[Node],
    needed: Collection[Value],
    inference: Inference,
    symbols: Collection[str],
    target: Target,
    learned: Mapping[str, Value] | None = None,
    *,
    is_wary: bool = False,
) -> Compiled:
    """Machine code for ``nodes``, in the order of their graph; ``needed`` are read by others.

    Feeds tell ``symbols``, others are ``learned`` of values in a run: too late to ask rules of
    operators. Where it ``is_wary``, what compares these runs NumPy kernels if they may be 1.
    """
    told, known = learned or {}, memo()
    with known.in_use():
        survey = Survey(Lowering(inference, [*symbols, *told]))
        survey.lowering.unread = various(nodes)
        return _compile_nodes(nodes, needed, survey, target, told, known, is_wary=is_wary)


def _compile_nodes(
    nodes: Sequence[Node],
    needed: Collection[Value],
    survey: Survey,
    target: Target,
    learned: Mapping[str, Value],
    known: Memo,
    *,
    is_wary: bool,
) -> Compiled:
    inference = survey.lowering.inference
    names, traits = _examine(nodes, survey, known)
    _refuse_unsure(Compiled([], survey, traits, names), learned, is_wary=is_wary)
    alone: set[Node] = set()
    found = chains(
        nodes, traits, needed, survey.lowering, lambda u: _name(u, names, {}, target).digest
    )
    while True:
        units = partition(nodes, traits, needed, alone, found)
        blocks = layouts(units, traits, needed, inference, target)
        called = {u: _name(u, names, blocks, target) for u in units if isinstance(u, CompiledUnit)}
        by_name: dict[str, list[CompiledUnit]] = {}
        for unit, name in called.items():
            by_name.setdefault(name.digest, []).append(unit)
        write = functools.partial(
            WrittenUnit.of, called=called, lowering=survey.lowering, blocks=blocks, target=target
        )
        if _make(by_name, write, traits, alone, known):
            codes = {n: renamed(known.codes[n.digest], n.symbols) for n in called.values()}
            native = [
                u if isinstance(u, IslandUnit) else NativeUnit(u, codes[called[u]]) for u in units
            ]
            return Compiled(native, survey, traits, names)


def _examine(
    nodes: Sequence[Node], survey: Survey, known: Memo
) -> tuple[dict[Node, Alike], dict[Node, Traits | str]]:
    """The names of ``nodes``, and their traits: those of nodes alike, but for bounds of symbols."""
    names: dict[Node, Alike] = {}
    traits: dict[Node, Traits | str] = {}
    for node in nodes:
        try:
            names[node] = alike(survey.key(node))
        except NotLowered as reason:
            traits[node] = str(reason)
    distinct = list(dict.fromkeys(name.digest for name in names.values()))
    known.recall_traits(distinct)
    is_new = False
    for node, name in names.items():
        own = f"{name.digest} of {name.symbols}"
        found = known.traits.get(name.digest) or known.traits.get(own)
        if found is None:
            found, is_new = survey.traits(node), True
            is_own = isinstance(found, Traits) and bool(found.bounds)
            known.traits[own if is_own else name.digest] = found
        traits[node] = found
    if is_new and _is_lasting(names):
        known.keep_traits(distinct)
    return names, traits


def _refuse_unsure(compiled: Compiled, learned: Mapping[str, Value], *, is_wary: bool) -> None:
    """Leave nodes to NumPy kernels of which formulas do not tell whether what is learned fits.

    And those whose results tell it: code for them would need to know them before. If it
    ``is_wary``, those as well in which extents are learned that broadcast, unless they are equal.
    """
    if not learned:
        return
    sure: dict[Alike, bool] = {}
    for node, traits in compiled.traits.items():
        if isinstance(traits, Traits) and compiled.depends(node, learned.keys()):
            name = compiled.names[node]
            if any(learned[own] in node.outputs for own in _extents(node, compiled) & {*learned}):
                compiled.traits[node] = "extents of its result are known when it is there"
                continue
            if name not in sure:
                sure[name] = not (is_wary and compiled.may_broadcast(node, learned.keys()))
                sure[name] = sure[name] and not compiled.conditions_of([node])[1]
            if not sure[name]:
                compiled.traits[node] = "whether it fits what the run learns has to be asked anew"


def _is_within(number: int, most: DimLike | None, values: Mapping[Atom, int]) -> bool:
    """Whether ``number`` is at most ``most``, once symbols have these ``values``."""
    limit = most.substitute({**values}) if isinstance(most, Dim) else most
    return limit is None or (isinstance(limit, int) and number <= limit)


def _extents(node: Node, compiled: Compiled) -> set[str]:
    """The symbols in extents of the results of ``node``."""
    facts = [compiled.survey.lowering.inference.fact(value) for value in node.outputs]
    extents = [extent for fact in facts if fact.has_rank for extent in fact.shape]
    return {name for extent in extents if isinstance(extent, Dim) for name in extent.symbols}


def _is_lasting(nodes: Iterable[Node]) -> bool:
    """Whether what is found out about ``nodes`` holds in the next process.

    What users registered may be another operator by then.
    """
    return not any(is_registered(node.domain, node.op_type) for node in nodes)


def _make(
    units: Mapping[str, Sequence[CompiledUnit]],
    write: Callable[[CompiledUnit], WrittenUnit],
    traits: dict[Node, Traits | str],
    alone: set[Node],
    known: Memo,
) -> bool:
    """Make the code of ``units`` known; False if one is refused, which `partition` is to mind."""
    distinct = list(units)
    known.recall(distinct)
    missing = {name: units[name][0] for name in distinct if name not in known.codes}
    if not missing:
        return True
    refused = _compile(missing, write, known)
    for name, error in refused.items():
        severity = logging.DEBUG if isinstance(error, UNSUITED) else logging.WARNING
        label = units[name][0].nodes[-1].label
        log.log(severity, "%s: refused: %s: %s", label, type(error).__name__, error)
        for unit in units[name]:
            _refuse(unit, error, traits, alone)
    if not refused and _is_lasting(node for group in units.values() for node in group[0].nodes):
        known.keep(distinct)
    return not refused


def _compile(
    units: Mapping[str, CompiledUnit], write: Callable[[CompiledUnit], WrittenUnit], known: Memo
) -> dict[str, Exception]:
    """Make the code of ``units`` known; gives what was raised for those that are refused.

    While LLVM makes machine code of units, in threads of its own, the next one is written.
    """
    cache, codes = known.cache, known.codes
    written: dict[str, WrittenUnit] = {}
    refused: dict[str, Exception] = {}
    threads = min(usable_processors(), MOST_THREADS)
    with ThreadPoolExecutor(threads, "fornix-llvm") as workers:
        for number, (name, unit) in enumerate(units.items()):
            progress.info("compiling unit %d of %d", number + 1, len(units))
            try:
                written[name] = write(unit)
            except REFUSED as error:
                refused[name] = error
            else:
                cache.start(written[name].texts, written[name].target, workers)
        for name, ready in written.items():
            try:
                codes[name] = ready.code(cache)
            except REFUSED as error:
                refused[name] = error
    return refused


def _refuse(
    unit: CompiledUnit, error: Exception, traits: dict[Node, Traits | str], alone: set[Node]
) -> None:
    last = unit.nodes[-1]
    if len(unit.nodes) > 1:
        alone.update(unit.nodes)
    else:
        traits[last] = str(error)


MAX_NAME_PARTS = 4
"""Nodes that give a kernel its name."""


@functools.cache
def memo() -> Memo:
    """What all sessions of this process know, and their cache of machine code."""
    return Memo(ObjectCache.default())


@functools.cache
def support() -> Support:
    """What all kernels of this process need."""
    return Support.of(memo().cache)


@functools.cache
def texts(family: str = "keys") -> tuple[int, object]:
    """The code of a family that works with texts, and what keeps it in memory."""
    return texts_code(memo().cache, family)


def renew() -> None:
    """Let what follows use the cache as it is now: of what is known, files may have gone."""
    memo.cache_clear()
    support.cache_clear()
    texts.cache_clear()


def _name(
    unit: CompiledUnit, names: Mapping[Node, Alike], blocks: Layouts, target: Target
) -> Alike:
    """What units share whose code is the same: their nodes, and how these are joined.

    And how what they read and write lies in memory, and for which target they are.
    """
    own = Names()
    numbers: dict[Value, object] = {value: index for index, value in enumerate(unit.inputs)}
    parts: list[object] = []
    for position, node in enumerate(unit.nodes):
        wiring = tuple(None if v is None else numbers.get(v, "unread") for v in node.inputs)
        parts.append((names[node].digest, [*map(own.number, names[node].symbols)], wiring))
        numbers |= {value: (position, index) for index, value in enumerate(node.outputs)}
    lanes = tuple(blocks.get(value, 1) for value in (*unit.inputs, *unit.outputs))
    outputs = tuple(numbers[value] for value in unit.outputs)
    return Alike(digest((*parts, outputs, lanes, target.text)), own.symbols)
