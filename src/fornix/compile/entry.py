"""A function for Python in machine code: feeds in, results out, for one set of extents.

For small models the way to the kernels costs more than the kernels. An entry does all of it: it
looks up the inputs, checks class, dtype, extents and layout, makes the results and runs the
kernels. Whatever is not exactly as its table says it answers with None, and the caller takes the
long way, which says what is wrong. It relies on where CPython and NumPy keep the fields of their
objects; `is_available` compares that with what they say themselves.

The table is an array of words of 8 bytes:

    0 PyDict_GetItemWithError   4 PyArray_NewFromDescr   8 results     12 status
    1 PyDict_Size               5 type of arrays         9 records     13 type of dicts
    2 PyList_New                6 None                  10 their number 14 Py_IncRef
    3 PyList_SetItem            7 inputs                11 scratch     15 Py_DecRef
   16 PyEval_SaveThread        17 PyEval_RestoreThread     18 PyArray_SetBaseObject

(16 and 17 are 0 where the GIL is kept while kernels run), then six words for each input: name,
dtype, rank, extents, places for its address and their number; and six for each result: dtype, rank,
extents, places and their number, and where the array of bytes stands that it is to lie in, or 0
for memory of its own. An input whose dtype is 0 is a dictionary, and its places are told where the
object is; a result whose dtype is 0 is put into the list by a kernel, whose places are told where
the list is.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.compile.driver import RECORD_WORDS

if TYPE_CHECKING:
    from fornix.compile.cache import ObjectCache

HEAD_WORDS, ENTRY_WORDS = 19, 6
DATA, RANK, EXTENTS, DTYPE, FLAGS = 16, 24, 32, 56, 64
"""Bytes from the beginning of an array to its fields. Source: NumPy, ndarraytypes.h."""
KIND, NUMBER = 24, 28
"""Those from the beginning of a dtype: characters of kind, type and order of bytes; its number.

Equal types may be several objects: those of arrays that were pickled are.
"""
SAME_KIND = 0xFFFFFF
"""Of the word at `KIND`, what is the same in equal types."""
READABLE = 0x101
"""In row-major order, and aligned. Source: NumPy, NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED."""
WRITEABLE = READABLE | 0x400
"""What can be written, too. Source: NumPy, NPY_ARRAY_CARRAY."""
NEW_FROM_DESCR, SET_BASE_OBJECT = 94, 282
"""Where NumPy's table has PyArray_NewFromDescr and PyArray_SetBaseObject. Source: NumPy's C API."""
METH_O = 8

Entry = Callable[[Mapping[str, Any]], list[Any] | None]

_LOOK = """\
input.class:
  %array.class.at = getelementptr i8, ptr %array, i64 8
  %array.class = load ptr, ptr %array.class.at
  %is.array = icmp eq ptr %array.class, %w5
  br i1 %is.array, label %input.type, label %drop
