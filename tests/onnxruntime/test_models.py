"""Models that sessions take and refuse, beside onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as peer
import pytest
from onnx import numpy_helper, parser

import fornix
from fornix import onnxruntime as ort
from fornix.errors import (
    FornixError,
    InvalidUse,
)
from fornix.onnxruntime.capi import onnxruntime_pybind11_state as state
from tests.onnxruntime.both import BOTH, CHAIN, X, data, outcome, require_same_kind, session, small

MODELS: dict[str, Callable[[], Any]] = {
    "garbage": lambda: b"garbage",
    "no file": lambda: "no/such.onnx",
    "operator": lambda: data(CHAIN.replace("Relu", "Rellu")),
    "domain": lambda: data(
        CHAIN.replace("Relu", "my.Relu").replace('"" : 18', '"" : 18, "my" : 1')
    ),
    "opset": lambda: data(CHAIN.replace(": 18", ": 99")),
    "IR": lambda: data(CHAIN.replace("ir_version: 8", "ir_version: 99")),
    "attribute": lambda: data(CHAIN.replace("Relu (s)", "Relu <q = 1> (s)")),
    "number": lambda: 3,
    "nothing": lambda: None,
    "types": lambda: data(CHAIN.replace("float[3] w = {1, 2, 3}", "int64[3] w = {1, 2, 3}")),
    "shapes": lambda: data(CHAIN.replace("float[3] w = {1, 2, 3}", "float[2] w = {1, 2}")),
    "undefined": lambda: data(CHAIN.replace("Relu (s)", "Relu (k)")),
    "twice": lambda: data(CHAIN.replace("y = Relu (s)", "s = Relu (h) y = Relu (s)")),
    "output": lambda: data(CHAIN.replace("y = Relu (s)", "k = Relu (s)")),
    "output of another type": lambda: small("(float[2] x) => (int64[2] y) { y = Relu (x) }"),
    "output of another kind": lambda: small("(float[2] x) => (seq(float[2]) y) { y = Relu (x) }"),
    "circle": lambda: small(
        "(float[2] x) => (float[2] y) { y = Relu (x) a = Neg (b) b = Neg (a) }"
    ),
    "output of a branch": lambda: small(BRANCH),
}
BRANCH = """(float[2] x, bool c) => (float[2] y) { y = If <
    then_branch = t () => (float[2] a) { b = Relu (x) },
    else_branch = e () => (float[2] a) { a = Relu (x) }> (c) }"""


@pytest.mark.parametrize("what", MODELS)
def test_wrong_models_raise_what_they_raise_in_onnxruntime(what: str) -> None:
    wanted, found = (outcome(lambda p=p: p.InferenceSession(MODELS[what]())) for p in BOTH)  # type: ignore[misc]
    require_same_kind(found, wanted)


def test_wrong_outputs_and_circles_are_told_as_they_are() -> None:
    told = {
        "output": "output 'y' must be computed, found no value",
        "output of another type": "output 'y' is float32[2], but the model declares it as int64[2]",
        "circle": "a node cannot need its own result, found the cycle",
        "output of a branch": "then_branch: output 'a' must be computed, found no value",
    }
    for what, message in told.items():
        with pytest.raises(FornixError) as caught:
            fornix.InferenceSession(MODELS[what]())
        assert message in str(caught.value)


def test_words_that_programs_look_for_are_in_messages() -> None:
    told = {
        "Unrecognized attribute: axes for operator Softmax": "(float[2] x) => (y) "
        "{y = Softmax <axes=0> (x)}",
        "Unrecognized attribute: q for operator Relu": "(float[2] x) => (y) {y = Relu <q=1> (x)}",
        "Type Error: Type 'tensor(complex64)' of input": "(complex64[2] x) => (y) {y = Add (x, x)}",
    }
    for words, text in told.items():
        for package in BOTH:
            with pytest.raises(Exception, match=r"INVALID|FAIL") as caught:
                package.InferenceSession(small(text))
            assert words in str(caught.value)


def test_external_data_of_a_model_in_memory_lie_in_a_folder_of_an_entry(tmp_path: Path) -> None:
    message = parser.parse_model(CHAIN)
    for stored in message.graph.initializer:
        stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored), stored.name))
    onnx.save(message, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    content = (tmp_path / "m.onnx").read_bytes()
    with pytest.raises(state.Fail):
        ort.InferenceSession(content)
    results = []
    for package in BOTH:
        options = package.SessionOptions()
        entry = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(entry, str(tmp_path))
        made = package.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        results.append(made.run(None, {"x": X})[0])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)


def test_optimized_models_are_not_written_in_the_ort_format(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    with pytest.raises(
        InvalidUse, match=r"ORT format is not written, found .*m\.ort'; name a file"
    ):
        session(options=options)
    options.optimized_model_filepath = str(tmp_path / "m.onnx")
    options.add_session_config_entry("session.save_model_format", "ORT")
    with pytest.raises(InvalidUse, match="ORT format is not written"):
        session(options=options)


def test_keys_of_maps_are_those_that_are_declared() -> None:
    node = onnx.helper.make_node(
        "DictVectorizer", ["m"], ["y"], domain="ai.onnx.ml", string_vocabulary=["a", "b"]
    )
    scalar = onnx.helper.make_tensor_type_proto(1, [])
    given = onnx.helper.make_value_info("m", onnx.helper.make_map_type_proto(8, scalar))
    graph = onnx.helper.make_graph([node], "g", [given], [onnx.ValueInfoProto(name="y")])
    imports = [onnx.helper.make_opsetid("ai.onnx.ml", 3), onnx.helper.make_opsetid("", 18)]
    made = onnx.helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    sessions = [p.InferenceSession(made, providers=["CPUExecutionProvider"]) for p in BOTH]
    right: dict[Any, Any] = {"b": 2.0, "a": np.array(1, np.float32)}
    wanted, found = (s.run(None, {"m": right})[0] for s in sessions)
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(peer.capi.onnxruntime_pybind11_state.InvalidArgument):
        sessions[0].run(None, {"m": {3: 1.0}})
    with pytest.raises(
        state.InvalidArgument, match=r"has the key 3 of type int\. Unexpected key type "
    ):
        sessions[1].run(None, {"m": {3: 1.0}})
    with pytest.raises(InvalidUse, match=r"but the feed has 'b' for 'a'$"):
        sessions[1].run(None, {"m": {"a": "b"}})


@pytest.mark.parametrize("version", [1, 2])
def test_models_from_before_opset_imports_mean_the_first_operators(version: int) -> None:
    message = parser.parse_model(
        f"""<ir_version: {version}, opset_import: ["" : 1]>
        g (float[2, 3] x, float[3] w) => (float[2, 3] y) {{ y = Add <broadcast = 1> (x, w) }}"""
    )
    del message.opset_import[:]
    feeds = {"x": X[:2, :3], "w": np.array([1, 2, 3], np.float32)}
    for made in (ort.InferenceSession(message), fornix.ReferenceEvaluator(message)):
        np.testing.assert_array_equal(made.run(None, feeds)[0], feeds["x"] + feeds["w"])


def test_a_sparse_output_may_be_computed_as_a_dense_one() -> None:
    values = onnx.helper.make_tensor("v", onnx.TensorProto.FLOAT, [1], [3.0])
    places = onnx.helper.make_tensor("i", onnx.TensorProto.INT64, [1], [1])
    stored = onnx.helper.make_sparse_tensor(values, places, [2])
    node = onnx.helper.make_node("Constant", [], ["y"], sparse_value=stored)
    output = onnx.helper.make_sparse_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])
    graph = onnx.helper.make_graph([node], "g", [], [output])
    imports = [onnx.helper.make_opsetid("", 18)]
    made = onnx.helper.make_model(graph, opset_imports=imports, ir_version=8)
    ort.InferenceSession(made)


LONG_COUNTER = """(int64 n, float[N] x) => (float[1] y, counts, float[K, 1] z) {
    go = Constant <value = bool {1}> () zero = Constant <value = float[1] {0}> ()
    y, counts, z = Loop <body = b (int64[1] i, bool on, float[1] s) => (bool stays, t, c, g) {
        stays = Identity (on) g = Gather (x, i) t = Add (s, g) c = Identity (i)
    }> (n, go, zero) }"""


def test_a_loop_may_count_in_a_tensor_of_one_element_as_in_onnxruntime() -> None:
    made, wanted = (p.InferenceSession(small(LONG_COUNTER)) for p in (ort, peer))
    evaluator = fornix.ReferenceEvaluator(small(LONG_COUNTER))
    for n in (3, 1, 3, 4):
        feeds = {"n": np.array(n), "x": np.arange(5, dtype=np.float32)}
        for runs in (made, evaluator):
            for found, other in zip(runs.run(None, feeds), wanted.run(None, feeds), strict=True):
                np.testing.assert_array_equal(found, other)
                assert found.shape == other.shape


CARRIED = """(int64 n) => (y, z) {
    go = Constant <value = bool {1}> () start = Constant <value_float = -1.0> ()
    y, z = Loop <body = b (int64[1] i, bool on, float[1] s) => (bool stays, t, c) {
        stays = Identity (on) one = Constant <value_float = 1.0> ()
        t = Add (s, one) c = Identity (s)
    }> (n, go, start) }"""


def test_carried_values_have_the_shape_that_they_begin_with_as_in_onnxruntime() -> None:
    made, wanted = (p.InferenceSession(small(CARRIED)) for p in (ort, peer))
    for n in (3, 2, 3, 5):
        for found, other in zip(
            made.run(None, {"n": np.array(n)}), wanted.run(None, {"n": np.array(n)}), strict=True
        ):
            np.testing.assert_array_equal(found, other)
            assert found.shape == other.shape


UNSORTED = """(float[2] x, bool c) => (y, z, w) {
    y = Relu (a) a = Neg (k) k = Mul (x, two) two = Constant <value = float[1] {2}> ()
    z = If <then_branch = t () => (r) {
                r = Relu (h) h = Sub (x, one) one = Constant <value_float = 1.0> () },
            else_branch = e () => (r) { r = Identity (x) }> (c)
    w = RandomUniformLike (y) }"""


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "ReferenceExecutionProvider"])
def test_nodes_may_stand_in_any_order(provider: str) -> None:
    made = ort.InferenceSession(small(UNSORTED), providers=[provider])
    feeds = {"x": np.array([1, -2], np.float32), "c": np.array(True)}
    for _ in range(3):
        y, z, k = made.run(["y", "z", "k"], feeds)
        np.testing.assert_array_equal(y, [0, 4])
        np.testing.assert_array_equal(z, [0, 0])
        np.testing.assert_array_equal(k, [2, -4])
        np.testing.assert_array_equal(made.run(["y", "z", "w"], feeds)[0], y)
    assert [node.op_type for node in made.trace(feeds)][-1] == "RandomUniformLike"
    plain = small("(float[2] x) => (float[2] y) { y = Relu (a) a = Neg (x) }")
    both = [p.InferenceSession(plain).run(None, {"x": feeds["x"]})[0] for p in BOTH]
    np.testing.assert_array_equal(both[1], both[0])


STORED = """(float[N] x) => (y) {
    scale = Constant <value = float {0.5}> () none = Constant <value_float = 0.0> ()
    zero = Cast <to = 17> (none) t = QuantizeLinear <saturate = 0> (x, scale, zero)
    y = DequantizeLinear (t, scale) }"""


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
def test_kernels_read_what_constant_nodes_give_at_every_level(level: str) -> None:
    x = np.linspace(-200, 200, 12, dtype=np.float32)
    results = []
    for package in BOTH:
        options = package.SessionOptions()
        options.graph_optimization_level = getattr(package.GraphOptimizationLevel, level)
        model = data(f'<ir_version: 9, opset_import: ["" : 19]> g {STORED}')
        made = package.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        results.append([made.run(None, {"x": x})[0] for _ in range(2)])
    np.testing.assert_array_equal(results[1], results[0])


OPTIONAL = """(optional(float[N]) x) => (bool has, optional(float[N]) y) {
    has = OptionalHasElement (x) y = Identity (x) }"""


def test_optional_inputs_need_not_be_fed() -> None:
    made, wanted = (p.InferenceSession(small(OPTIONAL)) for p in (ort, peer))
    assert made.get_inputs()[0].shape == wanted.get_inputs()[0].shape == ["N"]
    for feeds in ({}, {"x": None}):
        assert [bool(made.run(None, feeds)[0]), made.run(None, feeds)[1]] == [False, None]
        assert [bool(wanted.run(None, feeds)[0]), wanted.run(None, feeds)[1]] == [False, None]
    x = X[0]
    np.testing.assert_array_equal(made.run(None, {"x": x})[1], wanted.run(None, {"x": x})[1])


def test_an_input_without_axes_takes_any_shape_as_in_onnxruntime() -> None:
    body = """(float a, float[N] b) => (y) { s = Mul (a, b)  y = Relu (s) }"""
    made, wanted = (p.InferenceSession(small(body)) for p in (ort, peer))
    b = np.array([-1, 2, 3], np.float32)
    for _ in range(3):
        for a in (np.array(2, np.float32), b, np.ones((2, 1), np.float32)):
            feeds = {"a": a, "b": b}
            np.testing.assert_array_equal(made.run(None, feeds)[0], wanted.run(None, feeds)[0])
    with pytest.raises(state.InvalidArgument, match=r"input 'b' of the model is float32\[N\]"):
        made.run(None, {"a": b, "b": np.array(1, np.float32)})
