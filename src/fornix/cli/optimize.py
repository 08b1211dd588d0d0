"""``fornix optimize``: a model that computes the same with less work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fornix.cli.console import Page
    from fornix.passes import Step

LEVELS = ("none", "basic", "extended", "all")


@click.command("optimize")
@click.argument("model")
@click.option("-o", "--output", metavar="FILE", required=True, help="Write the model there.")
@click.option("--level", type=click.Choice(LEVELS), default="all", help="How much; default all.")
@click.option("--opset", type=int, help="Raise the opset to this, if nothing changes meaning.")
@click.option("--inline", is_flag=True, help="Replace calls of model functions by their bodies.")
@click.option("--explain", is_flag=True, help="Tell what each pass did, and how often.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def optimize_command(
    model: str,
    output: str,
    *,
    level: str,
    opset: int | None,
    inline: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Write MODEL so that it computes the same with less work.

    Constants and computed shapes are folded, dead and repeated nodes removed, BatchNormalization
    and factors folded into weights, and the spellings of GELU, normalizations and attention fused
    into operators of the standard, as far as the model's opset has them. The result runs anywhere.

    Level basic keeps results up to the rounding of weights; extended and all also fuse.
    """
    from fornix.cli.console import Page, echo_json, progress
    from fornix.ir.files import load, save
    from fornix.passes import optimize_explained

    with progress("optimizing"):
        source = load(model)
        optimized, steps = optimize_explained(source, level, opset=opset, inline=inline)
        save(optimized, output)
    before = steps[0].nodes_before if steps else len(source.graph.nodes)
    after = steps[-1].nodes_after if steps else before
    if as_json:
        told = {"model": model, "written": output, "level": level}
        imports = dict(optimized.opset_imports)
        counts = {"nodes_before": before, "nodes_after": after, "opset_imports": imports}
        echo_json({**told, **counts, "passes": [_as_json(step) for step in steps]})
        return
    page = Page()
    if explain:
        _explain(steps, page)
    page.say(output, f"has {after} nodes of {before}")


def _as_json(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "changes": dict(step.changes),
        "nodes_before": step.nodes_before,
        "nodes_after": step.nodes_after,
        "seconds": step.seconds,
    }


def _explain(steps: list[Step], page: Page) -> None:
    """A table with a line for each thing that a pass did."""
    from fornix.cli.console import table, time_text

    rows = []
    for step in steps:
        name, nodes, took = step.name, str(step.nodes_after), time_text(step.seconds)
        for what, count in step.changes.most_common() or [("", 0)]:
            rows.append([name, what, str(count) if count else "", nodes, took])
            name = nodes = took = ""
    headers = {"pass": "left", "what": "left", "times": "right", "nodes left": "right"}
    page.tell(table({**headers, "took": "right"}, rows))
