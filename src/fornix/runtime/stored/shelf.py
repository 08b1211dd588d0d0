"""Programs kept for the next process: sessions without compiling anything.

Decides which programs are kept: those of our own provider, of models in files or in bytes. A
program is found by digests of the model and its external data, the options, the processor and
fornix itself. It serves the extents that were found to fit when it was made from the model; these
are kept beside it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.compile.disk import NOTE, PLAN, DiskCache
from fornix.compile.identity import ALL_ROOMS, compiler, processor, sources
from fornix.format.limits import Limits
from fornix.ir.graph import Model
from fornix.ir.walk import tensors
from fornix.runtime.interface import Interface, NodeArg
from fornix.runtime.options import SessionOptions
from fornix.runtime.program import Program
from fornix.runtime.providers import CPUExecutionProvider, Provider
from fornix.runtime.stored.artifact import Artifact
from fornix.runtime.stored.content import Content
from fornix.runtime.stored.kept import KeptProgram
from fornix.runtime.threads import Pool, shared_pool
from fornix.system import is_mappable

if TYPE_CHECKING:
    from fornix.runtime.stored.workshop import Job

log = logging.getLogger(__name__)

MAX_NOTED = 32
"""Sets of extents that one session keeps."""
MIN_BYTES = 1 << 20
"""Of a model, from which on another process compiles it also where this one has the compiler."""


class Shelf:
    """The place of one model's program."""

    def __init__(
        self,
        disk: DiskCache,
        content: Content,
        name: str,
        pool: Pool,
        job: Job | None = None,
        kept: KeptProgram | None = None,
    ) -> None:
        """``job`` makes what is not here; ``kept`` is the program, if it is known."""
        self.disk, self.content, self.name, self.pool = disk, content, name, pool
        self.job = job
        self.options: SessionOptions | None = None
        """Those that a compiled model was made with."""
        self._kept = kept or KeptProgram.of(disk, name, content, pool)
        self._noted = 0
        self._is_steady = False

    @staticmethod
    def of(
        source: object,
        providers: Sequence[Provider],
        options: SessionOptions,
        limits: Limits,
        *,
        trust: bool = False,
    ) -> Shelf | None:
        """The place for a model in a file or in bytes; None if such a session has none.

        ``trust`` lets the code in the file of a compiled model run, whoever has compiled it.
        """
        is_ours = len(providers) == 1 and type(providers[0]) is CPUExecutionProvider
        if options.identity is None or not is_ours or not (is_mappable() and processor()):
            return None
        disk, pool = DiskCache.default(), shared_pool(options.threads)
        artifact = Artifact.of(source)
        if artifact is not None:
            kept = artifact.program(options, limits, pool, trust=trust)
            if kept is not None:
                own = artifact.about.options(options)
                name = _name(kept.content, own, limits, source)
                shelf = Shelf(disk, kept.content, name, pool, kept=kept)
                shelf.options = own
                return shelf
        content = Content.of(source, pool) if disk.directory and compiler() else None
        if content is None:
            return None
        shelf = Shelf(disk, content, _name(content, options, limits, source), pool)
        if shelf._kept is None and artifact is not None:
            log.warning("%s: it is compiled anew: %s", artifact.name, artifact.objection)
        if shelf._kept is None and _is_for_others(content) and not shelf.is_refused:
            from fornix.runtime.stored.workshop import Job  # noqa: PLC0415 - nothing is made twice

            shelf.job = Job.of(shelf, options, limits)
            shelf.read()
        return shelf

    def at(self, numbers: Mapping[str, int]) -> Shelf:
        """The place of the same model's program in which extents called so are numbers."""
        if not numbers:
            return self
        found = self.within(str(sorted(numbers.items())))
        found.job = self.job
        if self.job and not found.has_been_read and self.job.makes(numbers):
            found.read()
        return found

    def within(self, part: str) -> Shelf:
        """The place of the program of what is called ``part`` of the same model."""
        text = f"{self.name} {part}"
        name = "p" + hashlib.sha256(text.encode()).hexdigest()[:40]
        return Shelf(self.disk, self.content, name, self.pool)

    @property
    def has_been_read(self) -> bool:
        """Whether the program is here, and in memory."""
        return self._kept is not None

    def read(self) -> None:
        """Read the program, which somebody may have put here meanwhile."""
        self._kept = KeptProgram.of(self.disk, self.name, self.content, self.pool)

    def ask(self, numbers: Mapping[str, int], feeds: Mapping[str, Any]) -> bool | None:
        """Whether the program, in which extents have these ``numbers``, is made for ``feeds``.

        None if it was made by a process that is no longer there to be asked.
        """
        shapes = {name: getattr(feed, "shape", ()) for name, feed in feeds.items()}
        return self.job.serves(numbers, shapes) if self.job else None

    def is_for(self, source: object) -> bool:
        """Whether ``source`` still holds the model that this place is for."""
        found = Content.of(source, self.pool)
        if found is None or found.digest != self.content.digest:
            return False
        return found.holds(self.content.digests, self.pool)

    @property
    def interface(self) -> Interface | None:
        """What a session has to know of the model, if its program is here."""
        return None if self._kept is None else self._kept.interface

    @property
    def outputs(self) -> list[NodeArg] | None:
        """What a session shows of the outputs, if the program is here."""
        return None if self._kept is None else self._kept.outputs

    def program(self, pool: Pool, options: SessionOptions) -> Program | None:
        """The program, if it is here and this system maps it."""
        try:
            return None if self._kept is None else self._kept.program(pool, options, self)
        except OSError:  # memory that nobody may run
            return None

    def expect(self, model: Model) -> None:
        """Note what the files of ``model`` hold, before anything is computed of it."""
        self._is_steady = self.content.look_at(_locations(model), self.pool)

    def keep(self, program: Program, model: Model) -> None:
        """Put ``program`` here, if it is of the kind that is kept."""
        from fornix.runtime.stored.keeping import written  # noqa: PLC0415 - kept programs do without

        made = written(program, model, self.content, self.disk) if self._is_steady else None
        if made is not None and self.content.is_what_was_read(self.pool):
            self.disk.write(self.name, made.body, PLAN)
        else:
            self.disk.write(self.name, b"", NOTE)

    @property
    def is_refused(self) -> bool:
        """Whether the program was found to be of a kind that is not kept."""
        return self.disk.read(self.name, NOTE) is not None

    @property
    def has_program(self) -> bool:
        """Whether the program is here by now."""
        return self.disk.read(self.name, PLAN) is not None

    def serves(self, extents: Sequence[int]) -> bool:
        """Whether the program is known to be made for ``extents``."""
        if self._kept is not None and tuple(extents) in self._kept.served:
            return True
        return self.disk.read(self._note_name(extents), NOTE) is not None

    def note(self, extents: Sequence[int]) -> None:
        """Keep that the program is made for ``extents``."""
        if self._noted < MAX_NOTED:
            self._noted += 1
            self.disk.write(self._note_name(extents), b"", NOTE)

    def _note_name(self, extents: Sequence[int]) -> str:
        text = f"{self.name} {self.content.digests} {list(extents)}"
        return "e" + hashlib.sha256(text.encode()).hexdigest()[:40]


def _is_for_others(content: Content) -> bool:
    """Whether another process had better compile the model: this one may never load LLVM."""
    return content.region.size >= MIN_BYTES or "llvmlite" not in sys.modules


def _name(content: Content, options: SessionOptions, limits: Limits, source: object) -> str:
    """What a program is called that is made of ``content`` with these options, here."""
    settings = (options.identity, limits, _notation(source))
    sha = hashlib.sha256(content.digest + sources(ALL_ROOMS))
    sha.update(f"{processor()}\0{compiler()}\0{np.__version__}\0{settings!r}".encode())
    return "p" + sha.hexdigest()[:40]


def _notation(source: object) -> str:
    """The extension of a file that is not read like bytes in memory."""
    found = Path(source).suffix if isinstance(source, str | os.PathLike) else ""
    return "" if found == ".onnx" else found


def _locations(model: Model) -> list[str]:
    """The files with external data that ``model`` names."""
    from fornix.format.external import is_external, reference  # noqa: PLC0415 - with protobuf

    messages = (getattr(tensor, "message", None) for tensor in tensors(model))
    found = [reference(m).location for m in messages if m is not None and is_external(m)]
    return list(dict.fromkeys(found))


__all__ = ["Shelf"]
