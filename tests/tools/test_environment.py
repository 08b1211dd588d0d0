from __future__ import annotations

from pathlib import Path

import pytest

from tools import environment


def test_torch_is_installed_ahead_of_the_rest() -> None:
    assert environment.installed_first("dev") == ["torch==2.13.0"]
    assert environment.installed_first("images") == []
    assert environment.installed_first("") == []


def test_an_environment_is_made_once_and_updated_when_requirements_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed: list[str] = []
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "pip", lambda _, *arguments: installed.append(arguments[-1]))
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "x"\n[project.optional-dependencies]\ndev = []\n')
    python = environment.prepare("venv", "dev")
    assert python.is_file()
    assert installed == [f"{tmp_path}[dev]"]
    assert environment.prepare("venv", "dev") == python
    assert len(installed) == 1
    project.write_text('[project]\nname = "y"\n[project.optional-dependencies]\ndev = []\n')
    environment.prepare("venv", "dev")
    assert len(installed) == 2
    assert capsys.readouterr().err.count("setting up venv") == 2
