"""``fornix compile``: a model and its machine code in one file, which loads in milliseconds."""

from __future__ import annotations

from typing import Any

import click

LEVELS = ("none", "basic", "extended", "all")


@click.command("compile")
@click.argument("model")
@click.option("-o", "--output", metavar="FILE", required=True, help="Write the file there: .fnx.")
@click.option("--level", type=click.Choice(LEVELS), default="all", help="How much; default all.")
@click.option(
    "--dim", "dims", metavar="NAME=EXTENT", multiple=True, help="Make a named dim this number."
)
@click.option(
    "--serve",
    "served",
    metavar="NAME=EXTENT,…",
    multiple=True,
    help="Extents that are known to be served; repeat it for more.",
)
@click.option("--strict", is_flag=True, help="Leave out algorithms that round more.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compile_command(
    model: str,
    output: str,
    *,
    level: str,
    dims: tuple[str, ...],
    served: tuple[str, ...],
    strict: bool,
    as_json: bool,
) -> None:
    """Compile MODEL for this processor, and write both to FILE, which sessions take as a model.

    FILE holds the model with all of its data, the program that became of it, its machine code, and
    the weights in the order in which the code reads them, which are mapped and not copied. Sessions
    run the code if it was compiled by this user on this machine and is for their options; else they
    compile the model in it, and say why. trust=True runs code from elsewhere.

    The program serves all extents. But where operators such as Resize have to be asked whether it
    does, the model is compiled for the answer when new ones occur; --serve asks them now.
    """
    from fornix.cli.console import Page, echo_json, progress, size_text, time_text

    with progress("compiling"):
        told = compiled(model, output, level, dims, served, strict=strict)
    if as_json:
        echo_json(told)
        return
    sizes = told["bytes"]
    code = size_text(sizes["program"])
    weights = f"{size_text(sizes['model'])} of model, {size_text(sizes['data'])} of packed weights"
    page = Page()
    page.say(output, f"has {code} of program, {weights}; took {time_text(told['seconds'])}")


def compiled(
    model: str,
    output: str,
    level: str,
    dims: tuple[str, ...],
    served: tuple[str, ...],
    *,
    strict: bool,
) -> dict[str, Any]:
    """Write the file; what is told of it."""
    from time import perf_counter

    from fornix.cli.dims import Dims
    from fornix.ir.files import load
    from fornix.runtime import SessionOptions
    from fornix.runtime.stored.compiling import compile_model

    begin = perf_counter()
    source = load(model)
    options = SessionOptions(graph_optimization_level=level)
    for name, extent in Dims.of(dims, source.graph.inputs).given.items():
        options.add_free_dimension_override_by_name(name, extent)
    if strict:
        options.add_session_config_entry("fornix.strict_accuracy", "1")
    extents = [Dims.of(text.split(","), source.graph.inputs).given for text in served]
    sizes = compile_model(source, output, options, extents=extents)
    seconds = perf_counter() - begin
    return {"model": model, "written": output, "seconds": seconds, "bytes": sizes}
