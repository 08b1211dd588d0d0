from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile.words import is_word, word_of
from fornix.dtype import INT8, INT32, UINT8, DType
from fornix.ir.loops import Tensor, Variable, apply, cast, compute, index, tensor
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
