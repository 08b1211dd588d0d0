from __future__ import annotations

import copy
import gc
import pickle
import random
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
from google.protobuf.message import DecodeError

from fornix.dtype import FLOAT32
from fornix.errors import (
    DTypeError,
    ExternalDataError,
    FormatError,
    FornixError,
    GraphError,
    LimitError,
)
from fornix.format.limits import Limits
from fornix.format.mapped import Memory
from fornix.format.messages import AttributeProto, GraphProto, ModelProto, TensorProto
from fornix.format.wire import scan
from fornix.ir import walk
from fornix.ir.graph import Attribute, AttributeKind, Graph, Model, Node, Value
from fornix.ir.load import from_message, to_message
from fornix.ir.tensor import ArrayTensor, LazyTensor, MappedTensor, SparseTensor
from fornix.ir.types import TensorType
from fornix.ir.verify import verify
from tests.ir.filling import UNKNOWN, filled, full
from tests.ir.graphs import BRANCHES, message, model, names, node, value

DATA = Path(onnx.backend.test.__file__).parent / "data"


def serialized(source: ModelProto) -> bytes:
    return source.SerializePartialToString(deterministic=True)


def assert_lossless(source: ModelProto) -> None:
    before = serialized(source)
    assert serialized(to_message(from_message(source))) == before
    assert serialized(source) == before


def test_every_model_shipped_with_onnx_survives() -> None:
    found = sorted(DATA.rglob("*.onnx"))
    assert len(found) > 100
    for path in found:
        source = ModelProto.FromString(path.read_bytes())
        assert_lossless(source)
        verify(from_message(source))


@pytest.mark.slow
def test_every_node_and_model_case_of_the_standard_survives() -> None:
    from onnx.backend.test.case import model as models
    from onnx.backend.test.case import node as nodes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases overflow on purpose
        cases = [*nodes.collect_testcases(None), *models.collect_testcases()]
    found = [case.model for case in cases if case.model is not None]
    assert len(found) > 1500
    for item in found:
        source = ModelProto.FromString(item.SerializeToString())
        assert_lossless(source)
        whole = from_message(source)
        verify(whole)
        assert to_message(whole.clone()) == source


@pytest.mark.parametrize("start", range(0, 300, 100))
def test_any_fields_of_any_messages_survive(start: int) -> None:
    for seed in range(start, start + 100):
        assert_lossless(filled(seed))


@pytest.mark.slow
def test_any_fields_of_any_messages_survive_many_times() -> None:
    for seed in range(1000, 6000):
        assert_lossless(filled(seed))


def test_all_fields_of_all_messages_survive_together() -> None:
    assert_lossless(full(7))


def test_unknown_fields_survive_byte_by_byte() -> None:
    # A number whose tag is longer than it must be, bytes whose size is, and a group.
    unknown = b"\xf8\xff\x00\x2a\xf2\x7f\x83\x00abc\xeb\x7f\x08\x01\xec\x7f"
    source = ModelProto.FromString(unknown)
    source.graph.name = "g"
    source.graph.MergeFromString(unknown)
    source.graph.node.add(op_type="Relu").MergeFromString(unknown)
    assert serialized(source).count(unknown) == 3
    assert_lossless(source)


def test_damaged_models_survive_and_raise_nothing_unexpected() -> None:
    seeds = [path.read_bytes() for path in sorted(DATA.rglob("*.onnx"))]
    small = [seed for seed in seeds if len(seed) < 20_000]
    draw = random.Random(0)
    survived = 0
    for _ in range(2000):
        damaged = bytearray(draw.choice(small))
        for _ in range(draw.choice([1, 2, 5, 20])):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            source = ModelProto.FromString(bytes(damaged))
        except DecodeError:
            continue
        survived += 1
        assert_lossless(source)
        whole = from_message(source)
        assert str(whole)
        with suppress(FornixError):
            verify(whole)
        for tensor in walk.tensors(whole):
            with suppress(FornixError):
                tensor.numpy()
    assert survived > 200


def test_any_fields_survive_copies() -> None:
    for seed in range(60):
        source = filled(seed)
        whole = from_message(source)
        assert serialized(to_message(whole.clone())) == serialized(source)
        assert serialized(to_message(copy.deepcopy(whole))) == serialized(source)
        assert serialized(to_message(pickle.loads(pickle.dumps(whole)))) == serialized(source)
        assert str(whole)


def test_any_fields_survive_a_skeleton() -> None:
    for seed in range(100):
        source = filled(seed)
        data = serialized(source)
        skeleton = scan(Memory(data), ModelProto, threshold=1)
        assert serialized(to_message(from_message(skeleton))) == data


