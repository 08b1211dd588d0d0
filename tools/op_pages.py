"""Keep docs/ops, a page for each operator, in agreement with the declarations.

A page is written from the operator's home (signature, types, history, description, support) and
from its example in fornix/cli/examples.txt. The example's results are those of the standard's own
evaluator, or of onnxruntime where that has no answer, never ours; pages keep them, so that only
new examples ask for them. ``--write`` brings the pages up to date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fornix.cli import examples
from fornix.cli.examples import Example
from fornix.cli.ops import page_of
from fornix.ir.graph import Model
from fornix.ir.load import to_message
from fornix.ops.matrix import families
from fornix.ops.op import Operator
from tools.oracle import answer

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "ops"
INTRODUCTION = """\
A page for each operator, written by `python -m tools.op_pages --write`: what it computes, its
newest signature, an example that runs, what each version changed, and what fornix has of it.
[Operators](../ops.md) explains the notation; `fornix ops NAME` tells the same in a terminal. Save
the model of an example as `example.onnxtxt`, and `fornix run example.onnxtxt -i 'X=[1, 2]'` runs
it. The results are those of the standard's own evaluator, or of ONNX Runtime where that has no
answer."""


def main() -> int:
    """Return 1 if pages are out of date and may not be written."""
    wanted = pages()
    found = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    stale = sorted(
        name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)
    )
    if "--write" in sys.argv[1:]:
        PAGES.mkdir(exist_ok=True)
        for name in stale:
            if name in wanted:
                (PAGES / name).write_text(wanted[name], encoding="utf-8", newline="\n")
            else:
                (PAGES / name).unlink()
    elif stale:
        told = ", ".join(stale[:5]) + (" …" if len(stale) > 5 else "")
        print(f"docs/ops: must agree with the operators ({told}); python -m tools.op_pages --write")
        return 1
    return 0


def pages() -> dict[str, str]:
    """Every page by the name of its file."""
    written: dict[str, str] = {}
    for family, operators in families().items():
        for operator in operators:
            name = f"{operator.name}.md"
            written[name] = page(
                page_of(family, operator), operator, examples.examples()[operator.name]
            )
    return written | {"README.md": index()}


def page(told: Mapping[str, Any], operator: Operator, example: Example) -> str:
    """The page of ``operator``."""
    summary, _, rest = told["description"].partition("\n")
    versions = ", ".join(str(change["version"]) for change in reversed(told["history"]))
    link = f"[{told['family']}](../../{home(told['family'])})"
    lines = [
        f"# {told['name']}",
        "",
        f"`{told['domain']}`, versions {versions}, declared in {link} · [all operators](README.md)",
        *(["", f"**Deprecated since version {told['newest']}.**"] if told["deprecated"] else []),
        "",
        escaped(summary),
        *(["", *fenced(rest.strip())] if rest.strip() else []),
        "",
        "## Signature",
        "",
        *fenced(told["signature"]),
        "",
        *types_table(told["types_in_short"]),
        *parameters_table(told["parameters"]),
        "## Example",
        "",
        *example_lines(operator, example),
        "",
        "## Versions",
        "",
        *(f"* **{c['version']}** {escaped('; '.join(c['changes']))}" for c in told["history"]),
        "",
        "## Support",
        "",
        *table(told["support"], [[text or "none" for text in told["support"].values()]]),
        *(f"\n`{told['support'][column]}`: {why}." for column, why in told["reasons"].items()),
    ]
    return "\n".join(lines) + "\n"


def index() -> str:
    """The page that lists all operators."""
    lines = ["# Operators", "", *INTRODUCTION.splitlines()]
    for family, operators in families().items():
        rows = []
        for operator in operators:
            told = page_of(family, operator)
            link = f"[{told['name']}]({told['name']}.md)"
            rows.append([link, told["domain"], str(told["newest"]), escaped(told["summary"])])
        if rows:
            lines += ["", f"## {family}", "", *table(["operator", "domain", "newest", ""], rows)]
    return "\n".join(lines) + "\n"


def home(family: str) -> str:
    """The file of the module ``family``."""
    path = f"src/fornix/ops/{family.replace('.', '/')}"
    return f"{path}.py" if (ROOT / f"{path}.py").exists() else f"{path}/__init__.py"


def types_table(types: Mapping[str, str]) -> list[str]:
    """What type variables stand for."""
    if not types:
        return []
    return [*table(["", "stands for"], [[f"`{k}`", f"`{v}`"] for k, v in types.items()]), ""]


def parameters_table(parameters: Mapping[str, str]) -> list[str]:
    """What inputs, outputs and attributes are."""
    rows = [[f"`{name}`", escaped(text)] for name, text in parameters.items()]
    return [*table(["parameter", ""], rows), ""] if rows else []


def table(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    names = list(headers)
    lines = [names, ["---"] * len(names), *(list(row) for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def fenced(text: str) -> list[str]:
    """A block of plain text."""
    return ["```text", *text.splitlines(), "```"]


def escaped(text: str) -> str:
    """``text`` as Markdown that shows it as it is."""
    return re.sub(r"([\\*_\[\]<>|`])", r"\\\1", text)


def example_lines(operator: Operator, example: Example) -> list[str]:
    """The example: the model, what goes in, what comes out."""
    model = examples.model_of(operator, example)
    given = examples.inputs_text(example)
    asked = [examples.text_of(model), *([given] if given else [])]
    stored = stored_blocks(operator.name)
    results = stored[-1] if stored[:-1] == asked else results_text(model, example)
    lines = [*fenced(asked[0]), ""]
    if given:
        lines += ["on", "", *fenced(given), ""]
    return [*lines, "gives", "", *fenced(results)]


def stored_blocks(name: str) -> list[str]:
    """The blocks of the example on the page of ``name``, if there is one."""
    path = PAGES / f"{name}.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    section = text.partition("\n## Example\n")[2].partition("\n## Versions\n")[0]
    return [block.rstrip("\n") for block in re.findall(r"```text\n(.*?)```", section, re.DOTALL)]


def results_text(model: Model, example: Example) -> str:
    """What the oracle gives, a line for each output; of random results the types."""
    if example.known:
        return "\n".join(example.known)
    if example.is_random:
        return examples.types_text(model)
    message = to_message(model).SerializeToString()
    results = answer(message, examples.feeds_of(model, example), example.oracle)
    return examples.results_text(model, results)


if __name__ == "__main__":
    sys.exit(main())
