from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from bench.models import build
from fornix.check import check_model
from fornix.edit import outline
from fornix.edit.repeats import Repeat, best_repeat
from fornix.ir.files import load
from fornix.ir.graph import Model
from fornix.ir.load import from_message, to_message
from fornix.ir.walk import nodes
from fornix.passes.inline import inline_functions
from fornix.reference import ReferenceEvaluator
from tests.random_graphs import random_model

# Four layers; the second scales otherwise, and all read the weight `shared`.
LAYERS = """<ir_version: 10, opset_import: ["": 21]>
g (float[N, 3] x) => (float[N, 3] y, float[N, 3] a2)
<float[3, 3] w1 = {1, 0, 2, 0, 1, 0, 3, 0, 1}, float[3, 3] w2 = {0, 1, 0, 1, 0, 1, 0, 1, 2},
 float[3] shared = {1, 2, 3}> {
    [first] a1 = MatMul(x, w1) b1 = Add(a1, shared) c1 = LeakyRelu<alpha = 0.5>(b1) d1 = Add(c1, x)
    a2 = MatMul(d1, w2) b2 = Add(a2, shared) c2 = LeakyRelu<alpha = 0.25>(b2) d2 = Add(c2, d1)
    a3 = MatMul(d2, w1) b3 = Add(a3, shared) c3 = LeakyRelu<alpha = 0.5>(b3) d3 = Add(c3, d2)
    e = Neg(d3)
    a4 = MatMul(e, w2) b4 = Add(a4, shared) c4 = LeakyRelu<alpha = 0.5>(b4) y = Add(c4, e)
}"""


def results(model: Model, feeds: dict[str, Any]) -> list[Any]:
    found: list[Any] = ReferenceEvaluator(model).run(None, feeds)
    return found


def assert_same(model: Model, feeds: dict[str, Any], changed: Model) -> None:
    assert [str(x) for x in check_model(changed) if x.severity == "error"] == []
    onnx.checker.check_model(onnx.ModelProto.FromString(to_message(changed).SerializeToString()))
    inlined = changed.clone()
    inline_functions(inlined)
    expected = results(model, feeds)
    for found in (results(changed, feeds), results(inlined, feeds)):
        for ours, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, wanted)
    assert Counter(x.op_type for x in nodes(inlined)) == Counter(x.op_type for x in nodes(model))


def test_layers_become_calls_of_one_function() -> None:
    model = from_message(parser.parse_model(LAYERS))
    changed = outline(model)
    [block] = changed.functions
    assert block.key == ("outlined", "Block1", "")
    assert [node.op_type for node in block.graph.nodes] == ["MatMul", "Add", "LeakyRelu", "Add"]
    assert block.attributes == ["alpha"]
    assert next(iter(block.graph.nodes)).name == "first"
    calls = [node for node in changed.graph.nodes if node.op_type == "Block1"]
    assert [[v.name for v in node.inputs if v is not None] for node in calls] == [
        ["x", "w1", "shared"],
        ["d1", "w2", "shared"],
        ["d2", "w1", "shared"],
        ["e", "w2", "shared"],
    ]
    assert [node.attr("alpha") for node in calls] == [0.5, 0.25, 0.5, 0.5]
    # a2 is an output of the graph, so that the function gives it at every call.
    assert [len(node.outputs) for node in calls] == [2] * 4
    assert changed.opset_imports["outlined"] == 1
    assert_same(model, {"x": np.arange(6, dtype="f").reshape(2, 3)}, changed)


def test_what_is_given_stays_as_it_is() -> None:
    model = from_message(parser.parse_model(LAYERS))
    before = to_message(model)
    outline(model)
    assert to_message(model) == before


def test_parts_that_are_joined_otherwise_are_not_the_same() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]>
        g (float[N] x) => (float[N] y) {
            a = Neg(x) b = Abs(a) c = Exp(b) d = Add(c, a)
            e = Neg(d) f = Abs(e) h = Exp(f) y = Add(h, f) }"""
    model = from_message(parser.parse_model(text))
    assert outline(model).functions == []


def test_parts_below_the_least_stay() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]>
        g (float[N] x) => (float[N] y) {
            a = Neg(x) b = Abs(a) c = Exp(b) d = Neg(c) e = Abs(d) y = Exp(e) }"""
    model = from_message(parser.parse_model(text))
    assert outline(model).functions == []
    changed = outline(model, least=3)
    assert [len(function.graph.nodes) for function in changed.functions] == [3]
    assert_same(model, {"x": np.array([1, -2], "f")}, changed)


