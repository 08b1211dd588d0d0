"""Time to a session and to its first result: ``python -m bench.loading`` prints milliseconds.

Each load has a process of its own, the files are in the system's cache, and the least of some
loads counts: of a model that no cache holds, of one that it holds, and of a compiled one, beside
onnxruntime. Linux only. Nothing is written but a compiled model and a cache in a folder that goes.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.models import Size
from bench.soak import resident
from bench.workloads import WORKLOADS

NAMES = ("linear + softmax", "ResNet-50", "BERT-base", "GPT-2 prompt")


@dataclass(frozen=True)
class Loaded:
    """Milliseconds until there is a session and a result, and the process's memory at its most."""

    session: float
    result: float
    memory: float

    def __str__(self) -> str:
        return f"{self.session:,.0f} / {self.result:,.0f} / {self.memory:,.0f}"


@click.command()
@click.option("--only", default=",".join(NAMES), show_default=True, help="Words in their names.")
@click.option("--loads", default=3, show_default=True, help="Of each kind; the least counts.")
@click.option("--threads", default=2, show_default=True)
@click.option("--size", type=click.Choice(["full", "small"]), default="full", show_default=True)
def main(only: str, loads: int, threads: int, size: Size) -> None:
    """Print ms to the session / ms to the first result, imports aside / MB at most."""
    words = [word.strip().lower() for word in only.split(",")]
    print("| model | cold | program in the cache | .fnx | onnxruntime |")
    print("| --- | --- | --- | --- | --- |")
    for workload in (w for w in WORKLOADS if any(word in w.name.lower() for word in words)):
        task = workload.ready("dynamo", size).task
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            feeds = folder / "feeds.npz"
            given = {
                name: feed.astype(str) if feed.dtype == object else feed  # texts of any length
                for name, feed in task.feeds.items()
            }
            np.savez(feeds, allow_pickle=False, **given)
            least = Measurement(folder, feeds, threads, loads).all(str(task.model))
        print(f"| {workload.name} | {' | '.join(map(str, least))} |", flush=True)


@dataclass(frozen=True)
class Measurement:
    """What the loads of one model have in common."""

    folder: Path
    feeds: Path
    threads: int
    loads: int

    def all(self, model: str) -> list[Loaded]:
        """Cold, kept, compiled, and onnxruntime."""
        compiled = str(self.folder / "model.fnx")
        self.python("-m", "fornix", "compile", model, "-o", compiled, cache="own")
        return [
            self.least("fornix.onnxruntime", model, "cold"),
            self.least("fornix.onnxruntime", model, "warm"),
            self.least("fornix.onnxruntime", compiled, "own"),
            self.least("onnxruntime", model, "none"),
        ]

    def least(self, module: str, model: str, cache: str) -> Loaded:
        """The quickest load; the first of those that find something is not counted."""
        found: list[Loaded] = []
        for number in range(self.loads + (cache != "cold")):
            name = f"cold{number}" if cache == "cold" else cache
            told = self.python("-m", "bench.loading", "serve", module, model, str(self.feeds),
                               str(self.threads), cache=name)  # fmt: skip
            found.append(Loaded(*json.loads(told)))
        counted = found if cache == "cold" else found[1:]
        return min(counted, key=lambda one: one.result)

    def python(self, *arguments: str, cache: str) -> str:
        """What a process of its own prints, its cache a folder called ``cache``."""
        environment = {**os.environ, "FORNIX_CACHE": str(self.folder / cache)}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout


def serve(module: str, path: str, feeds: str, threads: str) -> None:
    """Load a model, run it once, and print how long that took."""
    given: dict[str, Any] = dict(np.load(feeds, allow_pickle=False))
    ort = importlib.import_module(module)
    begin = time.perf_counter()
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    made = time.perf_counter()
    session.run(None, given)
    done = time.perf_counter()
    print(json.dumps([(made - begin) * 1e3, (done - begin) * 1e3, resident("VmHWM")]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    else:
        main()
