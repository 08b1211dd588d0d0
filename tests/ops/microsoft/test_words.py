from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import Fail, ShapeError
from tests.ops.harness import check_lowering, check_node, peer, run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(16)
NAME = "WordConvEmbedding"
WHERE: dict[str, Any] = {"domain": DOMAIN, "opset": 1}


def arguments(words: Any, width: int = 2, filters: int = 3) -> list[Any]:
    """Filters over ``width`` of ten characters for ``words``."""
    shapes = (filters, 1, width, 4), (filters,), (10, 4)
    numbers = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    return [np.array(words, np.int32), *numbers]


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_words_are_their_greatest_windows(width: int) -> None:
    words = [[1, 2, 3, 4, 5], [1, 2, 0, 0, 0], [3, 0, 0, 0, 0], [1, 0, 2, 3, 0], [9, 9, 9, 9, 0]]
    given = {"embedding_size": 3, "conv_window_size": width, "char_embedding_size": 4}
    agree(NAME, arguments(words, width), given, symbolic=False)


def test_empty_words_are_zeros() -> None:
    inputs = arguments([[0, 0, 0], [0, 3, 4], [1, 2, 3]])
    [y] = run_op(NAME, inputs, **WHERE)
    assert not y[:2].any()  # onnxruntime leaves there what memory held
    wanted = peer(NAME, inputs, opset=1, domain=DOMAIN)[0]
    np.testing.assert_allclose(y[2], wanted[2], rtol=1e-5)
    check_node(NAME, inputs, expected=[y], **WHERE)
    check_lowering(NAME, inputs, symbolic=False, **WHERE)


def test_what_does_not_fit_is_named() -> None:
    words, w, b, c = arguments([[1, 2, 3]])
    with pytest.raises(Fail, match=r"characters must be in \[0, 9\]"):
        run_op(NAME, [words + 7, w, b, c], **WHERE)
    with pytest.raises(ShapeError, match="got 3 characters and windows of 4"):
        run_op(NAME, arguments([[1, 2, 3]], 4), **WHERE)
    with pytest.raises(ShapeError, match=r"Sequence must be \[S, L\], W \[F, 1, K, E\]"):
        run_op(NAME, [words[0], w, b, c], **WHERE)
    with pytest.raises(ShapeError, match="must have an element for each of F and E"):
        run_op(NAME, [words, w, b[1:], c], **WHERE)
    with pytest.raises(ShapeError, match="embedding_size must be 3, got 4"):
        run_op(NAME, [words, w, b, c], {"embedding_size": 4}, **WHERE)
