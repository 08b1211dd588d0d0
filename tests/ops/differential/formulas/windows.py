"""Pools, convolutions and normalizations, one window or channel at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.ops.differential.refused import Refused

if TYPE_CHECKING:
    from tests.ops.differential.space import Case

Formula = Callable[["Case"], list[Any]]


def wide(x: Any) -> Any:
    return x.astype(np.float64)


class Windows:
    """Where the windows of a case lie."""

    def __init__(self, case: Case, spatial: Sequence[int], kernel: Sequence[int]) -> None:
        given, n = case.attributes, len(spatial)
        self.spatial, self.kernel = spatial, kernel
        self.strides = given.get("strides") or [1] * n
        self.dilations = given.get("dilations") or [1] * n
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilations, strict=True)]
        auto = given.get("auto_pad", "NOTSET")
        pads = given.get("pads") or [0] * (2 * n)
        self.begin, self.end = list(pads[:n]), list(pads[n:])
        self.counts = []
        for i, extent in enumerate(spatial):
            if auto.startswith("SAME"):
                count = -(-extent // self.strides[i])
                total = max((count - 1) * self.strides[i] + reach[i] - extent, 0)
                less, more = total // 2, total - total // 2
                self.begin[i], self.end[i] = (less, more) if auto == "SAME_UPPER" else (more, less)
            elif auto == "VALID":
                self.begin[i] = self.end[i] = 0
            self.counts.append(self._count(i, reach[i], bool(given.get("ceil_mode", 0)), auto))

    def _count(self, i: int, reach: int, ceil: bool, auto: str) -> int:
        if auto.startswith("SAME"):
            return -(-self.spatial[i] // self.strides[i])
        room = self.spatial[i] + self.begin[i] + self.end[i] - reach
        count = (-(-room // self.strides[i]) if ceil else room // self.strides[i]) + 1
        # windows that would start in the padding behind the data are left out
        if ceil and (count - 1) * self.strides[i] >= self.spatial[i] + self.begin[i]:
            count -= 1
        return count

    def cells(self) -> Iterator[tuple[int, ...]]:
        return itertools.product(*map(range, self.counts))

    def taps(self, cell: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], bool]]:
        """Of each tap of a window: its index, its place, and whether padding may hold it."""
        for tap in itertools.product(*map(range, self.kernel)):
            place = tuple(
                c * s + t * d - b
                for c, s, t, d, b in zip(
                    cell, self.strides, tap, self.dilations, self.begin, strict=True
                )
            )
            padded = all(p < n + e for p, n, e in zip(place, self.spatial, self.end, strict=True))
            yield tap, place, padded

    def is_data(self, place: Sequence[int]) -> bool:
        return all(0 <= p < n for p, n in zip(place, self.spatial, strict=True))


def pool(case: Case) -> list[Any]:
    """AveragePool, LpPool and MaxPool; the first maximum counts."""
    x = case.inputs[0]
    windows = Windows(case, x.shape[2:], case.attributes["kernel_shape"])
    y: Any = np.zeros((*x.shape[:2], *windows.counts))
    where: Any = np.zeros(y.shape, np.int64)
    for cell in windows.cells():
        taps = list(windows.taps(cell))
        places = [place for _, place, _ in taps if windows.is_data(place)]
        if not places:
            raise Refused("a window holds nothing but padding")
        values = np.stack([wide(x[(..., *place)]) for place in places], -1)
        padded = sum(inside for _, _, inside in taps)
        y[(..., *cell)] = _pooled(case, values, padded)
        if case.name == "MaxPool":
            best = np.argmax(values, -1)
            where[(..., *cell)] = np.take([_flat(case, p, x.shape[2:]) for p in places], best)
    if case.name != "MaxPool":
        return [y.astype(x.dtype)]
    planes = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *[1] * (x.ndim - 2))
    return [y.astype(x.dtype), where + planes * math.prod(x.shape[2:])][: case.outputs]


def _pooled(case: Case, values: Any, padded: int) -> Any:
    if case.name == "MaxPool":
        return values.max(-1)
    if case.name == "LpPool":
        p = case.attributes.get("p", 2)
        return (np.abs(values) ** p).sum(-1) ** (1 / p)
    return values.sum(-1) / (
        padded if case.attributes.get("count_include_pad") else values.shape[-1]
    )


def _flat(case: Case, place: Sequence[int], spatial: Sequence[int]) -> int:
    if case.attributes.get("storage_order"):
        place, spatial = place[::-1], spatial[::-1]
    return int(np.ravel_multi_index(tuple(place), tuple(spatial)))


def conv(case: Case) -> list[Any]:
    x, w, bias = (*case.inputs, None)[:3]
    windows = Windows(case, x.shape[2:], w.shape[2:])
    group = case.attributes.get("group", 1)
    filters, own = w.shape[0] // group, x.shape[1] // group
    y: Any = np.zeros((x.shape[0], w.shape[0], *windows.counts))
    for cell, g in itertools.product(windows.cells(), range(group)):
        for tap, place, _ in windows.taps(cell):
            if windows.is_data(place):
                data = wide(x[(slice(None), slice(g * own, (g + 1) * own), *place)])
                taps = wide(w[(slice(g * filters, (g + 1) * filters), slice(None), *tap)])
                y[(slice(None), slice(g * filters, (g + 1) * filters), *cell)] += data @ taps.T
    if bias is not None:
        y += wide(bias).reshape(-1, *[1] * len(windows.counts))
    return [y.astype(x.dtype)]


def conv_transpose(case: Case) -> list[Any]:
    """Every input is laid down with its filter; then the pads are cut off."""
    x, w, bias = (*case.inputs, None)[:3]
    given, spatial = case.attributes, x.shape[2:]
    n, group = len(spatial), case.attributes.get("group", 1)
    strides, dilations = given.get("strides") or [1] * n, given.get("dilations") or [1] * n
    extra, pads = given.get("output_padding") or [0] * n, given.get("pads") or [0] * (2 * n)
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    full = [(m - 1) * s + r for m, s, r in zip(spatial, strides, reach, strict=True)]
    begin = list(pads[:n])
    size = [f + e - pads[i] - pads[n + i] for i, (f, e) in enumerate(zip(full, extra, strict=True))]
    auto = given.get("auto_pad", "NOTSET")
    wanted = given.get("output_shape")
    if wanted is None and auto.startswith("SAME"):
        # where that is more than there is, the peers take what there is
        grown = [f + e for f, e in zip(full, extra, strict=True)]
        wanted = [min(m * s, g) for m, s, g in zip(spatial, strides, grown, strict=True)]
    if wanted is not None:
        size = list(wanted)
        for i in range(n):
            total = max(full[i] + extra[i] - size[i], 0)
            begin[i] = total // 2 if auto == "SAME_UPPER" else total - total // 2
            if auto in {"NOTSET", "VALID"}:
                begin[i] = total - total // 2
    own, filters = x.shape[1] // group, w.shape[1]
    room = [max(f, b + m) for f, b, m in zip(full, begin, size, strict=True)]
    laid: Any = np.zeros((x.shape[0], group * filters, *room))
    for cell in itertools.product(*map(range, spatial)):
        for tap in itertools.product(*map(range, w.shape[2:])):
            place = [
                c * s + t * d for c, s, t, d in zip(cell, strides, tap, dilations, strict=True)
            ]
            for g in range(group):
                data = wide(x[(slice(None), slice(g * own, (g + 1) * own), *cell)])
                taps = wide(w[(slice(g * own, (g + 1) * own), slice(None), *tap)])
                laid[(slice(None), slice(g * filters, (g + 1) * filters), *place)] += data @ taps
    y = laid[(..., *(slice(b, b + m) for b, m in zip(begin, size, strict=True)))]
    if bias is not None:
        y = y + wide(bias).reshape(-1, *[1] * n)
    return [y.astype(x.dtype)]


def global_pool(case: Case) -> list[Any]:
    x = case.inputs[0]
    axes = tuple(range(2, x.ndim))
    if case.name == "GlobalMaxPool":
        return [x.astype(np.float64).max(axes, keepdims=True).astype(x.dtype)]
    if case.name == "GlobalAveragePool":
        return [wide(x).mean(axes, keepdims=True).astype(x.dtype)]
    p = case.attributes.get("p", 2)
    return [((np.abs(wide(x)) ** p).sum(axes, keepdims=True) ** (1 / p)).astype(x.dtype)]


def lrn(case: Case) -> list[Any]:
    x, given = case.inputs[0], case.attributes
    size, channels = given["size"], x.shape[1]
    alpha, beta, bias = (
        given.get(n, d)
        for n, d in (("alpha", float(np.float32(1e-4))), ("beta", 0.75), ("bias", 1))
    )
    y: Any = np.zeros(x.shape)
    for c in range(channels):
        first, last = max(0, c - (size - 1) // 2), min(channels - 1, c + -(-(size - 1) // 2))
        squares = (wide(x[:, first : last + 1]) ** 2).sum(1)
        y[:, c] = wide(x[:, c]) / (bias + alpha / size * squares) ** beta
    return [y.astype(x.dtype)]


def batch_norm(case: Case) -> list[Any]:
    x, scale, bias, mean, var = case.inputs
    given = case.attributes
    if given.get("spatial") == 0:
        columns = (1, *x.shape[1:])
    else:
        columns = (1, x.shape[1], *[1] * (x.ndim - 2))
    axes = (0, *range(2, x.ndim))
    used_mean, used_var = wide(mean), wide(var)
    if given.get("training_mode"):
        used_mean, used_var = wide(x).mean(axes), wide(x).var(axes)
    epsilon = given.get("epsilon", float(np.float32(1e-5)))
    momentum = given.get("momentum", float(np.float32(0.9)))
    shaped = [v.reshape(columns) for v in (wide(scale), wide(bias), used_mean, used_var)]
    y = (wide(x) - shaped[2]) / np.sqrt(shaped[3] + epsilon) * shaped[0] + shaped[1]
    running = [
        (wide(old) * momentum + new * (1 - momentum)).astype(mean.dtype)
        for old, new in ((mean, used_mean), (var, used_var))
    ]
    return [y.astype(x.dtype), *running][: case.outputs]


def mean_variance(case: Case) -> list[Any]:
    x, axes = case.inputs[0], tuple(case.attributes.get("axes") or (0, 2, 3))
    centred = wide(x) - wide(x).mean(axes, keepdims=True)
    return [(centred / (centred.std(axes, keepdims=True) + 1e-9)).astype(x.dtype)]


def roi_max(case: Case) -> list[Any]:
    """Fast R-CNN's pooling: corners are rounded, each bin takes every cell that it touches."""
    x, rois = case.inputs
    rows, columns = case.attributes["pooled_shape"]
    scale = case.attributes.get("spatial_scale", 1.0)
    y: Any = np.zeros((len(rois), x.shape[1], rows, columns), x.dtype)
    for index, roi in enumerate(rois.astype(np.float64)):
        left, top, right, bottom = (math.floor(v * scale + 0.5) for v in roi[1:])
        height, width = max(bottom - top + 1, 1) / rows, max(right - left + 1, 1) / columns
        for i, j in itertools.product(range(rows), range(columns)):
            part = x[
                int(roi[0]),
                :,
                min(max(math.floor(i * height) + top, 0), x.shape[2]) : min(
                    max(math.ceil((i + 1) * height) + top, 0), x.shape[2]
                ),
                min(max(math.floor(j * width) + left, 0), x.shape[3]) : min(
                    max(math.ceil((j + 1) * width) + left, 0), x.shape[3]
                ),
            ]
            y[index, :, i, j] = part.reshape(x.shape[1], -1).max(1) if part.size else 0
    return [y]


FORMULAS: dict[str, Formula] = {
    "AveragePool": pool,
    "BatchNormalization": batch_norm,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "GlobalAveragePool": global_pool,
    "GlobalLpPool": global_pool,
    "GlobalMaxPool": global_pool,
    "LRN": lrn,
    "LpPool": pool,
    "MaxPool": pool,
    "MaxRoiPool": roi_max,
    "MeanVarianceNormalization": mean_variance,
}