input.type:
  %dtype.at = getelementptr i8, ptr %array, i64 @DTYPE@
  %dtype = load ptr, ptr %dtype.at
  %kind.at = getelementptr i8, ptr %dtype, i64 @KIND@
  %kind.found = load i32, ptr %kind.at
  %kind.wanted.at = getelementptr i8, ptr @WANTED@, i64 @KIND@
  %kind.wanted = load i32, ptr %kind.wanted.at
  %kind.differs = xor i32 %kind.found, %kind.wanted
  %kind.part = and i32 %kind.differs, @SAME_KIND@
  %number.at = getelementptr i8, ptr %dtype, i64 @NUMBER@
  %number.found = load i32, ptr %number.at
  %number.wanted.at = getelementptr i8, ptr @WANTED@, i64 @NUMBER@
  %number.wanted = load i32, ptr %number.wanted.at
  %number.differs = xor i32 %number.found, %number.wanted
  %dtype.differs = or i32 %number.differs, %kind.part
  %same.dtype = icmp eq i32 %dtype.differs, 0
  %rank.at = getelementptr i8, ptr %array, i64 @RANK@
  %rank = load i32, ptr %rank.at
  %rank.wide = sext i32 %rank to i64
  @RANKS@
  %flags.at = getelementptr i8, ptr %array, i64 @FLAGS@
  %flags = load i32, ptr %flags.at
  %flags.needed = and i32 %flags, @READABLE@
  %is.readable = icmp eq i32 %flags.needed, @READABLE@
  %both = and i1 %same.dtype, %same.rank
  %all = and i1 %both, %is.readable
  %extents.at = getelementptr i8, ptr %array, i64 @EXTENTS@
  %extents = load ptr, ptr %extents.at
  br i1 %all, label %extents.test, label %drop"""

_TEXT = """
define ptr @kernel(ptr %self, ptr %feeds) {
entry:
  %table.at = getelementptr i8, ptr %self, i64 @DATA@
  %table = load ptr, ptr %table.at
  @HEAD@
  %class.at = getelementptr i8, ptr %feeds, i64 8
  %class = load ptr, ptr %class.at
  %is.dict = icmp eq ptr %class, %w13
  br i1 %is.dict, label %count, label %none
count:
  %size = call i64 %w1(ptr %feeds)
  %is.whole = icmp eq i64 %size, %n7
  br i1 %is.whole, label %list, label %none
list:
  %results = call ptr %w2(i64 %n8)
  %no.list = icmp eq ptr %results, null
  br i1 %no.list, label %error, label %results.test
error:
  ret ptr null
results.test:
  %o = phi i64 [ 0, %list ], [ %o.next, %result.end ]
  %o.more = icmp slt i64 %o, %n8
  br i1 %o.more, label %result, label %inputs.test
result:
  %o.row = add i64 %o, %n7
  @RESULT@
  %is.later = icmp eq i64 %x0, 0
  br i1 %is.later, label %later, label %now
later:
  call void %w14(ptr %w6)
  br label %result.keep
now:
  call void %w14(ptr %e0)
  %rank32 = trunc i64 %x1 to i32
  %is.own = icmp eq i64 %x5, 0
  br i1 %is.own, label %own, label %lent
own:
  %made.own = call ptr %w4(ptr %w5, ptr %e0, i32 %rank32, ptr %e2,
    ptr null, ptr null, i32 0, ptr null)
  br label %result.made
lent:
  %base = load ptr, ptr %e5
  %base.at = getelementptr i8, ptr %base, i64 @DATA@
  %base.data = load ptr, ptr %base.at
  %made.lent = call ptr %w4(ptr %w5, ptr %e0, i32 %rank32, ptr %e2,
    ptr null, ptr %base.data, i32 @WRITEABLE@, ptr null)
  %not.lent = icmp eq ptr %made.lent, null
  br i1 %not.lent, label %drop.error, label %base.keep
base.keep:
  call void %w14(ptr %base)
  %based = call i32 %w18(ptr %made.lent, ptr %base)
  br label %result.made
result.made:
  %made = phi ptr [ %made.own, %own ], [ %made.lent, %base.keep ]
  %not.made = icmp eq ptr %made, null
  br i1 %not.made, label %drop.error, label %result.data
drop.error:
  call void %w15(ptr %results)
  ret ptr null
result.data:
  %array.at = getelementptr i8, ptr %made, i64 @DATA@
  %array.data = load ptr, ptr %array.at
  br label %result.keep
result.keep:
  %one = phi ptr [ %w6, %later ], [ %made, %result.data ]
  %made.data = phi ptr [ %results, %later ], [ %array.data, %result.data ]
  %ignored = call i32 %w3(ptr %results, i64 %o, ptr %one)
  br label %result.slots
result.slots:
  %p = phi i64 [ 0, %result.keep ], [ %p.next, %result.slot ]
  %p.more = icmp slt i64 %p, %x4
  br i1 %p.more, label %result.slot, label %result.end
result.slot:
  %p.at = getelementptr ptr, ptr %e3, i64 %p
  %p.place = load ptr, ptr %p.at
  store ptr %made.data, ptr %p.place
  %p.next = add i64 %p, 1
  br label %result.slots
result.end:
  %o.next = add i64 %o, 1
  br label %results.test
inputs.test:
  %i = phi i64 [ 0, %results.test ], [ %i.next, %input.end ]
  %i.more = icmp slt i64 %i, %n7
  br i1 %i.more, label %input, label %records.test
input:
  @INPUT@
  %array = call ptr %w0(ptr %feeds, ptr %f0)
  %missing = icmp eq ptr %array, null
  br i1 %missing, label %drop, label %input.kind
input.kind:
  %is.map = icmp eq i64 %y1, 0
  br i1 %is.map, label %map.class, label %input.class
map.class:
  %map.class.at = getelementptr i8, ptr %array, i64 8
  %map.class.found = load ptr, ptr %map.class.at
  %is.plain = icmp eq ptr %map.class.found, %w13
  br i1 %is.plain, label %input.address, label %drop
@LOOK@
extents.test:
  %d = phi i64 [ 0, %input.type ], [ %d.next, %extents.next ]
  %d.more = icmp slt i64 %d, %y2
  br i1 %d.more, label %extent, label %input.data
extent:
  %found.at = getelementptr i64, ptr %extents, i64 %d
  %found = load i64, ptr %found.at
  %wanted.at = getelementptr i64, ptr %f3, i64 %d
  %wanted = load i64, ptr %wanted.at
  %same.extent = icmp eq i64 %found, %wanted
  br i1 %same.extent, label %extents.next, label %drop
extents.next:
  %d.next = add i64 %d, 1
  br label %extents.test
input.data:
  %data.at = getelementptr i8, ptr %array, i64 @DATA@
  %data.found = load ptr, ptr %data.at
  br label %input.address
input.address:
  %data = phi ptr [ %array, %map.class ], [ %data.found, %input.data ]
  br label %input.slots
input.slots:
  %s = phi i64 [ 0, %input.address ], [ %s.next, %input.slot ]
  %s.more = icmp slt i64 %s, %y5
  br i1 %s.more, label %input.slot, label %input.end
input.slot:
  %s.at = getelementptr ptr, ptr %f4, i64 %s
  %s.place = load ptr, ptr %s.at
  store ptr %data, ptr %s.place
  %s.next = add i64 %s, 1
  br label %input.slots
input.end:
  %i.next = add i64 %i, 1
  br label %inputs.test
records.test:
  %releases = icmp ne ptr %w16, null
  br i1 %releases, label %release, label %run
release:
  %saved = call ptr %w16()
  br label %run
run:
  %state = phi ptr [ null, %records.test ], [ %saved, %release ]
  br label %run.test
run.test:
  %r = phi i64 [ 0, %run ], [ %r.next, %record.end ]
  %r.more = icmp slt i64 %r, %n10
  br i1 %r.more, label %record, label %over
record:
  %line.number = mul i64 %r, @RECORD@
  %line = getelementptr i64, ptr %w9, i64 %line.number
  %function = load ptr, ptr %line
  %args.at = getelementptr i64, ptr %line, i64 1
  %args = load ptr, ptr %args.at
  %syms.at = getelementptr i64, ptr %line, i64 2
  %syms = load ptr, ptr %syms.at
  %chunks.at = getelementptr i64, ptr %line, i64 3
  %chunks = load i64, ptr %chunks.at
  %is.nothing = icmp eq i64 %chunks, 0
  br i1 %is.nothing, label %record.end, label %record.run
record.run:
  %code = call i64 %function(ptr %args, ptr %syms, ptr %w11, i64 0, i64 1)
  %is.fine = icmp eq i64 %code, 0
  br i1 %is.fine, label %record.end, label %over
record.end:
  %r.next = add i64 %r, 1
  br label %run.test
over:
  %failed = phi i1 [ 0, %run.test ], [ 1, %record.run ]
  br i1 %releases, label %restore, label %end
restore:
  call void %w17(ptr %state)
  br label %end
end:
  br i1 %failed, label %drop, label %done
done:
  ret ptr %results
drop:
  call void %w15(ptr %results)
  br label %none
none:
  call void %w14(ptr %w6)
  ret ptr %w6
}
"""


def looked_at(dtype: str, ranks: str) -> str:
    """Text that looks at ``%array``: its class, dtype, number of axes and layout.

    ``dtype`` is the value that is asked for, ``ranks`` makes `%same.rank` of `%rank.wide`. It goes
    on at ``extents.test`` with `%extents` and `%rank.wide`, or at ``drop``.
    """
    fields = {
        "WANTED": dtype, "RANKS": ranks, "DTYPE": DTYPE, "RANK": RANK, "FLAGS": FLAGS,
        "EXTENTS": EXTENTS, "READABLE": READABLE, "KIND": KIND, "NUMBER": NUMBER,
        "SAME_KIND": SAME_KIND,
    }  # fmt: skip
    return _filled(_LOOK, fields)


def _filled(text: str, fields: Mapping[str, object]) -> str:
    """``text`` with what stands between two @ replaced."""
    for name, field in fields.items():
        text = text.replace(f"@{name}@", str(field))
    return text


def _text(record_words: int) -> str:
    """The function; words of the table are read twice, as numbers and as pointers."""
    head = [
        line for word in range(HEAD_WORDS) for line in _read("w", word, "%table", word, f"%n{word}")
    ]
    fields = {
        "HEAD": "\n  ".join(head),
        "RESULT": "\n  ".join(_row("e", "x", "%o.row")),
        "INPUT": "\n  ".join(_row("f", "y", "%i")),
        "LOOK": looked_at("%f1", "%same.rank = icmp eq i64 %rank.wide, %y2"),
        "DATA": DATA,
        "WRITEABLE": WRITEABLE,
        "RECORD": record_words,
    }
    return _filled(_TEXT, fields)


def _read(prefix: str, word: int, base: str, offset: int, number: str) -> list[str]:
    """Word ``offset`` of ``base``, as a pointer and as a number."""
    place = f"%{prefix}{word}.at"
    return [
        f"{place} = getelementptr i64, ptr {base}, i64 {offset}",
        f"%{prefix}{word} = load ptr, ptr {place}",
        f"{number} = load i64, ptr {place}",
    ]


def _row(pointers: str, numbers: str, index: str) -> list[str]:
    """The six words of an input or a result."""
    lines = [
        f"%{pointers}.word = mul i64 {index}, {ENTRY_WORDS}",
        f"%{pointers}.first = add i64 %{pointers}.word, {HEAD_WORDS}",
        f"%{pointers}.row = getelementptr i64, ptr %table, i64 %{pointers}.first",
    ]
    for word in range(ENTRY_WORDS):
        lines += _read(pointers, word, f"%{pointers}.row", word, f"%{numbers}{word}")
    return lines


class _Method(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def entry_code(cache: ObjectCache) -> tuple[int, object]:
    """The address of the function, and what keeps it in memory."""
    from fornix.compile.target import Target  # noqa: PLC0415 - imports llvmlite

    text = _text(RECORD_WORDS)
    return cache.load([text], Target.host())[text]


_METHODS: dict[int, _Method] = {}
"""Functions as CPython wants them described, by address; it keeps pointers to these."""


def _method(address: int) -> _Method:
    """The description of the function at ``address``, the same whichever thread asks."""
    return _METHODS.setdefault(address, _Method(b"entry", address, METH_O, None))


def entry(table: np.ndarray[Any, np.dtype[np.int64]], address: int) -> Entry:
    """The function at ``address`` for ``table``, whose words past the functions are filled in."""
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    made: Entry = make(ctypes.addressof(_method(address)), table, None)
    return made


@cache
def functions() -> tuple[int, ...]:
    """The first seven words, and the last six, of every table."""
    api = ctypes.pythonapi
    names = ("PyDict_GetItemWithError", "PyDict_Size", "PyList_New", "PyList_SetItem")
    found = [_address(getattr(api, name)) for name in names]
    pointer = api.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    multiarray = (
        sys.modules.get("numpy._core._multiarray_umath")
        or sys.modules["numpy.core._multiarray_umath"]
    )
    start = pointer(multiarray._ARRAY_API, None)  # noqa: SLF001 - how NumPy exports its C API
    new, based = (
        ctypes.c_void_p.from_address(start + 8 * word).value or 0
        for word in (NEW_FROM_DESCR, SET_BASE_OBJECT)
    )
    found += [new, id(np.ndarray), id(None)]
    last = (api.Py_IncRef, api.Py_DecRef, api.PyEval_SaveThread, api.PyEval_RestoreThread)
    return (*found, id(dict), *map(_address, last), based)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@cache
def is_available() -> bool:
    """Whether objects are laid out as entries expect, and one thread runs Python at a time."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    if not getattr(sys, "_is_gil_enabled", lambda: True)() or object.__basicsize__ != 16:
        return False
    sample = np.zeros((3, 5), np.int16)
    dtype = sample.dtype
    here = id(sample)
    extents = ctypes.c_void_p.from_address(here + EXTENTS).value or 0
    return (
        ctypes.c_void_p.from_address(here + 8).value == id(np.ndarray)
        and ctypes.c_void_p.from_address(here + DATA).value == sample.ctypes.data
        and ctypes.c_int.from_address(here + RANK).value == sample.ndim
        and list((ctypes.c_int64 * 2).from_address(extents)) == list(sample.shape)
        and ctypes.c_void_p.from_address(here + DTYPE).value == id(dtype)
        and ctypes.c_int.from_address(here + FLAGS).value & READABLE == READABLE
        and ctypes.string_at(id(dtype) + KIND, 2) == f"{dtype.kind}{dtype.char}".encode()
        and ctypes.c_int.from_address(id(dtype) + NUMBER).value == dtype.num
    )
