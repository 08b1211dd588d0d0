from __future__ import annotations

import itertools
import math
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx.reference.ops.op_attention import _compute_attention

from fornix.dtype import FLOAT32, FLOAT64, INT64
from fornix.errors import DTypeError, ShapeError
from fornix.infer import infer_strictly
from fornix.ir.dim import symbol
from fornix.ir.load import from_message
from fornix.ops.call import NotLowered
from fornix.ops.fact import tensor, unranked
from fornix.reference import ReferenceEvaluator
from tests.ops.harness import check_lowering, check_node, fact_of, infer_op, lower_op, peer, run_op

F32_SUM = 1e-5
"""Sums of a few dozen elements of size 1."""

B, S, T, P, E = (symbol(name) for name in "BSTPE")


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def qkv(heads: int = 4, groups: int = 4, length: int = 5, keys: int = 7) -> list[Any]:
    return [
        normal(2, heads, length, 8, seed=1),
        normal(2, groups, keys, 8, seed=2),
        normal(2, groups, keys, 6, seed=3),
    ]


def packed(x: Any) -> Any:
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_agrees_with_torch(groups: int, scale: float | None) -> None:
    inputs = qkv(groups=groups)
    attributes = {} if scale is None else {"scale": scale}
    boolean = np.random.default_rng(0).random((2, 1, 5, 7)) < 0.7
    boolean[..., 0] = True
    for mask in (None, boolean, normal(5, 7), normal(4, 5, 7)):
        wanted = torch.nn.functional.scaled_dot_product_attention(
            *map(torch.from_numpy, inputs),
            None if mask is None else torch.from_numpy(mask),
            scale=scale,
            enable_gqa=True,
        ).numpy()
        check_node(
            "Attention", [*inputs, mask], attributes, expected=[wanted], rtol=F32_SUM, atol=F32_SUM
        )


def test_heads_in_the_last_axis_are_the_same_heads() -> None:
    q, k, v = qkv(groups=2)
    [wanted] = run_op("Attention", [q, k, v])
    attributes = {"q_num_heads": 4, "kv_num_heads": 2}
    check_node(
        "Attention", [packed(q), packed(k), packed(v)], attributes, expected=[packed(wanted)],
        rtol=F32_SUM, atol=F32_SUM,
    )  # fmt: skip


@pytest.mark.parametrize("opset", [23, 24, 25])
@pytest.mark.parametrize("cache", ["none", "past", "outside"])
def test_attention_agrees_with_the_standards_evaluator(opset: int, cache: str) -> None:
    q, k, v = qkv(groups=2, keys=9)
    past = (
        [normal(2, 2, 3, 8, seed=4), normal(2, 2, 3, 6, seed=5)] if cache == "past" else [None] * 2
    )
    filled = np.array([9, 6]) if cache == "outside" and opset >= 24 else None
    total = 12 if cache == "past" else 9
    windows = [(-1, -1)] if opset < 25 else [(-1, -1), (2, 0), (1, 2), (-1, 1)]
    masks = [None, normal(2, 1, 5, total), np.random.default_rng(1).random((5, total)) < 0.5]
    for (left, right), mask, causal in itertools.product(windows, masks, (0, 1)):
        attributes: dict[str, Any] = {"is_causal": causal}
        if opset >= 25:
            attributes |= {"left_window_size": left, "right_window_size": right}
        inputs = [q, k, v, mask, *past, *([filled] if opset >= 24 else [])]
        expected = _compute_attention(*inputs[:7], **attributes)
        check_node(
            "Attention", inputs, attributes, opset=opset, expected=expected[:3],
            rtol=F32_SUM, atol=F32_SUM,
        )  # fmt: skip


def test_the_stages_of_the_scores_are_what_torch_computes() -> None:
    q, k, v = qkv()
    mask = normal(5, 7)
    scores = torch.from_numpy(q) @ torch.from_numpy(k).mT / math.sqrt(8)
    capped = torch.tanh(scores / 0.5) * 0.5
    masked = capped + torch.from_numpy(mask)
    weights = torch.softmax(masked, -1)
    y = (weights @ torch.from_numpy(v)).numpy()
    for mode, stage in enumerate((scores, capped, masked, weights)):
        attributes = {"softcap": 0.5, "qk_matmul_output_mode": mode}
        check_node(
            "Attention", [q, k, v, mask], attributes, expected=[y, None, None, stage.numpy()],
            rtol=F32_SUM, atol=F32_SUM,
        )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_rounded_once(dtype: Any) -> None:
    inputs = [x.astype(dtype) for x in qkv(groups=2)]
    [wide] = run_op("Attention", [x.astype(np.float32) for x in inputs])
    check_node("Attention", inputs, {}, expected=[wide.astype(dtype)])


