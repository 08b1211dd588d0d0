"""Build the wheel and run ``tests/test_tiny.py`` on it, with only the run-time dependencies.

Shows that the wheel is complete: nothing that the package needs comes from the repository or from
the development extras.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tools.environment import ROOT, create, interpreter, pip

TINY = ROOT / "tests" / "test_tiny.py"
SHIPPED = (
    "fornix/py.typed",
    "fornix/demo/digits.onnx",
    "fornix/demo/digits.npz",
    "licenses/LICENSE",
    "licenses/NOTICE",
    "licenses/THIRD_PARTY.md",
)


def main() -> int:
    """Return pytest's exit code, or 1 if the wheel lacks a file that must ship."""
    with tempfile.TemporaryDirectory(prefix="fornix-wheel-") as scratch:
        folder = Path(scratch)
        wheel = build(folder)
        if missing := lacking(wheel):
            print(f"{wheel.name}: must contain {', '.join(missing)}")
            return 1
        python = interpreter(folder / "venv")
        create(folder / "venv")
        pip(python, str(wheel), "pytest")
        shutil.copy(TINY, folder)
        command = [str(python), "-I", "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
        return subprocess.run([*command, TINY.name], cwd=folder, check=False).returncode


def build(folder: Path) -> Path:
    """The path of the wheel, built into ``folder``."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    return wheel


def lacking(wheel: Path) -> list[str]:
    """The files of `SHIPPED` that ``wheel`` does not contain."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    return [file for file in SHIPPED if not any(name.endswith(file) for name in names)]


if __name__ == "__main__":
    sys.exit(main())
