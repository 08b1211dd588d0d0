"""What loops mean: an executor of tensor expressions on NumPy buffers.

The definition that compiled code is held against, so it is plain rather than fast: an expression
is evaluated for a whole box of indices at once. A loop variable is an array of its values along an
axis of its own; variables of inner reductions get axes in front of those of outer ones, so that
NumPy's broadcasting joins them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from fornix.cast import convert
from fornix.errors import Fail
from fornix.ir.dim import Dim, DimLike
from fornix.ir.dim.expression import Atom, Extreme, Floor, Symbol
from fornix.ir.loops import (
    Apply,
    Buffer,
    Const,
    Constant,
    Index,
    Load,
    Loaded,
    Opaque,
    Reduce,
    Routine,
    Scalar,
    Scan,
    Scatter,
    Store,
    Tensor,
    Variable,
    identity,
    out_of_range,
)
from fornix.ir.loops.tensor import stored

Array = np.ndarray[Any, np.dtype[Any]]


def interpret(
    result: Tensor,
    feeds: Mapping[str, Array] | None = None,
    symbols: Mapping[str, int] | None = None,
    kernels: Mapping[str, Callable[..., Any]] | None = None,
) -> Array:
    """The values of ``result``, given the contents of argument buffers and the symbols' values."""
    machine = Machine(feeds or {}, symbols or {}, kernels or {})
    with np.errstate(all="ignore"):
        return machine.contents(stored(result).buffer)


class Frame:
    """Loop variables with their values, and what has been computed for them."""

    def __init__(self, parent: Frame | None = None) -> None:
        self.parent = parent
        self.values: dict[Atom, Array] = {}
        self.rank: int = parent.rank if parent else 0
        self.memo: dict[Scalar | Atom, Array] = {}

    def bind(self, axes: Iterable[Variable], extents: Iterable[int]) -> tuple[int, ...]:
        """Give each variable an axis, the last one innermost; returns the box, slowest first."""
        box = tuple(extents)
        for variable, extent in reversed(list(zip(axes, box, strict=True))):
            self.values[variable] = np.arange(extent).reshape((extent,) + (1,) * self.rank)
            self.rank += 1
        return box

    def outermost(self, variables: Iterable[Atom]) -> Frame:
        """The frame that has all of ``variables``: what is evaluated there is shared."""
        needed = set(variables)
        frame = self
        while frame.parent is not None and not needed & frame.values.keys():
            frame = frame.parent
        return frame


