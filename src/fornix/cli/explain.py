"""``fornix explain``: what becomes of a model when a session is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.text import Text

    from fornix.cli.console import Page
    from fornix.runtime.reports.explain import Explanation, Fate, Unit

MANY = 60
"""Units up to which each has a line of its own."""

COMPILER = "compiler"
"""What is told in place of a pass where the compiler has no use for a node."""

WORDS = {
    "fold_constants": "computed ahead, with what only depends on stored data and known extents",
    "eliminate_dead": "read by nobody",
    "eliminate_common": "the same as others",
    "canonicalize": "changed nothing, or others say the same",
    "inline_branches": "in branches that are never taken",
    "push_transposes": "cancelled each other",
    "cancel_splits": "cancelled each other",
    "eliminate_stored": "only copied stored data",
    "": "what they give is known before a run",
}
"""Why nodes are gone, by the pass that they fell to."""


@click.command("explain")
@click.argument("model")
@click.option("--node", metavar="NAME", help="Tell only what became of this node.")
@click.option("--level", metavar="LEVEL", help="How much is optimized: none, basic, extended, all.")
@click.option("--all", "everything", is_flag=True, help="Do not cut long lists.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain_command(
    model: str, *, node: str | None, level: str | None, everything: bool, as_json: bool
) -> None:
    """Tell what a session makes of MODEL: passes, kernels, and what runs in NumPy.

    Every node of the model is part of a unit: nodes that became one group of kernels, or one node
    that runs its NumPy kernel, with the reason. Or it is gone, and the pass is told that made it
    superfluous. Units are told in the order in which they run.
    """
    from fornix.cli.console import Page, echo_json, progress
    from fornix.ir.files import load
    from fornix.runtime import SessionOptions
    from fornix.runtime.providers import check_machine_code

    check_machine_code("fornix explain")
    from fornix.runtime.reports.explain import explain, fates_of

    with progress("compiling"):
        found = explain(load(model), SessionOptions(graph_optimization_level=level))
    if as_json:
        echo_json(as_told(model, found))
    elif node is not None:
        tell_fates(fates_of(found, node), found, Page())
    else:
        tell(model, found, Page(), None if everything else MANY)


def as_told(model: str, found: Explanation) -> dict[str, Any]:
    """Everything that is told, for programs."""
    from fornix.runtime.reports.explain import origins_of

    origins = origins_of(found)
    return {
        "model": model,
        "nodes_before": found.nodes_before,
        "nodes_after": found.nodes_after,
        "optimize_seconds": found.optimize_seconds,
        "compile_seconds": found.compile_seconds,
        "passes": [
            {"name": step.name, "changes": dict(step.changes), "nodes_after": step.nodes_after}
            for step in found.steps
        ],
        "units": [
            {
                "number": unit.number,
                "provider": unit.provider,
                "reason": unit.reason,
                "nodes": [{"name": n.name, "op_type": n.op_type} for n in unit.nodes],
                "origins": [origin.name for origin in origins[unit.number]],
                "results": [{"name": name, "type": type_} for name, type_ in unit.results],
                "kernels": [
                    {
                        "name": kernel.name,
                        "kind": kernel.kind,
                        "results": list(kernel.results),
                        "chunks": str(kernel.chunks),
                        "ahead": kernel.is_ahead,
                    }
                    for kernel in unit.kernels
                ],
            }
            for unit in found.units
        ],
        "nodes": [
            {
                "name": fate.origin.name,
                "op_type": fate.origin.op_type,
                "units": list(fate.units),
                "lost_in": fate.lost_in,
            }
            for fate in found.fates
        ],
    }


def tell(model: str, found: Explanation, page: Page, most: int | None) -> None:
    """Print the page."""
    from fornix.cli.console import styled, time_text

    islands = [unit for unit in found.units if not unit.kernels and not unit.inside]
    page.print(styled(model, "bold"))
    page.say(
        f"{found.nodes_before} nodes, {found.nodes_after} after optimization "
        f"({time_text(found.optimize_seconds)}): {counted(found.units)}"
        f" ({time_text(found.compile_seconds)} to compile or to load)"
    )
    tell_passes(found, page)
    tell_gone(found, page)
    tell_units(found, page, most)
    tell_islands(islands, page)


def counted(units: Sequence[Unit]) -> str:
    """How many kernels there are, and how many units of each sort."""
    native = [unit for unit in units if unit.kernels]
    kernels = sum(not kernel.is_ahead for unit in native for kernel in unit.kernels)
    parts = [f"{kernels} kernels in {len(native)} unit{'' if len(native) == 1 else 's'}"]
    driving = sum(1 for unit in units if not unit.kernels and unit.inside)
    rest = len(units) - len(native) - driving
    if driving:
        parts.append(f"{driving} that drive{'s its' if driving == 1 else ''} bodies")
    if rest:
        parts.append(f"{rest} that run{'s' if rest == 1 else ''} in NumPy")
    return ", and ".join(parts)


def heading(page: Page, text: str) -> None:
    """Print a line that begins a part of the page."""
    from fornix.cli.console import styled

    page.print(styled(f"\n{text}", "bold"))


def tell_passes(found: Explanation, page: Page) -> None:
    """Print what each pass did that did anything."""
    from fornix.cli.console import styled, table

    rows: list[list[str | Text]] = []
    for step in found.steps:
        name, left = step.name, str(step.nodes_after)
        for what, count in step.changes.most_common():
            rows.append([styled(f"  {name}", "cyan"), what, str(count), left])
            name = left = ""
    if rows:
        heading(page, "what passes did")
        headers = {"  pass": "left", "what": "left", "times": "right", "nodes left": "right"}
        page.tell(table(headers, rows))


def tell_gone(found: Explanation, page: Page) -> None:
    """Print how many nodes are part of nothing, and why."""
    from collections import Counter

    from fornix.cli.console import styled

    by_pass: dict[str, Counter[str]] = {}
    for fate in found.fates:
        if not fate.units:
            by_pass.setdefault(fate.lost_in, Counter())[fate.origin.op_type] += 1
    if not by_pass:
        return
    heading(page, "nodes that are gone")
    for name, operators in by_pass.items():
        told = ", ".join(f"{count} {op_type}" for op_type, count in operators.most_common())
        why = WORDS.get(name, "superfluous")
        page.print(styled(f"  {name or COMPILER}", "cyan") + styled(f"  {why}: {told}"))


def tell_units(found: Explanation, page: Page, most: int | None) -> None:
    """Print the units in the order in which they run."""
    from fornix.cli.console import styled, table
    from fornix.runtime.reports.explain import origins_of

    origins = origins_of(found)
    rows: list[list[str | Text]] = []
    for unit in found.units[:most]:
        names = ", ".join(origin.name for origin in origins[unit.number])
        rows.append(
            [
                f"{unit.number}",
                styled("+".join(node.op_type for node in unit.nodes), "cyan"),
                styled(loops_of(unit), "" if unit.kernels else "yellow"),
                " ".join(type_ for _, type_ in unit.results),
                names,
            ]
        )
    heading(page, "what runs, in this order")
    headers = {"": "right", "operators": "left", "loops": "left", "results": "left"}
    page.tell(table({**headers, "nodes": "left"}, rows))
    if any(kernel.is_ahead for unit in found.units for kernel in unit.kernels):
        page.print(styled("packed: weights are arranged once, when a session is made", "dim"))
    if any(unit.inside for unit in found.units if not unit.kernels):
        told = "bodies: compiled where they can be, as shapes repeat; one native call if all is"
        page.print(styled(told, "dim"))
    if most is not None and len(found.units) > most:
        page.say(f"… and {len(found.units) - most} more; --all shows them")


def loops_of(unit: Unit) -> str:
    """How the kernels of ``unit`` run, in order, those alike in a row as one."""
    from itertools import groupby

    if not unit.kernels:
        return "bodies" if unit.inside else "NumPy"
    kinds = [kernel.kind for kernel in unit.kernels if not kernel.is_ahead]
    counts = [(kind, sum(1 for _ in alike)) for kind, alike in groupby(kinds)]
    told = ", ".join(kind if count == 1 else f"{kind} ×{count}" for kind, count in counts)
    is_packed = any(kernel.is_ahead for kernel in unit.kernels)
    return f"{told}; packed" if is_packed else told


def tell_islands(islands: Sequence[Unit], page: Page) -> None:
    """Print why nodes run in NumPy."""
    from fornix.cli.console import styled

    reasons: dict[str, list[Unit]] = {}
    for unit in islands:
        reasons.setdefault(unit.reason, []).append(unit)
    if reasons:
        heading(page, "why NumPy")
    for reason, units in reasons.items():
        told = ", ".join(f"{unit.nodes[0].op_type} {unit.nodes[0].name}" for unit in units)
        page.print(styled(f"  {reason}: ", "yellow") + styled(told))


def tell_fates(fates: Sequence[Fate], found: Explanation, page: Page) -> None:
    """Print what became of some nodes."""
    from fornix.cli.console import styled

    units: Mapping[int, Unit] = {unit.number: unit for unit in found.units}
    for fate in fates:
        page.print(styled(fate.origin.name, "bold") + styled(f"  {fate.origin.op_type}", "cyan"))
        if not fate.units:
            page.say(
                f"  gone in {fate.lost_in or COMPILER}: {WORDS.get(fate.lost_in, 'superfluous')}"
            )
        for number in fate.units:
            unit = units[number]
            operators = "+".join(node.op_type for node in unit.nodes)
            page.say(f"  part of unit {number}, {operators}: {loops_of(unit)}")
            for name, type_ in unit.results:
                page.say(f"  which gives {name or 'a value without a name'}: {type_}")
            if unit.reason and not unit.inside:
                page.say(f"  in NumPy because {unit.reason}")
