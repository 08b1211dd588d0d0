"""Expand to extents that are numbers, of data whose own only a run tells."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from fornix.errors import FornixError
from fornix.runtime import InferenceSession

TEXT = """<ir_version: 8, opset_import: ["" : 20]>
f ({type}[n, q] x) => ({type}[a, b, c] y) <int64[3] s = {{2, 5, 70}}> {{ y = Expand (x, s) }}"""
LATE = """<ir_version: 8, opset_import: ["" : 20]>
f (float[n] x) => (float[a, b] y) <int64[2] s = {3, 4}> {
    i = NonZero (x) f = Cast <to = 1> (i) e = Exp (f) y = Expand (e, s) }"""


@pytest.mark.parametrize("dtype", ["float", "float16", "uint8", "bool", "int64"])
def test_data_are_stretched_or_as_long(dtype: str, rng: np.random.Generator) -> None:
    found = InferenceSession(parser.parse_model(TEXT.replace("{type}", dtype).format()))
    kind = {"float": "f4", "float16": "f2", "uint8": "u1", "bool": "?", "int64": "i8"}[dtype]
    for shape in [(5, 70), (5, 1), (1, 70), (1, 1), (5, 70)]:
        x = rng.integers(0, 2, shape).astype(kind)
        (y,) = found.run(None, {"x": x})
        assert np.array_equal(y, np.broadcast_to(x, (2, 5, 70)))
    for shape in [(3, 70), (5, 7), (0, 1)]:
        with pytest.raises(FornixError, match="must broadcast"):
            found.run(None, {"x": np.zeros(shape, kind)})


def test_data_that_a_run_counts_are_stretched_or_as_long() -> None:
    found = InferenceSession(parser.parse_model(LATE))
    for given in [(1, 0, 1, 1, 1), (1, 1, 1, 1), (0, 0, 1, 0), (1, 1, 1, 1), (0, 1, 0, 0, 0)]:
        x = np.array(given, np.float32)
        wanted = np.broadcast_to(np.exp(np.flatnonzero(x)), (3, 4))
        np.testing.assert_allclose(found.run(None, {"x": x})[0], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    "target", ["s = Constant <value = int64[1] {0}> ()", "s = Shape (m)"], ids=["stored", "fed"]
)
def test_one_element_is_expanded_to_none(target: str) -> None:
    model = f"""<ir_version: 8, opset_import: ["" : 20]>
    f (float[n] x, float[k] m) => (float[l] y) {{ {target} y = Expand (x, s) }}"""
    found = InferenceSession(parser.parse_model(model))
    none = np.zeros(0, np.float32)
    for extent in (1, 0, 1):
        (y,) = found.run(None, {"x": np.ones(extent, np.float32), "m": none})
        assert y.shape == (0,)
