from __future__ import annotations

import pickle
import re
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

import fornix
from fornix.errors import (
    Fail,
    FornixWarning,
    InvalidArgument,
    NoSuchFile,
    SchemaError,
    ShapeError,
    ValidationError,
)
from fornix.runtime import InferenceSession, RunOptions, SessionOptions
from fornix.runtime.program import Program
from fornix.runtime.providers import NotAsCompiled

AFFINE = """<ir_version: 8, opset_import: ["" : 18], producer_name: "tests", domain: "org.test",
             model_version: 3, doc_string: "affine", metadata_props: ["k": "v"]>
    affine (float[N, 3] x) => (float[N, 2] y)
    <float[3, 2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {10, 20}> {
        product = MatMul (x, w)
        y = Add (product, b)
    }"""
X = np.arange(6, dtype=np.float32).reshape(2, 3)
WEIGHTS = np.arange(1, 7, dtype=np.float32).reshape(3, 2)


def model(text: str = AFFINE) -> onnx.ModelProto:
    return parser.parse_model(text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "affine.onnx"
    target.write_bytes(model().SerializeToString())
    return target


def session(text: str = AFFINE) -> InferenceSession:
    return InferenceSession(model(text))


def test_a_session_computes_what_onnxruntime_computes(path: Path) -> None:
    peer = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = peer.run(None, {"x": X})
    for source in (str(path), path, path.read_bytes(), model(), fornix.load(path)):
        np.testing.assert_array_equal(InferenceSession(source).run(None, {"x": X})[0], wanted[0])


def test_inputs_and_outputs_are_described_as_onnxruntime_describes_them(path: Path) -> None:
    ours = InferenceSession(path)
    peer = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for mine, theirs in (
        (ours.get_inputs(), peer.get_inputs()),
        (ours.get_outputs(), peer.get_outputs()),
    ):
        assert [(a.name, a.type, a.shape) for a in mine] == [
            (a.name, a.type, a.shape) for a in theirs
        ]


def test_extents_that_outputs_leave_open_are_inferred_as_onnxruntime_does() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 3] x, int64[M] i, int64[K] s)
            => (float[A, B] y, float[?, ?] z, float[?, ?] r, float[P, Q] d, b) {
            y = Transpose (x)
            z = Gather (x, i)
            r = Reshape (x, s)
            d = Concat <axis = 0> (x, x)
            b = Neg (x)
        }"""
    data = model(text).SerializeToString()
    peer = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    theirs = [(arg.name, arg.type, arg.shape) for arg in peer.get_outputs()]
    assert [(arg.name, arg.type, arg.shape) for arg in session(text).get_outputs()] == theirs
    assert [shape for _, _, shape in theirs[:2]] == [[3, "B"], ["M", 3]]


def test_metadata_is_what_onnxruntime_reads(path: Path) -> None:
    ours = InferenceSession(path).get_modelmeta()
    theirs = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    ).get_modelmeta()
    for name in (
        "producer_name",
        "graph_name",
        "domain",
        "description",
        "version",
        "custom_metadata_map",
        "graph_description",
    ):
        assert getattr(ours, name) == getattr(theirs, name)


def test_fetches_come_in_the_order_asked_for_and_may_be_intermediate() -> None:
    y, product, x = session().run(["y", "product", "x"], {"x": X})
    np.testing.assert_array_equal(y, np.add(product, [10, 20]))
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("extents", ["2, 3", "N, 3"])
def test_a_value_that_is_two_outputs_comes_twice_in_every_run(extents: str) -> None:
    runner = session(f"""<ir_version: 8, opset_import: ["" : 18]>
        f (float[{extents}] x) => (float[{extents}] y, float[{extents}] z, float[{extents}] y) {{
            y = Neg (x)
            z = Abs (x)
        }}""")
    for factor in (1, 2, 3):
        feed = X * np.float32(-factor)
        first, middle, last = runner.run(None, {"x": feed})
        np.testing.assert_array_equal([first, middle, last], [-feed, abs(feed), -feed])
        assert not np.shares_memory(first, last)
        assert len(runner.run(None, {"x": feed}, RunOptions())) == 3


def test_an_unknown_fetch_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"its outputs are y\), found 'z'"):
        session().run(["z"], {"x": X})


def test_feeds_that_do_not_lie_row_by_row_take_the_short_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = session("""<ir_version: 8, opset_import: ["" : 18]>
        f (float[2, 3] x, float[3] w) => (float[2, 3] y) { y = Mul (x, w) }""")
    columns, weights = np.asfortranarray(X), np.arange(6, dtype=np.float32)[::-2]
    expected = X * np.array([5, 3, 1], np.float32)
    for _ in range(2):
        assert np.array_equal(runner.run(None, {"x": columns, "w": weights})[0], expected)
    monkeypatch.setattr(Program, "run", None)
    assert np.array_equal(runner.run(None, {"x": columns, "w": weights})[0], expected)


def test_results_are_the_callers_own() -> None:
    same = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[2, 3] x) => (float[2, 3] y, float[3, 2] t, float[2] c) <float[2] w = {1, 2}> {
            y = Identity (x)
            t = Transpose (x)
            c = Identity (w)
        }"""
    runner = session(same)
    feed = X.copy()
    for result in runner.run(None, {"x": feed}):
        assert result.flags.writeable
        assert result.flags.c_contiguous
        assert not np.shares_memory(result, feed)
        result[...] = -1
    np.testing.assert_array_equal(feed, X)
    np.testing.assert_array_equal(runner.run(["c"], {"x": feed})[0], [1, 2])


