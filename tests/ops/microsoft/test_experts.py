from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import fornix
from fornix.errors import NotSupported, ShapeError
from tests.ops.harness import check_node, run_op
from tests.ops.microsoft.peer import DOMAIN, agree

E, H, I = 5, 32, 64
SWIGLU = {"activation_type": "swiglu", "swiglu_fusion": 1}
WHERE: dict[str, Any] = {"domain": DOMAIN, "opset": 1}


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32) / 4


def floats(rows: tuple[int, ...] = (6,), *, wide: int = I, bias: bool = True) -> list[Any]:
    """Inputs of MoE whose first layer has ``wide`` columns."""
    count = int(np.prod(rows))
    biases = [normal(E, wide), normal(E, H, seed=1)] if bias else [None, None]
    return [
        normal(*rows, H), normal(count, E) * 8, normal(E, wide, H), biases[0], normal(E, H, I),
        biases[1],
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "identity"])
@pytest.mark.parametrize("normalized", [0, 1])
def test_rows_are_what_their_best_experts_make_of_them(name: str, normalized: int) -> None:
    given = {"k": 2, "activation_type": name, "normalize_routing_weights": normalized}
    agree("MoE", floats(), given)
    agree("MoE", floats((2, 3), bias=False)[:5], given | {"k": E})


@pytest.mark.parametrize("more", [{}, {"swiglu_limit": 0.2}, {"activation_beta": 1.0}])
def test_one_half_of_the_first_layer_opens_the_other(more: dict[str, float]) -> None:
    given = {"k": 2, "activation_alpha": 1.702, **SWIGLU, **more}
    agree("MoE", floats(wide=2 * I), given)


def test_of_equal_scores_the_last_are_taken() -> None:
    inputs = floats()
    inputs[1] = np.zeros_like(inputs[1])
    agree("MoE", inputs, {"k": 2})


def silu(x: Any) -> Any:
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("fusion", [0, 2])
def test_halves_may_lie_behind_each_other_or_in_layers_of_their_own(fusion: int) -> None:
    x, scores, first, _, second, _ = floats(bias=False)
    third = normal(E, I, H, seed=3)
    best = scores.argmax(1)
    g, l = (np.einsum("th,tih->ti", x, w[best]) for w in (first, third))
    share = np.exp(scores).max(1) / np.exp(scores).sum(1)
    y = np.einsum("ti,thi->th", silu(g) * l, second[best]) * share[:, None]
    given = {"activation_type": "swiglu", "swiglu_fusion": fusion}
    if fusion:
        inputs = [x, scores, np.concatenate([first, third], axis=1), None, second]
    else:
        inputs = [x, scores, first, None, second, None, third]
        check_node(
            "MoE", inputs, {"activation_type": "silu"}, expected=[y], rtol=1e-4, atol=1e-5, **WHERE
        )
    check_node("MoE", inputs, given, expected=[y], rtol=1e-4, atol=1e-5, **WHERE)
    [found] = session("MoE", inputs, given).run(None, {"x": x, "scores": scores})
    np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-5)


