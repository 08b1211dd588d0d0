from __future__ import annotations

import io
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fornix.errors import FormatError, LimitError, NoSuchFile
from fornix.format import files
from fornix.format.atomic import Replacement, write_file
from fornix.format.limits import Limits
from fornix.format.messages import (
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
)
from tests.format.bytes import small_models

TEXT_FORMATS = ["textproto", "json", "onnxtxt"]


def relu() -> onnx.ModelProto:
    """A model that every format can express."""
    x, y = (helper.make_tensor_value_info(name, 1, ["N", 3]) for name in "xy")
    weight = numpy_helper.from_array(np.arange(3, dtype=np.float32), "w")
    nodes = [helper.make_node("Add", ["x", "w"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], [weight]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("m.onnx", "protobuf"),
        ("m.pb", "protobuf"),
        ("m", "protobuf"),
        ("m.bin", "protobuf"),
        ("m.textproto", "textproto"),
        ("m.json", "json"),
        ("m.onnxtxt", "onnxtxt"),
    ],
)
def test_the_extension_says_the_format(name: str, expected: str) -> None:
    assert files.format_of(name) == expected
    assert files.format_of(Path(name)) == expected


def test_extensions_are_those_of_onnx() -> None:
    for name, extensions in files.FORMATS.items():
        assert set(onnx.serialization.registry.get(name).file_extensions) == set(extensions)


def test_an_open_file_has_the_format_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    files.write_message(relu(), path)
    with path.open("rb") as stream:
        assert files.read_model(stream).SerializeToString() == relu().SerializeToString()
    assert files.format_of(io.BytesIO()) == "protobuf"


@pytest.mark.parametrize("data", small_models())
@pytest.mark.parametrize("form", ["protobuf", "textproto", "json"])
def test_models_survive_each_format_and_are_what_onnx_writes(data: bytes, form: str) -> None:
    theirs = onnx.ModelProto.FromString(data)
    encoded = files.encode(ModelProto.FromString(data), form)

    assert encoded == onnx.serialization.registry.get(form).serialize_proto(theirs)
    assert files.decode(encoded, ModelProto(), form).SerializeToString() == data


def test_onnx_text_is_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "m.onnxtxt"
    path.write_bytes(onnx.serialization.registry.get("onnxtxt").serialize_proto(relu()))
    model = files.read_model(path)
    files.write_model(model, path)
    assert files.read_model(path) == model
    assert [node.op_type for node in model.graph.node] == ["Add", "Relu"]


