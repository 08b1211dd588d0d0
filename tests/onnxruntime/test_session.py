"""Sessions by onnxruntime's names, beside onnxruntime's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as peer
import pytest
from onnx import parser

import fornix
from fornix import onnxruntime as ort
from fornix.errors import (
    DTypeError,
    FornixWarning,
    InvalidUse,
    NotSupported,
    ShapeError,
)
from fornix.onnxruntime.capi import onnxruntime_pybind11_state as state
from tests.onnxruntime.both import BOTH, CHAIN, X, data, outcome, require_same_kind, session


def both(call: Callable[[Any], Any]) -> None:
    """Both packages answer the same."""
    assert call(ort) == call(peer)


def test_a_session_describes_itself_as_onnxruntimes_does() -> None:
    def told(package: Any) -> object:
        made = session(package)
        meta = made.get_modelmeta()
        args = [*made.get_inputs(), *made.get_outputs(), *made.get_overridable_initializers()]
        return (
            [(arg.name, arg.type, arg.shape, str(arg)) for arg in args],
            (meta.producer_name, meta.graph_name, meta.version, meta.custom_metadata_map),
            made.get_providers(),
            made.get_provider_options(),
            [info.name for info in made.get_input_memory_infos()],
            len(made.get_output_memory_infos()),
            made.get_tuning_results(),
            (made.end_profiling(), made.get_profiling_start_time_ns()),
        )

    both(told)


def test_a_model_without_a_version_has_the_one_that_onnxruntime_tells() -> None:
    both(lambda package: session(package, CHAIN.replace(", model_version: 3", ""))
         .get_modelmeta().version)  # fmt: skip


FEEDS: dict[str, Callable[[Any], Any]] = {
    "array": lambda _: X,
    "list": lambda _: X.tolist(),
    "integers": lambda _: [[1, 2, 3]],
    "columns": lambda _: np.asfortranarray(X),
    "value": lambda package: package.OrtValue.ortvalue_from_numpy(X),
    "bytes swapped": lambda _: X.astype(">f4").astype("<f4"),
}


@pytest.mark.parametrize("names", [None, [], ["y"], ("y",), ["y", "y"]])
@pytest.mark.parametrize("feed", FEEDS)
def test_runs_take_and_give_what_onnxruntimes_do(feed: str, names: Any) -> None:
    found, wanted = (session(p).run(names, {"x": FEEDS[feed](p)}) for p in (ort, peer))
    assert isinstance(found, list)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


WRONG: dict[str, Callable[[Any], object]] = {
    "missing": lambda made: made.run(None, {}),
    "unknown": lambda made: made.run(None, {"x": X, "z": X}),
    "dtype": lambda made: made.run(None, {"x": X.astype(np.float64)}),
    "rank": lambda made: made.run(None, {"x": X[0]}),
    "extent": lambda made: made.run(None, {"x": X[:, :2]}),
    "fetch": lambda made: made.run(["q"], {"x": X}),
    "end": lambda made: made.run(None, {"x": X}, ended(made)),
}
KERNELS = {
    "gather": ("float[N] x, int64[M] i", "Gather (x, i)", {"i": np.array([7])}),
    "matmul": ("float[N] x, float[M] i", "MatMul (x, i)", {"i": X[0, :2]}),
    "add": ("float[N] x, float[M] i", "Add (x, i)", {"i": X[0, :2]}),
    "reshape": ("float[N] x, int64[M] i", "Reshape (x, i)", {"i": np.array([7])}),
    "unsqueeze": ("float[N] x, int64[M] i", "Unsqueeze (x, i)", {"i": np.array([7])}),
    "concat": ("float[N] x, float[A, B] i", "Concat <axis = 0> (x, i)", {"i": X}),
}


def ended(made: Any) -> Any:
    options = (ort if isinstance(made, fornix.InferenceSession) else peer).RunOptions()
    options.terminate = True
    return options


@pytest.mark.parametrize("what", WRONG)
def test_wrong_runs_raise_what_they_raise_in_onnxruntime(what: str) -> None:
    found, wanted = (outcome(lambda p=p: WRONG[what](session(p))) for p in BOTH[::-1])  # type: ignore[misc]
    require_same_kind(found, wanted)


@pytest.mark.parametrize("what", KERNELS)
def test_nodes_that_fail_raise_what_they_raise_in_onnxruntime(what: str) -> None:
    inputs, node, feeds = KERNELS[what]
    text = f'<ir_version: 8, opset_import: ["" : 18]> f ({inputs}) => (y) {{ y = {node} }}'
    x = X[0]
    runs = [outcome(lambda p=p: session(p, text).run(None, {"x": x, **feeds})) for p in BOTH]  # type: ignore[misc]
    require_same_kind(runs[1], runs[0])
    assert "node for 'y'" in str(runs[1])


def test_errors_are_fornix_errors_too_and_begin_with_the_status() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N] x, float[M] z) => (y) { y = Add (x, z) }"""
    with pytest.raises(ShapeError, match=r"^\[ONNXRuntimeError\] : 1 : FAIL : node for 'y' \(Add"):
        session(text=text).run(None, {"x": X[0], "z": X[0, :2]})
    with pytest.raises(state.InvalidProtobuf, match="7 : INVALID_PROTOBUF"):
        ort.InferenceSession(b"garbage")
    with pytest.raises(DTypeError, match="1 : FAIL"):
        ort.InferenceSession(
            data(CHAIN.replace("float[3] w = {1, 2, 3}", "int64[3] w = {1, 2, 3}"))
        )
    with pytest.raises(
        state.InvalidArgument, match="2 : INVALID_ARGUMENT : the model: every input"
    ):
        session().run(None, {})


