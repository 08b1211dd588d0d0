"""The native loop of worker threads: they take part in programs without a word of Python.

A table that all threads of a pool share tells of one program at a time. Whoever leads opens it,
walks the records like everybody else, closes it to those who come late and waits for those inside,
who have nothing left to take. A worker looks for the next program for a while after each one, so
that runs which follow each other find it awake; then it returns, to sleep where it came from.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING

from fornix.compile.driver import FROM_FRONT, FROM_MIDDLE, SPINS, YIELDS, pausing

if TYPE_CHECKING:
    from fornix.compile.cache import ObjectCache

TABLE_WORDS = 32
"""Words of 8 bytes in the table: the counters have lines of the cache for themselves."""
NUMBER, STATE, RECALLED = 0, 8, 16
"""Programs so far; open or not, and workers inside; whether workers are to return at once."""
DRIVER, RECORDS, COUNT, SCRATCH, STRIDE, STATUS = range(17, 23)
"""The driver and what it takes; each thread has ``STRIDE`` bytes of scratch memory."""
YIELD, SLEEP, NAP = range(23, 26)
"""How the driver waits."""
PATIENCE = SPINS + YIELDS
"""Looks for the next program: about 0.3 ms where no other thread wants the processor."""
LEADER = 0
"""The index of the thread that opens and closes a program."""

_TEXT = """
define i64 @kernel(ptr %table, i64 %index, i64 %seen, i64 %patience) {
entry:
  %state = getelementptr i64, ptr %table, i64 @STATE@
  %recalled = getelementptr i64, ptr %table, i64 @RECALLED@
  %driver.at = getelementptr i64, ptr %table, i64 @DRIVER@
  %records.at = getelementptr i64, ptr %table, i64 @RECORDS@
  %count.at = getelementptr i64, ptr %table, i64 @COUNT@
  %scratch.at = getelementptr i64, ptr %table, i64 @SCRATCH@
  %stride.at = getelementptr i64, ptr %table, i64 @STRIDE@
  %status.at = getelementptr i64, ptr %table, i64 @STATUS@
  %yield.at = getelementptr i64, ptr %table, i64 @YIELD@
  %sleep.at = getelementptr i64, ptr %table, i64 @SLEEP@
  %nap.at = getelementptr i64, ptr %table, i64 @NAP@
  %leads = icmp eq i64 %index, 0
  br i1 %leads, label %open, label %watch
open:
  store atomic i64 @OPEN@, ptr %state release, align 8
  %announced = atomicrmw add ptr %table, i64 1 acq_rel
  br label %part
watch:
  %known = phi i64 [ %seen, %entry ], [ %number, %late ], [ %program, %leave ]
  br label %look
look:
  %turn = phi i64 [ 0, %watch ], [ %turn.next, %again ]
  %is.recalled = load atomic i64, ptr %recalled acquire, align 8
  %must.go = icmp ne i64 %is.recalled, 0
  br i1 %must.go, label %return, label %listen
listen:
  %number = load atomic i64, ptr %table acquire, align 8
  %is.same = icmp eq i64 %number, %known
  br i1 %is.same, label %pause, label %join
pause:
  @PAUSE@
  %turn.next = add i64 %turn, 1
  %is.over = icmp sge i64 %turn, %patience
  br i1 %is.over, label %return, label %choose
choose:
  %is.long = icmp sgt i64 %turn, @SPINS@
  br i1 %is.long, label %others, label %again
others:
  %yield.now = load ptr, ptr %yield.at
  %ignored = call i32 %yield.now()
  br label %again
again:
  br label %look
return:
  ret i64 %known
join:
  %found = load atomic i64, ptr %state acquire, align 8
  %is.open = icmp sge i64 %found, @OPEN@
  br i1 %is.open, label %enter, label %late
enter:
  %entered = add i64 %found, 1
  %exchanged = cmpxchg ptr %state, i64 %found, i64 %entered acq_rel acquire
  %is.in = extractvalue { i64, i1 } %exchanged, 1
  br i1 %is.in, label %inside, label %join
late:
  br label %watch
inside:
  %joined = load atomic i64, ptr %table acquire, align 8
  br label %part
part:
  %program = phi i64 [ 0, %open ], [ %joined, %inside ]
  %driver = load ptr, ptr %driver.at
  %records = load ptr, ptr %records.at
  %count = load i64, ptr %count.at
  %scratch = load ptr, ptr %scratch.at
  %stride = load i64, ptr %stride.at
  %status = load ptr, ptr %status.at
  %yield = load ptr, ptr %yield.at
  %sleep = load ptr, ptr %sleep.at
  %nap.word = load i64, ptr %nap.at
  %nap = trunc i64 %nap.word to i32
  %offset = mul i64 %stride, %index
  %own = getelementptr i8, ptr %scratch, i64 %offset
  %odd = trunc i64 %index to i1
  %role = select i1 %odd, i64 @FROM_MIDDLE@, i64 @FROM_FRONT@
  %result = call i64 %driver(ptr %records, i64 %count, ptr %own, i64 %role, ptr %status, ptr %yield,
                             ptr %sleep, i32 %nap)
  br i1 %leads, label %close, label %leave
leave:
  %left = atomicrmw sub ptr %state, i64 1 acq_rel
  br label %watch
close:
  %closed = atomicrmw sub ptr %state, i64 @OPEN@ acq_rel
  br label %wait
wait:
  %spin = phi i64 [ 0, %close ], [ %spin.next, %wait.again ]
  %inside.now = load atomic i64, ptr %state acquire, align 8
  %is.empty = icmp eq i64 %inside.now, 0
  br i1 %is.empty, label %end, label %wait.pause
wait.pause:
  @PAUSE@
  %spin.next = add i64 %spin, 1
  %wait.long = icmp sgt i64 %spin, @SPINS@
  br i1 %wait.long, label %wait.leave, label %wait.again
wait.leave:
  %wait.longer = icmp sgt i64 %spin, @PATIENCE@
  br i1 %wait.longer, label %wait.rest, label %wait.others
wait.rest:
  call void %sleep(i32 %nap)
  br label %wait.again
wait.others:
  %wait.ignored = call i32 %yield()
  br label %wait.again
wait.again:
  br label %wait
end:
  ret i64 0
}
@DECLARE@
"""
_OPEN = 1 << 32

Crew = Callable[[int, int, int, int], int]
"""``(table, index, seen, patience)``: as the leader, runs the program that the table tells of.

