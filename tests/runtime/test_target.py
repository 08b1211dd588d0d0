"""Sessions whose code is made for less than this processor has."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fornix.format.files import write_model
from fornix.format.text import parse_model
from fornix.reference import ReferenceEvaluator
from fornix.system import is_mappable
from tests.compile.levels import IS_WIDE

MODEL = """
<ir_version: 8, opset_import: ["": 20]>
block (float[N, 3, 12, 12] x, float[16, 3, 3, 3] w, float[36, 9] a, float[9] b)
    => (float[N, 16, 9] y)
{
    c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (x, w)
    r = Relu (c)
    shape = Constant <value_ints = [0, 16, 36]> ()
    rows = Reshape (r, shape)
    p = MatMul (rows, a)
    n = LayerNormalization (p, b)
    t = Transpose <perm = [0, 2, 1]> (n)
    q = MatMul (n, t)
    k = Softmax (q)
    m = MatMul (k, n)
    g = Gelu (m)
    y = Add (g, p)
}
"""
RUN = """
import sys
import numpy as np
import fornix
session = fornix.InferenceSession(sys.argv[1])
feeds = dict(np.load(sys.argv[2]))
for name in sys.argv[3:]:
    np.save(name, session.run(None, feeds)[0])
print("compiled" if "llvmlite" in sys.modules else "recalled")
"""
TOLERANCE = 2e-5
"""Relative to the largest magnitude: float32 sums of up to 36 terms in any order, five in a row."""
IS_X86 = platform.machine().lower() in {"x86_64", "amd64"}


@pytest.mark.skipif(not IS_X86, reason="levels of x86-64")
@pytest.mark.parametrize(
    "level", ["x86-64-v3", "x86-64", pytest.param("cooperlake", marks=IS_WIDE)]
)
def test_a_level_of_the_processor_gives_the_same_and_is_kept(level: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {"x": (2, 3, 12, 12), "w": (16, 3, 3, 3), "a": (36, 9), "b": (9,)}
    feeds: dict[str, Any] = {
        k: rng.standard_normal(shape).astype(np.float32) for k, shape in shapes.items()
    }
    model = parse_model(MODEL)
    write_model(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "feeds.npz", **feeds)
    results = [str(tmp_path / f"{k}.npy") for k in range(2)]
    command = [str(tmp_path / "model.onnx"), str(tmp_path / "feeds.npz"), *results]
    environment = {**os.environ, "FORNIX_TARGET": level, "FORNIX_CACHE": str(tmp_path / "cache")}
    wanted = ReferenceEvaluator(model).run(None, feeds)[0]
    for how in ("compiled", "recalled"):
        script = [sys.executable, "-c", RUN, *command]
        said = subprocess.run(
            script, env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        assert said.strip() == (how if is_mappable() else "compiled")
        for result in results:
            error = np.abs(np.load(result) - wanted).max() / np.abs(wanted).max()
            assert error < TOLERANCE
