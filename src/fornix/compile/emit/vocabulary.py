"""Words of routines that are instructions: numbers in lanes, parts of memory, searches.

Each is a function of `ir.loops.routines`, which says what it means; here stands what LLVM makes of
it. Numbers side by side have a vector type of LLVM's, which it takes apart where processors have
narrower ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from fornix.compile.emit.types import memory_type, suffix
from fornix.dtype import DType
from fornix.errors import NotSupported
from fornix.ir.loops import routines

LONG, TRUTH, MEMORY, LITERAL = "i64", "i1", "ptr", "literal"
"""Types of operands; a literal becomes a number of the type that it meets."""


class Operand(NamedTuple):
    """A value: its LLVM type, its name or literal, and of memory the type of its elements."""

    kind: str
    text: str
    dtype: DType | None = None


class Writer(Protocol):
    """Of who writes a routine, what words need."""

    others: dict[str, str]

    def put(self, kind: str, text: str, dtype: DType | None = None) -> Operand:
        """Write an instruction; its result."""

    def do(self, text: str) -> None:
        """Write an instruction without a result."""


Word: TypeAlias = Callable[[Writer, Sequence[Operand]], Operand | None]


def element_of(kind: str) -> str:
    """The type of one lane, which is the type itself where there are none."""
    return kind[1:-1].split(" ")[2] if kind[0] == "<" else kind


def in_lanes(writer: Writer, x: Operand, kind: str) -> Operand:
    """``x`` in every lane if ``kind`` has lanes and it has none."""
    if kind[0] != "<" or x.kind[0] == "<":
        return x
    element = element_of(kind)
    if x.kind == LONG and element[0] == "i" and element != LONG:
        x = writer.put(element, f"trunc i64 {x.text} to {element}")
    if x.kind != element:
        raise NotSupported(f"a routine does not mix {x.kind} with {kind}")
    one = writer.put(kind, f"insertelement {kind} undef, {element} {x.text}, i32 0")
    count = kind[1:-1].split(" ", 1)[0]
    zeros = f"<{count} x i32> zeroinitializer"
    return writer.put(kind, f"shufflevector {kind} {one.text}, {kind} undef, {zeros}")


def _after(writer: Writer, given: Sequence[Operand]) -> Operand:
    return _place(writer, given[0], given[1])


def _place(writer: Writer, memory: Operand, place: Operand) -> Operand:
    """Memory from a place on."""
    element = memory_type(_dtype(memory))
    text = f"getelementptr {element}, ptr {memory.text}, i64 {place.text}"
    return writer.put(MEMORY, text, memory.dtype)


def _dtype(memory: Operand) -> DType:
    if memory.dtype is None:
        raise NotSupported(f"a routine has no element of {memory.kind}")
    return memory.dtype


def _number_in(writer: Writer, given: Sequence[Operand]) -> Operand:
    memory, place, like = given
    kind, size = memory_type(_dtype(like)), _dtype(memory).numpy.itemsize
    start = _place(writer, memory, place)
    return writer.put(kind, f"load {kind}, ptr {start.text}, align {size}")


def _lanes(writer: Writer, given: Sequence[Operand]) -> Operand:
    memory, place, count = given
    dtype = _dtype(memory)
    kind = f"<{count.text} x {memory_type(dtype)}>"
    start = _place(writer, memory, place)
    return writer.put(kind, f"load {kind}, ptr {start.text}, align {dtype.numpy.itemsize}")


def _put_lanes(writer: Writer, given: Sequence[Operand]) -> None:
    memory, place, values = given
    start = _place(writer, memory, place)
    size = _dtype(memory).numpy.itemsize
    writer.do(f"store {values.kind} {values.text}, ptr {start.text}, align {size}")


def _alike(writer: Writer, given: Sequence[Operand]) -> Operand:
    number, count = given
    return in_lanes(writer, number, f"<{count.text} x i32>")


def _pick(writer: Writer, given: Sequence[Operand]) -> Operand:
    _, x, y = given
    parts = ", ".join(f"{operand.kind} {operand.text}" for operand in given)
    if x.kind != y.kind:
        raise NotSupported(f"a routine does not mix {x.kind} with {y.kind}")
    return writer.put(x.kind, f"select {parts}")


def _lowest_bit(writer: Writer, given: Sequence[Operand]) -> Operand:
    (x,) = given
    return writer.put(
        x.kind, f"call {x.kind} @llvm.cttz.{suffix(x.kind)}({x.kind} {x.text}, i1 true)"
    )


def _leading_zeros(writer: Writer, given: Sequence[Operand]) -> Operand:
    (word,) = given
    return writer.put(LONG, f"call i64 @llvm.ctlz.i64(i64 {word.text}, i1 true)")


def _wide(writer: Writer, given: Sequence[Operand]) -> Operand:
    (x,) = given
    element = element_of(x.kind)
    if element == "double":
        return x
    kind = x.kind.replace(element, "double")
    return writer.put(kind, f"fpext {x.kind} {x.text} to {kind}")


def _narrow(writer: Writer, given: Sequence[Operand]) -> Operand:
    (x,) = given
    return writer.put("float", f"fptrunc double {x.text} to float")


def _float_like(writer: Writer, given: Sequence[Operand]) -> Operand:
    number, like = given
    kind = memory_type(_dtype(like))
    return writer.put(kind, f"sitofp i64 {number.text} to {kind}")


def _truncated(writer: Writer, given: Sequence[Operand]) -> Operand:
    (x,) = given
    return writer.put(LONG, f"fptosi {x.kind} {x.text} to i64")


def _memory_at(writer: Writer, given: Sequence[Operand]) -> Operand:
    address, like = given
    return writer.put(MEMORY, f"inttoptr i64 {address.text} to ptr", _dtype(like))


def _invoke(writer: Writer, given: Sequence[Operand]) -> Operand:
    address, *passed = given
    function = writer.put(MEMORY, f"inttoptr i64 {address.text} to ptr")
    parts = ", ".join(f"{x.kind} {x.text}" for x in passed)
    return writer.put(LONG, f"call i64 {function.text}({parts})")


def _first_below(writer: Writer, given: Sequence[Operand]) -> Operand:
    """Call the search through whole vectors."""
    kind = memory_type(_dtype(given[0]))
    writer.others[kind] = _SEARCH.replace("@kind@", kind).replace(
        "@align@", str(int(kind[1:]) // 8)
    )
    bound = given[3]
    if kind != LONG:
        bound = writer.put(kind, f"trunc i64 {bound.text} to {kind}")
    passed = ", ".join(f"{x.kind} {x.text}" for x in (*given[:3], bound))
    return writer.put(LONG, f"call i64 @first.below.{kind}({passed})")


WORDS: Mapping[Any, Word] = {
    routines.after: _after,
    routines.alike: _alike,
    routines.first_below: _first_below,
    routines.float_like: _float_like,
    routines.invoke: _invoke,
    routines.invoke_with: _invoke,
    routines.lanes: _lanes,
    routines.leading_zeros: _leading_zeros,
    routines.lowest_bit: _lowest_bit,
    routines.memory_at: _memory_at,
    routines.narrow: _narrow,
    routines.number_in: _number_in,
    routines.pick: _pick,
    routines.put_lanes: _put_lanes,
    routines.truncated: _truncated,
    routines.wide: _wide,
}

NEEDED = (
    "declare i64 @llvm.ctlz.i64(i64, i1)",
    "declare i64 @llvm.cttz.i64(i64, i1)",
    "declare <16 x i32> @llvm.cttz.v16i32(<16 x i32>, i1)",
)
"""What the words call."""

_SEARCH = """
define internal i64 @first.below.@kind@(ptr %x, i64 %from, i64 %end, @kind@ %bound) #0 {
entry:
  %first = insertelement <64 x @kind@> undef, @kind@ %bound, i32 0
  %bounds = shufflevector <64 x @kind@> %first, <64 x @kind@> undef, <64 x i32> zeroinitializer
  br label %test
