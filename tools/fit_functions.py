"""The coefficients in `fornix.compile.emit.maths` that are not those of a series.

``python -m tools.fit_functions`` prints them. It needs mpmath, which nothing else does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath  # type: ignore[import-untyped] # nothing else here needs it
import numpy as np

POINTS, ROUNDS, DIGITS = 4000, 200, 40


def rational(
    function: Callable[[float], float], limit: float, above: int, below: int
) -> tuple[np.ndarray, np.ndarray]:
    """P and Q with x·P(x²)/Q(x²) ≈ function on [0, limit], of least relative error.

    Linearised least squares, reweighted by the last denominator and by the errors so far. Source:
    Sanathanan and Koerner, "Transfer function synthesis as a ratio of two complex polynomials",
    1963; Lawson's weights.
    """
    x = limit * np.sin(np.linspace(1e-4, np.pi / 2, POINTS))
    z = x * x / limit**2
    y = np.array([function(v) for v in x]) / x
    weights, last = np.ones(POINTS), np.ones(POINTS)
    least = math.inf
    best = np.zeros(above + 1), np.zeros(below + 1)
    for _ in range(ROUNDS):
        powers = np.vander(z, below + 1, increasing=True)[:, 1:]
        terms = np.concatenate([np.vander(z, above + 1, increasing=True), -y[:, None] * powers], 1)
        scale = np.sqrt(weights) / (np.abs(y) * np.abs(last))
        found, *_ = np.linalg.lstsq(terms * scale[:, None], y * scale, rcond=None)
        p, q = found[: above + 1], np.concatenate([[1.0], found[above + 1 :]])
        last = np.polyval(q[::-1], z)
        error = np.abs(np.polyval(p[::-1], z) / last / y - 1)
        if error.max() < least:
            least = float(error.max())
            best = p / limit ** (2 * np.arange(above + 1)), q / limit ** (2 * np.arange(below + 1))
        weights = weights * (error / error.max() + 1e-3)
        weights /= weights.mean()
    print(f"relative error {least:.1e}")
    return best


def scaled_erfc() -> list[float]:
    """exp(x²)·erfc(x) for 1.5 ≤ x ≤ 6 as a polynomial in 1/x − 5/12."""
    mpmath.mp.dps = DIGITS
    center = mpmath.mpf(5) / 12

    def function(v: mpmath.mpf) -> mpmath.mpf:
        u = v + center
        return mpmath.exp(u**-2) * mpmath.erfc(1 / u)

    ends = [mpmath.mpf(1) / 6 - center, mpmath.mpf(2) / 3 - center]
    coefficients, error = mpmath.chebyfit(function, ends, 22, error=True)
    print(f"absolute error {mpmath.nstr(error, 2)}")
    return [float(c) for c in reversed(coefficients)]


if __name__ == "__main__":
    for title, fitted in {
        "tanh": rational(math.tanh, 9.02, 6, 3),
        "erf": rational(math.erf, 3.93, 5, 5),
    }.items():
        for part in fitted:
            print(title, [f"{np.float32(c):.9g}" for c in part])
    print("erfc", scaled_erfc())
