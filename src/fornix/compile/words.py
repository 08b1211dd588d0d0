"""Words: four neighbouring bytes of memory that are read as one int32; and pairs, two of them.

Products of bytes take them four at a time (`ops.byte_products`), put together by shifts. Where
the four lie side by side and aligned, as channels of blocked images do, that is a plain load.
Where bytes are widened (`schedule.pairs`), two that lie so are one load and two operations.
Products of bfloat16s take two of them at a time (`schedule.halves`), which are a word as well.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from fornix.dtype import INT8, INT32, UINT8, UINT16
from fornix.ir.dim import DimLike, exact_quotient
from fornix.ir.loops import Apply, Buffer, Const, Load, Scalar

BYTES, PAIR_BYTES = 4, 2
"""Of a word, and of a pair."""
HALVES = 2
"""Of a word."""


@dataclass(frozen=True)
class Word:
    """Bytes ``4·place`` to ``4·place + 3`` of ``buffer``; `default` where the guard fails.

    A pair is ``2·place`` and ``2·place + 1``; so is a word of elements of 16 bits.
    """

    buffer: Buffer
    place: DimLike
    guard: Scalar | None
    default: int


@functools.lru_cache(maxsize=4096)
def word_of(e: Scalar) -> Word | None:
    """``e`` as a word; None if it is none."""
    halves = _joined(e, 16)
    if halves is None or e.dtype.bits != INT32.bits:
        return None
    found = _beside([_half(half) for half in halves], HALVES)
    if found is not None:
        return found
    return _beside([_byte(part) for half in halves for part in _joined(half, 8) or ()], BYTES)


@functools.lru_cache(maxsize=4096)
def pair_of(e: Scalar) -> Word | None:
    """``e`` as two bytes, each as an unsigned half of an int32; None if it is none."""
    halves = _joined(e, 16)
    return None if halves is None else _beside([_byte(half) for half in halves], PAIR_BYTES)


def _beside(loads: Sequence[Load | None], count: int) -> Word | None:
    """``loads`` as ``count`` elements side by side and aligned; None if they are none."""
    first = loads[0] if len(loads) == count else None
    if first is None:
        return None
    for k, other in enumerate(loads):
        if other is None or other.buffer is not first.buffer:
            return None
        is_next = other.address == first.address + k
        if not is_next or other.guard is not first.guard or other.default != first.default:
            return None
    place = exact_quotient(first.address, count)
    if place is None:
        return None
    default = int.from_bytes(bytes([int(first.default) & 255] * count), "little", signed=True)
    return Word(first.buffer, place, first.guard, default)


def is_word(e: Scalar) -> bool:
    """Whether ``e`` is a word that lies in memory wherever it is read."""
    found = word_of(e)
    return found is not None and found.guard is None


def place_of(e: Scalar) -> DimLike | None:
    """Where ``e`` lies wherever it is read, in elements or words; None if it is computed."""
    found = e if isinstance(e, Load) else word_of(e)
    if found is None or found.guard is not None:
        return None
    return found.address if isinstance(found, Load) else found.place


def _joined(e: Scalar, bits: int) -> tuple[Scalar, Scalar] | None:
    """``low`` and ``high`` of ``low | high << bits``."""
    if not isinstance(e, Apply) or e.op != "or":
        return None
    low, shifted = e.args
    is_moved = isinstance(shifted, Apply) and shifted.op == "shl" and _is(shifted.args[1], bits)
    return (low, shifted.args[0]) if is_moved else None


def _byte(e: Scalar) -> Load | None:
    """The load of which ``e`` has the bits."""
    if not isinstance(e, Apply) or e.op != "and" or not _is(e.args[1], 255):
        return None
    x = e.args[0]
    x = x.args[0] if isinstance(x, Apply) and x.op == "cast" and x.dtype is INT32 else x
    return x if isinstance(x, Load) and x.dtype in {INT8, UINT8} else None


def _half(e: Scalar) -> Load | None:
    """The load, wherever it is read, of which ``e`` has the 16 bits, and no others."""
    if not isinstance(e, Apply) or e.op != "cast" or e.args[0].dtype is not UINT16:
        return None
    x = e.args[0]
    x = x.args[0] if isinstance(x, Apply) and x.op == "bitcast" else x
    return x if isinstance(x, Load) and x.guard is None else None


def _is(e: Scalar, number: int) -> bool:
    return isinstance(e, Const) and e.value == number


__all__ = ["Word", "is_word", "pair_of", "place_of", "word_of"]
