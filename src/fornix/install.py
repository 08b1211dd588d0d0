"""`install_as`: fornix in the place of another package, for code that imports that package.

Decides which names can be taken, when it is too late for that, and how ``import onnx.helper``
finds `fornix.onnx.helper`: the same module under both names. What the modules offer is the façade's
business.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from fornix.errors import InvalidArgument

FACADES = {"onnx": "fornix.onnx", "onnxruntime": "fornix.onnxruntime"}
"""Packages that fornix can stand for, and what stands for them."""


def install_as(name: str) -> ModuleType:
    """Let ``import name`` give fornix's façade from now on, in the whole process.

    ``name`` is "onnx" or "onnxruntime". Returns the façade; a second call changes nothing. Raises
    InvalidArgument for another name and if the original is already imported: two copies of its
    classes would meet.
    """
    home = FACADES.get(name)
    if home is None:
        known = ", ".join(map(repr, FACADES))
        raise InvalidArgument(f"install_as: one of {known} is required, found {name!r}")
    facade = import_module(home)
    found = sys.modules.get(name)
    if found is facade:
        return facade
    if found is not None:
        place = getattr(found, "__file__", None) or "a module without file"
        raise InvalidArgument(
            f"install_as: {name!r} must not be imported yet, found {place}; "
            "call install_as before anything that imports it"
        )
    sys.meta_path.insert(0, _Finder(name, home))
    sys.modules[name] = facade
    return facade


class _Finder(MetaPathFinder):
    """Finds modules of ``name`` under the façade ``home``."""

    def __init__(self, name: str, home: str) -> None:
        self.name, self.home = name, home

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the protocol of finders
        target: ModuleType | None = None,  # noqa: ARG002 - likewise
    ) -> ModuleSpec | None:
        """Where ``fullname`` is; None for what is not the façade's."""
        if not fullname.startswith(f"{self.name}."):
            return None
        wanted = self.home + fullname.removeprefix(self.name)
        try:
            module = import_module(wanted)
        except ModuleNotFoundError as error:
            if error.name != wanted:
                raise
            # Nobody else may be asked: the façade's folder would give a second copy of its files.
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname) from None
        return ModuleSpec(fullname, _Same(module), is_package=hasattr(module, "__path__"))


class _Same(Loader):
    """Loads a module that is loaded already, and leaves it as it is."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:  # noqa: ARG002 - the protocol
        """The module itself."""
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module back its own description, which the import has just replaced."""
        module.__spec__ = self.spec
