from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix import InferenceSession
from fornix.errors import NotSupported, ShapeError
from fornix.reference import ReferenceEvaluator
from tests.ops.harness import peer, run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(14)
B, S, T, H, D = 2, 3, 5, 2, 4


def normal(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def same(
    name: str, inputs: list[Any], attributes: dict[str, Any], outputs: int = 1, **how: Any
) -> None:
    agree(name, inputs, attributes, outputs=outputs, **how)


def lengths(keys: int) -> list[Any]:
    """Masks of every form for that many keys: lengths, and elements."""
    ends = np.array([keys - 1, keys], np.int32)
    sums = np.tile(np.cumsum([0, *ends]), 2)
    every = [ends, np.arange(keys) < ends[:, None], np.concatenate([ends, sums])]
    return [mask.astype(np.int32) for mask in every]


def test_queries_attend_to_keys_of_another_length() -> None:
    inputs = [normal(B, S, H * D), normal(B, T, H * D), normal(B, T, H * 3)]
    same("MultiHeadAttention", inputs, {"num_heads": H})
    same("MultiHeadAttention", [*inputs, normal(2 * H * D + H * 3)], {"num_heads": H, "scale": 0.3})


@pytest.mark.parametrize("form", [0, 1, 2])
@pytest.mark.parametrize("batch", [1, B])
def test_padding_and_a_bias_of_scores_hide_keys(form: int, batch: int) -> None:
    inputs = [normal(B, S, H * D), normal(B, T, H * D), normal(B, T, H * D), None]
    inputs += [lengths(T)[form], normal(batch, H, S, T)]
    same("MultiHeadAttention", inputs, {"num_heads": H})


def test_the_past_precedes_keys_and_values() -> None:
    inputs = [normal(B, S, H * D) for _ in range(3)] + [None] * 3
    inputs += [normal(B, H, 4, D), normal(B, H, 4, D)]
    same("MultiHeadAttention", inputs, {"num_heads": H}, outputs=3)
    same("MultiHeadAttention", inputs, {"num_heads": H, "unidirectional": 1}, outputs=3)


def test_keys_may_come_in_heads() -> None:
    inputs = [normal(B, S, H * D), normal(B, H, T, D), normal(B, H, T, D)]
    same("MultiHeadAttention", inputs, {"num_heads": H})


def test_queries_keys_and_values_may_come_in_one_tensor() -> None:
    together = normal(B, S, H, 3, D)
    parts = [together[:, :, :, part].reshape(B, S, H * D) for part in range(3)]
    [expected] = peer("MultiHeadAttention", parts, {"num_heads": H}, opset=1, domain=DOMAIN)
    attributes = {"num_heads": H}
    [found] = run_op("MultiHeadAttention", [together], attributes, domain=DOMAIN, opset=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    pairs = np.stack([together[:, :, :, 1], together[:, :, :, 2]], axis=3)
    inputs = [parts[0], pairs]
    [found] = run_op("MultiHeadAttention", inputs, attributes, domain=DOMAIN, opset=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", [None, 0, 1, 2])
@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("past", [0, 4])
def test_attention_projects_first(form: int | None, unidirectional: int, past: int) -> None:
    inputs = [normal(B, S, 6), normal(6, 3 * H * D), normal(3 * H * D)]
    inputs += [None if form is None else lengths(past + S)[form]]
    inputs += [normal(2, B, H, past, D)] if past else []
    flags = {"num_heads": H, "unidirectional": unidirectional}
    same("Attention", inputs, flags, outputs=2 if past else 1)


def test_attention_knows_where_keys_begin_and_what_each_query_sees() -> None:
    inputs = [normal(B, S, 6), normal(6, 3 * H * D), normal(3 * H * D)]
    for mask in (
        np.array([2, 3, 0, 1], np.int32),
        rng.integers(0, 2, (B, S, S)).astype(np.int32) | np.eye(S, dtype=np.int32),
    ):
        same("Attention", [*inputs, mask], {"num_heads": H}, symbolic=mask.ndim > 1)


def test_attention_divides_its_columns_as_it_is_told() -> None:
    sizes = [H * D, H * D, H * 6]
    inputs = [normal(B, S, 6), normal(6, sum(sizes)), normal(sum(sizes))]
    same("Attention", inputs, {"num_heads": H, "qkv_hidden_sizes": sizes, "scale": 0.4})


GROUPS, WIDE = 2, 4


def step(length: int, past: int, *, size: int = 16, together: bool = False) -> list[Any]:
    """Inputs of a step that follows ``past`` keys, in a cache with room for two more."""
    heads = [WIDE, GROUPS, GROUPS]
    new = [normal(B, length, count * size) for count in heads]
    if together:
        new = [np.concatenate(new, axis=2), None, None]
    cache = [normal(B, GROUPS, past + length + 2, size) for _ in range(2)]
    total = past + length
    return [
        *new,
        *cache,
        np.array([total - 1] * B, np.int32),
        np.array(total, np.int32),
        normal(32, size // 2),
        normal(32, size // 2),
    ]


@pytest.mark.parametrize(
    "rotary", [{}, {"do_rotary": 1}, {"do_rotary": 1, "rotary_interleaved": 1}]
)
@pytest.mark.parametrize(("length", "past"), [(4, 0), (1, 5)])
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("more", [{}, {"local_window_size": 3}, {"softcap": 2.0, "scale": 0.5}])
def test_groups_of_queries_share_keys(
    rotary: dict[str, int], length: int, past: int, together: bool, more: dict[str, Any]
) -> None:
    inputs = step(length, past, together=together)[: None if rotary else 7]
    flags = {"num_heads": WIDE, "kv_num_heads": GROUPS, **rotary, **more}
    expected = peer("GroupQueryAttention", inputs, flags, opset=1, outputs=3, domain=DOMAIN)
    found = run_op("GroupQueryAttention", inputs, flags, outputs=3, opset=1, domain=DOMAIN)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-5)
    for mine, other in zip(found[1:], expected[1:], strict=True):
        assert mine.shape == other.shape
        kept = length + past  # what lies behind is nobody's
        np.testing.assert_allclose(mine[:, :, :kept], other[:, :, :kept], rtol=1e-5, atol=1e-6)


def test_batches_may_have_caches_filled_unlike() -> None:
    inputs = step(1, 5)
    inputs[5] = np.array([3, 5], np.int32)
    flags = {"num_heads": WIDE, "kv_num_heads": GROUPS, "do_rotary": 1}
    # Without its other outputs onnxruntime leaves out what is past.
    expected, *_ = peer("GroupQueryAttention", inputs, flags, opset=1, outputs=3, domain=DOMAIN)
    [found] = run_op("GroupQueryAttention", inputs, flags, opset=1, domain=DOMAIN)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_part_of_each_head_is_rotated() -> None:
    flags = {"num_heads": WIDE, "kv_num_heads": GROUPS, "do_rotary": 1}
    for length, past, interleaved in ((4, 0, 0), (1, 5, 1)):
        inputs = step(length, past, size=32)
        inputs[7:] = normal(32, 8), normal(32, 8)
        more = flags | {"rotary_interleaved": interleaved}
        expected, *_ = peer("GroupQueryAttention", inputs, more, opset=1, outputs=3, domain=DOMAIN)
        [found] = run_op("GroupQueryAttention", inputs, more, opset=1, domain=DOMAIN)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("length", "past"), [(4, 0), (1, 5)])
def test_positions_of_a_prompt_follow_the_first_that_is_told(length: int, past: int) -> None:
    ids = np.random.default_rng(3).integers(0, 20, (B, length))
    inputs = [*step(length, past), ids]
    flags = {"num_heads": WIDE, "kv_num_heads": GROUPS, "do_rotary": 1}
    expected, *_ = peer("GroupQueryAttention", inputs, flags, opset=1, outputs=3, domain=DOMAIN)
    [found] = run_op("GroupQueryAttention", inputs, flags, opset=1, domain=DOMAIN)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_sink_takes_its_share() -> None:
    flags: dict[str, Any] = {"num_heads": WIDE, "kv_num_heads": GROUPS}
    for sink, smooth in ((normal(WIDE), -1), (None, 1)):
        inputs = [*step(3, 0)[:7], None, None, None, None, sink]
        more = flags | {"smooth_softmax": smooth}
        [expected] = peer("GroupQueryAttention", inputs, more, opset=1, domain=DOMAIN)
        [found] = run_op("GroupQueryAttention", inputs, more, opset=1, domain=DOMAIN)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "error", "message"),
    [
        (
            "Attention",
            [normal(1, 2, 3), normal(3, 7)],
            {},
            ShapeError,
            "columns for three, found 7",
        ),
        (
            "Attention",
            [normal(1, 2, 3), normal(3, 6)],
            {"qkv_hidden_sizes": [2, 2, 4]},
            ShapeError,
            "three numbers with the sum 6",
        ),
        (
            "Attention",
            [normal(1, 2, 3), normal(3, 6)],
            {"do_rotary": 1},
            NotSupported,
            "do_rotary must be 0",
        ),
        (
            "Attention",
            [normal(1, 2, 3), normal(3, 6)],
            {"past_present_share_buffer": 1},
            NotSupported,
            "share_buffer must be 0",
        ),
        (
            "Attention",
            [normal(1, 2, 3), normal(3, 6), None, np.zeros(4, np.int32)],
            {},
            NotSupported,
            "1, 2 or 5 elements, found 4",
        ),
        (
            "MultiHeadAttention",
            [normal(1, 2, 3)] * 3,
            {"num_heads": 2},
            ShapeError,
            r"2 heads · size\] is required, found \[1, 2, 3\]",
        ),
        (
            "MultiHeadAttention",
            [normal(1, 2, 3), normal(1, 2, 3), normal(1, 4, 3)],
            {},
            ShapeError,
            "queries, keys and values must fit",
        ),
        (
            "MultiHeadAttention",
            [*[normal(1, 2, 3)] * 3, normal(8)],
            {},
            ShapeError,
            r"bias must have shape \[9\]",
        ),
        (
            "MultiHeadAttention",
            [*[normal(1, 2, 3)] * 3, *[None] * 6, np.zeros((1, 1, 2), np.int32)],
            {},
            NotSupported,
            "cache_indirection must be left out",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    name: str, inputs: list[Any], attributes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_op(name, inputs, {"num_heads": 1, **attributes}, domain=DOMAIN, opset=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qk_output": 1}, "qk_output must be 0, got 1"),
        ({"k_quant_type": "PER_TENSOR"}, "k_quant_type must be NONE"),
        ({"sliding_window_cache": 1}, "sliding_window_cache must be 0"),
    ],
)
def test_forms_of_caches_that_are_not_read_are_named(change: dict[str, Any], message: str) -> None:
    flags = {"num_heads": WIDE, "kv_num_heads": GROUPS, **change}
    with pytest.raises(NotSupported, match=message):
        run_op("GroupQueryAttention", step(1, 2)[:7], flags, domain=DOMAIN, opset=1)


def test_a_cache_must_have_room() -> None:
    inputs = step(1, 2)[:7]
    inputs[5] = np.array([9, 2], np.int32)
    flags = {"num_heads": WIDE, "kv_num_heads": GROUPS}
    with pytest.raises(ShapeError, match="must leave room for 1 keys in 5, got 9"):
        run_op("GroupQueryAttention", inputs, flags, domain=DOMAIN, opset=1)
    scales = [*[None] * 5, np.ones(1, np.float32)]
    with pytest.raises(NotSupported, match="k_scale must be left out"):
        run_op("GroupQueryAttention", step(1, 2)[:7] + scales, flags, domain=DOMAIN, opset=1)


@pytest.mark.parametrize("engine", [ReferenceEvaluator, InferenceSession])
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(1, 2, 4), (1, 2, 3, 2, 2)], r"key must be key\[1, 2, 2, \?, \?\], got"),
        ([(1, 2, 3, 3, 2)], r"query must be query\[\?, \?, 2, \?, \?\], got"),
        (
            [*[(1, 2, 4)] * 3, *[None] * 3, (1, 2, 3, 2), (1, 2, 1, 2)],
            "queries, keys and values must fit, found",
        ),
    ],
)
def test_heads_and_keys_of_open_extents_have_to_fit(
    engine: Any, shapes: list[tuple[int, ...] | None], message: str
) -> None:
    given = [(f"x{n}", shape) for n, shape in enumerate(shapes) if shape is not None]
    texts = (f"float[{', '.join(f'{x}_{axis}' for axis in range(len(s)))}] {x}" for x, s in given)
    names = (f"x{n}" if shape else "" for n, shape in enumerate(shapes))
    model = parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 20, "{DOMAIN}" : 1]> f ({", ".join(texts)}) => '
        f"(float[] y) {{ y = {DOMAIN}.MultiHeadAttention <num_heads = 2> ({', '.join(names)}) }}"
    )
    with pytest.raises(ShapeError, match=message):
        engine(model).run(None, {x: normal(*shape) for x, shape in given})
