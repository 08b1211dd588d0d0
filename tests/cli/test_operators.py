from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fornix.ops.registered import temporary
from tests.cli.command import call, model

SOURCE = '''
import fornix


@fornix.op("my.domain::Relu <low: float = 0.0> (x: T[..., N]) => (y: T[N])", T="float")
def relu(x, *, low):
    """The first row, from ``low`` on.

    Of all that there is.
    """
    return x.reshape(-1, x.shape[-1])[0].clip(low)
'''


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    with temporary():
        yield


@pytest.fixture
def operators(tmp_path: Path) -> Path:
    path = tmp_path / "my_operators.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ends = "(float[2, 3] x) => (float[3] y)"
    return model(tmp_path, ends, "y = my.domain.Relu(x)", '"": 21, "my.domain": 1')


def test_operators_of_a_file_are_known_to_all_commands(operators: Path, path: Path) -> None:
    unknown = call("check", path)
    assert "nobody has registered one" in unknown.out
    assert call("run", path, "--random", 0).code == 1
    found = call("--import", operators, "check", path)
    assert (found.code, "keeps to the standard" in found.out) == (0, True)
    again = call("--import", operators, "check", path)
    assert (again.code, "replace=True takes its place" in again.err) == (2, True)


def test_they_run_and_are_explained(operators: Path, path: Path) -> None:
    with temporary():
        assert call("--import", operators, "run", path, "--random", 0).code == 0
    with temporary():
        out = call("--import", operators, "explain", path).out
    assert "why NumPy\n  it has no lowering: Relu" in out


def test_ops_has_a_page_of_each(operators: Path) -> None:
    with temporary():
        out = call("--import", operators, "ops", "Relu", "--domain", "my.domain").out
    assert out.startswith("Relu  my.domain, versions 1\n\nThe first row, from low on.\n\nOf all")
    assert "  Relu <low: float = 0.0> (x: T[..., N])\n    => (y: T[N])\n  T: float32\n" in out
    assert "example" not in out
    with temporary():
        listed = call("--import", operators, "ops").out
    assert "\nregistered\n  Relu " in listed


def test_modules_are_found_in_the_working_directory(
    operators: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(operators.parent)
    assert call("--import", "my_operators", "check", path).code == 0


def test_what_goes_wrong_is_said(tmp_path: Path, path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0")
    known = tmp_path / "known.py"
    known.write_text("import fornix\nfornix.op('Relu (x: T) => (y: T)')(abs)")
    for name, message in (
        (tmp_path / "no.py", "a Python file is required, found none"),
        ("no_module", "it raised ModuleNotFoundError: No module named 'no_module'"),
        (broken, "it raised ZeroDivisionError: division by zero"),
        (known, "an operator of your own needs a domain of its own"),
    ):
        outcome = call("--import", name, "check", path)
        assert outcome.code == 2
        assert outcome.err.startswith(f"fornix: --import {name}: ")
        assert message in outcome.err
