from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import compose as peer
from onnx import parser
from onnx.reference import ReferenceEvaluator

from fornix.errors import InvalidArgument, ValidationError
from fornix.onnx import GraphProto, ModelProto, compose
from tests.onnx.surface import names_of, parameters_of

HEADER = '<ir_version: 10, opset_import: ["": 20]>'
FIRST = """first (float[N, 3] x, float[3] bias) => (float[N, 3] a, float[N, 3] b)
    <float[3] w = {1, 2, 3}, float[N, 3] t> { t = Mul(x, w) a = Add(t, bias) b = Neg(t) }"""
SECOND = """second (float[N, 3] p, float[N, 3] q, float[3] r) => (float[N, 3] y, float[N, 3] z)
    <float[3] v = {4, 5, 6}> { s = Sub(p, q) y = Mul(s, v) z = Add(s, r) }"""
NESTED = """nested (bool c, float[2] x) => (float[2] y) <float[2] k = {1, 2}> {
    e = Abs(x)
    y = If (c) <
        then_branch = t () => (float[2] d) { i = Neg(e) d = Add(i, k) },
        else_branch = f () => (float[2] g) { g = Identity(x) }> }"""
OFF = ["nodes", "edges", "inputs", "outputs", "initializers", "value_infos"]


def model(graph: str, header: str = HEADER) -> Any:
    return parser.parse_model(header + graph)


def graph(text: str) -> Any:
    return model(text).graph


def theirs(message: Any) -> Any:
    return onnx.ModelProto.FromString(message.SerializeToString())


def content(message: Any) -> dict[str, Any]:
    """What a graph says; doc strings, which are written in other words, aside."""
    found = onnx.GraphProto.FromString(message.SerializeToString())
    unnamed(found)
    return {
        "name": found.name,
        "node": [x.SerializeToString(deterministic=True) for x in found.node],
        "input": [x.SerializeToString(deterministic=True) for x in found.input],
        "output": [x.SerializeToString(deterministic=True) for x in found.output],
        "initializer": [x.SerializeToString(deterministic=True) for x in found.initializer],
        "value_info": {x.SerializeToString(deterministic=True) for x in found.value_info},
    }


def unnamed(found: Any) -> None:
    """Clear empty names of nodes, which onnx sets without need."""
    for node in found.node:
        if not node.name:
            node.ClearField("name")
        for attribute in getattr(node, "attribute", ()):
            unnamed(attribute.g)


@pytest.mark.parametrize("name", names_of(peer))
def test_signatures_are_the_peers(name: str) -> None:
    assert parameters_of(getattr(compose, name)) == parameters_of(getattr(peer, name))


@pytest.mark.parametrize(
    "options",
    [
        {"io_map": [("a", "p"), ("b", "q")]},
        {"io_map": [("a", "p"), ("a", "q")]},
        {"io_map": [("b", "q")]},
        {"io_map": [("a", "p"), ("b", "q")], "name": "both", "doc_string": "x"},
        {"io_map": [("a", "p"), ("b", "q")], "prefix1": "f/", "prefix2": "s/"},
        {"io_map": [("a", "p"), ("b", "q")], "prefix2": "s/"},
    ],
)
def test_merged_graphs_are_the_peers(options: dict[str, Any]) -> None:
    expected = peer.merge_graphs(graph(FIRST), graph(SECOND), **options)
    found = compose.merge_graphs(graph(FIRST), graph(SECOND), **options)
    assert content(found) == content(expected)
    if "doc_string" in options:
        assert found.doc_string == expected.doc_string


def test_outputs_of_a_merged_graph_can_be_chosen() -> None:
    options: dict[str, Any] = {"io_map": [("a", "p"), ("b", "q")], "outputs": ["y"]}
    expected = peer.merge_graphs(graph(FIRST), graph(SECOND), inputs=["x", "bias"], **options)
    found = compose.merge_graphs(graph(FIRST), graph(SECOND), inputs=["x", "bias"], **options)
    assert [x.op_type for x in found.node] == [x.op_type for x in expected.node]
    assert [x.name for x in found.input] == [x.name for x in expected.input]
    assert [x.name for x in found.output] == [x.name for x in expected.output]
    assert [x.name for x in found.initializer] == [x.name for x in expected.initializer]
    # onnx writes a graph that reads what it does not have
    with pytest.raises(InvalidArgument, match=r"can be computed only with more inputs: bias"):
        compose.merge_graphs(graph(FIRST), graph(SECOND), inputs=["x"], **options)


