"""Count the code and hold it to its limits.

Decides how much of it there may be: statements per room, lines per file and per function, depth of
nesting. Statements, not lines, are budgeted, so that nobody gains by writing wide lines. A budget
is raised only on purpose, by editing the table here.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = PurePosixPath("src/fornix")

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
MAX_NESTING = 3

# Statements per room; modules beside the rooms count as "(top)".
BUDGET = {
    "(top)": 681,
    "format": 3300,
    "ir": 4293,
    "ops": 19_511,
    "infer": 600,
    "check": 720,
    "version": 600,
    "reference": 456,
    "passes": 4_411,
    "edit": 1150,
    "compile": 18_638,
    "runtime": 12_069,
    "quantization": 1500,
    "convert": 6000,
    "serve": 750,
    "view": 1000,
    "debug": 1720,
    "cli": 2600,
    "onnx": 2850,
    "onnxruntime": 920,
}

# Data tables may be longer than a file: path → why.
EXEMPT: dict[str, str] = {}

Sources = Mapping[PurePosixPath, str]
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)


def main() -> int:
    """Print the table and every finding; return 1 if there is any."""
    sources = working_tree()
    counts = by_room(sources)
    findings = [*over_budget(counts), *(line for item in sources.items() for line in limits(*item))]
    print(table(counts, earlier(counts)))
    for finding in findings:
        print(f"size: {finding}")
    return bool(findings)


def working_tree() -> Sources:
    """The text of every Python file that git knows or would add, by path in the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, text=True)
    if listed.returncode:  # a source distribution has no git
        found = [path for part in ("src", "tests", "tools") for path in (ROOT / part).rglob("*.py")]
    else:
        found = [ROOT / line for line in listed.stdout.splitlines()]
    return {
        PurePosixPath(path.relative_to(ROOT).as_posix()): path.read_text(encoding="utf-8")
        for path in sorted(found)
        if path.is_file()
    }


def earlier(counts: Counter[str]) -> Counter[str] | None:
    """The counts of the last commit or, if nothing has changed since, of the one before it."""
    for revision in ("HEAD", "HEAD~1"):
        sources = committed(revision)
        if sources is None:
            return None
        if (before := by_room(sources)) != counts:
            return before
    return counts


def committed(revision: str) -> Sources | None:
    """The package's sources at ``revision``, or None where git does not have it."""
    command = ["git", "archive", revision, str(PACKAGE)]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        return None
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        return {
            PurePosixPath(member.name): file.read().decode()
            for member in tar
            if member.name.endswith(".py") and (file := tar.extractfile(member))
        }


def by_room(sources: Sources) -> Counter[str]:
    """Statements of the package by room; docstrings are not counted."""
    counts: Counter[str] = Counter()
    for path, text in sources.items():
        if path.is_relative_to(PACKAGE):
            inside = path.relative_to(PACKAGE).parts
            counts[inside[0] if len(inside) > 1 else "(top)"] += statements(ast.parse(text))
    return counts


def statements(tree: ast.AST) -> int:
    return sum(isinstance(node, ast.stmt) and not is_docstring(node) for node in ast.walk(tree))


def is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def over_budget(counts: Counter[str]) -> Iterator[str]:
    for room, count in sorted(counts.items()):
        if room not in BUDGET:
            yield f"{room}: a room needs a budget in tools/size.py, this one has none"
        elif count > BUDGET[room]:
            yield f"{room}: at most {BUDGET[room]} statements, found {count}"


def limits(path: PurePosixPath, text: str) -> Iterator[str]:
    """What breaks a limit in the file at ``path``."""
    lines = text.count("\n")
    if lines > MAX_FILE_LINES and str(path) not in EXEMPT:
        yield f"{path}: at most {MAX_FILE_LINES} lines, found {lines}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name}: at most 60 lines, found {lines}"
            if (depth := nesting(node.body)) > MAX_NESTING:
                yield f"{path}:{node.lineno}: {node.name}: at most 3 blocks deep, found {depth}"


def nesting(body: list[ast.stmt]) -> int:
    """How many blocks enclose the innermost statement; `elif` is no deeper than its `if`."""
    return max((depth_of(statement) for statement in body), default=0)


def depth_of(statement: ast.stmt) -> int:
    if not isinstance(statement, BLOCKS):
        return 0
    deepest = 0
    for name in ("body", "orelse", "finalbody"):
        body: list[ast.stmt] = getattr(statement, name, [])
        is_elif = name == "orelse" and len(body) == 1 and isinstance(body[0], ast.If)
        deepest = max(deepest, nesting(body) - is_elif)
    for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        deepest = max(deepest, nesting(part.body))
    return 1 + deepest


def table(counts: Counter[str], before: Counter[str] | None) -> str:
    """Statements per room with the change since ``before`` and the budget."""
    rows = [f"{'room':14}{'statements':>11}{'change':>8}{'budget':>8}"]
    for room, budget in BUDGET.items():
        if room in counts:
            rows.append(row(room, counts[room], None if before is None else before[room], budget))
    total = None if before is None else before.total()
    rows.append(row("total", counts.total(), total, sum(BUDGET.values())))
    return "\n".join(rows)


def row(name: str, count: int, before: int | None, budget: int) -> str:
    change = "" if before is None else f"{count - before:+d}"
    return f"{name:14}{count:>11}{change:>8}{budget:>8}"


if __name__ == "__main__":
    sys.exit(main())
