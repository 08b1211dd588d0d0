from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.external_data_helper as theirs
import onnx.serialization
import pytest
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

import fornix.onnx
from fornix.errors import ExternalDataError, FormatError, NoSuchFile, ValidationError
from fornix.onnx import external_data_helper as ours
from fornix.onnx import serialization
from tests.format.bytes import small_models
from tests.onnx.surface import names_of, parameters_of


@pytest.mark.parametrize(
    "name",
    [
        "load",
        "load_from_string",
        "load_model",
        "load_model_from_string",
        "load_tensor",
        "load_tensor_from_string",
        "save",
        "save_model",
        "save_tensor",
    ],
)
def test_loading_and_saving_have_the_parameters_of_onnx(name: str) -> None:
    mine, other = getattr(fornix.onnx, name), getattr(onnx, name)
    assert parameters_of(mine) == parameters_of(other)


@pytest.mark.parametrize("name", names_of(theirs))
def test_the_external_data_helper_has_the_names_and_parameters_of_onnx(name: str) -> None:
    assert parameters_of(getattr(ours, name)) == parameters_of(getattr(theirs, name))


def test_message_names_and_constants_are_those_of_onnx() -> None:
    submodules = {name for name in onnx.__all__ if type(getattr(onnx, name)).__name__ == "module"}
    for name in set(onnx.__all__) - submodules:
        mine, other = getattr(fornix.onnx, name), getattr(onnx, name)
        if isinstance(other, int | str):
            assert mine == other
        elif hasattr(other, "DESCRIPTOR"):
            assert mine.DESCRIPTOR.full_name == other.DESCRIPTOR.full_name
    assert fornix.onnx.__version__ == onnx.__version__


def test_an_unknown_name_is_an_attribute_error() -> None:
    for name in ("nothing", "_nothing"):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
            getattr(fornix.onnx, name)
    assert fornix.onnx.numpy_helper.__name__ == "fornix.onnx.numpy_helper"


DATA = small_models()


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("extension", ["onnx", "pb", "textproto", "pbtxt", "json", "bin", "txtpb"])
def test_models_go_both_ways_between_the_packages(
    tmp_path: Path, data: bytes, extension: str
) -> None:
    path = tmp_path / f"m.{extension}"
    fornix.onnx.save(fornix.onnx.load_model_from_string(data), path)
    assert onnx.load(path).SerializeToString() == data
    onnx.save(onnx.ModelProto.FromString(data), path)
    assert fornix.onnx.load(str(path)).SerializeToString() == data
    with path.open("rb") as stream:
        assert fornix.onnx.load(stream).SerializeToString() == data


def test_onnx_text_goes_both_ways_between_the_packages(tmp_path: Path) -> None:
    path = tmp_path / "m.onnxtxt"
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[N] x) => (float[N] y) { y = Relu(x) }'
    )
    onnx.save(model, path)
    mine = fornix.onnx.load(path)
    assert mine.SerializeToString() == model.SerializeToString()
    fornix.onnx.save(mine, path)
    with pytest.warns(UserWarning, match="experimental"):
        assert onnx.load(path) == model


@pytest.mark.parametrize("form", ["protobuf", "textproto", "json"])
def test_the_format_can_be_named(tmp_path: Path, form: str) -> None:
    path = tmp_path / "m.onnx"
    fornix.onnx.save(onnx.ModelProto.FromString(DATA[0]), path, form)
    assert fornix.onnx.load(path, format=form).SerializeToString() == DATA[0]
    text = path.read_bytes()
    assert fornix.onnx.load_model_from_string(text, form).SerializeToString() == DATA[0]
    stream = io.BytesIO()
    fornix.onnx.save_model(DATA[0], stream, form)
    assert stream.getvalue() == text


def test_tensors_go_both_ways_between_the_packages(tmp_path: Path) -> None:
    path = tmp_path / "t.pb"
    tensor = numpy_helper.from_array(np.arange(5), "t")
    fornix.onnx.save_tensor(tensor, path)
    assert onnx.load_tensor(path) == tensor
    assert fornix.onnx.load_tensor(path).SerializeToString() == tensor.SerializeToString()
    again = fornix.onnx.load_tensor_from_string(tensor.SerializeToString())
    assert again.name == "t"


