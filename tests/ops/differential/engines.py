"""The two engines on one case: evaluator and session give the same results, or both refuse.

Sessions learn of shapes and contents at different times, so each case runs with its inputs fed or
stored, and with extents declared or named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fornix import InferenceSession
from fornix.errors import FornixError
from fornix.reference import ReferenceEvaluator
from tests.compare import assert_same
from tests.ops.differential.judge import Finding, tolerance
from tests.ops.differential.oracles import IR_VERSION, node_of, type_proto
from tests.ops.differential.space import Case

PYTHONS = re.compile(
    r"(Type|Value|Index|Key|Attribute|Overflow|Memory|Recursion|ZeroDivision|Axis)Error: "
)
"""Words of Python and NumPy, which say nothing about the model."""
UNEQUAL = {
    "Conv", "QLinearConv",  # NaN in other groups' results, and in other results of a tile
    "Attention", "FlexAttention",  # NaN in hidden keys
    "Dropout",  # in training
}  # fmt: skip
"""Operators of which docs/limits.md and docs/compat.md say where compiled results differ."""


def disagreements(case: Case, rng: np.random.Generator) -> Iterator[Finding]:
    """What is wrong about the engines' answers to ``case``, which may be a wrong one."""
    stored = {i for i in range(len(case.inputs)) if rng.random() < 0.4}
    model, feeds = _model(case, stored, is_symbolic=bool(rng.random() < 0.5))
    answers = [_answer(engine, model, feeds) for engine in (ReferenceEvaluator, InferenceSession)]
    for answer in answers:
        if isinstance(answer, Exception) and not isinstance(answer, FornixError):
            yield Finding("crash", "engines", f"{type(answer).__name__}: {answer}")
        elif isinstance(answer, FornixError) and case.name not in str(answer):
            yield Finding("unnamed", "engines", str(answer))
        elif isinstance(answer, FornixError) and PYTHONS.search(str(answer)):
            yield Finding("unexplained", "engines", str(answer))
    one, other = answers
    if isinstance(one, Exception) or isinstance(other, Exception):
        if isinstance(one, Exception) != isinstance(other, Exception):
            yield Finding("refusal", "engines", f"{one} | {other}")
        return
    for index, (wanted, found) in enumerate(zip(one, other, strict=True)):
        rtol, atol = tolerance(case, "lowering", found, wanted)
        try:
            if case.name not in UNEQUAL:
                assert_same(found, wanted, rtol=rtol, atol=atol)
        except AssertionError as error:
            yield Finding("output", "engines", f"output {index}: {' '.join(str(error).split())}")


def _answer(engine: Any, model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any] | Exception:
    try:
        return list(engine(model).run(None, feeds))
    except Exception as error:  # noqa: BLE001 - that is the answer
        return error


def _model(
    case: Case, stored: set[int], *, is_symbolic: bool
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The node with some tensors stored, and the feeds of the others."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(case.inputs)]
    inputs, weights, feeds = [], [], {}
    for i, (name, x) in enumerate(zip(names, case.inputs, strict=True)):
        if isinstance(x, np.ndarray) and i in stored:
            weights.append(numpy_helper.from_array(x, name))
        elif name:
            feeds[name] = x
            inputs.append(helper.make_value_info(name, _type(x, name, is_symbolic=is_symbolic)))
    results = [f"y{i}" for i in range(case.outputs)]
    graph = helper.make_graph(
        [node_of(case, names, results)],
        "case",
        inputs,
        [helper.make_empty_tensor_value_info(result) for result in results],
        weights,
    )
    imports = {"": 21, case.domain: case.opset}
    opsets = [helper.make_opsetid(*pair) for pair in imports.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION), feeds


def _type(x: Any, name: str, *, is_symbolic: bool) -> onnx.TypeProto:
    proto = type_proto(x)
    if isinstance(x, list):
        proto.sequence_type.elem_type.tensor_type.ClearField("shape")
    elif is_symbolic and isinstance(x, np.ndarray):
        dims = [f"{name}_{axis}" for axis in range(x.ndim)]
        return helper.make_tensor_type_proto(proto.tensor_type.elem_type, dims)
    return proto
