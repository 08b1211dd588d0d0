"""What `fornix run` tells of results, and how it writes them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fornix.cast import convert
from fornix.dtype import FLOAT32, INT8, UINT8, DType
from fornix.errors import InvalidArgument
from fornix.ops.geometry import shape_text

SHOWN = 5
"""Elements of a tensor that are shown."""


def summary(name: str, value: Any) -> list[dict[str, Any]]:
    """What is told of a result: one entry per tensor in it."""
    return [described(part, array) for part, array in tensors(name, value)]


def tensors(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The tensors of a result by name: elements of sequences by index, of maps by role."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from tensors(f"{name}/{index}", item)
    elif isinstance(value, dict):
        yield f"{name}/keys", as_array(list(value.keys()))
        yield f"{name}/values", as_array(list(value.values()))
    elif value is not None:
        yield name, value if isinstance(value, np.ndarray) else dense(value)


def dense(value: Any) -> Any:
    """A result that is no array as one: sparse tensors, scalars of maps."""
    return value.numpy() if hasattr(value, "numpy") else as_array(value)


def as_array(items: Any) -> Any:
    """``items`` as an array; strings as objects."""
    array = np.asarray(items)
    return array.astype(object) if array.dtype.kind in "SU" else array


def described(name: str, array: Any) -> dict[str, Any]:
    """Type, shape, extremes and first elements of ``array``.

    min, mean and max are of the finite elements, and None where there are none.
    """
    dtype = DType.of(array.dtype)
    told: dict[str, Any] = {
        "name": name,
        "type": f"{dtype}{shape_text(array.shape)}",
        "dtype": dtype.name,
        "shape": list(array.shape),
        "min": None,
        "mean": None,
        "max": None,
        "nan": 0,
        "inf": 0,
        "first": [plain(x) for x in array.reshape(-1)[:SHOWN]],
    }
    if dtype.kind in {"string", "complex"} or not array.size:
        return told
    wide = array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    told["nan"] = int(np.isnan(wide).sum())
    told["inf"] = int(np.isinf(wide).sum())
    if finite.size:
        exact = array if dtype.is_integer else finite
        told["min"], told["max"] = plain(exact.min()), plain(exact.max())
        told["mean"] = float(finite.mean())
    return told


def plain(element: Any) -> Any:
    """An element as JSON takes it; what JSON has no number for is a string."""
    if isinstance(element, bytes):
        return element.decode(errors="replace")
    if isinstance(element, str):
        return element
    if isinstance(element, bool | np.bool_):
        return bool(element)
    if isinstance(element, int | np.integer):
        return int(element)
    if isinstance(element, complex | np.complexfloating):
        return str(complex(element))
    number = float(element)
    if number.is_integer() and not DType.of(element.dtype).is_float:
        return int(number)  # int4 and its like
    return number if np.isfinite(number) else str(number)


def write(path: str, results: Mapping[str, Any]) -> None:
    """Write ``results`` to an .npz file, or the only one to an .npy file.

    Element types that NumPy's files do not know are written in the next wider one that they do.
    Raises InvalidArgument for other files.
    """
    arrays = [
        (part, storable(array)) for name, x in results.items() for part, array in tensors(name, x)
    ]
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        write_archive(path, arrays)
    elif suffix == ".npy" and len(arrays) == 1:
        np.save(path, arrays[0][1], allow_pickle=False)
    else:
        raise InvalidArgument(
            f"--output {path}: a file called .npz, or .npy for a single tensor, is required, "
            f"found {suffix or 'no extension'} for {len(arrays)}"
        )


def write_archive(path: str, arrays: Iterable[tuple[str, Any]]) -> None:
    """An .npz file as `numpy.savez` writes it, which takes no arrays called "file"."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def storable(array: Any) -> Any:
    """``array`` in a dtype that NumPy's files know."""
    dtype = DType.of(array.dtype)
    if dtype.kind == "string":
        return array.astype(np.str_)
    if array.dtype.kind != "V" and array.dtype.isbuiltin == 1:
        return array
    if dtype.is_integer:
        return convert(array, INT8 if dtype.is_signed else UINT8)
    return convert(array, FLOAT32)
