"""Contractions: sums of products, ``Σ_k a[…, m, k] · b[…, k, n]``, with any work around them.

Decides the tile of the result that is kept in registers (rows by vectors of columns), whether ``b``
is packed into panels of a tile's width, and how tiles are cut into chunks. Packing is a computation
of its own in front, with whatever ``b`` is computed from folded into it; stored data are packed
once. Matrix products are contractions, and so are convolutions, over channels and taps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace as replace_fields

from fornix.compile.axes import rewritten
from fornix.compile.cost import accesses, choices, likely, outer_reductions, stride_of
from fornix.compile.narrow import as_stored, unwidened
from fornix.compile.nest import Block, Chunks, Line, Nest, Put, Tile, When
from fornix.compile.products import Product, products
from fornix.compile.schedule.ahead import AHEAD_BYTES, shares
from fornix.compile.schedule.chunks import CHUNKS, combined
from fornix.compile.schedule.map import normal
from fornix.compile.schedule.packing import filled
from fornix.compile.schedule.streamed import streamed_nest
from fornix.compile.target import Target
from fornix.compile.words import place_of
from fornix.ir.dim import Dim, DimLike, atoms, ceildiv, known, minimum
from fornix.ir.dim.expression import Atom, Floor, substitute
from fornix.ir.loops import (
    Buffer,
    Constant,
    Load,
    Loaded,
    Reduce,
    Scalar,
    Store,
    Variable,
    apply,
    cast,
    index,
    load,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.rewrite import exchanged, guarded
from fornix.ir.loops.scalar import reduction, select

SHAPES: dict[int, tuple[tuple[int, int], ...]] = {
    # By the number of vector registers: rows and vectors of tiles. 24 accumulators of 32 keep both
    # multipliers busy; see bench/kernels.
    32: ((8, 3), (6, 4), (12, 2), (14, 1)),
    16: ((4, 3), (6, 2), (3, 4), (8, 1)),
}
STEP_COST = {1: 1.3, 2: 1.1, 3: 1.0, 4: 1.03}
"""What a step of a tile costs beyond its arithmetic, as a factor, by vectors."""
LOAD_COST = 2.0
"""Of a vector of ``b`` from the second cache, relative to a multiplication by it."""
WIDE_L1 = 48 << 10
"""Bytes of a first cache of 12 ways: lines of so many rows of ``a``, pages apart, lie there."""
WAYS, PAGE_BYTES = 8, 4096
"""Those of other first caches: lines of no more rows of ``a``, whole pages apart, lie there."""
TALL = ((8, 3), (6, 4), (14, 2), (12, 2), (14, 1))
"""Shapes beside such a cache, all with 32 registers: the taller they are, the fewer times ``b``
comes from the second cache, and the more is done while it comes from memory."""
TALL_STEP_COST = {1: 1.3, 2: 1.0, 3: 1.1, 4: 1.15}
"""`STEP_COST` there: products of 12 to 128 rows take 5 to 20 % less in two vectors than three."""
MANY_ROWS = 256
"""Rows from which on three vectors take 3 % less: ``a`` comes from the second cache for each panel,
of which there are fewer."""
MANY_STEP_COST = {**TALL_STEP_COST, 3: 0.97}
"""`STEP_COST` of so many rows."""
OPEN_SHAPE = 1
"""The shape for a number of columns that is not known: 64 of them, as lengths tend to be."""
NARROW = {32: {1: 12, 2: 12, 3: 8}, 16: {1: 12, 2: 6}}
"""The rows of tiles for fewer of them, by vectors."""
OPEN_ROWS, OPEN_TILES = 48, 4
"""What is taken for a number of rows that is not known: tiles of most heights fill it; and tiles,
one below the other, among which the next panel is divided then."""
NEARBY_ROWS = 0.75
"""Of the second cache, up to which all rows of ``a`` stay there from panel to panel."""
ROW_BLOCK = 64
"""Rows of a chunk, about: a panel of ``b`` is used again for so many."""
SQUARE_ROWS = 10
"""Rows from which on tile registers are faster than vectors."""
FEW_TERMS = 8
"""Terms of sums up to which writing them takes longest: beside such a cache, rows of the result are
written from end to end, 1000×1000 sums of 8 in 180 µs for 415."""
MIN_TERMS = 2
"""Terms from which on a sum is worth a tile."""
DOT_ROWS = 2
"""Rows up to which a matrix whose columns lie end to end is multiplied as it lies, row by row."""
PACK_ROWS = 24
"""Rows of the result from which on packing ``b`` for one run pays."""
WIDE_ROWS = 48
"""Rows from which on stored halves are widened as they are packed: widening them for each tile anew
would take longer than reading twice the memory; with AVX2 a tenth, see bench/kernels."""
WIDEST_PANEL = 128
"""Columns up to which rows in memory are near enough to each other to be read as they lie."""
LEAST_COLUMNS = 48
"""Columns from which on copying ``a`` costs next to nothing beside the products."""


@dataclass(frozen=True)
class Contraction:
    """A store whose value contains one sum of products, taken apart."""

    store: Store
    sum: Reduce
    product: Product
    row: Variable | None
    """An axis that only ``left`` depends on."""
    column: Variable
    """An axis that only ``right`` depends on, contiguous in the result."""

    @property
    def left(self) -> Scalar:
        """The factor of a row."""
        return self.product.left

    @property
    def right(self) -> Scalar:
        """The factor of a column."""
        return self.product.right

    @property
    def outer(self) -> list[Variable]:
        """The axes that are neither rows nor columns."""
        return [a for a in self.store.axes if a is not self.row and a is not self.column]


def contraction(store: Store) -> Contraction | None:
    """``store`` as a contraction; None if it is none, or too small to matter."""
    folds = outer_reductions(store.value)
    if len(folds) != 1 or folds[0].op != "sum":
        return None
    (e,) = folds
    terms = 1
    for axis in e.axes:
        terms *= likely(axis.extent)
    if terms < MIN_TERMS:
        return None
    for product in products(e.body):
        left, right = product.left.variables, product.right.variables
        columns = [a for a in store.axes if a in right and a not in left]
        columns = [a for a in columns if stride_of(store.address, a) == 1]
        rows = [a for a in store.axes if a in left and a not in right]
        if columns:
            row = max(reversed(rows), key=_worth_as_row, default=None)  # batches come first
            return Contraction(store, e, product, row, columns[-1])
    return None


def _worth_as_row(axis: Variable) -> tuple[bool, int]:
    """Long axes first; one that is not known, such as a batch, may turn out to be short."""
    n = axis.extent
    return isinstance(n, int) and n >= PACK_ROWS, likely(n)


def shape_of(c: Contraction, target: Target, lanes: int) -> tuple[int, int]:
    """Rows and vectors of the tiles that take least."""
    rows = 1 if c.row is None else c.row.extent
    shapes, costs = _shapes(target, rows)
    if target.l1_bytes < WIDE_L1 and _is_paged(c):
        shapes = tuple((min(height, WAYS), vectors) for height, vectors in shapes)
    columns = c.column.extent
    height, vectors = shapes[OPEN_SHAPE]
    if c.product.op == "dot2i":  # which are added by an instruction of their own
        shapes = tuple((h, n) for h, n in shapes if h * n + n + 2 <= target.vector_registers)
    if rows == 1 and isinstance(columns, int) and not _is_packed(c):
        return 1, _wide(-(-columns // lanes), max(h * n for h, n in shapes))
    if isinstance(columns, int):
        count, known = -(-columns // lanes), rows if isinstance(rows, int) else OPEN_ROWS
        fitting = [shape for shape in shapes if shape[1] <= max(count, 1)]
        height, vectors = min(fitting, key=lambda shape: _cost(known, count, shape, costs))
    if isinstance(rows, int) and rows < height:
        return rows, vectors
    return height, vectors


def _is_paged(c: Contraction) -> bool:
    """Whether rows of ``left`` are whole pages apart, so that their lines vie for one place."""
    step = None if c.row is None else _step(c.left, c.row)
    return step is not None and step * c.left.dtype.bits // 8 % PAGE_BYTES == 0


def _shapes(
    target: Target, rows: DimLike
) -> tuple[tuple[tuple[int, int], ...], Mapping[int, float]]:
    """Shapes of tiles for so many ``rows``, and what steps of them cost beyond arithmetic."""
    if target.vector_registers < 32:
        return SHAPES[16], STEP_COST
    if target.l1_bytes < WIDE_L1:
        return SHAPES[32], STEP_COST
    are_many = isinstance(rows, int) and rows >= MANY_ROWS
    return TALL, MANY_STEP_COST if are_many else TALL_STEP_COST


def _wide(count: int, most: int) -> int:
    """Vectors of tiles of one row, up to ``most``: what is read as it lies is read in long pieces.

    All tiles have about the same width.
    """
    return -(-count // -(-count // most))


def _cost(rows: int, count: int, shape: tuple[int, int], costs: Mapping[int, float]) -> float:
    """What a step of all tiles takes for so many rows and vectors of columns."""
    height, vectors = shape
    heights = ((height, rows // height), (rows % height, min(rows % height, 1)))
    widths = ((vectors, count // vectors), (count % vectors, min(count % vectors, 1)))
    return sum(
        tiles * others * n * max(h * costs[n], LOAD_COST)
        for h, tiles in heights
        for n, others in widths
        if others
    )


def _padded(count: int, step: int) -> int:
    """``count`` in whole steps."""
    return -(-count // step) * step


def contraction_nests(
    c: Contraction, target: Target, lanes: int
) -> tuple[list[Store], Store, Nest] | None:
    """Stores that have to be computed first, the rest of the work, and its nest.

    None if some other schedule does better.
    """
    first: list[Store] = []
    if not _is_packed(c) and _step(c.right, c.column) not in {1, 2}:
        return None
    if not is_plain(c):
        plain = in_order(c)
        first.append(plain)
        again = contraction(reading(c, plain))
        if again is None:
            return None
        c = again
    streamed = None if of_several(c) else streamed_nest(c, target, lanes)
    if streamed is not None:
        return first, c.store, streamed
    height, vectors = shape_of(c, target, lanes)
    left, right = c.left, c.right
    panel = Variable("p", ceildiv(c.column.extent, vectors * lanes))
    column = Variable("j", vectors * lanes)
    is_packed = _is_packed(c) and not is_panel(c, lanes, column.extent)
    if is_packed:
        packed = _packed(c, panel, column, target)
        first.append(packed)
        right = _read_panel(c, packed.buffer, panel, column)
    whole = reduction("sum", c.sum.axes, c.product.of(left, right))
    if not isinstance(whole, Reduce):
        return None
    value = replace(c.store.value, {c.sum: whole})
    store = Store(c.store.buffer, c.store.axes, c.store.address, value)
    store = rewritten(
        store,
        [*c.outer, panel, *([] if c.row is None else [c.row]), column],
        {c.column: panel.dim * column.extent + column.dim},
    )
    shape = height, vectors, lanes
    nest = nest_of_tiles(c, target, store, (panel, column), shape, is_packed=is_packed)
    terms = math.prod(likely(a.extent) for a in c.sum.axes)
    if c.row is not None and terms <= FEW_TERMS and target.l1_bytes >= WIDE_L1:
        nest = _row_by_row(nest)
    return first, store, nest


def _row_by_row(nest: Nest) -> Nest:
    """``nest`` with all panels of some rows before the next ones, which it has the other way."""
    (chunks,) = nest.body
    if not isinstance(chunks, Chunks):
        return nest
    *outer, panel, rows = chunks.axes
    return replace_fields(nest, body=(replace_fields(chunks, axes=(*outer, rows, panel)),))


def _narrow(c: Contraction, target: Target, height: int, vectors: int) -> dict[int, int]:
    """Rows of tiles that have fewer vectors, for columns of which only a run tells how many."""
    if c.row is None or c.row.extent == 1 or isinstance(c.column.extent, int):
        return {}
    rows = c.row.extent
    heights = NARROW[32 if target.vector_registers >= 32 else 16]
    found = {n: h for n, h in heights.items() if n < vectors}
    if isinstance(rows, int):
        return {n: min(h, rows) for n, h in found.items()}
    return dict.fromkeys(found, height)  # of all heights up to it there are tiles


def _step(e: Scalar, axis: Variable) -> int | None:
    """How far ``e`` moves in memory along ``axis``, if it is a load."""
    return stride_of(e.address, axis) if isinstance(e, Load) else None


def is_worth_packing(c: Contraction) -> bool:
    """Whether ``right`` is rearranged before it is used: once and for all, or for many rows."""
    if len(c.sum.axes) != 1:
        return False
    if _is_stored(c.right):
        return True
    rows = 1 if c.row is None else likely(c.row.extent)
    (k,) = c.sum.axes
    are_dots = c.product.op == "mul" and _step(c.left, k) == _step(c.right, k) == 1
    least = DOT_ROWS if are_dots else 1
    return rows >= PACK_ROWS or (_step(c.right, c.column) != 1 and rows > least)


def _is_packed(c: Contraction) -> bool:
    """Whether ``right`` is packed here: one of several matrices is with all of them, ahead."""
    return is_worth_packing(c) or of_several(c) is not None


def of_several(c: Contraction) -> tuple[Scalar, Variable, Loaded] | None:
    """``right`` of any of several stored matrices, its number, and what data say of that.

    None if it is not one of them for all columns and terms, or if its panels were mostly empty.
    """
    columns = c.column.extent
    if len(c.sum.axes) != 1 or not isinstance(columns, int) or columns < LEAST_COLUMNS:
        return None
    found = [*choices(c.right)]
    if len(found) != 1 or not found[0].variables.isdisjoint({c.column, *c.sum.axes}):
        return None
    number = Variable("e", found[0].extent)
    right = exchanged(c.right, found[0], number.dim)
    return (right, number, found[0]) if _is_stored(right) else None


def _is_stored(e: Scalar) -> bool:
    """Whether ``e`` is made of stored data alone."""
    return all(isinstance(x.buffer.source, Constant) for x in accesses([e]))


def is_panel(c: Contraction, lanes: int, width: DimLike = 0) -> bool:
    """Whether ``right`` lies like a packed one: narrow rows one after the other, whole vectors.

    ``width`` are the columns of a tile. What is stored costs nothing to pack: the rows of its
    panels are no wider.
    """
    e, (k,), columns = c.right, c.sum.axes, c.column.extent
    if not isinstance(e, Load) or e.guard is not None or not isinstance(columns, int):
        return False
    lies_so = _step(e, c.column) == 1 and _step(e, k) == columns
    widest = width if _is_stored(e) else WIDEST_PANEL
    return lies_so and isinstance(widest, int) and columns <= widest and columns % lanes == 0


# ── operands that are computed first ───────────────────────────────────────────────────────────


def _packed(c: Contraction, panel: Variable, column: Variable, target: Target) -> Store:
    """``right`` in panels, each as wide as a tile, its terms one after the other; 0 at the end.

    Where few rows may be all that there are, memory decides: stored halves stay what they are.
    """
    (k,), right, several = c.sum.axes, c.right, of_several(c)
    if several is not None:
        right = several[0]
    batch = [a for a in c.outer if a in right.variables]
    batch += [] if several is None else [several[1]]
    at = panel.dim * column.extent + column.dim
    inside = apply("lt", index(at), index(c.column.extent))
    rows = 1 if c.row is None else c.row.extent
    are_many = isinstance(rows, int) and rows >= WIDE_ROWS
    value = substitute_scalar(right if are_many else as_stored(right, target), {c.column: at})
    value = select(inside, guarded(value, inside), 0)
    axes = (*batch, panel, k, column)
    return filled("packed", axes, value)


def _read_panel(c: Contraction, buffer: Buffer, panel: Variable, column: Variable) -> Scalar:
    (k,), right, several = c.sum.axes, c.right, of_several(c)
    if several is not None:
        right = several[0]
    batch: list[DimLike] = [a.dim for a in c.outer if a in right.variables]
    batch += [] if several is None else [Dim({(several[2],): 1})]
    read = load(buffer, buffer.address((*batch, panel.dim, k.dim, column.dim)))
    return cast(read, c.right.dtype)


def is_plain(c: Contraction) -> bool:
    """Whether ``left`` is read as it lies: its place in memory moves evenly along every axis."""
    place = place_of(c.left)
    if place is None:
        return False
    axes = (*c.store.axes, *c.sum.axes)
    if any(stride_of(place, k) is None and _is_divided(place, k) for k in axes):
        return False
    return len(c.sum.axes) != 1 or not has_short_rows(c)


def _is_divided(d: DimLike, axis: Variable) -> bool:
    """Whether ``axis`` stands in a quotient of ``d``."""
    return any(isinstance(a, Floor) and axis in a.variables for a in atoms(d))


def has_short_rows(c: Contraction) -> bool:
    """Whether rows lie in pieces, as windows of an image do, that a copy would join.

    A panel of ``right`` is used again for all rows of a chunk: few of them do not pay its way.
    """
    if c.row is None or _worth_as_row(c.row)[0]:
        return False
    beside = [a for a in c.outer if a in c.left.variables and a not in c.right.variables]
    return bool(beside) and likely(c.column.extent) >= LEAST_COLUMNS


def in_order(c: Contraction) -> Store:
    """``left``, which every panel reads, in the order of the result's rows."""
    return filled("left", axes_of_left(c), c.left)


