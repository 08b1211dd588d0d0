from __future__ import annotations

import numpy as np
import pytest

from fornix.dtype import FLOAT32, INT64
from fornix.errors import GraphError
from fornix.ir.graph import Attribute, AttributeKind, Function, Graph, Model, Node, Use, Value
from fornix.ir.tensor import ArrayTensor, SparseTensor, Tensor
from fornix.ir.types import SparseTensorType, TensorType
from fornix.ir.verify import verify
from tests.ir.graphs import BRANCHES, chain, model, names, node, value


def relu(source: Value, *outputs: str) -> Node:
    return Node("", "Relu", [source], outputs or 1)


def weight(*numbers: float) -> ArrayTensor:
    return ArrayTensor(np.array(numbers, np.float32), "w")


def test_uses_come_in_the_order_in_which_nodes_were_put_in() -> None:
    x = Value("x")
    graph = Graph("g", [x])
    first, second = Node("", "Add", [x, x]), Node("", "Neg", [x])
    graph.append(second, first)
    assert x.uses == (Use(second, 0), Use(first, 0), Use(first, 1))
    assert x.users == (second, first)
    assert x.use_count == 3
    assert [(use.node, use.index) for use in x.uses] == [*x.uses]


def test_a_node_in_no_graph_is_no_user() -> None:
    x = Value("x")
    graph = Graph("g", [x])
    made = relu(x)
    assert x.use_count == 0
    graph.append(made)
    assert x.use_count == 1
    graph.remove(made)
    assert x.use_count == 0
    assert made.inputs == (x,)
    graph.append(made)
    assert x.uses == (Use(made, 0),)


def test_inputs_change_with_their_uses() -> None:
    x, y = Value("x"), Value("y")
    graph = Graph("g", [x, y])
    made = relu(x)
    graph.append(made)
    made.set_input(0, y)
    made.set_input(2, x)
    assert made.inputs == (y, None, x)
    assert (x.uses, y.uses) == ((Use(made, 2),), (Use(made, 0),))
    made.inputs = (x, None)
    assert (x.uses, y.uses) == ((Use(made, 0),), ())
    made.set_input(0, None)
    assert not x.uses


def test_replacing_a_value_reaches_subgraphs() -> None:
    graph = model(BRANCHES).graph
    a, x = value(graph, "a"), value(graph, "x")
    a.replace_all_uses_with(x)
    assert not a.uses
    then = node(graph, "If").attr("then_branch")
    assert node(then, "Add").inputs[0] is x
    verify(graph)


def test_a_value_replaces_itself_without_effect() -> None:
    graph = chain(2)
    first = graph.nodes[0].output
    first.replace_all_uses_with(first)
    assert first.use_count == 1


def test_an_output_keeps_its_name_when_another_node_computes_it() -> None:
    graph = chain(2)
    last = graph.nodes[-1]
    new = Node("", "Neg", [graph.inputs[0]])
    graph.append(new)
    last.output.replace_all_uses_with(new.output)
    assert graph.outputs == (new.output,)
    assert new.output.name == "y1"
    assert last.output.name == "neg"
    graph.remove(last)
    verify(graph)


def test_an_input_cannot_stand_for_an_output() -> None:
    graph = chain(1)
    x, y = graph.inputs[0], graph.nodes[0].output
    assert not x.can_replace(y)
    message = "value 'y0': as an output of its graph it can be replaced only by another node's"
    with pytest.raises(GraphError, match=message):
        y.replace_all_uses_with(x)
    with pytest.raises(GraphError, match="put an Identity between"):
        graph.replace(graph.nodes[0], x)
    y.replace_all_uses_with(x, outputs=False)
    assert graph.outputs == (y,)


def test_a_graph_replaces_a_node_by_values() -> None:
    graph = chain(3)
    graph.replace(graph.nodes[1], graph.nodes[0].output)
    assert names(graph.nodes) == ["n0", "n2"]
    assert graph.nodes[1].inputs[0] is graph.nodes[0].output
    verify(graph)


def test_a_replacement_must_cover_every_output_in_use() -> None:
    x = Value("x")
    graph = Graph("g", [x])
    split = Node("", "Split", [x], 2)
    graph.append(split)
    graph.append(Node("", "Add", split.outputs))
    with pytest.raises(GraphError, match="nothing may use what is removed, found 'split_1' read"):
        graph.replace(split, x)
    assert split.output.is_used


