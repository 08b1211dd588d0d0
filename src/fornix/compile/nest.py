"""The small form between schedules and code: loops that run in this order, in this way.

A schedule turns a computation (`ir.loops.Store`) into a `Nest`; `emit.statements` writes its code.
Every decision about order, vectors and pieces of work stands in a nest; none is taken later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from fornix.ir.dim import DimLike
from fornix.ir.loops import Buffer, Load, Loaded, Reduce, Routine, Scalar, Variable

Line: TypeAlias = "tuple[Buffer, DimLike]"
"""The line of a cache that holds an element of a buffer."""


@dataclass(frozen=True)
class Put:
    """``buffer[address] = value``, or the old element combined with ``value`` by ``op``.

    Nothing is written where `guard` does not hold, which is the same along the vector axis.
    """

    buffer: Buffer
    address: DimLike
    value: Scalar
    op: str | None = None
    guard: Scalar | None = None


@dataclass(frozen=True)
class Loop:
    """``body`` for every value of ``axis``, in order; backwards at odd values of ``swing``.

    So a loop that is run again and again begins with what caches still hold of its last run.
    """

    axis: Variable
    body: Block
    swing: Variable | None = None


@dataclass(frozen=True)
class When:
    """``body`` if ``condition`` holds, a bool."""

    condition: Scalar
    body: Block


@dataclass(frozen=True)
class Lanes:
    """``body`` in vectors along ``axis``, up to ``units`` at a time; the last lanes masked."""

    axis: Variable
    units: int
    body: Block


@dataclass(frozen=True)
class Chunks:
    """``body`` for every combination of ``axes``, of which each chunk does its share.

    Shares are cut at multiples of ``grain`` of the last axis, which runs backwards at odd values
    of the one before if it ``swings``.
    """

    axes: tuple[Variable, ...]
    body: Block
    grain: int = 1
    swings: bool = False


@dataclass(frozen=True)
class Stretch:
    """``body`` for ``count`` combinations of ``axes`` in their order, from number ``first`` on.

    `number` counts them.
    """

    axes: tuple[Variable, ...]
    number: Variable
    first: DimLike
    count: DimLike
    body: Block


@dataclass(frozen=True)
class ChunkedLanes:
    """`Lanes` of which each chunk does a share, cut at multiples of ``grain``."""

    axis: Variable
    units: int
    grain: int
    body: Block


@dataclass(frozen=True)
class Fold:
    """Compute ``result`` now, in vectors along ``axis``; ``kept`` is written on the way.

    ``body`` is what is reduced, over ``axis`` alone.
    """

    result: Reduce
    axis: Variable
    units: int
    body: Scalar
    kept: tuple[Put, ...] = ()
    needs_nan: bool = True
    """Whether a maximum must be NaN where it meets one: then it takes three instructions, not one.
    """
    ahead: tuple[Line, ...] = ()
    """Lines that each vector asks for."""


@dataclass(frozen=True)
class Carry:
    """`first`, then `put` for every value of ``axis``, in order.

    `last`, which its value reads, is what was put the turn before: it stays in registers.
    """

    axis: Variable
    first: Put
    put: Put
    last: Load


@dataclass(frozen=True)
class Tile:
    """A sum of products for some rows and columns at once, kept in registers; then `put`.

    `result` is ``Σ left · right``; left is the same for all columns, right for all rows. Or it sums
    over blocks what is made of one such sum; then right may take fields out of words. `rows` are
    the first row, the end, and how many rows there are at all; they are done ``height`` at a time,
    then those that are left, of which there are none but where all rows end. Of the columns `width`
    exist; right may be read at all of them if it `is_padded`. In tile registers (`is_square`) the
    sum has two axes, of which the last is as long as these are high; both factors are loads of
    words, left one after the other. Sums that were `found` before lie in memory, row by row of the
    tile's width; of those `height` rows are computed anew where one of them is not finite, and what
    `put` writes to the same buffer is the sum itself, which is there. Each term of a tile of that
    height asks for the lines `ahead`, which later tiles read.
    """

    result: Reduce
    row: Variable | None
    rows: tuple[DimLike, DimLike, DimLike]
    height: int
    column: Variable
    width: DimLike
    units: int
    is_padded: bool
    put: Put
    is_square: bool = False
    found: Line | None = None
    ahead: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Parts:
    """Products of two factors in three parts each, in tile registers, added to `sums`.

    Both factors are loads of words that hold two terms each: left by `tile`, which is 16 rows,
    `row` in it, `step` and `word` of the step; right by `step`, `word` and `column`. The sums lie
    row by row, from the first of `rows` on, as many vectors wide as `units`; they begin with 0 if
    they are `fresh`. What right is read from is `made` on the way: the words of a step, in vectors
    along `column`, as the first rows multiply those of the step before. Each step asks for the
    lines `ahead`.

    The steps may be those of `blocks`, numbered along an axis: the sums of each are multiplied by a
    scale before they are added.
    """

    left: tuple[Scalar, ...]
    right: tuple[Scalar, ...]
    tile: Variable
    row: Variable
    step: Variable
    word: Variable
    column: Variable
    rows: tuple[DimLike, DimLike]
    units: int
    sums: Line
    fresh: bool
    made: tuple[Put, ...]
    ahead: tuple[Line, ...] = ()
    blocks: tuple[Variable, Scalar] | None = None


@dataclass(frozen=True)
class Gates:
    """Sums of products with one left factor, for some rows and columns at once; then `puts`.

    Each of `results` is ``Σ left · right``; left is the same for all columns, right for all rows
    and may be read at all columns, of which `width` exist. `rows` are the first row and the end, of
    which up to `height` are done together.
    """

    results: tuple[Reduce, ...]
    row: Variable | None
    rows: tuple[DimLike, DimLike]
    height: int
    column: Variable
    width: DimLike
    units: int
    puts: tuple[Put, ...]


@dataclass(frozen=True)
class Span:
    """``count`` values of `axis` from ``start`` on, written out one by one."""

    axis: Variable
    start: DimLike
    count: int


@dataclass(frozen=True)
class Taps:
    """``low <= axis < high``, in order: those taps of a window that lie inside the data."""

    axis: Variable
    low: DimLike
    high: DimLike


@dataclass(frozen=True)
class Edge:
    """Products that a patch leaves out: those in `padding`, of an element of `out` and a `tap`."""

    out: Variable
    tap: Variable
    padding: frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Patch:
    """A sum of products for a box of elements at once, kept in registers; then `put`.

    The box is one vector along `column` by all combinations of `spans`. Of the two factors of
    `result` one is the same along `column`; what several elements share is loaded once. The axes of
    the sum are loops, outermost first, but for those `written` out; of some only the taps that may
    meet data. If not all lanes of `column` exist, `width` says how many do; the factors may be read
    at all of them. Each turn of the innermost loop asks for the lines of `ahead`, to be read soon.
    With an `edge` its taps are the first of the loops, and are written one after the other.

    In tile registers the one `written` axis are the words of a register's row, and a register has
    so many rows along an axis of the box as `square` says. Factors may be the first of three
    bfloat16s that together are a float32; then `parts` says how far the parts of either lie apart,
    `counts` how many there are, fewer than three if others are 0, and `again` is the sum of
    float32s that a lane is where that of parts, or of words that fill a row, is not finite. Sums
    may be `held` in memory: if there are loops they are added to, if there are none they are used.

    Of several `ways` one is taken for each turn of the outermost loop: that of which the condition
    holds. So many words of bytes are then so small that 16 bits hold the sums of their products; 0
    stands for any bytes.
    """

    result: Reduce
    spans: tuple[Span, ...]
    column: Variable
    loops: tuple[Taps, ...]
    written: tuple[Variable, ...]
    put: Put
    width: DimLike | None = None
    ahead: tuple[Line, ...] = ()
    edge: Edge | None = None
    square: tuple[Variable, int] | None = None
    parts: tuple[int, int] | None = None
    counts: tuple[int, int] = (3, 3)
    again: Scalar | None = None
    held: Line | None = None
    ways: tuple[tuple[Scalar, int], ...] = ()


@dataclass(frozen=True)
class Boxes:
    """`patch` again and again: with as many elements of its first span as `best` says.

    That is one of `sizes`, and ``less`` is one less. Boxes begin at `start` for each `turn`, which
    is called `first`. Only sums are code for each size, and what is done with them if that is
    little; what `patch` says besides holds for all of them.
    """

    patch: Patch
    sizes: tuple[int, ...]
    best: Scalar
    less: Variable
    turn: Variable
    first: Variable
    start: DimLike


@dataclass(frozen=True)
class Sum:
    """How `result`, a reduction over the taps of a window, is computed.

    It is that of `body` over `loops`, outermost first, and over the axes that are `written` out.
    The axes `around` it combine several to one: it is computed for each value of them.
    """

    result: Reduce
    body: Scalar
    around: tuple[Variable, ...]
    loops: tuple[Taps, ...]
    written: tuple[Variable, ...]


@dataclass(frozen=True)
class Window:
    """`put` for all elements of `span`, for which `sums` are computed together, each once."""

    span: Span
    sums: tuple[Sum, ...]
    put: Put


SHORT_VECTOR = 16
"""Bytes within which processors put the lanes of two vectors in turn in one instruction."""


@dataclass(frozen=True)
class Turn:
    """`put` for a tile: the lanes of the vector axis `axis` by as many values of `across`.

    The tile begins at value `first` of `across`, along which `loads` are read and then turned;
    `count` of them, one or two, lie beside each other.
    """

    axis: Variable
    across: Variable
    first: DimLike
    loads: tuple[Load, ...]
    put: Put
    count: int = 1


@dataclass(frozen=True)
class Weave:
    """`put` for a vector of values of `along`, by all values of the short axis `across`.

    They lie side by side in memory, those of `across` next to each other; the vector begins at
    value `first` of `along`, along which all that is read lies side by side, too: one value behind
    the other, or in `rows`, which lie one behind the other, each with an axis along which it is
    read, whole, element by element.
    """

    along: Variable
    across: Variable
    first: DimLike
    put: Put
    rows: tuple[tuple[Load, Variable], ...] = ()


@dataclass(frozen=True)
class Picks:
    """How elements at `place`, an integer from memory, are picked out of `count` vectors each.

    It varies along one axis, where it rises by up to ``count`` from value to value and never falls.
    In registers elements have so many `bits`. Of each vector of them it is kept where those begin
    that they are picked from, in `firsts`, and which of these they are, in `numbers`.
    """

    place: Loaded
    count: int
    bits: int
    firsts: Buffer
    numbers: Buffer


@dataclass(frozen=True)
class Picked:
    """`body`, where elements are picked along `axis` as `picks` say; that is worked out before."""

    axis: Variable
    picks: tuple[Picks, ...]
    body: Block


@dataclass(frozen=True)
class Call:
    """The function of ``routine`` on its memory and numbers."""

    routine: Routine


Statement: TypeAlias = (
    "Put | Loop | When | Lanes | Chunks | Stretch | ChunkedLanes | Fold | Carry | Tile | Parts"
    " | Gates | Patch | Boxes | Window | Turn | Weave | Picked | Call"
)
Block: TypeAlias = tuple[Statement, ...]


@dataclass(frozen=True)
class Nest:
    """A kernel: what runs, with how many lanes to a vector, and what it needs."""

    kind: str
    body: Block
    lanes: int
    parallel: DimLike = 1
    scratch: Mapping[Buffer, DimLike] = field(default_factory=dict)
    """Buffers in scratch memory and the offset in bytes of each."""
    scratch_bytes: DimLike = 0
    changing: frozenset[Buffer] = frozenset()
    """Buffers that are read and written anew as the kernel runs."""
    beside: tuple[Buffer, ...] = ()
    """Buffers that it reads beside those that its stores read."""
    drops_subnormal: bool = False
    """Whether numbers less than all normal ones count as 0 in it, where processors differ."""
    steps: DimLike = 1
    """How many parts of the work follow one another, each of them cut into `shares`."""
    shares: int = 1
    """Chunks of each of `steps` where `parallel` is 1; 1 if threads share none."""
    padded: frozenset[Buffer] = frozenset()
    """Buffers that may be read in lanes that do not exist, too."""