def axes_of_left(c: Contraction) -> list[Variable]:
    return [*(a for a in c.store.axes if a in c.left.variables), *c.sum.axes]


def reading(c: Contraction, plain: Store) -> Store:
    """The store of ``c`` with ``plain`` for ``left``; its axes are joined anew."""
    place = tuple(a.dim for a in axes_of_left(c))
    left = load(plain.buffer, plain.buffer.address(place))
    whole = reduction("sum", c.sum.axes, c.product.of(left, c.right))
    value = replace(c.store.value, {c.sum: whole})
    return normal(Store(c.store.buffer, c.store.axes, c.store.address, value))


# ── the loops ──────────────────────────────────────────────────────────────────────────────────


def nest_of_tiles(
    c: Contraction,
    target: Target,
    store: Store,
    columns: tuple[Variable, Variable],
    shape: tuple[int, int, int],
    *,
    is_packed: bool,
    is_square: bool = False,
) -> Nest:
    """The loops of ``store``, which is ``c`` with its `columns` in panels.

    ``shape`` are rows and vectors of a tile, and lanes.
    """
    panel, column = columns
    height, vectors, lanes = shape
    narrow = {} if is_square else _narrow(c, target, height, vectors)
    (e,) = outer_reductions(store.value)
    rows: DimLike = 1 if c.row is None else c.row.extent
    others = CHUNKS if is_square else combined((*c.outer, panel))[0]
    near = 0 if is_square else _rows_nearby(c, target, column, others)
    size, count = _row_blocks(rows, math.lcm(height, *narrow.values()), others, near)
    blocks = [] if c.row is None else [Variable("q", count)]
    first: DimLike = blocks[0].dim * size if blocks else 0
    width = minimum(column.extent, c.column.extent - panel.dim * column.extent)
    likely_rows = OPEN_TILES * height if is_square else OPEN_ROWS
    turns = height, (near and size) or known(rows) or likely_rows
    tile = Tile(
        result=e,
        row=c.row,
        rows=(first, minimum(first + size, rows), rows),
        height=height,
        column=column,
        width=width,
        units=vectors,
        is_padded=is_packed,
        put=Put(store.buffer, store.address, store.value),
        is_square=is_square,
        ahead=_ahead(c, e, columns, turns, target) if is_packed else (),
    )
    axes = (*c.outer, *blocks, panel) if near else (*c.outer, panel, *blocks)
    parallel: DimLike = 1
    for axis in axes:
        parallel = parallel * axis.extent
    if is_square:
        body = _by_rows(tile, panel, lanes)
    else:
        body = _as_wide(tile, narrow, lanes) if narrow else by_width(tile, panel, lanes)
    drops = c.product.op == "dot2"  # as its factors are
    return Nest("contraction", (Chunks(axes, body),), lanes, parallel, drops_subnormal=drops)


