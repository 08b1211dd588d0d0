"""``fornix merge``: two models as one, the second behind the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fornix.ir.graph import Model


@click.command("merge")
@click.argument("first")
@click.argument("second")
@click.option(
    "--link",
    "links",
    metavar="OUT=IN",
    multiple=True,
    help="An output of FIRST and the input of SECOND that it becomes.",
)
@click.option("--prefix", metavar="TEXT", help="Goes ahead of every name in SECOND.")
@click.option("-o", "--output", metavar="FILE", required=True, help="Write the model there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def merge_command(
    first: str,
    second: str,
    *,
    links: tuple[str, ...],
    prefix: str | None,
    output: str,
    as_json: bool,
) -> None:
    """Write a model that runs FIRST, then SECOND on its results.

    Without --link, outputs become the inputs of the same name or, if no name is in both, one after
    the other. What is not linked stays an input or output. Names must be in one model only;
    --prefix sees to that.
    """
    from fornix import edit
    from fornix.cli.console import progress
    from fornix.cli.written import pairs, write
    from fornix.ir.files import load

    with progress("merging"):
        models = load(first), load(second)
        named = pairs(links, "--link: output=input") or by_name(*models)
        if prefix:
            models = models[0], edit.prefix(models[1], prefix)
            named = [(out, prefix + into) for out, into in named]
        merged = edit.merge(*models, named)
    write(merged, output, as_json=as_json)


def by_name(first: Model, second: Model) -> list[tuple[str, str]]:
    """Links between what has one name or, if there is none, between what has one place."""
    made = [value.name for value in first.graph.outputs]
    read = [value.name for value in second.graph.inputs if not value.is_initializer]
    same = [(name, name) for name in made if name in read]
    return same or list(zip(made, read, strict=False))
