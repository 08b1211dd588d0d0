"""What a node is to the grouping, read off its own lowering rather than off its name.

A node is lowered alone, on arguments in memory. Its expression says what an element costs, whether
it sums over others, how often each element of an input is read, and whether reading stays where
writing is. It also says what must hold so that no read leaves an input: mostly that is proved here,
the rest is asked anew for the extents of each run. Nodes alike are looked at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fornix import ops
from fornix.compile.agreement.rules import agreement
from fornix.compile.agreement.terms import Agreement
from fornix.compile.alike import UNREAD, is_told, stored
from fornix.compile.binding import Binding, bound_fact
from fornix.compile.blocked import CHANNELS
from fornix.compile.bounds import Bound
from fornix.compile.convolution import convolution, groups
from fornix.compile.cost import LOAD_COST as NEAR
from fornix.compile.cost import accesses, goes_past
from fornix.compile.lower import RULE_ERRORS, Lowering, number
from fornix.compile.readings import (
    ALL,
    FIRST,
    LAST,
    OTHER,
    SAME,
    SWAPPED,
    Reading,
    combined,
)
from fornix.ir.attribute import Attribute, AttributeKind, plain_attributes
from fornix.ir.dim import Dim, DimLike, exact_quotient
from fornix.ir.dim.expression import (
    Atom,
    Floor,
    Symbol,
    atoms,
    coefficient,
    substitute,
    variables,
)
from fornix.ir.graph import Node, Value
from fornix.ir.loops import (
    Apply,
    Buffer,
    Constant,
    Load,
    Loaded,
    Reduce,
    Routine,
    Scalar,
    Store,
    Tensor,
    Variable,
    loaded,
)
from fornix.ir.types import Type
from fornix.ops.call import InferNode, NotLowered, infer_node
from fornix.ops.fact import Fact
from fornix.ops.geometry import row_major

TYPICAL_EXTENT = 64
"""What a symbol counts as in estimates."""

SAMPLES = (TYPICAL_EXTENT, 1 << 16)
"""Extents of symbols for which declared types are tried: of tokens, and of samples of a sound."""

COSTS = {
    **dict.fromkeys(("cast", "neg", "abs", "not", "and", "or", "xor", "bitcast", "after"), 0.5),
    **dict.fromkeys(("exp", "log", "erf", "sin", "cos", "tanh", "pow", "tan", "asin"), 16.0),
    **dict.fromkeys(("acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"), 20.0),
    **dict.fromkeys(("div", "sqrt"), 4.0),
    **dict.fromkeys(("mod", "fmod", "weight"), 10.0),
}
"""Cost of an operation relative to an addition; 1 where it is not listed."""
LOAD_COST = 1.0
DIVISION_COST = 2.0
"""Of an index by a number."""
GATHER_COST = 4.0
LARGE = 1 << 15
"""Bytes of which a cache does not hold a line of every row until the next element is read."""
SMALL_REDUCTION = 8
"""A reduction over fewer elements is arithmetic like any other."""


@dataclass(frozen=True)
class Traits:
    """What the grouping asks of a node that can be lowered."""

    cost: float
    """Operations per element of its results, the first load aside."""
    is_reduction: bool
    """Whether elements of the result combine many elements: a sum, a product, a pool, a norm."""
    has_memory: bool
    """Whether its lowering stores its results itself: scans, scatters, routines."""
    readings: tuple[Reading | None, ...]
    """One for each input; None where it is not read."""
    bounds: tuple[Bound, ...]
    """What is to be proved for the extents of each run."""
    needs_check: bool
    """Whether shapes are symbolic, so that inference is repeated for the extents of each run."""
    is_convolution: bool = False
    """Whether the result is an image whose channels are filters of a convolution."""
    bits: int = 0
    """Of an element of its results."""


Key: TypeAlias = tuple[object, ...]


class Survey:
    """Traits of nodes, by what decides them."""

    def __init__(self, lowering: Lowering) -> None:
        self.lowering = lowering
        self.binding = Binding({})
        """The extents that were asked for last: many nodes are asked for those of one run."""

    def key(self, node: Node) -> Key:
        """What nodes share that are lowered alike; raises NotLowered if ``node`` never is."""
        self.lowering.check(node)
        return self._key(node)

    def traits(self, node: Node) -> Traits | str:
        """The traits of ``node``, or why it has to run its kernel."""
        try:
            return self._examined(node)
        except NotLowered as reason:
            return str(reason)

    def _key(self, node: Node) -> Key:
        """What nodes share that are lowered alike."""
        schema, _ = self.lowering.schema(node)
        fact = self.lowering.inference.fact
        attributes = tuple(map(_content, node.attributes.values()))
        is_read = schema.domain != "" or schema.name not in UNREAD
        inputs = tuple(
            None if value is None else self._shown(fact(value), value, is_read=is_read)
            for value in node.inputs
        )
        outputs = tuple(fact(v).type if node.wants(i) else None for i, v in enumerate(node.outputs))
        stamp = ops.operator_of(schema).stamp
        return schema.domain, schema.name, schema.since_version, stamp, attributes, inputs, outputs

    def _shown(self, fact: Fact, value: Value, *, is_read: bool) -> Key:
        """What of an input decides how it is lowered; ``is_read``: floats in it may, too."""
        contents: object = None
        if value in self.lowering.unread:
            contents = "unread"
        elif fact.tensor is not None:
            constant = fact.constant if is_read or is_told(fact.tensor) else None
            contents = stored(fact.tensor) if constant is None else constant.tobytes()
        elif fact.known_value is not None:
            contents = tuple(fact.known_value.flat)
        return fact.type, contents, value.constant is not None

    def _examined(self, node: Node) -> Traits:
        self._verify(node)
        arguments = [None if value is None else self._argument(value) for value in node.inputs]
        results = self.lowering.tensors(node, arguments)
        buffers = [None if x is None else x.buffer for x in arguments]
        pages = [_Page(x, buffers) for x in results if x is not None]
        bounds = tuple(bound for page in pages for bound in page.bounds)
        symbolic = [b for b in bounds if _is_symbolic(b.address) or _is_symbolic(b.elements)]
        if not all(bound in symbolic or bound.holds({}) for bound in bounds):
            raise NotLowered("that it reads within its inputs is not proved")
        readings = tuple(
            None if buffer is None else combined([p.readings[i] for p in pages])
            for i, buffer in enumerate(buffers)
        )
        for value, reading in zip(node.inputs, readings, strict=True):
            if value is not None and reading and reading.count and 0 in self.lowering.shape(value):
                raise NotLowered(f"'{value.name}' has no elements")
        fact = self.lowering.inference.fact
        asked = [*(fact(v) for v in node.inputs if v), *(Fact(fact(v).type) for v in node.outputs)]
        return Traits(
            cost=max((page.cost - LOAD_COST for page in pages), default=0.0),
            is_reduction=any(page.is_reduction for page in pages),
            has_memory=any(page.has_memory for page in pages),
            readings=readings,
            bounds=tuple(symbolic),
            needs_check=any(isinstance(e, Dim) for fact in asked for e in _entries(fact)),
            is_convolution=any(page.is_convolution for page in pages),
            bits=max((x.dtype.bits for x in results if x is not None), default=0),
        )

    def _argument(self, value: Value) -> Tensor:
        """``value`` in memory; numbers stay numbers, since rules and costs tell them apart."""
        memory = self.lowering.memory(value)
        tensor = value.constant
        is_read = value not in self.lowering.unread
        if is_read and tensor is not None and math.prod(tensor.shape) == 1:
            return number(tensor.numpy().reshape(-1)[0].item(), memory)
        return memory

    def _verify(self, node: Node) -> None:
        """Raise NotLowered unless types follow from the operator, or may: each run asks again.

        An extent that a rule leaves open, such as that of n beside m, may be declared to be n. That
        is believed where it holds for some extents, and then asked for those of each run.
        """
        try:
            self.infer(node, {})
        except NotLowered:
            facts = [self.lowering.inference.fact(v) for v in (*node.inputs, *node.outputs) if v]
            names = {name for fact in facts for name in _symbols_of(fact)}
            if not any(self._holds(node, dict.fromkeys(names, extent)) for extent in SAMPLES):
                raise

    def _holds(self, node: Node, extents: Mapping[str, int]) -> bool:
        try:
            self.infer(node, extents)
        except NotLowered:
            return False
        return bool(extents)

    def infer(self, node: Node, extents: Mapping[str, DimLike]) -> None:
        """Raise NotLowered unless the rule alone gives the types that inference found.

        With ``extents`` for symbols; so declarations of models are never trusted with memory.
        """
        schema, opset = self.lowering.schema(node)
        fact = self.lowering.inference.fact
        view = InferNode(
            operator=ops.operator_of(schema),
            schema=schema,
            opset=opset,
            wanted=tuple(node.wants(index) for index in range(len(node.outputs))),
            infer_body=_no_body,
        )
        binding = self.binding
        if binding.extents != extents:
            binding = self.binding = Binding(dict(extents))
        try:
            inputs = [None if v is None else bound_fact(fact(v), binding) for v in node.inputs]
            wanted = [bound_fact(fact(value), binding).type for value in node.outputs]
            found = infer_node(inputs, plain_attributes(node.attributes, {}), view)
        except RULE_ERRORS as error:
            raise NotLowered(f"{type(error).__name__}: {error}") from error
        for value, expected, result in zip(node.outputs, wanted, found, strict=True):
            if value.is_used and result.type != expected:
                _require_known(value, expected, result.type)
                raise NotLowered(
                    f"the extents of '{value.name}' are known at run time only: "
                    f"it is {expected} as declared, {result.type} by its operator"
                )

    def agreement(self, node: Node, *, may_be_empty: bool = False) -> Agreement | None:
        """What suffices for ``node`` to be what inference found; None if not known."""
        schema, _ = self.lowering.schema(node)
        fact = self.lowering.inference.fact
        facts = [None if v is None else fact(v) for v in node.inputs]
        results = [fact(value) for value in node.outputs if value.is_used]
        found = agreement(node, schema, facts, results, may_be_empty=may_be_empty)
        if found is None:
            return None
        try:
            self.infer(node, found.values)
        except (NotLowered, *RULE_ERRORS):
            return None  # only the model says so, or what it says holds for some extents, or none
        return found


def _require_known(value: Value, expected: Type | None, found: Type | None) -> None:
    """Raise NotLowered if the rule of an operator leaves extents open that are symbols elsewhere.

    The model declares these names for what it does not know, or runs learn them.
    """
    shapes = (getattr(type_, "shape", None) or () for type_ in (expected, found))
    for extent, open_one in zip(*shapes, strict=False):
        if isinstance(extent, Dim) and isinstance(open_one, Dim) and open_one.unknowns:
            why = next(iter(open_one.unknowns))
            raise NotLowered(f"an extent of '{value.name}' is known at run time only: {why}")


def _no_body(*_: object, **__: object) -> list[Fact]:
    raise NotLowered("control flow decides at run time what runs")


def _is_symbolic(d: DimLike) -> bool:
    return any(isinstance(a, Symbol) for a in atoms(d)) or any(
        isinstance(a, Variable) and _is_symbolic(a.extent) for a in atoms(d)
    )


def _symbols_of(fact: Fact) -> set[str]:
    return {name for entry in _entries(fact) if isinstance(entry, Dim) for name in entry.symbols}


def _entries(fact: Fact) -> tuple[DimLike | None, ...]:
    """The extents of ``fact``, and its contents as far as they are known."""
    contents = () if fact.known_value is None else fact.known_value.flat
    return (*(getattr(fact.type, "shape", None) or ()), *contents)


def _content(attribute: Attribute) -> Key:
    value = attribute.value
    if attribute.kind is AttributeKind.TENSOR:
        return attribute.name, value.dtype.name, value.shape, value.tobytes()
    return attribute.name, attribute.kind.name, tuple(value) if isinstance(value, list) else value


class _Page:
    """What the expression of one output says."""

    def __init__(self, output: Tensor, arguments: Sequence[Buffer | None]) -> None:
        self.arguments = arguments
        self.cost = 0.0
        self.bounds: list[Bound] = []
        self.counts = [0.0] * len(arguments)
        self.place = tuple(Variable("i", extent) for extent in output.shape)
        self.shape = tuple(output.shape)
        # Rules index what may broadcast by 0 where there is one element: so is what they are asked.
        places = tuple(0 if v.extent == 1 else v.dim for v in self.place)
        self.here = row_major(places, self.shape)
        source = None if output.buffer is None else output.buffer.source
        self.has_memory = not (source is None or isinstance(source, Constant))
        self.is_reduction = self.has_memory
        self.in_place = [not self.has_memory] * len(arguments)
        self.channels: list[set[str]] = [set() for _ in arguments]
        self.shifts = [0] * len(arguments)
        self.relaid = [False] * len(arguments)
        self.cut = [False] * len(arguments)
        self.passes = [0] * len(arguments)
        self.turned = [False] * len(arguments)
        self.is_convolution = False
        self.is_for_number = False  # what is read becomes one, to which channels are all the same
        waiting: list[Buffer] = []
        if self.has_memory and output.buffer is not None:
            waiting.append(output.buffer)
        else:
            value = output[places]
            waiting += self._read([value], self.place)
            self.is_convolution = self._has_filters(output, value)
        self._read_stored(waiting)
        self.readings = [
            Reading(
                count,
                is_in_place=place and not self.is_reduction,
                channels=next(iter(channels), "") if len(channels) < 2 else OTHER,
                shift=shift,
                is_relaid=relaid,
                is_cut=cut,
                passes=passes,
                is_turned=turned,
            )
            for count, place, channels, shift, relaid, cut, passes, turned in zip(
                self.counts,
                self.in_place,
                self.channels,
                self.shifts,
                self.relaid,
                self.cut,
                self.passes,
                self.turned,
                strict=True,
            )
        ]

    def _has_filters(self, output: Tensor, value: Scalar) -> bool:
        """Whether ``value`` is that of a convolution whose filters are the channels of images."""
        if len(self.place) <= CHANNELS + 1:
            return False
        buffer = Buffer("image", output.shape, output.dtype)
        found = convolution(Store(buffer, self.place, self.here, value))
        if found is None or found.filter is not self.place[CHANNELS]:
            return False
        if not found.sum.dtype.is_float and found.product.elements == 1:
            return False
        given = groups(found)
        if given is not None and given.are_few:
            return False
        for e in accesses([found.image]):
            if e.buffer in self.arguments and found.has_groups:
                kinds = self.channels[self.arguments.index(e.buffer)]
                kinds |= {ALL} if OTHER in kinds else set()
                kinds.discard(OTHER)
        return True

    def _read(self, values: Sequence[Scalar], axes: Sequence[Variable]) -> list[Buffer]:
        """Account for ``values`` at every place of ``axes``; gives the stored buffers in them."""
        start = frozenset[Atom](axes)
        waiting = [(value, start, 1.0) for value in values]
        seen = {(value, start) for value in values}
        found: list[Buffer] = []
        while waiting:
            node, loops, times = waiting.pop()
            self.cost += times * _cost(node)
            if isinstance(node, Load):
                self._note(node, loops)
                found.append(node.buffer)
            elif isinstance(node, Reduce):
                loops = (node.variables & loops) | frozenset(node.axes)
                times *= _volume(node.axes)
                self.is_reduction |= times >= SMALL_REDUCTION
            parts = [(part, loops, n * times) for part, n in _parts(node)]
            new = [part for part in parts if part[:2] not in seen]
            seen.update((part, loops) for part, _, _ in new)
            waiting.extend(new)
        return [buffer for buffer in found if buffer.source is not None]

    def _note(self, load: Load, loops: frozenset[Atom]) -> None:
        """Account for a read of an argument, if it is one."""
        if load.buffer not in self.arguments:
            return
        index = self.arguments.index(load.buffer)
        elements = load.buffer.elements
        self.counts[index] = max(self.counts[index], _volume(loops) / estimate(elements))
        self.turned[index] |= self._is_turned(load)
        self.passes[index] += 1
        if len(load.buffer.shape) > CHANNELS + 1 and not self.is_for_number:
            is_cut = load.buffer.shape[-1:] != self.shape[-1:] and load.address == self.here
            is_relaid = is_cut and _have_other_rows(load.buffer.shape, self.shape)
            self.cut[index] |= is_cut
            self.relaid[index] |= is_relaid
            self.channels[index].add(OTHER if is_relaid else self._channels(load))
            self.shifts[index] = math.gcd(self.shifts[index], self._shift(load))
        if load.guard is not None:
            self.in_place[index] = False
            return
        self.in_place[index] &= load.buffer.shape == self.shape and load.address == self.here
        bound = Bound(load.address, elements)
        if not bound.is_proved:
            self.bounds.append(bound)

    def _is_turned(self, load: Load) -> bool:
        """Whether ``load`` goes from row to row, all but short ones, along a row of the result."""
        if not self.place or not load.buffer.shape:
            return False
        row = load.buffer.shape[-1]
        size = estimate(load.buffer.elements) * load.buffer.dtype.bits
        if row == 1 or size < LARGE * 8:
            return False
        step = _step(load.address, self.place[-1])
        return step is not None and step not in NEAR and exact_quotient(step, row) is not None

    def _channels(self, load: Load) -> str:
        """Which channels of an image ``load`` reads for one of the result."""
        if len(self.place) <= CHANNELS:
            return OTHER
        channel, last = self.place[CHANNELS], self.place[-1]
        pitch: DimLike = 1
        for extent in load.buffer.shape[CHANNELS + 1 :]:
            pitch = pitch * extent
        step = _step(load.address, channel)
        if step == pitch:
            return SAME
        is_last = _step(load.address, last) == pitch and last.extent == load.buffer.shape[CHANNELS]
        if step == 1 and channel.extent == load.buffer.shape[-1]:
            return SWAPPED if is_last else FIRST
        if is_last:
            return LAST
        is_run = any(goes_past(load.address, a, pitch) for a in self.place[CHANNELS + 1 :])
        return ALL if step == 0 and not is_run else OTHER

    def _shift(self, load: Load) -> int:
        """How many channels away from those of the result ``load`` reads; 0 if not so many."""
        extents = load.buffer.shape[CHANNELS:]
        if len(self.place) <= CHANNELS or extents[0] == self.shape[CHANNELS]:
            return 0
        first = substitute(load.address, dict.fromkeys(variables(load.address), 0), {})
        pitch: DimLike = 1
        for extent in extents[1:]:
            pitch = pitch * extent
        if isinstance(first, int) and isinstance(pitch, int):
            return round(first / max(pitch, 1))
        distance = exact_quotient(first, pitch)
        return distance if isinstance(distance, int) else 1

    def _read_stored(self, waiting: list[Buffer]) -> None:
        """Account for what fills the buffers ``waiting``, and for what that reads in turn."""
        seen, numbers = set(self.arguments), set[Buffer]()
        while waiting:
            buffer = waiting.pop()
            if buffer in seen:
                continue
            seen.add(buffer)
            self.is_for_number = not buffer.shape or buffer in numbers
            if isinstance(buffer.source, Routine):
                waiting += self._read_by(buffer.source)
                continue
            time = getattr(buffer.source, "time", None)
            for store in _stores(buffer):
                self.is_reduction = True
                axes = store.axes if time is None else (time, *store.axes)
                places = [atom.expr for atom in loaded(store.address)]
                found = self._read([store.value, *places], axes)
                waiting += found
                numbers.update(found if self.is_for_number else ())

    def _read_by(self, source: Routine) -> list[Buffer]:
        """Account for what a routine reads; gives the stored buffers in it."""
        self.is_reduction = self.has_memory = True  # nobody calls it again for another result
        for buffer in source.inputs:
            if buffer in self.arguments:
                index = self.arguments.index(buffer)
                self.counts[index] = max(self.counts[index], 1.0)
                self.in_place[index] = False
                self.channels[index].add(OTHER)
        return [buffer for buffer in source.inputs if buffer.source is not None]


def _step(address: DimLike, axis: Variable) -> DimLike | None:
    """How far ``address`` moves along ``axis``; None if that differs from place to place."""
    found = coefficient(address, axis)
    return None if found is None or axis in variables(found[1]) else found[0]


def _stores(buffer: Buffer) -> Sequence[Store]:
    source = buffer.source
    if isinstance(source, Store):
        return (source,)
    if source is None or isinstance(source, Constant):
        return ()
    stores = sum((getattr(source, name, ()) for name in ("starts", "inner", "steps")), ())
    pair = [getattr(source, name, None) for name in ("base", "update")]
    found = (*stores, *(store for store in pair if store is not None))
    if not found:
        raise NotLowered(getattr(source, "reason", "its lowering calls a kernel"))
    return found


def _parts(node: Scalar) -> Iterator[tuple[Scalar, float]]:
    """Operands, and what is loaded to index memory: how often for each element.

    An index of all elements is loaded once.
    """
    yield from ((part, 1.0) for part in node.args)
    for atom in loaded(*node.dims):
        yield atom.expr, 1.0 if atom.variables else 0.0


def _cost(node: Scalar) -> float:
    own = 0.0
    if isinstance(node, Apply):
        own = COSTS.get(node.op, 1.0)
    elif isinstance(node, Load):
        own = LOAD_COST
    for atom in (a for d in node.dims for a in atoms(d)):
        own += DIVISION_COST if isinstance(atom, Floor) else 0.0
        own += GATHER_COST if isinstance(atom, Loaded) and atom.variables else 0.0
    return own


def _have_other_rows(one: Sequence[DimLike], other: Sequence[DimLike]) -> bool:
    """Whether the last axes differ, and their lengths are open."""
    rows = {*one[-1:], *other[-1:]}
    return len(rows) > 1 and not all(isinstance(n, int) for n in rows)


def _volume(variables: Sequence[Atom] | frozenset[Atom]) -> float:
    return math.prod(estimate(v.extent) for v in variables if isinstance(v, Variable))


def estimate(d: DimLike) -> float:
    """``d`` with symbols of a typical size, at least 1."""
    if isinstance(d, int):
        return max(float(d), 1.0)
    symbols: dict[Atom, DimLike] = {a: TYPICAL_EXTENT for a in atoms(d) if isinstance(a, Symbol)}
    found = substitute(d, symbols, {})
    return max(float(found), 1.0) if isinstance(found, int) else float(TYPICAL_EXTENT)
