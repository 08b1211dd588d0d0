from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fornix
from fornix.errors import ShapeError
from fornix.onnx.parser import parse_model
from tests.ops.harness import run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(7)


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [-1, 1])
def test_the_simplified_form_gives_its_factor(dtype: Any, axis: int) -> None:
    scale = normal(*(2, 3, 4)[axis:], dtype=dtype)
    agree(
        "SimplifiedLayerNormalization",
        [normal(2, 3, 4, dtype=dtype), scale],
        {"axis": axis},
        outputs=2 if dtype == np.float32 else 1,
        domain="",
    )


def test_the_simplified_form_is_found_in_the_default_domain_by_its_other_name() -> None:
    y = run_op("SimplifiedLayerNormalization", [normal(2, 3), normal(3)], domain="ai.onnx")
    assert y[0].shape == (2, 3)


@pytest.mark.parametrize("skip", [(2, 3, 8), (1, 3, 8), (3, 8)])
@pytest.mark.parametrize("given", [0, 1, 2])
def test_a_sum_is_normalized(skip: tuple[int, ...], given: int) -> None:
    inputs = [normal(2, 3, 8), normal(*skip), normal(8), *(normal(8) for _ in range(given))]
    agree("SkipLayerNormalization", inputs, {"epsilon": 1e-5})
    if given < 2:
        agree("SkipSimplifiedLayerNormalization", inputs, {"epsilon": 1e-5})


def test_the_sum_is_an_output() -> None:
    x, skip, gamma, beta, bias = normal(2, 3, 8), normal(2, 3, 8), normal(8), normal(8), normal(8)
    for name, inputs in (
        ("SkipLayerNormalization", [x, skip, gamma, beta, bias]),
        ("SkipSimplifiedLayerNormalization", [x, skip, gamma, bias]),
    ):
        y = run_op(name, inputs, {"epsilon": 1e-5}, outputs=4, domain=DOMAIN, opset=1)
        np.testing.assert_allclose(y[3], x + skip + bias, rtol=1e-6)
        is_centered = name == "SkipLayerNormalization"
        mean = y[3].mean(axis=-1, keepdims=True) if is_centered else np.zeros((2, 3, 1))
        np.testing.assert_allclose(y[1], mean, atol=1e-6)
        deviation = np.sqrt(np.mean((y[3] - mean) ** 2, axis=-1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(y[2], 1 / deviation, rtol=1e-5)


def test_float16_is_normalized_in_float32() -> None:
    inputs = [normal(2, 3, 8, dtype=np.float16), normal(2, 3, 8, dtype=np.float16)]
    inputs += [normal(8, dtype=np.float16), normal(8, dtype=np.float16)]
    agree("SkipLayerNormalization", inputs, {"epsilon": 1e-5}, rtol=2e-3, atol=2e-3)


def test_a_skip_that_does_not_broadcast_is_named() -> None:
    inputs = [normal(1, 3, 8), normal(2, 3, 8), normal(8)]
    with pytest.raises(ShapeError, match=r"skip\[2, 3, 8\] must broadcast to input\[1, 3, 8\]"):
        run_op("SkipLayerNormalization", inputs, {}, domain=DOMAIN, opset=1)


def test_a_skip_that_a_run_finds_longer_than_the_input_is_named() -> None:
    session = fornix.InferenceSession(
        parse_model("""<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
            g (float[N, 2, M] x, float[N, 2, K] y, float[L] s) => (float[N, 2, M] z) {
                z = com.microsoft.SkipLayerNormalization (x, y, s)
            }""")
    )
    feeds = {"x": normal(1, 2, 1), "y": normal(1, 2, 3), "s": normal(1)}
    with pytest.raises(ShapeError, match=r"skip\[1, 2, 3\] must broadcast to input\[1, 2, 1\]"):
        session.run(None, feeds)


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("places", [None, 1, 2])
def test_embeddings_are_summed_and_normalized(segments: bool, places: int | None) -> None:
    ids = rng.integers(0, 9, (2, 5)).astype(np.int32)
    inputs = [
        ids,
        rng.integers(0, 2, (2, 5)).astype(np.int32) if segments else None,
        normal(9, 8),
        normal(6, 8),
        normal(2, 8) if segments else None,
        normal(8),
        normal(8),
        (np.arange(5) < np.array([[3], [5]])).astype(np.int32),
        None if places is None else rng.integers(0, 6, (places, 5)).astype(np.int32),
    ]
    agree("EmbedLayerNormalization", inputs, {"epsilon": 1e-5}, outputs=3)


def test_without_a_mask_its_index_is_zero() -> None:
    ids = rng.integers(0, 9, (2, 5)).astype(np.int32)
    inputs = [ids, None, normal(9, 8), normal(6, 8), None, normal(8), normal(8)]
    agree("EmbedLayerNormalization", inputs, outputs=2)
