from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import onnx
import onnx.helper as theirs
import onnx.numpy_helper
import pytest
from google.protobuf.message import Message
from onnx import TensorProto

from fornix.errors import (
    DTypeError,
    ExternalDataError,
    FormatError,
    InvalidArgument,
    SchemaError,
    TensorDataError,
)
from fornix.onnx import TensorProto as OurTensor
from fornix.onnx import helper as ours
from fornix.onnx import numpy_helper
from tests.onnx.surface import names_of, parameters_of


def same(mine: Message, other: Message) -> None:
    assert mine.DESCRIPTOR.full_name == other.DESCRIPTOR.full_name
    assert mine.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", names_of(theirs))
def test_helper_has_the_names_and_parameters_of_onnx(name: str) -> None:
    assert parameters_of(getattr(ours, name)) == parameters_of(getattr(theirs, name))


@pytest.mark.parametrize("name", names_of(onnx.numpy_helper))
def test_numpy_helper_has_the_names_and_parameters_of_onnx(name: str) -> None:
    mine, other = getattr(numpy_helper, name), getattr(onnx.numpy_helper, name)
    assert len(inspect.signature(mine).parameters) == len(inspect.signature(other).parameters)


DTYPES = list(theirs.get_all_tensor_dtypes())


@pytest.mark.parametrize("code", DTYPES)
def test_dtypes_map_as_in_onnx(code: int) -> None:
    for name in (
        "tensor_dtype_to_np_dtype",
        "tensor_dtype_to_storage_tensor_dtype",
        "tensor_dtype_to_string",
        "tensor_dtype_to_field",
    ):
        assert getattr(ours, name)(code) == getattr(theirs, name)(code)
    dtype = theirs.tensor_dtype_to_np_dtype(code)
    assert ours.np_dtype_to_tensor_dtype(dtype) == theirs.np_dtype_to_tensor_dtype(dtype) == code
    assert code in ours.get_all_tensor_dtypes()


def test_strings_and_foreign_dtypes() -> None:
    assert ours.np_dtype_to_tensor_dtype(np.dtype("U3")) == TensorProto.STRING
    with pytest.raises(DTypeError, match="an element type of ONNX is required"):
        ours.np_dtype_to_tensor_dtype(np.dtype("datetime64"))


VALUES = np.array([[0, 1, 1], [1, 0, 1]])


@pytest.mark.parametrize("code", DTYPES)
def test_tensors_are_those_of_onnx(code: int) -> None:
    values: Any = VALUES.astype(str) if code == TensorProto.STRING else VALUES
    mine = ours.make_tensor("t", code, [2, 3], values)
    same(mine, theirs.make_tensor("t", code, [2, 3], values))
    flat = values.reshape(-1).tolist()
    same(ours.make_tensor("t", code, [2, 3], flat), theirs.make_tensor("t", code, [2, 3], flat))
    assert np.array_equal(numpy_helper.to_array(mine), onnx.numpy_helper.to_array(mine))
    if code != TensorProto.STRING:
        array = values.astype(theirs.tensor_dtype_to_np_dtype(code))
        for raw in (array, numpy_helper.from_array(array).raw_data):
            same(
                ours.make_tensor("t", code, [2, 3], raw, raw=True),
                theirs.make_tensor("t", code, [2, 3], raw, raw=True),
            )


@pytest.mark.parametrize(
    "code", [code for code in DTYPES if theirs.tensor_dtype_to_string(code).find("FLOAT8") > 0]
)
def test_float8_values_are_clamped_as_in_onnx(code: int) -> None:
    values = [0.3, 1e9, 447.0, 1.7] + ([] if code == TensorProto.FLOAT8E8M0 else [-1e9, -3.3])
    dims = [len(values)]
    same(ours.make_tensor("t", code, dims, values), theirs.make_tensor("t", code, dims, values))


def test_tensors_need_the_right_number_of_values() -> None:
    with pytest.raises(TensorDataError, match=r"tensor 't': float32\[3\] takes 3 values, found 2"):
        ours.make_tensor("t", TensorProto.FLOAT, [3], [1, 2])
    with pytest.raises(TensorDataError, match=r"float32\[3\] takes 12 bytes, found 4"):
        ours.make_tensor("t", TensorProto.FLOAT, [3], b"abcd", raw=True)
    with pytest.raises(DTypeError, match="strings have no raw data"):
        ours.make_tensor("t", TensorProto.STRING, [1], b"a", raw=True)
    with pytest.raises(DTypeError, match="raw data is bytes or an array, found list"):
        ours.make_tensor("t", TensorProto.FLOAT, [1], [1.0], raw=True)


