"""The machine that numbers were measured on, as far as the system tells."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VECTORS = "avx2 fma avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_tile asimd sve i8mm".split()
"""Features of processors that speed depends on, as Linux spells them."""


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system, versions and load."""
    from importlib.metadata import version

    told = cpu()
    return {
        "processor": told.get("model name") or platform.processor() or platform.machine(),
        "family": {key: told[key] for key in ("cpu family", "model", "stepping") if key in told},
        "features": [name for name in VECTORS if name in told.get("flags", "").split()],
        "cores": cores(),
        "quota": quota(),
        "memory_bytes": memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "load": load(),
    }


def cpu() -> dict[str, str]:
    """What Linux says of the first processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota() -> float | None:
    """Processors that the control group grants, None for all."""
    try:
        allowed, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if allowed == "max" else int(allowed) / int(period)


def memory() -> int | None:
    """Bytes of memory."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def load() -> float | None:
    """Mean number of processes at work during the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def machine_text(told: Mapping[str, Any]) -> str:
    """One line for people."""
    from fornix.cli.console import size_text

    parts = [told["processor"]]
    if told["features"]:
        parts.append("/".join(told["features"]))
    parts.append(f"{told['cores']} cores")
    if told["quota"] is not None:
        parts.append(f"quota {told['quota']:g}")
    if told["memory_bytes"]:
        parts.append(size_text(told["memory_bytes"]))
    parts += [told["system"], f"Python {told['python']}", f"NumPy {told['numpy']}"]
    if told["load"] is not None:
        after = told.get("load_after")
        parts.append(f"load {told['load']:.1f}" + (f" to {after:.1f}" if after is not None else ""))
    return "machine: " + ", ".join(parts)