def test_merged_models_compute_one_after_the_other() -> None:
    links = [("a", "p"), ("b", "q")]
    expected = peer.merge_models(model(FIRST), model(SECOND), links)
    found = compose.merge_models(model(FIRST), model(SECOND), links)
    assert content(found.graph) == content(expected.graph)
    for field in ("ir_version", "producer_name", "producer_version", "domain", "model_version"):
        assert getattr(found, field) == getattr(expected, field)
    one, two, three = (np.full(shape, 2, np.float32) for shape in ((4, 3), (3,), (3,)))
    feeds = {"x": one, "bias": two, "r": three}
    results = [ReferenceEvaluator(theirs(m)).run(None, feeds) for m in (found, expected)]
    for ours, wanted in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, wanted)


def test_subgraphs_read_what_an_input_was_linked_to() -> None:
    before = model("b (float[2] u) => (float[2] o) { o = Neg(u) }")
    found = compose.merge_models(before, model(NESTED), [("o", "x")])
    feeds = {"u": np.array([3, -4], np.float32)}
    for condition, expected in ((True, [-2, -2]), (False, [-3, 4])):
        [result] = ReferenceEvaluator(theirs(found)).run(None, {**feeds, "c": np.array(condition)})
        np.testing.assert_array_equal(result, expected)


def test_an_input_that_is_handed_through_is_what_it_is_linked_to() -> None:
    through = model("t (float[2] p) => (float[2] p, float[2] y) { y = Neg(p) }")
    before = model("b (float[2] u) => (float[2] o) { o = Abs(u) }")
    found = compose.merge_models(before, through, [("o", "p")])
    assert [x.name for x in found.graph.output] == ["o", "y"]


def functions(name: str, prefix: str) -> Any:
    return parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 20, "l": 1]> g{prefix} (float[2] {prefix}x) => '
        f"(float[2] {prefix}y) {{ {prefix}y = l.{name}({prefix}x) }}"
        f'<domain: "l", opset_import: ["": 20]> {name} (a) => (b) {{ b = Neg(a) }}'
    )


def test_functions_and_metadata_of_both_models_come_along() -> None:
    first, second = functions("F", "f"), functions("G", "g")
    onnx.helper.set_model_props(first, {"one": "1", "both": "2"})
    onnx.helper.set_model_props(second, {"both": "2", "two": "3"})
    found = compose.merge_models(first, second, [("fy", "gx")])
    expected = peer.merge_models(first, second, [("fy", "gx")])
    assert [f.name for f in found.functions] == [f.name for f in expected.functions] == ["F", "G"]
    props = [{p.key: p.value for p in m.metadata_props} for m in (found, expected)]
    assert props[0] == props[1] == {"one": "1", "both": "2", "two": "3"}


@pytest.mark.parametrize(
    ("second", "links", "message"),
    [
        (SECOND, [("c", "p")], r"an output of the first graph \(a, b\) is required, found 'c'"),
        (SECOND, [("a", "c")], r"an input of the second graph \(p, q, r\) is required, found 'c'"),
        (FIRST, [("a", "x")], "every edge name must be in one graph only, found in both: a, b"),
        (SECOND.replace("v", "w"), [("a", "p"), ("b", "q")], "found in both: w"),
    ],
)
def test_what_the_peer_refuses_to_merge_is_refused(
    second: str, links: list[tuple[str, str]], message: str
) -> None:
    for ours, mistake in ((peer, "."), (compose, message)):
        with pytest.raises(ValueError, match=mistake):
            ours.merge_models(model(FIRST), model(second), links)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ('<ir_version: 9, opset_import: ["": 20]>', "the same IR version, found 10 and 9"),
        ('<ir_version: 10, opset_import: ["": 19]>', "opset of domain '' must be the same"),
        (
            '<ir_version: 10, opset_import: ["": 20], metadata_props: ["k": "2"]>',
            "metadata 'k' must be the same in both models, found '1' and '2'",
        ),
    ],
)
def test_headers_that_contradict_each_other_are_refused(header: str, message: str) -> None:
    first = model(FIRST)
    onnx.helper.set_model_props(first, {"k": "1"})
    for ours, mistake in ((peer, "."), (compose, message)):
        with pytest.raises(ValueError, match=mistake):
            ours.merge_models(first, model(SECOND, header), [("a", "p"), ("b", "q")])


def test_a_function_that_both_models_have_is_refused() -> None:
    first, second = functions("F", "f"), functions("F", "g")
    for ours, mistake in ((peer, "."), (compose, "found in both: F")):
        with pytest.raises(ValueError, match=mistake):
            ours.merge_models(first, second, [("fy", "gx")])


