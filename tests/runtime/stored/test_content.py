from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

import onnx
import pytest

from fornix.format.mapped import Identity, MappedBytes, MappedFile, Memory
from fornix.format.messages import ModelProto, own
from fornix.runtime.stored import content
from fornix.runtime.stored.content import Content
from fornix.runtime.threads import Pool

POOL = Pool(2)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of more pieces than there are threads, at rest since long ago."""
    monkeypatch.setattr(content, "PIECE_BYTES", 1000)
    monkeypatch.setattr(content, "READ_BYTES", 300)
    target = tmp_path / "model.onnx"
    target.write_bytes(bytes(range(256)) * 20)
    return target


def of(source: object, pool: Pool = POOL) -> Content:
    found = Content.of(source, pool)
    assert found is not None
    return found


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + seconds)
    monkeypatch.setattr(content, "tells_times", lambda _: True)  # also where /tmp is in memory


def test_a_digest_is_that_of_pieces_whoever_makes_it(path: Path) -> None:
    body = path.read_bytes()
    pieces = [hashlib.sha256(body[at : at + 1000]).digest() for at in range(0, len(body), 1000)]
    wanted = hashlib.sha256(len(body).to_bytes(8, "little") + b"".join(pieces)).digest()
    assert of(path).digest == of(path, Pool(1)).digest == of(body).digest == wanted
    assert of(body[:-1]).digest != wanted
    assert of(bytes([1]) + body[1:]).digest != wanted


def test_other_sources_have_no_content(tmp_path: Path) -> None:
    for source in (tmp_path / "absent.onnx", tmp_path, "null\0.onnx", object()):
        assert Content.of(source, POOL) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system with named pipes is required")
def test_what_can_be_read_once_is_left_to_who_loads_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    assert Content.of(tmp_path / "pipe.onnx", POOL) is None


def test_a_file_in_use_needs_no_second_look_once_it_is_at_rest(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = of(path)
    assert of(path).region is not fresh.region
    later(monkeypatch, content.SECONDS_AT_REST + 1)
    known = of(path)
    assert of(path).region is known.region
    copy = path.with_name("copy.onnx")
    copy.write_bytes(path.read_bytes())
    assert of(copy).region is not known.region
    assert of(copy).digest == known.digest


@pytest.mark.parametrize("how", ["written to", "replaced", "written to with its time set back"])
def test_a_file_that_is_no_longer_the_same_is_looked_at_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    later(monkeypatch, content.SECONDS_AT_REST + 1)
    known, status = of(path), path.stat()
    body = path.read_bytes()[::-1]
    if how == "replaced":
        other = path.with_name("other")
        other.write_bytes(body)
        other.replace(path)
    else:
        path.write_bytes(body)
    if how == "written to with its time set back":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert of(path).digest == of(body).digest != known.digest
    if how != "replaced":  # renaming over a file changes the links of the old one only
        assert not known.is_intact


def test_places_are_those_of_the_same_bytes(path: Path, tmp_path: Path) -> None:
    body = path.read_bytes()
    file, memory = of(path), of(body)
    assert file.place(MappedBytes(MappedFile.open(path), 30, 10)) == (0, 30)
    assert memory.place(MappedBytes(Memory(body), 40, 10)) == (0, 40)
    (tmp_path / "other.onnx").write_bytes(body)
    others = MappedFile.open(tmp_path / "other.onnx"), Memory(bytes(bytearray(body)))
    for region in others:
        assert file.place(MappedBytes(region, 0, 10)) is None
        assert memory.place(MappedBytes(region, 0, 10)) is None
    assert file.place(None) is None


def test_files_beside_a_model_are_parts_of_it(path: Path, tmp_path: Path) -> None:
    body = bytes(range(200))
    (tmp_path / "w.bin").write_bytes(body)
    model = of(path)
    assert model.look_at(["w.bin"], POOL)
    assert model.digests == {"w.bin": of(body).digest.hex()}
    place = MappedBytes(MappedFile.open(tmp_path / "w.bin"), 30, 10)
    assert model.place(place) == (1, 30)
    assert model.payload(1, 30, 10).tobytes() == body[30:40]
    other = of(path)
    assert other.holds(model.digests, POOL)
    assert not of(path).holds({"w.bin": model.digest.hex()}, POOL)
    assert not of(path.read_bytes()).holds(model.digests, POOL)
    assert model.is_intact
    assert model.is_what_was_read(POOL)
    (tmp_path / "w.bin").write_bytes(body[::-1])
    assert not other.is_intact
    assert not model.is_what_was_read(POOL)
    assert not of(path).holds(model.digests, POOL)


@pytest.mark.parametrize("location", ["absent.bin", "../w.bin", "/w.bin", "link.bin", "folder"])
def test_files_that_no_model_may_name_are_not_looked_at(path: Path, location: str) -> None:
    (path.parent / "folder").mkdir()
    (path.parent.parent / "w.bin").write_bytes(b"w")
    if hasattr(os, "symlink"):
        (path.parent / "link.bin").symlink_to(path)
    assert not of(path).look_at([location], POOL)


def test_models_in_memory_are_settled_as_bytes() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> f (float[N] x) => () {}'
    )
    body = model.SerializeToString()
    assert content.settled(model) == content.settled(own(model, ModelProto)) == body
    assert content.settled(bytearray(body)) == content.settled(memoryview(body)) == body
    for source in ("model.onnx", Path("model.onnx"), model.graph, object()):
        assert content.settled(source) is source


def test_a_message_that_is_too_large_stays_a_message() -> None:
    class Large:
        DESCRIPTOR = ModelProto.DESCRIPTOR

        def SerializeToString(self) -> bytes:
            raise ValueError("too large")

    large = Large()
    assert content.settled(large) is large


def test_a_model_that_was_read_from_something_else_is_told(path: Path) -> None:
    body, known = path.read_bytes(), of(path)
    assert of(body).is_what_was_read(POOL)
    assert known.is_what_was_read(POOL)
    other = path.with_name("other")
    other.write_bytes(body)
    other.replace(path)
    assert not known.is_what_was_read(POOL)
    path.unlink()
    assert not known.is_what_was_read(POOL)


def test_of_a_file_that_was_just_written_bytes_are_compared(path: Path) -> None:
    known = of(path)
    assert not known.is_at_rest
    known._model.digest = b"another"  # as if written to between two ticks of the clock
    assert not known.is_what_was_read(POOL)


@pytest.fixture
def digested(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were digested; small ones are worth remembering, in our cache."""
    if sys.platform != "linux":
        pytest.skip("only Linux tells the kind of a file system")
    found: list[str] = []
    original = content._model_digest

    def digest(region: MappedFile | Memory, pool: Pool) -> bytes:
        found.append(region.name)
        return original(region, pool)

    monkeypatch.setattr(content, "_model_digest", digest)
    monkeypatch.setattr(content, "WORTH_REMEMBERING", 1)
    monkeypatch.setattr(content, "tells_times", lambda _: True)
    monkeypatch.setenv("FORNIX_CACHE", str(tmp_path / "cache"))
    return found


