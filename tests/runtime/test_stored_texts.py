"""Nodes whose texts are all stored."""

from __future__ import annotations

import pytest

from fornix.format.text import parse_model
from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession


@pytest.mark.parametrize(
    "node",
    [
        'StringNormalizer <case_change_action = "LOWER", stopwords = ["MONDAY"]> (x)',
        'ai.onnx.ml.LabelEncoder <keys_strings = ["MONDAY"], values_int64s = [3]> (x)',
        'RegexFullMatch <pattern = "M.*"> (x)',
        "Equal (x, x)",
    ],
)
def test_they_are_what_the_evaluator_says(node: str) -> None:
    given = 'string[2] x = {"ÉCOLE", "MONDAY"}'
    kind = "int64[2]" if "Label" in node else "string[K]" if "Norm" in node else "bool[2]"
    imports = '"": 21, "ai.onnx.ml": 4'
    header = f"<ir_version: 10, opset_import: [{imports}]>"
    model = parse_model(f"{header} f () => ({kind} y) <{given}> {{ y = {node} }}")
    (wanted,), (found,) = (
        engine(model).run(None, {}) for engine in (ReferenceEvaluator, InferenceSession)
    )
    assert found.dtype == wanted.dtype
    assert found.tolist() == wanted.tolist()
