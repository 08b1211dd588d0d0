from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

import fornix
from bench.models.classical import CLASSICAL, build_classical
from bench.models.compare import disagreements
from fornix.reference import ReferenceEvaluator

every_model = pytest.mark.parametrize("name", CLASSICAL)


@every_model
def test_answers_differ_between_feeds(name: str) -> None:
    first, second = build_classical(name).expected[:2]
    for output, truth in first.items():
        changed = np.mean(second[output] != truth)
        assert changed > 0.2, output


@every_model
def test_onnxruntime_agrees_with_sklearn(name: str) -> None:
    built = build_classical(name)
    session = onnxruntime.InferenceSession(str(built.path))
    for case, feed in enumerate(built.inputs):
        outputs = session.run(list(built.expected[case]), feed)
        assert disagreements(built, case, outputs) == {}


@every_model
def test_reference_evaluator_agrees_with_sklearn(name: str) -> None:
    built = build_classical(name)
    evaluator = ReferenceEvaluator(str(built.path))
    for case, feed in enumerate(built.inputs):
        outputs = evaluator.run(list(built.expected[case]), feed)
        assert disagreements(built, case, outputs) == {}


@every_model
def test_session_agrees_with_sklearn(name: str) -> None:
    built = build_classical(name)
    session = fornix.InferenceSession(str(built.path))
    for case, feed in enumerate(built.inputs):
        outputs = session.run(list(built.expected[case]), feed)
        assert disagreements(built, case, outputs) == {}


def test_zipmap_answers_one_map_per_row() -> None:
    built = build_classical("logistic_regression_maps")
    session = fornix.InferenceSession(str(built.path))
    (maps,) = session.run(["output_probability"], built.inputs[0])
    truth = built.expected[0]["output_probability"]
    assert len(maps) == len(truth)
    assert list(maps[0]) == ["class_0", "class_1", "class_2"]
    assert [max(row, key=row.__getitem__) for row in maps] == list(
        built.expected[0]["output_label"]
    )
