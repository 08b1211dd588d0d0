"""What random operators of a session draw from: one generator, made once somebody draws."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache

import numpy as np

from fornix.forks import awaited

_MAKING = awaited(threading.Lock())


def generator(seed: int | None) -> Callable[[], np.random.Generator]:
    """The generator that ``seed`` determines: one, whichever threads ask for it first."""
    made = cache(lambda: np.random.default_rng(seed))

    def drawn_from() -> np.random.Generator:
        with _MAKING:
            return made()

    return drawn_from