TENSOR = theirs.make_tensor("t", 1, [2], [1, 2])
GRAPH = theirs.make_graph([theirs.make_node("Relu", ["x"], ["y"])], "inner", [], [])
TYPE = theirs.make_tensor_type_proto(1, ["N", None, 3])
SPARSE = theirs.make_sparse_tensor(
    theirs.make_tensor("v", 1, [1], [1]), theirs.make_tensor("i", 7, [1], [1]), [3]
)
ATTRIBUTES = [
    1, True, 2.5, "text", b"bytes", np.int64(3), np.float32(0.5), TENSOR, SPARSE, GRAPH, TYPE,
    [1, 2], [1.0, 2.0], [1, 2.5], ["a", b"b"], [TENSOR, TENSOR], [SPARSE], [GRAPH], [TYPE],
    (1, 2), np.array([1, 2]), np.array([1.5]), range(3),
]  # fmt: skip


def plain(value: Any) -> Any:
    """``value`` with its messages as bytes."""
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return value.SerializeToString() if isinstance(value, Message) else value


@pytest.mark.parametrize("value", ATTRIBUTES, ids=lambda value: type(value).__name__)
def test_attributes_are_those_of_onnx(value: Any) -> None:
    mine = ours.make_attribute("a", value, "doc")
    other = theirs.make_attribute("a", value, "doc")
    same(mine, other)
    found, expected = ours.get_attribute_value(mine), theirs.get_attribute_value(other)
    assert plain(found) == plain(expected)
    node = ours.make_node("Custom", ["x"], ["y"], a=value)
    assert plain(ours.get_node_attr_value(node, "a")) == plain(expected)


def test_empty_lists_need_their_type() -> None:
    for number in (*range(6, 11), 12, 14):
        same(
            ours.make_attribute("a", [], attr_type=number),
            theirs.make_attribute("a", [], attr_type=number),
        )
    with pytest.raises(InvalidArgument, match="attribute 'a': an empty list needs attr_type"):
        ours.make_attribute("a", [])


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ([1, "x"], None, "the elements of a list must have one type"),
        (object(), None, "object is no type of attribute"),
        (1, 1, "FLOAT is required, found INT"),
        ([1], 2, "INT is required, found a list"),
        (theirs.make_node("Relu", [], []), None, "NodeProto is no type of attribute"),
    ],
)
def test_values_that_are_no_attribute_are_refused(
    value: object, kind: int | None, message: str
) -> None:
    with pytest.raises((DTypeError, InvalidArgument), match=message):
        ours.make_attribute("a", value, attr_type=kind)


def test_references_have_a_name_and_no_value() -> None:
    mine = ours.make_attribute_ref("a", 1, "doc", ref_attr_name="b")
    same(mine, theirs.make_attribute_ref("a", 1, "doc", ref_attr_name="b"))
    same(ours.make_attribute_ref("a", 1), theirs.make_attribute_ref("a", 1))
    with pytest.raises(InvalidArgument, match="found a reference to 'b'"):
        ours.get_attribute_value(mine)
    with pytest.raises(InvalidArgument, match="ref_attr_name must be the name"):
        ours.make_attribute_ref("", 1)


def test_a_node_has_one_attribute_of_a_name() -> None:
    node = ours.make_node("Custom", [], [], "n", a=1)
    node.attribute.append(node.attribute[0])
    for name, count in (("a", 2), ("b", 0)):
        message = f"node 'n': one attribute '{name}' is required, found {count}"
        with pytest.raises(InvalidArgument, match=message):
            ours.get_node_attr_value(node, name)


SHAPES = [None, [], [1, 2], ["N", 3, None]]


@pytest.mark.parametrize("shape", SHAPES)
def test_types_and_values_are_those_of_onnx(shape: list[Any] | None) -> None:
    for name in ("make_tensor_type_proto", "make_sparse_tensor_type_proto"):
        same(getattr(ours, name)(1, shape), getattr(theirs, name)(1, shape))
    for name in (
        "make_tensor_value_info",
        "make_sparse_tensor_value_info",
        "make_tensor_sequence_value_info",
    ):
        same(getattr(ours, name)("x", 1, shape), getattr(theirs, name)("x", 1, shape))
        denotations = None if shape is None else [f"d{i}" for i in range(len(shape))]
        same(
            getattr(ours, name)("x", 1, shape, "doc", denotations),
            getattr(theirs, name)("x", 1, shape, "doc", denotations),
        )
    for name in ("make_sequence_type_proto", "make_optional_type_proto"):
        same(getattr(ours, name)(TYPE), getattr(theirs, name)(TYPE))
    same(ours.make_map_type_proto(7, TYPE), theirs.make_map_type_proto(7, TYPE))
    same(ours.make_value_info("x", TYPE, "doc"), theirs.make_value_info("x", TYPE, "doc"))
    same(ours.make_empty_tensor_value_info("x"), theirs.make_empty_tensor_value_info("x"))