def test_a_damaged_model_is_an_error_of_both_packages(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(DATA[0][:-1])
    with pytest.raises(DecodeError):
        onnx.load(path)
    for kind in (DecodeError, FormatError, ValueError):
        with pytest.raises(kind, match=r"m\.onnx: byte \d+, in "):
            fornix.onnx.load(path)
    with pytest.raises(NoSuchFile, match=r"none.onnx: a readable file is required"):
        fornix.onnx.load(tmp_path / "none.onnx")


def test_arguments_of_the_wrong_kind_are_type_errors() -> None:
    with pytest.raises(TypeError, match="bytes is required, found str"):
        fornix.onnx.load_model_from_string("text")
    with pytest.raises(TypeError, match="bytes or str is required, found int"):
        fornix.onnx.load_model_from_string(3, "json")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a protobuf message is required, found str"):
        fornix.onnx.save("text", io.BytesIO())  # type: ignore[arg-type]


class Upper:
    """A format of one's own."""

    supported_format = "upper"
    file_extensions = frozenset({".upper"})

    def serialize_proto(self, proto: Any) -> bytes:
        return proto.SerializeToString().hex().upper().encode()

    def deserialize_proto(self, serialized: bytes, proto: Any) -> Any:
        proto.ParseFromString(bytes.fromhex(serialized.decode()))
        return proto


def test_formats_can_be_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = serialization._Registry()
    registry.register(Upper())
    monkeypatch.setattr(serialization, "registry", registry)
    path = tmp_path / "m.upper"
    fornix.onnx.save(fornix.onnx.ModelProto.FromString(DATA[1]), path)
    assert path.read_bytes() == DATA[1].hex().upper().encode()
    assert fornix.onnx.load(path).SerializeToString() == DATA[1]
    with pytest.raises(FormatError, match="format 'json': one of upper is required"):
        fornix.onnx.load(path, "json")


def test_the_registry_knows_what_onnx_knows() -> None:
    for name in ("protobuf", "textproto", "json", "onnxtxt"):
        mine, other = serialization.registry.get(name), onnx.serialization.registry.get(name)
        assert set(mine.file_extensions) == set(other.file_extensions)
        for extension in other.file_extensions:
            assert serialization.registry.get_format_from_file_extension(extension) == name


def test_serializers_fill_the_message_that_they_are_given() -> None:
    for form in ("protobuf", "textproto", "json"):
        serializer = serialization.registry.get(form)
        theirs_too = onnx.ModelProto()
        data = serializer.serialize_proto(onnx.ModelProto.FromString(DATA[1]))
        assert serializer.deserialize_proto(data, theirs_too) is theirs_too
        assert theirs_too.SerializeToString() == DATA[1]


LARGE = np.arange(2000, dtype=np.float32)


def model(name: str = "w") -> onnx.ModelProto:
    constant = helper.make_node(
        "Constant", [], ["c"], value=numpy_helper.from_array(LARGE + 1, "c")
    )
    tensors = [numpy_helper.from_array(LARGE, name), numpy_helper.from_array(LARGE[:3], "small")]
    return helper.make_model(helper.make_graph([constant], "g", [], [], tensors))


def check(loaded: Any) -> None:
    first, second = loaded.graph.initializer
    assert np.array_equal(numpy_helper.to_array(onnx_tensor(first)), LARGE)
    assert np.array_equal(numpy_helper.to_array(onnx_tensor(second)), LARGE[:3])
    constant = loaded.graph.node[0].attribute[0].t
    assert np.array_equal(numpy_helper.to_array(onnx_tensor(constant)), LARGE + 1)


def onnx_tensor(tensor: Any) -> onnx.TensorProto:
    return onnx.TensorProto.FromString(tensor.SerializeToString())


OPTIONS: list[dict[str, Any]] = [
    {},
    {"location": "w.data"},
    {"all_tensors_to_one_file": False},
    {"size_threshold": 0, "convert_attribute": True},
    {"size_threshold": 0, "location": "w.data", "convert_attribute": True},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("saver", [fornix.onnx, onnx])
@pytest.mark.parametrize("loader", [fornix.onnx, onnx])
def test_external_data_goes_both_ways(
    tmp_path: Path, options: dict[str, Any], saver: Any, loader: Any
) -> None:
    path = tmp_path / "m.onnx"
    source = saver.ModelProto.FromString(model().SerializeToString())
    saver.save(source, path, save_as_external_data=True, **options)

    check(loader.load(path))
    assert len(list(tmp_path.iterdir())) > 1
    bare = loader.load(path, load_external_data=False)
    assert not bare.graph.initializer[0].HasField("raw_data")
    loader.load_external_data_for_model(bare, str(tmp_path))
    check(bare)


def test_the_same_tensors_move_as_in_onnx(tmp_path: Path) -> None:
    for options in OPTIONS:
        mine, other = model(), model()
        ours.convert_model_to_external_data(mine, **options)
        theirs.convert_model_to_external_data(other, **options)
        for a, b in zip(theirs._get_all_tensors(mine), theirs._get_all_tensors(other), strict=True):
            assert theirs.uses_external_data(a) == theirs.uses_external_data(b)
            if "location" in options:
                assert a == b


def test_names_that_are_no_files_get_other_names(tmp_path: Path) -> None:
    for name in ("..", "a/b", "a:b", "a\\b", ""):
        path = tmp_path / "m.onnx"
        fornix.onnx.save(
            model(name), path, save_as_external_data=True, all_tensors_to_one_file=False
        )
        check(fornix.onnx.load(path))
        (entry, *_) = fornix.onnx.load(path, None, False).graph.initializer[0].external_data
        assert re.fullmatch(r"[0-9a-f-]{36}", entry.value)


def test_saving_again_keeps_what_others_refer_to(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for _ in range(2):
        source = model()
        fornix.onnx.save(source, path, save_as_external_data=True, location="w.data")
        check(fornix.onnx.load(path))
    half = fornix.onnx.load(path, load_external_data=False)
    half.graph.node[0].attribute[0].t.raw_data = (LARGE + 1).tobytes()
    fornix.onnx.save(
        half, path, save_as_external_data=True, location="w.data", convert_attribute=True
    )
    check(fornix.onnx.load(path))


def test_a_model_cannot_be_saved_onto_its_own_data(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    fornix.onnx.save(model(), path, save_as_external_data=True, location="w.data")
    bare = fornix.onnx.load(path, load_external_data=False)
    with pytest.raises(ExternalDataError, match="keeps its data in this file"):
        fornix.onnx.save(bare, tmp_path / "w.data")
    with pytest.raises(ExternalDataError, match="keeps its data in this file"):
        fornix.onnx.save(model(), path, save_as_external_data=True, location="m.onnx")
    check(fornix.onnx.load(path))


@pytest.mark.parametrize("location", ["../w.data", "none/w.data", "sub/../../w.data"])
def test_a_location_outside_is_refused_for_writing(tmp_path: Path, location: str) -> None:
    path = tmp_path / "in" / "m.onnx"
    path.parent.mkdir()
    with pytest.raises(ExternalDataError, match="external data '"):
        fornix.onnx.save(model(), path, save_as_external_data=True, location=location)
    assert list(tmp_path.rglob("*.data")) == []
    assert not path.exists()


def test_locations_that_onnx_refuses_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.data").write_bytes(b"")
    with pytest.raises(FileExistsError, match=r"location 'w.data' exists"):
        ours.convert_model_to_external_data(model(), location="w.data")
    with pytest.raises(ValueError, match="location must be relative"):
        ours.convert_model_to_external_data(model(), location=str(tmp_path / "w.data"))


def test_single_tensors_move(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(LARGE, "w")
    ours.set_external_data(tensor, "w.data", offset=4096, length=1, checksum="c", basepath="b")
    said = {entry.key: entry.value for entry in tensor.external_data}
    assert said == {
        "location": "w.data", "offset": "4096", "length": "1", "checksum": "c", "basepath": "b"
    }  # fmt: skip
    ours.remove_external_data_field(tensor, "checksum")
    info = ours.ExternalDataInfo(tensor)
    assert (info.location, info.offset, info.length, info.checksum, info.basepath) == (
        "w.data", 4096, 1, None, "b"
    )  # fmt: skip
    ours.save_external_data(tensor, str(tmp_path))
    assert (tmp_path / "w.data").read_bytes() == bytes(4096) + LARGE.tobytes()
    ours.load_external_data_for_tensor(tensor, str(tmp_path))
    assert np.array_equal(numpy_helper.to_array(tensor), LARGE)
    assert not ours.uses_external_data(tensor)


def test_an_offset_must_follow_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(100))
    for offset in (99, 100 + 64 * 1024 + 1):
        tensor = numpy_helper.from_array(LARGE, "w")
        ours.set_external_data(tensor, "w.data", offset=offset)
        with pytest.raises(ValidationError, match=f"offset must be between 100, .* found {offset}"):
            ours.save_external_data(tensor, str(tmp_path))
    assert (tmp_path / "w.data").read_bytes() == bytes(100)


def test_loaded_data_can_stay_in_the_model() -> None:
    source = model()
    ours.convert_model_to_external_data(source, location="w.data")
    ours.convert_model_from_external_data(source)
    check(source)
    assert not source.graph.initializer[0].external_data
    ours.convert_model_to_external_data(source, location="w.data")
    source.graph.initializer[0].ClearField("raw_data")
    with pytest.raises(ExternalDataError, match="tensor 'w': raw_data is required, found none"):
        ours.convert_model_from_external_data(source)


def test_a_tensor_without_raw_data_cannot_move(tmp_path: Path) -> None:
    tensor = helper.make_tensor("t", 1, [1], [1.0])
    with pytest.raises(ExternalDataError, match="tensor 't': raw_data is required to make it"):
        ours.set_external_data(tensor, "w.data")
    with pytest.raises(ValidationError, match="tensor 't': raw_data is required, found none"):
        ours.save_external_data(tensor, str(tmp_path))