class Machine:
    """Buffers and their contents; computations run when somebody reads what they fill."""

    def __init__(
        self,
        feeds: Mapping[str, Array],
        symbols: Mapping[str, int],
        kernels: Mapping[str, Callable[..., Any]],
    ) -> None:
        self.feeds, self.symbols, self.kernels = feeds, symbols, kernels
        self.memory: dict[Buffer, Array] = {}

    # ── buffers and computations

    def contents(self, buffer: Buffer | None) -> Array:
        """The elements of ``buffer`` in the order of its indices."""
        assert buffer is not None
        frame = Frame()
        axes = [Variable("i", n) for n in buffer.shape]
        box = frame.bind(axes, [self.whole(n) for n in buffer.shape])
        address = self.dim(buffer.address(tuple(a.dim for a in axes)), frame)
        return self.flat(buffer)[np.broadcast_to(address, box)]

    def flat(self, buffer: Buffer) -> Array:
        """The memory of ``buffer``, filled."""
        if buffer not in self.memory:
            if isinstance(buffer.source, Constant):
                self.fill(buffer, buffer.source.array)
            elif buffer.source is not None:
                self.run(buffer.source)
            else:
                self.fill(buffer, self.feeds[buffer.name])
        return self.memory[buffer]

    def fill(self, buffer: Buffer, array: Array) -> None:
        assert array.dtype == buffer.dtype.numpy, (array.dtype, buffer)
        assert array.shape == tuple(map(self.whole, buffer.shape)), (array.shape, buffer)
        memory = self.allocate(buffer)
        frame = Frame()
        axes = [Variable("i", n) for n in buffer.shape]
        frame.bind(axes, array.shape)
        address = self.dim(buffer.address(tuple(a.dim for a in axes)), frame)
        memory[np.broadcast_to(address, array.shape)] = array

    def allocate(self, buffer: Buffer) -> Array:
        self.memory[buffer] = np.zeros(self.whole(buffer.elements), buffer.dtype.numpy)
        return self.memory[buffer]

    def run(self, source: Store | Scan | Scatter | Routine | Opaque) -> None:
        match source:
            case Store():
                self.allocate(source.buffer)
                self.write(*self.evaluated(source, Frame()))
            case Scan():
                self.scan(source)
            case Scatter():
                self.allocate(source.base.buffer)
                self.write(*self.evaluated(source.base, Frame()))
                self.scatter(source)
            case Routine():
                self.routine(source)
            case Opaque():
                given = [self.contents(b) for b in source.inputs]
                results = self.kernels[source.kernel](*given, **source.attributes)
                for buffer, array in zip(source.outputs, results, strict=True):
                    self.allocate(buffer)[:] = array.reshape(-1)

    def routine(self, source: Routine) -> None:
        """Python runs the function itself; scratch memory holds anything when it begins."""
        given = [self.flat(b) for b in source.inputs] + [self.allocate(b) for b in source.outputs]
        for row in range(self.whole(source.row.extent)):
            frame = Frame()
            frame.values[source.row] = np.asarray(row)
            scratch = [np.full(self.whole(b.elements), 77, b.dtype.numpy) for b in source.scratch]
            numbers = [int(self.dim(n, frame)) for n in source.numbers]
            source.function(*given, *scratch, *numbers)

    def evaluated(self, store: Store, frame: Frame) -> tuple[Buffer, Array, Array]:
        inner = Frame(frame)
        box = inner.bind(store.axes, [self.whole(a.extent) for a in store.axes])
        if 0 in box:  # no step is taken, so nothing is read, whatever does not depend on the axes
            return store.buffer, np.zeros(box, np.int64), np.zeros(box, store.buffer.dtype.numpy)
        address = np.broadcast_to(self.dim(store.address, inner), box)
        return store.buffer, address, np.broadcast_to(self.value(store.value, inner), box)

    def write(self, buffer: Buffer, address: Array, value: Array) -> None:
        self.memory[buffer][address.reshape(-1)] = value.reshape(-1)

    def scan(self, source: Scan) -> None:
        for store in (*source.starts, *source.inner):
            self.allocate(store.buffer)
        for store in source.starts:
            self.write(*self.evaluated(store, Frame()))
        for t in range(self.whole(source.time.extent)):
            frame = Frame()
            frame.values[source.time] = np.asarray(t)
            for store in source.inner:
                self.write(*self.evaluated(store, frame))
            moved = [self.evaluated(store, frame) for store in source.steps]
            for step in moved:
                self.write(*step)

    def scatter(self, source: Scatter) -> None:
        buffer, address, value = self.evaluated(source.update, Frame())
        memory = self.memory[buffer]
        combine: dict[str | None, Callable[[Any, Any], Any]] = {
            None: lambda _, new: new,
            "sum": np.add,
            "prod": np.multiply,
            "max": np.maximum,
            "min": np.minimum,
        }
        for at, new in zip(address.flat, value.flat, strict=True):
            memory[at] = combine[source.op](memory[at], new)

    # ── index expressions

    def whole(self, d: DimLike) -> int:
        """A value that is the same everywhere."""
        return int(self.dim(d, Frame()))

    def dim(self, d: DimLike, frame: Frame) -> Array:
        if not isinstance(d, Dim):
            return np.asarray(d, np.int64)
        total = np.zeros((), np.int64)
        for monomial, c in d.terms.items():
            product = np.asarray(c, np.int64)
            for atom in monomial:
                product = product * self.atom(atom, frame)
            total = total + product
        return np.asarray(total)

    def atom(self, atom: Atom, frame: Frame) -> Array:
        if isinstance(atom, Symbol):
            return np.asarray(self.symbols[atom.name], np.int64)
        frame = frame.outermost(atom.variables)
        if isinstance(atom, Variable):
            return frame.values[atom]
        if atom not in frame.memo:
            frame.memo[atom] = self.compound(atom, frame)
        return frame.memo[atom]

    def compound(self, atom: Atom, frame: Frame) -> Array:
        inner = [self.dim(i, frame) for i in atom.inner]
        match atom:
            case Floor():
                return np.asarray(np.floor_divide(*inner))
            case Extreme():
                pick = np.minimum if atom.kind == "min" else np.maximum
                result = inner[0]
                for other in inner[1:]:
                    result = np.asarray(pick(result, other))
                return result
            case Loaded():
                return self.gathered(atom, frame)
        raise AssertionError(f"{atom} has no value")

    def gathered(self, atom: Loaded, frame: Frame) -> Array:
        given = self.value(atom.expr, frame)
        extent = self.dim(atom.extent, frame)
        wrapped = np.where(given < 0, given + extent, given) if atom.wraps else given
        # Where the axis is empty a guard keeps everybody from reading, or the load fails.
        wrong = (wrapped < 0) | (wrapped >= np.maximum(extent, 1))
        if wrong.any():
            value = int(np.broadcast_to(given, wrong.shape)[wrong][0])
            raise Fail(out_of_range(value, int(extent.max()), wraps=atom.wraps))
        return np.asarray(wrapped)

    # ── scalars

    def value(self, e: Scalar, frame: Frame) -> Array:
        frame = frame.outermost(e.variables)
        if e not in frame.memo:
            result = self.computed(e, frame)
            assert result.dtype == e.dtype.numpy, (e, result.dtype)
            frame.memo[e] = result
        return frame.memo[e]

    def computed(self, e: Scalar, frame: Frame) -> Array:
        match e:
            case Const():
                return np.asarray(e.value, e.dtype.numpy)
            case Index():
                return self.dim(e.dims[0], frame)
            case Load():
                return self.loaded(e, frame)
            case Reduce():
                return self.reduced(e, frame)
            case Apply():
                args = [self.value(a, frame) for a in e.args]
                return self.applied(e, args)
        raise AssertionError(e)

    def loaded(self, e: Load, frame: Frame) -> Array:
        address = self.dim(e.address, frame)
        memory = self.flat(e.buffer)
        guard = np.asarray(True) if e.guard is None else self.value(e.guard, frame)
        wrong = guard & ((address < 0) | (address >= memory.size))
        if wrong.any():
            first = np.broadcast_to(address, wrong.shape)[wrong][0]
            raise Fail(f"{e.buffer} has no element {first}")
        if not memory.size:
            memory = np.zeros(1, memory.dtype)  # nobody reads it
        found = memory[np.where(guard, address, 0)]
        return np.where(guard, found, np.asarray(e.default, memory.dtype))

    def reduced(self, e: Reduce, frame: Frame) -> Array:
        inner = Frame(frame)
        box = inner.bind(e.axes, [self.whole(a.extent) for a in e.axes])
        body = self.value(e.body, inner)
        lead = (1,) * (frame.rank + len(box) - body.ndim) + body.shape
        full = np.broadcast_to(body.reshape(lead), box + lead[len(box) :])
        ufunc = {
            "sum": np.add,
            "prod": np.multiply,
            "max": np.maximum,
            "min": np.minimum,
            "and": np.bitwise_and,
            "or": np.bitwise_or,
        }[e.op]
        start = np.asarray(identity(e.op, e.dtype), e.dtype.numpy)
        flat = full.reshape((math.prod(box), *full.shape[len(box) :]))
        return np.asarray(ufunc.reduce(flat, axis=0, dtype=e.dtype.numpy, initial=start[()]))

    def applied(self, e: Apply, args: list[Array]) -> Array:
        match e.op:
            case "select":
                return np.where(*args)
            case "after":
                return args[1]
            case "cast":
                return convert(args[0], e.dtype)
            case "bitcast":
                return args[0].view(e.dtype.numpy)
            case "div" | "mod" | "fmod" if e.dtype.is_integer:
                return divided(e.op, *args)
            case "pow" if e.dtype.is_integer and (args[1] < 0).any():
                raise Fail("an integer is raised to a negative power")
            case "fma":
                a, b, c = (np.asarray(x, np.longdouble) for x in args)
                return np.asarray(a * b + c, e.dtype.numpy)
        return np.asarray(NUMPY[e.op](*args))