def test_double_precision_is_kept() -> None:
    inputs = [x.astype(np.float64) for x in qkv()]
    wanted = torch.nn.functional.scaled_dot_product_attention(*map(torch.from_numpy, inputs))
    check_node("Attention", inputs, {}, expected=[wanted.numpy()], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("code", [1, 10, 11, 16])
def test_softmax_precision_rounds_the_weights(code: int) -> None:
    inputs = qkv()
    dtype = onnx.helper.tensor_dtype_to_np_dtype(code)
    attributes = {"softmax_precision": code, "qk_matmul_output_mode": 3}
    outputs = run_op("Attention", inputs, attributes, outputs=4)
    weights = outputs[3]
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, weights.astype(dtype).astype(np.float32))
    exact = run_op("Attention", inputs, {"qk_matmul_output_mode": 3}, outputs=4)[3]
    step = 4 * max(float(ml_dtypes.finfo(dtype).eps), float(np.finfo(np.float32).eps))
    np.testing.assert_allclose(weights, exact, rtol=step, atol=step)


def test_a_query_that_sees_nothing_yields_zeros() -> None:
    q, k, v = qkv()
    for mask in (np.zeros((5, 7), bool), np.full((5, 7), -np.inf, np.float32)):
        outputs = run_op("Attention", [q, k, v, mask], {"qk_matmul_output_mode": 3}, outputs=4)
        assert not outputs[0].any()
        assert not outputs[3].any()
    none = [q, k[:, :, :0], v[:, :, :0]]
    check_node("Attention", none, {}, expected=[np.zeros((2, 4, 5, 6), np.float32)])


def test_what_a_mask_hides_cannot_leak() -> None:
    q, k, v = qkv(keys=3)
    [wanted] = run_op("Attention", [q, k[:, :, :2], v[:, :, :2]])
    poisoned = k.copy()
    poisoned[:, :, 2] = np.inf
    visible = np.array([True, True, False])
    for mask in (visible, np.where(visible, 0, -np.inf).astype(np.float32)):
        [y] = run_op("Attention", [q, poisoned, v, mask])
        np.testing.assert_allclose(y, wanted, rtol=F32_SUM, atol=F32_SUM)


@pytest.mark.parametrize("dtype", [np.bool_, np.float32, np.int32])
def test_a_short_mask_hides_the_rest(dtype: Any) -> None:
    q, k, v = qkv()
    [wanted] = run_op("Attention", [q, k[:, :, :4], v[:, :, :4]])
    mask = np.ones((5, 4), dtype)  # adding 1 to every score changes nothing
    check_node("Attention", [q, k, v, mask], {}, expected=[wanted], rtol=F32_SUM, atol=F32_SUM)


def test_attention_infers_symbolic_lengths() -> None:
    q, k = tensor(FLOAT32, (B, 4, S, 8)), tensor(FLOAT32, (B, 2, T, 8))
    v = tensor(FLOAT32, (B, 2, T, E))
    past = [tensor(FLOAT32, (B, 2, P, 8)), tensor(FLOAT32, (B, 2, P, E))]
    facts = infer_op("Attention", [q, k, v, None, *past], outputs=4)
    assert [fact.shape for fact in facts] == [
        (B, 4, S, E), (B, 2, P + T, 8), (B, 2, P + T, E), (B, 4, S, P + T)
    ]  # fmt: skip


def test_attention_infers_heads_in_the_last_axis() -> None:
    q, k = tensor(FLOAT32, (B, S, 32)), tensor(FLOAT32, (B, T, 16))
    v = tensor(FLOAT32, (B, T, 12))
    attributes = {"q_num_heads": 4, "kv_num_heads": 2}
    facts = infer_op("Attention", [q, k, v], attributes, outputs=4)
    assert [fact.shape for fact in facts] == [
        (B, S, 24), (B, 2, T, 8), (B, 2, T, 6), (B, 4, S, T)
    ]  # fmt: skip
    facts = infer_op(
        "Attention", [q, k, v, None, unranked(FLOAT32), unranked(FLOAT32)], attributes, outputs=2
    )
    assert facts[0].shape == (B, S, 24)
    assert (facts[1].shape[0], facts[1].shape[3]) == (B, 8)


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


