"""Type sets: what a type variable may stand for, and the algebra to write their history.

A set holds the standard's constraint spellings (``tensor(float)``, ``seq(tensor(int64))``). Sets
combine with ``|`` and ``-``; ``+S`` and ``-S`` are *changes*, which the next schema version applies
to the set it inherits: ``.since(13, T=+BF16)`` widens ``T`` by bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from fornix.dtype import DType
from fornix.ir.types import MapType, OptionalType, SequenceType, TensorType, Type


@dataclass(frozen=True, slots=True)
class TypeSet:
    """A set of constraint spellings."""

    members: frozenset[str]

    def __or__(self, other: TypeSet) -> TypeSet:
        return TypeSet(self.members | other.members)

    def __sub__(self, other: TypeSet) -> TypeSet:
        return TypeSet(self.members - other.members)

    def __pos__(self) -> Change:
        return Change(added=self.members)

    def __neg__(self) -> Change:
        return Change(removed=self.members)

    def __contains__(self, spelling: object) -> bool:
        return spelling in self.members

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.members))

    def __len__(self) -> int:
        return len(self.members)


@dataclass(frozen=True, slots=True)
class Change:
    """What one schema version adds to, or takes from, a set that it inherits."""

    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()

    def apply(self, inherited: TypeSet) -> TypeSet:
        """The inherited set after this change."""
        return TypeSet((inherited.members | self.added) - self.removed)

    def __sub__(self, other: TypeSet) -> Change:
        return Change(self.added, self.removed | other.members)


def types(*spellings: str) -> TypeSet:
    """The set of exactly these constraint spellings."""
    return TypeSet(frozenset(spellings))


def tensors(*dtypes: str) -> TypeSet:
    """The set of ``tensor(dtype)`` for dtypes in ONNX text spelling."""
    return _wrapped("tensor", dtypes)


def SEQ(elements: TypeSet) -> TypeSet:  # noqa: N802 - reads as one of the sets, which are capital
    """Sequences of the members of ``elements``."""
    return _wrapped("seq", elements)


def OPT(elements: TypeSet) -> TypeSet:  # noqa: N802 - reads as one of the sets, which are capital
    """Optionals of the members of ``elements``."""
    return _wrapped("optional", elements)


def _wrapped(constructor: str, spellings: Iterable[str]) -> TypeSet:
    return TypeSet(frozenset(f"{constructor}({spelling})" for spelling in spellings))


@cache
def type_of(spelling: str) -> Type:
    """The type, without shape, that a constraint spelling names."""
    constructor, _, rest = spelling.partition("(")
    inner = rest[:-1]
    if constructor == "tensor":
        return TensorType(DType.of(inner))
    if constructor == "map":
        key, value = inner.split(", ")
        return MapType(DType.of(key), TensorType(DType.of(value)))
    return (SequenceType if constructor == "seq" else OptionalType)(type_of(inner))


def spelling(text: str) -> str:
    """The type that ``text`` names, as constraints spell it; a bare dtype stands for tensors of it.

    Raises DTypeError if it is none. What is in an opaque type is its owner's matter.
    """
    constructor, _, rest = text.strip().partition("(")
    inner, is_closed = rest.removesuffix(")"), rest.endswith(")")
    if constructor in {"seq", "optional"} and is_closed:
        return f"{constructor}({spelling(inner)})"
    if constructor == "map" and is_closed:
        key, _, value = (x.strip() for x in inner.partition(","))
        value = spelling(value).removeprefix("tensor(").removesuffix(")")
        return f"map({DType.of(key).text}, {value})"
    if constructor in {"tensor", "sparse_tensor"} and is_closed:
        return f"{constructor}({DType.of(inner).text})"
    if constructor == "opaque" and is_closed:
        return text.strip()
    return f"tensor({DType.of(text.strip()).text})"


F16 = tensors("float16")
F32 = tensors("float")
F64 = tensors("double")
BF16 = tensors("bfloat16")
FLOAT = F16 | F32 | F64
I8, I16, I32, I64 = tensors("int8"), tensors("int16"), tensors("int32"), tensors("int64")
U8, U16, U32, U64 = tensors("uint8"), tensors("uint16"), tensors("uint32"), tensors("uint64")
SINT = I8 | I16 | I32 | I64
UINT = U8 | U16 | U32 | U64
INT = SINT | UINT
NUMERIC = FLOAT | INT
BOOL = tensors("bool")
STRING = tensors("string")
COMPLEX = tensors("complex64", "complex128")
TENSOR = NUMERIC | BOOL | STRING | COMPLEX
E4M3, E4M3UZ = tensors("float8e4m3fn"), tensors("float8e4m3fnuz")
E5M2, E5M2UZ = tensors("float8e5m2"), tensors("float8e5m2fnuz")
F8 = E4M3 | E4M3UZ | E5M2 | E5M2UZ
E8M0 = tensors("float8e8m0")
F6 = tensors("float6e2m3", "float6e3m2")
F4 = tensors("float4e2m1")
I4 = tensors("int4", "uint4")
I2 = tensors("int2", "uint2")