def test_a_merged_model_that_breaks_the_standard_is_refused() -> None:
    wrong = model("w (float[2] p) => (float[2] y) { y = Nonsense(p) }")
    before = model("b (float[2] u) => (float[2] o) { o = Abs(u) }")
    for ours, error in ((peer, onnx.checker.ValidationError), (compose, ValidationError)):
        with pytest.raises(error):
            ours.merge_models(before, wrong, [("o", "p")])


@pytest.mark.parametrize("name", ["merge_models", "merge_graphs", "check_overlapping_names"])
def test_what_is_no_message_is_a_type_error(name: str) -> None:
    good: Any = model(FIRST) if name == "merge_models" else graph(FIRST)
    for ours in (peer, compose):
        for pair in (("x", good), (good, "x")):
            with pytest.raises(TypeError):
                getattr(ours, name)(*pair, io_map=[])


# onnx forgets initializers that subgraphs read, and all of them where a kind is left out.
@pytest.mark.parametrize(
    ("text", "off"),
    [
        (FIRST, None),
        *((FIRST, off) for off in OFF),
        (NESTED.replace("Add(i, k)", "Add(i, e)"), None),
    ],
)
def test_prefixed_graphs_are_the_peers(text: str, off: str | None) -> None:
    options: dict[str, Any] = {} if off is None else {f"rename_{off}": False}
    source = graph(text)
    for node in source.node:
        node.name = f"n{node.output[0]}"
    expected = peer.add_prefix_graph(source, "p/", **options)
    found = compose.add_prefix_graph(source, "p/", **options)
    assert content(found) == content(expected)


def test_prefixes_reach_what_subgraphs_read() -> None:
    every: list[dict[str, Any]] = [{}, *({f"rename_{off}": False} for off in OFF)]
    for options in every:
        found = compose.add_prefix_graph(graph(NESTED), "p/", **options)
        onnx.checker.check_graph(onnx.GraphProto.FromString(found.SerializeToString()))


def test_a_prefix_may_change_the_message_itself() -> None:
    for message in (graph(FIRST), GraphProto.FromString(graph(FIRST).SerializeToString())):
        names: dict[str, str] = {}
        found = compose.add_prefix_graph(message, "p/", inplace=True, name_map=names)
        assert found is message
        assert message.input[0].name == "p/x"
        wanted: dict[str, str] = {}
        peer.add_prefix_graph(graph(FIRST), "p/", name_map=wanted)
        assert names == wanted
    kept = graph(FIRST)
    assert compose.add_prefix_graph(kept, "p/") is not kept
    assert kept.input[0].name == "x"


def test_prefixes_of_functions_are_the_peers() -> None:
    source = functions("F", "f")
    expected = peer.add_prefix(source, "p/")
    found = compose.add_prefix(source, "p/")
    unnamed(expected.graph)
    unnamed(expected.functions[0])
    assert theirs(found) == expected
    assert compose.add_prefix(source, "p/", rename_functions=False).functions[0].name == "F"
    assert compose.add_prefix(source, "p/", inplace=True) is source
    assert source.functions[0].name == "p/F"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_outputs_get_one_more_axis_as_by_the_peer(axis: int) -> None:
    text = FIRST.replace("[N", "[2")
    expected = peer.expand_out_dim_graph(graph(text), axis)
    found = compose.expand_out_dim_graph(graph(text), axis)
    assert content(found)["output"] == content(expected)["output"]
    assert [x.op_type for x in found.node] == [x.op_type for x in expected.node]
    assert [list(x.output) for x in found.node] == [list(x.output) for x in expected.node]


@pytest.mark.parametrize(("opset", "axis"), [(20, 0), (20, -1), (12, 1)])
def test_one_more_axis_computes_the_same(opset: int, axis: int) -> None:
    header = f'<ir_version: 8, opset_import: ["": {opset}]>'
    source = model("g (float[N, 3] x) => (float[N, 3] y) { y = Neg(x) }", header)
    found = compose.expand_out_dim(source, axis)
    onnx.checker.check_model(theirs(found), full_check=True)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    [result] = ReferenceEvaluator(theirs(found)).run(None, {"x": x})
    np.testing.assert_array_equal(result, np.expand_dims(-x, axis))
    expected = {0: [1, "N", 3], 1: ["N", 1, 3], -1: ["N", 3, 1]}[axis]
    dims = found.graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == expected
    own = ModelProto.FromString(source.SerializeToString())
    assert compose.expand_out_dim(own, axis, inplace=True) is own
    assert own == found


def test_axes_that_there_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="an axis from -3 to 2 is required, found 3"):
        compose.expand_out_dim_graph(graph(FIRST), 3)
    through = graph("t (float[2] p) => (float[2] p) { y = Neg(p) }")
    with pytest.raises(InvalidArgument, match="'p': the result of a node is required"):
        compose.expand_out_dim_graph(through, 0)
