"""Python threads that call one session: ``python -m bench.callers`` prints calls per second.

Each engine has a process of its own; engines take turns, and the best turn counts. Nothing is
written. A machine that is not quiet gives numbers that must not be quoted.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.models import Exporter, Size
from bench.workloads import WORKLOADS, Workload

ENGINES = {"fornix": "fornix.onnxruntime", "onnxruntime": "onnxruntime"}
NAMES = ("linear + softmax", "ResNet-50", "BERT-base")
CALLERS = (1, 2, 8)


@click.command()
@click.option("--only", default=",".join(NAMES), show_default=True, help="Words in their names.")
@click.option("--callers", default=",".join(map(str, CALLERS)), show_default=True)
@click.option("--threads", default=2, show_default=True, help="Of each engine, for one call.")
@click.option("--seconds", default=1.0, show_default=True, help="Of each turn.")
@click.option("--turns", default=3, show_default=True)
@click.option("--size", type=click.Choice(["full", "small"]), default="full", show_default=True)
def main(only: str, *, callers: str, threads: int, seconds: float, turns: int, size: Size) -> None:
    """Measure calls per second from several Python threads, beside onnxruntime."""
    words = [word.strip().lower() for word in only.split(",")]
    counts = [int(count) for count in callers.split(",")]
    head = " | ".join(f"{count} callers" if count > 1 else "1 caller" for count in counts)
    print(f"| model, {threads} threads | {head} |\n| --- |{' --- |' * len(counts)}")
    for workload in (w for w in WORKLOADS if any(word in w.name.lower() for word in words)):
        rates = measured(workload, "dynamo", size, (counts, threads, seconds, turns))
        pairs = zip(*rates.values(), strict=True)
        cells = " | ".join(f"{ours:,.1f} / {theirs:,.1f}" for ours, theirs in pairs)
        print(f"| {workload.name} | {cells} |", flush=True)


def measured(
    workload: Workload,
    exporter: Exporter,
    size: Size,
    how: tuple[list[int], int, float, int],
) -> dict[str, list[float]]:
    """Calls per second by engine, one number for each number of callers."""
    counts, threads, seconds, turns = how
    task = workload.ready(exporter, size).task
    with tempfile.TemporaryDirectory() as folder:
        feeds = str(Path(folder) / "feeds.npz")
        np.savez(feeds, allow_pickle=False, **task.feeds)
        workers = {name: worker(module, task.model, feeds, threads)
                   for name, module in ENGINES.items()}  # fmt: skip
        rates = {name: [0.0] * len(counts) for name in workers}
        for place, name in [
            (p, n) for _ in range(turns) for p in range(len(counts)) for n in rates
        ]:
            rate = asked(workers[name], [counts[place], seconds])
            rates[name][place] = max(rates[name][place], rate)
        for process in workers.values():
            process.communicate()
    return rates


def worker(module: str, model: str, feeds: str, threads: int) -> subprocess.Popen[str]:
    """A process with a session; it has run once when this returns."""
    command = [sys.executable, "-m", "bench.callers", "serve", module, model, feeds, str(threads)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    asked(process, [1, 0.0])
    return process


def asked(process: subprocess.Popen[str], request: list[Any]) -> float:
    """The answer of a worker."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("a worker must have pipes")
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return float(json.loads(process.stdout.readline()))


def serve(module: str, model: str, path: str, threads: str) -> None:
    """Answer requests, each a number of callers and of seconds, with calls per second."""
    ort = importlib.import_module(module)
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    with np.load(path) as stored:
        feeds = dict(stored)
    for line in sys.stdin:
        count, seconds = json.loads(line)
        print(json.dumps(calls_per_second(session, feeds, count, seconds)), flush=True)
        time.sleep(0.1)  # until threads sleep that look for more


def calls_per_second(session: Any, feeds: dict[str, Any], count: int, seconds: float) -> float:
    """How often ``count`` Python threads together run ``session`` in a second."""
    done = [0] * count
    begin, end = threading.Barrier(count + 1), threading.Event()

    def call(number: int) -> None:
        begin.wait()
        while True:
            session.run(None, feeds)
            done[number] += 1
            if end.is_set():
                return

    callers = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for caller in callers:
        caller.start()
    begin.wait()
    start = time.perf_counter()
    time.sleep(seconds)
    end.set()
    for caller in callers:
        caller.join()
    return sum(done) / (time.perf_counter() - start)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    else:
        main()
