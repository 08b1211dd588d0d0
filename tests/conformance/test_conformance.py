from __future__ import annotations

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


FIRST_OF_EACH = {frozenset(case.operators): case for case in reversed(EXACT)}.values()
QUICK = {case.name for case in list(FIRST_OF_EACH)[::4]}
COMPILED = [
    pytest.param(case, marks=[] if case.name in QUICK else [pytest.mark.slow]) for case in EXACT
]


@pytest.mark.parametrize("case", COMPILED, ids=lambda case: case.name)
def test_compiled_code_gives_what_the_standard_states(case: Case) -> None:
    check_case(case, InferenceSession(case.model))


@pytest.mark.parametrize("case", RANDOM, ids=lambda case: case.name)
def test_random_results_have_the_type_and_shape_that_the_standard_states(case: Case) -> None:
    evaluator = ReferenceEvaluator(case.model)
    for inputs, expected in case.data_sets:
        feeds = dict(zip(evaluator.input_names, inputs, strict=True))
        for result, wanted in zip(evaluator.run(None, feeds), expected, strict=True):
            assert isinstance(result, np.ndarray)
            assert (result.dtype, result.shape) == (wanted.dtype, wanted.shape)
