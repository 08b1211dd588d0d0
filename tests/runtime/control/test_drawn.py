"""Loops and branches that are drawn give what NumPy kernels give, whatever turns out empty."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.compile.entry import is_available
from fornix.errors import FornixError
from fornix.runtime import InferenceSession
from tests.runtime.control.drawn import Drawn
from tests.runtime.control.flows import Feeds, sessions

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")


def outcome(session: InferenceSession, feeds: Feeds) -> list[np.ndarray] | None:
    """Its results; None where it refuses."""
    try:
        return session.run(None, feeds)
    except FornixError:
        return None


def assert_alike(found: list[np.ndarray] | None, wanted: list[np.ndarray] | None) -> None:
    assert (found is None) == (wanted is None)
    for one, other in zip(found or [], wanted or [], strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


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
