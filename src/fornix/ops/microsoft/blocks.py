"""Products with weights of 2, 4 or 8 bits that have a scale for each block: MatMulNBits."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fornix.dtype import FLOAT32, INT8, INT32, UINT8, DType
from fornix.errors import Fail, NotSupported, require
from fornix.ir.dim import DimLike, equal, known
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    bitcast,
    cast,
    compute,
    gathered,
    index,
    reduce,
    select,
    stored,
)
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.linalg import matmul_shape, multiply
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.fields import unpacked
from fornix.ops.microsoft.shapes import check_shape
from fornix.ops.op import op
from fornix.ops.precision import widened
from fornix.ops.types import BF16, F16, F32, I32, U8

MatMulNBits = op(
    """MatMulNBits <K: int, N: int, accuracy_level: int = 0, bits: int = 4, block_size: int,
                    weight_prepacked: int = 0>
                   (A: T1, B: T2, scales: T1, zero_points: T3?, g_idx: T4?, bias: T1?)
                => (Y: T1)""",
    since=1, domain=DOMAIN, T1=BF16 | F16 | F32, T2=U8, T3=BF16 | F16 | F32 | U8, T4=I32,
)  # fmt: skip

WIDTHS = (2, 4, 8)
"""Bits that a weight may have."""
COARSE = 4
"""The accuracy level that has A rounded to 8 bits."""
LARGEST = 127
"""Of the integers that it is rounded to."""


@MatMulNBits.infer
def infer_mat_mul_n_bits(
    a: Fact,
    b: Fact,
    scales: Fact,
    zero_points: Fact | None = None,
    g_idx: Fact | None = None,
    bias: Fact | None = None,
    *,
    K: int,
    N: int,
    accuracy_level: int,
    bits: int,
    block_size: int,
    weight_prepacked: int,
    node: InferNode,
) -> Fact:
    _check(bits, block_size, weight_prepacked)
    count = -(-K // block_size)
    check_shape("g_idx", g_idx, (None,))
    if g_idx is not None and g_idx.has_rank:
        _check_groups(known(g_idx.shape[0]), K)
        if g_idx.tensor is not None:
            _places(g_idx.tensor.numpy(), K, block_size)
    is_packed = zero_points is not None and zero_points.dtype is UINT8
    check_elements("B", b, (N, count, block_size * bits // 8))
    check_elements("scales", scales, (N, count))
    check_elements("zero_points", zero_points, (N, -(-count * bits // 8) if is_packed else count))
    check_shape("bias", bias, (N,))
    return tensor(a.dtype, matmul_shape(a.shape, (K, N)))


def check_elements(name: str, fact: Fact | None, wanted: tuple[int, ...]) -> None:
    """Raise ShapeError if an input certainly has not as many elements as one of ``wanted``."""
    if fact is None or fact.dtype is None or not fact.has_rank:
        return
    sizes = [size for size in map(known, fact.shape) if size is not None]
    require(
        len(sizes) < fact.rank or math.prod(sizes) == math.prod(wanted),
        f"{name} must have as many elements as {name}{shape_text(wanted)}, "
        f"got {name}{shape_text(fact.shape)}",
    )


def _check_groups(count: int | None, size: int) -> None:
    fits = count is None or count >= size
    require(fits, f"g_idx must have {size} elements, or more, got {count}")


def _is_coarse(
    accuracy_level: int, zero_points: Array | Tensor | None, g_idx: Array | Tensor | None
) -> bool:
    """Whether A is rounded: where integers are left for a whole block of it to be multiplied by."""
    is_of_bytes = zero_points is None or DType.of(zero_points.dtype) is UINT8
    return accuracy_level == COARSE and is_of_bytes and g_idx is None


def _check(bits: int, block_size: int, weight_prepacked: int) -> None:
    require(bits in WIDTHS, f"bits must be 2, 4 or 8, got {bits}")
    require(block_size > 0, f"block_size must be positive, got {block_size}")
    require(
        not weight_prepacked, f"weight_prepacked must be 0, got {weight_prepacked}", NotSupported
    )


@MatMulNBits.kernel
def mat_mul_n_bits(
    a: Array,
    b: Array,
    scales: Array,
    zero_points: Array | None = None,
    g_idx: Array | None = None,
    bias: Array | None = None,
    *,
    K: int,
    N: int,
    accuracy_level: int,
    bits: int,
    block_size: int,
    weight_prepacked: int,
) -> Array:
    """Product with a matrix of small integers that have a scale for each block of a column.

    Y = A · W + bias,   W[k, n] = (B[n, k] − zero_points[n, j]) · scales[n, j],
    j = g_idx[k], or k / block_size if absent.
    A[…, K] · B[N, ⌈K / block_size⌉, block_size · bits / 8], of which each byte holds 8 / bits
    elements, the first in its lowest bits; zero_points are packed alike, or of the scales' type,
    and 2^(bits − 1) if absent. Multiplies in float32; accuracy_level 4 has A rounded first, each
    block_size of it to multiples, −127 to 127, of a scale: their greatest magnitude / 127, unless
    zero_points are floats or g_idx is given.
    Source: onnxruntime's contributed operators, MatMulNBits-1.
    """
    _check(bits, block_size, weight_prepacked)
    matmul_shape(a.shape, (K, N))
    require(
        bias is None or bias.shape == (N,),
        f"bias must be bias[{N}], got bias{shape_text(() if bias is None else bias.shape)}",
    )
    count = -(-K // block_size)
    size = N * count * block_size * bits // 8
    require(b.size == size, f"B must have {size} bytes, got B{shape_text(b.shape)}")
    weights = unpacked(b.reshape(N, -1), bits)[:, :K].astype(np.float32)
    places = _places(g_idx, K, block_size)
    weights -= _origins(zero_points, (N, count), bits)[:, places]
    weights *= widened(_per_block("scales", scales, (N, count)))[:, places]
    is_coarse = _is_coarse(accuracy_level, zero_points, g_idx)
    left = rounded(widened(a), block_size) if is_coarse else widened(a)
    y = multiply(left, weights.T)
    return (y if bias is None else y + widened(bias)).astype(a.dtype, copy=False)


WORD = 32
"""Bits that a processor takes fields out of."""
PARTS = (128, 64, 32, 16)
"""Weights that a block which is a whole column is read by."""


@MatMulNBits.lower
def lower_mat_mul_n_bits(
    a: Tensor,
    b: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    g_idx: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    K: int,
    N: int,
    accuracy_level: int,
    bits: int,
    block_size: int,
    weight_prepacked: int,
    node: LowerNode,
) -> Tensor:
    _check(bits, block_size, weight_prepacked)
    fields = WORD // bits
    if block_size % fields:
        node.decline(f"blocks of {block_size} weights are no whole words")
    count = -(-K // block_size)
    size = block_size * bits // 8
    is_coarse = _is_coarse(accuracy_level, zero_points, g_idx)
    each = 1 if is_coarse or g_idx is not None or count > 1 else parts_of(block_size, K)
    packed = of_shape(b, (N, count * each, size // each), node)
    weights = Words(packed, of_shape(scales, (N, count), node), None, bits, each)
    if zero_points is not None:
        width = -(-count * bits // 8) if zero_points.dtype is UINT8 else count
        weights = replace(weights, zero_points=of_shape(zero_points, (N, width), node))
    left = _in_blocks(a, K, block_size // each)
    if g_idx is not None:
        if known(g_idx.shape[0]) is None:
            node.decline("whether each column says its block is known at run time only")
        g_idx = compute((K,), g_idx.__getitem__)  # what is behind tells of no column
        y = _scattered_product(left, weights, g_idx, (K, N))
    else:
        y = (coarse_product if is_coarse else exact_product)(left, weights, N)

    def at(*i: DimLike) -> Scalar:
        return cast(y[i] if bias is None else y[i] + cast(bias[i[-1]], FLOAT32), a.dtype)

    return compute(y.shape, at)


def parts_of(block_size: int, size: int) -> int:
    """How many blocks a column's one block is read as: of one alone the engine makes numbers."""
    return next(
        (
            block_size // n
            for n in PARTS
            if n < block_size and n < max(size, PARTS[-1] + 1) and block_size % n == 0
        ),
        1,
    )


