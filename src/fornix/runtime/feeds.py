"""Feeds: checked against what the model declares before anything runs.

Decides what a caller may pass for an input, and words the error that says what is wrong and, where
the likely mistake is known, the line that repairs it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fornix.dtype import DType
from fornix.errors import DTypeError, InvalidArgument
from fornix.ir.dim import Dim, known
from fornix.ir.graph import Value
from fornix.ir.types import TensorType
from fornix.ops.geometry import shape_text

Array = np.ndarray[Any, np.dtype[Any]]

MAX_PERMUTED_RANK = 5
"""Ranks up to which a feed's layout is guessed: images and volumes, batch and channels included."""


def checked_feeds(
    feeds: Mapping[str, Any], inputs: Sequence[Value], extra: Mapping[str, Value], model: str
) -> dict[Value, Any]:
    """``feeds`` by value, ready for kernels.

    ``inputs`` must all be there; those of ``extra``, overridable initializers, may be. Raises
    InvalidArgument for a missing or unknown name, another dtype, rank or static extent, and for
    symbolic extents that do not agree.
    """
    by_name = {value.name: value for value in inputs}
    missing = [name for name in by_name if name not in feeds]
    if missing:
        raise InvalidArgument(
            f"{model}: every input must be fed, found none for {', '.join(missing)}"
        )
    found: dict[Value, Any] = {}
    bound: dict[str, tuple[int, str]] = {}
    for name, feed in feeds.items():
        value = by_name.get(name) or extra.get(name)
        if value is None:
            raise InvalidArgument(
                f"{model}: feeds must name its inputs ({', '.join(by_name) or 'it has none'}), "
                f"found {name!r}"
            )
        found[value] = _checked(feed, value, model, bound)
    return found


def _checked(feed: Any, value: Value, model: str, bound: dict[str, tuple[int, str]]) -> Any:
    declared = value.type
    if not isinstance(declared, TensorType):
        return feed
    array = _as_array(feed, declared, value, model)
    dtype = _dtype_of(array)
    wrong_dtype = declared.dtype is not None and dtype is not declared.dtype
    if wrong_dtype or not _shape_fits(declared, array.shape):
        found = f"{dtype or array.dtype}{shape_text(array.shape)}"
        raise InvalidArgument(
            f"input '{value.name}' of {model} is {declared}, but the feed is {found}"
            f"{_remedy(value.name, declared, array, wrong_dtype=wrong_dtype)}"
        )
    _bind(declared, array.shape, value.name, model, bound)
    return array


def _as_array(feed: Any, declared: TensorType, value: Value, model: str) -> Array:
    if isinstance(feed, np.ndarray):
        array = feed
    elif isinstance(feed, (list, tuple, int, float, bool, str, np.generic)):
        is_text = declared.dtype is not None and declared.dtype.kind == "string"
        try:
            array = np.asarray(feed, object if is_text else None)
        except ValueError as error:
            raise InvalidArgument(
                f"input '{value.name}' of {model} is {declared}, but the feed is a list of lists "
                "of different lengths"
            ) from error
    else:
        raise InvalidArgument(
            f"input '{value.name}' of {model} is {declared}, but the feed is a "
            f"{type(feed).__name__}; pass a NumPy array"
        )
    return array.astype(object) if array.dtype.kind in "US" else array


def _dtype_of(array: Array) -> DType | None:
    try:
        return DType.of(array.dtype)
    except DTypeError:
        return None


def _shape_fits(declared: TensorType, shape: tuple[int, ...]) -> bool:
    if declared.shape is None:
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
        call += f".astype(np.{declared.dtype.name})" if declared.dtype.numpy.isbuiltin else ""
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
        if not isinstance(extent, Dim) or str(extent) not in extent.symbols:
            continue
        first, where = bound.setdefault(str(extent), (found, f"axis {axis} of '{name}'"))
        if first != found:
            raise InvalidArgument(
                f"input '{name}' of {model} is {declared}, and {extent} is {first} by {where}, "
                f"but axis {axis} of the feed is {found}"
            )