def test_shapes_that_are_none_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="shape_denotation: 2 entries are required, found 1"):
        ours.make_tensor_type_proto(1, [1, 2], ["a"])
    with pytest.raises(
        InvalidArgument, match=r"dim 0: an int, str or None is required, found 1\.5"
    ):
        ours.make_tensor_type_proto(1, [1.5])  # type: ignore[list-item]


def build(helper: Any) -> Message:
    x, y = (helper.make_tensor_value_info(name, 1, ["N", 3]) for name in "xy")
    node = helper.make_node(
        "Add", ["x", "w"], ["y"], name="n", doc_string="d", domain="", overload="o", unset=None
    )
    graph = helper.make_graph(
        [node, helper.make_node("If", ["c"], ["z"], then_branch=GRAPH)],
        "g", [x], [y], [TENSOR], "doc", [x], [SPARSE],
    )  # fmt: skip
    function = helper.make_function(
        "d", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 20)], ["a"],
        [helper.make_attribute("b", 1)], "doc", "o", [x],
    )  # fmt: skip
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_operatorsetid("", 21)],
        functions=[function],
        producer_name="p",
        ir_version=9,
    )
    helper.set_model_props(model, {"k": "v"})
    helper.set_metadata_props(model.graph, {"k": "v", "l": "w"})
    model.training_info.append(helper.make_training_info(GRAPH, [("a", "b")], GRAPH, [("c", "d")]))
    model.training_info.append(helper.make_training_info(GRAPH, [], None, None))
    return model


def test_models_are_those_of_onnx() -> None:
    mine, other = build(ours), build(theirs)
    same(mine, other)
    ours.strip_doc_string(mine)
    assert "doc_string" in str(other)
    assert "doc_string" not in str(mine)
    same(ours.make_model(GRAPH), theirs.make_model(GRAPH))
    imports = [theirs.make_opsetid("", 15), theirs.make_opsetid("ai.onnx.ml", 3)]
    same(
        ours.make_model_gen_version(GRAPH, opset_imports=imports),
        theirs.make_model_gen_version(GRAPH, opset_imports=imports),
    )
    with pytest.raises(DTypeError, match="a protobuf message is required, found str"):
        ours.strip_doc_string("text")  # type: ignore[arg-type]


def test_ir_versions_are_those_of_onnx() -> None:
    assert ours.VERSION_TABLE == theirs.VERSION_TABLE
    assert ours.OP_SET_ID_VERSION_MAP == theirs.OP_SET_ID_VERSION_MAP
    unknown = [ours.make_opsetid("", 99)]
    with pytest.raises(SchemaError, match=r"opset 99 of ai.onnx: no release"):
        ours.find_min_ir_version_for(unknown)
    assert ours.find_min_ir_version_for(unknown, ignore_unknown=True) == 3
    assert ours.find_min_ir_version_for([]) == 3


def test_containers_are_those_of_onnx() -> None:
    sequence = theirs.make_sequence("s", 1, [TENSOR])
    same(ours.make_sequence("s", 1, [TENSOR]), sequence)
    same(ours.make_sequence("s", 0, []), theirs.make_sequence("s", 0, []))
    for kind, keys in ((TensorProto.INT32, [1]), (TensorProto.STRING, [b"a"])):
        same(ours.make_map("m", kind, keys, sequence), theirs.make_map("m", kind, keys, sequence))
    same(ours.make_optional("o", 3, sequence), theirs.make_optional("o", 3, sequence))
    same(ours.make_optional("o", 0, None), theirs.make_optional("o", 0, None))
    with pytest.raises(DTypeError, match="optional: elem_type must be 0 to 5, found 9"):
        ours.make_optional("o", 9, None)
    with pytest.raises(InvalidArgument, match="optional 'o': a tensor is required, found None"):
        ours.make_optional("o", 1, None)


