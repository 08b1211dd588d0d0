from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fornix.errors import GraphError, LimitError
from fornix.format.limits import Limits
from fornix.ir.graph import Function, Graph, Model, Node, Value
from fornix.ir.tensor import ArrayTensor
from fornix.ir.verify import verify
from tests.ir.graphs import BRANCHES, chain, model, node, value


def test_sound_models_pass() -> None:
    whole = model(BRANCHES)
    x = Value("x")
    body = Graph("f", [x])
    body.append(Node("", "Relu", [x]))
    body.outputs = body.nodes[0].outputs
    whole.functions.append(Function("d", "f", body, {"": 17}))
    verify(whole)
    verify(whole.graph)
    verify(whole.functions[0])


def lose_a_use(graph: Graph) -> None:
    value(graph, "a").drop_use(node(graph, "Clip"), 0)


def invent_a_use(graph: Graph) -> None:
    value(graph, "a").note_use(node(graph, "Mul"), 7)


def keep_a_use(graph: Graph) -> None:
    stray = Node("", "Neg", [value(graph, "a")], name="stray")
    value(graph, "a").note_use(stray, 0)


def lose_an_output(graph: Graph) -> None:
    value(graph, "y").drop_listed(graph)


def invent_an_output(graph: Graph) -> None:
    value(graph, "a").note_listed(graph)


def lose_a_producer(graph: Graph) -> None:
    value(graph, "a").producer = None


def miscount_an_output(graph: Graph) -> None:
    value(graph, "b").index = 1


def disown_a_node(graph: Graph) -> None:
    node(graph, "Clip").graph = Graph("other")


def disown_a_graph(graph: Graph) -> None:
    node(graph, "If").attr("then_branch").owner = None


def disown_an_input(graph: Graph) -> None:
    value(graph, "x").note_owner(Graph("other"))


def forget_an_input(graph: Graph) -> None:
    value(graph, "x").is_input = False


def empty_an_initializer(graph: Graph) -> None:
    value(graph, "w").tensor = None


def disown_the_graph(graph: Graph) -> None:
    graph.owner = None


def read_ahead(graph: Graph) -> None:
    graph.move_before(None, node(graph, "Mul"))


def make_a_cycle(graph: Graph) -> None:
    node(graph, "Mul").set_input(0, value(graph, "b"))


def make_a_loop(graph: Graph) -> None:
    node(graph, "Mul").set_input(0, value(graph, "a"))


def capture_the_own_result(graph: Graph) -> None:
    node(node(graph, "If").attr("then_branch"), "Add").set_input(0, value(graph, "y"))


def read_from_a_branch(graph: Graph) -> None:
    inner = value(node(graph, "If").attr("else_branch"), "k")
    node(graph, "Clip").set_input(0, inner)


def read_from_the_other_branch(graph: Graph) -> None:
    inner = value(node(graph, "If").attr("else_branch"), "k")
    node(node(graph, "If").attr("then_branch"), "Add").set_input(0, inner)


def list_from_a_branch(graph: Graph) -> None:
    graph.outputs = (value(node(graph, "If").attr("else_branch"), "k"),)


def read_from_nowhere(graph: Graph) -> None:
    node(graph, "Mul").set_input(0, Node("", "Neg", name="stray").output)


def read_the_undefined(graph: Graph) -> None:
    node(graph, "Mul").set_input(0, graph.add_undefined("typo"))


def read_the_omitted(graph: Graph) -> None:
    node(graph, "Mul").set_outputs([*node(graph, "Mul").outputs, ""])
    node(graph, "Clip").set_input(0, node(graph, "Mul").outputs[1])


def name_twice(graph: Graph) -> None:
    value(graph, "b").name = "x"


def shadow(graph: Graph) -> None:
    value(node(graph, "If").attr("else_branch"), "k").name = "a"


def list_an_input_twice(graph: Graph) -> None:
    graph.inputs = (*graph.inputs, graph.inputs[0])


def unname(graph: Graph) -> None:
    graph.inputs[1].name = ""


def store_twice(graph: Graph) -> None:
    graph.add_initializer(ArrayTensor(np.zeros(1, np.float32), "w"))


