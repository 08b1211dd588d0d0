"""``fornix run``: a model on files or on chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.text import Text

    from fornix.ir.graph import Value


@click.command("run")
@click.argument("model")
@click.option(
    "-i",
    "--input",
    "inputs",
    metavar="[NAME=]FILE",
    multiple=True,
    help="A feed; repeat it for more. See above for the kinds of files.",
)
@click.option(
    "--random", "seed", metavar="SEED", type=click.IntRange(min=0), help="Make up what is not fed."
)
@click.option(
    "--dim", "dims", metavar="NAME=EXTENT", multiple=True, help="Extent of a named dim; else 1."
)
@click.option("-o", "--output", metavar="FILE", help="Write the outputs there: .npz, .npy.")
@click.option("--profile", is_flag=True, help="Tell where the time goes, kernel by kernel.")
@click.option("--trace", metavar="FILE", help="Write the profile as a Chrome trace; profiles.")
@click.option(
    "--repeats", type=click.IntRange(min=1), default=10, show_default=True, help="Profiled runs."
)
@click.option("--trust", is_flag=True, help="Run the code in a compiled model from elsewhere.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads; else all that are granted.")
@click.option("--all", "everything", is_flag=True, help="Do not cut the table of the profile.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run_command(
    model: str,
    *,
    inputs: tuple[str, ...],
    seed: int | None,
    dims: tuple[str, ...],
    output: str | None,
    profile: bool,
    trace: str | None,
    repeats: int,
    trust: bool,
    threads: int | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Run MODEL once and tell what comes out.

    FILE is .npy, .npz, .json, .pb (a TensorProto) or a picture. NAME may be left out if the model
    has one input, or if the file is an .npz or a JSON object with feeds by name. JSON is nested
    lists and takes the declared element type; it may also stand in place of FILE, as in
    --input 'x=[[1, 2]]'.

    Pictures need Pillow (pip install 'fornix[images]'). They are turned upright as their EXIF data
    says; made grey if the input declares 1 channel and RGB otherwise, transparency dropped; resized
    bilinearly to the declared height and width, proportions not kept, or left as large as they are
    where these are symbolic and not set by --dim; laid out as [N, C, H, W] if the channels can
    stand there, else as [N, H, W, C] ([C, H, W], [H, W, C] and [H, W] likewise). Float inputs get
    values from 0 to 1, uint8 inputs from 0 to 255; nothing else is normalized. Several pictures for
    one input are a batch.

    --random SEED feeds what --input does not: floats are normal (mean 0, deviation 1), integers of
    32 and 64 bits 0 or 1, narrower ones anything, strings words. Equal seeds give equal feeds.

    The table shows min, mean and max of the finite elements.

    --profile runs compiled code some times, stopping between kernels, and tells how long each
    takes, its arithmetic, the memory that it reads and writes, and how near that is to the best
    that this machine does, which is measured at the same time. --trace writes it for
    chrome://tracing and ui.perfetto.dev.
    """
    from fornix.cli.console import echo_json

    repeats *= bool(profile or trace)
    wish = Wish(inputs, seed, dims, output, threads or 0, trace, repeats, trust=trust)
    told = run(model, wish)
    if as_json:
        echo_json(told)
        return
    tell(told["outputs"], told["seconds"], output)
    if told["profile"] is not None:
        from fornix.cli.profile import tell_profile

        tell_profile(told["profile"], trace, everything=everything)


@dataclass(frozen=True)
class Wish:
    """What the command line asks of a run."""

    inputs: Sequence[str]
    seed: int | None
    dims: Sequence[str]
    output: str | None
    threads: int
    trace: str | None
    repeats: int
    """Profiled runs; 0 without a profile."""
    trust: bool = False
    """Whether a compiled model from elsewhere may run its code."""


