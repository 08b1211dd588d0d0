"""``fornix bench``: how fast a model runs here, beside other engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import numpy as np
    from rich.text import Text

    from fornix.cli.console import Page
    from fornix.cli.contest import Place, Settings, Task
    from fornix.ir.graph import Value

PEERS = "onnxruntime, openvino, torch=FILE.pt2"


@click.command("bench")
@click.argument("model")
@click.option(
    "--vs", "peers", metavar="ENGINES", default="", help=f"Others to run beside: {PEERS}."
)
@click.option("--threads", metavar="N,…", default="1", help="Threads of each engine.")
@click.option("--batch", metavar="N,…", default="", help="Extents of the inputs' first axis.")
@click.option(
    "--dim", "dims", metavar="NAME=EXTENT", multiple=True, help="Extent of a named dim; else 1."
)
@click.option("-i", "--input", "inputs", metavar="[NAME=]FILE", multiple=True, help="A feed.")
@click.option(
    "--seconds", metavar="S", type=click.FloatRange(min=0), default=1.5, show_default=True,
    help="How long each engine runs.",
)  # fmt: skip
@click.option(
    "--patience", metavar="S", type=click.FloatRange(min=0), default=0.0, show_default=True,
    help="How long turns that other processes disturb are repeated.",
)  # fmt: skip
@click.option("--no-load", is_flag=True, help="Leave out the time to load.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench_command(
    model: str,
    *,
    peers: str,
    threads: str,
    batch: str,
    dims: tuple[str, ...],
    inputs: tuple[str, ...],
    seconds: float,
    patience: float,
    no_load: bool,
    as_json: bool,
) -> None:
    """Measure how long MODEL takes to load and to run, and its memory.

    Inputs are made up with seed 0 unless --input feeds them. --vs runs other engines beside fornix
    if they are installed and tells how many times faster fornix is; each engine has a process of
    its own and all take turns. PyTorch does not read ONNX: name the same network as a program of
    torch.export (.pt2) or TorchScript (.pt).

    A machine that is busy with other things gives numbers about those; --patience repeats the turns
    that they disturb.
    """
    from fornix.cli.console import Page, echo_json, progress
    from fornix.cli.contest import Settings

    torch, engines = engines_of(peers)
    settings = [
        Settings(engines, number, seconds, patience, loads=0 if no_load else 3)
        for number in numbers("--threads", threads)
    ]
    batches = numbers("--batch", batch) if batch else [None]
    with progress("measuring"):
        document = measured(model, torch, settings, batches, dims, inputs)
    if as_json:
        echo_json(document)
    else:
        tell(document, Page())


def engines_of(peers: str) -> tuple[dict[str, str] | None, list[str]]:
    """Where torch's network is, and the engines that take part, fornix first."""
    from fornix.cli.contest import ENGINES
    from fornix.errors import InvalidArgument

    engines, torch = ["fornix"], None
    for peer in filter(None, (part.strip() for part in peers.split(","))):
        name, _, source = peer.partition("=")
        if name not in ENGINES[1:] or (source and name != "torch"):
            raise InvalidArgument(f"--vs: engines ({PEERS}) are required, found '{peer}'")
        engines.append(name)
        torch = {"file": source} if source else torch
    return torch, list(dict.fromkeys(engines))


def numbers(option: str, text: str) -> list[int]:
    """The numbers of a list with commas."""
    from fornix.errors import InvalidArgument

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise InvalidArgument(f"{option}: numbers above 0 are required, found '{text}'")
    return [int(part) for part in parts]


def measured(
    model: str,
    torch: dict[str, str] | None,
    settings: Sequence[Settings],
    batches: Sequence[int | None],
    dims: Sequence[str],
    inputs: Sequence[str],
) -> dict[str, Any]:
    """Everything that the command tells."""
    import tempfile

    from fornix.cli.contest import Place, loads
    from fornix.cli.machine import machine

    document: dict[str, Any] = {"model": model, "machine": machine(), "method": method(settings[0])}
    tasks = [(number, task_of(model, torch, number, dims, inputs), None) for number in batches]
    with tempfile.TemporaryDirectory(prefix="fornix-cache-") as cache:
        place = Place(cache)
        if settings[0].loads:
            document["loads"] = loads(tasks[0][1], settings[-1], place)
            document["loads_threads"] = settings[-1].threads
        document["cases"] = measured_cases(tasks, settings, place)
    document["machine"]["load_after"] = machine()["load"]
    return document


def measured_cases(
    tasks: Sequence[tuple[int | None, Task, Mapping[str, np.ndarray] | None]],
    settings: Sequence[Settings],
    place: Place,
) -> list[dict[str, Any]]:
    """An entry for every number of threads and every task: its batch, itself, and the truth."""
    from fornix.cli.contest import Table, best_ratio

    cases = []
    for setting in settings:
        with Table(setting, place) as table:
            for batch, task, expected in tasks:
                engines = table.measure(task, expected)
                told = {name: [x.dtype.name, list(x.shape)] for name, x in task.feeds.items()}
                cases.append(
                    {
                        "threads": setting.threads,
                        "batch": batch,
                        "inputs": told,
                        "engines": engines,
                        "ratio": best_ratio(engines),
                    }
                )
    return cases