def _ahead(
    c: Contraction,
    sum_: Reduce,
    columns: tuple[Variable, Variable],
    turns: tuple[int, int],
    target: Target,
) -> tuple[Line, ...]:
    """The lines of the next panel of stored data that a term of a tile asks for."""
    panel, column = columns
    right = unwidened(sum_.body.args[panel in sum_.body.args[1].variables])
    if (
        c.row is None
        or len(c.sum.axes) != 1
        or not isinstance(right, Load)
        or not _is_stored(c.right)
    ):
        return ()
    (k, *words), width = sum_.axes, column.extent
    terms, panels = known(math.prod(a.extent for a in sum_.axes)), known(panel.extent)
    if terms is None or panels is None or not isinstance(width, int):
        return ()
    if panels * terms * width * right.dtype.bits // 8 < AHEAD_BYTES:
        return ()
    at: dict[Atom, DimLike] = {panel: panel.dim + 1, column: 0, **dict.fromkeys(sum_.axes, 0)}
    next_ = substitute(right.address, at, {}), terms, width
    count = known(math.prod(a.extent for a in words)) or 1
    return shares(right, next_, c.row, turns, (k.dim * count, count), target)


def _as_wide(tile: Tile, narrow: Mapping[int, int], lanes: int) -> Block:
    """``tile``, or one of the ``narrow`` ones where that has all columns that there are."""
    body: list[When] = []
    for units in range(1, tile.units + 1):
        least, most = index((units - 1) * lanes), index(units * lanes)
        width = index(tile.width)
        is_it = apply("lt", least, width)
        if units < tile.units:
            is_it = apply("and", is_it, apply("le", width, most))
        height = narrow.get(units, tile.height)
        body.append(When(is_it, (replace_fields(tile, units=units, height=height),)))
    return tuple(body)


