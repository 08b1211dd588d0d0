"""Fourier transforms as loops: a contraction with a table of cosines and sines.

A table grows with the square of the length, so long transforms stay with the kernel, which is
faster by then.
"""

from __future__ import annotations

import numpy as np

from fornix.ir.dim import DimLike, known
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array

LONGEST = 512
"""Length up to which a transform is a contraction: the table has a million elements."""


def whole_length(length: DimLike, node: LowerNode) -> int:
    """``length`` if a table for it is small enough; declines otherwise."""
    found = known(length)
    if found is None:
        node.decline("the length of the transform is known at run time only")
    if found > LONGEST:
        node.decline(f"a transform of {found} elements is faster by halving")
    return found


def transform_table(length: int, inputs: int, outputs: int, *, inverse: bool) -> Array:
    """What part q of output k gets from part p of input n: [inputs, 2, outputs, 2] float64."""
    turns = np.outer(np.arange(inputs), np.arange(outputs)) % length
    angle = turns * (2 * np.pi / length) * (1 if inverse else -1)
    cosine, sine = np.cos(angle), np.sin(angle)
    table = np.empty((inputs, 2, outputs, 2))
    table[:, 0, :, 0] = table[:, 1, :, 1] = cosine
    table[:, 0, :, 1], table[:, 1, :, 0] = sine, -sine
    return table / length if inverse else table


def one_sided_inverse(length: int) -> Array:
    """`transform_table` of a real signal from its first ⌊length/2⌋ + 1 frequencies.

    The others are their conjugates, so those that have such a partner count twice.
    """
    count = length // 2 + 1
    table = transform_table(length, count, length, inverse=True)[..., :1]
    partners = np.arange(count)
    table[(partners > 0) & (2 * partners != length)] *= 2
    # What has no partner is real.
    table[(partners == 0) | (2 * partners == length), 1] = 0
    return table
