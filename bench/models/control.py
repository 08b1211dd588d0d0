"""Models of control flow with tiny bodies, written by hand: what an iteration costs.

The truth is the loop in NumPy beside each, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from bench.models.cache import cached, read, write_cases
from bench.models.spec import Arrays, Built

# Raise it when a model below changes.
VERSION = 1
# Up to 100 steps whose values stay about 1 each round a few times: 100·4·2⁻²⁴.
TOLERANCE = 3e-5
SEEDS = (1, 2)

WIDTH, STEPS = 16, 100
KEEP = 0.9

Maker = Callable[[], GraphProto]
Truth = Callable[[Arrays], Arrays]


def stored(name: str, value: object, dtype: type = np.float32) -> onnx.TensorProto:
    """An initializer."""
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def floats(*names: str) -> list[onnx.ValueInfoProto]:
    """Vectors of open length."""
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["W"]) for name in names]


def node(kind: str, inputs: str, outputs: str, **attributes: object) -> NodeProto:
    """A node whose values are named in words."""
    made: NodeProto = helper.make_node(kind, inputs.split(" "), outputs.split(" "), **attributes)
    return made


def square_root() -> GraphProto:
    """x[W] → root[W], steps: Newton's steps until no element moves by more than a thousandth."""
    bools = [helper.make_tensor_value_info("again", TensorProto.BOOL, [])]
    count = helper.make_tensor_value_info("step", TensorProto.INT64, [])
    body = helper.make_graph(
        [
            node("Div", "x guess", "other"),
            node("Add", "guess other", "sum"),
            node("Mul", "sum half", "better"),
            node("Sub", "better guess", "move"),
            node("Abs", "move", "size"),
            node("ReduceMax", "size", "most", keepdims=0),
            node("Greater", "most least", "more"),
        ],
        "newton",
        [count, *bools, *floats("guess")],
        [helper.make_tensor_value_info("more", TensorProto.BOOL, []), *floats("better")],
    )
    weights = [stored("half", 0.5), stored("least", 1e-3), stored("limit", STEPS, np.int64)]
    weights.append(stored("yes", True, np.bool_))
    loop = node("Loop", "limit yes x", "root", body=body)
    return helper.make_graph([loop], "roots", floats("x"), floats("root"), weights)


def square_root_truth(feeds: Arrays) -> Arrays:
    x = feeds["x"].astype(np.float64)
    root, move = x, np.inf
    while move > 1e-3:
        better = (root + x / root) / 2
        root, move = better, float(np.abs(better - root).max())
    return {"root": root.astype(np.float32)}


def average() -> GraphProto:
    """x[T, W] → last[W], all[T, W]: a moving average, step by step in a Scan."""
    body = helper.make_graph(
        [
            node("Mul", "held keep", "old"),
            node("Mul", "row rest", "new"),
            node("Add", "old new", "next"),
            node("Identity", "next", "shown"),
        ],
        "step",
        floats("held", "row"),
        floats("next", "shown"),
    )
    scan = node("Scan", "zero x", "last all", body=body, num_scan_inputs=1)
    weights = [stored("keep", KEEP), stored("rest", 1 - KEEP), stored("zero", np.zeros(WIDTH))]
    rows = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["T", WIDTH])
        for name in ("x", "all")
    ]
    return helper.make_graph([scan], "average", rows[:1], [*floats("last"), *rows[1:]], weights)


def average_truth(feeds: Arrays) -> Arrays:
    held, rows = np.zeros(WIDTH), []
    for row in feeds["x"].astype(np.float64):
        held = KEEP * held + (1 - KEEP) * row
        rows.append(held)
    return {"last": held.astype(np.float32), "all": np.array(rows, np.float32)}


def branches() -> GraphProto:
    """x[W] → y[W]: one of two little formulas, by the sign of the sum."""
    grow = helper.make_graph(
        [node("Exp", "x", "e"), node("Add", "e x", "grown")], "grow", [], floats("grown")
    )
    fold = helper.make_graph(
        [node("Tanh", "x", "t"), node("Mul", "t x", "folded")], "fold", [], floats("folded")
    )
    nodes = [
        node("ReduceSum", "x", "sum", keepdims=0),
        node("Less", "sum zero", "below"),
        node("If", "below", "y", then_branch=grow, else_branch=fold),
    ]
    return helper.make_graph(nodes, "branches", floats("x"), floats("y"), [stored("zero", 0)])


def branches_truth(feeds: Arrays) -> Arrays:
    x = feeds["x"].astype(np.float64)
    y = np.exp(x) + x if x.sum() < 0 else np.tanh(x) * x
    return {"y": y.astype(np.float32)}


def vectors(seed: int) -> Arrays:
    return {"x": np.random.default_rng(seed).uniform(0.5, 2, WIDTH).astype(np.float32)}


def signed_vectors(seed: int) -> Arrays:
    """Vectors of sums below and above 0 in turn."""
    return {"x": vectors(seed)["x"] * np.float32((-1) ** seed)}


def rows(seed: int) -> Arrays:
    return {"x": np.random.default_rng(seed).standard_normal((STEPS, WIDTH), np.float32)}


RECIPES: dict[str, tuple[Maker, Callable[[int], Arrays], Truth]] = {
    "loop": (square_root, vectors, square_root_truth),
    "scan": (average, rows, average_truth),
    "if": (branches, signed_vectors, branches_truth),
}


def build_control(name: str) -> Built:
    """The model ``name`` of `RECIPES`, written now or earlier, with feeds and the truth."""
    make, feed, truth = RECIPES[name]

    def write(draft: Path) -> None:
        opset = [helper.make_opsetid("", 21)]
        model = helper.make_model(make(), opset_imports=opset, ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, draft / "model.onnx")
        feeds = [feed(seed) for seed in SEEDS]
        write_cases(draft / "cases.npz", feeds, [truth(case) for case in feeds], TOLERANCE)

    return read(cached(f"control-{name}-v{VERSION}", write))
