"""The native loop that runs kernels one after the other, alone or together with other threads.

A program is a table of records, one per kernel; whoever takes part walks it from the first to the
last. Pieces of a kernel are handed out by an atomic counter: to some threads from the first piece
on, to the others from the middle on, so that a thread stays in the part of images that its cache
holds, and takes the piece that follows its last one, whose weights that has asked for. Who is done
with a half helps with the other one, from its end. A kernel follows when all pieces of the one
before are done. A kernel may be steps that follow one another, of as many pieces each: these are
taken in their order, once those of the steps before are done, so that whoever waits holds nothing
that others wait for. A thread that comes late finds nothing left of what is over, so nobody ever
waits for one that has not begun. Waiting spins for a while, then leaves the processor to others,
then sleeps from look to look.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from fornix.system import waiting

if TYPE_CHECKING:
    from fornix.compile.cache import ObjectCache

RECORD_WORDS = 16
"""Words of 8 bytes in a record: two lines of the cache, the counters on the second."""
FUNCTION, ARGUMENTS, SYMBOLS, CHUNKS, SHARES = range(5)
TAKEN, DONE = 8, 9
"""What stands in which word; of the pieces taken, those of threads that
begin at the front count in the lower half. ``CHUNKS``: 0 where there is nothing to do. ``SHARES``:
the pieces of a step, 0 if there are none.
"""
FROM_FRONT, ALONE, FROM_MIDDLE = range(3)
"""What a thread does: takes pieces from the first on or from the middle on, or all at once."""
SPINS = 1000
"""Turns of waiting before the processor is left to others: about 40 µs."""
YIELDS = 2000
"""Times that it is left to them before the thread sleeps: about a millisecond."""
CODE_BITS = 32
"""The status holds the code of the kernel that failed below, and the number of its record above."""

_TEXT = """
define i64 @kernel(ptr %records, i64 %count, ptr %scratch, i64 %role, ptr %status, ptr %yield,
                   ptr %sleep, i32 %nap) {
entry:
  %is.alone = icmp eq i64 %role, @ALONE@
  %is.second = icmp eq i64 %role, @FROM_MIDDLE@
  %own = select i1 %is.second, i64 4294967296, i64 1
  %empty = icmp eq i64 %count, 0
  br i1 %empty, label %end, label %record
record:
  %r = phi i64 [ 0, %entry ], [ %r.next, %next ]
  %base = mul i64 %r, @WORDS@
  %line = getelementptr i64, ptr %records, i64 %base
  %function = load ptr, ptr %line
  %args.at = getelementptr i64, ptr %line, i64 1
  %args = load ptr, ptr %args.at
  %syms.at = getelementptr i64, ptr %line, i64 2
  %syms = load ptr, ptr %syms.at
  %chunks.at = getelementptr i64, ptr %line, i64 3
  %chunks = load i64, ptr %chunks.at
  %shares.at = getelementptr i64, ptr %line, i64 4
  %shares = load i64, ptr %shares.at
  %is.ordered = icmp ne i64 %shares, 0
  %pairs = add i64 %chunks, 1
  %half = lshr i64 %pairs, 1
  %last = sub i64 %chunks, 1
  %last.and.half = add i64 %last, %half
  %taken.at = getelementptr i64, ptr %line, i64 8
  %done.at = getelementptr i64, ptr %line, i64 9
  %is.nothing = icmp eq i64 %chunks, 0
  br i1 %is.nothing, label %next, label %some
some:
  br i1 %is.alone, label %whole, label %take
whole:
  %code.whole = call i64 %function(ptr %args, ptr %syms, ptr %scratch, i64 0, i64 1)
  %fine.whole = icmp eq i64 %code.whole, 0
  br i1 %fine.whole, label %next, label %fail.whole
fail.whole:
  %record.whole = shl i64 %r, 32
  %status.whole = or i64 %record.whole, %code.whole
  store i64 %status.whole, ptr %status
  ret i64 %status.whole
take:
  br i1 %is.ordered, label %wait, label %grab
grab:
  %taken = atomicrmw add ptr %taken.at, i64 %own acq_rel
  %firsts = and i64 %taken, 4294967295
  %seconds = lshr i64 %taken, 32
  %gone = add i64 %firsts, %seconds
  %mine = icmp slt i64 %gone, %chunks
  br i1 %mine, label %piece, label %wait
piece:
  %is.own.first = icmp slt i64 %firsts, %half
  %of.last = sub i64 %last.and.half, %firsts
  %first = select i1 %is.own.first, i64 %firsts, i64 %of.last
  %second = add i64 %half, %seconds
  %is.own.second = icmp slt i64 %second, %chunks
  %of.first = sub i64 %last, %seconds
  %own.second = select i1 %is.own.second, i64 %second, i64 %of.first
  %chunk = select i1 %is.second, i64 %own.second, i64 %first
  br label %work
work:
  %at = phi i64 [ %chunk, %piece ], [ %seen, %claim ]
  %code = call i64 %function(ptr %args, ptr %syms, ptr %scratch, i64 %at, i64 %chunks)
  %fine = icmp eq i64 %code, 0
  br i1 %fine, label %piece.end, label %fail
fail:
  %record.fail = shl i64 %r, 32
  %status.fail = or i64 %record.fail, %code
  %told = cmpxchg ptr %status, i64 0, i64 %status.fail acq_rel acquire
  br label %piece.end
piece.end:
  %before = atomicrmw add ptr %done.at, i64 1 acq_rel
  br label %take
wait:
  %spin = phi i64 [ 0, %take ], [ 0, %grab ], [ %spin, %claim ], [ %spin.next, %again ]
  %done = load atomic i64, ptr %done.at acquire, align 8
  %over = icmp sge i64 %done, %chunks
  br i1 %over, label %next, label %look
look:
  br i1 %is.ordered, label %follow, label %pause
follow:
  %seen = load atomic i64, ptr %taken.at acquire, align 8
  %is.left = icmp slt i64 %seen, %chunks
  %within = urem i64 %seen, %shares
  %earlier = sub i64 %seen, %within
  %is.begun = icmp sge i64 %done, %earlier
  %is.free = and i1 %is.left, %is.begun
  br i1 %is.free, label %claim, label %pause
claim:
  %seen.next = add i64 %seen, 1
  %claimed = cmpxchg ptr %taken.at, i64 %seen, i64 %seen.next acq_rel acquire
  %is.claimed = extractvalue { i64, i1 } %claimed, 1
  br i1 %is.claimed, label %work, label %wait
pause:
  @PAUSE@
  %spin.next = add i64 %spin, 1
  %long = icmp sgt i64 %spin, @SPINS@
  br i1 %long, label %leave, label %again
leave:
  %longer = icmp sgt i64 %spin, @PATIENCE@
  br i1 %longer, label %rest, label %others
rest:
  call void %sleep(i32 %nap)
  br label %again
others:
  %ignored = call i32 %yield()
  br label %again
again:
  br label %wait
next:
  %r.next = add i64 %r, 1
  %more = icmp slt i64 %r.next, %count
  br i1 %more, label %record, label %end
end:
  %result = load atomic i64, ptr %status acquire, align 8
  ret i64 %result
}
@DECLARE@
"""

Driver = Callable[[int, int, int, int, int], int]
"""``(records, count, scratch, role, status)``: the status, which is 0 if every kernel did well.