def test_the_digest_of_a_file_at_rest_is_remembered(
    path: Path, digested: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    of(path)
    of(path)
    assert len(digested) == 2  # it has just been written
    later(monkeypatch, content.SECONDS_AT_REST + 1)
    wanted = of(path).digest
    assert (of(path).digest, len(digested)) == (wanted, 3)
    body = path.read_bytes()[::-1]
    status = path.stat()
    path.write_bytes(body)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert of(path).digest == of(body).digest != wanted


def test_no_digest_is_believed_that_is_not_from_our_own_cache(
    path: Path, digested: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch, content.SECONDS_AT_REST + 1)
    wanted = of(path).digest
    (note,) = (tmp_path / "cache").glob("d*.json")
    note.write_bytes(note.read_bytes()[:-1] + b"?")
    assert of(path).digest == wanted
    (tmp_path / "cache").chmod(0o755)  # where others may look, others may have been
    assert of(path).digest == wanted
    assert len(digested) == 3


def test_where_times_do_not_tell_of_maps_no_digest_is_remembered(
    path: Path, digested: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch, content.SECONDS_AT_REST + 1)
    monkeypatch.setattr(content, "tells_times", lambda _: False)
    of(path)
    of(path)
    assert len(digested) == 2


def test_where_times_are_whole_seconds_no_digest_is_remembered(
    path: Path, digested: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in images of file systems, each made with the same times and numbers of files."""
    later(monkeypatch, content.SECONDS_AT_REST + 1)
    original = Identity.of

    def in_seconds(status: os.stat_result) -> Identity:
        return original(status)._replace(changed=status.st_ctime_ns // 10**9 * 10**9)

    monkeypatch.setattr(Identity, "of", in_seconds)
    of(path)
    of(path)
    assert len(digested) == 2


def test_a_file_that_is_written_to_while_it_is_digested_is_not_remembered(
    path: Path, digested: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch, content.SECONDS_AT_REST + 1)
    status = path.stat()

    def digest(region: MappedFile | Memory, pool: Pool) -> bytes:
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return content.digest_of(region, 0, region.size, pool)

    monkeypatch.setattr(content, "_model_digest", digest)
    of(path)
    assert not list((tmp_path / "cache").glob("d*"))
