"""Elements put at given positions: ScatterElements, ScatterND, TensorScatter.

All copy their first input and write into the copy. Where positions repeat, the last update wins, or
a reduction takes all of them in, in row-major order of the updates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fornix.dtype import DType
from fornix.errors import DTypeError, Fail, ShapeError, require
from fornix.ir.dim import DimLike, equal, known
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import IndexLike, Tensor, apply, cast, gathered, index, scatter
from fornix.ops.adapt import check_attribute
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.gather import check_inside, checked
from fornix.ops.geometry import normalize_axis, shape_text, unified
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, wide_dtype
from fornix.ops.types import BF16, E8M0, F4, F8, I4, I32, I64, TENSOR

REDUCTIONS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
"""How updates are taken in, from opset 16 on.

The text has max and min since 18 only; exporters of PyTorch write them in 16 and 17, too.
"""

Scatter = (
    op("Scatter <axis: int = 0> (data: T, indices: Tind, updates: T) => (output: T)",
       since=9, T=TENSOR, Tind=I32 | I64)
    .since(11, deprecated=True)
)  # fmt: skip


@Scatter.adapt(9, 11)
def scatter_to_elements(node: Node, _: Graph) -> None:
    """The same under another name."""
    node.op_type = "ScatterElements"


ScatterElements = (
    op("ScatterElements <axis: int = 0> (data: T, indices: Tind, updates: T) => (output: T)",
       since=11, T=TENSOR, Tind=I32 | I64)
    .since(13, T=+BF16)
    .since(16, """ScatterElements <axis: int = 0, reduction: string = "none">
                      (data: T, indices: Tind, updates: T) => (output: T)""")
    .since(18, note="reductions max and min")
)  # fmt: skip


@ScatterElements.adapt(11, 9)
def elements_to_scatter(node: Node, _: Graph) -> None:
    node.op_type = "Scatter"


@ScatterElements.adapt(18, 16)
def scatter_18_to_16(node: Node, _: Graph) -> None:
    """Elements are added or multiplied; the greatest and the least came later."""
    check_attribute(node, "reduction", ["none", "add", "mul"], 18, default="none")


@Scatter.infer
@ScatterElements.infer
def infer_scatter_elements(
    data: Fact, indices: Fact, updates: Fact, *, axis: int, reduction: str = "none"
) -> Fact:
    _check_reduction(reduction, data.dtype)
    place = normalize_axis(axis, data.rank)
    if indices.has_rank and updates.has_rank:
        _check_elements(data.shape, indices.shape, updates.shape, place)
    return tensor(data.dtype, data.shape)


@Scatter.kernel
@ScatterElements.kernel
def scatter_elements(
    data: Array,
    indices: Array,
    updates: Array,
    *,
    axis: int,
    reduction: str = "none",
) -> Array:
    """``data`` with each element of ``updates`` put into its line along ``axis``.

    output[i, indices[i, j, k], k] = updates[i, j, k] for axis = 1, and so on for any rank and axis;
    with a ``reduction`` the update is combined with what stands there.
    Raises Fail if an index is out of range. Source: ONNX ScatterElements-18.
    """
    _check_reduction(reduction, DType.of(data.dtype))
    place = normalize_axis(axis, data.ndim)
    _check_elements(data.shape, indices.shape, updates.shape, place)
    where: list[Array] = [indices]
    if data.ndim > 1:
        where = list(np.indices(indices.shape, sparse=True))
    where[place] = checked(indices, data.shape[place], place)
    return _written(data, tuple(where), updates, reduction)


@Scatter.lower
@ScatterElements.lower
def lower_scatter_elements(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    *,
    axis: int,
    reduction: str = "none",
    node: LowerNode,
) -> Tensor:
    _check_reduction(reduction, data.dtype)
    place = normalize_axis(axis, data.rank)
    _check_elements(data.shape, indices.shape, updates.shape, place)

    def target(*u: DimLike) -> tuple[IndexLike, ...]:
        where = gathered(indices[u], data.shape[place], wraps=True)
        return (*u[:place], where, *u[place + 1 :])

    return _scattered(data, indices.shape, target, updates, reduction, node)


def _scattered(
    data: Tensor,
    extents: Sequence[DimLike],
    target: Callable[..., tuple[IndexLike, ...]],
    updates: Tensor,
    reduction: str,
    node: LowerNode,
) -> Tensor:
    if reduction == "none":
        return scatter(data, extents, target, lambda *u: updates[u])
    if data.dtype.kind == "bool":
        node.decline("loops do not add or multiply truth values")
    wide = wide_dtype(data.dtype)
    sums = scatter(
        cast_tensor(data, wide), extents, target, lambda *u: cast(updates[u], wide),
        {"add": "sum", "mul": "prod"}.get(reduction, reduction),
    )  # fmt: skip
    return cast_tensor(sums, data.dtype)


def _check_elements(
    data: Sequence[DimLike], indices: Sequence[DimLike], updates: Sequence[DimLike], axis: int
) -> None:
    check_inside(data, indices, axis)
    agree = len(indices) == len(updates) and all(
        n == m or unified((n, m)) is not None for n, m in zip(indices, updates, strict=True)
    )
    if not agree:
        raise ShapeError(
            f"updates{shape_text(updates)} must have the shape of indices{shape_text(indices)}"
        )


def _check_reduction(reduction: str, dtype: DType | None) -> None:
    names = ["none", *REDUCTIONS]
    require(
        reduction in names,
        f"reduction must be one of {', '.join(names)}, got {reduction!r}",
    )
    require(
        reduction == "none" or dtype is None or dtype.kind != "string",
        f"reduction {reduction} needs numbers, found {dtype}",
        DTypeError,
    )


def _written(data: Array, where: tuple[Array, ...], updates: Array, reduction: str) -> Array:
    """A copy of ``data`` with ``updates`` at ``where``; narrow floats are rounded once."""
    if reduction == "none":
        result = data.copy()
        result[where] = updates
        return result
    wide = wide_dtype(DType.of(data.dtype))
    result = data.astype(wide.numpy)
    REDUCTIONS[reduction].at(result, where, updates.astype(result.dtype))
    return result.astype(data.dtype, copy=False)


ScatterND = (
    op("ScatterND (data: T, indices: tensor(int64), updates: T) => (output: T)",
       since=11, T=TENSOR)
    .since(13, T=+BF16)
    .since(16, """ScatterND <reduction: string = "none">
                      (data: T, indices: tensor(int64), updates: T) => (output: T)""")
    .since(18, note="reductions max and min")
)  # fmt: skip


ScatterND.adapt(18, 16)(scatter_18_to_16)


@ScatterND.infer
def infer_scatter_nd(data: Fact, indices: Fact, updates: Fact, *, reduction: str = "none") -> Fact:
    _check_reduction(reduction, data.dtype)
    depth = known(indices.shape[-1]) if indices.has_rank and indices.rank else None
    if depth is not None and updates.has_rank:
        _check_parts(data.shape, indices.shape, updates.shape, depth)
    return tensor(data.dtype, data.shape)


@ScatterND.kernel
def scatter_nd(data: Array, indices: Array, updates: Array, *, reduction: str = "none") -> Array:
    """``data`` with each part of ``updates`` put where the last axis of ``indices`` says.

    data[*D, *E] · indices[*I, k] · updates[*I, *E] → output[*D, *E], the k entries indexing the
    axes D; with a ``reduction`` the update is combined with what stands there.
    Raises Fail if an index is out of range. Source: ONNX ScatterND-18.
    """
    _check_reduction(reduction, DType.of(data.dtype))
    depth = indices.shape[-1] if indices.ndim else 0
    _check_parts(data.shape, indices.shape, updates.shape, depth)
    where = tuple(checked(indices[..., j], data.shape[j], j) for j in range(depth))
    return _written(data, where, updates, reduction)


@ScatterND.lower
def lower_scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none", node: LowerNode
) -> Tensor:
    _check_reduction(reduction, data.dtype)
    depth = known(indices.shape[-1]) if indices.rank else 0
    if depth is None:
        node.decline("how many axes its indices address depends on an extent")
    _check_parts(data.shape, indices.shape, updates.shape, depth)
    lead = indices.rank - 1

    def target(*u: DimLike) -> tuple[IndexLike, ...]:
        where = [gathered(indices[(*u[:lead], j)], data.shape[j], wraps=True) for j in range(depth)]
        return (*where, *u[lead:])

    return _scattered(data, updates.shape, target, updates, reduction, node)


def _check_parts(
    data: Sequence[DimLike], indices: Sequence[DimLike], updates: Sequence[DimLike], depth: int
) -> None:
    require(
        1 <= depth <= len(data),
        f"the last axis of indices{shape_text(indices)} must index 1 to {len(data)} axes of "
        f"data{shape_text(data)}, found {depth}",
    )
    wanted = (*indices[:-1], *data[depth:])
    agree = len(wanted) == len(updates) and all(
        unified(pair) is not None for pair in zip(wanted, updates, strict=True)
    )
    require(
        agree,
        f"updates must be {shape_text(wanted)} for data{shape_text(data)} and "
        f"indices{shape_text(indices)}, found {shape_text(updates)}",
    )


TensorScatter = op(
    """TensorScatter <axis: int = -2, mode: string = "linear">
           (past_cache: T, update: T, write_indices: tensor(int64)?) => (present_cache: T)""",
    since=24, T=TENSOR | F8 | I4 | BF16 | E8M0 | F4,
)  # fmt: skip


@TensorScatter.infer
def infer_tensor_scatter(
    past_cache: Fact,
    update: Fact,
    write_indices: Fact | None = None,
    *,
    axis: int,
    mode: str,
) -> Fact:
    if update.has_rank:
        _check_cache(past_cache.shape, update.shape, axis, mode)
    if write_indices is not None and write_indices.has_rank:
        _check_starts(write_indices.shape, past_cache.shape[0])
    return tensor(past_cache.dtype, past_cache.shape)


def _check_starts(shape: Sequence[DimLike], batch: DimLike) -> None:
    fits = len(shape) == 1 and equal(shape[0], batch) is not False
    require(fits, f"write_indices must be [{batch}], found {shape_text(shape)}")


@TensorScatter.kernel
def tensor_scatter(
    past_cache: Array,
    update: Array,
    write_indices: Array | None = None,
    *,
    axis: int,
    mode: str,
) -> Array:
    """``past_cache`` with ``update`` written along ``axis`` from ``write_indices`` on.

    past_cache[B, *D, M, *E] · update[B, *D, S, *E] · write_indices[B] → present_cache[B, *D, M, *E]
    Mode circular goes on at the front of the axis, mode linear requires the update to fit.
    Raises Fail if it does not. Source: ONNX TensorScatter-24.
    """
    place = _check_cache(past_cache.shape, update.shape, axis, mode)
    batch, longest, steps = past_cache.shape[0], past_cache.shape[place], update.shape[place]
    starts = np.zeros(batch, np.int64) if write_indices is None else write_indices
    _check_starts(starts.shape, batch)
    for start in starts.tolist() if mode == "linear" else ():
        require(
            0 <= start <= longest - steps,
            f"write_indices must be in [0, {longest - steps}] for {steps} steps in a cache of "
            f"{longest}, found {start}",
            Fail,
        )
    positions = starts[:, np.newaxis] + np.arange(steps)
    result = past_cache.copy()
    lines = np.moveaxis(result, place, 1)
    lines[np.arange(batch)[:, np.newaxis], positions % max(longest, 1)] = np.moveaxis(
        update, place, 1
    )
    return result


@TensorScatter.lower
def lower_tensor_scatter(
    past_cache: Tensor,
    update: Tensor,
    write_indices: Tensor | None = None,
    *,
    axis: int,
    mode: str,
) -> Tensor:
    place = _check_cache(past_cache.shape, update.shape, axis, mode)
    longest, steps = past_cache.shape[place], update.shape[place]

    def target(*u: DimLike) -> tuple[IndexLike, ...]:
        where: DimLike = u[place]
        if write_indices is not None and mode == "linear":
            where = where + gathered(write_indices[u[0]], longest - steps + 1)
        elif write_indices is not None:
            ring = apply("mod", write_indices[u[0]] + index(where), index(longest))
            where = gathered(ring, longest)
        return (*u[:place], where, *u[place + 1 :])

    return scatter(past_cache, update.shape, target, lambda *u: update[u])


def _check_cache(cache: Sequence[DimLike], update: Sequence[DimLike], axis: int, mode: str) -> int:
    """The sequence axis counted from the front, after a check of shapes and attributes."""
    require(mode in {"linear", "circular"}, f"mode must be linear or circular, got {mode!r}")
    place = normalize_axis(axis, len(cache))
    require(place != 0, "axis must not be 0, the batch")
    fits = len(cache) == len(update) and all(
        unified(pair) is not None if index != place else _is_no_longer(pair)
        for index, pair in enumerate(zip(cache, update, strict=True))
    )
    require(
        fits,
        f"update{shape_text(update)} must have the extents of past_cache{shape_text(cache)} and be "
        f"no longer along axis {place}",
    )
    return place


def _is_no_longer(pair: tuple[DimLike, DimLike]) -> bool:
    longest, steps = map(known, pair)
    return longest is None or steps is None or steps <= longest
