"""Mathematics as the oracle where the peers refuse or disagree.

Each formula computes with NumPy or SciPy in double precision and rounds once, in the words of the
standard rather than in those of fornix's kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.ops.differential.refused import Refused

if TYPE_CHECKING:
    from tests.ops.differential.space import Case

Formula = Callable[["Case"], list[Any]]


def wide(x: Any) -> Any:
    return x.astype(np.float64)


def elementwise(function: Callable[..., Any]) -> Formula:
    """``function`` of the inputs in double precision, rounded to the dtype of the first."""

    def formula(case: Case) -> list[Any]:
        result = np.asarray(function(*map(wide, case.inputs)))
        return [result.astype(case.inputs[0].dtype)]

    return formula


def clip(case: Case) -> list[Any]:
    if case.opset >= 6:
        raise Refused("the peers answer")
    (x,) = case.inputs
    low, high = case.attributes.get("min", -np.inf), case.attributes.get("max", np.inf)
    return [np.minimum(np.maximum(x, np.asarray(low, x.dtype)), np.asarray(high, x.dtype))]


def channel_slopes(case: Case) -> list[Any]:
    """PRelu before opset 7: a slope for each channel, the second axis."""
    if case.opset >= 7:
        raise Refused("the peers answer")
    x, slope = case.inputs
    slope = slope.reshape(slope.shape + (1,) * (x.ndim - 2)) if x.ndim > 1 else slope
    return [np.where(x < 0, wide(slope) * wide(x), wide(x)).astype(x.dtype)]


def gather_elements(case: Case) -> list[Any]:
    x, index = case.inputs
    axis = case.attributes.get("axis", 0)
    places = list(np.indices(index.shape))
    places[axis] = index
    return [x[tuple(places)]]


def one_hot(case: Case) -> list[Any]:
    """An index outside [−depth, depth) gives no 1; before opset 11, one outside [0, depth)."""
    index, depth, values = case.inputs
    count = int(depth.reshape(-1)[0])
    axis = case.attributes.get("axis", -1)
    index = np.asarray(np.trunc(index)).astype(object)
    hot = [
        np.equal(np.mod(index, count), i)
        & (index >= (-count if case.opset >= 11 else 0))
        & (index < count)
        for i in range(count)
    ]
    hits = np.stack([np.asarray(h, bool) for h in hot], axis)
    return [np.where(hits, values[1], values[0])]


def pad(case: Case) -> list[Any]:
    """Cut first and grown afterwards."""
    x = case.inputs[0]
    given = dict(case.attributes)
    pads = given["paddings"] if "paddings" in given else given.get("pads")
    mode, value, axes = given.get("mode", "constant"), given.get("value", 0.0), range(x.ndim)
    if pads is None:
        pads, value, axes = _padding_inputs(case)
    widths = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes):
        widths[axis] = (int(pads[i]), int(pads[len(axes) + i]))
    cuts = tuple(
        slice(max(-b, 0), n - max(-a, 0)) for (b, a), n in zip(widths, x.shape, strict=True)
    )
    extra = {"constant_values": value} if mode == "constant" else {}
    grown = [(max(before, 0), max(after, 0)) for before, after in widths]
    return [np.pad(x[cuts], grown, mode, **extra)]


def _padding_inputs(case: Case) -> tuple[Any, Any, Any]:
    x, pads, value, axes = (*case.inputs, None, None)[:4]
    zero = "" if x.dtype == object else np.zeros((), x.dtype)
    return pads, zero if value is None else value, range(x.ndim) if axes is None else axes


def split(case: Case) -> list[Any]:
    if case.opset > 1:
        raise Refused("the peers answer")
    axis, parts = case.attributes.get("axis", 0), case.attributes.get("split")
    x = case.inputs[0]
    return np.split(x, case.outputs if parts is None else np.cumsum(parts)[:-1], axis)


def tile(case: Case) -> list[Any]:
    if case.opset > 1:
        raise Refused("the peers answer")
    x, tiles, axis = case.inputs
    return [
        np.concatenate(
            [x[:0] if int(axis) == 0 else np.take(x, [], int(axis)), *[x] * int(tiles)], int(axis)
        )
    ]


def unsqueeze(case: Case) -> list[Any]:
    if case.opset >= 13:
        raise Refused("the peers answer")
    x, axes = case.inputs[0], case.attributes["axes"]
    return [np.expand_dims(x, tuple(axes))]


def flatten(case: Case) -> list[Any]:
    x, axis = case.inputs[0], case.attributes.get("axis", 1)
    rows = int(np.prod(x.shape[:axis], dtype=int)) if axis else 1
    return [x.reshape(rows, int(np.prod(x.shape[axis:], dtype=int)))]


def scatter(case: Case) -> list[Any]:
    x, index, updates = case.inputs
    places = list(np.indices(index.shape))
    places[case.attributes.get("axis", 0)] = index
    y = x.copy()
    y[tuple(places)] = updates
    return [y]


def unique(case: Case) -> list[Any]:
    """In the order of first occurrence, unless sorted."""
    x, axis = case.inputs[0], case.attributes.get("axis")
    if not x.size or x.dtype.kind in "fOV" or case.attributes.get("sorted", 1):
        raise Refused("the peers answer")
    rows = x.reshape(-1, 1) if axis is None else np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    keys = [tuple(row) for row in rows]
    order = list(dict.fromkeys(keys))
    first = [keys.index(key) for key in order]
    y = x.reshape(-1)[first] if axis is None else np.take(x, first, axis)
    inverse, counts = [order.index(key) for key in keys], [keys.count(key) for key in order]
    return [y, *(np.asarray(v, np.int64) for v in (first, inverse, counts))][: case.outputs]


def cast_by_name(case: Case) -> list[Any]:
    """Cast-1, which names the type in capitals, for what NumPy converts as the standard says."""
    (x,) = case.inputs
    target = NAMES.get(case.attributes["to"]) if case.opset == 1 else None
    if target is None or x.dtype.kind == "O":
        raise Refused("the peers answer")
    return [x.astype(target)]


def inference_dropout(case: Case) -> list[Any]:
    if case.opset > 6:
        raise Refused("the peers answer")
    return [case.inputs[0]]


NAMES = {
    "FLOAT": "f4", "FLOAT16": "f2", "DOUBLE": "f8", "BOOL": "?",
    "INT8": "i1", "INT16": "i2", "INT32": "i4", "INT64": "i8",
    "UINT8": "u1", "UINT16": "u2", "UINT32": "u4", "UINT64": "u8",
}  # fmt: skip


FORMULAS: dict[str, Formula] = {
    "Cast": cast_by_name,
    "Dropout": inference_dropout,
    "Clip": clip,
    "Flatten": flatten,
    "GatherElements": gather_elements,
    "Mean": elementwise(lambda *x: sum(x) / len(x)),
    "OneHot": one_hot,
    "PRelu": channel_slopes,
    "Pad": pad,
    "Scatter": scatter,
    "Softsign": elementwise(lambda x: x / (1 + abs(x))),
    "Split": split,
    "Tile": tile,
    "Unique": unique,
    "Unsqueeze": unsqueeze,
}