``role`` is `ALONE` if no other thread takes part: then no kernel is cut, and the first failure ends
it.
"""


@cache
def driver(cache: ObjectCache) -> Driver:
    """The loop as a function; it releases the GIL."""
    return driver_at(*driver_code(cache))


def driver_code(cache: ObjectCache) -> tuple[int, object]:
    """The address of the loop, and what keeps it in memory."""
    from fornix.compile.target import Target  # noqa: PLC0415 - imports llvmlite

    target = Target.host()
    text = pausing(_TEXT, is_x86=target.is_x86)
    words = {"WORDS": RECORD_WORDS, "ALONE": ALONE, "FROM_MIDDLE": FROM_MIDDLE}
    for name, value in words.items():
        text = text.replace(f"@{name}@", str(value))
    return cache.load([text], target)[text]


def driver_at(address: int, owner: object) -> Driver:
    """The loop that lies at ``address``; ``owner`` keeps it there."""
    words = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
    pauses = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *words, *pauses)(address)
    leave, sleep, nap = waiting()

    def run(records: int, count: int, scratch: int, role: int, status: int) -> int:
        result: int = function(records, count, scratch, role, status, leave, sleep, nap)
        return result

    run.code = owner  # type: ignore[attr-defined] # keeps it in memory
    return run


def role(index: int, *, alone: bool) -> int:
    """What thread ``index`` does: every other one begins at the front."""
    return ALONE if alone else FROM_MIDDLE if index % 2 else FROM_FRONT


def pausing(text: str, *, is_x86: bool) -> str:
    """``text`` with the processor's way to pause, and with how long one waits."""
    pause = declare = ""
    if is_x86:
        pause = "call void @llvm.x86.sse2.pause()"
        declare = "declare void @llvm.x86.sse2.pause()"
    text = text.replace("@SPINS@", str(SPINS)).replace("@PATIENCE@", str(SPINS + YIELDS))
    return text.replace("@PAUSE@", pause).replace("@DECLARE@", declare)
