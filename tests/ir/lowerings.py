"""Lowerings that prove the loop form on the operators that strain it.

Each has the signature and the meaning of its operator's ``lower`` rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from fornix.dtype import FLOAT32, INT64, DType
from fornix.ir.dim import DimLike, ceildiv, maximum, minimum
from fornix.ir.loops import (
    Scalar,
    Tensor,
    compute,
    constant,
    gathered,
    index,
    load,
    opaque,
    reduce,
    scan,
    scatter,
)
from fornix.ir.types import TensorType
from fornix.ops import scalar as s
from fornix.ops.window import Window


class LowerNode(Protocol):
    output_types: tuple[TensorType, ...]


def wide(dtype: DType) -> DType:
    """The dtype in which floats of ``dtype`` are computed."""
    return FLOAT32 if dtype.is_float and dtype.bits < 32 else dtype


def widened(x: Tensor) -> Tensor:
    return compute(x.shape, lambda *i: s.cast(x[i], wide(x.dtype)))


def narrowed(x: Tensor, dtype: DType) -> Tensor:
    return compute(x.shape, lambda *i: s.cast(x[i], dtype))


# ── elementwise and rows ───────────────────────────────────────────────────────────────────────


def gelu(x: Any, *, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return 0.5 * x * (1.0 + s.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1.0 + s.erf(x * math.sqrt(0.5)))


def lower_gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return compute(x.shape, lambda *i: gelu(x[i], approximate=approximate))


def over(op: str, x: Tensor, axis: int) -> Tensor:
    """The reduction of ``x`` along ``axis``, which goes."""

    def at(*i: DimLike) -> Scalar:
        return reduce(op, x.shape[axis], lambda k: x[(*i[:axis], k, *i[axis:])])

    return compute((*x.shape[:axis], *x.shape[axis + 1 :]), at)


def lower_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    axis %= x.rank
    given, x = x.dtype, widened(x)
    top = over("max", x, axis)
    e = compute(x.shape, lambda *i: s.exp(x[i] - top[(*i[:axis], *i[axis + 1 :])]))
    total = over("sum", e, axis)
    y = compute(x.shape, lambda *i: e[i] / total[(*i[:axis], *i[axis + 1 :])])
    return narrowed(y, given)


def lower_layer_normalization(
    x: Tensor, scale: Tensor, b: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    axis %= x.rank
    given, x = x.dtype, widened(x)
    outer, inner = x.shape[:axis], x.shape[axis:]
    count: Any = math.prod(inner)

    def mean_of(f: Any) -> Any:
        return lambda *i: reduce("sum", inner, lambda *k: f(*i, *k)) / s.cast(index(count), x.dtype)

    mean = compute(outer, mean_of(lambda *i: x[i]))
    d = compute(x.shape, lambda *i: x[i] - mean[i[:axis]])
    inverse = compute(outer, lambda *i: 1.0 / s.sqrt(mean_of(lambda *k: d[k] * d[k])(*i) + epsilon))

    def at(*i: DimLike) -> Scalar:
        y = s.cast(d[i] * inverse[i[:axis]], given)
        y = s.cast(y, x.dtype) * s.cast(scale[i[axis:]], x.dtype)
        return s.cast(y if b is None else y + s.cast(b[i[axis:]], x.dtype), given)

    def kept(t: Tensor) -> Tensor:
        return compute((*outer, *(1 for _ in inner)), lambda *i: t[i[:axis]])

    return compute(x.shape, at), kept(mean), kept(inverse)


def lower_arg_max(
    data: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
) -> Tensor:
    """The least (or greatest) k where x[k] equals the maximum; NaN counts as the maximum."""
    axis %= data.rank
    n = data.shape[axis]
    top = over("max", data, axis)
    best, worst = ("max", -1) if select_last_index else ("min", n)

    def at(*i: DimLike) -> Scalar:
        before, after = i[:axis], i[axis + 1 :] if keepdims else i[axis:]

        def candidate(k: DimLike) -> Scalar:
            x = data[(*before, k, *after)]
            found = s.equal(x, top[(*before, *after)])
            if data.dtype.is_float:
                found = s.logical_or(found, s.isnan(x))
            return s.where(found, index(k), index(worst))

        return reduce(best, n, candidate)

    kept = (1,) if keepdims else ()
    return compute((*data.shape[:axis], *kept, *data.shape[axis + 1 :]), at)


# ── movement ───────────────────────────────────────────────────────────────────────────────────


def lower_transpose(data: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    order = list(perm or range(data.rank)[::-1])
    source = [order.index(a) for a in range(data.rank)]
    return compute([data.shape[a] for a in order], lambda *i: data[tuple(i[a] for a in source)])


def lower_reshape(data: Tensor, *_shape: Tensor, node: LowerNode) -> Tensor:
    """An index becomes a flat address and that an index again; in memory, the address serves."""
    shape = [d for d in node.output_types[0].shape or () if d is not None]
    if 0 in shape:
        return compute(shape, lambda *_: 0, data.dtype)

    def at(*i: DimLike) -> Scalar:
        flat: DimLike = 0
        for k, n in zip(i, shape, strict=True):
            flat = flat * n + k
        if data.buffer is not None and data.buffer.is_row_major:
            return load(data.buffer, flat)
        place: list[DimLike] = []
        for n in data.shape[:0:-1]:
            place.insert(0, flat % n)
            flat = flat // n
        return data[(flat, *place) if data.rank else ()]

    return compute(shape, at)


def lower_slice(
    data: Tensor,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
) -> Tensor:
    shape: list[DimLike] = list(data.shape)
    first: list[DimLike] = [0] * data.rank
    stride = [1] * data.rank
    chosen = range(len(starts)) if axes is None else axes
    for axis, start, end, step in zip(
        chosen, starts, ends, steps or [1] * len(starts), strict=True
    ):
        n = data.shape[axis]
        low, high = (0, n) if step > 0 else (-1, n - 1)
        a = minimum(maximum(start + n if start < 0 else start, low), high)
        z = minimum(maximum(end + n if end < 0 else end, low), high)
        first[axis], stride[axis] = a, step
        shape[axis] = maximum(ceildiv(z - a, step), 0)
    return compute(
        shape,
        lambda *i: data[tuple(a + k * q for a, k, q in zip(first, i, stride, strict=True))],
    )


def lower_concat(*inputs: Tensor, axis: int) -> Tensor:
    """One guarded read per input; the last part needs no choice."""
    ends: list[DimLike] = [0]
    for x in inputs:
        ends.append(ends[-1] + x.shape[axis])

    def at(*i: DimLike) -> Scalar:
        def part(k: int) -> Scalar:
            return inputs[k].get((*i[:axis], i[axis] - ends[k], *i[axis + 1 :]), 0)

        result = part(len(inputs) - 1)
        for k in reversed(range(len(inputs) - 1)):
            result = s.where(index(i[axis]) < index(ends[k + 1]), part(k), result)
        return result

    shape = list(inputs[0].shape)
    shape[axis] = ends[-1]
    return compute(shape, at)


def lower_gather(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis %= data.rank
    inner = axis + indices.rank

    def at(*i: DimLike) -> Scalar:
        k = gathered(indices[i[axis:inner]], data.shape[axis], wraps=True)
        return data[(*i[:axis], k, *i[inner:])]

    return compute((*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]), at)


def lower_upsample(x: Tensor, *, scales: Sequence[float], mode: str = "nearest") -> Tensor:
    assert mode == "nearest"
    exact = [Fraction(scale).limit_denominator(1 << 20) for scale in scales]
    shape = [n * f.numerator // f.denominator for n, f in zip(x.shape, exact, strict=True)]

    def at(*i: DimLike) -> Scalar:
        return x[tuple(k * f.denominator // f.numerator for k, f in zip(i, exact, strict=True))]

    return compute(shape, at)


# ── windows and contractions ───────────────────────────────────────────────────────────────────


def lower_matmul(a: Tensor, b: Tensor) -> Tensor:
    (*batch_a, m, k), (*batch_b, _, n) = a.shape, b.shape
    rank = max(len(batch_a), len(batch_b))
    pairs = zip(
        [1] * (rank - len(batch_a)) + list(batch_a),
        [1] * (rank - len(batch_b)) + list(batch_b),
        strict=True,
    )
    batch = tuple(q if p == 1 else p for p, q in pairs)

    def read(x: Tensor, i: tuple[DimLike, ...], *last: DimLike) -> Scalar:
        own = i[rank - x.rank + 2 :]
        lead = tuple(0 if n == 1 else v for v, n in zip(own, x.shape[:-2], strict=True))
        return x[(*lead, *last)]

    def at(*i: DimLike) -> Scalar:
        return reduce("sum", k, lambda r: read(a, i[:rank], i[-2], r) * read(b, i[:rank], r, i[-1]))

    return compute((*batch, m, n), at)


def lower_conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    **window: Any,
) -> Tensor:
    (n, _, *size), (m, per_group, *taps) = x.shape, w.shape
    win = Window.of(size, taps, **window)
    per_filter = m // group

    def at(b_: DimLike, f: DimLike, *o: DimLike) -> Scalar:
        def tap(c: DimLike, *k: DimLike) -> Scalar:
            place = [
                i * stride + j * dilation - before
                for i, j, stride, dilation, before in zip(
                    o, k, win.stride, win.dilation, win.before, strict=True
                )
            ]
            return x.get((b_, f // per_filter * per_group + c, *place), 0) * w[(f, c, *k)]

        y = reduce("sum", (per_group, *taps), tap)
        return y if b is None else y + b[f]

    return compute((n, m, *win.out), at)


def lower_max_pool(x: Tensor, *, kernel_shape: Sequence[int], **window: Any) -> Tensor:
    n, c, *size = x.shape
    win = Window.of(size, kernel_shape, **window)
    lowest = -math.inf if x.dtype.is_float else int(np.iinfo(x.dtype.numpy).min)

    def at(b: DimLike, f: DimLike, *o: DimLike) -> Scalar:
        def tap(*k: DimLike) -> Scalar:
            place = [
                i * stride + j * dilation - before
                for i, j, stride, dilation, before in zip(
                    o, k, win.stride, win.dilation, win.before, strict=True
                )
            ]
            return x.get((b, f, *place), lowest)

        return reduce("max", win.taps, tap)

    return compute((n, c, *win.out), at)


# ── recurrence ─────────────────────────────────────────────────────────────────────────────────


def lower_cumsum(x: Tensor, *, axis: int, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """h[t + 1] = h[t] + x[t] along ``axis``; the sum before x[t] is h[t]."""
    n = x.shape[axis]
    rest = (*x.shape[:axis], *x.shape[axis + 1 :])

    def step(t: DimLike, total: Tensor) -> Tensor:
        k = n - 1 - t if reverse else t
        return compute(rest, lambda *i: total[i] + x[(*i[:axis], k, *i[axis:])])

    (sums,) = scan(n, [compute(rest, lambda *_: 0, x.dtype)], step)

    def at(*i: DimLike) -> Scalar:
        t = n - 1 - i[axis] if reverse else i[axis]
        return sums[(t if exclusive else t + 1, *i[:axis], *i[axis + 1 :])]

    return compute(x.shape, at)


def sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + s.exp(-x))


@dataclass(frozen=True)
class Lstm:
    """One LSTM layer: gates in the order i, o, f, c; peepholes in the order i, o, f."""

    x: Tensor
    w: Tensor
    r: Tensor
    b: Tensor | None
    sequence_lens: Tensor | None
    p: Tensor | None
    hidden: int

    @property
    def shape(self) -> tuple[DimLike, DimLike]:
        return self.x.shape[1], self.hidden

    def length(self, n: DimLike) -> Scalar:
        if self.sequence_lens is None:
            return index(self.x.shape[0])
        return s.cast(self.sequence_lens[n], INT64)

    def place(self, t: DimLike, n: DimLike, *, backward: bool) -> DimLike:
        """Where step ``t`` reads sequence ``n``; a step behind its end reads in place."""
        steps = self.x.shape[0]
        if not backward or self.sequence_lens is None:
            return steps - 1 - t if backward else t
        at = s.where(index(t) < self.length(n), self.length(n) - 1 - index(t), index(t))
        return gathered(at, steps)

    def gate(self, k: int, d: int, at: tuple[DimLike, DimLike, DimLike], h: Tensor) -> Scalar:
        place, n, j = at
        row = k * self.hidden + j
        y = reduce("sum", self.x.shape[2], lambda q: self.x[place, n, q] * self.w[d, row, q])
        y = y + reduce("sum", self.hidden, lambda q: h[n, q] * self.r[d, row, q])
        if self.b is None:
            return y
        return y + self.b[d, row] + self.b[d, 4 * self.hidden + row]

    def peephole(self, k: int, d: int, j: DimLike, cell: Scalar) -> Scalar | float:
        return 0.0 if self.p is None else self.p[d, k * self.hidden + j] * cell

    def run(self, d: int, start: tuple[Tensor, Tensor], *, backward: bool) -> tuple[Tensor, ...]:
        """The histories of h and c in direction ``d``."""

        def step(t: DimLike, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
            def gate(k: int, n: DimLike, j: DimLike) -> Scalar:
                return self.gate(k, d, (self.place(t, n, backward=backward), n, j), h)

            def new_cell(n: DimLike, j: DimLike) -> Scalar:
                i = sigmoid(gate(0, n, j) + self.peephole(0, d, j, c[n, j]))
                f = sigmoid(gate(2, n, j) + self.peephole(2, d, j, c[n, j]))
                return f * c[n, j] + i * s.tanh(gate(3, n, j))

            def new_output(n: DimLike, j: DimLike) -> Scalar:
                o = sigmoid(gate(1, n, j) + self.peephole(1, d, j, cell[n, j]))
                return o * s.tanh(cell[n, j])

            def while_alive(new: Tensor, old: Tensor) -> Tensor:
                return compute(
                    self.shape,
                    lambda n, j: s.where(index(t) < self.length(n), new[n, j], old[n, j]),
                )

            cell = compute(self.shape, new_cell)
            return while_alive(compute(self.shape, new_output), h), while_alive(cell, c)

        return scan(self.x.shape[0], start, step)


def lower_lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    p: Tensor | None = None,
    *,
    hidden_size: int,
    direction: str = "forward",
) -> tuple[Tensor, Tensor, Tensor]:
    cell = Lstm(x, w, r, b, sequence_lens, p, hidden_size)
    steps = x.shape[0]
    ways = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]

    def start(d: int, given: Tensor | None) -> Tensor:
        if given is None:
            return compute(cell.shape, lambda *_: 0, x.dtype)
        return compute(cell.shape, lambda n, j: given[d, n, j])

    runs = [
        cell.run(d, (start(d, initial_h), start(d, initial_c)), backward=backward)
        for d, backward in enumerate(ways)
    ]

    def of_way(d: DimLike, value: Callable[[int], Scalar]) -> Scalar:
        return value(0) if len(runs) == 1 else s.where(s.equal(index(d), 0), value(0), value(1))

    def y_at(t: DimLike, d: DimLike, n: DimLike, j: DimLike) -> Scalar:
        def shown(q: int) -> Scalar:
            return runs[q][0][cell.place(t, n, backward=ways[q]) + 1, n, j]

        return s.where(index(t) < cell.length(n), of_way(d, shown), 0)

    def last(state: int) -> Tensor:
        def at(d: DimLike, n: DimLike, j: DimLike) -> Scalar:
            return of_way(d, lambda q: runs[q][state][steps, n, j])

        return compute((len(runs), *cell.shape), at)

    return compute((steps, len(runs), *cell.shape), y_at), last(0), last(1)


# ── writes where data says, tables, Python kernels ─────────────────────────────────────────────


def lower_scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none"
) -> Tensor:
    *_, depth = indices.shape
    assert isinstance(depth, int)
    lead = indices.rank - 1

    def place(*u: DimLike) -> tuple[DimLike, ...]:
        found = [gathered(indices[(*u[:lead], k)], data.shape[k], wraps=True) for k in range(depth)]
        return (*found, *u[lead:])

    op = {"none": None, "add": "sum", "mul": "prod", "max": "max", "min": "min"}[reduction]
    return scatter(data, updates.shape, place, lambda *u: updates[u], op)


def lower_top_k(
    x: Tensor, k: int, *, axis: int = -1, largest: int = 1, **attributes: int
) -> tuple[Tensor, ...]:
    shape = list(x.shape)
    shape[axis] = k
    return opaque(
        "TopK",
        [x],
        [(shape, x.dtype), (shape, INT64)],
        reason="a selection is not a function of one element",
        k=k,
        axis=axis,
        largest=largest,
        **attributes,
    )


def lower_tree_ensemble_regressor(
    x: Tensor,
    *,
    nodes_treeids: Sequence[int],
    nodes_nodeids: Sequence[int],
    nodes_featureids: Sequence[int],
    nodes_values: Sequence[float],
    nodes_modes: Sequence[str],
    nodes_truenodeids: Sequence[int],
    nodes_falsenodeids: Sequence[int],
    target_treeids: Sequence[int],
    target_nodeids: Sequence[int],
    target_ids: Sequence[int],
    target_weights: Sequence[float],
    n_targets: int = 1,
    **_unused: Any,
) -> Tensor:
    """All trees step down together; a leaf is its own child, so ``depth`` steps end at leaves."""
    assert set(nodes_modes) <= {"BRANCH_LEQ", "LEAF"}
    ids = {key: k for k, key in enumerate(zip(nodes_treeids, nodes_nodeids, strict=True))}
    leaf = np.array([mode == "LEAF" for mode in nodes_modes])
    own = np.arange(len(leaf))

    def children(of: Sequence[int]) -> np.ndarray:
        found = [ids.get(key, 0) for key in zip(nodes_treeids, of, strict=True)]
        return np.where(leaf, own, found)

    yes, no = children(nodes_truenodeids), children(nodes_falsenodeids)
    trees = sorted(set(nodes_treeids))
    roots = np.array([nodes_treeids.index(t) for t in trees])
    depth, reached = 0, set(roots.tolist())
    while any(not leaf[k] for k in reached):
        reached = {int(c[k]) for k in reached for c in (yes, no) if not leaf[k]}
        depth += 1
    weights = np.zeros((len(leaf), n_targets), np.float32)
    for tree, node, target, weight in zip(
        target_treeids, target_nodeids, target_ids, target_weights, strict=True
    ):
        weights[ids[tree, node], target] += weight
    feature = constant(np.where(leaf, 0, np.array(nodes_featureids)))
    threshold = constant(np.array(nodes_values, np.float32))
    low, high, root = constant(yes), constant(no), constant(roots)
    weight_of = constant(weights)
    shape = (x.shape[0], len(trees))

    def step(_t: DimLike, node: Tensor) -> Tensor:
        def at(n: DimLike, t: DimLike) -> Scalar:
            here = node[n, t]
            below = s.less_equal(x[n, feature[here]], threshold[here])
            return s.where(below, low[here], high[here])

        return compute(shape, at)

    (walk,) = scan(depth, [compute(shape, lambda _, t: root[t])], step)
    return compute(
        (x.shape[0], n_targets),
        lambda n, q: reduce("sum", len(trees), lambda t: weight_of[walk[depth, n, t], q]),
    )
