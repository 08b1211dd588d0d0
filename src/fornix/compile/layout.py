"""Which values lie in memory in blocks of channels, and which row-major.

Convolutions write and read images in the blocked layout at full speed, unless they have groups
whose filters fill no vectors. So the result of one is blocked, and so is what comes of it channel
by channel (pools, sums, activations), and what one reads that comes of nothing but images with the
channels last, if

1. nobody outside of this part of the program sees it: it is neither an output of the graph nor read
   or written by a NumPy kernel, nor handed on between steps of native code;
2. its channels fill whole blocks, of a vector or of half of one, and are cut out of others or put
   together with others (Split, Concat) at whole blocks; and
3. every reader takes it channel by channel, or is a convolution that sums over all of them, or only
   wants the channels last.

If some reader wants them last, or the value is computed from what has them there, one block holds
all channels: that is NHWC, and the transposition costs nothing. So it is where half of a vector is
left over, or channels are cut out or put together at halves, and a processor is faster with whole
ones. Everything else is row-major.
Readers go through address maps either way, so layouts decide about speed alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fornix.compile.blocked import CHANNELS, LEAST_LANES
from fornix.compile.readings import ALL, FIRST, LAST, OTHER, SAME, SWAPPED
from fornix.compile.target import Target
from fornix.compile.traits import Traits
from fornix.compile.units import CompiledUnit, IslandUnit, Unit
from fornix.dtype import INT8, INT32, UINT8
from fornix.infer import Inference
from fornix.ir.graph import Node, Value
from fornix.ir.types import TensorType
from fornix.ir.walk import captured_values

COMPUTED_BYTES = 4
"""Narrower elements are computed with in this width, so that blocks fill vectors of these."""

BYTE = 8
"""Bits of elements that tile registers hold in rows as long as vectors; blocks then fill these."""
QUANTIZED = {INT8, UINT8, INT32}
"""Integers that images consist of: those of quantised networks, and their sums."""

Layouts = Mapping[Value, int]
"""Channels in a block of each blocked value."""


def layouts(
    units: Sequence[Unit],
    traits: Mapping[Node, Traits | str],
    needed: Collection[Value],
    inference: Inference,
    target: Target,
) -> dict[Value, int]:
    """The blocked values of ``units``; ``needed`` are read by others."""
    readers = _readers(units)
    seen = set(needed) | _seen_outside(units)
    found: dict[Value, int] = {}
    sources: dict[Value, _Sources] = {}
    whole: set[Value] = set()
    for unit in units:
        for value in () if isinstance(unit, IslandUnit) else unit.outputs:
            if value in seen or isinstance(unit, IslandUnit):
                continue
            given = _sources(unit, value, traits, found)
            uses = [_uses(r, value, traits) for r in readers.get(value, ())]
            taken = [kinds for kinds, _ in uses]
            if given is not None and given.is_turned and not _is_convolved(value, readers, traits):
                continue
            if given is None or not all(t <= {SAME, ALL, LAST, SWAPPED} for t in taken):
                continue
            shift = math.gcd(given.shift, *(shift for _, shift in uses))
            lanes = _lanes(value, shift, inference, target)
            if not lanes:
                continue
            found[value], sources[value] = lanes, given
            if given.has_channels_last or any(t & {LAST, SWAPPED} for t in taken):
                whole.add(value)
    for value in _linked(whole, sources):
        channels = inference.fact(value).shape[CHANNELS]
        found[value] = channels if isinstance(channels, int) else found[value]
    return found


def _linked(start: set[Value], sources: Mapping[Value, _Sources]) -> set[Value]:
    """``start``, and what is computed channel by channel from one another with it."""
    links: dict[Value, set[Value]] = {}
    for value, given in sources.items():
        for source in given.blocked:
            links.setdefault(value, set()).add(source)
            links.setdefault(source, set()).add(value)
    waiting, found = list(start), set(start)
    while waiting:
        new = links.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def _readers(units: Sequence[Unit]) -> dict[Value, list[CompiledUnit]]:
    found: dict[Value, list[CompiledUnit]] = {}
    for unit in units:
        if isinstance(unit, CompiledUnit):
            for value in unit.inputs:
                found.setdefault(value, []).append(unit)
    return found


def _seen_outside(units: Sequence[Unit]) -> set[Value]:
    """Values that NumPy kernels read, and those that native code hands on past one."""
    found: set[Value] = set()
    made: dict[Value, int] = {}
    step = 0
    for unit in units:
        if isinstance(unit, IslandUnit):
            step += 1
            captured = captured_values(unit.node) if unit.node.graphs else ()
            found.update(v for v in (*unit.node.inputs, *captured) if v is not None)
            continue
        found.update(v for v in unit.inputs if made.get(v, step) != step)
        made.update(dict.fromkeys(unit.outputs, step))
    return found


def _lanes(value: Value, shift: int, inference: Inference, target: Target) -> int:
    """Channels in a block of ``value``; 0 if it has none, or they fill none.

    ``shift`` divides the distances by which others have the same channels elsewhere.
    """
    type_ = inference.fact(value).type
    if not isinstance(type_, TensorType) or type_.dtype is None or type_.shape is None:
        return 0
    lanes = target.vector_bytes // max(COMPUTED_BYTES, type_.dtype.bits // 8)
    is_computed = type_.dtype.is_float or type_.dtype in QUANTIZED
    if not is_computed or len(type_.shape) <= CHANNELS + 1:
        return 0
    channels, places = type_.shape[CHANNELS], type_.shape[CHANNELS + 1 :]
    if not isinstance(channels, int) or all(n == 1 for n in places):
        return 0
    rest = math.gcd(channels, shift, lanes)
    if target.is_wide and type_.dtype.is_float and channels > lanes and rest == lanes // 2:
        return channels
    wide = target.vector_bytes if type_.dtype.bits == BYTE and target.has("amx-int8") else lanes
    fitting = (n for n in (wide, lanes, lanes // 2) if channels % n == shift % n == 0)
    return next((n for n in fitting if n >= min(lanes, LEAST_LANES)), 0)


@dataclass(frozen=True)
class _Sources:
    """What a blocked value is computed from channel by channel."""

    blocked: frozenset[Value]
    has_channels_last: bool
    """Whether something that it is computed from has the channels as its last axis."""
    shift: int
    """What divides the distances of its channels from those that it is computed from."""
    is_turned: bool
    """Whether nothing but images that have the channels as their last axis is behind it."""


def _sources(
    unit: CompiledUnit, value: Value, traits: Mapping[Node, Traits | str], found: Layouts
) -> _Sources | None:
    """Where ``value`` comes from; None unless that is what layouts help with.

    That is a convolution, something blocked, or nothing but images with the channels last.
    """
    inside = {v: node for node in unit.nodes for v in node.outputs}
    waiting, seen = [value], {value}
    is_convolution = has_channels_last = is_first = False
    shift = 0
    while waiting:
        node = inside.get(waiting.pop())
        trait = None if node is None else traits[node]
        if node is None or not isinstance(trait, Traits):
            continue
        images = _images(node, trait)
        is_convolution |= trait.is_convolution
        if not trait.is_convolution and any(kind in {ALL, LAST, OTHER} for _, kind in images):
            return None
        has_channels_last |= any(kind in {FIRST, SWAPPED} for _, kind in images)
        is_first |= any(kind == FIRST for _, kind in images)
        shift = math.gcd(shift, _shift(trait))
        new = [v for v, kind in images if kind == SAME and v not in seen]
        seen.update(new)
        waiting += new
    blocked = frozenset(v for v in seen if v in found and v not in inside)
    is_turned = is_first and not is_convolution and seen <= inside.keys()
    if not (is_convolution or blocked or is_turned):
        return None
    return _Sources(blocked, has_channels_last, shift, is_turned)


def _is_convolved(
    value: Value,
    readers: Mapping[Value, Sequence[CompiledUnit]],
    traits: Mapping[Node, Traits | str],
) -> bool:
    """Whether a convolution reads ``value`` as its image."""
    nodes = [n for r in readers.get(value, ()) for n in r.nodes if n.inputs[:1] == (value,)]
    found = [traits[n] for n in nodes]
    return any(isinstance(t, Traits) and t.is_convolution for t in found)


def _uses(
    unit: CompiledUnit, value: Value, traits: Mapping[Node, Traits | str]
) -> tuple[set[str], int]:
    """Which channels of ``value`` the nodes of ``unit`` take, as `Reading.channels` says.

    And what divides the distances by which they move.
    """
    same, taken, shift = {value}, set[str](), 0
    for node in unit.nodes:
        trait = traits[node]
        if not isinstance(trait, Traits):
            continue
        kinds = {kind for v, kind in _images(node, trait) if v in same and kind}
        taken |= kinds
        if SAME in kinds:
            same.update(node.outputs)
            shift = math.gcd(shift, _shift(trait))
    return taken, shift


def _shift(trait: Traits) -> int:
    """What divides the distances by which channels move in a node."""
    return math.gcd(*(r.shift for r in trait.readings if r is not None and r.channels == SAME))


def _images(node: Node, trait: Traits) -> list[tuple[Value, str]]:
    """The inputs of ``node`` that it reads, and how it does."""
    pairs = zip(node.inputs, trait.readings, strict=True)
    return [(v, r.channels) for v, r in pairs if v is not None and r is not None and r.count]


__all__ = ["Layouts", "layouts"]
