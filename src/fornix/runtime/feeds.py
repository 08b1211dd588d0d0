"""Feeds: checked against what the model declares before anything runs.

Decides what a caller may pass for an input, and words the error that says what is wrong and, where
the likely mistake is known, the line that repairs it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fornix.dtype import FLOAT32, INT64, STRING, DType
from fornix.errors import DTypeError, InvalidArgument, InvalidUse
from fornix.ir.dim import Dim, known
from fornix.ir.graph import Value
from fornix.ir.types import MapType, OptionalType, SequenceType, TensorType, Type

Array = np.ndarray[Any, np.dtype[Any]]

MAX_PERMUTED_RANK = 5
"""Ranks up to which a feed's layout is guessed: images and volumes, batch and channels included."""


def checked_feeds(
    feeds: Mapping[str, Any], inputs: Sequence[Value], extra: Mapping[str, Value], model: str
) -> dict[Value, Any]:
    """``feeds`` by value, ready for kernels.

    ``inputs`` must all be there but optional ones, which are None then; those of ``extra``,
    overridable initializers, may be. Raises InvalidArgument for a missing or unknown name, another
    dtype, rank or static extent, and for symbolic extents that do not agree.
    """
    if not isinstance(feeds, Mapping):
        raise InvalidArgument(
            f"{model}: feeds must be a mapping of names to arrays, found {type(feeds).__name__}"
        )
    by_name = {value.name: value for value in inputs}
    absent = [value for value in inputs if value.name not in feeds]
    missing = [value.name for value in absent if not isinstance(value.type, OptionalType)]
    if missing:
        raise InvalidArgument(
            f"{model}: every input must be fed, found none for {', '.join(missing)}"
        )
    found: dict[Value, Any] = dict.fromkeys(absent)
    bound: dict[str, tuple[int, str]] = {}
    for name, feed in feeds.items():
        value = by_name.get(name) or extra.get(name)
        if value is None:
            raise InvalidArgument(
                f"{model}: feeds must name its inputs ({', '.join(by_name) or 'it has none'}), "
                f"found {name!r}"
            )
        if isinstance(value.type, TensorType):
            found[value] = _tensor(feed, value.type, name, model)
            _bind(value.type, found[value].shape, name, model, bound)
        else:
            found[value] = _container(feed, value.type, name, model)
    return found


def _container(feed: Any, declared: Type | None, name: str, model: str) -> Any:
    """A feed of any type, and what it holds."""
    if isinstance(declared, TensorType):
        return _tensor(feed, declared, name, model)
    if isinstance(declared, OptionalType):
        return None if feed is None else _container(feed, declared.elem, name, model)
    expected: type = dict if isinstance(declared, MapType) else list
    if isinstance(declared, SequenceType | MapType) and not isinstance(feed, (expected, tuple)):
        raise InvalidArgument(
            f"input '{name}' of {model} is {declared}, but the feed is a {type(feed).__name__}; "
            f"pass a {expected.__name__}"
        )
    if isinstance(declared, SequenceType):
        items = enumerate(feed)
        return [_container(item, declared.elem, f"{name}[{i}]", model) for i, item in items]
    if isinstance(declared, MapType):
        _check_keys(feed, declared, name, model)
        return _with_declared_values(feed, declared, name, model)
    return feed


def _check_keys(feed: Mapping[Any, Any], declared: MapType, name: str, model: str) -> None:
    """Raise InvalidUse for keys that are none of the map's, and what cannot be its values."""
    wanted = str if declared.key is STRING else int | np.integer
    values = _kinds_of_values(declared)
    for key, value in feed.items():
        wrong = ""
        if not isinstance(key, wanted):
            wrong = f"the key {key!r} of type {type(key).__name__}"
        elif not isinstance(value, values):
            wrong = f"{value!r} for {key!r}"
        if wrong:
            raise InvalidUse(f"input '{name}' of {model} is {declared}, but the feed has {wrong}")


