"""Memory after many runs: ``python -m bench.soak`` prints VmRSS in MB, as a table.

Each engine has a process of its own. Runs have extents drawn anew each time; sessions are made of
the same model again and again. Linux only. Nothing is written.
"""

from __future__ import annotations

import gc
import importlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import parser

ENGINES = {"fornix": "fornix.onnxruntime", "onnxruntime": "onnxruntime"}
MARKS = (1_000, 10_000, 100_000)
HIDDEN = 128
MODEL = f"""<ir_version: 8, opset_import: ["" : 18]>
    soak (float[N, K, {HIDDEN}] x) => (float[N, K, {HIDDEN}] y, int64[R, M] z) {{
        h = MatMul (x, w)  r = Relu (h)  p = MatMul (r, w)  s = Softmax (p)  y = Add (s, x)
        z = NonZero (h)
    }}"""
"""Rows of compiled code, and a result whose extents only the data tell."""
MAX_ROWS = 24


@click.command()
@click.option("--runs", default=",".join(map(str, MARKS)), show_default=True, help="To look after.")
@click.option("--callers", default="1,4", show_default=True, help="Python threads.")
@click.option("--sessions", default="100,1000", show_default=True, help="Made and given up.")
@click.option("--vs", "engines", default=",".join(ENGINES), show_default=True)
def main(runs: str, callers: str, sessions: str, engines: str) -> None:
    """Print what processes hold after so many runs, and after so many sessions."""
    marks = [int(mark) for mark in runs.split(",")]
    print(f"| VmRSS, MB | {' | '.join(f'{mark:,}' for mark in marks)} |")
    print(f"| --- |{' --- |' * len(marks)}")
    for engine in engines.split(","):
        for count in callers.split(","):
            found = measured(ENGINES[engine], "runs", count, json.dumps(marks))
            print(f"| {engine}, runs by {count} threads | {told(found)} |", flush=True)
    print()
    for engine in engines.split(","):
        found = measured(ENGINES[engine], "sessions", "1", f"[{sessions}]")
        print(
            f"{engine}, after {sessions.replace(',', ' and ')} sessions: {told(found)}", flush=True
        )


def told(numbers: list[float]) -> str:
    """Megabytes in a row."""
    return " | ".join(f"{number:.1f}" for number in numbers)


def measured(*arguments: str) -> list[float]:
    """What a process of its own answers."""
    command = [sys.executable, "-m", "bench.soak", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


def serve(module: str, what: str, callers: str, marks: str) -> None:
    """Print the resident memory at each of ``marks``."""
    ort = importlib.import_module(module)
    model = data()
    if what == "sessions":
        print(json.dumps(after_sessions(ort, model, json.loads(marks))))
        return
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    found: list[float] = []
    done = 0
    for mark in json.loads(marks):
        share = (mark - done) // int(callers)
        threads = [threading.Thread(target=run_often, args=(session, n, share, mark))
                   for n in range(int(callers))]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = mark
        found.append(resident("VmRSS"))
    print(json.dumps(found))


def data() -> bytes:
    """The model, with its weight."""
    made = parser.parse_model(MODEL)
    weight = np.random.default_rng(0).standard_normal((HIDDEN, HIDDEN)).astype(np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return bytes(made.SerializeToString())


def run_often(session: Any, number: int, count: int, seed: int) -> None:
    """``count`` runs with extents drawn for each."""
    rng = np.random.default_rng([number, seed])
    for _ in range(count):
        n, k = rng.integers(1, MAX_ROWS, 2)
        session.run(None, {"x": np.ones((n, k, HIDDEN), np.float32)})


def after_sessions(ort: Any, model: bytes, marks: list[int]) -> list[float]:
    """Memory after so many sessions were made, run once and given up."""
    found: list[float] = []
    done = 0
    for mark in marks:
        for _ in range(mark - done):
            session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
            session.run(None, {"x": np.ones((2, 3, HIDDEN), np.float32)})
        done = mark
        found.append(resident("VmRSS"))
    return found


def resident(what: str) -> float:
    """A line of this process's status, such as VmRSS, in MB."""
    gc.collect()
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    line = next(line for line in lines if line.startswith(what))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    else:
        main()
