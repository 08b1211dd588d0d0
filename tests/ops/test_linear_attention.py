from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx.reference.ops.op_linear_attention import LinearAttention as Oracle

from fornix.dtype import BFLOAT16, FLOAT16
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import tensor
from tests.ops.harness import check_lowering, check_node, fact_of, infer_op, run_op

F32_SUM = 1e-5
"""Sums over a few dozen steps of elements of size 1."""

B, T = symbol("B"), symbol("T")

RULES = ("linear", "gated", "delta", "gated_delta")


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return (np.random.default_rng(seed).standard_normal(shape) / 2).astype(dtype)


def inputs_of(rule: str, *, per_key: bool = True, beta: int = 2, length: int = 5) -> list[Any]:
    """Two batches, four query heads, two key heads of size 3, values of size 4."""
    return [
        normal(2, length, 12, seed=1),
        normal(2, length, 6, seed=2),
        normal(2, length, 8, seed=3),
        None,
        -np.abs(normal(2, length, 6 if per_key else 2)) if rule.startswith("gated") else None,
        np.abs(normal(2, length, beta, seed=4)) if rule.endswith("delta") else None,
    ]


def oracle(inputs: list[Any], **attributes: Any) -> list[Any]:
    given = {"q_num_heads": 4, "kv_num_heads": 2, **attributes}
    return list(Oracle._run(None, *inputs, **given))


@pytest.mark.parametrize("rule", RULES)
def test_linear_attention_agrees_with_the_standards_evaluator(rule: str) -> None:
    for per_key, beta, scale in ((True, 2, 0.0), (False, 1, 0.7)):
        inputs = inputs_of(rule, per_key=per_key, beta=beta)
        attributes = {"update_rule": rule, "scale": scale}
        expected = oracle(inputs, **attributes)
        heads = {"q_num_heads": 4, "kv_num_heads": 2}
        check_node(
            "LinearAttention", inputs, {**heads, **attributes}, expected=expected,
            rtol=F32_SUM, atol=F32_SUM,
        )  # fmt: skip


HEADS = {"q_num_heads": 4, "kv_num_heads": 2}


def test_a_sequence_may_be_cut_anywhere() -> None:
    whole = inputs_of("gated_delta", length=7)
    y, state = run_op("LinearAttention", whole, HEADS, outputs=2)
    first = [None if x is None else x[:, :3] for x in whole]
    rest = [None if x is None else x[:, 3:] for x in whole]
    y1, middle = run_op("LinearAttention", first, HEADS, outputs=2)
    y2, last = run_op("LinearAttention", [*rest[:3], middle, *rest[4:]], HEADS, outputs=2)
    np.testing.assert_allclose(np.concatenate([y1, y2], 1), y, rtol=F32_SUM, atol=F32_SUM)
    np.testing.assert_allclose(last, state, rtol=F32_SUM, atol=F32_SUM)


def test_delta_rule_with_full_rate_stores_what_it_is_told() -> None:
    # With orthonormal keys and beta = 1 the state returns each value exactly.
    key = np.eye(3, dtype=np.float32)[None]
    value = normal(1, 3, 2)
    inputs = [key, key, value, None, None, np.ones((1, 3, 1), np.float32)]
    attributes = {"q_num_heads": 1, "kv_num_heads": 1, "update_rule": "delta", "scale": 1.0}
    check_node("LinearAttention", inputs, attributes, expected=[value, value[None]])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_rounded_once_and_the_state_may_be_wider(dtype: Any) -> None:
    inputs = [None if x is None else x.astype(dtype) for x in inputs_of("gated_delta")]
    inputs[3] = normal(2, 2, 3, 4)
    wide = [None if x is None else x.astype(np.float32) for x in inputs]
    y, state = run_op("LinearAttention", wide, HEADS, outputs=2)
    check_node("LinearAttention", inputs, HEADS, expected=[y.astype(dtype), state])


def test_linear_attention_infers_heads_and_state() -> None:
    q, k = tensor(FLOAT16, (B, T, 12)), tensor(FLOAT16, (B, T, 6))
    v = tensor(FLOAT16, (B, T, 8))
    attributes = {**HEADS, "update_rule": "linear"}
    facts = infer_op("LinearAttention", [q, k, v], attributes, outputs=2)
    assert [fact.shape for fact in facts] == [(B, T, 16), (B, 2, 3, 4)]
    assert [fact.dtype for fact in facts] == [FLOAT16, FLOAT16]
    past = tensor(BFLOAT16, (B, 2, 3, 4))
    facts = infer_op("LinearAttention", [q, k, v, past], attributes, outputs=2)
    assert facts[1].dtype is BFLOAT16
    with pytest.raises(ShapeError, match=r"key must be \[batch, length, heads·size\], found key"):
        infer_op("LinearAttention", [q, tensor(FLOAT16, (B, T)), v], attributes, outputs=2)


def broken(index: int, shape: tuple[int, ...]) -> list[Any]:
    inputs = inputs_of("gated_delta")
    inputs[index] = np.zeros(shape, np.float32)
    return inputs


@pytest.mark.parametrize(
    ("inputs", "attributes", "message"),
    [
        (inputs_of("linear"), {"update_rule": "sum"}, "update_rule must be among .*, got 'sum'"),
        (inputs_of("linear"), {}, "update_rule 'gated_delta' needs the input decay"),
        (inputs_of("gated"), {}, "update_rule 'gated_delta' needs the input beta"),
        (inputs_of("delta"), {"update_rule": "linear"}, "'linear' excludes the input beta"),
        (inputs_of("gated"), {"update_rule": "linear"}, "'linear' excludes the input decay"),
        (inputs_of("gated_delta"), {"q_num_heads": 3}, "multiple of kv_num_heads=2, got 3"),
        (broken(1, (2, 5)), {}, r"key must be \[batch, length, heads·size\], found key\[2, 5\]"),
        (broken(1, (2, 5, 8)), {}, "must have one batch, length and key size, found"),
        (broken(2, (2, 4, 8)), {}, "must have one batch, length and key size, found"),
        (broken(3, (2, 2, 4, 3)), {}, r"past_state must be \[2, 2, 3, 4\], found \[2, 2, 4, 3\]"),
        (broken(4, (2, 5, 3)), {}, r"decay must be \[2, 5, 2 or 6\], found \[2, 5, 3\]"),
        (broken(4, (2, 1, 2)), {}, r"decay must be \[2, 5, 2 or 6\], found \[2, 1, 2\]"),
        (broken(5, (2, 4, 2)), {}, r"beta must be \[2, 5, 2 or 1\], found \[2, 4, 2\]"),
        (broken(5, (2, 5, 6)), {}, r"beta must be \[2, 5, 2 or 1\], found \[2, 5, 6\]"),
    ],
)
def test_linear_attention_says_what_is_wrong(
    inputs: Any, attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("LinearAttention", inputs, {**HEADS, **attributes}, outputs=2)
    facts = [None if x is None else fact_of(x) for x in inputs]
    with pytest.raises(ShapeError, match=message):
        infer_op("LinearAttention", facts, {**HEADS, **attributes}, outputs=2)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_linear_attention_is_lowered(rule: str, dtype: Any) -> None:
    for per_key, beta, past in ((True, 2, None), (False, 1, normal(2, 2, 3, 4))):
        inputs = inputs_of(rule, per_key=per_key, beta=beta)
        inputs[3] = past
        given = [None if x is None else x.astype(dtype) for x in inputs]
        attributes = {**HEADS, "update_rule": rule}
        check_lowering("LinearAttention", given, attributes, outputs=2, symbolic=False)
