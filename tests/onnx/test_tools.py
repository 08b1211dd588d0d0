from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator
from onnx.tools import replace_constants as peer_constants
from onnx.tools import update_model_dims as peer_dims

from fornix.errors import InvalidArgument, NotSupported
from fornix.onnx.tools import replace_constants, update_model_dims
from tests.onnx.surface import parameters_of

HEADER = '<ir_version: 10, opset_import: ["": 20]>'


def model(text: str, header: str = HEADER) -> Any:
    return parser.parse_model(header + text)


def theirs(message: Any) -> Any:
    return onnx.ModelProto.FromString(message.SerializeToString())


def dims(message: Any) -> list[list[Any]]:
    values = [*message.graph.input, *message.graph.output]
    return [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values]


def shaped() -> Any:
    return model("g (float[b, 3, ?] x, float[?, 4] z) => (float[b, ?] y) { y = Op(x, z) }").graph


def updatable() -> Any:
    return model("g (float[b, 3] x) => (float[b, 3] y) { y = Neg(x) }")


def test_signatures_are_the_peers() -> None:
    name = "replace_initializer_by_constant_of_shape"
    ours, wanted = getattr(replace_constants, name), getattr(peer_constants, name)
    assert parameters_of(ours) == parameters_of(wanted)
    name = "update_inputs_outputs_dims"
    ours, wanted = getattr(update_model_dims, name), getattr(peer_dims, name)
    assert parameters_of(ours) == parameters_of(wanted)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"x": [7, 3]}, {"y": [7, 3]}),
        ({"x": ["n", 3]}, {"y": ["n", 3]}),
        ({"x": [-1, 3]}, {"y": [-1, 3]}),
        ({"x": ["n"]}, {"y": []}),
        ({"x": ["n", "m"]}, {"y": ["n", "m"]}),
    ],
)
def test_shapes_are_set_as_by_the_peer(inputs: Any, outputs: Any) -> None:
    expected = peer_dims.update_inputs_outputs_dims(updatable(), inputs, outputs)
    source = updatable()
    found = update_model_dims.update_inputs_outputs_dims(source, inputs, outputs)
    assert found is source
    assert dims(found) == dims(expected)


@pytest.mark.parametrize(
    ("inputs", "outputs", "error", "message"),
    [
        ({}, {"y": []}, KeyError, "x"),
        ({"x": []}, {}, KeyError, "y"),
        ({"x": ["n", 4]}, {"y": []}, ValueError, "'x': axis 1 is 3, and cannot become 4"),
        ({"x": [2.5]}, {"y": []}, TypeError, "a number or name is required for axis 0, found fl"),
    ],
)
def test_what_the_peer_refuses_is_refused(
    inputs: Any, outputs: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error):
        peer_dims.update_inputs_outputs_dims(updatable(), inputs, outputs)
    with pytest.raises(error, match=message):
        update_model_dims.update_inputs_outputs_dims(updatable(), inputs, outputs)


def test_names_that_are_taken_and_axes_that_are_not_there_are_refused() -> None:
    taken = model("g (float[x_1, x_0] x) => (float[x_1, x_0] y) { y = Neg(x) }")
    with pytest.raises(InvalidArgument, match="a name for axis 0 is required, since 'x_0' is tak"):
        update_model_dims.update_inputs_outputs_dims(taken, {"x": [-1]}, {"y": []})
    with pytest.raises(InvalidArgument, match="'x' has 2 axes, found 3 extents"):
        update_model_dims.update_inputs_outputs_dims(updatable(), {"x": [1, 3, 3]}, {"y": []})


WEIGHTS = """g (float[N, 4] x) => (float[N, 5] y) <float[2] small = {1, 2}> {
    big = Constant <value = float[4, 5] {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20}> ()
    a = MatMul(x, big) y = Add(a, bias) }"""


def weighted(opset: int = 20, ir_version: int = 10) -> Any:
    made = model(WEIGHTS, f'<ir_version: {ir_version}, opset_import: ["": {opset}]>')
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(5, np.float32), "bias"))
    if ir_version < 4:
        for name, extent in (("small", 2), ("bias", 5)):
            info = onnx.helper.make_tensor_value_info(name, 1, [extent])
            made.graph.input.append(info)
    return made


def operators(message: Any) -> list[str]:
    return sorted(node.op_type for node in message.graph.node)


