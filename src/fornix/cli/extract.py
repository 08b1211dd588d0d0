"""``fornix extract``: a part of a model as a model of its own."""

from __future__ import annotations

import click


@click.command("extract")
@click.argument("model")
@click.option("--from", "inputs", metavar="NAME", multiple=True, help="A value to begin at.")
@click.option("--to", "outputs", metavar="NAME", multiple=True, help="A value to end at.")
@click.option("-o", "--output", metavar="FILE", required=True, help="Write the part there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def extract_command(
    model: str, *, inputs: tuple[str, ...], outputs: tuple[str, ...], output: str, as_json: bool
) -> None:
    """Write the part of MODEL between some of its values to a file.

    Both options may be given several times, and name inputs, outputs or results of nodes. Without
    --from the part begins at those inputs of MODEL that it needs, without --to it ends at its
    outputs. Weights and model functions come along as far as they are needed.
    """
    from fornix.cli.console import progress
    from fornix.cli.written import write
    from fornix.edit import extract
    from fornix.infer import annotate, infer_model
    from fornix.ir.files import load

    with progress("extracting"):
        source = load(model)
        annotate(source, infer_model(source))
        ends = outputs or [value.name for value in source.graph.outputs]
        part = extract(source, inputs or None, ends)
    write(part, output, as_json=as_json)
