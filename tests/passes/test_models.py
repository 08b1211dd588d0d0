"""Translation validation: optimized models answer as the models they come from."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

import fornix
from bench.models import EXPORTERS, MODELS, Exporter, build
from bench.models.compare import disagreements
from fornix.ir.load import from_message, to_message
from fornix.ir.walk import nodes
from fornix.passes import optimize
from fornix.reference import ReferenceEvaluator
from tests.compare import assert_same
from tests.conformance.cases import Case, cases
from tests.conformance.run import check_case, is_runnable

NEWEST = 24
"""An opset that has every operator that passes fuse into."""

every_export = pytest.mark.parametrize(
    ("name", "exporter"),
    [(name, exporter) for name, spec in MODELS.items() for exporter in spec.exporters],
)


@every_export
@pytest.mark.parametrize("opset", [None, NEWEST])
def test_optimized_models_agree_with_torch(
    name: str, exporter: Exporter, opset: int | None
) -> None:
    built = build(name, exporter)
    optimized = optimize(fornix.load(built.path), opset=opset, debug=True)
    evaluator = ReferenceEvaluator(from_message(to_message(optimized)))
    for case, feed in enumerate(built.inputs):
        outputs = evaluator.run(list(built.expected[case]), feed)
        assert disagreements(built, case, outputs) == {}


def operators(name: str, exporter: Exporter) -> Counter[str]:
    model = optimize(fornix.load(build(name, exporter).path), opset=NEWEST)
    return Counter(node.op_type for node in nodes(model.graph))


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", ["bert_base", "gpt2", "vit_b16"])
def test_transformers_of_both_exporters_become_their_operators(
    name: str, exporter: Exporter
) -> None:
    found = operators(name, exporter)
    assert (found["Attention"], found["Gelu"], found["LayerNormalization"]) == (2, 2, 5)
    assert not found.keys() & {"Softmax", "IsNaN", "Erf", "Sqrt", "Pow", "Identity", "Constant"}


EXACT = [case for case in cases().values() if is_runnable(case) and not case.is_random]


@pytest.mark.slow
@pytest.mark.parametrize("case", EXACT, ids=lambda case: case.name)
def test_optimized_cases_give_what_the_standard_states(case: Case) -> None:
    check_case(
        case, ReferenceEvaluator(optimize(from_message(case.model), inline=True, debug=True))
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", EXACT, ids=lambda case: case.name)
def test_exact_passes_change_no_bit_of_a_case(case: Case) -> None:
    model = from_message(case.model)
    one, other = ReferenceEvaluator(model), ReferenceEvaluator(optimize(model, "basic"))
    close: dict[str, Any] = {}
    if {"Conv", "BatchNormalization", "Gemm"} & {name for _, name in case.operators}:
        close = {"rtol": 1e-5, "atol": 1e-5}  # weights are multiplied ahead of time
    stored = {value.name for value in model.graph.initializer_values}
    names = [value.name for value in model.graph.inputs if value.name not in stored]
    for inputs, _ in case.data_sets:
        given = names if len(names) >= len(inputs) else one.input_names
        feeds = dict(zip(given, inputs, strict=False))
        for found, wanted in zip(other.run(None, feeds), one.run(None, feeds), strict=True):
            assert_same(found, wanted, **close)
