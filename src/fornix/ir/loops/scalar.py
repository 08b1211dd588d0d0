"""Loop scalars: immutable expressions for one element of a tensor.

Decides which operations there are and on which dtypes (`OPERATIONS`). Expressions are hash-consed:
two that are written alike are one object, so sharing is identity, ``==`` is ``is``, and a compiler
finds common subexpressions for free. What an expression computes does not depend on where it
stands: both sides of a `select` are evaluated, only a guarded `Load` is not, where its guard fails.

dtypes are strict: operands of one operation have one dtype; a Python number takes the dtype of the
other operand, if it fits; NumPy scalars are refused, for they would widen arrays silently. Floats
narrower than 32 bits and integers narrower than 8 are for storage: they are loaded, selected and
cast, not computed with. Integers wrap; integer division by zero is an error of the run.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeAlias, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from fornix.dtype import BOOL, FLOAT32, FLOAT64, INT32, INT64, DType
from fornix.errors import DTypeError
from fornix.forks import awaited
from fornix.ir.dim import DimLike, equal, is_nonnegative, less
from fornix.ir.dim.expression import Atom, Dim, terms_of, variables
from fornix.ir.loops.index import Loaded, Variable

if TYPE_CHECKING:
    from fornix.ir.buffer import Buffer

Number: TypeAlias = "int | float"
"""A Python number (or bool), weak in its dtype."""


@dataclass(frozen=True)
class Operation:
    """An operation of `Apply`: how many operands, of which kinds of dtype, all the same."""

    arity: int
    kinds: frozenset[str]
    gives_bool: bool = False


_FLOAT = frozenset({"float"})
_INTEGER = frozenset({"int", "uint"})
_NUMBER = _FLOAT | _INTEGER
_BITS = _INTEGER | {"bool"}
_ANY = _NUMBER | {"bool"}

OPERATIONS = {
    **dict.fromkeys(("neg", "abs"), Operation(1, _NUMBER)),
    "not": Operation(1, _BITS),  # logical on bool, bitwise on integers; so are and, or, xor
    **dict.fromkeys(("sqrt", "exp", "log", "erf"), Operation(1, _FLOAT)),
    "weight": Operation(1, _FLOAT),  # exp of what is at most 0; 0 where that is no normal number
    "plain_log": Operation(1, _FLOAT),  # log of a normal number above 0, or of NaN
    **dict.fromkeys(("floor", "ceil", "trunc", "rint"), Operation(1, _FLOAT)),
    **dict.fromkeys(("sin", "cos", "tan", "asin", "acos", "atan"), Operation(1, _FLOAT)),
    **dict.fromkeys(("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"), Operation(1, _FLOAT)),
    **dict.fromkeys(("add", "sub", "mul"), Operation(2, _NUMBER)),
    "div": Operation(2, _NUMBER),  # integers: rounds towards zero
    "mod": Operation(2, _NUMBER),  # has the sign of the divisor, as % in Python
    "fmod": Operation(2, _NUMBER),  # has the sign of the dividend, as in C
    "pow": Operation(2, _NUMBER),  # integers: a negative exponent is an error of the run
    **dict.fromkeys(("min", "max"), Operation(2, _ANY)),  # NaN if either is NaN
    **dict.fromkeys(("and", "or", "xor"), Operation(2, _BITS)),
    **dict.fromkeys(("shl", "shr"), Operation(2, _INTEGER)),  # shr of a negative keeps the sign
    **dict.fromkeys(("lt", "le", "eq", "ne"), Operation(2, _ANY, gives_bool=True)),
    "fma": Operation(3, _FLOAT),  # a*b + c, rounded once
    "dot2": Operation(2, frozenset({"int"})),  # int32s as two bfloat16s each: Σ in float32
    "halves": Operation(2, _FLOAT),  # two float32s as the bfloat16s of an int32, the first one low
    "dot4": Operation(2, frozenset({"int"})),  # int32s as four bytes each: Σ unsigned · signed
    "dot2i": Operation(2, frozenset({"int"})),  # int32s as two int16s each: Σ signed · signed
}
"""Every operation besides `select`, `after`, `cast` and `bitcast`, which take several dtypes."""

REDUCTIONS = {"sum": _NUMBER, "prod": _NUMBER, "max": _ANY, "min": _ANY, "and": _BITS, "or": _BITS}
"""Reductions and the kinds that they take. max and min are NaN if any element is."""


REPR_DEPTH = 6
"""Levels of an expression that its repr shows."""


class Scalar:
    """One element's value; a node of an immutable graph. Build with the functions below.

    `args` are the scalars and `dims` the index expressions that it is made of, `variables` the
    loop variables that it depends on, `size` the nodes in it, counted with repetition.
    """

    __slots__ = ("__weakref__", "args", "dims", "dtype", "serial", "size", "variables")
    __array_ufunc__ = None  # arrays and NumPy scalars leave arithmetic to the methods below
    dtype: DType
    args: tuple[Scalar, ...]
    dims: tuple[DimLike, ...]
    variables: frozenset[Atom]
    serial: int
    size: int

    def __init__(
        self, dtype: DType, args: tuple[Scalar, ...] = (), dims: tuple[DimLike, ...] = ()
    ) -> None:
        self.dtype, self.args, self.dims = dtype, args, dims
        self.serial = next(_SERIAL)
        self.size = 1 + sum([a.size for a in args])
        own = [d.variables for d in dims if isinstance(d, Dim)] + [a.variables for a in args]
        self.variables = own[0] if len(own) == 1 else frozenset().union(*own)

    def rebuild(self, args: tuple[Scalar, ...], dims: tuple[DimLike, ...]) -> Scalar:
        """The same operation on other parts, simplified anew."""
        raise NotImplementedError

    def __bool__(self) -> NoReturn:
        raise TypeError("a loop scalar has no truth value; use where(condition, a, b)")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Scalar):
            raise TypeError("== of loop scalars is identity; use equal(a, b)")
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return self.text(REPR_DEPTH)

    def text(self, depth: int) -> str:
        """The expression, ``depth`` levels of it."""
        raise NotImplementedError

    def texts(self, depth: int) -> str:
        """The operands, as `text` writes them."""
        return ", ".join(a.text(depth - 1) for a in self.args) if depth else "…"

    def __add__(self, other: Scalar | Number) -> Scalar:
        return apply("add", self, other)

    def __radd__(self, other: Number) -> Scalar:
        return apply("add", other, self)

    def __sub__(self, other: Scalar | Number) -> Scalar:
        return apply("sub", self, other)

    def __rsub__(self, other: Number) -> Scalar:
        return apply("sub", other, self)

    def __mul__(self, other: Scalar | Number) -> Scalar:
        return apply("mul", self, other)

    def __rmul__(self, other: Number) -> Scalar:
        return apply("mul", other, self)

    def __truediv__(self, other: Scalar | Number) -> Scalar:
        return _true_division(self, other)

    def __rtruediv__(self, other: Number) -> Scalar:
        return _true_division(other, self)

    def __mod__(self, other: Scalar | Number) -> Scalar:
        return apply("mod", self, other)

    def __rmod__(self, other: Number) -> Scalar:
        return apply("mod", other, self)

    def __neg__(self) -> Scalar:
        return apply("neg", self)

    def __abs__(self) -> Scalar:
        return apply("abs", self)

    def __invert__(self) -> Scalar:
        return apply("not", self)

    def __and__(self, other: Scalar | Number) -> Scalar:
        return apply("and", self, other)

    def __rand__(self, other: Number) -> Scalar:
        return apply("and", other, self)

    def __or__(self, other: Scalar | Number) -> Scalar:
        return apply("or", self, other)

    def __ror__(self, other: Number) -> Scalar:
        return apply("or", other, self)

    def __xor__(self, other: Scalar | Number) -> Scalar:
        return apply("xor", self, other)

    def __rxor__(self, other: Number) -> Scalar:
        return apply("xor", other, self)

    def __lshift__(self, other: Scalar | Number) -> Scalar:
        return apply("shl", self, other)

    def __rshift__(self, other: Scalar | Number) -> Scalar:
        return apply("shr", self, other)

    def __lt__(self, other: Scalar | Number) -> Scalar:
        return apply("lt", self, other)

    def __le__(self, other: Scalar | Number) -> Scalar:
        return apply("le", self, other)

    def __gt__(self, other: Scalar | Number) -> Scalar:
        return apply("lt", other, self)

    def __ge__(self, other: Scalar | Number) -> Scalar:
        return apply("le", other, self)


class Const(Scalar):
    """A number, kept as Python's; the dtype rounds it."""

    __slots__ = ("value",)
    value: Number

    def __init__(self, value: Number, dtype: DType) -> None:
        super().__init__(dtype)
        self.value = value

    def rebuild(self, _args: tuple[Scalar, ...], _dims: tuple[DimLike, ...], /) -> Scalar:
        return self

    def text(self, _depth: int, /) -> str:
        return f"{self.value}"