def test_providers_that_are_not_there_are_an_error_unless_another_one_is() -> None:
    with pytest.raises(state.InvalidArgument, match="found CUDAExecutionProvider"):
        ort.InferenceSession(data(), providers=["CUDAExecutionProvider"])
    with pytest.warns(FornixWarning, match="found CUDAExecutionProvider; running on CPU"):
        made = ort.InferenceSession(
            data(), providers=["CUDAExecutionProvider", "CPUExecutionProvider"]
        )
    assert made.get_providers() == ["CPUExecutionProvider"]
    providers: Any
    for providers in ([], "CPUExecutionProvider"):
        made = ort.InferenceSession(data(), providers=providers)
        assert made.get_providers() == ["CPUExecutionProvider"]


def test_providers_can_be_changed() -> None:
    made = session()
    made.set_providers(["ReferenceExecutionProvider"])
    assert made.get_providers() == ["ReferenceExecutionProvider"]
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], session(peer).run(None, {"x": X})[0])
    with pytest.raises(ValueError, match="found Invalid"):
        made.set_providers(["Invalid"])
    assert made.get_providers() == ["ReferenceExecutionProvider"]


def test_arguments_that_mean_nothing_are_named() -> None:
    with pytest.warns(FornixWarning, match="InferenceSession: colour has no meaning here"):
        ort.InferenceSession(data(), colour="red")


def test_programs_find_what_onnxruntimes_sessions_keep_for_themselves() -> None:
    made, theirs = session(), session(peer)
    for name in ("_inputs_meta", "_outputs_meta", "_overridable_initializers"):
        found, wanted = ([x.name for x in getattr(s, name)] for s in (made, theirs))
        assert found == wanted
    assert made._provider_options == theirs._provider_options
    assert made._profiling_start_time_ns == theirs._profiling_start_time_ns == 0
    assert made._model_meta.graph_name == theirs._model_meta.graph_name
    with pytest.raises(AttributeError, match="'InferenceSession' object has no attribute '_nope'"):
        made._nope  # noqa: B018 - it is asked for


def test_a_session_keeps_the_options_that_it_was_made_with() -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    made = session(options=options)
    options.intra_op_num_threads = 2
    assert made.get_session_options().intra_op_num_threads == 1


DENOTED = onnx.helper.make_model(
    onnx.helper.make_graph(
        [onnx.helper.make_node("Abs", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info(
            "x", 1, ["A", "B", 5], shape_denotation=["DATA_BATCH", "DATA_CHANNEL", ""])],
        [onnx.helper.make_tensor_value_info("y", 1, ["A", "B", 5])],
    ),
    ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 18)],
).SerializeToString()  # fmt: skip


@pytest.mark.parametrize("how", ["name", "denotation"])
def test_free_dimensions_can_be_given(how: str) -> None:
    def shapes(package: Any) -> object:
        options = package.SessionOptions()
        add = getattr(options, f"add_free_dimension_override_by_{how}")
        names = ("A", "B") if how == "name" else ("DATA_BATCH", "DATA_CHANNEL")
        for name, extent in zip(names, (3, 4), strict=True):
            add(name, extent)
        made = package.InferenceSession(DENOTED, options, providers=["CPUExecutionProvider"])
        x = np.ones((3, 4, 5), np.float32)
        assert made.run(None, {"x": x})[0].shape == x.shape
        require = outcome(lambda: made.run(None, {"x": x[:2]}))
        assert type(require).__name__ == "InvalidArgument"
        return [arg.shape for arg in (*made.get_inputs(), *made.get_outputs())]

    both(shapes)
    with pytest.raises(InvalidUse, match="dim 'A' must be 0 or more, found -1"):
        ort.SessionOptions().add_free_dimension_override_by_name("A", -1)


