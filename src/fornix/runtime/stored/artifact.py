"""Compiled models as files: which program is in one, and whether it may run here.

Decides what is believed of such a file. Its program is machine code: it runs only if this user's
own cache vouches for the file, as it does for those that `compiling` has written, or if the user
says so. It must have been made for this processor, by this fornix, with the options that the
session wants. Whatever is used of a file is compared with the digests in its head first; of large
data only once, as long as nobody writes to the file. Where the program does not suit, the model in
the file is what any other model is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fornix import __version__
from fornix.compile.disk import NOTE, DiskCache
from fornix.compile.identity import ALL_ROOMS, package, processor, sources
from fornix.errors import FormatError
from fornix.format.compiled import ABOUT, DATA, MODEL, PROGRAM, Container
from fornix.format.limits import Limits
from fornix.format.mapped import MappedFile, Memory
from fornix.runtime.memory import aligned_bytes
from fornix.runtime.options import SessionOptions
from fornix.runtime.stored.content import Content, Place, digest_of, is_at_rest, place_of
from fornix.runtime.stored.kept import KeptProgram
from fornix.runtime.threads import Pool


@dataclass(frozen=True)
class About:
    """What a program in a file was made for."""

    fornix: str
    """The version."""
    sources: str
    """A digest of what the package consists of, wherever it is installed."""
    processor: str
    level: str | int | None
    """The options that decide about programs."""
    entries: Mapping[str, str]
    limits: str

    @staticmethod
    def here(options: SessionOptions, limits: Limits) -> About:
        """What a program is made for that is made here."""
        level = options.graph_optimization_level
        number = int(level) if isinstance(level, int) else level
        own = (__version__, package(ALL_ROOMS), processor())
        return About(*own, number, options.deciding, repr(limits))

    @staticmethod
    def of(text: bytes, name: str) -> About:
        """What ``text`` says; raises FormatError if it does not say that."""
        try:
            found = About(**json.loads(text))
        except (TypeError, ValueError, RecursionError) as error:
            raise FormatError(
                f"{name}: compiled model: section 'about' must say what its program is made for: "
                f"{error}"
            ) from error
        entries = found.entries
        texts = (found.fornix, found.sources, found.processor, found.limits)
        is_sound = isinstance(entries, dict) and isinstance(found.level, str | int | None)
        if not is_sound or not all(isinstance(x, str) for x in (*texts, *entries.values())):
            raise FormatError(
                f"{name}: compiled model: section 'about' must hold texts, found others"
            )
        return found

    def text(self) -> bytes:
        """What `of` reads."""
        return json.dumps(asdict(self)).encode()

    def options(self, given: SessionOptions) -> SessionOptions:
        """``given``, with what was decided when the program was made."""
        entries = {**given.config_entries, **self.entries}
        return replace(given, graph_optimization_level=self.level, config_entries=entries)

    def objection(self, given: SessionOptions, limits: Limits) -> str:
        """Why the program is not for a session with these options; empty if it is."""
        if self.processor != processor():
            return "it was compiled for another processor"
        if (self.fornix, self.sources) != (__version__, package(ALL_ROOMS)):
            return f"it was compiled by another fornix, {self.fornix}"
        own = self.options(SessionOptions()).identity
        if given.identity not in {own, *_DEFAULT_IDENTITIES}:
            return "it was compiled with other options"
        if self.limits != repr(limits):
            return "it was compiled with other limits"
        return ""


_DEFAULT_IDENTITIES = frozenset(
    SessionOptions(graph_optimization_level=level).identity for level in (None, 99)
)
"""Of options that decide nothing: who has no wishes takes a program as it was made."""


class Artifact:
    """A file, or bytes, of a compiled model."""

    def __init__(self, container: Container, place: Place) -> None:
        self.container, self.place = container, place
        self.name = place.name
        self.objection = ""
        """Why its program did not suit, once somebody has asked."""
        section = container.sections[ABOUT]
        text = place.read(section.start, section.stop)
        self._require(ABOUT, digest_of(Memory(text), 0, len(text), Pool(1)))
        self.about = About.of(text, self.name)

    @staticmethod
    def of(source: object) -> Artifact | None:
        """The compiled model that ``source`` is; None if it is none, or cannot be read.

        Raises FormatError for one that is damaged.
        """
        try:
            place = place_of(source)
        except (OSError, ValueError):  # who loads the model says it
            return None
        container = None if place is None else Container.of(place)
        return None if container is None or place is None else Artifact(container, place)

    def program(
        self, options: SessionOptions, limits: Limits, pool: Pool, *, trust: bool
    ) -> KeptProgram | None:
        """The program, if it may run and is for such a session; raises FormatError for damage."""
        disk = DiskCache.default()
        objection = self.about.objection(options, limits)
        if not objection and not (trust or self.is_vouched_for):
            objection = "this user's cache does not vouch for its code; trust=True runs it"
        self.objection = objection
        if not trust or objection:
            self._verify(disk, pool)
        if objection:
            return None
        name = f"a{self.container.seal.hex()}"
        digest = self.container.sections[MODEL].digest
        is_steady = isinstance(self.place, MappedFile) and is_at_rest(self.place) and not trust
        content = Content(self.place, digest, is_at_rest=is_steady)
        return KeptProgram.opened(name, content, pool) or self._program(name, content, pool)

    def _program(self, name: str, content: Content, pool: Pool) -> KeptProgram:
        """The program, whose code is copied before it is compared with its digest."""
        section = self.container.sections[PROGRAM]
        body = aligned_bytes(section.size).data
        self.place.read_into(body, section.start)
        self._require(PROGRAM, digest_of(Memory(body), 0, section.size, pool))
        found = self.container.sections[DATA]
        data = self.place.view(found.start, found.stop)
        try:
            return KeptProgram.open(name, body, content, data)
        except (LookupError, TypeError, ValueError) as error:
            raise FormatError(
                f"{self.name}: compiled model: section 'program' must describe a program: {error!r}"
            ) from error

    def vouch(self) -> None:
        """Let this user's cache say that the file, just written, and the code in it are its own."""
        for name in (self._vouching, self._seen):
            DiskCache.default().write(name, b"", NOTE)

    @property
    def is_vouched_for(self) -> bool:
        """Whether this user's cache says that the code in the file is its own."""
        return DiskCache.default().read(self._vouching, NOTE) is not None

    @property
    def _vouching(self) -> str:
        """The name of a note that vouches for the whole file, as this installation reads it."""
        return "v" + hashlib.sha256(self.container.seal + sources(ALL_ROOMS)).hexdigest()[:40]

    @property
    def _seen(self) -> str:
        """The name of a note that the very file was compared with its digests."""
        text = f"{self.container.seal.hex()} {getattr(self.place, 'identity', None)}"
        return "f" + hashlib.sha256(text.encode()).hexdigest()[:40]

    def _verify(self, disk: DiskCache, pool: Pool) -> None:
        """Compare model and data with their digests, unless that was done with this very file."""
        is_steady = isinstance(self.place, MappedFile) and is_at_rest(self.place)
        if is_steady and disk.read(self._seen, NOTE) is not None:
            return
        for name in (MODEL, DATA):
            section = self.container.sections[name]
            self._require(name, digest_of(self.place, section.start, section.size, pool))
        if is_steady:
            disk.write(self._seen, b"", NOTE)

    def _require(self, section: str, digest: bytes) -> None:
        """Raise FormatError unless ``digest`` is that which the head names."""
        if self.container.sections[section].digest != digest:
            raise FormatError(
                f"{self.name}: compiled model: section {section!r} must have the digest that its "
                "head names; it is damaged"
            )


def describe(source: object) -> dict[str, Any] | None:
    """What the file of a compiled model says of itself; None for others."""
    artifact = Artifact.of(source)
    if artifact is None:
        return None
    about = artifact.about
    return {
        "fornix": about.fornix,
        "level": about.level,
        "entries": dict(about.entries),
        "is_for_this_processor": about.processor == processor(),
        "is_by_this_fornix": (about.fornix, about.sources) == (__version__, package(ALL_ROOMS)),
        "is_vouched_for": artifact.is_vouched_for,
        "bytes": {name: section.size for name, section in artifact.container.sections.items()},
    }
