from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from fornix import system

SHARED = Path("/dev/shm")  # noqa: S108 - what it stands for: memory


def test_at_least_one_processor_may_be_used() -> None:
    assert 1 <= system.usable_processors() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000", 1 << 16), ("150000 100000", 2), ("50000 100000", 1), ("nonsense", 1 << 16)],
)
def test_a_quota_of_a_control_group_is_rounded_up(tmp_path: Path, text: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert system._quota(tmp_path) == expected


def test_the_first_version_of_control_groups_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("250000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert system._quota(tmp_path) == 3
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert system._quota(tmp_path) == 1 << 16


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_affinity_limits_the_processors() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert system.usable_processors() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_systems_without_signals_of_pipes_need_no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "pthread_sigmask", raising=False)
    with system.pipe_errors():
        pass


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no such signal on Windows")
def test_a_broken_pipe_raises_even_where_it_would_end_the_process() -> None:
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(BrokenPipeError), system.pipe_errors():
            os.write(writing, b"x")
    finally:
        os.close(writing)
        signal.signal(signal.SIGPIPE, before)


@pytest.mark.skipif(not SHARED.is_dir(), reason="a file system in memory is required")
def test_times_tell_nothing_of_maps_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryFile(dir=SHARED) as file:
        assert not system.tells_times(file.fileno())
        monkeypatch.setattr(system, "IN_MEMORY", set())
        assert system.tells_times(file.fileno())


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("linux", ".cache/fornix/kernels"),
        ("darwin", "Library/Caches/fornix/kernels"),
        ("win32", "AppData/Local/fornix/kernels"),
    ],
)
def test_caches_lie_where_systems_want_them(
    name: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", name)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    assert system.cache_directory() == tmp_path / wanted


def test_groups_may_have_names_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def strange(path: Path, encoding: str, errors: str) -> str:
        assert str(path) == "/proc/self/cgroup"
        return b"0::/caf\xe9/x\n".decode(encoding, errors)

    monkeypatch.setattr(Path, "read_text", strange)
    assert [len(folder.parts) for folder in system._groups(Path("/sys"))] == [4, 3, 2]


def test_what_the_c_library_lacks_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match=r"^the C library must have no_such_function$"):
        system.address_of("no_such_function")


def test_tile_registers_are_there_on_linux_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert system.may_use_tiles.__wrapped__() is False
