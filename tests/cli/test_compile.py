from __future__ import annotations

from pathlib import Path

import pytest

from fornix.compile.identity import processor
from fornix.system import is_mappable
from tests.cli.command import DIGITS, call, model
from tests.runtime.stored import kept_models

pytestmark = pytest.mark.skipif(
    not (is_mappable() and processor()), reason="programs are kept on Linux"
)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_models.use_cache(tmp_path / "cache", monkeypatch)


def test_a_compiled_model_is_taken_where_a_model_is(tmp_path: Path) -> None:
    target = tmp_path / "digits.fnx"
    outcome = call("compile", DIGITS, "-o", target)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"{target} has ")
    assert "of packed weights; took" in outcome.out
    ran = call("run", target, "--random", 0)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1] == call("run", DIGITS, "--random", 0).out.splitlines()[1]
    told = call("info", target)
    assert "compiled    for this processor by fornix" in told.out
    compiled = call("info", target, "--json").json["compiled"]
    assert compiled["is_vouched_for"]
    assert compiled["bytes"]["model"] > 0
    assert call("info", DIGITS, "--json").json["compiled"] is None
    assert call("check", target).code == 0
    assert call("explain", target).code == 0


def test_options_are_compiled_in(tmp_path: Path) -> None:
    source = model(tmp_path, "(float[N] x) => (float[N] y)")
    target = tmp_path / "model.fnx"
    told = call(
        "compile", source, "-o", target, "--level", "basic", "--dim", "N=3", "--strict", "--json"
    ).json
    assert call("compile", source, "-o", tmp_path / "more.fnx", "--serve", "N=3").code == 0
    assert call("compile", source, "-o", tmp_path / "more.fnx", "--serve", "N=0").code == 2
    assert set(told["bytes"]) == {"model", "about", "program", "data"}
    assert (told["model"], told["written"]) == (str(source), str(target))
    found = call("info", target, "--json").json
    assert found["inputs"][0]["shape"] == [3]
    assert found["compiled"]["level"] == "basic"
    assert found["compiled"]["entries"] == {"fornix.strict_accuracy": "1"}
    assert call("compile", source, "-o", target, "--dim", "M=3").code == 2


def test_code_of_others_needs_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "digits.fnx"
    call("compile", DIGITS, "-o", target)
    kept_models.use_cache(tmp_path / "other", monkeypatch)
    assert "of which this user's cache does not know" in call("info", target).out
    assert call("run", target, "--random", 0, "--trust").code == 0
    assert not (tmp_path / "other").exists()
    assert call("run", target, "--random", 0).code == 0
    assert (tmp_path / "other").exists()


def test_a_damaged_file_is_told_in_a_line(tmp_path: Path) -> None:
    target = tmp_path / "digits.fnx"
    call("compile", DIGITS, "-o", target)
    target.write_bytes(target.read_bytes()[:-1])
    outcome = call("run", target, "--random", 0)
    assert outcome.code == 1
    assert "bytes are required" in outcome.err
