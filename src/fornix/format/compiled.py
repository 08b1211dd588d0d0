"""Files of compiled models: a model and, beside it, what was compiled of it for one processor.

Decides how such a file is laid out: a head with the places and digests of four sections, which
follow in their order. The first is the model, a message with all of its data, so that whoever reads
models reads these files too. What the others hold, and whether anything in them is to be believed,
is left to `runtime.artifact`.

All numbers are little-endian. The head is

* 16 bytes `MAGIC`, with which no message begins: there is no wire type 6
* the version of the layout, and the number of sections, 4 bytes each; the size of the file, 8
* of each section its offset and size, 8 bytes each, and 32 bytes of digest
* the SHA-256 of all that, and zeros up to `HEAD_BYTES`
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fornix.errors import FormatError
from fornix.format.mapped import MappedFile, Memory, Region, Slice

MAGIC = b"fornix compiled\n"
VERSION = 1
MODEL, ABOUT, PROGRAM, DATA = SECTIONS = ("model", "about", "program", "data")
"""The message; what the program was made for; the program, which is code; arrays that it reads."""
HEAD_BYTES = ALIGNMENT = 4096
"""Of the head, and of which the offset of a section is a multiple: those of a page."""
DIGEST_BYTES = 32
_FIRST = struct.Struct("<16sIIQ")
_ENTRY = struct.Struct(f"<QQ{DIGEST_BYTES}s")
_SEALED = _FIRST.size + len(SECTIONS) * _ENTRY.size
"""Bytes of the head before its own digest."""


@dataclass(frozen=True)
class Section:
    """Some bytes of a file, and the digest that they are said to have."""

    start: int
    size: int
    digest: bytes

    @property
    def stop(self) -> int:
        """Where it ends."""
        return self.start + self.size


@dataclass(frozen=True)
class Container:
    """A file of a compiled model."""

    region: Region
    sections: Mapping[str, Section]
    seal: bytes
    """A digest of the head, and so of all digests in it."""

    @staticmethod
    def of(region: Region) -> Container | None:
        """The file that ``region`` is; None if it is none. Raises FormatError if it is damaged."""
        if region.size < len(MAGIC) or region.read(0, len(MAGIC)) != MAGIC:
            return None
        name = f"{region.name}: compiled model"
        if region.size < HEAD_BYTES:
            raise FormatError(
                f"{name}: a head of {HEAD_BYTES} bytes is required, found {region.size} bytes"
            )
        head = region.read(0, HEAD_BYTES)
        _, version, count, size = _FIRST.unpack_from(head)
        if (version, count) != (VERSION, len(SECTIONS)):
            raise FormatError(
                f"{name}: layout {VERSION} with {len(SECTIONS)} sections is required, found "
                f"{version} with {count}; compile the model anew"
            )
        seal = head[_SEALED : _SEALED + DIGEST_BYTES]
        if hashlib.sha256(head[:_SEALED]).digest() != seal:
            raise FormatError(f"{name}: its head must have the digest that it names; it is damaged")
        if size != region.size:
            raise FormatError(f"{name}: {size} bytes are required, found {region.size}")
        starts = range(_FIRST.size, _SEALED, _ENTRY.size)
        found = [Section(*_ENTRY.unpack_from(head, start)) for start in starts]
        _require_inside(found, region.size, name)
        return Container(region, dict(zip(SECTIONS, found, strict=True)), seal)

    @property
    def model(self) -> Slice:
        """The message."""
        return self.slice(MODEL)

    def slice(self, name: str) -> Slice:
        """A section."""
        section = self.sections[name]
        return Slice(self.region, section.start, section.size)


def _require_inside(sections: list[Section], size: int, name: str) -> None:
    """Raise FormatError unless sections follow each other within ``size`` bytes."""
    at = HEAD_BYTES
    for kind, section in zip(SECTIONS, sections, strict=True):
        if section.start % ALIGNMENT or section.start < at or section.stop > size:
            raise FormatError(
                f"{name}: section {kind!r} must begin at a multiple of {ALIGNMENT} from byte {at} "
                f"on and end by {size}, found bytes {section.start} to {section.stop}"
            )
        at = section.stop


def head(sections: Mapping[str, Section], size: int) -> bytes:
    """The head of a file of ``size`` bytes with these sections."""
    entries = (sections[name] for name in SECTIONS)
    text = _FIRST.pack(MAGIC, VERSION, len(SECTIONS), size)
    text += b"".join(_ENTRY.pack(s.start, s.size, s.digest) for s in entries)
    return (text + hashlib.sha256(text).digest()).ljust(HEAD_BYTES, b"\0")


def model_in(region: Region) -> Region:
    """The message in ``region``: a section of it if it is a compiled model, else all of it."""
    container = Container.of(region)
    return region if container is None else container.model


def is_compiled(path: str | os.PathLike[str]) -> bool:
    """Whether the file at ``path`` begins like that of a compiled model."""
    if not Path(path).is_file():
        return False
    region = MappedFile.open(path)
    return region.size >= len(MAGIC) and region.read(0, len(MAGIC)) == MAGIC


def model_bytes(data: bytes, name: str) -> bytes:
    """The same of bytes; ``name`` is what errors call them."""
    if bytes(data[: len(MAGIC)]) != MAGIC:
        return data
    found = model_in(Memory(data, name))
    return found.read(0, found.size)
