"""Keep docs/ops, a page for each operator, in agreement with the declarations.

A page is written from the operator's home (signature, types, history, description, support) and
from its example in tools/op_examples.txt. The example's results are those of the standard's own
evaluator, or of onnxruntime where that has no answer, never ours; pages keep them, so that only
new examples ask for them. ``--write`` brings the pages up to date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fornix.cli.feeds import from_json
from fornix.cli.ops import page_of
from fornix.format.files import TEXT, encode
from fornix.format.text import parse_model
from fornix.infer import infer_model
from fornix.ir.graph import Model
from fornix.ir.load import from_message, to_message
from fornix.ops.matrix import families
from fornix.ops.op import Operator
from tools.oracle import answer

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "ops"
EXAMPLES = ROOT / "tools" / "op_examples.txt"
OPSETS = {"": 28, "ai.onnx.ml": 5, "ai.onnx.preview": 1, "ai.onnx.preview.training": 1}
IR_VERSION = 13
INPUT = re.compile(r"  (\w+): (.+?) = (.+)")
RANDOM, STORED, KNOWN, ORACLE = "  random", "  where ", "  => ", "  oracle "
DIGITS = 5
"""Significant digits of numbers on pages."""
NOTHING = 1e-9
"""Magnitude below which a number is what rounding leaves of 0."""


INTRODUCTION = """\
A page for each operator, written by `python -m tools.op_pages --write`: what it computes, its
newest signature, an example that runs, what each version changed, and what fornix has of it.
[Operators](../ops.md) explains the notation; `fornix ops NAME` tells the same in a terminal. Save
the model of an example as `example.onnxtxt`, and `fornix run example.onnxtxt -i 'X=[1, 2]'` runs
it. The results are those of the standard's own evaluator, or of ONNX Runtime where that has no
answer."""


@dataclass
class Example:
    """Nodes in ONNX text, and values of the inputs, as JSON, with their types."""

    nodes: list[str] = field(default_factory=list)
    inputs: dict[str, tuple[str, str]] = field(default_factory=dict)
    stored: str = ""
    """Initializers, in ONNX text."""
    known: list[str] = field(default_factory=list)
    """Results that need no oracle."""
    oracle: str = ""
    """Who is asked first."""
    is_random: bool = False
    """Whether only types of results are told."""


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
    examples = read_examples(EXAMPLES.read_text(encoding="utf-8"))
    written: dict[str, str] = {}
    for family, operators in families().items():
        for operator in operators:
            name = f"{operator.name}.md"
            written[name] = page(page_of(family, operator), operator, examples[operator.name])
    return written | {"README.md": index()}


def read_examples(text: str) -> dict[str, Example]:
    """The examples by operator: a line with its name, then indented lines."""
    found: dict[str, Example] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            current = found[line.strip()] = Example()
            continue
        matched = INPUT.fullmatch(line)
        if line == RANDOM:
            current.is_random = True
        elif line.startswith(STORED):
            current.stored = line.removeprefix(STORED)
        elif line.startswith(KNOWN):
            current.known.append(line.removeprefix(KNOWN))
        elif line.startswith(ORACLE):
            current.oracle = line.removeprefix(ORACLE)
        elif matched:
            name, type_, value = matched.groups()
            current.inputs[name] = type_, value
        else:
            current.nodes.append(line[2:])
    return found


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
    model = model_of(operator, example)
    given = [f"{name} = {value}" for name, (_, value) in example.inputs.items()]
    asked = [text_of(model).rstrip(), "\n".join(given)] if given else [text_of(model).rstrip()]
    stored = stored_blocks(operator.name)
    results = stored[-1] if stored[:-1] == asked else results_text(model, example)
    lines = [*fenced(asked[0]), ""]
    if given:
        lines += ["on", "", *fenced(asked[1]), ""]
    return [*lines, "gives", "", *fenced(results)]


def stored_blocks(name: str) -> list[str]:
    """The blocks of the example on the page of ``name``, if there is one."""
    path = PAGES / f"{name}.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    section = text.partition("\n## Example\n")[2].partition("\n## Versions\n")[0]
    return [block.rstrip("\n") for block in re.findall(r"```text\n(.*?)```", section, re.DOTALL)]


def model_of(operator: Operator, example: Example) -> Model:
    """The model of an example; the types of its outputs are inferred."""
    newest = next((s for s in reversed(operator.schemas) if not s.is_deprecated), None)
    imports = dict(OPSETS)
    if newest is not None and operator.schemas[-1].is_deprecated:
        imports[operator.domain] = operator.schemas[-1].since_version - 1
    used = {"", operator.domain}
    told = ", ".join(f"{json.dumps(name)}: {imports[name]}" for name in OPSETS if name in used)
    inputs = ", ".join(f"{type_} {name}" for name, (type_, _) in example.inputs.items())
    body = "\n".join(example.nodes)
    head = f"<ir_version: {IR_VERSION}, opset_import: [{told}]>"
    stored = f"<{example.stored}>" if example.stored else ""
    model = from_message(parse_model(f"{head} example ({inputs}) => () {stored} {{ {body} }}"))
    inference = infer_model(model)
    graph = model.graph
    graph.outputs = [v for n in graph.nodes for v in n.outputs if v.name and not v.users]
    for value in graph.outputs:
        value.type = inference.fact(value).type
    return model


def text_of(model: Model) -> str:
    """``model`` in ONNX text."""
    return encode(to_message(model), TEXT).decode()


def feeds_of(model: Model, example: Example) -> dict[str, Any]:
    """The values of the inputs."""
    values = {value.name: value for value in model.graph.inputs}
    return {
        name: from_json(json.loads(text), values[name].type)
        for name, (_, text) in example.inputs.items()
    }


def results_text(model: Model, example: Example) -> str:
    """What the oracle gives, a line for each output; of random results the types."""
    names = [value.name for value in model.graph.outputs]
    if example.known:
        return "\n".join(example.known)
    if example.is_random:
        return "\n".join(f"{value.name}: {value.type}" for value in model.graph.outputs)
    message = to_message(model).SerializeToString()
    results = answer(message, feeds_of(model, example), example.oracle)
    pairs = zip(names, results, strict=True)
    return "\n".join(f"{name} = {json.dumps(plain(value))}" for name, value in pairs)


def plain(value: Any) -> Any:
    """A result as JSON has it, numbers with few digits."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind != "O":
        value = (
            value.tolist() if value.dtype.kind in "biufSU" else value.astype(np.float64).tolist()
        )
    elif isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float) and np.isfinite(value):
        value = value if abs(value) > NOTHING else 0.0
        short = float(f"{value:.{DIGITS}g}")
        return int(short) if short == int(short) and abs(short) < 1e6 else short
    return value


if __name__ == "__main__":
    sys.exit(main())
