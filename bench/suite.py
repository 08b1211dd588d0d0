"""The whole table: ``python -m bench.suite`` measures every workload and prints Markdown.

Nothing is written unless ``--output`` or ``--json`` names a file. A machine that is not quiet gives
numbers that must not be quoted; what other processes did during the turns stands with each row.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import click

from bench.models import EXPORTERS, SIZES, Exporter, Size
from bench.workloads import ROOT, WORKLOADS, Measured, Workload
from fornix.cli.bench import measured_cases, method
from fornix.cli.contest import ENGINES, Place, Settings, loads
from fornix.cli.machine import machine, machine_text

Row = dict[str, Any]


@click.command()
@click.option("--only", default="", help="Workloads whose names contain one of these words.")
@click.option("--size", type=click.Choice(SIZES), default="full", show_default=True)
@click.option("--exporter", type=click.Choice(EXPORTERS), default="dynamo", show_default=True)
@click.option("--vs", "peers", default=",".join(ENGINES[1:]), show_default=True)
@click.option("--threads", default="1,2", show_default=True)
@click.option("--seconds", type=float, default=3.0, show_default=True, help="Of each engine.")
@click.option("--patience", type=float, default=30.0, show_default=True, help="Of each line-up.")
@click.option("--no-load", is_flag=True, help="Leave out loading and memory.")
@click.option("--output", type=click.Path(dir_okay=False), help="Write the Markdown there.")
@click.option("--json", "document", type=click.Path(dir_okay=False), help="Write everything there.")
def main(
    only: str,
    *,
    size: str,
    exporter: str,
    peers: str,
    threads: str,
    seconds: float,
    patience: float,
    no_load: bool,
    output: str | None,
    document: str | None,
) -> None:
    """Measure all workloads, or some, against the peers."""
    engines = ["fornix", *filter(None, peers.split(","))]
    settings = [
        Settings(engines, int(number), seconds, patience, loads=0 if no_load else 3)
        for number in threads.split(",")
    ]
    words = [word.strip().lower() for word in only.split(",")]
    chosen = [x for x in WORKLOADS if any(word in x.name.lower() for word in words)]
    before = machine()
    rows: list[Row] = []
    for workload in chosen:
        ready = workload.ready(cast("Exporter", exporter), cast("Size", size))
        rows.append(measured(workload, ready, settings))
        click.echo("\n".join(told(rows[-1])), err=True)
    before["load_after"] = machine()["load"]
    text = "\n".join(page(rows, before, settings[0], exporter))
    if document is not None:
        whole = {"machine": before, "method": method(settings[0]), "rows": rows}
        Path(document).write_text(json.dumps(whole, indent=2), encoding="utf-8")
    if output is not None:
        Path(output).write_text(text + "\n", encoding="utf-8")
    click.echo(text)


def measured(workload: Workload, ready: Measured, settings: Sequence[Settings]) -> Row:
    """Everything about one workload."""
    task = ready.task
    with tempfile.TemporaryDirectory(prefix="fornix-cache-") as cache:
        place = Place(cache, [ROOT])
        loaded = loads(task, settings[-1], place) if settings[-1].loads else {}
        # One at a time: a process of its own for each number of threads keeps peaks apart.
        cases = measured_cases([(None, task, ready.expected)], settings, place)
    return {
        "name": workload.name,
        "at_least": workload.at_least,
        "aim": workload.aim,
        "bytes": Path(task.model).stat().st_size if workload.moved else None,
        "loads": loaded,
        "cases": cases,
    }


def page(
    rows: Sequence[Row], where: Mapping[str, Any], settings: Settings, exporter: str
) -> Iterator[str]:
    """The Markdown."""
    yield "# Measured"
    yield ""
    yield f"{time.strftime('%Y-%m-%d')}. {machine_text(where)}."
    yield ""
    yield f"Models exported by torch ({exporter}). How: {method(settings, 'reference')}. The"
    yield "reference is torch's answer where the row has one, else each peer's."
    yield ""
    yield (
        "| workload | threads | fornix, ms | onnxruntime | openvino | torch | ratio | at least "
        "| aim | ratio of minima | difference | others busy | remarks |"
    )
    yield "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --- |"
    for row in rows:
        yield from told(row)
    if any(row["loads"] for row in rows):
        yield ""
        yield "## Loading and memory"
        yield ""
        yield from load_table(rows)


def told(row: Row) -> Iterator[str]:
    """The lines of one workload."""
    for case in row["cases"]:
        entries = {entry["engine"]: entry for entry in case["engines"]}
        own = entries["fornix"]
        peers = [entries.get(name) for name in ENGINES[1:]]
        minima = [x["ratio_of_minima"] for x in peers if x and "ratio_of_minima" in x]
        cells = [
            row["name"],
            str(case["threads"]),
            *(latency(entry) for entry in (own, *peers)),
            "" if case["ratio"] is None else f"**{case['ratio']:.2f}**",
            f"{row['at_least']:g}",
            f"{row['aim']:g}",
            f"{min(minima):.2f}" if minima else "",
            gap(own, peers),
            busy(entries.values()),
            remarks(row, entries),
        ]
        yield f"| {' | '.join(cells)} |"


def latency(entry: Mapping[str, Any] | None) -> str:
    """Median milliseconds."""
    if entry is None or "error" in entry:
        return ""
    return f"{entry['latency']['median'] * 1e3:.4g}"


def gap(own: Mapping[str, Any], peers: Sequence[Mapping[str, Any] | None]) -> str:
    """How far fornix is from the truth, or from the peers."""
    if own.get("difference") is not None:
        return f"{own['difference']:.1e}"
    apart = [x["difference"] for x in peers if x and x.get("difference") is not None]
    return f"{max(apart):.1e}" if apart else ""


def busy(entries: Any) -> str:
    """What other processes used during the turns, of one processor."""
    shares = [x["latency"]["others_share"] for x in entries if "latency" in x]
    return f"{max(shares):.0%}" if shares else ""


def remarks(row: Row, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Errors, and bytes per second where they are the limit."""
    errors = [f"{name}: {x['error'][:80]}" for name, x in entries.items() if "error" in x]
    own = entries["fornix"]
    if row["bytes"] and "latency" in own:
        errors.append(f"{row['bytes'] / own['latency']['median'] / 1e9:.1f} GB/s of weights")
    return "; ".join(errors).replace("|", "/")


def load_table(rows: Sequence[Row]) -> Iterator[str]:
    """Creation of a session, in milliseconds, and memory of a process that has one."""
    yield (
        "| workload | onnxruntime, ms | openvino | fornix, warm | cold | later | "
        "onnxruntime, MB | openvino | fornix, warm | cold |"
    )
    yield f"| --- |{' --: |' * 9}"
    for row in rows:
        loaded = row["loads"]
        places = [("onnxruntime", "warm"), ("openvino", "warm"), ("fornix", "warm")]
        places.append(("fornix", "cold"))
        cells = [number(loaded, engine, kind, "create", 1e3) for engine, kind in places]
        cells.append(number(loaded, "fornix", "warm", "create_again", 1e3))
        cells += [number(loaded, engine, kind, "peak_bytes", 1e-6) for engine, kind in places]
        yield f"| {row['name']} | {' | '.join(cells)} |"


def number(loaded: Mapping[str, Any], engine: str, kind: str, key: str, factor: float) -> str:
    """One number, or nothing."""
    value = loaded.get(engine, {}).get(kind, {}).get(key)
    return "" if value is None else f"{value * factor:.4g}"


if __name__ == "__main__":
    main()
