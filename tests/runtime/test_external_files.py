"""Programs of models with external data: the files beside a model are part of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from fornix.compile.identity import processor
from fornix.errors import ExternalDataError, FormatError
from fornix.runtime import InferenceSession
from fornix.system import is_mappable
from tests.runtime.stored.kept_models import assert_same, fresh, is_recalled, recalled, use_cache

FEEDS = {"x": np.array([[1, 2, 3, 4], [0, 1, 0, -1]], np.float32), "i": np.array([2, 0])}
WEIGHTS = np.arange(16, dtype=np.float32).reshape(4, 4)
TABLE = np.arange(20, dtype=np.float32).reshape(5, 4)

pytestmark = pytest.mark.skipif(
    not (is_mappable() and processor()), reason="programs are kept on Linux"
)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose program is kept, with weights in two files."""
    use_cache(tmp_path / "cache", monkeypatch)
    (tmp_path / "one").mkdir()
    path = made(tmp_path / "one" / "model.onnx")
    assert not is_recalled(InferenceSession(path))
    return path


def made(path: Path) -> Path:
    """The model; constants are computed of one of its files."""
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 4] x, int64[N] i) => (float[N, 4] y) {
            half = Constant <value_float = 0.5> ()
            scaled = Mul (w, half)
            p = MatMul (x, scaled)
            e = Gather (t, i)
            y = Add (p, e)
        }""")
    for name, array in (("w", WEIGHTS), ("t", TABLE)):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(
        model, path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0
    )
    assert {file.name for file in path.parent.iterdir()} == {"model.onnx", "w", "t"}
    return path


def expected(weights: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = WEIGHTS) -> object:
    return [FEEDS["x"] @ (weights / 2) + TABLE[FEEDS["i"]]]


def test_their_programs_are_kept(path: Path) -> None:
    session = recalled(path)
    assert_same(session.run(None, FEEDS), expected())
    assert_same(fresh(path).run(None, FEEDS), expected())
    assert is_recalled(InferenceSession(str(path)))
    assert [place.kernels for place in session.placement()]


@pytest.mark.parametrize("how", ["written to", "replaced", "with its time set back"])
def test_other_data_are_another_model(path: Path, how: str) -> None:
    file = path.parent / "w"
    status = file.stat()
    new = (WEIGHTS * 3).tobytes()
    old = InferenceSession(path)
    assert_same(old.run(None, FEEDS), expected())
    if how == "replaced":
        (path.parent / "new").write_bytes(new)
        (path.parent / "new").replace(file)
    else:
        file.write_bytes(new)
    if how == "with its time set back":
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    session = InferenceSession(path)
    assert not is_recalled(session)
    assert_same(session.run(None, FEEDS), expected(WEIGHTS * 3))
    assert_same(recalled(path).run(None, FEEDS), expected(WEIGHTS * 3))
    if how == "replaced":
        assert_same(old.run(None, FEEDS), expected())


def test_the_same_model_beside_other_data_is_another(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "two" / "model.onnx"
    shutil.copytree(path.parent, other.parent)
    assert is_recalled(InferenceSession(other))
    (other.parent / "w").write_bytes((WEIGHTS * 5).tobytes())
    one = InferenceSession(path)
    two = InferenceSession(other)
    assert is_recalled(one)
    assert not is_recalled(two)
    for _ in range(2):
        assert_same(one.run(None, FEEDS), expected())
        assert_same(two.run(None, FEEDS), expected(WEIGHTS * 5))
        one, two = InferenceSession(path), InferenceSession(other)


def test_files_that_may_not_be_read_are_refused_as_ever(path: Path) -> None:
    elsewhere = path.parent.parent / "w"
    (path.parent / "w").rename(elsewhere)
    with pytest.raises(ExternalDataError, match="cannot open"):
        InferenceSession(path)
    (path.parent / "w").symlink_to(elsewhere)
    with pytest.raises(ExternalDataError, match="is a symbolic link"):
        InferenceSession(path)
    with pytest.raises(ExternalDataError, match="the folder"):
        InferenceSession(path.read_bytes())


def test_data_that_change_while_a_session_uses_them_are_told(tmp_path: Path, path: Path) -> None:
    large = tmp_path / "large.onnx"
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
        f (int64[N] i) => (float[N, 64] y) { y = Gather (t, i) }""")
    table = np.random.default_rng(0).standard_normal((2000, 64), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(table, "t"))
    onnx.save(model, large, save_as_external_data=True, location="rows.bin", size_threshold=0)
    InferenceSession(large)
    session = recalled(large)
    np.testing.assert_array_equal(session.run(None, {"i": FEEDS["i"]})[0], table[[2, 0]])
    file = large.parent / "rows.bin"
    file.write_bytes(file.read_bytes())
    with pytest.raises(FormatError, match=r"rows\.bin: the file must stay as it is"):
        session.run(None, {"i": FEEDS["i"]})
    session = recalled(large)
    file.write_bytes(b"cut")
    with pytest.raises(FormatError, match=r"rows\.bin: .* it was cut while in use"):
        session.run(None, {"i": FEEDS["i"]})
