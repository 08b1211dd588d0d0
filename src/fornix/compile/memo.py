"""What was found out before about nodes and units: by this process, or by one before it.

A unit is known by a digest of everything that its code depends on: its nodes, their types and known
contents, how they are joined, the processor, and the sources of fornix itself. A note says which
kernels it has and what each of their arguments is; with it, code is loaded without being written.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fornix.compile.cache import ObjectCache
from fornix.compile.kernel import Check, CompiledKernel
from fornix.compile.target import Target
from fornix.compile.traits import Reading, Traits
from fornix.compile.work import Work
from fornix.dtype import DType
from fornix.errors import FormatError
from fornix.ir.dim import Dim, DimLike, parse
from fornix.ir.dim.expression import atom_key, render
from fornix.ir.loops import Buffer
from fornix.ir.types import TensorType

Array = np.ndarray[Any, np.dtype[Any]]

SOURCES = ("ir", "ops", "infer", "compile")
"""Rooms whose sources decide what the code of a unit is."""
MAX_TABLE_BYTES = 1 << 16
"""Tables up to which notes hold them; units with larger ones are written anew."""


@dataclass(frozen=True)
class UnitCode:
    """The kernels of a unit and of all units like it: what each buffer is, by position."""

    kernels: tuple[CompiledKernel, ...]
    inputs: Mapping[Buffer, int]
    outputs: Mapping[Buffer, int]
    tables: Mapping[Buffer, Array]
    """Buffers of the code's own, with their contents."""
    temporaries: tuple[Buffer, ...]
    """Buffers that its kernels fill for each other."""


def digest(key: object) -> str:
    """A name for ``key``, which is made of tuples, texts, numbers, bytes, types and dims."""
    sha = hashlib.sha256(_fingerprint())
    _feed(sha, key)
    return "u" + sha.hexdigest()[:40]


def _feed(sha: Any, key: object) -> None:
    if isinstance(key, tuple | list):
        sha.update(b"(%d:" % len(key))
        for part in key:
            _feed(sha, part)
    elif isinstance(key, bytes):
        sha.update(b"b%d:" % len(key))
        sha.update(key)
    elif isinstance(key, Dim):
        sha.update(f"d{render(key, atom_key)};".encode())
    elif isinstance(key, TensorType):
        _feed(sha, ("t", None if key.dtype is None else key.dtype.name, key.shape))
    else:
        sha.update(f"{type(key).__name__}{key!r};".encode())


@functools.cache
def _fingerprint() -> bytes:
    """What changes when fornix or the processor does."""
    sha = hashlib.sha256(Target.host().text.encode())
    room = Path(__file__).resolve().parent.parent
    for name in SOURCES:
        for path in sorted((room / name).rglob("*.py")):
            found = path.stat()
            sha.update(f"{path}:{found.st_mtime_ns}:{found.st_size};".encode())
    return sha.digest()


class Memo:
    """Codes of units: those of this process by name, those on disk by the graph they belong to."""

    def __init__(self, cache: ObjectCache) -> None:
        self.cache = cache
        self.codes: dict[str, UnitCode] = {}
        self.traits: dict[str, Traits | str] = {}

    def recall_traits(self, names: Sequence[str]) -> None:
        """Make the traits of the nodes called ``names`` known, if they were found out before."""
        if all(name in self.traits for name in names):
            return
        note = self._read(digest(("traits", *names)))
        for name, found in (note or {}).items():
            self.traits[name] = found if isinstance(found, str) else _traits(found)

    def keep_traits(self, names: Sequence[str]) -> None:
        """Keep what is known of the nodes called ``names`` for the next process."""
        found = {name: self.traits[name] for name in names}
        if not any(isinstance(traits, Traits) and traits.bounds for traits in found.values()):
            self._write(digest(("traits", *names)), {n: _traits_note(t) for n, t in found.items()})

    def recall(self, names: Sequence[str]) -> None:
        """Make the codes of the units called ``names`` known, if they were made before."""
        if all(name in self.codes for name in names):
            return
        notes = self._read(digest(("units", *names))) or {}
        objects = {kernel["object"] for note in notes.values() for kernel in note["kernels"]}
        loaded = self.cache.find(sorted(objects))
        if loaded is not None:
            self.codes |= {name: _from_note(note, loaded) for name, note in notes.items()}

    def keep(self, names: Sequence[str]) -> None:
        """Keep the codes of the units called ``names`` for the next process."""
        notes = {name: _note(self.codes[name]) for name in names}
        self._write(
            digest(("units", *names)), {n: note for n, note in notes.items() if note is not None}
        )

    def _read(self, name: str) -> Any:
        note = self.cache.note(name)
        return None if note is None else json.loads(note)

    def _write(self, name: str, note: Mapping[str, object]) -> None:
        self.cache.keep(name, json.dumps(note).encode())