def _by_rows(tile: Tile, panel: Variable, lanes: int) -> Block:
    """``tile``, which is square, or one of vectors for so few rows that these are faster."""
    rows = tile.rows[2]
    square = by_width(tile, panel, lanes)
    if isinstance(rows, int):
        return square
    few = replace_fields(tile, is_square=False, height=SQUARE_ROWS - 1)
    is_few = apply("lt", index(rows), index(SQUARE_ROWS))
    are_many = apply("le", index(SQUARE_ROWS), index(rows))
    return (When(is_few, by_width(few, panel, lanes)), When(are_many, square))


def _rows_nearby(c: Contraction, target: Target, column: Variable, panels: DimLike) -> int:
    """Rows of ``a`` that stay in the second cache while all ``panels`` go by; 0: one panel stays.

    A panel that stays is better as long as that cache holds all rows as well, and where it holds so
    few that panels would come from beyond more often than rows do now.
    """
    rows = None if c.row is None else known(c.row.extent)
    terms, width = known(math.prod(a.extent for a in c.sum.axes)), known(column.extent)
    count = known(panels)
    if rows is None or terms is None or width is None or count is None or terms <= FEW_TERMS:
        return 0
    of_row = terms * c.left.dtype.bits // 8
    if rows * of_row <= target.l2_bytes * NEARBY_ROWS or count <= 1:
        return 0
    found = target.l2_bytes // 2 // of_row
    return 0 if found < 2 * width else found


