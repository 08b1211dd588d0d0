"""Products and convolutions of bytes beside onnxruntime: ``python -m bench.bytes [--threads 1]``.

Each case is one node with stored weights; both engines run in this process, in turns. Per shape
the least of many runs in microseconds, operations per second, and the ratio; then the geometric
mean and the least ratio of each family.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import click
import numpy as np
import onnxruntime
from onnx import ModelProto, helper, numpy_helper

import fornix

MATRICES = [
    (1, 768, 768), (1, 4096, 4096), (7, 768, 3072), (64, 64, 64), (128, 768, 768),
    (128, 768, 3072), (128, 3072, 768), (77, 333, 191), (512, 512, 512), (1024, 64, 1024),
]  # fmt: skip
"""Rows, terms, columns."""
IMAGES = [
    (3, 224, 64, 7, 2, 1), (64, 56, 64, 1, 1, 1), (64, 56, 64, 3, 1, 1), (256, 56, 64, 1, 1, 1),
    (128, 28, 128, 3, 1, 1), (256, 14, 256, 3, 1, 1), (512, 7, 512, 3, 1, 1),
    (512, 7, 2048, 1, 1, 1), (96, 112, 24, 1, 1, 1), (20, 33, 44, 3, 1, 1),
    (96, 112, 96, 3, 2, 96), (144, 56, 144, 3, 1, 144), (128, 28, 128, 3, 1, 32),
]  # fmt: skip
"""Channels, height and width, filters, taps, stride, groups."""
RUNS, SECONDS = 15, 0.15


@dataclass(frozen=True)
class Case:
    """One node on bytes."""

    family: str
    name: str
    model: ModelProto
    feed: np.ndarray
    operations: int


def _bytes(shape: tuple[int, ...], dtype: type, seed: int) -> np.ndarray:
    bounds = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    return rng.integers(bounds.min, bounds.max + 1, shape).astype(dtype)


def _model(
    op_type: str, inputs: str, x: np.ndarray, stored: dict, **attributes: object
) -> ModelProto:
    kind = helper.np_dtype_to_tensor_dtype
    result = np.dtype(np.int32 if op_type == "MatMulInteger" else x.dtype)
    graph = helper.make_graph(
        [helper.make_node(op_type, inputs.split(), ["y"], **attributes)],
        "case",
        [helper.make_tensor_value_info("x", kind(x.dtype), x.shape)],
        [helper.make_tensor_value_info("y", kind(result), None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _matrices(dtype: type) -> list[Case]:
    found = []
    for m, k, n in MATRICES:
        x = _bytes((m, k), dtype, 0)
        stored = {"w": _bytes((k, n), np.int8, 1), "z": np.asarray(3, dtype)}
        model = _model("MatMulInteger", "x w z", x, stored)
        name = f"{np.dtype(dtype)} {m}×{k}×{n}"
        found.append(Case("matrices", name, model, x, 2 * m * k * n))
    return found


def _images(dtype: type) -> list[Case]:
    found = []
    for channels, side, filters, taps, stride, group in IMAGES:
        x = _bytes((1, channels, side, side), dtype, 0)
        w = _bytes((filters, channels // group, taps, taps), np.int8, 1)
        stored = {"w": w, "s": np.float32(0.02), "z": np.asarray(3, dtype)}
        stored |= {"ws": np.full(filters, 0.01, np.float32), "wz": np.zeros(filters, np.int8)}
        model = _model(
            "QLinearConv", "x s z w ws wz s z", x, stored,
            pads=[taps // 2] * 4, strides=[stride] * 2, group=group,
        )  # fmt: skip
        places = ((side - 1) // stride + 1) ** 2
        name = f"{np.dtype(dtype)} {channels}@{side} {taps}×{taps}/{stride} to {filters}"
        name += f", {group} groups" if group > 1 else ""
        found.append(Case("convolutions", name, model, x, 2 * places * w.size))
    return found


def _least(runs: list[Callable[[], object]]) -> list[float]:
    """The least seconds of each of ``runs``, in turns."""
    found = [math.inf] * len(runs)
    end = time.perf_counter() + SECONDS * len(runs)
    while time.perf_counter() < end:
        for k, run in enumerate(runs):
            run()
            for _ in range(RUNS):
                start = time.perf_counter()
                run()
                found[k] = min(found[k], time.perf_counter() - start)
    return found


def _measured(case: Case, threads: int) -> tuple[float, float]:
    ours = fornix.SessionOptions(intra_op_num_threads=threads)
    theirs = onnxruntime.SessionOptions()
    theirs.intra_op_num_threads = threads
    data, feeds = case.model.SerializeToString(), {"x": case.feed}
    engines = [
        fornix.InferenceSession(data, ours),
        onnxruntime.InferenceSession(data, theirs, providers=["CPUExecutionProvider"]),
    ]
    own, peer = _least([partial(engine.run, None, feeds) for engine in engines])
    return own, peer


@click.command()
@click.option("--threads", default=1)
@click.argument("words", nargs=-1)
def main(threads: int, words: tuple[str, ...]) -> None:
    """Measure all cases, or those whose names contain one of WORDS."""
    ratios: dict[str, list[float]] = {}
    for case in [c for d in (np.uint8, np.int8) for c in (*_matrices(d), *_images(d))]:
        if words and not any(word in f"{case.family} {case.name}" for word in words):
            continue
        own, peer = _measured(case, threads)
        ratios.setdefault(case.family, []).append(peer / own)
        click.echo(
            f"{case.family} {case.name}: {own * 1e6:.1f} µs, {case.operations / own / 1e9:.0f} "
            f"GOP/s, onnxruntime {peer * 1e6:.1f} µs, ratio {peer / own:.2f}"
        )
    for family, found in ratios.items():
        mean = math.exp(sum(map(math.log, found)) / len(found))
        click.echo(f"{family}: geometric mean {mean:.2f}, least {min(found):.2f}")


if __name__ == "__main__":
    main()
