"""Files of the cache: what processes of this user leave to each other.

Decides where they lie, when one is trusted and how many are kept. They hold native code, so the
directory must be ours alone (mode 0700, our user), and each file carries a digest of its name and
content; one that is foreign, damaged or cut short is as good as none. ``FORNIX_CACHE`` names the
directory, ``0`` disables it. What files mean is their writers' business.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

import numpy as np

from fornix.system import cache_directory, is_private

FORMAT = b"fornix object 1\n"
MAX_BYTES = 1 << 30
"""Bytes on disk; the files that have not been used longest go first."""
OBJECT, NOTE, PLAN = "o", "json", "plan"
"""What files hold, by the end of their names."""
SHRINK_EVERY = 64
"""Files written from one look at the size of the directory to the next."""
NEW = "new-"
"""What names of files begin with that are still being written."""
SECONDS_TO_WRITE = 3600
"""After which nobody does any more: whoever began has been ended."""
LARGE = 1 << 20
"""Bytes of a file after which there is such a look at once."""
ALIGNMENT = 64
"""Bytes; of what is read, in memory."""
HEAD_BYTES = len(FORMAT) + hashlib.sha256().digest_size


class DiskCache:
    """Bytes by name and kind; without a ``directory`` nothing is kept."""

    def __init__(self, directory: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self._written = 0

    @staticmethod
    def default() -> DiskCache:
        """Where the environment says, else in the user's cache directory."""
        chosen = os.environ.get("FORNIX_CACHE", "")
        if chosen == "0":
            return DiskCache()
        return DiskCache(Path(chosen) if chosen else cache_directory())

    def read(self, name: str, kind: str) -> memoryview | None:
        """What was kept under ``name``, if it is ours and whole; aligned in memory."""
        path = self._path(name, kind)
        if path is None or not self._is_private():
            return None
        try:
            with path.open("rb", buffering=0) as file:
                content = _aligned(os.fstat(file.fileno()).st_size)
                size = file.readinto(content) or 0
        except OSError:
            return None
        body = content[HEAD_BYTES:]
        if size < len(content) or bytes(content[:HEAD_BYTES]) != FORMAT + _seal(name, body):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return body

    def write(self, name: str, body: bytes | memoryview, kind: str) -> None:
        """Keep a file; a disk that is full or read-only is no error."""
        path = self._path(name, kind)
        if path is None:
            return
        import tempfile  # noqa: PLC0415 - slow to import, and most sessions only read

        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_private():
                return
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=NEW, delete=False) as file:
                hidden = Path(file.name)
            try:
                with hidden.open("wb") as file:
                    file.write(FORMAT + _seal(name, body))
                    file.write(body)
                hidden.replace(path)
            except OSError:  # no room, or on Windows a reader who has the old one open
                hidden.unlink(missing_ok=True)
                raise
            self._written += 1
            if self._written % SHRINK_EVERY == 0 or len(body) > LARGE:
                self._shrink()

    @property
    def is_writable(self) -> bool:
        """Whether anything can be kept; makes the directory if it is not there."""
        if self.directory is None:
            return False
        with contextlib.suppress(OSError):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._is_private() and os.access(self.directory, os.W_OK)

    def _path(self, name: str, kind: str) -> Path | None:
        return None if self.directory is None else self.directory / f"{name}.{kind}"

    def _is_private(self) -> bool:
        """Whether the directory belongs to this user and to nobody else."""
        return self.directory is not None and is_private(self.directory)

    def _shrink(self) -> None:
        """Remove the files that have not been used longest, while there is too much.

        And those that nobody is going to write to the end.
        """
        if self.directory is None:
            return
        for file in self.directory.glob(f"{NEW}*"):
            if file.stat().st_mtime < time.time() - SECONDS_TO_WRITE:
                file.unlink(missing_ok=True)
        kept = [f for kind in (OBJECT, NOTE, PLAN) for f in self.directory.glob(f"*.{kind}")]
        found = [(f.stat().st_mtime, f.stat().st_size, f) for f in kept]
        total = sum(size for _, size, _ in found)
        for _, size, file in sorted(found, key=lambda entry: entry[0]):
            if total <= self.max_bytes:
                break
            file.unlink(missing_ok=True)
            total -= size


def _aligned(size: int) -> memoryview:
    """``size`` bytes of memory in which what follows the head is aligned."""
    block = np.empty(size + ALIGNMENT, np.uint8)
    start = -(block.ctypes.data + HEAD_BYTES) % ALIGNMENT
    return block.data[start : start + size]


def _seal(name: str, body: bytes | memoryview) -> bytes:
    sha = hashlib.sha256(FORMAT + name.encode() + b"\0")
    sha.update(body)
    return sha.digest()


__all__ = ["DiskCache"]