def run(model: str, wish: Wish) -> dict[str, Any]:
    """What a run of ``model`` took, gave and needed; results and trace go to files."""
    from time import perf_counter

    from fornix.cli.console import progress
    from fornix.cli.profile import profiled
    from fornix.cli.results import summary, write
    from fornix.errors import FornixError
    from fornix.format.compiled import is_compiled
    from fornix.ir.files import load
    from fornix.runtime import InferenceSession, SessionOptions

    with progress("loading"):
        begin = perf_counter()
        loaded = load(model)
        options = SessionOptions(intra_op_num_threads=wish.threads)
        source = model if is_compiled(model) else loaded
        session = InferenceSession(source, options, trust=wish.trust)
        load_seconds = perf_counter() - begin
    feeds = all_feeds(loaded.graph.inputs, wish.inputs, wish.seed, wish.dims)
    with progress("running"):
        begin = perf_counter()
        try:
            results = session.run(None, feeds)
        except FornixError as error:
            error.with_remedy(remedy(loaded.graph.inputs, wish))
            raise
        seconds = perf_counter() - begin
    named = dict(zip((value.name for value in session.get_outputs()), results, strict=True))
    if wish.output is not None:
        write(wish.output, named)
    profile = None
    if wish.repeats:
        with progress("profiling"):
            profile = profiled(session, feeds, wish.repeats, model, wish.trace)
    return {
        "model": model,
        "load_seconds": load_seconds,
        "seconds": seconds,
        "inputs": [entry for name, feed in feeds.items() for entry in summary(name, feed)],
        "outputs": [entry for name, result in named.items() for entry in summary(name, result)],
        "written": wish.output,
        "profile": profile,
    }


def all_feeds(
    values: Sequence[Value], inputs: Sequence[str], seed: int | None, dims: Sequence[str]
) -> dict[str, Any]:
    """A feed for every input that must have one; raises InvalidArgument if one is missing."""
    import numpy as np

    from fornix.cli.chance import random_feed
    from fornix.cli.dims import Dims
    from fornix.cli.feeds import read_feeds
    from fornix.errors import InvalidArgument

    required = [value for value in values if not value.is_initializer]
    extents = Dims.of(dims, values)
    by_name = {value.name: value for value in values}
    feeds = read_feeds(inputs, by_name, [value.name for value in required], extents)
    missing = [value for value in required if value.name not in feeds]
    if missing and seed is None:
        wanted = ", ".join(f"{value.name}: {value.type}" for value in missing)
        raise InvalidArgument(
            f"every input must be fed, found nothing for {wanted}; "
            "pass --input NAME=FILE or --random SEED"
        )
    # Each input has a stream of its own: feeding one leaves the others as they are.
    streams = {value.name: np.random.default_rng([seed or 0, i]) for i, value in enumerate(values)}
    return feeds | {x.name: random_feed(x, extents, streams[x.name]) for x in missing}


def remedy(values: Sequence[Value], wish: Wish) -> str:
    """What may help where a run with made-up feeds fails; nothing if all dims were given."""
    from fornix.cli.dims import Dims

    unset = [] if wish.seed is None else Dims.of(wish.dims, values).unset(values)
    each = ", ".join(f"{name}=1" for name in unset)
    return f"feeds were made up with {each}; --dim sets others" if each else ""


def tell(results: Sequence[dict[str, Any]], seconds: float, output: str | None) -> None:
    """Print the table of results, and how long they took."""
    from fornix.cli.console import Page, number_text, styled, table, time_text

    has_inf = any(entry["inf"] for entry in results)
    headers = dict.fromkeys(["output", "type"], "left")
    headers |= dict.fromkeys(["min", "mean", "max", "NaN"], "right")
    headers |= {"inf": "right"} if has_inf else {}
    rows: list[list[str | Text]] = [
        [
            styled(entry["name"], "bold"),
            styled(entry["type"], "cyan"),
            *(number_text(entry[key]) for key in ("min", "mean", "max")),
            styled(entry["nan"], "bold red" if entry["nan"] else ""),
            *([styled(entry["inf"], "bold red")] if has_inf else []),
            first_text(entry),
        ]
        for entry in results
    ]
    page = Page()
    page.tell(table({**headers, "first values": "left"}, rows))
    page.say(f"ran in {time_text(seconds)}", *([f"and wrote {output}"] if output else []))


def first_text(entry: dict[str, Any]) -> str:
    """The first elements of a result, with dots if there are more."""
    from math import prod

    from fornix.cli.console import number_text

    text = repr if entry["dtype"] == "string" else number_text
    shown = [text(x) for x in entry["first"]]
    more = prod(entry["shape"]) > len(shown)
    return ", ".join(shown) + (", …" if more else "")
