"""A small native interpreter: what a run has to compute from its extents before kernels run.

Sizes, offsets and conditions are polynomials, quotients and extremes of a handful of symbols; in
Python each costs more than many a kernel. Written down once as instructions, all of a model's take
a microsecond or two. The short way of a call (`entry`) has further ones: they read integers that
kernels have computed, make results and run kernels, once or again and again.

An instruction is four words of 8 bytes: what to do, the slot that gets what comes of it, and the
slots a and b of its operands. Arithmetic that overflows, and a check that does not hold, end it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fornix.compile.cache import ObjectCache

(ADD, MULTIPLY, FLOOR, LEAST, GREATEST, EQUAL, REACH, PUT, READ_BYTE, READ_INT, READ_LONG, MAKE,
 RUN, JUMP, COPY, RELEASE, RESUME, LIST, FILL) = range(19)  # fmt: skip
"""a + b, a · b, ⌊a / b⌋ for b > 0, min, max; that a = b, that a ≥ b; a word to the address b; an
integer at the address a; an array as the row at a describes it, gives where its elements lie;
the kernel of the record at a, with scratch memory at b; if a is 0, go on with instruction b; b
bytes at the address a to the address that the slot itself holds; let go of the GIL, and take it;
result number b, which is a list of a arrays that are still to be made; b numbers, by the function
of the record at a, to the address that the slot itself holds."""
WORDS = 4
"""Of an instruction."""
RAISED = -1
"""What the machine says when Python has raised an error."""
ROW_DTYPE, ROW_RANK, ROW_EXTENTS, ROW_NUMBER, ROW_LIST, ROW_LENT, ROW_WORDS = range(7)
"""Words of a row that `MAKE` reads: what kind of array, and its place in a list: in that of results
where `ROW_LIST` is 0. `ROW_LENT` is 0, or where the array of bytes stands that it is to lie in, or
0 for memory of its own."""

TEXT = """
define @KIND@ @machine(ptr %code, i64 %count, ptr %slots, ptr %table, ptr %results) {
entry:
  br label %test
test:
  %i = phi i64 [ 0, %entry ], [ %i.next, %next ], [ %i.jump, %jump ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %step, label %end
step:
  %word = shl i64 %i, 2
  %line = getelementptr i64, ptr %code, i64 %word
  %op = load i64, ptr %line
  %x.word = getelementptr i64, ptr %line, i64 1
  %x = load i64, ptr %x.word
  %a.word = getelementptr i64, ptr %line, i64 2
  %a.slot = load i64, ptr %a.word
  %b.word = getelementptr i64, ptr %line, i64 3
  %b.slot = load i64, ptr %b.word
  %x.at = getelementptr i64, ptr %slots, i64 %x
  %a.at = getelementptr i64, ptr %slots, i64 %a.slot
  %b.at = getelementptr i64, ptr %slots, i64 %b.slot
  %a = load i64, ptr %a.at
  %b = load i64, ptr %b.at
  %a.place = load ptr, ptr %a.at
  %b.place = load ptr, ptr %b.at
  switch i64 %op, label %fail [
    i64 0, label %add
    i64 1, label %multiply
    i64 2, label %floor
    i64 3, label %least
    i64 4, label %greatest
    i64 5, label %equal
    i64 6, label %reach
    i64 7, label %put
    i64 8, label %read.byte
    i64 9, label %read.int
    i64 10, label %read.long
    i64 13, label %jump
    @CASES@
  ]
add:
  %sum = call {i64, i1} @llvm.sadd.with.overflow.i64(i64 %a, i64 %b)
  %sum.value = extractvalue {i64, i1} %sum, 0
  %sum.wrong = extractvalue {i64, i1} %sum, 1
  br label %keep
multiply:
  %product = call {i64, i1} @llvm.smul.with.overflow.i64(i64 %a, i64 %b)
  %product.value = extractvalue {i64, i1} %product, 0
  %product.wrong = extractvalue {i64, i1} %product, 1
  br label %keep
floor:
  %floor.wrong = icmp slt i64 %b, 1
  %divisor = select i1 %floor.wrong, i64 1, i64 %b
  %toward.zero = sdiv i64 %a, %divisor
  %whole = mul i64 %toward.zero, %divisor
  %is.above = icmp sgt i64 %whole, %a
  %below = sext i1 %is.above to i64
  %quotient = add i64 %toward.zero, %below
  br label %keep
least:
  %a.less = icmp slt i64 %a, %b
  %less = select i1 %a.less, i64 %a, i64 %b
  br label %keep
greatest:
  %a.greater = icmp sgt i64 %a, %b
  %greater = select i1 %a.greater, i64 %a, i64 %b
  br label %keep
equal:
  %differs = icmp ne i64 %a, %b
  br label %keep
reach:
  %is.short = icmp slt i64 %a, %b
  br label %keep
put:
  store i64 %a, ptr %b.place
  br label %keep
read.byte:
  %byte = load i8, ptr %a.place
  %byte.wide = sext i8 %byte to i64
  br label %keep
read.int:
  %int = load i32, ptr %a.place
  %int.wide = sext i32 %int to i64
  br label %keep
read.long:
  %long = load i64, ptr %a.place
  br label %keep
@BLOCKS@
keep:
  %value = phi i64 [ %sum.value, %add ], [ %product.value, %multiply ], [ %quotient, %floor ],
    [ %less, %least ], [ %greater, %greatest ], [ %a, %equal ], [ %a, %reach ], [ %a, %put ],
    [ %byte.wide, %read.byte ], [ %int.wide, %read.int ], [ %long, %read.long ] @VALUES@
  %wrong = phi i1 [ %sum.wrong, %add ], [ %product.wrong, %multiply ], [ %floor.wrong, %floor ],
    [ false, %least ], [ false, %greatest ], [ %differs, %equal ], [ %is.short, %reach ],
    [ false, %put ], [ false, %read.byte ], [ false, %read.int ], [ false, %read.long ] @WRONGS@
  store i64 %value, ptr %x.at
  br i1 %wrong, label %fail, label %next
jump:
  %is.zero = icmp eq i64 %a, 0
  %i.after = add i64 %i, 1
  %i.jump = select i1 %is.zero, i64 %b, i64 %i.after
  br label %test
next:
  %i.next = add i64 %i, 1
  br label %test
fail:
  %position = add i64 %i, 1
  ret i64 %position
end:
  ret i64 0
}
declare {i64, i1} @llvm.sadd.with.overflow.i64(i64, i64)
declare {i64, i1} @llvm.smul.with.overflow.i64(i64, i64)
"""

_CALLING = {
    "CASES": "\n    ".join(
        f"i64 {number}, label %{name}"
        for name, number in (
            ("make", MAKE),
            ("run", RUN),
            ("copy", COPY),
            ("release", RELEASE),
            ("resume", RESUME),
            ("list", LIST),
            ("fill", FILL),
        )
    ),
    "BLOCKS": """
make:
  %dtype = load ptr, ptr %a.place
  %rank.at = getelementptr i64, ptr %a.place, i64 1
  %rank = load i32, ptr %rank.at
  %extents.at = getelementptr i64, ptr %a.place, i64 2
  %extents = load ptr, ptr %extents.at
  %number.at = getelementptr i64, ptr %a.place, i64 3
  %number = load i64, ptr %number.at
  %set.at = getelementptr i64, ptr %table, i64 3
  %set = load ptr, ptr %set.at
  %new.at = getelementptr i64, ptr %table, i64 4
  %new = load ptr, ptr %new.at
  %class.at = getelementptr i64, ptr %table, i64 5
  %class = load ptr, ptr %class.at
  %increase.at = getelementptr i64, ptr %table, i64 14
  %increase = load ptr, ptr %increase.at
  call void %increase(ptr %dtype)
  %lent.at = getelementptr i64, ptr %a.place, i64 5
  %lent = load ptr, ptr %lent.at
  %no.lender = icmp eq ptr %lent, null
  br i1 %no.lender, label %make.own, label %make.lender
make.lender:
  %base = load ptr, ptr %lent
  %no.base = icmp eq ptr %base, null
  br i1 %no.base, label %make.own, label %make.lent
make.own:
  %made.own = call ptr %new(ptr %class, ptr %dtype, i32 %rank, ptr %extents, ptr null, ptr null,
                            i32 0, ptr null)
  %no.own = icmp eq ptr %made.own, null
  br i1 %no.own, label %raised, label %made.keep
make.lent:
  %base.at = getelementptr i8, ptr %base, i64 @DATA@
  %base.data = load ptr, ptr %base.at
  %made.lent = call ptr %new(ptr %class, ptr %dtype, i32 %rank, ptr %extents, ptr null,
                             ptr %base.data, i32 @WRITEABLE@, ptr null)
  %no.lent = icmp eq ptr %made.lent, null
  br i1 %no.lent, label %raised, label %base.keep
base.keep:
  call void %increase(ptr %base)
  %set.base.at = getelementptr i64, ptr %table, i64 20
  %set.base = load ptr, ptr %set.base.at
  %based = call i32 %set.base(ptr %made.lent, ptr %base)
  br label %made.keep
raised:
  ret i64 -1
made.keep:
  %made = phi ptr [ %made.own, %make.own ], [ %made.lent, %base.keep ]
  %into.at = getelementptr i64, ptr %a.place, i64 4
  %into.given = load ptr, ptr %into.at
  %is.result = icmp eq ptr %into.given, null
  %into = select i1 %is.result, ptr %results, ptr %into.given
  %ignored = call i32 %set(ptr %into, i64 %number, ptr %made)
  %data.at = getelementptr i8, ptr %made, i64 @DATA@
  %data = load i64, ptr %data.at
  br label %keep
run:
  %function = load ptr, ptr %a.place
  %args.at = getelementptr i64, ptr %a.place, i64 1
  %args = load ptr, ptr %args.at
  %syms.at = getelementptr i64, ptr %a.place, i64 2
  %syms = load ptr, ptr %syms.at
  %status = call i64 %function(ptr %args, ptr %syms, ptr %b.place, i64 0, i64 1)
  %has.failed = icmp ne i64 %status, 0
  br label %keep
copy:
  %move.at = getelementptr i64, ptr %table, i64 16
  %move = load ptr, ptr %move.at
  %x.place = load ptr, ptr %x.at
  %moved = call ptr %move(ptr %x.place, ptr %a.place, i64 %b)
  br label %next
fill:
  %filling = load ptr, ptr %a.place
  %source.at = getelementptr i64, ptr %a.place, i64 1
  %source = load ptr, ptr %source.at
  %filled = load ptr, ptr %x.at
  call void %filling(ptr %source, i64 %b, ptr %filled)
  br label %next
release:
  %save.at = getelementptr i64, ptr %table, i64 17
  %save = load ptr, ptr %save.at
  %state = call ptr %save()
  %state.at = getelementptr i64, ptr %table, i64 19
  store ptr %state, ptr %state.at
  br label %next
resume:
  %restore.at = getelementptr i64, ptr %table, i64 18
  %restore = load ptr, ptr %restore.at
  %saved.at = getelementptr i64, ptr %table, i64 19
  %saved = load ptr, ptr %saved.at
  store ptr null, ptr %saved.at
  call void %restore(ptr %saved)
  br label %next
list:
  %new.list.at = getelementptr i64, ptr %table, i64 2
  %new.list = load ptr, ptr %new.list.at
  %listed = call ptr %new.list(i64 %a)
  %not.listed = icmp eq ptr %listed, null
  br i1 %not.listed, label %raised, label %list.keep
list.keep:
  %keep.at = getelementptr i64, ptr %table, i64 3
  %keep.list = load ptr, ptr %keep.at
  %kept = call i32 %keep.list(ptr %results, i64 %b, ptr %listed)
  %listed.number = ptrtoint ptr %listed to i64
  br label %keep""",
    "VALUES": ", [ %data, %made.keep ], [ %status, %run ], [ %listed.number, %list.keep ]",
    "WRONGS": ", [ false, %made.keep ], [ %has.failed, %run ], [ false, %list.keep ]",
}

Machine = Callable[[int, int, int], int]
"""``(code, count, slots)``: 0, or 1 + the number of the instruction that ended it."""


def machine_text(*, calls: bool) -> str:
    """The interpreter; with ``calls`` a part of another module that makes arrays, too."""
    parts = dict.fromkeys(_CALLING, "") | (_CALLING if calls else {})
    text = TEXT.replace("@KIND@", "internal i64" if calls else "i64")
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text if calls else text.replace("@machine", "@kernel")


def machine_code(cache: ObjectCache) -> tuple[int, object]:
    """The address of the interpreter, and what keeps it in memory."""
    from fornix.compile.target import Target  # noqa: PLC0415 - imports llvmlite

    text = machine_text(calls=False)
    return cache.load([text], Target.host())[text]


@cache
def machine_at(address: int) -> Machine:
    """The interpreter that lies at ``address``, for code that calls neither Python nor kernels."""
    places = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
    return ctypes.CFUNCTYPE(ctypes.c_int64, *places)(address)