def of_shape(x: Tensor, shape: tuple[int, ...], node: LowerNode) -> Tensor:
    """``x`` as a tensor of ``shape``, whose elements it has, whatever its axes are."""
    if x.rank == len(shape) and False not in map(equal, x.shape, shape):
        return x
    if any(known(extent) is None for extent in x.shape):
        node.decline("how its blocks lie in memory is known at run time only")

    def at(*i: DimLike) -> Scalar:
        number: DimLike = 0
        for extent, part in zip(shape, i, strict=True):
            number = number * extent + part
        place: list[DimLike] = []
        for whole in reversed(x.shape[1:]):
            place.append(number - number // whole * whole)
            number = number // whole
        return x[(number, *reversed(place))]

    return compute(shape, at)


def _in_blocks(a: Tensor, size: int, block_size: int) -> Tensor:
    """a[…, size] as float32 in […, blocks, block_size], 0 behind the end."""

    def at(*i: DimLike) -> Scalar:
        place = (*i[:-2], i[-2] * block_size + i[-1])
        return cast(a.get(place, 0) if size % block_size else a[place], FLOAT32)

    return compute((*a.shape[:-1], -(-size // block_size), block_size), at)


def exact_product(a: Tensor, weights: Words, columns: DimLike) -> Tensor:
    """The product of a[…, blocks, block_size] in float32."""
    fields = WORD // weights.bits

    def at(*i: DimLike) -> Scalar:
        *lead, n = i
        own = weights.of(lead)

        def block(j: DimLike) -> Scalar:
            def term(word: DimLike, field: DimLike) -> Scalar:
                return a[(*lead, j, word * fields + field)] * own.step(n, j, word, field)

            inner = reduce("sum", ((known(a.shape[-1]) or 0) // fields, fields), term)
            return own.scale(n, j) * inner

        return reduce("sum", a.shape[-2], block)

    return compute((*a.shape[:-2], columns), at)


def _scattered_product(a: Tensor, weights: Words, g_idx: Tensor, shape: tuple[int, int]) -> Tensor:
    """The product of a[…, blocks, block_size], of whose columns ``g_idx`` says the blocks."""
    rows, columns = shape
    count, size = a.shape[-2:]
    fields = WORD // weights.bits

    def at(*i: DimLike) -> Scalar:
        *lead, n = i

        def term(j: DimLike, word: DimLike, field: DimLike) -> Scalar:
            k = j * size + word * fields + field
            own = gathered(g_idx.get((k,), 0) if rows % size else g_idx[k], count)
            step = weights.step(n, j, word, field, own)
            return a[(*lead, j, word * fields + field)] * (step * weights.scale(n, own))

        return reduce("sum", (count, size // fields, fields), term)

    return compute((*a.shape[:-2], columns), at)


def coarse_product(a: Tensor, weights: Words, columns: DimLike) -> Tensor:
    """The product of a[…, blocks, block_size], rounded as `rounded` does, four bytes at a time."""
    size, per_byte = known(a.shape[-1]) or 0, 8 // weights.bits
    fields, blocks = WORD // weights.bits, a.shape[:-1]
    top = compute(blocks, lambda *i: reduce("max", size, lambda k: abs(a[(*i, k)])))

    def scale(*i: DimLike) -> Scalar:
        is_finite = apply("lt", top[i], math.inf)
        return select(is_finite, top[i] * (1 / LARGEST), math.nan)

    scales = stored(compute(blocks, scale), "scales")

    def whole(*i: DimLike) -> Scalar:
        by = scales[i[:-1]]
        quotient = apply("rint", a[i] / select(apply("eq", by, 0.0), 1.0, by))
        return cast(quotient, INT32)

    def quad(*i: DimLike) -> Scalar:
        *lead, word, part = i
        places = ((*lead, word * fields + k * per_byte + part) for k in range(4))
        bytes_ = [apply("and", whole(*place), 255) for place in places]
        return _joined([apply("shl", byte, 8 * k) for k, byte in enumerate(bytes_)])

    quads = stored(compute((*blocks, size // fields, per_byte), quad), "quads")
    sums = stored(compute(blocks, lambda *i: reduce("sum", size, lambda k: whole(*i, k))), "sums")

    def at(*i: DimLike) -> Scalar:
        *lead, n = i
        own = weights.of(lead)

        def block(j: DimLike) -> Scalar:
            def term(word: DimLike, part: DimLike) -> Scalar:
                return apply("dot4", own.quad(n, j, word, part), quads[(*lead, j, word, part)])

            inner = reduce("sum", (size // fields, per_byte), term)
            steps = own.less_zero(inner, sums[(*lead, j)], n, j)
            return own.scale(n, j) * (scales[(*lead, j)] * steps)

        return reduce("sum", a.shape[-2], block)

    return compute((*a.shape[:-2], columns), at)


@dataclass(frozen=True)
class Words:
    """Weights in words of 32 bits, with what belongs to each block."""

    packed: Tensor
    """[N, blocks, bytes]"""
    scales: Tensor
    """[N, blocks]"""
    zero_points: Tensor | None
    """Bytes, or one for each block."""
    bits: int
    each: int = 1
    """So many blocks in a row have one scale and zero point."""
    experts: Tensor | None = None
    """Which of several matrices, that are one axis more in front, each row is multiplied by."""
    lead: tuple[DimLike, ...] = ()
    """The place of a matrix among several."""

    def of(self, row: Sequence[DimLike]) -> Words:
        """Those of the matrix that ``row`` is multiplied by."""
        if self.experts is None:
            return self
        expert = gathered(self.experts[tuple(row)], self.packed.shape[0])
        return replace(self, experts=None, lead=(expert,))

    @property
    def middle(self) -> int:
        """The zero point where none is given."""
        return 1 << self.bits - 1

    def step(
        self, n: DimLike, j: DimLike, word: DimLike, field: DimLike, own: DimLike | None = None
    ) -> Scalar:
        """The weight in ``field`` of ``word`` of block ``j``, less its zero point, unscaled.

        The zero point is that of block ``own``, if that is another.
        """
        step = self._signed(n, j, word, field)
        if self.zero_points is None:
            return cast(step, FLOAT32)
        j = j if own is None else own
        if self.zero_points.dtype is not UINT8:
            zero = cast(self.zero_points[(*self.lead, n, j // self.each)], FLOAT32)
            return cast(step, FLOAT32) - (zero - float(self.middle))
        zero = bitcast(
            apply("xor", self._zero(self.zero_points, n, j), self.middle) << 8 - self.bits, INT8
        )
        return cast(step - cast(zero >> 8 - self.bits, INT32), FLOAT32)

    def _signed(self, n: DimLike, j: DimLike, word: DimLike, field: DimLike) -> Scalar:
        """The weight less the middle of its range; where it is a byte, read as such."""
        if self.bits == INT8.bits:
            place = (*self.lead, n, j, word * (WORD // INT8.bits) + field)
            return cast(bitcast(apply("xor", self.packed[place], self.middle), INT8), INT32)
        middles = sum(self.middle << at for at in range(0, WORD, self.bits)) - 2**WORD
        signed = apply("xor", self._word(n, j, word), middles)
        shift = cast(index(field * -self.bits + (WORD - self.bits)), INT32)
        return apply("shr", apply("shl", signed, shift), WORD - self.bits)

    def quad(self, n: DimLike, j: DimLike, word: DimLike, part: DimLike) -> Scalar:
        """Every so many fields of a word as its four bytes, from field number ``part`` on."""
        ones = 0x01010101
        shifted = apply("shr", self._word(n, j, word), cast(index(part * self.bits), INT32))
        return shifted if self.bits == 8 else apply("and", shifted, ones * (2**self.bits - 1))

    def less_zero(self, total: Scalar, sum_: Scalar, n: DimLike, j: DimLike) -> Scalar:
        """``total`` of products less the zero point times the ``sum_`` of what it multiplies."""
        if self.zero_points is None:
            return cast(total - sum_ * self.middle, FLOAT32)
        return cast(total - sum_ * cast(self._zero(self.zero_points, n, j), INT32), FLOAT32)

    def _word(self, n: DimLike, j: DimLike, word: DimLike) -> Scalar:
        places = (word * (WORD // 8) + k for k in range(WORD // 8))
        bytes_ = [cast(self.packed[(*self.lead, n, j, place)], INT32) for place in places]
        return _joined([apply("shl", byte, 8 * k) for k, byte in enumerate(bytes_)])

    def scale(self, n: DimLike, j: DimLike) -> Scalar:
        """The scale of a block."""
        return cast(self.scales[(*self.lead, n, j // self.each)], FLOAT32)

    def _zero(self, zero_points: Tensor, n: DimLike, j: DimLike) -> Scalar:
        """The zero point of a block, or of a column, a field of a byte."""
        place = (*self.lead, n, j // self.each)
        return field(zero_points, place[: zero_points.rank], self.bits)


def field(packed: Tensor, place: Sequence[DimLike], bits: int) -> Scalar:
    """The element at ``place`` of what lies in bytes along its last axis, `unpacked` of one."""
    *lead, j = place
    fields = 8 // bits
    shift = cast(index((j - j // fields * fields) * bits), UINT8)
    return apply("and", apply("shr", packed[(*lead, j // fields)], shift), 2**bits - 1)


def _joined(parts: Sequence[Scalar]) -> Scalar:
    return functools.reduce(lambda x, y: apply("or", x, y), parts)


def rounded(a: Array, block_size: int) -> Array:
    """a[…, K], each block rounded to 255 numbers."""
    *lead, size = a.shape
    count = -(-size // block_size)
    blocks = np.zeros((*lead, count, block_size), a.dtype)
    blocks.reshape(*lead, count * block_size)[..., :size] = a
    scales = np.abs(blocks).max(axis=-1, keepdims=True) * a.dtype.type(1 / LARGEST)
    rounded = np.rint(blocks / np.where(scales == 0, 1, scales)) * scales
    return np.asarray(rounded.reshape(*lead, count * block_size)[..., :size])


def _places(g_idx: Array | None, size: int, block_size: int) -> Array:
    """The block whose scale and zero point each of ``size`` weights of a column has."""
    if g_idx is None:
        return np.arange(size) // block_size
    _check_groups(len(g_idx), size)
    places, count = g_idx[:size], -(-size // block_size)
    wrong = places[(places < 0) | (places >= count)]
    require(
        not wrong.size,
        f"g_idx must hold numbers of {count} blocks, 0 to {count - 1}, got {wrong[:1].sum()}",
        Fail,
    )
    return places


def _origins(zero_points: Array | None, shape: tuple[int, int], bits: int) -> Array:
    """The zero point of each block, as float32."""
    if zero_points is None:
        return np.full(shape, 2 ** (bits - 1), np.float32)
    if zero_points.dtype != np.uint8:
        return widened(_per_block("zero_points", zero_points, shape))
    rows, count = shape
    width = -(-count * bits // 8)
    require(
        zero_points.size == rows * width,
        f"zero_points must have {rows * width} bytes, got shape {shape_text(zero_points.shape)}",
    )
    return unpacked(zero_points.reshape(rows, width), bits)[:, :count].astype(np.float32)


def _per_block(name: str, values: Array, shape: tuple[int, int]) -> Array:
    rows, count = shape
    require(
        values.size == rows * count,
        f"{name} must have shape {shape_text(shape)}, got {name}{shape_text(values.shape)}",
    )
    return values.reshape(rows, count)
