"""The comparison of a model's outputs with the truth, and of two truths with each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.models.spec import Arrays, Built


def difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest |actual − expected| relative to the largest |expected|; NaN where either has one."""
    if expected.size == 0:
        return 0.0
    gap = float(np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max())
    scale = float(np.abs(expected.astype(np.float64)).max())
    return gap / scale if scale else gap


def differences(actual: Sequence[object], expected: Arrays) -> dict[str, float]:
    """`difference` per output; labels count as wholly different or not at all.

    Raises ValueError if an output has another shape or dtype than expected.
    """
    return {
        name: output_difference(name, value, truth)
        for (name, truth), value in zip(expected.items(), actual, strict=True)
    }


def output_difference(name: str, value: object, truth: np.ndarray) -> float:
    array = matrix(value) if isinstance(value, list) else np.asarray(value)
    if array.shape != truth.shape:
        raise ValueError(f"output {name!r}: shape {truth.shape} expected, got {array.shape}")
    if truth.dtype.kind not in "fc":
        if array.dtype != truth.dtype:
            raise ValueError(f"output {name!r}: {truth.dtype} expected, got {array.dtype}")
        return float(not np.array_equal(array, truth))
    if array.dtype != np.float32:
        raise ValueError(f"output {name!r}: float32 expected, got {array.dtype}")
    return difference(array, truth)


def matrix(maps: list[dict[object, float]]) -> np.ndarray:
    """Probabilities[N, classes] from one map per row, classes in the order of the first."""
    return np.array([[row[key] for key in maps[0]] for row in maps], dtype=np.float32)


def disagreements(built: Built, case: int, actual: Sequence[object]) -> dict[str, float]:
    """The outputs of case ``case`` that differ by more than the tolerance, and by how much."""
    found = differences(actual, built.expected[case])
    return {name: gap for name, gap in found.items() if not gap <= built.tolerance}
