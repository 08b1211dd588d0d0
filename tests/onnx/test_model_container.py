from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import model_container as peer

from fornix.onnx import helper, model_container
from tests.onnx.surface import parameters_of

WEIGHTS = {
    "#w": np.arange(12, dtype=np.float32).reshape(3, 4),
    "#b": np.arange(4, dtype=np.float32),
}


def graph(module: Any = helper, container: Any = model_container) -> Any:
    value = module.make_tensor_value_info
    return module.make_graph(
        [
            module.make_node("MatMul", ["x", "w"], ["a"]),
            module.make_node("Add", ["a", "b"], ["y"]),
        ],
        "g",
        [value("x", 1, [None, 3])],
        [value("y", 1, [None, 4])],
        [
            container.make_large_tensor_proto("#w", "w", 1, (3, 4)),
            container.make_large_tensor_proto("#b", "b", 1, (4,)),
        ],
    )


@pytest.fixture
def container() -> model_container.ModelContainer:
    return model_container.make_large_model(graph(), WEIGHTS, ir_version=10)


@pytest.mark.parametrize("name", ["make_large_model", "make_large_tensor_proto"])
def test_signatures_are_the_peers(name: str) -> None:
    assert (
        parameters_of(getattr(model_container, name))[:2] == parameters_of(getattr(peer, name))[:2]
    )


def test_methods_are_the_peers() -> None:
    names = {name for name in dir(peer.ModelContainer) if not name.startswith("_")}
    assert names <= set(dir(model_container.ModelContainer))


def test_messages_are_the_peers(container: model_container.ModelContainer) -> None:
    expected = peer.make_large_model(graph(onnx.helper, peer), WEIGHTS, ir_version=10)
    found = onnx.ModelProto.FromString(container.model_proto.SerializeToString())
    assert found == expected.model_proto
    container.check_model()
    assert [g.name for g in container.enumerate_graph_protos()] == ["g"]
    np.testing.assert_array_equal(container["#b"], WEIGHTS["#b"])


@pytest.mark.parametrize("to_one", [False, True])
def test_what_is_saved_is_read_by_both(
    tmp_path: Path, container: model_container.ModelContainer, to_one: bool
) -> None:
    path = tmp_path / "m.onnx"
    written = container.save(str(path), all_tensors_to_one_file=to_one)
    wanted = {"m.onnx", "m.onnx.weight"} if to_one else {"m.onnx", "m-#w.weight", "m-#b.weight"}
    assert {file.name for file in tmp_path.iterdir()} == wanted
    assert written.graph.initializer[0].external_data[0].value in wanted
    found = onnx.load(path)
    np.testing.assert_array_equal(
        onnx.numpy_helper.to_array(found.graph.initializer[0]), WEIGHTS["#w"]
    )
    for module in (model_container, peer):
        again = module.ModelContainer()
        again.load(str(path))
        again.check_large_initializers()
        np.testing.assert_array_equal(again["#t0"], WEIGHTS["#w"])
        np.testing.assert_array_equal(again["#t1"], WEIGHTS["#b"])
    container.save(str(path), all_tensors_to_one_file=to_one)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 1000


def test_files_may_be_read_without_their_arrays(
    tmp_path: Path, container: model_container.ModelContainer
) -> None:
    container.save(str(tmp_path / "m.onnx"))
    again = model_container.ModelContainer()
    again.load(str(tmp_path / "m.onnx"), load_large_initializers=False)
    assert again.large_initializers == {}
    assert again.is_in_memory_external_initializer("#w")
    assert not again.is_in_memory_external_initializer("w")


def test_mistakes_are_told_as_by_the_peer(
    tmp_path: Path, container: model_container.ModelContainer
) -> None:
    for module in (peer, model_container):
        empty = module.ModelContainer()
        with pytest.raises(RuntimeError):
            _ = empty.model_proto
        with pytest.raises(ValueError):
            empty.set_large_initializers({"w": WEIGHTS["#w"]})
        with pytest.raises(ValueError):
            _ = empty["#w"]
    with pytest.raises(RuntimeError, match=r"'w'.*\('#b'\) is required, found '#w'"):
        model_container.make_large_model(graph(), {"#b": WEIGHTS["#b"]})
    with pytest.raises(FileNotFoundError, match="does not exist"):
        container.save(str(tmp_path / "nowhere" / "m.onnx"))
    with pytest.raises(ValueError, match="location 'w' must begin with '#'"):
        container.set_large_initializers({"w": WEIGHTS["#w"]})
