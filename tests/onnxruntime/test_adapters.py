"""Adapters: files of both packages, and runs in which they are active."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as peer
import pytest
from onnx import parser

from fornix import onnxruntime as ort
from fornix.errors import FormatError, InvalidArgument, NoSuchFile
from fornix.onnxruntime.capi import onnxruntime_pybind11_state
from fornix.runtime.native import NativeStep

MODEL = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
    f (float[N, 3] x, float[3, R] a, float[R, 3] b) => (float[N, 3] y)
    <float[3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, float[3, 0] a = {}, float[0, 3] b = {}> {
        xa = MatMul (x, a)
        xb = MatMul (xa, b)
        p = MatMul (x, w)
        y = Add (p, xb)
    }""").SerializeToString()
X = np.ones((2, 3), np.float32)


def exported(package: Any, path: Path, **parameters: np.ndarray[Any, Any]) -> Path:
    adapter = package.AdapterFormat()
    adapter.set_adapter_version(2)
    adapter.set_model_version(3)
    values = {k: package.OrtValue.ortvalue_from_numpy(x) for k, x in parameters.items()}
    adapter.set_parameters(values)
    adapter.export_adapter(str(path))
    return path


def ran(package: Any, session: Any, *paths: Path, **feeds: Any) -> np.ndarray[Any, Any]:
    options = package.RunOptions()
    for path in paths:
        adapter = package.LoraAdapter()
        adapter.Load(str(path))
        options.add_active_adapter(adapter)
    (result,) = session.run(None, {"x": X, **feeds}, options)
    found: np.ndarray[Any, Any] = result
    return found


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Adapters of two ranks, one of each package."""
    stream = np.random.default_rng(0)
    return [
        exported(
            package,
            tmp_path / f"{rank}.onnx_adapter",
            a=stream.standard_normal((3, rank), np.float32),
            b=stream.standard_normal((rank, 3), np.float32),
        )
        for rank, package in ((2, peer), (4, ort))
    ]


def test_active_adapters_feed_what_they_name(files: list[Path]) -> None:
    theirs, ours = peer.InferenceSession(MODEL), ort.InferenceSession(MODEL)
    plain = ours.run(None, {"x": X})[0]
    for paths in ([], files[:1], files[1:], files, files[::-1]):
        expected = ran(peer, theirs, *paths)
        np.testing.assert_allclose(ran(ort, ours, *paths), expected, rtol=1e-5, atol=1e-5)
    other = np.zeros((3, 2), np.float32)
    np.testing.assert_allclose(
        ran(ort, ours, files[0], a=other), ran(peer, theirs, files[0], a=other), rtol=1e-5
    )
    np.testing.assert_array_equal(ours.run(None, {"x": X})[0], plain)


def test_what_adapters_feed_runs_compiled(files: list[Path]) -> None:
    session = ort.InferenceSession(MODEL)
    expected = ran(ort, session, files[0])
    programs = session._programs
    assert programs is not None
    (steps,) = (fed.general.steps for fed in programs._varied.values())
    assert all(isinstance(step, NativeStep) for step in steps)
    reference = ort.InferenceSession(MODEL, providers=["ReferenceExecutionProvider"])
    np.testing.assert_allclose(ran(ort, reference, files[0]), expected, rtol=1e-5, atol=1e-5)
    for name in ("a", "b"):  # one after the other is another program
        session.run(None, {"x": X, name: np.zeros((3, 0) if name == "a" else (0, 3), np.float32)})
    assert len(programs.programs) >= 3


def test_what_is_fed_beyond_some_sets_runs_its_kernels() -> None:
    text = ", ".join(f"float[2] a{i}" for i in range(6))
    stored = ", ".join(f"float[2] a{i} = {{1, 1}}" for i in range(6))
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 18]>
        f (float[2] x, {text}) => (float[2] y) <{stored}> {{
            y = Sum (x, a0, a1, a2, a3, a4, a5)
        }}""").SerializeToString()
    session = ort.InferenceSession(model)
    x = np.zeros(2, np.float32)
    for number in range(6):
        found = session.run(None, {"x": x, f"a{number}": np.full(2, 5, np.float32)})[0]
        np.testing.assert_array_equal(found, [10, 10])
    assert session._programs is not None
    assert len(session._programs._varied) == 4


def test_adapters_of_another_shape_or_name_are_refused(tmp_path: Path) -> None:
    session = ort.InferenceSession(MODEL)
    wrong = exported(ort, tmp_path / "wrong", a=np.zeros((4, 2), np.float32))
    unknown = exported(ort, tmp_path / "unknown", c=np.zeros((4, 2), np.float32))
    for path, message in ((wrong, "input 'a' of"), (unknown, "found 'c'")):
        with pytest.raises(InvalidArgument, match=message):
            ran(ort, session, path)


def test_files_say_their_versions(tmp_path: Path) -> None:
    path = exported(peer, tmp_path / "a", a=X)
    found = ort.AdapterFormat.read_adapter(path)
    versions = found.get_format_version(), found.get_adapter_version(), found.get_model_version()
    assert versions == (1, 2, 3)
    np.testing.assert_array_equal(found.get_parameters()["a"].numpy(), X)
    made = ort.AdapterFormat()
    assert (made.get_format_version(), made.get_adapter_version(), made.get_parameters()) == (
        1, 0, {},
    )  # fmt: skip


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(MODEL)
    with pytest.raises(FormatError, match="an adapter of onnxruntime is required"):
        ort.LoraAdapter().Load(tmp_path / "other")
    with pytest.raises(NoSuchFile):
        ort.AdapterFormat.read_adapter(tmp_path / "absent")
    for package in (ort, peer):
        for name in ("other", "absent"):
            with pytest.raises(RuntimeError):
                package.LoraAdapter().Load(str(tmp_path / name))
            with pytest.raises(RuntimeError):
                package.AdapterFormat.read_adapter(str(tmp_path / name))
    with pytest.raises(TypeError, match="an active adapter is a LoraAdapter, found str"):
        ort.RunOptions().add_active_adapter("x")  # type: ignore[arg-type] # that is the case
    assert onnxruntime_pybind11_state.LoraAdapter is ort.LoraAdapter
