"""The state of emission: what is known of loop variables, buffers, lanes and checks.

An `Emitter` writes the code of one kernel. Values are written by `values`, addresses by `indices`,
memory by `memory`, reductions by `folds`, statements by `statements`: functions of an emitter.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from fornix.compile.emit import folds, indices, values
from fornix.compile.emit.builder import Builder, Value, flatten
from fornix.compile.emit.types import lane_numbers, register_type, vector_type
from fornix.compile.kernel import SCRATCH_ALIGNMENT, Check
from fornix.compile.nest import Picks
from fornix.compile.target import Target
from fornix.dtype import BOOL, INT8, INT16, INT32, DType
from fornix.ir.dim import Dim, DimLike, atoms, ceildiv
from fornix.ir.dim.expression import Atom, Symbol
from fornix.ir.loops import Buffer, Reduce, Scalar, Substitution, Variable

ATTRIBUTES = "nounwind"
DROPS_SUBNORMAL = 0x8040
"""Of the register MXCSR: results below normal numbers are 0 (FTZ), and so are factors (DAZ)."""
PARAMETERS = "ptr %args, ptr %syms, ptr %scratch, i64 %chunk, i64 %chunks"


def _concerns(key: Hashable, axis: Atom) -> bool:
    """Whether what is remembered for ``key`` depends on ``axis``."""
    parts = key if isinstance(key, tuple) else (key,)
    return any(isinstance(p, Scalar | Atom | Dim) and axis in p.variables for p in parts)


class Emitter(Builder):
    """Code of a kernel, and what it knows where it has got to.

    Of the loop variables one at a time may be `vector`, the axis along which values are vectors of
    `lanes` elements; `units` are the vectors that one turn of its loop handles, at its value plus
    ``unit * lanes``. A unit in `masks` handles only the lanes where its mask is true. What lies in
    buffers that are `changing` is read where it is asked for, not ahead of loops; that in `padded`
    ones without masks.
    """

    def __init__(
        self, target: Target, lanes: int, buffers: Sequence[Buffer], symbols: Sequence[str]
    ) -> None:
        super().__init__()
        self.target, self.lanes = target, lanes
        self.drops_subnormal = False
        self.is_aligned = False
        self.vector: Variable | None = None
        self.units: Sequence[int] = (0,)
        self.masks: dict[int, Value] = {}
        self.places: dict[Atom, Value] = {}
        self.picks: dict[Atom, Picks] = {}
        """How elements are read that lie at near places from memory."""
        self.expansions: dict[Scalar, Scalar] = {}
        self._moved: dict[tuple[object, ...], Substitution] = {}
        self.changing: frozenset[Buffer] = frozenset()
        self.padded: frozenset[Buffer] = frozenset()
        self.checks: list[Check] = []
        self.functions: dict[str, None] = {}
        """Texts of functions that the kernel calls."""
        self.given = frozenset(buffers)
        """Those that lie in memory of their own, of which every element may be read."""
        self.pointers: dict[Buffer, Value] = {}
        self.as_words: dict[tuple[Buffer, DType], Buffer] = {}
        self.symbols: dict[str, Value] = {}
        self.ending: list[str] = []
        """Instructions before the end of the kernel."""
        self.status = "%status"
        self.do("%status = alloca i64")
        self.do("store i64 0, ptr %status")
        self.do("%nowhere = alloca i64")
        self.do("store i64 0, ptr %nowhere")
        for k, buffer in enumerate(buffers):
            slot = self.put(0, f"getelementptr ptr, ptr %args, i64 {k}")
            self.pointers[buffer] = Value(self.put(0, f"load ptr, ptr {slot}"), False, 0)
        for k, name in enumerate(symbols):
            slot = self.put(0, f"getelementptr i64, ptr %syms, i64 {k}")
            self.symbols[name] = Value(self.put(0, f"load i64, ptr {slot}"), False, 0)

    def scratch(self, offsets: Mapping[Buffer, DimLike]) -> None:
        """Let buffers lie in scratch memory, at offsets in bytes."""
        for buffer, offset in offsets.items():
            at = self.dim(offset)
            text = self.put(0, f"getelementptr i8, ptr %scratch, i64 {at.text}")
            self.pointers[buffer] = Value(text, False, 0)

    def words(self, buffer: Buffer, dtype: DType = INT32) -> Buffer:
        """The memory of ``buffer``, whose elements are narrower, as int32s, or as a ``dtype``."""
        found = self.as_words.get((buffer, dtype))
        if found is None:
            count = dtype.bits // buffer.dtype.bits
            found = Buffer(buffer.name, (ceildiv(buffer.elements, count),), dtype)
            self.as_words[buffer, dtype] = found
            self.pointers[found] = self.pointers[buffer]
        return found

    def stack(self, size: int) -> str:
        """A pointer to ``size`` bytes on the stack, for as long as the kernel runs."""
        name = f"%s{self.number()}"
        self.root.insert(0, f"  {name} = alloca [{size} x i8], align {SCRATCH_ALIGNMENT}")
        return name

    def leave_if_empty(self, outputs: Sequence[Buffer]) -> None:
        """Return where extents say that none of ``outputs`` has elements, before anything else."""
        counts = [buffer.elements for buffer in outputs]
        if any(folds.surely_runs(count) or not self.is_told(count) for count in counts):
            return
        tests = [self.put(0, f"icmp slt i64 {self.dim(count).text}, 1") for count in counts]
        for test in tests[1:]:
            tests[0] = self.put(0, f"and i1 {tests[0]}, {test}")
        self.do(f"br i1 {tests[0]}, label %none, label %some")
        self.root += ["none:", "  ret i64 0", "some:"]
        self.levels[0].label = "some"

    def drop_subnormal(self) -> None:
        """Let x86-64 take numbers less than all normal ones for 0, to the end of the kernel."""
        self.drops_subnormal = True
        before, here = self.put(0, "alloca i32"), self.put(0, "alloca i32")
        self.do(f"call void @llvm.x86.sse.stmxcsr(ptr {before})")
        flags = self.put(0, f"or i32 {self.put(0, f'load i32, ptr {before}')}, {DROPS_SUBNORMAL}")
        self.do(f"store i32 {flags}, ptr {here}")
        self.do(f"call void @llvm.x86.sse.ldmxcsr(ptr {here})")
        self.ending.append(f"  call void @llvm.x86.sse.ldmxcsr(ptr {before})")
        names = ("stmxcsr", "ldmxcsr")
        self.declarations.update(f"declare void @llvm.x86.sse.{name}(ptr)" for name in names)

    def is_told(self, count: DimLike) -> bool:
        """Whether symbols that the kernel is given tell ``count``."""
        return all(a.name in self.symbols for a in atoms(count) if isinstance(a, Symbol))

    def text(self, name: str) -> str:
        """The module with the finished function, called ``name``."""
        wide = self.target.vector_bytes * 8
        lines = [
            f"define i64 @{name}({PARAMETERS}) #0 {{",
            "entry:",
            *flatten(self.root),
            *self.ending,
            "  %result = load i64, ptr %status",
            "  ret i64 %result",
            "}",
            *self.functions,
            *sorted(self.declarations),
            (
                f'attributes #0 = {{ {ATTRIBUTES} "prefer-vector-width"="{wide}"'
                f' "min-legal-vector-width"="{wide}" }}'
            ),
        ]
        return "\n".join(lines) + "\n"

    # ── what things are

    def depends(self, x: Scalar | Atom | DimLike) -> bool:
        """Whether ``x`` varies along the vector axis."""
        return self.vector is not None and not isinstance(x, int) and self.vector in x.variables

    def type(self, dtype: DType, *, is_vector: bool) -> str:
        """The LLVM type of values of ``dtype``."""
        return vector_type(dtype, self.lanes) if is_vector else register_type(dtype)

    def moved(self, e: Scalar, values: Mapping[Atom, DimLike]) -> Scalar:
        """``e`` with loop variables replaced; blocks are written anew for masked turns."""
        key = tuple(values.items())
        found = self._moved.get(key)
        if found is None:
            found = self._moved[key] = Substitution({**values})
        return found.of(e)

    def value(self, e: Scalar, unit: int = 0) -> Value:
        """The value of ``e``; where it varies along the vector axis, that of vector ``unit``."""
        key = (e, unit if self.depends(e) else None)
        found = self.find(key)
        if found is None:
            found = self.remember(key, values.compute(self, e, unit))
        return found

    def dim(self, d: DimLike) -> Value:
        """The value of an index expression, at the first lane of unit 0."""
        return indices.scalar(self, d)

    def dims(self, d: DimLike, unit: int) -> Value:
        """The values of an index expression in the lanes of ``unit``."""
        return indices.lanes_of(self, d, unit)

    def reduce(self, e: Reduce, unit: int) -> Value:
        """The value of a reduction."""
        return folds.reduce(self, e, unit)

    def depth_of(self, e: Scalar | DimLike) -> int:
        """The outermost level at which every loop variable of ``e`` has a value."""
        atoms: Iterable[Atom] = () if isinstance(e, int) else e.variables
        return max((self.places[a].depth for a in atoms), default=0)

    def place(self, axis: Atom, value: Value) -> None:
        """Let ``axis`` be ``value`` from here on.

        If it had another value that is still in sight here, of this level or one outside, what is
        remembered for it does not hold for the new one.
        """
        before = self.places.get(axis)
        self.places[axis] = value
        if before is None or before.depth > value.depth or before.text == value.text:
            return
        for level in self.levels:
            for key in [k for k in level.memo if _concerns(k, axis)]:
                del level.memo[key]

    # ── vectors

    def splat(self, v: Value, dtype: DType) -> str:
        """``v`` in every lane, if it is not a vector already."""
        if v.is_vector:
            return v.text
        if not v.text.startswith("%"):
            return f"splat ({register_type(dtype)} {v.text})"
        key = ("splat", v.text, self.lanes)
        found = self.find(key)
        if found is None:
            kind = self.type(dtype, is_vector=True)
            first = f"{register_type(dtype)} {v.text}"
            one = self.put(v.depth, f"insertelement {kind} poison, {first}, i32 0")
            zeros = f"<{self.lanes} x i32> zeroinitializer"
            text = self.put(v.depth, f"shufflevector {kind} {one}, {kind} poison, {zeros}")
            found = self.remember(key, Value(text, True, v.depth))
        return found.text

    def mask_of(self, unit: int, guard: Value | None = None) -> Value | None:
        """The lanes of ``unit`` that exist and where ``guard`` holds; None if all do."""
        mask = self.masks.get(unit)
        if guard is None:
            return mask
        lanes = Value(self.splat(guard, BOOL), True, guard.depth)
        if mask is None:
            return lanes
        key = ("mask", mask.text, lanes.text)
        found = self.find(key)
        if found is None:
            depth = max(mask.depth, lanes.depth)
            kind = self.type(BOOL, is_vector=True)
            text = self.put(depth, f"and {kind} {mask.text}, {lanes.text}")
            found = self.remember(key, Value(text, True, depth))
        return found

    def first_lanes(self, count: Value, unit: int) -> Value:
        """The mask of the lanes of ``unit`` below ``count``.

        Their numbers are integers so wide that they fill a vector: then one instruction compares.
        """
        if not count.text.startswith("%"):
            first = unit * self.lanes
            bits = (first + k < int(count.text) for k in range(self.lanes))
            text = f"<{', '.join('i1 true' if bit else 'i1 false' for bit in bits)}>"
            return Value(text, True, 0)
        return self._lanes_beside("slt", count, unit, 0)

    def lane_at(self, place: Value, unit: int) -> Value:
        """The mask of the lane of ``unit`` that ``place`` numbers; of none where there is none."""
        return self._lanes_beside("eq", place, unit, -1)

    def _lanes_beside(self, test: str, place: Value, unit: int, least: int) -> Value:
        """Compare lanes of ``unit`` with ``place``, taken for ``least`` or their number beyond."""
        first, depth = unit * self.lanes, place.depth
        dtype = _INTEGERS[max(1, min(self.target.vector_bytes // self.lanes, 8))]
        own = self.put(depth, f"sub i64 {place.text}, {first}") if first else place.text
        most = self.call(depth, "i64", "llvm.smin.i64", ("i64", own), ("i64", str(self.lanes)))
        left = self.call(depth, "i64", "llvm.smax.i64", ("i64", most), ("i64", str(least)))
        if dtype is not INDEX:
            left = self.put(depth, f"trunc i64 {left} to {self.type(dtype, is_vector=False)}")
        numbers = lane_numbers(0, 1, self.lanes, self.type(dtype, is_vector=False))
        limit = f"{self.type(dtype, is_vector=True)} {numbers}"
        every = self.splat(Value(left, False, depth), dtype)
        return Value(self.put(depth, f"icmp {test} {limit}, {every}"), True, depth)

    def splat_index(self, v: Value) -> str:
        """An i64 in every lane."""
        return self.splat(v, INDEX)

    @contextmanager
    def along(
        self, axis: Variable | None, units: Sequence[int] = (0,), *, is_aligned: bool = False
    ) -> Iterator[None]:
        """Let ``axis`` be the vector axis for a while.

        It ``is_aligned`` if its value is known to be a multiple of `lanes`.
        """
        before = self.vector, self.units, self.masks, self.is_aligned
        self.vector, self.units, self.masks, self.is_aligned = axis, units, {}, is_aligned
        try:
            yield
        finally:
            self.vector, self.units, self.masks, self.is_aligned = before

    # ── checks

    def check(self, kind: str, text: str, good: Value, unit: int) -> None:
        """Make the kernel return the number of this check unless ``good`` holds in each lane."""
        depth = good.depth
        wrong = good.text
        if good.is_vector:
            kind_of = self.type(BOOL, is_vector=True)
            wrong = self.put(depth, f"xor {kind_of} {wrong}, splat (i1 true)")
            mask = self.masks.get(unit)
            if mask is not None:
                depth = max(depth, mask.depth)
                wrong = self.put(depth, f"and {kind_of} {wrong}, {mask.text}")
            function = f"llvm.vector.reduce.or.v{self.lanes}i1"
            wrong = self.call(depth, "i1", function, (kind_of, wrong))
        else:
            wrong = self.put(depth, f"xor i1 {wrong}, true")
        self._report(depth, wrong, self._number(Check(kind, text)))

    def _number(self, check: Check) -> int:
        if check not in self.checks:
            self.checks.append(check)
        return self.checks.index(check) + 1

    def _report(self, depth: int, wrong: str, number: int) -> None:
        """Remember the first check that failed; no branch, for failures are not expected."""
        before = self.put(depth, f"load i64, ptr {self.status}")
        is_first = self.put(depth, f"icmp eq i64 {before}, 0")
        hit = self.put(depth, f"and i1 {wrong}, {is_first}")
        result = self.put(depth, f"select i1 {hit}, i64 {number}, i64 {before}")
        self.do(f"store i64 {result}, ptr {self.status}", depth)


INDEX = DType.of("int64")
_INTEGERS = {1: INT8, 2: INT16, 4: INT32, 8: INDEX}
"""By bytes."""
