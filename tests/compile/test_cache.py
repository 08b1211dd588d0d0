from __future__ import annotations

import gc
import os
import stat
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from ctypes import CDLL, POINTER, c_char_p, c_int, c_void_p, cast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from llvmlite.binding import ffi

from fornix.compile import ObjectCache, Target, disk, link
from fornix.compile.kernel import KERNEL
from fornix.compile.link import Library, compile_object
from fornix.errors import CompileError

TEXT = """define i64 @kernel(ptr %args, ptr %syms, ptr %scratch, i64 %chunk, i64 %chunks) {
  ret i64 NUMBER
}
"""


def text(number: int) -> str:
    return TEXT.replace("NUMBER", str(number))


def loaded(cache: ObjectCache, number: int) -> int:
    address, _ = cache.load([text(number)], Target.host())[text(number)]
    return int(KERNEL(address)(None, None, None, 0, 1))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "objects"


def only_file(directory: Path) -> Path:
    (found,) = directory.glob("*.o")
    return found


def test_a_kernel_is_made_once_and_kept_on_disk(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loaded(ObjectCache(directory), 7) == 7

    def refuse(*_: object) -> bytes:
        raise AssertionError("made again")

    monkeypatch.setattr("fornix.compile.cache.compile_object", refuse)
    assert loaded(ObjectCache(directory), 7) == 7


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_the_directory_is_made_for_its_owner_alone(directory: Path) -> None:
    loaded(ObjectCache(directory), 1)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
def test_a_directory_that_others_may_enter_is_not_used(directory: Path, mode: int) -> None:
    directory.mkdir()
    directory.chmod(mode)
    assert loaded(ObjectCache(directory), 1) == 1
    assert not list(directory.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights")
def test_a_link_in_place_of_the_directory_is_not_followed(tmp_path: Path, directory: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    directory.symlink_to(tmp_path / "elsewhere")
    assert loaded(ObjectCache(directory), 1) == 1
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_file_is_made_anew(directory: Path, damage: str) -> None:
    loaded(ObjectCache(directory), 3)
    file = only_file(directory)
    whole = file.read_bytes()
    broken = bytearray(whole)
    broken[-1] ^= 1
    damaged = {"cut": whole[:-9], "flipped": bytes(broken), "empty": b"", "foreign": b"\x7fELF"}
    file.write_bytes(damaged[damage])
    assert loaded(ObjectCache(directory), 3) == 3
    assert file.read_bytes() == whole


def test_a_file_under_another_name_is_not_trusted(directory: Path) -> None:
    loaded(ObjectCache(directory), 3)
    three = only_file(directory)
    content = three.read_bytes()
    three.unlink()
    loaded(ObjectCache(directory), 4)
    four = only_file(directory)
    four.write_bytes(content)
    assert loaded(ObjectCache(directory), 4) == 4


def test_files_not_used_longest_go_first(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fornix.compile.disk.SHRINK_EVERY", 1)
    loaded(ObjectCache(directory), 1)
    first = only_file(directory)
    os.utime(first, (1, 1))
    loaded(ObjectCache(directory, max_bytes=first.stat().st_size + 1), 2)
    assert first not in list(directory.glob("*.o"))


def test_a_file_that_cannot_take_its_place_is_not_left_behind(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(f"{target} is open")  # as Windows says while somebody reads it

    monkeypatch.setattr(Path, "replace", refuse)
    cache = ObjectCache(directory)
    cache.keep("name", b"note")
    assert cache.note("name") is None
    assert list(directory.iterdir()) == []


def test_what_nobody_is_going_to_write_to_the_end_is_removed(directory: Path) -> None:
    loaded(ObjectCache(directory), 1)
    old, recent = directory / f"{disk.NEW}old", directory / f"{disk.NEW}recent"
    for file in (old, recent):
        file.write_bytes(b"half")
    os.utime(old, (1, 1))
    ObjectCache(directory).disk.write("large", bytes(disk.LARGE + 1), disk.PLAN)
    assert not old.exists()
    assert recent.exists()


def test_the_environment_names_or_disables_the_directory(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORNIX_CACHE", str(directory))
    assert ObjectCache.default().disk.directory == directory
    monkeypatch.setenv("FORNIX_CACHE", "0")
    assert ObjectCache.default().disk.directory is None
    monkeypatch.delenv("FORNIX_CACHE")
    found = ObjectCache.default().disk.directory
    assert found is not None
    assert found.parts[-2:] == ("fornix", "kernels")


def test_targets_do_not_share_code(directory: Path) -> None:
    cache = ObjectCache(directory)
    cache.load([text(1)], Target.host())
    cache.load([text(1)], Target.masked("x86-64"))
    assert len(list(directory.glob("*.o"))) == 2


def test_text_that_is_no_module_is_an_error() -> None:
    with pytest.raises(CompileError, match="LLVM rejects a kernel"):
        compile_object("define i64 @kernel() { ret i32 }", Target.host())


def test_threads_make_code_side_by_side_that_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = [compile_object(text(n), Target.host()) for n in range(4)]
    meeting, free = threading.Barrier(4, timeout=20), link._generate()
    assert free is not None

    def generate(*given: object) -> object:
        meeting.wait()
        return free(*given)

    monkeypatch.setattr(link, "_generate", lambda: generate)
    with ThreadPoolExecutor(4) as workers:
        found = workers.map(compile_object, map(text, range(4)), [Target.host()] * 4)
        assert list(found) == one_by_one


def test_more_threads_than_places_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_PLACES", [threading.Lock()])
    with ThreadPoolExecutor(3) as workers:
        found = list(workers.map(compile_object, map(text, range(9)), [Target.host()] * 9))
    assert found == [compile_object(text(n), Target.host()) for n in range(9)]


def test_whoever_waits_gets_any_place_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Semaphore(0)

    class Place:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.lock.acquire()
            self.release = self.lock.release

        def acquire(self, *, blocking: bool = True) -> bool:
            if blocking:
                waiting.release()
            return self.lock.acquire(blocking)

    places = [Place(), Place()]
    monkeypatch.setattr(link, "_PLACES", places)
    with ThreadPoolExecutor(2) as workers:
        found = [workers.submit(compile_object, text(n), Target.host()) for n in range(2)]
        assert all(waiting.acquire(timeout=20) for _ in found)
        places[1].release()
        done = wait(found, timeout=20, return_when=FIRST_COMPLETED).done
        places[0].release()
    assert len(done) == 1


def test_a_version_whose_function_is_another_makes_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = compile_object(text(1), Target.host())
    known = ffi.lib.LLVMPY_TargetMachineEmitToMemory
    for types, result, more in (
        (None, c_int, {"_cfn": known}),
        ([*known.argtypes, c_int], known.restype, {"_cfn": known}),
        (known.argtypes, known.restype, {}),
    ):
        other = SimpleNamespace(argtypes=types, restype=result, **more)
        lib = SimpleNamespace(LLVMPY_TargetMachineEmitToMemory=other)
        with monkeypatch.context() as patch:
            patch.setattr(link, "ffi", SimpleNamespace(lib=lib))
            assert link._generate.__wrapped__() is None
    monkeypatch.setattr(link, "_generate", lambda: None)
    assert compile_object(text(1), Target.host()) == expected


@pytest.mark.parametrize("reason", ["", "no such relocation"])
def test_code_that_is_not_made_is_an_error(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    string = CDLL(ffi.lib._name).LLVMPY_CreateString
    string.argtypes, string.restype = [c_char_p], c_void_p

    def generate(*given: Any) -> None:
        if reason:
            cast(given[-1]._as_parameter_, POINTER(c_void_p))[0] = string(reason.encode())

    monkeypatch.setattr(link, "_generate", lambda: generate)
    with pytest.raises(CompileError, match=f"rejects a kernel: {reason or 'no code is made'}"):
        compile_object(text(1), Target.host())


def test_errors_that_are_kept_free_modules_before_their_contexts() -> None:
    invalid = "define i64 @kernel() {\n %a = add i64 %b, 1\n %b = add i64 %a, 1\n ret i64 %a\n}"

    def kept() -> None:
        errors: list[CompileError] = []
        try:
            compile_object(invalid, Target.host())
        except CompileError as error:
            errors.append(error)  # a cycle: the traceback of an error keeps this frame
        assert "dominate" in str(errors)

    for _ in range(20):
        kept()
    gc.collect()
    assert compile_object(text(1), Target.host())


def test_a_function_that_the_process_lacks_is_an_error() -> None:
    broken = "declare i64 @nowhere()\ndefine i64 @k() {\n %x = call i64 @nowhere()\n ret i64 %x\n}"
    with pytest.raises(CompileError, match="a kernel cannot be loaded"):
        Library({"k": compile_object(broken, Target.host())})


def test_what_is_no_object_file_is_an_error() -> None:
    with pytest.raises(CompileError, match="a kernel cannot be loaded"):
        Library({"k": b"nothing"})
