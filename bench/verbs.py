"""What checking, inferring, printing and parsing cost per node, beside the onnx package.

The models are decoders of a transformer as exporters write them, of 500, 4,000 and 30,000 nodes:
dynamic batch and length, shapes computed by Shape, Gather and Concat. `python -m bench.verbs`
prints a table; times are the least of some runs, in a process of its own for each model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, checker, helper, numpy_helper, parser, printer, shape_inference

SIZES = (500, 4_000, 30_000)
AIMS = {"check": 60, "full check": 180, "infer": 120, "print": 60, "parse": 120}
"""Microseconds per node that each may take."""

WIDTH, HEADS = 8, 2
# Parsing 30,000 nodes takes seconds: no more runs than this once so many seconds are spent.
RUNS, SECONDS = 5, 4.0


def decoder(nodes: int) -> onnx.ModelProto:
    """A model of about ``nodes`` nodes, layer on layer."""
    graph = onnx.GraphProto(name="decoder")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", WIDTH])
    graph.input.append(x)
    weight = np.linspace(-1, 1, WIDTH * WIDTH, dtype=np.float32).reshape(WIDTH, WIDTH)
    graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    graph.initializer.append(numpy_helper.from_array(weight[0], "scale"))
    for name, value in (("at0", 0), ("at1", 1)):
        graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    for name, values in (("axis0", [0]), ("heads", [HEADS]), ("rest", [WIDTH // HEADS])):
        graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    graph.initializer.append(numpy_helper.from_array(np.array([WIDTH]), "width"))
    graph.initializer.append(numpy_helper.from_array(np.array(2, np.float32), "root"))
    last, layer = "x", 0
    while len(graph.node) < nodes:
        last = add_layer(graph, last, f"layer.{layer}")
        layer += 1
    y = helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", "length", WIDTH])
    graph.output.append(y)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def add_layer(graph: onnx.GraphProto, x: str, scope: str) -> str:
    """Append a layer that reads ``x``; returns its result."""

    def node(op_type: str, *inputs: str, **attributes: object) -> str:
        name = f"/{scope}/{op_type}_{len(graph.node)}"
        made = f"{name}_output_0"
        graph.node.append(helper.make_node(op_type, inputs, [made], name, **attributes))
        return made

    def split(y: str, perm: list[int]) -> str:
        shape = node("Shape", y)
        extents = [node("Unsqueeze", node("Gather", shape, at), "axis0") for at in ("at0", "at1")]
        target = node("Concat", *extents, "heads", "rest", axis=0)
        return node("Transpose", node("Reshape", y, target), perm=perm)

    normal = node("LayerNormalization", x, "scale", "scale", axis=-1)
    q, k, v = (node("Add", node("MatMul", normal, "weight"), "scale") for _ in range(3))
    q, v = split(q, [0, 2, 1, 3]), split(v, [0, 2, 1, 3])
    scores = node("Div", node("MatMul", q, split(k, [0, 2, 3, 1])), "root")
    mixed = node(
        "Transpose", node("MatMul", node("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3]
    )
    shape = node("Shape", mixed)
    extents = [node("Unsqueeze", node("Gather", shape, at), "axis0") for at in ("at0", "at1")]
    merged = node("Reshape", mixed, node("Concat", *extents, "width", axis=0))
    x = node("Add", x, node("Add", node("MatMul", merged, "weight"), "scale"))
    inner = node("Relu", node("Add", node("MatMul", node("Mul", x, "scale"), "weight"), "scale"))
    return node("Add", x, node("Add", node("MatMul", inner, "weight"), "scale"))


def least(call: Callable[[], object]) -> float:
    """Seconds that ``call`` takes at best."""
    found: list[float] = []
    begin = time.perf_counter()
    while len(found) < RUNS and (not found or time.perf_counter() - begin < SECONDS):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def measured(nodes: int) -> dict[str, tuple[float, float]]:
    """Microseconds per node of each verb, of fornix and of onnx."""
    import fornix.onnx as ours

    message = decoder(nodes)
    data = message.SerializeToString()
    own = ours.ModelProto.FromString(data)
    text, peer_text = ours.printer.to_text(own), printer.to_text(message)
    calls: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "check": (lambda: ours.checker.check_model(own), lambda: checker.check_model(message)),
        "full check": (
            lambda: ours.checker.check_model(own, full_check=True),
            lambda: checker.check_model(message, full_check=True),
        ),
        "infer": (
            lambda: ours.shape_inference.infer_shapes(own, data_prop=True),
            lambda: shape_inference.infer_shapes(message, data_prop=True),
        ),
        "print": (lambda: ours.printer.to_text(own), lambda: printer.to_text(message)),
        "parse": (lambda: ours.parser.parse_model(text), lambda: parser.parse_model(peer_text)),
    }
    count = len(message.graph.node) / 1e6
    return {
        verb: (least(mine) / count, least(theirs) / count) for verb, (mine, theirs) in calls.items()
    }


def main() -> int:
    """Measure every size, or one with ``--size``, and print it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--size", type=int, help="one model of so many nodes, as JSON")
    chosen = options.parse_args().size
    if chosen:
        print(json.dumps(measured(chosen)))
        return 0
    print("| nodes | " + " | ".join(f"{verb} (aim {AIMS[verb]})" for verb in AIMS) + " |")
    print("| --- |" + " --- |" * len(AIMS))
    for size in SIZES:
        command = [sys.executable, "-m", "bench.verbs", "--size", str(size)]
        run = subprocess.run(command, capture_output=True, check=True, text=True)
        cells = [f"{a:.1f} / {b:.1f} = {a / b:.1f}" for a, b in json.loads(run.stdout).values()]
        print(f"| {size:,} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
