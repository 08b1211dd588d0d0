"""Files that appear whole or not at all.

`Replacement` writes under a temporary name in the same folder, flushes it to the disk and renames
it on commit, so that who reads the name sees the old file or the new one, and an interrupted save
leaves the old one. Which file may be written is decided by the caller.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from typing_extensions import Buffer

_WRITE_FLAGS = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOINHERIT", 0)
)
# Characters of a name that its temporary name shows: four bytes each fit into the 255 of a name.
_SHOWN = 50


class Replacement:
    """A new content for the file ``name`` in ``folder``, unseen until `commit`.

    ``folder_fd`` is a descriptor of the folder, where the platform can open relative to one. As a
    context it commits at its end, or discards if an exception passes.
    """

    def __init__(self, folder: str, name: str, folder_fd: int | None = None) -> None:
        self._fd = folder_fd
        self._folder = folder
        self._name = name if folder_fd is not None else os.path.join(folder, name)
        unique = f".{name[:_SHOWN]}.{secrets.token_hex(8)}.tmp"
        self._hidden = unique if folder_fd is not None else os.path.join(folder, unique)
        try:
            descriptor = os.open(self._hidden, _WRITE_FLAGS, 0o666, dir_fd=folder_fd)
        except OSError as error:
            error.filename = os.path.join(folder, name)
            raise
        self.stream = os.fdopen(descriptor, "wb")
        self.written = 0
        self._keep_mode(descriptor)

    def _keep_mode(self, descriptor: int) -> None:
        """Give the new file the permissions of the old one; new names get the system's default."""
        if not hasattr(os, "fchmod"):
            return
        with contextlib.suppress(OSError):
            old = os.stat(self._name, dir_fd=self._fd, follow_symlinks=False)
            if stat.S_ISREG(old.st_mode):
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode))

    @property
    def hidden(self) -> str:
        """The name that the new content has until it is committed."""
        return self._hidden

    def write(self, part: Buffer) -> None:
        self.written += memoryview(part).nbytes
        self.stream.write(part)

    def flush(self) -> None:
        """Have everything written on the disk, under the temporary name."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()

    def commit(self) -> None:
        """Put the new content in place of the old."""
        try:
            if not self.stream.closed:
                self.flush()
            os.replace(self._hidden, self._name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except BaseException:
            self.discard()
            raise
        self._sync_folder()

    def _sync_folder(self) -> None:
        """Make the new name durable, on systems where a folder can be flushed."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._folder or ".", os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def discard(self) -> None:
        """Leave the old content; harmless after `commit`."""
        with contextlib.suppress(OSError):
            self.stream.close()
        with contextlib.suppress(OSError):
            os.unlink(self._hidden, dir_fd=self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()


def replacement(path: str | os.PathLike[str]) -> Replacement:
    """A new content for ``path``; a symbolic link stays, and what it points to is replaced."""
    return Replacement(*os.path.split(os.path.realpath(path)))


def write_file(path: str | os.PathLike[str], parts: Iterable[Buffer]) -> None:
    """Write ``parts`` to ``path``: whole or not at all if it is, or becomes, a regular file.

    What is no regular file, such as a pipe, is written to.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as stream:
            stream.writelines(parts)
        return
    with replacement(path) as new:
        for part in parts:
            new.write(part)
