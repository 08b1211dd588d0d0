from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.models.cache import cache_root, cached, read, write_cases


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FORNIX_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_an_entry_is_written_once() -> None:
    calls: list[Path] = []
    for _ in range(2):
        cached("entry", calls.append)
    assert len(calls) == 1


def test_a_failing_builder_leaves_nothing(root: Path) -> None:
    def write(draft: Path) -> None:
        (draft / "half").write_text("")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cached("entry", write)
    assert list(root.iterdir()) == []


def test_the_first_of_two_builders_wins(root: Path) -> None:
    def first(draft: Path) -> None:
        (draft / "by").write_text("first")

    def second(draft: Path) -> None:
        cached("entry", first)
        (draft / "by").write_text("second")

    assert (cached("entry", second) / "by").read_text() == "first"
    assert [path.name for path in root.iterdir()] == ["entry"]


def test_cases_come_back_as_written(tmp_path: Path) -> None:
    words = np.array([["ä"], ["long word"]], dtype=object)
    feeds = [{"x": np.ones((2, 0), np.float32), "words": words}, {"x": np.zeros((1, 3))}]
    answers = [{"y": np.array([1], np.int64)}, {"y/z": np.array([True])}]
    write_cases(tmp_path / "cases.npz", feeds, answers, 1e-3)
    built = read(tmp_path)
    assert built.tolerance == 1e-3
    for found, written in zip([*built.inputs, *built.expected], [*feeds, *answers], strict=True):
        assert list(found) == list(written)
        for name, array in written.items():
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array)


def test_the_default_root_is_outside_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORNIX_MODELS")
    repository = Path(__file__).parents[2]
    assert repository not in cache_root().parents
