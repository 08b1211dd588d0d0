"""``fornix info``: what a model is, on one page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.text import Text

    from fornix.cli.console import Page
    from fornix.ir.graph import Model, Value

BAR_WIDTH = 32
"""Columns of the longest bar."""

FIRST_COLUMN = 12
"""Columns of the words on the left."""

MANY = 24
"""Operators, inputs or functions up to which each has a line of its own."""


@click.command("info")
@click.argument("model")
@click.option("--all", "everything", is_flag=True, help="Every operator, input and function.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info_command(model: str, *, everything: bool, as_json: bool) -> None:
    """Tell what MODEL is: what goes in and comes out, versions, parameters, operators, size.

    Parameters are the stored numbers, initializers and constants alike. Nodes in subgraphs and
    model functions count once, however often they run. Weights stay in their files.
    """
    from fornix.cli.console import Page, echo_json, progress
    from fornix.ir.files import load

    with progress("reading"):
        told = describe(load(model), model)
    if as_json:
        echo_json(told)
    else:
        show(told, Page(), None if everything else MANY)


def describe(model: Model, path: str) -> dict[str, Any]:
    """Everything told of ``model``, which was loaded from ``path``."""
    from collections import Counter
    from pathlib import Path

    from fornix.format.files import format_of
    from fornix.ir import walk

    inside = list(walk.nodes(model))
    outermost = len(model.graph.nodes)
    in_main = sum(1 for _ in walk.nodes(model.graph))
    operators = Counter(
        f"{node.domain}.{node.op_type}" if node.domain not in {"", "ai.onnx"} else node.op_type
        for node in inside
    )
    return {
        "path": path,
        "format": format_of(path),
        "bytes": Path(path).stat().st_size,
        "ir_version": model.ir_version,
        "opset_imports": {key or "ai.onnx": x for key, x in model.opset_imports.items()},
        "producer": {"name": model.producer_name, "version": model.producer_version},
        "domain": model.domain,
        "model_version": model.model_version,
        "description": model.doc_string,
        "metadata": dict(model.metadata),
        "graph": {"name": model.graph.name, "description": model.graph.doc_string},
        "inputs": [end(value) for value in model.graph.inputs if not value.is_initializer],
        "outputs": [end(value) for value in model.graph.outputs],
        "overridable": [end(value) for value in model.graph.inputs if value.is_initializer],
        "parameters": parameters(model),
        "nodes": {
            "total": len(inside),
            "in_subgraphs": in_main - outermost,
            "in_functions": len(inside) - in_main,
        },
        "operators": dict(operators.most_common()),
        "functions": [
            {
                "domain": function.domain,
                "name": function.name,
                "overload": function.overload,
                "inputs": [value.name for value in function.graph.inputs],
                "outputs": [value.name for value in function.graph.outputs],
                "nodes": sum(1 for _ in walk.nodes(function)),
            }
            for function in model.functions
        ],
        "external_data": external_data(model, path),
        "compiled": compiled(path),
    }


def compiled(path: str) -> dict[str, Any] | None:
    """What the file says of the program in it; None if it is no compiled model."""
    from fornix.format.compiled import is_compiled
    from fornix.runtime.stored.artifact import describe as described

    return described(path) if is_compiled(path) else None


def end(value: Value) -> dict[str, Any]:
    """What is told of an input or output of the model."""
    from fornix.ir.types import type_text

    type_ = value.type
    shape = getattr(type_, "shape", None)
    return {
        "name": value.name,
        "type": type_text(type_),
        "shape": None
        if shape is None
        else [dim if isinstance(dim, int | None) else str(dim) for dim in shape],
        "description": value.doc_string,
    }


def parameters(model: Model) -> dict[str, Any]:
    """How many numbers are stored, in how many bytes, of which dtypes."""
    from math import prod

    from fornix.errors import FornixError
    from fornix.ir import walk

    by_dtype: dict[str, dict[str, int]] = {}
    tensors = unreadable = 0
    for tensor in walk.tensors(model):
        tensors += 1
        try:
            name, size, count = tensor.dtype.name, tensor.nbytes, prod(tensor.shape)
        except FornixError:
            unreadable += 1
            continue
        entry = by_dtype.setdefault(name, {"tensors": 0, "count": 0, "bytes": 0})
        entry["tensors"] += 1
        entry["count"] += count
        entry["bytes"] += size
    ordered = sorted(by_dtype.items(), key=lambda item: -item[1]["bytes"])
    return {
        "count": sum(entry["count"] for entry in by_dtype.values()),
        "bytes": sum(entry["bytes"] for entry in by_dtype.values()),
        "tensors": tensors,
        "unreadable": unreadable,
        "by_dtype": dict(ordered),
    }


def external_data(model: Model, path: str) -> list[dict[str, Any]]:
    """The files beside the model that hold tensors; bytes is None if there is no such file."""
    from pathlib import Path

    from fornix.errors import FornixError
    from fornix.format.beneath import components
    from fornix.format.external import is_external, reference
    from fornix.ir import walk
    from fornix.ir.message_tensor import MessageTensor

    found: dict[str, dict[str, Any]] = {}
    for tensor in walk.tensors(model):
        if not isinstance(tensor, MessageTensor) or not is_external(tensor.message):
            continue
        try:
            location = reference(tensor.message).location
            file = Path(path).absolute().parent.joinpath(*components(location, "external data"))
        except FornixError as error:
            location, file = str(error), None
        size = file.stat().st_size if file is not None and file.is_file() else None
        entry = found.setdefault(location, {"location": location, "bytes": size, "tensors": 0})
        entry["tensors"] += 1
    return list(found.values())


def show(told: dict[str, Any], page: Page, most: int | None) -> None:
    """Print the page; lists longer than ``most`` are cut."""
    from fornix.cli.console import count_text, size_text, styled

    beside = sum(entry["bytes"] or 0 for entry in told["external_data"])
    size = size_text(told["bytes"]) + (f" and {size_text(beside)} beside it" if beside else "")
    page.print(styled(told["path"], "bold") + styled(f"  {size}", "dim"))
    for text in (told["graph"]["name"], told["description"], told["graph"]["description"]):
        if text.strip():
            page.print(styled(text.strip(), "italic"))
    page.print()
    for word, key in (("in", "inputs"), ("out", "outputs"), ("may feed", "overridable")):
        ends = told[key]
        width = max((len(entry["name"]) for entry in ends[:most]), default=0)
        section(page, word, (end_text(entry, width) for entry in ends), len(ends), most)
    page.print()
    for word, text in header_lines(told):
        section(page, word, [styled(text)])
    stored = told["parameters"]
    share = [f"{name} {count_text(x['count'])}" for name, x in stored["by_dtype"].items()]
    lines = [
        styled(f"{stored['count']:,} in {stored['tensors']} tensors, {size_text(stored['bytes'])}")
    ]
    if len(share) > 1 or share[:1] != [f"float32 {count_text(stored['count'])}"]:
        lines += [styled(", ".join(share), "dim")] if share else []
    if stored["unreadable"]:
        lines.append(styled(f"{stored['unreadable']} tensors cannot be read", "bold red"))
    section(page, "parameters", lines)
    show_operators(told, page, most)


def header_lines(told: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Versions and origin, as far as the model says anything."""
    from fornix.cli.console import size_text

    imports = ", ".join(f"{domain} {opset}" for domain, opset in told["opset_imports"].items())
    yield "opsets", f"{imports or 'none'}   (IR version {told['ir_version']}, {told['format']})"
    producer = f"{told['producer']['name']} {told['producer']['version']}".strip()
    if producer:
        yield "made by", producer
    if told["domain"] or told["model_version"]:
        yield "identity", f"{told['domain']} version {told['model_version']}".strip()
    for key, text in told["metadata"].items():
        yield "metadata", f"{key}: {text}"
    if told["compiled"] is not None:
        yield "compiled", compiled_line(told["compiled"])
    for entry in told["external_data"]:
        size = "missing" if entry["bytes"] is None else size_text(entry["bytes"])
        yield "external", f"{entry['location']}: {size}, {entry['tensors']} tensors"


