"""``fornix rename``: other names for values and nodes."""

from __future__ import annotations

import click


@click.command("rename")
@click.argument("model")
@click.argument("names", metavar="[OLD=NEW]…", nargs=-1)
@click.option("--prefix", metavar="TEXT", help="Goes ahead of every name.")
@click.option("-o", "--output", metavar="FILE", required=True, help="Write the model there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rename_command(
    model: str, *, names: tuple[str, ...], prefix: str | None, output: str, as_json: bool
) -> None:
    """Write MODEL with other names for inputs, outputs, weights, other values and nodes.

    What reads a value reads it under its new name, in subgraphs too. --prefix comes after OLD=NEW.
    """
    from fornix import edit
    from fornix.cli.console import progress
    from fornix.cli.written import pairs, write
    from fornix.ir.files import load

    with progress("renaming"):
        renamed = edit.rename(load(model), dict(pairs(names, "rename: old=new")))
        if prefix:
            renamed = edit.prefix(renamed, prefix)
    write(renamed, output, as_json=as_json)
