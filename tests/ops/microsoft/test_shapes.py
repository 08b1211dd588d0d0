from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import ShapeError
from tests.ops.harness import fact_of, infer_op, run_op
from tests.ops.microsoft.peer import DOMAIN


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def ids(*shape: int) -> Any:
    return np.zeros(shape, np.int32)


HEADS = {"num_heads": 2}
CASES: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("Attention", [ones(1, 2, 4), ones(4, 12), ones(12)], {"num_heads": 0}, "num_heads must be"),
    ("Attention", [ones(2, 4), ones(4, 12)], HEADS, r"input must be input\[\?, \?, \?\]"),
    ("Attention", [ones(1, 2, 4), ones(5, 12)], HEADS, r"weights must be weights\[4, \?\], got"),
    ("Attention", [ones(1, 2, 4), ones(4, 12), ones(24)], HEADS, r"bias must be bias\[12\], got"),
    (
        "QAttention",
        [ids(1, 2, 4).astype(np.int8), ids(4, 12).astype(np.int8), ones(11), ones(), ones()],
        HEADS,
        r"bias must be bias\[12\], got bias\[11\]",
    ),
    ("MultiHeadAttention", [*[ones(1, 2, 4)] * 3, ones(24)], HEADS, r"bias must be bias\[12\]"),
    (
        "CropAndResize",
        [ones(1, 1, 2, 2), ones(1, 4), ids(2), ids(2)],
        {},
        r"batch_indices must be batch_indices\[1\], got batch_indices\[2\]",
    ),
    ("CropAndResize", [ones(1, 1, 2, 2), ones(1, 4), ids(1), ids()], {}, r"crop_size\[2\], got"),
    (
        "Attention",
        [ones(1, 2, 4), ones(4, 12), ones(12), None, ones(2, 1, 3, 2, 2)],
        HEADS,
        r"past must be past\[2, 1, 2, \?, \?\], got past\[2, 1, 3, 2, 2\]",
    ),
    (
        "MultiHeadAttention",
        [*[ones(1, 2, 4)] * 3, None, None, None, ones(1, 2, 3, 2), ones(1, 1, 3, 2)],
        HEADS,
        r"past_value must be past_value\[1, 2, 3, 2\]",
    ),
    (
        "MultiHeadAttention",
        [ones(1, 2, 4), ones(3, 2, 4), ones(3, 2, 4)],
        HEADS,
        r"key must be key\[1, 2, \?\], got key\[3, 2, 4\]",
    ),
    (
        "MultiHeadAttention",
        [ones(1, 2, 4), ones(1, 2, 3, 2), ones(1, 2, 5, 2)],
        HEADS,
        r"value must be value\[1, 2, 3, \?\], got value\[1, 2, 5, 2\]",
    ),
    (
        "MultiHeadAttention",
        [*[ones(1, 2, 4)] * 3, None, None, ones(3, 1, 2, 2)],
        HEADS,
        r"attention_bias must broadcast to \[1, 2, 2, 2\], got attention_bias\[3, 1, 2, 2\]",
    ),
    (
        "MultiHeadAttention",
        [*[ones(2, 3, 4)] * 3, None, ids(2, 2)],
        HEADS,
        r"key_padding_mask must broadcast to \[2, 3\], got key_padding_mask\[2, 2\]",
    ),
    (
        "Attention",
        [ones(1, 2, 4), ones(4, 12), ones(12), ids(1, 2, 3)],
        HEADS,
        r"mask_index must broadcast to \[1, 2, 2\], got mask_index\[1, 2, 3\]",
    ),
    (
        "Attention",
        [ones(1, 2, 4), ones(4, 12), ones(12), ids(1, 2, 3, 3)],
        HEADS,
        r"mask_index must be mask_index\[1, 1, \?, \?\], got mask_index\[1, 2, 3, 3\]",
    ),
    (
        "RotaryEmbedding",
        [ones(1, 2, 4), np.zeros((3, 2), np.int64), ones(4, 2), ones(4, 2)],
        {},
        r"position_ids must be position_ids\[1, 2\], got position_ids\[3, 2\]",
    ),
    (
        "RotaryEmbedding",
        [ones(1, 2, 4), np.zeros(2, np.int64), ones(4, 2), ones(4, 2)],
        {},
        r"position_ids must be position_ids\[1\], got position_ids\[2\]",
    ),
    (
        "EmbedLayerNormalization",
        [ids(2, 2), None, ones(4, 2), ones(4, 2), None, ones(2), ones(2), None, ids(3, 2)],
        {},
        r"position_ids must broadcast to \[2, 2\], got position_ids\[3, 2\]",
    ),
    (
        "GroupQueryAttention",
        [*[ones(1, 1, 32)] * 3, None, None, ids(3), ids()],
        {"num_heads": 2, "kv_num_heads": 2},
        r"seqlens_k must be seqlens_k\[1\], got seqlens_k\[3\]",
    ),
    (
        "GroupQueryAttention",
        [*[ones(1, 1, 32)] * 3, None, None, ids(1), ids()],
        {"num_heads": 2, "kv_num_heads": 0},
        "kv_num_heads must be positive, got 0",
    ),
    (
        "GroupQueryAttention",
        [ones(1, 1, 48), *[ones(1, 1, 32)] * 2, None, None, ids(1), ids()],
        {"num_heads": 3, "kv_num_heads": 2},
        "num_heads must be a positive multiple of 2, got 3",
    ),
    (
        "SkipLayerNormalization",
        [ones(1, 2, 4), ones(1, 2, 4), ones(4), ones(3)],
        {},
        r"beta must be beta\[4\], got beta\[3\]",
    ),
    (
        "EmbedLayerNormalization",
        [ids(1, 2), None, ones(3, 4), ones(3, 5), None, ones(4), ones(4)],
        {},
        r"position_embedding must be position_embedding\[\?, 4\]",
    ),
    (
        "MultiHeadAttention",
        [ones(1, 2, 4), ones(1, 2, 4)],
        HEADS,
        r"in one tensor must be \[batch, length, heads, parts, size\]",
    ),
    (
        "GroupNorm",
        [ones(1, 2, 2, 3), ones(3), ones(3)],
        {"groups": 2, "activation": 0},
        "3 channels must fall into groups alike, got groups=2",
    ),
    (
        "FusedConv",
        [ones(1, 1, 3, 3), ones(1, 1, 1, 1), None, ones(1, 1, 3, 2)],
        {},
        r"Z must have the shape of Y\[1, 1, 3, 3\], got Z\[1, 1, 3, 2\]",
    ),
]


