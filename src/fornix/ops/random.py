"""Random numbers: RandomNormal, RandomUniform, Bernoulli, Multinomial and their kin.

With a ``seed`` a node gives the same numbers in every run; without, it goes on in the generator of
the session. Which numbers those are is not ONNX Runtime's affair nor the standard's.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from fornix.cast import convert
from fornix.dtype import DType
from fornix.errors import Fail, require
from fornix.ir.dim import DimLike
from fornix.ops.call import BodyNode, RunNode
from fornix.ops.fact import Array, Fact, tensor, unranked
from fornix.ops.geometry import shape_text
from fornix.ops.op import op
from fornix.ops.types import BF16, BOOL, FLOAT, I32, I64, NUMERIC, TENSOR

DRAWN = "the order in which numbers are drawn is part of the result"
"""Why compiled code calls the kernels."""

RandomNormal = (
    op("""RandomNormal <dtype: int = 1, mean: float = 0.0, scale: float = 1.0, seed: float?,
              shape: ints> () => (output: T)""", since=1, T=FLOAT, deterministic=False)
    .since(22, T=+BF16)
    .opaque(DRAWN)
)  # fmt: skip

RandomUniform = (
    op("""RandomUniform <dtype: int = 1, high: float = 1.0, low: float = 0.0, seed: float?,
              shape: ints> () => (output: T)""", since=1, T=FLOAT, deterministic=False)
    .since(22, T=+BF16)
    .opaque(DRAWN)
)  # fmt: skip


@RandomNormal.infer
@RandomUniform.infer
def infer_random(*, dtype: int, shape: list[int], **_: float) -> Fact:
    _check_shape(shape)
    return tensor(DType.of(dtype), shape)


@RandomNormal.kernel
def random_normal(
    *,
    dtype: int,
    mean: float,
    scale: float,
    shape: list[int],
    seed: float | None = None,
    node: RunNode,
) -> Array:
    """A tensor of numbers from the normal distribution with ``mean`` and deviation ``scale``.

    output[*shape] of the element type that the number ``dtype`` names, 1 for float32. With a
    ``seed`` every run gives the same numbers, without one they go on.
    Source: ONNX RandomNormal-22.
    """
    _check_shape(shape)
    return _as_dtype(generator(seed, node).normal(mean, scale, shape), DType.of(dtype))


@RandomUniform.kernel
def random_uniform(
    *,
    dtype: int,
    low: float,
    high: float,
    shape: list[int],
    seed: float | None = None,
    node: RunNode,
) -> Array:
    """A tensor of numbers from the uniform distribution between ``low`` and ``high``.

    output[*shape] of the element type that the number ``dtype`` names, 1 for float32; ``low``
    may occur, ``high`` only by rounding. With a ``seed`` every run gives the same numbers, without
    one they go on.
    Source: ONNX RandomUniform-22.
    """
    _check_shape(shape)
    return _as_dtype(generator(seed, node).uniform(low, high, shape), DType.of(dtype))


def generator(seed: float | None, node: RunNode) -> np.random.Generator:
    """The session's generator, or a new one that the float32 ``seed`` determines."""
    return node.random if seed is None else seeded(seed)


def seeded(seed: float) -> np.random.Generator:
    """A new generator that the float32 ``seed`` determines."""
    return np.random.default_rng(struct.unpack("<I", struct.pack("<f", seed))[0])


def _as_dtype(numbers: Array | float, dtype: DType) -> Array:
    return convert(np.asarray(numbers), dtype)


def _check_shape(shape: Sequence[int]) -> None:
    require(
        min(shape, default=0) >= 0, f"entries of shape must be 0 or more, got {shape_text(shape)}"
    )


RandomNormalLike = (
    op("""RandomNormalLike <dtype: int?, mean: float = 0.0, scale: float = 1.0, seed: float?>
              (input: T1) => (output: T2)""", since=1, T1=TENSOR, T2=FLOAT, deterministic=False)
    .since(22, T1=+BF16, T2=+BF16)
    .opaque(DRAWN)
)  # fmt: skip

RandomUniformLike = (
    op("""RandomUniformLike <dtype: int?, high: float = 1.0, low: float = 0.0, seed: float?>
              (input: T1) => (output: T2)""", since=1, T1=TENSOR, T2=FLOAT, deterministic=False)
    .since(22, T1=+BF16, T2=+BF16)
    .opaque(DRAWN)
)  # fmt: skip

Bernoulli = (
    op("Bernoulli <dtype: int?, seed: float?> (input: T1) => (output: T2)",
       since=15, T1=FLOAT, T2=NUMERIC | BF16 | BOOL, deterministic=False)
    .since(22, T1=+BF16)
    .opaque(DRAWN)
)  # fmt: skip


@RandomNormalLike.infer
@RandomUniformLike.infer
@Bernoulli.infer
def infer_random_like(input: Fact, *, dtype: int | None = None, **_: float) -> Fact:
    result = input.dtype if dtype is None else DType.of(dtype)
    return tensor(result, input.shape) if input.has_rank else unranked(result)


