"""Every operator of com.microsoft against onnxruntime, on cases drawn from its schema."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fornix import ops
from tests.ops.differential.engines import disagreements
from tests.ops.differential.judge import judge
from tests.ops.differential.recipes import DOMAIN
from tests.ops.differential.space import cases, contributed
from tests.ops.differential.test_differential import drawn, shown

OPERATORS = contributed()
NAMES = [name for _, name in OPERATORS]
FEW, MANY = 3, 200
"""Cases of one operator."""
COSTLY = {"DynamicQuantizeLSTM": 40}
"""Cases of operators whose lowerings take the interpreter long, where there are many."""
EACH = pytest.mark.parametrize(("domain", "name"), OPERATORS, ids=NAMES)


def test_every_operator_is_drawn() -> None:
    assert sorted(NAMES) == sorted(name for _, name in ops.contributed(DOMAIN))


@EACH
def test_operator_agrees_with_onnxruntime(domain: str, name: str) -> None:
    for case in drawn(domain, name, FEW, seed=0):
        assert not shown(case, judge(case))


@pytest.mark.slow
@EACH
def test_operator_agrees_with_onnxruntime_in_many_cases(domain: str, name: str) -> None:
    for case in drawn(domain, name, COSTLY.get(name, MANY), seed=1):
        assert not shown(case, judge(case))


@pytest.mark.slow
@EACH
def test_sessions_give_what_the_evaluator_does(domain: str, name: str) -> None:
    rng = np.random.default_rng(3)
    for case in itertools.islice(cases(domain, name, rounds=MANY, seed=3), MANY // 10):
        assert not shown(case, disagreements(case, rng))