def test_messages_of_onnx_itself_are_read() -> None:
    source = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => () {}'
    )
    whole = from_message(source)
    assert str(whole.graph.inputs[0].type) == "float32[N]"


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(FormatError, match="ModelProto"):
        from_message(GraphProto())  # type: ignore[arg-type]


def test_names_become_values() -> None:
    graph = model(BRANCHES).graph
    mul, clip, branch = graph.nodes
    assert mul.inputs == (graph.inputs[0], graph.initializers["w"])
    assert clip.inputs == (mul.output, None, graph.initializers["w"])
    assert branch.graphs == [branch.attr("then_branch"), branch.attr("else_branch")]
    add = branch.attr("then_branch").nodes[0]
    assert add.inputs == (mul.output, clip.output)
    assert walk.captured_values(branch) == [mul.output, clip.output, graph.initializers["w"]]


def test_attributes_become_python_values() -> None:
    source = ModelProto()
    item = source.graph.node.add(op_type="Op").attribute
    item.add(name="f", type=AttributeProto.FLOAT, f=0.5)
    item.add(name="i", type=AttributeProto.INT, i=0)
    item.add(name="s", type=AttributeProto.STRING, s="é".encode())
    item.add(name="bytes", type=AttributeProto.STRING, s=b"\xff")
    item.add(name="floats", type=AttributeProto.FLOATS, floats=[0.5, float("nan")])
    item.add(name="ints", type=AttributeProto.INTS)
    item.add(name="strings", type=AttributeProto.STRINGS, strings=[b"a", b"\xff"])
    item.add(name="ref", type=AttributeProto.INT, ref_attr_name="alpha")
    item.add(name="t", type=AttributeProto.TENSOR).t.data_type = TensorProto.FLOAT
    item.add(name="tp", type=AttributeProto.TYPE_PROTO).tp.tensor_type.elem_type = 1
    found = from_message(source).graph.nodes[0].attributes
    assert [found[name].value for name in ("f", "i", "s", "bytes", "ints", "strings", "ref")] == [
        *(0.5, 0, "é", b"\xff", [], ["a", b"\xff"], None)
    ]
    assert found["ref"].ref == "alpha"
    assert found["ref"].kind is AttributeKind.INT
    np.testing.assert_array_equal(found["floats"].value, [0.5, np.nan])
    assert found["t"].value.dtype is FLOAT32
    assert found["tp"].value == TensorType(FLOAT32)
    assert_lossless(source)


def test_attributes_of_ir_version_1_have_the_kind_of_their_value() -> None:
    source = ModelProto(ir_version=1)
    item = source.graph.node.add(op_type="Op").attribute
    item.add(name="pads", ints=[1, 1])
    item.add(name="both", ints=[1], f=1.0)
    found = from_message(source).graph.nodes[0].attributes
    assert (found["pads"].kind, found["pads"].value) == (AttributeKind.INTS, [1, 1])
    assert (found["both"].kind, found["both"].value) == (AttributeKind.UNDEFINED, None)
    assert_lossless(source)


def test_the_default_domain_is_empty_however_it_is_spelt() -> None:
    source = ModelProto()
    source.opset_import.add(domain="ai.onnx", version=17)
    source.graph.node.add(op_type="Relu", domain="ai.onnx", output=["y"])
    whole = from_message(source)
    assert whole.opset_imports == {"": 17}
    assert whole.graph.nodes[0].domain == ""
    assert_lossless(source)
    whole.opset_imports[""] = 18
    whole.graph.nodes[0].domain = "com.x"
    written = to_message(whole)
    assert [(x.domain, x.version) for x in written.opset_import] == [("ai.onnx", 18)]
    assert written.graph.node[0].domain == "com.x"


def test_unusual_encodings_give_way_when_the_value_changes() -> None:
    source = ModelProto(ir_version=8, producer_name="")
    source.metadata_props.add(key="k", value="1")
    source.metadata_props.add(key="k", value="2")
    item = source.graph.node.add(op_type="Relu", name="", output=["y"])
    item.MergeFromString(b"\x0a\x01\xff" + UNKNOWN)
    item.attribute.add(name="a", type=AttributeProto.FLOAT, f=float("nan"), i=3)
    whole = from_message(source)
    assert whole.metadata == {"k": "2"}
    made = whole.graph.nodes[0]
    assert made.inputs[0] is not None
    assert made.inputs[0].name == "\udcff"
    whole.producer_name = "fornix"
    whole.metadata["k"] = "3"
    made.name = "n"
    made.inputs = ()
    made.set_attribute("a", 2.0)
    written = to_message(whole)
    expected = ModelProto(ir_version=8, producer_name="fornix")
    expected.metadata_props.add(key="k", value="3")
    other = expected.graph.node.add(op_type="Relu", name="n", output=["y"])
    other.attribute.add(name="a", type=AttributeProto.FLOAT, f=2.0)
    other.MergeFromString(UNKNOWN)
    assert written == expected