def _result_dtype(input: Array, dtype: int | None) -> DType:
    return DType.of(input.dtype if dtype is None else dtype)


@RandomNormalLike.kernel
def random_normal_like(
    input: Array,
    *,
    mean: float,
    scale: float,
    dtype: int | None = None,
    seed: float | None = None,
    node: RunNode,
) -> Array:
    """Numbers from a normal distribution in the shape of ``input``, and of its type unless given.

    input[*S] → output[*S]; contents do not matter. With a ``seed`` every run gives the same
    numbers, without one they go on.
    Source: ONNX RandomNormalLike-22.
    """
    numbers = generator(seed, node).normal(mean, scale, input.shape)
    return _as_dtype(numbers, _result_dtype(input, dtype))


@RandomUniformLike.kernel
def random_uniform_like(
    input: Array,
    *,
    low: float,
    high: float,
    dtype: int | None = None,
    seed: float | None = None,
    node: RunNode,
) -> Array:
    """Numbers from a uniform distribution in the shape of ``input``, and of its type unless given.

    input[*S] → output[*S]; contents do not matter. With a ``seed`` every run gives the same
    numbers, without one they go on.
    Source: ONNX RandomUniformLike-22.
    """
    numbers = generator(seed, node).uniform(low, high, input.shape)
    return _as_dtype(numbers, _result_dtype(input, dtype))


@Bernoulli.body(since=15)
def bernoulli_body(*, node: BodyNode) -> str:
    seed = ", seed: float = @seed" if "seed" in node.attributes else ""
    is_told = "dtype" in node.attributes
    return f"""
        Chance = Cast <to = 11> (input)
        Drawn = RandomUniformLike <dtype = 11{seed}> (Chance)
        Hit = Less (Drawn, Chance)
        output = {"Cast <to: int = @dtype> (Hit)" if is_told else "CastLike (Hit, input)"}
    """


@Bernoulli.kernel
def bernoulli(
    input: Array, *, dtype: int | None = None, seed: float | None = None, node: RunNode
) -> Array:
    """1 with the probability that ``input`` says, else 0, for each element.

    input[*S] → output[*S] of the element type ``dtype``, else of the input's. Seeds as in
    RandomUniform. Raises Fail if a probability is not in [0, 1]. Source: ONNX Bernoulli-22.
    """
    chances = input.astype(np.float64)
    check_chances(chances)
    drawn = generator(seed, node).random(input.shape) < chances
    return _as_dtype(drawn, _result_dtype(input, dtype))


def check_chances(chances: Array) -> None:
    """Raise Fail unless all are probabilities."""
    outside = chances[~((chances >= 0) & (chances <= 1))]
    require(
        outside.size == 0, f"probabilities must be in [0, 1], found {outside[:1].tolist()}", Fail
    )


Multinomial = (
    op("""Multinomial <dtype: int = 6, sample_size: int = 1, seed: float?> (input: T1) =>
              (output: T2)""", since=7, T1=FLOAT, T2=I32 | I64, deterministic=False)
    .since(22, T1=+BF16)
    .opaque(DRAWN)
)  # fmt: skip


@Multinomial.infer
def infer_multinomial(
    input: Fact, *, dtype: int, sample_size: int, seed: float | None = None
) -> Fact:
    if not input.has_rank:
        return tensor(DType.of(dtype), [None, sample_size])
    _check_weights(input.shape, sample_size)
    return tensor(DType.of(dtype), (input.shape[0], sample_size))


@Multinomial.kernel
def multinomial(
    input: Array, *, dtype: int, sample_size: int, seed: float | None = None, node: RunNode
) -> Array:
    """For each row of ``input``, ``sample_size`` outcomes drawn with the probabilities e^input / Σ.

    input[B, C] → output[B, sample_size] of numbers in [0, C), drawn with replacement. Seeds as in
    RandomUniform. Source: ONNX Multinomial-22.
    """
    _check_weights(input.shape, sample_size)
    wide = input.astype(np.float64)
    weights = np.exp(wide - wide.max(axis=1, keepdims=True, initial=-np.inf))
    ends = np.cumsum(weights, axis=1)
    drawn = generator(seed, node).random((len(input), sample_size))
    classes = [
        np.searchsorted(row, points * row[-1], "right")
        for row, points in zip(ends, drawn, strict=True)
    ]
    result = np.array(classes, np.int64).reshape(len(input), sample_size)
    return _as_dtype(result, DType.of(dtype))


def _check_weights(shape: Sequence[DimLike], sample_size: int) -> None:
    require(
        len(shape) == 2 and shape[1] != 0,
        f"input must be [B, C] with at least one class, found {shape_text(shape)}",
    )
    require(sample_size >= 1, f"sample_size must be 1 or more, got {sample_size}")
