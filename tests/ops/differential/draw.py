"""Random choices from which test cases are made: dtypes, shapes, contents, attributes.

`Draw` knows the schema version that a case is for and what each type variable stands for in it.
Contents are plain numbers most of the time, and otherwise what breaks kernels: ties, signed zeros,
NaN, infinities, denormals, the ends of integer ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ml_dtypes
import numpy as np

from fornix.dtype import DType
from fornix.ops.schema import Schema

T = TypeVar("T")

LARGEST = 160
"""Elements of a tensor at most: cases are many, so each is small."""

WORDS = ("", "a", "A", "b", "ab", "Straße", "né", "10", "-1.5", "a b", "zz")
SPECIAL_FLOATS = (np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1.0, -1.0)


@dataclass(frozen=True)
class Arguments:
    """What a recipe makes: inputs in schema order, attributes, and how many outputs to ask for."""

    inputs: Sequence[Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1


@dataclass
class Draw:
    """Random choices for one case of ``schema``."""

    rng: np.random.Generator
    schema: Schema
    opset: int
    dtypes: Mapping[str, DType]
    """What each type variable and each literal type of the inputs stands for."""

    def has(self, attribute: str) -> bool:
        """Whether this schema version has ``attribute``."""
        return attribute in self.schema.attributes

    def takes(self, formal: str) -> bool:
        """Whether this schema version has an input called ``formal``."""
        return any(given.name == formal for given in self.schema.inputs)

    def dtype(self, variable: str) -> DType:
        """What ``variable`` stands for."""
        return self.dtypes[variable]

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def maybe(self, make: Callable[[], T]) -> T | None:
        """``make()`` or None, with equal chances."""
        return make() if self.chance() else None

    def whole(self, least: int, most: int) -> int:
        """An integer from ``least`` to ``most``, both included."""
        return int(self.rng.integers(least, most + 1))

    def real(self, least: float = -2.0, most: float = 2.0) -> float:
        """A float32 number, since models store attributes as such."""
        return float(np.float32(self.rng.uniform(least, most)))

    def shape(self, least: int = 0, most: int = 4, *, zero: bool = True) -> tuple[int, ...]:
        """A shape of rank ``least`` to ``most``, now and then up to 8, of few elements."""
        rank = self.whole(least, most)
        if most >= 4 and self.chance(0.08):
            rank = self.whole(5, 8)
        extents = [1, 1, 2, 2, 3, 3, 4, 5]
        shape = [self.pick(extents) for _ in range(rank)]
        while np.prod(shape, dtype=int) > LARGEST:
            shape[int(np.argmax(shape))] = 1
        if zero and rank and self.chance(0.07):
            shape[self.whole(0, rank - 1)] = 0
        return tuple(shape)

    def broadcast(self, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape that broadcasts to ``shape``."""
        own = [extent if self.chance(0.75) else 1 for extent in shape]
        return tuple(own[self.whole(0, len(own)) :]) if self.chance(0.3) else tuple(own)

    def axis(self, rank: int) -> int:
        """An axis of a tensor of ``rank``, counted from either end."""
        return self.whole(-rank, rank - 1)

    def axes(self, rank: int, *, empty: bool = True) -> list[int]:
        """Distinct axes in any order, counted from either end."""
        count = self.whole(0 if empty else min(1, rank), rank)
        chosen = self.rng.permutation(rank)[:count]
        return [int(a) - rank if self.chance(0.4) else int(a) for a in chosen]

    def array(self, variable: str, shape: Sequence[int] = (), *, mild: bool = False) -> Any:
        """A tensor of the dtype of ``variable``; ``mild`` keeps out what cannot be summed up."""
        return contents(self.rng, self.dtypes[variable], tuple(shape), mild=mild)

    def weights(self, variable: str, shape: Sequence[int] = ()) -> Any:
        """A tensor of moderate numbers."""
        return plain(self.rng, self.dtypes[variable], tuple(shape))


def plain(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Any:
    """Moderate numbers: normal floats, integers near zero, words."""
    if dtype.kind == "string":
        return rng.choice(np.array(WORDS, object), shape)
    if dtype.kind == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind == "complex":
        return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape), dtype.numpy)
    if dtype.is_float:
        return np.asarray(rng.standard_normal(shape) * rng.choice([1.0, 3.0])).astype(dtype.numpy)
    least, most = limits(dtype)
    return np.asarray(rng.integers(max(least, -6), min(most, 7) + 1, shape)).astype(dtype.numpy)


def contents(
    rng: np.random.Generator, dtype: DType, shape: tuple[int, ...], *, mild: bool = False
) -> Any:
    """Plain numbers, or ones that break kernels."""
    x = plain(rng, dtype, shape)
    mode = rng.random()
    if mode < 0.5 or dtype.kind in {"string", "bool"}:
        return x
    if dtype.kind == "complex":
        return x
    if dtype.is_float:
        if mode < 0.7:
            return np.asarray(rng.integers(-3, 4, shape) * 0.5).astype(dtype.numpy)
        specials = np.array([*SPECIAL_FLOATS, *(() if mild else float_ends(dtype))])
    else:
        least, most = limits(dtype)
        if mode < 0.7 and not mild:
            return rng.integers(least, most, shape, _native(dtype), endpoint=True).astype(
                dtype.numpy
            )
        ends = [least, most] if not mild else []
        specials = np.array([*ends, *(v for v in (0, 1, -1, 2) if least <= v <= most)], object)
    chosen = rng.choice(specials, shape)
    with np.errstate(all="ignore"):
        special = np.asarray(chosen).astype(dtype.numpy)
    return np.asarray(np.where(rng.random(shape) < 0.5, special, x))


def limits(dtype: DType) -> tuple[int, int]:
    """The least and the greatest integer of ``dtype``."""
    info = ml_dtypes.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


def float_ends(dtype: DType) -> tuple[float, ...]:
    """Denormals and the greatest numbers of a float ``dtype``."""
    info = ml_dtypes.finfo(dtype.numpy)
    tiny, most = float(info.smallest_subnormal), float(info.max)
    return tiny, -tiny, float(info.tiny), most, -most


def _native(dtype: DType) -> Any:
    """The NumPy dtype in which integers of ``dtype`` can be drawn."""
    least, _ = limits(dtype)
    return dtype.numpy if dtype.bits >= 8 else (np.int8 if least < 0 else np.uint8)
