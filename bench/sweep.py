"""Speed over size, beside the peers: ``python -m bench.sweep [FAMILY …] [--threads 1,2]``.

Measures what `series` names, point by point, and keeps what it found in a file: a point that is in
the file is not measured again, so that a sweep can be made in pieces (``--budget``) and goes on
where it ended. Engines take turns as in `fornix bench`, in turns that are shorter, and every point
compares results. `picture` draws the file.
"""

from __future__ import annotations

import datetime as dt
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.picture import drawn, ratio_of
from bench.series import FAMILIES, Series
from bench.workloads import ROOT
from fornix.cli.console import Page, table
from fornix.cli.contest import Place, Settings, Table, Task, written
from fornix.cli.machine import machine, machine_text

FOUND = Path(ROOT) / "docs" / "sweep.json"
PICTURE = Path(ROOT) / "docs" / "sweep.svg"

TURN = 0.012
"""Seconds of a turn: five of each engine make a tenth of a second of a point."""

Row = dict[str, Any]
"""One point: family, series, size, threads, seconds by engine, difference, errors, day."""
Key = tuple[str, str, int, int]


@dataclass(frozen=True)
class Point:
    """One size of one series."""

    family: str
    series: Series
    size: int

    def key(self, threads: int) -> Key:
        """What tells its row from others."""
        return self.family, self.series.name, self.size, threads


@click.command()
@click.argument("families", nargs=-1, type=click.Choice(list(FAMILIES)))
@click.option("--vs", "peers", default="onnxruntime", show_default=True)
@click.option("--threads", default="1,2", show_default=True)
@click.option("--only", default="", help="Series whose names contain this.")
@click.option("--file", "found", type=click.Path(path_type=Path), default=FOUND)
@click.option("--again", type=float, help="Measure anew what has a ratio below this.")
@click.option("--budget", type=float, help="Begin no further point after so many seconds.")
@click.option("--prepare", is_flag=True, help="Fill fornix's cache only: that takes longest.")
@click.option("--below", type=float, default=0.97, show_default=True, help="What the table lists.")
@click.option("--draw", type=click.Path(path_type=Path), help="Draw the file there, and end.")
def main(
    families: tuple[str, ...],
    *,
    peers: str,
    threads: str,
    only: str,
    found: Path,
    again: float | None,
    budget: float | None,
    prepare: bool,
    below: float,
    draw: Path | None,
) -> None:
    """Measure FAMILIES of kernels, or all, over a range of sizes."""
    record = read(found)
    if draw is not None:
        draw.write_text(drawn(record), encoding="utf-8")
        return
    engines = ["fornix", *filter(None, peers.split(","))]
    chosen = list(points(families or FAMILIES, only))
    until = None if budget is None else time.monotonic() + budget
    for number in map(int, threads.split(",")):
        rows = {key_of(row): row for row in record["rows"]}
        missing = [x for x in chosen if is_wanted(rows.get(x.key(number)), engines, again)]
        if prepare:
            fill_cache(number, missing, until)
            continue
        settings = Settings(engines, number, 5 * TURN, turn=TURN)
        rows |= {key_of(row): row for row in line_up(settings, missing, until)}
        record |= {"machine": machine_text(machine()), "rows": in_order(rows.values())}
        write(found, record)
    tell(record["rows"], below)


def points(families: Iterable[str], only: str) -> Iterator[Point]:
    """All sizes of the series of ``families`` whose names contain ``only``."""
    for family in families:
        for series in FAMILIES[family]:
            if only in series.name:
                yield from (Point(family, series, size) for size in series.sizes)


def is_wanted(row: Row | None, engines: Sequence[str], again: float | None) -> bool:
    """Whether a point must be measured that so far has this row."""
    if row is None or "fornix" in row["errors"]:
        return True
    if not {*engines} <= {*row["seconds"], *row["errors"]}:
        return True
    return again is not None and (ratio_of(row) or 0.0) < again


def fill_cache(threads: int, missing: Sequence[Point], until: float | None) -> None:
    """Let fornix compile ``missing`` until the clock says ``until``."""
    settings = Settings(["fornix"], threads)
    with Table(settings, Place()) as seats, tempfile.TemporaryDirectory() as folder:
        for point in missing:
            if until is not None and time.monotonic() > until:
                return
            task = task_of(point, Path(folder))
            with written(task.feeds) as feeds:
                seats.seats[0].load(task, feeds)


