"""What machine code depends on besides the model: the processor, and fornix itself.

Decides by which facts two processes know that they may share what one of them has made. None of
them needs LLVM, which is slow to load.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from fornix import __version__
from fornix.errors import InvalidArgument
from fornix.system import may_use_tiles

ROOMS = ("ir", "ops", "infer", "compile")
"""Rooms whose sources decide what the code of a unit is, with those outside of rooms."""
ALL_ROOMS = (*ROOMS, "format", "passes", "reference", "runtime")
"""Rooms whose sources decide what becomes of a whole model, with those outside of rooms."""
PROCESSORS = Path("/proc/cpuinfo")
PROCESSOR_FIELDS = (
    "vendor_id", "cpu family", "model", "stepping", "flags",
    "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features",
)  # fmt: skip
"""Fields that Linux has of a processor on which its instructions depend: x86, then ARM."""
FIRST_BYTES = 1 << 14
"""Bytes in which the first processor is described."""
_V3 = {"avx2", "f16c", "fma"}
_V4 = _V3 | {"avx512bw", "avx512dq", "avx512f", "avx512vl"}
LEVELS = {
    "x86-64": {"sse2"},
    "x86-64-v3": _V3,
    "x86-64-v4": _V4,
    "cooperlake": _V4 | {"avx512bf16", "avx512vnni"},
}
"""Processors that code can be made for instead of this one, by flags that tell them, without the
underscores that Linux writes in some. Source: System V ABI, x86-64 supplement."""
_REQUIRED = f"FORNIX_TARGET: one of host, {', '.join(LEVELS)} is required"


@functools.cache
def level() -> str:
    """The processor that ``FORNIX_TARGET`` asks for; empty: this very processor.

    Raises InvalidArgument for what is no level, and for one that this processor does not reach.
    """
    chosen = os.environ.get("FORNIX_TARGET", "")
    if chosen in {"", "host"}:
        return ""
    if chosen not in LEVELS:
        raise InvalidArgument(f"{_REQUIRED}, found {chosen!r}")
    if described := _described():
        check_level(chosen, described.get("flags", "").split())
    return chosen


def check_level(name: str, available: Collection[str]) -> None:
    """Raise InvalidArgument if code of a level takes other instructions than ``available``."""
    if missing := sorted(LEVELS[name].difference(flag.replace("_", "") for flag in available)):
        raise InvalidArgument(
            f"{_REQUIRED}, found {name!r}, which takes instructions that are not here: "
            f"{', '.join(missing)}"
        )


@functools.cache
def processor() -> str:
    """The processor with its instruction sets; empty where the system does not tell."""
    if level():
        return level()
    found = _described()
    if not found.get("flags") and not found.get("Features"):
        return ""
    fields = [f"{name}={found.get(name)}" for name in PROCESSOR_FIELDS]
    return "\n".join([*fields, f"tiles={may_use_tiles()}"])


def _described() -> dict[str, str]:
    """What Linux says of the first processor; nothing elsewhere."""
    try:
        with PROCESSORS.open(encoding="utf-8", errors="replace") as file:
            text = file.read(FIRST_BYTES)
    except OSError:
        return {}
    first = text.partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


@functools.cache
def compiler() -> str:
    """The installation of llvmlite; empty without one."""
    found = importlib.util.find_spec("llvmlite")
    if found is None or found.origin is None:
        return ""
    status = Path(found.origin).stat()
    return f"{found.origin}:{status.st_mtime_ns}:{status.st_size}"


@functools.cache
def sources(rooms: Sequence[str]) -> bytes:
    """A digest of the version, and of the places, times and sizes of the sources of ``rooms``."""
    sha = hashlib.sha256(f"{__version__} {_root()}".encode())
    for path, status in _found(rooms):
        sha.update(f"{path}:{status.st_mtime_ns}:{status.st_size};".encode())
    return sha.digest()


@functools.cache
def package(rooms: Sequence[str]) -> str:
    """A digest of the names and sizes of the sources of ``rooms``: the same wherever they lie."""
    sizes = [(path.replace(os.sep, "/"), status.st_size) for path, status in _found(rooms)]
    return hashlib.sha256(repr(sorted(sizes)).encode()).hexdigest()


@functools.cache
def _found(rooms: Sequence[str]) -> list[tuple[str, os.stat_result]]:
    """The sources of ``rooms``, and those outside of rooms, by their places in the package."""
    root = _root()
    start = len(str(root)) + 1
    folders = filter(Path.is_dir, (root / room for room in rooms))
    found = [(str(path), path.stat()) for path in root.glob("*.py")]
    found += (module for room in folders for module in _modules(room))
    return sorted((path[start:], status) for path, status in found)


def _root() -> Path:
    return Path(__file__).resolve().parent.parent


def _modules(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry.path, entry.stat()
            elif entry.is_dir() and entry.name != "__pycache__":
                yield from _modules(Path(entry.path))