def test_feeds_are_never_written_to() -> None:
    feed = X.copy()
    feed.flags.writeable = False
    session().run(None, {"x": feed})
    np.testing.assert_array_equal(feed, X)


def test_numbers_where_texts_are_wanted_are_told_with_the_line_that_makes_texts_of_them() -> None:
    text = "g (string[N] x) => (string[N] y) { y = Identity (x) }"
    session = InferenceSession(model(f'<ir_version: 8, opset_import: ["" : 18]> {text}'))
    with pytest.raises(InvalidArgument, match=r"the feed is int64\[2\]; try x.astype\(str\)$"):
        session.run(None, {"x": np.array([1, 2])})
    found = session.run(None, {"x": np.array([1, 2]).astype(str)})[0]
    np.testing.assert_array_equal(found, np.array(["1", "2"], object))


def test_every_input_must_be_fed() -> None:
    with pytest.raises(InvalidArgument, match="every input must be fed, found none for x"):
        session().run(None, {})


def test_feeds_must_name_inputs() -> None:
    with pytest.raises(InvalidArgument, match=r"feeds must name its inputs \(x\), found 'z'"):
        session().run(None, {"x": X, "z": X})


def test_a_feed_of_another_dtype_comes_with_the_remedy(path: Path) -> None:
    with pytest.raises(InvalidArgument) as raised:
        InferenceSession(path).run(None, {"x": X.astype(np.float64)})
    assert str(raised.value) == (
        "input 'x' of affine.onnx is float32[N, 3], but the feed is float64[2, 3]; "
        "try x.astype(np.float32)"
    )


def test_a_feed_in_another_layout_comes_with_the_remedy() -> None:
    picture = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 3, 224, 224] data) => (float[N, 3, 224, 224] y) { y = Relu (data) }"""
    with pytest.raises(InvalidArgument) as raised:
        session(picture).run(None, {"data": np.zeros((8, 224, 224, 3))})
    assert str(raised.value) == (
        "input 'data' of the model is float32[N, 3, 224, 224], but the feed is "
        "float64[8, 224, 224, 3]; try np.moveaxis(data, -1, 1).astype(np.float32)"
    )


def test_a_feed_of_another_rank_is_refused_without_a_guess() -> None:
    with pytest.raises(InvalidArgument) as raised:
        session().run(None, {"x": X[0]})
    assert str(raised.value).endswith("float32[N, 3], but the feed is float32[3]")


def test_a_feed_that_is_no_array_is_refused() -> None:
    for feed in ({}, object()):
        with pytest.raises(
            InvalidArgument, match=r"the feed is a (dict|object); pass a NumPy"
        ) as raised:
            session().run(None, {"x": feed})
        assert isinstance(raised.value, RuntimeError)  # as onnxruntime has it
    with pytest.raises(InvalidArgument, match="a list of lists of different lengths"):
        session().run(None, {"x": [[1.0], [1.0, 2.0]]})


def test_a_list_of_strings_is_a_feed() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (string[N] x) => (string[N] y) { y = Identity (x) }"""
    [found] = session(text).run(None, {"x": ["a", "ü"]})
    assert found.tolist() == ["a", "ü"]


