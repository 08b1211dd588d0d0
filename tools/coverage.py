"""Keep docs/limits.md in agreement with what operators have.

Compares the completeness matrix with the section that lists its gaps, so that neither a gap is
hidden nor a closed one still deplored. ``--write`` brings the section up to date.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import onnx

from fornix.ops.matrix import matrix

PAGE = Path(__file__).resolve().parent.parent / "docs" / "limits.md"
BEGIN, END = "<!-- written by tools/coverage.py -->\n", "<!-- end -->\n"
WIDTH = 120

UNDECLARED = "declared"
# Column of the matrix → what its absence means to a user. Adapters come with version conversion.
MEANING = {
    UNDECLARED: "**Unknown to fornix.** The standard has them.",
    "infer": "**No inference.** Types and shapes of the results are unknown.",
    "kernel": "**No kernel.** A run that reaches the operator raises `NotSupported`.",
    "lower": "**Neither a lowering nor a body.** Compiled programs will have to call the kernel.",
    "grad": "**No derivative.** A Gradient through the operator raises `NotSupported`.",
    "doc": "**No description.**",
}


def main() -> int:
    """Return 1 if the section is out of date and may not be written."""
    text = PAGE.read_text(encoding="utf-8")
    wanted = with_section(text, section())
    if "--write" in sys.argv[1:]:
        PAGE.write_text(wanted, encoding="utf-8", newline="\n")
    elif text != wanted:
        print("docs/limits.md: must list what operators lack; python -m tools.coverage --write")
        return 1
    return 0


def with_section(text: str, lines: str) -> str:
    """``text`` with ``lines`` between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{lines}{END}{after}"


def section() -> str:
    """The operators that lack something, in one paragraph per column."""
    return "".join(paragraph(column, names) for column in MEANING if (names := lacking(column)))


def lacking(column: str) -> list[str]:
    """The operators that do not fill ``column``, in the order of the alphabet."""
    rows = matrix()
    known = {full_name(operator.domain, operator.name) for operator in rows}
    if column == UNDECLARED:
        return sorted(standard() - known, key=str.lower)
    found = [operator for operator, cells in rows.items() if not cells[column].is_full]
    return sorted((full_name(one.domain, one.name) for one in found), key=str.lower)


def standard() -> set[str]:
    """Every operator of the standard, as the onnx package lists it."""
    schemas = onnx.defs.get_all_schemas_with_history()
    return {full_name(schema.domain, schema.name) for schema in schemas}


def paragraph(column: str, names: list[str]) -> str:
    text = f"{MEANING[column]} {', '.join(names)}"
    return f"\n{textwrap.fill(text, WIDTH, break_on_hyphens=False)}\n"


def full_name(domain: str, name: str) -> str:
    return f"{domain}.{name}" if domain else name


if __name__ == "__main__":
    sys.exit(main())
