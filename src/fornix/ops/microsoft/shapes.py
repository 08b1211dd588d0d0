"""Shapes that inputs have to have, as inference checks them before a run, and kernels in one."""

from __future__ import annotations

from collections.abc import Sequence

from fornix.errors import NotSupported, require
from fornix.ir.dim import DimLike, equal, known
from fornix.ops.fact import Fact
from fornix.ops.geometry import shape_text


def check_shape(name: str, fact: Fact | None, wanted: Sequence[DimLike | None]) -> None:
    """Raise ShapeError if an input certainly has other extents; None may be any."""
    if fact is not None and fact.has_rank:
        check_extents(name, fact.shape, wanted)


def check_extents(name: str, shape: Sequence[DimLike], wanted: Sequence[DimLike | None]) -> None:
    """`check_shape` of extents that are known by themselves, as those of arrays."""
    fits = len(shape) == len(wanted) and all(
        extent is None or equal(n, extent) is not False
        for n, extent in zip(shape, wanted, strict=True)
    )
    text = ", ".join("?" if extent is None else str(extent) for extent in wanted)
    require(fits, f"{name} must be {name}[{text}], got {name}{shape_text(shape)}")


def check_broadcast(name: str, fact: Fact | None, wanted: Sequence[DimLike]) -> None:
    """Raise ShapeError if an input certainly does not broadcast to ``wanted``."""
    if fact is None or not fact.has_rank:
        return
    pairs = zip(reversed(fact.shape), reversed(wanted), strict=False)
    fits = fact.rank <= len(wanted) and all(
        known(n) == 1 or equal(n, extent) is not False for n, extent in pairs
    )
    require(
        fits,
        f"{name} must broadcast to {shape_text(wanted)}, got {name}{shape_text(fact.shape)}",
    )


def check_added(
    name: str, mask: Fact | None, bias: Fact | None, scores: tuple[DimLike, ...]
) -> None:
    """Raise ShapeError if a mask, or a bias, certainly does not fit ``scores`` [B, H, S, T]."""
    batch, _, *places = scores
    check_broadcast("attention_bias", bias, scores)
    if mask is not None and mask.has_rank and mask.rank in {2, 3}:
        check_broadcast(name, mask, (batch, *places[3 - mask.rank :]))
    elif mask is not None and mask.has_rank and mask.rank == 1:
        check_ends(mask.shape[0], batch)
    elif mask is not None and mask.has_rank:
        check_shape(name, mask, (1 if known(mask.shape[0]) == 1 else batch, 1, None, None))


def check_ends(count: DimLike, batch: DimLike) -> None:
    """Raise NotSupported if a mask surely holds no ends of batches, alone or ahead of others.

    Behind them it has begins, or for both queries and keys where each batch begins without padding,
    and where the last one ends, which say nothing more.
    """
    counts = (batch, 2 * batch, 3 * batch + 2)
    fits = any(equal(count, wanted) is not False for wanted in counts)
    text = "{}, {} or {}".format(*counts)
    require(fits, f"a mask of one axis must have {text} elements, found {count}", NotSupported)


def check_heads(num_heads: int, kv_num_heads: int = 1) -> None:
    """Raise ShapeError unless there are heads, as many for each of keys."""
    require(kv_num_heads > 0, f"kv_num_heads must be positive, got {kv_num_heads}")
    require(
        num_heads > 0 and num_heads % kv_num_heads == 0,
        f"num_heads must be a positive multiple of {kv_num_heads}, got {num_heads}",
    )


def check_projection(input: Fact, weights: Fact, bias: Fact | None) -> None:
    """Raise ShapeError unless input[B, S, I] · weights[I, W] + bias[W] may be computed."""
    check_shape("input", input, (None, None, None))
    features = input.shape[2] if input.has_rank else None
    check_shape("weights", weights, (features, None))
    check_shape("bias", bias, weights.shape[1:] if weights.has_rank else (None,))


__all__ = ["check_added", "check_broadcast", "check_heads", "check_projection", "check_shape"]
