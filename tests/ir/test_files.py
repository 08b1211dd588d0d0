from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest

import fornix
from fornix.dtype import FLOAT32
from fornix.errors import ExternalDataError, FormatError, NoSuchFile
from fornix.format.messages import ModelProto, TensorProto
from fornix.ir.files import load, save
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.load import to_message
from fornix.ir.tensor import ArrayTensor
from fornix.ir.types import TensorType
from fornix.ir.verify import verify
from tests.ir.graphs import BRANCHES, model

WEIGHT = np.arange(3000, dtype=np.float32).reshape(3, 1000)


def weighted() -> Model:
    x = Value("x", TensorType(FLOAT32, (None, 3)))
    graph = Graph("g", [x])
    w = graph.add_initializer(ArrayTensor(WEIGHT, "w"))
    b = graph.add_initializer(ArrayTensor(np.ones(1000, np.float32), "b"))
    product = Node("", "Gemm", [x, w, b], ["y"])
    graph.append(product)
    y = product.output
    y.type = TensorType(FLOAT32, (None, 1000))
    graph.outputs = (y,)
    return Model(graph, {"": 17}, 8)


def weights(whole: Model) -> np.ndarray:
    tensor = whole.graph.initializers["w"].tensor
    assert tensor is not None
    return tensor.numpy()


def test_fornix_loads_and_saves(tmp_path: Path) -> None:
    assert fornix.load is load
    assert fornix.save is save
    path = tmp_path / "model.onnx"
    save(weighted(), path)
    onnx.checker.check_model(path, full_check=True)
    again = load(path)
    verify(again)
    np.testing.assert_array_equal(weights(again), WEIGHT)
    assert not weights(again).flags.owndata
    assert path.read_bytes() == to_message(again).SerializeToString()


@pytest.mark.parametrize("name", ["m.onnx", "m.textproto", "m.json", "m.onnxtxt"])
def test_every_format_is_read_and_written(tmp_path: Path, name: str) -> None:
    whole = model(BRANCHES)
    save(whole, tmp_path / name)
    again = load(tmp_path / name)
    verify(again)
    assert str(again) == str(whole)


def test_open_files_are_read_and_written() -> None:
    stream = io.BytesIO()
    save(weighted(), stream)
    stream.seek(0)
    np.testing.assert_array_equal(weights(load(stream)), WEIGHT)


def test_a_model_can_be_saved_where_it_was_loaded_from(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(weighted(), path)
    first = load(path)
    first.producer_name = "changed"
    save(first, path)
    np.testing.assert_array_equal(weights(first), WEIGHT)
    second = load(path)
    assert second.producer_name == "changed"
    np.testing.assert_array_equal(weights(second), WEIGHT)


def test_weights_move_to_a_file_beside_the_model_and_back(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(weighted(), path, external_data="model.bin")
    message = ModelProto.FromString(path.read_bytes())
    assert [x.data_location for x in message.graph.initializer] == [TensorProto.EXTERNAL] * 2
    onnx.checker.check_model(path)
    again = load(path)
    np.testing.assert_array_equal(weights(again), WEIGHT)
    assert not weights(again).flags.owndata
    save(again, tmp_path / "whole.onnx")
    (tmp_path / "model.bin").unlink()
    np.testing.assert_array_equal(weights(load(tmp_path / "whole.onnx")), WEIGHT)


def test_models_that_share_tensors_are_saved_together(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        save(weighted(), tmp_path / name)
    first, second = load(tmp_path / "a.onnx"), load(tmp_path / "b.onnx")
    tensor = second.graph.initializers["w"].tensor
    assert tensor is not None
    first.graph.add_initializer(tensor, "other")
    save(first, tmp_path / "c.onnx")
    merged = load(tmp_path / "c.onnx").graph.initializers
    assert list(merged) == ["w", "b", "other"]
    for name in ("w", "other"):
        held = merged[name].tensor
        assert held is not None
        np.testing.assert_array_equal(held.numpy(), WEIGHT)


def test_missing_external_data_is_missed_when_it_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(weighted(), path, external_data="model.bin")
    (tmp_path / "model.bin").unlink()
    again = load(path)
    with pytest.raises(ExternalDataError, match="tensor 'w'"):
        weights(again)
    with pytest.raises(ExternalDataError, match="tensor 'w'"):
        save(again, tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()


def test_what_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\xff\xff")
    with pytest.raises(FormatError, match=r"broken\.onnx"):
        load(path)
    with pytest.raises(NoSuchFile, match=r"nowhere\.onnx"):
        load(tmp_path / "nowhere.onnx")
