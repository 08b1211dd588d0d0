"""Machine code that is made once: in memory while somebody holds it, on disk for the next process.

Decides what identifies machine code: the text it is made of, the target, the versions of compiler
and LLVM. Which files on disk are trusted is `disk`'s business; what is not there is made.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from weakref import WeakValueDictionary

import llvmlite

from fornix.compile.disk import MAX_BYTES, NOTE, OBJECT, DiskCache
from fornix.compile.link import Library, compile_object
from fornix.compile.target import Target
from fornix.errors import CompileError
from fornix.forks import tell


class ObjectCache:
    """Machine code by the text that it is made of."""

    def __init__(self, directory: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        """Without a ``directory`` nothing is kept on disk."""
        self.disk = DiskCache(directory, max_bytes)
        self._loaded: WeakValueDictionary[str, Library] = WeakValueDictionary()
        self.forget()
        tell(self)

    def forget(self) -> None:
        """In the child of a fork: whoever was making machine code is not there."""
        self._started: dict[str, Future[bytes]] = {}
        self._lock = threading.RLock()

    @staticmethod
    def default() -> ObjectCache:
        """A cache where the environment says, else in the user's cache directory."""
        cache = ObjectCache()
        cache.disk = DiskCache.default()
        return cache

    def load(self, texts: Iterable[str], target: Target) -> dict[str, tuple[int, Library]]:
        """Address of the kernel of each module, and what keeps it in memory.

        A module defines one function called ``@kernel``.
        """
        names = {text: _digest(text, target) for text in texts}
        with self._lock:
            found = self._known(names.values())
            missing = {n: t for t, n in names.items() if n not in found}
            if missing:
                found |= self._load_missing(missing, target)
            return {
                text: (found[name].addresses[name], found[name]) for text, name in names.items()
            }

    def start(self, texts: Iterable[str], target: Target, worker: Executor) -> None:
        """Let ``worker`` make the machine code of ``texts``, which is going to be loaded."""
        with self._lock:
            for text in texts:
                name = _digest(text, target)
                known = name in self._loaded or name in self._started
                if not known and self.object(name) is None:
                    self._started[name] = worker.submit(_compiled, name, text, target)

    def find(self, names: Iterable[str]) -> dict[str, tuple[int, Library]] | None:
        """The kernels that are kept under ``names``, as `load` gives them; None if one is not."""
        with self._lock:
            wanted = list(names)
            found = self._known(wanted)
            missing = [name for name in wanted if name not in found]
            objects = {name: self.object(name) for name in missing}
            if None in objects.values():
                return None
            try:
                library = Library({n: body for n, body in objects.items() if body is not None})
            except CompileError:
                return None
            found |= self._noted(library, missing)
            return {name: (found[name].addresses[name], found[name]) for name in wanted}

    def object(self, name: str) -> bytes | None:
        """The object file that is kept under ``name``."""
        found = self.disk.read(name, OBJECT)
        return None if found is None else bytes(found)

    def note(self, name: str) -> bytes | None:
        """What `keep` kept under ``name``."""
        found = self.disk.read(name, NOTE)
        return None if found is None else bytes(found)

    def keep(self, name: str, body: bytes) -> None:
        """Keep a note beside the machine code: what else was found out on the way to it."""
        self.disk.write(name, body, NOTE)

    def _known(self, names: Iterable[str]) -> dict[str, Library]:
        """Those of ``names`` whose code is in memory, as somebody holds it."""
        found = {name: self._loaded.get(name) for name in names}
        return {name: library for name, library in found.items() if library is not None}

    def _noted(self, library: Library, names: Iterable[str]) -> dict[str, Library]:
        """Note that the code of ``names`` is in memory."""
        found = dict.fromkeys(names, library)
        self._loaded.update(found)
        return found

    def _load_missing(self, missing: Mapping[str, str], target: Target) -> dict[str, Library]:
        objects: dict[str, bytes] = {}
        fresh: set[str] = set()
        for name, text in missing.items():
            found = self.object(name)
            if found is None:
                started = self._started.pop(name, None)
                found = started.result() if started else _compiled(name, text, target)
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
            self.disk.write(name, objects[name], OBJECT)
        return self._noted(library, objects)


def _compiled(name: str, text: str, target: Target) -> bytes:
    return compile_object(text.replace("@kernel(", f"@{name}(", 1), target)


def _digest(text: str, target: Target) -> str:
    """A name for the machine code of ``text``: a symbol and a file name."""
    key = f"{llvmlite.__version__}\x00{target.text}\x00{text}"
    return "k" + hashlib.sha256(key.encode()).hexdigest()[:40]


__all__ = ["ObjectCache"]
