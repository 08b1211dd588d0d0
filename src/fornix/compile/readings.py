"""How a node reads one of its inputs, as far as the grouping and the layout of images ask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SAME, ALL, LAST, FIRST = "same", "all", "last", "first"
SWAPPED, OTHER = "swapped", "other"
"""What `Reading.channels` says."""


@dataclass(frozen=True)
class Reading:
    """How a node reads one of its inputs."""

    count: float
    """How often each element is read."""
    is_in_place: bool
    """Whether element i of the result reads element i, and no other."""
    channels: str = ""
    """Which channels (axis 1) of an image one of the result reads: the "same", "all", or "other".

    Those of its group are all that a filter of a convolution has.

    It is "last" where the result has them as its last axis instead, "first" where it is the other
    way round, and "swapped" where both are the case, with three axes. Empty where the input is no
    image: it has fewer than three.
    """
    shift: int = 0
    """Where the "same" channels begin elsewhere in the result, what divides all distances."""
    is_relaid: bool = False
    """Whether rows of an image are put together or cut whose lengths are open.

    To compute an element where it is read, its place is divided by them.
    """
    is_cut: bool = False
    """Whether rows of an image are put together or cut, of any length."""
    passes: int = 1
    """How many loops of the node read it, as a norm's do for its mean, its variance and itself."""
    is_turned: bool = False
    """Whether neighbours in a row of the result come of different rows of a large input, none of
    which is as short as three channels are: of such, vectors are taken out of several."""


NO_READING = Reading(0.0, is_in_place=False)


def combined(readings: Sequence[Reading]) -> Reading:
    """How a node reads an input whose results read it in these ways, one for each."""
    read = [reading for reading in readings if reading.count]
    if not read:
        return NO_READING
    count = max(reading.count for reading in read)
    channels = {reading.channels for reading in read} - {""}
    return Reading(
        count,
        is_in_place=all(reading.is_in_place for reading in read),
        channels=next(iter(channels), "") if len(channels) < 2 else OTHER,
        shift=math.gcd(*(reading.shift for reading in read)),
        is_relaid=any(reading.is_relaid for reading in read),
        is_cut=any(reading.is_cut for reading in read),
        passes=max(reading.passes for reading in read),
        is_turned=any(reading.is_turned for reading in read),
    )
