"""Every operator against every oracle, on cases drawn from its schemas.

The default run tries a few cases of each operator; ``sweep.py`` tries as many as wanted and prints
what it finds. A finding here is a bug of fornix, or a peer's that `mistakes.py` does not know yet.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from fornix import ops
from tests.ops.differential.bodies import MAKERS
from tests.ops.differential.engines import disagreements
from tests.ops.differential.hostile import estranged, mutated
from tests.ops.differential.judge import Finding, judge, judge_hostile
from tests.ops.differential.space import Case, cases, recipes, versions

OPERATORS = list(recipes())
NAMES = [name for _, name in OPERATORS]
FEW, MANY = 16, 400
"""Cases of one operator, over all its schema versions."""
COSTLY = {"Attention": 3, "DeformConv": 4, "GRU": 5, "LSTM": 4, "RNN": 4, "RoiAlign": 8}
"""Cases of operators whose lowerings take the interpreter long, in the default run."""
UNSHARED = ("alone",)
"""What nobody else answers proves nothing, of legal cases and of wrong ones."""


ELSEWHERE = {
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",  # tests/ops/test_random.py: distributions
    "Gradient",  # tests/ops/grads: central differences, torch
    "OptionalGetElement", "OptionalHasElement",  # with Optional
}  # fmt: skip
"""Operators of which a single node with its inputs shows too little."""


def test_every_operator_is_drawn() -> None:
    named = {name for _, name in ops.operators()}
    assert named - set(NAMES) == ELSEWHERE | (set(MAKERS) - set(NAMES))


def drawn(domain: str, name: str, count: int, seed: int) -> Iterator[Case]:
    rounds = -(-count // versions(domain, name))
    for index, case in enumerate(cases(domain, name, rounds=rounds, seed=seed)):
        if index < max(count, versions(domain, name)):
            yield case


def shown(case: Case, findings: Iterator[Finding]) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the oracles
        return [f"{case}\n{f}" for f in findings if f.kind not in UNSHARED]


@pytest.mark.parametrize(("domain", "name"), OPERATORS, ids=NAMES)
def test_operator_agrees_with_the_oracles(domain: str, name: str) -> None:
    for case in drawn(domain, name, COSTLY.get(name, FEW), seed=0):
        assert not shown(case, judge(case))


@pytest.mark.parametrize(("domain", "name"), OPERATORS, ids=NAMES)
def test_what_is_wrong_is_refused_or_answered_as_by_the_oracles(domain: str, name: str) -> None:
    rng = np.random.default_rng(0)
    for case in drawn(domain, name, COSTLY.get(name, FEW), seed=1):
        wrong = mutated(case, rng)
        assert not shown(wrong, judge_hostile(wrong))


def engines_agree(domain: str, name: str, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for case in itertools.islice(drawn(domain, name, count, seed), count):
        for each in (case, mutated(case, rng)):
            assert not shown(each, disagreements(each, rng))


@pytest.mark.parametrize(("domain", "name"), OPERATORS, ids=NAMES)
def test_sessions_give_or_refuse_what_the_evaluator_does(domain: str, name: str) -> None:
    engines_agree(domain, name, 2, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize(("domain", "name"), OPERATORS, ids=NAMES)
def test_sessions_give_or_refuse_what_the_evaluator_does_in_many_cases(
    domain: str, name: str
) -> None:
    engines_agree(domain, name, MANY // 20, seed=4)


@pytest.mark.slow
@pytest.mark.parametrize(("domain", "name"), OPERATORS, ids=NAMES)
def test_what_nobody_would_ask_for_is_refused_in_words(domain: str, name: str) -> None:
    rng = np.random.default_rng(5)
    for case in drawn(domain, name, MANY // 20, seed=5):
        strange = estranged(case, rng)
        assert not shown(strange, disagreements(strange, rng))


@pytest.mark.slow
@pytest.mark.parametrize(("domain", "name"), OPERATORS, ids=NAMES)
def test_operator_agrees_with_the_oracles_in_many_cases(domain: str, name: str) -> None:
    for case in drawn(domain, name, MANY, seed=2):
        assert not shown(case, judge(case))
