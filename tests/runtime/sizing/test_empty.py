"""Where a run learns that nothing is there, code runs on: it equals the NumPy kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix import InferenceSession, SessionOptions
from fornix.onnx import parser
from fornix.runtime.sizing.learned import Learned

HEAD = '<ir_version: 10, opset_import: ["" : 18]>\n'
BODIES = {
    "product": "y = MatMul (rows, w)",
    "layer": "z = Gemm (rows, w, c)  y = Relu (z)",
    "vector": "z = Transpose (w) v = Gather (z, zero) u = Squeeze (v) y = MatMul (rows, u)",
    "softmax": "y = Softmax <axis = -1> (rows)",
    "softmax of columns": "y = Softmax <axis = 0> (rows)",
    "norm": "s = Gather (w, zero) t = Slice (rows, zero, three, one)"
    " y = LayerNormalization (t, s)",
    "joined": "y = Concat <axis = 0> (x, rows)",
    "joined before": "z = Concat <axis = 0> (rows, x) y = Mul (z, z)",
    "joined twice": "z = Concat <axis = 0> (rows, rows) y = Exp (z)",
    "sums of rows": "y = ReduceSum <keepdims = 0> (rows, one)",
    "sums of columns": "y = ReduceSum <keepdims = 0> (rows, zero)",
    "largest of rows": "y = ReduceMax <keepdims = 1> (rows, one)",
    "turned": "z = Transpose (rows) y = Neg (z)",
    "cut": "y = Slice (rows, one, three, one)",
    "cut rows": "z = Slice (rows, zero, three) y = Neg (z)",
    "pairs": "y = Reshape (rows, flat)",
    "the rest": "y = Reshape (rows, rest)",
    "added up": "y = CumSum (rows, one)",
    "added up in columns": "y = CumSum (rows, zero)",
    "best": "y, z = TopK <axis = 1> (rows, three)",
    "foremost": "s = Shape <start = 0, end = 1> (rows) k = Min (s, three)"
    " y, z = TopK <axis = 0> (rows, k)",
    "foremost that are looked up": "s = Shape <start = 0, end = 1> (rows) k = Min (s, three)"
    " u = ReduceSum <keepdims = 0> (rows, one) v, z = TopK <axis = 0> (u, k) y = Gather (rows, z)",
    "put": "z = Neg (rows) y = ScatterND (x, columns, z)",
    "put along lines": "wide = Expand (columns, four) z = Exp (rows)"
    " y = ScatterElements <axis = 0> (x, wide, z)",
    "added to": 'z = Exp (rows) y = ScatterND <reduction = "add"> (x, columns, z)',
    "compared": "z = Unsqueeze (rows, one) v = Unsqueeze (rows, zero) d = Sub (z, v) y = Abs (d)",
    "images": "z = Reshape (rows, image) y = Conv <pads = [1, 1, 1, 1]> (z, f)",
    "pooled": "z = Reshape (rows, image) y = MaxPool <kernel_shape = [2, 2]> (z)",
    "enlarged": 'z = Reshape (rows, image) y = Resize <mode = "linear"> (z, , double)',
    "padded": "y = Pad (rows, around)",
    "padded rows": "y = Pad (rows, beside)",
    "repeated": "y = Tile (rows, twice)",
    "chosen": "k = Abs (columns) y = Gather (w, k)",
    "regions": "b = Squeeze (columns, one) zeros = Sub (b, b)"
    " y = RoiAlign <output_height = 2, output_width = 2> (picture, rows, zeros)",
    "halves": "y, z = Split <axis = 1, num_outputs = 2> (rows)",
}  # fmt: skip
STORED = """<int64[1] zero = {0}, int64[1] one = {1}, int64[1] three = {3}, int64[2] flat = {-1, 2},
    int64[2] rest = {0, -1}, int64[2] four = {1, 4}, int64[4] image = {-1, 1, 2, 2},
    float[2, 1, 3, 3] f = {1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1},
    float[4] double = {1, 1, 2, 2}, int64[4] around = {1, 0, 0, 2}, int64[4] beside = {0, 1, 0, 2},
    int64[2] twice = {2, 3}>"""


def _model(body: str) -> Any:
    head = "f (float[N, 4] x, bool[N] m, float[4, 3] w, float[3] c, float[1, 2, 5, 5] picture)"
    results = "(y, z)" if "y, z" in body else "(y)"
    results = results.replace("y", "float y").replace("z", "float z" if "Split" in body else "z")
    if "TopK" in body:
        results = "(float y, int64 z)"
    chosen = "places = NonZero (m) columns = Transpose <perm = [1, 0]> (places)"
    rows = "rows = GatherND (x, columns)"
    return parser.parse_model(f"{HEAD}{head} => {results} {STORED} {{ {chosen} {rows} {body} }}")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", BODIES)
def test_nothing_is_computed_as_kernels_do(
    name: str, threads: int, rng: np.random.Generator
) -> None:
    model, options = _model(BODIES[name]), SessionOptions()
    options.intra_op_num_threads = threads
    session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
    oracle = InferenceSession(model, providers=["ReferenceExecutionProvider"])
    for n, share in ((5, 0.5), (5, 0.0), (70, 0.0), (70, 0.9), (1, 0.0), (5, 0.0)):
        feeds = {
            "x": rng.random((n, 4), np.float32), "m": rng.random(n) < share,
            "w": rng.random((4, 3), np.float32), "c": rng.random(3, np.float32),
            "picture": rng.random((1, 2, 5, 5), np.float32),
        }  # fmt: skip
        try:
            expected = oracle.run(None, feeds)
        except Exception as error:  # noqa: BLE001 - the same is to be said
            with pytest.raises(type(error)):
                session.run(None, feeds)
            continue
        for one, other in zip(session.run(None, feeds), expected, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, strict=True)


AT_ONCE = (
    "product", "layer", "softmax", "joined", "put", "put along lines", "regions", "pairs",
    "foremost", "foremost that are looked up",
)  # fmt: skip


@pytest.mark.parametrize("name", AT_ONCE)
def test_no_kernel_runs_where_nothing_is_there(
    name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = InferenceSession(_model(BODIES[name]), providers=["CPUExecutionProvider"])
    calls: list[object] = []
    monkeypatch.setattr(Learned, "run", lambda *given: calls.append(given))
    feeds = {
        "x": rng.random((6, 4), np.float32), "m": np.zeros(6, bool),
        "w": rng.random((4, 3), np.float32), "c": rng.random(3, np.float32),
        "picture": rng.random((1, 2, 5, 5), np.float32),
    }  # fmt: skip
    session.run(None, feeds)
    assert not calls
