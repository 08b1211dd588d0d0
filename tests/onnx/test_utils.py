from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx import utils as peer
from onnx.reference import ReferenceEvaluator

from fornix.errors import InvalidArgument, ValidationError
from fornix.onnx import utils
from tests.onnx.surface import parameters_of

HEADER = '<ir_version: 10, opset_import: ["": 20, "l": 1]>'
TEXT = """g (float[N, 3] x, float[3] v) => (float[N, 3] y, float[N, 3] z)
    <float[3] w = {1, 2, 3}, float[3] u = {4, 5, 6}, float[N, 3] a, float[N, 3] b, float[N, 3] c> {
        a = Mul(x, w) b = l.F(a) c = Add(b, v) y = Neg(c) z = Sub(c, u) }
    <domain: "l", opset_import: ["": 20]> F (p) => (q) { q = Abs(p) }
    <domain: "l", opset_import: ["": 20]> Unused (p) => (q) { q = Neg(p) }"""


def model(text: str = TEXT) -> Any:
    return parser.parse_model(HEADER + text)


def theirs(message: Any) -> Any:
    return onnx.ModelProto.FromString(message.SerializeToString())


def names(values: Any) -> list[str]:
    return [value.name for value in values]


def test_signatures_are_the_peers() -> None:
    assert parameters_of(utils.extract_model) == parameters_of(peer.extract_model)
    assert parameters_of(utils.Extractor) == parameters_of(peer.Extractor)
    ours, wanted = utils.Extractor.extract_model, peer.Extractor.extract_model
    assert parameters_of(ours) == parameters_of(wanted)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (["x", "v"], ["y", "z"]),
        (["x", "v"], ["y"]),
        (["x"], ["a"]),
        (["a", "v"], ["y"]),
        (["c"], ["y", "z"]),
        (["b", "v"], ["z", "c"]),
        (["x"], ["b", "a"]),
        (["x", "v", "c"], ["y"]),
        (["c", "a"], ["y", "b"]),
    ],
)
def test_parts_are_those_of_the_peer(inputs: list[str], outputs: list[str]) -> None:
    expected = peer.Extractor(model()).extract_model(inputs, outputs)
    found = utils.Extractor(model()).extract_model(inputs, outputs)
    assert list(theirs(found).graph.node) == list(expected.graph.node)
    assert list(theirs(found).graph.input) == list(expected.graph.input)
    assert list(theirs(found).graph.output) == list(expected.graph.output)
    assert list(theirs(found).graph.initializer) == list(expected.graph.initializer)
    assert list(theirs(found).functions) == list(expected.functions)
    assert list(theirs(found).opset_import) == list(expected.opset_import)
    for field in ("ir_version", "producer_name", "producer_version", "domain"):
        assert getattr(found, field) == getattr(expected, field)
    assert found.graph.name == expected.graph.name
    onnx.checker.check_model(theirs(found))


def test_what_subgraphs_read_comes_along() -> None:
    source = model("""g (bool c, float[2] x) => (float[2] y) <float[2] k = {1, 2}, float[2] e> {
        e = Abs(x)
        y = If (c) < then_branch = t () => (float[2] d) { d = Add(e, k) },
                     else_branch = f () => (float[2] g) { g = Identity(x) }> }""")
    found = utils.Extractor(source).extract_model(["c", "x"], ["y"])
    feeds = {"c": np.array(True), "x": np.array([-1, 1], np.float32)}
    np.testing.assert_array_equal(ReferenceEvaluator(theirs(found)).run(None, feeds)[0], [2, 3])
    with pytest.raises(InvalidArgument, match="y can be computed only with more inputs: x"):
        utils.Extractor(source).extract_model(["c", "e"], ["y"])


