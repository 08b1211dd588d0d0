"""Install fornix into ``.venv`` and run ``fornix demo``: the first command of the README."""

from __future__ import annotations

import subprocess
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever starts this may have an older Python
    sys.exit(f"fornix needs Python 3.11 or newer, this is {sys.version.split()[0]}")

from tools.environment import prepare


def main() -> int:
    """Run ``fornix demo`` with the caller's arguments; return its exit code."""
    command = [str(prepare(".venv")), "-m", "fornix", "demo", *sys.argv[1:]]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