def layer(columns: int, rows: int, bits: int, block: int, *, zeros: bool) -> tuple[Any, Any, Any]:
    """Bytes, scales and zero points of a layer."""
    rng = np.random.default_rng([columns, bits])
    count = rows // block if block else 1
    packed = rng.integers(0, 256, (E, columns, rows * bits // 8)).astype(np.uint8)
    scales = rng.uniform(0.2, 1, (E, columns, count)) / 2**bits
    last = (columns, -(-count * bits // 8)) if block else (-(-columns * bits // 8),)
    points = rng.integers(0, 256, (E, *last)).astype(np.uint8)
    scales = (scales if block else scales[..., 0]).astype(np.float32)
    return packed, scales, points if zeros else None


def few_bits(bits: int, block: int, *, zeros: bool, rows: int = 6) -> list[Any]:
    """Inputs of QMoE with SwiGLU."""
    first, second = (layer(*extents, bits, block, zeros=zeros) for extents in ((2 * I, H), (H, I)))
    biases = normal(E, 2 * I), normal(E, H, seed=1)
    inputs = [normal(rows, H), normal(rows, E) * 8, *first[:2], biases[0], *second[:2], biases[1]]
    return [*inputs, None, None, None, first[2], second[2]]


NAMES = ["x", "scores"]


def session(name: str, inputs: Sequence[Any], given: Mapping[str, Any], threads: int = 1) -> Any:
    """A session on a node whose weights are stored; as many rows as it is fed."""
    return fornix.InferenceSession(
        model(name, inputs, given), fornix.SessionOptions(intra_op_num_threads=threads)
    )


def model(name: str, inputs: Sequence[Any], given: Mapping[str, Any]) -> bytes:
    names = [*NAMES, *(f"w{n}" for n in range(len(inputs) - 2))]
    used = ["" if x is None else name for name, x in zip(names, inputs, strict=True)]
    stored = [
        numpy_helper.from_array(x, name)
        for name, x in zip(names[2:], inputs[2:], strict=True)
        if x is not None
    ]
    fed = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["T", x.shape[1]])
        for name, x in zip(NAMES, inputs, strict=False)
    ]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node(name, used, ["y"], domain=DOMAIN, **given)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    graph = helper.make_graph([node], "g", fed, [result], stored)
    return bytes(helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString())


@pytest.mark.parametrize("block", [0, 16, 32])
@pytest.mark.parametrize(("bits", "zeros"), [(4, False), (4, True), (2, True)])
def test_weights_may_be_of_few_bits(bits: int, block: int, zeros: bool) -> None:
    given = {"k": 2, "expert_weight_bits": bits, **SWIGLU} | (
        {"block_size": block} if block else {}
    )
    inputs = few_bits(bits, block, zeros=zeros)
    text = model("QMoE", inputs, given)
    peer = onnxruntime.InferenceSession(text, providers=["CPUExecutionProvider"])
    sessions = [session("QMoE", inputs, given, threads) for threads in (1, 2)]
    for rows in (6, 1, 3):
        feeds = {name: x[:rows] for name, x in zip(NAMES, inputs, strict=False)}
        [expected] = peer.run(None, feeds)
        found = [s.run(None, feeds)[0] for s in sessions]
        # onnxruntime rounds the rows that weights of 2 bits in blocks of 32 multiply.
        near = 0.03 if (bits, block) == (2, 32) else 1e-5
        np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=near)
        np.testing.assert_array_equal(found[0], found[1])
    assert all(place.kernels for place in sessions[0].placement())
    kinds = {entry.kind for entry in sessions[0].profile(feeds, 1).entries}
    assert "blocks" in kinds


def test_bytes_are_weights_too() -> None:
    given = {"k": 2, "expert_weight_bits": 8, **SWIGLU}
    agree("QMoE", few_bits(8, 0, zeros=True), given, symbolic=False)


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_are_rounded_on_request(bits: int) -> None:
    given = {"k": 2, "block_size": 16, "accuracy_level": 4, "expert_weight_bits": bits, **SWIGLU}
    inputs = few_bits(bits, 16, zeros=True)
    feeds = dict(zip(NAMES, inputs, strict=False))
    text = model("QMoE", inputs, given)
    peer = onnxruntime.InferenceSession(text, providers=["CPUExecutionProvider"])
    [expected] = peer.run(None, feeds)
    [found] = session("QMoE", inputs, given).run(None, feeds)
    [kernel] = run_op("QMoE", inputs, given, **WHERE)
    np.testing.assert_allclose(kernel, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    exact = given | {"accuracy_level": 0}
    assert np.abs(run_op("QMoE", inputs, exact, **WHERE)[0] - kernel).max() > 1e-4


@pytest.mark.parametrize("normalized", [0, 1])
def test_shares_may_be_told_apart_from_scores(normalized: int) -> None:
    inputs = [*few_bits(4, 16, zeros=False), None, np.abs(normal(6, E, seed=7)) + 0.1]
    given = {"k": 2, "block_size": 16, "normalize_routing_weights": normalized, **SWIGLU}
    agree("QMoE", inputs, given, symbolic=False)


def test_layers_may_have_widths_of_their_own() -> None:
    inputs = few_bits(4, 16, zeros=False)
    wide = layer(H, I, 8, 16, zeros=False)
    given = {"k": 2, "block_size": 16, "fc2_expert_weight_bits": 8, **SWIGLU}
    inputs[5:7] = wide[:2]
    numbers = (wide[0].astype(np.float32) - 128) * np.repeat(wide[1], 16, axis=2)
    low = inputs[2][..., None] >> np.array([0, 4], np.uint8) & 15
    first = (low.reshape(E, 2 * I, H).astype(np.float32) - 8) * np.repeat(inputs[3], 16, axis=2)
    plain = [inputs[0], inputs[1], first, inputs[4], numbers, inputs[7]]
    same = {"k": 2, "normalize_routing_weights": 1, **SWIGLU}
    expected = run_op("MoE", plain, same, **WHERE)
    check_node("QMoE", inputs, given, expected=expected, rtol=1e-4, atol=1e-5, **WHERE)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"activation_type": "tanh"}, ShapeError, "must be one of relu, gelu, silu, identity"),
        ({"swiglu_fusion": 3}, ShapeError, "swiglu_fusion must be 0, 1 or 2, got 3"),
        (SWIGLU | {"swiglu_fusion": 0}, ShapeError, "needs either swiglu_fusion or fc3"),
        ({"use_sparse_mixer": 1}, NotSupported, "use_sparse_mixer must be 0, got 1"),
        ({"k": 6}, ShapeError, r"k must be in \[1, 5\], got 6"),
        ({"k": 0}, ShapeError, r"k must be in \[1, 5\], got 0"),
    ],
)
def test_mixtures_that_make_no_sense_are_refused(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        session("MoE", floats(), change)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"quant_type": "fp4"}, NotSupported, "quant_type must be 'int', got 'fp4'"),
        ({"weights_prepacked": 1}, NotSupported, "weights_prepacked must be 0 or -1, got 1"),
        ({"expert_weight_bits": 3}, ShapeError, "must have 2, 4 or 8 bits, got 3, 3, 3"),
        ({"block_size": 24}, ShapeError, "must divide the 32 weights of a column of fc1, got 24"),
        ({"block_size": 32}, ShapeError, r"fc1_scales must be fc1_scales\[5, 128, 1\]"),
    ],
)
def test_weights_of_other_kinds_are_refused(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"block_size": 16, **SWIGLU, **change}
    with pytest.raises(error, match=message):
        session("QMoE", few_bits(4, 16, zeros=False), given)


