"""What extents have to be for attention, embeddings and quantized arithmetic to be valid.

As in `agreement/rules.py`, where these rules are listed. What a kernel takes is the measure: the
rule of inference may say less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fornix.compile.agreement.terms import Agreement, NothingSaid, Shape, fixed
from fornix.ir.dim import DimLike, known
from fornix.ir.graph import Node
from fornix.ops.fact import Fact, dims_of

Facts = Sequence[Fact | None]


def attention(found: Agreement, node: Node, facts: Facts, _: Sequence[Fact]) -> None:
    """Queries, keys and values of one batch; keys as many as values, those of before, too."""
    query, key, value, mask, past, passed, filled = _padded(facts, 7)
    if query is None or key is None or value is None:
        raise NothingSaid
    along = 2 if query.rank == _HEADS_APART else 1
    if along > 1:  # open heads share no keys
        for axis in (1, 3):
            _alike(found, query.shape[axis], key.shape[axis])
        _alike(found, key.shape[1], value.shape[1])
    else:
        fixed(*(fact.shape[2] for fact in (query, key, value)))
    found.same(key.shape[along], value.shape[along])
    before = _past(found, query.shape[0], (past, passed))
    for other in (key, value, filled):
        if other is not None:
            found.same(query.shape[0], other.shape[0])
    heads = query.shape[1] if along > 1 else node.attributes["q_num_heads"].value
    scores = query.shape[0], heads, query.shape[along], before + key.shape[along]
    if mask is not None:
        _broadcasts(found, mask.shape, scores)


def self_attention(found: Agreement, node: Node, facts: Facts, _: Sequence[Fact]) -> None:
    """Rows of a batch, projected by stored weights; a mask and a past of them."""
    places = _SELF_ATTENTION[node.op_type]
    mask, past, bias = (None if n is None else _padded(facts, n + 1)[n] for n in places)
    data = facts[0]
    if data is None:
        raise NothingSaid
    batch, length, features = data.shape
    others = [fact for n, fact in enumerate(facts) if n and n not in places and fact is not None]
    fixed(features, *(n for fact in others for n in fact.shape))
    before: DimLike = 0
    if past is not None:
        found.same(batch, past.shape[1])
        fixed(past.shape[0], past.shape[2], past.shape[4])
        before = past.shape[3]
    heads = node.attributes["num_heads"].value
    _masked(found, (batch, heads, length, before + length), mask, bias)


_SELF_ATTENTION: dict[str, tuple[int, int, int | None]] = {
    "Attention": (3, 4, 5),
    "QAttention": (5, 8, None),
}
"""Which inputs of com.microsoft's are a mask, a past, and what is added to scores."""


