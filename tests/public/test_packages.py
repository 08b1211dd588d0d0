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
LIGHTGBM = """
from lightgbm import LGBMClassifier, LGBMRegressor
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
types = [("X", FloatTensorType([None, 4]))]
for kind, wanted in (LGBMClassifier, label), (LGBMRegressor, target):
    fitted = kind(n_estimators=5, min_child_samples=2, verbose=-1).fit(X, wanted)
    expected = fitted.predict(X).reshape((-1,) if wanted is label else (-1, 1))
    check(convert_lightgbm(fitted, initial_types=types), {"X": X}, expected)
"""
XGBOOST = """
from xgboost import XGBClassifier, XGBRegressor
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
types = [("X", FloatTensorType([None, 4]))]
for kind, wanted in (XGBClassifier, label), (XGBRegressor, target):
    fitted = kind(n_estimators=5).fit(X, wanted)
    expected = fitted.predict(X).reshape((-1,) if wanted is label else (-1, 1))
    check(convert_xgboost(fitted, initial_types=types), {"X": X}, expected)
"""
CONVERTER_COMMON = """
from onnxconverter_common import float16
model = onnx.parser.parse_model('''<ir_version: 10, opset_import: ["": 18]>
    g (float[2, 3] x) => (float[2, 3] y) <float[3] w = {1, 2, 3}> { a = Mul(x, w) y = Relu(a) }''')
half = float16.convert_float_to_float16(model)
x = np.array([[1, -2, 3], [4, 5, -6]], np.float16)
expected = np.maximum(x * np.array([1, 2, 3], np.float16), 0)
check(half, {"x": x}, expected)
from onnxconverter_common.optimizer import optimize_onnx_model
check(optimize_onnx_model(model), {"x": x.astype(np.float32)}, expected)
fornix.install_as("onnxruntime")
from onnxconverter_common.auto_mixed_precision import auto_convert_mixed_precision
feeds = {"x": x.astype(np.float32)}
check(auto_convert_mixed_precision(model, feeds, rtol=0.01, keep_io_types=True), feeds, expected)
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

filters = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype(np.float32)
def images(x):
    y = tf.nn.max_pool2d(tf.nn.relu6(tf.nn.conv2d(x, filters, 2, "SAME")), 2, 2, "VALID")
    return tf.nn.l2_normalize(tf.reduce_mean(tf.image.resize(y, [7, 9]), [1, 2]), -1)
def loops(x):
    step = lambda i, s: (i + 1, s + x * tf.cast(i, tf.float32))
    _, s = tf.while_loop(lambda i, s: i < 4, step, [tf.constant(0), tf.zeros_like(x)])
    return tf.cond(tf.reduce_sum(s) > 0, lambda: s * 2, lambda: -s)
for body, shape in (images, [2, 16, 16, 3]), (loops, [3]):
    spec = [tf.TensorSpec([None, *shape[1:]], tf.float32)]
    network = tf.function(body, input_signature=spec)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    for opset in 13, 18:
        model, _ = tf2onnx.convert.from_function(network, input_signature=spec, opset=opset)
        check(model, {model.graph.input[0].name: x}, network(x).numpy(), 1e-4)

layers = [tf.keras.layers.Input((8, 4)), tf.keras.layers.LSTM(5, return_sequences=True),
          tf.keras.layers.GRU(3), tf.keras.layers.Dense(2, activation="softmax")]
made = tf.keras.Sequential(layers)
spec = [tf.TensorSpec([None, 8, 4], tf.float32)]
network = tf.function(lambda x: made(x), input_signature=spec)
model, _ = tf2onnx.convert.from_function(network, input_signature=spec, opset=15)
x = np.random.default_rng(2).normal(size=(2, 8, 4)).astype(np.float32)
check(model, {model.graph.input[0].name: x}, network(x).numpy(), 1e-4)
"""
CASES = {
    "skl2onnx": (["skl2onnx", "sklearn"], SKLEARN + SKL2ONNX),
    "onnxmltools": (["onnxmltools", "skl2onnx", "sklearn"], SKLEARN + ONNXMLTOOLS),
    "onnxmltools, LightGBM": (["onnxmltools", "lightgbm", "sklearn"], SKLEARN + LIGHTGBM),
    "onnxmltools, XGBoost": (["onnxmltools", "xgboost", "sklearn"], SKLEARN + XGBOOST),
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
