"""``fornix outline``: repeated parts of a model as functions."""

from __future__ import annotations

import click


@click.command("outline")
@click.argument("model")
@click.option("-o", "--output", metavar="FILE", required=True, help="Write the model there.")
@click.option("--least", type=click.IntRange(2), default=4, help="Nodes of a part; default 4.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def outline_command(model: str, output: str, *, least: int, as_json: bool) -> None:
    """Write MODEL with its repeated parts, such as the layers of a network, as functions.

    Weights become inputs of the functions, attributes that differ from one part to another become
    their attributes. Results are the same; `fornix inline` takes it back.
    """
    from fornix.cli.console import progress
    from fornix.cli.written import write
    from fornix.edit import outline
    from fornix.ir.files import load

    with progress("comparing nodes"):
        changed = outline(load(model), least=least)
    write(changed, output, as_json=as_json)
