"""A function for Python in machine code: arrays in, results out, whatever their extents.

It checks that each array is of the class, type, rank and layout that the program takes, notes its
extents and where its elements lie, and lets the native interpreter (`machine`) do the rest: check
what the extents are made of, compute sizes, make results, run kernels. What is not as it should be
is answered with None, and the caller goes the long way. While it works it takes no second call:
Python code may run amid it, where memory is freed, or while it has let go of the GIL.

The table is an array of words of 8 bytes:

    0 PyList_GetItem   4 PyArray_NewFromDescr   8 results        12 whether it is at work
    1 PyList_Size      5 type of arrays         9 instructions   13 type of lists
    2 PyList_New       6 None                  10 their number   14 Py_IncRef
    3 PyList_SetItem   7 inputs                11 slots          15 Py_DecRef
   16 memmove         17 PyEval_SaveThread     18 PyEval_RestoreThread
   19 the thread's state while it has let go of the GIL, else 0     20 PyArray_SetBaseObject

then four words for each input: dtype, rank, the slot of its first extent, that of its address.

Where the rank is `LISTED` or `OPTIONAL`, the input is a list of arrays of the dtype, or an array or
None: the slots are those of how many there are, and of the address of a table that gets an entry
for each of them. A table has two words, for how many entries there is room and how many are in use;
an entry says where the elements of an array lie, how many axes it has and how long they are.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING

from fornix.compile.entry import DATA, WRITEABLE, functions, looked_at
from fornix.compile.machine import machine_text

if TYPE_CHECKING:
    from fornix.compile.cache import ObjectCache

HEAD_WORDS = 21
LISTED, OPTIONAL = -1, -2
"""What stands for the rank of a list of arrays, and of an array that may be missing."""
ROOM, USED, TABLE_HEAD = 0, 8, 16
"""Bytes of a table: where it says for how many entries there is room, how many are in use; where
these begin."""
ENTRY_DATA, ENTRY_RANK, ENTRY_EXTENTS = 0, 8, 16
"""Bytes of an entry: where it says where the array lies, how many axes it has and how long they
are."""
MAX_RANK = 8
ENTRY = ENTRY_EXTENTS + 8 * MAX_RANK
"""Bytes of an entry."""

_TEXT = """
define ptr @kernel(ptr %self, ptr %arrays) {
entry:
  %table.at = getelementptr i8, ptr %self, i64 @DATA@
  %table = load ptr, ptr %table.at
  @HEAD@
  %busy = icmp ne i64 %n12, 0
  br i1 %busy, label %none, label %class.test
class.test:
  %class.at = getelementptr i8, ptr %arrays, i64 8
  %class = load ptr, ptr %class.at
  %is.list = icmp eq ptr %class, %w13
  br i1 %is.list, label %count, label %none
count:
  %size = call i64 %w1(ptr %arrays)
  %is.whole = icmp eq i64 %size, %n7
  br i1 %is.whole, label %list, label %none
list:
  store i64 1, ptr %w12.at
  %results = call ptr %w2(i64 %n8)
  %no.list = icmp eq ptr %results, null
  br i1 %no.list, label %error, label %inputs.test
error:
  store i64 0, ptr %w12.at
  ret ptr null
inputs.test:
  %i = phi i64 [ 0, %list ], [ %i.next, %input.next ]
  %i.more = icmp slt i64 %i, %n7
  br i1 %i.more, label %input, label %work
input:
  %i.words = shl i64 %i, 2
  %i.first = add i64 %i.words, @HEAD_WORDS@
  %row = getelementptr i64, ptr %table, i64 %i.first
  %dtype.wanted = load ptr, ptr %row
  %rank.at.row = getelementptr i64, ptr %row, i64 1
  %rank.wanted = load i64, ptr %rank.at.row
  %first.at.row = getelementptr i64, ptr %row, i64 2
  %first = load i64, ptr %first.at.row
  %place.at.row = getelementptr i64, ptr %row, i64 3
  %place = load i64, ptr %place.at.row
  %place.at = getelementptr i64, ptr %w11, i64 %place
  %first.at = getelementptr i64, ptr %w11, i64 %first
  %is.many = icmp slt i64 %rank.wanted, 0
  %is.optional = icmp eq i64 %rank.wanted, @OPTIONAL@
  %given = call ptr %w0(ptr %arrays, i64 %i)
  %missing = icmp eq ptr %given, null
  br i1 %missing, label %drop.error, label %form
form:
  br i1 %is.many, label %many, label %look
many:
  %entries = load ptr, ptr %place.at
  br i1 %is.optional, label %optional, label %members.class
optional:
  %is.none = icmp eq ptr %given, %w6
  %there = select i1 %is.none, i64 0, i64 1
  br label %counted
members.class:
  %members.class.at = getelementptr i8, ptr %given, i64 8
  %members.type = load ptr, ptr %members.class.at
  %is.listed = icmp eq ptr %members.type, %w13
  br i1 %is.listed, label %members.size, label %drop
members.size:
  %length = call i64 %w1(ptr %given)
  br label %counted
counted:
  %members = phi i64 [ %there, %optional ], [ %length, %members.size ]
  store i64 %members, ptr %first.at
  %used.at = getelementptr i8, ptr %entries, i64 @USED@
  store i64 %members, ptr %used.at
  %room = load i64, ptr %entries
  %has.room = icmp sle i64 %members, %room
  br i1 %has.room, label %member.test, label %drop
member.test:
  %m = phi i64 [ 0, %counted ], [ %m.next, %member.end ]
  %m.count = load i64, ptr %first.at
  %m.entries = load ptr, ptr %place.at
  %m.more = icmp slt i64 %m, %m.count
  br i1 %m.more, label %member, label %input.next
member:
  %m.bytes = mul i64 %m, @ENTRY@
  %m.place = add i64 %m.bytes, @TABLE_HEAD@
  %m.entry = getelementptr i8, ptr %m.entries, i64 %m.place
  %m.extents = getelementptr i8, ptr %m.entry, i64 @ENTRY_EXTENTS@
  br i1 %is.optional, label %look, label %member.item
member.item:
  %item = call ptr %w0(ptr %given, i64 %m)
  %no.item = icmp eq ptr %item, null
  br i1 %no.item, label %drop.error, label %look
look:
  %array = phi ptr [ %given, %form ], [ %given, %member ], [ %item, %member.item ]
  %extents.to = phi ptr [ %first.at, %form ], [ %m.extents, %member ], [ %m.extents, %member.item ]
  %data.to = phi ptr [ %place.at, %form ], [ %m.entry, %member ], [ %m.entry, %member.item ]
  %m.now = phi i64 [ 0, %form ], [ %m, %member ], [ %m, %member.item ]
  br label %input.class
@LOOK@
extents.test:
  %d = phi i64 [ 0, %input.type ], [ %d.next, %extent ]
  %d.more = icmp slt i64 %d, %rank.wide
  br i1 %d.more, label %extent, label %input.end
extent:
  %found.at = getelementptr i64, ptr %extents, i64 %d
  %found = load i64, ptr %found.at
  %extent.to = getelementptr i64, ptr %extents.to, i64 %d
  store i64 %found, ptr %extent.to
  %d.next = add i64 %d, 1
  br label %extents.test
input.end:
  %data.at = getelementptr i8, ptr %array, i64 @DATA@
  %data = load i64, ptr %data.at
  store i64 %data, ptr %data.to
  br i1 %is.many, label %member.end, label %input.next
member.end:
  %member.rank = getelementptr i8, ptr %data.to, i64 @ENTRY_RANK@
  store i64 %rank.wide, ptr %member.rank
  %m.next = add i64 %m.now, 1
  br label %member.test
input.next:
  %i.next = add i64 %i, 1
  br label %inputs.test
work:
  %status = call i64 @machine(ptr %w9, i64 %n10, ptr %w11, ptr %table, ptr %results)
  %state = load ptr, ptr %w19.at
  %is.free = icmp ne ptr %state, null
  br i1 %is.free, label %take, label %finish
take:
  store ptr null, ptr %w19.at
  call void %w18(ptr %state)
  br label %finish
finish:
  switch i64 %status, label %drop [
    i64 0, label %end
    i64 -1, label %drop.error
  ]
end:
  store i64 0, ptr %w12.at
  ret ptr %results
drop.error:
  store i64 0, ptr %w12.at
  call void %w15(ptr %results)
  ret ptr null
drop:
  store i64 0, ptr %w12.at
  call void %w15(ptr %results)
  br label %none
none:
  call void %w14(ptr %w6)
  ret ptr %w6
}
"""


_RANKS = """\
%is.rank = icmp eq i64 %rank.wide, %rank.wanted
  %is.short = icmp sle i64 %rank.wide, @MAX_RANK@
  %same.rank = select i1 %is.many, i1 %is.short, i1 %is.rank"""
"""Arrays of lists may have any rank that an entry has room for."""


def _text() -> str:
    """The function; words of the table are read twice, as numbers and as pointers."""
    head: list[str] = []
    for word in range(HEAD_WORDS):
        head += [
            f"%w{word}.at = getelementptr i64, ptr %table, i64 {word}",
            f"%w{word} = load ptr, ptr %w{word}.at",
            f"%n{word} = load i64, ptr %w{word}.at",
        ]
    numbers = {
        "HEAD": "\n  ".join(head),
        "LOOK": looked_at("%dtype.wanted", _RANKS),
        "DATA": DATA, "HEAD_WORDS": HEAD_WORDS, "OPTIONAL": OPTIONAL, "USED": USED,
        "ENTRY": ENTRY, "TABLE_HEAD": TABLE_HEAD, "ENTRY_EXTENTS": ENTRY_EXTENTS,
        "ENTRY_RANK": ENTRY_RANK, "MAX_RANK": MAX_RANK, "WRITEABLE": WRITEABLE,
    }  # fmt: skip
    text = _TEXT + machine_text(calls=True)
    for name, number in numbers.items():
        text = text.replace(f"@{name}@", str(number))
    return text


def generic_code(cache: ObjectCache) -> tuple[int, object]:
    """The address of the function, and what keeps it in memory."""
    from fornix.compile.target import Target  # noqa: PLC0415 - imports llvmlite

    text = _text()
    return cache.load([text], Target.host())[text]


@cache
def head() -> tuple[int, ...]:
    """The words of every table that are functions and types: 0 to 6, 13 to 18, and 20."""

    def address(name: str) -> int:
        return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0

    known = functions()
    move = ctypes.cast(ctypes.memmove, ctypes.c_void_p).value or 0
    first = address("PyList_GetItem"), address("PyList_Size"), *known[2:7]
    return (*first, id(list), *known[8:10], move, *known[10:])
