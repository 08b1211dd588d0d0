from __future__ import annotations

import math

import pytest

import fornix
from bench.models import EXPORTERS, Exporter, build
from fornix.format.text import parse_model
from fornix.infer import infer_strictly
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from fornix.passes import optimize
from fornix.passes.fuse_attention import FoundAttention, find_attention

ENDS = """float[N, 2, S, 16] q, float[N, 2, T, 16] k, float[N, 2, T, 16] v, bool[N, 1, S, T] m
    ) => (float[N, 2, S, 16] y)"""
STORED = "<float c = {0.5}, float four = {4}, float zero = {0}, float low = {-inf}>"


def found(model: Model) -> list[FoundAttention]:
    inference = infer_strictly(model)
    every = [find_attention(node, inference.fact) for node in model.graph.nodes]
    return [one for one in every if one is not None]


def spelled(body: str) -> list[FoundAttention]:
    text = f'<ir_version: 8, opset_import: ["" : 17]> f ({ENDS} {STORED} {{ {body} }}'
    return found(from_message(parse_model(text)))


@pytest.mark.parametrize(
    ("scores", "scale"),
    [
        ("a = MatMul (q, t)", 1.0),
        ("b = MatMul (q, t) a = Mul (c, b)", 0.5),
        ("b = MatMul (q, t) a = Div (b, four)", 0.25),
        ("b = Mul (q, c) d = Mul (t, c) a = MatMul (b, d)", 0.25),
        ("b = Div (q, four) d = MatMul (b, t) a = Mul (d, c)", 0.125),
    ],
)
def test_scales_are_multiplied_wherever_they_stand(scores: str, scale: float) -> None:
    body = f"t = Transpose <perm = [0, 1, 3, 2]> (k) {scores} s = Softmax (a) y = MatMul (s, v)"
    [one] = spelled(body)
    assert math.isclose(one.scale, scale)
    assert (one.q.name, one.keys.name, one.v.name, one.mask) == ("q", "k", "v", None)
    assert one.keys_perm == (0, 1, 2, 3)


@pytest.mark.parametrize(
    "masked", ["h = Where (m, zero, low) b = Add (h, a)", "b = Where (m, a, low)"]
)
@pytest.mark.parametrize("guard", ["w = Relu (s)", "i = IsNaN (s) w = Where (i, zero, s)"])
def test_a_mask_of_booleans_is_found_as_such(masked: str, guard: str) -> None:
    body = f"""t = Transpose <perm = [0, 1, 3, 2]> (k) a = MatMul (q, t) {masked}
        s = Softmax (b) {guard} y = MatMul (w, v)"""
    if "Relu" in guard:
        assert spelled(body) == []
        return
    [one] = spelled(body)
    assert one.mask is not None
    assert one.mask.name == "m"


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(("name", "layers"), [("bert_base", 2), ("gpt2", 2), ("llama", 2)])
def test_attention_is_found_below_its_opset(name: str, exporter: Exporter, layers: int) -> None:
    model = optimize(fornix.load(build(name, exporter).path))
    assert model.opset_imports[""] < 23
    assert len(found(model)) == layers
