"""Names that a package imports on first use (PEP 562), so that importing it costs next to nothing.

Decides how a missing name is found; which names there are is each package's own business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType


def names(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """A `__getattr__` for ``package``: ``homes`` has the submodule that defines each name."""

    def name_of(name: str) -> object:
        if name in homes:
            return getattr(import_module(f"{package}.{homes[name]}"), name)
        raise _missing(package, name)

    return name_of


def submodules(package: str) -> Callable[[str], ModuleType]:
    """A `__getattr__` for ``package`` that gives its public submodules."""

    def submodule(name: str) -> ModuleType:
        home = f"{package}.{name}"
        if not name.startswith("_"):
            try:
                return import_module(home)
            except ModuleNotFoundError as error:
                if error.name != home:
                    raise
        raise _missing(package, name)

    return submodule


def _missing(package: str, name: str) -> AttributeError:
    return AttributeError(f"module {package!r} has no attribute {name!r}", name=name)
