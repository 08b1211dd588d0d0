from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "changes").glob("*.md")]
)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_tells_something(example: Path) -> None:
    command = [sys.executable, "-W", "error", str(example)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert run.stdout.strip()


def test_there_are_examples() -> None:
    assert EXAMPLES


def test_no_page_was_left_in_the_middle_of_a_merge() -> None:
    marks = ("<<<<<<< ", ">>>>>>> ")
    left = [p.name for p in PAGES if any(k.startswith(marks) for k in p.read_text().splitlines())]
    assert PAGES
    assert not left
