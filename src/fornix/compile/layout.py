"""Which values lie in memory in blocks of channels, and which row-major.

Convolutions write and read images in the blocked layout at full speed. So the result of one is
blocked, and so is what comes of it channel by channel (pools, sums, activations), if

1. nobody outside of this part of the program sees it: it is neither an output of the graph nor read
   or written by a NumPy kernel, nor handed on between steps of native code;
2. its channels fill whole blocks; and
3. every reader takes it channel by channel, or is a convolution that sums over all of them.

Everything else is row-major. Readers go through address maps either way, so layouts decide about
speed alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fornix.compile.blocked import CHANNELS
from fornix.compile.target import Target
from fornix.compile.traits import ALL, SAME, Traits
from fornix.compile.units import CompiledUnit, IslandUnit, Unit
from fornix.infer import Inference
from fornix.ir.graph import Node, Value
from fornix.ir.types import TensorType
from fornix.ir.walk import captured_values

COMPUTED_BYTES = 4
"""Narrower elements are computed with in this width, so that blocks fill vectors of these."""

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
    for unit in units:
        if isinstance(unit, IslandUnit):
            continue
        for value in unit.outputs:
            lanes = 0 if value in seen else _lanes(value, inference, target)
            if (
                lanes
                and _gives_blocks(unit, value, traits, found)
                and all(_takes_blocks(reader, value, traits) for reader in readers.get(value, ()))
            ):
                found[value] = lanes
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


def _lanes(value: Value, inference: Inference, target: Target) -> int:
    """Channels in a block of ``value``; 0 if it has none, or they do not fill it."""
    type_ = inference.fact(value).type
    if not isinstance(type_, TensorType) or type_.dtype is None or type_.shape is None:
        return 0
    lanes = target.vector_bytes // max(COMPUTED_BYTES, type_.dtype.bits // 8)
    if not type_.dtype.is_float or len(type_.shape) <= CHANNELS + 1:
        return 0
    channels, places = type_.shape[CHANNELS], type_.shape[CHANNELS + 1 :]
    if not isinstance(channels, int) or channels % lanes or all(n == 1 for n in places):
        return 0
    return lanes


def _gives_blocks(
    unit: CompiledUnit, value: Value, traits: Mapping[Node, Traits | str], found: Layouts
) -> bool:
    """Whether ``value`` comes from a convolution, or channel by channel from what is blocked."""
    inside = {v: node for node in unit.nodes for v in node.outputs}
    waiting, seen = [value], {value}
    is_worth = False
    while waiting:
        here = waiting.pop()
        node = inside.get(here)
        trait = None if node is None else traits[node]
        if node is None or not isinstance(trait, Traits):
            is_worth |= here in found
            continue
        if trait.is_convolution:
            is_worth = True
            continue
        if any(channels not in {SAME, ""} for _, channels in _images(node, trait)):
            return False
        new = [v for v, channels in _images(node, trait) if channels == SAME and v not in seen]
        seen.update(new)
        waiting += new
    return is_worth


def _takes_blocks(unit: CompiledUnit, value: Value, traits: Mapping[Node, Traits | str]) -> bool:
    """Whether ``unit`` reads ``value`` channel by channel, or all of its channels in a sum."""
    same = {value}
    for node in unit.nodes:
        trait = traits[node]
        if not isinstance(trait, Traits):
            continue
        channels = {channels for v, channels in _images(node, trait) if v in same}
        if not channels <= {SAME, ALL}:
            return False
        if SAME in channels:
            same.update(node.outputs)
    return True


def _images(node: Node, trait: Traits) -> list[tuple[Value, str]]:
    """The inputs of ``node`` that it reads, and how it does."""
    pairs = zip(node.inputs, trait.readings, strict=True)
    return [(v, r.channels) for v, r in pairs if v is not None and r is not None and r.count]


__all__ = ["Layouts", "layouts"]
