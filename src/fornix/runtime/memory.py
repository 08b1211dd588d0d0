"""Memory for native code: aligned arrays, and that of results.

Decides, too, which memory large results get: that of earlier ones, where nobody refers to these any
more. New memory costs more than most kernels, as the system clears it page by page.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.errors import Fail
from fornix.system import READS_ANYWHERE

if TYPE_CHECKING:
    from fornix.ir.graph import Value

ALIGNMENT = 64
"""Bytes: a line of the cache, and the widest vector."""
PAGE_BYTES = 4096
"""Where large results begin in a page: what is written just ahead of what is read, as far as the
low bits of addresses tell, holds up the reading. Most large arrays begin a few bytes into one."""
ADDRESSES = 2**47
"""Bytes that a process can address."""
LARGE_BYTES = 256 << 10
"""Size from which on the memory of a result is used again; of smaller ones malloc takes care."""
KEPT_BYTES = 256 << 20
"""Memory that nobody refers to, up to which it is kept for results to come."""
AT_HAND, SIZES_AT_HAND = 2, 8
"""Blocks of a size that are kept at hand for native code, and for how many sizes: often the last
result is kept until the next one is there."""
RECENT = 1024
"""Large results after which what went before is half forgotten."""
PATIENCE = 0.1
"""Seconds after which a finaliser that runs a session amid our bookkeeping gets new memory."""
LARGE_PAGE = 2 << 20
"""Bytes of a large page, as most processors have them; they begin at multiples of that."""
BLOCK_BYTES = 64 << 20
"""Of a block in which arrays lie side by side, unless one takes more."""

Array = np.ndarray[Any, np.dtype[Any]]
_NOTHING = np.empty(0, np.uint8)


def aligned_bytes(count: int, alignment: int = ALIGNMENT) -> Array:
    """``count`` bytes that begin at a multiple of ``alignment``."""
    block = _bytes(count + alignment)
    start = -block.ctypes.data % alignment
    return block[start : start + count]


def aligned_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array in memory of its own, its contents undefined."""
    block = _bytes(math.prod(shape) * dtype.itemsize + ALIGNMENT)
    return np.ndarray(shape, dtype, block, -block.ctypes.data % ALIGNMENT)


