"""Memory of models, one with a cache that grows: ``python -m bench.growth`` prints MB at its most.

Each engine has a process of its own. GPT-2 decodes token by token from an empty cache on. Linux
only. Nothing is written.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from typing import Any

import click
import numpy as np

from bench.models import Size
from bench.soak import resident
from bench.workloads import ONE, built_as

ENGINES = {"fornix": "fornix.onnxruntime", "onnxruntime": "onnxruntime"}
MODELS = {"resnet50": 1, "bert_base": 1, "gpt2": 1024}
"""Models, and how many runs each makes."""


@click.command()
@click.option("--threads", default=2, show_default=True)
@click.option("--size", type=click.Choice(["full", "small"]), default="full", show_default=True)
def main(threads: int, size: Size) -> None:
    """Print the largest resident memory, and what is resident at the end."""
    print("| model, runs | fornix: most / at the end, MB | onnxruntime |\n| --- | --- | --- |")
    for model, runs in MODELS.items():
        built = built_as(model, "dynamo", size)
        shapes = {name: list(array.shape) for name, array in built.inputs[ONE].items()}
        cells = []
        for module in ENGINES.values():
            command = [sys.executable, "-m", "bench.growth", "serve", module, str(built.path),
                       json.dumps(shapes), str(runs), str(threads)]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            cells.append(" / ".join(f"{n:.0f}" for n in json.loads(done.stdout)))
        print(f"| {model}, {runs:,} | {' | '.join(cells)} |", flush=True)


def serve(module: str, path: str, shapes: str, runs: str, threads: str) -> None:
    """Run a model, and print VmHWM and VmRSS."""
    ort = importlib.import_module(module)
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = first_feeds(session, json.loads(shapes), grows=int(runs) > 1)
    for _ in range(int(runs)):
        names = [value.name for value in session.get_outputs()]
        results = dict(zip(names, session.run(None, feeds), strict=True))
        for name, array in results.items():
            if name.startswith("present"):
                feeds[name.replace("present", "past")] = array
        if "attention_mask" in feeds:
            more = np.ones((1, feeds["attention_mask"].shape[1] + 1), np.int64)
            feeds["attention_mask"] = more if int(runs) > 1 else feeds["attention_mask"]
    print(json.dumps([resident("VmHWM"), resident("VmRSS")]))


def first_feeds(session: Any, shapes: dict[str, list[int]], *, grows: bool) -> dict[str, Any]:
    """Zeros, or ones for integers; of what grows, one token and an empty cache."""
    feeds: dict[str, Any] = {}
    for value in session.get_inputs():
        shape = shapes[value.name]
        if grows:
            is_cache = value.name.startswith("past")
            shape = [1, shape[1], 0, shape[3]] if is_cache else [1, 1]
        feeds[value.name] = np.ones(shape, np.int64 if "int64" in value.type else np.float32)
    return feeds


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    else:
        main()
