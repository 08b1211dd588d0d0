"""Machine code that is made once: in memory for this process, on disk for the next ones.

Decides what identifies machine code (the text it is made of, the target, the versions of compiler
and LLVM) and when a file on disk is trusted. A file is native code, so the directory must be ours
alone (mode 0700, our user), and each file carries a digest of its key and content; one that is
foreign, damaged or cut short is rebuilt. ``FORNIX_CACHE`` names the directory, ``0`` disables it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import llvmlite

from fornix.compile.link import Library, compile_object
from fornix.compile.target import Target
from fornix.errors import CompileError

FORMAT = b"fornix object 1\n"
MAX_BYTES = 256 << 20
"""Bytes on disk; the files that have not been used longest go first."""
OBJECT, NOTE = "o", "json"
"""What files hold, by the end of their names."""
SHRINK_EVERY = 64
"""Files written from one look at the size of the directory to the next."""
DIGEST_BYTES = hashlib.sha256().digest_size


class ObjectCache:
    """Machine code by the text that it is made of."""

    def __init__(self, directory: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        """Without a ``directory`` nothing is kept on disk."""
        self.directory = directory
        self.max_bytes = max_bytes
        self._loaded: dict[str, tuple[int, Library]] = {}
        self._written = 0
        self._lock = threading.RLock()

    @staticmethod
    def default() -> ObjectCache:
        """A cache where the environment says, else in the user's cache directory."""
        chosen = os.environ.get("FORNIX_CACHE", "")
        if chosen == "0":
            return ObjectCache()
        return ObjectCache(Path(chosen) if chosen else _user_directory())

    def load(self, texts: Iterable[str], target: Target) -> dict[str, tuple[int, Library]]:
        """Address of the kernel of each module, and what keeps it in memory.

        A module defines one function called ``@kernel``.
        """
        names = {text: _digest(text, target) for text in texts}
        with self._lock:
            missing = {n: t for t, n in names.items() if n not in self._loaded}
            if missing:
                self._load_missing(missing, target)
            return {text: self._loaded[name] for text, name in names.items()}

    def find(self, names: Iterable[str]) -> dict[str, tuple[int, Library]] | None:
        """The kernels that are kept under ``names``, as `load` gives them; None if one is not."""
        with self._lock:
            missing = [name for name in names if name not in self._loaded]
            objects = {name: self._read(name) for name in missing}
            if None in objects.values():
                return None
            try:
                library = Library({n: body for n, body in objects.items() if body is not None})
            except CompileError:
                return None
            self._loaded |= {name: (library.addresses[name], library) for name in missing}
            return {name: self._loaded[name] for name in names}

    def note(self, name: str) -> bytes | None:
        """What `keep` kept under ``name``."""
        return self._read(name, NOTE)

    def keep(self, name: str, body: bytes) -> None:
        """Keep a note beside the machine code: what else was found out on the way to it."""
        self._write(name, body, NOTE)

    def _load_missing(self, missing: Mapping[str, str], target: Target) -> None:
        objects: dict[str, bytes] = {}
        fresh: set[str] = set()
        for name, text in missing.items():
            found = self._read(name)
            if found is None:
                found = _compiled(name, text, target)
                fresh.add(name)
            objects[name] = found
        try:
            library = Library(objects)
        except CompileError:
            if len(fresh) == len(objects):
                raise
            objects = {name: _compiled(name, text, target) for name, text in missing.items()}
            fresh = set(objects)
            library = Library(objects)
        for name in fresh:
            self._write(name, objects[name])
        for name in objects:
            self._loaded[name] = library.addresses[name], library

    # ── disk

    def _path(self, name: str, kind: str) -> Path | None:
        return None if self.directory is None else self.directory / f"{name}.{kind}"

    def _read(self, name: str, kind: str = OBJECT) -> bytes | None:
        """The object file, or the note, kept under ``name``, if it is ours and whole."""
        path = self._path(name, kind)
        if path is None or not self._is_private():
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return None
        head = len(FORMAT) + DIGEST_BYTES
        digest, body = content[len(FORMAT) : head], content[head:]
        if not content.startswith(FORMAT) or digest != _seal(name, body):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return body

    def _write(self, name: str, body: bytes, kind: str = OBJECT) -> None:
        """Keep a file; a disk that is full or read-only is no error."""
        path = self._path(name, kind)
        if path is None:
            return
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_private():
                return
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(FORMAT + _seal(name, body) + body)
            Path(file.name).replace(path)
            self._written += 1
            if self._written % SHRINK_EVERY == 0:
                self._shrink()

    def _is_private(self) -> bool:
        """Whether the directory belongs to this user and to nobody else."""
        if self.directory is None:
            return False
        try:
            found = self.directory.lstat()
        except OSError:
            return False
        if not stat.S_ISDIR(found.st_mode):
            return False
        if sys.platform == "win32":
            return True
        return found.st_uid == os.getuid() and not found.st_mode & 0o077

    def _shrink(self) -> None:
        """Remove the files that have not been used longest, while there is too much."""
        if self.directory is None:
            return
        kept = [f for kind in (OBJECT, NOTE) for f in self.directory.glob(f"*.{kind}")]
        found = [(f.stat().st_mtime, f.stat().st_size, f) for f in kept]
        total = sum(size for _, size, _ in found)
        for _, size, file in sorted(found, key=lambda entry: entry[0]):
            if total <= self.max_bytes:
                break
            file.unlink(missing_ok=True)
            total -= size


def _compiled(name: str, text: str, target: Target) -> bytes:
    return compile_object(text.replace("@kernel(", f"@{name}(", 1), target)


def _digest(text: str, target: Target) -> str:
    """A name for the machine code of ``text``: a symbol and a file name."""
    key = f"{llvmlite.__version__}\x00{target.text}\x00{text}"
    return "k" + hashlib.sha256(key.encode()).hexdigest()[:40]


def _seal(name: str, body: bytes) -> bytes:
    return hashlib.sha256(FORMAT + name.encode() + b"\0" + body).digest()


def _user_directory() -> Path | None:
    """The directory for caches of this user, by the platform's rules; None without a home."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local") / "fornix/kernels"
    if sys.platform == "darwin":
        return home / "Library/Caches/fornix/kernels"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "fornix/kernels"


__all__ = ["ObjectCache"]
