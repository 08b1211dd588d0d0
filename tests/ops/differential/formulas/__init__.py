"""Mathematics as the oracle where the peers refuse or disagree.

Each formula computes with NumPy in double precision and rounds once, in the words of the standard
rather than in those of fornix's kernels: element by element where that is what the standard says.
"""

from __future__ import annotations

from tests.ops.differential.formulas import layers, pictures, places, windows

FORMULAS = {**places.FORMULAS, **windows.FORMULAS, **layers.FORMULAS, **pictures.FORMULAS}
