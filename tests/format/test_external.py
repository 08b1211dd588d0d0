from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fornix.errors import ExternalDataError, FormatError, TensorDataError
from fornix.format import beneath, external, files
from fornix.format.external import ExternalFile, Folder
from fornix.format.mapped import MappedBytes
from fornix.format.messages import ModelProto, TensorProto
from fornix.format.walk import tensors
from fornix.format.wire import Skeleton

posix = pytest.mark.skipif(os.name == "nt", reason="needs links and pipes")


def tensor(location: str = "w.bin", dims: Sequence[int] = (4,), **keys: object) -> TensorProto:
    """An external float32 tensor named w."""
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims)
    made.data_location = TensorProto.EXTERNAL
    return said(made, {"location": location, **keys})


def said(made: TensorProto, keys: dict[str, object]) -> TensorProto:
    for key, value in keys.items():
        made.external_data.add(key=key, value=str(value))
    return made


CONTENT = np.arange(8, dtype=np.float32).tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "model"
    (inside / "sub").mkdir(parents=True)
    (inside / "w.bin").write_bytes(CONTENT)
    (inside / "sub" / "w.bin").write_bytes(CONTENT)
    (tmp_path / "secret.bin").write_bytes(CONTENT)
    return inside


@pytest.fixture(params=["beneath", "portable"])
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to walk a path: relative to descriptors, and by looking first."""
    if request.param == "beneath" and not beneath._BENEATH:
        pytest.skip("the platform cannot open relative to a folder")
    monkeypatch.setattr(beneath, "_BENEATH", request.param == "beneath")


@pytest.mark.usefixtures("opener")
@pytest.mark.parametrize(
    "location", ["w.bin", "sub/w.bin", "./w.bin", "sub//w.bin", "sub/../w.bin"]
)
def test_a_location_within_the_folder_is_read(folder: Path, location: str) -> None:
    assert external.load(tensor(location, (8,)), folder) == CONTENT


@pytest.mark.usefixtures("opener")
def test_offset_and_length_choose_bytes(folder: Path) -> None:
    assert external.load(tensor(offset=8, length=16), folder) == CONTENT[8:24]
    assert external.load(tensor(offset=16), folder) == CONTENT[16:]
    assert external.load(tensor(dims=(0, 3), offset=32, length=0), folder) == b""


@pytest.mark.usefixtures("opener")
@pytest.mark.parametrize(
    ("location", "form"),
    [
        ("", "location must be given"),
        (".", "location must name a file"),
        ("sub/..", "location must name a file"),
        ("../secret.bin", "must stay inside the model's folder"),
        ("sub/../../secret.bin", "must stay inside the model's folder"),
        ("../model/w.bin", "must stay inside the model's folder"),
        ("/etc/passwd", "must be relative"),
        ("C:/w.bin", "must be relative"),
        ("c:w.bin", "must be relative"),
        ("\\\\server\\w.bin", "must separate folders by '/'"),
        ("sub\\w.bin", "must separate folders by '/'"),
        ("w.bin\0.txt", "must be a path"),
        ("none.bin", "cannot open '.*none.bin': No such file"),
        ("w.bin/x", "cannot open '.*x': Not a directory"),
        ("sub", "must be a regular file"),
        ("x" * 5000, "cannot open 'x*.*File name too long|cannot open"),
        ("\ud800", "cannot open|must be UTF-8"),
    ],
)
def test_a_location_that_is_no_file_of_the_model_is_refused(
    folder: Path, location: str, form: str
) -> None:
    hostile = tensor("w.bin")
    hostile.external_data[0].value = location.encode("utf-8", "replace").decode()
    with pytest.raises(ExternalDataError, match=rf"^tensor 'w': .*({form})"):
        external.load(hostile, folder)


@posix
@pytest.mark.usefixtures("opener")
def test_symbolic_links_are_followed_only_with_leave(folder: Path) -> None:
    (folder / "file.bin").symlink_to(folder.parent / "secret.bin")
    (folder / "folder").symlink_to(folder.parent)
    (folder / "near.bin").symlink_to("w.bin")
    for location in ("file.bin", "folder/secret.bin", "near.bin"):
        with pytest.raises(ExternalDataError, match=r"is a symbolic link; .* allow_links=True"):
            external.load(tensor(location), folder)
        assert external.load(tensor(location), folder, allow_links=True) == CONTENT[:16]


@posix
def test_the_models_own_folder_may_be_a_link(folder: Path) -> None:
    (folder.parent / "alias").symlink_to(folder)
    assert external.load(tensor(), folder.parent / "alias") == CONTENT[:16]


@posix
@pytest.mark.usefixtures("opener")
def test_hard_links_are_followed_only_with_leave(folder: Path) -> None:
    (folder / "hard.bin").hardlink_to(folder.parent / "secret.bin")
    with pytest.raises(
        ExternalDataError, match=r"'hard.bin' has 2 hard links; .* allow_links=True"
    ):
        external.load(tensor("hard.bin"), folder)
    assert external.load(tensor("hard.bin"), folder, allow_links=True) == CONTENT[:16]


@posix
@pytest.mark.usefixtures("opener")
def test_a_named_pipe_is_refused_and_does_not_block(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(ExternalDataError, match="must be a regular file"):
        external.load(tensor("pipe"), folder)


@posix
def test_a_link_that_appears_after_the_look_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "late.bin").symlink_to(folder.parent / "secret.bin")
    monkeypatch.setattr(beneath, "_first_link", lambda base, names: None)
    with pytest.raises(ExternalDataError, match="cannot open"):
        external.load(tensor("late.bin"), folder)
    monkeypatch.setattr(beneath, "_BENEATH", False)
    with pytest.raises(ExternalDataError, match="cannot open"):
        external.load(tensor("late.bin"), folder)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"offset": "-1"}, "offset must be a non-negative integer, found '-1'"),
        ({"offset": "0x10"}, "offset must be a non-negative integer"),
        ({"offset": "1_0"}, "offset must be a non-negative integer"),
        ({"offset": "٣"}, "offset must be a non-negative integer"),
        ({"length": ""}, "length must be a non-negative integer, found ''"),
        ({"length": "9" * 20}, "length must be a non-negative integer"),
        ({"length": 15}, r"float32\[4\] takes 16 bytes, found length 15"),
        ({"offset": 17}, "bytes 17 to 33 of 'w.bin' are required, found a file of 32 bytes"),
        ({"offset": 9 * 10**18}, ".* found a file of 32 bytes"),
        (
            {"checksum": "no"},
            "checksum must be a SHA-1 digest of 40 hexadecimal digits, found 'no'",
        ),
        ({"checksum": "0" * 40}, "'w.bin' must have the checksum 0000.*, found [0-9a-f]{40}"),
        ({"umask": "0"}, "external data may have the keys location, offset, .* found 'umask'"),
    ],
)
def test_what_a_reference_says_is_checked(
    folder: Path, keys: dict[str, object], message: str
) -> None:
    with pytest.raises(ExternalDataError, match=rf"^tensor 'w': {message}"):
        external.load(said(tensor(), keys), folder)


def test_a_key_may_be_given_once(folder: Path) -> None:
    twice = tensor(offset=0)
    twice.external_data.add(key="offset", value="16")
    with pytest.raises(ExternalDataError, match="must give offset once, found twice"):
        external.load(twice, folder)


def test_text_must_be_utf8(folder: Path) -> None:
    data = tensor().SerializeToString().replace(b"w.bin", b"w\xff\xffin")
    with pytest.raises(ExternalDataError, match="location must be UTF-8"):
        external.load(TensorProto.FromString(data), folder)


def test_a_checksum_covers_the_whole_file(folder: Path) -> None:
    digest = hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()
    assert external.load(tensor(offset=16, checksum=digest.upper()), folder) == CONTENT[16:]


def test_dims_and_dtype_must_make_sense(folder: Path) -> None:
    strings = tensor()
    strings.data_type = TensorProto.STRING
    with pytest.raises(ExternalDataError, match="strings cannot be external data"):
        external.load(strings, folder)
    with pytest.raises(TensorDataError, match="dims must not be negative"):
        external.load(tensor(dims=(-1,)), folder)
    with pytest.raises(TensorDataError, match="larger than memory"):
        external.load(tensor(dims=(2**62, 2**62)), folder)


def test_sub_byte_tensors_take_packed_bytes(folder: Path) -> None:
    odd = tensor(dims=(5,), length=3)
    odd.data_type = TensorProto.INT4
    assert external.load(odd, folder) == CONTENT[:3]


def test_a_model_from_no_folder_has_no_external_data() -> None:
    model = ModelProto()
    model.graph.initializer.append(tensor())
    skeleton = Skeleton(model)
    with pytest.raises(ExternalDataError, match="needs the folder that it is relative to"):
        skeleton.payload(model.graph.initializer[0])


def test_each_file_is_opened_once(folder: Path) -> None:
    files_of = Folder(folder)
    assert files_of.payload(tensor()).region is files_of.payload(tensor(offset=8)).region


def test_more_files_than_descriptors_are_read_instead(folder: Path) -> None:
    files_of = Folder(folder)
    files_of._budget = 1
    first, second = files_of.payload(tensor("w.bin")), files_of.payload(tensor("sub/w.bin"))
    assert first.region.name.endswith("w.bin")
    assert second.region.name == "<bytes>"
    assert bytes(first.view()) == bytes(second.view())


# A tensor in each place where the standard allows one, and how to get there.
PLACES: dict[str, Callable[[onnx.ModelProto, onnx.TensorProto], object]] = {
    "initializer": lambda m, t: m.graph.initializer.append(t),
    "sparse values": lambda m, t: m.graph.sparse_initializer.add(values=t),
    "sparse indices": lambda m, t: m.graph.sparse_initializer.add(indices=t),
    "attribute": lambda m, t: m.graph.node.add().attribute.add(t=t),
    "attribute list": lambda m, t: m.graph.node.add().attribute.add(tensors=[t]),
    "sparse attribute": lambda m, t: m.graph.node.add().attribute.add(
        sparse_tensor=helper.make_sparse_tensor(t, t, [1])
    ),
    "subgraph": lambda m, t: m.graph.node.add().attribute.add().g.initializer.append(t),
    "function": lambda m, t: m.functions.add().node.add().attribute.add(t=t),
    "function default": lambda m, t: m.functions.add().attribute_proto.add(t=t),
    "training": lambda m, t: m.training_info.add().algorithm.initializer.append(t),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_place_for_a_tensor_escapes_the_rules(folder: Path, place: str) -> None:
    model = onnx.ModelProto()
    hostile = onnx.TensorProto.FromString(tensor("../secret.bin").SerializeToString())
    PLACES[place](model, hostile)
    path = folder / "hostile.onnx"
    path.write_bytes(model.SerializeToString())

    with pytest.raises(ExternalDataError, match="must stay inside"):
        files.read_model(path)
    skeleton = files.open_model(path)
    with pytest.raises(ExternalDataError, match="must stay inside"):
        [skeleton.payload(found) for found in tensors(skeleton.message)]


@pytest.mark.parametrize("place", PLACES)
def test_external_data_loads_wherever_it_belongs(folder: Path, place: str) -> None:
    model = onnx.ModelProto()
    PLACES[place](model, onnx.TensorProto.FromString(tensor().SerializeToString()))
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())

    for found in tensors(files.read_model(path)):
        assert found.raw_data == CONTENT[:16]
        assert not found.external_data
    skeleton = files.open_model(path)
    for found in tensors(skeleton.message):
        payload = skeleton.payload(found)
        assert payload is not None
        assert bytes(payload.view()) == CONTENT[:16]


def test_a_new_file_appears_on_commit(folder: Path) -> None:
    new = ExternalFile(folder, "sub/new.bin")
    assert new.append([b"abc"], 64) == (0, 3)
    assert new.append([b"defg"], 64) == (64, 4)
    assert [path.name for path in (folder / "sub").iterdir() if path.suffix == ".bin"] == ["w.bin"]
    new.commit()
    assert (folder / "sub" / "new.bin").read_bytes() == b"abc" + bytes(61) + b"defg"
    assert sorted(path.name for path in (folder / "sub").iterdir()) == ["new.bin", "w.bin"]


def test_kept_content_comes_first(folder: Path) -> None:
    more = ExternalFile(folder, "w.bin", keep=True)
    assert more.append([b"tail"]) == (32, 4)
    more.commit()
    assert (folder / "w.bin").read_bytes() == CONTENT + b"tail"


def test_a_discarded_file_leaves_no_trace(folder: Path) -> None:
    before = sorted(folder.iterdir())
    new = ExternalFile(folder, "w.bin")
    new.append([b"abc"])
    new.discard()
    assert sorted(folder.iterdir()) == before
    assert (folder / "w.bin").read_bytes() == CONTENT


@posix
@pytest.mark.usefixtures("opener")
def test_writes_follow_no_links(folder: Path) -> None:
    (folder / "file.bin").symlink_to(folder.parent / "secret.bin")
    (folder / "out").symlink_to(folder.parent)
    (folder / "hard.bin").hardlink_to(folder.parent / "secret.bin")
    for location in ("file.bin", "out/new.bin", "hard.bin", "../new.bin", "/new.bin"):
        with pytest.raises(ExternalDataError, match=r"^external data '.*'"):
            ExternalFile(folder, location)
    assert (folder.parent / "secret.bin").read_bytes() == CONTENT
    assert not (folder.parent / "new.bin").exists()


def test_a_write_into_a_missing_folder_is_refused(folder: Path) -> None:
    with pytest.raises(ExternalDataError, match=r"cannot open '.*new.bin': No such file"):
        ExternalFile(folder, "none/new.bin")


def model_of(*arrays: np.ndarray) -> ModelProto:
    named = [numpy_helper.from_array(array, f"w{index}") for index, array in enumerate(arrays)]
    made = helper.make_model(helper.make_graph([], "g", [], [], named))
    return ModelProto.FromString(made.SerializeToString())


def arrays_of(path: Path) -> list[np.ndarray]:
    return [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]


LARGE, SMALL = np.arange(3000, dtype=np.float32), np.arange(5)


def test_a_model_saved_with_external_data_is_what_onnx_reads(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    files.write_model(model_of(LARGE, SMALL), path, external_data="m.data")

    assert (tmp_path / "m.data").stat().st_size == LARGE.nbytes
    first, second = arrays_of(path)
    assert np.array_equal(first, LARGE)
    assert np.array_equal(second, SMALL)


def test_a_mapped_model_can_be_saved_onto_itself(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    files.write_model(model_of(LARGE, LARGE + 1), path, external_data="m.data")
    for _ in range(2):
        files.write_model(files.open_model(path), path, external_data="m.data")
        assert np.array_equal(arrays_of(path), [LARGE, LARGE + 1])
    files.write_model(model_of(LARGE), path)
    files.write_model(files.open_model(path), path)
    assert np.array_equal(arrays_of(path), [LARGE])


def test_a_model_cannot_replace_its_own_external_data(tmp_path: Path) -> None:
    path, data = tmp_path / "m.onnx", tmp_path / "m.data"
    files.write_model(model_of(LARGE), path, external_data="m.data")
    skeleton = files.open_model(path)
    for save in (
        lambda: files.write_model(skeleton, data),
        lambda: files.write_message(skeleton.message, data),
        lambda: files.write_model(model_of(LARGE), path, external_data="m.onnx"),
    ):
        with pytest.raises(ExternalDataError, match="keeps its data in this file"):
            save()
    assert np.array_equal(arrays_of(path), [LARGE])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.data", "m.onnx"]


def test_external_data_needs_a_path() -> None:
    with pytest.raises(ExternalDataError, match="saved by its path"):
        files.write_model(model_of(LARGE), io.BytesIO(), external_data="m.data")


def test_mapped_payloads_pickle_by_path(folder: Path) -> None:
    payload = Folder(folder).payload(tensor(offset=8))
    again = pickle.loads(pickle.dumps(payload))
    assert bytes(again.view()) == CONTENT[8:24]
    stored = pickle.dumps(payload)
    assert len(stored) < 1000
    del again  # as long as it lives, so does the map that it shares with its like
    (folder / "w.bin").write_bytes(CONTENT + b"x")
    with pytest.raises(FormatError, match="the file of 32 bytes that was pickled is required"):
        pickle.loads(stored)


def test_payloads_in_memory_pickle_with_their_bytes() -> None:
    payload = MappedBytes(MappedBytes.of(CONTENT).region, 4, 8)
    assert bytes(pickle.loads(pickle.dumps(payload)).view()) == CONTENT[4:12]


def test_a_file_cut_while_mapped_is_an_error_and_no_crash(folder: Path) -> None:
    payload = Folder(folder).payload(tensor(offset=16))
    assert bytes(payload.view()) == CONTENT[16:]
    with (folder / "w.bin").open("r+b") as stream:
        stream.truncate(20)
    message = r"w.bin: the 32 bytes it had when it was opened are required, found 20"
    with pytest.raises(FormatError, match=message):
        payload.view()
    with pytest.raises(FormatError, match=message):
        payload.tobytes()
    with pytest.raises(FormatError, match=message):
        list(payload.parts())


def test_a_file_cut_between_open_and_map_is_an_error(folder: Path) -> None:
    payload = Folder(folder).payload(tensor())
    with (folder / "w.bin").open("r+b") as stream:
        stream.truncate(16)
    with pytest.raises(FormatError, match="found 16"):
        payload.view()


@posix
@pytest.mark.slow
def test_reading_a_file_while_it_is_cut_never_kills_the_process(tmp_path: Path) -> None:
    script = """
import os, sys, threading
from fornix.errors import FormatError
from fornix.format.mapped import MappedBytes, MappedFile
path, size = sys.argv[1], 1 << 22
outcomes = set()
for _ in range(50):
    with open(path, "wb") as stream:
        stream.truncate(size)
    payload = MappedBytes(MappedFile.open(path), 0, size)
    cut = threading.Thread(target=os.truncate, args=(path, 0))
    cut.start()
    try:
        outcomes.add(len(payload.tobytes()) == size)
    except FormatError:
        outcomes.add(None)
    cut.join()
assert outcomes <= {True, None}
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "f")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
