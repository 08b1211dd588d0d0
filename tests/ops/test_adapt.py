from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, version_converter

from fornix import ops
from fornix.dtype import DType
from fornix.errors import ConvertError
from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.graph import Graph, Model, Node
from fornix.ir.load import from_message, to_message
from fornix.ir.types import TensorType
from fornix.ir.verify import verify
from fornix.ops.adapt import adapt_node
from fornix.reference import ReferenceEvaluator

X = np.arange(12, dtype=np.float32).reshape(1, 4, 3)


def model_of(
    op_type: str, opset: int, axes: Any, outputs: int, *, is_attribute: bool, is_stored: bool = True
) -> Model:
    """A model of one node whose list of integers is an attribute or an input called "list"."""
    name = "split" if op_type == "Split" else "axes"
    names = [f"y{i}" for i in range(outputs)]
    inputs = ["x"] if is_attribute else ["x", "list"]
    attributes = {name: axes} if is_attribute else {}
    if op_type == "Split":
        attributes["axis"] = 1
    node = helper.make_node(op_type, inputs, names, **attributes)
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)]
    stored = []
    if not is_attribute and is_stored:
        stored.append(onnx.numpy_helper.from_array(np.array(axes, np.int64), "list"))
    elif not is_attribute:
        given.append(helper.make_tensor_value_info("list", TensorProto.INT64, [None]))
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names]
    graph = helper.make_graph([node], "g", given, results, stored)
    return from_message(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    )


def adapted(model: Model, source: int, target: int) -> Node:
    """The node of ``model`` after its adapter, the model importing the opset ``target``."""
    node = next(node for node in model.graph.nodes if node.op_type != "Constant")
    operator = ops.find("", node.op_type)
    assert operator is not None
    operator.adapters[source, target](node, model.graph)
    model.opset_imports[""] = target
    verify(model)
    return node