FINDINGS: list[tuple[Callable[[Graph], None], str]] = [
    (lose_a_use, "node for 'b' (Clip): input 0 'a' does not count this use"),
    (
        invent_a_use,
        "value 'a': node for 'a' (Mul) counts as a use by input 7, but does not read it",
    ),
    (keep_a_use, "value 'a': node 'stray' (Neg) uses it and stands in no graph"),
    (lose_an_output, "graph 'main': output 'y' does not know of it"),
    (invent_an_output, "value 'a': graph 'main' does not list it as an output"),
    (
        lose_a_producer,
        "node for 'a' (Mul): output 0 'a' has to come from here, found output 0 of no graph",
    ),
    (
        miscount_an_output,
        "node for 'b' (Clip): output 0 'b' has to come from here, found output 1 of node for 'b'",
    ),
    (disown_a_node, "node for 'b' (Clip): it stands in graph 'main', but says <Graph other"),
    (disown_a_graph, "node for 'y' (If): it has to own graph 'then', found None"),
    (
        disown_an_input,
        (
            "graph 'main': input or initializer 'x' has to belong to this graph, found it in graph "
            "'other'"
        ),
    ),
    (forget_an_input, "graph 'main': is_input of 'x' has to be True, found False"),
    (empty_an_initializer, "graph 'main': initializer 'w' has no tensor"),
    (disown_the_graph, "graph 'main': its model or function has to own it, found None"),
    (
        read_ahead,
        (
            "node for 'b' (Clip): input 0 'a' has to be defined ahead of its use, found behind "
            "it node for 'a' (Mul); use fornix.ir.order.sort"
        ),
    ),
    (
        make_a_cycle,
        (
            "node for 'a' (Mul): a node cannot need its own result, found the cycle node for 'a' "
            "(Mul) ← node for 'b' (Clip) ← node for 'a' (Mul)"
        ),
    ),
    (
        make_a_loop,
        (
            "node for 'a' (Mul): a node cannot need its own result, found the cycle node for 'a' "
            "(Mul) ← node for 'a' (Mul)"
        ),
    ),
    (
        capture_the_own_result,
        (
            "node for 'y' (If): a node cannot need its own result, found the cycle node for 'y' "
            "(If) ← node for 'y' (If)"
        ),
    ),
    (
        read_from_a_branch,
        (
            "node for 'b' (Clip): input 0 'k' is defined in node for 'k' (Neg), which is not "
            "around this"
        ),
    ),
    (
        read_from_the_other_branch,
        (
            "node for 't' (Add): input 0 'k' is defined in node for 'k' (Neg), which is not around "
            "this"
        ),
    ),
    (
        list_from_a_branch,
        "graph 'main': output 'k' is defined in node for 'k' (Neg), which is not around this",
    ),
    (
        read_from_nowhere,
        "node for 'a' (Mul): input 0 '' comes from node 'stray' (Neg), which stands in no graph",
    ),
    (
        read_the_undefined,
        "node for 'a' (Mul): input 0 'typo' has to be defined, found nothing of that name",
    ),
    (
        read_the_omitted,
        "node for 'b' (Clip): input 0 '' is an output that node for 'a' (Mul) omits",
    ),
    (
        name_twice,
        (
            "node for 'x' (Clip): 'x' has to be the only value of that name, found another in "
            "graph 'main'"
        ),
    ),
    (
        shadow,
        (
            "node for 'a' (Neg): 'a' has to be the only value of that name, found another in "
            "node for 'a' (Mul)"
        ),
    ),
    (
        list_an_input_twice,
        "graph 'main': 'x' has to be the only value of that name, found another in graph 'main'",
    ),
    (unname, "graph 'main': a value needs a name, found one without"),
    (
        store_twice,
        "graph 'main': 'w' has to be the only value of that name, found another in graph 'main'",
    ),
]


@pytest.mark.parametrize(("damage", "message"), FINDINGS, ids=lambda x: getattr(x, "__name__", ""))
def test_each_invariant_is_checked(damage: Callable[[Graph], None], message: str) -> None:
    whole = model(BRANCHES)
    verify(whole)
    damage(whole.graph)
    with pytest.raises(GraphError) as caught:
        verify(whole)
    assert str(caught.value).startswith(message)


def test_branches_may_use_the_same_names() -> None:
    whole = model(
        """main (bool c, float x) => (float y) {
             y = If(c) <then_branch = t () => (float v) { v = Neg(x) },
                        else_branch = e () => (float v) { v = Abs(x) }>
           }"""
    )
    verify(whole)


def test_functions_are_checked_too() -> None:
    whole = Model(chain(1), {"": 17})
    body = Graph("f", [Value("x")])
    body.append(Node("", "Relu", [body.add_undefined("z")], ["y"]))
    whole.functions.append(Function("d", "f", body, {"": 17}))
    with pytest.raises(GraphError, match=r"node for 'y' \(Relu\): input 0 'z' has to be defined"):
        verify(whole)


def test_graphs_nested_without_end_are_refused() -> None:
    graph = Graph("top")
    inner = graph
    for _ in range(3):
        holder = Node("", "If", attributes={"then_branch": Graph("g")})
        inner.append(holder)
        inner = holder.attr("then_branch")
    verify(graph, limits=Limits(nesting=3))
    with pytest.raises(LimitError, match="nesting is limited to 2, found 3"):
        verify(graph, limits=Limits(nesting=2))
