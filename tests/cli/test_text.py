from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

import fornix
from tests.cli.command import DIGITS, call


def test_text_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "digits.onnxtxt"
    outcome = call("text", DIGITS, "-o", path)
    assert (outcome.code, outcome.out) == (0, "")
    before, after = onnx.load(DIGITS), fornix.load(path)
    assert [node.op_type for node in after.graph.nodes] == [n.op_type for n in before.graph.node]
    assert call("text", DIGITS).out == path.read_text(encoding="utf-8")


def test_short_text_leaves_weights_out() -> None:
    out = call("text", DIGITS, "--short").out
    assert "Conv" in out
    assert "float32[N, 1, 8, 8] image" in out
    assert len(out) < 3000


def test_large_tensors_are_elided_on_request() -> None:
    out = call("text", DIGITS, "--elide", "16").out
    assert "float[16, 1, 3, 3] stroke_weight = {...}" in out
    assert "float[16] stroke_bias = {" in out
    assert "float[16] stroke_bias = {...}" not in out
    assert len(out) < 5000 < len(call("text", DIGITS).out)


def test_json_is_that_of_protobuf() -> None:
    told = call("text", DIGITS, "--json").json
    assert told["graph"]["name"] == "digits"
    path_free = json.dumps(told)
    assert onnx.load_model_from_string(path_free.encode(), format="json") == onnx.load(DIGITS)


@pytest.mark.parametrize("flag", ["--json", ""])
def test_external_data_stays_outside(tmp_path: Path, flag: str) -> None:
    message = onnx.load(DIGITS)
    onnx.save(message, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin")
    out = call("text", tmp_path / "m.onnx", *filter(None, [flag])).out
    assert "w.bin" in out
    assert len(out) < 20_000
