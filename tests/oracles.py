"""What happens to a test whose oracle is not installed: it is skipped, and says so.

Not every Python has a package of each oracle, and `./check --here` takes the packages that are
there. Continuous integration installs them all, and there a missing one is an error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import CodeType

import pytest

ORACLES = frozenset(
    "PIL onnx onnxruntime onnxscript safetensors scipy skl2onnx sklearn torch transformers".split()
)
ROOT = Path(__file__).resolve().parent.parent
ASKING = tuple(str(ROOT / folder) + os.sep for folder in ("bench", "tests", "tools"))


class Absent(DistributionFinder):
    """The last finder that is asked; skips the test, or the file of tests, that needs an oracle.

    Packages that try an import and can do without it are left to find that out.
    """

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> None:
        """Nothing: who imports an oracle is skipped."""
        skip_without(fullname)

    def find_distributions(
        self, context: DistributionFinder.Context | None = None
    ) -> list[Distribution]:
        """None: who asks for the version of an oracle is skipped."""
        skip_without(getattr(context, "name", None) or "")
        return []


def skip_without(package: str) -> None:
    code, module = asker()
    if package in ORACLES and code.co_filename.startswith(ASKING):
        if code.co_name == "<module>":  # pytest leaves half of it there, which others would import
            sys.modules.pop(module, None)
        pytest.skip(f"{package} is not installed", allow_module_level=True)


def asker() -> tuple[CodeType, str]:
    """Who is importing something, or asks for its version: a statement's code and its module."""
    frame = sys._getframe(1)
    while frame.f_back is not None and is_machinery(frame.f_code.co_filename):
        frame = frame.f_back
    return frame.f_code, frame.f_globals.get("__name__", "")


def is_machinery(filename: str) -> bool:
    return filename == __file__ or "importlib" in filename


def install() -> None:
    """Skip from now on, except in continuous integration."""
    if "CI" not in os.environ:
        sys.meta_path.append(Absent())
