"""Byte ranges that stay where they are: in a mapped file or in a buffer of the caller.

Decides how a file is mapped and what is guaranteed while it is. A map is read-only and shared, so
its pages are the system's file cache and cost no memory of the process. Touching a page that lies
behind the end of a file which somebody has shortened meanwhile kills a process (SIGBUS); therefore

* `read`, and so `tobytes` and `parts`, copy through the file descriptor and never touch the map:
  they are safe at any time;
* `view` compares the file's size with what it hands out first, and raises FormatError if the file
  has shrunk. What is shortened while a view is in use cannot be caught: who must survive that
  copies, or asks `check` before each use, as sessions do before each run. Files that are replaced,
  as fornix itself does when it saves, are never affected.

What the ranges mean, and which file may be opened, is left to `wire` and `external`.
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from fornix.errors import FormatError, NoSuchFile

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Bytes copied at once from file to file.
_PART = 1 << 24
# Windows knows neither flag's name; there files open as text and are inherited unless told not to.
READ_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOINHERIT", 0)
)
# The map needs no descriptor of its own: sizes are asked of ours.
_MAP_OPTIONS: dict[str, bool] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


class Region(Protocol):
    """Bytes with a name, read piecewise."""

    name: str
    size: int

    def read(self, start: int, stop: int) -> bytes:
        """A copy of the bytes from ``start`` up to ``stop``."""

    def view(self, start: int, stop: int) -> memoryview:
        """The bytes from ``start`` up to ``stop``, read-only and in place."""

    def give_back(self, start: int, stop: int) -> None:
        """Say that these bytes are not wanted soon; views of them stay valid."""


@runtime_checkable
class Payload(Protocol):
    """Bytes that are had when they are needed: of a mapped file, of an array."""

    @property
    def nbytes(self) -> int:
        """Their number."""

    def view(self) -> Buffer:
        """The bytes themselves."""


class Memory:
    """A region in memory: the caller's buffer, not copied."""

    def __init__(self, buffer: Buffer, name: str = "<bytes>") -> None:
        self.name = name
        self._view = memoryview(buffer).toreadonly().cast("B")
        self.size = self._view.nbytes

    def read(self, start: int, stop: int) -> bytes:
        return bytes(self._view[start:stop])

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill ``buffer`` with a copy of the bytes from ``start``."""
        buffer[:] = self._view[start : start + len(buffer)]

    def view(self, start: int, stop: int) -> memoryview:
        return self._view[start:stop]

    def is_same(self, other: Memory) -> bool:
        """Whether this is the caller's buffer that ``other`` is."""
        return self._view.obj is other._view.obj

    def give_back(self, start: int, stop: int) -> None:
        """What is in memory already stays there."""

    def __reduce__(self) -> tuple[Callable[..., Memory], tuple[bytes, str]]:
        return Memory, (bytes(self._view), self.name)


class Identity(NamedTuple):
    """Which file it is, and when somebody has last written to it, in nanoseconds.

    Nobody can set ``changed``, the time of the last change to content or attributes.
    """

    device: int
    inode: int
    size: int
    written: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """That of a file in this state."""
        times = status.st_mtime_ns, status.st_ctime_ns
        return cls(status.st_dev, status.st_ino, status.st_size, *times)


class MappedFile:
    """A region that is one regular file, mapped when the first view is asked for.

    It owns the descriptor and closes it when nothing refers to the region or its views any more.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)
        self.identity = Identity.of(os.fstat(descriptor))
        self.size, self._written = self.identity.size, self.identity.written
        self._view: memoryview | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> MappedFile:
        """The file that ``path`` names; raises NoSuchFile if it cannot be read."""
        return cls(open_file(path), os.fspath(path))

    def fileno(self) -> int:
        """The descriptor, which stays ours."""
        return self._descriptor

    def read(self, start: int, stop: int) -> bytes:
        if not hasattr(os, "pread"):  # Windows, which refuses to shorten a mapped file
            return bytes(self.view(start, stop))
        parts = []
        while start < stop and (part := os.pread(self._descriptor, stop - start, start)):
            parts.append(part)
            start += len(part)
        if start < stop:
            raise self._shrunk()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill ``buffer`` with a copy of the bytes from ``start``."""
        if not hasattr(os, "preadv"):
            buffer[:] = self.read(start, start + len(buffer))
        elif os.preadv(self._descriptor, [buffer], start) < len(buffer):
            raise self._shrunk()

    def view(self, start: int, stop: int) -> memoryview:
        if os.fstat(self._descriptor).st_size < stop:
            raise self._shrunk()
        if start == stop:
            return memoryview(b"")
        if self._view is None:
            self._view = self._map()
        return self._view[start:stop]

    def check(self) -> None:
        """Raise FormatError if somebody has written to the file since it was opened."""
        status = os.fstat(self._descriptor)
        if status.st_size < self.size:
            raise self._shrunk()
        if status.st_mtime_ns != self._written:
            raise FormatError(
                f"{self.name}: the file must stay as it is while its weights are in use, found it "
                "written to; write a new file and rename it, as fornix.save does"
            )

    @property
    def is_intact(self) -> bool:
        """Whether nobody has written to the file since it was opened, as far as times tell."""
        return Identity.of(os.fstat(self._descriptor)) == self.identity

    def give_back(self, start: int, stop: int) -> None:
        first, last = -(-start // mmap.PAGESIZE), stop // mmap.PAGESIZE
        if self._view is not None and last > first and hasattr(mmap, "MADV_DONTNEED"):
            # The map is of a file, shared and read-only: pages come back from there when touched.
            size = (last - first) * mmap.PAGESIZE
            self._mapped.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, size)

    def _map(self) -> memoryview:
        try:
            self._mapped = mmap.mmap(
                self._descriptor, self.size, access=mmap.ACCESS_READ, **_MAP_OPTIONS
            )
        except ValueError as error:  # longer than the file
            raise self._shrunk() from error
        return memoryview(self._mapped)

    def _shrunk(self) -> FormatError:
        now = os.fstat(self._descriptor).st_size
        return FormatError(
            f"{self.name}: the {self.size} bytes it had when it was opened are required, "
            f"found {now}; it was cut while in use"
        )

    def __reduce__(self) -> tuple[Callable[..., MappedFile], tuple[str, int, int]]:
        return _reopen, (os.path.abspath(self.name), self.size, self._written)


