"""LabelEncoder: every element replaced by the value that a table gives for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.dtype import FLOAT32, INT64, STRING, DType
from fornix.errors import DTypeError, require
from fornix.ir.dim import DimLike
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    const,
    constant,
    gathered,
    select,
)
from fornix.ir.types import TensorType
from fornix.ops import scalar as s
from fornix.ops.call import LowerNode, RunNode
from fornix.ops.fact import Array, Fact
from fornix.ops.ml.hashed import Hashed
from fornix.ops.ml.lookup import Lookup
from fornix.ops.op import op
from fornix.ops.types import F32, F64, I16, I32, I64
from fornix.ops.types import STRING as TEXT

LabelEncoder = (
    op("""LabelEncoder <classes_strings: strings?, default_int64: int = -1,
                        default_string: string = "_Unused">
                       (X: T1) => (Y: T2)""",
       since=1, domain="ai.onnx.ml", T1=TEXT | I64, T2=TEXT | I64)
    .since(2, """LabelEncoder <default_float: float = -0.0, default_int64: int = -1,
                               default_string: string = "_Unused", keys_floats: floats?,
                               keys_int64s: ints?, keys_strings: strings?, values_floats: floats?,
                               values_int64s: ints?, values_strings: strings?>
                              (X: T1) => (Y: T2)""", T1=+F32, T2=+F32)
    .since(4, """LabelEncoder <default_float: float = -0.0, default_int64: int = -1,
                               default_string: string = "_Unused", default_tensor: tensor?,
                               keys_floats: floats?, keys_int64s: ints?, keys_strings: strings?,
                               keys_tensor: tensor?, values_floats: floats?, values_int64s: ints?,
                               values_strings: strings?, values_tensor: tensor?>
                              (X: T1) => (Y: T2)""", T1=+(F64 | I16 | I32), T2=+(F64 | I16 | I32))
).opaque("one side is text")  # fmt: skip

KINDS: dict[str, DType] = {"floats": FLOAT32, "int64s": INT64, "strings": STRING}
"""The suffixes of list attributes, with the element types that they hold."""


@LabelEncoder.infer
def infer_label_encoder_1(X: Fact, **_: object) -> Fact:
    dtype = None if X.dtype is None else (INT64 if X.dtype is STRING else STRING)
    return Fact(TensorType(dtype, X.shape if X.has_rank else None))


@LabelEncoder.infer(since=2)
def infer_label_encoder(X: Fact, **attributes: Any) -> Fact:
    keys, values, _ = _columns(attributes)
    if X.dtype is not None:
        _check_keys(X.dtype, DType.of(keys.dtype))
    return Fact(TensorType(DType.of(values.dtype), X.shape if X.has_rank else None))


@LabelEncoder.kernel
def label_encoder_1(
    X: Array,
    *,
    classes_strings: list[str] | None = None,
    default_int64: int,
    default_string: str,
    node: RunNode,
) -> Array:
    """Names to their index in classes_strings, or indices to names.

    X[*S] → Y[*S]; an unknown name gives default_int64, an index outside default_string.
    Source: ONNX ai.onnx.ml LabelEncoder-1.
    """

    def lookup() -> Lookup:
        names = np.array(classes_strings or [], object)
        index = np.arange(len(names))
        if X.dtype == object:
            return Lookup.of(names, index, default_int64)
        return Lookup.of(index, names, default_string)

    return node.once(lookup)(X)


@LabelEncoder.kernel(since=2)
def label_encoder(X: Array, *, node: RunNode, **attributes: Any) -> Array:
    """Every element replaced by the value that stands beside it in the table of keys and values.

    X[*S] → Y[*S]; what the keys lack becomes the default of the values' type. The last of equal
    keys counts, and a key NaN stands for every NaN. Source: ONNX ai.onnx.ml LabelEncoder-4.
    """
    table = node.once(lambda: Table.of(attributes))
    _check_keys(DType.of(X.dtype), table.dtype)
    return table.lookup(X)


@LabelEncoder.lower(since=2)
def lower_label_encoder(X: Tensor, *, node: LowerNode, **attributes: Any) -> Tensor:
    table = Table.of(attributes)
    _check_keys(X.dtype, table.dtype)
    lookup, count = table.lookup, table.lookup.ranked.size
    # Of equal keys the last counts, and so it does of those that are no numbers: they come last.
    keys, dtype = lookup.ranked, DType.of(lookup.values.dtype)
    default = const(lookup.values[-1].item(), dtype)
    counts = np.append(keys[1:] != keys[:-1], [True] * bool(count)) & ~np.isnan(keys)
    has_nan = bool(np.isnan(keys[-1:]).any())
    missing = const(lookup.values[lookup.order[-1]].item(), dtype) if has_nan else default
    find = _finding(keys[counts], lookup.values[lookup.order[counts]], default)
    if find is None:
        node.decline(f"{count} keys are looked up by search")

    def at(*i: DimLike) -> Scalar:
        return select(s.isnan(X[i]), missing, find(X[i])) if has_nan else find(X[i])

    return compute(X.shape, at)


def _finding(keys: Array, values: Array, default: Scalar) -> Callable[[Scalar], Scalar] | None:
    """What finds the value of an element, for ascending keys that differ; None for the kernel."""
    count = keys.size
    if count > 1 and keys.dtype.kind == "i" and int(keys[-1]) - int(keys[0]) == count - 1:
        return _counted(int(keys[0]), values, default)
    if count <= COMPARED:
        return _compared(keys, values, default)
    table = Hashed.of(keys) if count <= TABLED else None
    if table is None:
        return None
    known, listed = constant(table.listed(keys)), constant(table.listed(values))

    def find(x: Scalar) -> Scalar:
        slot = gathered(table.slot(x), table.size)
        return select(s.equal(x, known[slot]), listed[slot], default)

    return find


def _counted(first: int, values: Array, default: Scalar) -> Callable[[Scalar], Scalar]:
    """`_finding` where keys are whole numbers one after the other."""
    listed, count = constant(values), len(values)

    def find(x: Scalar) -> Scalar:
        number = cast(x, INT64)
        near = apply("max", apply("min", number, first + count - 1), first)
        return select(s.equal(near, number), listed[gathered(near - first, count)], default)

    return find


def _compared(keys: Array, values: Array, default: Scalar) -> Callable[[Scalar], Scalar]:
    """`_finding` by comparing each key."""
    pairs = [*zip(keys.tolist(), values.tolist(), strict=True)]

    def find(x: Scalar) -> Scalar:
        found = default
        for key, value in pairs:
            found = select(s.equal(x, key), value, found)
        return found

    return find


COMPARED = 8
"""Keys up to which each is compared: 8 take as long as one look at a table."""
TABLED = 1 << 16
"""Keys up to which those of a model are put into a table when it is compiled."""


@dataclass(frozen=True)
class Table:
    """A look-up with the type of its keys."""

    dtype: DType
    lookup: Lookup

    @classmethod
    def of(cls, attributes: dict[str, Any]) -> Table:
        """The table that the attributes of a node describe, checked."""
        keys, values, default = _columns(attributes)
        return cls(DType.of(keys.dtype), Lookup.of(keys, values, default))


def _check_keys(dtype: DType, keys: DType) -> None:
    """Raise DTypeError unless elements of ``dtype`` can be looked up among ``keys``."""
    require(dtype is keys, f"X must be {keys}, as the keys are, found {dtype}", DTypeError)


def _columns(attributes: dict[str, Any]) -> tuple[Array, Array, Any]:
    """The keys, their values and the value of everything else, checked."""
    (keys_name, keys), (values_name, values) = (
        _listed(name, attributes) for name in ("keys", "values")
    )
    require(
        len(keys) == len(values),
        f"{values_name} must have as many entries as {keys_name} ({len(keys)}), got {len(values)}",
    )
    return keys, values, _default(attributes, values)


def _listed(name: str, attributes: dict[str, Any]) -> tuple[str, Array]:
    """The one attribute that holds the keys or values, as its name and a vector."""
    given = {
        f"{name}_{kind}": attributes[f"{name}_{kind}"]
        for kind in (*KINDS, "tensor")
        if attributes.get(f"{name}_{kind}") is not None
    }
    require(
        len(given) == 1,
        f"one of {name}_floats, {name}_int64s, {name}_strings and {name}_tensor must list the "
        f"{name}, found {' and '.join(given) or 'none'}",
    )
    [(found, values)] = given.items()
    if found.endswith("_tensor"):
        return found, np.asarray(values).reshape(-1)
    dtype = KINDS[found.removeprefix(f"{name}_")]
    return found, _vector(values, dtype)


def _vector(values: Sequence[Any], dtype: DType) -> Array:
    return np.array(values, dtype.numpy)


def _default(attributes: dict[str, Any], values: Array) -> Any:
    """The value of elements that no key equals."""
    given = attributes.get("default_tensor")
    if given is not None:
        require(
            given.size == 1 and given.dtype == values.dtype,
            f"default_tensor must be one {DType.of(values.dtype)}, as the values are, "
            f"found {DType.of(given.dtype)} of {given.size} elements",
        )
        return given.reshape(-1)[0]
    dtype = DType.of(values.dtype)
    if dtype is STRING:
        return attributes["default_string"]
    return attributes["default_float" if dtype.is_float else "default_int64"]
