"""`ModelCompiler`, sessions of compiled models, and options that a model brings along."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as peer
import pytest
from onnx import parser

from fornix import onnxruntime as ort
from fornix.compile.identity import processor
from fornix.errors import Fail, FornixWarning, InvalidArgument, NotSupported
from fornix.system import is_mappable
from tests.runtime.stored import kept_models

MODEL = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
    f (float[N, 3] x) => (float[N, 3] y) <float[3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}> {
        p = MatMul (x, w)
        y = Relu (p)
    }""")
X = np.ones((2, 3), np.float32)
on_linux = pytest.mark.skipif(
    not (is_mappable() and processor()), reason="programs are kept on Linux"
)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kept_models.use_cache(tmp_path / "cache", monkeypatch)
    onnx.save(MODEL, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def is_compiled(session: ort.InferenceSession) -> bool:
    return session._shelf is not None and session._shelf.options is not None


@on_linux
def test_compiled_models_are_models(path: Path) -> None:
    compiler = ort.ModelCompiler(ort.SessionOptions(), path)
    compiler.compile_to_file()
    compiler.compile_to_file(path.with_name("other.fnx"))
    parts: list[bytes] = []
    compiler.compile_to_stream(parts.append)
    from_bytes = ort.ModelCompiler(ort.SessionOptions(), path.read_bytes()).compile_to_bytes()
    sources = (path.with_name("model_ctx.onnx"), path.with_name("other.fnx"), *parts, from_bytes)
    for source in sources:
        session = ort.InferenceSession(source)
        assert is_compiled(session)
        np.testing.assert_array_equal(session.run(None, {"x": X})[0], [[12, 15, 18]] * 2)
    copy = pickle.loads(pickle.dumps(ort.InferenceSession(sources[0], trust=True)))
    assert copy._trust


@on_linux
def test_flags_are_obeyed(path: Path) -> None:
    flags = ort.OrtCompileApiFlags
    options = ort.SessionOptions()
    must_be_new = ort.ModelCompiler(options, path, flags=flags.ERROR_IF_OUTPUT_FILE_EXISTS)
    target = path.with_name("new.fnx")
    must_be_new.compile_to_file(target)
    with pytest.raises(InvalidArgument, match="a new file is required"):
        must_be_new.compile_to_file(target)
    some = flags.ERROR_IF_NO_NODES_COMPILED
    assert ort.ModelCompiler(options, path, flags=some).compile_to_bytes()
    words = parser.parse_model("""<ir_version: 8, opset_import: ["" : 20]>
        f (string[N] x) => (string[N] y) { y = StringConcat (x, x) }""").SerializeToString()
    assert ort.ModelCompiler(options, words).compile_to_bytes()
    with pytest.raises(Fail, match="a node that can be compiled is required"):
        ort.ModelCompiler(options, words, flags=some).compile_to_bytes()


def test_arguments_are_those_of_onnxruntime(path: Path) -> None:
    ours, theirs = (inspect.signature(x.ModelCompiler).parameters for x in (ort, peer))
    assert list(ours) == list(theirs)
    assert {n for n in dir(peer.ModelCompiler) if n[0] != "_"} <= {*dir(ort.ModelCompiler)}
    options = ort.SessionOptions()
    bad: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ValueError, "a model is required", {"input_model_path_or_bytes": ""}),
        (ValueError, "a model is required", {"input_model_path_or_bytes": b""}),
        (TypeError, "a path or bytes are required", {"input_model_path_or_bytes": 3}),
        (NotSupported, "holds its initializers", {"external_initializers_file_path": "w"}),
        (NotSupported, "holds its initializers", {"get_initializer_location_func": print}),
        (
            ValueError,
            "found both",
            {"external_initializers_file_path": "w", "get_initializer_location_func": print},
        ),
    ]
    for kind, message, given in bad:
        with pytest.raises(kind, match=message):
            ort.ModelCompiler(options, **{"input_model_path_or_bytes": path, **given})
    compiler = ort.ModelCompiler(options, path)
    with pytest.raises(TypeError, match="a path is required, found int"):
        compiler.compile_to_file(3)  # type: ignore[arg-type] # that is the case
    with pytest.raises(InvalidArgument, match="a path is required for a model from bytes"):
        ort.ModelCompiler(options, path.read_bytes()).compile_to_file()
    with pytest.raises(InvalidArgument, match="there is no absent"):
        ort.ModelCompiler(options, "absent.onnx").compile_to_file("x.fnx")
    with pytest.raises(NotSupported, match="writes context data"):
        compiler.set_ep_context_data_write_func(print)
    compiler.clear_ep_context_data_write_func()


def configured(text: str) -> bytes:
    model = onnx.ModelProto.FromString(MODEL.SerializeToString())
    onnx.helper.set_model_props(model, {"ort_config": text})
    return model.SerializeToString()


def test_a_model_may_bring_options_along(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"session_options": {"intra_op_num_threads": 1, "graph_optimization_level": 1}}'
    assert ort.InferenceSession(configured(text)).get_session_options().intra_op_num_threads == 0
    asked = ort.InferenceSession(configured(text), read_config_from_model=1)
    assert asked.get_session_options().graph_optimization_level == 1
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    theirs = peer.InferenceSession(configured(text)).get_session_options()
    ours = ort.InferenceSession(configured(text)).get_session_options()
    for name in ("intra_op_num_threads", "graph_optimization_level", "execution_mode"):
        assert int(getattr(ours, name)) == int(getattr(theirs, name))
    for other in ("[]", "{}", '{"session_options": 1}'):
        assert ort.InferenceSession(configured(other)).get_session_options().threads >= 1
    assert ort.InferenceSession(MODEL.SerializeToString()).run(None, {"x": X})[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSON is required"),
        ('{"session_options": {"intra_op_num_threads": "x"}}', "an integer from 0 on, found 'x'"),
        ('{"session_options": {"graph_optimization_level": 7}}', r"one of \[0, 1, 2, 3, 99\]"),
        ('{"session_options": {"execution_mode": 9}}', r"execution_mode must be one of \[0, 1\]"),
        ('{"session_options": {"enable_profiling": true}}', "enable_profiling must be one of"),
    ],
)
def test_what_are_no_options_is_refused_in_both(
    text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    with pytest.raises(InvalidArgument, match=message):
        ort.InferenceSession(configured(text))
    with pytest.raises(Exception, match="session options"):
        peer.InferenceSession(configured(text))


def test_an_option_that_nobody_knows_is_told() -> None:
    text = '{"session_options": {"wonders": 1}}'
    with pytest.warns(FornixWarning, match="option 'wonders' has no meaning here"):
        ort.InferenceSession(configured(text), read_config_from_model=1)
