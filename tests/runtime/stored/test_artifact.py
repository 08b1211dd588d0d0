from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from fornix.compile.identity import processor
from fornix.errors import FormatError, InvalidArgument, NotSupported
from fornix.format import compiled
from fornix.format.compiled import ABOUT, DATA, MODEL, PROGRAM, SECTIONS, Container, Section
from fornix.format.limits import Limits
from fornix.format.mapped import Memory
from fornix.format.messages import ModelProto, own
from fornix.ir.load import from_message
from fornix.ops.custom import op
from fornix.ops.registered import temporary
from fornix.runtime import InferenceSession, SessionOptions
from fornix.runtime.stored import artifact, content, kept
from fornix.runtime.stored.artifact import Artifact
from fornix.runtime.stored.compiling import compile_model
from fornix.runtime.threads import Pool
from fornix.system import is_mappable
from tests.runtime.stored import kept_models

pytestmark = pytest.mark.skipif(
    not (is_mappable() and processor()), reason="programs are kept on Linux"
)
TEXT = """<ir_version: 8, opset_import: ["" : 18], producer_name: "tests">
    f (float[N, 256] x) => (float[N, 300] y, float[N] s) <int64[1] axes = {1}> {
        p = MatMul (x, w)
        y = Relu (p)
        s = ReduceSum <keepdims = 0> (y, axes)
    }"""
X = np.random.default_rng(1).standard_normal((3, 256), np.float32)


def source() -> onnx.ModelProto:
    model = parser.parse_model(TEXT)
    weights = np.random.default_rng(0).standard_normal((256, 300), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A compiled model, and the cache that vouches for it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "model.onnx").write_bytes(source().SerializeToString())
    with pytest.MonkeyPatch.context() as patch:
        kept_models.use_cache(folder / "cache", patch)
        compile_model(folder / "model.onnx", folder / "model.fnx")
    return folder / "model.fnx", folder / "cache"