@pytest.mark.parametrize(("opset", "ir_version"), [(20, 10), (9, 4), (9, 3)])
def test_larger_tensors_are_made_as_by_the_peer(opset: int, ir_version: int) -> None:
    source = weighted(opset, ir_version)
    expected = peer_constants.replace_initializer_by_constant_of_shape(source, threshold=4)
    found = replace_constants.replace_initializer_by_constant_of_shape(source, threshold=4)
    assert operators(found) == operators(expected)
    names = [x.name for x in found.graph.initializer]
    assert sorted(names) == sorted(x.name for x in expected.graph.initializer)
    assert [x.name for x in found.graph.input] == [x.name for x in expected.graph.input]
    onnx.checker.check_model(theirs(found), full_check=True)
    feeds = {"x": np.ones((2, 4), np.float32)}
    if ir_version >= 4:
        [ours], [wanted] = (
            ReferenceEvaluator(theirs(m)).run(None, feeds) for m in (found, expected)
        )
        np.testing.assert_array_equal(ours, wanted)
        np.testing.assert_array_equal(ours, np.full((2, 5), 2.5, np.float32))


def test_the_value_may_be_chosen_and_changed_later() -> None:
    once = replace_constants.replace_initializer_by_constant_of_shape(weighted(), threshold=4)
    for source in (weighted(), once):
        found = replace_constants.replace_initializer_by_constant_of_shape(
            source, threshold=4, value_constant_of_shape=1
        )
        [y] = ReferenceEvaluator(theirs(found)).run(None, {"x": np.ones((2, 4), np.float32)})
        np.testing.assert_array_equal(y, np.full((2, 5), 5, np.float32))


def test_ranges_fill_tensors_without_constants() -> None:
    once = replace_constants.replace_initializer_by_constant_of_shape(weighted(), threshold=4)
    for source in (weighted(), once):
        found = replace_constants.replace_initializer_by_constant_of_shape(
            source, threshold=4, use_range=True
        )
        assert "ConstantOfShape" not in operators(found)
        onnx.checker.check_model(theirs(found), full_check=True)
        x = np.eye(4, dtype=np.float32)
        [y] = ReferenceEvaluator(theirs(found)).run(None, {"x": x})
        big, bias = np.arange(20, dtype=np.float32) / 20, np.arange(5, dtype=np.float32) / 5
        np.testing.assert_allclose(y, big.reshape(4, 5) + bias, rtol=1e-6)


def test_graphs_functions_and_subgraphs_change_likewise() -> None:
    function = parser.parse_function(
        '<domain: "l", opset_import: ["": 20]> F (a) => (b) '
        "{ c = Constant <value = float[2] {1, 2}> () b = Add(a, c) }"
    )
    graph = model("""g (bool c) => (float[2] y) { y = If(c) <
        then_branch = t () => (a) { a = Constant <value = float[2] {1, 2}> () },
        else_branch = e () => (b) { b = Constant <value = float[2] {3, 4}> () }> }""").graph
    for source in (function, graph):
        expected = peer_constants.replace_initializer_by_constant_of_shape(source, threshold=1)
        found = replace_constants.replace_initializer_by_constant_of_shape(source, threshold=1)
        assert type(found).__name__ == type(expected).__name__
        assert str(found).count("ConstantOfShape") == str(expected).count("ConstantOfShape")
    assert str(found).count("ConstantOfShape") == 2


@pytest.mark.parametrize(("opset", "use_range"), [(8, False), (10, True)])
def test_opsets_without_the_operators_are_refused(opset: int, use_range: bool) -> None:
    name = "replace_initializer_by_constant_of_shape"
    source = weighted(opset, 8)
    with pytest.raises(RuntimeError):
        getattr(peer_constants, name)(source, threshold=4, use_range=use_range)
    with pytest.raises(RuntimeError, match=rf"or newer is required, found {opset}"):
        getattr(replace_constants, name)(source, threshold=4, use_range=use_range)


def test_what_is_no_dense_tensor_is_refused_as_by_the_peer() -> None:
    sparse = weighted()
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = onnx.numpy_helper.from_array(np.zeros(1, np.int64), "i")
    sparse.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [9]))
    text = "g () => (y) { y = Constant <value_ints = [1, 2]> () }"
    for source, message in ((sparse, "'s': a dense tensor is req"), (model(text), "value_ints")):
        for module in (peer_constants, replace_constants):
            with pytest.raises(NotImplementedError):
                module.replace_initializer_by_constant_of_shape(source, threshold=4)
        with pytest.raises(NotSupported, match=message):
            replace_constants.replace_initializer_by_constant_of_shape(source, threshold=4)
    wrong: Any = 3
    for module in (peer_constants, replace_constants):
        with pytest.raises(TypeError):
            module.replace_initializer_by_constant_of_shape(wrong)
