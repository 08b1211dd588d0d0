"""Sliding windows: the one geometry of convolutions and pools, and how arrays move through it.

A `Window` says, per spatial axis, where each tap of each output element lies in the data. Inference
builds it from symbolic extents, kernels and lowerings from plain ones. What is done with the taps
(a sum of products, a maximum) is left to the operators.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import TypedDict

import numpy as np

from fornix.errors import require
from fornix.ir.dim import DimLike, ceildiv, known, maximum, minimum
from fornix.ops.fact import Array
from fornix.ops.geometry import shape_text

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")

Slices = tuple[slice, ...]
Index = tuple[slice | EllipsisType | int, ...]


class WindowAttributes(TypedDict, total=False):
    """The attributes that describe a window, as rules receive them."""

    strides: list[int] | None
    dilations: list[int] | None
    pads: list[int] | None
    auto_pad: str
    ceil_mode: int


@dataclass(frozen=True, slots=True)
class Window:
    """Sliding-window geometry, one entry per spatial axis.

    Tap k of output element o lies at o · stride + k · dilation − before in the data.
    """

    size: tuple[DimLike, ...]
    """Extent of the data."""
    taps: tuple[DimLike, ...]
    """Number of taps."""
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[DimLike, ...]
    """Padding ahead of the data."""
    after: tuple[DimLike, ...]
    """Padding behind it."""
    out: tuple[DimLike, ...]
    """Extent of the output."""

    @classmethod
    def of(
        cls,
        size: Sequence[DimLike],
        taps: Sequence[DimLike],
        *,
        strides: list[int] | None = None,
        dilations: list[int] | None = None,
        pads: list[int] | None = None,
        auto_pad: str = "NOTSET",
        ceil_mode: int = 0,
    ) -> Window:
        """The window that these attributes describe over data of extent ``size``.

        out = ⌊(size + pads − reach) / stride⌋ + 1, with ⌈ ⌉ if ``ceil_mode``, less the windows that
        would start behind the data; ⌈size / stride⌉ for SAME. ``auto_pad`` prevails over ``pads``,
        as in onnxruntime; with VALID, ``ceil_mode`` counts, as in the standard's inference (its
        text says otherwise). Raises ShapeError if an attribute does not fit the number of axes, or
        if the padded data is smaller than a window.
        """
        rank = len(size)
        stride = per_axis(strides, rank, "strides")
        dilation = per_axis(dilations, rank, "dilations")
        reach = spans(taps, dilation)
        if is_same(auto_pad):
            out = tuple(ceildiv(n, s) for n, s in zip(size, stride, strict=True))
            total = [
                maximum((o - 1) * s + r - n, 0)
                for o, s, r, n in zip(out, stride, reach, size, strict=True)
            ]
            before, after = split_padding(total, auto_pad)
            return cls(tuple(size), tuple(taps), stride, dilation, before, after, out)
        before, after = explicit_padding(pads if auto_pad != "VALID" else None, rank)
        out = tuple(
            _extent(n, b, a, r, s, ceil_mode)
            for n, b, a, r, s in zip(size, before, after, reach, stride, strict=True)
        )
        return cls(tuple(size), tuple(taps), stride, dilation, before, after, out)

    @property
    def reach(self) -> tuple[DimLike, ...]:
        """Extent that the dilated taps span."""
        return spans(self.taps, self.dilation)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of the output as plain integers."""
        return tuple(map(plain, self.out))

    @property
    def tap_shape(self) -> tuple[int, ...]:
        """Number of taps as plain integers."""
        return tuple(map(plain, self.taps))

    @property
    def is_pointwise(self) -> bool:
        """Whether every output element reads one element, and no padding."""
        return (
            all(k == 1 for k in self.taps)
            and not any(known(p) != 0 for p in (*self.before, *self.after))
        )  # fmt: skip

    def place(self, out: Sequence[DimLike], tap: Sequence[DimLike]) -> tuple[DimLike, ...]:
        """Where ``tap`` of the output element ``out`` lies in the data, or beside it."""
        return tuple(
            o * s + k * d - b
            for o, k, s, d, b in zip(
                out, tap, self.stride, self.dilation, self.before, strict=True
            )
        )  # fmt: skip

    def trimmed(self) -> Window:
        """The same windows without the taps that only ever read padding.

        Hostile windows reach far beyond the data. An axis of symbolic extent keeps all taps, one
        that no window reaches the first.
        """
        taps, before = list(self.taps), list(self.before)
        for axis in range(len(taps)):
            dims = (self.size[axis], self.out[axis], taps[axis], before[axis])
            size, out, count, ahead = map(known, dims)
            if size is None or out is None or count is None or ahead is None:
                continue
            dilation = self.dilation[axis]
            first = max(0, -(-(ahead - (out - 1) * self.stride[axis]) // dilation))
            stop = min(count, -(-(size + ahead) // dilation))
            if first < stop:
                taps[axis], before[axis] = stop - first, ahead - first * dilation
            else:
                taps[axis] = 1
        return replace(self, taps=tuple(taps), before=tuple(before))

    def along(self, axis: int, tap: int) -> tuple[slice, slice]:
        """The output elements whose ``tap`` lies inside the data, and where it lies."""
        size, out, before = (plain(d[axis]) for d in (self.size, self.out, self.before))
        stride, offset = self.stride[axis], tap * self.dilation[axis] - before
        start = max(0, -(offset // stride))
        stop = max(start, min(out, -((offset - size) // stride)))
        if start == stop:
            return slice(0, 0), slice(0, 0)
        first = start * stride + offset
        return slice(start, stop), slice(first, first + (stop - start - 1) * stride + 1, stride)

    def places(self) -> Iterator[tuple[tuple[int, ...], Slices, Slices]]:
        """For every tap, row-major: its index, the output elements it serves, the data it reads."""
        per_axis_places = [
            [(tap, *self.along(axis, tap)) for tap in range(taps)]
            for axis, taps in enumerate(self.tap_shape)
        ]
        for chosen in itertools.product(*per_axis_places):
            yield (
                tuple(tap for tap, _, _ in chosen),
                tuple(out for _, out, _ in chosen),
                tuple(data for _, _, data in chosen),
            )


def per_axis(values: Sequence[int] | None, rank: int, name: str) -> tuple[int, ...]:
    """``values`` checked to be positive, one per spatial axis; absent, 1 for each."""
    if not values:
        return (1,) * rank
    require(
        len(values) == rank,
        f"{name} must have one entry per spatial axis ({rank}), got {list(values)}",
    )
    require(all(v > 0 for v in values), f"{name} must be positive, got {list(values)}")
    return tuple(values)


def explicit_padding(
    pads: Sequence[int] | None, rank: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """``pads`` as padding before and after each spatial axis; absent, 0."""
    if not pads:
        return (0,) * rank, (0,) * rank
    require(
        len(pads) == 2 * rank,
        f"pads must have two entries per spatial axis ({2 * rank}), got {list(pads)}",
    )
    require(all(p >= 0 for p in pads), f"pads must not be negative, got {list(pads)}")
    return tuple(pads[:rank]), tuple(pads[rank:])


def is_same(auto_pad: str) -> bool:
    """Whether ``auto_pad`` is one of the SAME modes; raises ShapeError if it is no mode at all.

    An empty text counts as NOTSET: old exporters write it.
    """
    require(
        not auto_pad or auto_pad in AUTO_PADS,
        f"auto_pad must be one of {', '.join(AUTO_PADS)}, got {auto_pad!r}",
    )
    return auto_pad.startswith("SAME")


def split_padding(
    total: Sequence[DimLike], auto_pad: str
) -> tuple[tuple[DimLike, ...], tuple[DimLike, ...]]:
    """``total`` padding as before and after; the odd one goes after only for SAME_UPPER."""
    small = tuple(t // 2 for t in total)
    large = tuple(t - t // 2 for t in total)
    return (small, large) if auto_pad == "SAME_UPPER" else (large, small)


def spans(taps: Sequence[DimLike], dilation: Sequence[int]) -> tuple[DimLike, ...]:
    """The extent that dilated taps span: (taps − 1) · dilation + 1."""
    return tuple((k - 1) * d + 1 for k, d in zip(taps, dilation, strict=True))


def last_axes(indices: Iterable[slice | int]) -> Index:
    """The index that applies ``indices`` to the last axes."""
    return (..., *indices)


def unfold(x: Array, window: Window) -> Array:
    """Every window's taps, as a new array; padding reads 0: x[..., *S] → [..., *taps, *out]."""
    view = _windows(pad(x, window), window)
    return np.ascontiguousarray(view)


def pad(x: Array, window: Window, value: object = 0) -> Array:
    """``x`` with the window's padding, cut or extended to what the windows read."""
    lead = x.ndim - len(window.size)
    reach = [
        (o - 1) * s + r if o else 0
        for o, s, r in zip(window.shape, window.stride, map(plain, window.reach), strict=True)
    ]
    before = tuple(map(plain, window.before))
    if not any(before) and all(r <= n for r, n in zip(reach, x.shape[lead:], strict=True)):
        return x
    padded = np.full((*x.shape[:lead], *reach), value, x.dtype)
    kept = [
        slice(b, max(b, min(r, b + n)))
        for b, n, r in zip(before, x.shape[lead:], reach, strict=True)
    ]
    source = [slice(0, place.stop - place.start) for place in kept]
    padded[last_axes(kept)] = x[last_axes(source)]
    return padded


def _windows(padded: Array, window: Window) -> Array:
    """A view of every window's taps: [..., *taps, *out]."""
    rank = len(window.size)
    counts = (*window.tap_shape, *window.shape)
    # Nobody goes along an axis of one place; the step there may be more than an address holds.
    paces = [
        p if n > 1 else 1 for p, n in zip((*window.dilation, *window.stride), counts, strict=True)
    ]
    lead, steps = padded.strides[: padded.ndim - rank], padded.strides[padded.ndim - rank :]
    return np.lib.stride_tricks.as_strided(
        padded,
        (*padded.shape[: padded.ndim - rank], *counts),
        (*lead, *(step * pace for step, pace in zip((*steps, *steps), paces, strict=True))),
        writeable=False,
    )


def fold(columns: Array, window: Window) -> Array:
    """Sum of all taps at the place they were read from, `unfold` transposed.

    columns[..., *taps, *out] → [..., *S]; what falls on padding is dropped.
    """
    rank = len(window.size)
    lead = columns.shape[: columns.ndim - 2 * rank]
    folded = np.zeros((*lead, *map(plain, window.size)), columns.dtype)
    everything = (slice(None),) * len(lead)
    for tap, out, data in window.places():
        folded[everything + data] += columns[everything + tap + out]
    return folded


def slide(combine: np.ufunc, x: Array, window: Window, initial: object) -> Array:
    """``combine`` over every window, one axis after the other: x[..., *S] → [..., *out].

    Valid for operations that are associative and commutative; padding contributes ``initial``,
    which must be neutral.
    """
    lead = x.ndim - len(window.size)
    for axis in reversed(range(len(window.size))):
        shape = list(x.shape)
        shape[lead + axis] = window.shape[axis]
        result = np.full(shape, initial, x.dtype)
        for tap in range(window.tap_shape[axis]):
            out, data = window.along(axis, tap)
            place = (slice(None),) * (lead + axis)
            combine(result[(*place, out)], x[(*place, data)], out=result[(*place, out)])
        x = result
    return x


def _extent(
    size: DimLike, before: int, after: int, reach: DimLike, stride: int, ceil_mode: int
) -> DimLike:
    """Number of windows along one axis."""
    room = size + before + after - reach
    extent = room // stride + 1
    if ceil_mode:
        extent = minimum(ceildiv(room, stride) + 1, ceildiv(size + before, stride))
    require(
        extent != 0 and (known(extent) or 1) > 0,
        f"the padded data must hold a window of reach {reach}, got extent {size} "
        f"with padding {shape_text((before, after))}",
    )
    return extent


def plain(dim: DimLike) -> int:
    """``dim`` as an int; kernels see no other."""
    extent = known(dim)
    if extent is None:
        raise TypeError(f"a plain extent is required, found the symbolic {dim}")
    return extent


__all__ = [
    "AUTO_PADS", "Window", "WindowAttributes", "explicit_padding", "fold", "is_same", "last_axes",
    "pad", "per_axis", "plain", "slide", "spans", "split_padding", "unfold",
]  # fmt: skip