def _kinds_of_values(declared: MapType) -> tuple[type, ...]:
    """Of which types values of a map are: texts, whole numbers, numbers, or what it holds."""
    if not isinstance(declared.value, TensorType):
        return (object,)
    if declared.value.dtype is STRING:
        return (str,)
    whole = (int, np.integer, np.bool_, np.ndarray)  # of one number
    return whole if declared.value.dtype is INT64 else (*whole, float, np.floating)


def _with_declared_values(
    feed: Mapping[Any, Any], declared: MapType, name: str, model: str
) -> Mapping[Any, Any]:
    """``feed`` with numbers of the map's own type; as it is where kernels take them for that."""
    dtype = declared.value.dtype if isinstance(declared.value, TensorType) else None
    if dtype is None or dtype is STRING:
        return feed
    plain = {FLOAT32: float, INT64: int}.get(dtype)
    if {dtype.numpy.type, plain}.issuperset(map(type, feed.values())):
        return feed
    number = int if dtype is INT64 else float  # NumPy's own would wrap around
    try:
        with np.errstate(over="ignore"):  # what is beyond the type is infinite, as in kernels
            return {key: dtype.numpy.type(number(value)) for key, value in feed.items()}
    except (OverflowError, TypeError) as error:
        raise InvalidUse(f"input '{name}' of {model} is {declared}, but {error}") from error


def _tensor(feed: Any, declared: TensorType, name: str, model: str) -> Array:
    array = _as_array(feed, declared, name, model)
    dtype = _dtype_of(array)
    wrong_dtype = declared.dtype is not None and dtype is not declared.dtype
    if wrong_dtype or not _shape_fits(declared, array.shape):
        found = f"{dtype or array.dtype}[{', '.join(map(str, array.shape))}]"
        raise InvalidArgument(
            f"input '{name}' of {model} is {declared}, but the feed is {found}"
            f"{_remedy(name, declared, array, wrong_dtype=wrong_dtype)}"
        )
    return array


def _as_array(feed: Any, declared: TensorType, name: str, model: str) -> Array:
    if isinstance(feed, (np.ndarray, np.generic)):
        array = np.asarray(feed)
    elif isinstance(feed, (list, tuple, int, float, bool, str)):
        try:
            array = _of_numbers(feed, declared.dtype)
        except ValueError as error:
            raise InvalidArgument(
                f"input '{name}' of {model} is {declared}, but the feed is a list of lists "
                "of different lengths"
            ) from error
    else:
        raise InvalidUse(
            f"input '{name}' of {model} is {declared}, but the feed is a "
            f"{type(feed).__name__}; pass a NumPy array"
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    is_plain_void = array.dtype.type is np.void and not array.dtype.names
    if array.dtype.kind == "S" or is_plain_void:
        return _decoded(array, name, model)
    if array.dtype == object and declared.dtype is STRING:
        return _texts(array, name, model)
    return array.astype(object) if array.dtype.kind in "UT" else array  # T: StringDType


def are_texts(array: Array) -> bool:
    """Whether all objects in it are texts, or of types derived from them."""
    try:
        row = array if array.ndim == 1 else array.reshape(-1)
        "".join(row.tolist())  # faster than to ask one by one
    except TypeError:
        return False
    return True


def _texts(array: Array, name: str, model: str) -> Array:
    """Texts from objects: bytes are UTF-8, what is neither is as it prints."""
    if are_texts(array):
        return array
    found = np.empty(array.size, object)
    for index, item in enumerate(array.reshape(-1)):
        is_bytes = isinstance(item, bytes)
        found[index] = _decoded(np.array(item), name, model).item() if is_bytes else str(item)
    return found.reshape(array.shape)


def _decoded(array: Array, name: str, model: str) -> Array:
    """Texts from bytes; those of void keep the zeros at their end."""
    try:
        texts = [item.tobytes().decode() for item in array.reshape(-1)]
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"input '{name}' of {model}: bytes must be UTF-8 text, found {error.object!r}"
        ) from error
    if array.dtype.kind == "S":
        texts = [text.rstrip("\0") for text in texts]
    found = np.empty(len(texts), object)
    found[:] = texts
    return found.reshape(array.shape)


