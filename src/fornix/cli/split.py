"""``fornix split`` and ``fornix join``: weights in a file beside the model, and back in it."""

from __future__ import annotations

import click


@click.command("split")
@click.argument("model")
@click.option("-o", "--output", metavar="FILE", required=True, help="Write the model there.")
@click.option(
    "--data",
    metavar="NAME",
    help="The file beside it for the weights; default FILE.data. NAME.safetensors makes it one.",
)
@click.option("--least", metavar="BYTES", type=click.IntRange(0), default=1024,
              help="Tensors of fewer bytes stay in the model; default 1024.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def split_command(model: str, output: str, *, data: str | None, least: int, as_json: bool) -> None:
    """Write MODEL without its weights, and these to a file beside it.

    The model refers to the file as ONNX's external data, whatever its format: what reads ONNX finds
    the weights, and of a safetensors file other software, too, by their names.
    """
    from pathlib import Path

    from fornix.cli.console import progress
    from fornix.cli.written import write
    from fornix.ir.files import load

    name = data or f"{Path(output).name}.data"
    with progress("splitting"):
        source = load(model)
    write(source, output, as_json=as_json, external_data=name, threshold=least)


@click.command("join")
@click.argument("model")
@click.option("-o", "--output", metavar="FILE", required=True, help="Write the model there.")
@click.option("--weights", metavar="FILE", help="A safetensors file to take weights from.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def join_command(model: str, output: str, *, weights: str | None, as_json: bool) -> None:
    """Write MODEL with all of its data in one file.

    With --weights, initializers get what a safetensors file has under their names, which must be of
    the same type; others stay as they are.
    """
    from fornix.cli.console import progress
    from fornix.cli.written import write
    from fornix.edit import load_weights
    from fornix.ir.files import load

    with progress("joining"):
        source = load(model)
        joined = source if weights is None else load_weights(source, weights)
    write(joined, output, as_json=as_json)
