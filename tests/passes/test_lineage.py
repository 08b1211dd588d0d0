from __future__ import annotations

from fornix.format.text import parse_model
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from fornix.passes import optimize_explained
from fornix.passes.lineage import Lineage, named

HEAD = '<ir_version: 8, opset_import: ["" : 20]>\n'


def followed(text: str) -> tuple[Model, Lineage]:
    lineage = Lineage()
    optimized, _ = optimize_explained(named(from_message(parse_model(HEAD + text))), watch=lineage)
    return optimized, lineage


def told(lineage: Lineage) -> dict[str, list[str]]:
    return {origin.name: names for origin, names in lineage.became().items()}


def test_fused_nodes_become_part_of_what_replaces_them() -> None:
    optimized, lineage = followed("""f (float[N, 4] x) => (float[N, 4] y)
        <float two = {1.4142135}, float one = {1.0}, float half = {0.5}> {
        ["divide"] a = Div (x, two)
        ["error"] b = Erf (a)
        ["plus"] c = Add (b, one)
        ["product"] d = Mul (x, c)
        ["half"] y = Mul (d, half)
    }""")
    assert [node.op_type for node in optimized.graph.nodes] == ["Gelu"]
    names = {"divide", "error", "plus", "product", "half"}
    assert told(lineage) == {name: ["half"] for name in names}
    assert not lineage.gone


def test_what_is_gone_knows_the_pass() -> None:
    _, lineage = followed("""f (float[3, 4] x) => (float[3, 4] y, float[3, 4] z) {
        ["shape"] s = Shape (x)
        ["sum"] t = Add (s, s)
        ["spread"] e = Expand (x, s)
        ["one"] y = Exp (e)
        ["other"] w = Exp (x)
        ["unread"] u = Log (x)
        ["minus"] z = Neg (w)
    }""")
    gone = {origin.name: name for origin, name in lineage.gone.items()}
    assert gone["unread"] == "eliminate_dead"
    assert gone["sum"] in {"fold_constants", "eliminate_dead"}
    assert gone["shape"] in {"fold_constants", "eliminate_dead"}
    assert gone["spread"] == "canonicalize"
    assert {"one", "minus"} <= set(told(lineage))
    assert len(lineage.origins) == 7


def test_nodes_without_names_or_with_the_same_get_names_of_their_own() -> None:
    model = from_message(
        parse_model(
            HEAD
            + """f (float[N] x) => (float[N] y) {
            ["twice"] a = Neg (x)
            ["twice"] b = Abs (a)
            y = Exp (b)
        }"""
        )
    )
    assert [node.name for node in named(model).graph.nodes] == ["twice", "twice#2", "y"]
    assert [node.name for node in model.graph.nodes] == ["twice", "twice", ""]


def test_branches_that_are_inlined_stay_their_nodes() -> None:
    optimized, lineage = followed("""f (float[N] x) => (float[N] y) <bool c = {1}> {
        ["if"] y = If (c) <
            then_branch = t () => (float[N] p) { ["kept"] p = Exp (x) },
            else_branch = e () => (float[N] q) { ["lost"] q = Log (x) }
        >
    }""")
    assert [node.op_type for node in optimized.graph.nodes] == ["Exp"]
    assert told(lineage)["kept"] == [optimized.graph.nodes[0].name]
    assert "lost" in {origin.name for origin in lineage.gone}