def _row_blocks(rows: DimLike, height: int, others: DimLike, near: int = 0) -> tuple[int, DimLike]:
    """Rows of a chunk, in whole tiles, and how many chunks of rows there are.

    Where there are few ``others``, rows are cut into tiles until threads have enough to share.
    """
    block = near or ROW_BLOCK
    size = _padded(block, height)
    if isinstance(rows, int):
        count = max(1, (rows + block // 2) // block)
        size = _padded(-(-rows // count), height)
        least = -(-CHUNKS // (2 * others)) if isinstance(others, int) else 1
        size = min(size, max(-(-rows // height) // least, 1) * height)
    return size, ceildiv(rows, size)


def by_width(tile: Tile, panel: Variable, lanes: int) -> Block:
    """``tile`` for every panel; a lower one for the last, if that has fewer vectors."""
    whole, panels = tile.column.extent, panel.extent
    last = tile.width if panels == 1 else substitute(tile.width, {panel: panels - 1}, {})
    if not isinstance(whole, int) or not isinstance(last, int) or last > whole - lanes:
        return (tile,)
    narrow = replace_fields(tile, units=-(-last // lanes), width=last)
    if panels == 1:
        return (narrow,)
    is_last = apply("lt", index(panels - 2), index(panel.dim))
    is_whole = apply("lt", index(panel.dim), index(panels - 1))
    return (When(is_whole, (replace_fields(tile, width=whole),)), When(is_last, (narrow,)))


__all__ = [
    "SQUARE_ROWS",
    "axes_of_left",
    "by_width",
    "contraction",
    "contraction_nests",
    "in_order",
    "is_panel",
    "is_plain",
    "is_worth_packing",
    "nest_of_tiles",
    "of_several",
    "reading",
]
