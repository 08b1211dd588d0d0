from __future__ import annotations

import copy
import pickle

import pytest

from fornix.errors import GraphError
from fornix.ir import walk
from fornix.ir.dim import symbol
from fornix.ir.graph import Attribute, AttributeKind, Function, Graph, Model, Node, Value
from fornix.ir.load import to_message
from fornix.ir.types import TensorType
from fornix.ir.verify import verify
from tests.ir.graphs import BRANCHES, chain, model, names, node, value

COPIES = [Model.clone, copy.deepcopy, lambda whole: pickle.loads(pickle.dumps(whole))]


def rich() -> Model:
    """A model with subgraphs, a function with a default graph, metadata and symbolic types."""
    whole = model(BRANCHES)
    x = Value("fx")
    body = Graph("f", [x])
    body.append(Node("", "Relu", [x], ["fy"]))
    body.outputs = body.nodes[0].outputs
    function = Function("d", "f", body, {"": 17}, overload="o", attributes=["alpha"])
    function.defaults["g"] = Attribute("g", AttributeKind.GRAPHS, [Graph("default")])
    function.metadata["k"] = "v"
    whole.functions.append(function)
    whole.graph.nodes[0].metadata["a"] = "b"
    value(whole.graph, "a").type = TensorType(None, (symbol("N") * 2, None))
    value(whole.graph, "a").metadata["c"] = "d"
    whole.producer_name, whole.model_version = "fornix", 3
    whole.graph.nodes[0].set_input(1, whole.graph.add_undefined("nowhere"))
    return whole


@pytest.mark.parametrize("make", COPIES)
def test_a_copy_is_the_same_model_and_shares_no_part(make: object) -> None:
    whole = rich()
    again = make(whole)  # type: ignore[operator]
    assert to_message(again) == to_message(whole)
    assert not {*walk.nodes(whole)} & {*walk.nodes(again)}
    assert not {*walk.values(whole)} & {*walk.values(again)}
    assert not {*walk.graphs(whole)} & {*walk.graphs(again)}
    assert again.graph.nodes[0].inputs[1].is_undefined
    before = to_message(whole)
    again.metadata["new"] = "entry"
    again.functions[0].defaults["g"].value[0].name = "changed"
    again.graph.outputs = ()
    assert to_message(whole) == before


def test_clones_share_tensors() -> None:
    whole = rich()
    again = whole.clone()
    assert again.graph.initializers["w"].tensor is whole.graph.initializers["w"].tensor
    assert (
        copy.deepcopy(whole).graph.initializers["w"].tensor is whole.graph.initializers["w"].tensor
    )


def test_a_clone_of_a_function_belongs_to_no_model() -> None:
    function = rich().functions[0]
    again = function.clone()
    verify(again)
    assert again.key == ("d", "f", "o")
    assert again.graph.owner is again
    assert names(again.graph.inputs) == ["fx"]
    assert pickle.loads(pickle.dumps(function)).key == function.key


def test_a_clone_of_a_subgraph_captures_the_same_values() -> None:
    graph = model(BRANCHES).graph
    branch = node(graph, "If")
    then = branch.attr("then_branch")
    again = then.clone()
    assert again.owner is None
    assert node(again, "Add").inputs == node(then, "Add").inputs
    other = Node("", "If", branch.inputs, attributes={"then_branch": again})
    graph.append(other)
    verify(graph)


def test_a_clone_can_capture_other_values() -> None:
    graph = model(BRANCHES).graph
    then = node(graph, "If").attr("then_branch")
    a, x = value(graph, "a"), value(graph, "x")
    again = then.clone({a: x})
    assert node(again, "Add").inputs == (x, value(graph, "b"))


def test_a_part_cannot_be_pickled() -> None:
    graph = model(BRANCHES).graph
    then = node(graph, "If").attr("then_branch")
    message = r"what is copied or pickled has to be whole, found 'a' captured from outside"
    with pytest.raises(GraphError, match=message):
        pickle.dumps(then)
    message = "what is copied or pickled is the whole graph or model"
    with pytest.raises(GraphError, match=rf"node for 'a' \(Mul\): {message}"):
        copy.deepcopy(graph.nodes[0])
    with pytest.raises(GraphError, match=f"value 'x': {message}"):
        pickle.dumps(graph.inputs[0])


@pytest.mark.parametrize("make", COPIES)
def test_types_are_copied_of_values_that_are_left(make: object) -> None:
    whole = model("""g (float[N] x) => (float[N] y) <float[N] a, float[N] b> {
        a = Neg (x)
        b = Abs (x)
        y = Relu (b)
    }""")  # fmt: skip
    whole.graph.remove(node(whole.graph, "Neg"))
    again = make(whole)  # type: ignore[operator]
    assert to_message(again) == to_message(whole)
    assert names(x for x in again.graph.declared if isinstance(x, Value)) == ["b"]


def test_outputs_are_copied_that_are_left() -> None:
    whole = model("""g (float[N] x) => (float[N] y) {
        a = Neg (x)
        y = Relu (x)
    }""")
    gone = value(whole.graph, "a")
    whole.graph.alternates[gone] = [None]
    whole.graph.remove(node(whole.graph, "Neg"))
    assert not pickle.loads(pickle.dumps(whole)).graph.alternates


def test_long_chains_are_copied_without_recursion() -> None:
    graph = chain(5000)
    again = pickle.loads(pickle.dumps(graph))
    assert len(again.nodes) == 5000
    assert names(again.outputs) == ["y4999"]
    assert len(copy.deepcopy(graph).nodes) == 5000
    verify(again)


def test_nested_graphs_are_copied_without_recursion() -> None:
    graph = Graph("top")
    inner = graph
    for _ in range(300):
        holder = Node("", "If", attributes={"then_branch": Graph("g")})
        inner.append(holder)
        inner = holder.attr("then_branch")
    assert len(list(walk.graphs(pickle.loads(pickle.dumps(graph))))) == 301


def test_unnamed_values_stay_so() -> None:
    graph = Graph("g")
    made = Node("", "Constant", outputs=[Value(), ""])
    graph.adopt(made)
    again = graph.clone()
    assert [x.is_unnamed for x in again.nodes[0].outputs] == [True, False]
    assert [x.is_omitted for x in again.nodes[0].outputs] == [False, True]
