from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest

from fornix.errors import FornixError
from fornix.ir.load import to_message
from fornix.reference import ReferenceEvaluator
from tests.conformance.cases import Case, cases
from tests.infer.loosened import MODES, findings, loosened
from tests.ops.differential import space
from tests.ops.differential.judge import answer
from tests.ops.differential.oracles import feeds_of, model_of
from tests.random_graphs import random_model
from tests.wide_graphs import wide_model

CASES = [case for case in cases().values() if case.data_sets]
FIRST_OF_EACH = {frozenset(case.operators): case for case in reversed(CASES)}.values()


def of_case(case: Case, mode: str, rng: np.random.Generator) -> Iterator[str]:
    """Findings about a case of the standard."""
    inputs, expected = case.data_sets[0]
    graph = case.model.graph
    stored = {initializer.name for initializer in graph.initializer}
    names = [value.name for value in graph.input if value.name not in stored]
    if len(names) < len(inputs):
        names = [value.name for value in graph.input]
    made = loosened(case.model, dict(zip(names, inputs, strict=False)), mode, rng)
    results = zip((value.name for value in graph.output), expected, strict=False)
    for finding in findings(made, dict(results)):
        yield f"{case.name}, {mode}: {finding}"


@pytest.mark.parametrize("mode", MODES)
def test_of_each_operator_nothing_is_wrong_or_less_than_onnx_infers(mode: str) -> None:
    rng = np.random.default_rng(7)
    chosen = list(FIRST_OF_EACH)[MODES.index(mode) :: len(MODES)]
    assert [f for case in chosen for f in of_case(case, mode, rng)] == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_of_every_case_nothing_is_wrong_or_less_than_onnx_infers(mode: str) -> None:
    rng = np.random.default_rng(8)
    assert [f for case in CASES for f in of_case(case, mode, rng)] == []


def of_drawn(domain: str, name: str, seed: int) -> Iterator[str]:
    """Findings about cases drawn from an operator's schemas."""
    rng = np.random.default_rng(seed)
    for case in space.cases(domain, name, rounds=3, seed=seed):
        if any(isinstance(x, list | dict) for x in case.inputs):
            continue  # the feeds of oracles state one type of all elements
        try:
            results = dict(zip((f"y{i}" for i in range(case.outputs)), answer(case), strict=False))
        except FornixError:
            continue
        for mode in MODES:
            made = loosened(model_of(case), feeds_of(case), mode, rng)
            for finding in findings(made, results):
                yield f"{case}, {mode}: {finding}"


@pytest.mark.slow
@pytest.mark.parametrize(("domain", "name"), space.recipes(), ids=lambda part: part or "ai.onnx")
def test_of_drawn_cases_nothing_is_wrong_or_less_than_onnx_infers(domain: str, name: str) -> None:
    assert list(of_drawn(domain, name, 9)) == []


def of_graph(model: Any, feeds: dict[str, Any], mode: str, rng: np.random.Generator) -> list[str]:
    """Findings about every value of a random model."""
    message = onnx.ModelProto.FromString(to_message(model).SerializeToString())
    names = [name for node in message.graph.node for name in node.output if name]
    del message.graph.output[:]
    message.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    results = dict(zip(names, ReferenceEvaluator(message).run(None, feeds), strict=True))
    return list(findings(loosened(message, feeds, mode, rng), results))


@pytest.mark.parametrize("mode", MODES)
def test_of_random_graphs_nothing_is_wrong_or_less_than_onnx_infers(mode: str) -> None:
    rng = np.random.default_rng(10)
    found = [of_graph(*make(seed), mode, rng) for seed in range(6) for make in MAKERS]
    assert [finding for findings_ in found for finding in findings_] == []


MAKERS = (random_model, wide_model)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 100))
def test_of_many_random_graphs_nothing_is_wrong_or_less_than_onnx_infers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = [of_graph(*make(seed), mode, rng) for mode in MODES for make in MAKERS]
    assert [finding for findings_ in found for finding in findings_] == []