test:
  %i = phi i64 [ %from, %entry ], [ %i.next, %next ]
  %i.next = add i64 %i, 64
  %is.whole = icmp sle i64 %i.next, %end
  br i1 %is.whole, label %whole, label %rest
whole:
  %whole.at = getelementptr @kind@, ptr %x, i64 %i
  %elements = load <64 x @kind@>, ptr %whole.at, align @align@
  %are.below = icmp slt <64 x @kind@> %elements, %bounds
  %found = bitcast <64 x i1> %are.below to i64
  %is.none = icmp eq i64 %found, 0
  br i1 %is.none, label %next, label %hit
next:
  br label %test
hit:
  %lane = call i64 @llvm.cttz.i64(i64 %found, i1 true)
  %place = add i64 %i, %lane
  ret i64 %place
rest:
  %k = phi i64 [ %i, %test ], [ %k.next, %other ]
  %is.left = icmp slt i64 %k, %end
  br i1 %is.left, label %one, label %done
one:
  %one.at = getelementptr @kind@, ptr %x, i64 %k
  %element = load @kind@, ptr %one.at, align @align@
  %is.below = icmp slt @kind@ %element, %bound
  br i1 %is.below, label %done, label %other
other:
  %k.next = add i64 %k, 1
  br label %rest
done:
  ret i64 %k
}"""
