"""fornix: the ONNX format, operator standard and runtime in pure Python.

This module decides the public names of the package and imports each on first use (PEP 562), so
that ``import fornix`` costs next to nothing. What a name does is decided where it is defined.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names for type checkers; tests/public/test_surface.py compares
    from fornix.check import check as check
    from fornix.debug import compare as compare
    from fornix.errors import FornixError as FornixError
    from fornix.errors import FornixWarning as FornixWarning
    from fornix.format.limits import Limits as Limits
    from fornix.install import install_as as install_as
    from fornix.ir.files import load as load
    from fornix.ir.files import save as save
    from fornix.ops.custom import op as op
    from fornix.passes import optimize as optimize
    from fornix.reference import ReferenceEvaluator as ReferenceEvaluator
    from fornix.runtime import InferenceSession as InferenceSession
    from fornix.runtime import RunOptions as RunOptions
    from fornix.runtime import SessionOptions as SessionOptions
    from fornix.runtime.stored.compiling import compile_model as compile_model
    from fornix.version import convert_version as convert_version

__version__ = "0.1.0"

# Public name → the module that defines it. A room that is called by its own name stands for itself.
_HOMES: dict[str, str] = {
    "FornixError": "fornix.errors",
    "FornixWarning": "fornix.errors",
    "InferenceSession": "fornix.runtime",
    "Limits": "fornix.format.limits",
    "ReferenceEvaluator": "fornix.reference",
    "RunOptions": "fornix.runtime",
    "SessionOptions": "fornix.runtime",
    "check": "fornix.check",
    "compare": "fornix.debug",
    "compile_model": "fornix.runtime.stored.compiling",
    "convert_version": "fornix.version",
    "install_as": "fornix.install",
    "load": "fornix.ir.files",
    "op": "fornix.ops.custom",
    "optimize": "fornix.passes",
    "save": "fornix.ir.files",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> object:
    """The public ``name``, imported on first use."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fornix' has no attribute {name!r}", name=name)
    module = import_module(home)
    # The room `check` is called by its own name, whichever of the two was imported first.
    value: object = module if callable(module) else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
