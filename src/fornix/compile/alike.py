"""What nodes and units share that are the same but for what their symbols are called.

A model that does the same for each of its classes has symbols for each of them. Decides what counts
as the same, and what becomes of code that was made with the symbols of another: names of numbers
that a run brings, nothing that machine code knows of.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fornix.compile.kernel import CompiledKernel, Work
from fornix.compile.notes import Joined, UnitCode
from fornix.ir.buffer import Buffer
from fornix.ir.dim import Dim, DimLike, symbol
from fornix.ir.dim.expression import IDENTIFIER, Atom, Symbol, atom_key, atoms, render
from fornix.ir.graph import Node, Value
from fornix.ir.tensor import Tensor

_NAME = re.compile(rf"(?>'(?:[^']|'')*'|{IDENTIFIER.pattern})(?!\()")
"""A name in the text of a dim; what a bracket follows is called `min` or `max`."""


MANY = 16
"""Numbers from which on code reads them from memory instead of being made for each."""


UNREAD = frozenset({
    *("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Equal", "Less", "Greater", "Where"),
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "GRU", "LSTM", "RNN", "PRelu", "Concat"),
    *("BatchNormalization", "GroupNormalization", "InstanceNormalization"),
    *("LayerNormalization", "RMSNormalization"),
})  # fmt: skip
"""Operators whose rules ask for types alone, and whether an input is one number.

What is stored for them does not tell nodes apart: layers of a network have weights of their own.
Only floats are meant: integers are lengths of sequences, which rules compare with extents.
"""


BYTE = 8
"""Bits of what zero points are made of."""


QUANTIZED = frozenset({
    *("QuantizeLinear", "DequantizeLinear", "MatMulInteger", "ConvInteger"),
    *("QLinearMatMul", "QLinearConv"),
})  # fmt: skip
"""Operators of which each layer has scales and zero points of its own."""


class Alike(NamedTuple):
    """What something is, and the symbols that are its own."""

    digest: str
    """Of all but the names of symbols."""
    symbols: tuple[str, ...]
    """In the order in which they occur."""


class Names:
    """Numbers for symbols, in the order in which they occur."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def symbols(self) -> tuple[str, ...]:
        """Those that occurred."""
        return tuple(self._numbers)

    def number(self, name: str) -> int:
        """The number of the symbol ``name``."""
        return self._numbers.setdefault(name, len(self._numbers))

    def shown(self, d: Dim) -> tuple[str, tuple[int, ...]]:
        """``d`` with gaps for names, and the numbers of those that stand there."""
        text, names = _apart(d)
        return text, tuple(map(self.number, names))


@functools.lru_cache(maxsize=8192)
def _apart(d: Dim) -> tuple[str, tuple[str, ...]]:
    """The text of ``d`` with gaps for names of symbols, and these names."""
    known = {atom.text: atom.name for atom in atoms(d) if isinstance(atom, Symbol)}
    found: list[str] = []

    def gap(match: re.Match[str]) -> str:
        name = known.get(match[0])
        if name is None:
            return match[0]
        found.append(name)
        return "\0"

    return _NAME.sub(gap, render(d, atom_key)), tuple(found)


def is_told(tensor: Tensor) -> bool:
    """Whether the elements of few tell nodes of `UNREAD` apart: floats do where there is one."""
    return not tensor.dtype.is_float or math.prod(tensor.shape) == 1


def stored(tensor: Tensor) -> object:
    """What of many elements decides how they are read: zero points may be left out that are 0."""
    return ("stored", bool(tensor.numpy().any())) if tensor.dtype.bits == BYTE else "stored"


def various(nodes: Sequence[Node]) -> frozenset[Value]:
    """Stored numbers that nothing tells apart but what they are."""
    return _positions(nodes) | _steps(nodes)