class Index(Scalar):
    """An index expression as an int64 value."""

    __slots__ = ()

    def __init__(self, dim: Dim) -> None:
        super().__init__(INT64, (), (dim,))

    def rebuild(self, _args: tuple[Scalar, ...], dims: tuple[DimLike, ...], /) -> Scalar:
        return index(*dims)

    def text(self, _depth: int, /) -> str:
        return f"[{self.dims[0]}]"


class Load(Scalar):
    """``buffer[address]``, in elements; with a guard, ``default`` where the guard is false.

    Memory is not touched where the guard is false; integers in the address are evaluated there too.
    """

    __slots__ = ("buffer", "default")
    buffer: Buffer
    default: Number

    def __init__(
        self, buffer: Buffer, address: DimLike, guard: tuple[Scalar, ...], default: Number
    ) -> None:
        super().__init__(buffer.dtype, guard, (address,))
        self.buffer, self.default = buffer, default

    @property
    def address(self) -> DimLike:
        return self.dims[0]

    @property
    def guard(self) -> Scalar | None:
        return self.args[0] if self.args else None

    def rebuild(self, args: tuple[Scalar, ...], dims: tuple[DimLike, ...]) -> Scalar:
        return load(self.buffer, dims[0], args[0] if args else None, self.default)

    def text(self, depth: int) -> str:
        guard = f" if {self.texts(depth)} else {self.default}" if self.args else ""
        return f"{self.buffer.name}[{self.address}{guard}]"


