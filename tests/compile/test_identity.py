from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fornix.compile import identity
from fornix.errors import InvalidArgument

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
stepping\t: 8
cpu MHz\t\t: 2000.000
flags\t\t: fpu avx2 avx512f

processor\t: 1
"""
ARM = "processor: 0\nCPU implementer: 0x41\nCPU part: 0xd0c\nFeatures: fp asimd\n"


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    cached = (
        identity.level, identity.processor, identity.compiler, identity.sources,
        identity.package, identity._found,
    )  # fmt: skip
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def processor(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(identity, "PROCESSORS", tmp_path / "cpuinfo")
    identity.processor.cache_clear()
    return identity.processor()


def test_a_processor_is_known_by_its_kind_and_its_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = processor(X86, tmp_path, monkeypatch)
    assert "flags=fpu avx2 avx512f" in first
    assert processor(X86.replace("2000", "800"), tmp_path, monkeypatch) == first
    assert processor(X86.replace(" avx512f", ""), tmp_path, monkeypatch) != first
    assert "Features=fp asimd" in processor(ARM, tmp_path, monkeypatch)


def test_a_processor_of_which_nothing_is_told_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert processor("processor: 0\nmodel name: something\n", tmp_path, monkeypatch) == ""
    monkeypatch.setattr(identity, "PROCESSORS", tmp_path / "missing")
    identity.processor.cache_clear()
    assert identity.processor() == ""


def test_without_llvmlite_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "llvmlite" in identity.compiler()
    identity.compiler.cache_clear()
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    assert identity.compiler() == ""


@pytest.mark.parametrize("place", ["room/inner/module.py", "module.py"])
def test_sources_are_known_by_place_time_and_size(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "__file__", str(tmp_path / "compile" / "identity.py"))
    module = tmp_path / place
    module.parent.mkdir(parents=True, exist_ok=True)
    found = []
    for text in ("", "x = 1", "x = 12"):
        module.write_text(text)
        identity.sources.cache_clear()
        identity._found.cache_clear()
        found.append(identity.sources(("room",)))
    assert len(set(found)) == 3
    assert identity.sources(("room", "missing")) == found[-1]


def test_a_package_is_known_by_names_and_sizes_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for place, text in (("a", "x = 1"), ("b", "x = 1"), ("c", "x = 12")):
        module = tmp_path / place / "room" / "inner" / "module.py"
        module.parent.mkdir(parents=True)
        module.write_text(text)
        monkeypatch.setattr(identity, "__file__", str(tmp_path / place / "compile" / "identity.py"))
        identity.package.cache_clear()
        identity._found.cache_clear()
        found.append(identity.package(("room",)))
    assert found[0] == found[1] != found[2]


def test_a_level_of_the_processor_can_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORNIX_TARGET", "x86-64-v3")
    text = X86.replace("avx2", "avx2 fma f16c")
    assert processor(text, tmp_path, monkeypatch) == "x86-64-v3"
    identity.level.cache_clear()
    with pytest.raises(InvalidArgument, match=r"'x86-64-v3', .* not here: avx2, f16c, fma"):
        processor(ARM, tmp_path, monkeypatch)


def test_flags_are_known_as_linux_and_as_llvm_write_them() -> None:
    wide = "avx2 f16c fma avx512f avx512bw avx512dq avx512vl".split()
    identity.check_level("cooperlake", [*wide, "avx512_vnni", "avx512_bf16"])
    identity.check_level("cooperlake", [*wide, "avx512vnni", "avx512bf16"])
    with pytest.raises(InvalidArgument, match=r"not here: avx512bf16$"):
        identity.check_level("cooperlake", [*wide, "avx512_vnni"])


def test_what_is_no_level_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORNIX_TARGET", "avx2")
    with pytest.raises(InvalidArgument, match=r"one of host, x86-64, x86-64-v3, .* found 'avx2'"):
        identity.level()
