from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import click
import pytest

import fornix
from fornix.cli import main
from fornix.cli.command import Failure, failure, never_fail_to_encode, printable
from fornix.errors import FornixError, FornixWarning
from tests.cli.command import DIGITS, call, save

COMMANDS = (
    *("run", "bench", "check", "info", "ops", "optimize", "compile"),
    *("explain", "compare", "demo", "text", "extract", "merge", "rename", "set-shape"),
    *("outline", "inline", "split", "join"),
)
SLOW_TO_IMPORT = {"numpy", "google.protobuf", "ml_dtypes", "llvmlite", "rich", "PIL"}


def python(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload] # options of many types
        [sys.executable, *arguments], capture_output=True, encoding="utf-8", check=False, **options
    )


class Broken:
    """A loader that raises what a test wants."""

    raised: BaseException = RuntimeError("unset")

    def __call__(self, *_: object) -> None:
        raise self.raised


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Broken:
    loader = Broken()
    monkeypatch.setattr("fornix.ir.files.load", loader)
    return loader


def test_version_is_the_packages() -> None:
    assert call("--version").out == f"fornix {fornix.__version__}\n"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_command_and_every_exit_code(flag: str) -> None:
    out = call(flag).out
    listed = re.findall(r"^  ([\w-]+)  +[A-Z]", out, re.MULTILINE)
    assert listed[-len(COMMANDS) :] == list(COMMANDS)
    assert "Exit codes: 0 done" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_prints_json(command: str) -> None:
    outcome = call(command, "--help")
    assert outcome.code == 0
    assert "--json" in outcome.out


def test_help_imports_nothing_that_is_slow() -> None:
    code = (
        "import sys\nfrom fornix.cli import main\n"
        "try:\n    main(['run', '--help'])\nexcept SystemExit:\n    print(*sys.modules)"
    )
    assert SLOW_TO_IMPORT.isdisjoint(python("-c", code).stdout.split())


def test_the_module_is_the_command() -> None:
    assert python("-m", "fornix", "--version").stdout == f"fornix {fornix.__version__}\n"


@pytest.mark.parametrize("arguments", [["frobnicate"], ["run"], ["check", "--nix", "x"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    outcome = call(*arguments)
    assert outcome.code == 2
    assert "Usage:" in outcome.err
    assert outcome.out == ""


def test_a_missing_file_is_wrong_usage() -> None:
    outcome = call("info", "nowhere.onnx")
    assert outcome.code == 2
    assert outcome.err.startswith("fornix: nowhere.onnx: a readable file is required")


def test_a_file_that_is_no_model_is_exit_code_1_and_one_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.onnx"
    path.write_text("This is no model.", encoding="utf-8")
    outcome = call("info", path)
    assert outcome.code == 1
    assert re.fullmatch(rf"fornix: {re.escape(str(path))}: .*\n", outcome.err)


@pytest.mark.parametrize("environment", [{}, {"FORNIX_TRACEBACK": "1"}])
def test_a_traceback_is_shown_on_demand_only(environment: dict[str, str]) -> None:
    arguments = () if environment else ("--traceback",)
    outcome = call(*arguments, "info", "nowhere.onnx", **environment)
    assert isinstance(outcome.exception, fornix.FornixError)


def test_an_unexpected_error_is_a_defect_with_its_own_code(broken: Broken) -> None:
    broken.raised = KeyError("what")
    outcome = call("info", DIGITS)
    assert outcome.code == 3
    assert outcome.err == (
        "fornix: unexpected KeyError: 'what'; this is a defect of fornix, "
        "`fornix --traceback …` shows where\n"
    )


def test_interruption_from_the_keyboard_is_quiet(broken: Broken) -> None:
    broken.raised = KeyboardInterrupt()
    outcome = call("info", DIGITS)
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "")


def test_lack_of_memory_is_told(broken: Broken) -> None:
    broken.raised = MemoryError()
    outcome = call("info", DIGITS)
    assert (outcome.code, outcome.err) == (
        1,
        "fornix: the memory of this machine does not suffice\n",
    )


def test_what_the_system_refuses_names_the_file(tmp_path: Path) -> None:
    outcome = call("text", DIGITS, "-o", tmp_path / "no" / "such" / "folder")
    assert outcome.code == 2
    assert outcome.err.startswith(f"fornix: {tmp_path / 'no' / 'such' / 'folder'}: ")


def test_errors_of_the_system_without_a_file_are_defects() -> None:
    assert failure(OSError(errno.EIO, "broken")).exit_code == 3
    assert failure(FornixError("x")).exit_code == 1


def test_warnings_of_fornix_are_one_line_and_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def warn(*_: object) -> None:
        warnings.simplefilter("always")
        warnings.warn("take care", FornixWarning, stacklevel=1)
        warnings.warn("not for users", DeprecationWarning, stacklevel=1)
        raise fornix.FornixError("done")

    monkeypatch.setattr("fornix.ir.files.load", warn)
    assert call("info", DIGITS).err == "fornix: warning: take care\nfornix: done\n"


def test_what_a_model_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["": 21], doc_string: "a\x1b[31mb\u202ec"> '
    path = save(tmp_path, text + "main (float[N] x) => (float[N] y) { y = Identity(x) }")
    out = call("info", path).out
    assert "a\\x1b[31mb\\u202ec" in out
    assert "\x1b" not in out
    outcome = call("info", path, FORCE_COLOR="1")
    assert "\x1b[31mb" not in outcome.out
    assert printable("a\nb\x07") == "a\nb\\x07"


def test_failures_print_to_a_given_file(capsys: pytest.CaptureFixture[str]) -> None:
    Failure("what\x1b", 1).show(sys.stdout)
    assert capsys.readouterr().out == "fornix: what\\x1b\n"


def test_a_narrow_encoding_gets_question_marks() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    run = python("-m", "fornix", "info", str(DIGITS), env=environment)
    assert run.returncode == 0
    assert run.stdout.isascii()
    assert re.search(r"Conv +3  #{32}\n", run.stdout)
    never_fail_to_encode(object())  # type: ignore[arg-type] # what is no text stream stays as it is


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGPIPE there")
def test_a_reader_that_goes_away_is_no_error() -> None:
    command = [sys.executable, "-m", "fornix", "ops"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_control_c_ends_a_run_with_130(tmp_path: Path) -> None:
    body = (
        "c = Constant<value = bool {1}>() n = Constant<value = int64 {1000000000}>() "
        "y = Loop<body = b (int64 i, bool go, float[N] a) => (bool again, float[N] s) "
        "{ again = Identity(go) s = Sin(a) }>(n, c, x)"
    )
    ends = "(float[N] x) => (float[N] y)"
    path = save(tmp_path, f'<ir_version: 10, opset_import: ["": 21]> main {ends} {{ {body} }}')
    command = [sys.executable, "-m", "fornix", "run", str(path), "--random", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, b"")


def test_commands_are_listed_in_the_order_of_use() -> None:
    assert main.list_commands(click.Context(main)) == list(COMMANDS)