def test_graphs_print_as_in_onnx() -> None:
    attributes = {f"a{index}": value for index, value in enumerate(ATTRIBUTES[:19])}
    values = [
        theirs.make_tensor_value_info("x", 1, ["N", None]),
        theirs.make_tensor_value_info("t", 1, []),
        theirs.make_tensor_sequence_value_info("s", 1, []),
        theirs.make_empty_tensor_value_info("e"),
    ]
    nodes = [
        theirs.make_node(
            "Custom",
            ["x"],
            ["y"],
            long="x" * 70,
            scalar=theirs.make_tensor("q", 1, [], [1]),
            **attributes,
        ),
        theirs.make_node("Relu", ["y"], []),
    ]
    for inputs in (values, values[1:2], values[:1], []):
        graph = theirs.make_graph(
            nodes, "g", inputs, values[:2], [TENSOR, theirs.make_tensor("u", 1, [], [1])]
        )
        with pytest.warns(DeprecationWarning, match="1.19"):
            expected = theirs.printable_graph(graph, "  ")
        assert ours.printable_graph(graph, "  ") == expected
    assert ours.printable_node(nodes[1], " ") == theirs.printable_node(nodes[1], " ")
    attribute = theirs.make_attribute_ref("r", 1)
    assert ours.printable_attribute(attribute) == theirs.printable_attribute(attribute)


def test_arrays_and_messages_convert_as_in_onnx() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    same(numpy_helper.from_array(array, "a"), onnx.numpy_helper.from_array(array, "a"))
    assert np.array_equal(numpy_helper.to_array(TENSOR), [1, 2])
    assert numpy_helper.tobytes_little_endian(array.astype(">f4")) == array.tobytes()
    with pytest.raises(DTypeError, match="unnamed tensor: a dtype is required, found UNDEFINED"):
        numpy_helper.to_array(OurTensor())
    external = OurTensor(data_type=1, data_location=1)
    with pytest.raises(ExternalDataError, match="location must be given"):
        numpy_helper.to_array(external)


@pytest.mark.parametrize("dtype", ["int8", "uint4", "float8_e4m3fn", "float16", "bfloat16"])
def test_saturate_cast_is_that_of_onnx(dtype: str) -> None:
    target = np.dtype(getattr(pytest.importorskip("ml_dtypes"), dtype, dtype))
    values = np.array([-1e6, -3.5, -0.5, 0.4, 1.5, 1e6], np.float32)
    mine = numpy_helper.saturate_cast(values, target)
    other = onnx.numpy_helper.saturate_cast(values, target)
    assert mine.dtype == other.dtype
    assert mine.tobytes() == other.tobytes()


@pytest.mark.parametrize("saturate", [True, False])
@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
def test_scales_round_as_in_onnx(mode: str, saturate: bool) -> None:
    values = np.array(
        [1, 1.5, 3, 6, 1e-3, np.inf, np.nan, 3e38, 0, 1e-39, 1e-45, -3, -np.inf], np.float32
    )
    mine = numpy_helper.to_float8e8m0(values, saturate, mode)
    assert mine.tobytes() == onnx.numpy_helper.to_float8e8m0(values, saturate, mode).tobytes()


def test_scales_round_in_three_ways() -> None:
    with pytest.raises(InvalidArgument, match="one of up, down, nearest is required, found 'odd'"):
        numpy_helper.to_float8e8m0(np.ones(1), round_mode="odd")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64"])
def test_random_integers_are_those_of_onnx(dtype: str) -> None:
    mine = numpy_helper.create_random_int((3, 4), np.dtype(dtype), seed=7)
    assert np.array_equal(mine, onnx.numpy_helper.create_random_int((3, 4), np.dtype(dtype), 7))
    with pytest.raises(DTypeError, match="integers are required, found float32"):
        numpy_helper.create_random_int((1,), np.dtype("float32"))


def test_sequences_maps_and_optionals_convert_as_in_onnx() -> None:
    arrays = [np.arange(3), np.ones(2)]
    same(numpy_helper.from_list(arrays, "s"), onnx.numpy_helper.from_list(arrays, "s"))
    same(
        numpy_helper.from_dict({1: arrays[0]}, "m"),
        onnx.numpy_helper.from_dict({1: arrays[0]}, "m"),
    )
    same(numpy_helper.from_optional(arrays[0]), onnx.numpy_helper.from_optional(arrays[0]))
    for value in (arrays, [arrays, arrays]):
        again = numpy_helper.to_list(onnx.numpy_helper.from_list(value))
        assert str(again) == str(value)


def test_messages_of_neither_kind_are_refused() -> None:
    with pytest.raises(FormatError, match="an ONNX message is required, found str"):
        ours.make_graph(["x"], "g", [], [])  # type: ignore[list-item]
