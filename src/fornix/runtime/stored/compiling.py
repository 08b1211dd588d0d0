"""`compile_model`: a model and its program in one file, which sessions load in milliseconds.

Decides in which order such a file is made. The model is written first, as its program refers to
weights by their places in the file; then it is compiled from there, and its description, code and
packed weights follow. The file appears whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import IO, Any

import numpy as np

from fornix.compile.disk import DiskCache
from fornix.compile.identity import compiler, processor
from fornix.compile.program import renew
from fornix.errors import InvalidArgument, NotSupported
from fornix.format.atomic import Replacement, replacement
from fornix.format.compiled import (
    ABOUT,
    ALIGNMENT,
    DATA,
    HEAD_BYTES,
    MODEL,
    PROGRAM,
    SECTIONS,
    Section,
    head,
)
from fornix.format.limits import DEFAULT, Limits
from fornix.format.mapped import MappedFile, Memory
from fornix.ir.dim import Dim
from fornix.ir.files import save
from fornix.reference.source import ModelSource, as_model
from fornix.runtime.adapting import adapted
from fornix.runtime.drawing import generator
from fornix.runtime.making import Shared, make_program
from fornix.runtime.options import SessionOptions
from fornix.runtime.program import Program
from fornix.runtime.providers import CPUExecutionProvider, Run
from fornix.runtime.stored import keeping
from fornix.runtime.stored.artifact import About, Artifact
from fornix.runtime.stored.content import Content, digest_of
from fornix.runtime.threads import Pool, shared_pool
from fornix.system import is_mappable


def compile_model(
    source: ModelSource,
    target: str | os.PathLike[str],
    options: SessionOptions | None = None,
    *,
    extents: Sequence[Mapping[str, int]] = (),
    limits: Limits = DEFAULT,
) -> dict[str, int]:
    """Write a model with its program for this processor to ``target``; bytes by section.

    ``source`` is what a session takes, and ``options`` are those of a session: what they say about
    the model itself becomes part of it. ``extents`` are sets of extents by name, 1 where they say
    nothing, of which the file then says that its program serves them: where rules of operators
    have to be asked, as of Resize, the model would be compiled for the answer. This user's cache
    vouches for the file. Raises InvalidArgument for extents that the program does not serve, and
    NotSupported where programs cannot be kept: on other systems than Linux on x86-64, without a
    cache, and of models with operators that users registered.
    """
    given = options or SessionOptions()
    disk = _usable_cache()
    pool = shared_pool(given.threads)
    model = adapted(as_model(source, limits=limits), given)
    own = replace(
        given, dims_by_name={}, dims_by_denotation={}, initializers={}, files={}, seed=None
    )
    with replacement(target) as new:
        file = _File(new, pool)
        with file.section(MODEL) as stream:
            save(model, stream, "protobuf", limits=limits)
        file.write_head()
        made = _program(new.hidden, own, limits, disk, pool, extents)
        with file.section(ABOUT) as stream:
            stream.write(About.here(own, limits).text())
        with file.section(PROGRAM) as stream:
            stream.write(made.body)
        with file.section(DATA) as stream:
            _write_apart(made.data, stream)
        file.write_head()
    artifact = Artifact.of(target)
    if artifact is not None:
        artifact.vouch()
    return {name: section.size for name, section in file.sections.items()}


def _usable_cache() -> DiskCache:
    """The cache; raises NotSupported where there is none, or no program could be kept in it."""
    if not (is_mappable() and processor() and compiler()):
        raise NotSupported(
            "compile_model: Linux on x86-64 with llvmlite is required for programs in files; "
            "elsewhere sessions compile the model itself"
        )
    disk = DiskCache.default()
    if not disk.is_writable:
        raise NotSupported(
            "compile_model: a cache is required, which vouches for the file; FORNIX_CACHE must "
            "name a directory of this user"
        )
    return disk


def _program(
    path: str,
    options: SessionOptions,
    limits: Limits,
    disk: DiskCache,
    pool: Pool,
    extents: Sequence[Mapping[str, int]],
) -> keeping.Written:
    """The program of the model in the file at ``path``, with weights packed."""
    content = Content.of(path, pool)
    model = as_model(path, limits=limits)
    providers, shared = [CPUExecutionProvider()], Shared(pool, generator(None))
    program = make_program(model, providers, options, shared, {})
    if not keeping.is_code_kept(program, disk):
        renew()
        program = make_program(model, providers, options, shared, {})
    made = None
    if content is not None:
        served = [_served(program, given) for given in extents]
        made = keeping.written(program, model, content, disk, packed=True, served=served)
    if made is None:
        raise NotSupported(
            "compile_model: a program that can be kept is required, this one has operators that "
            "were registered in this process, or code in another form"
        )
    return made


def _served(program: Program, extents: Mapping[str, int]) -> tuple[int, ...]:
    """The key of a run with ``extents``; raises InvalidArgument if it is not served."""
    numbers = {name: extents.get(name, 1) for name in program.symbols}
    run = Run(numbers, tuple(numbers.values()))
    unknown = ", ".join(sorted(extents.keys() - numbers.keys()))
    if unknown or min(run.key, default=1) < 1 or not _holds(program, run):
        told = ", ".join(f"{name} = {extent}" for name, extent in extents.items())
        raise InvalidArgument(
            f"compile_model: extents that the program serves are required, found {told}"
            + (f"; it has no extents called {unknown}" if unknown else "")
        )
    return run.key


def _holds(program: Program, run: Run) -> bool:
    """Whether ``program`` is made for ``run``."""
    shapes = {name: getattr(x.type, "shape", None) or () for name, x in program.inputs.items()}
    feeds = {
        name: SimpleNamespace(shape=[d.bind(run.extents) if isinstance(d, Dim) else d for d in own])
        for name, own in shapes.items()
    }
    return program.holds(run, feeds)


def _write_apart(arrays: Iterable[np.ndarray[Any, Any]], stream: IO[bytes]) -> None:
    """Write ``arrays``, each at a multiple of what `keeping` aligns them to."""
    written = 0
    for array in arrays:
        written += stream.write(bytes(-written % keeping.ALIGNMENT))
        written += stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


class _File:
    """A file of a compiled model on its way."""

    def __init__(self, new: Replacement, pool: Pool) -> None:
        self._new, self._pool = new, pool
        self.sections: dict[str, Section] = {}
        new.stream.write(bytes(HEAD_BYTES))

    @contextmanager
    def section(self, name: str) -> Iterator[IO[bytes]]:
        """Where to write a section, which is the next."""
        stream = self._new.stream
        start = self._aligned()
        yield stream
        stop = stream.tell()
        stream.flush()
        place = MappedFile.open(self._new.hidden)
        digest = digest_of(place, start, stop - start, self._pool)
        self.sections[name] = Section(start, stop - start, digest)

    def write_head(self) -> None:
        """Write the head for what there is; sections that are still to come are empty."""
        end = self._aligned()
        empty = Section(end, 0, digest_of(Memory(b""), 0, 0, self._pool))
        stream = self._new.stream
        stream.seek(0)
        sections = {name: self.sections.get(name, empty) for name in SECTIONS}
        stream.write(head(sections, end))
        stream.seek(end)
        stream.flush()

    def _aligned(self) -> int:
        """Where the next section begins."""
        stream = self._new.stream
        stream.write(bytes(-stream.tell() % ALIGNMENT))
        return stream.tell()