def test_scales_are_needed_and_those_of_activations_are_not_read() -> None:
    inputs = few_bits(4, 16, zeros=False)
    with pytest.raises(NotSupported, match="global and activation scales must be left out"):
        run_op("QMoE", [*inputs, None, None, np.ones(E, np.float32)], SWIGLU, **WHERE)
    inputs[3] = None
    with pytest.raises(ShapeError, match="fc1_scales must be given"):
        session("QMoE", inputs, {"block_size": 16, **SWIGLU})


def test_rows_that_do_not_fit_the_scores_are_refused() -> None:
    inputs = floats()
    inputs[1] = inputs[1][:4]
    with pytest.raises(ShapeError, match=r"router_probs must have 6 rows, .* got 4"):
        run_op("MoE", inputs, {"k": 2}, **WHERE)
    made = fornix.InferenceSession(fed_apart(model("MoE", inputs, {"k": 2})))
    for _ in range(2):
        with pytest.raises(ShapeError, match=r"router_probs must have 6 rows, .* got 4"):
            made.run(None, {"x": inputs[0], "scores": inputs[1]})


def fed_apart(text: bytes) -> bytes:
    """The model whose inputs have rows of their own."""
    made = onnx.load_from_string(text)
    made.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "R"
    return bytes(made.SerializeToString())


@pytest.mark.parametrize("name", ["MoE", "QMoE"])
@pytest.mark.parametrize("block", [0, 16])
def test_prompts_bring_the_rows_of_an_expert_side_by_side(name: str, block: int) -> None:
    given = {"k": 2, "normalize_routing_weights": 1, **SWIGLU}
    if name == "QMoE":
        inputs = few_bits(4, block, zeros=True, rows=70)
        given |= {"block_size": block} if block else {}
    else:
        inputs = floats((70,), wide=2 * I, bias=bool(block))
    peer = onnxruntime.InferenceSession(
        model(name, inputs, given), providers=["CPUExecutionProvider"]
    )
    sessions = [session(name, inputs, given, threads) for threads in (1, 2)]
    for rows in (70, 0, 1, 2, 9, 33):
        feeds = {name: x[:rows].copy() for name, x in zip(NAMES, inputs, strict=False)}
        feeds["scores"][: rows // 2, 3] = 9  # of which one expert has most
        found = [s.run(None, feeds)[0] for s in sessions]
        np.testing.assert_array_equal(found[0], found[1])
        if rows:
            np.testing.assert_allclose(found[0], peer.run(None, feeds)[0], rtol=1e-4, atol=1e-5)
    assert all(place.kernels for place in sessions[0].placement())
