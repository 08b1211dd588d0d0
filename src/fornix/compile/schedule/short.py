"""Short rows: reductions of a few elements that lie side by side, a vector of rows at a time.

A row that does not fill a vector wastes its lanes, and its elements have to be combined across
them. Here each lane is a row: as many vectors are read as a row has elements, sorted by element,
and combined with each other; results as long as rows are put back into their order. The last rows,
which do not fill a vector, are done one by one, as long ones are.
"""

from __future__ import annotations

from collections.abc import Sequence

from fornix.compile.axes import rewritten
from fornix.compile.cost import accesses, stride_of
from fornix.compile.nest import Block, Chunks, Nest, Put, Weave
from fornix.compile.reductions import reductions
from fornix.compile.schedule.row import by_reciprocals, row_axis, row_nest
from fornix.compile.target import Target
from fornix.dtype import BOOL
from fornix.ir.dim import DimLike, less
from fornix.ir.loops import Apply, Load, Reduce, Scalar, Store, Variable, substitute_scalar, walk

MOST = 16
"""Elements of a row: half of the registers hold them. As many more as a vector has lanes where each
row asks for a function: that takes as long as one for all of them."""
MAX_LANES = 16
"""Of bytes, of which more fill a vector, not every processor sorts two vectors at once."""
FUNCTIONS = {"exp", "log", "erf", "tanh", "sin", "cos", "pow"}
MAX_NODES = 1024
"""Nodes that are written out for a vector of rows."""


def short_nest(store: Store, target: Target, lanes: int) -> Nest | None:
    """Loops over vectors of rows of a normal ``store``, then over rows; None if none are short."""
    sums = reductions([store.value])
    is_sorted = lanes <= MAX_LANES and store.buffer.dtype is not BOOL
    found = _rows(store, sums, lanes) if is_sorted else None
    if found is None or less(found[0].extent, lanes) is True:
        return None
    along, across = found
    if _fills(across, lanes) and not _has_functions(store.value, across):
        return None
    value = by_reciprocals(store.value, set(sums), across)
    short = [across, *(e.axes[0] for e in sums)]
    loads = _in_rows(accesses([value]), along, short, sums[0].axes[0].extent)
    blocks = Variable("b", along.extent // lanes)
    put = Put(store.buffer, store.address, value)
    axes = (*(a for a in store.axes if a is not along and a is not across), blocks)
    weave = Weave(along, across, blocks.dim * lanes, put, loads)
    parallel: DimLike = 1
    for axis in axes:
        parallel = parallel * axis.extent
    nest = Nest("short", (Chunks(axes, (weave,)),), lanes, parallel)
    left = along.extent - blocks.extent * lanes
    return nest if left == 0 else _and_left(nest, store, along, left, target)


def _fills(across: Variable, lanes: int) -> bool:
    """Whether rows are written in whole vectors: then sorting costs as much as it saves."""
    return isinstance(across.extent, int) and across.extent % lanes == 0


def _has_functions(value: Scalar, across: Variable) -> bool:
    """Whether ``value`` asks for a function once for each row."""
    inside = {x for e in reductions([value]) for x in walk(e.body)}
    own = (e for e in walk(value) if e not in inside and across not in e.variables)
    return any(isinstance(e, Apply) and e.op in FUNCTIONS for e in own)


def _and_left(nest: Nest, store: Store, along: Variable, count: DimLike, target: Target) -> Nest:
    """``nest``, and then ``store`` for the last ``count`` values of ``along``, one by one."""
    last = Variable(along.name, count)
    axes = [last if a is along else a for a in store.axes]
    store = rewritten(store, axes, {along: along.extent - count + last.dim})
    across = next((a for a in axes if stride_of(store.address, a) == 1 and a is not last), None)
    row = row_axis(store, across)
    if row is None:
        body: Block = (Chunks(tuple(axes), (Put(store.buffer, store.address, store.value),)),)
        return Nest(nest.kind, (*nest.body, *body), nest.lanes, nest.parallel)
    rest = row_nest(store, *row, target)
    body = (*nest.body, *rest.body)
    memory = (rest.scratch, rest.scratch_bytes, rest.changing)
    return Nest(nest.kind, body, nest.lanes, nest.parallel, *memory)


def _rows(store: Store, sums: Sequence[Reduce], lanes: int) -> tuple[Variable, Variable] | None:
    """The axis of the rows, and that of their elements in the result; None if none are short.

    Where the result has one element for each row, that axis has an extent of 1.
    """
    extents = {a.extent for e in sums for a in e.axes}
    extent = extents.pop() if len(extents) == 1 else None
    if not isinstance(extent, int) or not 2 <= extent <= MOST + lanes or not store.axes:
        return None
    across = store.axes[-1]
    if across.extent != extent or stride_of(store.address, across) != 1:
        across = Variable("e", 1)
    if extent > MOST and not _has_functions(store.value, across):
        return None
    step = across.extent
    along = next((a for a in store.axes if stride_of(store.address, a) == step), None)
    nodes = store.value.size + sum(e.body.size for e in sums)
    if along is None or along is across or nodes * extent > MAX_NODES:
        return None
    is_same = all(len(e.axes) == 1 and across not in e.variables for e in sums)
    short = [across, *(e.axes[0] for e in sums)]
    is_read = _is_read(accesses([store.value]), along, short, extent)
    return (along, across) if is_same and is_read else None


def _is_read(
    loads: Sequence[Load], along: Variable, short: Sequence[Variable], extent: int
) -> bool:
    """Whether some of ``loads`` read rows of ``extent`` elements that lie one behind the other.

    All others must be the same for all rows, or side by side in neighbouring ones.
    """
    if any(e.guard is not None or e.dtype is BOOL for e in loads):
        return False
    rows = [e for e in loads if stride_of(e.address, along) == extent]
    others = {stride_of(e.address, along) for e in loads} - {extent}
    return bool(rows) and others <= {0, 1} and all(_is_row(e, short) for e in rows)


def _is_row(e: Load, short: Sequence[Variable]) -> bool:
    """Whether ``e`` moves along one axis of ``short``, to its neighbour."""
    own = [a for a in short if a in e.variables]
    return len(own) == 1 and stride_of(e.address, own[0]) == 1


def _in_rows(
    loads: Sequence[Load], along: Variable, short: Sequence[Variable], extent: DimLike
) -> tuple[tuple[Load, Variable], ...]:
    """Those of ``loads`` that read rows, each row once, and the axis along which they do."""
    found: dict[Scalar, tuple[Load, Variable]] = {}
    for e in loads:
        if stride_of(e.address, along) == extent:
            (own,) = (a for a in short if a in e.variables)
            found.setdefault(substitute_scalar(e, {own: 0}), (e, own))
    return tuple(found.values())


__all__ = ["short_nest"]
