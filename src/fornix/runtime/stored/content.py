"""What a model's files hold: digests of all of it, by which its program is found.

Decides when two sources are the same model: when digests of all their bytes say so, those of files
with external data included, never by a name or a time alone. A digest is that of pieces, so that
threads share the work. While a session holds a file open whose weights it reads in place, the same
file needs no second look; digests of large files at rest are remembered in this user's cache, by
what tells that nobody has written to them since. Of the file of a compiled model the model in it
counts.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
import time
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fornix.compile.disk import NOTE, DiskCache
from fornix.errors import FornixError
from fornix.format.beneath import open_file
from fornix.format.compiled import MODEL, Container
from fornix.format.mapped import Identity, MappedBytes, MappedFile, Memory, Payload
from fornix.runtime.threads import Pool
from fornix.system import tells_times

PIECE_BYTES = 4 << 20
"""Of a piece with a digest of its own."""
READ_BYTES = 256 << 10
"""Read at once: they stay near the processor until they are digested."""
Place = MappedFile | Memory
"""Where bytes are."""
SECONDS_AT_REST = 60
"""For which nobody must have written to a file that needs no second look.

After at most 35 of them Linux has noted even what was written through a map.
"""
NANOSECONDS = 1_000_000_000
"""Of a second."""
DIGEST_BYTES = hashlib.sha256().digest_size
WORTH_REMEMBERING = 4 << 20
"""Bytes of a file from which on its digest takes longer than to look whether it is known."""


class Digested:
    """Bytes that lie in one place, and their digest: that of the model in a compiled one."""

    def __init__(self, region: Place, digest: bytes, *, is_at_rest: bool) -> None:
        self.region, self.digest, self.is_at_rest = region, digest, is_at_rest
        if isinstance(region, MappedFile):
            _OPEN[region.identity] = self

    @staticmethod
    def of(file: MappedFile, pool: Pool) -> Digested:
        """What ``file`` holds; raises FormatError if somebody writes to it meanwhile."""
        known = _OPEN.get(file.identity)
        if known is not None and known.is_at_rest:
            return known
        resting = is_at_rest(file)
        digest = _remembered(file) if resting else None
        if digest is None:
            digest = _model_digest(file, pool)
            file.check()
            if resting and file.is_intact:
                _remember(file, digest)
        return Digested(file, digest, is_at_rest=resting)

    @property
    def is_intact(self) -> bool:
        """Whether the bytes are still those that were digested."""
        return isinstance(self.region, Memory) or self.region.is_intact

    def is_what_was_read(self, pool: Pool) -> bool:
        """Whether who has opened the same place since has read these bytes.

        Of a file that has just been written times do not tell; then its bytes are compared again.
        """
        if isinstance(self.region, Memory):
            return True
        try:
            if Identity.of(Path(self.region.name).stat()) != self.region.identity:
                return False
            return self.is_at_rest or _model_digest(self.region, pool) == self.digest
        except (FornixError, OSError):
            return False

    def offset(self, payload: MappedBytes) -> int | None:
        """Where ``payload`` lies in it; None if it lies elsewhere."""
        own, other = self.region, payload.region
        if isinstance(own, MappedFile):
            is_here = isinstance(other, MappedFile) and other.identity == own.identity
        else:
            is_here = isinstance(other, Memory) and other.is_same(own)
        return payload.offset if is_here else None


class Content:
    """The bytes of a model, and those of the files beside it that hold data of its."""

    def __init__(self, region: Place, digest: bytes, *, is_at_rest: bool) -> None:
        self._model = Digested(region, digest, is_at_rest=is_at_rest)
        self.others: dict[str, Digested] = {}
        """Files of external data, by the location that the model gives."""

    @staticmethod
    def of(source: object, pool: Pool) -> Content | None:
        """The content of a file or of bytes; None for other sources, and for unsteady files.

        Files of external data are for `look_at` to find.
        """
        try:
            place = place_of(source)
            if place is None:
                return None
            if isinstance(place, Memory):
                return Content(place, _model_digest(place, pool), is_at_rest=False)
            found = Digested.of(place, pool)
        except (FornixError, OSError, ValueError):  # who loads the model says it
            return None
        return Content(found.region, found.digest, is_at_rest=found.is_at_rest)

    @property
    def region(self) -> Place:
        """The model's own bytes."""
        return self._model.region

    @property
    def digest(self) -> bytes:
        """That of the model's own bytes."""
        return self._model.digest

    @property
    def is_at_rest(self) -> bool:
        """Whether nobody has written to the model's own file for a while."""
        return self._model.is_at_rest

    @property
    def is_intact(self) -> bool:
        """Whether all bytes are still those that were digested."""
        return all(part.is_intact for part in self._parts)

    def look_at(self, locations: Iterable[str], pool: Pool) -> bool:
        """Digest the files at ``locations``; False if one of them cannot be had."""
        region = self.region
        if not isinstance(region, MappedFile):
            return not list(locations)
        folder = os.path.dirname(region.name)  # noqa: PTH120 - as who loads the model does
        try:
            for location in locations:
                if location not in self.others:
                    file = open_file(folder, location, "external data")
                    self.others[location] = Digested.of(file, pool)
        except (FornixError, OSError):
            return False
        return True

    def holds(self, digests: Mapping[str, str], pool: Pool) -> bool:
        """Whether the files at the locations in ``digests`` have these, as hexadecimal digits."""
        found = self.look_at(digests, pool)
        return found and all(self.others[at].digest.hex() == own for at, own in digests.items())

    @property
    def digests(self) -> dict[str, str]:
        """What `holds` asks for."""
        return {location: part.digest.hex() for location, part in self.others.items()}

    def is_what_was_read(self, pool: Pool) -> bool:
        """Whether a model read since from the same source is this one."""
        return all(part.is_what_was_read(pool) for part in self._parts)

    def place(self, payload: Payload | None) -> tuple[int, int] | None:
        """The number of the part in which ``payload`` lies, and where; None if it is elsewhere."""
        if isinstance(payload, MappedBytes):
            for number, part in enumerate(self._parts):
                start = part.offset(payload)
                if start is not None:
                    return number, start
        return None

    def payload(self, number: int, start: int, size: int) -> MappedBytes:
        """The bytes that lie in the part of this number."""
        return MappedBytes(self._parts[number].region, start, size)

    @property
    def _parts(self) -> list[Digested]:
        return [self._model, *self.others.values()]