def compiled_line(told: dict[str, Any]) -> str:
    """Whose program it is, for what, and how large."""
    from fornix.cli.console import size_text

    processor = "this processor" if told["is_for_this_processor"] else "another processor"
    vouched = "" if told["is_vouched_for"] else ", of which this user's cache does not know"
    sizes = told["bytes"]
    return (
        f"for {processor} by fornix {told['fornix']}{vouched}: {size_text(sizes['program'])} of "
        f"program, {size_text(sizes['data'])} of packed weights"
    )


def section(
    page: Page, word: str, lines: Iterable[Text], count: int = 0, most: int | None = None
) -> None:
    """Print ``lines`` with ``word`` on the left of the first."""
    from fornix.cli.console import styled

    for place, line in enumerate(lines):
        head = styled((word if place == 0 else "").ljust(FIRST_COLUMN), "dim")
        if most is not None and place == most:
            page.print(head + styled(f"… and {count - most} more; --all shows them", "dim"))
            return
        page.print(head + line)


def end_text(entry: dict[str, Any], width: int) -> Text:
    """An input or output: name and type."""
    from fornix.cli.console import styled

    text = styled(entry["name"].ljust(width + 2), "bold") + styled(entry["type"], "cyan")
    return text + styled(f"  {entry['description']}" if entry["description"] else "", "dim")


def show_operators(told: dict[str, Any], page: Page, most: int | None) -> None:
    """Print nodes and functions, and how often each operator is used."""
    from fornix.cli.console import bar, styled

    nodes, operators = told["nodes"], told["operators"]
    parts = [
        f"{nodes[f'in_{key}']} in {key}" for key in ("subgraphs", "functions") if nodes[f"in_{key}"]
    ]
    extra = f" ({', '.join(parts)})" if parts else ""
    section(page, "nodes", [styled(f"{nodes['total']} of {len(operators)} operators{extra}")])
    functions = [
        styled(
            f"{x['domain']}.{x['name']}({', '.join(x['inputs'])}) => "
            f"({', '.join(x['outputs'])}), {x['nodes']} nodes"
        )
        for x in told["functions"]
    ]
    section(page, "functions", functions, len(functions), most)
    width = max(map(len, operators), default=0)
    page.print()
    lines = (
        styled(f"{name.ljust(width)}  {count:>5}  ")
        + styled(bar(count / max(operators.values()), BAR_WIDTH, page), "cyan")
        for name, count in operators.items()
    )
    section(page, "operators", lines, len(operators), most)
