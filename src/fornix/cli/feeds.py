"""Feeds from files: which file belongs to which input, and how each kind of file is read.

Files decide values, the model decides types: what has no dtype of its own (JSON, pictures) gets the
declared one, and what has one (.npy, .npz, .pb) must agree, which the session checks.
"""

from __future__ import annotations

import difflib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fornix.cli import pictures
from fornix.cli.dims import Dims
from fornix.errors import FormatError, InvalidArgument, NoSuchFile
from fornix.format.files import PROTOBUF, read_message
from fornix.format.messages import SequenceProto, TensorProto
from fornix.format.tensors import to_array
from fornix.ir.graph import Value
from fornix.ir.types import MapType, OptionalType, SequenceType, TensorType, Type, type_text

ARRAYS, ARCHIVE, TEXT, MESSAGE = ".npy", ".npz", ".json", ".pb"


def read_feeds(
    options: Sequence[str], inputs: Mapping[str, Value], required: Sequence[str], dims: Dims
) -> dict[str, Any]:
    """The feeds that ``options``, each ``name=source`` or a source alone, give for ``inputs``.

    Raises InvalidArgument if a name is unknown or fed twice; pictures for one input are a batch.
    """
    feeds: dict[str, Any] = {}
    for option in options:
        for name, feed, is_picture in parts(option, inputs, required, dims):
            if name in feeds and is_picture:
                feed = pictures.batch(feeds[name], feed, name)
            elif name in feeds:
                raise InvalidArgument(f"input '{name}': one feed is required, found another")
            feeds[name] = feed
    return feeds


def parts(
    option: str, inputs: Mapping[str, Value], required: Sequence[str], dims: Dims
) -> Iterator[tuple[str, Any, bool]]:
    """What one option feeds: names, values, and whether they come from a picture."""
    name, source = split(option, inputs)
    suffix = TEXT if is_inline(source) else Path(source).suffix.lower()
    held = content(source, suffix) if name is None and suffix in {ARCHIVE, TEXT} else None
    if isinstance(held, dict):
        for key, item in held.items():
            if key not in inputs:
                raise unknown(key, inputs)
            yield key, from_plain(item, inputs[key], source), False
        return
    name = name or only(required, option)
    value = inputs[name]
    if suffix in pictures.SUFFIXES:
        yield name, pictures.read(source, value, dims), True
    elif suffix == MESSAGE:
        yield name, from_message(source, value), False
    else:
        held = content(source, suffix)
        if suffix in {ARRAYS, ARCHIVE} and isinstance(held, dict):
            held = one_of(held, name, source)
        yield name, from_plain(held, value, source), False


def split(option: str, inputs: Mapping[str, Value]) -> tuple[str | None, str]:
    """Name, if there is one, and source; raises InvalidArgument if the name is unknown."""
    named = [name for name in inputs if option.startswith(f"{name}=")]
    if named:
        name = max(named, key=len)
        return name, option[len(name) + 1 :]
    name, equals, _ = option.partition("=")
    if equals and not is_inline(option) and not Path(option).exists():
        raise unknown(name, inputs)
    return None, option


def unknown(name: str, inputs: Mapping[str, Value]) -> InvalidArgument:
    """The error for a feed that names no input."""
    close = difflib.get_close_matches(name, inputs, 1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    has = ", ".join(inputs) or "there is none"
    return InvalidArgument(
        f"--input: an input of the model ({has}) is required, found '{name}'{hint}"
    )


def only(required: Sequence[str], option: str) -> str:
    """The one input that a source without a name can be for."""
    if len(required) != 1:
        has = ", ".join(required) or "none that must be fed"
        raise InvalidArgument(
            f"--input {option}: the model has {len(required)} inputs ({has}); write name={option}"
        )
    return required[0]


def is_inline(source: str) -> bool:
    """Whether ``source`` is JSON itself: an array, an object or a string."""
    return source.lstrip()[:1] in {"[", "{", '"'}


def content(source: str, suffix: str) -> Any:
    """What a source of arrays or JSON holds; the arrays of an archive by name."""
    try:
        if is_inline(source):
            return json.loads(source)
        if suffix == TEXT:
            return json.loads(Path(source).read_text(encoding="utf-8"))
        if suffix in {ARRAYS, ARCHIVE}:
            return unpacked(np.load(source, allow_pickle=False))
    except FileNotFoundError as error:
        raise NoSuchFile(f"{source}: a file is required, found none") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(f"{source}: {suffix} is required: {error}") from error
    raise InvalidArgument(
        f"{source}: .npy, .npz, .json, .pb or a picture ({', '.join(pictures.SUFFIXES)}) is "
        f"required, found {suffix or 'no extension'}"
    )


def unpacked(held: Any) -> Any:
    """An array as it is; an archive as a dictionary of its arrays."""
    if isinstance(held, np.ndarray):
        return held
    with held:
        return dict(held)


def one_of(arrays: dict[str, Any], name: str, source: str) -> Any:
    """The array called ``name``, or the only one."""
    if name in arrays:
        return arrays[name]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    raise InvalidArgument(
        f"{source}: an array called '{name}' or a single one is required, found {', '.join(arrays)}"
    )


def from_plain(held: Any, value: Value, source: str) -> Any:
    """``held`` as a feed of ``value``: arrays as they are, JSON in the declared type."""
    if not isinstance(held, np.ndarray):
        try:
            return from_json(held, value.type)
        except (ValueError, TypeError, OverflowError) as error:
            raise FormatError(
                f"{source}: {type_text(value.type)} is required for '{value.name}': {error}"
            ) from error
    declared = value.type
    dtype = declared.dtype if isinstance(declared, TensorType) else None
    # NumPy's files keep of bfloat16 and its like only the width.
    if held.dtype.kind == "V" and dtype is not None and dtype.bits == 8 * held.dtype.itemsize:
        return held.view(dtype.numpy)
    return held


def from_json(held: Any, type_: Type | None) -> Any:
    """JSON as a value of ``type_``: nested lists, objects for maps, null for absent optionals.

    Raises ValueError, TypeError or OverflowError for what does not fit.
    """
    if isinstance(type_, SequenceType):
        return [from_json(item, type_.elem) for item in held]
    if isinstance(type_, OptionalType):
        return None if held is None else from_json(held, type_.elem)
    if isinstance(type_, MapType):
        is_text = type_.key is None or type_.key.kind == "string"
        return {key if is_text else int(key): item for key, item in held.items()}
    dtype = type_.dtype if isinstance(type_, TensorType) else None
    if dtype is None:
        return np.array(held)
    if dtype.kind == "string":
        return np.array(held, dtype=object)
    if dtype.is_integer and np.array(held).dtype.kind == "f" and np.array(held).size:
        raise ValueError("integers are required, found others")
    return np.array(held, dtype=dtype.numpy)


def from_message(source: str, value: Value) -> Any:
    """The tensor, or sequence of tensors, in a protobuf file."""
    if isinstance(value.type, SequenceType):
        sequence = read_message(source, SequenceProto, PROTOBUF)
        return [to_array(tensor) for tensor in sequence.tensor_values]
    return to_array(read_message(source, TensorProto, PROTOBUF))