_OPEN: weakref.WeakValueDictionary[object, Digested] = weakref.WeakValueDictionary()
"""Files that sessions of this process use."""


def settled(source: Any) -> Any:
    """``source`` as bytes, if it is a model in memory that its owner may change."""
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    descriptor = getattr(source, "DESCRIPTOR", None)
    if descriptor is None or descriptor.name != "ModelProto":
        return source
    try:
        return source.SerializeToString()
    except Exception:  # noqa: BLE001 - more than 2 GiB: each protobuf raises something else
        return source


def place_of(source: object) -> Place | None:
    """Where the bytes of ``source`` are; None for what is neither a regular file nor bytes."""
    if isinstance(source, bytes):
        return Memory(source)
    if not isinstance(source, str | os.PathLike):
        return None
    if not stat.S_ISREG(os.stat(source).st_mode):  # noqa: PTH116 - bytes are no Path
        return None
    return MappedFile.open(source)


def is_at_rest(file: MappedFile) -> bool:
    """Whether nobody has written to ``file`` for a while, and times would tell if somebody does."""
    is_old = file.identity.changed * 1e-9 < time.time() - SECONDS_AT_REST
    return is_old and tells_times(file.fileno())


def _remembered(file: MappedFile) -> bytes | None:
    """The digest of ``file``, which is at rest, if this user's cache knows it."""
    if not _is_worth_remembering(file):
        return None
    found = DiskCache.default().read(_note_name(file), NOTE)
    return bytes(found) if found is not None and len(found) == DIGEST_BYTES else None


def _remember(file: MappedFile, digest: bytes) -> None:
    """Keep the digest of ``file``, which was at rest before its bytes were read, and still is."""
    if _is_worth_remembering(file):
        DiskCache.default().write(_note_name(file), digest, NOTE)


def _is_worth_remembering(file: MappedFile) -> bool:
    """Whether ``file`` is large, and its identity that of no other file, mounted earlier or later.

    Images of file systems, and servers, say whole seconds, and these may be whatever was asked for.
    """
    is_of_a_clock = file.identity.changed % NANOSECONDS != 0
    return is_of_a_clock and file.size >= WORTH_REMEMBERING


def _note_name(file: MappedFile) -> str:
    return "d" + hashlib.sha256(repr(tuple(file.identity)).encode()).hexdigest()[:40]


def _model_digest(region: Place, pool: Pool) -> bytes:
    """That of all bytes, or of the model in a compiled one."""
    container = Container.of(region)
    if container is None:
        return digest_of(region, 0, region.size, pool)
    section = container.sections[MODEL]
    return digest_of(region, section.start, section.size, pool)


def digest_of(region: Place, begin: int, size: int, pool: Pool) -> bytes:
    """A digest of ``size`` bytes; raises FormatError if there are fewer than there were."""
    end = begin + size
    starts = range(begin, end, PIECE_BYTES)
    found = [b""] * len(starts)
    following = itertools.count()

    def work(_: int) -> None:
        buffer = bytearray(READ_BYTES)
        while (piece := next(following)) < len(starts):
            start = starts[piece]
            stop = min(start + PIECE_BYTES, end)
            sha = hashlib.sha256()
            for at in range(start, stop, READ_BYTES):
                part = memoryview(buffer)[: min(READ_BYTES, stop - at)]
                region.read_into(part, at)
                sha.update(part)
            found[piece] = sha.digest()

    pool.run(work)
    return hashlib.sha256(size.to_bytes(8, "little") + b"".join(found)).digest()


__all__ = ["Content", "digest_of", "is_at_rest", "place_of", "settled"]
