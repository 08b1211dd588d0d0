"""How far one value lies from another, element by element, in units of what is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.debug.part import Array, double, is_float


@dataclass(frozen=True)
class Gap:
    """The greatest difference of a value from what it should be."""

    absolute: float = 0.0
    """Largest difference of finite elements."""
    relative: float = 0.0
    """The same relative to the largest magnitude that it should have."""
    times: float = 0.0
    """Largest difference divided by what is allowed there; infinite where nothing is."""
    place: tuple[int, ...] | None = None
    """Where that is."""
    found: float | int | str | None = None
    wanted: float | int | str | None = None
    beyond: int = 0
    """Elements that differ by more than is allowed."""
    count: int = 0
    fault: str = ""
    """What differs, if not elements alone: "shape", "NaN", "infinity", "kind", "length"."""

    @property
    def is_explained(self) -> bool:
        """Whether no element differs by more than is allowed."""
        return not self.beyond and not self.fault


def gap(found: Any, wanted: Any, allowed: Any = 0.0) -> Gap:
    """How far ``found`` lies from ``wanted``, where ``allowed`` says how far it may.

    Sequences are compared element by element, and the worst one told.
    """
    if isinstance(wanted, list) or isinstance(found, list):
        return _of_lists(found, wanted, allowed)
    if found is None or wanted is None or isinstance(wanted, dict):
        return Gap() if found is wanted or _same(found, wanted) else Gap(beyond=1, fault="kind")
    one, other = np.asarray(found), np.asarray(wanted)
    if one.shape != other.shape:
        return Gap(beyond=1, fault="shape", count=other.size)
    if one.size == 0:
        return Gap()
    if one.dtype.kind in "OUS" or other.dtype.kind in "OUS":
        return _of_others(one, other)
    return _of_numbers(double(one), double(other), allowed)


def _of_lists(found: Any, wanted: Any, allowed: Any) -> Gap:
    if not (isinstance(found, list) and isinstance(wanted, list)):
        return Gap(beyond=1, fault="kind")
    if len(found) != len(wanted):
        return Gap(beyond=1, fault="length")
    margins = allowed if isinstance(allowed, list) else [allowed] * len(wanted)
    gaps = [gap(x, y, z) for x, y, z in zip(found, wanted, margins, strict=True)]
    return max(gaps, key=lambda g: (bool(g.fault), g.times), default=Gap())


def _same(found: Any, wanted: Any) -> bool:
    try:
        return bool(found == wanted)
    except ValueError:
        return False


def _of_others(found: Array, wanted: Array) -> Gap:
    """The gap of texts, which are equal or not."""
    differs = np.asarray(found != wanted)
    if not differs.any():
        return Gap(count=wanted.size)
    place = tuple(int(i) for i in np.argwhere(differs)[0])
    beyond = int(differs.sum())
    told = str(found[place]), str(wanted[place])
    return Gap(0.0, 0.0, np.inf, place, *told, beyond, wanted.size)


def _of_numbers(found: Array, wanted: Array, allowed: Any) -> Gap:
    if found.dtype.kind in "biuV" and wanted.dtype.kind in "biuV":
        found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(all="ignore"):
        error = np.abs(found - wanted)
        same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
        error = np.where(same, 0.0, error)
        odd = ~np.isfinite(error)
        times = np.where(error > 0, error / np.asarray(allowed, np.float64), 0.0)
        times[odd] = np.where(np.isinf(np.broadcast_to(allowed, error.shape)), 0.0, np.inf)[odd]
        odd &= times > 0
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(times)), times.shape))
    finite = error[np.isfinite(error)]
    scale = np.abs(wanted[np.isfinite(wanted)])
    largest = float(finite.max()) if finite.size else 0.0
    fault = ""
    if odd.any():
        fault = "NaN" if (np.isnan(found) != np.isnan(wanted))[odd].any() else "infinity"
    return Gap(
        largest,
        largest / float(scale.max()) if scale.size and scale.max() > 0 else largest,
        float(times[place]),
        place,
        _plain(found[place]),
        _plain(wanted[place]),
        int((times > 1).sum()),
        wanted.size,
        fault,
    )


def _plain(x: Any) -> float | str:
    return str(x) if np.iscomplexobj(x) else float(x)


__all__ = ["Gap", "gap", "is_float"]
