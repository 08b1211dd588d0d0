"""Look-ups of categories and rearrangement of features.

Where the standard leaves a shape open, it is the one of onnxruntime.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from fornix.cast import convert
from fornix.dtype import FLOAT32, FLOAT64, INT64, STRING, DType
from fornix.errors import Fail, require
from fornix.ir.dim import DimLike, equal
from fornix.ir.loops import Scalar, Tensor, cast, compute, constant, gathered, index, reduce, select
from fornix.ir.types import TensorType
from fornix.ops import scalar as s
from fornix.ops.call import LowerNode, RunNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.gather_loops import columns_of
from fornix.ops.geometry import shape_text, unflattened, unified
from fornix.ops.ml.lookup import Lookup
from fornix.ops.op import op
from fornix.ops.types import F32, F64, I32, I64
from fornix.ops.types import STRING as TEXT

ArrayFeatureExtractor = op(
    "ArrayFeatureExtractor (X: T, Y: tensor(int64)) => (Z: T)",
    since=1, domain="ai.onnx.ml", T=TEXT | F32 | F64 | I32 | I64,
)  # fmt: skip


@ArrayFeatureExtractor.infer
def infer_array_feature_extractor(X: Fact, Y: Fact) -> Fact:
    _check_has_features(X.shape)
    count = math.prod(Y.shape) if Y.has_rank else None
    return tensor(X.dtype, [*(X.shape[:-1] or (1,)), count])


@ArrayFeatureExtractor.kernel
def array_feature_extractor(X: Array, Y: Array) -> Array:
    """The features that the indices ``Y`` name, from the last axis of ``X``.

    X[*S, F] · Y[*I] → Z[*S, ∏I]; a vector X gives Z[1, ∏I]. Raises Fail unless 0 ≤ Y < F.
    Source: ONNX ai.onnx.ml ArrayFeatureExtractor-1.
    """
    _check_has_features(X.shape)
    index = Y.reshape(-1)
    if index.size == 1 and X.ndim > 1 and 0 <= (place := index.item()) < X.shape[-1]:
        return X[..., place : place + 1].copy()
    is_outside = index.view(np.uint64) >= X.shape[-1]  # negative ones are greater than all
    if np.count_nonzero(is_outside):
        wrong = index[is_outside][0]
        raise Fail(f"Y must index the {X.shape[-1]} features of X, found {wrong}")
    found = X.take(index, -1)
    return found if X.ndim > 1 else found.reshape(1, -1)


@ArrayFeatureExtractor.lower
def lower_array_feature_extractor(X: Tensor, Y: Tensor, *, node: LowerNode) -> Tensor:
    _check_has_features(X.shape)
    picked = columns_of(X, node.known(1)) if _is_counted(node.known(1)) else None
    if picked is not None:
        return picked
    count, lead = math.prod(Y.shape), X.shape[:-1]

    def at(*i: DimLike) -> Scalar:
        rows = i[:-1] if lead else ()
        return X[(*rows, gathered(Y[unflattened(i[-1], Y.shape)], X.shape[-1]))]

    return compute((*(lead or (1,)), count), at)


def _is_counted(places: Sequence[DimLike] | None) -> bool:
    """Whether ``places`` are plain numbers from 0 on."""
    return all(isinstance(place, int) and place >= 0 for place in places or ())


def _check_has_features(shape: Sequence[DimLike]) -> None:
    require(len(shape) > 0, "X must have an axis of features, found a scalar")


Binarizer = op(
    "Binarizer <threshold: float = 0.0> (X: T) => (Y: T)",
    since=1, domain="ai.onnx.ml", T=F32 | F64 | I32 | I64,
)  # fmt: skip


@Binarizer.infer
def infer_binarizer(X: Fact, *, threshold: float) -> Fact:
    return tensor(X.dtype, X.shape)


@Binarizer.kernel
def binarizer(X: Array, *, threshold: float) -> Array:
    """1 where ``X`` is above ``threshold``, else 0: X[*S] → Y[*S].

    Source: ONNX ai.onnx.ml Binarizer-1.
    """
    return np.asarray(np.greater(X, np.float32(threshold)), X.dtype)


@Binarizer.lower
def lower_binarizer(X: Tensor, *, threshold: float) -> Tensor:
    limit = float(np.float32(threshold))
    # NumPy compares integers with float32 numbers as float64.
    wide = X.dtype if X.dtype.is_float else FLOAT64
    return compute(X.shape, lambda *i: cast(cast(X[i], wide) > limit, X.dtype))


CategoryMapper = op(
    """CategoryMapper <cats_int64s: ints?, cats_strings: strings?, default_int64: int = -1,
                       default_string: string = "_Unused">
                      (X: T1) => (Y: T2)""",
    since=1, domain="ai.onnx.ml", T1=TEXT | I64, T2=TEXT | I64,
).opaque("one side is text")  # fmt: skip


@CategoryMapper.infer
def infer_category_mapper(
    X: Fact,
    *,
    cats_int64s: list[int] | None = None,
    cats_strings: list[str] | None = None,
    **_: object,
) -> Fact:
    _check_categories(cats_int64s or [], cats_strings or [])
    dtype = None if X.dtype is None else (INT64 if X.dtype is STRING else STRING)
    return Fact(TensorType(dtype, X.shape if X.has_rank else None))


@CategoryMapper.kernel
def category_mapper(
    X: Array,
    *,
    cats_int64s: list[int] | None = None,
    cats_strings: list[str] | None = None,
    default_int64: int,
    default_string: str,
    node: RunNode,
) -> Array:
    """Category names to numbers, or numbers to names, by two parallel lists.

    X[*S] → Y[*S]; what the list does not hold becomes default_int64 or default_string.
    Source: ONNX ai.onnx.ml CategoryMapper-1.
    """
    numbers, names = cats_int64s or [], cats_strings or []
    _check_categories(numbers, names)
    ids, texts = np.array(numbers, np.int64), np.array(names, object)
    if X.dtype == object:
        return node.once(lambda: Lookup.of(texts, ids, default_int64))(X)
    return node.once(lambda: Lookup.of(ids, texts, default_string))(X)


def _check_categories(numbers: list[int], names: list[str]) -> None:
    require(
        len(numbers) == len(names),
        f"cats_int64s must have as many entries as cats_strings ({len(names)}), got {len(numbers)}",
    )
    require(names, "cats_strings must list the categories, found none")


FeatureVectorizer = op(
    "FeatureVectorizer <inputdimensions: ints?> (X: T1+) => (Y: tensor(float))",
    since=1, domain="ai.onnx.ml", T1=F32 | F64 | I32 | I64,
)  # fmt: skip


@FeatureVectorizer.infer
def infer_feature_vectorizer(*X: Fact, inputdimensions: list[int] | None = None) -> Fact:
    shapes = [as_rows(x.shape, index) for index, x in enumerate(X)]
    rows = unified(shape[0] for shape in shapes)
    require(rows is not None, _rows_message(shapes))
    widths = _widths([shape[1] for shape in shapes], inputdimensions)
    return tensor(FLOAT32, [rows, sum(widths)])


@FeatureVectorizer.kernel
def feature_vectorizer(*X: Array, inputdimensions: list[int] | None = None) -> Array:
    """The inputs side by side, as float32: Xᵢ[N, Cᵢ] → Y[N, Σ widths].

    inputdimensions are the widths: an input that is wider is cut, a narrower one padded with zeros.
    A vector is one row. Source: ONNX ai.onnx.ml FeatureVectorizer-1.
    """
    parts = [x.reshape(as_rows(x.shape, index)) for index, x in enumerate(X)]
    rows = parts[0].shape[0]
    require(all(part.shape[0] == rows for part in parts), _rows_message([p.shape for p in parts]))
    widths = _widths([part.shape[1] for part in parts], inputdimensions)
    y = np.zeros((rows, sum(widths)), np.float32)
    start = 0
    for part, width in zip(parts, widths, strict=True):
        used = min(width, part.shape[1])
        y[:, start : start + used] = part[:, :used]
        start += width
    return y


@FeatureVectorizer.lower
def lower_feature_vectorizer(
    *X: Tensor, inputdimensions: list[int] | None = None, node: LowerNode
) -> Tensor:
    shapes = [as_rows(x.shape, i) for i, x in enumerate(X)]
    rows = unified(shape[0] for shape in shapes)
    require(rows is not None, _rows_message(shapes))
    widths = _widths([shape[1] for shape in shapes], inputdimensions)
    starts = list(accumulate(widths, initial=0))

    def at(n: DimLike, k: DimLike) -> Scalar:
        parts = [
            cast(x.get((n, k - start) if x.rank == 2 else (k - start,), 0), FLOAT32)
            for x, start in zip(X, starts, strict=False)
        ]
        value = parts[-1]
        for part, end in zip(parts[-2::-1], starts[-2:0:-1], strict=True):
            value = select(index(k) < index(end), part, value)
        return value

    return compute((1 if rows is None else rows, starts[-1]), at)


def as_rows(shape: tuple[Any, ...], index: int) -> tuple[Any, Any]:
    require(
        1 <= len(shape) <= 2,
        f"inputs must be rows of features or one such row, got X[{index}]{shape_text(shape)}",
    )
    return (shape[0], shape[1]) if len(shape) == 2 else (1, shape[0])


def _rows_message(shapes: Sequence[Sequence[object]]) -> str:
    return f"inputs must have equally many rows, got {' and '.join(map(shape_text, shapes))}"


def _widths(found: list[Any], wanted: Sequence[int] | None) -> list[Any]:
    """The width that each input has in the result."""
    if not wanted:
        return found
    require(
        len(wanted) == len(found) and min(wanted) >= 0,
        f"inputdimensions must have one entry ≥ 0 per input ({len(found)}), got {list(wanted)}",
    )
    return list(wanted)


Imputer = op(
    """Imputer <imputed_value_floats: floats?, imputed_value_int64s: ints?,
                replaced_value_float: float = 0.0, replaced_value_int64: int = 0>
               (X: T) => (Y: T)""",
    since=1, domain="ai.onnx.ml", T=F32 | F64 | I32 | I64,
)  # fmt: skip


@Imputer.infer
def infer_imputer(
    X: Fact,
    *,
    imputed_value_floats: list[float] | None = None,
    imputed_value_int64s: list[int] | None = None,
    **_: object,
) -> Fact:
    if X.dtype is not None:
        kind = "floats" if X.dtype.is_float else "int64s"
        imputed = imputed_value_floats if X.dtype.is_float else imputed_value_int64s
        require(imputed, f"imputed_value_{kind} must have values for {X.dtype}, found none")
        _check_imputed(kind, len(imputed or ()), X.shape)
    return tensor(X.dtype, X.shape)


@Imputer.kernel
def imputer(
    X: Array,
    *,
    imputed_value_floats: list[float] | None = None,
    imputed_value_int64s: list[int] | None = None,
    replaced_value_float: float,
    replaced_value_int64: int,
) -> Array:
    """``X`` with one value, which stands for "missing", replaced per feature or for all.

    X[*S, F] → Y[*S, F]; a replaced value NaN means every NaN. Floats take the attributes for
    floats, integers those for integers. Source: ONNX ai.onnx.ml Imputer-1.
    """
    is_float = X.dtype.kind == "f"
    kind = "floats" if is_float else "int64s"
    imputed = imputed_value_floats if is_float else imputed_value_int64s
    require(imputed, f"imputed_value_{kind} must have values for {DType.of(X.dtype)}, found none")
    # The attribute holds a float32, whatever the features are.
    replaced = np.float32(replaced_value_float) if is_float else replaced_value_int64
    values = np.asarray(imputed, np.float32 if is_float else np.int64).astype(X.dtype)
    _check_imputed(kind, values.size, X.shape)
    is_missing = np.isnan(X) if is_float and np.isnan(replaced) else replaced == X
    return np.where(is_missing, values if X.ndim else values[0], X)


@Imputer.lower
def lower_imputer(
    X: Tensor,
    *,
    imputed_value_floats: list[float] | None = None,
    imputed_value_int64s: list[int] | None = None,
    replaced_value_float: float,
    replaced_value_int64: int,
    node: LowerNode,
) -> Tensor:
    is_float = X.dtype.is_float
    kind = "floats" if is_float else "int64s"
    imputed = imputed_value_floats if is_float else imputed_value_int64s
    require(imputed, f"imputed_value_{kind} must have values for {X.dtype}, found none")
    values = np.asarray(imputed, np.float32 if is_float else np.int64).astype(X.dtype.numpy)
    _check_imputed(kind, values.size, X.shape)
    table, replaced = constant(values), float(np.float32(replaced_value_float))

    def at(*i: DimLike) -> Scalar:
        x = X[i]
        if not is_float:
            is_missing = s.equal(cast(x, INT64), replaced_value_int64)
        else:
            is_missing = s.isnan(x) if math.isnan(replaced) else s.equal(x, replaced)
        return select(is_missing, table[i[-1] if values.size != 1 else 0], x)

    return compute(X.shape, at)


def _check_imputed(kind: str, count: int, shape: Sequence[DimLike]) -> None:
    features = shape[-1] if shape else 1
    require(
        count == 1 or equal(features, count) is not False,
        f"imputed_value_{kind} must have one entry or one per feature ({features}), got {count}",
    )


OneHotEncoder = op(
    """OneHotEncoder <cats_int64s: ints?, cats_strings: strings?, zeros: int = 1>
                     (X: T) => (Y: tensor(float))""",
    since=1, domain="ai.onnx.ml", T=TEXT | F32 | F64 | I32 | I64,
)  # fmt: skip


@OneHotEncoder.infer
def infer_one_hot_encoder(
    X: Fact,
    *,
    cats_int64s: list[int] | None = None,
    cats_strings: list[str] | None = None,
    zeros: int,
) -> Fact:
    categories = _categories(X.dtype, cats_int64s, cats_strings)
    return tensor(FLOAT32, [*X.shape, len(categories)])


def _categories(
    dtype: DType | None, numbers: list[int] | None, names: list[str] | None
) -> list[int] | list[str]:
    """The categories that elements of ``dtype`` are looked up in."""
    require(
        not (numbers and names),
        "one of cats_int64s and cats_strings must list the categories, found both",
    )
    if dtype is None:
        return names or numbers or []
    attribute, listed = ("cats_strings", names) if dtype is STRING else ("cats_int64s", numbers)
    require(listed, f"{attribute} must list the categories of {dtype}, found none")
    return listed or []


@OneHotEncoder.kernel
def one_hot_encoder(
    X: Array,
    *,
    cats_int64s: list[int] | None = None,
    cats_strings: list[str] | None = None,
    zeros: int,
    node: RunNode,
) -> Array:
    """Every element as a row of zeros with a single one, at the index of its category.

    X[*S] → Y[*S, C]; numbers are truncated to integers first. An unknown category gives zeros
    alone; raises Fail for one if zeros = 0. Source: ONNX ai.onnx.ml OneHotEncoder-1.
    """
    is_text = X.dtype == object
    categories = _categories(DType.of(X.dtype), cats_int64s, cats_strings)
    count = len(categories)
    kind = object if is_text else np.int64
    lookup = node.once(lambda: Lookup.of(np.array(categories, kind), np.arange(count), count))
    place = lookup(X if is_text else convert(X, INT64))
    if not zeros and (place == count).any():
        unknown = X[place == count]
        raise Fail(f"X must hold categories that are listed, found {unknown[0]!r}; set zeros=1")
    y = np.zeros((X.size, count), np.float32)
    [rows] = np.nonzero(place.reshape(-1) < count)
    y[rows, place.reshape(-1)[rows]] = 1
    return y.reshape(*X.shape, count)


@OneHotEncoder.lower
def lower_one_hot_encoder(
    X: Tensor,
    *,
    cats_int64s: list[int] | None = None,
    cats_strings: list[str] | None = None,
    zeros: int,
    node: LowerNode,
) -> Tensor:
    categories = np.array(_categories(X.dtype, cats_int64s, cats_strings), np.int64)
    if len(set(categories.tolist())) < categories.size:
        node.decline("its categories repeat")
    table, count = constant(categories), categories.size
    shape = (*X.shape, count)
    if zeros:
        return compute(
            shape, lambda *i: cast(s.equal(cast(X[i[:-1]], INT64), table[i[-1]]), FLOAT32)
        )

    def place_of(*i: DimLike) -> Scalar:
        x = cast(X[i], INT64)
        return reduce("max", count, lambda k: select(s.equal(x, table[k]), index(k), -1))

    places, numbers = compute(X.shape, place_of), constant(np.arange(count))

    def at(*i: DimLike) -> Scalar:
        # What is no category has no number, which ends the run.
        return cast(s.equal(numbers[gathered(places[i[:-1]], count)], index(i[-1])), FLOAT32)

    return compute(shape, at)
