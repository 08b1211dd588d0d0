"""How far two correct float32 evaluations of one network may lie apart.

A dot product of K terms, summed in any order, is off by about u·√K times the magnitude of its
result, where u = 2⁻²⁴ (rounding errors behave like a random walk; Higham & Mary 2019, "A new
approach to probabilistic rounding error analysis", gives the same √K). Networks with
normalisation layers neither damp nor amplify relative errors much, so those of successive layers
add in quadrature: u·√ΣK over all layers. Both sides of a comparison err, and the largest of up
to a million outputs lies five standard deviations out: 8 ≈ √2 · 5.6.
"""

from __future__ import annotations

import numpy as np
from torch import nn

UNIT_ROUNDOFF = 2.0**-24
SAFETY = 8.0
# Elementary functions (exp, erf, tanh) differ by a few ULP between libraries, whatever K is.
FLOOR = 1e-5
# Residual branches run beside each other, but are counted as if in series; what the engine
# promises, 1e-4, is the upper bound for every network.
CEILING = 1e-4


def terms(module: nn.Module) -> int:
    """Sum over the layers of ``module`` of the terms that one element of their result adds up."""
    total = 0
    for layer in module.modules():
        for weight in layer.parameters(recurse=False):
            if weight.ndim < 2 or isinstance(layer, nn.Embedding):
                continue
            # transformers' Conv1D keeps its weight [in, out], ConvTranspose2d [in, out, *taps]
            along_rows = type(layer).__name__ in {"Conv1D", "ConvTranspose2d"}
            total += weight.shape[0] if along_rows else weight[0].numel()
    return total


def tolerance(module: nn.Module, repeats: int = 1) -> float:
    """Relative tolerance for ``module``, whose layers run ``repeats`` times (recurrent steps)."""
    walk = SAFETY * UNIT_ROUNDOFF * float(np.sqrt(terms(module) * repeats))
    return min(max(FLOOR, walk), CEILING)