class Apply(Scalar):
    """An operation of `OPERATIONS`, or ``select`` ``after`` ``cast`` ``bitcast``, on `args`."""

    __slots__ = ("op",)
    op: str

    def __init__(self, op: str, args: tuple[Scalar, ...], dtype: DType) -> None:
        super().__init__(dtype, args)
        self.op = op

    def rebuild(self, args: tuple[Scalar, ...], _dims: tuple[DimLike, ...], /) -> Scalar:
        match self.op:
            case "select":
                return select(*args)
            case "after":
                return after(*args)
            case "cast":
                return cast(args[0], self.dtype)
            case "bitcast":
                return bitcast(args[0], self.dtype)
        return _simplified(self.op, args)

    def text(self, depth: int) -> str:
        return f"{self.op}<{self.dtype}>({self.texts(depth)})"


class Reduce(Scalar):
    """``op`` over all values of bound `axes`; over none of them it is the identity.

    The order of a sum or product is the executor's, the same in each run.
    """

    __slots__ = ("axes", "op")
    op: str
    axes: tuple[Variable, ...]

    def __init__(self, op: str, axes: tuple[Variable, ...], body: Scalar) -> None:
        super().__init__(body.dtype, (body,), tuple(a.extent for a in axes))
        self.op, self.axes = op, axes
        self.variables -= frozenset(axes)

    @property
    def body(self) -> Scalar:
        return self.args[0]

    def rebuild(self, args: tuple[Scalar, ...], _dims: tuple[DimLike, ...], /) -> Scalar:
        return reduction(self.op, self.axes, args[0])

    def text(self, depth: int) -> str:
        axes = ", ".join(f"{a.text} < {a.extent}" for a in self.axes)
        return f"{self.op}<{self.dtype}>({axes}: {self.texts(depth)})"


