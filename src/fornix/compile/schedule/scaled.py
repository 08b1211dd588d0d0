"""Sums of blocks: ``Σ_j f_j(Σ_k a[m, j, k] · b[j, k, n])``, where ``b`` are fields of words.

Weights of few bits have a scale for each block of terms. Decides that what a block reads of them is
packed, once, as it is stored, in the order of its use; where rows are few, fields become numbers in
registers, so that memory is read in few bits. Where there are many rows, each chunk first writes
its columns as numbers to scratch memory, and the product is a plain one; where tile registers
multiply faster, fields become the parts of numbers that these take.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields

from fornix.compile.axes import rewritten
from fornix.compile.cost import accesses, choices, likely, outer_reductions, stride_of
from fornix.compile.kernel import SCRATCH_ALIGNMENT
from fornix.compile.nest import Block, Chunks, Lanes, Loop, Nest, Put, Tile, When
from fornix.compile.parts import count_of
from fornix.compile.products import Product, products
from fornix.compile.reductions import field_axes, merged, points
from fornix.compile.schedule.chunks import combined, looped
from fornix.compile.schedule.contraction import (
    Contraction,
    axes_of_left,
    has_short_rows,
    in_order,
    is_plain,
)
from fornix.compile.schedule.map import normal
from fornix.compile.schedule.packing import filled
from fornix.compile.schedule.parts import (
    LEAST_ROWS,
    LEAST_SCALED_ROWS,
    TERMS,
    Axes,
    Scales,
    are_many,
    nest_of_read,
)
from fornix.compile.schedule.winograd import Stage
from fornix.compile.target import Target
from fornix.ir.dim import Dim, DimLike, ceildiv, known, maximum, minimum
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import (
    Apply,
    Buffer,
    Constant,
    Loaded,
    Reduce,
    Scalar,
    Store,
    Variable,
    apply,
    index,
    load,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.rewrite import exchanged, guarded
from fornix.ir.loops.scalar import reduction, select

UNITS = 4
"""Vectors of columns that a tile has: additions take so many cycles."""
FEW_ROWS = {32: 3, 16: 1}
"""Rows of a tile that takes fields apart, by registers: it has two accumulators for an element."""
MANY_ROWS, SUMS = 6, {32: 24, 16: 12}
"""Rows of a tile that reads numbers, and its vectors of sums at most, by registers: each vector of
numbers comes from the second cache, for so many rows."""
EXPANDED_FROM = {32: 8, 16: 4}
"""Rows from which on writing numbers to scratch memory first pays; see bench/kernels."""


@dataclass(frozen=True)
class BlockSum:
    """A store whose value contains a sum over blocks of something done with a sum of products."""

    store: Store
    sum: Reduce
    inner: Reduce
    product: Product
    row: Variable | None
    column: Variable
    matrix: tuple[Variable, Loaded] | None = None
    """Stands for which of several stored matrices is read, and what data say of that."""

    @property
    def outer(self) -> list[Variable]:
        """The axes that are neither rows nor columns."""
        return [a for a in self.store.axes if a is not self.row and a is not self.column]

    @property
    def terms(self) -> tuple[Variable, ...]:
        """Everything that is summed over."""
        return (*self.sum.axes, *self.inner.axes)

    def told(self, e: Scalar) -> Scalar:
        """``e`` of the matrix that data say."""
        if self.matrix is None:
            return e
        variable, chosen = self.matrix
        return substitute_scalar(e, {variable: Dim({(chosen,): 1})})

    @property
    def scale(self) -> Scalar | None:
        """What a block's sum is multiplied by, if that is all that is done with it."""
        body = self.sum.body
        if not isinstance(body, Apply) or body.op != "mul" or self.product.op != "mul":
            return None
        others = [e for e in body.args if e is not self.inner]
        free = {self.row, *self.inner.axes}
        return others[0] if len(others) == 1 and not free & others[0].variables else None


def block_sum(store: Store, matrix: tuple[Variable, Loaded] | None = None) -> BlockSum | None:
    """``store`` as a sum of blocks, of a ``matrix`` among several; None if it is none."""
    sums = outer_reductions(store.value)
    if len(sums) != 1 or sums[0].op != "sum" or len(sums[0].axes) != 1:
        return None
    inner = outer_reductions(sums[0].body)
    if len(inner) != 1 or inner[0].op != "sum" or sums[0].body is inner[0]:
        return None
    for product in products(inner[0].body):
        numbers = choices(product.right)
        found = _of_several(store, sums[0], numbers.pop()) if len(numbers) == 1 else None
        if found is not None:
            return found
        left, right = product.left.variables, product.right.variables
        columns = [a for a in store.axes if a in right and a not in left]
        columns = [a for a in columns if stride_of(store.address, a) == 1]
        right = right if matrix is None else right | matrix[1].variables
        rows = [a for a in store.axes if a not in right and a not in columns]
        row = max(rows, key=lambda a: likely(a.extent), default=None)
        if columns and _is_stored(product.right) and _is_packed(sums[0], columns[-1], row):
            return BlockSum(store, sums[0], inner[0], product, row, columns[-1], matrix)
    return None


