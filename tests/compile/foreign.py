"""Kernels for 64-bit ARM, run by an emulator where there is one.

`run` links kernels with `foreign.c` by a cross compiler, and has QEMU run them on buffers between
pages that must not be touched. On Debian both come from gcc-aarch64-linux-gnu and qemu-user.
"""

from __future__ import annotations

import functools
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fornix.compile import ObjectCache, Target
from fornix.compile.link import compile_object

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
IS_HERE = all(shutil.which(name) for name in (COMPILER, EMULATOR))
SECONDS = 60


class Objects(ObjectCache):
    """Object files for another processor; what is an address elsewhere is a number here."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, int] = {}
        self.contents: list[bytes] = []

    def load(self, texts: Iterable[str], target: Target) -> dict[str, tuple[int, Any]]:
        """The number of each text's object, which defines ``kernel`` and that number."""
        found = {}
        for text in texts:
            if text not in self.numbers:
                number = self.numbers[text] = len(self.contents)
                named = text.replace("@kernel(", f"@kernel{number}(", 1)
                self.contents.append(compile_object(named, target))
            found[text] = (self.numbers[text], self)
        return found


@functools.cache
def _main() -> bytes:
    """The object file of `foreign.c`."""
    source = Path(__file__).with_name("foreign.c")
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "main.o")
        subprocess.run([COMPILER, "-O1", "-c", str(source), "-o", str(result)], check=True)
        return result.read_bytes()


def run(
    objects: Objects,
    target: Target,
    buffers: Sequence[bytes],
    calls: Sequence[tuple[int, Sequence[int], Sequence[int], int, int]],
    *,
    at_end: bool = True,
) -> tuple[int, list[bytes]]:
    """Make ``calls`` of kernels: number, buffers, symbols, bytes of scratch, chunks.

    Returns 0, or the call that failed in the upper and its check's code in the lower 32 bits; and
    the contents of ``buffers`` after that.
    """
    numbers = [number for number, *_ in calls]
    names = [f"@kernel{number}" for number in numbers]
    declared = "\n".join(f"declare i64 {n}(ptr, ptr, ptr, i64, i64)" for n in dict.fromkeys(names))
    entries = ", ".join(f"ptr {n}" for n in names)
    table = f"{declared}\n@kernels = constant [{len(names)} x ptr] [{entries}]\n"
    files = {"main.o": _main(), "table.o": compile_object(table, target)}
    files |= {f"kernel{number}.o": objects.contents[number] for number in set(numbers)}
    fed = struct.pack("<3q", at_end, len(buffers), len(calls))
    for content in buffers:
        fed += struct.pack("<q", len(content)) + content
    for _, arguments, symbols, scratch, chunks in calls:
        words = (len(arguments), *arguments, len(symbols), *symbols, scratch, chunks)
        fed += struct.pack(f"<{len(words)}q", *words)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        program = str(Path(folder, "program"))
        paths = [str(Path(folder, name)) for name in files]
        subprocess.run([COMPILER, "-static", *paths, "-lm", "-o", program], check=True)
        done = subprocess.run(
            [EMULATOR, program], input=fed, stdout=subprocess.PIPE, check=True, timeout=SECONDS
        )
    (code,) = struct.unpack_from("<q", done.stdout)
    place, contents = 8, []
    for content in buffers:
        contents.append(done.stdout[place : place + len(content)])
        place += len(content)
    return code, contents
