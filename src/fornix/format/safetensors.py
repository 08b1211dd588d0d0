"""The safetensors format: named tensors in one file, behind a header in JSON.

    8 bytes, little-endian: length of the header in bytes
    the header: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}, and
        texts under "__metadata__"; spaces may follow
    the data, one tensor right behind the other, little-endian and row-major

A file is hostile until proven otherwise: the header is bounded, names occur once, and offsets lie
in the file, fit dtype and shape, and leave neither holes nor overlaps. ONNX's external data can
refer to tensors in such a file: both formats then have the same bytes.
Source: huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn

from fornix.dtype import DType
from fornix.errors import FormatError
from fornix.format.mapped import MappedBytes, MappedFile, Region

if TYPE_CHECKING:
    from fornix.format.mapped import Payload

EXTENSION = ".safetensors"
METADATA = "__metadata__"

NAMES: dict[str, str] = dict(
    pair.split("=")
    for pair in """
        bool=BOOL uint8=U8 int8=I8 uint16=U16 int16=I16 uint32=U32 int32=I32 uint64=U64 int64=I64
        float16=F16 bfloat16=BF16 float32=F32 float64=F64 complex64=C64
        float8e4m3fn=F8_E4M3 float8e5m2=F8_E5M2 float8e8m0=F8_E8M0
        float6e2m3=F6_E2M3 float6e3m2=F6_E3M2 float4e2m1=F4
    """.split()
)
"""Element types that the format has, and what it calls them."""

_DTYPES = {name: DType.of(dtype) for dtype, name in NAMES.items()}

MAX_HEADER = 100_000_000
"""Bytes of a header, as in the format's own implementation."""

MAX_RANK = 64
_PREFIX = 8
# The data begins at a multiple of so many bytes, for whoever maps it.
_ALIGNMENT = 64
_FIELDS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file: element type, shape, and where its bytes are."""

    dtype: DType
    shape: tuple[int, ...]
    payload: MappedBytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor to be written."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    payload: Payload


def can_hold(dtype: DType, shape: Iterable[int]) -> bool:
    """Whether the format has ``dtype``; packed elements have to fill whole bytes."""
    return dtype.name in NAMES and dtype.bits * prod(shape) % 8 == 0


def open_tensors(path: str | os.PathLike[str]) -> dict[str, Stored]:
    """The tensors in the file at ``path`` by name, left where they are.

    Raises NoSuchFile, or FormatError for what is no such file.
    """
    return read_tensors(MappedFile.open(path))


def read_tensors(region: Region) -> dict[str, Stored]:
    """The tensors in ``region`` by name; raises FormatError for what breaks the format."""
    header, start = _header(region)
    found: dict[str, Stored] = {}
    ends: dict[int, tuple[int, str]] = {}
    for name, said in header.items():
        if name == METADATA:
            _check_metadata(said, region)
            continue
        dtype, shape, first, last = _entry(name, said, region)
        if start + last > region.size:
            _refuse(region, f"tensor {name!r:.100}", f"bytes {first} to {last} of the data",
                    f"{region.size - start} bytes")  # fmt: skip
        if last > first and ends.setdefault(first, (last, name))[1] != name:
            _refuse(region, f"tensor {name!r:.100}", "data of its own", "that of another")
        payload = MappedBytes(region, start + first, last - first)
        found[name] = Stored(dtype, shape, payload)
    _check_whole(ends, region, start)
    return found


def _header(region: Region) -> tuple[dict[str, Any], int]:
    """The header, and where the data begins."""
    if region.size < _PREFIX:
        _refuse(region, "header", "8 bytes of length", f"{region.size} bytes")
    length = int.from_bytes(region.read(0, _PREFIX), "little")
    most = min(MAX_HEADER, region.size - _PREFIX)
    if length > most:
        _refuse(region, "header", f"at most {most} bytes", f"a length of {length}")
    text = region.read(_PREFIX, _PREFIX + length)
    if not text.startswith(b"{"):
        _refuse(region, "header", "a JSON object", repr(text[:20]))
    try:
        header = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it nests too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise FormatError(f"{region.name}: header: JSON is required: {reason}") from error
    return header, _PREFIX + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name must occur once in an object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _entry(name: str, said: Any, region: Region) -> tuple[DType, tuple[int, ...], int, int]:
    """What the header says of one tensor: dtype, shape, and the bytes of the data that it takes."""
    subject = f"tensor {name!r:.100}"
    if not isinstance(said, dict) or said.keys() != _FIELDS:
        _refuse(region, subject, "dtype, shape and data_offsets", f"{said!r:.100}")
    dtype = _DTYPES.get(said["dtype"]) if isinstance(said["dtype"], str) else None
    if dtype is None:
        _refuse(region, subject, f"a dtype among {', '.join(_DTYPES)}", f"{said['dtype']!r:.100}")
    shape, offsets = said["shape"], said["data_offsets"]
    if not _are_naturals(shape) or len(shape) > MAX_RANK:
        _refuse(region, subject, f"a shape of at most {MAX_RANK} extents", f"{shape!r:.100}")
    if not _are_naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _refuse(region, subject, "data_offsets [begin, end]", f"{offsets!r:.100}")
    first, last = offsets
    if dtype.bits * prod(shape) != 8 * (last - first):
        _refuse(region, subject, f"{dtype}{shape} of {dtype.bits * prod(shape)} bits",
                f"{last - first} bytes")  # fmt: skip
    return dtype, tuple(shape), first, last


def _are_naturals(found: Any) -> bool:
    return isinstance(found, list) and all(type(x) is int and 0 <= x < 1 << 63 for x in found)


def _check_metadata(said: Any, region: Region) -> None:
    is_texts = isinstance(said, dict) and all(isinstance(x, str) for x in said.values())
    if not is_texts:
        _refuse(region, METADATA, "texts by name", f"{said!r:.100}")


def _check_whole(ends: Mapping[int, tuple[int, str]], region: Region, start: int) -> None:
    """Require the data of all tensors to follow each other up to the end of the file."""
    at = 0
    for first in sorted(ends):
        if first != at:
            what = "a hole" if first > at else "an overlap"
            _refuse(region, f"tensor {ends[first][1]!r:.100}", f"data from byte {at}", what)
        at = ends[first][0]
    if start + at != region.size:
        _refuse(region, "data", f"{at} bytes", f"{region.size - start}")


def _refuse(region: Region, subject: str, required: str, found: str) -> NoReturn:
    raise FormatError(f"{region.name}: {subject}: {required} required, found {found}")


def arranged(entries: Iterable[Entry]) -> tuple[bytes, list[Entry]]:
    """What stands ahead of the data, and the tensors in the order in which they follow.

    Wide elements come first, so that all are aligned.
    """
    ordered = sorted(entries, key=lambda entry: (-max(entry.dtype.bits, 8), entry.name))
    header: dict[str, object] = {}
    at = 0
    for entry in ordered:
        stop = at + entry.payload.nbytes
        header[entry.name] = {
            "dtype": NAMES[entry.dtype.name],
            "shape": list(entry.shape),
            "data_offsets": [at, stop],
        }
        at = stop
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(_PREFIX + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(_PREFIX, "little") + text, ordered