def results_of(model: Model) -> list[Any]:
    """What onnxruntime computes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        to_message(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {"x": X}))


CASES = [("Squeeze", [0], 1), ("Unsqueeze", [0, 2], 1), ("Split", [1, 3], 2)]


@pytest.mark.parametrize(("op_type", "entries", "outputs"), CASES)
def test_a_list_becomes_an_input_in_opset_13(
    op_type: str, entries: list[int], outputs: int
) -> None:
    model = model_of(op_type, 11, entries, outputs, is_attribute=True)
    before = results_of(model)
    node = adapted(model, 11, 13)
    assert set(node.attributes) <= {"axis"}
    assert len(node.inputs) == 2
    for one, other in zip(results_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("op_type", "entries", "outputs"), CASES)
def test_a_constant_list_becomes_an_attribute_in_opset_11(
    op_type: str, entries: list[int], outputs: int
) -> None:
    model = model_of(op_type, 13, entries, outputs, is_attribute=False)
    before = results_of(model)
    node = adapted(model, 13, 11)
    assert node.attr("split" if op_type == "Split" else "axes") == entries
    assert len(node.inputs) == 1
    for one, other in zip(results_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("op_type", "entries", "outputs"), CASES)
def test_there_and_back_leaves_the_model_as_it_was(
    op_type: str, entries: list[int], outputs: int
) -> None:
    model = model_of(op_type, 11, entries, outputs, is_attribute=True)
    [node] = model.graph.nodes
    before = {name: attribute.value for name, attribute in node.attributes.items()}
    adapted(model, 11, 13)
    assert len(model.graph.nodes) == 2
    adapted(model, 13, 11)
    assert list(model.graph.nodes) == [node]
    assert {name: attribute.value for name, attribute in node.attributes.items()} == before


@pytest.mark.parametrize(("op_type", "outputs"), [("Squeeze", 1), ("Split", 3)])
def test_a_node_without_a_list_stays_as_it_is(op_type: str, outputs: int) -> None:
    for source, target in ((11, 13), (13, 11)):
        node = Node("", op_type, [None], outputs)
        operator = ops.find("", op_type)
        assert operator is not None
        operator.adapters[source, target](node, Graph())
        assert not node.attributes
        assert len(node.inputs) == 1


def test_a_list_computed_at_run_time_has_no_place_in_opset_11() -> None:
    model = model_of("Squeeze", 13, [0], 1, is_attribute=False, is_stored=False)
    message = (
        "opset 11 takes axes as an attribute, so it must be a constant, but 'list' is computed at "
        "run time"
    )
    with pytest.raises(ConvertError) as raised:
        adapted(model, 13, 11)
    assert str(raised.value) == message


def test_a_list_that_the_caller_of_a_function_gives_stays_a_reference() -> None:
    graph = Graph()
    node = Node("", "Squeeze", [None], 1)
    node.set_attribute("axes", Attribute("axes", AttributeKind.INTS, None, "along"))
    graph.append(node)
    operator = ops.find("", "Squeeze")
    assert operator is not None
    operator.adapters[11, 13](node, graph)
    source = node.inputs[1]
    assert source is not None
    assert source.producer is not None
    assert source.producer.attributes["value_ints"].ref == "along"


# ── every operator's adapters, held to the kernels and to onnxruntime ──────────────────────────

RANDOM = np.random.default_rng(5)
OLDEST_OF_PEER = 7
"""Opset below which onnxruntime promises nothing."""


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return RANDOM.standard_normal(shape).astype(dtype)


def single(
    op_type: str,
    opset: int,
    inputs: list[Any],
    attributes: dict[str, Any] | None = None,
    outputs: int = 1,
    stored: tuple[int, ...] = (),
) -> Model:
    """A model of one node; the inputs ``stored`` are initializers, the others "x0", "x1" …"""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op_type, names, results, **(attributes or {}))
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(
                names[i], helper.np_dtype_to_tensor_dtype(x.dtype), x.shape
            )
            for i, x in enumerate(inputs)
            if x is not None and i not in stored
        ],
        [helper.make_empty_tensor_value_info(name) for name in results],
        [onnx.numpy_helper.from_array(inputs[i], names[i]) for i in stored],
    )
    return from_message(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    )


def feeds_of(model: Model, inputs: list[Any]) -> dict[str, Any]:
    return {value.name: inputs[int(value.name[1:])] for value in model.graph.inputs}


def of_peer(model: Any, feeds: dict[str, Any]) -> list[Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


def assert_close(found: list[Any], wanted: list[Any]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def check_step(
    op_type: str,
    source: int,
    target: int,
    inputs: list[Any],
    attributes: dict[str, Any] | None = None,
    *,
    outputs: int = 1,
    stored: tuple[int, ...] = (),
    peer: bool = True,
) -> Model:
    """Check that a node means the same after `adapt_node`, to fornix and to onnxruntime."""
    model = single(op_type, source, inputs, attributes, outputs, stored)
    feeds = feeds_of(model, inputs)
    wanted = ReferenceEvaluator(model).run(None, feeds)
    for value, result in zip(model.graph.outputs, wanted, strict=True):
        value.type = TensorType(DType.of(result.dtype), result.shape)
    [node] = model.graph.nodes
    adapt_node(node, model.graph, source, target)
    model.opset_imports[""] = target
    verify(model)
    onnx.checker.check_model(to_message(model).SerializeToString())
    assert_close(ReferenceEvaluator(model).run(None, feeds), wanted)
    if peer and target >= OLDEST_OF_PEER:
        assert_close(of_peer(to_message(model), feeds), wanted)
    return model


SCALE = [np.abs(normal(3)) + 1 for _ in range(4)]
PLACES = [np.abs(normal(3, 4)) + 1 for _ in range(4)]
WINDOW = np.array([0, 1, 1, 0], np.int64)


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3, -1, -2])
@pytest.mark.parametrize(("source", "target"), [(11, 13), (13, 11), (11, 21), (12, 1), (13, 9)])
def test_rows_become_axes_and_back(name: str, axis: int | None, source: int, target: int) -> None:
    attributes = {} if axis is None else {"axis": axis}
    check_step(name, source, target, [normal(2, 3, 4, 5)], attributes)


@pytest.mark.parametrize("axis", [1, 2])
def test_rows_become_axes_as_in_the_peer(axis: int) -> None:
    x = normal(2, 3, 4)
    model = single("Softmax", 11, [x], {"axis": axis})
    converted = version_converter.convert_version(
        onnx.load_from_string(to_message(model).SerializeToString()), 13
    )
    ours = check_step("Softmax", 11, 13, [x], {"axis": axis})
    assert_close(of_peer(to_message(ours), {"x0": x}), of_peer(converted, {"x0": x}))


def test_a_softmax_along_the_last_axis_stays_one_node() -> None:
    for axis in (2, -1):
        model = check_step("Softmax", 11, 13, [normal(2, 3, 4)], {"axis": axis})
        [node] = model.graph.nodes
        assert node.attr("axis") == -1


def test_a_softmax_whose_rank_is_unknown_keeps_its_axis_only_if_it_is_the_last() -> None:
    model = single("Softmax", 13, [normal(2, 3, 4)], {"axis": 1})
    model.graph.inputs[0].type = None
    [node] = model.graph.nodes
    with pytest.raises(ConvertError, match="the rank of the input must be known"):
        adapt_node(node, model.graph, 13, 11)


@pytest.mark.parametrize(
    ("source", "target", "inputs", "attributes", "outputs"),
    [
        (6, 7, [normal(2, 3, 4), *SCALE], {"is_test": 1}, 1),
        (6, 9, [normal(2, 3, 4), *SCALE], {"is_test": 1, "spatial": 1}, 1),
        (7, 9, [normal(2, 3, 4), *SCALE], {}, 1),
        (7, 9, [normal(2, 3, 4), *PLACES], {"spatial": 0}, 1),
        (7, 13, [normal(2, 3, 4, 1), *(p[..., None] for p in PLACES)], {"spatial": 0}, 1),
        (9, 14, [normal(2, 3, 4), *SCALE], {"epsilon": 0.5}, 1),
        (9, 15, [normal(5, 3, 4), *SCALE], {"momentum": 0.25}, 3),
        (15, 9, [normal(2, 3, 4), *SCALE], {}, 1),
        (14, 9, [normal(5, 3, 4), *SCALE], {"training_mode": 1}, 3),
        (14, 7, [normal(5, 3, 4), *SCALE], {"training_mode": 1}, 1),
        (9, 6, [normal(2, 3, 4), *SCALE], {}, 1),
        (9, 1, [normal(2, 3, 4), *SCALE], {}, 1),
    ],
)
def test_batch_normalization_keeps_its_statistics(
    source: int, target: int, inputs: list[Any], attributes: dict[str, Any], outputs: int
) -> None:
    # onnxruntime does not train with opsets before 14.
    peer = outputs == 1 and not attributes.get("training_mode")
    check_step("BatchNormalization", source, target, inputs, attributes, outputs=outputs, peer=peer)


def test_batch_normalization_cannot_lose_an_output_that_is_used() -> None:
    inputs = [normal(2, 3, 4), *SCALE]
    model = single("BatchNormalization", 9, inputs, {}, 5)
    [node] = model.graph.nodes
    message = r"opset 9\): output saved_mean, 'y3', is used and has no counterpart"
    with pytest.raises(ConvertError, match=message):
        adapt_node(node, model.graph, 9, 14)


@pytest.mark.parametrize(
    ("source", "target", "attributes", "outputs"),
    [
        (6, 7, {"is_test": 1, "ratio": 0.25}, 1),
        (7, 10, {"ratio": 0.25}, 2),
        (7, 13, {}, 2),
        (10, 12, {"ratio": 0.25}, 2),
        (10, 22, {}, 1),
        (10, 7, {"ratio": 0.25}, 2),
        (7, 6, {}, 1),
    ],
)
def test_dropout_in_inference_keeps_its_data_and_mask(
    source: int, target: int, attributes: dict[str, Any], outputs: int
) -> None:
    # In inference older versions leave the mask open; onnxruntime's says that nothing was kept.
    peer = outputs == 1 or target >= 12
    check_step("Dropout", source, target, [normal(3, 4)], attributes, outputs=outputs, peer=peer)


def test_dropout_gives_its_constants_back() -> None:
    inputs = [normal(3, 4), np.array(0.25, np.float32), np.array(False)]
    model = check_step("Dropout", 13, 10, inputs, stored=(1, 2))
    [node] = model.graph.nodes
    assert node.attr("ratio") == 0.25
    assert len(node.inputs) == 1


@pytest.mark.parametrize(
    ("op_type", "source", "target", "inputs", "attributes", "stored", "message"),
    [
        ("Dropout", 6, 7, [normal(2)], {}, (), "it trains (is_test=0), which opsets 7 to 11"),
        (
            "Dropout", 12, 11, [normal(2), None, np.array(True)], {}, (2,),
            "it trains (training_mode is true), which opset 10 cannot say",
        ),
        (
            "Dropout", 12, 11, [normal(2), np.array(0.5, np.float32)], {}, (),
            "opset 10 takes ratio as an attribute, so it must be a constant, but 'x1'",
        ),
        ("Celu", 12, 11, [normal(2)], {}, (), "cannot go below opset 12, where Celu begins"),
        (
            "GroupNormalization", 21, 18, [normal(1, 4, 2), normal(4), normal(4)],
            {"num_groups": 2}, (), "opset 18 has no GroupNormalization any more",
        ),
        (
            "Relu", 14, 13, [np.ones(2, np.int32)], {}, (),
            "Relu-13 does not take int32[2] as X",
        ),
        (
            "Relu", 13, 12, [np.ones(2, ml_dtypes.bfloat16)], {}, (),
            "Relu-6 does not take bfloat16[2] as X",
        ),
        (
            "DepthToSpace", 11, 10, [normal(1, 4, 2, 2)], {"blocksize": 2, "mode": "CRD"}, (),
            'DepthToSpace-1 has no attribute for mode = "CRD"',
        ),
        (
            "Clip", 11, 10, [normal(2), np.array(0, np.float32)], {}, (),
            "opset 6 takes bounds as attributes, so it must be a constant, but 'x1'",
        ),
        (
            "Reshape", 14, 13, [normal(0, 2), np.array([2, 0])], {"allowzero": 1}, (1,),
            "opset 13 has no shape with the extent 0 (allowzero=1)",
        ),
        (
            "Add", 7, 6, [normal(3), normal(2, 3)], {}, (),
            "before opset 7 only B broadcasts, found A[3] and B[2, 3]",
        ),
        (
            "Slice", 10, 9, [normal(5), *np.array([[0], [5], [0], [2]])], {}, (1, 2, 3, 4),
            "opset 1 takes every element of a slice, found steps [2]",
        ),
        (
            "TopK", 11, 10, [normal(5), np.array([2])], {"largest": 0}, (1,),
            "opset 10 finds the greatest elements only (largest=1)",
        ),
        (
            "ReduceSum", 13, 11, [normal(5)], {"noop_with_empty_axes": 1}, (),
            "opset 11 reduces over all axes where none are named",
        ),
        (
            "Resize", 10, 9, [normal(4), np.array([0.5], np.float32)], {}, (1,),
            "opset 9 has no operator that shrinks, found scales [0.5]",
        ),
        (
            "Resize", 10, 11, [normal(4, 4), np.array([0.5, 2], np.float32)], {}, (1,),
            "opset 11 rounds positions along all axes alike, found scales [0.5, 2.0]",
        ),
        (
            "Resize", 11, 10, [normal(4), normal(0), normal(0), np.array([2])], {}, (1, 2, 3),
            "opset 10 resizes by scales, not to sizes",
        ),
        (
            "Resize", 11, 10, [normal(4), normal(0), np.array([2], np.float32)], {}, (1, 2),
            "opset 10 resizes by asymmetric and floor, found half_pixel and round_prefer_floor",
        ),
        (
            "Resize", 19, 17, [normal(4), normal(0), np.array([2], np.float32)],
            {"coordinate_transformation_mode": "half_pixel_symmetric"}, (1, 2),
            "opset 18 has no coordinate_transformation_mode half_pixel_symmetric",
        ),
        (
            "Resize", 12, 13, [normal(4), normal(0), np.array([2], np.float32)],
            {"coordinate_transformation_mode": "tf_half_pixel_for_nn"}, (1, 2),
            "opset 13 has no coordinate_transformation_mode tf_half_pixel_for_nn",
        ),
    ],
)  # fmt: skip
def test_what_an_opset_cannot_say_is_an_error_that_says_so(
    op_type: str,
    source: int,
    target: int,
    inputs: list[Any],
    attributes: dict[str, Any],
    stored: tuple[int, ...],
    message: str,
) -> None:
    model = single(op_type, source, inputs, attributes, 1, stored)
    [node] = model.graph.nodes
    with pytest.raises(ConvertError) as raised:
        adapt_node(node, model.graph, source, target)
    assert message in str(raised.value)
    assert str(raised.value).startswith("node for 'y0' (")


@pytest.mark.parametrize(
    "attributes", [{}, {"min": -0.5}, {"max": 0.25}, {"min": -1.0, "max": 1.0}]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_clip_moves_its_bounds(attributes: dict[str, float], dtype: Any) -> None:
    x = normal(20, dtype=dtype)
    for source, target in ((6, 11), (6, 13), (10, 12)):
        peer = dtype != np.float64 or target > 11  # whose Clip-11 takes no float64
        check_step("Clip", source, target, [x], attributes, peer=peer)


def test_clip_gives_its_bounds_back() -> None:
    low, high = np.array(-0.5, np.float32), np.array(0.5, np.float32)
    model = check_step("Clip", 13, 6, [normal(20), low, high], stored=(1, 2))
    [node] = model.graph.nodes
    assert (node.attr("min"), node.attr("max")) == (-0.5, 0.5)
    check_step("Clip", 12, 9, [normal(20), None, high], stored=(2,))


def test_reshape_moves_its_shape() -> None:
    check_step("Reshape", 1, 5, [normal(2, 6)], {"shape": [3, -1]})
    check_step("Reshape", 4, 14, [normal(1, 1)])
    check_step("Reshape", 14, 1, [normal(2, 6), np.array([3, -1])], stored=(1,))
    check_step("Reshape", 14, 13, [normal(2, 6), np.array([3, 4])], {"allowzero": 1}, stored=(1,))


@pytest.mark.parametrize("name", ["Add", "Sub", "Mul", "Div", "Pow"])
@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((2, 3, 4, 5), {}),
        ((4, 5), {"broadcast": 1}),
        ((3, 4), {"broadcast": 1, "axis": 1}),
        ((2,), {"broadcast": 1, "axis": 0}),
        ((3,), {"broadcast": 1, "axis": -3}),
        ((), {"broadcast": 1}),
    ],
)
def test_arithmetic_broadcasts_by_rank_since_7(
    name: str, shape: tuple[int, ...], attributes: dict[str, int]
) -> None:
    a, b = np.abs(normal(2, 3, 4, 5)), np.abs(normal(*shape)) + 1
    for source, target in ((6, 7), (6, 14)):
        check_step(name, source, target, [a, np.asarray(b)], attributes)


@pytest.mark.parametrize("name", ["Add", "Sub", "Mul", "Div", "Pow", "Less"])
@pytest.mark.parametrize("shape", [(2, 3), (3,), (1, 3), ()])
def test_arithmetic_says_that_it_broadcasts_before_7(name: str, shape: tuple[int, ...]) -> None:
    b = np.asarray(np.abs(normal(*shape)) + 1)
    check_step(name, 8, 6, [np.abs(normal(2, 3)), b])


@pytest.mark.parametrize("name", ["And", "Or", "Xor"])
def test_logic_broadcasts_by_rank_since_7(name: str) -> None:
    a, b = normal(2, 3, 4) > 0, normal(3) > 0
    check_step(name, 6, 7, [a, b], {"broadcast": 1, "axis": 1})


def test_upsample_becomes_resize() -> None:
    scales = np.array([1, 1, 2, 1.5], np.float32)
    x = normal(1, 2, 4, 6)
    for mode in ("nearest", "linear"):
        for target in (9, 10, 11, 13):
            check_step("Upsample", 7, target, [x], {"scales": scales.tolist(), "mode": mode})
        check_step("Upsample", 9, 13, [x, scales], {"mode": mode}, stored=(1,))
        check_step("Resize", 10, 7, [x, scales], {"mode": mode}, stored=(1,))
    old = {"height_scale": 2.0, "width_scale": 3.0, "mode": "bilinear"}
    check_step("Upsample", 1, 10, [x], old)


def test_resize_keeps_the_way_it_rounds() -> None:
    x = normal(1, 2, 4, 6)
    for scales in ([1, 1, 2, 1.5], [1, 1, 0.5, 0.75], [1, 1, 1, 1]):
        given = np.array(scales, np.float32)
        check_step("Resize", 10, 11, [x, given], stored=(1,))
        check_step("Resize", 10, 19, [x, given], {"mode": "linear"}, stored=(1,))
    reading = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    inputs = [x, np.zeros(0, np.float32), np.array([1, 1, 2, 3], np.float32)]
    check_step("Resize", 11, 10, inputs, reading, stored=(1, 2))


@pytest.mark.parametrize(
    ("name", "since"), [("ReduceSum", 13), ("ReduceMean", 18), ("ReduceMax", 18)]
)
def test_reductions_move_their_axes(name: str, since: int) -> None:
    x = normal(2, 3, 4)
    for axes in ([1], [-1, 0]):
        check_step(name, 11, since, [x], {"axes": axes, "keepdims": 0})
        check_step(name, since, 11, [x, np.array(axes)], {"keepdims": 0}, stored=(1,))
    check_step(name, 11, since, [x])
    check_step(name, since, 11, [x])


def test_other_lists_move_between_attributes_and_inputs() -> None:
    x = normal(5, 6)
    cut = {"starts": [1, -4], "ends": [4, 100], "axes": [0, 1]}
    check_step("Slice", 9, 13, [x], cut)
    check_step("Slice", 9, 10, [x], {"starts": [1], "ends": [3]})
    check_step("Slice", 13, 9, [x, *np.array([[1], [3], [1], [1]])], stored=(1, 2, 3, 4))
    check_step("TopK", 9, 11, [x], {"k": 2}, outputs=2)
    check_step("TopK", 11, 9, [x, np.array([2])], outputs=2, stored=(1,))
    check_step("Pad", 2, 11, [x], {"pads": WINDOW.tolist(), "value": 1.5})
    check_step("Pad", 1, 11, [x], {"paddings": WINDOW.tolist(), "mode": "edge"})
    check_step("Pad", 13, 2, [x, WINDOW, np.array(2, np.float32)], stored=(1, 2))
    check_step("Pad", 11, 1, [x, WINDOW], stored=(1,))


def test_gemm_and_prelu_broadcast_without_being_asked_since_7() -> None:
    a, b, c = normal(2, 3), normal(3, 4), normal(4)
    check_step("Gemm", 6, 7, [a, b, c], {"broadcast": 1})
    check_step("Gemm", 7, 6, [a, b, c])
    for slope in (normal(1), normal(3)):
        check_step("PRelu", 6, 7, [normal(2, 3, 4), slope])


@pytest.mark.parametrize(("source", "target"), [(6, 7), (7, 6)])
def test_a_gemm_of_a_vector_is_not_converted(source: int, target: int) -> None:
    model = single("Gemm", source, [normal(2, 3), normal(3), normal(2)], {}, 1, ())
    [node] = model.graph.nodes
    with pytest.raises(ConvertError, match=r"B must be a matrix, got B\[3\]"):
        adapt_node(node, model.graph, source, target)


def test_an_input_with_stored_contents_becomes_an_attribute_if_nobody_else_reads_it() -> None:
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1, 2, 2)),
             helper.make_tensor_value_info("scales", TensorProto.FLOAT, [4])]  # fmt: skip
    stored = onnx.numpy_helper.from_array(np.array([1, 1, 2, 3], np.float32), "scales")
    up = [helper.make_node("Upsample", ["x", "scales"], [name]) for name in "yz"]
    for nodes in (up[:1], up):
        ends = [helper.make_tensor_value_info(n.output[0], TensorProto.FLOAT, None) for n in nodes]
        graph = helper.make_graph(nodes, "g", given, ends, [stored])
        model = from_message(helper.make_model(graph, ir_version=8))
        first = next(iter(model.graph.nodes))
        if len(nodes) == 2:
            with pytest.raises(ConvertError, match="'scales' is computed at run time"):
                adapt_node(first, model.graph, 9, 8)
        else:
            adapt_node(first, model.graph, 9, 8)
            assert first.attr("scales") == [1, 1, 2, 3]
            assert [value.name for value in model.graph.inputs] == ["x"]
            assert not model.graph.initializers


def test_defaults_that_change_are_written_out() -> None:
    model = check_step("Selu", 5, 6, [normal(9)])
    [node] = model.graph.nodes
    assert node.attr("alpha") == pytest.approx(1.6732)


def test_a_node_of_a_foreign_domain_stays() -> None:
    node = Node("com.example", "Softmax", [None], 1)
    graph = Graph()
    graph.append(node)
    adapt_node(node, graph, 11, 13)
    assert not node.attributes