def test_attributes_that_are_given_twice_are_both_there() -> None:
    source = ModelProto()
    item = source.graph.node.add(op_type="Op")
    for number in (1, 2, 3):
        item.attribute.add(name="a", type=AttributeProto.INT, i=number)
    found = from_message(source).graph.nodes[0].attributes
    assert [attribute.name for attribute in found.values()] == ["a", "a", "a"]
    assert found["a"].value == 1
    assert_lossless(source)


def test_names_that_nothing_defines_are_undefined_values() -> None:
    source = message("main () => () { y = Relu(nowhere)  z = Neg(nowhere) }")
    whole = from_message(source)
    first, second = whole.graph.nodes
    missing = first.inputs[0]
    assert missing is not None
    assert missing is second.inputs[0]
    assert missing.is_undefined
    assert missing.graph is whole.graph
    assert_lossless(source)


def test_a_model_in_any_order_is_read() -> None:
    source = message(
        """main (bool c, float x) => (float z) {
             z = If(c) <then_branch = t () => (float v) { v = Neg(late) },
                        else_branch = e () => (late) { }>
             late = Relu(x)
           }"""
    )
    whole = from_message(source)
    late = whole.graph.nodes[1].output
    assert late.uses[0].node.op_type == "Neg"
    assert late.output_of == (whole.graph.nodes[0].attr("else_branch"),)
    assert not late.is_undefined
    assert_lossless(source)
    with pytest.raises(GraphError, match="'late' has to be defined ahead of its use"):
        verify(whole)


def test_a_name_means_the_nearest_definition_ahead() -> None:
    source = message(
        """main (bool c, float x) => (float x) {
             a = Relu(x)
             x = Neg(x)
             b = Abs(x)
             d = If(c) <then_branch = t () => (float v) { x = Cos(x)  v = Sin(x) }>
           }"""
    )
    whole = from_message(source)
    relu, neg, absolute, branch = whole.graph.nodes
    first, second = whole.graph.inputs[1], neg.output
    cos, sin = branch.attr("then_branch").nodes
    assert [relu.inputs, neg.inputs] == [(first,), (first,)]
    assert [absolute.inputs, cos.inputs] == [(second,), (second,)]
    assert sin.inputs == cos.outputs
    assert whole.graph.outputs == (second,)
    assert_lossless(source)


def test_initializers_need_not_be_inputs() -> None:
    source = message("main (float[1] x, float[1] v) => (y) <float[1] w = {1}> { y = Add(x, w) }")
    source.graph.initializer.add(name="v", data_type=1, dims=[1], float_data=[2.0])
    source.graph.initializer.add(name="v", data_type=1, dims=[1], float_data=[3.0])
    whole = from_message(source)
    graph = whole.graph
    assert names(graph.initializer_values) == ["w", "v", "v"]
    assert [item.is_input for item in graph.initializer_values] == [False, True, False]
    assert graph.inputs[1].tensor is graph.initializer_values[1].tensor
    assert_lossless(source)


def test_declared_types_stay_in_order_and_new_ones_follow() -> None:
    source = message("main (float x) => (z) { a = Relu(x)  b = Neg(a)  z = Abs(b) }")
    source.graph.value_info.add(name="elsewhere")
    for name in ("b", "z"):
        source.graph.value_info.add(name=name).type.tensor_type.elem_type = TensorProto.FLOAT
    assert_lossless(source)
    whole = from_message(source)
    graph = whole.graph
    assert str(value(graph, "b").type) == "float32[...]"
    value(graph, "a").type = TensorType(FLOAT32, (2,))
    written = to_message(whole).graph.value_info
    assert [info.name for info in written] == ["elsewhere", "b", "z", "a"]
    graph.replace(node(graph, "Neg"), value(graph, "a"))
    written = to_message(whole).graph.value_info
    assert [info.name for info in written] == ["elsewhere", "z", "a"]