_SERIAL = itertools.count()
_POOL: WeakValueDictionary[tuple[object, ...], Scalar] = WeakValueDictionary()
_LOCK = awaited(threading.RLock())

T = TypeVar("T", bound=Scalar)


def _shared(kind: Callable[..., T], key: tuple[object, ...], *parts: object) -> T:
    """The node that is kept for all that are made of these ``parts``, which ``key`` tells apart."""
    whole = (kind, *key)
    with _LOCK:
        found = _POOL.get(whole)
        if found is None:
            found = _POOL[whole] = kind(*parts)
    return found  # type: ignore[return-value]


def _applied(op: str, args: tuple[Scalar, ...], dtype: DType) -> Apply:
    return _shared(Apply, (op, args, dtype.code), op, args, dtype)


# ── construction ───────────────────────────────────────────────────────────────────────────────


def const(value: Number, dtype: DType) -> Const:
    """The number ``value`` of ``dtype``; raises DTypeError unless it is Python's and fits.

    0 and 1 fit bool: they are false and true.
    """
    if type(value) not in {int, bool} and not (type(value) is float and dtype.is_float):
        raise DTypeError(
            f"a {type(value).__name__} stands in an expression of {dtype}; write a Python number,"
            " or a cast"
        )
    if not dtype.is_float and not _least(dtype) <= value <= _greatest(dtype):
        raise DTypeError(f"{value} does not fit {dtype}")
    value = float(value) if dtype.is_float else bool(value) if dtype is BOOL else int(value)
    # By its digits: 0.0 and -0.0 are equal, NaN is not even equal to itself.
    digits = value.hex() if isinstance(value, float) else value
    return _shared(Const, (digits, dtype.code), value, dtype)


def _least(dtype: DType) -> int:
    return -(1 << dtype.bits - 1) if dtype.kind == "int" else 0


def _greatest(dtype: DType) -> int:
    return 1 if dtype is BOOL else (1 << dtype.bits - (dtype.kind == "int")) - 1


def lift(x: Scalar | Number, dtype: DType) -> Scalar:
    """``x`` as a scalar of ``dtype``; raises DTypeError if it has another."""
    if not isinstance(x, Scalar):
        return const(x, dtype)
    if x.dtype is not dtype:
        raise DTypeError(f"operands have one dtype, found {dtype} and {x.dtype}; write a cast")
    return x


def index(dim: DimLike | Atom) -> Scalar:
    """An index, an extent or a loop variable as an int64 value."""
    if isinstance(dim, int):
        return const(dim, INT64)
    if isinstance(dim, Atom):
        dim = Dim({(dim,): 1})
    return _shared(Index, (dim,), dim)


def gathered(x: Scalar, extent: DimLike, *, wraps: bool = False) -> DimLike:
    """The integer ``x`` as an index into an axis of ``extent``, checked when it is used.

    With ``wraps``, negative values count from the end. What is an index expression, or a constant,
    needs no check if it provably lies within: data of a model may be either.
    """
    if not x.dtype.is_integer:
        raise DTypeError(f"an index is an integer, found {x.dtype}")
    dim = None if wraps else as_dim(x)
    if dim is not None and is_nonnegative(dim) and less(dim, extent):
        return dim
    return Dim({(Loaded(cast(x, INT64), extent, wraps=wraps),): 1})


def as_dim(x: Scalar) -> DimLike | None:
    """The index expression that ``x`` is the value of, if it is one."""
    if isinstance(x, Index):
        return x.dims[0]
    return x.value if isinstance(x, Const) and isinstance(x.value, int) else None


TRUE, FALSE = const(True, BOOL), const(False, BOOL)


