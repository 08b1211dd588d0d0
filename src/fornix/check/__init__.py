"""The checker: whether a model keeps to the standard, all findings at once.

`check_model` looks and tells; `check` raises. The room may itself be called, since `fornix.check`
names both the room and what it does.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from fornix.check.finding import Finding, Severity
from fornix.check.model import Source, check, check_model

__all__ = ["Finding", "Severity", "check", "check_model"]


class Room(ModuleType):
    """A room that is called by its own name: ``fornix.check(model)``."""

    def __call__(self, model: Source, **options: Any) -> list[Finding]:
        """See `check`."""
        return check(model, **options)


sys.modules[__name__].__class__ = Room