def test_numbers_without_a_dtype_take_that_of_the_input(path: Path) -> None:
    ort_session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for feed in ([[1.5, 2.0, -3.0]], [[1, 2, 3]]):
        expected = ort_session.run(None, {"x": feed})
        np.testing.assert_array_equal(session().run(None, {"x": feed}), expected)
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (uint8[N] x) => (uint8[N] y) { y = Identity (x) }"""
    [found] = session(text).run(None, {"x": [0, 255]})
    assert (found.tolist(), found.dtype) == ([0, 255], np.uint8)
    for wrong, kind in (([256], "int64"), ([-1], "int64"), ([0.5], "float64")):
        with pytest.raises(InvalidArgument, match=rf"is uint8\[N\], but the feed is {kind}\[1\]"):
            session(text).run(None, {"x": wrong})


def test_feeds_in_another_byte_order_are_understood() -> None:
    [found] = session().run(None, {"x": X.astype(">f4")})
    np.testing.assert_array_equal(found, session().run(None, {"x": X})[0])


def test_feeds_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(
        InvalidArgument, match=r"feeds must be a mapping of names .* found NoneType"
    ):
        session().run(None, None)  # type: ignore[arg-type]


def test_the_elements_of_a_sequence_are_checked() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (seq(float[2]) x) => (float[N] y) { y = ConcatFromSequence <axis = 0> (x) }"""
    good = np.ones(2, np.float32)
    [found] = session(text).run(None, {"x": [good, good]})
    assert found.tolist() == [1.0] * 4
    with pytest.raises(InvalidArgument, match=r"is seq\(float32\[2\]\), .* ndarray; pass a list"):
        session(text).run(None, {"x": good})
    with pytest.raises(InvalidArgument, match=r"'x\[1\]' .* is float32\[2\], .* is float64\[2\]"):
        session(text).run(None, {"x": [good, good.astype(np.float64)]})


def test_a_list_of_names_is_not_one_text() -> None:
    with pytest.raises(InvalidArgument, match=r"a list of names, found the text 'y'; try \['y'\]"):
        session().run("y", {"x": X})
    message = r"providers must be a list, found the text 'CPUExecutionProvider'; try \['CPU"
    with pytest.raises(InvalidArgument, match=message):
        InferenceSession(model(), providers="CPUExecutionProvider")


def test_a_provider_counts_once_and_has_no_options() -> None:
    with pytest.warns(FornixWarning, match="named twice"):
        made = InferenceSession(model(), providers=["CPUExecutionProvider"] * 2)
    assert made.get_providers() == ["CPUExecutionProvider"]
    assert made.get_provider_options() == {"CPUExecutionProvider": {}}