def test_nodes_are_inserted_in_their_order() -> None:
    graph = chain(2)
    a, b, c, d = (Node("", "Neg", [graph.inputs[0]], name=letter) for letter in "abcd")
    graph.insert_before(graph.nodes[1], a, b)
    graph.insert_after(graph.nodes[0], c, d)
    assert names(graph.nodes) == ["n0", "c", "d", "a", "b", "n1"]
    graph.insert_after(graph.nodes[-1], Node("", "Neg", [graph.inputs[0]], name="last"))
    assert graph.nodes[-1].name == "last"
    graph.move_before(a, d)
    assert names(graph.nodes) == ["n0", "c", "d", "a", "b", "n1", "last"]
    graph.move_before(d, a, b)
    assert names(graph.nodes) == ["n0", "c", "a", "b", "d", "n1", "last"]
    verify(graph)


def test_a_node_stands_in_one_graph_only() -> None:
    graph, other = chain(1), chain(1)
    message = r"node 'n0' \(Relu\): a node in no graph is required, found it in one"
    with pytest.raises(GraphError, match=message):
        other.append(graph.nodes[0])
    with pytest.raises(GraphError, match=message):
        other.adopt(graph.nodes[0])
    message = r"graph 'chain': a node of this graph is required, found node 'n0' \(Relu\)"
    for change in (other.remove, other.replace, other.insert_before, other.insert_after):
        with pytest.raises(GraphError, match=message):
            change(graph.nodes[0])
    with pytest.raises(GraphError, match=message):
        other.move_before(graph.nodes[0])


def test_a_node_cannot_stand_in_its_own_subgraph() -> None:
    inner = Graph("inner")
    holder = Node("", "If", attributes={"then_branch": inner}, name="h")
    with pytest.raises(GraphError, match=r"node 'h' \(If\): a node cannot stand in its own"):
        inner.append(holder)


def test_what_is_used_cannot_be_removed() -> None:
    graph = chain(2)
    message = r"node 'n0' \(Relu\): nothing may use what is removed, found 'y0' read by node 'n1'"
    with pytest.raises(GraphError, match=message):
        graph.remove(graph.nodes[0])
    message = r"nothing may use what is removed, found 'y1' as an output of graph 'chain'"
    with pytest.raises(GraphError, match=message):
        graph.remove(*graph.nodes)
    graph.outputs = ()
    graph.remove(*graph.nodes)
    assert not len(graph.nodes)
    assert not graph.inputs[0].uses


def test_what_a_subgraph_uses_cannot_be_removed_without_it() -> None:
    graph = model(BRANCHES).graph
    mul, branch = node(graph, "Mul"), node(graph, "If")
    graph.outputs = ()
    with pytest.raises(GraphError, match=r"found 'a' read by node for 'b' \(Clip\)"):
        graph.remove(mul)
    node(graph, "Clip").set_input(0, graph.inputs[0])
    with pytest.raises(GraphError, match=r"found 'a' read by node for 't' \(Add\)"):
        graph.remove(mul)
    graph.remove(mul, branch)
    assert not value(graph, "b").uses


def test_a_node_takes_the_uses_of_its_subgraphs_along() -> None:
    graph = model(BRANCHES).graph
    branch, b = node(graph, "If"), value(graph, "b")
    assert b.use_count == 1
    graph.outputs = ()
    graph.remove(branch)
    assert not b.uses
    add = node(branch.attr("then_branch"), "Add")
    add.set_input(1, b)
    assert not b.uses
    graph.append(branch)
    assert b.use_count == 1
    verify(graph)


def test_an_attribute_that_goes_takes_its_uses_along() -> None:
    graph = model(BRANCHES).graph
    branch, a = node(graph, "If"), value(graph, "a")
    assert a.use_count == 3
    old = branch.remove_attribute("then_branch")
    assert old is not None
    assert a.use_count == 2
    assert old.value.owner is None
    branch.set_attribute("then_branch", old)
    assert a.use_count == 3
    assert branch.remove_attribute("no such attribute") is None


def test_a_graph_belongs_to_one_node() -> None:
    graph = model(BRANCHES).graph
    then = node(graph, "If").attr("then_branch")
    message = r"node 'f' \(If\): attribute 'then_branch' needs a graph of its own, found one that"
    with pytest.raises(GraphError, match=message):
        Node("", "If", name="f", attributes={"then_branch": then})