def test_attributes_that_differ_in_different_ways_are_told_apart() -> None:
    layer = "{b} = Constant<value_int = {p}>() {c} = Constant<value_int = {q}>() {d} = Add({a}, {b}) {e} = Mul({d}, {c})"  # noqa: E501
    text = """<ir_version: 10, opset_import: ["": 21]> g (int64[N] x) => (int64[N] y) {{ {} {} {} }}
        """.format(
        layer.format(a="x", b="b1", c="c1", d="d1", e="e1", p=1, q=1),
        layer.format(a="e1", b="b2", c="c2", d="d2", e="e2", p=2, q=3),
        layer.format(a="e2", b="b3", c="c3", d="d3", e="y", p=4, q=4),
    )
    model = from_message(parser.parse_model(text))
    changed = outline(model)
    assert changed.functions[0].attributes == ["value_int", "value_int_1"]
    assert_same(model, {"x": np.array([1, 2])}, changed)


def test_old_models_get_the_version_that_has_functions() -> None:
    model = from_message(parser.parse_model(LAYERS.replace("ir_version: 10", "ir_version: 6")))
    assert outline(model).ir_version == 8
    assert outline(model, least=99).ir_version == 6


def test_functions_of_the_name_are_left_alone() -> None:
    text = (
        LAYERS.replace('"": 21', '"": 21, "outlined": 1')
        + """
        <domain: "outlined", opset_import: ["": 21]> Block1 (x) => (y) { y = Neg(x) }"""
    )
    model = from_message(parser.parse_model(text.replace("Neg(d3)", "outlined.Block1(d3)")))
    changed = outline(model)
    assert [function.name for function in changed.functions] == ["Block1", "Block1_"]
    expected = results(model, {"x": np.ones((2, 3), "f")})
    for found, wanted in zip(results(changed, {"x": np.ones((2, 3), "f")}), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("seed", range(12))
def test_outlined_models_compute_the_same(seed: int) -> None:
    model, feeds = random_model(seed)
    assert_same(model, feeds, outline(model, least=2))


@pytest.mark.parametrize("name", ["bert_base", "resnet50", "efficientnet_b0"])
def test_layers_of_networks_are_found(name: str) -> None:
    built = build(name)
    model = load(built.path)
    changed = outline(model)
    assert len(list(nodes(changed))) < 0.8 * len(list(nodes(model)))
    assert_same(model, built.inputs[0], changed)


def test_twelve_layers_are_one_repeat() -> None:
    layer = [1, 2, 3, 2, 4]
    sequence = [9, 8, *layer * 12, 1, 2, 7]
    found = best_repeat(sequence, 2)
    assert found is not None
    assert (found.length, len(found.starts), found.starts[:2]) == (5, 12, (2, 7))
    assert found.repeated == 55
    # The sequence goes on as a layer would for two elements, so that the cut may move by two.
    assert found.slack == 2


def test_few_repeats_are_better_than_the_one_found() -> None:
    random = np.random.default_rng(0)
    for _ in range(60):
        sequence = random.integers(0, 3, random.integers(0, 14)).tolist()
        found = best_repeat(sequence, 2)
        most = max(
            (
                Repeat(starts, n).repeated
                for n in range(2, len(sequence))
                for starts in spots(sequence, n)
            ),
            default=0,
        )
        assert (0 if found is None else found.repeated) >= 0.7 * max(most, 0)
        if found is not None:
            parts = {tuple(sequence[at : at + found.length]) for at in found.starts}
            assert len(parts) == 1


def spots(sequence: list[int], length: int) -> list[tuple[int, ...]]:
    """Where each stretch of ``length`` occurs, as often as it fits from the left."""
    found: dict[tuple[int, ...], list[int]] = {}
    for start in range(len(sequence) - length + 1):
        starts = found.setdefault(tuple(sequence[start : start + length]), [])
        if not starts or start >= starts[-1] + length:
            starts.append(start)
    return [tuple(starts) for starts in found.values() if len(starts) > 1]
