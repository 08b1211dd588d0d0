"""Attention of several texts that share their keys and values."""

from __future__ import annotations

import numpy as np

from fornix.compile.attention import as_attention
from fornix.ir.dim import symbol
from fornix.ir.loops import Store, compute
from fornix.ir.loops.tensor import stored
from tests.compile.native import assert_close
from tests.compile.test_attention import S, T, attend, expected, feeds_of, runner_of


def test_rows_are_the_queries_of_a_text(rng: np.random.Generator) -> None:
    texts = symbol("N", 1)
    apart = attend((texts * S, T, 8, 5))
    result = compute((texts, 4, S, 5), lambda n, h, i, e: apart[h, n * S + i, e])
    buffer = stored(result).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    found = as_attention(buffer.source)
    assert found is not None
    assert found.row is not None
    assert found.row.extent == S
    runner = runner_of(result, 3, None, at_end=True)
    for n, length in ((1, 40), (3, 7), (5, 1)):
        feeds = feeds_of((n * length, 20, 8, 5), rng)
        (y,) = runner.run(feeds, {"N": n, "S": length, "T": 20})
        assert_close(y, expected(feeds).reshape(4, n, length, 5).swapaxes(0, 1))