As a worker, takes part in every program after the first ``seen`` ones, until it has looked
``patience`` times in vain or is recalled; the number of programs that it knows of.
"""


def crew_code(cache: ObjectCache) -> tuple[int, object]:
    """The address of the loop, and what keeps it in memory."""
    from fornix.compile.target import Target  # noqa: PLC0415 - imports llvmlite

    target = Target.host()
    text = _text(is_x86=target.is_x86)
    return cache.load([text], target)[text]


def crew_at(address: int, owner: object) -> Crew:
    """The loop that lies at ``address``, which ``owner`` keeps there; it releases the GIL."""
    numbers = (ctypes.c_int64,) * 3
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, *numbers)(address)
    function.owner = owner  # type: ignore[attr-defined] # keeps it in memory
    return function


def _text(*, is_x86: bool) -> str:
    text = pausing(_TEXT, is_x86=is_x86)
    words = {"STATE": STATE, "RECALLED": RECALLED, "DRIVER": DRIVER, "RECORDS": RECORDS}
    words |= {"COUNT": COUNT, "SCRATCH": SCRATCH, "STRIDE": STRIDE, "STATUS": STATUS}
    words |= {"FROM_FRONT": FROM_FRONT, "FROM_MIDDLE": FROM_MIDDLE}
    words |= {"YIELD": YIELD, "SLEEP": SLEEP, "NAP": NAP, "OPEN": _OPEN}
    for name, value in words.items():
        text = text.replace(f"@{name}@", str(value))
    return text
