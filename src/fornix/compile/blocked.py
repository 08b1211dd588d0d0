"""The blocked layout of images: NCHW16c and its like, as an address map of buffers.

A vector's worth of channels of one place lies together, so that convolutions, pools and elementwise
work find their lanes side by side and their taps at constant distances. Which values have it is
decided in `layout`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fornix.dtype import DType
from fornix.ir.dim import DimLike, ceildiv
from fornix.ir.loops import Buffer

CHANNELS = 1
"""The axis of channels."""
LEAST_LANES = 8
"""Of a block: shorter vectors take as many instructions as whole ones."""


@dataclass(frozen=True)
class Blocked:
    """Element [n, c, *s] of `shape` lies at [n, ⌊c / lanes⌋, *s, c mod lanes].

    Where the channels do not fill the last block, the rest of it is never read.
    """

    shape: tuple[DimLike, ...]
    lanes: int

    @property
    def blocks(self) -> DimLike:
        """Number of blocks of channels."""
        return ceildiv(self.shape[CHANNELS], self.lanes)

    @property
    def elements(self) -> DimLike:
        """Elements in memory, those that are never read included."""
        count = self.shape[0] * self.blocks * self.lanes
        for extent in self.shape[CHANNELS + 1 :]:
            count = count * extent
        return count

    def __call__(self, place: tuple[DimLike, ...]) -> DimLike:
        """The address of an element."""
        n, c, *places = place
        block = c // self.lanes
        address = n * self.blocks + block
        for i, extent in zip(places, self.shape[CHANNELS + 1 :], strict=True):
            address = address * extent + i
        return address * self.lanes + (c - block * self.lanes)


def blocked_buffer(name: str, shape: Sequence[DimLike], dtype: DType, lanes: int) -> Buffer:
    """A buffer for an image, blocked by ``lanes`` channels."""
    layout = Blocked(tuple(shape), lanes)
    return Buffer(name, shape, dtype, layout, layout.elements)


def lanes_of_buffer(buffer: Buffer) -> int:
    """Channels in a block of ``buffer``; 1 if it is not blocked."""
    return buffer.address.lanes if isinstance(buffer.address, Blocked) else 1


__all__ = ["CHANNELS", "LEAST_LANES", "Blocked", "blocked_buffer", "lanes_of_buffer"]
