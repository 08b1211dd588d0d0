"""``python -m fornix``: the command line, which `fornix.cli` decides."""

from __future__ import annotations

import sys

from fornix.cli import main

if __name__ == "__main__":
    sys.exit(main())
