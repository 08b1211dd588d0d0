"""One model of the registry beside the peers: ``python -m bench.compare resnet50 --size full``.

It is `fornix bench` with the same network in PyTorch, and with torch's answers as the truth.
"""

from __future__ import annotations

import json
import tempfile
from typing import cast

import click

from bench.models import EXPORTERS, MODELS, SIZES, Exporter, Size
from bench.workloads import ONE, ROOT, Measured, case
from fornix.cli.bench import measured_cases, method, tell
from fornix.cli.console import Page
from fornix.cli.contest import ENGINES, Place, Settings, loads
from fornix.cli.machine import machine


@click.command()
@click.argument("name", type=click.Choice(list(MODELS)))
@click.option("--size", type=click.Choice(SIZES), default="full", show_default=True)
@click.option("--exporter", type=click.Choice(EXPORTERS), default="dynamo", show_default=True)
@click.option("--case", "index", type=int, default=ONE, show_default=True, help="Which feeds.")
@click.option("--vs", "peers", default=",".join(ENGINES[1:]), show_default=True)
@click.option("--threads", default="1,2", show_default=True)
@click.option("--seconds", type=float, default=2.0, show_default=True)
@click.option("--patience", type=float, default=0.0, show_default=True)
@click.option("--no-load", is_flag=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    name: str,
    *,
    size: str,
    exporter: str,
    index: int,
    peers: str,
    threads: str,
    seconds: float,
    patience: float,
    no_load: bool,
    as_json: bool,
) -> None:
    """Compare the model NAME in fornix with the peers."""
    ready = case(name, index)(cast("Exporter", exporter), cast("Size", size))
    engines = ["fornix", *filter(None, peers.split(","))]
    settings = [
        Settings(engines, int(number), seconds, patience, loads=0 if no_load else 3)
        for number in threads.split(",")
    ]
    document = measured(ready, settings)
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        tell(document, Page())


def measured(ready: Measured, settings: list[Settings]) -> dict[str, object]:
    """The document that `fornix bench` makes, with the truth as reference."""
    with tempfile.TemporaryDirectory(prefix="fornix-cache-") as cache:
        place = Place(cache, [ROOT])
        task = ready.task
        document: dict[str, object] = {
            "model": task.model,
            "machine": machine(),
            "method": method(settings[0], "the truth" if ready.expected else "peer"),
        }
        if settings[0].loads:
            document["loads"] = loads(task, settings[-1], place)
            document["loads_threads"] = settings[-1].threads
        tasks = [(None, task, ready.expected)]
        document["cases"] = measured_cases(tasks, settings, place)
    return document


if __name__ == "__main__":
    main()
