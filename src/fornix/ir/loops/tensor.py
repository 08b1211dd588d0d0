"""Tensors as functions of their indices, and the computations that fill memory.

A `Tensor` costs nothing: reading it inlines its function, so a transpose is a permutation of
indices and a chain of operators is one expression. Memory appears where a tensor is `stored`, and
in the constructs that one expression per element cannot say: `scan` (an element depends on its
predecessors), `scatter` (writes go where data says), `Routine` (a function of memory) and `opaque`
(a Python kernel).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from numpy.typing import NDArray

from fornix.dtype import INT64, DType
from fornix.errors import DTypeError, ShapeError
from fornix.ir.buffer import AddressMap, Buffer
from fornix.ir.dim import Dim, DimLike
from fornix.ir.dim.expression import variables
from fornix.ir.loops.index import Variable, out_of_range
from fornix.ir.loops.rewrite import guarded, loaded, substitute_scalar, walk
from fornix.ir.loops.scalar import (
    FALSE,
    TRUE,
    Load,
    Number,
    Scalar,
    after,
    cast,
    const,
    gathered,
    index,
    lift,
    load,
    reduction,
    select,
)

IndexLike: TypeAlias = "DimLike | Scalar"
"""An index: an index expression, or an integer loop scalar, which is checked."""


class Tensor:
    """A shape, a dtype, and a function from indices to a scalar, or a buffer that holds the values.

    Reading is memoised by index: two readers of one element share its expression.
    """

    __slots__ = ("buffer", "dtype", "function", "memo", "shape")

    def __init__(
        self,
        shape: Sequence[DimLike],
        dtype: DType,
        function: Callable[..., Scalar] | None = None,
        buffer: Buffer | None = None,
    ) -> None:
        self.shape, self.dtype = tuple(shape), dtype
        self.function, self.buffer = function, buffer
        self.memo: dict[tuple[DimLike, ...], Scalar] = {}

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __getitem__(self, place: IndexLike | tuple[IndexLike, ...]) -> Scalar:
        """The element at ``place``, which must lie in the tensor; data that index are checked."""
        parts = self._parts(place)
        dims = tuple(_index_of(i, n) for i, n in zip(parts, self.shape, strict=True))
        found = self.memo.get(dims)
        if found is None:
            found = self.memo[dims] = self._read(dims)
        return found

    def _read(self, place: tuple[DimLike, ...]) -> Scalar:
        if self.buffer is not None:
            return load(self.buffer, self.buffer.address(place))
        if self.function is None:
            raise TypeError("a tensor has a function or a buffer")
        value = lift(self.function(*place), self.dtype)
        lost = set(loaded(*place))
        if lost:  # a function that ignores an index must not lose its check
            lost.difference_update(c for node in walk(value) for c in loaded(*node.dims))
        for check in sorted(lost, key=lambda a: a.key):
            value = after(index(check), value)
        return value

    def get(self, place: IndexLike | tuple[IndexLike, ...], default: Number) -> Scalar:
        """The element at ``place``, or ``default`` outside the tensor."""
        inside: Scalar = TRUE
        parts = self._parts(place)
        for i, n in zip(parts, self.shape, strict=True):
            inside = inside & _is_inside(i, n)
        if inside is FALSE:
            return const(default, self.dtype)
        value = guarded(self._within(parts), inside)
        if isinstance(value, Load) and value.guard is inside:
            return load(value.buffer, value.address, inside, default)
        return select(inside, value, default)

    def _within(self, parts: tuple[IndexLike, ...]) -> Scalar:
        """The element at ``parts`` as it is where these lie in the tensor.

        A function is asked for a place that does, since it may take its indices apart by division:
        what holds inside is simpler than what holds everywhere.
        """
        dims = [p for p in parts if not isinstance(p, Scalar)]
        if self.buffer is not None or len(dims) < len(parts):
            return self[parts]
        axes = _axes("y", self.shape)
        value = self[tuple(a.dim for a in axes)]
        return substitute_scalar(value, dict(zip(axes, dims, strict=True)))

    def _parts(self, place: IndexLike | tuple[IndexLike, ...]) -> tuple[IndexLike, ...]:
        parts = place if isinstance(place, tuple) else (place,)
        if len(parts) != self.rank:
            raise ShapeError(f"a tensor of rank {self.rank} is read with {len(parts)} indices")
        return parts

    def __repr__(self) -> str:
        name = self.buffer.name if self.buffer else "computed"
        return f"Tensor({name}: {self.dtype}[{', '.join(map(str, self.shape))}])"


@lru_cache(maxsize=64)
def _is_inside(i: IndexLike, extent: DimLike) -> Scalar:
    """Whether ``i`` is an index into an axis; those who join parts ask it for each of them."""
    k = cast(i, INT64) if isinstance(i, Scalar) else index(i)
    return (k >= 0) & (k < index(extent))


def _index_of(i: IndexLike, extent: DimLike) -> DimLike:
    """``i`` as an index into an axis of ``extent``: data are checked, constants at once."""
    if isinstance(i, Scalar):
        return gathered(i, extent)
    if isinstance(i, int) and isinstance(extent, int) and not 0 <= i < max(extent, 1):
        raise ShapeError(out_of_range(i, extent, wraps=False))
    return i


# ── computations: what fills buffers ───────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Store:
    """For every value of ``axes``: ``buffer[address] = value``."""

    buffer: Buffer
    axes: tuple[Variable, ...]
    address: DimLike
    value: Scalar


@dataclass(frozen=True, eq=False)
class Scan:
    """``starts``; then for each value of ``time``, in order: all of ``inner``, and all ``steps``.

    Steps read slice ``time`` of the buffers and write slice ``time + 1``, so they do not see each
    other's writes. Each of ``inner`` writes slice ``time`` of a buffer of its own, for those after.
    """

    time: Variable
    starts: tuple[Store, ...]
    steps: tuple[Store, ...]
    inner: tuple[Store, ...] = ()


@dataclass(frozen=True, eq=False)
class Scatter:
    """``base``; then for every value of the axes of ``update``, in lexicographic order, a write.

    With ``op`` ("sum", "prod", "max", "min") the old and the new element are combined, in this
    order; without it the last write stays. An executor may write in any order, or in parallel, that
    gives the same bits.
    """

    base: Store
    update: Store
    op: str | None


@dataclass(frozen=True, eq=False)
class Constant:
    """Elements known at compile time: a table that a rule made from attributes, a weight."""

    array: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Opaque:
    """Python's ``kernel(*inputs, **attributes)`` fills ``outputs``; ``reason``: why not loops."""

    kernel: str
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    reason: str
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Routine:
    """For every value of ``row``, in any order: ``function`` of memory and ``numbers``.

    Its arguments are ``inputs``, ``outputs``, which it fills, ``scratch``, which is undefined when
    it is called, and ``numbers``, which depend on ``row``. See `ir.loops.routines`.
    """

    function: Callable[..., None]
    row: Variable
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    scratch: tuple[Buffer, ...]
    numbers: tuple[DimLike, ...]
    operations: DimLike = 0
    """About how many it takes for all rows."""


