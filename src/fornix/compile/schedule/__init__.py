"""Computations to nests: which loops, in which order, which of them in vectors.

One module per kind of schedule; `schedule` picks the kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields

from fornix.compile.attention import as_attention
from fornix.compile.axes import cut, merge
from fornix.compile.convolution import Convolution, convolution
from fornix.compile.cost import accesses, outer_reductions
from fornix.compile.nest import Nest
from fornix.compile.phases import joined, phases
from fornix.compile.schedule.across import across_by_size
from fornix.compile.schedule.attention import attention_nest
from fornix.compile.schedule.contraction import contraction, contraction_nests
from fornix.compile.schedule.direct import direct_stages, speed_of_direct
from fornix.compile.schedule.exchanged import exchanged
from fornix.compile.schedule.few_columns import few_columns
from fornix.compile.schedule.folded_rows import folded_rows
from fornix.compile.schedule.gates import gate_steps
from fornix.compile.schedule.gathered import gathered
from fornix.compile.schedule.halves import convolution_in_halves, in_halves, rounded_in_tiles
from fornix.compile.schedule.looked_up import looked_up
from fornix.compile.schedule.map import (
    lanes_along,
    lanes_of,
    map_nest,
    normal,
    vector_axis,
)
from fornix.compile.schedule.ordered import routine_nest, scan_nest, update_nest
from fornix.compile.schedule.pairs import contraction_in_pairs
from fornix.compile.schedule.parts import part_nests
from fornix.compile.schedule.picked import picked_nest
from fornix.compile.schedule.planes import plane_stages
from fornix.compile.schedule.powers import powers_nest
from fornix.compile.schedule.reordered import has_few_columns, reordered, with_rest_apart
from fornix.compile.schedule.repeated import as_column, repeated
from fornix.compile.schedule.row import row_axis, row_nest
from fornix.compile.schedule.running import running_nest
from fornix.compile.schedule.scaled import block_nests, block_sum
from fornix.compile.schedule.separate import separated
from fornix.compile.schedule.short import short_nest
from fornix.compile.schedule.single_row import single_row
from fornix.compile.schedule.small_images import Way, chosen, only_if, ways
from fornix.compile.schedule.spans_of_terms import in_spans
from fornix.compile.schedule.spread import spread
from fornix.compile.schedule.square import square_nests
from fornix.compile.schedule.square_words import rows_in_words
from fornix.compile.schedule.streamed import streamed_sums
from fornix.compile.schedule.turned import in_colours, turned_nest, woven_nest
from fornix.compile.schedule.window import window_nest
from fornix.compile.schedule.winograd import Stage, winograd_algorithm, winograd_stages
from fornix.compile.target import Target
from fornix.errors import NotSupported
from fornix.ir.dim import DimLike, known
from fornix.ir.loops import Buffer, Constant, Scan, Scatter, Store, Variable
from fornix.ir.loops.tensor import Computation


@dataclass(frozen=True)
class Piece:
    """A nest and the stores that it executes, of which it takes its arguments."""

    nest: Nest
    stores: tuple[Store, ...]
    turns: DimLike = 1
    """How often they happen."""
    is_same: bool = True
    """Whether its arithmetic is what the computation says, in whatever order."""
    is_run: DimLike = 1
    """1 where a run does it, 0 where another piece does the same."""


def schedule(source: Computation, target: Target) -> list[Piece]:
    """The nests that together, one after the other, do what ``source`` says."""
    match source:
        case Store():
            return list(_of_store(source, target))
        case Scan():
            return _of_scan(source, target)
        case Scatter():
            update = Piece(update_nest(source, target), (source.update,))
            return [*_of_store(source.base, target), update]
    raise NotSupported(f"{type(source).__name__} has no native code")


def _of_scan(scan: Scan, target: Target) -> list[Piece]:
    steps = gate_steps(scan, target)
    if steps is None:
        stores = (*scan.starts, *scan.inner, *scan.steps)
        nest = running_nest(scan, target) or scan_nest(scan, target)
        return [Piece(nest, stores, scan.time.extent)]
    first = (*steps.packed, *scan.starts)
    pieces = [piece for store in first for piece in _of_store(store, target)]
    return [*pieces, Piece(steps.nest, steps.stores, scan.time.extent)]


def _of_convolution(store: Store, target: Target, lanes: int) -> list[Piece] | None:
    """The nests of ``store`` if it is a convolution that a schedule of its own serves."""
    conv = convolution(store)
    if conv is None:
        return None
    found = spread(conv, lanes)
    parts, is_it = (joined(conv), 1) if found is None else found
    if parts is None:
        return _of_unspread(store, conv, target, lanes)
    pieces = [piece for part in parts for piece in _of_store(part, target)]
    if known(is_it) == 1:
        return pieces
    others = _of_unspread(store, conv, target, lanes) or _of_sums(store, target, lanes)
    return [*_only_if(is_it, pieces), *_only_if(1 - is_it, others)]


def _of_unspread(store: Store, conv: Convolution, target: Target, lanes: int) -> list[Piece] | None:
    """The same where no products of places are stored."""
    words = rows_in_words(conv, target, lanes)
    of_words = None if words is None else direct_stages(words[1], target, lanes)
    if words is not None and of_words is not None:
        return _of_stages([words[0], *of_words], target)
    rounded = rounded_in_tiles(conv, target, lanes)
    halves = None if rounded is not None else convolution_in_halves(conv, target)
    apart = None if halves is None else _apart(store)
    if apart is not None:  # else zeros between places would be copied for each phase
        return [piece for part in apart for piece in _of_store(part, target)]
    of_halves = None if halves is None else direct_stages(halves, target, lanes)
    is_paired = of_halves is not None
    speed = speed_of_direct(rounded or conv, target, lanes, is_paired=is_paired)
    algorithm = winograd_algorithm(conv, target, lanes, speed)
    found = winograd_stages(conv, target, lanes, algorithm)
    if found is not None:
        return _by_size(ways(conv, found, algorithm, target, lanes), target)
    if rounded is not None:
        found = direct_stages(rounded, target, lanes)
    found = found or of_halves or direct_stages(conv, target, lanes)
    if found is not None and rounded is None and halves is None:
        return _by_size(ways(conv, found, None, target, lanes), target)
    if found:
        return _of_stages(found, target)
    return _of_depthwise(store, conv, target, lanes)


def _of_depthwise(
    store: Store, conv: Convolution, target: Target, lanes: int
) -> list[Piece] | None:
    """The same where no boxes serve it: in blocks of channels, or in rows."""
    stages, is_it = across_by_size(conv, target, lanes) or ([], 0)
    in_blocks = _of_stages(stages, target)
    if known(is_it) == 1:
        return in_blocks
    rows = plane_stages(conv) or _apart(store)
    in_rows = None if rows is None else _of_stages(rows, target)
    if known(is_it) == 0:
        return in_rows
    in_rows = in_rows or [*_of_sums(store, target, lanes)]
    return [*_only_if(is_it, in_blocks), *_only_if(1 - is_it, in_rows)]


def _of_stages(stages: Sequence[Stage | Store], target: Target) -> list[Piece]:
    return [piece for stage in stages for piece in _of_stage(stage, target)]


def _by_size(found: Sequence[Way], target: Target) -> list[Piece]:
    """The pieces of all ways, of which a run takes the one that takes least.

    Those that no run takes are left out: their weights would be packed for nobody.
    """
    told = zip(found, chosen(found), strict=True)
    taken = [(is_it, way) for way, is_it in told if known(is_it) != 0]
    if len(taken) == 1:
        return _of_stages(taken[0][1].stages, target)
    return [p for is_it, way in taken for p in _only_if(is_it, _of_stages(way.stages, target))]


def _only_if(is_it: DimLike, pieces: Iterable[Piece]) -> Iterator[Piece]:
    """``pieces`` where ``is_it`` is 1, but for those of stored data, which no run does.

    What several of them fill together, such as zeros beside sums, is no stored data.
    """
    pieces = [*pieces]
    written = [{store.buffer for store in piece.stores} for piece in pieces]
    writers = Counter(buffer for own in written for buffer in own)
    stored = set[Buffer]()
    for piece, own in zip(pieces, written, strict=True):
        sources = {e.buffer for e in accesses(store.value for store in piece.stores)}
        is_stored = all(b in stored or isinstance(b.source, Constant) for b in sources)
        if is_stored and all(writers[buffer] == 1 for buffer in own):
            stored |= own
            yield piece
        else:
            nest = only_if(is_it, piece.nest)
            yield replace_fields(piece, nest=nest, is_run=piece.is_run * is_it)


def _of_stage(stage: Stage | Store, target: Target) -> Iterator[Piece]:
    if isinstance(stage, Store):
        yield from _of_store(stage, target)
    else:
        yield Piece(stage.nest, stage.stores, is_same=stage.is_same)


def _apart(store: Store) -> list[Store] | None:
    """The phases of a transposed convolution, which no schedule of its own serves."""
    parts = phases(store)
    return parts if len(parts) > 1 else None


def _of_products(
    store: Store, target: Target, lanes: int
) -> tuple[Sequence[Store | Stage], Store, Nest] | None:
    """What has to be computed first, the rest of ``store`` and its nest, if it sums products."""
    found = as_attention(store)
    if found is not None:
        return attention_nest(found, target, lanes)
    blocks = block_sum(store)
    if blocks is not None:
        return block_nests(blocks, target, lanes)
    product = contraction(store)
    product = None if product is None else contraction_in_pairs(product, target) or product
    spans = None
    if product is not None:
        spans = exchanged(product, target, lanes) or in_spans(product, target)
    if spans is not None:
        rest = normal(spans[1])
        return spans[0], rest, map_nest(rest, lanes)
    halves = None if product is None else in_halves(product, target)
    if halves is not None:
        first, again = halves
        nests = square_nests(again, target, lanes) or contraction_nests(again, target, lanes)
        return None if nests is None else ([*first, *nests[0]], *nests[1:])
    square = None
    if product is not None:
        square = square_nests(product, target, lanes) or part_nests(product, target, lanes)
    if square is not None:
        return square
    has_rows = product is not None and product.row is not None
    made = None if has_rows else window_nest(store, target, lanes)
    if made is None and product is not None:
        return contraction_nests(product, target, lanes)
    return made


def _of_store(store: Store, target: Target) -> Iterator[Piece]:
    lanes = lanes_of(store, target)
    if 0 in [a.extent for a in store.axes]:
        yield Piece(Nest("map", (), lanes), (store,))
        return
    pieces = _of_convolution(store, target, lanes)
    yield from _of_sums(store, target, lanes) if pieces is None else pieces


def _of_sums(store: Store, target: Target, lanes: int) -> Iterator[Piece]:
    """A ``store`` that is no convolution which a schedule of its own serves."""
    usual = normal(store)
    folded = folded_rows(usual, target, lanes)
    if folded is not None:
        yield Piece(folded, (usual,))
        return
    parts = separated(store) or gathered(store)
    if parts is not None:
        for part in parts:
            yield from _of_store(part, target)
        return
    store = usual
    made = _of_products(store, target, lanes)
    parts = None
    if made is None or has_few_columns(store):
        parts = reordered(store) or with_rest_apart(store)
    if parts is not None:
        yield from _of_stages(parts, target)
    elif made is None:
        yield from _of_elements(store, target, lanes)
    else:
        first, rest, nest = made
        pieces = [*_of_stages(first, target), Piece(nest, (rest,))]
        few = few_columns(store, target, lanes)
        if few is not None:
            yield from _only_if(few.is_it, _of_stages((*few.first, few.sums), target))
            pieces = [*_only_if(1 - few.is_it, pieces)]
        single = single_row(store) if first else None
        if single is not None:
            yield from _only_if(single[0], _of_store(single[1], target))
            pieces = [*_only_if(1 - single[0], pieces)]
        yield from pieces


def _of_elements(store: Store, target: Target, lanes: int) -> Iterator[Piece]:
    """A normal ``store`` that no schedule of sums serves."""
    found = looked_up(store, target, lanes)
    if found is not None:
        table, rest = found
        yield from _of_store(table, target)
        yield Piece(map_nest(rest, target.vector_bytes), (rest,))
        return
    store = merge(store, has_parts=True)
    parts = cut(store, _alike(store))
    if len(parts) > 1:
        yield from _of_stages(parts, target)
        return
    rows = repeated(store, lanes)
    if rows is not None:
        yield from _of_stages(rows, target)
        return
    short = short_nest(store, target, lanes)
    if short is not None:
        yield Piece(short, (store,))
        return
    vector = vector_axis(store, lanes)
    column = None if vector is None else as_column(store, vector)
    if column is None:
        yield from _of_rows(store, vector, target, lanes)
    else:
        yield from _only_if(column[0], _of_store(column[1], target))
        yield from _only_if(1 - column[0], _of_rows(store, vector, target, lanes))


def _alike(store: Store) -> list[Variable]:
    """The axes of ``store`` that are not cut where guards flip, before anything else is decided.

    Rows that are reduced are scheduled apart for each source that they may come of: which it is was
    asked in every stage of each row. Along other axes reductions would be repeated, and of those of
    open length parts may be empty.
    """
    sums = outer_reductions(store.value)
    is_same = {a for a in store.axes if not sums or any(a not in e.variables for e in sums)}
    return [a for a in store.axes if a in is_same or not isinstance(a.extent, int)]


def _of_rows(store: Store, vector: Variable | None, target: Target, lanes: int) -> Iterator[Piece]:
    """``store`` in vectors along ``vector``, or turned to them."""
    turned = woven_nest(store, lanes) or turned_nest(store, vector, lanes)
    if turned is not None:
        colours = in_colours(store)
        if colours is None:
            yield Piece(turned, (store,))
            return
        is_it, few = colours
        yield from _only_if(is_it, _of_store(few, target))
        yield from _only_if(1 - is_it, [Piece(turned, (store,))])
        return
    row = row_axis(store, vector)
    if row is not None:
        yield Piece(row_nest(store, *row, target), (store,))
        return
    nest = streamed_sums(store, vector, lanes) or powers_nest(store, lanes)
    near = lanes_along(store, vector, lanes)
    nest = nest or picked_nest(store, vector, target, near) or map_nest(store, near)
    yield Piece(nest, (store,))


__all__ = ["Piece", "routine_nest", "schedule"]
