"""From computations to machine code: the stages in their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from fornix.compile.axes import index_dims
from fornix.compile.cache import ObjectCache
from fornix.compile.cost import likely_of_image
from fornix.compile.emit import Code, emit
from fornix.compile.kernel import CompiledKernel, Work
from fornix.compile.nest import Block, Boxes, Chunks, Lanes, Loop, Nest, When
from fornix.compile.schedule import Piece, routine_nest, schedule
from fornix.compile.schedule.chunks import rest_included
from fornix.compile.target import Target
from fornix.compile.work import works
from fornix.ir.dim import DimLike, atoms
from fornix.ir.dim.expression import Symbol
from fornix.ir.loops import (
    Buffer,
    Constant,
    Load,
    Opaque,
    Routine,
    Scan,
    Scatter,
    Store,
    Tensor,
    loaded,
    walk,
)
from fornix.ir.loops.tensor import Computation


@dataclass(frozen=True)
class Emitted:
    """A kernel that is written but not yet machine code."""

    nest: Nest
    code: Code
    arguments: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    symbols: tuple[str, ...]
    work: Work


def compile_stores(
    outputs: Sequence[Tensor], name: str, target: Target, cache: ObjectCache
) -> list[CompiledKernel]:
    """Kernels that fill the buffers of ``outputs`` and those that they are computed from.

    They are to run in this order; each output must be stored (`ir.loops.stored`). Buffers without
    a source, and those whose source is `Constant`, are the caller's to fill.
    Raises NotSupported for what has no native code: opaque kernels, dims that are unknown.
    """
    return link_all(write_all(outputs, target), name, target, cache)


def write_all(outputs: Sequence[Tensor], target: Target) -> list[Emitted]:
    """The kernels of ``outputs`` as text; raises as `compile_stores` does."""
    return [w for c in computations(outputs) for w in write(c, target)]


def link_all(
    written: Sequence[Emitted], name: str, target: Target, cache: ObjectCache
) -> list[CompiledKernel]:
    """The machine code of what is ``written``."""
    loaded_code = cache.load([w.code.text for w in written], target)
    kernels = []
    writers = Counter(buffer for w in written for buffer in w.outputs)
    for k, w in enumerate(written):
        address, library = loaded_code[w.code.text]
        kernels.append(
            CompiledKernel(
                name=name if len(written) == 1 else f"{name}.{k}",
                address=address,
                buffers=tuple(b.name for b in w.arguments),
                symbols=w.symbols,
                parallel=w.nest.parallel,
                scratch=w.nest.scratch_bytes,
                checks=w.code.checks,
                arguments=w.arguments,
                outputs=w.outputs,
                is_constant=_is_constant(w) and all(writers[b] == 1 for b in w.outputs),
                is_likely=likely_of_image(w.nest.parallel) > 0,
                schedule=w.nest.kind,
                work=w.work,
                steps=w.nest.steps,
                shares=w.nest.shares,
                owner=library,
            )
        )
    return kernels


def _is_constant(w: Emitted) -> bool:
    """Whether ``w`` gives the same in every run: it reads stored data only, and no extent."""
    inputs = [b for b in w.arguments if b not in w.outputs]
    return bool(inputs) and not w.symbols and all(isinstance(b.source, Constant) for b in inputs)


def computations(outputs: Sequence[Tensor]) -> list[Computation]:
    """What has to be computed for ``outputs``, each before those that read it."""
    ordered: list[Computation] = []
    seen: set[int] = set()
    waiting: list[tuple[Computation, bool]] = []
    for x in reversed(outputs):
        if x.buffer is None:
            raise TypeError("an output is a stored tensor")
        if x.buffer.source is not None:
            waiting.append((x.buffer.source, False))
    while waiting:
        source, is_ready = waiting.pop()
        if is_ready:
            ordered.append(source)
        elif id(source) not in seen:
            seen.add(id(source))
            waiting.append((source, True))
            needed = (b.source for b in _buffers_read(source))
            waiting += [(c, False) for c in needed if c is not None and c is not source]
    return [c for c in ordered if not isinstance(c, Constant)]


def _buffers_read(source: Computation) -> Sequence[Buffer]:
    return source.inputs if isinstance(source, Opaque | Routine) else reads(stores(source))


def stores(source: Computation) -> tuple[Store, ...]:
    """The stores that ``source`` consists of."""
    match source:
        case Store():
            return (source,)
        case Scan():
            return (*source.starts, *source.inner, *source.steps)
        case Scatter():
            return (source.base, source.update)
    return ()


def reads(parts: Iterable[Store]) -> list[Buffer]:
    """The buffers that ``parts`` read, in the order in which they occur."""
    values = [
        value
        for store in parts
        for value in (store.value, *(a.expr for a in loaded(store.address)))
    ]
    return list(dict.fromkeys(e.buffer for e in walk(*values) if isinstance(e, Load)))


def write(source: Computation, target: Target) -> list[Emitted]:
    """Schedule and emit one computation."""
    if isinstance(source, Routine):
        return [_called(source, target)]
    result = []
    pieces = schedule(source, target)
    parts = [piece.stores for piece in pieces]
    is_same = all(piece.is_same for piece in pieces)
    ways = [piece.is_run for piece in pieces]
    work = works(stores(source), parts, is_same=is_same, ways=ways)
    for piece, share in zip(pieces, work, strict=True):
        made = dict.fromkeys(s.buffer for s in piece.stores)
        outputs = tuple(b for b in made if b not in piece.nest.scratch)
        read = dict.fromkeys((*reads(piece.stores), *piece.nest.beside))
        inputs = tuple(b for b in read if b not in made)
        symbols = symbols_of(piece)
        arguments = (*inputs, *outputs)
        code = emit(piece.nest, arguments, symbols, target, outputs)
        share = replace(share, operations=share.operations * piece.is_run)
        nest = piece.nest
        if piece.is_run == 1:
            nest = replace(nest, parallel=rest_included(nest.parallel))
        result.append(Emitted(nest, code, arguments, outputs, symbols, share))
    return result


def _called(source: Routine, target: Target) -> Emitted:
    """The kernel that calls a routine."""
    nest = routine_nest(source, target)
    counts = [buffer.elements for buffer in (*source.inputs, *source.outputs)]
    symbols = _symbols_in([source.row.extent, nest.scratch_bytes, *source.numbers, *counts])
    arguments = (*source.inputs, *source.outputs)
    read, written = (
        sum((b.elements * b.dtype.numpy.itemsize for b in side), 0)
        for side in (source.inputs, source.outputs)
    )
    code = emit(nest, arguments, symbols, target, source.outputs)
    work = Work(source.operations, read, written)
    return Emitted(nest, code, arguments, source.outputs, symbols, work)


def symbols_of(piece: Piece) -> tuple[str, ...]:
    """The symbols that ``piece`` depends on, in the order in which they occur."""
    waiting: list[DimLike] = [piece.turns, piece.nest.parallel, piece.nest.scratch_bytes]
    waiting.append(piece.nest.steps)
    waiting += dict.fromkeys(a.extent for store in piece.stores for a in store.axes)
    return _symbols_in([*waiting, *index_dims(*piece.stores), *_decided_by(piece.nest.body)])


def _decided_by(block: Block) -> Iterator[DimLike]:
    """What decides in ``block`` whether, and how often, parts of it run."""
    for statement in block:
        match statement:
            case When():
                yield from (d for node in walk(statement.condition) for d in node.dims)
            case Loop():
                yield statement.axis.extent
            case Boxes():
                yield statement.turn.extent
                yield from (d for node in walk(statement.best) for d in node.dims)
        if isinstance(statement, When | Loop | Lanes | Chunks):
            yield from _decided_by(statement.body)


def _symbols_in(waiting: list[DimLike]) -> tuple[str, ...]:
    """The symbols in index expressions, and in the extents of what these load."""
    found: dict[str, None] = {}
    while waiting:
        d = waiting.pop(0)
        waiting += [a.extent for a in loaded(d)]
        names = sorted(a.name for a in atoms(d) if isinstance(a, Symbol))
        found |= dict.fromkeys(names)
    return tuple(found)


__all__ = ["compile_stores", "computations", "link_all", "reads", "stores", "write_all"]
