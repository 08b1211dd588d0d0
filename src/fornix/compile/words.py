"""Words: four neighbouring bytes of memory that are read as one int32; and pairs, two of them.

Products of bytes take them four at a time (`ops.byte_products`), put together by shifts. Where
the four lie side by side and aligned, as channels of blocked images do, that is a plain load.
Where bytes are widened (`schedule.pairs`), two that lie so are one load and two operations.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from fornix.dtype import INT8, INT32, UINT8
from fornix.ir.dim import DimLike, exact_quotient
from fornix.ir.loops import Apply, Buffer, Const, Load, Scalar

BYTES, PAIR_BYTES = 4, 2
"""Of a word, and of a pair."""


@dataclass(frozen=True)
class Word:
    """Bytes ``4·place`` to ``4·place + 3`` of ``buffer``; `default` where the guard fails.

    A pair is ``2·place`` and ``2·place + 1``.
    """

    buffer: Buffer
    place: DimLike
    guard: Scalar | None
    default: int


@functools.lru_cache(maxsize=4096)
def word_of(e: Scalar) -> Word | None:
    """``e`` as a word; None if it is none."""
    halves = _joined(e, 16)
    if halves is None:
        return None
    return _beside([part for half in halves for part in _joined(half, 8) or ()], BYTES)


@functools.lru_cache(maxsize=4096)
def pair_of(e: Scalar) -> Word | None:
    """``e`` as two bytes, each as an unsigned half of an int32; None if it is none."""
    halves = _joined(e, 16)
    return None if halves is None else _beside(halves, PAIR_BYTES)


def _beside(parts: Sequence[Scalar], count: int) -> Word | None:
    """``parts`` as ``count`` bytes side by side and aligned; None if they are none."""
    loads = [found for part in parts if (found := _byte(part)) is not None]
    if len(loads) != count:
        return None
    first = loads[0]
    for k, other in enumerate(loads):
        is_next = other.buffer is first.buffer and other.address == first.address + k
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


def _is(e: Scalar, number: int) -> bool:
    return isinstance(e, Const) and e.value == number


__all__ = ["Word", "is_word", "pair_of", "word_of"]