def test_a_subgraph_that_lists_an_outer_value_counts_as_its_user() -> None:
    x = Value("x")
    graph = Graph("g", [x])
    branch = Node("", "If", [x], attributes={"then_branch": Graph("then", (), (x,))})
    assert not x.is_output
    graph.append(branch)
    assert x.output_of == (branch.attr("then_branch"),)
    graph.remove(branch)
    assert not x.is_output


def test_graphs_know_where_they_are() -> None:
    whole = model(BRANCHES)
    then = node(whole.graph, "If").attr("then_branch")
    assert then.parent is whole.graph
    assert then.root is whole.graph
    assert then.model is whole
    assert then.label == "node for 'y' (If), then_branch"
    assert whole.graph.parent is None
    assert Graph().model is None


def test_values_without_names_get_fresh_ones() -> None:
    graph = chain(1)
    made = [relu(graph.inputs[0]), relu(graph.inputs[0]), Node("", "Split", name="cut", outputs=2)]
    assert not made[0].output.name
    graph.append(*made)
    assert names([x for item in made for x in item.outputs]) == ["relu", "relu_1", "cut_1", "cut_2"]
    graph.inputs = (*graph.inputs, Value())
    assert graph.inputs[1].name == "value"
    assert graph.fresh_name("y0") == "y0_1"
    graph.nodes[0].output.name = "free"
    assert graph.fresh_name("y0") == "y0"
    assert graph.fresh_name("free") == "free_1"


def test_fresh_names_are_not_taken_in_subgraphs_either() -> None:
    graph = model(BRANCHES).graph
    then = node(graph, "If").attr("then_branch")
    assert then.fresh_name("k") == "k_1"
    assert graph.fresh_name("t") == "t_1"


def test_a_subgraph_that_comes_in_gives_way_to_names_outside() -> None:
    x = Value("x")
    graph = Graph("g", [x])
    graph.append(relu(x))
    then = Graph("then")
    then.append(relu(x))
    then.outputs = (then.nodes[0].output,)
    assert then.outputs[0].name == "relu"
    graph.append(Node("", "If", [x], attributes={"then_branch": then, "else_branch": then.clone()}))
    assert then.outputs[0].name == "relu_1"
    verify(graph)


def test_an_attribute_set_later_gives_way_to_names_outside() -> None:
    x = Value("x")
    graph = Graph("g", [x])
    branch = Node("", "If", [x])
    graph.append(relu(x), branch)
    then = Graph("then")
    then.append(relu(x))
    branch.set_attribute("then_branch", then)
    assert then.nodes[0].output.name == "relu_1"
    assert x.use_count == 3


def test_nodes_that_move_in_can_be_renamed_first() -> None:
    graph, other = chain(2), chain(3)
    taken = list(other.nodes)
    other.outputs = ()
    other.remove(*taken)
    other.inputs[0].replace_all_uses_with(graph.inputs[0])
    taken[0].set_input(0, graph.inputs[0])
    graph.rename_clashes(*taken)
    graph.append(*taken)
    assert names(taken) == ["n0_1", "n1_1", "n2"]
    verify(graph)


def test_names_of_removed_nodes_are_free_again() -> None:
    graph = model(BRANCHES).graph
    branch = node(graph, "If")
    assert graph.fresh_name("k") == "k_1"
    graph.outputs = ()
    graph.remove(branch)
    assert graph.fresh_name("e") == "e"
    assert graph.fresh_name("y") == "y"


def test_an_omitted_output_is_named_to_be_used() -> None:
    x = Value("x")
    graph = Graph("g", [x])
    pool = Node("", "MaxPool", [x], ["y", ""])
    graph.append(pool)
    assert (pool.wants(0), pool.wants(1), pool.wants(2)) == (True, False, False)
    assert pool.outputs[1].is_omitted
    pool.outputs[1].name = graph.fresh_name("indices")
    assert pool.wants(1)


def test_outputs_of_a_node_can_be_added_and_dropped() -> None:
    graph = chain(2)
    first, second = graph.nodes
    first.outputs = (*first.outputs, Value())
    assert names(first.outputs) == ["y0", "n0_1"]
    first.outputs = first.outputs[:1]
    message = r"node 'n0' \(Relu\): output 'y0' is in use and has to stay"
    with pytest.raises(GraphError, match=message):
        first.outputs = ()
    with pytest.raises(GraphError, match=r"node 'n0' \(Relu\): 'y1' already is defined elsewhere"):
        first.outputs = (*first.outputs, *second.outputs)
    with pytest.raises(GraphError, match="'x' already is defined elsewhere"):
        first.set_outputs([graph.inputs[0]])


