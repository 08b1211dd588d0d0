"""Results that are their parts one behind the other in memory, where little says otherwise.

Decides for which units a copy may be left out: of a Concat whose parts lie where it would copy them
to, nothing is left to do. Where values lie is the runtime's business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from fornix.compile.blocked import CHANNELS, lanes_of_buffer
from fornix.compile.notes import Joined
from fornix.compile.units import CompiledUnit
from fornix.ir.buffer import Buffer
from fornix.ir.graph import Value
from fornix.ops.geometry import normalize_axis


def joined(
    unit: CompiledUnit, arguments: Mapping[Buffer, Value], results: Mapping[Buffer, Value]
) -> Joined | None:
    """How the result of ``unit`` consists of what it reads; None where it is something else."""
    node, *others = unit.nodes
    if others or node.domain or node.op_type != "Concat":
        return None
    (result,) = results
    buffers = {value: buffer for buffer, value in arguments.items()}
    parts = [buffers.get(value) for value in node.inputs if value is not None]
    if any(part is None or part.source is not None for part in parts):
        return None
    own = [part for part in parts if part is not None]
    axis = normalize_axis(int(node.attr("axis", CHANNELS)), len(result.shape))
    if not _lie_alike(own, result, axis):
        return None
    places = tuple(unit.inputs.index(arguments[part]) for part in own)
    return Joined(places, math.prod(result.shape[:axis]))


def _lie_alike(parts: list[Buffer], result: Buffer, axis: int) -> bool:
    """Whether ``parts`` lie in memory as the places of ``result`` that hold them along ``axis``."""
    lanes = {lanes_of_buffer(buffer) for buffer in (*parts, result)}
    if len(lanes) > 1 or lanes == {1}:
        return lanes == {1}
    if axis > CHANNELS:
        return False
    (block,) = lanes
    return axis < CHANNELS or all(part.shape[CHANNELS] % block == 0 for part in parts)


__all__ = ["joined"]