def test_tensors_are_not_decoded_until_they_are_wanted() -> None:
    source = message("main () => () { }")
    source.graph.initializer.add(name="w", data_type=99, dims=[-1])
    source.graph.initializer.add(name="v", data_type=1, dims=[5], raw_data=b"abc")
    whole = from_message(source)
    w, v = whole.graph.initializer_values
    assert w.type is None
    assert repr(w.tensor) == "<MessageTensor w: ?[-1]>"
    with pytest.raises(DTypeError):
        _ = w.tensor.dtype  # type: ignore[union-attr]
    with pytest.raises(FormatError, match=r"tensor 'v': float32\[5\] takes 20 bytes, found 3"):
        v.tensor.numpy()  # type: ignore[union-attr]
    assert_lossless(source)


def test_external_data_is_relative_to_the_folder_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.array([1.0, 2.0], np.float32).tobytes())
    source = message("main () => () { }")
    tensor = source.graph.initializer.add(name="w", data_type=1, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    held = from_message(source, tmp_path).graph.initializers["w"].tensor
    assert held is not None
    assert held.numpy().tolist() == [1.0, 2.0]
    assert not held.numpy().flags.writeable
    homeless = from_message(source).graph.initializers["w"].tensor
    assert homeless is not None
    with pytest.raises(ExternalDataError, match="external data needs the folder"):
        homeless.numpy()
    assert_lossless(source)


def test_payloads_of_a_skeleton_are_views_and_are_written_back() -> None:
    source = message("main () => () { }")
    numbers = np.arange(1000, dtype=np.float32)
    raw = numbers.tobytes()
    source.graph.initializer.add(name="w", data_type=1, dims=[1000], raw_data=raw, doc_string="d")
    info = source.training_info.add()
    info.algorithm.initializer.add(name="rate", data_type=1, dims=[1000], raw_data=raw)
    data = serialized(source)
    whole = from_message(scan(Memory(data), ModelProto))
    held = whole.graph.initializers["w"].tensor
    assert held is not None
    assert np.shares_memory(held.numpy(), np.frombuffer(data, np.uint8))
    np.testing.assert_array_equal(held.numpy(), numbers)
    again = pickle.loads(pickle.dumps(held))
    assert isinstance(again, MappedTensor)
    np.testing.assert_array_equal(again.numpy(), numbers)
    assert serialized(to_message(whole)) == data
    assert serialized(to_message(pickle.loads(pickle.dumps(whole)))) == data


def test_tensors_of_every_storage_are_written() -> None:
    numbers = np.arange(3, dtype=np.float32)
    graph = Graph("g")
    graph.add_initializer(ArrayTensor(numbers, "array"))
    graph.add_initializer(ArrayTensor(np.array(["a", "é"], object), "strings"))
    graph.add_initializer(LazyTensor(lambda: numbers, FLOAT32, (3,), "lazy"))
    graph.add_initializer(MappedTensor(numbers.tobytes(), FLOAT32, (3,), "mapped"))
    sparse = SparseTensor(ArrayTensor(numbers), ArrayTensor(np.array([1, 3, 5])), (7,))
    graph.add_initializer(sparse, "sparse")
    written = to_message(Model(graph, {"": 17})).graph
    arrays = [
        onnx.numpy_helper.to_array(onnx.TensorProto.FromString(x.SerializeToString()))
        for x in written.initializer
    ]
    assert [x.name for x in written.initializer] == ["array", "strings", "lazy", "mapped"]
    np.testing.assert_array_equal(arrays[0], numbers)
    assert arrays[1].tolist() in ([b"a", "é".encode()], ["a", "é"])
    np.testing.assert_array_equal(arrays[2], numbers)
    np.testing.assert_array_equal(arrays[3], numbers)
    (other,) = written.sparse_initializer
    assert other.values.name == "sparse"
    assert list(other.dims) == [7]


def test_a_model_made_here_is_valid_for_onnx() -> None:
    x = Value("x", TensorType(FLOAT32, (None, 3)))
    graph = Graph("g", [x])
    w = graph.add_initializer(ArrayTensor(np.ones((3, 2), np.float32), "w"))
    product = Node("", "MatMul", [x, w])
    graph.append(product, Node("", "Softmax", product.outputs, ["y"], {"axis": 1}))
    y = graph.nodes[-1].output
    y.type = TensorType(FLOAT32, (None, 2))
    graph.outputs = (y,)
    written = to_message(Model(graph, {"": 17}, 8))
    onnx.checker.check_model(written.SerializeToString(), full_check=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m.graph, "name", "\ud800"), r"text: UTF-8 is required, found '\\ud800'"),
        (
            lambda m: m.graph.append(
                Node("", "A", attributes={"a": Attribute("a", AttributeKind.UNDEFINED, 3)})
            ),
            "attribute 'a': a kind is required, found undefined",
        ),
    ],
)
def test_what_has_no_form_as_a_message_is_refused(change: Any, message: str) -> None:
    whole = Model(Graph("g"), {"": 17})
    change(whole)
    with pytest.raises(GraphError, match=message):
        to_message(whole)


