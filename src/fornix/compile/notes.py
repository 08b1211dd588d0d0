"""Code of units as notes: what JSON can hold, but for the machine code itself.

Decides how kernels, their arguments and their tables are written down so that the next process
finds them as they were. Where notes lie, and when one is trusted, is left to `memo` and `disk`.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.compile.kernel import Check, CompiledKernel, Work
from fornix.dtype import DType
from fornix.errors import FormatError
from fornix.ir.buffer import Buffer
from fornix.ir.dim import Dim, DimLike
from fornix.ir.dim.expression import render, terms_of
from fornix.ir.dim.text import printed

Array = np.ndarray[Any, np.dtype[Any]]

MAX_TABLE_BYTES = 1 << 16
"""Tables up to which notes hold them; units with larger ones are written anew."""


@dataclass(frozen=True)
class Joined:
    """That a result is what its unit reads, one behind the other."""

    parts: tuple[int, ...]
    """Inputs, by position."""
    runs: DimLike
    """How often pieces of them follow one another; where it is 1, each part lies in one piece."""


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
    symbols: tuple[str, ...] = ()
    """What those are called that units like it may call otherwise, in their order."""
    joined: Joined | None = None
    """How its only result consists of its inputs, if its kernels do nothing but copy these."""


def inline(table: Array) -> str:
    """The contents of ``table`` as text."""
    return base64.b64encode(np.ascontiguousarray(table).tobytes()).decode()


def from_inline(text: str, dtype: DType) -> Array:
    """The table that `inline` wrote, flat."""
    return np.frombuffer(base64.b64decode(text), dtype.numpy)


def note_of(code: UnitCode, store: Callable[[Array], object] = inline) -> dict[str, Any] | None:
    """``code`` as JSON knows it; None if it holds large tables that would be written inline.

    ``store`` says what stands for a table.
    """
    tables = list(code.tables.items())
    if store is inline and sum(table.nbytes for _, table in tables) > MAX_TABLE_BYTES:
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
        "tables": [store(table) for _, table in tables],
        "kernels": [_kernel_note(kernel, order) for kernel in code.kernels],
        "symbols": code.symbols,
        "joined": code.joined and [code.joined.parts, dim_text(code.joined.runs)],
    }


def object_name(address: int, owner: object) -> str:
    """The object file from which the code at ``address`` was loaded into ``owner``."""
    addresses: Mapping[str, int] = getattr(owner, "addresses", {})
    return next(name for name, at in addresses.items() if at == address)


def _shape(buffer: Buffer) -> tuple[object, ...]:
    return buffer.dtype.name, dim_text(buffer.elements), *map(dim_text, buffer.shape)


def _kernel_note(kernel: CompiledKernel, order: Mapping[Buffer, int]) -> dict[str, Any]:
    work = kernel.work
    return {
        "name": kernel.name,
        "object": object_name(kernel.address, kernel.owner),
        "arguments": [order[buffer] for buffer in kernel.arguments],
        "outputs": [order[buffer] for buffer in kernel.outputs],
        "symbols": kernel.symbols,
        "parallel": dim_text(kernel.parallel),
        "scratch": dim_text(kernel.scratch),
        "checks": [[check.kind, check.text] for check in kernel.checks],
        "is_constant": kernel.is_constant,
        "is_likely": kernel.is_likely,
        "schedule": kernel.schedule,
        "work": [dim_text(n) for n in (work.operations, work.read, work.written)],
        "steps": dim_text(kernel.steps),
        "shares": kernel.shares,
    }


def code_of(
    note: Mapping[str, Any],
    loaded: Mapping[str, tuple[int, object]],
    fetch: Callable[[Any, DType], Array] = from_inline,
) -> UnitCode:
    """The code that ``note`` describes.

    ``loaded`` has the address of each object, and what keeps it in memory; ``fetch`` finds what a
    table was stored as.
    """
    buffers: list[Buffer] = []
    roles: dict[str, dict[Buffer, int]] = {"in": {}, "out": {}, "table": {}, "temporary": {}}
    for role, index, dtype, elements, *shape in note["buffers"]:
        buffer = Buffer(role, tuple(map(dim_of, shape)), DType.of(dtype), elements=dim_of(elements))
        buffers.append(buffer)
        roles[role][buffer] = index
    tables = {
        buffer: fetch(note["tables"][k], buffer.dtype) for buffer, k in roles["table"].items()
    }
    kernels = tuple(_kernel(kernel, buffers, loaded) for kernel in note["kernels"])
    temporaries, symbols = tuple(roles["temporary"]), tuple(note["symbols"])
    joined = note["joined"] and Joined(tuple(note["joined"][0]), dim_of(note["joined"][1]))
    return UnitCode(kernels, roles["in"], roles["out"], tables, temporaries, symbols, joined)


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
        parallel=dim_of(note["parallel"]),
        scratch=dim_of(note["scratch"]),
        checks=tuple(Check(kind, text) for kind, text in note["checks"]),
        arguments=arguments,
        outputs=tuple(buffers[index] for index in note["outputs"]),
        is_constant=note["is_constant"],
        is_likely=note["is_likely"],
        schedule=note["schedule"],
        work=Work(*map(dim_of, note["work"])),
        steps=dim_of(note["steps"]),
        shares=note["shares"],
        owner=library,
    )


def dim_text(d: DimLike) -> str:
    """``d`` as `dim_of` reads it."""
    return render(d, lambda atom: atom.text)


@functools.lru_cache(maxsize=4096)
def dim_of(text: str) -> DimLike:
    """The dim that ``text``, which `dim_text` wrote, says."""
    return int(text) if text.removeprefix("-").isdecimal() else WrittenDim(text)


class WrittenDim(Dim):
    """A dim as `dim_text` writes it; it is read when somebody asks what is in it.

    Most are never asked: they count work of which only a profile tells.
    """

    __slots__ = ()

    def __init__(self, text: str) -> None:
        self._hash, self._text, self._variables = None, text, None

    def __getattr__(self, name: str) -> object:
        """The terms, which are then there; raises FormatError for another text."""
        if name != "terms":
            raise AttributeError(f"a dim has no attribute {name!r}", name=name, obj=self)
        found = printed(str(self))
        if found is None:
            raise FormatError(f"a note of the cache must hold dims, found {str(self)!r}")
        self.terms = terms_of(found)
        return self.terms
