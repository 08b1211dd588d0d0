"""One minute, whole stack, with nothing but the run-time dependencies: the smallest contract."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import fornix
from fornix import onnx
from fornix.infer import infer_strictly
from fornix.ir.load import to_message

TEXT = """<ir_version: 10, opset_import: ["" : 21, "tiny" : 1]>
    tiny (float[N, 3] x) => (float[N, 2] y)
    <float[3, 2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {10, 20}> {
        product = tiny.Affine (x, w, b)
        y = Relu (product)
    }
    <domain: "tiny", opset_import: ["" : 21]>
    Affine (x, w, b) => (z) { p = MatMul (x, w) z = Add (p, b) }"""
X = np.array([[1, 2, 3], [-9, -9, -9]], np.float32)
WANTED = np.array([[32, 48], [0, 0]], np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "tiny.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), target)
    return target


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, "-m", "fornix", *arguments],
        check=False, capture_output=True, encoding="utf-8", env=environment,
    )  # fmt: skip


def test_text_bytes_and_graph_describe_one_model(path: Path) -> None:
    message = onnx.load(path)
    assert onnx.parser.parse_model(onnx.printer.to_text(message)) == message
    assert to_message(fornix.load(path)) == message


def test_shapes_are_inferred(path: Path) -> None:
    model = fornix.load(path)
    inferred = infer_strictly(model).fact(model.graph.outputs[0])
    assert str(inferred) == "float32[N, 2]"


def test_a_session_and_the_reference_compute_the_same(path: Path) -> None:
    np.testing.assert_array_equal(fornix.InferenceSession(path).run(None, {"x": X})[0], WANTED)
    evaluator = fornix.ReferenceEvaluator(onnx.load(path))
    np.testing.assert_array_equal(evaluator.run(None, {"x": X})[0], WANTED)


def test_the_trained_network_recognises_digits() -> None:
    demo = files("fornix") / "demo"
    with np.load(str(demo / "digits.npz")) as data:
        images, labels = data["image"], data["label"]
    [probability] = fornix.InferenceSession((demo / "digits.onnx").read_bytes()).run(
        None, {"image": images}
    )
    assert (probability.argmax(1) == labels).mean() > 0.9


def test_errors_say_what_to_do(path: Path) -> None:
    with pytest.raises(fornix.FornixError, match=r"try x\.astype\(np\.float32\)"):
        fornix.InferenceSession(path).run(None, {"x": X.astype(np.float64)})


def test_the_command_line_runs_checks_and_explains(path: Path) -> None:
    assert command("check", str(path)).returncode == 0
    told = json.loads(command("info", str(path), "--json").stdout)
    assert told["inputs"][0]["name"] == "x"
    assert command("run", str(path), "--random", "1").returncode == 0
    missing = command("check", str(path) + ".missing")
    assert missing.returncode != 0
    assert "Traceback" not in missing.stderr


def test_nothing_but_the_runtime_dependencies_is_imported(path: Path) -> None:
    code = (
        "import sys, fornix; fornix.InferenceSession(sys.argv[1]);"
        "heavy = {'onnx', 'onnxruntime', 'torch', 'click', 'rich', 'PIL'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
