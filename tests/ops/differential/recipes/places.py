"""Recipes of operators that move, cut, repeat, gather and scatter elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.ops.differential.draw import Arguments, Draw

Recipe = Callable[[Draw], Arguments]


def int64(values: Any) -> Any:
    return np.asarray(values, np.int64)


def data(draw: Draw, shape: Sequence[int]) -> Any:
    """The first input, of whatever its type variable stands for."""
    return draw.array(draw.schema.inputs[0].type_text, shape)


def list_argument(
    draw: Draw, name: str, values: Sequence[int] | None
) -> tuple[Any, dict[str, Any]]:
    """``values`` as the attribute ``name`` where the schema has one, else as an input."""
    if draw.has(name):
        return None, {name: values}
    return None if values is None else int64(values), {}


def placed(draw: Draw, x: Any, name: str, values: Sequence[int] | None, **extra: Any) -> Arguments:
    """``x`` with one list, which is an attribute in old schemas and an input in new ones."""
    argument, attributes = list_argument(draw, name, values)
    return Arguments([x, argument], attributes | extra)


def transpose(draw: Draw) -> Arguments:
    shape = draw.shape()
    perm = [int(i) for i in draw.rng.permutation(len(shape))]
    return Arguments([data(draw, shape)], {"perm": draw.maybe(lambda: perm)})


def reshape(draw: Draw) -> Arguments:
    shape = list(draw.shape())
    target = [int(np.prod(part)) for part in _parts(draw, shape)]
    target.insert(draw.whole(0, len(target)), 1)
    allowzero = draw.pick((None, 0, 1))
    if draw.chance(0.4) and not (0 in target and allowzero == 1):
        rest = [n for i, n in enumerate(target)]
        index = draw.whole(0, len(target) - 1)
        if int(np.prod(rest[:index] + rest[index + 1 :])):
            target[index] = -1
    if allowzero != 1:
        for index in range(min(len(target), len(shape))):
            if target[index] == shape[index] and draw.chance(0.3):
                target[index] = 0
        zeros = [i for i, n in enumerate(target) if n == 0]
        if any(i >= len(shape) or shape[i] != 0 for i in zeros):
            allowzero = 1
    return placed(draw, data(draw, shape), "shape", target, allowzero=allowzero)


def _parts(draw: Draw, shape: list[int]) -> list[list[int]]:
    """``shape`` cut into neighbouring parts."""
    parts: list[list[int]] = []
    for extent in shape:
        if parts and draw.chance(0.4):
            parts[-1].append(extent)
        else:
            parts.append([extent])
    return parts


def flatten(draw: Draw) -> Arguments:
    shape = draw.shape(1 if draw.opset < 9 else 0)
    least = -len(shape) if draw.opset >= 11 else 0
    axis = draw.whole(least, len(shape)) if not shape or draw.chance() else None
    return Arguments([data(draw, shape)], {"axis": axis})


def old_axes(draw: Draw, axes: list[int], rank: int) -> list[int]:
    """``axes`` counted from the front where the schema knows no other way."""
    return [axis % rank for axis in axes] if draw.opset < 11 else axes


def squeeze(draw: Draw) -> Arguments:
    shape = draw.shape()
    ones = [axis for axis, extent in enumerate(shape) if extent == 1]
    if draw.chance(0.25):
        return placed(draw, data(draw, shape), "axes", None)
    chosen = [a for a in ones if draw.chance(0.7)]
    axes = [a - len(shape) if draw.chance(0.3) else a for a in chosen]
    return placed(
        draw, data(draw, shape), "axes", old_axes(draw, axes, len(shape)) if axes else axes
    )


def unsqueeze(draw: Draw) -> Arguments:
    shape = draw.shape(0, 3)
    count = draw.whole(1, 3)
    rank = len(shape) + count
    axes = [int(a) for a in draw.rng.permutation(rank)[:count]]
    axes = [a - rank if draw.chance(0.3) else a for a in axes]
    return placed(draw, data(draw, shape), "axes", old_axes(draw, axes, rank))


def expand(draw: Draw) -> Arguments:
    target = draw.shape(zero=False)
    x = data(draw, draw.broadcast(target))
    shape = [1 if draw.chance(0.2) else n for n in target][draw.whole(0, 1) :]
    return Arguments([x, int64(shape)])


def concat(draw: Draw) -> Arguments:
    shape = list(draw.shape(1))
    axis = draw.axis(len(shape))
    if draw.opset < 11:
        axis %= len(shape)
    inputs = []
    for _ in range(draw.whole(1, 4)):
        shape[axis] = draw.whole(0, 3)
        inputs.append(data(draw, shape))
    return Arguments(inputs, {"axis": axis})


def split(draw: Draw) -> Arguments:
    shape = list(draw.shape(1))
    axis = draw.axis(len(shape)) if draw.opset >= 11 else draw.whole(0, len(shape) - 1)
    count = draw.whole(1, 4)
    extra: dict[str, Any] = {"axis": axis}
    if draw.chance(0.6):
        parts = [draw.whole(0, 3) for _ in range(count)]
        shape[axis] = sum(parts)
        argument, given = list_argument(draw, "split", parts)
        return Arguments([data(draw, shape), argument], extra | given, count)
    shape[axis] = count * draw.whole(1, 3)
    if draw.has("num_outputs") and draw.chance() and shape[axis] > count:
        shape[axis] -= draw.whole(0, shape[axis] // count - 1)  # the last piece is smaller
        step = -(-shape[axis] // count)
        if step * (count - 1) > shape[axis]:
            shape[axis] = step * count
    return Arguments([data(draw, shape)], extra | {"num_outputs": count}, count)


def tile(draw: Draw) -> Arguments:
    shape = draw.shape(1 if draw.opset < 6 else 0, 3)
    if draw.opset < 6:
        axis = draw.whole(0, len(shape) - 1)
        tiles = np.asarray(draw.whole(0, 3)).astype(draw.dtype("T").numpy)
        return Arguments([data(draw, shape), tiles, np.asarray(axis).astype(tiles.dtype)])
    return Arguments([data(draw, shape), int64([draw.whole(0, 3) for _ in shape])])


FAR = 2**40


def slice_(draw: Draw) -> Arguments:
    shape = draw.shape(1)
    axes = draw.axes(len(shape), empty=False)
    if draw.has("starts"):
        axes = [axis % len(shape) for axis in axes]
    ends = (draw.whole(-7, 7), 2**31 - 1, -(2**31) + 1) + (
        () if draw.has("starts") else (FAR, -FAR)
    )
    starts = [draw.pick((draw.whole(-7, 7), draw.whole(-2, 2), *ends[1:])) for _ in axes]
    stops = [draw.pick((draw.whole(-7, 7), draw.whole(0, 7), *ends)) for _ in axes]
    steps = [draw.pick((1, 1, 2, 3, -1, -2, FAR, -FAR)) for _ in axes]
    if draw.has("starts"):
        given = {"starts": starts, "ends": stops, "axes": axes}
        if draw.chance(0.2):
            given = {"starts": starts, "ends": stops}
        return Arguments([data(draw, shape)], given)
    index = draw.dtype("Tind").numpy
    most = int(np.iinfo(index).max)
    lists = [np.clip(v, -most, most).astype(index) for v in (starts, stops, axes, steps)]
    if draw.chance(0.2):
        lists = lists[:2]
    elif draw.chance(0.2):
        lists = lists[:3]
    elif draw.chance(0.1) and sorted(a % len(shape) for a in axes) == list(range(len(axes))):
        lists[2] = None  # type: ignore[call-overload]
    return Arguments([data(draw, shape), *lists])


def pad(draw: Draw) -> Arguments:
    shape = draw.shape(1, 3)
    modes = ["constant", "constant", "edge", "reflect"] + (["wrap"] if draw.opset >= 19 else [])
    mode = draw.pick(modes)
    if mode != "constant" and 0 in shape:
        shape = tuple(max(n, 1) for n in shape)
    axes = list(range(len(shape)))
    if draw.takes("axes") and draw.chance():
        axes = draw.axes(len(shape), empty=False)
    extents = [shape[axis] for axis in axes]
    pads = [_padding(draw, mode, n) for n in extents * 2]
    pads = _not_below_one(pads, extents)
    name = "paddings" if draw.has("paddings") else "pads"
    if draw.has(name):
        attributes = {name: pads, "mode": mode, "value": draw.maybe(draw.real)}
        return Arguments([data(draw, shape)], attributes)
    constant = draw.array("T") if mode == "constant" and draw.chance(0.7) else None
    index = None
    if draw.takes("axes") and (
        len(axes) != len(shape) or draw.chance(0.3) or axes != list(range(len(shape)))
    ):
        index = np.asarray(axes, draw.dtype("Tind").numpy)
    return Arguments([data(draw, shape), int64(pads), constant, index], {"mode": mode})


def _padding(draw: Draw, mode: str, extent: int) -> int:
    if draw.chance(0.15):
        return -1
    return draw.whole(0, extent - 1 if mode == "reflect" else 3)


def _not_below_one(pads: list[int], extents: list[int]) -> list[int]:
    """``pads`` without cuts that would leave nothing."""
    half = len(extents)
    for i, extent in enumerate(extents):
        if extent + min(pads[i], 0) + min(pads[half + i], 0) < 1:
            pads[i], pads[half + i] = max(pads[i], 0), max(pads[half + i], 0)
    return pads


def indices(
    draw: Draw, variable: str, shape: Sequence[int], extent: int, *, signed: bool = True
) -> Any:
    """Indices of an axis of ``extent``, counted from either end."""
    least = -extent if signed else 0
    dtype = draw.dtype(variable).numpy if variable in draw.dtypes else np.dtype(np.int64)
    return np.asarray(draw.rng.integers(least, max(extent, 1), shape)).astype(dtype)


def gather(draw: Draw) -> Arguments:
    shape = list(draw.shape(1, zero=False))
    axis = draw.axis(len(shape))
    if draw.chance(0.1):
        shape[(axis + 1) % len(shape)] *= 1
    where = draw.shape(0, 3)
    index = indices(draw, "Tind", where, shape[axis], signed=draw.opset >= 11)
    return Arguments(
        [data(draw, shape), index],
        {"axis": axis if draw.chance(0.8) else None} if axis % len(shape) == 0 else {"axis": axis},
    )


def gather_elements(draw: Draw) -> Arguments:
    shape = list(draw.shape(1, zero=False))
    axis = draw.axis(len(shape))
    where = [draw.whole(1, n) for n in shape]
    where[axis] = draw.whole(0, 4)
    index = indices(draw, "Tind", where, shape[axis])
    return Arguments([data(draw, shape), index], {"axis": axis})


def gather_nd(draw: Draw) -> Arguments:
    shape = draw.shape(1, zero=False)
    batch = draw.whole(0, len(shape) - 1) if draw.has("batch_dims") else 0
    depth = draw.whole(1, len(shape) - batch)
    middle = draw.shape(0, 2)
    where = [*shape[:batch], *middle]
    columns = [
        indices(draw, "", where, shape[batch + i], signed=draw.opset >= 11) for i in range(depth)
    ]
    return Arguments([data(draw, shape), np.stack(columns, -1)], {"batch_dims": batch})


REDUCTIONS = ("none", "none", "add", "mul", "max", "min")


def scatter_elements(draw: Draw) -> Arguments:
    shape = list(draw.shape(1, zero=False))
    axis = draw.axis(len(shape))
    reduction = _reduction(draw)
    where = [draw.whole(1, n) for n in shape]
    if reduction == "none":  # the order of equal indices is not defined
        index = np.argsort(draw.rng.random(shape), axis).astype(draw.dtype("Tind").numpy)
        index = np.asarray(index[tuple(slice(0, n) for n in where)])
    else:
        where[axis] = draw.whole(0, 4)
        index = indices(draw, "Tind", where, shape[axis])
    updates = draw.weights("T", index.shape)
    return Arguments(
        [draw.weights("T", shape), index, updates], {"axis": axis, "reduction": reduction}
    )


def _reduction(draw: Draw) -> str:
    """A reduction that this schema version and dtype have."""
    if not draw.has("reduction") or draw.dtype("T").kind not in {"float", "int", "uint"}:
        return "none"
    return draw.pick(REDUCTIONS[: 4 if draw.opset < 18 else None])


def scatter_nd(draw: Draw) -> Arguments:
    shape = draw.shape(1, zero=False)
    depth = draw.whole(1, len(shape))
    reduction = _reduction(draw)
    cells = int(np.prod(shape[:depth]))
    count = draw.whole(0, min(cells, 4))
    flat = (
        draw.rng.permutation(cells)[:count]
        if reduction == "none"
        else draw.rng.integers(0, cells, count)
    )
    index = np.stack(np.unravel_index(flat, shape[:depth]), -1).astype(np.int64)
    if draw.opset >= 11:
        back = draw.rng.random(index.shape) < 0.3
        index = np.where(back, index - np.asarray(shape[:depth]), index)
    updates = draw.weights("T", (count, *shape[depth:]))
    return Arguments([draw.weights("T", shape), index, updates], {"reduction": reduction})


def compress(draw: Draw) -> Arguments:
    shape = draw.shape(1)
    axis = draw.maybe(
        lambda: draw.axis(len(shape)) if draw.opset >= 11 else draw.whole(0, len(shape) - 1)
    )
    extent = int(np.prod(shape)) if axis is None else shape[axis]
    return Arguments(
        [data(draw, shape), draw.array("T1", (draw.whole(0, extent),))], {"axis": axis}
    )


def one_hot(draw: Draw) -> Arguments:
    shape = draw.shape(0, 3)
    axis = draw.whole(-len(shape) - 1, len(shape))
    depth = draw.whole(1, 5)
    least, most = (-depth - 2, depth + 2) if draw.dtype("T1").is_signed else (0, depth + 2)
    index = draw.rng.integers(least, most, shape).astype(draw.dtype("T1").numpy)
    count = np.asarray([depth] if draw.chance() else depth).astype(draw.dtype("T2").numpy)
    return Arguments(
        [np.asarray(index), count, draw.weights("T3", (2,))], {"axis": draw.maybe(lambda: axis)}
    )


def trilu(draw: Draw) -> Arguments:
    x = data(draw, draw.shape(2))
    k = draw.maybe(lambda: int64(draw.whole(-6, 6)))
    return Arguments([x, k], {"upper": draw.pick((None, 0, 1))})


def eye_like(draw: Draw) -> Arguments:
    dtype = draw.maybe(lambda: draw.dtype("T2").code)
    if dtype is None and f"tensor({draw.dtype('T1').text})" not in draw.schema.constraints["T2"]:
        dtype = 1
    return Arguments(
        [draw.array("T1", draw.shape(2, 2))],
        {"dtype": dtype, "k": draw.maybe(lambda: draw.whole(-4, 4))},
    )


def depth_to_space(draw: Draw) -> Arguments:
    n, c, h, w = (draw.whole(1, 3) for _ in range(4))
    b = draw.whole(1, 3)
    mode = draw.pick((None, "DCR", "CRD")) if draw.has("mode") else None
    return Arguments([data(draw, (n, c * b * b, h, w))], {"blocksize": b, "mode": mode})


def space_to_depth(draw: Draw) -> Arguments:
    n, c, h, w = (draw.whole(1, 3) for _ in range(4))
    b = draw.whole(1, 3)
    mode = draw.pick((None, "DCR", "CRD")) if draw.has("mode") else None
    return Arguments([data(draw, (n, c, h * b, w * b))], {"blocksize": b, "mode": mode})


def reverse_sequence(draw: Draw) -> Arguments:
    shape = draw.shape(2, zero=False)
    time = draw.whole(0, 1)
    lengths = draw.rng.integers(1, shape[time] + 1, shape[1 - time])
    return Arguments([data(draw, shape), lengths], {"time_axis": time, "batch_axis": 1 - time})


def top_k(draw: Draw) -> Arguments:
    shape = draw.shape(1, zero=False)
    axis = draw.axis(len(shape))
    if draw.opset < 11:
        axis = draw.pick((-1, axis % len(shape)))
    k = draw.whole(0 if draw.opset > 1 else 1, shape[axis])
    argument, given = ([], {"k": k}) if draw.has("k") else ([int64([k])], {})
    flags = {"largest": draw.pick((None, 0, 1)), "axis": axis}
    return Arguments([data(draw, shape), *argument], given | flags, 2)


def unique(draw: Draw) -> Arguments:
    shape = draw.shape(1, 3)
    axis = draw.maybe(lambda: draw.axis(len(shape)))
    return Arguments(
        [draw.weights("T", shape)],
        {"axis": axis, "sorted": draw.pick((None, 0, 1))},
        draw.whole(1, 4),
    )


def cumulative(draw: Draw) -> Arguments:
    shape = draw.shape(1)
    axis = np.asarray(draw.axis(len(shape))).astype(draw.dtype("T2").numpy)
    flags = {name: draw.pick((None, 0, 1)) for name in ("exclusive", "reverse")}
    x = draw.array(draw.schema.inputs[0].type_text, shape, mild=True)
    return Arguments([x, axis], flags)


def center_crop_pad(draw: Draw) -> Arguments:
    shape = draw.shape(1, 3, zero=False)
    axes = draw.maybe(lambda: draw.axes(len(shape), empty=False))
    target = [draw.whole(1, 6) for _ in (shape if axes is None else axes)]
    return Arguments(
        [data(draw, shape), np.asarray(target, draw.dtype("Tind").numpy)], {"axes": axes}
    )


def col2im(draw: Draw) -> Arguments:
    image = [draw.whole(2, 4) for _ in range(draw.whole(1, 2))]
    block = [draw.whole(1, n) for n in image]
    strides, pads = [draw.whole(1, 2) for _ in image], [draw.whole(0, 1) for _ in image] * 2
    dilations = [
        draw.whole(1, 2) if (b - 1) * 2 < n else 1 for b, n in zip(block, image, strict=True)
    ]
    half = len(image)
    cells = [
        (n + pads[i] + pads[half + i] - d * (b - 1) - 1) // s + 1
        for i, (n, b, s, d) in enumerate(zip(image, block, strides, dilations, strict=True))
    ]
    shape = (draw.whole(1, 2), draw.whole(1, 2) * int(np.prod(block)), int(np.prod(cells)))
    given = {"strides": strides, "pads": pads, "dilations": dilations}
    return Arguments([draw.weights("T", shape), int64(image), int64(block)], given)


def tensor_scatter(draw: Draw) -> Arguments:
    shape = list(draw.shape(2, 4, zero=False))
    axis = draw.whole(1, len(shape) - 1)
    mode = draw.pick((None, "linear", "circular"))
    update = list(shape)
    update[axis] = draw.whole(1, shape[axis])
    last = shape[axis] - (0 if mode == "circular" else update[axis])
    where = draw.maybe(lambda: draw.rng.integers(0, max(last, 1), shape[0]))
    axis = axis - len(shape) if draw.chance() else axis
    return Arguments([data(draw, shape), data(draw, update), where], {"axis": axis, "mode": mode})


RECIPES: dict[str, Recipe] = {
    "CenterCropPad": center_crop_pad,
    "Col2Im": col2im,
    "Compress": compress,
    "Concat": concat,
    "CumProd": cumulative,
    "CumSum": cumulative,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "EyeLike": eye_like,
    "Flatten": flatten,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "OneHot": one_hot,
    "Pad": pad,
    "Reshape": reshape,
    "ReverseSequence": reverse_sequence,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "TensorScatter": tensor_scatter,
    "Tile": tile,
    "TopK": top_k,
    "Transpose": transpose,
    "Trilu": trilu,
    "Unique": unique,
    "Unsqueeze": unsqueeze,
}