def nested(depth: int) -> ModelProto:
    source = ModelProto()
    graph = source.graph
    for _ in range(depth):
        attribute = graph.node.add(op_type="If").attribute.add(name="b", type=AttributeProto.GRAPH)
        graph = attribute.g
        graph.SetInParent()
    return source


def test_graphs_nested_without_end_are_refused() -> None:
    assert_lossless(nested(30))
    message = "nesting is limited to 5, found 6; pass limits=Limits(nesting=6) to allow it"
    with pytest.raises(LimitError) as caught:
        from_message(nested(6), limits=Limits(nesting=5))
    assert message in str(caught.value)
    with pytest.raises(LimitError, match="nesting is limited to 5"):
        to_message(from_message(nested(6)), limits=Limits(nesting=5))
    with pytest.raises(LimitError, match="nesting is limited to 100"):
        from_message(nested(101))


def test_models_of_too_many_nodes_are_refused() -> None:
    source = message("main (float x) => (y) { y = Relu(x) }")
    for name in ("f", "g"):
        source.functions.add(name=name).node.add(op_type="Relu")
    from_message(source, limits=Limits(nodes=3))
    with pytest.raises(LimitError, match="nodes is limited to 2, found 3"):
        from_message(source, limits=Limits(nodes=2))


def test_the_collector_runs_again_after_loading() -> None:
    assert gc.isenabled()
    from_message(nested(1))
    assert gc.isenabled()
    gc.disable()
    try:
        from_message(nested(1))
        assert not gc.isenabled()
    finally:
        gc.enable()


def large(count: int) -> ModelProto:
    """A model of ``count`` nodes as exporters write them: attributes, weights, types of values."""
    source = message("main (float[1, 8] x) => () { }")
    graph, previous = source.graph, "x"
    for number in range(count):
        item = graph.node.add(op_type="Relu", name=f"n{number}", output=[f"y{number}"])
        item.input.append(previous)
        if number % 3 == 0:
            item.op_type = "Conv"
            item.input.append(f"w{number}")
            item.attribute.add(name="pads", type=AttributeProto.INTS, ints=[1, 1, 1, 1])
            item.attribute.add(name="group", type=AttributeProto.INT, i=1)
            graph.initializer.add(name=f"w{number}", data_type=1, dims=[2], raw_data=bytes(8))
        shape = graph.value_info.add(name=f"y{number}").type.tensor_type
        shape.elem_type = TensorProto.FLOAT
        shape.shape.dim.add(dim_value=number % 50)
        previous = f"y{number}"
    return source


@pytest.mark.slow
def test_reading_takes_microseconds_a_node_however_many_there_are() -> None:
    few, many = large(3_000), large(30_000)
    each = min(timed(few) for _ in range(5)) / 3_000
    assert each < 60e-6  # 25 µs on a quiet Zen 4; 60 to bear a busy machine
    assert min(timed(many) for _ in range(5)) / 30_000 < 2 * each


def timed(source: ModelProto) -> float:
    start = time.process_time()
    from_message(source)
    return time.process_time() - start


def test_initializers_are_counted_wherever_they_stand() -> None:
    source = ModelProto()
    inner = source.graph.node.add(op_type="If").attribute.add(name="then_branch").g
    source.graph.initializer.add(name="a")
    inner.initializer.add(name="b")
    inner.sparse_initializer.add()
    from_message(source, limits=Limits(initializers=3))
    with pytest.raises(LimitError, match="initializers is limited to 2, found 3"):
        from_message(source, limits=Limits(initializers=2))


@pytest.mark.parametrize(("code", "count"), [(1, 5), (11, 3), (22, 33)])
def test_tensors_that_claim_too_many_bytes_are_refused_as_they_are_read(
    code: int, count: int
) -> None:
    source = ModelProto()
    source.graph.initializer.add(name="w", data_type=code, dims=[count])
    with pytest.raises(LimitError, match="tensor 'w': tensor_bytes is limited to 16, found "):
        from_message(source, limits=Limits(tensor_bytes=16))
    source.graph.initializer[0].dims[0] = count - 1
    from_message(source, limits=Limits(tensor_bytes=16))


def test_dims_beyond_every_machine_are_refused_as_they_are_read() -> None:
    source = ModelProto()
    source.graph.node.add(op_type="Constant").attribute.add(name="value").t.dims[:] = [2**40, 2**40]
    source.graph.node[0].attribute[0].t.data_type = 1
    with pytest.raises(LimitError, match="tensor_bytes is limited to"):
        from_message(source)