def _of_numbers(feed: Any, dtype: DType | None) -> Array:
    """An array of Python's numbers or texts: of ``dtype`` where it holds them, as they have none.

    Whole numbers may become floating-point ones, not the other way round.
    """
    if dtype is None or dtype.kind == "string":
        return np.asarray(feed, None if dtype is None else object)
    found = np.asarray(feed)
    ranks = {"b": 0, "i": 1, "f": 2, "c": 3}
    wanted = {"bool": 0, "int": 1, "uint": 1, "float": 2, "complex": 3}[dtype.kind]
    if found.size and ranks.get(found.dtype.kind, 4) > wanted:
        return found
    with np.errstate(all="ignore"):
        converted = found.astype(dtype.numpy)
    is_exact = wanted != 1 or bool((converted.astype(found.dtype) == found).all())
    return converted if is_exact else found


def _dtype_of(array: Array) -> DType | None:
    try:
        return DType.of(array.dtype)
    except DTypeError:
        return None


def _shape_fits(declared: TensorType, shape: tuple[int, ...]) -> bool:
    """Whether a feed has the declared extents; who declares none at all means any."""
    if not declared.shape:
        return True
    return len(shape) == len(declared.shape) and all(
        known(extent) in {None, found} or (known(extent) or 0) < 0
        for extent, found in zip(declared.shape, shape, strict=True)
    )


def _remedy(name: str, declared: TensorType, array: Array, *, wrong_dtype: bool) -> str:
    """The line of code that makes the feed fit, if there is an obvious one."""
    call = name if name.isidentifier() else "feed"
    if not _shape_fits(declared, array.shape):
        order = _permutation(declared, array.shape)
        if order is None:
            return ""
        call = f"np.transpose({call}, {list(order)})"
        last_to_first = (0, array.ndim - 1, *range(1, array.ndim - 1))
        if order == last_to_first:
            call = f"np.moveaxis({name if name.isidentifier() else 'feed'}, -1, 1)"
    if wrong_dtype and declared.dtype is not None:
        made = "str" if declared.dtype is STRING else f"np.{declared.dtype.name}"
        call += f".astype({made})" if declared.dtype.numpy.isbuiltin else ""
    return "" if call in {name, "feed"} else f"; try {call}"


def _permutation(declared: TensorType, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The order of axes in which a feed of this ``shape`` would fit."""
    if declared.shape is None or len(shape) != len(declared.shape):
        return None
    if len(shape) > MAX_PERMUTED_RANK:
        return None
    last_to_first = (0, len(shape) - 1, *range(1, len(shape) - 1))
    for order in (last_to_first, *itertools.permutations(range(len(shape)))):
        if sorted(order) == list(range(len(shape))) and _shape_fits(
            declared, tuple(shape[axis] for axis in order)
        ):
            return order
    return None


def _bind(
    declared: TensorType,
    shape: tuple[int, ...],
    name: str,
    model: str,
    bound: dict[str, tuple[int, str]],
) -> None:
    """Note the extents of named dims; raise InvalidArgument if one has two values."""
    for axis, (extent, found) in enumerate(zip(declared.shape or (), shape, strict=False)):
        symbol = extent.name if isinstance(extent, Dim) else None
        if symbol is None:
            continue
        first, where = bound.setdefault(symbol, (found, f"axis {axis} of '{name}'"))
        if first != found:
            raise InvalidArgument(
                f"input '{name}' of {model} is {declared}, and {extent} is {first} by {where}, "
                f"but axis {axis} of the feed is {found}"
            )