def _steps(nodes: Sequence[Node]) -> frozenset[Value]:
    """Scales and zero points, one number each; but code for 1 and 0 leaves them out."""
    users: Counter[Value] = Counter()
    found: dict[object, dict[Value, None]] = {}
    layers = [n for n in nodes if n.op_type in QUANTIZED and not n.domain]
    for node, place, own in ((n, *given) for n in layers for given in enumerate(n.inputs)):
        tensor = None if own is None else own.constant
        if own is None or tensor is None or math.prod(tensor.shape) != 1:
            continue
        users[own] += 1
        if tensor.numpy().reshape(-1)[0] != tensor.dtype.is_float:
            found.setdefault((node.op_type, place, tensor.dtype), {})[own] = None
    return _many(found, users)


def _positions(nodes: Sequence[Node]) -> frozenset[Value]:
    """Positions that are gathered: of each class in its scores."""
    found: dict[object, dict[Value, None]] = {}
    users: Counter[Value] = Counter()
    for node in (n for n in nodes if n.op_type == "Gather" and not n.domain):
        data, own = node.inputs[:2]
        tensor = None if own is None else own.constant
        if own is not None and tensor is not None and math.prod(tensor.shape) == 1:
            users[own] += 1
            found.setdefault((data, tensor.shape, tensor.dtype), {})[own] = None
    return _many(found, users)


def _many(found: Mapping[object, Mapping[Value, None]], users: Counter[Value]) -> frozenset[Value]:
    """Those of large groups that have only these ``users``."""
    many = (own for group in found.values() if len(group) >= MANY for own in group)
    return frozenset(v for v in many if len(v.users) == users[v] and not v.is_output)


def renamed(code: UnitCode, symbols: Sequence[str]) -> UnitCode:
    """``code`` for other ``symbols`` in the places of its own."""
    if code.symbols == tuple(symbols):
        return code
    rename = _Renaming(dict(zip(code.symbols, symbols, strict=True)))
    return UnitCode(
        tuple(map(rename.kernel, code.kernels)),
        {rename.buffer(b): number for b, number in code.inputs.items()},
        {rename.buffer(b): number for b, number in code.outputs.items()},
        {rename.buffer(b): table for b, table in code.tables.items()},
        tuple(map(rename.buffer, code.temporaries)),
        tuple(symbols),
        code.joined and Joined(code.joined.parts, rename.dim(code.joined.runs)),
    )


class _Renaming:
    """Other names for symbols, all at once."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        self._buffers: dict[Buffer, Buffer] = {}
        self._dims: dict[Dim, DimLike] = {}

    def dim(self, d: DimLike) -> DimLike:
        """``d`` with other names."""
        if not isinstance(d, Dim):
            return d
        if d not in self._dims:
            values: dict[Atom, DimLike] = {
                atom: symbol(self._name(atom.name), atom.least, self._most(atom))
                for atom in atoms(d)
                if isinstance(atom, Symbol)
            }
            self._dims[d] = d.substitute(values)
        return self._dims[d]

    def _name(self, name: str) -> str:
        return self.names.get(name, name)

    def _most(self, atom: Symbol) -> DimLike | None:
        return None if atom.most is None else self.dim(atom.most)

    def buffer(self, buffer: Buffer) -> Buffer:
        """What stands for ``buffer``."""
        if buffer not in self._buffers:
            shape = tuple(map(self.dim, buffer.shape))
            elements = self.dim(buffer.elements)
            other = Buffer(buffer.name, shape, buffer.dtype, elements=elements)
            self._buffers[buffer] = other
        return self._buffers[buffer]

    def kernel(self, kernel: CompiledKernel) -> CompiledKernel:
        """``kernel``, called with other symbols."""
        work = kernel.work
        return dataclasses.replace(
            kernel,
            symbols=tuple(map(self._name, kernel.symbols)),
            parallel=self.dim(kernel.parallel),
            scratch=self.dim(kernel.scratch),
            arguments=tuple(map(self.buffer, kernel.arguments)),
            outputs=tuple(map(self.buffer, kernel.outputs)),
            work=Work(*map(self.dim, (work.operations, work.read, work.written))),
            steps=self.dim(kernel.steps),
        )


__all__ = ["UNREAD", "Alike", "Names", "is_told", "renamed", "stored", "various"]
