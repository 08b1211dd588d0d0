"""Kernels as one image: machine code that is mapped as it is, without LLVM.

Decides how object files become an image when a model is compiled, and how an image becomes code in
the next process. Only what our own kernels need is known: ELF for x86-64, sections that are read or
run, and addresses of 8 bytes that point into the same file or are those of `FUNCTIONS`. Other
objects have no image.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fornix.system import address_of, is_mappable, make_executable

ALIGNMENT = 64
"""Bytes: the most that a section of ours asks for."""
WORD = 8
FUNCTIONS = frozenset({"fma", "fmaf"})
"""Of the C library: what code for processors without such an instruction calls."""

# Offsets, sizes and numbers of ELF. Source: System V ABI, chapters 4 and 5; x86-64 supplement.
_MAGIC = b"\x7fELF\x02\x01"
_X86_64 = 62
_PROGBITS, _SYMTAB, _RELA = 1, 2, 4
_ALLOCATED = 2
_ELSEWHERE = 0
_R_X86_64_64 = 1
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")


@dataclass(frozen=True)
class Image:
    """Code and constants, position-independent but for some words."""

    content: bytes
    fixups: np.ndarray[Any, np.dtype[np.int64]]
    """Where in `content` there are words to which its address is to be added."""
    entries: Mapping[str, int]
    """Where each kernel begins."""
    calls: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Where in `content` there are words that are to be the addresses of `FUNCTIONS`."""


class MappedCode:
    """An image in executable memory; it stays as long as somebody holds this."""

    def __init__(self, image: Image) -> None:
        """Raises OSError where the system lets nobody run memory, or lacks a function."""
        size = max(len(image.content), 1)
        self._memory = mmap.mmap(-1, size)
        block = np.frombuffer(self._memory, np.uint8)
        address = block.ctypes.data
        block[: len(image.content)] = np.frombuffer(image.content, np.uint8)
        _add(block, image.fixups, address)
        for name, places in image.calls.items():
            _add(block, np.array(places, np.int64), address_of(name))
        del block  # else the map could not be closed
        make_executable(address, size)
        self.addresses = {name: address + start for name, start in image.entries.items()}


def _add(block: np.ndarray[Any, Any], places: np.ndarray[Any, Any], amount: int) -> None:
    """Add ``amount`` to the words at ``places``."""
    indices = places[:, None] + np.arange(WORD)
    words = block[indices].view("<i8")
    block[indices] = (words + amount).view(np.uint8)


def image_of(objects: Mapping[str, bytes]) -> Image | None:
    """The image of object files, each named after its function; None if there is none."""
    joined = _Joined()
    entries: dict[str, int] = {}
    for name, file in objects.items():
        start = joined.append(file, name) if is_mappable() else None
        if start is None:
            return None
        entries[name] = start
    fixups = np.array(joined.fixups, np.int64)
    return Image(bytes(joined.content), fixups, entries, joined.calls)


class _Joined:
    """Object files, one behind the other."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.fixups: list[int] = []
        self.calls: dict[str, list[int]] = {}

    def append(self, file: bytes, name: str) -> int | None:
        """Add the sections of ``file``; where the function ``name`` begins, None if unknown."""
        if not file.startswith(_MAGIC) or struct.unpack_from("<H", file, 18)[0] != _X86_64:
            return None
        (table,) = struct.unpack_from("<Q", file, 40)
        (count,) = struct.unpack_from("<H", file, 60)
        sections = [_SECTION.unpack_from(file, table + i * _SECTION.size) for i in range(count)]
        starts = _place(self.content, file, sections)
        symbols = _symbols(file, sections)
        for kind, info, offset, size in ((s[1], s[7], s[4], s[5]) for s in sections):
            if kind != _RELA or info not in starts:
                continue
            for place, what, addend in _RELOCATION.iter_unpack(file[offset : offset + size]):
                own, section, value = symbols[what >> 32]
                word = starts[info] + place
                if what & 0xFFFFFFFF != _R_X86_64_64:
                    return None
                if section == _ELSEWHERE and own in FUNCTIONS:
                    self.calls.setdefault(own, []).append(word)
                    start = 0
                elif section in starts:
                    self.fixups.append(word)
                    start = starts[section]
                else:
                    return None
                struct.pack_into("<q", self.content, word, start + value + addend)
        found = (starts[s] + value for own, s, value in symbols if own == name and s in starts)
        return next(found, None)


def _place(content: bytearray, file: bytes, sections: list[Any]) -> dict[int, int]:
    """Copy what is needed at run time; where each section begins."""
    starts: dict[int, int] = {}
    for number, (_, kind, flags, _, offset, size, *_) in enumerate(sections):
        if kind == _PROGBITS and flags & _ALLOCATED and size:
            content += bytes(-len(content) % ALIGNMENT)
            starts[number] = len(content)
            content += file[offset : offset + size]
    return starts


def _symbols(file: bytes, sections: list[Any]) -> list[tuple[str, int, int]]:
    """The name of each symbol, its section and its offset there."""
    found: list[tuple[str, int, int]] = []
    for _, kind, _, _, offset, size, link, *_ in sections:
        if kind == _SYMTAB:
            names = sections[link][4]
            for start, _, _, section, value, _ in _SYMBOL.iter_unpack(file[offset : offset + size]):
                end = file.index(b"\0", names + start)
                found.append((file[names + start : end].decode(), section, value))
    return found


__all__ = ["FUNCTIONS", "Image", "MappedCode", "image_of", "is_mappable"]
