"""Direct convolution into blocked images: accumulators for some pixels by some blocks of filters.

Per tap and channel one vector of weights for each block is multiplied with one element of the image
for each pixel. Decided here are the box of accumulators, which loops are around it, and whether a
result that is not blocked takes the way through an image that is. What is copied first, and the
order of the sum, stand in `packing`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields

from fornix.compile.axes import index_dims, moves_as_one, rewritten
from fornix.compile.blocked import Blocked
from fornix.compile.convolution import Convolution, Groups, Spatial, convolution, groups
from fornix.compile.cost import accesses, likely, outer_reductions, stride_of, useful_lanes
from fornix.compile.nest import Block, Edge, Line, Nest, Patch, Put, Span, Taps
from fornix.compile.phases import phases
from fornix.compile.schedule.chunks import chunked
from fornix.compile.schedule.direct_boxes import MARGIN, Box, box_of
from fornix.compile.schedule.held import MAX_CHUNKS, Held, held_weights
from fornix.compile.schedule.inside import Extent, data_of, taps_of
from fornix.compile.schedule.packing import (
    Order,
    copied_image,
    order,
    packed_weights,
    sums_in_blocks,
)
from fornix.compile.schedule.pairs import convolution_in_pairs
from fornix.compile.schedule.places import stages_by_places
from fornix.compile.schedule.planes import LONGEST_STEP
from fornix.compile.schedule.recast import with_image_in_blocks
from fornix.compile.schedule.small_bytes import (
    Marks,
    has_small_bytes,
    in_groups,
    marks_of,
)
from fornix.compile.schedule.spans import open_row, open_rows, pieces, turns
from fornix.compile.schedule.square_cost import GAIN, speed_in_tiles
from fornix.compile.schedule.square_floats import float_stages, has_float_tiles, runs_in_tiles
from fornix.compile.schedule.square_images import (
    exact,
    has_rows_of_words,
    is_for_squares,
    lies_in_lines,
    order_in_squares,
    with_whole_rows,
)
from fornix.compile.schedule.square_rows import Joined, in_whole_boxes, joined_rows, square_box
from fornix.compile.schedule.whole_groups import with_whole_groups
from fornix.compile.schedule.winograd import Stage, winograd_algorithm, winograd_stages
from fornix.compile.target import Target
from fornix.dtype import FLOAT32, INT32
from fornix.ir.dim import DimLike, known, minimum
from fornix.ir.loops import (
    Buffer,
    Constant,
    Scalar,
    Store,
    Variable,
    load,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import reduction

TRANSFORMED = 1.4
"""How much longer products of transformed images take where two units multiply vectors."""
PAIRED = 2.0
"""Times as many products as of float32 where those of bfloat16 come as often as one vector of them;
processors that multiply two such vectors in that time gain nothing."""
PRODUCT_VECTORS = (3, 4)
"""Vectors in a row of the tiles of `contraction`."""
TURNING = 40.0
"""Multiplications that writing an element and turning it cost; see bench/micro conv1."""
FEW_TERMS = 64
"""Terms of a sum up to which a result that is not blocked is better written row by row."""
MOST_USE = 0.8
"""Of the lanes of vectors along rows: with less, blocks are."""
LEAST_USE = 0.5
"""Of the lanes of a block: with less, another schedule is faster."""
LEAST_FILTERS = 2
"""Of words: other schedules multiply them badly, unless all vectors are along rows."""
MAX_PRODUCTS = 512
"""That are written out so that those with the padding beside rows can be left out."""


@dataclass(frozen=True)
class _Loops:
    """The axes of the nest: what is around the boxes, and the two that boxes are cut from.

    Boxes leave out what lies beside the `edge` of the image. Its rows may be `joined` to one, or
    some have `marks`. Sums that are not finite are computed `again`.
    """

    lead: tuple[Variable, ...]
    rows: Variable | None
    pixels: Variable
    panels: Variable
    groups: Variable
    edge: Edge | None
    joined: Joined | None = None
    marks: Marks | None = None
    again: Scalar | None = None


def direct_stages(
    c: Convolution, target: Target, lanes: int, *, has_few_places: bool = False
) -> list[Stage | Store] | None:
    """What has to be done for ``c``, in order; stores are left to other schedules.

    None if another schedule serves it better. Whether it ``has_few_places`` is what a run tells.
    """
    if not c.sum.dtype.is_float and not c.sums_words:
        return None
    c = c.with_all_places
    if _is_written_in_vectors(c, lanes):
        return _by_phases(c, target, lanes, has_few_places=has_few_places)
    through = _through_blocks(c, target, lanes)
    inner = None if through is None else convolution(through[0])
    stages = None
    if inner is not None:
        stages = _by_phases(inner, target, lanes, has_few_places=has_few_places)
    return None if stages is None or through is None else [*stages, *through[1]]


def speed_of_direct(c: Convolution, target: Target, lanes: int, *, is_paired: bool) -> float:
    """How many times as fast as usual the direct sum of ``c`` is, beside Winograd's.

    It ``is_paired`` if vectors would multiply bfloat16s two at a time.
    """
    c = c.with_all_places
    if runs_in_tiles(c, target, lanes):
        return speed_in_tiles(c, target) * TRANSFORMED
    if not is_paired or target.is_wide:
        return 1.0
    channels = likely(c.channels[0].extent)
    return PAIRED * channels / (channels + channels % 2)


def is_for_tiles(c: Convolution, target: Target, lanes: int) -> bool:
    """Whether tile registers compute ``c``, of its image or of a copy of that in blocks."""
    c = c.with_all_places
    return runs_in_tiles(c, target, lanes) or _in_blocks(c, target, lanes) is not None


def _by_phases(
    c: Convolution, target: Target, lanes: int, *, has_few_places: bool
) -> list[Stage | Store] | None:
    """The stages for each phase of ``c``; None if one of them is no convolution.

    Phases are for Winograd's algorithm where that is faster: it has not been asked of all as one.
    """
    found: list[Stage | Store] = []
    parts = phases(c.store)
    for part in parts:
        if not outer_reductions(part.value):  # it meets no taps, or one
            found.append(part)
            continue
        conv = c if part is c.store else convolution(part)
        conv = None if conv is None else conv.with_all_places
        stages = None
        if conv is not None and len(parts) > 1 and not has_few_places:
            stages = _by_winograd(conv, target, lanes)
        if conv is not None and stages is None:
            stages = _stages(conv, target, lanes, has_few_places=has_few_places)
        if stages is None:
            return None
        found += stages
    return found


def _by_winograd(c: Convolution, target: Target, lanes: int) -> list[Stage | Store] | None:
    speed = speed_of_direct(c, target, lanes, is_paired=False)
    return winograd_stages(c, target, lanes, winograd_algorithm(c, target, lanes, speed))


def _stages(
    c: Convolution, target: Target, lanes: int, *, has_few_places: bool
) -> list[Stage | Store] | None:
    """The copies, then the convolution itself; None if its groups do not fill blocks."""
    c = _flattened(c)
    is_small = has_small_bytes(c, target)
    c = c if is_small else convolution_in_pairs(c, target) or c
    given = groups(c)
    if given is None or given.are_few:
        return None
    lanes = _lanes(c, given, lanes)
    if has_few_places:
        is_simple = c.has_taps and len(c.channels) == 1
        return stages_by_places(c, given, target, lanes) if is_simple else None
    in_parts = float_stages(c, given, target, lanes) or _of_copy(c, target, lanes)
    if in_parts is not None:
        return in_parts
    whole = with_whole_rows(c, given, target, lanes)
    of_words = c if has_rows_of_words(c, target, lanes) else None
    return _in_boxes(*whole, target, lanes, is_small=is_small, of_words=of_words)


def _in_boxes(
    c: Convolution,
    given: Groups,
    target: Target,
    lanes: int,
    *,
    is_small: bool,
    of_words: Convolution | None,
) -> list[Stage | Store]:
    """The copies, then the sums of boxes; of words, with their own taps."""
    blocks = -(-given.filters // lanes)
    *lead, pixels = (s.out for s in c.spatial)
    rows = lead.pop() if lead else None
    is_square = is_for_squares(c, given, target, lanes)
    joined, box = None, None if is_square else box_of(c, blocks, target, are_small=is_small)
    if box is None:
        c, joined, box = _in_squares(c, blocks, target)
        given = groups(c) or given
    sum_, edge = _order(c, box, is_square=is_square, is_small=is_small)
    panels, block = Variable("p", blocks // box.blocks), Variable("b", box.blocks)
    lane = Variable("j", lanes)
    place = (panels.dim * box.blocks + block.dim) * lanes + lane.dim
    bare = _apart(c, sum_, box) if joined is None else {}
    image = _in_place(c, given, sum_, is_square=is_square) if joined is None else None
    stages: list[Stage | Store] = []
    if image is None:
        copy, image = copied_image(c, given, sum_, bare)
        stages.append(copy)
    marks = marks_of(c, given, sum_, image, box.pixels, bare) if is_small else None
    stages += [] if marks is None else [marks.sums, marks.store]
    which = given.axis.dim * given.filters + place
    axes = (given.axis, panels, block, lane)
    pack, weights = packed_weights(c, sum_, (which, given.filters - place), axes)
    stages.append(pack)
    if joined is not None:
        rows, pixels = joined.rows, joined.axis
    around = _Loops((*c.batch, *lead), rows, pixels, panels, given.axis, edge, joined, marks)
    store = _with_sum(c, sum_, c.product.of(image, weights), around, (which, block, lane))
    width = None if given.filters % lanes == 0 else given.filters - place + lane.dim
    is_once = is_square and (box.rows, box.pixels) == (1, pixels.extent) and rows is None
    filters = block, lane, lanes, width
    of = given.axis, panels
    held = held_weights(c, given.filters, box, of, pack.buffer, target, is_once=is_once)
    if of_words is not None:
        own, body = exact(of_words, image, weights, sum_)
        plain = _with_sum(c, own, body, around, (which, block, lane))
        around = replace_fields(around, again=outer_reductions(plain.value)[0])
    nest = _nest(c, store, sum_, around, box, filters, held)
    return [*stages, Stage(nest, (store,))]


def _in_squares(
    c: Convolution, blocks: int, target: Target
) -> tuple[Convolution, Joined | None, Box]:
    """``c`` as tile registers read it, its results if they are counted anew, and the box."""
    if all(isinstance(s.out.extent, int) for s in c.spatial[-2:]):
        joined = joined_rows(c, blocks)
    else:
        c, joined = in_whole_boxes(c, blocks)
    return c, joined, Box(*(square_box(c, blocks, target) if joined is None else joined.box))


def _order(
    c: Convolution, box: Box, *, is_square: bool, is_small: bool
) -> tuple[Order, Edge | None]:
    """The order of the sum, and the edge of the image whose taps boxes take one by one."""
    sum_ = order_in_squares(c) if is_square else order(c)
    if is_small:
        return in_groups(c, sum_), None
    edge = None if is_square else _edge(c, sum_, box)
    if edge is None:
        return sum_, None
    others = (a for a in sum_.loops if a is not edge.tap)
    return replace_fields(sum_, loops=(edge.tap, *others)), edge


def _in_place(c: Convolution, given: Groups, sum_: Order, *, is_square: bool) -> Scalar | None:
    """What the sum reads of an image that lies as boxes read it; None if it is copied first."""
    image = substitute_scalar(given.image, {s.place: s.read for s in c.spatial})
    image = substitute_scalar(image, sum_.values)
    lies = c.is_in_place and (not is_square or lies_in_lines(image, sum_, c.spatial[-1].out))
    return image if lies else None


def _of_copy(c: Convolution, target: Target, lanes: int) -> list[Stage | Store] | None:
    """The stages for ``c`` in tile registers, of a copy of its image in blocks."""
    found = _in_blocks(c, target, lanes)
    if found is None:
        return None
    copies, c = found
    given = groups(c)
    stages = None if given is None else float_stages(c, given, target, lanes)
    return None if stages is None else [*copies, *stages]


def _in_blocks(
    c: Convolution, target: Target, lanes: int
) -> tuple[list[Store], Convolution] | None:
    """The copy of the image of ``c`` in blocks, and ``c`` of it; None if that is no faster."""
    found = with_image_in_blocks(c) if has_float_tiles(c, target, lanes) else None
    is_slow = found is None or speed_in_tiles(found[1], target, is_copied=True) <= GAIN
    return None if is_slow else found


def _apart(c: Convolution, sum_: Order, box: Box) -> dict[Spatial, Extent]:
    """Axes whose padding nobody reads, as no box has several of their elements; and their data."""
    far = c.spatial[:-1] if box.rows == 1 else c.spatial[:-2]
    return {s: data for s, data in data_of(c).items() if s in far and s.tap in sum_.loops}


def _lanes(c: Convolution, given: Groups, lanes: int) -> int:
    """Lanes of the vectors of filters: half of them where groups end in the middle."""
    layout = c.store.buffer.address
    wide = min(lanes, layout.lanes) if isinstance(layout, Blocked) else lanes
    return wide if given.count == 1 or given.filters % wide == 0 else lanes // 2


def _is_written_in_vectors(c: Convolution, lanes: int) -> bool:
    """Whether ``lanes`` filters lie side by side in the result; matrix products do not count."""
    layout = c.store.buffer.address
    if isinstance(layout, Blocked):
        return layout.lanes % (lanes // 2) == 0
    return not c.is_product and stride_of(c.store.address, c.filter) == 1


def _through_blocks(c: Convolution, target: Target, lanes: int) -> tuple[Store, list[Store]] | None:
    """The sums into a blocked image, and what makes the result of ``c`` of them.

    None if the result is blocked, or too few lanes of its blocks would be of use.
    """
    whole = with_whole_groups(c, lanes, is_wide=target.is_wide)
    if whole is not None:
        return whole
    filters = c.filter.extent
    if not isinstance(filters, int) or (c.is_product and not _is_worth_blocks(c, lanes)):
        return None
    if _is_thin(c, lanes):
        return None
    if filters <= lanes // 2:
        if not c.sums_words and _has_rows(c, lanes):
            return None
        lanes //= 2
    least = LEAST_USE * _whole(filters, lanes)
    is_little = filters < (LEAST_FILTERS if c.sums_words else least)
    if isinstance(c.store.buffer.address, Blocked) or is_little:
        return None
    return sums_in_blocks(c, c.sum, lanes)


def _is_thin(c: Convolution, lanes: int) -> bool:
    """Whether turning the result of ``c`` costs more than its sums, and its rows fill vectors.

    Rows are read from whole vectors, or those of a line from a copy, its elements apart.
    """
    if c.product.op != "mul" or not c.sum.dtype.is_float or not c.has_taps:
        return False
    terms = math.prod(likely(a.extent) for a in c.sum.axes)
    row = c.spatial[-1]
    is_line = len(c.spatial) == 1 and row.dilation == 1
    is_full = useful_lanes(row.out.extent, lanes) > MOST_USE * lanes
    longest = LONGEST_STEP if isinstance(row.out.extent, int) else 1
    is_near = row.stride <= longest or is_line
    return terms <= FEW_TERMS and is_full and is_near and phases(c.store) == [c.store]


def _has_rows(c: Convolution, lanes: int) -> bool:
    """Whether rows of the image fill vectors better than filters do that fill half of one."""
    row = c.spatial[-1]
    is_full = useful_lanes(row.out.extent, lanes) > LEAST_USE * lanes
    return c.has_taps and row.stride == 1 and is_full


def _is_worth_blocks(c: Convolution, lanes: int) -> bool:
    """Whether a matrix product loses more in vectors of pixels than turning its result costs."""
    pixels = math.prod(known(s.out.extent) or 0 for s in c.spatial)
    terms = known(c.channels[0].extent)
    are_stored = all(isinstance(e.buffer.source, Constant) for e in accesses([c.weights]))
    if not pixels or not terms or not are_stored or stride_of(c.store.address, c.filter) == 1:
        return False
    waste = min(_whole(pixels, n * lanes) for n in PRODUCT_VECTORS) / pixels
    return waste > 1 + MARGIN + TURNING / terms


def _whole(extent: int, step: int) -> int:
    return -(-extent // step) * step


def _flattened(c: Convolution) -> Convolution:
    """``c`` with axes of the image joined that move as one: those of 1×1 filters."""
    while c.is_in_place and not c.has_taps and len(c.spatial) > 1:
        a, b = c.spatial[-2].out, c.spatial[-1].out
        if not all(moves_as_one(d, a, b) for d in index_dims(c.store)):
            break
        joined = Variable("s", a.extent * b.extent)
        axes = [joined if x is b else x for x in c.store.axes if x is not a]
        found = convolution(rewritten(c.store, axes, {a: 0, b: joined.dim}))
        if found is None:
            break
        c = found
    return c


def _edge(c: Convolution, sum_: Order, box: Box) -> Edge | None:
    """What boxes of whole rows leave out: products with the padding beside them, if it is known."""
    pixels, data = c.spatial[-1], data_of(c).get(c.spatial[-1])
    if pixels.tap not in sum_.loops or data is None or box.pixels != pixels.out.extent:
        return None
    if box.pixels == 1:  # the loops of its taps leave out the padding by themselves
        return None
    (first, end), taps = map(known, data), known(pixels.taps)
    if first is None or end is None or taps is None:
        return None
    written = math.prod(known(a.extent) or 1 for a in sum_.written)
    if taps * written * box.rows * box.pixels * box.blocks > MAX_PRODUCTS:
        return None
    padding = frozenset(
        (k, tap)
        for k in range(box.pixels)
        for tap in range(taps)
        if not first <= k * pixels.stride + tap * pixels.dilation < end
    )
    return Edge(pixels.out, pixels.tap, padding) if padding else None


def _with_sum(
    c: Convolution,
    sum_: Order,
    body: Scalar,
    around: _Loops,
    filters: tuple[DimLike, Variable, Variable],
) -> Store:
    """The store of ``c`` with its sum in the order ``sum_``, over the axes of the nest."""
    which, block, lane = filters
    sum_axes = (*sum_.loops, *sum_.written)
    rows = () if around.rows is None else (around.rows,)
    axes = (around.groups, *around.lead, around.panels, *rows, around.pixels, block, lane)
    joined = around.joined
    hole = reduction("sum", sum_axes, body) if joined is None else load(Buffer("sum", (), INT32), 0)
    value = replace(c.store.value, {c.sum: hole})
    store = Store(c.store.buffer, c.store.axes, c.store.address, value)
    if joined is None:
        return rewritten(store, axes, {c.filter: which})
    store = rewritten(store, axes, {c.filter: which, **joined.at})
    whole = reduction("sum", sum_axes, substitute_scalar(body, joined.at))
    value = replace(guarded(store.value, joined.inside), {guarded(hole, joined.inside): whole})
    return Store(store.buffer, store.axes, store.address, value)


def _nest(
    c: Convolution,
    store: Store,
    sum_: Order,
    around: _Loops,
    box: Box,
    filters: tuple[Variable, Variable, int, DimLike | None],
    held: Held | None,
) -> Nest:
    """The loops around the boxes; ``held`` are weights of which each panel stays in the cache."""
    block, lane, lanes, width = filters
    lead, rows = [around.groups, *around.lead], list[Span]()
    if around.rows is not None:
        turn, span = turns(around.rows, box.rows)
        lead.append(turn)
        rows += [] if span is None else [span]

    def patch(*pixels: Span, ahead: tuple[Line, ...] = ()) -> Patch:
        (e,) = outer_reductions(store.value)
        guard = None if around.joined is None else around.joined.inside
        put = Put(store.buffer, store.address, store.value, guard=guard)
        here = (*pixels, Span(block, 0, box.blocks))
        inside = tuple(Taps(a, 0, a.extent) for a in sum_.loops)
        if around.joined is None:
            inside = _inside(c, sum_, here)
        square = (around.pixels, box.square) if box.square else None
        found = Patch(e, here, lane, inside, sum_.written, put, width, ahead, around.edge, square)
        return replace_fields(found, again=around.again)

    wide = around.pixels.extent
    panels = [around.panels]
    if isinstance(wide, int) or box.square:
        turn, span = turns(around.pixels, box.pixels)
        passing = (*lead[1:], turn)
        ahead = () if held is None else held.ahead(passing, sum_.loops)
        whole = patch(*rows, *([] if span is None else [span]), ahead=ahead)
        if around.marks is not None:
            whole = replace_fields(whole, ways=around.marks.ways(turn.dim, rows))
        axes = [*lead, turn, *panels]
        body: Block = (whole,)
        if held is not None:
            axes, body = held.order(passing, body)
    else:
        piece = pieces(around.pixels)
        lead += [] if rows else [piece]
        axes = [*lead, *panels] if held is None else [lead[0], *panels, *lead[1:]]
        cut = (around.pixels, box.pixels)
        body = open_rows(*cut, rows[0], patch) if rows else open_row(*cut, piece, patch)
    chunks, parallel = chunked(axes, body)
    most = minimum(parallel, MAX_CHUNKS)
    beside = () if around.marks is None else (around.marks.store.buffer,)
    is_float = store.value.dtype is FLOAT32
    return Nest("convolution", (chunks,), lanes, most, beside=beside, drops_subnormal=is_float)


def _inside(c: Convolution, sum_: Order, spans: Sequence[Span]) -> tuple[Taps, ...]:
    """The loops of the sum, without taps that meet nothing but padding in a box of ``spans``."""
    given = {span.axis: span for span in spans}
    found: dict[Variable, Taps | None] = {}
    for axis, data in data_of(c).items():
        if axis.tap is not None:
            span = given.get(axis.out, Span(axis.out, axis.out.dim, 1))
            found[axis.tap] = taps_of(axis, data, span)
    return tuple(found.get(a) or Taps(a, 0, a.extent) for a in sum_.loops)


__all__ = ["direct_stages", "is_for_tiles", "speed_of_direct"]
