"""One hostile file for each rule of security, through the front doors: load, check, run, save.

The rooms' own tests look at every rule in depth; these see that no way in goes around it. That
nothing is sent over a network is watched during all tests, by `conftest`; the cache of objects
(rule 12) has its tests beside it.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import fornix
import fornix.onnx
from fornix.check import check_model
from fornix.errors import FornixError, LimitError
from fornix.format.limits import Limits
from fornix.ir.load import from_message
from fornix.onnx import load_model
from fornix.passes.inline import inline_functions
from tests.cli.command import call

HEADER = '<ir_version: 10, opset_import: ["": 21, "f": 1]>'
DEADLINE = 5.0
"""Seconds within which a hostile file has to be refused."""

Source = Callable[[TensorProto], onnx.ModelProto]


def model_of(text: str, opset: int = 21) -> onnx.ModelProto:
    return parser.parse_model(f"{HEADER.replace('21', str(opset))} {text}")


def outside(folder: Path, **entries: str) -> TensorProto:
    """A tensor of four floats that lies where ``entries`` say."""
    (folder / "secret").write_bytes(bytes(16))
    (folder / "model").mkdir(exist_ok=True)
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=1)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def as_initializer(tensor: TensorProto) -> onnx.ModelProto:
    model = model_of("g (float[4] x) => (float[4] y) { y = Add(x, w) }")
    model.graph.initializer.append(tensor)
    return model


def as_attribute(tensor: TensorProto) -> onnx.ModelProto:
    model = model_of("g (float[4] x) => (float[4] y) { w = Constant() y = Add(x, w) }")
    model.graph.node[0].attribute.append(helper.make_attribute("value", tensor))
    return model


def in_a_branch(tensor: TensorProto) -> onnx.ModelProto:
    model = model_of("""g (float[4] x, bool c) => (float[4] y) {
        y = If(c) <then_branch = t () => (a) { a = Neg(x) }, else_branch = e () => (b) {
            w = Constant() b = Add(x, w) }> }""")
    graph = next(a.g for a in model.graph.node[0].attribute if a.name == "else_branch")
    graph.node[0].attribute.append(helper.make_attribute("value", tensor))
    return model


def in_a_function(tensor: TensorProto) -> onnx.ModelProto:
    model = model_of("""g (float[4] x) => (float[4] y) { y = f.F(x) }
        <domain: "f", opset_import: ["": 21]> F (a) => (b) { w = Constant() b = Add(a, w) }""")
    model.functions[0].node[0].attribute.append(helper.make_attribute("value", tensor))
    return model


def as_sparse_values(tensor: TensorProto) -> onnx.ModelProto:
    model = model_of("g (float[4] x) => (float[4] y) { y = Add(x, w) }")
    stored = model.graph.sparse_initializer.add(dims=[4])
    stored.values.CopyFrom(tensor)
    stored.indices.CopyFrom(numpy_helper.from_array(np.arange(4)))
    return model


SOURCES: list[Source] = [as_initializer, as_attribute, in_a_branch, in_a_function, as_sparse_values]
FEEDS = {"x": np.ones(4, "f"), "c": np.array(False)}


def opened(path: Path) -> None:
    """Everything that a user may do with a model."""
    errors = [x for x in check_model(fornix.load(path)) if x.severity == "error"]
    assert errors
    model = fornix.load(path)
    feeds = {value.name: FEEDS[value.name] for value in model.graph.inputs}
    for run in (
        lambda: fornix.ReferenceEvaluator(path).run(None, feeds),
        lambda: fornix.InferenceSession(path).run(None, feeds),
        lambda: fornix.save(model, path.with_name("copy.onnx")),
        lambda: load_model(path),
    ):
        with pytest.raises(FornixError):
            run()


@pytest.fixture(autouse=True)
def in_time() -> Any:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < DEADLINE


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "link", "a/../../secret"])
def test_rule_1_external_data_stays_in_the_folder(
    tmp_path: Path, source: Source, location: str
) -> None:

    model = source(outside(tmp_path, location=location))
    path = tmp_path / "model" / "m.onnx"
    if hasattr(os, "symlink"):
        (tmp_path / "model" / "link").symlink_to(tmp_path / "secret")
    path.write_bytes(model.SerializeToString())
    opened(path)


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "w", "offset": "-4"},
        {"location": "w", "offset": "8"},
        {"location": "w", "length": "12"},
        {"location": "w", "length": "16", "offset": str(2**63)},
        {"location": "w", "checksum": "0" * 40},
        {"location": "w", "executable": "yes"},
    ],
    ids=str,
)
def test_rule_2_references_fit_their_file(tmp_path: Path, entries: dict[str, str]) -> None:

    model = as_initializer(outside(tmp_path, **entries))
    (tmp_path / "model" / "w").write_bytes(bytes(16))
    path = tmp_path / "model" / "m.onnx"
    path.write_bytes(model.SerializeToString())
    opened(path)


@pytest.mark.parametrize("dtype", range(1, 29))
@pytest.mark.parametrize("dims", [[2**62, 2**62], [-1], [3, 5], [1] * 65])
def test_rule_3_payloads_fit_dims_and_dtype(dtype: int, dims: list[int]) -> None:
    model = model_of("g (float[4] x) => (float[4] y) { y = Neg(x) }")
    model.graph.initializer.add(name="w", data_type=dtype, dims=dims, raw_data=b"\1")
    try:
        found = check_model(from_message(model))
    except LimitError:
        return
    assert any("initializer 'w'" in x.subject and x.severity == "error" for x in found)


def nested(depth: int) -> onnx.ModelProto:
    """An If in an If in an If; protobuf itself reads some 30 of them at most."""
    graph = helper.make_graph([], "g", [], [helper.make_tensor_value_info("c", 9, [])])
    for _ in range(depth):
        branches = {"then_branch": graph, "else_branch": graph}
        node = helper.make_node("If", ["c"], ["d"], **branches)
        graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("d", 9, [])])
    return helper.make_model(graph)


def test_rule_4_nesting_is_bounded() -> None:
    with pytest.raises(LimitError, match="nesting is limited to 3"):
        from_message(nested(5), limits=Limits(nesting=3))


def test_rule_4_functions_that_multiply_are_bounded() -> None:
    calls = "".join(
        f'<domain: "f", opset_import: ["": 21, "f": 1]> F{i} (a) => (b) {{'
        f" c = f.F{i + 1}(a) d = f.F{i + 1}(c) e = f.F{i + 1}(d) b = f.F{i + 1}(e) }}"
        for i in range(30)
    )
    last = '<domain: "f", opset_import: ["": 21]> F30 (a) => (b) { b = Neg(a) }'
    model = from_message(
        model_of(f"g (float[1] x) => (float[1] y) {{ y = f.F0(x) }} {calls}{last}")
    )
    with pytest.raises(LimitError, match="function_nodes is limited"):
        inline_functions(model, limits=Limits(function_nodes=1_000))
    assert any("function_nodes" in str(x) for x in check_model(model))


def test_rule_4_cycles_through_control_flow_are_named() -> None:
    model = from_message(
        model_of("""g (float[1] x, bool c) => (float[1] y) { y = f.A(x, c) }
        <domain: "f", opset_import: ["": 21, "f": 1]> A (a, c) => (b) {
            b = If(c) <then_branch = t () => (d) { d = f.B(a, c) },
                       else_branch = e () => (h) { h = Neg(a) }> }
        <domain: "f", opset_import: ["": 21, "f": 1]> B (a, c) => (b) { b = f.A(a, c) }""")
    )
    assert any("A → B → A" in str(x) or "B → A → B" in str(x) for x in check_model(model))
    with pytest.raises(FornixError):
        inline_functions(model)


def test_rule_4_folding_stays_small() -> None:
    text = """g (float[1] x) => (float[1] y) {
        n = Constant <value = int64[3] {100000, 100000, 100}>() big = ConstantOfShape(n)
        s = ReduceSum <keepdims = 0>(big) y = Add(x, s) }"""
    optimized = fornix.optimize(from_message(model_of(text)))
    assert any(node.op_type == "ConstantOfShape" for node in optimized.graph.nodes)


def test_rule_4_what_may_take_any_time_is_left_to_runs() -> None:
    text = """g (float[1] x) => (bool[1] y, float[1] z) {
        s = Constant <value = string[1] {"%s"}>()
        y = RegexFullMatch <pattern = "(a+)+b"> (s) z = Neg(x) }"""
    model = model_of(text % ("a" * 32))
    before = time.monotonic()
    fornix.onnx.checker.check_model(model, full_check=True)
    fornix.onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    fornix.optimize(from_message(model))
    fornix.InferenceSession(model)
    assert time.monotonic() - before < 20  # matching takes 2³² steps


INDEXED = [
    ("y = Gather(x, i)", [4]),
    ("y = Gather(x, i)", [-5]),
    ("y = GatherElements(x, i)", [4]),
    ("y = ScatterElements(x, i, u)", [4]),
    ("y = ScatterElements(x, i, u)", [-(2**63)]),
    ("j = Unsqueeze(i, k) y = ScatterND(x, j, u)", [2**62]),
    ("j = Unsqueeze(i, k) y = GatherND(x, j)", [4]),
]


@pytest.mark.parametrize(("nodes", "index"), INDEXED, ids=str)
def test_rule_5_indices_are_checked_before_memory_is_touched(nodes: str, index: list[int]) -> None:
    text = f"g (float[4] x, int64[1] i, float[1] u) => (y) <int64[1] k = {{1}}> {{ {nodes} }}"
    session = fornix.InferenceSession(from_message(model_of(text)))
    feeds = {"x": np.ones(4, "f"), "i": np.array(index), "u": np.ones(1, "f")}
    needed = {value.name: feeds[value.name] for value in session.get_inputs()}
    with pytest.raises(FornixError, match=r"range|index|indices"):
        session.run(None, needed)


STORED = [
    "y = ReverseSequence <batch_axis = 0, time_axis = 1>(x, i)",
    "y = TensorScatter <axis = 1>(x, u, i)",
]


@pytest.mark.parametrize("node", STORED)
@pytest.mark.parametrize("index", [-1, -(10**12), 5, 10**8])
def test_rule_5_an_index_that_the_model_stores_is_checked_too(node: str, index: int) -> None:
    text = f"g (float[1, 4] x, float[1, 2] u) => (y) <int64[1] i = {{{index}}}> {{ {node} }}"
    session = fornix.InferenceSession(from_message(model_of(text, 24)))
    feeds = {"x": np.ones((1, 4), "f"), "u": np.ones((1, 2), "f")}
    with pytest.raises(FornixError, match=r"(sequence_lens|write_indices) must be in"):
        session.run(None, feeds)


COUNTED = [
    "y = TensorScatter <axis = 1>(x, u, i)",
    "p = Unsqueeze(i, o) q = Unsqueeze(x, o) y = RotaryEmbedding <num_heads = 1>(q, c, c, p)",
]


@pytest.mark.parametrize("nodes", COUNTED)
def test_rule_5_an_index_that_the_model_counts_is_checked_too(nodes: str) -> None:
    text = f"""g (float[N, 4] x, float[N, 2] u, float[3, 2] c) => (y)
        <int64[1] o = {{0}}, int64 zero = {{0}}, int64 one = {{1}}>
        {{ s = Shape <end = 1>(x) n = Squeeze(s, o) i = Range(zero, n, one) {nodes} }}"""
    session = fornix.InferenceSession(from_message(model_of(text, 24)))

    def run(rows: int) -> None:
        x, u = np.ones((rows, 4), "f"), np.ones((rows, 2), "f")
        session.run(None, {"x": x, "u": u, "c": np.ones((3, 2), "f")})

    run(3)
    with pytest.raises(FornixError, match=r"(position_ids|write_indices) must be in"):
        run(4)


@pytest.mark.parametrize(
    "feed",
    [
        np.ones((4, 4), "f"),
        np.ones(3, "f"),
        np.ones(4),
        np.ones((), "f"),
        np.array(["a"] * 4, object),
        [1.0, 2.0],
    ],
    ids=str,
)
def test_rule_6_feeds_are_what_the_model_declares(feed: Any) -> None:
    model = from_message(model_of("g (float[4] x) => (float[4] y) { y = Exp(x) }"))
    session = fornix.InferenceSession(model)
    with pytest.raises(FornixError):
        session.run(None, {"x": feed})


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("trapped",)


def test_rule_7_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trap = np.empty(1, object)
    trap[0] = Trap()
    np.save("x.npy", trap, allow_pickle=True)
    np.savez("x.npz", x=trap)
    Path("m.pkl").write_bytes(pickle.dumps(Trap()))
    model = model_of("g (float[1] x) => (float[1] y) { y = Neg(x) }")
    Path("m.onnx").write_bytes(model.SerializeToString())
    for arguments in (["m.onnx", "-i", "x.npy"], ["m.onnx", "-i", "x.npz"], ["m.pkl"]):
        assert call("run", *arguments).code in {1, 2}
    assert not Path("trapped").exists()


def test_rule_11_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    model = from_message(model_of("g (float[4] x) => (float[4] y) { y = Exp(x) }"))
    fornix.save(model, path)
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    model.doc_string = "new"
    with pytest.raises(OSError, match="the disk is full"):
        fornix.save(model, path)
    assert path.read_bytes() == before
    assert [x.name for x in tmp_path.iterdir()] == ["m.onnx"]
