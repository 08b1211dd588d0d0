"""The processors that kernels are made for and run on in tests."""

from __future__ import annotations

import pytest

from fornix.compile import Target
from tests.compile import foreign

EMULATED = [
    pytest.mark.slow,
    pytest.mark.skipif(not foreign.IS_HERE, reason="no emulator of ARM, or no compiler"),
]
MULTIPLIES = pytest.mark.skipif(
    not Target.present().has("avxvnni"), reason="the processor does not multiply bytes so"
)
EVERY = ["host", "x86-64-v3", "x86-64", pytest.param("aarch64", marks=EMULATED)]
IS_WIDE = pytest.mark.skipif(
    not Target.masked("cooperlake").features <= Target.present().features,
    reason="the processor has no AVX-512 that multiplies bytes",
)
OF_BYTES = [
    *EVERY,
    pytest.param("alderlake", marks=MULTIPLIES),
    *(pytest.param(name, marks=IS_WIDE) for name in ("x86-64-v4", "cooperlake")),
]
"""Those that differ in how they multiply bytes."""
LEVELS = [
    "host",
    *(pytest.param(x, marks=pytest.mark.slow) for x in ("x86-64-v3", "x86-64")),
    pytest.param("aarch64", marks=EMULATED),
]


def target(level: str) -> Target:
    """The processor that ``level`` names."""
    if level == "aarch64":
        return Target.aarch64()
    return Target.host() if level == "host" else Target.masked(level)
