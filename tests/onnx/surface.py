"""What a module of the peer offers: its own public functions and classes, and their parameters."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any


def names_of(module: ModuleType) -> list[str]:
    """The public functions and classes that ``module`` itself defines."""
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and getattr(value, "__module__", None) == module.__name__
    )


def parameters_of(function: Any) -> list[tuple[str, Any, Any]]:
    """Name, kind and default of each parameter."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]
