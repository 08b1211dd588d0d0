"""What was found out before about nodes and units: by this process, or by one before it.

A unit is known by a digest of everything that its code depends on: its nodes, their types and known
contents, how they are joined, the processor, and the sources of fornix itself. A note says which
kernels it has and what each of their arguments is; with it, code is loaded without being written.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from typing import Any, TypeVar

import numpy as np

from fornix.compile.alike import Alike, Names
from fornix.compile.cache import ObjectCache
from fornix.compile.identity import ROOMS, sources
from fornix.compile.notes import UnitCode, code_of, note_of
from fornix.compile.readings import Reading
from fornix.compile.target import Target
from fornix.compile.traits import Traits
from fornix.forks import tell
from fornix.ir.dim import Dim
from fornix.ir.dim.expression import atom_key, render
from fornix.ir.types import TensorType

T = TypeVar("T")

_PACKED_FROM = 64
"""Items from which a list is digested at once: attributes of trees have a million."""


def digest(key: object) -> str:
    """A name for ``key``, which is made of tuples, texts, numbers, bytes, types and dims."""
    return _digest(key, None)


def alike(key: object) -> Alike:
    """A name for all that ``key`` says but the names of symbols, and these symbols."""
    names = Names()
    return Alike(_digest(key, names), names.symbols)


def _digest(key: object, names: Names | None) -> str:
    sha = hashlib.sha256(_fingerprint())
    _feed(sha, key, names)
    return "u" + sha.hexdigest()[:40]


def _feed(sha: Any, key: object, names: Names | None) -> None:
    if isinstance(key, tuple | list):
        sha.update(b"(%d:" % len(key))
        packed = _packed(key) if len(key) >= _PACKED_FROM else None
        if packed is not None:
            sha.update(packed)
            return
        for part in key:
            _feed(sha, part, names)
    elif isinstance(key, bytes):
        sha.update(b"b%d:" % len(key))
        sha.update(key)
    elif isinstance(key, Dim):
        text = render(key, atom_key) if names is None else repr(names.shown(key))
        sha.update(f"d{text};".encode())
    elif isinstance(key, TensorType):
        _feed(sha, ("t", None if key.dtype is None else key.dtype.name, key.shape), names)
    else:
        sha.update(f"{type(key).__name__}{key!r};".encode())


def _packed(key: Sequence[object]) -> bytes | None:
    """The items of ``key`` at once, if they are numbers or texts of one type."""
    kinds = set(map(type, key))
    if kinds == {float}:
        return b"[float:" + np.array(key, dtype=np.float64).tobytes()
    if kinds in ({int}, {str}):
        return b"[%b:" % repr([*key]).encode()
    return None


@functools.cache
def _fingerprint() -> bytes:
    """What changes when fornix or the processor does."""
    return hashlib.sha256(Target.host().text.encode() + sources(ROOMS)).digest()


MAX_CODES = 1024
"""Units whose code stays known when no session has them any more."""
MAX_TRAITS = 8192
"""Nodes whose traits stay known."""


class Memo:
    """Codes of units: those of this process by name, those on disk by the graph they belong to."""

    def __init__(self, cache: ObjectCache) -> None:
        self.cache = cache
        self.codes: OrderedDict[str, UnitCode] = OrderedDict()
        self.traits: OrderedDict[str, Traits | str] = OrderedDict()
        self.forget()
        tell(self)

    def forget(self) -> None:
        """In the child of a fork: whoever was compiling is not there."""
        self._users = 0
        self._lock = threading.Lock()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While somebody compiles nothing is forgotten, afterwards what was not used of late."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    _shorten(self.codes, MAX_CODES)
                    _shorten(self.traits, MAX_TRAITS)

    def recall_traits(self, names: Sequence[str]) -> None:
        """Make the traits of the nodes called ``names`` known, if they were found out before."""
        if _has_used(self.traits, names):
            return
        note = self._read(digest(("traits", *names)))
        for name, found in (note or {}).items():
            self.traits[name] = found if isinstance(found, str) else _traits(found)

    def keep_traits(self, names: Sequence[str]) -> None:
        """Keep what is known of the nodes called ``names`` for the next process."""
        found = {name: self.traits[name] for name in names if name in self.traits}
        if len(found) == len(names):  # those with bounds are not called so
            self._write(digest(("traits", *names)), {n: _traits_note(t) for n, t in found.items()})

    def recall(self, names: Sequence[str]) -> None:
        """Make the codes of the units called ``names`` known, if they were made before."""
        if _has_used(self.codes, names):
            return
        notes = self._read(digest(("units", *names))) or {}
        objects = {kernel["object"] for note in notes.values() for kernel in note["kernels"]}
        loaded = self.cache.find(sorted(objects))
        if loaded is not None:
            self.codes |= {name: code_of(note, loaded) for name, note in notes.items()}

    def keep(self, names: Sequence[str]) -> None:
        """Keep the codes of the units called ``names`` for the next process."""
        notes = {name: note_of(self.codes[name]) for name in names}
        self._write(
            digest(("units", *names)), {n: note for n, note in notes.items() if note is not None}
        )

    def _read(self, name: str) -> Any:
        note = self.cache.note(name)
        return None if note is None else json.loads(note)

    def _write(self, name: str, note: Mapping[str, object]) -> None:
        self.cache.keep(name, json.dumps(note).encode())


def _has_used(known: OrderedDict[str, T], names: Sequence[str]) -> bool:
    """Whether all of ``names`` are known; they are the last to be forgotten then."""
    if not all(name in known for name in names):
        return False
    for name in names:
        known.move_to_end(name)
    return True


def _shorten(known: OrderedDict[str, T], most: int) -> None:
    while len(known) > most:
        known.popitem(last=False)


def _traits_note(traits: Traits | str) -> object:
    if isinstance(traits, str):
        return traits
    readings = [r and astuple(r) for r in traits.readings]
    return [
        traits.cost,
        traits.is_reduction,
        traits.has_memory,
        readings,
        traits.needs_check,
        traits.is_convolution,
        traits.bits,
    ]


def _traits(note: Any) -> Traits:
    cost, is_reduction, has_memory, readings, *others = note
    found = tuple(r and Reading(*r) for r in readings)
    return Traits(cost, is_reduction, has_memory, found, (), *others)