def _traits_note(traits: Traits | str) -> object:
    if isinstance(traits, str):
        return traits
    readings = [r and [r.count, r.is_in_place, r.channels] for r in traits.readings]
    return [
        traits.cost,
        traits.is_reduction,
        traits.has_memory,
        readings,
        traits.needs_check,
        traits.is_convolution,
    ]


def _traits(note: Any) -> Traits:
    cost, is_reduction, has_memory, readings, needs_check, is_convolution = note
    found = tuple(r and Reading(r[0], is_in_place=r[1], channels=r[2]) for r in readings)
    return Traits(cost, is_reduction, has_memory, found, (), needs_check, is_convolution)


def _note(code: UnitCode) -> dict[str, Any] | None:
    tables = list(code.tables.items())
    if sum(table.nbytes for _, table in tables) > MAX_TABLE_BYTES:
        return None
    roles: dict[Buffer, list[object]] = {
        **{b: ["in", index, *_shape(b)] for b, index in code.inputs.items()},
        **{b: ["out", index, *_shape(b)] for b, index in code.outputs.items()},
        **{b: ["table", k, *_shape(b)] for k, (b, _) in enumerate(tables)},
        **{b: ["temporary", k, *_shape(b)] for k, b in enumerate(code.temporaries)},
    }
    order = {buffer: number for number, buffer in enumerate(roles)}
    return {
        "buffers": list(roles.values()),
        "tables": [base64.b64encode(np.ascontiguousarray(t).tobytes()).decode() for _, t in tables],
        "kernels": [_kernel_note(kernel, order) for kernel in code.kernels],
    }


def _shape(buffer: Buffer) -> tuple[object, ...]:
    return buffer.dtype.name, _text(buffer.elements), *map(_text, buffer.shape)


def _kernel_note(kernel: CompiledKernel, order: Mapping[Buffer, int]) -> dict[str, Any]:
    addresses, work = getattr(kernel.owner, "addresses", {}), kernel.work
    return {
        "name": kernel.name,
        "object": next(name for name, at in addresses.items() if at == kernel.address),
        "arguments": [order[buffer] for buffer in kernel.arguments],
        "outputs": [order[buffer] for buffer in kernel.outputs],
        "symbols": kernel.symbols,
        "parallel": _text(kernel.parallel),
        "scratch": _text(kernel.scratch),
        "checks": [[check.kind, check.text] for check in kernel.checks],
        "is_constant": kernel.is_constant,
        "schedule": kernel.schedule,
        "work": [_text(n) for n in (work.operations, work.read, work.written)],
    }


def _from_note(note: Mapping[str, Any], loaded: Mapping[str, tuple[int, object]]) -> UnitCode:
    buffers: list[Buffer] = []
    roles: dict[str, dict[Buffer, int]] = {"in": {}, "out": {}, "table": {}, "temporary": {}}
    for role, index, dtype, elements, *shape in note["buffers"]:
        buffer = Buffer(role, tuple(map(_dim, shape)), DType.of(dtype), elements=_dim(elements))
        buffers.append(buffer)
        roles[role][buffer] = index
    tables = {
        buffer: np.frombuffer(base64.b64decode(note["tables"][k]), buffer.dtype.numpy)
        for buffer, k in roles["table"].items()
    }
    kernels = tuple(_kernel(kernel, buffers, loaded) for kernel in note["kernels"])
    return UnitCode(kernels, roles["in"], roles["out"], tables, tuple(roles["temporary"]))


def _kernel(
    note: Mapping[str, Any],
    buffers: Sequence[Buffer],
    loaded: Mapping[str, tuple[int, object]],
) -> CompiledKernel:
    address, library = loaded[note["object"]]
    arguments = tuple(buffers[index] for index in note["arguments"])
    return CompiledKernel(
        name=note["name"],
        address=address,
        buffers=tuple(buffer.name for buffer in arguments),
        symbols=tuple(note["symbols"]),
        parallel=_dim(note["parallel"]),
        scratch=_dim(note["scratch"]),
        checks=tuple(Check(kind, text) for kind, text in note["checks"]),
        arguments=arguments,
        outputs=tuple(buffers[index] for index in note["outputs"]),
        is_constant=note["is_constant"],
        schedule=note["schedule"],
        work=Work(*map(_dim, note["work"])),
        owner=library,
    )


def _text(d: DimLike) -> str:
    return render(d, lambda atom: atom.text)


def _dim(text: str) -> DimLike:
    found = parse(text)
    if found is None:
        raise FormatError(f"a note of the cache must hold dims, found {text!r}")
    return found