Computation: TypeAlias = Store | Scan | Scatter | Constant | Routine | Opaque


# ── construction ───────────────────────────────────────────────────────────────────────────────


def tensor(
    name: str, shape: Sequence[DimLike], dtype: DType, address: AddressMap | None = None
) -> Tensor:
    """A tensor in memory that the caller fills."""
    return Tensor(shape, dtype, buffer=Buffer(name, shape, dtype, address))


def constant(array: NDArray[Any], name: str = "constant") -> Tensor:
    """A tensor whose elements are known at compile time."""
    dtype = DType.of(array.dtype)
    buffer = new_buffer(name, array.shape, dtype)
    buffer.source = Constant(array)
    return Tensor(array.shape, dtype, buffer=buffer)


def compute(
    shape: Sequence[DimLike], function: Callable[..., Scalar | Number], dtype: DType | None = None
) -> Tensor:
    """The tensor whose element at ``i`` is ``function(*i)``.

    ``dtype`` is needed only where the function gives Python numbers.
    """
    if dtype is None:
        axes = _axes("i", shape)
        value = function(*(a.dim for a in axes))
        if not isinstance(value, Scalar):
            raise DTypeError(f"compute needs a dtype for the number {value!r}")
        result = Tensor(shape, value.dtype, function)  # type: ignore[arg-type]
        result.memo[tuple(a.dim for a in axes)] = value
        return result
    given = dtype
    return Tensor(shape, dtype, lambda *place: lift(function(*place), given))


def reduce(
    op: str, extents: DimLike | Sequence[DimLike], function: Callable[..., Scalar]
) -> Scalar:
    """``op`` of ``function(*k)`` for all ``k`` in the box ``extents``; see `REDUCTIONS`."""
    box = extents if isinstance(extents, Sequence) else (extents,)
    axes = _axes("k", box)
    looped = tuple(a for a in axes if a.extent != 1)
    return reduction(op, looped, function(*(0 if a.extent == 1 else a.dim for a in axes)))


def _axes(name: str, extents: Sequence[DimLike]) -> tuple[Variable, ...]:
    return tuple(Variable(f"{name}{k}", n) for k, n in enumerate(extents))


_NAMES = itertools.count()


def stored(x: Tensor, name: str = "stored", buffer: Buffer | None = None) -> Tensor:
    """``x`` in memory, that of ``buffer`` if it is given: computed once, whoever reads it."""
    if x.buffer is not None:
        return x
    buffer = buffer or new_buffer(name, x.shape, x.dtype)
    buffer.source = _store(x, buffer)
    return Tensor(x.shape, x.dtype, buffer=buffer)


def new_buffer(name: str, shape: Sequence[DimLike], dtype: DType) -> Buffer:
    """A buffer of its own name."""
    return Buffer(f"{name}#{next(_NAMES)}", shape, dtype)


