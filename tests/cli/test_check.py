from __future__ import annotations

from pathlib import Path

from tests.cli.command import DIGITS, call, model

KEYS = {"model", "valid", "errors", "findings"}


def broken(folder: Path) -> Path:
    return model(folder, "(float[N] x) => (float[N] y)", "[a] z = Rellu(x) [b] y = Abs(z, z)")


def warned(folder: Path) -> Path:
    ends = "(float[3] x, int64[1] i, float[1] u) => (float[3] y)"
    return model(folder, ends, "[s] y = Scatter(x, i, u)", '"": 11')


def test_a_good_model_is_exit_code_0() -> None:
    outcome = call("check", DIGITS)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{DIGITS} keeps to the standard\n"


def test_all_errors_are_told_and_give_exit_code_1(tmp_path: Path) -> None:
    path = broken(tmp_path)
    outcome = call("check", path)
    first, second, last = outcome.out.splitlines()
    assert outcome.code == 1
    assert first.startswith("error: node 'a' (Rellu, opset 21): an operator of domain")
    assert second == "error: node 'b' (Abs, opset 21): Abs-13 takes 1 inputs, found 2"
    assert last == f"{path} has 2 errors"


def test_warnings_give_exit_code_0_unless_strict(tmp_path: Path) -> None:
    path = warned(tmp_path)
    outcome = call("check", path)
    assert outcome.code == 0
    assert outcome.out.startswith("warning: node 's' (Scatter, opset 11): Scatter is deprecated")
    assert outcome.out.endswith("has 1 warning\n")
    assert call("check", "--strict", path).code == 1


def test_json_has_the_findings(tmp_path: Path) -> None:
    outcome = call("check", broken(tmp_path), "--json")
    assert outcome.code == 1
    told = outcome.json
    assert set(told) == KEYS
    assert (told["valid"], told["errors"]) == (False, 2)
    assert [x["subject"] for x in told["findings"]] == [
        "node 'a' (Rellu, opset 21)",
        "node 'b' (Abs, opset 21)",
    ]
    assert all(set(x) == {"severity", "subject", "message"} for x in told["findings"])
    good = call("check", DIGITS, "--json").json
    assert (set(good), good["valid"], good["findings"]) == (KEYS, True, [])


def test_strictness_shows_in_json(tmp_path: Path) -> None:
    path = warned(tmp_path)
    assert call("check", path, "--json").json["valid"] is True
    assert call("check", path, "--json", "--strict").json["valid"] is False


def test_colours_tell_errors_on_a_terminal(tmp_path: Path) -> None:
    out = call("check", broken(tmp_path), FORCE_COLOR="1", COLUMNS="200", TERM="xterm").out
    assert "\x1b[1;31merror: \x1b[0m" in out
