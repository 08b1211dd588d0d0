from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix import InferenceSession
from fornix.reference import ReferenceEvaluator
from tests.conformance.cases import Case, cases
from tests.conformance.run import check_case, is_runnable

RUNNABLE = [case for case in cases().values() if is_runnable(case)]
EXACT = [case for case in RUNNABLE if not case.is_random]
RANDOM = [case for case in RUNNABLE if case.is_random]


@pytest.mark.parametrize("case", EXACT, ids=lambda case: case.name)
def test_the_reference_gives_what_the_standard_states(case: Case) -> None:
    check_case(case, ReferenceEvaluator(case.model))


@pytest.mark.parametrize("case", EXACT, ids=lambda case: case.name)
def test_a_session_on_kernels_gives_what_the_standard_states(case: Case) -> None:
    check_case(case, InferenceSession(case.model, providers=["ReferenceExecutionProvider"]))


@pytest.mark.parametrize("case", EXACT, ids=lambda case: case.name)
def test_compiled_code_gives_what_the_standard_states(case: Case) -> None:
    check_case(case, InferenceSession(case.model))


ENGINES = [ReferenceEvaluator, InferenceSession]
Engine = type[ReferenceEvaluator] | type[InferenceSession]


def run_random(engine: ReferenceEvaluator | InferenceSession, case: Case) -> list[Any]:
    """The results of a random case."""
    [(inputs, _)] = case.data_sets
    names = [value.name for value in case.model.graph.input]
    return list(engine.run(None, dict(zip(names, inputs, strict=True))))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", RANDOM, ids=lambda case: case.name)
def test_random_results_have_the_type_and_shape_that_the_standard_states(
    case: Case, engine: Engine
) -> None:
    [(_, expected)] = case.data_sets
    for result, wanted in zip(run_random(engine(case.model), case), expected, strict=True):
        assert isinstance(result, np.ndarray)
        assert (result.dtype, result.shape) == (wanted.dtype, wanted.shape)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", RANDOM, ids=lambda case: case.name)
def test_random_results_repeat_under_a_seed_and_not_without(case: Case, engine: Engine) -> None:
    many = [run_random(engine(case.model), case)[0].tobytes() for _ in range(12)]
    assert (len(set(many)) == 1) is ("seed" in case.name)


RUNS, DEVIATIONS = 300, 5.0


UNSEEDED = [case for case in RANDOM if "seed" not in case.name]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", UNSEEDED, ids=lambda case: case.name)
def test_random_results_are_distributed_as_the_standard_says(case: Case, engine: Engine) -> None:
    # The cases are all Bernoulli's: 1 with the probability that the input says. The standard's
    # expanded ones give 1 where a uniform number is greater than that, so with the other one.
    [([chances], _)] = case.data_sets
    chances = 1 - chances if "expanded" in case.name else chances
    runner = engine(case.model)
    drawn = np.stack([run_random(runner, case)[0] for _ in range(RUNS)]).astype(np.float64)
    assert np.isin(drawn, [0, 1]).all()
    spread = np.sqrt(chances * (1 - chances) / RUNS)
    assert (np.abs(drawn.mean(0) - chances) <= DEVIATIONS * spread).all()
