from __future__ import annotations

import pytest

from fornix.errors import InvalidArgument
from fornix.format.text import parse_model
from fornix.ir.load import from_message
from fornix.runtime import SessionOptions
from fornix.runtime.providers import ReferenceExecutionProvider
from fornix.runtime.reports.explain import Explanation, explain, fates_of, origins_of

HEAD = '<ir_version: 8, opset_import: ["" : 20]>\n'
MODEL = """f (float[N, 64] x, bool c) => (float[N, 70] y, float[N, K] z, float[N, 70] v)
    <float[64, 70] w> {
    ["product"] p = MatMul (x, w)
    ["rectify"] y = Relu (p)
    ["extent"] s = Shape (y)
    ["spread"] e = Expand (y, s)
    ["where"] z = Unique <axis = 1> (e)
    ["choice"] v = If (c) <
        then_branch = t () => (float[N, 70] a) { ["inner"] a = Exp (e) },
        else_branch = f () => (float[N, 70] b) { ["other"] b = Neg (e) }
    >
}"""


def explained(text: str = MODEL, options: SessionOptions | None = None) -> Explanation:
    text = text.replace("<float[64, 70] w>", f"<float[64, 70] w = {{{', '.join(['1'] * 4480)}}}>")
    return explain(from_message(parse_model(HEAD + text)), options)


def test_every_node_is_in_a_unit_or_gone_with_the_pass_that_it_fell_to() -> None:
    found = explained()
    fates = {fate.origin.name: fate for fate in found.fates}
    assert fates["product"].units == fates["rectify"].units == (1,)
    assert fates["where"].units != fates["choice"].units
    assert fates["inner"].units == fates["other"].units == fates["choice"].units
    assert fates["spread"].units == ()
    assert fates["spread"].lost_in == "canonicalize"
    assert [unit.number for unit in found.units] == list(range(1, len(found.units) + 1))
    names = {origin.name for origin in origins_of(found)[1]}
    assert names == {"product", "rectify"}
    assert found.nodes_before == 8


def test_kernels_have_kinds_results_and_chunks_of_symbolic_extents() -> None:
    unit = explained().units[0]
    assert [node.op_type for node in unit.nodes] == ["MatMul", "Relu"]
    assert [kernel.is_ahead for kernel in unit.kernels] == [True, False]
    last = unit.kernels[-1]
    assert last.kind == "contraction"
    assert last.results == ("float32[N, 70]",)
    assert "N" in str(last.chunks)
    assert unit.results == (("y", "float32[N, 70]"),)
    assert (unit.reason, unit.provider) == ("", "CPUExecutionProvider")


def test_what_has_no_kernel_has_a_reason() -> None:
    reasons = {unit.nodes[0].name: unit.reason for unit in explained().units if not unit.kernels}
    assert reasons["choice"] == "control flow decides at run time what runs"
    assert "known at run time only" in reasons["where"]


def test_levels_and_providers_are_those_of_a_session() -> None:
    plain = explained(options=SessionOptions(graph_optimization_level="none"))
    assert plain.steps == []
    assert {fate.origin.name for fate in plain.fates if fate.units} >= {"spread", "product"}
    model = from_message(parse_model(HEAD + "f (float[N] x) => (float[N] y) { y = Exp (x) }"))
    (unit,) = explain(model, providers=[ReferenceExecutionProvider()]).units
    assert unit.reason == "the reference runs NumPy kernels"
    assert unit.nodes[0].op_type == "Exp"


def test_a_node_is_found_by_its_name_or_one_alike_is_suggested() -> None:
    found = explained()
    (fate,) = fates_of(found, "product")
    assert fate.origin.op_type == "MatMul"
    with pytest.raises(InvalidArgument, match="found 'prodct'; did you mean 'product'"):
        fates_of(found, "prodct")
