from __future__ import annotations

import ast
from collections import Counter
from pathlib import PurePosixPath

import pytest

from tools import size

FOUR_DEEP = """\
def f(x):
    for a in x:
        while a:
            with a:
                if a:
                    pass
"""

THREE_DEEP_WITH_ELIF = """\
def f(x):
    for a in x:
        while a:
            if a:
                pass
            elif x:
                pass
            elif f:
                pass
            else:
                pass
"""


def findings(path: str, text: str) -> list[str]:
    return list(size.limits(PurePosixPath(path), text))


def test_docstrings_are_not_statements() -> None:
    assert size.statements(ast.parse('"""module"""\nx = 1\ndef f():\n    "f"\n    return x\n')) == 3


def test_a_wide_line_counts_what_it_holds() -> None:
    assert size.statements(ast.parse("a = 1; b = 2; c = 3")) == 3


def test_files_beside_the_rooms_count_together() -> None:
    sources = {
        PurePosixPath("src/fornix/errors.py"): "x = 1\n",
        PurePosixPath("src/fornix/ir/dim/text.py"): "x = 1\ny = 2\n",
        PurePosixPath("tests/test_cast.py"): "x = 1\n",
    }
    assert size.by_room(sources) == {"(top)": 1, "ir": 2}


@pytest.mark.parametrize(("lines", "found"), [(600, 0), (601, 1)])
def test_a_file_has_at_most_600_lines(lines: int, found: int) -> None:
    assert len(findings("src/fornix/x.py", "\n" * lines)) == found


def test_a_function_has_at_most_60_lines() -> None:
    text = "def f():\n" + "    pass\n" * 60
    assert findings("a.py", text) == ["a.py:1: f: at most 60 lines, found 61"]


def test_blocks_nest_at_most_3_deep() -> None:
    assert findings("a.py", FOUR_DEEP) == ["a.py:1: f: at most 3 blocks deep, found 4"]


def test_elif_is_no_deeper_than_its_if() -> None:
    assert findings("a.py", THREE_DEEP_WITH_ELIF) == []


def test_a_room_over_its_budget_is_told() -> None:
    allowed = size.BUDGET["edit"]
    over = Counter({"edit": allowed + 2, "ir": 1})
    expected = f"edit: at most {allowed} statements, found {allowed + 2}"
    assert list(size.over_budget(over)) == [expected]


def test_a_room_without_a_budget_is_told() -> None:
    expected = "attic: a room needs a budget in tools/size.py, this one has none"
    assert list(size.over_budget(Counter({"attic": 1}))) == [expected]