def test_text_formats_open_as_a_skeleton(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    files.write_message(relu(), path)
    skeleton = files.open_model(path)
    assert skeleton.payload(skeleton.message.graph.initializer[0]) is None
    assert skeleton.whole().SerializeToString() == relu().SerializeToString()


def test_open_streams_are_read_in_memory() -> None:
    data = small_models()[1]
    skeleton = files.open_model(io.BytesIO(data))
    assert skeleton.whole().SerializeToString() == data


@pytest.mark.parametrize("form", TEXT_FORMATS)
def test_text_may_be_str(form: str) -> None:
    text = files.encode(relu(), form).decode()
    assert files.decode(text, ModelProto(), form).graph.node[1].op_type == "Relu"


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        ("protobuf", "text", "bytes are required in format protobuf, found text"),
        ("protobuf", b"<!DOCTYPE html>", r"byte \d+, in ModelProto: "),
        ("textproto", b"\xff", r"byte 0: text in UTF-8 is required, found byte 0xff"),
        ("json", b'{"graph": "\xe9"}', r"byte 11: text in UTF-8 is required, found byte 0xe9"),
        ("textproto", b"graph { node: 3 }", r"ModelProto in textproto is required: 1:\d+"),
        ("textproto", b"no_such_field: 1", 'has no field named "no_such_field"'),
        ("json", b"[1]", "ModelProto in json is required: "),
        ("json", b'{"irVersion": "x"}', "Failed to parse irVersion field"),
        ("json", b'{"a":' * 20_000, "ModelProto in json is required: "),
        ("onnxtxt", b"<ir_version: >", r"f:1:\d+: "),
        ("yaml", b"", "format 'yaml': one of protobuf, textproto, json, onnxtxt is required"),
    ],
)
def test_damage_names_the_file_and_the_cause(form: str, data: bytes | str, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        files.decode(data, ModelProto(), form, "f")
    if form != "yaml":
        assert str(caught.value).startswith("f:")


@pytest.mark.parametrize(
    "text",
    [
        "graph {" + "node { attribute { g {" * 2000,
        "graph {" + "node { attribute { g {" * 200 + "}" * 601,
    ],
)
def test_deep_text_is_an_error_or_a_message(text: str) -> None:
    try:
        files.decode(text, ModelProto(), "textproto")
    except FormatError as error:
        assert "textproto is required" in str(error)  # noqa: PT017 - either outcome is right


def test_what_has_no_onnx_text_says_so() -> None:
    with pytest.raises(FormatError, match="no notation for a SparseTensorProto; use textproto"):
        files.encode(SparseTensorProto(), "onnxtxt")
    with pytest.raises(FormatError, match="no notation for a SparseTensorProto; use textproto"):
        files.decode(b"", SparseTensorProto(), "onnxtxt")


@pytest.mark.parametrize("kind", [GraphProto, NodeProto])
def test_parts_of_a_model_have_onnx_text(kind: type[GraphProto | NodeProto]) -> None:
    part = relu().graph if kind is GraphProto else relu().graph.node[0]
    text = files.encode(part, "onnxtxt")
    again = files.decode(text, kind(), "onnxtxt")
    assert files.encode(again, "onnxtxt") == text


def test_large_text_needs_leave() -> None:
    data = files.encode(relu(), "json")
    with pytest.raises(LimitError, match=r"f: text_bytes is limited to 10, found \d+; pass limits"):
        files.decode(data, ModelProto(), "json", "f", limits=Limits(text_bytes=10))


def test_a_path_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    cases: list[tuple[Path | str, str]] = [
        (tmp_path / "none.onnx", "No such file"),
        (tmp_path, "directory|denied"),
        ("a\0b", "null"),
    ]
    for path, reason in cases:
        for read in (files.read_model, files.open_model):
            with pytest.raises(NoSuchFile, match="a readable file is required") as caught:
                read(path)
            start = re.escape(f"{path}: a readable file is required: ")
            assert re.fullmatch(f"{start}.*({reason}).*", str(caught.value))


def test_what_is_neither_path_nor_file_says_so() -> None:
    for read in (files.read_model, files.open_model):
        with pytest.raises(FormatError, match=r"a path or an open binary file is required, .* int"):
            read(5)  # type: ignore[arg-type]


def test_too_many_nodes_need_leave(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    files.write_message(relu(), path)
    with pytest.raises(LimitError, match=r"m.onnx: nodes is limited to 1, found 2; pass limits"):
        files.open_model(path, limits=Limits(nodes=1))


@pytest.mark.skipif(os.name == "nt", reason="needs a device without end")
def test_what_has_no_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MESSAGE_BYTES", 1 << 22)
    for read in (files.read_model, files.open_model):
        with pytest.raises(FormatError, match="/dev/zero: a message of at most 2 GiB is required"):
            read("/dev/zero")


def test_more_than_2_gib_is_not_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MESSAGE_BYTES", 10)
    with pytest.raises(FormatError, match=r"f: a message of at most 2 GiB .* fornix.load reads"):
        files.decode(bytes(11), ModelProto(), name="f")
    path = tmp_path / "m.onnx"
    files.write_message(relu(), path)
    with pytest.raises(FormatError, match=r"m.onnx: a message of at most 2 GiB is required"):
        files.read_model(path)


@pytest.mark.skipif(os.name == "nt", reason="needs pipes")
def test_a_pipe_is_read_and_written(tmp_path: Path) -> None:
    data = small_models()[0]
    end, start = os.pipe()
    with open(start, "wb") as stream:  # noqa: PTH123 - a descriptor
        stream.write(data)
    assert files.open_model(f"/dev/fd/{end}").whole().SerializeToString() == data
    os.close(end)
    write_file("/dev/null", [b"x"])
    assert not Path("/dev/null").is_file()


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def fails(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fails)
            with pytest.raises(KeyboardInterrupt):
                files.write_message(relu(), path)
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]


def test_a_save_whose_parts_fail_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        write_file(path, (bytes([1 // n]) for n in (1, 0)))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_save_with_external_data_leaves_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = tmp_path / "m.onnx", tmp_path / "m.data"
    path.write_bytes(b"old model")
    data.write_bytes(b"old data")

    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Replacement, "flush", fails)
    with pytest.raises(KeyboardInterrupt):
        files.write_model(
            ModelProto.FromString(small_models()[0]), path, external_data="m.data", threshold=1
        )
    assert (path.read_bytes(), data.read_bytes()) == (b"old model", b"old data")
    assert sorted(tmp_path.iterdir()) == [data, path]


@pytest.mark.skipif(os.name == "nt", reason="needs links and modes")
def test_saving_keeps_links_and_permissions(tmp_path: Path) -> None:
    target, link = tmp_path / "real.onnx", tmp_path / "m.onnx"
    target.write_bytes(b"")
    target.chmod(0o640)
    link.symlink_to(target)
    files.write_message(relu(), link)
    assert link.is_symlink()
    assert target.read_bytes() == relu().SerializeToString()
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name == "nt", reason="needs modes")
def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    files.write_message(relu(), tmp_path / "m.onnx")
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "m.onnx").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_saving_into_a_missing_folder_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        files.write_message(relu(), tmp_path / "none" / "m.onnx")
    assert Path(caught.value.filename) == tmp_path.resolve() / "none" / "m.onnx"


def test_long_names_in_any_script_are_saved(tmp_path: Path) -> None:
    path = tmp_path / ("模" * 80 + ".onnx")
    files.write_message(relu(), path)
    assert files.read_model(path).SerializeToString() == relu().SerializeToString()


def test_a_location_that_is_no_path_is_saved_as_it_is(tmp_path: Path) -> None:
    model = ModelProto()
    tensor = model.graph.initializer.add(data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="a\0b")
    files.write_message(model, tmp_path / "m.onnx")
    assert files.read_model(tmp_path / "m.onnx", load_external_data=False) == model