def multi_head(found: Agreement, node: Node, facts: Facts, _: Sequence[Fact]) -> None:
    """Queries with keys and values, which may lie in one tensor; a mask and a past of them."""
    query, key, value, bias, mask, added, past, passed, *more = _padded(facts, 10)
    if query is None or any(fact is not None for fact in more):
        raise NothingSaid
    batch, length = query.shape[:2]
    given = [fact for fact in (key, value) if fact is not None]
    heads = node.attributes["num_heads"].value
    along = 2 if len(given) > 1 and given[0].rank == _HEADS_APART else 1
    fixed(*(() if bias is None else bias.shape))
    are_rows = len(given) > along
    if are_rows:
        found.same(query.shape[2], given[0].shape[2])
        for fact in (query, *given):
            found.same(fact.shape[2], fact.shape[2] // heads * heads)
    for fact in given:
        found.same(batch, fact.shape[0])
        found.same(given[0].shape[along], fact.shape[along])
    for fact in () if are_rows else (query, *given):
        is_packed = fact.rank > _HEADS_APART
        if fact.rank >= _HEADS_APART:
            found.same(heads, fact.shape[2 if is_packed else 1])
        fixed(*fact.shape[3 if is_packed or fact.rank == _HEADS_APART else 2 :])
    keys = given[0].shape[along] if given else length
    keys = keys + _past(found, batch, (past, passed))
    _masked(found, (batch, heads, length, keys), mask, added)


def cached(found: Agreement, node: Node, facts: Facts, _: Sequence[Fact]) -> None:
    """Queries, keys, values and a cache of one batch; as many of the new ones each."""
    query, *others = facts
    pasts, filled, lengths, more = others[2:4], others[4], others[5], others[8:]
    sinks = [fact for fact in more[2:3] if fact is not None]
    if query is None or filled is None or any(fact is not None for fact in more[3:]):
        raise NothingSaid
    fixed(*filled.shape[1:], *(n for sink in sinks for n in sink.shape))
    found.same(query.shape[0], filled.shape[0])
    heads, groups = (node.attributes[name].value for name in ("num_heads", "kv_num_heads"))
    count = heads + 2 * groups if others[0] is None else heads
    size = query.shape[2] // count
    found.same(query.shape[2], count * size)
    for fact in (*others[:2], *more[:1]):
        if fact is not None:
            found.same(query.shape[0], fact.shape[0])
            found.same(query.shape[1], fact.shape[1])
    for fact in others[:2]:
        if fact is not None:
            found.same(fact.shape[2], groups * size)
    for fact in pasts:
        if fact is not None and pasts[0] is not None:
            found.same(query.shape[0], fact.shape[0])
            found.same(pasts[0].shape[2], fact.shape[2])
            found.same(fact.shape[3], size)
            fixed(fact.shape[1])
    if len(more) > 1 and more[1] is not None:
        _fits(found, more[1].shape, (query.shape[0], heads, query.shape[1], _told(lengths)))


def _told(length: Fact | None) -> DimLike:
    """The number that a value holds."""
    found = None if length is None else dims_of(length.value)
    if not found:
        raise NothingSaid
    return found[0]


def _fits(found: Agreement, shape: Shape, whole: Shape) -> None:
    """Ask that a bias of ``shape`` is for scores of ``whole``: for one batch or head, or all."""
    for extent, wanted in zip(shape[:2], whole, strict=False):
        found.same((wanted - extent) * (extent - 1), 0)
    for extent, wanted in zip(shape[2:], whole[2:], strict=True):
        found.same(extent, 1 if extent == 1 else wanted)


def embedding(found: Agreement, node: Node, facts: Facts, _: Sequence[Fact]) -> None:
    """Numbers of rows in stored tables; what else is said of them is as long as they are."""
    ids, segments, *tables, mask, eighth = _padded(facts[:9], 9)
    is_quantized = node.op_type.startswith("Q")
    positions = None if is_quantized else eighth
    rest = [fact for fact in (*tables, *facts[8 if is_quantized else 9 :]) if fact is not None]
    fixed(*(n for fact in rest for n in fact.shape))
    if ids is None or tables[1] is None:
        raise NothingSaid
    batch, length = ids.shape
    for fact in (segments, mask):
        if fact is not None:
            found.same(batch, fact.shape[0])
            found.same(length, fact.shape[1])
    if positions is None:
        found.reach.append((tables[1].shape[0], length))
    else:
        _broadcasts(found, positions.shape[:1], (batch,))
        found.same(length, positions.shape[1])


def rotary(found: Agreement, node: Node, facts: Facts, _: Sequence[Fact]) -> None:
    """Rows to be rotated by angles from tables, or each by its own; a position for each row."""
    data, *others = _padded(facts, 4)
    positions, caches = (others[0], others[1:]) if node.domain else (others[2], others[:2])
    if data is None:
        raise NothingSaid
    along = 2 if data.rank == _HEADS_APART else 1
    fixed(*(n for axis, n in enumerate(data.shape) if axis not in {0, along}))
    rows = data.shape[0], data.shape[along]
    for fact in caches:
        if fact is not None and positions is None:
            fixed(*fact.shape[2:])
            _equal(found, fact.shape[:2], rows)
        elif fact is not None:
            fixed(*fact.shape)
    if positions is not None and positions.rank > 1:
        _equal(found, positions.shape, rows)
    elif positions is not None:
        found.same(1, positions.shape[0])


def numbers(found: Agreement, _: Node, facts: Facts, __: Sequence[Fact]) -> None:
    """Data of any extents; each other input is one number."""
    for fact in facts[1:]:
        for extent in () if fact is None else fact.shape:
            found.same(extent, 1)


def scaled(found: Agreement, node: Node, facts: Facts, _: Sequence[Fact]) -> None:
    """Elements with one scale and zero point, or with one for each index of an axis."""
    data, *given = facts
    shapes = [fact.shape for fact in given if fact is not None]
    if data is None or ("block_size" in node.attributes and node.attributes["block_size"].value):
        raise NothingSaid
    if all(n == 1 for shape in shapes for n in shape):
        return
    axis = node.attributes["axis"].value if "axis" in node.attributes else 1
    for shape in shapes:
        _equal(found, shape, (data.shape[axis],))


def product_of_bytes(found: Agreement, node: Node, facts: Facts, _: Sequence[Fact]) -> None:
    """Factors of which the left one has one scale and zero point, the right one some by column."""
    place, per_column = _BYTES[node.op_type]
    left, right = facts[0], facts[place]
    if left is None or right is None:
        raise NothingSaid
    one, other = (_turned(node, n, f.shape) for n, f in (("transA", left), ("transB", right)))
    found.same(one[-1], other[-2] if len(other) > 1 else other[0])
    for number, fact in enumerate(facts):
        if fact is None or number in {0, place} or all(n == 1 for n in fact.shape):
            continue
        if number not in per_column:
            raise NothingSaid
        _equal(found, fact.shape, other[-1:])
    for some, more in zip(reversed(one[:-2]), reversed(other[:-2]), strict=False):
        _broadcasts(found, *(((some,), (more,)) if more != 1 else ((more,), (some,))))


_BYTES: dict[str, tuple[int, frozenset[int]]] = {
    "DynamicQuantizeMatMul": (1, frozenset({2, 3, 4})),
    "MatMulInteger": (1, frozenset({3})),
    "MatMulIntegerToFloat": (1, frozenset({3, 5, 6})),
    "QGemm": (3, frozenset({4, 5, 6})),
    "QLinearMatMul": (3, frozenset({4, 5})),
}
"""Which input is the right factor, and which may have a number for each of its columns."""


def packed_product(found: Agreement, node: Node, facts: Facts, _: Sequence[Fact]) -> None:
    """Rows as long as the columns of weights that have as many elements as attributes say."""
    stored = [extent for fact in facts[1:] if fact is not None for extent in fact.shape]
    if facts[0] is None or any(known(extent) is None for extent in stored):
        raise NothingSaid
    found.same(facts[0].shape[-1], node.attributes["K"].value)


def joined_bytes(found: Agreement, node: Node, facts: Facts, _: Sequence[Fact]) -> None:
    """Tensors that are joined, each with a scale and a zero point."""
    fixed(*(n for k, f in enumerate(facts) if f is not None and k % 3 != _JOINED for n in f.shape))
    shapes = [fact.shape for fact in facts[_JOINED::3] if fact is not None]
    axis = node.attributes["axis"].value % len(shapes[0])
    for shape in shapes[1:]:
        _equal(found, (*shape[:axis], *shape[axis + 1 :]), (
            *shapes[0][:axis], *shapes[0][axis + 1 :]
        ))  # fmt: skip


_JOINED = 2
"""The first tensor of QLinearConcat, behind scale and zero point of the result."""
_HEADS_APART = 4
"""Axes of queries, keys and values with an axis of heads."""


def _padded(facts: Facts, count: int) -> list[Fact | None]:
    """``facts``, those that are left out included."""
    return [*facts, *[None] * (count - len(facts))]


def _turned(node: Node, name: str, shape: Shape) -> Shape:
    is_turned = name in node.attributes and bool(node.attributes[name].value)
    return (*shape[:-2], *reversed(shape[-2:])) if is_turned else shape


def _equal(found: Agreement, shape: Shape, wanted: Shape) -> None:
    """Ask for ``wanted``, axis by axis."""
    if len(shape) != len(wanted):
        raise NothingSaid
    for one, other in zip(shape, wanted, strict=True):
        found.same(one, other)


def _broadcasts(found: Agreement, shape: Shape, whole: Shape) -> None:
    """Ask that ``shape`` broadcasts to ``whole``."""
    for one, other in zip(reversed(shape), reversed(whole), strict=False):
        if one != 1:
            found.broadcast(one, other)


def _alike(found: Agreement, one: DimLike, other: DimLike) -> None:
    """Ask that they are equal where one of them is open; of numbers inference has asked."""
    if known(one) is None or known(other) is None:
        found.same(one, other)


def _past(found: Agreement, batch: DimLike, pair: Sequence[Fact | None]) -> DimLike:
    """How many keys and values there were before, [batch, heads, length, size]."""
    past, passed = pair
    if past is None or passed is None:
        return 0
    for fact in (past, passed):
        found.same(batch, fact.shape[0])
        fixed(fact.shape[1], fact.shape[3])
    found.same(past.shape[2], passed.shape[2])
    return past.shape[2]


def _masked(found: Agreement, scores: Shape, mask: Fact | None, added: Fact | None) -> None:
    """Ask that a mask of com.microsoft's attention, and what is added, fit ``scores``."""
    batch, _, queries, keys = scores
    if added is not None:
        _broadcasts(found, added.shape, scores)
    shape = () if mask is None else mask.shape
    if len(shape) == 1:
        counts = (batch, 2 * batch, 3 * batch + 2)
        found.same(math.prod(shape[0] - count for count in counts), 0)
    elif len(shape) > 1:
        _broadcasts(found, shape[:1], (batch,))
    if len(shape) in {2, 3}:
        _equal(found, shape[1:], (queries, keys)[3 - len(shape) :])
    elif len(shape) == _HEADS_APART:
        found.same(1, shape[1])
        found.reach += [(n, keys) for n in shape[2:] if known(n - keys) != 0]


__all__ = [
    "attention", "cached", "embedding", "joined_bytes", "multi_head", "numbers",
    "packed_product", "product_of_bytes", "rotary", "scaled", "self_attention",
]  # fmt: skip
