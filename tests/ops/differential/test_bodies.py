"""Operators with bodies, optionals and empty sequences: both engines, and peers, against Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from fornix import InferenceSession
from fornix.reference import ReferenceEvaluator
from tests.compare import assert_same
from tests.ops.differential.bodies import MAKERS, Drawn, drawn

ENGINES: list[Callable[[onnx.ModelProto], Any]] = [ReferenceEvaluator, InferenceSession]
STEPS = {"FlexAttention": {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-12}}
"""By how much results may differ; what only moves elements is exact."""


def check(name: str, case: Drawn, results: list[Any]) -> None:
    for found, wanted in zip(results, case.expected, strict=True):
        if wanted is not None:
            step = STEPS.get(name, {}).get(str(getattr(wanted, "dtype", "")), 0.0)
            assert_same(found, wanted, rtol=step, atol=step)


@pytest.mark.parametrize("name", MAKERS)
def test_bodies_give_what_python_says(name: str) -> None:
    for opset, dtype, case in drawn(name, seed=0, every=4):
        for engine in ENGINES:
            try:
                check(name, case, engine(case.model).run(None, dict(case.feeds)))
            except Exception as error:
                error.add_note(f"{engine.__name__}, {name}-{opset} of {dtype}: {case}")
                raise


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MAKERS)
def test_bodies_give_what_python_says_for_every_type(name: str, seed: int) -> None:
    for _, _, case in drawn(name, seed=seed):
        for engine in ENGINES:
            check(name, case, engine(case.model).run(None, dict(case.feeds)))


UNANSWERED = {"FlexAttention", "Optional", "SequenceMap"}
"""What onnxruntime lacks, or has only for float32."""


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in UNANSWERED])
def test_a_peer_says_the_same_as_python(name: str) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    answered = 0
    for opset, dtype, case in drawn(name, seed=2):
        if opset > 25 or dtype.numpy.char not in "fdlibB?":
            continue
        session = onnxruntime.InferenceSession(
            case.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        results = session.run(None, dict(case.feeds))
        check(name, case, [np.asarray(x) if np.isscalar(x) else x for x in results])
        answered += 1
    assert answered >= 4
