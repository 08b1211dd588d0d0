"""What a model's file holds: a digest of all of it, by which its program is found.

Decides when two sources are the same model: when a digest of all their bytes says so, never by a
name or a time alone. The digest is that of pieces, so that threads share the work. While a session
holds a file open whose weights it reads in place, the same file needs no second look.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
import weakref
from pathlib import Path

from fornix.errors import FornixError
from fornix.format.mapped import Identity, MappedBytes, MappedFile, Memory, Payload
from fornix.runtime.threads import Pool

PIECE_BYTES = 4 << 20
"""Of a piece with a digest of its own."""
READ_BYTES = 256 << 10
"""Read at once: they stay near the processor until they are digested."""
SECONDS_AT_REST = 60
"""For which nobody must have written to a file that needs no second look.

After at most 35 of them Linux has noted even what was written through a map.
"""


class Content:
    """The bytes of a model, all in one place, and their digest."""

    def __init__(self, region: MappedFile | Memory, digest: bytes, *, is_at_rest: bool) -> None:
        self.region, self.digest, self.is_at_rest = region, digest, is_at_rest

    @staticmethod
    def of(source: object, pool: Pool) -> Content | None:
        """The content of a file or of bytes; None for other sources, and for unsteady files."""
        if isinstance(source, bytes):
            memory = Memory(source)
            return Content(memory, _digest(memory, pool), is_at_rest=False)
        if not isinstance(source, str | os.PathLike) or Path(source).suffix != ".onnx":
            return None
        try:
            file = MappedFile.open(source)
            known = _OPEN.get(file.identity)
            if known is not None and known.is_at_rest:
                return known
            changed = file.identity.changed * 1e-9
            is_at_rest = changed < time.time() - SECONDS_AT_REST
            found = Content(file, _digest(file, pool), is_at_rest=is_at_rest)
            file.check()
        except (FornixError, OSError):  # who loads the model says it
            return None
        _OPEN[file.identity] = found
        return found

    @property
    def is_intact(self) -> bool:
        """Whether the bytes are still those that were digested."""
        return isinstance(self.region, Memory) or self.region.is_intact

    def is_what_was_read(self, pool: Pool) -> bool:
        """Whether a model read since from the same source is this one.

        Of a file that has just been written times do not tell; then its bytes are compared again.
        """
        if isinstance(self.region, Memory):
            return True
        try:
            if Identity.of(Path(self.region.name).stat()) != self.region.identity:
                return False
            return self.is_at_rest or _digest(self.region, pool) == self.digest
        except (FornixError, OSError):
            return False

    def offset(self, payload: Payload | None) -> int | None:
        """Where ``payload`` lies in it; None if it lies elsewhere."""
        if not isinstance(payload, MappedBytes):
            return None
        own, other = self.region, payload.region
        if isinstance(own, MappedFile):
            is_here = isinstance(other, MappedFile) and other.identity == own.identity
        else:
            is_here = isinstance(other, Memory) and other.is_same(own)
        return payload.offset if is_here else None


_OPEN: weakref.WeakValueDictionary[object, Content] = weakref.WeakValueDictionary()
"""Files that sessions of this process use."""


def _digest(region: MappedFile | Memory, pool: Pool) -> bytes:
    """A digest of all bytes; raises FormatError if there are fewer than there were."""
    starts = range(0, region.size, PIECE_BYTES)
    found = [b""] * len(starts)
    following = itertools.count()

    def work(_: int) -> None:
        buffer = bytearray(READ_BYTES)
        while (piece := next(following)) < len(starts):
            start = starts[piece]
            stop = min(start + PIECE_BYTES, region.size)
            sha = hashlib.sha256()
            for at in range(start, stop, READ_BYTES):
                part = memoryview(buffer)[: min(READ_BYTES, stop - at)]
                region.read_into(part, at)
                sha.update(part)
            found[piece] = sha.digest()

    pool.run(work)
    return hashlib.sha256(region.size.to_bytes(8, "little") + b"".join(found)).digest()


__all__ = ["Content"]
