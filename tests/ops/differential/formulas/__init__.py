"""Mathematics as the oracle where the peers refuse or disagree.

Each formula computes with NumPy in double precision and rounds once, in the words of the standard
rather than in those of fornix's kernels: element by element where that is what the standard says.
"""

from __future__ import annotations

from tests.ops.differential.formulas import layers, learned, networks, pictures, places, windows

FAMILIES = (layers, learned, networks, pictures, places, windows)

FORMULAS = {name: formula for family in FAMILIES for name, formula in family.FORMULAS.items()}
