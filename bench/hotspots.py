"""Where NumPy's time goes: ``python -m bench.hotspots [MODEL …] [--size full]``.

Each model runs on the NumPy kernels, node by node and timed, beside onnxruntime with one thread;
the operators that take most time are what is worth compiling first. The fastest of a few visits to
each node counts, since machines are shared; `micro` and `suite` are the measurements to quote.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, cast

import click

from bench.models import EXPORTERS, MODELS, SIZES, Exporter, Size
from bench.workloads import ONE, built_as
from fornix.cli.console import Page, table, time_text
from fornix.ir.files import load
from fornix.ir.graph import Node
from fornix.reference.plan import Plan
from fornix.reference.scope import Scope

TOP = 5
RUNS = 7


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MODELS)))
@click.option("--size", type=click.Choice(SIZES), default="small", show_default=True)
@click.option("--exporter", type=click.Choice(EXPORTERS), default="dynamo", show_default=True)
@click.option("--runs", type=int, default=RUNS, show_default=True)
def main(names: tuple[str, ...], *, size: str, exporter: str, runs: int) -> None:
    """List the operators that take most time in each of NAMES, or in all models."""
    page = Page()
    rows: list[Sequence[str]] = []
    for name in names or MODELS:
        rows.append(row(name, cast("Size", size), cast("Exporter", exporter), runs))
        click.echo("  ".join(rows[-1]), err=True)
    headers = {"model": "left"} | dict.fromkeys(["NumPy", "onnxruntime", "times"], "right")
    page.tell(table({**headers, "operators by their share of NumPy's time": "left"}, rows))


def row(name: str, size: Size, exporter: Exporter, runs: int) -> Sequence[str]:
    """One model: both times, their quotient, and the operators that take most."""
    import onnxruntime

    built = built_as(name, exporter, size)
    feed = built.inputs[min(ONE, len(built.inputs) - 1)]
    total, shares = numpy_times(str(built.path), feed, runs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(built.path), options)
    peer = least(lambda: session.run(None, feed), runs + 1)
    first = list(shares.items())[:TOP]
    tops = ", ".join(f"{kind} {share / total:.0%}" for kind, share in first)
    return name, time_text(total), time_text(peer), f"{total / peer:.1f}", tops


def numpy_times(path: str, feed: dict[str, Any], runs: int) -> tuple[float, dict[str, float]]:
    """Seconds of all nodes, and of each operator, the most first; the fastest visit of each node.

    By node, because a process that takes the processor away would else count as the node's work.
    """
    model = load(path)
    plan = Plan(model.graph, Scope(model.opset_imports, model.function_table))
    inputs = {value: feed[value.name] for value in model.graph.inputs if value.name in feed}
    best: dict[Node, float] = {}
    for _ in range(runs):
        last = time.perf_counter()

        def observe(node: Node, _results: Sequence[Any]) -> None:
            nonlocal last
            now = time.perf_counter()
            best[node] = min(best.get(node, now), now - last)
            last = now

        plan.run(inputs, observe=observe)
    spent: dict[str, float] = defaultdict(float)
    for node, seconds in best.items():
        spent[node.op_type] += seconds
    return sum(best.values()), dict(sorted(spent.items(), key=lambda item: -item[1]))


def least(call: Callable[[], object], runs: int) -> float:
    """Seconds of the fastest of some calls."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


if __name__ == "__main__":
    main()
