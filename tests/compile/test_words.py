from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile.words import is_word, word_of
from fornix.dtype import BFLOAT16, INT8, INT32, INT64, UINT8, UINT16, UINT32, UINT64, DType
from fornix.ir.loops import Tensor, Variable, apply, bitcast, cast, compute, index, tensor
from tests.compile.native import check


def joined(x: Tensor, place: Any) -> Any:
    """Four elements of ``x`` from ``place`` on as one int32."""
    a, b, c, d = (apply("and", cast(x.get(place + k, 0), INT32), 255) for k in range(4))
    low = apply("or", a, apply("shl", b, 8))
    return apply("or", low, apply("shl", apply("or", c, apply("shl", d, 8)), 16))


@pytest.mark.parametrize("dtype", [UINT8, INT8])
def test_four_aligned_bytes_are_a_word(dtype: DType) -> None:
    x, i = tensor("x", (64,), dtype), Variable("i", 16)
    word = word_of(joined(x, i.dim * 4))
    assert word is not None
    assert (word.buffer, word.place, word.guard) == (x.buffer, i.dim, None)


def test_bytes_elsewhere_are_none() -> None:
    x, i = tensor("x", (64,), UINT8), Variable("i", 15)
    y = tensor("y", (64,), UINT8)
    whole = joined(x, i.dim * 4)
    low = joined(y, i.dim * 4)
    assert not is_word(joined(x, i.dim * 4 + 1))
    assert not is_word(joined(x, i.dim))
    assert not is_word(apply("or", low.args[0], whole.args[1]))


def test_words_at_the_end_are_guarded() -> None:
    x, i = tensor("x", (62,), UINT8), Variable("i", 17)
    assert not is_word(joined(x, i.dim * 4))


@pytest.mark.parametrize("n", [4, 60, 256])
@pytest.mark.parametrize("dtype", [UINT8, INT8])
def test_words_are_read_as_bytes_are(n: int, dtype: DType) -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, n).astype(np.uint8).view(dtype.numpy)
    x = tensor("x", (n,), dtype)
    check(compute((n // 4,), lambda i: joined(x, i * 4)), {"x": data})
    check(compute((3, n // 4), lambda j, i: joined(x, i * 4) + cast(index(j), INT32)), {"x": data})


def halves(x: Tensor, place: Any) -> Any:
    """Two elements of ``x`` from ``place`` on as one int32."""
    low, high = (cast(bitcast(x.get(place + k, 0), UINT16), INT32) for k in range(2))
    return apply("or", low, apply("shl", high, 16))


def test_two_aligned_halves_are_a_word() -> None:
    x, i = tensor("x", (64,), BFLOAT16), Variable("i", 32)
    word = word_of(halves(x, i.dim * 2))
    assert word is not None
    assert (word.buffer, word.place, word.guard) == (x.buffer, i.dim, None)
    assert not is_word(halves(x, i.dim + 1))
    assert not is_word(halves(tensor("y", (63,), BFLOAT16), i.dim * 2))


@pytest.mark.parametrize("n", [2, 30, 256])
def test_words_of_halves_hold_the_lower_one_first(n: int) -> None:
    data = np.random.default_rng(0).integers(0, 1 << 16, n).astype(np.uint16)
    x = tensor("x", (n,), BFLOAT16)
    check(compute((n // 2,), lambda i: halves(x, i * 2)), {"x": data.view(BFLOAT16.numpy)})


@pytest.mark.parametrize("wide", [INT32, UINT32, INT64, UINT64])
def test_halves_are_joined_in_wider_integers_too(wide: DType) -> None:
    data = np.random.default_rng(0).integers(0, 1 << 16, 64).astype(np.uint16)
    x = tensor("x", (64,), UINT16)

    def joined_in(i: Any) -> Any:
        low, high = (cast(x.get(i * 2 + k, 0), wide) for k in range(2))
        return apply("or", low, apply("shl", high, 16))

    check(compute((32,), joined_in), {"x": data})