def test_a_node_without_outputs_has_no_first_one() -> None:
    with pytest.raises(GraphError, match=r"node for '' \(Relu\): an output is required, found"):
        _ = Node("", "Relu", outputs=0).output


def test_inputs_of_a_graph_in_use_have_to_stay() -> None:
    graph = chain(1)
    with pytest.raises(GraphError, match="graph 'chain': input 'x' is in use and has to stay"):
        graph.inputs = ()
    x = graph.inputs[0]
    x.tensor = weight(1.0)
    graph.add_initializer(x)
    graph.inputs = ()
    assert x.is_initializer
    assert not x.is_input
    verify(graph)


def test_values_belong_to_one_graph() -> None:
    graph = chain(1)
    with pytest.raises(GraphError, match="graph 'h': 'x' already is defined in another graph"):
        Graph("h", graph.inputs)
    message = "graph 'h': an input or initializer has no producer, found 'y0' computed by node 'n0'"
    with pytest.raises(GraphError, match=message):
        Graph("h", graph.outputs)


def test_initializers_are_found_by_name() -> None:
    graph = Graph("g")
    w = graph.add_initializer(weight(1.0))
    v = graph.add_initializer(weight(2.0), "v")
    assert dict(graph.initializers) == {"w": w, "v": v}
    w.name = "weight"
    assert list(graph.initializers) == ["weight", "v"]
    graph.remove_initializer(w)
    assert list(graph.initializers) == ["v"]
    assert w.graph is None
    assert w.tensor is None


def test_initializers_in_use_have_to_stay() -> None:
    graph = Graph("g")
    w = graph.add_initializer(weight(1.0))
    graph.append(relu(w))
    with pytest.raises(GraphError, match="graph 'g': initializer 'w' is in use and has to stay"):
        graph.remove_initializer(w)
    with pytest.raises(GraphError, match="graph 'g': an initializer is required, found 'relu'"):
        graph.remove_initializer(graph.nodes[0].output)
    with pytest.raises(GraphError, match="initializer 'v' needs a tensor, found none"):
        graph.add_initializer(Value("v"))


def test_an_initializer_has_the_type_of_its_tensor_unless_it_was_given_one() -> None:
    graph = Graph("g")
    w = graph.add_initializer(weight(1.0, 2.0))
    assert w.type == TensorType(FLOAT32, (2,))
    assert w.declared_type is None
    w.type = TensorType(FLOAT32, (None,))
    assert w.type == TensorType(FLOAT32, (None,))
    sparse = SparseTensor(weight(1.0), ArrayTensor(np.array([3])), (5,))
    assert graph.add_initializer(sparse, "s").type == SparseTensorType(FLOAT32, (5,))


@pytest.mark.parametrize(("ir_version", "fixed"), [(3, True), (4, False), (10, False)])
def test_an_initializer_that_is_an_input_can_be_fed_from_ir_version_4_on(
    ir_version: int, fixed: bool
) -> None:
    x = Value("x", tensor=weight(1.0))
    graph = Graph("g", [x])
    graph.add_initializer(x)
    only = graph.add_initializer(weight(2.0))
    Model(graph, {"": 17}, ir_version)
    assert (x.constant is not None) is fixed
    assert only.constant is only.tensor


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("value", ArrayTensor(np.array([1, 2])), np.array([1, 2])),
        ("value_int", 3, np.array(3)),
        ("value_ints", [3, 4], np.array([3, 4])),
        ("value_float", 0.5, np.array(0.5, np.float32)),
        ("value_floats", [0.5], np.array([0.5], np.float32)),
        ("value_string", "a", np.array("a", object)),
        ("value_strings", ["a", "b"], np.array(["a", "b"], object)),
    ],
)
def test_results_of_constant_nodes_are_constants(
    name: str, given: object, expected: np.ndarray
) -> None:
    made = Node("", "Constant", attributes={name: given})
    found = made.output.constant
    assert found is not None
    assert found.numpy().dtype == expected.dtype
    np.testing.assert_array_equal(found.numpy(), expected)


def test_other_values_are_no_constants() -> None:
    referring = Attribute("value_int", AttributeKind.INT, None, "alpha")
    assert Node("", "Constant", attributes={"value_int": referring}).output.constant is None
    assert chain(1).outputs[0].constant is None
    assert Value("x").constant is None


