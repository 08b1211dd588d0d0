"""``fornix ops``: the operators that fornix knows, one of them, or what each of them has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fornix.cli.console import Page
    from fornix.ops.op import Operator


@click.command("ops")
@click.argument("name", required=False)
@click.option("--domain", metavar="D", help="Only operators of this domain, such as ai.onnx.ml.")
@click.option("--matrix", "as_matrix", is_flag=True, help="What each operator has, rule by rule.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ops_command(name: str | None, *, domain: str | None, as_matrix: bool, as_json: bool) -> None:
    """List the operators by family, or explain the one called NAME.

    Of one operator it tells the signature, what the types may be, what it computes, what each
    version changed, and what fornix has of it: inference, kernel, lowering (or body: it is written
    in other operators; or opaque: compiled models call the kernel), adapters between versions,
    documentation.
    """
    from fornix.cli.console import echo_json
    from fornix.cli.examples import told

    chosen = select(name, domain)
    if as_json:
        pages = [page_of(family, operator) for family, operator in chosen]
        if name is not None:
            pages = [
                page | {"example": told(x)} for page, (_, x) in zip(pages, chosen, strict=True)
            ]
        else:
            keys = ("domain", "name", "family", "newest", "summary", "support")
            pages = [{key: page[key] for key in keys} for page in pages]
        echo_json({"operators": pages})
    elif as_matrix:
        show_matrix(chosen)
    elif name is None:
        show_list(chosen)
    else:
        for family, operator in chosen:
            show_page(page_of(family, operator) | {"example": told(operator)})


def select(name: str | None, domain: str | None) -> list[tuple[str, Operator]]:
    """The operators asked for, each with its family; case does not matter.

    Raises InvalidArgument if there is none.
    """
    from difflib import get_close_matches

    from fornix.errors import InvalidArgument
    from fornix.ops import CONTRIBUTED
    from fornix.ops.matrix import families

    wanted = "" if domain == "ai.onnx" else domain
    known = [(family, x) for family, members in families().items() for x in members]
    names = {operator.name.lower() for _, operator in known}
    if wanted in CONTRIBUTED or (wanted is None and name and name.lower() not in names):
        others = [families(other) for other in CONTRIBUTED if wanted in {None, other}]
        known += [(family, x) for table in others for family, found in table.items() for x in found]
    domains = ", ".join(dict.fromkeys(operator.domain or "ai.onnx" for _, operator in known))
    known = [item for item in known if wanted is None or item[1].domain == wanted]
    if not known:
        raise InvalidArgument(
            f"--domain: a domain that has operators ({domains}) is required, found '{domain}'"
        )
    if name is None:
        return known
    chosen = [item for item in known if item[1].name.lower() == name.lower()]
    exact = [item for item in chosen if item[1].name == name]
    if not chosen:
        lower = {operator.name.lower(): operator.name for _, operator in known}
        close = get_close_matches(name.lower(), lower, 1)
        hint = f"; did you mean '{lower[close[0]]}'?" if close else ""
        raise InvalidArgument(f"the name of an operator is required, found '{name}'{hint}")
    return exact or chosen


def page_of(family: str, operator: Operator) -> dict[str, Any]:
    """Everything told of ``operator``."""
    from fornix.cli.history import changelog, signature_text, types_text
    from fornix.ops.descriptions import parameters_of
    from fornix.ops.matrix import description, row

    newest = operator.schemas[-1]
    text = description(operator).replace("`", "")
    cells = row(operator)
    return {
        "domain": operator.domain or "ai.onnx",
        "name": operator.name,
        "family": family,
        "newest": newest.since_version,
        "deprecated": newest.is_deprecated,
        "signature": signature_text(newest),
        "parameters": parameters_of(newest),
        "types": {key: sorted(types.members) for key, types in newest.constraints.items()},
        "types_in_short": {key: types_text(x) for key, x in newest.constraints.items()},
        "summary": text.partition("\n")[0],
        "description": text,
        "history": [{"version": x.version, "changes": list(x.notes)} for x in changelog(operator)],
        "support": {column: cell.text for column, cell in cells.items()},
        "reasons": {column: cell.reason for column, cell in cells.items() if cell.reason},
    }


def show_page(told: dict[str, Any]) -> None:
    """Print what is told of one operator."""
    from fornix.cli.console import Page, styled, table

    page = Page()
    versions = [change["version"] for change in told["history"]]
    since = ", ".join(map(str, reversed(versions)))
    page.print(styled(told["name"], "bold cyan") + styled(f"  {told['domain']}, versions {since}"))
    if told["deprecated"]:
        page.print(styled(f"deprecated since opset {told['newest']}", "bold yellow"))
    page.print(styled(f"\n{told['description']}" if told["description"] else ""))
    heading = dict.fromkeys([" version", " change"], "left")
    page.print(styled("\nsignature", "bold"))
    head, arrow, outputs = told["signature"].rpartition(" => ")
    page.print(styled(f"  {head}\n   {arrow}{outputs}"))
    for name, types in told["types_in_short"].items():
        page.print(styled(f"  {name}", "cyan") + styled(f": {types}"))
    page.print(styled("\nparameters", "bold"))
    rows: list[list[Any]] = [
        [styled(f"  {name}", "cyan"), text] for name, text in told["parameters"].items()
    ]
    page.tell(table(dict.fromkeys([" parameter", " is"], "left"), rows))
    show_example(told["example"], page)
    page.print(styled("\nhistory", "bold"))
    rows = [
        [styled(f"  {change['version']}", "cyan"), "; ".join(change["changes"])]
        for change in told["history"]
    ]
    page.tell(table(heading, rows))
    page.print(styled("\nsupport", "bold"))
    rows = [[f"  {column}", mark(text)] for column, text in told["support"].items()]
    page.tell(table(heading, rows))
    for column, reason in told["reasons"].items():
        page.print(styled(f"  {told['support'][column]}: {reason}", "dim"))


def show_example(example: Mapping[str, str], page: Page) -> None:
    """Print a model, what goes in, what comes out; nothing if there is no example."""
    from fornix.cli.console import styled

    if not example["model"]:
        return
    page.print(styled("\nexample", "bold"))
    page.print(styled(indented(example["model"])))
    if example["inputs"]:
        page.print(styled("  on", "dim"))
        page.print(styled(indented(example["inputs"]), "cyan"))
    page.print(styled("  gives", "dim"))
    page.print(styled(indented(example["outputs"]), "green"))


def indented(text: str) -> str:
    """``text`` two columns to the right."""
    return "\n".join(f"  {line}" for line in text.splitlines())


def mark(text: str) -> Any:
    """A cell of the matrix, coloured."""
    from fornix.cli.console import styled

    if not text:
        return styled("none", "red")
    return styled(text, "yellow" if text == "missing" else "green")


def show_list(chosen: list[tuple[str, Operator]]) -> None:
    """Print the operators, a line each, under the names of their families."""
    from fornix.cli.console import Page, styled, table

    page = Page()
    rows: list[list[Any]] = []
    last = ""
    for family, operator in chosen:
        if family != last:
            rows.append([styled(family, "bold"), "", ""])
            last = family
        told = page_of(family, operator)
        rows.append([styled(f"  {operator.name}", "cyan"), str(told["newest"]), told["summary"]])
    headers = {"operator": "left", "opset": "right", "what it computes": "left"}
    page.tell(table(headers, rows))
    page.say(f"{len(chosen)} operators; `fornix ops NAME` tells more of one")


def show_matrix(chosen: list[tuple[str, Operator]]) -> None:
    """Print which rules each operator has."""
    from fornix.cli.console import Page, styled, table
    from fornix.ops.matrix import COLUMNS, row

    rows = []
    full = dict.fromkeys(COLUMNS, 0)
    reasons: dict[tuple[str, str], list[str]] = {}
    for _, operator in chosen:
        cells = row(operator)
        name = f"{operator.domain}.{operator.name}" if operator.domain else operator.name
        rows.append([styled(name, "cyan"), *(mark(cells[column].text) for column in COLUMNS)])
        for column in COLUMNS:
            full[column] += cells[column].is_full
            if cells[column].reason:
                reasons.setdefault((cells[column].text, cells[column].reason), []).append(name)
    rows.append(["complete", *(f"{full[column]} of {len(chosen)}" for column in COLUMNS)])
    page = Page()
    page.tell(table(dict.fromkeys(["operator", *COLUMNS], "left"), rows))
    for (word, reason), names in reasons.items():
        page.print(styled(f"{word}, since {reason}: ", "dim") + styled(", ".join(names)))