QKV = [zeros(1, 2, 3, 4), zeros(1, 2, 5, 4), zeros(1, 2, 5, 4)]


@pytest.mark.parametrize(
    ("inputs", "attributes", "message"),
    [
        ([zeros(2, 3)] * 3, {}, r"Q must be \[batch, heads, length, size\] or .* found Q\[2, 3\]"),
        ([zeros(1, 2, 8)] * 3, {}, r"q_num_heads is required for Q\[1, 2, 8\] of rank 3, found No"),
        (
            [zeros(1, 2, 8)] * 3,
            {"q_num_heads": 3, "kv_num_heads": 2},
            r"Q\[1, 2, 8\] must divide into q_num_heads=3 heads",
        ),
        (QKV, {"kv_num_heads": 1}, r"K\[1, 2, 5, 4\] must have kv_num_heads=1 heads"),
        ([QKV[0], zeros(2, 2, 5, 4), QKV[2]], {}, "attention needs one batch, found Q"),
        ([QKV[0], zeros(1, 2, 5, 3), QKV[2]], {}, "needs one head size of Q and K, found"),
        ([QKV[0], QKV[1], zeros(1, 1, 5, 4)], {}, "needs one number of heads of K and V, found"),
        ([QKV[0], QKV[1], zeros(1, 2, 4, 4)], {}, "needs one length of K and V, found"),
        (
            [zeros(1, 3, 3, 4), *QKV[1:]],
            {},
            r"heads of Q must be a multiple of those of K, found Q\[1, 3, 3, 4\]",
        ),
        ([*QKV, None, zeros(1, 2, 1, 4)], {}, "come together, found only past_key"),
        ([*QKV, None, None, zeros(1, 2, 1, 4)], {}, "come together, found only past_value"),
        (
            [*QKV, None, zeros(1, 2, 1, 3), zeros(1, 2, 1, 4)],
            {},
            r"past_key must be \[1, 2, past, 4\], found \[1, 2, 1, 3\]",
        ),
        (
            [*QKV, None, zeros(1, 2, 1, 4), zeros(1, 2, 2, 4)],
            {},
            r"past_value must be \[1, 2, past, 4\], found \[1, 2, 2, 4\]",
        ),
        (
            [*QKV, None, zeros(1, 2, 1, 4), zeros(1, 2, 1, 4), np.array([3])],
            {},
            "nonpad_kv_seqlen describes a cache kept outside",
        ),
        (
            [*QKV, None, None, None, np.array([3, 4])],
            {},
            "nonpad_kv_seqlen must have one element per batch, 1, found 2",
        ),
        ([*QKV, zeros(2, 5)], {}, r"attn_mask must broadcast to \[1, 2, 3, 5\], found \[2, 5\]"),
        ([*QKV, zeros(1, 1, 1, 3, 5)], {}, "attn_mask must broadcast to"),
        ([*QKV, zeros(3, 7)], {}, r"attn_mask must broadcast to \[1, 2, 3, 5\], found \[3, 7\]"),
        (QKV, {"left_window_size": -2}, "left_window_size must be -1 or not negative, got -2"),
        (QKV, {"right_window_size": -3}, "right_window_size must be -1 or not negative, got -3"),
    ],
)
def test_attention_says_what_is_wrong(
    inputs: Any, attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("Attention", inputs, attributes)


def test_there_are_four_stages_of_scores() -> None:
    with pytest.raises(ShapeError, match="qk_matmul_output_mode must be 0, 1, 2 or 3, got 4"):
        run_op("Attention", QKV, {"qk_matmul_output_mode": 4}, outputs=4)


def test_softmax_precision_is_a_float_type() -> None:
    with pytest.raises(DTypeError, match=r"among 1 \(float32\), 10 .*, got 7"):
        run_op("Attention", QKV, {"softmax_precision": 7})


def flex(text: str, opset: int = 22) -> ReferenceEvaluator:
    return ReferenceEvaluator(
        onnx.parser.parse_model(
            f'<ir_version: 10, opset_import: ["": {opset}, "ai.onnx.preview": 1]>\n{text}'
        )
    )


def test_flex_attention_passes_scores_and_weights_through_its_graphs() -> None:
    q, k, v = qkv(groups=2)
    model = flex("""
        m (float[2, 4, 5, 8] Q, float[2, 2, 7, 8] K, float[2, 2, 7, 6] V) => (float[2, 4, 5, 6] Y)
        {
            half = Constant <value_float = 0.5> ()
            Y = ai.onnx.preview.FlexAttention <
                score_mod: graph = scores (float[B, H, S, T] s) => (float[B, H, S, T] s2)
                    { s2 = Mul (s, half) },
                prob_mod: graph = weights (float[B, H, S, T] p) => (float[B, H, S, T] p2)
                    { p2 = Mul (p, p) }
            > (Q, K, V)
        }""")
    [found] = model.run(None, {"Q": q, "K": k, "V": v})
    wide = [torch.from_numpy(x).double() for x in (q, k.repeat(2, 1), v.repeat(2, 1))]
    weights = torch.softmax(wide[0] @ wide[1].mT / math.sqrt(8) / 2, -1) ** 2
    np.testing.assert_allclose(found, (weights @ wide[2]).numpy(), rtol=F32_SUM, atol=F32_SUM)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_flex_attention_without_graphs_is_attention(dtype: Any) -> None:
    inputs = [x.astype(dtype) for x in qkv(groups=2)]
    expected = run_op("Attention", inputs, {"scale": 0.25})
    check_node(
        "FlexAttention", inputs, {"scale": 0.25}, expected=expected, opset=1,
        domain="ai.onnx.preview",
    )  # fmt: skip


def test_flex_attention_rounds_to_softmax_precision() -> None:
    inputs = qkv()
    [exact] = run_op("FlexAttention", inputs, opset=1, domain="ai.onnx.preview")
    [coarse] = run_op(
        "FlexAttention", inputs, {"softmax_precision": 10}, opset=1, domain="ai.onnx.preview"
    )
    assert 1e-6 < np.abs(coarse - exact).max() < 1e-2


def test_flex_attention_infers_in_the_precision_of_its_graphs() -> None:
    q, v = tensor(FLOAT64, (B, 4, S, 8)), tensor(FLOAT64, (B, 2, T, E))
    k = tensor(FLOAT64, (B, 2, T, 8))
    [fact] = infer_op("FlexAttention", [q, k, v], opset=1, domain="ai.onnx.preview")
    assert (fact.dtype, fact.shape) == (FLOAT64, (B, 4, S, E))


def test_flex_attention_multiplies_one_type() -> None:
    """Inference that does not look at the types of inputs finds it as well."""
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 22, "ai.onnx.preview": 1]>
        m (float[2, 4, 5, 8] Q, float16[2, 4, 7, 8] K, float[2, 4, 7, 6] V) => (Y)
        { Y = ai.onnx.preview.FlexAttention (Q, K, V) }
    """)
    with pytest.raises(DTypeError, match="found Q float32 and K float16"):
        infer_strictly(from_message(model), checks_types=False)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{ o = Cast <to = 11> (s) }", r"score_mod must keep float32\[2, 4, 5, 7\], found float64"),
        ("{ o = Transpose (s) }", r"score_mod must keep .* found float32\[7, 5, 4, 2\]"),
    ],
)
def test_the_graphs_of_flex_attention_keep_dtype_and_shape(body: str, message: str) -> None:
    model = flex(f"""
        m (float[2, 4, 5, 8] Q, float[2, 4, 7, 8] K, float[2, 4, 7, 6] V) => (float[2, 4, 5, 6] Y)
        {{
            Y = ai.onnx.preview.FlexAttention <
                score_mod: graph = scores (float[B, H, S, T] s) => (o) {body}
            > (Q, K, V)
        }}""")
    with pytest.raises(ShapeError, match=message):
        model.run(None, dict(zip("QKV", qkv(), strict=True)))


def test_the_graphs_of_flex_attention_have_one_output() -> None:
    model = flex("""
        m (float[2, 4, 5, 8] Q, float[2, 4, 7, 8] K, float[2, 4, 7, 6] V) => (float[2, 4, 5, 6] Y)
        {
            Y = ai.onnx.preview.FlexAttention <
                prob_mod: graph = weights (float[B, H, S, T] p) => (o, p) { o = Identity (p) }
            > (Q, K, V)
        }""")
    with pytest.raises(ShapeError, match="prob_mod must give one output, found 2"):
        model.run(None, dict(zip("QKV", qkv(), strict=True)))


def test_flex_attention_needs_four_axes() -> None:
    with pytest.raises(
        ShapeError, match=r"V must be \[batch, heads, length, size\], found V\[1, 2"
    ):
        run_op("FlexAttention", [*QKV[:2], zeros(1, 2)], opset=1, domain="ai.onnx.preview")


def test_attention_agrees_with_onnxruntime() -> None:
    inputs = qkv(groups=2)
    attributes = {"is_causal": 1, "scale": 0.2, "softcap": 1.5}
    expected = peer("Attention", inputs, attributes, opset=23)
    check_node("Attention", inputs, attributes, expected=expected, rtol=F32_SUM, atol=F32_SUM)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"is_causal": 1},
        {"softcap": 0.7, "scale": 0.4},
        {"left_window_size": 1, "right_window_size": 2},
        {"softmax_precision": 10},
        {"is_causal": 1, "left_window_size": 0},
    ],
)
def test_attention_is_lowered(attributes: dict[str, Any]) -> None:
    hidden = np.where(normal(5, 7) > 0, np.float32(-np.inf), normal(5, 7))
    masks = (None, normal(2, 1, 5, 7) > 0, normal(5, 7), hidden, normal(4, 5, 3) > 0)
    for mode, mask in enumerate(masks):
        shown = {**attributes, "qk_matmul_output_mode": mode % 4}
        check_lowering("Attention", [*qkv(), mask], shown, outputs=4)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_shared_heads_in_the_last_axis_are_lowered(groups: int, dtype: Any) -> None:
    inputs = [packed(x).astype(dtype) for x in qkv(groups=groups)]
    attributes = {"q_num_heads": 4, "kv_num_heads": groups}
    check_lowering("Attention", inputs, attributes, symbolic=False)
    past = [normal(2, groups, 3, 8).astype(dtype), normal(2, groups, 3, 6).astype(dtype)]
    check_lowering(
        "Attention", [*inputs, None, *past], {**attributes, "is_causal": 1}, outputs=3,
        symbolic=False,
    )  # fmt: skip


def test_attention_with_a_cache_is_lowered() -> None:
    past = [normal(2, 4, 3, 8), normal(2, 4, 3, 6)]
    check_lowering("Attention", [*qkv(), normal(5, 10), *past], {"is_causal": 1}, outputs=3)


@pytest.mark.parametrize("causal", [0, 1])
def test_attention_with_an_outer_cache_is_lowered(causal: int) -> None:
    filled = np.array([7, 5])
    inputs = [*qkv(), None, None, None, filled]
    check_lowering("Attention", inputs, {"is_causal": causal})
    check_lowering("Attention", [*inputs[:3], normal(5, 7), None, None, filled], {})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (qkv(groups=2), "how many query heads share a key head depends on an extent"),
        ([*qkv(), None, None, None, np.array([[7], [5]])], "nonpad_kv_seqlen is no vector"),
    ],
)
def test_attention_says_why_it_stays_with_the_kernel(inputs: list[Any], message: str) -> None:
    with pytest.raises(NotLowered, match=message):
        lower_op("Attention", inputs, is_symbolic=True)


@pytest.mark.parametrize("name", ["left_window_size", "right_window_size"])
def test_a_window_is_seen_before_a_run(name: str) -> None:
    with pytest.raises(ShapeError, match=f"{name} must be -1 or not negative, got -2"):
        infer_op("Attention", [fact_of(x) for x in qkv()], {name: -2}, opset=25)


def test_half_a_cache_is_seen_before_a_run() -> None:
    facts = [*(fact_of(x) for x in qkv()), None, tensor(FLOAT32, (2, 4, 3, 8))]
    with pytest.raises(ShapeError, match="past_key and past_value come together, found only past_"):
        infer_op("Attention", facts, opset=25)
    facts += [tensor(FLOAT32, (2, 4, 3, 6)), tensor(INT64, (2,))]
    with pytest.raises(ShapeError, match="nonpad_kv_seqlen describes a cache kept outside"):
        infer_op("Attention", facts, opset=25)


def test_lengths_of_another_batch_are_seen_before_a_run() -> None:
    given = qkv()
    facts = [*map(fact_of, given), None, None, None]
    batch = len(given[0])
    infer_op("Attention", [*facts, tensor(INT64, (batch,))], opset=24)
    with pytest.raises(ShapeError, match="nonpad_kv_seqlen must have one element per batch"):
        infer_op("Attention", [*facts, tensor(INT64, (batch + 1,))], opset=24)
