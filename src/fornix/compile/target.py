"""The machine that code is made for: `Target`.

Decides what the rest of the compiler may assume of a processor: its instructions, the width and
number of its vector registers, its caches. How instructions are chosen is LLVM's business.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

from llvmlite import binding as llvm

from fornix.compile.identity import check_level, level
from fornix.system import may_use_tiles

_V3 = frozenset({"sse2", "sse4.1", "avx", "avx2", "fma", "f16c"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
# What `Target.masked` knows, as LLVM calls it: vector bytes, number of vector registers, and the
# instruction sets that the compiler asks for. Levels of x86-64, from the supplement of the System V
# ABI; a processor that multiplies bytes in vectors of 256 bits, but has none of 512; and one that
# has what later ones have of AVX-512, but no tile registers.
_LEVELS: dict[str, tuple[int, int, frozenset[str]]] = {
    "x86-64": (16, 16, frozenset({"sse2"})),
    "x86-64-v3": (32, 16, _V3),
    "x86-64-v4": (64, 32, _V4),
    "alderlake": (32, 16, _V3 | {"avxvnni"}),
    "cooperlake": (64, 32, _V4 | {"avx512vnni", "avx512bf16"}),
}
_USED = frozenset({
    "sse2", "sse4.1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl",
    "avx512vbmi", "avx512vnni", "avxvnni", "avx512bf16", "neon", "dotprod",
    "amx-tile", "amx-int8", "amx-bf16",
})  # fmt: skip
_OF_TILES = frozenset({"amx-tile", "amx-int8", "amx-bf16"})
"""What the system has to let a process use."""

WIDEST = 64
"""Bytes of the vectors that AVX-512 adds."""
LINE_BYTES = 64
"""Of a line of a cache."""
DEFAULT_L1, DEFAULT_L2 = 32 << 10, 512 << 10
"""Bytes of caches that nobody tells us of; the smallest of current machines."""


@dataclass(frozen=True)
class Target:
    """A processor: what it is called, what it can do, how large its registers and caches are."""

    cpu: str
    features: frozenset[str]
    vector_bytes: int
    vector_registers: int
    l1_bytes: int = DEFAULT_L1
    l2_bytes: int = DEFAULT_L2
    attributes: str = ""
    """All features as LLVM writes them: ``+avx2,-avx512f``; empty: those of `cpu`."""
    rounds_products: bool = False
    """Whether products of float32 may round their factors to bfloat16."""
    is_strict: bool = False
    """Whether faster algorithms are left out that round more than the sums which they replace."""
    triple: str = ""
    """The platform as LLVM calls it; empty: the one that this process runs on."""

    @staticmethod
    @functools.cache
    def host() -> Target:
        """The processor that this process runs on, or the level of it that the user asks for."""
        if not level():
            return Target.present()
        check_level(level(), Target.present().features)
        return Target.masked(level())

    @staticmethod
    @functools.cache
    def present() -> Target:
        """The processor that this process runs on, with all that it has."""
        _initialize()
        flags = llvm.get_host_cpu_features()
        found = frozenset(name for name, present in flags.items() if present) & _USED
        if not may_use_tiles():
            found -= _OF_TILES
        vector_bytes, registers = _registers(found)
        return Target(
            cpu=llvm.get_host_cpu_name(),
            features=found,
            vector_bytes=vector_bytes,
            vector_registers=registers,
            l1_bytes=_cache_bytes(1) or DEFAULT_L1,
            l2_bytes=_cache_bytes(2) or DEFAULT_L2,
            attributes=flags.flatten(),
        )

    @staticmethod
    def masked(name: str) -> Target:
        """The host, restricted to a level of x86-64 or to what "alderlake" or "cooperlake" has."""
        vector_bytes, registers, features = _LEVELS[name]
        return dataclasses.replace(
            Target.present(),
            cpu=name,
            features=features,
            vector_bytes=vector_bytes,
            vector_registers=registers,
            attributes="",
        )

    @staticmethod
    @functools.cache
    def aarch64() -> Target:
        """Any 64-bit ARM under Linux: what all of them have. This process may not run its code."""
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        return Target(
            cpu="generic",
            features=frozenset({"neon"}),
            vector_bytes=16,
            vector_registers=32,
            triple="aarch64-linux-gnu",
        )

    def has(self, feature: str) -> bool:
        """Whether instructions called ``feature`` may be used."""
        return feature in self.features

    @property
    def is_x86(self) -> bool:
        """Whether the processor is an x86-64."""
        return self.has("sse2")

    def multiplies_bytes(self, width: int) -> bool:
        """Whether bytes are multiplied in one instruction in vectors of ``width`` bytes."""
        if width == WIDEST:
            return self.has("avx512vnni")
        return self.has("avxvnni") or {"avx512vnni", "avx512vl"} <= self.features

    @property
    def rounds(self) -> bool:
        """Whether floor, ceil, trunc and rint are instructions."""
        return not self.is_x86 or self.has("sse4.1")

    @property
    def fuses(self) -> bool:
        """Whether ``a*b + c`` is one instruction."""
        return not self.is_x86 or self.has("fma")

    @property
    def least_masked(self) -> int:
        """Bytes of the narrowest elements of which instructions read some lanes and not others."""
        return 1 if self.has("avx512bw") else 4

    @property
    def is_wide(self) -> bool:
        """Whether it multiplies whole vectors as often as halves of them: twice in each cycle.

        Processors with tile registers do; of others, some multiply two halves in that time.
        """
        return self.has("amx-tile")

    @functools.cached_property
    def text(self) -> str:
        """Everything that machine code depends on, for keys of caches.

        Asked for once: LLVM answers nobody while another thread has it compile.
        """
        strict = " strict" if self.is_strict else ""
        strict += " rounds" if self.rounds_products else ""
        tiles = "".join(f" {name}" for name in sorted(self.features & _OF_TILES))
        machine = f"{self.cpu} {self.attributes} {self.vector_bytes}{tiles}"
        return f"{self.triple or llvm.get_default_triple()} {machine}{strict}"


@functools.cache
def _initialize() -> None:
    """Make LLVM know the processor of this machine; further calls do nothing."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _registers(features: frozenset[str]) -> tuple[int, int]:
    """Bytes in a vector register and their number."""
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= features:
        return 64, 32
    if "avx2" in features:
        return 32, 16
    return 16, 16 if "sse2" in features else 32


def _cache_bytes(level: int) -> int | None:
    """Bytes in the data cache of ``level`` of the first core, as Linux tells."""
    for entry in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind = (entry / "type").read_text().strip()
            size = (entry / "size").read_text().strip()
            found = int((entry / "level").read_text())
        except (OSError, ValueError):
            continue
        if found == level and kind in {"Data", "Unified"} and size.endswith("K"):
            return int(size[:-1]) << 10
    return None