def test_a_node_may_be_replaced_by_an_input_and_still_compute_something_else() -> None:
    source = model("""g (float[4] x) => (float[2] y) <float[2] a, float[2] b> {
        a, b = Split <num_outputs = 2> (x) y = Add(a, b) }""")
    found = theirs(utils.Extractor(source).extract_model(["x", "a"], ["y"]))
    onnx.checker.check_model(found)
    feeds = {"x": np.arange(4, dtype=np.float32), "a": np.array([10, 20], np.float32)}
    np.testing.assert_array_equal(ReferenceEvaluator(found).run(None, feeds)[0], [12, 23])


def test_parts_that_lack_an_input_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="y, z can be computed only with more inputs: v"):
        utils.Extractor(model()).extract_model(["x"], ["y", "z"])


@pytest.mark.parametrize("name", ["nothing", "w"])
def test_names_without_a_type_in_the_model_are_refused_as_by_the_peer(name: str) -> None:
    for module in (peer, utils):
        with pytest.raises(ValueError, match=name):
            module.Extractor(model()).extract_model([name], ["y"])
        with pytest.raises(ValueError, match=name):
            module.Extractor(model()).extract_model(["x"], [name])


def test_files_are_cut_as_by_the_peer(tmp_path: Path) -> None:
    untyped = model()
    del untyped.graph.value_info[:]
    onnx.save(untyped, tmp_path / "whole.onnx")
    utils.extract_model(tmp_path / "whole.onnx", tmp_path / "part.onnx", ["a", "v"], ["y"])
    found = onnx.load(tmp_path / "part.onnx")
    assert [node.op_type for node in found.graph.node] == ["F", "Add", "Neg"]
    assert names(found.graph.input) == ["a", "v"]
    shape = found.graph.input[0].type.tensor_type.shape
    assert [d.dim_param or d.dim_value for d in shape.dim] == ["N", 3]
    with pytest.raises(InvalidArgument, match="infer_shapes finds types"):
        utils.extract_model(
            tmp_path / "whole.onnx", tmp_path / "no.onnx", ["a", "v"], ["y"], infer_shapes=False
        )


@pytest.mark.parametrize(
    ("source", "target", "inputs", "outputs", "message"),
    [
        ("nowhere.onnx", "out.onnx", ["x"], ["a"], "input_path: a file is required"),
        ("whole.onnx", "", ["x"], ["a"], "output_path: a path is required"),
        ("whole.onnx", "out.onnx", [], ["a"], r"input_names: one name or more.*found \[\]"),
        ("whole.onnx", "out.onnx", ["x"], [], "output_names: one name or more"),
        ("whole.onnx", "out.onnx", ["x", "x"], ["a"], "input_names: one name or more, each once"),
        ("whole.onnx", "out.onnx", ["x"], ["a", "a"], "output_names: one name or more, each once"),
    ],
)
def test_wrong_arguments_are_value_errors_as_for_the_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, target: str, inputs: list[str],
    outputs: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    onnx.save(model(), "whole.onnx")
    with pytest.raises(ValueError):
        peer.extract_model(source, target, inputs, outputs)
    with pytest.raises(InvalidArgument, match=message):
        utils.extract_model(source, target, inputs, outputs)


def test_models_that_break_the_standard_are_cut_only_unchecked(tmp_path: Path) -> None:
    broken = model("g (float[2] x) => (float[2] y) <float[2] a> { a = Neg(x) y = Nonsense(a) }")
    onnx.save(broken, tmp_path / "whole.onnx")
    paths = tmp_path / "whole.onnx", tmp_path / "part.onnx"
    with pytest.raises(ValidationError):
        utils.extract_model(*paths, ["x"], ["a"])
    utils.extract_model(*paths, ["x"], ["a"], check_model=False)
    assert [node.op_type for node in onnx.load(paths[1]).graph.node] == ["Neg"]


def test_an_extractor_shows_what_it_found_as_onnx_does() -> None:
    found, wanted = utils.Extractor(model()), peer.Extractor(parser.parse_model(HEADER + TEXT))
    assert found.outmap == wanted.outmap
    assert set(found.initializers) == set(wanted.initializers)
    assert set(found.value_infos) == set(wanted.value_infos)