def _store(
    x: Tensor,
    buffer: Buffer,
    prefix: tuple[DimLike, ...] = (),
    axes: tuple[Variable, ...] | None = None,
) -> Store:
    """The computation that writes ``x`` to ``buffer[prefix]``, over new axes if none are given."""
    axes = axes or _axes("i", x.shape)
    place = tuple(a.dim for a in axes)
    value = x[place]
    outside = value.variables.difference(axes, *map(variables, prefix))
    if outside:
        names = ", ".join(sorted(a.text for a in outside))
        raise TypeError(f"what is stored may not depend on a loop around it, found {names}")
    return Store(buffer, axes, buffer.address((*prefix, *place)), value)


def scan(
    length: DimLike,
    init: Sequence[Tensor],
    step: Callable[..., Tensor | Sequence[Tensor]],
    name: str = "scan",
) -> tuple[Tensor, ...]:
    """The histories of states that ``step`` moves along: h[0] = init, h[t + 1] = step(t, h[t]).

    ``step(t, *states)`` gives the new states, with the shapes and dtypes of ``init``. A history has
    ``length + 1`` slices: the last one, ``h[length]``, is the final state also where length is 0.
    What a step needs more than once may be `stored_at` its time.
    """
    buffers = [new_buffer(name, (length + 1, *x.shape), x.dtype) for x in init]
    time = Variable("t", length)
    states = [_slice(b, time.dim) for b in buffers]
    moved = step(time.dim, *states)
    following = [moved] if isinstance(moved, Tensor) else list(moved)
    if [(x.shape, x.dtype) for x in following] != [(x.shape, x.dtype) for x in init]:
        raise ShapeError(f"a step keeps the types of its states {list(init)}, found {following}")
    starts = tuple(_store(x, b, (0,)) for x, b in zip(init, buffers, strict=True))
    places = zip(following, buffers, strict=True)
    axes = {x.shape: _axes("i", x.shape) for x in init}  # what states share is one expression
    steps = tuple(_store(x, b, (time.dim + 1,), axes[x.shape]) for x, b in places)
    inner = tuple(_inner(steps, time))
    source = Scan(time, starts, steps, inner)
    for b in (*buffers, *(store.buffer for store in inner)):
        b.source = source
    return tuple(Tensor(b.shape, b.dtype, buffer=b) for b in buffers)


def stored_at(x: Tensor, time: Dim, name: str = "inner") -> Tensor:
    """``x`` in memory at each ``time`` of a scan: computed once in a step, whoever reads it."""
    axis = next(iter(time.variables), None)
    if not isinstance(axis, Variable) or time != axis.dim:
        raise TypeError(f"the time of a scan is a loop variable, found {time}")
    buffer = new_buffer(name, (axis.extent, *x.shape), x.dtype)
    buffer.source = _store(x, buffer, (time,))
    return _slice(buffer, time)


def _inner(steps: Sequence[Store], time: Variable) -> list[Store]:
    """What is stored at ``time`` for ``steps``, each before those that read it."""
    found: dict[Store, None] = {}
    for step in steps:
        read = {e.buffer: None for e in walk(step.value) if isinstance(e, Load)}
        own = [b.source for b in read if isinstance(b.source, Store)]
        mine = [store for store in own if time in variables(store.address)]
        found |= dict.fromkeys((*_inner(mine, time), *mine))
    return list(found)


def _slice(buffer: Buffer, first: DimLike) -> Tensor:
    def read(*place: DimLike) -> Scalar:
        return load(buffer, buffer.address((first, *place)))

    return Tensor(buffer.shape[1:], buffer.dtype, read)


def scatter(
    base: Tensor,
    extents: Sequence[DimLike],
    place: Callable[..., tuple[IndexLike, ...]],
    value: Callable[..., Scalar],
    op: str | None = None,
) -> Tensor:
    """A copy of ``base`` in which, for ``u`` in the box ``extents``, element ``place(*u)`` changes.

    It becomes ``value(*u)``, or its combination with it by ``op`` ("sum", "prod", "max", "min").
    Places that data give are checked. Updates happen in lexicographic order of ``u``.
    """
    if op not in {None, "sum", "prod", "max", "min"}:
        raise TypeError(f"a scatter combines by sum, prod, max or min, found {op}")
    buffer = new_buffer("scatter", base.shape, base.dtype)
    axes = _axes("u", extents)
    at = tuple(a.dim for a in axes)
    target = tuple(_index_of(i, n) for i, n in zip(place(*at), base.shape, strict=True))
    update = Store(buffer, axes, buffer.address(target), lift(value(*at), base.dtype))
    buffer.source = Scatter(_store(base, buffer), update, op)
    return Tensor(base.shape, base.dtype, buffer=buffer)


def opaque(
    kernel: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[tuple[Sequence[DimLike], DType]],
    reason: str,
    **attributes: object,
) -> tuple[Tensor, ...]:
    """The outputs of a Python kernel on stored inputs; ``reason`` says why loops do not fit.

    The kernel may not know sizes that only its data tell: their dims are unknowns.
    """
    buffers = tuple(new_buffer(kernel, shape, dtype) for shape, dtype in outputs)
    arguments = tuple(x.buffer for x in map(stored, inputs) if x.buffer is not None)
    source = Opaque(kernel, arguments, buffers, reason, attributes)
    for b in buffers:
        b.source = source
    return tuple(Tensor(b.shape, b.dtype, buffer=b) for b in buffers)
