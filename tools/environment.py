"""Virtual environments of the repository: one for the demo, one for the checks.

Decides where they lie, what is installed in them and when that is out of date. Uses the standard
library alone, because it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def prepare(folder: str, extra: str = "") -> Path:
    """The Python of the virtual environment ``folder``, with fornix and ``extra`` installed.

    Creates or updates it only if the project's requirements or the Python have changed.
    """
    home = ROOT / folder
    python = interpreter(home)
    stamp = home / "fornix-stamp"
    key = f"{sys.version}\n{extra}\n{requirements_digest()}\n"
    found = stamp.read_text(encoding="utf-8") if stamp.is_file() else ""
    if found == key and python.is_file():
        return python
    print(f"setting up {folder}: takes a minute or more, once", file=sys.stderr, flush=True)
    stamp.unlink(missing_ok=True)
    if not found.startswith(f"{sys.version}\n") or not python.is_file():
        create(home)
    for requirement in installed_first(extra):
        pip(python, requirement)
    pip(python, "--editable", f"{ROOT}[{extra}]" if extra else str(ROOT))
    stamp.write_text(key, encoding="utf-8")
    return python


def create(home: Path) -> None:
    """Make an empty virtual environment at ``home``, without pip: the caller's pip serves it.

    Debian and Ubuntu ship Python without ensurepip, so this works where plain ``venv`` does not.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", home], check=True)


def interpreter(home: Path) -> Path:
    """Where the virtual environment at ``home`` has its Python."""
    return home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def pip(python: Path, *arguments: str) -> None:
    """``pip install`` into the environment of ``python``."""
    options = ["--python", str(python), "--disable-pip-version-check", "--no-input", "-qq"]
    command = [_with_pip(), "-m", "pip", *options, "install", *arguments]
    result = subprocess.run(command, check=False)
    if result.returncode:
        sys.exit(f"pip could not install {arguments[-1]}; its message stands above")


def _with_pip() -> str:
    """A Python with pip: the one that runs, or the one its virtual environment was made of."""
    if importlib.util.find_spec("pip"):
        return sys.executable
    return str(getattr(sys, "_base_executable", sys.executable))


def project() -> dict[str, object]:
    """The table ``[project]`` of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        table: dict[str, object] = tomllib.load(file)["project"]
    return table


def requirements_digest() -> str:
    """A digest of all that decides what is installed."""
    return hashlib.sha256(json.dumps(project(), sort_keys=True).encode()).hexdigest()


def installed_first(extra: str) -> list[str]:
    """The requirements of ``extra`` to install ahead of the others.

    Asked for torch alone, pip takes the build without CUDA wherever one is on offer; among other
    requirements it may settle for the one that brings gigabytes of CUDA libraries.
    """
    extras = project()["optional-dependencies"]
    listed: list[str] = extras.get(extra, []) if isinstance(extras, dict) else []
    return [requirement for requirement in listed if requirement.startswith("torch==")]
