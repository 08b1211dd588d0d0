"""The cache of built models: their files, feeds, and what the builder's framework answered.

The cache lies outside the repository, in ``$FORNIX_MODELS`` or the user's cache directory. An
entry is a folder with ``model.onnx`` and ``cases.npz``, named by the model and every version that
it depends on; it is built beside its place and renamed into it, so readers never see half an
entry and two builders at once do no harm.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.models.spec import Arrays, Built


def cache_root() -> Path:
    """``$FORNIX_MODELS``, else ``fornix/models`` in the platform's cache directory."""
    chosen = os.environ.get("FORNIX_MODELS")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", tempfile.gettempdir()))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "fornix" / "models"


def cached(key: str, write: Callable[[Path], None]) -> Path:
    """The entry ``key``, which ``write`` fills if it is not there; all of it or nothing."""
    place = cache_root() / key
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=place.parent))
    try:
        write(draft)
        draft.rename(place)
    except OSError:
        if not place.is_dir():  # else another process was first, and its entry is as good
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place


def write_cases(path: Path, feeds: list[Arrays], answers: list[Arrays], tolerance: float) -> None:
    """Write ``0/in/name``, ``0/out/name`` … and ``tolerance``; text is stored without pickle."""
    stored: Arrays = {"tolerance": np.array(tolerance)}
    for index, sides in enumerate(zip(feeds, answers, strict=True)):
        for side, named in zip(("in", "out"), sides, strict=True):
            for name, array in named.items():
                text = array.dtype == object
                stored[f"{index}/{side}/{name}"] = array.astype(str) if text else array
    np.savez(path, allow_pickle=False, **stored)


def read(place: Path) -> Built:
    """The entry ``place`` as it was written; text comes back as arrays of str objects."""
    sides: dict[str, list[Arrays]] = {"in": [], "out": []}
    with np.load(place / "cases.npz") as stored:
        tolerance = float(stored["tolerance"])
        for key in stored.files:
            if key == "tolerance":
                continue
            index, side, name = key.split("/", 2)
            if int(index) == len(sides[side]):
                sides[side].append({})
            array = stored[key]
            sides[side][int(index)][name] = (
                array.astype(object) if array.dtype.kind == "U" else array
            )
    return Built(place / "model.onnx", sides["in"], sides["out"], tolerance)
