"""Attention of com.microsoft in sessions: compiled, and what onnxruntime gives."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import fornix
from fornix.errors import FornixError
from fornix.onnx import parser
from fornix.reference import ReferenceEvaluator
from fornix.reference.plan import Plan
from tests.ops.microsoft.peer import DOMAIN

rng = np.random.default_rng(21)
B, H, D = 2, 4, 16
OPEN: dict[str, list[int | str]] = {
    "query": ["B", "S", H * D],
    "key": ["B", "T", H * D],
    "value": ["B", "T", H * D],
    "past_key": ["B", H, "P", D],
    "past_value": ["B", H, "P", D],
    "input": ["B", "S", H * D],
    "past": [2, "B", H, "P", D],
    "mask": ["B", "M"],
    "attention_bias": [1, H, "S", "T"],
}
"""Extents by name, as exporters leave them open."""
CACHED: dict[str, list[int | str]] = {
    "query": [1, "S", H * D],
    "key": [1, "S", 2 * D],
    "value": [1, "S", 2 * D],
    "past_key": [1, 2, "P", D],
    "past_value": [1, 2, "P", D],
}
"""Those of GroupQueryAttention."""


def normal(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def model(op: str, feeds: dict[str, Any], order: list[str], outputs: int, flags: Any) -> bytes:
    extents = CACHED if op == "GroupQueryAttention" else OPEN
    names = [name if name in feeds else "" for name in order]
    results = [f"y{k}" for k in range(outputs)]
    node = helper.make_node(op, names, results, domain=DOMAIN, **flags)
    given = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(x.dtype), named(extents.get(name, []), x)
        )
        for name, x in feeds.items()
    ]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in results]
    graph = helper.make_graph([node], "g", given, made)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    text: bytes = helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()
    return text


def named(extents: list[Any], x: Any) -> list[Any]:
    """The extents of ``x``, by their names if they have any."""
    pairs = itertools.zip_longest(extents, x.shape)
    return [name if isinstance(name, str) else extent for name, extent in pairs]


def agree(op: str, feeds: dict[str, Any], order: list[str], flags: Any, outputs: int = 1) -> Any:
    """A compiled session and onnxruntime give the same, twice: extents are learned by then."""
    text = model(op, feeds, order, outputs, flags)
    peer = onnxruntime.InferenceSession(text, providers=["CPUExecutionProvider"])
    expected = peer.run(None, feeds)
    session = fornix.InferenceSession(text)
    assert all(place.kernels for place in session.placement()), session.placement()
    for _ in range(2):
        for found, wanted in zip(session.run(None, feeds), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    return session


MULTI = ["query", "key", "value", "bias", "mask", "attention_bias", "past_key", "past_value"]


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("extra", ["", "bias", "mask", "attention_bias"])
@pytest.mark.parametrize(("queries", "keys"), [(3, 7), (1, 70), (33, 33)])
def test_heads_attend(queries: int, keys: int, extra: str, causal: int) -> None:
    feeds = {"query": normal(B, queries, H * D)}
    feeds |= {name: normal(B, keys, H * D) for name in ("key", "value")}
    more = {
        "bias": normal(3 * H * D),
        "mask": (np.arange(keys) < np.array([[keys - 1], [keys]])).astype(np.int32),
        "attention_bias": normal(1, H, queries, keys),
    }
    feeds |= {name: x for name, x in more.items() if name == extra}
    if causal and queries != keys:
        return
    agree("MultiHeadAttention", feeds, MULTI, {"num_heads": H, "unidirectional": causal})


@pytest.mark.parametrize("past", [1, 9])
def test_heads_attend_to_the_past(past: int) -> None:
    feeds = {name: normal(B, 3, H * D) for name in ("query", "key", "value")}
    feeds |= {name: normal(B, H, past, D) for name in ("past_key", "past_value")}
    agree("MultiHeadAttention", feeds, MULTI, {"num_heads": H}, outputs=3)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("past", [0, 5])
@pytest.mark.parametrize("has_mask", [False, True])
def test_projections_come_first(causal: int, past: int, has_mask: bool) -> None:
    size = H * D
    feeds = {
        "input": normal(B, 3, size),
        "weights": normal(size, 3 * size),
        "bias": normal(3 * size),
    }
    if has_mask:
        keys = 3 + past
        feeds["mask"] = (np.arange(keys) < np.array([[keys - 1], [keys]])).astype(np.int32)
    if past:
        feeds["past"] = normal(2, B, H, past, D)
    order = ["input", "weights", "bias", "mask", "past"]
    flags = {"num_heads": H, "unidirectional": causal}
    agree("Attention", feeds, order, flags, outputs=2 if past else 1)


GROUP = [
    "query", "key", "value", "past_key", "past_value", "filled", "total", "cos", "sin", "ids",
    "bias", "sink",
]  # fmt: skip


def group(length: int, past: int, room: int, size: int = D) -> dict[str, Any]:
    """Inputs of a step whose cache has ``room`` places."""
    total = past + length
    feeds = {"query": normal(1, length, H * size)}
    feeds |= {name: normal(1, length, 2 * size) for name in ("key", "value")}
    feeds |= {name: normal(1, 2, room, size) for name in ("past_key", "past_value")}
    feeds |= {"filled": np.array([total - 1], np.int32), "total": np.array(total, np.int32)}
    return feeds | {"cos": normal(64, size // 2), "sin": normal(64, size // 2)}


@pytest.mark.parametrize("rotary", [0, 1])
@pytest.mark.parametrize("window", [-1, 3])
@pytest.mark.parametrize(("length", "past", "room"), [(5, 0, 8), (1, 6, 6), (1, 6, 9), (3, 0, 3)])
def test_groups_fill_their_cache(
    length: int, past: int, room: int, window: int, rotary: int
) -> None:
    feeds = group(length, past, room)
    if not rotary:
        feeds = {name: x for name, x in feeds.items() if name not in {"cos", "sin"}}
    flags = {"num_heads": H, "kv_num_heads": 2, "do_rotary": rotary, "local_window_size": window}
    text = model("GroupQueryAttention", feeds, GROUP, 3, flags)
    peer = onnxruntime.InferenceSession(text, providers=["CPUExecutionProvider"])
    expected = peer.run(None, feeds)
    session = fornix.InferenceSession(text)
    assert all(place.kernels for place in session.placement()), session.placement()
    for _ in range(2):
        y, *caches = session.run(None, feeds)
        np.testing.assert_allclose(y, expected[0], rtol=1e-4, atol=1e-5)
        for found, wanted in zip(caches, expected[1:], strict=True):
            kept = slice(0, past + length)  # what lies behind is nobody's
            np.testing.assert_allclose(found[:, :, kept], wanted[:, :, kept], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("length", "past", "pairs"), [(5, 0, D), (1, 6, D), (5, 0, 8), (3, 4, 8)])
def test_positions_and_what_is_rotated_may_be_told(length: int, past: int, pairs: int) -> None:
    feeds = group(length, past, past + length, size=2 * D)
    feeds |= {"cos": normal(64, pairs), "sin": normal(64, pairs)}
    feeds["ids"] = np.random.default_rng(3).integers(0, 20, (1, length))
    flags = {"num_heads": H, "kv_num_heads": 2, "do_rotary": 1}
    agree("GroupQueryAttention", feeds, GROUP, flags, outputs=3)


@pytest.mark.parametrize("flags", [{}, {"local_window_size": 3, "softcap": 2.0}])
@pytest.mark.parametrize("sink", [None, -40.0, 0.5, 40.0])
@pytest.mark.parametrize(("length", "past"), [(5, 0), (1, 6), (20, 0)])
def test_a_sink_takes_part_in_the_softmax(
    length: int, past: int, sink: float | None, flags: dict[str, Any]
) -> None:
    feeds = group(length, past, past + length)
    more = {"num_heads": H, "kv_num_heads": 2, "do_rotary": 1, **flags}
    if sink is None:
        more["smooth_softmax"] = 1
    else:
        feeds["sink"] = np.linspace(-1, 1, H, dtype=np.float32) + np.float32(sink)
    session = agree("GroupQueryAttention", feeds, GROUP, more, outputs=3)
    assert "attention" in {entry.kind for entry in session.profile(feeds, 1).entries}


@pytest.mark.parametrize("heads", [6, 16])
def test_heads_that_share_keys_are_rows_with_sinks_of_their_own(heads: int) -> None:
    feeds = {"query": normal(1, 1, heads * D), "key": normal(1, 1, D), "value": normal(1, 1, D)}
    feeds |= {name: normal(1, 1, 9, D) for name in ("past_key", "past_value")}
    feeds |= {"filled": np.array([8], np.int32), "total": np.array(9, np.int32)}
    feeds["sink"] = normal(heads) * np.float32(3)
    flags = {"num_heads": heads, "kv_num_heads": 1}
    made = onnx.load_from_string(model("GroupQueryAttention", feeds, GROUP, 3, flags))
    for value in made.graph.input:
        code, x = value.type.tensor_type.elem_type, feeds[value.name]
        value.CopyFrom(helper.make_tensor_value_info(value.name, code, x.shape))
    text = made.SerializeToString()
    peer = onnxruntime.InferenceSession(text, providers=["CPUExecutionProvider"])
    session = fornix.InferenceSession(text)
    for found, wanted in zip(session.run(None, feeds), peer.run(None, feeds), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_cache_that_is_too_small_is_refused() -> None:
    feeds = group(3, 2, 5) | {"filled": np.array([9], np.int32)}
    flags = {"num_heads": H, "kv_num_heads": 2, "do_rotary": 1}
    session = fornix.InferenceSession(model("GroupQueryAttention", feeds, GROUP, 3, flags))
    for _ in range(2):
        with pytest.raises(FornixError, match="seqlens_k must leave room for 3 keys in 5, got 9"):
            session.run(None, feeds)


def unnamed(text: bytes) -> bytes:
    """The model whose inputs tell nothing of their extents but that there are so many."""
    found = onnx.load_from_string(text)
    for extent in (d for x in found.graph.input for d in x.type.tensor_type.shape.dim):
        extent.Clear()
    stripped: bytes = found.SerializeToString()
    return stripped


def quanta(*shape: int) -> Any:
    return rng.integers(0, 255, shape).astype(np.uint8)


def quantised(length: int, heads: int, size: int) -> dict[str, Any]:
    width = heads * size
    feeds = {"input": quanta(1, length, width), "weights": quanta(width, 3 * width)}
    feeds |= {"bias": normal(3 * width)}
    scales = {name: np.array(0.02, np.float32) for name in ("scale", "weight_scale")}
    return feeds | scales | {name: np.array(120, np.uint8) for name in ("zero", "weight_zero")}


def projected(length: int, heads: int, size: int) -> dict[str, Any]:
    width = heads * size
    return {
        "input": normal(2, length, width), "weights": normal(width, 3 * width) / 8,
        "bias": normal(3 * width),
    }  # fmt: skip


def apart(length: int, heads: int, size: int) -> dict[str, Any]:
    feeds = {"query": normal(2, length, heads * size)}
    return feeds | {name: normal(2, length + 3, heads * size) for name in ("key", "value")}


QUANTISED = ["input", "weights", "bias", "scale", "weight_scale", "mask", "zero", "weight_zero"]
UNNAMED = [
    ("Attention", projected, ["input", "weights", "bias"]),
    ("MultiHeadAttention", apart, MULTI),
    ("QAttention", quantised, QUANTISED),
]


@pytest.mark.parametrize(("op", "draw", "order"), UNNAMED, ids=lambda x: str(x)[:20])
def test_extents_that_no_name_tells_to_be_equal_have_machine_code(
    op: str, draw: Any, order: list[str]
) -> None:
    heads = 4
    text = unnamed(model(op, draw(3, heads, 8), order, 1, {"num_heads": heads}))
    peer = onnxruntime.InferenceSession(text, providers=["CPUExecutionProvider"])
    session = fornix.InferenceSession(text)
    assert all(place.kernels for place in session.placement()), session.placement()
    for length, size in [(3, 8), (5, 16), (1, 24), (3, 8)]:
        feeds = draw(length, heads, size)
        for _ in range(2):
            for found, wanted in zip(session.run(None, feeds), peer.run(None, feeds), strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_values_that_are_fewer_than_keys_are_refused_whatever_their_names() -> None:
    feeds = apart(3, H, D)
    session = fornix.InferenceSession(
        unnamed(model("MultiHeadAttention", feeds, MULTI, 1, {"num_heads": H}))
    )
    session.run(None, feeds)
    feeds["value"] = normal(2, 4, H * D)
    with pytest.raises(FornixError, match="must fit"):
        session.run(None, feeds)


@pytest.mark.parametrize("named", ["key", "value"])
def test_widths_that_heads_do_not_divide_are_refused_where_they_are_open(named: str) -> None:
    feeds = apart(3, H, D)
    text = unnamed(model("MultiHeadAttention", feeds, MULTI, 1, {"num_heads": H}))
    session = fornix.InferenceSession(text)
    session.run(None, feeds)
    size = H * D + 2
    feeds[named] = normal(2, 6, size)
    if named == "key":
        feeds["query"] = normal(2, 3, size)
    for _ in range(2):
        with pytest.raises(FornixError, match=r"4 heads · size\] is required, found \[2, \d, 66\]"):
            session.run(None, feeds)


def test_groups_of_heads_of_any_size_have_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = {"query": "h", "key": "k", "value": "k", "past_key": "d", "past_value": "d"}
    for name, width in widths.items():
        monkeypatch.setitem(CACHED, name, [*CACHED[name][:-1], width])
    for size in (16, 8):
        agree("GroupQueryAttention", group(3, 2, 6, size), GROUP[:7], GROUPS, outputs=3)


GROUPS = {"num_heads": H, "kv_num_heads": 2}


def compiled(text: str, every: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs give what kernels do, the same bits on any number of threads, without these."""
    kernels = ReferenceEvaluator(parser.parse_model(HEAD + text))
    wanted = [x for feeds in every for x in kernels.run(None, feeds)]
    bits = []
    with monkeypatch.context() as patch:
        patch.setattr(Plan, "evaluate", None)
        for threads in (1, 2):
            options = fornix.SessionOptions()
            options.intra_op_num_threads = threads
            session = fornix.InferenceSession(parser.parse_model(HEAD + text), options)
            found = [session.run(None, feeds) for feeds in every]
            results = [x for given in found for x in given]
            for one, other in zip(results, wanted, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
            bits.append([x.tobytes() for x in results])
    assert bits[0] == bits[1]


HEAD = f'<ir_version: 10, opset_import: ["" : 21, "{DOMAIN}" : 1]>\n'
SELF = f"""f (float[B, S, 8] x, float[8, 24] w, int32[M] m) => (float[B, S, 8] y) {{
    y = {DOMAIN}.Attention <num_heads = 2> (x, w, , m) }}"""
BIASED = f"""f (float[B, S, 32] q, float[B, S, 16] k, float[B, 1, P, 16] p, int32[B] l, int32 t,
    float[C, G, R, T] a) => (float[B, S, 32] y, float[B, 1, U, 16] u, float[B, 1, V, 16] v) {{
    y, u, v = {DOMAIN}.GroupQueryAttention <num_heads = 2, kv_num_heads = 1>
        (q, k, k, p, p, l, t, , , , a) }}"""


@pytest.mark.slow
def test_a_mask_tells_where_keys_end_or_begin_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    w, every = normal(8, 24), list[dict[str, Any]]()
    for batch, length in ((2, 3), (3, 5)):
        ends = rng.integers(1, length + 1, batch)
        sums = np.tile(np.cumsum([0, *ends]), 2)
        masks = [ends, *(np.concatenate([ends, x]) for x in (np.minimum(ends - 1, 1), sums))]
        every += [
            {"x": normal(batch, length, 8), "w": w, "m": mask.astype(np.int32)} for mask in masks
        ]
    compiled(SELF, every, monkeypatch)
    session = fornix.InferenceSession(parser.parse_model(HEAD + SELF))
    for _ in range(2):
        with pytest.raises(FornixError, match=r"must have 2, 4 or 8 elements, found 3"):
            session.run(None, {"x": normal(2, 3, 8), "w": w, "m": np.ones(3, np.int32)})


def biased(past: int, length: int, shape: tuple[int, int, int, int]) -> dict[str, Any]:
    total = past + length
    given = {"q": normal(2, length, 32), "k": normal(2, length, 16), "a": normal(*shape)}
    counts = {"l": np.full(2, total - 1, np.int32), "t": np.array(total, np.int32)}
    return given | counts | {"p": normal(2, 1, past, 16)}


@pytest.mark.slow
@pytest.mark.parametrize("heads", [1, 2])
def test_a_bias_is_for_as_many_keys_as_a_run_tells(
    heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [biased(p, s, (2, heads, s, p + s)) for p, s in ((4, 2), (5, 3))]
    compiled(BIASED, every, monkeypatch)


@pytest.mark.slow
def test_a_bias_for_other_keys_is_refused() -> None:
    session = fornix.InferenceSession(parser.parse_model(HEAD + BIASED))
    for keys in (5, 7):
        with pytest.raises(FornixError, match=r"attention_bias must broadcast to \[2, 2, 2, 6\]"):
            session.run(None, biased(4, 2, (2, 2, 2, keys)))


@pytest.mark.parametrize("shape", [(1, 2, 2, 4), (2, 2, 1, 4), (1, 2, 1, 5)])
def test_a_bias_for_more_than_there_is_is_refused(shape: tuple[int, ...]) -> None:
    text = f"""{HEAD} f (float[B, S, 8] q, float[B, T, 8] k, float[C, G, R, U] a)
        => (float[D, E, 8] y) {{
        y = {DOMAIN}.MultiHeadAttention <num_heads = 2> (q, k, k, , , a) }}"""
    feeds = {"q": normal(1, 1, 8), "k": normal(1, 4, 8), "a": normal(*shape)}
    told = []
    for engine in (ReferenceEvaluator, fornix.InferenceSession):
        with pytest.raises(FornixError, match="attention_bias must broadcast to") as raised:
            engine(parser.parse_model(text)).run(None, feeds)
        told.append(str(raised.value))
    assert told[0] == told[1]