def test_symbolic_extents_must_agree_between_feeds() -> None:
    two = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 3] a, float[N] b) => (float[N, 3] y) { y = Relu (a) }"""
    with pytest.raises(InvalidArgument) as raised:
        session(two).run(None, {"a": X, "b": np.zeros(5, np.float32)})
    assert str(raised.value) == (
        "input 'b' of the model is float32[N], and N is 2 by axis 0 of 'a', "
        "but axis 0 of the feed is 5"
    )


def test_initializers_that_are_inputs_may_be_fed() -> None:
    old = """<ir_version: 3, opset_import: ["" : 18]>
        f (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { y = Add (x, w) }"""
    runner = session(old)
    assert [value.name for value in runner.get_inputs()] == ["x"]
    assert [value.name for value in runner.get_overridable_initializers()] == ["w"]
    x = np.zeros(2, np.float32)
    np.testing.assert_array_equal(runner.run(None, {"x": x})[0], [1, 2])
    w = np.array([5, 6], np.float32)
    np.testing.assert_array_equal(runner.run(None, {"x": x, "w": w})[0], [5, 6])
    np.testing.assert_array_equal(runner.run(None, {"x": x})[0], [1, 2])


def test_kernel_errors_name_the_node() -> None:
    shapes = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N] a, float[M] b) => (float[] y) { ["sum"] y = Add (a, b) }"""
    with pytest.raises(ShapeError, match=r"^node 'sum' \(Add, opset 18\): shapes must broadcast"):
        session(shapes).run(None, {"a": X[0], "b": X[0, :2]})
    division = """<ir_version: 8, opset_import: ["" : 18]>
        f (int64[N] a) => (int64[N] y) <int64 z = {0}> { y = Div (a, z) }"""
    with pytest.raises(Fail, match=r"^node for 'y' \(Div, opset 18\): an integer is divided by"):
        session(division).run(None, {"a": np.array([1])})


def test_errors_in_subgraphs_name_the_innermost_node_once() -> None:
    nested = """<ir_version: 8, opset_import: ["" : 18]>
        f (bool c, float[N] a, float[M] b) => (float[] y) {
            ["outer"] y = If (c) <
                then_branch = g () => (float[] t) { ["inner"] t = Add (a, b) },
                else_branch = h () => (float[] e) { e = Relu (a) }
            >
        }"""
    with pytest.raises(ShapeError) as raised:
        session(nested).run(None, {"c": np.array(True), "a": X[0], "b": X[0, :2]})
    assert str(raised.value).count("node ") == 1
    assert str(raised.value).startswith("node 'inner' (Add, opset 18): ")


def test_an_unknown_operator_is_refused_when_the_session_is_made() -> None:
    with pytest.raises(SchemaError, match=r"\(Rellu, opset 18\): .* did you mean 'Relu'"):
        session("""<ir_version: 8, opset_import: ["" : 18]>
            f (float[N] a) => (float[] y) { y = Rellu (a) }""")


def test_a_misspelt_attribute_is_corrected() -> None:
    with pytest.raises(SchemaError, match=r"found 'axes'; did you mean 'axis'?"):
        session("""<ir_version: 8, opset_import: ["" : 18]>
            f (float[N] a) => (float[] y) { y = Softmax <axes = 0> (a) }""")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoSuchFile, match=r"nowhere\.onnx"):
        InferenceSession(tmp_path / "nowhere.onnx")
    with pytest.raises(FileNotFoundError):
        InferenceSession(str(tmp_path / "nowhere.onnx"))


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="an IR model is required, found int"):
        InferenceSession(5)


def test_providers_that_are_not_there_are_never_ignored_silently() -> None:
    assert session().get_providers() == ["CPUExecutionProvider"]
    with pytest.warns(FornixWarning, match="found CUDAExecutionProvider; running on CPU"):
        runner = InferenceSession(
            model(), providers=["CUDAExecutionProvider", ("CPUExecutionProvider", {})]
        )
    assert runner.get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(InvalidArgument, match="providers must be among CPUExecutionProvider"):
        InferenceSession(model(), providers=["CUDAExecutionProvider"])


def test_options_that_have_no_effect_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"must be fornix\.SessionOptions, found onnx"):
        InferenceSession(model(), onnxruntime.SessionOptions())
    with pytest.raises(InvalidArgument, match=r"must be fornix\.RunOptions, found onnx"):
        session().run(None, {"x": X}, onnxruntime.RunOptions())
    with pytest.raises(InvalidArgument, match="provider_options must have one entry per provider"):
        InferenceSession(model(), providers=["CPUExecutionProvider"], provider_options=[{}, {}])


def test_a_session_from_a_path_pickles(path: Path) -> None:
    copy = pickle.loads(pickle.dumps(InferenceSession(path)))
    np.testing.assert_array_equal(copy.run(None, {"x": X})[0], session().run(None, {"x": X})[0])
    with pytest.raises(TypeError, match="only a session made from a path pickles"):
        pickle.dumps(session())


