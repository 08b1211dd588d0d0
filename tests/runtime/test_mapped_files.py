"""Sessions read weights where they lie in the file: what happens when somebody changes it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import fornix
from fornix.errors import FormatError

PROVIDERS = ["CPUExecutionProvider", "ReferenceExecutionProvider"]


def fresh() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Rows that no session has met: what is kept of a model elsewhere needs no file."""
    return np.random.default_rng().random((10_000, 4), np.float32)


def saved(
    folder: Path, rows: np.ndarray[tuple[int, ...], np.dtype[np.float32]], where: str
) -> Path:
    """A model that gathers ``rows``, and the file that holds them, in the model or beside it."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (int64[n] i) => (float[n, 4] y)'
        "{ y = Gather (rows, i) }"
    )
    model.graph.initializer.append(numpy_helper.from_array(rows, "rows"))
    path = folder / "model.onnx"
    if where == "inside":
        onnx.save(model, path)
        return path
    onnx.save(model, path, save_as_external_data=True, location="rows.bin", size_threshold=0)
    return folder / "rows.bin"


def last_row(session: fornix.InferenceSession, rows: int) -> list[float]:
    (y,) = session.run(None, {"i": np.array([rows - 1])})
    found: list[float] = y[0].tolist()
    return found


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("where", ["inside", "beside"])
@pytest.mark.parametrize("runs", [0, 1])
def test_a_file_that_is_cut_is_an_error_of_the_next_run(
    provider: str, where: str, runs: int, tmp_path: Path
) -> None:
    rows = fresh()
    held = saved(tmp_path, rows, where)
    session = fornix.InferenceSession(tmp_path / "model.onnx", providers=[provider])
    for _ in range(runs):
        assert last_row(session, len(rows)) == rows[-1].tolist()
    os.truncate(held, 4096)
    with pytest.raises(FormatError, match=rf"{held.name}: .* found 4096; it was cut while in use"):
        last_row(session, len(rows))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_file_that_is_written_to_is_an_error_of_the_next_run(
    provider: str, tmp_path: Path
) -> None:
    rows = fresh()
    path = saved(tmp_path, rows, "inside")
    session = fornix.InferenceSession(path, providers=[provider])
    last_row(session, len(rows))
    with path.open("r+b") as file:
        file.write(b"\x08")
    os.utime(path, ns=(0, 0))
    with pytest.raises(FormatError, match="must stay as it is while its weights are in use"):
        last_row(session, len(rows))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_file_that_is_replaced_is_no_matter(provider: str, tmp_path: Path) -> None:
    rows = fresh()
    path = saved(tmp_path, rows, "inside")
    session = fornix.InferenceSession(path, providers=[provider])
    other = tmp_path / "other"
    other.write_bytes(b"another")
    other.replace(path)
    assert last_row(session, len(rows)) == rows[-1].tolist()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_small_weights_need_their_file_no_more(provider: str, tmp_path: Path) -> None:
    rows = fresh()[:1000]
    path = saved(tmp_path, rows, "inside")
    session = fornix.InferenceSession(path, providers=[provider])
    os.truncate(path, 0)
    assert last_row(session, 1000) == rows[999].tolist()
