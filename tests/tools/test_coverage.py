from __future__ import annotations

import pytest

from tools import coverage

PAGE = f"# Limits\n{coverage.BEGIN}old\n{coverage.END}\nmore\n"


def test_only_the_text_between_the_marks_is_replaced() -> None:
    found = coverage.with_section(PAGE, "new\n")
    assert found == f"# Limits\n{coverage.BEGIN}new\n{coverage.END}\nmore\n"


def test_the_page_keeps_its_marks() -> None:
    text = coverage.PAGE.read_text(encoding="utf-8")
    assert text.count(coverage.BEGIN) == text.count(coverage.END) == 1


@pytest.mark.parametrize("column", ["infer", "kernel"])
def test_no_operator_lacks_what_a_run_needs(column: str) -> None:
    assert coverage.lacking(column) == []
