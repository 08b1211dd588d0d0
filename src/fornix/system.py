"""What differs between systems, all of it: nothing else asks which one this is.

Decides which processors we may use and where threads wait, where caches lie and whose they are, and
whether memory can be run. Where a system lacks something, there is a way that needs nothing of it.
"""

from __future__ import annotations

import ctypes
import functools
import math
import mmap
import os
import platform
import signal
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

READS_ANYWHERE = platform.machine().lower() in {"x86_64", "amd64", "aarch64", "arm64"}
"""Whether processors of this kind read elements at any address."""

LONG_BYTES = 8
NAP_MICROSECONDS = 50
"""For which a thread sleeps that has waited long; Windows knows milliseconds."""
CGROUPS = Path("/sys/fs/cgroup")
IN_MEMORY = {0x01021994, 0x858458F6}
"""Kinds of file systems of Linux, tmpfs and ramfs, that note no time when a map is written to."""
STATFS_BYTES = 256
"""More than what the system says of a file system; its kind comes first."""
ARCH_PRCTL, ASK_FOR_STATE, TILE_DATA = 158, 0x1023, 18
"""Numbers that Linux has on x86-64: of a call, of a permission, of what tile registers hold.
Source: Linux, Documentation/arch/x86/xstate.rst."""


def usable_processors() -> int:
    """Processors that affinity and the control group's quota grant, at least 1."""
    return max(1, min(_affinity(), _quota(CGROUPS)))


def _affinity() -> int:
    """Processors that the scheduler may give us."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(root: Path) -> int:
    """Processors' worth of time that a control group of Linux allows, rounded up."""
    limits = [math.inf]
    for folder in _groups(root):
        try:
            quota, period = (folder / "cpu.max").read_text("utf-8", "replace").split()
            if quota != "max":
                limits.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    try:  # version 1 of control groups
        quota = (root / "cpu" / "cpu.cfs_quota_us").read_text("utf-8")
        period = (root / "cpu" / "cpu.cfs_period_us").read_text("utf-8")
        if int(quota) > 0:
            limits.append(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        pass
    return math.ceil(min(limits)) if min(limits) < math.inf else 1 << 16


def _groups(root: Path) -> list[Path]:
    """The control groups of version 2 that this process is in, the innermost first."""
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return [root]
    inner = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = root / inner.lstrip("/")
    inside = [folder, *folder.parents]
    return [f for f in inside if f == root or root in f.parents]


def keep_apart(threads: Iterable[int | None]) -> frozenset[int]:
    """Keep ``threads``, which are asleep, off the processor that the caller runs on.

    A scheduler likes to wake a thread where it was called from; there it would wait for the caller
    to pause. Gives the processors that they may use once they are awake; none where the system does
    not say or does not let us, and nothing was done.
    """
    if _current_processor is None:
        return frozenset()
    try:
        allowed = frozenset(os.sched_getaffinity(0))
    except OSError:
        return frozenset()
    others = allowed - {_current_processor()}
    for thread in threads if others else ():
        if thread is not None:
            with suppress(OSError):  # one that is over
                os.sched_setaffinity(thread, others)
    return allowed


def use_processors(allowed: frozenset[int]) -> None:
    """Let the caller run on all of ``allowed``, if any."""
    if allowed:
        with suppress(OSError):
            os.sched_setaffinity(0, allowed)


def waiting() -> tuple[int, int, int]:
    """The system's functions that leave the processor to others and that sleep, and how long."""
    if sys.platform == "win32":
        leave, sleep, nap = ctypes.windll.kernel32.SwitchToThread, ctypes.windll.kernel32.Sleep, 1
    else:
        system = ctypes.CDLL(None)
        leave, sleep, nap = system.sched_yield, system.usleep, NAP_MICROSECONDS
    return _address(leave), _address(sleep), nap


def _address(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


def cache_directory() -> Path | None:
    """The directory for caches of this user, by the system's rules; None without a home."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local") / "fornix/kernels"
    if sys.platform == "darwin":
        return home / "Library/Caches/fornix/kernels"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "fornix/kernels"


def is_private(directory: Path) -> bool:
    """Whether ``directory`` is one and belongs to this user alone, where systems tell that."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        return False
    if sys.platform == "win32":
        return True
    return found.st_uid == os.getuid() and not found.st_mode & 0o077


def is_mappable() -> bool:
    """Whether this system runs machine code from memory that we map ourselves."""
    return sys.platform == "linux" and ctypes.sizeof(ctypes.c_void_p) == LONG_BYTES


def address_of(name: str) -> int:
    """Where a function of the C library begins; raises OSError if there is none."""
    try:
        return _address(getattr(ctypes.CDLL(None), name))
    except AttributeError as error:
        raise OSError(f"the C library must have {name}") from error


def make_executable(address: int, size: int) -> None:
    """Make memory executable, and no longer writable; raises OSError if nobody may run it."""
    function = ctypes.CDLL(None, use_errno=True).mprotect
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if function(address, size, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "memory cannot be made executable")


@functools.cache
def may_use_tiles() -> bool:
    """Whether this process may use tile registers (AMX), which it asks for; so may its forks."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    ask = ctypes.CDLL(None).syscall
    return bool(ask(ARCH_PRCTL, ASK_FOR_STATE, TILE_DATA) == 0)


def give_back() -> None:
    """Let the system have memory that Python gave up, where the C library keeps it for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def tells_times(descriptor: int) -> bool:
    """Whether the times of a file change whenever somebody writes to it, also through a map."""
    ask = getattr(ctypes.CDLL(None), "fstatfs", None) if sys.platform == "linux" else None
    if ask is None:
        return False
    found = (ctypes.c_long * (STATFS_BYTES // ctypes.sizeof(ctypes.c_long)))()
    return ask(descriptor, found) == 0 and found[0] not in IN_MEMORY


@contextmanager
def pipe_errors() -> Iterator[None]:
    """Writing to a process that is gone raises here, where systems let it end the writer too."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, which has no such signal
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        yield
    finally:
        if signal.SIGPIPE not in before:
            if signal.SIGPIPE in signal.sigpending():
                signal.sigwait({signal.SIGPIPE})
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _processor_finder() -> Callable[[], int] | None:
    """The system's function that gives the number of the processor that runs it."""
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "sched_getcpu", None)


_current_processor = _processor_finder()