def test_threads_may_share_a_session() -> None:
    runner = session()
    feeds = [X + i for i in range(8)]
    wanted = [runner.run(None, {"x": feed})[0] for feed in feeds]
    found: dict[int, Any] = {}

    def work(index: int) -> None:
        for _ in range(20):
            found[index] = runner.run(None, {"x": feeds[index]})[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(feeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, result in enumerate(wanted):
        np.testing.assert_array_equal(found[index], result)


def test_an_intermediate_is_released_with_its_last_use(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N] a) => (float[N] y) {
            b = Neg (a)
            c = Neg (b)
            d = Neg (c)
            y = Neg (d)
        }"""
    alive: list[int] = []
    seen: list[weakref.ref[Any]] = []
    runner = InferenceSession(model(chain), providers=["ReferenceExecutionProvider"])
    plan = runner._planned.plan
    original = plan._run_step

    def observed(step: Any, values: Any, keep: Any, observe: Any) -> None:
        original(step, values, keep, observe)
        seen.extend(weakref.ref(values[v]) for v in step.node.outputs if v in values)
        alive.append(sum(reference() is not None for reference in seen))

    monkeypatch.setattr(plan, "_run_step", observed)
    runner.run(None, {"a": X[0]})
    assert alive == [1, 1, 1, 1]


def test_an_output_that_nothing_computes_is_named() -> None:
    broken = model()
    broken.graph.output[0].name = "nowhere"
    with pytest.raises(ValidationError, match="output 'nowhere' must be computed, found no value"):
        InferenceSession(broken).run(None, {"x": X})


CHAIN = """<ir_version: 8, opset_import: ["" : 18]>
    f (float[N, 3] x, float[3, 3] w) => (float[N, 3] y) {
        a = MatMul (x, w)
        b = MatMul (a, w)
        c = MatMul (b, w)
        y = MatMul (c, w)
    }"""


class Patient(RunOptions):
    """Options of a run that somebody ends after he has been asked some times."""

    asked = 0
    patience = 2

    @property
    def terminate(self) -> bool:
        self.asked += 1
        return self.asked > self.patience

    @terminate.setter
    def terminate(self, value: bool) -> None:
        pass


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "ReferenceExecutionProvider"])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_run_is_ended_between_kernels(
    provider: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORTH_SHARING", "FEW_UNITS"):  # no short way, which asks before it begins
        monkeypatch.setattr(f"fornix.runtime.native.{name}", 0)
    options = SessionOptions(intra_op_num_threads=threads)
    runner = InferenceSession(model(CHAIN), options, providers=[provider])
    feeds = {"x": X, "w": np.eye(3, dtype=np.float32)}
    with pytest.raises(Fail, match=r"the run has been ended: RunOptions\.terminate is set"):
        runner.run(None, feeds, Patient())
    with pytest.raises(Fail, match="has been ended"):
        runner.run(None, feeds, RunOptions(terminate=True))
    np.testing.assert_array_equal(runner.run(None, feeds, RunOptions())[0], X)
    np.testing.assert_array_equal(runner.run(None, feeds)[0], X)


def test_a_run_says_its_name_where_it_is_asked_to_log(caplog: pytest.LogCaptureFixture) -> None:
    text = CHAIN.replace("y = MatMul (c, w)", "y = Gather (c, i)").replace(
        "] x,", "] x, int64[N] i,"
    )
    runner = InferenceSession(model(text))
    feeds = {"x": X, "w": np.eye(3, dtype=np.float32), "i": np.array([0, 9])}
    for severity, tells in ((0, True), (2, False)):
        caplog.clear()
        with caplog.at_level("DEBUG", "fornix.runtime.session"), pytest.raises(Fail):
            runner.run(None, feeds, RunOptions(logid="seven", log_severity_level=severity))
        said = re.search(r"seven: the model: MatMul\+Gather[.\d]*: check \d failed", caplog.text)
        assert (said is not None) is tells


def test_runs_that_are_left_to_kernels_are_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise NotAsCompiled("'c' was to be float32[3, 3]")

    runner = InferenceSession(model())
    monkeypatch.setattr("fornix.runtime.programs.Programs.run", refuse)
    for number in range(6):
        with pytest.raises(InvalidArgument):  # whatever is wrong with a run is no reason to warn
            runner.run(None, {"x": X[:, :2]})
        np.testing.assert_array_equal(runner.run(None, {"x": X})[0], X @ WEIGHTS + [10, 20])
        assert caplog.text.count("3 runs were left to NumPy kernels") == (number >= 2)
    assert "this one as 'c' was to be float32[3, 3]" in caplog.text
