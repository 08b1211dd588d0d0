"""Loops and branches that are drawn give what NumPy kernels give, whatever they carry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile.entry import is_available
from fornix.errors import FornixError
from fornix.runtime import InferenceSession
from tests.runtime.control.drawn import Drawn
from tests.runtime.control.drawn_texts import DrawnTexts
from tests.runtime.control.flows import Feeds, sessions

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")


def outcome(session: InferenceSession, feeds: Feeds) -> list[Any] | None:
    """Its results; None where it refuses."""
    try:
        return session.run(None, feeds)
    except FornixError:
        return None


def assert_alike(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    if isinstance(found, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_alike(one, other)
    elif found is not None:
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        if found.dtype == object:
            np.testing.assert_array_equal(found, wanted)
        else:
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(300))
@np.errstate(all="ignore")
def test_drawn_programs_give_or_refuse_what_kernels_do(seed: int) -> None:
    drawn = Drawn(seed)
    text = drawn.text()
    (one, kernels), (two, _) = (sessions(text, threads) for threads in (1, 2))
    for feeds in drawn.feeds():
        wanted = outcome(kernels, feeds)
        assert_alike(outcome(one, feeds), wanted)
        assert_alike(outcome(two, feeds), wanted)


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 150))]
)
def test_drawn_texts_sequences_and_optionals_are_what_kernels_give(seed: int) -> None:
    drawn = DrawnTexts(seed)
    text = drawn.text()
    (one, kernels), (two, _) = (sessions(text, threads, 20) for threads in (1, 2))
    for feeds in drawn.feeds():
        wanted = outcome(kernels, feeds)
        assert_alike(outcome(one, feeds), wanted)
        assert_alike(outcome(two, feeds), wanted)