def task_of(point: Point, folder: Path) -> Task:
    """The model of ``point`` in ``folder``, with feeds."""
    case = point.series.case(point.size)
    return Task(case.write(folder), case.feeds(), case.outputs)


def line_up(settings: Settings, missing: Sequence[Point], until: float | None) -> Iterator[Row]:
    """The rows of ``missing`` until the clock says ``until``."""
    with (
        Table(settings, Place(paths=[ROOT])) as seats,
        tempfile.TemporaryDirectory(prefix="fornix-sweep-") as folder,
    ):
        for point in missing:
            if until is not None and time.monotonic() > until:
                return
            row = measured(seats, point, folder)
            told = "none" if ratio_of(row) is None else f"{ratio_of(row):.2f}"
            click.echo(f"{point.family}: {point.series.name}: {point.size}: {told}", err=True)
            yield row


def measured(seats: Table, point: Point, folder: str) -> Row:
    """One point."""
    task = task_of(point, Path(folder))
    entries = seats.measure(task)
    Path(task.model).unlink()
    apart = [x["difference"] for x in entries if x.get("difference") is not None]
    return {
        "family": point.family,
        "series": point.series.name,
        "counts": point.series.counts,
        "size": point.size,
        "threads": seats.settings.threads,
        "seconds": {x["engine"]: x["latency"]["median"] for x in entries if "latency" in x},
        "errors": {x["engine"]: x["error"] for x in entries if "error" in x},
        "difference": max(apart, default=None),
        "day": dt.datetime.now(dt.UTC).date().isoformat(),
    }


def key_of(row: Row) -> Key:
    """What tells ``row`` from others."""
    return row["family"], row["series"], row["size"], row["threads"]


def in_order(rows: Iterable[Row]) -> list[Row]:
    """``rows`` in the order of `series`; those of series that are gone are left out."""
    known = {key_of(row): row for row in rows}
    keys = [x.key(threads) for x in points(FAMILIES, "") for threads in (1, 2)]
    return [known[key] for key in keys if key in known]


def read(path: Path) -> dict[str, Any]:
    """The record at ``path``, or an empty one."""
    if not path.exists():
        return {"machine": "", "rows": []}
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write ``record``, one point to a line."""
    rows = ",\n".join(json.dumps(rounded(row), ensure_ascii=False) for row in record["rows"])
    machine_line = json.dumps(record["machine"], ensure_ascii=False)
    text = f'{{"machine": {machine_line}, "rows": [\n{rows}\n]}}\n'
    path.write_text(text, encoding="utf-8")


def rounded(row: Row) -> Row:
    """``row`` with as many digits as mean something."""
    seconds = {engine: float(f"{x:.4g}") for engine, x in row["seconds"].items()}
    gap = row["difference"]
    return {**row, "seconds": seconds, "difference": None if gap is None else float(f"{gap:.2g}")}


def tell(rows: Sequence[Row], below: float) -> None:
    """Points with a ratio less than ``below``, least first, and the means of families."""
    page = Page()
    found = sorted(
        (x for x in rows if (ratio_of(x) or below) < below), key=lambda x: ratio_of(x) or 0
    )
    headers = {"family": "left", "series": "left", "size": "right", "threads": "right"}
    headers |= {"fornix, µs": "right", "ratio": "right", "difference": "right"}
    page.tell(table(headers, [cells(row) for row in found]))
    page.say("")
    headers = {"family": "left", "geometric mean": "right", f"below {below:g}": "right"}
    page.tell(table(headers, means(rows, below)))
    for row in rows:
        for engine, error in row["errors"].items():
            page.say(f"{row['series']} {row['size']}: {engine}: {error}")


def cells(row: Row) -> list[str]:
    """One line of the table."""
    own = row["seconds"]["fornix"] * 1e6
    gap = row["difference"]
    told = f"{ratio_of(row):.2f}", "" if gap is None else f"{gap:.0e}"
    return [
        row["family"],
        row["series"],
        str(row["size"]),
        str(row["threads"]),
        f"{own:.1f}",
        *told,
    ]


def means(rows: Sequence[Row], below: float) -> list[list[str]]:
    """Per family and number of threads: geometric mean, how many are below ``below``."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        if (found := ratio_of(row)) is not None:
            groups.setdefault(f"{row['family']}, {row['threads']}", []).append(found)
    return [
        [name, f"{statistics.geometric_mean(x):.2f}", f"{sum(y < below for y in x)} of {len(x)}"]
        for name, x in groups.items()
    ]


if __name__ == "__main__":
    main()
