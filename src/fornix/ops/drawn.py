"""Parts of random operators: numbers of a standard distribution, and where these are hits.

What is left of such an operator is arithmetic, which compiled code does. Sessions therefore take
them apart (`passes.split_draws`); models have no operator of this file. Each number is drawn as
NumPy draws it, so that scaled ones are those of the kernels of `ops.random`.
"""

from __future__ import annotations

from collections.abc import Sequence

from fornix.dtype import BOOL as BOOL_DTYPE
from fornix.dtype import FLOAT64
from fornix.ir.dim import DimLike
from fornix.ir.loops import Scalar, Tensor, apply, compute, gathered, index, select
from fornix.ops import PART_DOMAIN
from fornix.ops.call import RunNode
from fornix.ops.fact import Array, Fact, tensor, unranked
from fornix.ops.op import op
from fornix.ops.random import DRAWN, check_chances, generator
from fornix.ops.types import BF16, BOOL, F64, TENSOR

NORMAL, UNIFORM = "normal", "uniform"
"""Distributions: with mean 0 and deviation 1, and from 0 to 1."""

Drawn = op(
    "Drawn <kind: string, seed: float?, shape: ints?> (like: T?) => (numbers: T1)",
    since=1, domain=PART_DOMAIN, T=TENSOR | BF16, T1=F64, deterministic=False,
).opaque(DRAWN)  # fmt: skip


@Drawn.infer
def infer_drawn(
    like: Fact | None = None, *, shape: Sequence[int] | None = None, **_: object
) -> Fact:
    if like is None:
        return tensor(FLOAT64, shape or ())
    return tensor(FLOAT64, like.shape) if like.has_rank else unranked(FLOAT64)


@Drawn.kernel
def drawn(
    like: Array | None = None,
    *,
    kind: str,
    node: RunNode,
    shape: Sequence[int] | None = None,
    seed: float | None = None,
) -> Array:
    """Numbers in the shape of ``like``, or in ``shape``, of a distribution: numbers[*S]."""
    extents = tuple(shape or ()) if like is None else like.shape
    source = generator(seed, node)
    return source.standard_normal(extents) if kind == NORMAL else source.random(extents)


Hits = op(
    "Hits (chances: T, drawn: T) => (hits: T1)", since=1, domain=PART_DOMAIN, T=F64, T1=BOOL
)  # fmt: skip


@Hits.infer
def infer_hits(chances: Fact, drawn: Fact) -> Fact:
    return tensor(BOOL_DTYPE, chances.shape) if chances.has_rank else unranked(BOOL_DTYPE)


@Hits.kernel
def hits(chances: Array, drawn: Array) -> Array:
    """Where numbers that are drawn are below probabilities, all in one shape: hits[*S].

    Raises Fail if a probability is not in [0, 1].
    """
    check_chances(chances)
    return drawn < chances


@Hits.lower
def lower_hits(chances: Tensor, drawn: Tensor) -> Tensor:
    def hit(*k: DimLike) -> Scalar:
        chance, extent = chances[k], chances.shape[-1]
        fits = apply("and", apply("le", 0.0, chance), apply("le", chance, 1.0))
        place = gathered(select(fits, index(k[-1]), -1), extent)  # else the kernel says what it is
        return apply("lt", drawn[(*k[:-1], place)], chance)

    return compute(chances.shape, hit, BOOL_DTYPE)
