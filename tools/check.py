"""Run every check of the repository: format, lint, types, imports, size, tests.

Decides which steps there are, in which order, and how their outcome is told: one line per step,
the output of those that fail, and pytest's own summary as the last line. Started by ``./check``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.environment import ROOT, prepare

QUIET = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "PYTHONUTF8": "1",
}


@dataclass(frozen=True)
class Step:
    """One tool: its name in the report, its command, and the command that repairs what it finds."""

    name: str
    command: Sequence[str]
    fix: Sequence[str] = ()
    is_slow: bool = False


STEPS = (
    Step("format", ["ruff", "format", "--check", "."], fix=["ruff", "format", "."]),
    Step("lint", ["ruff", "check", "."], fix=["ruff", "check", "--fix", "."]),
    Step("types", ["mypy"]),
    Step("imports", ["lint-imports", "--no-logo"]),
    Step("size", ["python", "-m", "tools.size"]),
    Step(
        "coverage",
        ["python", "-m", "tools.coverage"],
        fix=["python", "-m", "tools.coverage", "--write"],
    ),
    Step(
        "pages",
        ["python", "-m", "tools.op_pages"],
        fix=["python", "-m", "tools.op_pages", "--write"],
    ),
    Step("wheel", ["python", "-m", "tools.wheel_test"], is_slow=True),
)
TESTS = "tests"
EVERY_TEST = ["-m", "slow or not slow"]


def main() -> int:
    """Run the steps that the command line selects; return 0 if all passed."""
    options = parse(sys.argv[1:])
    python = Path(sys.executable) if options.here else prepare(".venv-check", "dev")
    os.environ.update(QUIET)
    os.environ["PATH"] = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    begin = time.perf_counter()
    failed = [step.name for step in selected(options) if not run_step(step, fix=options.fix)]
    last_line = ""
    if not options.only or TESTS in options.only:
        passed, last_line = run_tests(options.pytest, run_all=options.all)
        failed += [] if passed else [TESTS]
    verdict = f"FAILED: {', '.join(failed)}" if failed else "passed"
    print(f"check {verdict} in {time.perf_counter() - begin:.0f} s", flush=True)
    if last_line:
        print(last_line)
    return bool(failed)


def parse(arguments: list[str]) -> argparse.Namespace:
    names = [*(step.name for step in STEPS), TESTS]
    parser = argparse.ArgumentParser("check", description="Run what continuous integration runs.")
    parser.add_argument("--all", action="store_true", help="slow tests and the built wheel too")
    parser.add_argument("--fix", action="store_true", help="repair what format and lint can")
    parser.add_argument("--here", action="store_true", help="use this Python's own packages")
    parser.add_argument("--only", action="append", choices=names, help="one step; repeatable")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    return parser.parse_args(arguments)


def selected(options: argparse.Namespace) -> list[Step]:
    if options.only:
        return [step for step in STEPS if step.name in options.only]
    return [step for step in STEPS if options.all or not step.is_slow]


def run_step(step: Step, *, fix: bool) -> bool:
    """Whether ``step`` passes; its output is shown if it fails or consists of figures."""
    begin = time.perf_counter()
    command = step.fix if fix and step.fix else step.command
    result = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    report(step.name, result.returncode, time.perf_counter() - begin)
    if result.returncode or step.name == "size":
        print(result.stdout.rstrip(), flush=True)
    return result.returncode == 0


def run_tests(arguments: Sequence[str], *, run_all: bool) -> tuple[bool, str]:
    """Whether pytest passes, and its last line, which is not printed yet.

    Exit code 5, no test selected, counts as a failure: an empty run proves nothing.
    """
    begin = time.perf_counter()
    scope = EVERY_TEST if run_all else []
    command = ["python", "-m", "pytest", "-q", "-n", "2", "--color=no", *scope, *arguments]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as process:
        held = ""
        for line in process.stdout or ():
            if line.strip():
                print(held, end="", flush=True)
                held = line
    report(TESTS, process.returncode, time.perf_counter() - begin)
    return process.returncode == 0, held.rstrip()


def report(name: str, exit_code: int, seconds: float) -> None:
    print(f"{name:8} {'FAILED' if exit_code else 'ok':6} {seconds:6.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
