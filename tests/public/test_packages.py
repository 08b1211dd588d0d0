"""Packages that import onnx, on fornix in its place: each in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

BEGIN = """
import sys
import fornix
fornix.install_as("onnx")
import numpy as np
import onnx

def check(model, feeds, expected, tolerance=1e-5):
    assert type(model) is onnx.ModelProto
    onnx.checker.check_model(model)
    results = fornix.InferenceSession(model.SerializeToString()).run(None, feeds)
    np.testing.assert_allclose(results[0], expected, rtol=tolerance, atol=tolerance)
"""
END = """
for name, module in list(sys.modules.items()):
    if name == "onnx" or name.startswith("onnx."):
        assert module.__name__.startswith("fornix."), name
"""
SKLEARN = """
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
label, target = (X.sum(axis=1) > 0).astype(np.int64), X.sum(axis=1)
"""
SKL2ONNX = """
from skl2onnx import to_onnx
for kind in (make_pipeline(StandardScaler(), LogisticRegression()), RandomForestClassifier(5)):
    fitted = kind.fit(X, label)
    check(to_onnx(fitted, X[:1]), {"X": X}, fitted.predict(X))
"""
ONNXMLTOOLS = """
from onnxmltools import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
fitted = LinearRegression().fit(X, target)
model = convert_sklearn(fitted, initial_types=[("X", FloatTensorType([None, 4]))])
check(model, {"X": X}, fitted.predict(X).reshape(-1, 1))
"""
CONVERTER_COMMON = """
from onnxconverter_common import float16
model = onnx.parser.parse_model('''<ir_version: 10, opset_import: ["": 18]>
    g (float[2, 3] x) => (float[2, 3] y) <float[3] w = {1, 2, 3}> { a = Mul(x, w) y = Relu(a) }''')
half = float16.convert_float_to_float16(model)
x = np.array([[1, -2, 3], [4, 5, -6]], np.float16)
check(half, {"x": x}, np.maximum(x * np.array([1, 2, 3], np.float16), 0))
"""
ONNXSCRIPT = """
import tempfile, pathlib
source = '''
import onnxscript
from onnxscript import FLOAT, script
from onnxscript import opset18 as op

@script()
def choose(x: FLOAT["N"], y: FLOAT["N"]) -> FLOAT["N"]:
    if op.ReduceSum(x) > 0.0:
        r = x + y
    else:
        r = x - y
    return r
'''
with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "made.py").write_text(source)
    sys.path.insert(0, folder)
    import made
model = made.choose.to_model_proto()
x, y = np.ones(3, np.float32), np.arange(3, dtype=np.float32)
for found in (model, made.onnxscript.optimizer.optimize(model)):
    check(found, {"x": x, "y": y}, x + y)
    check(found, {"x": -x, "y": y}, -x - y)
np.testing.assert_allclose(made.choose(x, y), x + y)
"""
TORCH = """
import warnings
import tempfile, pathlib
import torch
warnings.simplefilter("ignore")
network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
                              torch.nn.Linear(4 * 36, 5), torch.nn.Softmax(-1)).eval()
x = torch.randn(2, 3, 8, 8)
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "m.onnx")
    torch.onnx.export(network, (x,), path, **OPTIONS)
    model = onnx.load(path)
feed = {model.graph.input[0].name: x.numpy()}
check(model, feed, network(x).detach().numpy())
"""
TF2ONNX = """
import tensorflow as tf
import tf2onnx
spec = [tf.TensorSpec([None, 3], tf.float32)]
network = tf.function(lambda x: tf.nn.softmax(tf.nn.relu(x) @ tf.eye(3)), input_signature=spec)
model, _ = tf2onnx.convert.from_function(network, input_signature=spec, opset=18)
x = np.array([[1, -2, 3], [4, 5, -6]], np.float32)
check(model, {model.graph.input[0].name: x}, network(x).numpy())
"""
CASES = {
    "skl2onnx": (["skl2onnx", "sklearn"], SKLEARN + SKL2ONNX),
    "onnxmltools": (["onnxmltools", "skl2onnx", "sklearn"], SKLEARN + ONNXMLTOOLS),
    "onnxconverter-common": (["onnxconverter_common"], CONVERTER_COMMON),
    "onnxscript": (["onnxscript"], ONNXSCRIPT),
    "tf2onnx": (["tf2onnx", "tensorflow"], TF2ONNX),
    "torch, TorchScript": (["torch"], "OPTIONS = {'dynamo': False, 'opset_version': 17}" + TORCH),
    "torch, dynamo": (["torch", "onnxscript"], "OPTIONS = {'dynamo': True}" + TORCH),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_packages_that_import_onnx_run_on_fornix(case: str) -> None:
    packages, body = CASES[case]
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    command = [sys.executable, "-c", f"{BEGIN}\n{body}\n{END}"]
    run = subprocess.run(command, capture_output=True, check=False, text=True)
    assert run.returncode == 0, run.stderr
