"""What tests of control flow watch."""

from __future__ import annotations

from typing import Any

import pytest

from fornix.runtime.control import driving, singles


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is made of bodies, one after the other: functions, or None."""
    found: list[Any] = []
    original = singles.single_turns

    def observed(*given: Any) -> Any:
        found.append(original(*given))
        return found[-1]

    monkeypatch.setattr(driving, "single_turns", observed)
    return found