def test_attributes_have_the_kind_of_their_value() -> None:
    kind = AttributeKind
    cases: list[tuple[object, AttributeKind]] = [
        (1, kind.INT),
        (np.int32(1), kind.INT),
        (True, kind.INT),
        (0.5, kind.FLOAT),
        (np.float32(0.5), kind.FLOAT),
        ("a", kind.STRING),
        (b"\xff", kind.STRING),
        ([1, 2], kind.INTS),
        ((1, 2.5), kind.FLOATS),
        (["a", b"b"], kind.STRINGS),
        (np.zeros(3), kind.TENSOR),
        (weight(1.0), kind.TENSOR),
        ([np.zeros(3)], kind.TENSORS),
        (SparseTensor(weight(), ArrayTensor(np.array([], np.int64)), (2,)), kind.SPARSE_TENSOR),
        (Graph(), kind.GRAPH),
        ([Graph(), Graph()], kind.GRAPHS),
        (TensorType(INT64), kind.TYPE_PROTO),
        ([TensorType(INT64)], kind.TYPE_PROTOS),
    ]
    for given, expected in cases:
        assert Attribute.of("a", given).kind is expected
    assert Attribute.of("a", [], kind.INTS).value == []
    assert Attribute.of("a", [1], kind.FLOATS).value == [1.0]
    assert type(Attribute.of("a", True).value) is int
    assert kind.INT.listed is kind.INTS
    assert (kind.INTS.is_list, kind.INT.is_list) == (True, False)
    assert kind.TYPE_PROTO.text == "type_proto"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "attribute 'a': a number, string, tensor, graph, type or list .* found NoneType"),
        ([], "attribute 'a': a list of one kind is required, found an empty list; pass its kind"),
        ([1, "b"], "a list of one kind is required, found int, string"),
    ],
)
def test_values_that_are_no_attributes_are_refused(given: object, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Attribute.of("a", given)


def test_attributes_are_read_by_name() -> None:
    conv = Node("", "Conv", attributes={"group": 2, "pads": [1, 1]})
    assert conv.attr("group") == 2
    assert conv.attr("strides", [1]) == [1]
    conv.set_attribute("group", 4)
    assert repr(conv) == "_ = Conv <group = 4, pads = [1, 1]>()"


def test_functions_are_found_by_domain_name_and_overload() -> None:
    plain = Function("d", "f", Graph("f"), {"": 17})
    special = Function("d", "f", Graph("f"), {"": 17}, overload="x")
    whole = Model(Graph("g"), {"": 17}, functions=[plain, special])
    assert whole.function("d", "f") is plain
    assert whole.function("d", "f", "x") is special
    assert whole.function("d", "g") is None
    assert whole.function_table == {("d", "f", ""): plain, ("d", "f", "x"): special}
    assert special.label == "function 'd.f:x'"
    assert plain.graph.owner is plain


def test_metadata_is_there_when_it_is_wanted() -> None:
    made = relu(Value("x"))
    made.metadata["pkg.torch.onnx.name"] = "a.b"
    made.output.metadata = {"k": "v"}
    assert (made.has_metadata, relu(Value("x")).has_metadata) == (True, False)
    assert made.output.metadata == {"k": "v"}


def test_labels_and_reprs_name_things() -> None:
    made = Node("com.x", "Op", [Value("x"), None], ["y", ""], name="n")
    assert made.label == "node 'n' (com.x.Op)"
    assert repr(made) == "y, _ = com.x.Op(x, _)"
    assert repr(Value("x", TensorType(FLOAT32, (2,)))) == "<Value x: float32[2]>"
    assert repr(Value()) == "<Value _: ?>"
    graph = chain(2)
    assert repr(graph) == "<Graph chain(x) => (y1), 2 nodes>"
    assert repr(Model(graph, {"": 17}, 8)) == f"<Model of IR version 8: {graph!r}>"
    assert repr(Function("", "f", Graph("f"))) == "<function 'f': <Graph f() => (), 0 nodes>>"


def test_anything_with_the_members_of_a_tensor_is_one() -> None:
    class Ones:
        name = "ones"
        dtype = FLOAT32
        shape = (2,)
        nbytes = 8

        def numpy(self) -> np.ndarray:
            return np.ones(2, np.float32)

        def tobytes(self) -> bytes:
            return self.numpy().tobytes()

    ones: Tensor = Ones()
    graph = Graph("g")
    w = graph.add_initializer(ones)
    assert w.type == TensorType(FLOAT32, (2,))
    assert Attribute.of("t", ones).kind is AttributeKind.TENSOR
