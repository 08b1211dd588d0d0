"""Products of bytes as loops, four at a time, with zero points taken off afterwards.

`dot4` multiplies unsigned bytes with signed ones. An operand of the other sign moves by 128, and
its zero point with it; then
``Σ (a − za)·(b − zb) = Σ a·b − za·Σ b − zb·Σ a + K·za·zb``, where the sums of one operand alone are
small work, most often none: zero points of weights are 0 as a rule.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from fornix.dtype import INT8, INT32, UINT8
from fornix.ir.dim import DimLike, ceildiv, known
from fornix.ir.loops import (
    Apply,
    Const,
    Constant,
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    reduce,
    select,
    stored,
)
from fornix.ir.loops.scalar import TRUE, const, index
from fornix.ops.conv import lower_convolve
from fornix.ops.linalg import lower_multiply
from fornix.ops.precision import wide_element
from fornix.ops.quantize_loops import At
from fornix.ops.window import Window

OFFSET = 128
"""Between signed and unsigned bytes that differ in the first bit only."""
ONES = 0x01010101
"""1 in each byte."""
FIRST_BITS = -0x7F7F7F80
"""The first bit of each byte: what moving all four by 128 changes."""


@dataclass(frozen=True)
class Bytes:
    """A tensor of 8-bit integers as an operand of `dot4`, and the zero point to be taken off."""

    x: Tensor
    zero: At | None
    """None where it is 0."""
    move: int
    """What is added to elements and to the zero point, so that they have the right sign."""

    @classmethod
    def of(cls, x: Tensor, zero: At | None, *, is_signed: bool) -> Bytes:
        """``x`` in the sign that is asked for."""
        move = OFFSET * ((x.dtype is INT8) - is_signed)
        if move == 0:
            return cls(x, zero, 0)
        return cls(x, lambda i: const(move, INT32) if zero is None else zero(i) + move, move)

    def at(self, place: tuple[DimLike, ...]) -> Scalar:
        """The element at ``place`` as an int32; 0 outside of the tensor."""
        value = cast(self.x.get(place, -self.move), INT32)
        return value + self.move if self.move else value

    def quads(self, axis: int) -> Tensor:
        """Four neighbours along ``axis`` as the bytes of one int32, 0 behind the end."""
        extents = self.x.shape
        shape = (*extents[:axis], ceildiv(extents[axis], 4), *extents[axis + 1 :])

        def at(*i: DimLike) -> Scalar:
            places = ((*i[:axis], i[axis] * 4 + k, *i[axis + 1 :]) for k in range(4))
            bits = (cast(self.x.get(place, -self.move), INT32) for place in places)
            a, b, c, d = (apply("and", x, 255) for x in bits)
            low = apply("or", a, apply("shl", b, 8))
            high = apply("or", c, apply("shl", d, 8))
            quad = apply("or", low, apply("shl", high, 16))
            return apply("xor", quad, FIRST_BITS) if self.move else quad

        return compute(shape, at)

    def sums(self, axis: int) -> Tensor:
        """The sums of the elements along ``axis``, which is left out."""
        extents = self.x.shape

        def at(*i: DimLike) -> Scalar:
            return reduce("sum", extents[axis], lambda k: self.at((*i[:axis], k, *i[axis:])))

        return stored(compute((*extents[:axis], *extents[axis + 1 :]), at), "sums")


def are_bytes(*tensors: Tensor) -> bool:
    """Whether all ``tensors`` are of 8-bit integers."""
    return all(x.dtype in {INT8, UINT8} for x in tensors)


def is_zero(x: Tensor) -> bool:
    """Whether all elements of ``x`` are known to be 0."""
    if x.buffer is None:
        element = x[(0,) * x.rank]
        return isinstance(element, Const) and element.value == 0 and x.shape == (1,) * x.rank
    return isinstance(x.buffer.source, Constant) and not x.buffer.source.array.any()


def _signs(a: Tensor, b: Tensor) -> tuple[bool, bool]:
    """Which operand is the signed one: ``b``, unless only ``a`` is."""
    is_first = a.dtype is INT8 and b.dtype is UINT8
    return is_first, not is_first


def _dot4(is_first_signed: bool) -> Callable[[Scalar, Scalar], Scalar]:
    if is_first_signed:
        return lambda a, b: apply("dot4", b, a)
    return lambda a, b: apply("dot4", a, b)


def lower_byte_product(a: Tensor, b: Tensor, a_zero: At | None, b_zero: At | None) -> Tensor:
    """The product of matrices of bytes less their zero points, in int32 that wraps.

    ``a_zero`` and ``b_zero`` take places of the result.
    """
    of_a, of_b = _signs(a, b)
    left, right = Bytes.of(a, a_zero, is_signed=of_a), Bytes.of(b, b_zero, is_signed=of_b)
    inner, row, column = a.shape[-1], a.rank - 1, b.rank - 2
    total = lower_multiply(left.quads(row), right.quads(column), _dot4(of_a))
    of_columns = None if left.zero is None else right.sums(column)
    of_rows = None if right.zero is None else left.sums(row)

    def at(*i: DimLike) -> Scalar:
        value = total[i]
        za, zb = (None if x.zero is None else x.zero(i) for x in (left, right))
        if za is not None and of_columns is not None:
            value = value - za * wide_element(of_columns, (*i[:-2], i[-1]))
        if zb is not None and of_rows is not None:
            value = value - zb * wide_element(of_rows, i[:-1])
        if za is not None and zb is not None:
            value = value + za * zb * cast(index(inner), INT32)
        return value

    return compute(total.shape, at)


def fits_quads(w: Tensor, group: int) -> bool:
    """Whether four channels never belong to two groups."""
    channels = known(w.shape[1])
    return group == 1 or (channels is not None and channels % 4 == 0)


def lower_byte_convolution(
    x: Tensor, w: Tensor, x_zero: Scalar | None, w_zero: At | None, win: Window, group: int
) -> Tensor:
    """The convolution of bytes less their zero points, in int32 that wraps.

    Padding stands for the zero point of ``x``; ``w_zero`` takes places of the weights.
    """
    of_x, of_w = _signs(x, w)
    at_x = None if x_zero is None else (lambda _: x_zero)
    data, filters = Bytes.of(x, at_x, is_signed=of_x), Bytes.of(w, w_zero, is_signed=of_w)
    image, win, border = _padded(data, win, is_counted=filters.zero is not None)
    dot4 = _dot4(of_x)
    weights = filters.quads(1)
    total = lower_convolve(image, weights, win, group, dot4, border)
    of_filters = None if data.zero is None else _filter_sums(filters)
    of_windows = None
    if filters.zero is not None:
        ones = compute((group, *weights.shape[1:]), lambda *_: ONES, INT32)
        of_windows = stored(lower_convolve(image, ones, win, group, dot4, border), "windows")
    terms, per_group = cast(index(math.prod(w.shape[1:])), INT32), w.shape[0] // group

    def at(n: DimLike, m: DimLike, *o: DimLike) -> Scalar:
        value, place = total[n, m, *o], (m, *[0] * (w.rank - 1))
        zx, zw = (None if b.zero is None else b.zero(place) for b in (data, filters))
        if zx is not None and of_filters is not None:
            value = value - zx * of_filters[m]
        if zw is not None and of_windows is not None:
            value = value - zw * of_windows[n, 0 if group == 1 else m // per_group, *o]
        if zx is not None and zw is not None:
            value = value + zx * zw * terms
        return value

    return compute(total.shape, at)


def _filter_sums(filters: Bytes) -> Tensor:
    """The sum of the weights of each filter."""
    count, *box = filters.x.shape
    sums = compute((count,), lambda m: reduce("sum", box, lambda *k: filters.at((m, *k))))
    return stored(sums, "sums")


def _padded(data: Bytes, win: Window, *, is_counted: bool) -> tuple[Tensor, Window, int]:
    """The quads of the channels, and those that stand around them: zero points.

    Where these are known at run time only, the quads have them around already; and where windows
    are added up, `is_counted`, unless channels fill quads.
    """
    image = data.quads(1)
    pads = (*win.before, *win.after)
    if data.zero is None or all(known(p) == 0 for p in pads):
        return image, win, 0
    zero = apply("and", data.zero((0,) * image.rank), 255)
    number, channels = _number(zero), data.x.shape[1]
    if number is not None and (not is_counted or known(channels % 4) == 0):
        return image, win, int.from_bytes(bytes([number] * 4), "little", signed=True)
    size = tuple(n + b + a for n, b, a in zip(win.size, win.before, win.after, strict=True))

    def at(n: DimLike, c: DimLike, *s: DimLike) -> Scalar:
        place = tuple(i - b for i, b in zip(s, win.before, strict=True))
        inside: Scalar = TRUE
        for i, extent in zip(place, win.size, strict=True):
            inside = inside & (index(i) >= 0) & (index(i) < index(extent))
        return select(inside, image.get((n, c, *place), 0), _repeated(zero, c * 4, channels))

    none = (0,) * len(size)
    padded = stored(compute((*image.shape[:2], *size), at), "padded")
    return padded, replace(win, size=size, before=none, after=none), 0


def _number(e: Scalar) -> int | None:
    """What ``e``, an integer, comes to; None if that is known at run time only."""
    if isinstance(e, Const):
        return int(e.value)
    if not isinstance(e, Apply) or e.op not in {"cast", "add", "and"}:
        return None
    parts = [_number(a) for a in e.args]
    known_parts = [part for part in parts if part is not None]
    if len(known_parts) != len(parts):
        return None
    a, b = known_parts[0], known_parts[-1]
    return {"cast": a, "add": a + b, "and": a & b}[e.op]


def _repeated(byte: Scalar, first: DimLike, end: DimLike) -> Scalar:
    """``byte`` four times, for elements from ``first`` on; 0 for those from ``end`` on."""
    parts = [select(index(first + k) < index(end), apply("shl", byte, 8 * k), 0) for k in range(4)]
    return functools.reduce(lambda a, b: apply("or", a, b), parts)


__all__ = ["are_bytes", "fits_quads", "is_zero", "lower_byte_convolution", "lower_byte_product"]