def _of_several(store: Store, total: Reduce, chosen: Loaded) -> BlockSum | None:
    """``store`` as a sum of blocks of the matrix that ``chosen`` is the number of."""
    matrix = Variable("e", chosen.extent)
    value = replace(store.value, {total: exchanged(total, chosen, matrix.dim)})
    found = block_sum(replace_fields(store, value=value), (matrix, chosen))
    if found is None or matrix in found.product.left.variables:
        return None
    return found if chosen.variables.isdisjoint({found.column, *found.terms}) else None


def _is_packed(total: Reduce, column: Variable, row: Variable | None) -> bool:
    """Whether all that ``total`` reads for a ``column`` is stored, and the same for every row.

    Tiles read it for columns behind the last, too.
    """
    own = [e for e in accesses([total]) if column in e.variables]
    return all(_is_stored(e) and row not in e.variables for e in own)


def _is_stored(e: Scalar) -> bool:
    """Whether ``e`` is made of stored data alone."""
    return all(isinstance(x.buffer.source, Constant) for x in accesses([e]))


def block_nests(
    b: BlockSum, target: Target, lanes: int
) -> tuple[Sequence[Store | Stage], Store, Nest]:
    """Stores that have to be computed first, the rest of the work, and its nest."""
    first: list[Store] = []
    left = b.product.left
    flat = Contraction(b.store, _flat(b, left, b.product.right), b.product, b.row, b.column)
    if not is_plain(flat) or has_short_rows(flat):
        plain = in_order(flat)
        first.append(plain)
        b = _reading(b, flat, plain)
        left = b.product.left
    columns = b.column.extent
    units = min(UNITS, -(-columns // lanes)) if isinstance(columns, int) else UNITS
    panel, column = Variable("p", ceildiv(columns, units * lanes)), Variable("j", units * lanes)
    read: dict[Scalar, Scalar] = {}
    for e in _kept(b):
        store, read[e] = _packed(b, e, panel, column)
        first.append(store)
    right = b.told(replace(b.product.right, read))
    inner = reduction("sum", b.inner.axes, b.product.of(left, right))
    whole = b.told(reduction("sum", b.sum.axes, replace(b.sum.body, {**read, b.inner: inner})))
    place: dict[Atom, DimLike] = {b.column: panel.dim * column.extent + column.dim}
    axes = [*b.outer, panel, *([] if b.row is None else [b.row]), column]
    value = replace(b.store.value, {b.sum: whole})
    store = rewritten(Store(b.store.buffer, b.store.axes, b.store.address, value), axes, place)
    right = substitute_scalar(right, place)  # shifts of fields may follow from the column
    tiles = _Tiles(b, store, left, right, (panel, column), (units, lanes), target)
    if b.scale is None:
        return first, store, tiles.nest(None)
    scale = substitute_scalar(b.told(replace(b.scale, read)), place)
    square = tiles.in_parts(b.scale, scale) if b.matrix is None else None
    if square is None:
        return first, store, tiles.nest(scale)
    stage, many = square
    least = LEAST_SCALED_ROWS if tiles.are_exact else LEAST_ROWS
    few = tiles.nest(None if tiles.are_exact else scale)
    return [*first, stage], store, _either(few, many, b, least)


def _reading(b: BlockSum, flat: Contraction, plain: Store) -> BlockSum:
    """``b`` with ``plain`` for the left factor of ``flat``; its axes are joined anew."""
    place = tuple(a.dim for a in axes_of_left(flat))
    left = load(plain.buffer, plain.buffer.address(place))
    inner = reduction("sum", b.inner.axes, b.product.of(left, b.product.right))
    value = b.told(replace(b.store.value, {b.inner: inner}))
    again = block_sum(normal(replace_fields(b.store, value=value)))
    if again is None:
        raise TypeError("a sum of blocks stays one")
    return again


def _either(few: Nest, many: Nest, b: BlockSum, least: int) -> Nest:
    """The nest ``many`` where there are rows enough for it, else ``few``."""
    rows: DimLike = 1 if b.row is None else b.row.extent
    if isinstance(rows, int):
        return many
    are_few = apply("lt", index(rows), index(least))
    return replace_fields(
        many,
        kind=few.kind,
        body=(When(are_few, few.body), When(are_many(rows, least), many.body)),
        parallel=many.parallel,
        scratch={**few.scratch, **many.scratch},
        scratch_bytes=maximum(few.scratch_bytes, many.scratch_bytes),
    )


def _flat(b: BlockSum, left: Scalar, right: Scalar) -> Reduce:
    """The sum of all products, blocks or not."""
    found = reduction("sum", b.terms, b.product.of(left, right))
    if not isinstance(found, Reduce):
        raise TypeError("a sum of blocks has terms")
    return found


def _kept(b: BlockSum) -> Iterator[Scalar]:
    """The largest parts of the sum that are the same for all fields of what is loaded.

    They take no more memory than that.
    """
    written = set(field_axes(b.inner, b.product.right))
    waiting, seen = [b.sum.body], set[Scalar]()
    while waiting:
        e = waiting.pop()
        if e in seen:
            continue
        seen.add(e)
        loads = accesses([e])
        while isinstance(e, Apply) and e.op == "cast" and e.args[0].dtype.bits < e.dtype.bits:
            (e,) = e.args
        is_larger = _bits(e) > sum(map(_bits, loads))
        if not loads or not _is_stored(e) or written & e.variables or is_larger:
            waiting += e.args
            continue
        yield e


def _bits(e: Scalar) -> int:
    """What memory has of all values of ``e``."""
    own = (a for a in e.variables if isinstance(a, Variable))
    return math.prod((likely(a.extent) for a in own), start=int(e.dtype.bits))


def _packed(b: BlockSum, e: Scalar, panel: Variable, column: Variable) -> tuple[Store, Scalar]:
    """``e`` by panels of columns, 0 behind the last column; and how it is read."""
    at = panel.dim * column.extent + column.dim
    inside = apply("lt", index(at), index(b.column.extent))
    value = substitute_scalar(e, {b.column: at})
    value = select(inside, guarded(value, inside), 0)
    matrix = [] if b.matrix is None else [b.matrix[0]]
    inner = [a for a in (*matrix, *b.outer, *b.terms) if a in e.variables]
    axes = (panel, *inner, column) if b.column in e.variables else tuple(inner)
    store = filled("packed", axes, value if b.column in e.variables else e)
    return store, load(store.buffer, store.buffer.address(tuple(a.dim for a in axes)))


@dataclass(frozen=True)
class _Tiles:
    """What tiles of a sum of blocks are made of."""

    sum: BlockSum
    store: Store
    left: Scalar
    right: Scalar
    columns: tuple[Variable, Variable]
    shape: tuple[int, int]
    """Vectors of a panel, and lanes of a vector."""
    target: Target

    def nest(self, scale: Scalar | None) -> Nest:
        """Panels in chunks; with ``scale``, many rows read a panel of numbers."""
        (found,) = outer_reductions(self.store.value)
        panel, _ = self.columns
        b, registers = self.sum, 32 if self.target.vector_registers >= 32 else 16
        rows: DimLike = 1 if b.row is None else b.row.extent
        body: Block = (self._tile(found, self.store.value, FEW_ROWS[registers]),)
        scratch: dict[Buffer, DimLike] = {}
        least = 0 if self.target.is_strict else EXPANDED_FROM[registers]
        if scale is not None and not (isinstance(rows, int) and rows < least):
            buffer, expanded = self._expanded(found, scale, SUMS[registers])
            scratch = {buffer: 0}
            is_few = apply("lt", index(rows), index(least))
            is_many = apply("lt", index(least - 1), index(rows))
            body = (When(is_few, body), When(is_many, expanded))
        # A panel of all matrices stays in cache while every row is multiplied by one of them.
        axes = (*b.outer, panel) if b.matrix is None else (panel, *b.outer)
        parallel, _ = combined(axes)
        size: DimLike = sum((x.elements * x.dtype.numpy.itemsize for x in scratch), start=0)
        size = ceildiv(size, SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT
        return Nest("blocks", (Chunks(axes, body),), self.shape[1], parallel, scratch, size)

    @property
    def are_exact(self) -> bool:
        """Whether blocks are whole steps of numbers that are one part each."""
        size = math.prod(known(a.extent) or 0 for a in self.sum.inner.axes)
        return size > 0 and size % TERMS == 0 and count_of(self.sum.product.right) == 1

    def in_parts(self, own: Scalar, scale: Scalar) -> tuple[Stage, Nest] | None:
        """What takes left rows apart, and the nest for many rows; None if vectors are faster.

        ``own`` is what a block is multiplied by, and ``scale`` the same as panels have it.
        """
        b, (panel, column), (units, lanes) = self.sum, self.columns, self.shape
        k = Variable("k", math.prod(a.extent for a in b.terms))
        place: dict[Atom, DimLike] = {}
        rest: DimLike = k.dim
        for axis in reversed(b.terms):
            place[axis] = rest - rest // axis.extent * axis.extent
            rest = rest // axis.extent
        left, right = (substitute_scalar(e, place) for e in (self.left, own * b.product.right))
        product = Product(left, right, "mul", is_turned=False)
        flat = reduction("sum", (k,), product.of(left, right))
        if not isinstance(flat, Reduce):
            return None
        value = replace(b.store.value, {b.sum: flat})
        store = Store(b.store.buffer, b.store.axes, b.store.address, value)

        def read(axes: Axes) -> Scalar | None:
            """The numbers of a panel, several of which lie in one of ours."""
            if units % axes.units:
                return None
            return substitute_scalar(scale * self.right, {**place, **here(axes)})

        def here(axes: Axes) -> dict[Atom, DimLike]:
            whole = axes.panel // (units // axes.units)
            first = axes.panel * (axes.units * lanes) - whole * (units * lanes)
            return {panel: whole, column: first + axes.column.dim}

        scales = None
        if self.are_exact:
            (block,), size = b.sum.axes, math.prod(likely(a.extent) for a in b.inner.axes)
            scales = Scales(
                size // TERMS,
                likely(block.extent),
                lambda axes: substitute_scalar(self.right, {**place, **here(axes)}),
                lambda axes, j: substitute_scalar(scale, {block: j, **here(axes)}),
            )
        c = Contraction(store, flat, product, b.row, b.column)
        return nest_of_read(c, read, scales, self.target, lanes)

    def _tile(self, result: Reduce, value: Scalar, height: int) -> Tile:
        panel, column = self.columns
        b = self.sum
        rows: DimLike = 1 if b.row is None else b.row.extent
        return Tile(
            result=result,
            row=b.row,
            rows=(0, rows, rows),
            height=min(height, rows) if isinstance(rows, int) else height,
            column=column,
            width=minimum(column.extent, b.column.extent - panel.dim * column.extent),
            units=self.shape[0],
            is_padded=True,
            put=Put(self.store.buffer, self.store.address, value),
        )

    def _expanded(self, found: Reduce, scale: Scalar, sums: int) -> tuple[Buffer, Block]:
        """A panel of numbers in scratch memory, how it is written, and the tiles that read it."""
        b, column = self.sum, self.columns[1]
        extents = [a.extent for a in b.terms]
        buffer = Buffer("numbers", [*extents, column.extent], found.dtype)
        address = buffer.address((*(a.dim for a in b.terms), column.dim))
        written = field_axes(b.inner, self.right)
        value = scale * self.right
        puts = tuple(
            Put(buffer, substitute(address, point, {}), substitute_scalar(value, point))
            for point in points(written)
        )
        loops = [a for a in b.terms if a not in written]
        fill = looped(loops, (Lanes(column, self.shape[0], puts),))
        flat = _flat(b, self.left, load(buffer, address))
        whole = merged(flat)
        if not isinstance(whole, Reduce):
            raise TypeError("a sum stays one")
        value = replace(self.store.value, {found: whole})
        units, few = self.shape[0], sums // MANY_ROWS
        units = few if units % few == 0 else units
        tile = self._tile(whole, value, min(MANY_ROWS, sums // units))
        if units == self.shape[0]:
            return buffer, (*fill, tile)
        return buffer, (*fill, _in_parts_of_columns(tile, units * self.shape[1], units))


def _in_parts_of_columns(tile: Tile, width: int, units: int) -> Loop:
    """``tile`` for ``width`` of its columns, which are so many vectors, after the other."""
    part, column = Variable("h", ceildiv(tile.width, width)), Variable("j", width)
    first = part.dim * width
    place: dict[Atom, DimLike] = {tile.column: first + column.dim}
    value = substitute_scalar(tile.put.value, place)
    narrow = replace_fields(
        tile,
        result=outer_reductions(value)[0],
        column=column,
        width=minimum(width, tile.width - first),
        units=units,
        put=Put(tile.put.buffer, substitute(tile.put.address, place, {}), value),
    )
    return Loop(part, (narrow,))


__all__ = ["block_nests", "block_sum"]