@pytest.fixture
def path(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiled model that the user's cache vouches for."""
    kept_models.use_cache(made[1], monkeypatch)
    return made[0]


@pytest.fixture
def stranger(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same where the cache does not know it."""
    kept_models.use_cache(tmp_path / "other", monkeypatch)
    return path


def wanted() -> list[np.ndarray[Any, Any]]:
    session = InferenceSession(from_message(own(source(), ModelProto)))
    return session.run(None, {"x": X})


def is_recalled(session: InferenceSession) -> bool:
    return kept_models.is_recalled(session)


def changed(path: Path, target: Path, **sections: bytes) -> Path:
    """The file at ``path`` with other contents of sections, and digests that fit."""
    body = path.read_bytes()
    container = Container.of(Memory(body))
    assert container is not None
    parts = {n: body[s.start : s.stop] for n, s in container.sections.items()} | sections
    whole = bytearray(compiled.HEAD_BYTES)
    places = {}
    for name in SECTIONS:
        part = parts[name]
        digest = content.digest_of(Memory(part), 0, len(part), Pool(1))
        places[name] = Section(len(whole), len(part), digest)
        whole += part + bytes(-len(part) % compiled.ALIGNMENT)
    whole[: compiled.HEAD_BYTES] = compiled.head(places, len(whole))
    target.write_bytes(whole)
    return target


def test_it_loads_without_compiler_and_answers_the_same_bits(path: Path) -> None:
    code = """
import sys, numpy as np, fornix
session = fornix.InferenceSession(sys.argv[1])
results = session.run(None, {"x": np.load(sys.argv[2])})
print(*(name for name in ("llvmlite", "fornix.ops", "google.protobuf") if name in sys.modules))
print(*(result.tobytes().hex() for result in results))
"""
    np.save(path.with_suffix(".npy"), X)
    done = subprocess.run(
        [sys.executable, "-c", code, path, path.with_suffix(".npy")],
        check=True,
        capture_output=True,
        text=True,
    )
    loaded, results = done.stdout.splitlines()
    assert not loaded
    assert results.split() == [array.tobytes().hex() for array in wanted()]


def test_packed_weights_are_mapped(path: Path) -> None:
    session = InferenceSession(path)
    assert is_recalled(session)
    report = session.memory_report()
    assert report.packed == 0
    assert report.mapped >= 256 * 300 * 4


def test_bytes_of_it_are_a_model_too(path: Path) -> None:
    for shift in range(1, 64, 21):  # wherever they lie in memory
        body = memoryview(bytes(shift) + path.read_bytes())[shift:]
        session = InferenceSession(bytes(body))
        assert is_recalled(session)
        for found, expected in zip(session.run(None, {"x": X}), wanted(), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_session_of_it_knows_all_that_the_model_says(path: Path) -> None:
    session = InferenceSession(path)
    assert session.get_inputs()[0].shape == ["N", 256]
    assert session.get_modelmeta().producer_name == "tests"
    assert session.run(["p"], {"x": X})[0].shape == (3, 300)
    assert {place.op_type for place in session.placement()} >= {"MatMul", "Relu"}
    copy = pickle.loads(pickle.dumps(InferenceSession(path, trust=True)))
    assert copy._trust
    np.testing.assert_array_equal(copy.run(["y"], {"x": X})[0], session.run(["y"], {"x": X})[0])
    assert session.run(["s"], {"x": X[:0]})[0].shape == (0,)


def test_code_of_others_is_not_run(stranger: Path, caplog: pytest.LogCaptureFixture) -> None:
    session = InferenceSession(stranger)
    assert not is_recalled(session)
    assert "this user's cache does not vouch for its code; trust=True runs it" in caplog.text
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], wanted()[0])
    caplog.clear()
    assert is_recalled(InferenceSession(stranger))  # what was compiled anew is in the cache
    assert not caplog.records


def test_trusted_code_runs_without_a_cache_and_without_a_compiler(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORNIX_CACHE", "0")
    monkeypatch.setattr("fornix.runtime.stored.shelf.compiler", lambda: "")
    session = InferenceSession(path, trust=True)
    assert is_recalled(session)
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], wanted()[0])
    assert not is_recalled(InferenceSession(path))


@pytest.mark.parametrize("is_emptied", [True, False])
def test_code_that_the_cache_lost_is_made_anew(
    is_emptied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(source().SerializeToString())
    kept_models.use_cache(tmp_path / "cache", monkeypatch)
    session = InferenceSession(model)  # its code stays in memory
    if is_emptied:
        for file in (tmp_path / "cache").glob("*.o"):
            file.unlink()
    else:
        monkeypatch.setenv("FORNIX_CACHE", str(tmp_path / "another"))
    compile_model(model, tmp_path / "model.fnx")
    compiled_one = InferenceSession(tmp_path / "model.fnx")
    assert is_recalled(compiled_one)
    for one in (session, compiled_one):
        np.testing.assert_array_equal(one.run(None, {"x": X})[0], wanted()[0])


def test_a_cache_of_another_release_does_not_vouch(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "sources", lambda _: b"other")
    found = artifact.describe(path)
    assert found is not None
    assert not found["is_vouched_for"]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("processor", "other", "it was compiled for another processor"),
        ("fornix", "0.0.1", "it was compiled by another fornix, 0.0.1"),
        ("sources", "other", "it was compiled by another fornix"),
        ("limits", "other", "it was compiled with other limits"),
    ],
)
def test_a_program_for_something_else_is_compiled_anew(
    path: Path,
    tmp_path: Path,
    key: str,
    value: str,
    reason: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    about = json.loads(Artifact.of(path).about.text())  # type: ignore[union-attr] # it is one
    text = json.dumps(about | {key: value}).encode()
    other = changed(path, tmp_path / "other.fnx", **{ABOUT: text})
    monkeypatch.setenv("FORNIX_CACHE", str(tmp_path / "cache"))
    session = InferenceSession(other, trust=True)
    assert not is_recalled(session)
    assert reason in caplog.text
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], wanted()[0])


def test_options_are_those_that_it_was_compiled_with(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    basic = SessionOptions(graph_optimization_level="basic")
    dims = SessionOptions()
    dims.add_free_dimension_override_by_name("N", 3)
    target = tmp_path / "basic.fnx"
    compile_model(source(), target, basic)
    for options in (None, SessionOptions(intra_op_num_threads=1), basic):
        session = InferenceSession(target, options)
        assert session._shelf is not None
        assert session._shelf.options is not None
        assert session.get_session_options().graph_optimization_level == "basic"
    assert not caplog.records
    for options in (dims, SessionOptions(graph_optimization_level="none")):
        session = InferenceSession(target, options)
        assert session._shelf is not None
        assert session._shelf.options is None
        assert "it was compiled with other options" in caplog.text
        caplog.clear()
    compile_model(source(), target, dims)
    assert InferenceSession(target).get_inputs()[0].shape == [3, 256]
    assert InferenceSession(target, limits=Limits(nodes=100))._shelf.options is None  # type: ignore[union-attr]


@pytest.mark.parametrize("section", [MODEL, ABOUT, PROGRAM, DATA])
def test_a_changed_byte_is_an_error(path: Path, tmp_path: Path, section: str) -> None:
    body = bytearray(path.read_bytes())
    container = Container.of(Memory(bytes(body)))
    assert container is not None
    body[container.sections[section].start + 20] ^= 1
    target = tmp_path / "model.fnx"
    target.write_bytes(body)
    for given in (target, bytes(body)):
        with pytest.raises(FormatError, match=f"section '{section}' must have the digest"):
            InferenceSession(given)
    if section in {ABOUT, PROGRAM}:
        with pytest.raises(FormatError, match=f"section '{section}' must have the digest"):
            InferenceSession(target, trust=True)


def test_large_data_are_looked_at_once_while_nobody_writes_to_the_file(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.fnx"
    compile_model(path, target)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1000)
    monkeypatch.setattr(content, "tells_times", lambda _: True)  # also where /tmp is in memory
    looked: list[int] = []
    digest_of = content.digest_of

    def watched(place: Any, start: int, size: int, pool: Pool) -> bytes:
        looked.append(size)
        return digest_of(place, start, size, pool)

    monkeypatch.setattr(artifact, "digest_of", watched)
    monkeypatch.setattr(content, "digest_of", watched)

    def load() -> int:
        kept._OPEN.clear()
        looked.clear()
        InferenceSession(target)
        return max(looked)

    weights = 256 * 300 * 4
    assert load() < weights  # who compiled it has just seen it
    os.utime(target)
    assert load() > weights
    assert load() < weights


def test_runs_refuse_a_file_that_was_written_to(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.fnx"
    target.write_bytes(path.read_bytes())
    session = InferenceSession(target)
    session.run(None, {"x": X})
    time.sleep(0.02)
    target.write_bytes(path.read_bytes())
    with pytest.raises(FormatError, match="must stay as it is"):
        session.run(None, {"x": X})


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"\xff", b'{"fornix": 1}', b"[" * 100_000, b'"text"']
)
def test_a_crafted_description_is_an_error(path: Path, tmp_path: Path, text: bytes) -> None:
    target = changed(path, tmp_path / "crafted.fnx", **{ABOUT: text})
    with pytest.raises(FormatError, match="section 'about' must say"):
        InferenceSession(target)


def test_a_description_holds_texts(path: Path, tmp_path: Path) -> None:
    about = json.loads(Artifact.of(path).about.text())  # type: ignore[union-attr] # it is one
    changes: list[dict[str, Any]] = [{"limits": 1}, {"entries": []}, {"entries": {"a": 1}}]
    for change in (*changes, {"level": []}):
        text = json.dumps(about | change).encode()
        target = changed(path, tmp_path / "crafted.fnx", **{ABOUT: text})
        with pytest.raises(FormatError, match="section 'about' must hold texts"):
            InferenceSession(target)


@pytest.mark.parametrize("text", [b"", b"[]", b'{"values": 1}', b"{}"])
def test_a_crafted_program_is_an_error_even_if_it_is_trusted(
    path: Path, tmp_path: Path, text: bytes
) -> None:
    body = struct.pack("<Q", len(text)) + text
    target = changed(path, tmp_path / "crafted.fnx", **{PROGRAM: body})
    assert InferenceSession(target).run(["y"], {"x": X})[0].shape == (3, 300)
    with pytest.raises(FormatError, match="section 'program' must describe a program"):
        InferenceSession(target, trust=True)


def test_it_can_be_compiled_again_and_onto_itself(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "again.fnx"
    compile_model(path, target)
    compile_model(target, target)
    session = InferenceSession(target)
    assert session._shelf is not None
    assert session._shelf.options is not None
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], wanted()[0])


def test_external_data_become_part_of_it(path: Path, tmp_path: Path) -> None:
    model = tmp_path / "external.onnx"
    onnx.save(source(), model, save_as_external_data=True, location="w.bin")
    target = tmp_path / "external.fnx"
    sizes = compile_model(model, target)
    assert sizes[MODEL] > 256 * 300 * 4
    (tmp_path / "w.bin").unlink()
    np.testing.assert_array_equal(InferenceSession(target).run(None, {"x": X})[0], wanted()[0])


def test_what_cannot_be_kept_is_not_compiled(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = parser.parse_model("""<ir_version: 8, opset_import: ["tests.artifact" : 1]>
        f (float[2] x) => (float[2] y) { y = tests.artifact.Twice (x) }""")
    with temporary():
        op("tests.artifact::Twice (x: T[...]) => (y: T[...])", T="float")(lambda x: x * 2)
        with pytest.raises(NotSupported, match="registered in this process"):
            compile_model(model, tmp_path / "custom.fnx")
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("FORNIX_CACHE", "0")
    with pytest.raises(NotSupported, match="a cache is required"):
        compile_model(path, tmp_path / "model.fnx")
    monkeypatch.setattr("fornix.runtime.stored.compiling.is_mappable", lambda: False)
    with pytest.raises(NotSupported, match="Linux on x86-64 with llvmlite is required"):
        compile_model(path, tmp_path / "model.fnx")


def test_other_providers_run_the_model_in_it(path: Path) -> None:
    session = InferenceSession(path, providers=["ReferenceExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": X})[0], wanted()[0], rtol=1e-4, atol=1e-4)


RESIZED = """<ir_version: 8, opset_import: ["" : 7]>
    f (float[N, 4] x) => (float[M, 8] y) {
        y = Upsample <mode = "nearest", scales = [1.5, 2.0]> (x)
    }"""


def test_extents_that_rules_are_asked_of_are_asked_when_it_is_compiled(
    path: Path, tmp_path: Path
) -> None:
    model, target = parser.parse_model(RESIZED), tmp_path / "resized.fnx"
    compile_model(model, target, extents=[{"N": 3}, {"N": 5}])
    session = InferenceSession(target)
    for rows in (3, 5):
        (found,) = session.run(None, {"x": np.ones((rows, 4), np.float32)})
        assert found.shape == (3 * rows // 2, 8)
        assert is_recalled(session)
    assert session.run(None, {"x": np.ones((4, 4), np.float32)})[0].shape == (6, 8)
    assert not is_recalled(session)
    for extents in ({"M": 3}, {"N": 0}):
        with pytest.raises(InvalidArgument, match="extents that the program serves are required"):
            compile_model(model, target, extents=[extents])