class SideBySide:
    """Arrays in a block of memory that is as large as all of them, or in several large blocks.

    NumPy asks Linux to put large arrays on large pages, of which a processor finds more at once and
    beyond whose end it reads ahead more rarely: weights that come from memory do so a third faster.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        """``sizes`` are the bytes of each array, in any order."""
        self._left = sum(map(_in_lines, sizes))
        self._block = _NOTHING

    def array(self, size: int, dtype: np.dtype[Any]) -> Array:
        """An array of ``size`` elements, its contents undefined; it keeps its block."""
        count = _in_lines(size * dtype.itemsize)
        if count > self._block.size:
            whole = max(count, min(self._left, BLOCK_BYTES))
            self._block = aligned_bytes(whole, LARGE_PAGE if whole >= LARGE_PAGE else ALIGNMENT)
        self._left -= count
        found, self._block = self._block[:count], self._block[count:]
        return np.ndarray((size,), dtype, found)


def _in_lines(count: int) -> int:
    """``count`` bytes in whole lines of the cache."""
    return -(-count // ALIGNMENT) * ALIGNMENT


def _bytes(count: int) -> Array:
    """``count`` bytes; MemoryError if they are too many, of which NumPy may say something else."""
    if count > ADDRESSES:
        raise MemoryError(f"{count} bytes")
    return np.empty(count, np.uint8)


def size_class(size: int) -> int:
    """``size`` in bytes, rounded up by less than a quarter: results that grow fit for a while."""
    step = 1 << max(0, size.bit_length() - 3)
    return -(-size // step) * step


class ResultMemory:
    """Arrays for results; the memory of large ones is used again once nobody refers to it.

    An array, and whatever is a view of it, holds its block through a `_Loan`. Blocks that came back
    are kept as long as they and the blocks in use together are no more than were in use at one time
    of late, and up to ``limit`` bytes: those of the sizes that were asked for last.

    Blocks come back in finalisers, which may interrupt any thread anywhere. These do not wait for
    the lock: they leave the block in a queue that whoever has the lock empties.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self.limit = limit
        self.forget()

    def forget(self) -> None:
        """Keep nothing, as at the beginning; in the child of a fork, others may hold the lock."""
        self._lock = threading.Lock()
        with self._lock:  # finalisers that interrupt this leave their blocks in the queue
            self._returned: deque[Array] = deque()
            self._free: OrderedDict[int, list[Array]] = OrderedDict()
            self._at_hand: OrderedDict[int, list[Array]] = OrderedDict()
            self.kept = self._lent = 0
            self._most = self._most_before = self._asked = 0

    def shrink(self) -> None:
        """Give up what is kept, and let later results begin anew."""
        self._at_hand = OrderedDict()
        self._sort_in()
        with self._lock:
            self._free.clear()
            self.kept = 0
            self._most = self._most_before = self._lent

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array that shares memory with no other that is alive, its contents undefined."""
        size = math.prod(shape) * dtype.itemsize
        if size < LARGE_BYTES or not self._lock.acquire(timeout=PATIENCE):
            return aligned_array(shape, dtype)
        try:
            found = self._unused(size_class(size))
            block = self._block(size_class(size)) if found is None else found
        finally:
            self._lock.release()
        self._sort_in()
        lent = np.asarray(_Loan(block, self)) if found is None else found
        return np.ndarray(shape, dtype, lent)

    def block(self, size: int) -> Array:
        """Bytes for a large result that nobody else refers to, for an array that is to refer to it.

        Blocks at hand that only these lists refer to are free, without finalisers that say so.
        """
        size = size_class(size)
        if self._lock.acquire(blocking=False):
            try:
                found = self._unused(size)
            finally:
                self._lock.release()
            if found is not None:
                return found
        made = self.array((size,), np.dtype(np.uint8)).base
        if not isinstance(made, np.ndarray):
            raise TypeError("memory of large results is part of a block")
        if self._lock.acquire(blocking=False):
            try:
                self._at_hand[size] = [*self._at_hand.pop(size, ())[1 - AT_HAND :], made]
                while len(self._at_hand) > SIZES_AT_HAND:
                    self._at_hand.popitem(last=False)
            finally:
                self._lock.release()
        return made

    def _unused(self, size: int) -> Array | None:
        """A block at hand that nobody else refers to."""
        blocks = self._at_hand.get(size, ())
        for index in range(len(blocks)):
            if _references(blocks, index) == UNUSED:
                return blocks[index]
        return None

    def take_back(self, block: Array) -> None:
        """Nobody refers to ``block`` any more."""
        self._returned.append(block)
        self._sort_in()

    def _block(self, size: int) -> Array:
        blocks = self._free.get(size)
        if blocks:
            self._free.move_to_end(size)
            block = blocks.pop()
            self.kept -= size
        else:
            block = aligned_bytes(size, PAGE_BYTES)
        self._lent += size
        self._most = max(self._most, self._lent)
        self._asked += 1
        if self._asked == RECENT:
            self._most_before, self._most, self._asked = self._most, self._lent, 0
        self._trim()
        return block

    def _sort_in(self) -> None:
        """Make blocks that came back free; if somebody has the lock, they do it afterwards."""
        while self._returned and self._lock.acquire(blocking=False):
            try:
                self._empty_queue()
                self._trim()
            finally:
                self._lock.release()

    def _empty_queue(self) -> None:
        while self._returned:
            block = self._returned.popleft()
            self._lent = max(0, self._lent - block.nbytes)  # it may be from before a fork
            if block.nbytes <= self.limit:
                self._free.setdefault(block.nbytes, []).append(block)
                self.kept += block.nbytes

    def _trim(self) -> None:
        """Give up blocks beyond the limits, those of sizes not asked for longest first."""
        limit = min(self.limit, max(self._most, self._most_before) - self._lent)
        while self.kept > limit:
            size, blocks = next(iter(self._free.items()))
            if blocks:
                blocks.pop()
                self.kept -= size
            else:
                del self._free[size]


def _references(blocks: Sequence[object], index: int) -> int:
    """How many there are to a block, this question included."""
    return sys.getrefcount(blocks[index])


UNUSED = _references([object()], 0)


class LentMemory:
    """A place where native code finds memory for a large result, while somebody makes one."""

    def __init__(self, size: int, memory: ResultMemory) -> None:
        self.size, self.memory = size, memory
        self.block: Array | None = None
        self.place = np.zeros(1, np.int64)
        """The address of the array of bytes."""

    def take(self) -> None:
        """Let the next result lie where no other one does."""
        self.block = self.memory.block(self.size)
        self.place[0] = id(self.block)

    def leave(self) -> None:
        """From now on the memory is the result's alone."""
        self.block = None


