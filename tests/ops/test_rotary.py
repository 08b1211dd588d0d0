from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.dtype import FLOAT32
from fornix.errors import Fail, ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import tensor, unranked
from tests.ops.harness import check_lowering, check_node, fact_of, infer_op, peer, run_op

F32_STEP = 1e-6
"""Two products and a sum of elements of size 1."""

B, S = symbol("B"), symbol("S")


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def caches(rows: int, half: int) -> list[Any]:
    angle = np.arange(rows)[:, None] / 10.0 ** np.arange(half)
    return [np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)]


IDS = np.array([[0, 3, 5], [9, 2, 2]])


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("dim", [0, 4])
def test_rotation_is_multiplication_of_complex_numbers(interleaved: int, dim: int) -> None:
    x, size = normal(2, 3, 3, 8), dim or 8
    cos, sin = caches(10, size // 2)
    pairs = x[..., :size].astype(np.complex128)
    z = (
        pairs[..., ::2] + 1j * pairs[..., 1::2]
        if interleaved
        else pairs[..., : size // 2] + 1j * pairs[..., size // 2 :]
    )
    turned = z * (cos + 1j * sin)[IDS][:, None]
    wanted = x.copy()
    if interleaved:
        wanted[..., :size] = np.stack([turned.real, turned.imag], -1).reshape(2, 3, 3, size)
    else:
        wanted[..., :size] = np.concatenate([turned.real, turned.imag], -1)
    attributes = {"interleaved": interleaved, "rotary_embedding_dim": dim}
    for inputs in ([x, cos, sin, IDS], [x, cos[IDS], sin[IDS]]):
        check_node(
            "RotaryEmbedding", inputs, attributes, expected=[wanted], rtol=F32_STEP, atol=F32_STEP
        )


def test_rotary_embedding_agrees_with_onnxruntime() -> None:
    for interleaved, dim in itertools.product((0, 1), (0, 4)):
        x, tables = normal(2, 3, 24), caches(10, (dim or 8) // 2)
        attributes = {"interleaved": interleaved, "rotary_embedding_dim": dim, "num_heads": 3}
        inputs = [x, *tables, IDS]
        expected = peer("RotaryEmbedding", inputs, attributes, opset=23)
        check_node(
            "RotaryEmbedding", inputs, attributes, expected=expected, rtol=F32_STEP, atol=F32_STEP
        )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_rounded_once(dtype: Any) -> None:
    inputs = [x.astype(dtype) for x in (normal(2, 3, 3, 8), *caches(10, 4))]
    [wide] = run_op("RotaryEmbedding", [*(x.astype(np.float32) for x in inputs), IDS])
    check_node("RotaryEmbedding", [*inputs, IDS], {}, expected=[wide.astype(dtype)])


def test_the_shape_stays() -> None:
    tables = [unranked(FLOAT32)] * 2
    [fact] = infer_op("RotaryEmbedding", [tensor(FLOAT32, (B, 4, S, 8)), *tables])
    assert fact.shape == (B, 4, S, 8)


X4, TABLES = normal(2, 3, 3, 8), caches(10, 4)


@pytest.mark.parametrize(
    ("inputs", "attributes", "message"),
    [
        ([normal(2, 8), *TABLES, IDS], {}, r"X must be \[batch, heads, .* found X\[2, 8\]"),
        ([normal(2, 3, 8), *TABLES, IDS], {}, r"num_heads is required for X\[2, 3, 8\] of rank 3"),
        (
            [normal(2, 3, 8), *TABLES, IDS],
            {"num_heads": 3},
            r"X\[2, 3, 8\] must divide into num_heads=3 heads",
        ),
        (
            [normal(2, 3, 3, 7), *TABLES, IDS],
            {},
            "an even number .* head size 7, is rotated, got 7",
        ),
        ([X4, *TABLES, IDS], {"rotary_embedding_dim": 10}, "at most the head size 8, .* got 10"),
        ([X4, *caches(10, 3), IDS], {}, r"cos_cache must be \[positions, 4\], found \[10, 3\]"),
        ([X4, TABLES[0], caches(9, 2)[0], IDS], {}, r"sin_cache must be \[positions, 4\], found"),
        ([X4, *TABLES, IDS[:1]], {}, r"position_ids must be \[2, 3\], found \[1, 3\]"),
        ([X4, *TABLES], {}, r"cos_cache must be \[2, 3, 4\] without position_ids, found \[10, 4\]"),
    ],
)
def test_rotary_embedding_says_what_is_wrong(
    inputs: Any, attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("RotaryEmbedding", inputs, attributes)
    with pytest.raises(ShapeError, match=message):
        infer_op("RotaryEmbedding", [fact_of(x) for x in inputs], attributes)


@pytest.mark.parametrize("outside", [-1, 10])
def test_positions_without_an_angle_are_refused(outside: int) -> None:
    ids = np.where(IDS == 5, outside, IDS)
    with pytest.raises(Fail, match=rf"position_ids must be in \[0, 9\], .*, got \[{outside}\]"):
        run_op("RotaryEmbedding", [X4, *TABLES, ids])


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("dim", [0, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_rotation_is_lowered(interleaved: int, dim: int, dtype: Any) -> None:
    x, half = normal(2, 3, 3, 8, dtype=dtype), (dim or 8) // 2
    attributes = {"interleaved": interleaved, "rotary_embedding_dim": dim}
    tables = [c.astype(dtype) for c in caches(10, half)]
    spread = [table[IDS] for table in tables]
    check_lowering("RotaryEmbedding", [x, *tables, IDS], attributes, symbolic=False)
    check_lowering("RotaryEmbedding", [x, *spread], attributes, symbolic=False)
    packed = x.swapaxes(1, 2).reshape(2, 3, 24)
    attributes["num_heads"] = 3
    check_lowering("RotaryEmbedding", [packed, *tables, IDS], attributes, symbolic=False)
