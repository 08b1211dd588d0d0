"""Fourier transforms as loops: contractions with tables of cosines and sines.

A table grows with the square of the length, so a length that has factors takes two steps with small
tables, and long transforms stay with the kernel, which is faster by then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fornix.dtype import DType
from fornix.ir.dim import DimLike, known
from fornix.ir.loops import Scalar, Tensor, cast, compute, constant, reduce, stored
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array
from fornix.ops.precision import wide_dtype

LONGEST, LONGEST_IN_STEPS = 512, 2048
"""Length up to which a transform is a contraction, or two: tables have up to a million elements."""
LEAST_FACTOR = 8
"""Of a length that takes two steps."""

Signal = Callable[[Sequence[DimLike], DimLike, DimLike], Scalar]
"""Part p of element n of a signal, by leading indices."""


def whole_length(length: DimLike, node: LowerNode, *, in_steps: bool) -> int:
    """``length`` if tables for it, or for two steps, are small enough; declines otherwise."""
    found = known(length)
    if found is None:
        node.decline("the length of the transform is known at run time only")
    is_split = in_steps and factors_of(found) is not None
    if found > (LONGEST_IN_STEPS if is_split else LONGEST):
        node.decline(f"a transform of {found} elements is faster by halving")
    return found


def transform_table(length: int, inputs: int, outputs: int, *, inverse: bool) -> Array:
    """What part q of output k gets from part p of input n: [inputs, 2, outputs, 2] float64."""
    turns = np.outer(np.arange(inputs), np.arange(outputs)) % length
    angle = turns * (2 * np.pi / length) * (1 if inverse else -1)
    cosine, sine = np.cos(angle), np.sin(angle)
    table = np.empty((inputs, 2, outputs, 2))
    table[:, 0, :, 0] = table[:, 1, :, 1] = cosine
    table[:, 0, :, 1], table[:, 1, :, 0] = sine, -sine
    return table / length if inverse else table


def one_sided_inverse(length: int) -> Array:
    """`transform_table` of a real signal from its first ⌊length/2⌋ + 1 frequencies.

    The others are their conjugates, so those that have such a partner count twice.
    """
    count = length // 2 + 1
    table = transform_table(length, count, length, inverse=True)[..., :1]
    partners = np.arange(count)
    table[(partners > 0) & (2 * partners != length)] *= 2
    # What has no partner is real.
    table[(partners == 0) | (2 * partners == length), 1] = 0
    return table


def factors_of(length: int) -> tuple[int, int] | None:
    """Two factors of ``length``, the first at most the other, if there are none too small."""
    below = range(LEAST_FACTOR, math.isqrt(max(length, 0)) + 1)
    first = max((n for n in below if length % n == 0), default=None)
    return None if first is None else (first, length // first)


@dataclass(frozen=True)
class Sizes:
    """Of a transform in two steps: the factors of its length, parts of an element, outputs."""

    factors: tuple[int, int]
    parts: int
    count: int


def in_two_steps(
    signal: Signal, lead: Sequence[DimLike], sizes: Sizes, dtype: DType, *, inverse: bool
) -> Tensor:
    """The first outputs of a transform, [*lead, count, 2].

    With length a·b, n = n₁·b + n₂ and k = k₁ + a·k₂ the sum over n is one over n₁ for each n₂ and
    k₁, and then one over n₂. Source: Cooley and Tukey, 1965. What the second step multiplies
    lies there twice, the second time multiplied by i, so that it is a product of real matrices.
    """
    (a, b), count, rank = sizes.factors, sizes.count, len(lead)
    rows, wide = -(-count // a), wide_dtype(dtype).numpy
    first = constant(_first_step(a, b, sizes.parts, inverse=inverse).astype(wide))
    second = constant(_second_step(b, rows, inverse=inverse).astype(wide))

    def turned(*i: DimLike) -> Scalar:
        before, (m, r, k, q) = i[:rank], i[rank:]

        def product(n: DimLike, p: DimLike) -> Scalar:
            return signal(before, n * b + m, p) * first[m, n, p, r, k, q]

        return reduce("sum", (a, sizes.parts), product)

    middle = stored(compute((*lead, b, 2, a, 2), turned))

    def at(*i: DimLike) -> Scalar:
        before, (row, k, q) = i[:rank], i[rank:]

        def product(m: DimLike, r: DimLike) -> Scalar:
            return second[row, m, r] * middle[(*before, m, r, k, q)]

        return reduce("sum", (b, 2), product)

    whole = compute((*lead, rows, a, 2), at)
    whole = whole if rows * a == count else stored(whole)

    def result(*i: DimLike) -> Scalar:
        before, (k, q) = i[:rank], i[rank:]
        return cast(whole[(*before, k // a, k % a, q)], dtype)

    return compute((*lead, count, 2), result)


def _first_step(a: int, b: int, parts: int, *, inverse: bool) -> Array:
    """What n₂, n₁ and part p give to (i, k₁) and part q: [b, a, parts, 2, a, 2]."""
    sign = 1 if inverse else -1
    n, k, m = np.arange(a)[:, None], np.arange(a), np.arange(b)[:, None, None]
    turns = (n * k % a) / a + m * k / (a * b)
    factors = np.exp(sign * 2j * np.pi * turns)[:, :, None, None, :]
    factors = factors * np.array([[1, 1j], [1j, -1]])[:parts, :, None]
    table = np.stack([factors.real, factors.imag], axis=-1)
    return table / a if inverse else table


def _second_step(b: int, rows: int, *, inverse: bool) -> Array:
    """What k₂ gets from n₂, of the number and of its product with i: [rows, b, 2]."""
    angle = np.outer(np.arange(rows), np.arange(b)) % b * (2 * np.pi / b) * (1 if inverse else -1)
    table = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return table / b if inverse else table