class GuessedMemory:
    """`LentMemory` for a result whose size is known only when it is made: that of the last one.

    Small results have memory of their own.
    """

    def __init__(self) -> None:
        self._words = np.array([0, 0, LARGE_BYTES], np.int64)
        """The address of the array of bytes, or 0; sizes from and up to which results fit."""
        self._block: Array | None = None

    @property
    def place(self) -> int:
        """The address of the word that says where the array is."""
        return self._words.ctypes.data

    @property
    def bounds(self) -> tuple[int, int]:
        """Those of the words for the least size and the greatest one."""
        return self.place + 8, self.place + 16

    def fit(self, size: int) -> bool:
        """Have memory for a result of ``size`` bytes; whether there was none."""
        least, most = self._words[1:].tolist()
        if least <= size <= most:
            return False
        room = size_class(size)  # at least half of it is used
        self._words[1:] = (room // 2, room) if size > LARGE_BYTES else (0, LARGE_BYTES)
        return True

    def take(self, memory: ResultMemory) -> None:
        """Let the next result lie where no other one does."""
        most = int(self._words[2])
        if most > LARGE_BYTES:
            self._block = memory.block(most)
            self._words[0] = id(self._block)

    def leave(self) -> None:
        """From now on the memory is the result's alone."""
        self._block = None
        self._words[0] = 0


class _Loan:
    """A block in use: the base of the array that lies in it, and so of all its views.

    It is no array itself, since NumPy makes what an array lies in the base of views of it.
    """

    __slots__ = ("__array_interface__", "block", "lender")

    def __init__(self, block: Array, lender: ResultMemory) -> None:
        self.__array_interface__ = block.__array_interface__
        self.block, self.lender = block, weakref.ref(lender)

    def __del__(self) -> None:
        lender = self.lender()
        if lender is not None:
            lender.take_back(self.block)


_SHARED: weakref.WeakValueDictionary[str, ResultMemory] = weakref.WeakValueDictionary()
_SHARING = threading.Lock()


def shared_results() -> ResultMemory:
    """The memory for results of this process; what it keeps ends with the last who holds it."""
    with _SHARING:
        memory = _SHARED.get("results")
        if memory is None:
            memory = _SHARED["results"] = ResultMemory()
        return memory


def _forget_all() -> None:
    global _SHARING  # noqa: PLW0603 - a lock that another thread held is held for ever
    _SHARING = threading.Lock()
    for memory in list(_SHARED.values()):
        memory.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def readable(array: Array) -> Array:
    """``array`` as native code reads it: in row-major order, and at an address it can read."""
    if array.flags.c_contiguous and (array.flags.aligned or READS_ANYWHERE):
        return array
    return np.array(array, order="C")


def owned(value: Any) -> Any:
    """``value`` in memory of its own, C-contiguous and writable."""
    if isinstance(value, list):
        # a sequence is of one type: where its first is a map, all are, and hold numbers and texts
        if value and type(value[0]) is dict:
            return value.copy()
        return [x.copy() if type(x) is np.ndarray else owned(x) for x in value]
    if isinstance(value, np.ndarray):
        return np.array(value, order="C")
    return value


def owned_at(values: Sequence[Any], place: int) -> Any:
    """`owned` for what ``values`` hold at a place: itself where nobody else refers to it."""
    is_free = _references(values, place) == UNUSED
    value = values[place]
    if not is_free or type(value) is not np.ndarray or weakref.getweakrefcount(value):
        return owned(value)
    return value if value.flags.owndata and value.flags.carray else owned(value)


def owned_result(held: Any, value: Value) -> Any:
    """`owned` for what is ``held`` of ``value``; raises Fail if there is no room for another."""
    try:
        return owned(held)
    except MemoryError as error:
        place = "a result" if value.producer is None else value.producer.label
        raise Fail(
            f"{place}: '{value.name}' must fit into memory, found too little: {error}; "
            "ask for fewer elements"
        ) from error
