"""``python -m fornix.as_onnx script.py …``: a script that imports onnx runs on fornix instead.

``-m module`` runs a module, as with Python itself.
"""

from __future__ import annotations

import runpy
import sys

from fornix.install import install_as

USAGE = "usage: python -m fornix.as_onnx (SCRIPT | -m MODULE) [ARGUMENT …]"


def main() -> int:
    """Run what the command line names; 2 if it names nothing."""
    arguments = sys.argv[1:]
    as_module = arguments[:1] == ["-m"]
    if len(arguments) < 1 + as_module:
        print(USAGE, file=sys.stderr)  # noqa: T201 - a command
        return 2
    install_as("onnx")
    sys.argv = arguments[as_module:]
    if as_module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = sys.argv[0].rpartition("/")[0] or "."
        runpy.run_path(sys.argv[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