class Slice:
    """A region that is part of another; payloads in it are those of the whole."""

    def __init__(self, whole: Region, start: int, size: int) -> None:
        self.whole, self.start, self.size = whole, start, size
        self.name = whole.name

    def read(self, start: int, stop: int) -> bytes:
        return self.whole.read(self.start + start, self.start + min(stop, self.size))

    def view(self, start: int, stop: int) -> memoryview:
        return self.whole.view(self.start + start, self.start + min(stop, self.size))

    def give_back(self, start: int, stop: int) -> None:
        self.whole.give_back(self.start + start, self.start + stop)


class MappedBytes:
    """One payload: ``nbytes`` bytes of a region, from ``offset``.

    It pickles by the path of its file (which must then still be the same), or with its bytes if
    they are in memory.
    """

    __slots__ = ("nbytes", "offset", "region")

    def __init__(self, region: Region, offset: int, nbytes: int) -> None:
        self.region = region
        self.offset = offset
        self.nbytes = nbytes

    @classmethod
    def within(cls, region: Region, start: int, stop: int) -> MappedBytes:
        """The bytes from ``start`` up to ``stop`` of a region, which may be part of another."""
        if isinstance(region, Slice):
            return cls.within(region.whole, region.start + start, region.start + stop)
        return cls(region, start, stop - start)

    @classmethod
    def of(cls, buffer: Buffer) -> MappedBytes:
        """A payload that is the whole of ``buffer``."""
        region = Memory(buffer)
        return cls(region, 0, region.size)

    def view(self) -> memoryview:
        """The bytes in place, read-only; raises FormatError if their file has shrunk."""
        return self.region.view(self.offset, self.offset + self.nbytes)

    def give_back(self) -> None:
        """Say that the bytes are not wanted soon; views of them stay valid."""
        self.region.give_back(self.offset, self.offset + self.nbytes)

    def tobytes(self) -> bytes:
        """A copy of the bytes, safe even from a file that somebody is shortening."""
        return self.region.read(self.offset, self.offset + self.nbytes)

    def parts(self) -> Iterator[Buffer]:
        """The bytes one part after the other, to be written elsewhere: safe, and never all at once.

        A file that somebody shortens meanwhile is a FormatError.
        """
        if isinstance(self.region, Memory):
            yield self.view()
            return
        stop = self.offset + self.nbytes
        for start in range(self.offset, stop, _PART):
            yield self.region.read(start, min(start + _PART, stop))

    def __reduce__(self) -> tuple[Callable[..., MappedBytes], tuple[object, ...]]:
        if isinstance(self.region, Memory):
            return MappedBytes.of, (self.tobytes(),)
        return MappedBytes, (self.region, self.offset, self.nbytes)

    def __repr__(self) -> str:
        stop = self.offset + self.nbytes
        return f"MappedBytes({self.region.name!r}, bytes {self.offset} to {stop})"


def mapped_files(payloads: Iterable[object]) -> tuple[MappedFile, ...]:
    """The files that ``payloads`` lie in, each once."""
    regions = (payload.region for payload in payloads if isinstance(payload, MappedBytes))
    return tuple(dict.fromkeys(region for region in regions if isinstance(region, MappedFile)))


def open_file(path: str | os.PathLike[str]) -> int:
    """A descriptor for reading ``path``; raises NoSuchFile if it cannot be had."""
    try:
        return os.open(path, READ_FLAGS)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise NoSuchFile(f"{os.fspath(path)}: a readable file is required: {reason}") from error


# The files that pickles in this process refer to, so that tensors of one file share one map.
_REOPENED: weakref.WeakValueDictionary[tuple[str, int, int], MappedFile] = (
    weakref.WeakValueDictionary()
)


def _reopen(path: str, size: int, written: int) -> MappedFile:
    """The file at ``path`` again, which must be the one that was pickled."""
    key = (path, size, written)
    found = _REOPENED.get(key)
    if found is None:
        found = MappedFile.open(path)
        status = os.stat(path)
        if (status.st_size, status.st_mtime_ns) != (size, written):
            raise FormatError(
                f"{path}: the file of {size} bytes that was pickled is required, "
                f"found one of {status.st_size} bytes written at another time"
            )
        _REOPENED[key] = found
    return found