@pytest.mark.parametrize(("name", "inputs", "attributes", "message"), CASES)
def test_inputs_that_do_not_fit_each_other_are_named(
    name: str, inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        infer_op(name, [fact_of(x) for x in inputs], attributes, domain=DOMAIN, opset=1, outputs=1)


def test_parameters_of_an_activation_are_counted() -> None:
    inputs, flags = [ones(1, 1, 3, 3), ones(1, 1, 1, 1)], {"activation_params": [0.0, 1.0, 2.0]}
    with pytest.raises(ShapeError, match="Clip takes 2 parameters at most, got 3"):
        run_op("FusedConv", inputs, {"activation": "Clip", **flags}, domain=DOMAIN, opset=1)


def test_an_embedding_is_normalized_by_a_number_for_each_column() -> None:
    inputs = [ids(1, 2), None, ones(3, 4), ones(3, 4), None, ones(1, 4), ones(4)]
    with pytest.raises(
        ShapeError, match=r"gamma and beta must have shape \[4\], got gamma\[1, 4\]"
    ):
        run_op("EmbedLayerNormalization", inputs, domain=DOMAIN, opset=1)


def test_a_mask_of_four_axes_is_the_same_for_all_heads() -> None:
    inputs = [ones(1, 2, 4), ones(4, 12), ones(12), ids(1, 2, 3, 3)]
    with pytest.raises(ShapeError, match=r"the same for all heads, found \[1, 2, 3, 3\]"):
        run_op("Attention", inputs, HEADS, domain=DOMAIN, opset=1, outputs=1)