def test_extents_that_contradict_are_refused_as_in_onnxruntime() -> None:
    def made(package: Any, name: str, extent: int, text: str | None = None) -> Any:
        options = package.SessionOptions()
        if text is not None:
            options.add_free_dimension_override_by_name(text, 4)
        options.add_free_dimension_override_by_denotation(name, extent)
        return package.InferenceSession(DENOTED, options, providers=["CPUExecutionProvider"])

    fixed = onnx.load_from_string(DENOTED)
    fixed.graph.input[0].type.tensor_type.shape.dim[2].denotation = "WIDTH"
    for package in BOTH:
        made(package, "DATA_BATCH", 4, "A")
        require = outcome(lambda package=package: made(package, "DATA_BATCH", 6, "A"))  # type: ignore[misc]
        assert type(require).__name__ == "InvalidArgument"
        options = package.SessionOptions()
        options.add_free_dimension_override_by_denotation("WIDTH", 7)
        require = outcome(
            lambda package=package, options=options: package.InferenceSession(  # type: ignore[misc]
                fixed.SerializeToString(), options
            )
        )
        assert type(require).__name__ == "InvalidArgument"
    with pytest.raises(
        state.InvalidArgument, match="axis 0 of input 'x' is 4, but what its denotation "
    ):
        made(ort, "DATA_BATCH", 6, "A")


@pytest.mark.filterwarnings("ignore:SessionOptions. dim:fornix.errors.FornixWarning")
def test_the_first_extent_of_a_name_counts() -> None:
    def shape(package: Any) -> Any:
        options = package.SessionOptions()
        for extent in (3, 5):
            options.add_free_dimension_override_by_name("A", extent)
        return package.InferenceSession(DENOTED, options).get_inputs()[0].shape

    assert shape(ort) == shape(peer) == [3, "B", 5]
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("A", 3)
    with pytest.warns(FornixWarning, match="dim 'A' is 3 already, 5 does nothing"):
        options.add_free_dimension_override_by_name("A", 5)
    for package in BOTH:
        with pytest.raises(TypeError):
            package.SessionOptions().add_free_dimension_override_by_name("A", 2.0)
    with pytest.raises(TypeError, match="dim 'A': an integer is required, found '2'"):
        options.add_free_dimension_override_by_name("A", "2")  # type: ignore[arg-type]


