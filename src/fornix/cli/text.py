"""``fornix text``: a model in ONNX text notation."""

from __future__ import annotations

import click


@click.command("text")
@click.argument("model")
@click.option("-o", "--output", metavar="FILE", help="Write there, not to stdout.")
@click.option("--short", is_flag=True, help="Graphs and shapes only, weights by their outline.")
@click.option(
    "--elide",
    metavar="N",
    type=click.IntRange(0),
    help="Leave out tensors of more than N elements.",
)
@click.option("--json", "as_json", is_flag=True, help="The model in ONNX's JSON form.")
def text_command(
    model: str, output: str | None, *, short: bool, elide: int | None, as_json: bool
) -> None:
    """Print MODEL in ONNX text notation.

    The text holds every weight and can be read back by any command; --short is for people only, and
    so is what --elide leaves out. A FILE that ends in .onnx or .pb gets the model itself: so text
    becomes a model again.
    """
    from pathlib import Path

    from fornix.cli.command import printable
    from fornix.cli.console import progress
    from fornix.format.files import FORMATS, JSON, PROTOBUF, TEXT, encode, read_model, write_model
    from fornix.format.text import print_model
    from fornix.ir.files import load

    with progress("printing"):
        if output is not None and Path(output).suffix in FORMATS[PROTOBUF]:
            write_model(read_model(model, load_external_data=False), output)
            return
        if short:
            text = printable(str(load(model)))
        elif elide is not None and not as_json:
            message = read_model(model, load_external_data=False)
            text = printable(print_model(message, elide=elide, exact=False))
        else:
            message = read_model(model, load_external_data=False)
            text = encode(message, JSON if as_json else TEXT).decode()
    if output is None:
        click.echo(text.rstrip("\n"))
    else:
        Path(output).write_text(text.rstrip("\n") + "\n", encoding="utf-8")