def load(
    buffer: Buffer, address: DimLike, guard: Scalar | None = None, default: Number = 0
) -> Scalar:
    """The element of ``buffer`` at ``address``, in elements; ``default`` where ``guard`` fails."""
    if guard is None or guard is TRUE:
        return _shared(Load, (buffer, address), buffer, address, (), 0)
    other = const(default, buffer.dtype)
    if guard is FALSE:
        return other
    key = buffer, address, guard, other
    return _shared(Load, key, buffer, address, (guard,), other.value)


def apply(op: str, *operands: Scalar | Number) -> Scalar:
    """An operation of `OPERATIONS`; on indices it is decided or computed where that is exact."""
    operation = OPERATIONS[op]
    dtype = next(x.dtype for x in operands if isinstance(x, Scalar))
    args = tuple(lift(x, dtype) for x in operands)
    if len(args) != operation.arity:
        raise TypeError(f"{op} takes {operation.arity} operands, found {len(args)}")
    _require_kind(op, operation.kinds, dtype)
    if op == "dot4" and dtype is not INT32:
        raise DTypeError(f"dot4 takes int32s of four bytes each, found {dtype}")
    if op == "dot2i" and dtype is not INT32:
        raise DTypeError(f"dot2i takes int32s of two int16s each, found {dtype}")
    if op == "dot2" and dtype is not INT32:
        raise DTypeError(f"dot2 takes int32s of two bfloat16s each, found {dtype}")
    if op == "halves" and dtype is not FLOAT32:
        raise DTypeError(f"halves takes two float32s, found {dtype}")
    return _simplified(op, args)


def _simplified(op: str, args: tuple[Scalar, ...]) -> Scalar:
    """What `apply` gives for ``args`` that the operation takes."""
    dtype = args[0].dtype
    if op == "dot2":
        return _applied(op, args, FLOAT32)
    if op == "halves":
        return _applied(op, args, INT32)
    if dtype is INT64 and op in _ON_INDICES:
        exact = _on_indices(op, *args)
        if exact is not None:
            return exact
    if dtype is BOOL and op in {"and", "or"}:
        return _logical(op, *args)
    return _applied(op, args, BOOL if OPERATIONS[op].gives_bool else dtype)


def _require_kind(op: str, kinds: Iterable[str], dtype: DType) -> None:
    if dtype.kind not in kinds:
        raise DTypeError(f"{op} is not defined for {dtype}")
    narrow = dtype.bits < (32 if dtype.is_float else 8)
    if narrow:
        raise DTypeError(f"{op} does not compute in {dtype}, which is for storage; cast first")


_ON_INDICES = {"add", "sub", "mul", "lt", "le", "eq"}


def _on_indices(op: str, a: Scalar, b: Scalar) -> Scalar | None:
    """``a op b`` on index expressions: arithmetic on them, or a comparison that is proved.

    An inequality that is not decided is written as ``constant <= rest``, whoever wrote it.
    """
    x, y = as_dim(a), as_dim(b)
    if x is None or y is None:
        return None
    if op in {"add", "sub", "mul"}:
        if isinstance(x, int) and isinstance(y, int):
            return None  # numbers of the user's, which wrap
        return index(x + y if op == "add" else x - y if op == "sub" else x * y)
    if op == "eq":
        same = equal(x, y)
        return None if same is None else TRUE if same else FALSE
    surplus = y - x - (op == "lt")
    holds = is_nonnegative(surplus)
    if holds is not None:
        return TRUE if holds else FALSE
    least = -terms_of(surplus).get((), 0)
    args = (const(least, INT64), index(surplus + least))
    return _applied("le", args, BOOL)


def _logical(op: str, a: Scalar, b: Scalar) -> Scalar:
    """``and``, ``or`` of bools, decided where an operand is a constant."""
    neutral, final = (TRUE, FALSE) if op == "and" else (FALSE, TRUE)
    if a is final or b is final:
        return final
    if a is neutral or a is b:
        return b
    return a if b is neutral else _applied(op, (a, b), BOOL)