def divided(op: str, a: Array, b: Array) -> Array:
    if (b == 0).any():
        raise Fail("an integer is divided by zero")
    if op == "mod":
        return np.asarray(np.mod(a, b))
    rest = np.fmod(a, b)
    return np.asarray(rest if op == "fmod" else (a - rest) // b)


def dot4(a: Array, b: Array) -> Array:
    shifts = 8 * np.arange(4)
    x = (a[..., None].astype(np.int64) >> shifts & 255).astype(np.uint8)
    y = (b[..., None].astype(np.int64) >> shifts & 255).astype(np.uint8).view(np.int8)
    return np.asarray((x.astype(np.int32) * y).sum(-1), np.int32)


def dot2i(a: Array, b: Array) -> Array:
    """Products of the halves of words, each an int16; the sum wraps."""
    halves = ((x.astype(np.int64) << k << 32 >> 48) for k in (16, 0) for x in (a, b))
    low_a, low_b, high_a, high_b = halves
    return np.asarray(low_a * low_b + high_a * high_b).astype(np.int32)


def dot2(a: Array, b: Array) -> Array:
    """Products of the halves of words, each a bfloat16: the upper half of a float32."""
    factors = (
        np.stack([(x << 16).view(np.float32), (x & -65536).view(np.float32)]) for x in (a, b)
    )
    return np.asarray(np.prod(list(factors), axis=0).sum(axis=0), np.float32)


def halves(a: Array, b: Array) -> Array:
    """Two float32s as the bfloat16s of a word, the first one low."""
    import ml_dtypes

    low, high = (x.astype(ml_dtypes.bfloat16).view(np.uint16).astype(np.uint32) for x in (a, b))
    return np.asarray((low | high << 16).view(np.int32))


def error_function(x: Array) -> Array:
    flat = [math.erf(v) for v in x.astype(np.float64).flat]
    return np.asarray(flat, x.dtype).reshape(x.shape)


NUMPY: dict[str, Callable[..., Any]] = {
    "neg": np.negative,
    "abs": np.abs,
    "not": np.invert,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "weight": np.exp,
    "plain_log": np.log,
    "log": np.log,
    "erf": error_function,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "rint": np.rint,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "dot2": dot2,
    "dot2i": dot2i,
    "halves": halves,
    "dot4": dot4,
    "div": np.divide,
    "mod": np.mod,
    "fmod": np.fmod,
    "pow": np.power,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shl": np.left_shift,
    "shr": np.right_shift,
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}
