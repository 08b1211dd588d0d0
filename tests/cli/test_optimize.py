from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from tests.cli.command import DIGITS, call, model

SWISH = "[s] a = Sigmoid(x) [m] y = Mul(x, a)"


def silu(folder: Path) -> Path:
    return model(folder, "(float[N] x) => (float[N] y)", f"[i] z = Identity(x) {SWISH}")


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_the_optimized_model_is_written_and_told(tmp_path: Path) -> None:
    target = tmp_path / "less.onnx"
    outcome = call("optimize", silu(tmp_path), "-o", target)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{target} has 2 nodes of 3\n"
    assert operators(target) == ["Sigmoid", "Mul"]


def test_onnxruntime_gives_the_same_for_the_optimized_model(tmp_path: Path) -> None:
    target = tmp_path / "less.onnx"
    call("optimize", DIGITS, "-o", target)
    onnx.checker.check_model(target, full_check=True)
    first, second = (onnxruntime.InferenceSession(str(path)) for path in (DIGITS, target))
    [given] = first.get_inputs()
    shape = [extent if isinstance(extent, int) else 2 for extent in given.shape]
    feeds = {given.name: np.random.default_rng(0).random(shape, np.float32)}
    for one, other in zip(first.run(None, feeds), second.run(None, feeds), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_explain_tells_what_each_pass_did(tmp_path: Path) -> None:
    outcome = call("optimize", silu(tmp_path), "-o", tmp_path / "less.onnx", "--explain")
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[0] == ["pass", "what", "times", "nodes", "left", "took"]
    assert ["eliminate_dead", "dead", "node", "1", "2"] in [line[:5] for line in lines]


def test_the_opset_is_raised_on_demand(tmp_path: Path) -> None:
    target = tmp_path / "less.onnx"
    call("optimize", silu(tmp_path), "-o", target, "--opset", "24")
    assert operators(target) == ["Swish"]
    assert {x.domain: x.version for x in onnx.load(target).opset_import}[""] == 24


def test_level_none_writes_the_model_as_it_is(tmp_path: Path) -> None:
    target = tmp_path / "same.onnx"
    outcome = call("optimize", silu(tmp_path), "-o", target, "--level", "none")
    assert outcome.out.endswith("has 3 nodes of 3\n")
    assert operators(target) == ["Identity", "Sigmoid", "Mul"]


def test_json_has_the_passes(tmp_path: Path) -> None:
    target = tmp_path / "less.onnx"
    told = call("optimize", silu(tmp_path), "-o", target, "--json").json
    assert {k: told[k] for k in ("written", "level", "nodes_before", "nodes_after")} == {
        "written": str(target),
        "level": "all",
        "nodes_before": 3,
        "nodes_after": 2,
    }
    assert told["opset_imports"][""] == 21
    [changed] = [x for x in told["passes"] if x["name"] == "eliminate_dead" and x["changes"]]
    assert changed["changes"] == {"dead node": 1}
    assert set(changed) == {"name", "changes", "nodes_before", "nodes_after", "seconds"}


def test_a_level_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    outcome = call("optimize", silu(tmp_path), "-o", tmp_path / "x.onnx", "--level", "most")
    assert outcome.code == 2
    assert "'most' is not one of" in outcome.err
