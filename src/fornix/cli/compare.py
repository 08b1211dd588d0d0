"""``fornix compare``: where and why a model differs from another, an engine, or recorded values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fornix.debug import Comparison


@click.command("compare")
@click.argument("model")
@click.option(
    "--with",
    "other",
    metavar="WHAT",
    required=True,
    help="onnxruntime, reference, another model, or an .npz of values by name.",
)
@click.option(
    "-i",
    "--input",
    "--feeds",
    "inputs",
    metavar="[NAME=]FILE",
    multiple=True,
    help="A feed, as in `fornix run`; repeat it for more.",
)
@click.option(
    "--random",
    "--seed",
    "seed",
    metavar="SEED",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Make up what is not fed.",
)
@click.option(
    "--dim",
    "--shape",
    "dims",
    metavar="NAME=EXTENT",
    multiple=True,
    help="Extent of a named dim; else 1.",
)
@click.option("--atol", type=float, help="Absolute difference that outputs may have.")
@click.option("--rtol", type=float, help="Relative difference that outputs may have.")
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Write the smallest model that shows it: FILE.onnx with FILE.npz, or a folder.",
)
@click.option(
    "--trials", type=click.IntRange(min=1), default=60, show_default=True, help="Runs for that."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def compare_command(
    context: click.Context,
    model: str,
    *,
    other: str,
    inputs: tuple[str, ...],
    seed: int,
    dims: tuple[str, ...],
    atol: float | None,
    rtol: float | None,
    output: str | None,
    trials: int,
    as_json: bool,
) -> None:
    """Run MODEL and something else on the same feeds, and tell where and why they part.

    Looks for the first node whose result, given what it read, is off by more than rounding
    explains; tries what may have caused it; and cuts out the smallest model that shows it. Engines
    (onnxruntime, reference: NumPy kernels) are compared with a session; models and recorded values
    with what MODEL means, which the NumPy kernels compute. Values of another model may have other
    names, and axes in another order.

    Exit code 1 if they differ by more than rounding explains, or than --atol + --rtol · |value|.
    """
    from fornix.cli.command import MODEL
    from fornix.cli.console import echo_json, progress
    from fornix.cli.run import all_feeds
    from fornix.debug import compare
    from fornix.ir.files import load

    loaded = load(model)
    feeds = all_feeds(loaded.graph.inputs, inputs, seed, dims)
    with progress("comparing"):
        found = compare(loaded, other, feeds, atol=atol, rtol=rtol, trials=trials)
    written: tuple[str, ...] = ()
    if output is not None and found.smallest is not None:
        written = found.smallest.save(Path(output))
    if as_json:
        echo_json({"model": model, "with": other, **found.document(), "written": list(written)})
    else:
        tell(found, written)
    if not found.agrees:
        context.exit(MODEL)


def tell(found: Comparison, written: tuple[str, ...]) -> None:
    """Print the report."""
    from fornix.cli.console import Page, styled

    page = Page()
    page.tell(styled(line) for line in str(found).splitlines())
    if written:
        page.say(f"wrote {', '.join(written)}")
