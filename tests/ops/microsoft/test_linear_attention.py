from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import InferenceError, NotSupported, ShapeError
from tests.ops.harness import check_lowering, check_node, fact_of, infer_op, peer, run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(27)
WHERE: dict[str, Any] = {"domain": DOMAIN, "opset": 1}


def normal(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_a_causal_convolution_carries_what_its_taps_reach(dilation: int, length: int) -> None:
    inputs = [normal(2, 5, length), normal(5, 1, 4), normal(5), normal(2, 5, 3 * dilation)]
    given = {"dilation": dilation, "activation": "silu"}
    agree("CausalConvWithState", inputs, given, outputs=2)
    agree("CausalConvWithState", inputs[:2], {"dilation": dilation}, outputs=2)


def test_channels_may_come_last() -> None:
    """onnxruntime has no kernel for it on processors: what it gives for channels first counts."""
    x, weight, bias, past = normal(2, 5, 9), normal(5, 1, 4), normal(5), normal(2, 5, 6)
    first = peer(
        "CausalConvWithState", [x, weight, bias, past], {"dilation": 2}, outputs=2, **WHERE
    )
    given = {"dilation": 2, "channels_last": 1}
    turned = [x.swapaxes(1, 2).copy(), weight, bias, past.swapaxes(1, 2).copy()]
    expected = [y.swapaxes(1, 2) for y in first]
    check_node("CausalConvWithState", turned, given, expected=expected, rtol=1e-5, **WHERE)
    check_lowering("CausalConvWithState", turned, given, outputs=2, **WHERE)


def test_what_a_causal_convolution_cannot_do_is_said() -> None:
    inputs = [normal(1, 2, 3), normal(2, 1, 2)]
    for name, value, message in (
        ("ndim", 2, "ndim must be 1, got 2"),
        ("state_window", 1, "state_window must be 0, which keeps the last state alone, got 1"),
    ):
        with pytest.raises(NotSupported, match=message):
            run_op("CausalConvWithState", inputs, {name: value}, **WHERE)
    with pytest.raises(ShapeError, match="dilation must be 1 or more, got 0"):
        run_op("CausalConvWithState", inputs, {"dilation": 0}, **WHERE)


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize("length", [1, 7])
def test_linear_attention_is_the_standards(rule: str, length: int) -> None:
    batch, heads, groups, size, width = 2, 4, 2, 8, 6
    key = normal(batch, length, groups, size)
    key /= np.linalg.norm(key, axis=-1, keepdims=True)
    inputs = [
        normal(batch, length, heads * size),
        key.reshape(batch, length, groups * size),
        normal(batch, length, groups * width),
        normal(batch, groups, size, width),
        -np.abs(normal(batch, length, groups)) if "gated" in rule else None,
        1 / (1 + np.exp(-normal(batch, length, groups))) if "delta" in rule else None,
    ]
    given = {"q_num_heads": heads, "kv_num_heads": groups, "update_rule": rule}
    agree("LinearAttention", inputs, given, outputs=2, symbolic=False)


def test_states_of_several_steps_are_refused() -> None:
    inputs = [normal(1, 2, 8), normal(1, 2, 8), normal(1, 2, 8)]
    given = {"q_num_heads": 2, "kv_num_heads": 2, "update_rule": "linear", "state_window": 2}
    with pytest.raises(NotSupported, match="state_window must be 0"):
        run_op("LinearAttention", inputs, given, **WHERE)


@pytest.mark.parametrize("outputs", [1, 2])
def test_gates_are_computed_from_projections(outputs: int) -> None:
    inputs = [normal(2, 3, 5) * 9, normal(5), -np.abs(normal(5)), normal(2, 3, 5) * 9]
    agree("LinearAttentionGate", inputs[: outputs + 2], outputs=outputs)


def test_gates_say_what_does_not_fit() -> None:
    for sizes, message in (((1, 5), "dt_bias must be dt_bias"), ((5, 1), "decay_scale must be")):
        with pytest.raises(ShapeError, match=message):
            run_op("LinearAttentionGate", [normal(2, 3, 5), *map(normal, sizes)], **WHERE)


def test_a_rate_needs_its_projection() -> None:
    inputs = [fact_of(x) for x in (normal(1, 1, 2), normal(2), normal(2))]
    with pytest.raises(InferenceError, match="b is required where the output beta is asked for"):
        infer_op("LinearAttentionGate", inputs, outputs=2, **WHERE)
