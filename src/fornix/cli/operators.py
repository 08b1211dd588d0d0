"""Operators of the user's own: Python that registers them, run ahead of a subcommand."""

from __future__ import annotations

from pathlib import Path


def load_operators(name: str) -> None:
    """Run the Python file ``name``, or import the module of that name.

    Raises InvalidArgument for what goes wrong in it, NoSuchFile if there is none.
    """
    from fornix.errors import FornixError, InvalidArgument, NoSuchFile

    if name.endswith(".py") and not Path(name).is_file():
        raise NoSuchFile(f"--import {name}: a Python file is required, found none")
    try:
        run(name)
    except FornixError as error:
        raise InvalidArgument(f"--import {name}: {error}") from error
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        raise InvalidArgument(
            f"--import {name}: Python that registers operators is required, it raised {found}"
        ) from error


def run(name: str) -> None:
    """Run the file, or import the module, which may lie in the working directory."""
    import importlib
    import runpy
    import sys

    if name.endswith(".py"):
        runpy.run_path(name, run_name="fornix_operators")
        return
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        importlib.import_module(name)
    finally:
        sys.path.remove(here)
