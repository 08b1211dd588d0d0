from __future__ import annotations

import re
from pathlib import Path

import pytest

from fornix.cli.explain import loops_of
from fornix.runtime import providers
from fornix.runtime.reports.explain import Kernel, Unit
from tests.cli.command import call, save

MODEL = """<ir_version: 8, opset_import: ["" : 18]>
f (float[N, 64] x, float[64, 70] w) => (float[N, 70] y, float[N, K] z) {
    ["product"] p = MatMul (x, w)
    ["rectify"] q = Relu (p)
    ["extent"] s = Shape (q)
    ["spread"] y = Expand (q, s)
    ["where"] z = Unique <axis = 1> (y)
}"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(tmp_path, MODEL)


def test_the_page_tells_passes_units_and_why_numpy(path: Path) -> None:
    outcome = call("explain", path)
    assert outcome.code == 0, outcome.err
    page = outcome.out
    assert "5 nodes, 3 after optimization" in page
    assert "kernels in 1 unit, and 1 that runs in NumPy" in page
    assert "MatMul+Relu" in page
    assert "contraction" in page
    assert "float32[N, 70]" in page
    assert "an extent of 'z' is known at run time only" in page
    assert re.search(r"canonicalize  changed nothing, or others say the same: .*1 Expand", page)


def test_long_lists_are_cut_unless_all_is_asked_for(tmp_path: Path) -> None:
    outs = ", ".join(f"float[{k}] y{k}" for k in range(1, 72))
    nodes = "\n".join(f"y{k} = CumSum (x{k}, a)" for k in range(1, 72))
    ends = ", ".join(f"float[{k}] x{k}" for k in range(1, 72))
    head = '<ir_version: 8, opset_import: ["" : 18]> f'
    path = save(tmp_path, f"{head} ({ends}) => ({outs}) <int64 a = {{0}}> {{ {nodes} }}")
    short, full = call("explain", path).out, call("explain", path, "--all").out
    assert "… and 11 more; --all shows them" in short
    assert "more" not in full


def test_control_flow_with_bodies_is_not_told_to_run_in_numpy(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]> f (float[2] x) => (float[2] y) {
        n = Constant <value_int = 5> () t = Constant <value = bool {1}> ()
        ["steps"] y = Loop <body = b (int64 i, bool go, float[2] s) => (bool on, float[2] r) {
            on = Identity (go)  r = Tanh (s) }> (n, t, x)
    }"""
    path = save(tmp_path, text)
    page = call("explain", path).out
    assert ": 0 kernels in 0 units, and 1 that drives its bodies (" in page
    assert "bodies: compiled where they can be" in page
    assert "NumPy" not in page
    assert "NumPy" not in call("explain", path, "--node", "steps").out


def test_one_node_is_told_alone(path: Path) -> None:
    told = call("explain", path, "--node", "product").out
    assert told.splitlines()[0].split() == ["product", "MatMul"]
    assert "part of unit 1, MatMul+Relu" in told
    assert "gone in" in call("explain", path, "--node", "spread").out
    assert "in NumPy because an extent" in call("explain", path, "--node", "where").out
    wrong = call("explain", path, "--node", "prod")
    assert wrong.code == 2
    assert "did you mean 'product'" in wrong.err


def test_json_has_stable_keys(path: Path) -> None:
    told = call("explain", path, "--json").json
    assert set(told) == {
        "model", "nodes_before", "nodes_after", "optimize_seconds", "compile_seconds", "passes",
        "units", "nodes",
    }  # fmt: skip
    unit = told["units"][0]
    assert set(unit) == {
        "number", "provider", "reason", "nodes", "origins", "results", "kernels",
    }  # fmt: skip
    assert set(unit["kernels"][0]) == {"name", "kind", "results", "chunks", "ahead"}
    assert {tuple(sorted(node)) for node in told["nodes"]} == {
        ("lost_in", "name", "op_type", "units")
    }


def test_a_level_must_be_one_that_there_is(path: Path) -> None:
    assert "0 kernels" not in call("explain", path, "--level", "none").out
    assert call("explain", path, "--level", "much").code == 2


def test_without_a_compiler_there_is_nothing_to_explain(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "no_machine_code", lambda: "nothing can be compiled: no LLVM")
    outcome = call("explain", path)
    assert outcome.code == 1
    assert "fornix explain: machine code is required, but nothing can be compiled" in outcome.err


def test_loops_are_told_in_order_those_alike_once() -> None:
    def kernel(kind: str, *, is_ahead: bool = False) -> Kernel:
        return Kernel("k", kind, (), 1, is_ahead=is_ahead)

    def told(*kernels: Kernel) -> str:
        return loops_of(Unit(1, (), (), (), kernels, "", ""))

    assert told(kernel("map"), kernel("row"), kernel("row"), kernel("map")) == "map, row ×2, map"
    assert told(kernel("map", is_ahead=True), kernel("contraction")) == "contraction; packed"
    assert told() == "NumPy"
    assert loops_of(Unit(1, (), ("inner",), (), (), "", "")) == "bodies"


def test_packed_weights_are_explained(tmp_path: Path) -> None:
    text = MODEL.replace(", float[64, 70] w)", ")").replace(
        " {\n", " <float[64, 70] w = {" + ", ".join(["1"] * 4480) + "}> {\n", 1
    )
    assert "packed: weights are arranged once" in call("explain", save(tmp_path, text)).out