def task_of(
    model: str,
    torch: dict[str, str] | None,
    batch: int | None,
    dims: Sequence[str],
    inputs: Sequence[str],
) -> Task:
    """The model with feeds of one batch; raises InvalidArgument for feeds that are not tensors."""
    import numpy as np

    from fornix.cli.contest import Task
    from fornix.cli.run import all_feeds
    from fornix.errors import InvalidArgument
    from fornix.ir.files import load

    graph = load(model).graph
    if batch is not None:
        dims = [*dims, f"{batch_name(graph.inputs)}={batch}"]
    feeds = all_feeds(graph.inputs, inputs, 0, dims)
    for name, feed in feeds.items():
        if not isinstance(feed, np.ndarray):
            raise InvalidArgument(
                f"input '{name}': bench needs tensors, found {type(feed).__name__}"
            )
    return Task(model, feeds, [value.name for value in graph.outputs], torch=torch)


def batch_name(inputs: Sequence[Value]) -> str:
    """The one named dim that first axes of ``inputs`` have."""
    from fornix.errors import InvalidArgument
    from fornix.ir.dim import Dim
    from fornix.ir.types import TensorType

    first = [
        value.type.shape[0]
        for value in inputs
        if isinstance(value.type, TensorType) and value.type.shape
    ]
    names = sorted({str(dim) for dim in first if isinstance(dim, Dim) and not dim.unknowns})
    if len(names) != 1:
        raise InvalidArgument(
            "--batch: inputs whose first axis is one named dim are required, found "
            f"{', '.join(names) or 'none'}; use --dim"
        )
    return names[0]


def method(settings: Settings, reference: str = "peer") -> str:
    """How it is measured, in words."""
    return (
        f"each engine in a process of its own, taking turns of 0.1 s or one run for "
        f"{settings.seconds:g} s each; a turn ends when the engine's threads sleep; "
        "medians of all runs; ratio = peer / fornix, higher is better, with the quartiles of the "
        f"ratio turn by turn; difference = largest one from the {reference}'s outputs relative to "
        "the largest magnitude of each; peak = VmHWM of the process"
    )


def tell(document: Mapping[str, Any], page: Page) -> None:
    """Print the tables."""
    from fornix.cli.machine import machine_text

    for entry in document["cases"]:
        tell_case(entry, page)
    if document.get("loads"):
        tell_loads(document, page)
    page.say(machine_text(document["machine"]))
    page.say(f"how: {document['method']}")


def tell_case(entry: Mapping[str, Any], page: Page) -> None:
    """Print the table of one line-up."""
    from fornix.cli.console import styled, table
    from fornix.cli.contest import on_threads

    inputs = ", ".join(f"{name}: {kind}{shape}" for name, (kind, shape) in entry["inputs"].items())
    page.say(f"{on_threads(entry['threads'])},", styled(inputs, "cyan"))
    headers = {"engine": "left", "version": "left"}
    headers |= dict.fromkeys(["median", "min", "p90", "runs", "ratio"], "right")
    headers |= {" quartiles": "left", "difference": "right", "peak": "right", "remarks": "left"}
    page.tell(table(headers, [cells(engine) for engine in entry["engines"]]))
    if all("error" in engine for engine in entry["engines"]):
        page.say("named dims are 1 where neither --dim nor --batch sets them; --input feeds files")
    if entry["ratio"] is not None:
        page.say("best peer / fornix", styled(f"{entry['ratio']:.2f}", "bold"))
    page.say("")


def cells(engine: Mapping[str, Any]) -> list[str | Text]:
    """One engine's row."""
    from fornix.cli.console import size_text, styled, time_text

    name = styled(engine["engine"], "bold")
    if "error" in engine:
        why = f"not installed: pip install {engine['engine']}"
        remark = styled(why if engine["missing"] else engine["error"], "red")
        return [name, *([""] * 9), remark]
    latency, low_high = engine["latency"], engine.get("ratio_quartiles")
    return [
        name,
        engine["version"],
        *(time_text(latency[key]) for key in ("median", "min", "p90")),
        str(latency["runs"]),
        styled(f"{engine['ratio']:.2f}", ratio_style(engine["ratio"])) if low_high else "",
        f"({low_high[0]:.2f}-{low_high[1]:.2f})" if low_high else "",
        "" if engine["difference"] is None else f"{engine['difference']:.1e}",
        "" if engine["peak_bytes"] is None else size_text(engine["peak_bytes"]),
        remarks(latency),
    ]


def ratio_style(ratio: float) -> str:
    """Green where fornix is faster."""
    return "green" if ratio >= 1 else "red"


def remarks(latency: Mapping[str, Any]) -> str:
    """What makes the numbers doubtful."""
    told = []
    if latency["outliers"]:
        told.append(f"{latency['outliers']} outliers")
    if latency["disturbed_turns"]:
        told.append(f"{latency['disturbed_turns']} of {latency['turns']} turns disturbed")
    return ", ".join(told)


def tell_loads(document: Mapping[str, Any], page: Page) -> None:
    """Print the table of loading."""
    from fornix.cli.console import size_text, styled, table, time_text
    from fornix.cli.contest import on_threads

    columns = ("import", "create", "first_run", "create_again")
    rows: list[list[str | Text]] = []
    for engine, kinds in document["loads"].items():
        ratio = None if engine == "fornix" else kinds.get("create_ratio")
        for kind in ("cold", "warm") if engine == "fornix" else ("warm",):
            load = kinds[kind]
            peak = load["peak_bytes"]
            rows.append(
                [
                    styled(engine, "bold"),
                    kind if engine == "fornix" else "",
                    *(time_text(load[key]) for key in columns),
                    "" if ratio is None else f"{ratio:.2f}",
                    "" if peak is None else size_text(peak),
                ]
            )
    threads = document["loads_threads"]
    page.say(f"loading in a fresh process, {on_threads(threads)}; ratio of creating, cache warm")
    headers = {"engine": "left", " cache": "left"}
    headers |= dict.fromkeys(
        ["import", "create", "first run", "create again", "ratio", "peak"], "right"
    )
    page.tell(table(headers, rows))
    page.say("")
