"""Maps: to rows of features, and from rows to maps.

A map is a dictionary from int or str to numbers or str, a sequence of maps a list of them. Where
the standard leaves a shape open, it is the one of onnxruntime.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fornix.cast import convert
from fornix.dtype import FLOAT32, INT64, STRING, DType
from fornix.errors import Fail, ShapeError, require
from fornix.ir.dim import DimLike, known
from fornix.ir.types import MapType, SequenceType, TensorType, Type
from fornix.ops.call import RunNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.ml.tables import as_rows
from fornix.ops.op import op
from fornix.ops.types import F32, F64, I64, types
from fornix.ops.types import STRING as TEXT

CastMap = op(
    """CastMap <cast_to: string = "TO_FLOAT", map_form: string = "DENSE", max_map: int = 1>
               (X: T1) => (Y: T2)""",
    since=1, domain="ai.onnx.ml",
    T1=types("map(int64, float)", "map(int64, string)"), T2=TEXT | F32 | I64,
).opaque("maps are no tensors")  # fmt: skip

CAST_TARGETS = {"TO_FLOAT": FLOAT32, "TO_STRING": STRING, "TO_INT64": INT64}
MAP_FORMS = ("DENSE", "SPARSE")


@CastMap.infer
def infer_cast_map(X: Fact, *, cast_to: str, map_form: str, max_map: int) -> Fact:
    _check_cast(cast_to, map_form, max_map)
    return tensor(CAST_TARGETS[cast_to], [1, max_map if map_form == "SPARSE" else None])


@CastMap.kernel
def cast_map(X: Mapping[int, Any], *, cast_to: str, map_form: str, max_map: int) -> Array:
    """The values of a map in ascending order of its keys: map of M entries → Y[1, M].

    SPARSE puts each value at the place that its key names in Y[1, max_map]; keys beyond are left
    out, and other places hold 0 (as text "0.f"). Floats become text with six decimals, integers by
    truncation. Raises Fail for a negative key, and for text that is no number.
    Source: ONNX ai.onnx.ml CastMap-1; what it leaves open as onnxruntime does it.
    """
    _check_cast(cast_to, map_form, max_map)
    target, keys = CAST_TARGETS[cast_to], sorted(X)
    values = _cast_values([*map(X.__getitem__, keys)], target)
    if map_form == "DENSE":
        return values.reshape(1, -1)
    if keys and keys[0] < 0:
        raise Fail(f"keys of a sparse map must not be negative, found {keys[0]}")
    y = np.zeros((1, max_map), target.numpy)
    if target is STRING:
        y.fill("0.f")
    count = bisect_left(keys, max_map)
    if count:
        y.put(keys[:count], values[:count])
    return y


def _check_cast(cast_to: str, map_form: str, max_map: int) -> None:
    if cast_to not in CAST_TARGETS:
        raise ShapeError(f"cast_to must be one of {', '.join(CAST_TARGETS)}, got {cast_to!r}")
    if map_form not in MAP_FORMS:
        raise ShapeError(f"map_form must be one of {', '.join(MAP_FORMS)}, got {map_form!r}")
    require(max_map >= 0, f"max_map must not be negative, got {max_map}")


def _cast_values(values: Sequence[Any], target: DType) -> Array:
    """Values of a map, all text or all numbers, as ``target``."""
    if any(issubclass(kind, str) for kind in {*map(type, values)}):
        return convert(np.array(values, object), target)
    numbers = np.array(values, np.float32)
    if target is FLOAT32:
        return numbers
    if target is STRING:
        return np.array([f"{number:f}" for number in numbers.tolist()], object)
    return convert(numbers, target)


DictVectorizer = op(
    """DictVectorizer <int64_vocabulary: ints?, string_vocabulary: strings?> (X: T1) => (Y: T2)""",
    since=1, domain="ai.onnx.ml",
    T1=types("map(int64, double)", "map(int64, float)", "map(int64, string)",
             "map(string, double)", "map(string, float)", "map(string, int64)"),
    T2=TEXT | F32 | F64 | I64,
).opaque("maps are no tensors")  # fmt: skip


@DictVectorizer.infer
def infer_dict_vectorizer(
    X: Fact,
    *,
    int64_vocabulary: list[int] | None = None,
    string_vocabulary: list[str] | None = None,
) -> Fact:
    vocabulary = _vocabulary(int64_vocabulary, string_vocabulary)
    value = X.type.value if isinstance(X.type, MapType) else None
    return tensor(getattr(value, "dtype", None), [1, len(vocabulary)])


@DictVectorizer.kernel
def dict_vectorizer(
    X: Mapping[int | str, Any],
    *,
    int64_vocabulary: list[int] | None = None,
    string_vocabulary: list[str] | None = None,
    node: RunNode,
) -> Array:
    """The values that a map has for each word of the vocabulary: map → Y[1, V].

    A word without value gives 0, or empty text; keys that are not in the vocabulary are left out,
    as in onnxruntime. Plain Python floats count as float32, integers as int64.
    Source: ONNX ai.onnx.ml DictVectorizer-1.
    """
    vocabulary = _vocabulary(int64_vocabulary, string_vocabulary)
    dtype = _dtype_of_values(X) if X else _declared_dtype(node.types)
    missing: Any = "" if dtype is STRING else 0
    y = np.empty((1, len(vocabulary)), dtype.numpy)
    y[0] = [X.get(word, missing) for word in vocabulary]
    return y


def _vocabulary(ints: list[int] | None, strings: list[str] | None) -> list[int] | list[str]:
    require(
        bool(ints) != bool(strings),
        "one of int64_vocabulary and string_vocabulary must name the words, found "
        f"{'both' if ints else 'neither'}",
    )
    return ints or strings or []


def _declared_dtype(types: Sequence[Type | None]) -> DType:
    """Element type of the values of a map that has none; float32 where nobody says it."""
    known = types[0] if types else None
    value = known.value if isinstance(known, MapType) else None
    return getattr(value, "dtype", None) or FLOAT32


def _dtype_of_values(entries: Mapping[Any, Any]) -> DType:
    """Element type of the values of a map that has some."""
    value = next(iter(entries.values()))
    if isinstance(value, (np.generic, np.ndarray)):
        return DType.of(value.dtype)
    return FLOAT32 if isinstance(value, float) else DType.of(type(value))


ZipMap = op(
    """ZipMap <classlabels_int64s: ints?, classlabels_strings: strings?>
              (X: tensor(float)) => (Z: T)""",
    since=1, domain="ai.onnx.ml", T=types("seq(map(int64, float))", "seq(map(string, float))"),
).opaque("maps are no tensors")  # fmt: skip


@ZipMap.infer
def infer_zip_map(
    X: Fact,
    *,
    classlabels_int64s: list[int] | None = None,
    classlabels_strings: list[str] | None = None,
) -> Fact:
    labels = _zip_labels(classlabels_int64s, classlabels_strings)
    if X.has_rank:
        _check_columns(as_rows(X.shape, 0)[1], len(labels))
    key = STRING if classlabels_strings else INT64
    return Fact(SequenceType(MapType(key, TensorType(FLOAT32, ()))))


@ZipMap.kernel
def zip_map(
    X: Array,
    *,
    classlabels_int64s: list[int] | None = None,
    classlabels_strings: list[str] | None = None,
    node: RunNode,
) -> list[dict[int | str, float]]:
    """One map per row, from class labels to the columns: X[N, E] → N maps; a vector is one row.

    Keys stand in ascending order, as in onnxruntime's maps. Source: ONNX ai.onnx.ml ZipMap-1.
    """
    given = classlabels_int64s, classlabels_strings
    labels, columns, count = node.once(lambda: _columns_by_label(_zip_labels(*given)))
    rows = X if X.ndim == 2 else X.reshape(as_rows(X.shape, 0))
    if rows.shape[1] != count:
        _check_columns(rows.shape[1], count)
    return _maps(labels, rows if columns is None else rows[:, columns])


def _columns_by_label(labels: list[Any]) -> tuple[list[Any], list[int] | None, int]:
    """Labels in order, of equal ones the last; their columns unless that is theirs; how many."""
    column = {label: place for place, label in enumerate(labels)}
    ordered = sorted(column)
    return ordered, None if ordered == labels else [column[x] for x in ordered], len(labels)


def _maps(labels: list[int | str], table: Array) -> list[dict[int | str, float]]:
    """Maps as displays, three times as fast; of zipped columns, as gc looks at lists per row."""
    rows: Any = table.tolist() if len(table) < 32 else zip(*table.T.tolist(), strict=True)
    if len(labels) == 2:
        first, second = labels
        return [{first: x, second: y} for x, y in rows]
    if len(labels) == 3:
        first, second, third = labels
        return [{first: x, second: y, third: z} for x, y, z in rows]
    return [dict(zip(labels, row, strict=True)) for row in rows]


def _zip_labels(ints: list[int] | None, strings: list[str] | None) -> list[Any]:
    require(
        bool(ints) != bool(strings),
        "one of classlabels_int64s and classlabels_strings must name the keys, found "
        f"{'both' if ints else 'neither'}",
    )
    return list(ints or strings or ())


def _check_columns(columns: DimLike, labels: int) -> None:
    require(
        known(columns) in {None, labels},
        f"X must have one column per class label ({labels}), got {columns}",
    )
