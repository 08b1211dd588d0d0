"""Single operators beside the peers: ``python -m bench.micro [FAMILY …] [--threads 1,2]``.

Every family of kernels over a range of shapes, in processes that take turns (`fornix bench` says
why). The table gives microseconds of a call of a session, so calls below 20 µs measure calling;
rate is GFLOP/s where arithmetic counts and GB/s of what goes in and out where it does not.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from bench.shapes import FAMILIES, Case
from bench.workloads import ROOT
from fornix.cli.console import Page, styled, table
from fornix.cli.contest import Place, Settings, Table, Task, best_ratio
from fornix.cli.machine import machine, machine_text

Row = dict[str, Any]


@click.command()
@click.argument("families", nargs=-1, type=click.Choice(list(FAMILIES)))
@click.option("--vs", "peers", default="onnxruntime,torch", show_default=True)
@click.option("--threads", default="1", show_default=True)
@click.option("--only", default="", help="Cases whose names contain this.")
@click.option("--seconds", type=float, default=0.5, show_default=True, help="Of each engine.")
@click.option("--patience", type=float, default=5.0, show_default=True, help="Of each case.")
@click.option("--json", "document", type=click.Path(dir_okay=False), help="Write everything there.")
def main(
    families: tuple[str, ...],
    *,
    peers: str,
    threads: str,
    only: str,
    seconds: float,
    patience: float,
    document: str | None,
) -> None:
    """Measure FAMILIES of operators, or all."""
    engines = ["fornix", *filter(None, peers.split(","))]
    chosen = [
        (family, case)
        for family in families or FAMILIES
        for case in FAMILIES[family]()
        if only in case.name
    ]
    settings = [Settings(engines, int(n), seconds, patience) for n in threads.split(",")]
    page = Page()
    with tempfile.TemporaryDirectory(prefix="fornix-micro-") as folder:
        rows = [row for setting in settings for row in line_up(setting, chosen, folder)]
    page.tell(lines(rows, engines))
    page.say("")
    page.tell(table({"family": "left", "geometric mean": "right", "least": "right"}, means(rows)))
    page.say(machine_text(machine()))
    if document is not None:
        text = json.dumps({"machine": machine(), "rows": rows}, indent=2)
        Path(document).write_text(text, encoding="utf-8")


def line_up(settings: Settings, chosen: Sequence[tuple[str, Case]], folder: str) -> Iterator[Row]:
    """All cases with one number of threads; each is told as soon as it is known."""
    with Table(settings, Place(str(Path(folder) / "cache"), [ROOT])) as seats:
        for family, case in chosen:
            row = measured(seats, family, case, folder)
            click.echo(f"{family}: {case.name}: {row['ratio'] or 0:.2f}", err=True)
            yield row


def measured(seats: Table, family: str, case: Case, folder: str) -> Row:
    """One case."""
    path = case.write(Path(folder))
    source = {"call": "bench.operators:make", "arguments": [case.torch, path, case.attributes]}
    task = Task(path, case.feeds(), case.outputs, torch=source)
    entries = seats.measure(task)
    return {
        "family": family,
        "case": case.name,
        "threads": seats.settings.threads,
        "flops": case.flops,
        "bytes": case.bytes,
        "engines": entries,
        "ratio": best_ratio(entries),
    }


def lines(rows: Sequence[Row], engines: Sequence[str]) -> list[Any]:
    """The table."""
    headers = {"family": "left", "case": "left", "threads": "right"}
    headers |= {f"{name}, µs": "right" for name in engines}
    headers |= {"rate": "right", " unit": "left", "ratio": "right", "of minima": "right"}
    headers |= {"difference": "right", "others": "right", "remarks": "left"}
    return table(headers, [cells(row, engines) for row in rows])


def cells(row: Row, engines: Sequence[str]) -> list[Any]:
    """One line."""
    entries = {entry["engine"]: entry for entry in row["engines"]}
    timed = {name: x["latency"] for name, x in entries.items() if "latency" in x}
    own = timed.get("fornix", {}).get("median")
    amount, unit = (row["flops"], "GFLOP/s") if row["flops"] else (row["bytes"], "GB/s")
    minima = [x["ratio_of_minima"] for x in entries.values() if "ratio_of_minima" in x]
    apart = [x["difference"] for x in entries.values() if x.get("difference") is not None]
    errors = [f"{name}: {x['error']}" for name, x in entries.items() if "error" in x]
    ratio = row["ratio"]
    return [
        row["family"],
        row["case"],
        str(row["threads"]),
        *(f"{timed[name]['median'] * 1e6:.1f}" if name in timed else "" for name in engines),
        f"{amount / own / 1e9:.1f}" if own else "",
        unit,
        "" if ratio is None else styled(f"{ratio:.2f}", "green" if ratio >= 1 else "red"),
        f"{min(minima):.2f}" if minima else "",
        f"{max(apart):.0e}" if apart else "",
        f"{max(x['others_share'] for x in timed.values()):.0%}" if timed else "",
        "; ".join(errors)[:120],
    ]


def means(rows: Sequence[Row]) -> list[list[str]]:
    """Per family, the geometric mean and the least of the ratios."""

    def found() -> Iterator[list[str]]:
        for family in dict.fromkeys(row["family"] for row in rows):
            known = [r["ratio"] for r in rows if r["family"] == family and r["ratio"]]
            if known:
                mean = statistics.geometric_mean(known)
                yield [family, f"{mean:.2f}", f"{min(known):.2f}"]

    return list(found())


if __name__ == "__main__":
    main()
