"""Numbers by hash for machine code: each key has a slot of its own, so one comparison finds it.

Keys go into buckets by the first bits of a product, and into slots by the bits behind those, moved
on by what their bucket says. Source: R. Pagh, Hash and displace, WADS 1999.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, INT16, INT32, INT64
from fornix.ir.loops import Scalar, bitcast, cast, const, constant, gathered
from fornix.ops.fact import Array

FACTORS = 64
"""Factors that are tried for each size of a table, at most."""
TRIED = 1 << 20
"""Products for each size of a table, at most: keys that no factor tells apart end as fast."""
NEAR = 256
"""Ways to move a bucket on that are looked at first: there is room for most."""
LOOSE, SPARSE = 1, 4
"""Bits of slots beyond those of the number of keys, at least and at most."""
FEW = 512
"""Keys up to which a single bucket is tried."""
SHARED = 2
"""Bits of the number of keys that share a bucket."""
HASHED_AS = {FLOAT32: INT32, FLOAT64: INT64, INT16: INT32, INT32: INT32, INT64: INT64}
"""The type of whole numbers that a key becomes."""


@dataclass(frozen=True)
class Hashed:
    """Slots for keys, no two of which are equal or the same slot's."""

    factor: int
    first: int
    """Bits behind those that tell the bucket."""
    second: int
    """Bits behind those that tell the slot."""
    moves: Array
    """How far the slots of each bucket are moved on."""
    size: int
    """Slots, a power of two."""
    slots: Array
    """That of each key."""

    @classmethod
    def of(cls, keys: Array) -> Hashed | None:
        """Slots for ``keys``, which are numbers and differ; None if no factor tells them apart."""
        bits, random = _bits(keys), np.random.default_rng(0)
        width, odd = bits.dtype.itemsize * 8, bits.dtype.type(1)
        for in_bucket, in_slot in _sizes(len(keys)):
            first = width - in_bucket
            second, buckets, size = first - in_slot, 1 << in_bucket, 1 << in_slot
            if second < 0:
                break
            for _ in range(min(FACTORS, TRIED // len(keys))):
                factor = random.integers(np.iinfo(bits.dtype).max, dtype=bits.dtype) | odd
                product = bits * factor
                bucket = product >> np.minimum(first, width - 1) & (buckets - 1)
                slot = product >> second & (size - 1)
                moves = _moves(bucket, slot, buckets, size)
                if moves is not None:
                    slots = slot + moves[bucket] & (size - 1)
                    return cls(int(factor), first, second, moves, size, slots)
        return None

    def listed(self, entries: Array) -> Array:
        """What stands beside each key, by slot; the first of ``entries`` where there is none."""
        made = np.full(self.size, entries[0])
        made[self.slots] = entries
        return made

    def slot(self, x: Scalar) -> Scalar:
        """The slot of a number that is a key; of another one any."""
        kind = HASHED_AS[x.dtype]
        bits = bitcast(x + 0.0, kind) if x.dtype.is_float else cast(x, kind)
        product = bits * const(self.factor, kind)
        slot = product >> const(self.second, kind)
        if len(self.moves) > 1:
            bucket = product >> const(self.first, kind) & (len(self.moves) - 1)
            slot = slot + constant(self.moves)[gathered(bucket, len(self.moves))]
        return slot & (self.size - 1)


def _bits(keys: Array) -> Array:
    """Keys as the whole numbers that are hashed; 0 and −0 are one."""
    if keys.dtype.kind == "f":
        return np.asarray((keys + keys.dtype.type(0)).view(f"i{keys.dtype.itemsize}"))
    return keys.astype(np.int64 if keys.dtype == np.int64 else np.int32)


def _sizes(count: int) -> Iterator[tuple[int, int]]:
    """Bits that tell buckets, and slots, for so many keys, those first that take the least time."""
    whole = (count - 1).bit_length()
    for in_bucket in (0, whole - SHARED) if count <= FEW else (whole - SHARED,):
        yield from ((in_bucket, whole + more) for more in range(LOOSE, SPARSE + 1))


def _moves(bucket: Array, slot: Array, buckets: int, size: int) -> Array | None:
    """How far each bucket has to move on for all slots to differ; None if two never will."""
    order = np.lexsort((slot, bucket))
    if ((np.diff(bucket[order]) == 0) & (np.diff(slot[order]) == 0)).any():
        return None
    moves, last = np.zeros(buckets, slot.dtype), size - 1
    is_free = np.ones(2 * size, bool)  # twice, so that slots behind the last are the first ones
    sizes = np.bincount(bucket, minlength=buckets)
    groups = np.split(slot[order], np.cumsum(sizes)[:-1])
    for place in np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)].tolist():
        move = _move(groups[place].tolist(), is_free, size)
        if move is None:
            return None
        moves[place] = move
        taken = groups[place] + move & last
        is_free[taken] = is_free[taken + size] = False
    return moves


def _move(slots: list[int], is_free: Array, size: int) -> int | None:
    """How far these slots have to move on at least for all of them to be free."""
    for reach in (min(NEAR, size), size):
        fits = is_free[slots[0] : slots[0] + reach]
        for slot in slots[1:]:
            fits = fits & is_free[slot : slot + reach]
        move = int(fits.argmax())
        if fits[move]:
            return move
    return None
