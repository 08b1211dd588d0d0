"""Which keys a query of Attention sees: causality, windows, padding and masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fornix.dtype import DType
from fornix.errors import require
from fornix.ops.fact import Array
from fornix.ops.geometry import shape_text


@dataclass(frozen=True)
class Visibility:
    """Positions of the queries and keys of Attention, and what its attributes hide."""

    queries: int
    keys: int
    past: int
    """Keys that precede those of the first query."""
    filled: Array | None
    """For each batch, how many keys are no padding; then queries stand at the end of these."""
    is_causal: bool
    windows: tuple[int, int]
    """How many keys before and after its position a query sees; −1 means all."""

    def masked(self, scores: Array, mask: Array | None) -> Array:
        """``scores`` [B, H, S, T] with ``mask`` added, and −∞ for keys that are not seen."""
        seen = self.seen()
        if mask is not None:
            mask = self._completed(mask, scores.shape)
            if mask.dtype == bool:
                seen = mask if seen is None else seen & mask
            else:
                added = mask.astype(scores.dtype)
                # A key hidden by −∞ stays hidden where its score is +∞ or NaN.
                hidden = np.isneginf(added)
                scores = scores + added
                if np.any(hidden):
                    seen = ~hidden if seen is None else seen & ~hidden
        return scores if seen is None else np.where(seen, scores, scores.dtype.type(-np.inf))

    def seen(self) -> Array | None:
        """Whether a query sees a key, [B or 1, 1, S, T]; None if all see all."""
        check_windows(self.windows)
        left, right = self.windows
        key = np.arange(self.keys)
        at = np.arange(self.queries)[:, None] + self._offset()
        limits = []
        if self.is_causal:
            limits.append(key <= at)
        if left >= 0:
            limits.append(key >= at - left)
        if right >= 0:
            limits.append(key <= at + right)
        if self.filled is not None:
            limits.append(key < self.filled.reshape(-1, 1, 1, 1))
        return np.asarray(np.logical_and.reduce(np.broadcast_arrays(*limits))) if limits else None

    def _offset(self) -> Array:
        """Position of the first query, [B or 1, 1, 1, 1]."""
        if self.filled is None:
            return np.full((1, 1, 1, 1), self.past)
        return self.filled.reshape(-1, 1, 1, 1) - self.queries

    def _completed(self, mask: Array, shape: tuple[int, ...]) -> Array:
        """``mask`` with the keys hidden that it does not reach to."""
        missing = self.keys - mask.shape[-1] if mask.ndim else 0
        if missing > 0:
            if mask.dtype != bool and not DType.of(mask.dtype).is_float:
                mask = mask.astype(np.float64)
            hidden = False if mask.dtype == bool else -np.inf
            filler = np.full((*mask.shape[:-1], missing), hidden).astype(mask.dtype)
            mask = np.concatenate([mask, filler], axis=-1)
        aligned = (1,) * (len(shape) - mask.ndim) + mask.shape
        fits = len(aligned) == len(shape) and all(
            n in {1, extent} for n, extent in zip(aligned, shape, strict=True)
        )
        require(
            fits,
            f"attn_mask must broadcast to {shape_text(shape)}, found {shape_text(mask.shape)}",
        )
        return mask


def check_windows(windows: tuple[int, int]) -> None:
    """Raise ShapeError unless both sizes say how many keys are seen, or −1 for all."""
    for name, size in zip(("left_window_size", "right_window_size"), windows, strict=True):
        require(size >= -1, f"{name} must be -1 or not negative, got {size}")