def test_extents_of_results_follow_from_those_of_inputs() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        g (float[N, 3] x, float[M, 3] y) => (float[K, 3] z) { z = Concat <axis = 0> (x, y) }"""

    def shape(package: Any, **extents: int) -> Any:
        options = package.SessionOptions()
        for name, extent in extents.items():
            options.add_free_dimension_override_by_name(name, extent)
        return session(package, text, options).get_outputs()[0].shape

    assert shape(ort, N=2, M=2, K=7) == shape(peer, N=2, M=2, K=7) == [4, 3]
    assert shape(ort, K=7) == shape(peer, K=7) == ["K", 3]


def test_an_optimized_model_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for package in BOTH:
        options = package.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "nowhere" / "m.onnx")
        found = outcome(lambda options=options, package=package: session(package, options=options))  # type: ignore[misc]
        assert type(found).__name__ == "InvalidArgument"
    with pytest.raises(
        state.InvalidArgument, match="optimized_model_filepath must name a file that can"
    ):
        session(ort, options=options)


def test_initializers_can_be_given() -> None:
    def result(package: Any, name: str = "w", count: int = 3) -> Any:
        options = package.SessionOptions()
        value = package.OrtValue.ortvalue_from_numpy(np.full(count, 5, np.float32))
        options.add_initializer(name, value)
        return session(package, options=options).run(None, {"x": X})[0]

    np.testing.assert_array_equal(result(ort), result(peer))
    with pytest.warns(FornixWarning, match="the model has no initializer 'q'"):
        result(ort, "q")
    with pytest.raises(state.InvalidArgument, match=r"'w' is float32\[3\], but what is given is"):
        result(ort, "w", 4)
    options = ort.SessionOptions()
    options.add_initializer("w", ort.OrtValue.ortvalue_from_numpy(X[0]))
    with pytest.raises(RuntimeError, match="'w' must be given once"):
        options.add_initializer("w", ort.OrtValue.ortvalue_from_numpy(X[0]))
    with pytest.raises(RuntimeError, match="'v' must be an OrtValue or an array, found list"):
        options.add_initializer("v", [1])


def external_model() -> bytes:
    model = parser.parse_model(CHAIN)
    (w,) = [t for t in model.graph.initializer if t.name == "w"]
    w.ClearField("float_data")
    w.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "elsewhere.bin"), ("offset", "4"), ("length", "12")):
        w.external_data.add(key=key, value=value)
    made: bytes = model.SerializeToString()
    return made


def test_external_initializers_can_be_given() -> None:
    def run(package: Any) -> Any:
        options = package.SessionOptions()
        value = package.OrtValue.ortvalue_from_numpy(np.array([7, 8, 9], np.float32))
        options.add_external_initializers(["w"], [value])
        return package.InferenceSession(
            external_model(), options, providers=["CPUExecutionProvider"]
        ).run(None, {"x": X})[0]  # fmt: skip

    np.testing.assert_array_equal(run(ort), run(peer))
    with pytest.raises(RuntimeError, match="as many names as external initializers are required"):
        ort.SessionOptions().add_external_initializers(["w"], [])


def test_external_files_can_be_given_in_memory() -> None:
    file = np.array([0, 7, 8, 9, 0], np.float32).tobytes()

    def run(package: Any, length: int = 20) -> Any:
        options = package.SessionOptions()
        options.add_external_initializers_from_files_in_memory(["elsewhere.bin"], [file], [length])
        made = package.InferenceSession(
            external_model(), options, providers=["CPUExecutionProvider"]
        )
        return made.run(None, {"x": X})[0]

    np.testing.assert_array_equal(run(ort), run(peer))
    with pytest.raises(state.Fail, match=r"12 bytes at 4 of 'elsewhere\.bin' are required"):
        run(ort, 8)
    with pytest.raises(RuntimeError, match="must have up to 20 bytes, found a length of 99"):
        run(ort, 99)


def test_libraries_of_native_operators_are_refused_with_a_way_out() -> None:
    with pytest.raises(NotSupported, match=r"found 'custom\.so'; evaluate operators of your own"):
        ort.SessionOptions().register_custom_ops_library("custom.so")
    with pytest.raises(NotSupported, match=r"derive from fornix\.runtime\.Provider"):
        ort.register_execution_provider_library("mine", "provider.so")


def test_loading_can_be_canceled() -> None:
    options = ort.SessionOptions()
    options.set_load_cancellation_flag(True)
    with pytest.raises(state.ModelLoadCanceled, match="loading was canceled"):
        session(options=options)


def test_options_of_providers_that_nobody_reads_are_named() -> None:
    for more in (
        {"providers": [("CPUExecutionProvider", {"colour": "red", "use_arena": "1"})]},
        {"providers": ["CPUExecutionProvider"], "provider_options": [{"colour": "red"}]},
    ):
        with pytest.warns(FornixWarning, match="provider options colour have no meaning here"):
            ort.InferenceSession(data(), **more)
    ort.InferenceSession(data(), providers=[("CPUExecutionProvider", {"use_arena": "1"})])


def test_options_may_name_the_providers() -> None:
    options = ort.SessionOptions()
    assert not options.has_providers()
    options.add_provider("ReferenceExecutionProvider", {})
    assert options.has_providers()
    assert ort.InferenceSession(data(), options).get_providers() == ["ReferenceExecutionProvider"]
    with pytest.raises(RuntimeError, match="found 'NopeExecutionProvider'"):
        options.add_provider("NopeExecutionProvider", {})


def test_callbacks_hear_of_results_and_of_errors() -> None:
    for feed, ends in ((X, ""), (X[:, :2], "found float32")):
        heard: list[Any] = []
        done = threading.Event()

        def note(results: Any, mine: Any, error: str) -> None:
            heard.extend((results, mine, error))  # noqa: B023 - it is over before the next one
            done.set()  # noqa: B023 - likewise

        session().run_async(["y"], {"x": feed}, note, "mine")
        assert done.wait(10)
        results, mine, error = heard
        assert mine == "mine"
        assert bool(error) == bool(ends)
        assert len(results) == (not ends)


def test_a_callback_that_cannot_be_called_is_refused_at_once() -> None:
    for package in BOTH:
        with pytest.raises(TypeError, match=r"callback|incompatible function arguments"):
            session(package).run_async(None, {"x": X}, "text", None)
    with pytest.raises(TypeError, match="callback must be a function of results, user data and"):
        session().run_async(None, {"x": X}, "text", None)


def test_inputs_that_are_missing_are_told_before_a_callback_is_to_be_called() -> None:
    heard: list[Any] = []
    for package in BOTH:
        with pytest.raises(ValueError, match=r"Required inputs \(\['x'\]\) are missing"):
            session(package).run_async(None, {}, lambda *told: heard.append(told), None)
    assert not heard


def test_the_optimized_model_is_saved_for_other_runtimes(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    text = CHAIN.replace("y = Relu (s)", "c = Identity (s) y = Relu (c)")
    wanted = session(text=text, options=options).run(None, {"x": X})[0]
    saved = onnx.load(tmp_path / "optimized.onnx")
    assert "Identity" not in [node.op_type for node in saved.graph.node]
    again = peer.InferenceSession(tmp_path / "optimized.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(again.run(None, {"x": X})[0], wanted, rtol=1e-6)


def test_the_optimized_model_is_saved_with_its_weights_beside_it(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    name = "session.optimized_model_external_initializers_"
    options.add_session_config_entry(name + "file_name", "weights.bin")
    options.add_session_config_entry(name + "min_size_in_bytes", "12")
    wanted = session(options=options).run(None, {"x": X})[0]
    assert (tmp_path / "weights.bin").stat().st_size >= 12
    again = peer.InferenceSession(tmp_path / "optimized.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(again.run(None, {"x": X})[0], wanted, rtol=1e-6)
    options.add_session_config_entry(name + "min_size_in_bytes", "few")
    with pytest.raises(RuntimeError, match="must be a number of bytes, found 'few'"):
        session(options=options)


def test_nodes_of_one_name_are_saved_under_names_of_their_own(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    text = CHAIN.replace('["sum"]', '["product"]').replace('["end"]', '["product"]')
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session(text=text, options=options)
    saved = onnx.load(tmp_path / "optimized.onnx")
    assert [node.name for node in saved.graph.node] == ["product", "product_2", "product_3"]
    peer.InferenceSession(tmp_path / "optimized.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "ReferenceExecutionProvider"])
def test_profiles_are_files_for_chromes_viewer(tmp_path: Path, provider: str) -> None:
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.profile_file_prefix = str(tmp_path / "profile")
    made = ort.InferenceSession(data(), options, providers=[provider])
    assert made.get_profiling_start_time_ns() > 0
    for _ in range(2):
        np.testing.assert_array_equal(
            made.run(None, {"x": X})[0], session(peer).run(None, {"x": X})[0]
        )
    path = Path(made.end_profiling())
    assert path.parent == tmp_path
    assert made.end_profiling() == ""
    events = json.loads(path.read_text(encoding="utf-8"))
    assert {*events[0]} == {"cat", "pid", "tid", "dur", "ts", "ph", "name", "args"}
    assert [event["name"] for event in events].count("model_run") == 2
    nodes = [event for event in events if event["cat"] == "Node"]
    assert {op for event in nodes for op in event["args"]["op_name"].split("+")} == {
        "Mul",
        "Add",
        "Relu",
    }
    runs = [event for event in events if event["name"] == "model_run"]
    assert sum(event["dur"] for event in nodes) <= sum(event["dur"] for event in runs)


def test_the_assignment_of_nodes_is_told_where_it_was_asked_for() -> None:
    with pytest.raises(state.Fail, match="record_ep_graph_assignment_info must be '1'"):
        session().get_provider_graph_assignment_info()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    parts = session(options=options).get_provider_graph_assignment_info()
    assert {part.ep_name for part in parts} == {"CPUExecutionProvider"}
    assert [node.name for part in parts for node in part.get_nodes()] == ["product", "sum", "end"]


def test_a_seed_makes_random_operators_repeat_themselves() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N] x) => (float[N] y) { y = RandomNormalLike (x) }"""
    x = np.zeros(5, np.float32)

    def draw(seed: int | None) -> Any:
        if seed is not None:
            ort.set_seed(seed)
        return session(text=text).run(None, {"x": x})[0]

    try:
        np.testing.assert_array_equal(draw(3), draw(3))
        assert (draw(3) != draw(4)).any()
    finally:
        ort._process.DEFAULTS.seed = None


@pytest.mark.slow
def test_extents_are_given_to_models_that_another_process_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORNIX_CACHE", str(tmp_path / "cache"))
    text = (
        '<ir_version: 8, opset_import: ["" : 18]> f (float[N, 512] x) => (y) { y = MatMul (x, w) }'
    )
    model = parser.parse_model(text)
    w = np.ones((512, 600), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    onnx.save(model, tmp_path / "large.onnx")
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("N", 3)
    for _ in range(2):
        made = ort.InferenceSession(tmp_path / "large.onnx", options)
        assert made.get_inputs()[0].shape == [3, 512]
        assert made.run(None, {"x": w[:3, :1] * np.ones(512, np.float32)})[0].shape == (3, 600)
