from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

import fornix
from bench.models.compare import disagreements
from bench.models.control import RECIPES, build_control

every_model = pytest.mark.parametrize("name", RECIPES)


@every_model
def test_answers_differ_between_feeds(name: str) -> None:
    first, second = build_control(name).expected
    for output, truth in first.items():
        assert not np.allclose(truth, second[output], rtol=0.1), output


@every_model
@pytest.mark.parametrize("engine", [fornix, onnxruntime], ids=lambda engine: engine.__name__)
def test_engines_agree_with_the_loops_in_numpy(name: str, engine: object) -> None:
    built = build_control(name)
    session = engine.InferenceSession(str(built.path))  # type: ignore[attr-defined]
    for case, feed in enumerate(built.inputs):
        outputs = session.run(list(built.expected[case]), feed)
        assert disagreements(built, case, outputs) == {}
