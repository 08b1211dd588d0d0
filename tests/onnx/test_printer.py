"""The printed text is that of onnx, character by character; the cases say where it is not."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx.printer
import pytest
from onnx import TensorProto, helper, numpy_helper

import fornix
from fornix import onnx as onnx_messages
from fornix.errors import InferenceError
from fornix.onnx import parser, printer
from fornix.onnx.numpy_helper import to_array
from tests.format.test_text_models import node_models, stored_models

MODEL = """\
<ir_version: 7, opset_import: ["": 10, "a.b": 1], producer_name: "x\\"y", model_version: -3,
 doc_string: "two
lines", metadata_props: ["k": "v", "l": ""]>
agraph (float[N,128,?] X, seq(map(int64, float["a b"])) W, float[2] q, untyped,
    optional(sparse_tensor(double[3])) o, opaque(a.b,c) p, float scalar, float[] open)
    => (float[N,10] C, y)
    <float[] v, float[2] q = {1, -2500}, int64[3] z = ["location": "f"], string[2] s = {"a", "b"}>
{
    [n1] T, "u v" = MatMul (X, W)
    ["node 2"] S = com.x.Add:ov (T, "") <a = 1, b = [1.0, 2.5], d: int = @q, e = "str",
        f = float[2] nm {1, 2}, g = g1 () => (y) <float[2] w> { y = Foo ("", x) }, i: ints = [],
        j = seq(float), k: float = -inf, m = string[1] {"x"}>
    [n3] = Sink (C)
}
<domain: "d", overload: "o", opset_import: ["": 3, "q": 1]> f <a, b> (x, y) => (z) { z = Foo (x) }
<domain: "e", opset_import: ["": 3]> g () => () { }
"""


def theirs(source: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(source)


def with_attribute(value: object) -> onnx.NodeProto:
    return helper.make_node("A", ["x"], ["y"], a=value)


def with_initializer(tensor: onnx.TensorProto) -> onnx.GraphProto:
    return helper.make_graph([], "g", [], [], [tensor])


def test_a_model_with_everything() -> None:
    assert printer.to_text(theirs(MODEL)) == onnx.printer.to_text(theirs(MODEL))
    for function in theirs(MODEL).functions:
        assert printer.to_text(function) == onnx.printer.to_text(function)
    for node in theirs(MODEL).graph.node:
        assert printer.to_text(node) == onnx.printer.to_text(node)


@pytest.mark.parametrize("kind", ["ModelProto", "GraphProto", "FunctionProto"])
def test_empty_messages(kind: str) -> None:
    message = getattr(onnx, kind)()
    assert (
        printer.to_text(message).splitlines()[-1]
        == (onnx.printer.to_text(message).splitlines()[-1])
    )


@pytest.mark.parametrize("of", [np.float32, np.float64])
def test_floats_are_as_short_as_by_onnx(of: type[np.floating]) -> None:
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**63, 3000, np.int64).view(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.concatenate(
            [
                [0.0, -0.0, 0.1, 1e5, 1e6, 123456789, 2**24, 2**53 + 2, 0.001, 1e-4, 1.5e-4],
                [1.5e-5, 1 / 3, 3e38, 1e-45, 1e22, -np.inf, np.inf, 999999, 9999999, 12e7],
                10.0 ** np.arange(-30, 30),
                random.normal(size=2000) * 10.0 ** random.integers(-12, 12, 2000),
                np.round(random.normal(size=2000) * 10.0 ** random.integers(0, 20, 2000)),
                bits[np.isfinite(bits)],
            ]
        ).astype(of)
    graph = with_initializer(numpy_helper.from_array(values, "w"))
    assert printer.to_text(graph) == onnx.printer.to_text(graph)
    read = numpy_helper.to_array(onnx.parser.parse_graph(printer.to_text(graph)).initializer[0])
    np.testing.assert_array_equal(read, values)
    node = with_attribute(list(map(float, values[:80].astype(np.float32))))
    assert printer.to_text(node) == onnx.printer.to_text(node)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16, 17, 18, 19, 20, 24])
def test_tensors_of_each_dtype(code: int, raw: bool) -> None:
    array = np.array([[1, 0], [2, 1]], helper.tensor_dtype_to_np_dtype(code))
    values = array.tobytes() if raw else array.ravel()
    graph = with_initializer(helper.make_tensor("w", code, [2, 2], values, raw=raw))
    assert printer.to_text(graph) == onnx.printer.to_text(graph)
    node = with_attribute(graph.initializer[0])
    assert printer.to_text(node) == onnx.printer.to_text(node)


@pytest.mark.parametrize("code", [TensorProto.INT4, TensorProto.COMPLEX64])
def test_elements_that_onnx_leaves_out_are_there(code: int) -> None:
    graph = with_initializer(helper.make_tensor("w", code, [2], [1, 2]))
    assert "..." in onnx.printer.to_text(graph)
    assert parser.parse_graph(printer.to_text(graph)).initializer[0].SerializeToString() == (
        graph.initializer[0].SerializeToString()
    )


@pytest.mark.parametrize("code", [TensorProto.FLOAT6E2M3, TensorProto.FLOAT6E3M2])
def test_packed_elements_of_6_bits_are_read_back(code: int) -> None:
    message = onnx_messages.ModelProto(ir_version=13)
    message.graph.initializer.add(name="w", data_type=code, dims=[5], raw_data=b"\1\2\3\7")
    read = parser.parse_model(printer.to_text(message))
    given, found = message.graph.initializer[0], read.graph.initializer[0]
    assert list(map(str, to_array(found))) == list(map(str, to_array(given)))


def test_what_onnx_drops_stands_in_comments_that_only_fornix_reads() -> None:
    node = helper.make_node("Relu", ["x"], ["y"], doc_string="d")
    assert "doc_string" not in onnx.printer.to_text(node)
    assert printer.to_text(node) == '   y = Relu (x)  #@ {doc_string: "d"}\n'
    assert parser.parse_node(printer.to_text(node)).doc_string == "d"
    assert not onnx.parser.parse_node(printer.to_text(node)).doc_string


def test_what_onnx_cannot_read_of_its_own_is_written_so_that_it_can() -> None:
    node = onnx.parser.parse_node("y = A <c = @r> (x)")
    with pytest.raises(onnx.parser.ParseError):
        onnx.parser.parse_node(onnx.printer.to_text(node))
    assert printer.to_text(node) == "   y = A <c = @r> (x)\n"
    assert onnx.parser.parse_node(printer.to_text(node)).attribute[0].ref_attr_name == "r"


@pytest.mark.parametrize(
    ("dims", "size"), [([4], 2), ([1], 6), ([1], 3), ([2, 2], 6), ([], 0), ([0], 2)]
)
def test_bytes_that_do_not_fit_the_dims_are_refused_as_by_onnx(dims: list[int], size: int) -> None:
    tensor = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT16, raw_data=bytes(size))
    tensor.dims.extend(dims)
    with pytest.raises(onnx.shape_inference.InferenceError, match="Data size mismatch"):
        onnx.printer.to_text(with_initializer(tensor))
    with pytest.raises(InferenceError) as caught:
        printer.to_text(with_initializer(tensor))
    expected = 2 * int(np.prod(dims))
    assert str(caught.value).endswith(
        f"Data size mismatch: tensor 'w' has {size} bytes in raw_data, "
        f"its type and dims take {expected}"
    )
    assert issubclass(fornix.onnx.shape_inference.InferenceError, InferenceError)


@pytest.mark.slow
def test_the_models_of_the_standard() -> None:
    for model in (*stored_models(), *node_models()):
        printed = printer.to_text(model).replace('"seq"', "seq")  # a word of the notation
        assert printed == onnx.printer.to_text(model)
