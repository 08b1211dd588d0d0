"""Rows of a table of few bits that has a scale for each block: GatherBlockQuantized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fornix.dtype import FLOAT32, INT64, UINT8, DType
from fornix.errors import require
from fornix.ir.dim import DimLike, ceildiv, equal, known
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, const, gathered, index, select
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import normalize_axis, shape_text
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.blocks import WIDTHS, field
from fornix.ops.microsoft.fields import unpacked
from fornix.ops.op import op
from fornix.ops.quantize import spread
from fornix.ops.types import BF16, F4, F8, F16, F32, I4, I32, I64, U8

GatherBlockQuantized = op(
    """GatherBlockQuantized <bits: int = 4, block_size: int = 128, gather_axis: int = 0,
                             quantize_axis: int = 1>
                            (data: T1, indices: Tind, scales: T2, zero_points: T1?)
                         => (output: T2)""",
    since=1, domain=DOMAIN, T1=F4 | F8 | I4 | U8, T2=BF16 | F16 | F32, Tind=I32 | I64,
)  # fmt: skip


@dataclass(frozen=True)
class _Table:
    """Where the elements of a table are, and in which block each of them is."""

    shape: tuple[DimLike, ...]
    gathered: int
    """The axis whose places are asked for."""
    blocked: int
    """The axis that is cut into blocks."""
    size: DimLike
    """Elements of a block."""
    bits: int | None
    """Of an element, where bytes hold several."""

    @property
    def rows(self) -> DimLike:
        """How many places there are to ask for."""
        return self.shape[self.gathered]

    @property
    def scales(self) -> tuple[DimLike, ...]:
        """The extents of what has one number for each block."""
        count = ceildiv(self.shape[self.blocked], self.size)
        return (*self.shape[: self.blocked], count, *self.shape[self.blocked + 1 :])

    @property
    def middle(self) -> float:
        """The zero point where none is given."""
        return 0.0 if self.bits is None else float(1 << self.bits - 1)

    def block(self, place: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        """The place of the block that an element is in."""
        at = self.blocked
        return (*place[:at], place[at] // self.size, *place[at + 1 :])

    def picked(self, indices: Sequence[DimLike]) -> tuple[DimLike, ...]:
        """The extents of the result."""
        return (*self.shape[: self.gathered], *indices, *self.shape[self.gathered + 1 :])


def _table(
    data: Fact | Array | Tensor,
    scales: Sequence[DimLike] | None,
    zeros: Sequence[DimLike] | None,
    *,
    bits: int,
    block_size: int,
    axes: tuple[int, int],
) -> _Table:
    """The table, if attributes and extents fit each other; ``zeros`` are extents, too."""
    dtype, shape = DType.of(data.dtype), tuple(data.shape)
    taken, blocked = (normalize_axis(axis, len(shape)) for axis in axes)
    fields = None
    if dtype is UINT8:
        require(bits in WIDTHS, f"bits must be 2, 4 or 8, got {bits}")
        require(
            taken == 0 and (bits == WIDTHS[-1] or blocked != 0),
            f"gather_axis must be 0 and quantize_axis another for bytes, got {list(axes)}",
        )
        fields, shape = bits, (*shape[:-1], shape[-1] * (8 // bits))
    require(
        block_size > 0 or (dtype.is_float and block_size == 0),
        f"block_size must be positive, got {block_size}",
    )
    require(not dtype.is_float or zeros is None, "zero_points must be left out beside floats")
    table = _Table(shape, taken, blocked, block_size or shape[blocked], fields)
    require(known(table.rows) != 0, f"data{shape_text(data.shape)} must have a row to ask for")
    _check("scales", scales, table.scales, may_be_one=dtype.is_float)
    last = table.scales[-1] if fields is None else ceildiv(table.scales[-1], 8 // fields)
    _check("zero_points", zeros, (*table.scales[:-1], last))
    return table


def _check(
    name: str,
    found: Sequence[DimLike] | None,
    wanted: Sequence[DimLike],
    *,
    may_be_one: bool = False,
) -> None:
    """Raise ShapeError unless ``found`` may be the extents ``wanted``."""
    fits = found is None or (
        len(found) == len(wanted)
        and all(
            (may_be_one and equal(m, 1) is True) or equal(m, n) is not False
            for m, n in zip(found, wanted, strict=True)
        )
    )
    require(fits, f"{name} must be {name}{shape_text(wanted)}, got {name}{shape_text(found or ())}")


@GatherBlockQuantized.infer
def infer_gather_block_quantized(
    data: Fact,
    indices: Fact,
    scales: Fact,
    zero_points: Fact | None = None,
    *,
    bits: int,
    block_size: int,
    gather_axis: int,
    quantize_axis: int,
) -> Fact:
    given = (None if x is None or not x.has_rank else x.shape for x in (scales, zero_points))
    table = _table(
        data, *given, bits=bits, block_size=block_size, axes=(gather_axis, quantize_axis)
    )
    return tensor(scales.dtype, table.picked(indices.shape))


@GatherBlockQuantized.kernel
def gather_block_quantized(
    data: Array,
    indices: Array,
    scales: Array,
    zero_points: Array | None = None,
    *,
    bits: int,
    block_size: int,
    gather_axis: int,
    quantize_axis: int,
) -> Array:
    """The slices of a quantised table whose numbers ``indices`` holds, as floats.

    output = (data − zero_points) · scales, each block_size elements along quantize_axis having one
    of either. data[*S] of bytes holds 8 / bits elements in each, the first in the lowest bits, and
    zero_points alike; those are 2^(bits − 1) if absent, and 0 beside types of 4 bits. Indices may
    count from the end; what lies outside of the table is 0. Floats have no zero points, their
    scales may be one along an axis, and block_size 0 is all of it. Multiplies in float32.
    Source: onnxruntime's contributed operators, GatherBlockQuantized-1.
    """
    table = _table(
        data, scales.shape, None if zero_points is None else zero_points.shape,
        bits=bits, block_size=block_size, axes=(gather_axis, quantize_axis),
    )  # fmt: skip
    rows = data.shape[table.gathered]
    is_inside = (indices >= -rows) & (indices < rows)
    where = np.where(is_inside, indices.astype(np.int64) % rows, 0)
    size = known(table.size) or 1

    def per_element(values: Array) -> Array:
        whole = np.broadcast_to(values, [known(extent) or 0 for extent in table.scales])
        if table.blocked == table.gathered:
            return np.take(whole, where // size, table.gathered)
        behind = indices.ndim - 1 if table.blocked > table.gathered else 0
        taken = np.take(whole, where, table.gathered)
        return spread(taken, y.shape, table.blocked + behind, size)

    def numbers(values: Array) -> Array:
        return values if table.bits is None else unpacked(values, table.bits)

    y = numbers(np.take(data, where, table.gathered)).astype(np.float32)
    if zero_points is None:
        y -= np.float32(table.middle)
    else:
        y -= per_element(numbers(zero_points)[..., : scales.shape[-1]]).astype(np.float32)
    y = y * per_element(scales).astype(np.float32)
    behind = (1,) * (data.ndim - table.gathered - 1)
    return np.where(is_inside.reshape(*indices.shape, *behind), y, 0).astype(scales.dtype)


@GatherBlockQuantized.lower
def lower_gather_block_quantized(
    data: Tensor,
    indices: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    *,
    bits: int,
    block_size: int,
    gather_axis: int,
    quantize_axis: int,
) -> Tensor:
    table = _table(
        data, scales.shape, None if zero_points is None else zero_points.shape,
        bits=bits, block_size=block_size, axes=(gather_axis, quantize_axis),
    )  # fmt: skip
    front, behind = table.gathered, table.gathered + indices.rank
    rows, stated = table.rows, known(scales.shape[front])
    if known(rows) is None and table.blocked != front and stated not in {None, 1}:
        rows = scales.shape[front]  # as many, which stored ones say

    def number(values: Tensor, place: tuple[DimLike, ...]) -> Scalar:
        found = values[place] if table.bits is None else field(values, place, table.bits)
        return cast(found, FLOAT32)

    def at(*i: DimLike) -> Scalar:
        asked = cast(indices[i[front:behind]], INT64)
        is_inside = apply("and", asked >= index(-1 * table.rows), asked < index(table.rows))
        where = gathered(select(is_inside, asked, 0), rows, wraps=True)
        place = (*i[:front], where, *i[behind:])
        block = table.block(place)
        scale = scales[
            tuple(0 if n == 1 else part for n, part in zip(scales.shape, block, strict=True))
        ]
        zero = table.middle if zero_points is None else number(zero_points, block)
        value = (number(data, place) - zero) * cast(scale, FLOAT32)
        return cast(select(is_inside, value, const(0.0, FLOAT32)), scales.dtype)

    return compute(table.picked(indices.shape), at)