def _true_division(a: Scalar | Number, b: Scalar | Number) -> Scalar:
    dtype = a.dtype if isinstance(a, Scalar) else b.dtype if isinstance(b, Scalar) else None
    if dtype is not None and not dtype.is_float:
        raise DTypeError(f"/ is not defined for {dtype}; write div(a, b), which rounds to zero")
    return apply("div", a, b)


def select(condition: Scalar | Number, a: Scalar | Number, b: Scalar | Number) -> Scalar:
    """``a`` where ``condition`` is true, else ``b``; both are evaluated."""
    dtype = a.dtype if isinstance(a, Scalar) else b.dtype if isinstance(b, Scalar) else None
    if dtype is None:
        raise DTypeError("where(condition, a, b) needs a dtype, found two Python numbers")
    if not isinstance(condition, Scalar) or condition.dtype is not BOOL:
        raise DTypeError(f"a condition is a bool, found {_kind_of(condition)}")
    a, b = lift(a, dtype), lift(b, dtype)
    if condition is TRUE or a is b:
        return a
    return b if condition is FALSE else _applied("select", (condition, a, b), dtype)


def after(check: Scalar, x: Scalar) -> Scalar:
    """``x``, once ``check`` has been evaluated for the sake of the index that it checks."""
    return _applied("after", (check, x), x.dtype)


def _kind_of(x: object) -> str:
    return str(x.dtype) if isinstance(x, Scalar) else type(x).__name__


def cast(x: Scalar, dtype: DType) -> Scalar:
    """``x`` converted to ``dtype`` as ONNX's Cast does, saturating."""
    for side in (x.dtype, dtype):
        if side.kind not in _ANY:
            raise DTypeError(f"loops do not hold {side}")
    if isinstance(x, Const) and x.dtype.is_integer and _holds(dtype, x.value):
        return const(x.value, dtype)
    if isinstance(x, Const) and dtype in _WHOLE and x.dtype.is_float and x.dtype.bits < dtype.bits:
        with np.errstate(over="ignore"):
            return const(float(x.dtype.numpy.type(x.value)), dtype)
    return x if x.dtype is dtype else _applied("cast", (x,), dtype)


def _holds(dtype: DType, value: Number) -> bool:
    """Whether the integer ``value`` is one of ``dtype``."""
    if dtype in _WHOLE:
        return abs(value) <= _WHOLE[dtype]
    return dtype.is_integer and _least(dtype) <= value <= _greatest(dtype)


_WHOLE = {FLOAT32: 1 << 24, FLOAT64: 1 << 53}
"""Up to which integers are floats, each of them."""


def bitcast(x: Scalar, dtype: DType) -> Scalar:
    """The bits of ``x`` read as ``dtype``, of the same width."""
    if x.dtype.bits != dtype.bits:
        raise DTypeError(f"bitcast keeps the width, found {x.dtype} and {dtype}")
    return x if x.dtype is dtype else _applied("bitcast", (x,), dtype)


def reduction(op: str, axes: tuple[Variable, ...], body: Scalar) -> Scalar:
    """``op`` of ``body`` over bound variables."""
    if op not in REDUCTIONS:
        raise TypeError(f"a reduction is one of {', '.join(REDUCTIONS)}, found {op}")
    _require_kind(op, REDUCTIONS[op], body.dtype)
    for axis in axes:
        if variables(axis.extent):
            raise TypeError(f"the extent {axis.extent} of a reduction depends on a loop around it")
    return _shared(Reduce, (op, axes, body), op, axes, body) if axes else body


def identity(op: str, dtype: DType) -> Number:
    """What a reduction over nothing gives."""
    if op in {"sum", "or"}:
        return 0
    if op == "prod":
        return 1
    if op == "and":
        return -1 if dtype.kind == "int" else _greatest(dtype)
    if dtype.is_float:
        return math.inf if op == "min" else -math.inf
    return _greatest(dtype) if op == "min" else _least(dtype)
